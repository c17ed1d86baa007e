/* draw.c - draws maps over pictures and lays pictures out on sheets, in plain pixels. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "image/image.h"

static uint8_t to_byte(double v)
{
    return (uint8_t)lrint(255 * fmin(1, fmax(0, v)));
}

/* matplotlib's jet, as the straight pieces between its published corners. */
static double between(double t, const double (*corner)[2], int n)
{
    for (int i = 1; i < n; i++)
        if (t <= corner[i][0])
            return corner[i - 1][1] + (corner[i][1] - corner[i - 1][1]) * (t - corner[i - 1][0]) /
                                          (corner[i][0] - corner[i - 1][0]);
    return corner[n - 1][1];
}

void fct_draw_jet(uint8_t rgb[3], double t)
{
    static const double red[][2] = {{0, 0}, {0.35, 0}, {0.66, 1}, {0.89, 1}, {1, 0.5}};
    static const double green[][2] = {{0, 0}, {0.125, 0}, {0.375, 1}, {0.64, 1}, {0.91, 0}, {1, 0}};
    static const double blue[][2] = {{0, 0.5}, {0.11, 1}, {0.34, 1}, {0.65, 0}, {1, 0}};
    t = fmin(1, fmax(0, t));
    rgb[0] = to_byte(between(t, red, 5));
    rgb[1] = to_byte(between(t, green, 6));
    rgb[2] = to_byte(between(t, blue, 5));
}

fct_status fct_draw_pixels(fct_image *out, const uint8_t *pixels, int64_t width, int64_t height)
{
    if (!pixels) return fct_fail(FCT_ERR_ARG, "the run made no picture");
    FCT_TRY(fct_image_new(out, width, height, 3));
    memcpy(out->pixel, pixels, (size_t)(width * height * 3));
    return FCT_OK;
}

static void blend(uint8_t *pixel, const uint8_t color[3], double alpha)
{
    for (int c = 0; c < 3; c++)
        pixel[c] = to_byte(((1 - alpha) * pixel[c] + alpha * color[c]) / 255);
}

static fct_status copy_rgb(fct_image *out, const fct_image *picture)
{
    if (picture->channels != 3)
        return fct_fail(FCT_ERR_SHAPE,
                        "maps are drawn over RGB pictures; this one has %" PRId64 " channels",
                        picture->channels);
    return fct_draw_pixels(out, picture->pixel, picture->width, picture->height);
}

fct_status fct_draw_heat(fct_image *out, const fct_image *picture, const float *map, int64_t h,
                         int64_t w, double alpha)
{
    enum { CELL = 16 };
    *out = (fct_image){0};
    if (h < 1 || w < 1)
        return fct_fail(FCT_ERR_SHAPE, "a map of %" PRId64 "x%" PRId64 " cells cannot be drawn", w,
                        h);
    FCT_TRY(picture ? copy_rgb(out, picture) : fct_image_new(out, w * CELL, h * CELL, 3));
    double lo = map[0], hi = map[0];
    for (int64_t i = 0; i < h * w; i++) {
        lo = fmin(lo, map[i]);
        hi = fmax(hi, map[i]);
    }
    double span = hi > lo ? hi - lo : 1;
    if (alpha <= 0) alpha = 0.6;
    for (int64_t y = 0; y < out->height; y++)
        for (int64_t x = 0; x < out->width; x++) {
            double v = map[y * h / out->height * w + x * w / out->width];
            uint8_t color[3];
            if (v == 0) continue;
            fct_draw_jet(color, hi > lo ? (v - lo) / span : 1);
            blend(out->pixel + (y * out->width + x) * 3, color, alpha);
        }
    return FCT_OK;
}

static fct_status place(fct_image *out, const fct_image *cell, int64_t left, int64_t top, int64_t i)
{
    if (cell->channels != 3)
        return fct_fail(FCT_ERR_SHAPE, "picture %" PRId64 " of a sheet is not RGB", i + 1);
    for (int64_t y = 0; y < cell->height; y++)
        memcpy(out->pixel + ((top + y) * out->width + left) * 3, cell->pixel + y * cell->width * 3,
               (size_t)cell->width * 3);
    return FCT_OK;
}

fct_status fct_draw_grid(fct_image *out, const fct_draw_grid_desc *d)
{
    int64_t width = 0, height = 0, columns = d->columns,
            gap = d->gap == 0  ? 8
                  : d->gap < 0 ? 0
                               : d->gap;
    *out = (fct_image){0};
    for (int64_t i = 0; i < d->n; i++) {
        if (!d->cell[i]) continue;
        if (d->cell[i]->width > width) width = d->cell[i]->width;
        if (d->cell[i]->height > height) height = d->cell[i]->height;
    }
    if (width == 0) return fct_fail(FCT_ERR_ARG, "a sheet needs at least one picture");
    if (columns <= 0)
        for (columns = 1; columns * columns < d->n; columns++) {
        }
    if (columns > d->n) columns = d->n;
    int64_t rows = (d->n + columns - 1) / columns;
    FCT_TRY(fct_image_new(out, columns * (width + gap) + gap, rows * (height + gap) + gap, 3));
    uint8_t back[3] = {d->background[0], d->background[1], d->background[2]};
    if (!back[0] && !back[1] && !back[2] && !d->black) memset(back, 255, sizeof back);
    for (int64_t i = 0; i < out->width * out->height; i++) memcpy(out->pixel + i * 3, back, 3);
    for (int64_t i = 0; i < d->n; i++) {
        if (!d->cell[i]) continue;
        fct_status st = place(out, d->cell[i], gap + i % columns * (width + gap),
                              gap + i / columns * (height + gap), i);
        if (st != FCT_OK) {
            fct_image_clear(out);
            return st;
        }
    }
    return FCT_OK;
}

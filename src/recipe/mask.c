/* mask.c - reads masks, which say where an edit acts, and lays them over a block's grid.

   A mask is a picture, a box or an ellipse. A cell's value is the share of it that is covered,
   computed exactly (f64), so that a mask that does not line up with the grid still has its true
   size. */
#include <math.h>
#include <string.h>

#include "image/image.h"
#include "recipe/recipe.h"

static const char *const what_masks_are = "a mask is a PNG or JPEG file, box:x0,y0,x1,y1, "
                                          "ellipse:x0,y0,x1,y1 (each from 0 to 1) or map:FEATURE>T";

/* ---- reading ---- */

static fct_status parse_box(double box[4], const char *text)
{
    char *copy = NULL;
    FCT_TRY(fct_strdup(&copy, text));
    fct_status st = FCT_OK;
    char *p = copy;
    for (int i = 0; i < 4 && st == FCT_OK; i++) {
        char *comma = strchr(p, ',');
        if ((i < 3) != (comma != NULL)) {
            st = fct_fail(FCT_ERR_ARG, "\"%s\" are not four numbers; %s", text, what_masks_are);
            break;
        }
        if (comma) *comma = '\0';
        st = fct_parse_f64(&box[i], p, 0, 1);
        if (comma) p = comma + 1;
    }
    fct_free(copy);
    if (st == FCT_OK && !(box[0] < box[2] && box[1] < box[3]))
        st = fct_fail(FCT_ERR_ARG, "%s is empty: x0 < x1 and y0 < y1 are needed", text);
    return st;
}

static fct_status parse_map(fct_mask *m, const char *text)
{
    char *copy = NULL;
    const char *above = strchr(text, '>');
    if (!above)
        return fct_fail(FCT_ERR_ARG, "map:%s has no threshold; write map:FEATURE>T, as in map:%s>0",
                        text, *text ? text : "3");
    FCT_TRY(fct_strdup(&copy, text));
    copy[above - text] = '\0';
    fct_status st = fct_parse_i64(&m->feature, copy, 0, FCT_EDIT_MAX_FEATURE);
    if (st == FCT_OK) st = fct_parse_f64(&m->threshold, above + 1, 0, 1e30);
    fct_free(copy);
    return fct_where(st, "map:%s", text);
}

static bool is_picture(const char *name)
{
    return fct_has_suffix(name, ".png") || fct_has_suffix(name, ".jpg") ||
           fct_has_suffix(name, ".jpeg");
}

fct_status fct_mask_parse(fct_mask *out, const char *text)
{
    fct_status st;
    *out = (fct_mask){0};
    const char *t = *text == '@' ? text + 1 : text;
    if (strncmp(t, "box:", 4) == 0) {
        out->kind = FCT_MASK_BOX;
        st = parse_box(out->box, t + 4);
    } else if (strncmp(t, "ellipse:", 8) == 0) {
        out->kind = FCT_MASK_ELLIPSE;
        st = parse_box(out->box, t + 8);
    } else if (strncmp(t, "map:", 4) == 0) {
        out->kind = FCT_MASK_MAP;
        st = parse_map(out, t + 4);
    } else if (is_picture(t)) {
        out->kind = FCT_MASK_FILE;
        st = fct_strdup(&out->path, t);
    } else {
        st = fct_fail(FCT_ERR_ARG, "%s", what_masks_are);
    }
    if (st != FCT_OK) fct_mask_clear(out);
    return fct_where(st, "mask \"%s\"", text);
}

fct_status fct_mask_load(fct_mask *m, const char *folder)
{
    char *path = NULL;
    fct_image im = {0};
    if (m->kind != FCT_MASK_FILE || m->grey) return FCT_OK;
    if (!m->path) return fct_fail(FCT_ERR_ARG, "a mask names no file");
    FCT_TRY(fct_path_in(&path, folder, m->path));
    fct_status st = fct_where(fct_image_read(&im, path, 1), "mask");
    fct_free(path);
    if (st != FCT_OK) return st;
    m->grey = im.pixel;
    m->width = im.width;
    m->height = im.height;
    im.pixel = NULL;
    fct_image_clear(&im);
    return FCT_OK;
}

void fct_mask_clear(fct_mask *m)
{
    fct_free(m->path);
    fct_free(m->grey);
    *m = (fct_mask){0};
}

/* ---- shares of cells; a cell of an h x w grid is [i,i+1] in units of cells ---- */

static void box_grid(float *out, int64_t h, int64_t w, const double box[4])
{
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            out[y * w + x] =
                (float)(fct_cell_overlap(box[0] * (double)w, box[2] * (double)w, (double)x) *
                        fct_cell_overlap(box[1] * (double)h, box[3] * (double)h, (double)y));
}

/* The integral of sqrt(1 - u^2) from 0 to u. */
static double arc(double u)
{
    return 0.5 * (u * sqrt(fmax(0, 1 - u * u)) + asin(u));
}

/* Insertion sort: there are at most six. */
static void sort(double *at, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && at[k] < at[k - 1]; k--) {
            double t = at[k];
            at[k] = at[k - 1];
            at[k - 1] = t;
        }
}

/* Area of the unit disc inside [u0,u1] x [v0,v1]. Between the places where the circle crosses the
   rectangle's edges the top is either v1 or the arc, and the bottom either v0 or the arc, so each
   piece has a closed form. (A tie at mid is an edge that only touches the circle: the arc.) */
static double disc_area(double u0, double u1, double v0, double v1)
{
    double at[6], sum = 0;
    int n = 0;
    double lo = fmax(u0, -1), hi = fmin(u1, 1);
    if (lo >= hi || v0 >= 1 || v1 <= -1) return 0;
    at[n++] = lo;
    for (int i = 0; i < 4; i++) {
        double v = i < 2 ? v0 : v1;
        double u = fabs(v) < 1 ? (i % 2 ? 1 : -1) * sqrt(1 - v * v) : 2;
        if (u > lo && u < hi) at[n++] = u;
    }
    at[n++] = hi;
    sort(at, n);
    for (int i = 0; i + 1 < n; i++) {
        double a = at[i], b = at[i + 1], mid = 0.5 * (a + b), s = sqrt(fmax(0, 1 - mid * mid));
        if (s <= v0 || -s >= v1) continue;
        double top = s <= v1 ? arc(b) - arc(a) : v1 * (b - a);
        double bottom = -s >= v0 ? -(arc(b) - arc(a)) : v0 * (b - a);
        sum += top - bottom;
    }
    return sum;
}

/* Of a cell [u0,u1] x [v0,v1], in units in which the ellipse is the unit disc. A cell that is
   wholly inside is covered by exactly one. */
static double ellipse_share(double u0, double u1, double v0, double v1)
{
    double far_u = fmax(fabs(u0), fabs(u1)), far_v = fmax(fabs(v0), fabs(v1));
    if (far_u * far_u + far_v * far_v <= 1) return 1;
    double share = disc_area(u0, u1, v0, v1) / ((u1 - u0) * (v1 - v0));
    return fmin(1, fmax(0, share));
}

static void ellipse_grid(float *out, int64_t h, int64_t w, const double box[4])
{
    double cx = 0.5 * (box[0] + box[2]) * (double)w, rx = 0.5 * (box[2] - box[0]) * (double)w;
    double cy = 0.5 * (box[1] + box[3]) * (double)h, ry = 0.5 * (box[3] - box[1]) * (double)h;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            out[y * w + x] = (float)ellipse_share(((double)x - cx) / rx, ((double)x + 1 - cx) / rx,
                                                  ((double)y - cy) / ry, ((double)y + 1 - cy) / ry);
}

static void picture_grid(float *out, int64_t h, int64_t w, const fct_mask *m)
{
    const fct_image grey = {
        .width = m->width, .height = m->height, .channels = 1, .pixel = m->grey};
    double sx = (double)m->width / (double)w, sy = (double)m->height / (double)h;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            out[y * w + x] = (float)fct_image_mean(&grey, 0, (double)x * sx, (double)(x + 1) * sx,
                                                   (double)y * sy, (double)(y + 1) * sy);
}

fct_status fct_mask_grid(float *out, int64_t h, int64_t w, const fct_mask *m)
{
    switch (m->kind) {
    case FCT_MASK_NONE:
        for (int64_t i = 0; i < h * w; i++) out[i] = 1;
        return FCT_OK;
    case FCT_MASK_BOX: box_grid(out, h, w, m->box); return FCT_OK;
    case FCT_MASK_ELLIPSE: ellipse_grid(out, h, w, m->box); return FCT_OK;
    case FCT_MASK_FILE:
        if (!m->grey) return fct_fail(FCT_ERR_ARG, "mask %s is not loaded", m->path ? m->path : "");
        picture_grid(out, h, w, m);
        return FCT_OK;
    default:
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "a map mask has no fixed place; use a PNG, a box or an ellipse here");
    }
}

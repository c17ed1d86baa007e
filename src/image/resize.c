/* resize.c - resizes pictures, and fits masks to a grid, by averaging areas: cells seldom line up
   with pixels. */
#include <math.h>

#include "image/image.h"

double fct_cell_overlap(double lo, double hi, double cell)
{
    double a = fmax(lo, cell), b = fmin(hi, cell + 1);
    return b > a ? b - a : 0;
}

double fct_image_mean(const fct_image *im, int64_t channel, double x0, double x1, double y0,
                      double y1)
{
    double sum = 0, area = 0;
    for (int64_t y = (int64_t)y0; y < im->height && (double)y < y1; y++) {
        double wy = fct_cell_overlap(y0, y1, (double)y);
        for (int64_t x = (int64_t)x0; x < im->width && (double)x < x1; x++) {
            double share = wy * fct_cell_overlap(x0, x1, (double)x);
            sum += share * im->pixel[(y * im->width + x) * im->channels + channel];
            area += share;
        }
    }
    return area > 0 ? fmin(1, sum / (255 * area)) : 0;
}

fct_status fct_image_resize(fct_image *out, const fct_image *im, int64_t width, int64_t height)
{
    FCT_TRY(fct_image_new(out, width, height, im->channels));
    double sx = (double)im->width / (double)width, sy = (double)im->height / (double)height;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int64_t c = 0; c < im->channels; c++) {
                double mean = fct_image_mean(im, c, (double)x * sx, (double)(x + 1) * sx,
                                             (double)y * sy, (double)(y + 1) * sy);
                out->pixel[(y * width + x) * im->channels + c] = (uint8_t)lrint(255 * mean);
            }
    return FCT_OK;
}

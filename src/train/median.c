/* median.c - finds the geometric median of rows, where the decoder's bias starts (Bricken et al.
   2023), by Weiszfeld's iteration as sdxl-unbox runs it: at most 100 steps, distances clamped at
   1e-6, end when the mean distance changes by no more than 1e-20 of itself. In f64; it ends as well
   when the centre, as f32, no longer moves. One pass over the rows a step: a row's distance weights
   it at once, and the sum of distances judges the step before. */
#include <math.h>
#include <string.h>

#include "train/train.h"

enum { MAX_STEPS = 100 };
static const double clamp_at = 1e-6, f_tolerance = 1e-20;

FCT_CLONES static double distance(const float *x, const double *c, int64_t d)
{
    double lane[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (x[i + l] - c[i + l]) * (x[i + l] - c[i + l]);
    for (; i < d; i++) sum += (x[i] - c[i]) * (x[i] - c[i]);
    for (int l = 0; l < 8; l++) sum += lane[l];
    return sqrt(sum);
}

FCT_CLONES static void add_scaled(double *sum, const float *x, double w, int64_t d)
{
    for (int64_t i = 0; i < d; i++) sum[i] += w * x[i];
}

fct_status fct_sae_geometric_median(float *out, const float *rows, int64_t n, int64_t d)
{
    double *centre = NULL, *sum = NULL, before = INFINITY;
    fct_status st = FCT_OK;
    if (n < 1) return fct_fail(FCT_ERR_ARG, "the median of no rows");
    FCT_TRY_OUT(fct_new(&centre, d, sizeof *centre));
    FCT_TRY_OUT(fct_new(&sum, d, sizeof *sum));
    for (int64_t r = 0; r < n; r++) add_scaled(centre, rows + r * d, 1.0 / (double)n, d);
    for (int step = 0; step < MAX_STEPS; step++) {
        double weights = 0, objective = 0;
        memset(sum, 0, (size_t)d * sizeof *sum);
        for (int64_t r = 0; r < n; r++) {
            double length = distance(rows + r * d, centre, d),
                   w = 1 / (length > clamp_at ? length : clamp_at);
            objective += length / (double)n;
            weights += w;
            add_scaled(sum, rows + r * d, w, d);
        }
        if (fabs(before - objective) <= f_tolerance * objective) break;
        before = objective;
        bool moved = false;
        for (int64_t i = 0; i < d; i++) {
            double next = sum[i] / weights;
            moved = moved || (float)next != (float)centre[i];
            centre[i] = next;
        }
        if (!moved) break;
    }
    for (int64_t i = 0; i < d; i++) out[i] = (float)centre[i];
out:
    fct_free(centre);
    fct_free(sum);
    return st;
}

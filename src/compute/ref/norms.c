/* norms.c - computes group norm and layer norm in the ref backend: two passes, mean first, biased
   variance as torch has it. */
#include <math.h>

#include "compute/ref/ref.h"

fct_status ref_group_norm(fct_cx *cx, const fct_group_norm_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t batch = a->x.dim[0], pixels = fct_view_pixels(&a->x), c = fct_view_last(&a->x),
            size = c / a->groups;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t g = 0; g < a->groups; g++) {
            double n = (double)(pixels * size), mean = 0, var = 0;
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t j = g * size; j < (g + 1) * size; j++)
                    mean += ref_get(&a->x, (b * pixels + p) * c + j) / n;
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t j = g * size; j < (g + 1) * size; j++) {
                    double d = ref_get(&a->x, (b * pixels + p) * c + j) - mean;
                    var += d * d / n;
                }
            double inv = 1 / sqrt(var + (double)a->eps);
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t j = g * size; j < (g + 1) * size; j++) {
                    int64_t at = (b * pixels + p) * c + j;
                    double v = (ref_get(&a->x, at) - mean) * inv * (double)a->gamma[j] +
                               (double)a->beta[j];
                    ref_set(&a->y, at, ref_act(a->act, v));
                }
        }
    return FCT_OK;
}

fct_status ref_layer_norm(fct_cx *cx, const fct_layer_norm_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->x), c = fct_view_last(&a->x);
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0, var = 0;
        for (int64_t j = 0; j < c; j++) mean += ref_get(&a->x, r * c + j) / (double)c;
        for (int64_t j = 0; j < c; j++) {
            double d = ref_get(&a->x, r * c + j) - mean;
            var += d * d / (double)c;
        }
        double inv = 1 / sqrt(var + (double)a->eps);
        for (int64_t j = 0; j < c; j++) {
            double v = (ref_get(&a->x, r * c + j) - mean) * inv;
            if (a->gamma) v *= (double)a->gamma[j];
            if (a->beta) v += (double)a->beta[j];
            ref_set(&a->y, r * c + j, v);
        }
    }
    return FCT_OK;
}

/* normalize.c - takes out of every row what some SAEs do before they read it, and puts it back into
   the reconstruction: its mean and deviation (openai/sparse_autoencoder; SAELens' layer_norm), or
   its length (SAELens' constant_norm_rescale). Sums are f64: the result is the rounded exact one.

       layer   (x - mean(x)) / (std(x) + 1e-5)    back: y · std(x) + mean(x)
       norm    x · sqrt(D) / |x|                  back: y · |x| / sqrt(D)

   x, y are rows [D]; std divides by D - 1, as torch.std does. */
#include <math.h>

#include "sae/sae.h"

/* Added to the deviation going in, not coming back: as both codes do. */
static const double layer_eps = 1e-5;

static fct_status norm_of_row(const float *x, int64_t d, double *scale)
{
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += (double)x[i] * x[i];
    *scale = sqrt(sum) / sqrt((double)d);
    return *scale > 0 ? FCT_OK
                      : fct_fail(FCT_ERR_RANGE, "a row of zeros has no length to be divided by, "
                                                "which this SAE's normalize asks for");
}

static void moments(const float *x, int64_t d, double *mean, double *std)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < d; i++) sum += x[i];
    *mean = sum / (double)d;
    for (int64_t i = 0; i < d; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *std = d > 1 ? sqrt(squares / (double)(d - 1)) : 0;
}

fct_status fct_sae_row_scale(const fct_sae *s, const float *rows, int64_t n, float *scale,
                             float *shift)
{
    for (int64_t r = 0; r < n; r++) {
        double by = 1, mean = 0;
        if (s->normalize == FCT_SAE_NORMALIZE_LAYER) moments(rows + r * s->d, s->d, &mean, &by);
        if (s->normalize == FCT_SAE_NORMALIZE_NORM)
            FCT_TRY(norm_of_row(rows + r * s->d, s->d, &by));
        scale[r] = (float)by;
        shift[r] = (float)mean;
    }
    return FCT_OK;
}

void fct_sae_restore(float *rows, int64_t n, int64_t d, const float *scale, const float *shift)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) rows[r * d + i] = rows[r * d + i] * scale[r] + shift[r];
}

fct_status fct_sae_normalize_rows(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    for (int64_t r = 0; r < n; r++) {
        const float *x = rows + r * s->d;
        double by = 1, mean = 0;
        if (s->normalize == FCT_SAE_NORMALIZE_LAYER) {
            moments(x, s->d, &mean, &by);
            by += layer_eps;
        } else {
            FCT_TRY(norm_of_row(x, s->d, &by));
        }
        for (int64_t i = 0; i < s->d; i++) out[r * s->d + i] = (float)((x[i] - mean) / by);
    }
    return FCT_OK;
}

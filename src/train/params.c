/* params.c - finds the parameters of an SAE in training, and scales its rows: what Adam moves, in
   one order for engines, checkpoints, averages and ranks. */
#include "train/trainee.h"

float *fct_trainee_param(const fct_trainee *t, int which, int64_t *out_n)
{
    const fct_sae *s = t->sae;
    float *const data[FCT_PARAM_COUNT] = {s->w_enc,        s->b_enc, s->w_dec, s->b_dec,
                                          t->threshold_ln, t->b_mag, t->r_mag};
    const int64_t n[FCT_PARAM_COUNT] = {s->d * s->f, s->f, s->d * s->f, s->d, s->f, s->f, s->f};
    *out_n = data[which] ? n[which] : 0;
    return data[which];
}

const float *fct_trainee_result(const fct_trainee *t, int which, int64_t *out_n)
{
    const float *now = fct_trainee_param(t, which, out_n);
    return t->average[which] && t->now.step > 0 ? t->average[which] : now;
}

/* ---- rows ---- */

FCT_CLONES static void normalise(float *y, const float *x, const float *mean, const float *scale,
                                 int64_t n, int64_t d)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) y[r * d + i] = (x[r * d + i] - mean[i]) * scale[i];
}

void fct_trainee_normalise(const fct_trainee *t, float *y, const float *rows, int64_t n)
{
    int64_t d = t->sae->d, blocks = fct_train_plan_mixed(&t->plan), each = n / blocks * d;
    for (int64_t b = 0; b < blocks; b++)
        normalise(y + b * each, rows + b * each, t->row_mean + b * d, t->row_scale + b * d,
                  n / blocks, d);
}

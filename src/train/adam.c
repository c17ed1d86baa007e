/* adam.c - from gradients to weights: the dispatch of a step to its variant, the decoder's norms,
   clipping, Adam, the running average.

   Order within a step as in the authors' code: backward, normalise the decoder's rows, remove from
   their gradient what lies along them, Adam. So a saved decoder is unit-norm only to within one
   step. Clipping comes after the removal, the average last. */
#include <math.h>

#include "train/fast.h"
#include "train/variant.h"

static const double beta1 = 0.9, beta2 = 0.999;

FCT_CLONES static float dot(const float *a, const float *b, int64_t n)
{
    float lane[16] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lane[l] += a[i + l] * b[i + l];
    for (; i < n; i++) sum += a[i] * b[i];
    for (int l = 0; l < 16; l++) sum += lane[l];
    return sum;
}

FCT_CLONES static void subtract_scaled(float *y, const float *x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] -= by * x[i];
}

float *fct_trainee_param(const fct_trainee *t, int which, int64_t *out_n)
{
    const fct_sae *s = t->sae;
    float *const data[FCT_PARAM_COUNT] = {s->w_enc,        s->b_enc, s->w_dec, s->b_dec,
                                          t->threshold_ln, t->b_mag, t->r_mag};
    const int64_t n[FCT_PARAM_COUNT] = {s->d * s->f, s->f, s->d * s->f, s->d, s->f, s->f, s->f};
    *out_n = data[which] ? n[which] : 0;
    return data[which];
}

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

/* Every rank has made those of its rows. */
static fct_status share_gradients(fct_trainee *t)
{
    int64_t n;
    for (int w = 0; w < FCT_PARAM_COUNT; w++)
        if (fct_trainee_param(t, w, &n)) FCT_TRY(fct_dist_sum_f32(t->plan.ranks, t->grad[w], n));
    return FCT_OK;
}

fct_status fct_trainee_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    t->k = fct_train_plan_k(&t->plan, t->now.step);
    if (t->row_mean) {
        fct_trainee_normalise(t, t->rows, rows, t->batch);
        rows = t->rows;
    }
    if (t->fast) return fct_fast_backward(t, rows, want_ev);
    FCT_TRY(t->variant->backward(t, rows, want_ev));
    return share_gradients(t);
}

void fct_sae_normalise_decoder(fct_sae *s)
{
    for (int64_t f = 0; f < s->f; f++) {
        float *w = s->w_dec + f * s->d, norm = (float)sqrt(fct_sum_squares(w, s->d));
        if (norm > 0) fct_scale_to(w, w, 1 / norm, s->d);
    }
}

typedef struct adam {
    float step_size, root, eps;
} adam; /* torch's form: denominator sqrt(v)/root + eps */

FCT_CLONES static void adam_run(float *w, float *m, float *v, const float *g, int64_t n,
                                const adam *a)
{
    const float b1 = (float)(1 - beta1), b2 = (float)beta2, c2 = (float)(1 - beta2);
    for (int64_t i = 0; i < n; i++) {
        m[i] += b1 * (g[i] - m[i]);
        v[i] = v[i] * b2 + c2 * g[i] * g[i];
        w[i] -= a->step_size * (m[i] / (sqrtf(v[i]) / a->root + a->eps));
    }
}

static void project(fct_trainee *t)
{
    const fct_sae *s = t->sae;
    for (int64_t f = 0; f < s->f; f++) {
        float *g = t->grad[FCT_PARAM_W_DEC] + f * s->d, *w = s->w_dec + f * s->d;
        subtract_scaled(g, w, dot(g, w, s->d), s->d);
    }
}

/* The whole gradient, all parameters together, is at most that long: torch's clip_grad_norm_. */
static void clip(fct_trainee *t)
{
    double sum = 0;
    int64_t n;
    for (int w = 0; w < FCT_PARAM_COUNT; w++)
        if (fct_trainee_param(t, w, &n)) sum += fct_sum_squares(t->grad[w], n);
    double by = t->plan.grad_clip / (sqrt(sum) + 1e-6);
    if (!(by < 1)) return;
    for (int w = 0; w < FCT_PARAM_COUNT; w++)
        if (fct_trainee_param(t, w, &n)) fct_scale_to(t->grad[w], t->grad[w], (float)by, n);
}

FCT_CLONES static void approach(float *y, const float *x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += by * (x[i] - y[i]);
}

/* At first the mean moves faster, so that it forgets the start. */
static void average(fct_trainee *t)
{
    double n = (double)t->now.step, decay = (1 + n) / (10 + n);
    if (decay > t->plan.ema) decay = t->plan.ema;
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        const float *now = fct_trainee_param(t, w, &size);
        if (now) approach(t->average[w], now, t->now.step == 1 ? 1 : (float)(1 - decay), size);
    }
}

static void update(fct_trainee *t)
{
    fct_sae *s = t->sae;
    double lr = fct_train_plan_lr(&t->plan, t->now.step), n = (double)++t->now.step;
    adam a = {.step_size = (float)(lr / (1 - pow(beta1, n))),
              .root = (float)sqrt(1 - pow(beta2, n)),
              .eps = (float)t->plan.eps};
    if (t->plan.decoder_norm != FCT_DECODER_FREE) fct_sae_normalise_decoder(s);
    if (t->plan.decoder_norm <= FCT_DECODER_PROJECT) project(t);
    if (t->plan.grad_clip > 0) clip(t);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        float *param = fct_trainee_param(t, w, &size);
        if (param) adam_run(param, t->m[w], t->v[w], t->grad[w], size, &a);
    }
}

fct_status fct_trainee_update(fct_trainee *t)
{
    if (t->fast)
        FCT_TRY(fct_fast_update(t));
    else
        update(t);
    if (t->plan.ema > 0) average(t);
    return FCT_OK;
}

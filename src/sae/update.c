/* update.c - from gradients to weights: the dispatch of a step to its variant, the decoder's norms,
   Adam.

   Order within a step as in the authors' code: backward, normalise the decoder's rows, remove from
   their gradient what lies along them, Adam. So a saved decoder is unit-norm only to within one
   step. */
#include <math.h>

#include "sae/fast.h"
#include "sae/variant.h"

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

fct_status fct_trainee_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    t->k = t->plan.k;
    return t->fast ? fct_fast_backward(t, rows, want_ev) : t->variant->backward(t, rows, want_ev);
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

fct_status fct_trainee_update(fct_trainee *t)
{
    if (t->fast) return fct_fast_update(t);
    fct_sae *s = t->sae;
    double lr = fct_train_plan_lr(&t->plan, t->step), n = (double)++t->step;
    adam a = {.step_size = (float)(lr / (1 - pow(beta1, n))),
              .root = (float)sqrt(1 - pow(beta2, n)),
              .eps = (float)t->plan.eps};
    fct_sae_normalise_decoder(s);
    for (int64_t f = 0; f < s->f; f++) {
        float *g = t->grad[FCT_PARAM_W_DEC] + f * s->d, *w = s->w_dec + f * s->d;
        subtract_scaled(g, w, dot(g, w, s->d), s->d);
    }
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        float *param = fct_trainee_param(t, w, &size);
        adam_run(param, t->m[w], t->v[w], t->grad[w], size, &a);
    }
    return FCT_OK;
}

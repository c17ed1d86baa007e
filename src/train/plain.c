/* plain.c - computes a training step as its formulas stand, for every architecture, with whole
   gradients that can be looked at: the plain engine. What the others do is measured against it. */
#include <math.h>

#include "train/adam.h"
#include "train/engine.h"
#include "train/step.h"
#include "train/variant.h"

static bool fits(const fct_train_plan *p)
{
    (void)p;
    return true;
}

/* ---- memory ---- */

static fct_status take_gradients(fct_trainee *t)
{
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        if (fct_trainee_param(t, w, &n)) FCT_TRY(fct_new(&t->grad[w], n, sizeof(float)));
    }
    return FCT_OK;
}

static fct_status plain_new(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    const fct_variant *v = p->variant;
    int64_t rows = t->batch, d = t->sae->d, k = p->k > p->k_start ? p->k : p->k_start;
    int64_t codes = v->dense ? p->f : 0, gated = v->has_magnitude ? p->f : 0;
    if (v->dense) k = 0;
    const fct_scratch part[] = {
        {&t->pre, rows, p->f, sizeof(float)},
        {&t->aux_out, rows, d, sizeof(float)},
        {&t->g_rec, rows, d, sizeof(float)},
        {&t->g_aux, rows, d, sizeof(float)},
        {&t->value, rows, k, sizeof(float)},
        {&t->coef, rows, k, sizeof(float)},
        {&t->index, rows, k, sizeof(int32_t)},
        {&t->aux_value, rows, p->auxk, sizeof(float)},
        {&t->aux_coef, rows, p->auxk, sizeof(float)},
        {&t->aux_index, rows, p->auxk, sizeof(int32_t)},
        {&t->z, rows, codes, sizeof(float)},
        {&t->g_pre, rows, codes, sizeof(float)},
        {&t->g_gate, rows, gated, sizeof(float)},
        {&t->g_pre_sum, gated, 1, sizeof(float)},
        {&t->nested, v->has_groups ? rows * p->groups : 0, d, sizeof(float)},
        {&t->per_feature, 2, codes, sizeof(double)},
    };
    FCT_TRY(fct_scratch_take(part, FCT_COUNT(part)));
    FCT_TRY(take_gradients(t));
    return fct_sae_engine_init(&t->engine, p->be, rows, d, p->f, k > p->auxk ? k : p->auxk);
}

static void plain_free(fct_trainee *t)
{
    void *part[] = {t->pre,    t->aux_out,   t->g_rec,    t->g_aux,      t->value, t->coef,
                    t->index,  t->aux_value, t->aux_coef, t->aux_index,  t->z,     t->g_pre,
                    t->g_gate, t->g_pre_sum, t->nested,   t->per_feature};
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) fct_free(t->grad[w]);
    fct_sae_engine_clear(&t->engine);
}

/* ---- a step ---- */

/* Every rank has made the gradients of its rows; each needs their sum. */
static fct_status plain_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    int64_t n;
    FCT_TRY(t->plan.variant->backward(t, rows, want_ev));
    for (int w = 0; w < FCT_PARAM_COUNT; w++)
        if (fct_trainee_param(t, w, &n)) FCT_TRY(fct_dist_sum_f32(t->plan.ranks, t->grad[w], n));
    return FCT_OK;
}

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

/* Takes what lies along a direction out of its gradient. */
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

/* Clipping comes after the projection. */
static fct_status plain_update(fct_trainee *t)
{
    if (t->plan.decoder_norm != FCT_DECODER_FREE) fct_sae_normalise_decoder(t->sae);
    if (t->plan.decoder_norm <= FCT_DECODER_PROJECT) project(t);
    if (t->plan.grad_clip > 0) clip(t);
    fct_adam_step(t);
    return FCT_OK;
}

const fct_engine fct_engine_plain = {
    .name = "plain",
    .fits = fits,
    .new = plain_new,
    .free = plain_free,
    .backward = plain_backward,
    .update = plain_update,
};

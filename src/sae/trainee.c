/* trainee.c - the state of one SAE in training: memory, tied initial weights, calibration. */
#include <math.h>
#include <string.h>

#include "sae/fast.h"
#include "sae/variant.h"

enum { MEDIAN_ROWS = 32768 };

void fct_trainee_clear(fct_trainee *t)
{
    void *part[] = {t->pre,   t->centred,   t->error,     t->aux_out, t->g_rec,
                    t->g_aux, t->value,     t->aux_value, t->coef,    t->aux_coef,
                    t->index, t->aux_index, t->dead,      t->sum,     t->not_fired};
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        fct_free(t->grad[w]);
        fct_free(t->m[w]);
        fct_free(t->v[w]);
    }
    fct_fast_free(t->fast);
    fct_sae_engine_clear(&t->engine);
    fct_sae_free(t->sae);
    fct_free(t->lost);
    fct_free(t->course);
    *t = (fct_trainee){0};
}

static fct_status take_memory(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    int64_t rows = p->batch, d = t->sae->d, wide = p->k > p->auxk ? p->k : p->auxk;
    int64_t whole = p->fast ? 0 : rows, some = p->fast ? fct_fast_aux_rows(p) : rows;
    const struct {
        void *at;
        int64_t rows, width, size;
    } part[] = {
        {&t->pre, whole, p->f, sizeof(float)},
        {&t->centred, rows, d, sizeof(float)},
        {&t->error, rows, d, sizeof(float)},
        {&t->aux_out, whole, d, sizeof(float)},
        {&t->g_rec, whole, d, sizeof(float)},
        {&t->g_aux, whole, d, sizeof(float)},
        {&t->value, rows, p->k, sizeof(float)},
        {&t->coef, rows, p->k, sizeof(float)},
        {&t->index, rows, p->k, sizeof(int32_t)},
        {&t->aux_value, some, p->auxk, sizeof(float)},
        {&t->aux_coef, some, p->auxk, sizeof(float)},
        {&t->aux_index, some, p->auxk, sizeof(int32_t)},
        {&t->dead, p->f, 1, 1},
        {&t->not_fired, p->f, 1, sizeof(int64_t)},
        {&t->sum, 4, d, sizeof(double)},
    };
    for (size_t i = 0; i < FCT_COUNT(part); i++) {
        int64_t n;
        FCT_TRY(fct_mul_i64(&n, part[i].rows, part[i].width));
        FCT_TRY(fct_new(part[i].at, n, part[i].size));
    }
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        if (!fct_trainee_param(t, w, &n)) continue;
        if (!p->fast) FCT_TRY(fct_new(&t->grad[w], n, sizeof(float)));
        FCT_TRY(fct_new(&t->m[w], n, sizeof(float)));
        FCT_TRY(fct_new(&t->v[w], n, sizeof(float)));
    }
    if (p->fast) return fct_fast_new(&t->fast, t);
    return fct_sae_engine_init(&t->engine, rows, d, p->f, wide);
}

/* Encoder as nn.Linear starts, U(±1/√D); the decoder its copy with rows of unit length. */
static void init_weights(fct_sae *s, uint64_t seed)
{
    fct_rng rng;
    double bound = 1 / sqrt((double)s->d);
    fct_rng_init(&rng, seed);
    for (int64_t i = 0; i < s->d * s->f; i++)
        s->w_enc[i] = (float)((2 * fct_rng_unit(&rng) - 1) * bound);
    memcpy(s->w_dec, s->w_enc, (size_t)(s->d * s->f) * sizeof *s->w_dec);
    fct_sae_normalise_decoder(s);
}

fct_status fct_trainee_init(fct_trainee *t, const fct_train_plan *plan, int64_t d,
                            const fct_sae *init)
{
    *t = (fct_trainee){.plan = *plan, .variant = plan->variant ? plan->variant : &fct_variant_topk};
    fct_status st = init ? fct_sae_clone(&t->sae, init)
                         : fct_sae_new(&t->sae, FCT_SAE_TOPK, d, plan->f, plan->k);
    if (st == FCT_OK) t->sae->k = plan->k;
    if (st == FCT_OK && !init) init_weights(t->sae, plan->seed);
    if (st == FCT_OK) st = take_memory(t);
    if (st != FCT_OK) fct_trainee_clear(t);
    return st;
}

/* 1 / mean((mean_rows(x) - x)²): the loss of guessing the mean is then 1. */
static fct_status auto_scale(double *out, const float *rows, int64_t n, int64_t d)
{
    double *mean = NULL, sum = 0;
    FCT_TRY(fct_new(&mean, d, sizeof *mean));
    for (int64_t i = 0; i < n * d; i++) mean[i % d] += rows[i] / (double)n;
    for (int64_t i = 0; i < n * d; i++) sum += (rows[i] - mean[i % d]) * (rows[i] - mean[i % d]);
    fct_free(mean);
    *out = (double)n * (double)d / sum;
    if (isfinite(*out) && *out > 0) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE, "the %lld calibration rows %s: no loss scale follows from them",
                    (long long)n,
                    sum == 0 ? "are all the same" : "hold numbers that are not finite");
}

fct_status fct_trainee_calibrate(fct_trainee *t, const float *rows, int64_t n)
{
    fct_sae *s = t->sae;
    for (int64_t i = 0; i < n * s->d; i++)
        if (!isfinite(rows[i]))
            return fct_fail(FCT_ERR_RANGE, "calibration row %lld is not finite",
                            (long long)(i / s->d));
    if (t->plan.auto_scale) FCT_TRY(auto_scale(&t->plan.loss_scale, rows, n, s->d));
    if (!t->plan.calibrate) return FCT_OK;
    return fct_sae_geometric_median(s->b_dec, rows, n < MEDIAN_ROWS ? n : MEDIAN_ROWS, s->d);
}

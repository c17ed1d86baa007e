/* fast.c - computes the step of a TopK autoencoder (variants/topk.c, step.c) so that its numbers
   stay in cache: the fast engine.

   Products with the encoder are never whole, only the selected ones are kept (select); the error is
   used for the codes' gradients as it is made (sparse_error); gradients become Adam's moments in
   the same pass (adam). Without dead features the aux term needs no decoding: e' is 0 (or b_dec),
   so the term and its gradient follow from the sums of the error and of its squares. Sums are taken
   in an order that does not depend on the number of threads. */
#include <math.h>
#include <string.h>

#include "train/fast.h"

#include "train/adam.h"
#include "train/engine.h"
#include "train/step.h"
#include "train/variant.h"

/* Codes of a fixed number a row, in every step; the rest as it updates: gradients are never
   whole. */
static bool fits(const fct_train_plan *p)
{
    return !p->variant->dense && p->grad_clip == 0 && p->k_warmup == 0 &&
           p->decoder_norm <= FCT_DECODER_PROJECT;
}

/* ---- memory ---- */

/* The arena for every operation of the step, as a dry run counts it. */
static fct_status measure_arena(fct_fast *f, fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    fct_sae_engine *e = &t->engine;
    int64_t d = t->sae->d, rows = fct_fast_aux_rows(t);
    fct_arena dry;
    fct_cx *cx = &e->cx;
    FCT_TRY(fct_arena_init(&dry, 0));
    cx->arena = &dry;
    FCT_TRY(fct_op_select(cx, &(fct_select_args){.enc = &f->enc, .rows = t->batch, .k = p->k}));
    if (!fct_dist_alone(p->ranks))
        FCT_TRY(fct_op_sparse_outer(
            cx, &(fct_sparse_outer_args){.rows = t->batch, .k = p->k, .n = p->f, .d = d}));
    FCT_TRY(fct_op_sparse_error(
        cx, &(fct_sparse_error_args){.rows = t->batch, .k = p->k, .n = p->f, .d = d}));
    FCT_TRY(fct_op_adam(
        cx, &(fct_adam_args){.rows = t->batch, .k = p->k, .n = p->f, .d = d, .enc = &f->enc}));
    if (p->auxk > 0) {
        FCT_TRY(fct_op_topk(cx, &(fct_topk_args){.rows = rows, .n = p->f, .k = p->auxk}));
        FCT_TRY(fct_op_sparse_outer(
            cx, &(fct_sparse_outer_args){.rows = rows, .k = p->auxk, .n = p->f, .d = d}));
        FCT_TRY(fct_op_sparse_decode(
            cx, &(fct_sparse_decode_args){.rows = rows, .k = p->auxk, .n = p->f, .d = d}));
        FCT_TRY(fct_op_sparse_dot(
            cx, &(fct_sparse_dot_args){.rows = rows, .k = p->auxk, .n = p->f, .d = d}));
    }
    FCT_TRY(fct_arena_init(&e->arena, dry.peak > 0 ? dry.peak : 64));
    cx->arena = &e->arena;
    return FCT_OK;
}

static fct_status take_scratch(fct_fast *f, fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    int64_t rows = t->batch, some = fct_fast_aux_rows(t), d = t->sae->d, f32 = sizeof(float);
    bool ranks = !fct_dist_alone(p->ranks);
    const fct_scratch part[] = {
        {&t->value, rows, p->k, f32},
        {&t->coef, rows, p->k, f32},
        {&t->index, rows, p->k, sizeof(int32_t)},
        {&t->aux_value, some, p->auxk, f32},
        {&t->aux_coef, some, p->auxk, f32},
        {&t->aux_index, some, p->auxk, sizeof(int32_t)},
        {&f->sum, d, 1, sizeof(double)},
        {&f->bias_via_enc, d, 1, f32},
        {&f->g_sum, d, 1, sizeof(double)},
        {&f->dead_index, p->f, 1, sizeof(int32_t)},
        {&f->scaled, ranks ? rows : 0, p->k, f32},
        {&f->feature_index, ranks ? p->f : 0, 1, sizeof(int32_t)},
    };
    FCT_TRY(fct_scratch_take(part, FCT_COUNT(part)));
    for (int64_t i = 0; i < p->f && ranks; i++) f->feature_index[i] = (int32_t)i;
    for (int w = 0; w < FCT_PARAM_COUNT && ranks; w++) {
        int64_t n;
        if (fct_trainee_param(t, w, &n)) FCT_TRY(fct_new(&t->grad[w], n, sizeof(float)));
    }
    return FCT_OK;
}

static fct_status fast_new(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    FCT_TRY(fct_new(&t->fast, 1, sizeof *t->fast));
    FCT_TRY(take_scratch(t->fast, t));
    FCT_TRY(fct_cx_open(&t->engine.cx, p->be, NULL));
    FCT_TRY(fct_encoder_init(&t->fast->enc, p->be, p->product, p->f, t->sae->d));
    return measure_arena(t->fast, t);
}

static void fast_free(fct_trainee *t)
{
    fct_fast *f = t->fast;
    void *part[] = {t->value, t->coef, t->index, t->aux_value, t->aux_coef, t->aux_index};
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) fct_free(t->grad[w]);
    fct_sae_engine_clear(&t->engine);
    if (!f) return;
    void *own[] = {f->sum,   f->bias_via_enc, f->g_sum,  f->dead_index,   f->dead,   f->w_enc,
                   f->w_dec, f->b_enc,        f->g_enc,  f->g_dec,        f->g_bias, f->z,
                   f->dz,    f->g_out,        f->scaled, f->feature_index};
    for (size_t i = 0; i < FCT_COUNT(own); i++) fct_free(own[i]);
    fct_encoder_clear(&f->enc);
    fct_free(f);
}

/* ---- backward ---- */

static fct_status forward(fct_trainee *t, const float *x)
{
    const fct_train_plan *p = &t->plan;
    const fct_sae *s = t->sae;
    fct_fast *f = t->fast;
    fct_cx *cx = &t->engine.cx;
    if (!f->filled)
        FCT_TRY(fct_op_encoder_fill(cx, &(fct_encoder_fill_args){.enc = &f->enc, .w = s->w_enc}));
    f->filled = true;
    FCT_TRY(fct_op_select(cx, &(fct_select_args){.enc = &f->enc,
                                                 .x = x,
                                                 .shift = s->b_dec,
                                                 .w = s->w_enc,
                                                 .bias = s->b_enc,
                                                 .rows = t->batch,
                                                 .k = t->k,
                                                 .any_order = true,
                                                 .centred = t->centred,
                                                 .index = t->index,
                                                 .value = t->value}));
    for (int64_t i = 0; i < t->batch * t->k; i++)
        if (t->value[i] > fct_fired_above) t->not_fired[t->index[i]] = 0;
    FCT_TRY(fct_step_count_dead(t));
    f->scale = (float)(p->loss_scale * 2 / fct_step_numbers(t));
    double squares;
    FCT_TRY(fct_op_sparse_error(cx, &(fct_sparse_error_args){.index = t->index,
                                                             .value = t->value,
                                                             .rows = t->batch,
                                                             .k = t->k,
                                                             .n = s->f,
                                                             .d = s->d,
                                                             .table = s->w_dec,
                                                             .bias = s->b_dec,
                                                             .target = x,
                                                             .scale = f->scale,
                                                             .error = t->error,
                                                             .coef = t->coef,
                                                             .sum = f->sum,
                                                             .squares = &squares}));
    FCT_TRY(fct_dist_sum_f64(p->ranks, f->sum, s->d));
    FCT_TRY(fct_dist_sum_f64(p->ranks, &squares, 1));
    t->now.mse = squares / fct_step_numbers(t);
    return FCT_OK;
}

/* The aux term, whose target is the error: up to its sign and a constant. */
static fct_status aux_term(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    fct_fast *f = t->fast;
    double squares = t->now.mse * fct_step_numbers(t), spread = squares;
    t->now.aux = 0;
    f->m = 0;
    f->aux_bias = 0;
    if (p->auxk == 0) return FCT_OK;
    for (int64_t i = 0; i < t->sae->d; i++) spread -= f->sum[i] * f->sum[i] / (double)p->batch;
    if (!(spread > 1e-12 * squares)) return FCT_OK; /* less is rounding */
    if (t->now.n_dead > 0) return fct_fast_aux(t, spread);
    t->now.aux = squares / spread;
    if (p->aux == FCT_AUX_SDXL_UNBOX) f->aux_bias = p->aux_coef * 2 / spread;
    return FCT_OK;
}

static fct_status fast_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    FCT_TRY(forward(t, rows));
    FCT_TRY(aux_term(t));
    FCT_TRY(fct_step_loss(t, 0));
    if (!want_ev) return FCT_OK;
    int64_t active = 0;
    for (int64_t i = 0; i < t->batch * t->k; i++) active += t->value[i] > 0;
    return fct_step_measure(t, rows, active);
}

/* ---- update ---- */

/* Adds x [m,D] to those rows of y that belong to dead features. */
static void scatter(float *y, const float *x, const fct_fast *f, int64_t d)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < f->m; i++) {
        float *to = y + f->dead[i] * d;
        for (int64_t c = 0; c < d; c++) to[c] += x[i * d + c];
    }
}

/* Where ranks share the batch, gradients must be whole: those of this rank's rows are made, and
   summed over the ranks. */
static fct_status whole_gradients(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    fct_fast *f = t->fast;
    int64_t d = t->sae->d, codes = t->batch * t->k;
    float *enc = t->grad[FCT_PARAM_W_ENC], *dec = t->grad[FCT_PARAM_W_DEC],
          *bias = t->grad[FCT_PARAM_B_ENC];
    fct_sparse_outer_args outer = {.index = t->index,
                                   .coef = t->coef,
                                   .rows = t->batch,
                                   .k = t->k,
                                   .n = p->f,
                                   .d = d,
                                   .x = t->centred,
                                   .grad = enc};
    fct_step_clear_gradients(t);
    for (int64_t i = 0; i < codes; i++) {
        f->scaled[i] = t->value[i] > 0 ? t->value[i] * f->scale : 0;
        if (t->value[i] > 0) bias[t->index[i]] += t->coef[i];
    }
    FCT_TRY(fct_op_sparse_outer(&t->engine.cx, &outer));
    outer.coef = f->scaled;
    outer.x = t->error;
    outer.grad = dec;
    FCT_TRY(fct_op_sparse_outer(&t->engine.cx, &outer));
    if (f->m > 0) {
        scatter(enc, f->g_enc, f, d);
        scatter(dec, f->g_dec, f, d);
        scatter(bias, f->g_bias, f, 1);
    }
    FCT_TRY(fct_dist_sum_f32(p->ranks, enc, p->f * d));
    FCT_TRY(fct_dist_sum_f32(p->ranks, dec, p->f * d));
    return fct_dist_sum_f32(p->ranks, bias, p->f);
}

static void update_bias(fct_trainee *t, const fct_adam *a)
{
    const fct_fast *f = t->fast;
    float *w = t->sae->b_dec, *m = t->m[FCT_PARAM_B_DEC], *v = t->v[FCT_PARAM_B_DEC];
    for (int64_t i = 0; i < t->sae->d; i++) {
        double g = ((double)f->scale + f->aux_bias) * f->sum[i] - (double)f->bias_via_enc[i];
        if (f->m > 0 && t->plan.aux == FCT_AUX_SDXL_UNBOX) g += f->g_sum[i];
        fct_adam_move(&w[i], &m[i], &v[i], (float)g, a);
    }
}

static fct_status fast_update(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    fct_sae *s = t->sae;
    fct_fast *f = t->fast;
    const fct_adam adam = fct_adam_of(t);
    fct_adam_args a = {.index = t->index,
                       .value = t->value,
                       .coef = t->coef,
                       .rows = t->batch,
                       .k = t->k,
                       .n = s->f,
                       .d = s->d,
                       .input = t->centred,
                       .error = t->error,
                       .scale = f->scale,
                       .more = f->m > 0 ? f->dead_index : NULL,
                       .more_enc = f->g_enc,
                       .more_dec = f->g_dec,
                       .more_bias = f->g_bias,
                       .w_enc = s->w_enc,
                       .m_enc = t->m[FCT_PARAM_W_ENC],
                       .v_enc = t->v[FCT_PARAM_W_ENC],
                       .w_dec = s->w_dec,
                       .m_dec = t->m[FCT_PARAM_W_DEC],
                       .v_dec = t->v[FCT_PARAM_W_DEC],
                       .b_enc = s->b_enc,
                       .m_bias = t->m[FCT_PARAM_B_ENC],
                       .v_bias = t->v[FCT_PARAM_B_ENC],
                       .rate = adam.rate,
                       .root = adam.root,
                       .eps = adam.eps,
                       .beta1 = adam.beta1,
                       .beta2 = adam.beta2,
                       .through = f->bias_via_enc,
                       .enc = &f->enc};
    if (!fct_dist_alone(p->ranks)) {
        FCT_TRY(whole_gradients(t));
        a.rows = 0; /* all that Adam takes comes from elsewhere */
        a.more = f->feature_index;
        a.more_enc = t->grad[FCT_PARAM_W_ENC];
        a.more_dec = t->grad[FCT_PARAM_W_DEC];
        a.more_bias = t->grad[FCT_PARAM_B_ENC];
    }
    FCT_TRY(fct_op_adam(&t->engine.cx, &a));
    update_bias(t, &adam);
    return FCT_OK;
}

const fct_engine fct_engine_fast = {
    .name = "fast",
    .reduced = true,
    .fits = fits,
    .new = fast_new,
    .free = fast_free,
    .backward = fast_backward,
    .update = fast_update,
};

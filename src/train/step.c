/* step.c - computes the pieces of a step's losses and gradients that architectures share: which
   features are dead, the aux term, what is measured, gradients through codes of a fixed number a
   row.

   On a batch of B rows of D numbers, with x' the reconstruction, the aux term is

       mean((e' - e)²) / mean((mean_rows(e) - e)²)

   e is what x' misses, and e' the decode of the auxk strongest *dead* features, so that these learn
   what is missing and revive (Gao et al. 2024, appendix A.2).

       clean        e = x - x',           e' without a bias
       sdxl-unbox   e = x - x' + b_dec,   e' + b_dec, and this last bias is not detached (its code)

   Both e are constants to the gradient. A term that is 0/0 counts as 0. The aux term is there from
   the first step: with no dead feature e' is 0 (or b_dec). */
#include <math.h>
#include <string.h>

#include "train/step.h"

/* ---- memory ---- */

fct_status fct_scratch_take(const fct_scratch *part, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t numbers;
        FCT_TRY(fct_mul_i64(&numbers, part[i].rows, part[i].width));
        FCT_TRY(fct_new(part[i].at, numbers, part[i].size));
    }
    return FCT_OK;
}

/* ---- small loops; sums in f64 over eight lanes ---- */

FCT_CLONES double fct_sum_squares(const float *x, int64_t n)
{
    double lane[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int l = 0; l < 8; l++) sum += lane[l];
    return sum;
}

FCT_CLONES void fct_subtract(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = a[i] - b[i];
}

FCT_CLONES void fct_scale_to(float *y, const float *x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * by;
}

FCT_CLONES void fct_add_columns(double *sum, const float *x, int64_t n, int64_t d)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) sum[i] += x[r * d + i];
}

FCT_CLONES static void add_square_columns(double *sum, const float *x, const double *mean,
                                          int64_t n, int64_t d)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++)
            sum[i] += (x[r * d + i] - mean[i]) * (x[r * d + i] - mean[i]);
}

/* Per column: mean over the whole batch and sum of squared distances to it. */
static fct_status column_spread(const fct_trainee *t, double *mean, double *spread, const float *x)
{
    int64_t n = t->batch, d = t->sae->d;
    memset(mean, 0, (size_t)d * sizeof *mean);
    memset(spread, 0, (size_t)d * sizeof *spread);
    fct_add_columns(mean, x, n, d);
    FCT_TRY(fct_dist_sum_f64(t->plan.ranks, mean, d));
    for (int64_t i = 0; i < d; i++) mean[i] /= (double)t->plan.batch;
    add_square_columns(spread, x, mean, n, d);
    return fct_dist_sum_f64(t->plan.ranks, spread, d);
}

/* ---- forward ---- */

double fct_step_numbers(const fct_trainee *t)
{
    return (double)(t->plan.batch * t->sae->d);
}

/* A feature lives when it fired on any rank. */
static fct_status share_fired(fct_trainee *t)
{
    if (fct_dist_alone(t->plan.ranks)) return FCT_OK;
    for (int64_t f = 0; f < t->plan.f; f++) t->dead[f] = t->not_fired[f] == 0;
    FCT_TRY(fct_dist_max_u8(t->plan.ranks, t->dead, t->plan.f));
    for (int64_t f = 0; f < t->plan.f; f++)
        if (t->dead[f]) t->not_fired[f] = 0;
    return FCT_OK;
}

fct_status fct_step_count_dead(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    int64_t steps = fct_train_plan_dead_steps(p);
    FCT_TRY(share_fired(t));
    t->now.n_dead = 0;
    for (int64_t f = 0; f < p->f; f++) {
        t->not_fired[f]++;
        t->dead[f] = t->not_fired[f] > steps;
        t->now.n_dead += t->dead[f];
    }
    return FCT_OK;
}

fct_status fct_step_select_aux(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    if (t->now.n_dead == 0 || p->auxk == 0) return FCT_OK;
    return fct_op_topk(&t->engine.cx, &(fct_topk_args){.x = t->pre,
                                                       .rows = t->batch,
                                                       .n = p->f,
                                                       .k = p->auxk,
                                                       .mask = t->dead,
                                                       .index = t->aux_index,
                                                       .value = t->aux_value});
}

/* Uses aux_out for e'. */
fct_status fct_step_aux_loss(fct_trainee *t, bool *out_active)
{
    const fct_train_plan *p = &t->plan;
    const fct_sae *s = t->sae;
    int64_t n = t->batch * s->d, k = t->now.n_dead > 0 ? p->auxk : 0;
    bool sdxl_unbox = p->aux == FCT_AUX_SDXL_UNBOX;
    *out_active = false;
    t->now.aux = 0;
    if (p->auxk == 0) return FCT_OK;
    FCT_TRY(fct_op_sparse_decode(&t->engine.cx,
                                 &(fct_sparse_decode_args){.index = t->aux_index,
                                                           .value = t->aux_value,
                                                           .rows = t->batch,
                                                           .k = k,
                                                           .d = s->d,
                                                           .table = s->w_dec,
                                                           .bias = sdxl_unbox ? s->b_dec : NULL,
                                                           .y = t->aux_out}));
    for (int64_t r = 0; r < t->batch; r++) /* g_aux holds e for the moment */
        for (int64_t i = 0; i < s->d; i++)
            t->g_aux[r * s->d + i] = (sdxl_unbox ? s->b_dec[i] : 0) - t->error[r * s->d + i];
    FCT_TRY(column_spread(t, t->sum, t->sum + s->d, t->g_aux));
    double spread = 0;
    for (int64_t i = 0; i < s->d; i++) spread += t->sum[s->d + i];
    fct_subtract(t->g_aux, t->aux_out, t->g_aux, n); /* e' - e */
    double miss = fct_sum_squares(t->g_aux, n);
    FCT_TRY(fct_dist_sum_f64(p->ranks, &miss, 1));
    if (!(spread > 0)) return FCT_OK;
    t->now.aux = miss / spread;
    /* 2/(B·D·den), den = spread/(B·D). */
    fct_scale_to(t->g_aux, t->g_aux, (float)(p->aux_coef * 2 / spread), n);
    *out_active = true;
    return FCT_OK;
}

fct_status fct_step_measure(fct_trainee *t, const float *x, int64_t active)
{
    const fct_train_plan *p = &t->plan;
    int64_t d = t->sae->d;
    double *var_x = t->sum + d, *var_e = t->sum + 3 * d;
    FCT_TRY(column_spread(t, t->sum, var_x, x));
    FCT_TRY(column_spread(t, t->sum + 2 * d, var_e, t->error));
    double all = 0, here[2] = {fct_sum_squares(t->error, t->batch * d), (double)active};
    FCT_TRY(fct_dist_sum_f64(p->ranks, here, 2));
    t->now.ev = 0;
    for (int64_t i = 0; i < d; i++) {
        t->now.ev += (1 - var_e[i] / (var_x[i] + 1e-8 * (double)p->batch)) / (double)d;
        all += var_x[i];
    }
    t->now.fvu = all > 0 ? here[0] / all : 0;
    t->now.l0 = here[1] / (double)p->batch;
    return FCT_OK;
}

/* ---- backward ---- */

fct_status fct_step_backward_codes(fct_trainee *t, const float *g, const int32_t *index,
                                   const float *value, float *coef, int64_t k)
{
    const fct_sae *s = t->sae;
    int64_t rows = t->batch;
    fct_cx *cx = &t->engine.cx;
    FCT_TRY(fct_op_sparse_outer(cx, &(fct_sparse_outer_args){.index = index,
                                                             .coef = value,
                                                             .rows = rows,
                                                             .k = k,
                                                             .n = s->f,
                                                             .d = s->d,
                                                             .x = g,
                                                             .grad = t->grad[FCT_PARAM_W_DEC]}));
    FCT_TRY(fct_op_sparse_dot(cx, &(fct_sparse_dot_args){.index = index,
                                                         .rows = rows,
                                                         .k = k,
                                                         .d = s->d,
                                                         .x = g,
                                                         .table = s->w_dec,
                                                         .coef = coef}));
    for (int64_t i = 0; i < rows * k; i++) {
        if (!(value[i] > 0)) coef[i] = 0; /* ReLU */
        t->grad[FCT_PARAM_B_ENC][index[i]] += coef[i];
    }
    return fct_op_sparse_outer(cx, &(fct_sparse_outer_args){.index = index,
                                                            .coef = coef,
                                                            .rows = rows,
                                                            .k = k,
                                                            .n = s->f,
                                                            .d = s->d,
                                                            .x = t->centred,
                                                            .grad = t->grad[FCT_PARAM_W_ENC]});
}

/* b_dec is added to both decodes (the aux one in the authors' form only) and subtracted from the
   input. */
fct_status fct_step_backward_bias(fct_trainee *t, bool aux, const float *g_pre_sum)
{
    const fct_sae *s = t->sae;
    float *g = t->grad[FCT_PARAM_B_DEC];
    memset(t->sum, 0, (size_t)s->d * sizeof *t->sum);
    fct_add_columns(t->sum, t->g_rec, t->batch, s->d);
    if (aux && t->plan.aux == FCT_AUX_SDXL_UNBOX) fct_add_columns(t->sum, t->g_aux, t->batch, s->d);
    for (int64_t i = 0; i < s->d; i++) g[i] = (float)t->sum[i];
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = g_pre_sum,
                                                           .b = s->w_enc,
                                                           .c = g,
                                                           .m = 1,
                                                           .n = s->d,
                                                           .k = s->f,
                                                           .alpha = -1,
                                                           .beta = 1});
}

void fct_step_clear_gradients(fct_trainee *t)
{
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        if (fct_trainee_param(t, w, &size)) memset(t->grad[w], 0, (size_t)size * sizeof(float));
    }
}

fct_status fct_step_loss(fct_trainee *t, double variant_loss)
{
    const fct_train_plan *p = &t->plan;
    t->now.loss = p->loss_scale * t->now.mse + p->aux_coef * t->now.aux + variant_loss;
    if (isfinite(t->now.loss)) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE,
                    "step %lld: the loss is not finite: rows whose squares f32 cannot hold, or lr "
                    "%g is too high",
                    (long long)(t->now.step + 1), p->lr);
}

/* ---- the decoder ---- */

void fct_sae_normalise_decoder(fct_sae *s)
{
    for (int64_t f = 0; f < s->f; f++) {
        float *w = s->w_dec + f * s->d, norm = (float)sqrt(fct_sum_squares(w, s->d));
        if (norm > 0) fct_scale_to(w, w, 1 / norm, s->d);
    }
}

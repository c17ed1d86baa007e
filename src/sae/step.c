/* step.c - one training step of a TopK autoencoder, written out: losses, gradients, decoder norm,
   Adam.

   With a = x - b_dec, z = relu(topk(W_enc a + b_enc)), x' = W_decT z + b_dec, on a batch of B rows
   of D numbers: loss = scale * mean((x' - x)²) + aux_coef * mean((e' - e)²) / mean((mean_rows(e) -
   e)²) e is what x' misses and e' the decode of the auxk strongest *dead* features, so that these
   learn what is missing and revive. clean: e = x - x', e' without a bias. authors: e = x - x' +
   b_dec, e' + b_dec, and this last bias is not detached (their code). Both e are constants to the
   gradient. A term that is 0/0 counts as 0. The aux term is there from the first step: with no dead
   feature e' is 0 (or b_dec).
   Order within a step as in the authors' code: backward, normalise the decoder's rows, remove from
   their gradient what lies along them, Adam. So a saved decoder is unit-norm only to within one
   step. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

static const float fired_above = 1e-3f;
static const double beta1 = 0.9, beta2 = 0.999;

float *fct_trainee_param(const fct_trainee *t, int which, int64_t *out_n)
{
    const fct_sae *s = t->sae;
    float *const data[FCT_PARAM_COUNT] = {s->w_enc, s->b_enc, s->w_dec, s->b_dec};
    const int64_t n[FCT_PARAM_COUNT] = {s->d * s->f, s->f, s->d * s->f, s->d};
    *out_n = n[which];
    return data[which];
}

/* ---- small loops; sums in f64 over eight lanes ---- */

FCT_CLONES static double sum_squares(const float *x, int64_t n)
{
    double lane[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int l = 0; l < 8; l++) sum += lane[l];
    return sum;
}

FCT_CLONES static void subtract(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = a[i] - b[i];
}

FCT_CLONES static void scale_to(float *y, const float *x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * by;
}

FCT_CLONES static void add_columns(double *sum, const float *x, int64_t n, int64_t d)
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

/* Per column: mean and sum of squared distances to it. */
static void column_spread(double *mean, double *spread, const float *x, int64_t n, int64_t d)
{
    memset(mean, 0, (size_t)d * sizeof *mean);
    memset(spread, 0, (size_t)d * sizeof *spread);
    add_columns(mean, x, n, d);
    for (int64_t i = 0; i < d; i++) mean[i] /= (double)n;
    add_square_columns(spread, x, mean, n, d);
}

/* ---- forward ---- */

static void note_fired(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    int64_t steps = fct_train_plan_dead_steps(p);
    for (int64_t i = 0; i < p->batch * p->k; i++)
        if (t->value[i] > fired_above) t->not_fired[t->index[i]] = 0;
    t->n_dead = 0;
    for (int64_t f = 0; f < p->f; f++) {
        t->not_fired[f]++;
        t->dead[f] = t->not_fired[f] > steps;
        t->n_dead += t->dead[f];
    }
}

static fct_status forward(fct_trainee *t, const float *x)
{
    const fct_train_plan *p = &t->plan;
    const fct_sae *s = t->sae;
    fct_cx *cx = &t->engine.cx;
    FCT_TRY(fct_sae_preact(&t->engine, s, x, p->batch, t->centred, t->pre));
    FCT_TRY(fct_op_topk(cx, &(fct_topk_args){.x = t->pre,
                                             .rows = p->batch,
                                             .n = p->f,
                                             .k = p->k,
                                             .index = t->index,
                                             .value = t->value}));
    note_fired(t);
    if (t->n_dead > 0 && p->auxk > 0)
        FCT_TRY(fct_op_topk(cx, &(fct_topk_args){.x = t->pre,
                                                 .rows = p->batch,
                                                 .n = p->f,
                                                 .k = p->auxk,
                                                 .mask = t->dead,
                                                 .index = t->aux_index,
                                                 .value = t->aux_value}));
    FCT_TRY(fct_op_sparse_decode(cx, &(fct_sparse_decode_args){.index = t->index,
                                                               .value = t->value,
                                                               .rows = p->batch,
                                                               .k = p->k,
                                                               .d = s->d,
                                                               .table = s->w_dec,
                                                               .bias = s->b_dec,
                                                               .y = t->error}));
    subtract(t->error, t->error, x, p->batch * s->d); /* x' - x */
    return FCT_OK;
}

/* g_aux [B,D] := d(aux term)/de'; true when there is such a term. Uses aux_out for e'. */
static fct_status aux_loss(fct_trainee *t, bool *out_active)
{
    const fct_train_plan *p = &t->plan;
    const fct_sae *s = t->sae;
    int64_t n = p->batch * s->d, k = t->n_dead > 0 ? p->auxk : 0;
    bool authors = p->aux == FCT_AUX_AUTHORS;
    *out_active = false;
    t->aux = 0;
    if (p->auxk == 0) return FCT_OK;
    FCT_TRY(fct_op_sparse_decode(&t->engine.cx,
                                 &(fct_sparse_decode_args){.index = t->aux_index,
                                                           .value = t->aux_value,
                                                           .rows = p->batch,
                                                           .k = k,
                                                           .d = s->d,
                                                           .table = s->w_dec,
                                                           .bias = authors ? s->b_dec : NULL,
                                                           .y = t->aux_out}));
    for (int64_t r = 0; r < p->batch; r++) /* g_aux holds e for the moment */
        for (int64_t i = 0; i < s->d; i++)
            t->g_aux[r * s->d + i] = (authors ? s->b_dec[i] : 0) - t->error[r * s->d + i];
    column_spread(t->sum, t->sum + s->d, t->g_aux, p->batch, s->d);
    double spread = 0;
    for (int64_t i = 0; i < s->d; i++) spread += t->sum[s->d + i];
    subtract(t->g_aux, t->aux_out, t->g_aux, n); /* e' - e */
    double miss = sum_squares(t->g_aux, n);
    if (!(spread > 0)) return FCT_OK;
    t->aux = miss / spread;
    scale_to(t->g_aux, t->g_aux, (float)(p->aux_coef * 2 / spread),
             n); /* 2/(B·D·den), den = spread/(B·D) */
    *out_active = true;
    return FCT_OK;
}

static void measure(fct_trainee *t, const float *x)
{
    const fct_train_plan *p = &t->plan;
    int64_t d = t->sae->d, active = 0;
    double *var_x = t->sum + d, *var_e = t->sum + 3 * d;
    column_spread(t->sum, var_x, x, p->batch, d);
    column_spread(t->sum + 2 * d, var_e, t->error, p->batch, d);
    t->ev = 0;
    for (int64_t i = 0; i < d; i++)
        t->ev += (1 - var_e[i] / (var_x[i] + 1e-8 * (double)p->batch)) / (double)d;
    for (int64_t i = 0; i < p->batch * p->k; i++) active += t->value[i] > 0;
    t->l0 = (double)active / (double)p->batch;
}

/* ---- backward ---- */

/* Gradients of both weights and b_enc through one set of codes; g [B,D] is the gradient of their
 * decode. */
static fct_status backward_codes(fct_trainee *t, const float *g, const int32_t *index,
                                 const float *value, float *coef, int64_t k)
{
    const fct_sae *s = t->sae;
    int64_t rows = t->plan.batch;
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
 * input. */
static fct_status backward_bias(fct_trainee *t, bool aux)
{
    const fct_sae *s = t->sae;
    float *g = t->grad[FCT_PARAM_B_DEC];
    memset(t->sum, 0, (size_t)s->d * sizeof *t->sum);
    add_columns(t->sum, t->g_rec, t->plan.batch, s->d);
    if (aux && t->plan.aux == FCT_AUX_AUTHORS) add_columns(t->sum, t->g_aux, t->plan.batch, s->d);
    for (int64_t i = 0; i < s->d; i++) g[i] = (float)t->sum[i];
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = t->grad[FCT_PARAM_B_ENC],
                                                           .b = s->w_enc,
                                                           .c = g,
                                                           .m = 1,
                                                           .n = s->d,
                                                           .k = s->f,
                                                           .alpha = -1,
                                                           .beta = 1});
}

fct_status fct_trainee_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = p->batch * t->sae->d;
    bool aux;
    FCT_TRY(forward(t, rows));
    t->mse = sum_squares(t->error, n) / (double)n;
    FCT_TRY(aux_loss(t, &aux));
    t->loss = p->loss_scale * t->mse + p->aux_coef * t->aux;
    if (!isfinite(t->loss))
        return fct_fail(FCT_ERR_RANGE, "step %lld: the loss is not finite",
                        (long long)(t->step + 1));
    if (want_ev) measure(t, rows);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        (void)fct_trainee_param(t, w, &size);
        memset(t->grad[w], 0, (size_t)size * sizeof(float));
    }
    scale_to(t->g_rec, t->error, (float)(p->loss_scale * 2 / (double)n), n);
    FCT_TRY(backward_codes(t, t->g_rec, t->index, t->value, t->coef, p->k));
    if (aux && t->n_dead > 0)
        FCT_TRY(backward_codes(t, t->g_aux, t->aux_index, t->aux_value, t->aux_coef, p->auxk));
    return backward_bias(t, aux);
}

/* ---- the step itself ---- */

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

void fct_sae_normalise_decoder(fct_sae *s)
{
    for (int64_t f = 0; f < s->f; f++) {
        float *w = s->w_dec + f * s->d, norm = (float)sqrt(sum_squares(w, s->d));
        if (norm > 0) scale_to(w, w, 1 / norm, s->d);
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

void fct_trainee_update(fct_trainee *t)
{
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
}

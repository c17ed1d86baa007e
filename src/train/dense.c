/* dense.c - computes the pieces of a training step whose codes have no fixed number a row: codes
   and their gradients are matrices [B,F], and every product is a plain one. What the variants do
   differently lies between these pieces: which activations are kept, and what the loss says of
   them. */
#include <math.h>
#include <string.h>

#include "train/step.h"

fct_status fct_dense_forward(fct_trainee *t, const float *x)
{
    const fct_sae_preact_args a = {.x = x, .n = t->batch, .centred = t->centred, .pre = t->pre};
    return fct_sae_preact(&t->engine, t->sae, &a);
}

fct_status fct_dense_note_fired(fct_trainee *t, const float *z)
{
    int64_t f = t->plan.f;
    for (int64_t r = 0; r < t->batch; r++)
        for (int64_t i = 0; i < f; i++)
            if (z[r * f + i] > fct_fired_above) t->not_fired[i] = 0;
    FCT_TRY(fct_step_count_dead(t));
    return fct_step_select_aux(t);
}

FCT_CLONES static void start_from_bias(float *out, const float *x, const float *bias, int64_t n,
                                       int64_t d)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) out[r * d + i] = bias[i] - x[r * d + i];
}

fct_status fct_dense_error(fct_trainee *t, const float *z, const float *x, float *out)
{
    const fct_sae *s = t->sae;
    start_from_bias(out, x, s->b_dec, t->batch, s->d);
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = z,
                                                           .b = s->w_dec,
                                                           .c = out,
                                                           .m = t->batch,
                                                           .n = s->d,
                                                           .k = s->f,
                                                           .alpha = 1,
                                                           .beta = 1});
}

fct_status fct_dense_losses(fct_trainee *t, const float *x, double variant_loss, bool want_ev,
                            bool *out_aux)
{
    int64_t n = t->batch * t->sae->d, active = 0;
    double here[3] = {fct_sum_squares(t->error, n) / fct_step_numbers(t), variant_loss,
                      t->now.penalty};
    FCT_TRY(fct_dist_sum_f64(t->plan.ranks, here, 3));
    t->now.mse = here[0];
    t->now.penalty = here[2];
    FCT_TRY(fct_step_aux_loss(t, out_aux));
    FCT_TRY(fct_step_loss(t, here[1]));
    if (!want_ev) return FCT_OK;
    for (int64_t i = 0; i < t->batch * t->plan.f; i++) active += t->z[i] > 0;
    return fct_step_measure(t, x, active);
}

fct_status fct_dense_code_gradient(fct_trainee *t, const float *g, float *out)
{
    const fct_sae *s = t->sae;
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = g,
                                                           .b = s->w_dec,
                                                           .c = out,
                                                           .m = t->batch,
                                                           .n = s->f,
                                                           .k = s->d,
                                                           .trans_b = true,
                                                           .alpha = 1});
}

fct_status fct_dense_decoder_gradient(fct_trainee *t, const float *z, const float *g)
{
    const fct_sae *s = t->sae;
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = z,
                                                           .b = g,
                                                           .c = t->grad[FCT_PARAM_W_DEC],
                                                           .m = s->f,
                                                           .n = s->d,
                                                           .k = t->batch,
                                                           .trans_a = true,
                                                           .alpha = 1,
                                                           .beta = 1});
}

FCT_CLONES static void add_rows(float *sum, const float *x, int64_t n, int64_t f)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < f; i++) sum[i] += x[r * f + i];
}

fct_status fct_dense_encoder_gradient(fct_trainee *t, const float *g_pre, float *bias)
{
    const fct_sae *s = t->sae;
    add_rows(bias, g_pre, t->batch, s->f);
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = g_pre,
                                                           .b = t->centred,
                                                           .c = t->grad[FCT_PARAM_W_ENC],
                                                           .m = s->f,
                                                           .n = s->d,
                                                           .k = t->batch,
                                                           .trans_a = true,
                                                           .alpha = 1,
                                                           .beta = 1});
}

/* The aux term reaches the encoder like the rest does, so its bias comes after it is added; where
   `g_pre_sum` is not b_enc's gradient, the aux part of that is added here. */
fct_status fct_dense_end(fct_trainee *t, bool aux, float *g_pre_sum)
{
    const fct_train_plan *p = &t->plan;
    float *bias = t->grad[FCT_PARAM_B_ENC];
    if (aux && t->now.n_dead > 0) {
        FCT_TRY(
            fct_step_backward_codes(t, t->g_aux, t->aux_index, t->aux_value, t->aux_coef, p->auxk));
        for (int64_t i = 0; g_pre_sum != bias && i < t->batch * p->auxk; i++)
            g_pre_sum[t->aux_index[i]] += t->aux_coef[i];
    }
    return fct_step_backward_bias(t, aux, g_pre_sum);
}

/* A crosscoder's feature has a direction in every block, and its lengths are added (Lindsey et al.
   2024): that leaves a feature of one block cheaper than one spread over all. */
typedef struct spans {
    int64_t n, d[FCT_SAE_MAX_BLOCKS];
} spans;

static spans spans_of(const fct_sae *s)
{
    spans p = {.n = s->n_blocks > 0 ? s->n_blocks : 1, .d = {s->d}};
    for (int64_t b = 0; b < s->n_blocks; b++) p.d[b] = s->blocks[b].d;
    return p;
}

/* The length of a direction; with g: plus `weight` times its slope. */
static double direction_length(const spans *p, const float *w, float *g, double weight)
{
    double all = 0;
    for (int64_t b = 0, at = 0; b < p->n; at += p->d[b++]) {
        double length = sqrt(fct_sum_squares(w + at, p->d[b]));
        float along = g && length > 0 ? (float)(weight / length) : 0;
        for (int64_t i = 0; g && i < p->d[b]; i++) g[at + i] += along * w[at + i];
        all += length;
    }
    return all;
}

double fct_dense_l1(fct_trainee *t, const float *z, float *g_z)
{
    const fct_sae *s = t->sae;
    const spans p = spans_of(s);
    int64_t rows = t->batch;
    double weight = fct_train_plan_sparsity(&t->plan, t->now.step) / (double)t->plan.batch /
                    fct_train_plan_unit(&t->plan, s->d),
           value = 0, *sum = t->per_feature, *length = t->per_feature + s->f;
    for (int64_t f = 0; f < s->f; f++) {
        sum[f] = 0;
        length[f] = direction_length(&p, s->w_dec + f * s->d, NULL, 0);
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t f = 0; f < s->f; f++) {
            if (!(z[r * s->f + f] > 0)) continue;
            sum[f] += z[r * s->f + f];
            g_z[r * s->f + f] += (float)(weight * length[f]);
        }
    for (int64_t f = 0; f < s->f; f++) {
        value += weight * length[f] * sum[f];
        (void)direction_length(&p, s->w_dec + f * s->d, t->grad[FCT_PARAM_W_DEC] + f * s->d,
                               weight * sum[f]);
    }
    return value;
}

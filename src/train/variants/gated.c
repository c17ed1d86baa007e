/* gated.c - computes losses and gradients of gated autoencoders (Rajamanoharan et al. 2024) on a
   batch. Whether a feature is active and how strongly are told apart, so that the penalty that
   makes codes sparse does not shrink them:

       q   = W_enc a
       pi  = q + b_gate                   the gate
       u   = exp(r_mag) q + b_mag         the magnitude
       z   = [pi > 0] relu(u)
       x'  = W_decT z + b_dec
       x'' = frozen(W_decT) relu(pi) + frozen(b_dec)

       loss = scale * mean((x' - x)²)
              + sparsity/unit * mean over rows of sum_f relu(pi)_f |W_dec,f|
              + scale * mean((x'' - x)²)

   A step has no slope, so the gate learns from the last two terms alone; the decoder, frozen in the
   last, does not bend to the gate's shrunken codes. b_gate is b_enc in memory and in
   checkpoints. */
#include <math.h>
#include <string.h>

#include "train/step.h"
#include "train/variant.h"

/* pre holds pi; z = gated codes. */
static void activate(fct_trainee *t)
{
    const float *gate = t->sae->b_enc;
    int64_t f = t->plan.f;
    for (int64_t r = 0; r < t->batch; r++)
        for (int64_t i = 0; i < f; i++) {
            float pi = t->pre[r * f + i], u = expf(t->r_mag[i]) * (pi - gate[i]) + t->b_mag[i];
            t->z[r * f + i] = pi <= 0 || u <= 0 ? 0 : u;
        }
}

/* From g_pre, the gradient of z, to those of b_mag and r_mag, and to that of q (in place). */
static void through_magnitude(fct_trainee *t)
{
    const float *gate = t->sae->b_enc;
    int64_t f = t->plan.f;
    double *to_b = t->per_feature, *to_r = t->per_feature + f;
    memset(to_b, 0, (size_t)(2 * f) * sizeof *to_b);
    for (int64_t r = 0; r < t->batch; r++)
        for (int64_t i = 0; i < f; i++) {
            float *g = t->g_pre + r * f + i, m = expf(t->r_mag[i]);
            if (!(t->z[r * f + i] > 0)) {
                *g = 0;
                continue;
            }
            to_b[i] += *g;
            to_r[i] += (double)*g * m * (t->pre[r * f + i] - gate[i]);
            *g *= m;
        }
    for (int64_t i = 0; i < f; i++) {
        t->grad[FCT_PARAM_B_MAG][i] = (float)to_b[i];
        t->grad[FCT_PARAM_R_MAG][i] = (float)to_r[i];
    }
}

static void relu(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

/* The gate's two terms: their gradients by pi into g_gate, the value of the frozen one returned. */
static fct_status through_gate(fct_trainee *t, const float *x, double *out_frozen)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d, codes = t->batch * p->f;
    relu(t->pre, t->pre, codes);
    FCT_TRY(fct_dense_error(t, t->pre, x, t->aux_out)); /* x'' - x */
    *out_frozen = p->loss_scale * fct_sum_squares(t->aux_out, n) / fct_step_numbers(t);
    fct_scale_to(t->aux_out, t->aux_out, (float)(p->loss_scale * 2 / fct_step_numbers(t)), n);
    FCT_TRY(fct_dense_code_gradient(t, t->aux_out, t->g_gate));
    t->now.penalty = fct_dense_l1(t, t->pre, t->g_gate);
    for (int64_t i = 0; i < codes; i++)
        if (!(t->pre[i] > 0)) t->g_gate[i] = 0;
    return FCT_OK;
}

static fct_status gated_backward(fct_trainee *t, const float *x, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d;
    double frozen = 0;
    bool aux;
    FCT_TRY(fct_dense_forward(t, x));
    activate(t);
    FCT_TRY(fct_dense_note_fired(t, t->z));
    FCT_TRY(fct_dense_error(t, t->z, x, t->error));
    fct_step_clear_gradients(t);
    memset(t->g_pre_sum, 0, (size_t)p->f * sizeof *t->g_pre_sum);
    fct_scale_to(t->g_rec, t->error, (float)(p->loss_scale * 2 / fct_step_numbers(t)), n);
    FCT_TRY(fct_dense_decoder_gradient(t, t->z, t->g_rec));
    FCT_TRY(fct_dense_code_gradient(t, t->g_rec, t->g_pre));
    through_magnitude(t);
    FCT_TRY(fct_dense_encoder_gradient(t, t->g_pre, t->g_pre_sum));
    FCT_TRY(through_gate(t, x, &frozen));
    FCT_TRY(fct_dense_encoder_gradient(t, t->g_gate, t->grad[FCT_PARAM_B_ENC]));
    for (int64_t i = 0; i < p->f; i++) t->g_pre_sum[i] += t->grad[FCT_PARAM_B_ENC][i];
    FCT_TRY(fct_dense_losses(t, x, t->now.penalty + frozen, want_ev, &aux));
    return fct_dense_end(t, aux, t->g_pre_sum);
}

static fct_status gated_finish(const fct_trainee *t, fct_sae *out)
{
    int64_t n;
    const float *b = fct_trainee_result(t, FCT_PARAM_B_MAG, &n),
                *r = fct_trainee_result(t, FCT_PARAM_R_MAG, &n);
    out->kind = FCT_SAE_GATED;
    out->k = 0;
    if (!out->b_mag) FCT_TRY(fct_new(&out->b_mag, n, sizeof *out->b_mag));
    if (!out->r_mag) FCT_TRY(fct_new(&out->r_mag, n, sizeof *out->r_mag));
    memcpy(out->b_mag, b, (size_t)n * sizeof *b);
    memcpy(out->r_mag, r, (size_t)n * sizeof *r);
    return FCT_OK;
}

const fct_variant fct_variant_gated = {
    .name = "gated",
    .codes = "those whose gate is open, under a penalty on the gates' sum",
    .has_magnitude = true,
    .dense = true,
    .sparsity = 0.02,
    .penalty = "losses/l1_loss",
    .kind = FCT_SAE_GATED,
    .backward = gated_backward,
    .finish = gated_finish,
};

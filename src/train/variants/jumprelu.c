/* jumprelu.c - computes losses and gradients of JumpReLU autoencoders (Rajamanoharan et al. 2024)
   on a batch. Every feature has a threshold theta of its own, and the penalty counts what is
   active:

       u = W_enc a + b_enc
       z = u where u > theta, else 0

       loss = scale * mean((x' - x)²) + sparsity * mean over rows of sum_f [u_f > theta_f]

   A count has no slope, so the thresholds learn from a straight-through estimator, the slope of the
   expected loss with u blurred by a box of the width `bandwidth`. With K = 1 where |u - theta| <
   bandwidth/2, else 0:

       d[u > theta]/dtheta = -K/bandwidth
       dz/dtheta           = -theta K/bandwidth

   All else has its plain gradient. Both lengths are in units of a row's; what is learned is
   ln(theta/unit), so that a threshold stays positive. */
#include <math.h>
#include <string.h>

#include "train/step.h"
#include "train/variant.h"

/* z from pre; the number of active features. */
static int64_t activate(fct_trainee *t, const double *theta)
{
    int64_t f = t->plan.f, active = 0;
    for (int64_t r = 0; r < t->batch; r++)
        for (int64_t i = 0; i < f; i++) {
            float u = t->pre[r * f + i];
            bool on = !(u <= (float)theta[i]); /* NaN goes on, so that the loss shows it */
            t->z[r * f + i] = on ? u : 0;
            active += on;
        }
    return active;
}

/* From g_pre, still the gradient of z, to that of the thresholds; then g_pre becomes that of u. */
static void through_jump(fct_trainee *t, const double *theta, double *sum, double penalty)
{
    int64_t f = t->plan.f;
    double width = t->plan.bandwidth * fct_train_plan_unit(&t->plan, t->sae->d);
    memset(sum, 0, (size_t)f * sizeof *sum);
    for (int64_t r = 0; r < t->batch; r++)
        for (int64_t i = 0; i < f; i++) {
            float *g = t->g_pre + r * f + i, u = t->pre[r * f + i];
            if (fabs(u - theta[i]) < width / 2) sum[i] -= (theta[i] * *g + penalty) / width;
            if (u <= (float)theta[i]) *g = 0;
        }
    for (int64_t i = 0; i < f; i++) t->grad[FCT_PARAM_THRESHOLD_LN][i] = (float)(theta[i] * sum[i]);
}

static fct_status jumprelu_backward(fct_trainee *t, const float *x, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d;
    float *bias = t->grad[FCT_PARAM_B_ENC];
    double *theta = t->per_feature, unit = fct_train_plan_unit(p, t->sae->d),
           each = fct_train_plan_sparsity(p, t->now.step) / (double)p->batch;
    bool aux;
    for (int64_t i = 0; i < p->f; i++) theta[i] = unit * exp(t->threshold_ln[i]);
    FCT_TRY(fct_dense_forward(t, x));
    t->now.penalty = each * (double)activate(t, theta);
    FCT_TRY(fct_dense_note_fired(t, t->z));
    FCT_TRY(fct_dense_error(t, t->z, x, t->error));
    FCT_TRY(fct_dense_losses(t, x, t->now.penalty, want_ev, &aux));
    fct_step_clear_gradients(t);
    fct_scale_to(t->g_rec, t->error, (float)(p->loss_scale * 2 / fct_step_numbers(t)), n);
    FCT_TRY(fct_dense_decoder_gradient(t, t->z, t->g_rec));
    FCT_TRY(fct_dense_code_gradient(t, t->g_rec, t->g_pre));
    through_jump(t, theta, t->per_feature + p->f, each);
    FCT_TRY(fct_dense_encoder_gradient(t, t->g_pre, bias));
    return fct_dense_end(t, aux, bias);
}

static fct_status jumprelu_finish(const fct_trainee *t, fct_sae *out)
{
    int64_t n;
    const float *ln = fct_trainee_result(t, FCT_PARAM_THRESHOLD_LN, &n);
    double unit = fct_train_plan_unit(&t->plan, out->d);
    out->kind = FCT_SAE_JUMPRELU;
    out->k = 0;
    if (!out->threshold) FCT_TRY(fct_new(&out->threshold, n, sizeof *out->threshold));
    for (int64_t i = 0; i < n; i++) out->threshold[i] = (float)(unit * exp(ln[i]));
    return FCT_OK;
}

const fct_variant fct_variant_jumprelu = {
    .name = "jumprelu",
    .codes = "those above a threshold that each feature learns, under a penalty on their number",
    .has_threshold = true,
    .dense = true,
    .sparsity = 0.002,
    .penalty = "losses/l0_loss",
    .kind = FCT_SAE_JUMPRELU,
    .backward = jumprelu_backward,
    .finish = jumprelu_finish,
};

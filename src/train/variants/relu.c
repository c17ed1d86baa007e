/* relu.c - computes losses and gradients of ReLU autoencoders with an L1 penalty (Bricken et al.
   2023, Conerly et al. 2024) on a batch. The penalty is on the sum of activations, each times its
   direction's length, so that nothing is gained by small activations on long directions:

       z = relu(W_enc a + b_enc)

       loss = scale * mean((x' - x)²) + sparsity/unit * mean over rows of sum_f z_f |W_dec,f| */
#include "train/step.h"
#include "train/variant.h"

static fct_status relu_backward(fct_trainee *t, const float *x, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d, codes = t->batch * p->f;
    float *bias = t->grad[FCT_PARAM_B_ENC];
    bool aux;
    FCT_TRY(fct_dense_forward(t, x));
    for (int64_t i = 0; i < codes; i++) t->z[i] = t->pre[i] > 0 ? t->pre[i] : 0;
    FCT_TRY(fct_dense_note_fired(t, t->z));
    FCT_TRY(fct_dense_error(t, t->z, x, t->error));
    fct_step_clear_gradients(t);
    fct_scale_to(t->g_rec, t->error, (float)(p->loss_scale * 2 / fct_step_numbers(t)), n);
    FCT_TRY(fct_dense_decoder_gradient(t, t->z, t->g_rec));
    FCT_TRY(fct_dense_code_gradient(t, t->g_rec, t->g_pre));
    t->now.penalty = fct_dense_l1(t, t->z, t->g_pre);
    for (int64_t i = 0; i < codes; i++)
        if (!(t->z[i] > 0)) t->g_pre[i] = 0;
    FCT_TRY(fct_dense_encoder_gradient(t, t->g_pre, bias));
    FCT_TRY(fct_dense_losses(t, x, t->now.penalty, want_ev, &aux));
    return fct_dense_end(t, aux, bias);
}

static fct_status relu_finish(const fct_trainee *t, fct_sae *out)
{
    (void)t;
    out->kind = FCT_SAE_RELU;
    out->k = 0;
    return FCT_OK;
}

const fct_variant fct_variant_relu = {
    .name = "relu",
    .codes = "every positive one, under a penalty on their sum",
    .dense = true,
    .idle_aux = true,
    .sparsity = 0.02,
    .penalty = "losses/l1_loss",
    .kind = FCT_SAE_RELU,
    .backward = relu_backward,
    .finish = relu_finish,
};

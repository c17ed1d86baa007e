/* topk.c - computes losses and gradients of TopK autoencoders (Makhzani and Frey 2013, Gao et al.
   2024) on a batch. Of every row the k strongest activations are kept:

       a  = x - b_dec
       z  = relu(topk(W_enc a + b_enc))
       x' = W_decT z + b_dec

       loss = scale * mean((x' - x)²) + aux_coef * aux

   The aux term is step.c's. */
#include "train/step.h"
#include "train/variant.h"

static fct_status forward(fct_trainee *t, const float *x)
{
    const fct_train_plan *p = &t->plan;
    const fct_sae *s = t->sae;
    fct_cx *cx = &t->engine.cx;
    const fct_sae_preact_args encoder = {
        .x = x, .n = t->batch, .centred = t->centred, .pre = t->pre};
    FCT_TRY(fct_sae_preact(&t->engine, s, &encoder));
    FCT_TRY(fct_op_topk(cx, &(fct_topk_args){.x = t->pre,
                                             .rows = t->batch,
                                             .n = p->f,
                                             .k = t->k,
                                             .index = t->index,
                                             .value = t->value}));
    for (int64_t i = 0; i < t->batch * t->k; i++)
        if (t->value[i] > fct_fired_above) t->not_fired[t->index[i]] = 0;
    FCT_TRY(fct_step_count_dead(t));
    FCT_TRY(fct_step_select_aux(t));
    FCT_TRY(fct_op_sparse_decode(cx, &(fct_sparse_decode_args){.index = t->index,
                                                               .value = t->value,
                                                               .rows = t->batch,
                                                               .k = t->k,
                                                               .d = s->d,
                                                               .table = s->w_dec,
                                                               .bias = s->b_dec,
                                                               .y = t->error}));
    fct_subtract(t->error, t->error, x, t->batch * s->d); /* x' - x */
    return FCT_OK;
}

static fct_status topk_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d, active = 0;
    bool aux;
    FCT_TRY(forward(t, rows));
    t->now.mse = fct_sum_squares(t->error, n) / fct_step_numbers(t);
    FCT_TRY(fct_dist_sum_f64(p->ranks, &t->now.mse, 1));
    FCT_TRY(fct_step_aux_loss(t, &aux));
    FCT_TRY(fct_step_loss(t, 0));
    if (want_ev) {
        for (int64_t i = 0; i < t->batch * t->k; i++) active += t->value[i] > 0;
        FCT_TRY(fct_step_measure(t, rows, active));
    }
    fct_step_clear_gradients(t);
    fct_scale_to(t->g_rec, t->error, (float)(p->loss_scale * 2 / fct_step_numbers(t)), n);
    FCT_TRY(fct_step_backward_codes(t, t->g_rec, t->index, t->value, t->coef, t->k));
    if (aux && t->now.n_dead > 0)
        FCT_TRY(
            fct_step_backward_codes(t, t->g_aux, t->aux_index, t->aux_value, t->aux_coef, p->auxk));
    return fct_step_backward_bias(t, aux, t->grad[FCT_PARAM_B_ENC]);
}

const fct_variant fct_variant_topk = {
    .name = "topk",
    .codes = "the k strongest features of every row",
    .has_k = true,
    .has_aux = true,
    .kind = FCT_SAE_TOPK,
    .backward = topk_backward,
};

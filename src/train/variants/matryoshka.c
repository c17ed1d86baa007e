/* matryoshka.c - computes losses and gradients of Matryoshka BatchTopK autoencoders (Bussmann et
   al. 2025) on a batch. Codes as BatchTopK's, but the first features alone must rebuild a row as
   well as they can, so that they stay general while later ones add what is particular. The
   features' prefixes F/2^(G-1), ..., F/2, F each give a reconstruction x'_g from the codes that
   fall into them:

       loss = scale * mean over g of mean((x'_g - x)²) + aux_coef * aux, of the whole

   Code f of group g is part of the reconstructions g, g+1, ..., so its gradient comes from the sum
   of their errors. */
#include <string.h>

#include "train/step.h"
#include "train/variant.h"
#include "train/variants/batchtopk.h"

static int64_t prefix_end(const fct_train_plan *p, int64_t group)
{
    return p->f >> (p->groups - 1 - group);
}

static void copy_columns(float *to, int64_t to_width, const float *from, int64_t from_width,
                         int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * to_width, from + r * from_width, (size_t)n * sizeof *to);
}

FCT_CLONES static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

/* t->nested[g] = the miss of prefix g, t->error that of all; returns the mean of their squares. pre
   is scratch from here on: a group's codes side by side. */
static fct_status miss_of_prefixes(fct_trainee *t, const float *x, double *out_mean)
{
    const fct_train_plan *p = &t->plan;
    int64_t d = t->sae->d, n = t->batch * d;
    double sum = 0;
    for (int64_t r = 0; r < t->batch; r++)
        for (int64_t i = 0; i < d; i++) t->error[r * d + i] = t->sae->b_dec[i] - x[r * d + i];
    for (int64_t g = 0, from = 0; g < p->groups; from = prefix_end(p, g++)) {
        int64_t width = prefix_end(p, g) - from;
        copy_columns(t->pre, width, t->z + from, p->f, t->batch, width);
        FCT_TRY(fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = t->pre,
                                                                .b = t->sae->w_dec + from * d,
                                                                .c = t->error,
                                                                .m = t->batch,
                                                                .n = d,
                                                                .k = width,
                                                                .alpha = 1,
                                                                .beta = 1}));
        memcpy(t->nested + g * n, t->error, (size_t)n * sizeof *t->error);
        sum += fct_sum_squares(t->error, n) / fct_step_numbers(t);
    }
    *out_mean = sum / (double)p->groups;
    return FCT_OK;
}

/* Gradients of one group's decoder rows and codes.
   g [B,D] is the gradient of what they decode to. */
static fct_status through_group(fct_trainee *t, const float *g, int64_t from, int64_t width)
{
    const fct_train_plan *p = &t->plan;
    int64_t d = t->sae->d;
    fct_cx *cx = &t->engine.cx;
    copy_columns(t->pre, width, t->z + from, p->f, t->batch, width);
    FCT_TRY(fct_op_matmul(cx, &(fct_matmul_args){.a = t->pre,
                                                 .b = g,
                                                 .c = t->grad[FCT_PARAM_W_DEC] + from * d,
                                                 .m = width,
                                                 .n = d,
                                                 .k = t->batch,
                                                 .trans_a = true,
                                                 .alpha = 1,
                                                 .beta = 1}));
    FCT_TRY(fct_op_matmul(cx, &(fct_matmul_args){.a = g,
                                                 .b = t->sae->w_dec + from * d,
                                                 .c = t->pre,
                                                 .m = t->batch,
                                                 .n = width,
                                                 .k = d,
                                                 .trans_b = true,
                                                 .alpha = 1}));
    copy_columns(t->g_pre + from, p->f, t->pre, width, t->batch, width);
    return FCT_OK;
}

static fct_status matryoshka_backward(fct_trainee *t, const float *x, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d;
    float *bias = t->grad[FCT_PARAM_B_ENC];
    double mean;
    bool aux;
    FCT_TRY(fct_dense_forward(t, x));
    FCT_TRY(fct_batch_select(t));
    FCT_TRY(fct_dense_note_fired(t, t->z));
    FCT_TRY(miss_of_prefixes(t, x, &mean));
    double whole = fct_sum_squares(t->error, n) / fct_step_numbers(t);
    FCT_TRY(fct_dense_losses(t, x, p->loss_scale * (mean - whole), want_ev, &aux));
    fct_step_clear_gradients(t);
    float by = (float)(p->loss_scale * 2 / fct_step_numbers(t) / (double)p->groups);
    memset(t->g_rec, 0, (size_t)n * sizeof *t->g_rec);
    for (int64_t g = p->groups - 1; g >= 0; g--) {
        int64_t from = g > 0 ? prefix_end(p, g - 1) : 0;
        fct_scale_to(t->nested + g * n, t->nested + g * n, by, n);
        add(t->g_rec, t->nested + g * n, n);
        FCT_TRY(through_group(t, t->g_rec, from, prefix_end(p, g) - from));
    }
    for (int64_t i = 0; i < t->batch * p->f; i++)
        if (!(t->z[i] > 0)) t->g_pre[i] = 0;
    FCT_TRY(fct_dense_encoder_gradient(t, t->g_pre, bias));
    return fct_dense_end(t, aux, bias);
}

static fct_status matryoshka_finish(const fct_trainee *t, fct_sae *out)
{
    int64_t size[64], groups = t->plan.groups;
    for (int64_t g = 0, from = 0; g < groups; from = prefix_end(&t->plan, g++))
        size[g] = prefix_end(&t->plan, g) - from;
    FCT_TRY(fct_batch_finish(t, out));
    return fct_sae_set_groups(out, size, groups);
}

const fct_variant fct_variant_matryoshka = {
    .name = "matryoshka",
    .codes = "as batchtopk, in nested groups that must do without the later ones",
    .has_k = true,
    .has_aux = true,
    .has_groups = true,
    .dense = true,
    .kind = FCT_SAE_BATCHTOPK,
    .backward = matryoshka_backward,
    .finish = matryoshka_finish,
};

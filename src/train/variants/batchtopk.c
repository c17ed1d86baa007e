/* batchtopk.c - computes losses and gradients of BatchTopK autoencoders (Bussmann et al. 2024) on a
   batch. Of all activations of a batch of B rows the B*k largest are kept, so that a row may have
   more or fewer than k. A row alone has no batch: inference keeps what lies above a threshold, the
   running mean of the least activation that a batch kept. Losses as TopK's.

   The selection is exact: activations are positive floats, whose bits are in their order, and three
   counts by 11, 11 and 10 bits find the least that is kept. Most activations are passed over, since
   enough lie above half of what the last batches kept. */
#include <math.h>
#include <string.h>

#include "train/step.h"
#include "train/variant.h"
#include "train/variants/batchtopk.h"

static const double threshold_rate = 0.01; /* of the running mean; the plain mean at first */

/* Of relu(x), which are in the order of the numbers; NaN is kept, so that the loss shows it. */
static uint32_t bits_of(float x)
{
    uint32_t bits;
    if (x <= 0) return 0;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

FCT_CLONES static int64_t count_above(const float *x, int64_t n, float bound)
{
    int64_t above = 0;
    for (int64_t i = 0; i < n; i++) above += !(x[i] <= bound);
    return above;
}

/* Counts of this rank's rows become those of the whole batch. */
static fct_status share_counts(fct_dist *ranks, int64_t *count, int64_t n)
{
    double all[2048]; /* exact up to 2^53 */
    if (fct_dist_alone(ranks)) return FCT_OK;
    for (int64_t i = 0; i < n; i++) all[i] = (double)count[i];
    FCT_TRY(fct_dist_sum_f64(ranks, all, n));
    for (int64_t i = 0; i < n; i++) count[i] = (int64_t)all[i];
    return FCT_OK;
}

/* The bits of the `want`th largest of x, and how many of that size are among the `want` largest;
   only those above `bound` are looked at. 0: all that are positive are wanted. */
static fct_status least_kept(const fct_trainee *t, int64_t want, float bound, uint32_t *out,
                             int64_t *out_ties)
{
    const float *x = t->pre;
    int64_t n = t->batch * t->plan.f;
    static const int shift[3] = {21, 10, 0}, width[3] = {11, 11, 10};
    uint32_t prefix = 0;
    int64_t left = want;
    for (int pass = 0; pass < 3; pass++) {
        int64_t count[2048] = {0};
        uint32_t mask = (1u << width[pass]) - 1;
        for (int64_t i = 0; i < n; i++) {
            if (x[i] <= bound) continue;
            uint32_t bits = bits_of(x[i]);
            if (pass > 0 && bits >> (shift[pass] + width[pass]) != prefix) continue;
            count[(bits >> shift[pass]) & mask]++;
        }
        FCT_TRY(share_counts(t->plan.ranks, count, (int64_t)mask + 1));
        int64_t digit = mask;
        while (digit > 0 && count[digit] < left) left -= count[digit--];
        prefix = prefix << width[pass] | (uint32_t)digit;
    }
    *out_ties = left;
    *out = prefix;
    return FCT_OK;
}

/* Of the ties that are kept, those of this rank: the ranks' rows are in order. */
static fct_status share_ties(const fct_trainee *t, uint32_t least, int64_t *ties)
{
    int64_t here = 0, *all = NULL, n = t->batch * t->plan.f;
    fct_dist *ranks = t->plan.ranks;
    if (fct_dist_alone(ranks)) return FCT_OK;
    for (int64_t i = 0; i < n; i++) here += bits_of(t->pre[i]) == least;
    FCT_TRY(fct_new(&all, fct_dist_size(ranks), sizeof *all));
    fct_status st = fct_dist_gather(ranks, &here, sizeof here, all);
    for (int64_t r = 0; r < fct_dist_rank(ranks); r++) *ties -= all[r];
    fct_free(all);
    return st;
}

/* The least activation that the whole batch keeps; 0: there is none. */
static fct_status share_smallest(fct_dist *ranks, float *smallest)
{
    float most = *smallest > 0 ? -*smallest : -INFINITY;
    if (fct_dist_alone(ranks)) return FCT_OK;
    FCT_TRY(fct_dist_max_f32(ranks, &most, 1));
    *smallest = most > -INFINITY ? -most : 0;
    return FCT_OK;
}

fct_status fct_batch_select(fct_trainee *t)
{
    int64_t n = t->batch * t->plan.f, want = t->plan.batch * t->k, ties, above;
    float smallest = 0, bound = (float)(t->now.running / 2);
    uint32_t least;
    above = count_above(t->pre, n, bound);
    FCT_TRY(share_counts(t->plan.ranks, &above, 1));
    if (above < want) bound = 0;
    FCT_TRY(least_kept(t, want, bound, &least, &ties));
    FCT_TRY(share_ties(t, least, &ties));
    memset(t->z, 0, (size_t)n * sizeof *t->z);
    for (int64_t i = 0; i < n; i++) {
        if (t->pre[i] <= bound) continue;
        uint32_t bits = bits_of(t->pre[i]);
        if (bits < least || (bits == least && ties-- <= 0)) continue;
        t->z[i] = t->pre[i];
        if (smallest == 0 || t->pre[i] < smallest) smallest = t->pre[i];
    }
    FCT_TRY(share_smallest(t->plan.ranks, &smallest));
    if (!(smallest > 0)) return FCT_OK;
    double rate = 1 / (double)(t->now.step + 1);
    if (rate < threshold_rate) rate = threshold_rate;
    t->now.running += rate * ((double)smallest - t->now.running);
    return FCT_OK;
}

/* Without a batch to select from: what exceeds the threshold, one for all features. */
fct_status fct_batch_finish(const fct_trainee *t, fct_sae *out)
{
    out->kind = FCT_SAE_BATCHTOPK;
    out->k = t->plan.k;
    if (!out->threshold) FCT_TRY(fct_new(&out->threshold, out->f, sizeof *out->threshold));
    for (int64_t i = 0; i < out->f; i++) out->threshold[i] = (float)t->now.running;
    return FCT_OK;
}

static fct_status batchtopk_backward(fct_trainee *t, const float *x, bool want_ev)
{
    const fct_train_plan *p = &t->plan;
    int64_t n = t->batch * t->sae->d;
    float *bias = t->grad[FCT_PARAM_B_ENC];
    bool aux;
    FCT_TRY(fct_dense_forward(t, x));
    FCT_TRY(fct_batch_select(t));
    FCT_TRY(fct_dense_note_fired(t, t->z));
    FCT_TRY(fct_dense_error(t, t->z, x, t->error));
    FCT_TRY(fct_dense_losses(t, x, 0, want_ev, &aux));
    fct_step_clear_gradients(t);
    fct_scale_to(t->g_rec, t->error, (float)(p->loss_scale * 2 / fct_step_numbers(t)), n);
    FCT_TRY(fct_dense_decoder_gradient(t, t->z, t->g_rec));
    FCT_TRY(fct_dense_code_gradient(t, t->g_rec, t->g_pre));
    for (int64_t i = 0; i < t->batch * p->f; i++)
        if (!(t->z[i] > 0)) t->g_pre[i] = 0;
    FCT_TRY(fct_dense_encoder_gradient(t, t->g_pre, bias));
    return fct_dense_end(t, aux, bias);
}

const fct_variant fct_variant_batchtopk = {
    .name = "batchtopk",
    .codes = "the strongest of a whole batch, k a row on average",
    .has_k = true,
    .has_aux = true,
    .dense = true,
    .kind = FCT_SAE_BATCHTOPK,
    .backward = batchtopk_backward,
    .finish = fct_batch_finish,
};

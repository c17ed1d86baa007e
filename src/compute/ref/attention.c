/* attention.c - computes attention, softmax(scale·q·kᵀ + mask)·v, in the ref backend, one query of
   one head at a time: its scores are the only ones that are ever stored. */
#include <math.h>

#include "compute/ref/ref.h"

typedef struct head { /* one head of one picture, and where its tokens lie */
    const fct_attention_args *a;
    int64_t d, q0, k0, v0;                /* first element of token 0 in q, k, v */
    int64_t q_stride, k_stride, v_stride; /* elements between tokens */
    double scale;
} head;

static double score(const head *h, int64_t i, int64_t j)
{
    double s = 0;
    for (int64_t c = 0; c < h->d; c++)
        s += ref_get(&h->a->q, h->q0 + i * h->q_stride + c) *
             ref_get(&h->a->k, h->k0 + j * h->k_stride + c);
    return s * h->scale;
}

/* weight [keys]: scratch. A NaN among the scores becomes their maximum, and so the whole row. */
static void one_query(const head *h, int64_t i, int64_t keys, int64_t y0, double *weight)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        weight[j] = score(h, i, j);
        if (weight[j] > top || isnan(weight[j])) top = weight[j];
    }
    for (int64_t j = 0; j < keys; j++) {
        weight[j] = exp(weight[j] - top);
        sum += weight[j];
    }
    for (int64_t c = 0; c < h->d; c++) {
        double v = 0;
        for (int64_t j = 0; j < keys; j++)
            v += weight[j] / sum * ref_get(&h->a->v, h->v0 + j * h->v_stride + c);
        ref_set(&h->a->y, y0 + c, v);
    }
}

static void all_heads(const fct_attention_args *a, double *weight)
{
    int64_t batch = a->q.dim[0], tq = a->q.dim[1], tk = a->k.dim[1], c = a->q.dim[2],
            d = c / a->heads;
    head h = {.a = a,
              .d = d,
              .q_stride = a->q_stride ? a->q_stride : c,
              .k_stride = a->k_stride ? a->k_stride : c,
              .v_stride = a->v_stride ? a->v_stride : c,
              .scale = a->scale != 0 ? (double)a->scale : 1 / sqrt((double)d)};
    for (int64_t b = 0; b < batch; b++)
        for (int64_t n = 0; n < a->heads; n++) {
            h.q0 = b * tq * h.q_stride + n * d;
            h.k0 = b * tk * h.k_stride + n * d;
            h.v0 = b * tk * h.v_stride + n * d;
            for (int64_t i = 0; i < tq; i++) {
                int64_t keys = a->causal && i + 1 < tk ? i + 1 : tk;
                one_query(&h, i, keys, (b * tq + i) * c + n * d, weight);
            }
        }
}

fct_status ref_attention(fct_cx *cx, const fct_attention_args *a)
{
    double *weight;
    fct_mark mark = fct_arena_mark(cx->arena);
    FCT_TRY(fct_arena_take(cx->arena, &weight, a->k.dim[1], sizeof *weight));
    if (!fct_arena_dry(cx->arena)) all_heads(a, weight);
    fct_arena_reset(cx->arena, mark);
    return FCT_OK;
}

/* attention.c - softmax(scale·q·kᵀ + mask)·v of the ref backend, one query of one head at a time: the scores of a row are
   computed twice (for their maximum, then for the sum) rather than stored. */
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
        s += ref_get(&h->a->q, h->q0 + i * h->q_stride + c) * ref_get(&h->a->k, h->k0 + j * h->k_stride + c);
    return s * h->scale;
}

static void one_query(const head *h, int64_t i, int64_t keys, int64_t y0)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        double s = score(h, i, j);
        if (s > top || isnan(s)) top = s;
    }
    for (int64_t j = 0; j < keys; j++) sum += exp(score(h, i, j) - top);
    for (int64_t c = 0; c < h->d; c++) {
        double v = 0;
        for (int64_t j = 0; j < keys; j++)
            v += exp(score(h, i, j) - top) / sum * ref_get(&h->a->v, h->v0 + j * h->v_stride + c);
        ref_set(&h->a->y, y0 + c, v);
    }
}

fct_status ref_attention(fct_cx *cx, const fct_attention_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t batch = a->q.dim[0], tq = a->q.dim[1], tk = a->k.dim[1], c = a->q.dim[2], d = c / a->heads;
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
                one_query(&h, i, keys, (b * tq + i) * c + n * d);
            }
        }
    return FCT_OK;
}

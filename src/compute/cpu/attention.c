/* attention.c - softmax(scale·q·kᵀ + mask)·v without ever holding the whole score matrix (Dao et al., FlashAttention):
   a block of queries of one head meets the keys block by block, keeping each row's running maximum and sum. The products
   of a block are oneDNN's sgemm on one thread; the threads share the (picture, head, query block) triples. Blocks are fixed by
   the shape, so the threads change no byte. */
#include <math.h>

#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { Q_BLOCK = 128, K_BLOCK = 512 };

typedef struct plan {
    const fct_attention_args *a;
    int64_t batch, tq, tk, c, d, qb, kb,
        blocks;        /* qb, kb: rows in a block; blocks: of queries, in one head */
    int64_t stride[3]; /* elements between tokens of q, k, v */
    float scale;
    int64_t bytes; /* scratch of one thread */
} plan;

typedef struct piece { /* one thread's scratch */
    float *q, *k,
        *v;       /* converted blocks [qb,d] [kb,d] [kb,d]; f32 inputs are read where they are */
    float *score; /* [qb,kb] */
    float *out;   /* [qb,d] */
    float *top, *sum; /* [qb] running maximum and sum */
} piece;

static piece piece_of(const plan *p, uint8_t *base)
{
    piece s;
    s.q = (float *)(void *)base;
    s.k = s.q + p->qb * p->d;
    s.v = s.k + p->kb * p->d;
    s.score = s.v + p->kb * p->d;
    s.out = s.score + p->qb * p->kb;
    s.top = s.out + p->qb * p->d;
    s.sum = s.top + p->qb;
    return s;
}

static plan plan_of(const fct_attention_args *a)
{
    plan p = {.a = a, .batch = a->q.dim[0], .tq = a->q.dim[1], .tk = a->k.dim[1], .c = a->q.dim[2]};
    p.d = p.c / a->heads;
    p.qb = p.tq < Q_BLOCK ? p.tq : Q_BLOCK;
    p.kb = p.tk < K_BLOCK ? p.tk : K_BLOCK;
    p.blocks = (p.tq + p.qb - 1) / p.qb;
    p.stride[0] = a->q_stride ? a->q_stride : p.c;
    p.stride[1] = a->k_stride ? a->k_stride : p.c;
    p.stride[2] = a->v_stride ? a->v_stride : p.c;
    p.scale = a->scale != 0 ? a->scale : (float)(1 / sqrt((double)p.d));
    p.bytes = (p.qb * (2 * p.d + p.kb + 2) + 2 * p.kb * p.d) * (int64_t)sizeof(float);
    return p;
}

/* `rows` tokens of one head from element `at` on, as floats: in place when they are f32, else a packed copy. */
FCT_CLONES static const float *block(const fct_tensor *t, int64_t at, int64_t stride, int64_t rows,
                                     int64_t d, float *copy, int64_t *ld)
{
    if (t->dtype == FCT_F32) {
        *ld = stride;
        return (const float *)t->data + at;
    }
    for (int64_t r = 0; r < rows; r++)
        vec_load(copy + r * d, t->data, t->dtype, at + r * stride, d);
    *ld = d;
    return copy;
}

/* One row of scores becomes weights e^(s - top); out and sum are brought to the new maximum. `keys` of n are visible. */
FCT_CLONES static void soften(float *score, int64_t n, int64_t keys, float *out, int64_t d,
                              float *top, float *sum)
{
    float lane[VEC_LANES], before = *top;
    int64_t whole = keys / VEC_LANES * VEC_LANES;
    for (int l = 0; l < VEC_LANES; l++) lane[l] = before;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++)
            lane[l] = score[i + l] > lane[l] ? score[i + l] : lane[l];
    float now = before;
    for (int l = 0; l < VEC_LANES; l++) now = lane[l] > now ? lane[l] : now;
    for (int64_t i = whole; i < keys; i++) now = score[i] > now ? score[i] : now;
    if (keys == 0) now = before;
    for (int l = 0; l < VEC_LANES; l++) lane[l] = 0;
    for (int64_t i = 0; i < keys; i++) score[i] = vec_exp(score[i] - now);
    for (int64_t i = keys; i < n; i++) score[i] = 0;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) lane[l] += score[i + l];
    for (int64_t i = whole; i < keys; i++) lane[i - whole] += score[i];
    float shrink = before == -INFINITY ? 0 : vec_exp(before - now);
    if (keys > 0 && shrink != 1)
        for (int64_t i = 0; i < d; i++) out[i] *= shrink;
    if (keys > 0) *sum = *sum * shrink + vec_lanes_sum(lane);
    *top = now;
}

FCT_CLONES static void write_row(const fct_tensor *y, int64_t at, const float *out, int64_t d,
                                 float sum)
{
    float inv = 1 / sum;
    if (y->dtype == FCT_F32) {
        float *to = (float *)y->data + at;
        for (int64_t i = 0; i < d; i++) to[i] = out[i] * inv;
    } else {
        uint16_t *to = (uint16_t *)y->data + at;
        for (int64_t i = 0; i < d; i++) to[i] = vec_to_bf16(out[i] * inv);
    }
}

/* Rows [q0, q0+rows) of head `h` in picture `b`. */
static fct_status query_block(const plan *p, piece s, int64_t b, int64_t h, int64_t q0,
                              int64_t rows)
{
    const fct_attention_args *a = p->a;
    int64_t d = p->d, ldq, ldk, ldv, end = p->tk;
    const float *q =
        block(&a->q, (b * p->tq + q0) * p->stride[0] + h * d, p->stride[0], rows, d, s.q, &ldq);
    for (int64_t r = 0; r < rows; r++) {
        s.top[r] = -INFINITY;
        s.sum[r] = 0;
    }
    memset(s.out, 0, (size_t)(rows * d) * sizeof *s.out);
    if (a->causal && q0 + rows < end) end = q0 + rows; /* later keys are seen by nobody here */
    for (int64_t k0 = 0; k0 < end; k0 += p->kb) {
        int64_t n = end - k0 < p->kb ? end - k0 : p->kb;
        const float *k =
            block(&a->k, (b * p->tk + k0) * p->stride[1] + h * d, p->stride[1], n, d, s.k, &ldk);
        const float *v =
            block(&a->v, (b * p->tk + k0) * p->stride[2] + h * d, p->stride[2], n, d, s.v, &ldv);
        FCT_TRY(dn_sgemm(&(dn_gemm){.trans_b = true,
                                    .m = rows,
                                    .n = n,
                                    .k = d,
                                    .alpha = p->scale,
                                    .a = q,
                                    .lda = ldq,
                                    .b = k,
                                    .ldb = ldk,
                                    .c = s.score,
                                    .ldc = n}));
        for (int64_t r = 0; r < rows; r++) {
            int64_t keys = a->causal && q0 + r + 1 - k0 < n ? q0 + r + 1 - k0 : n;
            soften(s.score + r * n, n, keys > 0 ? keys : 0, s.out + r * d, d, &s.top[r], &s.sum[r]);
        }
        FCT_TRY(dn_sgemm(&(dn_gemm){.m = rows,
                                    .n = d,
                                    .k = n,
                                    .alpha = 1,
                                    .beta = 1,
                                    .a = s.score,
                                    .lda = n,
                                    .b = v,
                                    .ldb = ldv,
                                    .c = s.out,
                                    .ldc = d}));
    }
    for (int64_t r = 0; r < rows; r++)
        write_row(&a->y, (b * p->tq + q0 + r) * p->c + h * d, s.out + r * d, d, s.sum[r]);
    return FCT_OK;
}

fct_status cpu_attention(fct_cx *cx, const fct_attention_args *a)
{
    plan p = plan_of(a);
    uint8_t *base;
    int64_t stride, work = p.batch * a->heads * p.blocks;
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = cpu_thread_scratch(cx, &base, &stride, p.bytes);
    if (st == FCT_OK && !fct_arena_dry(cx->arena)) {
        int failed = 0;
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = 0; i < work; i++) {
            int64_t b = i / (a->heads * p.blocks), h = i / p.blocks % a->heads,
                    q0 = i % p.blocks * p.qb;
            int64_t rows = p.tq - q0 < p.qb ? p.tq - q0 : p.qb;
            piece s = piece_of(&p, base + stride * fct_thread_index());
            if (query_block(&p, s, b, h, q0, rows) != FCT_OK) {
#pragma omp atomic write
                failed = 1;
            }
        }
        if (failed) st = fct_fail(FCT_ERR_INTERNAL, "a product failed");
    }
    fct_arena_reset(cx->arena, mark);
    return st;
}

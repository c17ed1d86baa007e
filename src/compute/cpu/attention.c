/* attention.c - computes attention, softmax(scale·q·kᵀ + mask)·v, without ever holding the whole
   score matrix (Dao et al., FlashAttention): a block of queries of one head meets the keys block by
   block, keeping each row's running maximum and sum. The threads share the (picture, head, query
   block) triples; blocks are fixed by the shape, so the threads change no byte.

   A block's two products are oneDNN's on one thread: f32, or bf16 with f32 results where q, k and v
   are bf16, the machine has instructions for it, and the work is large enough to pay for two
   primitives (weights e^(s - top) are then rounded to bf16 before they meet v, as PyTorch's kernel
   does). */
#include <math.h>

#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { Q_BLOCK = 128, K_BLOCK = 512, HALF_WORK = 1 << 22 };

typedef struct plan {
    const fct_attention_args *a;
    int64_t batch, tq, tk, c, d;
    int64_t qb, kb;    /* rows in a block */
    int64_t blocks;    /* of queries, in one head */
    int64_t stride[3]; /* elements between tokens of q, k, v */
    float scale;
    bool half;
    /* By whether queries, keys are a last, shorter block; NULL: not needed. */
    dn_half *score[2][2], *mix[2][2];
    int64_t pad, bytes; /* scratch of one thread: that of the bf16 products, all of it */
} plan;

typedef struct piece { /* one thread's scratch */
    /* f32 copies of blocks [qb,d] [kb,d] [kb,d], for bf16 inputs of f32 products. */
    float *q, *k, *v;
    float *score;     /* [qb,kb] */
    uint16_t *weight; /* [qb,kb], the bf16 products' */
    float *part;      /* [qb,d] weights times v, of one block of keys */
    float *out;       /* [qb,d] */
    float *top, *sum; /* [qb] running maximum and sum */
    void *pad;        /* the bf16 products' own */
    int thread;
} piece;

typedef struct tile {
    int64_t b, h, q0, rows;
} tile; /* rows [q0, q0+rows) of head h in picture b */

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
    bool bf16 = a->q.dtype == FCT_BF16 && a->k.dtype == FCT_BF16 && a->v.dtype == FCT_BF16;
    p.half = bf16 && !a->causal && p.batch * p.tq * p.tk * p.c >= HALF_WORK && dn_has_bf16();
    int64_t copies = p.half ? 0 : (p.qb + 2 * p.kb) * p.d;
    p.bytes = (copies + p.qb * (2 * p.d + p.kb + 2)) * (int64_t)sizeof(float);
    if (p.half) p.bytes += p.qb * p.kb * (int64_t)sizeof(uint16_t);
    return p;
}

static piece piece_of(const plan *p, uint8_t *base, int thread)
{
    piece s = {.pad = base, .score = (float *)(void *)(base + p->pad), .thread = thread};
    s.out = s.score + p->qb * p->kb;
    s.part = s.out + p->qb * p->d;
    s.top = s.part + p->qb * p->d;
    s.sum = s.top + p->qb;
    float *rest = s.sum + p->qb;
    if (p->half) {
        s.weight = (uint16_t *)(void *)rest;
    } else {
        s.q = rest;
        s.k = s.q + p->qb * p->d;
        s.v = s.k + p->kb * p->d;
    }
    return s;
}

/* ---- one block ---- */

/* `rows` tokens of one head from element `at` on, as floats:
   in place when they are f32, else a packed copy. */
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

/* One row of scores becomes weights e^(scale·s - top), of which `keys` of n are visible. Returns
   the factor that brings what was summed before to the new maximum. */
FCT_CLONES static float soften(float *score, int64_t n, int64_t keys, float scale, float *top,
                               float *sum)
{
    float lane[VEC_LANES], before = *top, now = before;
    int64_t whole = keys / VEC_LANES * VEC_LANES;
    for (int l = 0; l < VEC_LANES; l++) lane[l] = before;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) {
            float v = score[i + l] * scale;
            score[i + l] = v;
            lane[l] = v > lane[l] ? v : lane[l];
        }
    for (int64_t i = whole; i < keys; i++) {
        score[i] *= scale;
        now = score[i] > now ? score[i] : now;
    }
    for (int l = 0; l < VEC_LANES; l++) now = lane[l] > now ? lane[l] : now;
    for (int l = 0; l < VEC_LANES; l++) lane[l] = 0;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) {
            float e = vec_exp(score[i + l] - now);
            score[i + l] = e;
            lane[l] += e;
        }
    for (int64_t i = whole; i < keys; i++) {
        score[i] = vec_exp(score[i] - now);
        lane[i - whole] += score[i];
    }
    for (int64_t i = keys; i < n; i++) score[i] = 0;
    if (keys == 0) return 1;
    float shrink = before == -INFINITY ? 0 : vec_exp(before - now);
    *sum = *sum * shrink + vec_lanes_sum(lane);
    *top = now;
    return shrink;
}

FCT_CLONES static void accumulate(float *out, const float *part, int64_t d, float shrink)
{
    for (int64_t i = 0; i < d; i++) out[i] = out[i] * shrink + part[i];
}

FCT_CLONES static void round_weights(uint16_t *weight, const float *score, int64_t n)
{
    for (int64_t i = 0; i < n; i++) weight[i] = vec_to_bf16(score[i]);
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

/* Of q (0), k (1) or v (2). */
static int64_t element(const plan *p, const tile *t, int which, int64_t token)
{
    return (t->b * (which ? p->tk : p->tq) + token) * p->stride[which] + t->h * p->d;
}

static fct_status scores(const plan *p, const piece *s, const tile *t, int64_t k0, int64_t n)
{
    const fct_attention_args *a = p->a;
    int64_t q_at = element(p, t, 0, t->q0), k_at = element(p, t, 1, k0), ldq, ldk;
    if (p->half)
        return dn_half_run(p->score[t->rows < p->qb][n < p->kb], s->thread,
                           (const uint16_t *)a->q.data + q_at, (const uint16_t *)a->k.data + k_at,
                           s->score, s->pad);
    const float *q = k0 == 0 || a->q.dtype == FCT_F32
                         ? block(&a->q, q_at, p->stride[0], t->rows, p->d, s->q, &ldq)
                         : s->q;
    if (q == s->q) ldq = p->d;
    const float *k = block(&a->k, k_at, p->stride[1], n, p->d, s->k, &ldk);
    return dn_sgemm(&(dn_gemm){.trans_b = true,
                               .m = t->rows,
                               .n = n,
                               .k = p->d,
                               .alpha = 1,
                               .a = q,
                               .lda = ldq,
                               .b = k,
                               .ldb = ldk,
                               .c = s->score,
                               .ldc = n});
}

static fct_status mix(const plan *p, const piece *s, const tile *t, int64_t k0, int64_t n)
{
    const fct_attention_args *a = p->a;
    int64_t v_at = element(p, t, 2, k0), ldv;
    if (p->half) {
        round_weights(s->weight, s->score, t->rows * n);
        return dn_half_run(p->mix[t->rows < p->qb][n < p->kb], s->thread, s->weight,
                           (const uint16_t *)a->v.data + v_at, s->part, s->pad);
    }
    const float *v = block(&a->v, v_at, p->stride[2], n, p->d, s->v, &ldv);
    return dn_sgemm(&(dn_gemm){.m = t->rows,
                               .n = p->d,
                               .k = n,
                               .alpha = 1,
                               .a = s->score,
                               .lda = n,
                               .b = v,
                               .ldb = ldv,
                               .c = s->part,
                               .ldc = p->d});
}

static fct_status run_tile(const plan *p, const piece *s, const tile *t)
{
    const fct_attention_args *a = p->a;
    int64_t d = p->d, end = p->tk;
    float shrink[Q_BLOCK];
    for (int64_t r = 0; r < t->rows; r++) {
        s->top[r] = -INFINITY;
        s->sum[r] = 0;
    }
    memset(s->out, 0, (size_t)(t->rows * d) * sizeof *s->out);
    if (a->causal && t->q0 + t->rows < end)
        end = t->q0 + t->rows; /* later keys are seen by nobody here */
    for (int64_t k0 = 0; k0 < end; k0 += p->kb) {
        int64_t n = end - k0 < p->kb ? end - k0 : p->kb;
        FCT_TRY(scores(p, s, t, k0, n));
        for (int64_t r = 0; r < t->rows; r++) {
            int64_t keys = a->causal && t->q0 + r + 1 - k0 < n ? t->q0 + r + 1 - k0 : n;
            shrink[r] =
                soften(s->score + r * n, n, keys > 0 ? keys : 0, p->scale, &s->top[r], &s->sum[r]);
        }
        FCT_TRY(mix(p, s, t, k0, n));
        for (int64_t r = 0; r < t->rows; r++)
            accumulate(s->out + r * d, s->part + r * d, d, shrink[r]);
    }
    for (int64_t r = 0; r < t->rows; r++)
        write_row(&a->y, (t->b * p->tq + t->q0 + r) * p->c + t->h * d, s->out + r * d, d,
                  s->sum[r]);
    return FCT_OK;
}

/* ---- all of them ---- */

/* The bf16 products: full and last blocks of queries times full and last blocks of keys,
   as far as they occur. */
static fct_status open_half(plan *p)
{
    const int64_t rows[2] = {p->qb, p->tq % p->qb}, keys[2] = {p->kb, p->tk % p->kb};
    int threads = fct_threads();
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            int64_t m = rows[i], n = keys[j];
            if (m == 0 || n == 0) continue;
            dn_half_shape s = {.trans_b = true,
                               .m = m,
                               .n = n,
                               .k = p->d,
                               .lda = p->stride[0],
                               .ldb = p->stride[1],
                               .ldc = n};
            FCT_TRY(dn_half_new(&p->score[i][j], &s, threads));
            s = (dn_half_shape){
                .m = m, .n = p->d, .k = n, .lda = n, .ldb = p->stride[2], .ldc = p->d};
            FCT_TRY(dn_half_new(&p->mix[i][j], &s, threads));
        }
    return FCT_OK;
}

static void close_half(plan *p)
{
    for (int i = 0; i < 4; i++) {
        dn_half_free(p->score[i / 2][i % 2]);
        dn_half_free(p->mix[i / 2][i % 2]);
    }
}

static void count_pad(plan *p)
{
    for (int i = 0; i < 8; i++) {
        const dn_half *h = i < 4 ? p->score[i / 2][i % 2] : p->mix[i / 2 - 2][i % 2];
        if (h && dn_half_scratch(h) > p->pad) p->pad = dn_half_scratch(h);
    }
    p->bytes += p->pad;
}

static fct_status run(const plan *p, uint8_t *base, int64_t stride)
{
    int64_t heads = p->a->heads, work = p->batch * heads * p->blocks;
    fct_failure failed = {0};
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < work; i++) {
        tile t = {
            .b = i / (heads * p->blocks), .h = i / p->blocks % heads, .q0 = i % p->blocks * p->qb};
        t.rows = p->tq - t.q0 < p->qb ? p->tq - t.q0 : p->qb;
        int thread = fct_thread_index();
        piece s = piece_of(p, base + stride * thread, thread);
        fct_status st = run_tile(p, &s, &t);
        if (st != FCT_OK) fct_failure_keep(&failed, st, i);
    }
    return fct_failure_status(&failed);
}

fct_status cpu_attention(fct_cx *cx, const fct_attention_args *a)
{
    plan p = plan_of(a);
    uint8_t *base;
    int64_t stride;
    fct_status st = FCT_OK;
    fct_mark mark = fct_arena_mark(cx->arena);
    if (p.half) FCT_TRY_OUT(open_half(&p));
    count_pad(&p);
    FCT_TRY_OUT(cpu_thread_scratch(cx, &base, &stride, p.bytes));
    if (!fct_arena_dry(cx->arena)) st = run(&p, base, stride);
out:
    close_half(&p);
    fct_arena_reset(cx->arena, mark);
    return st;
}

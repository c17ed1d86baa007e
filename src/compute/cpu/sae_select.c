/* sae_select.c - encoder products that are never written as a whole: tile after tile of rows meets
   the encoder's copy in oneDNN's layout, and each row's candidates are taken from the tile while it
   is in cache. Rows for which the rounded products do not decide are gathered and computed in f32
   at the end. */
#include <math.h>
#include <string.h>

#include "compute/cpu/keys.h"
#include "compute/cpu/sae_train.h"

enum { TILE_NUMBERS = 1 << 20, TILE_LEAST = 64, TILE_MOST = 512, EXACT_ROWS = 64 };
enum { DITHERS = 1024, INT8_MOST = 1 << 16, ZERO = 128 }; /* ZERO: the byte of 0 in rows */

/* ---- which product, in what tiles ---- */

/* Candidates cost a scan and some f32 products a row, so there must be features enough; and rows
   long enough that the product is what costs. int8 has half the time of bf16 wherever it has an
   instruction (VNNI, AMX), and its candidates are a few more (bench/SPEED.md); with a larger share
   of the features selected, its margin would take in too many. Its sums are of 32 bits. */
fct_product cpu_product(int64_t n, int64_t d, int64_t k)
{
    if (d < 64 || n < 512 || n < 16 * k) return FCT_PRODUCT_F32;
    if (dn_has_int8() && n >= 32 * k && d <= INT8_MOST) return FCT_PRODUCT_INT8;
    return dn_has_bf16() ? FCT_PRODUCT_BF16 : FCT_PRODUCT_F32;
}

static dn_shape tile_shape(const fct_encoder *enc)
{
    static const fct_dtype x[] = {FCT_F32, FCT_BF16, FCT_U8}, w[] = {FCT_F32, FCT_BF16, FCT_I8},
                           y[] = {FCT_F32, FCT_BF16, FCT_I32};
    int64_t rows = TILE_NUMBERS * 5 / 4 / enc->n / 32 * 32;
    return (dn_shape){.kind = DN_MATMUL,
                      .x = x[enc->product],
                      .w = w[enc->product],
                      .y = y[enc->product],
                      .batch = 1,
                      .m = rows < TILE_LEAST  ? TILE_LEAST
                           : rows > TILE_MOST ? TILE_MOST
                                              : rows,
                      .n = enc->n,
                      .k = enc->d};
}

/* ---- the copy ---- */

/* Added before rounding to integers: evenly spread over [-1/2,1/2), the same in every run. */
static fct_status make_dither(cpu_encoder *e, int64_t d)
{
    fct_rng rng;
    FCT_TRY(fct_new(&e->dither, d + DITHERS, sizeof *e->dither));
    fct_rng_init(&rng, 1);
    for (int64_t i = 0; i < d + DITHERS; i++) e->dither[i] = (float)(fct_rng_unit(&rng) - 0.5);
    return FCT_OK;
}

static const float *dither_of(const cpu_encoder *e, int64_t row)
{
    return e->dither + row * 619 % DITHERS;
}

fct_status cpu_encoder_new(fct_encoder *enc)
{
    cpu_encoder *e;
    if (enc->product == FCT_PRODUCT_INT8 && (!dn_has_int8() || enc->d > INT8_MOST))
        enc->product = FCT_PRODUCT_F32; /* there it would saturate */
    dn_shape shape = tile_shape(enc);
    FCT_TRY(fct_new(&e, 1, sizeof *e));
    enc->impl = e; /* the caller frees what is half made */
    e->shape = shape;
    FCT_TRY(dn_open(&e->d));
    FCT_TRY(dn_packed_new(&e->packed, e->d, &shape, 1));
    enc->bytes = dn_packed_bytes(e->packed);
    if (enc->product == FCT_PRODUCT_F32) return FCT_OK;
    FCT_TRY(fct_new(&e->norm, enc->n, sizeof *e->norm));
    FCT_TRY(fct_new(&e->miss, enc->n, sizeof *e->miss));
    enc->bytes += 8 * enc->n;
    if (enc->product == FCT_PRODUCT_BF16) return FCT_OK;
    FCT_TRY(fct_new(&e->step, enc->n, sizeof *e->step));
    FCT_TRY(fct_new(&e->zero, enc->n, sizeof *e->zero));
    FCT_TRY(fct_new(&e->byte, enc->n * enc->d, sizeof *e->byte));
    enc->bytes += enc->n * (enc->d + 8) + (enc->d + DITHERS) * 4;
    return make_dither(e, enc->d);
}

void cpu_encoder_free(fct_encoder *enc)
{
    cpu_encoder *e = enc->impl;
    if (!e) return;
    dn_plan_free(e->plan);
    dn_packed_free(e->packed);
    dn_close(e->d);
    fct_free(e->norm);
    fct_free(e->miss);
    fct_free(e->step);
    fct_free(e->byte);
    fct_free(e->zero);
    fct_free(e->dither);
    fct_free(e);
    enc->impl = NULL;
}

/* Sums in f64, so that no size of numbers is lost: |x|² and |x - bf16(x)|². */
FCT_CLONES static void half_norms(const float *x, int64_t n, double *norm, double *miss)
{
    double a[VEC_LANES] = {0}, b[VEC_LANES] = {0};
    int64_t whole = n / VEC_LANES * VEC_LANES;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) {
            float v = x[i + l], off = v - vec_from_bf16(vec_to_bf16(v));
            a[l] += (double)v * (double)v;
            b[l] += (double)off * (double)off;
        }
    for (int64_t i = whole; i < n; i++) {
        float v = x[i], off = v - vec_from_bf16(vec_to_bf16(v));
        a[0] += (double)v * (double)v;
        b[0] += (double)off * (double)off;
    }
    *norm = *miss = 0;
    for (int l = 0; l < VEC_LANES; l++) {
        *norm += a[l];
        *miss += b[l];
    }
}

FCT_CLONES static float largest(const float *x, int64_t n)
{
    float lane[VEC_LANES] = {0}, most = 0;
    int64_t whole = n / VEC_LANES * VEC_LANES;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) {
            float v = fabsf(x[i + l]);
            lane[l] = v > lane[l] ? v : lane[l];
        }
    for (int64_t i = whole; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    for (int l = 0; l < VEC_LANES; l++) most = lane[l] > most ? lane[l] : most;
    return most;
}

/* Adding 1.5 · 2^23 rounds to the nearest integer, which then stands in the low bits. */
FCT_CLONES static void to_bytes(uint8_t *out, const float *x, float by, const float *dither,
                                uint32_t zero, int64_t n)
{
    const float magic = 12582912.0f;
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)(vec_bits(x[i] * by + dither[i] + magic) - vec_bits(magic) + zero);
}

FCT_CLONES static int32_t sum_bytes(const int8_t *x, int64_t n)
{
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* Bytes of n numbers, `zero` for 0; returns what 1 is worth. Numbers too small to be divided by
   stay 0. The largest becomes 126, so that the dither has room. */
static float quantise(uint8_t *out, const float *x, const float *dither, uint32_t zero, int64_t n)
{
    float most = largest(x, n), step = most / 126;
    if (!(step > 1e-35f) || !isfinite(step)) {
        memset(out, (int)zero, (size_t)n);
        return isfinite(step) ? step : NAN;
    }
    to_bytes(out, x, 1 / step, dither, zero, n);
    return step;
}

static float up(double square) /* the root, never rounded down */
{
    return (float)(sqrt(square) * (1 + 1e-6));
}

static const float dither_deviation = 0.40824829f; /* 1/sqrt(6): see sae_candidates.c */

void cpu_encoder_row(cpu_encoder *e, const fct_encoder *enc, int64_t f, const float *w)
{
    double norm, miss;
    if (!e->norm) return;
    half_norms(w, enc->d, &norm, &miss);
    e->norm[f] = up(norm);
    e->miss[f] = up(miss);
    if (!e->step) return;
    int8_t *byte = e->byte + f * enc->d;
    e->step[f] = quantise((uint8_t *)byte, w, dither_of(e, f), 0, enc->d);
    e->zero[f] = ZERO * sum_bytes(byte, enc->d);
    e->miss[f] = dither_deviation * e->step[f];
}

fct_status cpu_encoder_finish(cpu_encoder *e, const fct_encoder *enc, const float *w)
{
    if (e->norm) {
        e->norm_max = largest(e->norm, enc->n);
        e->miss_max = largest(e->miss, enc->n);
        for (int64_t f = 0; f < enc->n; f++) /* maxima lose NaN */
            if (!isfinite(e->norm[f]) || !isfinite(e->miss[f])) e->norm_max = NAN;
    }
    if (e->byte) return dn_packed_fill_from(e->packed, e->d, e->byte, FCT_I8);
    return dn_packed_fill_from(e->packed, e->d, w, FCT_F32);
}

fct_status cpu_encoder_fill(fct_cx *cx, const fct_encoder_fill_args *a)
{
    cpu_encoder *e = a->enc->impl;
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    if (e->norm) {
#pragma omp parallel for schedule(static)
        for (int64_t f = 0; f < a->enc->n; f++) cpu_encoder_row(e, a->enc, f, a->w + f * a->enc->d);
    }
    return cpu_encoder_finish(e, a->enc, a->w);
}

/* ---- a tile ---- */

typedef struct tile { /* scratch of one call */
    uint8_t *x;       /* [m,d] in the product's format */
    uint8_t *z;       /* [m,n] */
    cpu_row *row;     /* [m] */
    uint8_t *undecided, *room, *pad;
    int64_t room_stride;
    cpu_list list;
} tile;

static fct_status ensure_plan(cpu_encoder *e)
{
    int threads = fct_threads();
    if (e->plan && e->shape.threads == threads) return FCT_OK;
    dn_plan_free(e->plan);
    e->plan = NULL;
    e->shape.threads = threads;
    return dn_plan_new(&e->plan, e->d, &e->shape, e->packed);
}

static int64_t size_of(fct_dtype t)
{
    return t == FCT_BF16 ? 2 : t == FCT_U8 ? 1 : 4;
}

static fct_status take_tile(fct_cx *cx, tile *t, const fct_select_args *a, const cpu_encoder *e,
                            const cpu_candidates *c)
{
    const dn_shape *s = &e->shape;
    FCT_TRY(fct_arena_take(cx->arena, &t->x, s->m * s->k, size_of(s->x)));
    FCT_TRY(fct_arena_take(cx->arena, &t->z, s->m * s->n, size_of(s->y)));
    FCT_TRY(fct_arena_take(cx->arena, &t->row, s->m, sizeof *t->row));
    FCT_TRY(fct_arena_take(cx->arena, &t->undecided, a->rows, 1));
    FCT_TRY(fct_arena_take(cx->arena, &t->pad, dn_plan_scratch(e->plan), 1));
    FCT_TRY(cpu_list_take(cx, &t->list, a));
    return cpu_thread_scratch(cx, &t->room, &t->room_stride, cpu_candidates_bytes(c));
}

FCT_CLONES static void centre(float *y, const float *x, const float *shift, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - shift[i];
}

FCT_CLONES static void to_half(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = vec_to_bf16(x[i]);
}

/* Row r of the rows, the i-th of the tile: centred, rounded, and what the rounding did. */
static void prepare(tile *t, const fct_select_args *a, const cpu_encoder *e, int64_t r, int64_t i)
{
    int64_t d = a->enc->d;
    double norm = 0, miss = 0;
    float *x = a->centred + r * d;
    cpu_row *row = &t->row[i];
    centre(x, a->x + r * d, a->shift, d);
    *row = (cpu_row){.z = t->z + i * e->shape.n * size_of(e->shape.y), .x = x};
    if (a->enc->product == FCT_PRODUCT_F32) {
        memcpy(t->x + i * d * 4, x, (size_t)d * 4);
        return;
    }
    half_norms(x, d, &norm, &miss);
    row->norm = up(norm);
    row->miss = up(miss);
    if (a->enc->product == FCT_PRODUCT_BF16) {
        to_half((uint16_t *)(void *)t->x + i * d, x, d);
        return;
    }
    row->step = quantise(t->x + i * d, x, dither_of(e, r), ZERO, d);
    row->miss = dither_deviation * row->step;
}

/* One row of a tile: its codes, or its candidates where those of all rows are kept. */
static void find_row(const tile *t, const fct_select_args *a, const cpu_encoder *e,
                     cpu_candidates *c, int64_t r, const cpu_row *row)
{
    const cpu_list *l = &t->list;
    if (!l->most) {
        t->undecided[r] =
            !cpu_candidates_select(c, e, a, row, a->index + r * a->k, a->value + r * a->k);
        return;
    }
    int64_t m = cpu_candidates_find(c, e, a, row);
    t->undecided[r] = m < 0 || m > l->most;
    l->count[r] = t->undecided[r] ? 0 : (int32_t)m;
    memcpy(l->index + r * l->most, c->index, (size_t)l->count[r] * sizeof *l->index);
}

FCT_CLONES static void add_bias(float *z, const float *bias, int64_t n)
{
    for (int64_t i = 0; i < n; i++) z[i] += bias[i];
}

/* A tile whose products are f32 already. */
static fct_status exact_tile(fct_cx *cx, const tile *t, const fct_select_args *a, int64_t r,
                             int64_t rows)
{
    float *z = (float *)(void *)t->z;
    int64_t n = a->enc->n;
    if (!fct_arena_dry(cx->arena)) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < rows; i++) add_bias(z + i * n, a->bias, n);
    }
    return cpu_topk(cx, &(fct_topk_args){.x = z,
                                         .rows = rows,
                                         .n = n,
                                         .k = a->k,
                                         .any_order = a->any_order,
                                         .index = a->index + r * a->k,
                                         .value = a->value + r * a->k});
}

static fct_status run_tile(fct_cx *cx, tile *t, const fct_select_args *a, cpu_encoder *e,
                           const cpu_candidates *size, int64_t at)
{
    int64_t rows = a->rows - at < e->shape.m ? a->rows - at : e->shape.m;
    int64_t x_bytes = e->shape.k * size_of(e->shape.x);
    if (rows < e->shape.m) /* the rest of the last tile */
        memset(t->x + rows * x_bytes, 0, (size_t)((e->shape.m - rows) * x_bytes));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) prepare(t, a, e, at + i, i);
    FCT_TRY(dn_plan_run(e->plan, e->d,
                        &(dn_io){.x = t->x, .w = e->packed, .y = t->z, .scratch = t->pad}));
    if (a->enc->product == FCT_PRODUCT_F32) return exact_tile(cx, t, a, at, rows);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        cpu_candidates c = *size;
        cpu_candidates_place(&c, t->room + t->room_stride * fct_thread_index());
        find_row(t, a, e, &c, at + i, &t->row[i]);
    }
    return FCT_OK;
}

/* After all tiles, where candidates were kept. */
static void take_rows(const tile *t, const fct_select_args *a, const cpu_candidates *size)
{
    const cpu_list *l = &t->list;
    cpu_list_products(l, a);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        cpu_candidates c = *size;
        if (t->undecided[r]) continue;
        cpu_candidates_place(&c, t->room + t->room_stride * fct_thread_index());
        cpu_candidates_take(&c, a, l->index + r * l->most, l->product + r * l->most, l->count[r],
                            a->index + r * a->k, a->value + r * a->k);
    }
}

/* ---- rows in f32 ---- */

typedef struct exact { /* rows gathered from anywhere */
    float *x, *z, *value;
    int32_t *index;
    int64_t *row, n;
} exact;

static fct_status take_exact(fct_cx *cx, exact *g, const fct_select_args *a)
{
    FCT_TRY(fct_arena_take(cx->arena, &g->x, EXACT_ROWS * a->enc->d, sizeof *g->x));
    FCT_TRY(fct_arena_take(cx->arena, &g->z, EXACT_ROWS * a->enc->n, sizeof *g->z));
    FCT_TRY(fct_arena_take(cx->arena, &g->value, EXACT_ROWS * a->k, sizeof *g->value));
    FCT_TRY(fct_arena_take(cx->arena, &g->index, EXACT_ROWS * a->k, sizeof *g->index));
    return fct_arena_take(cx->arena, &g->row, EXACT_ROWS, sizeof *g->row);
}

static fct_status run_exact(fct_cx *cx, exact *g, const fct_select_args *a)
{
    int64_t d = a->enc->d, n = a->enc->n, rows = fct_arena_dry(cx->arena) ? EXACT_ROWS : g->n;
    if (!fct_arena_dry(cx->arena)) {
        for (int64_t i = 0; i < rows; i++) {
            memcpy(g->x + i * d, a->centred + g->row[i] * d, (size_t)d * sizeof *g->x);
            memcpy(g->z + i * n, a->bias, (size_t)n * sizeof *g->z);
        }
        FCT_TRY(dn_sgemm(&(dn_gemm){.trans_b = true,
                                    .m = rows,
                                    .n = n,
                                    .k = d,
                                    .alpha = 1,
                                    .beta = 1,
                                    .a = g->x,
                                    .lda = d,
                                    .b = a->w,
                                    .ldb = d,
                                    .c = g->z,
                                    .ldc = n}));
    }
    FCT_TRY(cpu_topk(cx, &(fct_topk_args){.x = g->z,
                                          .rows = rows,
                                          .n = n,
                                          .k = a->k,
                                          .any_order = a->any_order,
                                          .index = g->index,
                                          .value = g->value}));
    for (int64_t i = 0; i < rows && !fct_arena_dry(cx->arena); i++) {
        memcpy(a->index + g->row[i] * a->k, g->index + i * a->k, (size_t)a->k * sizeof *g->index);
        memcpy(a->value + g->row[i] * a->k, g->value + i * a->k, (size_t)a->k * sizeof *g->value);
    }
    g->n = 0;
    return FCT_OK;
}

static fct_status run_undecided(fct_cx *cx, const tile *t, const fct_select_args *a)
{
    exact g = {0};
    int64_t count = 0;
    FCT_TRY(take_exact(cx, &g, a));
    if (fct_arena_dry(cx->arena)) return run_exact(cx, &g, a);
    /* no rows: the scratch that a dry run has counted */
    FCT_TRY(cpu_topk(cx, &(fct_topk_args){.n = a->enc->n, .k = a->k}));
    for (int64_t r = 0; r < a->rows; r++) {
        if (!t->undecided[r]) continue;
        g.row[g.n++] = r;
        count++;
        if (g.n == EXACT_ROWS) FCT_TRY(run_exact(cx, &g, a));
    }
    if (a->recomputed) *a->recomputed = count;
    return g.n > 0 ? run_exact(cx, &g, a) : FCT_OK;
}

fct_status cpu_select(fct_cx *cx, const fct_select_args *a)
{
    cpu_encoder *e = a->enc->impl;
    cpu_candidates size = cpu_candidates_size(a->enc->n, a->k);
    tile t = {0};
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = FCT_OK;
    bool rounded = a->enc->product != FCT_PRODUCT_F32;
    FCT_TRY_OUT(ensure_plan(e));
    FCT_TRY_OUT(take_tile(cx, &t, a, e, &size));
    if (a->recomputed) *a->recomputed = 0;
    if (fct_arena_dry(cx->arena)) {
        if (!rounded) FCT_TRY_OUT(exact_tile(cx, &t, a, 0, e->shape.m));
    } else {
        for (int64_t at = 0; at < a->rows; at += e->shape.m)
            FCT_TRY_OUT(run_tile(cx, &t, a, e, &size, at));
        if (t.list.most) take_rows(&t, a, &size);
    }
    if (rounded) FCT_TRY_OUT(run_undecided(cx, &t, a));
out:
    fct_arena_reset(cx->arena, mark);
    return st;
}

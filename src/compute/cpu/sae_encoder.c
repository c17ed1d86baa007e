/* sae_encoder.c - keeps a rounded copy of an SAE's encoder in the layout that oneDNN chose, with
   what the rounding did to each row, and the plans that multiply with it. */
#include <math.h>
#include <string.h>

#include "compute/cpu/sae_train.h"
#include "compute/cpu/vec.h"

enum { OWN_NUMBERS = 327680, SHARED_NUMBERS = 1310720 }; /* of one tile */
enum { DITHERS = 1024, INT8_MOST = 1 << 16, ZERO = 128 }; /* ZERO: the byte of 0 in rows */

/* ---- which product, in what tiles ---- */

/* Candidates cost a scan and some f32 products a row: so many features for each selected one, so
   many numbers a row that the product is what costs. Times in bench/SPEED.md. int8 has half the
   time of bf16 wherever it has an instruction (VNNI, AMX); its sums are of 32 bits. The first row
   that fits; none: f32. */
static const struct {
    fct_product product;
    bool (*can)(void);
    int64_t d, d_most, n, share; /* least numbers a row, features, features for each of the k */
} product_table[] = {
    {FCT_PRODUCT_INT8, dn_has_int8, 256, INT8_MOST, 512, 16},
    {FCT_PRODUCT_INT8, dn_has_int8, 64, INT8_MOST, 512, 64},
    {FCT_PRODUCT_BF16, dn_has_bf16, 256, INT64_MAX, 512, 16},
    {FCT_PRODUCT_BF16, dn_has_bf16, 64, INT64_MAX, 512, 64},
};

fct_product cpu_product(int64_t n, int64_t d, int64_t k)
{
    for (size_t i = 0; i < FCT_COUNT(product_table); i++)
        if (d >= product_table[i].d && d <= product_table[i].d_most && n >= product_table[i].n &&
            n / product_table[i].share >= k && product_table[i].can())
            return product_table[i].product;
    return FCT_PRODUCT_F32;
}

/* Rounded products are each thread's own affair, whose tile is scanned where it was written, in
   the second-level cache; f32 ones are large, of all threads together. */
static dn_shape tile_shape(const fct_encoder *enc)
{
    static const fct_dtype x[] = {FCT_F32, FCT_BF16, FCT_U8}, w[] = {FCT_F32, FCT_BF16, FCT_I8},
                           y[] = {FCT_F32, FCT_BF16, FCT_I32};
    bool own = enc->product != FCT_PRODUCT_F32;
    int64_t rows = (own ? OWN_NUMBERS : SHARED_NUMBERS) / enc->n / 16 * 16;
    int64_t least = own ? 16 : 64, most = own ? 128 : 512;
    return (dn_shape){.kind = DN_MATMUL,
                      .x = x[enc->product],
                      .w = w[enc->product],
                      .y = y[enc->product],
                      .batch = 1,
                      .m = rows < least ? least : rows > most ? most : rows,
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
    cpu_encoder_close_lanes(e);
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

/* |x|² in f32; 0 or infinite where that is too narrow. */
FCT_CLONES static float squares(const float *x, int64_t n)
{
    float lane[VEC_LANES] = {0};
    int64_t whole = n / VEC_LANES * VEC_LANES;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) lane[l] += x[i + l] * x[i + l];
    for (int64_t i = whole; i < n; i++) lane[i - whole] += x[i] * x[i];
    return vec_lanes_sum(lane);
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

/* What rounding to bytes does to a row; `zero` is the byte of 0. */
static void round_to_bytes(const cpu_encoder *e, uint8_t *out, const float *x, int64_t d, int64_t r,
                           uint32_t zero, cpu_rounding *to)
{
    double norm = (double)squares(x, d) * (1 + 1e-4), miss; /* more than its sums can be off */
    if (!(norm > 1e-20 && norm < 1e30)) half_norms(x, d, &norm, &miss);
    to->norm = up(norm);
    to->step = quantise(out, x, e->dither + r * 619 % DITHERS, zero, d);
    to->miss = dither_deviation * to->step;
}

FCT_CLONES static void to_half(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = vec_to_bf16(x[i]);
}

void cpu_encoder_round(const cpu_encoder *e, const fct_encoder *enc, int64_t r, const float *x,
                       void *out, cpu_rounding *to)
{
    double norm, miss;
    if (enc->product == FCT_PRODUCT_INT8) {
        round_to_bytes(e, out, x, enc->d, r, ZERO, to);
        return;
    }
    half_norms(x, enc->d, &norm, &miss);
    *to = (cpu_rounding){.norm = up(norm), .miss = up(miss)};
    to_half(out, x, enc->d);
}

void cpu_encoder_row(cpu_encoder *e, const fct_encoder *enc, int64_t f, const float *w)
{
    cpu_rounding r;
    double norm, miss;
    if (enc->product == FCT_PRODUCT_INT8) {
        int8_t *byte = e->byte + f * enc->d;
        round_to_bytes(e, (uint8_t *)byte, w, enc->d, f, 0, &r);
        e->step[f] = r.step;
        e->zero[f] = ZERO * sum_bytes(byte, enc->d);
    } else if (enc->product == FCT_PRODUCT_BF16) { /* oneDNN rounds when it lays them out */
        half_norms(w, enc->d, &norm, &miss);
        r = (cpu_rounding){.norm = up(norm), .miss = up(miss)};
    } else {
        return;
    }
    e->norm[f] = r.norm;
    e->miss[f] = r.miss;
}

fct_status cpu_encoder_finish(cpu_encoder *e, const fct_encoder *enc, const float *w)
{
    if (e->norm) {
        e->norm_max = largest(e->norm, enc->n);
        e->miss_max = largest(e->miss, enc->n);
        for (int64_t f = 0; f < enc->n; f++) /* maxima lose NaN */
            if (!isfinite(e->norm[f]) || !isfinite(e->miss[f])) e->norm_max = NAN;
    }
    if (e->byte) return dn_packed_fill_from(e->packed, e->byte, FCT_I8);
    return dn_packed_fill_from(e->packed, w, FCT_F32);
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

/* ---- plans ---- */

void cpu_encoder_close_lanes(cpu_encoder *e)
{
    for (int i = 0; i < e->lanes; i++) {
        dn_plan_free(e->lane[i].plan);
        dn_close(e->lane[i].d);
    }
    fct_free(e->lane);
    e->lane = NULL;
    e->lanes = 0;
}

fct_status cpu_encoder_open_lanes(cpu_encoder *e, const fct_encoder *enc)
{
    int threads = fct_threads();
    if (e->lane && e->shape.threads == threads) return dn_plan_ready(e->lane[0].plan, e->packed);
    cpu_encoder_close_lanes(e);
    e->shape.threads = threads;
    int lanes = enc->product == FCT_PRODUCT_F32 ? 1 : threads;
    FCT_TRY(fct_new(&e->lane, lanes, sizeof *e->lane));
    for (e->lanes = 0; e->lanes < lanes;) {
        cpu_lane *l = &e->lane[e->lanes++];
        FCT_TRY(dn_beside(&l->d, e->d));
        FCT_TRY(dn_plan_new(&l->plan, l->d, &e->shape, e->packed));
    }
    return dn_plan_ready(e->lane[0].plan, e->packed);
}

/* sae_candidates.c - finds the k best features of one row from rounded products: every feature that
   could be among them given the rounding is computed again in f32, and the best of those are taken.

   First with one bound for the whole row, which the scan compares with; then, among what that left,
   with each feature's own.

   bf16: with z the rounded product plus bias and e a bound of its error, let t be the k-th largest
   z - e. k features are at least t, so one whose z + e is less than t is not among the k best.
   x·w - x'·w' = (x - x')·w + x'·(w - w') is at most |x - x'||w| + |x'||w - w'|; then z is rounded
   to bf16, at most 2^-9 of itself; sums in f32 are off by a hair of |x||w|.

   int8: a proof like that would leave three times as many candidates. Instead numbers are rounded
   up or down at random, by a dither that is added first: so errors average 0 and are independent of
   the numbers, whatever these are. (Rounded to the nearest, rows of few different numbers, or on a
   grid, have errors that add up along like weights.) On average over numbers a step s gives a
   deviation of s/sqrt(6). Let t be the k-th largest z: if one with less is among the k best after
   all, it has overtaken one of those k, so their errors differ by t - z or more. That is ruled out
   where t - z is 8 standard deviations of the difference of two that are at right angles (nearer
   ones share errors). By Hoeffding's bound such a pair comes once in 10^9 at most. */
#include <math.h>

#include "compute/cpu/keys.h"
#include "compute/cpu/sae_train.h"

enum { BLOCK = 64, DEVIATIONS = 8 };
static const float half_ulp = 1.01f / 512; /* of bf16 */
static const float sum_error = 1e-5f;      /* of f32 sums, as a share of |x||w| */
static const float copy_longer = 1.004f;   /* |x'| <= (1 + 2^-8)|x| */

cpu_candidates cpu_candidates_size(int64_t n, int64_t k)
{
    (void)n;
    return (cpu_candidates){.cap = (4 * k + 8 * BLOCK) / BLOCK * BLOCK,
                            .width = (2 * k + BLOCK) / BLOCK * BLOCK};
}

int64_t cpu_candidates_bytes(const cpu_candidates *c)
{
    int64_t key = (int64_t)sizeof *c->key, one = (int64_t)sizeof(float);
    return c->cap * (key + 2 * one) + c->width * one;
}

void cpu_candidates_place(cpu_candidates *c, uint8_t *base)
{
    c->key = (uint64_t *)(void *)base;
    c->high = (float *)(void *)(c->key + c->cap);
    c->index = (int32_t *)(void *)(c->high + c->cap);
    c->lane = (float *)(void *)(c->index + c->cap);
}

/* BLOCK entries from c on, with their bias. */
CPU_INLINE void load_block(float *out, const cpu_row *row, const cpu_encoder *e, const float *bias,
                           int64_t c, bool bytes)
{
    if (bytes) {
        const int32_t *z = (const int32_t *)row->z + c;
        float step = row->rounding.step;
        for (int i = 0; i < BLOCK; i++)
            out[i] = (float)(z[i] - e->zero[c + i]) * (step * e->step[c + i]) + bias[c + i];
    } else {
        const uint16_t *z = (const uint16_t *)row->z + c;
        for (int i = 0; i < BLOCK; i++) out[i] = vec_from_bf16(z[i]) + bias[c + i];
    }
}

static float one_entry(const cpu_row *row, const cpu_encoder *e, const float *bias, int64_t f)
{
    if (e->step) {
        int32_t z = ((const int32_t *)row->z)[f] - e->zero[f];
        return (float)z * (row->rounding.step * e->step[f]) + bias[f];
    }
    return vec_from_bf16(((const uint16_t *)row->z)[f]) + bias[f];
}

/* bf16: of one product. */
CPU_INLINE float error_bound(const cpu_rounding *x, float norm, float miss, float product)
{
    return x->miss * norm + copy_longer * x->norm * miss + half_ulp * product +
           sum_error * x->norm * norm;
}

/* int8: the variance of one product's error. */
CPU_INLINE float variance(const cpu_rounding *x, float norm, float miss)
{
    float a = x->miss * norm, b = x->norm * miss;
    return a * a + b * b;
}

/* int8: how far apart the errors of two products are, given the sum of their variances. */
CPU_INLINE float apart(const cpu_rounding *x, const cpu_encoder *e, float variances)
{
    return (float)DEVIATIONS * sqrtf(variances) + 2 * sum_error * x->norm * e->norm_max;
}

/* A lower bound of the k-th largest entry: lanes [width] take every width-th block entry, and the
   k-th largest of their maxima stands for k different entries. */
FCT_CLONES static float lower_bound(cpu_candidates *c, const cpu_row *row, const cpu_encoder *e,
                                    const float *bias, int64_t n, int64_t k)
{
    bool bytes = e->step != NULL;
    int64_t width = c->width;
    for (int64_t j = 0; j < width; j++) c->lane[j] = -INFINITY;
    for (int64_t at = 0, j = 0; at + BLOCK <= n;
         at += BLOCK, j = j + BLOCK < width ? j + BLOCK : 0) {
        float z[BLOCK], *lane = c->lane + j;
        if (bytes)
            load_block(z, row, e, bias, at, true);
        else
            load_block(z, row, e, bias, at, false);
        for (int i = 0; i < BLOCK; i++) lane[i] = z[i] > lane[i] ? z[i] : lane[i];
    }
    for (int64_t j = 0; j < width; j++) c->key[j] = key_make(key_order(c->lane[j]), j);
    key_select(c->key, width, k);
    return key_value(key_least(c->key, k));
}

/* Indices of entries that reach the bar; -1: more than there is room for. */
FCT_CLONES static int64_t collect(cpu_candidates *c, const cpu_row *row, const cpu_encoder *e,
                                  const float *bias, int64_t n, float bar)
{
    bool bytes = e->step != NULL;
    int64_t fill = 0, whole = n / BLOCK * BLOCK;
    for (int64_t at = 0; at < whole; at += BLOCK) {
        float z[BLOCK];
        uint32_t reaching = 0;
        if (bytes)
            load_block(z, row, e, bias, at, true);
        else
            load_block(z, row, e, bias, at, false);
        for (int i = 0; i < BLOCK; i++) reaching += !(z[i] < bar);
        if (reaching == 0) continue;
        if (fill + BLOCK > c->cap) return -1;
        for (int i = 0; i < BLOCK; i++) { /* every entry is written, those that count stay */
            c->index[fill] = (int32_t)(at + i);
            fill += !(z[i] < bar);
        }
    }
    if (fill + BLOCK > c->cap) return -1;
    for (int64_t f = whole; f < n; f++) {
        c->index[fill] = (int32_t)f;
        fill += !(one_entry(row, e, bias, f) < bar);
    }
    return fill;
}

/* Keeps those of m whose own bound lets them be among the k best. */
static int64_t refine_halves(cpu_candidates *c, const cpu_row *row, const cpu_encoder *e,
                             const float *bias, int64_t m, int64_t k)
{
    int64_t keep = 0;
    for (int64_t i = 0; i < m; i++) {
        int64_t f = c->index[i];
        float z = one_entry(row, e, bias, f), product = fabsf(z - bias[f]);
        float bound = error_bound(&row->rounding, e->norm[f], e->miss[f], product);
        c->key[i] = key_make(key_order(z - bound), i);
        c->high[i] = z + bound; /* its upper end */
    }
    key_select(c->key, m, k);
    float bar = key_value(key_least(c->key, k));
    for (int64_t i = 0; i < m; i++) {
        c->index[keep] = c->index[i];
        keep += !(c->high[i] < bar);
    }
    return keep;
}

static int64_t refine_bytes(cpu_candidates *c, const cpu_row *row, const cpu_encoder *e,
                            const float *bias, int64_t m, int64_t k)
{
    int64_t keep = 0;
    float most = 0; /* variance of those that are k best as they stand */
    for (int64_t i = 0; i < m; i++) {
        int64_t f = c->index[i];
        c->high[i] = one_entry(row, e, bias, f);
        c->key[i] = key_make(key_order(c->high[i]), i);
    }
    key_select(c->key, m, k);
    float bar = key_value(key_least(c->key, k));
    for (int64_t j = 0; j < k; j++) {
        int64_t f = c->index[key_index(c->key[j])];
        float v = variance(&row->rounding, e->norm[f], e->miss[f]);
        most = v > most ? v : most;
    }
    for (int64_t i = 0; i < m; i++) {
        int64_t f = c->index[i];
        float v = variance(&row->rounding, e->norm[f], e->miss[f]);
        float reach = apart(&row->rounding, e, most + v);
        c->index[keep] = (int32_t)f;
        keep += !(c->high[i] < bar - reach);
    }
    return keep;
}

/* x·w, while the row that comes next is fetched. */
FCT_CLONES static float dot(const float *x, const float *w, const float *next, int64_t n)
{
    float lane[VEC_LANES] = {0};
    int64_t whole = n / VEC_LANES * VEC_LANES;
    for (int64_t i = 0; i < whole; i += VEC_LANES) {
        for (int l = 0; l < VEC_LANES; l += 16) __builtin_prefetch(next + i + l);
        for (int l = 0; l < VEC_LANES; l++) lane[l] += x[i + l] * w[i + l];
    }
    for (int64_t i = whole; i < n; i++) lane[i - whole] += x[i] * w[i];
    return vec_lanes_sum(lane);
}

static void rescore(cpu_candidates *c, const fct_select_args *a, const float *x, int64_t m)
{
    int64_t d = a->enc->d;
    for (int64_t i = 0; i < m; i++) {
        int64_t f = c->index[i], next = c->index[i + 1 < m ? i + 1 : i];
        c->high[i] = dot(x, a->w + f * d, a->w + next * d, d);
    }
}

int64_t cpu_candidates_find(cpu_candidates *c, const cpu_encoder *e, const fct_select_args *a,
                            const cpu_row *row)
{
    int64_t n = a->enc->n, k = a->k;
    const cpu_rounding *x = &row->rounding;
    float most = x->norm * e->norm_max; /* of any product */
    float margin = e->step ? apart(x, e, 2 * variance(x, e->norm_max, e->miss_max))
                           : 2 * error_bound(x, e->norm_max, e->miss_max, most);
    if (!isfinite(margin)) return -1;
    float bar = lower_bound(c, row, e, a->bias, n, k) - margin;
    if (!isfinite(bar)) return -1;
    int64_t m = collect(c, row, e, a->bias, n, bar);
    if (m < k) return -1;
    return e->step ? refine_bytes(c, row, e, a->bias, m, k)
                   : refine_halves(c, row, e, a->bias, m, k);
}

void cpu_candidates_take(cpu_candidates *c, const fct_select_args *a, const int32_t *from,
                         const float *product, int64_t m, int32_t *index, float *value)
{
    int64_t k = a->k;
    for (int64_t i = 0; i < m; i++)
        c->key[i] = key_make(key_order(product[i] + a->bias[from[i]]), from[i]);
    key_select(c->key, m, k);
    if (!a->any_order) key_sort(c->key, k);
    for (int64_t j = 0; j < k; j++) {
        float v = key_value((uint32_t)(c->key[j] >> 32));
        index[j] = (int32_t)key_index(c->key[j]);
        value[j] = v <= 0 ? 0 : v;
    }
}

bool cpu_candidates_select(cpu_candidates *c, const cpu_encoder *e, const fct_select_args *a,
                           const cpu_row *row, int32_t *index, float *value)
{
    int64_t m = cpu_candidates_find(c, e, a, row);
    if (m < 0) return false;
    rescore(c, a, row->x, m);
    cpu_candidates_take(c, a, c->index, c->high, m, index, value);
    return true;
}

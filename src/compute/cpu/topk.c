/* topk.c - the k largest of each row, exactly. A row is scanned against the k-th largest value seen so far; what exceeds
   it is appended to a buffer, and a full buffer is cut back to its k best, which raises the bar. On random rows about
   k·(1 + ln(n/k)) entries are ever touched. Value and index form one 64-bit key (larger value, then lower index), so there are no
   ties to get wrong. */
#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { BLOCK = 64 };

/* Floats as unsigned numbers of the same order; -0 equals +0, NaN is above everything so that it comes to light. */
CPU_INLINE uint32_t order_of(float v)
{
    uint32_t b = vec_bits(v + 0.0f);
    uint32_t o = b >> 31 ? ~b : b | 0x80000000u;
    return v != v ? 0xffffffffu : o;
}

CPU_INLINE uint64_t key_of(uint32_t order, int64_t i)
{
    return ((uint64_t)order << 32) | (0xffffffffu - (uint32_t)i);
}
static int64_t index_of(uint64_t key)
{
    return (int64_t)(0xffffffffu - (uint32_t)key);
}

static void swap_keys(uint64_t *a, uint64_t *b)
{
    uint64_t t = *a;
    *a = *b;
    *b = t;
}

/* Reorders so that the k largest come first (quickselect, middle as pivot: no state, no randomness). */
static void select_keys(uint64_t *key, int64_t n, int64_t k)
{
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        uint64_t pivot = key[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (key[i] > pivot) i++;
            while (key[j] < pivot) j--;
            if (i <= j) swap_keys(&key[i++], &key[j--]);
        }
        if (k - 1 <= j)
            hi = j;
        else if (k - 1 >= i)
            lo = i;
        else
            return;
    }
}

static void sift(uint64_t *key, int64_t root, int64_t n) /* smallest at the top */
{
    for (int64_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && key[child + 1] < key[child]) child++;
        if (key[root] <= key[child]) return;
        swap_keys(&key[root], &key[child]);
    }
}

static void sort_keys(uint64_t *key,
                      int64_t n) /* largest first: by insertion, long ones as a heap */
{
    if (n <= 32) {
        for (int64_t i = 1; i < n; i++)
            for (int64_t j = i; j > 0 && key[j] > key[j - 1]; j--) swap_keys(&key[j], &key[j - 1]);
        return;
    }
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift(key, i, n);
    for (int64_t i = n - 1; i > 0; i--) {
        swap_keys(&key[0], &key[i]);
        sift(key, 0, i);
    }
}

static uint64_t smallest(const uint64_t *key, int64_t n)
{
    uint64_t least = key[0];
    for (int64_t i = 1; i < n; i++) least = key[i] < least ? key[i] : least;
    return least;
}

/* How many of the block exceed the bar; NaN does. */
CPU_INLINE uint32_t count_above(const float *x, float bar)
{
    uint32_t above = 0;
    for (int i = 0; i < BLOCK; i++) above += !(x[i] <= bar);
    return above;
}

/* The keys of the k best candidates into buffer [cap], unordered; returns how many there are (less than k when masked).
   Appending has no branch: every entry is written, and the place moves on only past those that count. */
FCT_CLONES static int64_t scan(uint64_t *buffer, int64_t cap, const float *x, const uint8_t *mask,
                               int64_t n, int64_t k)
{
    int64_t fill = 0;
    uint32_t bar =
        0; /* the k-th best so far; later entries must exceed it: equal ones have higher indices */
    float bar_value = 0;
    bool full = false;
    for (int64_t c = 0; c < n; c += BLOCK) {
        int64_t m = n - c < BLOCK ? n - c : BLOCK;
        if (full && m == BLOCK && count_above(x + c, bar_value) == 0) continue;
        if (fill + BLOCK > cap) {
            select_keys(buffer, fill, k);
            fill = k;
            full = true;
            uint64_t least = smallest(buffer, k);
            bar = (uint32_t)(least >> 32);
            bar_value = x[index_of(least)];
        }
        for (int64_t i = 0; i < m; i++) {
            uint32_t o = order_of(x[c + i]);
            buffer[fill] = key_of(o, c + i);
            fill += (!full | (o > bar)) & (!mask || mask[c + i] != 0);
        }
    }
    if (fill > k) select_keys(buffer, fill, k);
    return fill < k ? fill : k;
}

static bool is_among(const int32_t *index, int64_t n, int32_t i)
{
    for (int64_t j = 0; j < n; j++)
        if (index[j] == i) return true;
    return false;
}

/* The lowest indices that no slot has yet, for slots beyond the candidates. */
static void fill_unused(int32_t *index, float *value, int64_t have, int64_t k)
{
    int32_t next = 0;
    for (int64_t j = have; j < k; j++) {
        while (is_among(index, have, next)) next++;
        index[j] = next++;
        value[j] = 0;
    }
}

static void topk_row(const fct_topk_args *a, int64_t r, uint64_t *buffer, int64_t cap)
{
    const float *x = a->x + r * a->n;
    int32_t *index = a->index + r * a->k;
    float *value = a->value + r * a->k;
    int64_t have = scan(buffer, cap, x, a->mask, a->n, a->k);
    sort_keys(buffer, have);
    for (int64_t j = 0; j < have; j++) {
        int64_t i = index_of(buffer[j]);
        index[j] = (int32_t)i;
        value[j] = x[i] <= 0 ? 0 : x[i];
    }
    fill_unused(index, value, have, a->k);
}

fct_status cpu_topk(fct_cx *cx, const fct_topk_args *a)
{
    int64_t cap = 2 * a->k + 2 * BLOCK, stride;
    uint8_t *base;
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = cpu_thread_scratch(cx, &base, &stride, cap * (int64_t)sizeof(uint64_t));
    if (st == FCT_OK && !fct_arena_dry(cx->arena)) {
#pragma omp parallel for schedule(static) if (a->rows * a->n > CPU_SMALL)
        for (int64_t r = 0; r < a->rows; r++)
            topk_row(a, r, (uint64_t *)(void *)(base + stride * fct_thread_index()), cap);
    }
    fct_arena_reset(cx->arena, mark);
    return st;
}

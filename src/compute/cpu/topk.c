/* topk.c - selects the k largest numbers of each row, exactly. A first pass over the row bounds the
   k-th largest value from below; a second appends what reaches the bound to a buffer, of which the
   k best are selected and sorted. A full buffer (many ties, or a rising row) is cut back to its k
   best, which raises the bar. Value and index form one 64-bit key (larger value, then lower index),
   so there are no ties to get wrong. */
#include <math.h>

#include "compute/cpu/cpu.h"
#include "compute/cpu/keys.h"

enum { BLOCK = 64 };

/* Lanes [width] of a row take every width-th entry; the k-th largest of their maxima is a lower
   bound of the k-th largest entry, since it stands for k different ones. A close one, as there are
   more than 2k lanes. */
FCT_CLONES static uint32_t lane_bound(uint64_t *key, float *lane, int64_t width, const float *x,
                                      const uint8_t *mask, int64_t n, int64_t k)
{
    for (int64_t j = 0; j < width; j++) lane[j] = -INFINITY;
    for (int64_t c = 0; c + width <= n; c += width)
        if (mask)
            for (int64_t j = 0; j < width; j++)
                lane[j] = mask[c + j] && x[c + j] > lane[j] ? x[c + j] : lane[j];
        else
            for (int64_t j = 0; j < width; j++) lane[j] = x[c + j] > lane[j] ? x[c + j] : lane[j];
    for (int64_t j = 0; j < width; j++) key[j] = key_make(key_order(lane[j]), j);
    key_select(key, width, k);
    return key_least(key, k);
}

/* How many of the block reach the bar; NaN does. */
CPU_INLINE uint32_t count_reaching(const float *x, float bar)
{
    uint32_t reaching = 0;
    for (int i = 0; i < BLOCK; i++) reaching += !(x[i] < bar);
    return reaching;
}

/* The keys of the k best candidates into buffer [cap], unordered; returns how many there are (less
   than k when masked). Only entries of order `bar` or more can be among them. Appending has no
   branch: every entry is written, and the place moves on only past those that count. */
FCT_CLONES static int64_t scan(uint64_t *buffer, int64_t cap, const float *x, const uint8_t *mask,
                               int64_t n, int64_t k, uint32_t bar)
{
    int64_t fill = 0;
    for (int64_t c = 0; c < n; c += BLOCK) {
        int64_t m = n - c < BLOCK ? n - c : BLOCK;
        uint32_t order[BLOCK];
        if (m == BLOCK && count_reaching(x + c, key_value(bar)) == 0) continue;
        if (fill + BLOCK >
            cap) { /* full: the k best stay, and later entries must exceed the least of them */
            key_select(buffer, fill, k);
            fill = k;
            bar = key_least(buffer, k) + 1;
            if (bar == 0) return k; /* all NaN */
        }
        for (int64_t i = 0; i < m; i++) order[i] = key_order(x[c + i]);
        for (int64_t i = 0; i < m; i++) {
            buffer[fill] = key_make(order[i], c + i);
            fill += (order[i] >= bar) & (!mask || mask[c + i] != 0);
        }
    }
    if (fill > k) key_select(buffer, fill, k);
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

typedef struct room { /* one thread's scratch */
    uint64_t *key;    /* [cap] */
    float *lane;      /* [width] */
    int64_t cap, width;
} room;

static void topk_row(const fct_topk_args *a, int64_t r, const room *s)
{
    const float *x = a->x + r * a->n;
    int32_t *index = a->index + r * a->k;
    float *value = a->value + r * a->k;
    uint32_t bar =
        a->n >= 2 * s->width ? lane_bound(s->key, s->lane, s->width, x, a->mask, a->n, a->k) : 0;
    int64_t have = scan(s->key, s->cap, x, a->mask, a->n, a->k, bar);
    if (!a->any_order) key_sort(s->key, have);
    for (int64_t j = 0; j < have; j++) {
        int64_t i = key_index(s->key[j]);
        index[j] = (int32_t)i;
        value[j] = x[i] <= 0 ? 0 : x[i];
    }
    fill_unused(index, value, have, a->k);
}

fct_status cpu_topk(fct_cx *cx, const fct_topk_args *a)
{
    const room size = {.cap = 2 * a->k + 2 * BLOCK, .width = (2 * a->k + BLOCK) / BLOCK * BLOCK};
    int64_t stride;
    uint8_t *base;
    fct_mark mark = fct_arena_mark(cx->arena);
    int64_t bytes = size.cap * (int64_t)sizeof *size.key + size.width * (int64_t)sizeof *size.lane;
    fct_status st = cpu_thread_scratch(cx, &base, &stride, bytes);
    if (st == FCT_OK && !fct_arena_dry(cx->arena)) {
#pragma omp parallel for schedule(static) if (a->rows * a->n > CPU_SMALL)
        for (int64_t r = 0; r < a->rows; r++) {
            room s = size;
            s.key = (uint64_t *)(void *)(base + stride * fct_thread_index());
            s.lane = (float *)(void *)(s.key + s.cap);
            topk_row(a, r, &s);
        }
    }
    fct_arena_reset(cx->arena, mark);
    return st;
}

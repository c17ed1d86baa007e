/* keys.h - packs an entry's value and index into one 64-bit number, so that a larger number comes
   first in a selection (larger value, then lower index). So there are no ties to get wrong.
   Selecting and sorting keys needs no state and no randomness. */
#ifndef FCT_COMPUTE_CPU_KEYS_H
#define FCT_COMPUTE_CPU_KEYS_H

#include "compute/cpu/vec.h"

/* Floats as unsigned numbers of the same order;
   -0 equals +0, NaN is above everything so that it comes to light. */
CPU_INLINE uint32_t key_order(float v)
{
    uint32_t b = vec_bits(v + 0.0f);
    uint32_t o = b >> 31 ? ~b : b | 0x80000000u;
    return v != v ? 0xffffffffu : o;
}

CPU_INLINE float key_value(uint32_t order) /* the other way; NaN for orders that no number has */
{
    return vec_of_bits(order >> 31 ? order & 0x7fffffffu : ~order);
}

CPU_INLINE uint64_t key_make(uint32_t order, int64_t i)
{
    return ((uint64_t)order << 32) | (0xffffffffu - (uint32_t)i);
}
static inline int64_t key_index(uint64_t key)
{
    return (int64_t)(0xffffffffu - (uint32_t)key);
}

static inline void key_swap(uint64_t *a, uint64_t *b)
{
    uint64_t t = *a;
    *a = *b;
    *b = t;
}

/* Reorders so that the k largest come first: quickselect with the middle as pivot, which needs
   no state and no random numbers. */
static inline void key_select(uint64_t *key, int64_t n, int64_t k)
{
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        uint64_t pivot = key[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (key[i] > pivot) i++;
            while (key[j] < pivot) j--;
            if (i <= j) key_swap(&key[i++], &key[j--]);
        }
        if (k - 1 <= j)
            hi = j;
        else if (k - 1 >= i)
            lo = i;
        else
            return;
    }
}

static inline void key_sift(uint64_t *key, int64_t root, int64_t n) /* smallest at the top */
{
    for (int64_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && key[child + 1] < key[child]) child++;
        if (key[root] <= key[child]) return;
        key_swap(&key[root], &key[child]);
    }
}

/* Largest first: by insertion, long ones as a heap. */
static inline void key_sort(uint64_t *key, int64_t n)
{
    if (n <= 32) {
        for (int64_t i = 1; i < n; i++)
            for (int64_t j = i; j > 0 && key[j] > key[j - 1]; j--) key_swap(&key[j], &key[j - 1]);
        return;
    }
    for (int64_t i = n / 2 - 1; i >= 0; i--) key_sift(key, i, n);
    for (int64_t i = n - 1; i > 0; i--) {
        key_swap(&key[0], &key[i]);
        key_sift(key, 0, i);
    }
}

static inline uint32_t key_least(const uint64_t *key, int64_t n)
{
    uint64_t least = key[0];
    for (int64_t i = 1; i < n; i++) least = key[i] < least ? key[i] : least;
    return (uint32_t)(least >> 32);
}

#endif

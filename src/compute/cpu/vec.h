/* vec.h - defines the pieces of hot loops, written so that compilers vectorise them: no branches,
   no calls, no float-to-int conversion. They are always inlined, so each clone of a caller
   (FCT_CLONES) gets its own instruction set. NaN passes through all of them. */
#ifndef FCT_COMPUTE_CPU_VEC_H
#define FCT_COMPUTE_CPU_VEC_H

#include <string.h>

#include "compute/backend.h"

#define CPU_INLINE static inline __attribute__((always_inline))

CPU_INLINE float vec_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

CPU_INLINE uint32_t vec_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

CPU_INLINE float vec_from_bf16(uint16_t h)
{
    return vec_of_bits((uint32_t)h << 16);
}

CPU_INLINE uint16_t vec_to_bf16(float f) /* round to nearest even; NaN becomes quiet */
{
    uint32_t b = vec_bits(f);
    uint32_t rounded = (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
    uint32_t quiet = (b >> 16) | 0x40u;
    return (uint16_t)((b & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/* n elements of an f32 or bf16 array, from element `at` on, to floats and back. */
CPU_INLINE void vec_load(float *__restrict dst, const void *src, fct_dtype t, int64_t at, int64_t n)
{
    if (t == FCT_BF16) {
        const uint16_t *s = (const uint16_t *)src + at;
        for (int64_t i = 0; i < n; i++) dst[i] = vec_from_bf16(s[i]);
    } else {
        memcpy(dst, (const float *)src + at, (size_t)n * sizeof *dst);
    }
}

CPU_INLINE void vec_store(void *dst, fct_dtype t, int64_t at, const float *__restrict src,
                          int64_t n)
{
    if (t == FCT_BF16) {
        uint16_t *d = (uint16_t *)dst + at;
        for (int64_t i = 0; i < n; i++) d[i] = vec_to_bf16(src[i]);
    } else {
        memcpy((float *)dst + at, src, (size_t)n * sizeof *src);
    }
}

/* e^x to 2 ulp for x in [-87.3, 88.3], clamped outside. x = n·ln2 + r: the magic number rounds
   x/ln2 to an integer that then stands in the low bits; polynomial of Cephes' expf. */
CPU_INLINE float vec_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23 */
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    float t = x * 1.44269504088896341f + magic;
    float n = t - magic;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    uint32_t scale = (vec_bits(t) - vec_bits(magic) + 127u) << 23;
    return p * vec_of_bits(scale);
}

/* 1 + erf(a), which is 2Φ(√2·a): two polynomials joined at 0.9277 (N. Juffa's fits). The far one
   gives 1 - erf|a| as a power of e, so nothing cancels on the negative side. */
CPU_INLINE float vec_one_plus_erf(float a)
{
    float t = vec_of_bits(vec_bits(a) & 0x7fffffffu), s = a * a;
    float r = -1.72853470e-5f * t + 3.83197126e-4f;
    float u = -3.88396438e-3f * t + 2.42546219e-2f;
    r = r * s + u;
    r = r * t + -1.06777877e-1f;
    r = r * t + -6.34846687e-1f;
    r = r * t + -1.28717512e-1f;
    r = r * t - t;
    float rest = vec_exp(r);
    float far = a < 0 ? rest : 2.0f - rest;
    float q = -5.96761703e-4f;
    q = q * s + 4.99119423e-3f;
    q = q * s + -2.67681349e-2f;
    q = q * s + 1.12819925e-1f;
    q = q * s + -3.76125336e-1f;
    q = q * s + 1.28379166e-1f;
    float near = 1.0f + (q * a + a);
    return t > 0.927734375f ? far : near;
}

CPU_INLINE float vec_sigmoid(float x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}
CPU_INLINE float vec_gelu(float x)
{
    return 0.5f * x * vec_one_plus_erf(x * 0.70710678118654752f);
}

CPU_INLINE void vec_act(fct_act act, float *v, int64_t n) /* in place */
{
    switch (act) {
    case FCT_ACT_SILU:
        for (int64_t i = 0; i < n; i++) v[i] = v[i] * vec_sigmoid(v[i]);
        break;
    case FCT_ACT_GELU:
        for (int64_t i = 0; i < n; i++) v[i] = vec_gelu(v[i]);
        break;
    case FCT_ACT_QUICK_GELU:
        for (int64_t i = 0; i < n; i++) v[i] = v[i] * vec_sigmoid(1.702f * v[i]);
        break;
    case FCT_ACT_RELU:
        for (int64_t i = 0; i < n; i++) v[i] = v[i] < 0 ? 0 : v[i];
        break;
    case FCT_ACT_NONE: break;
    }
}

/* Sums run in lanes that are added in a fixed order, so that every instruction set adds alike. 64
   of them: compilers unroll shorter inner loops away before they think of vectors. */
enum { VEC_LANES = 64 };

typedef float vec_16 __attribute__((vector_size(64)));
typedef float vec_8 __attribute__((vector_size(32)));
typedef float vec_4 __attribute__((vector_size(16)));

/* 64 numbers in registers, from and to anywhere. Named members and direct loads: gcc 12 sends
   arrays and memcpy through the stack. */
typedef float vec_16_any __attribute__((vector_size(64), aligned(4), may_alias));
typedef struct vec_64 {
    vec_16 a, b, c, d;
} vec_64;

CPU_INLINE void vec_64_load(vec_64 *v, const float *x)
{
    v->a = *(const vec_16_any *)x;
    v->b = *(const vec_16_any *)(x + 16);
    v->c = *(const vec_16_any *)(x + 32);
    v->d = *(const vec_16_any *)(x + 48);
}
CPU_INLINE void vec_64_store(float *x, const vec_64 *v)
{
    *(vec_16_any *)x = v->a;
    *(vec_16_any *)(x + 16) = v->b;
    *(vec_16_any *)(x + 32) = v->c;
    *(vec_16_any *)(x + 48) = v->d;
}
CPU_INLINE void vec_64_add_scaled(vec_64 *v, float by, const float *x) /* v += by * x */
{
    v->a += by * *(const vec_16_any *)x;
    v->b += by * *(const vec_16_any *)(x + 16);
    v->c += by * *(const vec_16_any *)(x + 32);
    v->d += by * *(const vec_16_any *)(x + 48);
}

/* Products of v with 64 numbers, summed to four. */
CPU_INLINE void vec_64_dot(vec_4 *out, const vec_64 *v, const float *x)
{
    vec_16 s = (v->a * *(const vec_16_any *)x + v->b * *(const vec_16_any *)(x + 16)) +
               (v->c * *(const vec_16_any *)(x + 32) + v->d * *(const vec_16_any *)(x + 48));
    vec_8 h[2];
    vec_4 q[2];
    memcpy(h, &s, sizeof h);
    h[0] += h[1];
    memcpy(q, h, sizeof q);
    *out = q[0] + q[1];
}

#if defined(__clang__)
#define VEC_PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t vec_4_index __attribute__((vector_size(16)));
#define VEC_PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (vec_4_index){i, j, k, l})
#endif

/* Each of four vectors summed: (s[0]+s[2]) + (s[1]+s[3]). */
CPU_INLINE void vec_4_sums(vec_4 *out, const vec_4 *s)
{
    vec_4 low = VEC_PICK(s[0], s[1], 0, 4, 1, 5) + VEC_PICK(s[0], s[1], 2, 6, 3, 7);
    vec_4 high = VEC_PICK(s[2], s[3], 0, 4, 1, 5) + VEC_PICK(s[2], s[3], 2, 6, 3, 7);
    *out = VEC_PICK(low, high, 0, 1, 4, 5) + VEC_PICK(low, high, 2, 3, 6, 7);
}

CPU_INLINE float vec_lanes_sum(const float *lane)
{
    vec_16 a[4];
    vec_8 b[2];
    vec_4 c[2];
    memcpy(a, lane, sizeof a);
    a[0] = (a[0] + a[1]) + (a[2] + a[3]);
    memcpy(b, a, sizeof b);
    b[0] += b[1];
    memcpy(c, b, sizeof c);
    c[0] += c[1];
    return (c[0][0] + c[0][1]) + (c[0][2] + c[0][3]);
}

#endif

/* rng.c - the random numbers of torch's CPU generator, so that a seed means the same noise here and there.

   MT19937 with the usual initialisation. torch fills 16 values and more with a vectorised Box-Muller over 24-bit
   uniforms, and fewer one by one in double; both paths are kept, with their ways of consuming words. Its AVX2 build
   uses polynomial log, sine and cosine, so values agree to one or two units in the last place, not bit for bit. */
#include "base/base.h"

#include <math.h>

#define PI 3.14159265358979323846

enum { WORDS = 624, SHIFT = 397, BLOCK = 16 };

void fct_rng_init(fct_rng *r, uint64_t seed)
{
    *r = (fct_rng){.at = WORDS};
    r->mt[0] = (uint32_t)(seed & 0xffffffffu);
    for (uint32_t i = 1; i < WORDS; i++) r->mt[i] = 1812433253u * (r->mt[i - 1] ^ r->mt[i - 1] >> 30) + i;
}

static uint32_t twist(uint32_t high, uint32_t low)
{
    uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return y >> 1 ^ ((low & 1u) ? 0x9908b0dfu : 0u);
}

static void refill(fct_rng *r)
{
    for (int i = 0; i < WORDS; i++)
        r->mt[i] = r->mt[(i + SHIFT) % WORDS] ^ twist(r->mt[i], r->mt[(i + 1) % WORDS]);
    r->at = 0;
}

uint32_t fct_rng_u32(fct_rng *r)
{
    if (r->at >= WORDS) refill(r);
    uint32_t y = r->mt[r->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint64_t fct_rng_u64(fct_rng *r)
{
    uint64_t high = fct_rng_u32(r);
    return high << 32 | fct_rng_u32(r);
}

double fct_rng_unit(fct_rng *r) { return (double)(fct_rng_u64(r) & 0x1fffffffffffffu) * 0x1p-53; }

int64_t fct_rng_below(fct_rng *r, int64_t n)
{
    uint64_t m = n > 0 ? (uint64_t)n : 1;
    uint64_t limit = UINT64_MAX - UINT64_MAX % m; /* reject the ragged end, or low values would be likelier */
    uint64_t x;
    do x = fct_rng_u64(r);
    while (x >= limit);
    return (int64_t)(x % m);
}

static void fill_uniform(fct_rng *r, float *d, int64_t n)
{
    for (int64_t i = 0; i < n; i++) d[i] = (float)(fct_rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

/* Sixteen uniforms become sixteen normals: the first eight give radii, the last eight angles. */
static void box_muller_16(float *d)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        float u1 = 1.0f - d[j], u2 = d[j + BLOCK / 2];
        float radius = sqrtf(-2.0f * logf(u1));
        float theta = (float)(2.0 * PI) * u2;
        d[j] = radius * cosf(theta);
        d[j + BLOCK / 2] = radius * sinf(theta);
    }
}

static double next_normal(fct_rng *r)
{
    if (r->has_next) {
        r->has_next = false;
        return r->next;
    }
    double u1 = fct_rng_unit(r), u2 = fct_rng_unit(r);
    double radius = sqrt(-2.0 * log1p(-u2)), theta = 2.0 * PI * u1;
    r->next = radius * sin(theta);
    r->has_next = true;
    return radius * cos(theta);
}

void fct_rng_normal(fct_rng *r, float *out, int64_t n)
{
    if (n < BLOCK) {
        for (int64_t i = 0; i < n; i++) out[i] = (float)next_normal(r);
        return;
    }
    fill_uniform(r, out, n);
    for (int64_t i = 0; i + BLOCK <= n; i += BLOCK) box_muller_16(out + i);
    if (n % BLOCK != 0) { /* torch draws the last sixteen positions anew */
        fill_uniform(r, out + n - BLOCK, BLOCK);
        box_muller_16(out + n - BLOCK);
    }
}

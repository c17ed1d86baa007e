/* rng.c - draws the random numbers of torch's CPU generator, so that a seed means the same noise
   here and there.

   MT19937 with the usual initialisation. torch fills 16 values and more with a vectorised
   Box-Muller over 24-bit uniforms, and fewer one by one in double; both paths are kept, with their
   ways of consuming words. Its AVX2 code takes log, sine and cosine from Cephes polynomials which
   the compiler fused into multiply-adds: the same polynomials stand here with the same fusions, so
   values are equal to torch's to the last bit (checked against torch 2.15). */
#include "base/base.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

enum { WORDS = 624, SHIFT = 397, BLOCK = 16 };

void fct_rng_init(fct_rng *r, uint64_t seed)
{
    *r = (fct_rng){.at = WORDS};
    r->mt[0] = (uint32_t)(seed & 0xffffffffu);
    for (uint32_t i = 1; i < WORDS; i++)
        r->mt[i] = 1812433253u * (r->mt[i - 1] ^ r->mt[i - 1] >> 30) + i;
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

double fct_rng_unit(fct_rng *r)
{
    return (double)(fct_rng_u64(r) & 0x1fffffffffffffu) * 0x1p-53;
}

int64_t fct_rng_below(fct_rng *r, int64_t n)
{
    uint64_t m = n > 0 ? (uint64_t)n : 1;
    uint64_t limit =
        UINT64_MAX - UINT64_MAX % m; /* reject the ragged end, or low values would be likelier */
    uint64_t x;
    do x = fct_rng_u64(r);
    while (x >= limit);
    return (int64_t)(x % m);
}

static void fill_uniform(fct_rng *r, float *d, int64_t n)
{
    for (int64_t i = 0; i < n; i++) d[i] = (float)(fct_rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

/* Cephes logf for x in (0, 1], as torch compiles it. x = fraction * 2^exponent with the fraction in
   [sqrt(1/2), sqrt(2)). */
static float cephes_log(float x)
{
    static const float p[] = {-1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f,
                              1.4249322787e-1f,  -1.6668057665e-1f, 2.0000714765e-1f,
                              -2.4999993993e-1f, 3.3333331174e-1f};
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    float exponent = (float)((int)(bits >> 23) - 127) + 1.0f;
    bits = (bits & ~0x7f800000u) | 0x3f000000u;
    memcpy(&x, &bits, sizeof x);
    float low = x < 0.707106781186547524f ? x : 0.0f;
    if (x < 0.707106781186547524f) exponent -= 1.0f;
    x = x - 1.0f;
    x = x + low;
    float z = x * x, y = 7.0376836292e-2f;
    for (size_t i = 0; i < FCT_COUNT(p); i++) y = fmaf(y, x, p[i]);
    y = y * x;
    y = fmaf(y, z, exponent * -2.12194440e-4f);
    y = fmaf(-z, 0.5f, y);
    x = x + y;
    return fmaf(exponent, 0.693359375f, x);
}

/* Cephes sine and cosine for x >= 0: reduced to an eighth of a turn in three steps (Cody and
   Waite). */
static void cephes_sincos(float *sine, float *cosine, float x)
{
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float turns = (float)octant;
    x = fmaf(turns, -0.78515625f, x);
    x = fmaf(turns, -2.4187564849853515625e-4f, x);
    x = fmaf(turns, -3.77489497744594108e-8f, x);
    float z = x * x;
    float c = fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    c = c * z;
    c = fmaf(c, z, -(z * 0.5f));
    c = c + 1.0f;
    float s = fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f);
    s = s * z;
    s = fmaf(s, x, x);
    bool swapped = (octant & 2) != 0;
    float sin_abs = swapped ? c : s, cos_abs = swapped ? s : c;
    *sine = (octant & 4) ? -sin_abs : sin_abs;
    *cosine = ((octant - 2) & 4) ? cos_abs : -cos_abs;
}

/* Sixteen uniforms become sixteen normals: the first eight give radii, the last eight angles. */
static void box_muller_16(float *d)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        float u1 = 1.0f - d[j], u2 = d[j + BLOCK / 2], sine, cosine;
        float radius = sqrtf(-2.0f * cephes_log(u1));
        cephes_sincos(&sine, &cosine, 6.283185307179586f * u2);
        d[j] = radius * cosine;
        d[j + BLOCK / 2] = radius * sine;
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

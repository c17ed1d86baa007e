/* half.h - converts single values between f32, f16 and bf16, inline for loops over whole arrays.
   Include it only where whole arrays are converted. */
#ifndef FCT_TENSOR_HALF_H
#define FCT_TENSOR_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t fct_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float fct_float_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* f16 is 1 sign, 5 exponent (bias 15), 10 fraction bits. Normal values are shifted into place and
   rescaled by 2^-112; subnormal ones are read as the fraction of 0.5 and have 0.5 taken off. */
static inline float fct_half_widen(uint16_t h)
{
    uint32_t w = (uint32_t)h << 16;
    uint32_t sign = w & 0x80000000u;
    uint32_t twice = w + w; /* without the sign */
    float normal = fct_float_from_bits((twice >> 4) + (0xE0u << 23)) * 0x1p-112f;
    float subnormal = fct_float_from_bits((twice >> 17) | (126u << 23)) - 0.5f;
    uint32_t bits = fct_float_bits(twice < (1u << 27) ? subnormal : normal);
    return fct_float_from_bits(sign | bits);
}

/* Adding a power of two that is 2^13 times the unit of the last f16 place makes the hardware round
   there, to even. */
static inline uint16_t fct_half_narrow(float f)
{
    uint32_t w = fct_float_bits(f);
    uint32_t twice = w + w;
    uint32_t sign = w & 0x80000000u;
    float base = fabsf(f) * 0x1p+112f * 0x1p-110f; /* overflow becomes infinity here */
    uint32_t bias = twice & 0xFF000000u;
    bias = bias < 0x71000000u ? 0x71000000u : bias;
    uint32_t bits = fct_float_bits(fct_float_from_bits((bias >> 1) + 0x07800000u) + base);
    uint32_t exponent = (bits >> 13) & 0x7C00u;
    uint32_t fraction = bits & 0x0FFFu;
    uint32_t magnitude = twice > 0xFF000000u ? 0x7E00u : exponent + fraction;
    return (uint16_t)(sign >> 16 | magnitude);
}

/* bf16 is the upper half of f32. */
static inline float fct_bf16_widen(uint16_t h)
{
    return fct_float_from_bits((uint32_t)h << 16);
}

static inline uint16_t fct_bf16_narrow(float f)
{
    uint32_t w = fct_float_bits(f);
    uint32_t rounded = (w + 0x7FFFu + (w >> 16 & 1u)) >> 16;
    uint32_t nan = w >> 16 | 0x40u; /* rounding could carry a NaN into infinity */
    return (uint16_t)((w & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

#endif

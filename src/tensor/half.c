/* half.c - converts one value between f32 and the two 16-bit formats. Branch-free, so that loops
   over these (convert.c) become vector code; rounding is to nearest even, as torch and the hardware
   round. */
#include "tensor/half.h"

#include "tensor/tensor.h"

float fct_f16_to_f32(uint16_t h)
{
    return fct_half_widen(h);
}
uint16_t fct_f32_to_f16(float f)
{
    return fct_half_narrow(f);
}
float fct_bf16_to_f32(uint16_t h)
{
    return fct_bf16_widen(h);
}
uint16_t fct_f32_to_bf16(float f)
{
    return fct_bf16_narrow(f);
}

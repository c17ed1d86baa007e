/* fuzz_npy.c - a .npy file of any content is refused, or its data can be read to the end. */
#include "fuzz.h"
#include "tensor/tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fct_npy a;
    volatile uint8_t sum = 0;
    if (fct_npy_parse(&a, data, (int64_t)n, "fuzz") != FCT_OK) return 0;
    const uint8_t *p = a.t.data;
    for (int64_t k = 0; k < fct_tensor_bytes(&a.t); k++) sum = (uint8_t)(sum + p[k]);
    fct_npy_close(&a);
    return 0;
}

/* fuzz_safetensors.c - a safetensors file of any content is refused, or every tensor of it can be
 * read to the end. */
#include "fuzz.h"
#include "tensor/tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fct_safetensors st;
    volatile uint8_t sum = 0;
    if (fct_safetensors_parse(&st, data, (int64_t)n, "fuzz") != FCT_OK) return 0;
    for (int64_t i = 0; i < st.n; i++) {
        const uint8_t *p = st.entry[i].t.data;
        for (int64_t k = 0; k < fct_tensor_bytes(&st.entry[i].t); k++) sum = (uint8_t)(sum + p[k]);
        if (fct_safetensors_find(&st, st.entry[i].name) == NULL) __builtin_trap();
    }
    fct_safetensors_close(&st);
    return 0;
}

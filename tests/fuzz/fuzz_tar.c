/* fuzz_tar.c - an archive of any content is refused, or every member of it lies within it. */
#include "fuzz.h"
#include "tensor/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fct_tar t;
    volatile uint8_t sum = 0;
    if (fct_tar_parse(&t, data, (int64_t)n, "fuzz") != FCT_OK) return 0;
    for (int64_t i = 0; i < t.n; i++) {
        if (t.entry[i].size < 0 || !t.entry[i].name) __builtin_trap();
        for (int64_t k = 0; k < t.entry[i].size; k++) sum = (uint8_t)(sum + t.entry[i].data[k]);
        for (const char *p = t.entry[i].name; *p; p++) sum = (uint8_t)(sum + (uint8_t)*p);
    }
    fct_tar_close(&t);
    return 0;
}

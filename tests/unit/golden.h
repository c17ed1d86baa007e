/* golden.h - what the tests of trainings against PyTorch share. */
#ifndef FCT_TEST_GOLDEN_H
#define FCT_TEST_GOLDEN_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "fct_test.h"
#include "tensor/tensor.h"

/* The tensor ONE.TWO of a file of goldens. */
static inline const fct_tensor *golden(const fct_safetensors *g, const char *one, const char *two)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", one, two);
    const fct_tensor *t = fct_safetensors_find(g, full);
    if (!t) fail_msg("no %s", full);
    return t;
}

/* How far `have` lies from `want`, as a share of want's length, or of its change since `start`. */
static inline double rel(const float *have, const float *want, const float *start, int64_t n)
{
    double miss = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = (double)want[i] - (start ? start[i] : 0);
        miss += ((double)have[i] - want[i]) * ((double)have[i] - want[i]);
        size += w * w;
    }
    return size > 0 ? sqrt(miss / size) : sqrt(miss);
}

#endif

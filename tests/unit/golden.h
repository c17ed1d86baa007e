/* golden.h - what the tests of trainings against PyTorch share. */
#ifndef FCT_TEST_GOLDEN_H
#define FCT_TEST_GOLDEN_H

#include <math.h>
#include <stdint.h>

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

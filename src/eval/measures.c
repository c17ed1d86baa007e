/* measures.c - computes figures that compare pictures, and activations with labels. */
#include <math.h>
#include <stdlib.h>

#include "eval/eval.h"

double fct_eval_pixel_change(const uint8_t *a, const uint8_t *b, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += abs((int)a[i] - (int)b[i]);
    return n > 0 ? (double)sum / (255.0 * (double)n) : 0;
}

double fct_eval_length(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Balanced: with hit rate h and false-alarm rate f, precision is h/(h+f) and recall h, as if there
   were as many negatives as positives:

       f1 = 2·precision·recall/(precision + recall) = 2h/(1 + h + f) */
fct_f1 fct_eval_f1(const float *score, const int8_t *want, int64_t n, double threshold)
{
    int64_t count[2] = {0}, on[2] = {0};
    fct_f1 r = {.threshold = threshold};
    for (int64_t i = 0; score && i < n; i++) {
        if (want[i] != 0 && want[i] != 1) continue;
        count[want[i]]++;
        on[want[i]] += score[i] > threshold;
    }
    if (count[0] == 0 || count[1] == 0) return r;
    r.hit = (double)on[1] / (double)count[1];
    r.false_alarm = (double)on[0] / (double)count[0];
    r.f1 = 2 * r.hit / (1 + r.hit + r.false_alarm);
    return r;
}

fct_f1 fct_eval_best_f1(const float *score, const int8_t *want, int64_t n)
{
    static const double share[] = {0, 0.05, 0.1, 0.2, 0.35, 0.5};
    float peak = 0;
    for (int64_t i = 0; score && i < n; i++) peak = fmaxf(peak, score[i]);
    fct_f1 best = {0};
    for (size_t s = 0; s < FCT_COUNT(share); s++) {
        fct_f1 r = fct_eval_f1(score, want, n, share[s] * (double)peak);
        if (r.f1 > best.f1) best = r;
    }
    return best;
}

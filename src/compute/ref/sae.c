/* sae.c - computes the products and selections of sparse autoencoders in the ref backend. */
#include <math.h>

#include "compute/ref/ref.h"

fct_status ref_matmul(fct_cx *cx, const fct_matmul_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->n; j++) {
            double s = 0;
            for (int64_t p = 0; p < a->k; p++) {
                float x = a->trans_a ? a->a[p * a->m + i] : a->a[i * a->k + p];
                float y = a->trans_b ? a->b[j * a->k + p] : a->b[p * a->n + j];
                s += (double)x * (double)y;
            }
            double before = a->beta != 0 ? (double)a->beta * (double)a->c[i * a->n + j]
                                         : 0; /* beta 0: c may be garbage */
            a->c[i * a->n + j] = (float)((double)a->alpha * s + before);
        }
    return FCT_OK;
}

/* Larger first; NaN counts as the largest, so that it comes to light; on a tie the lower index. */
static bool comes_before(float x, int64_t i, float y, int64_t j)
{
    if (isnan(x) || isnan(y)) return isnan(x) && isnan(y) ? i < j : isnan(x);
    return x != y ? x > y : i < j;
}

static bool is_taken(const int32_t *index, int64_t k, int64_t i)
{
    for (int64_t j = 0; j < k; j++)
        if (index[j] == i) return true;
    return false;
}

/* The next best candidate that is not among the k already taken; -1: none is left. */
static int64_t next_best(const fct_topk_args *a, const float *x, const int32_t *taken, int64_t k)
{
    int64_t best = -1;
    for (int64_t i = 0; i < a->n; i++) {
        if ((a->mask && !a->mask[i]) || is_taken(taken, k, i)) continue;
        if (best < 0 || comes_before(x[i], i, x[best], best)) best = i;
    }
    return best;
}

static int64_t next_unused(const int32_t *taken, int64_t k)
{
    int64_t i = 0;
    while (is_taken(taken, k, i)) i++;
    return i;
}

fct_status ref_topk(fct_cx *cx, const fct_topk_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    for (int64_t r = 0; r < a->rows; r++) {
        const float *x = a->x + r * a->n;
        int32_t *index = a->index + r * a->k;
        float *value = a->value + r * a->k;
        for (int64_t j = 0; j < a->k; j++) {
            int64_t i = next_best(a, x, index, j);
            float v = i < 0 ? 0 : x[i];
            index[j] = (int32_t)(i < 0 ? next_unused(index, j) : i);
            value[j] = v <= 0 ? 0 : v; /* ReLU that keeps NaN and gives +0 for -0 */
        }
    }
    return FCT_OK;
}

fct_status ref_sparse_decode(fct_cx *cx, const fct_sparse_decode_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t c = 0; c < a->d; c++) {
            double s = a->bias ? (double)a->bias[c] : 0;
            for (int64_t j = 0; j < a->k; j++)
                s += (double)a->value[r * a->k + j] *
                     (double)a->table[a->index[r * a->k + j] * a->d + c];
            a->y[r * a->d + c] = (float)s;
        }
    return FCT_OK;
}

fct_status ref_sparse_outer(fct_cx *cx, const fct_sparse_outer_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t j = 0; j < a->k; j++) {
            float g = a->coef[r * a->k + j];
            if (g == 0) continue;
            float *row = a->grad + a->index[r * a->k + j] * a->d;
            for (int64_t c = 0; c < a->d; c++) row[c] += g * a->x[r * a->d + c];
        }
    return FCT_OK;
}

fct_status ref_sparse_dot(fct_cx *cx, const fct_sparse_dot_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    for (int64_t i = 0; i < a->rows * a->k; i++) {
        const float *x = a->x + i / a->k * a->d, *row = a->table + a->index[i] * a->d;
        double s = 0;
        for (int64_t c = 0; c < a->d; c++) s += (double)x[c] * (double)row[c];
        a->coef[i] = (float)s;
    }
    return FCT_OK;
}

/* sae_rescore.c - computes the products of the candidates of many rows again in f32. With many
   candidates a row, each feature's weights are met again and again: 64 columns of all of them are
   copied together, stay in the second-level cache, and every row's candidates are taken from there,
   block after block. */
#include <string.h>

#include "compute/cpu/sae_train.h"
#include "compute/cpu/vec.h"

enum { COLUMNS = 64 };

/* A function of sizes alone. */
static bool pays(const fct_select_args *a)
{
    return a->enc->product != FCT_PRODUCT_F32 && a->rows * a->k >= 6 * a->enc->n &&
           a->enc->d > COLUMNS;
}

fct_status cpu_list_take(fct_cx *cx, cpu_list *list, const fct_select_args *a)
{
    int64_t most = pays(a) ? 2 * a->k + 4 * COLUMNS : 0, n;
    *list = (cpu_list){.most = most};
    FCT_TRY(fct_mul_i64(&n, a->rows, most));
    FCT_TRY(fct_arena_take(cx->arena, &list->index, n, sizeof *list->index));
    FCT_TRY(fct_arena_take(cx->arena, &list->product, n, sizeof *list->product));
    FCT_TRY(fct_arena_take(cx->arena, &list->count, most ? a->rows : 0, sizeof *list->count));
    return fct_arena_take(cx->arena, &list->table, most ? a->enc->n : 0,
                          COLUMNS * sizeof *list->table);
}

/* The last columns, fewer than 64. */
static void rest(float *out, const float *x, const int32_t *index, int64_t count,
                 const float *table, int64_t n)
{
    for (int64_t j = 0; j < count; j++)
        for (int64_t i = 0; i < n; i++) out[j] += x[i] * table[index[j] * COLUMNS + i];
}

void cpu_list_products(const cpu_list *list, const fct_select_args *a)
{
    int64_t n = a->enc->n, d = a->enc->d, most = list->most;
    memset(list->product, 0, (size_t)(a->rows * most) * sizeof *list->product);
#pragma omp parallel
    for (int64_t c = 0; c < d; c += COLUMNS) {
        int64_t width = d - c < COLUMNS ? d - c : COLUMNS;
#pragma omp for schedule(static)
        for (int64_t f = 0; f < n; f++)
            memcpy(list->table + f * COLUMNS, a->w + f * d + c, (size_t)width * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t r = 0; r < a->rows; r++) {
            float *out = list->product + r * most;
            const float *x = a->centred + r * d + c;
            const int32_t *index = list->index + r * most;
            if (width == COLUMNS)
                cpu_block_dots(out, x, index, list->count[r], list->table);
            else
                rest(out, x, index, list->count[r], list->table, width);
        }
    }
}

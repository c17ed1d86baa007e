/* sae.c - computes the products of sparse autoencoders: the dense one is oneDNN's, the sparse ones
   go through memory in blocks of columns that stay in registers. Orders of summation are fixed by
   the data, never by the threads. */
#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { COLUMNS = 64 }; /* four registers of 16 floats */

FCT_CLONES static void scale_row(float *c, int64_t n, float beta)
{
    for (int64_t i = 0; i < n; i++) c[i] = beta == 0 ? 0 : c[i] * beta;
}

fct_status cpu_matmul(fct_cx *cx, const fct_matmul_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    if (a->k == 0) {
        for (int64_t i = 0; i < a->m; i++) scale_row(a->c + i * a->n, a->n, a->beta);
        return FCT_OK;
    }
    return dn_sgemm(&(dn_gemm){.trans_a = a->trans_a,
                               .trans_b = a->trans_b,
                               .m = a->m,
                               .n = a->n,
                               .k = a->k,
                               .alpha = a->alpha,
                               .beta = a->beta,
                               .a = a->a,
                               .lda = a->trans_a ? a->m : a->k,
                               .b = a->b,
                               .ldb = a->trans_b ? a->k : a->n,
                               .c = a->c,
                               .ldc = a->n});
}

/* ---- pieces of the sparse products ---- */

/* Columns [0,n) of a block: sum += sum of coef[j] * x[row[j]].
   Rows of x are `width` floats apart. */
FCT_CLONES static void add_rows(float *sum, const float *x, int64_t width, const int32_t *row,
                                const float *coef, int64_t count, int64_t n)
{
    float s[COLUMNS] = {0};
    memcpy(s, sum, (size_t)n * sizeof *s);
    for (int64_t j = 0; j < count; j++) {
        const float *v = x + row[j] * width;
        float g = coef[j];
        if (n == COLUMNS)
            for (int i = 0; i < COLUMNS; i++) s[i] += g * v[i];
        else
            for (int64_t i = 0; i < n; i++) s[i] += g * v[i];
    }
    memcpy(sum, s, (size_t)n * sizeof *s);
}

FCT_CLONES static float dot(const float *x, const float *y, int64_t n)
{
    float lane[VEC_LANES] = {0};
    int64_t whole = n / VEC_LANES * VEC_LANES;
    for (int64_t i = 0; i < whole; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) lane[l] += x[i + l] * y[i + l];
    for (int64_t i = whole; i < n; i++) lane[i - whole] += x[i] * y[i];
    return vec_lanes_sum(lane);
}

static int64_t columns(int64_t d, int64_t c)
{
    return d - c < COLUMNS ? d - c : COLUMNS;
}

/* One row's block. */
static void copy_columns(float *copy, const float *x, int64_t row, int64_t d, int64_t c)
{
    memcpy(copy + row * COLUMNS, x + row * d + c, (size_t)columns(d, c) * sizeof *copy);
}

/* When rows are met many times, a block of their columns is copied together, where it stays in the
   second-level cache, and all work is done block by block; else rows are read where they lie.
   Depends on sizes alone: so does the order of sums. */
static bool pays(int64_t uses, int64_t rows, int64_t d)
{
    return uses >= 8 * rows && d > COLUMNS;
}

static fct_status take_copy(fct_cx *cx, float **copy, int64_t rows, bool wanted)
{
    return fct_arena_take(cx->arena, copy, wanted ? rows : 0, COLUMNS * sizeof **copy);
}

/* ---- y = bias + sum of table rows ---- */

static void decode_columns(const fct_sparse_decode_args *a, int64_t r, int64_t c,
                           const float *table, int64_t width)
{
    float *y = a->y + r * a->d + c;
    int64_t n = columns(a->d, c);
    if (a->bias)
        memcpy(y, a->bias + c, (size_t)n * sizeof *y);
    else
        memset(y, 0, (size_t)n * sizeof *y);
    add_rows(y, table, width, a->index + r * a->k, a->value + r * a->k, a->k, n);
}

static void decode(const fct_sparse_decode_args *a, float *copy)
{
#pragma omp parallel if (a->rows * (a->k + 1) * a->d > CPU_SMALL)
    for (int64_t c = 0; c < a->d; c += COLUMNS) {
        if (copy) {
#pragma omp for schedule(static)
            for (int64_t f = 0; f < a->n; f++) copy_columns(copy, a->table, f, a->d, c);
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < a->rows; r++)
            decode_columns(a, r, c, copy ? copy : a->table + c, copy ? COLUMNS : a->d);
    }
}

/* Rows as they lie: each row's columns one after the other, so that the table's rows are read
   once. */
static void decode_in_place(const fct_sparse_decode_args *a)
{
#pragma omp parallel for schedule(static) if (a->rows * (a->k + 1) * a->d > CPU_SMALL)
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t c = 0; c < a->d; c += COLUMNS) decode_columns(a, r, c, a->table + c, a->d);
}

fct_status cpu_sparse_decode(fct_cx *cx, const fct_sparse_decode_args *a)
{
    float *copy;
    bool wanted = a->n > 0 && pays(a->rows * a->k, a->n, a->d);
    fct_mark mark = fct_arena_mark(cx->arena);
    FCT_TRY(take_copy(cx, &copy, a->n, wanted));
    if (!fct_arena_dry(cx->arena)) {
        if (wanted)
            decode(a, copy);
        else
            decode_in_place(a);
    }
    fct_arena_reset(cx->arena, mark);
    return FCT_OK;
}

/* ---- coef = x · table rows ---- */

static void dots(const fct_sparse_dot_args *a, float *copy)
{
    memset(a->coef, 0, (size_t)(a->rows * a->k) * sizeof *a->coef);
#pragma omp parallel if (a->rows * a->k * a->d > CPU_SMALL)
    for (int64_t c = 0; c < a->d; c += COLUMNS) {
#pragma omp for schedule(static)
        for (int64_t f = 0; f < a->n; f++) copy_columns(copy, a->table, f, a->d, c);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->rows * a->k; i++)
            a->coef[i] +=
                dot(a->x + i / a->k * a->d + c, copy + a->index[i] * COLUMNS, columns(a->d, c));
    }
}

static void dots_in_place(const fct_sparse_dot_args *a)
{
#pragma omp parallel for schedule(static) if (a->rows * a->k * a->d > CPU_SMALL)
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t j = 0; j < a->k; j++)
            a->coef[r * a->k + j] =
                dot(a->x + r * a->d, a->table + a->index[r * a->k + j] * a->d, a->d);
}

fct_status cpu_sparse_dot(fct_cx *cx, const fct_sparse_dot_args *a)
{
    float *copy;
    bool wanted = a->n > 0 && pays(a->rows * a->k, a->n, a->d);
    fct_mark mark = fct_arena_mark(cx->arena);
    FCT_TRY(take_copy(cx, &copy, a->n, wanted));
    if (!fct_arena_dry(cx->arena)) {
        if (wanted)
            dots(a, copy);
        else
            dots_in_place(a);
    }
    fct_arena_reset(cx->arena, mark);
    return FCT_OK;
}

/* ---- grad += outer products, by features ---- */

typedef struct buckets { /* the entries of each feature, rows ascending */
    int32_t *start;      /* [n+1] */
    int32_t *row;        /* [rows*k] */
    float *coef;
} buckets;

/* Counting sort by feature. Entries with coefficient 0 are left out (and stay out of NaN's
   way, since 0 times NaN is NaN). */
static void fill_buckets(buckets *b, const fct_sparse_outer_args *a)
{
    memset(b->start, 0, (size_t)(a->n + 1) * sizeof *b->start);
    for (int64_t i = 0; i < a->rows * a->k; i++)
        if (a->coef[i] != 0) b->start[a->index[i] + 1]++;
    for (int64_t f = 0; f < a->n; f++) b->start[f + 1] += b->start[f];
    for (int64_t i = 0; i < a->rows * a->k; i++) {
        if (a->coef[i] == 0) continue;
        int32_t at = b->start[a->index[i]]++;
        b->row[at] = (int32_t)(i / a->k);
        b->coef[at] = a->coef[i];
    }
    for (int64_t f = a->n; f > 0; f--)
        b->start[f] = b->start[f - 1]; /* the filling moved each start to its end */
    b->start[0] = 0;
}

/* Columns in blocks, so that a block of x ([rows,64], copied together) stays in the second-level
   cache while all features pass. */
static void outer(const fct_sparse_outer_args *a, const buckets *b, float *copy)
{
#pragma omp parallel if (a->rows * a->k * a->d > CPU_SMALL)
    for (int64_t c = 0; c < a->d; c += COLUMNS) {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < a->rows; r++) copy_columns(copy, a->x, r, a->d, c);
#pragma omp for schedule(dynamic, 32)
        for (int64_t f = 0; f < a->n; f++) {
            int64_t at = b->start[f], count = b->start[f + 1] - at;
            if (count > 0)
                add_rows(a->grad + f * a->d + c, copy, COLUMNS, b->row + at, b->coef + at, count,
                         columns(a->d, c));
        }
    }
}

fct_status cpu_sparse_outer(fct_cx *cx, const fct_sparse_outer_args *a)
{
    buckets b;
    float *copy;
    int64_t entries = a->rows * a->k;
    if (entries > INT32_MAX)
        return fct_fail(FCT_ERR_RANGE, "%lld entries in one call", (long long)entries);
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = fct_arena_take(cx->arena, &b.start, a->n + 1, sizeof *b.start);
    if (st == FCT_OK) st = fct_arena_take(cx->arena, &b.row, entries, sizeof *b.row);
    if (st == FCT_OK) st = fct_arena_take(cx->arena, &b.coef, entries, sizeof *b.coef);
    if (st == FCT_OK) st = fct_arena_take(cx->arena, &copy, a->rows * COLUMNS, sizeof *copy);
    if (st == FCT_OK && !fct_arena_dry(cx->arena)) {
        fill_buckets(&b, a);
        outer(a, &b, copy);
    }
    fct_arena_reset(cx->arena, mark);
    return st;
}

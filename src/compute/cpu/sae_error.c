/* sae_error.c - decodes codes, and computes the error and its products with the directions in use
   while these are in cache. With few codes a row the directions are read where they lie, the next
   row's fetched meanwhile; with many, 64 columns of all directions are copied together first, which
   then stay in the second-level cache, and rows are done block by block.

   Sums over rows are taken in chunks of rows that the sizes alone decide, then chunk after chunk:
   the same for any number of threads. */
#include "compute/cpu/sae_train.h"
#include "compute/cpu/vec.h"

enum { COLUMNS = 64, CHUNK = 64 };

typedef struct parts {
    double *sum;     /* [chunks,d] */
    double *squares; /* [chunks] */
    float *table;    /* [n,64]: the columns at hand; NULL: read where they lie */
    int64_t chunks;
} parts;

typedef struct codes { /* of one row: those with a value */
    const int32_t *index;
    const float *value;
    int64_t k;
} codes;

static int64_t columns(int64_t d, int64_t c)
{
    return d - c < COLUMNS ? d - c : COLUMNS;
}

CPU_INLINE void fetch(const float *p)
{
    for (int i = 0; i < COLUMNS; i += 16) __builtin_prefetch(p + i);
}

/* error[0..64) = bias - target + sum of table rows; and into the sums. `ahead`: codes whose table
   rows are wanted next, or none. */
FCT_CLONES static void block_error(float *error, double *sum, double *squares, const codes *now,
                                   const float *bias, const float *target, const float *table,
                                   int64_t width, const codes *ahead)
{
    vec_64 s;
    float e[COLUMNS];
    double q[8] = {0};
    for (int i = 0; i < COLUMNS; i++) e[i] = bias[i] - target[i];
    vec_64_load(&s, e);
    for (int64_t j = 0; j < now->k; j++)
        if (now->value[j] != 0) vec_64_add_scaled(&s, now->value[j], table + now->index[j] * width);
    for (int64_t j = 0; j < ahead->k; j++)
        if (ahead->value[j] != 0) fetch(table + ahead->index[j] * width);
    vec_64_store(e, &s);
    memcpy(error, e, sizeof e);
    for (int i = 0; i < COLUMNS; i++) sum[i] += (double)e[i];
    for (int i = 0; i < COLUMNS; i += 8)
        for (int l = 0; l < 8; l++) q[l] += (double)e[i + l] * (double)e[i + l];
    for (int l = 0; l < 8; l++) *squares += q[l];
}

/* The same for fewer columns. */
static void rest_error(float *error, double *sum, double *squares, const codes *now,
                       const float *bias, const float *target, const float *table, int64_t width,
                       int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float e = bias[i] - target[i];
        for (int64_t j = 0; j < now->k; j++)
            if (now->value[j] != 0) e += now->value[j] * table[now->index[j] * width + i];
        error[i] = e;
        sum[i] += (double)e;
        *squares += (double)e * (double)e;
    }
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

/* ---- rows where the directions lie ---- */

static codes codes_of(const fct_sparse_error_args *a, int64_t r)
{
    return (codes){a->index + r * a->k, a->value + r * a->k, r < a->rows ? a->k : 0};
}

static void row_in_place(const fct_sparse_error_args *a, const parts *p, int64_t r, int64_t chunk)
{
    codes now = codes_of(a, r), ahead = codes_of(a, r + 1);
    double *sum = p->sum + chunk * a->d;
    float *error = a->error + r * a->d;
    const float *target = a->target + r * a->d;
    for (int64_t c = 0; c < a->d; c += COLUMNS)
        if (columns(a->d, c) == COLUMNS)
            block_error(error + c, sum + c, &p->squares[chunk], &now, a->bias + c, target + c,
                        a->table + c, a->d, &ahead);
        else
            rest_error(error + c, sum + c, &p->squares[chunk], &now, a->bias + c, target + c,
                       a->table + c, a->d, columns(a->d, c));
    for (int64_t j = 0; j < a->k; j++)
        a->coef[r * a->k + j] =
            now.value[j] > 0 ? a->scale * dot(error, a->table + now.index[j] * a->d, a->d) : 0;
}

static void in_place(const fct_sparse_error_args *a, const parts *p)
{
#pragma omp parallel for schedule(static) if (a->rows * (a->k + 1) * a->d > CPU_SMALL)
    for (int64_t chunk = 0; chunk < p->chunks; chunk++) {
        int64_t end = (chunk + 1) * CHUNK < a->rows ? (chunk + 1) * CHUNK : a->rows;
        for (int64_t r = chunk * CHUNK; r < end; r++) row_in_place(a, p, r, chunk);
    }
}

/* ---- block by block ---- */

FCT_CLONES void cpu_block_dots(float *out, const float *x, const int32_t *index, int64_t count,
                               const float *table)
{
    vec_64 e;
    int64_t j = 0;
    vec_64_load(&e, x);
    for (; j + 4 <= count; j += 4) { /* four at a time, whose last sums are one */
        vec_4 s[4], sum, before;
        for (int i = 0; i < 4; i++) vec_64_dot(&s[i], &e, table + index[j + i] * COLUMNS);
        vec_4_sums(&sum, s);
        memcpy(&before, out + j, sizeof before);
        before += sum;
        memcpy(out + j, &before, sizeof before);
    }
    for (; j < count; j++) {
        vec_4 s;
        vec_64_dot(&s, &e, table + index[j] * COLUMNS);
        out[j] += (s[0] + s[2]) + (s[1] + s[3]);
    }
}

static void row_block(const fct_sparse_error_args *a, const parts *p, int64_t r, int64_t chunk,
                      int64_t c)
{
    codes now = codes_of(a, r), none = {0};
    int64_t n = columns(a->d, c);
    double *sum = p->sum + chunk * a->d + c;
    float *error = a->error + r * a->d + c, *coef = a->coef + r * a->k;
    const float *target = a->target + r * a->d + c;
    if (n == COLUMNS) {
        block_error(error, sum, &p->squares[chunk], &now, a->bias + c, target, p->table, COLUMNS,
                    &none);
        cpu_block_dots(coef, error, now.index, now.k, p->table);
        return;
    }
    rest_error(error, sum, &p->squares[chunk], &now, a->bias + c, target, p->table, COLUMNS, n);
    for (int64_t j = 0; j < a->k; j++) coef[j] += dot(error, p->table + now.index[j] * COLUMNS, n);
}

static void by_blocks(const fct_sparse_error_args *a, const parts *p)
{
    memset(a->coef, 0, (size_t)(a->rows * a->k) * sizeof *a->coef);
#pragma omp parallel
    {
        for (int64_t c = 0; c < a->d; c += COLUMNS) {
#pragma omp for schedule(static)
            for (int64_t f = 0; f < a->n; f++)
                memcpy(p->table + f * COLUMNS, a->table + f * a->d + c,
                       (size_t)columns(a->d, c) * sizeof *p->table);
#pragma omp for schedule(static)
            for (int64_t chunk = 0; chunk < p->chunks; chunk++) {
                int64_t end = (chunk + 1) * CHUNK < a->rows ? (chunk + 1) * CHUNK : a->rows;
                for (int64_t r = chunk * CHUNK; r < end; r++) row_block(a, p, r, chunk, c);
            }
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->rows * a->k; i++)
            a->coef[i] = a->value[i] > 0 ? a->coef[i] * a->scale : 0;
    }
}

/* When directions are met many times; a function of sizes alone. */
static bool pays(const fct_sparse_error_args *a)
{
    return a->rows * a->k >= 12 * a->n && a->d > COLUMNS;
}

static void add_parts(const fct_sparse_error_args *a, const parts *p)
{
    *a->squares = 0;
    memset(a->sum, 0, (size_t)a->d * sizeof *a->sum);
    for (int64_t chunk = 0; chunk < p->chunks; chunk++) {
        for (int64_t c = 0; c < a->d; c++) a->sum[c] += p->sum[chunk * a->d + c];
        *a->squares += p->squares[chunk];
    }
}

fct_status cpu_sparse_error(fct_cx *cx, const fct_sparse_error_args *a)
{
    parts p = {.chunks = (a->rows + CHUNK - 1) / CHUNK};
    bool blocks = pays(a);
    fct_status st = FCT_OK;
    fct_mark mark = fct_arena_mark(cx->arena);
    FCT_TRY_OUT(fct_arena_take(cx->arena, &p.sum, p.chunks * a->d, sizeof *p.sum));
    FCT_TRY_OUT(fct_arena_take(cx->arena, &p.squares, p.chunks, sizeof *p.squares));
    FCT_TRY_OUT(fct_arena_take(cx->arena, &p.table, blocks ? a->n : 0, COLUMNS * sizeof *p.table));
    if (!fct_arena_dry(cx->arena)) {
        memset(p.sum, 0, (size_t)(p.chunks * a->d) * sizeof *p.sum);
        memset(p.squares, 0, (size_t)p.chunks * sizeof *p.squares);
        if (blocks)
            by_blocks(a, &p);
        else
            in_place(a, &p);
        add_parts(a, &p);
    }
out:
    fct_arena_reset(cx->arena, mark);
    return st;
}

/* test_ops_sae.c - products and selections of sparse autoencoders: cpu against ref, ref against
 * hand cases and a sort. */
#include <stdlib.h>

#include "ops_util.h"

static fct_tensor vec(float *data, int64_t n)
{
    return fct_tensor_of(data, FCT_F32, 1, &n);
}

static void want_floats(const char *what, float *got, float *want, int64_t n, double bound)
{
    fct_tensor g = vec(got, n), w = vec(want, n);
    want_close(what, &g, &w, bound);
}

/* ---- matmul ---- */

static void test_matmul(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},    {3, 5, 7},  {64, 96, 33}, {130, 17, 257},
                                       {1, 640, 96}, {96, 1, 5}, {7, 9, 0},    {0, 3, 4}};
    static const float scales[][2] = {{1, 0}, {0.5f, 1}, {-2, 0.25f}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (int t = 0; t < 4; t++)
            for (size_t s = 0; s < FCT_COUNT(scales); s++) {
                pool p;
                pool_init(&p, i * 4 + (size_t)t);
                int64_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
                fct_matmul_args a = {.m = m,
                                     .n = n,
                                     .k = k,
                                     .trans_a = t & 1,
                                     .trans_b = t & 2,
                                     .alpha = scales[s][0],
                                     .beta = scales[s][1]};
                a.a = pool_floats(&p, m * k, 0, 1);
                a.b = pool_floats(&p, k * n, 0, 1);
                float *want = pool_floats(&p, m * n, 0, 1),
                      *got = pool_take(&p, m * n * 4); /* beta 0 meets NaN */
                if (a.beta != 0) memcpy(got, want, (size_t)(m * n) * sizeof *got);
                a.c = want;
                RUN(matmul, REF, &a);
                a.c = got;
                RUN(matmul, CPU, &a);
                want_floats("matmul", got, want, m * n, 1e-6);
                pool_clear(&p);
            }
}

static void test_matmul_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    float a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 0, 0, 1, 2, 2}; /* 2x3 and 3x2 */
    for (int i = 0; i < 2; i++) {
        float c[] = {1, 1, 1, 1};
        RUN(matmul, both[i],
            (&(fct_matmul_args){
                .a = a, .b = b, .c = c, .m = 2, .n = 2, .k = 3, .alpha = 1, .beta = 10}));
        const float want[] = {17, 18, 26, 27};
        assert_memory_equal(c, want, sizeof c);
        float d[9]; /* aᵀ·bᵀ with a stored [2,3] as [K=2,M=3] and b stored [N=3,K=2] */
        RUN(matmul, both[i],
            (&(fct_matmul_args){.a = a,
                                .b = b,
                                .c = d,
                                .m = 3,
                                .n = 3,
                                .k = 2,
                                .trans_a = true,
                                .trans_b = true,
                                .alpha = 1}));
        const float turned[] = {1, 4, 10, 2, 5, 14, 3, 6, 18};
        assert_memory_equal(d, turned, sizeof d);
    }
}

/* ---- topk ---- */

typedef struct pair {
    float v;
    int32_t i;
} pair;

static int by_value(const void *x, const void *y)
{
    const pair *a = x, *b = y;
    return a->v != b->v ? (a->v < b->v ? 1 : -1) : (a->i > b->i) - (a->i < b->i);
}

/* What the contract says, by a full sort. */
static void sorted_topk(const fct_topk_args *a, int32_t *index, float *value)
{
    pair *all = malloc((size_t)(a->n + 1) * sizeof *all);
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t n = 0, next = 0;
        for (int64_t i = 0; i < a->n; i++)
            if (!a->mask || a->mask[i]) all[n++] = (pair){a->x[r * a->n + i], (int32_t)i};
        qsort(all, (size_t)n, sizeof *all, by_value);
        for (int64_t j = 0; j < a->k; j++) {
            if (j >= n) { /* the lowest index not used */
                for (bool used = true; used; next += used) {
                    used = false;
                    for (int64_t q = 0; q < j; q++) used |= index[r * a->k + q] == next;
                }
            }
            index[r * a->k + j] = j < n ? all[j].i : (int32_t)next;
            value[r * a->k + j] = j < n && all[j].v > 0 ? all[j].v : 0;
        }
    }
    free(all);
}

/* Sorts what came in any order, but for slots beyond the candidates, which are last in both. */
static void in_order(const fct_topk_args *a)
{
    int64_t have = 0;
    for (int64_t i = 0; i < a->n; i++) have += !a->mask || a->mask[i];
    have = have < a->k ? have : a->k;
    pair *all = malloc((size_t)(have + 1) * sizeof *all);
    for (int64_t r = 0; r < a->rows; r++) {
        int32_t *index = a->index + r * a->k;
        for (int64_t j = 0; j < have; j++) {
            float v = a->x[r * a->n + index[j]];
            assert_true(a->value[r * a->k + j] == (v > 0 ? v : 0));
            all[j] = (pair){v, index[j]};
        }
        qsort(all, (size_t)have, sizeof *all, by_value);
        for (int64_t j = 0; j < have; j++) {
            index[j] = all[j].i;
            a->value[r * a->k + j] = all[j].v > 0 ? all[j].v : 0;
        }
    }
    free(all);
}

static void one_topk(int64_t rows, int64_t n, int64_t k, int kind, int mask)
{
    pool p;
    pool_init(&p, (uint64_t)(rows + n * 3 + k * 5 + kind));
    float *x = pool_floats(&p, rows * n, 0, 1);
    for (int64_t i = 0; i < rows * n; i++) {
        if (kind == 1) x[i] = (float)fct_rng_below(&p.rng, 5) - 2; /* many ties, negatives */
        if (kind == 2) x[i] = (float)i;      /* rising: every entry passes the bar */
        if (kind == 3) x[i] = -(float)i - 1; /* falling and negative: ReLU clears all */
        if (kind == 5)
            x[i] = i % n >= n - k / 2 ? nextafterf(1, 2) : 1; /* ties, then a hair more */
        if (kind == 4) x[i] = i % 2 ? 0.0f : -0.0f;           /* zeros of both signs are equal */
    }
    uint8_t *m = NULL;
    if (mask) {
        m = pool_take(&p, n);
        for (int64_t i = 0; i < n; i++)
            m[i] = (uint8_t)(mask == 1 ? fct_rng_below(&p.rng, 2) : i % 7 == 3);
    }
    fct_topk_args a = {.x = x, .rows = rows, .n = n, .k = k, .mask = m};
    size_t count = (size_t)(rows * k);
    int32_t *index[3];
    float *value[3];
    for (int i = 0; i < 3; i++) {
        index[i] = pool_take(&p, rows * k * 4);
        value[i] = pool_take(&p, rows * k * 4);
    }
    sorted_topk(&a, index[0], value[0]);
    const fct_backend *both[] = {REF, CPU};
    for (int i = 0; i < 2; i++) {
        a.index = index[i + 1];
        a.value = value[i + 1];
        RUN(topk, both[i], &a);
        assert_memory_equal(index[i + 1], index[0], count * 4);
        assert_memory_equal(value[i + 1], value[0], count * 4);
        a.any_order = true;
        RUN(topk, both[i], &a);
        a.any_order = false;
        in_order(&a);
        assert_memory_equal(index[i + 1], index[0], count * 4);
        assert_memory_equal(value[i + 1], value[0], count * 4);
    }
    pool_clear(&p);
}

static void test_topk(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},     {3, 5, 5},    {4, 16, 3},
                                       {2, 17, 17},   {5, 100, 10}, {3, 1000, 33},
                                       {2, 640, 160}, {9, 64, 1},   {0, 5, 2}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (int kind = 0; kind < 6; kind++)
            for (int mask = 0; mask < 3; mask++)
                one_topk(sizes[i][0], sizes[i][1], sizes[i][2], kind, mask);
    one_topk(37, 777, 20, 0, 0); /* enough for several threads */
}

static void test_topk_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    float x[] = {1, 3, -2, 3, 0};
    const uint8_t mask[] = {0, 1, 0, 0, 1};
    for (int i = 0; i < 2; i++) {
        int32_t index[4];
        float value[4];
        RUN(topk, both[i],
            (&(fct_topk_args){.x = x, .rows = 1, .n = 5, .k = 4, .index = index, .value = value}));
        assert_memory_equal(index, ((int32_t[]){1, 3, 0, 4}), sizeof index);
        assert_memory_equal(value, ((float[]){3, 3, 1, 0}), sizeof value);
        RUN(topk, both[i],
            (&(fct_topk_args){
                .x = x, .rows = 1, .n = 5, .k = 4, .mask = mask, .index = index, .value = value}));
        assert_memory_equal(index, ((int32_t[]){1, 4, 0, 2}),
                            sizeof index); /* two candidates, then the lowest left */
        assert_memory_equal(value, ((float[]){3, 0, 0, 0}), sizeof value);
        float bad[] = {1, NAN, 5};
        RUN(topk, both[i],
            (&(fct_topk_args){
                .x = bad, .rows = 1, .n = 3, .k = 2, .index = index, .value = value}));
        assert_int_equal(index[0], 1); /* NaN comes first, so that it is seen */
        assert_true(isnan(value[0]));
        assert_int_equal(index[1], 2);
    }
}

/* ---- sparse products ---- */

typedef struct sparse { /* one random problem */
    pool p;
    int64_t rows, k, n, d;
    int32_t *index;
    float *value, *table, *x, *bias;
} sparse;

static void sparse_init(sparse *s, int64_t rows, int64_t k, int64_t n, int64_t d)
{
    *s = (sparse){.rows = rows, .k = k, .n = n, .d = d};
    pool_init(&s->p, (uint64_t)(rows * 3 + k * 7 + n + d));
    s->index = pool_take(&s->p, rows * k * 4);
    for (int64_t i = 0; i < rows * k; i++) s->index[i] = (int32_t)fct_rng_below(&s->p.rng, n);
    s->value = pool_floats(&s->p, rows * k, 0, 1);
    for (int64_t i = 0; i < rows * k; i += 5) s->value[i] = 0;
    s->table = pool_floats(&s->p, n * d, 0, 1);
    s->x = pool_floats(&s->p, rows * d, 0, 1);
    s->bias = pool_floats(&s->p, d, 0, 1);
}

static fct_sparse_decode_args decode_of(const sparse *s, float *y)
{
    return (fct_sparse_decode_args){.index = s->index,
                                    .value = s->value,
                                    .rows = s->rows,
                                    .k = s->k,
                                    .d = s->d,
                                    .table = s->table,
                                    .y = y};
}

static fct_sparse_outer_args outer_of(const sparse *s, float *grad)
{
    return (fct_sparse_outer_args){.index = s->index,
                                   .coef = s->value,
                                   .rows = s->rows,
                                   .k = s->k,
                                   .n = s->n,
                                   .d = s->d,
                                   .x = s->x,
                                   .grad = grad};
}

static fct_sparse_dot_args dot_of(const sparse *s, float *coef)
{
    return (fct_sparse_dot_args){.index = s->index,
                                 .rows = s->rows,
                                 .k = s->k,
                                 .d = s->d,
                                 .x = s->x,
                                 .table = s->table,
                                 .coef = coef};
}

static const int64_t sparse_sizes[][4] = {{1, 1, 1, 1},     {3, 2, 5, 7},      {17, 4, 9, 64},
                                          {64, 10, 40, 96}, {33, 5, 300, 130}, {5, 0, 4, 8},
                                          {0, 3, 4, 8},     {200, 16, 12, 200}};

static void test_sparse_decode(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(sparse_sizes); i++)
        for (int bias = 0; bias < 2; bias++) {
            sparse s;
            sparse_init(&s, sparse_sizes[i][0], sparse_sizes[i][1], sparse_sizes[i][2],
                        sparse_sizes[i][3]);
            float *want = pool_take(&s.p, s.rows * s.d * 4),
                  *got = pool_take(&s.p, s.rows * s.d * 4);
            fct_sparse_decode_args a = decode_of(&s, want);
            if (bias) a.bias = s.bias;
            if (bias) a.n = s.n; /* the table's rows are told */
            RUN(sparse_decode, REF, &a);
            a.y = got;
            RUN(sparse_decode, CPU, &a);
            want_floats("sparse_decode", got, want, s.rows * s.d, 1e-6);
            pool_clear(&s.p);
        }
}

static void test_sparse_outer(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(sparse_sizes); i++) {
        sparse s;
        sparse_init(&s, sparse_sizes[i][0], sparse_sizes[i][1], sparse_sizes[i][2],
                    sparse_sizes[i][3]);
        float *want = pool_floats(&s.p, s.n * s.d, 0, 1), *got = pool_take(&s.p, s.n * s.d * 4);
        memcpy(got, want, (size_t)(s.n * s.d) * 4); /* adds to what is there */
        fct_sparse_outer_args a = outer_of(&s, want);
        RUN(sparse_outer, REF, &a);
        a.grad = got;
        RUN(sparse_outer, CPU, &a);
        want_floats("sparse_outer", got, want, s.n * s.d, 1e-6);
        pool_clear(&s.p);
    }
}

static void test_sparse_dot(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(sparse_sizes); i++) {
        sparse s;
        sparse_init(&s, sparse_sizes[i][0], sparse_sizes[i][1], sparse_sizes[i][2],
                    sparse_sizes[i][3]);
        float *want = pool_take(&s.p, s.rows * s.k * 4), *got = pool_take(&s.p, s.rows * s.k * 4);
        fct_sparse_dot_args a = dot_of(&s, want);
        RUN(sparse_dot, REF, &a);
        a.coef = got;
        for (int told = 0; told < 2; told++) { /* whether the table's rows are told */
            a.n = told ? s.n : 0;
            RUN(sparse_dot, CPU, &a);
            want_floats("sparse_dot", got, want, s.rows * s.k, 1e-6);
        }
        pool_clear(&s.p);
    }
}

static void test_sparse_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    int32_t index[] = {2, 0, 2, 1}; /* two rows of two */
    float value[] = {1, 10, 2, 0}, table[] = {1, 2, 3, 4, 5, 6}, bias[] = {100, 200},
          x[] = {1, -1, 0.5f, NAN};
    for (int b = 0; b < 2; b++) {
        float y[4], coef[4], grad[] = {0, 0, 7, 7, 0, 0};
        RUN(sparse_decode, both[b],
            (&(fct_sparse_decode_args){.index = index,
                                       .value = value,
                                       .rows = 2,
                                       .k = 2,
                                       .d = 2,
                                       .table = table,
                                       .bias = bias,
                                       .y = y}));
        assert_memory_equal(y, ((float[]){115, 226, 110, 212}), sizeof y);
        RUN(sparse_dot, both[b],
            (&(fct_sparse_dot_args){
                .index = index, .rows = 1, .k = 2, .d = 2, .x = x, .table = table, .coef = coef}));
        assert_memory_equal(coef, ((float[]){-1, -1}), 8);
        /* the second row's entry for feature 1 has coefficient 0: its NaN does not spread */
        RUN(sparse_outer, both[b],
            (&(fct_sparse_outer_args){.index = index,
                                      .coef = value,
                                      .rows = 2,
                                      .k = 2,
                                      .n = 3,
                                      .d = 2,
                                      .x = x,
                                      .grad = grad}));
        assert_memory_equal(grad, ((float[]){10, -10, 7, 7, 2}), 20);
        assert_true(isnan(grad[5]));
    }
}

/* The same bytes for 1, 2 and 3 threads. */
static void test_threads_change_nothing(void **state)
{
    (void)state;
    sparse s;
    sparse_init(&s, 333, 9, 50, 150);
    int64_t size = s.n * s.d;
    float *grad[3], *y[3], *coef[3];
    for (int t = 0; t < 3; t++) {
        fct_threads_set(t + 1);
        grad[t] = pool_take(&s.p, size * 4);
        y[t] = pool_take(&s.p, s.rows * s.d * 4);
        coef[t] = pool_take(&s.p, s.rows * s.k * 4);
        memset(grad[t], 0, (size_t)size * 4);
        fct_sparse_outer_args outer = outer_of(&s, grad[t]);
        fct_sparse_decode_args decode = decode_of(&s, y[t]);
        fct_sparse_dot_args dot = dot_of(&s, coef[t]);
        RUN(sparse_outer, CPU, &outer);
        RUN(sparse_decode, CPU, &decode);
        RUN(sparse_dot, CPU, &dot);
        assert_memory_equal(grad[t], grad[0], (size_t)size * 4);
        assert_memory_equal(y[t], y[0], (size_t)(s.rows * s.d) * 4);
        assert_memory_equal(coef[t], coef[0], (size_t)(s.rows * s.k) * 4);
    }
    fct_threads_set(0);
    pool_clear(&s.p);
}

static void test_sae_errors(void **state)
{
    (void)state;
    fct_arena arena;
    assert_ok(fct_arena_init(&arena, 4096));
    fct_cx cx = {.be = CPU, .arena = &arena};
    float x[8] = {0};
    int32_t index[4] = {0, 1, 2, 9};
    assert_fails(
        fct_op_topk(
            &cx, &(fct_topk_args){.x = x, .rows = 1, .n = 3, .k = 4, .index = index, .value = x}),
        FCT_ERR_SHAPE, "topk: k is 4 but a row has 3 entries");
    assert_fails(fct_op_topk(&cx, &(fct_topk_args){.x = x, .rows = 1, .n = 3, .k = 2, .value = x}),
                 FCT_ERR_ARG, "index is NULL");
    assert_fails(fct_op_matmul(&cx, &(fct_matmul_args){.a = x, .b = x, .m = 1, .n = 1, .k = 1}),
                 FCT_ERR_ARG, "c is NULL");
    assert_fails(fct_op_matmul(&cx, &(fct_matmul_args){.m = -1, .n = 1, .k = 1}), FCT_ERR_SHAPE,
                 "negative");
    assert_fails(
        fct_op_sparse_outer(
            &cx,
            &(fct_sparse_outer_args){
                .index = index, .coef = x, .rows = 2, .k = 2, .n = 4, .d = 1, .x = x, .grad = x}),
        FCT_ERR_RANGE, "index 9 at row 1");
    assert_fails(
        fct_op_sparse_decode(&cx,
                             &(fct_sparse_decode_args){
                                 .index = index, .value = x, .rows = 2, .k = 2, .d = 1, .y = x}),
        FCT_ERR_ARG, "table is NULL");
    assert_fails(
        fct_op_sparse_dot(
            &cx,
            &(fct_sparse_dot_args){.index = index, .rows = 2, .k = 2, .d = 1, .x = x, .table = x}),
        FCT_ERR_ARG, "coef is NULL");
    fct_arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_matmul_by_hand),
        cmocka_unit_test(test_topk),
        cmocka_unit_test(test_topk_by_hand),
        cmocka_unit_test(test_sparse_decode),
        cmocka_unit_test(test_sparse_outer),
        cmocka_unit_test(test_sparse_dot),
        cmocka_unit_test(test_sparse_by_hand),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_sae_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

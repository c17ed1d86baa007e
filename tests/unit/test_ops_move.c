/* test_ops_move.c - operations that move numbers or look at them: rows by number, a number for each
   channel, NaN and infinity. cpu against ref, both against cases by hand, errors. */
#include "ops_util.h"

/* Of f16, which the other helpers do not know. */
static void fill_half(pool *p, const fct_tensor *t)
{
    int64_t n = fct_tensor_count(t);
    for (int64_t i = 0; i < n; i++)
        ((uint16_t *)t->data)[i] = fct_f32_to_f16((float)(fct_rng_unit(&p->rng) * 4 - 2));
}

/* ---- rows by number ---- */

/* Rows of x lie `wide` apart in memory that is otherwise a guard's business: what lies between rows
   of y must stay as it was. */
static void one_gather(int64_t n, int64_t rows, int64_t c, fct_dtype xt, fct_dtype yt, bool strided)
{
    pool p;
    pool_init(&p, (uint64_t)(n * 31 + rows * 7 + c));
    int64_t xs = strided ? c + 3 : c, ys = strided ? c + 2 : c;
    fct_tensor x = pool_tensor(&p, xt, 2, DIMS(n, xs)),
               want = pool_tensor(&p, yt, 2, DIMS(rows, ys)),
               got = pool_tensor(&p, yt, 2, DIMS(rows, ys));
    int64_t *index = pool_take(&p, rows * (int64_t)sizeof *index);
    if (xt == FCT_F16)
        fill_half(&p, &x);
    else
        fill(&p, &x, 0, 1);
    for (int64_t r = 0; r < rows; r++) index[r] = fct_rng_below(&p.rng, n + 1) - 1;
    fct_gather_args a = {.x = x, .index = index};
    a.x.dim[1] = c;
    if (strided) a.x_stride = xs;
    if (strided) a.y_stride = ys;
    a.y = want;
    a.y.dim[1] = c;
    RUN(gather, REF, &a);
    a.y.data = got.data;
    RUN(gather, CPU, &a);
    assert_memory_equal(got.data, want.data, (size_t)fct_tensor_bytes(&got));
    const uint8_t *untouched = got.data;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = c * fct_dtype_bytes(yt); i < ys * fct_dtype_bytes(yt); i++)
            assert_int_equal(untouched[r * ys * fct_dtype_bytes(yt) + i], 0xff);
    pool_clear(&p);
}

static void test_gather(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},   {5, 3, 7},    {3, 9, 33},
                                       {40, 7, 96}, {2, 4, 1281}, {4, 0, 8}};
    static const fct_dtype types[][2] = {{FCT_F32, FCT_F32},   {FCT_BF16, FCT_BF16},
                                         {FCT_F32, FCT_BF16},  {FCT_BF16, FCT_F32},
                                         {FCT_F16, FCT_F32},   {FCT_F16, FCT_BF16}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t t = 0; t < FCT_COUNT(types); t++)
            for (int strided = 0; strided < 2; strided++)
                one_gather(sizes[i][0], sizes[i][1], sizes[i][2], types[t][0], types[t][1],
                           strided);
}

static void test_gather_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    float x[] = {1, 2, 3, 4, 5, 6}, y[8];
    const int64_t index[] = {2, -1, 0, 2};
    for (int b = 0; b < 2; b++) {
        RUN(gather, both[b],
            (&(fct_gather_args){.x = fct_tensor_of(x, FCT_F32, 2, DIMS(3, 2)),
                                .y = fct_tensor_of(y, FCT_F32, 2, DIMS(4, 2)),
                                .index = index}));
        assert_memory_equal(y, ((float[]){5, 6, 0, 0, 1, 2, 5, 6}), sizeof y);
        /* the middle column of [2,3] */
        RUN(gather, both[b],
            (&(fct_gather_args){.x = fct_tensor_of(x + 1, FCT_F32, 2, DIMS(2, 1)),
                                .y = fct_tensor_of(y, FCT_F32, 2, DIMS(2, 1)),
                                .x_stride = 3}));
        assert_memory_equal(y, ((float[]){2, 5}), 2 * sizeof *y);
    }
}

/* ---- a number for each picture and channel ---- */

static void test_add_channels(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{1, 1, 1, 1},    {2, 3, 5, 7},   {1, 16, 16, 96},
                                       {3, 9, 2, 1281}, {2, 40, 41, 8}, {0, 4, 4, 4}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (int half = 0; half < 2; half++) {
            pool p;
            pool_init(&p, i);
            fct_dtype t = half ? FCT_BF16 : FCT_F32;
            fct_tensor x = pool_random(&p, t, 4, sizes[i]), want = pool_tensor(&p, t, 4, sizes[i]),
                       got = pool_tensor(&p, t, 4, sizes[i]);
            fct_add_channels_args a = {
                .x = x, .y = want, .add = pool_floats(&p, sizes[i][0] * sizes[i][3], 0, 1)};
            RUN(add_channels, REF, &a);
            a.y = got;
            RUN(add_channels, CPU, &a);
            /* an f64 sum of two f32 rounds to the f32 sum, so the bytes are the same */
            assert_memory_equal(got.data, want.data, (size_t)fct_tensor_bytes(&got));
            a.y = a.x;
            RUN(add_channels, CPU, &a);
            assert_memory_equal(x.data, want.data, (size_t)fct_tensor_bytes(&x));
            pool_clear(&p);
        }
    const fct_backend *both[] = {REF, CPU};
    for (int b = 0; b < 2; b++) {
        float x[] = {1, 2, 3, 4, 5, 6, 7, 8};
        const float add[] = {10, 20, 100, 200};
        fct_tensor t = fct_tensor_of(x, FCT_F32, 3, DIMS(2, 2, 2));
        RUN(add_channels, both[b], (&(fct_add_channels_args){.x = t, .y = t, .add = add}));
        assert_memory_equal(x, ((float[]){11, 22, 13, 24, 105, 206, 107, 208}), sizeof x);
    }
}

/* ---- NaN and infinity ---- */

static void one_finite(pool *p, fct_dtype t, int64_t n)
{
    const fct_backend *both[] = {REF, CPU};
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    fct_tensor x = pool_random(p, t, 1, &n);
    for (int b = 0; b < 2; b++) {
        bool finite = false;
        RUN(finite, both[b], (&(fct_finite_args){.x = x, .finite = &finite}));
        assert_true(finite);
        for (size_t i = 0; i < FCT_COUNT(wrong) && n > 0; i++) {
            int64_t at = i == 0 ? 0 : i == 1 ? n - 1 : n / 2;
            float was = get(&x, at);
            set(&x, at, wrong[i]);
            RUN(finite, both[b], (&(fct_finite_args){.x = x, .finite = &finite}));
            assert_false(finite);
            set(&x, at, was);
        }
    }
}

static void test_finite(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 7, 513, 40001};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++) {
        pool p;
        pool_init(&p, i);
        one_finite(&p, FCT_F32, sizes[i]);
        one_finite(&p, FCT_BF16, sizes[i]);
        pool_clear(&p);
    }
    float most[] = {3.4028234663852886e38f, -3.4028234663852886e38f, 1e-45f, 0};
    bool finite = false;
    RUN(finite, CPU,
        (&(fct_finite_args){.x = fct_tensor_of(most, FCT_F32, 1, DIMS(4)), .finite = &finite}));
    assert_true(finite); /* the largest numbers and the smallest are */
}

/* ---- errors ---- */

static void test_errors(void **state)
{
    (void)state;
    fct_arena arena;
    fct_cx cx;
    float d[16] = {0};
    const int64_t far[] = {0, 3};
    assert_ok(fct_arena_init(&arena, 64));
    assert_ok(fct_cx_open(&cx, CPU, NULL));
    cx.arena = &arena;
    fct_tensor x = fct_tensor_of(d, FCT_F32, 2, DIMS(3, 2)),
               y = fct_tensor_of(d + 8, FCT_F32, 2, DIMS(2, 2)),
               wide = fct_tensor_of(d + 8, FCT_F32, 2, DIMS(2, 4));
    assert_fails(fct_op_gather(&cx, &(fct_gather_args){.x = x, .y = y, .index = far}),
                 FCT_ERR_RANGE, "gather: row 1 is number 3 of 3");
    assert_fails(fct_op_gather(&cx, &(fct_gather_args){.x = x, .y = y}), FCT_ERR_SHAPE,
                 "2 rows are taken from 3 without numbers");
    assert_fails(fct_op_gather(&cx, &(fct_gather_args){.x = x, .y = wide}), FCT_ERR_SHAPE,
                 "rows of 4 channels are taken from rows of 2");
    assert_fails(fct_op_gather(&cx, &(fct_gather_args){.x = x, .y = x, .x_stride = 1}), FCT_ERR_ARG,
                 "stride");
    assert_fails(fct_op_add_channels(&cx, &(fct_add_channels_args){.x = x, .y = x}), FCT_ERR_ARG,
                 "add is NULL");
    assert_fails(fct_op_add_channels(&cx, &(fct_add_channels_args){.x = x, .y = y, .add = d}),
                 FCT_ERR_SHAPE, "x is [3,2] but y is [2,2]");
    assert_fails(fct_op_finite(&cx, &(fct_finite_args){.x = x}), FCT_ERR_ARG, "finite is NULL");
    fct_cx_close(&cx);
    fct_arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),       cmocka_unit_test(test_gather_by_hand),
        cmocka_unit_test(test_add_channels), cmocka_unit_test(test_finite),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

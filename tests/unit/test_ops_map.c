/* test_ops_map.c - norms, elementwise operations and pooling: cpu against ref, ref
 * against hand cases. */
#include "ops_util.h"

static const fct_dtype mixes[][2] = {
    {FCT_F32, FCT_F32}, {FCT_BF16, FCT_BF16}, {FCT_BF16, FCT_F32}, {FCT_F32, FCT_BF16}};

static double bound(fct_dtype y)
{
    return y == FCT_BF16 ? 1e-3 : 1e-6;
}

/* ---- norms ---- */

static void one_group_norm(const int64_t dim[4], int64_t groups, fct_dtype xt, fct_dtype yt,
                           fct_act act, float mean)
{
    pool p;
    pool_init(&p, (uint64_t)(dim[1] * 5 + dim[3]));
    fct_tensor x = pool_tensor(&p, xt, 4, dim), want = pool_tensor(&p, yt, 4, dim),
               got = pool_tensor(&p, yt, 4, dim);
    fill(&p, &x, mean, 2);
    fct_group_norm_args a = {.x = x,
                             .y = want,
                             .gamma = pool_floats(&p, dim[3], 1, 1),
                             .beta = pool_floats(&p, dim[3], 0, 1),
                             .groups = groups,
                             .eps = 1e-5f,
                             .act = act};
    RUN(group_norm, REF, &a);
    a.y = got;
    RUN(group_norm, CPU, &a);
    char what[96];
    snprintf(what, sizeof what, "group_norm [%lld,%lld,%lld,%lld] %s->%s mean %g",
             (long long)dim[0], (long long)dim[1], (long long)dim[2], (long long)dim[3],
             fct_dtype_name(xt), fct_dtype_name(yt), (double)mean);
    want_close(what, &got, &want, mean > 10 ? 1e-4 : bound(yt));
    if (xt == yt) { /* in place gives the same bytes */
        a.y = x;
        RUN(group_norm, CPU, &a);
        assert_memory_equal(x.data, got.data, (size_t)fct_tensor_bytes(&x));
    }
    pool_clear(&p);
}

static void test_group_norm(void **state)
{
    (void)state;
    static const int64_t sizes[][5] = {{1, 1, 1, 4, 2},   {2, 3, 5, 24, 8},     {1, 16, 16, 48, 8},
                                       {3, 8, 8, 96, 32}, {1, 33, 17, 320, 32}, {1, 2, 2, 1040, 4},
                                       {2, 40, 40, 6, 3}, {0, 4, 4, 8, 2},      {1, 1, 1, 3, 3}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t m = 0; m < FCT_COUNT(mixes); m++)
            for (int act = FCT_ACT_NONE; act <= FCT_ACT_RELU; act++)
                one_group_norm(sizes[i], sizes[i][4], mixes[m][0], mixes[m][1], (fct_act)act, 1);
    /* a mean 500 times the deviation: one-pass sums of squares in f32 would be all rounding here */
    one_group_norm(DIMS(1, 32, 32, 32), 8, FCT_F32, FCT_F32, FCT_ACT_NONE, 1000);
}

static void test_group_norm_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    float x[] = {1, 10, 3, 10, 5, 10, 7, 10}, y[8], gamma[] = {2, 3}, beta[] = {1, -1};
    for (int b = 0; b < 2;
         b++) { /* channel 0: mean 4, variance 5; channel 1: constant, so beta remains */
        RUN(group_norm, both[b],
            (&(fct_group_norm_args){.x = fct_tensor_of(x, FCT_F32, 4, DIMS(1, 2, 2, 2)),
                                    .y = fct_tensor_of(y, FCT_F32, 4, DIMS(1, 2, 2, 2)),
                                    .gamma = gamma,
                                    .beta = beta,
                                    .groups = 2}));
        for (int i = 0; i < 4; i++) {
            assert_float_equal(y[2 * i], (x[2 * i] - 4) / sqrtf(5) * 2 + 1, 1e-6);
            if (b == 0) assert_true(isnan(y[2 * i + 1])); /* 0/0: eps is 0 here */
        }
        RUN(group_norm, both[b],
            (&(fct_group_norm_args){.x = fct_tensor_of(x, FCT_F32, 4, DIMS(1, 2, 2, 2)),
                                    .y = fct_tensor_of(y, FCT_F32, 4, DIMS(1, 2, 2, 2)),
                                    .gamma = gamma,
                                    .beta = beta,
                                    .groups = 2,
                                    .eps = 1e-5f,
                                    .act = FCT_ACT_RELU}));
        for (int i = 0; i < 4; i++) assert_float_equal(y[2 * i + 1], 0, 0);
    }
}

static void one_layer_norm(int64_t rows, int64_t width, fct_dtype xt, fct_dtype yt, bool affine,
                           float mean)
{
    pool p;
    pool_init(&p, (uint64_t)(rows + width));
    fct_tensor x = pool_tensor(&p, xt, 2, DIMS(rows, width)),
               want = pool_tensor(&p, yt, 2, DIMS(rows, width));
    fct_tensor got = pool_tensor(&p, yt, 2, DIMS(rows, width));
    fill(&p, &x, mean, 1);
    fct_layer_norm_args a = {.x = x, .y = want, .eps = 1e-5f};
    if (affine) {
        a.gamma = pool_floats(&p, width, 1, 1);
        a.beta = pool_floats(&p, width, 0, 1);
    }
    RUN(layer_norm, REF, &a);
    a.y = got;
    RUN(layer_norm, CPU, &a);
    want_close("layer_norm", &got, &want, mean > 10 ? 1e-4 : bound(yt));
    pool_clear(&p);
}

static void test_layer_norm(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1},     {1, 2},    {7, 33},   {77, 64},
                                       {100, 320}, {3, 1280}, {2, 2051}, {0, 4}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t m = 0; m < FCT_COUNT(mixes); m++)
            for (int affine = 0; affine < 2; affine++)
                one_layer_norm(sizes[i][0], sizes[i][1], mixes[m][0], mixes[m][1], affine, 0.5f);
    one_layer_norm(4, 640, FCT_F32, FCT_F32, true, 1000);
    const fct_backend *both[] = {REF, CPU};
    float x[] = {1, 3, 5, 7}, y[4];
    for (int b = 0; b < 2; b++) {
        fct_tensor t = fct_tensor_of(x, FCT_F32, 1, DIMS(4)),
                   o = fct_tensor_of(y, FCT_F32, 1, DIMS(4));
        RUN(layer_norm, both[b], (&(fct_layer_norm_args){.x = t, .y = o}));
        for (int i = 0; i < 4; i++) assert_float_equal(y[i], (x[i] - 4) / sqrtf(5), 1e-6);
    }
}

/* ---- elementwise ---- */

static void test_unary(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 15, 512, 513, 20001};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t m = 0; m < FCT_COUNT(mixes); m++)
            for (int act = FCT_ACT_NONE; act <= FCT_ACT_RELU; act++) {
                pool p;
                pool_init(&p, i);
                fct_tensor x = pool_tensor(&p, mixes[m][0], 1, &sizes[i]),
                           want = pool_tensor(&p, mixes[m][1], 1, &sizes[i]);
                fct_tensor got = pool_tensor(&p, mixes[m][1], 1, &sizes[i]);
                fill(&p, &x, 2, 1); /* the tails are in test_activations */
                if (sizes[i] == 0) {
                    pool_clear(&p);
                    continue;
                }
                RUN(unary, REF, (&(fct_unary_args){.x = x, .y = want, .act = (fct_act)act}));
                RUN(unary, CPU, (&(fct_unary_args){.x = x, .y = got, .act = (fct_act)act}));
                want_close("unary", &got, &want, bound(mixes[m][1]));
                if (act == FCT_ACT_NONE)
                    assert_memory_equal(got.data, want.data, (size_t)fct_tensor_bytes(&got));
                pool_clear(&p);
            }
}

/* Every activation over the whole range where it does something, against float64. */
static void test_activations(void **state)
{
    (void)state;
    enum { N = 40001 };
    pool p;
    pool_init(&p, 1);
    float *x = pool_floats(&p, N, 0, 1), *y = pool_floats(&p, N, 0, 1);
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) / 200; /* -100 to 100 */
    const int64_t n = N;
    fct_tensor xt = fct_tensor_of(x, FCT_F32, 1, &n), yt = fct_tensor_of(y, FCT_F32, 1, &n);
    const fct_backend *both[] = {REF, CPU};
    for (int b = 0; b < 2; b++)
        for (int act = FCT_ACT_SILU; act <= FCT_ACT_QUICK_GELU; act++) {
            RUN(unary, both[b], (&(fct_unary_args){.x = xt, .y = yt, .act = (fct_act)act}));
            for (int i = 0; i < N; i++) {
                double v = (double)x[i];
                double want = act == FCT_ACT_SILU   ? v / (1 + exp(-v))
                              : act == FCT_ACT_GELU ? v * 0.5 * erfc(-v / sqrt(2))
                                                    : v / (1 + exp(-1.702 * v));
                double error = fabs((double)y[i] - want);
                if (!(error <= 4e-7 * fabs(want) + 1e-6))
                    fail_msg("%s: act %d at %g: %g, not %g", both[b]->name, act, v, (double)y[i],
                             want);
            }
        }
    float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -1e30f}, out[5];
    const int64_t five = 5;
    fct_tensor s = fct_tensor_of(special, FCT_F32, 1, &five),
               o = fct_tensor_of(out, FCT_F32, 1, &five);
    for (int b = 0; b < 2; b++)
        for (int act = FCT_ACT_NONE; act <= FCT_ACT_RELU; act++) {
            RUN(unary, both[b], (&(fct_unary_args){.x = s, .y = o, .act = (fct_act)act}));
            assert_true(isnan(out[0])); /* every activation lets NaN through */
            assert_true(out[1] == INFINITY);
            assert_float_equal(out[3], 0, 0);
            if (act != FCT_ACT_NONE) assert_float_equal(out[4], 0, 1e-5);
        }
    pool_clear(&p);
}

static void test_bf16_rounding(
    void **state) /* all upper halves, with lower halves around the middle */
{
    (void)state;
    enum { N = 65536 };
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    pool p;
    pool_init(&p, 1);
    uint32_t *x = pool_take(&p, N * 4);
    uint16_t *y = pool_take(&p, N * 2);
    const int64_t n = N;
    for (size_t l = 0; l < FCT_COUNT(low); l++) {
        for (uint32_t i = 0; i < N; i++) x[i] = i << 16 | low[l];
        RUN(unary, CPU,
            (&(fct_unary_args){.x = fct_tensor_of(x, FCT_F32, 1, &n),
                               .y = fct_tensor_of(y, FCT_BF16, 1, &n)}));
        for (uint32_t i = 0; i < N; i++) {
            float f;
            memcpy(&f, &x[i], 4);
            if (isnan(f))
                assert_true(isnan(fct_bf16_to_f32(y[i])));
            else
                assert_int_equal(y[i], fct_f32_to_bf16(f));
        }
    }
    pool_clear(&p);
}

static void test_add_concat_geglu(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},     {3, 5, 7},      {64, 96, 32},
                                       {200, 130, 3}, {2, 1500, 700}, {0, 4, 4}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t m = 0; m < 8; m++) {
            pool p;
            pool_init(&p, i * 8 + m);
            int64_t rows = sizes[i][0], na = sizes[i][1], nb = sizes[i][2];
            fct_dtype at = m & 1 ? FCT_BF16 : FCT_F32, bt = m & 2 ? FCT_BF16 : FCT_F32,
                      yt = m & 4 ? FCT_BF16 : FCT_F32;
            fct_tensor a = pool_random(&p, at, 2, DIMS(rows, na)),
                       b = pool_random(&p, bt, 2, DIMS(rows, na)),
                       c = pool_random(&p, bt, 2, DIMS(rows, nb));
            fct_tensor want = pool_tensor(&p, yt, 2, DIMS(rows, na)),
                       got = pool_tensor(&p, yt, 2, DIMS(rows, na));
            RUN(add, REF, (&(fct_add_args){.a = a, .b = b, .y = want, .scale = -0.5f}));
            RUN(add, CPU, (&(fct_add_args){.a = a, .b = b, .y = got, .scale = -0.5f}));
            want_close("add", &got, &want, bound(yt));
            fct_tensor wide = pool_tensor(&p, yt, 2, DIMS(rows, na + nb)),
                       wide2 = pool_tensor(&p, yt, 2, DIMS(rows, na + nb));
            RUN(concat, REF, (&(fct_concat_args){.a = a, .b = c, .y = wide}));
            RUN(concat, CPU, (&(fct_concat_args){.a = a, .b = c, .y = wide2}));
            assert_memory_equal(wide.data, wide2.data, (size_t)fct_tensor_bytes(&wide));
            fct_tensor x = pool_random(&p, at, 2, DIMS(rows, 2 * na));
            RUN(geglu, REF, (&(fct_geglu_args){.x = x, .y = want}));
            RUN(geglu, CPU, (&(fct_geglu_args){.x = x, .y = got}));
            want_close("geglu", &got, &want, bound(yt));
            if (at == yt && rows > 0) { /* in place */
                RUN(add, CPU, (&(fct_add_args){.a = a, .b = b, .y = want, .scale = 2}));
                RUN(add, CPU, (&(fct_add_args){.a = a, .b = b, .y = a, .scale = 2}));
                assert_memory_equal(a.data, want.data, (size_t)fct_tensor_bytes(&a));
            }
            pool_clear(&p);
        }
}

static void test_elementwise_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    float a[] = {1, 2, 3, 4}, b[] = {10, 20}, y[6];
    for (int i = 0; i < 2; i++) {
        RUN(concat, both[i],
            (&(fct_concat_args){.a = fct_tensor_of(a, FCT_F32, 2, DIMS(2, 2)),
                                .b = fct_tensor_of(b, FCT_F32, 2, DIMS(2, 1)),
                                .y = fct_tensor_of(y, FCT_F32, 2, DIMS(2, 3))}));
        assert_memory_equal(y, ((float[]){1, 2, 10, 3, 4, 20}), 24);
        RUN(add, both[i],
            (&(fct_add_args){.a = fct_tensor_of(a, FCT_F32, 1, DIMS(2)),
                             .b = fct_tensor_of(b, FCT_F32, 1, DIMS(2)),
                             .y = fct_tensor_of(y, FCT_F32, 1, DIMS(2)),
                             .scale = 3}));
        assert_memory_equal(y, ((float[]){31, 62}), 8);
        float x[] = {5, 7, 0, 1}; /* values 5, 7; gates 0, 1 */
        RUN(geglu, both[i],
            (&(fct_geglu_args){.x = fct_tensor_of(x, FCT_F32, 2, DIMS(1, 4)),
                               .y = fct_tensor_of(y, FCT_F32, 2, DIMS(1, 2))}));
        assert_float_equal(y[0], 0, 0);
        assert_float_equal(y[1], 7 * 0.8413447461f, 1e-5); /* Φ(1) */
    }
}

static void test_pool(void **state)
{
    (void)state;
    static const int64_t sizes[][5] = {{1, 1, 1, 1, 0},   {2, 8, 8, 96, 0},   {1, 7, 5, 3, 2},
                                       {2, 9, 6, 700, 3}, {1, 40, 40, 33, 4}, {1, 2, 2, 4, 1},
                                       {0, 4, 4, 4, 2},   {1, 3, 3, 4, 5}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t m = 0; m < FCT_COUNT(mixes); m++)
            for (int max = 0; max < 2; max++) {
                pool p;
                pool_init(&p, i);
                int64_t s = sizes[i][4], ho = s ? sizes[i][1] / s : 1, wo = s ? sizes[i][2] / s : 1;
                fct_tensor x = pool_random(&p, mixes[m][0], 4, sizes[i]);
                fct_tensor want = pool_tensor(&p, mixes[m][1], 4,
                                              DIMS(sizes[i][0], ho, wo, sizes[i][3])),
                           got = pool_tensor(&p, mixes[m][1], 4, want.dim);
                RUN(pool, REF, (&(fct_pool_args){.x = x, .y = want, .size = s, .max = max}));
                RUN(pool, CPU, (&(fct_pool_args){.x = x, .y = got, .size = s, .max = max}));
                want_close("pool", &got, &want, bound(mixes[m][1]));
                pool_clear(&p);
            }
    const fct_backend *both[] = {REF, CPU};
    float x[] = {1, 2, 3, 4, 5, 6}, y[2];
    for (int b = 0; b < 2; b++) { /* a 2x3 map: one 2x2 window, its third column left over */
        fct_tensor t = fct_tensor_of(x, FCT_F32, 4, DIMS(1, 2, 3, 1));
        RUN(pool, both[b],
            (&(fct_pool_args){
                .x = t, .y = fct_tensor_of(y, FCT_F32, 4, DIMS(1, 1, 1, 1)), .size = 2}));
        assert_float_equal(y[0], 3, 1e-6);
        RUN(pool, both[b],
            (&(fct_pool_args){.x = t, .y = fct_tensor_of(y, FCT_F32, 2, DIMS(1, 1)), .max = true}));
        assert_float_equal(y[0], 6, 0);
    }
}

/* ---- errors, threads ---- */

static void test_map_errors(void **state)
{
    (void)state;
    fct_arena arena;
    assert_ok(fct_arena_init(&arena, 64));
    fct_cx cx = {.be = CPU, .arena = &arena};
    float d[64] = {0};
    fct_tensor x = fct_tensor_of(d, FCT_F32, 4, DIMS(1, 2, 2, 6)),
               y3 = fct_tensor_of(d, FCT_F32, 3, DIMS(1, 4, 6)),
               b = fct_tensor_of(d, FCT_BF16, 4, DIMS(1, 2, 2, 6));
    assert_fails(
        fct_op_group_norm(
            &cx, &(fct_group_norm_args){.x = x, .y = x, .gamma = d, .beta = d, .groups = 4}),
        FCT_ERR_SHAPE, "group_norm: 6 channels do not make 4 groups");
    assert_fails(
        fct_op_group_norm(&cx, &(fct_group_norm_args){.x = x, .y = x, .beta = d, .groups = 2}),
        FCT_ERR_ARG, "gamma is NULL");
    assert_fails(
        fct_op_group_norm(
            &cx, &(fct_group_norm_args){.x = x, .y = b, .gamma = d, .beta = d, .groups = 2}),
        FCT_ERR_ARG, "in place");
    assert_fails(fct_op_unary(&cx, &(fct_unary_args){.x = x, .y = y3, .act = (fct_act)9}),
                 FCT_ERR_ARG, "activation 9");
    fct_tensor k = fct_tensor_of(d, FCT_F32, 3, DIMS(1, 0, 6)),
               k8 = fct_tensor_of(d, FCT_F32, 3, DIMS(1, 4, 8));
    assert_fails(
        fct_op_attention(&cx, &(fct_attention_args){.q = y3, .k = k, .v = k, .y = y3, .heads = 2}),
        FCT_ERR_SHAPE, "no keys");
    assert_fails(fct_op_attention(
                     &cx, &(fct_attention_args){.q = y3, .k = k8, .v = k8, .y = y3, .heads = 2}),
                 FCT_ERR_SHAPE, "q is [1,4,6] but k is [1,4,8]");
    assert_fails(fct_op_attention(
                     &cx, &(fct_attention_args){.q = y3, .k = y3, .v = y3, .y = y3, .heads = 4}),
                 FCT_ERR_SHAPE, "heads");
    assert_fails(
        fct_op_attention(
            &cx,
            &(fct_attention_args){.q = y3, .k = y3, .v = y3, .y = y3, .heads = 2, .q_stride = 5}),
        FCT_ERR_ARG, "stride of 5");
    assert_fails(fct_op_geglu(&cx, &(fct_geglu_args){.x = y3, .y = y3}), FCT_ERR_SHAPE,
                 "twice as wide");
    assert_fails(fct_op_concat(&cx, &(fct_concat_args){.a = x, .b = x, .y = x}), FCT_ERR_SHAPE,
                 "beside");
    assert_fails(fct_op_pool(&cx, &(fct_pool_args){.x = x, .y = x, .size = 2}), FCT_ERR_SHAPE,
                 "so y is [1,1,1,6]");
    assert_fails(fct_op_add(&cx, &(fct_add_args){.a = x, .b = k8, .y = x}), FCT_ERR_SHAPE,
                 "but b is [1,4,8]");
    assert_fails(fct_op_layer_norm(&cx, &(fct_layer_norm_args){.x = x, .y = k8}), FCT_ERR_SHAPE,
                 "layer_norm: x is [1,2,2,6]");
    fct_arena_clear(&arena);
}

/* Own loops give the same bytes for 1, 2 and 3 threads. */
static void test_threads_change_nothing(void **state)
{
    (void)state;
    pool p;
    pool_init(&p, 8);
    const int64_t dim[] = {2, 37, 41, 48};
    fct_tensor x = pool_random(&p, FCT_F32, 4, dim), y[3], z[3], w[3];
    fct_tensor q = fct_tensor_of(x.data, FCT_F32, 3, DIMS(1, 300, 48));
    float *gamma = pool_floats(&p, 48, 1, 1), *beta = pool_floats(&p, 48, 0, 1);
    for (int t = 0; t < 3; t++) {
        fct_threads_set(t + 1);
        y[t] = pool_tensor(&p, FCT_F32, 4, dim);
        z[t] = pool_tensor(&p, FCT_F32, 3, q.dim);
        w[t] = pool_tensor(&p, FCT_BF16, 4, dim);
        RUN(group_norm, CPU,
            (&(fct_group_norm_args){.x = x,
                                    .y = y[t],
                                    .gamma = gamma,
                                    .beta = beta,
                                    .groups = 8,
                                    .eps = 1e-5f,
                                    .act = FCT_ACT_SILU}));
        RUN(attention, CPU, (&(fct_attention_args){.q = q, .k = q, .v = q, .y = z[t], .heads = 3}));
        RUN(layer_norm, CPU, (&(fct_layer_norm_args){.x = x, .y = w[t], .gamma = gamma}));
        assert_memory_equal(y[t].data, y[0].data, (size_t)fct_tensor_bytes(&y[0]));
        assert_memory_equal(z[t].data, z[0].data, (size_t)fct_tensor_bytes(&z[0]));
        assert_memory_equal(w[t].data, w[0].data, (size_t)fct_tensor_bytes(&w[0]));
    }
    fct_threads_set(0);
    pool_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_norm),
        cmocka_unit_test(test_group_norm_by_hand),
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_bf16_rounding),
        cmocka_unit_test(test_add_concat_geglu),
        cmocka_unit_test(test_elementwise_by_hand),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_map_errors),
        cmocka_unit_test(test_threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

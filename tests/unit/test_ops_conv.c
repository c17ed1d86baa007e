/* test_ops_conv.c - convolutions: cpu against ref on awkward shapes and large maps, ref against
 * hand cases, errors. */
#include "ops_util.h"

typedef struct conv_case {
    int64_t b, h, w, i, o, k; /* x [b,h,w,i], kernel k x k, o outputs */
    int64_t stride, pad, top, left, bottom, right, up_h, up_w; /* pad: on all four sides */
    bool bias, add;
    int residual;
} conv_case;

static void one_conv(const conv_case *c, fct_dtype xt, fct_dtype wt, fct_dtype yt)
{
    pool p;
    int64_t top = c->pad + c->top, left = c->pad + c->left;
    int64_t bottom = c->pad + c->bottom, right = c->pad + c->right;
    pool_init(&p, (uint64_t)(c->h * 31 + c->i * 5 + c->o));
    int64_t s = c->stride ? c->stride : 1;
    int64_t ho = ((c->up_h ? c->up_h : c->h) + top + bottom - c->k) / s + 1;
    int64_t wo = ((c->up_w ? c->up_w : c->w) + left + right - c->k) / s + 1;
    fct_tensor t = pool_random(&p, FCT_F32, 4, DIMS(c->o, c->i, c->k, c->k));
    fct_tensor want = pool_tensor(&p, yt, 4, DIMS(c->b, ho, wo, c->o)),
               got = pool_tensor(&p, yt, 4, DIMS(c->b, ho, wo, c->o));
    fct_conv2d_args a = {.x = pool_random(&p, xt, 4, DIMS(c->b, c->h, c->w, c->i)),
                         .stride = c->stride,
                         .pad_top = top,
                         .pad_left = left,
                         .pad_bottom = bottom,
                         .pad_right = right,
                         .up_h = c->up_h,
                         .up_w = c->up_w};
    if (c->bias) a.bias = pool_floats(&p, c->o, 0, 1);
    if (c->add) a.channel_add = pool_floats(&p, c->b * c->o, 0, 1);
    if (c->residual)
        a.residual =
            pool_random(&p, c->residual == 2 ? FCT_BF16 : FCT_F32, 4, DIMS(c->b, ho, wo, c->o));
    fct_weight wr, wc;
    pack_one(&wr, REF, FCT_PACK_CONV, wt, &t);
    pack_one(&wc, CPU, FCT_PACK_CONV, wt, &t);
    a.w = &wr;
    a.y = want;
    RUN(conv2d, REF, &a);
    a.w = &wc;
    a.y = got;
    RUN(conv2d, CPU, &a);
    char what[128];
    snprintf(what, sizeof what,
             "conv B%lld %lldx%lld %lld->%lld k%lld s%lld up %lldx%lld %s·%s->%s", (long long)c->b,
             (long long)c->h, (long long)c->w, (long long)c->i, (long long)c->o, (long long)c->k,
             (long long)s, (long long)c->up_h, (long long)c->up_w, fct_dtype_name(xt),
             fct_dtype_name(wt), fct_dtype_name(yt));
    want_close(what, &got, &want, yt == FCT_BF16 ? 1e-3 : 1e-5);
    fct_weight_clear(&wr);
    fct_weight_clear(&wc);
    pool_clear(&p);
}

static const conv_case conv_cases[] = {
    {1, 1, 1, 1, 1, 1},
    {1, 1, 1, 3, 2, 3, .pad = 1, .bias = true},
    {1, 8, 8, 96, 96, 3, .pad = 1, .bias = true, .add = true},
    {2, 8, 8, 48, 96, 3, .pad = 1, .bias = true, .add = true, .residual = 1},
    {3, 9, 7, 5, 13, 3, .pad = 1, .add = true},
    {1, 16, 16, 4, 24, 3, .pad = 1, .bias = true},
    {1, 16, 16, 24, 4, 3, .pad = 1, .bias = true, .residual = 2},
    {1, 16, 12, 24, 48, 3, .stride = 2, .pad = 1, .bias = true},
    {2, 16, 16, 16, 16, 3, .stride = 2, .bottom = 1, .right = 1, .bias = true}, /* the VAE's down */
    {1, 11, 6, 7, 9, 3, .stride = 2, .bottom = 1, .right = 1, .residual = 1},
    {2, 4, 4, 32, 32, 3, .pad = 1, .up_h = 8, .up_w = 8, .bias = true},
    {1, 5, 3, 8, 8, 3, .pad = 1, .up_h = 9, .up_w = 7},
    {2, 6, 5, 24, 40, 1, .bias = true, .residual = 1},
    {1, 6, 5, 8, 8, 1, .stride = 2, .bias = true},
    {1, 3, 3, 8, 5, 1, .top = 1, .left = 2, .bottom = 0, .right = 1, .up_h = 6, .up_w = 6,
     .bias = true},
    {1, 28, 28, 3, 32, 14, .stride = 14}, /* patches */
    {1, 31, 31, 3, 64, 11, .stride = 4, .pad = 2, .bias = true},
    {1, 33, 35, 64, 64, 3, .pad = 1, .bias = true, .residual = 1},
    {0, 4, 4, 8, 8, 3},
};

static void test_conv2d(void **state)
{
    (void)state;
    static const fct_dtype types[][3] = {{FCT_F32, FCT_F32, FCT_F32},
                                         {FCT_BF16, FCT_BF16, FCT_BF16},
                                         {FCT_BF16, FCT_BF16, FCT_F32},
                                         {FCT_F32, FCT_BF16, FCT_BF16},
                                         {FCT_BF16, FCT_F32, FCT_BF16}};
    for (size_t i = 0; i < FCT_COUNT(conv_cases); i++)
        for (size_t t = 0; t < FCT_COUNT(types); t++)
            one_conv(&conv_cases[i], types[t][0], types[t][1], types[t][2]);
}

/* A weight that is told its map is large, on maps of every remainder by the tile and smaller than
 * told; the epilogue. */
static void test_conv2d_large_map(void **state)
{
    (void)state;
    static const int64_t sizes[][5] = {/* batch, height, width, inputs, outputs */
                                       {1, 32, 34, 128, 128},
                                       {2, 22, 26, 129, 131},
                                       {1, 6, 6, 128, 128}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (int kind = 0; kind < 3; kind++) {
            pool p;
            pool_init(&p, i);
            const int64_t *n = sizes[i];
            fct_dtype xt = kind == 1 ? FCT_BF16 : FCT_F32, yt = kind == 2 ? FCT_BF16 : FCT_F32;
            int64_t up = kind == 2 ? 2 : 1, lo = kind == 1 ? 0 : 1;
            int64_t ho = n[1] + lo + 1 - 2, wo = n[2] + lo + 1 - 2;
            fct_tensor t = pool_random(&p, FCT_F32, 4, DIMS(n[4], n[3], 3, 3)),
                       x = pool_random(&p, xt, 4, DIMS(n[0], n[1] / up, n[2] / up, n[3]));
            fct_tensor want = pool_tensor(&p, yt, 4, DIMS(n[0], ho, wo, n[4])),
                       got = pool_tensor(&p, yt, 4, want.dim);
            fct_conv2d_args a = {
                .x = x, .pad_top = lo, .pad_left = lo, .pad_bottom = 1, .pad_right = 1};
            a.bias = kind != 1 ? pool_floats(&p, n[4], 0, 1) : NULL;
            a.channel_add = kind != 2 ? pool_floats(&p, n[0] * n[4], 0, 1) : NULL;
            if (kind == 1) a.residual = pool_random(&p, FCT_BF16, 4, want.dim);
            if (kind == 2) a.up_h = n[1];
            if (kind == 2) a.up_w = n[2];
            fct_weight plain, told;
            fct_weight_part part = {.t = &t};
            pack_one(&plain, REF, FCT_PACK_CONV, FCT_F32, &t);
            assert_ok(fct_weight_pack(
                CPU, &told,
                &(fct_pack_desc){.kind = FCT_PACK_CONV, .part = &part, .n_parts = 1, .map = 4096}));
            assert_true(told.bytes >= 5 * n[3] * n[4] * 9 * 4); /* the second form is there */
            a.w = &plain;
            a.y = want;
            RUN(conv2d, REF, &a);
            a.w = &told;
            a.y = got;
            RUN(conv2d, CPU, &a);
            want_close("large map", &got, &want, yt == FCT_BF16 ? 1e-3 : 1e-5);
            fct_weight_clear(&plain);
            fct_weight_clear(&told);
            pool_clear(&p);
        }
}

/* A 2x2 map under a 3x3 kernel of 1..9 with padding: every output is a visible part of the kernel.
 */
static void test_conv2d_by_hand(void **state)
{
    (void)state;
    float x[] = {1, 10, 100, 1000}, w[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, y[4], big[16];
    const float want[] = {5 + 60 + 800 + 9000, 4 + 50 + 700 + 8000, 2 + 30 + 500 + 6000,
                          1 + 20 + 400 + 5000};
    const fct_backend *both[] = {REF, CPU};
    for (int b = 0; b < 2; b++) {
        fct_tensor t = fct_tensor_of(w, FCT_F32, 4, DIMS(1, 1, 3, 3));
        fct_weight packed;
        pack_one(&packed, both[b], FCT_PACK_CONV, FCT_F32, &t);
        fct_conv2d_args a = {.x = fct_tensor_of(x, FCT_F32, 4, DIMS(1, 2, 2, 1)),
                             .y = fct_tensor_of(y, FCT_F32, 4, DIMS(1, 2, 2, 1)),
                             .w = &packed,
                             .pad_top = 1,
                             .pad_left = 1,
                             .pad_bottom = 1,
                             .pad_right = 1};
        RUN(conv2d, both[b], &a);
        assert_memory_equal(y, want, sizeof y);
        a.pad_top = a.pad_left = 0; /* pads high only */
        a.y = fct_tensor_of(y, FCT_F32, 4, DIMS(1, 1, 1, 1));
        a.stride = 2;
        RUN(conv2d, both[b],
            (&(fct_conv2d_args){
                .x = a.x, .y = a.y, .w = &packed, .pad_bottom = 1, .pad_right = 1}));
        assert_float_equal(y[0], 1 + 20 + 400 + 5000, 0);
        fct_weight_clear(&packed);
        /* a resize to 4x4 under a 1x1 kernel of one shows the nearest rule */
        fct_tensor one = fct_tensor_of(w, FCT_F32, 4, DIMS(1, 1, 1, 1));
        pack_one(&packed, both[b], FCT_PACK_CONV, FCT_F32, &one);
        RUN(conv2d, both[b],
            (&(fct_conv2d_args){.x = a.x,
                                .y = fct_tensor_of(big, FCT_F32, 4, DIMS(1, 4, 4, 1)),
                                .w = &packed,
                                .up_h = 4,
                                .up_w = 4}));
        for (int i = 0; i < 16; i++) assert_float_equal(big[i], x[i / 8 * 2 + i % 4 / 2], 0);
        fct_weight_clear(&packed);
    }
}

/* ---- errors ---- */

static void test_conv2d_errors(void **state)
{
    (void)state;
    float data[4096] = {0};
    fct_tensor k = fct_tensor_of(data, FCT_F32, 4, DIMS(8, 4, 3, 3));
    fct_weight w;
    fct_arena arena;
    assert_ok(fct_arena_init(&arena, 64));
    fct_cx cx = {.be = REF, .arena = &arena};
    pack_one(&w, REF, FCT_PACK_CONV, FCT_F32, &k);
    fct_conv2d_args c = {.x = fct_tensor_of(data, FCT_F32, 4, DIMS(1, 5, 5, 4)),
                         .y = fct_tensor_of(data, FCT_F32, 4, DIMS(1, 4, 3, 8)),
                         .w = &w};
    assert_fails(fct_op_conv2d(&cx, &c), FCT_ERR_SHAPE, "so y is [1,3,3,8], not [1,4,3,8]");
    c.x.dim[3] = 5;
    assert_fails(fct_op_conv2d(&cx, &c), FCT_ERR_SHAPE, "the weight takes 4 channels");
    c.x = fct_tensor_of(data, FCT_F32, 4, DIMS(1, 2, 5, 4));
    assert_fails(fct_op_conv2d(&cx, &c), FCT_ERR_SHAPE, "smaller than the kernel");
    c.up_h = 4;
    assert_fails(fct_op_conv2d(&cx, &c), FCT_ERR_ARG, "both sizes or none");
    fct_weight_clear(&w);
    fct_arena_clear(&arena);
}

/* An arena that is too small is an error, and the mark is restored. */
static void test_scratch_too_small(void **state)
{
    (void)state;
    pool p;
    pool_init(&p, 3);
    fct_tensor t = pool_random(&p, FCT_F32, 4, DIMS(8, 8, 3, 3)),
               x = pool_random(&p, FCT_BF16, 4, DIMS(1, 9, 9, 8));
    fct_tensor y = pool_tensor(&p, FCT_F32, 4, DIMS(1, 9, 9, 8));
    fct_weight w;
    pack_one(&w, CPU, FCT_PACK_CONV, FCT_F32, &t);
    fct_arena arena;
    fct_cx cx;
    assert_ok(fct_arena_init(&arena, 128));
    assert_ok(fct_cx_open(&cx, CPU, NULL));
    cx.arena = &arena;
    fct_conv2d_args a = {
        .x = x, .y = y, .w = &w, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    assert_fails(fct_op_conv2d(&cx, &a), FCT_ERR_MEMORY, "the arena has 128 bytes");
    assert_int_equal(arena.used, 0);
    fct_cx_close(&cx);
    fct_arena_clear(&arena);
    fct_weight_clear(&w);
    pool_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_conv2d_by_hand),
        cmocka_unit_test(test_conv2d_large_map),
        cmocka_unit_test(test_conv2d_errors),
        cmocka_unit_test(test_scratch_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

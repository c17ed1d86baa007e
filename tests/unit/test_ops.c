/* test_ops.c - linear layers, convolutions and packing: cpu against ref, ref against hand cases,
 * errors. */
#include "ops_util.h"

#define REF (&fct_backend_ref)
#define CPU (&fct_backend_cpu)
#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

/* ---- linear ---- */

typedef struct linear_case {
    int64_t m, k, n;
    fct_dtype x, w, y;
    fct_act act;
    bool bias;
    int residual; /* 0 none, 1 f32, 2 bf16 */
} linear_case;

static double product_bound(fct_dtype y)
{
    return y == FCT_BF16 ? 1e-3 : 1e-6;
}

static void one_linear(const linear_case *c)
{
    pool p;
    pool_init(&p, (uint64_t)(c->m * 7 + c->k * 3 + c->n));
    fct_tensor x = pool_random(&p, c->x, 2, DIMS(c->m, c->k)),
               t = pool_random(&p, FCT_F32, 2, DIMS(c->n, c->k));
    fct_tensor want = pool_tensor(&p, c->y, 2, DIMS(c->m, c->n)),
               got = pool_tensor(&p, c->y, 2, DIMS(c->m, c->n));
    fct_linear_args a = {.x = x, .act = c->act};
    if (c->bias) a.bias = pool_floats(&p, c->n, 0, 1);
    if (c->residual)
        a.residual = pool_random(&p, c->residual == 2 ? FCT_BF16 : FCT_F32, 2, DIMS(c->m, c->n));
    fct_weight wr, wc;
    pack_one(&wr, REF, FCT_PACK_LINEAR, c->w, &t);
    pack_one(&wc, CPU, FCT_PACK_LINEAR, c->w, &t);
    a.w = &wr;
    a.y = want;
    RUN(linear, REF, &a);
    a.w = &wc;
    a.y = got;
    RUN(linear, CPU, &a);
    char what[96];
    snprintf(what, sizeof what, "linear %lldx%lldx%lld %s·%s->%s act %d residual %d",
             (long long)c->m, (long long)c->k, (long long)c->n, fct_dtype_name(c->x),
             fct_dtype_name(c->w), fct_dtype_name(c->y), c->act, c->residual);
    want_close(what, &got, &want, product_bound(c->y));
    fct_weight_clear(&wr);
    fct_weight_clear(&wc);
    pool_clear(&p);
}

static void test_linear(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},    {1, 5, 3},     {3, 1, 7},      {7, 33, 65},
                                       {64, 96, 96}, {77, 64, 32},  {2, 320, 1280}, {130, 17, 4},
                                       {5, 128, 1},  {64, 48, 385}, {0, 8, 8}};
    static const fct_dtype types[][3] = {
        {FCT_F32, FCT_F32, FCT_F32},   {FCT_BF16, FCT_BF16, FCT_BF16},
        {FCT_BF16, FCT_BF16, FCT_F32}, {FCT_F32, FCT_BF16, FCT_BF16},
        {FCT_F32, FCT_BF16, FCT_F32},  {FCT_BF16, FCT_F32, FCT_F32},
        {FCT_BF16, FCT_F32, FCT_BF16}, {FCT_F32, FCT_F32, FCT_BF16}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++)
        for (size_t t = 0; t < FCT_COUNT(types); t++) {
            linear_case c = {.m = sizes[i][0],
                             .k = sizes[i][1],
                             .n = sizes[i][2],
                             .x = types[t][0],
                             .w = types[t][1],
                             .y = types[t][2]};
            one_linear(&c);
            c.bias = true;
            for (int act = FCT_ACT_NONE; act <= FCT_ACT_RELU; act++) {
                c.act = (fct_act)act;
                c.residual = act % 3;
                one_linear(&c);
            }
        }
}

/* More shapes than a weight remembers, twice: plans that made room are made again. */
static void test_linear_many_shapes(void **state)
{
    (void)state;
    pool p;
    pool_init(&p, 5);
    fct_tensor t = pool_random(&p, FCT_F32, 2, DIMS(24, 40)),
               x = pool_random(&p, FCT_F32, 2, DIMS(20, 40));
    fct_tensor want = pool_tensor(&p, FCT_F32, 2, DIMS(20, 24)),
               got = pool_tensor(&p, FCT_F32, 2, DIMS(20, 24));
    fct_weight wr, wc;
    pack_one(&wr, REF, FCT_PACK_LINEAR, FCT_F32, &t);
    pack_one(&wc, CPU, FCT_PACK_LINEAR, FCT_F32, &t);
    for (int64_t i = 0; i < 40; i++) {
        x.dim[0] = want.dim[0] = got.dim[0] = 1 + i % 20;
        RUN(linear, REF, (&(fct_linear_args){.x = x, .y = want, .w = &wr}));
        RUN(linear, CPU, (&(fct_linear_args){.x = x, .y = got, .w = &wc}));
        want_close("many shapes", &got, &want, 1e-6);
    }
    fct_weight_clear(&wr);
    fct_weight_clear(&wc);
    pool_clear(&p);
}

static void test_linear_by_hand(void **state)
{
    (void)state;
    float x[] = {1, 2, 3, -1, 0, 1}, w[] = {1, 0, 2, -1, 1, 0}, y[4], bias[] = {10, 20},
          residual[] = {100, 200, 300, 400};
    const float want[] = {117, 221, 311,
                          421}; /* 1+6+10+100, -1+2+20+200, -1+2+10+300, 1+0+20+400 */
    const fct_backend *both[] = {REF, CPU};
    for (int b = 0; b < 2; b++) {
        fct_tensor t = fct_tensor_of(w, FCT_F32, 2, DIMS(2, 3));
        fct_weight packed;
        pack_one(&packed, both[b], FCT_PACK_LINEAR, FCT_F32, &t);
        fct_linear_args a = {.x = fct_tensor_of(x, FCT_F32, 2, DIMS(2, 3)),
                             .y = fct_tensor_of(y, FCT_F32, 2, DIMS(2, 2)),
                             .w = &packed,
                             .bias = bias,
                             .residual = fct_tensor_of(residual, FCT_F32, 2, DIMS(2, 2))};
        RUN(linear, both[b], &a);
        assert_memory_equal(y, want, sizeof y);
        a.residual = a.y; /* y += : the sum may go where the residual lies */
        RUN(linear, both[b], &a);
        for (int i = 0; i < 4; i++) assert_float_equal(y[i], 2 * want[i] - residual[i], 0);
        fct_weight_clear(&packed);
    }
}

/* ---- packing ---- */

static void test_pack_parts(void **state)
{
    (void)state;
    pool p;
    pool_init(&p, 11);
    fct_tensor a = pool_random(&p, FCT_F32, 2, DIMS(6, 5)),
               b = pool_random(&p, FCT_BF16, 2, DIMS(5, 4)); /* b: [K,N] */
    fct_tensor c = pool_tensor(&p, FCT_F16, 4, DIMS(3, 5, 1, 1)),
               x = pool_random(&p, FCT_F32, 2, DIMS(2, 5));
    for (int i = 0; i < 15; i++) ((uint16_t *)c.data)[i] = fct_f32_to_f16((float)i * 0.25f - 1);
    const fct_weight_part parts[] = {{.t = &a, .row_lo = 2, .row_hi = 5},
                                     {.t = &b, .transpose = true, .row_lo = 1, .row_hi = 3},
                                     {.t = &c}};
    const fct_backend *both[] = {REF, CPU};
    for (int k = 0; k < 2; k++) {
        fct_weight w;
        assert_ok(fct_weight_pack(
            both[k], &w,
            &(fct_pack_desc){
                .kind = FCT_PACK_LINEAR, .dtype = FCT_F32, .part = parts, .n_parts = 3}));
        assert_int_equal(w.out, 8);
        assert_int_equal(w.in, 5);
        assert_true(w.bytes >= 160);
        fct_tensor y = pool_tensor(&p, FCT_F32, 2, DIMS(2, 8));
        RUN(linear, both[k], (&(fct_linear_args){.x = x, .y = y, .w = &w}));
        for (int r = 0; r < 2; r++)
            for (int n = 0; n < 8; n++) {
                double s = 0;
                for (int i = 0; i < 5; i++) {
                    double v = n < 3 ? (double)get(&a, (n + 2) * 5 + i)
                               : n < 5
                                   ? (double)get(&b, i * 4 + n - 2)
                                   : (double)fct_f16_to_f32(((uint16_t *)c.data)[(n - 5) * 5 + i]);
                    s += v * (double)get(&x, r * 5 + i);
                }
                assert_float_equal(get(&y, r * 8 + n), s, 1e-5);
            }
        fct_weight_clear(&w);
        assert_null(w.impl);
    }
    pool_clear(&p);
}

static void test_pack_errors(void **state)
{
    (void)state;
    float data[24] = {0};
    fct_tensor a = fct_tensor_of(data, FCT_F32, 2, DIMS(4, 3)),
               b = fct_tensor_of(data, FCT_F32, 2, DIMS(4, 2));
    fct_tensor i8 = fct_tensor_of(data, FCT_I8, 2, DIMS(4, 3)),
               c = fct_tensor_of(data, FCT_F32, 4, DIMS(2, 2, 2, 3));
    fct_tensor none = fct_tensor_of(NULL, FCT_F32, 2, DIMS(4, 3));
    const fct_weight_part two[] = {{.t = &a}, {.t = &b}};
    fct_weight w;
#define PACK(k, dt, ...)     \
    fct_weight_pack(REF, &w, \
                    &(fct_pack_desc){.kind = FCT_PACK_##k, .dtype = dt, .part = __VA_ARGS__})
    assert_fails(PACK(LINEAR, FCT_F32, two, .n_parts = 2), FCT_ERR_SHAPE,
                 "part 1 takes 2 inputs, part 0 takes 3");
    assert_fails(PACK(LINEAR, FCT_F32, (&(fct_weight_part){.t = &i8}), .n_parts = 1),
                 FCT_ERR_UNSUPPORTED, "[4,3]");
    assert_fails(PACK(LINEAR, FCT_F32, (&(fct_weight_part){.t = &c}), .n_parts = 1), FCT_ERR_SHAPE,
                 "[2,2,2,3]");
    assert_fails(PACK(CONV, FCT_F32, (&(fct_weight_part){.t = &a}), .n_parts = 1), FCT_ERR_SHAPE,
                 "[O,I,kh,kw]");
    assert_fails(PACK(LINEAR, FCT_F32, (&(fct_weight_part){.t = &a, .row_lo = 3, .row_hi = 5}),
                      .n_parts = 1),
                 FCT_ERR_RANGE, "rows 3 to 5");
    assert_fails(PACK(LINEAR, FCT_F16, (&(fct_weight_part){.t = &a}), .n_parts = 1), FCT_ERR_ARG,
                 "f32 or bf16");
    assert_fails(
        PACK(CONV, FCT_F32, (&(fct_weight_part){.t = &c, .transpose = true}), .n_parts = 1),
        FCT_ERR_ARG, "transposed");
    assert_fails(PACK(LINEAR, FCT_F32, (&(fct_weight_part){.t = &none}), .n_parts = 1), FCT_ERR_ARG,
                 "no data");
    assert_fails(PACK(LINEAR, FCT_F32, two, .n_parts = 0), FCT_ERR_ARG, "nothing to pack");
#undef PACK
    assert_null(w.impl);
    fct_weight_clear(&w);
}

/* Every allocation that packing makes may fail: a status, no leak (the sanitizers look), nothing
 * half made. */
static void test_pack_faults(void **state)
{
    (void)state;
    float data[36] = {0};
    fct_tensor t = fct_tensor_of(data, FCT_F32, 4, DIMS(2, 2, 3, 3));
    fct_weight_part parts[] = {{.t = &t}, {.t = &t}};
    const fct_backend *both[] = {REF, CPU};
    for (int b = 0; b < 2; b++) {
        int failures = 0;
        for (int64_t nth = 1; nth < 40; nth++) {
            fct_weight w;
            fct_fault_alloc(nth);
            fct_status st = fct_weight_pack(
                both[b], &w, &(fct_pack_desc){.kind = FCT_PACK_CONV, .part = parts, .n_parts = 2});
            fct_fault_alloc(0);
            if (st == FCT_OK) {
                fct_weight_clear(&w);
                break;
            }
            assert_int_equal(st, FCT_ERR_MEMORY);
            assert_null(w.impl);
            failures++;
        }
        assert_in_range(failures, 2, 38);
    }
}

/* ---- convolution ---- */

typedef struct conv_case {
    int64_t b, h, w, i, o, k, stride, top, left, bottom, right, up_h, up_w;
    bool bias, add;
    int residual;
} conv_case;

static void one_conv(const conv_case *c, fct_dtype xt, fct_dtype wt, fct_dtype yt)
{
    pool p;
    pool_init(&p, (uint64_t)(c->h * 31 + c->i * 5 + c->o));
    int64_t s = c->stride ? c->stride : 1;
    int64_t ho = ((c->up_h ? c->up_h : c->h) + c->top + c->bottom - c->k) / s + 1;
    int64_t wo = ((c->up_w ? c->up_w : c->w) + c->left + c->right - c->k) / s + 1;
    fct_tensor t = pool_random(&p, FCT_F32, 4, DIMS(c->o, c->i, c->k, c->k));
    fct_tensor want = pool_tensor(&p, yt, 4, DIMS(c->b, ho, wo, c->o)),
               got = pool_tensor(&p, yt, 4, DIMS(c->b, ho, wo, c->o));
    fct_conv2d_args a = {.x = pool_random(&p, xt, 4, DIMS(c->b, c->h, c->w, c->i)),
                         .stride = c->stride,
                         .pad_top = c->top,
                         .pad_left = c->left,
                         .pad_bottom = c->bottom,
                         .pad_right = c->right,
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
    {.b = 1, .h = 1, .w = 1, .i = 1, .o = 1, .k = 1},
    {.b = 1,
     .h = 1,
     .w = 1,
     .i = 3,
     .o = 2,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true},
    {.b = 1,
     .h = 8,
     .w = 8,
     .i = 96,
     .o = 96,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true,
     .add = true},
    {.b = 2,
     .h = 8,
     .w = 8,
     .i = 48,
     .o = 96,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true,
     .add = true,
     .residual = 1},
    {.b = 3,
     .h = 9,
     .w = 7,
     .i = 5,
     .o = 13,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .add = true},
    {.b = 1,
     .h = 16,
     .w = 16,
     .i = 4,
     .o = 24,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true},
    {.b = 1,
     .h = 16,
     .w = 16,
     .i = 24,
     .o = 4,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true,
     .residual = 2},
    {.b = 1,
     .h = 16,
     .w = 12,
     .i = 24,
     .o = 48,
     .k = 3,
     .stride = 2,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true},
    {.b = 2,
     .h = 16,
     .w = 16,
     .i = 16,
     .o = 16,
     .k = 3,
     .stride = 2,
     .bottom = 1,
     .right = 1,
     .bias = true}, /* the VAE's down */
    {.b = 1,
     .h = 11,
     .w = 6,
     .i = 7,
     .o = 9,
     .k = 3,
     .stride = 2,
     .bottom = 1,
     .right = 1,
     .residual = 1},
    {.b = 2,
     .h = 4,
     .w = 4,
     .i = 32,
     .o = 32,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .up_h = 8,
     .up_w = 8,
     .bias = true},
    {.b = 1,
     .h = 5,
     .w = 3,
     .i = 8,
     .o = 8,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .up_h = 9,
     .up_w = 7},
    {.b = 2, .h = 6, .w = 5, .i = 24, .o = 40, .k = 1, .bias = true, .residual = 1},
    {.b = 1, .h = 6, .w = 5, .i = 8, .o = 8, .k = 1, .stride = 2, .bias = true},
    {.b = 1,
     .h = 3,
     .w = 3,
     .i = 8,
     .o = 5,
     .k = 1,
     .top = 1,
     .left = 2,
     .bottom = 0,
     .right = 1,
     .up_h = 6,
     .up_w = 6,
     .bias = true},
    {.b = 1, .h = 28, .w = 28, .i = 3, .o = 32, .k = 14, .stride = 14}, /* patches */
    {.b = 1,
     .h = 31,
     .w = 31,
     .i = 3,
     .o = 64,
     .k = 11,
     .stride = 4,
     .top = 2,
     .left = 2,
     .bottom = 2,
     .right = 2,
     .bias = true},
    {.b = 1,
     .h = 33,
     .w = 35,
     .i = 64,
     .o = 64,
     .k = 3,
     .top = 1,
     .left = 1,
     .bottom = 1,
     .right = 1,
     .bias = true,
     .residual = 1},
    {.b = 0, .h = 4, .w = 4, .i = 8, .o = 8, .k = 3},
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

static void test_product_errors(void **state)
{
    (void)state;
    float data[4096] = {0};
    fct_tensor t = fct_tensor_of(data, FCT_F32, 2, DIMS(8, 128)),
               x = fct_tensor_of(data, FCT_F32, 2, DIMS(2, 96));
    fct_tensor y = fct_tensor_of(data, FCT_F32, 2, DIMS(2, 8));
    fct_weight w, other;
    pack_one(&w, REF, FCT_PACK_LINEAR, FCT_F32, &t);
    pack_one(&other, CPU, FCT_PACK_LINEAR, FCT_F32, &t);
    fct_arena arena;
    assert_ok(fct_arena_init(&arena, 64));
    fct_cx cx = {.be = REF, .arena = &arena};
    fct_linear_args a = {.x = x, .y = y, .w = &w};
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_SHAPE,
                 "linear: x is [2,96] but the weight takes 128 inputs");
    a.x = fct_tensor_of(data, FCT_F32, 2, DIMS(3, 128));
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_SHAPE, "their rows differ");
    a.x = fct_tensor_of(data, FCT_F16, 2, DIMS(2, 128));
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_ARG, "x is f16");
    a.x = fct_tensor_of(NULL, FCT_F32, 2, DIMS(2, 128));
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_ARG, "x has no data");
    a.x = fct_tensor_of(data, FCT_F32, 2, DIMS(2, 128));
    a.residual = fct_tensor_of(data, FCT_F32, 2, DIMS(2, 7));
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_SHAPE, "residual is [2,7] but y is [2,8]");
    a.residual = (fct_tensor){0};
    a.w = &other;
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_ARG, "packed for cpu");
    a.w = NULL;
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_ARG, "no weight");
    assert_fails(fct_op_linear(&cx, NULL), FCT_ERR_ARG, "no arguments");
    assert_fails(fct_op_linear(NULL, &a), FCT_ERR_ARG, "no backend");
    cx.arena = NULL;
    assert_fails(fct_op_linear(&cx, &a), FCT_ERR_ARG, "no arena");
    cx.arena = &arena;
    a.w = &w;
    assert_ok(fct_op_linear(&cx, &a)); /* so the failures above were each about one thing */
    fct_weight_clear(&w);
    fct_weight_clear(&other);

    fct_tensor k = fct_tensor_of(data, FCT_F32, 4, DIMS(8, 4, 3, 3));
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

static void test_registry(void **state)
{
    (void)state;
    const fct_backend *be;
    assert_ok(fct_backend_find(&be, NULL));
    assert_ptr_equal(be, CPU);
    assert_ok(fct_backend_find(&be, "ref"));
    assert_ptr_equal(be, REF);
    assert_fails(fct_backend_find(&be, "gpu"), FCT_ERR_ARG, "gpu");
    assert_null(be);
    fct_str s = {0};
    assert_ok(CPU->describe(&s));
    assert_non_null(strstr(s.p, "oneDNN"));
    assert_non_null(strstr(s.p, "thread"));
    fct_str_clear(&s);
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
    assert_ok(fct_arena_init(&arena, 128));
    fct_cx cx = {.be = CPU, .arena = &arena};
    fct_conv2d_args a = {
        .x = x, .y = y, .w = &w, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    assert_true(fct_op_conv2d(&cx, &a) != FCT_OK);
    assert_int_equal(arena.used, 0);
    fct_arena_clear(&arena);
    fct_weight_clear(&w);
    pool_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),           cmocka_unit_test(test_linear_many_shapes),
        cmocka_unit_test(test_linear_by_hand),   cmocka_unit_test(test_pack_parts),
        cmocka_unit_test(test_pack_errors),      cmocka_unit_test(test_pack_faults),
        cmocka_unit_test(test_conv2d),           cmocka_unit_test(test_conv2d_by_hand),
        cmocka_unit_test(test_conv2d_large_map), cmocka_unit_test(test_product_errors),
        cmocka_unit_test(test_registry),         cmocka_unit_test(test_scratch_too_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

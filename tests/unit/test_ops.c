/* test_ops.c - linear layers and packing: cpu against ref, ref against hand cases, errors. */
#include "ops_util.h"

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

/* One weight at many shapes, each met twice. */
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

/* ---- errors ---- */

static void test_linear_errors(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),         cmocka_unit_test(test_linear_many_shapes),
        cmocka_unit_test(test_linear_by_hand), cmocka_unit_test(test_pack_parts),
        cmocka_unit_test(test_pack_errors),    cmocka_unit_test(test_pack_faults),
        cmocka_unit_test(test_linear_errors),  cmocka_unit_test(test_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

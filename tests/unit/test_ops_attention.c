/* test_ops_attention.c - attention: cpu against ref on awkward shapes, ref against a hand case, and
 * what is told when a product fails. */
#include "compute/cpu/cpu.h"
#include "ops_util.h"

static const fct_dtype mixes[][2] = {
    {FCT_F32, FCT_F32}, {FCT_BF16, FCT_BF16}, {FCT_BF16, FCT_F32}, {FCT_F32, FCT_BF16}};

typedef struct attention_case {
    int64_t b, tq, tk, heads, d;
    bool causal, joint; /* joint: q, k and v are slices of one product */
    float scale;
} attention_case;

static void one_attention(const attention_case *c, fct_dtype xt, fct_dtype yt)
{
    pool p;
    pool_init(&p, (uint64_t)(c->tq * 3 + c->tk + c->d));
    int64_t w = c->heads * c->d;
    fct_tensor want = pool_tensor(&p, yt, 3, DIMS(c->b, c->tq, w)),
               got = pool_tensor(&p, yt, 3, DIMS(c->b, c->tq, w));
    fct_attention_args a = {.heads = c->heads, .scale = c->scale, .causal = c->causal};
    if (c->joint) {
        fct_tensor all = pool_random(&p, xt, 3, DIMS(c->b, c->tk, 3 * w));
        uint8_t *base = all.data;
        int64_t step = w * fct_dtype_bytes(xt);
        a.q = fct_tensor_of(base, xt, 3, DIMS(c->b, c->tq, w));
        a.k = fct_tensor_of(base + step, xt, 3, DIMS(c->b, c->tk, w));
        a.v = fct_tensor_of(base + 2 * step, xt, 3, DIMS(c->b, c->tk, w));
        a.q_stride = a.k_stride = a.v_stride = 3 * w;
    } else {
        a.q = pool_random(&p, xt, 3, DIMS(c->b, c->tq, w));
        a.k = pool_random(&p, xt, 3, DIMS(c->b, c->tk, w));
        a.v = pool_random(&p, xt, 3, DIMS(c->b, c->tk, w));
    }
    a.y = want;
    RUN(attention, REF, &a);
    a.y = got;
    RUN(attention, CPU, &a);
    char what[96];
    snprintf(what, sizeof what, "attention B%lld %lldx%lld heads %lldx%lld causal %d %s->%s",
             (long long)c->b, (long long)c->tq, (long long)c->tk, (long long)c->heads,
             (long long)c->d, c->causal, fct_dtype_name(xt), fct_dtype_name(yt));
    want_close(what, &got, &want, xt == FCT_BF16 || yt == FCT_BF16 ? 4e-3 : 1e-5);
    pool_clear(&p);
}

static const attention_case attention_cases[] = {
    {.b = 1, .tq = 1, .tk = 1, .heads = 1, .d = 1},
    {.b = 2, .tq = 3, .tk = 5, .heads = 2, .d = 8},
    {.b = 1, .tq = 64, .tk = 64, .heads = 2, .d = 48, .joint = true},
    {.b = 2, .tq = 64, .tk = 77, .heads = 1, .d = 24},
    {.b = 1, .tq = 77, .tk = 77, .heads = 4, .d = 16, .causal = true, .joint = true},
    {.b = 1, .tq = 300, .tk = 300, .heads = 2, .d = 64, .causal = true},
    {.b = 1, .tq = 150, .tk = 700, .heads = 3, .d = 33},
    {.b = 1, .tq = 700, .tk = 700, .heads = 1, .d = 128, .causal = true, .joint = true},
    {.b = 1, .tq = 256, .tk = 256, .heads = 1, .d = 512}, /* the VAE's one head */
    {.b = 1, .tq = 9, .tk = 4, .heads = 2, .d = 5, .causal = true},
    {.b = 1, .tq = 20, .tk = 1100, .heads = 2, .d = 64, .scale = 3}, /* sharp: maxima move from
                                                                        block to block */
    {.b = 0, .tq = 4, .tk = 4, .heads = 2, .d = 8},
    {.b = 1, .tq = 0, .tk = 4, .heads = 2, .d = 8},
};

static void test_attention(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(attention_cases); i++)
        for (size_t m = 0; m < FCT_COUNT(mixes); m++)
            one_attention(&attention_cases[i], mixes[m][0], mixes[m][1]);
}

static void test_attention_by_hand(void **state)
{
    (void)state;
    const fct_backend *both[] = {REF, CPU};
    float q[] = {0, 1}, k[] = {0, 1}, v[] = {10, 20},
          y[2]; /* two tokens of one head of one channel */
    const int64_t dim[] = {1, 2, 1};
    const float e = expf(1);
    for (int b = 0; b < 2; b++) {
        fct_attention_args a = {.q = fct_tensor_of(q, FCT_F32, 3, dim),
                                .k = fct_tensor_of(k, FCT_F32, 3, dim),
                                .v = fct_tensor_of(v, FCT_F32, 3, dim),
                                .y = fct_tensor_of(y, FCT_F32, 3, dim),
                                .heads = 1};
        RUN(attention, both[b], &a);
        assert_float_equal(y[0], 15, 1e-5);
        assert_float_equal(y[1], (10 + 20 * e) / (1 + e), 1e-5);
        a.causal = true;
        a.scale = 2;
        RUN(attention, both[b], &a);
        assert_float_equal(y[0], 10, 1e-5);
        assert_float_equal(y[1], (10 + 20 * e * e) / (1 + e * e), 1e-5);
        q[0] = NAN; /* stays visible */
        RUN(attention, both[b], &a);
        assert_true(isnan(y[0]));
        q[0] = 0;
    }
}

/* What fails on any of the threads is told with its own status and sentence. A stride that only the
   wrapper refuses makes oneDNN refuse every product. */
static void test_attention_fails(void **state)
{
    (void)state;
    pool p;
    pool_init(&p, 1);
    const int64_t dim[] = {2, 300, 64};
    fct_arena dry = {0}, arena;
    fct_cx cx = {.be = CPU, .arena = &dry};
    fct_attention_args a = {.q = pool_random(&p, FCT_F32, 3, dim),
                            .k = pool_random(&p, FCT_F32, 3, dim),
                            .v = pool_random(&p, FCT_F32, 3, dim),
                            .y = pool_tensor(&p, FCT_F32, 3, dim),
                            .heads = 4,
                            .k_stride = 1};
    int threads = fct_threads();
    fct_threads_set(4);
    assert_ok(cpu_attention(&cx, &a));
    arena_from_dry(&arena, &dry);
    cx.arena = &arena;
    assert_fails(cpu_attention(&cx, &a), FCT_ERR_INTERNAL, "sgemm: invalid arguments");
    assert_int_equal(arena.used, 0);
    fct_threads_set(threads);
    fct_arena_clear(&arena);
    pool_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_by_hand),
        cmocka_unit_test(test_attention_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

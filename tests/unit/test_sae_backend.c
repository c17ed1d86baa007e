/* test_sae_backend.c - SAEs are applied and trained by the backend that they are given: every
   operation is counted on one that counts, and gives ref's bytes; names reach it from outside; a
   coder's memory is kept from call to call. */
#include "fct_test.h"
#include "sae/sae.h"
#include "train/engine.h"
#include "train/variant.h"

enum { N = 40, D = 12, F = 24, K = 3, BATCH = 32, STEPS = 6 };

/* ---- a backend that counts ---- */

static int64_t count;
#define COUNT(op)                                                      \
    static fct_status count_##op(fct_cx *cx, const fct_##op##_args *a) \
    {                                                                  \
        count++;                                                       \
        return fct_backend_ref.op(cx, a);                              \
    }
FCT_OP_LIST(COUNT)
#undef COUNT

static fct_backend counting(void)
{
    fct_backend be = fct_backend_ref;
#define MEMBER(op) be.op = count_##op;
    FCT_OP_LIST(MEMBER)
#undef MEMBER
    return be;
}

static fct_sae *sae_of(fct_sae_kind kind)
{
    fct_sae *s;
    fct_rng r;
    fct_rng_init(&r, 5);
    assert_ok(fct_sae_new(&s, kind, D, F, K));
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++) {
        float *to = *fct_sae_part_at(s, p);
        int64_t n = fct_sae_part_count(s, p);
        if (!to) continue;
        fct_rng_normal(&r, to, n);
        for (int64_t i = 0; i < n; i++) to[i] *= 0.3f;
    }
    return s;
}

typedef struct applied {
    int32_t index[N * K];
    float value[N * K], dense[N * F], decoded[N * D], rebuilt[N * D];
    fct_sae_csr csr;
} applied;

static void apply(fct_sae_coder *c, const float *x, applied *out)
{
    bool pairs = c->sae->kind == FCT_SAE_TOPK;
    if (pairs) assert_ok(fct_sae_encode(c, x, N, out->index, out->value));
    if (pairs) assert_ok(fct_sae_decode(c, out->index, out->value, N, K, out->decoded));
    assert_ok(fct_sae_encode_dense(c, x, N, out->dense));
    assert_ok(fct_sae_encode_csr(c, x, N, &out->csr));
    assert_ok(fct_sae_rebuild(c, x, N, out->rebuilt));
}

static void test_applied(void **state)
{
    (void)state;
    static applied a, b;
    const fct_backend be = counting();
    float x[N * D];
    fct_rng r;
    fct_rng_init(&r, 6);
    fct_rng_normal(&r, x, N * D);
    for (int kind = FCT_SAE_TOPK; kind <= FCT_SAE_BATCHTOPK; kind++) {
        fct_sae *s = sae_of((fct_sae_kind)kind);
        fct_sae_coder counted, *named;
        fct_sae_coder_init(&counted, s, &be);
        assert_ok(fct_sae_coder_open(&named, s, "ref"));
        a = b = (applied){0};
        count = 0;
        apply(&counted, x, &a);
        assert_true(count >= (kind == FCT_SAE_TOPK ? 8 : 4)); /* products, topk, decodes */
        int64_t before = count;
        apply(named, x, &b);
        assert_int_equal(count, before);
        assert_ptr_equal(named->e.cx.be, &fct_backend_ref);
        assert_memory_equal(a.index, b.index, sizeof a.index);
        assert_memory_equal(a.value, b.value, sizeof a.value);
        assert_memory_equal(a.dense, b.dense, sizeof a.dense);
        assert_memory_equal(a.decoded, b.decoded, sizeof a.decoded);
        assert_memory_equal(a.rebuilt, b.rebuilt, sizeof a.rebuilt);
        assert_int_equal(a.csr.n, b.csr.n);
        fct_sae_csr_clear(&a.csr);
        fct_sae_csr_clear(&b.csr);
        fct_sae_coder_clear(&counted);
        fct_sae_coder_close(named);
        fct_sae_free(s);
    }
    fct_sae *s = sae_of(FCT_SAE_TOPK);
    fct_sae_coder *c;
    assert_fails(FCT_ERR_ARG, "backend tpu is not known", fct_sae_coder_open(&c, s, "tpu"));
    assert_null(c);
    fct_sae_free(s);
}

/* A second call on as many rows takes no memory. */
static void test_kept(void **state)
{
    (void)state;
    static int32_t index[N * K];
    static float x[N * D], value[N * K], dense[N * F];
    for (int kind = FCT_SAE_TOPK; kind <= FCT_SAE_BATCHTOPK; kind++) {
        fct_sae *s = sae_of((fct_sae_kind)kind);
        fct_sae_coder *c;
        assert_ok(fct_sae_coder_open(&c, s, NULL));
        for (int again = 0; again < 2; again++) {
            if (again) fct_fault_alloc(1);
            fct_status st = kind == FCT_SAE_TOPK ? fct_sae_encode(c, x, N, index, value) : FCT_OK;
            if (st == FCT_OK) st = fct_sae_encode_dense(c, x, again ? N / 2 : N, dense);
            fct_fault_alloc(0);
            assert_ok(st);
        }
        fct_sae_coder_close(c);
        fct_sae_free(s);
    }
}

static void test_trained(void **state)
{
    (void)state;
    static float x[BATCH * STEPS * D];
    const fct_backend be = counting();
    fct_rng r;
    fct_rng_init(&r, 7);
    fct_rng_normal(&r, x, BATCH * STEPS * D);
    static const char *const arch[] = {"topk", "batchtopk", "gated"};
    for (size_t i = 0; i < FCT_COUNT(arch) + 1; i++) {
        bool fast = i == FCT_COUNT(arch);
        const fct_train_desc desc = {.preset = "demo",
                                     .arch = fast ? "topk" : arch[i],
                                     .n_features = F,
                                     .batch_size = BATCH,
                                     .steps = STEPS,
                                     .loss_scale = 1,
                                     .engine = fast ? FCT_ENGINE_FAST : FCT_ENGINE_AUTO,
                                     .backend = "ref"};
        fct_train_plan plan;
        fct_trainee t;
        assert_ok(fct_train_plan_init(&plan, &desc, D, BATCH * STEPS * 2, NULL));
        assert_ptr_equal(plan.be, &fct_backend_ref);
        assert_ptr_equal(plan.engine, fast ? &fct_engine_fast : &fct_engine_plain);
        plan.be = &be;
        assert_ok(fct_trainee_init(&t, &plan, D, NULL));
        count = 0;
        for (int step = 0; step < STEPS; step++) {
            assert_ok(fct_trainee_backward(&t, x + step * BATCH * D, step == 0));
            assert_ok(fct_trainee_update(&t));
        }
        assert_true(count >= 3 * STEPS);
        fct_trainee_clear(&t);
    }
    fct_train_plan plan;
    assert_fails(FCT_ERR_ARG, "backend tpu is not known",
                 fct_train_plan_init(&plan, &(fct_train_desc){.backend = "tpu"}, D, 100000, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_applied), cmocka_unit_test(test_kept),
                                       cmocka_unit_test(test_trained)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

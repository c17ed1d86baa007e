/* test_sae_fast.c - the fast step against the plain one, which test_sae_train.c holds against
 * PyTorch: losses, dead features and weights over some steps, with every form of the aux term. */
#include "fct_test.h"
#include "train/train.h"

enum { D = 72, BATCH = 96, STEPS = 12, F = 1024 };

typedef struct course {
    double loss[STEPS], aux[STEPS];
    int64_t dead[STEPS];
    float *param[4];
    fct_product product;
} course;

static void make_rows(float *rows)
{
    fct_rng rng;
    float direction[32 * D];
    fct_rng_init(&rng, 21);
    fct_rng_normal(&rng, direction, 32 * D);
    fct_rng_normal(&rng, rows, STEPS * BATCH * D);
    for (int64_t r = 0; r < STEPS * BATCH; r++)
        for (int64_t i = 0; i < D; i++) {
            rows[r * D + i] = 0.2f * rows[r * D + i] + 0.5f;
            for (int j = 0; j < 3; j++)
                rows[r * D + i] += direction[(r * (5 + 2 * j) + j) % 32 * D + i];
        }
}

static void run(course *c, const fct_train_desc *options, fct_train_engine engine,
                const fct_product *product, const float *rows)
{
    fct_train_plan plan;
    fct_trainee t;
    fct_train_desc desc = *options;
    desc.engine = engine;
    assert_ok(fct_train_plan_init(&plan, &desc, D, STEPS * BATCH, NULL));
    plan.loss_scale = 1.3;
    if (product) plan.product = *product;
    assert_ok(fct_trainee_init(&t, &plan, D, NULL));
    for (int64_t i = 0; i < D; i++) t.sae->b_dec[i] = 0.4f;
    c->product = plan.product;
    for (int s = 0; s < STEPS; s++) {
        assert_ok(fct_trainee_backward(&t, rows + s * BATCH * D, s == STEPS - 1));
        assert_ok(fct_trainee_update(&t));
        c->loss[s] = t.now.loss;
        c->aux[s] = t.now.aux;
        c->dead[s] = t.now.n_dead;
    }
    for (int w = 0; w < 4; w++) {
        int64_t n;
        const float *from = fct_trainee_param(&t, w, &n);
        assert_ok(fct_new(&c->param[w], n, sizeof(float)));
        memcpy(c->param[w], from, (size_t)n * sizeof(float));
    }
    fct_trainee_clear(&t);
}

static double apart(const float *a, const float *b, int64_t n)
{
    double miss = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        miss += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(miss / size);
}

/* Observed: losses within 6.3e-6 (k 60, else 3e-6), aux 4.4e-6, weights 6.4e-6. Adam divides by the
   root of tiny squares, which makes more of rounding. */
static void check_equal(const char *name, const fct_train_desc *options, const fct_product *product,
                        bool want_dead)
{
    static float rows[STEPS * BATCH * D];
    course plain, fast;
    int64_t size[4] = {F * D, F, F * D, D}, most = 0;
    double worst = 0, worst_aux = 0, off = 0;
    make_rows(rows);
    run(&plain, options, FCT_ENGINE_PLAIN, NULL, rows);
    run(&fast, options, FCT_ENGINE_FAST, product, rows);
    for (int s = 0; s < STEPS; s++) {
        assert_int_equal(fast.dead[s], plain.dead[s]);
        worst = fmax(worst, fabs(fast.loss[s] - plain.loss[s]) / plain.loss[s]);
        worst_aux = fmax(worst_aux, fabs(fast.aux[s] - plain.aux[s]) / (plain.aux[s] + 1e-9));
        most = plain.dead[s] > most ? plain.dead[s] : most;
    }
    for (int w = 0; w < 4; w++) {
        off = fmax(off, apart(fast.param[w], plain.param[w], size[w]));
        fct_free(fast.param[w]);
        fct_free(plain.param[w]);
    }
    print_message("%s, %s: at most %d dead; losses within %.2g, aux %.2g, weights %.2g\n", name,
                  fct_product_name(fast.product), (int)most, worst, worst_aux, off);
    assert_true(want_dead == (most > 0));
    assert_true(worst < 3e-5 && worst_aux < 1e-4);
    assert_true(off < 1e-4);
}

static void test_equal(void **state)
{
    (void)state;
    const fct_train_desc base = {.k = 3,
                                 .n_features = F,
                                 .batch_size = BATCH,
                                 .steps = STEPS,
                                 .calibration_rows = 1,
                                 .dead_rows = 3 * BATCH,
                                 .lr = 1e-3,
                                 .aux_coef = 0.5,
                                 .loss_scale = 1.3};
    for (int aux = 0; aux < 2; aux++) {
        fct_train_desc o = base;
        const char *mode = aux ? "authors" : "clean";
        char name[64];
        o.aux = aux ? FCT_AUX_SDXL_UNBOX : FCT_AUX_CLEAN;
        o.auxk = 16; /* few of many: sparse */
        snprintf(name, sizeof name, "%s, sparse aux", mode);
        check_equal(name, &o, NULL, true);
        o.auxk = 200; /* a fair share: dense */
        snprintf(name, sizeof name, "%s, dense aux", mode);
        check_equal(name, &o, NULL, true);
        o.auxk = F; /* all that are dead */
        snprintf(name, sizeof name, "%s, all dead", mode);
        check_equal(name, &o, NULL, true);
        o.dead_rows = 1000 * BATCH;
        snprintf(name, sizeof name, "%s, none dead", mode);
        check_equal(name, &o, NULL, false);
    }
    fct_train_desc o = base;
    o.auxk = -1;
    o.aux_coef = 0;
    o.dead_rows = 1000 * BATCH;
    check_equal("no aux", &o, NULL, false);
    o = base;
    o.k = 60;
    o.dead_rows = 1000 * BATCH;
    for (fct_product p = FCT_PRODUCT_F32; p <= FCT_PRODUCT_INT8; p++)
        check_equal("k 60", &o, &p, false);
}

static void test_memory(void **state) /* the nth allocation fails: a status, nothing lost */
{
    (void)state;
    fct_train_plan plan;
    fct_trainee t;
    const fct_train_desc desc = {.k = 3,
                                 .n_features = F,
                                 .batch_size = BATCH,
                                 .steps = 1,
                                 .loss_scale = 1,
                                 .engine = FCT_ENGINE_FAST};
    assert_ok(fct_train_plan_init(&plan, &desc, D, 1000 * BATCH, NULL));
    for (int64_t i = 1;; i++) {
        fct_fault_alloc(i);
        fct_status st = fct_trainee_init(&t, &plan, D, NULL);
        fct_fault_alloc(0);
        if (st == FCT_OK) break;
        assert_int_equal(st, FCT_ERR_MEMORY);
        assert_true(i < 200);
    }
    fct_trainee_clear(&t);
}

static void test_plan(void **state) /* engine and product are part of what a run is */
{
    (void)state;
    fct_train_plan plan;
    json_t *j;
    const struct {
        fct_train_engine engine;
        const char *backend, *want;
    } row[] = {{FCT_ENGINE_AUTO, NULL, "fast"},
               {FCT_ENGINE_FAST, NULL, "fast"},
               {FCT_ENGINE_PLAIN, NULL, "plain"},
               {FCT_ENGINE_AUTO, "ref", "plain"}, /* both are there to be read */
               {FCT_ENGINE_FAST, "ref", "fast"}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        const fct_train_desc desc = {.engine = row[i].engine, .backend = row[i].backend};
        assert_ok(fct_train_plan_init(&plan, &desc, 1280, 384000000, NULL));
        assert_string_equal(plan.be->name, row[i].backend ? row[i].backend : "cpu");
        assert_ok(fct_train_plan_describe(&j, &plan, 1280));
        assert_string_equal(json_string_value(json_object_get(j, "engine")), row[i].want);
        assert_string_equal(json_string_value(json_object_get(j, "encoder_product")),
                            fct_product_name(plan.product));
        if (row[i].engine == FCT_ENGINE_PLAIN) assert_int_equal(plan.product, FCT_PRODUCT_F32);
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

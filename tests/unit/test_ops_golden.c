/* test_ops_golden.c - both backends against PyTorch's own results (tools/make_op_goldens.py). */
#include "ops_util.h"

static const fct_backend *const backends[] = {&fct_backend_ref, &fct_backend_cpu};

static fct_safetensors file;

static const fct_tensor *golden(const char *name)
{
    const fct_tensor *t = fct_safetensors_find(&file, name);
    if (!t) fail_msg("ops.safetensors has no %s", name);
    return t;
}

static const float *floats(const char *name)
{
    return golden(name)->data;
}

/* Room for an output of the golden's shape. */
static fct_tensor like(pool *p, const char *name)
{
    const fct_tensor *t = golden(name);
    return pool_tensor(p, FCT_F32, t->ndim, t->dim);
}

static void compare(const fct_backend *be, const char *name, const fct_tensor *got, double bound)
{
    char what[64];
    snprintf(what, sizeof what, "%s: %s", be->name, name);
    want_close(what, got, golden(name), bound);
}

static void test_linear(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        fct_act act;
    } row[] = {{"linear.y", FCT_ACT_NONE},
               {"linear.silu", FCT_ACT_SILU},
               {"linear.gelu", FCT_ACT_GELU},
               {"linear.relu", FCT_ACT_RELU}};
    for (size_t b = 0; b < FCT_COUNT(backends); b++)
        for (size_t i = 0; i < FCT_COUNT(row); i++) {
            pool p;
            pool_init(&p, 0);
            fct_weight w;
            pack_one(&w, backends[b], FCT_PACK_LINEAR, FCT_F32, golden("linear.w"));
            fct_linear_args a = {.x = *golden("linear.x"), .y = like(&p, row[i].name), .w = &w};
            a.bias = floats("linear.b");
            a.act = row[i].act;
            RUN(linear, backends[b], &a);
            compare(backends[b], row[i].name, &a.y, 1e-6);
            fct_weight_clear(&w);
            pool_clear(&p);
        }
}

static void test_conv2d(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t stride, lo, hi, up_h, up_w;
    } row[] = {
        {"conv.y", 1, 1, 1, 0, 0},        {"conv.stride2", 2, 1, 1, 0, 0},
        {"conv.high", 2, 0, 1, 0, 0},     {"conv.up2", 1, 1, 1, 18, 14},
        {"conv.up_odd", 1, 1, 1, 13, 17},
    };
    for (size_t b = 0; b < FCT_COUNT(backends); b++)
        for (size_t i = 0; i < FCT_COUNT(row); i++) {
            pool p;
            pool_init(&p, 0);
            fct_weight w;
            pack_one(&w, backends[b], FCT_PACK_CONV, FCT_F32, golden("conv.w"));
            fct_conv2d_args a = {.x = *golden("conv.x"), .y = like(&p, row[i].name), .w = &w};
            a.bias = floats("conv.b");
            a.stride = row[i].stride;
            a.pad_top = a.pad_left = row[i].lo;
            a.pad_bottom = a.pad_right = row[i].hi;
            a.up_h = row[i].up_h;
            a.up_w = row[i].up_w;
            RUN(conv2d, backends[b], &a);
            compare(backends[b], row[i].name, &a.y, 2e-6);
            fct_weight_clear(&w);
            pool_clear(&p);
        }
}

static void test_norms(void **state)
{
    (void)state;
    for (size_t b = 0; b < FCT_COUNT(backends); b++) {
        pool p;
        pool_init(&p, 0);
        fct_group_norm_args g = {
            .x = *golden("group_norm.x"), .y = like(&p, "group_norm.y"), .groups = 8};
        g.gamma = floats("group_norm.g");
        g.beta = floats("group_norm.b");
        g.eps = 1e-5f;
        RUN(group_norm, backends[b], &g);
        compare(backends[b], "group_norm.y", &g.y, 1e-6);
        g.eps = 1e-6f;
        g.act = FCT_ACT_SILU;
        RUN(group_norm, backends[b], &g);
        compare(backends[b], "group_norm.silu", &g.y, 1e-6);
        fct_layer_norm_args l = {
            .x = *golden("layer_norm.x"), .y = like(&p, "layer_norm.y"), .eps = 1e-5f};
        l.gamma = floats("layer_norm.g");
        l.beta = floats("layer_norm.b");
        RUN(layer_norm, backends[b], &l);
        compare(backends[b], "layer_norm.y", &l.y, 1e-6);
        pool_clear(&p);
    }
}

static void test_attention(void **state)
{
    (void)state;
    for (size_t b = 0; b < FCT_COUNT(backends); b++) {
        pool p;
        pool_init(&p, 0);
        fct_attention_args a = {.q = *golden("attention.q"), .heads = 3};
        a.k = *golden("attention.k");
        a.v = *golden("attention.v");
        a.y = like(&p, "attention.y");
        RUN(attention, backends[b], &a);
        compare(backends[b], "attention.y", &a.y, 2e-6);
        a.q = a.k;
        a.y = like(&p, "attention.causal");
        a.causal = true;
        RUN(attention, backends[b], &a);
        compare(backends[b], "attention.causal", &a.y, 2e-6);
        pool_clear(&p);
    }
}

static void test_elementwise(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        fct_act act;
    } row[] = {{"act.silu", FCT_ACT_SILU},
               {"act.gelu", FCT_ACT_GELU},
               {"act.quick_gelu", FCT_ACT_QUICK_GELU},
               {"act.relu", FCT_ACT_RELU}};
    static const struct {
        const char *name;
        int64_t size;
        bool max;
    } window[] = {{"pool.avg2", 2, false}, {"pool.max3", 3, true}, {"pool.all", 0, false}};
    for (size_t b = 0; b < FCT_COUNT(backends); b++) {
        pool p;
        pool_init(&p, 0);
        fct_geglu_args g = {.x = *golden("geglu.x"), .y = like(&p, "geglu.y")};
        RUN(geglu, backends[b], &g);
        compare(backends[b], "geglu.y", &g.y, 1e-6);
        for (size_t i = 0; i < FCT_COUNT(row); i++) {
            fct_unary_args u = {
                .x = *golden("geglu.x"), .y = like(&p, row[i].name), .act = row[i].act};
            RUN(unary, backends[b], &u);
            compare(backends[b], row[i].name, &u.y, 1e-6);
        }
        for (size_t i = 0; i < FCT_COUNT(window); i++) {
            fct_pool_args o = {
                .x = *golden("pool.x"), .y = like(&p, window[i].name), .size = window[i].size};
            o.max = window[i].max;
            RUN(pool, backends[b], &o);
            compare(backends[b], window[i].name, &o.y, 1e-6);
        }
        pool_clear(&p);
    }
}

static int open_file(void **state)
{
    (void)state;
    fct_status st = fct_safetensors_open(&file, FCT_TEST_DIR "/vectors/ops.safetensors");
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    return st == FCT_OK ? 0 : -1;
}

static int close_file(void **state)
{
    (void)state;
    fct_safetensors_close(&file);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),      cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_norms),       cmocka_unit_test(test_attention),
        cmocka_unit_test(test_elementwise),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}

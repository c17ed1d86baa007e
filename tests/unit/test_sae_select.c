/* test_sae_select.c - selection with rounded products on autoencoders that were trained: one on
   what the demo model writes, one on sums of planted directions. Every product must select what
   the f64 product selects, up to ties, on their own rows and on rows made to be hard for them. */
#include "facet/store.h"
#include "fct_test.h"
#include "select_check.h"
#include "train/train.h"

enum { N = 4096, F = 1024, CHECKED = 320, PLANTED_D = 64, PROMPTS = 64 };

static const fct_product products[] = {FCT_PRODUCT_F32, FCT_PRODUCT_BF16, FCT_PRODUCT_INT8};

/* ---- rows ---- */

static float *demo_rows(int64_t *d)
{
    char path[1024];
    fct_model *model;
    fct_session *session;
    fct_prompts prompts = {0};
    fct_row_source source;
    float *rows;
    snprintf(path, sizeof path, "%s/models/demo", FCT_SOURCE_DIR);
    assert_ok(fct_model_open(
        &model, &(fct_model_desc){.path = path, .no_vae = true, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_session_open(&session, model, NULL));
    snprintf(path, sizeof path, "%s/models/demo/prompts/train.txt", FCT_SOURCE_DIR);
    assert_ok(fct_prompts_read(&prompts, path));
    assert_true(prompts.n >= PROMPTS);
    fct_capture_desc desc = {
        .session = session, .prompts = prompts.item, .n_prompts = PROMPTS, .blocks = "down.2.1"};
    assert_ok(fct_model_rows(&source, &desc, &(fct_rows_desc){.order = FCT_ORDER_SEQUENTIAL}));
    *d = source.d;
    assert_ok(fct_new(&rows, N * *d, sizeof *rows));
    for (int64_t at = 0; at < N;) {
        const float *some;
        int64_t n;
        assert_ok(source.next(source.self, N - at, &some, &n));
        assert_true(n > 0);
        memcpy(rows + at * *d, some, (size_t)(n * *d) * sizeof *rows);
        at += n;
    }
    source.close(source.self);
    fct_prompts_clear(&prompts);
    fct_session_close(session);
    fct_model_close(model);
    return rows;
}

static float *planted_rows(void)
{
    enum { TRUE_F = 256, ACTIVE = 6 };
    static float dict[TRUE_F * PLANTED_D];
    float *rows;
    fct_rng rng;
    fct_rng_init(&rng, 31);
    fct_rng_normal(&rng, dict, TRUE_F * PLANTED_D);
    assert_ok(fct_new(&rows, N * PLANTED_D, sizeof *rows));
    for (int64_t r = 0; r < N; r++)
        for (int j = 0; j < ACTIVE; j++) {
            const float *direction = dict + fct_rng_below(&rng, TRUE_F) * PLANTED_D;
            float z = (float)(1 + fct_rng_unit(&rng));
            for (int64_t i = 0; i < PLANTED_D; i++) rows[r * PLANTED_D + i] += z * direction[i];
        }
    return rows;
}

/* ---- hard ones: made of a row x of its own, about b_dec ---- */

/* The features of x in descending order of their products: the place-th, from 0. */
static int64_t at_place(const fct_sae *s, const float *x, int64_t place)
{
    static double z[F], room[F];
    static float centred[4096];
    for (int64_t i = 0; i < s->d; i++) centred[i] = x[i] - s->b_dec[i];
    selection one = {.n = s->f, .d = s->d, .centred = centred, .w = s->w_enc, .bias = s->b_enc};
    select_products(&one, 0, z, room);
    int64_t best = 0;
    for (int64_t p = 0; p <= place; p++) {
        if (p > 0) z[best] = -INFINITY;
        for (int64_t f = 0; f < s->f; f++) best = z[f] > z[best] ? f : best;
    }
    return best;
}

/* Moved so that the k-th and the next come as close as f32 lets them. */
static void to_border(const fct_sae *s, float *x, int64_t k)
{
    const float *a = s->w_enc + at_place(s, x, k - 1) * s->d;
    const float *b = s->w_enc + at_place(s, x, k) * s->d;
    double gap = (double)s->b_enc[(a - s->w_enc) / s->d] - (double)s->b_enc[(b - s->w_enc) / s->d];
    double length = 0;
    for (int64_t i = 0; i < s->d; i++) {
        double across = (double)a[i] - (double)b[i];
        gap += across * ((double)x[i] - (double)s->b_dec[i]);
        length += across * across;
    }
    for (int64_t i = 0; i < s->d && length > 0; i++)
        x[i] -= (float)(gap / length * ((double)a[i] - (double)b[i]));
}

/* On a grid of 1/127 of its largest number, then off it by nearly half a step the way of a feature
   that comes after the k-th: see test_select_leaning_rows in test_ops_train.c. */
static void to_leaning(const fct_sae *s, float *x, int64_t place)
{
    float most = 0;
    for (int64_t i = 0; i < s->d; i++) most = fmaxf(most, fabsf(x[i] - s->b_dec[i]));
    const float *w = s->w_enc + at_place(s, x, place) * s->d;
    for (int64_t i = 0; i < s->d; i++) {
        float step = most / 127, on_grid = step * rintf((x[i] - s->b_dec[i]) / step);
        if (fabsf(on_grid) < most) on_grid += w[i] > 0 ? 0.45f * step : -0.45f * step;
        x[i] = s->b_dec[i] + on_grid;
    }
}

/* As many directions as will not fit, all as strong: ties, and rows of one number. */
static void to_equals(const fct_sae *s, float *x, int64_t r, int64_t k)
{
    for (int64_t i = 0; i < s->d; i++) x[i] = s->b_dec[i];
    for (int64_t j = 0; j < k + 3; j++)
        for (int64_t i = 0; i < s->d; i++) x[i] += s->w_dec[(r * 37 + j * 5) % s->f * s->d + i];
    if (r % 4 == 0)
        for (int64_t i = 0; i < s->d; i++) x[i] = s->b_dec[i] + (float)r;
}

static void make_hard(const fct_sae *s, float *x, int64_t k)
{
    for (int64_t r = 0; r < CHECKED; r++) {
        float *row = x + r * s->d;
        switch (r % 5) {
        case 0: to_border(s, row, k); break;
        case 1: to_leaning(s, row, k + r % 7); break;
        case 2: to_equals(s, row, r, k); break;
        case 3: row[r % s->d] *= 1000; break; /* one number that all steps are sized by */
        default:
            for (int64_t i = 0; i < s->d; i++) row[i] = s->b_dec[i] + 1e-20f * row[i];
        }
    }
}

/* ---- the test ---- */

static int64_t check_product(const fct_sae *s, const float *x, int64_t k, fct_product product,
                             const char *what)
{
    fct_cx cx = {0};
    fct_arena arena, dry;
    fct_encoder enc;
    float *centred, *value;
    int32_t *index;
    int64_t again = 0;
    char text[128];
    const fct_backend *be;
    assert_ok(fct_backend_find(&be, NULL));
    assert_ok(fct_cx_open(&cx, be, NULL));
    assert_ok(fct_encoder_init(&enc, cx.be, product, s->f, s->d));
    assert_ok(fct_new(&centred, CHECKED * s->d, sizeof *centred));
    assert_ok(fct_new(&value, CHECKED * k, sizeof *value));
    assert_ok(fct_new(&index, CHECKED * k, sizeof *index));
    fct_select_args a = {.enc = &enc,
                         .x = x,
                         .shift = s->b_dec,
                         .w = s->w_enc,
                         .bias = s->b_enc,
                         .rows = CHECKED,
                         .k = k,
                         .any_order = product == FCT_PRODUCT_INT8, /* both are seen */
                         .centred = centred,
                         .index = index,
                         .value = value,
                         .recomputed = &again};
    assert_ok(fct_arena_init(&dry, 0));
    cx.arena = &dry;
    assert_ok(fct_op_select(&cx, &a));
    assert_ok(fct_arena_init(&arena, dry.peak));
    cx.arena = &arena;
    assert_ok(fct_op_encoder_fill(&cx, &(fct_encoder_fill_args){.enc = &enc, .w = s->w_enc}));
    assert_ok(fct_op_select(&cx, &a));
    snprintf(text, sizeof text, "%s, k %d, %s", what, (int)k, fct_product_name(product));
    check_selected(&(selection){.rows = CHECKED,
                                .n = s->f,
                                .d = s->d,
                                .k = k,
                                .centred = centred,
                                .w = s->w_enc,
                                .bias = s->b_enc,
                                .index = index,
                                .value = value,
                                .any_order = a.any_order},
                   text);
    fct_cx_close(&cx);
    fct_arena_clear(&arena);
    fct_encoder_clear(&enc);
    fct_free(centred);
    fct_free(value);
    fct_free(index);
    return again;
}

static void check_trained(const float *rows, int64_t d, const char *name)
{
    static const int64_t ks[] = {10, 40};
    float *x;
    assert_ok(fct_new(&x, CHECKED * d, sizeof *x));
    for (size_t i = 0; i < FCT_COUNT(ks); i++) {
        fct_row_source source;
        fct_sae *s;
        fct_train_report report;
        assert_ok(fct_rows_of_memory(&source, rows, N, d,
                                     &(fct_rows_desc){.order = FCT_ORDER_SHUFFLED, .seed = 1}));
        assert_ok(fct_sae_train(&s, &source,
                                &(fct_train_desc){.preset = "demo",
                                                  .engine = FCT_ENGINE_PLAIN,
                                                  .k = ks[i],
                                                  .n_features = F,
                                                  .batch_size = 256,
                                                  .steps = 300},
                                &report));
        print_message("%s, k %d: ev %.3f", name, (int)ks[i], report.ev);
        assert_true(report.ev > 0.5); /* it has learned something */
        for (int hard = 0; hard < 2; hard++) {
            memcpy(x, rows, (size_t)(CHECKED * d) * sizeof *x);
            if (hard) make_hard(s, x, ks[i]);
            for (size_t p = 0; p < FCT_COUNT(products); p++) {
                int64_t again = check_product(s, x, ks[i], products[p], name);
                print_message("; %s%s: %d of %d in f32", hard ? "hard, " : "",
                              fct_product_name(products[p]), (int)again, CHECKED);
                if (!hard) assert_true(again <= CHECKED / 50); /* else rounding is for nothing */
            }
        }
        print_message("\n");
        fct_sae_free(s);
        source.close(source.self);
    }
    fct_free(x);
}

static void test_demo(void **state)
{
    (void)state;
    int64_t d;
    float *rows = demo_rows(&d);
    check_trained(rows, d, "demo");
    fct_free(rows);
}

static void test_planted(void **state)
{
    (void)state;
    float *rows = planted_rows();
    check_trained(rows, PLANTED_D, "planted");
    fct_free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_planted),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

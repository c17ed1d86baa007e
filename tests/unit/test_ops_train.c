/* test_ops_train.c - the operations of a sparse autoencoder's training step. Selection against the
   whole product in f64, on rows that rounding could lead astray; the others cpu against ref. */
#include "ops_util.h"
#include "select_check.h"

static const fct_product products[] = {FCT_PRODUCT_F32, FCT_PRODUCT_BF16, FCT_PRODUCT_INT8};

static void want_floats(const char *what, float *got, float *want, int64_t n, double bound)
{
    fct_tensor g = fct_tensor_of(got, FCT_F32, 1, &n), w = fct_tensor_of(want, FCT_F32, 1, &n);
    want_close(what, &g, &w, bound);
}

/* ---- select ---- */

typedef struct problem {
    pool p;
    int64_t rows, n, d, k;
    float *x, *shift, *w, *bias;
} problem;

static void problem_init(problem *q, int64_t rows, int64_t n, int64_t d, int64_t k)
{
    *q = (problem){.rows = rows, .n = n, .d = d, .k = k};
    pool_init(&q->p, (uint64_t)(rows + 3 * n + 7 * d + 11 * k));
    q->x = pool_floats(&q->p, rows * d, 0, 1);
    q->shift = pool_floats(&q->p, d, 0.1f, 0.3f);
    q->w = pool_floats(&q->p, n * d, 0, (float)(1 / sqrt((double)d)));
    q->bias = pool_floats(&q->p, n, 0, 0.05f);
}

static selection selection_of(const problem *q, const float *centred, const int32_t *index,
                              const float *value)
{
    return (selection){.rows = q->rows,
                       .n = q->n,
                       .d = q->d,
                       .k = q->k,
                       .centred = centred,
                       .w = q->w,
                       .bias = q->bias,
                       .index = index,
                       .value = value};
}

/* Runs with every kind of product; returns how many rows the bf16 one had to compute again. */
static int64_t check_select(problem *q, const char *what)
{
    int64_t again = 0, again_bf16 = 0;
    for (size_t i = 0; i < FCT_COUNT(products); i++) {
        char text[96];
        fct_encoder enc;
        float *centred = pool_take(&q->p, q->rows * q->d * 4),
              *value = pool_take(&q->p, q->rows * q->k * 4);
        int32_t *index = pool_take(&q->p, q->rows * q->k * 4);
        assert_ok(fct_encoder_init(&enc, CPU, products[i], q->n, q->d));
        fct_encoder_fill_args fill_args = {.enc = &enc, .w = q->w};
        RUN(encoder_fill, CPU, &fill_args);
        fct_select_args a = {.enc = &enc,
                             .x = q->x,
                             .shift = q->shift,
                             .w = q->w,
                             .bias = q->bias,
                             .rows = q->rows,
                             .k = q->k,
                             .centred = centred,
                             .index = index,
                             .value = value,
                             .recomputed = &again};
        RUN(select, CPU, &a);
        for (int64_t c = 0; c < q->rows * q->d; c++) {
            float want = q->x[c] - q->shift[c % q->d];
            assert_memory_equal(&centred[c], &want, sizeof want);
        }
        snprintf(text, sizeof text, "%s, %s", what, fct_product_name(products[i]));
        selection s = selection_of(q, centred, index, value);
        check_selected(&s, text);
        if (products[i] == FCT_PRODUCT_BF16) again_bf16 = again;
        fct_encoder_clear(&enc);
    }
    return again_bf16;
}

static void test_select_sizes(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {/* rows, features, width, k */
                                       {1, 1, 1, 1},       {3, 7, 5, 7},       {5, 40, 33, 40},
                                       {70, 1030, 64, 3},  {300, 600, 96, 10}, {130, 2000, 65, 30},
                                       {3, 700, 130, 160}, {900, 520, 150, 20}};
    for (size_t i = 0; i < FCT_COUNT(sizes); i++) {
        problem q;
        problem_init(&q, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
        (void)check_select(&q, "sizes");
        pool_clear(&q.p);
    }
}

enum { ROWS = 24, N = 1500, D = 128, K = 12 };

static void test_select_hard_rows(void **state)
{
    (void)state;
    static const char *const kind[] = {"zero",
                                       "constant",
                                       "one number",
                                       "huge range",
                                       "tiny",
                                       "large",
                                       "one number and a little",
                                       "on the shift"};
    for (size_t i = 0; i < FCT_COUNT(kind); i++) {
        problem q;
        problem_init(&q, ROWS, N, D, K);
        if (i != 7) memset(q.shift, 0, D * sizeof *q.shift);
        for (int64_t c = 0; c < ROWS * D; c++) {
            float *x = &q.x[c], u = *x;
            bool spike = c % D == c / D;
            switch (i) {
            case 0: *x = 0; break;
            case 1: *x = 0.3f + (float)(c / D); break;
            case 2: *x = spike ? 3.1f : 0; break;
            case 3: *x = u * expf(6 * u); break;
            case 4: *x = u * 1e-25f; break;
            case 5: *x = u * 1e15f; break;
            case 6: *x = spike ? 100 : 0.31f + 0.01f * u; break;
            default: *x = q.shift[c % D];
            }
        }
        (void)check_select(&q, kind[i]);
        pool_clear(&q.p);
    }
}

/* Rows whose rounding errors, to the nearest of 255 steps, all lean the way of one feature's
   weights: added up they are many of their standard deviations. Row r leans to the feature that
   comes so many places after the k-th: some of them are among the k best only for that. */
static void test_select_leaning_rows(void **state)
{
    (void)state;
    enum { LONG = 640, LEANING = 32 };
    static double z[N], room[N];
    problem q;
    problem_init(&q, LEANING, N, LONG, K);
    memset(q.shift, 0, LONG * sizeof *q.shift);
    selection s = selection_of(&q, q.x, NULL, NULL);
    for (int64_t r = 0; r < LEANING; r++) {
        float *x = q.x + r * LONG, step = 4.5f / 127; /* no normal number is larger */
        for (int64_t c = 0; c < LONG; c++) x[c] = step * rintf(x[c] / step);
        select_products(&s, r, z, room);
        int64_t f = 0;
        for (int64_t place = 0; place < K + r; place++) { /* the place-th largest */
            if (place > 0) z[f] = -INFINITY;
            for (int64_t g = 0; g < N; g++) f = z[g] > z[f] ? g : f;
        }
        for (int64_t c = 0; c < LONG; c++)
            x[c] += q.w[f * LONG + c] > 0 ? 0.45f * step : -0.45f * step;
        x[r] = 127 * step;
    }
    (void)check_select(&q, "rounding errors that lean one way");
    pool_clear(&q.p);
}

static void test_select_hard_weights(void **state)
{
    (void)state;
    static const char *const kind[] = {"families of near ties", "equal rows",
                                       "lengths apart",         "one long row",
                                       "some zero rows",        "a bias that decides"};
    for (size_t i = 0; i < FCT_COUNT(kind); i++) {
        problem q;
        problem_init(&q, ROWS, N, D, K);
        for (int64_t f = 0; f < N; f++) {
            float *w = q.w + f * D;
            const float *other = q.w + f % 60 * D;
            for (int64_t c = 0; c < D; c++) {
                float u = w[c];
                if (i == 0 && f >= 60) w[c] = other[c] + 1e-5f * u;
                if (i == 1 && f >= 60) w[c] = other[c];
                if (i == 2) w[c] = u * expf((float)(f % 9) - 4);
                if (i == 3 && f == 77) w[c] = u * 1000;
                if (i == 4 && f % 3 == 0) w[c] = 0;
            }
            if (i == 1) q.bias[f] = 0;
            if (i == 5) q.bias[f] *= 1e5f;
        }
        (void)check_select(&q, kind[i]);
        pool_clear(&q.p);
    }
}

/* Random rows must not need f32 products of their own, else the rounded ones are for nothing. */
static void test_select_decides(void **state)
{
    (void)state;
    problem q;
    problem_init(&q, 200, 4000, 256, 20);
    assert_int_equal(check_select(&q, "random"), 0);
    pool_clear(&q.p);
}

/* NaN comes first, so that it is seen. */
static void test_select_nan(void **state)
{
    (void)state;
    problem q;
    problem_init(&q, 3, 800, 64, 4);
    q.x[64 + 5] = NAN;
    for (size_t i = 0; i < FCT_COUNT(products); i++) {
        fct_encoder enc;
        float *centred = pool_take(&q.p, 3 * 64 * 4), *value = pool_take(&q.p, 3 * 4 * 4);
        int32_t *index = pool_take(&q.p, 3 * 4 * 4);
        assert_ok(fct_encoder_init(&enc, CPU, products[i], q.n, q.d));
        fct_encoder_fill_args fill_args = {.enc = &enc, .w = q.w};
        RUN(encoder_fill, CPU, &fill_args);
        fct_select_args a = {.enc = &enc,
                             .x = q.x,
                             .shift = q.shift,
                             .w = q.w,
                             .bias = q.bias,
                             .rows = 3,
                             .k = 4,
                             .centred = centred,
                             .index = index,
                             .value = value};
        RUN(select, CPU, &a);
        assert_true(isfinite(value[0]) && isfinite(value[8]));
        for (int j = 0; j < 4; j++) assert_true(isnan(value[4 + j]));
        for (int j = 0; j < 4; j++) assert_int_equal(index[4 + j], j);
        fct_encoder_clear(&enc);
    }
    pool_clear(&q.p);
}

/* ---- sparse_error and adam ---- */

typedef struct codes {
    pool p;
    int64_t rows, k, n, d;
    int32_t *index, *more;
    float *value, *input, *target, *bias, *more_enc, *more_dec, *more_bias;
} codes;

static void codes_init(codes *c, int64_t rows, int64_t k, int64_t n, int64_t d)
{
    *c = (codes){.rows = rows, .k = k, .n = n, .d = d};
    pool_init(&c->p, (uint64_t)(rows + 5 * k + 9 * n + d));
    c->index = pool_take(&c->p, rows * k * 4);
    for (int64_t i = 0; i < rows * k; i++) c->index[i] = (int32_t)fct_rng_below(&c->p.rng, n);
    c->value = pool_floats(&c->p, rows * k, 0.2f, 1);
    for (int64_t i = 0; i < rows * k; i++) /* after ReLU */
        c->value[i] = c->value[i] > 0 ? c->value[i] : 0;
    c->input = pool_floats(&c->p, rows * d, 0, 1);
    c->target = pool_floats(&c->p, rows * d, 0, 1);
    c->bias = pool_floats(&c->p, d, 0, 1);
    c->more = pool_take(&c->p, n * 4);
    for (int64_t f = 0; f < n; f++) c->more[f] = f % 3 == 1 ? (int32_t)(f / 3) : -1;
    c->more_enc = pool_floats(&c->p, (n / 3 + 1) * d, 0, 1);
    c->more_dec = pool_floats(&c->p, (n / 3 + 1) * d, 0, 1);
    c->more_bias = pool_floats(&c->p, n / 3 + 1, 0, 1);
}

typedef struct weights { /* what adam moves */
    float *at[9];
    int64_t size[9];
    float *error, *coef, *through;
    double *sum, squares;
} weights;

/* The same for the same codes: weights, moments of earlier steps, a zero row in the decoder. */
static void weights_init(weights *w, codes *c)
{
    fct_rng keep = c->p.rng;
    fct_rng_init(&c->p.rng, 99);
    for (int i = 0; i < 9; i++) {
        w->size[i] = i < 6 ? c->n * c->d : c->n;
        w->at[i] = pool_floats(&c->p, w->size[i], 0, i % 3 == 0 ? 1 : 1e-3f);
        for (int64_t j = 0; i % 3 == 2 && j < w->size[i]; j++) w->at[i][j] *= w->at[i][j];
    }
    for (int64_t j = 0; j < c->d; j++) w->at[3][j] = 0;
    w->error = pool_take(&c->p, c->rows * c->d * 4);
    w->coef = pool_take(&c->p, c->rows * c->k * 4);
    w->through = pool_take(&c->p, c->d * 4);
    w->sum = pool_take(&c->p, c->d * 8);
    c->p.rng = keep;
}

static void run_error(codes *c, weights *w, const fct_backend *be)
{
    fct_sparse_error_args a = {.index = c->index,
                               .value = c->value,
                               .rows = c->rows,
                               .k = c->k,
                               .n = c->n,
                               .d = c->d,
                               .table = w->at[3],
                               .bias = c->bias,
                               .target = c->target,
                               .scale = 0.37f,
                               .error = w->error,
                               .coef = w->coef,
                               .sum = w->sum,
                               .squares = &w->squares};
    RUN(sparse_error, be, &a);
}

static void run_adam(codes *c, weights *w, const fct_backend *be, bool more, fct_encoder *enc)
{
    fct_adam_args a = {.index = c->index,
                       .value = c->value,
                       .coef = w->coef,
                       .rows = c->rows,
                       .k = c->k,
                       .n = c->n,
                       .d = c->d,
                       .input = c->input,
                       .error = w->error,
                       .scale = 0.37f,
                       .more = more ? c->more : NULL,
                       .more_enc = c->more_enc,
                       .more_dec = c->more_dec,
                       .more_bias = c->more_bias,
                       .w_enc = w->at[0],
                       .m_enc = w->at[1],
                       .v_enc = w->at[2],
                       .w_dec = w->at[3],
                       .m_dec = w->at[4],
                       .v_dec = w->at[5],
                       .b_enc = w->at[6],
                       .m_bias = w->at[7],
                       .v_bias = w->at[8],
                       .rate = 0.01f,
                       .root = 0.3f,
                       .eps = 1e-6f,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .through = w->through,
                       .enc = enc};
    RUN(adam, be, &a);
}

static const int64_t code_sizes[][4] = {/* rows, k, features, width */
                                        {1, 1, 1, 1},       {3, 2, 5, 7},       {17, 4, 9, 64},
                                        {64, 10, 40, 96},   {33, 5, 300, 130},  {5, 0, 4, 8},
                                        {200, 16, 12, 200}, {130, 40, 60, 150}, {0, 3, 4, 8}};

static void test_sparse_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(code_sizes); i++) {
        codes c;
        weights ref, cpu;
        codes_init(&c, code_sizes[i][0], code_sizes[i][1], code_sizes[i][2], code_sizes[i][3]);
        weights_init(&ref, &c);
        weights_init(&cpu, &c);
        run_error(&c, &ref, REF);
        run_error(&c, &cpu, CPU);
        want_floats("error", cpu.error, ref.error, c.rows * c.d, 1e-6);
        want_floats("coef", cpu.coef, ref.coef, c.rows * c.k, 1e-6);
        for (int64_t j = 0; j < c.d; j++)
            assert_true(fabs(cpu.sum[j] - ref.sum[j]) <= 1e-5 * sqrt(ref.squares + 1));
        assert_true(fabs(cpu.squares - ref.squares) <= 1e-6 * ref.squares);
        pool_clear(&c.p);
    }
}

static void check_adam(const int64_t *size, bool more, bool copy)
{
    static const char *const name[] = {"w_enc", "m_enc", "v_enc",  "w_dec", "m_dec",
                                       "v_dec", "b_enc", "m_bias", "v_bias"};
    codes c;
    weights ref, cpu;
    fct_encoder enc = {0};
    codes_init(&c, size[0], size[1], size[2], size[3]);
    weights_init(&ref, &c);
    weights_init(&cpu, &c);
    run_error(&c, &ref, REF);
    memcpy(cpu.error, ref.error, (size_t)(c.rows * c.d) * 4);
    memcpy(cpu.coef, ref.coef, (size_t)(c.rows * c.k) * 4);
    if (copy) assert_ok(fct_encoder_init(&enc, CPU, FCT_PRODUCT_BF16, c.n, c.d));
    run_adam(&c, &ref, REF, more, NULL);
    run_adam(&c, &cpu, CPU, more, copy ? &enc : NULL);
    for (int i = 0; i < 9; i++)
        want_floats(name[i], cpu.at[i], ref.at[i], ref.size[i], 1e-5); /* 2.8e-6 */
    want_floats("through", cpu.through, ref.through, c.d, 1e-5);
    fct_encoder_clear(&enc);
    pool_clear(&c.p);
}

static void test_adam(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(code_sizes); i++)
        for (int more = 0; more < 2; more++) check_adam(code_sizes[i], more, i % 2 == 0);
}

/* The copy that adam leaves is that of the new weights: selection with it finds the new best. */
static void test_adam_fills(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(products); i++) {
        codes c;
        weights w;
        fct_encoder enc;
        problem q = {.rows = 40, .n = 700, .d = 96, .k = 6};
        codes_init(&c, 40, 6, 700, 96);
        weights_init(&w, &c);
        run_error(&c, &w, CPU);
        assert_ok(fct_encoder_init(&enc, CPU, products[i], 700, 96));
        run_adam(&c, &w, CPU, false, &enc);
        q.w = w.at[0];
        q.bias = w.at[6];
        float *centred = pool_take(&c.p, 40 * 96 * 4), *value = pool_take(&c.p, 40 * 6 * 4);
        int32_t *index = pool_take(&c.p, 40 * 6 * 4);
        fct_select_args a = {.enc = &enc,
                             .x = c.input,
                             .shift = c.bias,
                             .w = q.w,
                             .bias = q.bias,
                             .rows = 40,
                             .k = 6,
                             .centred = centred,
                             .index = index,
                             .value = value};
        RUN(select, CPU, &a);
        selection s = selection_of(&q, centred, index, value);
        check_selected(&s, "after adam");
        fct_encoder_clear(&enc);
        pool_clear(&c.p);
    }
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    for (int many = 0; many < 2; many++) {
        codes c;
        weights w[3];
        codes_init(&c, 150, many ? 40 : 3, 90, 200);
        for (int t = 0; t < 3; t++) {
            fct_threads_set(t + 1);
            weights_init(&w[t], &c);
            run_error(&c, &w[t], CPU);
            run_adam(&c, &w[t], CPU, true, NULL);
            assert_memory_equal(w[t].error, w[0].error, (size_t)(c.rows * c.d) * 4);
            assert_memory_equal(w[t].coef, w[0].coef, (size_t)(c.rows * c.k) * 4);
            assert_memory_equal(w[t].sum, w[0].sum, (size_t)c.d * 8);
            assert_memory_equal(w[t].through, w[0].through, (size_t)c.d * 4);
            for (int i = 0; i < 9; i++)
                assert_memory_equal(w[t].at[i], w[0].at[i], (size_t)w[0].size[i] * 4);
        }
        fct_threads_set(0);
        pool_clear(&c.p);
    }
}

static void test_errors(void **state)
{
    (void)state;
    fct_arena arena;
    fct_encoder enc;
    float x[8] = {0};
    int32_t index[4] = {0, 1, 2, 9};
    double sum[8];
    assert_ok(fct_arena_init(&arena, 4096));
    fct_cx cx = {.be = CPU, .arena = &arena}, other = {.be = REF, .arena = &arena};
    assert_fails(fct_encoder_init(&enc, CPU, FCT_PRODUCT_F32, 0, 4), FCT_ERR_SHAPE, "encoder");
    assert_ok(fct_encoder_init(&enc, CPU, FCT_PRODUCT_F32, 2, 4));
    assert_fails(fct_op_select(&cx, &(fct_select_args){.rows = 1}), FCT_ERR_ARG, "no encoder");
    assert_fails(fct_op_select(&cx, &(fct_select_args){.enc = &enc, .rows = 1, .k = 3}),
                 FCT_ERR_SHAPE, "k is 3 but there are 2 features");
    assert_fails(fct_op_select(&cx, &(fct_select_args){.enc = &enc, .rows = 1, .k = 1}),
                 FCT_ERR_ARG, "x is NULL");
    assert_fails(fct_op_select(&other, &(fct_select_args){.enc = &enc, .rows = 1, .k = 1}),
                 FCT_ERR_ARG, "the encoder was made for cpu, this run is on ref");
    assert_fails(fct_op_sparse_error(&cx, &(fct_sparse_error_args){.rows = 1,
                                                                   .k = 4,
                                                                   .n = 4,
                                                                   .d = 2,
                                                                   .index = index,
                                                                   .value = x,
                                                                   .table = x,
                                                                   .bias = x,
                                                                   .target = x,
                                                                   .error = x,
                                                                   .coef = x,
                                                                   .sum = sum,
                                                                   .squares = sum}),
                 FCT_ERR_RANGE, "sparse_error: index 9 at row 0 is not in [0,4)");
    assert_fails(fct_op_adam(&cx, &(fct_adam_args){.n = 3, .d = 4, .enc = &enc}), FCT_ERR_SHAPE,
                 "other sizes");
    assert_fails(fct_op_adam(&cx, &(fct_adam_args){.n = 2, .d = 4}), FCT_ERR_ARG, "w_enc is NULL");
    fct_encoder_clear(&enc);
    fct_arena_clear(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select_sizes),
        cmocka_unit_test(test_select_hard_rows),
        cmocka_unit_test(test_select_leaning_rows),
        cmocka_unit_test(test_select_hard_weights),
        cmocka_unit_test(test_select_decides),
        cmocka_unit_test(test_select_nan),
        cmocka_unit_test(test_sparse_error),
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_adam_fills),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

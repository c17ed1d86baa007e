/* test_model_sampler.c - timesteps, sigmas and whole walks of both Euler schedulers against
   diffusers, and noise in every number format against torch. */
#include "fct_test.h"

#include "model/model.h"

static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static fct_scheduler_config config_of(const json_t *c)
{
    const json_t *k = json_object_get(c, "config");
    const char *spacing = text(k, "timestep_spacing"), *prediction = text(k, "prediction_type"),
               *last = text(k, "final_sigmas_type");
    fct_scheduler_config s = {
        .train_steps = 1000,
        .ancestral = strstr(text(c, "class"), "Ancestral") != NULL,
        .v_prediction = prediction && strcmp(prediction, "v_prediction") == 0,
        .scaled_linear = strcmp(text(k, "beta_schedule"), "scaled_linear") == 0,
        .last_sigma_min = last != NULL,
        .steps_offset = json_integer_value(json_object_get(k, "steps_offset")),
        .beta_start = json_number_value(json_object_get(k, "beta_start")),
        .beta_end = json_number_value(json_object_get(k, "beta_end"))};
    s.spacing = strcmp(spacing, "trailing") == 0  ? FCT_SPACING_TRAILING
                : strcmp(spacing, "leading") == 0 ? FCT_SPACING_LEADING
                                                  : FCT_SPACING_LINSPACE;
    return s;
}

static double worst(const float *got, const json_t *want, int64_t n)
{
    double w = 0;
    assert_int_equal(json_array_size(want), n);
    for (int64_t i = 0; i < n; i++) {
        double x = json_number_value(json_array_get(want, (size_t)i)),
               d = fabs(got[i] - x) / (fabs(x) > 1e-6 ? fabs(x) : 1);
        if (d > w) w = d;
    }
    return w;
}

static double walk(const fct_sampler *s, const json_t *want)
{
    enum { N = 8 };
    float x[N], y[N], noise[N];
    fct_rng rng;
    fct_rng_init(&rng, 1);
    fct_noise_draw(&rng, x, N, FCT_NOISE_F32);
    for (int i = 0; i < N; i++) x[i] *= s->init_sigma;
    for (int64_t k = 0; k < s->n; k++) {
        float scale = fct_sampler_input_scale(s, k);
        for (int i = 0; i < N; i++) y[i] = sinf(x[i] / scale);
        if (s->ancestral) fct_noise_draw(&rng, noise, N, FCT_NOISE_F32);
        fct_sampler_step(s, k, x, y, noise, N);
    }
    double d = 0, size = 0;
    for (size_t i = 0; i < N; i++) {
        double v = json_number_value(json_array_get(want, i));
        d += (x[i] - v) * (x[i] - v);
        size += v * v;
    }
    return sqrt(d / size);
}

static void test_schedules(void **state)
{
    (void)state;
    json_t *root = NULL, *c;
    size_t i;
    double time = 0, sigma = 0, end = 0;
    assert_ok(fct_json_read(&root, test_path("golden/sampler.json")));
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        fct_scheduler_config k = config_of(c);
        fct_sampler s;
        assert_ok(fct_sampler_init(&s, &k, json_integer_value(json_object_get(c, "steps"))));
        double a = worst(s.timestep, json_object_get(c, "timesteps"), s.n),
               b = worst(s.sigma, json_object_get(c, "sigmas"), s.n + 1);
        double e = walk(&s, json_object_get(c, "end")),
               init = fabs(s.init_sigma / json_number_value(json_object_get(c, "init")) - 1);
        if (a > 1e-7 || b > 2e-6 || e > 1e-4 || init > 1e-6)
            fail_msg(
                "case %d (%s %s, %lld steps): timesteps %.2e, sigmas %.2e, initial %.2e, walk %.2e",
                (int)i, text(c, "class"), text(json_object_get(c, "config"), "timestep_spacing"),
                (long long)s.n, a, b, init, e);
        time = a > time ? a : time;
        sigma = b > sigma ? b : sigma;
        end = e > end ? e : end;
        fct_sampler_clear(&s);
    }
    json_array_foreach(json_object_get(root, "trailing_counts"), i, c)
    {
        fct_scheduler_config k = {.train_steps = 1000,
                                  .beta_start = 1e-4,
                                  .beta_end = 0.02,
                                  .spacing = FCT_SPACING_TRAILING};
        fct_sampler s;
        assert_ok(fct_sampler_init(&s, &k, (int64_t)i + 1));
        assert_int_equal(s.n, json_integer_value(c));
        const fct_model_info trailing = {.trailing = 1000, .default_steps = (int64_t)i + 1},
                             leading = {.default_steps = 3};
        assert_int_equal(fct_model_count_steps(&trailing, (int64_t)i + 1), s.n);
        assert_int_equal(fct_model_count_steps(&trailing, 0), s.n);
        assert_int_equal(fct_model_count_steps(&leading, (int64_t)i + 1), i + 1);
        fct_sampler_clear(&s);
    }
    print_message("  timesteps %.1e, sigmas %.1e, walks %.1e\n", time, sigma, end);
    json_decref(root);
}

static void test_noise(void **state)
{
    (void)state;
    json_t *root = NULL, *c;
    size_t i;
    float x[128];
    assert_ok(fct_json_read(&root, test_path("golden/sampler.json")));
    json_array_foreach(json_object_get(root, "noise"), i, c)
    {
        const char *dtype = text(c, "dtype");
        fct_noise_dtype d = strcmp(dtype, "float16") == 0    ? FCT_NOISE_F16
                            : strcmp(dtype, "bfloat16") == 0 ? FCT_NOISE_BF16
                                                             : FCT_NOISE_F32;
        int64_t n = json_integer_value(json_object_get(c, "n"));
        fct_rng rng;
        fct_rng_init(&rng, (uint64_t)json_integer_value(json_object_get(c, "seed")));
        for (int k = 0; k < 2; k++) {
            fct_noise_draw(&rng, x, n, d);
            double w = worst(x, json_object_get(c, k ? "second" : "first"), n);
            if (w > 0) fail_msg("%s, n %lld, draw %d: %.2e", dtype, (long long)n, k + 1, w);
        }
    }
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_schedules),
                                       cmocka_unit_test(test_noise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_settings.c - the settings of a run (src/model/settings.c): how a model's defaults stand in
   for zeros, an explicit 0, copies that own their texts, and the table of the fields. */
#include "base/option.h"
#include "facet/session.h"
#include "fct_test.h"

/* One that would guide by itself, and one like SDXL Turbo. */
static const fct_model_info guides = {.vae_factor = 8,
                                      .default_width = 1024,
                                      .default_height = 512,
                                      .default_steps = 30,
                                      .default_guidance = 5},
                            turbo = {.vae_factor = 8,
                                     .default_width = 512,
                                     .default_height = 512,
                                     .default_steps = 1};

static void test_resolve(void **state)
{
    (void)state;
    static const struct {
        fct_settings in;
        const fct_model_info *info;
        int64_t width, steps;
        double shown;
        bool guided;
    } cases[] = {{{0}, &guides, 1024, 30, 5, true},
                 {{0}, &turbo, 512, 1, 0, false},
                 {{.guidance = FCT_NONE}, &guides, 1024, 30, 0, false},
                 {{.guidance = 1}, &guides, 1024, 30, 1, false},
                 {{.guidance = 1.5}, &turbo, 512, 1, 1.5, true},
                 {{.width = 64, .steps = 3, .guidance = 7}, &guides, 64, 3, 7, true}};
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        fct_settings s;
        fct_settings_resolve(&s, &cases[i].in, cases[i].info);
        for (int again = 0; again < 2; again++) { /* what is resolved stays as it is */
            assert_true(s.width == cases[i].width && s.steps == cases[i].steps);
            assert_true(fct_settings_guidance(&s) == cases[i].shown);
            assert_true(fct_settings_guided(&s) == cases[i].guided);
            fct_settings_resolve(&s, &s, &guides);
        }
    }
    fct_settings s;
    fct_settings_resolve(&s, NULL, &guides);
    assert_true(s.height == 512 && s.seed == 0 && !s.negative);
}

static void test_check(void **state)
{
    (void)state;
    fct_settings s;
    fct_settings_resolve(&s, NULL, &guides);
    assert_ok(fct_settings_check(&s, &guides));
    s.height = 12;
    assert_fails(FCT_ERR_ARG, "1024x12: width and height must be multiples of 8",
                 fct_settings_check(&s, &guides));
    s.height = 1 << 17;
    assert_fails(FCT_ERR_ARG, "multiples of 8", fct_settings_check(&s, &guides));
    s.height = 512;
    s.guidance = NAN;
    assert_fails(FCT_ERR_ARG, "want a number", fct_settings_check(&s, &guides));
    s.guidance = 2;
    s.noise_dtype = (fct_noise_dtype)3;
    assert_fails(FCT_ERR_ARG, "noise is f32, f16 or bf16", fct_settings_check(&s, &guides));
}

static void test_copy(void **state)
{
    (void)state;
    char text[] = "hat";
    fct_settings s;
    assert_ok(fct_settings_copy(&s, &(fct_settings){.negative = text, .steps = 4}));
    text[0] = 'c';
    assert_string_equal(s.negative, "hat");
    assert_true(s.steps == 4 && !s.negative_2);
    fct_settings_clear(&s);
    assert_ok(fct_settings_copy(&s, NULL));
    assert_true(s.steps == 0 && !s.negative);
    fct_settings_clear(&s);
}

/* A default that is a text means what a struct of zeros means, and every row is documented. */
static void test_table(void **state)
{
    (void)state;
    for (const fct_option *row = fct_settings_table(); row->name; row++) {
        fct_settings s = {0};
        assert_true(row->help && strlen(row->help) > 5);
        assert_true(row->kind == FCT_OPTION_FLAG ||
                    (row->value && (row->fallback || row->otherwise)));
        if (!row->fallback) continue;
        assert_ok(fct_option_parse(&s, row, row->fallback));
        assert_memory_equal(&s, &(fct_settings){0}, sizeof s);
    }
    fct_settings s = {0};
    assert_ok(fct_option_parse(&s, fct_option_find(fct_settings_table(), "original-size"), "7x9"));
    assert_true(s.original_width == 7 && s.original_height == 9);
    assert_ok(fct_option_parse(&s, fct_option_find(fct_settings_table(), "target-size"), "5x6"));
    assert_true(s.target_width == 5 && s.target_height == 6);
    assert_ok(fct_option_parse(&s, fct_option_find(fct_settings_table(), "crop"), "3,4"));
    assert_true(s.crop_left == 3 && s.crop_top == 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_resolve), cmocka_unit_test(test_check),
                                       cmocka_unit_test(test_copy), cmocka_unit_test(test_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

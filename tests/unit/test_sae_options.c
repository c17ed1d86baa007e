/* test_sae_options.c - the table of a training's options (src/train/options.c) and sweeps
   (src/train/sweep.c): every word of the table is known to the trainer, defaults that are constants
   are those of a plan, messages write options as their user does, and a file of several trainings
   becomes descriptions without a command line. */
#include <stdio.h>
#include <string.h>

#include "fct_test.h"
#include "train/variant.h"

/* ---- the table ---- */

static const fct_option *row_of(const char *name)
{
    const fct_option *row = fct_option_find(fct_train_table(), name);
    assert_non_null(row);
    return row;
}

/* Every word of a row resolves to a plan that says it again. */
static void check_words(const char *option, const char *rest)
{
    const fct_option *row = row_of(option);
    for (const char *p = row->words + (*row->words == ','); *p; p += strcspn(p, ",")) {
        char word[32];
        fct_train_desc desc = {0};
        fct_train_plan plan;
        json_t *said;
        p += *p == ',';
        snprintf(word, sizeof word, "%.*s", (int)strcspn(p, ","), p);
        assert_ok(fct_option_parse(&desc, row, word));
        assert_ok(fct_train_plan_init(&plan, &desc, 64, 100000, NULL));
        assert_ok(fct_train_plan_describe(&said, &plan, 64));
        assert_string_equal(json_string_value(json_object_get(said, option)), word);
        json_decref(said);
    }
    assert_non_null(strstr(row->words, rest));
}

static void test_words(void **state)
{
    (void)state;
    check_words("preset", "modern");
    check_words("arch", "matryoshka");
    check_words("lr_decay", "cosine");
    check_words("decoder_norm", "project");
    check_words("normalize", "mean-norm");
}

/* What help says of defaults is what a plan has. */
static void test_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *option, *arch;
        double want;
    } row[] = {{"eps", "topk", 6.25e-10},
               {"bandwidth", "jumprelu", 1e-3},
               {"init_threshold", "jumprelu", 1e-3},
               {"groups", "matryoshka", 5},
               {"seed", "topk", 0},
               {"decoder_norm", "topk", -1}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_train_plan plan;
        json_t *said;
        assert_ok(
            fct_train_plan_init(&plan, &(fct_train_desc){.arch = row[i].arch}, 64, 100000, NULL));
        assert_ok(fct_train_plan_describe(&said, &plan, 64));
        const json_t *value = json_object_get(said, row[i].option);
        if (json_is_string(value))
            assert_string_equal(json_string_value(value), row_of(row[i].option)->fallback);
        else
            assert_true(json_number_value(value) == row[i].want);
        json_decref(said);
    }
    fct_train_plan plan;
    assert_ok(fct_train_plan_init(&plan, &(fct_train_desc){0}, 64, 100000, NULL));
    assert_int_equal(plan.checkpoint_every, 500);
    assert_int_equal(plan.log_every, 100);
}

static void test_none(void **state)
{
    (void)state;
    fct_train_plan plan;
    fct_train_desc desc = {.preset = "modern", .auxk = FCT_NONE, .checkpoint_every = FCT_NONE};
    assert_ok(fct_train_plan_init(&plan, &desc, 64, 100000, NULL));
    assert_true(plan.auxk == 0 && plan.checkpoint_every == 0 && plan.grad_clip == 1);
    desc = (fct_train_desc){.preset = "modern", .aux_coef = FCT_NONE, .grad_clip = FCT_NONE};
    assert_ok(fct_train_plan_init(&plan, &desc, 64, 100000, NULL));
    assert_true(plan.auxk == 0 && plan.grad_clip == 0);
    desc.auxk = 4;
    assert_fails(FCT_ERR_ARG, "aux_coef 0 means no aux loss", fct_train_desc_check(&desc));
}

static void test_spelling(void **state)
{
    (void)state;
    static const char *const says[] = {
        [FCT_SPELL_FIELD] = "choose steps or a smaller batch_size",
        [FCT_SPELL_COMMAND_LINE] = "choose --steps or a smaller --batch-size",
        [FCT_SPELL_JSON] = "choose \"steps\" or a smaller \"batch_size\"",
        [FCT_SPELL_KEYWORD] = "choose steps= or a smaller batch_size="};
    fct_train_plan plan;
    for (fct_spelling i = 0; i < FCT_COUNT(says); i++)
        assert_fails(FCT_ERR_ARG, says[i],
                     fct_train_plan_init(&plan, &(fct_train_desc){.preset = "demo", .spelling = i},
                                         64, 1000, NULL));
}

/* ---- sweeps ---- */

static const char *write_sweep(const char *text)
{
    const char *path = temp_path("sweep.json");
    assert_ok(fct_file_write(path, text, (int64_t)strlen(text)));
    return path;
}

static const fct_row_part streams[] = {{"down.2.1", 16}, {"up.0.1", 24}};

static void test_sweep(void **state)
{
    (void)state;
    fct_sweep *s;
    const fct_sweep_item *item;
    int64_t n;
    fct_train_desc base = {0};
    assert_ok(fct_sweep_open(
        &s,
        write_sweep("{\"blocks\": [\"down.2.1\", \"up.0.1\"], \"seeds\": [0, 7], \"store\": "
                    "\"rows\", \"options\": {\"preset\": \"demo\", \"hold-out\": 5, "
                    "\"batch-size\": 64, \"lr\": \"2e-3\", \"untied\": true}, "
                    "\"grid\": {\"k\": [2, 4], \"auxk\": [0]}, \"configs\": [{\"name\": "
                    "\"wide\", \"n_features\": 80, \"arch\": \"gated\", \"untied\": false}]}")));
    const fct_sweep_info *info = fct_sweep_get_info(s);
    assert_int_equal(info->n_blocks, 2);
    assert_string_equal(info->block[1], "up.0.1");
    assert_string_equal(info->rest, "{\"store\": \"rows\", \"hold-out\": 5}");
    assert_ok(fct_sweep_read(s, &base));
    assert_true(base.batch_size == 64 && base.lr == 2e-3 && base.untied);
    base.steps = 9; /* as a command line adds */
    assert_ok(fct_sweep_list(s, &base, streams, 2, &item, &n));
    assert_int_equal(n, 12);
    assert_string_equal(item[0].name, "down.2.1_k2_seed0");
    assert_string_equal(item[3].name, "up.0.1_k2_seed7");
    assert_string_equal(item[11].name, "up.0.1_wide_seed7");
    assert_string_equal(item[3].options, "{\"k\": 2, \"auxk\": 0}");
    const fct_train_desc *d = &item[3].desc;
    assert_true(item[3].stream == 1 && d->k == 2 && d->auxk == FCT_NONE && d->seed == 7 &&
                d->steps == 9 && d->batch_size == 64);
    d = &item[11].desc; /* false is as if it were not there */
    assert_true(d->n_features == 80 && d->k == 0 && d->untied && d->spelling == FCT_SPELL_JSON);
    assert_string_equal(d->arch, "gated");
    fct_sweep_close(s);
}

static void test_bad_sweeps(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } row[] = {
        {"{\"configs\": [{\"k\": 2.5}]}", "down.2.1: \"k\": want a whole number from 1 up"},
        {"{\"configs\": [{\"k\": \"many\"}]}", "found \"many\""},
        {"{\"configs\": [{\"lr-decay\": \"up\"}]}", "\"lr_decay\": want one of none, linear"},
        {"{\"configs\": [{\"tensorboard\": \"x\"}]}", "\"tensorboard\" is of the whole run"},
        {"{\"configs\": [{\"store\": \"x\"}]}", "\"store\" is of the whole run, or no option"},
        {"{\"configs\": [{\"steqs\": 1}]}", "did you mean \"steps\"?"},
        {"{\"configs\": [{\"n-features\": 8, \"expansion-factor\": 2}]}",
         "\"n_features\" and \"expansion_factor\" say the same thing"},
        {"{\"sae_configs\": [{\"d_model\": 99}]}", "d_model is 99, rows of down.2.1 have 16"},
        {"{\"grid\": {\"k\": 4}}", "want a list of values"},
    };
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_sweep *s;
        const fct_sweep_item *item;
        int64_t n;
        assert_ok(fct_sweep_open(&s, write_sweep(row[i].text)));
        fct_status st = fct_sweep_list(s, &(fct_train_desc){0}, streams, 2, &item, &n);
        assert_int_not_equal(st, FCT_OK);
        if (!strstr(fct_error_text(), row[i].says))
            fail_msg("%s: said %s", row[i].text, fct_error_text());
        fct_sweep_close(s);
    }
}

/* The nth allocation fails: a status, nothing lost. */
static void test_memory(void **state)
{
    (void)state;
    const char *path = write_sweep("{\"seeds\": [1, 2], \"options\": {\"k\": 2, \"x\": 1}, "
                                   "\"grid\": {\"lr\": [0.1, 0.2]}, \"configs\": [{\"k\": 3}]}");
    for (int64_t i = 1;; i++) {
        fct_sweep *s = NULL;
        const fct_sweep_item *item;
        int64_t n;
        fct_train_desc base = {0};
        fct_fault_alloc(i);
        fct_status st = fct_sweep_open(&s, path);
        if (st == FCT_OK) st = fct_sweep_read(s, &base);
        if (st == FCT_OK) st = fct_sweep_list(s, &base, streams, 2, &item, &n);
        fct_fault_alloc(0);
        fct_sweep_close(s);
        if (st == FCT_OK) break;
        assert_int_equal(st, FCT_ERR_MEMORY);
        assert_true(i < 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),  cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_none),   cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_sweep),  cmocka_unit_test(test_bad_sweeps),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

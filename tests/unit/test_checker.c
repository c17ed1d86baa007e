/* test_checker.c - the checker against torch (tools/make_checker_vectors.py), the world's captions,
   the measures, and what they say to malformed descriptions. */
#include "fct_test.h"

#include "eval/eval.h"
#include "twin.h"

static const char *demo_path(const char *relative)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/models/demo/%s", FCT_SOURCE_DIR, relative);
    return path;
}

/* ---- the checker ---- */

static void compare(const char *backend, double bound)
{
    fct_checker *c = NULL;
    fct_reader *reader = NULL;
    fct_safetensors want = {0};
    assert_ok(fct_safetensors_open(&want, test_path("vectors/checker/tiny.safetensors")));
    assert_ok(fct_checker_load(&c, test_path("vectors/checker"), backend));
    assert_ok(fct_reader_open(&reader, c));
    const fct_tensor *x = fct_safetensors_find(&want, "pixels"),
                     *y = fct_safetensors_find(&want, "logits");
    int64_t n = x->dim[0], outputs = c->outputs;
    assert_int_equal(outputs, y->dim[1]);
    float *got = NULL;
    assert_ok(fct_new(&got, n * outputs, sizeof *got));
    assert_ok(fct_reader_run(reader, x->data, n, x->dim[2], x->dim[1], got));
    double diff = 0, size = 0;
    for (int64_t i = 0; i < n * outputs; i++) {
        double w = (double)((const float *)y->data)[i], d = (double)got[i] - w;
        diff += d * d;
        size += w * w;
    }
    if (sqrt(diff / size) > bound) fail_msg("%s: relative distance %g", backend, sqrt(diff / size));

    /* the readings follow from the outputs; a batch reads as its pictures one by one */
    fct_reading r[32], single;
    assert_ok(fct_reader_read(reader, x->data, n, x->dim[2], x->dim[1], r));
    int unreadable = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *o = got + i * outputs;
        int32_t best = 0;
        for (int32_t j = 1; j < 3; j++)
            if (o[j] > o[best]) best = j;
        assert_int_equal(r[i].value[0], best);
        assert_int_equal(r[i].readable, o[4] <= o[3]);
        assert_true(fabs((double)r[i].unreadable - 1 / (1 + exp((double)o[3] - (double)o[4]))) <
                    1e-5);
        assert_int_equal(r[i].value[2], -1);
        for (int j = 0; j < 4; j++) assert_true(r[i].point[j] == o[5 + j]);
        unreadable += !r[i].readable;
        const uint8_t *p = (const uint8_t *)x->data + i * x->dim[1] * x->dim[2] * 3;
        assert_ok(fct_reader_read(reader, p, 1, x->dim[2], x->dim[1], &single));
        assert_int_equal(single.value[0], r[i].value[0]);
        assert_true(fabs((double)single.unreadable - (double)r[i].unreadable) < 1e-5);
    }
    assert_true(unreadable > 0 && unreadable < n); /* else the case shows nothing */
    assert_fails(FCT_ERR_SHAPE, "20x14, not of 14x20",
                 fct_reader_run(reader, x->data, 1, 14, 20, got));
    assert_int_equal(fct_checker_find(c, "readable"), 1);
    assert_int_equal(fct_checker_find(c, "taste"), -1);
    fct_free(got);
    fct_reader_close(reader);
    fct_checker_free(c);
    fct_safetensors_close(&want);
}

static void test_tiny(void **state)
{
    (void)state;
    compare("ref", 1e-6);
    compare("cpu", 1e-6);
}

/* The demo model's own checker, where its weights are. */
static void test_demo(void **state)
{
    (void)state;
    if (!fct_path_exists(demo_path("checker/checker.safetensors")) ||
        !fct_path_exists(test_path("vectors/checker/demo.safetensors")))
        skip();
    fct_checker *c = NULL;
    fct_reader *reader = NULL;
    fct_safetensors want = {0};
    assert_ok(fct_safetensors_open(&want, test_path("vectors/checker/demo.safetensors")));
    assert_ok(fct_checker_load(&c, demo_path("checker"), NULL));
    assert_ok(fct_reader_open(&reader, c));
    const fct_tensor *patches = fct_safetensors_find(&want, "patches"),
                     *y = fct_safetensors_find(&want, "logits");
    int64_t n = patches->dim[0], outputs = c->outputs;
    assert_int_equal(outputs, y->dim[1]);
    uint8_t *pixels = NULL;
    float *got = NULL;
    assert_ok(fct_new(&pixels, n * 256 * 256, 3));
    assert_ok(fct_new(&got, n * outputs, sizeof *got));
    const uint8_t *from = patches->data;
    for (int64_t i = 0; i < n * 256 * 256; i++) {
        int64_t b = i / 65536, py = i / 256 % 256 / 64, px = i % 256 / 64;
        memcpy(pixels + i * 3, from + ((b * 4 + py) * 4 + px) * 3, 3);
    }
    assert_ok(fct_reader_run(reader, pixels, n, 256, 256, got));
    double diff = 0, size = 0;
    for (int64_t i = 0; i < n * outputs; i++) {
        double w = (double)((const float *)y->data)[i], d = (double)got[i] - w;
        diff += d * d;
        size += w * w;
    }
    if (sqrt(diff / size) > 1e-5) fail_msg("relative distance %g", sqrt(diff / size));
    fct_free(pixels);
    fct_free(got);
    fct_reader_close(reader);
    fct_checker_free(c);
    fct_safetensors_close(&want);
}

/* ---- malformed descriptions ---- */

typedef struct bad_case { /* replaces the first `from` in checker.json by `to` */
    const char *from, *to;
    fct_status status;
    const char *text;
} bad_case;

static const bad_case bad_cases[] = {
    {"facet-checker-1", "facet-checker-2", FCT_ERR_UNSUPPORTED, "want \"facet-checker-1\""},
    {"\"op\": \"relu\"", "\"op\": \"gelu\"", FCT_ERR_UNSUPPORTED, "op gelu is not known"},
    {"\"op\": \"conv\"", "\"oops\": \"conv\"", FCT_ERR_UNSUPPORTED, "op (none) is not known"},
    {"\"in\": 3", "\"in\": 4", FCT_ERR_SHAPE,
     "layer 0: takes 4 inputs, but the layer before gives 3"},
    {"\"out\": 6", "\"out\": 7", FCT_ERR_SHAPE, "stem.weight: want [7,3,4,4], file has [6,3,4,4]"},
    {"\"out\": 6", "\"out\": -1", FCT_ERR_FORMAT, "out: want a whole number"},
    {"\"out\": 6", "\"out\": 9999999999", FCT_ERR_FORMAT, "out: want a whole number"},
    {"\"kernel\": 4", "\"kernel\": 99", FCT_ERR_SHAPE, "a kernel of 99"},
    {"\"stride\": 2", "\"stride\": 0", FCT_ERR_FORMAT, "stride: want a whole number"},
    {"\"padding\": 1", "\"padding\": 4", FCT_ERR_SHAPE, "padding 4 does not fit"},
    {"\"groups\": 3", "\"groups\": 4", FCT_ERR_FORMAT, "groups must divide channels"},
    {"\"eps\": 1e-05", "\"eps\": 0", FCT_ERR_FORMAT, "eps"},
    {"\"name\": \"stem\",", "", FCT_ERR_FORMAT, "layer 0: a layer with weights needs a name"},
    {"\"name\": \"stem\"", "\"name\": \"root\"", FCT_ERR_MISSING, "no tensor root.weight"},
    {"\"op\": \"flatten\"", "\"op\": \"relu\"", FCT_ERR_FORMAT, "layer 6: a linear layer follows"},
    {"\"op\": \"global_max\"", "\"op\": \"relu\"", FCT_ERR_FORMAT,
     "layer 11: a linear layer follows"},
    {"\"op\": \"from\"", "\"op\": \"form\"", FCT_ERR_UNSUPPORTED, "op form is not known"},
    {"\"op\": \"from\",\n   \"name\": \"seen\"", "\"op\": \"from\",\n   \"name\": \"unseen\"",
     FCT_ERR_FORMAT, "layer 9: from: no layer before it is named unseen"},
    {"\"op\": \"from\",\n   \"name\": \"seen\"", "\"op\": \"from\",\n   \"name\": \"where\"",
     FCT_ERR_FORMAT, "layer 9: from: no layer before it is named where"},
    {"\"op\": \"flatten\"", "\"op\": \"from\", \"name\": \"stem\"", FCT_ERR_FORMAT,
     "layer 5: the chain before `from` must end in a vector"},
    {"\"in\": 30", "\"in\": 31", FCT_ERR_SHAPE, "takes 31 inputs, but the layer before gives 30"},
    {"\"kind\": \"class\"", "\"kind\": \"classes\"", FCT_ERR_UNSUPPORTED,
     "shape: kind classes is not known"},
    {"\"size\": 3", "\"size\": 33", FCT_ERR_SHAPE, "shape: outputs 0 to 32, but there are 9"},
    {"\"circle\",", "", FCT_ERR_FORMAT, "shape: values: want 3 names"},
    {"\"offset\": 5", "\"offset\": 6", FCT_ERR_SHAPE, "centres: outputs 6 to 9"},
    {"\"channels\": 3", "\"channels\": 1", FCT_ERR_UNSUPPORTED, "want RGB"},
    {"checker.safetensors", "../checker.safetensors", FCT_ERR_FORMAT, "in the same folder"},
    {"checker.safetensors", "other.safetensors", FCT_ERR_MISSING, "other.safetensors"},
    {"\"layers\"", "\"players\"", FCT_ERR_FORMAT, "layers: want a list"},
    {"\"heads\"", "\"tails\"", FCT_ERR_FORMAT, "heads: want a list"},
};

static void test_malformed(void **state)
{
    (void)state;
    char *text = NULL;
    int64_t n = 0;
    fct_file weights = {0};
    assert_ok(fct_file_read(&text, &n, test_path("vectors/checker/checker.json")));
    assert_ok(fct_file_map(&weights, test_path("vectors/checker/checker.safetensors")));
    assert_ok(fct_file_write(temp_path("checker.safetensors"), weights.data, weights.size));
    for (size_t i = 0; i < FCT_COUNT(bad_cases); i++) {
        const bad_case *b = &bad_cases[i];
        char *at = strstr(text, b->from);
        if (!at) fail_msg("case %zu: %s is not in the file", i, b->from);
        fct_str made = {0};
        assert_ok(fct_str_append_n(&made, text, at - text));
        assert_ok(fct_str_append(&made, b->to));
        assert_ok(fct_str_append(&made, at + strlen(b->from)));
        assert_ok(fct_file_write(temp_path("checker.json"), made.p, made.n));
        fct_checker *c = NULL;
        assert_fails(b->status, b->text, fct_checker_load(&c, temp_path(""), NULL));
        assert_null(c);
        fct_str_clear(&made);
    }
    fct_checker *c = NULL;
    assert_fails(FCT_ERR_MISSING, "checker.json", fct_checker_load(&c, temp_path("nowhere"), NULL));
    fct_file_unmap(&weights);
    fct_free(text);
}

/* Every allocation of loading and of opening a reader may fail: a status, no leak. */
static void test_no_memory(void **state)
{
    (void)state;
    fct_status st = FCT_ERR_MEMORY;
    int64_t n = 0;
    while (st != FCT_OK) {
        fct_checker *c = NULL;
        fct_fault_alloc(++n);
        fct_reader *r = NULL;
        st = fct_checker_load(&c, test_path("vectors/checker"), "ref");
        if (st == FCT_OK) st = fct_reader_open(&r, c);
        fct_fault_alloc(0);
        if (st != FCT_OK) assert_null(r);
        fct_reader_close(r);
        fct_checker_free(c);
        assert_true(n < 10000);
    }
    assert_true(n > 20);
}

/* ---- the world ---- */

typedef struct caption_case {
    const char *caption;
    const char *factor, *value; /* NULL: names none */
} caption_case;

static const caption_case captions[] = {
    {"two large striped blue stars at night", "shape", "star"},
    {"two large striped blue stars at night", "colour", "blue"},
    {"two large striped blue stars at night", "number", "two"},
    {"two large striped blue stars at night", "background", "night"},
    {"two large striped blue stars at night", "light", NULL},
    {"A Small Cross in DIM light.", "light", "dim"},
    {"A Small Cross in DIM light.", "number", "one"},
    {"A Small Cross in DIM light.", "colour", NULL},
    {"crossed starfish", "shape", NULL}, /* whole words only */
    {"", "shape", NULL},
};

static void test_world(void **state)
{
    (void)state;
    fct_world w;
    assert_ok(fct_world_load(&w, demo_path("world.json")));
    assert_int_equal(w.n_factors, 7);
    for (size_t i = 0; i < FCT_COUNT(captions); i++) {
        int32_t named[FCT_WORLD_MAX_FACTORS];
        fct_world_read_caption(&w, captions[i].caption, named);
        int64_t f = fct_world_find(&w, captions[i].factor);
        assert_true(f >= 0);
        if (!captions[i].value)
            assert_int_equal(named[f], -1);
        else if (named[f] < 0)
            fail_msg("%s names no %s", captions[i].caption, captions[i].factor);
        else
            assert_string_equal(w.factor[f].value[named[f]].name, captions[i].value);
    }
    assert_int_equal(fct_world_find(&w, "mood"), -1);
    assert_string_equal(fct_world_word(&w, 0, 0), w.factor[0].value[0].name);
    assert_string_equal(fct_world_word(&w, -1, 0), "");
    assert_string_equal(fct_world_word(&w, 0, -1), "");
    assert_int_equal(w.factor[fct_world_find(&w, "shape")].unsaid, -1);
    const fct_world_factor *light = &w.factor[fct_world_find(&w, "light")];
    assert_string_equal(light->value[light->unsaid].name, "plain");
    fct_world_clear(&w);
}

static void test_world_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"{}", "factors: want a list"},
        {"{\"factors\": [{}]}", "a factor needs a name and a list of values"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{}]}]}", "a: value 0 has no name"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{\"name\": \"b\"}]}]}",
         "words: want a list"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{\"name\": \"b\", \"words\": [3]}]}]}",
         "entry 0 is no text"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{\"name\": \"b\", \"words\": [\"two "
         "stars\"]}]}]}",
         "\"two stars\" can never be found"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{\"name\": \"b\", \"words\": [\"x\", "
         "\"t-bar\"]}]}]}",
         "\"t-bar\" can never be found"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{\"name\": \"b\", \"words\": "
         "[\"caf\xc3\xa9\"]}]}]}",
         "\"caf\xc3\xa9\" can never be found"},
        {"{\"factors\": [{\"name\": \"a\", \"values\": [{\"name\": \"b\", \"words\": [\"\"]}]}]}",
         "\"\" can never be found"},
        {"{\"factors\": [{\"name\": \"a\", \"unsaid\": \"c\", \"values\": [{\"name\": \"b\", "
         "\"words\": []}]}]}",
         "no value is called c"},
    };
    for (size_t i = 0; i < FCT_COUNT(bad); i++) {
        fct_world w;
        assert_ok(
            fct_file_write(temp_path("world.json"), bad[i].text, (int64_t)strlen(bad[i].text)));
        assert_fails(FCT_ERR_FORMAT, bad[i].error, fct_world_load(&w, temp_path("world.json")));
        assert_null(w.factor);
    }
}

/* ---- measures ---- */

static void test_measures(void **state)
{
    (void)state;
    assert_true(fct_eval_pixel_change((const uint8_t[]){0, 255, 10, 10},
                                      (const uint8_t[]){255, 0, 10, 61},
                                      4) == (255 + 255 + 51) / 255.0 / 4);
    assert_true(fct_eval_pixel_change((const uint8_t[]){7}, (const uint8_t[]){9}, 0) == 0);

    assert_true(fct_eval_length((const float[]){3, -4, 12}, 3) == 13);
    assert_true(fct_eval_length(NULL, 0) == 0);

    static const float score[] = {5, 4, 0, 3, 0, 0, 9};
    static const int8_t want[] = {1, 1, 1, 0, 0, 0, -1}; /* the last is left out */
    fct_f1 r = fct_eval_f1(score, want, 7, 0);
    assert_true(fabs(r.hit - 2.0 / 3) < 1e-12 && fabs(r.false_alarm - 1.0 / 3) < 1e-12);
    assert_true(fabs(r.f1 - 2.0 / 3) < 1e-12); /* 2·(2/3) / (1 + 2/3 + 1/3) */
    r = fct_eval_best_f1(score, want, 7);      /* .35 · 9 = 3.15 parts 4 from 3 */
    assert_true(fabs(r.f1 - 0.8) < 1e-12 && r.false_alarm == 0 && fabs(r.threshold - 3.15) < 1e-12);
    static const float on[] = {1, 1, 1, 1};
    assert_true(fabs(fct_eval_f1(on, (const int8_t[]){1, 0, 0, 0}, 4, 0).f1 - 2.0 / 3) < 1e-12);
    assert_true(fct_eval_best_f1(on, (const int8_t[]){1, 1, 1, 1}, 4).f1 == 0);
    static const float empty[] = {0, 0};
    assert_true(fct_eval_best_f1(empty, (const int8_t[]){1, 0}, 2).f1 == 0);
    assert_true(fct_eval_f1(NULL, want, 7, 0).f1 == 0);
    assert_true(fct_eval_best_f1(NULL, want, 7).f1 == 0);
}

/* ---- the truth protocol ---- */

static void test_truth_wants_a_world(void **state)
{
    (void)state;
    fct_model *m = NULL; /* a twin has no world */
    char folder[1024];
    fct_truth *t = (fct_truth *)&m;
    snprintf(folder, sizeof folder, "%s", temp_path("twin"));
    assert_ok(twin_write(test_path("golden/twin/a.json"), folder));
    assert_ok(
        fct_model_open(&m, &(fct_model_desc){.path = folder, .precision = FCT_PRECISION_F32}));
    assert_fails(FCT_ERR_MISSING, "brings no world",
                 fct_truth_open(&t, &(fct_truth_desc){.model = m, .out = temp_path("out")}));
    assert_null(t);
    assert_false(fct_path_exists(temp_path("out")));
    fct_truth_close(NULL);
    fct_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),      cmocka_unit_test(test_demo),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_world),     cmocka_unit_test(test_world_malformed),
        cmocka_unit_test(test_measures),  cmocka_unit_test(test_truth_wants_a_world),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

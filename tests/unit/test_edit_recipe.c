/* test_edit_recipe.c - recipes: JSON there and back, what is refused, the texts inside a PNG, files
   that edits name, recipes inside recipes. */
#include "recipe/recipe.h"
#include "fct_test.h"

static const char full[] =
    "{\"format\": \"facet-recipe\", \"version\": 1, \"facet\": \"0.1.0\", \"model\": {\"name\": "
    "\"demo: one, two\", \"path\": \"/m\", "
    "\"hash\": \"0123456789abcdef\"}, \"backend\": \"cpu\", \"dtype\": \"f32\", \"threads\": 2, "
    "\"plan\": \"p\", "
    "\"sampler\": \"EulerAncestralDiscreteScheduler\", \"items\": [{\"prompt\": \"a "
    "cat\\nasleep\", \"seed\": 7}, "
    "{\"prompt\": \"\xc3\xa4 dog\", \"prompt_2\": \"two\", \"seed\": \"18446744073709551615\"}], "
    "\"index\": 1, \"joint_noise\": true, "
    "\"negative\": \"bad\", \"negative_2\": \"worse\", \"width\": 320, \"height\": 192, \"steps\": "
    "4, \"guidance\": 5.5, "
    "\"noise_dtype\": \"bf16\", \"original_size\": [1024, 768], \"crop\": [3, 4], \"target_size\": "
    "[64, 32], "
    "\"saes\": [{\"block\": \"mid.0\", \"path\": \"saes/mid.0\", \"hash\": \"aa\", \"stats_hash\": "
    "\"bb\"}], "
    "\"edits\": [{\"block\": \"mid.0\", \"feature\": 3, \"op\": \"add\", \"value\": 0.1, \"unit\": "
    "\"std\", \"mask\": {\"box\": "
    "[0.0, 0.25, 0.5, 1.0]}, \"steps\": [2, 3], \"branch\": \"cond\"}, {\"block\": \"mid.0\", "
    "\"feature\": 1, \"op\": \"scale\", "
    "\"value\": 0.0, \"mask\": {\"map\": {\"feature\": 2, \"above\": 0.5}}, \"static\": true}]}";

static void test_round_trip(void **state)
{
    (void)state;
    fct_recipe r, again, copy;
    char *a, *b;
    json_t *j;
    fct_str line = {0};
    assert_ok(fct_recipe_parse(&r, full, (int64_t)strlen(full), "full"));
    const fct_settings *s = &r.settings;
    assert_int_equal(r.n_items, 2);
    assert_string_equal(r.item[1].prompt, "\xc3\xa4 dog");
    assert_true(r.item[1].seed == UINT64_MAX && r.item[0].seed == 7 && r.index == 1 &&
                r.settings.joint_noise);
    assert_true(s->width == 320 && s->height == 192 && s->steps == 4 && s->guidance == 5.5);
    assert_true(s->seed == 0); /* the items' */
    assert_true(s->noise_dtype == FCT_NOISE_BF16 && s->crop_top == 4 && s->target_height == 32 &&
                r.n_edits == 2);
    assert_ok(fct_recipe_to_json(&j, &r));
    assert_ok(fct_json_text(&line, j, 0));
    json_decref(j);
    assert_string_equal(line.p, full); /* nothing lost, nothing added, the same order */
    fct_str_clear(&line);
    assert_ok(fct_recipe_text(&a, &r));
    assert_ok(fct_recipe_copy(&copy, &r));
    assert_ok(fct_recipe_text(&b, &copy));
    assert_string_equal(a, b);
    fct_free(b);
    assert_ok(fct_recipe_write(&copy, temp_path("r.json")));
    assert_ok(fct_recipe_read(&again, temp_path("r.json")));
    assert_ok(fct_recipe_text(&b, &again));
    assert_string_equal(a, b);
    fct_free(a);
    fct_free(b);
    fct_run_desc d;
    fct_recipe_desc(&r, &d);
    assert_true(d.n_items == 2 && d.items == r.item && d.settings == s &&
                s->original_width == 1024 && !d.no_decode);
    assert_string_equal(s->negative_2, "worse");
    fct_recipe_clear(&r);
    fct_recipe_clear(&again);
    fct_recipe_clear(&copy);
}

/* What a person writes: two keys, edits in the command line's words. */
static void test_by_hand(void **state)
{
    (void)state;
    static const char text[] = "{\"format\": \"facet-recipe\", \"prompt\": \"a cat\", \"edits\": "
                               "[\"mid.0:3 +2 @box:0,0,1,0.5\", \"up.0.1 zero\"]}";
    fct_recipe r;
    assert_ok(fct_recipe_parse(&r, text, (int64_t)strlen(text), "hand"));
    assert_true(r.n_items == 1 && r.item[0].seed == 0 && r.settings.width == 0 &&
                r.settings.guidance == 0 && !r.settings.negative);
    assert_true(r.n_edits == 2 && r.edit[0].value == 2 && r.edit[1].op == FCT_EDIT_ZERO);
    fct_recipe_clear(&r);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "r.json:1:"},
        {"[]", "r.json: not a recipe: want JSON or a PNG made by facet"},
        {"[{}]", "r.json: not a recipe: want an object"},
        {"{}", "r.json: not a recipe: want \"format\": \"facet-recipe\""},
        {"{\"format\":\"facet-recipe\"}", "r.json: prompt is missing"},
        {"{\"format\":\"facet-recipe\",\"version\":2,\"prompt\":\"\"}",
         "recipe version 2; this facet (0.1.0) reads version 1"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"step\":1}",
         "unknown key \"step\"; known are format, version"},
        {"{\"format\":\"facet-recipe\",\"prompt\":1}", "\"prompt\": want a text, found 1"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"items\":[]}",
         "want either prompt or items"},
        {"{\"format\":\"facet-recipe\",\"items\":[]}", "items: want a list of 1 to"},
        {"{\"format\":\"facet-recipe\",\"seed\":7,\"items\":[{\"prompt\":\"\"}]}",
         "want either seed or items"},
        {"{\"format\":\"facet-recipe\",\"prompt_2\":\"\",\"items\":[{\"prompt\":\"\"}]}",
         "want either prompt_2 or items"},
        {"{\"format\":\"facet-recipe\",\"items\":[{\"prompt\":\"\",\"sed\":1}]}",
         "unknown key \"sed\""},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"index\":1}",
         "index 1 is not in its batch of 1"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"seed\":-1}",
         "\"seed\": want a whole number from 0 to 18446744073709551615, found -1"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"seed\":\"18446744073709551616\"}",
         "\"seed\": want a whole number from 0 to 18446744073709551615, found "
         "\"18446744073709551616\""},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"steps\":-1}",
         "\"steps\": want a whole number from 1 to 1000, found -1"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"width\":\"512\"}",
         "\"width\": want a whole number from 8 to 8192, divisible by 8, found \"512\""},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"steps\":1001}",
         "\"steps\": want a whole number from 1 to 1000, found 1001"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"height\":8200}",
         "\"height\": want a whole number from 8 to 8192, divisible by 8, found 8200"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"width\":100}",
         "\"width\": want a whole number from 8 to 8192, divisible by 8, found 100"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"dtype\":\"f17\"}",
         "\"dtype\": want one of auto, f32, bf16, found \"f17\""},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"crop\":[0,65537]}",
         "\"crop\": want two whole numbers like 0,0, each from 0 to 65536, found a list"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"guidance\":100.5}",
         "\"guidance\": want a number from 0 to 100, found 100.5"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"guidance\":-1}",
         "\"guidance\": want a number from 0 to 100, found -1"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"noise_dtype\":\"f8\"}",
         "\"noise_dtype\": want one of f32, f16, bf16, found \"f8\""},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"crop\":[1]}",
         "\"crop\": want two whole numbers like 0,0, each from 0 to 65536, found a list"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"saes\":{}}", "saes: want a list"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"saes\":[{}]}", "saes: block is missing"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"edits\":{}}", "edits: want a list"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"edits\":[\"mid.0\"]}",
         "r.json: edit 1: edit \"mid.0\": no operation is given"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"\",\"edits\":[\"mid.0 "
         "zero\",{\"op\":\"zero\"}]}",
         "r.json: edit 2: no block is named"},
    };
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        fct_recipe r;
        fct_status st = fct_recipe_parse(&r, cases[i][0], (int64_t)strlen(cases[i][0]), "r.json");
        if (st == FCT_OK || !strstr(fct_error_text(), cases[i][1]))
            fail_msg("%s: want \"%s\", got %s", cases[i][0], cases[i][1],
                     st ? fct_error_text() : "success");
        assert_null(r.item);
    }
}

/* ---- pictures ---- */

static void test_png(void **state)
{
    (void)state;
    fct_recipe r, back;
    fct_image im;
    char *a, *b;
    assert_ok(fct_recipe_parse(&r, full, (int64_t)strlen(full), "full"));
    assert_ok(fct_image_new(&im, 8, 8, 3));
    assert_ok(fct_recipe_stamp(&r, &im));
    assert_string_equal(
        fct_image_find_text(&im, "parameters"),
        "\xc3\xa4 dog\nNegative prompt: bad\nSteps: 4, Sampler: Euler a, CFG scale: 5.5, Seed: "
        "18446744073709551615, "
        "Size: 320x192, Model hash: 0123456789, Model: \"demo: one, two\", RNG: CPU, "
        "Edits: \"mid.0:3 +0.1 @box:0,0.25,0.5,1 steps=2-3 branch=cond unit=std; mid.0:1 x0 "
        "@map:2>0.5 static\", "
        "Version: facet 0.1.0");
    assert_ok(fct_png_write(&im, temp_path("p.png")));
    assert_ok(fct_recipe_read(&back, temp_path("p.png")));
    assert_ok(fct_recipe_text(&a, &r));
    assert_ok(fct_recipe_text(&b, &back));
    assert_string_equal(a, b);
    fct_free(a);
    fct_free(b);
    fct_recipe_clear(&back);
    fct_image_clear(&im);
    assert_ok(fct_image_new(&im, 8, 8, 3));
    assert_ok(fct_png_write(&im, temp_path("p.png")));
    assert_fails(FCT_ERR_FORMAT, "this PNG carries no recipe",
                 fct_recipe_read(&back, temp_path("p.png")));
    assert_ok(fct_image_set_text(&im, "facet", "{\"format\""));
    assert_ok(fct_png_write(&im, temp_path("p.png")));
    assert_fails(FCT_ERR_FORMAT, "p.png:1:", fct_recipe_read(&back, temp_path("p.png")));
    fct_image_clear(&im);
    fct_recipe_clear(&r);
}

/* ---- recipes that name files ---- */

static void write_text(const char *name, const char *text)
{
    assert_ok(fct_file_write(temp_path(name), text, (int64_t)strlen(text)));
}

static void test_files(void **state)
{
    (void)state;
    fct_image im;
    fct_recipe r, again;
    char *text;
    assert_ok(fct_image_new(&im, 3, 2, 1));
    im.pixel[4] = 200;
    assert_ok(fct_png_write(&im, temp_path("m.png")));
    fct_image_clear(&im);
    write_text("s.json", "{\"format\":\"facet-recipe\",\"prompt\":\"source\",\"seed\":5,\"edits\":["
                         "\"mid.0:1 x0 @m.png\"]}");
    write_text("r.json", "{\"format\":\"facet-recipe\",\"prompt\":\"a\",\"edits\":[\"mid.0 from "
                         "s.json:1,2 x2 @m.png\"]}");
    assert_ok(fct_recipe_read(&r, temp_path("r.json")));
    assert_non_null(r.edit[0].source);
    assert_string_equal(r.edit[0].source->item[0].prompt, "source");
    assert_int_equal(r.edit[0].source->edit[0].mask.grey[4], 200);
    assert_int_equal(r.edit[0].mask.grey[4], 200);
    assert_ok(fct_recipe_text(&text, &r)); /* whole: it needs the files no more */
    assert_ok(fct_recipe_parse(&again, text, (int64_t)strlen(text), "text"));
    assert_int_equal(again.edit[0].source->edit[0].mask.grey[4], 200);
    assert_int_equal(again.edit[0].source->item[0].seed, 5);
    fct_free(text);
    fct_recipe_clear(&again);
    fct_recipe_clear(&r);
    write_text(
        "r.json",
        "{\"format\":\"facet-recipe\",\"prompt\":\"a\",\"edits\":[\"mid.0 from r.json:1\"]}");
    assert_fails(FCT_ERR_ARG, "recipes take features from recipes more than 4 deep",
                 fct_recipe_read(&r, temp_path("r.json")));
    write_text(
        "r.json",
        "{\"format\":\"facet-recipe\",\"prompt\":\"a\",\"edits\":[\"mid.0 from gone.json:1\"]}");
    assert_fails(FCT_ERR_MISSING, "gone.json", fct_recipe_read(&r, temp_path("r.json")));
    assert_fails(FCT_ERR_MISSING, "nothing.png", fct_recipe_read(&r, temp_path("nothing.png")));
}

static void check_fault(fct_status st, int64_t nth)
{
    fct_fault_alloc(0);
    if (st != FCT_OK && st != FCT_ERR_MEMORY)
        fail_msg("allocation %d: %s", (int)nth, fct_error_text());
}

/* The nth allocation fails; jansson's own are counted only in writing, since its reader reports
 * them as bad syntax. */
static void test_faults(void **state)
{
    (void)state;
    for (int64_t nth = 1; nth < 150; nth++) {
        fct_recipe r = {0}, copy = {0};
        fct_fault_alloc(nth);
        fct_status st = fct_recipe_parse(&r, full, (int64_t)strlen(full), "full");
        if (st == FCT_OK) st = fct_recipe_copy(&copy, &r);
        check_fault(st, nth);
        fct_recipe_clear(&r);
        fct_recipe_clear(&copy);
    }
    fct_recipe r;
    assert_ok(fct_recipe_parse(&r, full, (int64_t)strlen(full), "full"));
    fct_fault_json();
    for (int64_t nth = 1; nth < 500; nth++) {
        fct_image im = {0};
        char *text = NULL;
        fct_fault_alloc(nth);
        fct_status st = fct_recipe_text(&text, &r);
        if (st == FCT_OK) st = fct_recipe_stamp(&r, &im);
        check_fault(st, nth);
        fct_free(text);
        fct_image_clear(&im);
    }
    fct_recipe_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_mistakes),   cmocka_unit_test(test_png),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests_name("edit_recipe", tests, NULL, temp_clear);
}

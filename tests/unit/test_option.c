/* test_option.c - option tables (src/base/option.c): every kind of field read from text and JSON
   and written again, both ends of every range, wrong types, unknown words and keys, and how errors
   spell a field. */
#include "base/option.h"
#include "fct_test.h"

typedef enum shape { SHAPE_DEFAULT, SHAPE_NONE, SHAPE_LINEAR } shape;
typedef enum number { NUMBER_F32, NUMBER_F16 } number;

typedef struct paint {
    bool flat;
    int64_t width, steps, aux, free;
    uint64_t seed;
    double lr, guidance, scale;
    shape decay;
    number noise;
    int64_t size_w, size_h, left, top;
    const char *text, *file, *folder, *word;
} paint;

#define ROW(field, which) .name = #field, .kind = FCT_OPTION_##which, .at = offsetof(paint, field)
static const fct_option table[] = {
    {ROW(flat, FLAG)},
    {ROW(width, I64), .lo = 8, .hi = 64, .multiple = 8, .zero = true},
    {ROW(steps, I64), .lo = 1, .hi = 1000},
    {ROW(aux, I64), .hi = 9223372036854775807.0, .none = true},
    {ROW(free, I64), .lo = -5, .hi = 5},
    {ROW(seed, U64), .hi = 18446744073709551615.0},
    {ROW(lr, F64), .lo = 0, .above = true, .hi = 10},
    {ROW(guidance, F64), .hi = 100, .none = true},
    {ROW(scale, F64), .lo = 1e-3, .hi = 1e3, .words = "auto"},
    {ROW(decay, ENUM), .words = ",none,linear"},
    {ROW(noise, ENUM), .words = "f32,f16"},
    {.name = "the_size",
     .kind = FCT_OPTION_SIZE,
     .at = offsetof(paint, size_w),
     .lo = 1,
     .hi = 99,
     .zero = true},
    {.name = "crop", .kind = FCT_OPTION_PAIR, .at = offsetof(paint, left), .hi = 99},
    {ROW(text, TEXT)},
    {ROW(file, FILE)},
    {ROW(folder, FOLDER)},
    {ROW(word, WORD), .words = "red,green"},
    {0}};

static const fct_option *row_of(const char *name)
{
    const fct_option *row = fct_option_find(table, name);
    assert_non_null(row);
    return row;
}

/* ---- text ---- */

/* What a text makes of a fresh struct, seen as JSON; "": the default. */
static const struct {
    const char *name, *text, *json;
} good_texts[] = {{"flat", "", "true"},
                  {"flat", "true", "true"},
                  {"flat", "false", ""},
                  {"width", "8", "8"},
                  {"width", "64", "64"},
                  {"steps", "1", "1"},
                  {"steps", "1000", "1000"},
                  {"aux", "0", "0"},
                  {"aux", "9223372036854775807", "9223372036854775807"},
                  {"free", "-5", "-5"},
                  {"free", "5", "5"},
                  {"seed", "0", ""},
                  {"seed", "9223372036854775807", "9223372036854775807"},
                  {"seed", "18446744073709551615", "\"18446744073709551615\""},
                  {"lr", "1e-9", "1e-09"},
                  {"lr", "10", "1e+01"},
                  {"guidance", "0", "0.0"},
                  {"guidance", "100", "1e+02"},
                  {"scale", "0.001", "0.001"},
                  {"scale", "1000", "1e+03"},
                  {"scale", "auto", ""},
                  {"decay", "none", "\"none\""},
                  {"decay", "linear", "\"linear\""},
                  {"noise", "f32", "\"f32\""},
                  {"noise", "f16", "\"f16\""},
                  {"the-size", "1x99", "[1, 99]"},
                  {"the_size", "99X1", "[99, 1]"},
                  {"crop", "0,0", ""},
                  {"crop", "99,0", "[99, 0]"},
                  {"text", "", "\"\""},
                  {"text", "a b", "\"a b\""},
                  {"file", "x.png", "\"x.png\""},
                  {"folder", "out", "\"out\""},
                  {"word", "red", "\"red\""},
                  {"word", "green", "\"green\""}};

static const struct {
    const char *name, *text, *want;
} bad_texts[] = {
    {"flat", "yes", "want true or false"},
    {"width", "0", "want a whole number from 8 to 64, divisible by 8"},
    {"width", "72", "want a whole number from 8 to 64, divisible by 8"},
    {"width", "12", "divisible by 8"},
    {"steps", "0", "want a whole number from 1 to 1000"},
    {"steps", "1001", "want a whole number from 1 to 1000"},
    {"steps", "1.0", "want a whole number"},
    {"steps", " 1", "want a whole number"},
    {"steps", "", "want a whole number"},
    {"aux", "-1", "want a whole number from 0 up"},
    {"aux", "9223372036854775808", "want a whole number from 0 up"},
    {"free", "-6", "want a whole number from -5 to 5"},
    {"seed", "-1", "want a whole number from 0 to 18446744073709551615"},
    {"seed", "18446744073709551616", "want a whole number from 0 to 18446744073709551615"},
    {"seed", "", "want a whole number from 0 to"},
    {"lr", "0", "want a number above 0 up to 10"},
    {"lr", "10.1", "want a number above 0 up to 10"},
    {"lr", "nan", "want a number"},
    {"guidance", "-1", "want a number from 0 to 100"},
    {"guidance", "100.5", "want a number from 0 to 100"},
    {"scale", "0", "want auto or a number from 0.001 to 1000"},
    {"scale", "Auto", "want auto or a number"},
    {"decay", "", "want one of none, linear"},
    {"decay", "lin", "want one of none, linear"},
    {"noise", "f64", "want one of f32, f16"},
    {"noise", "f32,f16", "want one of f32, f16"},
    {"the_size", "0x9", "want WIDTHxHEIGHT, each from 1 to 99"},
    {"the_size", "9", "want WIDTHxHEIGHT"},
    {"the_size", "100x9", "want WIDTHxHEIGHT"},
    {"crop", "1,100", "want two whole numbers like 0,0, each from 0 to 99"},
    {"crop", "1x1", "want two whole numbers"},
    {"file", "", "want a file"},
    {"folder", "", "want a folder"},
    {"word", "", "want one of red, green"},
    {"word", "re", "want one of red, green"},
};

static void assert_json(const char *want, const fct_option *row, const paint *p)
{
    json_t *j = NULL;
    fct_str s = {0};
    assert_ok(fct_option_to_json(&j, row, p));
    if (j) assert_ok(fct_json_text(&s, j, 0));
    assert_string_equal(s.p ? s.p : "", want);
    fct_str_clear(&s);
    json_decref(j);
}

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(good_texts); i++) {
        paint p = {0};
        const fct_option *row = row_of(good_texts[i].name);
        assert_ok(fct_option_parse(&p, row, good_texts[i].text));
        assert_json(good_texts[i].json, row, &p);
        assert_ok(fct_option_check(&p, row));
        for (const fct_option *other = table; other->name; other++) /* nothing else was touched */
            if (other != row)
                assert_json(other->words && other->words[0] == 'f' ? "\"f32\"" : "", other, &p);
    }
    for (size_t i = 0; i < FCT_COUNT(bad_texts); i++) {
        paint p = {0};
        assert_fails(FCT_ERR_ARG, bad_texts[i].want,
                     fct_option_parse(&p, row_of(bad_texts[i].name), bad_texts[i].text));
        assert_memory_equal(&p, &(paint){0}, sizeof p);
    }
}

static void test_zero_that_is_said(void **state)
{
    (void)state;
    paint p = {0};
    assert_ok(fct_option_parse(&p, row_of("aux"), "0"));
    assert_ok(fct_option_parse(&p, row_of("guidance"), "0"));
    assert_true(p.aux == FCT_NONE && p.guidance == FCT_NONE);
    p.scale = 7;
    assert_ok(fct_option_parse(&p, row_of("scale"), "auto"));
    assert_true(p.scale == 0);
}

/* ---- JSON ---- */

static const struct {
    const char *name, *json, *same; /* same: what is written again; NULL: json */
} good_jsons[] = {{"flat", "true", NULL},
                  {"flat", "false", ""},
                  {"flat", "null", ""},
                  {"width", "16", NULL},
                  {"width", "16.0", "16"},
                  {"width", "0", ""},
                  {"steps", "null", ""},
                  {"aux", "0", NULL},
                  {"free", "-5", NULL},
                  {"seed", "9223372036854775807", NULL},
                  {"seed", "\"18446744073709551615\"", NULL},
                  {"seed", "\"7\"", "7"},
                  {"lr", "3", "3.0"},
                  {"lr", "0.1", NULL},
                  {"guidance", "0", "0.0"},
                  {"scale", "\"auto\"", ""},
                  {"decay", "\"linear\"", NULL},
                  {"noise", "\"f16\"", NULL},
                  {"noise", "null", "\"f32\""},
                  {"the_size", "[1, 99]", NULL},
                  {"the_size", "[0, 99]", NULL},
                  {"the_size", "[0, 0]", ""},
                  {"crop", "[3, 0]", NULL},
                  {"text", "\"\"", NULL},
                  {"file", "\"x\"", NULL}};

static const struct {
    const char *name, *json, *want;
} bad_jsons[] = {
    {"flat", "1", "want true or false, found 1"},
    {"flat", "\"true\"", "want true or false, found \"true\""},
    {"width", "12", "want a whole number from 8 to 64, divisible by 8, found 12"},
    {"width", "\"16\"", "want a whole number from 8 to 64, divisible by 8, found \"16\""},
    {"steps", "0", "want a whole number from 1 to 1000, found 0"},
    {"steps", "1.5", "found 1.5"},
    {"steps", "true", "found true"},
    {"steps", "[1]", "found a list"},
    {"aux", "-1", "want a whole number from 0 up, found -1"},
    {"seed", "-1", "want a whole number from 0 to 18446744073709551615, found -1"},
    {"seed", "\"18446744073709551616\"", "want a whole number from 0 to"},
    {"seed", "\"7a\"", "want a whole number from 0 to"},
    {"lr", "0", "want a number above 0 up to 10, found 0"},
    {"lr", "{}", "found an object"},
    {"guidance", "-1", "want a number from 0 to 100, found -1"},
    {"scale", "\"big\"", "want auto or a number from 0.001 to 1000, found \"big\""},
    {"decay", "1", "want one of none, linear, found 1"},
    {"decay", "\"\"", "want one of none, linear, found \"\""},
    {"noise", "\"0123456789012345678901234567890123456789x\"", "found a long text"},
    {"the_size", "[1]", "want WIDTHxHEIGHT, each from 1 to 99, found a list"},
    {"the_size", "[1, 1, 1]", "found a list"},
    {"the_size", "[1, \"1\"]", "found a list"},
    {"crop", "[0, 100]", "want two whole numbers"},
    {"text", "1", "want a text, found 1"},
    {"file", "\"\"", "want a file, found \"\""},
};

static json_t *parse_json(const char *text)
{
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(j);
    return j;
}

static void test_jsons(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(good_jsons); i++) {
        paint p = {0};
        const fct_option *row = row_of(good_jsons[i].name);
        json_t *j = parse_json(good_jsons[i].json);
        assert_ok(fct_option_of_json(&p, row, j));
        assert_json(good_jsons[i].same ? good_jsons[i].same : good_jsons[i].json, row, &p);
        json_decref(j);
    }
    for (size_t i = 0; i < FCT_COUNT(bad_jsons); i++) {
        paint p = {0};
        json_t *j = parse_json(bad_jsons[i].json);
        assert_fails(FCT_ERR_ARG, bad_jsons[i].want,
                     fct_option_of_json(&p, row_of(bad_jsons[i].name), j));
        assert_memory_equal(&p, &(paint){0}, sizeof p);
        json_decref(j);
    }
}

static void test_whole_object(void **state)
{
    (void)state;
    static const char text[] = "{\"width\": 16, \"guidance\": 0, \"decay\": \"none\", "
                               "\"the_size\": [3, 4], \"text\": \"hello\"}";
    paint p = {.steps = 9};
    json_t *j = parse_json(text), *again = json_object();
    fct_str s = {0};
    assert_ok(fct_options_of_json(&p, table, j, "p.json"));
    assert_true(p.width == 16 && p.steps == 9 && p.guidance == FCT_NONE && p.decay == SHAPE_NONE &&
                p.size_w == 3 && p.size_h == 4);
    assert_ok(fct_options_own(&p, table));
    json_decref(j); /* the struct's texts are its own now */
    assert_string_equal(p.text, "hello");
    assert_ok(fct_options_to_json(again, table, &p));
    assert_ok(fct_json_text(&s, again, 0));
    assert_string_equal(s.p,
                        "{\"width\": 16, \"steps\": 9, \"guidance\": 0.0, \"decay\": \"none\", "
                        "\"noise\": \"f32\", \"the_size\": [3, 4], \"text\": \"hello\"}");
    fct_str_clear(&s);
    json_decref(again);
    fct_options_clear(&p, table);
    assert_null(p.text);
}

static void test_unknown_keys(void **state)
{
    (void)state;
    paint p = {0};
    json_t *j = parse_json("{\"width\": 16, \"widht\": 8}");
    assert_fails(FCT_ERR_FORMAT, "p.json: unknown key \"widht\"; known are flat, width, steps,",
                 fct_options_of_json(&p, table, j, "p.json"));
    assert_int_equal(p.width, 0);
    assert_ok(fct_options_of_members(&p, table, j, "p.json"));
    assert_int_equal(p.width, 16);
    json_decref(j);
    j = parse_json("{\"steps\": 0}");
    assert_fails(FCT_ERR_FORMAT, "p.json: \"steps\": want a whole number from 1 to 1000, found 0",
                 fct_options_of_json(&p, table, j, "p.json"));
    json_decref(j);
    j = parse_json("[]");
    assert_fails(FCT_ERR_FORMAT, "p.json: want an object",
                 fct_options_of_json(&p, table, j, "p.json"));
    json_decref(j);
}

/* ---- structs that programs fill ---- */

static void test_checks(void **state)
{
    (void)state;
    static const struct {
        paint p;
        const char *want; /* "": fine */
    } cases[] = {
        {{0}, ""},
        {{.aux = FCT_NONE, .guidance = FCT_NONE}, ""},
        {{.width = 8, .steps = 1000, .lr = 10, .scale = 1e3, .decay = SHAPE_LINEAR}, ""},
        {{.width = 7}, "width: want a whole number from 8 to 64, divisible by 8, found 7"},
        {{.steps = -1}, "steps: want a whole number from 1 to 1000, found -1"},
        {{.aux = -2}, "aux: want a whole number from 0 up, found -2"},
        {{.lr = NAN}, "lr: want a number above 0 up to 10, found "},
        {{.lr = INFINITY}, "lr: want a number above 0 up to 10, found inf"},
        {{.guidance = -0.5}, "guidance: want a number from 0 to 100, found -0.5"},
        {{.decay = (shape)3}, "decay: want one of none, linear, found number 3"},
        {{.noise = (number)2}, "noise: want one of f32, f16, found number 2"},
        {{.size_w = 100, .size_h = 1},
         "the_size: want WIDTHxHEIGHT, each from 1 to 99, found "
         "100 and 1"},
        {{.file = ""}, "file: want a file, found an empty one"},
    };
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        fct_status st = fct_options_check(&cases[i].p, table, FCT_SPELL_FIELD);
        if (cases[i].want[0])
            assert_fails(FCT_ERR_ARG, cases[i].want, st);
        else
            assert_ok(st);
    }
    paint p = {.size_w = 100};
    assert_fails(FCT_ERR_ARG, "--the-size: want",
                 fct_options_check(&p, table, FCT_SPELL_COMMAND_LINE));
    assert_fails(FCT_ERR_ARG, "\"the_size\": want", fct_options_check(&p, table, FCT_SPELL_JSON));
    assert_fails(FCT_ERR_ARG, "the_size=: want", fct_options_check(&p, table, FCT_SPELL_KEYWORD));
}

static void test_names(void **state)
{
    (void)state;
    assert_ptr_equal(fct_option_find(table, "the-size"), fct_option_find(table, "the_size"));
    assert_null(fct_option_find(table, "the"));
    assert_null(fct_option_find(table, "the_size_"));
    assert_null(fct_option_find(table, ""));
    assert_string_equal(fct_spell("the_size", FCT_SPELL_COMMAND_LINE).text, "--the-size");
    assert_string_equal(fct_spell("the-size", FCT_SPELL_JSON).text, "\"the_size\"");
    assert_string_equal(fct_spell("the-size", FCT_SPELL_KEYWORD).text, "the_size=");
    assert_string_equal(fct_spell("the-size", FCT_SPELL_FIELD).text, "the_size");
}

/* No allocation may be lost, whichever of them fails. */
static void test_out_of_memory(void **state)
{
    (void)state;
    for (int64_t nth = 1; nth < 50; nth++) {
        paint p = {.text = "a", .file = "b", .folder = "c"};
        fct_fault_alloc(nth);
        fct_status st = fct_options_own(&p, table);
        fct_fault_alloc(0);
        fct_options_clear(&p, table);
        if (st == FCT_OK) return;
        assert_int_equal(st, FCT_ERR_MEMORY);
    }
    fail_msg("never enough memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),        cmocka_unit_test(test_zero_that_is_said),
        cmocka_unit_test(test_jsons),        cmocka_unit_test(test_whole_object),
        cmocka_unit_test(test_unknown_keys), cmocka_unit_test(test_checks),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

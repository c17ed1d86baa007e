/* test_edit.c - how edits are written: the text form and its mistakes, JSON, base64, and masks on
 * grids. */
#include "recipe/recipe.h"
#include "fct_test.h"

/* ---- text ---- */

static const struct {
    const char *text, *canonical; /* NULL: the same */
} good[] = {
    {"up.0.1:4977 +3", NULL},
    {"up.0.1:4977 -10", NULL},
    {"up.0.1:4977 +0.1", NULL},
    {"  up.0.1:4977\t+3  ", "up.0.1:4977 +3"},
    {"unet.mid_block.attentions.0:0 x0", NULL},
    {"mid.0:12 x-5", NULL},
    {"mid.0:12 =2", NULL},
    {"mid.0:12 =-1.5", NULL},
    {"mid.0:12 only 1", NULL},
    {"mid.0 rebuild", NULL},
    {"mid.0 zero", NULL},
    {"mid.0 from a.png:3,17 x2", NULL},
    {"mid.0 from a.png:3", "mid.0 from a.png:3 x1"},
    {"mid.0 x0.5 from a.png:3", "mid.0 from a.png:3 x0.5"},
    {"mid.0 from \"my runs/a b.png:3,4\" x1", NULL},
    {"mid.0 from C:/a.json:3,4 x1", NULL},
    {"mid.0:12 static branch=cond @box:0,0,0.5,1 x2 steps=1-3",
     "mid.0:12 x2 @box:0,0,0.5,1 steps=1-3 branch=cond static"},
    {"mid.0:12 unit=std +2 steps=2", "mid.0:12 +2 steps=2 unit=std"},
    {"mid.0:12 unit=mean +2 steps=2-2", "mid.0:12 +2 steps=2"},
    {"mid.0:1 +2 @ellipse:0.1,0.2,0.3,0.4 branch=uncond unit=one", NULL},
    {"mid.0:1 +2 @map:7>0.5 branch=both unit=max static", NULL},
    {"mid.0:1 +2 @\"a \\\"b\\\".png\"", NULL},
    {"mid.0 zero @face.PNG", NULL},
    {"mid.0 rebuild static", NULL},
};

static void test_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(good); i++) {
        fct_edit e, again;
        char *text, *twice;
        assert_ok(fct_edit_parse(&e, good[i].text));
        assert_ok(fct_edit_text(&text, &e));
        assert_string_equal(text, good[i].canonical ? good[i].canonical : good[i].text);
        assert_ok(fct_edit_parse(&again, text));
        assert_ok(fct_edit_text(&twice, &again));
        assert_string_equal(text, twice);
        fct_edit_clear(&e);
        fct_edit_clear(&again);
        fct_free(text);
        fct_free(twice);
    }
}

static void test_fields(void **state)
{
    (void)state;
    fct_edit e;
    assert_ok(
        fct_edit_parse(&e, "up.0.1:7 -2.5 steps=2-4 branch=uncond unit=max @box:0,0.25,0.5,1"));
    assert_string_equal(e.block, "up.0.1");
    assert_int_equal(e.feature, 7);
    assert_int_equal(e.op, FCT_EDIT_ADD);
    assert_true(e.value == -2.5 && e.first_step == 2 && e.last_step == 4);
    assert_true(e.branch == FCT_HALF_UNCOND && e.unit == FCT_UNIT_MAX && !e.is_static);
    assert_true(e.mask.kind == FCT_MASK_BOX && e.mask.box[1] == 0.25 && e.mask.box[3] == 1);
    fct_edit_clear(&e);
    assert_ok(fct_edit_parse(&e, "up.0.1 from r.json:5,1 x3"));
    assert_true(e.n_features == 2 && e.features[0] == 5 && e.features[1] == 1 && e.value == 3);
    assert_string_equal(e.source_path, "r.json");
    fct_edit_clear(&e);
}

static const struct {
    const char *text, *said;
} bad[] = {
    {"", "it is empty; write 'BLOCK:FEATURE OP'"},
    {"mid.0:1", "no operation is given; the operations are"},
    {":1 +2", "no block is named"},
    {"mid.0:x +2", "\"x\" is not a whole number"},
    {"mid.0:-1 +2", "-1 is not between 0"},
    {"mid.0 +2", "'add' acts on a feature; write mid.0:FEATURE"},
    {"mid.0:1 zero", "acts on the whole block; write mid.0 without :1"},
    {"mid.0:1 from a.png:3", "acts on the whole block"},
    {"mid.0:1 +2 +3", "\"+3\" is a second operation beside \"add\""},
    {"mid.0:1 +2 x3", "'x' is a second operation beside 'add'"},
    {"mid.0:1 x2 x3", "\"x3\" is a second strength"},
    {"mid.0:1 ++2", "has two signs"},
    {"mid.0:1 +two", "\"+two\" is not a number"},
    {"mid.0:1 +1e9", "is not between -1e+06 and 1e+06"},
    {"mid.0:1 =", "strength in \"=\""},
    {"mid.0:1 only", "'only' needs a strength"},
    {"mid.0:1 only much", "\"much\" is not a number"},
    {"mid.0 from", "'from' needs RECIPE:FEATURES"},
    {"mid.0 from a.png", "is not RECIPE:FEATURES"},
    {"mid.0 from a.png:3,x", "\"x\" is not a whole number"},
    {"mid.0 from a.png:3,3", "feature 3 is listed twice"},
    {"mid.0:1 +2 steps=0", "steps are counted from 1"},
    {"mid.0:1 +2 steps=3-2", "ends before it starts"},
    {"mid.0:1 +2 steps=1 steps=2", "\"steps=2\" is said twice"},
    {"mid.0:1 +2 branch=left", "a branch is cond, uncond or both"},
    {"mid.0:1 +2 branch=default", "a branch is cond, uncond or both"},
    {"mid.0:1 +2 unit=median", "a unit is mean, std, max or one"},
    {"mid.0:1 x2 unit=std", "'scale' has no V"},
    {"mid.0:1 +2 static", "reads no codes"},
    {"mid.0 zero static", "reads no codes"},
    {"mid.0:1 +2 @circle:1", "a mask is a PNG or JPEG file, box:"},
    {"mid.0:1 +2 @box:0,0,1", "are not four numbers"},
    {"mid.0:1 +2 @box:0,0,1,1,1", "are not four numbers"},
    {"mid.0:1 +2 @box:0.5,0,0.5,1", "is empty: x0 < x1"},
    {"mid.0:1 +2 @box:0,0,1.5,1", "1.5 is not between 0 and 1"},
    {"mid.0:1 +2 @map:3", "has no threshold; write map:FEATURE>T"},
    {"mid.0:1 +2 @map:3>-1", "-1 is not between 0"},
    {"mid.0:1 +2 loud", "\"loud\" is neither an operation nor an option"},
    {"mid.0:1 +2 @\"a.png", "a \" is not closed"},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(bad); i++) {
        fct_edit e;
        char start[300];
        fct_status st = fct_edit_parse(&e, bad[i].text);
        snprintf(start, sizeof start, "edit \"%s\": ", bad[i].text);
        if (st == FCT_OK || !strstr(fct_error_text(), bad[i].said) ||
            strncmp(fct_error_text(), start, strlen(start)) != 0)
            fail_msg("\"%s\": want \"%s\", got %s", bad[i].text, bad[i].said,
                     st ? fct_error_text() : "success");
        assert_null(e.block);
    }
}

/* ---- JSON ---- */

static void test_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(good); i++) {
        fct_edit e, back, copy;
        json_t *j, *again;
        char *a, *b;
        assert_ok(fct_edit_parse(&e, good[i].text));
        assert_ok(fct_edit_to_json(&j, &e));
        assert_ok(fct_edit_of_json(&back, j, "test", 0));
        assert_ok(fct_edit_copy(&copy, &back));
        assert_ok(fct_edit_to_json(&again, &copy));
        assert_true(json_equal(j, again));
        assert_ok(fct_edit_text(&a, &e));
        assert_ok(fct_edit_text(&b, &copy));
        assert_string_equal(a, b);
        fct_free(a);
        fct_free(b);
        json_decref(j);
        json_decref(again);
        fct_edit_clear(&e);
        fct_edit_clear(&back);
        fct_edit_clear(&copy);
    }
}

static void test_json_mistakes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "want an object"},
        {"{\"op\":\"zero\"}", "no block is named"},
        {"{\"block\":\"mid.0\"}", "op is missing"},
        {"{\"block\":\"mid.0\",\"op\":\"nil\"}",
         "op \"nil\" is not one of add, scale, set, only, rebuild, zero, from"},
        {"{\"block\":\"mid.0\",\"op\":\"add\",\"value\":1}", "feature is missing"},
        {"{\"block\":\"mid.0\",\"op\":\"add\",\"feature\":1}", "needs a value"},
        {"{\"block\":\"mid.0\",\"op\":\"add\",\"feature\":1,\"value\":1e9}", "not between"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"feature\":1}", "has no feature"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"masc\":{}}",
         "unknown key \"masc\"; known are block"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{}}",
         "want one of box, ellipse, map, file, png"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{\"box\":[0,0,1]}}",
         "want [x0, y0, x1, y1]"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{\"box\":[0,0,1,1],\"file\":\"a\"}}",
         "more than one of"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{\"png\":\"AAA\"}}", "no multiple of 4"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{\"png\":\"AAA!\"}}",
         "character 4 is not one of its 64"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{\"png\":\"AAAA\"}}", "not a PNG"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"mask\":{\"map\":{\"feature\":-1}}}", "map: want"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"steps\":[3,2]}", "steps: want [first, last]"},
        {"{\"block\":\"mid.0\",\"op\":\"from\",\"features\":[]}", "want a list of features"},
        {"{\"block\":\"mid.0\",\"op\":\"from\",\"features\":[1,1],\"source\":\"a.png\"}",
         "listed twice"},
        {"{\"block\":\"mid.0\",\"op\":\"from\",\"features\":[1]}", "source: want a recipe"},
        {"{\"block\":\"mid.0\",\"op\":\"from\",\"features\":[1],\"source\":{}}", "not a recipe"},
        {"{\"block\":\"mid.0\",\"op\":\"zero\",\"static\":1}", "want true or false"},
    };
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        json_t *j;
        fct_edit e;
        assert_ok(fct_json_parse(&j, cases[i][0], (int64_t)strlen(cases[i][0]), "case"));
        assert_fails(FCT_ERR_FORMAT, cases[i][1], fct_edit_of_json(&e, j, "r.json: edit 1", 0));
        assert_null(e.block);
        json_decref(j);
    }
}

static void test_base64(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
        {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < FCT_COUNT(pairs); i++) { /* RFC 4648, section 10 */
        fct_str a = {0}, b = {0};
        assert_ok(fct_str_append(&a, ""));
        assert_ok(fct_base64_append(&a, pairs[i][0], (int64_t)strlen(pairs[i][0])));
        assert_string_equal(a.p, pairs[i][1]);
        assert_ok(fct_str_append(&b, ""));
        assert_ok(fct_base64_parse(&b, a.p));
        assert_string_equal(b.p, pairs[i][0]);
        fct_str_clear(&a);
        fct_str_clear(&b);
    }
}

/* ---- masks ---- */

static void grid_of(float *out, int64_t h, int64_t w, const char *text)
{
    fct_mask m;
    assert_ok(fct_mask_parse(&m, text));
    assert_ok(fct_mask_grid(out, h, w, &m));
    fct_mask_clear(&m);
}

static void test_box(void **state)
{
    (void)state;
    float g[15];
    grid_of(g, 3, 5, "@box:0,0,1,1");
    for (int i = 0; i < 15; i++) assert_true(g[i] == 1);
    grid_of(g, 3, 5, "box:0.3,0.5,0.9,1"); /* columns 1.5..4.5, rows 1.5..3 */
    const float x[5] = {0, 0.5f, 1, 1, 0.5f}, y[3] = {0, 0.5f, 1};
    for (int i = 0; i < 15; i++) assert_true(fabsf(g[i] - y[i / 5] * x[i % 5]) < 1e-7f);
}

/* Parts that fill the picture sum to one in every cell. */
static void test_box_parts(void **state)
{
    (void)state;
    float a[35], b[35], c[35];
    grid_of(a, 5, 7, "@box:0,0,0.37,1");
    grid_of(b, 5, 7, "@box:0.37,0,1,0.61");
    grid_of(c, 5, 7, "@box:0.37,0.61,1,1");
    for (int i = 0; i < 35; i++) assert_true(fabsf(a[i] + b[i] + c[i] - 1) < 1e-6f);
}

/* Against counting a million points a cell. */
static void test_ellipse(void **state)
{
    (void)state;
    enum { H = 6, W = 9, N = 1000 };
    float g[64];
    double sum = 0, worst = 0;
    grid_of(g, H, W, "@ellipse:0.13,0.08,0.71,0.97");
    for (int i = 0; i < H * W; i++) {
        int64_t inside = 0;
        for (int k = 0; k < N * N; k++) {
            double x = (i % W + (k % N + 0.5) / N) / W, y = (i / W + (k / N + 0.5) / N) / H;
            double u = (x - 0.42) / 0.29, v = (y - 0.525) / 0.445;
            inside += u * u + v * v <= 1;
        }
        worst = fmax(worst, fabs((double)g[i] - (double)inside / ((double)N * N)));
        sum += (double)g[i];
    }
    assert_true(worst < 1e-4); /* observed 1.4e-5 */
    assert_true(fabs(sum / (H * W) - M_PI * 0.29 * 0.445) < 1e-7);
    grid_of(g, 4, 4, "@ellipse:0,0,1,1");
    /* quarter disc of radius 2 cells: pi, over four cells of which one is whole and two are equal
     * by symmetry */
    assert_true(g[5] == 1 && g[1] == g[4] &&
                fabs((double)g[0] + 2 * (double)g[1] + 1 - M_PI) < 1e-6);
    grid_of(g, 8, 8, "@ellipse:0.5,0.5,0.55,0.55"); /* within one cell */
    for (int i = 0; i < 64; i++)
        assert_true(i == 36 ? fabs((double)g[i] - M_PI / 4 * 0.16) < 1e-7 : g[i] < 1e-12f);
}

static void test_picture(void **state)
{
    (void)state;
    uint8_t grey[] = {255, 0, 0, 255, 51, 102}; /* 3 wide, 2 high */
    fct_mask m = {.kind = FCT_MASK_FILE, .width = 3, .height = 2, .grey = grey};
    float g[6];
    assert_ok(fct_mask_grid(g, 2, 3, &m));
    for (int i = 0; i < 6; i++) assert_true(g[i] == (float)grey[i] / 255);
    assert_ok(fct_mask_grid(g, 1, 2, &m)); /* cells of 1.5 x 2 pixels */
    assert_true(fabs((double)g[0] - (255 + 255 + 0.5 * 51) / 3 / 255) < 1e-6);
    assert_true(fabs((double)g[1] - (0.5 * 51 + 102) / 3 / 255) < 1e-6);
    memset(grey, 255, sizeof grey);
    for (int h = 1; h < 4; h++) {
        assert_ok(fct_mask_grid(g, h, 2, &m));
        for (int i = 0; i < 2 * h; i++) assert_true(g[i] == 1);
    }
}

static void test_mask_files(void **state)
{
    (void)state;
    fct_image im;
    fct_edit e, back;
    json_t *j;
    assert_ok(fct_image_new(&im, 4, 2, 1));
    for (int i = 0; i < 8; i++) im.pixel[i] = (uint8_t)(30 * i);
    assert_ok(fct_png_write(&im, temp_path("m.png")));
    assert_ok(fct_edit_parse(&e, "mid.0:1 +2 @m.png"));
    assert_fails(FCT_ERR_MISSING, "m.png", fct_edit_load(&e, "/nowhere"));
    assert_ok(fct_edit_load(&e, temp_path("")));
    assert_memory_equal(e.mask.grey, im.pixel, 8);
    assert_ok(fct_edit_to_json(&j, &e)); /* the picture travels along */
    assert_ok(fct_edit_of_json(&back, j, "test", 0));
    assert_true(back.mask.width == 4 && back.mask.height == 2);
    assert_memory_equal(back.mask.grey, im.pixel, 8);
    json_decref(j);
    fct_edit_clear(&e);
    fct_edit_clear(&back);
    fct_image_clear(&im);
    float g[4];
    fct_mask m;
    assert_ok(fct_mask_parse(&m, "map:3>0.5"));
    assert_fails(FCT_ERR_UNSUPPORTED, "no fixed place", fct_mask_grid(g, 2, 2, &m));
    fct_mask_clear(&m);
}

/* The nth allocation fails: a sentence, and nothing is lost (the sanitizer run tells). */
static void test_faults(void **state)
{
    (void)state;
    const char *text = "mid.0 from \"a b.png:3,4,5\" x2 @\"c d.png\" steps=1-2 branch=cond";
    fct_fault_json();
    for (int64_t nth = 1; nth < 200; nth++) {
        fct_edit e = {0}, back = {0}, copy = {0};
        json_t *j = NULL;
        char *out = NULL;
        fct_fault_alloc(nth);
        fct_status st = fct_edit_parse(&e, text);
        if (st == FCT_OK) st = fct_edit_to_json(&j, &e);
        if (st == FCT_OK) st = fct_edit_of_json(&back, j, "test", 0);
        if (st == FCT_OK) st = fct_edit_copy(&copy, &back);
        if (st == FCT_OK) st = fct_edit_text(&out, &copy);
        fct_fault_alloc(0);
        assert_true(st == FCT_OK || st == FCT_ERR_MEMORY);
        if (st != FCT_OK) assert_true(strlen(fct_error_text()) > 5);
        json_decref(j);
        fct_free(out);
        fct_edit_clear(&e);
        fct_edit_clear(&back);
        fct_edit_clear(&copy);
        if (st == FCT_OK && nth > 150) return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),          cmocka_unit_test(test_fields),
        cmocka_unit_test(test_mistakes),      cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_mistakes), cmocka_unit_test(test_base64),
        cmocka_unit_test(test_box),           cmocka_unit_test(test_box_parts),
        cmocka_unit_test(test_ellipse),       cmocka_unit_test(test_picture),
        cmocka_unit_test(test_mask_files),    cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests_name("edit", tests, NULL, temp_clear);
}

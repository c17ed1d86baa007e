/* test_index.c - the strongest features of a picture, the strongest pictures of features, icons,
   contrasts and their transport recipes on a twin, each against numbers gathered another way; and
   drawing on pictures small enough to check by eye. */
#include "index/index.h"
#include "sae_once.h"
#include "test_edit_twin.h"

static edit_twin twin;

static int open_twin(void **state)
{
    (void)state;
    edit_twin_open(&twin, "a");
    return 0;
}

static int close_twin(void **state)
{
    edit_twin_close(&twin);
    return temp_clear(state);
}

static void recipe_of(fct_recipe *r, const char *text)
{
    assert_ok(fct_recipe_parse(r, text, (int64_t)strlen(text), "test"));
}

static const char sea[] = "{\"format\":\"facet-recipe\",\"prompt\":\"the sea at "
                          "night\",\"seed\":3,\"width\":96,\"height\":128,\"steps\":2}";
static const char dogs[] =
    "{\"format\":\"facet-recipe\",\"items\":[{\"prompt\":\"a cat\",\"seed\":1},{\"prompt\":\"a "
    "dog\",\"seed\":2}],\"index\":1,"
    "\"width\":96,\"height\":128,\"steps\":2,\"guidance\":3.0,\"edits\":[\"down.2.1:5 +2\"]}";

/* ---- an independent gathering: dense codes of one item's cond half, all steps ---- */

typedef struct dense {
    const fct_sae *sae;
    int64_t item, step, cells, n;
    double *sum; /* [F,cells] */
} dense;

static fct_status add_dense(void *user, const fct_tap_event *event, fct_tensor *value)
{
    dense *q = user;
    float *z = NULL;
    int64_t f_count = q->sae->f, cells = value->dim[1] * value->dim[2];
    if (q->step && event->step != q->step) return FCT_OK;
    if (!q->sum) FCT_TRY(fct_new(&q->sum, f_count * cells, (int64_t)sizeof *q->sum));
    FCT_TRY(fct_new(&z, f_count, (int64_t)sizeof *z));
    q->cells = cells;
    q->n++;
    for (int64_t p = 0; p < cells; p++) {
        int64_t row = ((event->guided ? event->items : 0) + q->item) * cells + p;
        FCT_TRY(once_dense(q->sae, (const float *)value->data + row * q->sae->d, 1, z));
        for (int64_t f = 0; f < f_count; f++) q->sum[f * cells + p] += (double)z[f];
    }
    fct_free(z);
    return FCT_OK;
}

static void gather(dense *q, const fct_recipe *recipe, int64_t set_index, int64_t step)
{
    fct_recipe copy;
    fct_run_desc d;
    fct_run_result r;
    *q = (dense){.sae = twin.saes.bound[set_index].sae, .item = recipe->index, .step = step};
    fct_tap tap = {.module = twin.saes.bound[set_index].name,
                   .what = FCT_TAP_DELTA,
                   .user = q,
                   .fn = add_dense};
    assert_ok(fct_recipe_copy(&copy, recipe));
    fct_recipe_desc(&copy, &d);
    d.taps = &tap;
    d.n_taps = 1;
    d.no_decode = true;
    assert_ok(fct_edit_run(twin.session, &d, copy.edit, copy.n_edits, &twin.saes, &r));
    fct_run_result_clear(&r);
    fct_recipe_clear(&copy);
}

static double mean_of(const dense *q, int64_t f)
{
    double s = 0;
    for (int64_t p = 0; p < q->cells; p++) s += q->sum[f * q->cells + p];
    return s / (double)(q->cells * q->n);
}

/* The recipe in a picture's texts makes the same pixels again. */
static void same_again(const fct_image *im)
{
    fct_recipe r;
    fct_run_result result;
    const char *text = fct_image_find_text(im, "facet");
    assert_non_null(text);
    recipe_of(&r, text);
    assert_ok(fct_recipe_check(&r, twin.session, &twin.saes));
    assert_ok(fct_recipe_run(twin.session, &r, &twin.saes, &result));
    assert_true(result.width == im->width && result.height == im->height);
    int64_t bytes = im->width * im->height * 3;
    assert_memory_equal(im->pixel, result.pixels + r.index * bytes, (size_t)bytes);
    fct_run_result_clear(&result);
    fct_recipe_clear(&r);
}

/* A recipe in memory has passed no reader. */
static void test_no_such_picture(void **state)
{
    (void)state;
    fct_recipe r;
    fct_look look;
    recipe_of(&r, dogs);
    r.index = INT64_C(1) << 20;
    assert_fails(FCT_ERR_ARG, "picture 1048576 is not in the recipe's batch",
                 fct_look_run(&look, twin.session, &twin.saes, &(fct_look_desc){.recipe = &r}));
    r.index = 0;
    fct_recipe_clear(&r);
}

static void test_look(void **state)
{
    (void)state;
    for (int step = 0; step < 2; step++) {
        fct_recipe r;
        fct_look look;
        recipe_of(&r, dogs);
        assert_ok(
            fct_look_run(&look, twin.session, &twin.saes,
                         &(fct_look_desc){.recipe = &r, .top = 4, .step = step, .overlays = true}));
        assert_int_equal(look.n_blocks, twin.saes.n);
        assert_true(look.picture->width == 96 && look.picture->height == 128);
        for (int64_t b = 0; b < look.n_blocks; b++) {
            const fct_look_block *k = &look.block[b];
            dense q;
            gather(&q, &r, b, step);
            assert_int_equal(k->n_features, 4);
            assert_string_equal(k->block->name, twin.saes.bound[b].name);
            for (int64_t i = 0; i < 4; i++) {
                const fct_feature_map *f = &k->feature[i];
                assert_true(f->h * f->w == q.cells &&
                            fabs((double)f->mean - mean_of(&q, f->feature)) < 1e-5);
                for (int64_t p = 0; p < q.cells; p++)
                    assert_true(fabs((double)f->map[p] -
                                     q.sum[f->feature * q.cells + p] / (double)q.n) < 1e-5);
                assert_true(i == 0 || f[-1].mean >= f->mean);
                assert_true(k->overlay[i].width == 96);
            }
            int64_t stronger = 0; /* no other feature beats the fourth */
            for (int64_t f = 0; f < q.sae->f; f++)
                stronger += mean_of(&q, f) > (double)k->feature[3].mean + 1e-5;
            assert_true(stronger <= 3);
            fct_free(q.sum);
        }
        same_again(look.picture);
        fct_look_clear(&look);
        fct_recipe_clear(&r);
    }
    fct_recipe r;
    fct_look look;
    recipe_of(&r, sea);
    assert_fails(
        FCT_ERR_ARG, "step 5 is not there: the recipe has 2",
        fct_look_run(&look, twin.session, &twin.saes, &(fct_look_desc){.recipe = &r, .step = 5}));
    assert_fails(
        FCT_ERR_ARG, "no SAEs to look with",
        fct_look_run(&look, twin.session, &(fct_sae_set){0}, &(fct_look_desc){.recipe = &r}));
    fct_recipe_clear(&r);
}

static void test_top(void **state)
{
    (void)state;
    static const fct_prompt prompts[] = {{.text = "a dog"},
                                         {.text = "the sea", .seed = 7, .has_seed = true},
                                         {.text = "a red circle"},
                                         {.text = "mountains"},
                                         {.text = "snow", .seed = 0, .has_seed = true}};
    static const int seeds[] = {40, 7, 42, 43, 0};
    fct_block_feature features[2];
    fct_top top;
    assert_ok(fct_feature_parse(&features[0], twin.model, &twin.saes, "mid.0:105"));
    assert_ok(fct_feature_parse(&features[1], twin.model, &twin.saes, "up.0.1:124"));
    fct_top_desc d = {.feature = features,
                      .n_features = 2,
                      .prompts = prompts,
                      .n_prompts = 5,
                      .settings =
                          &(fct_settings){.seed = 40, .width = 64, .height = 96, .steps = 1},
                      .top = 3,
                      .batch = 2};
    assert_ok(fct_top_run(&top, twin.session, &twin.saes, &d));
    for (int q = 0; q < 2; q++) {
        const fct_top_feature *f = &top.feature[q];
        double best[5];
        assert_true(f->n_examples > 0 && f->n_examples <= 3);
        for (int i = 0; i < 5; i++) {
            fct_recipe r;
            dense all;
            char text[256];
            snprintf(text, sizeof text,
                     "{\"format\":\"facet-recipe\",\"prompt\":\"%s\",\"seed\":%d,\"width\":64,"
                     "\"height\":96,\"steps\":1}",
                     prompts[i].text, seeds[i]);
            recipe_of(&r, text);
            for (int64_t b = 0; b < twin.saes.n; b++) {
                if (strcmp(twin.saes.bound[b].name, features[q].block->name) != 0) continue;
                gather(&all, &r, b, 0);
                best[i] = mean_of(&all, features[q].feature);
                fct_free(all.sum);
            }
            fct_recipe_clear(&r);
        }
        for (int64_t k = 0; k < f->n_examples; k++) {
            const fct_top_example *e = &f->example[k];
            int64_t above = 0;
            assert_true(e->seed == (uint64_t)seeds[e->prompt]);
            assert_true(fabs((double)e->map.mean - best[e->prompt]) < 1e-4);
            for (int i = 0; i < 5; i++) above += best[i] > (double)e->map.mean + 1e-4;
            assert_int_equal(above, k);
            assert_true(e->picture->width == 64 && e->overlay->height == 96);
            assert_null(fct_image_find_text(e->overlay, "facet"));
            same_again(e->picture);
        }
    }
    fct_top_clear(&top);
    assert_fails(FCT_ERR_MISSING, "there is no feature 160",
                 fct_feature_parse(&features[0], twin.model, &twin.saes, "mid.0:160"));
    assert_fails(FCT_ERR_ARG, "is not BLOCK:FEATURE",
                 fct_feature_parse(&features[0], twin.model, &twin.saes, "mid.0"));
    /* the first prompt's is the last that recipes can tell */
    d.settings = &(fct_settings){.seed = INT64_MAX};
    assert_fails(FCT_ERR_ARG, "the seed of prompt 2 is beyond",
                 fct_top_run(&top, twin.session, &twin.saes, &d));
    int64_t number;
    static const char *const malformed[] = {"mid.0", ":3", "mid.0:", "mid.0:x", "mid.0:-1", ""};
    for (size_t i = 0; i < FCT_COUNT(malformed); i++)
        assert_true(fct_feature_split(NULL, &number, malformed[i]) != FCT_OK);
    assert_fails(FCT_ERR_MISSING, "block down.1.0 has no SAE",
                 fct_feature_parse(&features[0], twin.model, &twin.saes, "down.1.0:1"));
}

static void test_icon(void **state)
{
    (void)state;
    fct_icon icon;
    fct_block_feature f;
    fct_run_result r;
    fct_edit e;
    fct_run_item items[2] = {{.prompt = "", .seed = 4}, {.prompt = "", .seed = 9}};
    assert_ok(fct_feature_parse(&f, twin.model, &twin.saes, "mid.0:7"));
    assert_ok(fct_icon_run(
        &icon, twin.session, &twin.saes,
        &(fct_icon_desc){.feature = f,
                         .seeds = (uint64_t[]){4, 9},
                         .n_seeds = 2,
                         .settings = &(fct_settings){.width = 64, .height = 64, .steps = 1}}));
    fct_run_desc d = {.items = items,
                      .n_items = 2,
                      .settings = &(fct_settings){.width = 64, .height = 64, .steps = 1}};
    assert_ok(fct_edit_parse(&e, "mid.0:7 only 1"));
    assert_ok(fct_edit_run(twin.session, &d, &e, 1, &twin.saes, &r));
    assert_memory_equal(icon.icon[1].pixel, r.pixels + 64 * 64 * 3, 64 * 64 * 3);
    fct_run_result_clear(&r);
    assert_ok(fct_session_run(twin.session, &d, &r));
    assert_memory_equal(icon.clean[0].pixel, r.pixels, 64 * 64 * 3);
    for (int i = 0; i < 2; i++) {
        same_again(&icon.icon[i]);
        same_again(&icon.clean[i]);
    }
    fct_run_result_clear(&r);
    fct_edit_clear(&e);
    fct_icon_clear(&icon);
}

static void test_contrast(void **state)
{
    (void)state;
    fct_recipe a, b, transport;
    fct_contrast c;
    fct_mask left;
    fct_run_result r;
    recipe_of(&a, sea);
    recipe_of(&b, dogs);
    assert_ok(fct_mask_parse(&left, "@box:0,0,0.5,1"));
    fct_contrast_desc d = {.a = &a, .b = &b, .mask_a = &left, .step = 1};
    assert_ok(fct_contrast_run(&c, twin.session, &twin.saes, &d));
    double total[2] = {0, 0}, sum = 0;
    for (int64_t s = 0; s < twin.saes.n; s++) { /* by hand, block after block */
        dense qa, qb;
        gather(&qa, &a, s, 1);
        gather(&qb, &b, s, 1);
        int64_t w = s == 3 ? 6 : 3; /* blocks of the twin at 96 x 128: 4 x 3, and 8 x 6 higher up */
        for (int64_t i = 0; i < c.n; i++) {
            if (strcmp(c.row[i].block->name, twin.saes.bound[s].name) != 0) continue;
            double weight = 0, mean = 0;
            for (int64_t p = 0; p < qa.cells; p++) {
                double m = fmin(1, fmax(0, 0.5 * (double)w - (double)(p % w)));
                weight += m;
                mean += m * qa.sum[c.row[i].feature * qa.cells + p];
            }
            assert_true(fabs(mean / weight - c.row[i].mean_a) < 1e-5);
            assert_true(fabs(mean_of(&qb, c.row[i].feature) - c.row[i].mean_b) < 1e-5);
        }
        fct_free(qa.sum);
        fct_free(qb.sum);
    }
    for (int64_t i = 0; i < c.n; i++) {
        total[0] += c.row[i].mean_a;
        total[1] += c.row[i].mean_b;
    }
    for (int64_t i = 0; i < c.n; i++) {
        assert_true(fabs(c.row[i].score -
                         (c.row[i].mean_a / total[0] - c.row[i].mean_b / total[1])) < 1e-9);
        assert_true(i == 0 || c.row[i - 1].score >= c.row[i].score);
        sum += c.row[i].score;
    }
    assert_true(fabs(sum) < 1e-9); /* each side sums to one */
    assert_ok(fct_contrast_recipe(&transport, twin.model, &twin.saes, &c, &d,
                                  &(fct_transport_desc){.n_add = 5, .n_remove = 3, .strength = 2}));
    int64_t added = 0, removed = 0;
    for (int64_t i = 0; i < transport.n_edits; i++) {
        const fct_edit *e = &transport.edit[i];
        added += e->n_features;
        removed += e->op == FCT_EDIT_SCALE && e->is_static && e->value == 0;
        if (e->op == FCT_EDIT_FROM)
            assert_true(e->value == 2 && e->mask.kind == FCT_MASK_BOX && e->source != NULL);
    }
    assert_true(added == 5 && removed == 3 && transport.n_edits > 4 && transport.n_saes > 0);
    assert_ok(fct_recipe_write(&transport, temp_path("t.json")));
    fct_recipe_clear(&transport);
    assert_ok(fct_recipe_read(&transport, temp_path("t.json")));
    assert_ok(fct_recipe_check(&transport, twin.session, &twin.saes));
    assert_ok(fct_recipe_run(twin.session, &transport, &twin.saes, &r));
    fct_run_result_clear(&r);
    fct_recipe_clear(&transport);
    fct_contrast_clear(&c);
    fct_mask_clear(&left);
    fct_recipe_clear(&a);
    fct_recipe_clear(&b);
}

/* Between such runs no feature moves, so no transport is written. */
static void test_contrast_of_strangers(void **state)
{
    (void)state;
    static const char *const other[][2] = {
        {"\"width\":128,\"height\":128,\"steps\":2", "A is 96x128, B 128x128"},
        {"\"width\":96,\"height\":128,\"steps\":3", "A has 2 steps, B 3"},
        {"\"width\":96,\"height\":128,\"steps\":2,\"model\":{\"name\":\"m\",\"hash\":\"b\"}",
         "A was made by the model n (a), B by m (b)"}};
    for (size_t i = 0; i < FCT_COUNT(other); i++) {
        fct_recipe a, b, out;
        fct_contrast none = {0};
        char text[512];
        snprintf(text, sizeof text, "{\"format\":\"facet-recipe\",\"prompt\":\"x\",%s}",
                 other[i][0]);
        recipe_of(&b, text);
        recipe_of(&a, sea);
        assert_ok(fct_strdup(&a.model, "n"));
        assert_ok(fct_strdup(&a.model_hash, "a"));
        assert_fails(FCT_ERR_ARG, other[i][1], fct_contrast_check(twin.model, &a, &b));
        assert_fails(FCT_ERR_ARG, other[i][1],
                     fct_contrast_recipe(&out, twin.model, &twin.saes, &none,
                                         &(fct_contrast_desc){.a = &a, .b = &b},
                                         &(fct_transport_desc){.n_add = 1}));
        fct_recipe_clear(&b);
        recipe_of(&b, sea);
        assert_ok(fct_contrast_check(twin.model, &a, &b)); /* B's model is not known */
        fct_recipe_clear(&b);
        fct_recipe_clear(&a);
    }
}

/* ---- drawing ---- */

/* What matplotlib 3.11.2 gives: colormaps["jet"](t, bytes=True); its table has 256 steps, hence
 * the 3. */
static void test_jet(void **state)
{
    (void)state;
    static const struct {
        double t;
        uint8_t rgb[3];
    } points[] = {{0, {0, 0, 127}},      {0.25, {0, 128, 255}}, {0.5, {124, 255, 121}},
                  {0.75, {255, 148, 0}}, {1, {127, 0, 0}},      {-1, {0, 0, 127}},
                  {2, {127, 0, 0}}};
    for (size_t i = 0; i < FCT_COUNT(points); i++) {
        uint8_t rgb[3];
        fct_draw_jet(rgb, points[i].t);
        for (int c = 0; c < 3; c++) assert_true(abs(rgb[c] - points[i].rgb[c]) <= 3);
    }
}

static void test_heat(void **state)
{
    (void)state;
    fct_image grey, out;
    uint8_t hot[3], cold[3];
    assert_ok(fct_image_new(&grey, 6, 4, 3));
    memset(grey.pixel, 100, 6 * 4 * 3);
    assert_ok(fct_draw_heat(&out, &grey, (const float[]){0, 1, 3, 0}, 2, 2, 0.5));
    fct_draw_jet(hot, 1);
    fct_draw_jet(cold, 1.0 / 3);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 6; x++) {
            const uint8_t *p = out.pixel + (y * 6 + x) * 3;
            bool top = y < 2, left = x < 3;
            for (int c = 0; c < 3; c++) {
                int want = top == left ? 100
                           : top       ? (100 + cold[c]) / 2
                                       : (100 + hot[c]) / 2; /* zero cells stay clear */
                assert_true(abs(p[c] - want) <= 1);
            }
        }
    fct_image_clear(&out);
    assert_ok(fct_draw_heat(&out, NULL, (const float[]){0, 2}, 1, 2, 1));
    assert_true(out.width == 32 && out.height == 16 && out.pixel[0] == 0 &&
                out.pixel[16 * 3] == hot[0]);
    fct_image_clear(&out);
    fct_image_clear(&grey);
}

static void test_grid(void **state)
{
    (void)state;
    fct_image a, b, out;
    assert_ok(fct_image_new(&a, 4, 2, 3));
    assert_ok(fct_image_new(&b, 3, 3, 3));
    memset(b.pixel, 9, 27);
    const fct_image *cells[] = {&a, NULL, &b};
    assert_ok(fct_draw_grid(&out, &(fct_draw_grid_desc){.cell = cells, .n = 3, .gap = 1}));
    assert_true(out.width == 2 * 5 + 1 &&
                out.height == 2 * 4 + 1); /* two columns of cells of 4 x 3 */
    assert_true(out.pixel[0] == 255 && out.pixel[(1 * 11 + 1) * 3] == 0 &&
                out.pixel[(5 * 11 + 1) * 3] == 9);
    assert_true(out.pixel[(5 * 11 + 4) * 3] == 255 && out.pixel[(1 * 11 + 7) * 3] == 255);
    fct_image_clear(&out);
    assert_ok(fct_draw_grid(
        &out,
        &(fct_draw_grid_desc){.cell = cells, .n = 3, .gap = -1, .columns = 3, .black = true}));
    assert_true(out.width == 12 && out.height == 3 && out.pixel[(2 * 12 + 11) * 3] == 0 &&
                out.pixel[8 * 3] == 9);
    fct_image_clear(&out);
    const fct_image *none[] = {NULL};
    assert_fails(FCT_ERR_ARG, "at least one picture",
                 fct_draw_grid(&out, &(fct_draw_grid_desc){.cell = none, .n = 1}));
    fct_image_clear(&a);
    fct_image_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_jet),
                                       cmocka_unit_test(test_heat),
                                       cmocka_unit_test(test_grid),
                                       cmocka_unit_test(test_look),
                                       cmocka_unit_test(test_no_such_picture),
                                       cmocka_unit_test(test_top),
                                       cmocka_unit_test(test_icon),
                                       cmocka_unit_test(test_contrast),
                                       cmocka_unit_test(test_contrast_of_strangers)};
    return cmocka_run_group_tests_name("index", tests, open_twin, close_twin);
}

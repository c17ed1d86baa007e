/* test_scan.c - what must hold of a scan over pictures: visitors are called in the promised order,
   get what they want and nothing else, and see the codes that the blocks' rows have; batches change
   them by rounding alone; a store gives those of its rows; stops and errors end it. */
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

static const fct_prompt prompts[] = {{.text = "a dog"},
                                     {.text = "the sea", .seed = 7, .has_seed = true},
                                     {.text = "a red circle"},
                                     {.text = "mountains"},
                                     {.text = "snow", .seed = 0, .has_seed = true}};
enum { N = 5, STEPS = 2 };
static const uint64_t seeds[N] = {40, 7, 42, 43, 0};
static const fct_settings settings = {.seed = 40, .width = 64, .height = 96, .steps = STEPS};

static fct_scan_desc desc_of(int64_t batch)
{
    return (fct_scan_desc){
        .prompts = prompts, .n_prompts = N, .settings = &settings, .batch = batch};
}

/* ---- a visitor that writes down what it is told ---- */

typedef struct told {
    fct_str text;     /* a word a call */
    const char *only; /* the block it wants; NULL: all */
    double *sum;      /* [n_saes][N][STEPS][F]: of a feature's codes over the grid */
    int64_t most;     /* features of the widest SAE */
    int64_t fail_at;  /* the call of codes that fails, from 1 */
    int64_t calls;
    volatile int stop; /* raised at the call `stop_at` */
    int64_t stop_at;
} told;

static void open_told(told *t)
{
    *t = (told){0};
    for (int64_t i = 0; i < twin.saes.n; i++)
        if (twin.saes.bound[i].sae->f > t->most) t->most = twin.saes.bound[i].sae->f;
    assert_ok(fct_new(&t->sum, twin.saes.n * N * STEPS * t->most, (int64_t)sizeof *t->sum));
}

static void close_told(told *t)
{
    fct_free(t->sum);
    fct_str_clear(&t->text);
}

static double *sum_at(const told *t, int64_t nth, int64_t number, int64_t step)
{
    return t->sum + ((nth * N + number) * STEPS + step - 1) * t->most;
}

static bool wants(const void *self, const char *block)
{
    const told *t = self;
    return !t->only || strcmp(t->only, block) == 0;
}

static fct_status on_begin(void *self, int64_t n)
{
    return fct_str_printf(&((told *)self)->text, "begin%d ", (int)n);
}

static fct_status on_codes(void *self, const fct_scan_codes *c)
{
    told *t = self;
    const fct_scan_item *item = c->item;
    assert_string_equal(c->block, twin.saes.bound[c->nth].short_name);
    assert_ptr_equal(c->sae, twin.saes.bound[c->nth].sae);
    assert_string_equal(item->prompt, prompts[item->number].text);
    assert_true(item->seed == seeds[item->number]);
    if (++t->calls == t->fail_at) return fct_fail(FCT_ERR_RANGE, "enough of it");
    if (t->calls == t->stop_at) t->stop = 1;
    double *sum = sum_at(t, c->nth, item->number, c->step);
    for (int64_t f = 0; f < c->sae->f; f++) {
        sum[f] = 0;
        for (int64_t p = 0; p < c->h * c->w; p++) sum[f] += (double)fct_scan_code(c, p, f);
    }
    return fct_str_printf(&t->text, "%d.%d.%d.%d ", (int)item->number, (int)item->place,
                          (int)c->step, (int)c->nth);
}

static fct_status on_picture(void *self, const fct_scan_picture *p)
{
    assert_true(p->width == 64 && p->height == 96);
    return fct_str_printf(&((told *)self)->text, "picture%d ", (int)p->item->number);
}

static fct_status on_end(void *self)
{
    return fct_str_append(&((told *)self)->text, "end");
}

static fct_scan_visitor visitor_of(told *t, bool pictures)
{
    return (fct_scan_visitor){.self = t,
                              .wants = wants,
                              .begin = on_begin,
                              .codes = on_codes,
                              .picture = pictures ? on_picture : NULL,
                              .end = on_end};
}

static void expect_codes(fct_str *s, const int64_t *number, int64_t n, int64_t first_nth,
                         int64_t end_nth)
{
    for (int step = 1; step <= STEPS; step++)
        for (int64_t nth = first_nth; nth < end_nth; nth++)
            for (int64_t i = 0; i < n; i++)
                assert_ok(
                    fct_str_printf(s, "%d.%d.%d.%d ", (int)number[i], (int)i, step, (int)nth));
}

/* ---- order ---- */

static void test_order(void **state)
{
    (void)state;
    static const int64_t all[N] = {0, 1, 2, 3, 4}, pick[3] = {1, 3, 4};
    for (int picked = 0; picked < 2; picked++)
        for (int pictures = 0; pictures < 2; pictures++) {
            told t;
            fct_str want = {0};
            const int64_t *number = picked ? pick : all;
            int64_t n = picked ? 3 : N;
            open_told(&t);
            fct_scan_visitor v = visitor_of(&t, pictures != 0);
            fct_scan_desc d = desc_of(2);
            if (picked) {
                d.pick = pick;
                d.n_pick = 3;
            }
            assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
            assert_ok(fct_str_printf(&want, "begin%d ", (int)n));
            for (int64_t first = 0; first < n; first += 2) {
                int64_t count = n - first < 2 ? n - first : 2;
                expect_codes(&want, number + first, count, 0, twin.saes.n);
                for (int64_t i = 0; pictures && i < count; i++)
                    assert_ok(fct_str_printf(&want, "picture%d ", (int)number[first + i]));
            }
            assert_ok(fct_str_append(&want, "end"));
            assert_string_equal(t.text.p, want.p);
            fct_str_clear(&want);
            close_told(&t);
        }
}

/* Each gets the blocks that it wants; who wants only pictures gets no codes. */
static void test_wants(void **state)
{
    (void)state;
    told one, every, drawn;
    open_told(&one);
    open_told(&every);
    open_told(&drawn);
    one.only = twin.saes.bound[1].short_name;
    fct_scan_visitor v[3] = {visitor_of(&one, false),
                             visitor_of(&every, false),
                             {.self = &drawn, .picture = on_picture}};
    fct_scan_desc d = desc_of(N);
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, v, 3));
    fct_str want = {0};
    assert_ok(fct_str_append(&want, "begin5 "));
    expect_codes(&want, (const int64_t[]){0, 1, 2, 3, 4}, N, 1, 2);
    assert_ok(fct_str_append(&want, "end"));
    assert_string_equal(one.text.p, want.p);
    assert_string_equal(drawn.text.p, "picture0 picture1 picture2 picture3 picture4 ");
    assert_int_equal(every.calls, N * STEPS * twin.saes.n);
    fct_str_clear(&want);
    close_told(&one);
    close_told(&every);
    close_told(&drawn);
}

/* Nothing is computed that nobody wants. */
static void test_work(void **state)
{
    (void)state;
    fct_session_counts before, after;
    told t;
    open_told(&t);
    t.only = "no such block";
    fct_scan_visitor v = visitor_of(&t, false);
    fct_scan_desc d = desc_of(2);
    fct_session_count(twin.session, &before);
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    fct_session_count(twin.session, &after);
    assert_int_equal(after.runs, before.runs);
    assert_string_equal(t.text.p, "begin5 end");
    t.only = twin.saes.bound[0].short_name;
    d.step = 1;
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    fct_session_count(twin.session, &before);
    assert_int_equal(before.runs, after.runs + 3);
    /* up to the first block in the first of two steps */
    assert_true(before.stages - after.stages < 3 * fct_model_get_info(twin.model)->n_stages);
    close_told(&t);
}

/* ---- codes ---- */

typedef struct rows { /* one item's rows of a block's conditional half, in both steps */
    float *x[STEPS];
    int64_t n;
} rows;

static fct_status keep_rows(void *user, const fct_tap_event *event, fct_tensor *value)
{
    rows *r = user;
    float **x = &r->x[event->step - 1];
    r->n = value->dim[1] * value->dim[2];
    FCT_TRY(fct_new_raw(x, r->n * value->dim[3], (int64_t)sizeof **x));
    const float *from = (const float *)value->data + (event->guided ? r->n * value->dim[3] : 0);
    memcpy(*x, from, (size_t)(r->n * value->dim[3]) * sizeof **x);
    return FCT_OK;
}

/* Against every picture run alone, its rows taken by a tap and encoded densely. */
static void compare_alone(const told *t, int64_t nth, int64_t number, double bound)
{
    const fct_sae *sae = twin.saes.bound[nth].sae;
    rows r = {0};
    float *z = NULL;
    fct_run_result result;
    fct_run_item item = {.prompt = prompts[number].text, .seed = seeds[number] - settings.seed};
    fct_tap tap = {.module = twin.saes.bound[nth].name, .user = &r, .fn = keep_rows};
    fct_run_desc d = {.items = &item,
                      .n_items = 1,
                      .settings = &settings,
                      .taps = &tap,
                      .n_taps = 1,
                      .no_decode = true};
    assert_ok(fct_session_run(twin.session, &d, &result));
    assert_ok(fct_new(&z, r.n * sae->f, (int64_t)sizeof *z));
    for (int step = 1; step <= STEPS; step++) {
        const double *got = sum_at(t, nth, number, step);
        assert_ok(once_dense(sae, r.x[step - 1], r.n, z));
        for (int64_t f = 0; f < sae->f; f++) {
            double want = 0;
            for (int64_t p = 0; p < r.n; p++) want += (double)z[p * sae->f + f];
            if (fabs(want - got[f]) > bound * (1 + fabs(want)))
                fail_msg("picture %d, step %d, SAE %d, feature %d: want %g, got %g", (int)number,
                         step, (int)nth, (int)f, want, got[f]);
        }
        fct_free(r.x[step - 1]);
    }
    fct_free(z);
    fct_run_result_clear(&result);
}

/* Batches of 1, 2 and 5 give what each picture has alone, to within rounding. */
static void test_batches(void **state)
{
    (void)state;
    static const int64_t batch[] = {1, 2, 5};
    for (size_t b = 0; b < FCT_COUNT(batch); b++) {
        told t;
        open_told(&t);
        fct_scan_visitor v = visitor_of(&t, false);
        fct_scan_desc d = desc_of(batch[b]);
        assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
        for (int64_t nth = 0; nth < twin.saes.n; nth++)
            for (int64_t i = 0; i < N; i++) compare_alone(&t, nth, i, 1e-4);
        close_told(&t);
    }
}

/* A scan that draws pictures sees the codes of one that does not, to the byte. */
static void test_pictures_change_nothing(void **state)
{
    (void)state;
    told with, without;
    open_told(&with);
    open_told(&without);
    fct_scan_visitor v = visitor_of(&with, true), w = visitor_of(&without, false);
    fct_scan_desc d = desc_of(2);
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &w, 1));
    assert_memory_equal(with.sum, without.sum,
                        (size_t)(twin.saes.n * N * STEPS * with.most) * sizeof *with.sum);
    close_told(&with);
    close_told(&without);
}

static fct_status on_recipe_codes(void *self, const fct_scan_codes *c)
{
    assert_string_equal(c->item->prompt, "a red circle");
    assert_true(c->item->seed == 42 && c->item->place == 1 && c->item->number == 0);
    assert_true(c->step == 2 && c->visit == 1 && c->visits == 1);
    return fct_str_append((fct_str *)self, c->block);
}

static fct_status on_recipe_picture(void *self, const fct_scan_picture *p)
{
    fct_image im;
    assert_ok(fct_scan_draw(&im, p));
    assert_non_null(fct_image_find_text(&im, "facet"));
    fct_image_clear(&im);
    return fct_str_append((fct_str *)self, "!");
}

/* Of a recipe's batch its own picture alone is visited, in the step that is asked for. */
static void test_recipe(void **state)
{
    (void)state;
    static const char text[] =
        "{\"format\":\"facet-recipe\",\"items\":[{\"prompt\":\"a cat\",\"seed\":1},{\"prompt\":\"a "
        "red circle\",\"seed\":42}],\"index\":1,\"width\":64,\"height\":96,\"steps\":2}";
    fct_recipe recipe;
    fct_str got = {0}, want = {0};
    assert_ok(fct_recipe_parse(&recipe, text, (int64_t)strlen(text), "test"));
    fct_scan_visitor v = {.self = &got, .codes = on_recipe_codes, .picture = on_recipe_picture};
    fct_scan_desc d = {.recipe = &recipe, .step = 2};
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    for (int64_t i = 0; i < twin.saes.n; i++)
        assert_ok(fct_str_append(&want, twin.saes.bound[i].short_name));
    assert_ok(fct_str_append(&want, "!"));
    assert_string_equal(got.p, want.p);
    d.step = 3;
    assert_fails(FCT_ERR_ARG, "step 3 is not there: the recipe has 2",
                 fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    fct_str_clear(&got);
    fct_str_clear(&want);
    fct_recipe_clear(&recipe);
}

/* ---- stores ---- */

/* A store of f32 rows, read in batches like those of the runs that made it, has a scan's codes. */
static void test_store(void **state)
{
    (void)state;
    told live, stored;
    fct_store *store = NULL;
    char out[1024];
    snprintf(out, sizeof out, "%s", temp_path("store"));
    open_told(&live);
    open_told(&stored);
    fct_scan_visitor v = visitor_of(&live, false), w = visitor_of(&stored, false);
    fct_scan_desc d = desc_of(2);
    assert_ok(fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    fct_str blocks = {0};
    for (int64_t i = 0; i < twin.saes.n; i++)
        assert_ok(fct_str_printf(&blocks, "%s%s", i ? "," : "", twin.saes.bound[i].short_name));
    assert_ok(fct_capture(&(fct_capture_desc){.session = twin.session,
                                              .prompts = prompts,
                                              .n_prompts = N,
                                              .blocks = blocks.p,
                                              .settings = &settings,
                                              .store_dtype = FCT_STORE_F32,
                                              .batch = 2,
                                              .out = out},
                          NULL));
    assert_ok(fct_store_open(&store, out));
    assert_ok(fct_scan_store(store, &twin.saes, &(fct_scan_store_desc){.batch = 2}, &w, 1));
    for (int64_t i = 0; i < twin.saes.n * N * STEPS * live.most; i++)
        if (fabs(live.sum[i] - stored.sum[i]) > 1e-4 * (1 + fabs(live.sum[i])))
            fail_msg("sum %d: a run has %g, the store %g", (int)i, live.sum[i], stored.sum[i]);
    /* a part of it: block by block, item by item, step by step */
    stored.text.n = 0;
    stored.only = twin.saes.bound[0].short_name;
    assert_ok(fct_scan_store(store, &twin.saes,
                             &(fct_scan_store_desc){.first = 1, .n = 3, .batch = 2}, &w, 1));
    assert_string_equal(stored.text.p, "begin3 1.0.1.0 1.0.2.0 2.1.1.0 2.1.2.0 3.0.1.0 3.0.2.0 "
                                       "end");
    assert_fails(
        FCT_ERR_ARG, "are not there: it has 5",
        fct_scan_store(store, &twin.saes, &(fct_scan_store_desc){.first = 4, .n = 2}, &w, 1));
    fct_store_close(store);
    fct_str_clear(&blocks);
    close_told(&live);
    close_told(&stored);
    remove_tree(out);
}

/* ---- ends ---- */

static void test_ends(void **state)
{
    (void)state;
    told t;
    open_told(&t);
    fct_scan_visitor v = visitor_of(&t, false);
    fct_log log = {.stop = &t.stop};
    fct_scan_desc d = desc_of(2);
    d.log = &log;
    t.stop_at = 2; /* within the first batch, which runs to its end */
    assert_int_equal(fct_scan_run(twin.session, &twin.saes, &d, &v, 1), FCT_ERR_STOPPED);
    assert_true(t.calls >= 2 && t.calls <= 2 * STEPS * twin.saes.n);
    assert_null(strstr(t.text.p, "end"));
    close_told(&t);
    open_told(&t);
    v.self = &t;
    t.fail_at = 3;
    assert_fails(FCT_ERR_RANGE, "enough of it", fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    assert_int_equal(t.calls, 3);
    assert_null(strstr(t.text.p, "end"));
    d.step = STEPS + 1;
    assert_fails(FCT_ERR_ARG, "step 3 is not there: the runs have 2",
                 fct_scan_run(twin.session, &twin.saes, &d, &v, 1));
    d.step = 0;
    assert_fails(FCT_ERR_ARG, "no SAEs to look with", fct_scan_run(twin.session, NULL, &d, &v, 1));
    close_told(&t);
}

/* Every allocation may fail: a status, no leak. */
static void test_no_memory(void **state)
{
    (void)state;
    fct_status st = FCT_ERR_MEMORY;
    for (int64_t nth = 1; st != FCT_OK; nth++) {
        fct_top top = {0};
        fct_block_feature feature;
        fct_top_desc d = {.feature = &feature,
                          .n_features = 1,
                          .prompts = prompts,
                          .n_prompts = 2,
                          .settings = &settings,
                          .no_pictures = true};
        assert_ok(fct_feature_parse(&feature, twin.model, &twin.saes, "mid.0:105"));
        fct_session_forget(twin.session);
        fct_fault_alloc(nth);
        st = fct_top_run(&top, twin.session, &twin.saes, &d);
        fct_fault_alloc(0);
        if (st != FCT_OK) assert_int_equal(st, FCT_ERR_MEMORY);
        fct_top_clear(&top);
        if (nth > 100000) fail_msg("a scan never ends");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_wants),
                                       cmocka_unit_test(test_work),
                                       cmocka_unit_test(test_batches),
                                       cmocka_unit_test(test_pictures_change_nothing),
                                       cmocka_unit_test(test_recipe),
                                       cmocka_unit_test(test_store),
                                       cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, open_twin, close_twin);
}

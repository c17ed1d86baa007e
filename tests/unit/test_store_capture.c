/* test_store_capture.c - captures of a random twin: rows against the tap itself, the same bytes
   after a stop and after faults, and what is refused. */
#include "fct_test.h"
#include "store/store.h"
#include "twin.h"

static char folder[1024], golden[1024];
static fct_model *model;
static fct_session *session;
static const fct_prompt prompts[] = {
    {"a red cat", 0, false}, {"two dogs", 99, true}, {"a house by the sea", 0, false},
    {"", 0, false},          {"green", 0, false},    {"a small blue boat", 0, false},
    {"night", 0, false},
};

static int open_twin(void **state)
{
    (void)state;
    fct_threads_set(1); /* the same bytes and, on a busy machine, much faster */
    snprintf(folder, sizeof folder, "%s", temp_path("twin"));
    snprintf(golden, sizeof golden, "%s", test_path("golden/twin/a.json"));
    assert_ok(twin_write(golden, folder));
    assert_ok(fct_model_open(
        &model, &(fct_model_desc){.path = folder, .no_vae = true, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_session_open(&session, model, NULL));
    return 0;
}

static int close_twin(void **state)
{
    fct_session_close(session);
    fct_model_close(model);
    remove_tree(folder);
    return temp_clear(state);
}

static const int64_t at_steps[] = {1, 3};

static const fct_settings settings = {.steps = 3, .guidance = 4, .seed = 5},
                          other_seed = {.steps = 3, .guidance = 4, .seed = 6};

/* Settings that change rows, each as a whole. */
#define SAME .steps = 3, .guidance = 4, .seed = 5
static const fct_settings others[] = {{SAME, .noise_dtype = FCT_NOISE_BF16},
                                      {SAME, .joint_noise = true},
                                      {SAME, .negative_2 = "blurry"},
                                      {SAME, .original_width = 64, .original_height = 64},
                                      {SAME, .crop_left = 64},
                                      {SAME, .target_width = 64, .target_height = 64}};
static const char *const other_names[] = {"noise_dtype",   "joint_noise", "negative_2",
                                          "original_size", "crop",        "target_size"};

static fct_capture_desc desc_of(const char *out)
{
    return (fct_capture_desc){.session = session,
                              .prompts = prompts,
                              .n_prompts = FCT_COUNT(prompts),
                              .blocks = "down.2.1,up.0.0",
                              .settings = &settings,
                              .at_steps = at_steps,
                              .n_at_steps = 2,
                              .branch = FCT_HALF_BOTH,
                              .batch = 2,
                              .store_dtype = FCT_STORE_F32,
                              .shard_bytes = 1, /* a batch a shard */
                              .out = out};
}

/* ---- rows ---- */

typedef struct seen {
    float *map[4]; /* by step 1..3 */
    int64_t size;
} seen;

static fct_status keep(void *user, const fct_tap_event *e, fct_tensor *value)
{
    seen *s = user;
    s->size = fct_tensor_count(value);
    FCT_TRY(fct_new(&s->map[e->step], s->size, sizeof(float)));
    memcpy(s->map[e->step], value->data, (size_t)s->size * sizeof(float));
    return FCT_OK;
}

static void test_rows(void **state)
{
    (void)state;
    char out[1024];
    snprintf(out, sizeof out, "%s", temp_path("rows"));
    fct_capture_desc desc = desc_of(out);
    fct_capture_report report;
    fct_store *s;
    assert_ok(fct_capture(&desc, &report));
    assert_ok(fct_store_open(&s, out));
    const fct_store_info *info = fct_store_get_info(s);
    assert_int_equal(info->n_blocks, 2);
    assert_int_equal(info->n_prompts, 7);
    assert_int_equal(info->prompt[1].seed, 99);
    assert_int_equal(info->prompt[2].seed, 7);
    assert_string_equal(info->what, "delta");
    assert_int_equal(report.rows, info->block[0].rows + info->block[1].rows);
    for (int64_t b = 0; b < 2; b++) {
        const fct_store_block *k = &info->block[b];
        int64_t cells = k->grid_h * k->grid_w;
        assert_int_equal(k->rows_per_prompt, 4 * cells);
        assert_int_equal(k->rows, 7 * 4 * cells);
        /* prompts 2 and 3 ran as one batch: the same run, tapped by hand */
        seen got = {0};
        fct_run_result r = {0};
        fct_tap tap = {.module = k->full_name, .what = FCT_TAP_DELTA, .user = &got, .fn = keep};
        fct_run_item items[] = {{.prompt = prompts[2].text, .seed = 7}, {.prompt = "", .seed = 8}};
        assert_ok(
            fct_session_run(session,
                            &(fct_run_desc){.items = items,
                                            .n_items = 2,
                                            .settings = &(fct_settings){.steps = 3, .guidance = 4},
                                            .taps = &tap,
                                            .n_taps = 1,
                                            .no_decode = true},
                            &r));
        fct_run_result_clear(&r);
        assert_int_equal(got.size, 4 * cells * k->d);
        float *rows;
        fct_row_meta *meta;
        assert_ok(fct_new(&rows, k->rows_per_prompt * k->d, sizeof *rows));
        assert_ok(fct_new(&meta, k->rows_per_prompt, sizeof *meta));
        for (int64_t item = 0; item < 2; item++) {
            assert_ok(fct_store_read(s, b, (2 + item) * k->rows_per_prompt, k->rows_per_prompt,
                                     rows, meta));
            for (int64_t i = 0; i < k->rows_per_prompt; i++) {
                int64_t step = i / (2 * cells) == 0 ? 1 : 3, branch = i / cells % 2,
                        cell = i % cells;
                assert_int_equal(meta[i].prompt, 2 + item);
                assert_int_equal(meta[i].step, step);
                assert_int_equal(meta[i].branch, branch);
                assert_int_equal(meta[i].y, cell / k->grid_w);
                assert_int_equal(meta[i].x, cell % k->grid_w);
                const float *want = got.map[step] + ((branch * 2 + item) * cells + cell) * k->d;
                assert_memory_equal(rows + i * k->d, want, (size_t)k->d * sizeof *rows);
            }
        }
        for (int i = 0; i < 4; i++) fct_free(got.map[i]);
        fct_free(rows);
        fct_free(meta);
    }
    fct_store_close(s);
    assert_ok(fct_capture(&desc, &report)); /* again: it is there */
    assert_true(report.was_complete);
    desc.settings = &other_seed;
    assert_fails(FCT_ERR_ARG, "seed differs", fct_capture(&desc, NULL));
    desc.settings = &settings;
    for (size_t i = 0; i < FCT_COUNT(others); i++) {
        desc.settings = &others[i];
        assert_fails(FCT_ERR_ARG, other_names[i], fct_capture(&desc, NULL));
    }
    desc.settings = &settings;
    desc.n_prompts--; /* other rows in every block too, but that is not what the caller changed */
    assert_fails(FCT_ERR_ARG, "prompts differs", fct_capture(&desc, NULL));
    remove_tree(out);
}

/* ---- stopping ---- */

static void assert_same_file(const char *a, const char *b)
{
    char *x, *y;
    int64_t n, m;
    assert_ok(fct_file_read(&x, &n, a));
    assert_ok(fct_file_read(&y, &m, b));
    assert_int_equal(n, m);
    assert_memory_equal(x, y, (size_t)n);
    fct_free(x);
    fct_free(y);
}

static void assert_same_store(const char *a, const char *b)
{
    static const char *const part[] = {"store.json", "down.2.1", "up.0.0"};
    char **names, x[1200], y[1200];
    int64_t n;
    assert_ok(fct_dir_list(&names, &n, b));
    assert_int_equal(n, 3); /* no progress.json, nothing unfinished */
    fct_names_free(names, n);
    snprintf(x, sizeof x, "%s/%s", a, part[0]);
    snprintf(y, sizeof y, "%s/%s", b, part[0]);
    assert_same_file(x, y);
    for (int p = 1; p < 3; p++) {
        snprintf(x, sizeof x, "%s/%s", b, part[p]);
        assert_ok(fct_dir_list(&names, &n, x));
        assert_int_equal(n, 4); /* 7 prompts in batches of 2 */
        for (int64_t i = 0; i < n; i++) {
            snprintf(x, sizeof x, "%s/%s/%s", a, part[p], names[i]);
            snprintf(y, sizeof y, "%s/%s/%s", b, part[p], names[i]);
            assert_same_file(x, y);
        }
        fct_names_free(names, n);
    }
}

typedef struct stopper {
    int left;
    volatile int flag;
} stopper;

static void count_down(void *user, const char *what, int64_t done, int64_t total)
{
    stopper *s = user;
    (void)done;
    (void)total;
    if (strcmp(what, "capture") == 0 && --s->left == 0) s->flag = 1;
}

static void test_continues(void **state)
{
    (void)state;
    char whole[1024], part[1024], junk[1200];
    snprintf(whole, sizeof whole, "%s", temp_path("whole"));
    snprintf(part, sizeof part, "%s", temp_path("part"));
    fct_capture_desc desc = desc_of(whole);
    fct_capture_report report;
    fct_store *s;
    assert_ok(fct_capture(&desc, NULL));
    desc.out = part;
    stopper stop = {.left = 2};
    fct_log log = {.user = &stop, .progress = count_down, .stop = &stop.flag};
    desc.log = &log;
    assert_fails(FCT_ERR_STOPPED, "", fct_capture(&desc, NULL));
    stop.flag = 0;
    assert_fails(FCT_ERR_MISSING, "not finished", fct_store_open(&s, part));
    desc.settings = &other_seed;
    assert_fails(FCT_ERR_ARG, "other options", fct_capture(&desc, NULL));
    desc.settings = &settings;
    /* what a kill leaves behind: an unfinished file, and a shard of one block only */
    snprintf(junk, sizeof junk, "%s/down.2.1/00002.safetensors.tmp-1-0", part);
    assert_ok(fct_file_write(junk, "x", 1));
    snprintf(junk, sizeof junk, "%s/up.0.0/00002.safetensors", part);
    assert_ok(fct_file_write(junk, "x", 1));
    assert_ok(fct_capture(&desc, &report));
    assert_int_equal(report.resumed_at, 4);
    assert_same_store(whole, part);
    snprintf(junk, sizeof junk, "%s/progress.json", part); /* killed after store.json was there */
    assert_ok(fct_file_write(junk, "{}", 2));
    assert_ok(fct_capture(&desc, &report));
    assert_true(report.was_complete);
    assert_same_store(whole, part);
    remove_tree(part);
    for (int64_t nth = 1;;
         nth++) { /* every write may fail: it goes on afterwards, to the same bytes */
        fct_fault_write(nth * 3);
        fct_status st = fct_capture(&desc, NULL);
        fct_fault_write(0);
        if (st == FCT_OK) break;
        assert_int_equal(st, FCT_ERR_IO);
        if (nth > 60) fail_msg("the capture never ends");
    }
    assert_same_store(whole, part);
    remove_tree(part);
    remove_tree(whole);
}

static void test_refuses(void **state)
{
    (void)state;
    char out[1024];
    snprintf(out, sizeof out, "%s", temp_path("refused"));
    static const int64_t beyond[] = {1, 4}, twice[] = {2, 2};
    const fct_capture_desc good = desc_of(out);
    fct_capture_desc d = good;
    d.n_prompts = 0;
    assert_fails(FCT_ERR_ARG, "no prompts", fct_capture(&d, NULL));
    d = good;
    d.at_steps = beyond;
    assert_fails(FCT_ERR_ARG, "step 4 is not among", fct_capture(&d, NULL));
    d.at_steps = twice;
    assert_fails(FCT_ERR_ARG, "must ascend", fct_capture(&d, NULL));
    d = good;
    d.settings = &(fct_settings){.steps = 3, .guidance = 1};
    assert_fails(FCT_ERR_ARG, "needs guidance above 1", fct_capture(&d, NULL));
    d = good;
    d.blocks = "down.9.9";
    assert_fails(FCT_ERR_MISSING, "down.9.9", fct_capture(&d, NULL));
    d = good;
    d.settings = &(fct_settings){.steps = 3, .guidance = 4, .width = 33};
    assert_fails(FCT_ERR_ARG, "multiples of", fct_capture(&d, NULL));
    d = good;
    d.store_dtype = (fct_store_dtype)(FCT_STORE_I8 + 1);
    assert_fails(FCT_ERR_ARG, "want f16, bf16, f32 or i8", fct_capture(&d, NULL));
    d = good;
    d.out = folder;
    assert_fails(FCT_ERR_ARG, "not empty and not a store", fct_capture(&d, NULL));
    d.out = golden;
    assert_fails(FCT_ERR_ARG, "is a file", fct_capture(&d, NULL));
    assert_false(fct_path_exists(out)); /* nothing was begun */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_continues),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, open_twin, close_twin);
}

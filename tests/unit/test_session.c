/* test_session.c - what must hold of sessions: a run that begins at a kept moment ends with the
   bytes of the whole run, whatever differs behind it; nothing that could differ before it is ever
   taken from there; texts are encoded once; what is kept stays within its budget. */
#include <pthread.h>

#include "fct_test.h"
#include "twin.h"

#include "facet/session.h"

typedef struct fixture {
    fct_model *m;
    fct_session *s;
} fixture;

static void open_twin(fixture *f, const char *name, fct_precision precision, int64_t keep)
{
    char path[64], folder[1024];
    snprintf(path, sizeof path, "golden/twin/%s.json", name);
    snprintf(folder, sizeof folder, "%s", temp_path(name));
    assert_ok(twin_write(test_path(path), folder));
    assert_ok(fct_model_open(&f->m, &(fct_model_desc){.path = folder, .precision = precision}));
    assert_ok(fct_session_open(&f->s, f->m, &(fct_session_desc){.keep_bytes = keep}));
}

static void close_twin(fixture *f)
{
    fct_session_close(f->s);
    fct_model_close(f->m);
}

static fct_session_counts counts(const fixture *f)
{
    fct_session_counts c;
    fct_session_count(f->s, &c);
    return c;
}

/* The run in a session of its own, which has nothing to start from. */
static void run_alone(const fixture *f, const fct_run_desc *d, fct_run_result *r)
{
    fct_session *s = NULL;
    assert_ok(fct_session_open(&s, f->m, &(fct_session_desc){.keep_bytes = FCT_NONE}));
    assert_ok(fct_session_run(s, d, r));
    fct_session_close(s);
}

/* Runs in the fixture's session; the bytes must be those of the run alone. */
static void run_same(const fixture *f, const char *what, const fct_run_desc *d)
{
    fct_run_result here, alone;
    assert_ok(fct_session_run(f->s, d, &here));
    run_alone(f, d, &alone);
    int64_t n = fct_tensor_bytes(&alone.latents);
    assert_int_equal(fct_tensor_bytes(&here.latents), n);
    if (n > 0 && memcmp(here.latents.data, alone.latents.data, (size_t)n) != 0)
        fail_msg("%s: other bytes than the run alone", what);
    fct_run_result_clear(&here);
    fct_run_result_clear(&alone);
}

/* ---- an edit that scales a value, and a listener ---- */

typedef struct scaling {
    float by;
    char key[32];
    int64_t calls;
} scaling;

static fct_status scale(void *user, const fct_tap_event *event, fct_tensor *value)
{
    scaling *s = user;
    float *v = value->data;
    (void)event;
    s->calls++;
    for (int64_t i = 0; i < fct_tensor_count(value); i++) v[i] *= s->by;
    return FCT_OK;
}

static fct_tap edit_tap(scaling *s, const char *block, float by)
{
    s->by = by;
    snprintf(s->key, sizeof s->key, "scale %g", (double)by);
    return (fct_tap){.module = block,
                     .what = FCT_TAP_DELTA,
                     .edits = true,
                     .key = s->key,
                     .user = s,
                     .fn = scale};
}

static fct_status count_call(void *user, const fct_tap_event *event, fct_tensor *value)
{
    (void)event;
    (void)value;
    ++*(int *)user;
    return FCT_OK;
}

static const fct_run_item items[2] = {{.prompt = "a dog", .seed = 4},
                                      {.prompt = "snow", .seed = 8}};

static const fct_settings usual_settings = {.width = 56, .height = 72, .steps = 3, .guidance = 4};

static fct_run_desc usual(void)
{
    return (fct_run_desc){
        .items = items, .n_items = 2, .settings = &usual_settings, .no_decode = true};
}

/* ---- moments ---- */

/* Behind every block and in both number types: the same edit again, another strength, from a step
   of its own on. */
static void test_redone(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        fixture f;
        open_twin(&f, "a", p ? FCT_PRECISION_BF16 : FCT_PRECISION_F32, 0);
        const fct_model_info *info = fct_model_get_info(f.m);
        for (int64_t b = 0; b < info->n_blocks; b++)
            for (int64_t first = 0; first <= 3; first += 3) {
                scaling edit = {0};
                fct_tap tap = edit_tap(&edit, info->block[b].short_name, 2);
                tap.first_step = first;
                fct_run_desc d = usual();
                d.taps = &tap;
                d.n_taps = 1;
                fct_session_forget(f.s);
                run_same(&f, "first", &d);
                fct_session_counts before = counts(&f);
                run_same(&f, "again", &d);
                tap = edit_tap(&edit, info->block[b].short_name, -1);
                tap.first_step = first;
                run_same(&f, "another strength", &d);
                fct_session_counts after = counts(&f);
                assert_int_equal(after.resumed - before.resumed, 2);
                int64_t steps = first ? 1 : 3;
                assert_int_equal(after.stages - before.stages,
                                 2 * (steps * info->n_stages - info->block[b].stage));
            }
        close_twin(&f);
    }
}

/* The clean run keeps moments at the blocks it is told; any edit of any of them starts there, and a
   change of the second of two edits does not run the first one's block again. */
static void test_chain(void **state)
{
    (void)state;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32, 0);
    const fct_model_info *info = fct_model_get_info(f.m);
    fct_run_desc d = usual();
    d.keep = "*";
    run_same(&f, "clean", &d);
    d.keep = NULL;
    scaling early = {0}, late = {0};
    fct_tap taps[2];
    d.taps = taps;
    const fct_block_info *first = &info->block[0], *last = &info->block[info->n_blocks - 1];
    d.n_taps = 1;
    for (int64_t b = 0; b < info->n_blocks; b++) {
        fct_session_counts before = counts(&f);
        taps[0] = edit_tap(&early, info->block[b].name, 0);
        run_same(&f, "an edit of a clean run", &d);
        assert_int_equal(counts(&f).stages - before.stages,
                         3 * info->n_stages - info->block[b].stage);
    }
    d.n_taps = 2;
    taps[0] = edit_tap(&early, first->name, 3);
    taps[1] = edit_tap(&late, last->name, 3);
    run_same(&f, "two edits", &d);
    fct_session_counts before = counts(&f);
    taps[1] = edit_tap(&late, last->name, 5);
    run_same(&f, "the second changed", &d);
    assert_int_equal(counts(&f).stages - before.stages, 3 * info->n_stages - last->stage);
    before = counts(&f);
    taps[0] = edit_tap(&early, first->name, 7);
    run_same(&f, "the first changed", &d);
    assert_int_equal(counts(&f).stages - before.stages, 3 * info->n_stages - first->stage);
    close_twin(&f);
}

/* Whatever a run follows from besides its edits: no moment of another run serves. */
static void test_other_runs(void **state)
{
    (void)state;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32, 0);
    fct_run_desc base = usual();
    base.keep = "*";
    run_same(&f, "the run", &base);
    static const fct_run_item other_seed[2] = {{.prompt = "a dog", .seed = 4},
                                               {.prompt = "snow", .seed = 9}},
                              other_text[2] = {{.prompt = "a dog", .seed = 4},
                                               {.prompt = "rain", .seed = 8}};
    float noise[2 * 4 * 7 * 9] = {1};
    fct_settings settings[7];
    int n_settings = 0, n = 0;
    for (size_t i = 0; i < FCT_COUNT(settings); i++) settings[i] = usual_settings;
    settings[n_settings++].seed = 1;
    settings[n_settings++].steps = 2;
    settings[n_settings++].guidance = 5;
    settings[n_settings++].negative = "hat";
    settings[n_settings++].joint_noise = true;
    settings[n_settings++].noise_dtype = FCT_NOISE_F16;
    settings[n_settings++].crop_top = 8;
    fct_run_desc other[11];
    for (size_t i = 0; i < FCT_COUNT(other); i++) other[i] = base;
    other[n++].items = other_seed;
    other[n++].items = other_text;
    other[n++].n_items = 1;
    other[n++].init_noise = noise;
    for (int i = 0; i < n_settings; i++) other[n++].settings = &settings[i];
    for (int i = 0; i < n; i++) {
        int64_t resumed = counts(&f).resumed;
        run_same(&f, "another run", &other[i]);
        if (counts(&f).resumed != resumed) fail_msg("run %d began at another run's moment", i);
    }
    int64_t resumed = counts(&f).resumed;
    run_same(&f, "the run again", &base);
    assert_int_equal(counts(&f).resumed, resumed + 1);
    close_twin(&f);
}

/* With trailing spacing 61 steps are really 62, at other times than those of 62: two runs of as
   many steps that follow different schedules. */
static void test_schedules(void **state)
{
    (void)state;
    fixture f;
    char path[1024];
    scaling edit = {0};
    fct_tap tap = edit_tap(&edit, "up.0.1", 0);
    fct_settings settings = {.width = 64, .height = 64};
    fct_run_desc d = {.items = items,
                      .n_items = 1,
                      .settings = &settings,
                      .taps = &tap,
                      .n_taps = 1,
                      .no_decode = true};
    snprintf(path, sizeof path, "%s/models/demo", FCT_SOURCE_DIR);
    assert_ok(fct_model_open(
        &f.m, &(fct_model_desc){.path = path, .no_vae = true, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_session_open(&f.s, f.m, NULL));
    tap.first_step = 60;
    for (settings.steps = 61; settings.steps <= 62; settings.steps++) run_same(&f, "steps", &d);
    assert_int_equal(counts(&f).resumed, 0);
    tap.first_step = 63;
    fct_run_result r;
    assert_fails(FCT_ERR_ARG, "a tap on up.0.1 begins in step 63 of a run of 62",
                 fct_session_run(f.s,
                                 &(fct_run_desc){.items = items,
                                                 .n_items = 1,
                                                 .settings = &(fct_settings){.steps = 62},
                                                 .taps = &tap,
                                                 .n_taps = 1,
                                                 .no_decode = true},
                                 &r));
    close_twin(&f);
}

/* A tap that only looks, or edits without a key, is called as often as in a run alone. */
static void test_listeners(void **state)
{
    (void)state;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32, 0);
    const fct_model_info *info = fct_model_get_info(f.m);
    fct_run_desc d = usual();
    d.keep = "*";
    run_same(&f, "clean", &d);
    for (int64_t b = 0; b < info->n_blocks; b++) {
        int calls = 0;
        fct_tap tap = {
            .module = info->block[b].name, .what = FCT_TAP_DELTA, .user = &calls, .fn = count_call};
        d.taps = &tap;
        d.n_taps = 1;
        int64_t stages = counts(&f).stages;
        run_same(&f, "a listener", &d);
        assert_int_equal(calls, 2 * 3);
        assert_int_equal(counts(&f).stages - stages, 3 * info->n_stages - info->block[b].stage);
        tap.first_step = tap.last_step = 2;
        run_same(&f, "a listener of one step", &d);
        assert_int_equal(calls, 2 * 4);
        tap.what = FCT_TAP_IN; /* lies before the block's moment */
        tap.first_step = tap.last_step = 0;
        calls = 0;
        run_same(&f, "a listener of what goes in", &d);
        assert_int_equal(calls, 2 * 3);
    }
    scaling edit = {0};
    fct_tap tap = edit_tap(&edit, info->block[0].name, 2);
    tap.key = NULL;
    d.taps = &tap;
    for (int i = 0; i < 2; i++) {
        edit.by = 2 + (float)i;
        run_same(&f, "an edit without a key", &d);
        assert_int_equal(edit.calls, 6 * (i + 1));
    }
    close_twin(&f);
}

static void test_stopped_early(void **state)
{
    (void)state;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32, 0);
    const fct_model_info *info = fct_model_get_info(f.m);
    fct_run_desc d = usual();
    d.keep = "*";
    run_same(&f, "clean", &d);
    int calls = 0;
    fct_tap tap = {
        .module = info->block[0].name, .what = FCT_TAP_DELTA, .user = &calls, .fn = count_call};
    d.taps = &tap;
    d.n_taps = 1;
    d.stop_after_taps = true;
    d.stop_step = 1;
    fct_run_result r;
    int64_t stages = counts(&f).stages;
    assert_ok(fct_session_run(f.s, &d, &r));
    assert_int_equal(calls, 1);
    assert_int_equal(counts(&f).stages - stages, 1);
    assert_null(r.latents.data);
    fct_run_result_clear(&r);
    close_twin(&f);
}

/* ---- texts, budget ---- */

static void test_texts(void **state)
{
    (void)state;
    fixture f;
    open_twin(&f, "b", FCT_PRECISION_F32, 0);
    fct_run_desc d = usual();
    fct_settings settings = {.steps = 3, .guidance = 4, .negative = "hat"};
    d.settings = &settings;
    run_same(&f, "first", &d);
    assert_int_equal(counts(&f).texts, 3);
    static const fct_run_item same[2] = {{.prompt = "a dog", .seed = 1},
                                         {.prompt = "snow", .seed = 2}};
    d.items = same;
    settings.steps = 1;
    run_same(&f, "the same prompts with other seeds", &d);
    assert_int_equal(counts(&f).texts, 3);
    settings.negative = "cap";
    run_same(&f, "another negative", &d);
    assert_int_equal(counts(&f).texts, 6);
    close_twin(&f);
}

static void test_budget(void **state)
{
    (void)state;
    fixture f;
    const int64_t budget = 400000;
    open_twin(&f, "a", FCT_PRECISION_F32, budget);
    fct_run_desc d = usual();
    d.keep = "*";
    for (int i = 0; i < 6; i++) {
        const fct_run_item item[2] = {{.prompt = "a dog", .seed = (uint64_t)i},
                                      {.prompt = "snow", .seed = 7}};
        d.items = item;
        run_same(&f, "within a budget", &d);
        assert_in_range(counts(&f).kept_bytes, 1, budget);
    }
    close_twin(&f);
    open_twin(&f, "a", FCT_PRECISION_F32, FCT_NONE);
    d = usual();
    d.keep = "*";
    for (int i = 0; i < 2; i++) run_same(&f, "nothing is kept", &d);
    assert_int_equal(counts(&f).kept_bytes, 0);
    assert_int_equal(counts(&f).resumed, 0);
    close_twin(&f);
    fct_session *s = NULL;
    assert_fails(FCT_ERR_ARG, "needs a model", fct_session_open(&s, NULL, NULL));
}

/* Algorithms may depend on the threads, so a session's plan is that of its own number of them. */
static void test_plan(void **state)
{
    (void)state;
    fixture f;
    fct_session *one = NULL, *four = NULL, *same = NULL;
    open_twin(&f, "a", FCT_PRECISION_F32, 0);
    assert_int_equal(fct_session_threads(f.s), fct_threads());
    assert_string_equal(fct_session_plan(f.s), fct_model_get_info(f.m)->plan);
    assert_ok(fct_session_open(&one, f.m, &(fct_session_desc){.threads = 1}));
    assert_ok(fct_session_open(&four, f.m, &(fct_session_desc){.threads = 4}));
    assert_ok(fct_session_open(&same, f.m, &(fct_session_desc){.threads = 4}));
    assert_int_equal(fct_session_threads(four), 4);
    assert_string_equal(fct_session_plan(four), fct_session_plan(same));
#ifdef _OPENMP
    assert_string_not_equal(fct_session_plan(one), fct_session_plan(four));
#endif
    assert_int_equal(fct_session_threads(f.s), fct_threads());
    fct_session_close(one);
    fct_session_close(four);
    fct_session_close(same);
    close_twin(&f);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 3 };

typedef struct caller {
    pthread_t thread;
    const fct_model *m;
    uint64_t seed;
    fct_run_result result;
    fct_status st;
} caller;

static fct_status run_seed(fct_session *s, uint64_t seed, fct_run_result *r)
{
    const fct_run_item item[2] = {{.prompt = "a dog", .seed = seed}, {.prompt = "snow", .seed = 8}};
    fct_run_desc d = usual();
    d.items = item;
    return fct_session_run(s, &d, r);
}

static void *call(void *user)
{
    caller *c = user;
    fct_session *s = NULL;
    fct_threads_set(1);
    c->st = fct_session_open(&s, c->m, NULL);
    for (int i = 0; i < ROUNDS && c->st == FCT_OK; i++) {
        fct_run_result_clear(&c->result);
        c->st = run_seed(s, c->seed, &c->result);
    }
    fct_session_close(s);
    return NULL;
}

/* Sessions of one model on threads at the same time: each has the bytes of the same run alone. */
static void test_threads(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        fixture f;
        caller c[THREADS] = {0};
        fct_threads_set(1);
        open_twin(&f, "a", p ? FCT_PRECISION_BF16 : FCT_PRECISION_F32, FCT_NONE);
        for (int i = 0; i < THREADS; i++) {
            c[i].m = f.m;
            c[i].seed = (uint64_t)i;
            assert_int_equal(pthread_create(&c[i].thread, NULL, call, &c[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            fct_run_result alone;
            assert_int_equal(pthread_join(c[i].thread, NULL), 0);
            assert_int_equal(c[i].st, FCT_OK);
            assert_ok(run_seed(f.s, c[i].seed, &alone));
            assert_memory_equal(c[i].result.latents.data, alone.latents.data,
                                (size_t)fct_tensor_bytes(&alone.latents));
            fct_run_result_clear(&alone);
            fct_run_result_clear(&c[i].result);
        }
        close_twin(&f);
        fct_threads_set(0);
    }
}

/* A layer whose inside is tapped runs unfused in every step, also those that the tap leaves out. */
static void test_inner_taps(void **state)
{
    (void)state;
    static const char *const modules[] = {"unet.time_embedding.linear_1",
                                          "unet.mid_block.attentions.0.transformer_blocks.0.attn1"};
    for (size_t i = 0; i < FCT_COUNT(modules); i++)
        for (int order = 0; order < 2; order++) {
            fixture f;
            int calls = 0;
            fct_tap tap = {.module = modules[i],
                           .what = FCT_TAP_OUT,
                           .first_step = 3,
                           .user = &calls,
                           .fn = count_call};
            fct_run_desc plain = usual(), tapped = usual();
            plain.keep = tapped.keep = "up.0.0";
            tapped.taps = &tap;
            tapped.n_taps = 1;
            open_twin(&f, "a", FCT_PRECISION_BF16, 0);
            run_same(&f, modules[i], order ? &tapped : &plain);
            run_same(&f, modules[i], order ? &plain : &tapped);
            close_twin(&f);
        }
}

static void test_refused(void **state)
{
    (void)state;
    fixture f;
    fct_session *s;
    open_twin(&f, "a", FCT_PRECISION_F32, 0);
    assert_fails(FCT_ERR_ARG, "a session of 1025 threads: want 1 to 1024",
                 fct_session_open(&s, f.m, &(fct_session_desc){.threads = 1025}));
    assert_null(s);
    /* texts are bytes, the negative one too */
    fct_settings odd = usual_settings;
    fct_run_desc d = usual();
    odd.negative = "\xff blurry";
    d.settings = &odd;
    run_same(&f, "a negative prompt that is not UTF-8", &d);
    close_twin(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redone),        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_other_runs),    cmocka_unit_test(test_listeners),
        cmocka_unit_test(test_stopped_early), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_budget),        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_inner_taps),    cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

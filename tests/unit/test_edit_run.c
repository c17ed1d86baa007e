/* test_edit_run.c - edited runs of a twin: what must change no byte, batches and reuse of compiled
   edits, recipes that replay to the same pixels, and what is refused. */
#include <pthread.h>

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

static fct_status run_texts(fct_run_result *r, const fct_run_desc *d, const char *const *texts,
                            int n)
{
    fct_edit edits[4];
    for (int i = 0; i < n; i++) {
        assert_ok(fct_edit_parse(&edits[i], texts[i]));
        assert_ok(fct_edit_load(&edits[i], test_path("golden/edit")));
    }
    fct_status st = fct_edit_run(twin.session, d, edits, n, &twin.saes, r);
    for (int i = 0; i < n; i++) fct_edit_clear(&edits[i]);
    return st;
}

static void assert_same_latents(const fct_run_result *a, const fct_run_result *b)
{
    assert_int_equal(fct_tensor_bytes(&a->latents), fct_tensor_bytes(&b->latents));
    assert_memory_equal(a->latents.data, b->latents.data, (size_t)fct_tensor_bytes(&a->latents));
}

typedef struct quiet { /* finds a feature that is nowhere active in the block, and one that is */
    const fct_sae *sae;
    bool *active;
} quiet;

static fct_status mark_active(void *user, const fct_tap_event *event, fct_tensor *value)
{
    quiet *q = user;
    float *z = NULL;
    int64_t n = fct_tensor_count(value) / q->sae->d;
    (void)event;
    FCT_TRY(fct_new(&z, n * q->sae->f, (int64_t)sizeof *z));
    fct_status st = once_dense(q->sae, value->data, n, z);
    for (int64_t i = 0; st == FCT_OK && i < n * q->sae->f; i++)
        if (z[i] > 0) q->active[i % q->sae->f] = true;
    fct_free(z);
    return st;
}

static int64_t quiet_feature(const fct_run_desc *desc)
{
    fct_run_desc d = *desc;
    fct_run_result r;
    quiet q = {0};
    int64_t f = 0;
    q.sae = fct_sae_set_find(&twin.saes, "up.0.1");
    assert_ok(fct_new(&q.active, q.sae->f, (int64_t)sizeof *q.active));
    fct_tap tap = {.module = "up.0.1", .what = FCT_TAP_DELTA, .user = &q, .fn = mark_active};
    d.taps = &tap;
    d.n_taps = 1;
    assert_ok(fct_session_run(twin.session, &d, &r));
    fct_run_result_clear(&r);
    while (f < q.sae->f && q.active[f]) f++;
    fct_free(q.active);
    assert_true(f < q.sae->f);
    return f;
}

static void test_no_byte(void **state)
{
    (void)state;
    static const char *const names[] = {"one", "guided"};
    for (int s = 0; s < 2; s++) {
        fct_settings settings;
        fct_run_desc d;
        fct_run_item items[4];
        fct_run_result clean, r;
        char ablate[64];
        read_setting(&d, &settings, items, &twin, "a", names[s]);
        snprintf(ablate, sizeof ablate, "up.0.1:%d x0", (int)quiet_feature(&d));
        assert_ok(fct_session_run(twin.session, &d, &clean));
        const char *const texts[] = {"mid.0:5 +0",
                                     "mid.0:5 -0 @mask.png",
                                     "mid.0:5 x1",
                                     "up.0.1:7 x1 static",
                                     ablate,
                                     "mid.0 zero @map:5>1e9",
                                     s ? "mid.0 from source-guided.json:3,4 x0"
                                       : "mid.0 from source-one.json:3,4 x0"};
        for (size_t i = 0; i < FCT_COUNT(texts); i++) {
            assert_ok(run_texts(&r, &d, &texts[i], 1));
            assert_same_latents(&r, &clean);
            fct_run_result_clear(&r);
        }
        const char *const several[] = {"mid.0:5 +0", "up.0.1:7 x1", "down.2.1:3 x1 static"};
        assert_ok(run_texts(&r, &d, several, 3));
        assert_same_latents(&r, &clean);
        fct_run_result_clear(&r);
        fct_run_result_clear(&clean);
    }
}

static void test_order(void **state)
{
    (void)state;
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result a, b;
    const char *const one[] = {"mid.0:5 +2.3", "mid.0:9 x-1.7 @mask.png", "mid.0 rebuild",
                               "up.0.1:3 +1"};
    const char *const two[] = {"up.0.1:3 +1", "mid.0 rebuild", "mid.0:9 x-1.7 @mask.png",
                               "mid.0:5 +2.3"};
    read_setting(&d, &settings, items, &twin, "a", "three");
    assert_ok(run_texts(&a, &d, one, 4));
    assert_ok(run_texts(&b, &d, two, 4));
    assert_same_latents(&a, &b);
    fct_run_result_clear(&a);
    fct_run_result_clear(&b);
}

/* Two masks that share out the picture do what no mask does. */
static void test_mask_sum(void **state)
{
    (void)state;
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result whole, parts;
    const char *const two[] = {"mid.0:5 +3 @box:0,0,0.37,1", "mid.0:5 +3 @box:0.37,0,1,1"};
    read_setting(&d, &settings, items, &twin, "a", "one");
    assert_ok(run_texts(&whole, &d, (const char *const[]){"mid.0:5 +3"}, 1));
    assert_ok(run_texts(&parts, &d, two, 2));
    assert_true(rel_l2(parts.latents.data, whole.latents.data, NULL,
                       fct_tensor_count(&whole.latents)) < 1e-5);
    fct_run_result_clear(&whole);
    fct_run_result_clear(&parts);
}

/* A batch's pictures are what they are alone (other products, so not the same bytes), and compiled
 * edits serve many runs. */
static void test_batch(void **state)
{
    (void)state;
    fct_edit e[2];
    fct_edit_set *set = NULL;
    fct_run_result all, one, again;
    fct_run_item items[2] = {{.prompt = "a dog", .seed = 1}, {.prompt = "the sea", .seed = 2}};
    fct_run_desc d = {.items = items,
                      .n_items = 2,
                      .settings =
                          &(fct_settings){.width = 96, .height = 64, .steps = 2, .guidance = 3},
                      .no_decode = true};
    assert_ok(fct_edit_parse(&e[0], "mid.0:5 x-3 static"));
    assert_ok(fct_edit_parse(&e[1], "down.2.1:9 +4 @ellipse:0.1,0.2,0.9,0.8"));
    assert_ok(fct_edit_run(twin.session, &d, e, 2, &twin.saes, &all));
    assert_ok(fct_edit_set_open(&set, twin.session, &d, e, 2, &twin.saes));
    d.taps = fct_edit_set_taps(set, &d.n_taps);
    for (int i = 0; i < 2; i++) {
        assert_ok(fct_session_run(twin.session, &d, &again));
        assert_same_latents(&all, &again);
        fct_run_result_clear(&again);
    }
    fct_edit_set_close(set);
    d.taps = NULL;
    d.n_taps = 0;
    d.n_items = 1;
    int64_t n = fct_tensor_count(&all.latents) / 2;
    for (int i = 0; i < 2; i++) {
        d.items = &items[i];
        assert_ok(fct_edit_run(twin.session, &d, e, 2, &twin.saes, &one));
        assert_true(rel_l2((const float *)all.latents.data + i * n, one.latents.data, NULL, n) <
                    1e-4);
        fct_run_result_clear(&one);
    }
    fct_run_result_clear(&all);
    for (int i = 0; i < 2; i++) fct_edit_clear(&e[i]);
}

/* ---- edits that are redone in one session ---- */

static int64_t stages_run(fct_session *s)
{
    fct_session_counts c;
    fct_session_count(s, &c);
    return c.stages;
}

/* Runs the edit in the session; the bytes must be those of a session that keeps nothing. The stages
   of the U-Net that ran for it. */
static int64_t run_same(fct_session *s, const fct_run_desc *d, const char *text)
{
    fct_session *alone;
    fct_run_result here, there;
    fct_edit e;
    assert_ok(fct_edit_parse(&e, text));
    assert_ok(fct_edit_load(&e, test_path("golden/edit")));
    assert_ok(fct_session_open(&alone, twin.model, &(fct_session_desc){.keep_bytes = FCT_NONE}));
    int64_t before = stages_run(s);
    assert_ok(fct_edit_run(s, d, &e, 1, &twin.saes, &here));
    int64_t ran = stages_run(s) - before;
    assert_ok(fct_edit_run(alone, d, &e, 1, &twin.saes, &there));
    assert_same_latents(&here, &there);
    fct_run_result_clear(&here);
    fct_run_result_clear(&there);
    fct_session_close(alone);
    fct_edit_clear(&e);
    return ran;
}

/* Another strength, mask or feature pays for what follows the block; codes of the clean and the
   source run are read at the kept moment, which costs the block's own stage. */
static void test_redone(void **state)
{
    (void)state;
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_session *s;
    const fct_model_info *info = fct_model_get_info(twin.model);
    const fct_block_info *block = NULL;
    for (int64_t i = 0; i < info->n_blocks; i++)
        if (strcmp(info->block[i].short_name, "up.0.1") == 0) block = &info->block[i];
    assert_non_null(block);
    int64_t after = info->n_stages - block->stage;
    assert_ok(fct_session_open(&s, twin.model, NULL));
    read_setting(&d, &settings, items, &twin, "a", "one");
    assert_int_equal(run_same(s, &d, "up.0.1:3 +1"), info->n_stages);
    assert_int_equal(run_same(s, &d, "up.0.1:3 +2"), after);
    assert_int_equal(run_same(s, &d, "up.0.1:4 x0 @box:0,0,0.5,1"), after);
    assert_int_equal(run_same(s, &d, "up.0.1 rebuild"), after);
    assert_int_equal(run_same(s, &d, "up.0.1:4 x0 static"), 1 + after);
    assert_int_equal(run_same(s, &d, "up.0.1:5 x3 static"), 1 + after);
    assert_int_equal(run_same(s, &d, "up.0.1 from source-one.json:3,4 x2"),
                     block->stage + 1 + after);
    assert_int_equal(run_same(s, &d, "up.0.1 from source-one.json:5 x3"), 1 + after);
    fct_session_forget(s);
    assert_int_equal(run_same(s, &d, "up.0.1:4 x0 static"), info->n_stages + 1);
    read_setting(&d, &settings, items, &twin, "a", "three");
    const char *const several[] = {"up.0.1:3 +1 steps=2", "up.0.1:3 +2 steps=2-3",
                                   "mid.0:5 x0 static steps=3", "mid.0:5 x2 static",
                                   "down.2.1 rebuild"};
    for (size_t i = 0; i < FCT_COUNT(several); i++) run_same(s, &d, several[i]);
    fct_session_close(s);
}

/* ---- sessions on several threads ---- */

enum { THREADS = 4 };

typedef struct caller {
    pthread_t thread;
    fct_session *session;
    fct_run_desc desc;
    fct_settings settings;
    const fct_sae_set *saes;
    const char *text;
    fct_run_result result;
    fct_status st;
} caller;

static void *call(void *user)
{
    caller *c = user;
    fct_edit e;
    fct_threads_set(1);
    c->st = fct_edit_parse(&e, c->text);
    if (c->st != FCT_OK) return NULL;
    c->st = fct_edit_run(c->session, &c->desc, &e, 1, c->saes, &c->result);
    fct_edit_clear(&e);
    return NULL;
}

/* One set of SAEs serves sessions on several threads, which ask for its hashes at the same time. */
static void test_threads(void **state)
{
    (void)state;
    static const char *const texts[THREADS] = {"mid.0:5 x3", "mid.0:5 x3 static", "up.0.1 rebuild",
                                               "mid.0:5 x3"};
    caller c[THREADS] = {0};
    fct_run_item items[4];
    fct_sae_set fresh = {0};
    const fct_model_info *info = fct_model_get_info(twin.model);
    for (int64_t i = 0; i < twin.saes.n; i++)
        assert_ok(
            fct_sae_set_bind(&fresh, info, twin.saes.bound[i].name, twin.saes.bound[i].sae, false));
    for (int i = 0; i < THREADS; i++) {
        read_setting(&c[i].desc, &c[i].settings, items, &twin, "a", "one");
        c[i].text = texts[i];
        c[i].saes = &fresh;
        assert_ok(fct_session_open(&c[i].session, twin.model, &(fct_session_desc){.threads = 1}));
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&c[i].thread, NULL, call, &c[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        fct_run_result alone;
        assert_int_equal(pthread_join(c[i].thread, NULL), 0);
        assert_int_equal(c[i].st, FCT_OK);
        assert_ok(run_texts(&alone, &c[i].desc, &texts[i], 1));
        assert_same_latents(&c[i].result, &alone);
        fct_run_result_clear(&alone);
        fct_run_result_clear(&c[i].result);
        fct_session_close(c[i].session);
    }
    fct_sae_set_clear(&fresh);
}

/* ---- recipes ---- */

static void test_replay(void **state)
{
    (void)state;
    fct_edit e[3];
    fct_run_result r, again;
    fct_recipe recipe, back;
    fct_image im;
    fct_run_item items[2] = {{.prompt = "a dog", .seed = 3},
                             {.prompt = "snow, at night", .seed = 3}};
    fct_run_desc d = {
        .items = items,
        .n_items = 2,
        .settings = &(fct_settings){.joint_noise = true, .width = 96, .height = 128, .steps = 1}};
    static const char *const texts[] = {
        "mid.0:5 +3 @mask.png", "up.0.1 from source-replay.json:3,4 x2", "down.2.1:9 x0 static"};
    static const char source[] = "{\"format\":\"facet-recipe\",\"prompt\":\"a "
                                 "cat\",\"width\":96,\"height\":128,\"steps\":1}";
    assert_ok(fct_file_write(temp_path("source-replay.json"), source, (int64_t)strlen(source)));
    for (int i = 0; i < 3; i++) {
        assert_ok(fct_edit_parse(&e[i], texts[i]));
        assert_ok(fct_edit_load(&e[i], i == 0 ? test_path("golden/edit") : temp_path("")));
    }
    assert_ok(fct_edit_run(twin.session, &d, e, 3, &twin.saes, &r));
    assert_ok(fct_recipe_of_run(&recipe, twin.session, &d, e, 3, &twin.saes, 1));
    assert_int_equal(recipe.n_saes, 3); /* the fourth SAE is not used */
    assert_true(recipe.settings.guidance != 0 && recipe.settings.width == 96 && recipe.threads > 0);
    assert_ok(fct_image_new(&im, r.width, r.height, 3));
    memcpy(im.pixel, r.pixels + r.width * r.height * 3, (size_t)(r.width * r.height * 3));
    assert_ok(fct_recipe_stamp(&recipe, &im));
    assert_ok(fct_png_write(&im, temp_path("replay.png")));
    assert_ok(fct_file_remove(temp_path("source-replay.json"))); /* the picture carries all of it */
    assert_ok(fct_recipe_read(&back, temp_path("replay.png")));
    assert_int_equal(back.index, 1);
    assert_ok(fct_recipe_check(&back, twin.session, &twin.saes));
    assert_ok(fct_recipe_run(twin.session, &back, &twin.saes, &again));
    assert_memory_equal(r.pixels, again.pixels, (size_t)(r.n * r.width * r.height * 3));
    assert_memory_equal(im.pixel, again.pixels + back.index * r.width * r.height * 3,
                        (size_t)(r.width * r.height * 3));
    fct_run_result_clear(&again);
    fct_run_result_clear(&r);
    back.model_hash[0] = back.model_hash[0] == '0' ? '1' : '0';
    back.sae[1].hash[0] = back.sae[1].hash[0] == '0' ? '1' : '0';
    assert_int_equal(strlen(back.plan), 64);
    back.plan[0] = back.plan[0] == '0' ? '1' : '0';
    assert_fails(FCT_ERR_ARG, "the picture will come out differently: the model's hash was",
                 fct_recipe_check(&back, twin.session, &twin.saes));
    assert_non_null(strstr(fct_error_text(), back.sae[1].block));
    assert_non_null(strstr(fct_error_text(), "the plan (version, instruction set or threads) was"));
    fct_recipe_clear(&back);
    assert_ok(fct_recipe_copy(&back, &recipe));
    fct_session *other;
    int threads = fct_session_threads(twin.session) + 1;
    assert_ok(fct_session_open(&other, twin.model, &(fct_session_desc){.threads = threads}));
#ifdef _OPENMP
    assert_fails(FCT_ERR_ARG, "differently: the plan (version, instruction set or threads) was",
                 fct_recipe_check(&back, other, &twin.saes));
#endif
    fct_session_close(other);
    back.model_hash[0] = back.model_hash[0] == '0' ? '1' : '0';
    back.sampler[0]++;
    assert_fails(FCT_ERR_ARG, "made with other parts: the model's hash was",
                 fct_recipe_check_parts(&back, twin.model, &twin.saes));
    assert_non_null(strstr(fct_error_text(), "; the sampler was"));
    assert_null(strstr(fct_error_text(), "the plan"));
    fct_recipe_clear(&back);
    fct_recipe_clear(&recipe);
    fct_image_clear(&im);
    for (int i = 0; i < 3; i++) fct_edit_clear(&e[i]);
}

/* The key of an edit of mid.0 in this run. */
static void key_of(char out[65], const fct_run_desc *d, const char *text)
{
    fct_edit e;
    fct_edit_set *set;
    int64_t n;
    assert_ok(fct_edit_parse(&e, text));
    assert_ok(fct_edit_set_open(&set, twin.session, d, &e, 1, &twin.saes));
    const fct_tap *tap = fct_edit_set_taps(set, &n);
    assert_true(n == 1 && strlen(tap->key) == 64);
    memcpy(out, tap->key, 65);
    fct_edit_set_close(set);
    fct_edit_clear(&e);
}

/* A live edit is the same in every run; what a static one takes depends on the run. */
static void test_keys(void **state)
{
    (void)state;
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    char live[65], fixed[65], again[65];
    read_setting(&d, &settings, items, &twin, "a", "one");
    key_of(live, &d, "mid.0:5 x3");
    key_of(fixed, &d, "mid.0:5 x3 static");
    key_of(again, &d, "mid.0:5 x3 static");
    assert_string_equal(fixed, again);
    assert_string_not_equal(fixed, live);
    items[0].prompt = "another";
    key_of(again, &d, "mid.0:5 x3");
    assert_string_equal(live, again);
    key_of(again, &d, "mid.0:5 x3 static");
    assert_string_not_equal(fixed, again);
}

/* One set serves every model that has its blocks. */
static void test_other_model(void **state)
{
    (void)state;
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result here, there;
    fct_model *other;
    fct_session *session;
    fct_edit e;
    read_setting(&d, &settings, items, &twin, "a", "one");
    assert_ok(fct_model_open(
        &other, &(fct_model_desc){.path = twin.folder, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_edit_parse(&e, "mid.0:5 +3 @box:0,0,0.5,1"));
    assert_ok(fct_session_open(&session, other, NULL));
    assert_ok(fct_edit_run(twin.session, &d, &e, 1, &twin.saes, &here));
    assert_ok(fct_edit_run(session, &d, &e, 1, &twin.saes, &there));
    assert_same_latents(&here, &there);
    fct_run_result_clear(&here);
    fct_run_result_clear(&there);
    fct_edit_clear(&e);
    fct_session_close(session);
    fct_model_close(other);
}

/* A set of SAE folders found by name, by metadata and by the recipe. */
static void test_sets(void **state)
{
    (void)state;
    const fct_model_info *info = fct_model_get_info(twin.model);
    fct_sae_set set = {0};
    fct_recipe r = {0};
    fct_edit edit;
    char text[1300], folder[1200];
    const fct_sae *mid = NULL;
    for (int64_t i = 0; i < twin.saes.n; i++) {
        const fct_sae_bound *b = &twin.saes.bound[i];
        snprintf(folder, sizeof folder, "%s/%s", temp_path("saes"), b->short_name);
        assert_ok(fct_sae_save(b->sae, folder, NULL));
        if (strcmp(b->short_name, "mid.0") == 0) mid = b->sae;
    }
    assert_ok(fct_sae_set_add(&set, info, temp_path("saes"))); /* one folder a block */
    assert_int_equal(set.n, twin.saes.n);
    for (int64_t i = 0; i < set.n; i++) {
        const fct_sae_bound *a = &set.bound[i], *b = &twin.saes.bound[i];
        assert_string_equal(fct_sae_bound_hash(a), fct_sae_bound_hash(b));
        assert_string_equal(fct_sae_bound_stats_hash(a), fct_sae_bound_stats_hash(b));
    }
    fct_sae_set_clear(&set);
    snprintf(text, sizeof text, "unet.mid_block.attentions.0=%s/mid.0", temp_path("saes"));
    assert_ok(fct_sae_set_add(&set, info, text));
    assert_int_equal(set.n, 1);
    assert_fails(FCT_ERR_ARG, "block mid.0 has two SAEs", fct_sae_set_add(&set, info, text));
    fct_sae_set_clear(&set);
    snprintf(text, sizeof text, "%s/mid.0", temp_path("saes"));
    assert_ok(fct_sae_set_add(&set, info, text));
    assert_string_equal(set.bound[0].short_name, "mid.0");
    fct_sae_set_clear(&set);
    snprintf(text, sizeof text, "mid.7=%s/mid.0", temp_path("saes"));
    assert_fails(FCT_ERR_MISSING, "there is no block \"mid.7\"; this model has",
                 fct_sae_set_add(&set, info, text));
    snprintf(text, sizeof text, "up.1.0=%s/mid.0", temp_path("saes"));
    assert_int_not_equal(fct_sae_set_add(&set, info, text), FCT_OK); /* another width */
    assert_int_equal(set.n, 0);
    assert_ok(fct_sae_save(mid, temp_path("nameless"), NULL));
    assert_fails(FCT_ERR_ARG, "does not say which block it belongs to; give it as BLOCK=",
                 fct_sae_set_add(&set, info, temp_path("nameless")));
    snprintf(text, sizeof text,
             "{\"format\":\"facet-recipe\",\"prompt\":\"\",\"saes\":[{\"block\":\"mid.0\",\"path\":"
             "\"saes/mid.0\"}]}");
    assert_ok(fct_recipe_parse(&r, text, (int64_t)strlen(text), "r"));
    assert_fails(FCT_ERR_MISSING,
                 "the recipe's SAE of mid.0 is not at saes/mid.0; give it with --sae mid.0=DIR",
                 fct_recipe_find_saes(&r, twin.model, NULL, &set));
    assert_ok(fct_recipe_find_saes(&r, twin.model, temp_path(""), &set));
    assert_int_equal(set.n, 1);
    fct_recipe_clear(&r);
    assert_ok(fct_edit_parse(&edit, "mid.0 rebuild")); /* a run tells where its SAEs are, whole */
    assert_ok(fct_recipe_of_run(
        &r, twin.session, &(fct_run_desc){.items = &(fct_run_item){.prompt = "x"}, .n_items = 1},
        &edit, 1, &set, 0));
    assert_true(r.n_saes == 1 && r.sae[0].path[0] == '/' && fct_path_exists(r.sae[0].path));
    fct_edit_clear(&edit);
    fct_sae_set_clear(&set);
    fct_free(r.sae[0].path);
    assert_ok(fct_strdup(&r.sae[0].path, "../gone"));
    assert_fails(FCT_ERR_MISSING, "is not at ../gone nor at /some/where/../gone",
                 fct_recipe_find_saes(&r, twin.model, "/some/where", &set));
    fct_recipe_clear(&r);
    fct_sae_set_clear(&set);
    remove_tree(temp_path("saes"));
    remove_tree(temp_path("nameless"));
}

static void test_refused(void **state)
{
    (void)state;
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result r;
    static const char *const cases[][2] = {
        {"mid.0:999 +1", "there is no feature 999: the SAE of mid.0 has features 0 to 159"},
        {"down.1.0:1 +1", "block down.1.0 has no SAE"},
        {"mid.0 from source-three.json:1", "features move only between runs of the same size"},
        {"nowhere:1 +1", "there is no block \"nowhere\""}};
    read_setting(&d, &settings, items, &twin, "a", "one");
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        fct_status st = run_texts(&r, &d, cases[i], 1);
        if (st == FCT_OK || !strstr(fct_error_text(), cases[i][1]))
            fail_msg("%s: got %s", cases[i][0], fct_error_text());
        assert_null(r.latents.data);
    }
}

/* Filled by hand: steps are both said or neither. What a recipe cannot say is refused. */
static void test_by_hand(void **state)
{
    (void)state;
    static const int64_t steps[][2] = {{2, 0}, {0, 1}, {2, 1}, {-1, 1}};
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result r;
    fct_recipe recipe;
    char block[] = "mid.0";
    read_setting(&d, &settings, items, &twin, "a", "one");
    for (size_t i = 0; i < FCT_COUNT(steps); i++) {
        fct_edit e = {.block = block,
                      .op = FCT_EDIT_ZERO,
                      .first_step = steps[i][0],
                      .last_step = steps[i][1]};
        assert_fails(FCT_ERR_ARG, "want both from 1 and in order, or both 0 for all",
                     fct_edit_run(twin.session, &d, &e, 1, NULL, &r));
    }
    float noise[1] = {0};
    d.init_noise = noise;
    assert_fails(FCT_ERR_UNSUPPORTED, "a run from noise of the caller's has no recipe",
                 fct_recipe_of_run(&recipe, twin.session, &d, NULL, 0, NULL, 0));
    fct_tap tap = {.module = "mid.0", .edits = true};
    d.init_noise = NULL;
    d.taps = &tap;
    d.n_taps = 1;
    assert_fails(FCT_ERR_UNSUPPORTED, "a run with taps that edit has no recipe",
                 fct_recipe_of_run(&recipe, twin.session, &d, NULL, 0, NULL, 0));
}

/* ---- halves of guidance ---- */

typedef struct seen {
    float *rows;
    int64_t n;
} seen;

static fct_status keep_cond(void *user, const fct_tap_event *event, fct_tensor *value)
{
    seen *s = user;
    float *rows;
    int64_t d = value->dim[3];
    FCT_TRY(fct_tap_rows(&rows, &s->n, event, value, -1, FCT_HALF_COND));
    s->n *= d;
    FCT_TRY(fct_new_raw(&s->rows, s->n, (int64_t)sizeof *s->rows));
    memcpy(s->rows, rows, (size_t)s->n * sizeof *s->rows);
    return FCT_OK;
}

/* What up.0.1 writes into the cond half of the first step. */
static seen cond_half(const char *const *texts, int n)
{
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result r;
    fct_settings settings;
    seen s = {0};
    read_setting(&d, &settings, items, &twin, "a", "one");
    settings.guidance = 4;
    fct_tap tap = {.module = "up.0.1",
                   .what = FCT_TAP_OUT,
                   .first_step = 1,
                   .last_step = 1,
                   .user = &s,
                   .fn = keep_cond};
    d.taps = &tap;
    d.n_taps = 1;
    assert_ok(run_texts(&r, &d, texts, n));
    fct_run_result_clear(&r);
    return s;
}

/* Each half's rebuild reads codes of its own: that of the uncond half from the run without edits
   changes nothing in the cond half. */
static void test_halves(void **state)
{
    (void)state;
    const char *const alone[] = {"mid.0 zero", "up.0.1 rebuild branch=cond"};
    const char *const both[] = {alone[0], alone[1], "up.0.1 rebuild branch=uncond static"};
    seen a = cond_half(alone, 2), b = cond_half(both, 3);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.rows, b.rows, (size_t)a.n * sizeof *a.rows);
    fct_free(a.rows);
    fct_free(b.rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_byte),  cmocka_unit_test(test_order),
        cmocka_unit_test(test_mask_sum), cmocka_unit_test(test_batch),
        cmocka_unit_test(test_replay),   cmocka_unit_test(test_sets),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_other_model),
        cmocka_unit_test(test_keys),     cmocka_unit_test(test_redone),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_halves),
        cmocka_unit_test(test_by_hand)};
    return cmocka_run_group_tests_name("edit_run", tests, open_twin, close_twin);
}

/* test_model.c - what must hold of the engine whatever the weights: a batch is its singles, looking
   changes nothing, the dry count is the real one, runs end early
   where asked; and what broken folders are told. */
#include "fct_test.h"
#include "twin.h"

#include "facet/session.h"
#include "model/model.h"

typedef struct fixture {
    char folder[1024];
    fct_model *m;
    fct_session *s;
} fixture;

static void open_twin(fixture *f, const char *name, fct_precision precision)
{
    char path[64];
    snprintf(path, sizeof path, "golden/twin/%s.json", name);
    snprintf(f->folder, sizeof f->folder, "%s", temp_path(name));
    assert_ok(twin_write(test_path(path), f->folder));
    assert_ok(fct_model_open(&f->m, &(fct_model_desc){.path = f->folder, .precision = precision}));
    assert_ok(fct_session_open(&f->s, f->m, NULL));
}

static void close_twin(fixture *f)
{
    fct_session_close(f->s);
    fct_model_close(f->m);
}

static double distance(const fct_tensor *a, const float *b)
{
    const float *p = a->data;
    double d = 0, s = 0;
    for (int64_t i = 0; i < fct_tensor_count(a); i++) {
        d += ((double)p[i] - b[i]) * ((double)p[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    return sqrt(d / s);
}

static void run(fct_session *s, const fct_run_desc *d, fct_run_result *r)
{
    assert_ok(fct_session_run(s, d, r));
}

static void same_bytes(const char *what, const fct_run_result *a, const fct_run_result *b)
{
    assert_int_equal(fct_tensor_bytes(&a->latents), fct_tensor_bytes(&b->latents));
    if (memcmp(a->latents.data, b->latents.data, (size_t)fct_tensor_bytes(&a->latents)) != 0)
        fail_msg("%s: other bytes", what);
}

/* ---- metamorphic ---- */

static void batch_is_singles(fct_precision precision, double bound)
{
    fixture f;
    open_twin(&f, "a", precision);
    const fct_run_item item[3] = {{.prompt = "a dog", .seed = 4},
                                  {.prompt = "the moon, it's night", .seed = 5},
                                  {.prompt = "", .seed = 9}};
    fct_run_desc d = {
        .items = item,
        .n_items = 3,
        .settings = &(
            fct_settings){.width = 88, .height = 64, .steps = 2, .guidance = 3, .negative = "hat"},
        .no_decode = true};
    fct_run_result all, one;
    run(f.s, &d, &all);
    int64_t n = fct_tensor_count(&all.latents) / 3;
    double worst = 0;
    for (int i = 0; i < 3; i++) {
        d.items = &item[i];
        d.n_items = 1;
        run(f.s, &d, &one);
        double x = distance(&one.latents, (const float *)all.latents.data + i * n);
        if (x > worst) worst = x;
        fct_run_result_clear(&one);
    }
    print_message("  batch against singles: %.2e (bound %.0e)\n", worst, bound);
    assert_true(worst <= bound);
    fct_run_result_clear(&all);
    close_twin(&f);
}

static void test_batch(void **s)
{
    (void)s;
    batch_is_singles(FCT_PRECISION_F32, 1e-5);
    batch_is_singles(FCT_PRECISION_BF16, 1e-2);
}

static fct_status look(void *user, const fct_tap_event *e, fct_tensor *value)
{
    (void)e;
    (void)value;
    ++*(int *)user;
    return FCT_OK;
}

static void test_identity(void **s)
{
    (void)s;
    for (int p = 0; p < 2; p++) {
        fixture f;
        int calls = 0;
        open_twin(&f, "a", p ? FCT_PRECISION_BF16 : FCT_PRECISION_F32);
        const fct_run_item item = {.prompt = "a dog", .seed = 4};
        fct_run_desc d = {.items = &item,
                          .n_items = 1,
                          .settings =
                              &(fct_settings){.width = 64, .height = 64, .steps = 2, .guidance = 4},
                          .no_decode = true};
        fct_run_result plain, seen;
        run(f.s, &d, &plain);
        const fct_tap block[3] = {
            {.module = "*.?.?", .what = FCT_TAP_IN, .edits = true, .user = &calls, .fn = look},
            {.module = "mid.0", .what = FCT_TAP_OUT, .edits = true, .user = &calls, .fn = look},
            {.module = "unet.*.attentions.?",
             .what = FCT_TAP_DELTA,
             .edits = true,
             .user = &calls,
             .fn = look}};
        d.taps = block;
        d.n_taps = 3;
        run(f.s, &d, &seen);
        same_bytes("identity taps on blocks", &plain, &seen);
        int64_t blocks = fct_model_get_info(f.m)->n_blocks;
        assert_int_equal(calls,
                         2 * ((blocks - 1) + 1 +
                              blocks)); /* mid.0 has no third part, so the first glob misses it */
        fct_run_result_clear(&seen);
        const fct_tap inner = {.module = "*",
                               .what = FCT_TAP_OUT,
                               .user = &calls,
                               .fn = look}; /* unfused, so rounding may differ */
        d.taps = &inner;
        d.n_taps = 1;
        run(f.s, &d, &seen);
        double x = distance(&seen.latents, plain.latents.data);
        print_message("  every module watched: %.2e\n", x);
        assert_true(x <= (p ? 4e-2 : 1e-5)); /* guidance of 4 multiplies what rounding does */
        fct_run_result_clear(&seen);
        fct_run_result_clear(&plain);
        close_twin(&f);
    }
}

/* Where the rows of an item and half lie: [uncond 4, uncond 5, cond 4, cond 5], each of 2 cells
   with 3 numbers; without guidance [item 4, item 5]. -1: not there. */
static void test_tap_rows(void **s)
{
    (void)s;
    static const struct {
        bool guided;
        int64_t item;
        fct_half half;
        int64_t first, n;
    } cases[] = {{true, -1, FCT_HALF_BOTH, 0, 8},    {true, -1, FCT_HALF_COND, 4, 4},
                 {true, -1, FCT_HALF_DEFAULT, 4, 4}, {true, -1, FCT_HALF_UNCOND, 0, 4},
                 {true, 4, FCT_HALF_COND, 4, 2},     {true, 5, FCT_HALF_DEFAULT, 6, 2},
                 {true, 5, FCT_HALF_UNCOND, 2, 2},   {true, 3, FCT_HALF_COND, -1, 0},
                 {true, 6, FCT_HALF_UNCOND, -1, 0},  {false, -1, FCT_HALF_BOTH, 0, 4},
                 {false, -1, FCT_HALF_COND, 0, 4},   {false, -1, FCT_HALF_UNCOND, -1, 0},
                 {false, 5, FCT_HALF_COND, 2, 2},    {false, 4, FCT_HALF_UNCOND, -1, 0}};
    float data[4 * 2 * 3] = {0}, *rows;
    int64_t n;
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        const fct_tap_event event = {
            .name = "x", .first_item = 4, .items = 2, .guided = cases[i].guided};
        const int64_t map[4] = {cases[i].guided ? 4 : 2, 1, 2, 3},
                      tokens[3] = {cases[i].guided ? 4 : 2, 2, 3};
        for (int ndim = 3; ndim <= 4; ndim++) {
            fct_tensor t = fct_tensor_of(data, FCT_F32, ndim, ndim == 4 ? map : tokens);
            assert_ok(fct_tap_rows(&rows, &n, &event, &t, cases[i].item, cases[i].half));
            assert_int_equal(n, cases[i].n);
            assert_ptr_equal(rows, cases[i].first < 0 ? NULL : data + 3 * cases[i].first);
        }
    }
    const fct_tap_event event = {.name = "x", .items = 2, .guided = true};
    fct_tensor t = fct_tensor_of(data, FCT_F32, 4, (int64_t[]){4, 1, 2, 3});
    assert_fails(FCT_ERR_ARG, "do not lie side by side",
                 fct_tap_rows(&rows, &n, &event, &t, 0, FCT_HALF_BOTH));
    t.dim[0] = 2;
    assert_fails(FCT_ERR_INTERNAL, "not f32 of its batch",
                 fct_tap_rows(&rows, &n, &event, &t, 0, FCT_HALF_COND));
    assert_string_equal(fct_half_name(FCT_HALF_DEFAULT), "default");
    assert_string_equal(fct_half_name(FCT_HALF_UNCOND), "uncond");
}

/* The settings' seed and an item's own make one number. */
static void test_seeds_add(void **s)
{
    (void)s;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32);
    fct_run_item item = {.prompt = "a dog", .seed = 7};
    fct_settings settings = {.width = 64, .height = 64, .steps = 1};
    fct_run_desc d = {.items = &item, .n_items = 1, .settings = &settings, .no_decode = true};
    fct_run_result own, added;
    run(f.s, &d, &own);
    item.seed = 3;
    settings.seed = 4;
    run(f.s, &d, &added);
    same_bytes("seed 3 + 4", &own, &added);
    fct_run_result_clear(&own);
    fct_run_result_clear(&added);
    close_twin(&f);
}

static void test_peak(void **s)
{
    (void)s;
    fixture f;
    open_twin(&f, "b", FCT_PRECISION_BF16);
    const fct_run_item item[2] = {{.prompt = "a dog", .seed = 4}, {.prompt = "snow", .seed = 8}};
    fct_run_desc d = {.items = item,
                      .n_items = 2,
                      .settings =
                          &(fct_settings){.width = 40, .height = 24, .steps = 2, .guidance = 4}};
    int64_t peak = 0, one = 0;
    fct_run_result r;
    assert_ok(fct_session_peak(f.s, &d, &peak));
    run(f.s, &d, &r); /* fails by itself when the real peak is another one */
    fct_run_result_clear(&r);
    d.n_items = 1;
    assert_ok(fct_session_peak(f.s, &d, &one));
    print_message("  activations: %lld bytes for two pictures, %lld for one\n", (long long)peak,
                  (long long)one);
    assert_true(one > 0 && one < peak);
    close_twin(&f);
}

/* ---- taps ---- */

typedef struct record {
    char names[4096];
    int calls;
    int64_t last_step, dim[4];
} record;

static fct_status write_down(void *user, const fct_tap_event *e, fct_tensor *value)
{
    record *r = user;
    r->calls++;
    r->last_step = e->step;
    for (int i = 0; i < value->ndim && i < 4; i++) r->dim[i] = value->dim[i];
    size_t n = strlen(r->names);
    snprintf(r->names + n, sizeof r->names - n, "%s ", e->block ? e->block->short_name : e->name);
    return FCT_OK;
}

static fct_status add_one(void *user, const fct_tap_event *e, fct_tensor *value)
{
    (void)user;
    (void)e;
    for (int64_t i = 0; i < fct_tensor_count(value); i++) ((float *)value->data)[i] += 1;
    return FCT_OK;
}

static void test_taps(void **s)
{
    (void)s;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32);
    record r = {0};
    const fct_run_item item = {.prompt = "a dog", .seed = 4};
    const fct_tap watch = {
        .module = "down.1.0", .what = FCT_TAP_DELTA, .user = &r, .fn = write_down};
    fct_run_desc d = {.items = &item,
                      .n_items = 1,
                      .settings =
                          &(fct_settings){.width = 64, .height = 64, .steps = 3, .guidance = 4},
                      .taps = &watch,
                      .n_taps = 1,
                      .stop_after_taps = true,
                      .stop_step = 2};
    fct_run_result out;
    run(f.s, &d, &out);
    assert_null(out.latents.data);
    assert_null(out.pixels);
    assert_int_equal(r.calls, 2);
    assert_int_equal(r.last_step, 2);
    const int64_t want[4] = {2, 4, 4, 24};
    assert_memory_equal(r.dim, want, sizeof want);
    assert_string_equal(r.names, "down.1.0 down.1.0 ");
    fct_run_result_clear(&out);

    /* an edit of the delta is an edit of the output, and the delta is what the next tap sees */
    d = (fct_run_desc){.items = &item,
                       .n_items = 1,
                       .settings = &(fct_settings){.width = 64, .height = 64, .steps = 1},
                       .no_decode = true};
    fct_run_result by_delta, by_out, plain;
    run(f.s, &d, &plain);
    d.n_taps = 1;
    d.taps = &(fct_tap){.module = "up.0.1", .what = FCT_TAP_DELTA, .edits = true, .fn = add_one};
    run(f.s, &d, &by_delta);
    d.taps = &(fct_tap){.module = "up.0.1", .what = FCT_TAP_OUT, .edits = true, .fn = add_one};
    run(f.s, &d, &by_out);
    assert_true(distance(&by_delta.latents, by_out.latents.data) < 1e-5);
    assert_true(distance(&by_delta.latents, plain.latents.data) > 1e-3);
    fct_run_result_clear(&by_delta);
    fct_run_result_clear(&by_out);
    fct_run_result_clear(&plain);

    d.taps = &(fct_tap){.module = "down.7.0", .what = FCT_TAP_OUT, .user = &r, .fn = write_down};
    assert_fails(FCT_ERR_MISSING,
                 "its blocks are down.1.0, down.1.1, down.2.0, down.2.1, mid.0, up.0.0",
                 fct_session_run(f.s, &d, &out));
    d.taps =
        &(fct_tap){.module = "unet.conv_in", .what = FCT_TAP_DELTA, .user = &r, .fn = write_down};
    assert_fails(FCT_ERR_SHAPE, "unet.conv_in has no delta", fct_session_run(f.s, &d, &out));
    d.taps = &(fct_tap){.module = "unet.mid_block.resnets.0",
                        .what = FCT_TAP_DELTA,
                        .edits = true,
                        .user = &r,
                        .fn = write_down};
    assert_fails(FCT_ERR_UNSUPPORTED, "only a transformer block's delta can be edited",
                 fct_session_run(f.s, &d, &out));
    close_twin(&f);
}

static void test_blocks(void **s)
{
    (void)s;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32);
    const fct_block_info **b = NULL;
    int64_t n = 0;
    assert_ok(
        fct_model_find_blocks(&b, &n, f.m, "up.0.?, down.2.1,mid.0,unet.mid_block.attentions.0"));
    assert_int_equal(n, 5);
    assert_string_equal(b[0]->short_name, "down.2.1");
    assert_int_equal(b[0]->channels, 40);
    assert_int_equal(b[0]->downscale, 4);
    assert_string_equal(b[1]->name, "unet.mid_block.attentions.0");
    assert_string_equal(b[4]->short_name, "up.0.2");
    fct_free(b);
    assert_fails(FCT_ERR_MISSING, "there is no block \"left\"",
                 fct_model_find_blocks(&b, &n, f.m, "mid.0,left"));
    fct_free(b);
    const fct_model_info *i = fct_model_get_info(f.m);
    assert_int_equal(i->n_blocks, 11);
    assert_int_equal(i->vae_factor, 8);
    assert_int_equal(i->default_width, 128);
    assert_int_equal(i->default_steps, 30);
    assert_string_equal(i->scheduler, "EulerAncestralDiscreteScheduler");
    close_twin(&f);
}

/* ---- prompts and runs that cannot be ---- */

/* diffusers: `prompt_2 or prompt`, so an empty second text is the first one. */
static void test_empty_second_texts(void **s)
{
    (void)s;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32);
    static const char *const second[] = {NULL, "", "snow"};
    fct_run_result r[3];
    for (int i = 0; i < 3; i++) {
        const fct_run_item item = {.prompt = "the moon", .prompt_2 = second[i], .seed = 3};
        run(f.s,
            &(fct_run_desc){.items = &item,
                            .n_items = 1,
                            .settings = &(fct_settings){.width = 64,
                                                        .height = 64,
                                                        .steps = 1,
                                                        .guidance = 3,
                                                        .negative = "a red circle",
                                                        .negative_2 = second[i]},
                            .no_decode = true},
            &r[i]);
    }
    size_t bytes = (size_t)(r[0].latents.dim[1] * r[0].latents.dim[2] * r[0].latents.dim[3]) * 4;
    assert_memory_equal(r[1].latents.data, r[0].latents.data, bytes);
    assert_memory_not_equal(r[2].latents.data, r[0].latents.data, bytes);
    for (int i = 0; i < 3; i++) fct_run_result_clear(&r[i]);
    close_twin(&f);
}

static void test_cut(void **s)
{
    (void)s;
    fixture f;
    open_twin(&f, "a", FCT_PRECISION_F32);
    const fct_run_item item = {.prompt =
                                   "the moon and the stars over the mountains the moon and the "
                                   "stars over the mountains the red circle the blue square zebra"};
    fct_run_result r;
    run(f.s,
        &(fct_run_desc){.items = &item,
                        .n_items = 1,
                        .settings = &(fct_settings){.width = 64, .height = 64, .steps = 1},
                        .no_decode = true},
        &r);
    assert_non_null(r.warning);
    assert_non_null(strstr(r.warning, "zebra\""));
    fct_run_result_clear(&r);
    char wordy[4096] = "";
    for (size_t i = 0; i + 3 < sizeof wordy; i += 3) memcpy(wordy + i, "\xc3\xa4 ", 4);
    const fct_run_item longest = {.prompt = wordy};
    run(f.s,
        &(fct_run_desc){.items = &longest,
                        .n_items = 1,
                        .settings = &(fct_settings){.width = 64, .height = 64, .steps = 1},
                        .no_decode = true},
        &r);
    assert_non_null(r.warning); /* each encoder's line shows the beginning only, whole characters */
    for (const char *line = r.warning; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        assert_true(strcspn(line, "\n") < 200);
    }
    assert_non_null(strstr(r.warning, "...\""));
    assert_true(fct_is_utf8(r.warning));
    fct_run_result_clear(&r);
    const fct_run_item fine = {.prompt = "the moon"};
    assert_fails(
        FCT_ERR_ARG, "multiples of 8",
        fct_session_run(
            f.s,
            &(fct_run_desc){.items = &fine, .n_items = 1, .settings = &(fct_settings){.width = 60}},
            &r));
    assert_fails(FCT_ERR_RANGE, "steps: want 1 to 1000",
                 fct_session_run(f.s,
                                 &(fct_run_desc){.items = &fine,
                                                 .n_items = 1,
                                                 .settings = &(fct_settings){.steps = 1001}},
                                 &r));
    assert_fails(FCT_ERR_ARG, "1 to 65536 items", fct_session_run(f.s, &(fct_run_desc){0}, &r));
    volatile int stop = 1;
    fct_log log = {.stop = &stop};
    fct_model *m = NULL;
    fct_session *quiet = NULL;
    assert_ok(fct_model_open(
        &m, &(fct_model_desc){
                .path = f.folder, .no_vae = true, .log = &log, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_session_open(&quiet, m, &(fct_session_desc){.log = &log}));
    assert_fails(FCT_ERR_MISSING, "VAE was not loaded",
                 fct_session_run(quiet, &(fct_run_desc){.items = &fine, .n_items = 1}, &r));
    assert_fails(FCT_ERR_STOPPED, "",
                 fct_session_run(quiet,
                                 &(fct_run_desc){.items = &fine,
                                                 .n_items = 1,
                                                 .no_decode = true,
                                                 .settings = &(fct_settings){.steps = 1}},
                                 &r));
    fct_session_close(quiet);
    fct_model_close(m);
    close_twin(&f);
}

/* ---- broken folders ---- */

/* Sets a field of a twin's JSON (NULL value: removes it) and returns the folder. */
static const char *with_field(const char *name, const char *file, const char *key, json_t *value)
{
    const char *folder = temp_path(name);
    char path[1200];
    json_t *o = NULL;
    assert_ok(twin_write(test_path("golden/twin/a.json"), folder));
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_ok(fct_json_read(&o, path));
    if (value)
        json_object_set_new(o, key, value);
    else
        json_object_del(o, key);
    assert_ok(fct_json_write(o, path));
    json_decref(o);
    return folder;
}

static void refused(const char *folder, fct_status st, const char *text)
{
    fct_model *m = NULL;
    assert_fails(
        st, text,
        fct_model_open(&m, &(fct_model_desc){.path = folder, .precision = FCT_PRECISION_F32}));
    assert_null(m);
}

typedef struct lines {
    char text[4096];
} lines;

static void keep_line(void *user, fct_log_level level, const char *text)
{
    lines *l = user;
    size_t n = strlen(l->text);
    if (level <= FCT_LOG_WARN) snprintf(l->text + n, sizeof l->text - n, "%s\n", text);
}

static void test_configs(void **s)
{
    (void)s;
    refused(temp_path("nowhere"), FCT_ERR_MISSING, "no model_index.json");
    refused(with_field("c1", "unet/config.json", "act_fn", json_string("mish")),
            FCT_ERR_UNSUPPORTED, "act_fn is \"mish\"");
    refused(with_field("c2", "unet/config.json", "addition_embed_type", NULL), FCT_ERR_UNSUPPORTED,
            "addition_embed_type is not given");
    refused(
        with_field("c3", "unet/config.json", "down_block_types",
                   json_pack("[sss]", "DownBlock2D", "CrossAttnDownBlock2D", "AttnDownBlock2D")),
        FCT_ERR_UNSUPPORTED, "down_block_types is \"AttnDownBlock2D\"");
    refused(with_field("c4", "scheduler/scheduler_config.json", "_class_name",
                       json_string("DDIMScheduler")),
            FCT_ERR_UNSUPPORTED, "DDIMScheduler");
    refused(with_field("c5", "model_index.json", "_class_name", json_string("FluxPipeline")),
            FCT_ERR_UNSUPPORTED, "FluxPipeline");
    refused(with_field("c6", "unet/config.json", "cross_attention_dim", json_integer(48)),
            FCT_ERR_SHAPE, "to_k.weight: want [24,48], file has [24,64]");
    refused(
        with_field("c7", "unet/config.json", "block_out_channels", json_pack("[iii]", 16, 24, 48)),
        FCT_ERR_UNSUPPORTED, "do not make 5 heads");
    refused(
        with_field("c8", "unet/config.json", "block_out_channels", json_pack("[iii]", 16, 48, 40)),
        FCT_ERR_SHAPE, " more (do the config");
    refused(with_field("c9", "text_encoder/config.json", "hidden_act", json_string("gelu_new")),
            FCT_ERR_UNSUPPORTED, "hidden_act");
    refused(with_field("c10", "unet/config.json", "sample_size", json_string("big")),
            FCT_ERR_UNSUPPORTED, "sample_size");
    lines l = {0};
    fct_log log = {.user = &l, .line = keep_line};
    fct_model *m = NULL;
    const char *odd = with_field("c11", "unet/config.json", "wobble", json_integer(3));
    assert_ok(fct_model_open(
        &m, &(fct_model_desc){.path = odd, .log = &log, .precision = FCT_PRECISION_F32}));
    assert_non_null(strstr(l.text, "unknown field \"wobble\""));
    fct_model_close(m);
}

static void test_weights(void **s)
{
    (void)s;
    char path[1200];
    const char *folder = temp_path("w1");
    assert_ok(twin_write(test_path("golden/twin/b.json"), folder));
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model-00002-of-00003.safetensors",
             folder);
    char *text = NULL;
    int64_t n = 0;
    assert_ok(fct_file_read(&text, &n, path));
    assert_ok(fct_file_write(path, text, n / 2));
    refused(folder, FCT_ERR_FORMAT, "00002-of-00003.safetensors");
    assert_ok(fct_file_remove(path));
    refused(folder, FCT_ERR_MISSING, "00002-of-00003.safetensors");
    assert_ok(fct_file_write(path, text, n));
    fct_free(text);
    snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors", folder);
    char other[1200];
    snprintf(other, sizeof other, "%s/vae/diffusion_pytorch_model.fp16.safetensors", folder);
    assert_int_equal(rename(path, other), 0);
    fct_model *m = NULL; /* only the variant is there: fine */
    assert_ok(fct_model_open(&m, &(fct_model_desc){.path = folder}));
    fct_model_close(m);
    assert_ok(fct_file_remove(other));
    refused(folder, FCT_ERR_MISSING, "want diffusion_pytorch_model.safetensors");
    assert_ok(fct_model_open(&m, &(fct_model_desc){.path = folder, .no_vae = true}));
    fct_model_close(m);
}

static void test_find(void **s)
{
    (void)s;
    char *path = NULL, cache[1200], file[1600];
    assert_fails(FCT_ERR_MISSING, "no such folder", fct_model_find(&path, "sdxl"));
    snprintf(cache, sizeof cache, "%s", temp_path("hub"));
    assert_int_equal(setenv("HF_HUB_CACHE", cache, 1), 0);
    assert_fails(FCT_ERR_MISSING, "huggingface-cli download stabilityai/sdxl-turbo",
                 fct_model_find(&path, "stabilityai/sdxl-turbo"));
    assert_fails(FCT_ERR_MISSING, cache, fct_model_find(&path, "stabilityai/sdxl-turbo"));
    snprintf(file, sizeof file, "%s/models--stabilityai--sdxl-turbo/snapshots/abc", cache);
    assert_ok(fct_dir_make(file));
    snprintf(file, sizeof file, "%s/models--stabilityai--sdxl-turbo/snapshots/abc/model_index.json",
             cache);
    assert_ok(fct_file_write(file, "{}", 2));
    snprintf(file, sizeof file, "%s/models--stabilityai--sdxl-turbo/refs", cache);
    assert_ok(fct_dir_make(file));
    snprintf(file, sizeof file, "%s/models--stabilityai--sdxl-turbo/refs/main", cache);
    assert_ok(fct_file_write(file, "abc\n", 4));
    assert_ok(fct_model_find(&path, "stabilityai/sdxl-turbo"));
    assert_non_null(strstr(path, "snapshots/abc"));
    fct_free(path);
    assert_int_equal(setenv("FACET_MODELS", temp_path("models"), 1), 0);
    snprintf(file, sizeof file, "%s/demo", temp_path("models"));
    assert_ok(fct_dir_make(file));
    snprintf(file, sizeof file, "%s/demo/model_index.json", temp_path("models"));
    assert_ok(fct_file_write(file, "{}", 2));
    assert_ok(fct_model_find(&path, NULL));
    assert_non_null(strstr(path, "models/demo"));
    fct_free(path);
}

/* Every allocation of opening and running fails once: a status, a sentence, no leak. */
static void test_faults(void **s)
{
    (void)s;
    const char *folder = temp_path("b");
    assert_ok(twin_write(test_path("golden/twin/b.json"), folder));
    const fct_run_item item = {.prompt = "a dog"};
    int64_t nth = 1;
    for (bool done = false; !done; nth += nth < 24 ? 1 : nth / 6) {
        fct_model *m = NULL;
        fct_session *session = NULL;
        fct_run_result r = {0};
        fct_fault_alloc(nth);
        fct_status st = fct_model_open(
            &m,
            &(fct_model_desc){.path = folder, .backend = "ref", .precision = FCT_PRECISION_F32});
        if (st == FCT_OK) st = fct_session_open(&session, m, NULL);
        if (st == FCT_OK)
            st = fct_session_run(session,
                                 &(fct_run_desc){.items = &item,
                                                 .n_items = 1,
                                                 .settings = &(fct_settings){.steps = 1},
                                                 .keep = "*"},
                                 &r);
        fct_fault_alloc(0);
        done = st == FCT_OK;
        if (!done && (st != FCT_ERR_MEMORY || !*fct_error_text()))
            fail_msg("allocation %lld: %s: %s", (long long)nth, fct_status_name(st),
                     fct_error_text());
        fct_run_result_clear(&r);
        fct_session_close(session);
        fct_model_close(m);
    }
    print_message("  up to allocation %lld\n", (long long)nth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_batch),
                                       cmocka_unit_test(test_identity),
                                       cmocka_unit_test(test_tap_rows),
                                       cmocka_unit_test(test_seeds_add),
                                       cmocka_unit_test(test_peak),
                                       cmocka_unit_test(test_taps),
                                       cmocka_unit_test(test_blocks),
                                       cmocka_unit_test(test_cut),
                                       cmocka_unit_test(test_empty_second_texts),
                                       cmocka_unit_test(test_configs),
                                       cmocka_unit_test(test_weights),
                                       cmocka_unit_test(test_find),
                                       cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

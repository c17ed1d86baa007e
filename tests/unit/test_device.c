/* test_device.c - a whole model on a device whose memory the host cannot see: generating, watching,
   editing with SAEs, resuming, capturing, decoding and encoding give the bytes of the same backend
   on host memory. So model code touches tensors by operations and copies alone. */
#include "device_util.h"
#include "facet/index.h"
#include "facet/store.h"
#include "model/model.h"
#include "test_edit_twin.h"

enum { HOST, CLOSED, BOTH };

typedef struct fixture {
    char folder[1024];
    fct_backend be;
    fct_model *m[BOTH];
    fct_session *s[BOTH];
    fct_sae_set saes;
    json_t *listed;
} fixture;

static void open_both(fixture *f, const char *name, fct_precision precision)
{
    char path[64];
    json_t *spec;
    const char *block;
    *f = (fixture){.be = closed_backend()};
    snprintf(path, sizeof path, "golden/twin/%s.json", name);
    snprintf(f->folder, sizeof f->folder, "%s", temp_path(name));
    assert_ok(twin_write(test_path(path), f->folder));
    const fct_model_desc d = {.path = f->folder, .backend = "ref", .precision = precision};
    assert_ok(fct_model_open(&f->m[HOST], &d));
    assert_ok(fct_model_open_on(&f->m[CLOSED], &d, &f->be));
    for (int i = 0; i < BOTH; i++) assert_ok(fct_session_open(&f->s[i], f->m[i], NULL));
    assert_ok(fct_json_read(&f->listed, test_path("golden/edit/edits.json")));
    json_object_foreach(json_object_get(json_object_get(f->listed, "saes"), name), block, spec)
        assert_ok(fct_sae_set_bind(&f->saes, fct_model_get_info(f->m[HOST]), block, draw_sae(spec),
                                   true));
}

static void close_both(fixture *f)
{
    for (int i = 0; i < BOTH; i++) {
        fct_session_close(f->s[i]);
        fct_model_close(f->m[i]);
    }
    fct_sae_set_clear(&f->saes);
    json_decref(f->listed);
    remove_tree(f->folder);
    assert_int_equal(closed.taken, 0); /* nothing of the device's memory is left behind */
}

static void assert_same(const char *what, const fct_run_result *r)
{
    int64_t bytes = fct_tensor_bytes(&r[HOST].latents), pixels = r->n * r->width * r->height * 3;
    assert_int_equal(fct_tensor_bytes(&r[CLOSED].latents), bytes);
    if (bytes > 0 && memcmp(r[HOST].latents.data, r[CLOSED].latents.data, (size_t)bytes) != 0)
        fail_msg("%s: other latents", what);
    assert_int_equal(r[HOST].pixels != NULL, r[CLOSED].pixels != NULL);
    if (r->pixels && memcmp(r[HOST].pixels, r[CLOSED].pixels, (size_t)pixels) != 0)
        fail_msg("%s: other pixels", what);
}

static void run_both(fixture *f, const char *what, const fct_run_desc *d)
{
    fct_run_result r[BOTH];
    int64_t before = closed.operations;
    for (int i = 0; i < BOTH; i++) assert_ok(fct_session_run(f->s[i], d, &r[i]));
    assert_true(closed.operations > before + 100);
    assert_same(what, r);
    for (int i = 0; i < BOTH; i++) fct_run_result_clear(&r[i]);
}

static const fct_run_item items[] = {{.prompt = "a dog", .seed = 3},
                                     {.prompt = "two red houses on a hill", .seed = 4}};

/* ---- generating, decoding, encoding ---- */

static void generate(const char *twin, fct_precision precision)
{
    fixture f;
    open_both(&f, twin, precision);
    fct_settings plain = {.width = 32, .height = 32, .steps = 1, .guidance = FCT_NONE},
                 guided = {.width = 32, .height = 64, .steps = 2, .guidance = 3},
                 told = {.width = 32, .height = 32, .steps = 2, .guidance = 2, .negative = "grey"};
    run_both(&f, "plain", &(fct_run_desc){.items = items, .n_items = 1, .settings = &plain});
    run_both(&f, "again, with the text kept",
             &(fct_run_desc){.items = items, .n_items = 1, .settings = &plain});
    run_both(&f, "guided batch",
             &(fct_run_desc){.items = items, .n_items = 2, .settings = &guided});
    run_both(
        &f, "negative prompt",
        &(fct_run_desc){.items = items, .n_items = 1, .settings = &told, .no_decode = true});
    close_both(&f);
}

static void test_generate(void **state)
{
    (void)state;
    generate("a", FCT_PRECISION_F32);
    generate("a", FCT_PRECISION_BF16);
    generate("b", FCT_PRECISION_F32);
}

static void test_decode_encode(void **state)
{
    (void)state;
    fixture f;
    enum { W = 32, H = 16 };
    uint8_t pixels[BOTH][2 * W * H * 3];
    float latents[BOTH][2 * 16 * W * H / 64];
    fct_rng rng;
    open_both(&f, "a", FCT_PRECISION_F32);
    const fct_model_info *info = fct_model_get_info(f.m[HOST]);
    int64_t h = H / info->vae_factor, w = W / info->vae_factor;
    fct_tensor z = fct_tensor_of(latents[HOST], FCT_F32, 4,
                                 (int64_t[]){2, info->latent_channels, h, w});
    fct_rng_init(&rng, 5);
    fct_rng_normal(&rng, latents[HOST], fct_tensor_count(&z));
    for (int i = 0; i < BOTH; i++) assert_ok(fct_session_decode(f.s[i], &z, pixels[i]));
    assert_memory_equal(pixels[HOST], pixels[CLOSED], sizeof pixels[HOST]);
    for (int i = 0; i < BOTH; i++)
        assert_ok(fct_session_encode(f.s[i], pixels[HOST], 2, W, H, latents[i]));
    assert_memory_equal(latents[HOST], latents[CLOSED], (size_t)fct_tensor_bytes(&z));
    close_both(&f);
}

/* ---- taps ---- */

/* What a tap sees and does: sums for looking, a factor for editing. */
typedef struct watch {
    double sum;
    int64_t calls;
    float factor; /* 0: it only looks */
} watch;

static fct_status watch_tap(void *user, const fct_tap_event *event, fct_tensor *value)
{
    watch *w = user;
    float *rows;
    int64_t n, c = value->dim[value->ndim - 1];
    FCT_TRY(fct_tap_rows(&rows, &n, event, value, -1, FCT_HALF_BOTH));
    for (int64_t i = 0; i < n * c; i++) {
        w->sum += (double)rows[i] * (double)(i % 7 + 1);
        if (w->factor != 0) rows[i] *= w->factor;
    }
    w->calls++;
    return FCT_OK;
}

/* Every module that has a name, looked at going in and coming out, some edited: the parts that a
   run without taps computes in one operation are here computed apart. */
static void test_taps(void **state)
{
    (void)state;
    static const struct {
        const char *module;
        fct_tap_what what;
        float factor;
    } kinds[] = {{"*", FCT_TAP_IN, 0},
                 {"*", FCT_TAP_OUT, 0},
                 {"mid.0", FCT_TAP_DELTA, 0},
                 {"mid.0", FCT_TAP_DELTA, 1.5f},
                 {"mid.0", FCT_TAP_DELTA, 0}, /* sees what the editing one did */
                 {"unet.*.attn1.to_v", FCT_TAP_OUT, 0.5f},
                 {"unet.*.resnets.0.conv1", FCT_TAP_OUT, 0.75f},
                 {"unet.*.norm2", FCT_TAP_IN, 1.25f}};
    for (int half = 0; half < 2; half++) {
        fixture f;
        watch w[BOTH][FCT_COUNT(kinds)] = {{{0}}};
        fct_run_result r[BOTH];
        fct_settings settings = {.width = 32, .height = 32, .steps = 2, .guidance = 2};
        open_both(&f, "a", half ? FCT_PRECISION_BF16 : FCT_PRECISION_F32);
        for (int i = 0; i < BOTH; i++) {
            fct_tap taps[FCT_COUNT(kinds)];
            for (size_t k = 0; k < FCT_COUNT(kinds); k++) {
                w[i][k].factor = kinds[k].factor;
                taps[k] = (fct_tap){.module = kinds[k].module,
                                    .what = kinds[k].what,
                                    .edits = kinds[k].factor != 0,
                                    .user = &w[i][k],
                                    .fn = watch_tap};
            }
            assert_ok(fct_session_run(f.s[i],
                                      &(fct_run_desc){.items = items,
                                                      .n_items = 2,
                                                      .settings = &settings,
                                                      .no_decode = true,
                                                      .taps = taps,
                                                      .n_taps = FCT_COUNT(kinds)},
                                      &r[i]));
        }
        for (size_t k = 0; k < FCT_COUNT(kinds); k++) {
            assert_true(w[HOST][k].calls > 0 && w[HOST][k].calls == w[CLOSED][k].calls);
            assert_true(w[HOST][k].sum == w[CLOSED][k].sum);
        }
        assert_true(w[CLOSED][4].sum != w[CLOSED][2].sum);
        assert_same("taps", r);
        for (int i = 0; i < BOTH; i++) fct_run_result_clear(&r[i]);
        close_both(&f);
    }
}

/* ---- edits with SAEs, resumed runs ---- */

static void edit_both(fixture *f, const char *const *texts, int n, const fct_run_desc *d)
{
    fct_run_result r[BOTH];
    for (int i = 0; i < BOTH; i++) {
        fct_edit edits[4];
        for (int k = 0; k < n; k++) {
            assert_ok(fct_edit_parse(&edits[k], texts[k]));
            assert_ok(fct_edit_load(&edits[k], test_path("golden/edit")));
        }
        int64_t before = closed.operations;
        assert_ok(fct_edit_run(f->s[i], d, edits, n, &f->saes, &r[i]));
        if (i == CLOSED) assert_true(closed.operations > before + 50);
        for (int k = 0; k < n; k++) fct_edit_clear(&edits[k]);
    }
    assert_same(texts[0], r);
    for (int i = 0; i < BOTH; i++) fct_run_result_clear(&r[i]);
}

static void test_edits(void **state)
{
    (void)state;
    fixture f;
    static const char *const first[] = {"mid.0:5 +2.3 @mask.png", "up.0.1:7 x-1.5 static",
                                        "down.2.1 rebuild"},
                            *const second[] = {"mid.0:5 +1.1 @mask.png", "up.0.1:7 x2 static",
                                               "down.2.1 rebuild"},
                            *const third[] = {"mid.0:3 =2", "up.0.1:9 only 2"};
    fct_settings settings = {.width = 32, .height = 32, .steps = 2, .guidance = 2};
    fct_run_desc d = {.items = items, .n_items = 1, .settings = &settings, .no_decode = true};
    fct_session_counts c;
    open_both(&f, "a", FCT_PRECISION_F32);
    edit_both(&f, first, 3, &d);
    edit_both(&f, second, 3, &d); /* begins at a moment of the one before */
    fct_session_count(f.s[CLOSED], &c);
    assert_true(c.resumed > 0);
    edit_both(&f, third, 2, &d);
    close_both(&f);
}

/* ---- capturing, looking ---- */

static void test_capture(void **state)
{
    (void)state;
    fixture f;
    fct_settings settings = {.width = 32, .height = 16, .steps = 1, .guidance = 2};
    const fct_prompt prompts[] = {{.text = "a dog"}, {.text = "a cat"}, {.text = "rain"}};
    fct_store *store[BOTH];
    open_both(&f, "a", FCT_PRECISION_F32);
    for (int i = 0; i < BOTH; i++) {
        const char *out = temp_path(i ? "closed" : "host");
        assert_ok(fct_capture(&(fct_capture_desc){.session = f.s[i],
                                                  .prompts = prompts,
                                                  .n_prompts = 3,
                                                  .settings = &settings,
                                                  .branch = FCT_HALF_BOTH,
                                                  .store_dtype = FCT_STORE_F32,
                                                  .batch = 2,
                                                  .out = out},
                              NULL));
        assert_ok(fct_store_open(&store[i], out));
    }
    const fct_store_info *info = fct_store_get_info(store[HOST]);
    assert_true(info->n_blocks > 0);
    for (int64_t b = 0; b < info->n_blocks; b++) {
        const fct_store_block *k = &info->block[b];
        float *rows[BOTH];
        for (int i = 0; i < BOTH; i++) {
            assert_ok(fct_new(&rows[i], k->rows * k->d, sizeof *rows[i]));
            assert_ok(fct_store_read(store[i], b, 0, k->rows, rows[i], NULL));
        }
        assert_memory_equal(rows[HOST], rows[CLOSED], (size_t)(k->rows * k->d) * sizeof **rows);
        for (int i = 0; i < BOTH; i++) fct_free(rows[i]);
    }
    for (int i = 0; i < BOTH; i++) fct_store_close(store[i]);
    close_both(&f);
}

/* ---- the device itself ---- */

/* A test of the test: reading outside of an operation must end the process, so the pages are asked
   instead; and an operation on host memory is refused. */
static void test_closed(void **state)
{
    (void)state;
    fct_backend be = closed_backend();
    fct_cx cx;
    fct_arena arena;
    float host[4] = {1, 2, 3, 4}, back[4], *there;
    assert_ok(fct_cx_open(&cx, &be, NULL));
    assert_ok(fct_device_arena_init(be.device, &arena, 256));
    cx.arena = &arena;
    assert_ok(fct_device_take(be.device, &there, 4, sizeof *there));
    assert_ok(be.device->write(there, host, sizeof host));
    int end[2];
    assert_int_equal(pipe(end), 0);
    assert_int_equal(write(end[1], there, sizeof host), -1); /* EFAULT: the page is unreadable */
    close(end[0]);
    close(end[1]);
    fct_tensor x = fct_tensor_of(there, FCT_F32, 1, (int64_t[]){4}), y = x;
    assert_ok(fct_op_add(&cx, &(fct_add_args){.a = x, .b = x, .y = y, .scale = 1}));
    assert_ok(be.device->read(back, there, sizeof back));
    for (int i = 0; i < 4; i++) assert_true(back[i] == 2 * host[i]);
    x.data = host;
    assert_fails(FCT_ERR_INTERNAL, "an argument is host memory",
                 fct_op_add(&cx, &(fct_add_args){.a = x, .b = x, .y = y, .scale = 1}));
    fct_device_release(be.device, there);
    fct_device_arena_clear(be.device, &arena);
    fct_cx_close(&cx);
    assert_int_equal(closed.taken, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed),        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_decode_encode), cmocka_unit_test(test_taps),
        cmocka_unit_test(test_edits),         cmocka_unit_test(test_capture),
    };
    return cmocka_run_group_tests_name("device", tests, NULL, temp_clear);
}

/* test_model_parity.c - the random twins against PyTorch and diffusers: text states, every named
   stage, final latents, pictures; with both backends in f32, and in bf16 against torch's own
   distance. Prints the worst value of every kind. */
#include "fct_test.h"
#include "twin.h"

#include "facet/session.h"
#include "model/model.h"

static const double f32_bound = 1e-4; /* observed: see the printed lines */
static const double bf16_bound = 2e-2;

typedef struct twin {
    const char *name;
    char folder[1024];
    json_t *description;
    fct_safetensors golden;
} twin;

static void twin_open(twin *t, const char *name)
{
    char path[64];
    *t = (twin){.name = name};
    snprintf(path, sizeof path, "golden/twin/%s.json", name);
    snprintf(t->folder, sizeof t->folder, "%s", temp_path(name));
    assert_ok(twin_write(test_path(path), t->folder));
    assert_ok(fct_json_read(&t->description, test_path(path)));
    snprintf(path, sizeof path, "golden/twin/%s.safetensors", name);
    assert_ok(fct_safetensors_open(&t->golden, test_path(path)));
}

static void twin_close(twin *t)
{
    json_decref(t->description);
    fct_safetensors_close(&t->golden);
}

static double distance(const float *got, const float *want, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        s += (double)want[i] * want[i];
    }
    return sqrt(d) / (sqrt(s) > 0 ? sqrt(s) : 1);
}

/* ---- a case of the description as a run ---- */

typedef struct run_case {
    fct_run_item item[8];
    fct_settings settings;
    fct_run_desc desc;
    double bf16_distance; /* -1: not recorded */
} run_case;

static int64_t pair_at(const json_t *c, const char *key, size_t i)
{
    return json_integer_value(json_array_get(json_object_get(json_object_get(c, "sizes"), key), i));
}

static void read_case(run_case *r, const json_t *c)
{
    *r = (run_case){.bf16_distance = -1};
    const json_t *prompts = json_object_get(c, "prompt"), *second = json_object_get(c, "prompt_2"),
                 *seeds = json_object_get(c, "seeds");
    size_t n = json_array_size(prompts);
    for (size_t i = 0; i < n; i++) {
        r->item[i].prompt = json_string_value(json_array_get(prompts, i));
        r->item[i].prompt_2 = json_string_value(json_array_get(second, i));
        r->item[i].seed = (uint64_t)json_integer_value(seeds ? json_array_get(seeds, i)
                                                             : json_object_get(c, "seed"));
    }
    const json_t *size = json_object_get(c, "size");
    double guidance = json_number_value(json_object_get(c, "guidance"));
    r->settings = (fct_settings){.joint_noise = !seeds,
                                 .height = json_integer_value(json_array_get(size, 0)),
                                 .width = json_integer_value(json_array_get(size, 1)),
                                 .steps = json_integer_value(json_object_get(c, "steps")),
                                 .guidance = guidance != 0 ? guidance : FCT_NONE,
                                 .negative = json_string_value(json_object_get(c, "negative")),
                                 .original_height = pair_at(c, "original_size", 0),
                                 .original_width = pair_at(c, "original_size", 1),
                                 .crop_top = pair_at(c, "crops_coords_top_left", 0),
                                 .crop_left = pair_at(c, "crops_coords_top_left", 1),
                                 .target_height = pair_at(c, "target_size", 0),
                                 .target_width = pair_at(c, "target_size", 1)};
    r->desc = (fct_run_desc){.items = r->item, .n_items = (int64_t)n, .settings = &r->settings};
    if (json_object_get(c, "bf16_distance"))
        r->bf16_distance = json_number_value(json_object_get(c, "bf16_distance"));
}

/* ---- stages ---- */

typedef struct watch {
    const fct_tensor *want;
    const char *name;
    double worst;
    int seen;
} watch;

static fct_status compare_stage(void *user, const fct_tap_event *event, fct_tensor *value)
{
    watch *w = user;
    (void)event;
    if (w->seen++) return FCT_OK; /* the golden has the first step */
    char a[64], b[64];
    fct_shape_text(a, sizeof a, value);
    fct_shape_text(b, sizeof b, w->want);
    if (strcmp(a, b) != 0) return fct_fail(FCT_ERR_SHAPE, "%s: got %s, want %s", w->name, a, b);
    w->worst = distance(value->data, w->want->data, fct_tensor_count(value));
    return FCT_OK;
}

static int64_t watch_all(fct_tap *tap, watch *w, char (*module)[192], const twin *t,
                         const char *prefix)
{
    int64_t n = 0;
    size_t k = strlen(prefix);
    for (int64_t i = 0; i < t->golden.n; i++) {
        const char *name = t->golden.entry[i].name;
        if (strncmp(name, prefix, k) != 0 || strncmp(name + k, "unet.", 5) != 0) continue;
        const char *colon = strchr(name, ':');
        snprintf(module[n], 192, "%.*s", (int)(colon - name - (int64_t)k), name + k);
        w[n] = (watch){.want = &t->golden.entry[i].t, .name = name};
        tap[n] = (fct_tap){.module = module[n],
                           .user = &w[n],
                           .fn = compare_stage,
                           .what = strcmp(colon, ":in") == 0      ? FCT_TAP_IN
                                   : strcmp(colon, ":delta") == 0 ? FCT_TAP_DELTA
                                                                  : FCT_TAP_OUT};
        n++;
    }
    return n;
}

static double check_stages(const watch *w, int64_t n, double bound)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        if (w[i].seen == 0) fail_msg("%s was never reached", w[i].name);
        if (!(w[i].worst <= bound))
            fail_msg("%s: rel-L2 %.3g, bound %.3g", w[i].name, w[i].worst, bound);
        if (w[i].worst > worst) worst = w[i].worst;
    }
    return worst;
}

/* ---- one case ---- */

static const fct_tensor *golden(const twin *t, const char *name, const char *what)
{
    char key[96];
    snprintf(key, sizeof key, "%s/%s", name, what);
    return fct_safetensors_find(&t->golden, key);
}

static double share_close(const uint8_t *got, const fct_tensor *want)
{
    const uint8_t *w = want->data;
    int64_t n = fct_tensor_count(want), close = 0;
    for (int64_t i = 0; i < n; i++) close += got[i] - w[i] <= 1 && w[i] - got[i] <= 1;
    return (double)close / (double)n;
}

/* PyTorch's latents through the decoder alone. */
static void check_decoder(fct_session *s, const fct_tensor *latents, const fct_tensor *pixels)
{
    uint8_t *got = NULL;
    assert_ok(fct_new(&got, fct_tensor_count(pixels), 1));
    assert_ok(fct_session_decode(s, latents, got));
    assert_true(share_close(got, pixels) >= 0.999);
    fct_free(got);
    fct_tensor wrong = *latents;
    wrong.dim[1]++;
    assert_fails(FCT_ERR_SHAPE, "latents are f32 [B,4,h,w]", fct_session_decode(s, &wrong, got));
}

static void run_one(fct_session *s, const twin *t, const char *name, const json_t *c)
{
    enum { MOST = 256 };
    static fct_tap tap[MOST];
    static watch w[MOST];
    static char module[MOST][192];
    run_case r;
    read_case(&r, c);
    const fct_model *m = fct_session_model(s);
    bool f32 = strcmp(fct_model_get_info(m)->precision, "f32") == 0;
    if (!f32 && r.bf16_distance < 0) return;
    double bound = f32                                  ? f32_bound
                   : 1.2 * r.bf16_distance > bf16_bound ? 1.2 * r.bf16_distance
                                                        : bf16_bound;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s/", name);
    const fct_tensor *pixels = golden(t, name, "pixels"), *latents = golden(t, name, "latents");
    r.desc.no_decode = !pixels;
    fct_run_result out;
    assert_ok(fct_session_run(s, &r.desc, &out));
    assert_int_equal(fct_tensor_count(&out.latents), fct_tensor_count(latents));
    double d = distance(out.latents.data, latents->data, fct_tensor_count(latents)), stages = 0,
           share = 1;
    if (!(d <= bound))
        fail_msg("%s/%s %s %s: latents rel-L2 %.3g, bound %.3g", t->name, name,
                 fct_model_get_info(m)->backend, f32 ? "f32" : "bf16", d, bound);
    if (pixels && f32) {
        share = share_close(out.pixels, pixels);
        if (share < 0.999) fail_msg("%s/%s: only %.5f of the pixels agree", t->name, name, share);
        check_decoder(s, latents, pixels);
    }
    int64_t n = f32 ? watch_all(tap, w, module, t, prefix) : 0;
    if (n) { /* a second, watched run: every stage, and nothing changed by looking beyond rounding
              */
        fct_run_result seen;
        r.desc.taps = tap;
        r.desc.n_taps = n;
        r.desc.no_decode = true;
        assert_ok(fct_session_run(s, &r.desc, &seen));
        stages = check_stages(w, n, bound);
        assert_true(distance(seen.latents.data, latents->data, fct_tensor_count(latents)) <= bound);
        fct_run_result_clear(&seen);
    }
    print_message(
        "  %s/%-8s %-3s %-4s latents %.2e (bound %.1e)  %d stages %.2e  pixels within 1: %.5f\n",
        t->name, name, fct_model_get_info(m)->backend, f32 ? "f32" : "bf16", d, bound, (int)n,
        stages, share);
    fct_run_result_clear(&out);
}

static void run_twin(const char *name, const char *backend, fct_precision precision)
{
    twin t;
    fct_model *m = NULL;
    fct_session *s = NULL;
    const char *key;
    json_t *c;
    twin_open(&t, name);
    assert_ok(fct_model_open(
        &m, &(fct_model_desc){.path = t.folder, .backend = backend, .precision = precision}));
    assert_ok(fct_session_open(&s, m, NULL));
    json_object_foreach(json_object_get(t.description, "cases"), key, c) run_one(s, &t, key, c);
    fct_session_close(s);
    fct_model_close(m);
    twin_close(&t);
}

static void test_ref(void **s)
{
    (void)s;
    run_twin("a", "ref", FCT_PRECISION_F32);
    run_twin("b", "ref", FCT_PRECISION_F32);
}

static void test_cpu(void **s)
{
    (void)s;
    run_twin("a", "cpu", FCT_PRECISION_F32);
    run_twin("b", "cpu", FCT_PRECISION_F32);
}

static void test_bf16(void **s)
{
    (void)s;
    run_twin("a", "cpu", FCT_PRECISION_BF16);
    run_twin("b", "cpu", FCT_PRECISION_BF16);
}

/* ---- text encoders and VAE alone ---- */

static void check_text(const twin *t, fct_model *m)
{
    run_case r;
    read_case(&r, json_object_get(json_object_get(t->description, "cases"), "one"));
    const fct_tensor *text = golden(t, "one", "text"), *pooled = golden(t, "one", "pooled");
    int64_t tokens = text->dim[1], from = 0, width = text->dim[2];
    float *vector = NULL;
    assert_ok(fct_new(&vector, fct_tensor_count(pooled), sizeof *vector));
    for (int i = 0; i < 2; i++) {
        int32_t *ids = NULL;
        int64_t n = 0, c = m->clip_config[i].hidden_size;
        const char *prompt = i && r.item[0].prompt_2 ? r.item[0].prompt_2 : r.item[0].prompt;
        assert_ok(fct_model_tokenize(m, i, prompt, &ids, &n, NULL));
        assert_int_equal(n, tokens);
        float *got = NULL, *want = NULL;
        assert_ok(fct_new(&got, tokens * c, sizeof *got));
        assert_ok(fct_new(&want, tokens * c, sizeof *want));
        for (int64_t k = 0; k < tokens; k++)
            memcpy(want + k * c, (const float *)text->data + k * width + from,
                   (size_t)c * sizeof *want);
        fct_arena arena;
        fct_rt rt = {.dtype = FCT_F32};
        assert_ok(fct_arena_init(&arena, 1 << 24));
        assert_ok(fct_cx_open(&rt.cx, m->be, NULL));
        rt.cx.arena = &arena;
        assert_ok(fct_clip_encode(&rt, m->clip[i], ids, 1, tokens,
                                  fct_tensor_of(got, FCT_F32, 3, (int64_t[]){1, tokens, c}),
                                  vector));
        double d = distance(got, want, tokens * c);
        print_message("  twin %s text encoder %d: %.2e\n", t->name, i + 1, d);
        assert_true(d <= 1e-5);
        fct_cx_close(&rt.cx);
        fct_arena_clear(&arena);
        fct_free(got);
        fct_free(want);
        fct_free(ids);
        from += c;
    }
    double d = distance(vector, pooled->data, fct_tensor_count(pooled));
    print_message("  twin %s pooled: %.2e\n", t->name, d);
    assert_true(d <= 1e-5);
    fct_free(vector);
}

static void check_encoder(const twin *t, fct_session *s)
{
    const fct_tensor *pixels = golden(t, "one", "encode_pixels"),
                     *want = golden(t, "one", "encoded");
    float *got = NULL;
    assert_ok(fct_new(&got, fct_tensor_count(want), sizeof *got));
    assert_ok(fct_session_encode(s, pixels->data, 1, pixels->dim[2], pixels->dim[1], got));
    double d = distance(got, want->data, fct_tensor_count(want));
    print_message("  twin %s VAE encoder: %.2e\n", t->name, d);
    assert_true(d <= 1e-5);
    fct_free(got);
}

static void test_parts(void **s)
{
    (void)s;
    for (int i = 0; i < 2; i++) {
        twin t;
        fct_model *m = NULL;
        fct_session *session = NULL;
        twin_open(&t, i ? "b" : "a");
        assert_ok(fct_model_open(
            &m, &(fct_model_desc){.path = t.folder, .precision = FCT_PRECISION_F32}));
        check_text(&t, m);
        assert_ok(fct_session_open(&session, m, NULL));
        check_encoder(&t, session);
        fct_session_close(session);
        fct_model_close(m);
        twin_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parts), cmocka_unit_test(test_ref),
                                       cmocka_unit_test(test_cpu), cmocka_unit_test(test_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

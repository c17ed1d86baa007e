/* test_edit_twin.h - a random twin on disk with random SAEs on its blocks, as
 * tools/make_edit_goldens.py draws them. */
#ifndef FCT_TEST_EDIT_TWIN_H
#define FCT_TEST_EDIT_TWIN_H

#include "edit/edit.h"
#include "fct_test.h"
#include "sae/sae.h"
#include "twin.h"

typedef struct edit_twin {
    char folder[1024];
    json_t *listed; /* edits.json */
    fct_model *model;
    fct_session *session;
    fct_sae_set saes;
} edit_twin;

/* n normals, times scale (an f32 product, as torch's), their size plus `least` when that is
 * positive. */
static inline void draw_normals(fct_rng *rng, float *out, int64_t n, float scale, float least)
{
    fct_rng_normal(rng, out, n);
    for (int64_t i = 0; i < n; i++) out[i] = least > 0 ? fabsf(out[i]) + least : out[i] * scale;
}

static inline fct_sae *draw_sae(const json_t *spec)
{
    fct_sae *s;
    fct_rng rng;
    int64_t d = json_integer_value(json_object_get(spec, "d")),
            f = json_integer_value(json_object_get(spec, "f"));
    assert_ok(fct_sae_new(&s, FCT_SAE_TOPK, d, f, json_integer_value(json_object_get(spec, "k"))));
    fct_rng_init(&rng, (uint64_t)json_integer_value(json_object_get(spec, "seed")));
    assert_ok(fct_new(&s->density, f, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->mean, f, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->std, f, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->max, f, (int64_t)sizeof(float)));
    s->has_stats = s->apply_b_dec_to_input = true;
    draw_normals(&rng, s->w_enc, f * d, 1, 0);
    draw_normals(&rng, s->b_enc, f, 0.1f, 0);
    draw_normals(&rng, s->w_dec, f * d, 0.15f, 0);
    draw_normals(&rng, s->b_dec, d, 0.1f, 0);
    draw_normals(&rng, s->mean, f, 1, 0.5f);
    draw_normals(&rng, s->std, f, 1, 0.25f);
    draw_normals(&rng, s->max, f, 1, 4);
    return s;
}

static inline void edit_twin_open(edit_twin *t, const char *name)
{
    char path[64];
    json_t *spec;
    const char *block;
    *t = (edit_twin){0};
    fct_threads_set(1); /* threads only wait for each other in layers this small */
    snprintf(path, sizeof path, "golden/twin/%s.json", name);
    snprintf(t->folder, sizeof t->folder, "%s", temp_path(name));
    assert_ok(twin_write(test_path(path), t->folder));
    assert_ok(fct_json_read(&t->listed, test_path("golden/edit/edits.json")));
    assert_ok(fct_model_open(&t->model,
                             &(fct_model_desc){.path = t->folder, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_session_open(&t->session, t->model, NULL));
    json_object_foreach(json_object_get(json_object_get(t->listed, "saes"), name), block, spec)
        assert_ok(fct_sae_set_bind(&t->saes, fct_model_get_info(t->model), block, draw_sae(spec),
                                   true));
}

static inline void edit_twin_close(edit_twin *t)
{
    fct_sae_set_clear(&t->saes);
    fct_session_close(t->session);
    fct_model_close(t->model);
    json_decref(t->listed);
    remove_tree(t->folder);
}

/* One of the golden's settings as a run. items: room for 4. */
static inline void read_setting(fct_run_desc *d, fct_settings *settings, fct_run_item *items,
                                const edit_twin *t, const char *twin, const char *setting)
{
    const json_t *s =
        json_object_get(json_object_get(json_object_get(t->listed, "settings"), twin), setting);
    const json_t *prompts = json_object_get(s, "prompt"), *size = json_object_get(s, "size");
    size_t n = json_array_size(prompts);
    for (size_t i = 0; i < n; i++)
        items[i] = (fct_run_item){.prompt = json_string_value(json_array_get(prompts, i)),
                                  .seed = (uint64_t)json_integer_value(json_object_get(s, "seed"))};
    double guidance = json_number_value(json_object_get(s, "guidance"));
    *settings = (fct_settings){.joint_noise = true,
                               .height = json_integer_value(json_array_get(size, 0)),
                               .width = json_integer_value(json_array_get(size, 1)),
                               .steps = json_integer_value(json_object_get(s, "steps")),
                               .guidance = guidance != 0 ? guidance : FCT_NONE,
                               .negative = json_string_value(json_object_get(s, "negative"))};
    *d = (fct_run_desc){
        .items = items, .n_items = (int64_t)n, .settings = settings, .no_decode = true};
}

static inline double rel_l2(const float *got, const float *want, const float *scale, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = (double)got[i] - (double)want[i],
               b = scale ? (double)want[i] - (double)scale[i] : (double)want[i];
        d += a * a;
        s += b * b;
    }
    return sqrt(d / s);
}

#endif

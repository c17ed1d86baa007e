/* test_edit_key.c - the keys of editing taps: whatever changes what edits do changes the key, and
   what changes nothing (their order, other blocks, how a file is named) does not. No model is
   needed: codes of other runs are gathered by hand. */
#include "edit/edit.h"
#include "fct_test.h"
#include "sae/sae.h"

enum { D = 4, F = 6, K = 2, H = 2, W = 3, CELLS = H * W };

static const fct_block_info blocks[] = {{"unet.mid_block.attentions.0", "mid.0", D, 3, 1},
                                        {"unet.up_blocks.0.attentions.1", "up.0.1", D, 7, 1}};
static const fct_model_info info = {.name = "test",
                                    .block = blocks,
                                    .n_blocks = 2,
                                    .default_width = 24,
                                    .default_height = 16,
                                    .default_steps = 3};

/* Every part that an SAE can have, so that each can be changed. */
static fct_sae *make_sae(fct_sae_kind kind)
{
    fct_sae *s;
    fct_rng rng;
    fct_rng_init(&rng, 5);
    assert_ok(fct_sae_new(&s, kind, D, F, kind == FCT_SAE_TOPK ? K : 0));
    fct_rng_normal(&rng, s->w_enc, F * D);
    fct_rng_normal(&rng, s->w_dec, F * D);
    fct_rng_normal(&rng, s->b_enc, F);
    fct_rng_normal(&rng, s->b_dec, D);
    assert_ok(fct_new(&s->mean, F, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->std, F, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->max, F, (int64_t)sizeof(float)));
    s->has_stats = true;
    for (int f = 0; f < F; f++) {
        s->mean[f] = 1 + (float)f;
        s->std[f] = 0.5f;
        s->max[f] = 10;
    }
    return s;
}

typedef struct scene { /* what the edits of one run are given */
    const char *text[4];
    fct_sae *sae;       /* of both blocks; NULL: a TopK one */
    fct_mask *mask;     /* replaces the first edit's */
    float clean, taken; /* the rows of the clean and the source run are multiples of these */
} scene;

static void gather_all(fct_edit_set *set, const scene *v)
{
    float x[CELLS * D];
    fct_tensor t = fct_tensor_of(x, FCT_F32, 4, (int64_t[]){1, H, W, D});
    for (int64_t p = 0; p < set->n_plans; p++)
        for (int64_t step = 1; step <= 3; step++) {
            fct_tap_event e = {.block = set->plan[p].block, .step = step, .steps = 3, .items = 1};
            for (int i = 0; i < CELLS * D; i++) x[i] = v->clean * (float)(i % 7 - 3);
            if (set->plan[p].clean.first_step > 0)
                assert_ok(fct_gather_tap(&set->plan[p].clean, &e, &t));
            for (int i = 0; i < CELLS * D; i++) x[i] = v->taken * (float)(i % 5 - 2);
            for (int64_t s = 0; s < set->n_sources; s++)
                if (set->source[s].gather[p].block)
                    assert_ok(fct_gather_tap(&set->source[s].gather[p], &e, &t));
        }
}

/* The keys of the scene's taps, "KEY KEY"; steps: of the first tap. */
static void keys_of(char out[140], int64_t steps[2], const scene *v)
{
    static const char recipe[] = "{\"format\":\"facet-recipe\",\"prompt\":\"a\"}";
    fct_edit edits[4];
    fct_edit_set set;
    fct_sae_set saes = {0};
    fct_run_desc d = {.settings = &(fct_settings){.guidance = 5}};
    int n = 0;
    for (int b = 0; b < 2; b++) {
        fct_sae *own = v->sae ? v->sae : make_sae(FCT_SAE_TOPK);
        assert_ok(fct_sae_set_bind(&saes, &info, blocks[b].name, own, v->sae == NULL));
    }
    for (; n < 4 && v->text[n]; n++) {
        assert_ok(fct_edit_parse(&edits[n], v->text[n]));
        if (edits[n].op != FCT_EDIT_FROM) continue;
        assert_ok(fct_new(&edits[n].source, 1, (int64_t)sizeof *edits[n].source));
        assert_ok(fct_recipe_parse(edits[n].source, recipe, (int64_t)strlen(recipe), "r.json"));
    }
    fct_mask own = edits[0].mask;
    if (v->mask) edits[0].mask = *v->mask;
    assert_ok(fct_edit_compile(&set, &info, &d, edits, n, &saes));
    gather_all(&set, v);
    fct_edit_set_make_keys(&set);
    out[0] = '\0';
    steps[0] = set.tap[0].first_step;
    steps[1] = set.tap[0].last_step;
    for (int64_t p = 0; p < set.n_plans; p++) {
        assert_int_equal(strlen(set.tap[p].key), 64);
        snprintf(out + strlen(out), 140 - strlen(out), "%s%s", p ? " " : "", set.tap[p].key);
    }
    fct_edit_set_clear(&set);
    edits[0].mask = own;
    while (n > 0) fct_edit_clear(&edits[--n]);
    fct_sae_set_clear(&saes);
}

static bool same_keys(const scene *a, const scene *b)
{
    char key_a[140], key_b[140];
    int64_t steps[2];
    keys_of(key_a, steps, a);
    keys_of(key_b, steps, b);
    return strcmp(key_a, key_b) == 0;
}

/* ---- edits ---- */

/* Each differs from every other in what it does. */
static const char *const differing[] = {"mid.0:0 +2",
                                        "mid.0:0 +2.5",
                                        "mid.0:0 -2",
                                        "mid.0:1 +2",
                                        "mid.0:0 x2",
                                        "mid.0:0 =2",
                                        "mid.0:0 only 2",
                                        "mid.0 rebuild",
                                        "mid.0 zero",
                                        "mid.0:0 +2 unit=one",
                                        "mid.0:0 +2 unit=std",
                                        "mid.0:0 +2 unit=max",
                                        "mid.0:0 +2 branch=cond",
                                        "mid.0:0 +2 branch=uncond",
                                        "mid.0:0 +2 steps=1",
                                        "mid.0:0 +2 steps=2",
                                        "mid.0:0 +2 steps=1-2",
                                        "mid.0:0 +2 @box:0,0,0.5,1",
                                        "mid.0:0 +2 @box:0,0,0.5,0.9",
                                        "mid.0:0 +2 @ellipse:0,0,0.5,1",
                                        "mid.0:0 +2 @map:1>0",
                                        "mid.0:0 +2 @map:2>0",
                                        "mid.0:0 +2 @map:1>0.5",
                                        "mid.0:0 +2 @map:1>0 static",
                                        "mid.0:0 x2 static",
                                        "mid.0 rebuild static",
                                        "mid.0 from r.json:0 x2",
                                        "mid.0 from r.json:0 x1",
                                        "mid.0 from r.json:1 x1",
                                        "mid.0 from r.json:0,1 x1",
                                        "up.0.1:0 +2",
                                        "up.0.1:0 x2"};

static void test_differing(void **state)
{
    (void)state;
    static char key[FCT_COUNT(differing)][140];
    int64_t steps[2];
    for (size_t i = 0; i < FCT_COUNT(differing); i++) {
        keys_of(key[i], steps, &(scene){.text = {differing[i]}, .clean = 1, .taken = 1});
        for (size_t k = 0; k < i; k++)
            if (strcmp(key[i], key[k]) == 0)
                fail_msg("%s and %s have one key", differing[i], differing[k]);
    }
}

static void test_order(void **state)
{
    (void)state;
    char one[140], both[140];
    int64_t steps[2];
    scene a = {.text = {"mid.0:0 +2 steps=2", "up.0.1:3 x0", "mid.0:1 x2 steps=3"}},
          b = {.text = {"mid.0:1 x2 steps=3", "mid.0:0 +2 steps=2", "up.0.1:3 x0"}},
          more = {.text = {"mid.0:0 +2 steps=2"}},
          again = {.text = {"mid.0:0 +2 steps=2", "up.0.1:3 x0"}};
    assert_true(same_keys(&a, &b));
    assert_false(same_keys(&a, &more));
    keys_of(both, steps, &a);
    assert_true(steps[0] == 2 && steps[1] == 3); /* of both edits of mid.0 */
    keys_of(one, steps, &more);
    assert_true(steps[0] == 2 && steps[1] == 2);
    keys_of(both, steps, &again); /* the other block's edit is not in this block's key */
    assert_memory_equal(one, both, 64);
    keys_of(one, steps, &(scene){.text = {"mid.0:0 +2"}});
    assert_true(steps[0] == 1 && steps[1] == 3); /* all steps of the run */
}

/* ---- what edits read ---- */

static void test_masks(void **state)
{
    (void)state;
    char name_a[] = "a.png", name_b[] = "a.png";
    uint8_t grey_a[6] = {0, 255, 255, 0, 7, 9}, grey_b[6] = {0, 255, 255, 0, 7, 10};
    fct_mask a = {.kind = FCT_MASK_FILE, .path = name_a, .width = 3, .height = 2, .grey = grey_a},
             b = {.kind = FCT_MASK_FILE, .path = name_b, .width = 3, .height = 2, .grey = grey_b};
    scene with_a = {.text = {"mid.0:0 +2"}, .mask = &a},
          with_b = {.text = {"mid.0:0 +2"}, .mask = &b};
    assert_false(same_keys(&with_a, &with_b));
    grey_b[5] = 9;
    assert_true(same_keys(&with_a, &with_b));
    b.width = 2;
    b.height = 3;
    assert_false(same_keys(&with_a, &with_b));
}

static void test_other_runs(void **state)
{
    (void)state;
    scene a = {.text = {"mid.0:0 x2 static"}, .clean = 1},
          b = {.text = {"mid.0:0 x2 static"}, .clean = 1.5f},
          live = {.text = {"mid.0:0 x2"}, .clean = 1},
          dead = {.text = {"mid.0:0 x2"}, .clean = 1.5f};
    assert_true(same_keys(&a, &a));
    assert_false(same_keys(&a, &b));
    assert_true(same_keys(&live, &dead)); /* reads no codes of the clean run */
    scene from = {.text = {"mid.0 from r.json:0"}, .taken = 1}, more = from;
    more.taken = 1.5f;
    assert_true(same_keys(&from, &from));
    assert_false(same_keys(&from, &more));
}

/* Changes one thing of the SAE and wants another key. */
static void want_change(fct_sae *s, float *at, const char *text, bool changes)
{
    char before[140], after[140];
    int64_t steps[2];
    scene v = {.text = {text}, .sae = s};
    keys_of(before, steps, &v);
    *at += 0.25f;
    keys_of(after, steps, &v);
    if ((strcmp(before, after) != 0) != changes)
        fail_msg("%s: the key %s", text, changes ? "stayed" : "changed");
}

static void test_saes(void **state)
{
    (void)state;
    fct_sae *s = make_sae(FCT_SAE_TOPK);
    char key[8][140];
    int64_t steps[2];
    want_change(s, &s->w_enc[F * D - 1], "mid.0:0 x2", true);
    want_change(s, &s->b_enc[2], "mid.0:0 x2", true);
    want_change(s, &s->w_dec[3], "mid.0:0 x2", true);
    want_change(s, &s->b_dec[1], "mid.0 rebuild", true);
    want_change(s, &s->mean[1], "mid.0:1 +2", true);
    want_change(s, &s->mean[2], "mid.0:1 +2", false);
    want_change(s, &s->std[1], "mid.0:1 =2 unit=std", true);
    want_change(s, &s->max[1], "mid.0:1 only 2 unit=max", true);
    want_change(s, &s->mean[1], "mid.0:1 +2 unit=one", false);
    want_change(s, &s->w_enc[0], "mid.0 zero", false);
    want_change(s, &s->w_enc[0], "mid.0 zero @map:1>0", true);
    fct_sae_free(s);
    s = make_sae(FCT_SAE_JUMPRELU);
    want_change(s, &s->threshold[4], "mid.0:0 x2", true);
    fct_sae_free(s);
    s = make_sae(FCT_SAE_GATED);
    want_change(s, &s->b_mag[4], "mid.0:0 x2", true);
    want_change(s, &s->r_mag[4], "mid.0:0 x2", true);
    fct_sae_free(s);
    s = make_sae(FCT_SAE_TOPK);
    scene v = {.text = {"mid.0:0 x2"}, .sae = s};
    keys_of(key[0], steps, &v);
    s->normalize = FCT_SAE_NORMALIZE_LAYER;
    keys_of(key[1], steps, &v);
    s->normalize = FCT_SAE_NORMALIZE_NORM;
    keys_of(key[2], steps, &v);
    s->apply_b_dec_to_input = !s->apply_b_dec_to_input;
    keys_of(key[3], steps, &v);
    assert_ok(fct_sae_set_dec_norm(s));
    keys_of(key[4], steps, &v);
    s->k = K - 1;
    keys_of(key[5], steps, &v);
    s->kind = FCT_SAE_RELU;
    s->k = 0;
    keys_of(key[6], steps, &v);
    for (int i = 0; i < 7; i++)
        for (int k = 0; k < i; k++) assert_string_not_equal(key[i], key[k]);
    fct_sae_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_differing),
                                       cmocka_unit_test(test_order), cmocka_unit_test(test_masks),
                                       cmocka_unit_test(test_other_runs),
                                       cmocka_unit_test(test_saes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

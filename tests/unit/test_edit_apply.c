/* test_edit_apply.c - what edits do to a delta: every row of the table by hand, all of them against
   a plain oracle on random cases, what must change no byte, and the mistakes that compiling finds.
   No model is needed: a block's delta is a tensor. */
#include "edit/edit.h"
#include "fct_test.h"
#include "sae/sae.h"
#include "sae_once.h"

enum { D = 4, F = 6, K = 2, H = 2, W = 3, CELLS = H * W };

static const fct_block_info blocks[] = {{"unet.mid_block.attentions.0", "mid.0", D, 3, 1},
                                        {"unet.up_blocks.0.attentions.1", "up.0.1", D, 7, 1}};
static const fct_model_info info = {.name = "test",
                                    .hash = "abc",
                                    .block = blocks,
                                    .n_blocks = 2,
                                    .default_width = 24,
                                    .default_height = 16,
                                    .default_steps = 3};

/* Feature f < 4 reads coordinate f; 4 and 5 read the negatives of 0 and 1. Directions are unit
 * vectors of another basis. */
static fct_sae *make_sae(bool stats)
{
    fct_sae *s;
    assert_ok(fct_sae_new(&s, FCT_SAE_TOPK, D, F, K));
    for (int f = 0; f < F; f++) {
        s->w_enc[f * D + f % 4] = f < 4 ? 1 : -1;
        s->w_dec[f * D + (f + 1) % 4] = 0.6f;
        s->w_dec[f * D + (f + 2) % 4] = f % 2 ? 0.8f : -0.8f;
    }
    if (!stats) return s;
    assert_ok(fct_new(&s->mean, F, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->std, F, (int64_t)sizeof(float)));
    assert_ok(fct_new(&s->max, F, (int64_t)sizeof(float)));
    s->has_stats = true;
    for (int f = 0; f < F; f++) {
        s->mean[f] = f == 5 ? 0 : 2 + (float)f;
        s->std[f] = 0.5f;
        s->max[f] = 10;
    }
    return s;
}

static fct_sae_set set_of(fct_sae *s)
{
    fct_sae_set set = {0};
    assert_ok(fct_sae_set_bind(&set, &info, "mid.0", s, true));
    return set;
}

static void parse_all(fct_edit *edits, const char *const *texts, int n)
{
    for (int i = 0; i < n; i++) assert_ok(fct_edit_parse(&edits[i], texts[i]));
}

typedef struct world { /* a run as the taps see it */
    fct_run_desc desc;
    fct_run_item items[2];
    int64_t n_items, step;
    bool guided;
} world;

static int64_t rows_of(const world *v)
{
    return v->n_items * (v->guided ? 2 : 1) * CELLS;
}

static fct_tap_event event_of(const world *v)
{
    return (fct_tap_event){.name = blocks[0].name,
                           .block = &blocks[0],
                           .what = FCT_TAP_DELTA,
                           .step = v->step,
                           .steps = 3,
                           .items = v->n_items,
                           .guided = v->guided};
}

static fct_tensor tensor_of(const world *v, float *x)
{
    return fct_tensor_of(x, FCT_F32, 4, (int64_t[]){rows_of(v) / CELLS, H, W, D});
}

/* Applies the edits to x; clean (may be NULL) is the delta of the run without edits. */
static fct_status apply(const world *v, const char *const *texts, int n, const fct_sae_set *saes,
                        float *x, float *clean)
{
    fct_edit edits[8];
    fct_edit_set set;
    fct_run_desc d = v->desc;
    d.items = v->items;
    d.n_items = v->n_items;
    d.settings = &(fct_settings){.guidance = v->guided ? 5 : FCT_NONE};
    parse_all(edits, texts, n);
    fct_status st = fct_edit_compile(&set, &info, &d, edits, n, saes);
    fct_tap_event event = event_of(v);
    fct_tensor t = tensor_of(v, x);
    if (st == FCT_OK && clean && set.plan[0].clean.first_step > 0) {
        fct_tensor c = tensor_of(v, clean);
        st = fct_gather_tap(&set.plan[0].clean, &event, &c);
    }
    for (int64_t i = 0; i < set.n_plans && st == FCT_OK; i++)
        st = set.tap[i].fn(set.tap[i].user, &event, &t);
    fct_edit_set_clear(&set);
    for (int i = 0; i < n; i++) fct_edit_clear(&edits[i]);
    return st;
}

static fct_status apply_one(const world *v, const char *text, const fct_sae_set *saes, float *x)
{
    return apply(v, (const char *const[]){text}, 1, saes, x, NULL);
}

/* ---- by hand: one row [3, 1, -2, 0.5] everywhere; its codes with k = 2 are z_0 = 3 and z_1 = 1
 * (z_5 < 0 and so on) ---- */

static void fill_hand(float *x, int64_t rows)
{
    static const float row[D] = {3, 1, -2, 0.5f};
    for (int64_t r = 0; r < rows; r++) memcpy(x + r * D, row, sizeof row);
}

/* d_0 = [0, .6, -.8, 0], d_1 = [0, 0, .6, .8], u_0 = 2, u_1 = 3 */
static const struct {
    const char *text;
    float row[D], uncond[D]; /* under guidance: cond, uncond; without: row */
} by_hand[] = {
    {"mid.0:0 +2", {3, 3.4f, -5.2f, 0.5f}, {3, -1.4f, 1.2f, 0.5f}}, /* + 2*2*d_0 */
    {"mid.0:0 -1", {3, -0.2f, -0.4f, 0.5f}, {3, 2.2f, -3.6f, 0.5f}},
    {"mid.0:0 +2 unit=one", {3, 2.2f, -3.6f, 0.5f}, {3, -0.2f, -0.4f, 0.5f}},
    {"mid.0:0 +2 unit=std", {3, 1.6f, -2.8f, 0.5f}, {3, 0.4f, -1.2f, 0.5f}},
    {"mid.0:0 +0.2 unit=max", {3, 2.2f, -3.6f, 0.5f}, {3, -0.2f, -0.4f, 0.5f}},
    {"mid.0:0 +2 branch=cond", {3, 3.4f, -5.2f, 0.5f}, {3, 1, -2, 0.5f}},
    {"mid.0:0 x0", {3, -0.8f, 0.4f, 0.5f}, {3, -0.8f, 0.4f, 0.5f}}, /* - 3*d_0 */
    {"mid.0:0 x3", {3, 4.6f, -6.8f, 0.5f}, {3, 4.6f, -6.8f, 0.5f}}, /* + 2*3*d_0 */
    {"mid.0:0 x3 branch=cond", {3, 4.6f, -6.8f, 0.5f}, {3, 1, -2, 0.5f}},
    {"mid.0:1 =2", {3, 1, 1, 4.5f}, {3, 1, 1, 4.5f}},      /* + (2*3 - 1)*d_1 */
    {"mid.0:0 only 1", {0, 2.4f, -3.2f, 0}, {0, 0, 0, 0}}, /* 1*2*2*d_0 */
    {"mid.0:0 only 1 branch=both", {0, 2.4f, -3.2f, 0}, {0, 2.4f, -3.2f, 0}},
    {"mid.0 zero", {0, 0, 0, 0}, {0, 0, 0, 0}},
    {"mid.0 zero branch=cond", {0, 0, 0, 0}, {3, 1, -2, 0.5f}},
    {"mid.0 rebuild", {0, 1.8f, -1.8f, 0.8f}, {0, 1.8f, -1.8f, 0.8f}}, /* 3*d_0 + 1*d_1 */
    {"mid.0:0 +2 @box:0,0,1,1", {3, 3.4f, -5.2f, 0.5f}, {3, -1.4f, 1.2f, 0.5f}},
    {"mid.0:0 +2 @map:1>0.5", {3, 3.4f, -5.2f, 0.5f}, {3, -1.4f, 1.2f, 0.5f}},
    {"mid.0:0 +2 @map:1>1", {3, 1, -2, 0.5f}, {3, 1, -2, 0.5f}},
    {"mid.0:0 +2 steps=1", {3, 3.4f, -5.2f, 0.5f}, {3, -1.4f, 1.2f, 0.5f}},
    {"mid.0:0 +2 steps=2-3", {3, 1, -2, 0.5f}, {3, 1, -2, 0.5f}},
};

static void test_by_hand(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    for (size_t i = 0; i < FCT_COUNT(by_hand); i++)
        for (int guided = 0; guided < 2; guided++) {
            world v = {.n_items = 2, .step = 1, .guided = guided};
            float x[4 * CELLS * D];
            fill_hand(x, rows_of(&v));
            assert_ok(apply_one(&v, by_hand[i].text, &saes, x));
            for (int64_t r = 0; r < rows_of(&v); r++) {
                const float *want = guided && r < 2 * CELLS ? by_hand[i].uncond : by_hand[i].row;
                for (int c = 0; c < D; c++)
                    if (fabsf(x[r * D + c] - want[c]) > 1e-6f)
                        fail_msg("%s: row %d, %d: want %g, got %g", by_hand[i].text, (int)r, c,
                                 (double)want[c], (double)x[r * D + c]);
            }
        }
    fct_sae_set_clear(&saes);
}

/* A half-covered cell moves half of the way, also for what replaces. */
static void test_masks(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    world v = {.n_items = 1, .step = 1};
    static const char *const texts[] = {"mid.0:0 +2 @box:0,0,0.5,1", "mid.0 zero @box:0,0,0.5,1"};
    static const float share[W] = {1, 0.5f, 0};
    for (int t = 0; t < 2; t++) {
        float x[CELLS * D];
        fill_hand(x, CELLS);
        assert_ok(apply_one(&v, texts[t], &saes, x));
        for (int r = 0; r < CELLS; r++) {
            float want = t == 0 ? 1 + share[r % W] * 2.4f : 1 - share[r % W];
            assert_true(fabsf(x[r * D + 1] - want) < 1e-6f);
        }
    }
    fct_sae_set_clear(&saes);
}

/* Codes are read from the incoming delta, whatever else is done to it; clean ones from the clean
 * run. */
static void test_composition(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    world v = {.n_items = 1, .step = 1};
    float x[CELLS * D], clean[CELLS * D];
    fill_hand(x, CELLS);
    assert_ok(apply(&v, (const char *const[]){"mid.0 zero", "mid.0:0 x2", "mid.0:0 +1"}, 3, &saes,
                    x, NULL));
    assert_true(fabsf(x[1] - 5 * 0.6f) < 1e-6f && fabsf(x[2] + 5 * 0.8f) < 1e-6f && x[0] == 0 &&
                x[3] == 0); /* 3*d_0 + 2*d_0 */
    fill_hand(x, CELLS);
    fill_hand(clean, CELLS);
    for (int r = 0; r < CELLS; r++) clean[r * D] = 7; /* the clean run's z_0 is 7 */
    assert_ok(apply(&v, (const char *const[]){"mid.0:0 x0 static"}, 1, &saes, x, clean));
    assert_true(fabsf(x[1] - (1 - 7 * 0.6f)) < 1e-6f && fabsf(x[2] - (-2 + 7 * 0.8f)) < 1e-6f);
    fill_hand(x, CELLS);
    assert_ok(apply(&v, (const char *const[]){"mid.0 rebuild static"}, 1, &saes, x, clean));
    assert_true(x[0] == 0 && fabsf(x[1] - 7 * 0.6f) < 1e-5f && fabsf(x[3] - 0.8f) < 1e-6f);
    fill_hand(x, CELLS);
    assert_ok(apply(&v,
                    (const char *const[]){"mid.0:1 +1 unit=one @map:0>5 static",
                                          "mid.0:1 +1 unit=one @map:0>5"},
                    2, &saes, x, clean));
    assert_true(fabsf(x[3] - 1.3f) < 1e-6f); /* only the clean map is above 5 */
    assert_fails(FCT_ERR_ARG, "the clean run has other rows",
                 apply(&v, (const char *const[]){"mid.0:0 x0 static"}, 1, &saes, x, NULL));
    fct_sae_set_clear(&saes);
}

/* ---- against an oracle ---- */

static void fill_random(float *x, int64_t n, uint64_t seed)
{
    fct_rng r;
    fct_rng_init(&r, seed);
    fct_rng_normal(&r, x, n);
}

static double z_of(const fct_sae *s, const float *row, int64_t f)
{
    float z[F];
    assert_ok(once_dense(s, row, 1, z));
    return (double)z[f];
}

/* The sum of the additive edits, written down as in the table. */
static void test_oracle(void **state)
{
    (void)state;
    fct_sae *s = make_sae(true);
    fct_sae_set saes = set_of(s);
    static const char *const texts[] = {"mid.0:0 +2 @box:0.1,0.2,0.8,0.9",
                                        "mid.0:3 -1.5 branch=cond",
                                        "mid.0:1 x-2",
                                        "mid.0:2 =1.5 @ellipse:0,0,1,1 branch=uncond",
                                        "mid.0:4 x3 static",
                                        "mid.0 rebuild @box:0,0,0.4,1"};
    for (int guided = 0; guided < 2; guided++) {
        world v = {.n_items = 2, .step = 2, .guided = guided};
        float x[4 * CELLS * D], in[4 * CELLS * D], clean[4 * CELLS * D], box[CELLS], round[CELLS],
            left[CELLS], rebuilt[D];
        int n = guided ? 6 : 3;
        fct_mask m[3];
        double error = 0, size = 0;
        fill_random(x, rows_of(&v) * D, 5);
        fill_random(clean, rows_of(&v) * D, 6);
        memcpy(in, x, sizeof x);
        const char *const list[6] = {texts[0], texts[1], texts[2], guided ? texts[3] : "",
                                     texts[4], texts[5]};
        const char *const plain[5] = {texts[0], texts[1], texts[2], texts[4], texts[5]};
        assert_ok(guided ? apply(&v, list, n, &saes, x, clean)
                         : apply(&v, plain, 5, &saes, x, clean));
        assert_ok(fct_mask_parse(&m[0], "box:0.1,0.2,0.8,0.9"));
        assert_ok(fct_mask_parse(&m[1], "ellipse:0,0,1,1"));
        assert_ok(fct_mask_parse(&m[2], "box:0,0,0.4,1"));
        assert_ok(fct_mask_grid(box, H, W, &m[0]));
        assert_ok(fct_mask_grid(round, H, W, &m[1]));
        assert_ok(fct_mask_grid(left, H, W, &m[2]));
        for (int64_t r = 0; r < rows_of(&v); r++) {
            bool uncond = guided && r < 2 * CELLS;
            const float *row = in + r * D;
            int64_t p = r % CELLS;
            assert_ok(once_rebuild(s, row, 1, rebuilt));
            for (int c = 0; c < D; c++) {
                double want =
                    (double)row[c] + (double)left[p] * ((double)rebuilt[c] - (double)row[c]);
                want += (uncond ? -1 : 1) * 2 * 2.0 * (double)box[p] * (double)s->w_dec[0 * D + c];
                if (!uncond) want += -1.5 * 5.0 * (double)s->w_dec[3 * D + c];
                want += (-2.0 - 1) * z_of(s, row, 1) * (double)s->w_dec[1 * D + c];
                if (uncond)
                    want += (1.5 * 4.0 - z_of(s, row, 2)) * (double)round[p] *
                            (double)s->w_dec[2 * D + c];
                want += (3.0 - 1) * z_of(s, clean + r * D, 4) * (double)s->w_dec[4 * D + c];
                error += (want - (double)x[r * D + c]) * (want - (double)x[r * D + c]);
                size += want * want;
            }
        }
        assert_true(sqrt(error / size) < 1e-6); /* observed 5e-8 */
    }
    fct_sae_set_clear(&saes);
}

/* ---- transport ---- */

static void test_from(void **state)
{
    (void)state;
    fct_sae *s = make_sae(true);
    fct_sae_set saes = set_of(s);
    static const char recipe[] = "{\"format\":\"facet-recipe\",\"items\":[{\"prompt\":\"a\"},{"
                                 "\"prompt\":\"b\"}],\"index\":1}";
    for (int guided = 0; guided < 2; guided++) {
        fct_edit e;
        fct_edit_set set;
        world v = {.n_items = 2, .step = 1, .guided = guided},
              source = {.n_items = 2, .step = 1, .guided = true};
        float x[4 * CELLS * D], in[4 * CELLS * D], src[4 * CELLS * D];
        fill_random(x, rows_of(&v) * D, 8);
        fill_random(src, rows_of(&source) * D, 9);
        memcpy(in, x, sizeof x);
        assert_ok(fct_edit_parse(&e, "mid.0 from r.json:0,2 x2"));
        assert_ok(fct_new(&e.source, 1, (int64_t)sizeof *e.source));
        assert_ok(fct_recipe_parse(e.source, recipe, (int64_t)strlen(recipe), "r.json"));
        fct_run_desc d = {.items = v.items,
                          .n_items = 2,
                          .settings = &(fct_settings){.guidance = guided ? 5 : FCT_NONE}};
        assert_ok(fct_edit_compile(&set, &info, &d, &e, 1, &saes));
        assert_int_equal(set.n_sources, 1);
        fct_tap_event event = event_of(&source);
        fct_tensor t = tensor_of(&source, src);
        assert_ok(fct_gather_tap(&set.source[0].gather[0], &event, &t));
        event = event_of(&v);
        t = tensor_of(&v, x);
        assert_ok(set.tap[0].fn(set.tap[0].user, &event, &t));
        for (int64_t r = 0; r < rows_of(&v); r++)
            for (int c = 0; c < D; c++) {
                const float *from = src + (3 * CELLS + r % CELLS) * D; /* the cond half of item 1 */
                double sign = guided && r < 2 * CELLS ? -1 : 1;
                double want =
                    (double)in[r * D + c] + sign * 2 *
                                                (z_of(s, from, 0) * (double)s->w_dec[c] +
                                                 z_of(s, from, 2) * (double)s->w_dec[2 * D + c]);
                assert_true(fabs(want - (double)x[r * D + c]) < 1e-6);
            }
        fct_edit_set_clear(&set);
        fct_edit_clear(&e);
    }
    fct_sae_set_clear(&saes);
}

/* ---- what must change no byte ---- */

static void test_no_byte(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    static const char *const texts[] = {"mid.0:0 +0",
                                        "mid.0:1 -0 @box:0,0,0.3,1",
                                        "mid.0:0 x1",
                                        "mid.0:3 x1 static",
                                        "mid.0:0 +3 @map:1>1000",
                                        "mid.0:0 +3 steps=3",
                                        "mid.0 zero @map:1>1000",
                                        "mid.0 rebuild steps=3",
                                        "mid.0:2 x0",
                                        "mid.0:2 x7 @ellipse:0,0,1,1"};
    for (size_t i = 0; i < FCT_COUNT(texts); i++)
        for (int guided = 0; guided < 2; guided++) {
            world v = {.n_items = 2, .step = 2, .guided = guided};
            float x[4 * CELLS * D], in[4 * CELLS * D];
            fill_random(x, rows_of(&v) * D, i);
            for (int64_t r = 0; r < rows_of(&v); r++)
                x[r * D + 2] = -fabsf(x[r * D + 2]); /* feature 2 is nowhere active */
            x[3] = -0.0f;
            memcpy(in, x, sizeof x);
            assert_ok(apply(&v, &texts[i], 1, &saes, x, in));
            assert_memory_equal(x, in, (size_t)(rows_of(&v) * D) * sizeof *x);
        }
    fct_sae_set_clear(&saes);
}

/* Every order of the same edits gives the same bytes. */
static void test_order(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    const char *texts[4] = {"mid.0:0 +2.3", "mid.0:1 x-1.7 @box:0,0,0.7,1", "mid.0:3 =0.9",
                            "mid.0 rebuild @ellipse:0,0,1,1"};
    world v = {.n_items = 1, .step = 1};
    float first[CELLS * D], x[CELLS * D];
    for (int i = 0; i < 24; i++) {
        const char *list[4];
        int left = i;
        const char *pool[4] = {texts[0], texts[1], texts[2], texts[3]};
        for (int k = 0; k < 4; k++) { /* permutation number i */
            int at = left % (4 - k);
            left /= 4 - k;
            list[k] = pool[at];
            for (int j = at; j < 3; j++) pool[j] = pool[j + 1];
        }
        fill_random(x, CELLS * D, 3);
        assert_ok(apply(&v, list, 4, &saes, x, NULL));
        if (i == 0) memcpy(first, x, sizeof x);
        assert_memory_equal(first, x, sizeof x);
    }
    fct_sae_set_clear(&saes);
}

/* ---- mistakes ---- */

static const struct {
    const char *a, *b, *said;
} mistakes[] = {
    {"mid.9:0 +1", NULL,
     "edit \"mid.9:0 +1\": there is no block \"mid.9\"; this model has mid.0, up.0.1"},
    {"up.0.1:0 +1", NULL, "block up.0.1 has no SAE; give one with --sae up.0.1=DIR"},
    {"mid.0:6 +1", NULL, "there is no feature 6: the SAE of mid.0 has features 0 to 5"},
    {"mid.0:0 +1 @map:9>0", NULL, "there is no feature 9"},
    {"mid.0:5 +1", NULL, "it was never active there"},
    {"mid.0:0 +1 steps=4", NULL, "the run has 3 steps, but the edit speaks of step 4"},
    {"mid.0:0 +1 branch=uncond", NULL, "branch=uncond needs guidance above 1"},
    {"mid.0 from r.json:1", NULL, "it takes no features from any recipe"},
    {"mid.0 zero", "mid.0 rebuild",
     "the edits \"mid.0 zero\" and \"mid.0 rebuild\" contradict each other"},
    {"mid.0 zero steps=2-3", "mid.0:0 only 1 @box:0,0,0.5,1", "contradict each other"},
    {"mid.0:0 =1", "mid.0:0 x2", "both say what the same feature is to be"},
    {"mid.0:0 =1 @box:0,0,1,0.5", "mid.0:0 =2 @box:0,0,1,0.5", "keep one"},
    {"mid.0 zero steps=1", "mid.0 rebuild steps=2", NULL},
    {"mid.0:0 =1 @box:0,0,1,0.5", "mid.0:0 =2 @box:0,0.5,1,1", NULL},
    {"mid.0:0 x0", "mid.0:0 x3", "both say what the same feature is to be"},
    {"mid.0:0 x0 static", "mid.0:0 x3 static steps=2", "keep one"},
    {"mid.0:0 x0 static", "mid.0:0 x3", NULL},
    {"mid.0:0 x0 steps=1", "mid.0:0 x3 steps=2-3", NULL},
    {"mid.0:0 x0", "mid.0:1 x3", NULL},
    {"mid.0:0 x0 branch=cond", "mid.0:0 x3 @box:0,0,1,0.5", NULL},
    {"up.0.1 zero", "mid.0 zero", NULL},
    {"mid.0:5 +1 unit=one", "mid.0:5 x0", NULL},
    {"mid.0:5 +0", "mid.0:5 =0 steps=2", NULL},
};

static void test_mistakes(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    for (size_t i = 0; i < FCT_COUNT(mistakes); i++) {
        fct_edit e[2];
        fct_edit_set set;
        fct_run_desc d = {0};
        int n = mistakes[i].b ? 2 : 1;
        assert_ok(fct_edit_parse(&e[0], mistakes[i].a));
        if (n == 2) assert_ok(fct_edit_parse(&e[1], mistakes[i].b));
        fct_status st = fct_edit_compile(&set, &info, &d, e, n, &saes);
        if (!mistakes[i].said)
            assert_ok(st);
        else if (st == FCT_OK || !strstr(fct_error_text(), mistakes[i].said))
            fail_msg("%s: want \"%s\", got %s", mistakes[i].a, mistakes[i].said,
                     st ? fct_error_text() : "success");
        fct_edit_set_clear(&set);
        for (int k = 0; k < n; k++) fct_edit_clear(&e[k]);
    }
    fct_sae_set_clear(&saes);
}

/* With trailing spacing 61 steps are 62 timesteps: the last one is a step like the others. */
static void test_one_step_more(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    fct_model_info trailing = info;
    trailing.trailing = 1000;
    static const char *const cases[][3] = {{"mid.0:0 x0", NULL, "1-62"},
                                           {"mid.0:0 x0 steps=1-62", NULL, "1-62"},
                                           {"mid.0:0 x0 steps=63", "the run has 62 steps", NULL}};
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        fct_edit e;
        fct_edit_set set;
        assert_ok(fct_edit_parse(&e, cases[i][0]));
        fct_status st = fct_edit_compile(&set, &trailing,
                                         &(fct_run_desc){.settings = &(fct_settings){.steps = 61}},
                                         &e, 1, &saes);
        if (cases[i][1]) {
            assert_true(st != FCT_OK && strstr(fct_error_text(), cases[i][1]));
        } else {
            assert_ok(st);
            assert_int_equal(set.compiled[0].last_step, 62);
            assert_int_equal(set.settings.steps, 61); /* what recipes keep */
        }
        fct_edit_set_clear(&set);
        fct_edit_clear(&e);
    }
    fct_sae_set_clear(&saes);
}

static void test_without_statistics(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(false));
    world v = {.n_items = 1, .step = 1};
    float x[CELLS * D];
    fill_hand(x, CELLS);
    assert_fails(FCT_ERR_MISSING,
                 "has no statistics, so its features' mean is not known; say unit=one",
                 apply_one(&v, "mid.0:0 +1", &saes, x));
    assert_ok(apply_one(&v, "mid.0:0 +1 unit=one", &saes, x));
    assert_ok(apply_one(&v, "mid.0:0 x2", &saes, x));
    fct_sae_set_clear(&saes);
}

static void test_sets(void **state)
{
    (void)state;
    fct_sae_set saes = set_of(make_sae(true));
    fct_sae *wide;
    assert_fails(
        FCT_ERR_ARG, "block mid.0 has two SAEs",
        fct_sae_set_bind(&saes, &info, "unet.mid_block.attentions.0", make_sae(true), true));
    assert_ok(fct_sae_new(&wide, FCT_SAE_TOPK, 5, F, K));
    assert_fails(FCT_ERR_SHAPE, "reads rows of 5 values, block up.0.1 writes 4",
                 fct_sae_set_bind(&saes, &info, "up.0.1", wide, true));
    assert_ok(fct_sae_set_bind(&saes, &info, "up.0.1", make_sae(false), true));
    assert_int_equal(saes.n, 2);
    assert_string_equal(saes.bound[0].short_name, "mid.0");
    assert_string_equal(fct_sae_bound_hash(&saes.bound[0]), fct_sae_bound_hash(&saes.bound[1]));
    assert_int_equal(strlen(fct_sae_bound_stats_hash(&saes.bound[0])), 64);
    assert_string_equal(fct_sae_bound_stats_hash(&saes.bound[1]), "");
    fct_sae_set_clear(&saes);
}

/* Two SAEs that differ in anything that encoding depends on are two for recipes. */
static void test_hashes(void **state)
{
    (void)state;
    char hash[4][65];
    for (int i = 0; i < 4; i++) {
        fct_sae *s = make_sae(true);
        if (i >= 2) {
            s->kind = FCT_SAE_JUMPRELU;
            assert_ok(fct_new(&s->threshold, F, (int64_t)sizeof(float)));
            s->threshold[2] = (float)i;
        }
        if (i == 1) s->normalize = FCT_SAE_NORMALIZE_LAYER;
        fct_sae_set saes = set_of(s);
        snprintf(hash[i], sizeof hash[i], "%s", fct_sae_bound_hash(&saes.bound[0]));
        fct_sae_set_clear(&saes);
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) assert_string_not_equal(hash[i], hash[k]);
}

/* A set knows blocks by name: another model may use it that has them in these widths. */
static void test_other_models(void **state)
{
    (void)state;
    static const fct_block_info moved[] = {{"unet.mid_block.attentions.0", "mid.0", D, 9, 2}},
                                wider[] = {{"unet.mid_block.attentions.0", "mid.0", D + 1, 3, 1}};
    fct_model_info other = info;
    fct_sae_set saes = set_of(make_sae(true));
    const fct_block_info *block;
    fct_edit e;
    fct_edit_set set;
    fct_run_desc d = {0};
    assert_ok(fct_edit_parse(&e, "mid.0:0 x2"));
    other.n_blocks = 1;
    other.block = moved;
    assert_ok(fct_sae_bound_block(&block, &saes.bound[0], &other));
    assert_ptr_equal(block, &moved[0]);
    assert_ok(fct_edit_compile(&set, &other, &d, &e, 1, &saes));
    assert_ptr_equal(set.plan[0].work.coder.code.sae, saes.bound[0].sae);
    fct_edit_set_clear(&set);
    other.block = wider;
    assert_fails(FCT_ERR_SHAPE, "reads rows of 4 values, block mid.0 writes 5",
                 fct_sae_bound_block(&block, &saes.bound[0], &other));
    assert_fails(FCT_ERR_SHAPE, "reads rows of 4 values, block mid.0 writes 5",
                 fct_edit_compile(&set, &other, &d, &e, 1, &saes));
    other.block = &blocks[1];
    assert_fails(FCT_ERR_MISSING,
                 "the SAE of mid.0: there is no block \"unet.mid_block.attentions.0\"; this model "
                 "has up.0.1",
                 fct_sae_bound_block(&block, &saes.bound[0], &other));
    assert_fails(FCT_ERR_MISSING, "there is no block \"mid.0\"; this model has up.0.1",
                 fct_edit_compile(&set, &other, &d, &e, 1, &saes));
    fct_edit_clear(&e);
    fct_sae_set_clear(&saes);
}

/* Sources on another grid, with other steps, of another model. */
static void test_source_mistakes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"format\":\"facet-recipe\",\"prompt\":\"a\",\"width\":48}",
         "r.json makes 48x16, this run 24x16"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"a\",\"steps\":1}",
         "r.json has 1 steps, this run 3"},
        {"{\"format\":\"facet-recipe\",\"prompt\":\"a\",\"model\":{\"name\":\"m\",\"hash\":\"x\"}}",
         "made by another model: m"}};
    fct_sae_set saes = set_of(make_sae(true));
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        fct_edit e;
        fct_edit_set set;
        fct_run_desc d = {0};
        assert_ok(fct_edit_parse(&e, "mid.0 from r.json:0"));
        assert_ok(fct_new(&e.source, 1, (int64_t)sizeof *e.source));
        assert_ok(fct_recipe_parse(e.source, cases[i][0], (int64_t)strlen(cases[i][0]), "r.json"));
        assert_fails(FCT_ERR_ARG, cases[i][1], fct_edit_compile(&set, &info, &d, &e, 1, &saes));
        fct_edit_clear(&e);
    }
    fct_sae_set_clear(&saes);
}

/* SAEs are computed by what computes the model. */
static void test_backend(void **state)
{
    (void)state;
    static const char *const texts[] = {"mid.0:0 x2", "mid.0 rebuild", "mid.0:1 =2"};
    fct_sae_set saes = set_of(make_sae(true));
    float x[2][CELLS * D];
    for (int how = 0; how < 2; how++) {
        world v = {.n_items = 1, .step = 1};
        fct_model_info other = info;
        fct_edit edits[3];
        fct_edit_set set;
        fct_run_desc d = {.items = v.items, .n_items = 1};
        fct_tap_event event = event_of(&v);
        fct_tensor t = tensor_of(&v, x[how]);
        other.backend = how ? "ref" : "cpu";
        fill_hand(x[how], CELLS);
        parse_all(edits, texts, 3);
        assert_ok(fct_edit_compile(&set, &other, &d, edits, 3, &saes));
        assert_ok(set.tap[0].fn(set.tap[0].user, &event, &t));
        assert_string_equal(set.plan[0].work.coder.code.e.cx.be->name, other.backend);
        fct_edit_set_clear(&set);
        for (int k = 0; k < 3; k++) fct_edit_clear(&edits[k]);
    }
    for (int i = 0; i < CELLS * D; i++) assert_float_equal(x[0][i], x[1][i], 1e-6);
    fct_sae_set_clear(&saes);
}

/* A tap takes memory the first time that it meets rows of this number, and never again. */
static void test_no_allocation(void **state)
{
    (void)state;
    static const char *const texts[] = {"mid.0:0 x2 @box:0,0,0.5,1", "mid.0 rebuild static",
                                        "mid.0:1 =2 steps=2-3", "mid.0:2 +1 @map:3>0"};
    for (int how = 0; how < 4; how++) {
        fct_sae *sae = make_sae(true);
        sae->normalize = how % 2 ? FCT_SAE_NORMALIZE_LAYER : FCT_SAE_NORMALIZE_NONE;
        if (how >= 2) {
            sae->kind = FCT_SAE_RELU;
            sae->k = 0;
        }
        fct_sae_set saes = set_of(sae);
        world v = {.n_items = 2, .step = 1, .guided = true};
        float x[4 * CELLS * D];
        fct_edit edits[4];
        fct_edit_set set;
        fct_run_desc d = {
            .items = v.items, .n_items = 2, .settings = &(fct_settings){.guidance = 5}};
        parse_all(edits, texts, 4);
        assert_ok(fct_edit_compile(&set, &info, &d, edits, 4, &saes));
        for (v.step = 1; v.step <= 3; v.step++) {
            fct_tap_event event = event_of(&v);
            fct_tensor t = tensor_of(&v, x);
            fill_hand(x, rows_of(&v));
            assert_ok(fct_gather_tap(&set.plan[0].clean, &event, &t));
            if (v.step > 1) fct_fault_alloc(1);
            fct_status st = set.tap[0].fn(set.tap[0].user, &event, &t);
            fct_fault_alloc(0);
            assert_ok(st);
        }
        fct_edit_set_clear(&set);
        for (int k = 0; k < 4; k++) fct_edit_clear(&edits[k]);
        fct_sae_set_clear(&saes);
    }
}

static void test_faults(void **state)
{
    (void)state;
    fct_sae_set saes = {0};
    world v = {.n_items = 1, .step = 1};
    for (int64_t nth = 1; saes.n == 0; nth++) {
        fct_sae *sae = make_sae(true);
        fct_fault_alloc(nth);
        fct_status st = fct_sae_set_bind(&saes, &info, "mid.0", sae, true);
        fct_fault_alloc(0);
        assert_true(st == FCT_OK || st == FCT_ERR_MEMORY);
        assert_true(nth < 20);
    }
    for (int64_t nth = 1; nth < 120; nth++) {
        float x[CELLS * D];
        fct_edit edits[3];
        fct_edit_set set;
        fct_run_desc d = {.items = v.items, .n_items = 1};
        static const char *const texts[] = {"mid.0:0 x2 @box:0,0,0.5,1", "mid.0 rebuild",
                                            "mid.0:1 =2"};
        fill_hand(x, CELLS);
        parse_all(edits, texts, 3);
        fct_tap_event event = event_of(&v);
        fct_tensor t = tensor_of(&v, x);
        fct_fault_alloc(nth);
        fct_status st = fct_edit_compile(&set, &info, &d, edits, 3, &saes);
        if (st == FCT_OK) st = set.tap[0].fn(set.tap[0].user, &event, &t);
        fct_fault_alloc(0);
        assert_true(st == FCT_OK || st == FCT_ERR_MEMORY);
        fct_edit_set_clear(&set);
        for (int k = 0; k < 3; k++) fct_edit_clear(&edits[k]);
    }
    fct_sae_set_clear(&saes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_composition),
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_from),
        cmocka_unit_test(test_no_byte),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_one_step_more),
        cmocka_unit_test(test_without_statistics),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_source_mistakes),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_other_models),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_backend),
    };
    return cmocka_run_group_tests_name("edit_apply", tests, NULL, temp_clear);
}

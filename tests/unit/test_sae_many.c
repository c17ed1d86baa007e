/* test_sae_many.c - several SAEs on shared rows: each ends as if it were alone, rows are read once,
 * one checkpoint holds them all, a lost one does not take the others along. */
#include "facet/store.h"
#include "fct_test.h"
#include "train/train.h"

enum { N = 2000, WIDE = 12, NARROW = 8, BATCH = 50, MEMBERS = 5 };
static float wide[N * WIDE], narrow[N * NARROW];

static void make_rows(void)
{
    fct_rng rng;
    fct_rng_init(&rng, 3);
    fct_rng_normal(&rng, wide, N * WIDE);
    fct_rng_normal(&rng, narrow, N * NARROW);
    for (int64_t i = 0; i < N * WIDE; i++) wide[i] *= (float)(1 + i % WIDE);
    for (int64_t i = 0; i < N * NARROW; i++) narrow[i] += (float)(i % NARROW);
}

typedef struct counted { /* a source that counts, and breaks off after so many rows */
    fct_row_source inner;
    int64_t given, left;
} counted;

static fct_status counted_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    counted *c = self;
    FCT_TRY(c->inner.next(c->inner.self, want, rows, n));
    c->given += *n;
    c->left -= *n;
    return c->left < 0 ? fct_fail(FCT_ERR_IO, "cut off") : FCT_OK;
}

static fct_status counted_tell(void *self, uint8_t blob[64])
{
    counted *c = self;
    return c->inner.tell(c->inner.self, blob);
}

static fct_status counted_seek(void *self, const uint8_t blob[64])
{
    counted *c = self;
    return c->inner.seek(c->inner.self, blob);
}

static fct_status counted_rewind(void *self, int64_t pass)
{
    counted *c = self;
    return c->inner.rewind(c->inner.self, pass);
}

static fct_status counted_describe(void *self, const char **json)
{
    counted *c = self;
    return c->inner.describe(c->inner.self, json);
}

static fct_row_source open_stream(counted *c, int which)
{
    const fct_rows_desc desc = {.order = FCT_ORDER_SHUFFLED, .seed = 5};
    int64_t d = which == 0 ? WIDE : NARROW;
    *c = (counted){.left = INT64_MAX};
    assert_ok(fct_rows_of_memory(&c->inner, which == 0 ? wide : narrow, N, d, &desc));
    return (fct_row_source){.self = c,
                            .d = d,
                            .total = N,
                            .next = counted_next,
                            .tell = counted_tell,
                            .seek = counted_seek,
                            .rewind = counted_rewind,
                            .describe = counted_describe};
}

/* Of unlike sizes, rates, seeds and lengths; the second and the last on the other stream. */
static void set_members(fct_train_member m[MEMBERS])
{
    static const char *const name[MEMBERS] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < MEMBERS; i++)
        m[i] = (fct_train_member){.name = name[i],
                                  .stream = i == 1 || i == 4,
                                  .desc = {.preset = "demo",
                                           .k = 3,
                                           .batch_size = BATCH,
                                           .steps = 60, /* two passes: 40 batches in one */
                                           .calibration_rows = 300,
                                           .dead_rows = 200,
                                           .checkpoint_every = 8,
                                           .log_every = 7}};
    m[1].desc.seed = 9;
    m[2].desc.k = 5;
    m[2].desc.steps = 33;
    m[3].desc.lr = 3e-2;
    m[3].desc.auxk = -1;
    m[3].desc.n_features = 40;
    m[4].desc.calibration_rows = 400;
}

typedef struct shared {
    counted count[2];
    fct_row_source stream[2];
    fct_train_member member[MEMBERS];
    fct_train_run run;
} shared;

static void set_up(shared *s)
{
    for (int i = 0; i < 2; i++) s->stream[i] = open_stream(&s->count[i], i);
    set_members(s->member);
    s->run = (fct_train_run){
        .stream = s->stream, .n_streams = 2, .member = s->member, .n_members = MEMBERS};
}

static void tear_down(shared *s)
{
    fct_train_run_clear(&s->run);
    for (int i = 0; i < 2; i++) s->count[i].inner.close(s->count[i].inner.self);
}

static void assert_as_alone(const shared *s)
{
    for (int i = 0; i < MEMBERS; i++) {
        counted c;
        fct_sae *alone;
        const fct_sae *sae = s->member[i].sae;
        fct_train_desc desc = s->member[i].desc;
        fct_train_report report;
        fct_row_source rows = open_stream(&c, (int)s->member[i].stream);
        desc.resume = NULL;
        desc.log = NULL;
        desc.log_jsonl = NULL;
        assert_non_null(sae);
        assert_ok(fct_sae_train(&alone, &rows, &desc, &report));
        assert_int_equal(alone->f, sae->f);
        size_t bytes = sizeof(float) * (size_t)(sae->f * sae->d);
        assert_memory_equal(alone->w_enc, sae->w_enc, bytes);
        assert_memory_equal(alone->w_dec, sae->w_dec, bytes);
        assert_memory_equal(alone->b_enc, sae->b_enc, sizeof(float) * (size_t)sae->f);
        assert_memory_equal(alone->b_dec, sae->b_dec, sizeof(float) * (size_t)sae->d);
        assert_string_equal(alone->facet_json, sae->facet_json);
        assert_true(report.ev == s->member[i].report.ev && report.l0 == s->member[i].report.l0);
        assert_int_equal(report.steps, s->member[i].report.steps);
        fct_sae_free(alone);
        c.inner.close(c.inner.self);
    }
}

static void test_as_if_alone(void **state)
{
    (void)state;
    shared s;
    make_rows();
    set_up(&s);
    assert_ok(fct_sae_train_many(&s.run));
    assert_int_equal(s.count[0].given, 300 + 60 * BATCH); /* once for three SAEs */
    assert_int_equal(s.count[1].given, 400 + 60 * BATCH);
    assert_as_alone(&s);
    tear_down(&s);
}

static void test_continues_together(void **state)
{
    (void)state;
    shared s;
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", temp_path("together"));
    make_rows();
    for (int cut = 0; cut < 4; cut++) { /* before a checkpoint, after those of 16, 32 and 48 */
        set_up(&s);
        s.member[0].desc.resume = dir;
        s.count[1].left = cut == 0 ? 400 + BATCH : cut == 1 ? 400 + 20 * BATCH : 20 * BATCH;
        assert_fails(FCT_ERR_IO, "cut off", fct_sae_train_many(&s.run));
        assert_int_equal(fct_sae_checkpoint_exists(dir), cut > 0);
        tear_down(&s);
    }
    set_up(&s);
    s.member[0].desc.resume = dir;
    s.member[3].desc.k = 4;
    assert_fails(FCT_ERR_ARG, "other options for d (k 3, now 4)", fct_sae_train_many(&s.run));
    s.member[3].desc.k = 3;
    s.run.n_members = MEMBERS - 1;
    assert_fails(FCT_ERR_ARG, "made with 5 SAEs, now there are 4", fct_sae_train_many(&s.run));
    s.run.n_members = MEMBERS;
    s.member[2].name = "z";
    assert_fails(FCT_ERR_ARG, "name \"c\", now \"z\"", fct_sae_train_many(&s.run));
    s.member[2].name = "c";
    assert_ok(fct_sae_train_many(&s.run));
    assert_as_alone(&s);
    tear_down(&s);
    fct_sae_checkpoint_remove(dir);
}

/* Weights to start from that give activations beyond f32. */
static void save_mad(const char *dir)
{
    fct_sae *s;
    assert_ok(fct_sae_new(&s, FCT_SAE_TOPK, NARROW, 2 * NARROW, 3));
    for (int64_t i = 0; i < s->d * s->f; i++) s->w_enc[i] = -1e30f;
    for (int64_t i = 0; i < s->d; i++) s->b_dec[i] = 1e30f;
    assert_ok(fct_sae_save(s, dir, NULL));
    fct_sae_free(s);
}

static void test_one_is_lost(void **state)
{
    (void)state;
    shared s;
    char dir[1024], mad[1024];
    snprintf(dir, sizeof dir, "%s", temp_path("lost"));
    snprintf(mad, sizeof mad, "%s", temp_path("mad"));
    save_mad(mad);
    make_rows();
    set_up(&s);
    s.member[0].desc.resume = dir;
    s.member[1].desc.init_from = mad;
    s.count[0].left = 300 + 30 * BATCH;
    assert_fails(FCT_ERR_IO, "cut off", fct_sae_train_many(&s.run));
    tear_down(&s);
    set_up(&s); /* the checkpoint remembers it */
    s.member[0].desc.resume = dir;
    s.member[1].desc.init_from = mad;
    assert_ok(fct_sae_train_many(&s.run));
    assert_null(s.member[1].sae);
    assert_non_null(strstr(s.member[1].lost, "the loss is not finite"));
    assert_true(s.member[1].report.steps < 8);
    for (int i = 0; i < MEMBERS; i++)
        if (i != 1) assert_true(s.member[i].sae && !s.member[i].lost);
    fct_sae_checkpoint_remove(dir);
    tear_down(&s);
    set_up(&s);
    s.member[0] = s.member[1];
    s.member[0].desc.init_from = s.member[1].desc.init_from = mad;
    s.member[0].name = "y";
    s.run.n_members = 2;
    assert_fails(FCT_ERR_RANGE, "every SAE was lost", fct_sae_train_many(&s.run));
    tear_down(&s);
}

static void test_refusals(void **state)
{
    (void)state;
    shared s;
    make_rows();
    set_up(&s);
    s.member[2].desc.batch_size = 40;
    assert_fails(FCT_ERR_ARG, "one batch size", fct_sae_train_many(&s.run));
    s.member[2].desc.batch_size = BATCH;
    s.member[2].desc.preset = "unboxing";
    assert_fails(FCT_ERR_ARG, "a and c take different rows", fct_sae_train_many(&s.run));
    s.member[2].desc.preset = "demo";
    s.member[2].name = "a";
    assert_fails(FCT_ERR_ARG, "two SAEs are called a", fct_sae_train_many(&s.run));
    s.member[2].name = NULL;
    assert_fails(FCT_ERR_ARG, "has no name", fct_sae_train_many(&s.run));
    s.member[2].name = "c";
    s.member[2].stream = 2;
    assert_fails(FCT_ERR_ARG, "no stream 2", fct_sae_train_many(&s.run));
    s.member[2].stream = 0;
    s.member[2].desc.k = 100;
    assert_fails(FCT_ERR_ARG, "c: k 100", fct_sae_train_many(&s.run));
    tear_down(&s);
}

static void test_no_memory(void **state)
{
    (void)state;
    shared s;
    make_rows();
    set_up(&s);
    for (int i = 0; i < MEMBERS; i++) s.member[i].desc.steps = 2;
    for (int64_t nth = 1;; nth++) {
        fct_fault_alloc(nth);
        fct_status st = fct_sae_train_many(&s.run);
        fct_fault_alloc(0);
        fct_train_run_clear(&s.run);
        if (st == FCT_OK) break;
        assert_int_equal(st, FCT_ERR_MEMORY);
    }
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_if_alone), cmocka_unit_test(test_continues_together),
        cmocka_unit_test(test_one_is_lost), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

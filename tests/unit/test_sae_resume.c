/* test_sae_resume.c - training that was cut off: what a checkpoint is continued with and refuses,
 * what its log and its report say, what is removed in the end. */
#include <math.h>

#include "facet/store.h"
#include "fct_test.h"
#include "train/train.h"

enum { D = 8, N = 2000, BATCH = 50, STEPS = 30 };
static float data[N * D];

static void make_rows(uint64_t seed)
{
    fct_rng rng;
    fct_rng_init(&rng, seed);
    fct_rng_normal(&rng, data, N * D);
    for (int64_t i = 0; i < N * D; i++) data[i] *= (float)(1 + i % D);
}

static fct_row_source open_rows(const fct_rows_desc *desc)
{
    fct_row_source r;
    assert_ok(fct_rows_of_memory(&r, data, N, D, desc));
    return r;
}

static const fct_rows_desc shuffled = {.order = FCT_ORDER_SHUFFLED, .seed = 5};
static const fct_train_desc options = {.preset = "demo",
                                       .k = 4,
                                       .expansion_factor = 4,
                                       .lr = 1e-2,
                                       .batch_size = BATCH,
                                       .steps = STEPS,
                                       .calibration_rows = 400,
                                       .dead_rows = 200,
                                       .checkpoint_every = 8,
                                       .log_every = 1};

typedef struct ear { /* listens for warnings */
    char text[1024];
    int n;
} ear;

static void hear(void *user, fct_log_level level, const char *text)
{
    ear *e = user;
    if (level != FCT_LOG_WARN) return;
    size_t at = strlen(e->text);
    snprintf(e->text + at, sizeof e->text - at, "%s\n", text);
    e->n++;
}

/* A source that breaks off after so many rows, as a kill does: between two checkpoints. */
typedef struct broken {
    fct_row_source inner;
    int64_t left;
} broken;

static fct_status broken_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    broken *b = self;
    b->left -= want;
    if (b->left < 0) return fct_fail(FCT_ERR_IO, "cut off");
    return b->inner.next(b->inner.self, want, rows, n);
}

static fct_status broken_tell(void *self, uint8_t blob[64])
{
    broken *b = self;
    return b->inner.tell(b->inner.self, blob);
}

static fct_status broken_seek(void *self, const uint8_t blob[64])
{
    broken *b = self;
    return b->inner.seek(b->inner.self, blob);
}

static fct_status broken_rewind(void *self, int64_t pass)
{
    broken *b = self;
    return b->inner.rewind(b->inner.self, pass);
}

static fct_status broken_describe(void *self, const char **json)
{
    broken *b = self;
    return b->inner.describe(b->inner.self, json);
}

static void cut_off(const fct_train_desc *desc, int64_t steps)
{
    broken b = {.inner = open_rows(&shuffled), .left = 400 + steps * BATCH};
    fct_row_source r = {.self = &b,
                        .d = D,
                        .total = b.inner.total,
                        .next = broken_next,
                        .tell = broken_tell,
                        .seek = broken_seek,
                        .rewind = broken_rewind,
                        .describe = broken_describe};
    fct_sae *s;
    assert_fails(FCT_ERR_IO, "cut off", fct_sae_train(&s, &r, desc, NULL));
    b.inner.close(b.inner.self);
}

static fct_status train(fct_sae **out, const fct_rows_desc *rows, const fct_train_desc *desc,
                        fct_train_report *report)
{
    fct_row_source r = open_rows(rows);
    fct_status st = fct_sae_train(out, &r, desc, report);
    r.close(r.self);
    return st;
}

static void test_log_and_report(void **state)
{
    (void)state;
    fct_sae *whole, *part, *again;
    fct_train_report first, second, third;
    fct_train_desc desc = options;
    make_rows(1);
    desc.resume = temp_path("whole");
    assert_ok(train(&whole, &shuffled, &desc, &first));
    desc.resume = temp_path("part");
    desc.log_jsonl = temp_path("log.jsonl");
    cut_off(&desc, 21); /* the last checkpoint is of step 16 */
    assert_ok(train(&part, &shuffled, &desc, &second));
    assert_memory_equal(whole->w_dec, part->w_dec, sizeof(float) * (size_t)whole->f * D);
    char *text, *p;
    int64_t n, step;
    assert_ok(fct_file_read(&text, &n, desc.log_jsonl));
    p = text;
    for (step = 1; *p; step++) { /* every step once, in order */
        json_t *j;
        int64_t at;
        char *end = strchr(p, '\n');
        assert_ok(fct_json_parse(&j, p, end - p, "log"));
        assert_ok(fct_json_i64(&at, j, "step", 0, "log"));
        assert_int_equal(at, step);
        json_decref(j);
        p = end + 1;
    }
    assert_int_equal(step, STEPS + 1);
    fct_free(text);
    /* finished already: the numbers are those of the training, not zeros */
    assert_ok(train(&again, &shuffled, &desc, &third));
    assert_true(first.ev != 0 && third.ev == first.ev && third.loss == first.loss);
    assert_true(third.mse == first.mse && third.aux == first.aux && third.l0 == first.l0);
    assert_true(third.dead == first.dead && third.steps == STEPS && second.ev == first.ev);
    assert_non_null(strstr(again->facet_json, "\"order_seed\": 5"));
    fct_sae_free(again);
    fct_sae_free(part);
    fct_sae_free(whole);
    remove_tree(temp_path("whole"));
    remove_tree(temp_path("part"));
}

/* The file of a step's checkpoint. */
static const char *file_of(const char *dir, int64_t step)
{
    static char file[1200];
    snprintf(file, sizeof file, "%s/checkpoint-%012d.safetensors", dir, (int)step);
    return file;
}

/* The newest checkpoint's bytes with one digit after `key` changed. */
static void damage(const char *dir, const char *key)
{
    const char *file = file_of(dir, fct_path_exists(file_of(dir, 16)) ? 16 : 30);
    char *text;
    int64_t n, at = 0;
    assert_ok(fct_file_read(&text, &n, file));
    while (at < n && strncmp(text + at, key, strlen(key)) != 0) at++;
    while (at < n && (text[at] < '0' || text[at] > '9')) at++;
    assert_true(at < n);
    text[at] = text[at] == '7' ? '8' : '7';
    assert_ok(fct_file_write(file, text, n));
    fct_free(text);
}

static void test_refuses_others(void **state)
{
    (void)state;
    static const struct {
        fct_rows_desc rows;
        const char *says;
    } other[] = {
        {{.order = FCT_ORDER_SHUFFLED, .seed = 6}, "other rows (order_seed 5, now 6)"},
        {{.order = FCT_ORDER_SEQUENTIAL}, "other rows (order \"shuffled\", now \"sequential\")"},
        {{.order = FCT_ORDER_SHUFFLED, .seed = 5, .first = 10}, "other rows ("},
        {{.order = FCT_ORDER_SHUFFLED, .seed = 5, .n = N - 1}, "other rows ("},
    };
    fct_sae *s;
    fct_train_desc desc = options;
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", temp_path("other"));
    desc.resume = dir;
    make_rows(1);
    cut_off(&desc, 20);
    for (size_t i = 0; i < FCT_COUNT(other); i++)
        assert_fails(FCT_ERR_ARG, other[i].says, train(&s, &other[i].rows, &desc, NULL));
    make_rows(2); /* as many, of the same width, in the same order */
    assert_fails(FCT_ERR_ARG, "other rows (sample", train(&s, &shuffled, &desc, NULL));
    make_rows(1);
    fct_row_source silent = open_rows(&shuffled);
    silent.describe = NULL;
    assert_fails(FCT_ERR_ARG, "other rows (", fct_sae_train(&s, &silent, &desc, NULL));
    silent.close(silent.self);
    desc.k = 3;
    assert_fails(FCT_ERR_ARG, "other options (k 4, now 3)", train(&s, &shuffled, &desc, NULL));
    desc.k = 4;
    /* another number of threads goes on, and says so */
    ear heard = {0};
    fct_log log = {.user = &heard, .line = hear};
    damage(dir, "\"threads\"");
    desc.log = &log;
    assert_ok(train(&s, &shuffled, &desc, NULL));
    assert_int_equal(heard.n, 1);
    assert_non_null(strstr(heard.text, "equal within rounding"));
    fct_sae_free(s);
    damage(dir, "facet_version");
    assert_fails(FCT_ERR_ARG, "other arithmetic (facet_version", train(&s, &shuffled, &desc, NULL));
    remove_tree(dir);
}

/* ---- rotation ---- */

static fct_sae *untouched(void)
{
    fct_sae *whole;
    assert_ok(train(&whole, &shuffled, &options, NULL));
    return whole;
}

static void cut_file(const char *file, int64_t less)
{
    char *text;
    int64_t n;
    assert_ok(fct_file_read(&text, &n, file));
    assert_ok(fct_file_write(file, text, n - less));
    fct_free(text);
}

/* One bit of the last tensor changed: only the checksum can tell. */
static void flip_bit(const char *file)
{
    char *text;
    int64_t n;
    assert_ok(fct_file_read(&text, &n, file));
    text[n - 200] ^= 4;
    assert_ok(fct_file_write(file, text, n));
    fct_free(text);
}

static void test_rotation(void **state)
{
    (void)state;
    char dir[1024];
    fct_sae *s, *whole;
    ear heard = {0};
    fct_log log = {.user = &heard, .line = hear};
    fct_train_desc desc = options;
    make_rows(1);
    whole = untouched();
    snprintf(dir, sizeof dir, "%s", temp_path("rotation"));
    desc.resume = dir;
    desc.log = &log;
    for (int how = 0; how < 2; how++) { /* checkpoints of steps 8, 16, 24: two stay */
        cut_off(&desc, 27);
        assert_false(fct_path_exists(file_of(dir, 8)));
        assert_true(fct_path_exists(file_of(dir, 16)) && fct_path_exists(file_of(dir, 24)));
        heard = (ear){0};
        if (how == 0)
            cut_file(file_of(dir, 24), 1000);
        else
            flip_bit(file_of(dir, 24));
        assert_ok(train(&s, &shuffled, &desc, NULL));
        assert_int_equal(heard.n, 1);
        assert_non_null(strstr(heard.text, "checkpoint-000000000024"));
        assert_non_null(strstr(heard.text, how == 0 ? "continuing from" : "damaged; continuing"));
        assert_memory_equal(whole->w_dec, s->w_dec, sizeof(float) * (size_t)whole->f * D);
        fct_sae_free(s);
        fct_sae_checkpoint_remove(dir);
        assert_false(fct_path_exists(dir));
    }
    /* none that is whole: told, not started anew; and one can be kept alone */
    desc.keep_checkpoints = 1;
    cut_off(&desc, 20);
    assert_false(fct_path_exists(file_of(dir, 8)));
    flip_bit(file_of(dir, 16));
    assert_fails(FCT_ERR_FORMAT, "no other checkpoint", train(&s, &shuffled, &desc, NULL));
    assert_true(fct_path_exists(file_of(dir, 16)));
    fct_sae_checkpoint_remove(dir);
    fct_sae_free(whole);
}

/* A write that fails, at every write of the second checkpoint: the first one stays and is good. */
static void test_full_disk(void **state)
{
    (void)state;
    char dir[1024];
    fct_sae *s, *whole;
    fct_train_desc desc = options;
    make_rows(1);
    whole = untouched();
    snprintf(dir, sizeof dir, "%s", temp_path("full"));
    desc.resume = dir;
    fct_fault_write(1);
    assert_fails(FCT_ERR_IO, "saving a checkpoint: write", train(&s, &shuffled, &desc, NULL));
    fct_fault_write(0);
    assert_false(fct_sae_checkpoint_exists(dir));
    int failed = 0;
    for (int nth = 1; nth < 12; nth++) {
        fct_sae_checkpoint_remove(dir);
        fct_fault_write(nth);
        fct_status st = train(&s, &shuffled, &desc, NULL);
        fct_fault_write(0);
        if (st == FCT_OK) {
            fct_sae_free(s);
            break;
        }
        assert_int_equal(st, FCT_ERR_IO);
        bool there = fct_sae_checkpoint_exists(dir);
        if (there) assert_non_null(strstr(fct_error_text(), "stays"));
        failed += there;
        assert_ok(train(&s, &shuffled, &desc, NULL));
        assert_memory_equal(whole->w_dec, s->w_dec, sizeof(float) * (size_t)whole->f * D);
        fct_sae_free(s);
    }
    assert_true(failed >= 3);
    fct_sae_checkpoint_remove(dir);
    fct_sae_free(whole);
}

/* Weights that overflowed would replace a good checkpoint. */
static void test_lost_weights_are_not_kept(void **state)
{
    (void)state;
    char dir[1024];
    fct_train_plan plan;
    fct_trainee t;
    fct_train_place place = {0};
    make_rows(1);
    snprintf(dir, sizeof dir, "%s", temp_path("lost"));
    assert_ok(fct_train_plan_init(&plan, &options, D, N, NULL));
    assert_ok(fct_trainee_init(&t, &plan, D, NULL));
    fct_train_state s = {.trainee = &t, .n = 1, .place = &place, .n_places = 1, .step = 3};
    assert_ok(fct_checkpoint_save(dir, &s));
    t.sae->w_dec[5] = INFINITY;
    s.step = 4;
    assert_fails(FCT_ERR_RANGE, "not finite", fct_checkpoint_save(dir, &s));
    assert_true(fct_path_exists(file_of(dir, 3)));
    assert_false(fct_path_exists(file_of(dir, 4)));
    fct_trainee_clear(&t);
    fct_sae_checkpoint_remove(dir);
}

static void test_removes_its_own(void **state)
{
    (void)state;
    char dir[1024], file[1200];
    fct_train_desc desc = options;
    snprintf(dir, sizeof dir, "%s", temp_path("mine"));
    desc.resume = dir;
    make_rows(1);
    cut_off(&desc, 20);
    snprintf(file, sizeof file, "%s/checkpoint-000000000024.safetensors.tmp-1-0",
             dir); /* left by a kill */
    assert_ok(fct_file_write(file, "x", 1));
    snprintf(file, sizeof file, "%s/notes.txt", dir);
    assert_ok(fct_file_write(file, "x", 1));
    assert_true(fct_sae_checkpoint_exists(dir));
    fct_sae_checkpoint_remove(dir);
    assert_false(fct_sae_checkpoint_exists(dir));
    char **name;
    int64_t n;
    assert_ok(fct_dir_list(&name, &n, dir));
    assert_int_equal(n, 1);
    assert_string_equal(name[0], "notes.txt");
    fct_names_free(name, n);
    unlink(file);
    fct_sae_checkpoint_remove(dir);
    assert_false(fct_path_exists(dir));
}

/* Fewer dead_rows than a batch has: a feature that was active in the last batch is not dead. */
static void test_few_dead_rows(void **state)
{
    (void)state;
    fct_train_desc desc = options;
    fct_train_plan plan;
    fct_trainee t;
    desc.dead_rows = 1;
    make_rows(1);
    assert_ok(fct_train_plan_init(&plan, &desc, D, N, NULL));
    assert_int_equal(fct_train_plan_dead_steps(&plan), 1);
    assert_ok(fct_trainee_init(&t, &plan, D, NULL));
    assert_ok(fct_trainee_calibrate(&t, data, 400));
    for (int step = 0; step < 3; step++) {
        assert_ok(fct_trainee_backward(&t, data + step * BATCH * D, false));
        for (int64_t i = 0; i < BATCH * plan.k; i++)
            if (t.value[i] > 1e-3f) assert_false(t.dead[t.index[i]]);
        assert_true(t.now.n_dead < plan.f);
    }
    fct_trainee_clear(&t);
}

static void test_lost_training_warns(void **state)
{
    (void)state;
    fct_sae *s;
    fct_train_report report;
    ear heard = {0};
    fct_log log = {.user = &heard, .line = hear};
    fct_train_desc desc = options;
    desc.log = &log;
    make_rows(1);
    assert_ok(train(&s, &shuffled, &desc, &report));
    assert_true(report.ev > 0);
    assert_int_equal(heard.n, 0);
    fct_sae_free(s);
    desc.lr = 10;
    assert_ok(train(&s, &shuffled, &desc, &report));
    assert_true(report.ev < 0);
    assert_int_equal(heard.n, 2); /* dying features: once, not at every line */
    assert_non_null(strstr(heard.text, "% of the features are dead at step"));
    assert_non_null(strstr(heard.text, "explains less than nothing"));
    fct_sae_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_and_report),
        cmocka_unit_test(test_refuses_others),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_lost_weights_are_not_kept),
        cmocka_unit_test(test_removes_its_own),
        cmocka_unit_test(test_few_dead_rows),
        cmocka_unit_test(test_lost_training_warns),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

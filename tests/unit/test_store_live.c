/* test_store_live.c - rows that a model makes while they are read: those that capture stores, in
   any order, continued anywhere, for several blocks at once, on a thread or not; and what stops it.
 */
#include <pthread.h>

#include "fct_test.h"
#include "store/store.h"
#include "twin.h"

static char folder[1024], stored[1024];
static fct_model *model;
static fct_session *session;
static fct_store *store;
static const fct_prompt prompts[] = {
    {"a red cat", 0, false}, {"two dogs", 99, true}, {"a house by the sea", 0, false},
    {"", 0, false},          {"green", 0, false},    {"a small blue boat", 0, false},
    {"night", 0, false},
};
static const int64_t at_steps[] = {1, 3};
static const char blocks[] = "up.0.0,up.0.1";
enum { MAX = 8192, BUFFER = 40000 }; /* bytes: some batches of two prompts */

static const fct_settings settings = {.steps = 3, .guidance = 4, .seed = 5};

static fct_capture_desc capture_desc(void)
{
    return (fct_capture_desc){.session = session,
                              .prompts = prompts,
                              .n_prompts = FCT_COUNT(prompts),
                              .blocks = blocks,
                              .settings = &settings,
                              .at_steps = at_steps,
                              .n_at_steps = 2,
                              .branch = FCT_HALF_BOTH,
                              .batch = 2,
                              .store_dtype = FCT_STORE_BF16,
                              .out = stored};
}

static int open_all(void **state)
{
    (void)state;
    fct_threads_set(1);
    snprintf(folder, sizeof folder, "%s", temp_path("twin"));
    snprintf(stored, sizeof stored, "%s", temp_path("stored"));
    assert_ok(twin_write(test_path("golden/twin/a.json"), folder));
    assert_ok(fct_model_open(
        &model, &(fct_model_desc){.path = folder, .no_vae = true, .precision = FCT_PRECISION_F32}));
    assert_ok(fct_session_open(&session, model, NULL));
    fct_capture_desc d = capture_desc();
    assert_ok(fct_capture(&d, NULL));
    assert_ok(fct_store_open(&store, stored));
    return 0;
}

static int close_all(void **state)
{
    fct_store_close(store);
    fct_session_close(session);
    fct_model_close(model);
    remove_tree(folder);
    remove_tree(stored);
    return temp_clear(state);
}

/* All rows of a pass, one after the other, in pieces of `want`. */
static int64_t read_pass(fct_row_source *r, int64_t want, float *out)
{
    int64_t at = 0, n;
    for (;;) {
        const float *x;
        assert_ok(r->next(r->self, want, &x, &n));
        if (n == 0) return at;
        assert_true(n <= want && (at + n) * r->d <= MAX * 64);
        memcpy(out + at * r->d, x, (size_t)(n * r->d) * sizeof *x);
        at += n;
    }
}

static float stored_rows[MAX * 64], a[MAX * 64], b[MAX * 64], c[MAX * 64];

/* The store's rows of both blocks side by side. */
static int64_t read_stored(int64_t *d)
{
    fct_row_source r;
    assert_ok(fct_store_rows(&r, store, &(fct_rows_desc){.block = blocks}));
    int64_t n = read_pass(&r, 50, stored_rows);
    *d = r.d;
    r.close(r.self);
    return n;
}

static void test_sequential(void **state)
{
    (void)state;
    int64_t d, n = read_stored(&d);
    fct_capture_desc desc = capture_desc();
    for (int overlap = 0; overlap < 2; overlap++) {
        fct_row_source r;
        assert_ok(fct_model_rows(&r, &desc,
                                 &(fct_rows_desc){.memory_bytes = BUFFER, .no_overlap = !overlap}));
        assert_int_equal(r.total, n);
        assert_int_equal(r.n_parts, 2);
        assert_int_equal(read_pass(&r, 37, a), n);
        assert_memory_equal(a, stored_rows, (size_t)(n * d) * sizeof *a);
        r.close(r.self);
    }
}

static int compare_rows(const void *x, const void *y)
{
    return memcmp(x, y, 8 * sizeof(float));
}

static void test_shuffled(void **state)
{
    (void)state;
    int64_t d, n = read_stored(&d), moved = 0;
    fct_capture_desc desc = capture_desc();
    fct_row_source r, other;
    fct_rows_desc rows = {.order = FCT_ORDER_SHUFFLED, .seed = 3, .memory_bytes = BUFFER};
    assert_ok(fct_model_rows(&r, &desc, &rows));
    assert_int_equal(read_pass(&r, 64, a), n);
    for (int64_t i = 0; i < n; i++)
        moved += memcmp(a + i * d, stored_rows + i * d, (size_t)d * sizeof *a) != 0;
    assert_true(moved > n * 9 / 10);
    assert_ok(r.rewind(r.self, 1));
    read_pass(&r, 64, b);
    assert_memory_not_equal(a, b, (size_t)(n * d) * sizeof *a);
    assert_ok(r.rewind(r.self, 0));
    read_pass(&r, 99, c);
    assert_memory_equal(a, c, (size_t)(n * d) * sizeof *a);
    /* from places all over, another source (as after a kill) gives the same rest */
    for (int64_t at = 1; at < n; at += n / 5) {
        uint8_t blob[64];
        const float *x;
        int64_t got;
        assert_ok(r.rewind(r.self, 0));
        for (int64_t left = at; left > 0; left -= got) assert_ok(r.next(r.self, left, &x, &got));
        assert_ok(r.tell(r.self, blob));
        rows.no_overlap = at % 2;
        assert_ok(fct_model_rows(&other, &desc, &rows));
        assert_ok(other.seek(other.self, blob));
        assert_int_equal(read_pass(&other, 64, c), n - at);
        assert_memory_equal(a + at * d, c, (size_t)((n - at) * d) * sizeof *a);
        const char *one, *two;
        assert_ok(r.describe(r.self, &one));
        assert_ok(other.describe(other.self, &two));
        assert_string_equal(one, two);
        other.close(other.self);
    }
    r.close(r.self);
    /* every row once: both sorted by their bytes are the same list */
    qsort(a, (size_t)n, (size_t)d * sizeof *a, compare_rows);
    qsort(stored_rows, (size_t)n, (size_t)d * sizeof *a, compare_rows);
    assert_memory_equal(a, stored_rows, (size_t)(n * d) * sizeof *a);
}

/* One source a block, read in step, out of step, and held out. */
static void test_split(void **state)
{
    (void)state;
    int64_t d, n = read_stored(&d), got;
    fct_capture_desc desc = capture_desc();
    fct_row_source joint, part[2], held;
    const float *x;
    uint8_t blob[64];
    int64_t per_prompt = n / (int64_t)FCT_COUNT(prompts), last = n - 2 * per_prompt;
    assert_ok(fct_model_rows(&joint, &desc, &(fct_rows_desc){.n = last, .memory_bytes = BUFFER}));
    assert_int_equal(joint.total, 4 * per_prompt); /* whole batches of two prompts */
    assert_ok(fct_rows_split(part, &joint));
    for (int64_t at = 0; at < part[0].total; at += got)
        for (int p = 0; p < 2; p++) {
            assert_ok(part[p].next(part[p].self, 30, &x, &got));
            for (int64_t i = 0; i < got; i++)
                assert_memory_equal(x + i * part[p].d,
                                    stored_rows + (at + i) * d + (p == 1 ? part[0].d : 0),
                                    (size_t)part[p].d * sizeof *x);
        }
    assert_ok(part[1].rewind(part[1].self, 0));
    assert_ok(part[1].next(part[1].self, 11, &x, &got));
    assert_ok(part[1].tell(part[1].self, blob));
    assert_ok(part[0].seek(part[0].self, blob));
    assert_ok(part[0].next(part[0].self, 11, &x, &got));
    assert_memory_equal(x, stored_rows + 11 * d, (size_t)part[0].d * sizeof *x);
    int64_t here;
    assert_ok(fct_rows_stay(&part[1], &here));
    assert_true(here > 0);
    assert_ok(part[1].next(part[1].self, here, &x, &got));
    assert_memory_equal(x, stored_rows + part[0].d, (size_t)part[1].d * sizeof *x);
    assert_ok(
        fct_model_rows(&held, &desc, &(fct_rows_desc){.first = part[0].total}));
    assert_int_equal(read_pass(&held, 64, a), n - part[0].total);
    assert_memory_equal(a, stored_rows + part[0].total * d,
                        (size_t)((n - part[0].total) * d) * sizeof *a);
    held.close(held.self);
    part[0].close(part[0].self);
    part[1].close(part[1].self);
}

/* A block on another grid: each fine cell comes with the coarse one that it lies in. A store of the
 * same blocks gives the same rows in step. */
static void test_grids(void **state)
{
    (void)state;
    fct_capture_desc desc = capture_desc();
    fct_row_source joint, part[2], stored_joint;
    fct_store *s;
    const float *live[2], *kept[2], *coarse;
    int64_t n, m, k, rows = 0;
    static char place[1024];
    desc.blocks = "up.0.1,up.1.0";
    snprintf(place, sizeof place, "%s", temp_path("grids"));
    assert_ok(fct_model_rows(&joint, &desc, &(fct_rows_desc){.memory_bytes = BUFFER}));
    assert_int_equal(joint.n_parts, 2);
    desc.out = place;
    assert_ok(fct_capture(&desc, NULL));
    assert_ok(fct_store_open(&s, place));
    const fct_store_block *blk = fct_store_get_info(s)->block;
    int64_t fine = blk[0].rows > blk[1].rows ? 0 : 1;
    assert_true(blk[fine].rows > blk[1 - fine].rows);
    assert_int_equal(joint.total, blk[fine].rows);
    assert_ok(fct_store_rows(&stored_joint, s, &(fct_rows_desc){.block = "up.0.1,up.1.0"}));
    float *all = NULL;
    assert_ok(fct_new_raw(&all, blk[1 - fine].rows * blk[1 - fine].d, sizeof *all));
    assert_ok(fct_store_read(s, 1 - fine, 0, blk[1 - fine].rows, all, NULL));
    int64_t which = strcmp(joint.part[0].name, blk[fine].name) == 0 ? 1 : 0; /* the coarse part */
    for (;; rows += n) {
        assert_ok(joint.next_parts(joint.self, 37, live, &n));
        assert_ok(stored_joint.next_parts(stored_joint.self, n > 0 ? n : 1, kept, &m));
        assert_int_equal(n, m);
        if (n == 0) break;
        for (int p = 0; p < 2; p++)
            assert_memory_equal(live[p], kept[p], (size_t)(n * joint.part[p].d) * sizeof(float));
        for (k = 0; k < n; k++) {
            int64_t cells = blk[fine].grid_h * blk[fine].grid_w, row = rows + k, map = row / cells,
                    y = row % cells / blk[fine].grid_w, x = row % blk[fine].grid_w,
                    h = blk[1 - fine].grid_h, w = blk[1 - fine].grid_w;
            coarse = all + ((map * h + y * h / blk[fine].grid_h) * w + x * w / blk[fine].grid_w) *
                               blk[1 - fine].d;
            assert_memory_equal(live[which] + k * blk[1 - fine].d, coarse,
                                (size_t)blk[1 - fine].d * sizeof(float));
        }
    }
    assert_int_equal(rows, blk[fine].rows);
    assert_fails(FCT_ERR_ARG, "another block on", fct_rows_split(part, &joint));
    joint.close(joint.self);
    stored_joint.close(stored_joint.self);
    fct_free(all);
    fct_store_close(s);
    remove_tree(place);
}

static void test_stops(void **state)
{
    (void)state;
    volatile int stop = 0;
    fct_capture_desc desc = capture_desc();
    desc.log = &(fct_log){.stop = &stop};
    fct_row_source r;
    const float *x;
    int64_t n;
    assert_ok(fct_model_rows(&r, &desc, &(fct_rows_desc){.memory_bytes = BUFFER}));
    assert_ok(r.next(r.self, 10, &x, &n));
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    fct_status st = FCT_OK;
    for (int i = 0; i < 10000 && st == FCT_OK; i++) st = r.next(r.self, 50, &x, &n);
    assert_true(st == FCT_ERR_STOPPED || (st == FCT_OK && n == 0)); /* or it was done already */
    r.close(r.self);
    /* closed while the thread is at work, and before it had anything to do */
    stop = 0;
    assert_ok(fct_model_rows(&r, &desc, &(fct_rows_desc){.memory_bytes = BUFFER}));
    assert_ok(r.next(r.self, 1, &x, &n));
    r.close(r.self);
    assert_ok(fct_model_rows(&r, &desc, &(fct_rows_desc){.memory_bytes = BUFFER}));
    r.close(r.self);
    desc.blocks = "nowhere";
    assert_fails(FCT_ERR_MISSING, "nowhere", fct_model_rows(&r, &desc, &(fct_rows_desc){0}));
    desc = capture_desc();
    assert_fails(FCT_ERR_ARG, "hold no whole batch of 2 prompts",
                 fct_model_rows(&r, &desc, &(fct_rows_desc){.n = 3}));
}

/* ---- who is told ---- */

typedef struct listener {
    pthread_t thread;
    int64_t cut, elsewhere, progress;
} listener;

static void hear_line(void *user, fct_log_level level, const char *text)
{
    listener *l = user;
    (void)level;
    l->elsewhere += !pthread_equal(l->thread, pthread_self());
    l->cut += strstr(text, "cut off") != NULL;
}

static void hear_progress(void *user, const char *what, int64_t done, int64_t total)
{
    listener *l = user;
    (void)what;
    (void)done;
    (void)total;
    l->elsewhere += !pthread_equal(l->thread, pthread_self());
    l->progress++;
}

/* The rows are made on a thread of their own, but their reader's log is called on the reader's; and
   the model's steps are no progress of the reader's. Meanwhile the caller's session is free. */
static void test_told(void **state)
{
    (void)state;
    char text[4096] = "";
    for (size_t i = 0; i + 10 < sizeof text; i += 9) memcpy(text + i, "far away ", 10);
    const fct_prompt wordy[] = {{.text = text}, {.text = "near"}};
    listener l = {.thread = pthread_self()};
    const fct_log log = {.user = &l, .line = hear_line, .progress = hear_progress};
    fct_capture_desc desc = capture_desc();
    fct_row_source r;
    const float *x;
    int64_t n = 1, total = 0;
    desc.prompts = wordy;
    desc.n_prompts = 2;
    desc.log = &log;
    assert_ok(fct_model_rows(&r, &desc, &(fct_rows_desc){.memory_bytes = BUFFER}));
    fct_run_result free_to_run;
    assert_ok(fct_session_run(session,
                              &(fct_run_desc){.items = &(fct_run_item){.prompt = "a red cat"},
                                              .n_items = 1,
                                              .settings = &(fct_settings){.steps = 1},
                                              .no_decode = true},
                              &free_to_run));
    fct_run_result_clear(&free_to_run);
    for (; n > 0; total += n) assert_ok(r.next(r.self, 64, &x, &n));
    r.close(r.self);
    assert_true(total > 0);
    assert_true(l.cut > 0);
    assert_int_equal(l.elsewhere, 0);
    assert_int_equal(l.progress, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_sequential), cmocka_unit_test(test_shuffled),
        cmocka_unit_test(test_split),      cmocka_unit_test(test_grids),
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

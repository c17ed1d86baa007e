/* test_sae_watch.c - what is seen of a training while it goes on: its course also across a kill,
 * measurements on held-out rows, progress. */
#include <math.h>

#include "facet/store.h"
#include "fct_test.h"
#include "sae_once.h"
#include "train/train.h"

enum { D = 8, N = 2000, HELD = 400, BATCH = 50, STEPS = 30 };
static float data[N * D];

static void make_rows(void)
{
    fct_rng rng;
    fct_rng_init(&rng, 4);
    fct_rng_normal(&rng, data, N * D);
    for (int64_t i = 0; i < N * D; i++) data[i] *= (float)(1 + i % D);
}

typedef struct ear {
    char detail[256];
    int64_t stop_at;
    volatile int stop;
} ear;

static void hear_detail(void *user, const char *text)
{
    ear *e = user;
    snprintf(e->detail, sizeof e->detail, "%s", text);
}

static void hear_progress(void *user, const char *what, int64_t done, int64_t total)
{
    ear *e = user;
    (void)what;
    (void)total;
    if (done == e->stop_at) e->stop = 1;
}

static fct_status train(fct_train_member *m, ear *e, const char *dir)
{
    fct_row_source rows, held;
    fct_log log = {.user = e, .progress = hear_progress, .detail = hear_detail, .stop = &e->stop};
    assert_ok(fct_rows_of_memory(&rows, data, N, D,
                                 &(fct_rows_desc){.order = FCT_ORDER_SHUFFLED, .n = N - HELD}));
    assert_ok(fct_rows_of_memory(&held, data, N, D, &(fct_rows_desc){.first = N - HELD}));
    *m = (fct_train_member){.desc = {.preset = "demo",
                                     .k = 4,
                                     .batch_size = BATCH,
                                     .steps = STEPS,
                                     .calibration_rows = 400,
                                     .log_every = 4,
                                     .eval_every = 10,
                                     .resume = dir,
                                     .log = &log}};
    fct_train_run run = {
        .stream = &rows, .n_streams = 1, .held_out = &held, .member = m, .n_members = 1};
    fct_status st = fct_sae_train_many(&run);
    if (st != FCT_OK) fct_train_run_clear(&run);
    rows.close(rows.self);
    held.close(held.self);
    m->desc.log = NULL;
    return st;
}

static void clear(fct_train_member *m)
{
    fct_train_run run = {.member = m, .n_members = 1};
    fct_train_run_clear(&run);
}

static void test_course(void **state)
{
    (void)state;
    static const int64_t step[] = {1, 4, 8, 10, 12, 16, 20, 24, 28, 30};
    fct_train_member whole, part;
    ear e = {0};
    fct_sae_quality q;
    make_rows();
    assert_ok(train(&whole, &e, NULL));
    assert_int_equal(whole.n_metrics, FCT_COUNT(step));
    for (size_t i = 0; i < FCT_COUNT(step); i++) {
        const fct_train_metrics *p = &whole.metrics[i];
        assert_int_equal((int64_t)p->step, step[i]);
        assert_true(p->ev <= 1 && p->fvu >= 0 && p->l0 > 0 && p->l0 <= 4 && p->lr > 0);
        assert_int_equal(isfinite(p->held_ev) != 0, step[i] % 10 == 0);
        assert_int_equal(isfinite(p->held_l0) != 0, step[i] % 10 == 0);
    }
    /* the last measurement is one of the finished weights */
    fct_row_source held;
    assert_ok(fct_rows_of_memory(&held, data, N, D, &(fct_rows_desc){.first = N - HELD}));
    assert_ok(fct_sae_measure_quality(whole.sae, &held, NULL, &q));
    held.close(held.self);
    const fct_train_metrics *last = &whole.metrics[whole.n_metrics - 1];
    assert_int_equal(q.rows, HELD);
    assert_true(last->held_ev == q.ev && last->held_l0 == q.l0 && last->held_fvu == 1 - q.ev_total);
    assert_non_null(strstr(e.detail, "rows/s  EV "));
    assert_non_null(strstr(e.detail, "L0 4.0  dead 0.0 %"));
    /* stopped and continued: the same course, from the first step on */
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", temp_path("course"));
    e.stop_at = 18;
    assert_fails(FCT_ERR_STOPPED, "", train(&part, &e, dir));
    e = (ear){0};
    assert_ok(train(&part, &e, dir));
    assert_int_equal(part.n_metrics, whole.n_metrics);
    for (int64_t i = 0; i < part.n_metrics; i++) {
        assert_memory_equal(&part.metrics[i], &whole.metrics[i],
                            offsetof(fct_train_metrics, held_ev));
        assert_true(isnan(part.metrics[i].held_ev)
                        ? isnan(whole.metrics[i].held_ev)
                        : part.metrics[i].held_ev == whole.metrics[i].held_ev);
    }
    fct_sae_checkpoint_remove(dir);
    clear(&whole);
    clear(&part);
}

/* FVU and EV of a batch by their definitions, in f64. */
static void test_definitions(void **state)
{
    (void)state;
    fct_train_desc desc = {.preset = "demo", .k = 4, .batch_size = BATCH, .steps = 9};
    fct_train_plan plan;
    fct_trainee t;
    double fvu_miss = 0, fvu_all = 0, ev = 0;
    float rebuilt[BATCH * D];
    make_rows();
    assert_ok(fct_train_plan_init(&plan, &desc, D, N, NULL));
    assert_ok(fct_trainee_init(&t, &plan, D, NULL));
    assert_ok(fct_trainee_calibrate(&t, data, 400));
    assert_ok(once_rebuild(t.sae, data, BATCH, rebuilt));
    assert_ok(fct_trainee_backward(&t, data, true));
    for (int i = 0; i < D; i++) {
        double x = 0, xx = 0, m = 0, mm = 0;
        for (int r = 0; r < BATCH; r++) {
            double v = data[r * D + i], miss = v - rebuilt[r * D + i];
            x += v / BATCH;
            xx += v * v / BATCH;
            m += miss / BATCH;
            mm += miss * miss / BATCH;
        }
        fvu_miss += mm;
        fvu_all += xx - x * x;
        ev += (1 - (mm - m * m) / (xx - x * x + 1e-8)) / D;
    }
    print_message("fvu within %.1e, ev within %.1e\n", fabs(t.now.fvu - fvu_miss / fvu_all),
                  fabs(t.now.ev - ev));
    assert_true(fabs(t.now.fvu - fvu_miss / fvu_all) < 1e-6); /* observed: 3e-9, 2e-8 */
    assert_true(fabs(t.now.ev - ev) < 1e-6);
    fct_trainee_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_course),
        cmocka_unit_test(test_definitions),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

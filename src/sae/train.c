/* train.c - the training loop: batches from a source, steps of every SAE in a list (one, for now),
   log, checkpoints, stopping.

   Batches are always full: one that the end of a pass cuts short is completed from the next pass,
   which the source serves in an order of its own. With a checkpoint folder, a stopped or killed run
   continues where its last checkpoint was and ends with the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sae/sae.h"

typedef struct training {
    const fct_train_desc *desc;
    fct_row_source *source;
    fct_trainee *list; /* [n]: all are fed the same batches */
    int64_t n;
    int64_t batch, d;
    float *rows; /* [batch,D] */
    fct_train_place place;
    int log_fd;
    double started, logged_at; /* seconds */
    int64_t first_step, logged_step;
} training;

/* ---- rows ---- */

/* Up to want rows into tr->rows; fewer only at the end of the data, when wrap is off. */
static fct_status read_rows(training *tr, float *out, int64_t want, bool wrap, int64_t *out_n)
{
    int64_t have = 0;
    bool empty_pass = false;
    while (have < want) {
        const float *rows;
        int64_t n = 0;
        FCT_TRY(tr->source->next(tr->source->self, want - have, &rows, &n));
        if (n < 0 || n > want - have)
            return fct_fail(FCT_ERR_INTERNAL, "the rows' source gave %lld rows for %lld",
                            (long long)n, (long long)(want - have));
        if (n > 0) memcpy(out + have * tr->d, rows, (size_t)(n * tr->d) * sizeof *out);
        have += n;
        if (n > 0) {
            empty_pass = false;
            continue;
        }
        if (!wrap) break;
        if (empty_pass) return fct_fail(FCT_ERR_ARG, "there are no rows to train on");
        if (!tr->source->rewind)
            return fct_fail(FCT_ERR_ARG, "the rows ended and cannot be read again: fewer --steps");
        FCT_TRY(tr->source->rewind(tr->source->self, ++tr->place.pass));
        empty_pass = true;
    }
    *out_n = have;
    return FCT_OK;
}

static fct_status calibrate(training *tr)
{
    fct_status st = FCT_OK;
    float *rows = NULL;
    int64_t want = 0, n = 0;
    for (int64_t i = 0; i < tr->n; i++)
        if (tr->list[i].plan.calibration_rows > want) want = tr->list[i].plan.calibration_rows;
    if (want == 0) return FCT_OK;
    int64_t numbers;
    FCT_TRY_OUT(fct_mul_i64(&numbers, want, tr->d));
    FCT_TRY_OUT(fct_new_raw(&rows, numbers, sizeof *rows));
    FCT_TRY_OUT(read_rows(tr, rows, want, false, &n));
    for (int64_t i = 0; i < tr->n; i++) FCT_TRY_OUT(fct_trainee_calibrate(&tr->list[i], rows, n));
    if (tr->list[0].plan.train_calibration) {
        if (!tr->source->rewind) {
            st = fct_fail(FCT_ERR_ARG, "these rows cannot be read again, so calibration rows "
                                       "cannot be trained on: use --preset unboxing");
            goto out;
        }
        FCT_TRY_OUT(tr->source->rewind(tr->source->self, 0));
    }
out:
    fct_free(rows);
    return fct_where(st, "calibration");
}

/* ---- log ---- */

/* The step that a line of the log is of; -1: it is of none, or cut off. */
static int64_t step_of(const char *line, int64_t n)
{
    json_t *j = NULL;
    int64_t step = -1;
    if (fct_json_parse(&j, line, n, "log") != FCT_OK ||
        fct_json_i64(&step, j, "step", -1, "log") != FCT_OK)
        step = -1;
    json_decref(j);
    return step;
}

/* On continuing: lines of steps after the checkpoint's are dropped, they come again. */
static fct_status trim_log(const char *path, int64_t step)
{
    fct_status st = FCT_OK;
    char *text = NULL;
    int64_t n = 0, keep = 0;
    fct_str kept = {0};
    if (!fct_path_exists(path)) return FCT_OK;
    if (step == 0) return fct_file_write(path, "", 0);
    FCT_TRY(fct_file_read(&text, &n, path));
    for (int64_t line = 0; line < n; line = keep) {
        const char *end = memchr(text + line, '\n', (size_t)(n - line));
        if (!end) break;
        keep = end - text + 1;
        int64_t at = step_of(text + line, keep - line);
        if (at >= 0 && at <= step) FCT_TRY_OUT(fct_str_append_n(&kept, text + line, keep - line));
    }
    FCT_TRY_OUT(fct_file_write(path, kept.p ? kept.p : "", kept.n));
out:
    fct_free(text);
    fct_str_clear(&kept);
    return st;
}

static fct_status open_log(training *tr)
{
    const char *path = tr->desc->log_jsonl;
    if (!path) return FCT_OK;
    FCT_TRY(trim_log(path, tr->list[0].step));
    tr->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    return tr->log_fd >= 0 ? FCT_OK : fct_fail(FCT_ERR_IO, "write %s: %s", path, strerror(errno));
}

static fct_status write_log(training *tr, const fct_trainee *t)
{
    fct_status st = FCT_OK;
    fct_str line = {0};
    double now = fct_seconds(), seconds = now - tr->logged_at;
    int64_t steps = t->step - tr->logged_step;
    json_t *j =
        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:f}", "step", (json_int_t)t->step,
                  "rows", (json_int_t)(t->step * tr->batch), "loss", t->loss, "mse", t->mse, "aux",
                  t->aux, "ev", t->ev, "l0", t->l0, "dead", (json_int_t)t->n_dead, "lr",
                  fct_train_plan_lr(&t->plan, t->step - 1), "rows_per_second",
                  (double)(steps * tr->batch) / (seconds > 1e-9 ? seconds : 1e-9));
    if (!j) return fct_fail(FCT_ERR_MEMORY, "out of memory: a line of the training log");
    tr->logged_at = now;
    tr->logged_step = t->step;
    FCT_TRY_OUT(fct_json_text(&line, j, 0));
    FCT_TRY_OUT(fct_str_append(&line, "\n"));
    for (int64_t at = 0; tr->log_fd >= 0 && at < line.n;) {
        ssize_t put = write(tr->log_fd, line.p + at, (size_t)(line.n - at));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            st = fct_fail(FCT_ERR_IO, "write %s: %s", tr->desc->log_jsonl, strerror(errno));
            goto out;
        }
        at += put;
    }
out:
    json_decref(j);
    fct_str_clear(&line);
    return st;
}

/* ---- the loop ---- */

static fct_status checkpoint(training *tr)
{
    if (!tr->desc->resume) return FCT_OK;
    if (!tr->source->tell || !tr->source->seek)
        return fct_fail(FCT_ERR_ARG,
                        "these rows cannot say where they stand: no checkpoints are possible");
    memset(tr->place.blob, 0, sizeof tr->place.blob);
    FCT_TRY(tr->source->tell(tr->source->self, tr->place.blob));
    return fct_checkpoint_save(tr->desc->resume, &tr->list[0], &tr->place);
}

static fct_status start(training *tr)
{
    fct_trainee *t = &tr->list[0];
    if (tr->source->describe) FCT_TRY(tr->source->describe(tr->source->self, &tr->place.data));
    if (tr->desc->resume && fct_sae_checkpoint_exists(tr->desc->resume)) {
        FCT_TRY(fct_checkpoint_load(tr->desc->resume, t, &tr->place, tr->desc->log));
        if (!tr->source->seek)
            return fct_fail(FCT_ERR_ARG, "these rows cannot be continued from the middle");
        if (tr->source->rewind) FCT_TRY(tr->source->rewind(tr->source->self, tr->place.pass));
        FCT_TRY(tr->source->seek(tr->source->self, tr->place.blob));
        fct_log_line(tr->desc->log, FCT_LOG_INFO, "continuing at step %lld of %lld",
                     (long long)t->step, (long long)t->plan.steps);
    } else {
        if (tr->source->rewind) FCT_TRY(tr->source->rewind(tr->source->self, 0));
        FCT_TRY(calibrate(tr));
    }
    const fct_train_plan *p = &t->plan;
    fct_log_line(tr->desc->log, FCT_LOG_INFO,
                 "training: D %lld, %lld features, k %lld, auxk %lld (%s), batch %lld, %lld steps, "
                 "lr %g, loss scale %g, seed %llu",
                 (long long)tr->d, (long long)p->f, (long long)p->k, (long long)p->auxk,
                 p->aux == FCT_AUX_AUTHORS ? "authors" : "clean", (long long)p->batch,
                 (long long)p->steps, p->lr, p->loss_scale, (unsigned long long)p->seed);
    tr->first_step = tr->logged_step = t->step;
    tr->started = tr->logged_at = fct_seconds();
    return open_log(tr);
}

static fct_status run(training *tr, bool *out_end)
{
    const fct_train_plan *p = &tr->list[0].plan;
    int64_t step = tr->list[0].step + 1, n;
    *out_end = false;
    FCT_TRY(read_rows(tr, tr->rows, tr->batch, p->steps > 0, &n));
    if (n < tr->batch) { /* only rows of unknown number end here: what fills no batch is left out */
        *out_end = true;
        return FCT_OK;
    }
    bool log = step % p->log_every == 0 || step == 1 || step == p->steps;
    for (int64_t i = 0; i < tr->n; i++) {
        fct_trainee *t = &tr->list[i];
        FCT_TRY(fct_trainee_backward(t, tr->rows, log));
        fct_trainee_update(t);
        if (log) FCT_TRY(write_log(tr, t));
    }
    fct_log_progress(tr->desc->log, "training", step, p->steps);
    return FCT_OK;
}

static fct_status loop(training *tr)
{
    fct_trainee *t = &tr->list[0];
    int64_t every = t->plan.checkpoint_every, saved = t->step;
    bool end = false;
    while (!end && (t->plan.steps == 0 || t->step < t->plan.steps)) {
        fct_status st = fct_log_check_stop(tr->desc->log);
        if (st == FCT_ERR_STOPPED && t->step > saved)
            FCT_TRY(checkpoint(tr)); /* keeps what was done */
        if (st != FCT_OK) return fct_log_check_stop(tr->desc->log);
        FCT_TRY(run(tr, &end));
        if (every > 0 && t->step % every == 0 && !end) {
            FCT_TRY(checkpoint(tr));
            saved = t->step;
        }
    }
    if (t->step == 0)
        return fct_fail(FCT_ERR_ARG, "the rows do not fill one batch of %lld",
                        (long long)tr->batch);
    return t->step > saved ? checkpoint(tr) : FCT_OK;
}

/* ---- the result ---- */

static fct_status describe(fct_trainee *t, const fct_train_desc *desc, const char *data)
{
    json_t *options = NULL, *rows = NULL, *j = NULL;
    fct_str text = {0};
    fct_status st = FCT_OK;
    if (data) FCT_TRY(fct_json_parse(&rows, data, (int64_t)strlen(data), "the rows"));
    FCT_TRY_OUT(fct_train_plan_describe(&options, &t->plan, t->sae->d));
    j = json_pack("{s:s, s:s?, s:s, s:s, s:i, s:f, s:I, s:I, s:I, s:o, s:O*}", "facet_version",
                  fct_version(), "model_hash", desc->model_hash, "backend", t->engine.cx.be->name,
                  "dtype", "f32", "threads", fct_threads(), "loss_scale", t->plan.loss_scale,
                  "seed", (json_int_t)t->plan.seed, "steps", (json_int_t)t->step, "rows",
                  (json_int_t)(t->step * t->plan.batch), "training", options, "data", rows);
    if (!j) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
        goto out;
    }
    FCT_TRY_OUT(fct_json_text(&text, j, 0));
    fct_free(t->sae->facet_json);
    t->sae->facet_json = NULL;
    FCT_TRY_OUT(fct_strdup(&t->sae->facet_json, text.p));
    if (desc->block) {
        fct_free(t->sae->block);
        t->sae->block = NULL;
        FCT_TRY_OUT(fct_strdup(&t->sae->block, desc->block));
    }
    if (desc->model) {
        fct_free(t->sae->model);
        t->sae->model = NULL;
        FCT_TRY_OUT(fct_strdup(&t->sae->model, desc->model));
    }
out:
    json_decref(rows);
    json_decref(j);
    fct_str_clear(&text);
    return st;
}

static void fill_report(fct_train_report *r, const training *tr)
{
    const fct_trainee *t = &tr->list[0];
    *r = (fct_train_report){.steps = t->step,
                            .rows = t->step * tr->batch,
                            .n_features = t->plan.f,
                            .k = t->plan.k,
                            .dead = t->n_dead,
                            .loss = t->loss,
                            .mse = t->mse,
                            .aux = t->aux,
                            .ev = t->ev,
                            .l0 = t->l0,
                            .loss_scale = t->plan.loss_scale,
                            .seconds = fct_seconds() - tr->started};
}

fct_status fct_sae_train(fct_sae **out, fct_row_source *rows, const fct_train_desc *desc,
                         fct_train_report *report)
{
    fct_status st = FCT_OK;
    fct_trainee trainee = {0};
    fct_sae *init = NULL;
    fct_train_plan plan;
    training tr = {
        .desc = desc, .source = rows, .list = &trainee, .n = 1, .d = rows->d, .log_fd = -1};
    *out = NULL;
    if (rows->d < 1)
        return fct_fail(FCT_ERR_SHAPE, "rows of %lld numbers cannot be trained on",
                        (long long)rows->d);
    if (desc->init_from) FCT_TRY_OUT(fct_sae_load(&init, desc->init_from, NULL));
    FCT_TRY_OUT(fct_train_plan_init(&plan, desc, rows->d, rows->total, init));
    FCT_TRY_OUT(fct_trainee_init(&trainee, &plan, rows->d, init));
    tr.batch = plan.batch;
    int64_t numbers;
    FCT_TRY_OUT(fct_mul_i64(&numbers, tr.batch, tr.d));
    FCT_TRY_OUT(fct_new_raw(&tr.rows, numbers, sizeof *tr.rows));
    FCT_TRY_OUT(start(&tr));
    FCT_TRY_OUT(loop(&tr));
    FCT_TRY_OUT(describe(&trainee, desc, tr.place.data));
    if (trainee.ev < 0)
        fct_log_line(desc->log, FCT_LOG_WARN,
                     "the SAE explains less than nothing (explained variance %.4g, worse than the "
                     "rows' mean): a smaller --lr, or more steps",
                     trainee.ev);
    if (report) fill_report(report, &tr);
    *out = trainee.sae;
    trainee.sae = NULL;
out:
    if (tr.log_fd >= 0) close(tr.log_fd);
    fct_free(tr.rows);
    fct_sae_free(init);
    fct_trainee_clear(&trainee);
    return fct_where(st, "training");
}

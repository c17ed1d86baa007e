/* metrics.c - logs a training while it goes on: at every logged step a line of JSON and an event
   for TensorBoard for every SAE, under the names that SAELens gives to wandb; a measurement on
   held-out rows now and then; a warning when features die. The logs continue with the run: what
   they hold of steps after the checkpoint's does not count, since it comes again. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "train/train.h"
#include "train/variant.h"

static const double DYING = 0.25; /* share of dead features that is worth a warning */

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

static fct_status open_boards(fct_metrics_log *c, const fct_train_state *s)
{
    fct_status st = FCT_OK;
    char *dir = NULL;
    if (!c->desc->tensorboard) return FCT_OK;
    FCT_TRY(fct_new(&c->board, s->n, sizeof *c->board));
    for (; c->n_board < s->n && st == FCT_OK; c->n_board++) {
        const char *name = s->trainee[c->n_board].name;
        if (name)
            st = fct_path_join(&dir, c->desc->tensorboard, name);
        else
            st = fct_strdup(&dir, c->desc->tensorboard);
        if (st == FCT_OK) st = fct_tfevents_open(&c->board[c->n_board], dir, s->step);
        fct_free(dir);
        dir = NULL;
    }
    return st;
}

fct_status fct_metrics_log_open(fct_metrics_log *c, const fct_train_desc *desc,
                                fct_row_source *held_out, const fct_train_state *s)
{
    const char *path = desc->log_jsonl;
    double now = fct_seconds();
    *c = (fct_metrics_log){.desc = desc,
                           .held_out = held_out,
                           .log_fd = -1,
                           .first_step = s->step,
                           .logged_step = s->step,
                           .started = now,
                           .logged_at = now};
    FCT_TRY(open_boards(c, s));
    if (!path) return FCT_OK;
    FCT_TRY(trim_log(path, s->step));
    c->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (c->log_fd < 0) return fct_fail(FCT_ERR_IO, "write %s: %s", path, strerror(errno));
    c->open = true;
    return FCT_OK;
}

void fct_metrics_log_close(fct_metrics_log *c)
{
    if (c->open) close(c->log_fd);
    for (int64_t i = 0; i < c->n_board; i++) fct_tfevents_close(&c->board[i]);
    fct_free(c->board);
    *c = (fct_metrics_log){.log_fd = -1};
}

/* ---- a logged step ---- */

static fct_status write_line(const fct_metrics_log *c, const fct_str *line)
{
    for (int64_t at = 0; at < line->n;) {
        ssize_t put = write(c->log_fd, line->p + at, (size_t)(line->n - at));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0)
            return fct_fail(FCT_ERR_IO, "write %s: %s", c->desc->log_jsonl, strerror(errno));
        at += put;
    }
    return FCT_OK;
}

enum { MAX_SCALARS = 20 };

/* One list serves both logs. SAELens sums squared errors over a row's numbers, the loss here is
   their mean; its explained variance is 1 - fvu, the authors' the mean over dimensions. */
static int64_t list_scalars(fct_tfevents_scalar out[MAX_SCALARS], const fct_trainee *t,
                            double rows_per_second)
{
    const fct_train_plan *p = &t->plan;
    const fct_train_metrics *at = &t->metrics[t->n_metrics - 1];
    const fct_tfevents_scalar all[MAX_SCALARS] = {
        {"losses/overall_loss", at->loss},
        {"losses/mse_loss", at->mse * (double)t->sae->d},
        {"losses/auxiliary_reconstruction_loss", p->aux_coef * at->aux},
        {"metrics/explained_variance", 1 - at->fvu},
        {"metrics/explained_variance_by_dimension", at->ev},
        {"metrics/fvu", at->fvu},
        {"metrics/l0", at->l0},
        {"sparsity/dead_features", (double)t->now.n_dead},
        {"sparsity/dead_share", at->dead_share},
        {"details/current_learning_rate", at->lr},
        {"details/n_training_samples", (double)(t->now.step * p->batch)},
        {"details/rows_per_second", rows_per_second},
        {"held_out/explained_variance", 1 - at->held_fvu},
        {"held_out/explained_variance_by_dimension", at->held_ev},
        {"held_out/l0", at->held_l0},
        {"held_out/never_active_share", at->held_dead_share},
    };
    int64_t n = 0;
    for (int64_t i = 0; i < MAX_SCALARS && all[i].tag; i++)
        if (isfinite(all[i].value)) out[n++] = all[i];
    if (t->plan.variant->penalty && isfinite(t->now.penalty))
        out[n++] = (fct_tfevents_scalar){t->plan.variant->penalty, t->now.penalty};
    return n;
}

static json_t *whole_or_real(double x)
{
    return x == floor(x) && fabs(x) < 9e15 ? json_integer((json_int_t)x) : json_real(x);
}

static fct_status log_line(const fct_metrics_log *c, const fct_trainee *t,
                           const fct_tfevents_scalar *scalar, int64_t n)
{
    fct_status st = FCT_OK;
    fct_str line = {0};
    json_t *j = json_pack("{s:s*, s:I}", "sae", t->name, "step", (json_int_t)t->now.step);
    bool bad = !j;
    for (int64_t i = 0; i < n; i++)
        bad = json_object_set_new(j, scalar[i].tag, whole_or_real(scalar[i].value)) != 0 || bad;
    if (bad) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: a line of the training log");
        goto out;
    }
    FCT_TRY_OUT(fct_json_text(&line, j, 0));
    FCT_TRY_OUT(fct_str_append(&line, "\n"));
    FCT_TRY_OUT(write_line(c, &line));
out:
    json_decref(j);
    fct_str_clear(&line);
    return st;
}

/* What training has made so far as it would be saved, on held-out rows; of mixed blocks the mean of
   theirs. */
static fct_status measure_held(const fct_trainee *t, fct_row_source *rows, fct_sae_quality *out)
{
    int64_t blocks = fct_train_plan_mixed(&t->plan);
    const fct_measure_desc how = {.backend = t->plan.be->name};
    fct_status st = FCT_OK;
    for (int64_t b = 0; b < blocks && st == FCT_OK; b++) {
        fct_sae *now = NULL;
        fct_row_source part = {0};
        fct_sae_quality one = {0};
        double share = 1 / (double)blocks;
        st = rows->rewind(rows->self, 0);
        if (st == FCT_OK && blocks > 1) st = fct_row_source_part(&part, rows, b);
        if (st == FCT_OK) st = fct_trainee_export_block(t, b, &now);
        if (st == FCT_OK) st = fct_sae_measure_quality(now, blocks > 1 ? &part : rows, &how, &one);
        out->ev += share * one.ev;
        out->ev_total += share * one.ev_total;
        out->l0 += share * one.l0;
        out->dead_share += share * one.dead_share;
        fct_sae_free(now);
        if (part.close) part.close(part.self);
    }
    return st;
}

static fct_status add_point(const fct_metrics_log *c, fct_trainee *t)
{
    fct_sae_quality held = {0};
    if (t->n_metrics == t->room_metrics) {
        int64_t room = t->room_metrics * 2 + 64;
        FCT_TRY(fct_grow(&t->metrics, t->room_metrics, room, sizeof *t->metrics));
        t->room_metrics = room;
    }
    fct_row_source *rows = c->held_out ? &c->held_out[t->stream] : NULL;
    bool measured = rows && rows->next && c->desc->eval_every > 0 &&
                    (t->now.step % c->desc->eval_every == 0 || t->now.step == t->plan.steps);
    if (measured) FCT_TRY(measure_held(t, rows, &held));
    t->metrics[t->n_metrics++] =
        (fct_train_metrics){.step = (double)t->now.step,
                            .loss = t->now.loss,
                            .mse = t->now.mse,
                            .aux = t->now.aux,
                            .ev = t->now.ev,
                            .fvu = t->now.fvu,
                            .l0 = t->now.l0,
                            .dead_share = (double)t->now.n_dead / (double)t->plan.f,
                            .lr = fct_train_plan_lr(&t->plan, t->now.step - 1),
                            .held_ev = measured ? held.ev : NAN,
                            .held_fvu = measured ? 1 - held.ev_total : NAN,
                            .held_l0 = measured ? held.l0 : NAN,
                            .held_dead_share = measured ? held.dead_share : NAN};
    if (measured)
        fct_log_line(c->desc->log, FCT_LOG_INFO,
                     "%s%sstep %lld: held out: explained variance %.4f, %.2f features a row",
                     t->name ? t->name : "", t->name ? ": " : "", (long long)t->now.step, held.ev,
                     held.l0);
    return FCT_OK;
}

/* Once a run: later lines tell how it goes on. */
static void warn_of_dying(const fct_metrics_log *c, fct_trainee *t)
{
    double share = (double)t->now.n_dead / (double)t->plan.f;
    if (t->warned || share < DYING || t->now.step <= fct_train_plan_dead_steps(&t->plan)) return;
    t->warned = true;
    fct_option_log(c->desc->log, FCT_LOG_WARN, t->plan.spelling,
                   "%s%s%.0f %% of the features are dead at step %lld (silent for %lld rows): a "
                   "larger {auxk}, a smaller {lr}, or fewer {n_features}",
                   t->name ? t->name : "", t->name ? ": " : "", 100 * share, (long long)t->now.step,
                   (long long)t->plan.dead_rows);
}

fct_status fct_metrics_log_note(fct_metrics_log *c, fct_train_state *s)
{
    double now = fct_seconds(), seconds = now - c->logged_at;
    double rows = (double)((s->step - c->logged_step) * s->trainee[0].plan.batch);
    double rate = rows / (seconds > 1e-9 ? seconds : 1e-9);
    for (int64_t i = 0; i < s->n; i++) {
        fct_trainee *t = &s->trainee[i];
        fct_tfevents_scalar scalar[MAX_SCALARS];
        if (t->lost || t->now.step != s->step) continue;
        FCT_TRY(add_point(c, t));
        warn_of_dying(c, t);
        int64_t n = list_scalars(scalar, t, rate);
        if (c->open) FCT_TRY(log_line(c, t, scalar, n));
        if (c->n_board > i) FCT_TRY(fct_tfevents_write(&c->board[i], t->now.step, scalar, n));
    }
    c->logged_at = now;
    c->logged_step = s->step;
    return FCT_OK;
}

/* ---- progress ---- */

void fct_metrics_log_show(const fct_metrics_log *c, const fct_train_state *s, int64_t all_steps)
{
    char text[160];
    double now = fct_seconds(), seconds = now - c->started, lo[3] = {0}, hi[3] = {0};
    double rate = (double)((s->step - c->first_step) * s->trainee[0].plan.batch) /
                  (seconds > 1e-9 ? seconds : 1e-9);
    int64_t seen = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const fct_trainee *t = &s->trainee[i];
        const double v[3] = {t->now.ev, t->now.l0, 100 * (double)t->now.n_dead / (double)t->plan.f};
        if (t->lost || t->n_metrics == 0) continue;
        for (int k = 0; k < 3; k++) {
            lo[k] = seen == 0 || v[k] < lo[k] ? v[k] : lo[k];
            hi[k] = seen == 0 || v[k] > hi[k] ? v[k] : hi[k];
        }
        seen++;
    }
    if (seen == 1)
        snprintf(text, sizeof text, "%.0f rows/s  EV %.3f  FVU %.3f  L0 %.1f  dead %.1f %%", rate,
                 lo[0], s->trainee[0].now.fvu, lo[1], lo[2]);
    else
        snprintf(text, sizeof text,
                 "%.0f rows/s  %lld SAEs  EV %.3f to %.3f  L0 %.1f to %.1f  dead %.0f to %.0f %%",
                 rate, (long long)seen, lo[0], hi[0], lo[1], hi[1], lo[2], hi[2]);
    fct_log_detail(c->desc->log, text);
    fct_log_progress(c->desc->log, "training", s->step, all_steps);
}

/* course.c - what is seen of a training run while it goes on: a line of JSON for every SAE at every
   logged step, under the names that SAELens gives to wandb. The log continues with the run: lines
   of steps after the checkpoint's are dropped, since they come again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sae/sae.h"

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

fct_status fct_course_open(fct_course *c, const fct_train_desc *desc, const fct_train_state *s)
{
    const char *path = desc->log_jsonl;
    *c = (fct_course){
        .desc = desc, .log_fd = -1, .logged_step = s->step, .logged_at = fct_seconds()};
    if (!path) return FCT_OK;
    FCT_TRY(trim_log(path, s->step));
    c->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (c->log_fd < 0) return fct_fail(FCT_ERR_IO, "write %s: %s", path, strerror(errno));
    c->open = true;
    return FCT_OK;
}

void fct_course_close(fct_course *c)
{
    if (c->open) close(c->log_fd);
    *c = (fct_course){.log_fd = -1};
}

static fct_status write_line(const fct_course *c, const fct_str *line)
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

/* One SAE's line. SAELens sums squared errors over a row's numbers, the loss here is their mean. */
static fct_status log_trainee(const fct_course *c, const fct_trainee *t, double rows_per_second)
{
    fct_status st = FCT_OK;
    fct_str line = {0};
    const fct_train_plan *p = &t->plan;
    json_t *j = json_pack(
        "{s:s*, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:f, s:I, s:f}", "sae", t->name,
        "step", (json_int_t)t->step, "losses/overall_loss", t->loss, "losses/mse_loss",
        t->mse * (double)t->sae->d, "losses/auxiliary_reconstruction_loss", p->aux_coef * t->aux,
        "metrics/explained_variance", 1 - t->fvu, "metrics/explained_variance_by_dimension", t->ev,
        "metrics/fvu", t->fvu, "metrics/l0", t->l0, "sparsity/dead_features", (json_int_t)t->n_dead,
        "sparsity/dead_share", (double)t->n_dead / (double)p->f, "details/current_learning_rate",
        fct_train_plan_lr(p, t->step - 1), "details/n_training_samples",
        (json_int_t)(t->step * p->batch), "details/rows_per_second", rows_per_second);
    if (!j) return fct_fail(FCT_ERR_MEMORY, "out of memory: a line of the training log");
    FCT_TRY_OUT(fct_json_text(&line, j, 0));
    FCT_TRY_OUT(fct_str_append(&line, "\n"));
    FCT_TRY_OUT(write_line(c, &line));
out:
    json_decref(j);
    fct_str_clear(&line);
    return st;
}

fct_status fct_course_note(fct_course *c, const fct_train_state *s)
{
    double now = fct_seconds(), seconds = now - c->logged_at;
    double rows = (double)((s->step - c->logged_step) * s->trainee[0].plan.batch);
    double rate = rows / (seconds > 1e-9 ? seconds : 1e-9);
    for (int64_t i = 0; i < s->n && c->open; i++)
        if (!s->trainee[i].lost && s->trainee[i].step == s->step)
            FCT_TRY(log_trainee(c, &s->trainee[i], rate));
    c->logged_at = now;
    c->logged_step = s->step;
    return FCT_OK;
}

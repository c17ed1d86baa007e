/* session.c - opens and closes sessions, each one caller's work with a loaded model, and runs
   pictures in their memory.

   Any number of sessions share one model, each used by one thread at a time. What a session has
   taken it keeps: its arena grows to the largest run and is not given back between runs. */
#include <string.h>

#include "model/run.h"

static const int64_t USUAL_KEEP = INT64_C(512) << 20;
/* Texts get one part in so many of what may be kept: a pass over many prompts meets each once. */
enum { TEXTS_SHARE = 8, MAX_THREADS = 1024 };

fct_status fct_session_open(fct_session **out, const fct_model *m, const fct_session_desc *desc)
{
    static const fct_session_desc usual = {0};
    fct_session *s;
    *out = NULL;
    if (!m) return fct_fail(FCT_ERR_ARG, "a session needs a model");
    if (!desc) desc = &usual;
    if (desc->threads < 0 || desc->threads > MAX_THREADS)
        return fct_fail(FCT_ERR_ARG,
                        "a session of %d threads: want 1 to %d, or 0 for the usual number",
                        desc->threads, MAX_THREADS);
    if (desc->keep_bytes < FCT_NONE)
        return fct_fail(FCT_ERR_ARG, "a session cannot keep %lld bytes",
                        (long long)desc->keep_bytes);
    FCT_TRY(fct_new(&s, 1, (int64_t)sizeof *s));
    s->m = m;
    s->log = desc->log;
    s->threads = desc->threads ? desc->threads : fct_threads();
    int64_t budget = desc->keep_bytes == FCT_NONE ? 0
                     : desc->keep_bytes           ? desc->keep_bytes
                                                  : USUAL_KEEP;
    s->texts.budget = budget / TEXTS_SHARE;
    s->moments.budget = budget - s->texts.budget;
    fct_status st = fct_cx_open(&s->cx, m->be, s->log);
    int before = fct_session_enter(s);
    if (st == FCT_OK) st = fct_model_plan(s->plan, m);
    fct_session_leave(s, before);
    if (st != FCT_OK) {
        fct_session_close(s);
        return st;
    }
    *out = s;
    return FCT_OK;
}

void fct_session_close(fct_session *s)
{
    if (!s) return;
    fct_kept_clear(&s->texts);
    fct_kept_clear(&s->moments);
    fct_device_arena_clear(s->m->be->device, &s->arena);
    fct_cx_close(&s->cx);
    fct_free(s);
}

const fct_model *fct_session_model(const fct_session *s)
{
    return s->m;
}

int fct_session_threads(const fct_session *s)
{
    return s->threads;
}

const char *fct_session_plan(const fct_session *s)
{
    return s->plan;
}

void fct_session_count(const fct_session *s, fct_session_counts *out)
{
    *out = s->counts;
    out->kept_bytes = s->texts.bytes + s->moments.bytes;
    out->arena_bytes = s->arena.size;
}

void fct_session_forget(fct_session *s)
{
    fct_kept_clear(&s->texts);
    fct_kept_clear(&s->moments);
}

int fct_session_enter(const fct_session *s)
{
    int before = fct_threads();
    if (before != s->threads) fct_threads_set(s->threads);
    return before;
}

void fct_session_leave(const fct_session *s, int before)
{
    if (before != s->threads) fct_threads_set(before);
}

/* ---- runs ---- */

fct_status fct_session_run(fct_session *s, const fct_run_desc *d, fct_run_result *out)
{
    fct_work w;
    *out = (fct_run_result){0};
    int before = fct_session_enter(s);
    fct_status st = fct_work_init(&w, s, d);
    if (st == FCT_OK) {
        st = fct_work_run(&w, out);
        if (st == FCT_OK && w.warning.n) st = fct_strdup(&out->warning, w.warning.p);
        out->n = w.n;
        out->width = w.w * s->m->info.vae_factor;
        out->height = w.h * s->m->info.vae_factor;
        if (st != FCT_OK) fct_run_result_clear(out);
        fct_work_clear(&w);
    }
    fct_session_leave(s, before);
    return st;
}

void fct_run_result_clear(fct_run_result *r)
{
    fct_free(r->latents.data);
    fct_free(r->pixels);
    fct_free(r->warning);
    *r = (fct_run_result){0};
}

fct_status fct_session_peak(fct_session *s, const fct_run_desc *d, int64_t *out_bytes)
{
    fct_work w;
    *out_bytes = 0;
    int before = fct_session_enter(s);
    fct_status st = fct_work_init(&w, s, d);
    if (st == FCT_OK) {
        st = fct_work_peak(&w, out_bytes);
        fct_work_clear(&w);
    }
    fct_session_leave(s, before);
    return st;
}

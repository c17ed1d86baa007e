/* workers.c - shares the truth protocol's pictures among threads, one picture each at a time.

   A picture of the demo model is too small to be shared well by threads, and there are two thousand
   of them: each worker has a model, a checker and SAEs of its own, and computes with one thread. So
   pictures are the same however many workers there are. */
#include <string.h>

#include "eval/truth/truth.h"

enum { MAX_WORKERS = 8 }; /* about 100 MB each */

static fct_status open_worker(fct_truth_worker *w)
{
    const fct_truth *t = w->t;
    char *path = NULL;
    fct_model_desc desc = {.path = t->result.model->path,
                           .backend = t->result.model->backend,
                           .precision = FCT_PRECISION_F32};
    FCT_TRY(fct_model_open(&w->model, &desc));
    FCT_TRY(fct_session_open(&w->session, w->model, NULL));
    if (strcmp(fct_model_get_info(w->model)->hash, t->result.model->hash) != 0)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: the model changed while its pictures were made; start again",
                        t->result.model->path);
    FCT_TRY(fct_path_join(&path, t->result.model->path, "checker"));
    fct_status st = fct_checker_load(&w->checker, path, t->result.model->backend);
    fct_free(path);
    return st;
}

/* The SAEs of `from`, read again from where they lie: a set goes with one model. */
static fct_status open_set(fct_truth_worker *w, fct_sae_set *set, const fct_sae_set *from)
{
    for (int64_t i = set->n; i < from->n; i++) {
        char *text = NULL;
        FCT_TRY(fct_format(&text, "%s=%s", from->bound[i].short_name, from->bound[i].sae->path));
        fct_status st = fct_sae_set_add(set, fct_model_get_info(w->model), text);
        fct_free(text);
        FCT_TRY(st);
    }
    return FCT_OK;
}

typedef struct shared {
    fct_truth *t;
    fct_truth_job job;
    void *self;
} shared;

/* A worker opens what it needs on its own thread: plans are made for a number of threads. */
static fct_status do_job(void *self, int worker, int64_t i)
{
    const shared *s = self;
    fct_truth_worker *w = &s->t->worker[worker];
    FCT_TRY(fct_log_check_stop(s->t->log));
    if (!w->checker) FCT_TRY(open_worker(w));
    FCT_TRY(open_set(w, &w->saes, &s->t->saes));
    FCT_TRY(open_set(w, &w->controls, &s->t->controls));
    return s->job(w, s->self, i);
}

fct_status fct_truth_share(fct_truth *t, const char *what, int64_t n, fct_truth_job job, void *self)
{
    if (!t->worker) {
        int threads = fct_threads();
        int n_workers = threads < MAX_WORKERS ? threads : MAX_WORKERS;
        FCT_TRY(fct_new(&t->worker, n_workers, sizeof *t->worker));
        t->n_workers = n_workers;
        for (int i = 0; i < t->n_workers; i++) t->worker[i].t = t;
    }
    shared s = {t, job, self};
    return fct_share(&(fct_share_desc){
        .n = n, .workers = t->n_workers, .job = do_job, .self = &s, .log = t->log, .what = what});
}

void fct_truth_workers_close(fct_truth *t)
{
    for (int i = 0; i < t->n_workers; i++) {
        fct_truth_worker *w = &t->worker[i];
        fct_sae_set_clear(&w->saes);
        fct_sae_set_clear(&w->controls);
        fct_checker_free(w->checker);
        fct_session_close(w->session);
        fct_model_close(w->model);
    }
    fct_free(t->worker);
}

int64_t fct_truth_count_runs(const fct_truth *t)
{
    int64_t n = 0;
    for (int i = 0; i < t->n_workers; i++) n += t->worker[i].runs;
    return n;
}

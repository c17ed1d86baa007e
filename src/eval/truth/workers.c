/* workers.c - shares the truth protocol's pictures among threads, one picture each at a time.

   A picture of the demo model is too small to be shared well by threads, and there are two thousand
   of them: each worker runs a session of its own on one thread, and all share one model, its SAEs
   and the checker. So pictures are the same however many workers there are. */
#include "eval/truth/truth.h"

enum { MAX_WORKERS = 32 };

/* The pictures of one pair follow one another: what they share is one run's moments and texts. */
static const int64_t KEEP_BYTES = 16 << 20;

static fct_status open_worker(fct_truth_worker *w)
{
    fct_session_desc desc = {.threads = 1, .keep_bytes = KEEP_BYTES};
    if (!w->session) FCT_TRY(fct_session_open(&w->session, w->t->model, &desc));
    return w->reader ? FCT_OK : fct_reader_open(&w->reader, w->t->checker);
}

typedef struct shared {
    fct_truth *t;
    fct_truth_job job;
    void *self;
} shared;

static fct_status do_job(void *self, int worker, int64_t i)
{
    const shared *s = self;
    fct_truth_worker *w = &s->t->worker[worker];
    FCT_TRY(fct_log_check_stop(s->t->log));
    FCT_TRY(open_worker(w));
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
        fct_reader_close(t->worker[i].reader);
        fct_session_close(t->worker[i].session);
    }
    fct_free(t->worker);
}

int64_t fct_truth_count_runs(const fct_truth *t)
{
    int64_t n = 0;
    for (int i = 0; i < t->n_workers; i++) n += t->worker[i].runs;
    return n;
}

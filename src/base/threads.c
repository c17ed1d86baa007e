/* threads.c - what facet asks OpenMP, with answers for builds that have none (clang, whose own
   runtime would be a second one beside oneDNN's, and thread-sanitizer builds). */
#include "base/base.h"

#include <stdio.h>

#ifdef _OPENMP
#include <omp.h>

int fct_threads(void)
{
    return omp_get_max_threads();
}
int fct_thread_index(void)
{
    return omp_get_thread_num();
}
void fct_threads_set(int n)
{
    omp_set_num_threads(n > 0 ? n : omp_get_num_procs());
}

#else

int fct_threads(void)
{
    return 1;
}
int fct_thread_index(void)
{
    return 0;
}
void fct_threads_set(int n)
{
    (void)n;
}

#endif

/* ---- independent jobs ---- */

enum { TEXT_SIZE = 4096 };

typedef struct outcome {
    fct_status st;
    int64_t at; /* the first job, by number, of those that failed */
    char text[TEXT_SIZE];
} outcome;

static void keep_failure(outcome *o, fct_status st, int64_t at)
{
    if (o->st != FCT_OK && o->at < at) return;
    o->st = st;
    o->at = at;
    snprintf(o->text, sizeof o->text, "%s", fct_error_text());
}

fct_status fct_share(const fct_share_desc *d)
{
    outcome first = {0};
    int64_t done = 0;
    bool failed = false;
#pragma omp parallel num_threads(d->hands)
    {
        int hand = fct_thread_index();
        fct_threads_set(1);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < d->n; i++) {
            bool skip;
            int64_t so_far;
#pragma omp atomic read
            skip = failed;
            if (skip) continue;
#pragma omp atomic read
            so_far = done;
            if (hand == 0) fct_log_progress(d->log, d->what, so_far, d->n);
            fct_status st = d->job(d->self, hand, i);
#pragma omp atomic update
            done++;
            if (st == FCT_OK) continue;
#pragma omp atomic write
            failed = true;
#pragma omp critical(fct_share_failure)
            keep_failure(&first, st, i);
        }
    }
    if (first.st != FCT_OK) return fct_fail(first.st, "%s", first.text);
    fct_log_progress(d->log, d->what, d->n, d->n);
    return FCT_OK;
}

/* threads.c - asks OpenMP for threads and collects the failures of parallel jobs, with answers for
   builds that have no OpenMP (clang, whose own runtime would be a second one beside oneDNN's, and
   thread-sanitizer builds). */
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

/* ---- failures ---- */

void fct_failure_keep(fct_failure *f, fct_status st, int64_t job)
{
#pragma omp critical(fct_failure)
    if (f->st == FCT_OK || job < f->number - 1) {
        f->st = st;
        snprintf(f->text, sizeof f->text, "%s", fct_error_text());
#pragma omp atomic write
        f->number = job + 1;
    }
}

fct_status fct_failure_status(const fct_failure *f)
{
    return f->st == FCT_OK ? FCT_OK : fct_fail(f->st, "%s", f->text);
}

/* ---- independent jobs ---- */

fct_status fct_share(const fct_share_desc *d)
{
    fct_failure failure = {0};
    int64_t done = 0;
#pragma omp parallel num_threads(d->workers)
    {
        int worker = fct_thread_index();
        fct_threads_set(1);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < d->n; i++) {
            int64_t failed, so_far;
#pragma omp atomic read
            failed = failure.number;
            if (failed > 0 && i >= failed)
                continue; /* those before it run, so that the first one of all is told */
#pragma omp atomic read
            so_far = done;
            if (worker == 0) fct_log_progress(d->log, d->what, so_far, d->n);
            fct_status st = d->job(d->self, worker, i);
            if (st != FCT_OK) fct_failure_keep(&failure, st, i);
#pragma omp atomic update
            done++;
        }
    }
    FCT_TRY(fct_failure_status(&failure));
    fct_log_progress(d->log, d->what, d->n, d->n);
    return FCT_OK;
}

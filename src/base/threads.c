/* threads.c - what facet asks OpenMP, with answers for builds that have none (clang, whose own
   runtime would be a second one beside oneDNN's, and thread-sanitizer builds). */
#include "base/base.h"

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

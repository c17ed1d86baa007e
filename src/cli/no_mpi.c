/* no_mpi.c - stands in for MPI where facet is built without it: the program runs in one process. */
#include "base/base.h"
#include "cli/link.h"

const char *fct_cli_link_library(void)
{
    return NULL;
}

fct_status fct_cli_link_open(fct_link *out, const volatile int *stop)
{
    (void)stop;
    return fct_link_alone(out);
}

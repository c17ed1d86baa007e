/* no_mpi.c - connects nothing: the program was built without MPI and runs in one process. */
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

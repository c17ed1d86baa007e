/* link.h - connects the ranks of the program: mpi.c where it is built with MPI, else no_mpi.c. */
#ifndef FCT_CLI_LINK_H
#define FCT_CLI_LINK_H

#include "facet/dist.h"

/* One process, unless a launcher started several; MPI is touched only then. A program that was
   started so but cannot join the others (built without MPI, srun without PMI) fails: it would do
   the whole job once a rank. stop: as in fct_log; ends a wait that other ranks do not answer. */
fct_status fct_cli_link_open(fct_link *out, const volatile int *stop) FCT_MUST_CHECK;
const char *fct_cli_link_library(void); /* "Open MPI v4.1.4"; NULL: built without */

#endif

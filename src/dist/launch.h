/* launch.h - what the environment says of the launcher, before MPI is touched. */
#ifndef FCT_DIST_LAUNCH_H
#define FCT_DIST_LAUNCH_H

#include "dist/dist.h"

typedef struct fct_launch {
    int64_t ranks;  /* 1: no launcher, or one rank */
    const char *by; /* "mpirun", "srun" */
} fct_launch;
/* Fails where srun started several tasks that cannot find each other. */
fct_status fct_launch_find(fct_launch *out) FCT_MUST_CHECK;

#endif

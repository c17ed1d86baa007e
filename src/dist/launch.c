/* launch.c - tells whether a launcher started this process as one of several, from variables that
   launchers set. Plain runs see none of them and never load anything of MPI. */
#include <inttypes.h>
#include <stdlib.h>

#include "dist/dist.h"

/* Its whole positive number; 0: it is not set, or no number. */
static int64_t number(const char *name)
{
    const char *text = getenv(name);
    int64_t n;
    return text && fct_parse_i64(&n, text, 1, INT32_MAX) == FCT_OK ? n : 0;
}

fct_status fct_launch_find(fct_launch *out)
{
    int64_t mpirun = number("OMPI_COMM_WORLD_SIZE"), pmi = number("PMI_SIZE"),
            tasks = getenv("SLURM_STEP_ID") ? number("SLURM_STEP_NUM_TASKS") : 0;
    *out = (fct_launch){.ranks = 1, .by = "mpirun"};
    if (mpirun > 0 || pmi > 0) {
        out->ranks = mpirun > 0 ? mpirun : pmi;
        return FCT_OK;
    }
    if (tasks <= 1) return FCT_OK;
    out->by = "srun";
    out->ranks = tasks;
    if (getenv("PMIX_RANK") || getenv("PMI_RANK")) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "srun started %" PRId64 " tasks that cannot find each other: use srun "
                    "--mpi=pmix, or mpirun within the allocation",
                    tasks);
}

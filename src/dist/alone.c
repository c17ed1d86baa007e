/* alone.c - gives a process that runs alone its link, on which nothing is sent. A program that a
   launcher started several times refuses, since each copy would do the whole job and write to the
   same places. */
#include <inttypes.h>

#include "dist/dist.h"

fct_status fct_link_alone(fct_link *out)
{
    fct_launch l;
    *out = (fct_link){.size = 1, .on_host = 1};
    FCT_TRY(fct_launch_find(&l));
    if (l.ranks <= 1) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "%s started %" PRId64 " ranks, but this program has no link between them: "
                    "build it where MPI is (Debian: libopenmpi-dev), or start one process",
                    l.by, l.ranks);
}

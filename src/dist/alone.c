/* alone.c - the link of builds without MPI: there is none. A program that a launcher started
   several times refuses, since each copy would do the whole job and write to the same places. */
#include <inttypes.h>

#include "dist/launch.h"

const char *fct_dist_library(void)
{
    return NULL;
}

fct_status fct_link_open(fct_dist *d)
{
    fct_launch l;
    (void)d;
    FCT_TRY(fct_launch_find(&l));
    if (l.ranks <= 1) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "%s started %" PRId64 " ranks, but this facet was built without MPI: build it "
                    "where MPI is (Debian: libopenmpi-dev), or start one process",
                    l.by, l.ranks);
}

void fct_link_close(fct_dist *d)
{
    (void)d;
}

fct_status fct_link_exchange(fct_dist *d, const fct_dist_piece *send, const fct_dist_piece *recv)
{
    (void)d;
    (void)send;
    (void)recv;
    return fct_fail(FCT_ERR_INTERNAL, "this facet was built without MPI");
}

fct_status fct_link_last_word(fct_dist *d, fct_status st, const void *mine, int64_t bytes,
                              void *all)
{
    (void)d;
    (void)mine;
    (void)bytes;
    (void)all;
    return st;
}

/* dist.h - declares how ranks that do one job together sum, gather and send.

       FCT_TRY(fct_dist_sum_f32(ranks, gradient, n));    the same on every rank afterwards

   Every function is called by all ranks in the same order, from the thread that opened; each
   returns when this rank has what it came for. Alone (NULL or size 1) they do nothing and cannot
   fail. Sums are added in the order of the ranks, so a number of ranks always gives the same
   bytes. */
#ifndef FCT_DIST_DIST_H
#define FCT_DIST_DIST_H

#include "base/base.h"
#include "facet/dist.h"

struct fct_dist {
    int64_t rank, size, on_host;
    fct_link link;
    fct_link_word *word; /* [size]: the others' last words; NULL: alone */
    fct_link_word mine;
    void *scratch; /* [scratch_bytes] */
    int64_t scratch_bytes;
    bool agreed;     /* the last failure is known to every rank */
    bool broken;     /* a rank is lost or does not answer: nothing more can be agreed upon */
    int64_t speaker; /* the rank that says how the job ended */
};

/* This rank's part of n things in order: [*first, *first + the result). */
int64_t fct_dist_part(const fct_dist *d, int64_t n, int64_t *first);

/* x [n]: summed, or the largest, over the ranks. */
fct_status fct_dist_sum_f32(fct_dist *d, float *x, int64_t n) FCT_MUST_CHECK;
fct_status fct_dist_sum_f64(fct_dist *d, double *x, int64_t n) FCT_MUST_CHECK;
fct_status fct_dist_max_f32(fct_dist *d, float *x, int64_t n) FCT_MUST_CHECK;
fct_status fct_dist_max_u8(fct_dist *d, uint8_t *x, int64_t n) FCT_MUST_CHECK;
/* Those of rank root, everywhere. */
fct_status fct_dist_broadcast_from(fct_dist *d, int64_t root, void *x,
                                   int64_t bytes) FCT_MUST_CHECK;
/* all [size * bytes]: every rank's, in order. Alone: a copy. */
fct_status fct_dist_gather(fct_dist *d, const void *mine, int64_t bytes, void *all) FCT_MUST_CHECK;
/* After this call every rank has made it. */
fct_status fct_dist_barrier(fct_dist *d) FCT_MUST_CHECK;

#endif

/* dist.h - the inward header of dist/: several processes (ranks) that do one job together.

   Do this:
       fct_dist d;
       FCT_TRY(fct_dist_open(&d, &stop));            one rank, unless mpirun or srun started more
       FCT_TRY(fct_dist_sum_f32(&d, gradient, n));   the same on every rank afterwards
       st = fct_dist_finish(&d, st);                 all ranks end alike
       if (fct_dist_speaks(&d)) ...;                 one of them says how
       fct_dist_close(&d);

   Every function is called by all ranks in the same order, from the thread that opened; each
   returns when this rank has what it came for. Alone (d NULL or size 1) they do nothing and cannot
   fail. Sums are added in the order of the ranks, so a number of ranks always gives the same bytes.
   A rank that ends while others wait for it is noticed within a second: they fail with a sentence
   that names it. */
#ifndef FCT_DIST_DIST_H
#define FCT_DIST_DIST_H

#include "base/base.h"

typedef struct fct_dist_link fct_dist_link; /* what connects the ranks: mpi.c or alone.c */

typedef struct fct_dist { /* zero-initialised: alone */
    int64_t rank, size;   /* size 0 and 1: alone */
    int64_t on_host;      /* ranks on this machine */
    fct_dist_link *link;  /* NULL: alone */
    void *scratch;        /* [scratch_bytes] */
    int64_t scratch_bytes;
    bool agreed;     /* the last failure is known to every rank */
    bool broken;     /* a rank is lost or does not answer: nothing more can be agreed upon */
    int64_t speaker; /* the rank that says how the job ended */
    const volatile int *stop; /* as in fct_log; may be NULL */
} fct_dist;

/* MPI is only touched when the environment says that a launcher started several ranks. A program
   that was started so but cannot join the others (built without MPI, srun without PMI) fails: it
   would do the whole job once a rank. */
fct_status fct_dist_open(fct_dist *out, const volatile int *stop) FCT_MUST_CHECK;
/* Ends the whole job when the ranks are not together any more. */
void fct_dist_close(fct_dist *d);
const char *fct_dist_library(void); /* "Open MPI 4.1.4"; NULL: built without */

static inline bool fct_dist_alone(const fct_dist *d)
{
    return !d || d->size <= 1;
}
static inline int64_t fct_dist_size(const fct_dist *d)
{
    return fct_dist_alone(d) ? 1 : d->size;
}
static inline int64_t fct_dist_rank(const fct_dist *d)
{
    return fct_dist_alone(d) ? 0 : d->rank;
}
/* The rank that writes files. */
static inline bool fct_dist_first(const fct_dist *d)
{
    return fct_dist_rank(d) == 0;
}
/* This rank's part of n things in order: [*first, *first + the result). */
int64_t fct_dist_part(const fct_dist *d, int64_t n, int64_t *first);

/* ---- collectives ---- */
fct_status fct_dist_sum_f32(fct_dist *d, float *x, int64_t n) FCT_MUST_CHECK;
fct_status fct_dist_sum_f64(fct_dist *d, double *x, int64_t n) FCT_MUST_CHECK;
fct_status fct_dist_max_f32(fct_dist *d, float *x, int64_t n) FCT_MUST_CHECK;
fct_status fct_dist_max_u8(fct_dist *d, uint8_t *x, int64_t n) FCT_MUST_CHECK;
/* The first rank's bytes, everywhere. */
fct_status fct_dist_broadcast(fct_dist *d, void *x, int64_t bytes) FCT_MUST_CHECK;
/* Those of rank root. */
fct_status fct_dist_broadcast_from(fct_dist *d, int64_t root, void *x,
                                   int64_t bytes) FCT_MUST_CHECK;
/* all [size * bytes]: every rank's, in order. Alone: a copy. */
fct_status fct_dist_gather(fct_dist *d, const void *mine, int64_t bytes, void *all) FCT_MUST_CHECK;
/* After this call every rank has made it. */
fct_status fct_dist_barrier(fct_dist *d) FCT_MUST_CHECK;

/* ---- failures ---- */
/* Every rank's status for all, unless it is a failure that all know already: the first failure (a
   stop only when there is no other), with its text and, unless it is the first rank's, the rank in
   front. */
fct_status fct_dist_agree(fct_dist *d, fct_status st) FCT_MUST_CHECK;
/* What was agreed upon is dealt with: the ranks go on together. */
static inline void fct_dist_go_on(fct_dist *d)
{
    if (d) d->agreed = false;
}
/* How this rank's work ended, for all others, once, whether or not they wait for it elsewhere. */
fct_status fct_dist_finish(fct_dist *d, fct_status st);
bool fct_dist_speaks(const fct_dist *d); /* whether this rank reports the end */

/* ---- the link, for dist.c ---- */
typedef struct fct_dist_piece {
    void *data;
    int64_t bytes;
} fct_dist_piece;
fct_status fct_link_open(fct_dist *d) FCT_MUST_CHECK;
void fct_link_close(fct_dist *d);
/* send[r] goes to rank r, recv[r] comes from it; both [size], sizes agree, at most 1 GiB each. */
fct_status fct_link_exchange(fct_dist *d, const fct_dist_piece *send,
                             const fct_dist_piece *recv) FCT_MUST_CHECK;
/* The same message to all others, out of turn, and theirs in all [size * bytes]. Ranks that fail
   before (st is not FCT_OK) do not wait for long. */
fct_status fct_link_last_word(fct_dist *d, fct_status st, const void *mine, int64_t bytes,
                              void *all) FCT_MUST_CHECK;

typedef struct fct_dist_word { /* a rank's last word */
    int32_t status;
    char text[1020];
} fct_dist_word;
/* The failure that a rank's word tells; FCT_OK: none. */
fct_status fct_dist_heard(fct_dist *d, int64_t rank, const fct_dist_word *word);

#endif

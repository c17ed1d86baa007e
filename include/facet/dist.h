/* facet/dist.h - lets several processes (ranks) do one job together: share a training's batches, a
   capture's shards, the rows of a measurement.

   Do this:
       fct_link link;
       fct_dist *ranks = NULL;
       fct_status st = fct_link_alone(&link);
       if (st == FCT_OK) st = fct_dist_open(&ranks, &link);
       if (st == FCT_OK) st = fct_dist_agree(ranks, FCT_OK);
       st = fct_dist_finish(ranks, st);
       if (fct_dist_speaks(ranks)) puts(st == FCT_OK ? "done" : fct_error_text());
       fct_dist_close(ranks);

   facet's library knows no network. What carries bytes between the ranks is a link, a struct with
   functions that the program fills in: over MPI as the program facet does, over sockets, pipes or
   shared memory. Each process opens its end of the link with its rank, opens an fct_dist on it, and
   hands that to fct_sae_train_many, fct_capture and the others that take `ranks`; NULL there means
   one process. All processes make the same calls in the same order with the same options; which
   part of the work is whose follows from rank and size. An fct_dist is used by the thread that
   opened it.

   Sums are added in the order of the ranks, so a number of ranks always gives the same bytes.

   A link over sockets has one exchange function: write send[r] to the socket of rank r and read
   recv[r] from it, for every r but its own, with poll() or a thread so that two ranks that write to
   each other do not wait for ever. A read that ends early is a lost rank: FCT_ERR_IO.
   tests/api/socket_link.c is such a link between two processes. */
#ifndef FACET_DIST_H
#define FACET_DIST_H

#include "facet/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fct_dist fct_dist;

/* ---- the link, which the program makes ---- */
typedef struct fct_link_piece {
    void *data;
    int64_t bytes; /* at most 64 MiB; 0: nothing goes this way, data may be NULL */
} fct_link_piece;

typedef struct fct_link_word { /* how a rank's work ended */
    int32_t status;            /* an fct_status */
    char text[1020];           /* the sentence, when that is not FCT_OK; with its end */
} fct_link_word;

/* What a function of a link that fails may tell besides its sentence. Comes zeroed. */
typedef struct fct_link_break {
    int64_t speaker;    /* the rank that reports the end: the first one that is still there */
    int64_t from;       /* the rank that ended on its own, when `word` was heard from it */
    fct_link_word word; /* status FCT_OK: none was heard */
} fct_link_break;

typedef struct fct_link {
    void *self;         /* given to the functions */
    int64_t rank, size; /* this process's number from 0, and of how many; size 0 or 1: alone */
    int64_t on_host;    /* how many of them are on this machine and share its cores; 0: unknown */

    /* The one operation that everything is made of. send and recv [size]: send[r] goes to rank r,
       recv[r] is filled from rank r; what r sends has the size that this rank expects; this rank's
       own entries are empty. Called by all ranks in the same order, from the thread that opened.
       Returns when all of recv is there and all of send may change. After a failure, whose sentence
       is fct_error_set's, nothing more is exchanged: the job ends on this rank. */
    fct_status (*exchange)(void *self, const fct_link_piece *send, const fct_link_piece *recv,
                           fct_link_break *why);

    /* May be NULL. Called once, at the end, whether or not the other ranks wait in an exchange:
       gives `mine` to all of them and fills all [size] with theirs. A rank in an exchange that
       hears the word of another answers with the same word and fails with `from` and `word` set.
       failed: this rank ended on its own, and should not wait for long: when the others do not
       answer it fails with FCT_ERR_STOPPED and itself as speaker.
       NULL: ranks that end well tell each other through exchange; one that fails on its own closes
       its end, which the exchange of the others must notice. */
    fct_status (*finish)(void *self, bool failed, const fct_link_word *mine, fct_link_word *all,
                         fct_link_break *why);

    /* May be NULL. Releases self. broken: the ranks are not together any more, nobody answers.
       speaks: this rank is the one that reports the end. */
    void (*close)(void *self, bool broken, bool speaks);
} fct_link;

/* The link of one process. Fails when a launcher (mpirun, srun) started this process as one of
   several, which would all do the whole job and write to the same places. */
FCT_API fct_status fct_link_alone(fct_link *out) FCT_MUST_CHECK;

/* What the environment says of a launcher, for programs that make a link over MPI. */
typedef struct fct_launch {
    int64_t ranks;  /* 1: no launcher, or one rank */
    const char *by; /* "mpirun", "srun" */
} fct_launch;
/* FCT_ERR_UNSUPPORTED where srun started several tasks that cannot find each other. */
FCT_API fct_status fct_launch_find(fct_launch *out) FCT_MUST_CHECK;

/* ---- the ranks ---- */
/* Takes the link over, also when it fails: link->close is called by fct_dist_close. *link is
   copied. link NULL: one process. At most 4096 ranks. */
FCT_API fct_status fct_dist_open(fct_dist **out, const fct_link *link) FCT_MUST_CHECK;
FCT_API void fct_dist_close(fct_dist *d); /* NULL: nothing to do */

/* From here on d may be NULL, as everywhere: one process, rank 0 of 1; nothing can fail. */
FCT_API int64_t fct_dist_rank(const fct_dist *d);
FCT_API int64_t fct_dist_size(const fct_dist *d);
FCT_API int64_t fct_dist_on_host(const fct_dist *d); /* ranks on this machine; at least 1 */
FCT_API bool fct_dist_alone(const fct_dist *d);      /* size 1 */
FCT_API bool fct_dist_first(const fct_dist *d);      /* rank 0: the one that writes files */

/* The first rank's bytes, everywhere. x [bytes]. */
FCT_API fct_status fct_dist_broadcast(fct_dist *d, void *x, int64_t bytes) FCT_MUST_CHECK;
/* Every rank's status for all: the first failure (a stop only when there is no other), with its
   text and, unless it is the first rank's, the rank in front. A failure that all know already is
   returned as it is. */
FCT_API fct_status fct_dist_agree(fct_dist *d, fct_status st) FCT_MUST_CHECK;
/* What was agreed upon is dealt with: the ranks go on together. */
FCT_API void fct_dist_go_on(fct_dist *d);
/* How this rank's work ended, for all others, once, whether or not they wait for it elsewhere;
   what all of them end with. */
FCT_API fct_status fct_dist_finish(fct_dist *d, fct_status st);
FCT_API bool fct_dist_speaks(const fct_dist *d); /* whether this rank reports the end */

#ifdef __cplusplus
}
#endif
#endif

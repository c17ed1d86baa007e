/* stream.h - declares a source of rows that can only be had in whole runs, which take their time:
   what the two kinds of runs (prompts through a model, samples of a tar) tell stream.c, and the
   groups of them in memory (prefetch.c). */
#ifndef FCT_STORE_STREAM_H
#define FCT_STORE_STREAM_H

#include "store/store.h"

enum { FCT_STREAM_PARTS = 64 };

typedef struct fct_run_loader {
    void *self;
    const fct_row_part *part; /* [n_parts], valid until close */
    int64_t n_parts;
    const fct_grid *grid;     /* [n_parts], of parts on different grids; NULL: they have one */
    fct_dtype dtype;          /* in which the rows wait */
    int64_t n_rows, run_rows; /* the last run may have fewer rows */
    const int64_t *run_first; /* [n_runs], instead of run_rows: runs of unequal length */
    int64_t n_runs;
    /* The rows of a run, to place `at` on of every part's shard. Called on the stream's thread, and
       on no other. */
    fct_status (*load)(void *self, int64_t run, fct_shard *shard, int64_t at);
    /* Which rows these are: a new JSON object, to which the stream adds their order. */
    fct_status (*describe)(void *self, json_t **out);
    /* Passes on what load had to say, on the thread that reads; NULL: it says nothing. */
    void (*tell)(void *self);
    void (*close)(void *self);
    const fct_log *log; /* told how far a group is that is waited for; NULL: nobody */
} fct_run_loader;

/* Fills one of two buffers with a group of runs while the other's rows are used. loader and order
   are the caller's and outlive it; the order's run sizes must not change, its pass and group may,
   between calls. */
typedef struct fct_prefetch fct_prefetch;
fct_status fct_prefetch_open(fct_prefetch **out, const fct_run_loader *loader,
                             const fct_order *order, bool overlap) FCT_MUST_CHECK;
/* Waits for the order's current group and asks for the next one. shard: [n_parts]; first: [n_runs],
   where in them each of the group's runs begins; both are valid until the group changes. */
fct_status fct_prefetch_group(fct_prefetch *p, const fct_shard **shard,
                              const int64_t **first) FCT_MUST_CHECK;
void fct_prefetch_close(fct_prefetch *p);

/* Takes the loader over, also when it fails. desc: order, seed, memory_bytes (of each of the two
   buffers) and no_overlap are used. */
fct_status fct_stream_open(fct_row_source *out, const fct_run_loader *loader,
                           const fct_rows_desc *desc) FCT_MUST_CHECK;

#endif

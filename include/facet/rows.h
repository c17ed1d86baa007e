/* facet/rows.h - gives rows one batch after the other to training, statistics and measures,
   wherever the rows come from (a store, memory, a model that runs while they are read).

   Do this:
       static float data[1000 * 16]; // 1000 rows of 16 numbers
       fct_row_source rows = {0};
       const float *x;
       int64_t n = 1, read = 0;
       fct_status st = fct_rows_of_memory(&rows, data, 1000, 16, &(fct_rows_desc){0});
       while (st == FCT_OK && n > 0) {
           st = rows.next(rows.self, 256, &x, &n); // x [n,16]
           if (st == FCT_OK) read += n;
       }
       if (rows.close) rows.close(rows.self);
       printf("%lld rows\n", (long long)read);

   A row is one delta vector, one spatial position: D numbers of f32. Sources are made by
   fct_rows_of_memory, by fct_store_rows and fct_model_rows (facet/store.h), or by a program that
   fills the table itself. A source is used by one thread at a time. */
#ifndef FACET_ROWS_H
#define FACET_ROWS_H

#include "facet/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One block's rows within those of a source. */
typedef struct fct_row_part {
    const char *name; /* "down.2.1"; valid until close */
    int64_t d;
} fct_row_part;

/* Whoever fills the table gives d, total, next and close; the rest may be NULL or 0, where it says
   so, at the price of what it is for. Every function but close may fail and says why
   (fct_error_set). */
typedef struct fct_row_source {
    void *self;
    int64_t d;     /* numbers of a row */
    int64_t total; /* rows in one pass; -1: unknown */

    /* Up to `want` rows, f32 [*n,D], valid until the following call. *n 0: the pass has ended. */
    fct_status (*next)(void *self, int64_t want, const float **rows, int64_t *n);

    /* A small text of bytes that counts rows *consumed*, and the way back to that place within the
       same pass. Without the two no checkpoint of a training is possible. */
    fct_status (*tell)(void *self, uint8_t blob[64]);
    fct_status (*seek)(void *self, const uint8_t blob[64]);

    /* Passes over up to `want` rows as if next had given them, at less cost.
       NULL: they are read. */
    fct_status (*skip)(void *self, int64_t want, int64_t *n);

    /* Starts pass number `pass` (0, 1, ...) in that pass's own order. NULL: there is one pass. */
    fct_status (*rewind)(void *self, int64_t pass);

    /* The text of a JSON object that says which rows these are and in which order: equal for equal
       rows, valid until close. A checkpoint of others is refused. NULL: not known. */
    fct_status (*describe)(void *self, const char **json);

    void (*close)(void *self);

    /* Several blocks in step: row i of every part is of the same prompt, step and place. d is the
       sum of the parts' widths and next gives the parts side by side, [n,D], in this order.
       next_parts gives each as a matrix of its own: rows[p] is [n, part[p].d]; both read on from
       the same place. n_parts 1: one block; 0 and NULL: the source does not say. */
    const fct_row_part *part;
    int64_t n_parts;
    fct_status (*next_parts)(void *self, int64_t want, const float **rows, int64_t *n);
} fct_row_source;

/* ---- in which order ---- */

/* Shuffled: every row once a pass, each pass in an order of its own that depends on seed and pass
   alone. When the rows fit into the mixing buffer the order is a uniform permutation of all; else
   runs of 64 rows are drawn at random from the whole store into the buffer, whose rows are given
   out in a uniformly random order: a batch mixes rows from as many places as the buffer holds.
   Shards are mapped, read ahead of need and let go of behind it, never loaded whole. A row that
   holds NaN or infinity is FCT_ERR_RANGE and is named. */
typedef enum fct_row_order { FCT_ORDER_SEQUENTIAL, FCT_ORDER_SHUFFLED } fct_row_order;
typedef struct fct_rows_desc {
    /* Of a store. NULL: the only one. "down.2.1,up.0.1": several in step, rows of the same prompts,
       steps and branches. On different grids, rows are the finest's cells, and a coarser block's
       row comes with each of the fine cells in it. */
    const char *block;
    fct_row_order order;
    uint64_t seed;
    int64_t first, n;     /* a part of the rows (to hold some out); n 0: all from `first` on */
    int64_t memory_bytes; /* of the mixing buffer; 0: 256 MiB. The order follows from it */
    bool no_overlap;      /* of a model's rows: made when they are wanted, not on a thread ahead */
} fct_rows_desc;
/* A source over rows in memory, f32 [n,d], which stay the caller's and must outlive it. desc NULL:
   all rows in their order; desc->block is not used. */
FCT_API fct_status fct_rows_of_memory(fct_row_source *out, const float *rows, int64_t n, int64_t d,
                                      const fct_rows_desc *desc) FCT_MUST_CHECK;

/* ---- parts ---- */

/* Makes part number `part` of a source with several a source of its own, which is valid while joint
   is, and moves it. Closed by the caller, before joint. FCT_ERR_ARG when joint has more parts than
   a crosscoder may have. */
FCT_API fct_status fct_row_source_part(fct_row_source *out, fct_row_source *joint,
                                       int64_t part) FCT_MUST_CHECK;
/* A source for each part of one that fct_model_rows made, out[joint->n_parts], all of one grid:
   those that are read in step share what is made. Takes joint over when it succeeds; all must be
   closed. */
FCT_API fct_status fct_rows_split(fct_row_source *out, fct_row_source *joint) FCT_MUST_CHECK;
/* Moves any source to its first row, with 0 in out_rows; one whose rows must be made to the first
   of those that are still in memory, with their number. For measuring on rows of the training. */
FCT_API fct_status fct_rows_stay(fct_row_source *source, int64_t *out_rows) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

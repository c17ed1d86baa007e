/* facet/rows.h - a source of rows: what training, statistics and measures read, wherever the rows
   come from (a store, memory, a model that runs while they are read).

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
   fct_store_rows, fct_model_rows and fct_rows_of_memory (facet/store.h), or by a program of its
   own that fills this table. A source is used by one thread at a time. */
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
   so, at the price of what it is for. Every function but close may fail and says why. */
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

    /* Passes over up to `want` rows as if next had given them, at less cost. NULL: they are read.
     */
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

/* Makes part number `part` of a source with several a source of its own, which is valid while joint
   is, and moves it. Closed by the caller, before joint. FCT_ERR_ARG when joint has more parts than
   a crosscoder may have. */
FCT_API fct_status fct_row_source_part(fct_row_source *out, fct_row_source *joint,
                                       int64_t part) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

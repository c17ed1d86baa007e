/* train.h - declares the training loop's state, batches, logs, results and checkpoints. One SAE in
   training is trainee.h, resolved options plan.h. */
#ifndef FCT_TRAIN_TRAIN_H
#define FCT_TRAIN_TRAIN_H

#include "train/trainee.h"

/* out [d]: where the decoder's bias starts (median.c). */
fct_status fct_sae_geometric_median(float *out, const float *rows, int64_t n,
                                    int64_t d) FCT_MUST_CHECK;

/* Where a stream's source stands. */
typedef struct fct_train_place {
    int64_t pass;
    uint8_t blob[64];
    const char *data; /* what its rows are: its own description; NULL: not known */
} fct_train_place;

/* ---- batches (batch.c) ---- */

typedef struct fct_batch_desc {
    fct_row_source *source;
    fct_train_place *place; /* its pass is counted on */
    int64_t blocks;         /* mixed ones; 1: the source's rows as they are */
    int64_t want;           /* rows, a multiple of blocks */
    bool wrap;              /* at the end of a pass go on with the next; else *out_n may be less */
} fct_batch_desc;
/* out [want,d], d: of a block where they are mixed; NULL: the rows are passed over. */
fct_status fct_batch_read(float *out, int64_t *out_n, const fct_batch_desc *desc) FCT_MUST_CHECK;

/* All that the next batch depends on. */
typedef struct fct_train_state {
    fct_trainee *trainee; /* [n] */
    int64_t n;
    fct_train_place *place; /* [n_places]: one a stream */
    int64_t n_places;
    int64_t step; /* batches done; a trainee whose own steps are done stays behind */
} fct_train_state;

/* ---- TensorBoard's event files (tfevents.c) ---- */

typedef struct fct_tfevents {
    char *path; /* NULL: not open */
    int fd;
    fct_crc32c crc;
} fct_tfevents;
typedef struct fct_tfevents_scalar {
    const char *tag;
    double value;
} fct_tfevents_scalar;
/* A new file in the folder; what other files there hold of later steps than after_step is void. */
fct_status fct_tfevents_open(fct_tfevents *t, const char *dir, int64_t after_step) FCT_MUST_CHECK;
fct_status fct_tfevents_write(fct_tfevents *t, int64_t step, const fct_tfevents_scalar *scalar,
                              int64_t n) FCT_MUST_CHECK;
void fct_tfevents_close(fct_tfevents *t);

/* ---- the logs of a run (metrics.c) ---- */

/* Zero-initialised is empty. */
typedef struct fct_metrics_log {
    const fct_train_desc *desc;
    fct_row_source *held_out; /* one a stream; NULL: none */
    int log_fd;               /* used when open */
    bool open;
    fct_tfevents *board; /* [n_board]: one a trainee */
    int64_t n_board;
    double started, logged_at; /* seconds */
    int64_t first_step, logged_step;
} fct_metrics_log;
/* Drops what the log holds of steps after s->step: they come again. */
fct_status fct_metrics_log_open(fct_metrics_log *c, const fct_train_desc *desc,
                                fct_row_source *held_out, const fct_train_state *s) FCT_MUST_CHECK;
/* After a logged step of all trainees: adds to their metrics, writes the logs, warns. */
fct_status fct_metrics_log_note(fct_metrics_log *c, fct_train_state *s) FCT_MUST_CHECK;
/* After every step: the line of progress. */
void fct_metrics_log_show(const fct_metrics_log *c, const fct_train_state *s, int64_t all_steps);
void fct_metrics_log_close(fct_metrics_log *c);

/* ---- the result (result.c) ---- */

/* data: what the rows are, NULL: nothing is known. The trainee's metrics go over to the member. */
fct_status fct_train_finish(fct_train_member *m, fct_trainee *t, const char *data, double seconds,
                            const fct_log *log) FCT_MUST_CHECK;
/* Nothing came of it so far; releases nothing. */
void fct_train_member_forget(fct_train_member *m);

/* ---- SAEs divided among ranks (members.c): SAE i is trained by rank i mod N alone ---- */

bool fct_members_mine(const fct_dist *ranks, int64_t i);
/* After a batch, on every rank: steps, losses, which SAEs were given up. */
fct_status fct_members_share_numbers(fct_dist *ranks, fct_train_state *s) FCT_MUST_CHECK;
/* All that a step changes and the numbers leave out: weights, moments, averages, silence. */
fct_status fct_members_share_weights(fct_dist *ranks, fct_train_state *s) FCT_MUST_CHECK;

/* ---- checkpoints: a file (checkpoint.c), the run it is of (fingerprint.c), a folder (rotate.c)
   ---- */

fct_status fct_checkpoint_write(const char *path, const fct_train_state *s) FCT_MUST_CHECK;
/* Into initialised trainees, and places whose `data` is set. FCT_ERR_FORMAT: it is damaged. Refuses
   one of other options, rows or arithmetic with FCT_ERR_ARG, naming the first that differs. */
fct_status fct_checkpoint_read(const char *path, fct_train_state *s,
                               const fct_log *log) FCT_MUST_CHECK;

/* Texts, owned: equal for runs that may continue each other. */
typedef struct fct_train_fingerprint {
    char *options, *data, *program;
} fct_train_fingerprint;
fct_status fct_train_fingerprint_init(fct_train_fingerprint *out,
                                      const fct_train_state *s) FCT_MUST_CHECK;
void fct_train_fingerprint_clear(fct_train_fingerprint *i);
/* Refuses with the first difference; `path`: of the checkpoint, for the sentence. */
fct_status fct_train_fingerprint_check(const fct_train_fingerprint *now,
                                       const fct_train_fingerprint *then,
                                       const char *path) FCT_MUST_CHECK;

/* Writes the checkpoint of s->step into the folder, then removes those that are too many, by the
   first SAE's plan. */
fct_status fct_checkpoint_save(const char *dir, const fct_train_state *s) FCT_MUST_CHECK;
/* The newest that is whole; damaged ones are told. */
fct_status fct_checkpoint_load(const char *dir, fct_train_state *s,
                               const fct_log *log) FCT_MUST_CHECK;

#endif

/* train.h - the inward header of train/: resolved options, the state of a training, its checkpoints
   and logs. */
#ifndef FCT_TRAIN_TRAIN_H
#define FCT_TRAIN_TRAIN_H

#include "facet/train.h"
#include "sae/sae.h"
#include "train/plan.h"

typedef struct fct_fast fct_fast; /* fast.h */

enum { /* what Adam moves; the last three only in the variants that have them */
       FCT_PARAM_W_ENC,
       FCT_PARAM_B_ENC,
       FCT_PARAM_W_DEC,
       FCT_PARAM_B_DEC,
       FCT_PARAM_THRESHOLD_LN,
       FCT_PARAM_B_MAG,
       FCT_PARAM_R_MAG,
       FCT_PARAM_COUNT
};

typedef struct fct_train_numbers { /* what is said of an SAE after a step; ranks tell each other */
    int64_t step, n_dead;          /* steps done; dead features */
    double loss, mse, aux, l0;     /* of the last step; l0, ev and fvu: of the last one logged */
    double penalty;                /* part of the loss: of variants with a penalty on codes */
    double ev;                     /* mean over dimensions of 1 - var(x-x')/var(x) */
    double fvu;     /* sum (x-x')² / sum (x - mean)²: the share of variance missed */
    double running; /* threshold over a batch, its running mean: batchtopk, matryoshka */
} fct_train_numbers;
typedef struct fct_trainee { /* one SAE being trained; the loop holds a list of them */
    const char *name;        /* of several; NULL: the only one. Not owned */
    int64_t stream;
    char *lost;                 /* why it was given up while others go on; NULL: it was not */
    bool warned;                /* that features die */
    fct_train_metrics *metrics; /* [n_metrics] of room for room_metrics */
    int64_t n_metrics, room_metrics;
    fct_train_plan plan;
    fct_sae *sae;
    float *threshold_ln, *b_mag, *r_mag; /* [F] each, NULL where the variant has none */
    float *grad[FCT_PARAM_COUNT], *m[FCT_PARAM_COUNT], *v[FCT_PARAM_COUNT];
    int64_t *not_fired; /* [F]: steps since the feature was last above 1e-3 */
    int64_t batch;      /* rows of a batch that are here: all, or this rank's part */
    int64_t k;          /* of the step at hand */
    fct_train_numbers now;
    float *row_mean, *row_scale; /* [blocks mixed,D]: rows become (x - row_mean) * row_scale; NULL:
                                    as they are */
    float *average[FCT_PARAM_COUNT]; /* of the weights; NULL: none is kept */
    fct_sae_engine engine;
    fct_fast *fast; /* the fast engine's own; NULL: another engine */
    /* scratch of one step */
    float *z, *g_pre;        /* [B,F], of variants with dense codes */
    float *g_gate, *through; /* [B,F], [F]: gated */
    float *rows;             /* [B,D], normalised */
    float *nested;           /* [groups,B,D]: matryoshka */
    double *per_feature;     /* [2,F] */
    float *pre, *centred, *error, *aux_out, *g_rec, *g_aux, *value, *aux_value, *coef, *aux_coef;
    int32_t *index, *aux_index;
    uint8_t *dead;
    double *sum;
} fct_trainee;
fct_status fct_trainee_init(fct_trainee *t, const fct_train_plan *plan, int64_t d,
                            const fct_sae *init) FCT_MUST_CHECK;
/* Fails unless both can share batches: SAEs of one run. The names are in the sentence. */
fct_status fct_trainee_check_shared(const fct_trainee *t, const fct_trainee *with) FCT_MUST_CHECK;
void fct_trainee_clear(fct_trainee *t); /* the SAE too, unless it was taken (set to NULL) */
/* NULL and 0 where the variant has no such parameter. */
float *fct_trainee_param(const fct_trainee *t, int which, int64_t *out_n);
/* y [n,D] = rows as they are trained on; of mixed blocks n / blocks rows of each, one after the
 * other, here as in every batch. y may be rows. */
void fct_trainee_normalise(const fct_trainee *t, float *y, const float *rows, int64_t n);
/* Bias and, when the plan wants it, the loss scale from these rows; for a start without given
 * weights. */
fct_status fct_trainee_calibrate(fct_trainee *t, const float *rows, int64_t n) FCT_MUST_CHECK;
/* Losses and gradients of one batch; want_ev: fill ev and l0 as well. Updates not_fired. */
fct_status fct_trainee_backward(fct_trainee *t, const float *rows, bool want_ev) FCT_MUST_CHECK;
/* Normalise the decoder, project its gradient, clip, Adam, average: as the plan says. */
fct_status fct_trainee_update(fct_trainee *t) FCT_MUST_CHECK;
/* A parameter as it is saved: its average, where one is kept. */
const float *fct_trainee_result(const fct_trainee *t, int which, int64_t *out_n);
/* What training has made so far as an SAE that takes rows as they are: of the first block, or of
 * one of those that are mixed. */
fct_status fct_trainee_export(const fct_trainee *t, fct_sae **out) FCT_MUST_CHECK;
fct_status fct_trainee_export_block(const fct_trainee *t, int64_t block,
                                    fct_sae **out) FCT_MUST_CHECK;
void fct_sae_normalise_decoder(fct_sae *s); /* rows of unit length; zero rows stay */

fct_status fct_sae_geometric_median(float *out, const float *rows, int64_t n,
                                    int64_t d) FCT_MUST_CHECK;

typedef struct fct_train_place { /* where a stream's source stands */
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

typedef struct fct_train_state { /* all that the next batch depends on */
    fct_trainee *trainee;        /* [n] */
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
typedef struct fct_metrics_log { /* zero-initialised is empty */
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
 * one of other options, rows or arithmetic with FCT_ERR_ARG, naming the first that differs. */
fct_status fct_checkpoint_read(const char *path, fct_train_state *s,
                               const fct_log *log) FCT_MUST_CHECK;

typedef struct
    fct_train_fingerprint { /* texts, owned: equal for runs that may continue each other */
    char *options, *data, *program;
} fct_train_fingerprint;
fct_status fct_train_fingerprint_init(fct_train_fingerprint *out,
                                      const fct_train_state *s) FCT_MUST_CHECK;
void fct_train_fingerprint_clear(fct_train_fingerprint *i);
/* Refuses with the first difference; `path`: of the checkpoint, for the sentence. */
fct_status fct_train_fingerprint_check(const fct_train_fingerprint *now,
                                       const fct_train_fingerprint *then,
                                       const char *path) FCT_MUST_CHECK;

/* Writes the checkpoint of s->step into the folder, then removes those that are too many. */
fct_status fct_checkpoint_save(const char *dir, int64_t keep,
                               const fct_train_state *s) FCT_MUST_CHECK;
/* The newest that is whole; damaged ones are told. */
fct_status fct_checkpoint_load(const char *dir, fct_train_state *s,
                               const fct_log *log) FCT_MUST_CHECK;

#endif

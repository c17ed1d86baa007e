/* trainee.h - declares one SAE in training: its parameters, what a step needs and leaves, and what
   comes out. B: rows of a batch; D: numbers of a row; F: features; k: codes a row. */
#ifndef FCT_TRAIN_TRAINEE_H
#define FCT_TRAIN_TRAINEE_H

#include "facet/train.h"
#include "sae/sae.h"
#include "train/plan.h"

typedef struct fct_fast fct_fast; /* fast.h */

/* What Adam moves; the last three only in the variants that have them. */
enum {
    FCT_PARAM_W_ENC,
    FCT_PARAM_B_ENC,
    FCT_PARAM_W_DEC,
    FCT_PARAM_B_DEC,
    FCT_PARAM_THRESHOLD_LN,
    FCT_PARAM_B_MAG,
    FCT_PARAM_R_MAG,
    FCT_PARAM_COUNT
};

/* What is said of an SAE after a step; ranks tell each other, as the struct is.

       ev   mean over dimensions of 1 - var(x-x')/var(x)
       fvu  sum (x-x')² / sum (x - mean)², the share of variance that is missed

   l0, ev and fvu are of the last step that was logged, the losses of the last one. */
typedef struct fct_train_numbers {
    int64_t step, n_dead; /* steps done; dead features */
    double loss, mse, aux, l0;
    double penalty; /* part of the loss: of variants with a penalty on codes */
    double ev, fvu;
    double running; /* batchtopk, matryoshka: running mean of the threshold over a batch */
} fct_train_numbers;

typedef struct fct_trainee {
    const char *name; /* of several; NULL: the only one. Not owned */
    int64_t stream;
    char *lost;                 /* why it was given up while others go on; NULL: it was not */
    bool warned;                /* that features die */
    fct_train_metrics *metrics; /* [n_metrics] of room for room_metrics */
    int64_t n_metrics, room_metrics;

    fct_train_plan plan;
    int64_t batch; /* B here: the rows of a batch that this rank has, all or a part */
    int64_t k;     /* of the step at hand */
    fct_train_numbers now;

    /* Parameters: those of the SAE, and [F] each, NULL where the variant has none. Gradients,
       Adam's moments and the running mean of each; NULL: the parameter, or no mean, is not
       there. */
    fct_sae *sae;
    float *threshold_ln, *b_mag, *r_mag;
    float *grad[FCT_PARAM_COUNT], *m[FCT_PARAM_COUNT], *v[FCT_PARAM_COUNT];
    float *average[FCT_PARAM_COUNT];

    int64_t *not_fired; /* [F]: steps since the feature was last above 1e-3 */
    uint8_t *dead;      /* [F] */

    /* [blocks mixed,D]: rows become (x - row_mean) * row_scale. NULL: as they are. */
    float *row_mean, *row_scale;

    fct_sae_engine engine;
    fct_fast *fast; /* the fast engine's own; NULL: another engine */

    /* ---- scratch of one step: what every engine has ---- */
    float *rows;    /* [B,D], normalised */
    float *centred; /* [B,D]: what the encoder's products are of */
    float *error;   /* [B,D]: x' - x */
    double *sum;    /* [4,D] */

    /* Codes, where they have a fixed number a row: index, value [B,k] and their gradients coef. The
       same of the aux term, by auxk; the fast engine has them for some rows at a time. */
    int32_t *index, *aux_index;
    float *value, *aux_value, *coef, *aux_coef;

    /* ---- the plain engine's ---- */
    float *pre;                     /* [B,F]: pre-activations */
    float *aux_out, *g_rec, *g_aux; /* [B,D]: e', and gradients of x' and of e' */

    /* Of variants whose codes are dense. */
    float *z, *g_pre;    /* [B,F]: codes, and the gradient of pre-activations */
    double *per_feature; /* [2,F] */
    float *g_gate;       /* [B,F]: gated */
    float *g_pre_sum;    /* [F]: gated: the gradient of the encoder's products, over all rows */
    float *nested;       /* [groups,B,D]: matryoshka */
} fct_trainee;

/* ---- the state (trainee.c) ---- */

/* init NULL: weights drawn by the plan's seed. */
fct_status fct_trainee_init(fct_trainee *t, const fct_train_plan *plan, int64_t d,
                            const fct_sae *init) FCT_MUST_CHECK;
void fct_trainee_clear(fct_trainee *t); /* the SAE too, unless it was taken (set to NULL) */
/* Fails unless both can share batches: SAEs of one run. The names are in the sentence. */
fct_status fct_trainee_check_shared(const fct_trainee *t, const fct_trainee *with) FCT_MUST_CHECK;
/* Bias and, when the plan wants it, the loss scale from these rows [n,D]; for a start without given
   weights. */
fct_status fct_trainee_calibrate(fct_trainee *t, const float *rows, int64_t n) FCT_MUST_CHECK;
/* What training has made so far as an SAE that takes rows as they are: of the first block, or of
   one of those that are mixed. */
fct_status fct_trainee_export(const fct_trainee *t, fct_sae **out) FCT_MUST_CHECK;
fct_status fct_trainee_export_block(const fct_trainee *t, int64_t block,
                                    fct_sae **out) FCT_MUST_CHECK;

/* ---- its parameters and rows (params.c) ---- */

/* NULL and 0 where the variant has no such parameter. */
float *fct_trainee_param(const fct_trainee *t, int which, int64_t *out_n);
/* A parameter as it is saved: its average, where one is kept. */
const float *fct_trainee_result(const fct_trainee *t, int which, int64_t *out_n);
/* y [n,D] = rows as they are trained on; of mixed blocks n / blocks rows of each, one after the
   other, here as in every batch. y may be rows. */
void fct_trainee_normalise(const fct_trainee *t, float *y, const float *rows, int64_t n);

/* ---- a step (engine.c) ---- */

/* Losses and gradients of one batch; want_ev: fill ev, fvu and l0 as well. Updates not_fired.
   FCT_ERR_RANGE: the loss is not finite. */
fct_status fct_trainee_backward(fct_trainee *t, const float *rows, bool want_ev) FCT_MUST_CHECK;
/* Normalise the decoder, project its gradient, clip, Adam, average: as the plan says. */
fct_status fct_trainee_update(fct_trainee *t) FCT_MUST_CHECK;

#endif

/* variant.h - the table of autoencoders that can be trained, and the pieces of a step that they
   share. A variant is a file variants/NAME.c: losses and gradients of one batch, and
   what inference needs at the end. Everything around that (batches, calibration, schedules, decoder
   norms, Adam, averages, checkpoints) is the same for all and knows only this table. */
#ifndef FCT_SAE_VARIANT_H
#define FCT_SAE_VARIANT_H

#include "train/train.h"

struct fct_variant {
    const char *name;   /* as SAELens names the architecture */
    const char *codes;  /* which activations are kept, in words */
    bool has_k;         /* k is chosen, the number of active features (on average) */
    bool has_aux;       /* dead features are revived by the aux term unless told otherwise */
    bool idle_aux;      /* a dead feature is never positive, so an aux term has no slope to it */
    bool has_threshold; /* threshold_ln is learned */
    bool has_magnitude; /* b_mag and r_mag are learned */
    bool has_groups;
    bool dense;          /* codes are [B,F]: z and g_pre are there */
    double sparsity;     /* the penalty's usual weight; 0: there is none */
    const char *penalty; /* its name in the log */
    fct_sae_kind kind;   /* of SAEs that it can start from */
    /* Losses and gradients of one batch of rows [B,D] into the trainee; see fct_trainee_backward.
     */
    fct_status (*backward)(fct_trainee *t, const float *rows, bool want_ev);
    /* Makes of `out`, a copy of the weights, what inference takes. NULL: nothing is to do. */
    fct_status (*finish)(const fct_trainee *t, fct_sae *out);
};

extern const fct_variant fct_variant_topk, fct_variant_batchtopk, fct_variant_jumprelu,
    fct_variant_relu, fct_variant_gated, fct_variant_matryoshka;

static const float fct_fired_above = 1e-3f; /* less does not count as a sign of life */

/* By name; NULL: topk. */
fct_status fct_variant_find(const fct_variant **out, const char *name) FCT_MUST_CHECK;

/* ---- pieces of a step (step.c) ---- */
/* Where ranks share a batch, every rank has its part of the rows, [t->batch], and its share of all
   gradients; what is of the whole batch (losses, counts, thresholds) is summed over the ranks. */
double fct_step_numbers(const fct_trainee *t); /* in the rows of the whole batch */
double fct_sum_squares(const float *x, int64_t n);
void fct_scale_to(float *y, const float *x, float by, int64_t n);
void fct_add_columns(double *sum, const float *x, int64_t n, int64_t d);
void fct_subtract(float *y, const float *a, const float *b, int64_t n);
/* After not_fired was set to 0 for the features of this batch: counts the step, finds the dead. */
fct_status fct_step_count_dead(fct_trainee *t) FCT_MUST_CHECK;
/* The auxk strongest dead features of t->pre into aux_index and aux_value, when there are any. */
fct_status fct_step_select_aux(fct_trainee *t) FCT_MUST_CHECK;
/* t->now.aux, and g_aux [B,D] := d(aux term)/de', from t->error = x' - x; true when there is such a
 * term. */
fct_status fct_step_aux_loss(fct_trainee *t, bool *out_active) FCT_MUST_CHECK;
/* t->now.loss from its parts and what a variant adds to them; fails when it is not finite. */
fct_status fct_step_loss(fct_trainee *t, double more) FCT_MUST_CHECK;
/* t->now.ev and t->now.fvu, from t->error, and t->now.l0 from the number of activations here. */
fct_status fct_step_measure(fct_trainee *t, const float *x, int64_t active) FCT_MUST_CHECK;
void fct_step_clear_gradients(fct_trainee *t);
/* Gradients of both weights and b_enc through one set of codes [B,k]; g [B,D] is the gradient of
 * their decode. */
fct_status fct_step_backward_codes(fct_trainee *t, const float *g, const int32_t *index,
                                   const float *value, float *coef, int64_t k) FCT_MUST_CHECK;
/* b_dec's gradient from g_rec (and g_aux), and through the encoder's input from `through` [F], the
 * gradient of the encoder's products summed over rows. */
fct_status fct_step_backward_bias(fct_trainee *t, bool aux, const float *through) FCT_MUST_CHECK;

/* ---- pieces of steps whose codes are dense (dense.c) ---- */
/* t->centred and t->pre of rows x. */
fct_status fct_dense_forward(fct_trainee *t, const float *x) FCT_MUST_CHECK;
/* Which features live, from z [B,F]; then the aux term's candidates, from t->pre. */
fct_status fct_dense_note_fired(fct_trainee *t, const float *z) FCT_MUST_CHECK;
/* out [B,D] = z W_dec + b_dec - x. */
fct_status fct_dense_miss(fct_trainee *t, const float *z, const float *x,
                          float *out) FCT_MUST_CHECK;
/* t->error from t->z, t->now.mse, the aux term; then t->now.loss with `more`, and ev and l0 when
 * wanted. */
fct_status fct_dense_losses(fct_trainee *t, const float *x, double more, bool want_ev,
                            bool *out_aux) FCT_MUST_CHECK;
/* out [B,F] = g W_decT: the gradient of codes whose decode has the gradient g [B,D]. */
fct_status fct_dense_code_gradient(fct_trainee *t, const float *g, float *out) FCT_MUST_CHECK;
/* Adds zT g to W_dec's gradient. */
fct_status fct_dense_decoder_gradient(fct_trainee *t, const float *z,
                                      const float *g) FCT_MUST_CHECK;
/* Adds to W_enc's gradient what comes through g_pre [B,F], and its column sums to `bias` [F]. */
fct_status fct_dense_encoder_gradient(fct_trainee *t, const float *g_pre,
                                      float *bias) FCT_MUST_CHECK;
/* The aux term's own gradients, and b_dec's: the end of every such step. `through` as in
 * fct_step_backward_bias. */
fct_status fct_dense_end(fct_trainee *t, bool aux, float *through) FCT_MUST_CHECK;
/* The L1 penalty of codes z [B,F] that are positive: weight/rows/unit * sum of z times their
   direction's length. Returns its value over the rows here; adds its gradients to g_z [B,F] (where
   z > 0) and to W_dec's. */
double fct_dense_l1(fct_trainee *t, const float *z, float *g_z);

/* ---- selection over a whole batch (variants/batchtopk.c) ---- */
/* z [B,F] = the B*k largest of relu(t->pre), elsewhere 0; ties to the lower place. The running
   threshold takes part of it. */
fct_status fct_batch_select(fct_trainee *t) FCT_MUST_CHECK;
fct_status fct_batch_finish(const fct_trainee *t, fct_sae *out) FCT_MUST_CHECK;

#endif

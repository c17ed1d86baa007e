/* step.h - declares the pieces of a training step that architectures and engines share.

   Where ranks share a batch, every rank has its part of the rows, [t->batch], and its share of all
   gradients; what is of the whole batch (losses, counts, thresholds) is summed over the ranks. */
#ifndef FCT_TRAIN_STEP_H
#define FCT_TRAIN_STEP_H

#include "train/trainee.h"

/* ---- memory (step.c) ---- */

/* Of a step: `at` is the address of a pointer, which is set. */
typedef struct fct_scratch {
    void *at;
    int64_t rows, width, size; /* numbers: rows x width, each of so many bytes */
} fct_scratch;
fct_status fct_scratch_take(const fct_scratch *part, int64_t n) FCT_MUST_CHECK;

/* ---- loops over numbers (step.c); sums in f64 ---- */

double fct_sum_squares(const float *x, int64_t n);
void fct_scale_to(float *y, const float *x, float by, int64_t n);
void fct_add_columns(double *sum, const float *x, int64_t n, int64_t d);
void fct_subtract(float *y, const float *a, const float *b, int64_t n);
/* The decoder's rows of unit length; zero rows stay. */
void fct_sae_normalise_decoder(fct_sae *s);

/* ---- pieces of any step (step.c) ---- */

/* Less does not count as a sign of a feature's life. */
static const float fct_fired_above = 1e-3f;
/* Numbers in the rows of the whole batch. */
double fct_step_numbers(const fct_trainee *t);
/* After not_fired was set to 0 for the features of this batch: counts the step, finds the dead. */
fct_status fct_step_count_dead(fct_trainee *t) FCT_MUST_CHECK;
/* The auxk strongest dead features of t->pre into aux_index and aux_value, when there are any. */
fct_status fct_step_select_aux(fct_trainee *t) FCT_MUST_CHECK;
/* t->now.aux, and g_aux [B,D] := d(aux term)/de', from t->error = x' - x; true when there is such a
   term. */
fct_status fct_step_aux_loss(fct_trainee *t, bool *out_active) FCT_MUST_CHECK;
/* t->now.loss from its parts and what a variant adds to them; fails when it is not finite. */
fct_status fct_step_loss(fct_trainee *t, double variant_loss) FCT_MUST_CHECK;
/* t->now.ev and t->now.fvu, from t->error, and t->now.l0 from the number of activations here. */
fct_status fct_step_measure(fct_trainee *t, const float *x, int64_t active) FCT_MUST_CHECK;
void fct_step_clear_gradients(fct_trainee *t);
/* Gradients of both weights and b_enc through one set of codes [B,k]; g [B,D] is the gradient of
   their decode. */
fct_status fct_step_backward_codes(fct_trainee *t, const float *g, const int32_t *index,
                                   const float *value, float *coef, int64_t k) FCT_MUST_CHECK;
/* b_dec's gradient, which it gets as the decoder's bias and as what the encoder subtracts:

       g_b_dec [D] = sum over rows of g_rec (and g_aux) - sum_f g_pre_sum[f]·W_enc[f,:]

   g_pre_sum [F]: the gradient of the encoder's products, summed over rows. */
fct_status fct_step_backward_bias(fct_trainee *t, bool aux, const float *g_pre_sum) FCT_MUST_CHECK;

/* ---- pieces of steps whose codes are dense (dense.c) ---- */

/* t->centred and t->pre of rows x. */
fct_status fct_dense_forward(fct_trainee *t, const float *x) FCT_MUST_CHECK;
/* Which features live, from z [B,F]; then the aux term's candidates, from t->pre. */
fct_status fct_dense_note_fired(fct_trainee *t, const float *z) FCT_MUST_CHECK;
/* out [B,D] = z W_dec + b_dec - x. */
fct_status fct_dense_error(fct_trainee *t, const float *z, const float *x,
                           float *out) FCT_MUST_CHECK;
/* t->error from t->z, t->now.mse, the aux term; then t->now.loss with variant_loss, and ev and l0
   when wanted. */
fct_status fct_dense_losses(fct_trainee *t, const float *x, double variant_loss, bool want_ev,
                            bool *out_aux) FCT_MUST_CHECK;
/* out [B,F] = g W_decT: the gradient of codes whose decode has the gradient g [B,D]. */
fct_status fct_dense_code_gradient(fct_trainee *t, const float *g, float *out) FCT_MUST_CHECK;
/* Adds zT g to W_dec's gradient. */
fct_status fct_dense_decoder_gradient(fct_trainee *t, const float *z,
                                      const float *g) FCT_MUST_CHECK;
/* Adds to W_enc's gradient what comes through g_pre [B,F], and its column sums to `bias` [F]. */
fct_status fct_dense_encoder_gradient(fct_trainee *t, const float *g_pre,
                                      float *bias) FCT_MUST_CHECK;
/* The aux term's own gradients, and b_dec's: the end of every such step. `g_pre_sum` as in
   fct_step_backward_bias. */
fct_status fct_dense_end(fct_trainee *t, bool aux, float *g_pre_sum) FCT_MUST_CHECK;
/* The L1 penalty of codes z [B,F] that are positive: weight/rows/unit * sum of z times their
   direction's length. Returns its value over the rows here; adds its gradients to g_z [B,F] (where
   z > 0) and to W_dec's. */
double fct_dense_l1(fct_trainee *t, const float *z, float *g_z);

#endif

/* variant.h - the table of autoencoders that can be trained, and the pieces of a step that they
   share. A variant is a file variant_NAME.c (TopK: step.c): losses and gradients of one batch, and
   what inference needs at the end. Everything around that (batches, calibration, schedules, decoder
   norms, Adam, averages, checkpoints) is the same for all and knows only this table. */
#ifndef FCT_SAE_VARIANT_H
#define FCT_SAE_VARIANT_H

#include "sae/sae.h"

struct fct_variant {
    const char *name;  /* as SAELens names the architecture */
    const char *codes; /* which activations are kept, in words */
    bool has_k;        /* k is chosen, the number of active features (on average) */
    /* Losses and gradients of one batch of rows [B,D] into the trainee; see fct_trainee_backward.
     */
    fct_status (*backward)(fct_trainee *t, const float *rows, bool want_ev);
};

extern const fct_variant fct_variant_topk;

static const float fct_fired_above = 1e-3f; /* less does not count as a sign of life */

/* By name; NULL: topk. */
fct_status fct_variant_find(const fct_variant **out, const char *name) FCT_MUST_CHECK;

/* ---- pieces of a step (step.c) ---- */
double fct_sum_squares(const float *x, int64_t n);
void fct_scale_to(float *y, const float *x, float by, int64_t n);
void fct_add_columns(double *sum, const float *x, int64_t n, int64_t d);
/* After not_fired was set to 0 for the features of this batch: counts the step, finds the dead. */
void fct_step_count_dead(fct_trainee *t);
/* The auxk strongest dead features of t->pre into aux_index and aux_value, when there are any. */
fct_status fct_step_select_aux(fct_trainee *t) FCT_MUST_CHECK;
/* t->aux, and g_aux [B,D] := d(aux term)/de', from t->error = x' - x; true when there is such a
 * term. */
fct_status fct_step_aux_loss(fct_trainee *t, bool *out_active) FCT_MUST_CHECK;
/* t->loss from its parts; fails when it is not finite. */
fct_status fct_step_loss(fct_trainee *t) FCT_MUST_CHECK;
/* t->ev and t->fvu, from t->error. */
void fct_step_measure(fct_trainee *t, const float *x);
void fct_step_clear_gradients(fct_trainee *t);
/* Gradients of both weights and b_enc through one set of codes [B,k]; g [B,D] is the gradient of
 * their decode. */
fct_status fct_step_backward_codes(fct_trainee *t, const float *g, const int32_t *index,
                                   const float *value, float *coef, int64_t k) FCT_MUST_CHECK;
/* b_dec's gradient from g_rec (and g_aux), and through the encoder's input from `through` [F], the
 * gradient of the encoder's products summed over rows. */
fct_status fct_step_backward_bias(fct_trainee *t, bool aux, const float *through) FCT_MUST_CHECK;

#endif

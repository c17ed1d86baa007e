/* fast.h - declares what the files of the fast engine share: its scratch, and the aux term
   (fast_aux.c). It computes the mathematics of step.c, to within rounding, in operations that keep
   in cache what they can (compute/backend.h: select, sparse_error, adam). Gradients are never
   whole, so what looks at them (clipping, other variants) takes the plain engine. */
#ifndef FCT_SAE_FAST_H
#define FCT_SAE_FAST_H

#include "train/trainee.h"

struct fct_fast {
    fct_encoder enc;
    bool filled; /* enc is of the weights as they are */
    double *sum; /* [D]: columns' sums of the error x' - x */
    /* [D]: what b_dec's gradient gets through the encoder: sum_f g_bias[f]·w_enc[f,:]. */
    float *bias_via_enc;
    float scale;     /* from errors to the gradient of the reconstruction */
    double aux_bias; /* authors' aux term: from the error's sums to b_dec's gradient; else 0 */
    /* the aux term (fast_aux.c): the m dead features on their own */
    int64_t m, room;               /* now; what there is memory for */
    int32_t *dead_index;           /* [F]: a feature's number among the dead, or -1 */
    int32_t *dead;                 /* [room] which they are */
    float *w_enc, *w_dec, *b_enc;  /* [m,D], [m,D], [m] */
    float *g_enc, *g_dec, *g_bias; /* the same of their gradients */
    float *z, *dz;                 /* [chunk,m] codes and their gradients, where dense */
    float *g_out;                  /* [chunk,D] gradient of the aux decode */
    double *g_sum;                 /* [D] its columns' sums */
    /* where ranks share the batch */
    float *scaled;          /* [B,k] codes times scale */
    int32_t *feature_index; /* [F] every feature's own number */
};

/* The aux term of a batch with dead features, from t->error and what is known of its spread:
   t->now.aux, gradients of the dead features (fast_aux.c). */
fct_status fct_fast_aux(fct_trainee *t, double spread) FCT_MUST_CHECK;
int64_t fct_fast_aux_rows(const fct_trainee *t); /* rows at a time */

#endif

/* variant.h - declares the table of architectures that can be trained. A variant is a file
   variants/NAME.c: losses and gradients of one batch, made of the pieces in step.h, and what
   inference needs at the end. Everything around that (batches, calibration, schedules, decoder
   norms, Adam, averages, checkpoints) is the same for all and knows only this table. */
#ifndef FCT_SAE_VARIANT_H
#define FCT_SAE_VARIANT_H

#include "train/trainee.h"

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

    /* Losses and gradients of one batch of rows [B,D] into the trainee; see
       fct_trainee_backward. */
    fct_status (*backward)(fct_trainee *t, const float *rows, bool want_ev);
    /* Makes of `out`, a copy of the weights, what inference takes. NULL: nothing is to do. */
    fct_status (*finish)(const fct_trainee *t, fct_sae *out);
};

extern const fct_variant fct_variant_topk, fct_variant_batchtopk, fct_variant_jumprelu,
    fct_variant_relu, fct_variant_gated, fct_variant_matryoshka;

/* By name; NULL: topk. */
fct_status fct_variant_find(const fct_variant **out, const char *name) FCT_MUST_CHECK;

#endif

/* batchtopk.h - declares the selection over a whole batch, which BatchTopK (batchtopk.c) and
   Matryoshka have in common. */
#ifndef FCT_TRAIN_VARIANTS_BATCHTOPK_H
#define FCT_TRAIN_VARIANTS_BATCHTOPK_H

#include "train/trainee.h"

/* z [B,F] = the B*k largest of relu(t->pre), elsewhere 0; ties to the lower place. The running
   threshold takes part of it. */
fct_status fct_batch_select(fct_trainee *t) FCT_MUST_CHECK;
/* Without a batch to select from: what exceeds the running threshold, one for all features. */
fct_status fct_batch_finish(const fct_trainee *t, fct_sae *out) FCT_MUST_CHECK;

#endif

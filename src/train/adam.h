/* adam.h - declares Adam as torch has it (Kingma and Ba 2015), its constants once for every engine:

       m += (1 - beta1) (g - m)
       v  = beta2 v + (1 - beta2) g²
       w -= lr/(1 - beta1^n) · m / (sqrt(v)/sqrt(1 - beta2^n) + eps)       in step n, from 1 */
#ifndef FCT_TRAIN_ADAM_H
#define FCT_TRAIN_ADAM_H

#include <math.h>

#include "train/trainee.h"

typedef struct fct_adam {
    float rate; /* lr/(1 - beta1^n) */
    float root; /* sqrt(1 - beta2^n) */
    float eps;
    float beta1, beta2;
    float rest1, rest2; /* 1 - beta1, 1 - beta2, each rounded once */
} fct_adam;
/* Of the step at hand: learning rate and n follow from the steps that t has done. */
fct_adam fct_adam_of(const fct_trainee *t);

/* One number's move. */
static inline void fct_adam_move(float *w, float *m, float *v, float g, const fct_adam *a)
{
    *m += a->rest1 * (g - *m);
    *v = *v * a->beta2 + a->rest2 * g * g;
    *w -= a->rate * (*m / (sqrtf(*v) / a->root + a->eps));
}

/* All of t's parameters, by their gradients. */
void fct_adam_step(fct_trainee *t);
/* The running mean of the weights, after a step: at first it moves faster, so that it forgets the
   start. Of a trainee that keeps one. */
void fct_adam_average(fct_trainee *t);

#endif

/* schedule.c - says what changes from step to step, as functions of the step alone: learning rate,
   k, the weight of the sparsity penalty. So a continued training needs to remember nothing of
   them. */
#include <math.h>

#include "train/train.h"

/* Cosine, with `left` steps still to go: lr · (1 - cos(pi·left/lr_decay_steps))/2, which is torch's
   CosineAnnealingLR to 0. */
double fct_train_plan_lr(const fct_train_plan *p, int64_t step)
{
    static const double pi = 3.14159265358979323846;
    double left = (double)(p->steps - step), lr = p->lr;
    if (p->lr_warmup > 0 && step < p->lr_warmup)
        lr = lr * (double)(step + 1) / (double)p->lr_warmup;
    if (p->lr_decay == FCT_LR_LINEAR && left < p->lr_decay_steps)
        lr = lr * left / p->lr_decay_steps;
    if (p->lr_decay == FCT_LR_COSINE && left < p->lr_decay_steps)
        lr = lr * 0.5 * (1 - cos(pi * left / p->lr_decay_steps));
    return lr;
}

int64_t fct_train_plan_k(const fct_train_plan *p, int64_t step)
{
    if (p->k_warmup <= 0 || step >= p->k_warmup) return p->k;
    double share = (double)step / (double)p->k_warmup;
    return llround((double)p->k_start + share * (double)(p->k - p->k_start));
}

double fct_train_plan_sparsity(const fct_train_plan *p, int64_t step)
{
    if (p->sparsity_warmup <= 0 || step >= p->sparsity_warmup) return p->sparsity;
    return p->sparsity * (double)(step + 1) / (double)p->sparsity_warmup;
}

double fct_train_plan_unit(const fct_train_plan *p, int64_t d)
{
    return sqrt((double)d / p->loss_scale);
}

int64_t fct_train_plan_mixed(const fct_train_plan *p)
{
    return p->mixed ? p->n_parts : 1;
}

int64_t fct_train_plan_dead_steps(const fct_train_plan *p)
{
    return p->dead_rows > 0 && p->dead_rows < p->batch ? 1 : p->dead_rows / p->batch;
}

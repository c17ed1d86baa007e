/* apart.c - the SAEs of a run divided among ranks.

   SAE i belongs to rank i mod N, which trains it on whole batches as one process would: the same
   bytes. What a step says of it every rank hears after the batch; its weights only when somebody
   needs them (a checkpoint, a measurement, the end). Every rank has room for all of them, so the
   first one writes files as if it had trained them itself. */
#include <stdio.h>
#include <string.h>

#include "sae/variant.h"

typedef struct numbers { /* what the last step says of an SAE */
    int64_t step, n_dead;
    double loss, mse, aux, l0, penalty, ev, fvu, running;
    char lost[400]; /* "": it goes on */
} numbers;

bool fct_apart_mine(const fct_dist *ranks, int64_t i)
{
    return i % fct_dist_size(ranks) == fct_dist_rank(ranks);
}

static void put(numbers *to, const fct_trainee *t)
{
    *to = (numbers){.step = t->step,
                    .n_dead = t->n_dead,
                    .loss = t->loss,
                    .mse = t->mse,
                    .aux = t->aux,
                    .l0 = t->l0,
                    .penalty = t->penalty,
                    .ev = t->ev,
                    .fvu = t->fvu,
                    .running = t->running};
    snprintf(to->lost, sizeof to->lost, "%s", t->lost ? t->lost : "");
}

static fct_status take(fct_trainee *t, const numbers *from)
{
    t->step = from->step;
    t->n_dead = from->n_dead;
    t->loss = from->loss;
    t->mse = from->mse;
    t->aux = from->aux;
    t->l0 = from->l0;
    t->penalty = from->penalty;
    t->ev = from->ev;
    t->fvu = from->fvu;
    t->running = from->running;
    return from->lost[0] && !t->lost ? fct_strdup(&t->lost, from->lost) : FCT_OK;
}

fct_status fct_apart_numbers(fct_dist *ranks, fct_train_state *s)
{
    numbers *mine = NULL, *all = NULL;
    int64_t size = fct_dist_size(ranks);
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_new(&mine, s->n, sizeof *mine));
    FCT_TRY_OUT(fct_new(&all, size * s->n, sizeof *all));
    for (int64_t i = 0; i < s->n; i++) put(&mine[i], &s->trainee[i]);
    FCT_TRY_OUT(fct_dist_gather(ranks, mine, s->n * (int64_t)sizeof *mine, all));
    for (int64_t i = 0; i < s->n; i++)
        if (!fct_apart_mine(ranks, i)) FCT_TRY_OUT(take(&s->trainee[i], &all[i % size * s->n + i]));
out:
    fct_free(mine);
    fct_free(all);
    return st;
}

fct_status fct_apart_weights(fct_dist *ranks, fct_train_state *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        fct_trainee *t = &s->trainee[i];
        int64_t root = i % fct_dist_size(ranks), n;
        for (int w = 0; w < FCT_PARAM_COUNT; w++) {
            float *param = fct_trainee_param(t, w, &n);
            float *const part[] = {param, t->m[w], t->v[w], t->average[w]};
            for (size_t k = 0; k < FCT_COUNT(part) && param; k++)
                if (part[k])
                    FCT_TRY(fct_dist_broadcast_from(ranks, root, part[k],
                                                    n * (int64_t)sizeof *part[k]));
        }
        FCT_TRY(fct_dist_broadcast_from(ranks, root, t->not_fired,
                                        t->plan.f * (int64_t)sizeof *t->not_fired));
    }
    return FCT_OK;
}

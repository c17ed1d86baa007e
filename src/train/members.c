/* members.c - divides the SAEs of a run among ranks, where there are enough of them. SAE i belongs
   to rank i mod N, which trains it on whole batches as one process would: the same bytes. What a
   step says of it every rank hears after the batch; its weights only when somebody needs them (a
   checkpoint, a measurement, the end). Every rank has room for all of them, so the first one writes
   files as if it had trained them itself. */
#include <stdio.h>
#include <string.h>

#include "train/train.h"

/* What ranks hear of an SAE after a step. */
typedef struct told {
    fct_train_numbers now;
    char lost[400]; /* "": it goes on */
} told;

bool fct_members_mine(const fct_dist *ranks, int64_t i)
{
    return i % fct_dist_size(ranks) == fct_dist_rank(ranks);
}

static fct_status hear(fct_trainee *t, const told *of)
{
    t->now = of->now;
    return of->lost[0] && !t->lost ? fct_strdup(&t->lost, of->lost) : FCT_OK;
}

fct_status fct_members_share_numbers(fct_dist *ranks, fct_train_state *s)
{
    told *mine = NULL, *all = NULL;
    int64_t size = fct_dist_size(ranks);
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_new(&mine, s->n, sizeof *mine));
    FCT_TRY_OUT(fct_new(&all, size * s->n, sizeof *all));
    for (int64_t i = 0; i < s->n; i++) {
        const fct_trainee *t = &s->trainee[i];
        mine[i].now = t->now;
        snprintf(mine[i].lost, sizeof mine->lost, "%s", t->lost ? t->lost : "");
    }
    FCT_TRY_OUT(fct_dist_gather(ranks, mine, s->n * (int64_t)sizeof *mine, all));
    for (int64_t i = 0; i < s->n; i++)
        if (!fct_members_mine(ranks, i))
            FCT_TRY_OUT(hear(&s->trainee[i], &all[i % size * s->n + i]));
out:
    fct_free(mine);
    fct_free(all);
    return st;
}

fct_status fct_members_share_weights(fct_dist *ranks, fct_train_state *s)
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

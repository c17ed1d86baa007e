/* engine.h - declares the table of engines, each a way to compute the steps of a training. All give
   the same numbers to within rounding; which one a run uses is part of its plan, and named in what
   comes out of it. A new engine is a file with a row in the table (engine.c). */
#ifndef FCT_TRAIN_ENGINE_H
#define FCT_TRAIN_ENGINE_H

#include "train/trainee.h"

struct fct_engine {
    const char *name; /* as --engine takes it and facet.json says it */
    bool reduced;     /* its encoder product may run in fewer bits (fct_train_plan.product) */

    /* Whether it can do what the plan says. */
    bool (*fits)(const fct_train_plan *p);

    /* The scratch of a step, in the trainee, and its operations' arena. What new leaves when it
       fails, free releases. */
    fct_status (*new)(fct_trainee *t);
    void (*free)(fct_trainee *t);

    /* As fct_trainee_backward, on rows [B,D] that are normalised already. */
    fct_status (*backward)(fct_trainee *t, const float *rows, bool want_ev);
    /* New weights from what backward has left. Counts no step. */
    fct_status (*update)(fct_trainee *t);
};
extern const fct_engine fct_engine_plain, fct_engine_fast;

/* AUTO: the first in the table that fits; on the reference backend the plain one, which is to be
   read, as that backend is. FCT_ERR_UNSUPPORTED when the one that was asked for does
   not. */
fct_status fct_engine_choose(const fct_engine **out, const fct_train_plan *p,
                             fct_train_engine want) FCT_MUST_CHECK;

#endif

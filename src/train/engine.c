/* engine.c - chooses the engine of a training from the table, and runs one step of it.

   Order within a step as in the code of sdxl-unbox: losses and gradients, then the decoder's rows
   made of unit length and what lies along them taken out of their gradient, then Adam; the average
   last. So a saved decoder is unit-norm only to within one step. */
#include "train/engine.h"

#include "train/adam.h"

static const fct_engine *const engine_table[] = {&fct_engine_fast, &fct_engine_plain};

fct_status fct_engine_choose(const fct_engine **out, const fct_train_plan *p, fct_train_engine want)
{
    bool plain = want == FCT_ENGINE_PLAIN || (want == FCT_ENGINE_AUTO && p->be == &fct_backend_ref);
    const fct_engine *asked = want == FCT_ENGINE_FAST ? &fct_engine_fast
                              : plain                 ? &fct_engine_plain
                                                      : NULL;
    for (size_t i = 0; i < FCT_COUNT(engine_table); i++)
        if ((!asked || engine_table[i] == asked) && engine_table[i]->fits(p)) {
            *out = engine_table[i];
            return FCT_OK;
        }
    return fct_option_fail(FCT_ERR_UNSUPPORTED, p->spelling,
                           "the fast engine trains TopK autoencoders of a constant k, without "
                           "gradient clipping, with {decoder_norm} project: use {engine} auto or "
                           "plain");
}

fct_status fct_trainee_backward(fct_trainee *t, const float *rows, bool want_ev)
{
    t->k = fct_train_plan_k(&t->plan, t->now.step);
    if (t->row_mean) {
        fct_trainee_normalise(t, t->rows, rows, t->batch);
        rows = t->rows;
    }
    return t->plan.engine->backward(t, rows, want_ev);
}

fct_status fct_trainee_update(fct_trainee *t)
{
    FCT_TRY(t->plan.engine->update(t));
    t->now.step++;
    if (t->plan.ema > 0) fct_adam_average(t);
    return FCT_OK;
}

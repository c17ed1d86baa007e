/* state.c - a moment of a run, kept: the map on its way, the skips, the embeddings, the sample and
   the generators. Whatever follows depends on nothing else, so a run resumed from it ends with the
   same bytes. */
#include "model/model.h"

void fct_state_free(fct_state *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_skips; i++) fct_free(s->skip[i].data);
    fct_free(s->text.data);
    fct_free(s->x.data);
    fct_free(s->latents);
    fct_free(s->emb);
    fct_free(s->added);
    fct_free(s->rng);
    fct_free(s);
}

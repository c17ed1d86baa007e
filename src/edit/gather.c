/* gather.c - keeps the codes of a block during another run, for the edits that read them: the run
   without edits (static edits), or the run that features are taken from. */
#include "edit/edit.h"
#include "model/model.h"

/* A source run is read for one picture, whose place in its batch says nothing about this run. */
const fct_gathered *fct_gather_find(const fct_gather *g, int64_t step, int64_t first_item)
{
    for (int64_t i = 0; i < g->n; i++)
        if (g->at[i].step == step && (g->item >= 0 || g->at[i].first_item == first_item))
            return &g->at[i];
    return NULL;
}

fct_status fct_gather_tap(void *user, const fct_tap_event *event, fct_tensor *value)
{
    fct_gather *g = user;
    if (event->step < g->first_step || event->step > g->last_step) return FCT_OK;
    float *rows;
    int64_t n, h = value->dim[1], w = value->dim[2];
    fct_half half = g->item < 0 ? FCT_HALF_BOTH : FCT_HALF_COND;
    FCT_TRY(fct_tap_rows(&rows, &n, event, value, g->item, half));
    if (n == 0) return FCT_OK;
    fct_coder_on(g->coder, fct_tap_backend(event));
    FCT_TRY(fct_grow(&g->at, g->n, g->n + 1, (int64_t)sizeof *g->at));
    fct_gathered *at = &g->at[g->n++];
    *at = (fct_gathered){.step = event->step, .first_item = event->first_item, .h = h, .w = w};
    FCT_TRY(fct_where(fct_codes_encode(&at->codes, g->coder, rows, n), "codes of %s",
                      g->block->short_name));
    return FCT_OK;
}

void fct_gather_clear(fct_gather *g)
{
    for (int64_t i = 0; i < g->n; i++) fct_codes_clear(&g->at[i].codes);
    fct_free(g->at);
    *g = (fct_gather){0};
}

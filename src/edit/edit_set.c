/* edit_set.c - runs a model with edits: first the passes whose codes the edits need (the run
   without edits, the runs that features are taken from), then the run itself with taps that edit
   blocks. */
#include <inttypes.h>
#include <string.h>

#include "edit/edit.h"

/* ---- the runs before the edited one ---- */

/* Latents and pictures of these are not wanted: they end after the last block and step that is
   read. The session keeps the moment at the first edited block, where the edited run begins to
   differ, and from which these begin when they are asked for again. */
static void shorten(fct_run_desc *d, const fct_edit_set *set, int64_t last_step)
{
    d->no_decode = true;
    d->stop_after_taps = true;
    d->stop_step = last_step;
    if (!d->keep) d->keep = set->plan[0].block->short_name;
}

/* Adds the tap of a gather that wants something. *last: the last step that any of them wants. */
static void add_tap(fct_tap *taps, int64_t *n, int64_t *last, fct_gather *g)
{
    if (!g->block) return;
    taps[(*n)++] = (fct_tap){.module = g->block->name,
                             .what = FCT_TAP_DELTA,
                             .first_step = g->first_step,
                             .last_step = g->last_step,
                             .user = g,
                             .fn = fct_gather_tap};
    if (g->last_step > *last) *last = g->last_step;
}

static fct_status run_clean(fct_edit_set *set, fct_session *session)
{
    fct_run_desc d = set->desc;
    fct_run_result result = {0};
    fct_tap *taps = NULL;
    int64_t n = 0, last = 0;
    FCT_TRY(fct_new(&taps, set->n_plans, (int64_t)sizeof *taps));
    for (int64_t i = 0; i < set->n_plans; i++) add_tap(taps, &n, &last, &set->plan[i].clean);
    fct_status st = FCT_OK;
    if (n > 0) {
        d.taps = taps;
        d.n_taps = n;
        shorten(&d, set, last);
        st = fct_where(fct_session_run(session, &d, &result),
                       "the run without edits (for static ones)");
        fct_run_result_clear(&result);
    }
    fct_free(taps);
    return st;
}

static fct_status run_source(fct_edit_set *set, fct_source *s, fct_session *session,
                             const fct_sae_set *saes, int depth)
{
    fct_run_desc d;
    fct_run_result result = {0};
    fct_tap *taps = NULL;
    int64_t n = 0, last = 0;
    if (depth >= FCT_EDIT_MAX_DEPTH)
        return fct_fail(FCT_ERR_ARG, "recipes take features from recipes more than %d deep",
                        FCT_EDIT_MAX_DEPTH);
    if (s->recipe->index < 0 || s->recipe->index >= s->recipe->n_items)
        return fct_fail(FCT_ERR_ARG, "the source recipe's picture is not in its batch");
    FCT_TRY(fct_new(&taps, set->n_plans, (int64_t)sizeof *taps));
    for (int64_t i = 0; i < set->n_plans; i++) add_tap(taps, &n, &last, &s->gather[i]);
    fct_recipe_desc(s->recipe, &d);
    d.taps = taps;
    d.n_taps = n;
    shorten(&d, set, last);
    fct_status st =
        fct_edit_run_at(session, &d, s->recipe->edit, s->recipe->n_edits, saes, &result, depth + 1);
    fct_run_result_clear(&result);
    fct_free(taps);
    return fct_where(st, "the run that features are taken from");
}

/* ---- the edited run ---- */

fct_status fct_edit_set_open_at(fct_edit_set **out, fct_session *session, const fct_run_desc *desc,
                                fct_edit *edits, int64_t n_edits, const fct_sae_set *saes,
                                int depth)
{
    fct_edit_set *set = NULL;
    fct_status st = FCT_OK;
    *out = NULL;
    for (int64_t i = 0; i < n_edits; i++)
        FCT_TRY(fct_edit_where(fct_edit_load(&edits[i], NULL), &edits[i]));
    FCT_TRY(fct_new(&set, 1, (int64_t)sizeof *set));
    FCT_TRY_OUT(fct_edit_compile(set, fct_model_get_info(fct_session_model(session)), desc, edits,
                                 n_edits, saes));
    FCT_TRY_OUT(run_clean(set, session));
    for (int64_t i = 0; i < set->n_sources; i++)
        FCT_TRY_OUT(run_source(set, &set->source[i], session, saes, depth));
    fct_edit_set_make_keys(set);
    *out = set;
    return FCT_OK;
out:
    fct_edit_set_close(set);
    return st;
}

fct_status fct_edit_set_open(fct_edit_set **out, fct_session *session, const fct_run_desc *desc,
                             fct_edit *edits, int64_t n_edits, const fct_sae_set *saes)
{
    return fct_edit_set_open_at(out, session, desc, edits, n_edits, saes, 0);
}

const fct_tap *fct_edit_set_taps(const fct_edit_set *set, int64_t *out_n)
{
    *out_n = set->n_plans;
    return set->tap;
}

void fct_edit_set_close(fct_edit_set *set)
{
    if (!set) return;
    fct_edit_set_clear(set);
    fct_free(set);
}

fct_status fct_edit_run_at(fct_session *session, const fct_run_desc *desc, fct_edit *edits,
                           int64_t n_edits, const fct_sae_set *saes, fct_run_result *out, int depth)
{
    fct_edit_set *set = NULL;
    fct_tap *taps = NULL;
    fct_run_desc d = *desc;
    *out = (fct_run_result){0};
    if (n_edits == 0) return fct_session_run(session, desc, out);
    FCT_TRY(fct_edit_set_open_at(&set, session, desc, edits, n_edits, saes, depth));
    fct_status st = fct_new(&taps, desc->n_taps + set->n_plans, (int64_t)sizeof *taps);
    if (st == FCT_OK) {
        if (desc->n_taps > 0) memcpy(taps, desc->taps, (size_t)desc->n_taps * sizeof *taps);
        memcpy(taps + desc->n_taps, set->tap, (size_t)set->n_plans * sizeof *taps);
        d.taps = taps;
        d.n_taps = desc->n_taps + set->n_plans;
        st = fct_session_run(session, &d, out);
    }
    fct_free(taps);
    fct_edit_set_close(set);
    return st;
}

fct_status fct_edit_run(fct_session *session, const fct_run_desc *desc, fct_edit *edits,
                        int64_t n_edits, const fct_sae_set *saes, fct_run_result *out)
{
    return fct_edit_run_at(session, desc, edits, n_edits, saes, out, 0);
}

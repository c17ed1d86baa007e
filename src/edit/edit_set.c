/* edit_set.c - edits bound to a run: the clean and source passes that they need, the taps that
   apply them, and the one call that does it all. */
#include <inttypes.h>
#include <string.h>

#include "edit/edit.h"

/* ---- keeping codes of another run ---- */

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
    int64_t b = value->dim[0], h = value->dim[1], w = value->dim[2], d = value->dim[3], skip = 0;
    if (g->item >= 0) {
        if (g->item < event->first_item || g->item >= event->first_item + event->items)
            return FCT_OK;
        skip = g->item - event->first_item + (event->guided ? event->items : 0);
        b = 1;
    }
    FCT_TRY(fct_grow(&g->at, g->n, g->n + 1, (int64_t)sizeof *g->at));
    fct_gathered *at = &g->at[g->n];
    *at = (fct_gathered){.step = event->step, .first_item = event->first_item, .h = h, .w = w};
    const float *rows = (const float *)value->data + skip * h * w * d;
    FCT_TRY(fct_where(fct_codes_of_rows(&at->codes, g->sae, rows, b * h * w), "codes of %s",
                      g->block->short_name));
    g->n++;
    return FCT_OK;
}

void fct_gather_clear(fct_gather *g)
{
    for (int64_t i = 0; i < g->n; i++) fct_codes_clear(&g->at[i].codes);
    fct_free(g->at);
    *g = (fct_gather){0};
}

/* ---- the edited run ---- */

static fct_status make_grid(fct_compiled *c, int64_t h, int64_t w)
{
    const fct_mask *m = &c->edit->mask;
    if (m->kind == FCT_MASK_NONE || m->kind == FCT_MASK_MAP ||
        (c->grid && c->grid_h == h && c->grid_w == w))
        return FCT_OK;
    fct_free(c->grid);
    FCT_TRY(fct_new(&c->grid, h * w, (int64_t)sizeof *c->grid));
    c->grid_h = h;
    c->grid_w = w;
    return fct_mask_grid(c->grid, h, w, m);
}

static fct_status make_live(fct_live_edit *live, fct_plan *p, fct_compiled *c, int64_t step,
                            int64_t h, int64_t w)
{
    *live = (fct_live_edit){.edit = c->edit, .unit = c->unit};
    FCT_TRY(make_grid(c, h, w));
    live->mask = c->grid;
    if (c->edit->op != FCT_EDIT_FROM) return FCT_OK;
    const fct_gathered *g =
        fct_gather_find(&p->set->source[c->source].gather[p - p->set->plan], step, 0);
    if (!g)
        return fct_fail(FCT_ERR_INTERNAL, "the source run gave no codes in step %" PRId64, step);
    if (g->h != h || g->w != w)
        return fct_fail(FCT_ERR_SHAPE,
                        "the source's grid is %" PRId64 "x%" PRId64 ", this run's %" PRId64
                        "x%" PRId64,
                        g->w, g->h, w, h);
    live->source = &g->codes;
    return FCT_OK;
}

static fct_status apply(fct_plan *p, fct_live_edit *live, const fct_tap_event *event,
                        fct_tensor *value)
{
    fct_apply_args a = {.delta = value->data,
                        .b = value->dim[0],
                        .h = value->dim[1],
                        .w = value->dim[2],
                        .d = value->dim[3],
                        .items = event->items,
                        .guided = event->guided,
                        .sae = p->sae,
                        .edit = live};
    bool need_clean = false;
    for (int64_t i = 0; i < p->n; i++) {
        fct_compiled *c = &p->set->compiled[p->first + i];
        if (event->step < c->first_step || event->step > c->last_step) continue;
        FCT_TRY(
            fct_edit_where(make_live(&live[a.n_edits++], p, c, event->step, a.h, a.w), c->edit));
        need_clean |= c->edit->is_static;
    }
    if (need_clean) {
        const fct_gathered *g = fct_gather_find(&p->clean, event->step, event->first_item);
        if (!g || g->codes.n != a.b * a.h * a.w)
            return fct_fail(
                FCT_ERR_ARG,
                "static edits: the clean run has other rows than this one in step %" PRId64
                " of %s: the same prompts and size are needed",
                event->step, p->block->short_name);
        a.clean = &g->codes;
    }
    return fct_edit_apply(&a);
}

fct_status fct_edit_tap(void *user, const fct_tap_event *event, fct_tensor *value)
{
    fct_plan *p = user;
    fct_live_edit *live = NULL;
    if (value->ndim != 4 || value->dtype != FCT_F32 || value->dim[3] != p->block->channels)
        return fct_fail(FCT_ERR_SHAPE,
                        "edits of %s: the block's delta is not f32 [B,H,W,%" PRId64 "]",
                        p->block->short_name, p->block->channels);
    if (!value->data) return FCT_OK; /* a dry run */
    FCT_TRY(fct_new(&live, p->n, (int64_t)sizeof *live));
    fct_status st = apply(p, live, event, value);
    fct_free(live);
    return st;
}

/* ---- the runs before it ---- */

/* Latents and pictures of these are not wanted: they end after the last block and step that is
 * read. */
static void shorten(fct_run_desc *d, int64_t last_step)
{
    d->no_decode = true;
    d->stop_after_taps = true;
    d->stop_step = last_step;
    d->save = NULL;
    d->resume = NULL;
}

static fct_status run_clean(fct_edit_set *set, fct_model *m)
{
    fct_run_desc d = set->desc;
    fct_run_result result = {0};
    fct_tap *taps = NULL;
    int64_t n = 0, last = 0;
    FCT_TRY(fct_new(&taps, set->n_plans, (int64_t)sizeof *taps));
    for (int64_t i = 0; i < set->n_plans; i++) {
        fct_gather *g = &set->plan[i].clean;
        if (g->first_step == 0) continue;
        taps[n++] = (fct_tap){
            .module = g->block->name, .what = FCT_TAP_DELTA, .user = g, .fn = fct_gather_tap};
        if (g->last_step > last) last = g->last_step;
    }
    fct_status st = FCT_OK;
    if (n > 0) {
        d.taps = taps;
        d.n_taps = n;
        shorten(&d, last);
        st = fct_where(fct_model_run(m, &d, &result), "the run without edits (for static ones)");
        fct_run_result_clear(&result);
    }
    fct_free(taps);
    return st;
}

static fct_status run_source(fct_edit_set *set, fct_source *s, fct_model *m,
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
    for (int64_t i = 0; i < set->n_plans; i++) {
        if (!s->gather[i].block) continue;
        taps[n++] = (fct_tap){.module = s->gather[i].block->name,
                              .what = FCT_TAP_DELTA,
                              .user = &s->gather[i],
                              .fn = fct_gather_tap};
        if (s->gather[i].last_step > last) last = s->gather[i].last_step;
    }
    fct_recipe_desc(s->recipe, &d);
    d.taps = taps;
    d.n_taps = n;
    shorten(&d, last);
    fct_status st =
        fct_edit_run_at(m, &d, s->recipe->edit, s->recipe->n_edits, saes, &result, depth + 1);
    fct_run_result_clear(&result);
    fct_free(taps);
    return fct_where(st, "the run that features are taken from");
}

void fct_edit_set_clear(fct_edit_set *set)
{
    for (int64_t i = 0; i < set->n; i++) {
        fct_free(set->compiled[i].key);
        fct_free(set->compiled[i].grid);
    }
    for (int64_t i = 0; i < set->n_sources; i++) {
        for (int64_t p = 0; p < set->n_plans; p++) fct_gather_clear(&set->source[i].gather[p]);
        fct_free(set->source[i].gather);
        fct_free(set->source[i].key);
    }
    for (int64_t i = 0; i < set->n_plans; i++) fct_gather_clear(&set->plan[i].clean);
    fct_free(set->compiled);
    fct_free(set->source);
    fct_free(set->plan);
    fct_free(set->tap);
    *set = (fct_edit_set){0};
}

fct_status fct_edit_set_open_at(fct_edit_set **out, fct_model *m, const fct_run_desc *desc,
                                fct_edit *edits, int64_t n_edits, const fct_sae_set *saes,
                                int depth)
{
    fct_edit_set *set = NULL;
    fct_status st = FCT_OK;
    *out = NULL;
    for (int64_t i = 0; i < n_edits; i++)
        FCT_TRY(fct_edit_where(fct_edit_load(&edits[i], NULL), &edits[i]));
    FCT_TRY(fct_new(&set, 1, (int64_t)sizeof *set));
    FCT_TRY_OUT(fct_edit_compile(set, fct_model_get_info(m), desc, edits, n_edits, saes));
    FCT_TRY_OUT(run_clean(set, m));
    for (int64_t i = 0; i < set->n_sources; i++)
        FCT_TRY_OUT(run_source(set, &set->source[i], m, saes, depth));
    *out = set;
    return FCT_OK;
out:
    fct_edit_set_close(set);
    return st;
}

fct_status fct_edit_set_open(fct_edit_set **out, fct_model *m, const fct_run_desc *desc,
                             fct_edit *edits, int64_t n_edits, const fct_sae_set *saes)
{
    return fct_edit_set_open_at(out, m, desc, edits, n_edits, saes, 0);
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

fct_status fct_edit_run_at(fct_model *m, const fct_run_desc *desc, fct_edit *edits, int64_t n_edits,
                           const fct_sae_set *saes, fct_run_result *out, int depth)
{
    fct_edit_set *set = NULL;
    fct_tap *taps = NULL;
    fct_run_desc d = *desc;
    *out = (fct_run_result){0};
    if (n_edits == 0) return fct_model_run(m, desc, out);
    FCT_TRY(fct_edit_set_open_at(&set, m, desc, edits, n_edits, saes, depth));
    fct_status st = fct_new(&taps, desc->n_taps + set->n_plans, (int64_t)sizeof *taps);
    if (st == FCT_OK) {
        if (desc->n_taps > 0) memcpy(taps, desc->taps, (size_t)desc->n_taps * sizeof *taps);
        memcpy(taps + desc->n_taps, set->tap, (size_t)set->n_plans * sizeof *taps);
        d.taps = taps;
        d.n_taps = desc->n_taps + set->n_plans;
        st = fct_model_run(m, &d, out);
    }
    fct_free(taps);
    fct_edit_set_close(set);
    return st;
}

fct_status fct_edit_run(fct_model *m, const fct_run_desc *desc, fct_edit *edits, int64_t n_edits,
                        const fct_sae_set *saes, fct_run_result *out)
{
    return fct_edit_run_at(m, desc, edits, n_edits, saes, out, 0);
}

/* compile.c - checks edits against the run that they are for, and prepares what their taps need.

   Blocks and features must exist, statistics be there, steps be those of the run, and no two edits
   may contradict each other. All of it is known before the first step runs. Edits are then grouped
   by block, in an order that does not depend on how they were given, and it is found which other
   runs their codes come from. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "edit/edit.h"

/* ---- one edit ---- */

static fct_status check_feature(const fct_sae *sae, const char *block, int64_t f)
{
    if (f >= 0 && f < sae->f) return FCT_OK;
    return fct_fail(FCT_ERR_MISSING,
                    "there is no feature %" PRId64 ": the SAE of %s has features 0 to %" PRId64, f,
                    block, sae->f - 1);
}

bool fct_edit_needs_sae(const fct_edit *e)
{
    return e->op != FCT_EDIT_ZERO || e->mask.kind == FCT_MASK_MAP;
}

static bool has_value(const fct_edit *e)
{
    return e->op == FCT_EDIT_ADD || e->op == FCT_EDIT_SET || e->op == FCT_EDIT_ONLY;
}

/* u of the table in facet/recipe.h. A strength of 0 is 0 in any unit. */
static fct_status find_unit(double *out, const fct_sae *sae, const fct_edit *e)
{
    *out = 1;
    if (!has_value(e) || e->unit == FCT_UNIT_ONE || e->value == 0) return FCT_OK;
    const float *table = e->unit == FCT_UNIT_MEAN  ? sae->mean
                         : e->unit == FCT_UNIT_STD ? sae->std
                                                   : sae->max;
    const char *name = fct_edit_unit_names[e->unit];
    if (!table)
        return fct_fail(FCT_ERR_MISSING,
                        "the SAE%s%s has no statistics, so its features' %s is not known; say "
                        "unit=one to count V in plain activation, or make them with `facet "
                        "features stats`",
                        sae->path ? " " : "", sae->path ? sae->path : "", name);
    *out = table[e->feature];
    if (*out > 0 && *out < 1e30) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE,
                    "the %s of feature %" PRId64
                    " is %g in the SAE's statistics (it was never active there, or only once); say "
                    "unit=one to count V in plain activation",
                    name, e->feature, *out);
}

static fct_status check_sae(fct_compiled *c, const fct_model_info *info, const fct_sae_set *saes)
{
    const fct_edit *e = c->edit;
    const fct_block_info *block;
    c->bound = saes ? fct_sae_set_find_bound(saes, c->block->name) : NULL;
    c->sae = c->bound ? c->bound->sae : NULL;
    if (!fct_edit_needs_sae(e)) return FCT_OK;
    const char *name = c->block->short_name;
    if (!c->sae)
        return fct_fail(FCT_ERR_MISSING, "block %s has no SAE; give one with --sae %s=DIR", name,
                        name);
    FCT_TRY(fct_sae_bound_block(&block, c->bound, info));
    if (fct_edit_has_feature(e->op)) FCT_TRY(check_feature(c->sae, name, e->feature));
    if (e->mask.kind == FCT_MASK_MAP) FCT_TRY(check_feature(c->sae, name, e->mask.feature));
    for (int64_t i = 0; i < e->n_features; i++)
        FCT_TRY(check_feature(c->sae, name, e->features[i]));
    if (e->op == FCT_EDIT_ONLY && c->sae->kind != FCT_SAE_TOPK)
        return fct_fail(FCT_ERR_UNSUPPORTED, "'only V' is V times k features' worth, and this SAE "
                                             "has no fixed k; use 'zero' and '+V'");
    return find_unit(&c->unit, c->sae, e);
}

static fct_status check_window(fct_compiled *c, const fct_model_info *info, const fct_settings *run)
{
    const fct_edit *e = c->edit;
    int64_t last = fct_model_count_steps(info, run->steps);
    bool all = e->first_step == 0 && e->last_step == 0;
    if (!all && !(e->first_step >= 1 && e->first_step <= e->last_step))
        return fct_fail(FCT_ERR_ARG,
                        "an edit in steps %" PRId64 " to %" PRId64
                        ": want both from 1 and in order, or both 0 for all",
                        e->first_step, e->last_step);
    c->first_step = all ? 1 : e->first_step;
    c->last_step = all ? last : e->last_step;
    if (c->last_step > last)
        return fct_fail(FCT_ERR_ARG,
                        "the run has %" PRId64 " step%s, but the edit speaks of step %" PRId64,
                        last, last == 1 ? "" : "s", c->last_step);
    if (e->branch == FCT_HALF_UNCOND && !fct_settings_guided(run))
        return fct_fail(FCT_ERR_ARG,
                        "branch=uncond needs guidance above 1: this run has no uncond half");
    if (e->is_static && !fct_edit_reads_codes(e))
        return fct_fail(
            FCT_ERR_ARG,
            "'static' takes codes from the run without edits, but this edit reads none");
    return FCT_OK;
}

/* A source must lie on the same grid and walk the same steps, or its maps would mean other places
   and moments. */
static fct_status check_source(const fct_compiled *c, const fct_model_info *info,
                               const fct_settings *run)
{
    fct_settings s;
    const fct_edit *e = c->edit;
    const char *name = e->source_path ? e->source_path : "the source recipe";
    if (!e->source || e->n_features < 1)
        return fct_fail(FCT_ERR_ARG, "it takes no features from any recipe");
    fct_settings_resolve(&s, &e->source->settings, info);
    if (s.width != run->width || s.height != run->height)
        return fct_fail(FCT_ERR_ARG,
                        "%s makes %" PRId64 "x%" PRId64 ", this run %" PRId64 "x%" PRId64
                        "; features move only between runs of the same size",
                        name, s.width, s.height, run->width, run->height);
    if (s.steps != run->steps)
        return fct_fail(FCT_ERR_ARG,
                        "%s has %" PRId64 " steps, this run %" PRId64
                        "; features move only between runs of the same steps",
                        name, s.steps, run->steps);
    if (e->source->model_hash && info->hash && strcmp(e->source->model_hash, info->hash) != 0)
        return fct_fail(FCT_ERR_ARG, "%s was made by another model%s%s", name,
                        e->source->model ? ": " : "", e->source->model ? e->source->model : "");
    return FCT_OK;
}

/* Releases j. */
static fct_status take_text(char **out, json_t *j)
{
    fct_str s = {0};
    fct_status st = fct_json_text(&s, j, 0);
    json_decref(j);
    if (st != FCT_OK) fct_str_clear(&s);
    *out = s.p;
    return st;
}

static fct_status compile_one(fct_compiled *c, const fct_model_info *info, const fct_settings *run,
                              fct_edit *e, const fct_sae_set *saes)
{
    c->edit = e;
    FCT_TRY(fct_block_find(&c->block, info, e->block ? e->block : ""));
    FCT_TRY(check_sae(c, info, saes));
    FCT_TRY(check_window(c, info, run));
    if (e->op == FCT_EDIT_FROM) FCT_TRY(check_source(c, info, run));
    json_t *j = NULL;
    FCT_TRY(fct_edit_to_json(&j, e));
    return take_text(&c->json, j);
}

/* ---- two edits ---- */

/* `only` acts on both halves: it clears the one that it does not fill. */
static bool halves_meet(const fct_edit *a, const fct_edit *b)
{
    bool one_half = a->op != FCT_EDIT_ONLY && b->op != FCT_EDIT_ONLY;
    return !(one_half && ((a->branch == FCT_HALF_COND && b->branch == FCT_HALF_UNCOND) ||
                          (a->branch == FCT_HALF_UNCOND && b->branch == FCT_HALF_COND)));
}

static bool same_mask(const fct_mask *a, const fct_mask *b)
{
    if (a->kind != b->kind) return false;
    if (a->kind == FCT_MASK_MAP) return a->feature == b->feature && a->threshold == b->threshold;
    if (a->kind == FCT_MASK_FILE)
        return a->width == b->width && a->height == b->height && a->grey && b->grey &&
               memcmp(a->grey, b->grey, (size_t)(a->width * a->height)) == 0;
    return memcmp(a->box, b->box, sizeof a->box) == 0;
}

/* `=V` and `xS` say what a feature is to be, so no two of them may speak of the same feature at the
   same place. A static scale takes away what the clean run has, whatever a live one does: those two
   go together, as in the transport of a scaled picture. */
static bool both_set(const fct_edit *a, const fct_edit *b)
{
    bool a_says = a->op == FCT_EDIT_SET || a->op == FCT_EDIT_SCALE,
         b_says = b->op == FCT_EDIT_SET || b->op == FCT_EDIT_SCALE,
         scales = a->op == FCT_EDIT_SCALE && b->op == FCT_EDIT_SCALE;
    return a_says && b_says && !(scales && a->is_static != b->is_static) &&
           a->feature == b->feature && same_mask(&a->mask, &b->mask);
}

static fct_status check_pair(const fct_compiled *a, const fct_compiled *b)
{
    char *ta = NULL, *tb = NULL;
    bool replace = fct_edit_replaces(a->edit->op) && fct_edit_replaces(b->edit->op);
    if (a->block != b->block || a->first_step > b->last_step || b->first_step > a->last_step)
        return FCT_OK;
    if (!halves_meet(a->edit, b->edit) || (!replace && !both_set(a->edit, b->edit))) return FCT_OK;
    fct_status st = fct_edit_text(&ta, a->edit);
    if (st == FCT_OK) st = fct_edit_text(&tb, b->edit);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_ARG, "the edits \"%s\" and \"%s\" contradict each other: %s", ta, tb,
                      replace
                          ? "each replaces what the block writes in the same step; keep one"
                          : "both say what the same feature is to be at the same place; keep one");
    fct_free(ta);
    fct_free(tb);
    return st;
}

static int by_block_and_json(const void *pa, const void *pb)
{
    const fct_compiled *a = pa, *b = pb;
    if (a->block != b->block) return a->block->stage < b->block->stage ? -1 : 1;
    return strcmp(a->json, b->json);
}

/* ---- plans and sources ---- */

/* Makes [*first,*last] reach over the edit's steps; *first 0: it is empty yet. */
static void widen(int64_t *first, int64_t *last, const fct_compiled *c)
{
    if (*first == 0 || c->first_step < *first) *first = c->first_step;
    if (c->last_step > *last) *last = c->last_step;
}

/* One plan and one tap a block; the edits are sorted by block. */
static fct_status make_plans(fct_edit_set *set, const fct_backend *be)
{
    FCT_TRY(fct_new(&set->plan, set->n, (int64_t)sizeof *set->plan));
    FCT_TRY(fct_new(&set->tap, set->n, (int64_t)sizeof *set->tap));
    FCT_TRY(fct_new(&set->live, set->n, (int64_t)sizeof *set->live));
    for (int64_t i = 0; i < set->n; i++) {
        const fct_compiled *c = &set->compiled[i];
        if (i == 0 || c->block != c[-1].block)
            set->plan[set->n_plans++] =
                (fct_plan){.set = set,
                           .block = c->block,
                           .bound = c->bound,
                           .first = i,
                           .work.coder = {.code.sae = c->sae, .code.be = be}};
        fct_plan *p = &set->plan[set->n_plans - 1];
        fct_tap *tap = &set->tap[set->n_plans - 1];
        p->n++;
        widen(&tap->first_step, &tap->last_step, c);
        tap->module = p->block->name;
        tap->what = FCT_TAP_DELTA;
        tap->edits = true;
        tap->user = p;
        tap->fn = fct_edit_tap;
        if (!c->edit->is_static) continue;
        p->clean.block = c->block;
        p->clean.coder = &p->work.coder;
        p->clean.item = -1;
        widen(&p->clean.first_step, &p->clean.last_step, c);
    }
    return FCT_OK;
}

/* Equal recipes are one source, which runs once. */
static fct_status find_source(int64_t *out, fct_edit_set *set, fct_recipe *recipe)
{
    json_t *j = NULL;
    char *json = NULL;
    FCT_TRY(fct_recipe_to_json(&j, recipe));
    FCT_TRY(take_text(&json, j));
    for (*out = 0; *out < set->n_sources; ++*out)
        if (strcmp(set->source[*out].json, json) == 0) {
            fct_free(json);
            return FCT_OK;
        }
    fct_source *s = &set->source[set->n_sources++];
    s->recipe = recipe;
    s->json = json;
    return fct_new(&s->gather, set->n_plans, (int64_t)sizeof *s->gather);
}

static fct_status make_sources(fct_edit_set *set)
{
    FCT_TRY(fct_new(&set->source, set->n, (int64_t)sizeof *set->source));
    for (int64_t p = 0; p < set->n_plans; p++) {
        const fct_plan *plan = &set->plan[p];
        for (int64_t i = plan->first; i < plan->first + plan->n; i++) {
            fct_compiled *c = &set->compiled[i];
            if (c->edit->op != FCT_EDIT_FROM) continue;
            FCT_TRY(find_source(&c->source, set, c->edit->source));
            fct_gather *g = &set->source[c->source].gather[p];
            g->block = c->block;
            g->coder = &set->plan[p].work.coder;
            g->item = c->edit->source->index;
            widen(&g->first_step, &g->last_step, c);
        }
    }
    return FCT_OK;
}

fct_status fct_edit_compile(fct_edit_set *set, const fct_model_info *info, const fct_run_desc *desc,
                            fct_edit *edits, int64_t n_edits, const fct_sae_set *saes)
{
    *set = (fct_edit_set){.desc = *desc};
    set->desc.settings = &set->settings;
    fct_settings_resolve(&set->settings, desc->settings, info);
    fct_status st = FCT_OK;
    const fct_backend *be;
    FCT_TRY_OUT(fct_new(&set->compiled, n_edits, (int64_t)sizeof *set->compiled));
    for (int64_t i = 0; i < n_edits; i++) {
        /* counted first, so that clear releases a half-made one */
        set->n = i + 1;
        st = fct_edit_where(compile_one(&set->compiled[i], info, &set->settings, &edits[i], saes),
                            &edits[i]);
        if (st != FCT_OK) goto out;
    }
    for (int64_t i = 0; i < n_edits; i++)
        for (int64_t k = 0; k < i; k++)
            FCT_TRY_OUT(check_pair(&set->compiled[k], &set->compiled[i]));
    if (n_edits > 0)
        qsort(set->compiled, (size_t)n_edits, sizeof *set->compiled, by_block_and_json);
    FCT_TRY_OUT(fct_backend_find(&be, info->backend));
    FCT_TRY_OUT(make_plans(set, be));
    FCT_TRY_OUT(make_sources(set));
out:
    if (st != FCT_OK) fct_edit_set_clear(set);
    return st;
}

void fct_edit_set_clear(fct_edit_set *set)
{
    for (int64_t i = 0; i < set->n; i++) {
        fct_free(set->compiled[i].json);
        fct_free(set->compiled[i].grid);
    }
    for (int64_t i = 0; i < set->n_sources; i++) {
        fct_source *s = &set->source[i];
        for (int64_t p = 0; s->gather && p < set->n_plans; p++) fct_gather_clear(&s->gather[p]);
        fct_free(s->gather);
        fct_free(s->json);
    }
    for (int64_t i = 0; i < set->n_plans; i++) {
        fct_gather_clear(&set->plan[i].clean);
        fct_apply_work_clear(&set->plan[i].work);
    }
    fct_free(set->compiled);
    fct_free(set->source);
    fct_free(set->plan);
    fct_free(set->tap);
    fct_free(set->live);
    *set = (fct_edit_set){0};
}

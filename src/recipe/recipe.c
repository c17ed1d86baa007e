/* recipe.c - copies and releases edits and recipes, and turns a recipe back into the description of
   a run.

   Edits and recipes share this file because each may hold the other. */
#include <string.h>

#include "base/option.h"
#include "recipe/recipe.h"

/* ---- edits ---- */

static fct_status copy_mask(fct_mask *out, const fct_mask *m)
{
    *out = *m;
    out->path = NULL;
    out->grey = NULL;
    FCT_TRY(fct_strdup(&out->path, m->path));
    if (!m->grey) return FCT_OK;
    FCT_TRY(fct_new_raw(&out->grey, m->width * m->height, 1));
    memcpy(out->grey, m->grey, (size_t)(m->width * m->height));
    return FCT_OK;
}

static fct_status copy_source(fct_edit *out, const fct_edit *e)
{
    FCT_TRY(fct_strdup(&out->source_path, e->source_path));
    if (e->n_features > 0) {
        FCT_TRY(fct_new_raw(&out->features, e->n_features, (int64_t)sizeof *e->features));
        memcpy(out->features, e->features, (size_t)e->n_features * sizeof *e->features);
        out->n_features = e->n_features;
    }
    if (!e->source) return FCT_OK;
    FCT_TRY(fct_new(&out->source, 1, (int64_t)sizeof *out->source));
    return fct_recipe_copy(out->source, e->source);
}

fct_status fct_edit_copy(fct_edit *out, const fct_edit *e)
{
    *out = *e;
    out->block = NULL;
    out->mask = (fct_mask){0};
    out->source_path = NULL;
    out->source = NULL;
    out->features = NULL;
    out->n_features = 0;
    fct_status st = fct_strdup(&out->block, e->block);
    if (st == FCT_OK) st = copy_mask(&out->mask, &e->mask);
    if (st == FCT_OK) st = copy_source(out, e);
    if (st != FCT_OK) fct_edit_clear(out);
    return st;
}

void fct_edit_clear(fct_edit *e)
{
    fct_free(e->block);
    fct_mask_clear(&e->mask);
    fct_free(e->source_path);
    if (e->source) fct_recipe_clear(e->source);
    fct_free(e->source);
    fct_free(e->features);
    *e = (fct_edit){0};
}

/* ---- recipes ---- */

/* Strings of items are const for those who run them; a recipe owns its own. */
static fct_status copy_text(const char **out, const char *text)
{
    char *copy;
    FCT_TRY(fct_strdup(&copy, text));
    *out = copy;
    return FCT_OK;
}

static void free_text(const char *text)
{
    char *p;
    memcpy(&p, &text, sizeof p);
    fct_free(p);
}

static fct_status copy_items(fct_recipe *r, const fct_run_item *items, int64_t n, uint64_t seed)
{
    FCT_TRY(fct_new(&r->item, n, (int64_t)sizeof *r->item));
    for (int64_t i = 0; i < n; i++) {
        r->n_items = i + 1;
        r->item[i].seed = seed + items[i].seed;
        FCT_TRY(copy_text(&r->item[i].prompt, items[i].prompt));
        FCT_TRY(copy_text(&r->item[i].prompt_2, items[i].prompt_2));
    }
    return FCT_OK;
}

static fct_status copy_edits(fct_recipe *r, const fct_edit *edits, int64_t n)
{
    FCT_TRY(fct_new(&r->edit, n, (int64_t)sizeof *r->edit));
    for (int64_t i = 0; i < n; i++) {
        FCT_TRY(fct_edit_copy(&r->edit[i], &edits[i]));
        r->n_edits = i + 1;
    }
    return FCT_OK;
}

fct_status fct_recipe_copy_run(fct_recipe *r, const fct_run_desc *d, const fct_edit *edits,
                               int64_t n_edits)
{
    FCT_TRY(fct_settings_copy(&r->settings, d->settings));
    /* a recipe's items have their seeds whole */
    uint64_t seed = r->settings.seed;
    r->settings.seed = 0;
    FCT_TRY(copy_items(r, d->items, d->n_items, seed));
    return copy_edits(r, edits, n_edits);
}

void fct_recipe_desc(const fct_recipe *r, fct_run_desc *out)
{
    *out = (fct_run_desc){.items = r->item, .n_items = r->n_items, .settings = &r->settings};
}

static fct_status copy_strings(fct_recipe *out, const fct_recipe *r)
{
    FCT_TRY(fct_strdup(&out->version, r->version));
    FCT_TRY(fct_strdup(&out->model, r->model));
    FCT_TRY(fct_strdup(&out->model_path, r->model_path));
    FCT_TRY(fct_strdup(&out->model_hash, r->model_hash));
    out->engine = r->engine;
    FCT_TRY(fct_options_own(&out->engine, fct_model_table()));
    FCT_TRY(fct_strdup(&out->sampler, r->sampler));
    return fct_strdup(&out->plan, r->plan);
}

static fct_status copy_recipe_saes(fct_recipe *out, const fct_recipe *r)
{
    FCT_TRY(fct_new(&out->sae, r->n_saes, (int64_t)sizeof *out->sae));
    for (int64_t i = 0; i < r->n_saes; i++) {
        fct_recipe_sae *s = &out->sae[out->n_saes++];
        FCT_TRY(fct_strdup(&s->block, r->sae[i].block));
        FCT_TRY(fct_strdup(&s->path, r->sae[i].path));
        FCT_TRY(fct_strdup(&s->hash, r->sae[i].hash));
        FCT_TRY(fct_strdup(&s->stats_hash, r->sae[i].stats_hash));
    }
    return FCT_OK;
}

fct_status fct_recipe_copy(fct_recipe *out, const fct_recipe *r)
{
    fct_status st = FCT_OK;
    fct_run_desc d;
    *out = (fct_recipe){.index = r->index, .threads = r->threads};
    fct_recipe_desc(r, &d);
    FCT_TRY_OUT(copy_strings(out, r));
    FCT_TRY_OUT(copy_recipe_saes(out, r));
    FCT_TRY_OUT(fct_recipe_copy_run(out, &d, r->edit, r->n_edits));
out:
    if (st != FCT_OK) fct_recipe_clear(out);
    return st;
}

void fct_recipe_clear_saes(fct_recipe *r)
{
    for (int64_t i = 0; i < r->n_saes; i++) {
        fct_free(r->sae[i].block);
        fct_free(r->sae[i].path);
        fct_free(r->sae[i].hash);
        fct_free(r->sae[i].stats_hash);
    }
    fct_free(r->sae);
    r->sae = NULL;
    r->n_saes = 0;
}

void fct_recipe_clear(fct_recipe *r)
{
    char *const text[] = {r->version, r->model, r->model_path, r->model_hash, r->sampler, r->plan};
    for (size_t i = 0; i < FCT_COUNT(text); i++) fct_free(text[i]);
    fct_options_clear(&r->engine, fct_model_table());
    for (int64_t i = 0; i < r->n_items; i++) {
        free_text(r->item[i].prompt);
        free_text(r->item[i].prompt_2);
    }
    fct_free(r->item);
    fct_settings_clear(&r->settings);
    fct_recipe_clear_saes(r);
    for (int64_t i = 0; i < r->n_edits; i++) fct_edit_clear(&r->edit[i]);
    fct_free(r->edit);
    *r = (fct_recipe){0};
}

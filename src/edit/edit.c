/* edit.c - an edit as a value: copied, released, and completed with the files that it names. */
#include <string.h>

#include "edit/edit.h"

bool fct_edit_reads_codes(const fct_edit *e)
{
    return e->op == FCT_EDIT_SCALE || e->op == FCT_EDIT_SET || e->op == FCT_EDIT_REBUILD ||
           e->mask.kind == FCT_MASK_MAP;
}

fct_status fct_edit_load_at(fct_edit *e, const char *folder, int depth)
{
    char *path = NULL;
    FCT_TRY(fct_mask_load(&e->mask, folder));
    if (e->op != FCT_EDIT_FROM) return FCT_OK;
    for (int64_t i = 0; e->source && i < e->source->n_edits;
         i++) /* a recipe that was given whole may name files too */
        FCT_TRY(fct_edit_load_at(&e->source->edit[i], folder, depth + 1));
    if (e->source) return FCT_OK;
    if (!e->source_path)
        return fct_fail(FCT_ERR_ARG, "an edit of %s takes features from no recipe",
                        e->block ? e->block : "?");
    if (depth >= FCT_EDIT_MAX_DEPTH)
        return fct_fail(FCT_ERR_ARG, "%s: recipes take features from recipes more than %d deep",
                        e->source_path, FCT_EDIT_MAX_DEPTH);
    FCT_TRY(fct_path_in(&path, folder, e->source_path));
    fct_recipe *r = NULL;
    fct_status st = fct_new(&r, 1, (int64_t)sizeof *r);
    if (st == FCT_OK) st = fct_recipe_read_at(r, path, depth + 1);
    if (st == FCT_OK)
        e->source = r;
    else
        fct_free(r);
    fct_free(path);
    return st;
}

fct_status fct_edit_load(fct_edit *e, const char *folder)
{
    return fct_edit_load_at(e, folder, 0);
}

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

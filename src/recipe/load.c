/* load.c - reads recipes from JSON or from the PNGs that carry them, and the files that edits name:
   mask pictures, and source recipes, whose edits may name further ones. */
#include <string.h>

#include "image/image.h"
#include "recipe/recipe.h"

enum { MAX_RECIPE_BYTES = 64 << 20 };

static fct_status parse_png(fct_recipe *out, const void *data, int64_t n, const char *name)
{
    fct_image im = {0};
    json_t *j = NULL;
    FCT_TRY(fct_png_parse(&im, data, n, name, 0));
    const char *text = fct_image_find_text(&im, "facet");
    fct_status st = FCT_OK;
    if (!text)
        st = fct_fail(
            FCT_ERR_FORMAT,
            "%s: this PNG carries no recipe: facet did not make it, or its texts were stripped",
            name);
    if (st == FCT_OK) st = fct_json_parse(&j, text, (int64_t)strlen(text), name);
    if (st == FCT_OK) st = fct_recipe_of_json(out, j, name, 0);
    json_decref(j);
    fct_image_clear(&im);
    return st;
}

fct_status fct_recipe_parse(fct_recipe *out, const void *data, int64_t n, const char *name)
{
    json_t *j = NULL;
    *out = (fct_recipe){0};
    if (fct_png_is(data, n)) return parse_png(out, data, n, name);
    if (fct_jpeg_is(data, n))
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: a JPEG carries no recipe: give the PNG that facet wrote, or JSON",
                        name);
    if (n > MAX_RECIPE_BYTES) return fct_fail(FCT_ERR_FORMAT, "%s: too large for a recipe", name);
    if (n > 0 && !memchr(data, '{', (size_t)n))
        return fct_fail(FCT_ERR_FORMAT, "%s: not a recipe: want JSON or a PNG made by facet", name);
    FCT_TRY(fct_json_parse(&j, data, n, name));
    fct_status st = fct_recipe_of_json(out, j, name, 0);
    json_decref(j);
    return st;
}

fct_status fct_edit_load_at(fct_edit *e, const char *folder, int depth)
{
    char *path = NULL;
    FCT_TRY(fct_mask_load(&e->mask, folder));
    if (e->op != FCT_EDIT_FROM) return FCT_OK;
    /* a recipe that was given whole may name files too */
    for (int64_t i = 0; e->source && i < e->source->n_edits; i++)
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

fct_status fct_recipe_read_at(fct_recipe *out, const char *path, int depth)
{
    char *text = NULL, *folder = NULL;
    int64_t n = 0;
    *out = (fct_recipe){0};
    FCT_TRY(fct_file_read(&text, &n, path));
    fct_status st = fct_recipe_parse(out, text, n, path);
    fct_free(text);
    if (st == FCT_OK) st = fct_path_folder(&folder, path);
    for (int64_t i = 0; i < out->n_edits && st == FCT_OK; i++)
        st = fct_where(fct_edit_load_at(&out->edit[i], folder, depth), "%s", path);
    fct_free(folder);
    if (st != FCT_OK) fct_recipe_clear(out);
    return st;
}

fct_status fct_recipe_read(fct_recipe *out, const char *path)
{
    return fct_recipe_read_at(out, path, 0);
}

/* run.c - opens models, SAEs and recipes for the commands that run a model, and writes their
   pictures. The log says once which model it is, where, and what it runs in. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd/run.h"
#include "facet/index.h"

static fct_status open_as(fct_model **out, const fct_cli *c, const fct_model_desc *desc)
{
    const fct_log *log = fct_cli_log(c);
    double start = fct_seconds();
    FCT_TRY(fct_model_open(out, desc));
    const fct_model_info *info = fct_model_get_info(*out);
    fct_log_line(log, FCT_LOG_DEBUG,
                 "%s loaded in %.1f s: %s, %s, %d threads, scheduler %s, hash %s", info->name,
                 fct_seconds() - start, info->backend, info->precision, fct_threads(),
                 info->scheduler, info->hash);
    return FCT_OK;
}

fct_status fct_cli_model_open(fct_model **out, const fct_cli *c, bool no_vae)
{
    char *path = NULL;
    const char *name = fct_cli_text(c, "model");
    FCT_TRY(fct_model_find(&path, name));
    if (!name) fct_cli_note(c, "no --model: using the demo model in %s", path);
    fct_model_desc desc = {.path = path, .no_vae = no_vae, .log = fct_cli_log(c)};
    fct_status st = fct_cli_read_all(&desc, c, fct_model_table);
    if (st == FCT_OK) st = open_as(out, c, &desc);
    fct_free(path);
    return st;
}

/* Where the recipe's model is now: at its own place, or by its name; the demo model may lie
   elsewhere than where it was. */
static fct_status find_recipe_model(char **out, const fct_cli *c, const fct_recipe *r)
{
    const char *name = fct_cli_text(c, "model");
    if (name) return fct_model_find(out, name);
    if (r->model_path && fct_model_find(out, r->model_path) == FCT_OK) return FCT_OK;
    if (r->model && strchr(r->model, '/') && fct_model_find(out, r->model) == FCT_OK) return FCT_OK;
    bool demo = !r->model || strstr(r->model, "demo");
    if (demo && fct_model_find(out, NULL) == FCT_OK) return FCT_OK;
    return fct_fail(
        FCT_ERR_MISSING, "the recipe's model %s is not at %s: say where it is with --model",
        r->model ? r->model : "(unnamed)", r->model_path ? r->model_path : "a place that it names");
}

fct_status fct_cli_recipe_model(fct_model **out, const fct_cli *c, const fct_recipe *r,
                                bool keep_precision)
{
    char *path = NULL;
    fct_precision was = r->engine.precision;
    fct_model_desc desc = {0};
    FCT_TRY(fct_cli_read_all(&desc, c, fct_model_table));
    if (!fct_cli_given(c, "backend") && r->engine.backend) desc.backend = r->engine.backend;
    if (keep_precision && !fct_cli_given(c, "dtype")) desc.precision = was;
    if (keep_precision && !fct_cli_given(c, "threads") && r->threads > 0 && r->threads <= 1024)
        fct_threads_set((int)r->threads);
    FCT_TRY(find_recipe_model(&path, c, r));
    if (!fct_cli_given(c, "model")) fct_cli_note(c, "the recipe's model: %s", path);
    desc.path = path;
    desc.log = fct_cli_log(c);
    fct_status st = open_as(out, c, &desc);
    fct_free(path);
    FCT_TRY(st);
    const char *is = fct_model_get_info(*out)->precision, *made = fct_precision_name(was);
    if (!keep_precision && !fct_cli_given(c, "dtype") && was != FCT_PRECISION_AUTO &&
        strcmp(made, is) != 0)
        fct_cli_note(c, "running in %s; the picture was made in %s (--dtype %s runs it so again)",
                     is, made, made);
    return FCT_OK;
}

/* An SAE may be used for another block than its own, since the user says so; but hardly in
   silence. */
static void warn_foreign(const fct_cli *c, const fct_sae_set *set)
{
    for (int64_t i = 0; i < set->n; i++) {
        const fct_sae *s = set->bound[i].sae;
        const fct_sae_bound *b = &set->bound[i];
        if (!s->block || strcmp(s->block, b->short_name) == 0 || strcmp(s->block, b->name) == 0)
            continue;
        fct_log_line(fct_cli_log(c), FCT_LOG_WARN,
                     "the SAE %s was made for block %s, and is used for %s",
                     s->path ? s->path : "in memory", s->block, b->short_name);
    }
}

fct_status fct_cli_session_open(fct_session **out, const fct_cli *c, const fct_model *m)
{
    return fct_session_open(out, m, &(fct_session_desc){.log = fct_cli_log(c)});
}

fct_status fct_cli_saes_open(fct_sae_set *out, const fct_cli *c, const fct_model *m)
{
    for (int64_t i = 0; i < fct_cli_count(c, "sae"); i++)
        FCT_TRY(fct_sae_set_add(out, fct_model_get_info(m), fct_cli_text_at(c, "sae", i)));
    warn_foreign(c, out);
    return FCT_OK;
}

fct_status fct_cli_recipe_saes_add(fct_sae_set *out, const fct_model *m, const fct_recipe *r,
                                   const char *path)
{
    char *folder = NULL;
    FCT_TRY(fct_strdup(&folder, path));
    char *slash = strrchr(folder, '/');
    if (slash) *slash = '\0';
    fct_status st = fct_recipe_find_saes(r, m, slash ? folder : NULL, out);
    fct_free(folder);
    return st;
}

fct_status fct_cli_recipe_saes(fct_sae_set *out, const fct_cli *c, const fct_model *m,
                               const fct_recipe *r, const char *path)
{
    FCT_TRY(fct_cli_saes_open(out, c, m));
    return fct_cli_recipe_saes_add(out, m, r, path);
}

fct_status fct_cli_recipe_check(const fct_cli *c, const fct_recipe *r, const fct_model *m,
                                fct_sae_set *saes, const char *name)
{
    fct_status st = fct_recipe_check_parts(r, m, saes);
    if (st == FCT_ERR_MEMORY) return st;
    if (st != FCT_OK) fct_log_line(fct_cli_log(c), FCT_LOG_WARN, "%s: %s", name, fct_error_text());
    return FCT_OK;
}

fct_status fct_cli_need_saes(fct_cli *c, const fct_sae_set *saes)
{
    if (saes->n > 0) return FCT_OK;
    return fct_cli_usage(c, "--sae DIR is missing: features are those of an SAE (facet demo makes "
                            "some, facet train others)");
}

fct_status fct_cli_check_feature(fct_cli *c, const char *text)
{
    char why[512];
    int64_t feature;
    if (fct_feature_split(NULL, &feature, text) == FCT_OK) return FCT_OK;
    snprintf(why, sizeof why, "%s", fct_error_text());
    return fct_cli_usage(c, "%s", why);
}

fct_status fct_cli_edits_read(fct_edit **out, int64_t *out_n, fct_cli *c)
{
    int64_t n = fct_cli_count(c, "edit");
    *out_n = 0;
    FCT_TRY(fct_new(out, n, (int64_t)sizeof **out));
    for (int64_t i = 0; i < n; i++) {
        fct_status st = fct_edit_parse(&(*out)[i], fct_cli_text_at(c, "edit", i));
        *out_n = i + 1;
        if (st == FCT_ERR_MEMORY) return st;
        if (st != FCT_OK) {
            char *why = NULL;
            FCT_TRY(fct_strdup(&why, fct_error_text()));
            st = fct_cli_usage(c, "--edit: %s", why);
            fct_free(why);
            return st;
        }
    }
    return FCT_OK;
}

void fct_cli_edits_free(fct_edit *edits, int64_t n)
{
    for (int64_t i = 0; edits && i < n; i++) fct_edit_clear(&edits[i]);
    fct_free(edits);
}

static const char *const other_pictures[] = {".jpg", ".jpeg", ".webp", ".gif",
                                             ".bmp", ".tif",  ".tiff", ".avif"};

static bool is_other_picture(const char *path)
{
    for (size_t i = 0; i < FCT_COUNT(other_pictures); i++)
        if (fct_has_suffix(path, other_pictures[i])) return true;
    return false;
}

bool fct_cli_is_picture(const char *path)
{
    return fct_has_suffix(path, ".png") || is_other_picture(path);
}

fct_status fct_cli_check_picture(fct_cli *c, const char *path)
{
    if (is_other_picture(path) || fct_has_suffix(path, ".json") ||
        fct_has_suffix(path, ".safetensors"))
        return fct_cli_usage(c, "--output %s: what is written is a PNG; name it .png", path);
    return fct_cli_check_out(path);
}

fct_status fct_cli_numbered(char **out, const char *path, int64_t number, int64_t of)
{
    if (of <= 1) return fct_strdup(out, path);
    const char *dot = strrchr(fct_path_base(path), '.');
    int stem = dot && dot != fct_path_base(path) ? (int)(dot - path) : (int)strlen(path);
    return fct_format(out, "%.*s-%" PRId64 "%s", stem, path, number, path + stem);
}

fct_status fct_cli_picture_write(const fct_recipe *r, const uint8_t *pixels, int64_t width,
                                 int64_t height, const char *path)
{
    fct_image im = {0};
    FCT_TRY(fct_image_new(&im, width, height, 3));
    memcpy(im.pixel, pixels, (size_t)(width * height * 3));
    fct_status st = fct_recipe_stamp(r, &im);
    if (st == FCT_OK) st = fct_png_write(&im, path);
    fct_image_clear(&im);
    return st;
}

fct_status fct_cli_image_write(const fct_image *im, const char *dir, const char *name)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, dir, name));
    fct_status st = fct_png_write(im, path);
    fct_free(path);
    return st;
}

json_t *fct_cli_map_json(const float *map, int64_t h, int64_t w)
{
    json_t *rows = json_array();
    for (int64_t y = 0; y < h && rows; y++) {
        json_t *row = json_array();
        for (int64_t x = 0; x < w && row; x++)
            json_array_append_new(row, json_real((double)map[y * w + x]));
        if (!row || json_array_append_new(rows, row) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return rows;
}

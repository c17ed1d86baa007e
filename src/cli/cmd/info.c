/* info.c - `facet info`: describes what lies at a path: a model's folder, an SAE, a store, a
   picture or recipe, a file of tensors. A folder is known by the files in it, a file by its
   name. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd/run.h"
#include "facet/store.h"
#include "facet/sae.h"

static bool holds(const char *dir, const char *file)
{
    char *path = NULL;
    bool there = fct_path_join(&path, dir, file) == FCT_OK && fct_path_exists(path);
    fct_free(path);
    return there;
}

/* ---- a model: from its files' headers, without packing weights ---- */

/* Only the demo model describes the world that it draws. */
static fct_status has_world(bool *out, const char *path)
{
    char *world = NULL;
    FCT_TRY(fct_path_join(&world, path, "world.json"));
    *out = fct_path_exists(world);
    fct_free(world);
    return FCT_OK;
}

static fct_status info_model(fct_cli *c, const char *path)
{
    fct_model *m = NULL;
    bool demo;
    FCT_TRY(has_world(&demo, path));
    FCT_TRY(fct_model_open(&m, &(fct_model_desc){.path = path,
                                                 .precision = FCT_PRECISION_F32,
                                                 .no_vae = true,
                                                 .log = fct_cli_log(c)}));
    const fct_model_info *i = fct_model_get_info(m);
    json_t *blocks = json_array();
    fct_cli_say(c, "%s: a model of the SDXL family%s", path, demo ? " (the demo model)" : "");
    fct_cli_say(c, "  name       %s\n  hash       %s\n  scheduler  %s", i->name, i->hash,
                i->scheduler);
    fct_cli_say(c, "  defaults   %" PRId64 "x%" PRId64 ", %" PRId64 " steps, guidance %g",
                i->default_width, i->default_height, i->default_steps, i->default_guidance);
    fct_cli_say(c, "  latents    %" PRId64 " channels, 1/%" PRId64 " of the picture, scaling %g",
                i->latent_channels, i->vae_factor, i->vae_scaling);
    for (int64_t b = 0; b < i->n_blocks; b++) {
        const fct_block_info *k = &i->block[b];
        fct_cli_say(c, "  block      %-10s %-38s D %" PRId64 ", 1/%" PRId64 " of the latents",
                    k->short_name, k->name, k->channels, k->downscale);
        json_array_append_new(blocks,
                              json_pack("{s:s, s:s, s:I, s:I}", "name", k->name, "short_name",
                                        k->short_name, "channels", (json_int_t)k->channels,
                                        "downscale", (json_int_t)k->downscale));
    }
    fct_cli_put(c, "kind", json_string("model"));
    fct_cli_put(c, "name", json_string(i->name));
    fct_cli_put(c, "hash", json_string(i->hash));
    fct_cli_put(c, "scheduler", json_string(i->scheduler));
    fct_cli_put(c, "width", json_integer(i->default_width));
    fct_cli_put(c, "height", json_integer(i->default_height));
    fct_cli_put(c, "steps", json_integer(i->default_steps));
    fct_cli_put(c, "guidance", json_real(i->default_guidance));
    fct_cli_put(c, "latent_channels", json_integer(i->latent_channels));
    fct_cli_put(c, "vae_scaling", json_real(i->vae_scaling));
    fct_cli_put(c, "is_demo", json_boolean(demo));
    fct_cli_put(c, "blocks", blocks);
    fct_model_close(m);
    return FCT_OK;
}

/* ---- an SAE, or a folder of them ---- */

static fct_status put_sae(fct_cli *c, const char *path, json_t *list)
{
    fct_sae *s = NULL;
    FCT_TRY(fct_sae_load(&s, path, NULL));
    const char *kind = fct_sae_kind_name(s->kind);
    const char *at = s->path ? s->path : path;
    const char *layout = fct_path_is_dir(at) ? fct_sae_layout_of(at) : NULL; /* NULL: one file */
    char k[32] = "";
    if (s->k > 0) snprintf(k, sizeof k, ", k %" PRId64, s->k);
    char *blocks = NULL;
    fct_status st = fct_sae_blocks_text(&blocks, s, ", ");
    if (st != FCT_OK) {
        fct_sae_free(s);
        return st;
    }
    fct_cli_say(
        c,
        "%s: %s (%s%s), %s, %" PRId64 " features of width %" PRId64 "%s, block%s %s, model %s, %s",
        path, s->n_blocks > 0 ? "a crosscoder" : "an SAE", layout ? layout : "a torch file",
        layout ? " layout" : "", kind, s->f, s->d, k, s->n_blocks > 0 ? "s" : "",
        s->block          ? s->block
        : s->n_blocks > 0 ? blocks
                          : "not said",
        s->model ? s->model : "not said", s->has_stats ? "with statistics" : "no statistics");
    json_t *names = s->n_blocks > 0 ? json_array() : NULL;
    for (int64_t i = 0; i < s->n_blocks; i++)
        (void)json_array_append_new(names, json_string(s->blocks[i].name));
    json_t *o = json_pack("{s:s, s:s?, s:s, s:I, s:I, s:I, s:s?, s:o*, s:s?, s:b}", "path", path,
                          "layout", layout, "architecture", kind, "d", (json_int_t)s->d,
                          "n_features", (json_int_t)s->f, "k", (json_int_t)s->k, "block", s->block,
                          "blocks", names, "model", s->model, "has_stats", (int)s->has_stats);
    fct_free(blocks);
    fct_sae_free(s);
    return json_array_append_new(list, o) == 0
               ? FCT_OK
               : fct_fail(FCT_ERR_MEMORY, "out of memory for the table");
}

/* One file instead of a folder; why it is no SAE, when it is none. */
static fct_status info_torch(fct_cli *c, const char *path)
{
    json_t *list = json_array();
    fct_status st = put_sae(c, path, list);
    fct_cli_put(c, "kind", json_string("sae"));
    fct_cli_put(c, "saes", list);
    return st;
}

static fct_status info_saes(fct_cli *c, const char *path, bool *found)
{
    char **paths = NULL;
    int64_t n = 0;
    json_t *list = json_array();
    fct_status st = fct_sae_find(&paths, &n, path, NULL);
    *found = st == FCT_OK && n > 0;
    for (int64_t i = 0; i < n && st == FCT_OK; i++) st = put_sae(c, paths[i], list);
    fct_free(paths);
    if (*found) {
        fct_cli_put(c, "kind", json_string("sae"));
        fct_cli_put(c, "saes", list);
        return st;
    }
    json_decref(list);
    return FCT_OK;
}

/* ---- a store ---- */

static fct_status info_store(fct_cli *c, const char *path)
{
    fct_store *s = NULL;
    FCT_TRY(fct_store_open(&s, path));
    const fct_store_info *i = fct_store_get_info(s);
    json_t *blocks = json_array();
    fct_cli_say(c, "%s: a store of %s, type %s, model %s, %" PRId64 " prompts", path,
                i->what ? i->what : "imported rows", fct_dtype_name(i->dtype),
                i->model ? i->model : "not known", i->n_prompts);
    for (int64_t b = 0; b < i->n_blocks; b++) {
        const fct_store_block *k = &i->block[b];
        fct_cli_say(
            c, "  block  %-10s %" PRId64 " rows of width %" PRId64 ", grid %" PRId64 "x%" PRId64,
            k->name, k->rows, k->d, k->grid_h, k->grid_w);
        json_array_append_new(blocks,
                              json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", k->name, "d",
                                        (json_int_t)k->d, "rows", (json_int_t)k->rows, "grid_h",
                                        (json_int_t)k->grid_h, "grid_w", (json_int_t)k->grid_w));
    }
    fct_cli_put(c, "kind", json_string("store"));
    fct_cli_put(c, "what", i->what ? json_string(i->what) : json_null());
    fct_cli_put(c, "dtype", json_string(fct_dtype_name(i->dtype)));
    fct_cli_put(c, "model", i->model ? json_string(i->model) : json_null());
    fct_cli_put(c, "prompts", json_integer(i->n_prompts));
    fct_cli_put(c, "blocks", blocks);
    fct_store_close(s);
    return FCT_OK;
}

/* ---- a picture or recipe ---- */

static fct_status say_recipe(fct_cli *c, const fct_recipe *r)
{
    const fct_run_item *item = &r->item[r->index];
    fct_cli_say(c, "  prompt     %s", item->prompt ? item->prompt : "");
    const fct_settings *run = &r->settings;
    if (run->negative) fct_cli_say(c, "  negative   %s", run->negative);
    fct_cli_say(c, "  seed       %" PRIu64 ", picture %" PRId64 " of %" PRId64, item->seed,
                r->index + 1, r->n_items);
    fct_cli_say(c, "  size       %" PRId64 "x%" PRId64 ", %" PRId64 " steps, guidance %g",
                run->width, run->height, run->steps, fct_settings_guidance(run));
    fct_cli_say(c, "  model      %s (%s), %s %s", r->model ? r->model : "not said",
                r->model_path ? r->model_path : "place not said",
                r->engine.backend ? r->engine.backend : "",
                fct_precision_name(r->engine.precision));
    for (int64_t i = 0; i < r->n_edits; i++) {
        char *text = NULL;
        FCT_TRY(fct_edit_text(&text, &r->edit[i]));
        fct_cli_say(c, "  edit       %s", text);
        fct_free(text);
    }
    for (int64_t i = 0; i < r->n_saes; i++)
        fct_cli_say(c, "  sae        %s=%s", r->sae[i].block,
                    r->sae[i].path ? r->sae[i].path : "(in memory)");
    return FCT_OK;
}

static fct_status info_recipe(fct_cli *c, const char *path, const char *what)
{
    fct_recipe r = {0};
    char *text = NULL, *data = NULL;
    int64_t size = 0;
    json_t *j = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_file_read(&data, &size, path));
    /* reads none of the files that edits name */
    FCT_TRY_OUT(fct_recipe_parse(&r, data, size, path));
    fct_cli_say(c, "%s: %s, made by facet %s", path, what, r.version ? r.version : "(not said)");
    FCT_TRY_OUT(say_recipe(c, &r));
    FCT_TRY_OUT(fct_recipe_text(&text, &r));
    FCT_TRY_OUT(fct_json_parse(&j, text, (int64_t)strlen(text), path));
    fct_cli_put(c, "kind", json_string("recipe"));
    fct_cli_put(c, "recipe", json_incref(j));
out:
    json_decref(j);
    fct_free(data);
    fct_free(text);
    fct_recipe_clear(&r);
    return st;
}

static bool is_jpeg(const char *path)
{
    return fct_has_suffix(path, ".jpg") || fct_has_suffix(path, ".jpeg");
}

static fct_status info_picture(fct_cli *c, const char *path)
{
    fct_image im = {0};
    FCT_TRY(fct_image_read(&im, path, 0));
    bool has_recipe = fct_image_find_text(&im, "facet") != NULL;
    if (!has_recipe) {
        fct_cli_say(c,
                    "%s: a %s, %" PRId64 "x%" PRId64 ", %" PRId64
                    " channels, without a recipe of facet",
                    path, is_jpeg(path) ? "JPEG" : "PNG", im.width, im.height, im.channels);
        fct_cli_put(c, "kind", json_string(is_jpeg(path) ? "jpeg" : "png"));
        fct_cli_put(c, "width", json_integer(im.width));
        fct_cli_put(c, "height", json_integer(im.height));
        const char *parameters = fct_image_find_text(&im, "parameters");
        if (parameters) fct_cli_say(c, "  parameters %s", parameters);
        if (parameters) fct_cli_put(c, "parameters", json_string(parameters));
    }
    fct_image_clear(&im);
    return has_recipe ? info_recipe(c, path, "a picture with its recipe") : FCT_OK;
}

/* ---- a file of tensors ---- */

static fct_status info_tensors(fct_cli *c, const char *path)
{
    fct_named_tensor *tensor;
    int64_t n;
    FCT_TRY(fct_tensors_list(&tensor, &n, path));
    json_t *list = json_array();
    fct_cli_say(c, "%s: safetensors, %" PRId64 " tensors", path, n);
    for (int64_t i = 0; i < n; i++) {
        char shape[64];
        const char *dtype = fct_dtype_name(tensor[i].t.dtype);
        fct_shape_text(shape, sizeof shape, &tensor[i].t);
        fct_cli_say(c, "  %-5s %-18s %s", dtype, shape, tensor[i].name);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", tensor[i].name, "dtype",
                                              dtype, "shape", shape));
    }
    fct_cli_put(c, "kind", json_string("safetensors"));
    fct_cli_put(c, "tensors", list);
    fct_free(tensor);
    return FCT_OK;
}

static fct_status info_folder(fct_cli *c, const char *path)
{
    bool found = false;
    if (holds(path, "model_index.json")) return info_model(c, path);
    if (holds(path, "store.json")) return info_store(c, path);
    FCT_TRY(info_saes(c, path, &found));
    if (found) return FCT_OK;
    return fct_fail(FCT_ERR_FORMAT,
                    "%s: no model (model_index.json), no store (store.json) and no SAE (cfg.json "
                    "or state_dict.pth) is in this folder",
                    path);
}

static fct_status run(fct_cli *c)
{
    const char *path = fct_cli_operand_at(c, 0);
    fct_cli_put(c, "path", json_string(path));
    if (fct_path_is_dir(path)) return info_folder(c, path);
    if (!fct_path_is_dir(path) && fct_sae_layout_of(path)) return info_torch(c, path);
    if (fct_has_suffix(path, ".png") || is_jpeg(path)) return info_picture(c, path);
    if (fct_ends_with(path, ".json")) return info_recipe(c, path, "a recipe");
    if (fct_ends_with(path, ".safetensors")) return info_tensors(c, path);
    if (fct_path_exists(path))
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: want a model's, SAE's or store's folder, or a .png, .jpg, .json, "
                        ".safetensors or .pt file",
                        path);
    char *found = NULL; /* a name in the hub's cache */
    FCT_TRY(fct_model_find(&found, path));
    fct_status st = info_model(c, found);
    fct_free(found);
    return st;
}

const fct_cli_command fct_cmd_info = {
    .name = "info",
    .summary = "tell what a folder or file is: model, SAE, store, picture, tensors",
    .examples = "facet info stars.png\nfacet info store",
    .operand = {{.name = "PATH", .help = "a folder or file, or a hub name"}},
    .options = {fct_cli_common},
    .run = run,
};

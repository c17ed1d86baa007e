/* features.c - `facet features look` and `top`: shows the strongest features of a picture, and the
   strongest pictures of a feature. */
#include <inttypes.h>
#include <string.h>

#include "cli/cmd/run.h"
#include "facet/index.h"
#include "facet/store.h"

/* ---- writing a folder of pictures and a table beside them ---- */

static fct_status write_table(const char *dir, const char *name, const json_t *table)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, dir, name));
    fct_status st = fct_json_write(table, path);
    fct_free(path);
    return st;
}

/* ---- look ---- */

static fct_status look_features(fct_cli *c, const fct_look_block *b, const char *dir, json_t *list)
{
    for (int64_t i = 0; i < b->n_features; i++) {
        const fct_feature_map *f = &b->feature[i];
        char *name = NULL;
        FCT_TRY(fct_format(&name, "%s-%02" PRId64 "-feature-%" PRId64 ".png", b->block->short_name,
                           i + 1, f->feature));
        fct_status st = dir ? fct_cli_image_write(&b->overlay[i], dir, name) : FCT_OK;
        json_t *o = json_pack("{s:I, s:f, s:f, s:f, s:o}", "feature", (json_int_t)f->feature,
                              "mean", (double)f->mean, "max", (double)f->max, "share",
                              (double)f->share, "map", fct_cli_map_json(f->map, f->h, f->w));
        if (dir && o) json_object_set_new(o, "overlay", json_string(name));
        if (st == FCT_OK && json_array_append_new(list, o) != 0)
            st = fct_fail(FCT_ERR_MEMORY, "out of memory for the table");
        fct_free(name);
        FCT_TRY(st);
        fct_cli_say(c, "%-12s %8" PRId64 "  mean %8.4f  max %8.4f  in %3.0f %% of the cells",
                    b->block->short_name, f->feature, (double)f->mean, (double)f->max,
                    100 * (double)f->share);
    }
    return FCT_OK;
}

static fct_status look_report(fct_cli *c, const fct_look *look, const char *dir)
{
    json_t *blocks = json_object();
    fct_cli_put(c, "blocks", blocks);
    if (dir) FCT_TRY(fct_cli_image_write(look->picture, dir, "picture.png"));
    for (int64_t i = 0; i < look->n_blocks; i++) {
        json_t *list = json_array();
        json_object_set_new(blocks, look->block[i].block->short_name, list);
        FCT_TRY(look_features(c, &look->block[i], dir, list));
    }
    if (!dir) return FCT_OK;
    FCT_TRY(write_table(dir, "look.json", fct_cli_result(c)));
    fct_cli_note(c, "maps over the picture: %s", dir);
    return FCT_OK;
}

static fct_status check_look_dir(fct_cli *c, const char *dir, const char *path)
{
    char *picture = NULL;
    FCT_TRY(fct_path_join(&picture, dir, "picture.png"));
    fct_status st = fct_cli_check_apart(c, "output", picture, path, "the picture to look at");
    fct_free(picture);
    return st == FCT_OK ? fct_cli_check_dir(dir) : st;
}

static fct_status run_look(fct_cli *c)
{
    fct_status st = FCT_OK;
    fct_recipe recipe = {0};
    fct_model *model = NULL;
    fct_session *session = NULL;
    fct_sae_set saes = {0};
    fct_look look = {0};
    const char *dir = fct_cli_text(c, "output"), *path = fct_cli_operand_at(c, 0);
    if (dir) FCT_TRY(check_look_dir(c, dir, path));
    FCT_TRY_OUT(fct_recipe_read(&recipe, path));
    FCT_TRY_OUT(fct_cli_recipe_model(&model, c, &recipe, false));
    FCT_TRY_OUT(fct_cli_recipe_saes(&saes, c, model, &recipe, path));
    FCT_TRY_OUT(fct_cli_need_saes(c, &saes));
    FCT_TRY_OUT(fct_cli_recipe_check(c, &recipe, model, &saes, path));
    fct_look_desc desc = {.recipe = &recipe,
                          .top = fct_cli_i64(c, "top"),
                          .step = fct_cli_i64(c, "step"),
                          .overlays = dir != NULL,
                          .log = fct_cli_log(c)};
    FCT_TRY_OUT(fct_cli_session_open(&session, c, model));
    FCT_TRY_OUT(fct_look_run(&look, session, &saes, &desc));
    if (dir) FCT_TRY_OUT(fct_dir_make(dir));
    FCT_TRY_OUT(look_report(c, &look, dir));
out:
    fct_look_clear(&look);
    fct_sae_set_clear(&saes);
    fct_session_close(session);
    fct_model_close(model);
    fct_recipe_clear(&recipe);
    return st;
}

#define STEP_ROW                                                                    \
    {                                                                               \
        .name = "step", .kind = FCT_CLI_INT, .value = "N", .lo = 1, .hi = 1000,     \
        .otherwise = "the mean over all steps", .help = "denoising step to look at" \
    }
#define SAE_ROW                                                                    \
    {                                                                              \
        .name = "sae", .kind = FCT_CLI_TEXT, .value = "[BLOCK=]DIR", .many = true, \
        .help = "an SAE, or a folder with one a block; repeatable"                 \
    }

static const fct_cli_option look_options[] = {
    SAE_ROW,
    {.name = "top",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "10",
     .lo = 1,
     .hi = 10000,
     .help = "features a block"},
    STEP_ROW,
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FOLDER,
     .value = "DIR",
     .help = "also write the picture with every map over it, and look.json"},
    {0}};

const fct_cli_command fct_cmd_features_look = {
    .name = "features look",
    .summary = "rank the strongest features of a picture, block by block",
    .text =
        "The recipe runs again while the blocks are watched. Features are ranked by the mean "
        "of their map over the grid. A block's delta is read before it is edited, so an edit of a "
        "block shows in the blocks after it and not in its own. DIR/picture.png carries the "
        "recipe of this run.",
    .examples = "facet features look stars.png --sae out/demo/saes -o look",
    .operand = {{.name = "PICTURE",
                 .help = "a PNG made by facet, or a recipe; - is standard input",
                 .stream = true}},
    .options = {look_options, fct_cli_instrument, fct_cli_common},
    .run = run_look,
};

/* ---- top ---- */

typedef struct top_job {
    fct_cli *c;
    fct_model *model;
    fct_session *session;
    fct_sae_set saes;
    fct_prompts prompts;
    fct_block_feature *feature;
    int64_t n_features;
    fct_top top;
    const char *dir;
} top_job;

static fct_status top_example(top_job *j, const fct_top_feature *f, int64_t i, json_t *list)
{
    const fct_top_example *e = &f->example[i];
    const char *block = f->feature.block->short_name;
    char *picture = NULL, *overlay = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(
        fct_format(&picture, "%s-%" PRId64 "-%02" PRId64 ".png", block, f->feature.feature, i + 1));
    FCT_TRY_OUT(fct_format(&overlay, "%s-%" PRId64 "-%02" PRId64 "-map.png", block,
                           f->feature.feature, i + 1));
    if (j->dir) FCT_TRY_OUT(fct_cli_image_write(e->picture, j->dir, picture));
    if (j->dir) FCT_TRY_OUT(fct_cli_image_write(e->overlay, j->dir, overlay));
    json_t *o =
        json_pack("{s:I, s:s, s:I, s:f, s:f, s:f, s:o}", "number", (json_int_t)e->prompt, "prompt",
                  j->prompts.item[e->prompt].text, "seed", (json_int_t)e->seed, "mean",
                  (double)e->map.mean, "max", (double)e->map.max, "share", (double)e->map.share,
                  "map", fct_cli_map_json(e->map.map, e->map.h, e->map.w));
    if (j->dir && o) json_object_set_new(o, "picture", json_string(picture));
    if (j->dir && o) json_object_set_new(o, "overlay", json_string(overlay));
    if (json_array_append_new(list, o) != 0)
        st = fct_fail(FCT_ERR_MEMORY, "out of memory for the table");
    fct_cli_say(j->c, "%s:%" PRId64 "  mean %8.4f  seed %" PRIu64 "  %s", block, f->feature.feature,
                (double)e->map.mean, e->seed, j->prompts.item[e->prompt].text);
out:
    fct_free(picture);
    fct_free(overlay);
    return st;
}

/* Pictures above, their maps below. */
static fct_status top_sheet(const top_job *j, const fct_top_feature *f)
{
    const fct_image **cell = NULL;
    fct_image sheet = {0};
    char *name = NULL;
    int64_t n = f->n_examples;
    if (n == 0) return FCT_OK;
    FCT_TRY(fct_new(&cell, 2 * n, (int64_t)sizeof *cell));
    for (int64_t i = 0; i < n; i++) {
        cell[i] = f->example[i].picture;
        cell[n + i] = f->example[i].overlay;
    }
    fct_status st =
        fct_draw_grid(&sheet, &(fct_draw_grid_desc){.cell = cell, .n = 2 * n, .columns = n});
    if (st == FCT_OK)
        st = fct_format(&name, "%s-%" PRId64 ".png", f->feature.block->short_name,
                        f->feature.feature);
    if (st == FCT_OK) st = fct_cli_image_write(&sheet, j->dir, name);
    fct_image_clear(&sheet);
    fct_free(name);
    fct_free(cell);
    return st;
}

static fct_status top_report(top_job *j)
{
    json_t *all = json_array();
    fct_cli_put(j->c, "features", all);
    for (int64_t i = 0; i < j->top.n_features; i++) {
        const fct_top_feature *f = &j->top.feature[i];
        json_t *o = json_object(), *list = json_array();
        json_object_set_new(o, "block", json_string(f->feature.block->short_name));
        json_object_set_new(o, "feature", json_integer(f->feature.feature));
        json_object_set_new(o, "examples", list);
        json_array_append_new(all, o);
        if (f->n_examples == 0)
            fct_cli_say(j->c, "%s:%" PRId64 "  active in none of the pictures",
                        f->feature.block->short_name, f->feature.feature);
        for (int64_t e = 0; e < f->n_examples; e++) FCT_TRY(top_example(j, f, e, list));
        if (j->dir) FCT_TRY(top_sheet(j, f));
    }
    return j->dir ? write_table(j->dir, "top.json", fct_cli_result(j->c)) : FCT_OK;
}

static fct_status top_prepare(top_job *j)
{
    fct_cli *c = j->c;
    j->dir = fct_cli_text(c, "output");
    if (j->dir) FCT_TRY(fct_cli_check_dir(j->dir));
    j->n_features = fct_cli_count(c, "feature");
    for (int64_t i = 0; i < j->n_features; i++)
        FCT_TRY(fct_cli_check_feature(c, fct_cli_text_at(c, "feature", i)));
    FCT_TRY(fct_prompts_read(&j->prompts, fct_cli_text(c, "prompts")));
    FCT_TRY(fct_cli_model_open(&j->model, c, j->dir == NULL));
    FCT_TRY(fct_cli_saes_open(&j->saes, c, j->model));
    FCT_TRY(fct_cli_need_saes(c, &j->saes));
    FCT_TRY(fct_new(&j->feature, j->n_features, (int64_t)sizeof *j->feature));
    for (int64_t i = 0; i < j->n_features; i++)
        FCT_TRY(fct_feature_parse(&j->feature[i], j->model, &j->saes,
                                  fct_cli_text_at(c, "feature", i)));
    return FCT_OK;
}

static fct_status run_top(fct_cli *c)
{
    top_job j = {.c = c};
    fct_status st = FCT_OK;
    fct_settings settings = {0};
    FCT_TRY_OUT(top_prepare(&j));
    FCT_TRY_OUT(fct_cli_read(&settings, c, fct_settings_table));
    fct_top_desc desc = {.feature = j.feature,
                         .n_features = j.n_features,
                         .prompts = j.prompts.item,
                         .n_prompts = j.prompts.n,
                         .settings = &settings,
                         .top = fct_cli_i64(c, "top"),
                         .batch = fct_cli_i64(c, "batch"),
                         .no_pictures = j.dir == NULL,
                         .log = fct_cli_log(c)};
    FCT_TRY_OUT(fct_cli_session_open(&j.session, c, j.model));
    FCT_TRY_OUT(fct_top_run(&j.top, j.session, &j.saes, &desc));
    if (j.dir) FCT_TRY_OUT(fct_dir_make(j.dir));
    FCT_TRY_OUT(top_report(&j));
out:
    fct_top_clear(&j.top);
    fct_free(j.feature);
    fct_prompts_clear(&j.prompts);
    fct_sae_set_clear(&j.saes);
    fct_session_close(j.session);
    fct_model_close(j.model);
    return st;
}

static const fct_cli_option top_options[] = {
    {.name = "feature",
     .kind = FCT_CLI_TEXT,
     .value = "BLOCK:N",
     .many = true,
     .required = true,
     .help = "the feature; several are found in one pass; repeatable"},
    {.name = "prompts",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .required = true,
     .stream = true,
     .help = "prompts to search, as for facet capture; - is standard input"},
    SAE_ROW,
    {.name = "top",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "9",
     .lo = 1,
     .hi = 10000,
     .help = "pictures a feature"},
    {.name = "seed",
     .table = fct_settings_table,
     .help = "prompt number i, from 0, has seed N + i where the file gives it none"},
    {.name = "width", .letter = 'W', .table = fct_settings_table},
    {.name = "height", .letter = 'H', .table = fct_settings_table},
    {.name = "steps", .table = fct_settings_table},
    {.name = "guidance", .table = fct_settings_table},
    {.name = "negative", .letter = 'n', .table = fct_settings_table},
    {.name = "batch",
     .letter = 'b',
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "8",
     .lo = 1,
     .hi = 256,
     .help = "prompts in one run"},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FOLDER,
     .value = "DIR",
     .help = "also write the pictures, their maps, a sheet a feature, and top.json"},
    {0}};

const fct_cli_command fct_cmd_features_top = {
    .name = "features top",
    .summary = "find the pictures in which a feature is strongest",
    .text = "Each picture carries its recipe: the batch of prompts that it was made in, so that "
            "generate --recipe makes it again to the same pixels. Maps and sheets carry none.",
    .examples = "facet features top --feature up.0.1:12 --prompts models/demo/prompts/heldout.txt "
                "--sae out/demo/saes -o top",
    .options = {top_options, fct_cli_instrument, fct_cli_common},
    .run = run_top,
};

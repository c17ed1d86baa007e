/* features_icon.c - `facet features icon` and `contrast`: shows what a feature draws alone, and
   which features tell two runs apart. */
#include <inttypes.h>
#include <string.h>

#include "cli/cmd/run.h"
#include "facet/index.h"

#define SAE_ROW                                                                    \
    {                                                                              \
        .name = "sae", .kind = FCT_CLI_TEXT, .value = "[BLOCK=]DIR", .many = true, \
        .help = "an SAE, or a folder with one a block; repeatable"                 \
    }

/* ---- icon ---- */

static fct_status icon_write(fct_cli *c, const fct_icon *icon, const char *out)
{
    const fct_image **cell = NULL;
    fct_image sheet = {0};
    FCT_TRY(fct_new(&cell, 2 * icon->n, (int64_t)sizeof *cell));
    for (int64_t i = 0; i < icon->n; i++) {
        cell[i] = &icon->icon[i];
        cell[icon->n + i] = &icon->clean[i];
    }
    fct_status st = fct_draw_grid(
        &sheet, &(fct_draw_grid_desc){.cell = cell, .n = 2 * icon->n, .columns = icon->n});
    for (int64_t i = 0; i < icon->icon[0].n_text && st == FCT_OK; i++)
        st = fct_image_set_text(&sheet, icon->icon[0].text[2 * i], icon->icon[0].text[2 * i + 1]);
    if (st == FCT_OK) st = fct_png_write(&sheet, out);
    if (st == FCT_OK && strcmp(out, "-") != 0)
        fct_cli_say(c, "%s: above the feature alone, below the empty prompt as it is", out);
    if (st == FCT_OK) fct_cli_put(c, "picture", json_string(out));
    fct_image_clear(&sheet);
    fct_free(cell);
    return st;
}

static fct_status run_icon(fct_cli *c)
{
    fct_status st = FCT_OK;
    fct_model *model = NULL;
    fct_session *session = NULL;
    fct_sae_set saes = {0};
    fct_icon icon = {0};
    fct_settings settings = {0};
    uint64_t *seeds = NULL;
    const char *out = fct_cli_text(c, "output");
    int64_t n = fct_cli_i64(c, "count");
    if (fct_cli_json(c) && strcmp(out, "-") == 0)
        return fct_cli_usage(c, "--output - and --json both write to standard output");
    FCT_TRY_OUT(fct_cli_check_feature(c, fct_cli_operand_at(c, 0)));
    FCT_TRY_OUT(fct_cli_check_picture(c, out));
    FCT_TRY_OUT(fct_new(&seeds, n, (int64_t)sizeof *seeds));
    for (int64_t i = 0; i < n; i++) seeds[i] = (uint64_t)i;
    FCT_TRY_OUT(fct_cli_read(&settings, c, fct_settings_table));
    FCT_TRY_OUT(fct_cli_model_open(&model, c, false));
    FCT_TRY_OUT(fct_cli_saes_open(&saes, c, model));
    FCT_TRY_OUT(fct_cli_need_saes(c, &saes));
    fct_icon_desc desc = {.strength = fct_cli_f64(c, "strength"),
                          .unit = (fct_edit_unit)fct_cli_choice(c, "unit"),
                          .seeds = seeds,
                          .n_seeds = n,
                          .settings = &settings};
    FCT_TRY_OUT(fct_feature_parse(&desc.feature, model, &saes, fct_cli_operand_at(c, 0)));
    FCT_TRY_OUT(fct_cli_session_open(&session, c, model));
    FCT_TRY_OUT(fct_icon_run(&icon, session, &saes, &desc));
    fct_cli_put(c, "block", json_string(desc.feature.block->short_name));
    fct_cli_put(c, "feature", json_integer(desc.feature.feature));
    fct_cli_put(c, "strength", json_real(desc.strength));
    fct_cli_put(c, "seed", json_integer((json_int_t)settings.seed));
    fct_cli_put(c, "count", json_integer(n));
    FCT_TRY_OUT(icon_write(c, &icon, out));
out:
    fct_icon_clear(&icon);
    fct_sae_set_clear(&saes);
    fct_session_close(session);
    fct_model_close(model);
    fct_free(seeds);
    return st;
}

static const fct_cli_option icon_options[] = {
    SAE_ROW,
    {.name = "strength",
     .kind = FCT_CLI_FLOAT,
     .value = "V",
     .fallback = "1",
     .lo = 0,
     .above = true,
     .hi = 10000,
     .help = "how strongly, times k times the unit"},
    {.name = "unit",
     .kind = FCT_CLI_CHOICE,
     .value = "UNIT",
     .choices = "mean,std,max,one",
     .fallback = "mean",
     .help = "the feature's statistic that strength multiplies"},
    {.name = "seed", .table = fct_settings_table, .help = "first seed"},
    {.name = "count",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "3",
     .lo = 1,
     .hi = 64,
     .help = "seeds, one after the other"},
    {.name = "width", .letter = 'W', .table = fct_settings_table},
    {.name = "height", .letter = 'H', .table = fct_settings_table},
    {.name = "steps", .table = fct_settings_table},
    {.name = "guidance", .table = fct_settings_table},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .fallback = "icon.png",
     .stream = true,
     .help = "the PNG to write; - is standard output"},
    {0}};

const fct_cli_command fct_cmd_features_icon = {
    .name = "features icon",
    .summary = "draw what a feature makes of the empty prompt, alone in its block",
    .text = "The PNG is a sheet, a column a seed; it carries the recipe of its first icon.",
    .examples = "facet features icon up.0.1:12 --sae out/demo/saes -o icon.png",
    .operand = {{.name = "BLOCK:N", .help = "the feature"}},
    .options = {icon_options, fct_cli_instrument, fct_cli_common},
    .run = run_icon,
};

/* ---- contrast ---- */

typedef struct contrast_job {
    fct_cli *c;
    fct_recipe a, b;
    fct_mask mask_a, mask_b;
    fct_model *model;
    fct_session *session;
    fct_sae_set saes;
    fct_contrast contrast;
} contrast_job;

static fct_status read_mask(fct_cli *c, const char *option, fct_mask *out)
{
    const char *text = fct_cli_text(c, option);
    if (!text) return FCT_OK;
    fct_status st = fct_mask_parse(out, text);
    if (st == FCT_OK) return fct_mask_load(out, NULL);
    char *why = NULL;
    FCT_TRY(fct_strdup(&why, fct_error_text()));
    st = fct_cli_usage(c, "--%s: %s", option, why);
    fct_free(why);
    return st;
}

static fct_status say_rows(contrast_job *j)
{
    const fct_contrast *k = &j->contrast;
    int64_t top = fct_cli_i64(j->c, "top");
    json_t *list = json_array();
    fct_cli_put(j->c, "active", json_integer(k->n));
    fct_cli_put(j->c, "rows", list);
    for (int64_t i = 0; i < k->n; i++) {
        if (i >= top && i < k->n - top) continue; /* the middle tells nothing */
        const fct_contrast_row *r = &k->row[i];
        fct_cli_say(j->c, "%+.5f  %-12s %8" PRId64 "  A %9.5f  B %9.5f", r->score,
                    r->block->short_name, r->feature, r->mean_a, r->mean_b);
        json_t *o = json_pack("{s:s, s:I, s:f, s:f, s:f}", "block", r->block->short_name, "feature",
                              (json_int_t)r->feature, "score", r->score, "mean_a", r->mean_a,
                              "mean_b", r->mean_b);
        if (json_array_append_new(list, o) != 0)
            return fct_fail(FCT_ERR_MEMORY, "out of memory for the table");
    }
    return FCT_OK;
}

static fct_status write_transport(contrast_job *j, const fct_contrast_desc *desc, const char *out)
{
    fct_recipe r = {0};
    fct_transport_desc t = {.n_add = fct_cli_i64(j->c, "add"),
                            .n_remove = fct_cli_i64(j->c, "remove"),
                            .strength = fct_cli_f64(j->c, "strength")};
    FCT_TRY(fct_contrast_recipe(&r, j->model, &j->saes, &j->contrast, desc, &t));
    fct_status st = fct_recipe_write(&r, out);
    fct_recipe_clear(&r);
    FCT_TRY(st);
    fct_cli_put(j->c, "recipe", json_string(out));
    fct_cli_note(j->c, "the transport: facet generate --recipe %s", out);
    return FCT_OK;
}

/* The recipe is JSON, and the pictures that it comes from stay. */
static fct_status check_transport(fct_cli *c, const char *out, const char *a, const char *b)
{
    if (fct_cli_is_picture(out))
        return fct_cli_usage(c, "--output %s: what is written is a recipe; name it .json", out);
    FCT_TRY(fct_cli_check_apart(c, "output", out, a, "A"));
    FCT_TRY(fct_cli_check_apart(c, "output", out, b, "B"));
    return fct_cli_check_out(out);
}

static fct_status run_contrast(fct_cli *c)
{
    contrast_job j = {.c = c};
    fct_status st = FCT_OK;
    const char *out = fct_cli_text(c, "output"), *a = fct_cli_operand_at(c, 0),
               *b = fct_cli_operand_at(c, 1);
    if (out) FCT_TRY_OUT(check_transport(c, out, a, b));
    FCT_TRY_OUT(read_mask(c, "mask-a", &j.mask_a));
    FCT_TRY_OUT(read_mask(c, "mask-b", &j.mask_b));
    FCT_TRY_OUT(fct_recipe_read(&j.a, a));
    FCT_TRY_OUT(fct_recipe_read(&j.b, b));
    FCT_TRY_OUT(fct_cli_recipe_model(&j.model, c, &j.b, false));
    FCT_TRY_OUT(fct_cli_recipe_saes(&j.saes, c, j.model, &j.b, b));
    FCT_TRY_OUT(fct_cli_recipe_saes_add(&j.saes, j.model, &j.a, a));
    FCT_TRY_OUT(fct_cli_need_saes(c, &j.saes));
    if (out) FCT_TRY_OUT(fct_contrast_check(j.model, &j.a, &j.b));
    FCT_TRY_OUT(fct_cli_recipe_check(c, &j.a, j.model, &j.saes, a));
    FCT_TRY_OUT(fct_cli_recipe_check(c, &j.b, j.model, &j.saes, b));
    fct_contrast_desc desc = {.a = &j.a,
                              .b = &j.b,
                              .mask_a = fct_cli_given(c, "mask-a") ? &j.mask_a : NULL,
                              .mask_b = fct_cli_given(c, "mask-b") ? &j.mask_b : NULL,
                              .step = fct_cli_i64(c, "step"),
                              .log = fct_cli_log(c)};
    FCT_TRY_OUT(fct_cli_session_open(&j.session, c, j.model));
    FCT_TRY_OUT(fct_contrast_run(&j.contrast, j.session, &j.saes, &desc));
    FCT_TRY_OUT(say_rows(&j));
    if (out) FCT_TRY_OUT(write_transport(&j, &desc, out));
out:
    fct_contrast_clear(&j.contrast);
    fct_sae_set_clear(&j.saes);
    fct_session_close(j.session);
    fct_model_close(j.model);
    fct_recipe_clear(&j.b);
    fct_recipe_clear(&j.a);
    fct_mask_clear(&j.mask_b);
    fct_mask_clear(&j.mask_a);
    return st;
}

static const fct_cli_option contrast_options[] = {
    SAE_ROW,
    {.name = "mask-a",
     .kind = FCT_CLI_TEXT,
     .value = "MASK",
     .otherwise = "everywhere",
     .help = "part of A that counts: @file.png, @box:x0,y0,x1,y1 or @ellipse:x0,y0,x1,y1"},
    {.name = "mask-b",
     .kind = FCT_CLI_TEXT,
     .value = "MASK",
     .otherwise = "everywhere",
     .help = "part of B that counts"},
    {.name = "step",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 1000,
     .otherwise = "the mean over all steps",
     .help = "denoising step to look at"},
    {.name = "top",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "10",
     .lo = 1,
     .hi = 1000000,
     .help = "rows from either end of the table"},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .help = "write B's recipe with A's features brought over"},
    {.name = "add",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "5",
     .lo = 0,
     .hi = 10000,
     .help = "in the recipe: strongest features of A to bring"},
    {.name = "remove",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "5",
     .lo = 0,
     .hi = 10000,
     .help = "in the recipe: strongest features of B to take out"},
    {.name = "strength",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .fallback = "1",
     .lo = 0,
     .above = true,
     .hi = 10000,
     .help = "in the recipe: strength of what is brought"},
    {0}};

const fct_cli_command fct_cmd_features_contrast = {
    .name = "features contrast",
    .summary = "rank the features that tell two pictures apart; write the transport",
    .text = "score = mean in A / sum of all means in A - the same of B, over the codes of all "
            "blocks that have an SAE. Both run in B's model. A block's delta is read before it is "
            "edited, so an edit of a block shows in the blocks after it and not in its own. A "
            "transport needs A and B of one model, size and number of steps.",
    .examples =
        "facet features contrast stars.png circles.png --sae out/demo/saes -o transport.json",
    .operand = {{.name = "A", .help = "a PNG made by facet, or a recipe"},
                {.name = "B", .help = "another one"}},
    .options = {contrast_options, fct_cli_instrument, fct_cli_common},
    .run = run_contrast,
};

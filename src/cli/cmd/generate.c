/* generate.c - `facet generate`: makes pictures from a prompt or a recipe, with edits. Every
   PNG carries its recipe, and a PNG given as --recipe is made again, to the same pixels.
   Options beside a recipe change what they name and leave the rest. */
#include <inttypes.h>
#include <string.h>

#include "cli/cmd/run.h"

typedef struct job {
    fct_cli *c;
    const char *out, *latents, *recipe_path;
    char *prompt;      /* read from stdin, when asked for */
    fct_recipe recipe; /* read from a file; empty otherwise */
    fct_model *model;
    fct_session *session;
    fct_sae_set saes;
    fct_run_item *item;
    fct_edit *edit; /* the recipe's, then those of the options */
    int64_t n_edits;
    fct_settings settings; /* its texts are the recipe's and the options' */
    fct_run_desc desc;
    fct_run_result result;
} job;

/* ---- wrong use, before anything is loaded ---- */

/* What is written must not fall on what is read, nor on the other thing that is written. */
static fct_status check_names(job *j)
{
    fct_cli *c = j->c;
    FCT_TRY(fct_cli_check_picture(c, j->out));
    if (j->recipe_path && !fct_has_suffix(j->recipe_path, ".png"))
        FCT_TRY(fct_cli_check_apart(c, "output", j->out, j->recipe_path, "the recipe"));
    if (!j->latents) return FCT_OK;
    if (fct_cli_is_picture(j->latents))
        return fct_cli_usage(c, "--save-latents %s: latents are no picture; name a .safetensors",
                             j->latents);
    FCT_TRY(fct_cli_check_apart(c, "save-latents", j->latents, j->out, "the picture"));
    if (j->recipe_path)
        FCT_TRY(fct_cli_check_apart(c, "save-latents", j->latents, j->recipe_path, "the recipe"));
    return fct_cli_check_out(j->latents);
}

static fct_status check_use(job *j)
{
    fct_cli *c = j->c;
    bool many = fct_cli_i64(c, "batch") > 1;
    j->out = fct_cli_text(c, "output");
    j->latents = fct_cli_text(c, "save-latents");
    j->recipe_path = fct_cli_text(c, "recipe");
    if (!j->recipe_path && !fct_cli_given(c, "prompt"))
        return fct_cli_usage(c, "--prompt TEXT is missing (or --recipe FILE)");
    if (j->recipe_path && fct_cli_given(c, "batch"))
        return fct_cli_usage(c, "--batch cannot be changed beside --recipe: a recipe stands for "
                                "one picture of its batch");
    if (many && strcmp(j->out, "-") == 0)
        return fct_cli_usage(c, "--output -: %" PRId64 " pictures do not fit into one stream",
                             fct_cli_i64(c, "batch"));
    if (fct_cli_json(c) && strcmp(j->out, "-") == 0)
        return fct_cli_usage(c, "--output - and --json both write to standard output");
    if (j->recipe_path && strcmp(j->recipe_path, "-") == 0 && fct_cli_given(c, "prompt") &&
        strcmp(fct_cli_text(c, "prompt"), "-") == 0)
        return fct_cli_usage(c, "--prompt - and --recipe - both read standard input");
    return check_names(j);
}

static fct_status read_prompt(job *j, const char **out)
{
    *out = fct_cli_text(j->c, "prompt");
    if (!*out || strcmp(*out, "-") != 0) return FCT_OK;
    int64_t n;
    FCT_TRY(fct_file_read(&j->prompt, &n, "-"));
    while (n > 0 && (j->prompt[n - 1] == '\n' || j->prompt[n - 1] == '\r')) j->prompt[--n] = '\0';
    if (!fct_is_utf8(j->prompt)) return fct_cli_usage(j->c, "--prompt -: not UTF-8");
    *out = j->prompt;
    return FCT_OK;
}

/* ---- what is to be made ---- */

static fct_status set_items(job *j)
{
    fct_cli *c = j->c;
    const char *prompt;
    int64_t n = j->recipe_path ? j->recipe.n_items : fct_cli_i64(c, "batch");
    FCT_TRY(read_prompt(j, &prompt));
    FCT_TRY(fct_new(&j->item, n, (int64_t)sizeof *j->item));
    for (int64_t i = 0; i < n; i++) {
        if (j->recipe_path) j->item[i] = j->recipe.item[i];
        if (prompt) j->item[i] = (fct_run_item){.prompt = prompt, .seed = j->item[i].seed};
        if (fct_cli_given(c, "prompt-2")) j->item[i].prompt_2 = fct_cli_text(c, "prompt-2");
        if (!j->recipe_path || fct_cli_given(c, "seed"))
            j->item[i].seed = (uint64_t)fct_cli_i64(c, "seed");
    }
    j->desc.items = j->item;
    j->desc.n_items = n;
    return FCT_OK;
}

/* The recipe's settings, or those of a fresh run; then what the options say. */
static fct_status set_settings(job *j)
{
    if (j->recipe_path)
        j->settings = j->recipe.settings;
    else
        j->settings.joint_noise = true; /* one draw for the whole batch, as in diffusers */
    FCT_TRY(fct_cli_read(&j->settings, j->c, fct_settings_table));
    j->settings.seed = 0; /* the items' */
    j->desc.settings = &j->settings;
    return FCT_OK;
}

static fct_status set_edits(job *j)
{
    fct_edit *more = NULL;
    int64_t n = 0, old = j->recipe.n_edits;
    fct_status st = fct_cli_edits_read(&more, &n, j->c);
    if (st == FCT_OK) st = fct_new(&j->edit, old + n, (int64_t)sizeof *j->edit);
    for (int64_t i = 0; i < old && st == FCT_OK; i++)
        st = fct_edit_copy(&j->edit[j->n_edits++], &j->recipe.edit[i]);
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        j->edit[j->n_edits++] = more[i];
        more[i] = (fct_edit){0};
    }
    fct_cli_edits_free(more, n);
    return st;
}

static fct_status prepare(job *j)
{
    fct_cli *c = j->c;
    if (j->recipe_path) FCT_TRY(fct_recipe_read(&j->recipe, j->recipe_path));
    FCT_TRY(set_settings(j));
    FCT_TRY(set_items(j));
    FCT_TRY(set_edits(j));
    if (!j->recipe_path) {
        FCT_TRY(fct_cli_model_open(&j->model, c, false));
        FCT_TRY(fct_cli_session_open(&j->session, c, j->model));
        return fct_cli_saes_open(&j->saes, c, j->model);
    }
    FCT_TRY(fct_cli_recipe_model(&j->model, c, &j->recipe, true));
    FCT_TRY(fct_cli_session_open(&j->session, c, j->model));
    FCT_TRY(fct_cli_recipe_saes(&j->saes, c, j->model, &j->recipe, j->recipe_path));
    fct_status st = fct_recipe_check(&j->recipe, j->session, &j->saes);
    if (st == FCT_ERR_MEMORY) return st;
    if (st != FCT_OK)
        fct_log_line(fct_cli_log(c), FCT_LOG_WARN, "this is not what made the picture: %s",
                     fct_error_text());
    return FCT_OK;
}

/* The log shows every number that was chosen for the user. */
static void note_run(const job *j)
{
    const fct_model_info *info = fct_model_get_info(j->model);
    fct_settings s;
    fct_settings_resolve(&s, &j->settings, info);
    int64_t real = fct_model_count_steps(info, s.steps);
    fct_cli_note(j->c,
                 "%" PRId64 "x%" PRId64 ", %" PRId64 " steps, guidance %g, seed %" PRIu64
                 ", batch %" PRId64 ", %s %s, %d threads",
                 s.width, s.height, s.steps, fct_settings_guidance(&s), j->item[0].seed,
                 j->desc.n_items, info->backend, info->precision, fct_threads());
    if (real != s.steps)
        fct_cli_note(j->c,
                     "%" PRId64 " steps with trailing spacing are %" PRId64 ", as in diffusers",
                     s.steps, real);
}

/* ---- what came of it ---- */

static fct_status save_latents(const job *j)
{
    const fct_named_tensor latents = {"latents", j->result.latents};
    return fct_tensors_write(j->latents, &latents, 1);
}

static fct_status save_picture(job *j, json_t *list, int64_t i, int64_t number, int64_t of)
{
    char *path = NULL;
    fct_recipe recipe = {0};
    const fct_run_result *r = &j->result;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_cli_numbered(&path, j->out, number, of));
    FCT_TRY_OUT(fct_recipe_of_run(&recipe, j->session, &j->desc, j->edit, j->n_edits, &j->saes, i));
    FCT_TRY_OUT(fct_cli_picture_write(&recipe, r->pixels + i * r->width * r->height * 3, r->width,
                                      r->height, path));
    json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "path", path, "seed",
                                          (json_int_t)j->item[i].seed, "index", (json_int_t)i));
    if (strcmp(path, "-") != 0) fct_cli_say(j->c, "%s", path);
out:
    fct_recipe_clear(&recipe);
    fct_free(path);
    return st;
}

static fct_status save(job *j, double seconds)
{
    fct_cli *c = j->c;
    const fct_model_info *info = fct_model_get_info(j->model);
    json_t *list = json_array();
    int64_t n = j->desc.n_items;
    fct_cli_put(c, "pictures", list);
    if (j->latents) FCT_TRY(save_latents(j));
    if (j->recipe_path)
        FCT_TRY(save_picture(j, list, j->recipe.index, 1, 1)); /* the recipe's own, of its batch */
    for (int64_t i = 0; i < n && !j->recipe_path; i++) FCT_TRY(save_picture(j, list, i, i + 1, n));
    fct_cli_put(c, "model", json_string(info->name));
    fct_cli_put(c, "width", json_integer(j->result.width));
    fct_cli_put(c, "height", json_integer(j->result.height));
    fct_cli_put(c, "precision", json_string(info->precision));
    fct_cli_put(c, "seconds", json_real(seconds));
    if (j->latents) fct_cli_put(c, "latents", json_string(j->latents));
    if (j->result.warning) fct_cli_put(c, "warning", json_string(j->result.warning));
    fct_cli_note(c, "%.2f s", seconds);
    return FCT_OK;
}

static fct_status run(fct_cli *c)
{
    job j = {.c = c};
    fct_status st = FCT_OK;
    FCT_TRY_OUT(check_use(&j));
    FCT_TRY_OUT(prepare(&j));
    note_run(&j);
    double start = fct_seconds();
    FCT_TRY_OUT(fct_edit_run(j.session, &j.desc, j.edit, j.n_edits, &j.saes, &j.result));
    FCT_TRY_OUT(save(&j, fct_seconds() - start));
out:
    fct_run_result_clear(&j.result);
    fct_cli_edits_free(j.edit, j.n_edits);
    fct_free(j.item);
    fct_sae_set_clear(&j.saes);
    fct_session_close(j.session);
    fct_model_close(j.model);
    fct_recipe_clear(&j.recipe);
    fct_free(j.prompt);
    return st;
}

static const fct_cli_option options[] = {
    {.name = "prompt",
     .letter = 'p',
     .kind = FCT_CLI_TEXT,
     .value = "TEXT",
     .help = "what to draw; - reads it from standard input"},
    {.name = "negative", .letter = 'n', .table = fct_settings_table},
    {.name = "prompt-2",
     .kind = FCT_CLI_TEXT,
     .value = "TEXT",
     .otherwise = "the prompt",
     .help = "prompt of the second text encoder; \"\" is the prompt too"},
    {.name = "negative-2", .table = fct_settings_table},
    {.name = "seed", .table = fct_settings_table},
    {.name = "width", .letter = 'W', .table = fct_settings_table},
    {.name = "height", .letter = 'H', .table = fct_settings_table},
    {.name = "steps", .table = fct_settings_table},
    {.name = "guidance", .table = fct_settings_table},
    {.name = "batch",
     .letter = 'b',
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "1",
     .lo = 1,
     .hi = 256,
     .help = "pictures in one run, from one draw of noise: out-1.png, out-2.png ..."},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .fallback = "out.png",
     .stream = true,
     .help = "the PNG to write; - is standard output"},
    {.name = "recipe",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .stream = true,
     .help = "make this again: a recipe, or a PNG made by facet; other options change it; - is "
             "standard input"},
    {.name = "save-latents",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .help = "also write the final latents, safetensors, tensor latents [B,C,h,w]"},
    {.name = "noise-dtype", .table = fct_settings_table},
    {.name = "original-size", .table = fct_settings_table},
    {.name = "target-size", .table = fct_settings_table},
    {.name = "crop", .table = fct_settings_table},
    {0}};

const fct_cli_command fct_cmd_generate = {
    .name = "generate",
    .summary = "make pictures from a prompt, with edits of features",
    .text = "Every PNG that it writes carries its recipe: model, prompt, seed, edits. Give it as "
            "--recipe to make it again, or to change a thing about it.\n"
            "Edits: +V paints a feature in units of its mean (-V takes away), xS scales it (x0 "
            "ablates), =V sets it, only V leaves nothing else, "
            "BLOCK rebuild, BLOCK zero, BLOCK from RECIPE:FEATURES xS. Masks: @file.png (or .jpg) "
            "@box:x0,y0,x1,y1 @ellipse:x0,y0,x1,y1 @map:FEATURE>T; a path with spaces: @\"my "
            "mask.png\".",
    .examples =
        "facet generate -p \"two large striped blue stars at night\" --seed 7 -o stars.png\n"
        "facet generate --recipe stars.png -o again.png\n"
        "facet generate -p \"a star\" --sae out/demo/saes --edit \"up.0.1:12 +4 "
        "@ellipse:0.2,0.2,0.8,0.8\" -o painted.png",
    .options = {options, fct_cli_edits, fct_cli_model, fct_cli_common},
    .run = run,
};

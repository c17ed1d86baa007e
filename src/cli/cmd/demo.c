/* demo.c - `facet demo`: captures, trains, and tests features on the model that facet carries, and
   ends in a page of evidence. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "facet/eval.h"
#include "report/truth_page.h"

/* What an earlier run left says nothing about this one until the page is written again. */
static fct_status remove_page(const char *dir)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, dir, "index.html"));
    fct_status st = fct_file_remove(path);
    fct_free(path);
    return st;
}

static fct_status open_model(fct_model **out, const fct_cli *c)
{
    char *path = NULL;
    FCT_TRY(fct_model_find(&path, fct_cli_text(c, "model")));
    fct_model_desc desc = {.path = path,
                           .backend = fct_cli_text(c, "backend"),
                           .precision = FCT_PRECISION_F32,
                           .log = fct_cli_log(c)};
    fct_status st = fct_model_open(out, &desc);
    fct_free(path);
    return st;
}

/* What painting the block's best card does beyond a random direction. */
static double gain_of(const fct_truth_block *b)
{
    const fct_truth_card *c = &b->card[b->best_card];
    return c->share[FCT_TRUTH_PAINTED] - c->share[FCT_TRUTH_DIRECTION];
}

/* What to try next: a feature that was found to do something, if there is one. */
static void say_next(fct_cli *c, const fct_truth_result *r, const char *dir)
{
    const fct_truth_block *best = &r->block[FCT_TRUTH_BLOCKS - 1];
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        const fct_truth_block *b = &r->block[i];
        if (b->best_card < 0) continue;
        if (best->best_card < 0 || gain_of(b) > gain_of(best)) best = b;
    }
    const fct_truth_card *card = best->best_card >= 0 ? &best->card[best->best_card] : NULL;
    fct_cli_say(c, "see       %s/index.html", dir);
    fct_cli_say(
        c,
        "paint     facet generate -p \"a shape\" --seed 7 --sae %s/saes --edit \"%s:%" PRId64
        " +%.0f\" -o painted.png",
        dir, best->name, card ? card->feature : 0, card && card->strength > 0 ? card->strength : 4);
    fct_cli_say(c, "look      facet features look %s/pictures/show-0.png --sae %s/saes -o look",
                dir, dir);
}

static fct_status put_summary(fct_cli *c, const fct_truth *t)
{
    char *text = NULL;
    json_t *summary = NULL;
    FCT_TRY(fct_truth_summary(&text, t));
    fct_status st = fct_json_parse(&summary, text, (int64_t)strlen(text), "the summary");
    if (st == FCT_OK) fct_cli_put(c, "summary", summary);
    fct_free(text);
    return st;
}

static fct_status run_protocol(fct_cli *c, fct_truth *t, const char *dir)
{
    const fct_truth_result *r = fct_truth_get_result(t);
    FCT_TRY(remove_page(dir));
    FCT_TRY(fct_truth_run(t));
    FCT_TRY(truth_page_write(r, dir));
    FCT_TRY(put_summary(c, t));
    fct_cli_note(c, "%" PRId64 " pictures, %.0f s", r->pictures, r->seconds);
    fct_cli_put(c, "page", json_sprintf("%s/index.html", dir));
    fct_cli_put(c, "seconds", json_real(r->seconds));
    say_next(c, r, dir);
    return FCT_OK;
}

static fct_status run(fct_cli *c)
{
    fct_status st = FCT_OK;
    fct_model *model = NULL;
    fct_truth *truth = NULL;
    const char *dir = fct_cli_text(c, "output");
    FCT_TRY_OUT(fct_cli_check_dir(dir));
    FCT_TRY_OUT(open_model(&model, c));
    FCT_TRY_OUT(fct_truth_open(&truth, &(fct_truth_desc){.model = model,
                                                         .out = dir,
                                                         .seed = (uint64_t)fct_cli_i64(c, "seed"),
                                                         .quick = fct_cli_flag(c, "quick"),
                                                         .log = fct_cli_log(c)}));
    FCT_TRY_OUT(run_protocol(c, truth, dir));
out:
    fct_truth_close(truth);
    fct_model_close(model);
    return st;
}

static const fct_cli_option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FOLDER,
     .value = "DIR",
     .fallback = "out/demo",
     .help = "folder for the page and all that it rests on"},
    {.name = "seed",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "0",
     .lo = 0,
     .hi = 1e9,
     .help = "seed of all pictures, of training and of what is drawn"},
    {.name = "model",
     .letter = 'm',
     .kind = FCT_CLI_TEXT,
     .value = "MODEL",
     .otherwise = "the demo model",
     .help = "a model with a world and a checker"},
    {.name = "backend",
     .kind = FCT_CLI_CHOICE,
     .value = "NAME",
     .choices = "cpu,ref",
     .fallback = "cpu",
     .help = "what computes"},
    {.name = "quick",
     .kind = FCT_CLI_FLAG,
     .help = "a small rough pass, to see that everything runs: its figures mean little"},
    {0}};

const fct_cli_command fct_cmd_demo = {
    .name = "demo",
    .summary = "learn features of the demo model and write a page of evidence",
    .text =
        "Makes pictures with the small model that facet carries, captures what four blocks write, "
        "trains a sparse autoencoder for each, and writes a "
        "folder with SAEs, pictures that carry their recipes, index.html and summary.json. The "
        "page shows, with controls, whether the features mean "
        "something, whether they cause what they show, and whether the blocks differ, on captions "
        "and seeds that neither the SAEs nor the choice of "
        "features saw. An interrupted run goes on with its captures; index.html is written last.",
    .examples = "facet demo -o out/demo",
    .options = {options, fct_cli_common},
    .run = run,
};

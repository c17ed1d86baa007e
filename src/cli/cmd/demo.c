/* demo.c - `facet demo`: the whole road on the model that facet carries, ending in a page of
 * evidence. */
#include <inttypes.h>

#include "cli/demo.h"

/* What an earlier run left says nothing about this one until the page is written again. */
static fct_status prepare(const demo *d)
{
    static const char *const stale[] = {"index.html", "summary.json"};
    static const char *const folders[] = {"pictures", "saes", "controls"};
    for (size_t i = 0; i < FCT_COUNT(stale) + FCT_COUNT(folders); i++) {
        bool file = i < FCT_COUNT(stale);
        char *path = NULL;
        FCT_TRY(fct_path_join(&path, d->dir, file ? stale[i] : folders[i - FCT_COUNT(stale)]));
        fct_status st = file ? fct_file_remove(path) : fct_dir_make(path);
        fct_free(path);
        FCT_TRY(st);
    }
    return FCT_OK;
}

typedef struct stage {
    const char *what;
    fct_status (*run)(demo *d);
} stage;

static const stage stages[] = {
    {"capturing and training", demo_learn},
    {"choosing features", demo_choose},
    {"interpretable: cards, their strongest pictures, icons", demo_show_cards},
    {"causal: painting words beside random directions", demo_cause},
    {"specialised: blocks zeroed and rebuilt", demo_specialise},
    {"writing the summary", demo_write_summary},
    {"writing the page", demo_write_page},
};

static fct_status make(demo *d)
{
    FCT_TRY(fct_cli_check_dir(d->dir));
    FCT_TRY(demo_open(d));
    FCT_TRY(prepare(d));
    for (size_t i = 0; i < FCT_COUNT(stages); i++) {
        fct_cli_note(d->cli, "%zu/%zu %s (%.0f s so far)", i + 1, FCT_COUNT(stages), stages[i].what,
                     fct_seconds() - d->started);
        FCT_TRY(fct_log_check_stop(d->log));
        FCT_TRY(stages[i].run(d));
    }
    return FCT_OK;
}

/* What to try next: a feature that was found to do something, if there is one. */
static void say_next(const demo *d)
{
    int64_t block = DEMO_BLOCKS - 1;
    for (int64_t b = 0; b < DEMO_BLOCKS; b++) {
        int64_t c = d->block_card[b], now = d->block_card[block];
        if (c < 0) continue;
        double gain =
            d->block[b].card[c].share[DEMO_PAINTED] - d->block[b].card[c].share[DEMO_DIRECTION];
        if (now < 0 || gain > d->block[block].card[now].share[DEMO_PAINTED] -
                                  d->block[block].card[now].share[DEMO_DIRECTION])
            block = b;
    }
    const demo_block *b = &d->block[block];
    int64_t card = d->block_card[block];
    fct_cli_say(d->cli, "see       %s/index.html", d->dir);
    fct_cli_say(
        d->cli,
        "paint     facet generate -p \"a shape\" --seed 7 --sae %s/saes --edit \"%s:%" PRId64
        " +%.0f\" -o painted.png",
        d->dir, b->info->short_name, card >= 0 ? b->card[card].feature : 0,
        card >= 0 && b->card[card].strength > 0 ? b->card[card].strength : 4);
    fct_cli_say(d->cli,
                "look      facet features look %s/pictures/show-0.png --sae %s/saes -o look",
                d->dir, d->dir);
}

static fct_status run(fct_cli *c)
{
    demo *d = NULL;
    fct_memory_keep();
    FCT_TRY(fct_new(&d, 1, sizeof *d));
    *d = (demo){.cli = c,
                .log = fct_cli_log(c),
                .dir = fct_cli_text(c, "output"),
                .seed = (uint64_t)fct_cli_i64(c, "seed"),
                .started = fct_seconds()};
    fct_status st = make(d);
    if (st == FCT_OK) {
        fct_cli_note(c, "%" PRId64 " pictures, %.0f s", demo_runs(d), fct_seconds() - d->started);
        fct_cli_put(c, "page", json_sprintf("%s/index.html", d->dir));
        fct_cli_put(c, "seconds", json_real(fct_seconds() - d->started));
        say_next(d);
    }
    demo_close(d);
    fct_free(d);
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

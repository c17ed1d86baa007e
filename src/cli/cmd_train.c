/* cmd_train.c - `facet train`: an SAE from a store's rows. Checkpoints lie beside the result, in
 * SAE.checkpoint, until it is there. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "facet/store.h"

typedef struct job {
    fct_cli *c;
    const char *out;
    char *checkpoint; /* OUT.checkpoint */
    fct_store *store;
    const fct_store_block *block;
    fct_row_source rows;
    fct_sae *sae;
    fct_train_report report;
    fct_sae_quality quality; /* with held-out rows */
    int64_t held;
} job;

static fct_status check_use(job *j)
{
    fct_cli *c = j->c;
    bool scale_auto = strcmp(fct_cli_text(c, "loss-scale"), "auto") == 0;
    double scale;
    j->out = fct_cli_text(c, "output");
    if (!scale_auto && fct_parse_f64(&scale, fct_cli_text(c, "loss-scale"), 1e-30, 1e30) != FCT_OK)
        return fct_cli_usage(c, "--loss-scale %s: want auto or a number above 0",
                             fct_cli_text(c, "loss-scale"));
    if (fct_cli_given(c, "n-features") && fct_cli_given(c, "expansion-factor"))
        return fct_cli_usage(c, "--n-features and --expansion-factor say the same thing: give one");
    char *path = NULL;
    FCT_TRY(fct_strdup(&path, j->out));
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = '\0';
    fct_status st = fct_format(&j->checkpoint, "%s.checkpoint", path);
    fct_free(path);
    FCT_TRY(st);
    FCT_TRY(fct_cli_check_dir(j->out));
    FCT_TRY(fct_sae_check_place(j->out, FCT_SAE_SAELENS));
    if (!fct_cli_flag(c, "resume") && fct_sae_checkpoint_exists(j->checkpoint))
        return fct_fail(FCT_ERR_ARG,
                        "%s holds an interrupted training: continue it with --resume, or remove it "
                        "to start again",
                        j->checkpoint);
    return FCT_OK;
}

static fct_status open_rows(job *j)
{
    fct_cli *c = j->c;
    int64_t at;
    j->held = fct_cli_i64(c, "hold-out");
    FCT_TRY(fct_store_open(&j->store, fct_cli_text(c, "store")));
    FCT_TRY(fct_store_find_block(&at, j->store, fct_cli_text(c, "block")));
    j->block = &fct_store_get_info(j->store)->block[at];
    if (j->held >= j->block->rows)
        return fct_cli_usage(c, "--hold-out %" PRId64 ": %s has only %" PRId64 " rows", j->held,
                             j->block->name, j->block->rows);
    fct_rows_desc desc = {.block = j->block->name,
                          .seed = (uint64_t)fct_cli_i64(c, "seed"),
                          .n = j->block->rows - j->held,
                          .order = fct_cli_choice(c, "order") == 0 ? FCT_ORDER_SHUFFLED
                                                                   : FCT_ORDER_SEQUENTIAL};
    return fct_store_rows(&j->rows, j->store, &desc);
}

static fct_status train(job *j)
{
    fct_cli *c = j->c;
    const fct_log *log = fct_cli_log(c);
    bool scale_auto = strcmp(fct_cli_text(c, "loss-scale"), "auto") == 0;
    fct_train_desc desc = {.preset = fct_cli_text(c, "preset"),
                           .k = fct_cli_i64(c, "k"),
                           .n_features = fct_cli_i64(c, "n-features"),
                           .expansion_factor = fct_cli_f64(c, "expansion-factor"),
                           .batch_size = fct_cli_i64(c, "batch-size"),
                           .steps = fct_cli_i64(c, "steps"),
                           .dead_rows = fct_cli_i64(c, "dead-rows"),
                           .calibration_rows = fct_cli_i64(c, "calibration-rows"),
                           .lr = fct_cli_f64(c, "lr"),
                           .aux_set = fct_cli_given(c, "aux"),
                           .aux = fct_cli_choice(c, "aux") == 0 ? FCT_AUX_CLEAN : FCT_AUX_AUTHORS,
                           .aux_coef = fct_cli_f64(c, "aux-coef"),
                           .seed = (uint64_t)fct_cli_i64(c, "seed"),
                           .init_from = fct_cli_text(c, "init-from"),
                           .resume = j->checkpoint,
                           .checkpoint_every = fct_cli_i64(c, "checkpoint-every"),
                           .keep_checkpoints = fct_cli_i64(c, "keep-checkpoints"),
                           .log_jsonl = fct_cli_text(c, "log"),
                           .log_every = fct_cli_i64(c, "log-every"),
                           .block = j->block->name,
                           .model = fct_store_get_info(j->store)->model,
                           .model_hash = fct_store_get_info(j->store)->model_hash,
                           .log = log};
    if (fct_cli_given(c, "auxk"))
        desc.auxk = fct_cli_i64(c, "auxk") == 0 ? -1 : fct_cli_i64(c, "auxk"); /* -1: no aux term */
    if (fct_cli_given(c, "aux-coef") && desc.aux_coef == 0)
        desc.auxk = -1; /* 0 means the preset's there */
    if (!scale_auto)
        FCT_TRY(fct_parse_f64(&desc.loss_scale, fct_cli_text(c, "loss-scale"), 1e-30, 1e30));
    FCT_TRY(fct_sae_train(&j->sae, &j->rows, &desc, &j->report));
    FCT_TRY(j->rows.rewind(j->rows.self, 0));
    return fct_sae_measure_stats(j->sae, &j->rows, 0, log);
}

static fct_status measure(job *j)
{
    fct_row_source rows;
    if (j->held == 0) return FCT_OK;
    FCT_TRY(fct_store_rows(&rows, j->store,
                           &(fct_rows_desc){.block = j->block->name,
                                            .first = j->block->rows - j->held,
                                            .n = j->held}));
    fct_status st = fct_sae_measure_quality(j->sae, &rows, 0, &j->quality);
    rows.close(rows.self);
    return st;
}

static void say(job *j)
{
    fct_cli *c = j->c;
    const fct_train_report *r = &j->report;
    fct_cli_say(c,
                "%s: %" PRId64 " features, k %" PRId64 ", %" PRId64
                " dead, explained variance %.4f (last batch), %" PRId64 " steps, %.1f s",
                j->out, r->n_features, r->k, r->dead, r->ev, r->steps, r->seconds);
    if (j->held > 0)
        fct_cli_say(
            c,
            "held out: explained variance %.4f, %.2f features a row, %.1f %% never active, %" PRId64
            " rows",
            j->quality.ev, j->quality.l0, 100 * j->quality.dead_share, j->quality.rows);
    fct_cli_put(c, "sae", json_string(j->out));
    fct_cli_put(c, "block", json_string(j->block->name));
    fct_cli_put(c, "train",
                json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "steps",
                          (json_int_t)r->steps, "rows", (json_int_t)r->rows, "n_features",
                          (json_int_t)r->n_features, "k", (json_int_t)r->k, "dead",
                          (json_int_t)r->dead, "loss", r->loss, "mse", r->mse, "aux", r->aux, "ev",
                          r->ev, "l0", r->l0, "loss_scale", r->loss_scale, "seconds", r->seconds));
    if (j->held > 0)
        fct_cli_put(c, "held_out",
                    json_pack("{s:f, s:f, s:f, s:f, s:I}", "ev", j->quality.ev, "ev_total",
                              j->quality.ev_total, "l0", j->quality.l0, "dead_share",
                              j->quality.dead_share, "rows", (json_int_t)j->quality.rows));
}

static fct_status run(fct_cli *c)
{
    job j = {.c = c};
    fct_status st = FCT_OK;
    FCT_TRY_OUT(check_use(&j));
    FCT_TRY_OUT(open_rows(&j));
    st = train(&j);
    if (st == FCT_ERR_STOPPED && fct_sae_checkpoint_exists(j.checkpoint))
        fct_cli_note(c, "the same command with --resume goes on from here");
    if (st != FCT_OK) goto out;
    FCT_TRY_OUT(measure(&j));
    FCT_TRY_OUT(fct_sae_save(j.sae, j.out, NULL));
    fct_sae_checkpoint_remove(j.checkpoint); /* it has served */
    say(&j);
out:
    if (j.rows.close) j.rows.close(j.rows.self);
    fct_store_close(j.store);
    fct_sae_free(j.sae);
    fct_free(j.checkpoint);
    return st;
}

#define COUNT(option_name, low, text)                                          \
    {                                                                          \
        .name = option_name, .kind = FCT_CLI_INT, .value = "N", .lo = low,     \
        .hi = 9223372036854775807.0, .otherwise = "the preset's", .help = text \
    }

static const fct_cli_option options[] = {
    {.name = "store",
     .kind = FCT_CLI_FOLDER,
     .value = "STORE",
     .required = true,
     .help = "rows made by facet capture"},
    {.name = "block",
     .kind = FCT_CLI_TEXT,
     .value = "BLOCK",
     .otherwise = "the only one",
     .help = "block of the store"},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FOLDER,
     .value = "SAE",
     .required = true,
     .help = "the SAE's folder, in SAELens' layout"},
    {.name = "preset",
     .kind = FCT_CLI_CHOICE,
     .value = "NAME",
     .choices = "unboxing,demo",
     .fallback = "unboxing",
     .help = "unboxing: the paper's, for real SDXL; demo: for small models and few rows"},
    COUNT("k", 1, "features active in a row"),
    COUNT("auxk", 0, "dead features that the aux loss revives; 0: no aux loss"),
    COUNT("dead-rows", 1, "a feature is dead after so many rows without it"),
    COUNT("calibration-rows", 1, "first rows, which set bias and loss scale"),
    COUNT("n-features", 1, "features of the SAE"),
    {.name = "expansion-factor",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .above = true,
     .hi = 4096,
     .otherwise = "the preset's",
     .help = "features as a multiple of the rows' width"},
    {.name = "batch-size",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 16777216,
     .otherwise = "the preset's",
     .help = "rows in a step"},
    {.name = "lr",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .above = true,
     .hi = 10,
     .otherwise = "the preset's",
     .help = "learning rate of Adam"},
    {.name = "steps",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 9223372036854775807.0,
     .otherwise = "one pass over the rows",
     .help = "steps of training; may go over the rows several times"},
    {.name = "aux",
     .kind = FCT_CLI_CHOICE,
     .value = "MODE",
     .choices = "clean,authors",
     .fallback = "clean",
     .help = "aux target: the plain residual without a bias, or as the authors' code has it"},
    {.name = "aux-coef",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .hi = 1000,
     .otherwise = "1/32",
     .help = "weight of the aux loss"},
    {.name = "loss-scale",
     .kind = FCT_CLI_TEXT,
     .value = "X",
     .fallback = "auto",
     .help = "auto (one over the mean square of the rows), or a number"},
    {.name = "init-from",
     .kind = FCT_CLI_FOLDER,
     .value = "SAE",
     .help = "start from these weights"},
    {.name = "order",
     .kind = FCT_CLI_CHOICE,
     .value = "ORDER",
     .choices = "shuffled,sequential",
     .fallback = "shuffled",
     .help = "order of the rows; each further pass is shuffled anew"},
    {.name = "seed",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "0",
     .lo = 0,
     .hi = 9223372036854775807.0,
     .help = "seed of the start and of the order"},
    {.name = "hold-out",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "0",
     .lo = 0,
     .hi = 9223372036854775807.0,
     .help = "last rows of the block that are not trained on but measured"},
    {.name = "checkpoint-every",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "500",
     .lo = 0,
     .hi = 9223372036854775807.0,
     .help = "steps between checkpoints, kept in SAE.checkpoint; 0: none but when stopped"},
    {.name = "keep-checkpoints",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "2",
     .lo = 1,
     .hi = 1000000,
     .help = "newest checkpoints that stay; a damaged one gives way to the one before it"},
    {.name = "resume",
     .kind = FCT_CLI_FLAG,
     .help = "continue from SAE.checkpoint, to the same bytes; starts anew when there is none, "
             "refuses one of other rows or options"},
    {.name = "log",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .help = "write the course of the training as JSON lines"},
    {.name = "log-every",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "100",
     .lo = 1,
     .hi = 9223372036854775807.0,
     .help = "steps between two lines of the log"},
    {0}};

const fct_cli_command fct_cmd_train = {
    .name = "train",
    .summary = "train a TopK sparse autoencoder on a store's rows",
    .text =
        "Writes cfg.json, sae_weights.safetensors (SAELens), facet.json (how it was made) and "
        "stats.safetensors (density, mean, std, max of every feature, "
        "from one more pass with the finished weights). The folder appears whole or not at all.",
    .examples = "facet train --store store --block up.0.1 --preset demo --steps 300 -o sae",
    .options = {options, fct_cli_common},
    .run = run,
};

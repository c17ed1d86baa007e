/* train_options.c - the options of `facet train`, and what they say to the trainer. A configuration
   of a sweep is read by the same table. */
#include <string.h>

#include "cli/train.h"

fct_status train_options_check(fct_cli *c)
{
    double scale;
    const char *text = fct_cli_text(c, "loss-scale");
    if (strcmp(text, "auto") != 0 && fct_parse_f64(&scale, text, 1e-30, 1e30) != FCT_OK)
        return fct_cli_usage(c, "--loss-scale %s: want auto or a number above 0", text);
    if (fct_cli_given(c, "n-features") && fct_cli_given(c, "expansion-factor"))
        return fct_cli_usage(c, "--n-features and --expansion-factor say the same thing: give one");
    if (fct_cli_i64(c, "eval-every") > 0 && fct_cli_i64(c, "hold-out") == 0)
        return fct_cli_usage(c, "--eval-every needs rows that are not trained on: --hold-out N");
    return FCT_OK;
}

fct_status train_options_read(fct_train_desc *out, const fct_cli *c)
{
    const char *scale = fct_cli_text(c, "loss-scale");
    *out = (fct_train_desc){.preset = fct_cli_text(c, "preset"),
                            .k = fct_cli_i64(c, "k"),
                            .n_features = fct_cli_i64(c, "n-features"),
                            .expansion_factor = fct_cli_f64(c, "expansion-factor"),
                            .batch_size = fct_cli_i64(c, "batch-size"),
                            .steps = fct_cli_i64(c, "steps"),
                            .dead_rows = fct_cli_i64(c, "dead-rows"),
                            .calibration_rows = fct_cli_i64(c, "calibration-rows"),
                            .lr = fct_cli_f64(c, "lr"),
                            .eps = fct_cli_f64(c, "eps"),
                            .engine = (fct_train_engine)fct_cli_choice(c, "engine"),
                            .aux_set = fct_cli_given(c, "aux"),
                            .aux = fct_cli_choice(c, "aux") == 0 ? FCT_AUX_CLEAN : FCT_AUX_AUTHORS,
                            .aux_coef = fct_cli_f64(c, "aux-coef"),
                            .seed = (uint64_t)fct_cli_i64(c, "seed"),
                            .init_from = fct_cli_text(c, "init-from"),
                            .checkpoint_every = fct_cli_i64(c, "checkpoint-every"),
                            .keep_checkpoints = fct_cli_i64(c, "keep-checkpoints"),
                            .log_jsonl = fct_cli_text(c, "log"),
                            .log_every = fct_cli_i64(c, "log-every"),
                            .tensorboard = fct_cli_text(c, "tensorboard"),
                            .eval_every = fct_cli_i64(c, "eval-every"),
                            .log = fct_cli_log(c)};
    train_variant_read(out, c);
    if (fct_cli_given(c, "auxk"))
        out->auxk = fct_cli_i64(c, "auxk") == 0 ? -1 : fct_cli_i64(c, "auxk"); /* -1: no aux term */
    if (fct_cli_given(c, "aux-coef") && out->aux_coef == 0)
        out->auxk = -1; /* 0 means the preset's there */
    if (strcmp(scale, "auto") != 0) return fct_parse_f64(&out->loss_scale, scale, 1e-30, 1e30);
    return FCT_OK;
}

#define COUNT(option_name, low, text)                                          \
    {                                                                          \
        .name = option_name, .kind = FCT_CLI_INT, .value = "N", .lo = low,     \
        .hi = 9223372036854775807.0, .otherwise = "the preset's", .help = text \
    }

const fct_cli_option train_options[] = {
    {.name = "store",
     .kind = FCT_CLI_FOLDER,
     .value = "STORE",
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
     .help = "the SAE's folder, in SAELens' layout; of a sweep: the folder of its SAEs"},
    {.name = "preset",
     .kind = FCT_CLI_CHOICE,
     .value = "NAME",
     .choices = "unboxing,demo,modern",
     .fallback = "unboxing",
     .help = "unboxing: the paper's, for real SDXL; demo: for small models and few rows; modern: "
             "batchtopk with scaled rows, warm-up, decay and clipping"},
    COUNT("k", 1, "features active in a row; on average with batchtopk and matryoshka"),
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
    {.name = "eps",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .above = true,
     .hi = 1,
     .otherwise = "6.25e-10",
     .help = "Adam's eps"},
    {.name = "steps",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 9223372036854775807.0,
     .otherwise = "one pass over the rows",
     .help = "steps of training; may go over the rows several times"},
    {.name = "engine",
     .kind = FCT_CLI_CHOICE,
     .value = "NAME",
     .choices = "auto,plain,fast",
     .fallback = "auto",
     .help = "fast: 16- or 8-bit products find the active features, f32 ones decide; plain: f32 "
             "throughout; equal within rounding; auto: fast where the options allow"},
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
    {.name = "tensorboard",
     .kind = FCT_CLI_FOLDER,
     .value = "DIR",
     .help = "write the course of the training as TensorBoard's event files"},
    {.name = "eval-every",
     .kind = FCT_CLI_INT,
     .value = "N",
     .fallback = "0",
     .lo = 0,
     .hi = 9223372036854775807.0,
     .help = "steps between measurements on the rows of --hold-out; 0: at the end only"},
    {0}};

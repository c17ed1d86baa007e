/* train_variants.c - the options of `facet train` that belong to some architectures, and those of
   schedules and of what is done to rows and weights. */
#include "cli/train.h"

/* Counts and factors where 0 means none; in the description that is -1, and 0 the preset's. */
static int64_t or_none(const fct_cli *c, const char *name)
{
    int64_t n = fct_cli_i64(c, name);
    return fct_cli_given(c, name) && n == 0 ? -1 : n;
}
static double or_none_f(const fct_cli *c, const char *name)
{
    double x = fct_cli_f64(c, name);
    return fct_cli_given(c, name) && x == 0 ? -1 : x;
}

/* The choices' words are in the order of the enums, which have one more for the preset's. */
static int choice(const fct_cli *c, const char *name)
{
    return fct_cli_given(c, name) ? 1 + (int)fct_cli_choice(c, name) : 0;
}

/* What belongs to some architectures, schedules, and what is done to rows and weights. */
void train_variant_read(fct_train_desc *desc, const fct_cli *c)
{
    desc->arch = fct_cli_text(c, "arch");
    desc->sparsity = or_none_f(c, "sparsity");
    desc->sparsity_warmup = or_none(c, "sparsity-warmup");
    desc->bandwidth = fct_cli_f64(c, "bandwidth");
    desc->init_threshold = fct_cli_f64(c, "init-threshold");
    desc->groups = fct_cli_i64(c, "groups");
    desc->k_start = fct_cli_i64(c, "k-start");
    desc->k_warmup = fct_cli_i64(c, "k-warmup");
    desc->lr_warmup = or_none(c, "lr-warmup");
    desc->lr_decay = (fct_lr_decay)choice(c, "lr-decay");
    desc->lr_decay_steps = fct_cli_i64(c, "lr-decay-steps");
    desc->grad_clip = or_none_f(c, "grad-clip");
    desc->ema = or_none_f(c, "ema");
    desc->untied = fct_cli_flag(c, "untied");
    desc->decoder_norm = (fct_decoder_norm)choice(c, "decoder-norm");
    desc->normalize = (fct_normalize)choice(c, "normalize");
}

#define COUNT(option_name, low, said, text)                                \
    {                                                                      \
        .name = option_name, .kind = FCT_CLI_INT, .value = "N", .lo = low, \
        .hi = 9223372036854775807.0, .otherwise = said, .help = text       \
    }

const fct_cli_option train_variant_options[] = {
    {.name = "arch",
     .kind = FCT_CLI_CHOICE,
     .value = "NAME",
     .choices = "topk,batchtopk,jumprelu,relu,gated,matryoshka",
     .otherwise = "the preset's",
     .help =
         "which activations are kept: the k strongest of a row (topk), or of a batch k a row on "
         "average (batchtopk; matryoshka in nested groups of features too), those above learned "
         "thresholds (jumprelu), all positive ones (relu), those whose gate is open (gated)"},
    {.name = "sparsity",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .hi = 1e6,
     .otherwise = "the architecture's",
     .help = "weight of the penalty: on the number of active features with jumprelu, on the sum of "
             "activations with relu and gated; the larger, the fewer are active"},
    COUNT("sparsity-warmup", 0, "none", "steps in which the penalty's weight rises from 0"),
    {.name = "bandwidth",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .above = true,
     .hi = 1e6,
     .otherwise = "0.001",
     .help = "jumprelu: activations so near a threshold teach it, in units of a row's length about "
             "the mean"},
    {.name = "init-threshold",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .above = true,
     .hi = 1e6,
     .otherwise = "0.001",
     .help = "jumprelu: where thresholds start, in the same units"},
    {.name = "groups",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 62,
     .otherwise = "5",
     .help = "matryoshka: nested first parts of the features, each twice the one before"},
    COUNT("k-start", 1, "k", "k at the first step, where it changes to k"),
    COUNT("k-warmup", 1, "none", "steps in which it does"),
    COUNT("lr-warmup", 0, "the preset's", "steps in which the learning rate rises from 0"),
    {.name = "lr-decay",
     .kind = FCT_CLI_CHOICE,
     .value = "SHAPE",
     .choices = "none,linear,cosine",
     .otherwise = "the preset's",
     .help = "how the learning rate falls to 0 at the end"},
    {.name = "lr-decay-steps",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 9223372036854775807.0,
     .otherwise = "the last fifth; preset demo: third",
     .help = "how many steps it falls"},
    {.name = "grad-clip",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .hi = 1e9,
     .otherwise = "the preset's",
     .help = "greatest length of a step's gradient, all weights together; 0: any"},
    {.name = "ema",
     .kind = FCT_CLI_FLOAT,
     .value = "X",
     .lo = 0,
     .hi = 0.9999999,
     .otherwise = "the preset's",
     .help = "save the weights' running mean of this decay, as 0.999; 0: the last weights"},
    {.name = "untied",
     .kind = FCT_CLI_FLAG,
     .help = "the decoder starts with directions of its own, not with the encoder's"},
    {.name = "decoder-norm",
     .kind = FCT_CLI_CHOICE,
     .value = "HOW",
     .choices = "project,unit,free",
     .fallback = "project",
     .help = "directions are of length 1, and their gradient lies across them (project), or only "
             "the first (unit), or of any length (free)"},
    {.name = "normalize",
     .kind = FCT_CLI_CHOICE,
     .value = "HOW",
     .choices = "none,mean,norm,mean-norm",
     .otherwise = "the preset's",
     .help = "train on rows without their mean (mean), scaled to a length of sqrt(D) on average "
             "(norm), or both; the SAE takes rows as they are all the same"},
    {0}};

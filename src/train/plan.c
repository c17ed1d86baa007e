/* plan.c - training options resolved: a table of presets, and what the caller chose instead.

   "unboxing" is the paper's recipe as the authors' code has it, for rows of real SDXL by the
   hundred million: its first ten batches set bias and loss scale and are not trained on. "demo" is
   for small models and some hundred thousand rows, where the paper's rates and dead threshold would
   need far more steps than there are: calibration rows are trained on as well. "modern" is what has
   proved itself since: BatchTopK, so that a rich row may use more features than a plain one; twice
   the features; rows scaled to a length that suits the rates, whatever the block; a warm-up, so
   that Adam's first steps break nothing; a fall to 0 at the end, which gains the most for the
   least; a bound on the gradient against rare rows that are huge. An option that the chosen variant
   has no use for is refused, never ignored. */
#include <math.h>
#include <string.h>

#include "train/engine.h"
#include "train/variant.h"

static const struct preset {
    const char *name, *arch;
    int64_t k, auxk, batch, dead_rows;
    int64_t calibration_batches; /* 0: a quarter of the data, at most MAX_CALIBRATION rows */
    double factor;               /* features as a multiple of the rows' width */
    double lr;
    fct_lr_decay lr_decay;
    double decay_part; /* lr falls over one in so many of the steps, the last ones */
    bool warmup;       /* lr rises over a twentieth of the steps, at most MAX_WARMUP */
    double grad_clip;  /* 0: none */
    fct_normalize normalize;
} preset_table[] = {
    {
        .name = "unboxing",
        .arch = "topk",
        .k = 10,
        .auxk = 256,
        .batch = 4096,
        .dead_rows = 10000000,
        .calibration_batches = 10,
        .factor = 4,
        .lr = 1e-4,
        .lr_decay = FCT_LR_CONSTANT,
        .decay_part = 5,
        .normalize = FCT_NORMALIZE_NONE,
    },
    {
        .name = "demo",
        .arch = "topk",
        .k = 8,
        .auxk = 32,
        .batch = 2048,
        .dead_rows = 120000,
        .factor = 2,
        .lr = 1e-3,
        .lr_decay = FCT_LR_LINEAR,
        .decay_part = 3,
        .normalize = FCT_NORMALIZE_NONE,
    },
    {
        .name = "modern",
        .arch = "batchtopk",
        .k = 20,
        .auxk = 256,
        .batch = 4096,
        .dead_rows = 2000000,
        .factor = 8,
        .lr = 3e-4,
        .lr_decay = FCT_LR_LINEAR,
        .decay_part = 5,
        .warmup = true,
        .grad_clip = 1,
        .normalize = FCT_NORMALIZE_NORM,
    },
};

enum { MAX_CALIBRATION = 32768, LOG_EVERY = 100, GROUPS = 5, MAX_WARMUP = 1000 };

static fct_status find_preset(const struct preset **out, const char *name)
{
    for (size_t i = 0; i < FCT_COUNT(preset_table); i++)
        if (strcmp(preset_table[i].name, name ? name : "unboxing") == 0) {
            *out = &preset_table[i];
            return FCT_OK;
        }
    return fct_fail(FCT_ERR_ARG, "preset %s: want unboxing, demo or modern", name);
}

static int64_t chosen(int64_t value, int64_t otherwise)
{
    return value != 0 ? value : otherwise;
}
static double chosen_f(double value, double otherwise)
{
    return value != 0 ? value : otherwise;
}

/* ---- what belongs to some variants only ---- */

static fct_status refuse(const fct_variant *v, const char *option, const char *why)
{
    return fct_fail(FCT_ERR_ARG, "%s has no meaning for %s, %s: leave it out", option, v->name,
                    why);
}

static fct_status check_meaning(const fct_variant *v, const fct_train_desc *desc)
{
    if (!v->has_k && (desc->k != 0 || desc->k_start != 0 || desc->k_warmup > 0))
        return refuse(v, "k", "whose number of active features follows from --sparsity");
    if (v->sparsity == 0 && (desc->sparsity != 0 || desc->sparsity_warmup > 0))
        return refuse(v, "sparsity", "which has a number of active features, --k, and no penalty");
    if (!v->has_threshold && (desc->bandwidth != 0 || desc->init_threshold != 0))
        return refuse(v, "bandwidth or init-threshold", "which learns no thresholds");
    if (v->idle_aux && desc->auxk > 0)
        return refuse(v, "auxk",
                      "whose dead features are never positive: no aux loss reaches them");
    if (!v->has_groups && desc->groups != 0)
        return refuse(v, "groups", "whose features are one group");
    if (v->has_threshold && desc->aux_set && desc->aux == FCT_AUX_SDXL_UNBOX)
        return refuse(v, "the authors' aux term", "for which it was not made");
    if ((desc->k_start != 0) != (desc->k_warmup > 0))
        return fct_fail(FCT_ERR_ARG, "a schedule of k needs both where it starts (--k-start) and "
                                     "how many steps it takes (--k-warmup)");
    return FCT_OK;
}

static fct_status check_variant(const fct_train_plan *p)
{
    const fct_variant *v = p->variant;
    int64_t prefix = p->f;
    if (v->sparsity > 0 && (!(p->sparsity >= 0) || !isfinite(p->sparsity)))
        return fct_fail(FCT_ERR_ARG, "sparsity %g: want 0 or more", p->sparsity);
    if (v->has_threshold && (!(p->bandwidth > 0) || !isfinite(p->bandwidth)))
        return fct_fail(FCT_ERR_ARG, "bandwidth %g: want more than 0", p->bandwidth);
    if (v->has_threshold && (!(p->init_threshold > 0) || !isfinite(p->init_threshold)))
        return fct_fail(FCT_ERR_ARG, "init-threshold %g: want more than 0", p->init_threshold);
    for (int64_t g = 1; g < p->groups; g++) prefix /= 2;
    if (v->has_groups && (p->groups < 1 || p->groups > 62 || prefix < 1))
        return fct_fail(FCT_ERR_ARG,
                        "%lld groups of %lld features: want at least 1, and each prefix is half "
                        "the next",
                        (long long)p->groups, (long long)p->f);
    if (p->k_warmup > 0 && (p->k_start < 1 || p->k_start > p->f))
        return fct_fail(FCT_ERR_ARG, "k-start %lld: want 1 to %lld, the number of features",
                        (long long)p->k_start, (long long)p->f);
    if (!(p->grad_clip >= 0) || !isfinite(p->grad_clip))
        return fct_fail(FCT_ERR_ARG, "gradient clipping at %g: want more than 0", p->grad_clip);
    if (!(p->ema >= 0) || p->ema >= 1)
        return fct_fail(FCT_ERR_ARG, "an average of decay %g: want 0 to 1, without 1", p->ema);
    return FCT_OK;
}

static fct_status check_ranges(const fct_train_plan *p)
{
    if (p->f < 1 || p->f > INT32_MAX)
        return fct_fail(FCT_ERR_ARG, "%lld features: want 1 to %d", (long long)p->f, INT32_MAX);
    if (p->variant->has_k && (p->k < 1 || p->k > p->f))
        return fct_fail(FCT_ERR_ARG, "k %lld: want 1 to %lld, the number of features",
                        (long long)p->k, (long long)p->f);
    if (p->batch < 1)
        return fct_fail(FCT_ERR_ARG, "batch size %lld: want 1 or more", (long long)p->batch);
    if (p->steps < 0)
        return fct_fail(FCT_ERR_ARG, "%lld steps: want 1 or more", (long long)p->steps);
    if (p->dead_rows < 0)
        return fct_fail(FCT_ERR_ARG, "dead after %lld rows: want 1 or more",
                        (long long)p->dead_rows);
    if (!(p->lr > 0) || !isfinite(p->lr))
        return fct_fail(FCT_ERR_ARG, "learning rate %g: want more than 0", p->lr);
    if (!(p->eps > 0) || !isfinite(p->eps))
        return fct_fail(FCT_ERR_ARG, "eps %g: want more than 0", p->eps);
    if (!(p->aux_coef >= 0) || !isfinite(p->aux_coef))
        return fct_fail(FCT_ERR_ARG, "aux coefficient %g: want 0 or more", p->aux_coef);
    if (!(p->loss_scale >= 0) || !isfinite(p->loss_scale))
        return fct_fail(FCT_ERR_ARG, "loss scale %g: want more than 0", p->loss_scale);
    return check_variant(p);
}

/* Sizes: from the weights to start with, else from the options, else from the preset. */
static fct_status set_sizes(fct_train_plan *p, const fct_train_desc *desc,
                            const struct preset *base, int64_t d, const fct_sae *init)
{
    double factor = chosen_f(desc->expansion_factor, base->factor) * (double)d;
    if (!init && desc->n_features == 0 && !(factor >= 1 && factor <= INT32_MAX))
        return fct_fail(
            FCT_ERR_ARG,
            "expansion factor %g of rows of %lld numbers gives no possible number of features",
            desc->expansion_factor, (long long)d);
    p->f = desc->n_features != 0 ? desc->n_features : init ? init->f : (int64_t)llround(factor);
    p->k = desc->k != 0 ? desc->k : init && init->k > 0 ? init->k : base->k;
    if (!p->variant->has_k) p->k = 0;
    p->auxk = desc->auxk < 0 ? 0 : chosen(desc->auxk, p->variant->has_aux ? base->auxk : 0);
    if (desc->auxk == 0 && p->auxk > p->f) p->auxk = p->f;
    if (p->auxk > p->f)
        return fct_fail(FCT_ERR_ARG, "auxk %lld: want at most %lld, the number of features",
                        (long long)p->auxk, (long long)p->f);
    if (!init) return FCT_OK;
    if (init->d != d)
        return fct_fail(FCT_ERR_SHAPE,
                        "the SAE to start from takes rows of %lld numbers, these have %lld",
                        (long long)init->d, (long long)d);
    if (init->f != p->f)
        return fct_fail(FCT_ERR_SHAPE,
                        "the SAE to start from has %lld features, the options say %lld",
                        (long long)init->f, (long long)p->f);
    bool batch = p->variant->kind == FCT_SAE_BATCHTOPK && init->kind == FCT_SAE_TOPK;
    if (init->kind != p->variant->kind && !batch)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "the SAE to start from is a %s, from which %s cannot be trained further",
                        fct_sae_kind_name(init->kind), p->variant->name);
    if (!init->apply_b_dec_to_input || init->dec_norm || init->normalize != FCT_SAE_NORMALIZE_NONE)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "only an SAE that subtracts its decoder's bias from the input, and scales "
                        "neither rows nor codes, can be trained further");
    if (p->normalize > FCT_NORMALIZE_NONE)
        return fct_fail(FCT_ERR_UNSUPPORTED, "an SAE to start from takes rows as they are: leave "
                                             "out --normalize, or say none");
    return FCT_OK;
}

/* As many rows of every block. */
static fct_status check_mixed(const fct_train_plan *p)
{
    int64_t n = p->n_parts, fewer = p->batch / n * n;
    if (p->batch % n == 0) return FCT_OK;
    return fct_fail(FCT_ERR_ARG,
                    "batches of %lld rows cannot have as many of each of %lld blocks: "
                    "--batch-size %lld",
                    (long long)p->batch, (long long)n, (long long)(fewer > 0 ? fewer : n));
}

/* What was chosen and would change nothing, given what else was: one line each. */
static fct_status check_use(const fct_train_plan *p, const fct_train_desc *desc,
                            const fct_sae *init)
{
    const char *no_aux =
        p->variant->idle_aux ? "there is no aux loss" : "there is no aux loss: --auxk N adds one";
    static const char weights[] = "the weights are those of --init-from";
    bool aux = p->auxk > 0, calibrates = p->calibrate || p->auto_scale;
    const struct {
        bool given, used;
        const char *option, *why;
    } row[] = {
        {desc->aux_set, aux, "--aux", no_aux},
        {desc->aux_coef != 0, aux, "--aux-coef", no_aux},
        {desc->untied, !init, "--untied", weights},
        {desc->expansion_factor != 0, !init, "--expansion-factor", weights},
        {desc->init_threshold != 0, !init, "--init-threshold", weights},
        {desc->calibration_rows != 0, calibrates, "--calibration-rows",
         "with --init-from and a --loss-scale nothing is left to calibrate"},
        {desc->sparsity_warmup > 0, p->sparsity > 0, "--sparsity-warmup", "--sparsity is 0"},
    };
    for (size_t i = 0; i < FCT_COUNT(row); i++)
        if (row[i].given && !row[i].used)
            return fct_fail(FCT_ERR_ARG, "%s would change nothing, since %s: leave it out",
                            row[i].option, row[i].why);
    return FCT_OK;
}

static fct_status set_amounts(fct_train_plan *p, const fct_train_desc *desc,
                              const struct preset *base, int64_t total)
{
    p->train_calibration = base->calibration_batches == 0;
    int64_t quarter = total >= 0 && total / 4 < MAX_CALIBRATION ? total / 4 : MAX_CALIBRATION;
    p->calibration_rows =
        chosen(desc->calibration_rows,
               base->calibration_batches ? base->calibration_batches * p->batch : quarter);
    if (!p->calibrate && !p->auto_scale) p->calibration_rows = 0;
    if ((p->calibrate || p->auto_scale) && p->calibration_rows < 1 && total != 0)
        p->calibration_rows = 1;
    if (p->calibration_rows > 0) { /* as many of every block */
        int64_t mixed = fct_train_plan_mixed(p), spare = p->calibration_rows % mixed;
        p->calibration_rows += spare > 0 ? mixed - spare : 0;
    }
    if (p->calibration_rows < 0)
        return fct_fail(FCT_ERR_ARG, "%lld calibration rows: want 1 or more",
                        (long long)p->calibration_rows);
    int64_t rest = total < 0 ? -1 : total - (p->train_calibration ? 0 : p->calibration_rows);
    if (total >= 0 && (p->calibration_rows > total || rest < 1))
        return fct_fail(FCT_ERR_ARG,
                        "%lld rows are not enough: %lld are for calibration%s (fewer: "
                        "--calibration-rows, or --preset demo)",
                        (long long)total, (long long)p->calibration_rows,
                        p->train_calibration ? "" : " and are not trained on");
    p->steps = desc->steps;
    if (p->steps == 0 && rest >= 0) p->steps = rest / p->batch;
    if (p->steps == 0 && rest >= 0)
        return fct_fail(
            FCT_ERR_ARG,
            "%lld rows do not fill one batch of %lld: choose --steps or a smaller --batch-size",
            (long long)rest, (long long)p->batch);
    if (p->steps == 0 && p->lr_decay != FCT_LR_CONSTANT)
        return fct_fail(FCT_ERR_ARG, "the learning rate falls towards the end, and these rows have "
                                     "no known end: choose --steps, or --lr-decay constant");
    return FCT_OK;
}

static fct_status set_engine(fct_train_plan *p, const fct_train_desc *desc, int64_t d)
{
    const fct_backend *be;
    FCT_TRY(fct_engine_choose(&p->engine, p, desc->engine));
    p->product = FCT_PRODUCT_F32;
    if (!p->engine->reduced) return FCT_OK;
    FCT_TRY(fct_backend_find(&be, NULL));
    p->product = be->product(p->f, d, p->k);
    return FCT_OK;
}

/* After the number of steps is known. */
static fct_status set_schedules(fct_train_plan *p, const fct_train_desc *desc,
                                const struct preset *base)
{
    if (desc->lr_decay_steps < 0)
        return fct_fail(FCT_ERR_ARG, "a decay over %lld steps: want 1 or more",
                        (long long)desc->lr_decay_steps);
    if (p->lr_decay == FCT_LR_CONSTANT && desc->lr_decay_steps > 0)
        return fct_fail(FCT_ERR_ARG, "lr-decay-steps says how long the learning rate falls, and it "
                                     "does not: add --lr-decay linear or cosine");
    if (base->warmup && desc->lr_warmup == 0)
        p->lr_warmup = p->steps / 20 < MAX_WARMUP && p->steps > 0 ? p->steps / 20 : MAX_WARMUP;
    if (p->lr_decay == FCT_LR_CONSTANT) return FCT_OK;
    p->lr_decay_steps = desc->lr_decay_steps > 0 ? (double)desc->lr_decay_steps
                                                 : (double)p->steps / base->decay_part;
    return FCT_OK;
}

static double or_none(double value, double otherwise) /* -1 says none */
{
    return value == -1 ? 0 : chosen_f(value, otherwise);
}

/* Blocks differ in the length of their rows, so each has its own scale unless told otherwise; mixed
   ones share one bias, so each has its own mean as well. */
static fct_normalize usual_normalize(const fct_train_plan *p, const struct preset *base,
                                     const fct_sae *init)
{
    if (init) return FCT_NORMALIZE_NONE;
    if (p->mixed) return FCT_NORMALIZE_MEAN_NORM;
    return p->n_parts > 1 ? FCT_NORMALIZE_NORM : base->normalize;
}

/* `parts` holds those of the rows alone. */
static fct_status resolve(fct_train_plan *out, const fct_train_desc *desc,
                          const fct_train_plan *parts, int64_t d, int64_t total,
                          const fct_sae *init)
{
    const struct preset *base;
    const fct_variant *v;
    FCT_TRY(find_preset(&base, desc->preset));
    FCT_TRY(fct_variant_find(&v, desc->arch ? desc->arch : base->arch));
    FCT_TRY(check_meaning(v, desc));
    *out = (fct_train_plan){
        .preset = base->name,
        .variant = v,
        .batch = chosen(desc->batch_size, base->batch),
        .dead_rows = chosen(desc->dead_rows, base->dead_rows),
        .steps = desc->steps,
        .log_every = chosen(desc->log_every, LOG_EVERY),
        .checkpoint_every = desc->checkpoint_every,
        .lr = chosen_f(desc->lr, base->lr),
        .aux_coef = chosen_f(desc->aux_coef, 1.0 / 32),
        .eps = chosen_f(desc->eps, 6.25e-10),
        .loss_scale = desc->loss_scale,
        .aux = desc->aux_set ? desc->aux : FCT_AUX_CLEAN,
        .auto_scale = desc->loss_scale == 0,
        .calibrate = init == NULL,
        .sparsity = desc->sparsity == -1 ? 0 : chosen_f(desc->sparsity, v->sparsity),
        .sparsity_warmup = desc->sparsity_warmup > 0 ? desc->sparsity_warmup : 0,
        .bandwidth = v->has_threshold ? chosen_f(desc->bandwidth, 1e-3) : 0,
        .init_threshold = v->has_threshold ? chosen_f(desc->init_threshold, 1e-3) : 0,
        .groups = v->has_groups ? chosen(desc->groups, GROUPS) : 0,
        .k_start = desc->k_start,
        .k_warmup = desc->k_warmup > 0 ? desc->k_warmup : 0,
        .lr_warmup = desc->lr_warmup > 0 ? desc->lr_warmup : 0,
        .lr_decay = desc->lr_decay == FCT_LR_PRESET ? base->lr_decay : desc->lr_decay,
        .grad_clip = or_none(desc->grad_clip, base->grad_clip),
        .ema = or_none(desc->ema, 0),
        .untied = desc->untied,
        .decoder_norm =
            desc->decoder_norm == FCT_DECODER_PRESET ? FCT_DECODER_PROJECT : desc->decoder_norm,
        .normalize = desc->normalize == FCT_NORMALIZE_PRESET ? usual_normalize(parts, base, init)
                                                             : desc->normalize,
        .part = parts->part,
        .n_parts = parts->n_parts,
        .mixed = parts->mixed,
        .seed = desc->seed,
    };
    if (out->mixed) FCT_TRY(check_mixed(out));
    FCT_TRY(set_sizes(out, desc, base, d, init));
    FCT_TRY(check_ranges(out));
    FCT_TRY(check_use(out, desc, init));
    FCT_TRY(set_engine(out, desc, d));
    FCT_TRY(set_amounts(out, desc, base, total));
    return set_schedules(out, desc, base);
}

fct_status fct_train_plan_init(fct_train_plan *out, const fct_train_desc *desc, int64_t d,
                               int64_t total, const fct_sae *init)
{
    return resolve(out, desc, &(fct_train_plan){0}, d, total, init);
}

fct_status fct_train_plan_of_rows(fct_train_plan *out, const fct_train_desc *desc,
                                  const fct_row_source *rows, const fct_sae *init, int64_t *out_d)
{
    const fct_row_part *part = rows->part;
    int64_t n = rows->n_parts > 1 ? rows->n_parts : 0;
    fct_train_plan parts = {.part = part, .n_parts = n, .mixed = n > 0 && desc->mix_blocks};
    *out_d = parts.mixed ? part[0].d : rows->d;
    if (n > FCT_SAE_MAX_BLOCKS)
        return fct_fail(FCT_ERR_ARG, "%lld blocks: want at most %d", (long long)n,
                        FCT_SAE_MAX_BLOCKS);
    for (int64_t i = 1; i < n && parts.mixed; i++)
        if (part[i].d != part[0].d)
            return fct_fail(FCT_ERR_SHAPE,
                            "%s has rows of %lld numbers, %s of %lld: one SAE for the rows of "
                            "several blocks needs one width (a crosscoder does not)",
                            part[0].name, (long long)part[0].d, part[i].name, (long long)part[i].d);
    if (n > 0 && !parts.mixed && init)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "a crosscoder starts from scratch: the scales of its blocks are in an "
                        "SAE's weights, so none can be trained further as one");
    if (init && init->n_blocks > 0)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "the SAE to start from is a crosscoder: name one of its blocks by a folder "
                        "of its own (facet convert --block)");
    int64_t total = rows->total > 0 && parts.mixed ? rows->total * n : rows->total;
    return resolve(out, desc, &parts, *out_d, total, init);
}

static const char *const lr_decay_name[] = {"preset", "none", "linear", "cosine"};
static const char *const decoder_norm_name[] = {"preset", "project", "unit", "free"};
static const char *const normalize_name[] = {"preset", "none", "mean", "norm", "mean-norm"};

static fct_status add(json_t *to, json_t *more) /* takes more */
{
    int off = more ? json_object_update(to, more) : -1;
    json_decref(more);
    return off == 0 ? FCT_OK
                    : fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
}

/* Options that only some runs have: left out where they are not in use. */
static fct_status describe_more(json_t *j, const fct_train_plan *p)
{
    const fct_variant *v = p->variant;
    if (v->sparsity > 0)
        FCT_TRY(add(j, json_pack("{s:f, s:I}", "sparsity", p->sparsity, "sparsity_warmup",
                                 (json_int_t)p->sparsity_warmup)));
    if (v->has_threshold)
        FCT_TRY(add(j, json_pack("{s:f, s:f}", "bandwidth", p->bandwidth, "init_threshold",
                                 p->init_threshold)));
    if (v->has_groups) FCT_TRY(add(j, json_pack("{s:I}", "groups", (json_int_t)p->groups)));
    if (p->k_warmup > 0)
        FCT_TRY(add(j, json_pack("{s:I, s:I}", "k_start", (json_int_t)p->k_start, "k_warmup",
                                 (json_int_t)p->k_warmup)));
    if (p->lr_warmup > 0)
        FCT_TRY(add(j, json_pack("{s:I}", "lr_warmup", (json_int_t)p->lr_warmup)));
    if (p->grad_clip > 0) FCT_TRY(add(j, json_pack("{s:f}", "grad_clip", p->grad_clip)));
    if (p->ema > 0) FCT_TRY(add(j, json_pack("{s:f}", "ema", p->ema)));
    if (p->untied) FCT_TRY(add(j, json_pack("{s:b}", "untied", 1)));
    if (p->n_parts > 1)
        FCT_TRY(add(j, json_pack("{s:s}", "several_blocks", p->mixed ? "mixed" : "crosscoder")));
    return FCT_OK;
}

fct_status fct_train_plan_describe(json_t **out, const fct_train_plan *p, int64_t d)
{
    const fct_variant *v = p->variant;
    *out = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:f, s:f, s:f, s:s, s:I, "
        "s:b, s:s, s:I, s:s, s:s, s:s, s:s}",
        "preset", p->preset, "arch", v->name, "d", (json_int_t)d, "n_features", (json_int_t)p->f,
        "k", (json_int_t)p->k, "auxk", (json_int_t)p->auxk, "batch_size", (json_int_t)p->batch,
        "steps", (json_int_t)p->steps, "dead_rows", (json_int_t)p->dead_rows, "calibration_rows",
        (json_int_t)p->calibration_rows, "lr", p->lr, "lr_decay", lr_decay_name[p->lr_decay],
        "lr_decay_steps", p->lr_decay_steps, "aux_coef", p->aux_coef, "eps", p->eps, "aux",
        p->aux == FCT_AUX_SDXL_UNBOX ? "authors" : "clean", "seed", (json_int_t)p->seed,
        "trained_on_calibration", (int)p->train_calibration, "loss_scale_from",
        p->auto_scale ? "calibration" : "option", "aux_dead_steps",
        (json_int_t)fct_train_plan_dead_steps(p), "decoder_norm",
        decoder_norm_name[p->decoder_norm], "normalize", normalize_name[p->normalize], "engine",
        p->engine->name, "encoder_product", fct_product_name(p->product));
    if (!*out) return fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
    fct_status st = describe_more(*out, p);
    if (st != FCT_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}

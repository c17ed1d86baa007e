/* plan.c - resolves the options of a training: what the caller chose, else what the preset says,
   for the rows at hand. */
#include <math.h>
#include <string.h>

#include "train/engine.h"
#include "train/variant.h"

enum { MAX_CALIBRATION = 32768, MAX_WARMUP = 1000 };

static int64_t chosen(int64_t value, int64_t otherwise)
{
    return value != 0 ? value : otherwise;
}
static double chosen_f(double value, double otherwise)
{
    return value != 0 ? value : otherwise;
}

/* Sizes: from the weights to start with, else from the options, else from the preset. */
static fct_status set_sizes(fct_train_plan *p, const fct_train_desc *desc, const fct_preset *base,
                            int64_t d, const fct_sae *init)
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
    p->auxk = desc->auxk == FCT_NONE || desc->aux_coef == FCT_NONE
                  ? 0
                  : chosen(desc->auxk, p->variant->has_aux ? base->auxk : 0);
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
        return fct_option_fail(FCT_ERR_UNSUPPORTED, p->spelling,
                               "an SAE to start from takes rows as they are: leave out "
                               "{normalize}, or say none");
    return FCT_OK;
}

/* As many rows of every block. */
static fct_status check_mixed(const fct_train_plan *p)
{
    int64_t n = p->n_parts, fewer = p->batch / n * n;
    if (p->batch % n == 0) return FCT_OK;
    return fct_option_fail(FCT_ERR_ARG, p->spelling,
                           "batches of %lld rows cannot have as many of each of %lld blocks: "
                           "{batch_size} %lld",
                           (long long)p->batch, (long long)n, (long long)(fewer > 0 ? fewer : n));
}

static fct_status set_amounts(fct_train_plan *p, const fct_train_desc *desc, const fct_preset *base,
                              int64_t total)
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
    int64_t rest = total < 0 ? -1 : total - (p->train_calibration ? 0 : p->calibration_rows);
    if (total >= 0 && (p->calibration_rows > total || rest < 1))
        return fct_option_fail(FCT_ERR_ARG, p->spelling,
                               "%lld rows are not enough: %lld are for calibration%s (fewer: "
                               "{calibration_rows}, or {preset} demo)",
                               (long long)total, (long long)p->calibration_rows,
                               p->train_calibration ? "" : " and are not trained on");
    p->steps = desc->steps;
    if (p->steps == 0 && rest >= 0) p->steps = rest / p->batch;
    if (p->steps == 0 && rest >= 0)
        return fct_option_fail(FCT_ERR_ARG, p->spelling,
                               "%lld rows do not fill one batch of %lld: choose {steps} or a "
                               "smaller {batch_size}",
                               (long long)rest, (long long)p->batch);
    if (p->steps == 0 && p->lr_decay != FCT_LR_CONSTANT)
        return fct_option_fail(FCT_ERR_ARG, p->spelling,
                               "the learning rate falls towards the end, and these rows have no "
                               "known end: choose {steps}, or {lr_decay} none");
    return FCT_OK;
}

static fct_status set_engine(fct_train_plan *p, const fct_train_desc *desc, int64_t d)
{
    FCT_TRY(fct_backend_find(&p->be, desc->backend));
    if (!p->be->device->is_host)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "backend %s keeps its own memory: training runs on those of the host",
                        p->be->name);
    FCT_TRY(fct_engine_choose(&p->engine, p, desc->engine));
    p->product = p->engine->reduced ? p->be->product(p->f, d, p->k) : FCT_PRODUCT_F32;
    return FCT_OK;
}

/* After the number of steps is known. */
static fct_status set_schedules(fct_train_plan *p, const fct_train_desc *desc,
                                const fct_preset *base)
{
    if (p->lr_decay == FCT_LR_CONSTANT && desc->lr_decay_steps > 0)
        return fct_option_fail(FCT_ERR_ARG, p->spelling,
                               "{lr_decay_steps} says how long the learning rate falls, and it "
                               "does not: add {lr_decay} linear or cosine");
    if (base->warmup && desc->lr_warmup == 0)
        p->lr_warmup = p->steps / 20 < MAX_WARMUP && p->steps > 0 ? p->steps / 20 : MAX_WARMUP;
    if (p->lr_decay == FCT_LR_CONSTANT) return FCT_OK;
    p->lr_decay_steps = desc->lr_decay_steps > 0 ? (double)desc->lr_decay_steps
                                                 : (double)p->steps / base->decay_part;
    return FCT_OK;
}

static int64_t or_no(int64_t value)
{
    return value == FCT_NONE ? 0 : value;
}
static double or_none(double value, double otherwise)
{
    return value == FCT_NONE ? 0 : chosen_f(value, otherwise);
}

/* Blocks differ in the length of their rows, so each has its own scale unless told otherwise; mixed
   ones share one bias, so each has its own mean as well. */
static fct_normalize usual_normalize(const fct_train_plan *p, const fct_preset *base,
                                     const fct_sae *init)
{
    if (init) return FCT_NORMALIZE_NONE;
    if (p->mixed) return FCT_NORMALIZE_MEAN_NORM;
    return p->n_parts > 1 ? FCT_NORMALIZE_NORM : base->normalize;
}

/* Numbers that need nothing but the options: `full` has the defaults that are constants. `parts`
   holds those of the rows alone. */
static fct_train_plan choose(const fct_train_desc *desc, const fct_train_desc *full,
                             const fct_preset *base, const fct_variant *v,
                             const fct_train_plan *parts)
{
    return (fct_train_plan){
        .preset = base->name,
        .variant = v,
        .batch = chosen(desc->batch_size, base->batch),
        .dead_rows = chosen(desc->dead_rows, base->dead_rows),
        .steps = desc->steps,
        .log_every = full->log_every,
        .checkpoint_every = or_no(full->checkpoint_every),
        .keep_checkpoints = full->keep_checkpoints,
        .lr = chosen_f(desc->lr, base->lr),
        .aux_coef = desc->aux_coef > 0 ? desc->aux_coef : 1.0 / 32,
        .eps = full->eps,
        .loss_scale = desc->loss_scale,
        .aux = full->aux,
        .auto_scale = desc->loss_scale == 0,
        .sparsity = or_none(desc->sparsity, v->sparsity),
        .sparsity_warmup = or_no(desc->sparsity_warmup),
        .bandwidth = v->has_threshold ? full->bandwidth : 0,
        .init_threshold = v->has_threshold ? full->init_threshold : 0,
        .groups = v->has_groups ? full->groups : 0,
        .k_start = desc->k_start,
        .k_warmup = or_no(desc->k_warmup),
        .lr_warmup = or_no(desc->lr_warmup),
        .lr_decay = desc->lr_decay == FCT_LR_PRESET ? base->lr_decay : desc->lr_decay,
        .grad_clip = or_none(desc->grad_clip, base->grad_clip),
        .ema = or_none(desc->ema, 0),
        .untied = desc->untied,
        .decoder_norm = full->decoder_norm,
        .part = parts->part,
        .n_parts = parts->n_parts,
        .mixed = parts->mixed,
        .seed = desc->seed,
        .spelling = desc->spelling,
    };
}

static fct_status resolve(fct_train_plan *out, const fct_train_desc *desc,
                          const fct_train_plan *parts, int64_t d, int64_t total,
                          const fct_sae *init)
{
    const fct_preset *base;
    const fct_variant *v;
    fct_train_desc full = *desc;
    FCT_TRY(fct_train_desc_check(desc));
    FCT_TRY(fct_options_fill(&full, fct_train_table()));
    FCT_TRY(fct_preset_find(&base, full.preset));
    FCT_TRY(fct_variant_find(&v, desc->arch ? desc->arch : base->arch));
    FCT_TRY(fct_plan_check_meaning(desc, v));
    *out = choose(desc, &full, base, v, parts);
    out->calibrate = init == NULL;
    out->normalize = desc->normalize == FCT_NORMALIZE_PRESET ? usual_normalize(parts, base, init)
                                                             : desc->normalize;
    if (out->mixed) FCT_TRY(check_mixed(out));
    FCT_TRY(set_sizes(out, desc, base, d, init));
    FCT_TRY(fct_plan_check_sizes(out));
    FCT_TRY(fct_plan_check_use(out, desc, init));
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
                        "the SAE to start from is a crosscoder: convert one of its blocks into an "
                        "SAE of its own, and start from that");
    int64_t total = rows->total > 0 && parts.mixed ? rows->total * n : rows->total;
    return resolve(out, desc, &parts, *out_d, total, init);
}

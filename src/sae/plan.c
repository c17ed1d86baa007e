/* plan.c - training options resolved: a table of presets, and what the caller chose instead.

   "unboxing" is the paper's recipe as the authors' code has it, for rows of real SDXL by the
   hundred million: its first ten batches set bias and loss scale and are not trained on. "demo" is
   for small models and some hundred thousand rows, where the paper's rates and dead threshold would
   need far more steps than there are: calibration rows are trained on as well. */
#include <math.h>
#include <string.h>

#include "sae/fast.h"
#include "sae/variant.h"

static const struct preset {
    const char *name;
    int64_t k, auxk, batch, dead_rows,
        calibration_batches; /* calibration_batches 0: a quarter of the data, at most 32,768 rows */
    double factor, lr;
    bool decay;
} preset_table[] = {
    {"unboxing", 10, 256, 4096, 10000000, 10, 4, 1e-4, false},
    {"demo", 8, 32, 2048, 120000, 0, 4, 1e-3, true},
};

enum { DEMO_CALIBRATION = 32768, LOG_EVERY = 100 };

static fct_status find_preset(const struct preset **out, const char *name)
{
    for (size_t i = 0; i < FCT_COUNT(preset_table); i++)
        if (strcmp(preset_table[i].name, name ? name : "unboxing") == 0) {
            *out = &preset_table[i];
            return FCT_OK;
        }
    return fct_fail(FCT_ERR_ARG, "preset %s: want unboxing or demo", name);
}

static int64_t chosen(int64_t value, int64_t otherwise)
{
    return value != 0 ? value : otherwise;
}
static double chosen_f(double value, double otherwise)
{
    return value != 0 ? value : otherwise;
}

static fct_status check_ranges(const fct_train_plan *p)
{
    if (p->f < 1 || p->f > INT32_MAX)
        return fct_fail(FCT_ERR_ARG, "%lld features: want 1 to %d", (long long)p->f, INT32_MAX);
    if (p->k < 1 || p->k > p->f)
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
    return FCT_OK;
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
    p->k = desc->k != 0 ? desc->k : init ? init->k : base->k;
    p->auxk = desc->auxk < 0 ? 0 : chosen(desc->auxk, base->auxk);
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
    if (init->kind != FCT_SAE_TOPK || !init->apply_b_dec_to_input || init->dec_norm ||
        init->normalize != FCT_SAE_NORMALIZE_NONE)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "only a TopK SAE that subtracts its decoder's bias from the input, and "
                        "scales neither rows nor codes, can be trained further");
    return FCT_OK;
}

static fct_status set_amounts(fct_train_plan *p, const fct_train_desc *desc,
                              const struct preset *base, int64_t total)
{
    p->train_calibration = base->calibration_batches == 0;
    int64_t quarter = total >= 0 && total / 4 < DEMO_CALIBRATION ? total / 4 : DEMO_CALIBRATION;
    p->calibration_rows =
        chosen(desc->calibration_rows,
               base->calibration_batches ? base->calibration_batches * p->batch : quarter);
    if (!p->calibrate && !p->auto_scale) p->calibration_rows = 0;
    if ((p->calibrate || p->auto_scale) && p->calibration_rows < 1 && total != 0)
        p->calibration_rows = 1;
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
    if (p->steps == 0 && p->decay)
        return fct_fail(FCT_ERR_ARG, "the preset's learning rate falls towards the end, and these "
                                     "rows have no known end: choose --steps");
    return FCT_OK;
}

/* The fast step knows TopK with everything as the plain step has it. */
static fct_status set_engine(fct_train_plan *p, const fct_train_desc *desc, int64_t d)
{
    const fct_backend *be;
    p->fast = desc->engine != FCT_ENGINE_PLAIN;
    p->product = FCT_PRODUCT_F32;
    if (p->fast && !fct_fast_fits(p)) {
        if (desc->engine == FCT_ENGINE_FAST)
            return fct_fail(FCT_ERR_UNSUPPORTED,
                            "the fast engine trains TopK autoencoders without extras only: use "
                            "--engine auto or plain");
        p->fast = false;
    }
    if (!p->fast) return FCT_OK;
    FCT_TRY(fct_backend_find(&be, NULL));
    p->product = be->product(p->f, d, p->k);
    return FCT_OK;
}

fct_status fct_train_plan_init(fct_train_plan *out, const fct_train_desc *desc, int64_t d,
                               int64_t total, const fct_sae *init)
{
    const struct preset *base;
    FCT_TRY(find_preset(&base, desc->preset));
    *out = (fct_train_plan){
        .preset = base->name,
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
        .decay = base->decay,
        .seed = desc->seed,
    };
    FCT_TRY(set_sizes(out, desc, base, d, init));
    FCT_TRY(check_ranges(out));
    FCT_TRY(set_engine(out, desc, d));
    return set_amounts(out, desc, base, total);
}

int64_t fct_train_plan_dead_steps(const fct_train_plan *p)
{
    return p->dead_rows > 0 && p->dead_rows < p->batch ? 1 : p->dead_rows / p->batch;
}

double fct_train_plan_lr(const fct_train_plan *p, int64_t step)
{
    double left = (double)(p->steps - step), third = (double)p->steps / 3;
    return p->decay && left < third ? p->lr * left / third : p->lr;
}

fct_status fct_train_plan_describe(json_t **out, const fct_train_plan *p, int64_t d)
{
    *out =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:f, s:f, s:s, s:I, "
                  "s:b, s:s, s:I, s:s, s:s}",
                  "preset", p->preset, "d", (json_int_t)d, "n_features", (json_int_t)p->f, "k",
                  (json_int_t)p->k, "auxk", (json_int_t)p->auxk, "batch_size", (json_int_t)p->batch,
                  "steps", (json_int_t)p->steps, "dead_rows", (json_int_t)p->dead_rows,
                  "calibration_rows", (json_int_t)p->calibration_rows, "lr", p->lr, "lr_schedule",
                  p->decay ? "last third" : "none", "aux_coef", p->aux_coef, "eps", p->eps, "aux",
                  p->aux == FCT_AUX_AUTHORS ? "authors" : "clean", "seed", (json_int_t)p->seed,
                  "trained_on_calibration", (int)p->train_calibration, "loss_scale_from",
                  p->auto_scale ? "calibration" : "option", "aux_dead_steps",
                  (json_int_t)fct_train_plan_dead_steps(p), "engine", p->fast ? "fast" : "plain",
                  "encoder_product", fct_product_name(p->product));
    return *out ? FCT_OK
                : fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
}

/* plan_checks.c - refuses options of a training that have no meaning for its architecture, that do
   not fit each other, or that would change nothing given what else was chosen: none is ignored. */
#include <string.h>

#include "train/plan.h"
#include "train/variant.h"

static fct_status refuse(const fct_train_desc *desc, const fct_variant *v, const char *option,
                         const char *why)
{
    return fct_option_fail(FCT_ERR_ARG, desc->spelling,
                           "%s has no meaning for %s, %s: leave it out", option, v->name, why);
}

fct_status fct_plan_check_meaning(const fct_train_desc *desc, const fct_variant *v)
{
    if (!v->has_k && (desc->k != 0 || desc->k_start != 0 || desc->k_warmup > 0))
        return refuse(desc, v, "{k}", "whose number of active features follows from {sparsity}");
    if (v->sparsity == 0 && (desc->sparsity != 0 || desc->sparsity_warmup > 0))
        return refuse(desc, v, "{sparsity}",
                      "which has a number of active features, {k}, and no penalty");
    if (!v->has_threshold && (desc->bandwidth != 0 || desc->init_threshold != 0))
        return refuse(desc, v, "{bandwidth} or {init_threshold}", "which learns no thresholds");
    if (v->idle_aux && desc->auxk > 0)
        return refuse(desc, v, "{auxk}",
                      "whose dead features are never positive: no aux loss reaches them");
    if (!v->has_groups && desc->groups != 0)
        return refuse(desc, v, "{groups}", "whose features are one group");
    if (v->has_threshold && desc->aux == FCT_AUX_SDXL_UNBOX)
        return refuse(desc, v, "{aux} authors", "for which it was not made");
    if ((desc->k_start != 0) != (desc->k_warmup > 0))
        return fct_option_fail(FCT_ERR_ARG, desc->spelling,
                               "a schedule of k needs both where it starts ({k_start}) and how "
                               "many steps it takes ({k_warmup})");
    return FCT_OK;
}

fct_status fct_plan_check_sizes(const fct_train_plan *p)
{
    int64_t prefix = p->f;
    if (p->f < 1 || p->f > INT32_MAX)
        return fct_fail(FCT_ERR_ARG, "%lld features: want 1 to %d", (long long)p->f, INT32_MAX);
    if (p->variant->has_k && (p->k < 1 || p->k > p->f))
        return fct_fail(FCT_ERR_ARG, "k %lld: want 1 to %lld, the number of features",
                        (long long)p->k, (long long)p->f);
    if (p->k_warmup > 0 && (p->k_start < 1 || p->k_start > p->f))
        return fct_option_fail(FCT_ERR_ARG, p->spelling,
                               "{k_start} %lld: want 1 to %lld, the number of features",
                               (long long)p->k_start, (long long)p->f);
    for (int64_t g = 1; g < p->groups; g++) prefix /= 2;
    if (p->variant->has_groups && prefix < 1)
        return fct_fail(FCT_ERR_ARG,
                        "%lld groups of %lld features: want at least 1, and each prefix is half "
                        "the next",
                        (long long)p->groups, (long long)p->f);
    return FCT_OK;
}

fct_status fct_plan_check_use(const fct_train_plan *p, const fct_train_desc *desc,
                              const fct_sae *init)
{
    const char *no_aux =
        p->variant->idle_aux ? "there is no aux loss" : "there is no aux loss: {auxk} N adds one";
    static const char weights[] = "the weights are those of {init_from}";
    bool aux = p->auxk > 0, calibrates = p->calibrate || p->auto_scale;
    const struct {
        bool given, used;
        const char *option, *why;
    } row[] = {
        {desc->aux != FCT_AUX_DEFAULT, aux, "{aux}", no_aux},
        {desc->aux_coef > 0, aux, "{aux_coef}", no_aux},
        {desc->untied, !init, "{untied}", weights},
        {desc->expansion_factor != 0, !init, "{expansion_factor}", weights},
        {desc->init_threshold != 0, !init, "{init_threshold}", weights},
        {desc->calibration_rows != 0, calibrates, "{calibration_rows}",
         "with {init_from} and a {loss_scale} nothing is left to calibrate"},
        {desc->sparsity_warmup > 0, p->sparsity > 0, "{sparsity_warmup}", "{sparsity} is 0"},
    };
    for (size_t i = 0; i < FCT_COUNT(row); i++)
        if (row[i].given && !row[i].used)
            return fct_option_fail(FCT_ERR_ARG, desc->spelling,
                                   "%s would change nothing, since %s: leave it out", row[i].option,
                                   row[i].why);
    return FCT_OK;
}

/* describe.c - says in JSON what a training does: its resolved options by their names in the option
   table, for facet.json, and for checkpoints, which only an equal description may continue. */
#include <string.h>

#include "train/engine.h"
#include "train/variant.h"

/* A resolved plan, and the values of the description that are not fields of the plan. */
typedef struct description {
    fct_train_plan p;
    int64_t d, dead_steps;
    const char *arch, *engine, *product, *scale_from, *several;
} description;

static bool is_penalised(const description *s)
{
    return s->p.variant->sparsity > 0;
}
static bool has_thresholds(const description *s)
{
    return s->p.variant->has_threshold;
}
static bool has_groups(const description *s)
{
    return s->p.variant->has_groups;
}
static bool changes_k(const description *s)
{
    return s->p.k_warmup > 0;
}
static bool warms_up(const description *s)
{
    return s->p.lr_warmup > 0;
}
static bool clips(const description *s)
{
    return s->p.grad_clip > 0;
}
static bool averages(const description *s)
{
    return s->p.ema > 0;
}
static bool is_untied(const description *s)
{
    return s->p.untied;
}
static bool has_blocks(const description *s)
{
    return s->p.n_parts > 1;
}

/* In the order in which files have them; `when` NULL: always. */
static const struct row {
    const char *name;
    fct_option_kind kind;
    size_t at;
    bool (*when)(const description *s);
} row_table[] = {
    {"preset", FCT_OPTION_TEXT, offsetof(description, p.preset), NULL},
    {"arch", FCT_OPTION_TEXT, offsetof(description, arch), NULL},
    {"d", FCT_OPTION_I64, offsetof(description, d), NULL},
    {"n_features", FCT_OPTION_I64, offsetof(description, p.f), NULL},
    {"k", FCT_OPTION_I64, offsetof(description, p.k), NULL},
    {"auxk", FCT_OPTION_I64, offsetof(description, p.auxk), NULL},
    {"batch_size", FCT_OPTION_I64, offsetof(description, p.batch), NULL},
    {"steps", FCT_OPTION_I64, offsetof(description, p.steps), NULL},
    {"dead_rows", FCT_OPTION_I64, offsetof(description, p.dead_rows), NULL},
    {"calibration_rows", FCT_OPTION_I64, offsetof(description, p.calibration_rows), NULL},
    {"lr", FCT_OPTION_F64, offsetof(description, p.lr), NULL},
    {"lr_decay", FCT_OPTION_ENUM, offsetof(description, p.lr_decay), NULL},
    {"lr_decay_steps", FCT_OPTION_F64, offsetof(description, p.lr_decay_steps), NULL},
    {"aux_coef", FCT_OPTION_F64, offsetof(description, p.aux_coef), NULL},
    {"eps", FCT_OPTION_F64, offsetof(description, p.eps), NULL},
    {"aux", FCT_OPTION_ENUM, offsetof(description, p.aux), NULL},
    {"seed", FCT_OPTION_I64, offsetof(description, p.seed), NULL},
    {"trained_on_calibration", FCT_OPTION_FLAG, offsetof(description, p.train_calibration), NULL},
    {"loss_scale_from", FCT_OPTION_TEXT, offsetof(description, scale_from), NULL},
    {"aux_dead_steps", FCT_OPTION_I64, offsetof(description, dead_steps), NULL},
    {"decoder_norm", FCT_OPTION_ENUM, offsetof(description, p.decoder_norm), NULL},
    {"normalize", FCT_OPTION_ENUM, offsetof(description, p.normalize), NULL},
    {"engine", FCT_OPTION_TEXT, offsetof(description, engine), NULL},
    {"encoder_product", FCT_OPTION_TEXT, offsetof(description, product), NULL},
    {"sparsity", FCT_OPTION_F64, offsetof(description, p.sparsity), is_penalised},
    {"sparsity_warmup", FCT_OPTION_I64, offsetof(description, p.sparsity_warmup), is_penalised},
    {"bandwidth", FCT_OPTION_F64, offsetof(description, p.bandwidth), has_thresholds},
    {"init_threshold", FCT_OPTION_F64, offsetof(description, p.init_threshold), has_thresholds},
    {"groups", FCT_OPTION_I64, offsetof(description, p.groups), has_groups},
    {"k_start", FCT_OPTION_I64, offsetof(description, p.k_start), changes_k},
    {"k_warmup", FCT_OPTION_I64, offsetof(description, p.k_warmup), changes_k},
    {"lr_warmup", FCT_OPTION_I64, offsetof(description, p.lr_warmup), warms_up},
    {"grad_clip", FCT_OPTION_F64, offsetof(description, p.grad_clip), clips},
    {"ema", FCT_OPTION_F64, offsetof(description, p.ema), averages},
    {"untied", FCT_OPTION_FLAG, offsetof(description, p.untied), is_untied},
    {"several_blocks", FCT_OPTION_TEXT, offsetof(description, several), has_blocks},
};

/* Every value, also one that an option table would leave out as a default. */
static json_t *value_of(const struct row *row, const description *s)
{
    const void *at = (const uint8_t *)s + row->at;
    int64_t whole;
    double real;
    bool flag;
    const char *text;
    json_t *word = NULL;
    switch (row->kind) {
    case FCT_OPTION_I64: memcpy(&whole, at, sizeof whole); return json_integer((json_int_t)whole);
    case FCT_OPTION_F64: memcpy(&real, at, sizeof real); return json_real(real);
    case FCT_OPTION_FLAG: memcpy(&flag, at, sizeof flag); return json_boolean(flag);
    case FCT_OPTION_TEXT: memcpy(&text, at, sizeof text); return json_string(text);
    default: break;
    }
    /* an enum: its words are those of the option */
    fct_option option = *fct_option_find(fct_train_table(), row->name);
    option.at = 0;
    return fct_option_to_json(&word, &option, at) == FCT_OK ? word : NULL;
}

fct_status fct_train_plan_describe(json_t **out, const fct_train_plan *p, int64_t d)
{
    const description s = {.p = *p,
                           .d = d,
                           .dead_steps = fct_train_plan_dead_steps(p),
                           .arch = p->variant->name,
                           .engine = p->engine->name,
                           .product = fct_product_name(p->product),
                           .scale_from = p->auto_scale ? "calibration" : "option",
                           .several = p->mixed ? "mixed" : "crosscoder"};
    json_t *j = json_object();
    bool ok = j != NULL;
    for (size_t i = 0; i < FCT_COUNT(row_table); i++)
        if (!row_table[i].when || row_table[i].when(&s))
            ok = json_object_set_new(j, row_table[i].name, value_of(&row_table[i], &s)) == 0 && ok;
    *out = ok ? j : NULL;
    if (ok) return FCT_OK;
    json_decref(j);
    return fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
}

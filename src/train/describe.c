/* describe.c - says in JSON what a training does: its resolved options by their names in the option
   table, for facet.json, and for checkpoints, which only an equal description may continue. */
#include <string.h>

#include "train/engine.h"
#include "train/variant.h"

/* A plan with what is said of it in words. */
typedef struct said {
    fct_train_plan p;
    int64_t d, dead_steps;
    const char *arch, *engine, *product, *scale_from, *several;
} said;

static bool is_penalised(const said *s)
{
    return s->p.variant->sparsity > 0;
}
static bool has_thresholds(const said *s)
{
    return s->p.variant->has_threshold;
}
static bool has_groups(const said *s)
{
    return s->p.variant->has_groups;
}
static bool changes_k(const said *s)
{
    return s->p.k_warmup > 0;
}
static bool warms_up(const said *s)
{
    return s->p.lr_warmup > 0;
}
static bool clips(const said *s)
{
    return s->p.grad_clip > 0;
}
static bool averages(const said *s)
{
    return s->p.ema > 0;
}
static bool is_untied(const said *s)
{
    return s->p.untied;
}
static bool has_blocks(const said *s)
{
    return s->p.n_parts > 1;
}

/* In the order in which files have them; `when` NULL: always. */
static const struct row {
    const char *name;
    fct_option_kind kind;
    size_t at;
    bool (*when)(const said *s);
} row_table[] = {
    {"preset", FCT_OPTION_TEXT, offsetof(said, p.preset), NULL},
    {"arch", FCT_OPTION_TEXT, offsetof(said, arch), NULL},
    {"d", FCT_OPTION_I64, offsetof(said, d), NULL},
    {"n_features", FCT_OPTION_I64, offsetof(said, p.f), NULL},
    {"k", FCT_OPTION_I64, offsetof(said, p.k), NULL},
    {"auxk", FCT_OPTION_I64, offsetof(said, p.auxk), NULL},
    {"batch_size", FCT_OPTION_I64, offsetof(said, p.batch), NULL},
    {"steps", FCT_OPTION_I64, offsetof(said, p.steps), NULL},
    {"dead_rows", FCT_OPTION_I64, offsetof(said, p.dead_rows), NULL},
    {"calibration_rows", FCT_OPTION_I64, offsetof(said, p.calibration_rows), NULL},
    {"lr", FCT_OPTION_F64, offsetof(said, p.lr), NULL},
    {"lr_decay", FCT_OPTION_ENUM, offsetof(said, p.lr_decay), NULL},
    {"lr_decay_steps", FCT_OPTION_F64, offsetof(said, p.lr_decay_steps), NULL},
    {"aux_coef", FCT_OPTION_F64, offsetof(said, p.aux_coef), NULL},
    {"eps", FCT_OPTION_F64, offsetof(said, p.eps), NULL},
    {"aux", FCT_OPTION_ENUM, offsetof(said, p.aux), NULL},
    {"seed", FCT_OPTION_I64, offsetof(said, p.seed), NULL},
    {"trained_on_calibration", FCT_OPTION_FLAG, offsetof(said, p.train_calibration), NULL},
    {"loss_scale_from", FCT_OPTION_TEXT, offsetof(said, scale_from), NULL},
    {"aux_dead_steps", FCT_OPTION_I64, offsetof(said, dead_steps), NULL},
    {"decoder_norm", FCT_OPTION_ENUM, offsetof(said, p.decoder_norm), NULL},
    {"normalize", FCT_OPTION_ENUM, offsetof(said, p.normalize), NULL},
    {"engine", FCT_OPTION_TEXT, offsetof(said, engine), NULL},
    {"encoder_product", FCT_OPTION_TEXT, offsetof(said, product), NULL},
    {"sparsity", FCT_OPTION_F64, offsetof(said, p.sparsity), is_penalised},
    {"sparsity_warmup", FCT_OPTION_I64, offsetof(said, p.sparsity_warmup), is_penalised},
    {"bandwidth", FCT_OPTION_F64, offsetof(said, p.bandwidth), has_thresholds},
    {"init_threshold", FCT_OPTION_F64, offsetof(said, p.init_threshold), has_thresholds},
    {"groups", FCT_OPTION_I64, offsetof(said, p.groups), has_groups},
    {"k_start", FCT_OPTION_I64, offsetof(said, p.k_start), changes_k},
    {"k_warmup", FCT_OPTION_I64, offsetof(said, p.k_warmup), changes_k},
    {"lr_warmup", FCT_OPTION_I64, offsetof(said, p.lr_warmup), warms_up},
    {"grad_clip", FCT_OPTION_F64, offsetof(said, p.grad_clip), clips},
    {"ema", FCT_OPTION_F64, offsetof(said, p.ema), averages},
    {"untied", FCT_OPTION_FLAG, offsetof(said, p.untied), is_untied},
    {"several_blocks", FCT_OPTION_TEXT, offsetof(said, several), has_blocks},
};

/* Every value, also one that an option table would leave out as a default. */
static json_t *value_of(const struct row *row, const said *s)
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
    const said s = {.p = *p,
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

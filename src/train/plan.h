/* plan.h - declares the resolved options of a training: every number that its steps go by, and the
   schedules that follow from them. */
#ifndef FCT_TRAIN_PLAN_H
#define FCT_TRAIN_PLAN_H

#include "base/option.h"
#include "compute/backend.h"
#include "dist/dist.h"
#include "facet/train.h"

typedef struct fct_variant fct_variant; /* variant.h */
typedef struct fct_engine fct_engine;   /* engine.h */

/* ---- presets (presets.c) ---- */

typedef struct fct_preset {
    const char *name, *arch;
    int64_t k, auxk, batch, dead_rows;
    int64_t calibration_batches; /* 0: a quarter of the data, at most 32,768 rows */
    double factor;               /* features as a multiple of the rows' width */
    double lr;
    fct_lr_decay lr_decay;
    double decay_part; /* lr falls over one in so many of the steps, the last ones */
    bool warmup;       /* lr rises over a twentieth of the steps, at most 1,000 */
    double grad_clip;  /* 0: none */
    fct_normalize normalize;
} fct_preset;
fct_status fct_preset_find(const fct_preset **out, const char *name) FCT_MUST_CHECK;

/* ---- the plan (plan.c) ---- */

/* Zero is none, here: every default is resolved. */
typedef struct fct_train_plan {
    const char *preset;
    const fct_variant *variant; /* NULL: topk, for tests */
    const fct_engine *engine;   /* NULL: plain, for tests */
    const fct_backend *be;      /* NULL: cpu, for tests */
    fct_product product;        /* what the encoder product of a reduced engine runs in */
    int64_t k, auxk, f, batch, steps, dead_rows, calibration_rows;
    int64_t log_every, checkpoint_every, keep_checkpoints;
    double lr, aux_coef, eps, loss_scale;
    fct_aux_mode aux;
    bool auto_scale;        /* loss_scale comes from the calibration rows */
    bool calibrate;         /* bias and scale from the first rows; else from given weights */
    bool train_calibration; /* the calibration rows are trained on as well */

    /* Of some variants. */
    double sparsity, bandwidth, init_threshold;
    int64_t groups;

    /* Schedules. */
    int64_t k_start, k_warmup, sparsity_warmup, lr_warmup;
    fct_lr_decay lr_decay;
    double lr_decay_steps;

    double grad_clip, ema;
    bool untied;
    fct_decoder_norm decoder_norm;
    fct_normalize normalize;

    const fct_row_part *part; /* [n_parts]: of the source, borrowed; n_parts 0: one block */
    int64_t n_parts;
    bool mixed; /* one SAE over the rows of the parts; else, with parts, a crosscoder */

    uint64_t seed;
    fct_dist *ranks;       /* share every batch; NULL: one process has it all. Its owner's */
    fct_spelling spelling; /* of options in messages */
} fct_train_plan;
/* For rows of D numbers, `total` of them (-1: unknown), starting from `init` (NULL: from
   scratch). */
fct_status fct_train_plan_init(fct_train_plan *out, const fct_train_desc *desc, int64_t d,
                               int64_t total, const fct_sae *init) FCT_MUST_CHECK;
/* The same for the rows of a source, which may be of several blocks. *out_d: D of the SAE. */
fct_status fct_train_plan_of_rows(fct_train_plan *out, const fct_train_desc *desc,
                                  const fct_row_source *rows, const fct_sae *init,
                                  int64_t *out_d) FCT_MUST_CHECK;

/* ---- what is refused (plan_checks.c) ---- */

/* Options that have no meaning for the variant. */
fct_status fct_plan_check_meaning(const fct_train_desc *desc, const fct_variant *v) FCT_MUST_CHECK;
/* Numbers that do not fit each other. */
fct_status fct_plan_check_sizes(const fct_train_plan *p) FCT_MUST_CHECK;
/* What was chosen and would change nothing, given what else was. */
fct_status fct_plan_check_use(const fct_train_plan *p, const fct_train_desc *desc,
                              const fct_sae *init) FCT_MUST_CHECK;

/* ---- its description (describe.c) ---- */

/* For checkpoints and facet.json: equal for plans that do the same. Release: json_decref. */
fct_status fct_train_plan_describe(json_t **out, const fct_train_plan *p, int64_t d) FCT_MUST_CHECK;

/* ---- what follows from it, in step number `step` from 0 (schedule.c) ---- */

double fct_train_plan_lr(const fct_train_plan *p, int64_t step);
int64_t fct_train_plan_k(const fct_train_plan *p, int64_t step);
double fct_train_plan_sparsity(const fct_train_plan *p, int64_t step);
/* A row's root mean square length about the mean: sqrt(D / loss_scale). */
double fct_train_plan_unit(const fct_train_plan *p, int64_t d);
/* Blocks whose rows lie one after the other in a batch: 1 but for mixed ones. */
int64_t fct_train_plan_mixed(const fct_train_plan *p);
/* Steps without a feature after which it is dead: at least one, however large the batch (dead_rows
   0, which no caller of fct_sae_train can say: every feature is). */
int64_t fct_train_plan_dead_steps(const fct_train_plan *p);

#endif

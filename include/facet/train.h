/* facet/train.h - trains sparse autoencoders on rows: one, or several from one pass.

   Do this:
       fct_store *store = NULL; // made by the example of facet/store.h
       fct_row_source rows = {0};
       fct_rows_desc order = {.block = "up.0.1", .order = FCT_ORDER_SHUFFLED};
       fct_train_desc desc = {.preset = "demo", .k = 8, .steps = 60, .block = "up.0.1"};
       fct_sae *sae = NULL;
       fct_status st = fct_store_open(&store, "store");
       if (st == FCT_OK) st = fct_store_rows(&rows, store, &order);
       if (st == FCT_OK) st = fct_sae_train(&sae, &rows, &desc, NULL);
       if (st == FCT_OK) st = rows.rewind(rows.self, 0);
       if (st == FCT_OK) st = fct_sae_measure_stats(sae, &rows, NULL);
       if (st == FCT_OK) st = fct_sae_save(sae, "out/saes/up.0.1", NULL);
       fct_sae_free(sae);
       if (rows.close) rows.close(rows.self);
       fct_store_close(store);

   The loss is

       loss_scale * mean((x - x')²) + aux_coef * aux + sparsity * penalty

   With loss_scale auto the first term is the share of variance that is missed. A run that was
   killed continues from its checkpoints and ends with the same bytes. */
#ifndef FACET_TRAIN_H
#define FACET_TRAIN_H

#include "facet/option.h"
#include "facet/rows.h"
#include "facet/sae.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the aux loss's target is: the plain residual without a bias, or with the decoder's bias, as
   the code of sdxl-unbox has it. */
typedef enum fct_aux_mode { FCT_AUX_DEFAULT, FCT_AUX_CLEAN, FCT_AUX_SDXL_UNBOX } fct_aux_mode;

/* How the learning rate falls to 0, over the last lr_decay_steps. */
typedef enum fct_lr_decay {
    FCT_LR_PRESET,
    FCT_LR_CONSTANT,
    FCT_LR_LINEAR,
    FCT_LR_COSINE
} fct_lr_decay;

typedef enum fct_decoder_norm {
    FCT_DECODER_PRESET,
    FCT_DECODER_PROJECT, /* rows of unit length, and their gradient without what lies along them */
    FCT_DECODER_UNIT,    /* rows of unit length alone */
    FCT_DECODER_FREE
} fct_decoder_norm;

/* What is done to rows before they are trained on.
   The SAE that comes out takes rows as they are. */
typedef enum fct_normalize {
    FCT_NORMALIZE_PRESET,
    FCT_NORMALIZE_NONE,
    FCT_NORMALIZE_MEAN,     /* the calibration rows' mean is subtracted */
    FCT_NORMALIZE_NORM,     /* scaled so that calibration rows are sqrt(D) long on average */
    FCT_NORMALIZE_MEAN_NORM /* both, in this order */
} fct_normalize;

/* Which step trains. The fast one gives what the plain one gives to within rounding, and codes
   equal up to ties; it has no gradients to look at, so some options need the plain one. AUTO: the
   fast one where it can. */
typedef enum fct_train_engine {
    FCT_ENGINE_AUTO,
    FCT_ENGINE_PLAIN,
    FCT_ENGINE_FAST
} fct_train_engine;

/* Zero is the default: the preset's value, where the preset says one. FCT_NONE is the explicit zero
   of a number that can have one. fct_train_table describes the fields, with their ranges. */
typedef struct fct_train_desc {
    const char *preset; /* "unboxing" (the paper's), "demo", "modern"; NULL: "unboxing" */
    const char *arch;   /* topk, batchtopk, jumprelu, relu, gated, matryoshka; NULL: the preset's */
    int64_t k;          /* active features a row */
    int64_t auxk;       /* dead features that the aux loss revives; FCT_NONE: no aux loss */
    int64_t n_features;
    double expansion_factor; /* instead of n_features: that many times D */
    int64_t batch_size;      /* rows in a step */
    int64_t steps;           /* 0: one pass over the rows */
    int64_t dead_rows;       /* a feature is dead after so many rows without it */
    /* First rows, which set bias and loss scale. The preset "unboxing" does not train on them, the
       others do. 0: "unboxing" takes ten batches (40,960 rows where batch_size is 4096), the others
       a quarter of the rows, but at most 32,768. */
    int64_t calibration_rows;
    double lr, eps;          /* Adam's learning rate; its eps, 0: 6.25e-10 */
    double aux_coef;         /* weight of the aux loss; 0: 1/32; FCT_NONE: no aux loss */
    double loss_scale;       /* 0: auto, 1/mean((x - mean)²) over the calibration rows */
    fct_aux_mode aux;        /* 0: clean */
    fct_train_engine engine; /* 0: auto */
    const char *backend;     /* what computes: "cpu", "ref" (plain and slow); NULL: cpu */

    /* Of some architectures; elsewhere they are refused. Lengths are in units of a row's root mean
       square length about the mean, sqrt(D / loss_scale). relu, gated: the penalty is the sum of
       activations times their directions' lengths; jumprelu: their number. */
    double sparsity;       /* weight of the penalty; 0: the architecture's; FCT_NONE: none */
    double bandwidth;      /* jumprelu: of its straight-through estimator; 0: 0.001 */
    double init_threshold; /* jumprelu: of the start; 0: 0.001 */
    int64_t groups;        /* matryoshka: nested prefixes, each twice the one before; 0: 5 */

    /* Schedules; FCT_NONE: none, where the preset has one. */
    int64_t k_start, k_warmup; /* k falls or rises linearly from k_start within so many steps */
    int64_t sparsity_warmup;   /* steps in which `sparsity` rises from 0 */
    int64_t lr_warmup;         /* steps in which lr rises from 0 */
    fct_lr_decay lr_decay;
    int64_t lr_decay_steps; /* 0: the preset's share of the steps: the last fifth, demo third */
    double grad_clip;       /* greatest length of the whole gradient; FCT_NONE: any */
    double ema;             /* the saved weights are a running mean of this decay; FCT_NONE: not */
    bool untied;            /* the decoder starts with directions of its own */
    fct_decoder_norm decoder_norm;
    fct_normalize normalize;

    /* Rows of a source with several parts: false: a crosscoder, which reads all side by side; true:
       one SAE over the rows of all, so that a batch has as many of each, whose features mean the
       same in every block. Without a choice of `normalize` each block's rows get their own scale
       (crosscoder: norm; mixed: mean-norm), so that none outweighs the others. */
    bool mix_blocks;
    uint64_t seed;         /* of the start */
    const char *init_from; /* SAE folder to start from: no calibration unless loss_scale is 0 */

    /* Checkpoint folder: continues exactly when it holds one, else starts there. Other options,
       other rows (by the source's description) or another program or instruction set are refused;
       other threads give a warning: equal within rounding. */
    const char *resume;
    int64_t checkpoint_every; /* steps; 0: 500; FCT_NONE: only at the end, or when stopped */
    /* So many of the newest stay; 0: 2. A damaged newest gives way to the one before it, with a
       warning. */
    int64_t keep_checkpoints;

    const char *log_jsonl; /* file for one line every log_every steps; NULL: none */
    int64_t log_every;     /* steps; 0: 100 */
    /* Folder for TensorBoard's event files; of several SAEs each has a folder of its name in it;
       NULL: none. */
    const char *tensorboard;
    int64_t eval_every; /* steps between measurements on held-out rows; 0: none */
    const char *block, *model, *model_hash; /* recorded in the result; NULL: unknown */
    const fct_log *log;
    fct_spelling spelling; /* how messages write the names of these fields */
} fct_train_desc;

/* The rows that describe the fields which say what is trained and how (base/option.h), in the order
   in which help lists them. */
FCT_API const fct_option *fct_train_table(void);
/* Ranges, and options that contradict each other; training asks it too. FCT_ERR_ARG names the
   field. */
FCT_API fct_status fct_train_desc_check(const fct_train_desc *desc) FCT_MUST_CHECK;

/* What came of a training. steps and rows are those done.
   dead: how many of the n_features are dead after the last step. A feature is dead when it was
   active (above 0.001) in none of the last dead_rows rows, counted in whole steps.
   The losses are of the last step; l0 and ev are of the last step that was logged, where

       ev = mean over dimensions of 1 - var(x - x')/var(x) */
typedef struct fct_train_report {
    int64_t steps, rows, n_features, k, dead;
    double loss, mse, aux, ev, l0, loss_scale, seconds;
} fct_train_report;

/* One SAE from a source, which stays the caller's and is left where training ends. *out is the
   caller's: fct_sae_free; NULL after a failure. desc NULL: all defaults. report may be NULL. Runs
   on the calling thread with all of OpenMP's. FCT_ERR_ARG: options that do not fit each other or
   the rows; FCT_ERR_RANGE: rows or losses that are not finite; FCT_ERR_STOPPED: the log's stop flag
   is up, with a checkpoint kept where there is a folder for it. */
FCT_API fct_status fct_sae_train(fct_sae **out, fct_row_source *rows, const fct_train_desc *desc,
                                 fct_train_report *report) FCT_MUST_CHECK;

/* What was measured at a logged step: all doubles, so that checkpoints keep them as they are.
       fvu   sum (x-x')² / sum (x - mean)²
   held_*: on held-out rows; NaN: not measured at this step. */
typedef struct fct_train_metrics {
    double step, loss, mse, aux;
    double ev, fvu, l0, dead_share, lr;
    double held_ev, held_fvu, held_l0, held_dead_share;
} fct_train_metrics;

/* Several SAEs from one pass over rows. A stream is a source of rows; all streams advance together,
   a batch at a time, and a batch is read once however many SAEs learn from it. All SAEs have one
   batch size, and those of one stream the same calibration rows. Each ends as if it had been
   trained alone with its options on its stream, to the byte. */
typedef struct fct_train_member {
    const char *name; /* in logs, messages and checkpoints; unlike every other member's */
    int64_t stream;   /* which of the streams it learns from, from 0 */

    /* Of what concerns the whole run (resume, checkpoint_every, keep_checkpoints, the log's
       options, log) the first member's counts. */
    fct_train_desc desc;

    /* What came of it, until fct_train_run_clear (set to NULL what you take). */
    fct_sae *sae; /* NULL: it was lost */
    /* [n_more]: with mix_blocks sae is the first block's, these are of the others: the same
       features in each block's own units. */
    fct_sae **more;
    int64_t n_more;
    char *lost; /* why it was given up at some step while others went on; NULL: it was not */
    fct_train_report report;
    fct_train_metrics *metrics; /* [n_metrics]: from the first step on, also of a continued run */
    int64_t n_metrics;
} fct_train_member;

typedef struct fct_train_run {
    fct_row_source *stream;
    int64_t n_streams;
    fct_row_source *held_out; /* [n_streams]: rows not trained on, for eval_every; NULL: none */
    fct_train_member *member;
    int64_t n_members;

    /* Several processes with the same streams and members. At least as many members as processes:
       each trains members of its own, to the bytes of one process. Fewer: they share every batch,
       each takes its part of the rows and gradients are summed; the result is that of one process
       to within rounding. Either way it is the same on all, and the first one writes the
       checkpoints and logs. NULL: one process. */
    struct fct_dist *ranks;
} fct_train_run;
/* Errors as fct_sae_train; FCT_ERR_RANGE when every member is lost. Members are released by
   fct_train_run_clear, whatever came of the call; the arrays and the streams stay the caller's. */
FCT_API fct_status fct_sae_train_many(fct_train_run *run) FCT_MUST_CHECK;
FCT_API void fct_train_run_clear(fct_train_run *run);

/* Whether the folder holds what member number `member` of this run would end as, by what the SAE
   says of its making; with mix_blocks: a folder for each block in it. FCT_ERR_ARG with the first
   difference when it was made with other options or rows. */
FCT_API fct_status fct_sae_train_finished(bool *out, const fct_train_run *run, int64_t member,
                                          const char *dir) FCT_MUST_CHECK;

/* ---- sweeps ---- */

/* A JSON file of several trainings on one pass over rows:

       {"blocks": ["down.2.1", "up.0.1"], "seeds": [0, 1], "options": {"preset": "demo"},
        "grid": {"k": [4, 8]}, "configs": [{"name": "wide", "n_features": 1024}]}

   Every part may be left out; options go by their names in fct_train_table, with '-' or '_'. Every
   block is trained with every combination of the grid and every one of configs, with every seed. A
   training config of sdxl-unbox ({"sae_configs": ...}) is understood as it is. */
typedef struct fct_sweep fct_sweep;
/* FCT_ERR_IO, or FCT_ERR_FORMAT with the first thing that is wrong; options themselves are looked
   at when they are read. */
FCT_API fct_status fct_sweep_open(fct_sweep **out, const char *path) FCT_MUST_CHECK;
FCT_API void fct_sweep_close(fct_sweep *s); /* NULL is fine */

/* What the file says of the whole run; the sweep's. */
typedef struct fct_sweep_info {
    /* [n_blocks]: "down.2.1", or "down.2.1,up.0.1" of several in step; none: the caller chooses. */
    const char *const *block;
    int64_t n_blocks;
    /* What it says under "options" that is no option of a training (a store, a folder ...), for the
       caller: the text of a JSON object. */
    const char *rest;
} fct_sweep_info;
FCT_API const fct_sweep_info *fct_sweep_get_info(const fct_sweep *s);
/* Its "options" into desc; what they do not say stays. Texts are the sweep's. FCT_ERR_FORMAT names
   the option and what it wants. */
FCT_API fct_status fct_sweep_read(const fct_sweep *s, fct_train_desc *desc) FCT_MUST_CHECK;

/* One training of the list: what a fct_train_member is made of. */
typedef struct fct_sweep_item {
    const char *name; /* BLOCK_k4_seed0 */
    int64_t stream;   /* which of those that were given */
    fct_train_desc desc;
    const char *options; /* what its configuration says: the text of a JSON object */
} fct_sweep_item;
/* The trainings on these streams, told by name and width: base, and what each configuration says,
   checked. They and their texts are the sweep's, until it is closed or lists again. FCT_ERR_FORMAT
   names the first thing that is wrong. */
FCT_API fct_status fct_sweep_list(fct_sweep *s, const fct_train_desc *base,
                                  const fct_row_part *stream, int64_t n_streams,
                                  const fct_sweep_item **out, int64_t *out_n) FCT_MUST_CHECK;

/* ---- checkpoints ---- */

/* Whether desc->resume holds something to continue; and its removal once the result is there: only
   the checkpoints' own files, and the folder when nothing else is in it. */
FCT_API bool fct_sae_checkpoint_exists(const char *dir);
FCT_API void fct_sae_checkpoint_remove(const char *dir);

#ifdef __cplusplus
}
#endif
#endif

/* facet/sae.h - sparse autoencoders: load, save, encode, decode, train.

   Do this:
       fct_sae *sae = NULL;
       fct_sae_load(&sae, "out/saes/down.2.1", NULL);
       fct_sae_encode(sae, rows, n, index, value);       k strongest features of each row
       fct_sae_free(sae);

   With a = x - b_dec (or x) and h = W_enc a + b_enc the kinds differ in which activations z they
   keep; always x' = sum_f z_f W_dec[f] + b_dec. Rows are f32 [n,D]. Features are counted from 0.
   What can be trained is another table (fct_train_desc); this one is what can be applied. */
#ifndef FACET_SAE_H
#define FACET_SAE_H

#include "facet/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fct_sae_kind {
    FCT_SAE_TOPK,     /* the k largest h of a row, after ReLU: the only kind with a fixed k */
    FCT_SAE_RELU,     /* z = ReLU(h): SAELens' "standard" */
    FCT_SAE_JUMPRELU, /* z = ReLU(h) where h > threshold */
    FCT_SAE_GATED, /* z = ReLU(exp(r_mag) W_enc a + b_mag) where h > 0: b_enc is the gate's bias */
    FCT_SAE_BATCHTOPK /* as JUMPRELU with one threshold for all features, which keeps k a row on
                         average; also Matryoshka, whose groups matter in training alone */
} fct_sae_kind;

/* What is taken out of each row before all else, and put back into its reconstruction. */
typedef enum fct_sae_normalize {
    FCT_SAE_NORMALIZE_NONE,
    FCT_SAE_NORMALIZE_LAYER, /* (x - mean) / (std + 1e-5), std with D - 1; back: x' std + mean */
    FCT_SAE_NORMALIZE_NORM   /* x sqrt(D)/|x|; back: x' |x|/sqrt(D) */
} fct_sae_normalize;

/* A crosscoder is an SAE of the rows of several blocks side by side: D is the sum of their widths.
 */
enum { FCT_SAE_MOST_BLOCKS = 16 };
typedef struct fct_sae_block {
    char *name; /* "down.2.1" */
    int64_t d;
    float scale; /* by which its rows were multiplied in training, so that blocks weigh the same */
} fct_sae_block;

typedef struct fct_sae { /* read-only for users; made by load or training, released by fct_sae_free
                          */
    fct_sae_kind kind;
    int64_t d, f;
    int64_t k;    /* TOPK: active features a row; BATCHTOPK: on average, 0 when unknown; else 0 */
    float *w_enc; /* [F,D]: one row a feature (SAELens stores the transpose) */
    float *b_enc; /* [F] */
    float *w_dec; /* [F,D]: row f is feature f's direction */
    float *b_dec; /* [D] */
    float *threshold;     /* [F]: JUMPRELU; BATCHTOPK: F times the same; else NULL */
    float *b_mag, *r_mag; /* [F] each: GATED; else NULL */
    float *dec_norm; /* [F], or NULL. SAELens' rescale_acts_by_decoder_norm: |W_dec[f]|, by which h
                        is multiplied before anything is kept, and z divided when it is decoded */
    bool apply_b_dec_to_input;
    fct_sae_normalize normalize;
    int64_t n_groups;      /* Matryoshka: groups of features, the first the coarsest; else 0 */
    int64_t *group_size;   /* [n_groups]; NULL without groups */
    int64_t n_blocks;      /* of a crosscoder, in the order of their numbers in a row; else 0 */
    fct_sae_block *blocks; /* [n_blocks]; NULL: it is none */
    char *block;           /* "down.2.1" or a full name; NULL when the folder does not say */
    char *model;           /* name of the model it was trained on; NULL: unknown */
    char *path;
    bool is_slice;     /* made by fct_sae_slice: `path` is the whole's folder */
    bool has_stats;    /* any of these statistics, each [F]; NULL when absent: */
    float *density;    /* share of rows in which the feature is active */
    float *mean, *std; /* when active */
    float *max;
    char *facet_json; /* what facet.json held, or what training has to say (options, loss_scale,
                         seed): text; NULL: nothing */
} fct_sae;

/* Of a crosscoder, with `block` the SAE of that block alone (fct_sae_slice).
   Reads an SAE's folder in any of the formats below (told by what is there), a torch file of
   openai's or of dictionary_learning's, or a folder with several (the authors' checkpoints root, a
   run folder with `final/`): with several that fit `block` (NULL: any) the error lists them.
   Pickles with anything beyond tensors are refused, and never run. */
FCT_API fct_status fct_sae_load(fct_sae **out, const char *dir, const char *block) FCT_MUST_CHECK;
FCT_API void fct_sae_free(fct_sae *s);
/* One block's part of a crosscoder: its directions, statistics of the whole's codes. What it
   encodes are the products of that block's rows alone, as if those of the others were at their
   bias: an estimate of the whole's codes, smaller the more of a feature is elsewhere. */
FCT_API fct_status fct_sae_slice(fct_sae **out, const fct_sae *s, const char *block) FCT_MUST_CHECK;
/* out [F,n_blocks]: the length of a feature's direction in each block, in units of that block's
   rows (scale), as a share of the sum: which blocks a feature belongs to. */
FCT_API void fct_sae_block_share(const fct_sae *s, float *out);
/* "topk", "standard", "jumprelu", "gated", "batchtopk". */
FCT_API const char *fct_sae_kind_name(fct_sae_kind kind);
typedef enum fct_sae_layout {
    FCT_SAE_SAELENS,   /* cfg.json, sae_weights.safetensors */
    FCT_SAE_AUTHORS,   /* sdxl-unbox: config.json, state_dict.pth, mean.pt, std.pt */
    FCT_SAE_DICTLEARN, /* dictionary-learning: config.json, ae.pt */
    FCT_SAE_SPARSIFY,  /* EleutherAI's: cfg.json, sae.safetensors */
    FCT_SAE_OPENAI,    /* openai/sparse_autoencoder: one torch file, here autoencoder.pt */
    FCT_SAE_LAYOUT_COUNT
} fct_sae_layout;
FCT_API const char *fct_sae_layout_name(fct_sae_layout layout); /* "saelens", "sdxl-unbox", ... */
FCT_API fct_status fct_sae_layout_find(fct_sae_layout *out, const char *name) FCT_MUST_CHECK;
/* The name of the format that an SAE lies in; NULL: none is there. */
FCT_API const char *fct_sae_layout_of(const char *path);
/* Whether an SAE can be put there: the folder is not there or empty, or holds an SAE of that layout
   (which is replaced), or what a kill left of one. Else a sentence; saving asks it too. */
FCT_API fct_status fct_sae_check_place(const char *dir, fct_sae_layout layout) FCT_MUST_CHECK;
/* SAELens layout + facet.json + stats.safetensors with the statistics that there are. `facet_json`:
   extra members kept there (text of a JSON object), may be NULL. The folder appears whole or not at
   all.
 */
FCT_API fct_status fct_sae_save(const fct_sae *s, const char *dir,
                                const char *facet_json) FCT_MUST_CHECK;
/* In any format, with facet.json and the statistics beside it; what the format cannot say is
   refused with the reason. See docs/formats.md for what each keeps. */
FCT_API fct_status fct_sae_save_as(const fct_sae *s, const char *dir,
                                   fct_sae_layout layout) FCT_MUST_CHECK;
/* Names of the statistics that s has and that layout has no place for; how many there are. */
FCT_API int fct_sae_lost_stats(const fct_sae *s, fct_sae_layout layout, const char *name[4]);
FCT_API fct_status fct_sae_save_authors(const fct_sae *s, const char *dir) FCT_MUST_CHECK;
/* Only the statistics, beside the SAE that lies in `dir`, in its layout; no other file is touched.
 */
FCT_API fct_status fct_sae_save_stats(const fct_sae *s, const char *dir) FCT_MUST_CHECK;

/* TOPK: index, value [n,k], strongest first, ties to the lower index, values after ReLU; slots
   beyond the positive ones have value 0 and distinct unused indices. Other kinds are refused. */
FCT_API fct_status fct_sae_encode(const fct_sae *s, const float *rows, int64_t n, int32_t *index,
                                  float *value) FCT_MUST_CHECK;
/* Any kind: all activations, dense [n,F]; features that are not kept are 0. */
FCT_API fct_status fct_sae_encode_dense(const fct_sae *s, const float *rows, int64_t n,
                                        float *z) FCT_MUST_CHECK;
/* Rows from k activations each, with b_dec. Of an SAE with `normalize` they still lack what each
   row had taken out of it: see fct_sae_restore. */
FCT_API fct_status fct_sae_decode(const fct_sae *s, const int32_t *index, const float *value,
                                  int64_t n, int64_t k, float *rows) FCT_MUST_CHECK;
/* What `normalize` takes out of each row, [n] each: a decoded row y stands for y * scale + shift. 1
   and 0 without it. */
FCT_API fct_status fct_sae_row_scale(const fct_sae *s, const float *rows, int64_t n, float *scale,
                                     float *shift) FCT_MUST_CHECK;
FCT_API void fct_sae_restore(float *rows, int64_t n, int64_t d, const float *scale,
                             const float *shift);
/* rows' reconstruction in one call, with b_dec and all that `normalize` took out. */
FCT_API fct_status fct_sae_rebuild(const fct_sae *s, const float *rows, int64_t n,
                                   float *out) FCT_MUST_CHECK;

/* A source of training rows. next: up to `want` rows, f32 [n,D], valid until the following call; *n
   == 0 at the end of the data. tell/seek: a small blob that counts rows consumed. The trainer never
   looks behind it: files, memory and live capture are alike. */
typedef struct fct_row_part { /* one block's rows within a source's */
    const char *name;         /* "down.2.1"; valid until close */
    int64_t d;
} fct_row_part;

typedef struct fct_row_source {
    void *self;
    int64_t d;
    int64_t total; /* rows in one pass; -1: unknown */
    fct_status (*next)(void *self, int64_t want, const float **rows, int64_t *n);
    fct_status (*tell)(void *self, uint8_t blob[64]);
    fct_status (*seek)(void *self, const uint8_t blob[64]);
    /* Passes over up to `want` rows as if next had given them, at less cost; NULL: they are read.
     */
    fct_status (*skip)(void *self, int64_t want, int64_t *n);
    fct_status (*rewind)(
        void *self,
        int64_t pass); /* start pass number `pass` (0, 1, ...) in that pass's own order */
    /* The text of a JSON object that says which rows these are and in which order: equal for equal
       rows, valid until close. A checkpoint of others is refused. NULL: not known. */
    fct_status (*describe)(void *self, const char **json);
    void (*close)(void *self);
    /* Several blocks in step: row i of every part is of the same prompt, step and place. d is the
       sum of the parts' widths and next gives the parts side by side, [n, d], in this order.
       next_parts gives each as a matrix of its own: rows[p] is [n, part[p].d]; both read on from
       the same place. n_parts 1: one block; 0 and NULL: the source does not say. */
    const fct_row_part *part;
    int64_t n_parts;
    fct_status (*next_parts)(void *self, int64_t want, const float **rows, int64_t *n);
} fct_row_source;

/* One part of a source with several, as a source of its own; valid while joint is, which it moves.
 */
FCT_API fct_status fct_row_source_part(fct_row_source *out, fct_row_source *joint,
                                       int64_t part) FCT_MUST_CHECK;

typedef enum fct_aux_mode { FCT_AUX_CLEAN, FCT_AUX_AUTHORS } fct_aux_mode;
typedef enum fct_lr_decay { /* over the last lr_decay_steps, to 0 */
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
/* What is done to rows before they are trained on. The SAE that comes out takes rows as they are.
 */
typedef enum fct_normalize {
    FCT_NORMALIZE_PRESET,
    FCT_NORMALIZE_NONE,
    FCT_NORMALIZE_MEAN,     /* the calibration rows' mean is subtracted */
    FCT_NORMALIZE_NORM,     /* scaled so that calibration rows are sqrt(D) long on average */
    FCT_NORMALIZE_MEAN_NORM /* both, in this order */
} fct_normalize;

/* Which step trains. The fast one gives what the plain one gives to within rounding, and codes
   equal up to ties; it has no gradients to look at, so some options need the plain one. */
typedef enum fct_train_engine {
    FCT_ENGINE_AUTO,
    FCT_ENGINE_PLAIN,
    FCT_ENGINE_FAST
} fct_train_engine; /* auto: the fast one where it can */

typedef struct fct_train_desc { /* zero: the preset's value */
    const char *preset;         /* "unboxing" (the paper's), "demo", "modern"; NULL: "unboxing" */
    const char *arch; /* topk, batchtopk, jumprelu, relu, gated, matryoshka; NULL: the preset's */
    int64_t k, auxk, n_features, batch_size, steps, dead_rows,
        calibration_rows;    /* auxk -1: no aux term */
    double expansion_factor; /* n_features = factor * D, when n_features is 0 */
    double lr, aux_coef, eps;
    double loss_scale; /* 0: auto, 1/mean((x - mean)²) over the calibration rows */
    fct_aux_mode aux;
    bool aux_set; /* aux was chosen, not left to the preset */
    fct_train_engine engine;
    /* Of some architectures; elsewhere they are refused. The loss is loss_scale * mean((x - x')²) +
       sparsity * penalty; with loss_scale auto the first term is the share of variance that is
       missed. Lengths are in units of a row's root mean square length about the mean,
       sqrt(D / loss_scale). relu, gated: the penalty is the sum of activations times their
       directions' lengths; jumprelu: their number. */
    double sparsity;
    double bandwidth, init_threshold; /* jumprelu: of its straight-through estimator; of the start
                                       */
    int64_t groups; /* matryoshka: nested prefixes, each twice as long as the one before */
    /* Schedules; -1: none, where the preset has one. */
    int64_t k_start, k_warmup; /* k falls or rises linearly from k_start within so many steps */
    int64_t sparsity_warmup;   /* steps in which `sparsity` rises from 0 */
    int64_t lr_warmup;         /* steps in which lr rises from 0 */
    fct_lr_decay lr_decay;
    int64_t lr_decay_steps; /* 0: the preset's share of the steps: the last fifth, demo third */
    double grad_clip;       /* greatest length of the whole gradient; -1: none */
    double ema;             /* the saved weights are a running mean of this decay; -1: none */
    bool untied;            /* the decoder starts with directions of its own */
    fct_decoder_norm decoder_norm;
    fct_normalize normalize;
    /* Rows of a source with several parts: false: a crosscoder, which reads all side by side; true:
       one SAE over the rows of all, so that a batch has as many of each, whose features mean the
       same in every block. Without a choice of `normalize` each block's rows get their own scale
       (crosscoder: norm; mixed: mean-norm), so that none outweighs the others. */
    bool mix_blocks;
    uint64_t seed;
    const char *init_from; /* SAE folder to start from: no calibration unless loss_scale is 0 */
    /* Checkpoint folder: continues exactly when it holds one, else starts there. Other options,
       other rows (by the source's description) or another program or instruction set are refused;
       other threads give a warning: equal within rounding. */
    const char *resume;
    int64_t checkpoint_every; /* steps; 0: only at the end */
    int64_t keep_checkpoints; /* so many of the newest stay; 0: 2. A damaged newest gives way to
                                 the one before it, with a warning */
    const char *log_jsonl;    /* file for one line every log_every steps; NULL: none */
    int64_t log_every;
    const char *tensorboard; /* folder for TensorBoard's event files; of several SAEs each has a
                                folder of its name in it; NULL: none */
    int64_t eval_every;      /* steps between measurements on held-out rows; 0: none */
    const char *block, *model, *model_hash; /* recorded in the result; NULL: unknown */
    const fct_log *log;
} fct_train_desc;

typedef struct fct_train_report {
    int64_t steps, rows, n_features, k, dead; /* dead: at the end, by dead_rows */
    double loss, mse, aux, ev, l0, loss_scale,
        seconds; /* of the last logged step; ev: mean over dimensions of 1 - var(x-x')/var(x) */
} fct_train_report;

FCT_API fct_status fct_sae_train(fct_sae **out, fct_row_source *rows, const fct_train_desc *desc,
                                 fct_train_report *report) FCT_MUST_CHECK;

typedef struct fct_train_point { /* a logged step: all doubles, so that checkpoints keep them as
                                    they are */
    double step, loss, mse, aux;
    double ev, fvu, l0, dead_share, lr; /* fvu: sum (x-x')² / sum (x - mean)² */
    double held_ev, held_fvu, held_l0,
        held_dead_share; /* on held-out rows; NaN: not measured at this step */
} fct_train_point;

/* Several SAEs from one pass over rows. A stream is a source of rows; all streams advance together,
   a batch at a time, and a batch is read once however many SAEs learn from it. All SAEs have one
   batch size, and those of one stream the same calibration rows. Each ends as if it had been
   trained alone with its options on its stream, to the byte. */
typedef struct fct_train_member {
    const char *name;    /* in logs, messages and checkpoints; unlike every other member's */
    int64_t stream;      /* which of the streams it learns from, from 0 */
    fct_train_desc desc; /* of what concerns the whole run (resume, checkpoint_every,
                            keep_checkpoints, the log's options, log) the first member's counts */
    fct_sae *sae;        /* what came of it: the caller's; NULL: it was lost */
    fct_sae **more;      /* [n_more]: with mix_blocks sae is the first block's, these are of the
                            others: the same features in each block's own units */
    int64_t n_more;
    char *lost; /* why it was given up at some step while others went on; NULL: it was not */
    fct_train_report report;
    fct_train_point *course; /* [n_course]: from the first step on, also of a continued run */
    int64_t n_course;
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
/* Fails when every member is lost. Members are released by fct_train_run_clear, whatever came of
   the call; the arrays and the streams stay the caller's. */
FCT_API fct_status fct_sae_train_many(fct_train_run *run) FCT_MUST_CHECK;
FCT_API void fct_train_run_clear(fct_train_run *run);
/* Whether the folder holds what member number `member` of this run would end as, by what the SAE
   says of its making; with mix_blocks: a folder for each block in it. FCT_ERR_ARG with the first
   difference when it was made with other options or rows. */
FCT_API fct_status fct_sae_train_finished(bool *out, const fct_train_run *run, int64_t member,
                                          const char *dir) FCT_MUST_CHECK;

/* Whether desc->resume holds something to continue; and its removal once the result is there: only
   the checkpoints' own files, and the folder when nothing else is in it. */
FCT_API bool fct_sae_checkpoint_exists(const char *dir);
FCT_API void fct_sae_checkpoint_remove(const char *dir);

/* One pass with the finished weights: fills density, mean, std, max. Stops after max_rows (0: all).
   ranks: several processes with the same SAE and rows take a part of the pass each, and all get the
   whole's figures; NULL: one. */
FCT_API fct_status fct_sae_measure_stats(fct_sae *s, fct_row_source *rows, int64_t max_rows,
                                         struct fct_dist *ranks, const fct_log *log) FCT_MUST_CHECK;

typedef struct fct_sae_quality { /* on rows that training has not seen */
    double ev;       /* mean over dimensions of 1 - var(x-x')/(var(x)+1e-8): the authors' measure */
    double ev_total; /* 1 - sum var(x-x') / sum var(x) */
    double l0, dead_share; /* mean number of active features; share of features never active on
                              these rows */
    int64_t rows;
    double block_ev[FCT_SAE_MOST_BLOCKS]; /* of a crosscoder: ev of each block */
} fct_sae_quality;
FCT_API fct_status fct_sae_measure_quality(const fct_sae *s, fct_row_source *rows, int64_t max_rows,
                                           fct_sae_quality *out) FCT_MUST_CHECK;

/* Codes of any kind, only what is active: row r's are [row_offsets[r], row_offsets[r+1]). TOPK:
 * strongest first; others: by index. */
typedef struct fct_sae_csr {
    int64_t rows, n;
    int64_t *row_offsets; /* [rows+1] */
    int32_t *indices;     /* [n] */
    float *values;        /* [n], all > 0 */
} fct_sae_csr;
FCT_API fct_status fct_sae_encode_csr(const fct_sae *s, const float *rows, int64_t n,
                                      fct_sae_csr *out) FCT_MUST_CHECK;
FCT_API void fct_sae_csr_clear(fct_sae_csr *c);

/* `facet encode`: rows [n,D] of any float type from a .safetensors (the only 2-D tensor, or
   `tensor`) or .npy file -> a safetensors file with `indices` int32 and `values` f32 [n,k]; without
   a fixed k `row_offsets` int64 [n+1] and flat `indices`, `values`. With `rebuild` also `rebuilt`
   f32 [n,D], the rows' reconstruction. */
typedef struct fct_encode_file_desc {
    const char *in, *tensor, *out;
    bool rebuild;
    const fct_log *log;
} fct_encode_file_desc;
FCT_API fct_status fct_sae_encode_file(const fct_sae *s, const fct_encode_file_desc *desc,
                                       int64_t *out_rows) FCT_MUST_CHECK;

/* Folders below `root` that hold an SAE for `block` (NULL: any), as fct_sae_load would search them;
   sorted. Release each and the array with fct_sae_paths_free. */
FCT_API fct_status fct_sae_find(char ***out_paths, int64_t *out_n, const char *root,
                                const char *block) FCT_MUST_CHECK;
FCT_API void fct_sae_paths_free(char **paths, int64_t n);

#ifdef __cplusplus
}
#endif
#endif

/* facet/sae.h - loads, saves and measures sparse autoencoders, encodes rows with them and decodes
   codes.

   Do this:
       fct_sae *sae = NULL; // made by the example of facet/train.h
       fct_sae_coder *coder = NULL;
       fct_sae_csr codes = {0};
       fct_status st = fct_sae_load(&sae, "out/saes/up.0.1", NULL);
       if (st == FCT_OK) st = fct_sae_coder_open(&coder, sae, NULL);
       float *row = st == FCT_OK ? calloc((size_t)sae->d, sizeof *row) : NULL;
       if (row) row[0] = 1; // one row of sae->d numbers
       if (row) st = fct_sae_encode_csr(coder, row, 1, &codes);
       for (int64_t i = 0; i < codes.n; i++)
           printf("feature %d: %g\n", (int)codes.indices[i], (double)codes.values[i]);
       fct_sae_csr_clear(&codes);
       free(row);
       fct_sae_coder_close(coder);
       fct_sae_free(sae);

   With a = x - b_dec (or x) and h = W_enc a + b_enc the kinds differ in which activations z they
   keep; always

       x' = sum_f z_f W_dec[f] + b_dec

   Rows are f32 [n,D]. Features are counted from 0. How an SAE is trained says facet/train.h. */
#ifndef FACET_SAE_H
#define FACET_SAE_H

#include "facet/rows.h"
#include "facet/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* BATCHTOPK is as JUMPRELU with one threshold for all features, which keeps k a row on average;
   also Matryoshka, whose groups matter in training alone. GATED: b_enc is the gate's bias. */
typedef enum fct_sae_kind {
    FCT_SAE_TOPK,     /* the k largest h of a row, after ReLU: the only kind with a fixed k */
    FCT_SAE_RELU,     /* z = ReLU(h): SAELens' "standard" */
    FCT_SAE_JUMPRELU, /* z = ReLU(h) where h > threshold */
    FCT_SAE_GATED,    /* z = ReLU(exp(r_mag) W_enc a + b_mag) where h > 0 */
    FCT_SAE_BATCHTOPK
} fct_sae_kind;

/* What is taken out of each row before all else, and put back into its reconstruction:
       LAYER   (x - mean) / (std + 1e-5), std with D - 1; back: x' std + mean
       NORM    x sqrt(D)/|x|; back: x' |x|/sqrt(D) */
typedef enum fct_sae_normalize {
    FCT_SAE_NORMALIZE_NONE,
    FCT_SAE_NORMALIZE_LAYER,
    FCT_SAE_NORMALIZE_NORM
} fct_sae_normalize;

/* A crosscoder is an SAE of the rows of several blocks side by side: D is the sum of their widths.
   scale: by which a block's rows were multiplied in training, so that blocks weigh the same. */
enum { FCT_SAE_MAX_BLOCKS = 16 };
typedef struct fct_sae_block {
    char *name; /* "down.2.1" */
    int64_t d;
    float scale;
} fct_sae_block;

/* Read-only for users; made by load or training, released by fct_sae_free. Once made it may be read
   by any number of threads. */
typedef struct fct_sae {
    fct_sae_kind kind;
    int64_t d, f;
    int64_t k;    /* TOPK: active features a row; BATCHTOPK: on average, 0 unknown; else 0 */
    float *w_enc; /* [F,D]: one row a feature (SAELens stores the transpose) */
    float *b_enc; /* [F] */
    float *w_dec; /* [F,D]: row f is feature f's direction */
    float *b_dec; /* [D] */
    float *threshold;     /* [F]: JUMPRELU; BATCHTOPK: F times the same; else NULL */
    float *b_mag, *r_mag; /* [F] each: GATED; else NULL */

    /* [F], or NULL. SAELens' rescale_acts_by_decoder_norm: |W_dec[f]|, by which h is multiplied
       before anything is kept, and z divided when it is decoded. */
    float *dec_norm;
    bool apply_b_dec_to_input;
    fct_sae_normalize normalize;

    int64_t n_groups;      /* Matryoshka: groups of features, the first the coarsest; else 0 */
    int64_t *group_size;   /* [n_groups]; NULL without groups */
    int64_t n_blocks;      /* of a crosscoder, in the order of their numbers in a row; else 0 */
    fct_sae_block *blocks; /* [n_blocks]; NULL: it is none */
    char *block;           /* "down.2.1" or a full name; NULL when the folder does not say */
    char *model;           /* name of the model it was trained on; NULL: unknown */
    char *path;
    bool is_slice; /* made by fct_sae_slice: `path` is the whole's folder */

    /* Statistics over rows, each [F], NULL when absent; has_stats: any of them is there. */
    bool has_stats;
    float *density;    /* share of rows in which the feature is active */
    float *mean, *std; /* when active */
    float *max;

    /* What facet.json held, or what training has to say (options, loss_scale, seed): the text of a
       JSON object; NULL: nothing. */
    char *facet_json;
} fct_sae;

/* ---- files ---- */

/* Reads an SAE's folder in any of the formats below (told by what is there), a torch file of
   openai's or of dictionary_learning's, or a folder with several (sdxl-unbox's `checkpoints/`, a
   run folder with `final/`): with several that fit `block` (NULL: any) the error lists them.
   Of a crosscoder, with `block`, the SAE of that block alone (fct_sae_slice).
   Pickles with anything beyond tensors are refused, and never run. */
FCT_API fct_status fct_sae_load(fct_sae **out, const char *dir, const char *block) FCT_MUST_CHECK;
FCT_API void fct_sae_free(fct_sae *s); /* NULL is fine */

/* One block's part of a crosscoder: its directions, statistics of the whole's codes. What it
   encodes are the products of that block's rows alone, as if those of the others were at their
   bias: an estimate of the whole's codes, smaller the more of a feature is elsewhere.
   FCT_ERR_MISSING when it has no such block. */
FCT_API fct_status fct_sae_slice(fct_sae **out, const fct_sae *s, const char *block) FCT_MUST_CHECK;
/* out [F,n_blocks]: the length of a feature's direction in each block, in units of that block's
   rows (scale), as a share of the sum: which blocks a feature belongs to. */
FCT_API void fct_sae_block_share(const fct_sae *s, float *out);
/* A crosscoder's blocks in one text, "down.2.1,up.0.1" with `between` for the comma; "" of others.
   Release with fct_free. */
FCT_API fct_status fct_sae_blocks_text(char **out, const fct_sae *s,
                                       const char *between) FCT_MUST_CHECK;
/* "topk", "standard", "jumprelu", "gated", "batchtopk". */
FCT_API const char *fct_sae_kind_name(fct_sae_kind kind);

typedef enum fct_sae_layout {
    FCT_SAE_SAELENS,    /* cfg.json, sae_weights.safetensors */
    FCT_SAE_SDXL_UNBOX, /* surkovv/sdxl-unbox: config.json, state_dict.pth, mean.pt, std.pt */
    FCT_SAE_DICTLEARN,  /* dictionary-learning: config.json, ae.pt */
    FCT_SAE_SPARSIFY,   /* EleutherAI's: cfg.json, sae.safetensors */
    FCT_SAE_OPENAI,     /* openai/sparse_autoencoder: one torch file, here autoencoder.pt */
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
   all. */
FCT_API fct_status fct_sae_save(const fct_sae *s, const char *dir,
                                const char *facet_json) FCT_MUST_CHECK;
/* In any format, with facet.json and the statistics beside it; what the format cannot say is
   refused with the reason (FCT_ERR_UNSUPPORTED). See docs/formats.md for what each keeps. */
FCT_API fct_status fct_sae_save_as(const fct_sae *s, const char *dir,
                                   fct_sae_layout layout) FCT_MUST_CHECK;
/* Names of the statistics that s has and that layout has no place for; how many there are. */
FCT_API int fct_sae_lost_stats(const fct_sae *s, fct_sae_layout layout, const char *name[4]);
/* Writes only the statistics, beside the SAE that lies in `dir`, in its layout.
   No other file is touched. */
FCT_API fct_status fct_sae_save_stats(const fct_sae *s, const char *dir) FCT_MUST_CHECK;

/* Folders below `root` that hold an SAE for `block` (NULL: any), as fct_sae_load would search them;
   sorted. One block of memory: release the array with fct_free. */
FCT_API fct_status fct_sae_find(char ***out_paths, int64_t *out_n, const char *root,
                                const char *block) FCT_MUST_CHECK;

/* ---- rows to codes and back ---- */

/* Applies an SAE: what computes, and memory that is kept from call to call. Used by one thread at a
   time; any number of them share an SAE, which must outlive them and stay as it is. */
typedef struct fct_sae_coder fct_sae_coder;
/* backend: "cpu", "ref" (plain and slow: for comparison); NULL: cpu. Takes no memory yet. */
FCT_API fct_status fct_sae_coder_open(fct_sae_coder **out, const fct_sae *s,
                                      const char *backend) FCT_MUST_CHECK;
FCT_API void fct_sae_coder_close(fct_sae_coder *c); /* NULL is fine */

/* TOPK: index, value [n,k], strongest first, ties to the lower index, values after ReLU; slots
   beyond the positive ones have value 0 and distinct unused indices. Other kinds are refused
   (FCT_ERR_UNSUPPORTED); a row that is not finite is FCT_ERR_RANGE and named. */
FCT_API fct_status fct_sae_encode(fct_sae_coder *c, const float *rows, int64_t n, int32_t *index,
                                  float *value) FCT_MUST_CHECK;
/* Any kind: all activations, dense z [n,F]; features that are not kept are 0. */
FCT_API fct_status fct_sae_encode_dense(fct_sae_coder *c, const float *rows, int64_t n,
                                        float *z) FCT_MUST_CHECK;

/* Codes of any kind, only what is active: row r's are [row_offsets[r], row_offsets[r+1]). TOPK:
   strongest first; others: by index. Owned by the caller's struct: fct_sae_csr_clear. */
typedef struct fct_sae_csr {
    int64_t rows, n;
    int64_t *row_offsets; /* [rows+1] */
    int32_t *indices;     /* [n] */
    float *values;        /* [n], all > 0 */
} fct_sae_csr;
/* out need not be initialised; after a failure it is empty. */
FCT_API fct_status fct_sae_encode_csr(fct_sae_coder *c, const float *rows, int64_t n,
                                      fct_sae_csr *out) FCT_MUST_CHECK;
FCT_API void fct_sae_csr_clear(fct_sae_csr *c);

/* Rows [n,D] from k activations each, with b_dec. Of an SAE with `normalize` they still lack what
   each row had taken out of it: see fct_sae_restore. An index beyond F is FCT_ERR_RANGE. */
FCT_API fct_status fct_sae_decode(fct_sae_coder *c, const int32_t *index, const float *value,
                                  int64_t n, int64_t k, float *rows) FCT_MUST_CHECK;
/* What `normalize` takes out of each row, [n] each: a decoded row y stands for y * scale + shift. 1
   and 0 without it. */
FCT_API fct_status fct_sae_row_scale(const fct_sae *s, const float *rows, int64_t n, float *scale,
                                     float *shift) FCT_MUST_CHECK;
FCT_API void fct_sae_restore(float *rows, int64_t n, int64_t d, const float *scale,
                             const float *shift);
/* out [n,D]: rows' reconstruction in one call, with b_dec and all that `normalize` took out. May be
   rows. */
FCT_API fct_status fct_sae_rebuild(fct_sae_coder *c, const float *rows, int64_t n,
                                   float *out) FCT_MUST_CHECK;

/* `facet encode`: rows [n,D] of any float type from a .safetensors (the only 2-D tensor, or
   `tensor`) or .npy file -> a safetensors file with `indices` int32 and `values` f32 [n,k]; without
   a fixed k `row_offsets` int64 [n+1] and flat `indices`, `values`. With `rebuild` also `rebuilt`
   f32 [n,D], the rows' reconstruction. */
typedef struct fct_encode_file_desc {
    const char *in, *tensor, *out; /* tensor NULL: the only 2-D one; out "-": standard output */
    bool rebuild;
    const char *backend; /* NULL: cpu */
    const fct_log *log;
} fct_encode_file_desc;
FCT_API fct_status fct_sae_encode_file(const fct_sae *s, const fct_encode_file_desc *desc,
                                       int64_t *out_rows) FCT_MUST_CHECK;

/* ---- measures ---- */

struct fct_dist; /* several processes as one (facet/dist.h) */

/* How rows are passed over. Zero is the default, and so is NULL in its place. */
typedef struct fct_measure_desc {
    int64_t max_rows;    /* stop after so many; 0: all */
    const char *backend; /* what computes: "cpu", "ref"; NULL: cpu */
    /* Of statistics: several processes with the same SAE and rows take a part of the pass each, and
       all get the whole's figures. NULL: one process. */
    struct fct_dist *ranks;
    const fct_log *log; /* NULL: silence */
} fct_measure_desc;

/* One pass with the weights as they are: fills density, mean, std, max. desc NULL: over all rows,
   in one process. FCT_ERR_ARG without rows, FCT_ERR_SHAPE when their width is another. */
FCT_API fct_status fct_sae_measure_stats(fct_sae *s, fct_row_source *rows,
                                         const fct_measure_desc *desc) FCT_MUST_CHECK;

/* On rows that training has not seen. ev is sdxl-unbox's measure, ev_total the share of variance:
       ev        mean over dimensions of 1 - var(x-x')/(var(x)+1e-8)
       ev_total  1 - sum var(x-x') / sum var(x) */
typedef struct fct_sae_quality {
    double ev, ev_total;
    double l0;         /* mean number of active features */
    double dead_share; /* share of features never active on these rows */
    int64_t rows;
    double block_ev[FCT_SAE_MAX_BLOCKS]; /* of a crosscoder: ev of each block */
} fct_sae_quality;
/* desc NULL: over all rows. Errors as fct_sae_measure_stats; desc->ranks is not used. */
FCT_API fct_status fct_sae_measure_quality(const fct_sae *s, fct_row_source *rows,
                                           const fct_measure_desc *desc,
                                           fct_sae_quality *out) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

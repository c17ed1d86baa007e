/* sae.h - declares kinds and parts of SAEs, SAEs in memory, operations on them, and coders. D:
   numbers of a row; F: features. */
#ifndef FCT_SAE_SAE_H
#define FCT_SAE_SAE_H

#include "base/base.h"
#include "compute/backend.h"
#include "dist/dist.h"
#include "facet/sae.h"
#include "tensor/tensor.h"

/* ---- kinds (kinds.c) ---- */

/* The tensors of an SAE; every kind has the first four. */
typedef enum fct_sae_part {
    FCT_SAE_PART_W_ENC,
    FCT_SAE_PART_B_ENC,
    FCT_SAE_PART_W_DEC,
    FCT_SAE_PART_B_DEC,
    FCT_SAE_PART_THRESHOLD,
    FCT_SAE_PART_B_MAG,
    FCT_SAE_PART_R_MAG,
    FCT_SAE_PART_COUNT
} fct_sae_part;
#define FCT_SAE_HAS(part) (1u << FCT_SAE_PART_##part)

typedef struct fct_sae_kind_info {
    const char *name; /* as SAELens names the architecture */
    unsigned parts;   /* FCT_SAE_HAS(...) of its tensors */
    bool wants_k;     /* k means something */
    bool fixed_k;     /* every row has k codes: chosen by topk, not by keep */
    bool own_bias;    /* keep adds b_enc itself */
    void (*keep)(const fct_sae *s, float *z, int64_t n); /* pre-activations [n,F] to codes */
} fct_sae_kind_info;
const fct_sae_kind_info *fct_sae_kind_get(fct_sae_kind kind);
const fct_sae_kind_info *fct_sae_kind_of(const fct_sae *s);
/* A part's member of the struct, how many numbers it has, and its shape; returns its rank. */
float **fct_sae_part_at(fct_sae *s, fct_sae_part part);
int64_t fct_sae_part_count(const fct_sae *s, fct_sae_part part);
int fct_sae_part_shape(const fct_sae *s, fct_sae_part part, int64_t dim[2]);
/* dec_norm from w_dec. */
fct_status fct_sae_set_dec_norm(fct_sae *s) FCT_MUST_CHECK;
/* The same codes and rows without dec_norm, within rounding. */
void fct_sae_fold_dec_norm(fct_sae *s);

/* ---- one SAE in memory (sae.c) ---- */

/* Empty weights of that size and kind, all zero. */
fct_status fct_sae_new(fct_sae **out, fct_sae_kind kind, int64_t d, int64_t f,
                       int64_t k) FCT_MUST_CHECK;
/* Weights and names, without statistics; and with all that there is. */
fct_status fct_sae_clone(fct_sae **out, const fct_sae *s) FCT_MUST_CHECK;
fct_status fct_sae_clone_all(fct_sae **out, const fct_sae *s) FCT_MUST_CHECK;
/* Sizes are positive, and F in sum. */
fct_status fct_sae_check_groups(const int64_t *size, int64_t n, int64_t f) FCT_MUST_CHECK;
fct_status fct_sae_set_groups(fct_sae *s, const int64_t *size, int64_t n) FCT_MUST_CHECK;
/* Blocks of a crosscoder. Copies; names become short ones. n 0: it is none. */
fct_status fct_sae_set_blocks(fct_sae *s, const fct_sae_block *blocks, int64_t n) FCT_MUST_CHECK;
void fct_sae_blocks_free(fct_sae_block *blocks, int64_t n);

/* ---- rows as the SAE reads them (normalize.c) ---- */

/* Of an SAE with `normalize`; out may be rows. */
fct_status fct_sae_normalize_rows(const fct_sae *s, const float *rows, int64_t n,
                                  float *out) FCT_MUST_CHECK;

/* ---- operations with their arena (engine.c) ---- */

/* What staged.c keeps in the memory of a device that has its own. */
typedef enum fct_sae_stage {
    FCT_SAE_STAGE_IN,
    FCT_SAE_STAGE_OUT,
    FCT_SAE_STAGE_INDEX,
    FCT_SAE_STAGE_VALUE,
    FCT_SAE_STAGES
} fct_sae_stage;
enum { FCT_SAE_MIRRORS = 4 };
struct fct_sae_staged {
    void *data;
    int64_t bytes;
};

/* Zero-initialised is empty. */
typedef struct fct_sae_engine {
    fct_cx cx;
    fct_arena arena;
    struct fct_sae_staged staged[FCT_SAE_STAGES];
    const float *mirrored[FCT_SAE_MIRRORS]; /* the weights that mirror is of; they do not change */
    fct_mirror mirror[FCT_SAE_MIRRORS];
} fct_sae_engine;
/* Room for every operation on up to `rows` rows of an SAE with d, f and codes of up to k entries a
   row. be NULL: cpu. */
fct_status fct_sae_engine_init(fct_sae_engine *e, const fct_backend *be, int64_t rows, int64_t d,
                               int64_t f, int64_t k) FCT_MUST_CHECK;
void fct_sae_engine_clear(fct_sae_engine *e);
/* Rows at a time, so that pre-activations stay small; a function of the sizes alone. */
int64_t fct_sae_chunk(const fct_sae *s);
/* Pre-activations of rows x [n,D]:

       centred [n,D] = x, normalised where the SAE says so, minus b_dec where it subtracts it
       pre [n,F]     = (centred W_encT + b_enc) dec_norm, where there is one */
typedef struct fct_sae_preact_args {
    const float *x;
    int64_t n;
    bool no_bias; /* without b_enc */
    float *centred, *pre;
} fct_sae_preact_args;
fct_status fct_sae_preact(fct_sae_engine *e, const fct_sae *s,
                          const fct_sae_preact_args *a) FCT_MUST_CHECK;

/* The operations with rows, codes and weights in host memory, whatever the device (staged.c): c =
   a·b + beta·c where b is weights; codes of rows; rows of codes, with f rows of the table. */
fct_status fct_sae_matmul(fct_sae_engine *e, const fct_matmul_args *a) FCT_MUST_CHECK;
fct_status fct_sae_topk(fct_sae_engine *e, const fct_topk_args *a) FCT_MUST_CHECK;
fct_status fct_sae_sparse_decode(fct_sae_engine *e, const fct_sparse_decode_args *a,
                                 int64_t f) FCT_MUST_CHECK;
void fct_sae_staged_clear(fct_sae_engine *e);

/* ---- encoding and decoding with memory that is kept (coder.c, encode.c, decode.c) ---- */

/* What a coder of facet/sae.h is; inward it may lie in its owner's struct. Takes memory at first
   use, and when it has too little. */
struct fct_sae_coder {
    const fct_sae *sae;
    const fct_backend *be; /* what computes; NULL: cpu */
    fct_sae_engine e;
    int64_t rows;         /* of a chunk; 0: no memory yet */
    float *centred, *pre; /* [rows,D], [rows,F] */
    /* Pairs of a chunk, and values in decoding without dec_norm. */
    int32_t *index;
    float *value, *plain;
    int64_t index_room, value_room, plain_room;
};
void fct_sae_coder_init(fct_sae_coder *c, const fct_sae *s, const fct_backend *be);
/* Another backend than before takes other memory; NULL: as it is. */
void fct_sae_coder_on(fct_sae_coder *c, const fct_backend *be);
void fct_sae_coder_clear(fct_sae_coder *c); /* the memory; SAE and backend stay */
/* Room for chunks of n rows, or of the SAE's own chunk when that is less. */
fct_status fct_sae_coder_fit(fct_sae_coder *c, int64_t n) FCT_MUST_CHECK;
/* Rows that go through at once, of those from `at` on of n: as many for equal n, whatever room
   there is. */
int64_t fct_sae_coder_rows(const fct_sae_coder *c, int64_t at, int64_t n);
/* Codes z [n,F] of one chunk of an SAE without a fixed k; `first` counts rows for messages. */
fct_status fct_sae_keep_chunk(fct_sae_coder *c, const float *rows, int64_t first, int64_t n,
                              float *z) FCT_MUST_CHECK;

#endif

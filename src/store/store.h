/* store.h - the inward header of store/: the parts of a store on disk, one shard of it, what
 * capture and import share. */
#ifndef FCT_STORE_STORE_H
#define FCT_STORE_STORE_H

#include "base/base.h"
#include "facet/store.h"
#include "tensor/tensor.h"

#define FCT_STORE_FORMAT "facet-store"
enum { FCT_STORE_VERSION = 1, FCT_STORE_SHARD_BYTES = 32 << 20 };

/* ---- names (layout.c) ---- */
fct_status fct_store_path(char **out, const char *dir, const char *block,
                          const char *file) FCT_MUST_CHECK; /* block, file may be NULL */
/* Number `i` of `n` shards, wide enough that name order is number order. Release with fct_free. */
fct_status fct_store_shard_name(char **out, int64_t i, int64_t n) FCT_MUST_CHECK;
fct_status fct_store_clean(const char *dir)
    FCT_MUST_CHECK; /* removes the unfinished files of a killed run from a folder */
typedef enum fct_store_kind {
    FCT_DIR_NEW,
    FCT_DIR_UNFINISHED,
    FCT_DIR_STORE,
    FCT_DIR_OTHER
} fct_store_kind;
fct_status fct_store_dir_kind(fct_store_kind *out, const char *dir) FCT_MUST_CHECK;
fct_status fct_store_check_space(const char *dir, int64_t bytes)
    FCT_MUST_CHECK; /* "needs 3.2 GB, the disk has 1.0 GB" */
void fct_bytes_text(char *text, int64_t size, int64_t bytes); /* "3.2 GB" */
/* Checks that a block's name can be a folder: not empty, no '/', not "." or "..". */
fct_status fct_store_check_name(const char *name) FCT_MUST_CHECK;

/* ---- one shard being filled (shard.c) ---- */
typedef struct fct_shard {
    fct_dtype dtype;
    int64_t d, cap, n; /* rows that fit, rows that are there */
    uint8_t *rows;     /* [cap,D] in dtype */
    bool has_meta;
    int32_t *prompt;    /* [cap] */
    int16_t *step, *yx; /* [cap], [cap,2] */
    uint8_t *branch;    /* [cap] */
} fct_shard;
fct_status fct_shard_init(fct_shard *s, fct_dtype dtype, int64_t d, int64_t cap,
                          bool has_meta) FCT_MUST_CHECK;
void fct_shard_clear(fct_shard *s);
/* f32 rows to place `at`; FCT_ERR_RANGE when the type cannot hold a number (or it is not finite).
 */
fct_status fct_shard_put(fct_shard *s, int64_t at, const float *rows, int64_t n) FCT_MUST_CHECK;
fct_status fct_shard_write(const fct_shard *s,
                           const char *path) FCT_MUST_CHECK; /* the first n rows, atomically */

/* ---- reading inside the folder (open.c) ---- */
/* Where row `row` of a block lies in its mapped shard, in the store's dtype. */
fct_status fct_store_row(const void **out, const fct_store *s, int64_t block,
                         int64_t row) FCT_MUST_CHECK;
/* Of all that store.json says about one block's rows: how they were made, and their shards. */
fct_status fct_store_hash_block(const fct_store *s, int64_t block, char out[65]) FCT_MUST_CHECK;

/* ---- capture ---- */
typedef struct fct_capture_plan { /* resolved options, and all sizes: known before the first run */
    const fct_model_info *info;
    const fct_block_info **block;
    int64_t n_blocks;
    fct_tap_what what;
    fct_dtype dtype;
    int64_t steps, width, height, batch, shard_prompts, n_shards;
    int64_t *at_steps, n_at; /* ascending */
    double guidance;
    bool guided;
    fct_branch branch;
    int64_t n_branches;
    struct fct_capture_grid {
        int64_t h, w, d, rows_per_prompt;
    } * grid;                             /* [n_blocks] */
    int64_t bytes_per_prompt, total_rows; /* of all blocks together */
    fct_str json;                         /* the text of store.json, as it will be */
} fct_capture_plan;
fct_status fct_capture_plan_init(fct_capture_plan *out,
                                 const fct_capture_desc *desc) FCT_MUST_CHECK;
void fct_capture_plan_clear(fct_capture_plan *p);
uint64_t fct_capture_seed(const fct_capture_desc *desc, int64_t i);
extern const char *const fct_tap_what_name[3], *const fct_branch_name[3];

#endif

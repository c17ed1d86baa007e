/* store.h - declares the parts of a store on disk, one shard of it, and what capture and import
   share. */
#ifndef FCT_STORE_STORE_H
#define FCT_STORE_STORE_H

#include "base/base.h"
#include "facet/store.h"
#include "tensor/tensor.h"

#define FCT_STORE_FORMAT "facet-store"
enum { FCT_STORE_VERSION = 1, FCT_STORE_SHARD_BYTES = 32 << 20, FCT_STORE_MIX_BYTES = 256 << 20 };

/* ---- names (layout.c) ---- */
/* block and file may be NULL. */
fct_status fct_store_path(char **out, const char *dir, const char *block,
                          const char *file) FCT_MUST_CHECK;
/* Number `i` of `n` shards, wide enough that name order is number order. Release with fct_free. */
fct_status fct_store_shard_name(char **out, int64_t i, int64_t n) FCT_MUST_CHECK;
/* Removes the unfinished files of a killed run from a folder. */
fct_status fct_store_clean(const char *dir) FCT_MUST_CHECK;
typedef enum fct_store_kind {
    FCT_DIR_NEW,
    FCT_DIR_UNFINISHED,
    FCT_DIR_STORE,
    FCT_DIR_OTHER
} fct_store_kind;
fct_status fct_store_dir_kind(fct_store_kind *out, const char *dir) FCT_MUST_CHECK;
/* Fails where the disk has less: "needs 3.2 GB, the disk has 1.0 GB". */
fct_status fct_store_check_space(const char *dir, int64_t bytes) FCT_MUST_CHECK;
void fct_bytes_text(char *text, int64_t size, int64_t bytes); /* "3.2 GB" */
/* Checks that a block's name can be a folder: not empty, no '/', not "." or "..". */
fct_status fct_store_check_name(const char *name) FCT_MUST_CHECK;

/* ---- types of rows (shard.c) ---- */
#define FCT_STORE_DTYPES "f16, bf16, f32 or i8"
bool fct_store_has_dtype(fct_dtype t);
/* The type that is asked for; `otherwise` where nothing is. */
fct_status fct_store_dtype_find(fct_dtype *out, fct_store_dtype asked,
                                fct_dtype otherwise) FCT_MUST_CHECK;
typedef struct fct_row_ref { /* one row as it lies on disk */
    const void *data;        /* [D] in the store's dtype */
    float scale;             /* of i8 rows; else 1 */
} fct_row_ref;
/* A row of any type as f32. */
fct_status fct_row_to_f32(float *out, fct_row_ref row, fct_dtype dtype, int64_t d) FCT_MUST_CHECK;
bool fct_rows_finite(const float *x, int64_t n);

/* ---- one shard being filled (shard.c) ---- */
typedef struct fct_shard {
    fct_dtype dtype;
    int64_t d, cap, n;     /* rows that fit, rows that are there */
    uint8_t *rows;         /* [cap,D] in dtype */
    float *scale;          /* [cap], of i8: a row is its numbers times its scale; else NULL */
    float *back;           /* [D]: a row as it will be read */
    double squares, error; /* sums over the rows put so far: of x², of (x - what is read back)² */
    bool has_meta;
    int32_t *prompt;    /* [cap] */
    int16_t *step, *yx; /* [cap], [cap,2] */
    uint8_t *branch;    /* [cap] */
} fct_shard;
fct_status fct_shard_init(fct_shard *s, fct_dtype dtype, int64_t d, int64_t cap,
                          bool has_meta) FCT_MUST_CHECK;
void fct_shard_clear(fct_shard *s);
/* f32 rows to place `at`; FCT_ERR_RANGE when the type cannot hold a number (or it is not finite).
   i8: each row is divided by its largest magnitude over 127 and rounded. */
fct_status fct_shard_put(fct_shard *s, int64_t at, const float *rows, int64_t n) FCT_MUST_CHECK;
/* Row `at` of the shard, as it will be read from disk. */
fct_row_ref fct_shard_row(const fct_shard *s, int64_t at);
/* Writes the first n rows, atomically. */
fct_status fct_shard_write(const fct_shard *s, const char *path) FCT_MUST_CHECK;
/* What storing does to rows: sqrt(sum of squared errors / sum of squares); 0 when all is exact. */
double fct_rounding_error(double squares, double error);

/* ---- reading inside the folder (open.c) ---- */
/* Where row `row` of a block lies in its mapped shard. Valid until another row is asked for. */
fct_status fct_store_row(fct_row_ref *out, const fct_store *s, int64_t block,
                         int64_t row) FCT_MUST_CHECK;
/* Every shard of the block is there and large enough: said before a long training, not in it. */
fct_status fct_store_check_shards(const fct_store *s, int64_t block) FCT_MUST_CHECK;
/* A hint for the pages of rows [first, first + n). */
fct_status fct_store_hint(const fct_store *s, int64_t block, int64_t first, int64_t n,
                          fct_page_hint hint) FCT_MUST_CHECK;
/* Of all that store.json says about one block's rows: how they were made, and their shards. */
fct_status fct_store_hash_block(const fct_store *s, int64_t block, char out[65]) FCT_MUST_CHECK;

/* ---- the order of rows (order.c) ---- */
typedef struct fct_order_desc {
    int64_t n; /* rows of a pass */
    bool shuffled;
    uint64_t seed;
    int64_t buffer_rows; /* rows that the mixing buffer holds */
    /* Neighbours that stay together outside a group; the last run may have fewer rows. */
    int64_t run_rows;
    const int64_t *run_first; /* [n_runs], instead: runs of unequal length; not owned */
    int64_t n_runs;
    bool whole_runs; /* runs can only be had whole: groups also where nothing is shuffled */
} fct_order_desc;
typedef struct fct_order {
    fct_order_desc desc;
    int64_t n_runs, runs_per_group, group_cap; /* runs_per_group 0: one group, all rows */
    int64_t pass, *run;                        /* the pass's order of runs; NULL: one group */
    int64_t group, group_first, group_rows;    /* the group whose rows are in `row`; -1: none */
    int64_t *row;
} fct_order;
fct_status fct_order_init(fct_order *out, const fct_order_desc *desc) FCT_MUST_CHECK;
void fct_order_clear(fct_order *o);
void fct_order_start(fct_order *o, int64_t pass);
/* The row that comes as number `at` of the pass; its group is then the current one. */
fct_status fct_order_find(fct_order *o, int64_t at, int64_t *out_row) FCT_MUST_CHECK;
int64_t fct_order_run_first(const fct_order *o, int64_t run);
int64_t fct_order_run_rows(const fct_order *o, int64_t run);
/* The runs of a group, as the pass has them; 0: there is no such group. */
int64_t fct_order_group_runs(const fct_order *o, int64_t group, const int64_t **runs);

/* ---- blocks on different grids in step (grid.c) ---- */
typedef struct fct_grid {
    int64_t h, w; /* 0, 0: rows without a place */
} fct_grid;
fct_grid fct_grid_finest(fct_grid a, fct_grid b);
/* The row of a block on the grid `own` that lies where row `row` of one on the finest grid does;
   rows come map by map, each in the order y, x. */
int64_t fct_grid_row(int64_t row, fct_grid fine, fct_grid own);
/* Rows [first, first + n) of the finest: whole maps of the block's that hold all of its rows. */
void fct_grid_range(int64_t *first, int64_t *n, fct_grid fine, fct_grid own);

/* ---- prompts (prompts.c); settings NULL: all defaults ---- */
uint64_t fct_prompt_seed(const fct_prompt *prompts, int64_t i, const fct_settings *settings);
/* The same prompt as an item of a run with these settings, which add their seed to it. */
fct_run_item fct_prompt_item(const fct_prompt *prompts, int64_t i, const fct_settings *settings);

/* ---- capture ---- */
typedef struct fct_capture_plan { /* resolved options, and all sizes: known before the first run */
    const fct_model_info *info;
    const fct_block_info **block;
    int64_t n_blocks;
    fct_tap_what what;
    fct_dtype dtype;
    fct_settings settings; /* resolved; texts are the desc's */
    int64_t batch, shard_prompts, n_shards;
    int64_t *at_steps, n_at; /* ascending */
    fct_half branch;         /* COND, UNCOND or BOTH */
    fct_half half[2];        /* those that are kept, in the order of rows */
    int64_t n_halves;
    struct fct_capture_grid {
        int64_t h, w, d, rows_per_prompt;
    } * grid;                             /* [n_blocks] */
    int64_t bytes_per_prompt, total_rows; /* of all blocks together */
    fct_str json;                         /* the text of store.json, as it will be */
} fct_capture_plan;
fct_status fct_capture_plan_init(fct_capture_plan *out,
                                 const fct_capture_desc *desc) FCT_MUST_CHECK;
void fct_capture_plan_clear(fct_capture_plan *p);
/* ---- running prompts (capture_run.c) ---- */
typedef struct fct_capture_run {
    const fct_capture_desc *desc;
    const fct_capture_plan *plan;
    fct_shard *shard;    /* [n_blocks] */
    int64_t shard_first; /* the prompt whose rows are the first of the shards */
    int64_t batch_first; /* of the running batch */
} fct_capture_run;
/* Runs prompts [first, first + n), one of the plan's batches, and puts their rows at their
   places. */
fct_status fct_capture_batch(fct_capture_run *c, int64_t first, int64_t n) FCT_MUST_CHECK;
extern const char *const fct_tap_what_name[3];

#endif

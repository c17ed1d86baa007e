/* facet/store.h - captures rows of activations from a model into stores, imports rows that others
   made, and reads them in any order.

   Do this:
       fct_model *model = NULL;
       fct_session *session = NULL;
       fct_prompts prompts = {0};
       fct_store *store = NULL;
       fct_status st = fct_model_open(&model, &(fct_model_desc){.path = "models/demo"});
       if (st == FCT_OK) st = fct_session_open(&session, model, NULL);
       if (st == FCT_OK) st = fct_prompts_read(&prompts, "prompts.txt");
       fct_capture_desc capture = {.session = session,
                                   .prompts = prompts.item,
                                   .n_prompts = prompts.n,
                                   .blocks = "down.2.1,up.0.1",
                                   .out = "store"};
       if (st == FCT_OK) st = fct_capture(&capture, NULL);
       if (st == FCT_OK) st = fct_store_open(&store, "store");
       if (st == FCT_OK) puts(fct_store_get_info(store)->block[0].name);
       fct_store_close(store);
       fct_prompts_clear(&prompts);
       fct_session_close(session);
       fct_model_close(model);

   A store is a folder: store.json says what it holds, STORE/<block>/00000.safetensors ... hold the
   rows in the order prompt, step, branch, y, x (name order is row order): rows [n,D], prompt int32
   [n], step int16 [n] (from 1), branch uint8 [n] (0 uncond, 1 cond), yx int16 [n,2]; where rows are
   int8, scale f32 [n], by which a row is multiplied. Imported stores hold `rows` only. Rows are
   counted from 0 within a block. */
#ifndef FACET_STORE_H
#define FACET_STORE_H

#include "facet/rows.h"
#include "facet/session.h"
#include "facet/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- prompts ---- */
typedef struct fct_prompt {
    const char *text;
    uint64_t seed; /* used when has_seed; else prompt i, from 0, gets the settings' + i */
    bool has_seed;
} fct_prompt;
typedef struct fct_prompts {
    fct_prompt *item; /* [n]; owned, with their texts: fct_prompts_clear */
    int64_t n;
} fct_prompts;

/* How prompts are written: a line each (blank ones are skipped), JSON lines with the key "prompt"
   and optionally "seed", or RFC 4180 with a header that has a column "prompt" and optionally
   "seed". */
typedef enum fct_prompt_format {
    FCT_PROMPTS_LINES,
    FCT_PROMPTS_JSONL,
    FCT_PROMPTS_CSV
} fct_prompt_format;
/* Reads a file, whose format its name's end tells: .jsonl, .csv, else lines; "-" is stdin.
   FCT_ERR_FORMAT names the line, also of a file without a prompt. */
FCT_API fct_status fct_prompts_read(fct_prompts *out, const char *path) FCT_MUST_CHECK;
/* The same from n bytes in memory; name: of the file, for errors. */
FCT_API fct_status fct_prompts_parse(fct_prompts *out, const char *text, int64_t n,
                                     fct_prompt_format format, const char *name) FCT_MUST_CHECK;
FCT_API void fct_prompts_clear(fct_prompts *p);

/* ---- capture ---- */

/* The type of rows on disk; i8 has a scale for each row. */
typedef enum fct_store_dtype {
    FCT_STORE_DEFAULT,
    FCT_STORE_F16,
    FCT_STORE_BF16,
    FCT_STORE_F32,
    FCT_STORE_I8
} fct_store_dtype;

/* Zero is the default. */
typedef struct fct_capture_desc {
    fct_session *session;
    const fct_prompt *prompts; /* [n_prompts] */
    int64_t n_prompts;
    const char *blocks; /* names and globs with commas between; NULL: "*" */
    fct_tap_what what;
    const fct_settings *settings; /* NULL: all the model's; prompt i, from 0, has its seed + i */
    const int64_t *at_steps;      /* [n_at_steps]: from 1, ascending; NULL: every step */
    int64_t n_at_steps;
    fct_half branch;             /* DEFAULT: cond; uncond and both need guidance > 1 */
    fct_store_dtype store_dtype; /* DEFAULT: f16 */
    /* Prompts in one run; 0: by the latents' size. Kept in the store, since rows are equal only at
       equal batches. */
    int64_t batch;
    int64_t shard_bytes; /* of rows in one file, about; 0: 32 MiB */
    /* The folder; continued when it holds an unfinished capture with the same options. */
    const char *out;
    /* Several processes, each with the model and the same options, write a shard each at a time, on
       one file system: the same bytes as one, which may also continue what they began.
       NULL: one. */
    struct fct_dist *ranks;
    const fct_log *log;
} fct_capture_desc;

typedef struct fct_capture_report {
    int64_t prompts;
    int64_t rows, bytes; /* of all blocks together; bytes: of rows on disk */
    int64_t resumed_at;  /* the first prompt that this call ran */
    bool was_complete;   /* the store was there already, with the same options */
    double seconds;
} fct_capture_report;

/* Runs the prompts and keeps what the blocks do. Says the size before it starts and refuses when
   the disk has not that much (FCT_ERR_IO); records its progress at the end of every shard: called
   again after a kill it goes on from the last full one and ends with the same bytes. FCT_ERR_ARG:
   the folder is something else, or a store made with other options, the first of which is named.
   FCT_ERR_RANGE: store_dtype cannot hold a value; block, prompt and step are named. report may be
   NULL. */
FCT_API fct_status fct_capture(const fct_capture_desc *desc,
                               fct_capture_report *report) FCT_MUST_CHECK;

/* ---- import ---- */
typedef struct fct_import_desc {
    const char *const *files; /* [n_files]: .safetensors, .npy, or WebDataset .tar files */
    int64_t n_files;
    const char *tensor; /* within .safetensors; NULL: rows, else the only one of two dimensions */
    const char *block;  /* its name in the store; NULL: "rows" */
    fct_store_dtype store_dtype; /* DEFAULT: the first file's when it is f16, bf16, f32; else f32 */
    int64_t shard_bytes;         /* as in fct_capture_desc */
    const char *out;             /* the store's folder */
    const fct_log *log;
} fct_import_desc;
/* Rows [n,D] that others made, of the files in the order given, become a block of a new store, or a
   further block of one that was imported. FCT_ERR_SHAPE: the files' rows differ in D. */
FCT_API fct_status fct_store_import(const fct_import_desc *desc) FCT_MUST_CHECK;

/* ---- reading ---- */
typedef struct fct_store fct_store;

typedef struct fct_store_block {
    const char *name;      /* "down.2.1": the folder's name */
    const char *full_name; /* "unet.down_blocks.2.attentions.1"; of imported rows as name */
    int64_t d, rows;
    int64_t grid_h, grid_w;  /* 0 for imported rows */
    int64_t rows_per_prompt; /* steps * branches * grid; 0 for imported rows */
    /* What storing did to the rows: sqrt(sum of squared errors / sum of squares); -1: not known. */
    double rounding_error;
} fct_store_block;

typedef struct fct_store_info {
    const char *path;
    const char *model, *model_hash; /* NULL for imported rows */
    const char *what;               /* "delta", "in", "out"; NULL for imported rows */
    fct_dtype dtype;
    const fct_store_block *block; /* [n_blocks] */
    int64_t n_blocks;
    const fct_prompt *prompt; /* [n_prompts], in the order of the rows; every one has its seed */
    int64_t n_prompts;
    const char *json; /* the whole of store.json; NULL: a file of rows */
} fct_store_info;

/* Opens a store's folder; or a file of rows [n,D] in any float type (.npy, .safetensors), which
   then is a store of one block named "rows", without prompts; or the WebDataset archive of a block
   as sdxl-unbox makes it (<block>.tar with sample_N.diff.pth), whose rows are read by
   fct_store_rows alone. FCT_ERR_MISSING: there is none; FCT_ERR_FORMAT: it is damaged or not
   finished. A store and the sources made from it are used by one thread at a time: shards are
   opened when their rows are asked for; another thread opens the folder again. */
FCT_API fct_status fct_store_open(fct_store **out, const char *path) FCT_MUST_CHECK;

/* What a file of rows does not say itself; NULL where a folder is opened. */
typedef struct fct_rows_file_desc {
    /* Within .safetensors; NULL: rows, else the only one of two dimensions. Of an archive: members
       *.TENSOR.pth; NULL: diff. */
    const char *tensor;
    const char *block; /* its block's name; NULL: "rows" */
} fct_rows_file_desc;
/* As fct_store_open, told what a file does not say itself. desc NULL: fct_store_open. FCT_ERR_ARG:
   a tensor is named where path is a store's folder. */
FCT_API fct_status fct_store_open_rows(fct_store **out, const char *path,
                                       const fct_rows_file_desc *desc) FCT_MUST_CHECK;
/* After the sources made from it. NULL is fine. */
FCT_API void fct_store_close(fct_store *s);
/* Lives as long as the store. */
FCT_API const fct_store_info *fct_store_get_info(const fct_store *s);
/* The number of a block, by its short or full name; NULL: the only one. FCT_ERR_MISSING and
   FCT_ERR_ARG (which of several?) list the blocks. */
FCT_API fct_status fct_store_find_block(int64_t *out, const fct_store *s,
                                        const char *name) FCT_MUST_CHECK;

/* Where a row comes from. */
typedef struct fct_row_meta {
    int32_t prompt;     /* its number, from 0 */
    int16_t step, y, x; /* step from 1; y, x of the block's grid, from 0 */
    uint8_t branch;     /* 0 uncond, 1 cond */
} fct_row_meta;
/* Rows [first, first + n) of a block as f32 into the caller's rows [n,D] and meta [n], either of
   which may be NULL; imported rows have meta 0. FCT_ERR_RANGE: so many are not there. */
FCT_API fct_status fct_store_read(const fct_store *s, int64_t block, int64_t first, int64_t n,
                                  float *rows, fct_row_meta *meta) FCT_MUST_CHECK;

/* ---- sources of rows: facet/rows.h ---- */

/* A store's rows. The store must outlive the source; out->close(out->self) releases it. Shards are
   mapped, read ahead of need and let go of behind it, never loaded whole. A row that holds NaN or
   infinity is FCT_ERR_RANGE and is named when it is read. */
FCT_API fct_status fct_store_rows(fct_row_source *out, const fct_store *s,
                                  const fct_rows_desc *desc) FCT_MUST_CHECK;

/* The model itself as a source, with no store: the rows that fct_capture would store with the same
   options, made once for all blocks, as parts (of different grids as in fct_rows_desc.block). A
   thread with a session of its own, of desc->session's model and threads, runs the prompts of the
   next group while rows of this one are given out; what it has to say is told by the thread that
   reads. Rows wait in two buffers of memory_bytes each. Shuffled: the capture's batches of prompts
   are permuted, those that fill a buffer are mixed row by row; sequential: the store's order.
   Seeking runs the prompts of one buffer again. rows->first and first + n are rounded down to whole
   batches of prompts. desc and what it points to must stay until close; desc->session is free for
   other runs meanwhile; desc->out is not used. */
FCT_API fct_status fct_model_rows(fct_row_source *out, const fct_capture_desc *desc,
                                  const fct_rows_desc *rows) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

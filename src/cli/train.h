/* train.h - the parts of `facet train`: options, rows, results. */
#ifndef FCT_CLI_TRAIN_H
#define FCT_CLI_TRAIN_H

#include "cli/cli.h"
#include "facet/store.h"

/* ---- options (train_options.c) ---- */
extern const fct_cli_option train_options[];
fct_status train_options_check(fct_cli *c) FCT_MUST_CHECK; /* what no table can see */
/* All but the checkpoint's folder and what the rows say. */
fct_status train_options_read(fct_train_desc *out, const fct_cli *c) FCT_MUST_CHECK;

/* ---- options of architectures and schedules (train_variants.c) ---- */
extern const fct_cli_option train_variant_options[];
void train_variant_read(fct_train_desc *desc, const fct_cli *c);

/* ---- rows (train_rows.c) ---- */
typedef struct train_stream { /* one block's rows */
    const char *block;
    int64_t n_held; /* rows that are not trained on */
} train_stream;
typedef struct train_rows { /* zero-initialised is empty */
    fct_store *store;
    const char *model, *model_hash; /* NULL: unknown */
    fct_row_source *source;         /* [n]: trained on */
    fct_row_source *held;           /* [n]: not trained on; empty where there are none */
    train_stream *stream;           /* [n] */
    int64_t n;
} train_rows;
/* A stream for every block in the order given; no blocks: the one that --block names. */
fct_status train_rows_open(train_rows *out, fct_cli *c, const char *const *block,
                           int64_t n) FCT_MUST_CHECK;
void train_rows_close(train_rows *r);

#endif

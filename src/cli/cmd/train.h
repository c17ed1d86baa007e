/* train.h - connects the parts of `facet train`: options, rows, results. */
#ifndef FCT_CLI_CMD_TRAIN_H
#define FCT_CLI_CMD_TRAIN_H

#include "cli/cmd/run.h"
#include "facet/store.h"
#include "facet/train.h"
#include "report/train_page.h"

/* ---- options (train_options.c) ---- */
extern const fct_cli_option train_options[], train_variant_options[];
/* What the command line says of a training; wrong use where options contradict each other. */
fct_status train_options_read(fct_train_desc *out, fct_cli *c) FCT_MUST_CHECK;

/* ---- rows (train_rows.c) ---- */
/* One block's rows, or those of several in step. */
typedef struct train_stream {
    const char *block; /* of several: "down.2.1+up.0.1" */
    char *across;      /* what `block` is then; owned */
    int64_t n_held;    /* rows that are not trained on */
} train_stream;
/* Zero-initialised is empty. */
typedef struct train_rows {
    fct_store *store; /* NULL: the model makes the rows */
    fct_model *made_by;
    fct_session *session;
    fct_prompts prompts;
    fct_settings settings;          /* of the runs that make the rows */
    char *blocks;                   /* "down.2.1,up.0.1": those that the model is watched at */
    const char *model, *model_hash; /* NULL: unknown */
    fct_row_source *source;         /* [n]: trained on */
    fct_row_source *held;           /* [n]: not trained on; empty where there are none */
    train_stream *stream;           /* [n] */
    int64_t n;
} train_rows;
/* A stream for every block in the order given ("a,b": of several in step); no blocks: the one that
   --block names; else the only one, or (all) every one that there is. */
typedef struct train_wanted {
    const char *const *block; /* [n] */
    int64_t n;
    bool all;
} train_wanted;
fct_status train_rows_open(train_rows *out, fct_cli *c, const train_wanted *wanted) FCT_MUST_CHECK;
void train_rows_close(train_rows *r);

/* ---- what came of it (train_result.c) ---- */

/* NULL: no memory. */
json_t *train_result_json(const train_result *r);
/* Features active in none of the rows that the statistics are of. Unlike `dead` it needs no number
   of rows to pass before it can be seen. */
int64_t train_result_unused(const train_result *r);
/* One line each, then results.json and pareto.svg in the folder. */
fct_status train_result_sweep(fct_cli *c, const char *dir, const train_result *r,
                              int64_t n) FCT_MUST_CHECK;
/* Statistics and quality of all that came of it, and their folders with a report in each.
   (train_write.c) */
fct_status train_result_write(fct_cli *c, train_result *r, fct_row_source *rows,
                              fct_row_source *held) FCT_MUST_CHECK;

#endif

/* run.c - runs the truth protocol stage by stage, and says which one it is at. */
#include "eval/truth/truth.h"

/* What an earlier run left says nothing about this one until the summary is written again. */
static fct_status prepare(const fct_truth *t)
{
    static const char *const folders[] = {"pictures", "saes", "controls"};
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, t->dir, "summary.json"));
    fct_status st = fct_file_remove(path);
    fct_free(path);
    FCT_TRY(st);
    for (size_t i = 0; i < FCT_COUNT(folders); i++) {
        FCT_TRY(fct_path_join(&path, t->dir, folders[i]));
        st = fct_dir_make(path);
        fct_free(path);
        FCT_TRY(st);
    }
    return FCT_OK;
}

typedef struct stage {
    const char *what;
    fct_status (*run)(fct_truth *t);
} stage;

static const stage stages[] = {
    {"capturing and training", fct_truth_learn},
    {"choosing features", fct_truth_choose},
    {"interpretable: cards, their strongest pictures, icons", fct_truth_show_cards},
    {"causal: painting words beside random directions", fct_truth_cause},
    {"specialised: blocks zeroed and rebuilt", fct_truth_specialise},
    {"writing the summary", fct_truth_write_summary},
};

fct_status fct_truth_run(fct_truth *t)
{
    if (t->result.block[0].sae)
        return fct_fail(FCT_ERR_ARG, "the truth protocol has run already; open it again");
    FCT_TRY(prepare(t));
    for (size_t i = 0; i < FCT_COUNT(stages); i++) {
        fct_log_line(t->log, FCT_LOG_INFO, "%zu/%zu %s (%.0f s so far)", i + 1, FCT_COUNT(stages),
                     stages[i].what, fct_seconds() - t->started);
        FCT_TRY(fct_log_check_stop(t->log));
        FCT_TRY(stages[i].run(t));
    }
    return FCT_OK;
}

const fct_truth_result *fct_truth_get_result(const fct_truth *t)
{
    return &t->result;
}

/* train_page.h - writes report.html beside a trained SAE, from what came of its training. */
#ifndef FCT_REPORT_TRAIN_PAGE_H
#define FCT_REPORT_TRAIN_PAGE_H

#include "base/base.h"
#include "facet/train.h"

/* An SAE's folder; of mixed blocks there is one for each. */
typedef struct train_part {
    const char *block;
    char *dir;
    const fct_sae *sae;      /* NULL: lost */
    fct_sae_quality quality; /* with held-out rows */
} train_part;

/* What came of one training. */
typedef struct train_result {
    const char *name, *block;
    char *dir;
    json_t *options; /* borrowed; NULL: not of a sweep */
    const fct_train_member *member;
    train_part part[FCT_SAE_MAX_BLOCKS];
    int64_t n_parts;
    /* Of a crosscoder, on held-out rows: the explained variance of each block's rows from those
       rows alone. */
    double alone[FCT_SAE_MAX_BLOCKS];
    fct_sae_quality quality; /* with held-out rows; of mixed blocks their mean */
    bool held;               /* there were held-out rows */
} train_result;

/* report.html in the SAE's folder: nothing in it depends on when or how fast. */
fct_status train_page_write(const train_result *r, const train_part *part) FCT_MUST_CHECK;

#endif

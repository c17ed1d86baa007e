/* truth_page.h - writes the page of evidence of the truth protocol, one section a part. */
#ifndef FCT_REPORT_TRUTH_PAGE_H
#define FCT_REPORT_TRUTH_PAGE_H

#include "facet/eval.h"
#include "report/html.h"

/* index.html in the protocol's folder: whole or not at all. */
fct_status truth_page_write(const fct_truth_result *r, const char *dir) FCT_MUST_CHECK;

/* ---- the parts, in their order ---- */
void truth_page_interpretable(html *h, const fct_truth_result *r); /* truth_cards.c */
void truth_page_causal(html *h, const fct_truth_result *r);        /* truth_causes.c */
void truth_page_specialised(html *h, const fct_truth_result *r);   /* truth_blocks.c */
/* What differs from SDXL Turbo. (truth_paper.c) */
void truth_page_paper(html *h, const fct_truth_result *r);

/* A chosen card counts as a cause when its word is read in 60 % of the painted pictures or more,
   and in a quarter or less of those with the random direction. (truth_causes.c) */
bool truth_card_causes(const fct_truth_card *c);

#endif

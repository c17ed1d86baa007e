/* demo_page.h - the parts of the demo's page, in their order; each appends its section. */
#ifndef FCT_CLI_DEMO_PAGE_H
#define FCT_CLI_DEMO_PAGE_H

#include "cli/demo.h"
#include "report/html.h"

void demo_page_interpretable(html *h, const demo *d); /* demo_page_cards.c */
void demo_page_causal(html *h, const demo *d);        /* demo_page_causes.c */
void demo_page_specialised(html *h, const demo *d);   /* demo_page_blocks.c */
void demo_page_paper(html *h,
                     const demo *d); /* demo_page_paper.c: what differs from SDXL Turbo */

/* A chosen card counts as a cause when its word is read in 60 % of the painted pictures or more,
   and in a quarter or less of those with the random direction. */
bool demo_card_causes(const demo_card *c);

#endif

/* demo_cards.c - the pictures of a card: its strongest ones, its icon, the strongest one without
   the feature and with three times as much of it; and whether taking it away takes the word away.
 */
#include <stdio.h>

#include "cli/demo.h"

static fct_status take_and_drop(demo *d, const demo_shot *shot)
{
    uint8_t *pixels = NULL;
    fct_status st = demo_take(d, shot, &pixels);
    fct_free(pixels);
    return st;
}

static fct_status take_icons(demo *d, const demo_block *b, const demo_card *c)
{
    char text[96], name[96];
    const char *edit = text;
    snprintf(text, sizeof text, "%s:%lld only 1", b->info->short_name, (long long)c->feature);
    for (int64_t i = 0; i < DEMO_ICONS; i++) {
        snprintf(name, sizeof name, "%s-%lld-icon-%lld", b->info->short_name, (long long)c->feature,
                 (long long)i);
        FCT_TRY(take_and_drop(
            d, &(demo_shot){
                   .prompt = "", .seed = (uint64_t)i, .edit = &edit, .n_edits = 1, .save = name}));
    }
    return FCT_OK;
}

static fct_status take_scaled(demo *d, const demo_block *b, const demo_card *c, const char *op,
                              const char *word)
{
    char text[96], name[96];
    const char *edit = text;
    const demo_pair *p = &d->show.pair[c->top[0]];
    snprintf(text, sizeof text, "%s:%lld %s", b->info->short_name, (long long)c->feature, op);
    snprintf(name, sizeof name, "%s-%lld-%s", b->info->short_name, (long long)c->feature, word);
    return take_and_drop(
        d, &(demo_shot){
               .prompt = p->prompt, .seed = p->seed, .edit = &edit, .n_edits = 1, .save = name});
}

/* Of the top pictures in which the checker reads the word: in how many it no longer does when the
 * feature is ablated. */
static fct_status measure_removal(demo *d, const demo_block *b, demo_card *c)
{
    char text[96];
    const char *edit = text;
    int64_t gone = 0;
    snprintf(text, sizeof text, "%s:%lld x0", b->info->short_name, (long long)c->feature);
    c->removed = -1;
    for (int64_t i = 0; i < c->n_top && c->factor >= 0; i++) {
        const demo_pair *p = &d->show.pair[c->top[i]];
        if (!demo_reads(d, &p->reading, c->factor, c->value)) continue;
        uint8_t *pixels = NULL;
        fct_reading r;
        FCT_TRY(demo_take(
            d, &(demo_shot){.prompt = p->prompt, .seed = p->seed, .edit = &edit, .n_edits = 1},
            &pixels));
        fct_status st = demo_read(d, pixels, &r);
        fct_free(pixels);
        FCT_TRY(st);
        c->removed_of++;
        gone += !demo_reads(d, &r, c->factor, c->value);
    }
    if (c->removed_of > 0) c->removed = (double)gone / (double)c->removed_of;
    return FCT_OK;
}

static fct_status show_card(demo *d, const demo_block *b, demo_card *c)
{
    for (int64_t i = 0; i < c->n_top; i++) FCT_TRY(demo_clean(d, &d->show, c->top[i], true));
    FCT_TRY(take_icons(d, b, c));
    if (c->n_top > 0) {
        FCT_TRY(take_scaled(d, b, c, "x0", "ablated"));
        FCT_TRY(take_scaled(d, b, c, "x3", "times3"));
    }
    c->removed = -1;
    return c->chosen ? measure_removal(d, b, c) : FCT_OK;
}

fct_status demo_show_cards(demo *d)
{
    int64_t done = 0, total = 0;
    for (int64_t b = 0; b < DEMO_BLOCKS; b++) total += d->block[b].n_cards;
    for (int64_t i = 0; i < DEMO_ICONS; i++) {
        char name[64];
        snprintf(name, sizeof name, "empty-%lld", (long long)i);
        FCT_TRY(take_and_drop(d, &(demo_shot){.prompt = "", .seed = (uint64_t)i, .save = name}));
    }
    for (int64_t b = 0; b < DEMO_BLOCKS; b++)
        for (int64_t c = 0; c < d->block[b].n_cards; c++) {
            fct_log_progress(d->log, "interpretable: cards", done++, total);
            FCT_TRY(show_card(d, &d->block[b], &d->block[b].card[c]));
        }
    fct_log_progress(d->log, "interpretable: cards", total, total);
    return FCT_OK;
}

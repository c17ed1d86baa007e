/* demo_cards.c - the pictures of a card: its strongest ones, its icon, the strongest one without
   the feature and with three times as much of it; and whether taking it away takes the word away.
 */
#include <stdio.h>

#include "cli/demo.h"

static fct_status take_icons(demo_hand *h, const demo_block *b, const demo_card *c)
{
    char text[96], name[96];
    const char *edit = text;
    snprintf(text, sizeof text, "%s:%lld only 1", b->info->short_name, (long long)c->feature);
    for (int64_t i = 0; i < DEMO_ICONS; i++) {
        snprintf(name, sizeof name, "%s-%lld-icon-%lld", b->info->short_name, (long long)c->feature,
                 (long long)i);
        FCT_TRY(demo_take(
            h,
            &(demo_shot){
                .prompt = "", .seed = (uint64_t)i, .edit = &edit, .n_edits = 1, .save = name},
            NULL));
    }
    return FCT_OK;
}

static fct_status take_scaled(demo_hand *h, const demo_block *b, const demo_card *c, const char *op,
                              const char *word)
{
    char text[96], name[96];
    const char *edit = text;
    const demo_pair *p = &h->d->show.pair[c->top[0]];
    snprintf(text, sizeof text, "%s:%lld %s", b->info->short_name, (long long)c->feature, op);
    snprintf(name, sizeof name, "%s-%lld-%s", b->info->short_name, (long long)c->feature, word);
    return demo_take(
        h,
        &(demo_shot){
            .prompt = p->prompt, .seed = p->seed, .edit = &edit, .n_edits = 1, .save = name},
        NULL);
}

/* Of the top pictures in which the checker reads the word: in how many it no longer does when the
 * feature is ablated. */
static fct_status measure_removal(demo_hand *h, const demo_block *b, demo_card *c)
{
    char text[96];
    const char *edit = text;
    const demo *d = h->d;
    int64_t gone = 0;
    snprintf(text, sizeof text, "%s:%lld x0", b->info->short_name, (long long)c->feature);
    c->removed = -1;
    for (int64_t i = 0; i < c->n_top && c->factor >= 0; i++) {
        const demo_pair *p = &d->show.pair[c->top[i]];
        if (!demo_reads(d, &p->reading, c->factor, c->value)) continue;
        uint8_t *pixels = NULL;
        fct_reading r;
        FCT_TRY(demo_take(
            h, &(demo_shot){.prompt = p->prompt, .seed = p->seed, .edit = &edit, .n_edits = 1},
            &pixels));
        fct_status st = demo_read(h, pixels, &r);
        fct_free(pixels);
        FCT_TRY(st);
        c->removed_of++;
        gone += !demo_reads(d, &r, c->factor, c->value);
    }
    if (c->removed_of > 0) c->removed = (double)gone / (double)c->removed_of;
    return FCT_OK;
}

static fct_status show_card(demo_hand *h, const demo_block *b, demo_card *c)
{
    FCT_TRY(take_icons(h, b, c));
    if (c->n_top > 0) {
        FCT_TRY(take_scaled(h, b, c, "x0", "ablated"));
        FCT_TRY(take_scaled(h, b, c, "x3", "times3"));
    }
    c->removed = -1;
    return c->chosen ? measure_removal(h, b, c) : FCT_OK;
}

/* The cards, and what their icons are compared with. */
static fct_status show(demo_hand *h, void *self, int64_t i)
{
    (void)self;
    char name[64];
    demo_block *b;
    int64_t cards = demo_count_cards(h->d), icon = i - cards;
    if (icon < 0) {
        demo_card *c = demo_find_card(h->d, i, &b);
        return show_card(h, b, c);
    }
    snprintf(name, sizeof name, "empty-%lld", (long long)icon);
    return demo_take(h, &(demo_shot){.prompt = "", .seed = (uint64_t)icon, .save = name}, NULL);
}

fct_status demo_show_cards(demo *d)
{
    int64_t n = demo_count_cards(d);
    for (int64_t i = 0; i < n; i++) {
        demo_block *b;
        const demo_card *c = demo_find_card(d, i, &b);
        for (int64_t k = 0; k < c->n_top; k++) demo_want(&d->show, c->top[k], true);
    }
    FCT_TRY(demo_make_wanted(d, &d->show));
    return demo_share(d, "interpretable: cards", n + DEMO_ICONS, show, NULL);
}

/* cards.c - makes the pictures of a card: its strongest ones, its icon, the strongest one without
   the feature and with three times as much of it; and measures whether taking the feature away
   takes the word away. */
#include <stdio.h>

#include "eval/truth/truth.h"

static fct_status take_icons(fct_truth_worker *w, const fct_truth_block *b, const fct_truth_card *c)
{
    char text[96], name[96];
    const char *edit = text;
    snprintf(text, sizeof text, "%s:%lld only 1", b->name, (long long)c->feature);
    for (int64_t i = 0; i < FCT_TRUTH_ICONS; i++) {
        snprintf(name, sizeof name, "%s-%lld-icon-%lld", b->name, (long long)c->feature,
                 (long long)i);
        FCT_TRY(fct_truth_take(
            w,
            &(fct_truth_shot){
                .prompt = "", .seed = (uint64_t)i, .edit = &edit, .n_edits = 1, .save = name},
            NULL));
    }
    return FCT_OK;
}

static fct_status take_scaled(fct_truth_worker *w, const fct_truth_block *b,
                              const fct_truth_card *c, const char *op, const char *word)
{
    char text[96], name[96];
    const char *edit = text;
    const fct_truth_pair *p = &w->t->result.show.pair[c->top[0]];
    snprintf(text, sizeof text, "%s:%lld %s", b->name, (long long)c->feature, op);
    snprintf(name, sizeof name, "%s-%lld-%s", b->name, (long long)c->feature, word);
    return fct_truth_take(
        w,
        &(fct_truth_shot){
            .prompt = p->prompt, .seed = p->seed, .edit = &edit, .n_edits = 1, .save = name},
        NULL);
}

/* Of the top pictures in which the checker reads the word: in how many it no longer does when the
   feature is ablated. */
static fct_status measure_removal(fct_truth_worker *w, const fct_truth_block *b, fct_truth_card *c)
{
    char text[96];
    const char *edit = text;
    const fct_truth *t = w->t;
    int64_t gone = 0;
    snprintf(text, sizeof text, "%s:%lld x0", b->name, (long long)c->feature);
    c->removed = -1;
    for (int64_t i = 0; i < c->n_top && c->factor >= 0; i++) {
        const fct_truth_pair *p = &t->result.show.pair[c->top[i]];
        if (!fct_truth_reads(t, &p->reading, c->factor, c->value)) continue;
        uint8_t *pixels = NULL;
        fct_reading r;
        FCT_TRY(fct_truth_take(
            w, &(fct_truth_shot){.prompt = p->prompt, .seed = p->seed, .edit = &edit, .n_edits = 1},
            &pixels));
        fct_status st = fct_truth_read(w, pixels, &r);
        fct_free(pixels);
        FCT_TRY(st);
        c->removed_of++;
        gone += !fct_truth_reads(t, &r, c->factor, c->value);
    }
    if (c->removed_of > 0) c->removed = (double)gone / (double)c->removed_of;
    return FCT_OK;
}

static fct_status show_card(fct_truth_worker *w, const fct_truth_block *b, fct_truth_card *c)
{
    FCT_TRY(take_icons(w, b, c));
    if (c->n_top > 0) {
        FCT_TRY(take_scaled(w, b, c, "x0", "ablated"));
        FCT_TRY(take_scaled(w, b, c, "x3", "times3"));
    }
    c->removed = -1;
    return c->chosen ? measure_removal(w, b, c) : FCT_OK;
}

/* The cards, and what their icons are compared with. */
static fct_status show(fct_truth_worker *w, void *self, int64_t i)
{
    (void)self;
    char name[64];
    fct_truth_block *b;
    int64_t cards = fct_truth_count_cards(w->t), icon = i - cards;
    if (icon < 0) {
        fct_truth_card *c = fct_truth_find_card(w->t, i, &b);
        return show_card(w, b, c);
    }
    snprintf(name, sizeof name, "empty-%lld", (long long)icon);
    return fct_truth_take(w, &(fct_truth_shot){.prompt = "", .seed = (uint64_t)icon, .save = name},
                          NULL);
}

fct_status fct_truth_show_cards(fct_truth *t)
{
    int64_t n = fct_truth_count_cards(t);
    for (int64_t i = 0; i < n; i++) {
        fct_truth_block *b;
        const fct_truth_card *c = fct_truth_find_card(t, i, &b);
        for (int64_t k = 0; k < c->n_top; k++) fct_truth_want(&t->show, c->top[k], true);
    }
    FCT_TRY(fct_truth_make_wanted(t, &t->show));
    return fct_truth_share(t, "interpretable: cards", n + FCT_TRUTH_ICONS, show, NULL);
}

/* truth_causes.c - writes the second part of the truth protocol's page: painted words, with both
   controls beside every one. */
#include <stdio.h>

#include "report/truth_page.h"

static bool reaches_bar(const fct_truth_card *c, const double *share)
{
    return c->chosen && c->n_pairs > 0 && share[FCT_TRUTH_PAINTED] >= 0.6 - 1e-9 &&
           share[FCT_TRUTH_DIRECTION] <= 0.25 + 1e-9;
}

bool truth_card_causes(const fct_truth_card *c)
{
    return reaches_bar(c, c->share);
}

static void put_bars(html *h, const fct_truth_card *c)
{
    html_bar(h, "clean", "clean", c->share[FCT_TRUTH_CLEAN]);
    html_bar(h, "painted", "painted", c->share[FCT_TRUTH_PAINTED]);
    html_bar(h, "control", "random direction", c->share[FCT_TRUTH_DIRECTION]);
    html_bar(h, "control", "random feature", c->share[FCT_TRUTH_OTHER]);
}

static void put_pictures(html *h, const fct_truth_result *r, const fct_truth_block *b,
                         const fct_truth_card *c)
{
    static const char *const kind[FCT_TRUTH_KINDS] = {"clean", "painted", "direction", "other"};
    static const char *const label[FCT_TRUTH_KINDS] = {"clean", "painted", "random direction",
                                                       "random feature"};
    html_put(h, "<div class=\"grid four\">\n");
    for (int64_t i = 0; i < FCT_TRUTH_SHOWN && i < c->n_pairs; i++)
        for (int k = 0; k < FCT_TRUTH_KINDS; k++) {
            const fct_truth_pair *p = &r->show.pair[c->pair[i]];
            char name[96];
            if (k == FCT_TRUTH_CLEAN)
                snprintf(name, sizeof name, "show-%lld", (long long)c->pair[i]);
            else
                snprintf(name, sizeof name, "%s-%lld-%s-%lld", b->name, (long long)c->feature,
                         kind[k], (long long)i);
            html_figure(h, &(html_picture){.name = name,
                                           .label = i == 0 ? label[k] : NULL,
                                           .prompt = p->prompt,
                                           .seed = p->seed,
                                           .edit = k == FCT_TRUTH_PAINTED ? c->painted[i]
                                                   : k == FCT_TRUTH_CLEAN ? NULL
                                                                          : label[k],
                                           .marked = c->read[i][k]});
        }
    html_put(h, "</div>\n");
}

static void put_cause(html *h, const fct_truth_result *r, const fct_truth_block *b,
                      const fct_truth_card *c)
{
    bool yes = truth_card_causes(c);
    html_put(h,
             "<article class=\"card cause\"><div><header><h3>%s</h3><span "
             "class=\"%s\">%s</span><span class=\"id\">%s:%lld</span></header>\n",
             fct_world_word(r->world, c->factor, c->value),
             c->chosen ? yes ? "verdict yes" : "verdict" : "badge random",
             c->chosen ? yes ? "causes its word" : "does not reach the bar" : "drawn at random",
             b->name, (long long)c->feature);
    html_put(
        h,
        "<p class=\"note\">Share of %lld pictures in which the checker reads \u201c%s\u201d</p>\n",
        (long long)c->n_pairs, fct_world_word(r->world, c->factor, c->value));
    put_bars(h, c);
    html_put(h,
             "<p class=\"note\">When it must answer, though it says that it cannot tell: clean "
             "%.0f&thinsp;%%, painted %.0f&thinsp;%%, random direction %.0f&thinsp;%%, random "
             "feature %.0f&thinsp;%%.</p>\n",
             100 * c->guess[FCT_TRUTH_CLEAN], 100 * c->guess[FCT_TRUTH_PAINTED],
             100 * c->guess[FCT_TRUTH_DIRECTION], 100 * c->guess[FCT_TRUTH_OTHER]);
    html_put(h, "<p class=\"note\">Painted with %.0f&thinsp;\u00d7 its mean %s", c->strength,
             c->at_object ? "where the objects stand" : "over the whole picture");
    if (c->chosen)
        html_put(h, ", both chosen on %lld other pairs (%.0f&thinsp;%% there)",
                 (long long)r->size.trial_pairs, 100 * c->trial_share);
    html_put(h,
             ". Pixels change by %.3f; with the random direction by %.3f, with the random "
             "feature (%s:%lld) by %.3f.</p></div>\n<div>",
             c->change[FCT_TRUTH_PAINTED], c->change[FCT_TRUTH_DIRECTION], b->name,
             (long long)c->other, c->change[FCT_TRUTH_OTHER]);
    put_pictures(h, r, b, c);
    html_put(h, "</div></article>\n");
}

static int64_t count_causes(const fct_truth_result *r, int64_t *of, int64_t *guessed)
{
    int64_t n = 0;
    *of = *guessed = 0;
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++)
        for (int64_t c = 0; c < r->block[b].n_cards; c++) {
            *of += r->block[b].card[c].chosen;
            *guessed += reaches_bar(&r->block[b].card[c], r->block[b].card[c].guess);
            n += truth_card_causes(&r->block[b].card[c]);
        }
    return n;
}

void truth_page_causal(html *h, const fct_truth_result *r)
{
    int64_t of, guessed, n = count_causes(r, &of, &guessed);
    html_put(h,
             "<section id=\"causal\"><h2>2. Do they cause what they show?</h2>\n"
             "<p>A feature can be perfectly readable and change nothing. So each word is "
             "painted into %d pictures whose captions leave its "
             "factor open: the feature's direction is added to what the block writes. Beside "
             "it, with the same strength (the same "
             "norm) and under the same mask, a random direction, and the direction of a "
             "random other feature. A small network that is no "
             "part of the model, the checker, reads all of them; a green frame means that it "
             "reads the word. "
             "The four pictures shown are the first four, not the best.</p>\n",
             (int)r->size.pairs);
    html_put(h,
             "<p class=\"rule\">The bar. A card causes its word when the checker reads it in "
             "60&thinsp;%% of the painted pictures or more, and in "
             "25&thinsp;%% or less of those with the random direction. <b>%lld of %lld chosen "
             "cards reach it.</b> Strength (2, 4 or 8 times "
             "the feature's mean) and mask (the whole picture, or a box around each object) "
             "are chosen on other captions and seeds. "
             "Where clean pictures already show the word often, as with sizes, the bar cannot "
             "be reached: the noise decides what the "
             "caption leaves open. A picture that the checker calls unreadable counts as not "
             "read; if it must answer all the same, its likeliest answers, %lld of %lld would "
             "reach the bar.</p>\n",
             (long long)n, (long long)of, (long long)guessed, (long long)of);
    html_put(h, "<div class=\"group\" data-label=\"Blocks\">\n");
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        const fct_truth_block *b = &r->block[i];
        html_put(h, "<div class=\"panel\" id=\"causes-%lld\" data-name=\"%s\"><h3>%s</h3>\n",
                 (long long)i, b->name, b->name);
        for (int64_t c = 0; c < b->n_cards; c++)
            if (b->card[c].n_pairs > 0) put_cause(h, r, b, &b->card[c]);
        html_put(h, "</div>\n");
    }
    html_put(h, "</div></section>\n");
}

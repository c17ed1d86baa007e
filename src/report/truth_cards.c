/* truth_cards.c - writes the first part of the truth protocol's page: cards of features, what they
   are active on and what they do alone. */
#include <stdio.h>

#include "report/truth_page.h"

static void put_picture(html *h, const fct_truth_pair *p, const char *name, const char *label,
                        const char *edit)
{
    html_figure(
        h, &(html_picture){
               .name = name, .label = label, .prompt = p->prompt, .seed = p->seed, .edit = edit});
}

static void put_top(html *h, const fct_truth_result *r, const fct_truth_block *b,
                    const fct_truth_card *c)
{
    html_put(h, "<p class=\"part-title\">Strongest pictures</p><div class=\"grid three\">\n");
    float map[4096];
    for (int64_t i = 0; i < c->n_top && h->st == FCT_OK; i++) {
        const fct_truth_pair *p = &r->show.pair[c->top[i]];
        char name[64];
        char *uri = NULL;
        snprintf(name, sizeof name, "show-%lld", (long long)c->top[i]);
        if (b->grid_h * b->grid_w <= (int64_t)FCT_COUNT(map)) {
            fct_truth_map(b, c->feature, c->top[i], map);
            h->st = html_map(&uri, map, b->grid_h, b->grid_w);
        }
        html_figure(
            h, &(html_picture){.name = name, .prompt = p->prompt, .seed = p->seed, .map = uri});
        fct_free(uri);
    }
    html_put(h, "</div>\n");
    if (c->n_top == 0) html_put(h, "<p class=\"note\">Active in no picture shown here.</p>\n");
}

static void put_words(html *h, const fct_truth_result *r, const fct_truth_card *c)
{
    if (c->n_words == 0) {
        html_put(h, "<p class=\"note\">No caption word stands out among these pictures.</p>\n");
        return;
    }
    html_put(h, "<ul class=\"words\" aria-label=\"Over-represented caption words\">\n");
    for (int64_t i = 0; i < c->n_words; i++) {
        const fct_truth_word *w = &c->word[i];
        html_put(h, "<li>%s <small>in %lld of %lld, elsewhere %.0f&thinsp;%%</small></li>\n",
                 fct_world_word(r->world, w->factor, w->value), (long long)w->hits,
                 (long long)w->of, 100 * w->base);
    }
    html_put(h, "</ul>\n");
}

static void put_icons(html *h, const fct_truth_block *b, const fct_truth_card *c)
{
    char name[96], edit[96];
    snprintf(edit, sizeof edit, "%s:%lld only 1", b->name, (long long)c->feature);
    html_put(h, "<p class=\"part-title\">Icon: the empty prompt, this feature alone in the "
                "block</p><div class=\"grid six\">\n");
    for (int icon = 0; icon < 2; icon++)
        for (int64_t i = 0; i < FCT_TRUTH_ICONS; i++) {
            fct_truth_pair p = {.prompt = "", .seed = (uint64_t)i};
            if (icon == 0)
                snprintf(name, sizeof name, "empty-%lld", (long long)i);
            else
                snprintf(name, sizeof name, "%s-%lld-icon-%lld", b->name, (long long)c->feature,
                         (long long)i);
            put_picture(h, &p, name, icon ? "alone" : "clean", icon ? edit : NULL);
        }
    html_put(h, "</div>\n");
}

static void put_changes(html *h, const fct_truth_result *r, const fct_truth_block *b,
                        const fct_truth_card *c)
{
    if (c->n_top == 0) return;
    char name[96], edit[96];
    const fct_truth_pair *top = &r->show.pair[c->top[0]];
    html_put(h, "<p class=\"part-title\">Less, more, elsewhere</p><div class=\"grid five\">\n");
    snprintf(name, sizeof name, "show-%lld", (long long)c->top[0]);
    put_picture(h, top, name, "as it is", NULL);
    snprintf(name, sizeof name, "%s-%lld-ablated", b->name, (long long)c->feature);
    snprintf(edit, sizeof edit, "%s:%lld x0", b->name, (long long)c->feature);
    put_picture(h, top, name, "ablated", edit);
    snprintf(name, sizeof name, "%s-%lld-times3", b->name, (long long)c->feature);
    snprintf(edit, sizeof edit, "%s:%lld x3", b->name, (long long)c->feature);
    put_picture(h, top, name, "\u00d73", edit);
    if (c->n_pairs > 0) {
        const fct_truth_pair *p = &r->show.pair[c->pair[0]];
        snprintf(name, sizeof name, "show-%lld", (long long)c->pair[0]);
        put_picture(h, p, name, "another", NULL);
        snprintf(name, sizeof name, "%s-%lld-painted-0", b->name, (long long)c->feature);
        put_picture(h, p, name, "painted", c->painted[0]);
    }
    html_put(h, "</div>\n");
}

static void put_facts(html *h, const fct_truth_result *r, const fct_truth_block *b,
                      const fct_truth_card *c)
{
    const char *word = fct_world_word(r->world, c->factor, c->value);
    html_put(h, "<p class=\"note\">");
    if (c->chosen)
        html_put(h,
                 "Tells captions with \u201c%s\u201d from those with another %s: F1 %.2f "
                 "where it was chosen, <b>%.2f</b> on these pictures; "
                 "%.2f for shuffled labels. ",
                 word, r->world->factor[c->factor].name, c->chosen_f1.f1, c->held_f1.f1,
                 c->floor_f1);
    else if (c->factor >= 0)
        html_put(h, "The word it tells best is \u201c%s\u201d: F1 %.2f on these pictures. ", word,
                 c->held_f1.f1);
    if (c->removed >= 0)
        html_put(h,
                 "Ablating it removes the word from %.0f&thinsp;%% of the %lld strongest "
                 "pictures that show it. ",
                 100 * c->removed, (long long)c->removed_of);
    html_put(h, "Active in %.1f&thinsp;%% of all positions, with mean %.2f.</p>\n",
             100 * (double)b->sae->density[c->feature], (double)b->sae->mean[c->feature]);
}

static void put_card(html *h, const fct_truth_result *r, const fct_truth_block *b,
                     const fct_truth_card *c)
{
    const char *word = fct_world_word(r->world, c->factor, c->value);
    html_put(h,
             "<article class=\"card\"><header><h3>%s</h3><span "
             "class=\"badge%s\">%s</span><span class=\"id\">%s:%lld</span></header>\n",
             c->chosen ? word : "a feature", c->chosen ? "" : " random",
             c->chosen ? "chosen by its word" : "drawn at random", b->name, (long long)c->feature);
    put_top(h, r, b, c);
    put_words(h, r, c);
    put_icons(h, b, c);
    put_changes(h, r, b, c);
    put_facts(h, r, b, c);
    html_put(h, "</article>\n");
}

void truth_page_interpretable(html *h, const fct_truth_result *r)
{
    html_put(h, "<section id=\"interpretable\"><h2>1. Do the features mean something?</h2>\n"
                "<p>Each card is one feature of a sparse autoencoder that facet trained "
                "minutes ago. Dark parts of a picture are where the "
                "feature is not active; hover over it, or switch the maps off above, to see "
                "all of it. No picture here, and no caption, "
                "was seen in training or when the features were chosen.</p>\n");
    html_put(h,
             "<p class=\"rule\">The rule. On %lld pairs of caption and seed that are not "
             "shown, each word is given the feature whose level "
             "(the mean of its map) best tells captions that name the word from captions that "
             "name another value of the same factor: "
             "F1 with both sides weighing the same, where a feature that is always on has "
             ".67. Of the features within .01 of the best it is the one that writes most "
             "where the word is named. The words with the highest F1 get the "
             "%lld cards of the block, no feature twice; between words told equally well "
             "the one whose feature writes more goes first. Captions "
             "that leave the factor to the noise do not "
             "count. %lld more features are drawn at random from all others that are ever "
             "active, so that you see what is left "
             "when nobody chooses.</p>\n",
             (long long)r->choose.n, (long long)r->size.chosen, (long long)r->size.drawn);
    html_put(h, "<div class=\"group\" data-label=\"Blocks\">\n");
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        const fct_truth_block *b = &r->block[i];
        html_put(h,
                 "<div class=\"panel\" id=\"cards-%lld\" data-name=\"%s\"><h3>%s</h3><div "
                 "class=\"cards\">\n",
                 (long long)i, b->name, b->name);
        for (int64_t c = 0; c < b->n_cards; c++) put_card(h, r, b, &b->card[c]);
        html_put(h, "</div></div>\n");
    }
    html_put(h, "</div></section>\n");
}

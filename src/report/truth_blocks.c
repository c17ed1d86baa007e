/* truth_blocks.c - writes the third part of the truth protocol's page: what each block does for the
   picture, and how well its SAE stands in for it. */
#include <math.h>
#include <stdio.h>

#include "report/truth_page.h"

static void put_table(html *h, const fct_truth_result *r)
{
    html_put(
        h,
        "<div class=\"scroll\"><table><caption>Each block and its autoencoder, on held-out "
        "pictures. Change: mean absolute difference of "
        "pixels in [0,1] over %lld pictures; two unrelated pictures differ by %.3f.</caption>\n",
        (long long)r->n_block_pairs, r->change_other_pair);
    html_put(h, "<thead><tr><th>block</th><th>explained variance</th><th>active "
                "(L0)</th><th>never active</th><th>change, zeroed</th>"
                "<th>change, rebuilt</th><th>rebuilt / zeroed</th></tr></thead><tbody>\n");
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        const fct_truth_block *b = &r->block[i];
        html_put(h,
                 "<tr><td>%s</td><td>%.3f</td><td>%.1f of "
                 "%lld</td><td>%.1f&thinsp;%%</td><td>%.4f</td><td>%.4f</"
                 "td><td>%.0f&thinsp;%%</td></tr>\n",
                 b->name, b->quality.ev, b->quality.l0, (long long)b->sae->f,
                 100 * b->quality.dead_share, b->change_zeroed, b->change_rebuilt,
                 b->change_zeroed > 0 ? 100 * b->change_rebuilt / b->change_zeroed : 0);
    }
    html_put(h,
             "<tr><td>all "
             "four</td><td></td><td></td><td></td><td>%.4f</td><td></td><td></td></tr></"
             "tbody></table></div>\n",
             r->change_all_zeroed);
}

static void put_read_row(html *h, const fct_truth_result *r, const char *name, const double *share,
                         bool falls)
{
    html_put(h, "<tr><td>%s</td>", name);
    for (int64_t f = 0; f < r->world->n_factors; f++) {
        if (r->n_named[f] == 0) {
            html_put(h, "<td>\u2013</td>");
            continue;
        }
        double fall = falls ? fmax(0, r->read_clean[f] - share[f]) : 0;
        html_put(h, "<td class=\"%s\" style=\"--fall:%.2f\">%.0f&thinsp;%%</td>",
                 falls ? "fall" : "", fall, 100 * share[f]);
    }
    html_put(h, "</tr>\n");
}

static void put_factors(html *h, const fct_truth_result *r)
{
    html_put(h, "<div class=\"scroll\"><table><caption>Where a caption names a factor: in "
                "what share of the pictures the checker reads the named "
                "value. The darker, the more is lost against the clean "
                "pictures.</caption>\n<thead><tr><th></th>");
    for (int64_t f = 0; f < r->world->n_factors; f++)
        html_put(h, "<th>%s (%lld)</th>", r->world->factor[f].name, (long long)r->n_named[f]);
    html_put(h, "</tr></thead><tbody>\n");
    put_read_row(h, r, "clean", r->read_clean, false);
    char name[64];
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        snprintf(name, sizeof name, "%s zeroed", r->block[i].name);
        put_read_row(h, r, name, r->block[i].read_zeroed, true);
    }
    put_read_row(h, r, "all four zeroed", r->read_all_zeroed, true);
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        snprintf(name, sizeof name, "%s rebuilt", r->block[i].name);
        put_read_row(h, r, name, r->block[i].read_rebuilt, true);
    }
    html_put(h, "<tr><td>chance</td>");
    for (int64_t f = 0; f < r->world->n_factors; f++)
        html_put(h, "<td>%.0f&thinsp;%%</td>", 100.0 / (double)r->world->factor[f].n_values);
    html_put(h, "</tr></tbody></table></div>\n");
}

static void put_variant(html *h, const fct_truth_pair *p, const fct_truth_block *b,
                        const char *word, const char *label, int64_t i)
{
    char name[96], edit[64];
    snprintf(name, sizeof name, "%s-%s-%lld", b->name, word, (long long)i);
    snprintf(edit, sizeof edit, "%s %s", b->name, label);
    html_figure(
        h, &(html_picture){
               .name = name, .label = edit, .prompt = p->prompt, .seed = p->seed, .edit = edit});
}

static void put_painted(html *h, const fct_truth_result *r, const fct_truth_pair *p, int64_t block,
                        int64_t i)
{
    const fct_truth_block *b = &r->block[block];
    if (b->best_card < 0) return;
    const fct_truth_card *c = &b->card[b->best_card];
    char name[96], label[96];
    snprintf(name, sizeof name, "%s-painted-%lld", b->name, (long long)i);
    snprintf(label, sizeof label, "%s +%s", b->name, fct_world_word(r->world, c->factor, c->value));
    html_figure(h, &(html_picture){.name = name,
                                   .label = label,
                                   .prompt = p->prompt,
                                   .seed = p->seed,
                                   .edit = b->example[i]});
}

static void put_examples(html *h, const fct_truth_result *r)
{
    for (int64_t i = 0; i < FCT_TRUTH_EXAMPLES && i < r->n_block_pairs; i++) {
        const fct_truth_pair *p = &r->show.pair[i];
        char name[96];
        html_put(h, "<div class=\"pairrow\"><p class=\"prompt\">\u201c");
        html_text(h, p->prompt);
        html_put(h, "\u201d, seed %llu</p><div class=\"grid five\">\n",
                 (unsigned long long)p->seed);
        for (int row = 0; row < 3; row++) {
            snprintf(name, sizeof name, row == 0 ? "show-%lld" : "all-zeroed-%lld", (long long)i);
            if (row < 2)
                html_figure(h, &(html_picture){.name = name,
                                               .label = row == 0 ? "clean" : "all four zeroed",
                                               .prompt = p->prompt,
                                               .seed = p->seed,
                                               .edit = row == 0 ? NULL : "all four blocks zero"});
            else
                html_put(h, "<span></span>");
            for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++) {
                if (row == 0) put_variant(h, p, &r->block[b], "zeroed", "zero", i);
                if (row == 1) put_variant(h, p, &r->block[b], "rebuilt", "rebuild", i);
                if (row == 2) put_painted(h, r, p, b, i);
            }
        }
        html_put(h, "</div></div>\n");
    }
}

void truth_page_specialised(html *h, const fct_truth_result *r)
{
    html_put(h, "<section id=\"specialised\"><h2>3. Do the blocks differ?</h2>\n"
                "<p>Each block is switched off (its delta zeroed), replaced by what its "
                "autoencoder makes of it (rebuilt), and painted with the one "
                "of its chosen features that does most. Rebuilding is the control for the "
                "autoencoder: what it loses, no feature can show. Which block carries which "
                "kind of word was planted in training: see below.</p>\n");
    put_table(h, r);
    put_factors(h, r);
    put_examples(h, r);
    html_put(h, "</section>\n");
}

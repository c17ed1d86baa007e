/* truth_paper.c - writes what was found here beside what the paper reports of SDXL Turbo, from this
   run's own figures. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/truth_page.h"

static double loss(const fct_truth_result *r, int64_t block, int64_t factor)
{
    return r->read_clean[factor] - r->block[block].read_zeroed[factor];
}

/* The factors that lose most when the block is zeroed: "colour (-52), light (-12)". */
static void put_losses(html *h, const fct_truth_result *r, int64_t block)
{
    bool used[FCT_WORLD_MAX_FACTORS] = {false};
    int64_t shown = 0;
    for (; shown < 3; shown++) {
        int64_t worst = -1;
        for (int64_t f = 0; f < r->world->n_factors; f++)
            if (!used[f] && r->n_named[f] > 0 &&
                (worst < 0 || loss(r, block, f) > loss(r, block, worst)))
                worst = f;
        if (worst < 0 || loss(r, block, worst) < 0.1) break;
        used[worst] = true;
        html_put(h, "%s%s (\u2212%.0f points)", shown ? ", " : "", r->world->factor[worst].name,
                 100 * loss(r, block, worst));
    }
    if (shown == 0) html_put(h, "no factor loses as much as 10 points");
}

static void put_losers(html *h, const fct_truth_result *r, const char *factor)
{
    int64_t f = fct_world_find(r->world, factor), worst = 0;
    if (f < 0 || r->n_named[f] == 0) return;
    for (int64_t b = 1; b < FCT_TRUTH_BLOCKS; b++)
        if (loss(r, b, f) > loss(r, worst, f)) worst = b;
    if (loss(r, worst, f) < 0.1)
        html_put(h, "No single block costs the %s 10 points here. ", factor);
    else
        html_put(h, "The %s depends most on %s here (\u2212%.0f points). ", factor,
                 r->block[worst].name, 100 * loss(r, worst, f));
}

static void put_role(html *h, const fct_truth_result *r, int64_t block, const char *paper)
{
    html_put(h, "<li><b>%s.</b> SDXL Turbo: %s. Here, when it is zeroed: ", r->block[block].name,
             paper);
    put_losses(h, r, block);
    html_put(h, "; the words it tells best are ");
    for (int64_t c = 0, n = 0; c < r->block[block].n_cards && n < 3; c++) {
        const fct_truth_card *card = &r->block[block].card[c];
        if (card->chosen)
            html_put(h, "%s\u201c%s\u201d", n++ ? ", " : "",
                     fct_world_word(r->world, card->factor, card->value));
    }
    html_put(h, ".</li>\n");
}

void truth_page_paper(html *h, const fct_truth_result *r)
{
    static const char *const role[FCT_TRUTH_BLOCKS] = {
        "composition: what is where", "abstract, and unclear",
        "local details that need a fitting context", "colour, light, texture and style, locally"};
    double low = 1, high = 0;
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++) {
        low = fmin(low, r->block[b].quality.ev);
        high = fmax(high, r->block[b].quality.ev);
    }
    const fct_truth_block *b = &r->block[0];
    html_put(h, "<section id=\"paper\"><h2>What differs from SDXL Turbo</h2>\n"
                "<p>The claims are those of <cite>Unpacking SDXL Turbo: Interpreting "
                "Text-to-Image Models with Sparse Autoencoders</cite> "
                "(arXiv 2410.22366). This page shows the method on a model of another kind, "
                "so agreement is no proof of theirs, and difference no "
                "refutation.</p>\n<ul class=\"plain\">\n");
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) put_role(h, r, i, role[i]);
    html_put(h, "<li><b>Colour and place.</b> The paper finds colour and style in up.0.1 and "
                "composition in down.2.1. ");
    put_losers(h, r, "colour");
    put_losers(h, r, "shape");
    put_losers(h, r, "background");
    html_put(h, "</li>\n");
    html_put(h, "<li><b>Which block carries what was planted.</b> This model was trained so that "
                "words enter through the four blocks alone, and each block was taught kinds of its "
                "own: down.2.1 number and background, mid.0 shape and size, up.0.0 texture, up.0.1 "
                "colour and light. So the division of work on this page is no discovery; in SDXL "
                "Turbo nobody planned it, and other blocks read the prompt as well. Not planted: "
                "along which directions a block writes, and whether single features show and cause "
                "it. With all four blocks zeroed, the checker still reads ");
    bool first = true;
    for (int64_t f = 0; f < r->world->n_factors; f++) {
        if (r->n_named[f] == 0) continue;
        html_put(h, "%s%s in %.0f&thinsp;%% (chance %.0f&thinsp;%%)", first ? "" : ", ",
                 r->world->factor[f].name, 100 * r->read_all_zeroed[f],
                 100.0 / (double)r->world->factor[f].n_values);
        first = false;
    }
    html_put(h, ".</li>\n");
    html_put(h,
             "<li><b>Size.</b> There: deltas of 1,280 channels on a 16\u00d716 grid, 5,120 "
             "features, 10 active (160 in later figures), trained on 384 "
             "million rows. Here: %lld channels on %lld\u00d7%lld, %lld features, %lld "
             "active, %lld rows in %.0f seconds.</li>\n",
             (long long)b->sae->d, (long long)b->grid_h, (long long)b->grid_w, (long long)b->sae->f,
             (long long)b->sae->k, (long long)b->report.rows, b->report.seconds);
    html_put(h,
             "<li><b>Explained variance.</b> The paper's plots show .88 to .93 in one step "
             "with 160 of 5,120 active; here %.2f to %.2f with %lld "
             "of %lld: the world is simpler, so fewer features say as much.</li>\n",
             low, high, (long long)b->sae->k, (long long)b->sae->f);
    html_put(h, "<li><b>What counts as a cause.</b> The paper compares generated captions "
                "with pictures by CLIP; here the world is known, so a checker "
                "reads the very word that was painted, and two controls push as hard as the "
                "feature does.</li>\n</ul></section>\n");
}

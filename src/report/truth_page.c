/* truth_page.c - writes the frame of the truth protocol's page: what was found in four figures, the
   parts, how to do it again. Written last and at once, so that a folder with index.html is a
   finished one. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/truth_page.h"
#include "report/web.h"

static void put_file(html *h, const char *name)
{
    for (const fct_web_file *f = fct_web_files; f->name; f++)
        if (strcmp(f->name, name) == 0) html_raw(h, f->data, (int64_t)f->size);
}

static void put_head(html *h)
{
    html_put(h, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, "
                "initial-scale=1\">\n<title>facet demo</title>\n"
                "<link rel=\"icon\" href=\"data:,\">\n<style>\n");
    put_file(h, "demo.css");
    html_put(h, "</style>\n</head>\n<body>\n");
}

static double mean_read(const fct_truth_result *r, const double *share)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t f = 0; f < r->world->n_factors; f++)
        if (r->n_named[f] > 0) {
            sum += share[f];
            n++;
        }
    return n > 0 ? sum / (double)n : 0;
}

static void put_figures(html *h, const fct_truth_result *r)
{
    int64_t chosen = 0, told = 0, causes = 0, drawn = 0;
    double low = 1, high = 0, drawn_painted = 0, floor = 0;
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        const fct_truth_block *b = &r->block[i];
        low = fmin(low, b->quality.ev);
        high = fmax(high, b->quality.ev);
        for (int64_t j = 0; j < b->n_cards; j++) {
            const fct_truth_card *c = &b->card[j];
            chosen += c->chosen;
            told += c->chosen && c->held_f1.f1 >= 0.8;
            causes += truth_card_causes(c);
            floor += c->chosen ? c->floor_f1 : 0;
            drawn += !c->chosen;
            drawn_painted += c->chosen ? 0 : c->share[FCT_TRUTH_PAINTED];
        }
    }
    html_put(h, "<div class=\"figures\">\n");
    html_put(
        h,
        "<div><b>%lld of %lld</b><span>chosen features tell their word on captions never seen: F1 "
        "of .80 or more, where the same search for shuffled labels gives %.2f</span></div>\n",
        (long long)told, (long long)chosen, chosen > 0 ? floor / (double)chosen : 0);
    html_put(h,
             "<div><b>%lld of %lld</b><span>cause it: painted, the word is read in "
             "60&thinsp;%% or more, with a random direction in 25&thinsp;%% or "
             "less. Features drawn at random: %.0f&thinsp;%% read on average</span></div>\n",
             (long long)causes, (long long)chosen,
             drawn > 0 ? 100 * drawn_painted / (double)drawn : 0);
    html_put(h,
             "<div><b>%.0f&thinsp;%% \u2192 %.0f&thinsp;%%</b><span>of the named factors are "
             "read in the pictures: as they are, and with all four blocks "
             "zeroed</span></div>\n",
             100 * mean_read(r, r->read_clean), 100 * mean_read(r, r->read_all_zeroed));
    html_put(h,
             "<div><b>%.2f\u2013%.2f</b><span>of the variance of what the blocks write is "
             "explained by %lld features at a position</span></div>\n",
             low, high, (long long)r->block[0].sae->k);
    html_put(h, "</div>\n");
}

static void put_intro(html *h, const fct_truth_result *r)
{
    html_put(h,
             "<header class=\"top\"><h1>What four blocks of a text-to-image model hold</h1>\n"
             "<p class=\"lede\">facet made %lld pictures with the small model that it "
             "carries, captured what four of its transformer blocks write, "
             "learned sparse features of it, and put three claims to the test: that features "
             "mean something, that they cause what they show, "
             "and that the blocks differ. Every claim stands beside its control. Every "
             "picture is a PNG that carries its recipe.</p>\n",
             (long long)r->pictures);
    put_figures(h, r);
    html_put(
        h,
        "</header>\n<nav class=\"parts\" aria-label=\"Parts\"><div><a "
        "href=\"#interpretable\">Interpretable</a><a href=\"#causal\">Causal</a>"
        "<a href=\"#specialised\">Specialised</a><a href=\"#paper\">Beside the paper</a><a "
        "href=\"#again\">Again</a>"
        "<label><input type=\"checkbox\" id=\"maps\" checked> maps</label></div></nav>\n<main>\n");
}

static void put_again(html *h, const fct_truth_result *r)
{
    const fct_truth_block *b = &r->block[FCT_TRUTH_BLOCKS - 1];
    int64_t at = b->best_card, feature = at >= 0 ? b->card[at].feature : 0;
    html_put(h, "<section id=\"again\"><h2>Do it again</h2>\n<p>In this folder: "
                "<code>saes/</code> (SAELens layout), <code>controls/</code> (the random "
                "directions, as SAEs), <code>store/</code> and <code>store-heldout/</code> "
                "(captured rows, safetensors), <code>pictures/</code>, and "
                "all figures in <a href=\"summary.json\">summary.json</a>.</p>\n<pre><code>");
    html_put(h,
             "# the strongest features of any picture on this page\nfacet features look "
             "pictures/show-0.png --sae saes -o look\n\n"
             "# paint one yourself\nfacet generate -p \"a large star at night\" --seed 7 "
             "--sae saes --edit \"%s:%lld +4\" -o painted.png\n\n"
             "# train another SAE on the same rows\nfacet train --store store --block %s "
             "--preset demo --k 4 -o saes-k4/%s</code></pre>\n",
             b->name, (long long)feature, b->name, b->name);
    html_put(h,
             "<p class=\"note\">Training: %lld captions. Chosen on %lld pairs of caption and "
             "seed, shown and counted on %lld others; the three sets share "
             "no seed, and no caption of the held-out file was trained on. Seed %llu, model "
             "%s (%.12s), %s in %s, facet %s, %.0f seconds.</p></section>\n",
             (long long)r->n_train, (long long)r->choose.n, (long long)r->show.n,
             (unsigned long long)r->seed, r->model->name, r->model->hash, r->model->backend,
             r->model->precision, fct_version(), r->seconds);
}

fct_status truth_page_write(const fct_truth_result *r, const char *dir)
{
    html h = {0};
    char *path = NULL;
    put_head(&h);
    put_intro(&h, r);
    truth_page_interpretable(&h, r);
    truth_page_causal(&h, r);
    truth_page_specialised(&h, r);
    truth_page_paper(&h, r);
    put_again(&h, r);
    html_put(&h,
             "</main>\n<footer><p>Made by facet %s. Nothing on this page comes from the "
             "network.</p></footer>\n<script type=\"module\">\n",
             fct_version());
    put_file(&h, "demo.js");
    html_put(&h, "</script>\n</body>\n</html>\n");
    fct_status st = h.st;
    if (st == FCT_OK) st = fct_path_join(&path, dir, "index.html");
    if (st == FCT_OK) st = fct_file_write(path, h.text.p, h.text.n);
    fct_free(path);
    fct_str_clear(&h.text);
    return st;
}

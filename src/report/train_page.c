/* train_page.c - writes report.html beside an SAE: how its training went, in curves, what its
   features are like, and with which options it was made. The page loads nothing, and nothing in it
   depends on when or how fast it was made, so a run that was continued has the page of one that was
   not. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "report/chart.h"
#include "report/train_page.h"
#include "report/web.h"

static void put_css(html *h)
{
    for (const fct_web_file *f = fct_web_files; f->name; f++)
        if (strcmp(f->name, "demo.css") == 0) html_raw(h, f->data, (int64_t)f->size);
    html_put(h, ".charts { display: grid; gap: 18px; grid-template-columns: "
                     "repeat(auto-fit, minmax(440px, 1fr)); }\n"
                     ".charts svg { width: 100%%; max-width: 640px; height: auto; background: "
                     "var(--card); border: "
                     "1px solid var(--line); border-radius: 10px; }\n"
                     ".report td, .report th { text-align: left; padding: .25rem 1.2rem .25rem 0; "
                     "border-bottom: 1px solid var(--line); font-weight: 400; }\n");
}

/* ---- curves ---- */

/* One number of every point of the course, as a column. */
static fct_status column(double **out, const fct_train_member *m, size_t offset)
{
    FCT_TRY(fct_new(out, m->n_metrics, sizeof **out));
    for (int64_t i = 0; i < m->n_metrics; i++)
        memcpy(&(*out)[i], (const char *)&m->metrics[i] + offset, sizeof **out);
    return FCT_OK;
}

typedef struct curve {
    const char *title, *y_name, *name[2];
    size_t offset[2];
    int n;
    bool log;
} curve;

static fct_status put_curve(html *h, const fct_train_member *m, const curve *c)
{
    fct_status st = FCT_OK;
    double *step = NULL, *y[2] = {0};
    chart_series series[2];
    int n = 0;
    FCT_TRY_OUT(column(&step, m, offsetof(fct_train_metrics, step)));
    for (int i = 0; i < c->n; i++) {
        bool any = false;
        FCT_TRY_OUT(column(&y[i], m, c->offset[i]));
        for (int64_t k = 0; k < m->n_metrics; k++) any = any || isfinite(y[i][k]);
        if (any || i == 0)
            series[n++] =
                (chart_series){.name = c->name[i], .x = step, .y = y[i], .n = m->n_metrics};
    }
    chart_draw(h, &(chart){.title = c->title,
                           .x_name = "step",
                           .y_name = c->y_name,
                           .series = series,
                           .n = n,
                           .log_y = c->log});
out:
    fct_free(step);
    fct_free(y[0]);
    fct_free(y[1]);
    return st;
}

static const curve curves[] = {
    {"Loss", "loss", {NULL}, {offsetof(fct_train_metrics, loss)}, 1, true},
    {"Explained variance",
     "share of variance",
     {"training batch", "held out"},
     {offsetof(fct_train_metrics, ev), offsetof(fct_train_metrics, held_ev)},
     2,
     false},
    {"Active features",
     "L0",
     {"training batch", "held out"},
     {offsetof(fct_train_metrics, l0), offsetof(fct_train_metrics, held_l0)},
     2,
     false},
    {"Dead features", "share", {NULL}, {offsetof(fct_train_metrics, dead_share)}, 1, false},
};

/* ---- densities ---- */

enum { BINS = 28, LOWEST = -7 }; /* a quarter of a power of ten each, up to 1 */

static void put_densities(html *h, const fct_sae *s, int64_t *never)
{
    int64_t count[BINS] = {0};
    *never = 0;
    for (int64_t f = 0; f < s->f; f++) {
        if (!(s->density[f] > 0)) {
            ++*never;
            continue;
        }
        double at = (log10((double)s->density[f]) - LOWEST) * BINS / -LOWEST;
        int64_t bin = (int64_t)floor(at);
        count[bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin]++;
    }
    chart_draw_bins(h, &(chart_bins){.title = "Feature densities",
                                     .x_name = "log10 of the share of rows with the feature",
                                     .count = count,
                                     .n = BINS,
                                     .lo = LOWEST,
                                     .hi = 0});
}

/* ---- tables ---- */

static void put_row(html *h, const char *name, double ev, double second, double l0,
                    double dead)
{
    html_put(h,
                  "<tr><th>%s</th><td>%.4f</td><td>%.4f</td><td>%.2f</td><td>%.1f&thinsp;%%</td>"
                  "</tr>\n",
                  name, ev, second, l0, 100 * dead);
}

static void put_quality(html *h, const train_result *r, const train_part *part,
                        int64_t dead_rows)
{
    const fct_train_member *m = r->member;
    html_put(h, "<table class=\"report\"><tr><th></th><th>explained variance, mean over "
                     "dimensions</th><th>explained variance, total</th><th>active "
                     "features</th><th>dead or never active</th></tr>\n");
    if (m->n_metrics > 0) {
        const fct_train_metrics *p = &m->metrics[m->n_metrics - 1];
        put_row(h, "last training batch", p->ev, 1 - p->fvu, p->l0, p->dead_share);
    }
    if (r->held)
        put_row(h, "held-out rows", part->quality.ev, part->quality.ev_total, part->quality.l0,
                part->quality.dead_share);
    html_put(h, "</table>\n<p>Dead: not active in the last %lld rows of training%s.%s</p>\n",
                  (long long)dead_rows,
                  dead_rows > m->report.rows ? "; it had fewer, so none can be" : "",
                  r->held ? " Never active: in none of the held-out rows." : "");
}

/* The members of an object; those of objects in it under a heading. */
static fct_status put_members(html *h, json_t *j)
{
    const char *key;
    json_t *value;
    json_object_foreach(j, key, value)
    {
        fct_str text = {0};
        if (json_is_object(value)) {
            html_put(h, "<tr><th colspan=\"2\"><b>");
            html_text(h, key);
            html_put(h, "</b></th></tr>\n");
            FCT_TRY(put_members(h, value));
            continue;
        }
        if (json_is_null(value)) continue;
        if (json_is_real(value))
            FCT_TRY(fct_str_printf(&text, "%.6g", json_real_value(value)));
        else if (!json_is_string(value))
            FCT_TRY(fct_json_text(&text, value, 0));
        html_put(h, "<tr><th>");
        html_text(h, key);
        html_put(h, "</th><td><code>");
        html_text(h, json_is_string(value) ? json_string_value(value) : text.p);
        html_put(h, "</code></td></tr>\n");
        fct_str_clear(&text);
    }
    return h->st;
}

static fct_status put_options(html *h, json_t *made)
{
    html_put(h, "<table class=\"report\">\n");
    fct_status st = put_members(h, made);
    html_put(h, "</table>\n");
    return st;
}

enum { SHARES = 20 };

/* Of a crosscoder: how much of the features is in each block, and how well its rows are rebuilt. */
static fct_status put_blocks(html *h, const train_result *r, const fct_sae *s)
{
    float *share = NULL;
    if (s->n_blocks == 0) return FCT_OK;
    FCT_TRY(fct_new(&share, s->f * s->n_blocks, sizeof *share));
    fct_sae_block_share(s, share);
    html_put(h, "<section><h2>Which blocks the features are of</h2>\n<div "
                     "class=\"charts\">\n");
    for (int64_t b = 0; b < s->n_blocks; b++) {
        int64_t count[SHARES] = {0};
        fct_str title = {0};
        for (int64_t f = 0; f < s->f; f++) {
            int64_t bin = (int64_t)((double)share[f * s->n_blocks + b] * SHARES);
            count[bin < SHARES ? bin : SHARES - 1]++;
        }
        fct_status st = fct_str_append(&title, s->blocks[b].name);
        if (st == FCT_OK && r->held)
            st = fct_str_printf(&title, ": explained variance %.4f, alone %.4f",
                                r->quality.block_ev[b], r->alone[b]);
        if (st == FCT_OK)
            chart_draw_bins(h,
                            &(chart_bins){.title = title.p,
                                          .x_name = "share of a feature's direction in the block",
                                          .count = count,
                                          .n = SHARES,
                                          .lo = 0,
                                          .hi = 1});
        fct_str_clear(&title);
    }
    html_put(h, "</div></section>\n");
    fct_free(share);
    return h->st;
}

static fct_status put_page(html *h, const train_result *r, const train_part *part,
                           json_t *made)
{
    const fct_train_member *m = r->member;
    const fct_sae *sae = part->sae;
    int64_t never = 0;
    html_put(h, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<title>facet train</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n");
    put_css(h);
    html_put(h, "</style>\n</head>\n<body>\n<header class=\"top\"><h1>Training of an SAE");
    if (r->block) {
        html_put(h, ": ");
        html_text(h, r->name ? r->name : r->block);
        if (r->n_parts > 1) html_put(h, ", ");
        if (r->n_parts > 1) html_text(h, part->block);
    }
    html_put(h,
                  "</h1>\n<p class=\"lede\">%lld features of rows of %lld numbers, %lld steps over "
                  "%lld rows",
                  (long long)sae->f, (long long)sae->d, (long long)m->report.steps,
                  (long long)m->report.rows);
    if (part->block) html_put(h, " of ");
    if (part->block) html_text(h, part->block);
    if (sae->model) html_put(h, " of the model ");
    if (sae->model) html_text(h, sae->model);
    html_put(h, ".</p></header>\n<main>\n");
    html_put(h, "<section><h2>How well rows are rebuilt</h2>\n");
    put_quality(
        h, r, part,
        json_integer_value(json_object_get(json_object_get(made, "training"), "dead_rows")));
    html_put(h, "</section>\n<section><h2>How it went</h2>\n<div class=\"charts\">\n");
    for (size_t i = 0; i < FCT_COUNT(curves); i++) FCT_TRY(put_curve(h, m, &curves[i]));
    html_put(h, "</div></section>\n<section><h2>What the features are "
                     "like</h2>\n<div class=\"charts\">\n");
    put_densities(h, sae, &never);
    html_put(h,
                  "</div>\n<p>%lld of %lld features are active in none of the rows.</p>"
                  "</section>\n",
                  (long long)never, (long long)sae->f);
    FCT_TRY(put_blocks(h, r, sae));
    html_put(h, "<section><h2>How it was made</h2>\n");
    if (made) FCT_TRY(put_options(h, made));
    html_put(h,
                  "</section>\n</main>\n<footer><p>Made by facet %s.</p></footer>\n</body>\n"
                  "</html>\n",
                  fct_version());
    return h->st;
}

fct_status train_page_write(const train_result *r, const train_part *part)
{
    html h = {0};
    char *path = NULL;
    json_t *made = NULL;
    const char *text = part->sae->facet_json;
    fct_status st =
        text ? fct_json_parse(&made, text, (int64_t)strlen(text), "facet.json") : FCT_OK;
    if (st == FCT_OK) st = put_page(&h, r, part, made);
    if (st == FCT_OK) st = fct_path_join(&path, part->dir, "report.html");
    if (st == FCT_OK) st = fct_file_write(path, h.text.p, h.text.n);
    json_decref(made);
    fct_str_clear(&h.text);
    fct_free(path);
    return fct_where(st, "writing the report");
}

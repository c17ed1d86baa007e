/* train_result.c - writes the results of a sweep: a line for every SAE, results.json, and a plot of
   explained variance against the number of active features, by block. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/cmd/train.h"
#include "report/chart.h"

/* Of several blocks what is of each; NULL: there is one. */
static json_t *parts_json(const train_result *r)
{
    const fct_sae *s = r->member->sae;
    json_t *list = s && (r->n_parts > 1 || s->n_blocks > 0) ? json_array() : NULL;
    for (int64_t i = 0; list && r->n_parts > 1 && i < r->n_parts; i++) {
        json_t *one = json_pack("{s:s, s:s}", "block", r->part[i].block, "sae", r->part[i].dir);
        if (r->held) (void)json_object_set_new(one, "ev", json_real(r->part[i].quality.ev));
        if (r->held) (void)json_object_set_new(one, "l0", json_real(r->part[i].quality.l0));
        (void)json_array_append_new(list, one);
    }
    for (int64_t i = 0; list && i < s->n_blocks; i++) {
        json_t *one = json_pack("{s:s}", "block", s->blocks[i].name);
        if (r->held) (void)json_object_set_new(one, "ev", json_real(r->quality.block_ev[i]));
        if (r->held) (void)json_object_set_new(one, "ev_alone", json_real(r->alone[i]));
        (void)json_array_append_new(list, one);
    }
    return list;
}

int64_t train_result_unused(const train_result *r)
{
    int64_t n = 0, features = r->member->report.n_features;
    for (int64_t f = 0; f < features; f++) {
        bool active = false;
        for (int64_t i = 0; i < r->n_parts; i++) {
            const fct_sae *s = r->part[i].sae;
            active = active || (s && s->density && s->density[f] > 0);
        }
        n += !active;
    }
    return n;
}

json_t *train_result_json(const train_result *r)
{
    const fct_train_report *t = &r->member->report;
    json_t *train =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "steps",
                  (json_int_t)t->steps, "rows", (json_int_t)t->rows, "n_features",
                  (json_int_t)t->n_features, "k", (json_int_t)t->k, "dead", (json_int_t)t->dead,
                  "loss", isfinite(t->loss) ? t->loss : 0, "mse", isfinite(t->mse) ? t->mse : 0,
                  "aux", isfinite(t->aux) ? t->aux : 0, "ev", isfinite(t->ev) ? t->ev : 0, "l0",
                  t->l0, "loss_scale", t->loss_scale, "seconds", t->seconds);
    json_t *held = NULL;
    if (r->held && r->member->sae)
        held = json_pack("{s:f, s:f, s:f, s:f, s:I}", "ev", r->quality.ev, "ev_total",
                         r->quality.ev_total, "l0", r->quality.l0, "dead_share",
                         r->quality.dead_share, "rows", (json_int_t)r->quality.rows);
    json_t *unused = r->member->sae ? json_integer((json_int_t)train_result_unused(r)) : NULL;
    return json_pack("{s:s*, s:s, s:s, s:O*, s:s*, s:o, s:o*, s:o*, s:o*}", "name", r->name,
                     "block", r->block, "sae", r->dir, "options", r->options, "lost",
                     r->member->lost, "train", train, "never_active", unused, "held_out", held,
                     "parts", parts_json(r));
}

static double ev_of(const train_result *r)
{
    return r->held ? r->quality.ev : r->member->report.ev;
}

static double l0_of(const train_result *r)
{
    return r->held ? r->quality.l0 : r->member->report.l0;
}

static void say_table(fct_cli *c, const train_result *r, int64_t n)
{
    size_t width = 4;
    for (int64_t i = 0; i < n; i++)
        if (strlen(r[i].name) > width) width = strlen(r[i].name);
    fct_cli_say(c, "%-*s %9s %8s %8s %7s %7s  EV and L0: %s; unused: never active in the rows",
                (int)width, "SAE", "features", "EV", "L0", "dead", "unused",
                r[0].held ? "on held-out rows" : "of the last batch");
    for (int64_t i = 0; i < n; i++) {
        const fct_train_report *t = &r[i].member->report;
        if (r[i].member->lost)
            fct_cli_say(c, "%-*s lost: %s", (int)width, r[i].name, r[i].member->lost);
        else
            fct_cli_say(c, "%-*s %9" PRId64 " %8.4f %8.2f %6.1f%% %6.1f%%", (int)width, r[i].name,
                        t->n_features, ev_of(&r[i]), l0_of(&r[i]),
                        100 * (double)t->dead / (double)t->n_features,
                        100 * (double)train_result_unused(&r[i]) / (double)t->n_features);
    }
}

/* ---- the plot ---- */

static bool seen_before(const train_result *r, int64_t i)
{
    for (int64_t k = 0; k < i; k++)
        if (strcmp(r[k].block, r[i].block) == 0) return true;
    return false;
}

/* x, y [n,n]: row b holds the points of the block that result b is the first of. */
static fct_status draw_pareto(html *h, const train_result *r, int64_t n)
{
    fct_status st = FCT_OK;
    double *x = NULL, *y = NULL;
    chart_series *series = NULL;
    int64_t blocks = 0;
    FCT_TRY_OUT(fct_new(&x, n, sizeof *x));
    FCT_TRY_OUT(fct_new(&y, n, sizeof *y));
    FCT_TRY_OUT(fct_new(&series, n, sizeof *series));
    for (int64_t b = 0, at = 0; b < n; b++) {
        if (seen_before(r, b)) continue;
        chart_series *s = &series[blocks++];
        *s = (chart_series){
            .name = r[b].block, .x = x + at, .y = y + at, .points = true, .front = true};
        for (int64_t i = 0; i < n; i++) {
            if (strcmp(r[i].block, r[b].block) != 0 || r[i].member->lost) continue;
            x[at] = l0_of(&r[i]);
            y[at++] = ev_of(&r[i]);
            s->n++;
        }
    }
    chart_draw(h, &(chart){.title = "Explained variance against active features",
                           .x_name = "L0: features active in a row",
                           .y_name = "explained variance",
                           .series = series,
                           .n = blocks});
    st = h->st;
out:
    fct_free(x);
    fct_free(y);
    fct_free(series);
    return st;
}

static fct_status write_pareto(const char *dir, const train_result *r, int64_t n)
{
    html h = {0};
    char *path = NULL;
    fct_status st = draw_pareto(&h, r, n);
    if (st == FCT_OK) st = fct_path_join(&path, dir, "pareto.svg");
    if (st == FCT_OK) st = fct_file_write(path, h.text.p, h.text.n);
    fct_str_clear(&h.text);
    fct_free(path);
    return st;
}

fct_status train_result_sweep(fct_cli *c, const char *dir, const train_result *r, int64_t n)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    int64_t lost = 0;
    json_t *list = json_array(),
           *whole = json_pack("{s:s, s:O}", "facet_version", fct_version(), "saes", list);
    for (int64_t i = 0; i < n; i++) {
        if (json_array_append_new(list, train_result_json(&r[i])) != 0 || !whole) {
            st = fct_fail(FCT_ERR_MEMORY, "out of memory: results.json");
            goto out;
        }
        lost += r[i].member->lost != NULL;
    }
    FCT_TRY_OUT(fct_dir_make(dir));
    FCT_TRY_OUT(fct_path_join(&path, dir, "results.json"));
    FCT_TRY_OUT(fct_json_write(whole, path));
    FCT_TRY_OUT(write_pareto(dir, r, n));
    say_table(c, r, n);
    fct_cli_put(c, "results", json_string(path));
    fct_cli_put(c, "saes", json_incref(list));
    if (lost > 0) fct_cli_note(c, "%" PRId64 " of %" PRId64 " SAEs were lost on the way", lost, n);
out:
    json_decref(list);
    json_decref(whole);
    fct_free(path);
    return st;
}

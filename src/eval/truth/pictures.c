/* pictures.c - makes every picture of the truth protocol: one run, one PNG that carries its recipe,
   one reading by the checker.

   Each is a run of its own (a batch of one), so that replaying its PNG needs no other prompt. */
#include <math.h>
#include <stdio.h>

#include "eval/truth/truth.h"

/* The SAEs lie beside the pictures' folder, and the protocol's folder may move: their places are
   told from the picture, "../saes/up.0.1". */
static fct_status name_saes(fct_recipe *r, bool controls)
{
    for (int64_t i = 0; i < r->n_saes; i++) {
        fct_free(r->sae[i].path);
        FCT_TRY(fct_format(&r->sae[i].path, "../%s/%s", controls ? "controls" : "saes",
                           r->sae[i].block));
    }
    return FCT_OK;
}

static fct_status save(fct_truth_worker *w, const fct_truth_shot *shot, const fct_run_desc *desc,
                       const fct_edit *edits, fct_sae_set *saes, const fct_run_result *result)
{
    fct_status st = FCT_OK;
    fct_recipe recipe = {0};
    fct_image image = {0};
    char *path = NULL;
    FCT_TRY_OUT(fct_format(&path, "%s/pictures/%s.png", w->t->dir, shot->save));
    FCT_TRY_OUT(fct_recipe_of_run(&recipe, w->session, desc, edits, shot->n_edits, saes, 0));
    FCT_TRY_OUT(name_saes(&recipe, shot->controls));
    FCT_TRY_OUT(fct_draw_pixels(&image, result->pixels, result->width, result->height));
    FCT_TRY_OUT(fct_recipe_stamp(&recipe, &image));
    FCT_TRY_OUT(fct_png_write(&image, path));
out:
    fct_free(path);
    fct_image_clear(&image);
    fct_recipe_clear(&recipe);
    return st;
}

fct_status fct_truth_take(fct_truth_worker *w, const fct_truth_shot *shot, uint8_t **pixels)
{
    enum { MAX_EDITS = 8 };
    fct_status st = FCT_OK;
    fct_edit edits[MAX_EDITS] = {0};
    fct_run_result result = {0};
    fct_sae_set *saes = shot->controls ? &w->t->controls : &w->t->saes;
    fct_run_desc desc = {.items = &(fct_run_item){.prompt = shot->prompt, .seed = shot->seed},
                         .n_items = 1};
    if (pixels) *pixels = NULL;
    if (shot->n_edits > MAX_EDITS)
        return fct_fail(FCT_ERR_ARG, "%lld edits", (long long)shot->n_edits);
    FCT_TRY(fct_log_check_stop(w->t->log));
    for (int64_t i = 0; i < shot->n_edits; i++)
        FCT_TRY_OUT(fct_edit_parse(&edits[i], shot->edit[i]));
    FCT_TRY_OUT(fct_edit_run(w->session, &desc, edits, shot->n_edits, saes, &result));
    if (shot->save) FCT_TRY_OUT(save(w, shot, &desc, edits, saes, &result));
    if (pixels) {
        *pixels = result.pixels;
        result.pixels = NULL;
    }
    w->runs++;
out:
    for (int64_t i = 0; i < shot->n_edits; i++) fct_edit_clear(&edits[i]);
    fct_run_result_clear(&result);
    return fct_where(st, "\"%s\", seed %llu", shot->prompt, (unsigned long long)shot->seed);
}

/* ---- clean pictures ---- */

void fct_truth_want(fct_truth_clean *c, int64_t pair, bool save)
{
    c->wanted[pair] |= !c->set->pair[pair].clean;
    c->wanted_saved[pair] |= save && !c->saved[pair];
}

typedef struct wanted {
    fct_truth_clean *clean;
    int64_t *pair;
} wanted;

static fct_status make_clean(fct_truth_worker *w, void *self, int64_t i)
{
    const wanted *all = self;
    fct_truth_clean *c = all->clean;
    int64_t at = all->pair[i];
    fct_truth_pair *p = &c->set->pair[at];
    uint8_t *pixels = NULL;
    char name[64];
    snprintf(name, sizeof name, "%s-%lld", c->set->name, (long long)at);
    fct_truth_shot shot = {
        .prompt = p->prompt, .seed = p->seed, .save = c->wanted_saved[at] ? name : NULL};
    FCT_TRY(fct_truth_take(w, &shot, &pixels));
    fct_free(p->clean);
    p->clean = pixels;
    c->saved[at] |= c->wanted_saved[at];
    c->wanted[at] = c->wanted_saved[at] = false;
    return fct_truth_read(w, p->clean, &p->reading);
}

fct_status fct_truth_make_wanted(fct_truth *t, fct_truth_clean *c)
{
    int64_t n = 0;
    wanted all = {.clean = c};
    FCT_TRY(fct_new(&all.pair, c->set->n, sizeof *all.pair));
    for (int64_t i = 0; i < c->set->n; i++)
        if (c->wanted[i] || c->wanted_saved[i]) all.pair[n++] = i;
    fct_status st = fct_truth_share(t, "clean pictures", n, make_clean, &all);
    fct_free(all.pair);
    return st;
}

int64_t fct_truth_pixels(const fct_truth *t)
{
    return t->result.model->default_width * t->result.model->default_height * 3;
}

fct_status fct_truth_read(fct_truth_worker *w, const uint8_t *pixels, fct_reading *out)
{
    const fct_model_info *info = w->t->result.model;
    return fct_reader_read(w->reader, pixels, 1, info->default_width, info->default_height, out);
}

bool fct_truth_guesses(const fct_truth *t, const fct_reading *r, int64_t factor, int64_t value)
{
    return r->value[t->head[factor]] == value;
}

bool fct_truth_reads(const fct_truth *t, const fct_reading *r, int64_t factor, int64_t value)
{
    return r->readable && fct_truth_guesses(t, r, factor, value);
}

void fct_truth_map(const fct_truth_block *b, int64_t feature, int64_t pair, float *map)
{
    int64_t grid = b->grid_h * b->grid_w, k = b->sae->k;
    for (int64_t g = 0; g < grid; g++) {
        map[g] = 0;
        for (int64_t j = (pair * grid + g) * k; j < (pair * grid + g + 1) * k; j++)
            if (b->index[j] == feature) map[g] = b->value[j];
    }
}

/* ---- painting ---- */

static double within(double x)
{
    return fmin(1, fmax(0, x));
}

/* A box of two fifths of the width around an object: what a large one covers, and a rim of a small
   one. */
static void paint_at(fct_truth_painting *out, const fct_truth_paint_desc *d, double x, double y)
{
    const double half = 0.2;
    x = fmin(1 - half / 2, fmax(half / 2, x));
    y = fmin(1 - half / 2, fmax(half / 2, y));
    char *text = out->text[out->n];
    snprintf(text, sizeof out->text[0], "%s:%lld +%.6g unit=one @box:%.3f,%.3f,%.3f,%.3f",
             d->block->name, (long long)d->feature, d->push, within(x - half), within(y - half),
             within(x + half), within(y + half));
    out->edit[out->n++] = text;
}

void fct_truth_paint(fct_truth_painting *out, const fct_truth *t, const fct_truth_pair *pair,
                     const fct_truth_paint_desc *d)
{
    *out = (fct_truth_painting){0};
    int64_t number = fct_checker_find(t->checker, "number");
    const fct_reading *r = &pair->reading;
    if (d->at_object && r->readable) {
        paint_at(out, d, (double)r->point[0], (double)r->point[1]);
        if (number < 0 || r->value[number] != 1) return;
        paint_at(out, d, (double)r->point[2], (double)r->point[3]);
        return;
    }
    snprintf(out->text[0], sizeof out->text[0], "%s:%lld +%.6g unit=one", d->block->name,
             (long long)d->feature, d->push);
    out->edit[0] = out->text[0];
    out->n = 1;
}

void fct_truth_paint_card(fct_truth_painting *out, const fct_truth *t, const fct_truth_pair *pair,
                          const fct_truth_block *b, const fct_truth_card *c)
{
    double push = c->strength * (double)b->sae->mean[c->feature];
    fct_truth_paint(out, t, pair, &(fct_truth_paint_desc){b, c->feature, push, c->at_object});
}

/* demo_pictures.c - every picture of the demo: one run, one PNG that carries its recipe, one
   reading by the checker.

   Each is a run of its own (a batch of one), so that replaying its PNG needs no other prompt. */
#include <math.h>
#include <stdio.h>

#include "cli/demo.h"

/* The SAEs lie beside the pictures' folder, and the demo's folder may move: their places are told
   from the picture, "../saes/up.0.1". */
static fct_status name_saes(fct_recipe *r, bool controls)
{
    for (int64_t i = 0; i < r->n_saes; i++) {
        fct_free(r->sae[i].path);
        FCT_TRY(fct_format(&r->sae[i].path, "../%s/%s", controls ? "controls" : "saes",
                           r->sae[i].block));
    }
    return FCT_OK;
}

static fct_status save(demo_hand *h, const demo_shot *shot, const fct_run_desc *desc,
                       const fct_edit *edits, fct_sae_set *saes, const fct_run_result *result)
{
    fct_status st = FCT_OK;
    fct_recipe recipe = {0};
    fct_image image = {0};
    char *path = NULL;
    FCT_TRY_OUT(fct_format(&path, "%s/pictures/%s.png", h->d->dir, shot->save));
    FCT_TRY_OUT(fct_recipe_of_run(&recipe, h->model, desc, edits, shot->n_edits, saes, 0));
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

fct_status demo_take(demo_hand *h, const demo_shot *shot, uint8_t **pixels)
{
    enum { MOST = 8 };
    fct_status st = FCT_OK;
    fct_edit edits[MOST] = {0};
    fct_run_result result = {0};
    fct_sae_set *saes = shot->controls ? &h->controls : &h->saes;
    fct_run_desc desc = {.items = &(fct_run_item){.prompt = shot->prompt, .seed = shot->seed},
                         .n_items = 1};
    if (pixels) *pixels = NULL;
    if (shot->n_edits > MOST) return fct_fail(FCT_ERR_ARG, "%lld edits", (long long)shot->n_edits);
    FCT_TRY(fct_log_check_stop(h->d->log));
    for (int64_t i = 0; i < shot->n_edits; i++)
        FCT_TRY_OUT(fct_edit_parse(&edits[i], shot->edit[i]));
    FCT_TRY_OUT(fct_edit_run(h->session, &desc, edits, shot->n_edits, saes, &result));
    if (shot->save) FCT_TRY_OUT(save(h, shot, &desc, edits, saes, &result));
    if (pixels) {
        *pixels = result.pixels;
        result.pixels = NULL;
    }
    h->runs++;
out:
    for (int64_t i = 0; i < shot->n_edits; i++) fct_edit_clear(&edits[i]);
    fct_run_result_clear(&result);
    return fct_where(st, "\"%s\", seed %llu", shot->prompt, (unsigned long long)shot->seed);
}

/* ---- clean pictures ---- */

void demo_want(demo_set *set, int64_t pair, bool save)
{
    demo_pair *p = &set->pair[pair];
    p->wanted |= !p->clean;
    p->wanted_saved |= save && !p->saved;
}

typedef struct wanted {
    demo_set *set;
    int64_t *pair;
} wanted;

static fct_status make_clean(demo_hand *h, void *self, int64_t i)
{
    const wanted *w = self;
    demo_pair *p = &w->set->pair[w->pair[i]];
    uint8_t *pixels = NULL;
    char name[64];
    snprintf(name, sizeof name, "%s-%lld", w->set->name, (long long)w->pair[i]);
    FCT_TRY(demo_take(
        h,
        &(demo_shot){.prompt = p->prompt, .seed = p->seed, .save = p->wanted_saved ? name : NULL},
        &pixels));
    fct_free(p->clean);
    p->clean = pixels;
    p->saved |= p->wanted_saved;
    p->wanted = p->wanted_saved = false;
    return demo_read(h, p->clean, &p->reading);
}

fct_status demo_make_wanted(demo *d, demo_set *set)
{
    int64_t n = 0;
    wanted w = {.set = set};
    FCT_TRY(fct_new(&w.pair, set->n, sizeof *w.pair));
    for (int64_t i = 0; i < set->n; i++)
        if (set->pair[i].wanted || set->pair[i].wanted_saved) w.pair[n++] = i;
    fct_status st = demo_share(d, "clean pictures", n, make_clean, &w);
    fct_free(w.pair);
    return st;
}

int64_t demo_pixels(const demo *d)
{
    return d->info->default_width * d->info->default_height * 3;
}

fct_status demo_read(demo_hand *h, const uint8_t *pixels, fct_reading *out)
{
    const fct_model_info *info = h->d->info;
    return fct_checker_read(h->checker, pixels, 1, info->default_width, info->default_height, out);
}

bool demo_guesses(const demo *d, const fct_reading *r, int64_t factor, int64_t value)
{
    return r->value[d->head[factor]] == value;
}

bool demo_reads(const demo *d, const fct_reading *r, int64_t factor, int64_t value)
{
    return r->readable && demo_guesses(d, r, factor, value);
}

const char *demo_word_text(const demo *d, int64_t factor, int64_t value)
{
    return factor < 0 ? "" : d->world.factor[factor].value[value].name;
}

void demo_map(const demo *d, const demo_block *b, int64_t feature, int64_t pair, float *map)
{
    (void)d;
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
 * one. */
static fct_status paint_at(demo_paint *out, const demo_block *b, int64_t feature, double push,
                           double x, double y)
{
    const double half = 0.2;
    x = fmin(1 - half / 2, fmax(half / 2, x));
    y = fmin(1 - half / 2, fmax(half / 2, y));
    char *text = out->text[out->n];
    snprintf(text, sizeof out->text[0], "%s:%lld +%.6g unit=one @box:%.3f,%.3f,%.3f,%.3f",
             b->info->short_name, (long long)feature, push, within(x - half), within(y - half),
             within(x + half), within(y + half));
    out->edit[out->n++] = text;
    return FCT_OK;
}

fct_status demo_paint_edits(demo_paint *out, const demo *d, const demo_pair *pair,
                            const demo_block *b, int64_t feature, double push, bool at_object)
{
    *out = (demo_paint){0};
    int64_t number = fct_checker_find(d->checker, "number");
    const fct_reading *r = &pair->reading;
    if (at_object && r->readable) {
        FCT_TRY(paint_at(out, b, feature, push, (double)r->point[0], (double)r->point[1]));
        if (number < 0 || r->value[number] != 1) return FCT_OK;
        return paint_at(out, b, feature, push, (double)r->point[2], (double)r->point[3]);
    }
    snprintf(out->text[0], sizeof out->text[0], "%s:%lld +%.6g unit=one", b->info->short_name,
             (long long)feature, push);
    out->edit[0] = out->text[0];
    out->n = 1;
    return FCT_OK;
}

fct_status demo_paint_card(demo_paint *out, const demo *d, const demo_pair *pair,
                           const demo_block *b, const demo_card *c)
{
    double push = c->strength * (double)b->sae->mean[c->feature];
    return demo_paint_edits(out, d, pair, b, c->feature, push, c->at_object);
}

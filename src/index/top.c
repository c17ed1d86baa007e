/* top.c - finds the strongest pictures of features over many prompts, in two scans. The first stops
   after the last block that is read and keeps only the best maps, so its memory does not grow with
   the prompts; the second makes the pictures that were kept. */
#include <inttypes.h>
#include <string.h>

#include "index/index.h"
#include "store/store.h"

/* ---- the first scan: ranks ---- */

/* A visitor. */
typedef struct ranking {
    fct_top *out;
    int64_t top;
    float **sum; /* [n_features][n]: maps of a batch's pictures, summed over the steps so far */
    int64_t *n;  /* [n_features] */
} ranking;

static bool is_of(const fct_top_feature *f, const char *block)
{
    return strcmp(f->feature.block->short_name, block) == 0;
}

static bool wants(const void *self, const char *block)
{
    const fct_top *t = ((const ranking *)self)->out;
    for (int64_t q = 0; q < t->n_features; q++)
        if (is_of(&t->feature[q], block)) return true;
    return false;
}

/* Keeps the example when it is among the best `top`; takes its map over or releases it. */
static void offer(fct_top_feature *t, int64_t top, fct_top_example e)
{
    int64_t at = t->n_examples;
    while (at > 0 && t->example[at - 1].map.mean < e.map.mean) at--;
    if (at >= top || e.map.max <= 0) {
        fct_free(e.map.map);
        return;
    }
    if (t->n_examples == top)
        fct_free(t->example[top - 1].map.map);
    else
        t->n_examples++;
    for (int64_t i = t->n_examples - 1; i > at; i--) t->example[i] = t->example[i - 1];
    t->example[at] = e;
}

/* The picture's map is whole: the mean over the steps. */
static fct_status offer_map(const ranking *r, int64_t q, const fct_scan_codes *c, const float *sum)
{
    fct_top_feature *f = &r->out->feature[q];
    int64_t cells = c->h * c->w;
    fct_top_example e = {.prompt = c->item->number,
                         .seed = c->item->seed,
                         .map = {.feature = f->feature.feature, .h = c->h, .w = c->w}};
    FCT_TRY(fct_new_raw(&e.map.map, cells, (int64_t)sizeof *e.map.map));
    for (int64_t p = 0; p < cells; p++) e.map.map[p] = sum[p] / (float)c->visits;
    fct_feature_map_measure(&e.map);
    offer(f, r->top, e);
    return FCT_OK;
}

static fct_status rank_codes(void *self, const fct_scan_codes *c)
{
    ranking *r = self;
    int64_t cells = c->h * c->w, end = (c->item->place + 1) * cells;
    for (int64_t q = 0; q < r->out->n_features; q++) {
        const fct_block_feature *f = &r->out->feature[q].feature;
        if (!is_of(&r->out->feature[q], c->block)) continue;
        if (r->n[q] < end) {
            FCT_TRY(fct_grow(&r->sum[q], r->n[q], end, (int64_t)sizeof **r->sum));
            r->n[q] = end;
        }
        float *sum = r->sum[q] + end - cells;
        if (c->visit == 1) memset(sum, 0, (size_t)cells * sizeof *sum);
        for (int64_t p = 0; p < cells; p++) sum[p] += fct_scan_code(c, p, f->feature);
        if (c->visit == c->visits) FCT_TRY(offer_map(r, q, c, sum));
    }
    return FCT_OK;
}

static fct_status rank(fct_top *out, fct_session *session, const fct_sae_set *saes,
                       const fct_top_desc *desc)
{
    fct_status st = FCT_OK;
    ranking r = {.out = out, .top = desc->top > 0 ? desc->top : 9};
    fct_scan_visitor visitor = {.self = &r, .wants = wants, .codes = rank_codes};
    fct_scan_desc scan = {.prompts = desc->prompts,
                          .n_prompts = desc->n_prompts,
                          .settings = desc->settings,
                          .batch = desc->batch,
                          .what = "prompts",
                          .log = desc->log};
    FCT_TRY_OUT(fct_new(&r.sum, out->n_features, (int64_t)sizeof *r.sum));
    FCT_TRY_OUT(fct_new(&r.n, out->n_features, (int64_t)sizeof *r.n));
    st = fct_scan_run(session, saes, &scan, &visitor, 1);
out:
    for (int64_t q = 0; r.sum && q < out->n_features; q++) fct_free(r.sum[q]);
    fct_free(r.sum);
    fct_free(r.n);
    return st;
}

/* ---- the second scan: pictures ---- */

static fct_status keep_picture(void *self, const fct_scan_picture *p)
{
    fct_top *out = self;
    for (int64_t q = 0; q < out->n_features; q++)
        for (int64_t k = 0; k < out->feature[q].n_examples; k++) {
            fct_top_example *e = &out->feature[q].example[k];
            if (e->prompt != p->item->number) continue;
            FCT_TRY(fct_new(&e->picture, 1, (int64_t)sizeof *e->picture));
            FCT_TRY(fct_new(&e->overlay, 1, (int64_t)sizeof *e->overlay));
            FCT_TRY(fct_scan_draw(e->picture, p));
            FCT_TRY(fct_draw_heat(e->overlay, e->picture, e->map.map, e->map.h, e->map.w, 0));
        }
    return FCT_OK;
}

static bool is_wanted(const fct_top *out, int64_t prompt)
{
    for (int64_t q = 0; q < out->n_features; q++)
        for (int64_t k = 0; k < out->feature[q].n_examples; k++)
            if (out->feature[q].example[k].prompt == prompt) return true;
    return false;
}

static fct_status draw(fct_top *out, fct_session *session, const fct_top_desc *desc)
{
    int64_t *pick = NULL, n = 0;
    FCT_TRY(fct_new(&pick, desc->n_prompts, (int64_t)sizeof *pick));
    for (int64_t i = 0; i < desc->n_prompts; i++)
        if (is_wanted(out, i)) pick[n++] = i;
    fct_status st = fct_scan_run(session, NULL,
                                 &(fct_scan_desc){.prompts = desc->prompts,
                                                  .n_prompts = desc->n_prompts,
                                                  .pick = pick,
                                                  .n_pick = n,
                                                  .settings = desc->settings,
                                                  .batch = desc->batch,
                                                  .log = desc->log},
                                 &(fct_scan_visitor){.self = out, .picture = keep_picture}, 1);
    fct_free(pick);
    return st;
}

/* ---- both ---- */

static fct_status check_prompts(const fct_top_desc *desc)
{
    if (desc->n_prompts < 1) return fct_fail(FCT_ERR_ARG, "there are no prompts to look through");
    for (int64_t i = 0; i < desc->n_prompts; i++)
        if (fct_prompt_seed(desc->prompts, i, desc->settings) > INT64_MAX)
            return fct_fail(FCT_ERR_ARG, "the seed of prompt %" PRId64 " is beyond %" PRId64, i,
                            INT64_MAX);
    return FCT_OK;
}

static fct_status open_feature(fct_top_feature *out, const fct_block_feature *f,
                               const fct_sae_set *saes, int64_t top)
{
    const fct_sae *sae = fct_sae_set_find(saes, f->block->name);
    out->feature = *f;
    if (!sae || f->feature < 0 || f->feature >= sae->f)
        return fct_fail(FCT_ERR_MISSING, "%s:%" PRId64 " is no feature of the SAEs that are given",
                        f->block->short_name, f->feature);
    return fct_new(&out->example, top, (int64_t)sizeof *out->example);
}

fct_status fct_top_run(fct_top *out, fct_session *session, const fct_sae_set *saes,
                       const fct_top_desc *desc)
{
    int64_t top = desc->top > 0 ? desc->top : 9;
    fct_status st = FCT_OK;
    *out = (fct_top){0};
    FCT_TRY(check_prompts(desc));
    FCT_TRY(fct_new(&out->feature, desc->n_features, (int64_t)sizeof *out->feature));
    for (int64_t q = 0; q < desc->n_features; q++) {
        out->n_features = q + 1;
        FCT_TRY_OUT(open_feature(&out->feature[q], &desc->feature[q], saes, top));
    }
    FCT_TRY_OUT(rank(out, session, saes, desc));
    if (!desc->no_pictures) FCT_TRY_OUT(draw(out, session, desc));
out:
    if (st != FCT_OK) fct_top_clear(out);
    return st;
}

void fct_top_clear(fct_top *t)
{
    for (int64_t q = 0; q < t->n_features; q++) {
        for (int64_t k = 0; k < t->feature[q].n_examples; k++) {
            fct_free(t->feature[q].example[k].map.map);
            fct_images_free(t->feature[q].example[k].picture, 1);
            fct_images_free(t->feature[q].example[k].overlay, 1);
        }
        fct_free(t->feature[q].example);
    }
    fct_free(t->feature);
    *t = (fct_top){0};
}

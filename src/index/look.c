/* look.c - finds the strongest features of one picture, block by block. */
#include <stdlib.h>
#include <string.h>

#include "index/index.h"

typedef struct ranked {
    int64_t feature;
    double sum;
} ranked;

static int strongest_first(const void *pa, const void *pb)
{
    const ranked *a = pa, *b = pb;
    if (a->sum != b->sum) return a->sum > b->sum ? -1 : 1;
    return a->feature < b->feature ? -1 : a->feature > b->feature;
}

static fct_status rank_block(fct_look_block *out, const fct_maps *m, int64_t top)
{
    ranked *all = NULL;
    int64_t f_count = m->sae->f, cells = m->h * m->w, n = 0;
    FCT_TRY(fct_new(&all, f_count, (int64_t)sizeof *all));
    for (int64_t f = 0; f < f_count; f++) {
        double sum = 0;
        for (int64_t p = 0; p < cells; p++) sum += m->sum[f * cells + p];
        if (sum > 0) all[n++] = (ranked){f, sum};
    }
    if (n > 0) qsort(all, (size_t)n, sizeof *all, strongest_first);
    if (n > top) n = top;
    out->block = m->block;
    fct_status st = fct_new(&out->feature, n, (int64_t)sizeof *out->feature);
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        st = fct_maps_feature(&out->feature[i], m, all[i].feature);
        if (st == FCT_OK) out->n_features = i + 1;
    }
    fct_free(all);
    return st;
}

static fct_status draw_block(fct_look_block *b, const fct_image *picture)
{
    FCT_TRY(fct_new(&b->overlay, b->n_features, (int64_t)sizeof *b->overlay));
    for (int64_t i = 0; i < b->n_features; i++)
        FCT_TRY(fct_draw_heat(&b->overlay[i], picture, b->feature[i].map, b->feature[i].h,
                              b->feature[i].w, 0));
    return FCT_OK;
}

fct_status fct_look_run(fct_look *out, fct_session *session, fct_sae_set *saes,
                        const fct_look_desc *desc)
{
    fct_maps *maps = NULL;
    fct_status st = FCT_OK;
    *out = (fct_look){0};
    FCT_TRY(fct_new(&maps, saes->n, (int64_t)sizeof *maps));
    FCT_TRY_OUT(fct_new(&out->picture, 1, (int64_t)sizeof *out->picture));
    FCT_TRY_OUT(fct_maps_run(maps, session, saes, desc->recipe, desc->step, out->picture));
    FCT_TRY_OUT(fct_new(&out->block, saes->n, (int64_t)sizeof *out->block));
    for (int64_t i = 0; i < saes->n; i++) {
        out->n_blocks = i + 1;
        FCT_TRY_OUT(fct_log_check_stop(desc->log));
        FCT_TRY_OUT(rank_block(&out->block[i], &maps[i], desc->top > 0 ? desc->top : 10));
        if (desc->overlays) FCT_TRY_OUT(draw_block(&out->block[i], out->picture));
    }
out:
    for (int64_t i = 0; i < saes->n; i++) fct_maps_clear(&maps[i]);
    fct_free(maps);
    if (st != FCT_OK) fct_look_clear(out);
    return st;
}

void fct_look_clear(fct_look *l)
{
    for (int64_t b = 0; b < l->n_blocks; b++) {
        for (int64_t i = 0; i < l->block[b].n_features; i++) fct_free(l->block[b].feature[i].map);
        fct_images_free(l->block[b].overlay, l->block[b].n_features);
        fct_free(l->block[b].feature);
    }
    fct_free(l->block);
    fct_images_free(l->picture, 1);
    *l = (fct_look){0};
}

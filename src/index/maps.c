/* maps.c - sums the activation maps of all features of one picture, as a visitor of a scan. */
#include "index/index.h"

/* A visitor. */
typedef struct summing {
    fct_maps *maps; /* one for each SAE of the set */
    fct_image *picture;
} summing;

static fct_status add_codes(void *self, const fct_scan_codes *c)
{
    fct_maps *m = &((summing *)self)->maps[c->nth];
    int64_t cells = c->h * c->w;
    if (!m->sum) {
        int64_t count;
        FCT_TRY(fct_mul_i64(&count, c->sae->f, cells));
        FCT_TRY(fct_new(&m->sum, count, (int64_t)sizeof *m->sum));
        m->h = c->h;
        m->w = c->w;
    }
    m->steps++;
    for (int64_t p = 0; p < cells; p++)
        for (int64_t i = 0; i < c->k; i++) {
            int64_t f = c->index ? c->index[p * c->k + i] : i;
            m->sum[f * cells + p] += c->value[p * c->k + i];
        }
    return FCT_OK;
}

static fct_status keep_picture(void *self, const fct_scan_picture *p)
{
    return fct_scan_draw(((summing *)self)->picture, p);
}

void fct_maps_clear(fct_maps *m)
{
    fct_free(m->sum);
    *m = (fct_maps){0};
}

fct_status fct_maps_run(fct_maps *maps, fct_session *session, const fct_sae_set *saes,
                        const fct_recipe *recipe, int64_t step, fct_image *picture)
{
    const fct_model_info *info = fct_model_get_info(fct_session_model(session));
    summing all = {maps, picture};
    fct_scan_visitor visitor = {
        .self = &all, .codes = add_codes, .picture = picture ? keep_picture : NULL};
    for (int64_t i = 0; i < saes->n; i++) {
        maps[i].sae = saes->bound[i].sae;
        FCT_TRY(fct_sae_bound_block(&maps[i].block, &saes->bound[i], info));
    }
    FCT_TRY(
        fct_scan_run(session, saes, &(fct_scan_desc){.recipe = recipe, .step = step}, &visitor, 1));
    for (int64_t i = 0; i < saes->n; i++)
        if (!maps[i].sum)
            return fct_fail(FCT_ERR_INTERNAL, "the run did not pass block %s",
                            maps[i].block->short_name);
    return FCT_OK;
}

fct_status fct_maps_feature(fct_feature_map *out, const fct_maps *m, int64_t f)
{
    int64_t cells = m->h * m->w;
    *out = (fct_feature_map){.feature = f, .h = m->h, .w = m->w};
    FCT_TRY(fct_new_raw(&out->map, cells, (int64_t)sizeof *out->map));
    for (int64_t p = 0; p < cells; p++) out->map[p] = m->sum[f * cells + p] / (float)m->steps;
    fct_feature_map_measure(out);
    return FCT_OK;
}

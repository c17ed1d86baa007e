/* maps.c - makes activation maps of all features of one picture, kept by taps while its recipe runs
   again. */
#include <inttypes.h>
#include <string.h>

#include "index/index.h"
#include "model/model.h"

static fct_status add_codes(fct_maps *m, const fct_backend *be, const float *rows, int64_t cells)
{
    fct_codes codes;
    FCT_TRY(fct_codes_of_rows(&codes, m->sae, be, rows, cells));
    int64_t per_row = codes.index ? codes.k : codes.f;
    for (int64_t p = 0; p < cells; p++)
        for (int64_t i = 0; i < per_row; i++) {
            int64_t f = codes.index ? codes.index[p * per_row + i] : i;
            m->sum[f * cells + p] += codes.value[p * per_row + i];
        }
    fct_codes_clear(&codes);
    return FCT_OK;
}

fct_status fct_maps_tap(void *user, const fct_tap_event *event, fct_tensor *value)
{
    fct_maps *m = user;
    float *rows;
    int64_t cells;
    if (m->step > 0 && event->step != m->step) return FCT_OK;
    FCT_TRY(fct_tap_rows(&rows, &cells, event, value, m->item, FCT_HALF_COND));
    if (cells == 0) return FCT_OK;
    if (!m->sum) {
        int64_t count;
        FCT_TRY(fct_mul_i64(&count, m->sae->f, cells));
        FCT_TRY(fct_new(&m->sum, count, (int64_t)sizeof *m->sum));
        m->h = value->dim[1];
        m->w = value->dim[2];
    }
    m->steps++;
    return fct_where(add_codes(m, fct_tap_backend(event), rows, cells), "codes of %s",
                     m->block->short_name);
}

void fct_maps_clear(fct_maps *m)
{
    fct_free(m->sum);
    *m = (fct_maps){0};
}

fct_status fct_maps_run(fct_maps *maps, fct_session *session, const fct_sae_set *saes,
                        const fct_recipe *recipe, int64_t step, bool no_decode,
                        fct_run_result *result)
{
    const fct_model_info *info = fct_model_get_info(fct_session_model(session));
    fct_recipe copy;
    fct_run_desc d;
    fct_tap *taps = NULL;
    *result = (fct_run_result){0};
    if (saes->n == 0)
        return fct_fail(FCT_ERR_ARG, "there are no SAEs to look with; give one with --sae");
    FCT_TRY(fct_recipe_copy(&copy, recipe)); /* running an edit may read files into it */
    fct_recipe_desc(&copy, &d);
    fct_status st = FCT_OK;
    int64_t last = fct_model_count_steps(info, copy.settings.steps);
    if (step > last) {
        st = fct_fail(FCT_ERR_ARG, "step %" PRId64 " is not there: the recipe has %" PRId64, step,
                      last);
        goto out;
    }
    FCT_TRY_OUT(fct_new(&taps, saes->n, (int64_t)sizeof *taps));
    for (int64_t i = 0; i < saes->n; i++) {
        const fct_block_info *block;
        FCT_TRY_OUT(fct_sae_bound_block(&block, &saes->bound[i], info));
        maps[i] = (fct_maps){
            .block = block, .sae = saes->bound[i].sae, .item = copy.index, .step = step};
        taps[i] = (fct_tap){.module = maps[i].block->name,
                            .what = FCT_TAP_DELTA,
                            .user = &maps[i],
                            .fn = fct_maps_tap};
    }
    d.taps = taps;
    d.n_taps = saes->n;
    d.no_decode = d.stop_after_taps = no_decode;
    d.stop_step = no_decode ? step : 0;
    FCT_TRY_OUT(fct_edit_run(session, &d, copy.edit, copy.n_edits, saes, result));
    for (int64_t i = 0; i < saes->n && st == FCT_OK; i++)
        if (!maps[i].sum)
            st = fct_fail(FCT_ERR_INTERNAL, "the run did not pass block %s",
                          maps[i].block->short_name);
out:
    fct_free(taps);
    fct_recipe_clear(&copy);
    if (st != FCT_OK) fct_run_result_clear(result);
    return st;
}

void fct_feature_map_measure(fct_feature_map *f)
{
    double sum = 0;
    int64_t active = 0, cells = f->h * f->w;
    f->max = 0;
    for (int64_t p = 0; p < cells; p++) {
        sum += f->map[p];
        active += f->map[p] > 0;
        if (f->map[p] > f->max) f->max = f->map[p];
    }
    f->mean = (float)(sum / (double)cells);
    f->share = (float)active / (float)cells;
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

fct_status fct_draw_result(fct_image *out, const fct_run_result *r, int64_t i)
{
    *out = (fct_image){0};
    if (!r->pixels || i < 0 || i >= r->n)
        return fct_fail(FCT_ERR_ARG, "the run made no picture %" PRId64, i);
    return fct_draw_pixels(out, r->pixels + i * r->width * r->height * 3, r->width, r->height);
}

fct_status fct_draw_stamped(fct_image *out, const fct_run_result *r, int64_t i,
                            const fct_stamp *stamp)
{
    fct_recipe recipe = {0};
    FCT_TRY(fct_draw_result(out, r, i));
    FCT_TRY(fct_recipe_of_run(&recipe, stamp->session, stamp->desc, stamp->edit, stamp->n_edits,
                              stamp->saes, i));
    fct_status st = fct_recipe_stamp(&recipe, out);
    fct_recipe_clear(&recipe);
    return st;
}

fct_status fct_feature_split(char **block, int64_t *feature, const char *text)
{
    const char *colon = strrchr(text, ':');
    char *copy = NULL;
    if (block) *block = NULL;
    *feature = 0;
    if (!colon || colon == text)
        return fct_fail(FCT_ERR_ARG, "\"%s\" is not BLOCK:FEATURE, as in up.0.1:12", text);
    FCT_TRY(fct_where(fct_parse_i64(feature, colon + 1, 0, FCT_EDIT_MAX_FEATURE), "feature \"%s\"",
                      text));
    if (!block) return FCT_OK;
    FCT_TRY(fct_strdup(&copy, text));
    copy[colon - text] = '\0';
    *block = copy;
    return FCT_OK;
}

fct_status fct_feature_parse(fct_block_feature *out, const fct_model *m, const fct_sae_set *saes,
                             const char *text)
{
    char *block = NULL;
    *out = (fct_block_feature){0};
    FCT_TRY(fct_feature_split(&block, &out->feature, text));
    fct_status st = fct_block_find(&out->block, fct_model_get_info(m), block);
    fct_free(block);
    FCT_TRY(fct_where(st, "feature \"%s\"", text));
    const char *name = out->block->short_name;
    const fct_sae *sae = saes ? fct_sae_set_find(saes, out->block->name) : NULL;
    if (!sae)
        return fct_fail(FCT_ERR_MISSING,
                        "feature \"%s\": block %s has no SAE; give one with --sae %s=DIR", text,
                        name, name);
    if (out->feature >= sae->f)
        return fct_fail(FCT_ERR_MISSING,
                        "there is no feature %" PRId64 ": the SAE of %s has features 0 to %" PRId64,
                        out->feature, name, sae->f - 1);
    return FCT_OK;
}

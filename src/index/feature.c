/* feature.c - reads features by name ("up.0.1:12"), and measures their activation maps. */
#include <inttypes.h>
#include <string.h>

#include "index/index.h"

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

/* facet_json.c - facet.json, beside an SAE in either layout: what the layouts have no word for. The
   block and the model under their own names, and the text of how the SAE was made, which is kept
   through loading, saving and converting. */
#include <string.h>

#include "sae/sae.h"

static const char file_name[] = "facet.json";

static fct_status add_members(json_t *j, const char *text, const char *name)
{
    json_t *more = NULL;
    if (!text) return FCT_OK;
    FCT_TRY(fct_json_parse(&more, text, (int64_t)strlen(text), name));
    fct_status st = FCT_OK;
    if (!json_is_object(more))
        st = fct_fail(FCT_ERR_ARG, "%s: want the text of a JSON object", name);
    else if (json_object_update(j, more) != 0)
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
    json_decref(more);
    return st;
}

static fct_status put_text(json_t *j, const char *key, const char *text)
{
    if (!text || json_object_set_new(j, key, json_string(text)) == 0) return FCT_OK;
    return fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
}

fct_status fct_sae_write_facet(const fct_sae *s, const char *more, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *j = json_pack("{s:s, s:s?, s:s?}", "facet_version", fct_version(), "block", s->block,
                          "model", s->model);
    if (!j) return fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
    FCT_TRY_OUT(add_members(j, s->facet_json, "the SAE's facet.json"));
    FCT_TRY_OUT(put_text(j, "block", s->block)); /* it may have been named since */
    FCT_TRY_OUT(put_text(j, "model", s->model));
    FCT_TRY_OUT(add_members(j, more, "facet.json"));
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    FCT_TRY_OUT(fct_json_write(j, path));
out:
    json_decref(j);
    fct_free(path);
    return st;
}

fct_status fct_sae_read_facet(fct_sae *s, const char *dir, const char *block, const char *model)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *j = NULL;
    fct_str text = {0};
    if (fct_sae_dir_has(dir, file_name)) {
        FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
        FCT_TRY_OUT(fct_json_read(&j, path));
        FCT_TRY_OUT(fct_json_str(&block, j, "block", block, path));
        FCT_TRY_OUT(fct_json_str(&model, j, "model", model, path));
        FCT_TRY_OUT(fct_json_text(&text, j, 0));
        FCT_TRY_OUT(fct_strdup(&s->facet_json, text.p));
    }
    FCT_TRY_OUT(fct_strdup(&s->model, model));
    if (block) FCT_TRY_OUT(fct_sae_block_short(&s->block, block));
out:
    json_decref(j);
    fct_str_clear(&text);
    fct_free(path);
    return st;
}

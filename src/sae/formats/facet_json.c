/* facet_json.c - reads and writes facet.json, beside an SAE in any format: what the layouts have no
   word for. The block (of a crosscoder the blocks) and the model under their own names, what a
   BatchTopK SAE is beyond its threshold, and the text of how the SAE was made, which is kept
   through loading, saving and converting. */
#include <string.h>

#include "sae/formats/formats.h"

fct_status fct_sae_write_json(json_t *j, const char *dir, const char *name)
{
    char *path = NULL;
    fct_status st =
        j ? fct_path_join(&path, dir, name) : fct_fail(FCT_ERR_MEMORY, "out of memory: %s", name);
    if (st == FCT_OK) st = fct_json_write(j, path);
    json_decref(j);
    fct_free(path);
    return st;
}

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

/* Formats that hold a BatchTopK SAE as a JumpReLU one have no word for its k and its groups. */
static fct_status put_kind(json_t *j, const fct_sae *s)
{
    static const char *const key[] = {"architecture", "k", "group_sizes"};
    for (size_t i = 0; i < FCT_COUNT(key); i++) json_object_del(j, key[i]);
    if (s->kind != FCT_SAE_BATCHTOPK) return FCT_OK;
    json_t *sizes = json_array();
    bool ok = sizes != NULL;
    for (int64_t i = 0; i < s->n_groups; i++)
        ok = json_array_append_new(sizes, json_integer(s->group_size[i])) == 0 && ok;
    ok = json_object_set_new(j, key[0], json_string(fct_sae_kind_name(s->kind))) == 0 && ok;
    ok = json_object_set_new(j, key[1], json_integer(s->k)) == 0 && ok;
    ok = json_object_set_new(j, key[2], sizes) == 0 && ok;
    return ok ? FCT_OK : fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
}

/* The blocks of a crosscoder, which no layout but dictionary_learning's has a word for. */
static fct_status put_blocks(json_t *j, const fct_sae *s)
{
    json_object_del(j, "blocks");
    if (s->n_blocks == 0) return FCT_OK;
    json_t *list = json_array();
    bool ok = list != NULL;
    for (int64_t i = 0; i < s->n_blocks; i++)
        ok = json_array_append_new(list, json_pack("{s:s, s:I, s:f}", "name", s->blocks[i].name,
                                                   "d", (json_int_t)s->blocks[i].d, "scale",
                                                   (double)s->blocks[i].scale)) == 0 &&
             ok;
    ok = json_object_set_new(j, "blocks", list) == 0 && ok;
    return ok ? FCT_OK : fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
}

static fct_status read_blocks(fct_sae *s, const json_t *j, const char *path)
{
    const json_t *list = json_object_get(j, "blocks"), *one;
    fct_sae_block block[FCT_SAE_MAX_BLOCKS];
    size_t i;
    if (!list) return FCT_OK;
    if (json_array_size(list) < 2 || json_array_size(list) > FCT_SAE_MAX_BLOCKS)
        return fct_fail(FCT_ERR_FORMAT, "%s: blocks: want a list of 2 to %d", path,
                        FCT_SAE_MAX_BLOCKS);
    json_array_foreach(list, i, one)
    {
        const char *name;
        double scale;
        FCT_TRY(fct_json_str(&name, one, "name", NULL, path));
        FCT_TRY(fct_json_i64(&block[i].d, one, "d", 0, path));
        FCT_TRY(fct_json_f64(&scale, one, "scale", 1, path));
        block[i].name = (char *)(uintptr_t)name;
        block[i].scale = (float)scale;
    }
    return fct_where(fct_sae_set_blocks(s, block, (int64_t)i), "%s", path);
}

static bool one_threshold(const fct_sae *s)
{
    for (int64_t f = 1; f < s->f; f++)
        if (s->threshold[f] != s->threshold[0]) return false;
    return true;
}

static fct_status read_kind(fct_sae *s, const json_t *j, const char *path)
{
    const char *name;
    FCT_TRY(fct_json_str(&name, j, "architecture", "", path));
    if (strcmp(name, fct_sae_kind_name(FCT_SAE_BATCHTOPK)) != 0) return FCT_OK;
    if (s->kind == FCT_SAE_JUMPRELU && one_threshold(s)) s->kind = FCT_SAE_BATCHTOPK;
    if (s->kind != FCT_SAE_BATCHTOPK) return FCT_OK;
    int64_t k = s->k;
    FCT_TRY(fct_json_i64(&k, j, "k", s->k, path));
    if (k < 0 || k > s->f)
        return fct_fail(FCT_ERR_RANGE, "%s: k is %lld, want 0 to %lld", path, (long long)k,
                        (long long)s->f);
    s->k = k;
    const json_t *sizes = json_object_get(j, "group_sizes");
    int64_t n = (int64_t)json_array_size(sizes), *size = NULL;
    if (n == 0 || s->n_groups > 0) return FCT_OK;
    FCT_TRY(fct_new(&size, n, sizeof *size));
    for (int64_t i = 0; i < n; i++) size[i] = json_integer_value(json_array_get(sizes, (size_t)i));
    fct_status st = fct_sae_check_groups(size, n, s->f);
    if (st == FCT_OK) st = fct_sae_set_groups(s, size, n);
    fct_free(size);
    return fct_where(st, "%s", path);
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
    FCT_TRY_OUT(put_kind(j, s));
    FCT_TRY_OUT(put_blocks(j, s));
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
    if (fct_dir_has(dir, file_name)) {
        FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
        FCT_TRY_OUT(fct_json_read(&j, path));
        FCT_TRY_OUT(fct_json_str(&block, j, "block", block, path));
        FCT_TRY_OUT(fct_json_str(&model, j, "model", model, path));
        FCT_TRY_OUT(read_kind(s, j, path));
        FCT_TRY_OUT(read_blocks(s, j, path));
        FCT_TRY_OUT(fct_json_text(&text, j, 0));
        FCT_TRY_OUT(fct_strdup(&s->facet_json, text.p));
    }
    FCT_TRY_OUT(fct_strdup(&s->model, model));
    if (block && s->n_blocks == 0) FCT_TRY_OUT(fct_block_name_short(&s->block, block));
out:
    json_decref(j);
    fct_str_clear(&text);
    fct_free(path);
    return st;
}

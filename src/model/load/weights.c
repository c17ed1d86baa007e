/* weights.c - opens the safetensors files of one component of a diffusers folder: a single file,
   shards listed in an index, or the `.fp16` variant of either when that is all there is. */
#include <stdio.h>
#include <string.h>

#include "model/load/load.h"

static fct_status add_shard(fct_weights *w, const char *file)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, w->folder, file));
    fct_status st = fct_grow(&w->shard, w->n, w->n + 1, sizeof *w->shard);
    if (st == FCT_OK) st = fct_safetensors_open(&w->shard[w->n], path);
    if (st == FCT_OK) w->n++;
    fct_free(path);
    return st;
}

/* Files named by the index, each once. */
static fct_status open_index(fct_weights *w, const char *path)
{
    json_t *root = NULL;
    FCT_TRY(fct_json_read(&root, path));
    json_t *map = json_object_get(root, "weight_map");
    fct_status st = FCT_OK;
    const char *key;
    json_t *value, *seen = json_object();
    if (!seen) st = fct_fail(FCT_ERR_MEMORY, "out of memory");
    if (st == FCT_OK && !json_is_object(map))
        st = fct_fail(FCT_ERR_FORMAT, "%s: no \"weight_map\" object", path);
    if (st == FCT_OK) json_object_foreach(map, key, value)
        {
            const char *file = json_string_value(value);
            if (!file || strchr(file, '/')) {
                st = fct_fail(FCT_ERR_FORMAT,
                              "%s: weight_map.%s does not name a file of this folder", path, key);
                break;
            }
            if (json_object_get(seen, file)) continue;
            st = fct_where(add_shard(w, file), "%s", path);
            if (st == FCT_OK && json_object_set_new(seen, file, json_true()))
                st = fct_fail(FCT_ERR_MEMORY, "out of memory");
            if (st != FCT_OK) break;
        }
    if (st == FCT_OK && w->n == 0)
        st = fct_fail(FCT_ERR_FORMAT, "%s: \"weight_map\" is empty", path);
    json_decref(seen);
    json_decref(root);
    return st;
}

fct_status fct_weights_open(fct_weights *out, const char *folder, const char *stem)
{
    static const struct {
        const char *format;
        bool index;
    } candidate[] = {{"%s.safetensors", false},
                     {"%s.safetensors.index.json", true},
                     {"%s.fp16.safetensors", false},
                     {"%s.safetensors.index.fp16.json", true},
                     {"%s.fp16.safetensors.index.json", true}};
    fct_status st = FCT_OK;
    bool found = false;
    *out = (fct_weights){0};
    FCT_TRY(fct_strdup(&out->folder, folder));
    for (size_t i = 0; i < FCT_COUNT(candidate) && !found && st == FCT_OK; i++) {
        const char *dot = strchr(candidate[i].format, '.');
        char *file = NULL, *path = NULL;
        st = fct_format(&file, "%s%s", stem, dot);
        if (st == FCT_OK) st = fct_path_join(&path, folder, file);
        if (st == FCT_OK && fct_path_exists(path)) {
            found = true;
            st = candidate[i].index ? open_index(out, path) : add_shard(out, file);
        }
        fct_free(path);
        fct_free(file);
    }
    if (st == FCT_OK && !found)
        st = fct_fail(FCT_ERR_MISSING,
                      "%s: no weights; want %s.safetensors, its .fp16 variant, or shards with "
                      "%s.safetensors.index.json",
                      folder, stem, stem);
    if (st != FCT_OK) fct_weights_close(out);
    return st;
}

void fct_weights_close(fct_weights *w)
{
    for (int64_t i = 0; i < w->n; i++) fct_safetensors_close(&w->shard[i]);
    fct_free(w->shard);
    fct_free(w->folder);
    *w = (fct_weights){0};
}

const fct_tensor *fct_weights_find(const fct_weights *w, const char *name)
{
    for (int64_t i = 0; i < w->n; i++) {
        const fct_tensor *t = fct_safetensors_find(&w->shard[i], name);
        if (t) return t;
    }
    return NULL;
}

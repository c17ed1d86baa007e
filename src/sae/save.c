/* save.c - writes the SAELens layout with facet's additions, and puts finished folders in place.
   The weights' file holds nothing that depends on when or how it was made, so equal weights are
   equal bytes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sae/sae.h"

/* ---- a folder, whole or not at all ---- */

static void remove_dir(const char *dir) /* files only: what fill made; best effort */
{
    char **name = NULL;
    int64_t n = 0;
    if (fct_dir_list(&name, &n, dir) == FCT_OK)
        for (int64_t i = 0; i < n; i++) {
            char *path = NULL;
            if (fct_path_join(&path, dir, name[i]) == FCT_OK) unlink(path);
            fct_free(path);
        }
    fct_names_free(name, n);
    rmdir(dir);
}

static fct_status move_file(const char *from_dir, const char *to_dir, const char *name)
{
    char *from = NULL, *to = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_path_join(&from, from_dir, name));
    FCT_TRY_OUT(fct_path_join(&to, to_dir, name));
    if (rename(from, to) != 0) st = fct_fail(FCT_ERR_IO, "write %s: %s", to, strerror(errno));
out:
    fct_free(from);
    fct_free(to);
    return st;
}

/* Into a folder that is there: without its key it is no SAE until all the rest is in place. Files
 * of others stay. */
static fct_status move_into(const char *temp, const char *dir, const char *key)
{
    char **name = NULL, *old = NULL;
    int64_t n = 0;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_path_join(&old, dir, key));
    FCT_TRY_OUT(fct_dir_list(&name, &n, temp));
    FCT_TRY_OUT(fct_file_remove(old));
    for (int64_t i = 0; i < n; i++)
        if (strcmp(name[i], key) != 0) FCT_TRY_OUT(move_file(temp, dir, name[i]));
    FCT_TRY_OUT(move_file(temp, dir, key));
out:
    fct_names_free(name, n);
    fct_free(old);
    return st;
}

static fct_status strip_slashes(char **out, const char *dir)
{
    FCT_TRY(fct_strdup(out, dir));
    for (size_t n = strlen(*out); n > 1 && (*out)[n - 1] == '/'; n--) (*out)[n - 1] = '\0';
    return FCT_OK;
}

static fct_status make_parent(const char *target)
{
    char *parent = NULL;
    fct_status st = FCT_OK;
    FCT_TRY(fct_strdup(&parent, target));
    char *slash = strrchr(parent, '/');
    if (slash && slash > parent) {
        *slash = '\0';
        st = fct_dir_make(parent);
    }
    fct_free(parent);
    return st;
}

fct_status fct_sae_put_dir(const char *dir, const char *key,
                           fct_status (*fill)(void *user, const char *temp), void *user)
{
    fct_status st = FCT_OK;
    char *temp = NULL, *target = NULL;
    bool made = false;
    FCT_TRY_OUT(strip_slashes(&target, dir));
    if (fct_path_exists(target) && !fct_path_is_dir(target)) {
        st = fct_fail(FCT_ERR_ARG, "%s is a file, want the name of a folder", target);
        goto out;
    }
    FCT_TRY_OUT(fct_format(&temp, "%s.tmp-%ld", target, (long)getpid()));
    FCT_TRY_OUT(make_parent(target));
    remove_dir(temp);
    made = true;
    FCT_TRY_OUT(fct_dir_make(temp));
    FCT_TRY_OUT(fill(user, temp));
    if (fct_path_is_dir(target) && rmdir(target) != 0) {
        FCT_TRY_OUT(move_into(temp, target, key));
    } else if (rename(temp, target) != 0) {
        st = fct_fail(FCT_ERR_IO, "write %s: %s", target, strerror(errno));
        goto out;
    }
out:
    if (made) remove_dir(temp);
    fct_free(temp);
    fct_free(target);
    return st;
}

/* ---- SAELens layout ---- */

typedef struct saving {
    const fct_sae *s;
    const char *facet_json;
} saving;

static fct_status write_json(json_t *j, const char *dir, const char *name) /* takes j */
{
    char *path = NULL;
    fct_status st =
        j ? fct_path_join(&path, dir, name) : fct_fail(FCT_ERR_MEMORY, "out of memory: %s", name);
    if (st == FCT_OK) st = fct_json_write(j, path);
    json_decref(j);
    fct_free(path);
    return st;
}

static fct_status write_config(const fct_sae *s, const char *dir)
{
    char *hook = NULL;
    fct_status st = fct_sae_block_full(&hook, s->block);
    if (st != FCT_OK) return st;
    bool topk = s->kind == FCT_SAE_TOPK;
    json_t *meta = json_pack("{s:s?, s:s?, s:n, s:n, s:b, s:n, s:{}}", "model_name", s->model,
                             "hook_name", hook, "hook_head_index", "context_size", "prepend_bos", 0,
                             "dataset_path", "model_from_pretrained_kwargs");
    json_t *j = json_pack(
        "{s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s, s:o?}", "architecture",
        topk ? "topk" : "standard", "d_in", (json_int_t)s->d, "d_sae", (json_int_t)s->f, "dtype",
        "float32", "device", "cpu", "apply_b_dec_to_input", (int)s->apply_b_dec_to_input,
        "normalize_activations", "none", "reshape_activations", "none", "metadata", meta);
    fct_free(hook);
    if (j && topk &&
        (json_object_set_new(j, "k", json_integer(s->k)) != 0 ||
         json_object_set_new(j, "rescale_acts_by_decoder_norm", json_false()) != 0)) {
        json_decref(j);
        j = NULL;
    }
    return write_json(j, dir, "cfg.json");
}

static fct_status write_weights(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    float *w = NULL;
    char name[4][8] = {"W_enc", "b_enc", "W_dec", "b_dec"};
    FCT_TRY_OUT(fct_new_raw(&w, s->d * s->f, sizeof *w));
    for (int64_t f = 0; f < s->f; f++)
        for (int64_t i = 0; i < s->d; i++) w[i * s->f + f] = s->w_enc[f * s->d + i];
    const fct_st_entry entry[4] = {
        {name[0], fct_tensor_of(w, FCT_F32, 2, (int64_t[]){s->d, s->f})},
        {name[1], fct_tensor_of(s->b_enc, FCT_F32, 1, &s->f)},
        {name[2], fct_tensor_of(s->w_dec, FCT_F32, 2, (int64_t[]){s->f, s->d})},
        {name[3], fct_tensor_of(s->b_dec, FCT_F32, 1, &s->d)},
    };
    FCT_TRY_OUT(fct_path_join(&path, dir, "sae_weights.safetensors"));
    FCT_TRY_OUT(fct_st_write(path, entry, 4, NULL));
out:
    fct_free(path);
    fct_free(w);
    return st;
}

static fct_status write_stats(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    char name[4][8] = {"density", "mean", "std", "max"};
    float *const part[4] = {s->density, s->mean, s->std, s->max};
    fct_st_entry entry[4];
    if (!s->has_stats || !s->density || !s->mean || !s->std || !s->max) return FCT_OK;
    for (int i = 0; i < 4; i++)
        entry[i] = (fct_st_entry){name[i], fct_tensor_of(part[i], FCT_F32, 1, &s->f)};
    FCT_TRY_OUT(fct_path_join(&path, dir, "stats.safetensors"));
    FCT_TRY_OUT(fct_st_write(path, entry, 4, NULL));
out:
    fct_free(path);
    return st;
}

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

static fct_status write_facet(const saving *v, const char *dir)
{
    json_t *j = json_pack("{s:s, s:s?, s:s?}", "facet_version", fct_version(), "block", v->s->block,
                          "model", v->s->model);
    if (!j) return fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
    fct_status st = add_members(j, v->s->facet_json, "the SAE's facet.json");
    if (st == FCT_OK) st = add_members(j, v->facet_json, "facet.json");
    if (st == FCT_OK) return write_json(j, dir, "facet.json");
    json_decref(j);
    return st;
}

static fct_status fill(void *user, const char *temp)
{
    const saving *v = user;
    FCT_TRY(write_config(v->s, temp));
    FCT_TRY(write_weights(v->s, temp));
    FCT_TRY(write_stats(v->s, temp));
    return write_facet(v, temp);
}

fct_status fct_sae_save(const fct_sae *s, const char *dir, const char *facet_json)
{
    return fct_where(fct_sae_put_dir(dir, "cfg.json", fill, &(saving){s, facet_json}), "saving %s",
                     dir);
}

/* save.c - writes the SAELens layout with facet's additions, and statistics beside an SAE that is
   there. The weights' file holds nothing that depends on when or how it was made, so equal weights
   are equal bytes. */
#include <string.h>

#include "sae/sae.h"

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
         json_object_set_new(j, "rescale_acts_by_decoder_norm",
                             json_boolean(s->dec_norm != NULL)) != 0)) {
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

/* Those that are known: SAEs of the authors come with mean and std alone. */
static fct_status write_stats(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    char name[4][8] = {"density", "mean", "std", "max"};
    float *const part[4] = {s->density, s->mean, s->std, s->max};
    fct_st_entry entry[4];
    int n = 0;
    for (int i = 0; i < 4; i++)
        if (part[i])
            entry[n++] = (fct_st_entry){name[i], fct_tensor_of(part[i], FCT_F32, 1, &s->f)};
    if (n == 0) return FCT_OK;
    FCT_TRY_OUT(fct_path_join(&path, dir, "stats.safetensors"));
    FCT_TRY_OUT(fct_st_write(path, entry, n, NULL));
out:
    fct_free(path);
    return st;
}

static fct_status fill(void *user, const char *temp)
{
    const saving *v = user;
    FCT_TRY(write_config(v->s, temp));
    FCT_TRY(write_weights(v->s, temp));
    FCT_TRY(write_stats(v->s, temp));
    return fct_sae_write_facet(v->s, v->facet_json, temp);
}

fct_status fct_sae_save(const fct_sae *s, const char *dir, const char *facet_json)
{
    return fct_where(fct_sae_put_dir(dir, FCT_SAE_SAELENS, fill, &(saving){s, facet_json}),
                     "saving %s", dir);
}

fct_status fct_sae_save_stats(const fct_sae *s, const char *dir)
{
    fct_status st = fct_sae_dir_is_saelens(dir)   ? write_stats(s, dir)
                    : fct_sae_dir_is_authors(dir) ? fct_sae_write_stats_authors(s, dir)
                                                  : fct_fail(FCT_ERR_MISSING, "no SAE is there");
    return fct_where(st, "saving the statistics of %s", dir);
}

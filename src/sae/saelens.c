/* saelens.c - reads SAELens folders: cfg.json, sae_weights.safetensors, and facet's own facet.json
   and stats.safetensors.

   Architectures topk and standard (ReLU); older files say topk by activation_fn_str. What would
   change the numbers and is not done here (normalised or reshaped activations, other architectures)
   is refused by name. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

static const char weights_file[] = "sae_weights.safetensors";

bool fct_sae_dir_is_saelens(const char *dir)
{
    return fct_sae_dir_has(dir, "cfg.json");
}

typedef struct config {
    fct_sae_kind kind;
    int64_t d, f, k;
    bool subtract, rescale;
    const char *hook, *model; /* inside the JSON */
} config;

static fct_status want_none(const json_t *j, const char *key, const char *where)
{
    const char *value;
    if (!json_is_string(json_object_get(j, key)))
        return FCT_OK; /* absent, null, or the booleans of old files */
    FCT_TRY(fct_json_str(&value, j, key, "none", where));
    if (strcmp(value, "none") == 0) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s is %s: only none is supported", where, key, value);
}

static fct_status read_kind(config *c, const json_t *j, const char *where)
{
    const char *arch, *activation;
    FCT_TRY(fct_json_str(&arch, j, "architecture", "standard", where));
    FCT_TRY(fct_json_str(&activation, j, "activation_fn_str", "relu", where));
    if (strcmp(arch, "topk") != 0 && strcmp(arch, "standard") != 0)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: architecture %s is not supported: want topk or standard", where, arch);
    FCT_TRY(fct_json_i64(&c->k, j, "k", 0, where));
    if (strcmp(arch, "standard") == 0 && strcmp(activation, "topk") == 0) {
        const json_t *kwargs = json_object_get(j, "activation_fn_kwargs");
        if (json_is_object(kwargs)) FCT_TRY(fct_json_i64(&c->k, kwargs, "k", c->k, where));
        arch = "topk";
    } else if (strcmp(arch, "standard") == 0 && strcmp(activation, "relu") != 0) {
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: activation_fn_str %s is not supported: want relu or topk", where,
                        activation);
    }
    c->kind = strcmp(arch, "topk") == 0 ? FCT_SAE_TOPK : FCT_SAE_RELU;
    if (c->kind == FCT_SAE_TOPK && c->k < 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: k is missing or not positive", where);
    return FCT_OK;
}

static fct_status read_config(config *c, const json_t *j, const char *where)
{
    *c = (config){0};
    if (!json_is_object(j)) return fct_fail(FCT_ERR_FORMAT, "%s: want an object", where);
    FCT_TRY(read_kind(c, j, where));
    FCT_TRY(want_none(j, "normalize_activations", where));
    FCT_TRY(want_none(j, "reshape_activations", where));
    FCT_TRY(fct_json_i64(&c->d, j, "d_in", 0, where));
    FCT_TRY(fct_json_i64(&c->f, j, "d_sae", 0, where));
    FCT_TRY(fct_json_bool(&c->subtract, j, "apply_b_dec_to_input", true, where));
    FCT_TRY(fct_json_bool(&c->rescale, j, "rescale_acts_by_decoder_norm", false, where));
    if (c->d < 1 || c->f < 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: d_in and d_sae must be given and positive", where);
    const json_t *meta = json_object_get(j, "metadata");
    const json_t *from = json_is_object(meta) ? meta : j; /* old files keep these on top */
    FCT_TRY(fct_json_str(&c->hook, from, "hook_name", NULL, where));
    return fct_json_str(&c->model, from, "model_name", NULL, where);
}

/* A float tensor of that shape, as f32. */
static fct_status take(float *out, const fct_st *st, const char *name, int ndim, const int64_t *dim)
{
    const fct_tensor *t = fct_st_find(st, name);
    fct_tensor want = fct_tensor_of(NULL, FCT_F32, ndim, dim);
    char have_text[64], want_text[64];
    if (!t) return fct_fail(FCT_ERR_MISSING, "%s: no tensor %s", st->path, name);
    fct_shape_text(have_text, sizeof have_text, t);
    fct_shape_text(want_text, sizeof want_text, &want);
    bool same = t->ndim == ndim;
    for (int i = 0; same && i < ndim; i++) same = t->dim[i] == dim[i];
    if (!same)
        return fct_fail(FCT_ERR_SHAPE, "%s: %s: want %s, file has %s", st->path, name, want_text,
                        have_text);
    if (t->dtype != FCT_F32 && t->dtype != FCT_F16 && t->dtype != FCT_BF16 && t->dtype != FCT_F64)
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: want floating point, file has %s", st->path, name,
                        fct_dtype_name(t->dtype));
    FCT_TRY(fct_convert(out, FCT_F32, t->data, t->dtype, fct_tensor_count(t)));
    for (int64_t i = 0; i < fct_tensor_count(t); i++)
        if (!isfinite(out[i]))
            return fct_fail(FCT_ERR_RANGE, "%s: %s: number %lld is not finite", st->path, name,
                            (long long)i);
    return FCT_OK;
}

static fct_status read_weights(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_st file = {0};
    char *path = NULL;
    float *w = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, weights_file));
    FCT_TRY_OUT(fct_st_open(&file, path));
    FCT_TRY_OUT(fct_new_raw(&w, s->d * s->f, sizeof *w));
    FCT_TRY_OUT(take(w, &file, "W_enc", 2, (int64_t[]){s->d, s->f}));
    for (int64_t f = 0; f < s->f; f++)
        for (int64_t i = 0; i < s->d; i++) s->w_enc[f * s->d + i] = w[i * s->f + f];
    FCT_TRY_OUT(take(s->b_enc, &file, "b_enc", 1, &s->f));
    FCT_TRY_OUT(take(s->w_dec, &file, "W_dec", 2, (int64_t[]){s->f, s->d}));
    FCT_TRY_OUT(take(s->b_dec, &file, "b_dec", 1, &s->d));
out:
    fct_st_close(&file);
    fct_free(path);
    fct_free(w);
    return st;
}

static fct_status read_stats(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_st file = {0};
    char *path = NULL;
    if (!fct_sae_dir_has(dir, "stats.safetensors")) return FCT_OK;
    FCT_TRY_OUT(fct_path_join(&path, dir, "stats.safetensors"));
    FCT_TRY_OUT(fct_st_open(&file, path));
    const struct {
        const char *name;
        float **at;
    } part[] = {{"density", &s->density}, {"mean", &s->mean}, {"std", &s->std}, {"max", &s->max}};
    for (size_t i = 0; i < FCT_COUNT(part); i++) { /* a converted SAE has some of them */
        if (!fct_st_find(&file, part[i].name)) continue;
        FCT_TRY_OUT(fct_new(part[i].at, s->f, sizeof(float)));
        FCT_TRY_OUT(take(*part[i].at, &file, part[i].name, 1, &s->f));
        s->has_stats = true;
    }
    if (!s->has_stats)
        st = fct_fail(FCT_ERR_MISSING, "%s: none of the tensors density, mean, std, max", path);
out:
    fct_st_close(&file);
    fct_free(path);
    return st;
}

fct_status fct_sae_load_saelens(fct_sae **out, const char *dir)
{
    fct_status st = FCT_OK;
    fct_sae *s = NULL;
    char *path = NULL;
    json_t *j = NULL;
    config c;
    FCT_TRY_OUT(fct_path_join(&path, dir, "cfg.json"));
    FCT_TRY_OUT(fct_json_read(&j, path));
    FCT_TRY_OUT(read_config(&c, j, path));
    FCT_TRY_OUT(fct_sae_new(&s, c.kind, c.d, c.f, c.k));
    s->apply_b_dec_to_input = c.subtract;
    FCT_TRY_OUT(read_weights(s, dir));
    if (c.rescale) FCT_TRY_OUT(fct_sae_set_dec_norm(s));
    FCT_TRY_OUT(read_stats(s, dir));
    FCT_TRY_OUT(fct_sae_read_facet(s, dir, c.hook, c.model)); /* more exact than SAELens' fields */
    FCT_TRY_OUT(fct_strdup(&s->path, dir));
    *out = s;
    s = NULL;
out:
    json_decref(j);
    fct_free(path);
    fct_sae_free(s);
    return st;
}

/* saelens.c - reads and writes SAELens folders: cfg.json, sae_weights.safetensors, and facet's own
   facet.json and stats.safetensors.

   Architectures standard, topk, jumprelu, gated, and those of training checkpoints, batchtopk and
   matryoshka_batchtopk, with their topk_threshold; older files say topk by activation_fn_str.
   Transcoders, reshaped activations and other functions would give other numbers and are refused by
   name. */
#include <math.h>
#include <string.h>

#include "sae/formats/formats.h"

typedef struct config {
    fct_sae_kind kind;
    fct_sae_normalize normalize;
    int64_t d, f, k;
    bool subtract, rescale, fold_scale;
    const char *hook, *model; /* inside the JSON */
} config;

static const struct {
    const char *name;
    fct_sae_kind kind;
} architecture_table[] = {
    {"standard", FCT_SAE_RELU},       {"topk", FCT_SAE_TOPK},
    {"jumprelu", FCT_SAE_JUMPRELU},   {"gated", FCT_SAE_GATED},
    {"batchtopk", FCT_SAE_BATCHTOPK}, {"matryoshka_batchtopk", FCT_SAE_BATCHTOPK},
};

/* Text of a key; what is absent, null, or the boolean of an old file counts as "none". */
static fct_status text_of(const char **out, const json_t *j, const char *key, const char *where)
{
    *out = "none";
    if (!json_is_string(json_object_get(j, key))) return FCT_OK;
    return fct_json_str(out, j, key, "none", where);
}

static fct_status read_normalize(config *c, const json_t *j, const char *where)
{
    const char *how, *shape;
    bool scaled;
    FCT_TRY(text_of(&how, j, "normalize_activations", where));
    FCT_TRY(text_of(&shape, j, "reshape_activations", where));
    if (strcmp(shape, "none") != 0)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: reshape_activations is %s: only none is supported", where, shape);
    FCT_TRY(fct_json_bool(&scaled, j, "finetuning_scaling_factor", false, where));
    if (scaled)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: finetuning_scaling_factor is not supported",
                        where);
    c->fold_scale = strcmp(how, "expected_average_only_in") == 0;
    if (strcmp(how, "layer_norm") == 0)
        c->normalize = FCT_SAE_NORMALIZE_LAYER;
    else if (strcmp(how, "constant_norm_rescale") == 0)
        c->normalize = FCT_SAE_NORMALIZE_NORM;
    else if (!c->fold_scale && strcmp(how, "none") != 0)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: normalize_activations %s is not known", where,
                        how);
    return FCT_OK;
}

/* SAELens' k is the mean number for batchtopk, and may have a fraction there. */
static fct_status read_k(config *c, const json_t *j, const char *where)
{
    const json_t *kwargs = json_object_get(j, "activation_fn_kwargs");
    double k;
    FCT_TRY(fct_json_f64(&k, j, "k", 0, where));
    if (json_is_object(kwargs)) FCT_TRY(fct_json_f64(&k, kwargs, "k", k, where));
    c->k = k >= 1 && k < (double)INT32_MAX ? (int64_t)k : 0;
    if (c->kind == FCT_SAE_TOPK && (c->k < 1 || (double)c->k != k))
        return fct_fail(FCT_ERR_FORMAT, "%s: k is missing or not a positive whole number", where);
    return FCT_OK;
}

static fct_status read_kind(config *c, const json_t *j, const char *where)
{
    const char *arch, *activation;
    bool known = false;
    FCT_TRY(fct_json_str(&arch, j, "architecture", "standard", where));
    FCT_TRY(fct_json_str(&activation, j, "activation_fn_str", "relu", where));
    for (size_t i = 0; i < FCT_COUNT(architecture_table) && !known; i++) {
        known = strcmp(arch, architecture_table[i].name) == 0;
        c->kind = architecture_table[i].kind;
    }
    if (!known)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: architecture %s is not supported: want standard, topk, jumprelu, "
                        "gated, batchtopk or matryoshka_batchtopk",
                        where, arch);
    if (c->kind == FCT_SAE_RELU && strcmp(activation, "topk") == 0)
        c->kind = FCT_SAE_TOPK;
    else if (strcmp(activation, "relu") != 0 && c->kind != FCT_SAE_TOPK)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: activation_fn_str %s is not supported: want relu or topk", where,
                        activation);
    return read_k(c, j, where);
}

static fct_status read_config(config *c, const json_t *j, const char *where)
{
    *c = (config){0};
    if (!json_is_object(j)) return fct_fail(FCT_ERR_FORMAT, "%s: want an object", where);
    FCT_TRY(read_kind(c, j, where));
    FCT_TRY(read_normalize(c, j, where));
    FCT_TRY(fct_json_i64(&c->d, j, "d_in", 0, where));
    FCT_TRY(fct_json_i64(&c->f, j, "d_sae", 0, where));
    FCT_TRY(fct_json_bool(&c->subtract, j, "apply_b_dec_to_input", true, where));
    FCT_TRY(fct_json_bool(&c->rescale, j, "rescale_acts_by_decoder_norm", false, where));
    if (c->d < 1 || c->f < 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: d_in and d_sae must be given and positive", where);
    if (c->rescale && c->kind != FCT_SAE_TOPK && c->kind != FCT_SAE_BATCHTOPK)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: rescale_acts_by_decoder_norm is known for topk and batchtopk alone",
                        where);
    const json_t *meta = json_object_get(j, "metadata");
    const json_t *from = json_is_object(meta) ? meta : j; /* old files keep these on top */
    FCT_TRY(fct_json_str(&c->hook, from, "hook_name", NULL, where));
    return fct_json_str(&c->model, from, "model_name", NULL, where);
}

/* ---- weights ---- */

static int name_parts(fct_sae_named_part named[FCT_SAE_MAX_NAMED], const fct_sae *s,
                      const char *threshold)
{
    int n = 0;
    bool gated = s->kind == FCT_SAE_GATED;
    named[n++] =
        (fct_sae_named_part){.name = "W_enc", .part = FCT_SAE_PART_W_ENC, .transposed = true};
    named[n++] =
        (fct_sae_named_part){.name = gated ? "b_gate" : "b_enc", .part = FCT_SAE_PART_B_ENC};
    named[n++] = (fct_sae_named_part){.name = "W_dec", .part = FCT_SAE_PART_W_DEC};
    named[n++] = (fct_sae_named_part){.name = "b_dec", .part = FCT_SAE_PART_B_DEC};
    if (threshold)
        named[n++] = (fct_sae_named_part){.name = threshold, .part = FCT_SAE_PART_THRESHOLD};
    if (gated) named[n++] = (fct_sae_named_part){.name = "b_mag", .part = FCT_SAE_PART_B_MAG};
    if (gated) named[n++] = (fct_sae_named_part){.name = "r_mag", .part = FCT_SAE_PART_R_MAG};
    return n;
}

/* batchtopk: one number while it trains, a tensor of it in what is saved for inference. */
static fct_status read_threshold(fct_sae *s, const fct_sae_tensors *from)
{
    double threshold;
    FCT_TRY(fct_sae_take_number(&threshold, from, "topk_threshold"));
    for (int64_t f = 0; f < s->f; f++) s->threshold[f] = (float)threshold;
    return FCT_OK;
}

static fct_status read_weights(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_safetensors file = {0};
    char *path = NULL;
    fct_sae_named_part named[FCT_SAE_MAX_NAMED];
    FCT_TRY_OUT(fct_path_join(&path, dir, "sae_weights.safetensors"));
    FCT_TRY_OUT(fct_safetensors_open(&file, path));
    fct_sae_tensors from = fct_sae_tensors_of_safetensors(&file);
    bool has = s->threshold != NULL, plain = fct_safetensors_find(&file, "threshold") != NULL;
    bool logs = has && !plain && fct_safetensors_find(&file, "log_threshold");
    bool one = s->kind == FCT_SAE_BATCHTOPK && !plain && !logs;
    int n = name_parts(named, s, !has || one ? NULL : logs ? "log_threshold" : "threshold");
    if (one) { /* so that a missing one is named with the others */
        named[n] = (fct_sae_named_part){.name = "topk_threshold"};
        FCT_TRY_OUT(fct_sae_check_parts(&from, named, n + 1));
    }
    FCT_TRY_OUT(fct_sae_read_parts(s, &from, named, n));
    if (one) FCT_TRY_OUT(read_threshold(s, &from));
    for (int64_t f = 0; logs && f < s->f; f++) s->threshold[f] = expf(s->threshold[f]);
out:
    fct_safetensors_close(&file);
    fct_free(path);
    return st;
}

/* Rows were multiplied by one number in training: SAELens folds it in when it saves for inference,
   its checkpoints keep it beside the weights. */
static fct_status fold_scale(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *j = NULL;
    double by;
    if (!fct_dir_has(dir, "activation_scaler.json"))
        return fct_fail(FCT_ERR_MISSING,
                        "%s: normalize_activations is expected_average_only_in, but the factor, "
                        "activation_scaler.json, is not there",
                        dir);
    FCT_TRY_OUT(fct_path_join(&path, dir, "activation_scaler.json"));
    FCT_TRY_OUT(fct_json_read(&j, path));
    FCT_TRY_OUT(fct_json_f64(&by, j, "scaling_factor", 0, path));
    if (!(by > 0) || !isfinite((float)by)) {
        st = fct_fail(FCT_ERR_RANGE, "%s: scaling_factor must be given and positive", path);
        goto out;
    }
    for (int64_t i = 0; i < s->d * s->f; i++) {
        s->w_enc[i] *= (float)by;
        s->w_dec[i] /= (float)by;
    }
    for (int64_t i = 0; i < s->d; i++) s->b_dec[i] /= (float)by;
out:
    json_decref(j);
    fct_free(path);
    return st;
}

static bool detect(const char *dir)
{
    return fct_dir_has(dir, "cfg.json") && !fct_dir_has(dir, "sae.safetensors");
}

static fct_status load(fct_sae **out, const char *dir)
{
    fct_status st = FCT_OK;
    fct_sae *s = NULL;
    char *path = NULL;
    json_t *j = NULL;
    config c;
    FCT_TRY_OUT(fct_path_join(&path, dir, "cfg.json"));
    FCT_TRY_OUT(fct_json_read(&j, path));
    FCT_TRY_OUT(read_config(&c, j, path));
    FCT_TRY_OUT(fct_where(fct_sae_new(&s, c.kind, c.d, c.f, c.k), "%s", path));
    s->apply_b_dec_to_input = c.subtract;
    s->normalize = c.normalize;
    FCT_TRY_OUT(read_weights(s, dir));
    if (c.fold_scale) FCT_TRY_OUT(fold_scale(s, dir));
    if (c.rescale) FCT_TRY_OUT(fct_sae_set_dec_norm(s));
    FCT_TRY_OUT(fct_sae_read_stats(s, dir));
    FCT_TRY_OUT(fct_sae_read_facet(s, dir, c.hook, c.model)); /* more exact than SAELens' fields */
    *out = s;
    s = NULL;
out:
    json_decref(j);
    fct_free(path);
    fct_sae_free(s);
    return st;
}

/* ---- writing ---- */

/* The first SAELens whose folders look like these. Without it SAELens takes them for older ones,
   whose block and model stand elsewhere, and forgets both. */
static const char layout_version[] = "6.0.0";

static fct_status write_config(const fct_sae *s, const char *dir)
{
    static const char *const normalize[] = {"none", "layer_norm", "constant_norm_rescale"};
    char *hook = NULL;
    FCT_TRY(s->n_blocks > 0 ? fct_sae_blocks_text(&hook, s, ",")
                            : fct_block_name_full(&hook, s->block));
    /* as SAELens itself does, what had one threshold for all is saved as jumprelu */
    fct_sae_kind kind = s->kind == FCT_SAE_BATCHTOPK ? FCT_SAE_JUMPRELU : s->kind;
    json_t *meta =
        json_pack("{s:s, s:s?, s:s?, s:n, s:n, s:b, s:n, s:{}}", "sae_lens_version", layout_version,
                  "model_name", s->model, "hook_name", hook, "hook_head_index", "context_size",
                  "prepend_bos", 0, "dataset_path", "model_from_pretrained_kwargs");
    json_t *j = json_pack(
        "{s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s, s:o?}", "architecture", fct_sae_kind_name(kind),
        "d_in", (json_int_t)s->d, "d_sae", (json_int_t)s->f, "dtype", "float32", "device", "cpu",
        "apply_b_dec_to_input", (int)s->apply_b_dec_to_input, "normalize_activations",
        normalize[s->normalize], "reshape_activations", "none", "metadata", meta);
    fct_free(hook);
    if (j && kind == FCT_SAE_TOPK &&
        (json_object_set_new(j, "k", json_integer(s->k)) != 0 ||
         json_object_set_new(j, "rescale_acts_by_decoder_norm",
                             json_boolean(s->dec_norm != NULL)) != 0)) {
        json_decref(j);
        j = NULL;
    }
    return fct_sae_write_json(j, dir, "cfg.json");
}

static fct_status fill(const fct_sae *s, const char *dir)
{
    char *path = NULL;
    fct_sae_named_part named[FCT_SAE_MAX_NAMED];
    int n = name_parts(named, s, s->threshold ? "threshold" : NULL);
    FCT_TRY(write_config(s, dir));
    fct_status st = fct_path_join(&path, dir, "sae_weights.safetensors");
    if (st == FCT_OK) st = fct_sae_write_safetensors(s, path, named, n);
    if (st == FCT_OK) st = fct_sae_write_stats(s, dir);
    fct_free(path);
    return st;
}

static bool keeps_dec_norm(const fct_sae *s)
{
    return s->kind == FCT_SAE_TOPK;
}

const fct_sae_format fct_sae_format_saelens = {
    .name = "saelens",
    .file = {"cfg.json", "sae_weights.safetensors", "stats.safetensors", "facet.json",
             "report.html"},
    .n_key = 2,
    .detect = detect,
    .load = load,
    .fill = fill,
    .write_stats = fct_sae_write_stats,
    .keeps_dec_norm = keeps_dec_norm,
    .always_facet = true,
    .keeps_blocks = true, /* as one SAE of side-by-side rows, with facet.json */
};

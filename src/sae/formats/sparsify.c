/* sparsify.c - reads and writes the SAEs of EleutherAI's sparsify: cfg.json and sae.safetensors in
   a folder named after the hookpoint. TopK SAEs alone: groupmax, transcoders and skip connections
   compute something else and are refused by name, as are the options that the fork SAeUron adds. */
#include <string.h>

#include "sae/formats/formats.h"

enum { N_PARTS = 4 };
static const fct_sae_named_part weights[N_PARTS] = {
    {.name = "encoder.weight", .part = FCT_SAE_PART_W_ENC},
    {.name = "encoder.bias", .part = FCT_SAE_PART_B_ENC},
    {.name = "W_dec", .part = FCT_SAE_PART_W_DEC},
    {.name = "b_dec", .part = FCT_SAE_PART_B_DEC}};

static bool detect(const char *dir)
{
    return fct_dir_has(dir, "cfg.json") && fct_dir_has(dir, "sae.safetensors");
}

typedef struct config {
    int64_t d, f, k;
} config;

static fct_status read_config(config *c, const json_t *j, const char *where)
{
    static const char *const off[] = {"transcode",  "skip_connection", "signed",
                                      "batch_topk", "sample_topk",     "input_unit_norm"};
    const char *activation;
    int64_t factor;
    FCT_TRY(fct_json_str(&activation, j, "activation", "topk", where));
    if (strcmp(activation, "topk") != 0)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: activation %s is not supported: want topk", where,
                        activation);
    for (size_t i = 0; i < FCT_COUNT(off); i++) {
        bool on;
        FCT_TRY(fct_json_bool(&on, j, off[i], false, where));
        if (on)
            return fct_fail(FCT_ERR_UNSUPPORTED,
                            "%s: %s is true, which facet does not compute: want a plain TopK SAE",
                            where, off[i]);
    }
    FCT_TRY(fct_json_i64(&c->d, j, "d_in", 0, where));
    FCT_TRY(fct_json_i64(&c->f, j, "num_latents", 0, where));
    FCT_TRY(fct_json_i64(&factor, j, "expansion_factor", 32, where));
    FCT_TRY(fct_json_i64(&c->k, j, "k", 0, where));
    if (c->d < 1) return fct_fail(FCT_ERR_FORMAT, "%s: d_in must be given and positive", where);
    if (c->k < 1) return fct_fail(FCT_ERR_FORMAT, "%s: k must be given and positive", where);
    return c->f == 0 ? fct_mul_i64(&c->f, c->d, factor) : FCT_OK;
}

static fct_status read_weights(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_safetensors file = {0};
    char *path = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, "sae.safetensors"));
    FCT_TRY_OUT(fct_safetensors_open(&file, path));
    fct_sae_tensors from = fct_sae_tensors_of_safetensors(&file);
    if (fct_safetensors_find(&file, "W_skip")) {
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: W_skip: a skip connection is not supported", path);
        goto out;
    }
    FCT_TRY_OUT(fct_sae_read_parts(s, &from, weights, N_PARTS));
out:
    fct_safetensors_close(&file);
    fct_free(path);
    return st;
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
    FCT_TRY_OUT(fct_where(fct_sae_new(&s, FCT_SAE_TOPK, c.d, c.f, c.k), "%s", path));
    FCT_TRY_OUT(read_weights(s, dir));
    FCT_TRY_OUT(fct_sae_read_stats(s, dir));
    FCT_TRY_OUT(fct_sae_read_facet(s, dir, NULL, NULL));
    *out = s;
    s = NULL;
out:
    json_decref(j);
    fct_free(path);
    fct_sae_free(s);
    return st;
}

static fct_status check(const fct_sae *s)
{
    if (s->kind == FCT_SAE_TOPK && s->apply_b_dec_to_input &&
        s->normalize == FCT_SAE_NORMALIZE_NONE)
        return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "sparsify holds TopK SAEs that subtract the decoder's bias "
                    "from rows as they are, no other");
}

static fct_status fill(const fct_sae *s, const char *dir)
{
    char *path = NULL;
    json_t *j = json_pack("{s:s, s:I, s:b, s:I, s:I, s:b, s:b, s:b, s:I}", "activation", "topk",
                          "expansion_factor", (json_int_t)(s->f / s->d), "normalize_decoder", 1,
                          "num_latents", (json_int_t)s->f, "k", (json_int_t)s->k, "multi_topk", 0,
                          "skip_connection", 0, "transcode", 0, "d_in", (json_int_t)s->d);
    FCT_TRY(fct_sae_write_json(j, dir, "cfg.json"));
    fct_status st = fct_path_join(&path, dir, "sae.safetensors");
    if (st == FCT_OK) st = fct_sae_write_safetensors(s, path, weights, N_PARTS);
    if (st == FCT_OK) st = fct_sae_write_stats(s, dir);
    fct_free(path);
    return st;
}

const fct_sae_format fct_sae_format_sparsify = {
    .name = "sparsify",
    .file = {"cfg.json", "sae.safetensors", "stats.safetensors", "facet.json"},
    .n_key = 2,
    .detect = detect,
    .load = load,
    .check = check,
    .fill = fill,
    .write_stats = fct_sae_write_stats,
};

/* openai.c - reads and writes the torch file of openai/sparse_autoencoder: tensors, the name of the
   activation and its state in one state dict. Its TopK SAEs normalise every row and its ReLU SAEs
   do not: the file has no other word for that, so nothing else can be written. */
#include <string.h>

#include "sae/formats/formats.h"

enum { N_PARTS = 4 };
static const char file_name[] = "autoencoder.pt";
static const fct_sae_named_part weights[N_PARTS] = {
    {.name = "pre_bias", .part = FCT_SAE_PART_B_DEC},
    {.name = "latent_bias", .part = FCT_SAE_PART_B_ENC},
    {.name = "encoder.weight", .part = FCT_SAE_PART_W_ENC},
    {.name = "decoder.weight", .part = FCT_SAE_PART_W_DEC, .transposed = true}};

/* ---- reading ---- */

static fct_status read_activation(fct_sae_kind *kind, int64_t *k, const fct_pth *file,
                                  const char *path)
{
    const fct_pth_value *name = fct_pth_find_value(file, "activation"),
                        *count = fct_pth_find_value(file, "activation_state_dict.k"),
                        *post = fct_pth_find_value(file, "activation_state_dict.postact_fn");
    const char *text = name && name->text ? name->text : "ReLU"; /* as their loader reads it */
    *kind = strcmp(text, "TopK") == 0 ? FCT_SAE_TOPK : FCT_SAE_RELU;
    *k = 0;
    if (*kind == FCT_SAE_RELU && strcmp(text, "ReLU") != 0)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: activation %s is not supported: want TopK or ReLU", path, text);
    if (*kind == FCT_SAE_RELU) return FCT_OK;
    if (!count || count->text)
        return fct_fail(FCT_ERR_FORMAT, "%s: activation_state_dict has no k", path);
    if (post && (!post->text || strcmp(post->text, "ReLU") != 0))
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: postact_fn %s is not supported: want ReLU", path,
                        post->text ? post->text : "that is a number");
    *k = count->i;
    return FCT_OK;
}

fct_status fct_sae_read_openai(fct_sae **out, const fct_pth *file, const char *path)
{
    fct_status st = FCT_OK;
    fct_sae *s = NULL;
    fct_sae_kind kind;
    int64_t d, f, k;
    fct_sae_tensors from = fct_sae_tensors_of_pth(file, path);
    FCT_TRY(fct_sae_check_parts(&from, weights, N_PARTS));
    FCT_TRY(read_activation(&kind, &k, file, path));
    FCT_TRY(fct_sae_size_of(&from, "encoder.weight", false, &d, &f));
    FCT_TRY(fct_where(fct_sae_new(&s, kind, d, f, k), "%s", path));
    if (kind == FCT_SAE_TOPK) s->normalize = FCT_SAE_NORMALIZE_LAYER;
    st = fct_sae_read_parts(s, &from, weights, N_PARTS);
    if (st == FCT_OK)
        *out = s;
    else
        fct_sae_free(s);
    return st;
}

static bool detect(const char *dir)
{
    return fct_dir_has(dir, file_name);
}

static fct_status load(fct_sae **out, const char *dir)
{
    fct_status st = FCT_OK;
    fct_pth file = {0};
    fct_sae *s = NULL;
    char *path = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    FCT_TRY_OUT(fct_pth_open(&file, path));
    FCT_TRY_OUT(fct_sae_read_openai(&s, &file, path));
    FCT_TRY_OUT(fct_sae_read_stats(s, dir));
    FCT_TRY_OUT(fct_sae_read_facet(s, dir, NULL, NULL));
    *out = s;
    s = NULL;
out:
    fct_pth_close(&file);
    fct_free(path);
    fct_sae_free(s);
    return st;
}

/* ---- writing ---- */

static fct_status check(const fct_sae *s)
{
    bool topk = s->kind == FCT_SAE_TOPK, relu = s->kind == FCT_SAE_RELU;
    if (!topk && !relu)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "openai's format holds TopK and ReLU SAEs, this one is %s",
                        fct_sae_kind_name(s->kind));
    if (!s->apply_b_dec_to_input)
        return fct_fail(FCT_ERR_UNSUPPORTED, "openai's format always subtracts the decoder's bias "
                                             "from the input, this SAE does not");
    if (topk && s->normalize != FCT_SAE_NORMALIZE_LAYER)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "openai's code normalises the rows of every TopK SAE "
                        "by mean and deviation, this SAE reads them otherwise");
    if (relu && s->normalize != FCT_SAE_NORMALIZE_NONE)
        return fct_fail(FCT_ERR_UNSUPPORTED, "openai's code normalises rows of TopK SAEs alone, "
                                             "this ReLU SAE reads normalised ones");
    return FCT_OK;
}

static fct_status fill(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    int64_t *steps = NULL;
    float *frequency = NULL, *square = NULL;
    FCT_TRY_OUT(fct_new(&steps, s->f, sizeof *steps)); /* what a fresh one of theirs has */
    FCT_TRY_OUT(fct_new(&square, s->f, sizeof *square));
    FCT_TRY_OUT(fct_new(&frequency, s->f, sizeof *frequency));
    for (int64_t f = 0; f < s->f; f++) frequency[f] = s->density ? s->density[f] : 1;
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    const fct_sae_named_part named[] = {
        weights[0],
        weights[1],
        {.name = "stats_last_nonzero", .other = fct_tensor_of(steps, FCT_I64, 1, &s->f)},
        {.name = "latents_activation_frequency",
         .other = fct_tensor_of(frequency, FCT_F32, 1, &s->f)},
        {.name = "latents_mean_square", .other = fct_tensor_of(square, FCT_F32, 1, &s->f)},
        weights[2],
        weights[3]};
    char activation[] = "activation", k[] = "activation_state_dict.k",
         post[] = "activation_state_dict.postact_fn", topk[] = "TopK", relu[] = "ReLU";
    const fct_pth_value value[] = {
        {.name = activation, .text = s->kind == FCT_SAE_TOPK ? topk : relu},
        {.name = k, .i = s->k},
        {.name = post, .text = relu}};
    FCT_TRY_OUT(fct_sae_write_pth(
        s, path, named, (int)FCT_COUNT(named),
        &(fct_pth_write_desc){.value = value, .n_values = s->kind == FCT_SAE_TOPK ? 3 : 1}));
    FCT_TRY_OUT(fct_sae_write_stats(s, dir));
out:
    fct_free(path);
    fct_free(steps);
    fct_free(frequency);
    fct_free(square);
    return st;
}

const fct_sae_format fct_sae_format_openai = {
    .name = "openai",
    .file = {"autoencoder.pt", "stats.safetensors", "facet.json"},
    .n_key = 1,
    .detect = detect,
    .load = load,
    .check = check,
    .fill = fill,
    .write_stats = fct_sae_write_stats,
};

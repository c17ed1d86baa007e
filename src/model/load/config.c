/* config.c - reads the JSON of a diffusers folder into structs. One table a component: each key is
   read into a field, or must have one of the values that facet implements, or is known to be
   without effect here. A value that facet does not implement is an error that names the key; a key
   in no table is a warning, since real repositories carry many that mean nothing. */
#include <stdio.h>
#include <string.h>

#include "model/load/load.h"

typedef enum rule_kind {
    READ_I64,
    READ_F64,
    READ_BOOL,
    READ_TEXT,
    READ_INTS,
    READ_TEXTS,
    MUST_BE, /* one of the JSON values in `values`, separated by a bar; null and absence are fine */
    INERT
} rule_kind;

enum { TEXT_SIZE = 48 }; /* of every field that a READ_TEXT fills */

typedef struct rule {
    const char *key;
    rule_kind kind;
    size_t at;          /* offset of the field */
    const char *values; /* MUST_BE; READ_TEXT and READ_TEXTS: allowed texts, or NULL */
    bool required;
} rule;

#define UNET(field) offsetof(fct_unet_config, field)
#define VAE(field) offsetof(fct_vae_config, field)
#define CLIP(field) offsetof(clip_raw, field)
#define SCHEDULER(field) offsetof(scheduler_raw, field)

static const rule unet_rules[] = {
    {"_class_name", MUST_BE, 0, "\"UNet2DConditionModel\"", false},
    {"sample_size", READ_INTS, UNET(sample_size), NULL, true},
    {"in_channels", READ_I64, UNET(in_channels), NULL, false},
    {"out_channels", READ_I64, UNET(out_channels), NULL, false},
    {"flip_sin_to_cos", READ_BOOL, UNET(flip_sin_to_cos), NULL, false},
    {"freq_shift", READ_I64, UNET(freq_shift), NULL, false},
    {"down_block_types", READ_TEXTS, UNET(down_block_types), "DownBlock2D|CrossAttnDownBlock2D",
     true},
    {"up_block_types", READ_TEXTS, UNET(up_block_types), "UpBlock2D|CrossAttnUpBlock2D", true},
    {"mid_block_type", MUST_BE, 0, "\"UNetMidBlock2DCrossAttn\"", false},
    {"block_out_channels", READ_INTS, UNET(block_out_channels), NULL, true},
    {"layers_per_block", READ_INTS, UNET(layers_per_block), NULL, false},
    {"downsample_padding", READ_I64, UNET(downsample_padding), NULL, false},
    {"norm_num_groups", READ_I64, UNET(norm_num_groups), NULL, false},
    {"norm_eps", READ_F64, UNET(norm_eps), NULL, false},
    {"cross_attention_dim", READ_I64, UNET(cross_attention_dim), NULL, true},
    {"transformer_layers_per_block", READ_INTS, UNET(transformer_layers), NULL, false},
    {"attention_head_dim", READ_INTS, UNET(heads), NULL,
     false}, /* the number of heads, in spite of its name */
    {"use_linear_projection", READ_BOOL, UNET(use_linear_projection), NULL, false},
    {"addition_embed_type", READ_TEXT, UNET(addition_embed_type), "text_time", true},
    {"addition_time_embed_dim", READ_I64, UNET(addition_time_embed_dim), NULL, true},
    {"projection_class_embeddings_input_dim", READ_I64, UNET(add_in), NULL, true},
    {"conv_in_kernel", READ_I64, UNET(conv_in_kernel), NULL, false},
    {"conv_out_kernel", READ_I64, UNET(conv_out_kernel), NULL, false},
    {"time_embedding_dim", READ_I64, UNET(time_embedding_dim), NULL, false},
    {"act_fn", MUST_BE, 0, "\"silu\"|\"swish\"", false},
    {"center_input_sample", MUST_BE, 0, "false", false},
    {"only_cross_attention", MUST_BE, 0, "false", false},
    {"mid_block_only_cross_attention", MUST_BE, 0, "false", false},
    {"mid_block_scale_factor", MUST_BE, 0, "1|1.0", false},
    {"reverse_transformer_layers_per_block", MUST_BE, 0, "null", false},
    {"encoder_hid_dim", MUST_BE, 0, "null", false},
    {"encoder_hid_dim_type", MUST_BE, 0, "null", false},
    {"num_attention_heads", MUST_BE, 0, "null", false},
    {"dual_cross_attention", MUST_BE, 0, "false", false},
    {"class_embed_type", MUST_BE, 0, "null", false},
    {"num_class_embeds", MUST_BE, 0, "null", false},
    {"resnet_time_scale_shift", MUST_BE, 0, "\"default\"", false},
    {"resnet_skip_time_act", MUST_BE, 0, "false", false},
    {"resnet_out_scale_factor", MUST_BE, 0, "1|1.0", false},
    {"time_embedding_type", MUST_BE, 0, "\"positional\"", false},
    {"time_embedding_act_fn", MUST_BE, 0, "null", false},
    {"timestep_post_act", MUST_BE, 0, "null", false},
    {"time_cond_proj_dim", MUST_BE, 0, "null", false},
    {"attention_type", MUST_BE, 0, "\"default\"", false},
    {"class_embeddings_concat", MUST_BE, 0, "false", false},
    {"cross_attention_norm", MUST_BE, 0, "null", false},
    {"upcast_attention", INERT, 0, NULL, false}, /* softmax is f32 in every mode */
    {"dropout", INERT, 0, NULL, false},
    {"addition_embed_type_num_heads", INERT, 0, NULL, false},
};

static const rule vae_rules[] = {
    {"_class_name", MUST_BE, 0, "\"AutoencoderKL\"", false},
    {"in_channels", READ_I64, VAE(in_channels), NULL, false},
    {"out_channels", READ_I64, VAE(out_channels), NULL, false},
    {"latent_channels", READ_I64, VAE(latent_channels), NULL, false},
    {"layers_per_block", READ_I64, VAE(layers_per_block), NULL, false},
    {"norm_num_groups", READ_I64, VAE(norm_num_groups), NULL, false},
    {"block_out_channels", READ_INTS, VAE(block_out_channels), NULL, true},
    {"sample_size", READ_INTS, VAE(sample_size), NULL, false},
    {"down_block_types", READ_TEXTS, VAE(down_block_types), "DownEncoderBlock2D", true},
    {"up_block_types", READ_TEXTS, VAE(up_block_types), "UpDecoderBlock2D", true},
    {"scaling_factor", READ_F64, VAE(scaling_factor), NULL, false},
    {"use_quant_conv", READ_BOOL, VAE(use_quant_conv), NULL, false},
    {"use_post_quant_conv", READ_BOOL, VAE(use_post_quant_conv), NULL, false},
    {"mid_block_add_attention", READ_BOOL, VAE(mid_block_add_attention), NULL, false},
    {"act_fn", MUST_BE, 0, "\"silu\"|\"swish\"", false},
    {"latents_mean", INERT, 0, NULL, false}, /* read by hand below */
    {"latents_std", INERT, 0, NULL, false},
    {"shift_factor", MUST_BE, 0, "null|0|0.0", false},
    {"force_upcast", INERT, 0, NULL, false}, /* the VAE is f32 anyway */
};

typedef struct clip_raw {
    int64_t hidden_size, intermediate_size, projection_dim, layers, heads, positions, vocab_size,
        eos;
    double eps;
    char act[TEXT_SIZE];
    fct_texts architectures;
} clip_raw;

static const rule clip_rules[] = {
    {"model_type", MUST_BE, 0, "\"clip_text_model\"", false},
    {"architectures", READ_TEXTS, CLIP(architectures), "CLIPTextModel|CLIPTextModelWithProjection",
     true},
    {"hidden_size", READ_I64, CLIP(hidden_size), NULL, true},
    {"intermediate_size", READ_I64, CLIP(intermediate_size), NULL, true},
    {"projection_dim", READ_I64, CLIP(projection_dim), NULL, false},
    {"num_hidden_layers", READ_I64, CLIP(layers), NULL, true},
    {"num_attention_heads", READ_I64, CLIP(heads), NULL, true},
    {"max_position_embeddings", READ_I64, CLIP(positions), NULL, false},
    {"vocab_size", READ_I64, CLIP(vocab_size), NULL, false},
    {"eos_token_id", READ_I64, CLIP(eos), NULL, false},
    {"layer_norm_eps", READ_F64, CLIP(eps), NULL, false},
    {"hidden_act", READ_TEXT, CLIP(act), "quick_gelu|gelu", false},
    {"attention_dropout", INERT, 0, NULL, false},
    {"dropout", INERT, 0, NULL, false},
    {"bos_token_id", INERT, 0, NULL, false},
    {"pad_token_id", INERT, 0, NULL, false},
    {"initializer_factor", INERT, 0, NULL, false},
    {"initializer_range", INERT, 0, NULL, false},
    {"torch_dtype", INERT, 0, NULL, false},
    {"dtype", INERT, 0, NULL, false},
    {"transformers_version", INERT, 0, NULL, false},
};

typedef struct scheduler_raw {
    char class_name[TEXT_SIZE], schedule[TEXT_SIZE], prediction[TEXT_SIZE], spacing[TEXT_SIZE],
        last[TEXT_SIZE];
    int64_t train_steps, steps_offset;
    double beta_start, beta_end;
} scheduler_raw;

static const rule scheduler_rules[] = {
    {"_class_name", READ_TEXT, SCHEDULER(class_name),
     "EulerAncestralDiscreteScheduler|EulerDiscreteScheduler", true},
    {"num_train_timesteps", READ_I64, SCHEDULER(train_steps), NULL, false},
    {"beta_start", READ_F64, SCHEDULER(beta_start), NULL, false},
    {"beta_end", READ_F64, SCHEDULER(beta_end), NULL, false},
    {"beta_schedule", READ_TEXT, SCHEDULER(schedule), "linear|scaled_linear", false},
    {"prediction_type", READ_TEXT, SCHEDULER(prediction), "epsilon|v_prediction", false},
    {"timestep_spacing", READ_TEXT, SCHEDULER(spacing), "linspace|leading|trailing", false},
    {"final_sigmas_type", READ_TEXT, SCHEDULER(last), "zero|sigma_min", false},
    {"steps_offset", READ_I64, SCHEDULER(steps_offset), NULL, false},
    {"trained_betas", MUST_BE, 0, "null", false},
    {"rescale_betas_zero_snr", MUST_BE, 0, "false", false},
    {"interpolation_type", MUST_BE, 0, "\"linear\"", false},
    {"use_karras_sigmas", MUST_BE, 0, "false", false},
    {"use_exponential_sigmas", MUST_BE, 0, "false", false},
    {"use_beta_sigmas", MUST_BE, 0, "false", false},
    {"timestep_type", MUST_BE, 0, "\"discrete\"", false},
    {"sigma_min", INERT, 0, NULL, false}, /* only for the spacings refused above */
    {"sigma_max", INERT, 0, NULL, false},
    {"clip_sample", INERT, 0, NULL,
     false}, /* left over from other schedulers; diffusers ignores them too */
    {"clip_sample_range", INERT, 0, NULL, false},
    {"sample_max_value", INERT, 0, NULL, false},
    {"set_alpha_to_one", INERT, 0, NULL, false},
    {"skip_prk_steps", INERT, 0, NULL, false},
    {"thresholding", INERT, 0, NULL, false},
    {"dynamic_thresholding_ratio", INERT, 0, NULL, false},
    {"variance_type", INERT, 0, NULL, false},
};

/* ---- applying a table ---- */

/* Is `text` one of the alternatives in a|b|c? */
static bool one_of(const char *text, const char *values)
{
    size_t n = strlen(text);
    for (const char *p = values; p; p = strchr(p, '|')) {
        if (*p == '|') p++;
        const char *end = strchr(p, '|');
        size_t len = end ? (size_t)(end - p) : strlen(p);
        if (len == n && memcmp(p, text, n) == 0) return true;
    }
    return false;
}

static fct_status copy_text(char *out, size_t size, const rule *r, const json_t *v,
                            const char *where)
{
    const char *text = json_string_value(v);
    if (!text) return fct_fail(FCT_ERR_FORMAT, "%s: %s: want a text", where, r->key);
    if (r->values && !one_of(text, r->values))
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s is \"%s\"; facet knows %s", where, r->key,
                        text, r->values);
    if (strlen(text) >= size) return fct_fail(FCT_ERR_FORMAT, "%s: %s is too long", where, r->key);
    memcpy(out, text, strlen(text) + 1);
    return FCT_OK;
}

static fct_status read_ints(fct_ints *out, const rule *r, const json_t *v, const char *where)
{
    bool list = json_is_array(v);
    size_t n = list ? json_array_size(v) : 1;
    if (n > FCT_MAX_LEVELS)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s has more than %d entries", where, r->key,
                        FCT_MAX_LEVELS);
    for (size_t i = 0; i < n; i++) {
        const json_t *e = list ? json_array_get(v, i) : v;
        if (!json_is_integer(e))
            return fct_fail(FCT_ERR_UNSUPPORTED,
                            "%s: %s: want a whole number or a plain list of them", where, r->key);
        out->v[i] = json_integer_value(e);
        if (out->v[i] < 0 || out->v[i] > (1 << 24))
            return fct_fail(FCT_ERR_RANGE, "%s: %s is %lld", where, r->key, (long long)out->v[i]);
    }
    out->n = (int)n;
    return FCT_OK;
}

static fct_status read_texts(fct_texts *out, const rule *r, const json_t *v, const char *where)
{
    if (!json_is_array(v)) return fct_fail(FCT_ERR_FORMAT, "%s: %s: want a list", where, r->key);
    size_t n = json_array_size(v);
    if (n > FCT_MAX_LEVELS)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s has more than %d entries", where, r->key,
                        FCT_MAX_LEVELS);
    for (size_t i = 0; i < n; i++)
        FCT_TRY(copy_text(out->v[i], sizeof out->v[i], r, json_array_get(v, i), where));
    out->n = (int)n;
    return FCT_OK;
}

static fct_status must_be(const rule *r, const json_t *v, const char *where)
{
    fct_str text = {0};
    fct_status st = fct_json_text(&text, v, 0);
    if (st == FCT_OK && !one_of(text.p, r->values))
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s is %s; facet supports %s", where, r->key, text.p,
                      r->values);
    fct_str_clear(&text);
    return st;
}

static fct_status apply(void *out, const rule *r, const json_t *o, const char *where)
{
    const json_t *v = json_object_get(o, r->key);
    uint8_t *field = (uint8_t *)out + r->at;
    if (!v || json_is_null(v)) {
        if (!r->required) return FCT_OK;
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: %s is not given; facet runs models of the SDXL family", where, r->key);
    }
    switch (r->kind) {
    case READ_I64: {
        int64_t n = 0;
        FCT_TRY(fct_json_i64(&n, o, r->key, 0, where));
        if (n < 0 || n > (1 << 28))
            return fct_fail(FCT_ERR_RANGE, "%s: %s is %lld", where, r->key, (long long)n);
        memcpy(field, &n, sizeof n);
        return FCT_OK;
    }
    case READ_F64: return fct_json_f64((double *)(void *)field, o, r->key, 0, where);
    case READ_BOOL: return fct_json_bool((bool *)(void *)field, o, r->key, false, where);
    case READ_TEXT: return copy_text((char *)field, TEXT_SIZE, r, v, where);
    case READ_INTS: return read_ints((fct_ints *)(void *)field, r, v, where);
    case READ_TEXTS: return read_texts((fct_texts *)(void *)field, r, v, where);
    case MUST_BE: return must_be(r, v, where);
    case INERT: return FCT_OK;
    }
    return FCT_OK;
}

static bool known(const char *key, const rule *rules, size_t n)
{
    if (key[0] == '_') return true; /* _diffusers_version, _name_or_path and the like */
    for (size_t i = 0; i < n; i++)
        if (strcmp(rules[i].key, key) == 0) return true;
    return false;
}

static fct_status read_config(void *out, const char *folder, const char *file, const rule *rules,
                              size_t n, bool warn, const fct_log *log, json_t **out_root)
{
    char *path = NULL;
    json_t *root = NULL, *value;
    const char *key;
    fct_status st = fct_path_join(&path, folder, file);
    if (st == FCT_OK) st = fct_json_read(&root, path);
    if (st == FCT_OK && !json_is_object(root))
        st = fct_fail(FCT_ERR_FORMAT, "%s: want a JSON object", path);
    for (size_t i = 0; st == FCT_OK && i < n; i++) st = apply(out, &rules[i], root, path);
    if (st == FCT_OK)
        json_object_foreach(root, key, value) if (!known(key, rules, n))
            fct_log_line(log, warn ? FCT_LOG_WARN : FCT_LOG_DEBUG,
                         "%s: unknown field \"%s\" is ignored", path, key);
    if (st == FCT_OK && out_root) {
        *out_root = root;
        root = NULL;
    }
    json_decref(root);
    fct_free(path);
    return st;
}

/* ---- components ---- */

static fct_status want_levels(const char *where, const char *key, int have, int want)
{
    if (have == want) return FCT_OK;
    return fct_fail(FCT_ERR_FORMAT, "%s: %s has %d entries, block_out_channels %d", where, key,
                    have, want);
}

static fct_status want_positive(const char *where, const char *key, int64_t v)
{
    return v > 0 ? FCT_OK : fct_fail(FCT_ERR_RANGE, "%s: %s must be positive", where, key);
}

static fct_status check_list(const char *where, const char *key, const fct_ints *list, int n)
{
    if (list->n > 1) FCT_TRY(want_levels(where, key, list->n, n));
    for (int i = 0; i < list->n; i++) FCT_TRY(want_positive(where, key, list->v[i]));
    return FCT_OK;
}

fct_status fct_config_unet(fct_unet_config *c, const char *folder, const fct_log *log)
{
    *c = (fct_unet_config){.in_channels = 4,
                           .out_channels = 4,
                           .flip_sin_to_cos = true,
                           .downsample_padding = 1,
                           .norm_num_groups = 32,
                           .norm_eps = 1e-5,
                           .conv_in_kernel = 3,
                           .conv_out_kernel = 3};
    FCT_TRY(
        read_config(c, folder, "config.json", unet_rules, FCT_COUNT(unet_rules), true, log, NULL));
    int n = c->block_out_channels.n;
    if (n < 1) return fct_fail(FCT_ERR_FORMAT, "%s: block_out_channels is empty", folder);
    FCT_TRY(want_levels(folder, "down_block_types", c->down_block_types.n, n));
    FCT_TRY(want_levels(folder, "up_block_types", c->up_block_types.n, n));
    FCT_TRY(check_list(folder, "block_out_channels", &c->block_out_channels, n));
    FCT_TRY(check_list(folder, "layers_per_block", &c->layers_per_block, n));
    FCT_TRY(check_list(folder, "transformer_layers_per_block", &c->transformer_layers, n));
    FCT_TRY(check_list(folder, "attention_head_dim", &c->heads, n));
    FCT_TRY(check_list(folder, "sample_size", &c->sample_size, 2));
    FCT_TRY(want_positive(folder, "in_channels", c->in_channels));
    FCT_TRY(want_positive(folder, "norm_num_groups", c->norm_num_groups));
    FCT_TRY(want_positive(folder, "cross_attention_dim", c->cross_attention_dim));
    FCT_TRY(want_positive(folder, "addition_time_embed_dim", c->addition_time_embed_dim));
    if (c->downsample_padding > 1)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: downsample_padding is %lld; facet supports 0 and 1", folder,
                        (long long)c->downsample_padding);
    if (c->conv_in_kernel % 2 == 0 || c->conv_out_kernel % 2 == 0)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: conv_in_kernel and conv_out_kernel must be odd",
                        folder);
    if (c->in_channels != c->out_channels)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: in_channels %lld and out_channels %lld differ (an inpainting model?)",
                        folder, (long long)c->in_channels, (long long)c->out_channels);
    return FCT_OK;
}

static fct_status read_stats(double *out, const json_t *v, int64_t n, const char *folder)
{
    if (!json_is_array(v) || (int64_t)json_array_size(v) != n || n > 16)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: latents_mean and latents_std: want lists of %lld numbers", folder,
                        (long long)n);
    for (int64_t i = 0; i < n; i++) out[i] = json_number_value(json_array_get(v, (size_t)i));
    return FCT_OK;
}

fct_status fct_config_vae(fct_vae_config *c, const char *folder, const fct_log *log)
{
    json_t *root = NULL;
    *c = (fct_vae_config){.in_channels = 3,
                          .out_channels = 3,
                          .latent_channels = 4,
                          .layers_per_block = 1,
                          .norm_num_groups = 32,
                          .scaling_factor = 0.18215,
                          .use_quant_conv = true,
                          .use_post_quant_conv = true,
                          .mid_block_add_attention = true};
    FCT_TRY(
        read_config(c, folder, "config.json", vae_rules, FCT_COUNT(vae_rules), true, log, &root));
    const json_t *mean = json_object_get(root, "latents_mean"),
                 *std = json_object_get(root, "latents_std");
    fct_status st = FCT_OK;
    c->has_stats = mean && std && !json_is_null(mean) && !json_is_null(std);
    if (c->has_stats) st = read_stats(c->latents_mean, mean, c->latent_channels, folder);
    if (c->has_stats && st == FCT_OK)
        st = read_stats(c->latents_std, std, c->latent_channels, folder);
    json_decref(root);
    FCT_TRY(st);
    int n = c->block_out_channels.n;
    if (n < 1) return fct_fail(FCT_ERR_FORMAT, "%s: block_out_channels is empty", folder);
    FCT_TRY(want_levels(folder, "down_block_types", c->down_block_types.n, n));
    FCT_TRY(want_levels(folder, "up_block_types", c->up_block_types.n, n));
    FCT_TRY(check_list(folder, "block_out_channels", &c->block_out_channels, n));
    FCT_TRY(want_positive(folder, "norm_num_groups", c->norm_num_groups));
    FCT_TRY(want_positive(folder, "latent_channels", c->latent_channels));
    if (c->in_channels != 3 || c->out_channels != 3)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: pictures have 3 channels", folder);
    if (!(c->scaling_factor != 0))
        return fct_fail(FCT_ERR_RANGE, "%s: scaling_factor is 0", folder);
    return FCT_OK;
}

fct_status fct_config_clip(fct_clip_config *c, const char *folder, const fct_log *log)
{
    clip_raw r = {.projection_dim = 512,
                  .positions = 77,
                  .vocab_size = 49408,
                  .eos = 49407,
                  .eps = 1e-5,
                  .act = "quick_gelu"};
    FCT_TRY(read_config(&r, folder, "config.json", clip_rules, FCT_COUNT(clip_rules), false, log,
                        NULL));
    *c = (fct_clip_config){.hidden_size = r.hidden_size,
                           .intermediate_size = r.intermediate_size,
                           .projection_dim = r.projection_dim,
                           .layers = r.layers,
                           .heads = r.heads,
                           .positions = r.positions,
                           .vocab_size = r.vocab_size,
                           .eos_token_id = r.eos,
                           .eps = r.eps,
                           .act = strcmp(r.act, "gelu") == 0 ? FCT_ACT_GELU : FCT_ACT_QUICK_GELU};
    c->has_projection =
        r.architectures.n > 0 && strcmp(r.architectures.v[0], "CLIPTextModelWithProjection") == 0;
    FCT_TRY(want_positive(folder, "hidden_size", c->hidden_size));
    FCT_TRY(want_positive(folder, "num_hidden_layers", c->layers));
    FCT_TRY(want_positive(folder, "max_position_embeddings", c->positions));
    if (c->heads < 1 || c->hidden_size % c->heads)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: hidden_size %lld is not a multiple of num_attention_heads %lld",
                        folder, (long long)c->hidden_size, (long long)c->heads);
    return FCT_OK;
}

fct_status fct_config_scheduler(fct_scheduler_config *c, const char *folder, const fct_log *log)
{
    scheduler_raw r = {.schedule = "linear",
                       .prediction = "epsilon",
                       .spacing = "linspace",
                       .last = "zero",
                       .train_steps = 1000,
                       .beta_start = 0.0001,
                       .beta_end = 0.02};
    FCT_TRY(read_config(&r, folder, "scheduler_config.json", scheduler_rules,
                        FCT_COUNT(scheduler_rules), true, log, NULL));
    *c = (fct_scheduler_config){.ancestral =
                                    strcmp(r.class_name, "EulerAncestralDiscreteScheduler") == 0,
                                .v_prediction = strcmp(r.prediction, "v_prediction") == 0,
                                .scaled_linear = strcmp(r.schedule, "scaled_linear") == 0,
                                .train_steps = r.train_steps,
                                .steps_offset = r.steps_offset,
                                .beta_start = r.beta_start,
                                .beta_end = r.beta_end};
    memcpy(c->class_name, r.class_name, sizeof c->class_name);
    c->last_sigma_min = !c->ancestral && strcmp(r.last, "sigma_min") == 0;
    c->spacing = strcmp(r.spacing, "trailing") == 0  ? FCT_SPACING_TRAILING
                 : strcmp(r.spacing, "leading") == 0 ? FCT_SPACING_LEADING
                                                     : FCT_SPACING_LINSPACE;
    FCT_TRY(want_positive(folder, "num_train_timesteps", c->train_steps));
    if (!(c->beta_start > 0) || !(c->beta_end < 1) || !(c->beta_start <= c->beta_end))
        return fct_fail(FCT_ERR_RANGE, "%s: beta_start and beta_end: want 0 < start <= end < 1",
                        folder);
    return FCT_OK;
}

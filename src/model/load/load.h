/* load.h - declares how a model's folder is found, its configs read into structs and its weights
   bound to layers by diffusers' names. */
#ifndef FCT_MODEL_LOAD_LOAD_H
#define FCT_MODEL_LOAD_LOAD_H

#include "compute/backend.h"
#include "facet/model.h"

enum { FCT_MAX_LEVELS = 8, FCT_NAME_SIZE = 192 };

/* ---- configs (config.c): every known field is used or checked, see the tables there ---- */

/* One number for every level, or a plain number that stands for all (n == 1). n == 0: absent. */
typedef struct fct_ints {
    int64_t v[FCT_MAX_LEVELS];
    int n;
} fct_ints;
typedef struct fct_texts {
    char v[FCT_MAX_LEVELS][48];
    int n;
} fct_texts;

typedef struct fct_unet_config {
    int64_t in_channels, out_channels, freq_shift, downsample_padding, norm_num_groups;
    int64_t cross_attention_dim, addition_time_embed_dim;
    int64_t add_in; /* projection_class_embeddings_input_dim */
    int64_t conv_in_kernel, conv_out_kernel, time_embedding_dim;
    fct_ints sample_size, block_out_channels, layers_per_block, transformer_layers, heads;
    fct_texts down_block_types, up_block_types;
    char addition_embed_type[48];
    double norm_eps;
    bool flip_sin_to_cos, use_linear_projection;
} fct_unet_config;

typedef struct fct_vae_config {
    int64_t in_channels, out_channels, latent_channels, layers_per_block, norm_num_groups;
    fct_ints block_out_channels, sample_size;
    fct_texts down_block_types, up_block_types;
    double scaling_factor;
    double latents_mean[16], latents_std[16]; /* with has_stats */
    bool has_stats, use_quant_conv, use_post_quant_conv, mid_block_add_attention;
} fct_vae_config;

typedef struct fct_clip_config {
    int64_t hidden_size, intermediate_size, projection_dim, layers, heads, positions, vocab_size,
        eos_token_id;
    double eps;
    fct_act act;
    bool has_projection; /* CLIPTextModelWithProjection */
} fct_clip_config;

typedef enum fct_spacing {
    FCT_SPACING_LINSPACE,
    FCT_SPACING_LEADING,
    FCT_SPACING_TRAILING
} fct_spacing;
typedef struct fct_scheduler_config {
    char class_name[48];
    bool ancestral, v_prediction, scaled_linear, last_sigma_min;
    fct_spacing spacing;
    int64_t train_steps, steps_offset;
    double beta_start, beta_end;
} fct_scheduler_config;

typedef struct fct_index_config { /* model_index.json */
    bool force_zeros, turbo;
    char name[128];
} fct_index_config;

fct_status fct_config_unet(fct_unet_config *out, const char *folder,
                           const fct_log *log) FCT_MUST_CHECK;
fct_status fct_config_vae(fct_vae_config *out, const char *folder,
                          const fct_log *log) FCT_MUST_CHECK;
fct_status fct_config_clip(fct_clip_config *out, const char *folder,
                           const fct_log *log) FCT_MUST_CHECK;
fct_status fct_config_scheduler(fct_scheduler_config *out, const char *folder,
                                const fct_log *log) FCT_MUST_CHECK;
/* `folder` is the model's own: the others are given their component's. model_index.c */
fct_status fct_config_index(fct_index_config *out, const char *folder,
                            const fct_log *log) FCT_MUST_CHECK;

/* The hex hash that names a model's content (hash.c). */
fct_status fct_model_hash(char out[65], const char *folder) FCT_MUST_CHECK;

/* ---- files (weights.c) ---- */

/* The safetensors files of one component, mapped. */
typedef struct fct_weights {
    fct_safetensors *shard;
    int64_t n;
    char *folder;
} fct_weights;
fct_status fct_weights_open(fct_weights *out, const char *folder, const char *stem) FCT_MUST_CHECK;
void fct_weights_close(fct_weights *w);
const fct_tensor *fct_weights_find(const fct_weights *w, const char *name); /* NULL: none */

/* ---- layers (bind.c) ---- */

/* Everything with a name in diffusers is a module with a number, so that a tap costs one branch. */
typedef struct fct_module {
    char *name;
    int32_t block; /* index of the transformer block that it is, or -1 */
    int64_t stage;
} fct_module;
typedef struct fct_modules {
    fct_module *v; /* v[0] is "none" */
    int64_t n, cap;
} fct_modules;
void fct_modules_clear(fct_modules *m);

/* A layer's weights are checked first and packed second, by the same building code run twice: so
   all wrong shapes of a component are named at once. */
typedef struct fct_binder {
    const fct_weights *w;
    const fct_backend *be;
    fct_dtype dtype; /* what products run in */
    bool check;      /* only compare shapes */
    fct_str problems;
    int64_t n_problems;
    fct_modules *modules; /* NULL: its modules cannot be tapped */
    const char *root;     /* "unet": before the dot of every module name */
    int32_t block;        /* transformer block being built, or -1 */
    int64_t stage;
    /* pixels of the map on which the convolutions that come next usually run; 0: not told. From
       some size on they are kept in a second, faster form (fct_pack_desc.map) */
    int64_t map;
} fct_binder;
/* NULL: it is not there or has another shape, and the problem was noted. */
const fct_tensor *fct_bind_want(fct_binder *b, const char *name, int ndim, const int64_t *dim);
fct_status fct_bind_module(fct_binder *b, int32_t *id, const char *name) FCT_MUST_CHECK;
/* Fails with all problems that were noted, if any. */
fct_status fct_bind_report(fct_binder *b, const char *component) FCT_MUST_CHECK;

/* `id` is the layer's module; 0: none. Biases, gammas and betas lie in the device's memory. */
typedef struct fct_linear {
    int32_t id;
    int64_t in, out;
    fct_weight w;
    float *bias;
    const fct_device *device;
} fct_linear;
typedef struct fct_conv {
    int32_t id;
    int64_t in, out, kernel;
    fct_weight w;
    float *bias;
    const fct_device *device;
} fct_conv;
typedef struct fct_norm {
    int32_t id;
    int64_t n, groups; /* groups 0: layer norm */
    float eps;
    float *gamma, *beta;
    const fct_device *device;
} fct_norm;

/* CONV_1X1: the file's weight is [out,in,1,1]. */
enum { FCT_BIAS = 1, FCT_CONV_1X1 = 2 };
fct_status fct_bind_linear(fct_binder *b, fct_linear *l, const char *name, int64_t in, int64_t out,
                           int flags) FCT_MUST_CHECK;
/* Several layers that read the same input, stacked along the outputs: names[n], each `out` wide. */
fct_status fct_bind_stack(fct_binder *b, fct_linear *l, const char *const *names, int n, int64_t in,
                          int64_t out, int flags) FCT_MUST_CHECK;
fct_status fct_bind_conv(fct_binder *b, fct_conv *c, const char *name, int64_t in, int64_t out,
                         int64_t kernel) FCT_MUST_CHECK;
fct_status fct_bind_norm(fct_binder *b, fct_norm *x, const char *name, int64_t n, int64_t groups,
                         double eps) FCT_MUST_CHECK;
void fct_linear_clear(fct_linear *l);
void fct_conv_clear(fct_conv *c);
void fct_norm_clear(fct_norm *x);

#endif

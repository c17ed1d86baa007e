/* model.h - the inward header of model/: what a loaded model is made of, and how a run passes
   through it.

   A network (U-Net, VAE encoder, VAE decoder) is a flat list of stages built from its config.json;
   one runner (fct_stages_run) serves all three. A stage has a name, a kind, weights and a function;
   it maps a feature map [B,H,W,C] to another. `push` keeps its output on the skip stack, `pop`
   joins the top of the stack to its input. Everything with a name in diffusers is a *module* with a
   number (0: none), so that a tap costs one branch. */
#ifndef FCT_MODEL_MODEL_H
#define FCT_MODEL_MODEL_H

#include "compute/backend.h"
#include "facet/model.h"

enum { FCT_MAX_LEVELS = 8, FCT_MAX_SKIPS = 64, FCT_NAME_SIZE = 192 };

/* ---- configs (config.c): every known field is used or checked, see the tables there ---- */
typedef struct fct_ints {
    int64_t v[FCT_MAX_LEVELS];
    int n;
} fct_ints; /* n == 0: absent; a plain number has n == 1 */
typedef struct fct_texts {
    char v[FCT_MAX_LEVELS][48];
    int n;
} fct_texts;

typedef struct fct_unet_config {
    int64_t in_channels, out_channels, freq_shift, downsample_padding, norm_num_groups,
        cross_attention_dim;
    int64_t addition_time_embed_dim, add_in; /* add_in: projection_class_embeddings_input_dim */
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
fct_status fct_config_index(fct_index_config *out, const char *folder,
                            const fct_log *log) FCT_MUST_CHECK;

/* ---- tokenizer (tokenizer.c, clip_text.c, bpe.c) ---- */
typedef struct fct_bpe fct_bpe;
/* vocab: the object of vocab.json; merges: the text of merges.txt; where: their folder, for errors.
 */
fct_status fct_bpe_new(fct_bpe **out, json_t *vocab, const char *merges,
                       const char *where) FCT_MUST_CHECK;
void fct_bpe_close(fct_bpe *b);
int32_t fct_bpe_find(const fct_bpe *b, const char *token); /* -1: not in the vocabulary */
const char *fct_bpe_text(const fct_bpe *b, int32_t id);    /* NULL: no such id */
typedef struct fct_idlist {
    int32_t *v;
    int64_t n, cap;
} fct_idlist; /* release v with fct_free */
fct_status fct_idlist_add(fct_idlist *l, int32_t id) FCT_MUST_CHECK;
/* Appends the ids of one word given as raw bytes (UTF-8, already lower case); unknown pieces become
 * `unknown`. */
fct_status fct_bpe_encode(fct_idlist *out, const fct_bpe *b, const char *word, int64_t n,
                          int32_t unknown) FCT_MUST_CHECK;
/* transformers' BasicTokenizer as the slow CLIPTokenizer uses it: control characters dropped,
   spaces around CJK, NFC, words joined by one space, full lower case. */
fct_status fct_text_clean(fct_str *out, const char *text, int64_t n) FCT_MUST_CHECK;

typedef struct fct_tokenizer fct_tokenizer;
typedef struct fct_tokenizer_desc {
    json_t *vocab, *config, *map; /* vocab.json, tokenizer_config.json, special_tokens_map.json; the
                                     last two may be NULL */
    const char *merges, *where;   /* text of merges.txt; the folder, for errors */
} fct_tokenizer_desc;
fct_status fct_tokenizer_new(fct_tokenizer **out, const fct_tokenizer_desc *d) FCT_MUST_CHECK;
fct_status fct_tokenizer_open(fct_tokenizer **out, const char *folder) FCT_MUST_CHECK;
void fct_tokenizer_close(fct_tokenizer *t);
int64_t fct_tokenizer_length(const fct_tokenizer *t); /* model_max_length */
/* ids[length]: start, text, end, padding. *out_cut (may be NULL): what did not fit, NULL when all
 * did; fct_free. */
fct_status fct_tokenizer_encode(const fct_tokenizer *t, const char *text, int32_t *ids,
                                char **out_cut) FCT_MUST_CHECK;
/* All ids of a text, without start, end, cut or padding. */
fct_status fct_tokenizer_ids(fct_idlist *out, const fct_tokenizer *t,
                             const char *text) FCT_MUST_CHECK;

/* ---- weights (weights.c, bind.c) ---- */
typedef struct fct_weights { /* the safetensors files of one component, mapped */
    fct_st *shard;
    int64_t n;
    char *folder;
} fct_weights;
fct_status fct_weights_open(fct_weights *out, const char *folder, const char *stem) FCT_MUST_CHECK;
void fct_weights_close(fct_weights *w);
const fct_tensor *fct_weights_find(const fct_weights *w, const char *name);

typedef struct fct_module {
    char *name;
    int32_t block;
    int64_t stage;
} fct_module; /* block: index, or -1 */
typedef struct fct_modules {
    fct_module *v;
    int64_t n, cap;
} fct_modules; /* v[0] is "none" */
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
} fct_binder;
const fct_tensor *fct_bind_want(fct_binder *b, const char *name, int ndim,
                                const int64_t *dim); /* NULL: a problem was noted */
fct_status fct_bind_module(fct_binder *b, int32_t *id, const char *name) FCT_MUST_CHECK;
fct_status fct_bind_report(fct_binder *b, const char *component) FCT_MUST_CHECK;

typedef struct fct_linear {
    int32_t id;
    int64_t in, out;
    fct_weight w;
    float *bias;
} fct_linear;
typedef struct fct_conv {
    int32_t id;
    int64_t in, out, kernel;
    fct_weight w;
    float *bias;
} fct_conv;
typedef struct fct_norm {
    int32_t id;
    int64_t n, groups;
    float eps;
    float *gamma, *beta;
} fct_norm; /* groups 0: layer norm */

enum { FCT_BIAS = 1, FCT_CONV_1X1 = 2 }; /* the file's weight is [out,in,1,1] */
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

/* ---- the run (nn.c) ---- */
typedef struct fct_taps { /* resolved: which modules are watched (taps.c) */
    const fct_tap *tap;
    int64_t n, n_modules;
    uint8_t *mask;      /* [n_modules]: bit per fct_tap_what */
    uint8_t *hit;       /* [n, n_modules] */
    int64_t last_stage; /* of all tapped modules; -1: none */
    const fct_modules *modules;
    const fct_block_info *block;
} fct_taps;
fct_status fct_taps_init(fct_taps *t, const fct_tap *tap, int64_t n, const fct_modules *modules,
                         const fct_block_info *block, int64_t n_blocks) FCT_MUST_CHECK;
void fct_taps_clear(fct_taps *t);

typedef struct fct_rt { /* one pass through a network */
    fct_cx cx;
    fct_dtype dtype;      /* of activations */
    const fct_taps *taps; /* NULL: none */
    fct_tap_event event;  /* step, items, guided: what every event carries */
    fct_tensor text;      /* [B,T,C] text states */
    const float *added;   /* [B,add_in]: pooled text and size embeddings, f32 */
    float timestep;
    float *emb;         /* [B,Ct]: silu of the time embedding, f32, filled by the embedding stage */
    int64_t up_h, up_w; /* the size that the next upsampler must reach; 0: twice its input */
} fct_rt;

static inline bool fct_rt_dry(const fct_rt *rt)
{
    return fct_arena_dry(rt->cx.arena);
}
fct_status fct_rt_take(fct_rt *rt, fct_tensor *out, fct_dtype dtype, int ndim,
                       const int64_t *dim) FCT_MUST_CHECK;
/* The same memory seen as [B, H*W, C] and back, or part of it (element offset; NULL stays NULL in a
 * dry run). */
fct_tensor fct_as_tokens(const fct_tensor *map);
fct_tensor fct_at(const fct_tensor *t, int64_t offset);

static inline bool fct_tapped(const fct_rt *rt, int32_t id)
{
    return rt->taps && id > 0 && rt->taps->mask[id] != 0;
}
/* Runs the IN taps of a module; an editing tap gets a copy, so that nobody else's input changes. */
fct_status fct_tap_in(fct_rt *rt, int32_t id, fct_tensor *x) FCT_MUST_CHECK;
/* Runs the OUT and DELTA (y - x) taps. x NULL: DELTA is refused. */
fct_status fct_tap_out(fct_rt *rt, int32_t id, fct_tensor *y, const fct_tensor *x) FCT_MUST_CHECK;
/* Runs one kind of tap on a tensor as it is. */
fct_status fct_tap_fire(fct_rt *rt, int32_t id, fct_tap_what what, fct_tensor *t) FCT_MUST_CHECK;

/* Layers, run fused unless tapped. residual ndim 0: none. y must not be x or residual. */
fct_status fct_linear_run(fct_rt *rt, const fct_linear *l, fct_tensor x, fct_tensor y, fct_act act,
                          fct_tensor residual) FCT_MUST_CHECK;
typedef struct fct_conv_how {
    int64_t stride, pad_lo, pad_hi; /* pad_lo: top and left, pad_hi: bottom and right */
    int64_t up_h, up_w;
    const float *channel_add;
    fct_tensor residual;
} fct_conv_how;
fct_status fct_conv_run(fct_rt *rt, const fct_conv *c, fct_tensor x, fct_tensor y,
                        const fct_conv_how *how) FCT_MUST_CHECK;
fct_status fct_norm_run(fct_rt *rt, const fct_norm *n, fct_tensor x, fct_tensor y,
                        fct_act act) FCT_MUST_CHECK;
fct_status fct_add_run(fct_rt *rt, fct_tensor a, fct_tensor b, fct_tensor y) FCT_MUST_CHECK;

/* ---- blocks ---- */
typedef struct fct_resnet { /* ResnetBlock2D (resnet.c) */
    int32_t id;
    fct_norm norm1, norm2;
    fct_conv conv1, conv2;
    fct_linear time, shortcut; /* out == 0: not there */
} fct_resnet;

typedef struct fct_attn { /* Attention: out(softmax(q k) v) */
    int32_t id, part[3];  /* to_q, to_k, to_v */
    int64_t heads;
    bool cross;    /* keys and values from the text */
    fct_linear in; /* self: q, k, v stacked; cross: q */
    fct_linear kv; /* cross: k and v stacked */
    fct_linear out;
} fct_attn;

typedef struct fct_tblock { /* BasicTransformerBlock */
    int32_t id, ff, net0;
    fct_norm norm1, norm2, norm3;
    fct_attn attn1, attn2;
    fct_linear proj, net2; /* ff.net.0.proj and ff.net.2 */
} fct_tblock;

typedef struct fct_transformer { /* Transformer2DModel (transformer.c) */
    int32_t id;
    fct_norm norm;
    fct_linear proj_in, proj_out;
    fct_tblock *block;
    int64_t n_blocks;
    bool token_projections; /* use_linear_projection: proj_in and proj_out see tokens, else maps */
} fct_transformer;

typedef struct fct_vae_attn {
    fct_norm norm;
    fct_linear qkv, out;
} fct_vae_attn; /* one head as wide as the map */

typedef struct fct_embed { /* time and added conditions (embed.c) */
    int32_t time_id, add_id;
    fct_linear time1, time2, add1, add2;
    int64_t dim; /* of the sinusoid */
    bool flip;
    double shift;
} fct_embed;

typedef struct fct_stage fct_stage;
struct fct_stage {
    char *name;
    fct_status (*run)(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y);
    void (*clear)(void *weights);
    void *weights;
    int64_t in, out;                /* channels; `in` counts the popped skip */
    int64_t stride;                 /* 2: halves; 0: 1 */
    int64_t pad_lo, pad_hi, kernel; /* of convolutions */
    bool up;                        /* doubles, or reaches the skip's size */
    bool push, pop;
    bool f32;   /* writes f32 whatever the activations are */
    bool keeps; /* does not touch the map */
};
typedef struct fct_stages {
    fct_stage *v;
    int64_t n, cap;
} fct_stages;
/* Appends a stage with `size` zeroed bytes of weights; the name is copied. */
fct_status fct_stages_add(fct_stages *list, fct_stage **out, const char *name,
                          int64_t size) FCT_MUST_CHECK;
void fct_stages_clear(fct_stages *list);

typedef struct fct_flow { /* the map on its way, and the skips */
    fct_tensor x;
    void *buffer[2];
    fct_tensor skip[FCT_MAX_SKIPS];
    fct_mark mark[FCT_MAX_SKIPS];
    int n_skips;
} fct_flow;
/* Takes the two buffers that outputs alternate between, for a pass that begins with a map of b*h*w.
 */
fct_status fct_flow_init(fct_flow *f, fct_rt *rt, const fct_stages *list, int64_t b, int64_t h,
                         int64_t w) FCT_MUST_CHECK;
/* Runs stages [from, to). Outputs are checked for NaN and infinity. */
fct_status fct_stages_run(fct_rt *rt, const fct_stages *list, int64_t from, int64_t to,
                          fct_flow *flow) FCT_MUST_CHECK;

fct_status fct_resnet_bind(fct_binder *b, fct_stages *list, const char *name, int64_t in,
                           int64_t out, int64_t temb, int64_t groups, double eps) FCT_MUST_CHECK;
typedef struct fct_transformer_desc {
    int64_t channels, heads, layers, cross, groups;
    bool linear;
} fct_transformer_desc;
fct_status fct_transformer_bind(fct_binder *b, fct_stages *list, const char *name,
                                const fct_transformer_desc *d) FCT_MUST_CHECK;
fct_status fct_embed_bind(fct_binder *b, fct_stages *list, const fct_unet_config *c) FCT_MUST_CHECK;
/* conv_in, downsamplers, upsamplers, conv_out: see fct_stage's fields */
fct_status fct_conv_stage_bind(fct_binder *b, fct_stages *list, const char *name,
                               const char *weight, int64_t in, int64_t out, int64_t kernel,
                               fct_stage **out_stage) FCT_MUST_CHECK;
fct_status fct_norm_stage_bind(fct_binder *b, fct_stages *list, const char *name, int64_t n,
                               int64_t groups, double eps) FCT_MUST_CHECK;
void fct_sinusoid(float *out, float t, int64_t dim, bool flip, double shift);

fct_status fct_unet_build(fct_stages *list, fct_binder *b,
                          const fct_unet_config *c) FCT_MUST_CHECK; /* unet.c */
fct_status fct_vae_build(fct_stages *encoder, fct_stages *decoder, fct_binder *b,
                         const fct_vae_config *c) FCT_MUST_CHECK; /* vae.c */

/* ---- CLIP text (clip.c) ---- */
typedef struct fct_clip fct_clip;
fct_status fct_clip_open(fct_clip **out, const fct_clip_config *c, const char *folder,
                         const fct_backend *be, fct_dtype dtype) FCT_MUST_CHECK;
void fct_clip_close(fct_clip *c);
/* ids [n,T] -> states [n,T,C] (the penultimate layer's output), in the pass's dtype; pooled f32
 * [n,P] or NULL. */
fct_status fct_clip_encode(fct_rt *rt, const fct_clip *c, const int32_t *ids, int64_t n, int64_t t,
                           fct_tensor states, float *pooled) FCT_MUST_CHECK;

/* ---- sampler (sampler.c) ---- */
typedef struct fct_sampler { /* for one number of steps */
    int64_t n;
    float *timestep, *sigma; /* [n], [n+1] */
    float init_sigma;
    bool ancestral, v_prediction;
} fct_sampler;
fct_status fct_sampler_init(fct_sampler *s, const fct_scheduler_config *c,
                            int64_t steps) FCT_MUST_CHECK;
void fct_sampler_clear(fct_sampler *s);
float fct_sampler_input_scale(const fct_sampler *s, int64_t step); /* divide the sample by this */
/* sample [n] in place; noise [n] is read when ancestral. step from 0. */
void fct_sampler_step(const fct_sampler *s, int64_t step, float *sample, const float *output,
                      const float *noise, int64_t n);
/* n normals in torch's order for one randn call of the given dtype. */
void fct_noise_draw(fct_rng *r, float *out, int64_t n, fct_noise_dtype dtype);

/* ---- the model ---- */
struct fct_model {
    fct_model_info info;
    char *path, *name;
    char hash[65], plan[65];
    const fct_log *log;
    const fct_backend *be;
    fct_dtype dtype; /* activations and packed weights of U-Net and text encoders; the VAE is f32 */
    fct_index_config index;
    fct_unet_config unet_config;
    fct_vae_config vae_config;
    fct_clip_config clip_config[2];
    fct_scheduler_config scheduler_config;
    fct_tokenizer *tokenizer[2];
    fct_clip *clip[2];
    fct_stages unet, vae_encoder, vae_decoder;
    fct_modules modules;
    fct_block_info *block;
    int64_t n_blocks;
    bool has_vae;
};
fct_status fct_model_hash(char out[65], const char *folder) FCT_MUST_CHECK; /* hash.c */
/* [B,C,h,w] -> [B,h,w,C] and back, f32. */
void fct_to_nhwc(float *out, const float *in, int64_t b, int64_t c, int64_t h, int64_t w);
void fct_to_nchw(float *out, const float *in, int64_t b, int64_t c, int64_t h, int64_t w);
/* Latents [B,h,w,C] f32 through the decoder into pixels [B,H,W,3]; NULL pixels in a dry run. vae.c
 */
fct_status fct_vae_decode(fct_rt *rt, const fct_model *m, fct_tensor latents,
                          uint8_t *pixels) FCT_MUST_CHECK;

/* ---- saved moments (state.c) ---- */
struct fct_state {
    char key[65]; /* hash of all that made it */
    int64_t step, stage;
    float *latents, *emb, *added;
    int64_t n_latents, n_emb, n_added;
    fct_rng *rng;
    int64_t n_rng;
    fct_tensor text, x, skip[FCT_MAX_SKIPS]; /* owned */
    int n_skips;
    bool x_is_skip; /* x is the newest skip */
};
fct_status fct_tensor_copy(fct_tensor *out, const fct_tensor *t)
    FCT_MUST_CHECK; /* heap; release data with fct_free */

#endif

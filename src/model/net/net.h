/* net.h - declares the U-Net and the VAE as flat lists of stages, with taps that watch or edit any
   named module on the way.

   A network (U-Net, VAE encoder, VAE decoder) is a list of stages built from its config.json; one
   runner (fct_stages_run) serves all three. A stage has a name, weights and a function; it maps a
   feature map [B,H,W,C] to another. `push` keeps its output on the skip stack, `pop` joins the top
   of the stack to its input. */
#ifndef FCT_MODEL_NET_NET_H
#define FCT_MODEL_NET_NET_H

#include "facet/session.h"
#include "model/load/load.h"

enum { FCT_MAX_SKIPS = 64 };

/* ---- one pass (pass.c) ---- */

typedef struct fct_taps fct_taps;

/* Told how long each stage took; fn NULL: nobody asks. */
typedef struct fct_clock {
    void (*fn)(void *user, const char *stage, double seconds);
    void *user;
} fct_clock;

typedef struct fct_rt {
    fct_cx cx;
    fct_dtype dtype;      /* of activations */
    const fct_taps *taps; /* NULL: none */
    fct_tap_event event;  /* step, items, guided: what every event carries */
    fct_tensor text;      /* [B,T,C] text states */
    const float *added;   /* [B,add_in]: pooled text and size embeddings, f32 */
    float timestep;
    float *emb;         /* [B,Ct]: silu of the time embedding, f32, filled by the embedding stage */
    int64_t up_h, up_w; /* the size that the next upsampler must reach; 0: twice its input */
    int64_t stage;      /* the one that runs */
    /* Called behind every transformer block's proj_out, before its delta is tapped; NULL: not. */
    fct_status (*behind_delta)(void *user, int64_t stage, const fct_tensor *x,
                               const fct_tensor *delta);
    void *behind_user;
    fct_clock clock;
    /* host memory: delta of the block that runs first, kept from another run; NULL: none */
    const fct_tensor *given;
} fct_rt;

static inline bool fct_rt_dry(const fct_rt *rt)
{
    return fct_arena_dry(rt->cx.arena);
}
static inline const fct_device *fct_rt_device(const fct_rt *rt)
{
    return rt->cx.be->device;
}
/* Tensors of a pass lie in the device's memory: operations, copies and fct_map_open reach it. */
fct_status fct_rt_take(fct_rt *rt, fct_tensor *out, fct_dtype dtype, int ndim,
                       const int64_t *dim) FCT_MUST_CHECK;
/* From host memory into a tensor of the pass; nothing in a dry run. */
fct_status fct_rt_write(fct_rt *rt, const fct_tensor *to, const void *from) FCT_MUST_CHECK;
/* What lies in host memory, for operations to read: itself where that is the device's, else a copy
   from the arena. */
fct_status fct_rt_bring(fct_rt *rt, fct_tensor *out, const fct_tensor *host) FCT_MUST_CHECK;
/* y = x, between f32 and bf16 too. */
fct_status fct_copy_run(fct_rt *rt, fct_tensor x, fct_tensor y) FCT_MUST_CHECK;
/* A map [B,H,W,C] seen as tokens [B,H*W,C]: the same memory. */
fct_tensor fct_as_tokens(const fct_tensor *map);
/* Part of a tensor's memory, from an element on; NULL stays NULL in a dry run. */
fct_tensor fct_at(const fct_tensor *t, int64_t offset);

/* ---- taps (taps.c) ---- */

/* Which modules are watched: names and globs resolved before the run. */
struct fct_taps {
    const fct_tap *tap;
    int64_t n, n_modules;
    uint8_t *mask;      /* [n_modules]: bit per fct_tap_what */
    uint8_t *hit;       /* [n, n_modules] */
    int64_t last_stage; /* of all tapped modules; -1: none */
    const fct_modules *modules;
    const fct_block_info *block;
};
fct_status fct_taps_init(fct_taps *t, const fct_tap *tap, int64_t n, const fct_modules *modules,
                         const fct_block_info *block, int64_t n_blocks) FCT_MUST_CHECK;
void fct_taps_clear(fct_taps *t);

static inline int64_t fct_tap_first(const fct_tap *tap)
{
    return tap->first_step ? tap->first_step : 1;
}
static inline bool fct_tapped(const fct_rt *rt, int32_t id)
{
    return rt->taps && id > 0 && rt->taps->mask[id] != 0;
}
/* The memory of the value that taps are shown, and its copy for the host (NULL: not asked for). */
struct fct_tap_memory {
    const fct_backend *be;
    fct_tensor value;
    float *copy;
};
/* What computes the run, for those who compute with a tap's rows; NULL: not told (the default). */
static inline const fct_backend *fct_tap_backend(const fct_tap_event *event)
{
    return event->memory ? event->memory->be : NULL;
}

/* Runs the IN taps of a module; an editing tap gets a copy, so that nobody else's input changes. */
fct_status fct_tap_in(fct_rt *rt, int32_t id, fct_tensor *x) FCT_MUST_CHECK;
/* Runs the OUT and DELTA (y - x) taps. */
fct_status fct_tap_out(fct_rt *rt, int32_t id, fct_tensor *y, const fct_tensor *x) FCT_MUST_CHECK;
/* Runs one kind of tap on a tensor as it is. */
fct_status fct_tap_fire(fct_rt *rt, int32_t id, fct_tap_what what, fct_tensor *t) FCT_MUST_CHECK;

/* ---- layers (nn.c), run fused unless tapped ---- */

/* residual ndim 0: none. y must not be x or residual. */
fct_status fct_linear_run(fct_rt *rt, const fct_linear *l, fct_tensor x, fct_tensor y, fct_act act,
                          fct_tensor residual) FCT_MUST_CHECK;
typedef struct fct_conv_how {
    int64_t stride;
    int64_t pad_lo; /* top and left */
    int64_t pad_hi; /* bottom and right */
    int64_t up_h, up_w;
    const float *channel_add;
    fct_tensor residual;
} fct_conv_how;
fct_status fct_conv_run(fct_rt *rt, const fct_conv *c, fct_tensor x, fct_tensor y,
                        const fct_conv_how *how) FCT_MUST_CHECK;
fct_status fct_norm_run(fct_rt *rt, const fct_norm *n, fct_tensor x, fct_tensor y,
                        fct_act act) FCT_MUST_CHECK;
fct_status fct_add_run(fct_rt *rt, fct_tensor a, fct_tensor b, fct_tensor y) FCT_MUST_CHECK;

/* ---- stages (stages.c) ---- */

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

/* The map on its way, and the skips. */
typedef struct fct_flow {
    fct_tensor x;
    void *buffer[2];
    fct_tensor skip[FCT_MAX_SKIPS];
    fct_mark mark[FCT_MAX_SKIPS];
    int n_skips;
} fct_flow;
/* Takes the two buffers that outputs alternate between, for a pass that begins with a map of
   b*h*w. */
fct_status fct_flow_init(fct_flow *f, fct_rt *rt, const fct_stages *list, int64_t b, int64_t h,
                         int64_t w) FCT_MUST_CHECK;
/* Runs stages [from, to). Outputs are checked for NaN and infinity. */
fct_status fct_stages_run(fct_rt *rt, const fct_stages *list, int64_t from, int64_t to,
                          fct_flow *flow) FCT_MUST_CHECK;

/* ---- blocks: each appends its stage to a list ---- */

typedef struct fct_resnet { /* ResnetBlock2D (resnet.c) */
    int32_t id;
    fct_norm norm1, norm2;
    fct_conv conv1, conv2;
    fct_linear time, shortcut; /* out == 0: not there */
} fct_resnet;
fct_status fct_resnet_bind(fct_binder *b, fct_stages *list, const char *name, int64_t in,
                           int64_t out, int64_t temb, int64_t groups, double eps) FCT_MUST_CHECK;
/* conv_in, downsamplers, upsamplers, conv_out: see fct_stage's fields. */
fct_status fct_conv_stage_bind(fct_binder *b, fct_stages *list, const char *name,
                               const char *weight, int64_t in, int64_t out, int64_t kernel,
                               fct_stage **out_stage) FCT_MUST_CHECK;
fct_status fct_norm_stage_bind(fct_binder *b, fct_stages *list, const char *name, int64_t n,
                               int64_t groups, double eps) FCT_MUST_CHECK;

typedef struct fct_attn { /* Attention: out(softmax(q k) v) */
    int32_t id, part[3];  /* part: to_q, to_k, to_v */
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
typedef struct fct_transformer_desc {
    int64_t channels, heads, layers, cross, groups;
    bool linear;
} fct_transformer_desc;
fct_status fct_transformer_bind(fct_binder *b, fct_stages *list, const char *name,
                                const fct_transformer_desc *d) FCT_MUST_CHECK;

typedef struct fct_embed { /* time and added conditions (embed.c) */
    int32_t time_id, add_id;
    fct_linear time1, time2, add1, add2;
    int64_t dim; /* of the sinusoid */
    bool flip;
    double shift;
} fct_embed;
fct_status fct_embed_bind(fct_binder *b, fct_stages *list, const fct_unet_config *c) FCT_MUST_CHECK;
void fct_sinusoid(float *out, float t, int64_t dim, bool flip, double shift);

/* ---- networks ---- */

/* unet.c */
/* Width of the time embedding that a U-Net's stage 0 makes (embed.c). */
int64_t fct_unet_emb_width(const fct_stages *unet);
fct_status fct_unet_build(fct_stages *list, fct_binder *b, const fct_unet_config *c) FCT_MUST_CHECK;

/* The autoencoder between pictures and latents (vae.c). */
typedef struct fct_vae {
    fct_vae_config config;
    fct_stages encoder, decoder;
} fct_vae;
/* From v->config. cells: of the latents that are usually decoded, for the decoder's convolutions
   to be packed for; 0: not told. */
fct_status fct_vae_build(fct_vae *v, fct_binder *b, int64_t cells) FCT_MUST_CHECK;
/* Releases the stages; the config stays. */
void fct_vae_clear(fct_vae *v);
int64_t fct_vae_factor(const fct_vae *v); /* pixels per latent cell */
/* Latents [B,h,w,C] f32 through the decoder into pixels [B,H,W,3] in host memory; NULL pixels in a
   dry run. */
fct_status fct_vae_decode(fct_rt *rt, const fct_vae *v, fct_tensor latents,
                          uint8_t *pixels) FCT_MUST_CHECK;
/* One picture [height,width,3] into latents [C,h,w], both in host memory: the distribution's mean
   times the scaling factor. Both NULL in a dry run. */
fct_status fct_vae_encode(fct_rt *rt, const fct_vae *v, const uint8_t *pixels, int64_t width,
                          int64_t height, float *latents) FCT_MUST_CHECK;
/* [B,C,h,w] -> [B,h,w,C] and back, f32, in host memory. */
void fct_to_nhwc(float *out, const float *in, int64_t b, int64_t c, int64_t h, int64_t w);
void fct_to_nchw(float *out, const float *in, int64_t b, int64_t c, int64_t h, int64_t w);
/* Latents [B,C,h,w] in host memory into x [B,h,w,C] of the pass. */
fct_status fct_latents_write(fct_rt *rt, const fct_tensor *x, const float *latents) FCT_MUST_CHECK;

#endif

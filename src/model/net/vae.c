/* vae.c - builds the encoder and the decoder of AutoencoderKL as lists of stages, and turns pixels
   into latents and back. Always f32: real SDXL weights overflow f16 here, which is how pictures
   turn black. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/net/net.h"

static const double vae_eps = 1e-6; /* diffusers fixes it */

/* ---- the attention in the middle: one head as wide as the map ---- */

typedef struct vae_attn {
    fct_norm norm;
    fct_linear qkv, out;
} vae_attn;

static void vae_attn_clear(void *weights)
{
    vae_attn *a = weights;
    fct_norm_clear(&a->norm);
    fct_linear_clear(&a->qkv);
    fct_linear_clear(&a->out);
}

static fct_status vae_attn_run(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y)
{
    const vae_attn *a = s->weights;
    int64_t b = x.dim[0], t = x.dim[1] * x.dim[2], c = s->out;
    fct_tensor normed, qkv, mixed;
    FCT_TRY(fct_rt_take(rt, &normed, rt->dtype, 4, x.dim));
    FCT_TRY(fct_norm_run(rt, &a->norm, x, normed, FCT_ACT_NONE));
    normed = fct_as_tokens(&normed);
    FCT_TRY(fct_rt_take(rt, &qkv, rt->dtype, 3, (int64_t[]){b, t, 3 * c}));
    FCT_TRY(fct_linear_run(rt, &a->qkv, normed, qkv, FCT_ACT_NONE, (fct_tensor){0}));
    FCT_TRY(fct_rt_take(rt, &mixed, rt->dtype, 3, (int64_t[]){b, t, c}));
    fct_attention_args args = {.q = fct_at(&qkv, 0),
                               .k = fct_at(&qkv, c),
                               .v = fct_at(&qkv, 2 * c),
                               .y = mixed,
                               .heads = 1,
                               .q_stride = 3 * c,
                               .k_stride = 3 * c,
                               .v_stride = 3 * c};
    args.q.dim[2] = args.k.dim[2] = args.v.dim[2] = c;
    FCT_TRY(fct_op_attention(&rt->cx, &args));
    return fct_linear_run(rt, &a->out, mixed, fct_as_tokens(&y), FCT_ACT_NONE, fct_as_tokens(&x));
}

/* Old files call the parts query, key, value and proj_attn. */
static fct_status add_attention(fct_binder *b, fct_stages *list, const char *name, int64_t c,
                                int64_t groups)
{
    static const char *const part[2][4] = {{"to_q", "to_k", "to_v", "to_out.0"},
                                           {"query", "key", "value", "proj_attn"}};
    fct_stage *s = NULL;
    char n[5][FCT_NAME_SIZE];
    FCT_TRY(fct_stages_add(list, &s, name, sizeof(vae_attn)));
    vae_attn *a = s->weights;
    s->run = vae_attn_run;
    s->clear = vae_attn_clear;
    s->in = s->out = c;
    snprintf(n[4], sizeof n[4], "%.128s.query.weight", name);
    const fct_tensor *old = fct_weights_find(b->w, n[4]);
    int flags = FCT_BIAS | (old && old->ndim == 4 ? FCT_CONV_1X1 : 0);
    for (int i = 0; i < 4; i++)
        snprintf(n[i], sizeof n[i], "%.128s.%s", name, part[old ? 1 : 0][i]);
    const char *const qkv[3] = {n[0], n[1], n[2]};
    FCT_TRY(fct_bind_stack(b, &a->qkv, qkv, 3, c, c, flags));
    FCT_TRY(fct_bind_linear(b, &a->out, n[3], c, c, flags));
    snprintf(n[4], sizeof n[4], "%.128s.group_norm", name);
    return fct_bind_norm(b, &a->norm, n[4], c, groups, vae_eps);
}

/* ---- building ---- */

static fct_status add_resnet(fct_binder *b, fct_stages *list, const fct_vae_config *c,
                             const char *name, int64_t in, int64_t out)
{
    return fct_resnet_bind(b, list, name, in, out, 0, c->norm_num_groups, vae_eps);
}

static fct_status add_conv(fct_binder *b, fct_stages *list, const char *name, int64_t in,
                           int64_t out, int64_t kernel, fct_stage **s)
{
    return fct_conv_stage_bind(b, list, name, name, in, out, kernel, s);
}

static fct_status mid_block(fct_binder *b, fct_stages *list, const fct_vae_config *c,
                            const char *half, int64_t ch)
{
    char n[FCT_NAME_SIZE];
    snprintf(n, sizeof n, "%s.mid_block.resnets.0", half);
    FCT_TRY(add_resnet(b, list, c, n, ch, ch));
    snprintf(n, sizeof n, "%s.mid_block.attentions.0", half);
    if (c->mid_block_add_attention) FCT_TRY(add_attention(b, list, n, ch, c->norm_num_groups));
    snprintf(n, sizeof n, "%s.mid_block.resnets.1", half);
    return add_resnet(b, list, c, n, ch, ch);
}

static fct_status build_encoder(fct_stages *list, fct_binder *b, const fct_vae_config *c)
{
    int n = c->block_out_channels.n;
    const int64_t *w = c->block_out_channels.v;
    char name[FCT_NAME_SIZE];
    fct_stage *s = NULL;
    FCT_TRY(add_conv(b, list, "encoder.conv_in", c->in_channels, w[0], 3, &s));
    for (int i = 0; i < n; i++) {
        for (int64_t k = 0; k < c->layers_per_block; k++) {
            snprintf(name, sizeof name, "encoder.down_blocks.%d.resnets.%lld", i, (long long)k);
            FCT_TRY(add_resnet(b, list, c, name, k ? w[i] : w[i ? i - 1 : 0], w[i]));
        }
        if (i == n - 1) break;
        snprintf(name, sizeof name, "encoder.down_blocks.%d.downsamplers.0.conv", i);
        FCT_TRY(add_conv(b, list, name, w[i], w[i], 3, &s));
        s->stride = 2;
        s->pad_lo = 0; /* right and bottom only, or the picture shifts by half a pixel */
        s->pad_hi = 1;
    }
    FCT_TRY(mid_block(b, list, c, "encoder", w[n - 1]));
    FCT_TRY(fct_norm_stage_bind(b, list, "encoder.conv_norm_out", w[n - 1], c->norm_num_groups,
                                vae_eps));
    FCT_TRY(add_conv(b, list, "encoder.conv_out", w[n - 1], 2 * c->latent_channels, 3, &s));
    if (c->use_quant_conv)
        FCT_TRY(
            add_conv(b, list, "quant_conv", 2 * c->latent_channels, 2 * c->latent_channels, 1, &s));
    return FCT_OK;
}

/* b->map follows the map, which every upsampler doubles. */
static fct_status build_decoder(fct_stages *list, fct_binder *b, const fct_vae_config *c)
{
    int n = c->block_out_channels.n;
    const int64_t *w = c->block_out_channels.v;
    int64_t ch = w[n - 1];
    char name[FCT_NAME_SIZE];
    fct_stage *s = NULL;
    if (c->use_post_quant_conv)
        FCT_TRY(
            add_conv(b, list, "post_quant_conv", c->latent_channels, c->latent_channels, 1, &s));
    FCT_TRY(add_conv(b, list, "decoder.conv_in", c->latent_channels, ch, 3, &s));
    FCT_TRY(mid_block(b, list, c, "decoder", ch));
    for (int i = 0; i < n; i++) {
        int64_t out = w[n - 1 - i];
        for (int64_t k = 0; k < c->layers_per_block + 1; k++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%lld", i, (long long)k);
            FCT_TRY(add_resnet(b, list, c, name, ch, out));
            ch = out;
        }
        if (i == n - 1) break;
        b->map *= 4;
        snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        FCT_TRY(add_conv(b, list, name, ch, ch, 3, &s));
        s->up = true;
    }
    FCT_TRY(fct_norm_stage_bind(b, list, "decoder.conv_norm_out", ch, c->norm_num_groups, vae_eps));
    return add_conv(b, list, "decoder.conv_out", ch, c->out_channels, 3, &s);
}

/* Pictures are decoded all the time and encoded now and then: the encoder's convolutions are not
   worth the memory of a second form. */
fct_status fct_vae_build(fct_vae *v, fct_binder *b, int64_t cells)
{
    b->map = 0;
    FCT_TRY(build_encoder(&v->encoder, b, &v->config));
    b->map = cells;
    fct_status st = build_decoder(&v->decoder, b, &v->config);
    b->map = 0;
    return st;
}

void fct_vae_clear(fct_vae *v)
{
    fct_stages_clear(&v->encoder);
    fct_stages_clear(&v->decoder);
}

int64_t fct_vae_factor(const fct_vae *v)
{
    return (int64_t)1 << (v->config.block_out_channels.n - 1);
}

/* ---- pixels and latents ---- */

void fct_to_nhwc(float *out, const float *in, int64_t b, int64_t c, int64_t h, int64_t w)
{
    int64_t n = h * w;
    for (int64_t i = 0; i < b; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < n; p++) out[(i * n + p) * c + k] = in[(i * c + k) * n + p];
}

void fct_to_nchw(float *out, const float *in, int64_t b, int64_t c, int64_t h, int64_t w)
{
    int64_t n = h * w;
    for (int64_t i = 0; i < b; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < n; p++) out[(i * c + k) * n + p] = in[(i * n + p) * c + k];
}

fct_status fct_latents_write(fct_rt *rt, const fct_tensor *x, const float *latents)
{
    fct_map to;
    FCT_TRY(fct_map_open(&to, fct_rt_device(rt), x, FCT_MAP_WRITE));
    fct_to_nhwc(to.data, latents, x->dim[0], x->dim[3], x->dim[1], x->dim[2]);
    return fct_map_close(&to);
}

/* (x/2 + 0.5) in [0,1], times 255, to the nearest even. */
static uint8_t to_byte(float x)
{
    float v = x / 2 + 0.5f;
    v = v < 0 ? 0 : v > 1 ? 1 : v;
    return (uint8_t)rintf(v * 255);
}

/* x [1,h,w,C] = latents / scale, with the file's statistics where it has them. */
static fct_status unscale(fct_rt *rt, const fct_vae_config *c, const fct_tensor *latents,
                          const fct_tensor *x)
{
    fct_map from, to;
    FCT_TRY(fct_map_open(&from, fct_rt_device(rt), latents, FCT_MAP_READ));
    fct_status st = fct_map_open(&to, fct_rt_device(rt), x, FCT_MAP_WRITE);
    const float *z = from.data;
    float *v = to.data;
    for (int64_t i = 0; st == FCT_OK && v && i < fct_tensor_count(x); i++) {
        int64_t k = i % c->latent_channels;
        v[i] = c->has_stats ? z[i] * (float)c->latents_std[k] / (float)c->scaling_factor +
                                  (float)c->latents_mean[k]
                            : z[i] / (float)c->scaling_factor;
    }
    fct_map_drop(&from);
    return st == FCT_OK ? fct_map_close(&to) : st;
}

static fct_status write_pixels(fct_rt *rt, const fct_tensor *picture, uint8_t *pixels)
{
    fct_map from;
    int64_t channels = picture->dim[3], n = fct_tensor_count(picture) / channels;
    if (!pixels) return FCT_OK;
    FCT_TRY(fct_map_open(&from, fct_rt_device(rt), picture, FCT_MAP_READ));
    const float *y = from.data;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < 3; k++)
            pixels[3 * i + k] = to_byte(y[i * channels + (channels == 3 ? k : 0)]);
    return fct_map_close(&from);
}

/* latents [1,h,w,C] */
static fct_status decode_one(fct_rt *rt, const fct_vae *vae, const fct_tensor *latents,
                             uint8_t *pixels)
{
    int64_t h = latents->dim[1], w = latents->dim[2];
    fct_flow flow;
    fct_tensor x;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &x, FCT_F32, 4, latents->dim));
    FCT_TRY(unscale(rt, &vae->config, latents, &x));
    FCT_TRY(fct_flow_init(&flow, rt, &vae->decoder, 1, h, w));
    flow.x = x;
    FCT_TRY(fct_stages_run(rt, &vae->decoder, 0, vae->decoder.n, &flow));
    FCT_TRY(write_pixels(rt, &flow.x, pixels));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

/* Picture by picture: the decoder's maps are the largest of a run,
   and nothing is gained by a batch. */
fct_status fct_vae_decode(fct_rt *rt, const fct_vae *v, fct_tensor latents, uint8_t *pixels)
{
    int64_t h = latents.dim[1], w = latents.dim[2], f = fct_vae_factor(v);
    fct_rt pass = {.cx = rt->cx, .dtype = FCT_F32};
    for (int64_t i = 0; i < latents.dim[0]; i++) {
        fct_tensor one = fct_at(&latents, i * h * w * latents.dim[3]);
        one.dim[0] = 1;
        fct_status st =
            decode_one(&pass, v, &one, pixels ? pixels + i * h * f * w * f * 3 : NULL);
        if (st != FCT_OK) return fct_where(st, "vae");
    }
    return FCT_OK;
}

/* Bytes to [-1,1]. */
static fct_status read_pixels(fct_rt *rt, const uint8_t *pixels, const fct_tensor *x)
{
    fct_map to;
    int64_t channels = x->dim[3];
    FCT_TRY(fct_map_open(&to, fct_rt_device(rt), x, FCT_MAP_WRITE));
    float *v = to.data;
    for (int64_t i = 0; v && i < fct_tensor_count(x); i++)
        v[i] = 2 * ((float)pixels[i / channels * 3 + i % channels] / 255) - 1;
    return fct_map_close(&to);
}

/* Means, which are the first half of the channels, times the scale. moments [1,h,w,2C] */
static fct_status write_means(fct_rt *rt, const fct_vae_config *c, const fct_tensor *moments,
                              float *latents)
{
    fct_map from;
    int64_t n = moments->dim[1] * moments->dim[2], lc = c->latent_channels;
    FCT_TRY(fct_map_open(&from, fct_rt_device(rt), moments, FCT_MAP_READ));
    const float *y = from.data;
    for (int64_t k = 0; y && k < lc; k++)
        for (int64_t p = 0; p < n; p++) {
            float mean = y[p * 2 * lc + k];
            latents[k * n + p] = c->has_stats
                                     ? (mean - (float)c->latents_mean[k]) *
                                           (float)c->scaling_factor / (float)c->latents_std[k]
                                     : mean * (float)c->scaling_factor;
        }
    return fct_map_close(&from);
}

static fct_status encode_one(fct_rt *rt, const fct_vae *vae, const uint8_t *pixels, int64_t width,
                             int64_t height, float *latents)
{
    fct_tensor x;
    fct_flow flow;
    FCT_TRY(fct_rt_take(rt, &x, FCT_F32, 4,
                        (int64_t[]){1, height, width, vae->config.in_channels}));
    FCT_TRY(read_pixels(rt, pixels, &x));
    FCT_TRY(fct_flow_init(&flow, rt, &vae->encoder, 1, height, width));
    flow.x = x;
    FCT_TRY(fct_stages_run(rt, &vae->encoder, 0, vae->encoder.n, &flow));
    return write_means(rt, &vae->config, &flow.x, latents);
}

fct_status fct_vae_encode(fct_rt *rt, const fct_vae *v, const uint8_t *pixels, int64_t width,
                          int64_t height, float *latents)
{
    fct_rt pass = {.cx = rt->cx, .dtype = FCT_F32};
    return fct_where(encode_one(&pass, v, pixels, width, height, latents), "vae");
}

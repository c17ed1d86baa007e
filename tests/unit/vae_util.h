/* vae_util.h - an AutoencoderKL with random weights on disk, of any width: config.json and
   diffusion_pytorch_model.safetensors in a folder. */
#ifndef FCT_TEST_VAE_UTIL_H
#define FCT_TEST_VAE_UTIL_H

#include <math.h>
#include <stdio.h>

#include "tensor/tensor.h"

enum { VAE_TENSORS = 512 };

typedef struct vae_spec {
    int64_t channels[4];
    int levels;
    int64_t layers; /* layers_per_block */
    fct_dtype dtype;
} vae_spec;

typedef struct vae_writer {
    fct_tensor_entry e[VAE_TENSORS];
    int64_t n;
    fct_dtype dtype;
    fct_rng rng;
    fct_status st;
} vae_writer;

/* Normals of a deviation that keeps the size of what flows through; around `mean`. */
static inline void vae_add(vae_writer *w, const char *name, const char *what, int ndim,
                           const int64_t *dim, float mean)
{
    fct_tensor_entry *e = &w->e[w->n];
    float *x = NULL;
    int64_t inputs = 1;
    if (w->st != FCT_OK || w->n == VAE_TENSORS) {
        if (w->st == FCT_OK) w->st = fct_fail(FCT_ERR_INTERNAL, "too many tensors");
        return;
    }
    for (int i = 1; i < ndim; i++) inputs *= dim[i];
    float scale = ndim > 1 ? 1 / sqrtf((float)inputs) : 0.1f;
    w->st = fct_format(&e->name, "%s.%s", name, what);
    if (w->st != FCT_OK) return;
    w->n++;
    e->t = fct_tensor_of(NULL, w->dtype, ndim, dim);
    int64_t n = fct_tensor_count(&e->t);
    w->st = fct_new(&x, n, (int64_t)sizeof *x);
    if (w->st == FCT_OK) fct_rng_normal(&w->rng, x, n);
    for (int64_t i = 0; w->st == FCT_OK && i < n; i++) x[i] = x[i] * scale + mean;
    if (w->st == FCT_OK) w->st = fct_new(&e->t.data, fct_tensor_bytes(&e->t), 1);
    if (w->st == FCT_OK) w->st = fct_convert(e->t.data, w->dtype, x, FCT_F32, n);
    fct_free(x);
}

static inline void vae_conv(vae_writer *w, const char *name, int64_t in, int64_t out,
                            int64_t kernel)
{
    vae_add(w, name, "weight", 4, (int64_t[]){out, in, kernel, kernel}, 0);
    vae_add(w, name, "bias", 1, &out, 0);
}

static inline void vae_norm(vae_writer *w, const char *name, int64_t n)
{
    vae_add(w, name, "weight", 1, &n, 1);
    vae_add(w, name, "bias", 1, &n, 0);
}

static inline void vae_resnet(vae_writer *w, const char *name, int64_t in, int64_t out)
{
    char part[128];
#define VAE_PART(which) (snprintf(part, sizeof part, "%s.%s", name, which), part)
    vae_norm(w, VAE_PART("norm1"), in);
    vae_conv(w, VAE_PART("conv1"), in, out, 3);
    vae_norm(w, VAE_PART("norm2"), out);
    vae_conv(w, VAE_PART("conv2"), out, out, 3);
    if (in != out) vae_conv(w, VAE_PART("conv_shortcut"), in, out, 1);
}

static inline void vae_middle(vae_writer *w, const char *half, int64_t c)
{
    static const char *const linear[] = {"to_q", "to_k", "to_v", "to_out.0"};
    char part[128];
    for (int i = 0; i < 2; i++) {
        snprintf(part, sizeof part, "%s.mid_block.resnets.%d", half, i);
        vae_resnet(w, part, c, c);
    }
    snprintf(part, sizeof part, "%s.mid_block.attentions.0.group_norm", half);
    vae_norm(w, part, c);
    for (int i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s.mid_block.attentions.0.%s", half, linear[i]);
        vae_add(w, part, "weight", 2, (int64_t[]){c, c}, 0);
        vae_add(w, part, "bias", 1, &c, 0);
    }
}

static inline void vae_encoder(vae_writer *w, const vae_spec *s)
{
    char part[128];
    const int64_t *c = s->channels;
    vae_conv(w, "encoder.conv_in", 3, c[0], 3);
    for (int i = 0; i < s->levels; i++) {
        for (int64_t k = 0; k < s->layers; k++) {
            snprintf(part, sizeof part, "encoder.down_blocks.%d.resnets.%d", i, (int)k);
            vae_resnet(w, part, k ? c[i] : c[i ? i - 1 : 0], c[i]);
        }
        snprintf(part, sizeof part, "encoder.down_blocks.%d.downsamplers.0.conv", i);
        if (i < s->levels - 1) vae_conv(w, part, c[i], c[i], 3);
    }
    vae_middle(w, "encoder", c[s->levels - 1]);
    vae_norm(w, "encoder.conv_norm_out", c[s->levels - 1]);
    vae_conv(w, "encoder.conv_out", c[s->levels - 1], 8, 3);
    vae_conv(w, "quant_conv", 8, 8, 1);
}

static inline void vae_decoder(vae_writer *w, const vae_spec *s)
{
    char part[128];
    int64_t c = s->channels[s->levels - 1];
    vae_conv(w, "post_quant_conv", 4, 4, 1);
    vae_conv(w, "decoder.conv_in", 4, c, 3);
    vae_middle(w, "decoder", c);
    for (int i = 0; i < s->levels; i++) {
        int64_t out = s->channels[s->levels - 1 - i];
        for (int64_t k = 0; k < s->layers + 1; k++, c = out) {
            snprintf(part, sizeof part, "decoder.up_blocks.%d.resnets.%d", i, (int)k);
            vae_resnet(w, part, c, out);
        }
        snprintf(part, sizeof part, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        if (i < s->levels - 1) vae_conv(w, part, c, c, 3);
    }
    vae_norm(w, "decoder.conv_norm_out", c);
    vae_conv(w, "decoder.conv_out", c, 3, 3);
}

static inline fct_status vae_write_config(const char *folder, const vae_spec *s)
{
    char *path = NULL;
    json_t *channels = json_array(), *down = json_array(), *up = json_array();
    for (int i = 0; i < s->levels; i++) {
        json_array_append_new(channels, json_integer(s->channels[i]));
        json_array_append_new(down, json_string("DownEncoderBlock2D"));
        json_array_append_new(up, json_string("UpDecoderBlock2D"));
    }
    json_t *root = json_pack("{s:s, s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:f}", "_class_name",
                             "AutoencoderKL", "in_channels", 3, "out_channels", 3,
                             "latent_channels", 4, "layers_per_block", (int)s->layers,
                             "block_out_channels", channels, "down_block_types", down,
                             "up_block_types", up, "scaling_factor", 0.13025);
    fct_status st = fct_path_join(&path, folder, "config.json");
    if (st == FCT_OK) st = fct_json_write(root, path);
    fct_free(path);
    json_decref(root);
    return st;
}

static inline fct_status vae_write(const char *folder, const vae_spec *s)
{
    vae_writer *w = NULL;
    char *path = NULL;
    FCT_TRY(fct_dir_make(folder));
    FCT_TRY(vae_write_config(folder, s));
    FCT_TRY(fct_path_join(&path, folder, "diffusion_pytorch_model.safetensors"));
    fct_status st = fct_new(&w, 1, (int64_t)sizeof *w);
    if (st == FCT_OK) {
        w->dtype = s->dtype;
        fct_rng_init(&w->rng, 1);
        vae_encoder(w, s);
        vae_decoder(w, s);
        st = w->st;
        if (st == FCT_OK) st = fct_safetensors_write(path, w->e, w->n, NULL);
        for (int64_t i = 0; i < w->n; i++) {
            fct_free(w->e[i].name);
            fct_free(w->e[i].t.data);
        }
    }
    fct_free(w);
    fct_free(path);
    return st;
}

#endif

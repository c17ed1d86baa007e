/* unet.c - builds UNet2DConditionModel as a flat list of stages, from its config. The order is
   diffusers' forward(): embeddings, conv_in, the down blocks (every output kept as a skip), the
   middle, the up blocks (each residual block joins one skip, last in first out), conv_out. */
#include <stdio.h>
#include <string.h>

#include "model/net/net.h"

typedef struct builder {
    fct_stages *list;
    fct_binder *b;
    const fct_unet_config *c;
    int64_t temb;
    int32_t n_blocks;
    char name[FCT_NAME_SIZE];
} builder;

/* A list with one entry for every level, or a plain number that stands for all. */
static int64_t level(const fct_ints *list, int i, int64_t absent)
{
    return list->n == 0 ? absent : list->v[list->n == 1 ? 0 : i];
}

static fct_stage *last(const builder *w)
{
    return &w->list->v[w->list->n - 1];
}

static fct_status add_resnet(builder *w, int64_t in, int64_t out)
{
    w->b->stage = w->list->n;
    return fct_resnet_bind(w->b, w->list, w->name, in, out, w->temb, w->c->norm_num_groups,
                           w->c->norm_eps);
}

static fct_status add_attention(builder *w, int64_t channels, int lvl)
{
    fct_transformer_desc d = {.channels = channels,
                              .heads = level(&w->c->heads, lvl, 8),
                              .cross = w->c->cross_attention_dim,
                              .layers = level(&w->c->transformer_layers, lvl, 1),
                              .groups = w->c->norm_num_groups,
                              .linear = w->c->use_linear_projection};
    if (d.heads < 1 || channels % d.heads)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "attention_head_dim: %lld channels do not make %lld heads",
                        (long long)channels, (long long)d.heads);
    w->b->stage = w->list->n;
    w->b->block = w->n_blocks++;
    return fct_transformer_bind(w->b, w->list, w->name, &d);
}

static fct_status add_conv(builder *w, const char *inner, int64_t c, fct_stage **s)
{
    char weight[FCT_NAME_SIZE + 8];
    snprintf(weight, sizeof weight, "%s%s", w->name, inner);
    w->b->stage = w->list->n;
    return fct_conv_stage_bind(w->b, w->list, w->name, weight, c, c, 3, s);
}

/* conv_in and conv_out, which are their own convolutions. */
static fct_status add_plain_conv(builder *w, const char *name, int64_t in, int64_t out,
                                 int64_t kernel, fct_stage **s)
{
    w->b->stage = w->list->n;
    return fct_conv_stage_bind(w->b, w->list, name, name, in, out, kernel, s);
}

static fct_status down_block(builder *w, int i, int64_t *skips, int *n_skips)
{
    const fct_unet_config *c = w->c;
    int n = c->block_out_channels.n;
    int64_t in = c->block_out_channels.v[i ? i - 1 : 0], out = c->block_out_channels.v[i];
    bool cross = strcmp(c->down_block_types.v[i], "CrossAttnDownBlock2D") == 0;
    for (int64_t k = 0; k < level(&c->layers_per_block, i, 2); k++) {
        if (*n_skips == FCT_MAX_SKIPS)
            return fct_fail(FCT_ERR_UNSUPPORTED, "layers_per_block: more than %d skips",
                            FCT_MAX_SKIPS);
        snprintf(w->name, sizeof w->name, "down_blocks.%d.resnets.%lld", i, (long long)k);
        FCT_TRY(add_resnet(w, k ? out : in, out));
        snprintf(w->name, sizeof w->name, "down_blocks.%d.attentions.%lld", i, (long long)k);
        if (cross) FCT_TRY(add_attention(w, out, i));
        last(w)->push = true;
        skips[(*n_skips)++] = out;
    }
    if (i == n - 1) return FCT_OK;
    fct_stage *s = NULL;
    snprintf(w->name, sizeof w->name, "down_blocks.%d.downsamplers.0", i);
    FCT_TRY(add_conv(w, ".conv", out, &s));
    s->stride = 2;
    s->pad_lo = c->downsample_padding; /* 0: diffusers pads right and bottom instead */
    s->pad_hi = 1;
    s->push = true;
    if (*n_skips == FCT_MAX_SKIPS)
        return fct_fail(FCT_ERR_UNSUPPORTED, "layers_per_block: more than %d skips", FCT_MAX_SKIPS);
    skips[(*n_skips)++] = out;
    return FCT_OK;
}

static fct_status mid_block(builder *w)
{
    int top = w->c->block_out_channels.n - 1;
    int64_t ch = w->c->block_out_channels.v[top];
    snprintf(w->name, sizeof w->name, "mid_block.resnets.0");
    FCT_TRY(add_resnet(w, ch, ch));
    snprintf(w->name, sizeof w->name, "mid_block.attentions.0");
    FCT_TRY(add_attention(w, ch, top));
    snprintf(w->name, sizeof w->name, "mid_block.resnets.1");
    return add_resnet(w, ch, ch);
}

/* i counts from the deepest level, as up_blocks does. */
static fct_status up_block(builder *w, int i, int64_t *ch, const int64_t *skips, int *n_skips)
{
    const fct_unet_config *c = w->c;
    int n = c->block_out_channels.n, lvl = n - 1 - i;
    int64_t out = c->block_out_channels.v[lvl];
    bool cross = strcmp(c->up_block_types.v[i], "CrossAttnUpBlock2D") == 0;
    for (int64_t k = 0; k < level(&c->layers_per_block, lvl, 2) + 1; k++) {
        if (*n_skips == 0)
            return fct_fail(
                FCT_ERR_UNSUPPORTED,
                "layers_per_block: the up blocks need more skips than the down blocks leave");
        snprintf(w->name, sizeof w->name, "up_blocks.%d.resnets.%lld", i, (long long)k);
        FCT_TRY(add_resnet(w, *ch + skips[--*n_skips], out));
        last(w)->pop = true;
        *ch = out;
        snprintf(w->name, sizeof w->name, "up_blocks.%d.attentions.%lld", i, (long long)k);
        if (cross) FCT_TRY(add_attention(w, out, lvl));
    }
    if (i == n - 1) return FCT_OK;
    fct_stage *s = NULL;
    snprintf(w->name, sizeof w->name, "up_blocks.%d.upsamplers.0", i);
    FCT_TRY(add_conv(w, ".conv", out, &s));
    s->up = true;
    return FCT_OK;
}

fct_status fct_unet_build(fct_stages *list, fct_binder *b, const fct_unet_config *c)
{
    int n = c->block_out_channels.n, n_skips = 0;
    int64_t skips[FCT_MAX_SKIPS], first = c->block_out_channels.v[0],
                                  ch = c->block_out_channels.v[n - 1];
    builder w = {.list = list,
                 .b = b,
                 .c = c,
                 .temb = c->time_embedding_dim ? c->time_embedding_dim : 4 * first};
    fct_stage *s = NULL;
    b->block = -1;
    b->stage = 0;
    FCT_TRY(fct_embed_bind(b, list, c));
    FCT_TRY(add_plain_conv(&w, "conv_in", c->in_channels, first, c->conv_in_kernel, &s));
    s->push = true;
    skips[n_skips++] = first;
    for (int i = 0; i < n; i++) FCT_TRY(down_block(&w, i, skips, &n_skips));
    FCT_TRY(mid_block(&w));
    for (int i = 0; i < n; i++) FCT_TRY(up_block(&w, i, &ch, skips, &n_skips));
    b->stage = list->n;
    FCT_TRY(fct_norm_stage_bind(b, list, "conv_norm_out", first, c->norm_num_groups, c->norm_eps));
    FCT_TRY(add_plain_conv(&w, "conv_out", first, c->out_channels, c->conv_out_kernel, &s));
    s->f32 = true;
    return FCT_OK;
}

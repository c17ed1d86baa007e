/* resnet.c - runs ResnetBlock2D: norm, SiLU, convolution, time embedding, norm, SiLU, convolution,
   plus the input (through a 1x1 convolution where the widths differ). Also the plain stages: a
   convolution, a norm with SiLU. */
#include <stdio.h>

#include "model/net/net.h"

static void resnet_clear(void *weights)
{
    fct_resnet *r = weights;
    fct_norm_clear(&r->norm1);
    fct_norm_clear(&r->norm2);
    fct_conv_clear(&r->conv1);
    fct_conv_clear(&r->conv2);
    fct_linear_clear(&r->time);
    fct_linear_clear(&r->shortcut);
}

static fct_status resnet_run(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y)
{
    const fct_resnet *r = s->weights;
    int64_t b = x.dim[0], h = x.dim[1], w = x.dim[2];
    fct_tensor add = {0}, residual = x, normed, inner;
    FCT_TRY(fct_tap_in(rt, r->id, &x));
    residual = x;
    if (r->time.out) {
        fct_tensor emb = fct_tensor_of(rt->emb, FCT_F32, 2, (int64_t[]){b, r->time.in});
        FCT_TRY(fct_rt_take(rt, &add, FCT_F32, 2, (int64_t[]){b, r->time.out}));
        FCT_TRY(fct_linear_run(rt, &r->time, emb, add, FCT_ACT_NONE, (fct_tensor){0}));
    }
    if (r->shortcut.out) {
        FCT_TRY(fct_rt_take(rt, &residual, rt->dtype, 4, (int64_t[]){b, h, w, s->out}));
        FCT_TRY(fct_linear_run(rt, &r->shortcut, x, residual, FCT_ACT_NONE, (fct_tensor){0}));
    }
    FCT_TRY(fct_rt_take(rt, &inner, rt->dtype, 4, (int64_t[]){b, h, w, s->out}));
    FCT_TRY(fct_rt_take(rt, &normed, rt->dtype, 4, (int64_t[]){b, h, w, s->in}));
    FCT_TRY(fct_norm_run(rt, &r->norm1, x, normed, FCT_ACT_SILU));
    static const float present = 0; /* a dry run has no data, yet must plan for it */
    const float *channel_add = !r->time.out ? NULL : add.data ? add.data : &present;
    FCT_TRY(fct_conv_run(rt, &r->conv1, normed, inner,
                         &(fct_conv_how){.pad_lo = 1, .pad_hi = 1, .channel_add = channel_add}));
    FCT_TRY(fct_norm_run(rt, &r->norm2, inner, inner, FCT_ACT_SILU));
    FCT_TRY(fct_conv_run(rt, &r->conv2, inner, y,
                         &(fct_conv_how){.pad_lo = 1, .pad_hi = 1, .residual = residual}));
    return fct_tap_out(rt, r->id, &y, &x);
}

fct_status fct_resnet_bind(fct_binder *b, fct_stages *list, const char *name, int64_t in,
                           int64_t out, int64_t temb, int64_t groups, double eps)
{
    fct_stage *s = NULL;
    char n[FCT_NAME_SIZE];
    FCT_TRY(fct_stages_add(list, &s, name, sizeof(fct_resnet)));
    fct_resnet *r = s->weights;
    s->run = resnet_run;
    s->clear = resnet_clear;
    s->in = in;
    s->out = out;
    FCT_TRY(fct_bind_module(b, &r->id, name));
#define SUB(part) (snprintf(n, sizeof n, "%s.%s", name, part), n)
    FCT_TRY(fct_bind_norm(b, &r->norm1, SUB("norm1"), in, groups, eps));
    FCT_TRY(fct_bind_conv(b, &r->conv1, SUB("conv1"), in, out, 3));
    if (temb) FCT_TRY(fct_bind_linear(b, &r->time, SUB("time_emb_proj"), temb, out, FCT_BIAS));
    FCT_TRY(fct_bind_norm(b, &r->norm2, SUB("norm2"), out, groups, eps));
    FCT_TRY(fct_bind_conv(b, &r->conv2, SUB("conv2"), out, out, 3));
    if (in != out)
        FCT_TRY(fct_bind_linear(b, &r->shortcut, SUB("conv_shortcut"), in, out,
                                FCT_BIAS | FCT_CONV_1X1));
#undef SUB
    return FCT_OK;
}

/* ---- a convolution as a stage ---- */

typedef struct conv_stage {
    int32_t id;
    fct_conv conv;
} conv_stage;

static void conv_stage_clear(void *weights)
{
    fct_conv_clear(&((conv_stage *)weights)->conv);
}

static fct_status conv_stage_run(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y)
{
    const conv_stage *c = s->weights;
    FCT_TRY(fct_tap_in(rt, c->id, &x));
    fct_conv_how how = {.stride = s->stride, .pad_lo = s->pad_lo, .pad_hi = s->pad_hi};
    if (s->up) {
        how.up_h = rt->up_h;
        how.up_w = rt->up_w;
    }
    FCT_TRY(fct_conv_run(rt, &c->conv, x, y, &how));
    return fct_tap_out(rt, c->id, &y, &x);
}

fct_status fct_conv_stage_bind(fct_binder *b, fct_stages *list, const char *name,
                               const char *weight, int64_t in, int64_t out, int64_t kernel,
                               fct_stage **out_stage)
{
    fct_stage *s = NULL;
    FCT_TRY(fct_stages_add(list, &s, name, sizeof(conv_stage)));
    conv_stage *c = s->weights;
    s->run = conv_stage_run;
    s->clear = conv_stage_clear;
    s->in = in;
    s->out = out;
    s->kernel = kernel;
    s->pad_lo = s->pad_hi = kernel / 2;
    *out_stage = s;
    bool same = name == weight; /* conv_in is its own convolution; downsamplers.0 has one inside */
    if (!same) FCT_TRY(fct_bind_module(b, &c->id, name));
    return fct_bind_conv(b, &c->conv, weight, in, out, kernel);
}

/* ---- a norm with SiLU as a stage ---- */

static void norm_stage_clear(void *weights)
{
    fct_norm_clear(weights);
}

static fct_status norm_stage_run(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y)
{
    return fct_norm_run(rt, s->weights, x, y, FCT_ACT_SILU);
}

fct_status fct_norm_stage_bind(fct_binder *b, fct_stages *list, const char *name, int64_t n,
                               int64_t groups, double eps)
{
    fct_stage *s = NULL;
    FCT_TRY(fct_stages_add(list, &s, name, sizeof(fct_norm)));
    s->run = norm_stage_run;
    s->clear = norm_stage_clear;
    s->in = s->out = n;
    return fct_bind_norm(b, s->weights, name, n, groups, eps);
}

/* products.c - computes linear layers and convolutions through oneDNN: what it fuses is left to it
   (bias, activation, residual), and this file brings inputs and outputs into the dtypes and shapes
   that it takes.

   Before a product: x is converted to the weight's dtype, resized (nearest) or, for 1x1 kernels
   with stride or padding, gathered, all in one pass into scratch. After it: the time embedding of
   several pictures, and f32 sums into bf16. */
#include <string.h>

#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"
#include "compute/cpu/winograd.h"

static int residual_code(const fct_tensor *t)
{
    return !fct_view_given(t) ? 0 : t->dtype == FCT_BF16 ? 2 : 1;
}

/* What oneDNN may write: a product of f32 weights gives f32 only. */
static fct_dtype sum_dtype(const fct_weight *w, fct_dtype y)
{
    return w->dtype == FCT_F32 ? FCT_F32 : y;
}

static fct_status take(fct_cx *cx, void *out, int64_t n, fct_dtype t)
{
    return fct_arena_take(cx->arena, out, n, fct_dtype_bytes(t));
}

/* ---- linear ---- */

static fct_status linear(fct_cx *cx, const fct_linear_args *a)
{
    int64_t m = fct_view_rows(&a->x), k = a->w->in, n = a->w->out;
    bool dry = fct_arena_dry(cx->arena);
    dn_shape s = {.kind = DN_MATMUL,
                  .x = a->w->dtype,
                  .w = a->w->dtype,
                  .y = sum_dtype(a->w, a->y.dtype),
                  .act = a->act,
                  .bias = a->bias != NULL,
                  .residual = residual_code(&a->residual),
                  .batch = 1,
                  .m = m,
                  .n = n,
                  .k = k};
    dn_io io = {.x = a->x.data, .bias = a->bias, .residual = a->residual.data, .y = a->y.data};
    if (a->x.dtype != s.x) {
        void *x;
        FCT_TRY(take(cx, &x, m * k, s.x));
        if (!dry) cpu_convert(x, s.x, a->x.data, a->x.dtype, m * k);
        io.x = x;
    }
    if (a->y.dtype != s.y) FCT_TRY(take(cx, &io.y, m * n, s.y));
    FCT_TRY(cpu_weight_run(cx, a->w, &s, &io));
    if (a->y.dtype != s.y && !dry) cpu_convert(a->y.data, a->y.dtype, io.y, s.y, m * n);
    return FCT_OK;
}

fct_status cpu_linear(fct_cx *cx, const fct_linear_args *a)
{
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = linear(cx, a);
    fct_arena_reset(cx->arena, mark);
    return st;
}

/* ---- convolution ---- */

enum { RUN = 512 };

/* The map that a convolution reads, at [b,y,x,:] of the resized input; outside it is padding. */
typedef struct source {
    const fct_tensor *x;
    int64_t uh, uw; /* size after the resize */
    /* Pixel (i,j) of the destination is (i*step-top, j*step-left) of the resized map. */
    int64_t step, top, left;
    int64_t h, w; /* destination: [B,h,w,C] */
    fct_dtype dtype;
    void *data;
} source;

FCT_CLONES static void gather_pixel(const source *s, int64_t b, int64_t i, int64_t j)
{
    int64_t c = s->x->dim[3], y = i * s->step - s->top, x = j * s->step - s->left;
    int64_t to = ((b * s->h + i) * s->w + j) * c;
    int64_t bytes = fct_dtype_bytes(s->dtype);
    if (y < 0 || y >= s->uh || x < 0 || x >= s->uw) {
        memset((uint8_t *)s->data + to * bytes, 0, (size_t)(c * bytes));
        return;
    }
    int64_t sy = fct_view_nearest(y, s->x->dim[1], s->uh),
            sx = fct_view_nearest(x, s->x->dim[2], s->uw);
    int64_t from = ((b * s->x->dim[1] + sy) * s->x->dim[2] + sx) * c;
    if (s->dtype == s->x->dtype) {
        memcpy((uint8_t *)s->data + to * bytes, (const uint8_t *)s->x->data + from * bytes,
               (size_t)(c * bytes));
        return;
    }
    for (int64_t k = 0; k < c; k += RUN) {
        float v[RUN];
        int64_t n = c - k < RUN ? c - k : RUN;
        vec_load(v, s->x->data, s->x->dtype, from + k, n);
        vec_store(s->data, s->dtype, to + k, v, n);
    }
}

static void gather(const source *s)
{
    int64_t batch = s->x->dim[0];
#pragma omp parallel for schedule(static) \
    collapse(2) if (batch * s->h * s->w * s->x->dim[3] > CPU_SMALL)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < s->h; i++)
            for (int64_t j = 0; j < s->w; j++) gather_pixel(s, b, i, j);
}

/* x as the product wants it: itself, or a copy in scratch.
   `small`: kernel 1x1, whose copy already has y's pixels. */
static fct_status conv_input(fct_cx *cx, const fct_conv2d_args *a, bool small, const void **out,
                             int64_t *h, int64_t *w)
{
    source s = {.x = &a->x,
                .uh = fct_view_conv_h(a),
                .uw = fct_view_conv_w(a),
                .step = 1,
                .dtype = a->w->dtype};
    s.h = small ? a->y.dim[1] : s.uh;
    s.w = small ? a->y.dim[2] : s.uw;
    if (small) {
        s.step = fct_view_stride(a);
        s.top = a->pad_top;
        s.left = a->pad_left;
    }
    *h = s.h;
    *w = s.w;
    *out = a->x.data;
    bool as_it_is =
        s.step == 1 && s.top == 0 && s.left == 0 && s.h == a->x.dim[1] && s.w == a->x.dim[2];
    if (as_it_is && a->x.dtype == s.dtype) return FCT_OK;
    FCT_TRY(take(cx, &s.data, a->x.dim[0] * s.h * s.w * a->x.dim[3], s.dtype));
    *out = s.data;
    if (!fct_arena_dry(cx->arena)) gather(&s);
    return FCT_OK;
}

FCT_CLONES static void finish_run(const fct_conv2d_args *a, const float *sum, int64_t pixel,
                                  int64_t c, int64_t n)
{
    float v[RUN];
    int64_t o = a->w->out, b = pixel / (a->y.dim[1] * a->y.dim[2]);
    memcpy(v, sum + pixel * o + c, (size_t)n * sizeof *v);
    if (a->channel_add)
        for (int64_t i = 0; i < n; i++) v[i] += a->channel_add[b * o + c + i];
    vec_store(a->y.data, a->y.dtype, pixel * o + c, v, n);
}

/* f32 sums plus the pictures' channel_add, into y (which may be the sums' own memory). */
static void finish(const fct_conv2d_args *a, const float *sum)
{
    int64_t o = a->w->out, pixels = a->y.dim[0] * a->y.dim[1] * a->y.dim[2];
#pragma omp parallel for schedule(static) if (pixels * o > CPU_SMALL)
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < o; c += RUN) finish_run(a, sum, p, c, o - c < RUN ? o - c : RUN);
}

/* One picture's channel_add is part of the bias. */
static fct_status merge_bias(fct_cx *cx, const fct_conv2d_args *a, const float **bias)
{
    float *sum;
    FCT_TRY(take(cx, &sum, a->w->out, FCT_F32));
    if (!fct_arena_dry(cx->arena))
        for (int64_t i = 0; i < a->w->out; i++)
            sum[i] = (a->bias ? a->bias[i] : 0) + a->channel_add[i];
    *bias = sum;
    return FCT_OK;
}

static dn_shape conv_shape(const fct_conv2d_args *a, int64_t h, int64_t w)
{
    return (dn_shape){.kind = DN_CONV,
                      .batch = a->x.dim[0],
                      .n = a->w->out,
                      .k = a->w->in,
                      .ih = h,
                      .iw = w,
                      .oh = a->y.dim[1],
                      .ow = a->y.dim[2],
                      .kh = a->w->kh,
                      .kw = a->w->kw,
                      .stride = fct_view_stride(a),
                      .pad_top = a->pad_top,
                      .pad_left = a->pad_left,
                      .pad_bottom = a->pad_bottom,
                      .pad_right = a->pad_right};
}

static fct_status conv2d(fct_cx *cx, const fct_conv2d_args *a)
{
    bool small = a->w->kh == 1 && a->w->kw == 1, dry = fct_arena_dry(cx->arena);
    int64_t h, w, pixels = a->y.dim[0] * a->y.dim[1] * a->y.dim[2];
    dn_io io = {.bias = a->bias, .residual = a->residual.data, .y = a->y.data};
    bool one = a->x.dim[0] == 1, late = a->channel_add && !one;
    FCT_TRY(conv_input(cx, a, small, &io.x, &h, &w));
    if (cpu_winograd_takes(a)) return cpu_winograd_run(cx, a, io.x, h, w);
    if (a->channel_add && one) FCT_TRY(merge_bias(cx, a, &io.bias));
    dn_shape s =
        small
            ? (dn_shape){.kind = DN_MATMUL, .batch = 1, .m = pixels, .n = a->w->out, .k = a->w->in}
            : conv_shape(a, h, w);
    s.x = s.w = a->w->dtype;
    s.y = late ? FCT_F32 : sum_dtype(a->w, a->y.dtype);
    s.bias = io.bias != NULL || (a->channel_add && one);
    s.residual = residual_code(&a->residual);
    if (s.y != a->y.dtype) FCT_TRY(take(cx, &io.y, pixels * a->w->out, s.y));
    FCT_TRY(cpu_weight_run(cx, a->w, &s, &io));
    if ((late || s.y != a->y.dtype) && !dry) {
        fct_conv2d_args rest = *a;
        if (!late) rest.channel_add = NULL;
        finish(&rest, io.y);
    }
    return FCT_OK;
}

fct_status cpu_conv2d(fct_cx *cx, const fct_conv2d_args *a)
{
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = conv2d(cx, a);
    fct_arena_reset(cx->arena, mark);
    return st;
}

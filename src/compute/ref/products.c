/* products.c - computes linear layers and convolutions in the ref backend. */
#include "compute/ref/ref.h"

/* Inputs as the product sees them: a bf16 weight means that x is rounded to bf16 too. */
static double product_input(const fct_tensor *x, int64_t i, fct_dtype dtype)
{
    double v = ref_get(x, i);
    return dtype == FCT_BF16 && x->dtype == FCT_F32
               ? (double)fct_bf16_to_f32(fct_f32_to_bf16((float)v))
               : v;
}

fct_status ref_linear(fct_cx *cx, const fct_linear_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    const float *row = ((const ref_weight *)a->w->impl)->row;
    int64_t m = fct_view_rows(&a->x), k = a->w->in, n = a->w->out;
    for (int64_t r = 0; r < m; r++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t i = 0; i < k; i++)
                s += product_input(&a->x, r * k + i, a->w->dtype) * (double)row[j * k + i];
            if (a->bias) s += (double)a->bias[j];
            s = ref_act(a->act, s);
            if (fct_view_given(&a->residual)) s += ref_get(&a->residual, r * n + j);
            ref_set(&a->y, r * n + j, s);
        }
    return FCT_OK;
}

/* One output value before bias: the sum over the kernel window that starts at (top,left) of the
   resized map. */
static double window_sum(const fct_conv2d_args *a, int64_t b, int64_t top, int64_t left, int64_t o)
{
    const fct_weight *w = a->w;
    const float *row = ((const ref_weight *)w->impl)->row;
    int64_t h = a->x.dim[1], wd = a->x.dim[2], uh = fct_view_conv_h(a), uw = fct_view_conv_w(a);
    double s = 0;
    for (int64_t i = 0; i < w->kh; i++)
        for (int64_t j = 0; j < w->kw; j++) {
            int64_t y = top + i, x = left + j;
            if (y < 0 || y >= uh || x < 0 || x >= uw) continue; /* padding is zero */
            int64_t pixel = (b * h + fct_view_nearest(y, h, uh)) * wd + fct_view_nearest(x, wd, uw);
            for (int64_t c = 0; c < w->in; c++)
                s += product_input(&a->x, pixel * w->in + c, w->dtype) *
                     (double)row[((o * w->in + c) * w->kh + i) * w->kw + j];
        }
    return s;
}

fct_status ref_conv2d(fct_cx *cx, const fct_conv2d_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t batch = a->y.dim[0], ho = a->y.dim[1], wo = a->y.dim[2], n = a->w->out,
            step = fct_view_stride(a);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t y = 0; y < ho; y++)
            for (int64_t x = 0; x < wo; x++)
                for (int64_t o = 0; o < n; o++) {
                    int64_t at = ((b * ho + y) * wo + x) * n + o;
                    double s = window_sum(a, b, y * step - a->pad_top, x * step - a->pad_left, o);
                    if (a->bias) s += (double)a->bias[o];
                    if (a->channel_add) s += (double)a->channel_add[b * n + o];
                    if (fct_view_given(&a->residual)) s += ref_get(&a->residual, at);
                    ref_set(&a->y, at, s);
                }
    return FCT_OK;
}

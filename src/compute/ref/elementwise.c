/* elementwise.c - computes activations, sums, concatenation and pooling in the ref backend. */
#include <math.h>

#include "compute/ref/ref.h"

double ref_act(fct_act act, double v)
{
    switch (act) {
    case FCT_ACT_SILU: return v / (1 + exp(-v));
    case FCT_ACT_GELU: return 0.5 * v * (1 + erf(v * 0.70710678118654752440)); /* x·Φ(x) */
    case FCT_ACT_QUICK_GELU: return v / (1 + exp(-1.702 * v));
    case FCT_ACT_RELU: return v < 0 ? 0 : v; /* written so that NaN stays NaN, as in torch */
    case FCT_ACT_NONE: break;
    }
    return v;
}

fct_status ref_geglu(fct_cx *cx, const fct_geglu_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->y), n = fct_view_last(&a->y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++) {
            double value = ref_get(&a->x, r * 2 * n + j), gate = ref_get(&a->x, r * 2 * n + n + j);
            ref_set(&a->y, r * n + j, value * ref_act(FCT_ACT_GELU, gate));
        }
    return FCT_OK;
}

fct_status ref_unary(fct_cx *cx, const fct_unary_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t n = fct_tensor_count(&a->x);
    for (int64_t i = 0; i < n; i++) ref_set(&a->y, i, ref_act(a->act, ref_get(&a->x, i)));
    return FCT_OK;
}

fct_status ref_add(fct_cx *cx, const fct_add_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t n = fct_tensor_count(&a->y);
    for (int64_t i = 0; i < n; i++)
        ref_set(&a->y, i, ref_get(&a->a, i) + (double)a->scale * ref_get(&a->b, i));
    return FCT_OK;
}

fct_status ref_add_channels(fct_cx *cx, const fct_add_channels_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t batch = a->x.dim[0], c = fct_view_last(&a->x), pixels = fct_view_pixels(&a->x);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t j = 0; j < c; j++) {
                int64_t at = (b * pixels + p) * c + j;
                ref_set(&a->y, at, ref_get(&a->x, at) + (double)a->add[b * c + j]);
            }
    return FCT_OK;
}

fct_status ref_finite(fct_cx *cx, const fct_finite_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t n = fct_tensor_count(&a->x);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(ref_get(&a->x, i))) *a->finite = false;
    return FCT_OK;
}

fct_status ref_gather(fct_cx *cx, const fct_gather_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->y), c = fct_view_last(&a->y);
    int64_t xs = a->x_stride ? a->x_stride : c, ys = a->y_stride ? a->y_stride : c;
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = a->index ? a->index[r] : r;
        for (int64_t j = 0; j < c; j++)
            ref_set(&a->y, r * ys + j, from < 0 ? 0 : ref_get(&a->x, from * xs + j));
    }
    return FCT_OK;
}

fct_status ref_concat(fct_cx *cx, const fct_concat_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->y), na = fct_view_last(&a->a), nb = fct_view_last(&a->b),
            n = na + nb;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < na; j++) ref_set(&a->y, r * n + j, ref_get(&a->a, r * na + j));
        for (int64_t j = 0; j < nb; j++) ref_set(&a->y, r * n + na + j, ref_get(&a->b, r * nb + j));
    }
    return FCT_OK;
}

/* Average or maximum of channel c over the window [y0,y1) x [x0,x1) of picture b;
   a NaN stays visible. */
static double pooled(const fct_pool_args *a, int64_t b, int64_t c, const int64_t window[4])
{
    int64_t w = a->x.dim[2], n = a->x.dim[3], h = a->x.dim[1];
    double sum = 0, top = -INFINITY;
    for (int64_t y = window[0]; y < window[1]; y++)
        for (int64_t x = window[2]; x < window[3]; x++) {
            double v = ref_get(&a->x, ((b * h + y) * w + x) * n + c);
            sum += v;
            if (v > top || isnan(v)) top = v;
        }
    return a->max ? top : sum / (double)((window[1] - window[0]) * (window[3] - window[2]));
}

fct_status ref_pool(fct_cx *cx, const fct_pool_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t batch = a->x.dim[0], n = a->x.dim[3];
    /* The window. */
    int64_t sh = a->size ? a->size : a->x.dim[1], sw = a->size ? a->size : a->x.dim[2];
    int64_t ho = a->x.dim[1] / sh, wo = a->x.dim[2] / sw;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t y = 0; y < ho; y++)
            for (int64_t x = 0; x < wo; x++)
                for (int64_t c = 0; c < n; c++) {
                    const int64_t window[4] = {y * sh, (y + 1) * sh, x * sw, (x + 1) * sw};
                    ref_set(&a->y, ((b * ho + y) * wo + x) * n + c, pooled(a, b, c, window));
                }
    return FCT_OK;
}

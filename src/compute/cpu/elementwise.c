/* elementwise.c - computes activations, sums, conversion, concatenation and pooling: every pass
   goes through short runs of floats that stay in the first-level cache, so any mix of f32 and bf16
   is one code. Nothing here depends on the threads. */
#include <math.h>

#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { RUN = 512 }; /* floats in a run */

static int64_t runs_of(int64_t n)
{
    return (n + RUN - 1) / RUN;
}
static int64_t run_length(int64_t n, int64_t run)
{
    return n - run * RUN < RUN ? n - run * RUN : RUN;
}

fct_status cpu_thread_scratch(fct_cx *cx, uint8_t **out, int64_t *stride, int64_t bytes)
{
    *stride = (bytes + 63) / 64 * 64;
    return fct_arena_take(cx->arena, out, *stride, fct_threads());
}

/* ---- conversion and activation ---- */

FCT_CLONES static void unary_run(void *y, fct_dtype yt, const void *x, fct_dtype xt, int64_t at,
                                 int64_t n, fct_act act)
{
    float v[RUN];
    vec_load(v, x, xt, at, n);
    vec_act(act, v, n);
    vec_store(y, yt, at, v, n);
}

static void unary(void *y, fct_dtype yt, const void *x, fct_dtype xt, int64_t n, fct_act act)
{
    int64_t runs = runs_of(n);
#pragma omp parallel for schedule(static) if (n > CPU_SMALL)
    for (int64_t i = 0; i < runs; i++) unary_run(y, yt, x, xt, i * RUN, run_length(n, i), act);
}

void cpu_convert(void *dst, fct_dtype to, const void *src, fct_dtype from, int64_t n)
{
    unary(dst, to, src, from, n, FCT_ACT_NONE);
}

fct_status cpu_unary(fct_cx *cx, const fct_unary_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    if (a->act == FCT_ACT_NONE && a->x.dtype == a->y.dtype) {
        if (a->x.data != a->y.data)
            memcpy(a->y.data, a->x.data, (size_t)fct_tensor_bytes(&a->x));
        return FCT_OK;
    }
    unary(a->y.data, a->y.dtype, a->x.data, a->x.dtype, fct_tensor_count(&a->x), a->act);
    return FCT_OK;
}

/* ---- sums ---- */

FCT_CLONES static void add_run(const fct_add_args *a, int64_t at, int64_t n)
{
    float u[RUN], v[RUN];
    vec_load(u, a->a.data, a->a.dtype, at, n);
    vec_load(v, a->b.data, a->b.dtype, at, n);
    for (int64_t i = 0; i < n; i++) u[i] += a->scale * v[i];
    vec_store(a->y.data, a->y.dtype, at, u, n);
}

fct_status cpu_add(fct_cx *cx, const fct_add_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t n = fct_tensor_count(&a->y), runs = runs_of(n);
#pragma omp parallel for schedule(static) if (n > CPU_SMALL)
    for (int64_t i = 0; i < runs; i++) add_run(a, i * RUN, run_length(n, i));
    return FCT_OK;
}

FCT_CLONES static void add_channels_row(const fct_add_channels_args *a, int64_t row, int64_t c)
{
    const float *add = a->add + row / fct_view_pixels(&a->x) * c;
    for (int64_t at = 0; at < c; at += RUN) {
        float v[RUN];
        int64_t n = c - at < RUN ? c - at : RUN;
        vec_load(v, a->x.data, a->x.dtype, row * c + at, n);
        for (int64_t i = 0; i < n; i++) v[i] += add[at + i];
        vec_store(a->y.data, a->y.dtype, row * c + at, v, n);
    }
}

fct_status cpu_add_channels(fct_cx *cx, const fct_add_channels_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t c = fct_view_last(&a->x), rows = fct_view_rows(&a->x);
#pragma omp parallel for schedule(static) if (rows * c > CPU_SMALL)
    for (int64_t r = 0; r < rows; r++) add_channels_row(a, r, c);
    return FCT_OK;
}

/* ---- NaN and infinity: exponents of ones ---- */

FCT_CLONES static bool finite_run(const fct_tensor *x, int64_t at, int64_t n)
{
    uint32_t bad = 0;
    if (x->dtype == FCT_F32) {
        const uint32_t *p = (const uint32_t *)x->data + at;
        for (int64_t i = 0; i < n; i++) bad |= (uint32_t)((p[i] & 0x7f800000u) == 0x7f800000u);
    } else {
        const uint16_t *p = (const uint16_t *)x->data + at;
        for (int64_t i = 0; i < n; i++) bad |= (uint32_t)((p[i] & 0x7f80u) == 0x7f80u);
    }
    return bad == 0;
}

fct_status cpu_finite(fct_cx *cx, const fct_finite_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t n = fct_tensor_count(&a->x), runs = runs_of(n);
    int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad) if (n > CPU_SMALL)
    for (int64_t i = 0; i < runs; i++) bad |= !finite_run(&a->x, i * RUN, run_length(n, i));
    *a->finite = bad == 0;
    return FCT_OK;
}

/* ---- gated gelu ---- */

FCT_CLONES static void geglu_run(const fct_geglu_args *a, int64_t row, int64_t at, int64_t n,
                                 int64_t width)
{
    float value[RUN], gate[RUN];
    vec_load(value, a->x.data, a->x.dtype, row * 2 * width + at, n);
    vec_load(gate, a->x.data, a->x.dtype, row * 2 * width + width + at, n);
    for (int64_t i = 0; i < n; i++) value[i] *= vec_gelu(gate[i]);
    vec_store(a->y.data, a->y.dtype, row * width + at, value, n);
}

fct_status cpu_geglu(fct_cx *cx, const fct_geglu_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->y), width = fct_view_last(&a->y), runs = runs_of(width);
#pragma omp parallel for schedule(static) collapse(2) if (rows * width > CPU_SMALL / 4)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < runs; i++) geglu_run(a, r, i * RUN, run_length(width, i), width);
    return FCT_OK;
}

/* ---- concatenation, rows by number ---- */

FCT_CLONES static void copy_row(const fct_tensor *y, int64_t to, const fct_tensor *x, int64_t from,
                                int64_t n)
{
    if (x->dtype == y->dtype) {
        size_t step = x->dtype == FCT_BF16 ? 2 : 4;
        memcpy((uint8_t *)y->data + (size_t)to * step,
               (const uint8_t *)x->data + (size_t)from * step, (size_t)n * step);
        return;
    }
    for (int64_t i = 0; i < n; i += RUN) {
        float v[RUN];
        int64_t m = n - i < RUN ? n - i : RUN;
        vec_load(v, x->data, x->dtype, from + i, m);
        vec_store(y->data, y->dtype, to + i, v, m);
    }
}

fct_status cpu_concat(fct_cx *cx, const fct_concat_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->y), na = fct_view_last(&a->a), nb = fct_view_last(&a->b),
            n = na + nb;
#pragma omp parallel for schedule(static) if (rows * n > CPU_SMALL)
    for (int64_t r = 0; r < rows; r++) {
        copy_row(&a->y, r * n, &a->a, r * na, na);
        copy_row(&a->y, r * n + na, &a->b, r * nb, nb);
    }
    return FCT_OK;
}

static fct_status gather_row(const fct_gather_args *a, int64_t to, int64_t from, int64_t c)
{
    int64_t x_bytes = fct_dtype_bytes(a->x.dtype), y_bytes = fct_dtype_bytes(a->y.dtype);
    uint8_t *y = (uint8_t *)a->y.data + to * (a->y_stride ? a->y_stride : c) * y_bytes;
    if (from < 0) {
        memset(y, 0, (size_t)(c * y_bytes));
        return FCT_OK;
    }
    const uint8_t *x = a->x.data;
    x += from * (a->x_stride ? a->x_stride : c) * x_bytes;
    if (a->x.dtype != a->y.dtype) return fct_convert(y, a->y.dtype, x, a->x.dtype, c);
    memcpy(y, x, (size_t)(c * y_bytes));
    return FCT_OK;
}

/* Small and rare: tables of tokens, columns for taps. One thread does it. */
fct_status cpu_gather(fct_cx *cx, const fct_gather_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->y), c = fct_view_last(&a->y);
    for (int64_t r = 0; r < rows; r++)
        FCT_TRY(gather_row(a, r, a->index ? a->index[r] : r, c));
    return FCT_OK;
}

/* ---- pooling ---- */

/* Channels [c, c+m) of one window; averages add rows of a window first,
   so a large map loses no precision. */
FCT_CLONES static void pool_run(const fct_pool_args *a, int64_t first, int64_t sh, int64_t sw,
                                int64_t out, int64_t c, int64_t m)
{
    float v[RUN], line[RUN];
    double total[RUN];
    int64_t w = a->x.dim[2], n = a->x.dim[3];
    for (int64_t i = 0; i < m; i++) total[i] = a->max ? -INFINITY : 0;
    for (int64_t y = 0; y < sh; y++) {
        for (int64_t x = 0; x < sw; x++) {
            vec_load(v, a->x.data, a->x.dtype, (first + y * w + x) * n + c, m);
            if (x == 0)
                memcpy(line, v, (size_t)m * sizeof *v);
            else if (a->max)
                for (int64_t i = 0; i < m; i++)
                    line[i] = v[i] > line[i] || v[i] != v[i] ? v[i] : line[i];
            else
                for (int64_t i = 0; i < m; i++) line[i] += v[i];
        }
        for (int64_t i = 0; i < m; i++) {
            double l = (double)line[i];
            if (a->max)
                total[i] = l > total[i] || l != l ? l : total[i];
            else
                total[i] += l;
        }
    }
    double scale = a->max ? 1 : 1 / (double)(sh * sw);
    for (int64_t i = 0; i < m; i++) v[i] = (float)(total[i] * scale);
    vec_store(a->y.data, a->y.dtype, out * n + c, v, m);
}

fct_status cpu_pool(fct_cx *cx, const fct_pool_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t h = a->x.dim[1], w = a->x.dim[2], n = a->x.dim[3];
    int64_t sh = a->size ? a->size : h, sw = a->size ? a->size : w;
    int64_t ho = h / sh, wo = w / sw, windows = a->x.dim[0] * ho * wo;
#pragma omp parallel for schedule(static) if (fct_tensor_count(&a->x) > CPU_SMALL)
    for (int64_t i = 0; i < windows; i++) {
        int64_t b = i / (ho * wo), y = i / wo % ho, x = i % wo;
        int64_t first = (b * h + y * sh) * w + x * sw;
        for (int64_t c = 0; c < n; c += RUN)
            pool_run(a, first, sh, sw, i, c, n - c < RUN ? n - c : RUN);
    }
    return FCT_OK;
}

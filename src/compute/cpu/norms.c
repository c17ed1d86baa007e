/* norms.c - computes group norm, with its activation, and layer norm. Statistics: the map is cut
   into strips of pixels fixed by its shape; a strip's channels are summed in f32 around the strip's
   first pixel (so a large mean costs no precision), and strips and channels are merged in order, in
   f64. So every number of threads gives the same bytes. */
#include <math.h>

#include "compute/cpu/cpu.h"
#include "compute/cpu/vec.h"

enum { RUN = 512, STRIP_VALUES = 32768, STRIP_MAX = 256 };

typedef struct moments {
    double n, mean, m2; /* count, mean, sum of squared deviations */
} moments;

/* Of both samples together (Chan, Golub and LeVeque 1983), with d the difference of the means:

       mean = mean_a + d·n_b/n,   m2 = m2_a + m2_b + d²·n_a·n_b/n */
static moments merge(moments a, moments b)
{
    double n = a.n + b.n, d = b.mean - a.mean;
    if (b.n == 0) return a;
    return (moments){n, a.mean + d * b.n / n, a.m2 + b.m2 + d * d * a.n * b.n / n};
}

/* ---- group norm ---- */

typedef struct grid {                                /* a map as strips */
    int64_t batch, pixels, c, groups, strip, strips; /* strip: pixels in one */
} grid;

static grid grid_of(const fct_group_norm_args *a)
{
    grid g = {.batch = a->x.dim[0],
              .pixels = fct_view_pixels(&a->x),
              .c = fct_view_last(&a->x),
              .groups = a->groups};
    g.strip = STRIP_VALUES / g.c;
    if (g.strip < 16) g.strip = 16;
    if (g.strip > STRIP_MAX) g.strip = STRIP_MAX; /* f32 sums of more would lose digits */
    g.strips = (g.pixels + g.strip - 1) / g.strip;
    return g;
}

/* Sums of d and d² over the strip's pixels for channels [c, c+n), d = x - x of the first pixel. */
FCT_CLONES static void strip_sums(const fct_tensor *x, int64_t first, int64_t pixels,
                                  int64_t channels, int64_t c, int64_t n, float *origin, float *sum,
                                  float *square)
{
    float v[RUN];
    vec_load(origin, x->data, x->dtype, first * channels + c, n);
    memset(sum, 0, (size_t)n * sizeof *sum);
    memset(square, 0, (size_t)n * sizeof *square);
    for (int64_t p = 1; p < pixels; p++) {
        vec_load(v, x->data, x->dtype, (first + p) * channels + c, n);
        for (int64_t i = 0; i < n; i++) {
            float d = v[i] - origin[i];
            sum[i] += d;
            square[i] += d * d;
        }
    }
}

/* The groups' moments over one strip into out [groups]. */
static void strip_moments(moments *out, const fct_tensor *x, const grid *g, int64_t b,
                          int64_t strip)
{
    float origin[RUN], sum[RUN], square[RUN];
    int64_t first = b * g->pixels + strip * g->strip, size = g->c / g->groups;
    int64_t left = g->pixels - strip * g->strip, pixels = left < g->strip ? left : g->strip;
    for (int64_t i = 0; i < g->groups; i++) out[i] = (moments){0};
    for (int64_t c = 0; c < g->c; c += RUN) {
        int64_t n = g->c - c < RUN ? g->c - c : RUN;
        strip_sums(x, first, pixels, g->c, c, n, origin, sum, square);
        for (int64_t i = 0; i < n; i++) {
            double count = (double)pixels, s = (double)sum[i];
            moments channel = {count, (double)origin[i] + s / count,
                               (double)square[i] - s * s / count};
            moments *group = &out[(c + i) / size];
            *group = merge(*group, channel);
        }
    }
}

/* y = (x - mean) * scale + beta over one pixel's channels, then the activation. */
FCT_CLONES static void norm_run(const fct_group_norm_args *a, int64_t pixel, int64_t channels,
                                int64_t c, int64_t n, const float *mean, const float *scale)
{
    float v[RUN];
    vec_load(v, a->x.data, a->x.dtype, pixel * channels + c, n);
    for (int64_t i = 0; i < n; i++) v[i] = (v[i] - mean[c + i]) * scale[c + i] + a->beta[c + i];
    vec_act(a->act, v, n);
    vec_store(a->y.data, a->y.dtype, pixel * channels + c, v, n);
}

static void group_norm(const fct_group_norm_args *a, const grid *g, moments *strip, float *mean,
                       float *scale)
{
    int64_t size = g->c / g->groups, pixels = g->batch * g->pixels;
#pragma omp parallel for schedule(static) collapse(2) if (pixels * g->c > CPU_SMALL)
    for (int64_t b = 0; b < g->batch; b++)
        for (int64_t s = 0; s < g->strips; s++)
            strip_moments(strip + (b * g->strips + s) * g->groups, &a->x, g, b, s);
    for (int64_t b = 0; b < g->batch; b++)
        for (int64_t i = 0; i < g->groups; i++) {
            moments total = {0};
            for (int64_t s = 0; s < g->strips; s++)
                total = merge(total, strip[(b * g->strips + s) * g->groups + i]);
            double inv = 1 / sqrt(total.m2 / total.n + (double)a->eps);
            for (int64_t c = i * size; c < (i + 1) * size; c++) {
                mean[b * g->c + c] = (float)total.mean;
                scale[b * g->c + c] = (float)(inv * (double)a->gamma[c]);
            }
        }
#pragma omp parallel for schedule(static) if (pixels * g->c > CPU_SMALL)
    for (int64_t p = 0; p < pixels; p++) {
        int64_t b = p / g->pixels;
        for (int64_t c = 0; c < g->c; c += RUN)
            norm_run(a, p, g->c, c, g->c - c < RUN ? g->c - c : RUN, mean + b * g->c,
                     scale + b * g->c);
    }
}

fct_status cpu_group_norm(fct_cx *cx, const fct_group_norm_args *a)
{
    grid g = grid_of(a);
    moments *strip;
    float *mean, *scale;
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = fct_arena_take(cx->arena, &strip, g.batch * g.strips * g.groups, sizeof *strip);
    if (st == FCT_OK) st = fct_arena_take(cx->arena, &mean, g.batch * g.c, sizeof *mean);
    if (st == FCT_OK) st = fct_arena_take(cx->arena, &scale, g.batch * g.c, sizeof *scale);
    if (st == FCT_OK && !fct_arena_dry(cx->arena)) group_norm(a, &g, strip, mean, scale);
    fct_arena_reset(cx->arena, mark);
    return st;
}

/* ---- layer norm ---- */

/* Sum of (x - origin) or of its square over a row, in lanes. */
FCT_CLONES static double row_sum(const fct_tensor *x, int64_t at, int64_t width, float origin,
                                 bool squares)
{
    double total = 0;
    for (int64_t c = 0; c < width; c += RUN) {
        float v[RUN], lane[VEC_LANES] = {0};
        int64_t n = width - c < RUN ? width - c : RUN;
        vec_load(v, x->data, x->dtype, at + c, n);
        for (int64_t i = n; i % VEC_LANES != 0; i++) v[i] = origin; /* adds nothing */
        for (int64_t i = 0; i < n; i += VEC_LANES)
            for (int l = 0; l < VEC_LANES; l++) {
                float d = v[i + l] - origin;
                lane[l] += squares ? d * d : d;
            }
        total += (double)vec_lanes_sum(lane);
    }
    return total;
}

FCT_CLONES static void norm_row(const fct_layer_norm_args *a, int64_t at, int64_t width, float mean,
                                float inv)
{
    for (int64_t c = 0; c < width; c += RUN) {
        float v[RUN];
        int64_t n = width - c < RUN ? width - c : RUN;
        vec_load(v, a->x.data, a->x.dtype, at + c, n);
        for (int64_t i = 0; i < n; i++) v[i] = (v[i] - mean) * inv;
        if (a->gamma)
            for (int64_t i = 0; i < n; i++) v[i] *= a->gamma[c + i];
        if (a->beta)
            for (int64_t i = 0; i < n; i++) v[i] += a->beta[c + i];
        vec_store(a->y.data, a->y.dtype, at + c, v, n);
    }
}

fct_status cpu_layer_norm(fct_cx *cx, const fct_layer_norm_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    int64_t rows = fct_view_rows(&a->x), width = fct_view_last(&a->x);
#pragma omp parallel for schedule(static) if (rows * width > CPU_SMALL / 4)
    for (int64_t r = 0; r < rows; r++) {
        double n = (double)width, mean = row_sum(&a->x, r * width, width, 0, false) / n;
        /* around the rounded mean; what rounding left over is taken out again */
        float center = (float)mean;
        double rest = mean - (double)center;
        double var = row_sum(&a->x, r * width, width, center, true) / n - rest * rest;
        norm_row(a, r * width, width, center,
                 (float)(1 / sqrt((var > 0 ? var : 0) + (double)a->eps)));
    }
    return FCT_OK;
}

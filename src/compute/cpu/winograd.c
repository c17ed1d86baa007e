/* winograd.c - computes 3x3 convolutions as Winograd's F(4x4,3x3) (Lavin and Gray, 2015): a 4x4
   tile of outputs comes from a 6x6 tile of inputs d as Aᵀ[(G g Gᵀ) · (Bᵀ d B)]A; over all channels
   the inner product is 36 independent matrix products, which oneDNN does. Tiles go through in
   strips, so that what lies between the transforms stays in cache. */
#include "compute/cpu/winograd.h"
#include "compute/cpu/vec.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are passed to inlined functions only */

enum { POINTS = 36, STRIP = 128, LEAST_MAP = 64 * 64, LEAST_TILES = 64, LEAST_CHANNELS = 128 };

bool cpu_winograd_fits(const fct_weight *w, int64_t map)
{
    return w->kind == FCT_PACK_CONV && w->dtype == FCT_F32 && w->kh == 3 && w->kw == 3 &&
           map >= LEAST_MAP && w->in >= LEAST_CHANNELS && w->out >= LEAST_CHANNELS;
}

static int64_t tiles_of(const fct_conv2d_args *a, int64_t *rows, int64_t *columns)
{
    *rows = (a->y.dim[1] + 3) / 4;
    *columns = (a->y.dim[2] + 3) / 4;
    return a->y.dim[0] * *rows * *columns;
}

bool cpu_winograd_takes(const fct_conv2d_args *a)
{
    int64_t rows, columns;
    const cpu_weight *w = a->w->impl;
    return w->winograd && fct_view_stride(a) == 1 && tiles_of(a, &rows, &columns) >= LEAST_TILES;
}

/* ---- kernel ---- */

static dn_shape product_shape(int64_t tiles, int64_t in, int64_t out)
{
    return (dn_shape){.kind = DN_MATMUL,
                      .x = FCT_F32,
                      .w = FCT_F32,
                      .y = FCT_F32,
                      .batch = POINTS,
                      .m = tiles,
                      .n = out,
                      .k = in};
}

/* u [36] of one 3x3 kernel, `step` floats apart: G g Gᵀ, in f64 since it is done once. */
static void transform_kernel(float *u, int64_t step, const float *g)
{
    static const double G[6][3] = {{1. / 4, 0, 0},
                                   {-1. / 6, -1. / 6, -1. / 6},
                                   {-1. / 6, 1. / 6, -1. / 6},
                                   {1. / 24, 1. / 12, 1. / 6},
                                   {1. / 24, -1. / 12, 1. / 6},
                                   {0, 0, 1}};
    double t[6][3];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 3; j++)
            t[i][j] =
                G[i][0] * (double)g[j] + G[i][1] * (double)g[3 + j] + G[i][2] * (double)g[6 + j];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            u[(i * 6 + j) * step] =
                (float)(t[i][0] * G[j][0] + t[i][1] * G[j][1] + t[i][2] * G[j][2]);
}

fct_status cpu_winograd_pack(cpu_weight *w, const fct_weight *sizes, const float *plain)
{
    int64_t n = sizes->out * sizes->in;
    dn_shape s = product_shape(STRIP, sizes->in, sizes->out);
    float *u;
    FCT_TRY(fct_new(&u, n, POINTS * (int64_t)sizeof *u));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) transform_kernel(u + i, n, plain + i * 9);
    fct_status st = dn_packed_new(&w->winograd, w->d, &s, 1);
    if (st == FCT_OK) st = dn_packed_fill(w->winograd, u);
    fct_free(u);
    return st;
}

/* ---- tiles ---- */

typedef struct job {
    const fct_conv2d_args *a;
    const float *x;
    int64_t h, w, rows, columns, tiles; /* input map; tiles of one picture; all tiles */
    float *v, *m;                       /* [36,STRIP,I] and [36,STRIP,O] */
} job;

CPU_INLINE vec_16 get(const float *p, int64_t n)
{
    vec_16 v = {0};
    if (n >= 16)
        memcpy(&v, p, sizeof v);
    else
        memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}

CPU_INLINE void put(float *p, vec_16 v, int64_t n)
{
    memcpy(p, &v, n >= 16 ? sizeof v : (size_t)n * sizeof *p);
}

CPU_INLINE void input_line(const vec_16 *d, vec_16 *o, int step) /* Bᵀ of six values */
{
    vec_16 a = d[0], b = d[step], c = d[2 * step], e = d[3 * step], f = d[4 * step],
           g = d[5 * step];
    vec_16 p = f - 4.0f * c, q = e - 4.0f * b, r = f - c, t = 2.0f * (e - b);
    o[0] = 4.0f * a - 5.0f * c + f;
    o[step] = p + q;
    o[2 * step] = p - q;
    o[3 * step] = r + t;
    o[4 * step] = r - t;
    o[5 * step] = 4.0f * b - 5.0f * e + g;
}

/* Aᵀ: six values to four. */
CPU_INLINE void output_line(const vec_16 *d, int step, vec_16 *o, int out_step)
{
    vec_16 p = d[step] + d[2 * step], m = d[step] - d[2 * step];
    vec_16 q = d[3 * step] + d[4 * step], n = d[3 * step] - d[4 * step];
    o[0] = d[0] + p + q;
    o[out_step] = m + 2.0f * n;
    o[2 * out_step] = p + 4.0f * q;
    o[3 * out_step] = m + 8.0f * n + d[5 * step];
}

/* Input tile `tile` into row `t` of v. */
FCT_CLONES static void transform_input(const job *j, int64_t tile, int64_t t)
{
    int64_t c = j->a->w->in, per = j->rows * j->columns, b = tile / per;
    int64_t top = tile % per / j->columns * 4 - j->a->pad_top,
            left = tile % j->columns * 4 - j->a->pad_left;
    for (int64_t k = 0; k < c; k += 16) {
        vec_16 d[POINTS], u[POINTS];
        for (int y = 0; y < 6; y++)
            for (int x = 0; x < 6; x++) {
                bool inside = top + y >= 0 && top + y < j->h && left + x >= 0 && left + x < j->w;
                const float *at =
                    j->x + (inside ? ((b * j->h + top + y) * j->w + left + x) * c + k : 0);
                d[y * 6 + x] = inside ? get(at, c - k) : (vec_16){0};
            }
        for (int x = 0; x < 6; x++) input_line(d + x, u + x, 6);
        for (int y = 0; y < 6; y++) input_line(u + y * 6, d + y * 6, 1);
        for (int i = 0; i < POINTS; i++) put(j->v + (i * STRIP + t) * c + k, d[i], c - k);
    }
}

CPU_INLINE vec_16 load_any(const fct_tensor *t, int64_t at, int64_t n)
{
    float v[16] = {0};
    vec_load(v, t->data, t->dtype, at, n < 16 ? n : 16);
    return get(v, 16);
}

/* Row `t` of m into the outputs of tile `tile`, with all that is added to a convolution. */
FCT_CLONES static void transform_output(const job *j, int64_t tile, int64_t t)
{
    const fct_conv2d_args *a = j->a;
    int64_t o = a->w->out, per = j->rows * j->columns, b = tile / per, ho = a->y.dim[1],
            wo = a->y.dim[2];
    int64_t top = tile % per / j->columns * 4, left = tile % j->columns * 4;
    for (int64_t k = 0; k < o; k += 16) {
        vec_16 m[POINTS], u[24], y[16], bias = {0};
        int64_t n = o - k < 16 ? o - k : 16;
        for (int i = 0; i < POINTS; i++) m[i] = get(j->m + (i * STRIP + t) * o + k, n);
        for (int x = 0; x < 6; x++) output_line(m + x, 6, u + x, 6);
        for (int i = 0; i < 4; i++) output_line(u + i * 6, 1, y + i * 4, 1);
        if (a->bias) bias = get(a->bias + k, n);
        if (a->channel_add) bias += get(a->channel_add + b * o + k, n);
        for (int i = 0; i < 16; i++) {
            int64_t row = top + i / 4, column = left + i % 4;
            if (row >= ho || column >= wo) continue;
            int64_t at = ((b * ho + row) * wo + column) * o + k;
            vec_16 v = y[i] + bias;
            if (fct_view_given(&a->residual)) v += load_any(&a->residual, at, n);
            float out[16];
            put(out, v, 16);
            vec_store(a->y.data, a->y.dtype, at, out, n);
        }
    }
}

/* ---- run ---- */

static fct_status run_strips(fct_cx *cx, job *j)
{
    dn_shape s = product_shape(STRIP, j->a->w->in, j->a->w->out);
    dn_io io = {.x = j->v, .y = j->m};
    if (fct_arena_dry(cx->arena)) return cpu_winograd_product(cx, j->a->w, &s, &io);
    for (int64_t first = 0; first < j->tiles; first += STRIP) {
        int64_t n = j->tiles - first < STRIP ? j->tiles - first : STRIP;
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < STRIP;
             t++) /* rows beyond the last tile repeat it: they are never looked at */
            transform_input(j, first + (t < n ? t : n - 1), t);
        FCT_TRY(cpu_winograd_product(cx, j->a->w, &s, &io));
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < n; t++) transform_output(j, first + t, t);
    }
    return FCT_OK;
}

fct_status cpu_winograd_run(fct_cx *cx, const fct_conv2d_args *a, const float *x, int64_t h,
                            int64_t w)
{
    job j = {.a = a, .x = x, .h = h, .w = w};
    j.tiles = tiles_of(a, &j.rows, &j.columns);
    FCT_TRY(fct_arena_take(cx->arena, &j.v, POINTS * STRIP * a->w->in, sizeof *j.v));
    FCT_TRY(fct_arena_take(cx->arena, &j.m, POINTS * STRIP * a->w->out, sizeof *j.m));
    return run_strips(cx, &j);
}

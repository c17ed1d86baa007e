/* sae_select.c - selects the k strongest features of each row without writing the encoder's product
   as a whole: tile after tile of rows meets the encoder's copy, and each row's candidates are taken
   from the tile while it is in cache. Rows for which the rounded products do not decide are
   gathered and computed in f32 at the end. */
#include <string.h>

#include "compute/cpu/sae_train.h"
#include "compute/cpu/vec.h"

enum { EXACT_ROWS = 64 };

typedef struct tile { /* scratch */
    uint8_t *x;       /* [m,d] in the product's format */
    uint8_t *z;       /* [m,n] */
    uint8_t *pad;
    cpu_row *row; /* [m] */
    uint8_t *room;
} tile;

typedef struct job {
    const fct_select_args *a;
    cpu_encoder *e;
    cpu_candidates size;
    cpu_list list;
    uint8_t *undecided; /* [rows] */
    uint8_t *base;      /* each thread's tile; f32: the only one */
    int64_t stride;
} job;

/* ---- scratch ---- */

static int64_t size_of(fct_dtype t)
{
    return t == FCT_BF16 ? 2 : t == FCT_U8 ? 1 : 4;
}

static int64_t whole_64(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* The pieces of a tile from base on; returns the bytes of all. */
static int64_t place_tile(tile *t, const job *j, uint8_t *base)
{
    const dn_shape *s = &j->e->shape;
    const int64_t bytes[] = {s->m * s->k * size_of(s->x), s->m * s->n * size_of(s->y),
                             dn_plan_scratch(j->e->lane[0].plan), s->m * (int64_t)sizeof *t->row,
                             cpu_candidates_bytes(&j->size)};
    int64_t at[6] = {0};
    for (int i = 0; i < 5; i++) at[i + 1] = at[i] + whole_64(bytes[i]);
    if (base)
        *t = (tile){.x = base,
                    .z = base + at[1],
                    .pad = base + at[2],
                    .row = (cpu_row *)(void *)(base + at[3]),
                    .room = base + at[4]};
    return at[5];
}

static fct_status take_job(fct_cx *cx, job *j)
{
    tile t;
    int64_t bytes = place_tile(&t, j, NULL);
    FCT_TRY(fct_arena_take(cx->arena, &j->undecided, j->a->rows, 1));
    FCT_TRY(cpu_list_take(cx, &j->list, j->a));
    if (j->a->enc->product == FCT_PRODUCT_F32) return fct_arena_take(cx->arena, &j->base, bytes, 1);
    return cpu_thread_scratch(cx, &j->base, &j->stride, bytes);
}

FCT_CLONES static void centre(float *y, const float *x, const float *shift, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - shift[i];
}

static int64_t rows_of(const job *j, int64_t at)
{
    return j->a->rows - at < j->e->shape.m ? j->a->rows - at : j->e->shape.m;
}

/* What the last tile's product reads beyond its rows. */
static void clear_rest(const job *j, tile *t, int64_t rows)
{
    int64_t row = j->e->shape.k * size_of(j->e->shape.x);
    memset(t->x + rows * row, 0, (size_t)((j->e->shape.m - rows) * row));
}

static fct_status multiply(const job *j, const cpu_lane *l, const tile *t)
{
    return dn_plan_run(l->plan, l->d,
                       &(dn_io){.x = t->x, .w = j->e->packed, .y = t->z, .scratch = t->pad});
}

/* ---- tiles of rounded products, each by one thread ---- */

/* One row of a tile: its codes, or its candidates where those of all rows are kept. */
static void find_row(const job *j, cpu_candidates *c, int64_t r, const cpu_row *row)
{
    const fct_select_args *a = j->a;
    const cpu_list *l = &j->list;
    if (!l->most) {
        j->undecided[r] =
            !cpu_candidates_select(c, j->e, a, row, a->index + r * a->k, a->value + r * a->k);
        return;
    }
    int64_t m = cpu_candidates_find(c, j->e, a, row);
    j->undecided[r] = m < 0 || m > l->most;
    l->count[r] = j->undecided[r] ? 0 : (int32_t)m;
    memcpy(l->index + r * l->most, c->index, (size_t)l->count[r] * sizeof *l->index);
}

static fct_status rounded_tile(const job *j, int thread, int64_t at)
{
    const fct_select_args *a = j->a;
    const dn_shape *s = &j->e->shape;
    int64_t rows = rows_of(j, at), d = s->k;
    cpu_candidates c = j->size;
    tile t;
    (void)place_tile(&t, j, j->base + j->stride * thread);
    cpu_candidates_place(&c, t.room);
    for (int64_t i = 0; i < rows; i++) {
        float *x = a->centred + (at + i) * d;
        centre(x, a->x + (at + i) * d, a->shift, d);
        t.row[i] = (cpu_row){.z = t.z + i * s->n * size_of(s->y), .x = x};
        cpu_encoder_round(j->e, a->enc, at + i, x, t.x + i * d * size_of(s->x), &t.row[i].rounding);
    }
    clear_rest(j, &t, rows);
    FCT_TRY(multiply(j, &j->e->lane[thread], &t));
    for (int64_t i = 0; i < rows; i++) find_row(j, &c, at + i, &t.row[i]);
    return FCT_OK;
}

static fct_status rounded_tiles(const job *j)
{
    int64_t m = j->e->shape.m;
    fct_failure failed = {0};
#pragma omp parallel for schedule(dynamic)
    for (int64_t at = 0; at < j->a->rows; at += m) {
        fct_status st = rounded_tile(j, fct_thread_index(), at);
        if (st != FCT_OK) fct_failure_keep(&failed, st, at);
    }
    return fct_failure_status(&failed);
}

/* After all tiles, where candidates were kept. */
static void take_rows(const job *j)
{
    const fct_select_args *a = j->a;
    const cpu_list *l = &j->list;
    cpu_list_products(l, a);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        tile t;
        cpu_candidates c = j->size;
        if (j->undecided[r]) continue;
        (void)place_tile(&t, j, j->base + j->stride * fct_thread_index());
        cpu_candidates_place(&c, t.room);
        cpu_candidates_take(&c, a, l->index + r * l->most, l->product + r * l->most, l->count[r],
                            a->index + r * a->k, a->value + r * a->k);
    }
}

/* ---- tiles of f32 products, by all threads together ---- */

FCT_CLONES static void add_bias(float *z, const float *bias, int64_t n)
{
    for (int64_t i = 0; i < n; i++) z[i] += bias[i];
}

static fct_status take_exact_rows(fct_cx *cx, const job *j, const float *z, int64_t at,
                                  int64_t rows)
{
    const fct_select_args *a = j->a;
    return cpu_topk(cx, &(fct_topk_args){.x = z,
                                         .rows = rows,
                                         .n = a->enc->n,
                                         .k = a->k,
                                         .any_order = a->any_order,
                                         .index = a->index + at * a->k,
                                         .value = a->value + at * a->k});
}

static fct_status exact_tile(fct_cx *cx, const job *j, tile *t, int64_t at)
{
    const fct_select_args *a = j->a;
    int64_t rows = rows_of(j, at), d = j->e->shape.k, n = j->e->shape.n;
    float *z = (float *)(void *)t->z;
#pragma omp parallel for schedule(static)
    for (int64_t r = at; r < at + rows; r++) {
        centre(a->centred + r * d, a->x + r * d, a->shift, d);
        memcpy(t->x + (r - at) * d * 4, a->centred + r * d, (size_t)d * 4);
    }
    clear_rest(j, t, rows);
    FCT_TRY(multiply(j, &j->e->lane[0], t));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) add_bias(z + i * n, a->bias, n);
    return take_exact_rows(cx, j, z, at, rows);
}

static fct_status exact_tiles(fct_cx *cx, const job *j)
{
    tile t;
    if (fct_arena_dry(cx->arena)) return take_exact_rows(cx, j, NULL, 0, j->e->shape.m);
    (void)place_tile(&t, j, j->base);
    for (int64_t at = 0; at < j->a->rows; at += j->e->shape.m)
        FCT_TRY(exact_tile(cx, j, &t, at));
    return FCT_OK;
}

/* ---- rows that rounded products do not decide ---- */

typedef struct exact { /* rows gathered from anywhere */
    float *x, *z, *value;
    int32_t *index;
    int64_t *row, n;
} exact;

static fct_status take_exact(fct_cx *cx, exact *g, const fct_select_args *a)
{
    FCT_TRY(fct_arena_take(cx->arena, &g->x, EXACT_ROWS * a->enc->d, sizeof *g->x));
    FCT_TRY(fct_arena_take(cx->arena, &g->z, EXACT_ROWS * a->enc->n, sizeof *g->z));
    FCT_TRY(fct_arena_take(cx->arena, &g->value, EXACT_ROWS * a->k, sizeof *g->value));
    FCT_TRY(fct_arena_take(cx->arena, &g->index, EXACT_ROWS * a->k, sizeof *g->index));
    return fct_arena_take(cx->arena, &g->row, EXACT_ROWS, sizeof *g->row);
}

static fct_status run_exact(fct_cx *cx, exact *g, const fct_select_args *a)
{
    int64_t d = a->enc->d, n = a->enc->n, rows = fct_arena_dry(cx->arena) ? EXACT_ROWS : g->n;
    if (!fct_arena_dry(cx->arena)) {
        for (int64_t i = 0; i < rows; i++) {
            memcpy(g->x + i * d, a->centred + g->row[i] * d, (size_t)d * sizeof *g->x);
            memcpy(g->z + i * n, a->bias, (size_t)n * sizeof *g->z);
        }
        FCT_TRY(dn_sgemm(&(dn_gemm){.trans_b = true,
                                    .m = rows,
                                    .n = n,
                                    .k = d,
                                    .alpha = 1,
                                    .beta = 1,
                                    .a = g->x,
                                    .lda = d,
                                    .b = a->w,
                                    .ldb = d,
                                    .c = g->z,
                                    .ldc = n}));
    }
    FCT_TRY(cpu_topk(cx, &(fct_topk_args){.x = g->z,
                                          .rows = rows,
                                          .n = n,
                                          .k = a->k,
                                          .any_order = a->any_order,
                                          .index = g->index,
                                          .value = g->value}));
    for (int64_t i = 0; i < rows && !fct_arena_dry(cx->arena); i++) {
        memcpy(a->index + g->row[i] * a->k, g->index + i * a->k, (size_t)a->k * sizeof *g->index);
        memcpy(a->value + g->row[i] * a->k, g->value + i * a->k, (size_t)a->k * sizeof *g->value);
    }
    g->n = 0;
    return FCT_OK;
}

static fct_status run_undecided(fct_cx *cx, const job *j)
{
    const fct_select_args *a = j->a;
    exact g = {0};
    int64_t count = 0;
    FCT_TRY(take_exact(cx, &g, a));
    if (fct_arena_dry(cx->arena)) return run_exact(cx, &g, a);
    /* no rows: the scratch that a dry run has counted */
    FCT_TRY(cpu_topk(cx, &(fct_topk_args){.n = a->enc->n, .k = a->k}));
    for (int64_t r = 0; r < a->rows; r++) {
        if (!j->undecided[r]) continue;
        g.row[g.n++] = r;
        count++;
        if (g.n == EXACT_ROWS) FCT_TRY(run_exact(cx, &g, a));
    }
    if (a->recomputed) *a->recomputed = count;
    return g.n > 0 ? run_exact(cx, &g, a) : FCT_OK;
}

fct_status cpu_select(fct_cx *cx, const fct_select_args *a)
{
    job j = {.a = a, .e = a->enc->impl, .size = cpu_candidates_size(a->enc->n, a->k)};
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = FCT_OK;
    FCT_TRY_OUT(cpu_encoder_open_lanes(j.e, a->enc));
    FCT_TRY_OUT(take_job(cx, &j));
    if (a->recomputed) *a->recomputed = 0;
    if (a->enc->product == FCT_PRODUCT_F32) {
        FCT_TRY_OUT(exact_tiles(cx, &j));
        goto out;
    }
    if (!fct_arena_dry(cx->arena)) {
        FCT_TRY_OUT(rounded_tiles(&j));
        if (j.list.most) take_rows(&j);
    }
    FCT_TRY_OUT(run_undecided(cx, &j));
out:
    fct_arena_reset(cx->arena, mark);
    return st;
}

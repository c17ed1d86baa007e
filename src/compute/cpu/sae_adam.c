/* sae_adam.c - computes an SAE's gradients from its codes and steps its weights with Adam, in one
   pass. The entries of each feature are brought together (a counting sort, so no two threads add to
   one place); then, feature after feature, its gradients are summed in registers, 64 columns at a
   time, and used at once: they are never written.

   With few entries a feature, whole rows are done one after the other, and the encoder's copy is
   made while the new row is in cache. With many, each thread takes blocks of 64 columns and copies
   those of the inputs, then of the errors, together first, so that they stay in its second-level
   cache while all features pass. What a block needs of the whole row is known before: the length of
   the direction, and the part of the gradient along it, which is a sum over entries of value times
   coef, since coef is the product of error and direction. */
#include <math.h>

#include "compute/cpu/sae_train.h"
#include "compute/cpu/vec.h"

enum { COLUMNS = 64, PIECES = 64, SORTERS = 16, AHEAD = 3 };

typedef struct entries { /* of each feature, rows ascending */
    int32_t *start;      /* [n+1] */
    int32_t *row;        /* [rows*k] */
    float *value, *coef; /* value: times scale */
} entries;

typedef struct scalars {        /* of one feature */
    float inverse, along, bias; /* 1/|w_dec|; g_dec·w_dec/|w_dec|; gradient of the bias */
} scalars;

typedef struct work {
    entries e;
    int32_t *count;  /* [SORTERS,n] */
    scalars *scalar; /* [n] */
    float *through;  /* [PIECES,d] */
    float *copy;     /* by blocks: [threads][rows,64] */
    int64_t stride;  /* floats of one thread's copy */
    bool blocks;
} work;

/* ---- entries by feature ---- */

/* Where the i-th of so many parts begins. */
static int64_t part(int64_t n, int64_t i, int64_t parts)
{
    return n * i / parts;
}

static void count_entries(const fct_adam_args *a, work *w, int64_t s)
{
    int32_t *count = w->count + s * a->n;
    memset(count, 0, (size_t)a->n * sizeof *count);
    for (int64_t i = part(a->rows, s, SORTERS) * a->k; i < part(a->rows, s + 1, SORTERS) * a->k;
         i++)
        if (a->value[i] > 0) count[a->index[i]]++;
}

static void place_entries(const fct_adam_args *a, work *w, int64_t s)
{
    int32_t *next = w->count + s * a->n;
    for (int64_t i = part(a->rows, s, SORTERS) * a->k; i < part(a->rows, s + 1, SORTERS) * a->k;
         i++) {
        if (!(a->value[i] > 0)) continue;
        int32_t at = next[a->index[i]]++;
        w->e.row[at] = (int32_t)(i / a->k);
        w->e.value[at] = a->value[i] * a->scale;
        w->e.coef[at] = a->coef[i];
    }
}

/* A stable counting sort: its result does not depend on who sorts which part. */
static void sort_entries(const fct_adam_args *a, work *w)
{
    int32_t at = 0;
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < SORTERS; s++) count_entries(a, w, s);
    for (int64_t f = 0; f < a->n; f++) {
        w->e.start[f] = at;
        for (int64_t s = 0; s < SORTERS; s++) {
            int32_t n = w->count[s * a->n + f];
            w->count[s * a->n + f] = at;
            at += n;
        }
    }
    w->e.start[a->n] = at;
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < SORTERS; s++) place_entries(a, w, s);
}

/* ---- what is needed of whole rows ---- */

FCT_CLONES static double squares(const float *x, int64_t n)
{
    double lane[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int l = 0; l < 8; l++) sum += lane[l];
    return sum;
}

FCT_CLONES static double product(const float *x, const float *y, int64_t n)
{
    double lane[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)x[i + l] * (double)y[i + l];
    for (; i < n; i++) sum += (double)x[i] * (double)y[i];
    for (int l = 0; l < 8; l++) sum += lane[l];
    return sum;
}

static scalars scalars_of(const fct_adam_args *a, const work *w, int64_t f)
{
    const float *row = a->w_dec + f * a->d;
    double norm = sqrt(squares(row, a->d)), along = 0, bias = 0;
    for (int64_t i = w->e.start[f]; i < w->e.start[f + 1]; i++) {
        bias += (double)w->e.coef[i];
        along += (double)w->e.value[i] * (double)w->e.coef[i];
    }
    along = a->scale != 0 ? along / (double)a->scale : 0;
    if (a->more && a->more[f] >= 0) {
        bias += (double)a->more_bias[a->more[f]];
        along += product(a->more_dec + a->more[f] * a->d, row, a->d);
    }
    float inverse = norm > 0 ? (float)(1 / norm) : 1;
    return (scalars){
        .inverse = inverse, .along = (float)(along * (double)inverse), .bias = (float)bias};
}

/* ---- 64 columns of a feature ---- */

typedef struct rule {                       /* Adam's numbers */
    float rate, root, eps, move, keep, add; /* root: 1/sqrt(1 - beta2^step) */
} rule;

static rule rule_of(const fct_adam_args *a)
{
    return (rule){.rate = a->rate,
                  .root = 1 / a->root,
                  .eps = a->eps,
                  .move = (float)(1 - (double)a->beta1),
                  .keep = a->beta2,
                  .add = (float)(1 - (double)a->beta2)};
}

CPU_INLINE void adam_run(float *restrict w, float *restrict m, float *restrict v,
                         const float *restrict g, int64_t n, const rule *r)
{
    for (int64_t i = 0; i < n; i++) {
        float mi = m[i] + r->move * (g[i] - m[i]), vi = v[i] * r->keep + r->add * g[i] * g[i];
        m[i] = mi;
        v[i] = vi;
        w[i] -= r->rate * (mi / (sqrtf(vi) * r->root + r->eps));
    }
}

typedef struct piece { /* columns of one feature */
    const float *rows; /* those columns of the inputs or errors, `width` floats apart */
    int64_t width, f, c, n;
    float *through; /* [n]; encoder only */
} piece;

/* Sums of the feature's entries, and what comes from elsewhere. */
CPU_INLINE void gather(float *g, const float *coef, const entries *in, const piece *p,
                       const float *more)
{
    int64_t from = in->start[p->f], to = in->start[p->f + 1];
    if (p->n == COLUMNS) {
        vec_64 sum = {0};
        for (int64_t i = from; i < to; i++)
            vec_64_add_scaled(&sum, coef[i], p->rows + in->row[i] * p->width);
        vec_64_store(g, &sum);
    } else {
        memset(g, 0, (size_t)p->n * sizeof *g);
        for (int64_t i = from; i < to; i++)
            for (int64_t c = 0; c < p->n; c++) g[c] += coef[i] * p->rows[in->row[i] * p->width + c];
    }
    for (int64_t c = 0; more && c < p->n; c++) g[c] += more[c];
}

static const float *more_of(const fct_adam_args *a, const float *more, const piece *p)
{
    return a->more && a->more[p->f] >= 0 ? more + a->more[p->f] * a->d + p->c : NULL;
}

FCT_CLONES static void update_enc(const fct_adam_args *a, const entries *in, const rule *r,
                                  const scalars *s, const piece *p)
{
    float g[COLUMNS];
    int64_t at = p->f * a->d + p->c;
    float *w = a->w_enc + at;
    gather(g, in->coef, in, p, more_of(a, a->more_enc, p));
    for (int64_t i = 0; i < p->n; i++) p->through[i] += s->bias * w[i];
    if (p->n == COLUMNS)
        adam_run(w, a->m_enc + at, a->v_enc + at, g, COLUMNS, r);
    else
        adam_run(w, a->m_enc + at, a->v_enc + at, g, p->n, r);
}

FCT_CLONES static void update_dec(const fct_adam_args *a, const entries *in, const rule *r,
                                  const scalars *s, const piece *p)
{
    float g[COLUMNS];
    int64_t at = p->f * a->d + p->c;
    float *w = a->w_dec + at;
    gather(g, in->value, in, p, more_of(a, a->more_dec, p));
    for (int64_t i = 0; i < p->n; i++) {
        w[i] *= s->inverse;
        g[i] -= s->along * w[i];
    }
    if (p->n == COLUMNS)
        adam_run(w, a->m_dec + at, a->v_dec + at, g, COLUMNS, r);
    else
        adam_run(w, a->m_dec + at, a->v_dec + at, g, p->n, r);
}

static int64_t columns(int64_t d, int64_t c)
{
    return d - c < COLUMNS ? d - c : COLUMNS;
}

/* ---- whole rows ---- */

static void one_row(const fct_adam_args *a, work *w, const rule *r, int64_t f, float *through)
{
    scalars s = w->scalar[f] = scalars_of(a, w, f);
    for (int64_t c = 0; c < a->d; c += COLUMNS)
        update_enc(a, &w->e, r, &s,
                   &(piece){.rows = a->input + c,
                            .width = a->d,
                            .f = f,
                            .c = c,
                            .n = columns(a->d, c),
                            .through = through + c});
    if (a->enc) cpu_encoder_row(a->enc->impl, a->enc, f, a->w_enc + f * a->d);
    for (int64_t c = 0; c < a->d; c += COLUMNS)
        update_dec(
            a, &w->e, r, &s,
            &(piece){.rows = a->error + c, .width = a->d, .f = f, .c = c, .n = columns(a->d, c)});
}

static void by_rows(const fct_adam_args *a, work *w)
{
    rule r = rule_of(a);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t q = 0; q < PIECES; q++)
        for (int64_t f = part(a->n, q, PIECES); f < part(a->n, q + 1, PIECES); f++)
            one_row(a, w, &r, f, w->through + q * a->d);
}

/* ---- block by block: the encoder's columns, then the decoder's ---- */

static void copy_columns(float *to, const float *x, int64_t rows, int64_t d, int64_t c)
{
    size_t bytes = (size_t)columns(d, c) * sizeof *to;
    for (int64_t r = 0; r < rows; r++) memcpy(to + r * COLUMNS, x + r * d + c, bytes);
}

/* The weights of features to come: the hardware does not guess these strides. */
static void fetch(const fct_adam_args *a, bool dec, int64_t f, int64_t c)
{
    const float *const all[] = {dec ? a->w_dec : a->w_enc, dec ? a->m_dec : a->m_enc,
                                dec ? a->v_dec : a->v_enc};
    if (f >= a->n) return;
    for (size_t i = 0; i < FCT_COUNT(all); i++)
        for (int64_t l = 0; l < columns(a->d, c); l += 16)
            __builtin_prefetch(all[i] + f * a->d + c + l, 1);
}

static void one_task(const fct_adam_args *a, work *w, const rule *r, const float *copy, bool dec,
                     int64_t q, int64_t c)
{
    piece p = {.rows = copy,
               .width = COLUMNS,
               .c = c,
               .n = columns(a->d, c),
               .through = w->through + q * a->d + c};
    for (p.f = part(a->n, q, PIECES); p.f < part(a->n, q + 1, PIECES); p.f++) {
        fetch(a, dec, p.f + AHEAD, c);
        if (dec)
            update_dec(a, &w->e, r, &w->scalar[p.f], &p);
        else
            update_enc(a, &w->e, r, &w->scalar[p.f], &p);
    }
}

static void by_blocks(const fct_adam_args *a, work *w)
{
    rule r = rule_of(a);
    int64_t blocks = 2 * ((a->d + COLUMNS - 1) / COLUMNS);
#pragma omp parallel
    {
        float *copy = w->copy + w->stride * fct_thread_index();
        int64_t have = -1;
#pragma omp for schedule(static)
        for (int64_t f = 0; f < a->n; f++) w->scalar[f] = scalars_of(a, w, f);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < blocks * PIECES; task++) {
            int64_t block = task / PIECES, c = block / 2 * COLUMNS;
            bool dec = block % 2;
            if (have != block) copy_columns(copy, dec ? a->error : a->input, a->rows, a->d, c);
            have = block;
            one_task(a, w, &r, copy, dec, task % PIECES, c);
        }
        if (a->enc) {
#pragma omp for schedule(static)
            for (int64_t f = 0; f < a->n; f++)
                cpu_encoder_row(a->enc->impl, a->enc, f, a->w_enc + f * a->d);
        }
    }
}

/* ---- the operation ---- */

/* When a feature has many entries on average; a function of sizes alone. */
static bool pays(const fct_adam_args *a)
{
    return a->rows * a->k >= 12 * a->n && a->d > COLUMNS;
}

static fct_status take(fct_cx *cx, const fct_adam_args *a, work *w)
{
    int64_t n;
    FCT_TRY(fct_mul_i64(&n, a->rows, a->k));
    if (n > INT32_MAX) return fct_fail(FCT_ERR_RANGE, "%lld entries in one call", (long long)n);
    FCT_TRY(fct_arena_take(cx->arena, &w->e.start, a->n + 1, sizeof *w->e.start));
    FCT_TRY(fct_arena_take(cx->arena, &w->e.row, n, sizeof *w->e.row));
    FCT_TRY(fct_arena_take(cx->arena, &w->e.value, n, sizeof *w->e.value));
    FCT_TRY(fct_arena_take(cx->arena, &w->e.coef, n, sizeof *w->e.coef));
    FCT_TRY(fct_arena_take(cx->arena, &w->count, SORTERS * a->n, sizeof *w->count));
    FCT_TRY(fct_arena_take(cx->arena, &w->scalar, a->n, sizeof *w->scalar));
    FCT_TRY(fct_arena_take(cx->arena, &w->through, PIECES * a->d, sizeof *w->through));
    w->blocks = pays(a);
    w->stride = a->rows * COLUMNS;
    return fct_arena_take(cx->arena, &w->copy, w->blocks ? fct_threads() : 0,
                          w->stride * (int64_t)sizeof *w->copy);
}

static void finish(const fct_adam_args *a, const work *w)
{
    rule r = rule_of(a);
    for (int64_t f = 0; f < a->n; f++)
        adam_run(a->b_enc + f, a->m_bias + f, a->v_bias + f, &w->scalar[f].bias, 1, &r);
    for (int64_t c = 0; c < a->d; c++) {
        double sum = 0;
        for (int64_t q = 0; q < PIECES; q++) sum += (double)w->through[q * a->d + c];
        a->through[c] = (float)sum;
    }
}

fct_status cpu_adam(fct_cx *cx, const fct_adam_args *a)
{
    work w = {0};
    fct_mark mark = fct_arena_mark(cx->arena);
    fct_status st = take(cx, a, &w);
    if (st == FCT_OK && !fct_arena_dry(cx->arena)) {
        sort_entries(a, &w);
        memset(w.through, 0, (size_t)(PIECES * a->d) * sizeof *w.through);
        if (w.blocks)
            by_blocks(a, &w);
        else
            by_rows(a, &w);
        finish(a, &w);
        if (a->enc) st = cpu_encoder_finish(a->enc->impl, a->enc, a->w_enc);
    }
    fct_arena_reset(cx->arena, mark);
    return st;
}

/* fast_aux.c - computes the aux term of the fast engine. The dead features are gathered into an
   autoencoder of their own, so that what follows costs by their number. Where a row takes a fair
   share of them, its codes are kept dense and everything is a matrix product; where they are few
   among many, sparse. Rows go in chunks, so that dense codes stay small.

       u = z W_dec + (x' - x)        which is e' - e in both modes
       c = aux_coef · 2/spread

   The term is sum(u²)/spread, the gradient of e' is c·u. */
#include <math.h>
#include <string.h>

#include "train/fast.h"
#include "train/step.h"

enum { ROWS = 512, DENSE = 12 }; /* dense up to 12 dead features for each one that a row takes */

int64_t fct_fast_aux_rows(const fct_trainee *t)
{
    return t->batch < ROWS ? t->batch : ROWS;
}

/* ---- memory: grows with the number of the dead ---- */

static fct_status make_room(fct_fast *f, const fct_trainee *t)
{
    int64_t d = t->sae->d, rows = fct_fast_aux_rows(t), n, room = f->m + f->m / 4 + 64;
    if (f->m <= f->room) return FCT_OK;
    if (room > t->plan.f) room = t->plan.f;
    FCT_TRY(fct_mul_i64(&n, room, d));
    f->room = 0;
    const struct {
        void *at;
        int64_t n;
    } part[] = {{&f->dead, room},     {&f->w_enc, n},       {&f->w_dec, n},
                {&f->b_enc, room},    {&f->g_enc, n},       {&f->g_dec, n},
                {&f->g_bias, room},   {&f->z, rows * room}, {&f->dz, rows * room},
                {&f->g_out, rows * d}};
    for (size_t i = 0; i < FCT_COUNT(part); i++) {
        void *old;
        memcpy(&old, part[i].at, sizeof old);
        fct_free(old);
        FCT_TRY(fct_new(part[i].at, part[i].n, sizeof(float))); /* dead: int32, as large */
    }
    f->room = room;
    return FCT_OK;
}

static void gather(fct_fast *f, const fct_trainee *t)
{
    const fct_sae *s = t->sae;
    size_t bytes = (size_t)s->d * sizeof(float);
    int32_t m = 0;
    for (int64_t i = 0; i < s->f; i++) {
        f->dead_index[i] = t->dead[i] ? m : -1;
        if (t->dead[i]) f->dead[m++] = (int32_t)i;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < f->m; i++) {
        memcpy(f->w_enc + i * s->d, s->w_enc + f->dead[i] * s->d, bytes);
        memcpy(f->w_dec + i * s->d, s->w_dec + f->dead[i] * s->d, bytes);
        f->b_enc[i] = s->b_enc[f->dead[i]];
    }
}

/* ---- a chunk of rows ---- */

typedef struct chunk {
    const float *centred, *error; /* [rows,D] */
    int32_t *index;               /* [rows,k] */
    float *value, *coef;
    int64_t rows, k;
    float c;
    bool first, dense, sums;
    double *miss; /* [rows] */
} chunk;

static fct_status preact(fct_trainee *t, const chunk *k)
{
    fct_fast *f = t->fast;
    for (int64_t r = 0; r < k->rows; r++)
        memcpy(f->z + r * f->m, f->b_enc, (size_t)f->m * sizeof *f->z);
    return fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = k->centred,
                                                           .b = f->w_enc,
                                                           .c = f->z,
                                                           .m = k->rows,
                                                           .n = f->m,
                                                           .k = t->sae->d,
                                                           .trans_b = true,
                                                           .alpha = 1,
                                                           .beta = 1});
}

/* Codes: the k strongest; dense ones replace the products in z. */
static fct_status codes(fct_trainee *t, const chunk *k)
{
    fct_fast *f = t->fast;
    if (k->k < f->m || !k->dense)
        FCT_TRY(fct_op_topk(&t->engine.cx, &(fct_topk_args){.x = f->z,
                                                            .rows = k->rows,
                                                            .n = f->m,
                                                            .k = k->k,
                                                            .any_order = k->dense,
                                                            .index = k->index,
                                                            .value = k->value}));
    if (!k->dense) return FCT_OK;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < k->rows; r++) {
        float *z = f->z + r * f->m;
        if (k->k == f->m) {
            for (int64_t i = 0; i < f->m; i++) z[i] = z[i] <= 0 ? 0 : z[i];
            continue;
        }
        memset(z, 0, (size_t)f->m * sizeof *z);
        for (int64_t j = 0; j < k->k; j++) z[k->index[r * k->k + j]] = k->value[r * k->k + j];
    }
    return FCT_OK;
}

/* g_out := c·u, and the rows' sums of u². */
static fct_status decode(fct_trainee *t, const chunk *k)
{
    fct_fast *f = t->fast;
    int64_t d = t->sae->d;
    if (k->dense)
        FCT_TRY(fct_op_matmul(&t->engine.cx, &(fct_matmul_args){.a = f->z,
                                                                .b = f->w_dec,
                                                                .c = f->g_out,
                                                                .m = k->rows,
                                                                .n = d,
                                                                .k = f->m,
                                                                .alpha = 1}));
    else
        FCT_TRY(fct_op_sparse_decode(&t->engine.cx, &(fct_sparse_decode_args){.index = k->index,
                                                                              .value = k->value,
                                                                              .rows = k->rows,
                                                                              .k = k->k,
                                                                              .d = d,
                                                                              .n = f->m,
                                                                              .table = f->w_dec,
                                                                              .y = f->g_out}));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < k->rows; r++) {
        float *u = f->g_out + r * d;
        const float *e = k->error + r * d;
        for (int64_t i = 0; i < d; i++) u[i] += e[i];
        k->miss[r] = fct_sum_squares(u, d);
        fct_scale_to(u, u, k->c, d);
    }
    if (k->sums) fct_add_columns(f->g_sum, f->g_out, k->rows, d);
    return FCT_OK;
}

/* dz := 0 where z is, and its columns' sums: each thread has columns of its own. */
static void through_relu(fct_fast *f, int64_t rows)
{
    enum { COLUMNS = 64 };
    int64_t m = f->m;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < m; c += COLUMNS) {
        int64_t end = c + COLUMNS < m ? c + COLUMNS : m;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = c; i < end; i++) {
                float g = f->z[r * m + i] > 0 ? f->dz[r * m + i] : 0;
                f->dz[r * m + i] = g;
                f->g_bias[i] += g;
            }
    }
}

static fct_status backward_dense(fct_trainee *t, const chunk *k)
{
    fct_fast *f = t->fast;
    int64_t d = t->sae->d, m = f->m;
    float keep = k->first ? 0 : 1;
    fct_cx *cx = &t->engine.cx;
    fct_matmul_args dec = {.a = f->z,
                           .b = f->g_out,
                           .c = f->g_dec,
                           .m = m,
                           .n = d,
                           .k = k->rows,
                           .trans_a = true,
                           .alpha = 1,
                           .beta = keep},
                    enc = dec,
                    back = {.a = f->g_out,
                            .b = f->w_dec,
                            .c = f->dz,
                            .m = k->rows,
                            .n = m,
                            .k = d,
                            .trans_b = true,
                            .alpha = 1};
    FCT_TRY(fct_op_matmul(cx, &dec));
    FCT_TRY(fct_op_matmul(cx, &back));
    through_relu(f, k->rows);
    enc.a = f->dz;
    enc.b = k->centred;
    enc.c = f->g_enc;
    return fct_op_matmul(cx, &enc);
}

static fct_status backward_sparse(fct_trainee *t, const chunk *k)
{
    fct_fast *f = t->fast;
    fct_cx *cx = &t->engine.cx;
    fct_sparse_outer_args dec = {.index = k->index,
                                 .coef = k->value,
                                 .rows = k->rows,
                                 .k = k->k,
                                 .n = f->m,
                                 .d = t->sae->d,
                                 .x = f->g_out,
                                 .grad = f->g_dec},
                          enc = dec;
    if (k->first) {
        memset(f->g_dec, 0, (size_t)(f->m * t->sae->d) * sizeof *f->g_dec);
        memset(f->g_enc, 0, (size_t)(f->m * t->sae->d) * sizeof *f->g_enc);
    }
    FCT_TRY(fct_op_sparse_outer(cx, &dec));
    FCT_TRY(fct_op_sparse_dot(cx, &(fct_sparse_dot_args){.index = k->index,
                                                         .rows = k->rows,
                                                         .k = k->k,
                                                         .d = t->sae->d,
                                                         .n = f->m,
                                                         .x = f->g_out,
                                                         .table = f->w_dec,
                                                         .coef = k->coef}));
    for (int64_t i = 0; i < k->rows * k->k; i++) {
        if (!(k->value[i] > 0)) k->coef[i] = 0; /* ReLU */
        f->g_bias[k->index[i]] += k->coef[i];
    }
    enc.coef = k->coef;
    enc.x = k->centred;
    enc.grad = f->g_enc;
    return fct_op_sparse_outer(cx, &enc);
}

fct_status fct_fast_aux(fct_trainee *t, double spread)
{
    const fct_train_plan *p = &t->plan;
    fct_fast *f = t->fast;
    int64_t d = t->sae->d, rows = fct_fast_aux_rows(t);
    double miss = 0, row_miss[ROWS];
    f->m = t->now.n_dead;
    fct_status st = make_room(f, t);
    if (st != FCT_OK) {
        f->m = 0;
        return st;
    }
    gather(f, t);
    memset(f->g_bias, 0, (size_t)f->m * sizeof *f->g_bias);
    memset(f->g_sum, 0, (size_t)d * sizeof *f->g_sum);
    int64_t k = p->auxk < f->m ? p->auxk : f->m;
    for (int64_t at = 0; at < t->batch; at += rows) {
        chunk c = {.centred = t->centred + at * d,
                   .error = t->error + at * d,
                   .index = t->aux_index,
                   .value = t->aux_value,
                   .coef = t->aux_coef,
                   .rows = t->batch - at < rows ? t->batch - at : rows,
                   .k = k,
                   .c = (float)(p->aux_coef * 2 / spread),
                   .first = at == 0,
                   .dense = f->m <= DENSE * k,
                   .sums = p->aux == FCT_AUX_SDXL_UNBOX,
                   .miss = row_miss};
        FCT_TRY(preact(t, &c));
        FCT_TRY(codes(t, &c));
        FCT_TRY(decode(t, &c));
        for (int64_t r = 0; r < c.rows; r++) miss += row_miss[r];
        FCT_TRY(c.dense ? backward_dense(t, &c) : backward_sparse(t, &c));
    }
    FCT_TRY(fct_dist_sum_f64(p->ranks, &miss, 1));
    if (p->aux == FCT_AUX_SDXL_UNBOX) FCT_TRY(fct_dist_sum_f64(p->ranks, f->g_sum, d));
    t->now.aux = miss / spread;
    return FCT_OK;
}

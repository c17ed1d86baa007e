/* sae_train.c - computes the operations of a sparse autoencoder's training step in the ref
   backend. */
#include <math.h>
#include <string.h>

#include "compute/ref/ref.h"

fct_status ref_encoder_fill(fct_cx *cx, const fct_encoder_fill_args *a)
{
    (void)cx;
    (void)a; /* the weights are read as they are */
    return FCT_OK;
}

fct_status ref_select(fct_cx *cx, const fct_select_args *a)
{
    int64_t n = a->enc->n, d = a->enc->d;
    float *pre;
    fct_mark mark = fct_arena_mark(cx->arena);
    FCT_TRY(fct_arena_take(cx->arena, &pre, n, sizeof *pre));
    fct_topk_args topk = {.x = pre, .rows = 1, .n = n, .k = a->k};
    fct_status st = FCT_OK;
    for (int64_t r = 0; r < a->rows && st == FCT_OK && !fct_arena_dry(cx->arena); r++) {
        float *x = a->centred + r * d;
        for (int64_t c = 0; c < d; c++) x[c] = a->x[r * d + c] - a->shift[c];
        for (int64_t f = 0; f < n; f++) {
            double s = (double)a->bias[f];
            for (int64_t c = 0; c < d; c++) s += (double)x[c] * (double)a->w[f * d + c];
            pre[f] = (float)s;
        }
        topk.index = a->index + r * a->k;
        topk.value = a->value + r * a->k;
        st = ref_topk(cx, &topk);
    }
    if (a->recomputed) *a->recomputed = 0;
    fct_arena_reset(cx->arena, mark);
    return st;
}

fct_status ref_sparse_error(fct_cx *cx, const fct_sparse_error_args *a)
{
    if (fct_arena_dry(cx->arena)) return FCT_OK;
    *a->squares = 0;
    for (int64_t c = 0; c < a->d; c++) a->sum[c] = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        float *e = a->error + r * a->d;
        const float *v = a->value + r * a->k;
        for (int64_t c = 0; c < a->d; c++) {
            double s = (double)a->bias[c] - (double)a->target[r * a->d + c];
            for (int64_t j = 0; j < a->k; j++)
                if (v[j] != 0)
                    s += (double)v[j] * (double)a->table[a->index[r * a->k + j] * a->d + c];
            e[c] = (float)s;
            a->sum[c] += (double)e[c];
            *a->squares += (double)e[c] * (double)e[c];
        }
        for (int64_t j = 0; j < a->k; j++) {
            const float *w = a->table + a->index[r * a->k + j] * a->d;
            double s = 0;
            for (int64_t c = 0; c < a->d && v[j] > 0; c++) s += (double)e[c] * (double)w[c];
            a->coef[r * a->k + j] = (float)((double)a->scale * s);
        }
    }
    return FCT_OK;
}

/* ---- Adam ---- */

static void step(const fct_adam_args *a, float *w, float *m, float *v, double g)
{
    *m += (float)((1 - (double)a->beta1) * (g - (double)*m));
    *v = (float)((double)a->beta2 * (double)*v + (1 - (double)a->beta2) * g * g);
    *w -= (float)((double)a->rate * (double)*m /
                  (sqrt((double)*v) / (double)a->root + (double)a->eps));
}

/* Gradients of feature f into enc, dec [d]; returns that of its bias. */
static double gradients(const fct_adam_args *a, int64_t f, double *enc, double *dec)
{
    int64_t m = a->more ? a->more[f] : -1;
    double bias = m >= 0 ? (double)a->more_bias[m] : 0;
    for (int64_t c = 0; c < a->d; c++) {
        enc[c] = m >= 0 ? (double)a->more_enc[m * a->d + c] : 0;
        dec[c] = m >= 0 ? (double)a->more_dec[m * a->d + c] : 0;
    }
    for (int64_t i = 0; i < a->rows * a->k; i++) {
        if (a->index[i] != f || !(a->value[i] > 0)) continue;
        const float *x = a->input + i / a->k * a->d, *e = a->error + i / a->k * a->d;
        bias += (double)a->coef[i];
        for (int64_t c = 0; c < a->d; c++) {
            enc[c] += (double)a->coef[i] * (double)x[c];
            dec[c] += (double)a->scale * (double)a->value[i] * (double)e[c];
        }
    }
    return bias;
}

static void update(const fct_adam_args *a, int64_t f, double *enc, double *dec, double *through)
{
    float *we = a->w_enc + f * a->d, *wd = a->w_dec + f * a->d;
    double bias = gradients(a, f, enc, dec), norm = 0, along = 0;
    for (int64_t c = 0; c < a->d; c++) norm += (double)wd[c] * (double)wd[c];
    norm = norm > 0 ? sqrt(norm) : 1;
    for (int64_t c = 0; c < a->d; c++) {
        wd[c] = (float)((double)wd[c] / norm);
        along += dec[c] * (double)wd[c];
        through[c] += bias * (double)we[c];
    }
    for (int64_t c = 0; c < a->d; c++) {
        int64_t i = f * a->d + c;
        step(a, &we[c], &a->m_enc[i], &a->v_enc[i], enc[c]);
        step(a, &wd[c], &a->m_dec[i], &a->v_dec[i], dec[c] - along * (double)wd[c]);
    }
    step(a, &a->b_enc[f], &a->m_bias[f], &a->v_bias[f], bias);
}

fct_status ref_adam(fct_cx *cx, const fct_adam_args *a)
{
    double *room;
    fct_mark mark = fct_arena_mark(cx->arena);
    FCT_TRY(fct_arena_take(cx->arena, &room, 3 * a->d, sizeof *room));
    if (!fct_arena_dry(cx->arena)) {
        double *through = room + 2 * a->d;
        memset(through, 0, (size_t)a->d * sizeof *through);
        for (int64_t f = 0; f < a->n; f++) update(a, f, room, room + a->d, through);
        for (int64_t c = 0; c < a->d; c++) a->through[c] = (float)through[c];
    }
    fct_arena_reset(cx->arena, mark);
    return FCT_OK;
}

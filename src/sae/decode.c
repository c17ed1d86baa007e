/* decode.c - rebuilds rows from an SAE's codes, by its decoder:

       x' = sum_f z_f W_dec[f] + b_dec */
#include <string.h>

#include "sae/sae.h"

/* z / dec_norm; a direction of length 0 carries nothing. */
static float unscaled(const fct_sae *s, float z, int64_t f)
{
    return s->dec_norm[f] > 0 ? z / s->dec_norm[f] : 0;
}

static fct_status check_index(const fct_sae *s, const int32_t *index, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= s->f)
            return fct_fail(FCT_ERR_RANGE, "feature %d is not in 0 to %lld", index[i],
                            (long long)(s->f - 1));
    return FCT_OK;
}

fct_status fct_sae_work_decode(fct_sae_work *w, const fct_sae *s, const fct_sae_codes *c,
                               float *rows)
{
    int64_t count = c->n * c->k;
    const float *value = c->value;
    FCT_TRY(check_index(s, c->index, count));
    FCT_TRY(fct_sae_work_fit(w, s, 1));
    if (s->dec_norm) {
        FCT_TRY(fct_reserve(&w->plain, &w->n_plain, count, sizeof *w->plain));
        for (int64_t i = 0; i < count; i++) w->plain[i] = unscaled(s, value[i], c->index[i]);
        value = w->plain;
    }
    const fct_sparse_decode_args a = {.index = c->index,
                                      .value = value,
                                      .rows = c->n,
                                      .k = c->k,
                                      .d = s->d,
                                      .table = s->w_dec,
                                      .bias = s->b_dec,
                                      .y = rows};
    return fct_sae_sparse_decode(&w->e, &a, s->f);
}

fct_status fct_sae_decode(const fct_sae *s, const int32_t *index, const float *value, int64_t n,
                          int64_t k, float *rows)
{
    fct_sae_work w = {0};
    const fct_sae_codes codes = {.index = index, .value = value, .n = n, .k = k};
    fct_status st = fct_sae_work_decode(&w, s, &codes, rows);
    fct_sae_work_clear(&w);
    return st;
}

/* ---- rows straight to their reconstruction ---- */

static fct_status decode_dense(fct_sae_work *w, const fct_sae *s, float *z, int64_t n, float *out)
{
    for (int64_t i = 0; s->dec_norm && i < n * s->f; i++) z[i] = unscaled(s, z[i], i % s->f);
    for (int64_t r = 0; r < n; r++) memcpy(out + r * s->d, s->b_dec, (size_t)s->d * sizeof *out);
    return fct_sae_matmul(
        &w->e,
        &(fct_matmul_args){
            .a = z, .b = s->w_dec, .c = out, .m = n, .n = s->d, .k = s->f, .alpha = 1, .beta = 1});
}

static fct_status rebuild_kept(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    fct_sae_work w = {0};
    fct_status st = fct_sae_work_init(&w, s, n);
    for (int64_t at = 0; at < n && st == FCT_OK; at += w.rows) {
        int64_t m = n - at < w.rows ? n - at : w.rows;
        FCT_TRY_OUT(fct_sae_keep_chunk(&w, s, rows + at * s->d, at, m, w.pre));
        FCT_TRY_OUT(decode_dense(&w, s, w.pre, m, out + at * s->d));
    }
out:
    fct_sae_work_clear(&w);
    return st;
}

static fct_status rebuild_topk(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    fct_status st = FCT_OK;
    int32_t *index = NULL;
    float *value = NULL;
    FCT_TRY_OUT(fct_new_raw(&index, n * s->k, sizeof *index));
    FCT_TRY_OUT(fct_new_raw(&value, n * s->k, sizeof *value));
    FCT_TRY_OUT(fct_sae_encode(s, rows, n, index, value));
    FCT_TRY_OUT(fct_sae_decode(s, index, value, n, s->k, out));
out:
    fct_free(index);
    fct_free(value);
    return st;
}

fct_status fct_sae_rebuild(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    fct_status st = FCT_OK;
    float *scale = NULL, *shift = NULL;
    bool restore = s->normalize != FCT_SAE_NORMALIZE_NONE;
    if (restore) { /* first: out may be rows */
        FCT_TRY_OUT(fct_new_raw(&scale, n, sizeof *scale));
        FCT_TRY_OUT(fct_new_raw(&shift, n, sizeof *shift));
        FCT_TRY_OUT(fct_sae_row_scale(s, rows, n, scale, shift));
    }
    FCT_TRY_OUT(fct_sae_kind_of(s)->fixed_k ? rebuild_topk(s, rows, n, out)
                                            : rebuild_kept(s, rows, n, out));
    if (restore) fct_sae_restore(out, n, s->d, scale, shift);
out:
    fct_free(scale);
    fct_free(shift);
    return st;
}

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

fct_status fct_sae_decode(fct_sae_coder *c, const int32_t *index, const float *value, int64_t n,
                          int64_t k, float *rows)
{
    const fct_sae *s = c->sae;
    int64_t pairs = n * k;
    FCT_TRY(check_index(s, index, pairs));
    FCT_TRY(fct_sae_coder_fit(c, 1));
    if (s->dec_norm) {
        FCT_TRY(fct_reserve(&c->plain, &c->plain_room, pairs, sizeof *c->plain));
        for (int64_t i = 0; i < pairs; i++) c->plain[i] = unscaled(s, value[i], index[i]);
        value = c->plain;
    }
    const fct_sparse_decode_args a = {.index = index,
                                      .value = value,
                                      .rows = n,
                                      .k = k,
                                      .d = s->d,
                                      .table = s->w_dec,
                                      .bias = s->b_dec,
                                      .y = rows};
    return fct_sae_sparse_decode(&c->e, &a, s->f);
}

/* ---- rows straight to their reconstruction ---- */

/* A chunk of an SAE without a fixed k: codes are dense, in place. */
static fct_status rebuild_kept(fct_sae_coder *c, const float *rows, int64_t first, int64_t n,
                               float *out)
{
    const fct_sae *s = c->sae;
    float *z = c->pre;
    FCT_TRY(fct_sae_keep_chunk(c, rows, first, n, z));
    for (int64_t i = 0; s->dec_norm && i < n * s->f; i++) z[i] = unscaled(s, z[i], i % s->f);
    for (int64_t r = 0; r < n; r++) memcpy(out + r * s->d, s->b_dec, (size_t)s->d * sizeof *out);
    return fct_sae_matmul(
        &c->e,
        &(fct_matmul_args){
            .a = z, .b = s->w_dec, .c = out, .m = n, .n = s->d, .k = s->f, .alpha = 1, .beta = 1});
}

/* Of an SAE with one, all rows at once: pairs are small. */
static fct_status rebuild_topk(fct_sae_coder *c, const float *rows, int64_t n, float *out)
{
    fct_status st = FCT_OK;
    int32_t *index = NULL;
    float *value = NULL;
    FCT_TRY_OUT(fct_new_raw(&index, n * c->sae->k, sizeof *index));
    FCT_TRY_OUT(fct_new_raw(&value, n * c->sae->k, sizeof *value));
    FCT_TRY_OUT(fct_sae_encode(c, rows, n, index, value));
    FCT_TRY_OUT(fct_sae_decode(c, index, value, n, c->sae->k, out));
out:
    fct_free(index);
    fct_free(value);
    return st;
}

static fct_status rebuild(fct_sae_coder *c, const float *rows, int64_t n, float *out)
{
    if (fct_sae_kind_of(c->sae)->fixed_k) return rebuild_topk(c, rows, n, out);
    FCT_TRY(fct_sae_coder_fit(c, n));
    for (int64_t at = 0, m; at < n; at += m) {
        m = fct_sae_coder_rows(c, at, n);
        FCT_TRY(rebuild_kept(c, rows + at * c->sae->d, at, m, out + at * c->sae->d));
    }
    return FCT_OK;
}

/* What `normalize` takes out is looked at first: out may be rows. */
fct_status fct_sae_rebuild(fct_sae_coder *c, const float *rows, int64_t n, float *out)
{
    fct_status st = FCT_OK;
    const fct_sae *s = c->sae;
    float *scale = NULL, *shift = NULL;
    if (s->normalize == FCT_SAE_NORMALIZE_NONE) return rebuild(c, rows, n, out);
    FCT_TRY_OUT(fct_new_raw(&scale, n, sizeof *scale));
    FCT_TRY_OUT(fct_new_raw(&shift, n, sizeof *shift));
    FCT_TRY_OUT(fct_sae_row_scale(s, rows, n, scale, shift));
    FCT_TRY_OUT(rebuild(c, rows, n, out));
    fct_sae_restore(out, n, s->d, scale, shift);
out:
    fct_free(scale);
    fct_free(shift);
    return st;
}

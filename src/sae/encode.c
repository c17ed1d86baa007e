/* encode.c - encodes rows with an SAE: k pairs a row, all features, or only what is active (CSR).
   Rows go through in chunks whose size depends on the SAE alone, so that memory stays small and
   equal calls give equal bytes. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

typedef fct_sae_work work;

void fct_sae_work_clear(work *w)
{
    fct_free(w->centred);
    fct_free(w->pre);
    fct_free(w->plain);
    fct_sae_engine_clear(&w->e);
    *w = (work){.be = w->be};
}

fct_status fct_sae_work_init(work *w, const fct_sae *s, int64_t n)
{
    fct_status st = FCT_OK;
    *w = (work){.be = w->be, .rows = fct_sae_chunk(s)};
    if (n < w->rows) w->rows = n > 0 ? n : 1;
    FCT_TRY_OUT(fct_sae_engine_init(&w->e, w->be, w->rows, s->d, s->f, s->k > 0 ? s->k : 1));
    FCT_TRY_OUT(fct_new_raw(&w->centred, w->rows * s->d, sizeof *w->centred));
    FCT_TRY_OUT(fct_new_raw(&w->pre, w->rows * s->f, sizeof *w->pre));
    return FCT_OK;
out:
    fct_sae_work_clear(w);
    return st;
}

fct_status fct_sae_work_fit(work *w, const fct_sae *s, int64_t n)
{
    int64_t most = fct_sae_chunk(s);
    if (w->rows >= (n < most ? n : most) && w->rows > 0) return FCT_OK;
    fct_sae_work_clear(w);
    return fct_sae_work_init(w, s, n);
}

static fct_status fail_row(const float *rows, int64_t first, int64_t n, int64_t d)
{
    for (int64_t i = 0; i < n * d; i++)
        if (!isfinite(rows[i]))
            return fct_fail(FCT_ERR_RANGE, "row %lld, number %lld is %s: an SAE needs finite rows",
                            (long long)(first + i / d), (long long)(i % d),
                            isnan(rows[i]) ? "NaN" : "infinite");
    return fct_fail(FCT_ERR_RANGE, "rows %lld to %lld give activations that are not finite",
                    (long long)first, (long long)(first + n - 1));
}

static fct_status encode_chunk(work *w, const fct_sae *s, const float *rows, int64_t n,
                               int32_t *index, float *value)
{
    FCT_TRY(fct_sae_preact(&w->e, s, rows, n, w->centred, w->pre));
    return fct_sae_topk(
        &w->e, &(fct_topk_args){
                   .x = w->pre, .rows = n, .n = s->f, .k = s->k, .index = index, .value = value});
}

static fct_status need_k(const fct_sae *s)
{
    if (fct_sae_kind_of(s)->fixed_k) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "this SAE has no fixed k (architecture %s): its codes have no [rows,k] form",
                    fct_sae_kind_name(s->kind));
}

fct_status fct_sae_work_encode(work *w, const fct_sae *s, const float *rows, int64_t n,
                               int32_t *index, float *value)
{
    FCT_TRY(need_k(s));
    FCT_TRY(fct_sae_work_fit(w, s, n));
    for (int64_t at = 0; at < n; at += w->rows) {
        int64_t m = n - at < w->rows ? n - at : w->rows;
        FCT_TRY(encode_chunk(w, s, rows + at * s->d, m, index + at * s->k, value + at * s->k));
        for (int64_t r = at; r < at + m; r++) /* not finite anywhere shows in the largest */
            if (!isfinite(value[r * s->k])) return fail_row(rows + at * s->d, at, m, s->d);
    }
    return FCT_OK;
}

fct_status fct_sae_encode(const fct_sae *s, const float *rows, int64_t n, int32_t *index,
                          float *value)
{
    work w = {0};
    fct_status st = fct_sae_work_encode(&w, s, rows, n, index, value);
    fct_sae_work_clear(&w);
    return st;
}

fct_status fct_sae_keep_chunk(work *w, const fct_sae *s, const float *rows, int64_t first,
                              int64_t n, float *z)
{
    const fct_sae_kind_info *kind = fct_sae_kind_of(s);
    FCT_TRY(fct_sae_products(&w->e, s, rows, n, kind->own_bias ? NULL : s->b_enc, w->centred, z));
    for (int64_t i = 0; i < n * s->f; i++)
        if (!isfinite(z[i])) return fail_row(rows, first, n, s->d);
    kind->keep(s, z, n);
    return FCT_OK;
}

fct_status fct_sae_work_encode_dense(work *w, const fct_sae *s, const float *rows, int64_t n,
                                     float *z)
{
    FCT_TRY(fct_sae_work_fit(w, s, n));
    for (int64_t at = 0; at < n; at += w->rows) {
        int64_t m = n - at < w->rows ? n - at : w->rows;
        FCT_TRY(fct_sae_keep_chunk(w, s, rows + at * s->d, at, m, z + at * s->f));
    }
    return FCT_OK;
}

fct_status fct_sae_encode_dense(const fct_sae *s, const float *rows, int64_t n, float *z)
{
    fct_status st = FCT_OK;
    work w = {0};
    int32_t *index = NULL;
    float *value = NULL;
    if (fct_sae_kind_of(s)->fixed_k) {
        FCT_TRY_OUT(fct_new_raw(&index, n * s->k, sizeof *index));
        FCT_TRY_OUT(fct_new_raw(&value, n * s->k, sizeof *value));
        FCT_TRY_OUT(fct_sae_encode(s, rows, n, index, value));
        memset(z, 0, (size_t)(n * s->f) * sizeof *z);
        for (int64_t i = 0; i < n * s->k; i++) z[i / s->k * s->f + index[i]] = value[i];
    } else {
        FCT_TRY_OUT(fct_sae_work_encode_dense(&w, s, rows, n, z));
    }
out:
    fct_sae_work_clear(&w);
    fct_free(index);
    fct_free(value);
    return st;
}

/* ---- codes of any kind, only what is active ---- */

static fct_status csr_push(fct_sae_csr *c, int64_t *cap, int32_t index, float value)
{
    if (c->n == *cap) {
        int64_t wider = *cap < 1024 ? 1024 : *cap * 2;
        FCT_TRY(fct_grow(&c->indices, c->n, wider, sizeof *c->indices));
        FCT_TRY(fct_grow(&c->values, c->n, wider, sizeof *c->values));
        *cap = wider;
    }
    c->indices[c->n] = index;
    c->values[c->n++] = value;
    return FCT_OK;
}

static fct_status csr_topk(const fct_sae *s, const float *rows, int64_t n, fct_sae_csr *out,
                           int64_t *cap)
{
    fct_status st = FCT_OK;
    int32_t *index = NULL;
    float *value = NULL;
    FCT_TRY_OUT(fct_new_raw(&index, n * s->k, sizeof *index));
    FCT_TRY_OUT(fct_new_raw(&value, n * s->k, sizeof *value));
    FCT_TRY_OUT(fct_sae_encode(s, rows, n, index, value));
    for (int64_t r = 0; r < n; r++) {
        for (int64_t j = r * s->k; j < (r + 1) * s->k && value[j] > 0; j++)
            FCT_TRY_OUT(csr_push(out, cap, index[j], value[j]));
        out->row_offsets[r + 1] = out->n;
    }
out:
    fct_free(index);
    fct_free(value);
    return st;
}

static fct_status csr_kept(const fct_sae *s, const float *rows, int64_t n, fct_sae_csr *out,
                           int64_t *cap)
{
    work w = {0};
    fct_status st = fct_sae_work_init(&w, s, n);
    for (int64_t at = 0; at < n && st == FCT_OK; at += w.rows) {
        int64_t m = n - at < w.rows ? n - at : w.rows;
        FCT_TRY_OUT(fct_sae_keep_chunk(&w, s, rows + at * s->d, at, m, w.pre));
        for (int64_t r = 0; r < m; r++) {
            for (int64_t f = 0; f < s->f; f++)
                if (w.pre[r * s->f + f] > 0)
                    FCT_TRY_OUT(csr_push(out, cap, (int32_t)f, w.pre[r * s->f + f]));
            out->row_offsets[at + r + 1] = out->n;
        }
    }
out:
    fct_sae_work_clear(&w);
    return st;
}

fct_status fct_sae_encode_csr(const fct_sae *s, const float *rows, int64_t n, fct_sae_csr *out)
{
    int64_t cap = 0;
    *out = (fct_sae_csr){.rows = n};
    fct_status st = fct_new(&out->row_offsets, n + 1, sizeof *out->row_offsets);
    if (st == FCT_OK)
        st = fct_sae_kind_of(s)->fixed_k ? csr_topk(s, rows, n, out, &cap)
                                         : csr_kept(s, rows, n, out, &cap);
    if (st != FCT_OK) fct_sae_csr_clear(out);
    return st;
}

void fct_sae_csr_clear(fct_sae_csr *c)
{
    fct_free(c->row_offsets);
    fct_free(c->indices);
    fct_free(c->values);
    *c = (fct_sae_csr){0};
}

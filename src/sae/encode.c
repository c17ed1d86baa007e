/* encode.c - encodes rows with an SAE: k pairs a row, all features, or only what is active
   (CSR). */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

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

/* ---- k pairs a row ---- */

/* Pairs of one chunk of an SAE with a fixed k; what is not finite anywhere in a row shows in its
   largest. */
static fct_status pair_chunk(fct_sae_coder *c, const float *rows, int64_t first, int64_t n,
                             int32_t *index, float *value)
{
    const fct_sae *s = c->sae;
    const fct_sae_preact_args encoder = {.x = rows, .n = n, .centred = c->centred, .pre = c->pre};
    FCT_TRY(fct_sae_preact(&c->e, s, &encoder));
    FCT_TRY(fct_sae_topk(
        &c->e, &(fct_topk_args){
                   .x = c->pre, .rows = n, .n = s->f, .k = s->k, .index = index, .value = value}));
    for (int64_t r = 0; r < n; r++)
        if (!isfinite(value[r * s->k])) return fail_row(rows, first, n, s->d);
    return FCT_OK;
}

fct_status fct_sae_encode(fct_sae_coder *c, const float *rows, int64_t n, int32_t *index,
                          float *value)
{
    const fct_sae *s = c->sae;
    if (!fct_sae_kind_of(s)->fixed_k)
        return fct_fail(
            FCT_ERR_UNSUPPORTED,
            "this SAE has no fixed k (architecture %s): its codes have no [rows,k] form",
            fct_sae_kind_name(s->kind));
    FCT_TRY(fct_sae_coder_fit(c, n));
    for (int64_t at = 0, m; at < n; at += m) {
        m = fct_sae_coder_rows(c, at, n);
        FCT_TRY(pair_chunk(c, rows + at * s->d, at, m, index + at * s->k, value + at * s->k));
    }
    return FCT_OK;
}

/* Pairs of one chunk in the coder's own memory. */
static fct_status own_pairs(fct_sae_coder *c, const float *rows, int64_t first, int64_t n)
{
    int64_t pairs = n * c->sae->k;
    FCT_TRY(fct_reserve(&c->index, &c->index_room, pairs, sizeof *c->index));
    FCT_TRY(fct_reserve(&c->value, &c->value_room, pairs, sizeof *c->value));
    return pair_chunk(c, rows, first, n, c->index, c->value);
}

/* ---- all features ---- */

fct_status fct_sae_keep_chunk(fct_sae_coder *c, const float *rows, int64_t first, int64_t n,
                              float *z)
{
    const fct_sae *s = c->sae;
    const fct_sae_kind_info *kind = fct_sae_kind_of(s);
    const fct_sae_preact_args encoder = {
        .x = rows, .n = n, .no_bias = kind->own_bias, .centred = c->centred, .pre = z};
    FCT_TRY(fct_sae_preact(&c->e, s, &encoder));
    for (int64_t i = 0; i < n * s->f; i++)
        if (!isfinite(z[i])) return fail_row(rows, first, n, s->d);
    kind->keep(s, z, n);
    return FCT_OK;
}

static fct_status dense_chunk(fct_sae_coder *c, const float *rows, int64_t first, int64_t n,
                              float *z)
{
    const fct_sae *s = c->sae;
    if (!fct_sae_kind_of(s)->fixed_k) return fct_sae_keep_chunk(c, rows, first, n, z);
    FCT_TRY(own_pairs(c, rows, first, n));
    memset(z, 0, (size_t)(n * s->f) * sizeof *z);
    for (int64_t i = 0; i < n * s->k; i++) z[i / s->k * s->f + c->index[i]] = c->value[i];
    return FCT_OK;
}

fct_status fct_sae_encode_dense(fct_sae_coder *c, const float *rows, int64_t n, float *z)
{
    FCT_TRY(fct_sae_coder_fit(c, n));
    for (int64_t at = 0, m; at < n; at += m) {
        m = fct_sae_coder_rows(c, at, n);
        FCT_TRY(dense_chunk(c, rows + at * c->sae->d, at, m, z + at * c->sae->f));
    }
    return FCT_OK;
}

/* ---- only what is active ---- */

static fct_status csr_push(fct_sae_csr *out, int64_t *room, int32_t index, float value)
{
    if (out->n == *room) {
        int64_t wider = *room < 1024 ? 1024 : *room * 2;
        FCT_TRY(fct_grow(&out->indices, out->n, wider, sizeof *out->indices));
        FCT_TRY(fct_grow(&out->values, out->n, wider, sizeof *out->values));
        *room = wider;
    }
    out->indices[out->n] = index;
    out->values[out->n++] = value;
    return FCT_OK;
}

static fct_status csr_topk(fct_sae_coder *c, const float *rows, int64_t at, int64_t n,
                           fct_sae_csr *out, int64_t *room)
{
    int64_t k = c->sae->k;
    FCT_TRY(own_pairs(c, rows, at, n));
    for (int64_t r = 0; r < n; r++) {
        for (int64_t j = r * k; j < (r + 1) * k && c->value[j] > 0; j++)
            FCT_TRY(csr_push(out, room, c->index[j], c->value[j]));
        out->row_offsets[at + r + 1] = out->n;
    }
    return FCT_OK;
}

static fct_status csr_kept(fct_sae_coder *c, const float *rows, int64_t at, int64_t n,
                           fct_sae_csr *out, int64_t *room)
{
    int64_t features = c->sae->f;
    FCT_TRY(fct_sae_keep_chunk(c, rows, at, n, c->pre));
    for (int64_t r = 0; r < n; r++) {
        for (int64_t f = 0; f < features; f++)
            if (c->pre[r * features + f] > 0)
                FCT_TRY(csr_push(out, room, (int32_t)f, c->pre[r * features + f]));
        out->row_offsets[at + r + 1] = out->n;
    }
    return FCT_OK;
}

fct_status fct_sae_encode_csr(fct_sae_coder *c, const float *rows, int64_t n, fct_sae_csr *out)
{
    int64_t room = 0;
    bool topk = fct_sae_kind_of(c->sae)->fixed_k;
    *out = (fct_sae_csr){.rows = n};
    fct_status st = fct_new(&out->row_offsets, n + 1, sizeof *out->row_offsets);
    if (st == FCT_OK) st = fct_sae_coder_fit(c, n);
    for (int64_t at = 0, m; at < n && st == FCT_OK; at += m) {
        const float *x = rows + at * c->sae->d;
        m = fct_sae_coder_rows(c, at, n);
        st = topk ? csr_topk(c, x, at, m, out, &room) : csr_kept(c, x, at, m, out, &room);
    }
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

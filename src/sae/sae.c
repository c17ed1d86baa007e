/* sae.c - an autoencoder in memory: making, copying, encoding and decoding rows. Rows go through in
   chunks whose size depends on the SAE alone, so that memory stays small and equal calls give equal
   bytes. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

fct_status fct_sae_new(fct_sae **out, fct_sae_kind kind, int64_t d, int64_t f, int64_t k)
{
    fct_sae *s = NULL;
    int64_t n;
    fct_status st = FCT_OK;
    *out = NULL;
    if (d < 1 || f < 1 || f > INT32_MAX)
        return fct_fail(FCT_ERR_SHAPE,
                        "an SAE of %lld features on rows of %lld numbers is not possible",
                        (long long)f, (long long)d);
    if (kind == FCT_SAE_TOPK && (k < 1 || k > f))
        return fct_fail(FCT_ERR_SHAPE, "k is %lld, want 1 to %lld, the number of features",
                        (long long)k, (long long)f);
    FCT_TRY(fct_mul_i64(&n, d, f));
    FCT_TRY(fct_new(&s, 1, sizeof *s));
    *s = (fct_sae){.kind = kind,
                   .d = d,
                   .f = f,
                   .k = kind == FCT_SAE_TOPK ? k : 0,
                   .apply_b_dec_to_input = true};
    FCT_TRY_OUT(fct_new(&s->w_enc, n, sizeof *s->w_enc));
    FCT_TRY_OUT(fct_new(&s->w_dec, n, sizeof *s->w_dec));
    FCT_TRY_OUT(fct_new(&s->b_enc, f, sizeof *s->b_enc));
    FCT_TRY_OUT(fct_new(&s->b_dec, d, sizeof *s->b_dec));
    *out = s;
    return FCT_OK;
out:
    fct_sae_free(s);
    return st;
}

void fct_sae_free(fct_sae *s)
{
    if (!s) return;
    void *part[] = {s->w_enc, s->b_enc,   s->w_dec, s->b_dec, s->block, s->model,
                    s->path,  s->density, s->mean,  s->std,   s->max,   s->facet_json};
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    fct_free(s);
}

fct_status fct_sae_clone(fct_sae **out, const fct_sae *s)
{
    fct_status st = FCT_OK;
    fct_sae *c = NULL;
    FCT_TRY(fct_sae_new(&c, s->kind, s->d, s->f, s->k));
    c->apply_b_dec_to_input = s->apply_b_dec_to_input;
    memcpy(c->w_enc, s->w_enc, (size_t)(s->d * s->f) * sizeof *s->w_enc);
    memcpy(c->w_dec, s->w_dec, (size_t)(s->d * s->f) * sizeof *s->w_dec);
    memcpy(c->b_enc, s->b_enc, (size_t)s->f * sizeof *s->b_enc);
    memcpy(c->b_dec, s->b_dec, (size_t)s->d * sizeof *s->b_dec);
    FCT_TRY_OUT(fct_strdup(&c->block, s->block));
    FCT_TRY_OUT(fct_strdup(&c->model, s->model));
    *out = c;
    return FCT_OK;
out:
    fct_sae_free(c);
    *out = NULL;
    return st;
}

/* ---- encoding ---- */

typedef struct work { /* memory for one chunk */
    fct_sae_engine e;
    int64_t rows;
    float *centred, *pre;
} work;

static void work_clear(work *w)
{
    fct_free(w->centred);
    fct_free(w->pre);
    fct_sae_engine_clear(&w->e);
}

static fct_status work_init(work *w, const fct_sae *s, int64_t n)
{
    fct_status st = FCT_OK;
    *w = (work){.rows = fct_sae_chunk(s)};
    if (n < w->rows) w->rows = n > 0 ? n : 1;
    FCT_TRY_OUT(fct_sae_engine_init(&w->e, w->rows, s->d, s->f, s->k > 0 ? s->k : 1));
    FCT_TRY_OUT(fct_new_raw(&w->centred, w->rows * s->d, sizeof *w->centred));
    FCT_TRY_OUT(fct_new_raw(&w->pre, w->rows * s->f, sizeof *w->pre));
    return FCT_OK;
out:
    work_clear(w);
    return st;
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
    return fct_op_topk(
        &w->e.cx,
        &(fct_topk_args){
            .x = w->pre, .rows = n, .n = s->f, .k = s->k, .index = index, .value = value});
}

static fct_status need_k(const fct_sae *s)
{
    if (s->kind == FCT_SAE_TOPK) return FCT_OK;
    return fct_fail(
        FCT_ERR_UNSUPPORTED,
        "this SAE has no fixed k (architecture standard): its codes have no [rows,k] form");
}

fct_status fct_sae_encode(const fct_sae *s, const float *rows, int64_t n, int32_t *index,
                          float *value)
{
    fct_status st = FCT_OK;
    work w = {0};
    FCT_TRY(need_k(s));
    FCT_TRY(work_init(&w, s, n));
    for (int64_t at = 0; at < n; at += w.rows) {
        int64_t m = n - at < w.rows ? n - at : w.rows;
        FCT_TRY_OUT(encode_chunk(&w, s, rows + at * s->d, m, index + at * s->k, value + at * s->k));
        for (int64_t r = at; r < at + m; r++) /* not finite anywhere shows in the largest */
            if (!isfinite(value[r * s->k])) {
                st = fail_row(rows + at * s->d, at, m, s->d);
                goto out;
            }
    }
out:
    work_clear(&w);
    return st;
}

static fct_status relu_rows(float *z, const float *pre, const float *rows, int64_t first, int64_t n,
                            const fct_sae *s)
{
    for (int64_t i = 0; i < n * s->f; i++) {
        if (!isfinite(pre[i])) return fail_row(rows, first, n, s->d);
        z[i] = pre[i] > 0 ? pre[i] : 0;
    }
    return FCT_OK;
}

fct_status fct_sae_encode_dense(const fct_sae *s, const float *rows, int64_t n, float *z)
{
    fct_status st = FCT_OK;
    work w = {0};
    int32_t *index = NULL;
    float *value = NULL;
    if (s->kind == FCT_SAE_TOPK) {
        FCT_TRY_OUT(fct_new_raw(&index, n * s->k, sizeof *index));
        FCT_TRY_OUT(fct_new_raw(&value, n * s->k, sizeof *value));
        FCT_TRY_OUT(fct_sae_encode(s, rows, n, index, value));
        memset(z, 0, (size_t)(n * s->f) * sizeof *z);
        for (int64_t i = 0; i < n * s->k; i++) z[i / s->k * s->f + index[i]] = value[i];
    } else {
        FCT_TRY_OUT(work_init(&w, s, n));
        for (int64_t at = 0; at < n; at += w.rows) {
            int64_t m = n - at < w.rows ? n - at : w.rows;
            FCT_TRY_OUT(fct_sae_preact(&w.e, s, rows + at * s->d, m, w.centred, w.pre));
            FCT_TRY_OUT(relu_rows(z + at * s->f, w.pre, rows + at * s->d, at, m, s));
        }
    }
out:
    work_clear(&w);
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

static fct_status csr_relu(const fct_sae *s, const float *rows, int64_t n, fct_sae_csr *out,
                           int64_t *cap)
{
    work w = {0};
    fct_status st = work_init(&w, s, n);
    for (int64_t at = 0; at < n && st == FCT_OK; at += w.rows) {
        int64_t m = n - at < w.rows ? n - at : w.rows;
        FCT_TRY_OUT(fct_sae_preact(&w.e, s, rows + at * s->d, m, w.centred, w.pre));
        FCT_TRY_OUT(relu_rows(w.pre, w.pre, rows + at * s->d, at, m, s));
        for (int64_t r = 0; r < m; r++) {
            for (int64_t f = 0; f < s->f; f++)
                if (w.pre[r * s->f + f] > 0)
                    FCT_TRY_OUT(csr_push(out, cap, (int32_t)f, w.pre[r * s->f + f]));
            out->row_offsets[at + r + 1] = out->n;
        }
    }
out:
    work_clear(&w);
    return st;
}

fct_status fct_sae_encode_csr(const fct_sae *s, const float *rows, int64_t n, fct_sae_csr *out)
{
    int64_t cap = 0;
    *out = (fct_sae_csr){.rows = n};
    fct_status st = fct_new(&out->row_offsets, n + 1, sizeof *out->row_offsets);
    if (st == FCT_OK)
        st = s->kind == FCT_SAE_TOPK ? csr_topk(s, rows, n, out, &cap)
                                     : csr_relu(s, rows, n, out, &cap);
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

/* ---- decoding ---- */

fct_status fct_sae_decode(const fct_sae *s, const int32_t *index, const float *value, int64_t n,
                          int64_t k, float *rows)
{
    fct_sae_engine e;
    for (int64_t i = 0; i < n * k; i++)
        if (index[i] < 0 || index[i] >= s->f)
            return fct_fail(FCT_ERR_RANGE, "feature %d is not in 0 to %lld", index[i],
                            (long long)(s->f - 1));
    fct_status st = fct_sae_engine_init(&e, 1, s->d, s->f, 1);
    if (st == FCT_OK)
        st = fct_op_sparse_decode(&e.cx, &(fct_sparse_decode_args){.index = index,
                                                                   .value = value,
                                                                   .rows = n,
                                                                   .k = k,
                                                                   .d = s->d,
                                                                   .table = s->w_dec,
                                                                   .bias = s->b_dec,
                                                                   .y = rows});
    fct_sae_engine_clear(&e);
    return st;
}

static fct_status rebuild_relu(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    work w = {0};
    fct_status st = work_init(&w, s, n);
    for (int64_t at = 0; at < n && st == FCT_OK; at += w.rows) {
        int64_t m = n - at < w.rows ? n - at : w.rows;
        FCT_TRY_OUT(fct_sae_preact(&w.e, s, rows + at * s->d, m, w.centred, w.pre));
        FCT_TRY_OUT(relu_rows(w.pre, w.pre, rows + at * s->d, at, m, s));
        for (int64_t r = at; r < at + m; r++)
            memcpy(out + r * s->d, s->b_dec, (size_t)s->d * sizeof *out);
        FCT_TRY_OUT(fct_op_matmul(&w.e.cx, &(fct_matmul_args){.a = w.pre,
                                                              .b = s->w_dec,
                                                              .c = out + at * s->d,
                                                              .m = m,
                                                              .n = s->d,
                                                              .k = s->f,
                                                              .alpha = 1,
                                                              .beta = 1}));
    }
out:
    work_clear(&w);
    return st;
}

fct_status fct_sae_rebuild(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    fct_status st = FCT_OK;
    int32_t *index = NULL;
    float *value = NULL;
    if (s->kind != FCT_SAE_TOPK) return rebuild_relu(s, rows, n, out);
    FCT_TRY_OUT(fct_new_raw(&index, n * s->k, sizeof *index));
    FCT_TRY_OUT(fct_new_raw(&value, n * s->k, sizeof *value));
    FCT_TRY_OUT(fct_sae_encode(s, rows, n, index, value));
    FCT_TRY_OUT(fct_sae_decode(s, index, value, n, s->k, out));
out:
    fct_free(index);
    fct_free(value);
    return st;
}

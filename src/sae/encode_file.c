/* encode_file.c - encodes a file of rows into a file of codes (`facet encode`), with what these
   make of the rows when asked. Rows of other float types are converted; other shapes are
   refused. */
#include <string.h>

#include "sae/sae.h"

static fct_status open_input(fct_rows_file *in, const fct_encode_file_desc *desc, int64_t d)
{
    FCT_TRY(fct_rows_file_open(in, desc->in, desc->tensor));
    if (in->rows.dim[1] != d)
        return fct_fail(FCT_ERR_SHAPE, "%s: the SAE takes rows [n,%lld], the file has [%lld,%lld]",
                        desc->in, (long long)d, (long long)in->rows.dim[0],
                        (long long)in->rows.dim[1]);
    return FCT_OK;
}

enum { CHUNK = 4096 };

/* Codes a row, 0 without a fixed number. */
static int64_t codes_a_row(const fct_sae *s)
{
    return fct_sae_kind_of(s)->fixed_k ? s->k : 0;
}

typedef struct codes {
    int32_t *index;
    float *value;
    int64_t *offset; /* [rows+1]; NULL with a fixed k */
    int64_t n;       /* entries */
    float *rebuilt;  /* [rows,D]; NULL: not wanted */
} codes;

static fct_status encode_chunk(codes *c, fct_sae_coder *coder, const float *rows, int64_t at,
                               int64_t n)
{
    int64_t k = coder->sae->k;
    if (c->offset == NULL)
        return fct_sae_encode(coder, rows, n, c->index + at * k, c->value + at * k);
    fct_sae_csr csr;
    fct_status st = FCT_OK;
    FCT_TRY(fct_sae_encode_csr(coder, rows, n, &csr));
    FCT_TRY_OUT(fct_grow(&c->index, c->n, c->n + csr.n, sizeof *c->index));
    FCT_TRY_OUT(fct_grow(&c->value, c->n, c->n + csr.n, sizeof *c->value));
    if (csr.n > 0) {
        memcpy(c->index + c->n, csr.indices, (size_t)csr.n * sizeof *c->index);
        memcpy(c->value + c->n, csr.values, (size_t)csr.n * sizeof *c->value);
    }
    for (int64_t r = 0; r <= n; r++) c->offset[at + r] = c->n + csr.row_offsets[r];
    c->n += csr.n;
out:
    fct_sae_csr_clear(&csr);
    return st;
}

static fct_status write_codes(const codes *c, const fct_sae *s, const char *path, int64_t rows)
{
    char name[4][16] = {"indices", "values", "row_offsets", "rebuilt"};
    int64_t fixed[2] = {rows, s->k}, offsets = rows + 1, wide[2] = {rows, s->d};
    bool flat = c->offset != NULL;
    int n = 2;
    fct_tensor_entry entry[4] = {
        {name[0], fct_tensor_of(c->index, FCT_I32, flat ? 1 : 2, flat ? &c->n : fixed)},
        {name[1], fct_tensor_of(c->value, FCT_F32, flat ? 1 : 2, flat ? &c->n : fixed)},
    };
    if (flat)
        entry[n++] = (fct_tensor_entry){name[2], fct_tensor_of(c->offset, FCT_I64, 1, &offsets)};
    if (c->rebuilt)
        entry[n++] = (fct_tensor_entry){name[3], fct_tensor_of(c->rebuilt, FCT_F32, 2, wide)};
    return fct_safetensors_write(path, entry, n, NULL);
}

fct_status fct_sae_encode_file(const fct_sae *s, const fct_encode_file_desc *desc,
                               int64_t *out_rows)
{
    fct_status st = FCT_OK;
    fct_rows_file in = {0};
    codes c = {0};
    float *rows = NULL;
    fct_sae_coder *coder = NULL;
    FCT_TRY_OUT(fct_sae_coder_open(&coder, s, desc->backend));
    FCT_TRY_OUT(open_input(&in, desc, s->d));
    int64_t n = in.rows.dim[0];
    FCT_TRY_OUT(fct_new_raw(&rows, CHUNK * s->d, sizeof *rows));
    FCT_TRY_OUT(fct_new(&c.index, n * codes_a_row(s), sizeof *c.index));
    FCT_TRY_OUT(fct_new(&c.value, n * codes_a_row(s), sizeof *c.value));
    if (codes_a_row(s) == 0) FCT_TRY_OUT(fct_new(&c.offset, n + 1, sizeof *c.offset));
    if (desc->rebuild) FCT_TRY_OUT(fct_new(&c.rebuilt, n * s->d, sizeof *c.rebuilt));
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t m = n - at < CHUNK ? n - at : CHUNK;
        FCT_TRY_OUT(fct_log_check_stop(desc->log));
        FCT_TRY_OUT(
            fct_convert(rows, FCT_F32,
                        (const uint8_t *)in.rows.data + at * s->d * fct_dtype_bytes(in.rows.dtype),
                        in.rows.dtype, m * s->d));
        FCT_TRY_OUT(encode_chunk(&c, coder, rows, at, m));
        if (c.rebuilt) FCT_TRY_OUT(fct_sae_rebuild(coder, rows, m, c.rebuilt + at * s->d));
        fct_log_progress(desc->log, "encoding", at + m, n);
    }
    FCT_TRY_OUT(write_codes(&c, s, desc->out, n));
    if (out_rows) *out_rows = n;
out:
    fct_rows_file_close(&in);
    fct_sae_coder_close(coder);
    fct_free(rows);
    fct_free(c.index);
    fct_free(c.value);
    fct_free(c.offset);
    fct_free(c.rebuilt);
    return fct_where(st, "encoding %s", desc->in);
}

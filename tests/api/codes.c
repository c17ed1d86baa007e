/* codes.c - the three ways to encode agree, and codes decode to the reconstruction. */
#include <facet/sae.h>
#include <facet/train.h>
#include <math.h>
#include <stdio.h>

enum { ROWS = 600, D = 12, F = 24, K = 3 };

static fct_status wrong(const char *what)
{
    return fct_error_set(FCT_ERR_INTERNAL, what);
}

static fct_status train(fct_sae **out, float *rows)
{
    fct_row_source source = {0};
    fct_train_desc desc = {
        .preset = "demo", .k = K, .n_features = F, .batch_size = 100, .steps = 40};
    uint32_t state = 7;
    for (int i = 0; i < ROWS * D; i++) {
        state = state * 1664525u + 1013904223u;
        rows[i] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    }
    fct_status st = fct_rows_of_memory(&source, rows, ROWS, D, &(fct_rows_desc){0});
    if (st == FCT_OK) st = fct_sae_train(out, &source, &desc, NULL);
    if (source.close) source.close(source.self);
    return st;
}

static fct_status compare(fct_sae_coder *coder, const float *rows)
{
    static int32_t index[ROWS * K];
    static float value[ROWS * K], dense[ROWS * F], rebuilt[ROWS * D], decoded[ROWS * D];
    fct_sae_csr csr = {0};
    fct_status st = fct_sae_encode(coder, rows, ROWS, index, value);
    if (st == FCT_OK) st = fct_sae_encode_dense(coder, rows, ROWS, dense);
    if (st == FCT_OK) st = fct_sae_encode_csr(coder, rows, ROWS, &csr);
    for (int i = 0; st == FCT_OK && i < ROWS * K; i++)
        if (value[i] > 0 && dense[i / K * F + index[i]] != value[i]) st = wrong("dense codes");
    for (int64_t r = 0; r < csr.rows && st == FCT_OK; r++)
        for (int64_t i = csr.row_offsets[r]; i < csr.row_offsets[r + 1]; i++)
            if (dense[r * F + csr.indices[i]] != csr.values[i]) st = wrong("sparse codes");
    if (st == FCT_OK) st = fct_sae_decode(coder, index, value, ROWS, K, decoded);
    if (st == FCT_OK) st = fct_sae_rebuild(coder, rows, ROWS, rebuilt);
    for (int i = 0; st == FCT_OK && i < ROWS * D; i++)
        if (fabsf(decoded[i] - rebuilt[i]) > 1e-5f) st = wrong("the reconstruction");
    fct_sae_csr_clear(&csr);
    return st;
}

int main(void)
{
    static float rows[ROWS * D];
    fct_sae *sae = NULL;
    fct_sae_coder *coder = NULL;
    fct_status st = train(&sae, rows);
    if (st == FCT_OK) st = fct_sae_coder_open(&coder, sae, NULL);
    if (st == FCT_OK) st = compare(coder, rows);
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_sae_coder_close(coder);
    fct_sae_free(sae);
    return st == FCT_OK ? 0 : 1;
}

/* codes.c - the activations of some rows, kept as the SAE gives them: k pairs a row, or all of them
 * when there is no fixed k. */
#include <string.h>

#include "edit/edit.h"

fct_status fct_codes_of_rows(fct_codes *out, const fct_sae *sae, const float *rows, int64_t n)
{
    fct_status st = FCT_OK;
    bool topk = sae->kind == FCT_SAE_TOPK;
    *out = (fct_codes){.n = n, .k = topk ? sae->k : 0, .f = sae->f};
    int64_t count;
    FCT_TRY(fct_mul_i64(&count, n, topk ? sae->k : sae->f));
    FCT_TRY_OUT(fct_new_raw(&out->value, count, (int64_t)sizeof *out->value));
    if (topk) {
        FCT_TRY_OUT(fct_new_raw(&out->index, count, (int64_t)sizeof *out->index));
        FCT_TRY_OUT(fct_sae_encode(sae, rows, n, out->index, out->value));
    } else {
        FCT_TRY_OUT(fct_sae_encode_dense(sae, rows, n, out->value));
    }
out:
    if (st != FCT_OK) fct_codes_clear(out);
    return st;
}

float fct_codes_at(const fct_codes *c, int64_t row, int64_t feature)
{
    if (!c->index) return c->value[row * c->f + feature];
    const int32_t *index = c->index + row * c->k;
    for (int64_t i = 0; i < c->k; i++)
        if (index[i] == feature) return c->value[row * c->k + i];
    return 0;
}

fct_status fct_codes_decode(const fct_codes *c, const fct_sae *sae, float *rows)
{
    if (c->index) return fct_sae_decode(sae, c->index, c->value, c->n, c->k, rows);
    int32_t *every = NULL;
    FCT_TRY(fct_new_raw(&every, c->f, (int64_t)sizeof *every));
    for (int64_t i = 0; i < c->f; i++) every[i] = (int32_t)i;
    fct_status st = FCT_OK;
    for (int64_t r = 0; r < c->n && st == FCT_OK; r++)
        st = fct_sae_decode(sae, every, c->value + r * c->f, 1, c->f, rows + r * sae->d);
    fct_free(every);
    return st;
}

void fct_codes_clear(fct_codes *c)
{
    fct_free(c->index);
    fct_free(c->value);
    *c = (fct_codes){0};
}

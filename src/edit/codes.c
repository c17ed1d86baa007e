/* codes.c - the activations of some rows, kept as the SAE gives them: k pairs a row, or all of them
 * when there is no fixed k. */
#include <string.h>

#include "edit/edit.h"

fct_status fct_codes_of_rows(fct_codes *out, const fct_sae *sae, const float *rows, int64_t n)
{
    fct_status st = FCT_OK;
    bool topk = sae->kind == FCT_SAE_TOPK; /* the only kind with a fixed k */
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
    if (sae->normalize != FCT_SAE_NORMALIZE_NONE) {
        FCT_TRY_OUT(fct_new_raw(&out->scale, n, (int64_t)sizeof *out->scale));
        FCT_TRY_OUT(fct_new_raw(&out->shift, n, (int64_t)sizeof *out->shift));
        FCT_TRY_OUT(fct_sae_row_scale(sae, rows, n, out->scale, out->shift));
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

double fct_codes_worth(const fct_codes *c, const fct_sae *sae, int64_t row, int64_t feature)
{
    double worth = c->scale ? c->scale[row] : 1;
    if (sae->dec_norm) worth = sae->dec_norm[feature] > 0 ? worth / sae->dec_norm[feature] : 0;
    return worth;
}

static fct_status decode_dense(const fct_codes *c, const fct_sae *sae, float *rows)
{
    int32_t *every = NULL;
    FCT_TRY(fct_new_raw(&every, c->f, (int64_t)sizeof *every));
    for (int64_t i = 0; i < c->f; i++) every[i] = (int32_t)i;
    fct_status st = FCT_OK;
    for (int64_t r = 0; r < c->n && st == FCT_OK; r++)
        st = fct_sae_decode(sae, every, c->value + r * c->f, 1, c->f, rows + r * sae->d);
    fct_free(every);
    return st;
}

fct_status fct_codes_decode(const fct_codes *c, const fct_sae *sae, float *rows)
{
    fct_status st = c->index ? fct_sae_decode(sae, c->index, c->value, c->n, c->k, rows)
                             : decode_dense(c, sae, rows);
    if (st == FCT_OK && c->scale) fct_sae_restore(rows, c->n, sae->d, c->scale, c->shift);
    return st;
}

void fct_codes_clear(fct_codes *c)
{
    fct_free(c->index);
    fct_free(c->value);
    fct_free(c->scale);
    fct_free(c->shift);
    *c = (fct_codes){0};
}

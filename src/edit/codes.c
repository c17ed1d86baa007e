/* codes.c - encodes rows with an SAE and keeps what came out: k pairs a row, or the codes of all
   features where the SAE has no fixed k. Memory is taken once and kept for the next rows. */
#include <string.h>

#include "edit/edit.h"

/* ---- the encoder ---- */

void fct_coder_clear(fct_coder *c)
{
    fct_sae_coder_clear(&c->code);
    fct_free(c->every);
    c->every = NULL;
}

void fct_coder_on(fct_coder *c, const fct_backend *be)
{
    fct_sae_coder_on(&c->code, be);
}

static fct_status make_every(fct_coder *c)
{
    if (c->every) return FCT_OK;
    FCT_TRY(fct_new_raw(&c->every, c->code.sae->f, (int64_t)sizeof *c->every));
    for (int64_t i = 0; i < c->code.sae->f; i++) c->every[i] = (int32_t)i;
    return FCT_OK;
}

/* ---- codes ---- */

/* Room for n rows. A TopK SAE's codes are pairs, the others' have a number for every feature. */
static fct_status make_room(fct_codes *out, const fct_sae *sae, int64_t n)
{
    bool topk = sae->kind == FCT_SAE_TOPK;
    int64_t width = topk ? sae->k : sae->f, count;
    FCT_TRY(fct_mul_i64(&count, n, width));
    out->n = 0;
    out->k = topk ? sae->k : 0;
    out->f = sae->f;
    FCT_TRY(fct_reserve(&out->value, &out->value_room, count, (int64_t)sizeof *out->value));
    if (topk)
        FCT_TRY(fct_reserve(&out->index, &out->index_room, count, (int64_t)sizeof *out->index));
    if (sae->normalize == FCT_SAE_NORMALIZE_NONE) return FCT_OK;
    FCT_TRY(fct_reserve(&out->scale, &out->scale_room, n, (int64_t)sizeof *out->scale));
    return fct_reserve(&out->shift, &out->shift_room, n, (int64_t)sizeof *out->shift);
}

fct_status fct_codes_encode(fct_codes *out, fct_coder *coder, const float *rows, int64_t n)
{
    const fct_sae *sae = coder->code.sae;
    FCT_TRY(make_room(out, sae, n));
    if (out->index)
        FCT_TRY(fct_sae_encode(&coder->code, rows, n, out->index, out->value));
    else
        FCT_TRY(fct_sae_encode_dense(&coder->code, rows, n, out->value));
    if (out->scale) FCT_TRY(fct_sae_row_scale(sae, rows, n, out->scale, out->shift));
    out->n = n;
    return FCT_OK;
}

float fct_codes_at(const fct_codes *c, int64_t row, int64_t feature)
{
    if (!c->index) return c->value[row * c->f + feature];
    const int32_t *index = c->index + row * c->k;
    for (int64_t i = 0; i < c->k; i++)
        if (index[i] == feature) return c->value[row * c->k + i];
    return 0;
}

double fct_codes_direction_scale(const fct_codes *c, const fct_sae *sae, int64_t row,
                                 int64_t feature)
{
    double length = c->scale ? c->scale[row] : 1;
    if (sae->dec_norm) length = sae->dec_norm[feature] > 0 ? length / sae->dec_norm[feature] : 0;
    return length;
}

static fct_status decode_dense(const fct_codes *c, fct_coder *coder, float *rows)
{
    int64_t d = coder->code.sae->d;
    FCT_TRY(make_every(coder));
    for (int64_t r = 0; r < c->n; r++)
        FCT_TRY(
            fct_sae_decode(&coder->code, coder->every, c->value + r * c->f, 1, c->f, rows + r * d));
    return FCT_OK;
}

fct_status fct_codes_decode(const fct_codes *c, fct_coder *coder, float *rows)
{
    if (c->index)
        FCT_TRY(fct_sae_decode(&coder->code, c->index, c->value, c->n, c->k, rows));
    else
        FCT_TRY(decode_dense(c, coder, rows));
    if (c->scale) fct_sae_restore(rows, c->n, coder->code.sae->d, c->scale, c->shift);
    return FCT_OK;
}

void fct_codes_clear(fct_codes *c)
{
    fct_free(c->index);
    fct_free(c->value);
    fct_free(c->scale);
    fct_free(c->shift);
    *c = (fct_codes){0};
}

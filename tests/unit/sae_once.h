/* sae_once.h - applies an SAE once, with a coder of its own on the usual backend. */
#ifndef FCT_TESTS_SAE_ONCE_H
#define FCT_TESTS_SAE_ONCE_H

#include "sae/sae.h"

static inline fct_status once_encode(const fct_sae *s, const float *rows, int64_t n, int32_t *index,
                                     float *value)
{
    fct_sae_coder c = {.sae = s};
    fct_status st = fct_sae_encode(&c, rows, n, index, value);
    fct_sae_coder_clear(&c);
    return st;
}

static inline fct_status once_dense(const fct_sae *s, const float *rows, int64_t n, float *z)
{
    fct_sae_coder c = {.sae = s};
    fct_status st = fct_sae_encode_dense(&c, rows, n, z);
    fct_sae_coder_clear(&c);
    return st;
}

static inline fct_status once_csr(const fct_sae *s, const float *rows, int64_t n, fct_sae_csr *out)
{
    fct_sae_coder c = {.sae = s};
    fct_status st = fct_sae_encode_csr(&c, rows, n, out);
    fct_sae_coder_clear(&c);
    return st;
}

static inline fct_status once_decode(const fct_sae *s, const int32_t *index, const float *value,
                                     int64_t n, int64_t k, float *rows)
{
    fct_sae_coder c = {.sae = s};
    fct_status st = fct_sae_decode(&c, index, value, n, k, rows);
    fct_sae_coder_clear(&c);
    return st;
}

static inline fct_status once_rebuild(const fct_sae *s, const float *rows, int64_t n, float *out)
{
    fct_sae_coder c = {.sae = s};
    fct_status st = fct_sae_rebuild(&c, rows, n, out);
    fct_sae_coder_clear(&c);
    return st;
}

#endif

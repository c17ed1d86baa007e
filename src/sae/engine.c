/* engine.c - runs operations for SAEs on a backend that the caller chooses, with an arena of
   exactly the size that a dry run counts; has the pre-activations that encoding and training
   share. */
#include <string.h>

#include "sae/sae.h"

enum { CHUNK_FLOATS = 1 << 21, CHUNK_ROWS = 1024 };

int64_t fct_sae_chunk(const fct_sae *s)
{
    int64_t wide = s->f > s->d ? s->f : s->d, n = CHUNK_FLOATS / (wide > 0 ? wide : 1);
    return n < 1 ? 1 : n > CHUNK_ROWS ? CHUNK_ROWS : n;
}

fct_status fct_sae_engine_init(fct_sae_engine *e, const fct_backend *be, int64_t rows, int64_t d,
                               int64_t f, int64_t k)
{
    fct_arena dry = {0};
    *e = (fct_sae_engine){0};
    if (!be) FCT_TRY(fct_backend_find(&be, NULL));
    FCT_TRY(fct_cx_open(&e->cx, be, NULL));
    e->cx.arena = &dry;
    FCT_TRY(fct_op_topk(&e->cx, &(fct_topk_args){.rows = rows, .n = f, .k = k}));
    FCT_TRY(fct_op_matmul(
        &e->cx, &(fct_matmul_args){.m = rows, .n = f, .k = d, .trans_b = true, .alpha = 1}));
    FCT_TRY(fct_op_sparse_outer(&e->cx,
                                &(fct_sparse_outer_args){.rows = rows, .k = k, .n = f, .d = d}));
    FCT_TRY(fct_op_sparse_decode(&e->cx, &(fct_sparse_decode_args){.rows = rows, .k = k, .d = d}));
    FCT_TRY(fct_op_sparse_dot(&e->cx, &(fct_sparse_dot_args){.rows = rows, .k = k, .d = d}));
    FCT_TRY(fct_device_arena_init(be->device, &e->arena, dry.peak));
    e->cx.arena = &e->arena;
    return FCT_OK;
}

void fct_sae_engine_clear(fct_sae_engine *e)
{
    fct_sae_staged_clear(e);
    if (e->cx.be) fct_device_arena_clear(e->cx.be->device, &e->arena);
    fct_cx_close(&e->cx);
    *e = (fct_sae_engine){0};
}

FCT_CLONES static void subtract(float *y, const float *x, const float *b, int64_t n, int64_t d)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < d; i++) y[r * d + i] = x[r * d + i] - b[i];
}

FCT_CLONES static void scale_columns(float *pre, const float *by, int64_t n, int64_t f)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < f; i++) pre[r * f + i] *= by[i];
}

/* Into centred, from where the encoder's products take it. */
static fct_status centre(const fct_sae *s, const fct_sae_preact_args *a)
{
    const float *x = a->x;
    if (s->normalize != FCT_SAE_NORMALIZE_NONE) {
        FCT_TRY(fct_sae_normalize_rows(s, x, a->n, a->centred));
        x = a->centred;
    }
    if (s->apply_b_dec_to_input)
        subtract(a->centred, x, s->b_dec, a->n, s->d);
    else if (x != a->centred)
        memcpy(a->centred, x, (size_t)(a->n * s->d) * sizeof *x);
    return FCT_OK;
}

fct_status fct_sae_preact(fct_sae_engine *e, const fct_sae *s, const fct_sae_preact_args *a)
{
    FCT_TRY(centre(s, a));
    for (int64_t r = 0; !a->no_bias && r < a->n; r++)
        memcpy(a->pre + r * s->f, s->b_enc, (size_t)s->f * sizeof *a->pre);
    FCT_TRY(fct_sae_matmul(e, &(fct_matmul_args){.a = a->centred,
                                                 .b = s->w_enc,
                                                 .c = a->pre,
                                                 .m = a->n,
                                                 .n = s->f,
                                                 .k = s->d,
                                                 .trans_b = true,
                                                 .alpha = 1,
                                                 .beta = a->no_bias ? 0 : 1}));
    if (s->dec_norm) scale_columns(a->pre, s->dec_norm, a->n, s->f);
    return FCT_OK;
}

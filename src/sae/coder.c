/* coder.c - opens and closes what applies an SAE to rows, and keeps its memory from call to call.
   Rows go through in chunks whose size depends on the SAE alone, so that memory stays small and
   equal calls give equal bytes. */
#include "sae/sae.h"

void fct_sae_coder_init(fct_sae_coder *c, const fct_sae *s, const fct_backend *be)
{
    *c = (fct_sae_coder){.sae = s, .be = be};
}

void fct_sae_coder_clear(fct_sae_coder *c)
{
    fct_free(c->centred);
    fct_free(c->pre);
    fct_free(c->index);
    fct_free(c->value);
    fct_free(c->plain);
    fct_sae_engine_clear(&c->e);
    fct_sae_coder_init(c, c->sae, c->be);
}

void fct_sae_coder_on(fct_sae_coder *c, const fct_backend *be)
{
    if (!be || be == c->be) return;
    fct_sae_coder_clear(c);
    c->be = be;
}

fct_status fct_sae_coder_fit(fct_sae_coder *c, int64_t n)
{
    fct_status st = FCT_OK;
    const fct_sae *s = c->sae;
    int64_t most = fct_sae_chunk(s), want = n < 1 ? 1 : n < most ? n : most;
    if (c->rows >= want) return FCT_OK;
    fct_sae_coder_clear(c);
    FCT_TRY_OUT(fct_sae_engine_init(&c->e, c->be, want, s->d, s->f, s->k > 0 ? s->k : 1));
    FCT_TRY_OUT(fct_new_raw(&c->centred, want * s->d, sizeof *c->centred));
    FCT_TRY_OUT(fct_new_raw(&c->pre, want * s->f, sizeof *c->pre));
    c->rows = want;
    return FCT_OK;
out:
    fct_sae_coder_clear(c);
    return st;
}

int64_t fct_sae_coder_rows(const fct_sae_coder *c, int64_t at, int64_t n)
{
    int64_t most = fct_sae_chunk(c->sae);
    return n - at < most ? n - at : most;
}

fct_status fct_sae_coder_open(fct_sae_coder **out, const fct_sae *s, const char *backend)
{
    const fct_backend *be;
    *out = NULL;
    FCT_TRY(fct_backend_find(&be, backend));
    FCT_TRY(fct_new(out, 1, sizeof **out));
    fct_sae_coder_init(*out, s, be);
    return FCT_OK;
}

void fct_sae_coder_close(fct_sae_coder *c)
{
    if (!c) return;
    fct_sae_coder_clear(c);
    fct_free(c);
}

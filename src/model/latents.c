/* latents.c - turns latents into pictures and pictures into latents outside of a run, with the
   model's VAE alone, in a session's memory. */
#include "model/run.h"

typedef fct_status (*vae_job)(fct_rt *rt, const fct_model *m, void *self, bool dry);

/* Twice: dry, to learn the memory, then for real. */
static fct_status run_vae(fct_session *s, vae_job job, void *self)
{
    fct_arena dry = {0};
    if (!s->m->has_vae) return fct_fail(FCT_ERR_MISSING, "the VAE was not loaded");
    int before = fct_session_enter(s);
    fct_rt rt = {.cx = s->cx, .dtype = FCT_F32};
    rt.cx.arena = &dry;
    fct_status st = job(&rt, s->m, self, true);
    if (st == FCT_OK) st = fct_session_reserve(s, dry.peak);
    rt.cx.arena = &s->arena;
    if (st == FCT_OK) st = job(&rt, s->m, self, false);
    fct_session_leave(s, before);
    return st;
}

typedef struct decoding {
    const fct_tensor *latents;
    uint8_t *pixels;
} decoding;

static fct_status decode_job(fct_rt *rt, const fct_model *m, void *self, bool dry)
{
    const decoding *j = self;
    const int64_t *dim = j->latents->dim;
    fct_tensor x;
    FCT_TRY(fct_rt_take(rt, &x, FCT_F32, 4, (int64_t[]){dim[0], dim[2], dim[3], dim[1]}));
    if (!dry) FCT_TRY(fct_latents_write(rt, &x, j->latents->data));
    return fct_vae_decode(rt, &m->vae, x, dry ? NULL : j->pixels);
}

fct_status fct_session_decode(fct_session *s, const fct_tensor *latents, uint8_t *pixels)
{
    if (latents->ndim != 4 || latents->dtype != FCT_F32 ||
        latents->dim[1] != s->m->vae.config.latent_channels)
        return fct_fail(FCT_ERR_SHAPE, "latents are f32 [B,%lld,h,w]",
                        (long long)s->m->vae.config.latent_channels);
    return run_vae(s, decode_job, &(decoding){latents, pixels});
}

typedef struct encoding {
    const uint8_t *pixels;
    int64_t n, width, height;
    float *latents;
} encoding;

static fct_status encode_job(fct_rt *rt, const fct_model *m, void *self, bool dry)
{
    const encoding *j = self;
    int64_t f = m->info.vae_factor, pixels = j->width * j->height * 3;
    int64_t cells = j->width / f * (j->height / f) * m->vae.config.latent_channels;
    for (int64_t i = 0; i < (dry ? 1 : j->n); i++) {
        fct_arena_reset(rt->cx.arena, 0);
        FCT_TRY(fct_vae_encode(rt, &m->vae, dry ? NULL : j->pixels + i * pixels, j->width,
                               j->height, dry ? NULL : j->latents + i * cells));
    }
    return FCT_OK;
}

fct_status fct_session_encode(fct_session *s, const uint8_t *pixels, int64_t n, int64_t width,
                              int64_t height, float *latents)
{
    int64_t f = s->m->info.vae_factor;
    if (width < 1 || height < 1 || width % f || height % f)
        return fct_fail(FCT_ERR_SHAPE,
                        "a picture of %lldx%lld cannot be encoded: both must be multiples of %lld",
                        (long long)width, (long long)height, (long long)f);
    return run_vae(s, encode_job, &(encoding){pixels, n, width, height, latents});
}

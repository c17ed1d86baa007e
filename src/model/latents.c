/* latents.c - turns latents into pictures and pictures into latents outside of a run, with the
   model's VAE alone. */
#include "model/model.h"

static fct_status decode_all(fct_model *m, const fct_tensor *latents, fct_arena *arena,
                             uint8_t *pixels)
{
    fct_rt rt = {.cx = {.be = m->be, .arena = arena, .log = m->log}, .dtype = FCT_F32};
    fct_tensor x;
    int64_t b = latents->dim[0], c = latents->dim[1], h = latents->dim[2], w = latents->dim[3];
    FCT_TRY(fct_rt_take(&rt, &x, FCT_F32, 4, (int64_t[]){b, h, w, c}));
    if (x.data) fct_to_nhwc(x.data, latents->data, b, c, h, w);
    return fct_vae_decode(&rt, &m->vae, x, x.data ? pixels : NULL);
}

fct_status fct_model_decode(fct_model *m, const fct_tensor *latents, uint8_t *pixels)
{
    if (!m->has_vae) return fct_fail(FCT_ERR_MISSING, "the VAE was not loaded");
    if (latents->ndim != 4 || latents->dtype != FCT_F32 ||
        latents->dim[1] != m->vae.config.latent_channels)
        return fct_fail(FCT_ERR_SHAPE, "latents are f32 [B,%lld,h,w]",
                        (long long)m->vae.config.latent_channels);
    fct_arena dry = {0}, arena = {0};
    FCT_TRY(decode_all(m, latents, &dry, NULL));
    FCT_TRY(fct_arena_init(&arena, dry.peak));
    fct_status st = decode_all(m, latents, &arena, pixels);
    fct_arena_clear(&arena);
    return st;
}

static fct_status encode_one(fct_model *m, const uint8_t *pixels, int64_t width, int64_t height,
                             fct_arena *arena, float *latents)
{
    fct_rt rt = {.cx = {.be = m->be, .arena = arena, .log = m->log}, .dtype = FCT_F32};
    return fct_vae_encode(&rt, &m->vae, pixels, width, height, latents);
}

fct_status fct_model_encode(fct_model *m, const uint8_t *pixels, int64_t n, int64_t width,
                            int64_t height, float *latents)
{
    int64_t f = m->info.vae_factor;
    if (!m->has_vae) return fct_fail(FCT_ERR_MISSING, "the VAE was not loaded");
    if (width < 1 || height < 1 || width % f || height % f)
        return fct_fail(FCT_ERR_SHAPE,
                        "a picture of %lldx%lld cannot be encoded: both must be multiples of %lld",
                        (long long)width, (long long)height, (long long)f);
    fct_arena dry = {0}, arena = {0};
    FCT_TRY(encode_one(m, NULL, width, height, &dry, NULL));
    FCT_TRY(fct_arena_init(&arena, dry.peak));
    fct_status st = FCT_OK;
    int64_t cells = width / f * (height / f) * m->vae.config.latent_channels;
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        fct_arena_reset(&arena, 0);
        st = encode_one(m, pixels + i * width * height * 3, width, height, &arena,
                        latents + i * cells);
    }
    fct_arena_clear(&arena);
    return st;
}

/* conditioning.c - computes what the U-Net is conditioned on: the text states of both encoders side
   by side, and the vector of pooled text and size inputs.
   Rows are [uncond, cond] under guidance. */
#include "model/run.h"

/* One encoder's states of every text, [n_texts, T, C]. */
static fct_status encode(fct_work *w, int i, fct_tensor *states, float *pooled)
{
    int64_t dim[3] = {w->n_texts, w->tokens, w->m->clip_config[i].hidden_size};
    FCT_TRY(fct_rt_take(&w->rt, states, w->rt.dtype, 3, dim));
    fct_status st =
        fct_clip_encode(&w->rt, w->m->clip[i], w->ids[i], w->n_texts, w->tokens, *states, pooled);
    return fct_where(st, "%s", i ? "text_encoder_2" : "text_encoder");
}

/* all [n_texts,T,C], pooled [n_texts,P]: each row's text, zeros where it has none. */
static fct_status place_rows(fct_work *w, const fct_tensor *all, float *pooled)
{
    int64_t c = w->tokens * w->m->unet_config.cross_attention_dim,
            p = w->m->clip_config[1].projection_dim;
    fct_tensor from = fct_tensor_of(all->data, w->rt.dtype, 2, (int64_t[]){w->n_texts, c}),
               to = fct_tensor_of(w->rt.text.data, w->rt.dtype, 2, (int64_t[]){w->rows, c});
    FCT_TRY(fct_op_gather(&w->rt.cx,
                          &(fct_gather_args){.x = from, .y = to, .index = w->text_of}));
    from = fct_tensor_of(pooled, FCT_F32, 2, (int64_t[]){w->n_texts, p});
    to = fct_tensor_of(w->added, FCT_F32, 2, (int64_t[]){w->rows, p});
    return fct_op_gather(&w->rt.cx, &(fct_gather_args){.x = from,
                                                       .y = to,
                                                       .index = w->text_of,
                                                       .y_stride = w->m->unet_config.add_in});
}

/* original height, width; crop top, left; target height, width:
   each a sinusoid after the pooled text. */
static fct_status place_sizes(fct_work *w)
{
    const fct_settings *s = &w->settings;
    const fct_unet_config *c = &w->m->unet_config;
    int64_t height = w->h * w->m->info.vae_factor, width = w->w * w->m->info.vae_factor,
            dim = c->addition_time_embed_dim;
    const int64_t size[6] = {s->original_height ? s->original_height : height,
                             s->original_width ? s->original_width : width,
                             s->crop_top,
                             s->crop_left,
                             s->target_height ? s->target_height : height,
                             s->target_width ? s->target_width : width};
    float *wave = NULL;
    FCT_TRY(fct_new(&wave, 6 * dim, sizeof *wave));
    for (int64_t i = 0; i < 6; i++)
        fct_sinusoid(wave + i * dim, (float)size[i], dim, c->flip_sin_to_cos,
                     (double)c->freq_shift);
    fct_status st = FCT_OK;
    for (int64_t r = 0; r < w->rows && st == FCT_OK; r++)
        st = fct_rt_device(&w->rt)->write(
            w->added + r * c->add_in + w->m->clip_config[1].projection_dim, wave,
            6 * dim * (int64_t)sizeof *wave);
    fct_free(wave);
    return st;
}

/* ---- texts that were encoded before ---- */

static void clear_texts(fct_kept_value *value)
{
    fct_texts_kept *t = (fct_texts_kept *)value;
    fct_free(t->states.data);
    fct_free(t->pooled.data);
}

/* Products of a batch of texts round differently from those of one, so texts are found again only
   as the batch that they were. */
static fct_status keep_texts(fct_work *w, const fct_tensor *states, float *pooled)
{
    const fct_device *device = fct_rt_device(&w->rt);
    fct_tensor vectors = fct_tensor_of(
        pooled, FCT_F32, 2, (int64_t[]){w->n_texts, w->m->clip_config[1].projection_dim});
    int64_t bytes = fct_tensor_bytes(states) + fct_tensor_bytes(&vectors);
    fct_texts_kept *t = NULL;
    w->s->counts.texts += w->n_texts;
    if (!fct_kept_fits(&w->s->texts, bytes)) return FCT_OK;
    FCT_TRY(fct_new(&t, 1, (int64_t)sizeof *t));
    t->head.clear = clear_texts;
    fct_status st = fct_tensor_read(&t->states, device, states);
    if (st == FCT_OK) st = fct_tensor_read(&t->pooled, device, &vectors);
    if (st == FCT_OK) st = fct_kept_put(&w->s->texts, w->text_key, &t->head, bytes);
    if (st == FCT_OK) return st;
    clear_texts(&t->head);
    fct_free(t);
    return st;
}

static fct_status encode_both(fct_work *w, fct_tensor *all, float **pooled)
{
    fct_tensor states[2];
    int64_t c = w->m->unet_config.cross_attention_dim;
    FCT_TRY(fct_arena_take(w->arena, pooled, w->n_texts * w->m->clip_config[1].projection_dim,
                           sizeof **pooled));
    for (int i = 0; i < 2; i++) FCT_TRY(encode(w, i, &states[i], *pooled));
    FCT_TRY(fct_rt_take(&w->rt, all, w->rt.dtype, 3, (int64_t[]){w->n_texts, w->tokens, c}));
    FCT_TRY(
        fct_op_concat(&w->rt.cx, &(fct_concat_args){.a = states[0], .b = states[1], .y = *all}));
    return fct_arena_dry(w->arena) ? FCT_OK : keep_texts(w, all, *pooled);
}

fct_status fct_work_encode(fct_work *w)
{
    fct_tensor all = {0};
    float *pooled = NULL;
    fct_mark mark = fct_arena_mark(w->arena);
    if (w->texts) {
        fct_tensor vectors;
        FCT_TRY(fct_rt_bring(&w->rt, &all, &w->texts->states));
        FCT_TRY(fct_rt_bring(&w->rt, &vectors, &w->texts->pooled));
        pooled = vectors.data;
    } else if (w->n_texts > 0) {
        FCT_TRY(encode_both(w, &all, &pooled));
    }
    if (!fct_arena_dry(w->arena)) {
        FCT_TRY(place_rows(w, &all, pooled));
        FCT_TRY(place_sizes(w));
    }
    fct_arena_reset(w->arena, mark);
    return FCT_OK;
}

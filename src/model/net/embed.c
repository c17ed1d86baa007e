/* embed.c - computes the U-Net's time embedding and SDXL's added conditions, which every residual
   block gets besides its map (Timesteps, TimestepEmbedding and "text_time" of diffusers).

       time  [B,Ct] = time_embedding(sinusoid(t))
       added [B,Ct] = add_embedding(pooled text, sinusoids of original size, crop, target size)

   Both embeddings are linear_2(silu(linear_1(x))).

   Stage 0 of the U-Net. It leaves the map alone and fills rt->emb with silu(time + added): every
   block applies the same SiLU before its own projection, so it is done once. */
#include <math.h>
#include <string.h>

#include "model/net/net.h"

/* diffusers' get_timestep_embedding, in f32 as there: out [dim] is [sin | cos] of the angles, or
   [cos | sin] when flipped.

       angle_i = t · exp(-ln(10000) · i / (dim/2 - shift)),   i in [0, dim/2) */
void fct_sinusoid(float *out, float t, int64_t dim, bool flip, double shift)
{
    int64_t half = dim / 2;
    for (int64_t i = 0; i < half; i++) {
        float exponent = -9.210340371976184f * (float)i / (float)((double)half - shift);
        float angle = t * (float)exp((double)exponent);
        out[(flip ? half : 0) + i] = (float)sin((double)angle);
        out[(flip ? 0 : half) + i] = (float)cos((double)angle);
    }
    if (dim % 2) out[dim - 1] = 0;
}

/* linear_2(silu(linear_1(x))), all f32 outside the products. */
static fct_status mlp(fct_rt *rt, int32_t id, const fct_linear *l1, const fct_linear *l2,
                      fct_tensor x, fct_tensor y)
{
    fct_tensor wide;
    FCT_TRY(fct_tap_in(rt, id, &x));
    FCT_TRY(fct_rt_take(rt, &wide, FCT_F32, 2, (int64_t[]){x.dim[0], l1->out}));
    FCT_TRY(fct_linear_run(rt, l1, x, wide, FCT_ACT_SILU, (fct_tensor){0}));
    FCT_TRY(fct_linear_run(rt, l2, wide, y, FCT_ACT_NONE, (fct_tensor){0}));
    return fct_tap_out(rt, id, &y, &x);
}

/* The time step's sinusoid in every row. */
static fct_status fill_wave(fct_rt *rt, const fct_embed *e, const fct_tensor *wave)
{
    fct_map to;
    FCT_TRY(fct_map_open(&to, fct_rt_device(rt), wave, FCT_MAP_WRITE));
    for (int64_t i = 0; to.data && i < wave->dim[0]; i++)
        fct_sinusoid((float *)to.data + i * e->dim, rt->timestep, e->dim, e->flip, e->shift);
    return fct_map_close(&to);
}

static fct_status embed_run(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y)
{
    const fct_embed *e = s->weights;
    int64_t b = x.dim[0], c = e->time2.out;
    fct_tensor wave, time, added;
    (void)y;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &wave, FCT_F32, 2, (int64_t[]){b, e->dim}));
    FCT_TRY(fill_wave(rt, e, &wave));
    FCT_TRY(fct_rt_take(rt, &time, FCT_F32, 2, (int64_t[]){b, c}));
    FCT_TRY(mlp(rt, e->time_id, &e->time1, &e->time2, wave, time));
    FCT_TRY(fct_rt_take(rt, &added, FCT_F32, 2, (int64_t[]){b, c}));
    fct_tensor conditions = fct_tensor_of(NULL, FCT_F32, 2, (int64_t[]){b, e->add1.in});
    if (added.data) memcpy(&conditions.data, &rt->added, sizeof rt->added);
    FCT_TRY(mlp(rt, e->add_id, &e->add1, &e->add2, conditions, added));
    fct_tensor emb = fct_tensor_of(rt->emb, FCT_F32, 2, (int64_t[]){b, c});
    FCT_TRY(fct_add_run(rt, time, added, time));
    FCT_TRY(fct_op_unary(&rt->cx, &(fct_unary_args){.x = time, .y = emb, .act = FCT_ACT_SILU}));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

int64_t fct_unet_emb_width(const fct_stages *unet)
{
    const fct_embed *e = unet->v[0].weights;
    return e->time2.out;
}

static void embed_clear(void *weights)
{
    fct_embed *e = weights;
    fct_linear_clear(&e->time1);
    fct_linear_clear(&e->time2);
    fct_linear_clear(&e->add1);
    fct_linear_clear(&e->add2);
}

fct_status fct_embed_bind(fct_binder *b, fct_stages *list, const fct_unet_config *c)
{
    fct_stage *s = NULL;
    FCT_TRY(fct_stages_add(list, &s, "time_embedding", sizeof(fct_embed)));
    fct_embed *e = s->weights;
    s->run = embed_run;
    s->clear = embed_clear;
    s->keeps = true;
    e->dim = c->block_out_channels.v[0];
    e->flip = c->flip_sin_to_cos;
    e->shift = (double)c->freq_shift;
    int64_t wide = c->time_embedding_dim ? c->time_embedding_dim : 4 * c->block_out_channels.v[0];
    FCT_TRY(fct_bind_module(b, &e->time_id, "time_embedding"));
    FCT_TRY(fct_bind_linear(b, &e->time1, "time_embedding.linear_1", e->dim, wide, FCT_BIAS));
    FCT_TRY(fct_bind_linear(b, &e->time2, "time_embedding.linear_2", wide, wide, FCT_BIAS));
    FCT_TRY(fct_bind_module(b, &e->add_id, "add_embedding"));
    FCT_TRY(fct_bind_linear(b, &e->add1, "add_embedding.linear_1", c->add_in, wide, FCT_BIAS));
    return fct_bind_linear(b, &e->add2, "add_embedding.linear_2", wide, wide, FCT_BIAS);
}

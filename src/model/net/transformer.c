/* transformer.c - runs Transformer2DModel, the attention blocks that facet watches and edits.

   map -> group norm -> proj_in -> blocks (self-attention, attention to the text, gated
   feed-forward, each with its own layer norm and residual) -> proj_out -> delta, and output = input
   + delta. The delta is always the f32 result of proj_out, and the sum is always an operation of
   its own: so watching a block changes no byte. */
#include <stdio.h>
#include <string.h>

#include "model/net/net.h"

/* ---- attention ---- */

/* Taps of to_q, to_k, to_v, which one product computes together:
   columns [at, at+c) of rows of `stride`. */
static fct_status tap_columns(fct_rt *rt, int32_t id, const fct_tensor *x,
                              const fct_tensor *stacked, int64_t at, int64_t c)
{
    if (!fct_tapped(rt, id)) return FCT_OK;
    fct_tensor part, seen = *x, columns = fct_at(stacked, at);
    int64_t stride = stacked->dim[2];
    columns.dim[2] = c;
    FCT_TRY(fct_rt_take(rt, &part, stacked->dtype, 3, columns.dim));
    FCT_TRY(fct_op_gather(&rt->cx,
                          &(fct_gather_args){.x = columns, .y = part, .x_stride = stride}));
    FCT_TRY(fct_tap_in(rt, id, &seen));
    if (seen.data != x->data)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "the input of to_q, to_k and to_v is edited at its attention module");
    FCT_TRY(fct_tap_out(rt, id, &part, x));
    return fct_op_gather(&rt->cx,
                         &(fct_gather_args){.x = part, .y = columns, .y_stride = stride});
}

/* y = out(attention(x, context)) + residual; x, y, residual [B,T,C]; context [B,Tk,D]. */
static fct_status attn_run(fct_rt *rt, const fct_attn *a, fct_tensor x, fct_tensor residual,
                           fct_tensor y)
{
    int64_t b = x.dim[0], t = x.dim[1], c = a->in.out / (a->cross ? 1 : 3);
    fct_tensor q, kv, mixed;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_tap_in(rt, a->id, &x));
    FCT_TRY(fct_rt_take(rt, &q, rt->dtype, 3, (int64_t[]){b, t, a->in.out}));
    FCT_TRY(fct_linear_run(rt, &a->in, x, q, FCT_ACT_NONE, (fct_tensor){0}));
    fct_attention_args args = {.heads = a->heads};
    fct_tensor context = a->cross ? rt->text : x;
    int64_t keys = context.dim[1], q_width = a->in.out, kv_width = q_width, kv_at = c;
    kv = q;
    if (a->cross) {
        kv_width = a->kv.out;
        kv_at = 0;
        FCT_TRY(fct_rt_take(rt, &kv, rt->dtype, 3, (int64_t[]){b, keys, kv_width}));
        FCT_TRY(fct_linear_run(rt, &a->kv, context, kv, FCT_ACT_NONE, (fct_tensor){0}));
    }
    FCT_TRY(tap_columns(rt, a->part[0], &x, &q, 0, c));
    FCT_TRY(tap_columns(rt, a->part[1], &context, &kv, kv_at, c));
    FCT_TRY(tap_columns(rt, a->part[2], &context, &kv, kv_at + c, c));
    args.q = fct_at(&q, 0);
    args.k = fct_at(&kv, kv_at);
    args.v = fct_at(&kv, kv_at + c);
    args.q.dim[2] = args.k.dim[2] = args.v.dim[2] = c;
    args.q_stride = q_width;
    args.k_stride = args.v_stride = kv_width;
    FCT_TRY(fct_rt_take(rt, &mixed, rt->dtype, 3, (int64_t[]){b, t, c}));
    args.y = mixed;
    FCT_TRY(fct_op_attention(&rt->cx, &args));
    if (fct_tapped(rt, a->id)) {
        FCT_TRY(fct_linear_run(rt, &a->out, mixed, y, FCT_ACT_NONE, (fct_tensor){0}));
        FCT_TRY(fct_tap_out(rt, a->id, &y, &x));
        FCT_TRY(fct_add_run(rt, y, residual, y));
    } else {
        FCT_TRY(fct_linear_run(rt, &a->out, mixed, y, FCT_ACT_NONE, residual));
    }
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

static fct_status attn_bind(fct_binder *b, fct_attn *a, const char *name, int64_t c, int64_t heads,
                            int64_t context)
{
    static const char *const part[3] = {"to_q", "to_k", "to_v"};
    char n[3][FCT_NAME_SIZE];
    a->heads = heads;
    a->cross = context != 0;
    FCT_TRY(fct_bind_module(b, &a->id, name));
    for (int i = 0; i < 3; i++) {
        snprintf(n[i], sizeof n[i], "%s.%s", name, part[i]);
        FCT_TRY(fct_bind_module(b, &a->part[i], n[i]));
    }
    const char *const all[3] = {n[0], n[1], n[2]};
    FCT_TRY(fct_bind_stack(b, &a->in, all, a->cross ? 1 : 3, c, c, 0));
    if (a->cross) FCT_TRY(fct_bind_stack(b, &a->kv, all + 1, 2, context, c, 0));
    snprintf(n[0], sizeof n[0], "%s.to_out.0", name);
    return fct_bind_linear(b, &a->out, n[0], c, c, FCT_BIAS);
}

static void attn_clear(fct_attn *a)
{
    fct_linear_clear(&a->in);
    fct_linear_clear(&a->kv);
    fct_linear_clear(&a->out);
}

/* ---- one transformer block ---- */

/* y = net.2(geglu(net.0.proj(x))) + residual */
static fct_status ff_run(fct_rt *rt, const fct_tblock *k, fct_tensor x, fct_tensor residual,
                         fct_tensor y)
{
    int64_t b = x.dim[0], t = x.dim[1];
    fct_tensor wide, gated, in = x;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_tap_in(rt, k->ff, &x));
    in = x;
    FCT_TRY(fct_tap_in(rt, k->net0, &in));
    FCT_TRY(fct_rt_take(rt, &gated, rt->dtype, 3, (int64_t[]){b, t, k->net2.in}));
    FCT_TRY(fct_rt_take(rt, &wide, rt->dtype, 3, (int64_t[]){b, t, k->proj.out}));
    FCT_TRY(fct_linear_run(rt, &k->proj, in, wide, FCT_ACT_NONE, (fct_tensor){0}));
    FCT_TRY(fct_op_geglu(&rt->cx, &(fct_geglu_args){.x = wide, .y = gated}));
    FCT_TRY(fct_tap_out(rt, k->net0, &gated, &in));
    if (fct_tapped(rt, k->ff)) {
        FCT_TRY(fct_linear_run(rt, &k->net2, gated, y, FCT_ACT_NONE, (fct_tensor){0}));
        FCT_TRY(fct_tap_out(rt, k->ff, &y, &x));
        FCT_TRY(fct_add_run(rt, y, residual, y));
    } else {
        FCT_TRY(fct_linear_run(rt, &k->net2, gated, y, FCT_ACT_NONE, residual));
    }
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

/* h[0] in, h[1] scratch of the same shape; the result is in h[1], and the caller swaps. */
static fct_status tblock_run(fct_rt *rt, const fct_tblock *k, fct_tensor *h)
{
    fct_tensor normed, x = h[0];
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &normed, rt->dtype, 3, x.dim));
    FCT_TRY(fct_tap_in(rt, k->id, &x));
    fct_tensor whole = x; /* for DELTA of the whole block, whose input is overwritten on the way */
    if (fct_tapped(rt, k->id)) {
        FCT_TRY(fct_rt_take(rt, &whole, x.dtype, 3, x.dim));
        FCT_TRY(fct_copy_run(rt, x, whole));
    }
    FCT_TRY(fct_norm_run(rt, &k->norm1, x, normed, FCT_ACT_NONE));
    FCT_TRY(attn_run(rt, &k->attn1, normed, x, h[1]));
    FCT_TRY(fct_norm_run(rt, &k->norm2, h[1], normed, FCT_ACT_NONE));
    FCT_TRY(attn_run(rt, &k->attn2, normed, h[1], h[0]));
    FCT_TRY(fct_norm_run(rt, &k->norm3, h[0], normed, FCT_ACT_NONE));
    FCT_TRY(ff_run(rt, k, normed, h[0], h[1]));
    FCT_TRY(fct_tap_out(rt, k->id, &h[1], &whole));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

static fct_status tblock_bind(fct_binder *b, fct_tblock *k, const char *name,
                              const fct_transformer_desc *d)
{
    char n[FCT_NAME_SIZE];
    int64_t c = d->channels;
#define SUB(part) (snprintf(n, sizeof n, "%s.%s", name, part), n)
    FCT_TRY(fct_bind_module(b, &k->id, name));
    FCT_TRY(fct_bind_norm(b, &k->norm1, SUB("norm1"), c, 0, 1e-5));
    FCT_TRY(attn_bind(b, &k->attn1, SUB("attn1"), c, d->heads, 0));
    FCT_TRY(fct_bind_norm(b, &k->norm2, SUB("norm2"), c, 0, 1e-5));
    FCT_TRY(attn_bind(b, &k->attn2, SUB("attn2"), c, d->heads, d->cross));
    FCT_TRY(fct_bind_norm(b, &k->norm3, SUB("norm3"), c, 0, 1e-5));
    FCT_TRY(fct_bind_module(b, &k->ff, SUB("ff")));
    FCT_TRY(fct_bind_module(b, &k->net0, SUB("ff.net.0")));
    /* 4 times as wide, twice: value and gate. */
    FCT_TRY(fct_bind_linear(b, &k->proj, SUB("ff.net.0.proj"), c, 8 * c, FCT_BIAS));
    return fct_bind_linear(b, &k->net2, SUB("ff.net.2"), 4 * c, c, FCT_BIAS);
#undef SUB
}

/* ---- the whole ---- */

static fct_tensor projection_view(const fct_transformer *t, const fct_tensor *map)
{
    return t->token_projections ? fct_as_tokens(map) : *map;
}

/* delta = proj_out(blocks(proj_in(norm(x)))), f32 [B,H,W,C]. */
static fct_status compute_delta(fct_rt *rt, const fct_transformer *t, fct_tensor x,
                                fct_tensor delta)
{
    fct_tensor h[2];
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &h[0], rt->dtype, 4, delta.dim));
    FCT_TRY(fct_rt_take(rt, &h[1], rt->dtype, 4, delta.dim));
    FCT_TRY(fct_norm_run(rt, &t->norm, x, h[1], FCT_ACT_NONE));
    FCT_TRY(fct_linear_run(rt, &t->proj_in, projection_view(t, &h[1]), projection_view(t, &h[0]),
                           FCT_ACT_NONE, (fct_tensor){0}));
    fct_tensor map = h[0];
    h[0] = fct_as_tokens(&h[0]);
    h[1] = fct_as_tokens(&h[1]);
    for (int64_t i = 0; i < t->n_blocks; i++) {
        FCT_TRY(tblock_run(rt, &t->block[i], h));
        fct_tensor swap = h[0];
        h[0] = h[1];
        h[1] = swap;
    }
    map.data = h[0].data;
    FCT_TRY(fct_linear_run(rt, &t->proj_out, projection_view(t, &map), projection_view(t, &delta),
                           FCT_ACT_NONE, (fct_tensor){0}));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

static fct_status transformer_run(fct_rt *rt, const fct_stage *s, fct_tensor x, fct_tensor y)
{
    const fct_transformer *t = s->weights;
    const fct_tensor *given = rt->given;
    int64_t dim[4] = {x.dim[0], x.dim[1], x.dim[2], s->out};
    fct_tensor delta;
    rt->given = NULL;
    if (!given) FCT_TRY(fct_tap_in(rt, t->id, &x));
    FCT_TRY(fct_rt_take(rt, &delta, FCT_F32, 4, dim));
    if (!given) FCT_TRY(compute_delta(rt, t, x, delta));
    if (given) FCT_TRY(fct_rt_write(rt, &delta, given->data));
    if (rt->behind_delta && !given)
        FCT_TRY(rt->behind_delta(rt->behind_user, rt->stage, &x, &delta));
    FCT_TRY(fct_tap_fire(rt, t->id, FCT_TAP_DELTA, &delta));
    FCT_TRY(fct_add_run(rt, x, delta, y));
    return fct_tap_fire(rt, t->id, FCT_TAP_OUT, &y);
}

static void transformer_clear(void *weights)
{
    fct_transformer *t = weights;
    fct_norm_clear(&t->norm);
    fct_linear_clear(&t->proj_in);
    fct_linear_clear(&t->proj_out);
    for (int64_t i = 0; t->block && i < t->n_blocks; i++) {
        fct_tblock *k = &t->block[i];
        fct_norm_clear(&k->norm1);
        fct_norm_clear(&k->norm2);
        fct_norm_clear(&k->norm3);
        attn_clear(&k->attn1);
        attn_clear(&k->attn2);
        fct_linear_clear(&k->proj);
        fct_linear_clear(&k->net2);
    }
    fct_free(t->block);
}

fct_status fct_transformer_bind(fct_binder *b, fct_stages *list, const char *name,
                                const fct_transformer_desc *d)
{
    fct_stage *s = NULL;
    char n[FCT_NAME_SIZE];
    FCT_TRY(fct_stages_add(list, &s, name, sizeof(fct_transformer)));
    fct_transformer *t = s->weights;
    s->run = transformer_run;
    s->clear = transformer_clear;
    s->in = s->out = d->channels;
    t->token_projections = d->linear;
    FCT_TRY(fct_new(&t->block, d->layers, sizeof *t->block));
    t->n_blocks = d->layers;
    int projection = FCT_BIAS | (d->linear ? 0 : FCT_CONV_1X1);
#define SUB(part) (snprintf(n, sizeof n, "%s.%s", name, part), n)
    FCT_TRY(fct_bind_module(b, &t->id, name));
    b->block = -1; /* the modules inside are not blocks */
    /* Not the config's norm_eps: diffusers fixes it. */
    FCT_TRY(fct_bind_norm(b, &t->norm, SUB("norm"), d->channels, d->groups, 1e-6));
    FCT_TRY(fct_bind_linear(b, &t->proj_in, SUB("proj_in"), d->channels, d->channels, projection));
    for (int64_t i = 0; i < d->layers; i++) {
        snprintf(n, sizeof n, "%s.transformer_blocks.%lld", name, (long long)i);
        char block[FCT_NAME_SIZE];
        memcpy(block, n, sizeof block);
        FCT_TRY(tblock_bind(b, &t->block[i], block, d));
    }
    return fct_bind_linear(b, &t->proj_out, SUB("proj_out"), d->channels, d->channels, projection);
#undef SUB
}

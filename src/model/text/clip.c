/* clip.c - runs the CLIP text encoders: token and position embeddings, layers with the norm before
   each part, a causal mask.

   SDXL wants two things of them: the *penultimate* states, without the final norm, and of the
   second encoder the pooled vector: the final norm of the last layer's state at the end token,
   projected. Where the end token is depends on the config: eos_token_id 2 is a historical mistake
   that every old file carries, and means "at the highest id". */
#include <stdio.h>

#include "model/text/text.h"

typedef struct clip_layer {
    fct_norm norm1, norm2;
    fct_linear qkv, out, fc1, fc2;
} clip_layer;

struct fct_clip {
    fct_clip_config c;
    const fct_device *device;
    fct_tensor tokens;    /* [vocab, C] as the file has it, in the device's memory */
    fct_tensor positions; /* f32 [T, C], there too */
    clip_layer *layer;
    int64_t n_layers; /* the first encoder's last layer is never needed */
    fct_norm final;
    fct_linear projection; /* out == 0: none */
};

static fct_status bind_layer(fct_binder *b, clip_layer *l, int64_t i, const fct_clip_config *c)
{
    char n[4][FCT_NAME_SIZE], base[FCT_NAME_SIZE];
    static const char *const part[4] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    snprintf(base, sizeof base, "text_model.encoder.layers.%lld", (long long)i);
    for (int k = 0; k < 4; k++) snprintf(n[k], sizeof n[k], "%.128s.self_attn.%s", base, part[k]);
    const char *const qkv[3] = {n[0], n[1], n[2]};
    FCT_TRY(fct_bind_stack(b, &l->qkv, qkv, 3, c->hidden_size, c->hidden_size, FCT_BIAS));
    FCT_TRY(fct_bind_linear(b, &l->out, n[3], c->hidden_size, c->hidden_size, FCT_BIAS));
#define SUB(what) (snprintf(n[0], sizeof n[0], "%.128s.%s", base, what), n[0])
    FCT_TRY(fct_bind_norm(b, &l->norm1, SUB("layer_norm1"), c->hidden_size, 0, c->eps));
    FCT_TRY(fct_bind_norm(b, &l->norm2, SUB("layer_norm2"), c->hidden_size, 0, c->eps));
    FCT_TRY(fct_bind_linear(b, &l->fc1, SUB("mlp.fc1"), c->hidden_size, c->intermediate_size,
                            FCT_BIAS));
    return fct_bind_linear(b, &l->fc2, SUB("mlp.fc2"), c->intermediate_size, c->hidden_size,
                           FCT_BIAS);
#undef SUB
}

/* From host memory into the device's; the clip releases it. */
static fct_status bring(const fct_clip *k, fct_tensor *out, const fct_tensor *host)
{
    *out = *host;
    FCT_TRY(fct_device_take(k->device, &out->data, fct_tensor_bytes(host), 1));
    return k->device->write(out->data, host->data, fct_tensor_bytes(host));
}

static fct_status bind_embeddings(fct_binder *b, fct_clip *k)
{
    const fct_clip_config *c = &k->c;
    const fct_tensor *tokens = fct_bind_want(b, "text_model.embeddings.token_embedding.weight", 2,
                                             (int64_t[]){c->vocab_size, c->hidden_size});
    const fct_tensor *where = fct_bind_want(b, "text_model.embeddings.position_embedding.weight", 2,
                                            (int64_t[]){c->positions, c->hidden_size});
    if (b->check || !tokens || !where) return FCT_OK;
    FCT_TRY(bring(k, &k->tokens, tokens));
    fct_tensor plain = fct_tensor_of(NULL, FCT_F32, 2, where->dim);
    FCT_TRY(fct_new_raw(&plain.data, fct_tensor_bytes(&plain), 1));
    fct_status st =
        fct_convert(plain.data, FCT_F32, where->data, where->dtype, fct_tensor_count(&plain));
    if (st == FCT_OK) st = bring(k, &k->positions, &plain);
    fct_free(plain.data);
    return st;
}

static fct_status bind_all(fct_binder *b, fct_clip *k)
{
    const fct_clip_config *c = &k->c;
    FCT_TRY(bind_embeddings(b, k));
    for (int64_t i = 0; i < k->n_layers; i++) FCT_TRY(bind_layer(b, &k->layer[i], i, c));
    if (!c->has_projection) return FCT_OK;
    FCT_TRY(fct_bind_norm(b, &k->final, "text_model.final_layer_norm", c->hidden_size, 0, c->eps));
    return fct_bind_linear(b, &k->projection, "text_projection", c->hidden_size, c->projection_dim,
                           0);
}

fct_status fct_clip_open(fct_clip **out, const fct_clip_config *c, const char *folder,
                         const fct_backend *be, fct_dtype dtype)
{
    fct_weights w = {0};
    fct_clip *k = NULL;
    fct_binder b = {.w = &w, .be = be, .dtype = dtype, .check = true, .root = "text_encoder"};
    *out = NULL;
    FCT_TRY(fct_weights_open(&w, folder, "model"));
    fct_status st = fct_new(&k, 1, sizeof *k);
    if (st != FCT_OK) goto out;
    k->c = *c;
    k->device = be->device;
    k->n_layers = c->has_projection ? c->layers : c->layers - 1;
    FCT_TRY_OUT(fct_new(&k->layer, k->n_layers, sizeof *k->layer));
    FCT_TRY_OUT(bind_all(&b, k));
    FCT_TRY_OUT(fct_bind_report(&b, folder));
    b.check = false;
    FCT_TRY_OUT(bind_all(&b, k));
    *out = k;
    k = NULL;
out:
    fct_clip_close(k);
    fct_str_clear(&b.problems);
    fct_weights_close(&w);
    return st;
}

void fct_clip_close(fct_clip *k)
{
    if (!k) return;
    for (int64_t i = 0; k->layer && i < k->n_layers; i++) {
        clip_layer *l = &k->layer[i];
        fct_norm_clear(&l->norm1);
        fct_norm_clear(&l->norm2);
        fct_linear_clear(&l->qkv);
        fct_linear_clear(&l->out);
        fct_linear_clear(&l->fc1);
        fct_linear_clear(&l->fc2);
    }
    fct_free(k->layer);
    fct_device_release(k->device, k->tokens.data);
    fct_device_release(k->device, k->positions.data);
    fct_norm_clear(&k->final);
    fct_linear_clear(&k->projection);
    fct_free(k);
}

/* ---- running ---- */

/* Which row of the table each token is. Release with fct_free. */
static fct_status number_tokens(int64_t **out, const fct_clip *k, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= k->c.vocab_size)
            return fct_fail(FCT_ERR_RANGE,
                            "token %d is not in the text encoder's vocabulary of %lld", ids[i],
                            (long long)k->c.vocab_size);
    FCT_TRY(fct_new_raw(out, n, sizeof **out));
    for (int64_t i = 0; i < n; i++) (*out)[i] = ids[i];
    return FCT_OK;
}

/* x [n,T,C] = token + position, in the pass's dtype. */
static fct_status embed(fct_rt *rt, const fct_clip *k, const int32_t *ids, fct_tensor x)
{
    int64_t n = x.dim[0], t = x.dim[1], c = x.dim[2], *index = NULL;
    fct_tensor sum, where = k->positions;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &sum, FCT_F32, 3, x.dim));
    FCT_TRY(number_tokens(&index, k, ids, n * t));
    fct_status st = fct_op_gather(
        &rt->cx, &(fct_gather_args){.x = k->tokens, .y = sum, .index = index});
    fct_free(index);
    FCT_TRY(st);
    where.dim[0] = t;
    for (int64_t i = 0; i < n; i++) {
        fct_tensor one = fct_at(&sum, i * t * c);
        one.dim[0] = 1;
        FCT_TRY(fct_add_run(rt, one, where, one));
    }
    FCT_TRY(fct_copy_run(rt, sum, x));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

/* h[0] -> h[0], h[1] is scratch. */
static fct_status layer_run(fct_rt *rt, const clip_layer *l, const fct_clip_config *c,
                            fct_tensor *h)
{
    int64_t n = h[0].dim[0], t = h[0].dim[1], w = c->hidden_size;
    fct_tensor normed, qkv, mixed, wide;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &normed, rt->dtype, 3, h[0].dim));
    FCT_TRY(fct_norm_run(rt, &l->norm1, h[0], normed, FCT_ACT_NONE));
    FCT_TRY(fct_rt_take(rt, &qkv, rt->dtype, 3, (int64_t[]){n, t, 3 * w}));
    FCT_TRY(fct_linear_run(rt, &l->qkv, normed, qkv, FCT_ACT_NONE, (fct_tensor){0}));
    FCT_TRY(fct_rt_take(rt, &mixed, rt->dtype, 3, h[0].dim));
    fct_attention_args a = {.q = fct_at(&qkv, 0),
                            .k = fct_at(&qkv, w),
                            .v = fct_at(&qkv, 2 * w),
                            .y = mixed,
                            .heads = c->heads,
                            .q_stride = 3 * w,
                            .k_stride = 3 * w,
                            .v_stride = 3 * w,
                            .causal = true};
    a.q.dim[2] = a.k.dim[2] = a.v.dim[2] = w;
    FCT_TRY(fct_op_attention(&rt->cx, &a));
    FCT_TRY(fct_linear_run(rt, &l->out, mixed, h[1], FCT_ACT_NONE, h[0]));
    FCT_TRY(fct_norm_run(rt, &l->norm2, h[1], normed, FCT_ACT_NONE));
    FCT_TRY(fct_rt_take(rt, &wide, rt->dtype, 3, (int64_t[]){n, t, c->intermediate_size}));
    FCT_TRY(fct_linear_run(rt, &l->fc1, normed, wide, c->act, (fct_tensor){0}));
    FCT_TRY(fct_linear_run(rt, &l->fc2, wide, h[0], FCT_ACT_NONE, h[1]));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

static int64_t end_of(const fct_clip_config *c, const int32_t *ids, int64_t t)
{
    int64_t at = 0;
    if (c->eos_token_id == 2) {
        for (int64_t i = 1; i < t; i++)
            if (ids[i] > ids[at]) at = i;
        return at;
    }
    while (at < t && ids[at] != c->eos_token_id) at++;
    return at < t ? at : 0; /* as argmax over nothing found */
}

/* The state at each text's end token, normed and projected: pooled [n,P]. */
static fct_status pool(fct_rt *rt, const fct_clip *k, const int32_t *ids, fct_tensor h,
                       float *pooled)
{
    int64_t n = h.dim[0], t = h.dim[1], c = k->c.hidden_size, *index = NULL;
    fct_tensor picked, normed,
        y = fct_tensor_of(pooled, FCT_F32, 2, (int64_t[]){n, k->projection.out});
    FCT_TRY(fct_rt_take(rt, &picked, h.dtype, 2, (int64_t[]){n, c}));
    FCT_TRY(fct_rt_take(rt, &normed, h.dtype, 2, (int64_t[]){n, c}));
    FCT_TRY(fct_new_raw(&index, n, sizeof *index));
    for (int64_t i = 0; i < n; i++) index[i] = i * t + end_of(&k->c, ids + i * t, t);
    fct_status st =
        fct_op_gather(&rt->cx, &(fct_gather_args){.x = h, .y = picked, .index = index});
    fct_free(index);
    FCT_TRY(st);
    FCT_TRY(fct_norm_run(rt, &k->final, picked, normed, FCT_ACT_NONE));
    return fct_linear_run(rt, &k->projection, normed, y, FCT_ACT_NONE, (fct_tensor){0});
}

fct_status fct_clip_encode(fct_rt *rt, const fct_clip *k, const int32_t *ids, int64_t n, int64_t t,
                           fct_tensor states, float *pooled)
{
    fct_tensor h[2];
    if (t > k->c.positions)
        return fct_fail(FCT_ERR_SHAPE, "%lld tokens, but the text encoder has %lld positions",
                        (long long)t, (long long)k->c.positions);
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    for (int i = 0; i < 2; i++)
        FCT_TRY(fct_rt_take(rt, &h[i], rt->dtype, 3, (int64_t[]){n, t, k->c.hidden_size}));
    FCT_TRY(embed(rt, k, ids, h[0]));
    for (int64_t i = 0; i < k->c.layers; i++) {
        if (i == k->c.layers - 1)
            FCT_TRY(fct_copy_run(rt, h[0], states));
        if (i < k->n_layers) FCT_TRY(layer_run(rt, &k->layer[i], &k->c, h));
    }
    if (k->projection.out) FCT_TRY(pool(rt, k, ids, h[0], pooled));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

/* dnnl_shim.c - packs weights once in the layout that oneDNN likes best, and makes plans:
   primitives for one exact shape each, products and convolutions with what is fused into them. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "compute/cpu/dnnl_inner.h"

/* ---- primitive descriptors ---- */

static dnnl_data_type_t type_of(fct_dtype t)
{
    switch (t) {
    case FCT_BF16: return dnnl_bf16;
    case FCT_I8: return dnnl_s8;
    case FCT_U8: return dnnl_u8;
    case FCT_I32: return dnnl_s32;
    default: return dnnl_f32;
    }
}

/* The dimensions of a shape's operands; convolutions are written N,C,H,W and stored N,H,W,C. */
typedef struct operands {
    int nd;
    dnnl_dims_t x, w, y;
    dnnl_format_tag_t act_tag, plain_tag; /* of x and y; of w as dn_packed_fill gets it */
} operands;

static operands operands_of(const dn_shape *s)
{
    if (s->kind == DN_CONV)
        return (operands){4,
                          {s->batch, s->k, s->ih, s->iw},
                          {s->n, s->k, s->kh, s->kw},
                          {s->batch, s->n, s->oh, s->ow},
                          dnnl_nhwc,
                          dnnl_oihw};
    if (s->batch == 1)
        return (operands){2, {s->m, s->k}, {s->k, s->n}, {s->m, s->n}, dnnl_ab, dnnl_ba};
    return (operands){
        3,       {s->batch, s->m, s->k}, {s->batch, s->k, s->n}, {s->batch, s->m, s->n}, dnnl_abc,
        dnnl_acb};
}

static dnnl_status_t append_act(dnnl_post_ops_t po, fct_act act)
{
    switch (act) {
    case FCT_ACT_SILU: return dn_post_act(po, dnnl_eltwise_swish, 1);
    case FCT_ACT_QUICK_GELU: return dn_post_act(po, dnnl_eltwise_swish, 1.702f);
    case FCT_ACT_GELU: return dn_post_act(po, dnnl_eltwise_gelu_erf, 0);
    case FCT_ACT_RELU: return dn_post_act(po, dnnl_eltwise_relu, 0);
    case FCT_ACT_NONE: break;
    }
    return dnnl_success;
}

static fct_status make_attr(dnnl_primitive_attr_t *out, const dn_shape *s, const operands *o)
{
    dnnl_post_ops_t po = NULL;
    dn_md residual = {0};
    fct_status st = FCT_OK;
    DN_TRY_OUT(dnnl_primitive_attr_create(out), "attributes");
    DN_TRY_OUT(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
               "attributes");
    DN_TRY_OUT(dnnl_post_ops_create(&po), "post-ops");
    DN_TRY_OUT(append_act(po, s->act), "activation");
    if (s->residual) {
        DN_TRY_OUT(
            dn_md_tag(&residual, o->nd, o->y, s->residual == 2 ? dnnl_bf16 : dnnl_f32, o->act_tag),
            "residual");
        DN_TRY_OUT(dnnl_post_ops_append_binary(po, dnnl_binary_add, dn_md_get(&residual)),
                   "residual");
    }
    DN_TRY_OUT(dnnl_primitive_attr_set_post_ops(*out, po), "post-ops");
out:
    dn_md_clear(&residual);
    if (po) dnnl_post_ops_destroy(po);
    return st;
}

/* The primitive descriptor of a shape; `layout` NULL lets oneDNN choose the weights' layout. */
static fct_status make_pd(dnnl_primitive_desc_t *out, dn *d, const dn_shape *s, dn_md_ref layout)
{
    operands o = operands_of(s);
    dn_md x = {0}, w = {0}, y = {0}, b = {0};
    dnnl_primitive_attr_t attr = NULL;
    fct_status st = FCT_OK;
    const dnnl_dims_t bias_conv = {s->n}, bias_matmul = {1, s->n};
    *out = NULL;
    DN_TRY_OUT(dn_md_tag(&x, o.nd, o.x, type_of(s->x), o.act_tag), "input");
    DN_TRY_OUT(dn_md_tag(&y, o.nd, o.y, type_of(s->y), o.act_tag), "output");
    DN_TRY_OUT(layout ? dn_md_copy(&w, layout)
                      : dn_md_tag(&w, o.nd, o.w, type_of(s->w), dnnl_format_tag_any),
               "weights");
    if (s->bias) {
        bool conv = s->kind == DN_CONV;
        DN_TRY_OUT(dn_md_tag(&b, conv ? 1 : 2, conv ? bias_conv : bias_matmul, dnnl_f32,
                             conv ? dnnl_a : dnnl_ab),
                   "bias");
    }
    FCT_TRY_OUT(make_attr(&attr, s, &o));
    dn_md_ref bias = s->bias ? dn_md_get(&b) : NULL;
    if (s->kind == DN_CONV)
        DN_TRY_OUT(
            dn_conv_pd(out, d->engine, dn_md_get(&x), dn_md_get(&w), bias, dn_md_get(&y), s, attr),
            "convolution");
    else
        DN_TRY_OUT(
            dn_matmul_pd(out, d->engine, dn_md_get(&x), dn_md_get(&w), bias, dn_md_get(&y), attr),
            "product");
out:
    if (attr) dnnl_primitive_attr_destroy(attr);
    dn_md_clear(&x);
    dn_md_clear(&w);
    dn_md_clear(&y);
    dn_md_clear(&b);
    return st;
}

static const char *impl_of(dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) != dnnl_success || !name)
        return "unknown";
    return name;
}

static bool is_slow(const char *impl)
{
    return strncmp(impl, "ref", 3) == 0 || strncmp(impl, "simple", 6) == 0;
}

/* ---- packed weights ---- */

typedef struct dn_copy dn_copy;
struct dn_copy { /* the weight in another layout; never changed once it is in the list */
    dn_md layout;
    dnnl_memory_t memory; /* over `data` */
    void *data;
    dn_copy *next;
};

struct dn_packed {
    dn *d;
    dn_md layout;
    dnnl_memory_t memory; /* over `data` */
    void *data;
    dn_shape shape; /* the canonical one: its dimensions say what the plain weight looks like */
    _Atomic(dn_copy *) copies; /* read without the lock, added to under it */
    pthread_mutex_t lock;
    bool has_lock;
};

static bool is_fast_at(dn *d, const dn_shape *s, dn_md_ref layout)
{
    dnnl_primitive_desc_t pd;
    if (make_pd(&pd, d, s, layout) != FCT_OK) return false;
    bool fast = !is_slow(impl_of(pd));
    dnnl_primitive_desc_destroy(pd);
    return fast;
}

static fct_status choose_layout(dn_md *out, dn *d, const dn_shape *shape, int n)
{
    for (int i = 0; i <= n; i++) { /* the last turn takes the first shape's choice as it is */
        dnnl_primitive_desc_t pd;
        FCT_TRY(make_pd(&pd, d, &shape[i % n], NULL));
        dn_md_ref layout = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        bool good = true;
        for (int j = 0; j < n && i < n && good; j++) good = is_fast_at(d, &shape[j], layout);
        dnnl_status_t st = good ? dn_md_copy(out, layout) : dnnl_success;
        dnnl_primitive_desc_destroy(pd);
        DN_TRY(st, "layout");
        if (good) return FCT_OK;
    }
    return FCT_OK;
}

fct_status dn_packed_new(dn_packed **out, dn *d, const dn_shape *shape, int n)
{
    fct_status st = FCT_OK;
    FCT_TRY(fct_new(out, 1, sizeof **out));
    dn_packed *p = *out;
    p->d = d;
    p->shape = shape[0];
    p->has_lock = pthread_mutex_init(&p->lock, NULL) == 0;
    if (!p->has_lock) FCT_TRY_OUT(fct_fail(FCT_ERR_MEMORY, "no lock for a weight"));
    FCT_TRY_OUT(choose_layout(&p->layout, d, shape, n));
    FCT_TRY_OUT(fct_new(&p->data, dn_md_bytes(dn_md_get(&p->layout)), 1));
    DN_TRY_OUT(dnnl_memory_create(&p->memory, dn_md_get(&p->layout), d->engine, p->data),
               "weights");
out:
    if (st != FCT_OK) {
        dn_packed_free(p);
        *out = NULL;
    }
    return st;
}

/* memory `from` into memory `to`, converting layout and dtype */
static fct_status reorder(dn *d, dn_md_ref from_md, dnnl_memory_t from, dn_md_ref to_md,
                          dnnl_memory_t to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t prim = NULL;
    fct_status st = FCT_OK;
    DN_TRY_OUT(dn_reorder_pd(&pd, d->engine, from_md, to_md), "reorder");
    DN_TRY_OUT(dnnl_primitive_create(&prim, pd), "reorder");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    DN_TRY_OUT(dnnl_primitive_execute(prim, d->stream, 2, args), "reorder");
    DN_TRY_OUT(dnnl_stream_wait(d->stream), "reorder");
out:
    if (prim) dnnl_primitive_destroy(prim);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

static void copy_free(dn_copy *c)
{
    if (c->memory) dnnl_memory_destroy(c->memory);
    dn_md_clear(&c->layout);
    fct_free(c->data);
    fct_free(c);
}

static void drop_copies(dn_packed *p)
{
    for (dn_copy *c = atomic_exchange(&p->copies, NULL), *next; c; c = next) {
        next = c->next;
        copy_free(c);
    }
}

static dn_copy *find_copy(dn_packed *p, dn_md_ref layout)
{
    dn_copy *c = atomic_load_explicit(&p->copies, memory_order_acquire);
    while (c && !dn_md_same(dn_md_get(&c->layout), layout)) c = c->next;
    return c;
}

/* Called under the lock. */
static fct_status add_copy(dn_packed *p, dn_md_ref layout)
{
    fct_status st = FCT_OK;
    dn_copy *c;
    FCT_TRY(fct_new(&c, 1, sizeof *c));
    DN_TRY_OUT(dn_md_copy(&c->layout, layout), "weights");
    FCT_TRY_OUT(fct_new(&c->data, dn_md_bytes(layout), 1));
    DN_TRY_OUT(dnnl_memory_create(&c->memory, layout, p->d->engine, c->data), "weights");
    FCT_TRY_OUT(reorder(p->d, dn_md_get(&p->layout), p->memory, layout, c->memory));
    c->next = atomic_load_explicit(&p->copies, memory_order_relaxed);
    atomic_store_explicit(&p->copies, c, memory_order_release);
    return FCT_OK;
out:
    copy_free(c);
    return st;
}

static fct_status want_copy(dn_packed *p, dn_md_ref layout)
{
    if (find_copy(p, layout)) return FCT_OK;
    pthread_mutex_lock(&p->lock);
    fct_status st = find_copy(p, layout) ? FCT_OK : add_copy(p, layout);
    pthread_mutex_unlock(&p->lock);
    return st;
}

fct_status dn_packed_fill(dn_packed *p, const float *plain)
{
    return dn_packed_fill_from(p, plain, FCT_F32);
}

fct_status dn_packed_fill_from(dn_packed *p, const void *plain, fct_dtype dtype)
{
    operands o = operands_of(&p->shape);
    dn_md md = {0};
    dnnl_memory_t memory = NULL;
    fct_status st = FCT_OK;
    drop_copies(p);
    DN_TRY_OUT(dn_md_tag(&md, o.nd, o.w, type_of(dtype), o.plain_tag), "weights");
    DN_TRY_OUT(dnnl_memory_create(&memory, dn_md_get(&md), p->d->engine, dn_unconst(plain)),
               "weights");
    FCT_TRY_OUT(reorder(p->d, dn_md_get(&md), memory, dn_md_get(&p->layout), p->memory));
out:
    if (memory) dnnl_memory_destroy(memory);
    dn_md_clear(&md);
    return st;
}

int64_t dn_packed_bytes(const dn_packed *p)
{
    return dn_md_bytes(dn_md_get(&p->layout));
}

void dn_packed_free(dn_packed *p)
{
    if (!p) return;
    drop_copies(p);
    if (p->has_lock) pthread_mutex_destroy(&p->lock);
    if (p->memory) dnnl_memory_destroy(p->memory);
    dn_md_clear(&p->layout);
    fct_free(p->data);
    fct_free(p);
}

/* ---- plans ---- */

struct dn_plan {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
    dnnl_memory_t x, bias, residual, y, pad;
    dn_md packed; /* the layout that it was made for */
    bool copied;  /* it runs with a copy of the weight, in the primitive's own layout */
    int64_t pad_bytes;
    const char *impl;
    int act_at_residual; /* index of the residual among the post-ops */
};

static fct_status plan_memory(dnnl_memory_t *out, dn_plan *p, dn *d, dnnl_query_t what)
{
    return dn_check(dnnl_memory_create(out, dnnl_primitive_desc_query_md(p->pd, what, 0), d->engine,
                                       DNNL_MEMORY_NONE),
                    "memory");
}

static fct_status plan_residual(dn_plan *p, dn *d, const dn_shape *s)
{
    operands o = operands_of(s);
    dn_md md = {0};
    FCT_TRY(dn_check(dn_md_tag(&md, o.nd, o.y, s->residual == 2 ? dnnl_bf16 : dnnl_f32, o.act_tag),
                     "residual"));
    fct_status st = dn_check(
        dnnl_memory_create(&p->residual, dn_md_get(&md), d->engine, DNNL_MEMORY_NONE), "residual");
    dn_md_clear(&md);
    return st;
}

/* oneDNN's choice for the packed layout; where that is its slow reference, its choice for a free
   layout, for a copy of the weight. Seen with small odd channel counts on small maps. */
static fct_status plan_choose(dn_plan *p, dn *d, const dn_shape *s, const dn_packed *w)
{
    DN_TRY(dn_md_copy(&p->packed, dn_md_get(&w->layout)), "layout");
    fct_status st = make_pd(&p->pd, d, s, dn_md_get(&w->layout));
    if (st == FCT_OK && !is_slow(impl_of(p->pd))) return FCT_OK;
    if (p->pd) dnnl_primitive_desc_destroy(p->pd);
    p->copied = true;
    return make_pd(&p->pd, d, s, NULL);
}

static dn_md_ref plan_layout(const dn_plan *p)
{
    return dnnl_primitive_desc_query_md(p->pd, dnnl_query_weights_md, 0);
}

fct_status dn_plan_new(dn_plan **out, dn *d, const dn_shape *s, const dn_packed *w)
{
    fct_status st = FCT_OK;
    FCT_TRY(fct_new(out, 1, sizeof **out));
    dn_plan *p = *out;
    FCT_TRY_OUT(plan_choose(p, d, s, w));
    p->impl = impl_of(p->pd);
    DN_TRY_OUT(dnnl_primitive_create(&p->prim, p->pd), "primitive");
    FCT_TRY_OUT(plan_memory(&p->x, p, d, dnnl_query_src_md));
    FCT_TRY_OUT(plan_memory(&p->y, p, d, dnnl_query_dst_md));
    FCT_TRY_OUT(plan_memory(&p->pad, p, d, dnnl_query_scratchpad_md));
    if (s->bias) {
        dn_md_ref bias = dnnl_primitive_desc_query_md(p->pd, dnnl_query_weights_md, 1);
        DN_TRY_OUT(dnnl_memory_create(&p->bias, bias, d->engine, DNNL_MEMORY_NONE), "bias");
    }
    if (s->residual) FCT_TRY_OUT(plan_residual(p, d, s));
    p->act_at_residual = s->act != FCT_ACT_NONE;
    p->pad_bytes =
        dn_round64(dn_md_bytes(dnnl_primitive_desc_query_md(p->pd, dnnl_query_scratchpad_md, 0)));
out:
    if (st != FCT_OK) {
        dn_plan_free(p);
        *out = NULL;
    }
    return st;
}

void dn_plan_free(dn_plan *p)
{
    if (!p) return;
    const dnnl_memory_t memory[] = {p->x, p->bias, p->residual, p->y, p->pad};
    for (size_t i = 0; i < FCT_COUNT(memory); i++)
        if (memory[i]) dnnl_memory_destroy(memory[i]);
    dn_md_clear(&p->packed);
    if (p->prim) dnnl_primitive_destroy(p->prim);
    if (p->pd) dnnl_primitive_desc_destroy(p->pd);
    fct_free(p);
}

bool dn_plan_fits(const dn_plan *p, const dn_packed *w)
{
    return dn_md_same(dn_md_get(&p->packed), dn_md_get(&w->layout));
}

fct_status dn_plan_ready(const dn_plan *p, dn_packed *w)
{
    return p->copied ? want_copy(w, plan_layout(p)) : FCT_OK;
}

int64_t dn_plan_scratch(const dn_plan *p)
{
    return p->pad_bytes;
}
const char *dn_plan_impl(const dn_plan *p)
{
    return p->impl;
}
bool dn_plan_is_slow(const dn_plan *p)
{
    return is_slow(p->impl);
}

fct_status dn_plan_run(dn_plan *p, dn *d, const dn_io *io)
{
    dnnl_memory_t weights = io->w->memory;
    if (p->copied) {
        const dn_copy *copy = find_copy(io->w, plan_layout(p));
        if (!copy) return fct_fail(FCT_ERR_INTERNAL, "a plan runs before its weight is ready");
        weights = copy->memory;
    }
    DN_TRY(dnnl_memory_set_data_handle(p->x, dn_unconst(io->x)), "input");
    DN_TRY(dnnl_memory_set_data_handle(p->y, io->y), "output");
    DN_TRY(dnnl_memory_set_data_handle(p->pad, io->scratch), "scratch");
    if (p->bias) DN_TRY(dnnl_memory_set_data_handle(p->bias, dn_unconst(io->bias)), "bias");
    if (p->residual)
        DN_TRY(dnnl_memory_set_data_handle(p->residual, dn_unconst(io->residual)), "residual");
    dnnl_exec_arg_t args[6] = {{DNNL_ARG_SRC, p->x},
                               {DNNL_ARG_WEIGHTS, weights},
                               {DNNL_ARG_DST, p->y},
                               {DNNL_ARG_SCRATCHPAD, p->pad}};
    int n = 4;
    if (p->bias) args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
    if (p->residual)
        args[n++] = (dnnl_exec_arg_t){
            DNNL_ARG_ATTR_MULTIPLE_POST_OP(p->act_at_residual) | DNNL_ARG_SRC_1, p->residual};
    DN_TRY(dnnl_primitive_execute(p->prim, d->stream, n, args), "run");
    return dn_check(dnnl_stream_wait(d->stream), "run");
}

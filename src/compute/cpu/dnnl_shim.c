/* dnnl_shim.c - the only file that speaks oneDNN's C interface, versions 2 and 3. The two differ in
   how memory descriptors are held (by value, by handle) and in how primitive descriptors are made
   (through an operation descriptor, directly); the helpers at the top hide that, the rest is
   common. */
#include "compute/cpu/dnnl_shim.h"

#include <dnnl.h>
#include <string.h>

struct dn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

static fct_status check(dnnl_status_t st, const char *what)
{
    static const char *const text[] = {"success", "out of memory", "invalid arguments",
                                       "unimplemented"};
    if (st == dnnl_success) return FCT_OK;
    const char *why = (int)st >= 0 && (size_t)st < FCT_COUNT(text) ? text[st] : "failed";
    return fct_fail(st == dnnl_out_of_memory ? FCT_ERR_MEMORY : FCT_ERR_INTERNAL, "oneDNN %s: %s",
                    what, why);
}
#define DN_TRY(call, what) FCT_TRY(check(call, what))
#define DN_TRY_OUT(call, what) FCT_TRY_OUT(check(call, what))

/* ---- what versions 2 and 3 do differently ---- */
#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t md_owned;     /* a handle that is destroyed */
typedef const_dnnl_memory_desc_t md_ref; /* a handle that belongs to somebody else */

static md_ref md_get(const md_owned *m)
{
    return *m;
}
static void md_clear(md_owned *m)
{
    if (*m) dnnl_memory_desc_destroy(*m);
    *m = NULL;
}
static dnnl_status_t md_tag(md_owned *m, int nd, const dnnl_dim_t *d, dnnl_data_type_t t,
                            dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(m, nd, d, t, tag);
}
static dnnl_status_t md_rows(md_owned *m, const dnnl_dim_t *d, dnnl_data_type_t t,
                             const dnnl_dim_t *strides)
{
    return dnnl_memory_desc_create_with_strides(m, 2, d, t, strides);
}
static dnnl_status_t md_copy(md_owned *m, md_ref from)
{
    return dnnl_memory_desc_clone(m, from);
}
static size_t md_bytes(md_ref m)
{
    return dnnl_memory_desc_get_size(m);
}
static dnnl_status_t post_act(dnnl_post_ops_t po, dnnl_alg_kind_t alg, float alpha)
{
    return dnnl_post_ops_append_eltwise(po, alg, alpha, 0);
}
static dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref x, md_ref w,
                               md_ref b, md_ref y, dnnl_primitive_attr_t at)
{
    return dnnl_matmul_primitive_desc_create(pd, e, x, w, b, y, at);
}
static dnnl_status_t conv_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref x, md_ref w,
                             md_ref b, md_ref y, const dn_shape *s, dnnl_primitive_attr_t at)
{
    const dnnl_dims_t step = {s->stride, s->stride}, dilate = {0, 0};
    const dnnl_dims_t lo = {s->pad_top, s->pad_left}, hi = {s->pad_bottom, s->pad_right};
    return dnnl_convolution_forward_primitive_desc_create(pd, e, dnnl_forward_inference,
                                                          dnnl_convolution_direct, x, w, b, y, step,
                                                          dilate, lo, hi, at);
}
static dnnl_status_t reorder_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref from, md_ref to)
{
    return dnnl_reorder_primitive_desc_create(pd, from, e, to, e, NULL);
}

#else

typedef dnnl_memory_desc_t md_owned;
typedef const dnnl_memory_desc_t *md_ref;

static md_ref md_get(const md_owned *m)
{
    return m;
}
static void md_clear(md_owned *m)
{
    *m = (md_owned){0};
}
static dnnl_status_t md_tag(md_owned *m, int nd, const dnnl_dim_t *d, dnnl_data_type_t t,
                            dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(m, nd, d, t, tag);
}
static dnnl_status_t md_rows(md_owned *m, const dnnl_dim_t *d, dnnl_data_type_t t,
                             const dnnl_dim_t *strides)
{
    return dnnl_memory_desc_init_by_strides(m, 2, d, t, strides);
}
static dnnl_status_t md_copy(md_owned *m, md_ref from)
{
    *m = *from;
    return dnnl_success;
}
static size_t md_bytes(md_ref m)
{
    return dnnl_memory_desc_get_size(m);
}
static dnnl_status_t post_act(dnnl_post_ops_t po, dnnl_alg_kind_t alg, float alpha)
{
    return dnnl_post_ops_append_eltwise(po, 1, alg, alpha, 0);
}
static dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref x, md_ref w,
                               md_ref b, md_ref y, dnnl_primitive_attr_t at)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t st = dnnl_matmul_desc_init(&d, x, w, b, y);
    return st == dnnl_success ? dnnl_primitive_desc_create(pd, &d, at, e, NULL) : st;
}
static dnnl_status_t conv_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref x, md_ref w,
                             md_ref b, md_ref y, const dn_shape *s, dnnl_primitive_attr_t at)
{
    const dnnl_dims_t step = {s->stride, s->stride};
    const dnnl_dims_t lo = {s->pad_top, s->pad_left}, hi = {s->pad_bottom, s->pad_right};
    dnnl_convolution_desc_t d;
    dnnl_status_t st = dnnl_convolution_forward_desc_init(
        &d, dnnl_forward_inference, dnnl_convolution_direct, x, w, b, y, step, lo, hi);
    return st == dnnl_success ? dnnl_primitive_desc_create(pd, &d, at, e, NULL) : st;
}
static dnnl_status_t reorder_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref from, md_ref to)
{
    return dnnl_reorder_primitive_desc_create(pd, from, e, to, e, NULL);
}

#endif

/* ---- engine ---- */

fct_status dn_open(dn **out)
{
    dn *d;
    FCT_TRY(fct_new(out, 1, sizeof *d));
    d = *out;
    fct_status st = check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "engine");
    if (st == FCT_OK)
        st = check(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags), "stream");
    if (st == FCT_OK) return FCT_OK;
    dn_close(d);
    *out = NULL;
    return st;
}

void dn_close(dn *d)
{
    if (!d) return;
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    fct_free(d);
}

/* ---- primitive descriptors ---- */

static dnnl_data_type_t type_of(fct_dtype t)
{
    return t == FCT_BF16 ? dnnl_bf16 : dnnl_f32;
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
    case FCT_ACT_SILU: return post_act(po, dnnl_eltwise_swish, 1);
    case FCT_ACT_QUICK_GELU: return post_act(po, dnnl_eltwise_swish, 1.702f);
    case FCT_ACT_GELU: return post_act(po, dnnl_eltwise_gelu_erf, 0);
    case FCT_ACT_RELU: return post_act(po, dnnl_eltwise_relu, 0);
    case FCT_ACT_NONE: break;
    }
    return dnnl_success;
}

static fct_status make_attr(dnnl_primitive_attr_t *out, const dn_shape *s, const operands *o)
{
    dnnl_post_ops_t po = NULL;
    md_owned residual = {0};
    fct_status st = FCT_OK;
    DN_TRY_OUT(dnnl_primitive_attr_create(out), "attributes");
    DN_TRY_OUT(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
               "attributes");
    DN_TRY_OUT(dnnl_post_ops_create(&po), "post-ops");
    DN_TRY_OUT(append_act(po, s->act), "activation");
    if (s->residual) {
        DN_TRY_OUT(
            md_tag(&residual, o->nd, o->y, s->residual == 2 ? dnnl_bf16 : dnnl_f32, o->act_tag),
            "residual");
        DN_TRY_OUT(dnnl_post_ops_append_binary(po, dnnl_binary_add, md_get(&residual)), "residual");
    }
    DN_TRY_OUT(dnnl_primitive_attr_set_post_ops(*out, po), "post-ops");
out:
    md_clear(&residual);
    if (po) dnnl_post_ops_destroy(po);
    return st;
}

/* The primitive descriptor of a shape; `layout` NULL lets oneDNN choose the weights' layout. */
static fct_status make_pd(dnnl_primitive_desc_t *out, dn *d, const dn_shape *s, md_ref layout)
{
    operands o = operands_of(s);
    md_owned x = {0}, w = {0}, y = {0}, b = {0};
    dnnl_primitive_attr_t attr = NULL;
    fct_status st = FCT_OK;
    const dnnl_dims_t bias_conv = {s->n}, bias_matmul = {1, s->n};
    *out = NULL;
    DN_TRY_OUT(md_tag(&x, o.nd, o.x, type_of(s->x), o.act_tag), "input");
    DN_TRY_OUT(md_tag(&y, o.nd, o.y, type_of(s->y), o.act_tag), "output");
    DN_TRY_OUT(layout ? md_copy(&w, layout)
                      : md_tag(&w, o.nd, o.w, type_of(s->w), dnnl_format_tag_any),
               "weights");
    if (s->bias) {
        bool conv = s->kind == DN_CONV;
        DN_TRY_OUT(md_tag(&b, conv ? 1 : 2, conv ? bias_conv : bias_matmul, dnnl_f32,
                          conv ? dnnl_a : dnnl_ab),
                   "bias");
    }
    FCT_TRY_OUT(make_attr(&attr, s, &o));
    md_ref bias = s->bias ? md_get(&b) : NULL;
    if (s->kind == DN_CONV)
        DN_TRY_OUT(conv_pd(out, d->engine, md_get(&x), md_get(&w), bias, md_get(&y), s, attr),
                   "convolution");
    else
        DN_TRY_OUT(matmul_pd(out, d->engine, md_get(&x), md_get(&w), bias, md_get(&y), attr),
                   "product");
out:
    if (attr) dnnl_primitive_attr_destroy(attr);
    md_clear(&x);
    md_clear(&w);
    md_clear(&y);
    md_clear(&b);
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

struct dn_packed {
    md_owned layout;
    dnnl_memory_t memory; /* over `data` */
    void *data;
    dn_shape shape; /* the canonical one: its dimensions say what the plain weight looks like */
};

static bool is_fast_at(dn *d, const dn_shape *s, md_ref layout)
{
    dnnl_primitive_desc_t pd;
    if (make_pd(&pd, d, s, layout) != FCT_OK) return false;
    bool fast = !is_slow(impl_of(pd));
    dnnl_primitive_desc_destroy(pd);
    return fast;
}

static fct_status choose_layout(md_owned *out, dn *d, const dn_shape *shape, int n)
{
    for (int i = 0; i <= n; i++) { /* the last turn takes the first shape's choice as it is */
        dnnl_primitive_desc_t pd;
        FCT_TRY(make_pd(&pd, d, &shape[i % n], NULL));
        md_ref layout = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        bool good = true;
        for (int j = 0; j < n && i < n && good; j++) good = is_fast_at(d, &shape[j], layout);
        dnnl_status_t st = good ? md_copy(out, layout) : dnnl_success;
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
    p->shape = shape[0];
    FCT_TRY_OUT(choose_layout(&p->layout, d, shape, n));
    FCT_TRY_OUT(fct_new(&p->data, (int64_t)md_bytes(md_get(&p->layout)), 1));
    DN_TRY_OUT(dnnl_memory_create(&p->memory, md_get(&p->layout), d->engine, p->data), "weights");
out:
    if (st != FCT_OK) {
        dn_packed_free(p);
        *out = NULL;
    }
    return st;
}

/* memory `from` into memory `to`, converting layout and dtype */
static fct_status reorder(dn *d, md_ref from_md, dnnl_memory_t from, md_ref to_md, dnnl_memory_t to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t prim = NULL;
    fct_status st = FCT_OK;
    DN_TRY_OUT(reorder_pd(&pd, d->engine, from_md, to_md), "reorder");
    DN_TRY_OUT(dnnl_primitive_create(&prim, pd), "reorder");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    DN_TRY_OUT(dnnl_primitive_execute(prim, d->stream, 2, args), "reorder");
    DN_TRY_OUT(dnnl_stream_wait(d->stream), "reorder");
out:
    if (prim) dnnl_primitive_destroy(prim);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

fct_status dn_packed_fill(dn_packed *p, dn *d, const float *plain)
{
    operands o = operands_of(&p->shape);
    md_owned md = {0};
    dnnl_memory_t memory = NULL;
    fct_status st = FCT_OK;
    DN_TRY_OUT(md_tag(&md, o.nd, o.w, dnnl_f32, o.plain_tag), "weights");
    DN_TRY_OUT(dnnl_memory_create(&memory, md_get(&md), d->engine, (void *)(uintptr_t)plain),
               "weights");
    FCT_TRY_OUT(reorder(d, md_get(&md), memory, md_get(&p->layout), p->memory));
out:
    if (memory) dnnl_memory_destroy(memory);
    md_clear(&md);
    return st;
}

int64_t dn_packed_bytes(const dn_packed *p)
{
    return (int64_t)md_bytes(md_get(&p->layout));
}

void dn_packed_free(dn_packed *p)
{
    if (!p) return;
    if (p->memory) dnnl_memory_destroy(p->memory);
    md_clear(&p->layout);
    fct_free(p->data);
    fct_free(p);
}

/* ---- plans ---- */

struct dn_plan {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
    dnnl_memory_t x, w, bias, residual, y,
        pad; /* w: this plan's own copy of the weights, or NULL */
    void *w_data;
    int64_t pad_bytes;
    const char *impl;
    int act_at_residual; /* index of the residual among the post-ops */
};

static int64_t round64(int64_t n)
{
    return (n + 63) / 64 * 64;
}

static fct_status plan_memory(dnnl_memory_t *out, dn_plan *p, dn *d, dnnl_query_t what)
{
    return check(dnnl_memory_create(out, dnnl_primitive_desc_query_md(p->pd, what, 0), d->engine,
                                    DNNL_MEMORY_NONE),
                 "memory");
}

static fct_status plan_residual(dn_plan *p, dn *d, const dn_shape *s)
{
    operands o = operands_of(s);
    md_owned md = {0};
    FCT_TRY(check(md_tag(&md, o.nd, o.y, s->residual == 2 ? dnnl_bf16 : dnnl_f32, o.act_tag),
                  "residual"));
    fct_status st = check(
        dnnl_memory_create(&p->residual, md_get(&md), d->engine, DNNL_MEMORY_NONE), "residual");
    md_clear(&md);
    return st;
}

/* oneDNN's choice for the packed layout; where that is its slow reference, its choice for a free
   layout and a copy of the weights in that layout, which the plan keeps. Seen with small odd
   channel counts on small maps. */
static fct_status plan_choose(dn_plan *p, dn *d, const dn_shape *s, const dn_packed *w)
{
    fct_status st = make_pd(&p->pd, d, s, md_get(&w->layout));
    if (st == FCT_OK && !is_slow(impl_of(p->pd))) return FCT_OK;
    if (p->pd) dnnl_primitive_desc_destroy(p->pd);
    FCT_TRY(make_pd(&p->pd, d, s, NULL));
    md_ref want = dnnl_primitive_desc_query_md(p->pd, dnnl_query_weights_md, 0);
    FCT_TRY(fct_new(&p->w_data, (int64_t)md_bytes(want), 1));
    DN_TRY(dnnl_memory_create(&p->w, want, d->engine, p->w_data), "weights");
    return reorder(d, md_get(&w->layout), w->memory, want, p->w);
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
        md_ref bias = dnnl_primitive_desc_query_md(p->pd, dnnl_query_weights_md, 1);
        DN_TRY_OUT(dnnl_memory_create(&p->bias, bias, d->engine, DNNL_MEMORY_NONE), "bias");
    }
    if (s->residual) FCT_TRY_OUT(plan_residual(p, d, s));
    p->act_at_residual = s->act != FCT_ACT_NONE;
    p->pad_bytes = round64(
        (int64_t)md_bytes(dnnl_primitive_desc_query_md(p->pd, dnnl_query_scratchpad_md, 0)));
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
    const dnnl_memory_t memory[] = {p->x, p->w, p->bias, p->residual, p->y, p->pad};
    for (size_t i = 0; i < FCT_COUNT(memory); i++)
        if (memory[i]) dnnl_memory_destroy(memory[i]);
    fct_free(p->w_data);
    if (p->prim) dnnl_primitive_destroy(p->prim);
    if (p->pd) dnnl_primitive_desc_destroy(p->pd);
    fct_free(p);
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

static void *unconst(const void *p)
{
    return (void *)(uintptr_t)p;
} /* oneDNN's handles know no const */

fct_status dn_plan_run(dn_plan *p, dn *d, const dn_io *io)
{
    dnnl_memory_t weights = p->w ? p->w : io->w->memory;
    DN_TRY(dnnl_memory_set_data_handle(p->x, unconst(io->x)), "input");
    DN_TRY(dnnl_memory_set_data_handle(p->y, io->y), "output");
    DN_TRY(dnnl_memory_set_data_handle(p->pad, io->scratch), "scratch");
    if (p->bias) DN_TRY(dnnl_memory_set_data_handle(p->bias, unconst(io->bias)), "bias");
    if (p->residual)
        DN_TRY(dnnl_memory_set_data_handle(p->residual, unconst(io->residual)), "residual");
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
    return check(dnnl_stream_wait(d->stream), "run");
}

/* ---- small products in parallel regions ---- */

typedef struct half_thread { /* handles carry pointers, so each thread has its own */
    dnnl_stream_t stream;
    dnnl_memory_t a, b, c, pad;
} half_thread;

struct dn_half {
    dnnl_engine_t engine;
    dnnl_primitive_t prim;
    half_thread *thread;
    int threads;
    int64_t pad_bytes;
};

static fct_status half_thread_open(half_thread *t, dnnl_engine_t e, dnnl_primitive_desc_t pd)
{
    const struct {
        dnnl_memory_t *memory;
        dnnl_query_t what;
    } part[] = {{&t->a, dnnl_query_src_md},
                {&t->b, dnnl_query_weights_md},
                {&t->c, dnnl_query_dst_md},
                {&t->pad, dnnl_query_scratchpad_md}};
    DN_TRY(dnnl_stream_create(&t->stream, e, dnnl_stream_default_flags), "stream");
    for (size_t i = 0; i < FCT_COUNT(part); i++) {
        md_ref md = dnnl_primitive_desc_query_md(pd, part[i].what, 0);
        DN_TRY(dnnl_memory_create(part[i].memory, md, e, DNNL_MEMORY_NONE), "memory");
    }
    return FCT_OK;
}

static fct_status half_primitive(dn_half *h, md_ref a, md_ref b, md_ref c)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    fct_status st = FCT_OK;
    DN_TRY_OUT(dnnl_primitive_attr_create(&attr), "attributes");
    DN_TRY_OUT(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user),
               "attributes");
    DN_TRY_OUT(matmul_pd(&pd, h->engine, a, b, NULL, c, attr), "product");
    DN_TRY_OUT(dnnl_primitive_create(&h->prim, pd), "product");
    h->pad_bytes =
        round64((int64_t)md_bytes(dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0)));
    for (int i = 0; i < h->threads; i++)
        FCT_TRY_OUT(half_thread_open(&h->thread[i], h->engine, pd));
out:
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

fct_status dn_half_new(dn_half **out, const dn_half_shape *s, int threads)
{
    const dnnl_dims_t ad = {s->m, s->k}, bd = {s->k, s->n}, cd = {s->m, s->n};
    const dnnl_dims_t as = {s->lda, 1}, cs = {s->ldc, 1};
    const dnnl_dims_t bs = {s->trans_b ? 1 : s->ldb, s->trans_b ? s->ldb : 1};
    md_owned a = {0}, b = {0}, c = {0};
    fct_status st = FCT_OK;
    FCT_TRY(fct_new(out, 1, sizeof **out));
    dn_half *h = *out;
    h->threads = threads;
    FCT_TRY_OUT(fct_new(&h->thread, threads, sizeof *h->thread));
    DN_TRY_OUT(dnnl_engine_create(&h->engine, dnnl_cpu, 0), "engine");
    DN_TRY_OUT(md_rows(&a, ad, dnnl_bf16, as), "input");
    DN_TRY_OUT(md_rows(&b, bd, dnnl_bf16, bs), "input");
    DN_TRY_OUT(md_rows(&c, cd, dnnl_f32, cs), "output");
    FCT_TRY_OUT(half_primitive(h, md_get(&a), md_get(&b), md_get(&c)));
out:
    md_clear(&a);
    md_clear(&b);
    md_clear(&c);
    if (st != FCT_OK) {
        dn_half_free(h);
        *out = NULL;
    }
    return st;
}

void dn_half_free(dn_half *h)
{
    if (!h) return;
    for (int i = 0; h->thread && i < h->threads; i++) {
        half_thread *t = &h->thread[i];
        if (t->a) dnnl_memory_destroy(t->a);
        if (t->b) dnnl_memory_destroy(t->b);
        if (t->c) dnnl_memory_destroy(t->c);
        if (t->pad) dnnl_memory_destroy(t->pad);
        if (t->stream) dnnl_stream_destroy(t->stream);
    }
    fct_free(h->thread);
    if (h->prim) dnnl_primitive_destroy(h->prim);
    if (h->engine) dnnl_engine_destroy(h->engine);
    fct_free(h);
}

int64_t dn_half_scratch(const dn_half *h)
{
    return h->pad_bytes;
}

fct_status dn_half_run(dn_half *h, int thread, const uint16_t *a, const uint16_t *b, float *c,
                       void *scratch)
{
    half_thread *t = &h->thread[thread];
    DN_TRY(dnnl_memory_set_data_handle(t->a, unconst(a)), "input");
    DN_TRY(dnnl_memory_set_data_handle(t->b, unconst(b)), "input");
    DN_TRY(dnnl_memory_set_data_handle(t->c, c), "output");
    DN_TRY(dnnl_memory_set_data_handle(t->pad, scratch), "scratch");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, t->a},
                                    {DNNL_ARG_WEIGHTS, t->b},
                                    {DNNL_ARG_DST, t->c},
                                    {DNNL_ARG_SCRATCHPAD, t->pad}};
    DN_TRY(dnnl_primitive_execute(h->prim, t->stream, 4, args), "run");
    return check(dnnl_stream_wait(t->stream), "run");
}

/* ---- the rest ---- */

fct_status dn_sgemm(const dn_gemm *g)
{
    dnnl_status_t st = dnnl_sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k,
                                  g->alpha, g->a, g->lda, g->b, g->ldb, g->beta, g->c, g->ldc);
    return check(st, "sgemm");
}

bool dn_has_bf16(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return ((int)isa & (int)dnnl_cpu_isa_avx512_core_bf16) == (int)dnnl_cpu_isa_avx512_core_bf16;
}

fct_status dn_describe(fct_str *out)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {
        /* best first */
        {dnnl_cpu_isa_avx512_core_amx, "AVX512-BF16, AMX"},
        {dnnl_cpu_isa_avx512_core_bf16, "AVX512-BF16"},
        {dnnl_cpu_isa_avx512_core, "AVX512"},
        {dnnl_cpu_isa_avx2, "AVX2"},
        {dnnl_cpu_isa_avx, "AVX"},
        {dnnl_cpu_isa_sse41, "SSE4.1"},
    };
    const dnnl_version_t *v = dnnl_version();
    FCT_TRY(fct_str_printf(out, "oneDNN %d.%d.%d", v->major, v->minor, v->patch));
    int isa = (int)dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < FCT_COUNT(names); i++)
        if ((isa & (int)names[i].isa) == (int)names[i].isa)
            return fct_str_printf(out, ", %s", names[i].name);
    return FCT_OK;
}

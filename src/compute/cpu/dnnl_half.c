/* dnnl_half.c - multiplies with oneDNN where no weight is packed: small bf16 products inside a
   parallel region, where each thread has its own handles, and plain f32 ones. */
#include "compute/cpu/dnnl_inner.h"

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
        dn_md_ref md = dnnl_primitive_desc_query_md(pd, part[i].what, 0);
        DN_TRY(dnnl_memory_create(part[i].memory, md, e, DNNL_MEMORY_NONE), "memory");
    }
    return FCT_OK;
}

static fct_status half_primitive(dn_half *h, dn_md_ref a, dn_md_ref b, dn_md_ref c)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    fct_status st = FCT_OK;
    DN_TRY_OUT(dnnl_primitive_attr_create(&attr), "attributes");
    DN_TRY_OUT(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user),
               "attributes");
    DN_TRY_OUT(dn_matmul_pd(&pd, h->engine, a, b, NULL, c, attr), "product");
    DN_TRY_OUT(dnnl_primitive_create(&h->prim, pd), "product");
    h->pad_bytes =
        dn_round64(dn_md_bytes(dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0)));
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
    dn_md a = {0}, b = {0}, c = {0};
    fct_status st = FCT_OK;
    FCT_TRY(fct_new(out, 1, sizeof **out));
    dn_half *h = *out;
    h->threads = threads;
    FCT_TRY_OUT(fct_new(&h->thread, threads, sizeof *h->thread));
    DN_TRY_OUT(dnnl_engine_create(&h->engine, dnnl_cpu, 0), "engine");
    DN_TRY_OUT(dn_md_rows(&a, ad, dnnl_bf16, as), "input");
    DN_TRY_OUT(dn_md_rows(&b, bd, dnnl_bf16, bs), "input");
    DN_TRY_OUT(dn_md_rows(&c, cd, dnnl_f32, cs), "output");
    FCT_TRY_OUT(half_primitive(h, dn_md_get(&a), dn_md_get(&b), dn_md_get(&c)));
out:
    dn_md_clear(&a);
    dn_md_clear(&b);
    dn_md_clear(&c);
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
    DN_TRY(dnnl_memory_set_data_handle(t->a, dn_unconst(a)), "input");
    DN_TRY(dnnl_memory_set_data_handle(t->b, dn_unconst(b)), "input");
    DN_TRY(dnnl_memory_set_data_handle(t->c, c), "output");
    DN_TRY(dnnl_memory_set_data_handle(t->pad, scratch), "scratch");
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, t->a},
                                    {DNNL_ARG_WEIGHTS, t->b},
                                    {DNNL_ARG_DST, t->c},
                                    {DNNL_ARG_SCRATCHPAD, t->pad}};
    DN_TRY(dnnl_primitive_execute(h->prim, t->stream, 4, args), "run");
    return dn_check(dnnl_stream_wait(t->stream), "run");
}

/* ---- f32 ---- */

fct_status dn_sgemm(const dn_gemm *g)
{
    dnnl_status_t st = dnnl_sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k,
                                  g->alpha, g->a, g->lda, g->b, g->ldb, g->beta, g->c, g->ldc);
    return dn_check(st, "sgemm");
}

/* dnnl_versions.c - calls oneDNN 2 and 3 under one name each, opens its engine, and tells what this
   machine can do. The two differ in how memory descriptors are held (by value, by handle) and in
   how primitive descriptors are made (through an operation descriptor, directly). */
#include "compute/cpu/dnnl_inner.h"

fct_status dn_check(dnnl_status_t st, const char *what)
{
    static const char *const text[] = {"success", "out of memory", "invalid arguments",
                                       "unimplemented"};
    if (st == dnnl_success) return FCT_OK;
    const char *why = (int)st >= 0 && (size_t)st < FCT_COUNT(text) ? text[st] : "failed";
    return fct_fail(st == dnnl_out_of_memory ? FCT_ERR_MEMORY : FCT_ERR_INTERNAL, "oneDNN %s: %s",
                    what, why);
}

#if DNNL_VERSION_MAJOR >= 3

dn_md_ref dn_md_get(const dn_md *m)
{
    return *m;
}
void dn_md_clear(dn_md *m)
{
    if (*m) dnnl_memory_desc_destroy(*m);
    *m = NULL;
}
dnnl_status_t dn_md_tag(dn_md *m, int nd, const dnnl_dim_t *d, dnnl_data_type_t t,
                        dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(m, nd, d, t, tag);
}
dnnl_status_t dn_md_rows(dn_md *m, const dnnl_dim_t *d, dnnl_data_type_t t,
                         const dnnl_dim_t *strides)
{
    return dnnl_memory_desc_create_with_strides(m, 2, d, t, strides);
}
dnnl_status_t dn_md_copy(dn_md *m, dn_md_ref from)
{
    return dnnl_memory_desc_clone(m, from);
}
dnnl_status_t dn_post_act(dnnl_post_ops_t po, dnnl_alg_kind_t alg, float alpha)
{
    return dnnl_post_ops_append_eltwise(po, alg, alpha, 0);
}
dnnl_status_t dn_matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref x, dn_md_ref w,
                           dn_md_ref b, dn_md_ref y, dnnl_primitive_attr_t at)
{
    return dnnl_matmul_primitive_desc_create(pd, e, x, w, b, y, at);
}
dnnl_status_t dn_conv_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref x, dn_md_ref w,
                         dn_md_ref b, dn_md_ref y, const dn_shape *s, dnnl_primitive_attr_t at)
{
    const dnnl_dims_t step = {s->stride, s->stride}, dilate = {0, 0};
    const dnnl_dims_t lo = {s->pad_top, s->pad_left}, hi = {s->pad_bottom, s->pad_right};
    return dnnl_convolution_forward_primitive_desc_create(pd, e, dnnl_forward_inference,
                                                          dnnl_convolution_direct, x, w, b, y, step,
                                                          dilate, lo, hi, at);
}

#else

dn_md_ref dn_md_get(const dn_md *m)
{
    return m;
}
void dn_md_clear(dn_md *m)
{
    *m = (dn_md){0};
}
dnnl_status_t dn_md_tag(dn_md *m, int nd, const dnnl_dim_t *d, dnnl_data_type_t t,
                        dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(m, nd, d, t, tag);
}
dnnl_status_t dn_md_rows(dn_md *m, const dnnl_dim_t *d, dnnl_data_type_t t,
                         const dnnl_dim_t *strides)
{
    return dnnl_memory_desc_init_by_strides(m, 2, d, t, strides);
}
dnnl_status_t dn_md_copy(dn_md *m, dn_md_ref from)
{
    *m = *from;
    return dnnl_success;
}
dnnl_status_t dn_post_act(dnnl_post_ops_t po, dnnl_alg_kind_t alg, float alpha)
{
    return dnnl_post_ops_append_eltwise(po, 1, alg, alpha, 0);
}
dnnl_status_t dn_matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref x, dn_md_ref w,
                           dn_md_ref b, dn_md_ref y, dnnl_primitive_attr_t at)
{
    dnnl_matmul_desc_t d;
    dnnl_status_t st = dnnl_matmul_desc_init(&d, x, w, b, y);
    return st == dnnl_success ? dnnl_primitive_desc_create(pd, &d, at, e, NULL) : st;
}
dnnl_status_t dn_conv_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref x, dn_md_ref w,
                         dn_md_ref b, dn_md_ref y, const dn_shape *s, dnnl_primitive_attr_t at)
{
    const dnnl_dims_t step = {s->stride, s->stride};
    const dnnl_dims_t lo = {s->pad_top, s->pad_left}, hi = {s->pad_bottom, s->pad_right};
    dnnl_convolution_desc_t d;
    dnnl_status_t st = dnnl_convolution_forward_desc_init(
        &d, dnnl_forward_inference, dnnl_convolution_direct, x, w, b, y, step, lo, hi);
    return st == dnnl_success ? dnnl_primitive_desc_create(pd, &d, at, e, NULL) : st;
}

#endif

int64_t dn_md_bytes(dn_md_ref m)
{
    return (int64_t)dnnl_memory_desc_get_size(m);
}

bool dn_md_same(dn_md_ref a, dn_md_ref b)
{
    return dnnl_memory_desc_equal(a, b) != 0;
}

dnnl_status_t dn_reorder_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref from,
                            dn_md_ref to)
{
    return dnnl_reorder_primitive_desc_create(pd, from, e, to, e, NULL);
}

/* ---- engine ---- */

fct_status dn_open(dn **out)
{
    dn *d;
    FCT_TRY(fct_new(out, 1, sizeof *d));
    d = *out;
    fct_status st = dn_check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "engine");
    if (st == FCT_OK)
        st = dn_check(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags),
                      "stream");
    if (st == FCT_OK) return FCT_OK;
    dn_close(d);
    *out = NULL;
    return st;
}

fct_status dn_beside(dn **out, const dn *d)
{
    FCT_TRY(fct_new(out, 1, sizeof **out));
    (*out)->engine = d->engine;
    (*out)->borrowed = true;
    fct_status st = dn_check(
        dnnl_stream_create(&(*out)->stream, d->engine, dnnl_stream_default_flags), "stream");
    if (st == FCT_OK) return FCT_OK;
    dn_close(*out);
    *out = NULL;
    return st;
}

void dn_close(dn *d)
{
    if (!d) return;
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine && !d->borrowed) dnnl_engine_destroy(d->engine);
    fct_free(d);
}

/* ---- what there is ---- */

bool dn_has_bf16(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return ((int)isa & (int)dnnl_cpu_isa_avx512_core_bf16) == (int)dnnl_cpu_isa_avx512_core_bf16;
}

bool dn_has_int8(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return ((int)isa & (int)dnnl_cpu_isa_avx512_core_vnni) == (int)dnnl_cpu_isa_avx512_core_vnni;
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

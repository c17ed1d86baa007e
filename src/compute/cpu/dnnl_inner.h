/* dnnl_inner.h - gives the files around oneDNN its types, and the calls in which versions 2 and 3
   differ under one name each. Only dnnl_*.c include it, so nobody else sees dnnl.h.

   A memory descriptor is held by value in version 2 and by handle in version 3: a dn_md is owned
   and cleared, zero is empty; a dn_md_ref belongs to a dn_md or to oneDNN. */
#ifndef FCT_COMPUTE_CPU_DNNL_INNER_H
#define FCT_COMPUTE_CPU_DNNL_INNER_H

#include <dnnl.h>

#include "compute/cpu/dnnl_shim.h"

struct dn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    bool borrowed; /* the engine is another's */
};

/* ---- failures ---- */
fct_status dn_check(dnnl_status_t st, const char *what) FCT_MUST_CHECK;
#define DN_TRY(call, what) FCT_TRY(dn_check(call, what))
#define DN_TRY_OUT(call, what) FCT_TRY_OUT(dn_check(call, what))

/* ---- what versions 2 and 3 do differently (dnnl_versions.c) ---- */
typedef dnnl_memory_desc_t dn_md;
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t dn_md_ref;
#else
typedef const dnnl_memory_desc_t *dn_md_ref;
#endif

dn_md_ref dn_md_get(const dn_md *m);
void dn_md_clear(dn_md *m);
dnnl_status_t dn_md_tag(dn_md *m, int nd, const dnnl_dim_t *d, dnnl_data_type_t t,
                        dnnl_format_tag_t tag);
/* two dimensions, any strides */
dnnl_status_t dn_md_rows(dn_md *m, const dnnl_dim_t *d, dnnl_data_type_t t,
                         const dnnl_dim_t *strides);
dnnl_status_t dn_md_copy(dn_md *m, dn_md_ref from);
int64_t dn_md_bytes(dn_md_ref m);
bool dn_md_same(dn_md_ref a, dn_md_ref b);

dnnl_status_t dn_post_act(dnnl_post_ops_t po, dnnl_alg_kind_t alg, float alpha);
dnnl_status_t dn_matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref x, dn_md_ref w,
                           dn_md_ref b, dn_md_ref y, dnnl_primitive_attr_t at);
dnnl_status_t dn_conv_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref x, dn_md_ref w,
                         dn_md_ref b, dn_md_ref y, const dn_shape *s, dnnl_primitive_attr_t at);
dnnl_status_t dn_reorder_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dn_md_ref from,
                            dn_md_ref to);

/* ---- small things ---- */
static inline int64_t dn_round64(int64_t n)
{
    return (n + 63) / 64 * 64;
}

/* oneDNN's handles know no const. */
static inline void *dn_unconst(const void *p)
{
    return (void *)(uintptr_t)p;
}

#endif

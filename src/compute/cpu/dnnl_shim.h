/* dnnl_shim.h - declares oneDNN as facet uses it: products and convolutions with weights packed
   once. Everything that differs between oneDNN 2 and 3 is behind this header; nobody but its own
   files, dnnl_*.c, includes dnnl.h.

   A *packed* weight has the layout that oneDNN chose at a canonical size, and is only read once
   it is filled: any number of threads may run with it. A *plan* is a primitive for one exact
   shape that takes this layout, with the handles of one thread's run; all weights of that shape
   and layout share it. Where a shape's only fast primitive wants another layout, the weight is
   copied into it once, under a lock, and keeps that copy for all plans. Scratch is the caller's
   (user-mode scratchpad), so that memory can be counted before it is taken. */
#ifndef FCT_COMPUTE_CPU_DNNL_SHIM_H
#define FCT_COMPUTE_CPU_DNNL_SHIM_H

#include "compute/backend.h"

typedef enum dn_kind { DN_MATMUL, DN_CONV } dn_kind;

/* What is asked of a primitive. It is compared with memcmp, and therefore made with an initialiser
   over zeroed memory (dn_shape_init). */
typedef struct dn_shape {
    dn_kind kind;
    fct_dtype x, w, y; /* f32 or bf16 each; or int8, int8, int32 */
    fct_act act;       /* after the bias */
    int bias;          /* 0 or 1; [n], f32 */
    int residual;      /* 0: none; 1: f32, 2: bf16; added last, shape of y */
    int threads;
    int64_t batch; /* matmul: independent products (1: a plain one); conv: pictures */
    /* matmul: x [batch,m,k], w [batch,n,k], y [batch,m,n]; conv: n, k are output and input
       channels. */
    int64_t m, n, k;
    int64_t ih, iw, oh, ow; /* conv: sizes of the input and output maps */
    int64_t kh, kw, stride, pad_top, pad_left, pad_bottom, pad_right;
} dn_shape;

typedef struct dn dn;               /* engine and stream; one thread at a time */
typedef struct dn_packed dn_packed; /* a weight in oneDNN's layout */
typedef struct dn_plan dn_plan;     /* a primitive for one shape */

fct_status dn_open(dn **out) FCT_MUST_CHECK;
/* Another stream on d's engine, for another thread; closed before d. */
fct_status dn_beside(dn **out, const dn *d) FCT_MUST_CHECK;
void dn_close(dn *d);

/* Layout: the first that `any` gives at one of the shapes and that is fast at all of them; else
   that of the first shape. d outlives the weight. */
fct_status dn_packed_new(dn_packed **out, dn *d, const dn_shape *shape, int n) FCT_MUST_CHECK;
/* Plain f32 weights into the layout: matmul [batch,n,k], conv [n,k,kh,kw]; rounds when the layout
   is bf16. Nobody else may use the weight meanwhile; copies in other layouts are dropped. */
fct_status dn_packed_fill(dn_packed *p, const float *plain) FCT_MUST_CHECK;
/* The same from plain weights of another type: products of int8 take int8. */
fct_status dn_packed_fill_from(dn_packed *p, const void *plain, fct_dtype dtype) FCT_MUST_CHECK;
int64_t dn_packed_bytes(const dn_packed *p);
void dn_packed_free(dn_packed *p);

/* A plan for this shape and all weights in w's layout; nothing of w is kept. */
fct_status dn_plan_new(dn_plan **out, dn *d, const dn_shape *s, const dn_packed *w) FCT_MUST_CHECK;
bool dn_plan_fits(const dn_plan *p, const dn_packed *w); /* w has the layout it was made for */
/* Makes the copy of w that the plan's run wants, where it is not there yet. */
fct_status dn_plan_ready(const dn_plan *p, dn_packed *w) FCT_MUST_CHECK;
void dn_plan_free(dn_plan *p);
int64_t dn_plan_scratch(const dn_plan *p); /* bytes; the run wants them 64-byte aligned */
/* oneDNN's name for what it runs: "brgconv:avx512_core". */
const char *dn_plan_impl(const dn_plan *p);
bool dn_plan_is_slow(const dn_plan *p); /* oneDNN's own reference loops */

typedef struct dn_io {
    const void *x;
    dn_packed *w;
    const float *bias;
    const void *residual;
    void *y, *scratch;
} dn_io;
fct_status dn_plan_run(dn_plan *p, dn *d, const dn_io *io) FCT_MUST_CHECK;

/* Row-major c [m,n] = alpha·op(a)·op(b) + beta·c in f32, ld*: elements between stored rows. Threads
   outside a parallel region, one thread inside. */
typedef struct dn_gemm {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    const float *a, *b;
    float *c;
    float alpha, beta;
} dn_gemm;
fct_status dn_sgemm(const dn_gemm *g) FCT_MUST_CHECK;

/* Small bf16 products inside a parallel region: c [m,n] f32 = a [m,k] · b, b stored [n,k] (trans_b)
   or [k,n]. One primitive, and for each thread the handles that its run needs. */
typedef struct dn_half dn_half;
typedef struct dn_half_shape {
    bool trans_b;
    int64_t m, n, k, lda, ldb, ldc;
} dn_half_shape;
fct_status dn_half_new(dn_half **out, const dn_half_shape *s, int threads) FCT_MUST_CHECK;
void dn_half_free(dn_half *h);
int64_t dn_half_scratch(const dn_half *h); /* bytes that each thread's run needs */
fct_status dn_half_run(dn_half *h, int thread, const uint16_t *a, const uint16_t *b, float *c,
                       void *scratch) FCT_MUST_CHECK;

bool dn_has_bf16(void);
bool dn_has_int8(void);                              /* VNNI */
fct_status dn_describe(fct_str *out) FCT_MUST_CHECK; /* "oneDNN 2.6.3, AVX512-BF16, AMX" */

#endif

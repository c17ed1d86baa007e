/* cpu.h - declares what the files of the cpu backend share: packed weights, the plans of a context,
   scratch for each thread, and the pieces of operations.

   A context is one thread's at a time; the loops open parallel regions themselves. Weights are
   shared by all contexts. Results do not depend on the number of threads except through oneDNN's
   products (which are the same for the same number). */
#ifndef FCT_COMPUTE_CPU_CPU_H
#define FCT_COMPUTE_CPU_CPU_H

#include "compute/backend.h"
#include "compute/cpu/dnnl_shim.h"
#include "compute/view.h"

/* ---- weights (weights.c) ---- */

/* Behind fct_weight.impl; only read once it is packed. */
typedef struct cpu_weight {
    dn *d;
    dn_packed *packed;
    dn_packed *winograd; /* the second form: NULL unless it pays */
} cpu_weight;

fct_status cpu_pack(const fct_backend *be, fct_weight *out,
                    const fct_pack_desc *desc) FCT_MUST_CHECK;
void cpu_unpack(fct_weight *w);

/* ---- a context's plans (plans.c) ---- */

fct_status cpu_plans_new(fct_plans **out) FCT_MUST_CHECK;
void cpu_plans_free(fct_plans *p);
int64_t cpu_plans_list(const fct_plans *p, fct_plan_row *out, int64_t room);

/* Runs the product or convolution `s` with the context's plan for it;
   in a dry run only counts the scratch. */
fct_status cpu_weight_run(fct_cx *cx, const fct_weight *w, const dn_shape *s,
                          const dn_io *io) FCT_MUST_CHECK;
/* The same with the weight's second form. */
fct_status cpu_winograd_product(fct_cx *cx, const fct_weight *w, const dn_shape *s,
                                const dn_io *io) FCT_MUST_CHECK;

/* ---- encoders of sparse autoencoders (sae_encoder.c) ---- */
fct_product cpu_product(int64_t n, int64_t d, int64_t k);
fct_status cpu_encoder_new(fct_encoder *enc) FCT_MUST_CHECK;
void cpu_encoder_free(fct_encoder *enc);

/* ---- shared loops (elementwise.c) ---- */
/* Contiguous elements between f32 and bf16. */
void cpu_convert(void *dst, fct_dtype to, const void *src, fct_dtype from, int64_t n);

/* An element count below which a loop stays on one thread:
   opening a region costs some microseconds. */
enum { CPU_SMALL = 16384 };

/* Start of the threads' own pieces of scratch, `bytes` each rounded up to 64; NULL in a dry run. */
fct_status cpu_thread_scratch(fct_cx *cx, uint8_t **out, int64_t *stride,
                              int64_t bytes) FCT_MUST_CHECK;

#define CPU_OP(op) fct_status cpu_##op(fct_cx *cx, const fct_##op##_args *a) FCT_MUST_CHECK;
FCT_OP_LIST(CPU_OP)
#undef CPU_OP

#endif

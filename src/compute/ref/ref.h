/* ref.h - declares the ref backend, which specifies what every operation means, written so that it
   can be read next to its definition. Never optimised: sums and statistics are f64, one loop an
   index, no threads. Other backends are measured against it. */
#ifndef FCT_COMPUTE_REF_REF_H
#define FCT_COMPUTE_REF_REF_H

#include "compute/backend.h"
#include "compute/view.h"

/* Lies behind fct_weight.impl: rows [out, in*kh*kw], rounded to the weight's dtype, kept as f32. */
typedef struct ref_weight {
    float *row;
} ref_weight;

static inline double ref_get(const fct_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case FCT_BF16: return (double)fct_bf16_to_f32(((const uint16_t *)t->data)[i]);
    case FCT_F16: return (double)fct_f16_to_f32(((const uint16_t *)t->data)[i]);
    default: return (double)((const float *)t->data)[i];
    }
}

static inline void ref_set(const fct_tensor *t, int64_t i, double v)
{
    if (t->dtype == FCT_BF16)
        ((uint16_t *)t->data)[i] = fct_f32_to_bf16((float)v);
    else
        ((float *)t->data)[i] = (float)v;
}

double ref_act(fct_act act, double v);

#define REF_OP(op) fct_status ref_##op(fct_cx *cx, const fct_##op##_args *a) FCT_MUST_CHECK;
FCT_OP_LIST(REF_OP)
#undef REF_OP

#endif

/* view.h - reads tensors as operations see them: as rows of a last dimension, as feature maps, one
   element as a float. Shared by the wrappers and the backends; no state, nothing that fails. */
#ifndef FCT_COMPUTE_VIEW_H
#define FCT_COMPUTE_VIEW_H

#include "compute/backend.h"

/* Whether an optional tensor is there: ndim 0 is "none". */
static inline bool fct_view_given(const fct_tensor *t)
{
    return t->ndim > 0;
}

static inline int64_t fct_view_last(const fct_tensor *t)
{
    return t->dim[t->ndim - 1];
}

/* Product of all dimensions but the last: a feature map [B,H,W,C] is B*H*W rows of C. */
static inline int64_t fct_view_rows(const fct_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->ndim; i++) n *= t->dim[i];
    return n;
}

/* Everything between the first and the last dimension: the pixels of one picture. */
static inline int64_t fct_view_pixels(const fct_tensor *t)
{
    int64_t n = 1;
    for (int i = 1; i + 1 < t->ndim; i++) n *= t->dim[i];
    return n;
}

static inline int64_t fct_view_stride(const fct_conv2d_args *a)
{
    return a->stride ? a->stride : 1;
}

/* Height and width that a convolution sees: those of x, or of its nearest resize. */
static inline int64_t fct_view_conv_h(const fct_conv2d_args *a)
{
    return a->up_h ? a->up_h : a->x.dim[1];
}
static inline int64_t fct_view_conv_w(const fct_conv2d_args *a)
{
    return a->up_w ? a->up_w : a->x.dim[2];
}

/* torch's nearest rule, its float arithmetic included: the source index of output i when `in`
   samples become `out`. */
static inline int64_t fct_view_nearest(int64_t i, int64_t in, int64_t out)
{
    if (out == in) return i;
    if (out == 2 * in) return i / 2;
    float scale = (float)in / (float)out;
    int64_t s = (int64_t)((float)i * scale);
    return s < in ? s : in - 1;
}

#endif

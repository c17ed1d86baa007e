/* pack.h - declares how the parts of a weight are read as one plain f32 matrix, for the packers of
   all backends. */
#ifndef FCT_COMPUTE_PACK_H
#define FCT_COMPUTE_PACK_H

#include "compute/backend.h"

/* Rows [lo,hi) of the stacked output dimension into dst [hi-lo, in*kh*kw], f32; the checks of
   fct_weight_pack have passed. So a packer can go through a large weight block by block and never
   holds it twice. */
fct_status fct_pack_rows(float *dst, const fct_pack_desc *desc, const fct_weight *w, int64_t lo,
                         int64_t hi) FCT_MUST_CHECK;

#endif

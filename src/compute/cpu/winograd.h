/* winograd.h - declares 3x3 convolutions of stride 1 in f32 by Winograd's F(4x4,3x3): 2.25
   multiplications an output and input channel instead of 9, for a kernel four times as large and an
   error of some 1e-6 instead of some 1e-7. */
#ifndef FCT_COMPUTE_CPU_WINOGRAD_H
#define FCT_COMPUTE_CPU_WINOGRAD_H

#include "compute/cpu/cpu.h"

/* Whether a weight of these sizes is worth the second form on maps of `map` pixels.
   0 pixels: not known, so no. */
bool cpu_winograd_fits(const fct_weight *w, int64_t map);
/* The transformed kernel [36,O,I] of plain [O,I,3,3] into w->winograd. */
fct_status cpu_winograd_pack(cpu_weight *w, const fct_weight *sizes,
                             const float *plain) FCT_MUST_CHECK;

/* Whether this call takes it: a function of the shapes alone. */
bool cpu_winograd_takes(const fct_conv2d_args *a);
/* x [B,h,w,I] f32 is the resized, converted input. All of the epilogue is done here. */
fct_status cpu_winograd_run(fct_cx *cx, const fct_conv2d_args *a, const float *x, int64_t h,
                            int64_t w) FCT_MUST_CHECK;

#endif

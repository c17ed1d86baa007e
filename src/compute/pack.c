/* pack.c - puts the parts of a weight (slices, transposed or not, in f32, f16 or bf16) together as
   one plain f32 matrix. */
#include "compute/pack.h"

/* One element of a transposed part at a time:
   these are small and rare (text projections, tied tables). */
static fct_status read_transposed(float *dst, const fct_tensor *t, int64_t row, int64_t count,
                                  int64_t in)
{
    int64_t step = fct_dtype_bytes(t->dtype);
    const uint8_t *base = t->data;
    for (int64_t r = 0; r < count; r++)
        for (int64_t k = 0; k < in; k++)
            FCT_TRY(fct_convert(dst + r * in + k, FCT_F32, base + (k * t->dim[1] + row + r) * step,
                                t->dtype, 1));
    return FCT_OK;
}

fct_status fct_pack_rows(float *dst, const fct_pack_desc *desc, const fct_weight *w, int64_t lo,
                         int64_t hi)
{
    int64_t width = w->in * w->kh * w->kw;
    int64_t at = 0; /* first output row of the current part */
    for (int64_t i = 0; i < desc->n_parts && at < hi; i++) {
        const fct_weight_part *p = &desc->part[i];
        const fct_tensor *t = p->t;
        bool all = p->row_lo == 0 && p->row_hi == 0;
        int64_t first = all ? 0 : p->row_lo;
        int64_t rows = all ? (p->transpose ? t->dim[1] : t->dim[0]) : p->row_hi - p->row_lo;
        int64_t from = lo > at ? lo : at, to = hi < at + rows ? hi : at + rows;
        if (from < to) {
            float *d = dst + (from - lo) * width;
            int64_t row = first + from - at;
            if (p->transpose) {
                FCT_TRY(read_transposed(d, t, row, to - from, w->in));
            } else {
                const uint8_t *s =
                    (const uint8_t *)t->data + row * width * fct_dtype_bytes(t->dtype);
                FCT_TRY(fct_convert(d, FCT_F32, s, t->dtype, (to - from) * width));
            }
        }
        at += rows;
    }
    return FCT_OK;
}

/* batch.c - reads batches from a source of rows, always full: one that the end of a pass cuts short
   is completed from the next pass, which the source serves in an order of its own. Of mixed blocks
   a batch has as many rows of each, one block after the other. */
#include <string.h>

#include "train/train.h"

/* Rows that come next, to row `at` on of `out`; of mixed blocks to row `at` of each block's
   `each`. */
static fct_status next_rows(fct_row_source *source, int64_t blocks, float *out, int64_t each,
                            int64_t at, int64_t *out_n)
{
    const float *rows[FCT_SAE_MAX_BLOCKS];
    int64_t n = 0, want = each - at, d = blocks > 1 ? source->part[0].d : source->d;
    if (!out && source->skip) return source->skip(source->self, want, out_n);
    FCT_TRY(blocks > 1 ? source->next_parts(source->self, want, rows, &n)
                       : source->next(source->self, want, rows, &n));
    if (n < 0 || n > want)
        return fct_fail(FCT_ERR_INTERNAL, "the rows' source gave %lld rows for %lld", (long long)n,
                        (long long)want);
    for (int64_t b = 0; b < blocks && n > 0 && out; b++)
        memcpy(out + (b * each + at) * d, rows[b], (size_t)(n * d) * sizeof *out);
    *out_n = n;
    return FCT_OK;
}

fct_status fct_batch_read(float *out, int64_t *out_n, const fct_batch_desc *desc)
{
    fct_row_source *source = desc->source;
    int64_t blocks = desc->blocks, each = desc->want / blocks, have = 0, d = source->d / blocks;
    bool empty_pass = false;
    while (have < each) {
        int64_t n;
        FCT_TRY(next_rows(source, blocks, out, each, have, &n));
        have += n;
        if (n > 0) {
            empty_pass = false;
            continue;
        }
        if (!desc->wrap) break;
        if (empty_pass) return fct_fail(FCT_ERR_ARG, "there are no rows to train on");
        if (!source->rewind)
            return fct_fail(FCT_ERR_ARG, "the rows ended and cannot be read again: fewer steps");
        FCT_TRY(source->rewind(source->self, ++desc->place->pass));
        empty_pass = true;
    }
    for (int64_t b = 1; b < blocks && have < each && out; b++) /* no gaps between blocks */
        memmove(out + b * have * d, out + b * each * d, (size_t)(have * d) * sizeof *out);
    *out_n = have * blocks;
    return FCT_OK;
}

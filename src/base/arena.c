/* arena.c - hands out one block of memory like a stack, for the activations of a run. A run takes
   its activations from here and gives them back by mark and reset. Without memory behind it (dry)
   the arena only counts, so the same code run dry tells the exact peak before a byte is taken. */
#include "base/base.h"

#include <inttypes.h>
#include <string.h>

enum { ALIGNMENT = 64 };

fct_status fct_arena_init(fct_arena *a, int64_t bytes)
{
    *a = (fct_arena){0};
    if (bytes < 0) return fct_fail(FCT_ERR_ARG, "an arena cannot have %" PRId64 " bytes", bytes);
    if (bytes == 0) return FCT_OK;
    FCT_TRY(fct_new_raw(&a->base, bytes, 1));
    a->size = bytes;
    return FCT_OK;
}

void fct_arena_clear(fct_arena *a)
{
    fct_free(a->base);
    *a = (fct_arena){0};
}

fct_status fct_arena_take(fct_arena *a, void *out_ptr, int64_t n, int64_t size)
{
    int64_t bytes, end;
    void *p = NULL;
    memcpy(out_ptr, &p, sizeof p);
    FCT_TRY(fct_mul_i64(&bytes, n, size));
    FCT_TRY(fct_add_i64(&bytes, bytes, ALIGNMENT - 1));
    bytes = bytes / ALIGNMENT * ALIGNMENT;
    FCT_TRY(fct_add_i64(&end, a->used, bytes));
    if (a->base) {
        if (end > a->size)
            return fct_fail(FCT_ERR_MEMORY,
                            "the arena has %" PRId64 " bytes, %" PRId64
                            " would be needed (dry run and real run differ)",
                            a->size, end);
        p = a->base + a->used;
        memcpy(out_ptr, &p, sizeof p);
    }
    a->used = end;
    if (end > a->peak) a->peak = end;
    return FCT_OK;
}

fct_mark fct_arena_mark(const fct_arena *a)
{
    return a->used;
}

void fct_arena_reset(fct_arena *a, fct_mark m)
{
    if (m >= 0 && m <= a->used) a->used = m;
}

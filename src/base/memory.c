/* memory.c - takes and releases heap memory: the only place with malloc and free. Blocks are
   64-byte aligned (a cache line, an AVX-512 register) and tests can make the nth allocation fail,
   which is how "out of memory" paths are exercised. */
#include "base/base.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, LARGE = 16 << 20 };

static _Thread_local int64_t fault_in; /* allocations until the one that fails; 0 = off */

void fct_fault_alloc(int64_t nth)
{
    fault_in = nth;
}

static bool fault_now(void)
{
    return fault_in > 0 && --fault_in == 0;
}

static void *json_malloc_counted(size_t n)
{
    return fault_now() ? NULL : malloc(n);
}

void fct_fault_json(void)
{
    json_set_alloc_funcs(json_malloc_counted, free);
}

/* Large blocks ask for large pages: walking a matrix by columns meets another page at every row,
   and the processor remembers the places of only some thousand pages. A wish; nothing depends on
   it. */
static void want_large_pages(void *p, int64_t bytes)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 4096, at = ((uintptr_t)p + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)p + (uintptr_t)bytes) / page * page;
    if (bytes >= LARGE) (void)madvise((void *)at, end - at, MADV_HUGEPAGE);
#else
    (void)p;
    (void)bytes;
#endif
}

fct_status fct_new_raw(void *out_ptr, int64_t n, int64_t size)
{
    int64_t bytes;
    void *p = NULL;
    memcpy(out_ptr, &p, sizeof p);
    FCT_TRY(fct_mul_i64(&bytes, n, size));
    if (bytes > INT64_MAX - ALIGNMENT)
        return fct_fail(FCT_ERR_RANGE, "%" PRId64 " bytes are not a possible size", bytes);
    int64_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded == 0) rounded = ALIGNMENT;
    if (!fault_now()) p = aligned_alloc(ALIGNMENT, (size_t)rounded);
    if (!p)
        return fct_fail(FCT_ERR_MEMORY, "out of memory: %" PRId64 " bytes more were needed", bytes);
    want_large_pages(p, bytes);
    memcpy(out_ptr, &p, sizeof p);
    return FCT_OK;
}

fct_status fct_new(void *out_ptr, int64_t n, int64_t size)
{
    void *p;
    FCT_TRY(fct_new_raw(out_ptr, n, size));
    memcpy(&p, out_ptr, sizeof p);
    memset(p, 0, (size_t)(n * size));
    return FCT_OK;
}

fct_status fct_grow(void *inout_ptr, int64_t old_n, int64_t n, int64_t size)
{
    void *old, *p;
    memcpy(&old, inout_ptr, sizeof old);
    FCT_TRY(fct_new_raw(&p, n, size));
    int64_t keep = old ? (old_n < n ? old_n : n) : 0;
    if (keep > 0) memcpy(p, old, (size_t)(keep * size));
    memset((uint8_t *)p + keep * size, 0, (size_t)((n - keep) * size));
    free(old);
    memcpy(inout_ptr, &p, sizeof p);
    return FCT_OK;
}

fct_status fct_reserve(void *inout_ptr, int64_t *inout_room, int64_t n, int64_t size)
{
    void *old;
    memcpy(&old, inout_ptr, sizeof old);
    if (old && *inout_room >= n) return FCT_OK;
    free(old);
    *inout_room = 0;
    FCT_TRY(fct_new_raw(inout_ptr, n, size));
    *inout_room = n;
    return FCT_OK;
}

void fct_free(void *p)
{
    free(p);
}

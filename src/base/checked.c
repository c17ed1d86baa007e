/* checked.c - adds and multiplies counts, and refuses to overflow. Every size that comes out of a
   file goes through here before it is allocated or mapped. */
#include "base/base.h"

#include <inttypes.h>

fct_status fct_mul_i64(int64_t *out, int64_t a, int64_t b)
{
    *out = 0;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, out)) {
        *out = 0;
        return fct_fail(FCT_ERR_RANGE, "%" PRId64 " times %" PRId64 " is not a possible size", a,
                        b);
    }
    return FCT_OK;
}

fct_status fct_add_i64(int64_t *out, int64_t a, int64_t b)
{
    *out = 0;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, out)) {
        *out = 0;
        return fct_fail(FCT_ERR_RANGE, "%" PRId64 " plus %" PRId64 " is not a possible size", a, b);
    }
    return FCT_OK;
}

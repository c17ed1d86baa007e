/* shard.c - a shard in memory: rows in the store's type with their prompt, step, branch and place,
   written as one safetensors file. Numbers that the type cannot hold are refused here, so that no
   infinity ever gets into a store. */
#include <math.h>
#include <string.h>

#include "store/store.h"

fct_status fct_shard_init(fct_shard *s, fct_dtype dtype, int64_t d, int64_t cap, bool has_meta)
{
    fct_status st = FCT_OK;
    int64_t n;
    *s = (fct_shard){.dtype = dtype, .d = d, .cap = cap, .has_meta = has_meta};
    FCT_TRY_OUT(fct_mul_i64(&n, d, cap));
    FCT_TRY_OUT(fct_new_raw(&s->rows, n, fct_dtype_bytes(dtype)));
    if (!has_meta) return FCT_OK;
    FCT_TRY_OUT(fct_new_raw(&s->prompt, cap, sizeof *s->prompt));
    FCT_TRY_OUT(fct_new_raw(&s->step, cap, sizeof *s->step));
    FCT_TRY_OUT(fct_new_raw(&s->branch, cap, sizeof *s->branch));
    FCT_TRY_OUT(fct_new_raw(&s->yx, cap, 2 * (int64_t)sizeof *s->yx));
    return FCT_OK;
out:
    fct_shard_clear(s);
    return st;
}

void fct_shard_clear(fct_shard *s)
{
    void *part[] = {s->rows, s->prompt, s->step, s->branch, s->yx};
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    *s = (fct_shard){0};
}

/* The least magnitude that rounds to infinity: half a unit beyond the largest number. */
static float limit_of(fct_dtype t)
{
    return t == FCT_F16 ? 65520.0f : t == FCT_BF16 ? 0x1.ffp127f : INFINITY;
}

FCT_CLONES static bool all_below(const float *x, int64_t n, float limit)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= !(fabsf(x[i]) < limit);
    return !bad;
}

fct_status fct_shard_put(fct_shard *s, int64_t at, const float *rows, int64_t n)
{
    float limit = limit_of(s->dtype);
    if (at < 0 || n < 0 || at + n > s->cap)
        return fct_fail(FCT_ERR_INTERNAL, "rows %lld to %lld do not fit a shard", (long long)at,
                        (long long)(at + n));
    if (!all_below(rows, n * s->d, limit))
        for (int64_t i = 0; i < n * s->d; i++)
            if (!(fabsf(rows[i]) < limit))
                return fct_fail(FCT_ERR_RANGE, "%s cannot hold %g%s", fct_dtype_name(s->dtype),
                                (double)rows[i],
                                isfinite(rows[i]) ? ": choose another --store-dtype" : "");
    return fct_convert(s->rows + at * s->d * fct_dtype_bytes(s->dtype), s->dtype, rows, FCT_F32,
                       n * s->d);
}

fct_status fct_shard_write(const fct_shard *s, const char *path)
{
    char name[5][8] = {"rows", "prompt", "step", "branch", "yx"};
    const fct_st_entry entry[5] = {
        {name[0], fct_tensor_of(s->rows, s->dtype, 2, (int64_t[]){s->n, s->d})},
        {name[1], fct_tensor_of(s->prompt, FCT_I32, 1, &s->n)},
        {name[2], fct_tensor_of(s->step, FCT_I16, 1, &s->n)},
        {name[3], fct_tensor_of(s->branch, FCT_U8, 1, &s->n)},
        {name[4], fct_tensor_of(s->yx, FCT_I16, 2, (int64_t[]){s->n, 2})},
    };
    return fct_st_write(path, entry, s->has_meta ? 5 : 1, NULL);
}

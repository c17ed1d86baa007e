/* pass.c - takes the tensors of one pass through a network from its arena, and views of them that
   share their memory. */
#include "model/net/net.h"

fct_status fct_rt_take(fct_rt *rt, fct_tensor *out, fct_dtype dtype, int ndim, const int64_t *dim)
{
    *out = fct_tensor_of(NULL, dtype, ndim, dim);
    return fct_arena_take(rt->cx.arena, &out->data, fct_tensor_count(out), fct_dtype_bytes(dtype));
}

fct_status fct_rt_write(fct_rt *rt, const fct_tensor *to, const void *from)
{
    return to->data ? fct_rt_device(rt)->write(to->data, from, fct_tensor_bytes(to)) : FCT_OK;
}

fct_status fct_rt_bring(fct_rt *rt, fct_tensor *out, const fct_tensor *host)
{
    *out = *host;
    if (fct_rt_device(rt)->is_host) return FCT_OK;
    FCT_TRY(fct_rt_take(rt, out, host->dtype, host->ndim, host->dim));
    return fct_rt_write(rt, out, host->data);
}

fct_status fct_copy_run(fct_rt *rt, fct_tensor x, fct_tensor y)
{
    return fct_op_unary(&rt->cx, &(fct_unary_args){.x = x, .y = y});
}

fct_tensor fct_as_tokens(const fct_tensor *map)
{
    if (map->ndim != 4) return *map;
    return fct_tensor_of(map->data, map->dtype, 3,
                         (int64_t[]){map->dim[0], map->dim[1] * map->dim[2], map->dim[3]});
}

fct_tensor fct_at(const fct_tensor *t, int64_t offset)
{
    fct_tensor part = *t;
    if (t->data) part.data = (uint8_t *)t->data + offset * fct_dtype_bytes(t->dtype);
    return part;
}

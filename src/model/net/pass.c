/* pass.c - takes the tensors of one pass through a network from its arena, and views of them that
   share their memory. */
#include "model/net/net.h"

fct_status fct_rt_take(fct_rt *rt, fct_tensor *out, fct_dtype dtype, int ndim, const int64_t *dim)
{
    *out = fct_tensor_of(NULL, dtype, ndim, dim);
    return fct_arena_take(rt->cx.arena, &out->data, fct_tensor_count(out), fct_dtype_bytes(dtype));
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

/* staged.c - runs an SAE's operations for rows and codes that lie in host memory, on whatever
   device computes: where its memory is not the host's, weights are copied there once and kept,
   rows and codes travel with each call. */
#include <string.h>

#include "sae/sae.h"

/* Room of the device's memory, filled from the host's. NULL host: it is only written to. */
static fct_status stage(fct_sae_engine *e, fct_sae_stage which, void *out_ptr, const void *host,
                        int64_t n, int64_t size)
{
    const fct_device *device = e->cx.be->device;
    struct fct_sae_staged *s = &e->staged[which];
    int64_t bytes;
    FCT_TRY(fct_mul_i64(&bytes, n, size));
    if (s->bytes < bytes) {
        fct_device_release(device, s->data);
        s->bytes = 0;
        FCT_TRY(fct_device_take(device, &s->data, bytes, 1));
        s->bytes = bytes;
    }
    memcpy(out_ptr, &s->data, sizeof s->data);
    return host ? device->write(s->data, host, bytes) : FCT_OK;
}

static fct_status mirror(fct_sae_engine *e, const float **out, const float *host, int64_t n)
{
    int i = 0;
    *out = NULL;
    if (!host) return FCT_OK;
    while (i < FCT_SAE_MIRRORS - 1 && e->mirrored[i] && e->mirrored[i] != host) i++;
    if (e->mirrored[i] != host) {
        fct_mirror_clear(e->cx.be->device, &e->mirror[i]);
        e->mirrored[i] = NULL;
        FCT_TRY(fct_mirror_init(&e->mirror[i], e->cx.be->device, host, n));
        e->mirrored[i] = host;
    }
    *out = e->mirror[i].data;
    return FCT_OK;
}

void fct_sae_staged_clear(fct_sae_engine *e)
{
    if (!e->cx.be) return;
    for (int i = 0; i < FCT_SAE_STAGES; i++)
        fct_device_release(e->cx.be->device, e->staged[i].data);
    for (int i = 0; i < FCT_SAE_MIRRORS; i++) fct_mirror_clear(e->cx.be->device, &e->mirror[i]);
}

fct_status fct_sae_matmul(fct_sae_engine *e, const fct_matmul_args *a)
{
    const fct_device *device = e->cx.be->device;
    fct_matmul_args there = *a;
    const int64_t size = sizeof(float);
    if (device->is_host) return fct_op_matmul(&e->cx, a);
    FCT_TRY(stage(e, FCT_SAE_STAGE_IN, &there.a, a->a, a->m * a->k, size));
    FCT_TRY(stage(e, FCT_SAE_STAGE_OUT, &there.c, a->beta != 0 ? a->c : NULL, a->m * a->n, size));
    FCT_TRY(mirror(e, &there.b, a->b, a->n * a->k));
    FCT_TRY(fct_op_matmul(&e->cx, &there));
    return device->read(a->c, there.c, a->m * a->n * size);
}

fct_status fct_sae_topk(fct_sae_engine *e, const fct_topk_args *a)
{
    const fct_device *device = e->cx.be->device;
    fct_topk_args there = *a;
    const int64_t size = sizeof(float), codes = a->rows * a->k;
    if (device->is_host) return fct_op_topk(&e->cx, a);
    FCT_TRY(stage(e, FCT_SAE_STAGE_IN, &there.x, a->x, a->rows * a->n, size));
    FCT_TRY(stage(e, FCT_SAE_STAGE_INDEX, &there.index, NULL, codes, sizeof *a->index));
    FCT_TRY(stage(e, FCT_SAE_STAGE_VALUE, &there.value, NULL, codes, size));
    FCT_TRY(fct_op_topk(&e->cx, &there));
    FCT_TRY(device->read(a->index, there.index, codes * (int64_t)sizeof *a->index));
    return device->read(a->value, there.value, codes * size);
}

fct_status fct_sae_sparse_decode(fct_sae_engine *e, const fct_sparse_decode_args *a, int64_t f)
{
    const fct_device *device = e->cx.be->device;
    fct_sparse_decode_args there = *a;
    const int64_t size = sizeof(float), codes = a->rows * a->k;
    if (device->is_host) return fct_op_sparse_decode(&e->cx, a);
    FCT_TRY(stage(e, FCT_SAE_STAGE_INDEX, &there.index, a->index, codes, sizeof *a->index));
    FCT_TRY(stage(e, FCT_SAE_STAGE_VALUE, &there.value, a->value, codes, size));
    FCT_TRY(stage(e, FCT_SAE_STAGE_OUT, &there.y, NULL, a->rows * a->d, size));
    FCT_TRY(mirror(e, &there.table, a->table, f * a->d));
    FCT_TRY(mirror(e, &there.bias, a->bias, a->d));
    FCT_TRY(fct_op_sparse_decode(&e->cx, &there));
    return device->read(a->y, there.y, a->rows * a->d * size);
}

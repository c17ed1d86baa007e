/* device.c - takes, releases and copies a device's memory, and defines the device whose memory is
   the host's own. */
#include "compute/device.h"

#include <string.h>

/* ---- the host ---- */

static fct_status host_take(void *out_ptr, int64_t bytes)
{
    return fct_new_raw(out_ptr, bytes, 1);
}

static fct_status host_copy(void *to, const void *from, int64_t bytes)
{
    if (bytes > 0) memcpy(to, from, (size_t)bytes);
    return FCT_OK;
}

const fct_device fct_device_host = {.name = "host",
                                    .is_host = true,
                                    .take = host_take,
                                    .release = fct_free,
                                    .write = host_copy,
                                    .read = host_copy};

/* ---- any device ---- */

fct_status fct_device_take(const fct_device *d, void *out_ptr, int64_t n, int64_t size)
{
    int64_t bytes;
    void *none = NULL;
    memcpy(out_ptr, &none, sizeof none);
    FCT_TRY(fct_mul_i64(&bytes, n, size));
    return d->take(out_ptr, bytes);
}

void fct_device_release(const fct_device *d, void *p)
{
    if (p) d->release(p);
}

fct_status fct_device_arena_init(const fct_device *d, fct_arena *a, int64_t bytes)
{
    *a = (fct_arena){0};
    if (bytes < 1) bytes = 1;
    FCT_TRY(d->take(&a->base, bytes));
    a->size = bytes;
    return FCT_OK;
}

void fct_device_arena_clear(const fct_device *d, fct_arena *a)
{
    fct_device_release(d, a->base);
    *a = (fct_arena){0};
}

/* ---- mapping ---- */

fct_status fct_map_open(fct_map *out, const fct_device *d, const fct_tensor *t, fct_map_mode mode)
{
    *out = (fct_map){.data = t->data, .device = d, .t = *t, .mode = mode};
    if (d->is_host || !t->data) return FCT_OK;
    out->data = NULL;
    FCT_TRY(fct_new_raw(&out->data, fct_tensor_bytes(t), 1));
    if (mode == FCT_MAP_WRITE) return FCT_OK;
    fct_status st = d->read(out->data, t->data, fct_tensor_bytes(t));
    if (st != FCT_OK) fct_map_drop(out);
    return st;
}

fct_status fct_map_close(fct_map *m)
{
    fct_status st = FCT_OK;
    bool copied = m->data && m->data != m->t.data;
    if (copied && m->mode != FCT_MAP_READ)
        st = m->device->write(m->t.data, m->data, fct_tensor_bytes(&m->t));
    fct_map_drop(m);
    return st;
}

void fct_map_drop(fct_map *m)
{
    if (m->data != m->t.data) fct_free(m->data);
    *m = (fct_map){0};
}

fct_status fct_tensor_read(fct_tensor *out, const fct_device *d, const fct_tensor *t)
{
    *out = *t;
    FCT_TRY(fct_new_raw(&out->data, fct_tensor_bytes(t), 1));
    fct_status st = t->data ? d->read(out->data, t->data, fct_tensor_bytes(t)) : FCT_OK;
    if (st == FCT_OK) return st;
    fct_free(out->data);
    out->data = NULL;
    return st;
}

/* ---- mirrors ---- */

fct_status fct_mirror_init(fct_mirror *out, const fct_device *d, const float *numbers, int64_t n)
{
    *out = (fct_mirror){.data = numbers};
    if (d->is_host || !numbers) return FCT_OK;
    out->data = NULL;
    FCT_TRY(fct_device_take(d, &out->owned, n, sizeof *numbers));
    fct_status st = d->write(out->owned, numbers, n * (int64_t)sizeof *numbers);
    out->data = out->owned;
    if (st != FCT_OK) fct_mirror_clear(d, out);
    return st;
}

void fct_mirror_clear(const fct_device *d, fct_mirror *m)
{
    fct_device_release(d, m->owned);
    *m = (fct_mirror){0};
}

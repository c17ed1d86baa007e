/* safetensors_write.c - writes safetensors, atomically and with the same bytes for the same input.
   Tensors of wider types come first in the data (stable otherwise), so that each lies at a multiple
   of its element size, which readers rely on. */
#include <inttypes.h>
#include <string.h>

#include "tensor/tensor.h"

/* Indices in the order in which the data are laid out. */
static void order_by_width(int64_t *order, const fct_tensor_entry *entry, int64_t n)
{
    int64_t at = 0;
    for (int64_t width = 8; width >= 1; width /= 2)
        for (int64_t i = 0; i < n; i++)
            if (fct_dtype_bytes(entry[i].t.dtype) == width) order[at++] = i;
}

static fct_status put_metadata(json_t *header, const char *const *metadata)
{
    json_t *m = json_object();
    if (json_object_set_new(header, "__metadata__", m) != 0 ||
        json_object_set_new(m, "format", json_string("pt")) != 0)
        return fct_fail(FCT_ERR_MEMORY, "out of memory while building the header");
    for (int64_t i = 0; metadata && metadata[i] && metadata[i + 1]; i += 2)
        if (json_object_set_new(m, metadata[i], json_string(metadata[i + 1])) != 0)
            return fct_fail(
                FCT_ERR_ARG,
                "metadata %s cannot be written: it is not valid UTF-8, or memory ran out",
                metadata[i]);
    return FCT_OK;
}

static fct_status put_entry(json_t *header, const fct_tensor_entry *e, int64_t *offset)
{
    static const char *const text[] = {
#define DTYPE_TEXT(name, bytes, text) text,
        FCT_DTYPE_LIST(DTYPE_TEXT)
#undef DTYPE_TEXT
    };
    if (!e->name || strcmp(e->name, "__metadata__") == 0 || json_object_get(header, e->name))
        return fct_fail(FCT_ERR_ARG, "tensor name %s is missing, reserved or used twice",
                        e->name ? e->name : "(none)");
    if ((unsigned)e->t.dtype >= FCT_DTYPE_COUNT)
        return fct_fail(FCT_ERR_ARG, "tensor %s has no known number format", e->name);
    int64_t bytes = fct_dtype_bytes(e->t.dtype), end;
    for (int i = 0; i < e->t.ndim; i++) FCT_TRY(fct_mul_i64(&bytes, bytes, e->t.dim[i]));
    FCT_TRY(fct_add_i64(&end, *offset, bytes));
    if (bytes > 0 && !e->t.data) return fct_fail(FCT_ERR_ARG, "tensor %s has no data", e->name);
    json_t *o = json_object(), *shape = json_array();
    bool fine = o && shape;
    for (int i = 0; i < e->t.ndim && fine; i++)
        fine = json_array_append_new(shape, json_integer(e->t.dim[i])) == 0;
    fine = json_object_set_new(o, "dtype", json_string(text[e->t.dtype])) == 0 && fine;
    fine = json_object_set_new(o, "shape", shape) == 0 && fine;
    fine = json_object_set_new(o, "data_offsets",
                               json_pack("[I,I]", (json_int_t)*offset, (json_int_t)end)) == 0 &&
           fine;
    if (json_object_set_new(header, e->name, o) != 0 || !fine)
        return fct_fail(
            FCT_ERR_ARG,
            "tensor %s cannot be written: its name is not valid UTF-8, or memory ran out", e->name);
    *offset = end;
    return FCT_OK;
}

static fct_status write_header(fct_out *o, const json_t *header)
{
    fct_str s = {0};
    uint8_t length[8];
    fct_status st = fct_json_text(&s, header, 0);
    while (st == FCT_OK && s.n % 8 != 0) st = fct_str_append(&s, " ");
    if (st == FCT_OK) {
        for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)s.n >> (8 * i));
        st = fct_out_write(o, length, 8);
    }
    if (st == FCT_OK) st = fct_out_write(o, s.p, s.n);
    fct_str_clear(&s);
    return st;
}

fct_status fct_safetensors_write(const char *path, const fct_tensor_entry *entry, int64_t n,
                                 const char *const *metadata)
{
    fct_status st = FCT_OK;
    fct_out o = {0};
    int64_t *order = NULL, offset = 0;
    json_t *header = json_object();
    if (!header) return fct_fail(FCT_ERR_MEMORY, "write %s: out of memory", path);
    FCT_TRY_OUT(fct_new(&order, n, (int64_t)sizeof *order));
    order_by_width(order, entry, n);
    FCT_TRY_OUT(put_metadata(header, metadata));
    for (int64_t i = 0; i < n; i++) FCT_TRY_OUT(put_entry(header, &entry[order[i]], &offset));
    FCT_TRY_OUT(fct_out_open(&o, path));
    FCT_TRY_OUT(write_header(&o, header));
    for (int64_t i = 0; i < n; i++) {
        const fct_tensor *t = &entry[order[i]].t;
        FCT_TRY_OUT(fct_out_write(&o, t->data, fct_tensor_bytes(t)));
    }
    st = fct_out_commit(&o);
out:
    fct_out_clear(&o);
    fct_free(order);
    json_decref(header);
    return st == FCT_OK || strstr(fct_error_text(), path) ? st : fct_where(st, "write %s", path);
}

/* safetensors.c - reads safetensors by mapping, with every rule of the format checked before a byte
   of a tensor is used.

   u64 length N, N bytes of JSON {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {text:
   text}}, then the data: no holes, no overlap, nothing left over. A tensor that lies at an odd
   address (files written by other programs) is copied to an aligned one, since C may not read it
   where it is. Writing is safetensors_write.c. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/tensor.h"

enum { MAX_HEADER = 100000000 };

typedef struct span {
    int64_t begin, end, index;
} span;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const fct_tensor_entry *)a)->name, ((const fct_tensor_entry *)b)->name);
}

static int by_begin(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static fct_status check_metadata(const json_t *metadata, const char *file)
{
    if (!json_is_object(metadata))
        return fct_fail(FCT_ERR_FORMAT, "%s: __metadata__ is not an object", file);
    json_t *o;
    memcpy(&o, &metadata, sizeof o); /* jansson iterates over non-const objects only */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it))
        if (!json_is_string(json_object_iter_value(it)))
            return fct_fail(FCT_ERR_FORMAT, "%s: __metadata__: %s: want a text", file,
                            json_object_iter_key(it));
    return FCT_OK;
}

static fct_status read_shape(fct_tensor *t, const json_t *shape, const char *file, const char *name)
{
    size_t ndim = json_array_size(shape);
    if (!json_is_array(shape))
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: shape is not a list", file, name);
    if (ndim > FCT_MAX_DIMS)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s has %zu dimensions, facet handles up to %d",
                        file, name, ndim, FCT_MAX_DIMS);
    for (size_t i = 0; i < ndim; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return fct_fail(FCT_ERR_FORMAT, "%s: %s: shape holds something that is not a size",
                            file, name);
        t->dim[i] = json_integer_value(d);
    }
    t->ndim = (int)ndim;
    return FCT_OK;
}

static fct_status read_dtype(fct_tensor *t, const json_t *dtype, const char *file, const char *name)
{
    if (!json_is_string(dtype))
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: dtype is not a text", file, name);
    if (fct_dtype_find(&t->dtype, json_string_value(dtype)) != FCT_OK)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s: facet does not read the number format %s",
                        file, name, json_string_value(dtype));
    return FCT_OK;
}

static fct_status read_offsets(span *s, const json_t *offsets, int64_t size, const char *file,
                               const char *name)
{
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: data_offsets is not a pair of numbers", file,
                        name);
    s->begin = json_integer_value(b);
    s->end = json_integer_value(e);
    if (s->begin < 0 || s->end < s->begin)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: %s: data_offsets %" PRId64 " to %" PRId64 " are not a range", file,
                        name, s->begin, s->end);
    if (s->end > size)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: %s needs %" PRId64 " bytes of data, the file has %" PRId64
                        ": it is cut short or damaged",
                        file, name, s->end, size);
    return FCT_OK;
}

static fct_status read_entry(fct_tensor *t, span *s, const json_t *v, int64_t size,
                             const char *file, const char *name)
{
    int64_t bytes;
    if (!json_is_object(v)) return fct_fail(FCT_ERR_FORMAT, "%s: %s: want an object", file, name);
    FCT_TRY(read_dtype(t, json_object_get(v, "dtype"), file, name));
    FCT_TRY(read_shape(t, json_object_get(v, "shape"), file, name));
    FCT_TRY(read_offsets(s, json_object_get(v, "data_offsets"), size, file, name));
    bytes = fct_dtype_bytes(t->dtype);
    for (int i = 0; i < t->ndim; i++) {
        fct_status st = fct_mul_i64(&bytes, bytes, t->dim[i]);
        if (st != FCT_OK)
            return fct_fail(FCT_ERR_RANGE, "%s: %s: the shape is impossibly large", file, name);
    }
    if (bytes != s->end - s->begin) {
        char shape[160];
        fct_shape_text(shape, sizeof shape, t);
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: %s: %s %s takes %" PRId64 " bytes, data_offsets give %" PRId64, file,
                        name, fct_dtype_name(t->dtype), shape, bytes, s->end - s->begin);
    }
    return FCT_OK;
}

static fct_status check_cover(const span *s, int64_t n, int64_t size, const fct_safetensors *out)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        if (s[i].begin != at)
            return fct_fail(FCT_ERR_FORMAT,
                            "%s: %s begins at byte %" PRId64 " of the data, want %" PRId64
                            ": tensors must follow each other without holes or overlap",
                            out->path, out->entry[s[i].index].name, s[i].begin, at);
        at = s[i].end;
    }
    if (at != size)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: %" PRId64 " bytes after the last tensor belong to none", out->path,
                        size - at);
    return FCT_OK;
}

/* The tensor's place in the file, or an aligned copy of it. */
static fct_status place(fct_safetensors *out, fct_tensor *t, const uint8_t *p, int64_t bytes)
{
    if (bytes == 0) return FCT_OK;
    if ((uintptr_t)p % (uintptr_t)fct_dtype_bytes(t->dtype) == 0) {
        /* The map is read-only: writing there faults, as it should. */
        memcpy(&t->data, &p, sizeof p);
        return FCT_OK;
    }
    if (!out->copy) FCT_TRY(fct_new(&out->copy, out->n, (int64_t)sizeof *out->copy));
    FCT_TRY(fct_new_raw(&out->copy[out->n_copy], bytes, 1));
    t->data = out->copy[out->n_copy++];
    memcpy(t->data, p, (size_t)bytes);
    return FCT_OK;
}

static fct_status read_entries(fct_safetensors *out, const json_t *header, const uint8_t *data,
                               int64_t size)
{
    fct_status st = FCT_OK;
    span *spans = NULL;
    json_t *o;
    memcpy(&o, &header, sizeof o);
    int64_t n = (int64_t)json_object_size(header);
    FCT_TRY_OUT(fct_new(&out->entry, n, (int64_t)sizeof *out->entry));
    FCT_TRY_OUT(fct_new(&spans, n, (int64_t)sizeof *spans));
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *name = json_object_iter_key(it);
        json_t *v = json_object_iter_value(it);
        if (strcmp(name, "__metadata__") == 0) {
            FCT_TRY_OUT(check_metadata(v, out->path));
            out->metadata = json_incref(v);
            continue;
        }
        fct_tensor_entry *e = &out->entry[out->n];
        FCT_TRY_OUT(read_entry(&e->t, &spans[out->n], v, size, out->path, name));
        FCT_TRY_OUT(fct_strdup(&e->name, name));
        spans[out->n].index = out->n;
        out->n++;
    }
    qsort(spans, (size_t)out->n, sizeof *spans, by_begin);
    FCT_TRY_OUT(check_cover(spans, out->n, size, out));
    for (int64_t i = 0; i < out->n; i++)
        FCT_TRY_OUT(place(out, &out->entry[spans[i].index].t, data + spans[i].begin,
                          spans[i].end - spans[i].begin));
    qsort(out->entry, (size_t)out->n, sizeof *out->entry, by_name);
out:
    fct_free(spans);
    return st;
}

static bool is_lfs_pointer(const uint8_t *data, int64_t n)
{
    static const char start[] = "version https://git-lfs";
    return n >= (int64_t)sizeof start - 1 && memcmp(data, start, sizeof start - 1) == 0;
}

fct_status fct_safetensors_parse(fct_safetensors *out, const uint8_t *data, int64_t n,
                                 const char *name)
{
    fct_status st = FCT_OK;
    json_t *header = NULL;
    *out = (fct_safetensors){0};
    FCT_TRY(fct_strdup(&out->path, name));
    if (is_lfs_pointer(data, n)) {
        st = fct_fail(
            FCT_ERR_FORMAT,
            "%s: this is a Git LFS pointer, not the file itself: get it with `git lfs pull`", name);
        goto out;
    }
    uint64_t length = 0;
    for (int i = 0; i < 8 && n >= 8; i++) length |= (uint64_t)data[i] << (8 * i);
    if (n < 8 || length > MAX_HEADER || (int64_t)length > n - 8) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: not a safetensors file, or cut short: %s", name,
                      n < 8 ? "it has no room for a header"
                            : "its header would end beyond the file");
        goto out;
    }
    if (length == 0 || data[8] != '{') {
        st = fct_fail(FCT_ERR_FORMAT,
                      "%s: not a safetensors file: its header does not start with {", name);
        goto out;
    }
    FCT_TRY_OUT(fct_json_parse(&header, (const char *)data + 8, (int64_t)length, name));
    st = read_entries(out, header, data + 8 + length, n - 8 - (int64_t)length);
out:
    json_decref(header);
    if (st != FCT_OK) fct_safetensors_close(out);
    return st;
}

fct_status fct_safetensors_open(fct_safetensors *out, const char *path)
{
    fct_file file = {0};
    *out = (fct_safetensors){0};
    FCT_TRY(fct_file_map(&file, path));
    fct_status st = fct_safetensors_parse(out, file.data, file.size, path);
    if (st == FCT_OK)
        out->file = file;
    else
        fct_file_unmap(&file);
    return st;
}

void fct_safetensors_close(fct_safetensors *s)
{
    json_decref(s->metadata);
    for (int64_t i = 0; i < s->n; i++) fct_free(s->entry[i].name);
    fct_free(s->entry);
    for (int64_t i = 0; i < s->n_copy; i++) fct_free(s->copy[i]);
    fct_free(s->copy);
    fct_free(s->path);
    fct_file_unmap(&s->file);
    *s = (fct_safetensors){0};
}

const fct_tensor *fct_safetensors_find(const fct_safetensors *s, const char *name)
{
    int64_t lo = 0, hi = s->n;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        int order = strcmp(s->entry[mid].name, name);
        if (order == 0) return &s->entry[mid].t;
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

fct_status fct_safetensors_rows(fct_tensor *out, const fct_safetensors *s, const char *name)
{
    const fct_tensor *t = fct_safetensors_find(s, name ? name : "rows");
    if (name && !t) return fct_fail(FCT_ERR_MISSING, "%s: no tensor %s", s->path, name);
    bool found = t && (name || t->ndim == 2);
    for (int64_t i = 0; !found && i < s->n; i++) {
        if (s->entry[i].t.ndim != 2) continue;
        if (t && t->ndim == 2)
            return fct_fail(FCT_ERR_ARG, "%s: several 2-D tensors: name one with --tensor",
                            s->path);
        t = &s->entry[i].t;
    }
    if (!t || (!name && t->ndim != 2))
        return fct_fail(FCT_ERR_MISSING, "%s: no 2-D tensor in it", s->path);
    *out = *t;
    return FCT_OK;
}

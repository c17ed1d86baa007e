/* pth_write.c - writes state dicts that torch.load(weights_only=True) reads: a zip with every entry
   stored, data at multiples of 64 bytes as torch places them (mmap=True works), the same bytes for
   the same input. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "tensor/tensor.h"

enum { ALIGNMENT = 64 };

static const struct {
    fct_dtype dtype;
    const char *storage;
} torch_storage[] = {{FCT_F32, "FloatStorage"},     {FCT_F16, "HalfStorage"},
                     {FCT_BF16, "BFloat16Storage"}, {FCT_F64, "DoubleStorage"},
                     {FCT_BOOL, "BoolStorage"},     {FCT_U8, "ByteStorage"},
                     {FCT_I8, "CharStorage"},       {FCT_I16, "ShortStorage"},
                     {FCT_I32, "IntStorage"},       {FCT_I64, "LongStorage"}};

/* ---- pickle ---- */

static fct_status put_le(fct_str *s, uint64_t v, int bytes)
{
    char b[8];
    for (int i = 0; i < bytes; i++) b[i] = (char)(uint8_t)(v >> (8 * i));
    return fct_str_append_n(s, b, bytes);
}

static fct_status put_text(fct_str *s, const char *text)
{
    FCT_TRY(fct_str_append(s, "X"));
    FCT_TRY(put_le(s, strlen(text), 4));
    return fct_str_append(s, text);
}

static fct_status put_int(fct_str *s, int64_t v)
{
    if (v >= 0 && v < 256) {
        FCT_TRY(fct_str_append(s, "K"));
        return put_le(s, (uint64_t)v, 1);
    }
    if (v >= 0 && v <= INT32_MAX) {
        FCT_TRY(fct_str_append(s, "J"));
        return put_le(s, (uint64_t)v, 4);
    }
    FCT_TRY(fct_str_append_n(s, "\x8a\x08", 2));
    return put_le(s, (uint64_t)v, 8);
}

static fct_status put_tuple(fct_str *s, const int64_t *v, int n)
{
    FCT_TRY(fct_str_append(s, "("));
    for (int i = 0; i < n; i++) FCT_TRY(put_int(s, v[i]));
    return fct_str_append(s, "t");
}

static fct_status put_tensor(fct_str *s, const fct_tensor *t, int64_t key, bool column_major)
{
    const char *storage = NULL;
    int64_t stride[FCT_MAX_DIMS] = {0}, step = 1;
    for (size_t i = 0; i < FCT_COUNT(torch_storage); i++)
        if (torch_storage[i].dtype == t->dtype) storage = torch_storage[i].storage;
    if (!storage)
        return fct_fail(FCT_ERR_UNSUPPORTED, "torch's files have no %s", fct_dtype_name(t->dtype));
    for (int i = t->ndim; i > 0; i--) {
        stride[i - 1] = step;
        step *= t->dim[i - 1] > 1 ? t->dim[i - 1] : 1;
    }
    if (column_major) {
        stride[0] = 1;
        stride[1] = t->dim[0];
    }
    FCT_TRY(fct_str_append(s, "ctorch._utils\n_rebuild_tensor_v2\n(("));
    FCT_TRY(put_text(s, "storage"));
    FCT_TRY(fct_str_printf(s, "ctorch\n%s\n", storage));
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, key);
    FCT_TRY(put_text(s, digits));
    FCT_TRY(put_text(s, "cpu"));
    FCT_TRY(put_int(s, fct_tensor_count(t)));
    FCT_TRY(fct_str_append(s, "tQK"));
    FCT_TRY(put_le(s, 0, 1));
    FCT_TRY(put_tuple(s, t->dim, t->ndim));
    FCT_TRY(put_tuple(s, stride, t->ndim));
    return fct_str_append(s, "\x89"
                             "ccollections\nOrderedDict\n)RtR");
}

/* One value, or, as members of one dictionary, all that follow with the same name before the dot;
   *i moves past them. */
static fct_status put_values(fct_str *s, const fct_pth_write_desc *d, int64_t *i)
{
    char outer[64];
    const char *dot = strchr(d->value[*i].name, '.');
    if (!dot) {
        const fct_pth_value *v = &d->value[(*i)++];
        FCT_TRY(put_text(s, v->name));
        return v->text ? put_text(s, v->text) : put_int(s, v->i);
    }
    size_t n = (size_t)(dot - d->value[*i].name);
    if (n >= sizeof outer) return fct_fail(FCT_ERR_ARG, "%s: too long a name", d->value[*i].name);
    memcpy(outer, d->value[*i].name, n);
    outer[n] = '\0';
    FCT_TRY(put_text(s, outer));
    FCT_TRY(fct_str_append(s, "}("));
    for (; *i < d->n_values && strncmp(d->value[*i].name, outer, n) == 0 &&
           d->value[*i].name[n] == '.';
         (*i)++) {
        const fct_pth_value *v = &d->value[*i];
        FCT_TRY(put_text(s, v->name + n + 1));
        FCT_TRY(v->text ? put_text(s, v->text) : put_int(s, v->i));
    }
    return fct_str_append(s, "u");
}

static fct_status put_pickle(fct_str *s, const fct_pth_write_desc *d)
{
    bool bare = !d->nest && d->n == 1 && d->entry[0].name[0] == '\0';
    FCT_TRY(fct_str_append_n(s, "\x80\x02", 2));
    if (d->nest) {
        FCT_TRY(fct_str_append(s, "}"));
        FCT_TRY(put_text(s, d->nest));
    }
    if (!bare) FCT_TRY(fct_str_append(s, "ccollections\nOrderedDict\n)R("));
    for (int64_t i = 0; i < d->n; i++) {
        if (!bare) FCT_TRY(put_text(s, d->entry[i].name));
        FCT_TRY(put_tensor(s, &d->entry[i].t, i, d->column_major && d->column_major[i]));
    }
    for (int64_t i = 0; i < d->n_values && !bare;) FCT_TRY(put_values(s, d, &i));
    if (!bare) FCT_TRY(fct_str_append(s, "u"));
    return fct_str_append(s, d->nest ? "s." : ".");
}

/* ---- zip ---- */

typedef struct zip_writer {
    fct_out *out;
    fct_str directory; /* central directory, written last */
    int64_t n;
} zip_writer;

/* Local header and central record share these thirteen fields.
   Names are ASCII; the date is 1980-01-01. */
static fct_status put_common(fct_str *s, uint32_t crc, int64_t n, size_t n_name, int64_t n_extra)
{
    FCT_TRY(put_le(s, 0, 2));      /* version needed */
    FCT_TRY(put_le(s, 0x0800, 2)); /* names are UTF-8 */
    FCT_TRY(put_le(s, 0, 2));      /* stored */
    FCT_TRY(put_le(s, 0, 2));      /* time */
    FCT_TRY(put_le(s, 0x21, 2));   /* date */
    FCT_TRY(put_le(s, crc, 4));
    FCT_TRY(put_le(s, (uint64_t)n, 4));
    FCT_TRY(put_le(s, (uint64_t)n, 4));
    FCT_TRY(put_le(s, n_name, 2));
    return put_le(s, (uint64_t)n_extra, 2);
}

static fct_status put_central(fct_str *s, const char *name, uint32_t crc, int64_t n, int64_t offset)
{
    FCT_TRY(fct_str_append_n(s, "PK\1\2\0\0", 6));
    FCT_TRY(put_common(s, crc, n, strlen(name), 0));
    FCT_TRY(put_le(s, 0, 2)); /* comment */
    FCT_TRY(put_le(s, 0, 2)); /* disk */
    FCT_TRY(put_le(s, 0, 2)); /* internal attributes */
    FCT_TRY(put_le(s, 0, 4)); /* external attributes */
    FCT_TRY(put_le(s, (uint64_t)offset, 4));
    return fct_str_append(s, name);
}

static uint32_t crc_of(const void *data, int64_t n)
{
    uLong crc = crc32(0, NULL, 0);
    const uint8_t *p = data;
    for (int64_t at = 0; at < n;) {
        int64_t m = n - at < 1 << 30 ? n - at : 1 << 30;
        crc = crc32(crc, p + at, (uInt)m);
        at += m;
    }
    return (uint32_t)crc;
}

static fct_status put_entry(zip_writer *z, const char *name, const void *data, int64_t n)
{
    fct_str s = {0};
    int64_t offset = z->out->written, start = offset + 30 + (int64_t)strlen(name) + 4;
    int64_t pad = (ALIGNMENT - start % ALIGNMENT) % ALIGNMENT;
    uint32_t crc = crc_of(data, n);
    if (start + pad + n > UINT32_MAX)
        return fct_fail(
            FCT_ERR_UNSUPPORTED,
            "more than 4 GB: facet writes torch files up to that size, use safetensors");
    fct_status st = fct_str_append_n(&s, "PK\3\4", 4);
    if (st == FCT_OK) st = put_common(&s, crc, n, strlen(name), 4 + pad);
    if (st == FCT_OK) st = fct_str_append(&s, name);
    if (st == FCT_OK) st = fct_str_append(&s, "FB"); /* the padding field that torch uses */
    if (st == FCT_OK) st = put_le(&s, (uint64_t)pad, 2);
    for (int64_t i = 0; i < pad && st == FCT_OK; i++) st = fct_str_append(&s, "Z");
    if (st == FCT_OK) st = fct_out_write(z->out, s.p, s.n);
    if (st == FCT_OK) st = fct_out_write(z->out, data, n);
    if (st == FCT_OK) st = put_central(&z->directory, name, crc, n, offset);
    z->n++;
    fct_str_clear(&s);
    return st;
}

static fct_status put_end(zip_writer *z)
{
    fct_str s = {0};
    int64_t offset = z->out->written;
    if (z->n > UINT16_MAX)
        return fct_fail(FCT_ERR_UNSUPPORTED, "too many tensors for one torch file");
    fct_status st = fct_str_append_n(&s, "PK\5\6\0\0\0\0", 8);
    if (st == FCT_OK) st = put_le(&s, (uint64_t)z->n, 2);
    if (st == FCT_OK) st = put_le(&s, (uint64_t)z->n, 2);
    if (st == FCT_OK) st = put_le(&s, (uint64_t)z->directory.n, 4);
    if (st == FCT_OK) st = put_le(&s, (uint64_t)offset, 4);
    if (st == FCT_OK) st = put_le(&s, 0, 2);
    if (st == FCT_OK) st = fct_out_write(z->out, z->directory.p, z->directory.n);
    if (st == FCT_OK) st = fct_out_write(z->out, s.p, s.n);
    fct_str_clear(&s);
    return st;
}

static fct_status check(const fct_tensor_entry *entry, int64_t n, const char *nest,
                        const uint8_t *column_major)
{
    for (int64_t i = 0; i < n; i++) {
        const fct_tensor *t = &entry[i].t;
        if (!entry[i].name || (!entry[i].name[0] && (nest || n != 1)))
            return fct_fail(FCT_ERR_ARG, "a tensor without a name");
        if (column_major && column_major[i] && t->ndim != 2)
            return fct_fail(FCT_ERR_ARG, "%s: only a matrix can be stored transposed",
                            entry[i].name);
        if (fct_tensor_bytes(t) > 0 && !t->data)
            return fct_fail(FCT_ERR_ARG, "%s has no data", entry[i].name);
    }
    return FCT_OK;
}

fct_status fct_pth_write(const char *path, const fct_tensor_entry *entry, int64_t n,
                         const char *nest, const uint8_t *column_major)
{
    return fct_pth_save(
        path,
        &(fct_pth_write_desc){.entry = entry, .n = n, .nest = nest, .column_major = column_major});
}

fct_status fct_pth_save(const char *path, const fct_pth_write_desc *d)
{
    const fct_tensor_entry *entry = d->entry;
    int64_t n = d->n;
    fct_status st = FCT_OK;
    fct_out out = {0};
    fct_str pickle = {0};
    zip_writer z = {.out = &out};
    FCT_TRY_OUT(check(entry, n, d->nest, d->column_major));
    FCT_TRY_OUT(put_pickle(&pickle, d));
    FCT_TRY_OUT(fct_out_open(&out, path));
    FCT_TRY_OUT(put_entry(&z, "archive/data.pkl", pickle.p, pickle.n));
    FCT_TRY_OUT(put_entry(&z, "archive/byteorder", "little", 6));
    for (int64_t i = 0; i < n; i++) {
        char name[48];
        snprintf(name, sizeof name, "archive/data/%" PRId64, i);
        FCT_TRY_OUT(put_entry(&z, name, entry[i].t.data, fct_tensor_bytes(&entry[i].t)));
    }
    FCT_TRY_OUT(put_entry(&z, "archive/version", "3\n", 2));
    FCT_TRY_OUT(put_end(&z));
    st = fct_out_commit(&out);
out:
    fct_out_clear(&out);
    fct_str_clear(&pickle);
    fct_str_clear(&z.directory);
    return st == FCT_OK || strstr(fct_error_text(), path) ? st : fct_where(st, "write %s", path);
}

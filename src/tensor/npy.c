/* npy.c - reads NumPy's .npy, versions 1 to 3: a header that is a Python dictionary literal, then
   plain data. Read by mapping. C order and little endian only; anything else (Python objects above
   all) is refused by name. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/tensor.h"

static const struct {
    const char *descr;
    fct_dtype dtype;
} npy_type[] = {{"<f4", FCT_F32}, {"<f2", FCT_F16}, {"<f8", FCT_F64}, {"|b1", FCT_BOOL},
                {"|u1", FCT_U8},  {"|i1", FCT_I8},  {"<i2", FCT_I16}, {"<u2", FCT_U16},
                {"<i4", FCT_I32}, {"<u4", FCT_U32}, {"<i8", FCT_I64}, {"<u8", FCT_U64}};

typedef struct cursor {
    const char *p, *end;
    const char *name; /* of the file */
} cursor;

static fct_status malformed(const cursor *c, const char *what)
{
    return fct_fail(FCT_ERR_FORMAT, "%s: not a valid .npy header: %s", c->name, what);
}

static void skip_space(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t')) c->p++;
}

static bool take(cursor *c, char ch)
{
    skip_space(c);
    if (c->p >= c->end || *c->p != ch) return false;
    c->p++;
    return true;
}

static bool take_word(cursor *c, const char *word)
{
    size_t n = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0) return false;
    c->p += n;
    return true;
}

static fct_status read_text(cursor *c, char *text, size_t size)
{
    skip_space(c);
    if (c->p >= c->end || (*c->p != '\'' && *c->p != '"'))
        return malformed(c, "want a quoted text");
    char quote = *c->p++;
    size_t n = 0;
    while (c->p < c->end && *c->p != quote && n + 1 < size) text[n++] = *c->p++;
    text[n] = '\0';
    return take(c, quote) ? FCT_OK : malformed(c, "a text is too long or not closed");
}

static fct_status read_shape(cursor *c, fct_tensor *t)
{
    if (!take(c, '(')) return malformed(c, "shape is not a tuple");
    while (!take(c, ')')) {
        skip_space(c);
        int64_t v = 0;
        const char *start = c->p;
        while (c->p < c->end && *c->p >= '0' && *c->p <= '9' && v < INT64_MAX / 10 - 10)
            v = v * 10 + (*c->p++ - '0');
        if (c->p == start) return malformed(c, "shape holds something that is not a size");
        if (c->p < c->end && *c->p == 'L') c->p++; /* Python 2 wrote such */
        if (t->ndim == FCT_MAX_DIMS)
            return fct_fail(FCT_ERR_UNSUPPORTED, "%s: more than %d dimensions", c->name,
                            FCT_MAX_DIMS);
        t->dim[t->ndim++] = v;
        if (take(c, ',')) continue;
        if (take(c, ')')) break;
        return malformed(c, "shape is not closed");
    }
    return FCT_OK;
}

static fct_status find_type(fct_dtype *out, const char *descr, const char *name)
{
    for (size_t i = 0; i < FCT_COUNT(npy_type); i++) {
        if (strcmp(descr + 1, npy_type[i].descr + 1) != 0) continue;
        bool bytes = npy_type[i].descr[0] == '|';
        if (descr[0] != npy_type[i].descr[0] && !(bytes && descr[0] == '<') && descr[0] != '=')
            continue;
        *out = npy_type[i].dtype;
        return FCT_OK;
    }
    return fct_fail(
        FCT_ERR_UNSUPPORTED,
        "%s: facet does not read the NumPy type %s (want little-endian numbers, such as <f4)", name,
        descr);
}

static fct_status read_header(cursor *c, fct_tensor *t)
{
    char key[32], descr[32] = "";
    bool have_order = false, have_shape = false, fortran = false;
    if (!take(c, '{')) return malformed(c, "it does not start with {");
    while (!take(c, '}')) {
        FCT_TRY(read_text(c, key, sizeof key));
        if (!take(c, ':')) return malformed(c, "want : after a key");
        if (strcmp(key, "descr") == 0) {
            skip_space(c);
            if (c->p < c->end && *c->p == '[')
                return fct_fail(FCT_ERR_UNSUPPORTED,
                                "%s: a record array; facet reads plain arrays only", c->name);
            FCT_TRY(read_text(c, descr, sizeof descr));
        } else if (strcmp(key, "fortran_order") == 0) {
            fortran = take_word(c, "True");
            if (!fortran && !take_word(c, "False"))
                return malformed(c, "fortran_order is not True or False");
            have_order = true;
        } else if (strcmp(key, "shape") == 0 && !have_shape) {
            FCT_TRY(read_shape(c, t));
            have_shape = true;
        } else {
            return malformed(c, "an unknown or repeated key");
        }
        if (!take(c, ',')) {
            if (!take(c, '}')) return malformed(c, "want , or }");
            break;
        }
    }
    if (!descr[0] || !have_order || !have_shape)
        return malformed(c, "descr, fortran_order or shape is missing");
    if (fortran && t->ndim > 1)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: Fortran order; save numpy.ascontiguousarray of it instead", c->name);
    return find_type(&t->dtype, descr, c->name);
}

fct_status fct_npy_parse(fct_npy *out, const uint8_t *data, int64_t n, const char *name)
{
    *out = (fct_npy){0};
    cursor c = {.name = name};
    if (n < 10 || memcmp(data, "\x93NUMPY", 6) != 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: not a .npy file", name);
    if (data[6] < 1 || data[6] > 3)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: .npy version %d is not known", name, data[6]);
    int64_t start = data[6] == 1 ? 10 : 12;
    if (n < start) return malformed(&c, "it is cut short");
    int64_t length = data[8] | (int64_t)data[9] << 8;
    if (data[6] > 1) length |= (int64_t)data[10] << 16 | (int64_t)data[11] << 24;
    if (length > n - start) return malformed(&c, "it is cut short");
    c.p = (const char *)data + start;
    c.end = c.p + length;
    fct_tensor t = {0};
    FCT_TRY(read_header(&c, &t));
    int64_t bytes = fct_dtype_bytes(t.dtype), at = start + length;
    for (int i = 0; i < t.ndim; i++)
        if (fct_mul_i64(&bytes, bytes, t.dim[i]) != FCT_OK)
            return fct_fail(FCT_ERR_RANGE, "%s: the shape is impossibly large", name);
    if (bytes != n - at)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: its shape needs %" PRId64 " bytes of data, the file has %" PRId64,
                        name, bytes, n - at);
    if ((uintptr_t)(data + at) % (uintptr_t)fct_dtype_bytes(t.dtype) != 0 && bytes > 0)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: its data are not aligned; save it again with NumPy", name);
    const uint8_t *p = bytes > 0 ? data + at : NULL;
    memcpy(&t.data, &p, sizeof p); /* read-only memory: writing there faults, as it should */
    out->t = t;
    return FCT_OK;
}

fct_status fct_npy_open(fct_npy *out, const char *path)
{
    fct_file file = {0};
    *out = (fct_npy){0};
    FCT_TRY(fct_file_map(&file, path));
    fct_status st = fct_npy_parse(out, file.data, file.size, path);
    if (st == FCT_OK)
        out->file = file;
    else
        fct_file_unmap(&file);
    return st;
}

void fct_npy_close(fct_npy *f)
{
    fct_file_unmap(&f->file);
    *f = (fct_npy){0};
}

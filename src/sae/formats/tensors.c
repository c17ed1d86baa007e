/* tensors.c - copies the tensors of an SAE's file to the parts of an SAE in memory and back, by a
   list of what the format calls each part and whether it keeps the transpose. Reading looks at
   everything before it takes anything, so that all that is missing is named at once. */
#include <math.h>
#include <string.h>

#include "sae/formats/formats.h"

/* ---- files ---- */

static const fct_tensor *find_st(const void *file, const char *name)
{
    return fct_safetensors_find(file, name);
}

static const fct_tensor *find_pth(const void *file, const char *name)
{
    return fct_pth_find(file, name);
}

fct_sae_tensors fct_sae_tensors_of_safetensors(const fct_safetensors *file)
{
    return (fct_sae_tensors){file->path, file, find_st};
}

fct_sae_tensors fct_sae_tensors_of_pth(const fct_pth *file, const char *path)
{
    return (fct_sae_tensors){path, file, find_pth};
}

const fct_tensor *fct_sae_tensors_find(const fct_sae_tensors *from, const char *name)
{
    return from->find(from->file, name);
}

/* ---- reading ---- */

/* The tensor's shape in the file. */
static fct_tensor shape_of(const fct_sae *s, const fct_sae_named_part *named)
{
    int64_t dim[2];
    int ndim = fct_sae_part_shape(s, named->part, dim);
    if (named->transposed) {
        int64_t first = dim[0];
        dim[0] = dim[1];
        dim[1] = first;
    }
    return fct_tensor_of(NULL, FCT_F32, ndim, dim);
}

static fct_status fail_shape(const char *path, const char *name, const fct_tensor *want,
                             const fct_tensor *have)
{
    char have_text[64], want_text[64];
    fct_shape_text(have_text, sizeof have_text, have);
    fct_shape_text(want_text, sizeof want_text, want);
    return fct_fail(FCT_ERR_SHAPE, "%s: %s: want %s, file has %s", path, name, want_text,
                    have_text);
}

static bool same_shape(const fct_tensor *a, const fct_tensor *b)
{
    bool same = a->ndim == b->ndim;
    for (int i = 0; same && i < a->ndim; i++) same = a->dim[i] == b->dim[i];
    return same;
}

fct_status fct_sae_check_parts(const fct_sae_tensors *from, const fct_sae_named_part *named, int n)
{
    fct_str missing = {0};
    fct_status st = FCT_OK;
    int count = 0;
    for (int i = 0; i < n && st == FCT_OK; i++)
        if (!fct_sae_tensors_find(from, named[i].name))
            st = fct_str_printf(&missing, "%s%s", count++ > 0 ? ", " : "", named[i].name);
    if (st == FCT_OK && count > 0)
        st = fct_fail(FCT_ERR_MISSING, "%s: no tensor%s %s", from->path, count > 1 ? "s" : "",
                      missing.p);
    fct_str_clear(&missing);
    return st;
}

fct_status fct_sae_take_floats(float *out, const char *path, const char *name, const fct_tensor *t)
{
    int64_t n = fct_tensor_count(t);
    if (t->dtype > FCT_F64)
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: want floating point, file has %s", path, name,
                        fct_dtype_name(t->dtype));
    FCT_TRY(fct_convert(out, FCT_F32, t->data, t->dtype, n));
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return fct_fail(FCT_ERR_RANGE, "%s: %s: number %lld is not finite", path, name,
                            (long long)i);
    return FCT_OK;
}

static void transpose(float *out, const float *in, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) out[c * rows + r] = in[r * columns + c];
}

static fct_status take(fct_sae *s, const fct_sae_tensors *from, const fct_sae_named_part *named)
{
    float *into = *fct_sae_part_at(s, named->part), *turned = NULL;
    const fct_tensor *t = fct_sae_tensors_find(from, named->name);
    if (!named->transposed) return fct_sae_take_floats(into, from->path, named->name, t);
    FCT_TRY(fct_new_raw(&turned, fct_tensor_count(t), sizeof *turned));
    fct_status st = fct_sae_take_floats(turned, from->path, named->name, t);
    if (st == FCT_OK) transpose(into, turned, t->dim[0], t->dim[1]);
    fct_free(turned);
    return st;
}

fct_status fct_sae_read_parts(fct_sae *s, const fct_sae_tensors *from,
                              const fct_sae_named_part *named, int n)
{
    FCT_TRY(fct_sae_check_parts(from, named, n));
    for (int i = 0; i < n; i++) {
        const fct_tensor *t = fct_sae_tensors_find(from, named[i].name),
                         want = shape_of(s, &named[i]);
        if (!same_shape(t, &want)) return fail_shape(from->path, named[i].name, &want, t);
    }
    for (int i = 0; i < n; i++) FCT_TRY(take(s, from, &named[i]));
    return FCT_OK;
}

fct_status fct_sae_take_number(double *out, const fct_sae_tensors *from, const char *name)
{
    const fct_tensor *t = fct_sae_tensors_find(from, name);
    if (!t) return fct_fail(FCT_ERR_MISSING, "%s: no tensor %s", from->path, name);
    if (fct_tensor_count(t) != 1 || t->dtype == FCT_BOOL)
        return fct_fail(FCT_ERR_SHAPE, "%s: %s: want one number", from->path, name);
    switch (t->dtype) {
    case FCT_I32: *out = ((const int32_t *)t->data)[0]; break;
    case FCT_I64: *out = (double)((const int64_t *)t->data)[0]; break;
    default: FCT_TRY(fct_convert(out, FCT_F64, t->data, t->dtype, 1));
    }
    if (isfinite(*out)) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE, "%s: %s is not finite", from->path, name);
}

fct_status fct_sae_size_of(const fct_sae_tensors *from, const char *name, bool transposed,
                           int64_t *d, int64_t *f)
{
    const fct_tensor *t = fct_sae_tensors_find(from, name);
    if (t->ndim != 2) {
        char text[64];
        fct_shape_text(text, sizeof text, t);
        return fct_fail(FCT_ERR_SHAPE, "%s: %s: want a matrix, file has %s", from->path, name,
                        text);
    }
    *f = t->dim[transposed ? 1 : 0];
    *d = t->dim[transposed ? 0 : 1];
    return FCT_OK;
}

/* ---- writing ---- */

fct_status fct_sae_write_safetensors(const fct_sae *s, const char *path,
                                     const fct_sae_named_part *named, int n)
{
    fct_status st = FCT_OK;
    fct_tensor_entry entry[FCT_SAE_MAX_NAMED] = {{0}};
    float *turned[FCT_SAE_MAX_NAMED] = {0};
    for (int i = 0; i < n; i++) {
        float *data = *fct_sae_part_at((fct_sae *)(uintptr_t)s, named[i].part);
        entry[i] = (fct_tensor_entry){(char *)(uintptr_t)named[i].name, shape_of(s, &named[i])};
        if (named[i].transposed) {
            int64_t rows = entry[i].t.dim[1], columns = entry[i].t.dim[0];
            FCT_TRY_OUT(fct_new_raw(&turned[i], rows * columns, sizeof(float)));
            transpose(turned[i], data, rows, columns);
            data = turned[i];
        }
        entry[i].t.data = data;
    }
    FCT_TRY_OUT(fct_safetensors_write(path, entry, n, NULL));
out:
    for (int i = 0; i < n; i++) fct_free(turned[i]);
    return st;
}

fct_status fct_sae_write_pth(const fct_sae *s, const char *path, const fct_sae_named_part *named,
                             int n, const fct_pth_write_desc *more)
{
    fct_tensor_entry entry[FCT_SAE_MAX_NAMED] = {{0}};
    uint8_t column_major[FCT_SAE_MAX_NAMED] = {0};
    fct_pth_write_desc desc = *more;
    for (int i = 0; i < n; i++) {
        entry[i].name = (char *)(uintptr_t)named[i].name;
        if (named[i].other.ndim >= 0 && named[i].other.data) {
            entry[i].t = named[i].other;
            continue;
        }
        entry[i].t = shape_of(s, &named[i]);
        entry[i].t.data = *fct_sae_part_at((fct_sae *)(uintptr_t)s, named[i].part);
        column_major[i] = named[i].transposed;
    }
    desc.entry = entry;
    desc.n = n;
    desc.column_major = column_major;
    return fct_pth_save(path, &desc);
}

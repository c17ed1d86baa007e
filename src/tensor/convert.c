/* convert.c - converts arrays between number formats, and makes views of tensors.
   Every pair goes through f32 in small blocks, as torch does. f64 to f16 is therefore rounded
   twice, there as here. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tensor/half.h"
#include "tensor/tensor.h"

#define DTYPE_BYTES(name, bytes, text) bytes,
static const int64_t dtype_bytes[] = {FCT_DTYPE_LIST(DTYPE_BYTES)};
#undef DTYPE_BYTES

#define DTYPE_TEXT(name, bytes, text) text,
static const char *const dtype_text[] = {FCT_DTYPE_LIST(DTYPE_TEXT)};
#undef DTYPE_TEXT

static const char *const dtype_name[] = {"f32", "f16", "bf16", "f64", "bool", "u8", "i8",
                                         "i16", "u16", "i32",  "u32", "i64",  "u64"};
_Static_assert(FCT_COUNT(dtype_name) == FCT_DTYPE_COUNT, "a name for every dtype");

int64_t fct_dtype_bytes(fct_dtype d)
{
    return (unsigned)d < FCT_DTYPE_COUNT ? dtype_bytes[d] : 0;
}

const char *fct_dtype_name(fct_dtype d)
{
    return (unsigned)d < FCT_DTYPE_COUNT ? dtype_name[d] : "unknown";
}

static bool same_text(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        int x = *a >= 'A' && *a <= 'Z' ? *a + 32 : *a;
        int y = *b >= 'A' && *b <= 'Z' ? *b + 32 : *b;
        if (x != y) return false;
    }
    return *a == *b;
}

fct_status fct_dtype_find(fct_dtype *out, const char *name)
{
    static const struct {
        const char *name;
        fct_dtype dtype;
    } torch_name[] = {{"float32", FCT_F32}, {"float16", FCT_F16}, {"bfloat16", FCT_BF16},
                      {"float64", FCT_F64}, {"uint8", FCT_U8},    {"int8", FCT_I8},
                      {"int16", FCT_I16},   {"uint16", FCT_U16},  {"int32", FCT_I32},
                      {"uint32", FCT_U32},  {"int64", FCT_I64},   {"uint64", FCT_U64}};
    *out = FCT_F32;
    for (int d = 0; d < FCT_DTYPE_COUNT; d++) {
        if (!same_text(name, dtype_text[d])) continue;
        *out = (fct_dtype)d;
        return FCT_OK;
    }
    for (size_t i = 0; i < FCT_COUNT(torch_name); i++) {
        if (!same_text(name, torch_name[i].name)) continue;
        *out = torch_name[i].dtype;
        return FCT_OK;
    }
    return fct_fail(
        FCT_ERR_UNSUPPORTED,
        "\"%s\" is not a number format that facet knows (f32, f16, bf16, f64, i64, ...)", name);
}

fct_tensor fct_tensor_of(void *data, fct_dtype dtype, int ndim, const int64_t *dim)
{
    fct_tensor t = {
        .data = data, .dtype = dtype, .ndim = ndim < FCT_MAX_DIMS ? ndim : FCT_MAX_DIMS};
    for (int i = 0; i < t.ndim; i++) t.dim[i] = dim[i];
    return t;
}

int64_t fct_tensor_count(const fct_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    return n;
}

int64_t fct_tensor_bytes(const fct_tensor *t)
{
    return fct_tensor_count(t) * fct_dtype_bytes(t->dtype);
}

void fct_shape_text(char *text, int64_t size, const fct_tensor *t)
{
    int64_t at = snprintf(text, (size_t)size, "[");
    for (int i = 0; i < t->ndim && at < size; i++)
        at += snprintf(text + at, (size_t)(size - at), "%s%" PRId64, i ? "," : "", t->dim[i]);
    if (at < size) snprintf(text + at, (size_t)(size - at), "]");
}

/* ---- to f32 and from f32 ---- */

#define WIDEN(name, type, expr)                                                           \
    FCT_CLONES static void name(float *restrict dst, const type *restrict src, int64_t n) \
    {                                                                                     \
        for (int64_t i = 0; i < n; i++) dst[i] = expr(src[i]);                            \
    }
#define NARROW(name, type, expr)                                                          \
    FCT_CLONES static void name(type *restrict dst, const float *restrict src, int64_t n) \
    {                                                                                     \
        for (int64_t i = 0; i < n; i++) dst[i] = expr(src[i]);                            \
    }

WIDEN(widen_f16, uint16_t, fct_half_widen)
WIDEN(widen_bf16, uint16_t, fct_bf16_widen)
WIDEN(widen_f64, double, (float))
WIDEN(widen_u8, uint8_t, (float))
WIDEN(widen_i8, int8_t, (float))
WIDEN(widen_i16, int16_t, (float))
WIDEN(widen_u16, uint16_t, (float))
WIDEN(widen_i32, int32_t, (float))
WIDEN(widen_u32, uint32_t, (float))
WIDEN(widen_i64, int64_t, (float))
WIDEN(widen_u64, uint64_t, (float))
NARROW(narrow_f16, uint16_t, fct_half_narrow)
NARROW(narrow_bf16, uint16_t, fct_bf16_narrow)
NARROW(narrow_f64, double, (double))

static fct_status to_f32(float *dst, const void *src, fct_dtype from, int64_t n)
{
    switch (from) {
    case FCT_F32: memcpy(dst, src, (size_t)n * sizeof *dst); return FCT_OK;
    case FCT_F16: widen_f16(dst, src, n); return FCT_OK;
    case FCT_BF16: widen_bf16(dst, src, n); return FCT_OK;
    case FCT_F64: widen_f64(dst, src, n); return FCT_OK;
    case FCT_BOOL:
    case FCT_U8: widen_u8(dst, src, n); return FCT_OK;
    case FCT_I8: widen_i8(dst, src, n); return FCT_OK;
    case FCT_I16: widen_i16(dst, src, n); return FCT_OK;
    case FCT_U16: widen_u16(dst, src, n); return FCT_OK;
    case FCT_I32: widen_i32(dst, src, n); return FCT_OK;
    case FCT_U32: widen_u32(dst, src, n); return FCT_OK;
    case FCT_I64: widen_i64(dst, src, n); return FCT_OK;
    case FCT_U64: widen_u64(dst, src, n); return FCT_OK;
    default: return fct_fail(FCT_ERR_UNSUPPORTED, "unknown number format %d", (int)from);
    }
}

static fct_status from_f32(void *dst, fct_dtype to, const float *src, int64_t n)
{
    switch (to) {
    case FCT_F32: memcpy(dst, src, (size_t)n * sizeof *src); return FCT_OK;
    case FCT_F16: narrow_f16(dst, src, n); return FCT_OK;
    case FCT_BF16: narrow_bf16(dst, src, n); return FCT_OK;
    case FCT_F64: narrow_f64(dst, src, n); return FCT_OK;
    default:
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "numbers cannot be turned into %s, only into f32, f16, bf16 or f64",
                        fct_dtype_name(to));
    }
}

fct_status fct_convert(void *dst, fct_dtype to, const void *src, fct_dtype from, int64_t n)
{
    enum { BLOCK = 1024 };
    float block[BLOCK];
    if (n < 0) return fct_fail(FCT_ERR_ARG, "cannot convert %" PRId64 " values", n);
    if (n == 0) return FCT_OK;
    if (to == from) {
        memcpy(dst, src, (size_t)(n * fct_dtype_bytes(to)));
        return FCT_OK;
    }
    if (to == FCT_F32) return to_f32(dst, src, from, n);
    if (from == FCT_F32) return from_f32(dst, to, src, n);
    int64_t from_size = fct_dtype_bytes(from), to_size = fct_dtype_bytes(to);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        FCT_TRY(to_f32(block, (const uint8_t *)src + i * from_size, from, m));
        FCT_TRY(from_f32((uint8_t *)dst + i * to_size, to, block, m));
    }
    return FCT_OK;
}

fct_status fct_tensor_copy(fct_tensor *out, const fct_tensor *t)
{
    *out = *t;
    FCT_TRY(fct_new_raw(&out->data, fct_tensor_bytes(t), 1));
    if (t->data) memcpy(out->data, t->data, (size_t)fct_tensor_bytes(t));
    return FCT_OK;
}

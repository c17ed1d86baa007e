/* facet/tensor.h - describes tensors (element type, sizes, memory that somebody else owns), and
   reads and writes files of them.

   Do this:
       float data[6] = {0};
       fct_tensor t = fct_tensor_of(data, FCT_F32, 2, (int64_t[]){2, 3});
       printf("%lld numbers of %s\n", (long long)fct_tensor_count(&t), fct_dtype_name(t.dtype));

   Always contiguous, row-major, last index fastest. Feature maps are [batch, height, width,
   channels]. */
#ifndef FACET_TENSOR_H
#define FACET_TENSOR_H

#include "facet/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, bytes, safetensors name): one list makes the enum and every table of types. */
#define FCT_DTYPE_LIST(X)  \
    X(FCT_F32, 4, "F32")   \
    X(FCT_F16, 2, "F16")   \
    X(FCT_BF16, 2, "BF16") \
    X(FCT_F64, 8, "F64")   \
    X(FCT_BOOL, 1, "BOOL") \
    X(FCT_U8, 1, "U8")     \
    X(FCT_I8, 1, "I8")     \
    X(FCT_I16, 2, "I16")   \
    X(FCT_U16, 2, "U16")   \
    X(FCT_I32, 4, "I32")   \
    X(FCT_U32, 4, "U32")   \
    X(FCT_I64, 8, "I64")   \
    X(FCT_U64, 8, "U64")

#define FCT_DTYPE_ENUM(name, bytes, text) name,
typedef enum fct_dtype { FCT_DTYPE_LIST(FCT_DTYPE_ENUM) FCT_DTYPE_COUNT } fct_dtype;
#undef FCT_DTYPE_ENUM

enum { FCT_MAX_DIMS = 6 };

typedef struct fct_tensor {
    void *data; /* not owned, unless a struct says so; NULL when there are no elements */
    fct_dtype dtype;
    int ndim;
    int64_t dim[FCT_MAX_DIMS];
} fct_tensor;

/* A view of data, which stays the caller's.
   dim [ndim], ndim from 0 (one element) to FCT_MAX_DIMS. */
FCT_API fct_tensor fct_tensor_of(void *data, fct_dtype dtype, int ndim, const int64_t *dim);
FCT_API int64_t fct_tensor_count(const fct_tensor *t); /* elements: the product of dim */
FCT_API int64_t fct_tensor_bytes(const fct_tensor *t);
FCT_API int64_t fct_dtype_bytes(fct_dtype d);
FCT_API const char *fct_dtype_name(fct_dtype d); /* "f16", "bf16", ...; never released */
/* "f16" or torch's "float16", in any case; other names are FCT_ERR_UNSUPPORTED. */
FCT_API fct_status fct_dtype_find(fct_dtype *out, const char *name) FCT_MUST_CHECK;
/* "[320,4,3,3]" into text of `size` bytes; 64 suffice. */
FCT_API void fct_shape_text(char *text, int64_t size, const fct_tensor *t);

/* ---- files of tensors: safetensors ---- */
typedef struct fct_named_tensor {
    const char *name;
    fct_tensor t;
} fct_named_tensor;
/* What a file holds, by name: all tensors with data NULL, or with their data (name NULL: all; else
   the one, and FCT_ERR_MISSING when there is none). One block of memory, 64-byte aligned data and
   names included: release *out with fct_free. A file that breaks a rule of the format is
   FCT_ERR_FORMAT. Any thread. */
FCT_API fct_status fct_tensors_list(fct_named_tensor **out, int64_t *out_n,
                                    const char *path) FCT_MUST_CHECK;
FCT_API fct_status fct_tensors_read(fct_named_tensor **out, int64_t *out_n, const char *path,
                                    const char *name) FCT_MUST_CHECK;
/* Writes a file of n tensors, whole or not at all, the same bytes each time. Names that are missing
   or stand twice are FCT_ERR_ARG. */
FCT_API fct_status fct_tensors_write(const char *path, const fct_named_tensor *tensor,
                                     int64_t n) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

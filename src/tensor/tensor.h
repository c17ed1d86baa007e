/* tensor.h - declares conversion between number formats, and readers and writers of files of
   tensors: safetensors, PyTorch's .pth/.pt (a safe reader that never runs what it reads), .npy. */
#ifndef FCT_TENSOR_TENSOR_H
#define FCT_TENSOR_TENSOR_H

#include "base/base.h"
#include "facet/tensor.h"

/* ---- number formats (half.c, convert.c) ---- */
float fct_f16_to_f32(uint16_t h);
uint16_t fct_f32_to_f16(float f); /* round to nearest even; overflow gives infinity, as IEEE says */
float fct_bf16_to_f32(uint16_t h);
uint16_t fct_f32_to_bf16(float f); /* round to nearest even; NaN stays NaN */
/* n elements between any of f32, f16, bf16, f64, and from the integer types to f32.
   src and dst do not overlap. */
fct_status fct_convert(void *dst, fct_dtype to, const void *src, fct_dtype from,
                       int64_t n) FCT_MUST_CHECK;
/* The same tensor in memory of its own; release its data with fct_free. */
fct_status fct_tensor_copy(fct_tensor *out, const fct_tensor *t) FCT_MUST_CHECK;

/* ---- safetensors (safetensors.c) ---- */
typedef struct fct_tensor_entry {
    char *name;
    fct_tensor t;
} fct_tensor_entry; /* t.data points into the map */
typedef struct fct_safetensors {
    fct_file file;
    char *path;
    fct_tensor_entry *entry; /* sorted by name */
    int64_t n;
    json_t *metadata; /* object of strings, or NULL */
    void **copy;      /* aligned copies of tensors that lie at odd addresses in the file */
    int64_t n_copy;
} fct_safetensors;
/* Every rule of the format is checked: header <= 100 MB, offsets without holes or overlap, sizes,
   no duplicate keys. A Git LFS pointer file is named as such. */
fct_status fct_safetensors_open(fct_safetensors *out, const char *path) FCT_MUST_CHECK;
/* The memory stays the caller's. */
fct_status fct_safetensors_parse(fct_safetensors *out, const uint8_t *data, int64_t n,
                                 const char *name) FCT_MUST_CHECK;
void fct_safetensors_close(fct_safetensors *s);
/* NULL: there is none of that name. */
const fct_tensor *fct_safetensors_find(const fct_safetensors *s, const char *name);
/* The tensor that holds rows: the one named, else `rows` (as in a store's shard), else the only one
   of two dimensions. */
fct_status fct_safetensors_rows(fct_tensor *out, const fct_safetensors *s,
                                const char *name) FCT_MUST_CHECK;
/* Writes atomically. The header is padded to 8 bytes, __metadata__ {"format":"pt", ...metadata}.
   metadata is NULL or an array of key, value, ..., NULL.
   Data are laid out in the given order within each element size, wider sizes first, so that all
   are aligned. */
fct_status fct_safetensors_write(const char *path, const fct_tensor_entry *entry, int64_t n,
                                 const char *const *metadata) FCT_MUST_CHECK;

/* ---- PyTorch files (pth.c, pickle.c) ---- */
typedef struct fct_pth_value { /* a whole number or a text beside the tensors */
    char *name;
    char *text; /* NULL: a number */
    int64_t i;
} fct_pth_value;
typedef struct fct_pth {
    /* Nested dictionaries are joined by '.'; a bare tensor has the name "". t.data is owned here,
       contiguous. */
    fct_tensor_entry *entry;
    int64_t n;
    fct_pth_value *value; /* named the same way; what else there may be is passed over */
    int64_t n_values;
} fct_pth;
/* Reads the zip and the legacy layout. Globals are those of a list; nothing is called. */
fct_status fct_pth_open(fct_pth *out, const char *path) FCT_MUST_CHECK;
fct_status fct_pth_parse(fct_pth *out, const uint8_t *data, int64_t n,
                         const char *name) FCT_MUST_CHECK;
void fct_pth_close(fct_pth *p);
const fct_tensor *fct_pth_find(const fct_pth *p, const char *name);
const fct_pth_value *fct_pth_find_value(const fct_pth *p, const char *name); /* NULL: none */
/* torch.load(weights_only=True) reads it back. nest != NULL: {nest: OrderedDict(name -> tensor)};
   nest NULL and n == 1 with an empty name: a bare tensor. column_major[i] != 0 (2-D only; array may
   be NULL): data of entry i is the transpose's storage, written with strides (1, rows), as the
   authors' decoder.weight is. */
fct_status fct_pth_write(const char *path, const fct_tensor_entry *entry, int64_t n,
                         const char *nest, const uint8_t *column_major) FCT_MUST_CHECK;
/* The same with texts and numbers after the tensors: `value`, in the dictionary that has the
   tensors; "a.b" is member b of the dictionary a, whose members follow one another. */
typedef struct fct_pth_write_desc {
    const fct_tensor_entry *entry;
    int64_t n;
    const char *nest;
    const uint8_t *column_major;
    const fct_pth_value *value;
    int64_t n_values;
} fct_pth_write_desc;
fct_status fct_pth_save(const char *path, const fct_pth_write_desc *desc) FCT_MUST_CHECK;

/* ---- NumPy (npy.c) ---- */
typedef struct fct_npy {
    fct_file file;
    fct_tensor t;
} fct_npy; /* C order, little endian; others are refused by name */
fct_status fct_npy_open(fct_npy *out, const char *path) FCT_MUST_CHECK;
/* The memory stays the caller's. */
fct_status fct_npy_parse(fct_npy *out, const uint8_t *data, int64_t n,
                         const char *name) FCT_MUST_CHECK;
void fct_npy_close(fct_npy *f);

/* ---- files of rows (rows_file.c) ---- */
typedef struct fct_rows_file {
    fct_safetensors st;
    fct_npy npy;
    fct_tensor rows; /* [n,D], any float type; points into the map */
} fct_rows_file;
/* A .npy file, else safetensors: the tensor that fct_safetensors_rows finds. Rows in another number
   of dimensions or in whole numbers are refused. */
fct_status fct_rows_file_open(fct_rows_file *out, const char *path,
                              const char *tensor) FCT_MUST_CHECK;
void fct_rows_file_close(fct_rows_file *f);

#endif

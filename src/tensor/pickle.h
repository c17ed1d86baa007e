/* pickle.h - declares the reader of Python pickles: it builds the object tree of a saved state dict
   without running anything.

   A pickle is a program for a stack machine that may call any function of Python. This reader knows
   the opcodes that torch.save emits and a closed list of names; "calling" one of those means
   building a node here. Every other opcode or name is an error that says which. */
#ifndef FCT_TENSOR_PICKLE_H
#define FCT_TENSOR_PICKLE_H

#include "tensor/tensor.h"

typedef enum fct_pk_kind {
    FCT_PK_NONE,
    FCT_PK_BOOL,    /* i: 0 or 1 */
    FCT_PK_INT,     /* i */
    FCT_PK_FLOAT,   /* value not kept: no reader of tensors needs it */
    FCT_PK_LONG,    /* a whole number beyond 64 bits; value not kept */
    FCT_PK_TEXT,    /* text, n: bytes inside the pickle, not NUL-terminated */
    FCT_PK_TUPLE,   /* item[0..n) */
    FCT_PK_LIST,    /* item[0..n) */
    FCT_PK_DICT,    /* item[0..n): key, value, key, value, ... */
    FCT_PK_GLOBAL,  /* i: index into the table of allowed names */
    FCT_PK_STORAGE, /* dtype, text/n: the key; i: numel (bytes when untyped) */
    /* dtype; item[0]: storage; i: offset; item[1]: sizes, item[2]: strides (tuples). */
    FCT_PK_TENSOR
} fct_pk_kind;

typedef struct fct_pk_node {
    fct_pk_kind kind;
    fct_dtype dtype;
    bool untyped; /* storage counted in bytes: torch.storage.UntypedStorage */
    int64_t i, n, cap;
    const char *text;
    int32_t *item; /* indices of nodes */
} fct_pk_node;

typedef struct fct_pickle {
    fct_pk_node *node;
    int64_t n, cap;
    int32_t root;
    int64_t used; /* bytes of the pickle, with its STOP */
} fct_pickle;

/* data must outlive the result. name is the file's, for errors.
   Release with fct_pickle_clear also after a failure. */
fct_status fct_pickle_parse(fct_pickle *out, const uint8_t *data, int64_t n,
                            const char *name) FCT_MUST_CHECK;
void fct_pickle_clear(fct_pickle *p);

#endif

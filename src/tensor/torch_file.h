/* torch_file.h - declares the parts of a file that torch.save wrote: its object tree and its
   storages. */
#ifndef FCT_TENSOR_TORCH_FILE_H
#define FCT_TENSOR_TORCH_FILE_H

#include <zip.h>

#include "tensor/pickle.h"

typedef struct fct_torch_storage {
    const fct_pk_node *node; /* the first of its key in the pickle: text/n is the key */
    const uint8_t *data;     /* NULL: not read yet */
    uint8_t *owned;          /* zip: read into here; legacy: NULL, data points into the file */
    int64_t bytes;
} fct_torch_storage;

typedef struct fct_torch_file {
    const char *name; /* the file's, for errors */
    fct_pickle pickle;
    zip_t *zip;                 /* NULL in the legacy layout */
    uint8_t *tree;              /* zip: the bytes that the pickle's texts lie in */
    char *stem;                 /* zip: what precedes "data.pkl", with its slash */
    fct_torch_storage *storage; /* one a key, sorted by key */
    int64_t n_storage;
    int64_t entry_bytes, file_bytes; /* zip: what its entries hold together; what the file has */
} fct_torch_file;

/* data and name must outlive the result. Release with fct_torch_file_close also after a failure. */
fct_status fct_torch_file_open(fct_torch_file *f, const uint8_t *data, int64_t n,
                               const char *name) FCT_MUST_CHECK;
/* The storage of a node of the tree, its bytes in memory. Owned by the file. */
fct_status fct_torch_file_storage(fct_torch_file *f, const fct_torch_storage **out,
                                  const fct_pk_node *node) FCT_MUST_CHECK;
void fct_torch_file_close(fct_torch_file *f);

#endif

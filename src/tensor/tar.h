/* tar.h - declares a tar archive's members, by name and by where they lie in the mapped file. */
#ifndef FCT_TENSOR_TAR_H
#define FCT_TENSOR_TAR_H

#include "tensor/tensor.h"

typedef struct fct_tar_entry {
    char *name;          /* as the archive has it: a text, never a path to use */
    const uint8_t *data; /* into the map */
    int64_t size;
} fct_tar_entry;
typedef struct fct_tar {
    fct_file file;
    fct_tar_entry *entry; /* files only, in the archive's order */
    int64_t n;
} fct_tar;
fct_status fct_tar_open(fct_tar *out, const char *path) FCT_MUST_CHECK;
/* The memory stays the caller's. */
fct_status fct_tar_parse(fct_tar *out, const uint8_t *data, int64_t n,
                         const char *name) FCT_MUST_CHECK;
void fct_tar_close(fct_tar *t);

#endif

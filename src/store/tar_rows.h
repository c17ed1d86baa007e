/* tar_rows.h - declares an opened archive of activations in the format of the paper's authors
   (WebDataset), for open.c and rows.c. */
#ifndef FCT_STORE_TAR_ROWS_H
#define FCT_STORE_TAR_ROWS_H

#include "store/store.h"

typedef struct fct_tar_rows fct_tar_rows;
/* what: members *.WHAT.pth are taken; NULL: "diff", the delta. */
fct_status fct_tar_rows_open(fct_tar_rows **out, const char *path, const char *what) FCT_MUST_CHECK;
void fct_tar_rows_close(fct_tar_rows *t);
int64_t fct_tar_rows_count(const fct_tar_rows *t);
int64_t fct_tar_rows_width(const fct_tar_rows *t);
fct_dtype fct_tar_rows_dtype(const fct_tar_rows *t);
/* The archive must outlive the source; block: the name of its part, likewise. */
fct_status fct_tar_rows_source(fct_row_source *out, const fct_tar_rows *t, const char *block,
                               const fct_rows_desc *desc) FCT_MUST_CHECK;
/* The archive behind a store that is a .tar file; else NULL (open.c). */
const fct_tar_rows *fct_store_tar(const fct_store *s);

#endif

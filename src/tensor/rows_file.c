/* rows_file.c - opens a file of rows [n,D] in floating point, .npy or safetensors: the one opener
   behind training, statistics, encoding and import. */
#include "tensor/tensor.h"

fct_status fct_rows_file_open(fct_rows_file *out, const char *path, const char *tensor)
{
    fct_status st = FCT_OK;
    char shape[64];
    *out = (fct_rows_file){0};
    if (fct_has_suffix(path, ".npy")) {
        if (tensor) {
            st = fct_fail(FCT_ERR_ARG, "%s: tensor %s: a .npy file has one, without a name", path,
                          tensor);
            goto out;
        }
        FCT_TRY_OUT(fct_npy_open(&out->npy, path));
        out->rows = out->npy.t;
    } else {
        FCT_TRY_OUT(fct_safetensors_open(&out->st, path));
        FCT_TRY_OUT(fct_safetensors_rows(&out->rows, &out->st, tensor));
    }
    fct_shape_text(shape, sizeof shape, &out->rows);
    if (out->rows.ndim != 2 || out->rows.dim[1] < 1 || out->rows.dim[1] > INT32_MAX)
        st = fct_fail(FCT_ERR_SHAPE, "%s: want rows [n,D], the file has %s", path, shape);
    else if (out->rows.dtype > FCT_F64)
        st = fct_fail(FCT_ERR_FORMAT, "%s: want rows in floating point, the file has %s", path,
                      fct_dtype_name(out->rows.dtype));
out:
    if (st != FCT_OK) fct_rows_file_close(out);
    return st;
}

void fct_rows_file_close(fct_rows_file *f)
{
    fct_safetensors_close(&f->st);
    fct_npy_close(&f->npy);
    *f = (fct_rows_file){0};
}

/* read.c - reads a PNG or JPEG picture, told apart by its first bytes. */
#include "image/image.h"

fct_status fct_image_parse(fct_image *out, const void *data, int64_t n, const char *name,
                           int64_t channels)
{
    *out = (fct_image){0};
    if (channels != 0 && channels != 1 && channels != 3 && channels != 4)
        return fct_fail(FCT_ERR_ARG, "%s: a picture is read with 1, 3 or 4 channels, or with 0: as "
                        "many as it has", name);
    if (fct_png_is(data, n)) return fct_png_parse(out, data, n, name, channels);
    if (fct_jpeg_is(data, n)) return fct_jpeg_parse(out, data, n, name, channels);
    return fct_fail(FCT_ERR_FORMAT, "%s: neither a PNG nor a JPEG", name);
}

fct_status fct_image_read(fct_image *out, const char *path, int64_t channels)
{
    fct_file file = {0};
    *out = (fct_image){0};
    FCT_TRY(fct_file_map(&file, path));
    fct_status st = fct_image_parse(out, file.data, file.size, path, channels);
    fct_file_unmap(&file);
    return st;
}

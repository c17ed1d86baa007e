/* jpeg.c - photographs through TurboJPEG, libjpeg-turbo's interface that answers with return values
   (libjpeg's own leaves a function on error only by longjmp). */
#include <inttypes.h>
#include <turbojpeg.h>

#include "tensor/tensor.h"

static fct_status decode(fct_image *out, tjhandle tj, const fct_file *file, const char *path)
{
    int width = 0, height = 0, subsampling = 0, colours = 0;
    if (tjDecompressHeader3(tj, file->data, (unsigned long)file->size, &width, &height,
                            &subsampling, &colours) != 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: not a JPEG, or damaged: %s", path, tjGetErrorStr2(tj));
    FCT_TRY(fct_where(fct_image_new(out, width, height, 3), "%s", path));
    if (tjDecompress2(tj, file->data, (unsigned long)file->size, out->pixel, width, 0, height,
                      TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING) != 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: the JPEG is damaged: %s", path, tjGetErrorStr2(tj));
    return FCT_OK;
}

fct_status fct_jpeg_read(fct_image *out, const char *path)
{
    fct_file file = {0};
    *out = (fct_image){0};
    FCT_TRY(fct_file_map(&file, path));
    tjhandle tj = tjInitDecompress();
    fct_status st = tj ? FCT_OK : fct_fail(FCT_ERR_MEMORY, "%s: out of memory", path);
    if (st == FCT_OK && file.size == 0)
        st = fct_fail(FCT_ERR_FORMAT, "%s: not a JPEG: the file is empty", path);
    if (st == FCT_OK) st = decode(out, tj, &file, path);
    if (tj) tjDestroy(tj);
    fct_file_unmap(&file);
    if (st != FCT_OK) fct_image_clear(out);
    return st;
}

fct_status fct_jpeg_encode(fct_str *out, const fct_image *im, int quality)
{
    fct_status st = FCT_OK;
    unsigned char *data = NULL;
    unsigned long n = 0;
    if ((im->channels != 1 && im->channels != 3) || im->width < 1 || im->height < 1 ||
        im->width > 65500 || im->height > 65500 || quality < 1 || quality > 100)
        return fct_fail(FCT_ERR_ARG,
                        "a JPEG wants grey or RGB, sides up to 65500 and a quality from 1 to 100");
    tjhandle tj = tjInitCompress();
    if (!tj) return fct_fail(FCT_ERR_MEMORY, "out of memory for a JPEG");
    bool grey = im->channels == 1;
    if (tjCompress2(tj, im->pixel, (int)im->width, 0, (int)im->height, grey ? TJPF_GRAY : TJPF_RGB,
                    &data, &n, grey ? TJSAMP_GRAY : TJSAMP_420, quality, TJFLAG_ACCURATEDCT) != 0)
        st = fct_fail(FCT_ERR_INTERNAL, "libjpeg-turbo: %s", tjGetErrorStr2(tj));
    if (st == FCT_OK) st = fct_str_append_n(out, (const char *)data, (int64_t)n);
    tjFree(data);
    tjDestroy(tj);
    return st;
}

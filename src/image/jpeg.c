/* jpeg.c - reads photographs through TurboJPEG, libjpeg-turbo's interface that answers with return
   values (libjpeg's own leaves a function on error only by longjmp). */
#include <turbojpeg.h>

#include "image/image.h"

bool fct_jpeg_is(const uint8_t *data, int64_t n)
{
    return n >= 3 && data[0] == 0xFF && data[1] == 0xD8 && data[2] == 0xFF;
}

/* Grey is made from the colours, as it is of a PNG; only a grey file is read as grey. */
static fct_status decode(fct_image *out, tjhandle tj, const uint8_t *data, int64_t n,
                         int64_t channels)
{
    int width = 0, height = 0, subsampling = 0, space = 0;
    if (tjDecompressHeader3(tj, data, (unsigned long)n, &width, &height, &subsampling, &space) != 0)
        return fct_fail(FCT_ERR_FORMAT, "not a JPEG, or damaged: %s", tjGetErrorStr2(tj));
    int64_t from = space == TJCS_GRAY ? 1 : 3, to = channels ? channels : from;
    uint8_t *raw = NULL;
    FCT_TRY(fct_image_new(out, width, height, to));
    if (from != to) FCT_TRY(fct_new_raw(&raw, out->width * out->height, from));
    int failed = tjDecompress2(tj, data, (unsigned long)n, raw ? raw : out->pixel, width, 0, height,
                               from == 1 ? TJPF_GRAY : TJPF_RGB,
                               TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING);
    if (!failed && raw)
        fct_pixels_convert(out->pixel, to, raw, from, out->width * out->height);
    fct_free(raw);
    return failed ? fct_fail(FCT_ERR_FORMAT, "the JPEG is damaged: %s", tjGetErrorStr2(tj))
                  : FCT_OK;
}

fct_status fct_jpeg_parse(fct_image *out, const uint8_t *data, int64_t n, const char *name,
                          int64_t channels)
{
    *out = (fct_image){0};
    tjhandle tj = tjInitDecompress();
    fct_status st = tj ? decode(out, tj, data, n, channels)
                       : fct_fail(FCT_ERR_MEMORY, "out of memory for a JPEG");
    if (tj) tjDestroy(tj);
    if (st != FCT_OK) fct_image_clear(out);
    return fct_where(st, "%s", name);
}

/* png.c - reads and writes PNG through libpng's simplified interface, which answers with return
   values instead of setjmp. Palettes, 16-bit and transparent pictures arrive as 8-bit grey, RGB or
   RGBA. */
#include <inttypes.h>
#include <png.h>
#include <string.h>

#include "image/png_text.h"

static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

enum { IHDR_END = 8 + 12 + 13, IHDR_DEPTH = 8 + 8 + 8 };

/* Deflate packs at most 1032 bytes into one. So a file that is smaller than that share of its
   pixels, as it stores them, does not hold them, and no memory is taken for them. */
static fct_status check_size(const png_image *png, const uint8_t *data, int64_t n)
{
    static const int channels[8] = {1, 0, 3, 1, 2, 0, 4, 0}; /* by the header's type of colour */
    int64_t depth = data[IHDR_DEPTH], pixels;
    FCT_TRY(fct_mul_i64(&pixels, png->width, png->height));
    if (pixels / 8 / 1100 * depth * channels[data[IHDR_DEPTH + 1] & 7] > n)
        return fct_fail(FCT_ERR_FORMAT,
                        "the PNG is damaged: it is far too small for %" PRIu32 " x %" PRIu32
                        " pixels",
                        png->width, png->height);
    return FCT_OK;
}

static fct_status decode(fct_image *out, png_image *png, int64_t channels)
{
    uint8_t *raw = NULL;
    /* 16-bit files mean the same colours as 8-bit ones, not linear light */
    png->flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    png->format &= PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA;
    int from = (int)PNG_IMAGE_PIXEL_CHANNELS(png->format);
    int64_t to = channels ? channels : from == 2 ? 4 : from;
    FCT_TRY(fct_image_new(out, png->width, png->height, to));
    int64_t n = out->width * out->height;
    if (from != to) FCT_TRY(fct_new_raw(&raw, n, from));
    if (!png_image_finish_read(png, NULL, raw ? raw : out->pixel, 0, NULL)) {
        fct_free(raw);
        return fct_fail(FCT_ERR_FORMAT, "the PNG is damaged: %s", png->message);
    }
    if (raw) fct_pixels_convert(out->pixel, to, raw, from, n);
    fct_free(raw);
    return FCT_OK;
}

bool fct_png_is(const uint8_t *data, int64_t n)
{
    return n >= (int64_t)sizeof signature && memcmp(data, signature, sizeof signature) == 0;
}

fct_status fct_png_parse(fct_image *out, const uint8_t *data, int64_t n, const char *name,
                         int64_t channels)
{
    fct_status st = FCT_OK;
    fct_image texts = {0};
    png_image png = {.version = PNG_IMAGE_VERSION};
    *out = (fct_image){0};
    if (n < IHDR_END || !fct_png_is(data, n))
        return fct_fail(FCT_ERR_FORMAT, "%s: not a PNG", name);
    FCT_TRY_OUT(fct_png_text_read(&texts, data, n, name));
    if (!png_image_begin_read_from_memory(&png, data, (size_t)n)) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: the PNG is damaged: %s", name, png.message);
        goto out;
    }
    st = check_size(&png, data, n);
    if (st == FCT_OK) st = decode(out, &png, channels);
    FCT_TRY_OUT(fct_where(st, "%s", name));
    out->text = texts.text;
    out->n_text = texts.n_text;
    texts = (fct_image){0};
out:
    png_image_free(&png);
    fct_image_clear(&texts);
    if (st != FCT_OK) fct_image_clear(out);
    return st;
}

static fct_status encode(fct_str *out, const fct_image *im)
{
    fct_status st = FCT_OK;
    uint8_t *raw = NULL;
    png_image png = {.version = PNG_IMAGE_VERSION};
    if (im->width < 1 || im->height < 1 || im->width > 1 << 20 || im->height > 1 << 20 ||
        !im->pixel)
        return fct_fail(FCT_ERR_SHAPE, "a picture of %" PRId64 " x %" PRId64 " cannot be a PNG",
                        im->width, im->height);
    png.width = (png_uint_32)im->width;
    png.height = (png_uint_32)im->height;
    png.format = im->channels == 1   ? PNG_FORMAT_GRAY
                 : im->channels == 3 ? PNG_FORMAT_RGB
                                     : PNG_FORMAT_RGBA;
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
    FCT_TRY(fct_new_raw(&raw, (int64_t)size, 1));
    if (!png_image_write_to_memory(&png, raw, &size, 0, im->pixel, 0, NULL)) {
        st = fct_fail(FCT_ERR_INTERNAL, "libpng: %s", png.message);
        goto out;
    }
    FCT_TRY_OUT(fct_str_append_n(out, (const char *)raw, IHDR_END));
    for (int64_t i = 0; i < im->n_text; i++)
        FCT_TRY_OUT(fct_png_text_put(out, im->text[2 * i], im->text[2 * i + 1]));
    FCT_TRY_OUT(fct_str_append_n(out, (const char *)raw + IHDR_END, (int64_t)size - IHDR_END));
out:
    png_image_free(&png);
    fct_free(raw);
    return st;
}

fct_status fct_png_encode(uint8_t **out, int64_t *out_n, const fct_image *im)
{
    fct_str s = {0};
    *out = NULL;
    *out_n = 0;
    fct_status st = encode(&s, im);
    if (st == FCT_OK) {
        *out = (uint8_t *)s.p;
        *out_n = s.n;
        return FCT_OK;
    }
    fct_str_clear(&s);
    return st;
}

fct_status fct_png_write(const fct_image *im, const char *path)
{
    fct_str s = {0};
    fct_status st = fct_where(encode(&s, im), "write %s", path);
    if (st == FCT_OK) st = fct_file_write(path, s.p, s.n);
    fct_str_clear(&s);
    return st;
}

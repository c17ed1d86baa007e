/* image.c - makes and releases 8-bit pictures, keeps the texts that travel with them, and converts
   between grey, RGB and RGBA. */
#include <inttypes.h>
#include <string.h>

#include "image/image.h"

/* 2^28 pixels, 16384 x 16384: more is a mistake or an attack, not a picture. */
#define MAX_PIXELS ((int64_t)1 << 28)

fct_status fct_image_new(fct_image *out, int64_t width, int64_t height, int64_t channels)
{
    int64_t n;
    *out = (fct_image){0};
    if (width < 1 || height < 1 || (channels != 1 && channels != 3 && channels != 4))
        return fct_fail(FCT_ERR_SHAPE,
                        "a picture of %" PRId64 " x %" PRId64 " with %" PRId64
                        " channels is not possible",
                        width, height, channels);
    if (width > MAX_PIXELS || height > MAX_PIXELS || width * height > MAX_PIXELS)
        return fct_fail(FCT_ERR_RANGE, "a picture of %" PRId64 " x %" PRId64 " is too large", width,
                        height);
    n = width * height * channels;
    FCT_TRY(fct_new(&out->pixel, n, 1));
    out->width = width;
    out->height = height;
    out->channels = channels;
    return FCT_OK;
}

void fct_image_clear(fct_image *im)
{
    fct_free(im->pixel);
    for (int64_t i = 0; i < 2 * im->n_text; i++) fct_free(im->text[i]);
    fct_free(im->text);
    *im = (fct_image){0};
}

void fct_images_free(fct_image *images, int64_t n)
{
    for (int64_t i = 0; images && i < n; i++) fct_image_clear(&images[i]);
    fct_free(images);
}

/* PNG's rules for keywords: 1 to 79 printable characters, no space at the ends. ASCII here. */
static bool is_keyword(const char *key)
{
    size_t n = strlen(key);
    if (n < 1 || n > 79 || key[0] == ' ' || key[n - 1] == ' ') return false;
    for (size_t i = 0; i < n; i++)
        if (key[i] < 0x20 || key[i] > 0x7e) return false;
    return true;
}

fct_status fct_image_set_text(fct_image *im, const char *key, const char *value)
{
    char *k = NULL, *v = NULL;
    if (!is_keyword(key))
        return fct_fail(FCT_ERR_ARG, "\"%s\" cannot be the name of a text in a PNG", key);
    FCT_TRY(fct_strdup(&v, value));
    for (int64_t i = 0; i < im->n_text; i++) {
        if (strcmp(im->text[2 * i], key) != 0) continue;
        fct_free(im->text[2 * i + 1]);
        im->text[2 * i + 1] = v;
        return FCT_OK;
    }
    fct_status st = fct_strdup(&k, key);
    if (st == FCT_OK)
        st = fct_grow(&im->text, 2 * im->n_text, 2 * im->n_text + 2, (int64_t)sizeof *im->text);
    if (st != FCT_OK) {
        fct_free(k);
        fct_free(v);
        return st;
    }
    im->text[2 * im->n_text] = k;
    im->text[2 * im->n_text + 1] = v;
    im->n_text++;
    return FCT_OK;
}

const char *fct_image_find_text(const fct_image *im, const char *key)
{
    for (int64_t i = 0; i < im->n_text; i++)
        if (strcmp(im->text[2 * i], key) == 0) return im->text[2 * i + 1];
    return NULL;
}

/* ---- channels ---- */

static uint8_t over_black(int v, int alpha)
{
    return (uint8_t)((v * alpha + 127) / 255);
}

static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

/* One pixel from 1 (grey), 2 (grey, alpha), 3 or 4 channels to 1, 3 or 4. */
static void convert_pixel(uint8_t *dst, int to, const uint8_t *src, int from)
{
    uint8_t rgb[3];
    int alpha = from == 2 ? src[1] : from == 4 ? src[3] : 255;
    for (int i = 0; i < 3; i++) {
        uint8_t v = from <= 2 ? src[0] : src[i];
        rgb[i] = to == 4 || alpha == 255 ? v : over_black(v, alpha);
    }
    if (to == 1)
        dst[0] = from <= 2 ? rgb[0] : luma(rgb);
    else
        memcpy(dst, rgb, 3);
    if (to == 4) dst[3] = (uint8_t)alpha;
}

void fct_pixels_convert(uint8_t *dst, int64_t to, const uint8_t *src, int64_t from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) convert_pixel(dst + i * to, (int)to, src + i * from, (int)from);
}

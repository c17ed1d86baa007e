/* image.c - an 8-bit picture and the texts that travel with it. */
#include <inttypes.h>
#include <string.h>

#include "tensor/tensor.h"

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

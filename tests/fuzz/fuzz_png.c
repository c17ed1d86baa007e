/* fuzz_png.c - a PNG of any content is refused, or it can be written and reads back with the same
 * pixels and texts. */
#include <string.h>

#include "fuzz.h"
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fct_image im, back;
    uint8_t *png = NULL;
    int64_t size;
    if (n > 20 && (data[16] | data[17] | data[20])) return 0; /* large pictures only make it slow */
    if (fct_png_parse(&im, data, (int64_t)n, "fuzz", n % 2 ? 0 : 3) != FCT_OK) return 0;
    if (im.width * im.height < 1 << 16) {
        if (fct_png_encode(&png, &size, &im) != FCT_OK) __builtin_trap();
        if (fct_png_parse(&back, png, size, "back", 0) != FCT_OK) __builtin_trap();
        if (memcmp(im.pixel, back.pixel, (size_t)(im.width * im.height * im.channels)) != 0)
            __builtin_trap();
        if (back.n_text != im.n_text) __builtin_trap();
        fct_image_clear(&back);
    }
    fct_free(png);
    fct_image_clear(&im);
    return 0;
}

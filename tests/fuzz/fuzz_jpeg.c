/* fuzz_jpeg.c - a JPEG of any content is refused, or read into as many pixels as it says. */
#include "fuzz.h"
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const int64_t channels[4] = {0, 1, 3, 4};
    fct_image im;
    uint64_t sum = 0;
    if (fct_jpeg_parse(&im, data, (int64_t)n, "fuzz", channels[n % 4]) != FCT_OK) {
        if (im.pixel) __builtin_trap();
        return 0;
    }
    for (int64_t i = 0; i < im.width * im.height * im.channels; i++) sum += im.pixel[i];
    if (im.width < 1 || sum > (uint64_t)255 * 4 << 28) __builtin_trap();
    fct_image_clear(&im);
    return 0;
}

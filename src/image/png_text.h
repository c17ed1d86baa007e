/* png_text.h - reads and writes the text chunks of a PNG, which libpng's simplified interface
   leaves out. */
#ifndef FCT_IMAGE_PNG_TEXT_H
#define FCT_IMAGE_PNG_TEXT_H

#include "image/image.h"

/* Checks the chunk structure of a whole PNG (lengths, checksums, IEND) and gathers tEXt, zTXt and
   iTXt into im->text. */
fct_status fct_png_text_read(fct_image *im, const uint8_t *data, int64_t n,
                             const char *name) FCT_MUST_CHECK;
/* Appends one chunk: tEXt, or iTXt where the value does not fit Latin-1. */
fct_status fct_png_text_put(fct_str *out, const char *key, const char *value) FCT_MUST_CHECK;

#endif

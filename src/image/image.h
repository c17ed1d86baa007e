/* image.h - declares what reading, writing and resizing of pictures share with each other and with
   masks. */
#ifndef FCT_IMAGE_IMAGE_H
#define FCT_IMAGE_IMAGE_H

#include "base/base.h"
#include "facet/image.h"

/* n pixels from 1 (grey), 2 (grey, alpha), 3 or 4 channels to 1, 3 or 4: grey is Rec. 601 luma, as
   Pillow has it, and transparency is laid over black. (image.c) */
void fct_pixels_convert(uint8_t *dst, int64_t to, const uint8_t *src, int64_t from, int64_t n);
/* Clears n pictures and releases their array; NULL is fine. (image.c) */
void fct_images_free(fct_image *images, int64_t n);

/* One format each; channels 0: as the file has it. (png.c, jpeg.c) */
fct_status fct_png_parse(fct_image *out, const uint8_t *data, int64_t n, const char *name,
                         int64_t channels) FCT_MUST_CHECK;
fct_status fct_jpeg_parse(fct_image *out, const uint8_t *data, int64_t n, const char *name,
                          int64_t channels) FCT_MUST_CHECK;
/* Whether data begin as a file of that format does. */
bool fct_png_is(const uint8_t *data, int64_t n);
bool fct_jpeg_is(const uint8_t *data, int64_t n);
/* The bytes of a PNG, appended: its texts as tEXt, or as iTXt where they are not Latin-1. */

/* ---- areas (resize.c) ---- */
/* How much of [cell, cell+1] lies between lo and hi. */
double fct_cell_overlap(double lo, double hi, double cell);
/* The mean of one channel over the part of the picture in [x0,x1] x [y0,y1], in pixels, as a number
   in [0,1]; pixels cut by the border are weighted by their share. */
double fct_image_mean(const fct_image *im, int64_t channel, double x0, double x1, double y0,
                      double y1);

#endif

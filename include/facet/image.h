/* facet/image.h - reads, writes, resizes and draws 8-bit pictures: PNG with the texts that travel
   in it, JPEG, maps laid over pictures, and sheets of pictures.

   Do this:
       fct_image im = {0}, hot = {0}, grey = {0}, small = {0};
       uint8_t *png = NULL;
       int64_t n = 0;
       const float map[4] = {0, 1, 2, 3};
       fct_status st = fct_image_new(&im, 64, 64, 3);
       if (st == FCT_OK) fct_draw_jet(im.pixel, 0.5);   // one pixel, green
       if (st == FCT_OK) st = fct_draw_heat(&hot, &im, map, 2, 2, 0);
       if (st == FCT_OK) st = fct_image_set_text(&hot, "comment", "a map of 2 x 2 cells");
       if (st == FCT_OK) st = fct_png_write(&hot, "hot.png");
       if (st == FCT_OK) st = fct_png_encode(&png, &n, &hot);   // the same, in memory
       if (st == FCT_OK) st = fct_image_parse(&grey, png, n, "hot.png", 1);
       if (st == FCT_OK) st = fct_image_resize(&small, &grey, 8, 8);
       if (st == FCT_OK) printf("%d\n", small.pixel[0]);
       fct_free(png);
       fct_image_clear(&im);
       fct_image_clear(&hot);
       fct_image_clear(&grey);
       fct_image_clear(&small);

   A picture is a value of the caller's: `out` need not be initialised, is left empty by a failure,
   and is released with fct_image_clear. Functions may be called on any thread; two threads share a
   picture only to read it. */
#ifndef FACET_IMAGE_H
#define FACET_IMAGE_H

#include "facet/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows follow one another without padding, from the top; a pixel's channels lie side by side. */
typedef struct fct_image {
    int64_t width, height;
    int64_t channels; /* 1 (grey), 3 (RGB) or 4 (RGBA, not premultiplied) */
    uint8_t *pixel;   /* [height,width,channels]; owned */
    /* The texts of a PNG: key, value, key, value ..., in UTF-8; owned. */
    char **text;
    int64_t n_text; /* pairs */
} fct_image;

/* A black picture (RGBA: clear). At most 2^28 pixels: FCT_ERR_RANGE. */
FCT_API fct_status fct_image_new(fct_image *out, int64_t width, int64_t height,
                                 int64_t channels) FCT_MUST_CHECK;
FCT_API void fct_image_clear(fct_image *im);

/* Sets a text, or replaces the one of that key: 1 to 79 printable ASCII characters without a space
   at the ends. Facet writes "parameters" (the line that other tools read) and "facet" (the whole
   recipe). */
FCT_API fct_status fct_image_set_text(fct_image *im, const char *key,
                                      const char *value) FCT_MUST_CHECK;
/* The value of a key, owned by the picture; NULL when it has none. */
FCT_API const char *fct_image_find_text(const fct_image *im, const char *key);

/* ---- files ---- */

/* A PNG or a JPEG, told by what is in it and not by its name. channels 0: as the file has it
   (palettes and 16 bits become 8-bit colours); else it is converted: grey is Rec. 601 luma,
   transparency is laid over black. A JPEG has no texts, and is not turned as its EXIF data may ask.
   FCT_ERR_MISSING: there is no such file; FCT_ERR_FORMAT: it is neither, or damaged;
   FCT_ERR_RANGE: its pixels or texts are too many. */
FCT_API fct_status fct_image_read(fct_image *out, const char *path,
                                  int64_t channels) FCT_MUST_CHECK;
/* The same from n bytes in memory; name: of the file, for the error. */
FCT_API fct_status fct_image_parse(fct_image *out, const void *data, int64_t n, const char *name,
                                   int64_t channels) FCT_MUST_CHECK;
/* Writes a PNG with the picture's texts, whole or not at all, the same bytes each time. path "-":
   to stdout. */
FCT_API fct_status fct_png_write(const fct_image *im, const char *path) FCT_MUST_CHECK;
/* The same bytes in memory: *out [*out_n], released with fct_free. */
FCT_API fct_status fct_png_encode(uint8_t **out, int64_t *out_n,
                                  const fct_image *im) FCT_MUST_CHECK;

/* ---- sizes ---- */

/* The picture in another size: each new pixel is the mean of the part of the picture that it
   covers, pixels cut by its border weighted by their share; channels are averaged apart. So a
   smaller picture keeps its mean, and a larger one has plain squares. Texts stay behind. */
FCT_API fct_status fct_image_resize(fct_image *out, const fct_image *im, int64_t width,
                                    int64_t height) FCT_MUST_CHECK;

/* ---- drawing ---- */

/* An RGB picture from pixels [height,width,3] such as those of a run; copied. */
FCT_API fct_status fct_draw_pixels(fct_image *out, const uint8_t *pixels, int64_t width,
                                   int64_t height) FCT_MUST_CHECK;
/* The jet colour map; t in [0,1] (clamped). */
FCT_API void fct_draw_jet(uint8_t rgb[3], double t);
/* A map [h,w] over an RGB picture: repeated to its size (nearest), min-max normalised, jet, blended
   with alpha (0: 0.6), cells of value 0 left clear. picture NULL: over black, each cell 16 pixels.
   FCT_ERR_SHAPE: no cells, or a picture that is not RGB. */
FCT_API fct_status fct_draw_heat(fct_image *out, const fct_image *picture, const float *map,
                                 int64_t h, int64_t w, double alpha) FCT_MUST_CHECK;

typedef struct fct_draw_grid_desc {
    const fct_image *const *cell; /* [n]: RGB, or NULL for an empty place */
    int64_t n;
    int64_t columns;       /* 0: the square root of n, rounded up */
    int64_t gap;           /* pixels between cells and around them; 0: 8, negative: none */
    uint8_t background[3]; /* zero: white */
    bool black;            /* a background of zeros is black after all */
} fct_draw_grid_desc;
/* A contact sheet: row after row, each place in the size of the largest picture. */
FCT_API fct_status fct_draw_grid(fct_image *out, const fct_draw_grid_desc *desc) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/* stamp.c - makes pictures from the pixels of runs, each with the recipe of its run in it. */
#include "index/index.h"

fct_status fct_draw_stamped(fct_image *out, const uint8_t *pixels, int64_t width, int64_t height,
                            const fct_stamp *stamp)
{
    fct_recipe recipe = {0};
    FCT_TRY(fct_draw_pixels(out, pixels, width, height));
    FCT_TRY(fct_recipe_of_run(&recipe, stamp->session, stamp->desc, stamp->edit, stamp->n_edits,
                              stamp->saes, stamp->index));
    fct_status st = fct_recipe_stamp(&recipe, out);
    fct_recipe_clear(&recipe);
    return st;
}

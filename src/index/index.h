/* index.h - declares activation maps of a picture, and pictures that carry their recipe. */
#ifndef FCT_INDEX_INDEX_H
#define FCT_INDEX_INDEX_H

#include "edit/edit.h"
#include "facet/index.h"
#include "image/image.h"

/* All features of one block in one picture: codes summed over the visited steps. */
typedef struct fct_maps {
    const fct_block_info *block;
    const fct_sae *sae;
    int64_t h, w, steps; /* steps: how many were summed */
    float *sum;          /* [F,h*w]; NULL before the first */
} fct_maps;
void fct_maps_clear(fct_maps *m);

/* Scans the recipe's picture for every block of the set, one fct_maps each (array of saes->n,
   zeroed by the caller). picture: with the recipe in its texts; NULL: none is made. (maps.c) */
fct_status fct_maps_run(fct_maps *maps, fct_session *session, const fct_sae_set *saes,
                        const fct_recipe *recipe, int64_t step, fct_image *picture) FCT_MUST_CHECK;
/* Feature f's mean, max and share over the grid, and its map (copied). */
fct_status fct_maps_feature(fct_feature_map *out, const fct_maps *m, int64_t f) FCT_MUST_CHECK;
/* Mean, max and share from map, h and w. (feature.c) */
void fct_feature_map_measure(fct_feature_map *f);

/* A picture of a run with the run's recipe in its texts. (stamp.c) */
typedef struct fct_stamp {
    const fct_session *session;
    const fct_run_desc *desc;
    int64_t index;        /* which of the run's pictures */
    const fct_edit *edit; /* NULL: none */
    int64_t n_edits;
    const fct_sae_set *saes; /* NULL without edits */
} fct_stamp;
fct_status fct_draw_stamped(fct_image *out, const uint8_t *pixels, int64_t width, int64_t height,
                            const fct_stamp *stamp) FCT_MUST_CHECK;

#endif

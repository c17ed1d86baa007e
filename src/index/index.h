/* index.h - the inward header of index/: taps that keep activation maps. */
#ifndef FCT_INDEX_INDEX_H
#define FCT_INDEX_INDEX_H

#include "edit/edit.h"
#include "facet/index.h"
#include "image/image.h"

/* All features of one block in one picture: the cond half's codes, summed over the chosen steps. */
typedef struct fct_maps {
    const fct_block_info *block;
    const fct_sae *sae;
    int64_t item;        /* which item of the run */
    int64_t step;        /* 0: all */
    int64_t h, w, steps; /* steps: how many were summed */
    float *sum;          /* [F,h*w]; NULL before the first */
} fct_maps;
fct_status fct_maps_tap(void *user, const fct_tap_event *event,
                        fct_tensor *value); /* user: fct_maps */
void fct_maps_clear(fct_maps *m);

/* Runs the recipe with taps on every block of the set, one fct_maps each (array of saes->n, zeroed
   by the caller). result: with the pictures unless no_decode. */
fct_status fct_maps_run(fct_maps *maps, fct_session *session, const fct_sae_set *saes,
                        const fct_recipe *recipe, int64_t step, bool no_decode,
                        fct_run_result *result) FCT_MUST_CHECK;
/* Feature f's mean, max and share over the grid, and its map (copied). */
fct_status fct_maps_feature(fct_feature_map *out, const fct_maps *m, int64_t f) FCT_MUST_CHECK;
void fct_feature_map_measure(fct_feature_map *f); /* mean, max, share from map, h, w */
/* Picture i of a run. */
fct_status fct_draw_result(fct_image *out, const fct_run_result *r, int64_t i) FCT_MUST_CHECK;
/* The same with the recipe of its run in its texts (maps.c). */
typedef struct fct_stamp {
    const fct_session *session;
    const fct_run_desc *desc;
    const fct_edit *edit; /* NULL: none */
    int64_t n_edits;
    fct_sae_set *saes; /* NULL without edits */
} fct_stamp;
fct_status fct_draw_stamped(fct_image *out, const fct_run_result *r, int64_t i,
                            const fct_stamp *stamp) FCT_MUST_CHECK;

#endif

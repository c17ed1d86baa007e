/* facet/index.h - finds out what features are: the strongest ones of a picture, the strongest
   pictures of one, its icon, and what tells two runs apart.

   Do this:
       fct_model *model = NULL;
       fct_session *session = NULL;
       fct_sae_set saes = {0};   // of the example of facet/train.h
       fct_recipe recipe = {0};  // of the example of facet/recipe.h
       fct_look look = {0};
       fct_status st = fct_model_open(&model, &(fct_model_desc){.path = "models/demo"});
       if (st == FCT_OK) st = fct_session_open(&session, model, NULL);
       if (st == FCT_OK) st = fct_sae_set_add(&saes, fct_model_get_info(model), "out/saes");
       if (st == FCT_OK) st = fct_recipe_read(&recipe, "circle.json");
       fct_look_desc desc = {.recipe = &recipe, .top = 3, .overlays = true};
       if (st == FCT_OK) st = fct_look_run(&look, session, &saes, &desc);
       for (int64_t b = 0; b < look.n_blocks; b++)
           for (int64_t i = 0; i < look.block[b].n_features; i++)
               printf("%s:%lld\n", look.block[b].block->short_name,
                      (long long)look.block[b].feature[i].feature);
       fct_look_clear(&look);
       fct_recipe_clear(&recipe);
       fct_sae_set_clear(&saes);
       fct_session_close(session);
       fct_model_close(model);

   Features are ranked by the mean of their activation map over the grid, as the paper does. Under
   guidance the cond half is looked at. Pictures are fct_image (facet/image.h). Nothing here
   prints. */
#ifndef FACET_INDEX_H
#define FACET_INDEX_H

#include "facet/edit.h"
#include "facet/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A feature of the SAE of a block; block points into the model's table. */
typedef struct fct_block_feature {
    const fct_block_info *block;
    int64_t feature; /* from 0 */
} fct_block_feature;

/* One feature over one picture's grid. */
typedef struct fct_feature_map {
    int64_t feature;
    float mean, max; /* of the activations over the grid, cells without it counted as 0 */
    float share;     /* of the cells in which it is active */
    int64_t h, w;
    float *map; /* [h,w]; owned by the result that holds it */
} fct_feature_map;

/* Takes "BLOCK:FEATURE", as in edits, apart: only how it is written. Release *block with fct_free;
   NULL: it is not asked for. FCT_ERR_ARG says what was read and what would be right. */
FCT_API fct_status fct_feature_split(char **block, int64_t *feature,
                                     const char *text) FCT_MUST_CHECK;
/* The same as a feature of these SAEs; FCT_ERR_MISSING: the block has none, or fewer features. */
FCT_API fct_status fct_feature_parse(fct_block_feature *out, const fct_model *m,
                                     const fct_sae_set *saes, const char *text) FCT_MUST_CHECK;

/* ---- scan: one pass over many pictures, for any number of visitors ----

   Runs prompts in batches (or a recipe), reads what the blocks that have an SAE write, encodes it
   once, and gives the codes to every visitor that wants them, and the pictures to those that want
   pictures. What no visitor wants is not computed: without pictures a run ends after the last
   watched block and step. */

typedef struct fct_scan_item {
    int64_t number; /* of its prompt, from 0; 0 of a recipe */
    int64_t place;  /* in its batch, from 0 */
    const char *prompt;
    uint64_t seed;
} fct_scan_item;

/* The codes of one block in one step of one picture; under guidance of the conditional half, and
   read before an edit of the same block. */
typedef struct fct_scan_codes {
    const fct_scan_item *item;
    const char *block; /* short name */
    int64_t nth;       /* which of the set's SAEs */
    const fct_sae *sae;
    int64_t step;          /* of the run, from 1 */
    int64_t visit, visits; /* which of the visited steps, from 1, and how many they are */
    int64_t h, w;
    const float *rows; /* [h*w,d]: what the block wrote */
    /* k pairs a row, index and value [h*w,k], without order; where the SAE has no fixed k, index is
       NULL and value [h*w,f], k = f. */
    int64_t k;
    const int32_t *index;
    const float *value;
} fct_scan_codes;
/* A feature's code in a cell, 0 where it is not active. */
FCT_API float fct_scan_code(const fct_scan_codes *c, int64_t cell, int64_t feature);

typedef struct fct_scan_picture {
    const fct_scan_item *item;
    const uint8_t *pixels; /* [height,width,3] */
    int64_t width, height;
    const struct fct_scan_run *run; /* for fct_scan_draw */
} fct_scan_picture;
/* The picture with the recipe of its run in its texts. */
FCT_API fct_status fct_scan_draw(fct_image *out, const fct_scan_picture *p) FCT_MUST_CHECK;

/* What is called, in this order: begin; for every batch, step after step and block after block in
   running order, the codes of its items in order, then their pictures in order; end, after the last
   batch. Batches come in the prompts' order. Each may be NULL. What a call is given lives until it
   returns; an error ends the scan with it, and `end` is not called. */
typedef struct fct_scan_visitor {
    void *self;
    /* Whether codes of this block (short name) are wanted; NULL: of every one. */
    bool (*wants)(const void *self, const char *block);
    fct_status (*begin)(void *self, int64_t n_items);
    fct_status (*codes)(void *self, const fct_scan_codes *c);
    fct_status (*picture)(void *self, const fct_scan_picture *p);
    fct_status (*end)(void *self);
} fct_scan_visitor;

typedef struct fct_scan_desc {
    const fct_prompt *prompts; /* prompt i, from 0, has its own seed, or else the settings' + i */
    int64_t n_prompts;
    const int64_t *pick; /* [n_pick]: numbers of the prompts that run, ascending; NULL: all */
    int64_t n_pick;
    const fct_settings *settings; /* NULL: all the model's */
    fct_edit *edits;              /* of every run */
    int64_t n_edits;
    /* Prompts in one run; 0: 8. Codes are equal, byte for byte, only at equal batches; else to
       within rounding. */
    int64_t batch;
    /* In place of all these: a recipe's run, of which its own picture is visited. */
    const fct_recipe *recipe;
    int64_t step;     /* the step whose codes are read, from 1; 0: every one */
    const char *what; /* names the progress that is told: "prompts"; NULL: none is */
    const fct_log *log;
} fct_scan_desc;
/* FCT_ERR_ARG: the step is not there, or there are no SAEs though a visitor wants codes.
   FCT_ERR_STOPPED: the log's stop flag was raised; it is looked at before every batch. */
FCT_API fct_status fct_scan_run(fct_session *session, const fct_sae_set *saes,
                                const fct_scan_desc *desc, const fct_scan_visitor *visitor,
                                int64_t n_visitors) FCT_MUST_CHECK;

typedef struct fct_scan_store_desc {
    int64_t first, n; /* prompts of the store; n 0: all from `first` on */
    int64_t batch;    /* prompts whose rows are encoded together; 0: 64 */
    const char *what; /* as in fct_scan_desc */
    const fct_log *log;
} fct_scan_store_desc;
/* The same over the captured rows of a store: no model runs, so there are no pictures. Within a
   batch, blocks come one after the other, and of each its items one after the other with their
   steps; rows of the conditional half alone. FCT_ERR_MISSING: the store has not all blocks that are
   wanted. FCT_ERR_ARG: it has no prompts, as one that was imported. */
FCT_API fct_status fct_scan_store(const fct_store *store, const fct_sae_set *saes,
                                  const fct_scan_store_desc *desc, const fct_scan_visitor *visitor,
                                  int64_t n_visitors) FCT_MUST_CHECK;

/* ---- look: the strongest features of one picture ---- */
typedef struct fct_look_desc {
    const fct_recipe *recipe;
    int64_t top;   /* features a block; 0: 10 */
    int64_t step;  /* from 1; 0: the mean over all steps */
    bool overlays; /* also draw every map over the picture */
    const fct_log *log;
} fct_look_desc;
typedef struct fct_look_block {
    const fct_block_info *block;
    fct_feature_map *feature; /* strongest first; fewer than top when fewer are active */
    fct_image *overlay;       /* [n_features], with desc.overlays; else NULL */
    int64_t n_features;
} fct_look_block;
typedef struct fct_look {
    fct_image *picture;    /* one, which carries the recipe of this run */
    fct_look_block *block; /* those that have an SAE, in running order */
    int64_t n_blocks;
} fct_look;
/* Runs the recipe again and ranks what is active. Deltas are read before they are edited: an edit
   of a block shows in the blocks after it, not in its own. Release with fct_look_clear. */
FCT_API fct_status fct_look_run(fct_look *out, fct_session *session, fct_sae_set *saes,
                                const fct_look_desc *desc) FCT_MUST_CHECK;
FCT_API void fct_look_clear(fct_look *l);

/* ---- top: the strongest pictures of features, over prompts ---- */
typedef struct fct_top_desc {
    const fct_block_feature *feature; /* several are found in one pass */
    int64_t n_features;
    const fct_prompt *prompts; /* prompt i, from 0, has its own seed, or else the settings' + i */
    int64_t n_prompts;
    const fct_settings *settings; /* NULL: all the model's */
    int64_t top;                  /* pictures a feature; 0: 9 */
    int64_t batch;                /* prompts in one run; 0: 8 */
    bool no_pictures;             /* ranks and maps only */
    const fct_log *log;
} fct_top_desc;
typedef struct fct_top_example {
    int64_t prompt; /* its number */
    uint64_t seed;
    fct_feature_map map; /* mean over the steps */
    /* One each; NULL with no_pictures. The picture carries its recipe: the batch that it was made
       in. */
    fct_image *picture, *overlay;
} fct_top_example;
typedef struct fct_top_feature {
    fct_block_feature feature;
    fct_top_example *example; /* strongest first; pictures in which it is not active are left out */
    int64_t n_examples;
} fct_top_feature;
typedef struct fct_top {
    fct_top_feature *feature; /* in desc's order */
    int64_t n_features;
} fct_top;
/* Runs all prompts once, and those of the strongest pictures again for their pixels. Release with
   fct_top_clear. */
FCT_API fct_status fct_top_run(fct_top *out, fct_session *session, const fct_sae_set *saes,
                               const fct_top_desc *desc) FCT_MUST_CHECK;
FCT_API void fct_top_clear(fct_top *t);

/* ---- icon: the empty prompt with one feature alone in its block ---- */
typedef struct fct_icon_desc {
    fct_block_feature feature;
    double strength;              /* times k times the unit; 0: 1 */
    fct_edit_unit unit;           /* which of the feature's statistics is 1 */
    const uint64_t *seeds;        /* of the columns, each added to the settings' */
    int64_t n_seeds;              /* 0: seeds 0, 1, 2 */
    const fct_settings *settings; /* NULL: all the model's */
} fct_icon_desc;
typedef struct fct_icon {
    fct_image *icon;  /* [n]: with the feature alone; each carries its recipe */
    fct_image *clean; /* [n]: as the empty prompt makes it; so do these */
    int64_t n;
} fct_icon;
/* FCT_ERR_MISSING: the block has no SAE, or it has no statistics, which every unit but ONE needs.
   Release with fct_icon_clear. */
FCT_API fct_status fct_icon_run(fct_icon *out, fct_session *session, fct_sae_set *saes,
                                const fct_icon_desc *desc) FCT_MUST_CHECK;
FCT_API void fct_icon_clear(fct_icon *i);

/* ---- contrast: score_f = mean_A(f)/sum mean_A - mean_B(f)/sum mean_B, all blocks together ---- */
typedef struct fct_contrast_desc {
    const fct_recipe *a, *b;
    const fct_mask *mask_a; /* means are weighted by it; NULL: everywhere. MAP masks are refused */
    const fct_mask *mask_b;
    int64_t step; /* from 1; 0: the mean over all steps */
    const fct_log *log;
} fct_contrast_desc;
typedef struct fct_contrast_row {
    const fct_block_info *block;
    int64_t feature;
    double score, mean_a, mean_b;
} fct_contrast_row;
typedef struct fct_contrast {
    fct_contrast_row *row; /* every feature that is active in A or B, highest score first */
    int64_t n;
} fct_contrast;
/* Runs both recipes in this session's model. FCT_ERR_ARG: no SAE, or a mask that needs codes.
   Release with fct_contrast_clear. */
FCT_API fct_status fct_contrast_run(fct_contrast *out, fct_session *session,
                                    const fct_sae_set *saes,
                                    const fct_contrast_desc *desc) FCT_MUST_CHECK;
FCT_API void fct_contrast_clear(fct_contrast *c);

typedef struct fct_transport_desc {
    int64_t n_add, n_remove; /* highest and lowest scored features */
    double strength;         /* of what is added; 0: 1 */
} fct_transport_desc;
/* FCT_ERR_ARG for two recipes between which no features can move: of differing models, sizes or
   steps. */
FCT_API fct_status fct_contrast_check(const fct_model *m, const fct_recipe *a,
                                      const fct_recipe *b) FCT_MUST_CHECK;
/* B's recipe with edits that bring A's features (from A, under mask_a) and take out B's own
   (x0 static, under mask_b). Release with fct_recipe_clear. */
FCT_API fct_status fct_contrast_recipe(fct_recipe *out, const fct_model *m, fct_sae_set *saes,
                                       const fct_contrast *c, const fct_contrast_desc *desc,
                                       const fct_transport_desc *transport) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/* facet/recipe.h - edits, masks and recipes as values: read, written, copied, and stamped into
   pictures. Nothing here runs a model; facet/edit.h does.

   Do this:
       fct_edit edit = {0};
       fct_recipe recipe = {0};
       char *text = NULL;
       const char *json = "{\"format\": \"facet-recipe\", \"prompt\": \"a red circle\"}";
       fct_status st = fct_edit_parse(&edit, "up.0.1:12 +3 @box:0.2,0.2,0.8,0.8");
       if (st == FCT_OK) st = fct_edit_text(&text, &edit);
       if (st == FCT_OK) puts(text);
       if (st == FCT_OK)
           st = fct_recipe_parse(&recipe, json, (int64_t)strlen(json), "written by hand");
       if (st == FCT_OK) st = fct_recipe_write(&recipe, "circle.json");
       fct_free(text);
       fct_recipe_clear(&recipe);
       fct_edit_clear(&edit);

   What each edit does to a block's delta (u: the feature's statistic named by unit, z: its
   activation map, d: its direction, M: the mask in [0,1]):

       +V -V        + V*u*M*d         under guidance: cond plus, uncond minus (branch picks one)
       xS           + (S-1)*z*M*d     x0 ablates, x1 changes nothing
       =V           + (V*u - z)*M*d
       only V       delta := V*k*u*d  on branch's halves (default cond); the other half's := 0
       rebuild      delta := the SAE's reconstruction of delta
       zero         delta := 0
       from R:F xS  + S*sum_f z_source*M*d   over the features F of the run that recipe R
                                      describes (its cond half); halves as for +V

   In one block and step first at most one replacing edit (only, rebuild, zero; with a mask:
   delta + M*(new - delta)), then all additive ones summed. Every code is read from the incoming
   delta; a static edit's codes come from the run without edits. The order in which edits are given
   changes no byte; neither does an edit whose coefficient is zero. */
#ifndef FACET_RECIPE_H
#define FACET_RECIPE_H

#include "facet/image.h"
#include "facet/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fct_recipe fct_recipe;

typedef enum fct_edit_op {
    FCT_EDIT_ADD,     /* +V -V */
    FCT_EDIT_SCALE,   /* xS */
    FCT_EDIT_SET,     /* =V */
    FCT_EDIT_ONLY,    /* only V */
    FCT_EDIT_REBUILD, /* rebuild */
    FCT_EDIT_ZERO,    /* zero */
    FCT_EDIT_FROM     /* from RECIPE:FEATURES xS */
} fct_edit_op;

typedef enum fct_edit_unit {
    FCT_UNIT_MEAN,
    FCT_UNIT_STD,
    FCT_UNIT_MAX,
    FCT_UNIT_ONE
} fct_edit_unit;

typedef enum fct_mask_kind {
    FCT_MASK_NONE,
    FCT_MASK_FILE,
    FCT_MASK_BOX,
    FCT_MASK_ELLIPSE,
    FCT_MASK_MAP
} fct_mask_kind;

typedef struct fct_mask {
    fct_mask_kind kind;
    char *path;            /* FILE: a PNG or JPEG, white is 1; owned */
    int64_t width, height; /* FILE, once loaded: */
    uint8_t *grey;         /* [height,width]; owned */
    double box[4];         /* BOX, ELLIPSE's bounding box: x0,y0,x1,y1 of the picture, y down */
    int64_t feature;       /* MAP: 1 where this feature's code is above threshold, else 0 */
    double threshold;
} fct_mask;

typedef struct fct_edit { /* zero-initialised or filled by parse; strings and arrays owned */
    char *block;          /* short or full name */
    int64_t feature;      /* ADD, SCALE, SET, ONLY */
    fct_edit_op op;
    double value; /* V or S */
    fct_edit_unit unit;
    fct_mask mask;
    int64_t first_step, last_step; /* from 1, both included; 0, 0: all */
    fct_half branch;               /* DEFAULT: both; for only: cond */
    bool is_static;
    char *source_path;  /* FROM: recipe or PNG */
    fct_recipe *source; /* FROM, once loaded */
    int64_t *features;  /* FROM */
    int64_t n_features;
} fct_edit;

/* 'BLOCK:FEATURE OP [@MASK] [steps=1-3] [branch=cond|uncond|both] [unit=mean|std|max|one]
   [static]', options in any order; without a feature: 'BLOCK rebuild', 'BLOCK zero', 'BLOCK from
   RECIPE:3,17 x1'. Masks: @file.png @box:x0,y0,x1,y1 @ellipse:x0,y0,x1,y1
   @map:FEATURE>T. Words with spaces go in "double quotes". Reads no file. Errors say what was read
   and what would be right. */
FCT_API fct_status fct_edit_parse(fct_edit *out, const char *text) FCT_MUST_CHECK;
/* The canonical text of an edit, which parses back to the same (files are named, not held).
   Release out with fct_free. */
FCT_API fct_status fct_edit_text(char **out, const fct_edit *e) FCT_MUST_CHECK;
/* Reads what an edit names: mask pictures, source recipes. Relative paths are taken from `folder`
   (NULL: the working directory). Does nothing the second time. fct_edit_run and fct_edit_set_open
   call it. */
FCT_API fct_status fct_edit_load(fct_edit *e, const char *folder) FCT_MUST_CHECK;
FCT_API fct_status fct_edit_copy(fct_edit *out, const fct_edit *e) FCT_MUST_CHECK;
FCT_API void fct_edit_clear(fct_edit *e);

/* '@file.png' or '@file.jpg', 'box:…' …, with or without the '@'. */
FCT_API fct_status fct_mask_parse(fct_mask *out, const char *text) FCT_MUST_CHECK;
FCT_API fct_status fct_mask_load(fct_mask *m, const char *folder) FCT_MUST_CHECK;
/* The mask over a grid, [h,w], row by row: the share of each cell that is covered. NONE gives ones;
   MAP is refused (it needs codes). */
FCT_API fct_status fct_mask_grid(float *out, int64_t h, int64_t w,
                                 const fct_mask *m) FCT_MUST_CHECK;
FCT_API void fct_mask_clear(fct_mask *m);

/* ---- recipes ---- */
typedef struct fct_recipe_sae {
    char *block, *path, *hash, *stats_hash;
} fct_recipe_sae;

struct fct_recipe { /* zero-initialised is empty; all strings and arrays owned. Recipes of runs are
                       resolved; in recipes written by hand 0 and NULL mean the model's default */
    char *version;  /* of the facet that wrote it */
    char *model, *model_path, *model_hash;
    char *backend, *precision;
    char *sampler; /* the scheduler's class */
    char *plan;    /* hash of the resolved plan; NULL: not known */
    int64_t threads;
    fct_run_item *item; /* the whole batch; its strings are owned here */
    int64_t n_items;
    int64_t index; /* which item of the batch this picture is, from 0 */
    fct_settings settings; /* owns its texts; without a seed, which the items have */
    fct_recipe_sae *sae;   /* those that the edits use */
    int64_t n_saes;
    fct_edit *edit;
    int64_t n_edits;
};

/* A run description that points into the recipe. Taps and decoding are the caller's to add. */
FCT_API void fct_recipe_desc(const fct_recipe *r, fct_run_desc *out);
/* Reads recipe JSON or a PNG made by facet; then loads the files that its edits name (relative to
   it). */
FCT_API fct_status fct_recipe_read(fct_recipe *out, const char *path) FCT_MUST_CHECK;
/* The same from memory; reads no file. name: for errors. */
FCT_API fct_status fct_recipe_parse(fct_recipe *out, const void *data, int64_t n,
                                    const char *name) FCT_MUST_CHECK;
/* JSON; release with fct_free. */
FCT_API fct_status fct_recipe_text(char **out, const fct_recipe *r) FCT_MUST_CHECK;
FCT_API fct_status fct_recipe_write(const fct_recipe *r, const char *path) FCT_MUST_CHECK;
/* The picture's texts: `parameters` (the line that other tools read) and `facet` (the whole
   recipe). */
FCT_API fct_status fct_recipe_stamp(const fct_recipe *r, fct_image *picture) FCT_MUST_CHECK;
FCT_API fct_status fct_recipe_copy(fct_recipe *out, const fct_recipe *r) FCT_MUST_CHECK;
FCT_API void fct_recipe_clear(fct_recipe *r);

#ifdef __cplusplus
}
#endif
#endif

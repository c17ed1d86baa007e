/* facet/recipe.h - reads, writes and copies edits, masks and recipes as values, and stamps recipes
   into pictures. Nothing here runs a model; facet/edit.h does.

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

/* ---- masks: where an edit acts ---- */

typedef enum fct_mask_kind {
    FCT_MASK_NONE,    /* everywhere */
    FCT_MASK_FILE,    /* a picture: white is 1 */
    FCT_MASK_BOX,     /* 1 inside */
    FCT_MASK_ELLIPSE, /* 1 inside */
    FCT_MASK_MAP      /* 1 where a feature is active */
} fct_mask_kind;

/* Zero is everywhere; fct_mask_clear releases one. */
typedef struct fct_mask {
    fct_mask_kind kind;

    /* FILE: a PNG or JPEG, and once it is loaded its pixels [height,width]; both owned */
    char *path;
    int64_t width, height;
    uint8_t *grey;

    /* BOX, ELLIPSE: x0, y0, x1, y1 of the box (around the ellipse), each from 0 to 1 of the
       picture, y down */
    double box[4];

    /* MAP: where this feature's code of the row is above the threshold */
    int64_t feature;
    double threshold;
} fct_mask;

/* Reads "file.png", "file.jpg", "box:x0,y0,x1,y1", "ellipse:x0,y0,x1,y1" or "map:FEATURE>T", with
   or without an '@' before it. Opens no file. FCT_ERR_ARG and FCT_ERR_RANGE say what a mask is. */
FCT_API fct_status fct_mask_parse(fct_mask *out, const char *text) FCT_MUST_CHECK;
/* Reads a FILE mask's picture, from `folder` when its path is relative (NULL: the working
   directory). Does nothing for other kinds, nor the second time. */
FCT_API fct_status fct_mask_load(fct_mask *m, const char *folder) FCT_MUST_CHECK;
/* Lays the mask over a grid: out [h,w], row by row, gets the share of each cell that is covered,
   from 0 to 1. FCT_ERR_ARG: a FILE that is not loaded. FCT_ERR_UNSUPPORTED: a MAP, whose place
   depends on the run. */
FCT_API fct_status fct_mask_grid(float *out, int64_t h, int64_t w,
                                 const fct_mask *m) FCT_MUST_CHECK;
FCT_API void fct_mask_clear(fct_mask *m);

/* ---- edits ---- */

/* As on the command line, see above. */
typedef enum fct_edit_op {
    FCT_EDIT_ADD,     /* +V -V */
    FCT_EDIT_SCALE,   /* xS */
    FCT_EDIT_SET,     /* =V */
    FCT_EDIT_ONLY,    /* only V */
    FCT_EDIT_REBUILD, /* rebuild */
    FCT_EDIT_ZERO,    /* zero */
    FCT_EDIT_FROM     /* from RECIPE:FEATURES xS */
} fct_edit_op;

/* What V is counted in: the feature's mean when it is active, its standard deviation then, its
   maximum (statistics that come with the SAE), or plain activation. */
typedef enum fct_edit_unit {
    FCT_UNIT_MEAN,
    FCT_UNIT_STD,
    FCT_UNIT_MAX,
    FCT_UNIT_ONE
} fct_edit_unit;

/* One change to a run. Made by fct_edit_parse or filled by hand from zero; fct_edit_clear releases
   its strings and arrays, which it owns. */
typedef struct fct_edit {
    char *block;     /* short or full name */
    int64_t feature; /* ADD, SCALE, SET, ONLY: from 0 */
    fct_edit_op op;
    double value; /* V or S */
    fct_edit_unit unit;
    fct_mask mask;
    int64_t first_step, last_step; /* from 1, both included; 0, 0: all */
    fct_half branch;               /* of guidance; DEFAULT: both, for ONLY cond */
    bool is_static;                /* codes come from the run without edits */

    /* FROM: the recipe's JSON or PNG, the recipe itself once it is loaded, and the features that
       are taken [n_features] */
    char *source_path;
    fct_recipe *source;
    int64_t *features;
    int64_t n_features;
} fct_edit;

/* Reads an edit from its command-line form; opens no file.

       BLOCK:FEATURE OP [OPTION...]        OP: +V -V xS =V, or 'only V'
       BLOCK rebuild [OPTION...]
       BLOCK zero [OPTION...]
       BLOCK from RECIPE:3,17 xS [OPTION...]

       OPTION: @MASK  steps=1-3  branch=cond|uncond|both  unit=mean|std|max|one  static

   Options come in any order; masks as fct_mask_parse reads them; words with spaces go in "double
   quotes". FCT_ERR_ARG and FCT_ERR_RANGE say what was read and what would be right; out is then
   zero. */
FCT_API fct_status fct_edit_parse(fct_edit *out, const char *text) FCT_MUST_CHECK;
/* The canonical text of an edit, which parses back to the same; files are named in it, not held.
   Release *out with fct_free. */
FCT_API fct_status fct_edit_text(char **out, const fct_edit *e) FCT_MUST_CHECK;
/* Reads what an edit names: its mask's picture, its source recipe and what that names in turn.
   Relative paths are taken from `folder` (NULL: the working directory). Does nothing the second
   time. fct_edit_run and fct_edit_set_open call it. */
FCT_API fct_status fct_edit_load(fct_edit *e, const char *folder) FCT_MUST_CHECK;
/* out owns its copy; after a failure it is zero. */
FCT_API fct_status fct_edit_copy(fct_edit *out, const fct_edit *e) FCT_MUST_CHECK;
FCT_API void fct_edit_clear(fct_edit *e);

/* ---- recipes: all that makes a picture ---- */

/* An SAE that the edits use. stats_hash NULL: it has no statistics; path, hash NULL: not known. */
typedef struct fct_recipe_sae {
    char *block; /* short name */
    char *path;
    char *hash, *stats_hash; /* as of fct_sae_bound_hash */
} fct_recipe_sae;

/* Zero is an empty recipe; strings and arrays are owned and released by fct_recipe_clear. In the
   recipe of a run everything is resolved; in one that was written by hand 0 and NULL mean the
   model's default, or that it is not known. */
struct fct_recipe {
    char *version; /* of the facet that wrote it */
    char *model, *model_path, *model_hash;
    fct_model_desc engine; /* what fct_model_table describes; its texts are the recipe's own */
    char *sampler;         /* the scheduler's class */
    char *plan;            /* hash of what decides which algorithms run */
    int64_t threads;

    /* the whole batch [n_items], of which the picture is number `index`, from 0. Their strings are
       the recipe's own, their seeds whole (settings.seed is 0) */
    fct_run_item *item;
    int64_t n_items, index;
    fct_settings settings;

    fct_recipe_sae *sae; /* [n_saes] */
    int64_t n_saes;
    fct_edit *edit; /* [n_edits] */
    int64_t n_edits;
};

/* The description of the recipe's run, which points into the recipe. Taps and decoding are the
   caller's to add; edits are not in it (fct_recipe_run does them). */
FCT_API void fct_recipe_desc(const fct_recipe *r, fct_run_desc *out);
/* Reads a file ("-": standard input) of recipe JSON, or a PNG made by facet; then the files that
   its edits name, relative to it. FCT_ERR_FORMAT names the field that is wrong, or says that a
   picture carries no recipe; FCT_ERR_UNSUPPORTED: a later version wrote it. */
FCT_API fct_status fct_recipe_read(fct_recipe *out, const char *path) FCT_MUST_CHECK;
/* The same of n bytes in memory; opens no file. name: what errors call it. */
FCT_API fct_status fct_recipe_parse(fct_recipe *out, const void *data, int64_t n,
                                    const char *name) FCT_MUST_CHECK;
/* The recipe as JSON; mask pictures and source recipes that are loaded travel inside. Release *out
   with fct_free. */
FCT_API fct_status fct_recipe_text(char **out, const fct_recipe *r) FCT_MUST_CHECK;
/* The same into a file ("-": standard output), which is whole or not there. */
FCT_API fct_status fct_recipe_write(const fct_recipe *r, const char *path) FCT_MUST_CHECK;
/* Puts the recipe into a picture's texts, which fct_png_write keeps: `parameters` (the
   line that other tools read) and `facet` (the whole recipe). FCT_ERR_ARG: index is not in the
   batch. */
FCT_API fct_status fct_recipe_stamp(const fct_recipe *r, fct_image *picture) FCT_MUST_CHECK;
/* out owns its copy; after a failure it is zero. */
FCT_API fct_status fct_recipe_copy(fct_recipe *out, const fct_recipe *r) FCT_MUST_CHECK;
FCT_API void fct_recipe_clear(fct_recipe *r);

#ifdef __cplusplus
}
#endif
#endif

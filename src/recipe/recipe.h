/* recipe.h - declares the words of edits, edits and recipes as JSON, and the files that they name.
   Of the model only its descriptions are known here (runs, blocks). */
#ifndef FCT_RECIPE_RECIPE_H
#define FCT_RECIPE_RECIPE_H

#include "facet/recipe.h"
#include "tensor/tensor.h"

/* Strengths, steps and features beyond these are mistakes. */
#define FCT_EDIT_MAX_STRENGTH 1e6
#define FCT_EDIT_MAX_STEPS 10000
#define FCT_EDIT_MAX_FEATURE (INT64_C(1) << 31)
/* Recipes inside recipes: the source of a source ... */
enum { FCT_EDIT_MAX_DEPTH = 4 };

/* ---- tables (names.c): one source for text, JSON and errors ---- */
extern const char *const fct_edit_op_names[];   /* "add" ... by fct_edit_op */
extern const char *const fct_edit_unit_names[]; /* "mean" "std" "max" "one" */
enum { FCT_EDIT_OPS = 7, FCT_EDIT_UNITS = 4 };
int fct_half_find(const char *name);          /* -1: none */
bool fct_edit_has_feature(fct_edit_op op);    /* ADD, SCALE, SET, ONLY */
bool fct_edit_replaces(fct_edit_op op);       /* ONLY, REBUILD, ZERO */
bool fct_edit_reads_codes(const fct_edit *e); /* of the delta: SCALE, SET, REBUILD, a map mask */
/* The shortest digits that read back to the same number, with a point in every locale: "3". */
void fct_number_text(char *text, int64_t size, double v);
/* A word of the command-line form: as it is, or in double quotes with \" and \\. */
fct_status fct_word_append(fct_str *s, const char *word) FCT_MUST_CHECK;

/* ---- text (edit_text.c) ---- */
/* Puts "edit "...": " before a failure. */
fct_status fct_edit_where(fct_status st, const fct_edit *e);

/* ---- JSON (json.c, mask_json.c); where: names the place in errors ---- */
fct_status fct_edit_to_json(json_t **out, const fct_edit *e) FCT_MUST_CHECK;
/* j: an object, or the text form. depth counts recipes inside recipes, here and below. */
fct_status fct_edit_of_json(fct_edit *out, const json_t *j, const char *where,
                            int depth) FCT_MUST_CHECK;
fct_status fct_mask_to_json(json_t **out, const fct_mask *m) FCT_MUST_CHECK;
fct_status fct_mask_of_json(fct_mask *out, const json_t *j, const char *where) FCT_MUST_CHECK;
fct_status fct_recipe_to_json(json_t **out, const fct_recipe *r) FCT_MUST_CHECK;
fct_status fct_recipe_of_json(fct_recipe *out, const json_t *j, const char *where,
                              int depth) FCT_MUST_CHECK;

/* ---- files (load.c) ---- */
fct_status fct_edit_load_at(fct_edit *e, const char *folder, int depth) FCT_MUST_CHECK;
fct_status fct_recipe_read_at(fct_recipe *out, const char *path, int depth) FCT_MUST_CHECK;

/* ---- values (recipe.c) ---- */
/* Copies what a run is told (items, negatives, numbers) and its edits into a recipe that has none
   yet. On failure the recipe is half filled: clear it. */
fct_status fct_recipe_copy_run(fct_recipe *r, const fct_run_desc *d, const fct_edit *edits,
                               int64_t n_edits) FCT_MUST_CHECK;
void fct_recipe_clear_saes(fct_recipe *r);

#endif

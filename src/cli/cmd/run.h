/* run.h - helps the commands that run a model: rows of options, opening the model and its SAEs,
   recipes and pictures. */
#ifndef FCT_CLI_CMD_RUN_H
#define FCT_CLI_CMD_RUN_H

#include "cli/cli.h"
#include "facet/edit.h"
#include "facet/session.h"
#include "facet/tensor.h"

/* ---- models and SAEs ---- */
/* The model that --model, --dtype and --backend ask for; without --model the demo model, and the
   log says where it is. */
fct_status fct_cli_model_open(fct_model **out, const fct_cli *c, bool no_vae) FCT_MUST_CHECK;
/* The same for a recipe: its own model, precision and backend where the options say nothing.
   keep_precision false: the number type is the option's. */
fct_status fct_cli_recipe_model(fct_model **out, const fct_cli *c, const fct_recipe *r,
                                bool keep_precision) FCT_MUST_CHECK;
/* A session of the model with the command's threads and log. */
fct_status fct_cli_session_open(fct_session **out, const fct_cli *c,
                                const fct_model *m) FCT_MUST_CHECK;
/* Every --sae. */
fct_status fct_cli_saes_open(fct_sae_set *out, const fct_cli *c, const fct_model *m) FCT_MUST_CHECK;
/* What the recipe names itself, for blocks that have none yet. path: the recipe's, for relative
   names. */
fct_status fct_cli_recipe_saes_add(fct_sae_set *out, const fct_model *m, const fct_recipe *r,
                                   const char *path) FCT_MUST_CHECK;
/* A warning when model, sampler or SAEs are not those of the recipe (name: of its file). */
fct_status fct_cli_recipe_check(const fct_cli *c, const fct_recipe *r, const fct_model *m,
                                fct_sae_set *saes, const char *name) FCT_MUST_CHECK;
/* --sae first, then what the recipe names itself. */
fct_status fct_cli_recipe_saes(fct_sae_set *out, const fct_cli *c, const fct_model *m,
                               const fct_recipe *r, const char *path) FCT_MUST_CHECK;
/* Wrong use when there is none. */
fct_status fct_cli_need_saes(fct_cli *c, const fct_sae_set *saes) FCT_MUST_CHECK;
/* Every --edit, parsed; release them with fct_cli_edits_free. A malformed one is wrong use. */
fct_status fct_cli_edits_read(fct_edit **out, int64_t *out_n, fct_cli *c) FCT_MUST_CHECK;
void fct_cli_edits_free(fct_edit *edits, int64_t n);

/* Of a crosscoder a line for each block: which share of the features' directions is there, and how
   many features are of that block almost alone; others say nothing. (features_stats.c) */
fct_status fct_cli_say_blocks(fct_cli *c, const fct_sae *s) FCT_MUST_CHECK;

/* "BLOCK:N" in its form; else wrong use, before anything is opened. */
fct_status fct_cli_check_feature(fct_cli *c, const char *text) FCT_MUST_CHECK;

/* ---- names and pictures ---- */
/* By its suffix: .png .jpg .webp ... */
bool fct_cli_is_picture(const char *path);
/* A PNG can be written there; a name with the suffix of something else is wrong use. */
fct_status fct_cli_check_picture(fct_cli *c, const char *path) FCT_MUST_CHECK;
/* "out.png", 2 of 3 -> "out-2.png"; alone: a copy. Release with fct_free. */
fct_status fct_cli_numbered(char **out, const char *path, int64_t number,
                            int64_t of) FCT_MUST_CHECK;
fct_status fct_cli_picture_write(const fct_recipe *r, const uint8_t *pixels, int64_t width,
                                 int64_t height, const char *path) FCT_MUST_CHECK;
/* To dir/name. */
fct_status fct_cli_image_write(const fct_image *im, const char *dir,
                               const char *name) FCT_MUST_CHECK;
/* Rows of numbers; NULL: no memory. */
json_t *fct_cli_map_json(const float *map, int64_t h, int64_t w);

#endif

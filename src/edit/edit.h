/* edit.h - declares the codes that edits read, their effect on one delta (which needs no model and
   is therefore tested by hand), and edits compiled for a run. */
#ifndef FCT_EDIT_EDIT_H
#define FCT_EDIT_EDIT_H

#include "facet/edit.h"
#include "recipe/recipe.h"
#include "sae/sae.h"

/* ---- codes (codes.c) ---- */

/* The codes of n rows. TopK holds index, value [n,k]; SAEs without a fixed k hold value [n,f] and
   index NULL. SAEs that normalise rows hold scale, shift [n] (fct_sae_row_scale), others NULL. Zero
   is empty; the arrays keep their memory (their rooms) when other rows of the same SAE are encoded
   into them. */
typedef struct fct_codes {
    int64_t n, k, f;
    int32_t *index;
    float *value, *scale, *shift;
    int64_t index_room, value_room, scale_room, shift_room;
} fct_codes;

/* Encodes and decodes with one SAE; keeps its memory. Starts as zero with code.sae, and code.be
   when it is known (what computes the run). */
typedef struct fct_coder {
    fct_sae_coder code;
    int32_t *every; /* [f]: 0, 1 ...; NULL until codes of all features are decoded */
} fct_coder;

/* What computes the run that the rows come from; NULL: as it is. Drops its memory when that is
   another than before. */
void fct_coder_on(fct_coder *c, const fct_backend *be);
void fct_coder_clear(fct_coder *c);
/* rows [n,d] to codes. After a failure out holds no rows; it is cleared by its owner. */
fct_status fct_codes_encode(fct_codes *out, fct_coder *coder, const float *rows,
                            int64_t n) FCT_MUST_CHECK;
/* A feature's code in a row; 0 where it is not active. */
float fct_codes_at(const fct_codes *c, int64_t row, int64_t feature);
/* By what a feature's code in this row is multiplied to be a length along its direction: 1, unless
   the SAE scales rows or codes. */
double fct_codes_direction_scale(const fct_codes *c, const fct_sae *sae, int64_t row,
                                 int64_t feature);
/* rows [n,d]: what the codes say together. */
fct_status fct_codes_decode(const fct_codes *c, fct_coder *coder, float *rows) FCT_MUST_CHECK;
void fct_codes_clear(fct_codes *c);

/* ---- the effect of a block's edits on one delta (apply.c) ---- */

/* An edit that acts in this block and step, checked. */
typedef struct fct_live_edit {
    const fct_edit *edit;
    double unit;             /* u of the table in facet/recipe.h */
    const float *mask;       /* [h,w]; NULL: everywhere, or a map */
    const fct_codes *source; /* FROM: of h*w rows */
} fct_live_edit;

/* Memory of one block's edits, kept from step to step and from run to run. Starts as zero with
   coder.code.sae, which is NULL when no edit needs an SAE. */
typedef struct fct_apply_work {
    fct_coder coder;
    fct_codes incoming; /* of the delta's rows, when an edit reads them */
    float *rebuilt[2];  /* [b*h*w,d], for rebuild: by the run's own codes, by the clean run's */
    double *base, *sum; /* [d]: the row before additions, and what is added */
    int64_t rebuilt_room[2], base_room, sum_room;
} fct_apply_work;
void fct_apply_work_clear(fct_apply_work *w);

typedef struct fct_apply_args {
    fct_apply_work *work;
    const fct_tap_event *event;
    const fct_tensor *delta;   /* [b,h,w,d], changed in place */
    const fct_codes *clean;    /* of b*h*w rows; NULL when no edit is static */
    const fct_live_edit *edit; /* in an order that does not depend on how they were given */
    int64_t n_edits;
} fct_apply_args;
fct_status fct_edit_apply(const fct_apply_args *a) FCT_MUST_CHECK;

/* ---- codes of another run (gather.c) ---- */

/* The codes of one block in one step, for one batch of the run. */
typedef struct fct_gathered {
    int64_t step, first_item, h, w;
    fct_codes codes;
} fct_gathered;

/* What a tap keeps for the edits of a block: all rows of the batch (item -1), or the cond rows of
   one item alone. block NULL: nothing is wanted. */
typedef struct fct_gather {
    const fct_block_info *block;
    fct_coder *coder; /* the plan's */
    int64_t item, first_step, last_step;
    fct_gathered *at; /* [n] */
    int64_t n;
} fct_gather;
/* A tap's function; user: the fct_gather. */
fct_status fct_gather_tap(void *user, const fct_tap_event *event, fct_tensor *value);
/* NULL: nothing was gathered in this step. */
const fct_gathered *fct_gather_find(const fct_gather *g, int64_t step, int64_t first_item);
void fct_gather_clear(fct_gather *g);

/* ---- compiled edits (compile.c), made from a model's description alone ---- */

/* An edit that has been checked. */
typedef struct fct_compiled {
    fct_edit *edit;
    char *json; /* edits are summed in the order of these */
    const fct_block_info *block;
    const fct_sae_bound *bound; /* of the block; NULL: the set has no SAE for it */
    const fct_sae *sae;         /* bound's */
    double unit;                /* u */
    float *grid;                /* [grid_h,grid_w]: the mask, made when the grid is known */
    int64_t grid_h, grid_w;
    int64_t first_step, last_step; /* from 1, both included */
    int64_t source;                /* FROM: which fct_source */
} fct_compiled;

/* A run that features are taken from. */
typedef struct fct_source {
    fct_recipe *recipe; /* an edit's */
    char *json;         /* of the recipe: equal ones run once */
    fct_gather *gather; /* [n_plans]: what each block takes from it */
} fct_source;

/* The edits of one block. */
typedef struct fct_plan {
    fct_edit_set *set;
    const fct_block_info *block;
    const fct_sae_bound *bound; /* NULL: no SAE is given for the block */
    int64_t first, n;           /* in set->compiled, and in set->live */
    fct_gather clean;           /* codes of the run without edits */
    fct_apply_work work;
    char key[65]; /* of all that the edits do (key.c) */
} fct_plan;

struct fct_edit_set {
    fct_run_desc desc;      /* its pointers are the caller's, but settings */
    fct_settings settings;  /* resolved */
    fct_compiled *compiled; /* [n], by block in running order, then by json */
    fct_live_edit *live;    /* [n]: room for those that act in a step */
    int64_t n;
    fct_plan *plan; /* [n_plans], one a block */
    fct_tap *tap;   /* [n_plans] */
    int64_t n_plans;
    fct_source *source; /* [n_sources] */
    int64_t n_sources;
};

/* Everything that can be checked before a run, and nothing that needs one. After a failure set is
   clear. */
fct_status fct_edit_compile(fct_edit_set *set, const fct_model_info *info, const fct_run_desc *desc,
                            fct_edit *edits, int64_t n_edits,
                            const fct_sae_set *saes) FCT_MUST_CHECK;
void fct_edit_set_clear(fct_edit_set *set);
/* Whether the edit reads or writes by an SAE: all but a `zero` without a map mask. */
bool fct_edit_needs_sae(const fct_edit *e);
/* The function of a plan's tap (live.c); user: the fct_plan. */
fct_status fct_edit_tap(void *user, const fct_tap_event *event, fct_tensor *value);
/* Fills the keys of plans and their taps (key.c), once the codes of clean and source runs are
   gathered. */
void fct_edit_set_make_keys(fct_edit_set *set);

/* ---- edited runs (edit_set.c); depth counts recipes that take features from recipes ---- */
fct_status fct_edit_set_open_at(fct_edit_set **out, fct_session *session, const fct_run_desc *desc,
                                fct_edit *edits, int64_t n_edits, const fct_sae_set *saes,
                                int depth) FCT_MUST_CHECK;
fct_status fct_edit_run_at(fct_session *session, const fct_run_desc *desc, fct_edit *edits,
                           int64_t n_edits, const fct_sae_set *saes, fct_run_result *out,
                           int depth) FCT_MUST_CHECK;

/* ---- SAEs (sae_set.c), those of recipes (replay.c) ---- */

/* NULL: the set has none for the block of this short or full name. */
const fct_sae_bound *fct_sae_set_find_bound(const fct_sae_set *set, const char *block);
/* As fct_sae_bound_hash, in one form for every kind: keys of kept moments are made of it. */
const char *fct_sae_bound_key(const fct_sae_bound *b);
/* The set's SAEs that the recipe's edits use, in place of those it names. */
fct_status fct_recipe_put_saes(fct_recipe *r, const fct_sae_set *saes) FCT_MUST_CHECK;

#endif

/* edit.h - the inward header of edit/: the codes that edits read, their effect on one delta (which
   needs no model and is therefore tested by hand), and edits compiled for a run. */
#ifndef FCT_EDIT_EDIT_H
#define FCT_EDIT_EDIT_H

#include "facet/edit.h"
#include "recipe/recipe.h"
#include "sae/sae.h"

/* ---- codes (codes.c) ---- */
/* The codes of n rows. TopK holds index, value [n,k]; SAEs without a fixed k hold value [n,f] and
   index NULL. SAEs that normalise rows hold scale, shift [n] (fct_sae_row_scale), others NULL. The
   arrays keep their memory when other rows of the same SAE are encoded into them; zero-initialised
   is empty. */
typedef struct fct_codes {
    int64_t n, k, f;
    int32_t *index;
    float *value, *scale, *shift;
    int64_t index_room, value_room, scale_room, shift_room;
} fct_codes;
typedef struct fct_coder { /* encodes and decodes with one SAE; keeps its memory */
    const fct_sae *sae;
    fct_sae_work work; /* work.be: what computes the run */
    int32_t *every; /* [f]: 0, 1 ...; NULL until codes of all features are decoded */
} fct_coder;
fct_status fct_codes_encode(fct_codes *out, fct_coder *coder, const float *rows,
                            int64_t n) FCT_MUST_CHECK;
/* What computes the run that the rows come from; NULL: as it is. Drops its memory when that is
   another than before. */
void fct_coder_on(fct_coder *c, const fct_backend *be);
void fct_coder_clear(fct_coder *c);
/* The same once, with memory of its own, by what computes (NULL: cpu); out need not be
   initialised. */
fct_status fct_codes_of_rows(fct_codes *out, const fct_sae *sae, const fct_backend *be,
                             const float *rows, int64_t n) FCT_MUST_CHECK;
float fct_codes_at(const fct_codes *c, int64_t row, int64_t feature); /* 0 where it is not active */
/* What one unit of a feature's code is worth in this row, in units of its direction: 1, unless the
 * SAE scales rows or codes. */
double fct_codes_worth(const fct_codes *c, const fct_sae *sae, int64_t row, int64_t feature);
/* rows [n,d]: what the codes say together. */
fct_status fct_codes_decode(const fct_codes *c, fct_coder *coder, float *rows) FCT_MUST_CHECK;
void fct_codes_clear(fct_codes *c);

/* ---- the effect of a block's edits on one delta (apply.c) ---- */
typedef struct fct_live_edit { /* an edit that acts in this block and step, checked */
    const fct_edit *edit;
    double unit;             /* u */
    const float *mask;       /* [h,w]; NULL: everywhere, or a map */
    const fct_codes *source; /* FROM: of h*w rows */
} fct_live_edit;

typedef struct fct_apply_work { /* of one block, kept from step to step and from run to run */
    fct_coder coder;            /* coder.sae: the block's; NULL when no edit needs one */
    fct_codes incoming;         /* of the delta's rows, when an edit reads them */
    float *rebuilt;             /* [b*h*w,d], for rebuild */
    double *base, *sum;         /* [d]: the row before additions, and what is added */
    int64_t rebuilt_room, base_room, sum_room;
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

/* ---- compiled edits (compile.c, gather.c, live.c, edit_set.c), made from a model's description
        alone ---- */
typedef struct fct_gathered { /* codes of one block in one step of another run */
    int64_t step, first_item, h, w;
    fct_codes codes;
} fct_gathered;
typedef struct fct_gather { /* what a tap keeps for later */
    const fct_block_info *block;
    fct_coder *coder; /* the plan's */
    int64_t item; /* -1: all rows of the batch; else the cond rows of this item alone */
    int64_t first_step, last_step;
    fct_gathered *at;
    int64_t n;
} fct_gather;
fct_status fct_gather_tap(void *user, const fct_tap_event *event,
                          fct_tensor *value); /* user: fct_gather */
const fct_gathered *fct_gather_find(const fct_gather *g, int64_t step, int64_t first_item);
void fct_gather_clear(fct_gather *g);

typedef struct fct_compiled {
    fct_edit *edit;
    char *json; /* edits are summed in the order of these */
    const fct_block_info *block;
    const fct_sae_bound *bound; /* of the block; NULL: the set has no SAE for it */
    const fct_sae *sae;         /* bound's */
    double unit;
    float *grid; /* [grid_h,grid_w]: the mask, made when the grid is known */
    int64_t grid_h, grid_w;
    int64_t first_step, last_step;
    int64_t source; /* FROM: which fct_source */
} fct_compiled;

typedef struct fct_source { /* a run that features are taken from */
    fct_recipe *recipe;     /* an edit's */
    char *json;             /* of the recipe: equal ones run once */
    fct_gather *gather;     /* one a block of the plan that takes from it; others have block NULL */
} fct_source;

typedef struct fct_plan { /* the edits of one block */
    fct_edit_set *set;
    const fct_block_info *block;
    const fct_sae_bound *bound; /* NULL: no SAE is given for the block */
    int64_t first, n;           /* in set->compiled, and in set->live */
    fct_gather clean; /* first_step 0: not needed */
    fct_apply_work work;
    char key[65]; /* of all that the edits do (key.c) */
} fct_plan;

struct fct_edit_set {
    fct_run_desc desc;      /* its pointers are the caller's, but settings */
    fct_settings settings;  /* resolved */
    fct_compiled *compiled; /* by block in running order, then by key */
    int64_t n;
    fct_plan *plan;
    int64_t n_plans;
    fct_source *source;
    int64_t n_sources;
    fct_tap *tap;        /* one a plan */
    fct_live_edit *live; /* [n]: room for those that act in a step */
};

/* Everything that can be checked before a run, and nothing that needs one. */
fct_status fct_edit_compile(fct_edit_set *set, const fct_model_info *info, const fct_run_desc *desc,
                            fct_edit *edits, int64_t n_edits,
                            const fct_sae_set *saes) FCT_MUST_CHECK;
void fct_edit_set_clear(fct_edit_set *set);
fct_status fct_edit_tap(void *user, const fct_tap_event *event,
                        fct_tensor *value); /* user: fct_plan */
fct_status fct_edit_set_open_at(fct_edit_set **out, fct_session *session, const fct_run_desc *desc,
                                fct_edit *edits, int64_t n_edits, const fct_sae_set *saes,
                                int depth) FCT_MUST_CHECK;
fct_status fct_edit_run_at(fct_session *session, const fct_run_desc *desc, fct_edit *edits,
                           int64_t n_edits, const fct_sae_set *saes, fct_run_result *out,
                           int depth) FCT_MUST_CHECK;

/* Fills the keys of plans and their taps, once the codes of clean and source runs are gathered
   (key.c). */
void fct_edit_set_make_keys(fct_edit_set *set);
bool fct_edit_needs_sae(const fct_edit *e); /* all but a `zero` without a map mask */

/* ---- SAEs (sae_set.c), those of recipes (replay.c) ---- */
/* NULL: the set has none for the block of this short or full name. */
const fct_sae_bound *fct_sae_set_find_bound(const fct_sae_set *set, const char *block);
/* A hash of all that encoding and decoding depend on: more than fct_sae_bound_hash, which is of the
   four tensors that every kind has. */
const char *fct_sae_bound_key(const fct_sae_bound *b);
/* The set's SAEs that the recipe's edits use, in place of those it names. */
fct_status fct_recipe_put_saes(fct_recipe *r, const fct_sae_set *saes) FCT_MUST_CHECK;

#endif

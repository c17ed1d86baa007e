/* facet/edit.h - runs a model with edits: binds SAEs to the blocks that edits speak of, runs edits
   and recipes, and writes the recipe of a run. What each edit does is said in facet/recipe.h.

   Do this:
       fct_model *model = NULL;
       fct_session *session = NULL;
       fct_sae_set saes = {0}; // of the example of facet/train.h
       fct_edit edit = {0};
       fct_run_item item = {.prompt = "a red circle"};
       fct_run_desc run = {.items = &item, .n_items = 1};
       fct_run_result result = {0};
       fct_status st = fct_model_open(&model, &(fct_model_desc){.path = "models/demo"});
       if (st == FCT_OK) st = fct_session_open(&session, model, NULL);
       if (st == FCT_OK) st = fct_sae_set_add(&saes, fct_model_get_info(model), "out/saes");
       if (st == FCT_OK) st = fct_edit_parse(&edit, "up.0.1:12 +3 unit=one @box:0,0,0.5,1");
       if (st == FCT_OK) st = fct_edit_run(session, &run, &edit, 1, &saes, &result);
       if (st == FCT_OK) printf("%lld x %lld\n", (long long)result.width, (long long)result.height);
       fct_run_result_clear(&result);
       fct_edit_clear(&edit);
       fct_sae_set_clear(&saes);
       fct_session_close(session);
       fct_model_close(model); */
#ifndef FACET_EDIT_H
#define FACET_EDIT_H

#include "facet/recipe.h"
#include "facet/sae.h"
#include "facet/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the SAEs of a run: at most one a block ----

   A set knows blocks by their names, so one set serves every run of every model that has these
   blocks in these widths. Adding and clearing are one thread's work; in between any number of
   threads may use it. */
typedef struct fct_sae_hashes fct_sae_hashes;

typedef struct fct_sae_bound {
    char *name;       /* "unet.up_blocks.0.attentions.1"; owned */
    char *short_name; /* "up.0.1"; owned */
    int64_t stage;    /* the block's place in the model that it was bound for */
    fct_sae *sae;     /* reads rows of the block's width */
    bool owned;       /* the set releases the SAE */

    /* what fct_sae_bound_hash keeps; owned */
    fct_sae_hashes *hashes;
} fct_sae_bound;

/* Zero is a set without SAEs; fct_sae_set_clear releases one. */
typedef struct fct_sae_set {
    fct_sae_bound *bound; /* [n], in running order of the blocks; owned */
    int64_t n;
} fct_sae_set;

/* Loads SAEs and adds them. text: "[BLOCK=]DIR", DIR as fct_sae_load takes it. Without BLOCK the
   SAE's own metadata or the folder's name tells the block; a folder that holds one folder a block
   (named by short names) adds all of them, a crosscoder its part for each of its blocks.
   FCT_ERR_ARG: a second SAE for a block, or nothing tells the block. FCT_ERR_MISSING: info's model
   has no such block. FCT_ERR_SHAPE: the block has another width. What was added before a failure
   stays. */
FCT_API fct_status fct_sae_set_add(fct_sae_set *set, const fct_model_info *info,
                                   const char *text) FCT_MUST_CHECK;
/* Adds an SAE in memory for the block of this short or full name; fails as fct_sae_set_add. take:
   the set releases it (also when this fails); else it must outlive the set. */
FCT_API fct_status fct_sae_set_bind(fct_sae_set *set, const fct_model_info *info, const char *block,
                                    fct_sae *sae, bool take) FCT_MUST_CHECK;
/* The SAE of the block with this short or full name, the set's own; NULL: it has none for it. */
FCT_API const fct_sae *fct_sae_set_find(const fct_sae_set *set, const char *block);
/* The block of info's model that the SAE reads. FCT_ERR_MISSING: the model has no such block.
   FCT_ERR_SHAPE: its block has another width. */
FCT_API fct_status fct_sae_bound_block(const fct_block_info **out, const fct_sae_bound *b,
                                       const fct_model_info *info) FCT_MUST_CHECK;
/* What the SAE is, as 64 hex digits: a hash of all that encoding and decoding depend on (of a plain
   TopK SAE its four tensors as f32, and k), and one of its statistics (mean, std, max), "" when it
   has none. Made when first asked for; they live as long as the set. */
FCT_API const char *fct_sae_bound_hash(const fct_sae_bound *b);
FCT_API const char *fct_sae_bound_stats_hash(const fct_sae_bound *b);
/* Releases all that the set owns; it may be used again. */
FCT_API void fct_sae_set_clear(fct_sae_set *set);

/* ---- edited runs ---- */

/* The run of desc with edits [n_edits]: first, where edits need them, the runs that features are
   taken from and the run without edits; then the run itself. desc's own taps see each block's
   delta before it is edited. edits are not const, because files that they name are read into them
   (fct_edit_load). saes may be NULL when no edit needs one (`zero`). n_edits 0: fct_session_run.

   Before the first step FCT_ERR_MISSING is told for a block, a feature, an SAE or statistics that
   are not there, FCT_ERR_ARG for edits that contradict each other, for steps that the run does not
   have and for sources of another size, FCT_ERR_SHAPE for an SAE of another width. After a failure
   out is empty; else release it with fct_run_result_clear. */
FCT_API fct_status fct_edit_run(fct_session *session, const fct_run_desc *desc, fct_edit *edits,
                                int64_t n_edits, const fct_sae_set *saes,
                                fct_run_result *out) FCT_MUST_CHECK;

/* The same in two parts. An edit set holds everything checked and gathered (codes of clean and
   source runs, masks on their grids), and can serve many runs of the same prompts, seeds, size,
   steps and guidance, one at a time. desc's items and texts, edits and saes must outlive it. */
typedef struct fct_edit_set fct_edit_set;
FCT_API fct_status fct_edit_set_open(fct_edit_set **out, fct_session *session,
                                     const fct_run_desc *desc, fct_edit *edits, int64_t n_edits,
                                     const fct_sae_set *saes) FCT_MUST_CHECK;
/* [*out_n] taps, one a block that is edited, to be put behind a run's other taps. The set's own.
   Each has a key (fct_tap), so that a session resumes runs that differ in nothing before it. */
FCT_API const fct_tap *fct_edit_set_taps(const fct_edit_set *set, int64_t *out_n);
/* NULL is fine. */
FCT_API void fct_edit_set_close(fct_edit_set *set);

/* ---- recipes of runs, and runs of recipes ---- */

/* The recipe of picture `index`, from 0, of a run of this session: all of its batch, desc's zeros
   resolved by the model, the edits, and those of the SAEs that they use. edits and saes may be NULL
   with n_edits 0. FCT_ERR_ARG: the batch has no such picture. FCT_ERR_UNSUPPORTED: a recipe cannot
   say it, since the run has noise of the caller's, or taps that edit. Release out with
   fct_recipe_clear. */
FCT_API fct_status fct_recipe_of_run(fct_recipe *out, const fct_session *session,
                                     const fct_run_desc *desc, const fct_edit *edits,
                                     int64_t n_edits, const fct_sae_set *saes,
                                     int64_t index) FCT_MUST_CHECK;
/* Adds the recipe's own SAEs for blocks that the set has none for, from the paths that it names
   (relative ones are tried from the working directory, then from `folder`, which may be NULL).
   FCT_ERR_MISSING: one is not there. */
FCT_API fct_status fct_recipe_find_saes(const fct_recipe *r, const fct_model *m, const char *folder,
                                        fct_sae_set *saes) FCT_MUST_CHECK;
/* FCT_OK when this session's model, how it computes (backend, number type, threads) and these SAEs
   are those that made the picture; else FCT_ERR_ARG, whose sentence names every difference. A
   caller that goes on all the same shows it as a warning. */
FCT_API fct_status fct_recipe_check(const fct_recipe *r, const fct_session *session,
                                    const fct_sae_set *saes) FCT_MUST_CHECK;
/* The same without how it is computed: model, sampler and SAEs. For those who look at a run again
   and may do so in other numbers. */
FCT_API fct_status fct_recipe_check_parts(const fct_recipe *r, const fct_model *m,
                                          const fct_sae_set *saes) FCT_MUST_CHECK;
/* Runs the recipe's whole batch, edits included; the recipe's picture is number r->index of it. r
   is not const, and failures are told, as by fct_edit_run. */
FCT_API fct_status fct_recipe_run(fct_session *session, fct_recipe *r, const fct_sae_set *saes,
                                  fct_run_result *out) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

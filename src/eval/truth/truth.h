/* truth.h - declares what the parts of the truth protocol share: the sets of pictures, the workers
   that draw them, and how one picture is made, read and painted.

   Order: open (setup.c), then run (run.c): learn (learn.c: capture, train, codes), choose
   (choose.c), show (cards.c), cause (cause.c), specialise (blocks.c), and the summary (summary.c).
   What each finds goes into the public result (facet/eval.h). */
#ifndef FCT_EVAL_TRUTH_TRUTH_H
#define FCT_EVAL_TRUTH_TRUTH_H

#include "base/base.h"
#include "facet/edit.h"
#include "facet/eval.h"
#include "facet/store.h"

enum {
    FCT_TRUTH_MAX_TRIALS = 4,      /* pairs for strength and mask */
    FCT_TRUTH_MAX_BLOCK_PAIRS = 16 /* pairs whose blocks are zeroed and rebuilt */
};

/* One thread that draws, with all that a thread must own; model, SAEs and checker are shared. */
typedef struct fct_truth_worker {
    fct_truth *t;
    fct_session *session;
    fct_reader *reader;
    int64_t runs; /* pictures made so far */
} fct_truth_worker;

/* Which clean pictures of a set there are, and which the next stage wants. */
typedef struct fct_truth_clean {
    fct_truth_set *set;
    bool *saved;                 /* [n]: its PNG is in the folder */
    bool *wanted, *wanted_saved; /* [n] */
} fct_truth_clean;

struct fct_truth {
    fct_truth_result result;
    const fct_log *log;
    char *dir;
    double started;
    const fct_model *model;
    fct_world world;
    fct_checker *checker;
    int64_t head[FCT_WORLD_MAX_FACTORS]; /* the checker's head of each factor */
    fct_prompts train, held;
    fct_truth_clean choose, show;
    fct_sae_set saes, controls;
    fct_truth_worker *worker; /* [n_workers] */
    int n_workers;
};

/* ---- the stages ---- */

fct_status fct_truth_learn(fct_truth *t) FCT_MUST_CHECK;
/* Fills the cards up to their words. */
fct_status fct_truth_choose(fct_truth *t) FCT_MUST_CHECK;
/* Pictures and readings of the cards' first part. */
fct_status fct_truth_show_cards(fct_truth *t) FCT_MUST_CHECK;
fct_status fct_truth_cause(fct_truth *t) FCT_MUST_CHECK;
fct_status fct_truth_specialise(fct_truth *t) FCT_MUST_CHECK;
fct_status fct_truth_write_summary(fct_truth *t) FCT_MUST_CHECK;

/* The number of cards, and card i of all of them. (choose.c) */
int64_t fct_truth_count_cards(const fct_truth *t);
fct_truth_card *fct_truth_find_card(fct_truth *t, int64_t i, fct_truth_block **block);

/* ---- workers (workers.c) ---- */

/* One job for each of 0 .. n-1, shared by the workers: a job writes what is its own and reads the
   rest. */
typedef fct_status (*fct_truth_job)(fct_truth_worker *w, void *self, int64_t i);
fct_status fct_truth_share(fct_truth *t, const char *what, int64_t n, fct_truth_job job,
                           void *self) FCT_MUST_CHECK;
void fct_truth_workers_close(fct_truth *t);
/* Pictures made so far. */
int64_t fct_truth_count_runs(const fct_truth *t);

/* ---- pictures (pictures.c) ---- */

/* One run of a prompt with edits. */
typedef struct fct_truth_shot {
    const char *prompt;
    uint64_t seed;
    const char *const *edit; /* as on the command line */
    int64_t n_edits;
    bool controls;    /* the edits speak of the random directions */
    const char *save; /* DIR/pictures/NAME.png, which carries its recipe; NULL: it is not kept */
} fct_truth_shot;
/* pixels: [height,width,3], released with fct_free; NULL when only what is saved is wanted. */
fct_status fct_truth_take(fct_truth_worker *w, const fct_truth_shot *shot,
                          uint8_t **pixels) FCT_MUST_CHECK;
/* Clean pictures with their readings: what jobs will read is wanted first, then made, unless it is
   there. save: also its PNG. */
void fct_truth_want(fct_truth_clean *c, int64_t pair, bool save);
fct_status fct_truth_make_wanted(fct_truth *t, fct_truth_clean *c) FCT_MUST_CHECK;
/* Bytes of a picture. */
int64_t fct_truth_pixels(const fct_truth *t);

fct_status fct_truth_read(fct_truth_worker *w, const uint8_t *pixels,
                          fct_reading *out) FCT_MUST_CHECK;
/* Whether the checker reads that value of the factor. */
bool fct_truth_reads(const fct_truth *t, const fct_reading *r, int64_t factor, int64_t value);
/* The same where it says that it cannot tell: its likeliest answer all the same. */
bool fct_truth_guesses(const fct_truth *t, const fct_reading *r, int64_t factor, int64_t value);

/* ---- painting (pictures.c) ---- */

/* The edits that paint a direction with the given push (a factor on the SAE's own decoder row) over
   a pair's picture: one over the whole of it, or one around each object that the checker sees in
   the clean picture. */
typedef struct fct_truth_painting {
    char text[2][160];
    const char *edit[2];
    int64_t n;
} fct_truth_painting;
typedef struct fct_truth_paint_desc {
    const fct_truth_block *block;
    int64_t feature;
    double push;
    bool at_object;
} fct_truth_paint_desc;
void fct_truth_paint(fct_truth_painting *out, const fct_truth *t, const fct_truth_pair *pair,
                     const fct_truth_paint_desc *desc);
/* The same for a card's feature as it was found to work best: its strength, its mask. */
void fct_truth_paint_card(fct_truth_painting *out, const fct_truth *t, const fct_truth_pair *pair,
                          const fct_truth_block *b, const fct_truth_card *c);

#endif

/* demo.h - what the parts of `facet demo` share: the pairs of prompt and seed, what is known of
   each block, the pictures.

   Order: open (demo_setup.c), learn (demo_learn.c: capture, train, codes), choose (demo_choose.c),
   show (demo_cards.c), cause (demo_cause.c), blocks (demo_blocks.c), then the page and the summary
   (demo_page.c, demo_summary.c). Prompts come in three sets that share no caption and no seed:
   `train` is what the SAEs see, `choose` is where features, thresholds, strengths and masks are
   chosen, `show` is what the page shows and counts. */
#ifndef FCT_CLI_DEMO_H
#define FCT_CLI_DEMO_H

#include "cli/cli.h"
#include "eval/eval.h"
#include "facet/edit.h"
#include "facet/index.h"
#include "facet/store.h"
#include "facet/train.h"

enum {
    DEMO_BLOCKS = 4,
    DEMO_CARDS = 9,        /* at most so many a block, */
    DEMO_TOP = 9,          /* pictures a card */
    DEMO_ICONS = 3,        /* seeds of the icon */
    DEMO_PAIRS = 12,       /* pairs that a word is painted on */
    DEMO_SHOWN = 4,        /* of them on the page */
    DEMO_DRAWN_PAIRS = 2,  /* pairs of a feature drawn at random */
    DEMO_TRIALS = 4,       /* pairs for strength and mask */
    DEMO_BLOCK_PAIRS = 16, /* pairs whose blocks are zeroed and rebuilt */
    DEMO_WORDS = 4         /* over-represented words that are printed */
};

typedef struct demo_size {        /* how much of everything: see demo_setup.c */
    int64_t train_prompts, steps; /* SAE */
    int64_t choose_pairs, show_pairs;
    int64_t chosen, drawn; /* cards a block: by their words, at random */
    int64_t top, pairs;    /* pictures a card; pairs that its word is painted on */
    int64_t trial_pairs;   /* for strength and mask */
    int64_t block_pairs;   /* zeroed and rebuilt */
} demo_size;

typedef struct demo_pair {
    const char *prompt;
    uint64_t seed;
    int32_t named[FCT_WORLD_MAX_FACTORS]; /* value of each factor that the caption names, or -1 */
    uint8_t *clean;                       /* pixels without an edit, once made */
    fct_reading reading;                  /* of them */
    bool saved;                           /* its PNG is in the folder */
    bool wanted, wanted_saved;            /* by the stage to come */
} demo_pair;

typedef struct demo_set { /* pairs in captions' order; store prompt i is pair i */
    const char *name;     /* "choose", "show": names files */
    demo_pair *pair;
    int64_t n;
} demo_set;

typedef enum demo_kind {
    DEMO_CLEAN,
    DEMO_PAINTED,
    DEMO_DIRECTION,
    DEMO_OTHER,
    DEMO_KINDS
} demo_kind;

typedef struct demo_word { /* in how many of a card's top pictures captions name a value, and
                              elsewhere */
    int64_t factor, value;
    int64_t hits, of;
    double base; /* share of all pairs */
} demo_word;

typedef struct demo_card {
    bool chosen; /* from caption words; else drawn at random */
    int64_t feature;
    int64_t factor, value; /* the word: chosen, or for a drawn feature the one it tells best; -1:
                              none (it is nowhere active) */
    fct_f1 chosen_f1, held_f1; /* on `choose`, on `show` with the threshold kept */
    double floor_f1;       /* of the best feature for labels shuffled among the captions (chosen on
                              `choose`, scored on `show`) */
    int64_t top[DEMO_TOP]; /* pairs of `show`, strongest first */
    int64_t n_top;
    demo_word word[DEMO_WORDS];
    int64_t n_words;
    double strength;          /* in means of the feature */
    bool at_object;           /* painted where the objects stand; else over the whole picture */
    double trial_share;       /* read on the trial's pairs at that strength */
    int64_t other;            /* the random other feature */
    int64_t pair[DEMO_PAIRS]; /* of `show` */
    int64_t n_pairs;
    bool read[DEMO_PAIRS][DEMO_KINDS]; /* the checker reads the word */
    double share[DEMO_KINDS];
    double
        guess[DEMO_KINDS]; /* the same when the checker must answer: "unreadable" is no way out */
    double change[DEMO_KINDS]; /* mean change of the pixels against the clean picture */
    double removed; /* share of the top pictures that show the word and no longer do without the
                       feature; -1: none shows it */
    int64_t removed_of;
} demo_card;

typedef struct demo_block {
    const fct_block_info *info;
    fct_train_report report;
    fct_sae_quality quality;   /* on `show` */
    const fct_sae *sae;        /* in demo.saes */
    const fct_sae *directions; /* in demo.controls: row i is card i's random direction */
    int64_t grid_h, grid_w;
    int32_t *index; /* codes of `show`: [n*grid, k] */
    float *value;
    float *level[2]; /* [F, n] for choose and show: a feature's level in each picture, the mean of
                        its map */
    demo_card card[DEMO_CARDS];
    int64_t n_cards;
    double change_zeroed, change_rebuilt;
    double read_zeroed[FCT_WORLD_MAX_FACTORS]; /* shares of named values that are read */
    double read_rebuilt[FCT_WORLD_MAX_FACTORS];
} demo_block;

typedef struct demo_hand { /* one of the threads that draw, with all that a thread must own */
    struct demo *d;
    fct_model *model;
    fct_session *session;
    fct_checker *checker;
    fct_sae_set saes, controls;
    int64_t runs; /* pictures made so far */
} demo_hand;

typedef struct demo {
    fct_cli *cli;
    const fct_log *log;
    const char *dir;
    uint64_t seed;
    demo_size size;
    double started;
    fct_model *model;
    fct_session *session;
    const fct_model_info *info;
    fct_world world;
    fct_checker *checker;
    int64_t head[FCT_WORLD_MAX_FACTORS]; /* the checker's head of each factor */
    fct_prompts train, held;
    int64_t n_train; /* of the training prompts, how many are used */
    demo_set choose, show;
    demo_block block[DEMO_BLOCKS];
    fct_sae_set saes, controls;
    demo_hand *hand; /* [n_hands] */
    int n_hands;
    /* demo_blocks.c */
    int64_t n_block_pairs;
    double read_clean[FCT_WORLD_MAX_FACTORS], read_all_zeroed[FCT_WORLD_MAX_FACTORS];
    int64_t n_named[FCT_WORLD_MAX_FACTORS];
    double change_all_zeroed,
        change_other_pair;           /* the last: between pictures of two unrelated pairs */
    int64_t block_card[DEMO_BLOCKS]; /* the card that is painted as the block's example, or -1 */
} demo;

/* demo_setup.c: checks the folder, opens everything, makes the pairs. */
fct_status demo_open(demo *d) FCT_MUST_CHECK;
void demo_close(demo *d);
/* demo_learn.c */
fct_status demo_learn(demo *d) FCT_MUST_CHECK;
/* demo_choose.c: fills the cards up to their words. */
fct_status demo_choose(demo *d) FCT_MUST_CHECK;
/* The number of cards, and card i of all of them. */
int64_t demo_count_cards(const demo *d);
demo_card *demo_find_card(demo *d, int64_t i, demo_block **block);
/* demo_cards.c: pictures and readings of the cards' first part. */
fct_status demo_show_cards(demo *d) FCT_MUST_CHECK;
/* demo_cause.c */
fct_status demo_cause(demo *d) FCT_MUST_CHECK;
double demo_length(const float *x, int64_t n); /* Euclidean */
/* demo_blocks.c */
fct_status demo_specialise(demo *d) FCT_MUST_CHECK;
/* demo_summary.c, demo_page.c: index.html comes last, so that a folder without it is unfinished. */
fct_status demo_write_summary(demo *d) FCT_MUST_CHECK;
fct_status demo_write_page(demo *d) FCT_MUST_CHECK;

/* ---- hands (demo_hands.c) ---- */
/* One job for each of 0 .. n-1, shared by the hands: a job writes what is its own and reads the
   rest. */
typedef fct_status (*demo_job)(demo_hand *h, void *self, int64_t i);
fct_status demo_share(demo *d, const char *what, int64_t n, demo_job job,
                      void *self) FCT_MUST_CHECK;
void demo_hands_close(demo *d);
int64_t demo_runs(const demo *d); /* pictures made so far */

/* ---- pictures (demo_pictures.c) ---- */
/* One run of a pair with edits; the picture's bytes, [height,width,3], released with fct_free.
   controls: the edits speak of the random directions. save: NULL, or the picture's name:
   DIR/pictures/NAME.png, which carries its recipe. */
typedef struct demo_shot {
    const char *prompt;
    uint64_t seed;
    const char *const *edit; /* as on the command line */
    int64_t n_edits;
    bool controls;
    const char *save;
} demo_shot;
/* pixels: NULL when only what is saved is wanted. */
fct_status demo_take(demo_hand *h, const demo_shot *shot, uint8_t **pixels) FCT_MUST_CHECK;
/* Clean pictures with their readings: what jobs will read is wanted first, then made, unless it is
   there. save: also its PNG. */
void demo_want(demo_set *set, int64_t pair, bool save);
fct_status demo_make_wanted(demo *d, demo_set *set) FCT_MUST_CHECK;
fct_status demo_read(demo_hand *h, const uint8_t *pixels, fct_reading *out) FCT_MUST_CHECK;
bool demo_reads(const demo *d, const fct_reading *r, int64_t factor, int64_t value);
/* The same where it says that it cannot tell: its likeliest answer all the same. */
bool demo_guesses(const demo *d, const fct_reading *r, int64_t factor, int64_t value);
/* The edits that paint a direction with the given push (a factor on the SAE's own decoder row) over
   a pair's picture: one over the whole of it, or one around each object that the checker sees in
   the clean picture. */
typedef struct demo_paint {
    char text[2][160];
    const char *edit[2];
    int64_t n;
} demo_paint;
fct_status demo_paint_edits(demo_paint *out, const demo *d, const demo_pair *pair,
                            const demo_block *b, int64_t feature, double push,
                            bool at_object) FCT_MUST_CHECK;
/* The same for a card's feature as it was found to work best: its strength, its mask. */
fct_status demo_paint_card(demo_paint *out, const demo *d, const demo_pair *pair,
                           const demo_block *b, const demo_card *c) FCT_MUST_CHECK;
int64_t demo_pixels(const demo *d); /* bytes of a picture */
/* The map of a feature over a pair of `show`: [grid_h*grid_w], 0 where it is not active. */
void demo_map(const demo *d, const demo_block *b, int64_t feature, int64_t pair, float *map);
const char *demo_word_text(const demo *d, int64_t factor, int64_t value); /* "star" */

#endif

/* facet/eval.h - scores pictures and features against a known truth: the demo model's world (what
   captions name), the checker (what a picture shows), measures, and the protocol that puts features
   of such a model to the test.

   The demo model draws a world whose factors are known: shape, colour, texture and so on. fct_world
   tells which of them a caption names; fct_checker, a small network that is no part of the
   generating model, reads them off a picture or answers that it cannot. So what an edit does can be
   scored against the truth.

   Do this:
       fct_world world;
       int32_t named[FCT_WORLD_MAX_FACTORS];
       fct_status st = fct_world_load(&world, "models/demo/world.json");
       if (st == FCT_OK) {
           fct_world_read_caption(&world, "two large blue stars at night", named);
           int64_t colour = fct_world_find(&world, "colour");
           printf("%s\n", fct_world_word(&world, colour, named[colour])); // blue
       }
       fct_world_clear(&world);

   Functions that take a const object may be called on several threads at once. */
#ifndef FACET_EVAL_H
#define FACET_EVAL_H

#include "facet/image.h"
#include "facet/session.h"
#include "facet/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the world: what captions name ---- */

typedef struct fct_world_value {
    char *name;  /* "star" */
    char **word; /* what captions call it: "star", "stars"; none: it is never said */
    int64_t n_words;
} fct_world_value;

typedef struct fct_world_factor {
    char *name; /* "shape" */
    fct_world_value *value;
    int64_t n_values;
    int64_t unsaid; /* the value that silence means; -1: the noise decides */
} fct_world_factor;

typedef struct fct_world {
    fct_world_factor *factor;
    int64_t n_factors;
} fct_world;

enum { FCT_WORLD_MAX_FACTORS = 16 };

/* Reads world.json, which lies in the folder of a model that has a world. A word is ASCII letters
   and digits, as fct_world_read_caption cuts captions; any other could never be found and is
   refused. Release with fct_world_clear. */
FCT_API fct_status fct_world_load(fct_world *out, const char *path) FCT_MUST_CHECK;
FCT_API void fct_world_clear(fct_world *w);
/* Which value of each factor the caption names: named[n_factors], -1 where it names none. Words are
   whole words, in any case; where two values of one factor are named, the first in the caption
   counts. */
FCT_API void fct_world_read_caption(const fct_world *w, const char *caption, int32_t *named);
/* The factor called `name`, or -1. */
FCT_API int64_t fct_world_find(const fct_world *w, const char *name);
/* The name of a value: "star"; "" when factor or value is negative. Owned by the world. */
FCT_API const char *fct_world_word(const fct_world *w, int64_t factor, int64_t value);

/* ---- the checker: what a picture shows ---- */

typedef struct fct_checker fct_checker;

/* A group of the network's outputs: one factor, "readable", or the objects' centres. */
typedef struct fct_checker_head {
    char *name;
    bool points;          /* coordinates; else classes */
    int64_t offset, size; /* which outputs */
    char **value;         /* [size]: names of the classes; NULL for points */
} fct_checker_head;

enum { FCT_CHECKER_MAX_HEADS = 16, FCT_CHECKER_MAX_POINTS = 8 };

/* What the checker sees in one picture. */
typedef struct fct_reading {
    bool readable;    /* false: every other answer is void */
    float unreadable; /* probability that nothing can be told */
    /* For each head its most probable class (-1 for points), and that one's probability. */
    int32_t value[FCT_CHECKER_MAX_HEADS];
    float probability[FCT_CHECKER_MAX_HEADS];
    /* x, y of the first object, then of the second: in picture widths, y down. */
    float point[FCT_CHECKER_MAX_POINTS];
} fct_reading;

/* `folder` holds checker.json and the weights that it names; models/demo/checker/README.md has the
   layout. backend: NULL is cpu. Every layer is checked against its weights' shapes before anything
   runs. Release with fct_checker_free (NULL is fine). */
FCT_API fct_status fct_checker_load(fct_checker **out, const char *folder,
                                    const char *backend) FCT_MUST_CHECK;
FCT_API void fct_checker_free(fct_checker *c);
/* Its heads, [*n]; owned by the checker. */
FCT_API const fct_checker_head *fct_checker_heads(const fct_checker *c, int64_t *n);
/* The head called `name`, or -1. */
FCT_API int64_t fct_checker_find(const fct_checker *c, const char *name);

/* One thread's reading with a checker: its memory and plans. Any number of readers share a checker,
   which outlives them. */
typedef struct fct_reader fct_reader;
FCT_API fct_status fct_reader_open(fct_reader **out, const fct_checker *c) FCT_MUST_CHECK;
FCT_API void fct_reader_close(fct_reader *r); /* NULL is fine */
/* pixels [n,height,width,3], RGB, as a run gives them; out [n]. FCT_ERR_SHAPE: the size is not the
   checker's own. */
FCT_API fct_status fct_reader_read(fct_reader *r, const uint8_t *pixels, int64_t n, int64_t width,
                                   int64_t height, fct_reading *out) FCT_MUST_CHECK;

/* ---- measures ---- */

/* Mean absolute difference of n bytes of two pictures, as values in [0,1]. */
FCT_API double fct_eval_pixel_change(const uint8_t *a, const uint8_t *b, int64_t n);
/* The Euclidean length of x [n]. */
FCT_API double fct_eval_length(const float *x, int64_t n);

typedef struct fct_f1 {
    double f1; /* positives and negatives weigh the same; a score that is always on gives 2/3 */
    double hit, false_alarm; /* shares of the positives and of the negatives above the threshold */
    double threshold;
} fct_f1;
/* How well `score > threshold` tells the positives. want [n]: 1 positive, 0 negative, others left
   out. NULL scores or a missing class give f1 0. */
FCT_API fct_f1 fct_eval_f1(const float *score, const int8_t *want, int64_t n, double threshold);
/* The best of the thresholds 0, .05, .1, .2, .35, .5 times the largest score; NULL as above. */
FCT_API fct_f1 fct_eval_best_f1(const float *score, const int8_t *want, int64_t n);

/* ---- the truth protocol ----

   Puts three claims about the features of a model with a world to the test, each beside its
   control: that features mean something (they tell caption words on captions never seen), that they
   cause what they show (painted, the checker reads their word; a random direction and a random
   feature, pushed as hard, do not), and that the blocks differ (zeroed, and rebuilt by their SAEs).

   Prompts come in three sets that share no caption and no seed: SAEs are trained on the first,
   features, thresholds, strengths and masks are chosen on `choose`, and `show` is what is shown and
   counted. What it makes lies in a folder: store/ and store-heldout/ (captured rows), saes/ and
   controls/ (the random directions, as SAEs), pictures/ (PNGs that carry their recipes) and
   summary.json (all figures). Do this:

       fct_truth *t = NULL;
       fct_truth_desc d = {.model = model, .out = "out", .quick = true};
       fct_status st = fct_truth_open(&t, &d);
       if (st == FCT_OK) st = fct_truth_run(t);
       if (st == FCT_OK) printf("%.3f\n", fct_truth_get_result(t)->block[0].quality.ev);
       fct_truth_close(t); */

enum {
    FCT_TRUTH_BLOCKS = 4,    /* down.2.1, mid.0, up.0.0, up.0.1 */
    FCT_TRUTH_MAX_CARDS = 9, /* a block */
    FCT_TRUTH_MAX_TOP = 9,   /* strongest pictures of a card */
    FCT_TRUTH_MAX_PAIRS = 12,
    FCT_TRUTH_MAX_WORDS = 4,
    FCT_TRUTH_ICONS = 3,   /* seeds of a card's icon, 0, 1, 2 */
    FCT_TRUTH_SHOWN = 4,   /* of a card's painted pairs, how many pictures are kept */
    FCT_TRUTH_EXAMPLES = 3 /* of the pairs whose blocks are changed, how many pictures are kept */
};

/* How much of everything there is. */
typedef struct fct_truth_size {
    int64_t train_prompts, steps; /* of the SAEs' training */
    int64_t choose_pairs, show_pairs;
    int64_t chosen, drawn; /* cards a block: by their words, at random */
    int64_t top, pairs;    /* pictures a card; pairs that its word is painted on */
    int64_t trial_pairs;   /* pairs for strength and mask */
    int64_t block_pairs;   /* pairs whose blocks are zeroed and rebuilt */
} fct_truth_size;

/* A prompt and a seed: one picture. */
typedef struct fct_truth_pair {
    const char *prompt;
    uint64_t seed;
    /* The value of each factor that the caption names, or -1. */
    int32_t named[FCT_WORLD_MAX_FACTORS];
    uint8_t *clean;      /* its pixels without an edit, [height,width,3]; NULL: not made */
    fct_reading reading; /* of them */
} fct_truth_pair;

/* Pairs in captions' order. Pair i's clean picture, where it is kept, is pictures/NAME-i.png. */
typedef struct fct_truth_set {
    const char *name; /* "choose", "show" */
    fct_truth_pair *pair;
    int64_t n;
} fct_truth_set;

/* What a picture of the causal part is. */
typedef enum fct_truth_kind {
    FCT_TRUTH_CLEAN,     /* no edit */
    FCT_TRUTH_PAINTED,   /* the card's feature */
    FCT_TRUTH_DIRECTION, /* control: a random direction */
    FCT_TRUTH_OTHER,     /* control: a random other feature */
    FCT_TRUTH_KINDS
} fct_truth_kind;

/* A value that captions of a card's strongest pictures name more often than others do. */
typedef struct fct_truth_word {
    int64_t factor, value;
    int64_t hits, of; /* in how many of these pictures */
    double base;      /* share of all pairs */
} fct_truth_word;

/* One feature. Its pictures are named BLOCK-FEATURE-: icon-i, ablated, times3 (of its strongest
   picture), painted-i, direction-i, other-i (of pair[i]). */
typedef struct fct_truth_card {
    bool chosen; /* from caption words; else drawn at random */
    int64_t feature;
    /* The word: chosen, or for a drawn feature the one that it tells best; -1: none, it is nowhere
       active. */
    int64_t factor, value;
    fct_f1 chosen_f1, held_f1; /* on `choose`; on `show` with the threshold kept */
    /* F1 of the best feature for labels shuffled among the captions (chosen on `choose`, scored on
       `show`). */
    double floor_f1;
    int64_t top[FCT_TRUTH_MAX_TOP]; /* pairs of `show`, strongest first */
    int64_t n_top;
    fct_truth_word word[FCT_TRUTH_MAX_WORDS];
    int64_t n_words;
    double strength;    /* in means of the feature */
    bool at_object;     /* painted where the objects stand; else over the whole picture */
    double trial_share; /* of the trial's pairs, those that read the word at that strength */
    int64_t other;      /* the random other feature */
    int64_t pair[FCT_TRUTH_MAX_PAIRS]; /* of `show`: those that it is painted on */
    int64_t n_pairs;
    char painted[FCT_TRUTH_SHOWN][160]; /* the edit that painted pair[i]; its first object's */
    bool read[FCT_TRUTH_MAX_PAIRS][FCT_TRUTH_KINDS]; /* the checker reads the word */
    double share[FCT_TRUTH_KINDS];                   /* of n_pairs */
    /* The same when the checker must answer: "unreadable" is no way out. */
    double guess[FCT_TRUTH_KINDS];
    double change[FCT_TRUTH_KINDS]; /* mean change of the pixels against the clean picture */
    /* Of the strongest pictures that show the word, the share that no longer does without the
       feature, and how many those are; -1: none shows it. */
    double removed;
    int64_t removed_of;
} fct_truth_card;

typedef struct fct_truth_block {
    const char *name; /* "up.0.1" */
    const fct_sae *sae;
    fct_train_report report;
    fct_sae_quality quality; /* on `show` */
    int64_t grid_h, grid_w;
    /* The codes of `show`: [n*grid_h*grid_w, k]. */
    int32_t *index;
    float *value;
    /* [F,n] for `choose` and for `show`: a feature's level in each picture, the mean of its map. */
    float *level[2];
    fct_truth_card card[FCT_TRUTH_MAX_CARDS];
    int64_t n_cards;
    /* The chosen card whose painting does most beside what a random direction does; -1: none is
       chosen. Painted on the first pairs of `show` as BLOCK-painted-i, by these edits. */
    int64_t best_card;
    char example[FCT_TRUTH_EXAMPLES][160];
    /* Mean change of the pixels over the pairs, and shares of the named values that are read, with
       the block zeroed and rebuilt (BLOCK-zeroed-i, BLOCK-rebuilt-i). */
    double change_zeroed, change_rebuilt;
    double read_zeroed[FCT_WORLD_MAX_FACTORS], read_rebuilt[FCT_WORLD_MAX_FACTORS];
} fct_truth_block;

typedef struct fct_truth_result {
    const fct_model_info *model;
    const fct_world *world;
    uint64_t seed;
    fct_truth_size size;
    int64_t n_train; /* training prompts that were used */
    fct_truth_set choose, show;
    fct_truth_block block[FCT_TRUTH_BLOCKS];
    int64_t n_block_pairs; /* the first ones of `show` */
    /* Of them, how many name each factor, and shares of these that are read: as the pictures are,
       and with all blocks zeroed (all-zeroed-i). */
    int64_t n_named[FCT_WORLD_MAX_FACTORS];
    double read_clean[FCT_WORLD_MAX_FACTORS], read_all_zeroed[FCT_WORLD_MAX_FACTORS];
    double change_all_zeroed;
    double change_other_pair; /* between pictures of two unrelated pairs */
    int64_t pictures;         /* made in all, the captures' apart */
    double seconds;           /* from open on */
} fct_truth_result;

typedef struct fct_truth_desc {
    const fct_model *model; /* in f32, with its VAE; stays the caller's and outlives the protocol */
    const char *out;        /* the folder; made where it is missing */
    uint64_t seed;          /* of all pictures, of training and of what is drawn */
    bool quick;             /* a small rough pass, to see that everything runs */
    const fct_log *log;
} fct_truth_desc;

typedef struct fct_truth fct_truth;
/* Opens the model's world and checker, and lays out the three sets; writes nothing.
   FCT_ERR_MISSING: the model brings no world.json, checker/ or prompts/. */
FCT_API fct_status fct_truth_open(fct_truth **out, const fct_truth_desc *desc) FCT_MUST_CHECK;
/* The whole protocol, once. An interrupted one goes on with its captures when it is run again on
   the same folder; summary.json is written last. */
FCT_API fct_status fct_truth_run(fct_truth *t) FCT_MUST_CHECK;
/* What came of it; owned by the protocol. */
FCT_API const fct_truth_result *fct_truth_get_result(const fct_truth *t);
/* The figures as JSON, as in summary.json. Release with fct_free. */
FCT_API fct_status fct_truth_summary(char **json, const fct_truth *t) FCT_MUST_CHECK;
FCT_API void fct_truth_close(fct_truth *t); /* NULL is fine */
/* The map of a feature over a pair of `show`: [grid_h*grid_w], 0 where it is not active. */
FCT_API void fct_truth_map(const fct_truth_block *b, int64_t feature, int64_t pair, float *map);

#ifdef __cplusplus
}
#endif
#endif

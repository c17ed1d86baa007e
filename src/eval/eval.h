/* eval.h - the inward header of eval/: measures on pictures and codes, and the truth of the demo
   model's world.

   The demo model draws a world whose factors are known. fct_world tells which of them a caption
   names; fct_checker, a small network that is no part of the generating model, reads them off a
   picture, or answers that it cannot. So what an edit does can be scored against the truth. */
#ifndef FCT_EVAL_EVAL_H
#define FCT_EVAL_EVAL_H

#include "base/base.h"
#include "compute/backend.h"
#include "tensor/tensor.h"

/* ---- the world (world.c) ---- */

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

/* Reads world.json. A word is ASCII letters and digits, as fct_world_read_caption cuts captions;
   any other could never be found and is refused. Release with fct_world_clear. */
fct_status fct_world_load(fct_world *out, const char *path) FCT_MUST_CHECK;
void fct_world_clear(fct_world *w);
/* Which value of each factor the caption names: named[n_factors], -1 where it names none. Words are
   whole words, in any case; where two values of one factor are named, the first in the caption
   counts. */
void fct_world_read_caption(const fct_world *w, const char *caption, int32_t *named);
/* The factor called `name`, or -1. */
int64_t fct_world_find(const fct_world *w, const char *name);

/* ---- the checker (checker_load.c, checker.c) ---- */

typedef struct fct_checker fct_checker;

typedef struct fct_checker_head { /* a group of the network's outputs: one factor, "readable", or
                                     the centres */
    char *name;
    bool points;          /* coordinates; else classes */
    int64_t offset, size; /* which outputs */
    char **value;         /* names of the classes */
} fct_checker_head;

enum { FCT_CHECKER_MAX_HEADS = 16, FCT_CHECKER_MAX_POINTS = 8 };

typedef struct fct_reading {                  /* what the checker sees in one picture */
    bool readable;                            /* false: every other answer is void */
    float unreadable;                         /* probability that nothing can be told */
    int32_t value[FCT_CHECKER_MAX_HEADS];     /* per head: its most probable class; -1 for points */
    float probability[FCT_CHECKER_MAX_HEADS]; /* of that class */
    float point[FCT_CHECKER_MAX_POINTS];      /* x, y of the first object, of the second: in picture
                                                 widths, y down */
} fct_reading;

/* `folder` holds checker.json and the weights it names; the layout is described in the README
   beside them. backend: NULL is cpu. Every layer is checked against its weights' shapes before
   anything runs. */
fct_status fct_checker_load(fct_checker **out, const char *folder,
                            const char *backend) FCT_MUST_CHECK;
void fct_checker_free(fct_checker *c);
const fct_checker_head *fct_checker_heads(const fct_checker *c, int64_t *n);
/* The head called `name`, or -1. */
int64_t fct_checker_find(const fct_checker *c, const char *name);
/* pixels [n,height,width,3], RGB; the size must be the checker's own. out [n]. */
fct_status fct_checker_read(fct_checker *c, const uint8_t *pixels, int64_t n, int64_t width,
                            int64_t height, fct_reading *out) FCT_MUST_CHECK;
/* The same, as the network's raw outputs: logits [n,outputs]; outputs is the size of its last
 * layer. */
fct_status fct_checker_run(fct_checker *c, const uint8_t *pixels, int64_t n, int64_t width,
                           int64_t height, float *logits) FCT_MUST_CHECK;
int64_t fct_checker_outputs(const fct_checker *c);

/* Inside, for checker_load.c and checker.c. */

typedef enum fct_checker_op {
    FCT_CHECKER_CONV,
    FCT_CHECKER_GROUP_NORM,
    FCT_CHECKER_RELU,
    FCT_CHECKER_FLATTEN,
    FCT_CHECKER_LINEAR,
    FCT_CHECKER_MAX,  /* the largest of each channel over the map */
    FCT_CHECKER_FROM, /* the output of an earlier layer again */
    FCT_CHECKER_COUNT
} fct_checker_op;
typedef struct fct_checker_layer {
    fct_checker_op op;
    char *name;      /* or NULL */
    bool ends;       /* a chain: its output is a part of the checker's */
    int64_t source;  /* of `from`: the layer's number */
    int64_t h, w, c; /* of its output; after flatten h = w = 1 */
    int64_t kernel, stride, padding, groups;
    float eps;
    fct_weight weight;
    float *scale, *bias; /* group_norm's weight; bias */
} fct_checker_layer;

struct fct_checker {
    fct_cx cx;
    fct_arena arena; /* sized for one chunk of pictures */
    int64_t width, height, channels;
    float low, high; /* what bytes 0 and 255 become */
    double unreadable_above;
    fct_checker_layer *layer;
    fct_tensor *made; /* outputs of the layers while they run */
    int64_t n_layers, outputs;
    fct_checker_head *head;
    int64_t n_heads, readable; /* number of the head "readable", or -1 */
};

fct_status fct_checker_make_arena(fct_checker *c) FCT_MUST_CHECK; /* as large as a dry run says */

/* ---- measures (measures.c) ---- */

/* Mean absolute difference of two pictures' bytes, as values in [0,1]. */
double fct_eval_pixel_change(const uint8_t *a, const uint8_t *b, int64_t n);

typedef struct fct_f1 {
    double f1; /* with positives and negatives weighing the same; always-on gives 2/3 */
    double hit,
        false_alarm; /* shares of the positives and of the negatives that are above the threshold */
    double threshold;
} fct_f1;
/* How well `score > threshold` tells the positives. want [n]: 1 positive, 0 negative, others left
   out. NULL scores or a missing class give f1 0. */
fct_f1 fct_eval_f1(const float *score, const int8_t *want, int64_t n, double threshold);
/* The best of the thresholds 0, .05, .1, .2, .35, .5 times the largest score; NULL as above. */
fct_f1 fct_eval_best_f1(const float *score, const int8_t *want, int64_t n);

#endif

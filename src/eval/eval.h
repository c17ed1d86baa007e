/* eval.h - the inward header of eval/: what a loaded checker is made of. */
#ifndef FCT_EVAL_EVAL_H
#define FCT_EVAL_EVAL_H

#include "base/base.h"
#include "compute/backend.h"
#include "facet/eval.h"
#include "tensor/tensor.h"

/* As fct_checker_read, but the network's raw outputs: logits [n,outputs]; outputs is the size of
   its last layer. (checker.c) */
fct_status fct_checker_run(fct_checker *c, const uint8_t *pixels, int64_t n, int64_t width,
                           int64_t height, float *logits) FCT_MUST_CHECK;
int64_t fct_checker_outputs(const fct_checker *c);

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

#endif

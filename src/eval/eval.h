/* eval.h - declares what a loaded checker and its readers are made of. */
#ifndef FCT_EVAL_EVAL_H
#define FCT_EVAL_EVAL_H

#include "base/base.h"
#include "compute/backend.h"
#include "facet/eval.h"
#include "tensor/tensor.h"

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

/* What was loaded: read-only, shared by all readers. */
struct fct_checker {
    const fct_backend *be;
    int64_t width, height, channels;
    float low, high; /* what bytes 0 and 255 become */
    double unreadable_above;
    fct_checker_layer *layer;
    int64_t n_layers;
    int64_t outputs; /* of all chains together */
    fct_checker_head *head;
    int64_t n_heads, readable; /* number of the head "readable", or -1 */
};

struct fct_reader {
    const fct_checker *c;
    fct_cx cx;
    fct_arena arena;  /* sized for one chunk of pictures */
    fct_tensor *made; /* [n_layers]: outputs of the layers while they run */
};

/* As fct_reader_read, but the network's raw outputs: logits [n,outputs]. (checker.c) */
fct_status fct_reader_run(fct_reader *r, const uint8_t *pixels, int64_t n, int64_t width,
                          int64_t height, float *logits) FCT_MUST_CHECK;

#endif

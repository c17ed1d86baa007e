/* pipeline.h - one run: what is fixed before it starts (prepare.c) and what the pass through the
   model works on (pipeline.c). The pass is made twice with the same code: dry, to learn the exact
   memory, then for real. */
#ifndef FCT_MODEL_PIPELINE_H
#define FCT_MODEL_PIPELINE_H

#include "model/model.h"

typedef struct fct_work {
    fct_model *m;
    const fct_run_desc *d;
    /* fixed by fct_work_init */
    int64_t n, rows, h, w,
        channels; /* items, rows of the batch (twice as many under guidance), latents */
    int64_t first_step, last_step; /* 1-based, inclusive */
    double guidance;
    bool guided, zeros; /* zeros: the uncond half's text is zero */
    fct_sampler sampler;
    fct_taps taps;
    char key[65];
    int32_t *ids[2]; /* [n_texts, tokens] of each encoder: every different text once */
    int64_t n_texts, tokens;
    int64_t *text_of; /* [rows]: which text; -1: zeros */
    fct_str warning;
    /* the pass */
    fct_rt rt;
    fct_arena *arena;
    fct_rng *rng;
    int64_t n_rng;
    float *latents, *output, *noise; /* [n,C,h,w] */
    float *added;                    /* [rows, add_in] */
    fct_flow flow;
} fct_work;

fct_status fct_work_init(fct_work *w, fct_model *m, const fct_run_desc *d) FCT_MUST_CHECK;
void fct_work_clear(fct_work *w);
fct_status fct_work_encode(fct_work *w)
    FCT_MUST_CHECK; /* text states and added conditions (conditions.c) */

#endif

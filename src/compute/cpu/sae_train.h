/* sae_train.h - declares what the operations of a training step share: the encoder's copy, and the
   choice of candidates in one row of rounded products. */
#ifndef FCT_COMPUTE_CPU_SAE_TRAIN_H
#define FCT_COMPUTE_CPU_SAE_TRAIN_H

#include "compute/cpu/cpu.h"

typedef struct cpu_lane { /* what multiplies: one for each thread; f32: one for all */
    dn *d;
    dn_plan *plan;
} cpu_lane;

typedef struct cpu_encoder { /* behind fct_encoder.impl */
    dn *d;
    dn_packed *packed;
    cpu_lane *lane;
    int lanes;
    dn_shape shape; /* of one tile; shape.m rows */
    int8_t *byte;   /* int8: [n,d] as it was rounded */
    float *step;    /* int8: [n] what 1 of a row's bytes is worth */
    /* int8: [n] what each product is too large by, since the rows' bytes are unsigned: oneDNN has
       no fast way to lay out weights for signed ones. */
    int32_t *zero;
    float *dither; /* int8: added before rounding, from another place for each row */
    /* what rounding does to each feature's row; bf16: |w| and |w - copy|; int8: |w| and the
       standard deviation of one weight's rounding error */
    float *norm, *miss; /* [n] */
    float norm_max, miss_max;
} cpu_encoder;

/* ---- the copy (sae_encoder.c) ---- */
/* Of one row, and its norms; rows may be filled by several threads. */
void cpu_encoder_row(cpu_encoder *e, const fct_encoder *enc, int64_t f, const float *w);
/* After all rows: the copy in oneDNN's layout, from w where the copy is not kept as it lies. */
fct_status cpu_encoder_finish(cpu_encoder *e, const fct_encoder *enc,
                              const float *w) FCT_MUST_CHECK;
/* Lanes for the threads that there are. */
fct_status cpu_encoder_open_lanes(cpu_encoder *e, const fct_encoder *enc) FCT_MUST_CHECK;
void cpu_encoder_close_lanes(cpu_encoder *e);

typedef struct cpu_rounding { /* what it did to a row of inputs */
    float step;               /* int8: what 1 of the row's bytes is worth */
    float norm, miss; /* |x|; bf16: |x - copy|; int8: deviation of one number's rounding error */
} cpu_rounding;
/* Row r of the inputs, [d], as a rounded product takes it. */
void cpu_encoder_round(const cpu_encoder *e, const fct_encoder *enc, int64_t r, const float *x,
                       void *out, cpu_rounding *to);

/* ---- one row's candidates (sae_candidates.c) ---- */
typedef struct cpu_row { /* a row of rounded products, and what is known of their error */
    const void *z;       /* [n] x·w: bf16 or int32 */
    cpu_rounding rounding;
    const float *x; /* [d], f32 */
} cpu_row;

typedef struct cpu_candidates { /* scratch of one thread */
    uint64_t *key;              /* [cap] */
    float *lane;                /* [width] */
    float *high;                /* [cap] */
    int32_t *index;             /* [cap] */
    int64_t cap, width;
} cpu_candidates;
cpu_candidates cpu_candidates_size(int64_t n, int64_t k);
int64_t cpu_candidates_bytes(const cpu_candidates *c);
void cpu_candidates_place(cpu_candidates *c, uint8_t *base);
/* Which features could be among the k best, into c->index; returns how many, or -1: too many, or
   numbers that are not finite. */
int64_t cpu_candidates_find(cpu_candidates *c, const cpu_encoder *e, const fct_select_args *a,
                            const cpu_row *row);
/* The k best of m with these f32 products. */
void cpu_candidates_take(cpu_candidates *c, const fct_select_args *a, const int32_t *from,
                         const float *product, int64_t m, int32_t *index, float *value);
/* Both, with the products in between; false where there are too many. */
bool cpu_candidates_select(cpu_candidates *c, const cpu_encoder *e, const fct_select_args *a,
                           const cpu_row *row, int32_t *index, float *value);

/* ---- products of many candidates, block by block (sae_rescore.c) ---- */
typedef struct cpu_list { /* candidates of all rows */
    int64_t most;         /* of one row; 0: they are not kept, each row's are done at once */
    int32_t *index;       /* [rows,most] */
    float *product;       /* [rows,most] */
    int32_t *count;       /* [rows] */
    float *table;         /* [n,64] the columns at hand */
} cpu_list;
fct_status cpu_list_take(fct_cx *cx, cpu_list *list, const fct_select_args *a) FCT_MUST_CHECK;
void cpu_list_products(const cpu_list *list, const fct_select_args *a);

/* out[j] += x·table[index[j],:] over 64 columns (sae_error.c). */
void cpu_block_dots(float *out, const float *x, const int32_t *index, int64_t count,
                    const float *table);

#endif

/* backend.h - declares the contract between those who compute (models, autoencoders) and what
   computes: one table of operations, filled by `ref` (plain loops: the specification) and `cpu`
   (oneDNN + OpenMP).

   Callers use the checked wrappers fct_op_* (ops.c): they verify shapes and dtypes once for all
   backends, name the operation on failure, and pass on. An operation takes one args struct; a zero
   field means "none". Activations are f32 or bf16 (`y.dtype` says what is written); sums, norms and
   softmax are f32 inside. Feature maps are [B,H,W,C]; a linear layer sees them as [B*H*W, C].

   Every tensor and array of an args struct lies in the backend's device's memory (device.h),
   except where "host memory" is said. Scratch comes from cx->arena between mark and reset. In a
   dry run (an arena without base) tensors have data == NULL: an operation then plans, takes its
   scratch and returns without touching memory, so the counted peak is exact. */
#ifndef FCT_COMPUTE_BACKEND_H
#define FCT_COMPUTE_BACKEND_H

#include "base/base.h"
#include "facet/device.h"
#include "compute/device.h"
#include "tensor/tensor.h"

typedef struct fct_backend fct_backend;
typedef struct fct_plans fct_plans;

/* ---- contexts (context.c) ---- */

/* Everything an operation needs besides its arguments: one thread's at a time. Opened once and
   kept, since its plans (what the backend made of the shapes it met) cost more than most runs of
   them. Weights are shared by all contexts. */
typedef struct fct_cx {
    const fct_backend *be;
    fct_arena *arena; /* the caller's, of the device's memory or dry: set before each use */
    const fct_log *log;
    fct_plans *plans; /* the backend's own */
} fct_cx;
fct_status fct_cx_open(fct_cx *out, const fct_backend *be, const fct_log *log) FCT_MUST_CHECK;
void fct_cx_close(fct_cx *cx); /* zero-initialised is fine; the arena stays the caller's */

/* gelu: exact, with erf. */
typedef enum fct_act {
    FCT_ACT_NONE,
    FCT_ACT_SILU,
    FCT_ACT_GELU,
    FCT_ACT_QUICK_GELU,
    FCT_ACT_RELU
} fct_act;

/* ---- packed weights (registry.c) ---- */

typedef enum fct_pack_kind { FCT_PACK_LINEAR, FCT_PACK_CONV } fct_pack_kind;

/* A piece of a weight, in host memory: f32, f16 or bf16, mapped or not. */
typedef struct fct_weight_part {
    const fct_tensor *t;    /* linear: [N,K] (or [N,K,1,1]); conv: [O,I,kh,kw] */
    bool transpose;         /* linear only: the tensor is [K,N] */
    int64_t row_lo, row_hi; /* rows of the output dimension to take; both zero: all */
} fct_weight_part;

/* A weight as the backend likes it, made once from a list of parts that are stacked along the
   output dimension (q, k and v in one product). The parts may be released after packing. */
typedef struct fct_pack_desc {
    fct_pack_kind kind;
    fct_dtype dtype; /* f32 or bf16: what products run in */
    const fct_weight_part *part;
    int64_t n_parts;
    /* conv: pixels of the smallest map it runs on, 0: not told. From 64x64 on, f32 3x3 kernels
       may be kept in a second form, about twice as fast for five times the memory (VAE). */
    int64_t map;
} fct_pack_desc;

/* Filled by pack, then only read: any number of contexts use it at once. */
typedef struct fct_weight {
    fct_pack_kind kind;
    fct_dtype dtype;
    int64_t out, in, kh, kw;
    int64_t bytes; /* held by impl */
    const fct_backend *be;
    void *impl; /* the backend's own data */
} fct_weight;
fct_status fct_weight_pack(const fct_backend *be, fct_weight *out,
                           const fct_pack_desc *desc) FCT_MUST_CHECK;
void fct_weight_clear(fct_weight *w);

/* ---- products ---- */

/* y = act(x·Wᵀ + bias) + residual */
typedef struct fct_linear_args {
    fct_tensor x, y; /* [...,K], [...,N] */
    const fct_weight *w;
    const float *bias; /* [N] or NULL */
    fct_act act;
    fct_tensor residual; /* shape of y, f32 or bf16; ndim 0: none */
} fct_linear_args;

/* y = conv(upsample(x)) + bias + channel_add + residual */
typedef struct fct_conv2d_args {
    fct_tensor x, y; /* [B,H,W,I], [B,Ho,Wo,O] */
    const fct_weight *w;
    const float *bias; /* [O] or NULL */
    int64_t stride;    /* 0 means 1 */
    /* each side its own, since VAE downsampling pads high only */
    int64_t pad_top, pad_left, pad_bottom, pad_right;
    int64_t up_h, up_w;       /* nearest resize of x to this size first (torch's rule); 0: none */
    const float *channel_add; /* [B,O], f32: the time embedding; NULL: none */
    fct_tensor residual;      /* shape of y; ndim 0: none */
} fct_conv2d_args;

/* y = softmax(scale·q·kᵀ + mask)·v per head; scores are never written whole. */
typedef struct fct_attention_args {
    fct_tensor q, k, v, y; /* q, y [B,Tq,heads*d]; k, v [B,Tk,heads*d] */
    /* elements between tokens; 0: packed (heads*d). Lets q, k and v sit in one product */
    int64_t q_stride, k_stride, v_stride;
    int64_t heads;
    float scale; /* 0: 1/sqrt(d) */
    bool causal; /* token i sees 0..i (text encoders) */
} fct_attention_args;

/* f32 products for SAE training: c [M,N] = alpha·op(a)·op(b) + beta·c, row-major; op(a) is [M,K],
   op(b) is [K,N]. */
typedef struct fct_matmul_args {
    const float *a, *b;
    float *c;
    int64_t m, n, k;
    bool trans_a, trans_b; /* a stored [K,M]; b stored [N,K] */
    float alpha, beta;
} fct_matmul_args;

/* ---- norms ---- */

/* Over (H,W,C/groups):

       y = act((x - mean) / sqrt(var + eps) · gamma + beta) */
typedef struct fct_group_norm_args {
    fct_tensor x, y;           /* [B,H,W,C]; y may be x when dtypes agree */
    const float *gamma, *beta; /* [C] */
    int64_t groups;
    float eps;
    fct_act act; /* NONE, SILU, RELU, GELU */
} fct_group_norm_args;

/* Over the last dimension, y as above without the activation. */
typedef struct fct_layer_norm_args {
    fct_tensor x, y;           /* [...,C] */
    const float *gamma, *beta; /* NULL: 1 and 0 */
    float eps;
} fct_layer_norm_args;

/* ---- element by element ---- */

/* x [...,2N] = (value, gate): y [...,N] = value · gelu(gate), as diffusers' GEGLU chunks it. */
typedef struct fct_geglu_args {
    fct_tensor x, y;
} fct_geglu_args;

/* y = act(x); also converts dtype; act NONE: a copy. */
typedef struct fct_unary_args {
    fct_tensor x, y;
    fct_act act;
} fct_unary_args;

/* y = a + scale·b, any mix of f32 and bf16, same count; y may be a or b when dtypes agree. */
typedef struct fct_add_args {
    fct_tensor a, b, y;
    float scale;
} fct_add_args;

/* y = x + add, one number for each picture and channel; y may be x. */
typedef struct fct_add_channels_args {
    fct_tensor x, y;  /* [B,...,C], one dtype */
    const float *add; /* [B,C] */
} fct_add_channels_args;

/* Whether x holds neither NaN nor infinity. */
typedef struct fct_finite_args {
    fct_tensor x;
    bool *finite; /* host memory; true in a dry run */
} fct_finite_args;

/* ---- moving ---- */

/* y [B,H,W,Ca+Cb] = a beside b along channels. */
typedef struct fct_concat_args {
    fct_tensor a, b, y;
} fct_concat_args;

/* Rows by number: y[r,:] = x[index[r],:], or zeros where the index is -1; also converts dtype. */
typedef struct fct_gather_args {
    fct_tensor x;         /* [n,C], f32, bf16 or f16 (tables of a file) */
    fct_tensor y;         /* [rows,C]; not x */
    const int64_t *index; /* [rows], host memory; NULL: row r is row r of x */
    int64_t x_stride, y_stride; /* elements between rows; 0: packed (C) */
} fct_gather_args;

/* Average over the whole map: x [B,H,W,C] -> y [B,C] (size 0), or over size×size windows, stride
   size. */
typedef struct fct_pool_args {
    fct_tensor x, y;
    int64_t size;
    bool max; /* maximum instead of average */
} fct_pool_args;

/* ---- sparse codes of autoencoders ---- */

/* The k largest of each row: x [rows,n] -> index, value [rows,k], largest first (or, with
   any_order, as it comes, which costs less where k is large), ties to the lower index. ReLU is
   applied to the values; k <= n. `mask` [n] (NULL: all): entries with 0 are not candidates; slots
   beyond the candidates get value 0 and the lowest indices not yet used in the row. */
typedef struct fct_topk_args {
    const float *x;
    int64_t rows, n, k;
    const uint8_t *mask;
    bool any_order;
    int32_t *index;
    float *value;
} fct_topk_args;

/* y [rows,d] = bias + sum_j value[r,j] * table[index[r,j],:]; bias [d] may be NULL. */
typedef struct fct_sparse_decode_args {
    const int32_t *index;
    const float *value;
    int64_t rows, k, d;
    const float *table; /* [n,d] */
    const float *bias;
    float *y;
    int64_t n; /* rows of table; 0: not told, which costs speed where k is large */
} fct_sparse_decode_args;

/* grad [n,d] += sum over (r,j) with index[r,j]==f of coef[r,j] * x[r,:]; fixed order of summation
   (rows ascending) whatever the threads. Entries with coef 0 are skipped. */
typedef struct fct_sparse_outer_args {
    const int32_t *index;
    const float *coef;
    int64_t rows, k, n, d;
    const float *x; /* [rows,d] */
    float *grad;
} fct_sparse_outer_args;

/* coef [rows,k] = x[r,:] · table[index[r,j],:]. */
typedef struct fct_sparse_dot_args {
    const int32_t *index;
    int64_t rows, k, d;
    const float *x;     /* [rows,d] */
    const float *table; /* [n,d] */
    float *coef;
    int64_t n; /* rows of table; 0: not told, which costs speed where k is large */
} fct_sparse_dot_args;

/* ---- the training step of a sparse autoencoder, in four operations ---- */

/* The encoder W [n,d] in the form that select reads: nothing more than the weights themselves in
   f32, or a 16- or 8-bit copy with the rounding errors of its rows. encoder_fill makes the copy;
   after a change of W it must run again (adam does it in passing). */
typedef enum fct_product { FCT_PRODUCT_F32, FCT_PRODUCT_BF16, FCT_PRODUCT_INT8 } fct_product;
const char *fct_product_name(fct_product p); /* "f32", "bf16", "int8" */
typedef struct fct_encoder {
    fct_product product;
    int64_t n, d;
    int64_t bytes; /* held by impl */
    const fct_backend *be;
    void *impl;
} fct_encoder;
fct_status fct_encoder_init(fct_encoder *out, const fct_backend *be, fct_product product, int64_t n,
                            int64_t d) FCT_MUST_CHECK;
void fct_encoder_clear(fct_encoder *enc);

typedef struct fct_encoder_fill_args {
    fct_encoder *enc;
    const float *w; /* [n,d] */
} fct_encoder_fill_args;

/* The k largest of each row of (x - shift)·Wᵀ + bias, as topk would take them, while the rows of
   products [rows,n] never exist as a whole. Whatever the encoder's copy: candidates are found with
   it, by a margin, and their values are f32 products of x and w; so the selected set is that of an
   f32 product up to ties within its own rounding. A row with too many candidates is computed in
   f32. bf16: the margin bounds every rounding (Cauchy-Schwarz). int8: it is 8 standard deviations
   of the rounding noise, which is dithered. centred [rows,d] receives x - shift. any_order: as with
   topk. */
typedef struct fct_select_args {
    const fct_encoder *enc; /* filled from w */
    const float *x;         /* [rows,d] */
    const float *shift;     /* [d] */
    const float *w, *bias;  /* [n,d], [n] */
    int64_t rows, k;
    bool any_order;
    float *centred;
    int32_t *index; /* [rows,k] */
    float *value;
    int64_t *recomputed; /* host memory: how many rows had too many candidates; NULL: not asked */
} fct_select_args;

/* What codes leave unexplained, and what that means for them:

       error[r,:] = bias + sum_j value[r,j]·table[index[r,j],:] - target[r,:]
       coef[r,j]  = scale · error[r,:]·table[index[r,j],:]   where value > 0, else 0

   Entries with value 0 are skipped. */
typedef struct fct_sparse_error_args {
    const int32_t *index; /* [rows,k] */
    const float *value;
    int64_t rows, k, n, d;
    const float *table;  /* [n,d] */
    const float *bias;   /* [d] */
    const float *target; /* [rows,d] */
    float scale;
    float *error, *coef;
    double *sum;     /* [d]: the columns' sums of error */
    double *squares; /* the sum of its squares */
} fct_sparse_error_args;

/* Adam on both weights and the encoder's bias of a sparse autoencoder, gradients made on the way.
   For every feature f, with the sums over (r,j) where index[r,j] == f and value[r,j] > 0:

       g_enc  = sum coef[r,j]·input[r,:] + more_enc
       g_dec  = sum scale·value[r,j]·error[r,:] + more_dec
       g_bias = sum coef[r,j] + more_bias

   w_dec is scaled to unit length (zero rows stay), g_dec loses what lies along it; then torch's
   Adam:

       m += (1 - beta1)·(g - m)
       v  = beta2·v + (1 - beta2)·g²
       w -= rate·m / (sqrt(v)/root + eps)

   and, of the weights before the step,

       through [d] = sum_f g_bias[f]·w_enc[f,:]

   coef must be what sparse_error gives for the same codes, error, scale and w_dec. Every feature
   is updated, with or without a gradient. */
typedef struct fct_adam_args {
    const int32_t *index; /* [rows,k] */
    const float *value, *coef;
    int64_t rows, k, n, d;
    const float *input, *error; /* [rows,d] */
    float scale;
    const int32_t *more; /* [n]: row of more_* that belongs to f, or -1; NULL: none */
    const float *more_enc, *more_dec, *more_bias;         /* [m,d], [m,d], [m] */
    float *w_enc, *m_enc, *v_enc, *w_dec, *m_dec, *v_dec; /* [n,d] */
    float *b_enc, *m_bias, *v_bias;                       /* [n] */
    float rate, root, eps, beta1, beta2;
    float *through;   /* [d] */
    fct_encoder *enc; /* filled from the new w_enc; NULL: none */
} fct_adam_args;

/* ---- the table ---- */

/* X(name) makes the struct's members, the wrappers and the check that none is missing. */
#define FCT_OP_LIST(X)                                                                         \
    X(linear) X(conv2d) X(attention) X(matmul) X(group_norm) X(layer_norm)                     \
    X(geglu) X(unary) X(add) X(add_channels) X(finite) X(concat) X(gather) X(pool)             \
    X(topk) X(sparse_decode) X(sparse_outer) X(sparse_dot)                                     \
    X(encoder_fill) X(select) X(sparse_error) X(adam)

struct fct_backend {
    const char *name; /* "ref", "cpu" */
    const fct_device *device;
    fct_status (*pack)(const fct_backend *be, fct_weight *out, const fct_pack_desc *desc);
    void (*unpack)(fct_weight *w);            /* releases impl */
    fct_status (*plans_new)(fct_plans **out); /* NULL where there is nothing to remember */
    void (*plans_free)(fct_plans *p);
    /* How many there are, of which up to room are described in out; NULL: it plans nothing. */
    int64_t (*plans_list)(const fct_plans *p, fct_plan_row *out, int64_t room);
    /* What the product of select runs in here, by instruction set, shape and k: a table. */
    fct_product (*product)(int64_t n, int64_t d, int64_t k);
    fct_status (*encoder_new)(fct_encoder *enc); /* product, n and d are set */
    void (*encoder_free)(fct_encoder *enc);
    bool (*has_bf16)(void);               /* bf16 is fast here (AVX512-BF16 or AMX) */
    fct_status (*describe)(fct_str *out); /* "oneDNN 2.6.3, AVX512-BF16, AMX; 2 threads" */
#define FCT_OP_MEMBER(op) fct_status (*op)(fct_cx * cx, const fct_##op##_args *a);
    FCT_OP_LIST(FCT_OP_MEMBER)
#undef FCT_OP_MEMBER
};

extern const fct_backend fct_backend_ref, fct_backend_cpu;
/* By name; NULL or "auto": cpu. Fails if an op is missing. */
fct_status fct_backend_find(const fct_backend **out, const char *name) FCT_MUST_CHECK;
const fct_backend *fct_backend_at(int64_t number); /* from 0; NULL: there is none */

#define FCT_OP_WRAPPER(op) \
    fct_status fct_op_##op(fct_cx *cx, const fct_##op##_args *a) FCT_MUST_CHECK;
FCT_OP_LIST(FCT_OP_WRAPPER)
#undef FCT_OP_WRAPPER

#endif

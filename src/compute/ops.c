/* ops.c - checks the arguments of every operation and hands it to the backend: shapes, dtypes and
   pointers are verified once for all backends, so that a backend may index without looking, and an
   error names the operation and the sizes that do not fit. Zero rows are a no-op. */
#include "compute/backend.h"
#include "compute/view.h"

enum { SHAPE_TEXT = 64 };

static bool is_dry(const fct_cx *cx)
{
    return fct_arena_dry(cx->arena);
}

/* A tensor of activations: f32 or bf16, between lo and hi dimensions,
   data unless this is a dry run. */
static fct_status check_tensor(const fct_cx *cx, const char *name, const fct_tensor *t, int lo,
                               int hi)
{
    if (t->ndim < lo || t->ndim > hi || t->ndim > FCT_MAX_DIMS)
        return fct_fail(FCT_ERR_SHAPE, "%s has %d dimensions, not %d to %d", name, t->ndim, lo, hi);
    if (t->dtype != FCT_F32 && t->dtype != FCT_BF16)
        return fct_fail(FCT_ERR_ARG, "%s is %s; activations are f32 or bf16", name,
                        fct_dtype_name(t->dtype));
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (t->dim[i] < 0) return fct_fail(FCT_ERR_SHAPE, "%s has a negative dimension", name);
        FCT_TRY(fct_mul_i64(&n, n, t->dim[i]));
    }
    if (t->dim[t->ndim - 1] == 0) return fct_fail(FCT_ERR_SHAPE, "%s has no channels", name);
    if (!t->data && n > 0 && !is_dry(cx)) return fct_fail(FCT_ERR_ARG, "%s has no data", name);
    return FCT_OK;
}

static bool same_shape(const fct_tensor *a, const fct_tensor *b)
{
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

static fct_status want_same(const char *an, const fct_tensor *a, const char *bn,
                            const fct_tensor *b)
{
    if (same_shape(a, b)) return FCT_OK;
    char at[SHAPE_TEXT], bt[SHAPE_TEXT];
    fct_shape_text(at, sizeof at, a);
    fct_shape_text(bt, sizeof bt, b);
    return fct_fail(FCT_ERR_SHAPE, "%s is %s but %s is %s", an, at, bn, bt);
}

/* As many rows of as many channels; dimensions may be split differently. */
static fct_status want_rows(const char *an, const fct_tensor *a, const char *bn,
                            const fct_tensor *b)
{
    if (fct_view_rows(a) == fct_view_rows(b) && fct_view_last(a) == fct_view_last(b)) return FCT_OK;
    return want_same(an, a, bn, b) == FCT_OK ? fct_fail(FCT_ERR_SHAPE, "%s and %s differ", an, bn)
                                             : FCT_ERR_SHAPE;
}

static fct_status check_weight(const fct_cx *cx, const fct_weight *w, fct_pack_kind kind)
{
    if (!w || !w->be) return fct_fail(FCT_ERR_ARG, "no weight");
    if (w->be != cx->be)
        return fct_fail(FCT_ERR_ARG, "the weight was packed for %s, this run is on %s", w->be->name,
                        cx->be->name);
    bool one = w->kh == 1 && w->kw == 1;
    if (w->kind != kind && !(kind == FCT_PACK_LINEAR && one))
        return fct_fail(FCT_ERR_ARG, "the weight was packed for %s",
                        kind == FCT_PACK_LINEAR ? "a convolution" : "a linear layer");
    return FCT_OK;
}

static fct_status check_act(fct_act act)
{
    if ((int)act >= FCT_ACT_NONE && act <= FCT_ACT_RELU) return FCT_OK;
    return fct_fail(FCT_ERR_ARG, "activation %d is not known", (int)act);
}

static fct_status check_pointer(const fct_cx *cx, const void *p, const char *name)
{
    return p || is_dry(cx) ? FCT_OK : fct_fail(FCT_ERR_ARG, "%s is NULL", name);
}

static fct_status check_counts(const int64_t *n, int count)
{
    for (int i = 0; i < count; i++)
        if (n[i] < 0) return fct_fail(FCT_ERR_SHAPE, "a size is negative");
    return FCT_OK;
}

/* ---- one check an operation; *empty: nothing to do ---- */

static fct_status check_linear(const fct_cx *cx, const fct_linear_args *a, bool *empty)
{
    FCT_TRY(check_weight(cx, a->w, FCT_PACK_LINEAR));
    FCT_TRY(check_tensor(cx, "x", &a->x, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 1, FCT_MAX_DIMS));
    FCT_TRY(check_act(a->act));
    char xt[SHAPE_TEXT], yt[SHAPE_TEXT];
    fct_shape_text(xt, sizeof xt, &a->x);
    fct_shape_text(yt, sizeof yt, &a->y);
    if (fct_view_last(&a->x) != a->w->in)
        return fct_fail(FCT_ERR_SHAPE, "x is %s but the weight takes %lld inputs", xt,
                        (long long)a->w->in);
    if (fct_view_last(&a->y) != a->w->out)
        return fct_fail(FCT_ERR_SHAPE, "y is %s but the weight gives %lld outputs", yt,
                        (long long)a->w->out);
    if (fct_view_rows(&a->x) != fct_view_rows(&a->y))
        return fct_fail(FCT_ERR_SHAPE, "x is %s but y is %s: their rows differ", xt, yt);
    if (fct_view_given(&a->residual)) {
        FCT_TRY(check_tensor(cx, "residual", &a->residual, 1, FCT_MAX_DIMS));
        FCT_TRY(want_rows("residual", &a->residual, "y", &a->y));
    }
    *empty = fct_view_rows(&a->x) == 0;
    return FCT_OK;
}

static fct_status check_conv2d(const fct_cx *cx, const fct_conv2d_args *a, bool *empty)
{
    FCT_TRY(check_weight(cx, a->w, FCT_PACK_CONV));
    FCT_TRY(check_tensor(cx, "x", &a->x, 4, 4));
    FCT_TRY(check_tensor(cx, "y", &a->y, 4, 4));
    char xt[SHAPE_TEXT], yt[SHAPE_TEXT];
    fct_shape_text(xt, sizeof xt, &a->x);
    fct_shape_text(yt, sizeof yt, &a->y);
    if (a->x.dim[3] != a->w->in)
        return fct_fail(FCT_ERR_SHAPE, "x is %s but the weight takes %lld channels", xt,
                        (long long)a->w->in);
    if (a->y.dim[3] != a->w->out)
        return fct_fail(FCT_ERR_SHAPE, "y is %s but the weight gives %lld channels", yt,
                        (long long)a->w->out);
    if (a->stride < 0 || a->pad_top < 0 || a->pad_left < 0 || a->pad_bottom < 0 || a->pad_right < 0)
        return fct_fail(FCT_ERR_ARG, "stride and padding must not be negative");
    if (a->up_h < 0 || a->up_w < 0 || (a->up_h > 0) != (a->up_w > 0))
        return fct_fail(FCT_ERR_ARG, "resize to %lldx%lld: give both sizes or none",
                        (long long)a->up_h, (long long)a->up_w);
    *empty = fct_tensor_count(&a->y) == 0;
    if (a->x.dim[0] != a->y.dim[0])
        return fct_fail(FCT_ERR_SHAPE, "x is %s but y is %s: their batches differ", xt, yt);
    if (*empty && a->x.dim[0] == 0) return FCT_OK;
    if (fct_tensor_count(&a->x) == 0) return fct_fail(FCT_ERR_SHAPE, "x is %s: an empty map", xt);
    int64_t s = fct_view_stride(a);
    int64_t h = fct_view_conv_h(a) + a->pad_top + a->pad_bottom - a->w->kh;
    int64_t w = fct_view_conv_w(a) + a->pad_left + a->pad_right - a->w->kw;
    if (h < 0 || w < 0) return fct_fail(FCT_ERR_SHAPE, "x is %s: smaller than the kernel", xt);
    if (a->y.dim[1] != h / s + 1 || a->y.dim[2] != w / s + 1)
        return fct_fail(FCT_ERR_SHAPE, "x is %s, so y is [%lld,%lld,%lld,%lld], not %s", xt,
                        (long long)a->x.dim[0], (long long)(h / s + 1), (long long)(w / s + 1),
                        (long long)a->w->out, yt);
    if (fct_view_given(&a->residual)) {
        FCT_TRY(check_tensor(cx, "residual", &a->residual, 4, 4));
        FCT_TRY(want_same("residual", &a->residual, "y", &a->y));
    }
    return FCT_OK;
}

static fct_status check_group_norm(const fct_cx *cx, const fct_group_norm_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "x", &a->x, 2, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 2, FCT_MAX_DIMS));
    FCT_TRY(want_same("x", &a->x, "y", &a->y));
    FCT_TRY(check_act(a->act));
    int64_t c = fct_view_last(&a->x);
    if (a->groups < 1 || c % a->groups != 0)
        return fct_fail(FCT_ERR_SHAPE, "%lld channels do not make %lld groups", (long long)c,
                        (long long)a->groups);
    if (!(a->eps >= 0)) return fct_fail(FCT_ERR_ARG, "eps is negative");
    FCT_TRY(check_pointer(cx, a->gamma, "gamma"));
    FCT_TRY(check_pointer(cx, a->beta, "beta"));
    if (a->x.data && a->x.data == a->y.data && a->x.dtype != a->y.dtype)
        return fct_fail(FCT_ERR_ARG, "in place needs one dtype");
    *empty = fct_tensor_count(&a->x) == 0;
    return FCT_OK;
}

static fct_status check_layer_norm(const fct_cx *cx, const fct_layer_norm_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "x", &a->x, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 1, FCT_MAX_DIMS));
    FCT_TRY(want_rows("x", &a->x, "y", &a->y));
    if (!(a->eps >= 0)) return fct_fail(FCT_ERR_ARG, "eps is negative");
    if (a->x.data && a->x.data == a->y.data && a->x.dtype != a->y.dtype)
        return fct_fail(FCT_ERR_ARG, "in place needs one dtype");
    *empty = fct_view_rows(&a->x) == 0;
    return FCT_OK;
}

static fct_status check_attention(const fct_cx *cx, const fct_attention_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "q", &a->q, 3, 3));
    FCT_TRY(check_tensor(cx, "k", &a->k, 3, 3));
    FCT_TRY(check_tensor(cx, "v", &a->v, 3, 3));
    FCT_TRY(check_tensor(cx, "y", &a->y, 3, 3));
    FCT_TRY(want_same("q", &a->q, "y", &a->y));
    FCT_TRY(want_same("k", &a->k, "v", &a->v));
    int64_t c = a->q.dim[2];
    if (a->heads < 1 || c % a->heads != 0)
        return fct_fail(FCT_ERR_SHAPE, "%lld channels do not make %lld heads", (long long)c,
                        (long long)a->heads);
    if (a->k.dim[0] != a->q.dim[0] || a->k.dim[2] != c) FCT_TRY(want_same("q", &a->q, "k", &a->k));
    const int64_t stride[3] = {a->q_stride, a->k_stride, a->v_stride};
    for (int i = 0; i < 3; i++)
        if (stride[i] != 0 && stride[i] < c)
            return fct_fail(FCT_ERR_ARG, "a token stride of %lld is less than its %lld channels",
                            (long long)stride[i], (long long)c);
    *empty = fct_tensor_count(&a->q) == 0;
    if (!*empty && a->k.dim[1] == 0)
        return fct_fail(FCT_ERR_SHAPE, "there are no keys to attend to");
    return FCT_OK;
}

static fct_status check_geglu(const fct_cx *cx, const fct_geglu_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "x", &a->x, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 1, FCT_MAX_DIMS));
    char xt[SHAPE_TEXT], yt[SHAPE_TEXT];
    fct_shape_text(xt, sizeof xt, &a->x);
    fct_shape_text(yt, sizeof yt, &a->y);
    if (fct_view_last(&a->x) != 2 * fct_view_last(&a->y) ||
        fct_view_rows(&a->x) != fct_view_rows(&a->y))
        return fct_fail(FCT_ERR_SHAPE, "x is %s but y is %s: x must be twice as wide", xt, yt);
    *empty = fct_view_rows(&a->x) == 0;
    return FCT_OK;
}

static fct_status check_unary(const fct_cx *cx, const fct_unary_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "x", &a->x, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 1, FCT_MAX_DIMS));
    FCT_TRY(check_act(a->act));
    if (fct_tensor_count(&a->x) != fct_tensor_count(&a->y))
        FCT_TRY(want_same("x", &a->x, "y", &a->y));
    if (a->x.data && a->x.data == a->y.data && a->x.dtype != a->y.dtype)
        return fct_fail(FCT_ERR_ARG, "in place needs one dtype");
    *empty = fct_tensor_count(&a->x) == 0;
    return FCT_OK;
}

static fct_status check_add(const fct_cx *cx, const fct_add_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "a", &a->a, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "b", &a->b, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 1, FCT_MAX_DIMS));
    if (fct_tensor_count(&a->a) != fct_tensor_count(&a->b))
        FCT_TRY(want_same("a", &a->a, "b", &a->b));
    if (fct_tensor_count(&a->a) != fct_tensor_count(&a->y))
        FCT_TRY(want_same("a", &a->a, "y", &a->y));
    if (a->y.data && ((a->y.data == a->a.data && a->y.dtype != a->a.dtype) ||
                      (a->y.data == a->b.data && a->y.dtype != a->b.dtype)))
        return fct_fail(FCT_ERR_ARG, "in place needs one dtype");
    *empty = fct_tensor_count(&a->y) == 0;
    return FCT_OK;
}

static fct_status check_add_channels(const fct_cx *cx, const fct_add_channels_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "x", &a->x, 2, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 2, FCT_MAX_DIMS));
    FCT_TRY(want_same("x", &a->x, "y", &a->y));
    if (a->x.dtype != a->y.dtype)
        return fct_fail(FCT_ERR_ARG, "x is %s but y is %s", fct_dtype_name(a->x.dtype),
                        fct_dtype_name(a->y.dtype));
    *empty = fct_tensor_count(&a->x) == 0;
    return *empty ? FCT_OK : check_pointer(cx, a->add, "add");
}

static fct_status check_finite(const fct_cx *cx, const fct_finite_args *a, bool *empty)
{
    if (!a->finite) return fct_fail(FCT_ERR_ARG, "finite is NULL");
    *a->finite = true;
    FCT_TRY(check_tensor(cx, "x", &a->x, 1, FCT_MAX_DIMS));
    *empty = fct_tensor_count(&a->x) == 0;
    return FCT_OK;
}

static fct_status check_gather(const fct_cx *cx, const fct_gather_args *a, bool *empty)
{
    fct_tensor x = a->x;
    if (x.dtype == FCT_F16) x.dtype = FCT_BF16; /* as large; the only operation that reads it */
    FCT_TRY(check_tensor(cx, "x", &x, 2, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 2, FCT_MAX_DIMS));
    int64_t c = fct_view_last(&a->y), n = fct_view_rows(&a->x), rows = fct_view_rows(&a->y);
    if (fct_view_last(&a->x) != c)
        return fct_fail(FCT_ERR_SHAPE, "rows of %lld channels are taken from rows of %lld",
                        (long long)c, (long long)fct_view_last(&a->x));
    if ((a->x_stride && a->x_stride < c) || (a->y_stride && a->y_stride < c))
        return fct_fail(FCT_ERR_ARG, "a row stride is less than its %lld channels", (long long)c);
    if (!a->index && n != rows)
        return fct_fail(FCT_ERR_SHAPE, "%lld rows are taken from %lld without numbers",
                        (long long)rows, (long long)n);
    for (int64_t r = 0; a->index && !is_dry(cx) && r < rows; r++)
        if (a->index[r] < -1 || a->index[r] >= n)
            return fct_fail(FCT_ERR_RANGE, "row %lld is number %lld of %lld", (long long)r,
                            (long long)a->index[r], (long long)n);
    *empty = rows == 0;
    return FCT_OK;
}

static fct_status check_concat(const fct_cx *cx, const fct_concat_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "a", &a->a, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "b", &a->b, 1, FCT_MAX_DIMS));
    FCT_TRY(check_tensor(cx, "y", &a->y, 1, FCT_MAX_DIMS));
    int64_t rows = fct_view_rows(&a->y);
    char at[SHAPE_TEXT], bt[SHAPE_TEXT], yt[SHAPE_TEXT];
    fct_shape_text(at, sizeof at, &a->a);
    fct_shape_text(bt, sizeof bt, &a->b);
    fct_shape_text(yt, sizeof yt, &a->y);
    if (fct_view_rows(&a->a) != rows || fct_view_rows(&a->b) != rows ||
        fct_view_last(&a->a) + fct_view_last(&a->b) != fct_view_last(&a->y))
        return fct_fail(FCT_ERR_SHAPE, "a %s beside b %s does not give y %s", at, bt, yt);
    *empty = rows == 0;
    return FCT_OK;
}

static fct_status check_pool(const fct_cx *cx, const fct_pool_args *a, bool *empty)
{
    FCT_TRY(check_tensor(cx, "x", &a->x, 4, 4));
    FCT_TRY(check_tensor(cx, "y", &a->y, 2, 4));
    char xt[SHAPE_TEXT], yt[SHAPE_TEXT];
    fct_shape_text(xt, sizeof xt, &a->x);
    fct_shape_text(yt, sizeof yt, &a->y);
    if (a->size < 0) return fct_fail(FCT_ERR_ARG, "a window of %lld", (long long)a->size);
    int64_t ho = a->size ? a->x.dim[1] / a->size : 1, wo = a->size ? a->x.dim[2] / a->size : 1;
    int64_t want = a->x.dim[0] * ho * wo;
    if (fct_view_rows(&a->y) != want || fct_view_last(&a->y) != a->x.dim[3])
        return fct_fail(FCT_ERR_SHAPE, "x is %s, so y is [%lld,%lld,%lld,%lld], not %s", xt,
                        (long long)a->x.dim[0], (long long)ho, (long long)wo,
                        (long long)a->x.dim[3], yt);
    *empty = want == 0;
    if (!*empty && fct_tensor_count(&a->x) == 0)
        return fct_fail(FCT_ERR_SHAPE, "x is %s: an empty map", xt);
    return FCT_OK;
}

static fct_status check_matmul(const fct_cx *cx, const fct_matmul_args *a, bool *empty)
{
    FCT_TRY(check_counts((const int64_t[]){a->m, a->n, a->k}, 3));
    *empty = a->m == 0 || a->n == 0;
    if (*empty) return FCT_OK;
    if (a->k > 0) FCT_TRY(check_pointer(cx, a->a, "a"));
    if (a->k > 0) FCT_TRY(check_pointer(cx, a->b, "b"));
    return check_pointer(cx, a->c, "c");
}

static fct_status check_topk(const fct_cx *cx, const fct_topk_args *a, bool *empty)
{
    FCT_TRY(check_counts((const int64_t[]){a->rows, a->n, a->k}, 3));
    if (a->k > a->n)
        return fct_fail(FCT_ERR_SHAPE, "k is %lld but a row has %lld entries", (long long)a->k,
                        (long long)a->n);
    if (a->n > INT32_MAX)
        return fct_fail(FCT_ERR_RANGE, "%lld entries do not fit an int32 index", (long long)a->n);
    *empty = a->rows == 0 || a->k == 0;
    if (*empty) return FCT_OK;
    FCT_TRY(check_pointer(cx, a->x, "x"));
    FCT_TRY(check_pointer(cx, a->index, "index"));
    return check_pointer(cx, a->value, "value");
}

/* Every entry in [0,n), where the host can look; n 0: not told. */
static fct_status check_index(const fct_cx *cx, const int32_t *index, int64_t rows, int64_t k,
                              int64_t n)
{
    if (n == 0 || is_dry(cx) || !cx->be->device->is_host) return FCT_OK;
    for (int64_t i = 0; i < rows * k; i++)
        if (index[i] < 0 || index[i] >= n)
            return fct_fail(FCT_ERR_RANGE, "index %d at row %lld is not in [0,%lld)", index[i],
                            (long long)(i / k), (long long)n);
    return FCT_OK;
}

static fct_status check_sparse_decode(const fct_cx *cx, const fct_sparse_decode_args *a,
                                      bool *empty)
{
    FCT_TRY(check_counts((const int64_t[]){a->rows, a->k, a->d, a->n}, 4));
    *empty = a->rows == 0 || a->d == 0;
    if (*empty) return FCT_OK;
    if (a->k > 0) {
        FCT_TRY(check_pointer(cx, a->index, "index"));
        FCT_TRY(check_pointer(cx, a->value, "value"));
        FCT_TRY(check_pointer(cx, a->table, "table"));
        FCT_TRY(check_index(cx, a->index, a->rows, a->k, a->n));
    }
    return check_pointer(cx, a->y, "y");
}

static fct_status check_sparse_outer(const fct_cx *cx, const fct_sparse_outer_args *a, bool *empty)
{
    FCT_TRY(check_counts((const int64_t[]){a->rows, a->k, a->n, a->d}, 4));
    if (a->n > INT32_MAX || a->rows > INT32_MAX)
        return fct_fail(FCT_ERR_RANGE, "too many rows or features for an int32 index");
    *empty = a->rows == 0 || a->k == 0 || a->d == 0;
    if (*empty) return FCT_OK;
    FCT_TRY(check_pointer(cx, a->index, "index"));
    FCT_TRY(check_pointer(cx, a->coef, "coef"));
    FCT_TRY(check_pointer(cx, a->x, "x"));
    FCT_TRY(check_pointer(cx, a->grad, "grad"));
    if (a->n == 0) return fct_fail(FCT_ERR_SHAPE, "there are no features");
    return check_index(cx, a->index, a->rows, a->k, a->n);
}

static fct_status check_sparse_dot(const fct_cx *cx, const fct_sparse_dot_args *a, bool *empty)
{
    FCT_TRY(check_counts((const int64_t[]){a->rows, a->k, a->d, a->n}, 4));
    *empty = a->rows == 0 || a->k == 0;
    if (*empty) return FCT_OK;
    FCT_TRY(check_pointer(cx, a->index, "index"));
    FCT_TRY(check_index(cx, a->index, a->rows, a->k, a->n));
    if (a->d > 0) FCT_TRY(check_pointer(cx, a->x, "x"));
    if (a->d > 0) FCT_TRY(check_pointer(cx, a->table, "table"));
    return check_pointer(cx, a->coef, "coef");
}

/* ---- the training step of a sparse autoencoder ---- */

static fct_status check_encoder(const fct_cx *cx, const fct_encoder *enc)
{
    if (!enc || !enc->be) return fct_fail(FCT_ERR_ARG, "no encoder");
    if (enc->be != cx->be)
        return fct_fail(FCT_ERR_ARG, "the encoder was made for %s, this run is on %s",
                        enc->be->name, cx->be->name);
    return FCT_OK;
}

/* All of them, or a failure that names the first that is NULL. */
typedef struct named {
    const void *p;
    const char *name;
} named;

static fct_status check_pointers(const fct_cx *cx, const named *list, size_t n)
{
    for (size_t i = 0; i < n; i++) FCT_TRY(check_pointer(cx, list[i].p, list[i].name));
    return FCT_OK;
}

static fct_status check_codes(int64_t rows, int64_t k, int64_t n, int64_t d)
{
    FCT_TRY(check_counts((const int64_t[]){rows, k, n, d}, 4));
    if (n < 1 || d < 1) return fct_fail(FCT_ERR_SHAPE, "there are no features");
    if (n > INT32_MAX || rows > INT32_MAX)
        return fct_fail(FCT_ERR_RANGE, "too many rows or features for an int32 index");
    return FCT_OK;
}

static fct_status check_encoder_fill(const fct_cx *cx, const fct_encoder_fill_args *a, bool *empty)
{
    *empty = false;
    FCT_TRY(check_encoder(cx, a->enc));
    return check_pointer(cx, a->w, "w");
}

static fct_status check_select(const fct_cx *cx, const fct_select_args *a, bool *empty)
{
    FCT_TRY(check_encoder(cx, a->enc));
    FCT_TRY(check_codes(a->rows, a->k, a->enc->n, a->enc->d));
    if (a->k > a->enc->n)
        return fct_fail(FCT_ERR_SHAPE, "k is %lld but there are %lld features", (long long)a->k,
                        (long long)a->enc->n);
    *empty = a->rows == 0 || a->k == 0;
    const named list[] = {{a->x, "x"},        {a->shift, "shift"},     {a->w, "w"},
                          {a->bias, "bias"},  {a->centred, "centred"}, {a->index, "index"},
                          {a->value, "value"}};
    return *empty ? FCT_OK : check_pointers(cx, list, FCT_COUNT(list));
}

static fct_status check_sparse_error(const fct_cx *cx, const fct_sparse_error_args *a, bool *empty)
{
    FCT_TRY(check_codes(a->rows, a->k, a->n, a->d));
    *empty = false; /* of no rows the sums are 0 */
    FCT_TRY(check_pointer(cx, a->sum, "sum"));
    FCT_TRY(check_pointer(cx, a->squares, "squares"));
    if (a->rows == 0) return FCT_OK;
    const named list[] = {{a->table, "table"}, {a->bias, "bias"}, {a->target, "target"},
                          {a->error, "error"}, {a->coef, "coef"}, {a->index, "index"},
                          {a->value, "value"}};
    FCT_TRY(check_pointers(cx, list, FCT_COUNT(list)));
    return check_index(cx, a->index, a->rows, a->k, a->n);
}

static fct_status check_adam(const fct_cx *cx, const fct_adam_args *a, bool *empty)
{
    FCT_TRY(check_codes(a->rows, a->k, a->n, a->d));
    *empty = false;
    if (a->enc) FCT_TRY(check_encoder(cx, a->enc));
    if (a->enc && (a->enc->n != a->n || a->enc->d != a->d))
        return fct_fail(FCT_ERR_SHAPE, "the encoder is of other sizes");
    const named list[] = {{a->w_enc, "w_enc"},     {a->m_enc, "m_enc"},   {a->v_enc, "v_enc"},
                          {a->w_dec, "w_dec"},     {a->m_dec, "m_dec"},   {a->v_dec, "v_dec"},
                          {a->b_enc, "b_enc"},     {a->m_bias, "m_bias"}, {a->v_bias, "v_bias"},
                          {a->through, "through"}, {a->input, "input"},   {a->error, "error"},
                          {a->index, "index"},     {a->value, "value"},   {a->coef, "coef"}};
    FCT_TRY(check_pointers(cx, list, a->rows > 0 && a->k > 0 ? FCT_COUNT(list) : 10));
    if (a->more) {
        const named extra[] = {
            {a->more_enc, "more_enc"}, {a->more_dec, "more_dec"}, {a->more_bias, "more_bias"}};
        FCT_TRY(check_pointers(cx, extra, FCT_COUNT(extra)));
    }
    return check_index(cx, a->index, a->rows, a->k, a->n);
}

/* ---- the wrappers ---- */

static fct_status check_cx(const fct_cx *cx, const void *args)
{
    if (!cx || !cx->be) return fct_fail(FCT_ERR_ARG, "no backend");
    if (!cx->arena) return fct_fail(FCT_ERR_ARG, "no arena");
    if (!args) return fct_fail(FCT_ERR_ARG, "no arguments");
    return FCT_OK;
}

#define WRAPPER(op)                                              \
    fct_status fct_op_##op(fct_cx *cx, const fct_##op##_args *a) \
    {                                                            \
        bool empty = false;                                      \
        fct_status st = check_cx(cx, a);                         \
        if (st == FCT_OK) st = check_##op(cx, a, &empty);        \
        if (st == FCT_OK && !empty) st = cx->be->op(cx, a);      \
        return fct_where(st, #op);                               \
    }
FCT_OP_LIST(WRAPPER)

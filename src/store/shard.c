/* shard.c - holds a shard in memory: rows in the store's type with their prompt, step, branch and
   place, written as one safetensors file. Numbers that the type cannot hold are refused here, so
   that no infinity ever gets into a store; and what the type does to the rows is summed up, so that
   the store can say it. */
#include <math.h>
#include <string.h>

#include "store/store.h"

bool fct_store_has_dtype(fct_dtype t)
{
    return t == FCT_F16 || t == FCT_BF16 || t == FCT_F32 || t == FCT_I8;
}

fct_status fct_store_dtype_find(fct_dtype *out, fct_store_dtype asked, fct_dtype otherwise)
{
    static const fct_dtype type[] = {[FCT_STORE_F16] = FCT_F16,
                                     [FCT_STORE_BF16] = FCT_BF16,
                                     [FCT_STORE_F32] = FCT_F32,
                                     [FCT_STORE_I8] = FCT_I8};
    if ((unsigned)asked >= FCT_COUNT(type))
        return fct_fail(FCT_ERR_ARG, "store type %d: want " FCT_STORE_DTYPES, (int)asked);
    *out = asked == FCT_STORE_DEFAULT ? otherwise : type[asked];
    return FCT_OK;
}

fct_status fct_shard_init(fct_shard *s, fct_dtype dtype, int64_t d, int64_t cap, bool has_meta)
{
    fct_status st = FCT_OK;
    int64_t n;
    *s = (fct_shard){.dtype = dtype, .d = d, .cap = cap, .has_meta = has_meta};
    FCT_TRY_OUT(fct_mul_i64(&n, d, cap));
    FCT_TRY_OUT(fct_new_raw(&s->rows, n, fct_dtype_bytes(dtype)));
    FCT_TRY_OUT(fct_new_raw(&s->back, d, sizeof *s->back));
    if (dtype == FCT_I8) FCT_TRY_OUT(fct_new_raw(&s->scale, cap, sizeof *s->scale));
    if (!has_meta) return FCT_OK;
    FCT_TRY_OUT(fct_new_raw(&s->prompt, cap, sizeof *s->prompt));
    FCT_TRY_OUT(fct_new_raw(&s->step, cap, sizeof *s->step));
    FCT_TRY_OUT(fct_new_raw(&s->branch, cap, sizeof *s->branch));
    FCT_TRY_OUT(fct_new_raw(&s->yx, cap, 2 * (int64_t)sizeof *s->yx));
    return FCT_OK;
out:
    fct_shard_clear(s);
    return st;
}

void fct_shard_clear(fct_shard *s)
{
    void *part[] = {s->rows, s->scale, s->back, s->prompt, s->step, s->branch, s->yx};
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    *s = (fct_shard){0};
}

/* The least magnitude that rounds to infinity: half a unit beyond the largest number. */
static float limit_of(fct_dtype t)
{
    return t == FCT_F16 ? 65520.0f : t == FCT_BF16 ? 0x1.ffp127f : INFINITY;
}

/* ---- rows of any type ---- */

FCT_CLONES static void scale_row(float *out, const int8_t *x, float scale, int64_t d)
{
    for (int64_t i = 0; i < d; i++) out[i] = (float)x[i] * scale;
}

FCT_CLONES static float largest(const float *x, int64_t d)
{
    float lane[16] = {0}, most = 0;
    int64_t i = 0;
    for (; i + 16 <= d; i += 16)
        for (int l = 0; l < 16; l++)
            lane[l] = fabsf(x[i + l]) > lane[l] ? fabsf(x[i + l]) : lane[l];
    for (int l = 0; l < 16; l++) most = lane[l] > most ? lane[l] : most;
    for (; i < d; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

FCT_CLONES static void quantise(int8_t *out, const float *x, float per_scale, int64_t d)
{
    for (int64_t i = 0; i < d; i++) out[i] = (int8_t)rintf(x[i] * per_scale);
}

/* A scale so small that its inverse is infinite: such a row is as good as zero. */
static float quantise_row(int8_t *out, const float *x, int64_t d)
{
    float scale = largest(x, d) / 127;
    if (!(scale > 1e-37f)) {
        memset(out, 0, (size_t)d);
        return 0;
    }
    quantise(out, x, 1 / scale, d);
    return scale;
}

fct_status fct_row_to_f32(float *out, fct_row_ref row, fct_dtype dtype, int64_t d)
{
    if (dtype != FCT_I8) return fct_convert(out, FCT_F32, row.data, dtype, d);
    scale_row(out, row.data, row.scale, d);
    return FCT_OK;
}

FCT_CLONES bool fct_rows_finite(const float *x, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= !(fabsf(x[i]) <= 3.402823466e38f);
    return !bad;
}

/* Adds x² and (x - y)² in lanes, whose order is fixed. */
FCT_CLONES static void add_error(double *squares, double *error, const float *x, const float *y,
                                 int64_t d)
{
    double a[8] = {0}, b[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
        for (int l = 0; l < 8; l++) {
            double v = x[i + l], e = v - (double)y[i + l];
            a[l] += v * v;
            b[l] += e * e;
        }
    for (; i < d; i++) {
        double v = x[i], e = v - (double)y[i];
        a[0] += v * v;
        b[0] += e * e;
    }
    for (int l = 0; l < 8; l++) {
        *squares += a[l];
        *error += b[l];
    }
}

double fct_rounding_error(double squares, double error)
{
    return squares > 0 ? sqrt(error / squares) : 0;
}

fct_row_ref fct_shard_row(const fct_shard *s, int64_t at)
{
    return (fct_row_ref){s->rows + at * s->d * fct_dtype_bytes(s->dtype),
                         s->scale ? s->scale[at] : 1};
}

/* ---- filling ---- */

FCT_CLONES static bool all_below(const float *x, int64_t n, float limit)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= !(fabsf(x[i]) < limit);
    return !bad;
}

fct_status fct_shard_put(fct_shard *s, int64_t at, const float *rows, int64_t n)
{
    float limit = limit_of(s->dtype);
    if (at < 0 || n < 0 || at + n > s->cap)
        return fct_fail(FCT_ERR_INTERNAL, "rows %lld to %lld do not fit a shard", (long long)at,
                        (long long)(at + n));
    if (!all_below(rows, n * s->d, limit))
        for (int64_t i = 0; i < n * s->d; i++)
            if (!(fabsf(rows[i]) < limit))
                return fct_fail(
                    FCT_ERR_RANGE, "%s cannot hold %g%s", fct_dtype_name(s->dtype), (double)rows[i],
                    isfinite(rows[i]) ? ": choose another number type for the store" : "");
    for (int64_t i = 0; i < n; i++) {
        const float *x = rows + i * s->d;
        uint8_t *to = s->rows + (at + i) * s->d * fct_dtype_bytes(s->dtype);
        if (s->dtype == FCT_I8)
            s->scale[at + i] = quantise_row((int8_t *)to, x, s->d);
        else
            FCT_TRY(fct_convert(to, s->dtype, x, FCT_F32, s->d));
        if (s->dtype == FCT_F32) continue;
        FCT_TRY(fct_row_to_f32(s->back, fct_shard_row(s, at + i), s->dtype, s->d));
        add_error(&s->squares, &s->error, x, s->back, s->d);
    }
    return FCT_OK;
}

fct_status fct_shard_write(const fct_shard *s, const char *path)
{
    char name[6][8] = {"rows", "scale", "prompt", "step", "branch", "yx"};
    const fct_tensor_entry all[6] = {
        {name[0], fct_tensor_of(s->rows, s->dtype, 2, (int64_t[]){s->n, s->d})},
        {name[1], fct_tensor_of(s->scale, FCT_F32, 1, &s->n)},
        {name[2], fct_tensor_of(s->prompt, FCT_I32, 1, &s->n)},
        {name[3], fct_tensor_of(s->step, FCT_I16, 1, &s->n)},
        {name[4], fct_tensor_of(s->branch, FCT_U8, 1, &s->n)},
        {name[5], fct_tensor_of(s->yx, FCT_I16, 2, (int64_t[]){s->n, 2})},
    };
    fct_tensor_entry entry[6];
    int64_t n = 0;
    for (int i = 0; i < 6; i++)
        if (i == 0 || (i == 1 ? s->scale != NULL : s->has_meta)) entry[n++] = all[i];
    return fct_safetensors_write(path, entry, n, NULL);
}

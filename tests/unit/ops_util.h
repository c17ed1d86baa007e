/* ops_util.h - what the conformance tests of operations share: tensors between guard bytes, runs
   that are planned dry first and then get exactly the scratch they asked for (poisoned, so that
   reading it before writing shows), comparison. */
#ifndef FCT_TEST_OPS_UTIL_H
#define FCT_TEST_OPS_UTIL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "compute/backend.h"

#define REF (&fct_backend_ref)
#define CPU (&fct_backend_cpu)
#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

enum { GUARD = 64, POOL = 64 };

#define assert_ok(expr)                                                                \
    do {                                                                               \
        fct_status st_ = (expr);                                                       \
        if (st_ != FCT_OK) fail_msg("%s: %s", fct_status_name(st_), fct_error_text()); \
    } while (0)
#define assert_fails(expr, status, part)                             \
    do {                                                             \
        assert_int_equal(expr, status);                              \
        if (!strstr(fct_error_text(), part))                         \
            fail_msg("\"%s\" lacks \"%s\"", fct_error_text(), part); \
    } while (0)

typedef struct pool { /* memory of one case, each piece between guards */
    uint8_t *base[POOL];
    int64_t bytes[POOL];
    int n;
    fct_rng rng;
} pool;

static inline void pool_init(pool *p, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    fct_rng_init(&p->rng, seed);
}

/* Memory filled with 0xff: NaN in every float format, so what an operation forgets to write is
 * seen. */
static inline void *pool_take(pool *p, int64_t bytes)
{
    assert_true(p->n < POOL);
    uint8_t *b;
    assert_ok(fct_new(&b, bytes + 2 * GUARD, 1));
    memset(b, 0xff, (size_t)(bytes + 2 * GUARD));
    memset(b, 0xa5, GUARD);
    memset(b + GUARD + bytes, 0xa5, GUARD);
    p->base[p->n] = b;
    p->bytes[p->n++] = bytes;
    return b + GUARD;
}

static inline void pool_clear(pool *p) /* checks the guards */
{
    for (int i = 0; i < p->n; i++)
        for (int g = 0; g < GUARD; g++) {
            if (p->base[i][g] != 0xa5)
                fail_msg("piece %d was written %d bytes before its start", i, GUARD - g);
            if (p->base[i][GUARD + p->bytes[i] + g] != 0xa5)
                fail_msg("piece %d was written %d bytes after its end", i, g);
        }
    for (int i = 0; i < p->n; i++) fct_free(p->base[i]);
    p->n = 0;
}

static inline fct_tensor pool_tensor(pool *p, fct_dtype t, int nd, const int64_t *dim)
{
    fct_tensor x = fct_tensor_of(NULL, t, nd, dim);
    x.data = pool_take(p, fct_tensor_bytes(&x));
    return x;
}

static inline float get(const fct_tensor *t, int64_t i)
{
    return t->dtype == FCT_BF16 ? fct_bf16_to_f32(((uint16_t *)t->data)[i]) : ((float *)t->data)[i];
}

static inline void set(const fct_tensor *t, int64_t i, float v)
{
    if (t->dtype == FCT_BF16)
        ((uint16_t *)t->data)[i] = fct_f32_to_bf16(v);
    else
        ((float *)t->data)[i] = v;
}

static inline void fill(pool *p, const fct_tensor *t, float mean, float scale) /* normals */
{
    int64_t n = fct_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        double u = 0;
        for (int k = 0; k < 12; k++) u += fct_rng_unit(&p->rng);
        set(t, i, mean + scale * (float)(u - 6));
    }
}

static inline fct_tensor pool_random(pool *p, fct_dtype t, int nd, const int64_t *dim)
{
    fct_tensor x = pool_tensor(p, t, nd, dim);
    fill(p, &x, 0, 1);
    return x;
}

static inline float *pool_floats(pool *p, int64_t n, float mean, float scale)
{
    fct_tensor t = pool_tensor(p, FCT_F32, 1, &n);
    fill(p, &t, mean, scale);
    return t.data;
}

static inline double rel_l2(const fct_tensor *got, const fct_tensor *want)
{
    double e = 0, s = 0;
    int64_t n = fct_tensor_count(want);
    assert_int_equal(n, fct_tensor_count(got));
    for (int64_t i = 0; i < n; i++) {
        double g = (double)get(got, i), w = (double)get(want, i);
        if (!isfinite(w)) fail_msg("the expected value %lld is %g", (long long)i, w);
        if (!isfinite(g)) fail_msg("element %lld is %g, not %g", (long long)i, g, w);
        e += (g - w) * (g - w);
        s += w * w;
    }
    return s > 0 ? sqrt(e / s) : sqrt(e);
}

static inline void want_close(const char *what, const fct_tensor *got, const fct_tensor *want,
                              double bound)
{
    double e = rel_l2(got, want);
    if (!(e <= bound)) fail_msg("%s: rel-L2 %.2e exceeds %.0e", what, e, bound);
}

/* An arena of exactly what the dry run counted. */
static inline void arena_from_dry(fct_arena *real, const fct_arena *dry)
{
    assert_ok(fct_arena_init(real, dry->peak > 0 ? dry->peak : 1));
    memset(real->base, 0xff, (size_t)real->size);
}

/* Runs an operation dry, then with the scratch that it counted; the two peaks must be the same. */
#define RUN(op, backend, args)                          \
    do {                                                \
        fct_arena dry_ = {0}, real_;                    \
        fct_cx cx_;                                     \
        assert_ok(fct_cx_open(&cx_, (backend), NULL));  \
        cx_.arena = &dry_;                              \
        assert_ok(fct_op_##op(&cx_, (args)));           \
        assert_int_equal(dry_.used, 0);                 \
        arena_from_dry(&real_, &dry_);                  \
        cx_.arena = &real_;                             \
        assert_ok(fct_op_##op(&cx_, (args)));           \
        assert_int_equal(real_.used, 0);                \
        assert_int_equal(real_.peak, dry_.peak);        \
        fct_arena_clear(&real_);                        \
        fct_cx_close(&cx_);                             \
    } while (0)

static inline void pack_one(fct_weight *w, const fct_backend *be, fct_pack_kind kind,
                            fct_dtype dtype, const fct_tensor *t)
{
    fct_weight_part part = {.t = t};
    assert_ok(fct_weight_pack(
        be, w, &(fct_pack_desc){.kind = kind, .dtype = dtype, .part = &part, .n_parts = 1}));
}

#endif

/* test_contexts.c - contexts that share weights: threads at once give the bytes of one thread
   alone, plans outlive no weight, and a context that has met too many shapes forgets the oldest. */
#include <pthread.h>

#include "ops_util.h"

enum { CASES = 5, THREADS = 3, ROUNDS = 4, MANY_SHAPES = 1100 };

/* Products, convolutions, one whose only fast primitive wants another layout than the packed one
   (few odd channels on a small map), and one with Winograd's second form. */
static const struct {
    fct_dtype dtype;
    int64_t in, out, kernel, size;
} kinds[CASES] = {{FCT_F32, 48, 96, 1, 16},
                  {FCT_BF16, 64, 64, 1, 16},
                  {FCT_F32, 24, 24, 3, 16},
                  {FCT_F32, 3, 5, 3, 4},
                  {FCT_F32, 128, 128, 3, 64}};

typedef struct shared_case {
    fct_weight w;
    fct_tensor x; /* [1,size,size,in] */
    float *want;  /* [1,size,size,out]: what one thread alone gives */
    int kind;
} shared_case;

static int64_t count_outputs(int kind)
{
    return kinds[kind].size * kinds[kind].size * kinds[kind].out;
}

static void pack_case(fct_weight *w, const fct_tensor *plain, int kind)
{
    fct_weight_part part = {.t = plain};
    assert_ok(fct_weight_pack(CPU, w,
                              &(fct_pack_desc){.kind = FCT_PACK_CONV,
                                               .dtype = kinds[kind].dtype,
                                               .part = &part,
                                               .n_parts = 1,
                                               .map = kinds[kind].size * kinds[kind].size}));
}

static fct_status run_case(fct_cx *cx, const fct_weight *w, const fct_tensor *x, int kind, float *y)
{
    int64_t size = kinds[kind].size, pad = kinds[kind].kernel / 2;
    fct_arena dry = {0}, arena;
    fct_conv2d_args a = {.x = *x,
                         .y = fct_tensor_of(y, FCT_F32, 4, DIMS(1, size, size, kinds[kind].out)),
                         .w = w,
                         .pad_top = pad,
                         .pad_left = pad,
                         .pad_bottom = pad,
                         .pad_right = pad};
    cx->arena = &dry;
    FCT_TRY(fct_op_conv2d(cx, &a));
    FCT_TRY(fct_arena_init(&arena, dry.peak + 1));
    cx->arena = &arena;
    fct_status st = fct_op_conv2d(cx, &a);
    fct_arena_clear(&arena);
    return st;
}

/* The expected bytes come from another packing of the same numbers: the threads meet weights that
   nobody has used. */
static void make_case(pool *p, shared_case *c, int kind)
{
    int64_t k = kinds[kind].kernel, size = kinds[kind].size;
    fct_tensor plain = pool_random(p, FCT_F32, 4, DIMS(kinds[kind].out, kinds[kind].in, k, k));
    fct_weight alone;
    fct_cx cx;
    *c = (shared_case){.kind = kind};
    c->x = pool_random(p, FCT_F32, 4, DIMS(1, size, size, kinds[kind].in));
    c->want = pool_take(p, count_outputs(kind) * (int64_t)sizeof(float));
    pack_case(&alone, &plain, kind);
    assert_ok(fct_cx_open(&cx, CPU, NULL));
    assert_ok(run_case(&cx, &alone, &c->x, kind, c->want));
    fct_cx_close(&cx);
    fct_weight_clear(&alone);
    pack_case(&c->w, &plain, kind);
}

typedef struct worker {
    pthread_t thread;
    const shared_case *c;
    int first; /* the case that it begins with */
    fct_status st;
    int64_t wrong;
} worker;

/* cmocka's asserts belong to the main thread, so a worker only counts. */
static fct_status work(worker *w, fct_cx *cx, float *y)
{
    for (int i = 0; i < ROUNDS * CASES; i++) {
        const shared_case *c = &w->c[(w->first + i) % CASES];
        FCT_TRY(run_case(cx, &c->w, &c->x, c->kind, y));
        w->wrong += memcmp(y, c->want, (size_t)count_outputs(c->kind) * sizeof *y) != 0;
    }
    return FCT_OK;
}

static void *start(void *user)
{
    worker *w = user;
    fct_cx cx = {0};
    float *y = NULL;
    fct_threads_set(1);
    w->st = fct_new(&y, count_outputs(CASES - 1), sizeof *y);
    if (w->st == FCT_OK) w->st = fct_cx_open(&cx, CPU, NULL);
    if (w->st == FCT_OK) w->st = work(w, &cx, y);
    fct_cx_close(&cx);
    fct_free(y);
    return NULL;
}

static void test_threads_share_weights(void **state)
{
    (void)state;
    pool p;
    shared_case c[CASES];
    worker w[THREADS];
    int threads = fct_threads();
    pool_init(&p, 1);
    fct_threads_set(1);
    for (int i = 0; i < CASES; i++) make_case(&p, &c[i], i);
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.c = c, .first = i / 2}; /* two begin with the same weight */
        assert_int_equal(pthread_create(&w[i].thread, NULL, start, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(w[i].thread, NULL);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(w[i].st, FCT_OK);
        assert_int_equal(w[i].wrong, 0);
    }
    for (int i = 0; i < CASES; i++) fct_weight_clear(&c[i].w);
    fct_threads_set(threads);
    pool_clear(&p);
}

/* One context, weights that come and go: each gives what a context of its own gives it. */
static void test_plans_keep_no_weight(void **state)
{
    (void)state;
    fct_cx kept;
    assert_ok(fct_cx_open(&kept, CPU, NULL));
    for (int round = 0; round < 4; round++)
        for (int kind = 0; kind < CASES; kind++) {
            pool p;
            shared_case c;
            pool_init(&p, (uint64_t)round);
            make_case(&p, &c, kind);
            float *y = pool_take(&p, count_outputs(kind) * (int64_t)sizeof *y);
            assert_ok(run_case(&kept, &c.w, &c.x, kind, y));
            assert_memory_equal(y, c.want, (size_t)count_outputs(kind) * sizeof *y);
            fct_weight_clear(&c.w);
            pool_clear(&p);
        }
    fct_cx_close(&kept);
}

/* More shapes than a context keeps plans for; what was forgotten is made again. */
static void test_many_shapes(void **state)
{
    (void)state;
    pool p;
    fct_cx cx;
    fct_weight w;
    fct_arena arena;
    pool_init(&p, 1);
    fct_tensor plain = pool_random(&p, FCT_F32, 2, DIMS(3, 4)),
               x = pool_random(&p, FCT_F32, 2, DIMS(MANY_SHAPES, 4)),
               want = pool_tensor(&p, FCT_F32, 2, DIMS(MANY_SHAPES, 3)),
               got = pool_tensor(&p, FCT_F32, 2, DIMS(MANY_SHAPES, 3));
    pack_one(&w, CPU, FCT_PACK_LINEAR, FCT_F32, &plain);
    assert_ok(fct_cx_open(&cx, CPU, NULL));
    assert_ok(fct_arena_init(&arena, 1 << 20));
    cx.arena = &arena;
    for (int64_t i = 0; i < 2 * MANY_SHAPES; i++) {
        bool again = i >= MANY_SHAPES;
        fct_linear_args a = {.x = x, .y = again ? got : want, .w = &w};
        a.x.dim[0] = a.y.dim[0] = i % MANY_SHAPES + 1;
        assert_ok(fct_op_linear(&cx, &a));
        fct_tensor expected = fct_tensor_of(want.data, FCT_F32, 2, a.y.dim);
        if (again) want_close("a shape met again", &a.y, &expected, 1e-6);
    }
    fct_arena_clear(&arena);
    fct_cx_close(&cx);
    fct_weight_clear(&w);
    pool_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_share_weights),
        cmocka_unit_test(test_plans_keep_no_weight),
        cmocka_unit_test(test_many_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

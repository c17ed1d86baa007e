/* bench_ops.c - times operations at the shapes of SDXL, of its autoencoder, of the demo model and
   of SAE training.

   Machines are shared and clocks wander, so nothing here is a bare time: each round measures a
   yardstick and then the case, in processor time divided by the threads, which other programs
   disturb least (waiting threads must sleep for that, so the program starts itself again with
   OMP_WAIT_POLICY=passive). What counts is the median of the ratio. The yardstick is a product that
   oneDNN does best, in the case's dtype
   (`of peak` is then a share of what this machine gives at this moment), or a copy for operations
   that only move memory.

   Usage: bench_ops [BACKEND [FILTER [ROUNDS]]]     cpu, all cases whose name contains FILTER, 7
   rounds */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compute/backend.h"
#include "compute/view.h"

typedef enum op_kind {
    CONV,
    LINEAR,
    ATTENTION,
    GROUP_NORM,
    LAYER_NORM,
    GEGLU,
    MATMUL,
    TOPK,
    DECODE,
    OUTER,
    DOT
} op_kind;

typedef struct bench_case {
    const char *name;
    op_kind op;
    fct_dtype dtype;
    int64_t n[5]; /* see run_case: the meaning depends on op */
    int64_t map;  /* conv: what the packer is told of the map's size */
} bench_case;

#define BOTH(name, op, ...)             \
    {name, op, FCT_F32, {__VA_ARGS__}}, \
    {                                   \
        name, op, FCT_BF16,             \
        {                               \
            __VA_ARGS__                 \
        }                               \
    }
static const bench_case cases[] = {
    /* conv: size of the map, inputs, outputs, kernel, batch */
    BOTH("unet conv 320->320 @64", CONV, 64, 320, 320, 3, 1),
    BOTH("unet conv 640->640 @32", CONV, 32, 640, 640, 3, 1),
    BOTH("unet conv 1280->1280 @16", CONV, 16, 1280, 1280, 3, 1),
    BOTH("unet conv 2560->1280 @16", CONV, 16, 2560, 1280, 3, 1),
    BOTH("vae conv 512->512 @128", CONV, 128, 512, 512, 3, 1),
    BOTH("vae conv 256->256 @256", CONV, 256, 256, 256, 3, 1),
    BOTH("vae conv 128->128 @512", CONV, 512, 128, 128, 3, 1),
    {"unet conv 320->320 @64 winograd", CONV, FCT_F32, {64, 320, 320, 3, 1}, 4096},
    {"vae conv 512->512 @64 winograd", CONV, FCT_F32, {64, 512, 512, 3, 1}, 4096},
    {"vae conv 512->512 @128 winograd", CONV, FCT_F32, {128, 512, 512, 3, 1}, 4096},
    {"vae conv 256->256 @256 winograd", CONV, FCT_F32, {256, 256, 256, 3, 1}, 4096},
    {"vae conv 128->128 @512 winograd", CONV, FCT_F32, {512, 128, 128, 3, 1}, 4096},
    BOTH("demo conv 24->24 @32", CONV, 32, 24, 24, 3, 1),
    BOTH("demo conv 48->48 @16", CONV, 16, 48, 48, 3, 1),
    BOTH("demo conv 96->96 @8", CONV, 8, 96, 96, 3, 1),
    BOTH("demo vae conv 16->16 @256", CONV, 256, 16, 16, 3, 1),
    BOTH("demo vae conv 32->32 @128", CONV, 128, 32, 32, 3, 1),
    BOTH("demo vae conv 64->64 @64", CONV, 64, 64, 64, 3, 1),
    /* linear: rows, inputs, outputs */
    BOTH("unet qkv 256x1280->3840", LINEAR, 256, 1280, 3840),
    BOTH("unet ff 256x1280->10240", LINEAR, 256, 1280, 10240),
    BOTH("unet ff 256x5120->1280", LINEAR, 256, 5120, 1280),
    BOTH("unet proj 1024x640->640", LINEAR, 1024, 640, 640),
    BOTH("unet text k 77x2048->1280", LINEAR, 77, 2048, 1280),
    BOTH("demo qkv 64x96->288", LINEAR, 64, 96, 288),
    BOTH("demo ff 64x96->768", LINEAR, 64, 96, 768),
    /* attention: queries, keys, heads, channels of a head */
    BOTH("unet self 4096 10x64", ATTENTION, 4096, 4096, 10, 64),
    BOTH("unet self 1024 20x64", ATTENTION, 1024, 1024, 20, 64),
    BOTH("unet self 256 20x64", ATTENTION, 256, 256, 20, 64),
    BOTH("unet cross 1024x77 10x64", ATTENTION, 1024, 77, 10, 64),
    BOTH("vae self 4096 1x512", ATTENTION, 4096, 4096, 1, 512),
    BOTH("demo self 64 2x48", ATTENTION, 64, 64, 2, 48),
    /* norms: rows, channels; geglu: rows, outputs */
    BOTH("unet group norm silu 4096x320", GROUP_NORM, 4096, 320),
    BOTH("vae group norm silu 262144x128", GROUP_NORM, 262144, 128),
    BOTH("demo group norm silu 64x96", GROUP_NORM, 64, 96),
    BOTH("unet layer norm 1024x640", LAYER_NORM, 1024, 640),
    BOTH("unet geglu 1024x2560", GEGLU, 1024, 2560),
    /* SAE: rows, k, features, width */
    {"sae encode", MATMUL, FCT_F32, {4096, 0, 5120, 1280}},
    {"sae topk 10", TOPK, FCT_F32, {4096, 10, 5120}},
    {"sae topk 160", TOPK, FCT_F32, {4096, 160, 5120}},
    {"sae decode 10", DECODE, FCT_F32, {4096, 10, 5120, 1280}},
    {"sae decode 160", DECODE, FCT_F32, {4096, 160, 5120, 1280}},
    {"sae dot 10", DOT, FCT_F32, {4096, 10, 5120, 1280}},
    {"sae dot 160", DOT, FCT_F32, {4096, 160, 5120, 1280}},
    {"sae outer 10", OUTER, FCT_F32, {4096, 10, 5120, 1280}},
    {"sae outer 160", OUTER, FCT_F32, {4096, 160, 5120, 1280}},
};

/* Everything one case needs; all memory is plain allocations of this program. */
typedef struct work {
    const bench_case *c;
    fct_cx cx;
    fct_arena dry, arena;
    fct_tensor x, y, k, v, t;
    fct_weight w;
    float *gamma;
    int32_t *index;
    double flop, bytes; /* of one run */
    void *memory[12];
    int n_memory;
} work;

static void die(fct_status st)
{
    if (st == FCT_OK) return;
    fprintf(stderr, "bench_ops: %s\n", fct_error_text());
    exit(1);
}

static void *take(work *w, int64_t bytes)
{
    void *p;
    die(fct_new(&p, bytes, 1));
    w->memory[w->n_memory++] = p;
    return p;
}

static fct_tensor tensor(work *w, fct_rng *r, fct_dtype t, int nd, const int64_t *dim)
{
    fct_tensor x = fct_tensor_of(NULL, t, nd, dim);
    int64_t n = fct_tensor_count(&x);
    x.data = take(w, fct_tensor_bytes(&x));
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(fct_rng_unit(r) * 2 - 1);
        if (t == FCT_BF16)
            ((uint16_t *)x.data)[i] = fct_f32_to_bf16(v);
        else
            ((float *)x.data)[i] = v;
    }
    return x;
}

static void pack(work *w, fct_pack_kind kind)
{
    const fct_weight_part part = {.t = &w->t};
    die(fct_weight_pack(
        w->cx.be, &w->w,
        &(fct_pack_desc){
            .kind = kind, .dtype = w->c->dtype, .part = &part, .n_parts = 1, .map = w->c->map}));
}

static void set_up(work *w, const fct_backend *be, const bench_case *c)
{
    const int64_t *n = c->n;
    fct_dtype t = c->dtype;
    fct_rng r;
    fct_rng_init(&r, 1);
    *w = (work){.c = c};
    die(fct_cx_open(&w->cx, be, NULL));
    double m = (double)n[0];
    switch (c->op) {
    case CONV:
        w->x = tensor(w, &r, t, 4, (int64_t[]){n[4], n[0], n[0], n[1]});
        w->y = tensor(w, &r, t, 4, (int64_t[]){n[4], n[0], n[0], n[2]});
        w->t = tensor(w, &r, FCT_F32, 4, (int64_t[]){n[2], n[1], n[3], n[3]});
        w->gamma = take(w, n[2] * 4);
        w->flop = 2 * m * m * (double)(n[1] * n[2] * n[3] * n[3] * n[4]);
        pack(w, FCT_PACK_CONV);
        break;
    case LINEAR:
        w->x = tensor(w, &r, t, 2, (int64_t[]){n[0], n[1]});
        w->y = tensor(w, &r, t, 2, (int64_t[]){n[0], n[2]});
        w->t = tensor(w, &r, FCT_F32, 2, (int64_t[]){n[2], n[1]});
        w->gamma = take(w, n[2] * 4);
        w->flop = 2 * m * (double)(n[1] * n[2]);
        pack(w, FCT_PACK_LINEAR);
        break;
    case ATTENTION:
        w->x = tensor(w, &r, t, 3, (int64_t[]){1, n[0], n[2] * n[3]});
        w->y = tensor(w, &r, t, 3, (int64_t[]){1, n[0], n[2] * n[3]});
        w->k = tensor(w, &r, t, 3, (int64_t[]){1, n[1], n[2] * n[3]});
        w->v = tensor(w, &r, t, 3, (int64_t[]){1, n[1], n[2] * n[3]});
        w->flop = 4 * m * (double)(n[1] * n[2] * n[3]);
        break;
    case GROUP_NORM:
    case LAYER_NORM:
        w->x = tensor(w, &r, t, 3, (int64_t[]){1, n[0], n[1]});
        w->y = tensor(w, &r, t, 3, (int64_t[]){1, n[0], n[1]});
        w->gamma = take(w, n[1] * 4);
        w->bytes = 2 * m * (double)(n[1] * fct_dtype_bytes(t));
        break;
    case GEGLU:
        w->x = tensor(w, &r, t, 2, (int64_t[]){n[0], 2 * n[1]});
        w->y = tensor(w, &r, t, 2, (int64_t[]){n[0], n[1]});
        w->bytes = 3 * m * (double)(n[1] * fct_dtype_bytes(t));
        break;
    case MATMUL:
        w->x = tensor(w, &r, t, 2, (int64_t[]){n[0], n[3]});
        w->t = tensor(w, &r, t, 2, (int64_t[]){n[2], n[3]});
        w->y = tensor(w, &r, t, 2, (int64_t[]){n[0], n[2]});
        w->flop = 2 * m * (double)(n[2] * n[3]);
        break;
    case TOPK:
        w->x = tensor(w, &r, t, 2, (int64_t[]){n[0], n[2]});
        w->index = take(w, n[0] * n[1] * 4);
        w->gamma = take(w, n[0] * n[1] * 4);
        w->bytes = 4 * m * (double)n[2];
        break;
    case DECODE:
    case OUTER:
    case DOT:
        w->x = tensor(w, &r, t, 2, (int64_t[]){n[0], n[3]});
        w->y = tensor(w, &r, t, 2, (int64_t[]){n[0], n[1]}); /* values or coefficients */
        w->t = tensor(w, &r, t, 2, (int64_t[]){n[2], n[3]});
        w->index = take(w, n[0] * n[1] * 4);
        for (int64_t i = 0; i < n[0] * n[1]; i++) w->index[i] = (int32_t)fct_rng_below(&r, n[2]);
        w->flop = 2 * m * (double)(n[1] * n[3]);
        break;
    }
}

static fct_status run_case(work *w)
{
    const int64_t *n = w->c->n;
    switch (w->c->op) {
    case CONV: {
        int64_t pad = n[3] / 2;
        return fct_op_conv2d(&w->cx, &(fct_conv2d_args){.x = w->x,
                                                        .y = w->y,
                                                        .w = &w->w,
                                                        .bias = w->gamma,
                                                        .pad_top = pad,
                                                        .pad_left = pad,
                                                        .pad_bottom = pad,
                                                        .pad_right = pad});
    }
    case LINEAR:
        return fct_op_linear(
            &w->cx, &(fct_linear_args){.x = w->x, .y = w->y, .w = &w->w, .bias = w->gamma});
    case ATTENTION:
        return fct_op_attention(
            &w->cx,
            &(fct_attention_args){.q = w->x, .k = w->k, .v = w->v, .y = w->y, .heads = n[2]});
    case GROUP_NORM:
        return fct_op_group_norm(&w->cx, &(fct_group_norm_args){.x = w->x,
                                                                .y = w->y,
                                                                .gamma = w->gamma,
                                                                .beta = w->gamma,
                                                                .groups = n[1] % 32 ? 8 : 32,
                                                                .eps = 1e-5f,
                                                                .act = FCT_ACT_SILU});
    case LAYER_NORM:
        return fct_op_layer_norm(
            &w->cx, &(fct_layer_norm_args){
                        .x = w->x, .y = w->y, .gamma = w->gamma, .beta = w->gamma, .eps = 1e-5f});
    case GEGLU: return fct_op_geglu(&w->cx, &(fct_geglu_args){.x = w->x, .y = w->y});
    case MATMUL:
        return fct_op_matmul(&w->cx, &(fct_matmul_args){.a = w->x.data,
                                                        .b = w->t.data,
                                                        .c = w->y.data,
                                                        .m = n[0],
                                                        .n = n[2],
                                                        .k = n[3],
                                                        .trans_b = true,
                                                        .alpha = 1});
    case TOPK:
        return fct_op_topk(&w->cx, &(fct_topk_args){.x = w->x.data,
                                                    .rows = n[0],
                                                    .n = n[2],
                                                    .k = n[1],
                                                    .index = w->index,
                                                    .value = w->gamma});
    case DECODE:
        return fct_op_sparse_decode(&w->cx, &(fct_sparse_decode_args){.index = w->index,
                                                                      .value = w->y.data,
                                                                      .rows = n[0],
                                                                      .k = n[1],
                                                                      .d = n[3],
                                                                      .table = w->t.data,
                                                                      .n = n[2],
                                                                      .y = w->x.data});
    case OUTER:
        return fct_op_sparse_outer(&w->cx, &(fct_sparse_outer_args){.index = w->index,
                                                                    .coef = w->y.data,
                                                                    .rows = n[0],
                                                                    .k = n[1],
                                                                    .n = n[2],
                                                                    .d = n[3],
                                                                    .x = w->x.data,
                                                                    .grad = w->t.data});
    case DOT:
        return fct_op_sparse_dot(&w->cx, &(fct_sparse_dot_args){.index = w->index,
                                                                .rows = n[0],
                                                                .k = n[1],
                                                                .d = n[3],
                                                                .x = w->x.data,
                                                                .table = w->t.data,
                                                                .n = n[2],
                                                                .coef = w->y.data});
    }
    return FCT_OK;
}

static void clear(work *w)
{
    fct_weight_clear(&w->w);
    fct_cx_close(&w->cx);
    fct_arena_clear(&w->arena);
    for (int i = 0; i < w->n_memory; i++) fct_free(w->memory[i]);
}

/* Scratch as the dry run counts it, and a first run that makes the plans. */
static void warm_up(work *w)
{
    w->cx.arena = &w->dry;
    die(run_case(w));
    die(fct_arena_init(&w->arena, w->dry.peak > 0 ? w->dry.peak : 64));
    w->cx.arena = &w->arena;
    die(run_case(w));
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec + (double)t.tv_nsec * 1e-9) / fct_threads();
}

/* Seconds of one run: repeated until a few milliseconds have passed, the fastest of three such
 * groups. */
static double seconds(work *w)
{
    double start = processor_seconds();
    die(run_case(w));
    double once = processor_seconds() - start;
    int repeat = once > 5e-3 ? 1 : (int)(5e-3 / (once + 1e-9)) + 1;
    double best = repeat == 1 ? once : 1e9;
    for (int g = 0; g < 3 && repeat > 1; g++) {
        start = processor_seconds();
        for (int i = 0; i < repeat; i++) die(run_case(w));
        double t = (processor_seconds() - start) / repeat;
        best = t < best ? t : best;
    }
    return best;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

enum { MAX_ROUNDS = 101 };

static void measure(const fct_backend *be, const bench_case *c, int rounds)
{
    static const bench_case yard_f32 = {"", LINEAR, FCT_F32, {1024, 1280, 1280}},
                            yard_bf16 = {"", LINEAR, FCT_BF16, {1024, 1280, 1280}};
    static const bench_case copy_f32 = {
        "", GEGLU, FCT_F32, {1024, 2560}}; /* only its memory is used */
    double rate[MAX_ROUNDS], ratio[MAX_ROUNDS], time[MAX_ROUNDS];
    work w, y;
    set_up(&w, be, c);
    warm_up(&w);
    bool moves = w.flop == 0;
    set_up(&y, be, moves ? &copy_f32 : c->dtype == FCT_BF16 ? &yard_bf16 : &yard_f32);
    warm_up(&y);
    for (int i = 0; i < rounds; i++) {
        double yard;
        if (moves) { /* a copy of 20 MB: read and write */
            double start = processor_seconds();
            memcpy(y.x.data, (uint8_t *)y.x.data + fct_tensor_bytes(&y.x) / 2,
                   (size_t)fct_tensor_bytes(&y.x) / 2);
            yard = (double)fct_tensor_bytes(&y.x) / (processor_seconds() - start);
        } else {
            yard = y.flop / seconds(&y);
        }
        time[i] = seconds(&w);
        rate[i] = (moves ? w.bytes : w.flop) / time[i];
        ratio[i] = rate[i] / yard;
    }
    printf("%-32s %-4s %10.3f ms %9.1f %-7s %6.2f of %s\n", c->name, fct_dtype_name(c->dtype),
           median(time, rounds) * 1e3, median(rate, rounds) / 1e9, moves ? "GB/s" : "GFLOP/s",
           median(ratio, rounds), moves ? "one thread's copy" : "peak");
    fflush(stdout);
    clear(&w);
    clear(&y);
}

int main(int argc, char **argv)
{
    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv); /* the runtime reads it before main */
    }
    const fct_backend *be;
    die(fct_backend_find(&be, argc > 1 ? argv[1] : NULL));
    const char *filter = argc > 2 ? argv[2] : "";
    int64_t rounds = 7;
    if (argc > 3) die(fct_parse_i64(&rounds, argv[3], 1, MAX_ROUNDS));
    fct_str s = {0};
    die(be->describe(&s));
    printf("%s: %s\n", be->name, s.p);
    fct_str_clear(&s);
    for (size_t i = 0; i < FCT_COUNT(cases); i++) {
        bool wanted =
            strstr(cases[i].name, filter) || strcmp(fct_dtype_name(cases[i].dtype), filter) == 0;
        if (wanted) measure(be, &cases[i], (int)rounds);
    }
    return 0;
}

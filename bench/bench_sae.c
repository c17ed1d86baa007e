/* bench_sae.c - one training step of a TopK autoencoder, and its encoder product alone, timed on
   request: the facet side of compare_sae.py, which asks for a step here and a step of PyTorch in
   turn, so that a machine that slows down slows down all of them.

   Usage: bench_sae K FEATURES WIDTH BATCH DEAD_SHARE plain|fast|int8|bf16|f32, where the last three
   are the fast step with this product instead of the one it would choose.
   Then a word a line on the standard input, an answer a line on the standard output, in seconds:
     step      one step (losses, gradients, update): whole, backward, update
     parts     after a step of the fast engine: selection, decoding with its error, Adam; and how
               many rows the selection computed in f32
     product   the encoder product [BATCH,WIDTH] x [FEATURES,WIDTH] in bf16 by oneDNN, weights
             packed before
     memory    bytes at most resident so far
   Rows are normal numbers through a random matrix, as PyTorch's side has them. A share of the
   features is kept dead: counted as silent for long before each step, their encoder a hundredth of
   the others'. The learning rate is next to nothing, so that they stay so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "train/fast.h"

typedef struct bench {
    fct_trainee t;
    int64_t d, batch, dead;
    float *rows;
    fct_weight w; /* for the product alone */
    fct_cx cx;
    fct_arena arena;
    fct_tensor x, y;
} bench;

static void die(fct_status st)
{
    if (st == FCT_OK) return;
    fprintf(stderr, "bench_sae: %s\n", fct_error_text());
    exit(1);
}

static int64_t count(const char *text)
{
    int64_t n;
    die(fct_parse_i64(&n, text, 1, 1 << 24));
    return n;
}

static void make_rows(bench *b)
{
    fct_rng rng;
    float *seed, *mix;
    int64_t rank = 64; /* rows of low rank and some noise, as activations are */
    fct_rng_init(&rng, 0);
    die(fct_new(&b->rows, b->batch * b->d, sizeof *b->rows));
    die(fct_new(&seed, b->batch * rank, sizeof *seed));
    die(fct_new(&mix, rank * b->d, sizeof *mix));
    fct_rng_normal(&rng, b->rows, b->batch * b->d);
    fct_rng_normal(&rng, seed, b->batch * rank);
    fct_rng_normal(&rng, mix, rank * b->d);
    die(fct_op_matmul(&b->t.engine.cx, &(fct_matmul_args){.a = seed,
                                                          .b = mix,
                                                          .c = b->rows,
                                                          .m = b->batch,
                                                          .n = b->d,
                                                          .k = rank,
                                                          .alpha = 0.125f,
                                                          .beta = 1}));
    fct_free(seed);
    fct_free(mix);
}

static void start(bench *b, char **argv)
{
    bool fast = strcmp(argv[6], "plain") != 0;
    b->d = count(argv[3]);
    b->batch = count(argv[4]);
    fct_train_desc desc = {.k = count(argv[1]),
                           .n_features = count(argv[2]),
                           .batch_size = b->batch,
                           .steps = 1000000,
                           .lr = 1e-9,
                           .loss_scale = 1,
                           .engine = fast ? FCT_ENGINE_FAST : FCT_ENGINE_PLAIN};
    fct_train_plan plan;
    die(fct_train_plan_init(&plan, &desc, b->d, 1 << 30, NULL));
    for (fct_product p = FCT_PRODUCT_F32; p <= FCT_PRODUCT_INT8; p++)
        if (strcmp(argv[6], fct_product_name(p)) == 0) plan.product = p;
    die(fct_trainee_init(&b->t, &plan, b->d, NULL));
    double share;
    die(fct_parse_f64(&share, argv[5], 0, 1));
    b->dead = (int64_t)(share * (double)plan.f);
    for (int64_t i = 0; i < b->dead * b->d; i++) b->t.sae->w_enc[i] *= 0.01f;
    make_rows(b);
}

static void step(bench *b)
{
    for (int64_t f = 0; f < b->t.plan.f; f++) b->t.not_fired[f] = f < b->dead ? 1 << 30 : 0;
    double t0 = fct_seconds();
    die(fct_trainee_backward(&b->t, b->rows, false));
    double t1 = fct_seconds();
    die(fct_trainee_update(&b->t));
    double t2 = fct_seconds();
    if (b->t.now.n_dead != b->dead) {
        fprintf(stderr, "bench_sae: %lld features are dead, not %lld\n", (long long)b->t.now.n_dead,
                (long long)b->dead);
        exit(1);
    }
    printf("%.6f %.6f %.6f\n", t2 - t0, t1 - t0, t2 - t1);
}

static void parts(bench *b)
{
    fct_trainee *t = &b->t;
    fct_cx *cx = &t->engine.cx;
    double sum, time[3];
    double *sums;
    int64_t again = 0;
    if (!t->fast) return;
    die(fct_new(&sums, b->d, sizeof *sums));
    time[0] = fct_seconds();
    die(fct_op_select(cx, &(fct_select_args){.enc = &t->fast->enc,
                                             .x = b->rows,
                                             .shift = t->sae->b_dec,
                                             .w = t->sae->w_enc,
                                             .bias = t->sae->b_enc,
                                             .rows = b->batch,
                                             .k = t->k,
                                             .any_order = true,
                                             .centred = t->centred,
                                             .index = t->index,
                                             .value = t->value,
                                             .recomputed = &again}));
    time[1] = fct_seconds();
    die(fct_op_sparse_error(cx, &(fct_sparse_error_args){.index = t->index,
                                                         .value = t->value,
                                                         .rows = b->batch,
                                                         .k = t->k,
                                                         .n = t->plan.f,
                                                         .d = b->d,
                                                         .table = t->sae->w_dec,
                                                         .bias = t->sae->b_dec,
                                                         .target = b->rows,
                                                         .scale = 1,
                                                         .error = t->error,
                                                         .coef = t->coef,
                                                         .sum = sums,
                                                         .squares = &sum}));
    time[2] = fct_seconds();
    die(fct_trainee_update(t));
    printf("%.6f %.6f %.6f %lld\n", time[1] - time[0], time[2] - time[1], fct_seconds() - time[2],
           (long long)again);
    fct_free(sums);
}

static void start_product(bench *b)
{
    const fct_sae *s = b->t.sae;
    fct_tensor w = fct_tensor_of(s->w_enc, FCT_F32, 2, (int64_t[]){s->f, s->d});
    fct_weight_part part = {.t = &w};
    fct_arena dry;
    b->x = fct_tensor_of(NULL, FCT_BF16, 2, (int64_t[]){b->batch, s->d});
    b->y = fct_tensor_of(NULL, FCT_BF16, 2, (int64_t[]){b->batch, s->f});
    die(fct_cx_open(&b->cx, b->t.engine.cx.be, NULL));
    die(fct_weight_pack(
        b->cx.be, &b->w,
        &(fct_pack_desc){.kind = FCT_PACK_LINEAR, .dtype = FCT_BF16, .part = &part, .n_parts = 1}));
    die(fct_arena_init(&dry, 0));
    b->cx.arena = &dry;
    die(fct_op_linear(&b->cx, &(fct_linear_args){.x = b->x, .y = b->y, .w = &b->w}));
    die(fct_arena_init(&b->arena, dry.peak > 0 ? dry.peak : 64));
    b->cx.arena = &b->arena;
    die(fct_new(&b->x.data, b->batch * s->d, 2));
    die(fct_new(&b->y.data, b->batch * s->f, 2));
    for (int64_t i = 0; i < b->batch * s->d; i++)
        ((uint16_t *)b->x.data)[i] = fct_f32_to_bf16(b->rows[i]);
}

static void product(bench *b)
{
    if (!b->w.be) start_product(b);
    double t0 = fct_seconds();
    die(fct_op_linear(&b->cx, &(fct_linear_args){.x = b->x, .y = b->y, .w = &b->w}));
    printf("%.6f\n", fct_seconds() - t0);
}

int main(int argc, char **argv)
{
    static bench b;
    char word[32];
    if (argc != 7) {
        fprintf(stderr, "usage: bench_sae K FEATURES WIDTH BATCH DEAD_SHARE "
                        "plain|fast|int8|bf16|f32\n");
        return 2;
    }
    start(&b, argv);
    while (scanf("%31s", word) == 1) {
        struct rusage use;
        if (strcmp(word, "step") == 0)
            step(&b);
        else if (strcmp(word, "parts") == 0)
            parts(&b);
        else if (strcmp(word, "product") == 0)
            product(&b);
        else if (strcmp(word, "memory") == 0 && getrusage(RUSAGE_SELF, &use) == 0)
            printf("%ld\n", use.ru_maxrss * 1024);
        else
            break;
        fflush(stdout);
    }
    fct_trainee_clear(&b.t);
    fct_weight_clear(&b.w);
    fct_arena_clear(&b.arena);
    fct_free(b.rows);
    fct_free(b.x.data);
    fct_free(b.y.data);
    return 0;
}

/* bench_many.c - several autoencoders on one stream of rows against one alone: time a step. Each
   takes the first STEPS batches of the same shuffled rows in memory; one and several in turn, so
   that a machine that slows down slows down both.

   bench/bench_many [SAES [STEPS]]: 10 and 8 */
#include <stdio.h>

#include "base/base.h"
#include "facet/store.h"
#include "facet/train.h"

enum { D = 1280, N = 20480, F = 5120, BATCH = 4096, ROUNDS = 3, MOST = 64 };

static fct_status train(const float *x, int64_t saes, int64_t steps, double *seconds)
{
    static char name[MOST][8];
    fct_train_member member[MOST] = {0};
    fct_row_source stream;
    FCT_TRY(fct_rows_of_memory(&stream, x, N, D,
                               &(fct_rows_desc){.order = FCT_ORDER_SHUFFLED, .seed = 1}));
    for (int64_t i = 0; i < saes; i++) {
        snprintf(name[i], sizeof name[i], "%d", (int)i);
        member[i] = (fct_train_member){.name = name[i],
                                       .desc = {.preset = "demo",
                                                .k = 10,
                                                .auxk = 256,
                                                .n_features = F,
                                                .batch_size = BATCH,
                                                .steps = steps,
                                                .calibration_rows = BATCH,
                                                .seed = (uint64_t)i}};
    }
    fct_train_run run = {.stream = &stream, .n_streams = 1, .member = member, .n_members = saes};
    fct_status st = fct_sae_train_many(&run);
    *seconds = member[0].report.seconds;
    fct_train_run_clear(&run);
    stream.close(stream.self);
    return st;
}

static fct_status compare(const float *x, int64_t saes, int64_t steps)
{
    const int64_t several[2] = {1, saes};
    for (int round = 0; round < ROUNDS; round++) {
        double seconds[2];
        for (int i = 0; i < 2; i++) {
            FCT_TRY(train(x, several[i], steps, &seconds[i]));
            printf("%2d: %7.1f ms a step\n", (int)several[i], 1e3 * seconds[i] / (double)steps);
        }
        printf("    %.2f times as long\n", seconds[1] / seconds[0]);
    }
    return FCT_OK;
}

int main(int argc, char **argv)
{
    int64_t saes = 10, steps = 8;
    if ((argc > 1 && fct_parse_i64(&saes, argv[1], 1, MOST) != FCT_OK) ||
        (argc > 2 && fct_parse_i64(&steps, argv[2], 1, 1000) != FCT_OK)) {
        fprintf(stderr, "usage: bench_many [SAES [STEPS]]\n");
        return 2;
    }
    fct_rng rng;
    float *x;
    fct_rng_init(&rng, 1);
    fct_status st = fct_new_raw(&x, (int64_t)N * D, sizeof *x);
    if (st == FCT_OK) {
        fct_rng_normal(&rng, x, (int64_t)N * D);
        st = compare(x, saes, steps);
        fct_free(x);
    }
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    return st != FCT_OK;
}

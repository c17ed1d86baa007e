/* bench_rows.c - what it costs that training rows come from a file: the same shuffled rows from a
   mapped file (f16) and from memory (f32), read alone and trained on.

   bench/bench_rows FILE [STEPS]: FILE is written (154 MB) and removed. */
#include <stdio.h>
#include <unistd.h>

#include "base/base.h"
#include "facet/store.h"
#include "tensor/tensor.h"

enum { D = 1280, N = 60000, F = 5120, BATCH = 4096, ROUNDS = 3 };

static fct_status write_rows(const char *path, float *x)
{
    fct_rng rng;
    uint16_t *half;
    fct_rng_init(&rng, 1);
    fct_rng_normal(&rng, x, (int64_t)N * D);
    FCT_TRY(fct_new_raw(&half, (int64_t)N * D, sizeof *half));
    FCT_TRY(fct_convert(half, FCT_F16, x, FCT_F32, (int64_t)N * D));
    FCT_TRY(fct_convert(x, FCT_F32, half, FCT_F16, (int64_t)N * D));
    fct_tensor_entry e = {(char[]){"rows"}, fct_tensor_of(half, FCT_F16, 2, (int64_t[]){N, D})};
    fct_status st = fct_safetensors_write(path, &e, 1, NULL);
    fct_free(half);
    return st;
}

/* Seconds for a whole pass in batches. */
static fct_status read_pass(double *out, fct_row_source *r, int64_t pass)
{
    const float *x;
    int64_t n = 1;
    FCT_TRY(r->rewind(r->self, pass));
    double start = fct_seconds();
    while (n > 0) FCT_TRY(r->next(r->self, BATCH, &x, &n));
    *out = fct_seconds() - start;
    return FCT_OK;
}

static fct_status train(double *out, fct_row_source *r, int64_t steps)
{
    fct_sae *sae = NULL;
    fct_train_report report;
    FCT_TRY(fct_sae_train(&sae, r,
                          &(fct_train_desc){.preset = "demo",
                                            .k = 10,
                                            .n_features = F,
                                            .batch_size = BATCH,
                                            .steps = steps,
                                            .calibration_rows = BATCH},
                          &report));
    fct_sae_free(sae);
    *out = report.seconds;
    return FCT_OK;
}

static fct_status run(const char *path, int64_t steps)
{
    static const char *const name[2] = {"mapped f16", "memory f32"};
    float *x;
    fct_store *s;
    fct_row_source r[2];
    const fct_rows_desc desc = {.order = FCT_ORDER_SHUFFLED, .seed = 1};
    FCT_TRY(fct_new_raw(&x, (int64_t)N * D, sizeof *x));
    FCT_TRY(write_rows(path, x));
    FCT_TRY(fct_store_open(&s, path));
    FCT_TRY(fct_store_rows(&r[0], s, &desc));
    FCT_TRY(fct_rows_of_memory(&r[1], x, N, D, &desc));
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < 2; i++) {
            double reading, training;
            FCT_TRY(read_pass(&reading, &r[i], round));
            FCT_TRY(train(&training, &r[i], steps));
            printf("%s: read alone %7.0f rows/s, trained on %7.0f rows/s\n", name[i], N / reading,
                   (double)(steps * BATCH) / training);
        }
    for (int i = 0; i < 2; i++) r[i].close(r[i].self);
    fct_store_close(s);
    fct_free(x);
    return FCT_OK;
}

int main(int argc, char **argv)
{
    int64_t steps = 14;
    if (argc < 2 || (argc > 2 && fct_parse_i64(&steps, argv[2], 1, 1000000) != FCT_OK)) return 2;
    fct_status st = run(argv[1], steps);
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    unlink(argv[1]);
    return st != FCT_OK;
}

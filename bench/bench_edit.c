/* bench_edit.c - what redoing an edit costs: one evaluation of the U-Net with nothing kept, against
   the same run with another strength of an edit of one block, which the session resumes behind the
   block. Both without the decoder and with the texts encoded; in turn, so that a machine that slows
   down slows down both.

   bench/bench_edit MODEL [BLOCK [f32|bf16 [FEATURES [ROUNDS]]]]: up.0.1, f32, 5120 and 7. The SAE
   is random: its products cost what a trained one's do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "facet/edit.h"
#include "sae/sae.h"

enum { K = 10, MAX_ROUNDS = 99 };

typedef struct bench {
    fct_model *model;
    fct_session *session;
    fct_sae_set saes;
    const char *block;
    bool bf16;
    int64_t features, rounds;
    double whole[MAX_ROUNDS], redone[MAX_ROUNDS];
} bench;

static fct_status add_sae(bench *b, const fct_block_info *block)
{
    fct_sae *s = NULL;
    fct_rng rng;
    FCT_TRY(fct_sae_new(&s, FCT_SAE_TOPK, block->channels, b->features, K));
    fct_rng_init(&rng, 1);
    fct_rng_normal(&rng, s->w_enc, s->f * s->d);
    fct_rng_normal(&rng, s->w_dec, s->f * s->d);
    s->apply_b_dec_to_input = true;
    return fct_sae_set_bind(&b->saes, fct_model_get_info(b->model), b->block, s, true);
}

static fct_status run(bench *b, uint64_t seed, double strength, double *seconds)
{
    const fct_run_item item = {.prompt = "a red circle over a lake", .seed = seed};
    const fct_settings one = {.steps = 1, .guidance = FCT_NONE};
    const fct_run_desc d = {.items = &item, .n_items = 1, .settings = &one, .no_decode = true};
    fct_run_result r = {0};
    fct_edit e = {0};
    char text[128];
    snprintf(text, sizeof text, "%s:1 x%g", b->block, strength);
    FCT_TRY(fct_edit_parse(&e, text));
    double start = fct_seconds();
    fct_status st = fct_edit_run(b->session, &d, &e, strength != 0, &b->saes, &r);
    *seconds = fct_seconds() - start;
    fct_run_result_clear(&r);
    fct_edit_clear(&e);
    return st;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, by_size);
    return v[n / 2];
}

static fct_status measure(bench *b)
{
    double other;
    fct_session_counts before, after;
    FCT_TRY(run(b, 0, 0, &other)); /* packs what is packed at first use, encodes the text */
    FCT_TRY(run(b, 0, 2, &other)); /* keeps the moment */
    FCT_TRY(run(b, 0, 3, &other));
    fct_session_count(b->session, &before);
    for (int64_t i = 0; i < b->rounds; i++) {
        FCT_TRY(run(b, 1 + (uint64_t)i, 0, &b->whole[i]));
        FCT_TRY(run(b, 0, 4 + (double)i, &b->redone[i]));
    }
    fct_session_count(b->session, &after);
    int64_t stages = fct_model_get_info(b->model)->n_stages * b->rounds;
    double share = (double)(after.stages - before.stages - stages) / (double)stages;
    double whole = median(b->whole, b->rounds), redone = median(b->redone, b->rounds);
    printf("%s %s: one evaluation %.1f ms, an edit redone %.1f ms: %.3f of it "
           "(%.2f of the stages; texts encoded meanwhile: %lld)\n",
           b->block, fct_model_get_info(b->model)->precision, 1e3 * whole, 1e3 * redone,
           redone / whole, share, (long long)(after.texts - before.texts));
    return FCT_OK;
}

static fct_status bench_all(bench *b, const char *path)
{
    const fct_block_info *block;
    fct_model_desc desc = {.path = path,
                           .no_vae = true,
                           .precision = b->bf16 ? FCT_PRECISION_BF16 : FCT_PRECISION_F32};
    FCT_TRY(fct_model_open(&b->model, &desc));
    FCT_TRY(fct_block_find(&block, fct_model_get_info(b->model), b->block));
    FCT_TRY(add_sae(b, block));
    FCT_TRY(fct_session_open(&b->session, b->model, NULL));
    return measure(b);
}

int main(int argc, char **argv)
{
    bench b = {.block = argc > 2 ? argv[2] : "up.0.1", .features = 5120, .rounds = 7};
    if (argc < 2 || (argc > 4 && fct_parse_i64(&b.features, argv[4], K, 1 << 20) != FCT_OK) ||
        (argc > 5 && fct_parse_i64(&b.rounds, argv[5], 1, MAX_ROUNDS) != FCT_OK)) {
        fprintf(stderr, "usage: bench_edit MODEL [BLOCK [f32|bf16 [FEATURES [ROUNDS]]]]\n");
        return 2;
    }
    b.bf16 = argc > 3 && strcmp(argv[3], "bf16") == 0;
    fct_status st = bench_all(&b, argv[1]);
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_session_close(b.session);
    fct_sae_set_clear(&b.saes);
    fct_model_close(b.model);
    return st != FCT_OK;
}

/* test_sae_planted.c - what autoencoders are for: rows are made of 4 of 512 known directions in 64
 * dimensions, and every variant must find the directions again. */
#include "facet/store.h"
#include "fct_test.h"
#include "train/train.h"

enum { D = 64, TRUE_F = 512, ACTIVE = 4, N = 40960, F = 768, STEPS = 1600, BATCH = 256 };

static float *make_rows(float *dict)
{
    fct_rng rng;
    float *rows;
    fct_rng_init(&rng, 23);
    fct_rng_normal(&rng, dict, (int64_t)TRUE_F * D);
    for (int f = 0; f < TRUE_F; f++) {
        double sum = 0;
        for (int i = 0; i < D; i++) sum += (double)dict[f * D + i] * dict[f * D + i];
        for (int i = 0; i < D; i++) dict[f * D + i] /= (float)sqrt(sum);
    }
    assert_ok(fct_new(&rows, (int64_t)N * D, sizeof *rows));
    for (int r = 0; r < N; r++) {
        for (int i = 0; i < D; i++) rows[r * D + i] = 0.3f * (float)(i % 3);
        for (int j = 0; j < ACTIVE; j++) {
            const float *d = dict + fct_rng_below(&rng, TRUE_F) * D;
            float z = (float)(1 + fct_rng_unit(&rng));
            for (int i = 0; i < D; i++) rows[r * D + i] += z * d[i];
        }
    }
    return rows;
}

/* Mean over the true directions of the greatest cosine to any learned one. */
static double mean_max_cosine(const float *dict, const fct_sae *s)
{
    static float unit[F * D];
    double mean = 0;
    for (int g = 0; g < F; g++) {
        double sum = 0;
        for (int i = 0; i < D; i++) sum += (double)s->w_dec[g * D + i] * s->w_dec[g * D + i];
        for (int i = 0; i < D; i++)
            unit[g * D + i] = sum > 0 ? s->w_dec[g * D + i] / (float)sqrt(sum) : 0;
    }
    for (int f = 0; f < TRUE_F; f++) {
        float best = 0;
        for (int g = 0; g < F; g++) {
            float dot = 0;
            for (int i = 0; i < D; i++) dot += dict[f * D + i] * unit[g * D + i];
            if (dot > best) best = dot;
        }
        mean += best / TRUE_F;
    }
    return mean;
}

static void test_planted(void **state)
{
    (void)state;
    static const struct {
        fct_train_desc desc;
        double floor, seen; /* of the mean greatest cosine */
    } row[] = {
        {{.arch = "topk", .k = ACTIVE}, 0.95, 0.996},
        {{.arch = "batchtopk", .k = ACTIVE}, 0.95, 0.991},
        {{.arch = "matryoshka", .k = ACTIVE}, 0.94, 0.967},
        {{.arch = "jumprelu", .sparsity = 0.03, .bandwidth = 0.1, .init_threshold = 0.1},
         0.95,
         0.974},
        {{.arch = "relu", .sparsity = 0.4}, 0.95, 0.977},
        {{.arch = "gated", .sparsity = 0.5}, 0.9, 0.934},
    };
    static float dict[TRUE_F * D];
    float *rows = make_rows(dict);
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_train_desc desc = row[i].desc;
        fct_row_source source;
        fct_sae *s;
        fct_train_report report;
        fct_sae_quality q;
        desc.preset = "demo";
        desc.n_features = F;
        desc.batch_size = BATCH;
        desc.steps = STEPS;
        desc.lr = 4e-3;
        desc.dead_rows = 20000;
        desc.seed = 1;
        assert_ok(fct_rows_of_memory(&source, rows, N, D,
                                     &(fct_rows_desc){.order = FCT_ORDER_SHUFFLED, .seed = 1}));
        assert_ok(fct_sae_train(&s, &source, &desc, &report));
        assert_ok(source.rewind(source.self, 0));
        assert_ok(fct_sae_measure_quality(s, &source, &(fct_measure_desc){.max_rows = 4096}, &q));
        double found = mean_max_cosine(dict, s);
        print_message("%-10s mean greatest cosine %.3f (seen %.3f), ev %.3f, l0 %.2f, alone %.2f, "
                      "%.1f s\n",
                      desc.arch, found, row[i].seen, q.ev, report.l0, q.l0, report.seconds);
        assert_true(found >= row[i].floor);
        assert_true(fabs(q.l0 - report.l0) < 0.15 * report.l0); /* a row alone is as in a batch */
        fct_sae_free(s);
        source.close(source.self);
    }
    fct_free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

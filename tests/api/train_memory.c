/* train_memory.c - an SAE is trained on rows in memory and finds the directions that made them. */
#include <facet/rows.h>
#include <facet/train.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 20000, D = 16, TRUE_FEATURES = 24, ACTIVE = 2 };

static double unit(uint64_t *state) /* xorshift64*: in [0,1) */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

/* Each row is the sum of a few of the directions, which have length 1. */
static void make_rows(float *rows, float direction[TRUE_FEATURES][D])
{
    uint64_t state = 42;
    for (int f = 0; f < TRUE_FEATURES; f++) {
        double length = 0;
        for (int i = 0; i < D; i++) {
            direction[f][i] = (float)(unit(&state) + unit(&state) + unit(&state) - 1.5);
            length += (double)direction[f][i] * (double)direction[f][i];
        }
        for (int i = 0; i < D; i++) direction[f][i] /= (float)sqrt(length);
    }
    for (int r = 0; r < ROWS; r++)
        for (int a = 0; a < ACTIVE; a++) {
            int f = (int)(unit(&state) * TRUE_FEATURES);
            float strength = (float)(1 + unit(&state));
            for (int i = 0; i < D; i++) rows[r * D + i] += strength * direction[f][i];
        }
}

/* How many of the true directions some feature of the SAE points along. */
static int count_found(const fct_sae *sae, float direction[TRUE_FEATURES][D])
{
    int found = 0;
    for (int t = 0; t < TRUE_FEATURES; t++) {
        double best = 0;
        for (int64_t f = 0; f < sae->f; f++) {
            double cosine = 0;
            for (int i = 0; i < D; i++)
                cosine += (double)sae->w_dec[f * D + i] * (double)direction[t][i];
            if (cosine > best) best = cosine;
        }
        found += best > 0.9;
    }
    return found;
}

int main(void)
{
    static float rows[ROWS * D], direction[TRUE_FEATURES][D];
    fct_row_source source = {0};
    fct_sae *sae = NULL;
    fct_train_report report;
    make_rows(rows, direction);
    fct_rows_desc order = {.order = FCT_ORDER_SHUFFLED, .seed = 1};
    fct_status st = fct_rows_of_memory(&source, rows, ROWS, D, &order);
    fct_train_desc desc = {.preset = "demo",
                           .k = ACTIVE,
                           .n_features = 2 * TRUE_FEATURES,
                           .batch_size = 500,
                           .steps = 800};
    if (st == FCT_OK) st = fct_sae_train(&sae, &source, &desc, &report);
    if (source.close) source.close(source.self);
    if (st != FCT_OK) return fprintf(stderr, "%s\n", fct_error_text()), 1;
    int found = count_found(sae, direction);
    printf("%d of %d directions found, explained variance %.3f\n", found, TRUE_FEATURES, report.ev);
    fct_sae_free(sae);
    return found >= TRUE_FEATURES * 3 / 4 ? 0 : 1;
}

/* select_check.h - whether a selection is that of the whole product, computed in f64. */
#ifndef FCT_TEST_SELECT_CHECK_H
#define FCT_TEST_SELECT_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct selection {
    int64_t rows, n, d, k;
    const float *centred, *w, *bias; /* [rows,d], [n,d], [n] */
    const int32_t *index;            /* [rows,k] */
    const float *value;
    bool any_order;
} selection;

/* Products plus bias of one row, and what an f32 product may round away: 1e-6 of |x||w|. */
static inline void select_products(const selection *s, int64_t r, double *z, double *room)
{
    const float *x = s->centred + r * s->d;
    double norm = 0;
    for (int64_t c = 0; c < s->d; c++) norm += (double)x[c] * (double)x[c];
    for (int64_t f = 0; f < s->n; f++) {
        double sum = 0, length = 0;
        for (int64_t c = 0; c < s->d; c++) {
            double w = (double)s->w[f * s->d + c];
            sum += (double)x[c] * w;
            length += w * w;
        }
        z[f] = sum + (double)s->bias[f];
        room[f] = 1e-6 * (sqrt(norm * length) + fabs((double)s->bias[f]));
    }
}

/* Every selected entry must be as large as the k-th largest of the f64 products, but for that room;
   values likewise; order and indices as the contract says. */
static inline void check_selected(const selection *s, const char *what)
{
    double *z = malloc((size_t)s->n * sizeof *z), *room = malloc((size_t)s->n * sizeof *room);
    for (int64_t r = 0; r < s->rows; r++) {
        select_products(s, r, z, room);
        uint8_t *seen = calloc((size_t)s->n, 1);
        int64_t missed = 0;
        double least = INFINITY;
        for (int64_t j = 0; j < s->k; j++) {
            int32_t f = s->index[r * s->k + j];
            double v = (double)s->value[r * s->k + j];
            if (f < 0 || f >= s->n || seen[f])
                fail_msg("%s: row %lld has index %d", what, (long long)r, f);
            double want = z[f] > 0 ? z[f] : 0;
            seen[f] = 1;
            if (!(fabs(v - want) <= room[f]))
                fail_msg("%s: row %lld: value %.9g, not %.9g", what, (long long)r, v, want);
            if (!s->any_order && j > 0 && v > (double)s->value[r * s->k + j - 1])
                fail_msg("%s: row %lld is not in order", what, (long long)r);
            if (z[f] + room[f] < least) least = z[f] + room[f];
        }
        for (int64_t f = 0; f < s->n; f++) missed += !seen[f] && z[f] - room[f] > least;
        if (missed)
            fail_msg("%s: row %lld leaves out %lld larger ones", what, (long long)r,
                     (long long)missed);
        free(seen);
    }
    free(z);
    free(room);
}

#endif

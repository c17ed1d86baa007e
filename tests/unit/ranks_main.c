/* ranks_main.c - what mpirun starts several times to test src/dist: sums against the same sums done
   alone in the order of the ranks, to the byte; then one rank that fails, dies or is told to end.

       mpirun -n 4 ranks sums|agree|alone|die|late [RANK] */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/link.h"
#include "dist/dist.h"

static const int64_t lengths[] = {0, 1, 3, 7, 4096, 5000, 100003, 4500001};

static float value(int64_t rank, int64_t i) /* rounds differently in another order */
{
    uint32_t x = (uint32_t)(i * 2654435761LL + rank * 40503 + 12345);
    return (float)(x % 1000003) * (rank % 2 ? 1e-3f : 1.7f);
}

static fct_status differs(const char *what, int64_t n, int64_t i)
{
    return fct_fail(FCT_ERR_INTERNAL, "%s of %" PRId64 ": number %" PRId64 " is wrong", what, n, i);
}

static fct_status check_f32(fct_dist *d, int64_t n, float *x, bool sum)
{
    for (int64_t i = 0; i < n; i++) x[i] = value(d->rank, i);
    FCT_TRY(sum ? fct_dist_sum_f32(d, x, n) : fct_dist_max_f32(d, x, n));
    for (int64_t i = 0; i < n; i++) {
        float want = value(0, i);
        for (int64_t r = 1; r < d->size; r++) {
            float v = value(r, i);
            want = sum ? want + v : v > want ? v : want;
        }
        if (memcmp(&want, &x[i], sizeof want) != 0) return differs(sum ? "sum" : "max", n, i);
    }
    return FCT_OK;
}

static fct_status check_f64(fct_dist *d, int64_t n, double *x)
{
    for (int64_t i = 0; i < n; i++) x[i] = (double)value(d->rank, i) / 3;
    FCT_TRY(fct_dist_sum_f64(d, x, n));
    for (int64_t i = 0; i < n; i++) {
        double want = (double)value(0, i) / 3;
        for (int64_t r = 1; r < d->size; r++) want += (double)value(r, i) / 3;
        if (memcmp(&want, &x[i], sizeof want) != 0) return differs("sum in f64", n, i);
    }
    return FCT_OK;
}

static fct_status check_bytes(fct_dist *d, int64_t n, uint8_t *x)
{
    for (int64_t i = 0; i < n; i++) x[i] = (i + d->rank) % 5 == 0;
    FCT_TRY(fct_dist_max_u8(d, x, n));
    for (int64_t i = 0; i < n; i++) {
        bool want = false;
        for (int64_t r = 0; r < d->size; r++) want = want || (i + r) % 5 == 0;
        if (x[i] != want) return differs("max of bytes", n, i);
    }
    for (int64_t i = 0; i < n; i++) x[i] = (uint8_t)(i + 3 * d->rank);
    FCT_TRY(fct_dist_broadcast(d, x, n));
    for (int64_t i = 0; i < n; i++)
        if (x[i] != (uint8_t)i) return differs("broadcast", n, i);
    return FCT_OK;
}

/* Every number once, in order. */
static fct_status check_parts(fct_dist *d, int64_t n)
{
    int64_t mine[2], *all = NULL, at = 0;
    mine[1] = fct_dist_part(d, n, &mine[0]);
    FCT_TRY(fct_new(&all, 2 * fct_dist_size(d), sizeof *all));
    fct_status st = fct_dist_gather(d, mine, sizeof mine, all);
    for (int64_t r = 0; r < fct_dist_size(d) && st == FCT_OK; r++) {
        if (all[2 * r] != at) st = differs("part", n, r);
        at += all[2 * r + 1];
    }
    if (st == FCT_OK && at != n) st = differs("parts", n, at);
    fct_free(all);
    return st;
}

static fct_status sums(fct_dist *d)
{
    double *x = NULL;
    fct_status st = FCT_OK;
    FCT_TRY(fct_new(&x, 4500001, sizeof *x));
    for (size_t i = 0; i < FCT_COUNT(lengths) && st == FCT_OK; i++) {
        int64_t n = lengths[i];
        st = check_f64(d, n, x);
        if (st == FCT_OK) st = check_f32(d, n, (float *)x, true);
        if (st == FCT_OK) st = check_f32(d, n, (float *)x, false);
        if (st == FCT_OK) st = check_bytes(d, n, (uint8_t *)x);
        if (st == FCT_OK) st = check_parts(d, n);
        if (st == FCT_OK) st = fct_dist_barrier(d);
    }
    fct_free(x);
    return st;
}

static fct_status play(fct_dist *d, const char *part, int64_t who)
{
    double x = 1;
    bool me = d->rank == who;
    if (strcmp(part, "sums") == 0) return sums(d);
    if (strcmp(part, "agree") == 0)
        return fct_dist_agree(d, me ? fct_fail(FCT_ERR_FORMAT, "planted") : FCT_OK);
    FCT_TRY(fct_dist_sum_f64(d, &x, 1)); /* all are there */
    if (strcmp(part, "alone") == 0 && me) return fct_fail(FCT_ERR_FORMAT, "planted");
    if (strcmp(part, "die") == 0 && me) raise(SIGKILL);
    if (strcmp(part, "late") == 0 && me) sleep(2); /* is waited for */
    FCT_TRY(fct_dist_sum_f64(d, &x, 1));
    return FCT_OK;
}

int main(int argc, char **argv)
{
    fct_dist *d = NULL;
    fct_link link;
    fct_status st = fct_cli_link_open(&link, NULL);
    if (st == FCT_OK) st = fct_dist_open(&d, &link);
    if (st == FCT_OK && argc > 1) st = play(d, argv[1], argc > 2 ? argv[2][0] - '0' : -1);
    st = fct_dist_finish(d, st);
    if (fct_dist_speaks(d) && st != FCT_OK) fprintf(stderr, "ranks: %s\n", fct_error_text());
    if (fct_dist_speaks(d) && st == FCT_OK) printf("%d ranks: ok\n", (int)fct_dist_size(d));
    fflush(stdout);
    fct_dist_close(d);
    return st == FCT_OK ? 0 : 1;
}

/* measure.c - measures an SAE with its weights as they are, in a pass over rows: statistics of
   every feature, and how well rows are rebuilt. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

enum { WANT = 4096 };

/* Of one feature, over the rows in which it is active. */
typedef struct tally {
    int64_t n;
    double sum, squares;
    float max;
} tally;

static fct_status count_codes(tally *f, const fct_sae_csr *c)
{
    for (int64_t i = 0; i < c->n; i++) {
        tally *t = &f[c->indices[i]];
        double v = c->values[i];
        t->n++;
        t->sum += v;
        t->squares += v * v;
        if (c->values[i] > t->max) t->max = c->values[i];
    }
    return FCT_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static fct_status next_rows(fct_row_source *rows, const fct_sae *s, int64_t left, const float **x,
                            int64_t *n)
{
    if (rows->d != s->d)
        return fct_fail(FCT_ERR_SHAPE, "the SAE takes rows of %lld numbers, these have %lld",
                        (long long)s->d, (long long)rows->d);
    return rows->next(rows->self, least(left, WANT), x, n);
}

static fct_status stats_memory(fct_sae *s)
{
    float **part[] = {&s->density, &s->mean, &s->std, &s->max};
    for (size_t i = 0; i < FCT_COUNT(part); i++) {
        if (*part[i]) continue;
        FCT_TRY(fct_new(part[i], s->f, sizeof(float)));
    }
    return FCT_OK;
}

/* Passes over n rows, or as many as there are. */
static fct_status pass_over(fct_row_source *rows, int64_t n)
{
    while (n > 0) {
        const float *x;
        int64_t got = 0;
        FCT_TRY(rows->skip ? rows->skip(rows->self, n, &got)
                           : rows->next(rows->self, least(n, WANT), &x, &got));
        if (got <= 0) return FCT_OK;
        n -= got;
    }
    return FCT_OK;
}

/* Up to `most` rows (0: all) into the tallies; returns their number. */
static fct_status tally_rows(tally *f, fct_sae_coder *c, fct_row_source *rows, int64_t most,
                             int64_t *out_done, const fct_log *log)
{
    int64_t done = 0, total = rows->total;
    fct_sae_csr codes = {0};
    if (most > 0 && (total < 0 || total > most)) total = most;
    for (;;) {
        const float *x;
        int64_t n = 0;
        FCT_TRY(fct_log_check_stop(log));
        if (most <= 0 || done < most)
            FCT_TRY(next_rows(rows, c->sae, most > 0 ? most - done : WANT, &x, &n));
        if (n == 0) break;
        FCT_TRY(fct_sae_encode_csr(c, x, n, &codes));
        fct_status st = count_codes(f, &codes);
        fct_sae_csr_clear(&codes);
        FCT_TRY(st);
        done += n;
        fct_log_progress(log, "statistics", done, total);
    }
    *out_done = done;
    return FCT_OK;
}

/* What all ranks counted. */
static fct_status share_tallies(tally *f, int64_t n, int64_t *rows, fct_dist *ranks)
{
    double *sum = NULL;
    float *max = NULL;
    fct_status st = FCT_OK;
    if (fct_dist_alone(ranks)) return FCT_OK;
    FCT_TRY_OUT(fct_new(&sum, 3 * n + 1, sizeof *sum));
    FCT_TRY_OUT(fct_new(&max, n, sizeof *max));
    sum[3 * n] = (double)*rows; /* counts are exact up to 2^53 */
    for (int64_t i = 0; i < n; i++) {
        sum[3 * i] = (double)f[i].n;
        sum[3 * i + 1] = f[i].sum;
        sum[3 * i + 2] = f[i].squares;
        max[i] = f[i].max;
    }
    FCT_TRY_OUT(fct_dist_sum_f64(ranks, sum, 3 * n + 1));
    FCT_TRY_OUT(fct_dist_max_f32(ranks, max, n));
    *rows = (int64_t)sum[3 * n];
    for (int64_t i = 0; i < n; i++)
        f[i] = (tally){(int64_t)sum[3 * i], sum[3 * i + 1], sum[3 * i + 2], max[i]};
out:
    fct_free(sum);
    fct_free(max);
    return st;
}

/* This rank's part of the pass. */
static fct_status tally_part(tally *f, fct_sae_coder *c, fct_row_source *rows,
                             const fct_measure_desc *desc, int64_t *out_done)
{
    int64_t first, mine, total = rows->total, max_rows = desc->max_rows;
    if (fct_dist_alone(desc->ranks)) return tally_rows(f, c, rows, max_rows, out_done, desc->log);
    if (total < 0) return fct_fail(FCT_ERR_ARG, "rows of unknown number cannot be shared by ranks");
    if (max_rows > 0 && total > max_rows) total = max_rows;
    mine = fct_dist_part(desc->ranks, total, &first);
    *out_done = 0;
    FCT_TRY(pass_over(rows, first));
    if (mine > 0) FCT_TRY(tally_rows(f, c, rows, mine, out_done, desc->log));
    return pass_over(rows, total - first - mine);
}

static void finish_stats(fct_sae *s, const tally *f, double rows)
{
    for (int64_t i = 0; i < s->f; i++) {
        double n = (double)f[i].n, mean = n > 0 ? f[i].sum / n : 0,
               var = n > 0 ? f[i].squares / n - mean * mean : 0;
        s->density[i] = (float)(n / rows);
        s->mean[i] = (float)mean;
        s->std[i] = (float)sqrt(var > 0 ? var : 0);
        s->max[i] = f[i].max;
    }
    s->has_stats = true;
}

fct_status fct_sae_measure_stats(fct_sae *s, fct_row_source *rows, const fct_measure_desc *desc)
{
    const fct_measure_desc usual = {0}, *d = desc ? desc : &usual;
    fct_status st = FCT_OK;
    tally *f = NULL;
    fct_sae_coder *c = NULL;
    int64_t done = 0;
    FCT_TRY_OUT(fct_sae_coder_open(&c, s, d->backend));
    FCT_TRY_OUT(fct_new(&f, s->f, sizeof *f));
    FCT_TRY_OUT(fct_dist_agree(d->ranks, tally_part(f, c, rows, d, &done)));
    FCT_TRY_OUT(share_tallies(f, s->f, &done, d->ranks));
    if (done == 0) {
        st = fct_fail(FCT_ERR_ARG, "there are no rows to make statistics from");
        goto out;
    }
    FCT_TRY_OUT(stats_memory(s));
    finish_stats(s, f, (double)done);
out:
    fct_sae_coder_close(c);
    fct_free(f);
    return fct_where(st, "statistics");
}

/* ---- quality ---- */

typedef struct quality {
    double *sum;   /* [4,D]: of x, x², error, error² */
    uint8_t *seen; /* [F] */
    int64_t active, rows;
    float *rebuilt; /* [WANT,D] */
} quality;

static fct_status add_quality(quality *q, fct_sae_coder *c, const float *x, int64_t n)
{
    const fct_sae *s = c->sae;
    fct_sae_csr codes = {0};
    FCT_TRY(fct_sae_rebuild(c, x, n, q->rebuilt));
    FCT_TRY(fct_sae_encode_csr(c, x, n, &codes));
    q->active += codes.n;
    q->rows += n;
    for (int64_t i = 0; i < codes.n; i++) q->seen[codes.indices[i]] = 1;
    fct_sae_csr_clear(&codes);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < s->d; i++) {
            double v = x[r * s->d + i], e = v - q->rebuilt[r * s->d + i];
            q->sum[i] += v;
            q->sum[s->d + i] += v * v;
            q->sum[2 * s->d + i] += e;
            q->sum[3 * s->d + i] += e * e;
        }
    return FCT_OK;
}

static double variance(double sum, double squares, double n)
{
    double v = squares / n - sum / n * (sum / n);
    return v > 0 ? v : 0;
}

static void finish_quality(const quality *q, const fct_sae *s, fct_sae_quality *out)
{
    double n = (double)q->rows, all_x = 0, all_e = 0, unbias = n > 1 ? n / (n - 1) : 1;
    int64_t block = 0, end = 0; /* of a crosscoder: the blocks up to this number's */
    *out = (fct_sae_quality){.rows = q->rows, .l0 = (double)q->active / n};
    for (int64_t i = 0; i < s->d; i++) {
        double vx = variance(q->sum[i], q->sum[s->d + i], n) * unbias,
               ve = variance(q->sum[2 * s->d + i], q->sum[3 * s->d + i], n) * unbias;
        out->ev += (1 - ve / (vx + 1e-8)) / (double)s->d;
        while (block < s->n_blocks && i >= end) end += s->blocks[block++].d;
        if (block > 0)
            out->block_ev[block - 1] += (1 - ve / (vx + 1e-8)) / (double)s->blocks[block - 1].d;
        all_x += vx;
        all_e += ve;
    }
    out->ev_total = all_x > 0 ? 1 - all_e / all_x : 0;
    for (int64_t f = 0; f < s->f; f++) out->dead_share += !q->seen[f];
    out->dead_share /= (double)s->f;
}

fct_status fct_sae_measure_quality(const fct_sae *s, fct_row_source *rows,
                                   const fct_measure_desc *desc, fct_sae_quality *out)
{
    const fct_measure_desc usual = {0}, *d = desc ? desc : &usual;
    int64_t max_rows = d->max_rows;
    fct_status st = FCT_OK;
    quality q = {0};
    fct_sae_coder *c = NULL;
    *out = (fct_sae_quality){0};
    FCT_TRY_OUT(fct_sae_coder_open(&c, s, d->backend));
    FCT_TRY_OUT(fct_new(&q.sum, 4 * s->d, sizeof *q.sum));
    FCT_TRY_OUT(fct_new(&q.seen, s->f, 1));
    FCT_TRY_OUT(fct_new_raw(&q.rebuilt, WANT * s->d, sizeof *q.rebuilt));
    while (max_rows <= 0 || q.rows < max_rows) {
        const float *x;
        int64_t n = 0;
        FCT_TRY_OUT(next_rows(rows, s, max_rows > 0 ? max_rows - q.rows : WANT, &x, &n));
        if (n == 0) break;
        FCT_TRY_OUT(fct_log_check_stop(d->log));
        FCT_TRY_OUT(add_quality(&q, c, x, n));
    }
    if (q.rows == 0) {
        st = fct_fail(FCT_ERR_ARG, "there are no rows to measure quality on");
        goto out;
    }
    finish_quality(&q, s, out);
out:
    fct_sae_coder_close(c);
    fct_free(q.sum);
    fct_free(q.seen);
    fct_free(q.rebuilt);
    return st;
}

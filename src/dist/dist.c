/* dist.c - collectives from one operation, the exchange of pieces between all ranks.

   A sum is cut into one piece a rank: everyone sends piece r to rank r, who adds them in the order
   of the ranks and sends the result to all. So each rank sends and receives 2 (N-1)/N of the
   numbers, the least that is possible, and the order of additions depends on nothing but N. Short
   sums go whole to everyone. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dist/dist.h"

enum { MOST_RANKS = 4096, SHORT = 16384, BLOCK = 8 << 20, MESSAGE = 64 << 20 }; /* bytes */

int64_t fct_dist_part(const fct_dist *d, int64_t n, int64_t *first)
{
    int64_t size = fct_dist_size(d), rank = fct_dist_rank(d);
    *first = n / size * rank + n % size * rank / size;
    int64_t next = n / size * (rank + 1) + n % size * (rank + 1) / size;
    return next - *first;
}

/* ---- opening ---- */

fct_status fct_dist_open(fct_dist *out, const volatile int *stop)
{
    *out = (fct_dist){.size = 1, .on_host = 1, .stop = stop};
    FCT_TRY(fct_link_open(out));
    if (out->size <= MOST_RANKS) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE, "%" PRId64 " ranks: want at most %d", out->size, MOST_RANKS);
}

void fct_dist_close(fct_dist *d)
{
    if (d->link) fct_link_close(d);
    fct_free(d->scratch);
    *d = (fct_dist){0};
}

static fct_status make_room(fct_dist *d, int64_t bytes)
{
    if (d->scratch_bytes >= bytes) return FCT_OK;
    fct_free(d->scratch);
    d->scratch = NULL;
    d->scratch_bytes = 0;
    FCT_TRY(fct_new_raw(&d->scratch, bytes, 1));
    d->scratch_bytes = bytes;
    return FCT_OK;
}

/* ---- reductions ---- */

typedef struct operation {
    int64_t size;                                                      /* bytes of a number */
    void (*into)(void *restrict y, const void *restrict x, int64_t n); /* y = y op x */
} operation;

FCT_CLONES static void add_f32(void *restrict y, const void *restrict x, int64_t n)
{
    float *restrict to = y;
    const float *restrict from = x;
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

static void add_f64(void *restrict y, const void *restrict x, int64_t n)
{
    double *restrict to = y;
    const double *restrict from = x;
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

static void larger_f32(void *restrict y, const void *restrict x, int64_t n)
{
    float *restrict to = y;
    const float *restrict from = x;
    for (int64_t i = 0; i < n; i++) to[i] = from[i] > to[i] ? from[i] : to[i];
}

static void larger_u8(void *restrict y, const void *restrict x, int64_t n)
{
    uint8_t *restrict to = y;
    const uint8_t *restrict from = x;
    for (int64_t i = 0; i < n; i++) to[i] = from[i] > to[i] ? from[i] : to[i];
}

static const operation sum_f32 = {sizeof(float), add_f32}, sum_f64 = {sizeof(double), add_f64},
                       max_f32 = {sizeof(float), larger_f32}, max_u8 = {1, larger_u8};

/* all [size][n] becomes the reduction of its rows, in x. */
static void fold(const fct_dist *d, const operation *op, void *x, int64_t n, const uint8_t *all)
{
    memcpy(x, all, (size_t)(n * op->size));
    for (int64_t r = 1; r < d->size; r++) op->into(x, all + r * n * op->size, n);
}

static fct_status reduce_short(fct_dist *d, const operation *op, void *x, int64_t n)
{
    FCT_TRY(make_room(d, d->size * n * op->size));
    FCT_TRY(fct_dist_gather(d, x, n * op->size, d->scratch));
    fold(d, op, x, n, d->scratch);
    return FCT_OK;
}

/* [*at, *at + the result): what rank r adds up of n numbers. */
static int64_t piece_of(const fct_dist *d, int64_t n, int64_t r, int64_t *at)
{
    return fct_dist_part(&(fct_dist){.rank = r, .size = d->size}, n, at);
}

static fct_status reduce_block(fct_dist *d, const operation *op, uint8_t *x, int64_t n,
                               fct_dist_piece *send, fct_dist_piece *recv)
{
    int64_t at, own_at, own = piece_of(d, n, d->rank, &own_at) * op->size;
    uint8_t *mine = x + own_at * op->size;
    FCT_TRY(make_room(d, d->size * own));
    for (int64_t r = 0; r < d->size; r++) {
        int64_t bytes = piece_of(d, n, r, &at) * op->size;
        send[r] = (fct_dist_piece){x + at * op->size, bytes};
        recv[r] = (fct_dist_piece){(uint8_t *)d->scratch + r * own, own};
    }
    FCT_TRY(fct_link_exchange(d, send, recv));
    fold(d, op, mine, own / op->size, d->scratch);
    for (int64_t r = 0; r < d->size; r++) {
        recv[r] = send[r];
        send[r] = (fct_dist_piece){mine, own};
    }
    return fct_link_exchange(d, send, recv);
}

static fct_status reduce(fct_dist *d, const operation *op, void *x, int64_t n)
{
    fct_dist_piece *piece = NULL;
    fct_status st = FCT_OK;
    int64_t block = BLOCK / op->size;
    uint8_t *at = x;
    if (fct_dist_alone(d) || n == 0) return FCT_OK;
    if (n * op->size <= SHORT) return reduce_short(d, op, x, n);
    FCT_TRY(fct_new(&piece, 2 * d->size, sizeof *piece));
    for (int64_t i = 0; i < n && st == FCT_OK; i += block)
        st = reduce_block(d, op, at + i * op->size, n - i < block ? n - i : block, piece,
                          piece + d->size);
    fct_free(piece);
    return st;
}

fct_status fct_dist_sum_f32(fct_dist *d, float *x, int64_t n)
{
    return reduce(d, &sum_f32, x, n);
}

fct_status fct_dist_sum_f64(fct_dist *d, double *x, int64_t n)
{
    return reduce(d, &sum_f64, x, n);
}

fct_status fct_dist_max_f32(fct_dist *d, float *x, int64_t n)
{
    return reduce(d, &max_f32, x, n);
}

fct_status fct_dist_max_u8(fct_dist *d, uint8_t *x, int64_t n)
{
    return reduce(d, &max_u8, x, n);
}

/* ---- bytes ---- */

fct_status fct_dist_broadcast_from(fct_dist *d, int64_t root, void *x, int64_t bytes)
{
    fct_dist_piece *send = NULL;
    uint8_t *at = x;
    fct_status st = FCT_OK;
    if (fct_dist_alone(d)) return FCT_OK;
    FCT_TRY(fct_new(&send, 2 * d->size, sizeof *send));
    fct_dist_piece *recv = send + d->size;
    for (int64_t i = 0; i < bytes && st == FCT_OK; i += MESSAGE) {
        fct_dist_piece p = {at + i, bytes - i < MESSAGE ? bytes - i : MESSAGE};
        for (int64_t r = 0; r < d->size && d->rank == root; r++)
            if (r != root) send[r] = p;
        if (d->rank != root) recv[root] = p;
        st = fct_link_exchange(d, send, recv);
    }
    fct_free(send);
    return st;
}

fct_status fct_dist_broadcast(fct_dist *d, void *x, int64_t bytes)
{
    return fct_dist_broadcast_from(d, 0, x, bytes);
}

fct_status fct_dist_gather(fct_dist *d, const void *mine, int64_t bytes, void *all)
{
    fct_dist_piece *send = NULL;
    void *own = NULL;
    fct_status st = FCT_OK;
    if (fct_dist_alone(d)) {
        memcpy(all, mine, (size_t)bytes);
        return FCT_OK;
    }
    FCT_TRY_OUT(fct_new(&send, 2 * d->size, sizeof *send));
    FCT_TRY_OUT(fct_new_raw(&own, bytes, 1));
    memcpy(own, mine, (size_t)bytes);
    for (int64_t r = 0; r < d->size; r++) {
        send[r] = (fct_dist_piece){own, bytes};
        send[d->size + r] = (fct_dist_piece){(uint8_t *)all + r * bytes, bytes};
    }
    st = fct_link_exchange(d, send, send + d->size);
out:
    fct_free(send);
    fct_free(own);
    return st;
}

fct_status fct_dist_barrier(fct_dist *d)
{
    uint8_t here = 0, all[MOST_RANKS];
    return fct_dist_alone(d) ? FCT_OK : fct_dist_gather(d, &here, 1, all);
}

/* ---- failures ---- */

static void make_word(fct_dist_word *w, fct_status st)
{
    *w = (fct_dist_word){.status = (int32_t)st};
    if (st != FCT_OK) snprintf(w->text, sizeof w->text, "%s", fct_error_text());
}

fct_status fct_dist_heard(fct_dist *d, int64_t rank, const fct_dist_word *w)
{
    fct_status st =
        w->status >= 0 && w->status < FCT_STATUS_COUNT ? (fct_status)w->status : FCT_ERR_INTERNAL;
    if (st == FCT_OK) return FCT_OK;
    d->agreed = true;
    if (rank == 0 || st == FCT_ERR_STOPPED) return fct_fail(st, "%s", w->text);
    return fct_fail(st, "rank %" PRId64 ": %s", rank, w->text);
}

/* Which of all is told; -1: there is no failure. */
static int64_t worst(const int32_t *status, int64_t n)
{
    int64_t stopped = -1;
    for (int64_t r = 0; r < n; r++) {
        if (status[r] == FCT_OK) continue;
        if (status[r] != FCT_ERR_STOPPED) return r;
        if (stopped < 0) stopped = r;
    }
    return stopped;
}

fct_status fct_dist_agree(fct_dist *d, fct_status st)
{
    int32_t mine = (int32_t)st, all[MOST_RANKS];
    fct_dist_word word;
    if (fct_dist_alone(d) || d->broken || (d->agreed && st != FCT_OK)) return st;
    make_word(&word, st);
    FCT_TRY(fct_dist_gather(d, &mine, sizeof mine, all));
    int64_t root = worst(all, d->size);
    if (root < 0) return FCT_OK;
    FCT_TRY(fct_dist_broadcast_from(d, root, &word, sizeof word));
    return fct_dist_heard(d, root, &word);
}

fct_status fct_dist_finish(fct_dist *d, fct_status st)
{
    fct_dist_word word, *all = NULL;
    int32_t status[MOST_RANKS];
    if (fct_dist_alone(d) || d->broken || (d->agreed && st != FCT_OK)) return st;
    make_word(&word, st);
    if (fct_new(&all, d->size, sizeof *all) != FCT_OK) {
        d->broken = true;
        return FCT_ERR_MEMORY;
    }
    fct_status told = fct_link_last_word(d, st, &word, sizeof word, all);
    if (told == FCT_OK) {
        for (int64_t r = 0; r < d->size; r++) status[r] = all[r].status;
        int64_t root = worst(status, d->size);
        if (root >= 0) told = fct_dist_heard(d, root, &all[root]);
    }
    fct_free(all);
    return told;
}

bool fct_dist_speaks(const fct_dist *d)
{
    return fct_dist_alone(d) || d->rank == d->speaker;
}

/* dist.c - sums, gathers and sends between ranks, all from one operation, the exchange of pieces
   between all.

   A sum is cut into one piece a rank: everyone sends piece r to rank r, who adds them in the order
   of the ranks and sends the result to all. So each rank sends and receives 2 (N-1)/N of the
   numbers, the least that is possible, and the order of additions depends on nothing but N. Short
   sums go whole to everyone. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dist/dist.h"

/* The last three in bytes. */
enum { MAX_RANKS = 4096, SHORT = 16384, BLOCK = 8 << 20, MESSAGE = 64 << 20 };

int64_t fct_dist_part(const fct_dist *d, int64_t n, int64_t *first)
{
    int64_t size = fct_dist_size(d), rank = fct_dist_rank(d);
    *first = n / size * rank + n % size * rank / size;
    int64_t next = n / size * (rank + 1) + n % size * (rank + 1) / size;
    return next - *first;
}

/* ---- opening ---- */

fct_status fct_dist_open(fct_dist **out, const fct_link *link)
{
    fct_dist *d = NULL;
    fct_status st = FCT_OK;
    fct_link given = link ? *link : (fct_link){.size = 1};
    int64_t size = given.size > 1 ? given.size : 1;
    *out = NULL;
    if (size > MAX_RANKS)
        FCT_TRY_OUT(fct_fail(FCT_ERR_RANGE, "%" PRId64 " ranks: want at most %d", size, MAX_RANKS));
    if (given.rank < 0 || given.rank >= size || (size > 1 && !given.exchange))
        FCT_TRY_OUT(fct_fail(FCT_ERR_ARG,
                             "a link of %" PRId64 " ranks needs an exchange function and a rank "
                             "from 0 to %" PRId64 ", it has rank %" PRId64,
                             size, size - 1, given.rank));
    FCT_TRY_OUT(fct_new(&d, 1, sizeof *d));
    if (size > 1) FCT_TRY_OUT(fct_new(&d->word, size, sizeof *d->word));
    d->rank = given.rank;
    d->size = size;
    d->on_host = given.on_host > 0 ? given.on_host : 1;
    d->link = given;
    *out = d;
    return FCT_OK;
out:
    fct_free(d);
    if (given.close) given.close(given.self, true, false);
    return st;
}

void fct_dist_close(fct_dist *d)
{
    if (!d) return;
    if (d->link.close) d->link.close(d->link.self, d->broken, fct_dist_speaks(d));
    fct_free(d->scratch);
    fct_free(d->word);
    fct_free(d);
}

int64_t fct_dist_size(const fct_dist *d)
{
    return d ? d->size : 1;
}

int64_t fct_dist_rank(const fct_dist *d)
{
    return d ? d->rank : 0;
}

int64_t fct_dist_on_host(const fct_dist *d)
{
    return d ? d->on_host : 1;
}

bool fct_dist_alone(const fct_dist *d)
{
    return !d || d->size <= 1;
}

bool fct_dist_first(const fct_dist *d)
{
    return fct_dist_rank(d) == 0;
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

/* ---- the link ---- */

/* The failure that a rank's word tells, for this one to end with; FCT_OK: none. */
static fct_status heard(fct_dist *d, int64_t rank, const fct_link_word *w)
{
    fct_status st =
        w->status >= 0 && w->status < FCT_STATUS_COUNT ? (fct_status)w->status : FCT_ERR_INTERNAL;
    if (st == FCT_OK) return FCT_OK;
    d->agreed = true;
    if (rank == 0 || st == FCT_ERR_STOPPED) return fct_fail(st, "%s", w->text);
    return fct_fail(st, "rank %" PRId64 ": %s", rank, w->text);
}

/* From here on the ranks are not together any more. */
static fct_status break_off(fct_dist *d, fct_status st, const fct_link_break *why)
{
    d->broken = true;
    d->speaker = why->speaker;
    return why->word.status == FCT_OK ? st : heard(d, why->from, &why->word);
}

/* send[r] goes to rank r, recv[r] comes from it; what a rank keeps is copied here. Both [size]. */
static fct_status exchange(fct_dist *d, fct_link_piece *send, fct_link_piece *recv)
{
    fct_link_break why = {0};
    const fct_link_piece from = send[d->rank], to = recv[d->rank];
    if (d->broken) return fct_fail(FCT_ERR_INTERNAL, "the ranks are not together any more");
    if (to.bytes > 0 && from.bytes == to.bytes && to.data != from.data)
        memcpy(to.data, from.data, (size_t)to.bytes);
    send[d->rank] = recv[d->rank] = (fct_link_piece){0};
    fct_status st = d->link.exchange(d->link.self, send, recv, &why);
    send[d->rank] = from;
    recv[d->rank] = to;
    return st == FCT_OK ? FCT_OK : break_off(d, st, &why);
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
                               fct_link_piece *send, fct_link_piece *recv)
{
    int64_t at, own_at, own = piece_of(d, n, d->rank, &own_at) * op->size;
    uint8_t *mine = x + own_at * op->size;
    FCT_TRY(make_room(d, d->size * own));
    for (int64_t r = 0; r < d->size; r++) {
        int64_t bytes = piece_of(d, n, r, &at) * op->size;
        send[r] = (fct_link_piece){x + at * op->size, bytes};
        recv[r] = (fct_link_piece){(uint8_t *)d->scratch + r * own, own};
    }
    FCT_TRY(exchange(d, send, recv));
    fold(d, op, mine, own / op->size, d->scratch);
    for (int64_t r = 0; r < d->size; r++) {
        recv[r] = send[r];
        send[r] = (fct_link_piece){mine, own};
    }
    return exchange(d, send, recv);
}

static fct_status reduce(fct_dist *d, const operation *op, void *x, int64_t n)
{
    fct_link_piece *piece = NULL;
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
    fct_link_piece *send = NULL;
    uint8_t *at = x;
    fct_status st = FCT_OK;
    if (fct_dist_alone(d)) return FCT_OK;
    FCT_TRY(fct_new(&send, 2 * d->size, sizeof *send));
    fct_link_piece *recv = send + d->size;
    for (int64_t i = 0; i < bytes && st == FCT_OK; i += MESSAGE) {
        fct_link_piece p = {at + i, bytes - i < MESSAGE ? bytes - i : MESSAGE};
        for (int64_t r = 0; r < d->size && d->rank == root; r++)
            if (r != root) send[r] = p;
        if (d->rank != root) recv[root] = p;
        st = exchange(d, send, recv);
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
    fct_link_piece *send = NULL;
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
        send[r] = (fct_link_piece){own, bytes};
        send[d->size + r] = (fct_link_piece){(uint8_t *)all + r * bytes, bytes};
    }
    st = exchange(d, send, send + d->size);
out:
    fct_free(send);
    fct_free(own);
    return st;
}

fct_status fct_dist_barrier(fct_dist *d)
{
    uint8_t here = 0, all[MAX_RANKS];
    return fct_dist_alone(d) ? FCT_OK : fct_dist_gather(d, &here, 1, all);
}

/* ---- failures ---- */

static void make_word(fct_link_word *w, fct_status st)
{
    *w = (fct_link_word){.status = (int32_t)st};
    if (st != FCT_OK) snprintf(w->text, sizeof w->text, "%s", fct_error_text());
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

/* Nothing more needs to be said: all know, or nobody would hear it. */
static bool settled(const fct_dist *d, fct_status st)
{
    return fct_dist_alone(d) || d->broken || (d->agreed && st != FCT_OK);
}

fct_status fct_dist_agree(fct_dist *d, fct_status st)
{
    int32_t mine = (int32_t)st, all[MAX_RANKS];
    fct_link_word word;
    if (settled(d, st)) return st;
    make_word(&word, st);
    FCT_TRY(fct_dist_gather(d, &mine, sizeof mine, all));
    int64_t root = worst(all, d->size);
    if (root < 0) return FCT_OK;
    FCT_TRY(fct_dist_broadcast_from(d, root, &word, sizeof word));
    return heard(d, root, &word);
}

void fct_dist_go_on(fct_dist *d)
{
    if (d) d->agreed = false;
}

/* Everyone's last word in d->word. */
static fct_status last_words(fct_dist *d, fct_status st)
{
    fct_link_break why = {0};
    if (!d->link.finish) {
        if (st == FCT_OK) return fct_dist_gather(d, &d->mine, sizeof d->mine, d->word);
        d->broken = true;
        d->speaker = d->rank;
        return st;
    }
    fct_status told = d->link.finish(d->link.self, st != FCT_OK, &d->mine, d->word, &why);
    d->word[d->rank] = d->mine;
    if (told == FCT_OK) return FCT_OK;
    told = break_off(d, told, &why);
    if (told != FCT_ERR_STOPPED || st == FCT_OK) return told;
    return fct_fail(st, "rank %" PRId64 ": %s", d->rank, d->mine.text); /* nobody answers */
}

fct_status fct_dist_finish(fct_dist *d, fct_status st)
{
    int32_t status[MAX_RANKS];
    if (settled(d, st)) return st;
    make_word(&d->mine, st);
    FCT_TRY(last_words(d, st));
    for (int64_t r = 0; r < d->size; r++) status[r] = d->word[r].status;
    int64_t root = worst(status, d->size);
    return root >= 0 ? heard(d, root, &d->word[root]) : FCT_OK;
}

bool fct_dist_speaks(const fct_dist *d)
{
    return fct_dist_alone(d) || d->rank == d->speaker;
}

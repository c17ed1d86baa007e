/* mpi.c - the link between ranks over MPI: messages to and from all others at once, and a wait that
   does not hang.

   MPI's own waiting spins on a core and never ends when a rank is gone. Here a wait looks after the
   messages, gives the core away, and now and then asks three things: whether a rank has said its
   last word (it failed on its own), whether those of this machine are alive, and whether this
   process was told to end. Ranks of other machines are the launcher's to watch: it ends the job. */
#include <errno.h>
#include <inttypes.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist/launch.h"

enum { TAG = 1, TAG_LAST = 2, HOST = 64 };
/* Seconds: yielding the core, then sleeping; between two looks at the others; for the others'
   last words after a failure here, and for those that say the failure; for them after a stop. */
static const double YIELD = 0.002, LOOK = 0.1, LAST = 3, SAID = 2, STOPPED = 20;

typedef struct peer {
    int64_t pid;
    char host[HOST];
    bool seen; /* on this machine, by its process number */
} peer;

struct fct_dist_link {
    peer *peer;           /* [size] */
    MPI_Request *request; /* [2 * size] */
    int n;
    fct_dist_word word; /* being sent */
};

const char *fct_dist_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING]; /* "Open MPI v4.1.4, package: ..." */
    int n = 0;
    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) return "MPI";
    text[strcspn(text, ",\n")] = '\0';
    return text;
}

/* ---- the others ---- */

/* A process that ended stays in the table until its parent asks. */
static bool is_alive(int64_t pid)
{
    char path[64], text[256];
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) return false;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return true;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *state = strrchr(text, ')');
    return !state || strlen(state) < 3 || (state[2] != 'Z' && state[2] != 'X');
}

static fct_status find_peers(fct_dist *d)
{
    fct_dist_link *l = d->link;
    peer me = {.pid = getpid()};
    FCT_TRY(fct_new(&l->peer, d->size, sizeof *l->peer));
    FCT_TRY(fct_new(&l->request, 2 * d->size, sizeof *l->request));
    if (gethostname(me.host, HOST - 1) != 0) me.host[0] = '\0';
    if (MPI_Allgather(&me, (int)sizeof me, MPI_BYTE, l->peer, (int)sizeof me, MPI_BYTE,
                      MPI_COMM_WORLD) != MPI_SUCCESS)
        return fct_fail(FCT_ERR_INTERNAL, "MPI: the ranks cannot reach each other");
    d->on_host = 0;
    for (int64_t r = 0; r < d->size; r++) {
        peer *p = &l->peer[r];
        bool here = strcmp(p->host, me.host) == 0;
        p->seen = here && r != d->rank && is_alive(p->pid);
        d->on_host += here;
    }
    return FCT_OK;
}

fct_status fct_link_open(fct_dist *d)
{
    int level, rank, size;
    fct_launch launch;
    FCT_TRY(fct_launch_find(&launch));
    if (launch.ranks <= 1) return FCT_OK;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return fct_fail(FCT_ERR_INTERNAL, "MPI does not start");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    d->rank = rank;
    d->size = size;
    FCT_TRY(fct_new(&d->link, 1, sizeof *d->link));
    return find_peers(d);
}

static void pause_for(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

void fct_link_close(fct_dist *d)
{
    fct_dist_link *l = d->link;
    if (d->broken) {
        if (!fct_dist_speaks(d)) pause_for(SAID);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize();
    fct_free(l->peer);
    fct_free(l->request);
    fct_free(l);
}

/* ---- waiting ---- */

/* From here on the ranks are not together any more; the first one that lives says so. */
static fct_status break_off(fct_dist *d, int64_t lost)
{
    d->broken = true;
    d->speaker = lost == 0 ? 1 : 0;
    return FCT_ERR_IO;
}

static fct_status look_at_peers(fct_dist *d)
{
    const fct_dist_link *l = d->link;
    for (int64_t r = 0; r < d->size; r++) {
        const peer *p = &l->peer[r];
        if (!p->seen || is_alive(p->pid)) continue;
        break_off(d, r);
        return fct_fail(FCT_ERR_IO,
                        "rank %" PRId64 " (process %" PRId64 " on %s) was lost, and %" PRId64
                        " others need it: what was saved is whole; the same command, with --resume "
                        "for a training, goes on from there with any number of ranks",
                        r, p->pid, p->host, d->size - 1);
    }
    return FCT_OK;
}

/* A rank that failed on its own while this one waits for its data: it gets its own word back, and
   need not wait for another. */
static fct_status hear(fct_dist *d)
{
    MPI_Status from;
    int there = 0;
    fct_dist_link *l = d->link;
    fct_dist_word word;
    MPI_Request sent;
    if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_LAST, MPI_COMM_WORLD, &there, &from) != MPI_SUCCESS ||
        !there)
        return FCT_OK;
    if (MPI_Recv(&word, (int)sizeof word, MPI_BYTE, from.MPI_SOURCE, TAG_LAST, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE) != MPI_SUCCESS)
        return fct_fail(FCT_ERR_INTERNAL, "MPI: rank %d cannot be heard", from.MPI_SOURCE);
    if (word.status == FCT_OK) {
        word.status = FCT_ERR_INTERNAL;
        snprintf(word.text, sizeof word.text, "it ended while others waited for it");
    }
    l->word = word;
    if (MPI_Isend(&l->word, (int)sizeof word, MPI_BYTE, from.MPI_SOURCE, TAG_LAST, MPI_COMM_WORLD,
                  &sent) == MPI_SUCCESS)
        MPI_Request_free(&sent);
    break_off(d, -1);
    return fct_dist_heard(d, from.MPI_SOURCE, &word);
}

typedef struct watch {
    bool others;  /* hear their last words: those waited for are not these */
    double limit; /* seconds; 0: none */
} watch;

static fct_status look(fct_dist *d, const watch *w, double waited, double stopped)
{
    if (w->others) FCT_TRY(hear(d));
    FCT_TRY(look_at_peers(d));
    if (w->limit > 0 && waited > w->limit) {
        d->broken = true;
        d->speaker = d->rank;
        return FCT_ERR_STOPPED; /* the caller has the sentence */
    }
    if (stopped <= STOPPED) return FCT_OK;
    break_off(d, -1);
    return fct_fail(FCT_ERR_STOPPED, "told to end while other ranks did not answer");
}

static fct_status wait_for_all(fct_dist *d, const watch *w)
{
    fct_dist_link *l = d->link;
    double start = fct_seconds(), looked = start, stopped = 0;
    for (;;) {
        int done = 0;
        if (MPI_Testall(l->n, l->request, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
            break_off(d, -1);
            return fct_fail(FCT_ERR_IO, "MPI: a message between ranks was lost");
        }
        if (done) return FCT_OK;
        double now = fct_seconds();
        if (now - start < YIELD)
            sched_yield();
        else
            pause_for(2e-5);
        if (now - looked < LOOK) continue;
        looked = now;
        if (stopped == 0 && d->stop && *d->stop) stopped = now;
        FCT_TRY(look(d, w, now - start, stopped > 0 ? now - stopped : 0));
    }
}

/* ---- messages ---- */

static fct_status post(fct_dist *d, const fct_dist_piece *send, const fct_dist_piece *recv, int tag)
{
    fct_dist_link *l = d->link;
    int bad = 0;
    l->n = 0;
    for (int64_t i = 1; i < d->size; i++) { /* each begins with its neighbour: no rank is first */
        int r = (int)((d->rank + i) % d->size);
        if (recv[r].bytes > 0)
            bad |= MPI_Irecv(recv[r].data, (int)recv[r].bytes, MPI_BYTE, r, tag, MPI_COMM_WORLD,
                             &l->request[l->n++]);
    }
    for (int64_t i = 1; i < d->size; i++) {
        int r = (int)((d->rank + d->size - i) % d->size);
        if (send[r].bytes > 0)
            bad |= MPI_Isend(send[r].data, (int)send[r].bytes, MPI_BYTE, r, tag, MPI_COMM_WORLD,
                             &l->request[l->n++]);
    }
    if (bad == MPI_SUCCESS) return FCT_OK;
    break_off(d, -1);
    return fct_fail(FCT_ERR_IO, "MPI: a message cannot be sent");
}

static void copy_own(const fct_dist *d, const fct_dist_piece *send, const fct_dist_piece *recv)
{
    const fct_dist_piece *from = &send[d->rank], *to = &recv[d->rank];
    if (to->bytes > 0 && from->bytes == to->bytes && to->data != from->data)
        memcpy(to->data, from->data, (size_t)to->bytes);
}

fct_status fct_link_exchange(fct_dist *d, const fct_dist_piece *send, const fct_dist_piece *recv)
{
    if (d->broken) return fct_fail(FCT_ERR_INTERNAL, "the ranks are not together any more");
    FCT_TRY(post(d, send, recv, TAG));
    copy_own(d, send, recv);
    return wait_for_all(d, &(watch){.others = true});
}

fct_status fct_link_last_word(fct_dist *d, fct_status st, const void *mine, int64_t bytes,
                              void *all)
{
    fct_dist_piece *piece = NULL;
    void *own = NULL;
    fct_status told = fct_new(&piece, 2 * d->size, sizeof *piece);
    char text[1024];
    snprintf(text, sizeof text, "%s", st == FCT_OK ? "" : fct_error_text());
    if (told == FCT_OK) told = fct_new_raw(&own, bytes, 1);
    if (told == FCT_OK) {
        memcpy(own, mine, (size_t)bytes);
        for (int64_t r = 0; r < d->size; r++) {
            piece[r] = (fct_dist_piece){own, bytes};
            piece[d->size + r] = (fct_dist_piece){(uint8_t *)all + r * bytes, bytes};
        }
        told = post(d, piece, piece + d->size, TAG_LAST);
    }
    if (told == FCT_OK) {
        copy_own(d, piece, piece + d->size);
        told = wait_for_all(d, &(watch){.limit = st == FCT_OK ? 0 : LAST});
    }
    if (d->broken && told == FCT_ERR_STOPPED && st != FCT_OK)
        told = fct_fail(st, "rank %" PRId64 ": %s", d->rank, text);
    if (d->broken) return told; /* messages may still be on their way: their memory stays */
    fct_free(piece);
    fct_free(own);
    return told;
}

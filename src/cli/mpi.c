/* mpi.c - carries messages between ranks over MPI, to and from all others at once, with a wait that
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

#include "base/base.h"
#include "cli/link.h"

enum { TAG = 1, TAG_LAST = 2, HOST = 64 };
/* Seconds: yielding the core, then sleeping; between two looks at the others; for the others'
   last words after a failure here, and for those that say the failure; for them after a stop. */
static const double YIELD = 0.002, LOOK = 0.1, LAST = 3, SAID = 2, STOPPED = 20;

typedef struct peer {
    int64_t pid;
    char host[HOST];
    bool seen; /* on this machine, by its process number */
} peer;

typedef struct ranks {
    int64_t rank, size;
    peer *peer;           /* [size] */
    MPI_Request *request; /* [2 * size] */
    int n;
    fct_link_word word;   /* being sent */
    fct_link_piece *last; /* [2 * size]: last words on their way */
    const volatile int *stop;
} ranks;

const char *fct_cli_link_library(void)
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

/* Who the others are, and how many of all are on this machine. */
static fct_status find_peers(ranks *l, int64_t *on_host)
{
    peer me = {.pid = getpid()};
    FCT_TRY(fct_new(&l->peer, l->size, sizeof *l->peer));
    FCT_TRY(fct_new(&l->request, 2 * l->size, sizeof *l->request));
    FCT_TRY(fct_new(&l->last, 2 * l->size, sizeof *l->last));
    if (gethostname(me.host, HOST - 1) != 0) me.host[0] = '\0';
    if (MPI_Allgather(&me, (int)sizeof me, MPI_BYTE, l->peer, (int)sizeof me, MPI_BYTE,
                      MPI_COMM_WORLD) != MPI_SUCCESS)
        return fct_fail(FCT_ERR_INTERNAL, "MPI: the ranks cannot reach each other");
    *on_host = 0;
    for (int64_t r = 0; r < l->size; r++) {
        peer *p = &l->peer[r];
        bool here = strcmp(p->host, me.host) == 0;
        p->seen = here && r != l->rank && is_alive(p->pid);
        *on_host += here;
    }
    return FCT_OK;
}

static void pause_for(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

static void close_link(void *self, bool broken, bool speaks)
{
    ranks *l = self;
    if (broken) {
        if (!speaks) pause_for(SAID);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize();
    fct_free(l->peer);
    fct_free(l->request);
    fct_free(l->last);
    fct_free(l);
}

/* ---- waiting ---- */

static fct_status look_at_peers(const ranks *l, fct_link_break *why)
{
    for (int64_t r = 0; r < l->size; r++) {
        const peer *p = &l->peer[r];
        if (!p->seen || is_alive(p->pid)) continue;
        why->speaker = r == 0 ? 1 : 0;
        return fct_fail(FCT_ERR_IO,
                        "rank %" PRId64 " (process %" PRId64 " on %s) was lost, and %" PRId64
                        " others need it: what was saved is whole; the same command, with --resume "
                        "for a training, goes on from there with any number of ranks",
                        r, p->pid, p->host, l->size - 1);
    }
    return FCT_OK;
}

/* A rank that failed on its own while this one waits for its data: it gets its own word back, and
   need not wait for another. */
static fct_status hear(ranks *l, fct_link_break *why)
{
    MPI_Status from;
    int there = 0;
    fct_link_word word;
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
    why->from = from.MPI_SOURCE;
    why->word = word;
    return fct_fail(FCT_ERR_IO, "%s", word.text);
}

typedef struct watch {
    bool others;  /* hear their last words: those waited for are not these */
    double limit; /* seconds; 0: none */
} watch;

static fct_status look(ranks *l, const watch *w, double waited, double stopped, fct_link_break *why)
{
    if (w->others) FCT_TRY(hear(l, why));
    FCT_TRY(look_at_peers(l, why));
    if (w->limit > 0 && waited > w->limit) {
        why->speaker = l->rank;
        return FCT_ERR_STOPPED; /* the caller has the sentence */
    }
    if (stopped <= STOPPED) return FCT_OK;
    return fct_fail(FCT_ERR_STOPPED, "told to end while other ranks did not answer");
}

static fct_status wait_for_all(ranks *l, const watch *w, fct_link_break *why)
{
    double start = fct_seconds(), looked = start, stopped = 0;
    for (;;) {
        int done = 0;
        if (MPI_Testall(l->n, l->request, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
            return fct_fail(FCT_ERR_IO, "MPI: a message between ranks was lost");
        if (done) return FCT_OK;
        double now = fct_seconds();
        if (now - start < YIELD)
            sched_yield();
        else
            pause_for(2e-5);
        if (now - looked < LOOK) continue;
        looked = now;
        if (stopped == 0 && l->stop && FCT_READ_FLAG(l->stop)) stopped = now;
        FCT_TRY(look(l, w, now - start, stopped > 0 ? now - stopped : 0, why));
    }
}

/* ---- messages ---- */

static fct_status post(ranks *l, const fct_link_piece *send, const fct_link_piece *recv, int tag)
{
    int bad = 0;
    l->n = 0;
    for (int64_t i = 1; i < l->size; i++) { /* each begins with its neighbour: no rank is first */
        int r = (int)((l->rank + i) % l->size);
        if (recv[r].bytes > 0)
            bad |= MPI_Irecv(recv[r].data, (int)recv[r].bytes, MPI_BYTE, r, tag, MPI_COMM_WORLD,
                             &l->request[l->n++]);
    }
    for (int64_t i = 1; i < l->size; i++) {
        int r = (int)((l->rank + l->size - i) % l->size);
        if (send[r].bytes > 0)
            bad |= MPI_Isend(send[r].data, (int)send[r].bytes, MPI_BYTE, r, tag, MPI_COMM_WORLD,
                             &l->request[l->n++]);
    }
    if (bad == MPI_SUCCESS) return FCT_OK;
    return fct_fail(FCT_ERR_IO, "MPI: a message cannot be sent");
}

static fct_status exchange(void *self, const fct_link_piece *send, const fct_link_piece *recv,
                           fct_link_break *why)
{
    ranks *l = self;
    FCT_TRY(post(l, send, recv, TAG));
    return wait_for_all(l, &(watch){.others = true}, why);
}

static fct_status finish(void *self, bool failed, const fct_link_word *mine, fct_link_word *all,
                         fct_link_break *why)
{
    ranks *l = self;
    int64_t bytes = sizeof *mine;
    l->word = *mine;
    for (int64_t r = 0; r < l->size; r++) {
        l->last[r] = (fct_link_piece){&l->word, bytes};
        l->last[l->size + r] = (fct_link_piece){&all[r], bytes};
    }
    FCT_TRY(post(l, l->last, l->last + l->size, TAG_LAST));
    return wait_for_all(l, &(watch){.limit = failed ? LAST : 0}, why);
}

/* ---- opening ---- */

fct_status fct_cli_link_open(fct_link *out, const volatile int *stop)
{
    int level, rank, size;
    fct_launch launch;
    ranks *l = NULL;
    *out = (fct_link){.size = 1, .on_host = 1};
    FCT_TRY(fct_launch_find(&launch));
    if (launch.ranks <= 1) return FCT_OK;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return fct_fail(FCT_ERR_INTERNAL, "MPI does not start");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    FCT_TRY(fct_new(&l, 1, sizeof *l));
    *l = (ranks){.rank = rank, .size = size, .stop = stop};
    fct_status st = find_peers(l, &out->on_host);
    if (st != FCT_OK) {
        close_link(l, false, true);
        return st;
    }
    *out = (fct_link){.self = l,
                      .rank = rank,
                      .size = size,
                      .on_host = out->on_host,
                      .exchange = exchange,
                      .finish = finish,
                      .close = close_link};
    return FCT_OK;
}

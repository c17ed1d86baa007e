/* prefetch.c - keeps groups of runs in memory: a thread of its own fills one buffer with the next
   group while the rows of the other are given out.

   The queue is as long as one group, so memory is bounded by two mixing buffers. What comes when is
   order.c's affair and does not depend on time: any place is found again by filling its group anew.
   Errors cross the threads as a status and its sentence; whoever asks for the group gets them. */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "store/stream.h"

static const double TELL_EVERY = 10; /* seconds */

typedef enum state { EMPTY, WANTED, FULL, FAILED } state;

typedef struct buffer {
    state state;
    bool busy, cancel; /* somebody fills it now, and should leave off */
    int64_t pass, group;
    int64_t *run, n_runs; /* the group's runs */
    int64_t n_loaded;     /* of them, so far */
    int64_t *first;       /* [all runs]: where each lies in the shards; of others: not said */
    fct_shard *shard;     /* [n_parts] */
    fct_status status;
    char text[1024]; /* why it failed */
} buffer;

struct fct_prefetch {
    const fct_run_loader *loader;
    const fct_order *order;
    buffer buffer[2];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool has_lock, has_change, has_thread, overlap, quit;
    int threads; /* OpenMP's number is a thread's own: the worker's is the opener's */
};

static fct_status load_runs(fct_prefetch *p, buffer *b)
{
    int64_t at = 0;
    for (int64_t i = 0; i < b->n_runs; i++) {
        pthread_mutex_lock(&p->lock);
        bool leave = p->quit || b->cancel;
        b->n_loaded = i;
        pthread_mutex_unlock(&p->lock);
        if (leave) return fct_fail(FCT_ERR_STOPPED, "stopped");
        b->first[b->run[i]] = at;
        FCT_TRY(p->loader->load(p->loader->self, b->run[i], b->shard, at));
        at += fct_order_run_rows(p->order, b->run[i]);
    }
    return FCT_OK;
}

/* With the lock, which is open while the runs are loaded: only `busy` keeps others off the
   buffer. */
static void fill(fct_prefetch *p, buffer *b)
{
    b->busy = true;
    pthread_mutex_unlock(&p->lock);
    fct_status st = load_runs(p, b);
    pthread_mutex_lock(&p->lock);
    b->busy = false;
    b->state = st == FCT_OK ? FULL : FAILED;
    b->status = st;
    snprintf(b->text, sizeof b->text, "%s", st == FCT_OK ? "" : fct_error_text());
    pthread_cond_broadcast(&p->change);
}

static void *work(void *user)
{
    fct_prefetch *p = user;
    fct_threads_set(p->threads);
    pthread_mutex_lock(&p->lock);
    while (!p->quit) {
        buffer *b = p->buffer[0].state == WANTED   ? &p->buffer[0]
                    : p->buffer[1].state == WANTED ? &p->buffer[1]
                                                   : NULL;
        if (b)
            fill(p, b);
        else
            pthread_cond_wait(&p->change, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* With the lock: asks for a group of the current pass. A buffer that is being filled with another
   is waited for; its filling ends at the next run. */
static void ask(fct_prefetch *p, buffer *b, int64_t group)
{
    const int64_t *runs;
    b->cancel = true;
    while (b->busy) pthread_cond_wait(&p->change, &p->lock);
    b->cancel = false;
    b->pass = p->order->pass;
    b->group = group;
    b->n_runs = fct_order_group_runs(p->order, group, &runs);
    for (int64_t i = 0; i < b->n_runs; i++) b->run[i] = runs[i];
    b->n_loaded = 0;
    b->state = WANTED;
    pthread_cond_broadcast(&p->change);
}

/* With the lock, until the worker has filled the buffer. A model takes its time for it: whoever
   waits is told, or would take it for a hang. Not as progress, which is the training's. */
static void wait_for(fct_prefetch *p, buffer *b)
{
    double told = fct_seconds();
    while (b->state == WANTED) {
        struct timespec until;
        (void)timespec_get(&until, TIME_UTC);
        until.tv_sec++;
        (void)pthread_cond_timedwait(&p->change, &p->lock, &until);
        if (b->state != WANTED || fct_seconds() - told < TELL_EVERY) continue;
        told = fct_seconds();
        int64_t loaded = b->n_loaded, runs = b->n_runs;
        pthread_mutex_unlock(&p->lock); /* the caller's log may take its time */
        fct_log_line(p->loader->log, FCT_LOG_INFO,
                     "rows are being made: %lld of %lld batches of prompts", (long long)loaded,
                     (long long)runs);
        pthread_mutex_lock(&p->lock);
    }
}

static buffer *find_buffer(fct_prefetch *p, int64_t group)
{
    for (int i = 0; i < 2; i++) {
        buffer *b = &p->buffer[i];
        if (b->state != EMPTY && b->state != FAILED && b->pass == p->order->pass &&
            b->group == group)
            return b;
    }
    return NULL;
}

fct_status fct_prefetch_group(fct_prefetch *p, const fct_shard **shard, const int64_t **first)
{
    const int64_t *runs;
    int64_t group = p->order->group;
    fct_status st = FCT_OK;
    pthread_mutex_lock(&p->lock);
    buffer *b = find_buffer(p, group);
    if (!b) {
        buffer *next = find_buffer(p, group + 1);
        b = next == &p->buffer[0] && p->overlap ? &p->buffer[1] : &p->buffer[0];
        ask(p, b, group);
    }
    if (!p->overlap && b->state == WANTED) fill(p, b);
    wait_for(p, b);
    if (b->state == FULL && p->overlap && fct_order_group_runs(p->order, group + 1, &runs) > 0 &&
        !find_buffer(p, group + 1))
        ask(p, b == &p->buffer[0] ? &p->buffer[1] : &p->buffer[0], group + 1);
    if (b->state != FULL) st = fct_fail(b->status, "%s", b->text);
    pthread_mutex_unlock(&p->lock);
    if (p->loader->tell) p->loader->tell(p->loader->self);
    *shard = b->shard;
    *first = b->first;
    return st;
}

void fct_prefetch_close(fct_prefetch *p)
{
    if (!p) return;
    if (p->has_thread) {
        pthread_mutex_lock(&p->lock);
        p->quit = true;
        pthread_cond_broadcast(&p->change);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    if (p->has_change) pthread_cond_destroy(&p->change);
    if (p->has_lock) pthread_mutex_destroy(&p->lock);
    for (int i = 0; i < 2; i++) {
        buffer *b = &p->buffer[i];
        for (int64_t k = 0; b->shard && k < p->loader->n_parts; k++) fct_shard_clear(&b->shard[k]);
        fct_free(b->shard);
        fct_free(b->run);
        fct_free(b->first);
    }
    fct_free(p);
}

static fct_status take_memory(fct_prefetch *p)
{
    const fct_order *order = p->order;
    int n = p->overlap && order->runs_per_group < order->n_runs ? 2 : 1;
    for (int i = 0; i < n; i++) {
        buffer *b = &p->buffer[i];
        FCT_TRY(fct_new(&b->run, order->runs_per_group, sizeof *b->run));
        FCT_TRY(fct_new(&b->first, order->n_runs, sizeof *b->first));
        FCT_TRY(fct_new(&b->shard, p->loader->n_parts, sizeof *b->shard));
        for (int64_t k = 0; k < p->loader->n_parts; k++)
            FCT_TRY(fct_shard_init(&b->shard[k], p->loader->dtype, p->loader->part[k].d,
                                   order->group_cap, false));
    }
    return FCT_OK;
}

static fct_status start_thread(fct_prefetch *p)
{
    p->has_lock = pthread_mutex_init(&p->lock, NULL) == 0;
    p->has_change = pthread_cond_init(&p->change, NULL) == 0;
    if (!p->has_lock || !p->has_change) return fct_fail(FCT_ERR_INTERNAL, "no lock for a thread");
    if (!p->overlap) return FCT_OK;
    p->threads = fct_threads();
    p->has_thread = pthread_create(&p->thread, NULL, work, p) == 0;
    return p->has_thread ? FCT_OK : fct_fail(FCT_ERR_MEMORY, "no thread to make rows on");
}

fct_status fct_prefetch_open(fct_prefetch **out, const fct_run_loader *loader,
                             const fct_order *order, bool overlap)
{
    fct_prefetch *p = NULL;
    fct_status st = FCT_OK;
    *out = NULL;
    FCT_TRY(fct_new(&p, 1, sizeof *p));
    p->loader = loader;
    p->order = order;
    p->overlap = overlap;
    FCT_TRY_OUT(take_memory(p));
    FCT_TRY_OUT(start_thread(p));
    *out = p;
    p = NULL;
out:
    fct_prefetch_close(p);
    return st;
}

/* demo_hands.c - the threads that draw the demo's pictures, one picture each at a time.

   A picture of the demo model is too small to be shared well by threads, and there are two thousand
   of them: each hand has a model, a checker and SAEs of its own, and computes with one thread. So
   pictures are the same however many hands there are. */
#include <string.h>

#include "cli/demo.h"

enum { MOST_HANDS = 8 }; /* about 100 MB each */

static fct_status open_hand(demo_hand *h)
{
    const demo *d = h->d;
    char *path = NULL;
    fct_model_desc desc = {
        .path = d->info->path, .backend = d->info->backend, .precision = FCT_PRECISION_F32};
    FCT_TRY(fct_model_open(&h->model, &desc));
    FCT_TRY(fct_session_open(&h->session, h->model, NULL));
    if (strcmp(fct_model_get_info(h->model)->hash, d->info->hash) != 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: the model changed while the demo ran; start it again",
                        d->info->path);
    FCT_TRY(fct_path_join(&path, d->info->path, "checker"));
    fct_status st = fct_checker_load(&h->checker, path, d->info->backend);
    fct_free(path);
    return st;
}

/* The SAEs of `from`, read again from where they lie: a set goes with one model. */
static fct_status open_set(demo_hand *h, fct_sae_set *set, const fct_sae_set *from)
{
    for (int64_t i = set->n; i < from->n; i++) {
        char *text = NULL;
        FCT_TRY(
            fct_format(&text, "%s=%s", from->bound[i].short_name, from->bound[i].sae->path));
        fct_status st = fct_sae_set_add(set, fct_model_get_info(h->model), text);
        fct_free(text);
        FCT_TRY(st);
    }
    return FCT_OK;
}

typedef struct shared {
    demo *d;
    demo_job job;
    void *self;
} shared;

/* A hand opens what it needs on its own thread: plans are made for a number of threads. */
static fct_status do_job(void *self, int hand, int64_t i)
{
    const shared *s = self;
    demo_hand *h = &s->d->hand[hand];
    FCT_TRY(fct_log_check_stop(s->d->log));
    if (!h->checker) FCT_TRY(open_hand(h));
    FCT_TRY(open_set(h, &h->saes, &s->d->saes));
    FCT_TRY(open_set(h, &h->controls, &s->d->controls));
    return s->job(h, s->self, i);
}

fct_status demo_share(demo *d, const char *what, int64_t n, demo_job job, void *self)
{
    if (!d->hand) {
        int threads = fct_threads();
        int n_hands = threads < MOST_HANDS ? threads : MOST_HANDS;
        FCT_TRY(fct_new(&d->hand, n_hands, sizeof *d->hand));
        d->n_hands = n_hands;
        for (int i = 0; i < d->n_hands; i++) d->hand[i].d = d;
    }
    shared s = {d, job, self};
    return fct_share(&(fct_share_desc){
        .n = n, .hands = d->n_hands, .job = do_job, .self = &s, .log = d->log, .what = what});
}

void demo_hands_close(demo *d)
{
    for (int i = 0; i < d->n_hands; i++) {
        demo_hand *h = &d->hand[i];
        fct_sae_set_clear(&h->saes);
        fct_sae_set_clear(&h->controls);
        fct_checker_free(h->checker);
        fct_session_close(h->session);
        fct_model_close(h->model);
    }
    fct_free(d->hand);
}

int64_t demo_runs(const demo *d)
{
    int64_t n = 0;
    for (int i = 0; i < d->n_hands; i++) n += d->hand[i].runs;
    return n;
}

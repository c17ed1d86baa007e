/* relay.c - hands messages of one thread to the log of another. A log's callbacks run on the thread
   that called facet, so what a thread of facet's own has to say waits here until that caller's
   thread asks for it. Progress is not passed on: it is the caller's own work that is shown. */
#include <pthread.h>

#include "base/base.h"

typedef struct waiting {
    fct_log_level level;
    char *text;
} waiting;

struct fct_relay {
    const fct_log *to;
    fct_log log;
    pthread_mutex_t lock;
    waiting *line;
    int64_t n;
};

/* Memory that runs out here loses a message, never the work. */
static void keep_line(void *user, fct_log_level level, const char *text)
{
    fct_relay *r = user;
    char *copy = NULL;
    if (fct_strdup(&copy, text) != FCT_OK) return;
    pthread_mutex_lock(&r->lock);
    if (fct_grow(&r->line, r->n, r->n + 1, (int64_t)sizeof *r->line) == FCT_OK)
        r->line[r->n++] = (waiting){level, copy};
    else
        fct_free(copy);
    pthread_mutex_unlock(&r->lock);
}

fct_status fct_relay_open(fct_relay **out, const fct_log *to)
{
    fct_relay *r;
    *out = NULL;
    FCT_TRY(fct_new(&r, 1, (int64_t)sizeof *r));
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        fct_free(r);
        return fct_fail(FCT_ERR_INTERNAL, "no lock for messages");
    }
    r->to = to;
    r->log = (fct_log){.user = r, .line = keep_line, .stop = to ? to->stop : NULL};
    *out = r;
    return FCT_OK;
}

const fct_log *fct_relay_log(const fct_relay *r)
{
    return &r->log;
}

void fct_relay_tell(fct_relay *r)
{
    pthread_mutex_lock(&r->lock);
    waiting *line = r->line;
    int64_t n = r->n;
    r->line = NULL;
    r->n = 0;
    pthread_mutex_unlock(&r->lock);
    for (int64_t i = 0; i < n; i++) {
        fct_log_line(r->to, line[i].level, "%s", line[i].text);
        fct_free(line[i].text);
    }
    fct_free(line);
}

void fct_relay_close(fct_relay *r)
{
    if (!r) return;
    fct_relay_tell(r);
    pthread_mutex_destroy(&r->lock);
    fct_free(r);
}

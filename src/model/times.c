/* times.c - times the stages of a run, and lists the plans that a session has made: where its time
   goes, and on what. */
#include "model/run.h"

static void add(fct_times *t, const char *name, double seconds)
{
    int64_t i = 0;
    while (i < t->n && t->stage[i].name != name) i++;
    if (i == t->n) { /* without memory a stage goes uncounted: times are no result */
        if (fct_grow(&t->stage, t->n, t->n + 1, sizeof *t->stage) != FCT_OK) return;
        t->stage[t->n++].name = name;
    }
    t->stage[i].calls++;
    t->stage[i].seconds += seconds;
}

static void tick(void *user, const char *stage, double seconds)
{
    add(user, stage, seconds);
}

fct_status fct_session_time(fct_session *s, const fct_run_desc *desc, fct_times *out,
                            fct_run_result *result)
{
    fct_run_result own = {0};
    *out = (fct_times){0};
    s->clock = (fct_clock){tick, out};
    fct_status st = fct_session_run(s, desc, result ? result : &own);
    s->clock = (fct_clock){0};
    out->seconds = s->pass_seconds;
    fct_run_result_clear(&own);
    return st;
}

void fct_times_clear(fct_times *t)
{
    fct_free(t->stage);
    *t = (fct_times){0};
}

fct_status fct_session_plans(const fct_session *s, fct_plan_row **out, int64_t *out_n)
{
    const fct_backend *be = s->cx.be;
    *out = NULL;
    *out_n = be->plans_list ? be->plans_list(s->cx.plans, NULL, 0) : 0;
    FCT_TRY(fct_new(out, *out_n, sizeof **out));
    if (*out_n > 0) *out_n = be->plans_list(s->cx.plans, *out, *out_n);
    return FCT_OK;
}

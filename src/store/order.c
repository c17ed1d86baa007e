/* order.c - decides the order in which rows are given out: every row once a pass, each pass in an
   order of its own that follows from the seed and the pass alone.

   Rows lie in runs of neighbours (64 rows of a store, a batch of prompts, a sample of a tar). A
   shuffled pass permutes all runs and cuts them into groups as large as the mixing buffer; within a
   group the rows come in a uniformly random order. So a batch mixes rows of as many runs, from all
   over the data, as the buffer holds, memory is bounded, and every place of a pass is found again
   from its number alone: telling and seeking need no more. When everything fits the buffer there is
   one group, and the order is a uniform permutation. */
#include "store/store.h"

static void seed_rng(fct_rng *r, uint64_t seed, int64_t pass, int64_t group)
{
    uint64_t x = seed + 0x9e3779b97f4a7c15u * (uint64_t)(pass + 1) +
                 0xd1b54a32d192ed03u * (uint64_t)(group + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u; /* splitmix64's mixer */
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    fct_rng_init(r, x ^ (x >> 31));
}

static void shuffle(int64_t *p, int64_t n, fct_rng *r)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = fct_rng_below(r, i + 1), t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
}

fct_status fct_order_init(fct_order *out, const fct_order_desc *desc)
{
    *out = (fct_order){.desc = *desc, .group = -1};
    if (desc->run_first)
        out->n_runs = desc->n_runs;
    else
        out->n_runs = desc->run_rows > 0 ? (desc->n + desc->run_rows - 1) / desc->run_rows : 0;
    if (!desc->whole_runs && !desc->shuffled) return FCT_OK; /* a place is its own row */
    if (!desc->whole_runs && desc->n <= desc->buffer_rows) return FCT_OK;
    int64_t widest = desc->run_rows;
    for (int64_t i = 0; desc->run_first && i < out->n_runs; i++)
        if (fct_order_run_rows(out, i) > widest) widest = fct_order_run_rows(out, i);
    out->runs_per_group = widest > 0 ? desc->buffer_rows / widest : 1;
    int64_t least = desc->whole_runs ? 1 : 2;
    if (out->runs_per_group < least) out->runs_per_group = least;
    if (desc->whole_runs && out->runs_per_group > out->n_runs) out->runs_per_group = out->n_runs;
    out->group_cap = out->runs_per_group * widest;
    return fct_new(&out->run, out->n_runs, sizeof *out->run);
}

void fct_order_clear(fct_order *o)
{
    fct_free(o->run);
    fct_free(o->row);
    *o = (fct_order){0};
}

int64_t fct_order_run_first(const fct_order *o, int64_t run)
{
    return o->desc.run_first ? o->desc.run_first[run] : run * o->desc.run_rows;
}

int64_t fct_order_run_rows(const fct_order *o, int64_t run)
{
    int64_t first = fct_order_run_first(o, run),
            end = run + 1 < o->n_runs ? fct_order_run_first(o, run + 1) : o->desc.n;
    return end - first;
}

void fct_order_start(fct_order *o, int64_t pass)
{
    fct_rng r;
    o->pass = pass;
    o->group = -1;
    o->group_first = o->group_rows = 0;
    for (int64_t i = 0; o->run && i < o->n_runs; i++) o->run[i] = i;
    if (!o->run || !o->desc.shuffled) return;
    seed_rng(&r, o->desc.seed, pass, -1);
    shuffle(o->run, o->n_runs, &r);
}

int64_t fct_order_group_runs(const fct_order *o, int64_t group, const int64_t **runs)
{
    int64_t lo = group * o->runs_per_group, left = o->n_runs - lo;
    if (!o->run || left <= 0) return 0;
    *runs = o->run + lo;
    return left < o->runs_per_group ? left : o->runs_per_group;
}

/* The rows of group number `group`, whose first is number `first` of the pass, in their order. */
static fct_status load_group(fct_order *o, int64_t group, int64_t first)
{
    fct_rng r;
    int64_t n = 0;
    const int64_t *runs;
    if (!o->row)
        FCT_TRY(
            fct_new_raw(&o->row, o->runs_per_group > 0 ? o->group_cap : o->desc.n, sizeof *o->row));
    if (o->runs_per_group == 0)
        for (; n < o->desc.n; n++) o->row[n] = n;
    int64_t n_runs = fct_order_group_runs(o, group, &runs);
    for (int64_t i = 0; i < n_runs; i++) {
        int64_t rows = fct_order_run_rows(o, runs[i]), at = fct_order_run_first(o, runs[i]);
        for (int64_t k = 0; k < rows; k++) o->row[n++] = at + k;
    }
    if (o->desc.shuffled) {
        seed_rng(&r, o->desc.seed, o->pass, group);
        shuffle(o->row, n, &r);
    }
    o->group = group;
    o->group_first = first;
    o->group_rows = n;
    return FCT_OK;
}

/* Groups before the wanted one are counted, not loaded. */
fct_status fct_order_find(fct_order *o, int64_t at, int64_t *out_row)
{
    if (!o->desc.whole_runs && !o->desc.shuffled) {
        *out_row = at;
        return FCT_OK;
    }
    bool here = o->group >= 0 && at >= o->group_first && at < o->group_first + o->group_rows;
    if (!here && o->runs_per_group == 0) FCT_TRY(load_group(o, 0, 0));
    int64_t group = 0, first = 0;
    if (o->group >= 0 && at >= o->group_first) { /* onwards from here */
        group = o->group;
        first = o->group_first;
    }
    for (; !here && o->runs_per_group > 0; group++) {
        const int64_t *runs;
        int64_t rows = 0, n = fct_order_group_runs(o, group, &runs);
        if (n == 0)
            return fct_fail(FCT_ERR_RANGE, "row %lld of a pass of %lld", (long long)at,
                            (long long)o->desc.n);
        for (int64_t i = 0; i < n; i++) rows += fct_order_run_rows(o, runs[i]);
        if (at < first + rows) {
            FCT_TRY(load_group(o, group, first));
            break;
        }
        first += rows;
    }
    *out_row = o->row[at - o->group_first];
    return FCT_OK;
}

/* rows.c - rows of a store, or of memory, as a source for training: in order or shuffled, every row
   once a pass.

   A shuffled pass is cut into groups; within a group the rows come in a uniformly random order.
   When all rows fit into memory_bytes there is one group, so the order is a uniform permutation.
   Else a group is as many runs of 256 neighbouring rows as fit, the runs drawn at random from the
   whole store; its pages are read through once, then rows are picked from them. Everything is a
   function of the options and the place, never of the machine, so telling and seeking is a matter
   of three numbers. */
#include <string.h>

#include "store/store.h"

enum { RUN = 256, SAMPLED_ROWS = 64 };
static const int64_t memory_default = (int64_t)4 << 30;

typedef struct source {
    const fct_store *store; /* NULL: memory */
    int64_t block;
    const float *memory; /* [first + n, D] */
    int64_t d, first, n;
    fct_dtype dtype;
    bool shuffled;
    uint64_t seed;
    int64_t runs_per_group; /* 0: one group, all rows */
    int64_t pass, at;       /* rows given out in this pass */
    int64_t n_runs, *run;   /* the pass's order of runs */
    int64_t group, group_first,
        group_rows; /* the group whose order is in `order`; group -1: none */
    int64_t *order;
    float *out;
    int64_t out_rows;
    fct_str description;
} source;

static void source_close(void *self)
{
    source *s = self;
    if (!s) return;
    fct_free(s->run);
    fct_free(s->order);
    fct_free(s->out);
    fct_str_clear(&s->description);
    fct_free(s);
}

/* ---- the order of a pass ---- */

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

static int64_t run_rows(const source *s, int64_t run)
{
    return s->n - run * RUN < RUN ? s->n - run * RUN : RUN;
}

static fct_status start_pass(source *s, int64_t pass)
{
    s->pass = pass;
    s->at = 0;
    s->group = -1;
    s->group_first = s->group_rows = 0;
    if (!s->shuffled || s->runs_per_group == 0) return FCT_OK;
    fct_rng r;
    s->n_runs = (s->n + RUN - 1) / RUN;
    if (!s->run) FCT_TRY(fct_new(&s->run, s->n_runs, sizeof *s->run));
    for (int64_t i = 0; i < s->n_runs; i++) s->run[i] = i;
    seed_rng(&r, s->seed, pass, -1);
    shuffle(s->run, s->n_runs, &r);
    return FCT_OK;
}

/* One byte a page, in the order of the disk, before rows are picked at random. */
static fct_status touch(const source *s, int64_t row, int64_t n)
{
    int64_t bytes = s->d * fct_dtype_bytes(s->dtype);
    volatile uint8_t sum = 0;
    for (int64_t i = 0; s->store && i < n; i++) {
        const void *p;
        FCT_TRY(fct_store_row(&p, s->store, s->block, s->first + row + i));
        for (int64_t b = 0; b < bytes; b += 4096) sum = (uint8_t)(sum + ((const uint8_t *)p)[b]);
    }
    return FCT_OK;
}

/* The order of group number `group`, whose first row is number `first` of the pass. */
static fct_status load_group(source *s, int64_t group, int64_t first)
{
    fct_rng r;
    int64_t n = 0, lo = group * s->runs_per_group, hi = lo + s->runs_per_group;
    if (s->runs_per_group == 0) {
        if (!s->order) FCT_TRY(fct_new_raw(&s->order, s->n, sizeof *s->order));
        for (n = 0; n < s->n; n++) s->order[n] = n;
    } else {
        if (hi > s->n_runs) hi = s->n_runs;
        if (!s->order) FCT_TRY(fct_new_raw(&s->order, s->runs_per_group * RUN, sizeof *s->order));
        for (int64_t i = lo; i < hi; i++) {
            int64_t rows = run_rows(s, s->run[i]);
            FCT_TRY(touch(s, s->run[i] * RUN, rows));
            for (int64_t k = 0; k < rows; k++) s->order[n++] = s->run[i] * RUN + k;
        }
    }
    seed_rng(&r, s->seed, s->pass, group);
    shuffle(s->order, n, &r);
    s->group = group;
    s->group_first = first;
    s->group_rows = n;
    return FCT_OK;
}

/* The group that holds place s->at; groups before it are counted, not loaded. */
static fct_status find_group(source *s)
{
    int64_t group = s->group, first = s->group_first;
    if (group >= 0 && s->at >= first && s->at < first + s->group_rows) return FCT_OK;
    if (s->runs_per_group == 0) return load_group(s, 0, 0);
    group = first = 0;
    for (;; group++) {
        int64_t rows = 0;
        for (int64_t i = group * s->runs_per_group;
             i < s->n_runs && i < (group + 1) * s->runs_per_group; i++)
            rows += run_rows(s, s->run[i]);
        if (s->at < first + rows) return load_group(s, group, first);
        first += rows;
    }
}

/* ---- rows ---- */

static fct_status copy_row(const source *s, int64_t row, float *out)
{
    const void *p;
    if (s->memory) {
        memcpy(out, s->memory + (s->first + row) * s->d, (size_t)s->d * sizeof *out);
        return FCT_OK;
    }
    FCT_TRY(fct_store_row(&p, s->store, s->block, s->first + row));
    return fct_convert(out, FCT_F32, p, s->dtype, s->d);
}

static fct_status source_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    source *s = self;
    int64_t give = s->n - s->at < want ? s->n - s->at : want;
    *n = 0;
    if (give <= 0) return FCT_OK;
    if (s->memory && !s->shuffled) {
        *rows = s->memory + (s->first + s->at) * s->d;
        s->at += give;
        *n = give;
        return FCT_OK;
    }
    if (give > s->out_rows) {
        fct_free(s->out);
        s->out = NULL;
        s->out_rows = 0;
        int64_t numbers;
        FCT_TRY(fct_mul_i64(&numbers, give, s->d));
        FCT_TRY(fct_new_raw(&s->out, numbers, sizeof *s->out));
        s->out_rows = give;
    }
    if (!s->shuffled)
        FCT_TRY(fct_store_read(s->store, s->block, s->first + s->at, give, s->out, NULL));
    for (int64_t i = 0; s->shuffled && i < give; i++, s->at++) {
        fct_status st = find_group(s);
        if (st == FCT_OK) st = copy_row(s, s->order[s->at - s->group_first], s->out + i * s->d);
        if (st != FCT_OK) return st;
    }
    if (!s->shuffled) s->at += give;
    *rows = s->out;
    *n = give;
    return FCT_OK;
}

static fct_status source_tell(void *self, uint8_t blob[64])
{
    const source *s = self;
    const int64_t place[4] = {s->pass, s->at, s->runs_per_group, s->n};
    memset(blob, 0, 64);
    memcpy(blob, place, sizeof place);
    return FCT_OK;
}

static fct_status source_seek(void *self, const uint8_t blob[64])
{
    source *s = self;
    int64_t place[4];
    memcpy(place, blob, sizeof place);
    if (place[0] < 0 || place[1] < 0 || place[1] > s->n || place[2] < 0 || place[3] != s->n)
        return fct_fail(
            FCT_ERR_FORMAT,
            "the place to continue at is of other rows: %lld of %lld rows were read, here are %lld",
            (long long)place[1], (long long)place[3], (long long)s->n);
    if (place[2] != s->runs_per_group)
        return fct_fail(FCT_ERR_FORMAT,
                        "the place to continue at is of rows shuffled in groups of %lld, here are "
                        "groups of %lld (0: all rows): memory_bytes must be the same",
                        (long long)(place[2] * RUN), (long long)(s->runs_per_group * RUN));
    FCT_TRY(start_pass(s, place[0]));
    s->at = place[1];
    return FCT_OK;
}

static fct_status source_rewind(void *self, int64_t pass)
{
    return start_pass(self, pass);
}

/* ---- what the rows are ---- */

/* A hash of rows from all over the part that is read: imports say nothing else of their content. */
static fct_status hash_sample(const source *s, char out[65])
{
    fct_sha256 hash;
    float *row = NULL;
    fct_status st = FCT_OK;
    int64_t n = s->n < SAMPLED_ROWS ? s->n : SAMPLED_ROWS;
    fct_sha256_init(&hash);
    FCT_TRY(fct_new_raw(&row, s->d, sizeof *row));
    for (int64_t i = 0; i < n && st == FCT_OK; i++) { /* the last one is among them */
        st = copy_row(s, i + 1 < n ? i * (s->n / n) : s->n - 1, row);
        if (st == FCT_OK) fct_sha256_add(&hash, row, s->d * (int64_t)sizeof *row);
    }
    fct_sha256_hex(&hash, out);
    fct_free(row);
    return st;
}

static fct_status source_describe(void *self, const char **json)
{
    source *s = self;
    fct_status st = FCT_OK;
    char store[65] = "", sample[65];
    json_t *j = NULL;
    *json = s->description.p;
    if (*json) return FCT_OK;
    if (s->store) FCT_TRY(fct_store_hash_block(s->store, s->block, store));
    FCT_TRY(hash_sample(s, sample));
    j = json_pack("{s:s?, s:s?, s:s, s:I, s:I, s:s}", "store", s->store ? store : NULL, "block",
                  s->store ? fct_store_get_info(s->store)->block[s->block].name : NULL, "sample",
                  sample, "first", (json_int_t)s->first, "rows", (json_int_t)s->n, "order",
                  s->shuffled ? "shuffled" : "sequential");
    if (!j || (s->shuffled &&
               (json_object_set_new(j, "order_seed", json_integer((json_int_t)s->seed)) != 0 ||
                json_object_set_new(
                    j, "group_rows",
                    json_integer(s->runs_per_group > 0 ? s->runs_per_group * RUN : s->n)) != 0)))
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: the description of the rows");
    if (st == FCT_OK) st = fct_json_text(&s->description, j, 0);
    json_decref(j);
    if (st != FCT_OK) fct_str_clear(&s->description);
    *json = s->description.p;
    return st;
}

/* ---- opening ---- */

static fct_status open_source(fct_row_source *out, source s, const fct_rows_desc *desc,
                              int64_t rows)
{
    source *self;
    *out = (fct_row_source){0};
    if (desc->first < 0 || desc->n < 0 || desc->first > rows || desc->n > rows - desc->first)
        return fct_fail(FCT_ERR_RANGE, "rows %lld to %lld: there are %lld", (long long)desc->first,
                        (long long)(desc->first + desc->n), (long long)rows);
    s.first = desc->first;
    s.n = desc->n > 0 ? desc->n : rows - desc->first;
    s.shuffled = desc->order == FCT_ORDER_SHUFFLED;
    s.seed = desc->seed;
    int64_t memory = desc->memory_bytes > 0 ? desc->memory_bytes : memory_default,
            row = s.d * fct_dtype_bytes(s.dtype); /* d <= INT32_MAX */
    if (!s.memory && s.n > memory / row) {
        s.runs_per_group = memory / row / RUN;
        if (s.runs_per_group < 2) s.runs_per_group = 2;
    }
    FCT_TRY(fct_new(&self, 1, sizeof *self));
    *self = s;
    fct_status st = start_pass(self, 0);
    if (st != FCT_OK) {
        source_close(self);
        return st;
    }
    *out = (fct_row_source){.self = self,
                            .d = s.d,
                            .total = s.n,
                            .next = source_next,
                            .tell = source_tell,
                            .seek = source_seek,
                            .rewind = source_rewind,
                            .describe = source_describe,
                            .close = source_close};
    return FCT_OK;
}

fct_status fct_store_rows(fct_row_source *out, const fct_store *s, const fct_rows_desc *desc)
{
    const fct_store_info *info = fct_store_get_info(s);
    int64_t block;
    *out = (fct_row_source){0};
    FCT_TRY(fct_store_find_block(&block, s, desc->block));
    return open_source(
        out, (source){.store = s, .block = block, .d = info->block[block].d, .dtype = info->dtype},
        desc, info->block[block].rows);
}

fct_status fct_rows_of_memory(fct_row_source *out, const float *rows, int64_t n, int64_t d,
                              const fct_rows_desc *desc)
{
    *out = (fct_row_source){0};
    if (d < 1 || d > INT32_MAX || n < 0 || !rows)
        return fct_fail(FCT_ERR_SHAPE, "%lld rows of %lld numbers", (long long)n, (long long)d);
    return open_source(out, (source){.memory = rows, .d = d, .dtype = FCT_F32}, desc, n);
}

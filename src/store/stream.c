/* stream.c - gives rows that can only be had in whole runs: the rows of a group of runs, which
   prefetch.c holds, in the order of order.c; and a source for each block of such rows. */
#include <string.h>

#include "store/stream.h"

typedef struct stream {
    fct_run_loader loader;
    fct_order order;
    fct_prefetch *groups;
    fct_grid grid; /* the finest, whose cells are counted as rows */
    int64_t d, at;
    float *out, *part_out[FCT_STREAM_PARTS];
    int64_t out_rows, part_rows;
    int64_t views;                         /* of fct_rows_split: the last one closes */
    int64_t win_pass, win_first, win_rows; /* the rows that part_out holds, for views */
    fct_str description;
} stream;

/* ---- rows ---- */

static int64_t run_of(const fct_order *o, int64_t row)
{
    int64_t lo = 0, hi = o->n_runs;
    if (!o->desc.run_first) return row / o->desc.run_rows;
    while (hi - lo > 1) {
        int64_t middle = lo + (hi - lo) / 2;
        if (o->desc.run_first[middle] <= row)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

static fct_status fetch(stream *s, int64_t give, float *const *to, const int64_t *stride)
{
    const fct_shard *shard = NULL;
    const int64_t *first = NULL;
    for (int64_t i = 0; i < give; i++, s->at++) {
        int64_t row, group = s->order.group;
        FCT_TRY(fct_order_find(&s->order, s->at, &row));
        if (!shard || group != s->order.group)
            FCT_TRY(fct_prefetch_group(s->groups, &shard, &first));
        int64_t run = run_of(&s->order, row),
                at = first[run] + row - fct_order_run_first(&s->order, run);
        for (int64_t p = 0; p < s->loader.n_parts; p++) {
            fct_grid own = s->loader.grid ? s->loader.grid[p] : s->grid;
            FCT_TRY(fct_row_to_f32(to[p] + i * stride[p],
                                   fct_shard_row(&shard[p], fct_grid_row(at, s->grid, own)),
                                   s->loader.dtype, s->loader.part[p].d));
        }
    }
    return FCT_OK;
}

static fct_status grow(float **out, int64_t want, int64_t d)
{
    int64_t numbers;
    fct_free(*out);
    *out = NULL;
    FCT_TRY(fct_mul_i64(&numbers, want, d));
    return fct_new_raw(out, numbers, sizeof **out);
}

static fct_status stream_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    stream *s = self;
    int64_t left = s->loader.n_rows - s->at, give = left < want ? left : want, offset = 0,
            stride[FCT_STREAM_PARTS];
    float *to[FCT_STREAM_PARTS];
    *n = 0;
    if (give <= 0) return FCT_OK;
    if (give > s->out_rows) {
        s->out_rows = 0;
        FCT_TRY(grow(&s->out, give, s->d));
        s->out_rows = give;
    }
    for (int64_t p = 0; p < s->loader.n_parts; p++) {
        to[p] = s->out + offset;
        stride[p] = s->d;
        offset += s->loader.part[p].d;
    }
    FCT_TRY(fetch(s, give, to, stride));
    *rows = s->out;
    *n = give;
    return FCT_OK;
}

static fct_status stream_next_parts(void *self, int64_t want, const float **rows, int64_t *n)
{
    stream *s = self;
    int64_t left = s->loader.n_rows - s->at, give = left < want ? left : want,
            stride[FCT_STREAM_PARTS];
    *n = 0;
    if (give <= 0) return FCT_OK;
    bool larger = give > s->part_rows;
    if (larger) s->part_rows = 0;
    for (int64_t p = 0; p < s->loader.n_parts; p++) {
        if (larger) FCT_TRY(grow(&s->part_out[p], give, s->loader.part[p].d));
        stride[p] = s->loader.part[p].d;
    }
    if (larger) s->part_rows = give;
    s->win_pass = s->order.pass;
    s->win_first = s->at;
    s->win_rows = 0;
    FCT_TRY(fetch(s, give, s->part_out, stride));
    for (int64_t p = 0; p < s->loader.n_parts; p++) rows[p] = s->part_out[p];
    *n = s->win_rows = give;
    return FCT_OK;
}

/* ---- places ---- */

static void write_place(const stream *s, int64_t pass, int64_t at, uint8_t blob[64])
{
    const int64_t place[4] = {pass, at, s->order.runs_per_group, s->loader.n_rows};
    memset(blob, 0, 64);
    memcpy(blob, place, sizeof place);
}

static fct_status read_place(const stream *s, int64_t *pass, int64_t *at, const uint8_t blob[64])
{
    int64_t place[4];
    memcpy(place, blob, sizeof place);
    if (place[0] < 0 || place[1] < 0 || place[1] > s->loader.n_rows ||
        place[2] != s->order.runs_per_group || place[3] != s->loader.n_rows)
        return fct_fail(FCT_ERR_FORMAT,
                        "the place to continue at is of other rows, or of another mixing buffer: "
                        "%lld of %lld rows in groups of %lld runs, here are %lld in groups of %lld",
                        (long long)place[1], (long long)place[3], (long long)place[2],
                        (long long)s->loader.n_rows, (long long)s->order.runs_per_group);
    *pass = place[0];
    *at = place[1];
    return FCT_OK;
}

static fct_status stream_tell(void *self, uint8_t blob[64])
{
    const stream *s = self;
    write_place(s, s->order.pass, s->at, blob);
    return FCT_OK;
}

static fct_status stream_rewind(void *self, int64_t pass)
{
    stream *s = self;
    fct_order_start(&s->order, pass);
    s->at = 0;
    return FCT_OK;
}

static fct_status stream_seek(void *self, const uint8_t blob[64])
{
    stream *s = self;
    int64_t pass, at;
    FCT_TRY(read_place(s, &pass, &at, blob));
    FCT_TRY(stream_rewind(s, pass));
    s->at = at;
    return FCT_OK;
}

static fct_status stream_describe(void *self, const char **json)
{
    stream *s = self;
    json_t *j = NULL;
    fct_status st = FCT_OK;
    bool shuffled = s->order.desc.shuffled;
    *json = s->description.p;
    if (*json) return FCT_OK;
    FCT_TRY_OUT(s->loader.describe(s->loader.self, &j));
    int bad = json_object_set_new(j, "rows", json_integer(s->loader.n_rows)) |
              json_object_set_new(j, "order", json_string(shuffled ? "shuffled" : "sequential"));
    if (shuffled)
        bad |= json_object_set_new(j, "order_seed", json_integer((json_int_t)s->order.desc.seed)) |
               json_object_set_new(j, "group_runs", json_integer(s->order.runs_per_group));
    if (bad) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: the description of the rows");
        goto out;
    }
    FCT_TRY_OUT(fct_json_text(&s->description, j, 0));
out:
    json_decref(j);
    if (st != FCT_OK) fct_str_clear(&s->description);
    *json = s->description.p;
    return st;
}

/* ---- opening ---- */

static void stream_close(void *self)
{
    stream *s = self;
    if (!s) return;
    fct_prefetch_close(s->groups);
    for (int64_t p = 0; p < s->loader.n_parts; p++) fct_free(s->part_out[p]);
    fct_free(s->out);
    fct_order_clear(&s->order);
    fct_str_clear(&s->description);
    if (s->loader.close) s->loader.close(s->loader.self);
    fct_free(s);
}

fct_status fct_stream_open(fct_row_source *out, const fct_run_loader *loader,
                           const fct_rows_desc *desc)
{
    stream *s = NULL;
    fct_status st = FCT_OK;
    int64_t bytes = 0;
    *out = (fct_row_source){0};
    st = fct_new(&s, 1, sizeof *s);
    if (st != FCT_OK) {
        if (loader->close) loader->close(loader->self);
        return st;
    }
    s->loader = *loader;
    for (int64_t p = 0; p < loader->n_parts; p++) {
        if (loader->grid) s->grid = fct_grid_finest(s->grid, loader->grid[p]);
        s->d += loader->part[p].d;
        bytes += loader->part[p].d * fct_dtype_bytes(loader->dtype);
    }
    int64_t memory = desc->memory_bytes > 0 ? desc->memory_bytes : FCT_STORE_MIX_BYTES;
    FCT_TRY_OUT(
        fct_order_init(&s->order, &(fct_order_desc){.n = loader->n_rows,
                                                    .shuffled = desc->order == FCT_ORDER_SHUFFLED,
                                                    .seed = desc->seed,
                                                    .buffer_rows = memory / bytes,
                                                    .run_rows = loader->run_rows,
                                                    .run_first = loader->run_first,
                                                    .n_runs = loader->n_runs,
                                                    .whole_runs = true}));
    fct_order_start(&s->order, 0);
    FCT_TRY_OUT(fct_prefetch_open(&s->groups, &s->loader, &s->order, !desc->no_overlap));
    *out = (fct_row_source){.self = s,
                            .d = s->d,
                            .total = loader->n_rows,
                            .next = stream_next,
                            .tell = stream_tell,
                            .seek = stream_seek,
                            .rewind = stream_rewind,
                            .describe = stream_describe,
                            .close = stream_close,
                            .part = loader->part,
                            .n_parts = loader->n_parts,
                            .next_parts = stream_next_parts};
out:
    if (st != FCT_OK) stream_close(s);
    return st;
}

/* ---- a source for each block ---- */

typedef struct view {
    stream *s;
    int64_t part, pass, at;
} view;

/* From the rows that are there when another block's view has read them already. */
static fct_status view_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    view *v = self;
    stream *s = v->s;
    const float *part[FCT_STREAM_PARTS];
    *n = 0;
    bool there = s->win_rows > 0 && v->pass == s->win_pass && v->at >= s->win_first &&
                 v->at < s->win_first + s->win_rows;
    if (!there) {
        if (v->pass != s->order.pass) fct_order_start(&s->order, v->pass);
        s->at = v->at;
        FCT_TRY(stream_next_parts(s, want, part, n));
        if (*n == 0) return FCT_OK;
    }
    int64_t in = v->at - s->win_first, left = s->win_rows - in;
    *n = left < want ? left : want;
    *rows = s->part_out[v->part] + in * s->loader.part[v->part].d;
    v->at += *n;
    return FCT_OK;
}

static fct_status view_tell(void *self, uint8_t blob[64])
{
    const view *v = self;
    write_place(v->s, v->pass, v->at, blob);
    return FCT_OK;
}

static fct_status view_seek(void *self, const uint8_t blob[64])
{
    view *v = self;
    return read_place(v->s, &v->pass, &v->at, blob);
}

static fct_status view_rewind(void *self, int64_t pass)
{
    view *v = self;
    v->pass = pass;
    v->at = 0;
    return FCT_OK;
}

static fct_status view_describe(void *self, const char **json)
{
    const view *v = self;
    return stream_describe(v->s, json);
}

static void view_close(void *self)
{
    view *v = self;
    if (v && --v->s->views == 0) stream_close(v->s);
    fct_free(v);
}

fct_status fct_rows_split(fct_row_source *out, fct_row_source *joint)
{
    stream *s = joint->self;
    fct_status st = FCT_OK;
    int64_t n = joint->n_parts;
    if (joint->next != stream_next)
        return fct_fail(FCT_ERR_ARG, "only rows of a model or of a tar are split into blocks");
    for (int64_t p = 0; s->loader.grid && p < n; p++)
        if (s->loader.grid[p].h != s->grid.h || s->loader.grid[p].w != s->grid.w)
            return fct_fail(FCT_ERR_ARG,
                            "%s is on a grid of %lldx%lld, another block on %lldx%lld: rows for "
                            "each alone are made in runs of their own, or stored by facet capture",
                            s->loader.part[p].name, (long long)s->loader.grid[p].h,
                            (long long)s->loader.grid[p].w, (long long)s->grid.h,
                            (long long)s->grid.w);
    for (int64_t p = 0; p < n; p++) out[p] = (fct_row_source){0};
    for (int64_t p = 0; p < n; p++) {
        view *v;
        FCT_TRY_OUT(fct_new(&v, 1, sizeof *v));
        *v = (view){.s = s, .part = p};
        out[p] = (fct_row_source){.self = v,
                                  .d = s->loader.part[p].d,
                                  .total = s->loader.n_rows,
                                  .next = view_next,
                                  .tell = view_tell,
                                  .seek = view_seek,
                                  .rewind = view_rewind,
                                  .describe = view_describe,
                                  .close = view_close,
                                  .part = s->loader.part + p,
                                  .n_parts = 1};
    }
    s->views = n;
    *joint = (fct_row_source){0};
out:
    for (int64_t p = 0; st != FCT_OK && p < n; p++) {
        fct_free(out[p].self);
        out[p] = (fct_row_source){0};
    }
    return st;
}

/* The group that rows were last given out of is in memory: measuring on it makes nothing anew. */
fct_status fct_rows_stay(fct_row_source *source, int64_t *out_rows)
{
    bool is_view = source->next == view_next;
    *out_rows = 0;
    if (!is_view && source->next != stream_next) return source->rewind(source->self, 0);
    view *v = is_view ? source->self : NULL;
    stream *s = is_view ? v->s : source->self;
    int64_t pass = is_view ? v->pass : s->order.pass, at = is_view ? v->at : s->at, row;
    if (pass != s->order.pass) fct_order_start(&s->order, pass);
    FCT_TRY(fct_order_find(&s->order, at > 0 ? at - 1 : 0, &row));
    *out_rows = s->order.group_rows;
    *(is_view ? &v->at : &s->at) = s->order.group_first;
    return FCT_OK;
}

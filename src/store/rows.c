/* rows.c - gives rows of a store, or of memory, to a training: in order or shuffled, every row once
   a pass, one block or several in step.

   order.c says which row comes when. Here rows are fetched: from maps, whose pages are asked for
   before they are needed and let go of afterwards, so that the disk works while the trainer does
   and resident memory stays within two mixing buffers. Rows that are not finite are refused by
   name, before anything learns from them. */
#include <math.h>
#include <string.h>

#include "store/tar_rows.h"

enum { RUN = 64, SAMPLED_ROWS = 64, LET_GO_BYTES = 64 << 20 };

typedef struct part {
    int64_t block; /* of the store */
    fct_grid grid;
    float *out; /* [out_rows,D]: of next_parts */
} part;

typedef struct source {
    const fct_store *store; /* NULL: memory */
    const float *memory;    /* [first + n, D] */
    part *part;             /* [n_parts] */
    fct_row_part *named;    /* [n_parts]: as the contract has them */
    int64_t n_parts;
    fct_grid grid;       /* the finest, whose cells are counted as rows */
    int64_t d, first, n; /* d: of all parts together */
    fct_dtype dtype;
    fct_order order;
    int64_t at;        /* rows given out in this pass */
    int64_t hinted;    /* runs of the next group that were asked for */
    int64_t let_go;    /* in order: rows before this one were let go of */
    int64_t was_group; /* the group that rows came from last; -1: none */
    float *out;        /* [out_rows,d]: of next */
    int64_t out_rows, part_rows;
    fct_str description;
} source;

static void source_close(void *self)
{
    source *s = self;
    if (!s) return;
    for (int64_t p = 0; s->part && p < s->n_parts; p++) fct_free(s->part[p].out);
    fct_free(s->part);
    fct_free(s->named);
    fct_free(s->out);
    fct_order_clear(&s->order);
    fct_str_clear(&s->description);
    fct_free(s);
}

/* ---- pages ---- */

static fct_status hint_rows(const source *s, int64_t first, int64_t n, fct_page_hint hint)
{
    for (int64_t p = 0; p < s->n_parts; p++) {
        int64_t from = s->first + first, rows = n;
        fct_grid_range(&from, &rows, s->grid, s->part[p].grid);
        FCT_TRY(fct_store_hint(s->store, s->part[p].block, from, rows, hint));
    }
    return FCT_OK;
}

static fct_status hint_run(const source *s, int64_t run, fct_page_hint hint)
{
    return hint_rows(s, fct_order_run_first(&s->order, run), fct_order_run_rows(&s->order, run),
                     hint);
}

/* Runs [from, to) of a group. */
static fct_status hint_group(const source *s, int64_t group, int64_t from, int64_t to,
                             fct_page_hint hint)
{
    const int64_t *runs;
    int64_t n = fct_order_group_runs(&s->order, group, &runs);
    for (int64_t i = from; i < to && i < n; i++) FCT_TRY(hint_run(s, runs[i], hint));
    return FCT_OK;
}

/* After a group's first row was found: what of it was not asked for yet is, and the one before
   goes. With one group, all rows are asked for at once. */
static fct_status enter_group(source *s)
{
    const fct_order *o = &s->order;
    bool onwards = s->was_group >= 0 && s->was_group + 1 == o->group;
    if (o->group == s->was_group) return FCT_OK;
    if (s->store && o->runs_per_group == 0) FCT_TRY(hint_rows(s, 0, s->n, FCT_PAGES_WANTED));
    if (s->store && o->runs_per_group > 0) {
        FCT_TRY(hint_group(s, o->group, onwards ? s->hinted : 0, INT64_MAX, FCT_PAGES_WANTED));
        if (onwards) FCT_TRY(hint_group(s, s->was_group, 0, INT64_MAX, FCT_PAGES_DONE));
    }
    s->hinted = 0;
    s->was_group = o->group;
    return FCT_OK;
}

/* The next group's runs are asked for in step with the rows that are given out of this one. */
static fct_status look_ahead(source *s)
{
    const fct_order *o = &s->order;
    if (!s->store) return FCT_OK;
    if (!o->desc.shuffled) {
        int64_t rows = LET_GO_BYTES / (s->d * fct_dtype_bytes(s->dtype)) + 1, n = s->at - s->let_go;
        if (n < rows) return FCT_OK;
        FCT_TRY(hint_rows(s, s->let_go, n, FCT_PAGES_DONE));
        s->let_go = s->at;
        return FCT_OK;
    }
    if (o->runs_per_group == 0 || o->group_rows == 0) return FCT_OK;
    int64_t done = s->at - o->group_first, runs = o->runs_per_group,
            want = runs * done / o->group_rows + 1;
    if (want <= s->hinted) return FCT_OK;
    FCT_TRY(hint_group(s, o->group + 1, s->hinted, want, FCT_PAGES_WANTED));
    s->hinted = want < runs ? want : runs;
    return FCT_OK;
}

static void start_pass(source *s, int64_t pass)
{
    fct_order_start(&s->order, pass);
    s->at = s->hinted = s->let_go = 0;
    if (s->order.runs_per_group > 0) s->was_group = -1; /* else: the one group is asked for */
}

/* ---- rows ---- */

static fct_status not_finite(const source *s, int64_t p, int64_t row)
{
    fct_row_meta meta = {0};
    const fct_store_info *info = s->store ? fct_store_get_info(s->store) : NULL;
    if (!s->store)
        return fct_fail(FCT_ERR_RANGE, "row %lld holds a number that is not finite",
                        (long long)row);
    const fct_store_block *b = &info->block[s->part[p].block];
    if (info->n_prompts == 0 ||
        fct_store_read(s->store, s->part[p].block, row, 1, NULL, &meta) != FCT_OK ||
        meta.prompt < 0 || meta.prompt >= info->n_prompts)
        return fct_fail(FCT_ERR_RANGE, "%s: block %s, row %lld holds a number that is not finite",
                        info->path, b->name, (long long)row);
    return fct_fail(
        FCT_ERR_RANGE,
        "%s: block %s, row %lld holds a number that is not finite (prompt %d \"%.60s\", "
        "step %d, y %d, x %d)",
        info->path, b->name, (long long)row, meta.prompt, info->prompt[meta.prompt].text, meta.step,
        meta.y, meta.x);
}

/* Row `row` of the part of the data that is read, of part p, to out [D]. */
static fct_status copy_row(const source *s, int64_t p, int64_t row, float *out)
{
    int64_t d = s->named[p].d, at = fct_grid_row(s->first + row, s->grid, s->part[p].grid);
    if (s->memory) {
        memcpy(out, s->memory + at * d, (size_t)d * sizeof *out);
    } else {
        fct_row_ref ref;
        FCT_TRY(fct_store_row(&ref, s->store, s->part[p].block, at));
        FCT_TRY(fct_row_to_f32(out, ref, s->dtype, d));
    }
    return fct_rows_finite(out, d) ? FCT_OK : not_finite(s, p, at);
}

static fct_status grow(float **buffer, int64_t *rows, int64_t want, int64_t d)
{
    int64_t numbers;
    if (*buffer && *rows >= want) return FCT_OK;
    fct_free(*buffer);
    *buffer = NULL;
    *rows = 0;
    FCT_TRY(fct_mul_i64(&numbers, want, d));
    FCT_TRY(fct_new_raw(buffer, numbers, sizeof **buffer));
    *rows = want;
    return FCT_OK;
}

/* `give` rows from s->at on; part p's row i goes to to[p] + i * stride[p]. */
static fct_status fetch(source *s, int64_t give, float *const *to, const int64_t *stride)
{
    for (int64_t i = 0; i < give; i++, s->at++) {
        int64_t row;
        FCT_TRY(fct_order_find(&s->order, s->at, &row));
        if (s->order.desc.shuffled) FCT_TRY(enter_group(s));
        for (int64_t p = 0; p < s->n_parts; p++)
            FCT_TRY(copy_row(s, p, row, to[p] + i * stride[p]));
    }
    return look_ahead(s);
}

enum { MAX_PARTS = 64 };

static fct_status source_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    source *s = self;
    int64_t give = s->n - s->at < want ? s->n - s->at : want, stride[MAX_PARTS], offset = 0;
    float *to[MAX_PARTS];
    *n = 0;
    if (give <= 0) return FCT_OK;
    if (s->memory && !s->order.desc.shuffled) {
        const float *x = s->memory + (s->first + s->at) * s->d;
        for (int64_t i = 0; i < give; i++)
            if (!fct_rows_finite(x + i * s->d, s->d)) return not_finite(s, 0, s->first + s->at + i);
        *rows = x;
        s->at += give;
        *n = give;
        return FCT_OK;
    }
    FCT_TRY(grow(&s->out, &s->out_rows, give, s->d));
    for (int64_t p = 0; p < s->n_parts; p++) {
        to[p] = s->out + offset;
        stride[p] = s->d;
        offset += s->named[p].d;
    }
    FCT_TRY(fetch(s, give, to, stride));
    *rows = s->out;
    *n = give;
    return FCT_OK;
}

static fct_status source_next_parts(void *self, int64_t want, const float **rows, int64_t *n)
{
    source *s = self;
    int64_t give = s->n - s->at < want ? s->n - s->at : want, stride[MAX_PARTS],
            part_rows = s->part_rows;
    float *to[MAX_PARTS];
    *n = 0;
    if (s->n_parts == 1) return source_next(self, want, rows, n);
    if (give <= 0) return FCT_OK;
    s->part_rows = 0;
    for (int64_t p = 0; p < s->n_parts; p++) {
        int64_t have = part_rows;
        FCT_TRY(grow(&s->part[p].out, &have, give, s->named[p].d));
        to[p] = s->part[p].out;
        stride[p] = s->named[p].d;
        rows[p] = to[p];
    }
    s->part_rows = give > part_rows ? give : part_rows;
    FCT_TRY(fetch(s, give, to, stride));
    *n = give;
    return FCT_OK;
}

static fct_status source_skip(void *self, int64_t want, int64_t *n)
{
    source *s = self;
    *n = s->n - s->at < want ? s->n - s->at : want;
    s->at += *n;
    return FCT_OK;
}

static fct_status source_tell(void *self, uint8_t blob[64])
{
    const source *s = self;
    const int64_t place[4] = {s->order.pass, s->at, s->order.runs_per_group, s->n};
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
    if (place[2] != s->order.runs_per_group)
        return fct_fail(FCT_ERR_FORMAT,
                        "the place to continue at is of rows shuffled in groups of %lld, here are "
                        "groups of %lld (0: all rows): memory_bytes must be the same",
                        (long long)(place[2] * RUN), (long long)(s->order.runs_per_group * RUN));
    start_pass(s, place[0]);
    s->at = s->let_go = place[1];
    return FCT_OK;
}

static fct_status source_rewind(void *self, int64_t pass)
{
    start_pass(self, pass);
    return FCT_OK;
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
    for (int64_t p = 0; p < s->n_parts; p++)
        for (int64_t i = 0; i < n && st == FCT_OK; i++) { /* the last one is among them */
            st = copy_row(s, p, i + 1 < n ? i * (s->n / n) : s->n - 1, row);
            if (st == FCT_OK) fct_sha256_add(&hash, row, s->named[p].d * (int64_t)sizeof *row);
        }
    fct_sha256_hex(&hash, out);
    fct_free(row);
    return st;
}

/* The names of the blocks with commas between, and a hash of what store.json says of them. */
static fct_status describe_parts(const source *s, fct_str *names, char store[65])
{
    fct_sha256 hash;
    for (int64_t p = 0; p < s->n_parts; p++)
        FCT_TRY(fct_str_printf(names, "%s%s", p > 0 ? "," : "", s->named[p].name));
    FCT_TRY(fct_store_hash_block(s->store, s->part[0].block, store));
    if (s->n_parts == 1) return FCT_OK;
    fct_sha256_init(&hash);
    for (int64_t p = 0; p < s->n_parts; p++) {
        FCT_TRY(fct_store_hash_block(s->store, s->part[p].block, store));
        fct_sha256_add(&hash, store, 64);
    }
    fct_sha256_hex(&hash, store);
    return FCT_OK;
}

static fct_status source_describe(void *self, const char **json)
{
    source *s = self;
    fct_status st = FCT_OK;
    char store[65] = "", sample[65];
    json_t *j = NULL;
    fct_str names = {0};
    *json = s->description.p;
    if (*json) return FCT_OK;
    if (s->store) FCT_TRY_OUT(describe_parts(s, &names, store));
    FCT_TRY_OUT(hash_sample(s, sample));
    j = json_pack("{s:s?, s:s?, s:s, s:I, s:I, s:s}", "store", s->store ? store : NULL, "block",
                  s->store ? names.p : NULL, "sample", sample, "first", (json_int_t)s->first,
                  "rows", (json_int_t)s->n, "order",
                  s->order.desc.shuffled ? "shuffled" : "sequential");
    int64_t groups = s->order.runs_per_group;
    if (!j ||
        (s->order.desc.shuffled &&
         (json_object_set_new(j, "order_seed", json_integer((json_int_t)s->order.desc.seed)) != 0 ||
          json_object_set_new(j, "group_rows", json_integer(groups > 0 ? groups * RUN : s->n)) !=
              0)))
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: the description of the rows");
    if (st == FCT_OK) st = fct_json_text(&s->description, j, 0);
out:
    json_decref(j);
    fct_str_clear(&names);
    if (st != FCT_OK) fct_str_clear(&s->description);
    *json = s->description.p;
    return st;
}

/* ---- opening ---- */

/* Takes over `self`, also when it fails. */
static fct_status open_source(fct_row_source *out, source *self, const fct_rows_desc *desc,
                              int64_t rows)
{
    fct_status st = FCT_OK;
    if (desc->first < 0 || desc->n < 0 || desc->first > rows || desc->n > rows - desc->first) {
        st = fct_fail(FCT_ERR_RANGE, "rows %lld to %lld: there are %lld", (long long)desc->first,
                      (long long)(desc->first + desc->n), (long long)rows);
        goto out;
    }
    self->first = desc->first;
    self->n = desc->n > 0 ? desc->n : rows - desc->first;
    self->was_group = -1;
    int64_t memory = desc->memory_bytes > 0 ? desc->memory_bytes : FCT_STORE_MIX_BYTES,
            row = self->d * fct_dtype_bytes(self->dtype);
    FCT_TRY_OUT(fct_order_init(
        &self->order, &(fct_order_desc){.n = self->n,
                                        .shuffled = desc->order == FCT_ORDER_SHUFFLED,
                                        .seed = desc->seed,
                                        .run_rows = RUN,
                                        .buffer_rows = self->memory ? self->n : memory / row}));
    start_pass(self, 0);
    *out = (fct_row_source){.self = self,
                            .d = self->d,
                            .total = self->n,
                            .next = source_next,
                            .tell = source_tell,
                            .seek = source_seek,
                            .skip = source_skip,
                            .rewind = source_rewind,
                            .describe = source_describe,
                            .close = source_close,
                            .part = self->named,
                            .n_parts = self->n_parts,
                            .next_parts = source_next_parts};
out:
    if (st != FCT_OK) source_close(self);
    return st;
}

static fct_status new_source(source **out, int64_t n_parts, fct_dtype dtype)
{
    source *s = NULL;
    fct_status st = FCT_OK;
    *out = NULL;
    FCT_TRY_OUT(fct_new(&s, 1, sizeof *s));
    FCT_TRY_OUT(fct_new(&s->part, n_parts, sizeof *s->part));
    FCT_TRY_OUT(fct_new(&s->named, n_parts, sizeof *s->named));
    s->n_parts = n_parts;
    s->dtype = dtype;
    *out = s;
    s = NULL;
out:
    source_close(s);
    return st;
}

/* Rows at the same prompts, steps and branches: as many maps, of whatever grid. Imported rows have
   no place, so their number must agree. */
static bool in_step(const fct_store_block *a, const fct_store_block *b)
{
    int64_t cells_a = a->grid_h * a->grid_w, cells_b = b->grid_h * b->grid_w;
    if (cells_a == 0 || cells_b == 0) return cells_a == cells_b && a->rows == b->rows;
    return a->rows / cells_a == b->rows / cells_b &&
           a->rows_per_prompt / cells_a == b->rows_per_prompt / cells_b;
}

/* The blocks named in a list; all must have the same rows. */
static fct_status find_parts(int64_t *block, int64_t *out_n, const fct_store *s, const char *names)
{
    const fct_store_block *b = fct_store_get_info(s)->block;
    *out_n = 1;
    if (!names || !strchr(names, ',')) return fct_store_find_block(&block[0], s, names);
    *out_n = 0;
    for (const char *p = names; p;) {
        const char *end = strchr(p, ',');
        char name[256];
        size_t n = end ? (size_t)(end - p) : strlen(p);
        if (n >= sizeof name || *out_n == MAX_PARTS)
            return fct_fail(FCT_ERR_ARG, "blocks %.60s...: want at most %d names", names,
                            MAX_PARTS);
        memcpy(name, p, n);
        name[n] = '\0';
        int64_t at;
        FCT_TRY(fct_store_find_block(&at, s, name));
        for (int64_t i = 0; i < *out_n; i++)
            if (block[i] == at) return fct_fail(FCT_ERR_ARG, "block %s is named twice", b[at].name);
        if (*out_n > 0 && !in_step(&b[at], &b[block[0]]))
            return fct_fail(FCT_ERR_ARG,
                            "blocks %s and %s cannot be read in step: %lld rows on a grid of "
                            "%lldx%lld, and %lld on %lldx%lld",
                            b[block[0]].name, b[at].name, (long long)b[block[0]].rows,
                            (long long)b[block[0]].grid_h, (long long)b[block[0]].grid_w,
                            (long long)b[at].rows, (long long)b[at].grid_h,
                            (long long)b[at].grid_w);
        block[(*out_n)++] = at;
        p = end ? end + 1 : NULL;
    }
    return FCT_OK;
}

fct_status fct_store_rows(fct_row_source *out, const fct_store *s, const fct_rows_desc *desc)
{
    const fct_store_info *info = fct_store_get_info(s);
    int64_t block[MAX_PARTS] = {0}, n;
    source *self;
    *out = (fct_row_source){0};
    FCT_TRY(find_parts(block, &n, s, desc->block));
    if (fct_store_tar(s))
        return fct_tar_rows_source(out, fct_store_tar(s), info->block[0].name, desc);
    for (int64_t p = 0; p < n; p++) FCT_TRY(fct_store_check_shards(s, block[p]));
    FCT_TRY(new_source(&self, n, info->dtype));
    self->store = s;
    int64_t lead = 0; /* on the finest grid: its rows are counted */
    for (int64_t p = 0; p < n; p++) {
        const fct_store_block *b = &info->block[block[p]];
        self->part[p].block = block[p];
        self->part[p].grid = (fct_grid){b->grid_h, b->grid_w};
        if (b->rows > info->block[block[lead]].rows) lead = p;
        self->named[p] = (fct_row_part){info->block[block[p]].name, info->block[block[p]].d};
        self->d += info->block[block[p]].d;
    }
    self->grid = self->part[lead].grid;
    return open_source(out, self, desc, info->block[block[lead]].rows);
}

fct_status fct_rows_of_memory(fct_row_source *out, const float *rows, int64_t n, int64_t d,
                              const fct_rows_desc *desc)
{
    static const fct_rows_desc usual = {0};
    source *self;
    *out = (fct_row_source){0};
    if (!desc) desc = &usual;
    if (d < 1 || d > INT32_MAX || n < 0 || !rows)
        return fct_fail(FCT_ERR_SHAPE, "%lld rows of %lld numbers", (long long)n, (long long)d);
    FCT_TRY(new_source(&self, 1, FCT_F32));
    self->memory = rows;
    self->d = d;
    self->named[0] = (fct_row_part){"rows", d};
    return open_source(out, self, desc, n);
}

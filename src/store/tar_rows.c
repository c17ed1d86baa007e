/* tar_rows.c - reads the activations of the paper's authors: a WebDataset archive for each block,
   whose members sample_N.diff.pth are pickled tensors [B,T,C,H,W] (or [B,C,H,W]). A sample is a
   run: unpickled whole by the reader that calls nothing, turned to rows of C numbers in the order
   prompt, step, y, x, mixed with others like a model's rows. */
#include <string.h>

#include "store/stream.h"
#include "store/tar_rows.h"
#include "tensor/tar.h"

struct fct_tar_rows {
    fct_tar tar;
    char *path;
    int64_t *member; /* [n]: of the archive */
    int64_t *first;  /* [n+1]: a sample's first row */
    int64_t n, d;
    fct_dtype dtype;
};

void fct_tar_rows_close(fct_tar_rows *t)
{
    if (!t) return;
    fct_tar_close(&t->tar);
    fct_free(t->path);
    fct_free(t->member);
    fct_free(t->first);
    fct_free(t);
}

int64_t fct_tar_rows_count(const fct_tar_rows *t)
{
    return t->first[t->n];
}

int64_t fct_tar_rows_width(const fct_tar_rows *t)
{
    return t->d;
}

fct_dtype fct_tar_rows_dtype(const fct_tar_rows *t)
{
    return t->dtype;
}

/* One sample unpickled; its only tensor is the activations. */
static fct_status open_sample(fct_pth *p, const fct_tensor **out, const fct_tar_rows *t, int64_t i)
{
    const fct_tar_entry *e = &t->tar.entry[t->member[i]];
    char shape[64];
    FCT_TRY(fct_where(fct_pth_parse(p, e->data, e->size, e->name), "%s", t->path));
    *out = p->n == 1 ? &p->entry[0].t : NULL;
    if (*out) fct_shape_text(shape, sizeof shape, *out);
    if (*out && ((*out)->ndim == 5 || (*out)->ndim == 4) && (*out)->dtype <= FCT_F64 &&
        fct_tensor_count(*out) > 0)
        return FCT_OK;
    fct_status st = fct_fail(FCT_ERR_SHAPE,
                             "%s: %s: want one tensor [B,T,C,H,W] in floating point, it holds %s",
                             t->path, e->name, *out ? shape : "several, or none");
    fct_pth_close(p);
    return st;
}

static void sizes(const fct_tensor *x, int64_t *maps, int64_t *c, int64_t *cells)
{
    const int64_t *dim = x->dim + (x->ndim - 3);
    *maps = x->ndim == 5 ? x->dim[0] * x->dim[1] : x->dim[0];
    *c = dim[0];
    *cells = dim[1] * dim[2];
}

/* A sample of as many bytes as the one before it is taken to have its shape; loading checks it. */
static fct_status measure_samples(fct_tar_rows *t)
{
    int64_t bytes = -1, rows = 0;
    for (int64_t i = 0; i < t->n; i++) {
        const fct_tar_entry *e = &t->tar.entry[t->member[i]];
        if (e->size != bytes) {
            fct_pth p;
            const fct_tensor *x;
            int64_t maps, c, cells;
            FCT_TRY(open_sample(&p, &x, t, i));
            sizes(x, &maps, &c, &cells);
            if (i == 0) t->dtype = x->dtype == FCT_F64 ? FCT_F32 : x->dtype;
            fct_pth_close(&p);
            if (i > 0 && c != t->d)
                return fct_fail(FCT_ERR_SHAPE,
                                "%s: %s: rows of %lld numbers, those before have %lld", t->path,
                                e->name, (long long)c, (long long)t->d);
            t->d = c;
            rows = maps * cells;
            bytes = e->size;
        }
        FCT_TRY(fct_add_i64(&t->first[i + 1], t->first[i], rows));
    }
    return FCT_OK;
}

fct_status fct_tar_rows_open(fct_tar_rows **out, const char *path, const char *what)
{
    fct_status st = FCT_OK;
    fct_tar_rows *t = NULL;
    char *end = NULL;
    *out = NULL;
    FCT_TRY_OUT(fct_new(&t, 1, sizeof *t));
    FCT_TRY_OUT(fct_strdup(&t->path, path));
    FCT_TRY_OUT(fct_format(&end, ".%s.pth", what ? what : "diff"));
    FCT_TRY_OUT(fct_tar_open(&t->tar, path));
    FCT_TRY_OUT(fct_new(&t->member, t->tar.n, sizeof *t->member));
    FCT_TRY_OUT(fct_new(&t->first, t->tar.n + 1, sizeof *t->first));
    for (int64_t i = 0; i < t->tar.n; i++)
        if (fct_ends_with(t->tar.entry[i].name, end)) t->member[t->n++] = i;
    if (t->n == 0) {
        st = fct_fail(FCT_ERR_MISSING, "%s: no member is named *%s", path, end);
        goto out;
    }
    FCT_TRY_OUT(measure_samples(t));
    *out = t;
    t = NULL;
out:
    fct_free(end);
    fct_tar_rows_close(t);
    return st;
}

/* ---- as a stream ---- */

typedef struct samples {
    const fct_tar_rows *t; /* the store's */
    fct_row_part part;
    char hash[65];
} samples;

static fct_status load_sample(void *self, int64_t run, fct_shard *shard, int64_t at)
{
    const fct_tar_rows *t = ((samples *)self)->t;
    fct_status st = FCT_OK;
    fct_pth p = {0};
    const fct_tensor *x;
    float *map = NULL, *rows = NULL;
    int64_t maps, c, cells;
    FCT_TRY_OUT(open_sample(&p, &x, t, run));
    sizes(x, &maps, &c, &cells);
    const char *name = t->tar.entry[t->member[run]].name;
    if (c != t->d || maps * cells != t->first[run + 1] - t->first[run]) {
        st = fct_fail(FCT_ERR_SHAPE, "%s: %s: %lld rows of %lld numbers, want %lld of %lld",
                      t->path, name, (long long)(maps * cells), (long long)c,
                      (long long)(t->first[run + 1] - t->first[run]), (long long)t->d);
        goto out;
    }
    FCT_TRY_OUT(fct_new_raw(&map, c * cells, sizeof *map));
    FCT_TRY_OUT(fct_new_raw(&rows, c * cells, sizeof *rows));
    for (int64_t m = 0; m < maps; m++) {
        FCT_TRY_OUT(fct_convert(
            map, FCT_F32, (const uint8_t *)x->data + m * c * cells * fct_dtype_bytes(x->dtype),
            x->dtype, c * cells));
        for (int64_t i = 0; i < c; i++) /* [C,HW] -> [HW,C] */
            for (int64_t k = 0; k < cells; k++) rows[k * c + i] = map[i * cells + k];
        FCT_TRY_OUT(
            fct_where(fct_shard_put(shard, at + m * cells, rows, cells), "%s: %s", t->path, name));
    }
out:
    fct_pth_close(&p);
    fct_free(map);
    fct_free(rows);
    return st;
}

/* The names and sizes of the samples, and bytes from their beginning and middle: as far as a
   description can go without reading them all. */
static fct_status describe_samples(void *self, json_t **out)
{
    samples *s = self;
    fct_sha256 hash;
    fct_sha256_init(&hash);
    for (int64_t i = 0; i < s->t->n; i++) {
        const fct_tar_entry *e = &s->t->tar.entry[s->t->member[i]];
        int64_t piece = e->size < 4096 ? e->size : 4096;
        fct_sha256_add(&hash, e->name, (int64_t)strlen(e->name));
        fct_sha256_add(&hash, &e->size, sizeof e->size);
        fct_sha256_add(&hash, e->data, piece);
        fct_sha256_add(&hash, e->data + (e->size - piece) / 2, piece);
    }
    fct_sha256_hex(&hash, s->hash);
    *out = json_pack("{s:s, s:s}", "samples", s->hash, "block", s->part.name);
    return *out ? FCT_OK : fct_fail(FCT_ERR_MEMORY, "out of memory: the description of the rows");
}

static void close_samples(void *self)
{
    fct_free(self);
}

fct_status fct_tar_rows_source(fct_row_source *out, const fct_tar_rows *t, const char *block,
                               const fct_rows_desc *desc)
{
    samples *s;
    int64_t total = fct_tar_rows_count(t), lo = 0, hi = 0;
    *out = (fct_row_source){0};
    if (desc->first < 0 || desc->n < 0 || desc->first > total || desc->n > total - desc->first)
        return fct_fail(FCT_ERR_RANGE, "rows %lld to %lld: there are %lld", (long long)desc->first,
                        (long long)(desc->first + desc->n), (long long)total);
    int64_t end = desc->n > 0 ? desc->first + desc->n : total;
    while (lo < t->n && t->first[lo] < desc->first) lo++;
    while (hi < t->n && t->first[hi + 1] <= end) hi++;
    if (lo > 0 || hi < t->n) /* a part of the samples would need tables of its own */
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: rows cannot be held out of an archive: import it into a store first",
                        t->path);
    FCT_TRY(fct_new(&s, 1, sizeof *s));
    s->t = t;
    s->part = (fct_row_part){block, t->d};
    return fct_stream_open(out,
                           &(fct_run_loader){.self = s,
                                             .part = &s->part,
                                             .n_parts = 1,
                                             .dtype = t->dtype,
                                             .n_rows = total,
                                             .run_first = t->first,
                                             .n_runs = t->n,
                                             .load = load_sample,
                                             .describe = describe_samples,
                                             .close = close_samples},
                           desc);
}

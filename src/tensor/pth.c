/* pth.c - tensors out of what torch.save wrote: the zip layout of today and the one before 1.6.

   pickle.c gives the object tree; here it is flattened to names joined by dots, and each tensor is
   gathered from its storage by its strides (the authors' decoder is stored transposed). Every
   offset, stride and size is checked against the storage that is really there. Of values that are
   not tensors, whole numbers and texts are kept by name; others are passed over. Memory and time
   are bounded by the file's size: what its entries hold together, what its tensors and their names
   take, and no container inside itself. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "tensor/pickle.h"

enum { MAX_DEPTH = 32, MAX_ENTRIES = 1 << 18, MAX_VISITS = 1 << 22, MAX_NAME = 4096 };

typedef struct storage {
    const fct_pk_node *node; /* the first of its key in the pickle: text/n is the key */
    const uint8_t *data;     /* NULL: not read yet */
    uint8_t *owned;          /* zip: read into here; legacy: NULL, data points into the file */
    int64_t bytes;
} storage;

typedef struct reader {
    fct_pth *out;
    fct_pickle pickle;
    const char *name;
    zip_t *zip;       /* NULL in the legacy layout */
    char *stem;       /* zip: what precedes "data.pkl", with its slash */
    storage *storage; /* one a key, sorted by key */
    int64_t n_storage, cap_entry, cap_value;
    int64_t visits, out_bytes, max_out_bytes;
    int64_t entry_bytes, file_bytes; /* zip: what its entries hold together; what the file has */
    int32_t inside[MAX_DEPTH + 1];   /* the containers around the value that is flattened */
} reader;

static const fct_pk_node *node_at(const reader *r, int32_t i)
{
    return &r->pickle.node[i];
}

/* ---- zip entries ---- */

static fct_status zip_fail(const reader *r, zip_t *z)
{
    return fct_fail(FCT_ERR_FORMAT, "%s: damaged zip: %s", r->name,
                    zip_error_strerror(zip_get_error(z)));
}

/* The entries of a file that torch.save wrote cannot overlap, so together they are no larger than
   it; records of the directory that share one entry's bytes would be. */
static fct_status zip_entry(reader *r, uint8_t **out, int64_t *out_n, zip_uint64_t index)
{
    zip_stat_t info;
    *out = NULL;
    *out_n = 0;
    if (zip_stat_index(r->zip, index, 0, &info) != 0) return zip_fail(r, r->zip);
    if (!(info.valid & ZIP_STAT_SIZE) || !(info.valid & ZIP_STAT_COMP_METHOD) ||
        info.comp_method != ZIP_CM_STORE)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: its entries are compressed, torch.save never does that", r->name);
    if (info.size > INT64_MAX || info.size != info.comp_size)
        return fct_fail(FCT_ERR_FORMAT, "%s: damaged zip: an entry's sizes differ", r->name);
    if ((int64_t)info.size > r->file_bytes - r->entry_bytes)
        return fct_fail(FCT_ERR_FORMAT, "%s: damaged zip: its entries are larger than the file",
                        r->name);
    r->entry_bytes += (int64_t)info.size;
    zip_file_t *f = zip_fopen_index(r->zip, index, 0);
    if (!f) return zip_fail(r, r->zip);
    fct_status st = fct_new_raw(out, (int64_t)info.size, 1);
    if (st == FCT_OK && zip_fread(f, *out, info.size) != (zip_int64_t)info.size) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: an entry is cut short or damaged", r->name);
        fct_free(*out);
        *out = NULL;
    }
    zip_fclose(f);
    if (st == FCT_OK) *out_n = (int64_t)info.size;
    return st;
}

/* "archive/data.pkl", whatever the archive is called. */
static fct_status find_pickle(reader *r, zip_uint64_t *index)
{
    static const char wanted[] = "/data.pkl";
    zip_int64_t n = zip_get_num_entries(r->zip, 0);
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(r->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t length = name ? strlen(name) : 0;
        if (length < sizeof wanted - 1 || strcmp(name + length - (sizeof wanted - 1), wanted) != 0)
            continue;
        FCT_TRY(fct_strdup(&r->stem, name));
        r->stem[length - (sizeof wanted - 2)] = '\0';
        *index = (zip_uint64_t)i;
        return FCT_OK;
    }
    return fct_fail(FCT_ERR_FORMAT, "%s: a zip, but not from torch.save: it has no data.pkl",
                    r->name);
}

static fct_status check_byteorder(reader *r)
{
    char *path = NULL;
    uint8_t *text = NULL;
    int64_t n = 0;
    FCT_TRY(fct_format(&path, "%sbyteorder", r->stem));
    zip_int64_t index = zip_name_locate(r->zip, path, ZIP_FL_ENC_RAW);
    fct_free(path);
    if (index < 0) return FCT_OK; /* absent before torch 2.1, which wrote little endian */
    FCT_TRY(zip_entry(r, &text, &n, (zip_uint64_t)index));
    bool little = n == 6 && memcmp(text, "little", 6) == 0;
    fct_free(text);
    return little ? FCT_OK
                  : fct_fail(FCT_ERR_UNSUPPORTED, "%s: written on a big-endian machine", r->name);
}

/* ---- storages ---- */

static int by_key(const void *a, const void *b)
{
    const fct_pk_node *x = ((const storage *)a)->node, *y = ((const storage *)b)->node;
    int order = memcmp(x->text, y->text, (size_t)(x->n < y->n ? x->n : y->n));
    if (order != 0) return order;
    return x->n < y->n ? -1 : x->n > y->n;
}

static int by_key_and_place(const void *a, const void *b)
{
    int order = by_key(a, b);
    if (order != 0) return order;
    const fct_pk_node *x = ((const storage *)a)->node, *y = ((const storage *)b)->node;
    return x < y ? -1 : x > y;
}

/* The storages that the pickle speaks of, each key once. */
static fct_status collect_storages(reader *r)
{
    const fct_pickle *p = &r->pickle;
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) n += p->node[i].kind == FCT_PK_STORAGE;
    FCT_TRY(fct_new(&r->storage, n, (int64_t)sizeof *r->storage));
    n = 0;
    for (int64_t i = 0; i < p->n; i++)
        if (p->node[i].kind == FCT_PK_STORAGE) r->storage[n++].node = &p->node[i];
    qsort(r->storage, (size_t)n, sizeof *r->storage, by_key_and_place);
    for (int64_t i = 0; i < n; i++)
        if (r->n_storage == 0 || by_key(&r->storage[i], &r->storage[r->n_storage - 1]) != 0)
            r->storage[r->n_storage++] = r->storage[i];
    return FCT_OK;
}

/* By the node's text; NULL when the pickle speaks of no such storage. */
static storage *find_storage(const reader *r, const fct_pk_node *key)
{
    const storage wanted = {.node = key};
    return bsearch(&wanted, r->storage, (size_t)r->n_storage, sizeof *r->storage, by_key);
}

static fct_status load_storage(reader *r, const storage **out, const fct_pk_node *node)
{
    char *path = NULL;
    storage *s = find_storage(r, node);
    *out = s;
    if (s && s->data) return FCT_OK;
    if (!s || !r->zip) return fct_fail(FCT_ERR_FORMAT, "%s: a tensor's data are missing", r->name);
    FCT_TRY(fct_format(&path, "%sdata/%.*s", r->stem, (int)(node->n < 200 ? node->n : 200),
                       node->text));
    zip_int64_t index = zip_name_locate(r->zip, path, ZIP_FL_ENC_RAW);
    fct_status st =
        index >= 0 ? FCT_OK : fct_fail(FCT_ERR_FORMAT, "%s: %s is missing in it", r->name, path);
    fct_free(path);
    if (st == FCT_OK) st = zip_entry(r, &s->owned, &s->bytes, (zip_uint64_t)index);
    s->data = s->owned;
    return st;
}

/* ---- tensors ---- */

/* Copies element by element along the strides; the innermost run goes at once where it is
 * contiguous. */
static void gather(uint8_t *dst, const uint8_t *src, const fct_tensor *t, const int64_t *stride,
                   int axis)
{
    int64_t size = fct_dtype_bytes(t->dtype), block = size;
    if (axis == t->ndim) {
        memcpy(dst, src, (size_t)size);
        return;
    }
    if (axis == t->ndim - 1 && stride[axis] == 1) {
        memcpy(dst, src, (size_t)(t->dim[axis] * size));
        return;
    }
    for (int i = axis + 1; i < t->ndim; i++) block *= t->dim[i];
    for (int64_t i = 0; i < t->dim[axis]; i++)
        gather(dst + i * block, src + i * stride[axis] * size, t, stride, axis + 1);
}

static fct_status read_layout(const reader *r, const fct_pk_node *tensor, fct_tensor *t,
                              int64_t *stride, const char *name)
{
    const fct_pk_node *size = node_at(r, tensor->item[1]), *strides = node_at(r, tensor->item[2]);
    if (size->n > FCT_MAX_DIMS)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: %s has %" PRId64 " dimensions, facet handles up to %d", r->name, name,
                        size->n, FCT_MAX_DIMS);
    t->dtype = tensor->dtype;
    t->ndim = (int)size->n;
    for (int i = 0; i < t->ndim; i++) {
        t->dim[i] = node_at(r, size->item[i])->i;
        stride[i] = node_at(r, strides->item[i])->i;
        if (t->dim[i] < 0 || stride[i] < 0)
            return fct_fail(FCT_ERR_FORMAT, "%s: %s has a negative size or stride", r->name, name);
    }
    return FCT_OK;
}

/* Counts what is handed out: one storage, or one long name, may be used by many tensors. */
static fct_status take_room(reader *r, int64_t bytes)
{
    if (bytes > r->max_out_bytes - r->out_bytes)
        return fct_fail(FCT_ERR_RANGE, "%s: its tensors are far larger than the file: refused",
                        r->name);
    r->out_bytes += bytes;
    return FCT_OK;
}

/* The storage must hold offset + sum (size-1)*stride + 1 elements, and really have that many bytes
   in the file; a tensor without elements needs none. */
static fct_status check_reach(reader *r, const fct_pk_node *tensor, const fct_tensor *t,
                              const int64_t *stride, const storage *s, const char *name)
{
    const fct_pk_node *node = node_at(r, tensor->item[0]);
    int64_t item = fct_dtype_bytes(t->dtype), need = tensor->i, bytes = item;
    fct_status st = need < 0 ? FCT_ERR_RANGE : FCT_OK;
    for (int i = 0; i < t->ndim && st == FCT_OK; i++) {
        int64_t reach;
        st = fct_mul_i64(&bytes, bytes, t->dim[i]);
        if (st == FCT_OK) st = fct_mul_i64(&reach, t->dim[i] > 0 ? t->dim[i] - 1 : 0, stride[i]);
        if (st == FCT_OK) st = fct_add_i64(&need, need, reach);
    }
    if (st == FCT_OK && bytes == 0) return FCT_OK;
    int64_t claimed = 0, last = 0;
    if (st == FCT_OK) st = fct_mul_i64(&claimed, node->i, node->untyped ? 1 : item);
    if (st == FCT_OK) st = fct_add_i64(&last, need, 1);
    if (st == FCT_OK) st = fct_mul_i64(&last, last, item);
    if (st != FCT_OK || last > claimed || claimed > s->bytes)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: %s reaches beyond its data: the file is damaged or cut short", r->name,
                        name);
    return take_room(r, bytes);
}

static fct_status add_tensor(reader *r, const fct_pk_node *tensor, const char *name)
{
    fct_tensor t = {0};
    int64_t stride[FCT_MAX_DIMS] = {0};
    const storage *s;
    FCT_TRY(read_layout(r, tensor, &t, stride, name));
    FCT_TRY(load_storage(r, &s, node_at(r, tensor->item[0])));
    FCT_TRY(check_reach(r, tensor, &t, stride, s, name));
    FCT_TRY(take_room(r, (int64_t)(strlen(name) + sizeof(fct_st_entry))));
    if (r->out->n == MAX_ENTRIES)
        return fct_fail(FCT_ERR_RANGE, "%s: it holds too many tensors", r->name);
    if (r->out->n == r->cap_entry) {
        int64_t cap = r->cap_entry ? 2 * r->cap_entry : 16;
        FCT_TRY(fct_grow(&r->out->entry, r->cap_entry, cap, (int64_t)sizeof *r->out->entry));
        r->cap_entry = cap;
    }
    fct_st_entry *e = &r->out->entry[r->out->n];
    int64_t bytes = fct_tensor_bytes(&t);
    FCT_TRY(fct_new_raw(&t.data, bytes, 1));
    if (bytes > 0) gather(t.data, s->data + tensor->i * fct_dtype_bytes(t.dtype), &t, stride, 0);
    e->t = t;
    r->out->n++;
    return fct_strdup(&e->name, name);
}

/* A number or a text under a name; one without a name says nothing. */
static fct_status add_value(reader *r, const fct_pk_node *node, const char *name)
{
    fct_pth *out = r->out;
    int64_t n = node->kind == FCT_PK_TEXT ? node->n : 0;
    if (!name[0]) return FCT_OK;
    FCT_TRY(take_room(r, (int64_t)(strlen(name) + sizeof(fct_pth_value)) + n));
    if (out->n_values == r->cap_value) {
        int64_t cap = r->cap_value ? 2 * r->cap_value : 16;
        FCT_TRY(fct_grow(&out->value, r->cap_value, cap, (int64_t)sizeof *out->value));
        r->cap_value = cap;
    }
    fct_pth_value *v = &out->value[out->n_values];
    *v = (fct_pth_value){.i = node->i};
    out->n_values++;
    FCT_TRY(fct_strdup(&v->name, name));
    if (node->kind != FCT_PK_TEXT) return FCT_OK;
    FCT_TRY(fct_new_raw(&v->text, n + 1, 1));
    memcpy(v->text, node->text, (size_t)n);
    v->text[n] = '\0';
    return FCT_OK;
}

/* ---- the tree ---- */

static fct_status flatten(reader *r, int32_t index, const fct_str *name, int depth);

static fct_status flatten_child(reader *r, int32_t child, const fct_str *prefix, const char *key,
                                int64_t n, int depth)
{
    fct_str name = {0};
    fct_status st = FCT_OK;
    if (prefix->n + (prefix->n > 0) + n > MAX_NAME)
        return fct_fail(FCT_ERR_RANGE, "%s: a name in it is longer than %d bytes", r->name,
                        MAX_NAME);
    if (prefix->n > 0) {
        st = fct_str_append_n(&name, prefix->p, prefix->n);
        if (st == FCT_OK) st = fct_str_append(&name, ".");
    }
    if (st == FCT_OK) st = fct_str_append_n(&name, key, n);
    if (st == FCT_OK) st = flatten(r, child, &name, depth + 1);
    fct_str_clear(&name);
    return st;
}

static fct_status flatten_dict(reader *r, int32_t index, const fct_str *name, int depth)
{
    for (int64_t i = 0; i + 1 < node_at(r, index)->n; i += 2) {
        const fct_pk_node *dict = node_at(r, index), *key = node_at(r, dict->item[i]);
        char digits[24];
        if (key->kind == FCT_PK_TEXT) {
            if (memchr(key->text, '\0', (size_t)key->n))
                return fct_fail(FCT_ERR_FORMAT, "%s: a name with a zero byte", r->name);
            FCT_TRY(flatten_child(r, dict->item[i + 1], name, key->text, key->n, depth));
        } else if (key->kind == FCT_PK_INT) {
            int n = snprintf(digits, sizeof digits, "%" PRId64, key->i);
            FCT_TRY(flatten_child(r, dict->item[i + 1], name, digits, n, depth));
        }
    }
    return FCT_OK;
}

static fct_status flatten(reader *r, int32_t index, const fct_str *name, int depth)
{
    const fct_pk_node *node = node_at(r, index);
    if (depth > MAX_DEPTH || ++r->visits > MAX_VISITS)
        return fct_fail(FCT_ERR_RANGE, "%s: nested too deeply for a file of tensors", r->name);
    if (node->kind == FCT_PK_TENSOR) return add_tensor(r, node, name->n > 0 ? name->p : "");
    if (node->kind == FCT_PK_INT || node->kind == FCT_PK_TEXT)
        return add_value(r, node, name->n > 0 ? name->p : "");
    if (node->kind != FCT_PK_DICT && node->kind != FCT_PK_LIST && node->kind != FCT_PK_TUPLE)
        return FCT_OK;
    for (int i = 0; i < depth; i++)
        if (r->inside[i] == index)
            return fct_fail(FCT_ERR_FORMAT, "%s: damaged: a container in it holds itself", r->name);
    r->inside[depth] = index;
    if (node->kind == FCT_PK_DICT) return flatten_dict(r, index, name, depth);
    for (int64_t i = 0; i < node->n; i++) {
        char digits[24];
        int n = snprintf(digits, sizeof digits, "%" PRId64, i);
        FCT_TRY(flatten_child(r, node->item[i], name, digits, n, depth));
    }
    return FCT_OK;
}

/* ---- the two layouts ---- */

static fct_status read_zip(reader *r, const uint8_t *data, int64_t n)
{
    fct_status st = FCT_OK;
    zip_error_t error;
    zip_uint64_t index = 0;
    uint8_t *text = NULL;
    int64_t n_text = 0;
    fct_str root = {0};
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(data, (zip_uint64_t)n, 0, &error);
    r->zip = source ? zip_open_from_source(source, ZIP_RDONLY, &error) : NULL;
    if (!r->zip) {
        st = fct_fail(zip_error_code_zip(&error) == ZIP_ER_MEMORY ? FCT_ERR_MEMORY : FCT_ERR_FORMAT,
                      "%s: not a whole torch file: %s", r->name, zip_error_strerror(&error));
        zip_source_free(source);
        goto out;
    }
    FCT_TRY_OUT(find_pickle(r, &index));
    FCT_TRY_OUT(check_byteorder(r));
    FCT_TRY_OUT(zip_entry(r, &text, &n_text, index));
    FCT_TRY_OUT(fct_pickle_parse(&r->pickle, text, n_text, r->name));
    FCT_TRY_OUT(collect_storages(r));
    st = flatten(r, r->pickle.root, &root, 0);
out:
    zip_error_fini(&error);
    if (r->zip) zip_discard(r->zip);
    fct_free(text);
    return st;
}

static const uint8_t legacy_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* One of the small pickles before the object: the protocol version, then what the writing machine
 * was. */
static fct_status read_preamble(const reader *r, const uint8_t *data, int64_t n, int64_t *used,
                                bool version)
{
    fct_pickle p;
    fct_status st = fct_pickle_parse(&p, data, n, r->name);
    *used = p.used;
    const fct_pk_node *root = st == FCT_OK ? &p.node[p.root] : NULL;
    if (root && version && (root->kind != FCT_PK_INT || root->i != 1001))
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: an unknown version of torch's old layout", r->name);
    for (int64_t i = 0; root && !version && root->kind == FCT_PK_DICT && i + 1 < root->n; i += 2) {
        const fct_pk_node *key = &p.node[root->item[i]], *value = &p.node[root->item[i + 1]];
        if (key->kind == FCT_PK_TEXT && key->n == 13 &&
            memcmp(key->text, "little_endian", 13) == 0 && value->kind == FCT_PK_BOOL && !value->i)
            st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: written on a big-endian machine", r->name);
    }
    fct_pickle_clear(&p);
    return st;
}

/* numel of the element type, then the data, for one key. */
static fct_status read_legacy_storage(reader *r, const fct_pk_node *key, const uint8_t *data,
                                      int64_t n, int64_t *at)
{
    storage *s = find_storage(r, key);
    if (!s || n - *at < 8) return fct_fail(FCT_ERR_FORMAT, "%s: damaged or cut short", r->name);
    if (s->data) return fct_fail(FCT_ERR_FORMAT, "%s: damaged: a storage comes twice", r->name);
    uint64_t numel = 0;
    for (int i = 8; i > 0; i--) numel = numel << 8 | data[*at + i - 1];
    *at += 8;
    s->data = data + *at;
    if (numel > INT64_MAX ||
        fct_mul_i64(&s->bytes, (int64_t)numel, fct_dtype_bytes(s->node->dtype)) != FCT_OK ||
        s->bytes > n - *at)
        return fct_fail(FCT_ERR_FORMAT, "%s: damaged or cut short: a storage ends beyond the file",
                        r->name);
    *at += s->bytes;
    return FCT_OK;
}

static fct_status read_legacy(reader *r, const uint8_t *data, int64_t n)
{
    fct_status st = FCT_OK;
    fct_pickle keys = {0};
    fct_str root = {0};
    int64_t at = (int64_t)sizeof legacy_magic, used;
    FCT_TRY(read_preamble(r, data + at, n - at, &used, true));
    at += used;
    FCT_TRY(read_preamble(r, data + at, n - at, &used, false));
    at += used;
    FCT_TRY(fct_pickle_parse(&r->pickle, data + at, n - at, r->name));
    at += r->pickle.used;
    FCT_TRY(collect_storages(r));
    FCT_TRY_OUT(fct_pickle_parse(&keys, data + at, n - at, r->name));
    at += keys.used;
    const fct_pk_node *list = &keys.node[keys.root];
    if (list->kind != FCT_PK_LIST) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: damaged: the list of its storages is missing", r->name);
        goto out;
    }
    for (int64_t i = 0; i < list->n; i++) {
        const fct_pk_node *key = &keys.node[list->item[i]];
        if (key->kind != FCT_PK_TEXT) {
            st = fct_fail(FCT_ERR_FORMAT, "%s: damaged: a storage without a key", r->name);
            goto out;
        }
        FCT_TRY_OUT(read_legacy_storage(r, key, data, n, &at));
    }
    st = flatten(r, r->pickle.root, &root, 0);
out:
    fct_pickle_clear(&keys);
    return st;
}

fct_status fct_pth_parse(fct_pth *out, const uint8_t *data, int64_t n, const char *name)
{
    static const char lfs[] = "version https://git-lfs";
    fct_status st;
    *out = (fct_pth){0};
    reader r = {.out = out,
                .name = name,
                .file_bytes = n,
                .max_out_bytes = n < INT64_MAX / 32 ? 16 * n + (1 << 20) : INT64_MAX};
    if (n >= (int64_t)sizeof lfs - 1 && memcmp(data, lfs, sizeof lfs - 1) == 0)
        st = fct_fail(
            FCT_ERR_FORMAT,
            "%s: this is a Git LFS pointer, not the file itself: get it with `git lfs pull`", name);
    else if (n >= 4 && memcmp(data, "PK\3\4", 4) == 0)
        st = read_zip(&r, data, n);
    else if (n >= (int64_t)sizeof legacy_magic &&
             memcmp(data, legacy_magic, sizeof legacy_magic) == 0)
        st = read_legacy(&r, data, n);
    else
        st = fct_fail(FCT_ERR_FORMAT, "%s: not a file from torch.save", name);
    fct_pickle_clear(&r.pickle);
    for (int64_t i = 0; i < r.n_storage; i++) fct_free(r.storage[i].owned);
    fct_free(r.storage);
    fct_free(r.stem);
    if (st != FCT_OK) fct_pth_close(out);
    return st;
}

fct_status fct_pth_open(fct_pth *out, const char *path)
{
    fct_file file = {0};
    *out = (fct_pth){0};
    FCT_TRY(fct_file_map(&file, path));
    fct_status st = fct_pth_parse(out, file.data, file.size, path);
    fct_file_unmap(&file);
    return st;
}

void fct_pth_close(fct_pth *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        fct_free(p->entry[i].name);
        fct_free(p->entry[i].t.data);
    }
    fct_free(p->entry);
    for (int64_t i = 0; i < p->n_values; i++) {
        fct_free(p->value[i].name);
        fct_free(p->value[i].text);
    }
    fct_free(p->value);
    *p = (fct_pth){0};
}

const fct_tensor *fct_pth_find(const fct_pth *p, const char *name)
{
    for (int64_t i = 0; i < p->n; i++)
        if (strcmp(p->entry[i].name, name) == 0) return &p->entry[i].t;
    return NULL;
}

const fct_pth_value *fct_pth_find_value(const fct_pth *p, const char *name)
{
    for (int64_t i = 0; i < p->n_values; i++)
        if (strcmp(p->value[i].name, name) == 0) return &p->value[i];
    return NULL;
}

/* torch_file.c - takes apart what torch.save wrote: the object tree and the storages that it speaks
   of, in the zip layout of today and in the one before 1.6.

   Memory and time are bounded by the file's size: what its entries hold together is no more. */
#include <stdlib.h>
#include <string.h>

#include "tensor/torch_file.h"

/* ---- zip entries ---- */

static fct_status zip_fail(const fct_torch_file *f)
{
    return fct_fail(FCT_ERR_FORMAT, "%s: damaged zip: %s", f->name,
                    zip_error_strerror(zip_get_error(f->zip)));
}

/* The entries of a file that torch.save wrote cannot overlap, so together they are no larger than
   it; records of the directory that share one entry's bytes would be. */
static fct_status zip_entry(fct_torch_file *f, uint8_t **out, int64_t *out_n, zip_uint64_t index)
{
    zip_stat_t info;
    *out = NULL;
    *out_n = 0;
    if (zip_stat_index(f->zip, index, 0, &info) != 0) return zip_fail(f);
    if (!(info.valid & ZIP_STAT_SIZE) || !(info.valid & ZIP_STAT_COMP_METHOD) ||
        info.comp_method != ZIP_CM_STORE)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: its entries are compressed, torch.save never does that", f->name);
    if (info.size > INT64_MAX || info.size != info.comp_size)
        return fct_fail(FCT_ERR_FORMAT, "%s: damaged zip: an entry's sizes differ", f->name);
    if ((int64_t)info.size > f->file_bytes - f->entry_bytes)
        return fct_fail(FCT_ERR_FORMAT, "%s: damaged zip: its entries are larger than the file",
                        f->name);
    f->entry_bytes += (int64_t)info.size;
    zip_file_t *entry = zip_fopen_index(f->zip, index, 0);
    if (!entry) return zip_fail(f);
    fct_status st = fct_new_raw(out, (int64_t)info.size, 1);
    if (st == FCT_OK && zip_fread(entry, *out, info.size) != (zip_int64_t)info.size) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: an entry is cut short or damaged", f->name);
        fct_free(*out);
        *out = NULL;
    }
    zip_fclose(entry);
    if (st == FCT_OK) *out_n = (int64_t)info.size;
    return st;
}

/* "archive/data.pkl", whatever the archive is called. */
static fct_status find_pickle(fct_torch_file *f, zip_uint64_t *index)
{
    static const char wanted[] = "/data.pkl";
    zip_int64_t n = zip_get_num_entries(f->zip, 0);
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(f->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t length = name ? strlen(name) : 0;
        if (length < sizeof wanted - 1 || strcmp(name + length - (sizeof wanted - 1), wanted) != 0)
            continue;
        FCT_TRY(fct_strdup(&f->stem, name));
        f->stem[length - (sizeof wanted - 2)] = '\0';
        *index = (zip_uint64_t)i;
        return FCT_OK;
    }
    return fct_fail(FCT_ERR_FORMAT, "%s: a zip, but not from torch.save: it has no data.pkl",
                    f->name);
}

static fct_status check_byteorder(fct_torch_file *f)
{
    char *path = NULL;
    uint8_t *text = NULL;
    int64_t n = 0;
    FCT_TRY(fct_format(&path, "%sbyteorder", f->stem));
    zip_int64_t index = zip_name_locate(f->zip, path, ZIP_FL_ENC_RAW);
    fct_free(path);
    if (index < 0) return FCT_OK; /* absent before torch 2.1, which wrote little endian */
    FCT_TRY(zip_entry(f, &text, &n, (zip_uint64_t)index));
    bool little = n == 6 && memcmp(text, "little", 6) == 0;
    fct_free(text);
    return little ? FCT_OK
                  : fct_fail(FCT_ERR_UNSUPPORTED, "%s: written on a big-endian machine", f->name);
}

/* ---- storages ---- */

static int by_key(const void *a, const void *b)
{
    const fct_pk_node *x = ((const fct_torch_storage *)a)->node,
                      *y = ((const fct_torch_storage *)b)->node;
    int order = memcmp(x->text, y->text, (size_t)(x->n < y->n ? x->n : y->n));
    if (order != 0) return order;
    return x->n < y->n ? -1 : x->n > y->n;
}

static int by_key_and_place(const void *a, const void *b)
{
    int order = by_key(a, b);
    if (order != 0) return order;
    const fct_pk_node *x = ((const fct_torch_storage *)a)->node,
                      *y = ((const fct_torch_storage *)b)->node;
    return x < y ? -1 : x > y;
}

/* The storages that the pickle speaks of, each key once. */
static fct_status collect_storages(fct_torch_file *f)
{
    const fct_pickle *p = &f->pickle;
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) n += p->node[i].kind == FCT_PK_STORAGE;
    FCT_TRY(fct_new(&f->storage, n, (int64_t)sizeof *f->storage));
    n = 0;
    for (int64_t i = 0; i < p->n; i++)
        if (p->node[i].kind == FCT_PK_STORAGE) f->storage[n++].node = &p->node[i];
    qsort(f->storage, (size_t)n, sizeof *f->storage, by_key_and_place);
    for (int64_t i = 0; i < n; i++)
        if (f->n_storage == 0 || by_key(&f->storage[i], &f->storage[f->n_storage - 1]) != 0)
            f->storage[f->n_storage++] = f->storage[i];
    return FCT_OK;
}

/* By the node's text; NULL when the pickle speaks of no such storage. */
static fct_torch_storage *find_storage(const fct_torch_file *f, const fct_pk_node *key)
{
    const fct_torch_storage wanted = {.node = key};
    return bsearch(&wanted, f->storage, (size_t)f->n_storage, sizeof *f->storage, by_key);
}

fct_status fct_torch_file_storage(fct_torch_file *f, const fct_torch_storage **out,
                                  const fct_pk_node *node)
{
    char *path = NULL;
    fct_torch_storage *s = find_storage(f, node);
    *out = s;
    if (s && s->data) return FCT_OK;
    if (!s || !f->zip) return fct_fail(FCT_ERR_FORMAT, "%s: a tensor's data are missing", f->name);
    FCT_TRY(fct_format(&path, "%sdata/%.*s", f->stem, (int)(node->n < 200 ? node->n : 200),
                       node->text));
    zip_int64_t index = zip_name_locate(f->zip, path, ZIP_FL_ENC_RAW);
    fct_status st =
        index >= 0 ? FCT_OK : fct_fail(FCT_ERR_FORMAT, "%s: %s is missing in it", f->name, path);
    fct_free(path);
    if (st == FCT_OK) st = zip_entry(f, &s->owned, &s->bytes, (zip_uint64_t)index);
    s->data = s->owned;
    return st;
}

/* ---- the two layouts ---- */

static fct_status read_zip(fct_torch_file *f, const uint8_t *data, int64_t n)
{
    fct_status st = FCT_OK;
    zip_error_t error;
    zip_uint64_t index = 0;
    int64_t n_tree = 0;
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(data, (zip_uint64_t)n, 0, &error);
    f->zip = source ? zip_open_from_source(source, ZIP_RDONLY, &error) : NULL;
    if (!f->zip) {
        st = fct_fail(zip_error_code_zip(&error) == ZIP_ER_MEMORY ? FCT_ERR_MEMORY : FCT_ERR_FORMAT,
                      "%s: not a whole torch file: %s", f->name, zip_error_strerror(&error));
        zip_source_free(source);
        goto out;
    }
    FCT_TRY_OUT(find_pickle(f, &index));
    FCT_TRY_OUT(check_byteorder(f));
    FCT_TRY_OUT(zip_entry(f, &f->tree, &n_tree, index));
    FCT_TRY_OUT(fct_pickle_parse(&f->pickle, f->tree, n_tree, f->name));
    st = collect_storages(f);
out:
    zip_error_fini(&error);
    return st;
}

static const uint8_t legacy_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* One of the small pickles before the object:
   the protocol version, then what the writing machine was. */
static fct_status read_preamble(const fct_torch_file *f, const uint8_t *data, int64_t n,
                                int64_t *used, bool version)
{
    fct_pickle p;
    fct_status st = fct_pickle_parse(&p, data, n, f->name);
    *used = p.used;
    const fct_pk_node *root = st == FCT_OK ? &p.node[p.root] : NULL;
    if (root && version && (root->kind != FCT_PK_INT || root->i != 1001))
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: an unknown version of torch's old layout", f->name);
    for (int64_t i = 0; root && !version && root->kind == FCT_PK_DICT && i + 1 < root->n; i += 2) {
        const fct_pk_node *key = &p.node[root->item[i]], *value = &p.node[root->item[i + 1]];
        if (key->kind == FCT_PK_TEXT && key->n == 13 &&
            memcmp(key->text, "little_endian", 13) == 0 && value->kind == FCT_PK_BOOL && !value->i)
            st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: written on a big-endian machine", f->name);
    }
    fct_pickle_clear(&p);
    return st;
}

/* numel of the element type, then the data, for one key. */
static fct_status read_legacy_storage(fct_torch_file *f, const fct_pk_node *key,
                                      const uint8_t *data, int64_t n, int64_t *at)
{
    fct_torch_storage *s = find_storage(f, key);
    if (!s || n - *at < 8) return fct_fail(FCT_ERR_FORMAT, "%s: damaged or cut short", f->name);
    if (s->data) return fct_fail(FCT_ERR_FORMAT, "%s: damaged: a storage comes twice", f->name);
    uint64_t numel = 0;
    for (int i = 8; i > 0; i--) numel = numel << 8 | data[*at + i - 1];
    *at += 8;
    s->data = data + *at;
    if (numel > INT64_MAX ||
        fct_mul_i64(&s->bytes, (int64_t)numel, fct_dtype_bytes(s->node->dtype)) != FCT_OK ||
        s->bytes > n - *at)
        return fct_fail(FCT_ERR_FORMAT, "%s: damaged or cut short: a storage ends beyond the file",
                        f->name);
    *at += s->bytes;
    return FCT_OK;
}

static fct_status read_legacy(fct_torch_file *f, const uint8_t *data, int64_t n)
{
    fct_status st = FCT_OK;
    fct_pickle keys = {0};
    int64_t at = (int64_t)sizeof legacy_magic, used;
    FCT_TRY(read_preamble(f, data + at, n - at, &used, true));
    at += used;
    FCT_TRY(read_preamble(f, data + at, n - at, &used, false));
    at += used;
    FCT_TRY(fct_pickle_parse(&f->pickle, data + at, n - at, f->name));
    at += f->pickle.used;
    FCT_TRY(collect_storages(f));
    FCT_TRY_OUT(fct_pickle_parse(&keys, data + at, n - at, f->name));
    at += keys.used;
    const fct_pk_node *list = &keys.node[keys.root];
    if (list->kind != FCT_PK_LIST) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: damaged: the list of its storages is missing", f->name);
        goto out;
    }
    for (int64_t i = 0; i < list->n; i++) {
        const fct_pk_node *key = &keys.node[list->item[i]];
        if (key->kind != FCT_PK_TEXT) {
            st = fct_fail(FCT_ERR_FORMAT, "%s: damaged: a storage without a key", f->name);
            goto out;
        }
        FCT_TRY_OUT(read_legacy_storage(f, key, data, n, &at));
    }
out:
    fct_pickle_clear(&keys);
    return st;
}

fct_status fct_torch_file_open(fct_torch_file *f, const uint8_t *data, int64_t n, const char *name)
{
    static const char lfs[] = "version https://git-lfs";
    *f = (fct_torch_file){.name = name, .file_bytes = n};
    if (n >= (int64_t)sizeof lfs - 1 && memcmp(data, lfs, sizeof lfs - 1) == 0)
        return fct_fail(
            FCT_ERR_FORMAT,
            "%s: this is a Git LFS pointer, not the file itself: get it with `git lfs pull`", name);
    if (n >= 4 && memcmp(data, "PK\3\4", 4) == 0) return read_zip(f, data, n);
    if (n >= (int64_t)sizeof legacy_magic && memcmp(data, legacy_magic, sizeof legacy_magic) == 0)
        return read_legacy(f, data, n);
    return fct_fail(FCT_ERR_FORMAT, "%s: not a file from torch.save", name);
}

void fct_torch_file_close(fct_torch_file *f)
{
    fct_pickle_clear(&f->pickle);
    for (int64_t i = 0; i < f->n_storage; i++) fct_free(f->storage[i].owned);
    fct_free(f->storage);
    fct_free(f->stem);
    fct_free(f->tree);
    if (f->zip) zip_discard(f->zip);
}

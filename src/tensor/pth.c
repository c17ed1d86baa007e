/* pth.c - reads tensors out of what torch.save wrote.

   torch_file.c gives the object tree and the storages; here the tree is flattened to names joined
   by dots, and each tensor is gathered from its storage by its strides (the authors' decoder is
   stored transposed). Every offset, stride and size is checked against the storage that is really
   there. Of values that are not tensors, whole numbers and texts are kept by name; others are
   passed over. Memory and time are bounded by the file's size: what its tensors and their names
   take, and no container inside itself. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tensor/torch_file.h"

enum { MAX_DEPTH = 32, MAX_ENTRIES = 1 << 18, MAX_VISITS = 1 << 22, MAX_NAME = 4096 };

typedef struct reader {
    fct_pth *out;
    fct_torch_file file;
    int64_t cap_entry, cap_value;
    int64_t visits, out_bytes, max_out_bytes;
    int32_t inside[MAX_DEPTH + 1]; /* the containers around the value that is flattened */
} reader;

static const fct_pk_node *node_at(const reader *r, int32_t i)
{
    return &r->file.pickle.node[i];
}

/* ---- tensors ---- */

/* Copies element by element along the strides;
   the innermost run goes at once where it is contiguous. */
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
                        "%s: %s has %" PRId64 " dimensions, facet handles up to %d", r->file.name,
                        name, size->n, FCT_MAX_DIMS);
    t->dtype = tensor->dtype;
    t->ndim = (int)size->n;
    for (int i = 0; i < t->ndim; i++) {
        t->dim[i] = node_at(r, size->item[i])->i;
        stride[i] = node_at(r, strides->item[i])->i;
        if (t->dim[i] < 0 || stride[i] < 0)
            return fct_fail(FCT_ERR_FORMAT, "%s: %s has a negative size or stride", r->file.name,
                            name);
    }
    return FCT_OK;
}

/* Counts what is handed out: one storage, or one long name, may be used by many tensors. */
static fct_status take_room(reader *r, int64_t bytes)
{
    if (bytes > r->max_out_bytes - r->out_bytes)
        return fct_fail(FCT_ERR_RANGE, "%s: its tensors are far larger than the file: refused",
                        r->file.name);
    r->out_bytes += bytes;
    return FCT_OK;
}

/* The storage must hold offset + sum (size-1)*stride + 1 elements, and really have that many bytes
   in the file; a tensor without elements needs none. */
static fct_status check_reach(reader *r, const fct_pk_node *tensor, const fct_tensor *t,
                              const int64_t *stride, const fct_torch_storage *s, const char *name)
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
                        "%s: %s reaches beyond its data: the file is damaged or cut short",
                        r->file.name, name);
    return take_room(r, bytes);
}

static fct_status add_tensor(reader *r, const fct_pk_node *tensor, const char *name)
{
    fct_tensor t = {0};
    int64_t stride[FCT_MAX_DIMS] = {0};
    const fct_torch_storage *s;
    FCT_TRY(read_layout(r, tensor, &t, stride, name));
    FCT_TRY(fct_torch_file_storage(&r->file, &s, node_at(r, tensor->item[0])));
    FCT_TRY(check_reach(r, tensor, &t, stride, s, name));
    FCT_TRY(take_room(r, (int64_t)(strlen(name) + sizeof(fct_tensor_entry))));
    if (r->out->n == MAX_ENTRIES)
        return fct_fail(FCT_ERR_RANGE, "%s: it holds too many tensors", r->file.name);
    if (r->out->n == r->cap_entry) {
        int64_t cap = r->cap_entry ? 2 * r->cap_entry : 16;
        FCT_TRY(fct_grow(&r->out->entry, r->cap_entry, cap, (int64_t)sizeof *r->out->entry));
        r->cap_entry = cap;
    }
    fct_tensor_entry *e = &r->out->entry[r->out->n];
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
        return fct_fail(FCT_ERR_RANGE, "%s: a name in it is longer than %d bytes", r->file.name,
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
                return fct_fail(FCT_ERR_FORMAT, "%s: a name with a zero byte", r->file.name);
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
        return fct_fail(FCT_ERR_RANGE, "%s: nested too deeply for a file of tensors", r->file.name);
    if (node->kind == FCT_PK_TENSOR) return add_tensor(r, node, name->n > 0 ? name->p : "");
    if (node->kind == FCT_PK_INT || node->kind == FCT_PK_TEXT)
        return add_value(r, node, name->n > 0 ? name->p : "");
    if (node->kind != FCT_PK_DICT && node->kind != FCT_PK_LIST && node->kind != FCT_PK_TUPLE)
        return FCT_OK;
    for (int i = 0; i < depth; i++)
        if (r->inside[i] == index)
            return fct_fail(FCT_ERR_FORMAT, "%s: damaged: a container in it holds itself",
                            r->file.name);
    r->inside[depth] = index;
    if (node->kind == FCT_PK_DICT) return flatten_dict(r, index, name, depth);
    for (int64_t i = 0; i < node->n; i++) {
        char digits[24];
        int n = snprintf(digits, sizeof digits, "%" PRId64, i);
        FCT_TRY(flatten_child(r, node->item[i], name, digits, n, depth));
    }
    return FCT_OK;
}

fct_status fct_pth_parse(fct_pth *out, const uint8_t *data, int64_t n, const char *name)
{
    fct_str root = {0};
    reader r = {.out = out, .max_out_bytes = n < INT64_MAX / 32 ? 16 * n + (1 << 20) : INT64_MAX};
    *out = (fct_pth){0};
    fct_status st = fct_torch_file_open(&r.file, data, n, name);
    if (st == FCT_OK) st = flatten(&r, r.file.pickle.root, &root, 0);
    fct_torch_file_close(&r.file);
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

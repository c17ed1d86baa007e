/* checker_load.c - reads the small network that reads a picture's factors.

   checker.json lists chains of layers and how their outputs are cut into heads. The first chain
   starts at the picture; `from` ends a chain, whose vector is a part of the outputs, and starts
   another at an earlier named layer.
   The file is data of others: an operation that is not known, sizes that do not follow from the
   layer before and weights of another shape are refused when it is loaded, so that running cannot
   fail for them. */
#include <stdio.h>
#include <string.h>

#include "eval/eval.h"

static const char *const op_name[FCT_CHECKER_COUNT] = {"conv",   "group_norm", "relu", "flatten",
                                                       "linear", "global_max", "from"};

enum { MAX_SIZE = 1 << 16, MAX_LAYERS = 256 };

typedef struct loading { /* what the parts of loading share */
    fct_checker *c;
    const char *where; /* path of checker.json */
    fct_safetensors weights;
} loading;

static fct_status size_field(int64_t *out, const json_t *o, const char *key, int64_t lo,
                             const char *where)
{
    FCT_TRY(fct_json_i64(out, o, key, -1, where));
    if (*out < lo || *out > MAX_SIZE)
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: want a whole number from %lld to %d", where, key,
                        (long long)lo, MAX_SIZE);
    return FCT_OK;
}

static fct_status find_weight(const fct_tensor **out, const loading *l, const char *name,
                              const char *part, int ndim, const int64_t *dim)
{
    fct_status st = FCT_OK;
    char *full = NULL;
    FCT_TRY(fct_format(&full, "%s.%s", name, part));
    const fct_tensor *t = fct_safetensors_find(&l->weights, full);
    if (!t) {
        st = fct_fail(FCT_ERR_MISSING, "%s: no tensor %s", l->weights.path, full);
        goto out;
    }
    fct_tensor want = fct_tensor_of(NULL, t->dtype, ndim, dim);
    bool same = t->ndim == ndim;
    for (int i = 0; same && i < ndim; i++) same = t->dim[i] == dim[i];
    if (!same) {
        char a[64], b[64];
        fct_shape_text(a, sizeof a, &want);
        fct_shape_text(b, sizeof b, t);
        st = fct_fail(FCT_ERR_SHAPE, "%s: %s: want %s, file has %s", l->weights.path, full, a, b);
    }
    *out = t;
out:
    fct_free(full);
    return st;
}

static fct_status load_floats(float **out, const loading *l, const char *name, const char *part,
                              int64_t n)
{
    const fct_tensor *t = NULL;
    FCT_TRY(find_weight(&t, l, name, part, 1, &n));
    FCT_TRY(fct_new(out, n, sizeof **out));
    return fct_convert(*out, FCT_F32, t->data, t->dtype, n);
}

static fct_status load_weight(fct_checker_layer *y, const loading *l, const char *name, int ndim,
                              const int64_t *dim)
{
    const fct_tensor *t = NULL;
    FCT_TRY(find_weight(&t, l, name, "weight", ndim, dim));
    fct_pack_desc d = {.kind = ndim == 4 ? FCT_PACK_CONV : FCT_PACK_LINEAR,
                       .dtype = FCT_F32,
                       .part = &(fct_weight_part){.t = t},
                       .n_parts = 1};
    FCT_TRY(fct_weight_pack(l->c->be, &y->weight, &d));
    return load_floats(&y->bias, l, name, "bias", dim[0]);
}

static fct_status want_inputs(int64_t in, int64_t have, const char *where)
{
    if (in == have) return FCT_OK;
    return fct_fail(FCT_ERR_SHAPE, "%s: takes %lld inputs, but the layer before gives %lld", where,
                    (long long)in, (long long)have);
}

/* x: the layer before (or the picture), whose sizes this layer's follow from. */
static fct_status load_conv(fct_checker_layer *y, const fct_checker_layer *x, const loading *l,
                            const json_t *o, const char *name, const char *where)
{
    int64_t in, padded_h, padded_w;
    FCT_TRY(size_field(&in, o, "in", 1, where));
    FCT_TRY(size_field(&y->c, o, "out", 1, where));
    FCT_TRY(size_field(&y->kernel, o, "kernel", 1, where));
    FCT_TRY(size_field(&y->stride, o, "stride", 1, where));
    FCT_TRY(size_field(&y->padding, o, "padding", 0, where));
    FCT_TRY(want_inputs(in, x->c, where));
    padded_h = x->h + 2 * y->padding;
    padded_w = x->w + 2 * y->padding;
    if (y->kernel > padded_h || y->kernel > padded_w || y->padding >= y->kernel)
        return fct_fail(
            FCT_ERR_SHAPE, "%s: a kernel of %lld with padding %lld does not fit a map of %lldx%lld",
            where, (long long)y->kernel, (long long)y->padding, (long long)x->w, (long long)x->h);
    y->h = (padded_h - y->kernel) / y->stride + 1;
    y->w = (padded_w - y->kernel) / y->stride + 1;
    return load_weight(y, l, name, 4, (int64_t[]){y->c, in, y->kernel, y->kernel});
}

static fct_status load_group_norm(fct_checker_layer *y, const fct_checker_layer *x,
                                  const loading *l, const json_t *o, const char *name,
                                  const char *where)
{
    int64_t channels;
    double eps;
    FCT_TRY(size_field(&channels, o, "channels", 1, where));
    FCT_TRY(size_field(&y->groups, o, "groups", 1, where));
    FCT_TRY(fct_json_f64(&eps, o, "eps", 1e-5, where));
    FCT_TRY(want_inputs(channels, x->c, where));
    if (channels % y->groups || !(eps > 0 && eps < 1))
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: groups must divide channels, and eps lie between 0 and 1", where);
    y->eps = (float)eps;
    FCT_TRY(load_floats(&y->scale, l, name, "weight", channels));
    return load_floats(&y->bias, l, name, "bias", channels);
}

static fct_status load_linear(fct_checker_layer *y, const fct_checker_layer *x, const loading *l,
                              const json_t *o, const char *name, const char *where)
{
    int64_t in;
    FCT_TRY(size_field(&in, o, "in", 1, where));
    FCT_TRY(size_field(&y->c, o, "out", 1, where));
    if (x->h != 1 || x->w != 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: a linear layer follows `flatten` or another one",
                        where);
    FCT_TRY(want_inputs(in, x->c, where));
    return load_weight(y, l, name, 2, (int64_t[]){y->c, in});
}

/* Ends the chain before, and starts another at an earlier layer. */
static fct_status load_from(fct_checker_layer *y, fct_checker_layer *x, const loading *l,
                            const char *name, const char *where)
{
    const fct_checker *c = l->c;
    if (x->h != 1 || x->w != 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: the chain before `from` must end in a vector", where);
    y->source = -1;
    for (int64_t i = 0; name && &c->layer[i] < y; i++)
        if (c->layer[i].name && c->layer[i].op != FCT_CHECKER_FROM &&
            strcmp(c->layer[i].name, name) == 0)
            y->source = i;
    if (y->source < 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: from: no layer before it is named %s", where,
                        name ? name : "(none)");
    x->ends = true;
    const fct_checker_layer *s = &c->layer[y->source];
    y->h = s->h;
    y->w = s->w;
    y->c = s->c;
    return FCT_OK;
}

static fct_status load_layer(fct_checker_layer *y, fct_checker_layer *x, const loading *l,
                             const json_t *o, const char *where)
{
    const char *op = NULL, *name = NULL;
    FCT_TRY(fct_json_str(&op, o, "op", NULL, where));
    FCT_TRY(fct_json_str(&name, o, "name", NULL, where));
    y->op = FCT_CHECKER_COUNT;
    for (int i = 0; op && i < FCT_CHECKER_COUNT; i++)
        if (strcmp(op, op_name[i]) == 0) y->op = (fct_checker_op)i;
    if (y->op == FCT_CHECKER_COUNT)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: op %s is not known (conv, group_norm, relu, flatten, linear, "
                        "global_max, from are)",
                        where, op ? op : "(none)");
    bool weights =
        y->op == FCT_CHECKER_CONV || y->op == FCT_CHECKER_GROUP_NORM || y->op == FCT_CHECKER_LINEAR;
    if (weights && !name)
        return fct_fail(FCT_ERR_FORMAT, "%s: a layer with weights needs a name", where);
    if (name) FCT_TRY(fct_strdup(&y->name, name));
    y->h = x->h;
    y->w = x->w;
    y->c = x->c;
    switch (y->op) {
    case FCT_CHECKER_CONV: return load_conv(y, x, l, o, name, where);
    case FCT_CHECKER_GROUP_NORM: return load_group_norm(y, x, l, o, name, where);
    case FCT_CHECKER_LINEAR: return load_linear(y, x, l, o, name, where);
    case FCT_CHECKER_FLATTEN: {
        int64_t n;
        FCT_TRY(fct_mul_i64(&n, x->h, x->w));
        FCT_TRY(fct_mul_i64(&y->c, n, x->c));
        y->h = y->w = 1;
        return FCT_OK;
    }
    case FCT_CHECKER_FROM: return load_from(y, x, l, name, where);
    case FCT_CHECKER_MAX: y->h = y->w = 1; break;
    case FCT_CHECKER_RELU:
    case FCT_CHECKER_COUNT: break;
    }
    return FCT_OK;
}

static fct_status load_layers(loading *l, const json_t *list)
{
    fct_checker *c = l->c;
    int64_t n = (int64_t)json_array_size(list);
    if (n < 1 || n > MAX_LAYERS)
        return fct_fail(FCT_ERR_FORMAT, "%s: layers: want a list of 1 to %d", l->where, MAX_LAYERS);
    FCT_TRY(fct_new(&c->layer, n, sizeof *c->layer));
    fct_checker_layer picture = {.h = c->height, .w = c->width, .c = c->channels},
                      *before = &picture;
    while (c->n_layers < n) {
        char where[96];
        snprintf(where, sizeof where, "layer %lld", (long long)c->n_layers);
        fct_checker_layer *y = &c->layer[c->n_layers];
        fct_status st =
            load_layer(y, before, l, json_array_get(list, (size_t)c->n_layers++), where);
        if (st != FCT_OK) return fct_where(st, "%s", l->where);
        before = y;
    }
    if (before->h != 1 || before->w != 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: layers: the last one must give a vector", l->where);
    before->ends = true;
    for (int64_t i = 0; i < n; i++)
        if (c->layer[i].ends) c->outputs += c->layer[i].c;
    return FCT_OK;
}

static fct_status load_head(fct_checker_head *h, const fct_checker *c, const json_t *o,
                            const char *where)
{
    const char *name = NULL, *kind = NULL;
    FCT_TRY(fct_json_str(&name, o, "name", NULL, where));
    FCT_TRY(fct_json_str(&kind, o, "kind", NULL, where));
    if (!name || !kind)
        return fct_fail(FCT_ERR_FORMAT, "%s: a head needs a name and a kind", where);
    FCT_TRY(fct_strdup(&h->name, name));
    h->points = strcmp(kind, "points") == 0;
    if (!h->points && strcmp(kind, "class") != 0)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s: kind %s is not known (class, points are)",
                        where, name, kind);
    FCT_TRY(size_field(&h->offset, o, "offset", 0, where));
    FCT_TRY(size_field(&h->size, o, "size", 1, where));
    if (h->offset + h->size > c->outputs)
        return fct_fail(FCT_ERR_SHAPE, "%s: %s: outputs %lld to %lld, but there are %lld", where,
                        name, (long long)h->offset, (long long)(h->offset + h->size - 1),
                        (long long)c->outputs);
    if (h->points && h->size > FCT_CHECKER_MAX_POINTS)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: %s: more than %d coordinates", where, name,
                        FCT_CHECKER_MAX_POINTS);
    if (h->points) return FCT_OK;
    const json_t *values = json_object_get(o, "values");
    if ((int64_t)json_array_size(values) != h->size)
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: values: want %lld names", where, name,
                        (long long)h->size);
    FCT_TRY(fct_new(&h->value, h->size, sizeof *h->value));
    for (int64_t i = 0; i < h->size; i++) {
        const char *text = json_string_value(json_array_get(values, (size_t)i));
        if (!text)
            return fct_fail(FCT_ERR_FORMAT, "%s: %s: values: entry %lld is no text", where, name,
                            (long long)i);
        FCT_TRY(fct_strdup(&h->value[i], text));
    }
    return FCT_OK;
}

static fct_status load_heads(fct_checker *c, const json_t *list, const char *where)
{
    int64_t n = (int64_t)json_array_size(list);
    if (n < 1 || n > FCT_CHECKER_MAX_HEADS)
        return fct_fail(FCT_ERR_FORMAT, "%s: heads: want a list of 1 to %d", where,
                        FCT_CHECKER_MAX_HEADS);
    FCT_TRY(fct_new(&c->head, n, sizeof *c->head));
    while (c->n_heads < n) {
        const json_t *o = json_array_get(list, (size_t)c->n_heads);
        FCT_TRY(load_head(&c->head[c->n_heads++], c, o, where));
    }
    c->readable = fct_checker_find(c, "readable");
    if (c->readable >= 0 && (c->head[c->readable].points || c->head[c->readable].size != 2))
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: readable: want two classes, the second meaning unreadable", where);
    return FCT_OK;
}

static fct_status load_input(fct_checker *c, const json_t *o, const char *where)
{
    FCT_TRY(size_field(&c->width, o, "width", 1, where));
    FCT_TRY(size_field(&c->height, o, "height", 1, where));
    FCT_TRY(size_field(&c->channels, o, "channels", 1, where));
    const json_t *range = json_object_get(o, "range");
    c->low = (float)json_number_value(json_array_get(range, 0));
    c->high = (float)json_number_value(json_array_get(range, 1));
    if (c->channels != 3 || json_array_size(range) != 2 || c->width > 4096 || c->height > 4096)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: want RGB of at most 4096x4096 with a range of two numbers", where);
    return FCT_OK;
}

fct_status fct_checker_load(fct_checker **out, const char *folder, const char *backend)
{
    fct_status st = FCT_OK;
    json_t *root = NULL;
    char *path = NULL, *weights = NULL;
    const char *format = NULL, *file = NULL;
    loading l = {0};
    *out = NULL;
    FCT_TRY_OUT(fct_path_join(&path, folder, "checker.json"));
    FCT_TRY_OUT(fct_json_read(&root, path));
    FCT_TRY_OUT(fct_json_str(&format, root, "format", "", path));
    FCT_TRY_OUT(fct_json_str(&file, root, "weights", "checker.safetensors", path));
    if (strcmp(format, "facet-checker-1") != 0) {
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: format is \"%s\", want \"facet-checker-1\"", path,
                      format);
        goto out;
    }
    if (strchr(file, '/')) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: weights: want the name of a file in the same folder",
                      path);
        goto out;
    }
    FCT_TRY_OUT(fct_path_join(&weights, folder, file));
    FCT_TRY_OUT(fct_safetensors_open(&l.weights, weights));
    FCT_TRY_OUT(fct_new(&l.c, 1, sizeof *l.c));
    l.where = path;
    FCT_TRY_OUT(fct_backend_find(&l.c->be, backend));
    FCT_TRY_OUT(load_input(l.c, json_object_get(root, "input"), path));
    FCT_TRY_OUT(fct_json_f64(&l.c->unreadable_above, root, "unreadable_above", 0.5, path));
    FCT_TRY_OUT(load_layers(&l, json_object_get(root, "layers")));
    FCT_TRY_OUT(load_heads(l.c, json_object_get(root, "heads"), path));
    *out = l.c;
    l.c = NULL;
out:
    fct_checker_free(l.c);
    fct_safetensors_close(&l.weights);
    fct_free(weights);
    fct_free(path);
    json_decref(root);
    return fct_where(st, "loading the checker");
}

void fct_checker_free(fct_checker *c)
{
    if (!c) return;
    for (int64_t i = 0; i < c->n_layers; i++) {
        fct_weight_clear(&c->layer[i].weight);
        fct_free(c->layer[i].scale);
        fct_free(c->layer[i].bias);
        fct_free(c->layer[i].name);
    }
    for (int64_t i = 0; i < c->n_heads; i++) {
        for (int64_t j = 0; c->head[i].value && j < c->head[i].size; j++)
            fct_free(c->head[i].value[j]);
        fct_free(c->head[i].value);
        fct_free(c->head[i].name);
    }
    fct_free(c->layer);
    fct_free(c->head);
    fct_free(c);
}

const fct_checker_head *fct_checker_heads(const fct_checker *c, int64_t *n)
{
    *n = c->n_heads;
    return c->head;
}

int64_t fct_checker_find(const fct_checker *c, const char *name)
{
    for (int64_t i = 0; i < c->n_heads; i++)
        if (strcmp(c->head[i].name, name) == 0) return i;
    return -1;
}

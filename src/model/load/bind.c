/* bind.c - binds weights to layers by their names: finds a layer's tensors, checks their shapes
   against what the config says, and packs them for the backend. The building code runs twice, first
   only to check, so that one message names every tensor that is missing or has another shape. */
#include <stdio.h>
#include <string.h>

#include "model/load/load.h"

enum { SHOWN = 12, MAX_STACK = 4 };

static fct_status note(fct_binder *b, const char *name, const char *want, const char *have)
{
    b->n_problems++;
    if (b->n_problems > SHOWN) return FCT_OK;
    if (!have)
        return fct_str_printf(&b->problems, "%s%s is missing (want %s)",
                              b->n_problems > 1 ? "; " : "", name, want);
    return fct_str_printf(&b->problems, "%s%s: want %s, file has %s", b->n_problems > 1 ? "; " : "",
                          name, want, have);
}

static bool usable(fct_dtype d)
{
    return d == FCT_F32 || d == FCT_F16 || d == FCT_BF16;
}

const fct_tensor *fct_bind_want(fct_binder *b, const char *name, int ndim, const int64_t *dim)
{
    const fct_tensor *t = fct_weights_find(b->w, name);
    fct_tensor want = fct_tensor_of(NULL, FCT_F32, ndim, dim);
    bool same = t && t->ndim == ndim && usable(t->dtype);
    for (int i = 0; same && i < ndim; i++) same = t->dim[i] == dim[i];
    if (same) return t;
    char a[64], c[96];
    fct_shape_text(a, sizeof a, &want);
    if (t) fct_shape_text(c, 64, t);
    if (t && !usable(t->dtype))
        snprintf(c, sizeof c, "numbers of type %s", fct_dtype_name(t->dtype));
    if (note(b, name, a, t ? c : NULL) != FCT_OK) b->n_problems++;
    return NULL;
}

fct_status fct_bind_module(fct_binder *b, int32_t *id, const char *name)
{
    fct_modules *m = b->modules;
    *id = 0;
    if (!m || b->check) return FCT_OK;
    if (m->n + 1 >= m->cap) {
        int64_t cap = m->cap ? 2 * m->cap : 256;
        FCT_TRY(fct_grow(&m->v, m->cap, cap, sizeof *m->v));
        m->cap = cap;
    }
    if (m->n == 0) m->n = 1;
    FCT_TRY(fct_format(&m->v[m->n].name, "%s.%s", b->root, name));
    m->v[m->n].block = b->block;
    m->v[m->n].stage = b->stage;
    *id = (int32_t)m->n++;
    return FCT_OK;
}

void fct_modules_clear(fct_modules *m)
{
    for (int64_t i = 0; i < m->n; i++) fct_free(m->v[i].name);
    fct_free(m->v);
    *m = (fct_modules){0};
}

fct_status fct_bind_report(fct_binder *b, const char *component)
{
    if (b->n_problems == 0) return FCT_OK;
    if (b->n_problems > SHOWN)
        return fct_fail(
            FCT_ERR_SHAPE,
            "loading %s: %s; and %lld more (do the config and the weights belong together?)",
            component, b->problems.p ? b->problems.p : "", (long long)(b->n_problems - SHOWN));
    return fct_fail(FCT_ERR_SHAPE, "loading %s: %s", component, b->problems.p ? b->problems.p : "");
}

/* ---- parts of layers ---- */

static const fct_tensor *part(fct_binder *b, const char *name, const char *what, int ndim,
                              const int64_t *dim)
{
    char full[FCT_NAME_SIZE + 16];
    snprintf(full, sizeof full, "%s.%s", name, what);
    return fct_bind_want(b, full, ndim, dim);
}

/* n tensors of `each` numbers, one after the other, as floats in the device's memory. */
static fct_status bring(const fct_binder *b, float **out, const fct_tensor *const *t, int n,
                        int64_t each)
{
    const fct_device *device = b->be->device;
    fct_status st = FCT_OK;
    float *plain = NULL;
    FCT_TRY(fct_new_raw(&plain, n * each, sizeof *plain));
    for (int i = 0; i < n && st == FCT_OK; i++)
        st = fct_convert(plain + i * each, FCT_F32, t[i]->data, t[i]->dtype, each);
    if (st == FCT_OK) st = fct_device_take(device, out, n * each, sizeof **out);
    if (st == FCT_OK) st = device->write(*out, plain, n * each * (int64_t)sizeof **out);
    fct_free(plain);
    return st;
}

static fct_status pack(fct_binder *b, fct_weight *w, fct_pack_kind kind,
                       const fct_weight_part *parts, int n)
{
    const fct_pack_desc d = {
        .kind = kind, .dtype = b->dtype, .part = parts, .n_parts = n, .map = b->map};
    return fct_weight_pack(b->be, w, &d);
}

fct_status fct_bind_stack(fct_binder *b, fct_linear *l, const char *const *names, int n, int64_t in,
                          int64_t out, int flags)
{
    fct_weight_part parts[MAX_STACK] = {{0}};
    const fct_tensor *bias[MAX_STACK] = {0};
    int ndim = flags & FCT_CONV_1X1 ? 4 : 2;
    bool whole = true;
    *l = (fct_linear){.in = in, .out = n * out, .device = b->be->device};
    for (int i = 0; i < n; i++) {
        parts[i].t = part(b, names[i], "weight", ndim, (int64_t[]){out, in, 1, 1});
        if (flags & FCT_BIAS) bias[i] = part(b, names[i], "bias", 1, &out);
        whole = whole && parts[i].t && (bias[i] || !(flags & FCT_BIAS));
    }
    if (b->check || !whole) return FCT_OK;
    fct_status st = pack(b, &l->w, FCT_PACK_LINEAR, parts, n);
    if (st != FCT_OK) return fct_where(st, "%s", names[0]);
    if (!(flags & FCT_BIAS)) return FCT_OK;
    return bring(b, &l->bias, bias, n, out);
}

fct_status fct_bind_linear(fct_binder *b, fct_linear *l, const char *name, int64_t in, int64_t out,
                           int flags)
{
    int32_t id = 0;
    FCT_TRY(fct_bind_module(b, &id, name));
    FCT_TRY(fct_bind_stack(b, l, &name, 1, in, out, flags));
    l->id = id;
    return FCT_OK;
}

fct_status fct_bind_conv(fct_binder *b, fct_conv *c, const char *name, int64_t in, int64_t out,
                         int64_t kernel)
{
    *c = (fct_conv){.in = in, .out = out, .kernel = kernel, .device = b->be->device};
    FCT_TRY(fct_bind_module(b, &c->id, name));
    const fct_tensor *w = part(b, name, "weight", 4, (int64_t[]){out, in, kernel, kernel});
    const fct_tensor *bias = part(b, name, "bias", 1, &out);
    if (b->check || !w || !bias) return FCT_OK;
    fct_status st = pack(b, &c->w, FCT_PACK_CONV, &(fct_weight_part){.t = w}, 1);
    if (st != FCT_OK) return fct_where(st, "%s", name);
    return bring(b, &c->bias, &bias, 1, out);
}

fct_status fct_bind_norm(fct_binder *b, fct_norm *x, const char *name, int64_t n, int64_t groups,
                         double eps)
{
    *x = (fct_norm){.n = n, .groups = groups, .eps = (float)eps, .device = b->be->device};
    FCT_TRY(fct_bind_module(b, &x->id, name));
    if (groups && n % groups)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: %lld channels do not make norm_num_groups = %lld groups", name,
                        (long long)n, (long long)groups);
    const fct_tensor *gamma = part(b, name, "weight", 1, &n), *beta = part(b, name, "bias", 1, &n);
    if (b->check || !gamma || !beta) return FCT_OK;
    FCT_TRY(bring(b, &x->gamma, &gamma, 1, n));
    return bring(b, &x->beta, &beta, 1, n);
}

void fct_linear_clear(fct_linear *l)
{
    fct_weight_clear(&l->w);
    fct_device_release(l->device, l->bias);
    *l = (fct_linear){0};
}

void fct_conv_clear(fct_conv *c)
{
    fct_weight_clear(&c->w);
    fct_device_release(c->device, c->bias);
    *c = (fct_conv){0};
}

void fct_norm_clear(fct_norm *x)
{
    fct_device_release(x->device, x->gamma);
    fct_device_release(x->device, x->beta);
    *x = (fct_norm){0};
}

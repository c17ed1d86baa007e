/* registry.c - lists the backends, and checks the arguments when a weight is packed. A backend with
   a hole in its table is refused here, when the model opens, never in the middle of a run. */
#include <string.h>

#include "compute/backend.h"

static const fct_backend *const backends[] = {&fct_backend_cpu, &fct_backend_ref};

static fct_status check_complete(const fct_backend *be)
{
    if (!be->device) return fct_fail(FCT_ERR_UNSUPPORTED, "backend %s has no device", be->name);
#define MEMBER(op) \
    if (!be->op) return fct_fail(FCT_ERR_UNSUPPORTED, "backend %s has no %s", be->name, #op);
    MEMBER(pack)
    MEMBER(unpack)
    MEMBER(plans_new)
    MEMBER(plans_free)
    MEMBER(product)
    MEMBER(encoder_new)
    MEMBER(encoder_free)
    MEMBER(has_bf16)
    MEMBER(describe) FCT_OP_LIST(MEMBER)
#undef MEMBER
        return FCT_OK;
}

int64_t fct_backend_count(void)
{
    return FCT_COUNT(backends);
}

const fct_backend *fct_backend_at(int64_t number)
{
    return number >= 0 && number < fct_backend_count() ? backends[number] : NULL;
}

fct_status fct_backend_find(const fct_backend **out, const char *name)
{
    *out = NULL;
    if (!name || strcmp(name, "auto") == 0) name = "cpu";
    for (size_t i = 0; i < FCT_COUNT(backends); i++) {
        if (strcmp(name, backends[i]->name) != 0) continue;
        FCT_TRY(check_complete(backends[i]));
        *out = backends[i];
        return FCT_OK;
    }
    return fct_fail(FCT_ERR_ARG, "backend %s is not known; there are auto, cpu and ref", name);
}

/* ---- packing ---- */

typedef struct part_size {
    int64_t rows, in, kh, kw;
} part_size;

static fct_status measure_part(part_size *out, const fct_weight_part *p, fct_pack_kind kind)
{
    const fct_tensor *t = p->t;
    if (!t) return fct_fail(FCT_ERR_ARG, "no tensor");
    char text[64];
    fct_shape_text(text, sizeof text, t);
    if (t->dtype != FCT_F32 && t->dtype != FCT_F16 && t->dtype != FCT_BF16)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s is %s; weights are f32, f16 or bf16", text,
                        fct_dtype_name(t->dtype));
    bool linear = kind == FCT_PACK_LINEAR;
    bool as_conv = t->ndim == 4 && (!linear || (t->dim[2] == 1 && t->dim[3] == 1));
    bool as_linear = linear && t->ndim == 2;
    bool as_conv1d = linear && t->ndim == 3 && t->dim[2] == 1;
    if (!as_conv && !as_linear && !as_conv1d)
        return fct_fail(FCT_ERR_SHAPE, "%s is not %s", text,
                        linear ? "[N,K] or [N,K,1,1]" : "[O,I,kh,kw]");
    if (p->transpose && !as_linear)
        return fct_fail(FCT_ERR_ARG, "%s: only [K,N] can be transposed", text);
    for (int i = 0; i < t->ndim; i++)
        if (t->dim[i] < 1) return fct_fail(FCT_ERR_SHAPE, "%s has a dimension of zero", text);
    int64_t n = p->transpose ? t->dim[1] : t->dim[0];
    bool all = p->row_lo == 0 && p->row_hi == 0;
    if (!all && (p->row_lo < 0 || p->row_hi > n || p->row_lo >= p->row_hi))
        return fct_fail(FCT_ERR_RANGE, "rows %lld to %lld of %s", (long long)p->row_lo,
                        (long long)p->row_hi, text);
    if (!t->data) return fct_fail(FCT_ERR_ARG, "%s has no data", text);
    *out = (part_size){.rows = all ? n : p->row_hi - p->row_lo,
                       .in = p->transpose ? t->dim[0] : t->dim[1],
                       .kh = !linear ? t->dim[2] : 1,
                       .kw = !linear ? t->dim[3] : 1};
    return FCT_OK;
}

static fct_status measure(fct_weight *out, const fct_pack_desc *desc)
{
    for (int64_t i = 0; i < desc->n_parts; i++) {
        part_size s = {0};
        fct_status st = measure_part(&s, &desc->part[i], desc->kind);
        if (st != FCT_OK) return fct_where(st, "part %lld", (long long)i);
        if (i == 0) {
            out->in = s.in;
            out->kh = s.kh;
            out->kw = s.kw;
        } else if (s.in != out->in || s.kh != out->kh || s.kw != out->kw) {
            return fct_fail(FCT_ERR_SHAPE, "part %lld takes %lld inputs, part 0 takes %lld",
                            (long long)i, (long long)s.in, (long long)out->in);
        }
        FCT_TRY(fct_add_i64(&out->out, out->out, s.rows));
    }
    return FCT_OK;
}

fct_status fct_weight_pack(const fct_backend *be, fct_weight *out, const fct_pack_desc *desc)
{
    *out = (fct_weight){0};
    if (!be || !desc || !desc->part || desc->n_parts < 1)
        return fct_fail(FCT_ERR_ARG, "pack: nothing to pack");
    if (desc->kind != FCT_PACK_LINEAR && desc->kind != FCT_PACK_CONV)
        return fct_fail(FCT_ERR_ARG, "pack: kind %d", (int)desc->kind);
    if (desc->dtype != FCT_F32 && desc->dtype != FCT_BF16)
        return fct_fail(FCT_ERR_ARG, "pack: products run in f32 or bf16, not %s",
                        fct_dtype_name(desc->dtype));
    fct_weight w = {.kind = desc->kind, .dtype = desc->dtype};
    fct_status st = measure(&w, desc);
    if (st != FCT_OK) return fct_where(st, "pack");
    w.be = be;
    st = be->pack(be, &w, desc);
    if (st != FCT_OK) {
        if (w.impl) be->unpack(&w);
        return fct_where(st, "pack");
    }
    *out = w;
    return FCT_OK;
}

void fct_weight_clear(fct_weight *w)
{
    if (!w) return;
    if (w->be && w->impl) w->be->unpack(w);
    *w = (fct_weight){0};
}

/* ---- encoders of sparse autoencoders ---- */

fct_status fct_encoder_init(fct_encoder *out, const fct_backend *be, fct_product product, int64_t n,
                            int64_t d)
{
    int64_t count;
    *out = (fct_encoder){0};
    if (!be) return fct_fail(FCT_ERR_ARG, "encoder: no backend");
    if (n < 1 || n > INT32_MAX || d < 1)
        return fct_fail(FCT_ERR_SHAPE, "encoder: [%lld,%lld] is not a possible size", (long long)n,
                        (long long)d);
    FCT_TRY(fct_mul_i64(&count, n, d));
    fct_encoder enc = {.product = product, .n = n, .d = d, .be = be};
    fct_status st = be->encoder_new(&enc);
    if (st != FCT_OK) {
        be->encoder_free(&enc);
        return fct_where(st, "encoder");
    }
    *out = enc;
    return FCT_OK;
}

void fct_encoder_clear(fct_encoder *enc)
{
    if (enc->be) enc->be->encoder_free(enc);
    *enc = (fct_encoder){0};
}

const char *fct_product_name(fct_product p)
{
    static const char *const name[] = {"f32", "bf16", "int8"};
    return (int)p >= 0 && (size_t)p < FCT_COUNT(name) ? name[p] : "unknown";
}

/* table.c - lists the ref backend's operations for the registry, and packs its weights as plain
   copies. */
#include "compute/pack.h"
#include "compute/ref/ref.h"

static fct_status pack(const fct_backend *be, fct_weight *out, const fct_pack_desc *desc)
{
    (void)be;
    int64_t n;
    FCT_TRY(fct_mul_i64(&n, out->out, out->in * out->kh * out->kw));
    ref_weight *w;
    FCT_TRY(fct_new(&w, 1, sizeof *w));
    out->impl = w;
    FCT_TRY(fct_new(&w->row, n, sizeof *w->row)); /* the caller unpacks what is half made */
    FCT_TRY(fct_pack_rows(w->row, desc, out, 0, out->out));
    if (out->dtype == FCT_BF16)
        for (int64_t i = 0; i < n; i++) w->row[i] = fct_bf16_to_f32(fct_f32_to_bf16(w->row[i]));
    out->bytes = n * (int64_t)sizeof *w->row;
    return FCT_OK;
}

static void unpack(fct_weight *w)
{
    ref_weight *r = w->impl;
    if (!r) return;
    fct_free(r->row);
    fct_free(r);
    w->impl = NULL;
}

/* Plain loops have nothing to remember. */
static fct_status plans_new(fct_plans **out)
{
    *out = NULL;
    return FCT_OK;
}

static void plans_free(fct_plans *p)
{
    (void)p;
}

static bool has_bf16(void)
{
    return false;
}

static fct_status describe(fct_str *out)
{
    return fct_str_append(out, "plain loops in float64, one thread");
}

static fct_product product(int64_t n, int64_t d, int64_t k)
{
    (void)n;
    (void)d;
    (void)k;
    return FCT_PRODUCT_F32;
}

static fct_status encoder_new(fct_encoder *enc)
{
    enc->product = FCT_PRODUCT_F32; /* whatever was asked for: nothing here is rounded */
    return FCT_OK;
}

static void encoder_free(fct_encoder *enc)
{
    enc->impl = NULL;
}

#define REF_ENTRY(op) .op = ref_##op,
const fct_backend fct_backend_ref = {.name = "ref",
                                     .device = &fct_device_host,
                                     .pack = pack,
                                     .unpack = unpack,
                                     .plans_new = plans_new,
                                     .plans_free = plans_free,
                                     .product = product,
                                     .encoder_new = encoder_new,
                                     .encoder_free = encoder_free,
                                     .has_bf16 = has_bf16,
                                     .describe = describe,
                                     FCT_OP_LIST(REF_ENTRY)};

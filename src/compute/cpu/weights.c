/* weights.c - packs weights for oneDNN: into the layout that is fast at the sizes models run,
   and for some convolutions into Winograd's form beside it. From then on they are only read. */
#include "compute/cpu/cpu.h"
#include "compute/cpu/winograd.h"
#include "compute/pack.h"

/* Canonical sizes: small and large maps and row counts,
   since oneDNN's favourite layout differs between them. */
static int canonical(dn_shape *out, const fct_weight *w)
{
    static const int64_t sizes[] = {32, 8, 64};
    int n = 0;
    for (size_t i = 0; i < FCT_COUNT(sizes); i++) {
        dn_shape s = {.x = w->dtype,
                      .w = w->dtype,
                      .y = w->dtype,
                      .bias = 1,
                      .batch = 1,
                      .n = w->out,
                      .k = w->in};
        if (w->kh == 1 && w->kw == 1) {
            s.kind = DN_MATMUL;
            s.m = sizes[i] * sizes[i] / 4;
        } else {
            s.kind = DN_CONV;
            s.ih = sizes[i] + w->kh - 1; /* any kernel fits, output sizes x sizes */
            s.iw = sizes[i] + w->kw - 1;
            if (w->kh % 2 == 1 && w->kw % 2 == 1) { /* padded to "same", as models run it */
                s.ih = s.iw = sizes[i];
                s.pad_top = s.pad_bottom = w->kh / 2;
                s.pad_left = s.pad_right = w->kw / 2;
            }
            s.oh = s.ow = sizes[i];
            s.kh = w->kh;
            s.kw = w->kw;
            s.stride = 1;
        }
        out[n++] = s;
    }
    return n;
}

/* A single part that is already plain f32 is packed where it lies. */
static const float *plain_already(const fct_pack_desc *desc)
{
    const fct_weight_part *p = desc->part;
    bool all = p->row_lo == 0 && p->row_hi == 0;
    bool aligned = (uintptr_t)p->t->data % sizeof(float) == 0;
    return desc->n_parts == 1 && all && !p->transpose && aligned && p->t->dtype == FCT_F32
               ? p->t->data
               : NULL;
}

fct_status cpu_pack(const fct_backend *be, fct_weight *out, const fct_pack_desc *desc)
{
    (void)be;
    fct_status st = FCT_OK;
    float *copy = NULL;
    cpu_weight *w;
    dn_shape shape[3];
    int n = canonical(shape, out);
    FCT_TRY(fct_new(&w, 1, sizeof *w));
    out->impl = w; /* the caller unpacks what is half made */
    FCT_TRY_OUT(dn_open(&w->d));
    FCT_TRY_OUT(dn_packed_new(&w->packed, w->d, shape, n));
    const float *plain = plain_already(desc);
    if (!plain) {
        FCT_TRY_OUT(fct_new(&copy, out->out, out->in * out->kh * out->kw * (int64_t)sizeof *copy));
        FCT_TRY_OUT(fct_pack_rows(copy, desc, out, 0, out->out));
        plain = copy;
    }
    FCT_TRY_OUT(dn_packed_fill(w->packed, plain));
    out->bytes = dn_packed_bytes(w->packed);
    if (cpu_winograd_fits(out, desc->map)) {
        FCT_TRY_OUT(cpu_winograd_pack(w, out, plain));
        out->bytes += dn_packed_bytes(w->winograd);
    }
out:
    fct_free(copy);
    return st;
}

void cpu_unpack(fct_weight *out)
{
    cpu_weight *w = out->impl;
    if (!w) return;
    dn_packed_free(w->packed);
    dn_packed_free(w->winograd);
    dn_close(w->d);
    fct_free(w);
    out->impl = NULL;
}

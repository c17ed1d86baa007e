/* kinds.c - lists the kinds of autoencoders that can be applied: what each is called, which tensors
   it has, and how pre-activations become codes. A new kind is a row here and a function above
   it. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "sae/sae.h"

/* ---- tensors ---- */

enum { BASE = FCT_SAE_HAS(W_ENC) | FCT_SAE_HAS(B_ENC) | FCT_SAE_HAS(W_DEC) | FCT_SAE_HAS(B_DEC) };

static const struct part {
    size_t at;
    bool by_feature, by_width;
} part_table[FCT_SAE_PART_COUNT] = {
    [FCT_SAE_PART_W_ENC] = {offsetof(fct_sae, w_enc), true, true},
    [FCT_SAE_PART_B_ENC] = {offsetof(fct_sae, b_enc), true, false},
    [FCT_SAE_PART_W_DEC] = {offsetof(fct_sae, w_dec), true, true},
    [FCT_SAE_PART_B_DEC] = {offsetof(fct_sae, b_dec), false, true},
    [FCT_SAE_PART_THRESHOLD] = {offsetof(fct_sae, threshold), true, false},
    [FCT_SAE_PART_B_MAG] = {offsetof(fct_sae, b_mag), true, false},
    [FCT_SAE_PART_R_MAG] = {offsetof(fct_sae, r_mag), true, false},
};

float **fct_sae_part_at(fct_sae *s, fct_sae_part part)
{
    return (float **)(void *)((char *)s + part_table[part].at);
}

int64_t fct_sae_part_count(const fct_sae *s, fct_sae_part part)
{
    const struct part *p = &part_table[part];
    return (p->by_feature ? s->f : 1) * (p->by_width ? s->d : 1);
}

int fct_sae_part_shape(const fct_sae *s, fct_sae_part part, int64_t dim[2])
{
    const struct part *p = &part_table[part];
    int n = 0;
    if (p->by_feature) dim[n++] = s->f;
    if (p->by_width) dim[n++] = s->d;
    return n;
}

/* ---- from pre-activations to codes, in place ----

   z [n,F], with h the pre-activation, and q the same without its bias:

       relu                  max(h, 0)
       jumprelu, batchtopk   h where h > threshold and h > 0, else 0
       gated                 max(exp(r_mag)·q + b_mag, 0) where q + b_enc > 0, else 0 */

static void keep_positive(const fct_sae *s, float *z, int64_t n)
{
    for (int64_t i = 0; i < n * s->f; i++) z[i] = z[i] > 0 ? z[i] : 0;
}

static void keep_above(const fct_sae *s, float *z, int64_t n)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t f = 0; f < s->f; f++) {
            float *h = z + r * s->f + f;
            *h = *h > s->threshold[f] && *h > 0 ? *h : 0;
        }
}

/* z comes as q, without the gate's bias b_enc: the magnitude has its own, and a - b + c would lose
   digits. */
static void keep_gated(const fct_sae *s, float *z, int64_t n)
{
    for (int64_t f = 0; f < s->f; f++) {
        float scale = expf(s->r_mag[f]);
        for (int64_t r = 0; r < n; r++) {
            float *h = z + r * s->f + f, magnitude = scale * *h + s->b_mag[f];
            *h = *h + s->b_enc[f] > 0 && magnitude > 0 ? magnitude : 0;
        }
    }
}

static const fct_sae_kind_info kind_table[] = {
    [FCT_SAE_TOPK] = {.name = "topk", .parts = BASE, .fixed_k = true, .wants_k = true},
    [FCT_SAE_RELU] = {.name = "standard", .parts = BASE, .keep = keep_positive},
    [FCT_SAE_JUMPRELU] = {.name = "jumprelu",
                          .parts = BASE | FCT_SAE_HAS(THRESHOLD),
                          .keep = keep_above},
    [FCT_SAE_GATED] = {.name = "gated",
                       .parts = BASE | FCT_SAE_HAS(B_MAG) | FCT_SAE_HAS(R_MAG),
                       .own_bias = true,
                       .keep = keep_gated},
    [FCT_SAE_BATCHTOPK] = {.name = "batchtopk",
                           .parts = BASE | FCT_SAE_HAS(THRESHOLD),
                           .wants_k = true,
                           .keep = keep_above},
};

const fct_sae_kind_info *fct_sae_kind_of(const fct_sae *s)
{
    return &kind_table[s->kind];
}

const fct_sae_kind_info *fct_sae_kind_get(fct_sae_kind kind)
{
    return &kind_table[kind];
}

const char *fct_sae_kind_name(fct_sae_kind kind)
{
    return kind_table[kind].name;
}

/* ---- scales ---- */

fct_status fct_sae_set_dec_norm(fct_sae *s)
{
    if (!s->dec_norm) FCT_TRY(fct_new_raw(&s->dec_norm, s->f, sizeof *s->dec_norm));
    for (int64_t f = 0; f < s->f; f++) {
        const float *dec = s->w_dec + f * s->d;
        double sum = 0;
        for (int64_t i = 0; i < s->d; i++) sum += (double)dec[i] * dec[i];
        s->dec_norm[f] = (float)sqrt(sum);
    }
    return FCT_OK;
}

void fct_sae_fold_dec_norm(fct_sae *s)
{
    if (!s->dec_norm) return;
    for (int64_t f = 0; f < s->f; f++) {
        float *enc = s->w_enc + f * s->d, *dec = s->w_dec + f * s->d, norm = s->dec_norm[f];
        for (int64_t i = 0; i < s->d; i++) enc[i] *= norm;
        s->b_enc[f] *= norm;
        for (int64_t i = 0; norm > 0 && i < s->d; i++) dec[i] /= norm;
    }
    fct_free(s->dec_norm);
    s->dec_norm = NULL;
}

/* variant.c - lists the architectures that can be trained, by the names that SAELens uses. */
#include <string.h>

#include "train/variant.h"

static const fct_variant *const variant_table[] = {
    &fct_variant_topk, &fct_variant_batchtopk, &fct_variant_jumprelu,
    &fct_variant_relu, &fct_variant_gated,     &fct_variant_matryoshka,
};

fct_status fct_variant_find(const fct_variant **out, const char *name)
{
    fct_str known = {0};
    fct_status st = FCT_OK;
    *out = &fct_variant_topk;
    if (!name) return FCT_OK;
    for (size_t i = 0; i < FCT_COUNT(variant_table); i++)
        if (strcmp(variant_table[i]->name, name) == 0) {
            *out = variant_table[i];
            return FCT_OK;
        }
    for (size_t i = 0; i < FCT_COUNT(variant_table) && st == FCT_OK; i++)
        st = fct_str_printf(&known, "%s%s", i > 0 ? ", " : "", variant_table[i]->name);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_ARG, "architecture %s is not known: want %s", name, known.p);
    fct_str_clear(&known);
    return st;
}

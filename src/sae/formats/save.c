/* save.c - writes an SAE in one of the formats, and statistics beside one that is there. Nothing is
   left out without a word: what the format cannot say is refused, statistics that it has no place
   for are told by fct_sae_lost_stats. The weights' file holds nothing
   that depends on when or how it was made, so equal weights are equal bytes. */
#include <string.h>

#include "sae/formats/formats.h"

typedef struct saving {
    const fct_sae *s;
    const fct_sae_format *format;
    const char *facet_json;
} saving;

static fct_status fill(void *user, const char *temp)
{
    const saving *v = user;
    const fct_sae *s = v->s;
    FCT_TRY(v->format->fill(s, temp));
    if (v->format->always_facet || s->block || s->model || s->facet_json || v->facet_json ||
        s->kind == FCT_SAE_BATCHTOPK)
        return fct_sae_write_facet(s, v->facet_json, temp);
    return FCT_OK;
}

static fct_status check_one(const fct_sae_format *format, const fct_sae *s)
{
    if (s->n_blocks > 0 && !format->keeps_blocks)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "the %s layout has no word for a crosscoder; one of its blocks can be "
                        "written alone",
                        format->name);
    return format->check ? format->check(s) : FCT_OK;
}

static bool can_say(fct_sae_layout layout, const fct_sae *s)
{
    return check_one(fct_sae_format_get(layout), s) == FCT_OK;
}

/* Why the format cannot say this SAE, and which can. */
static fct_status check(const fct_sae_format *format, const fct_sae *s)
{
    fct_status st = check_one(format, s);
    fct_str text = {0};
    if (st != FCT_ERR_UNSUPPORTED) return st;
    FCT_TRY_OUT(fct_str_printf(&text, "%s; layouts that can hold it:", fct_error_text()));
    for (fct_sae_layout i = 0, n = 0; i < FCT_SAE_LAYOUT_COUNT; i++)
        if (can_say(i, s))
            FCT_TRY_OUT(fct_str_printf(&text, "%s %s", n++ > 0 ? "," : "", fct_sae_layout_name(i)));
    st = fct_fail(FCT_ERR_UNSUPPORTED, "%s", text.p);
out:
    fct_str_clear(&text);
    return st;
}

static fct_status save(const fct_sae *s, const char *dir, fct_sae_layout layout,
                       const char *facet_json)
{
    fct_status st = FCT_OK;
    fct_sae *plain = NULL;
    saving v = {s, fct_sae_format_get(layout), facet_json};
    FCT_TRY_OUT(check(v.format, s));
    if (s->dec_norm && !(v.format->keeps_dec_norm && v.format->keeps_dec_norm(s))) {
        FCT_TRY_OUT(fct_sae_clone_all(&plain, s));
        fct_sae_fold_dec_norm(plain);
        v.s = plain;
    }
    FCT_TRY_OUT(fct_sae_put_dir(dir, layout, fill, &v));
out:
    fct_sae_free(plain);
    return fct_where(st, "saving %s", dir);
}

fct_status fct_sae_save(const fct_sae *s, const char *dir, const char *facet_json)
{
    return save(s, dir, FCT_SAE_SAELENS, facet_json);
}

fct_status fct_sae_save_as(const fct_sae *s, const char *dir, fct_sae_layout layout)
{
    return save(s, dir, layout, NULL);
}

fct_status fct_sae_save_stats(const fct_sae *s, const char *dir)
{
    const fct_sae_format *format = fct_sae_format_of(dir);
    fct_status st = format && fct_path_is_dir(dir)
                        ? format->write_stats(s, dir)
                        : fct_fail(FCT_ERR_MISSING, "no SAE's folder is there");
    return fct_where(st, "saving the statistics of %s", dir);
}

int fct_sae_lost_stats(const fct_sae *s, fct_sae_layout layout, const char *name[4])
{
    int n = 0;
    if (!fct_sae_format_get(layout)->mean_std_only) return 0;
    if (s->density) name[n++] = "density";
    if (s->max) name[n++] = "max";
    return n;
}

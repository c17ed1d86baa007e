/* icon.c - draws a feature's icon: the picture of the empty prompt with that feature alone in its
   block. */
#include <inttypes.h>

#include "index/index.h"

/* stamp: of the run; its index is set here. */
static fct_status draw_all(fct_image **out, const fct_run_result *r, int64_t n, fct_stamp stamp)
{
    int64_t bytes = r->width * r->height * 3;
    FCT_TRY(fct_new(out, n, (int64_t)sizeof **out));
    for (stamp.index = 0; stamp.index < n; stamp.index++)
        FCT_TRY(fct_draw_stamped(&(*out)[stamp.index], r->pixels + stamp.index * bytes, r->width,
                                 r->height, &stamp));
    return FCT_OK;
}

static fct_status run_both(fct_icon *out, fct_session *session, const fct_run_desc *d,
                           fct_edit *edit, fct_sae_set *saes)
{
    fct_run_result clean = {0}, icon = {0};
    fct_status st = fct_edit_run(session, d, edit, 1, saes, &icon);
    if (st == FCT_OK) st = fct_session_run(session, d, &clean);
    if (st == FCT_OK)
        st = draw_all(&out->icon, &icon, out->n, (fct_stamp){session, d, 0, edit, 1, saes});
    if (st == FCT_OK)
        st = draw_all(&out->clean, &clean, out->n, (fct_stamp){session, d, 0, NULL, 0, NULL});
    fct_run_result_clear(&icon);
    fct_run_result_clear(&clean);
    return st;
}

fct_status fct_icon_run(fct_icon *out, fct_session *session, fct_sae_set *saes,
                        const fct_icon_desc *desc)
{
    static const uint64_t usual[] = {0, 1, 2};
    const uint64_t *seeds = desc->n_seeds > 0 ? desc->seeds : usual;
    fct_run_item *items = NULL;
    fct_edit edit = {.op = FCT_EDIT_ONLY,
                     .feature = desc->feature.feature,
                     .unit = desc->unit,
                     .value = desc->strength != 0 ? desc->strength : 1};
    *out = (fct_icon){.n = desc->n_seeds > 0 ? desc->n_seeds : 3};
    if (!desc->feature.block) return fct_fail(FCT_ERR_ARG, "no block is named");
    fct_status st = fct_strdup(&edit.block, desc->feature.block->short_name);
    if (st == FCT_OK) st = fct_new(&items, out->n, (int64_t)sizeof *items);
    for (int64_t i = 0; i < out->n && st == FCT_OK; i++)
        items[i] = (fct_run_item){.prompt = "", .seed = seeds[i]};
    fct_run_desc d = {.items = items, .n_items = out->n, .settings = desc->settings};
    if (st == FCT_OK) st = run_both(out, session, &d, &edit, saes);
    fct_free(items);
    fct_edit_clear(&edit);
    if (st != FCT_OK) fct_icon_clear(out);
    return st;
}

void fct_icon_clear(fct_icon *i)
{
    fct_images_free(i->icon, i->n);
    fct_images_free(i->clean, i->n);
    *i = (fct_icon){0};
}

/* live.c - edits a block's delta when its tap is called: picks the edits that act in this step,
   lays their masks over the block's grid, finds the codes that they take from other runs, and
   applies them. */
#include <inttypes.h>

#include "edit/edit.h"
#include "model/model.h"

static fct_status make_grid(fct_compiled *c, int64_t h, int64_t w)
{
    const fct_mask *m = &c->edit->mask;
    if (m->kind == FCT_MASK_NONE || m->kind == FCT_MASK_MAP ||
        (c->grid && c->grid_h == h && c->grid_w == w))
        return FCT_OK;
    c->grid_h = c->grid_w = 0;
    fct_free(c->grid);
    FCT_TRY(fct_new(&c->grid, h * w, (int64_t)sizeof *c->grid));
    FCT_TRY(fct_mask_grid(c->grid, h, w, m));
    c->grid_h = h;
    c->grid_w = w;
    return FCT_OK;
}

static fct_status make_live(fct_live_edit *live, fct_plan *p, fct_compiled *c, int64_t step,
                            int64_t h, int64_t w)
{
    *live = (fct_live_edit){.edit = c->edit, .unit = c->unit};
    FCT_TRY(make_grid(c, h, w));
    live->mask = c->grid;
    if (c->edit->op != FCT_EDIT_FROM) return FCT_OK;
    const fct_gathered *g =
        fct_gather_find(&p->set->source[c->source].gather[p - p->set->plan], step, 0);
    if (!g)
        return fct_fail(FCT_ERR_INTERNAL, "the source run gave no codes in step %" PRId64, step);
    if (g->h != h || g->w != w)
        return fct_fail(FCT_ERR_SHAPE,
                        "the source's grid is %" PRId64 "x%" PRId64 ", this run's %" PRId64
                        "x%" PRId64,
                        g->w, g->h, w, h);
    live->source = &g->codes;
    return FCT_OK;
}

static fct_status apply(fct_plan *p, const fct_tap_event *event, fct_tensor *value)
{
    fct_live_edit *live = p->set->live + p->first;
    fct_apply_args a = {.work = &p->work, .event = event, .delta = value, .edit = live};
    int64_t b = value->dim[0], h = value->dim[1], w = value->dim[2];
    bool need_clean = false;
    for (int64_t i = 0; i < p->n; i++) {
        fct_compiled *c = &p->set->compiled[p->first + i];
        if (event->step < c->first_step || event->step > c->last_step) continue;
        FCT_TRY(fct_edit_where(make_live(&live[a.n_edits++], p, c, event->step, h, w), c->edit));
        need_clean |= c->edit->is_static;
    }
    if (need_clean) {
        const fct_gathered *g = fct_gather_find(&p->clean, event->step, event->first_item);
        if (!g || g->codes.n != b * h * w)
            return fct_fail(
                FCT_ERR_ARG,
                "static edits: the clean run has other rows than this one in step %" PRId64
                " of %s: the same prompts and size are needed",
                event->step, p->block->short_name);
        a.clean = &g->codes;
    }
    return fct_edit_apply(&a);
}

fct_status fct_edit_tap(void *user, const fct_tap_event *event, fct_tensor *value)
{
    fct_plan *p = user;
    if (value->ndim != 4 || value->dtype != FCT_F32 || value->dim[3] != p->block->channels)
        return fct_fail(FCT_ERR_SHAPE,
                        "edits of %s: the block's delta is not f32 [B,H,W,%" PRId64 "]",
                        p->block->short_name, p->block->channels);
    bool dry = !value->data;
    fct_coder_on(&p->work.coder, fct_tap_backend(event));
    return dry ? FCT_OK : apply(p, event, value);
}

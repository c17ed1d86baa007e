/* taps.c - calls the taps, which watch or edit modules of the U-Net, when a module is computed.
   Names and globs are resolved once, before a run, into a byte of bits for every module: a module
   that nobody watches costs one comparison.

   A tap sees f32, and asks for it in the host's memory (fct_tap_rows). A bf16 tensor is widened
   for it and narrowed again only when a tap edits, which is exact; so a tap that only looks
   changes no byte. */
#include <stdio.h>
#include <string.h>

#include "model/net/net.h"

static bool fits(const fct_taps *t, const char *pattern, int64_t module)
{
    const fct_module *m = &t->modules->v[module];
    if (fct_glob_match(pattern, m->name)) return true;
    return m->block >= 0 && fct_glob_match(pattern, t->block[m->block].short_name);
}

static fct_status no_such_module(const fct_taps *t, const char *name, int64_t n_blocks)
{
    fct_str list = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < n_blocks && st == FCT_OK; i++)
        st = fct_str_printf(&list, "%s%s", i ? ", " : "", t->block[i].short_name);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_MISSING,
                      "no module of the U-Net is called %s; its blocks are %s, other modules have "
                      "diffusers' names, as in %s",
                      name, list.p ? list.p : "",
                      t->n_modules > 1 ? t->modules->v[1].name : "unet.conv_in");
    fct_str_clear(&list);
    return st;
}

static fct_status resolve(fct_taps *t, int64_t i, int64_t n_blocks)
{
    const fct_tap *tap = &t->tap[i];
    if (!tap->module || !tap->fn)
        return fct_fail(FCT_ERR_ARG, "a tap needs a module and a function");
    if (tap->first_step < 0 || tap->last_step < 0 ||
        (tap->last_step && tap->last_step < tap->first_step))
        return fct_fail(FCT_ERR_ARG, "%s: a tap of steps %lld to %lld", tap->module,
                        (long long)tap->first_step, (long long)tap->last_step);
    if ((unsigned)tap->what > FCT_TAP_OUT)
        return fct_fail(FCT_ERR_ARG, "%s: a tap is in, out or delta", tap->module);
    bool any = false;
    for (int64_t k = 1; k < t->n_modules; k++) {
        if (!fits(t, tap->module, k)) continue;
        const fct_module *m = &t->modules->v[k];
        if (tap->what == FCT_TAP_DELTA && tap->edits && m->block < 0)
            return fct_fail(FCT_ERR_UNSUPPORTED,
                            "%s: only a transformer block's delta can be edited; edit this "
                            "module's out instead",
                            m->name);
        any = true;
        t->hit[i * t->n_modules + k] = 1;
        t->mask[k] |= (uint8_t)(1u << tap->what);
        if (m->stage > t->last_stage) t->last_stage = m->stage;
    }
    return any ? FCT_OK : no_such_module(t, tap->module, n_blocks);
}

fct_status fct_taps_init(fct_taps *t, const fct_tap *tap, int64_t n, const fct_modules *modules,
                         const fct_block_info *block, int64_t n_blocks)
{
    *t = (fct_taps){.tap = tap,
                    .n = n,
                    .n_modules = modules->n,
                    .last_stage = -1,
                    .modules = modules,
                    .block = block};
    fct_status st = fct_new(&t->mask, modules->n + 1, 1);
    if (st == FCT_OK) st = fct_new(&t->hit, n * (modules->n + 1), 1);
    for (int64_t i = 0; i < n && st == FCT_OK; i++) st = resolve(t, i, n_blocks);
    if (st != FCT_OK) fct_taps_clear(t);
    return st;
}

void fct_taps_clear(fct_taps *t)
{
    fct_free(t->mask);
    fct_free(t->hit);
    *t = (fct_taps){0};
}

static bool wanted(const fct_rt *rt, int32_t id, fct_tap_what what)
{
    return fct_tapped(rt, id) && rt->taps->mask[id] & (1u << what);
}

static bool edited(const fct_taps *t, int32_t id, fct_tap_what what)
{
    for (int64_t i = 0; i < t->n; i++)
        if (t->tap[i].what == what && t->tap[i].edits && t->hit[i * t->n_modules + id]) return true;
    return false;
}

/* ---- the host's view of a value ---- */

static fct_status view_on_host(float **out, struct fct_tap_memory *m, const fct_tensor *value)
{
    *out = value->data;
    if (!m || m->be->device->is_host || !value->data) return FCT_OK;
    if (!m->copy) {
        fct_tensor copy;
        FCT_TRY(fct_tensor_read(&copy, m->be->device, &m->value));
        m->copy = copy.data;
    }
    *out = m->copy;
    return FCT_OK;
}

static fct_status write_back(struct fct_tap_memory *m)
{
    if (!m->copy) return FCT_OK;
    return m->be->device->write(m->value.data, m->copy, fct_tensor_bytes(&m->value));
}

static void forget_copy(struct fct_tap_memory *m)
{
    fct_free(m->copy);
    m->copy = NULL;
}

/* ---- calling ---- */

static bool listens(const fct_taps *taps, int64_t i, int32_t id, const fct_tap_event *event)
{
    const fct_tap *tap = &taps->tap[i];
    if (tap->what != event->what || !taps->hit[i * taps->n_modules + id]) return false;
    return event->step >= fct_tap_first(tap) &&
           (tap->last_step == 0 || event->step <= tap->last_step);
}

/* An editing tap begins without a copy, so that it may as well change the device's own memory. */
static fct_status call(const fct_tap *tap, const fct_tap_event *event, fct_tensor value)
{
    struct fct_tap_memory *m = event->memory;
    if (tap->edits) forget_copy(m);
    fct_error_clear();
    fct_status st = tap->fn(tap->user, event, &value);
    if (st != FCT_OK && !*fct_error_text())
        (void)(fct_fail)(st, "the tap's function ended the run: %s", fct_status_name(st));
    if (!tap->edits) return st;
    if (st == FCT_OK) st = write_back(m);
    forget_copy(m);
    return st;
}

/* value: f32 */
static fct_status call_all(fct_rt *rt, int32_t id, fct_tap_what what, fct_tensor value)
{
    const fct_taps *taps = rt->taps;
    const fct_module *m = &taps->modules->v[id];
    struct fct_tap_memory memory = {.be = rt->cx.be, .value = value};
    fct_tap_event event = rt->event;
    fct_status st = FCT_OK;
    event.name = m->name;
    event.block = m->block >= 0 ? &taps->block[m->block] : NULL;
    event.what = what;
    event.memory = &memory;
    for (int64_t i = 0; i < taps->n && st == FCT_OK; i++)
        if (listens(taps, i, id, &event)) st = call(&taps->tap[i], &event, value);
    forget_copy(&memory);
    return fct_where(st, "tap on %s, step %lld", m->name, (long long)event.step);
}

fct_status fct_tap_fire(fct_rt *rt, int32_t id, fct_tap_what what, fct_tensor *t)
{
    if (!wanted(rt, id, what)) return FCT_OK;
    fct_tensor value = *t;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    bool widened = t->dtype != FCT_F32;
    if (widened) {
        FCT_TRY(fct_rt_take(rt, &value, FCT_F32, t->ndim, t->dim));
        FCT_TRY(fct_copy_run(rt, *t, value));
    }
    if (!fct_rt_dry(rt)) FCT_TRY(call_all(rt, id, what, value));
    if (widened && edited(rt->taps, id, what)) FCT_TRY(fct_copy_run(rt, value, *t));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

fct_status fct_tap_in(fct_rt *rt, int32_t id, fct_tensor *x)
{
    if (!wanted(rt, id, FCT_TAP_IN)) return FCT_OK;
    if (edited(rt->taps, id, FCT_TAP_IN)) {
        fct_tensor copy;
        FCT_TRY(fct_rt_take(rt, &copy, x->dtype, x->ndim, x->dim));
        FCT_TRY(fct_copy_run(rt, *x, copy));
        *x = copy;
    }
    return fct_tap_fire(rt, id, FCT_TAP_IN, x);
}

static fct_status fire_delta(fct_rt *rt, int32_t id, const fct_tensor *y, const fct_tensor *x)
{
    const char *name = rt->taps->modules->v[id].name;
    char a[64], b[64];
    fct_shape_text(a, sizeof a, x);
    fct_shape_text(b, sizeof b, y);
    if (strcmp(a, b) != 0)
        return fct_fail(FCT_ERR_SHAPE, "%s has no delta: its input is %s, its output %s", name, a,
                        b);
    fct_tensor delta;
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    FCT_TRY(fct_rt_take(rt, &delta, FCT_F32, y->ndim, y->dim));
    FCT_TRY(fct_op_add(&rt->cx, &(fct_add_args){.a = *y, .b = *x, .y = delta, .scale = -1}));
    FCT_TRY(fct_tap_fire(rt, id, FCT_TAP_DELTA, &delta));
    fct_arena_reset(rt->cx.arena, mark);
    return FCT_OK;
}

fct_status fct_tap_out(fct_rt *rt, int32_t id, fct_tensor *y, const fct_tensor *x)
{
    if (!fct_tapped(rt, id)) return FCT_OK;
    FCT_TRY(fct_tap_fire(rt, id, FCT_TAP_OUT, y));
    return wanted(rt, id, FCT_TAP_DELTA) ? fire_delta(rt, id, y, x) : FCT_OK;
}

/* ---- the rows of a batch ---- */

const char *fct_half_name(fct_half half)
{
    static const char *const name[] = {"default", "cond", "uncond", "both"};
    return (unsigned)half < FCT_COUNT(name) ? name[half] : "";
}

/* Under guidance a batch is [uncond, cond], each with all items, as in diffusers; rows are the last
   axis, so an item has as many as its map has cells. */
static int64_t rows_per_item(const fct_tap_event *event, const fct_tensor *value)
{
    return fct_tensor_count(value) / value->dim[value->ndim - 1] /
           (event->items * (event->guided ? 2 : 1));
}

fct_status fct_tap_rows(float **out, int64_t *out_n, const fct_tap_event *event,
                        const fct_tensor *value, int64_t item, fct_half half)
{
    int64_t each = rows_per_item(event, value), at = item - event->first_item, first;
    bool uncond = half == FCT_HALF_UNCOND, all = item < 0;
    *out = NULL;
    *out_n = 0;
    if (half == FCT_HALF_BOTH && !all)
        return fct_fail(FCT_ERR_ARG, "the two halves of an item do not lie side by side");
    if (value->dtype != FCT_F32 || value->dim[0] != event->items * (event->guided ? 2 : 1))
        return fct_fail(FCT_ERR_INTERNAL, "%s: the tap's value is not f32 of its batch",
                        event->name);
    if (!value->data || (uncond && !event->guided) || (!all && (at < 0 || at >= event->items)))
        return FCT_OK;
    first = event->guided && !uncond && half != FCT_HALF_BOTH ? event->items : 0;
    *out_n = (all ? event->items : 1) * each;
    if (half == FCT_HALF_BOTH && event->guided) *out_n *= 2;
    FCT_TRY(view_on_host(out, event->memory, value));
    *out += (first + (all ? 0 : at)) * each * value->dim[value->ndim - 1];
    return FCT_OK;
}

/* stages.c - runs a network as a flat list of stages with a stack of skip tensors: the U-Net and
   both halves of the VAE go through the same loop. So a run can stop after any stage or begin at
   one. */
#include "model/net/net.h"

fct_status fct_stages_add(fct_stages *list, fct_stage **out, const char *name, int64_t size)
{
    if (list->n == list->cap) {
        int64_t cap = list->cap ? 2 * list->cap : 32;
        FCT_TRY(fct_grow(&list->v, list->cap, cap, sizeof *list->v));
        list->cap = cap;
    }
    fct_stage s = {0};
    FCT_TRY(fct_strdup(&s.name, name));
    fct_status st = fct_new(&s.weights, size, 1);
    if (st != FCT_OK) {
        fct_free(s.name);
        return st;
    }
    list->v[list->n] = s;
    *out = &list->v[list->n++];
    return FCT_OK;
}

void fct_stages_clear(fct_stages *list)
{
    for (int64_t i = 0; i < list->n; i++) {
        if (list->v[i].clear) list->v[i].clear(list->v[i].weights);
        fct_free(list->v[i].weights);
        fct_free(list->v[i].name);
    }
    fct_free(list->v);
    *list = (fct_stages){0};
}

/* Height or width after a stage. */
static int64_t size_after(const fct_stage *s, int64_t n, int64_t skip)
{
    if (s->up) return skip ? skip : 2 * n;
    int64_t stride = s->stride ? s->stride : 1, k = s->kernel ? s->kernel : 1;
    return (n + s->pad_lo + s->pad_hi - k) / stride + 1;
}

static fct_status want_skips(const fct_stage *s, int n_skips)
{
    if (s->push && n_skips == FCT_MAX_SKIPS)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: more than %d skips", s->name, FCT_MAX_SKIPS);
    if (s->pop && n_skips == 0) return fct_fail(FCT_ERR_INTERNAL, "%s: no skip is left", s->name);
    return FCT_OK;
}

/* The same walk as the run, over sizes only. */
fct_status fct_flow_init(fct_flow *f, fct_rt *rt, const fct_stages *list, int64_t b, int64_t h,
                         int64_t w)
{
    int64_t most = 0, skip_h[FCT_MAX_SKIPS], skip_w[FCT_MAX_SKIPS];
    int n = 0;
    *f = (fct_flow){0};
    for (int64_t i = 0; i < list->n; i++) {
        const fct_stage *s = &list->v[i];
        FCT_TRY(want_skips(s, n));
        if (s->keeps) continue;
        if (s->pop) n--;
        h = size_after(s, h, s->up && n ? skip_h[n - 1] : 0);
        w = size_after(s, w, s->up && n ? skip_w[n - 1] : 0);
        if (s->push) {
            skip_h[n] = h;
            skip_w[n++] = w;
            continue;
        }
        int64_t bytes = b * h * w * s->out * fct_dtype_bytes(s->f32 ? FCT_F32 : rt->dtype);
        if (bytes > most) most = bytes;
    }
    for (int i = 0; i < 2; i++) FCT_TRY(fct_arena_take(rt->cx.arena, &f->buffer[i], most, 1));
    return FCT_OK;
}

static fct_status want_finite(fct_rt *rt, fct_tensor y)
{
    bool finite = true;
    FCT_TRY(fct_op_finite(&rt->cx, &(fct_finite_args){.x = y, .finite = &finite}));
    if (finite) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE, "its output holds NaN or infinity%s",
                    rt->dtype == FCT_F32 ? ": the weights may be damaged" : ": try f32");
}

/* Where the output goes: skips stay on the arena's stack, others alternate between the two
   buffers. */
static fct_status take_output(fct_rt *rt, fct_flow *f, const fct_stage *s, fct_tensor *y)
{
    const fct_tensor *x = &f->x;
    const fct_tensor *skip = s->up && f->n_skips ? &f->skip[f->n_skips - 1] : NULL;
    int64_t dim[4] = {x->dim[0], size_after(s, x->dim[1], skip ? skip->dim[1] : 0),
                      size_after(s, x->dim[2], skip ? skip->dim[2] : 0), s->out};
    *y = fct_tensor_of(NULL, s->f32 ? FCT_F32 : rt->dtype, 4, dim);
    if (!s->push) {
        y->data = x->data && x->data == f->buffer[0] ? f->buffer[1] : f->buffer[0];
        return FCT_OK;
    }
    f->mark[f->n_skips] = fct_arena_mark(rt->cx.arena);
    return fct_rt_take(rt, y, y->dtype, 4, dim);
}

static fct_status run_stage(fct_rt *rt, const fct_stage *s, fct_flow *f)
{
    fct_tensor x = f->x, y;
    FCT_TRY(want_skips(s, f->n_skips));
    if (s->keeps) return s->run(rt, s, x, x);
    fct_tensor skip = {0};
    if (s->pop) skip = f->skip[--f->n_skips];
    FCT_TRY(take_output(rt, f, s, &y));
    fct_mark mark = fct_arena_mark(rt->cx.arena);
    if (s->pop) { /* the popped skip's memory is free once the stage is done */
        fct_tensor a = x;
        FCT_TRY(
            fct_rt_take(rt, &x, rt->dtype, 4, (int64_t[]){a.dim[0], a.dim[1], a.dim[2], s->in}));
        FCT_TRY(fct_op_concat(&rt->cx, &(fct_concat_args){.a = a, .b = skip, .y = x}));
        mark = f->mark[f->n_skips];
    }
    rt->up_h = y.dim[1];
    rt->up_w = y.dim[2];
    FCT_TRY(s->run(rt, s, x, y));
    fct_arena_reset(rt->cx.arena, mark);
    FCT_TRY(want_finite(rt, y));
    if (s->push) f->skip[f->n_skips++] = y;
    f->x = y;
    return FCT_OK;
}

fct_status fct_stages_run(fct_rt *rt, const fct_stages *list, int64_t from, int64_t to,
                          fct_flow *flow)
{
    for (int64_t i = from; i < to; i++) {
        FCT_TRY(fct_log_check_stop(rt->cx.log));
        rt->stage = i;
        double start = rt->clock.fn ? fct_seconds() : 0;
        fct_status st = run_stage(rt, &list->v[i], flow);
        if (rt->clock.fn && !fct_rt_dry(rt))
            rt->clock.fn(rt->clock.user, list->v[i].name, fct_seconds() - start);
        if (st != FCT_OK) return fct_where(st, "%s", list->v[i].name);
    }
    return FCT_OK;
}

/* moment.c - keeps the state of runs behind blocks (moments), so that a run which differs from an
   earlier one only in what its edits do resumes behind the first block that the difference touches,
   and ends with the same bytes as if it had been run whole.

   A moment lies behind a block's proj_out: everything before it is done, its delta is known, and no
   tap of the block's delta has fired. Whatever follows depends on nothing else than what the moment
   holds and on the taps from there on. It is found by a hash of the run without edits (prepare.c),
   of the place, and of the keys of all edits that acted before it; an edit without a key, and a tap
   that only looks, must see every step for themselves, so a run with one before the moment does not
   start there. */
#include <string.h>

#include "model/run.h"

/* ---- keys ---- */

/* Whether what a tap does at this module comes before a stage's delta within one step. */
static bool is_before(const fct_module *module, fct_tap_what what, int64_t stage)
{
    if (module->stage != stage) return module->stage < stage;
    return module->block < 0 || what == FCT_TAP_IN;
}

static void add_event(fct_sha256 *h, const fct_tap *tap, int64_t module, int64_t first,
                      int64_t last)
{
    const int64_t number[4] = {module, tap->what, first, last};
    fct_sha256_add(h, number, (int64_t)sizeof number);
    if (tap->key && last > 0) fct_sha256_add(h, tap->key, (int64_t)strlen(tap->key) + 1);
}

/* The key of the moment behind the delta of `stage` in `step`. false: a tap before it has to be
   called, so no run with these taps may start there. */
static bool find_key(char out[65], const fct_work *w, int64_t step, int64_t stage)
{
    const fct_taps *t = &w->taps;
    const int64_t place[2] = {step, stage};
    fct_sha256 h;
    fct_sha256_init(&h);
    fct_sha256_add(&h, w->key, (int64_t)sizeof w->key);
    fct_sha256_add(&h, place, (int64_t)sizeof place);
    for (int64_t i = 0; i < t->n; i++) {
        const fct_tap *tap = &t->tap[i];
        int64_t first = fct_tap_first(tap), until = tap->last_step ? tap->last_step : step;
        for (int64_t k = 1; k < t->n_modules; k++) {
            if (!t->hit[i * t->n_modules + k]) continue;
            /* a layer whose inside is tapped runs unfused in every step */
            if (t->modules->v[k].block < 0) add_event(&h, tap, k, 0, 0);
            int64_t last = is_before(&t->modules->v[k], tap->what, stage) ? step : step - 1;
            if (last > until) last = until;
            if (last < first) continue;
            if (!tap->edits || !tap->key) return false;
            add_event(&h, tap, k, first, last);
        }
    }
    fct_sha256_hex(&h, out);
    return true;
}

/* ---- where to start ---- */

static void clear_moment(fct_kept_value *value)
{
    fct_moment *m = (fct_moment *)value;
    for (int i = 0; i < m->n_skips; i++) fct_free(m->skip[i].data);
    fct_free(m->text.data);
    fct_free(m->x.data);
    fct_free(m->delta.data);
    fct_free(m->latents);
    fct_free(m->emb);
    fct_free(m->added);
    fct_free(m->rng);
}

static bool is_after(const fct_moment *m, const fct_moment *other)
{
    if (!other || m->step != other->step) return !other || m->step > other->step;
    return m->stage > other->stage;
}

static bool is_within(const fct_work *w, const fct_moment *m)
{
    bool stops = w->d->stop_after_taps && m->step == w->last_step;
    return m->step <= w->last_step && !(stops && m->stage > w->taps.last_stage);
}

static void find_start(fct_work *w)
{
    fct_kept *kept = &w->s->moments;
    const char *found = NULL;
    for (int64_t i = 0; i < kept->n; i++) {
        char key[65];
        const fct_moment *m = (const fct_moment *)kept->entry[i].value;
        if (strcmp(m->run, w->key) != 0 || !is_within(w, m) || !is_after(m, w->resume)) continue;
        if (!find_key(key, w, m->step, m->stage) || strcmp(key, kept->entry[i].key) != 0) continue;
        w->resume = m;
        found = kept->entry[i].key;
    }
    if (found) (void)fct_kept_find(kept, found); /* so that it counts as used */
}

/* ---- which to keep ---- */

static void want(fct_work *w, int64_t step, int64_t stage)
{
    const fct_moment *r = w->resume;
    if (step > w->last_step) return;
    if (r && (step < r->step || (step == r->step && stage <= r->stage))) return;
    for (int64_t i = 0; i < w->n_keep; i++)
        if (w->keep[i].step == step && w->keep[i].stage == stage) return;
    w->keep[w->n_keep++] = (fct_place){step, stage};
}

/* Where an edit first acts, since the next run is likely to differ in it; and in the first step
   every block that the caller names. */
static fct_status plan_keeping(fct_work *w)
{
    const fct_taps *t = &w->taps;
    const fct_block_info **named = NULL;
    int64_t n_named = 0, n_edits = 0;
    if (w->s->moments.budget <= 0) return FCT_OK;
    for (int64_t i = 0; i < t->n; i++) n_edits += t->tap[i].edits && t->tap[i].key;
    if (n_edits == 0 && !w->d->keep) return FCT_OK;
    if (w->d->keep) FCT_TRY(fct_model_find_blocks(&named, &n_named, w->m, w->d->keep));
    fct_status st = fct_new(&w->keep, n_named + n_edits * w->m->n_blocks, (int64_t)sizeof *w->keep);
    for (int64_t i = 0; i < n_named && st == FCT_OK; i++) want(w, 1, named[i]->stage);
    for (int64_t i = 0; i < t->n && st == FCT_OK; i++) {
        const fct_tap *tap = &t->tap[i];
        for (int64_t k = 1; tap->edits && tap->key && k < t->n_modules; k++) {
            const fct_module *m = &t->modules->v[k];
            bool here = t->hit[i * t->n_modules + k] && m->block >= 0;
            if (here && tap->what == FCT_TAP_DELTA) want(w, fct_tap_first(tap), m->stage);
        }
    }
    fct_free(named);
    return st;
}

fct_status fct_moments_plan(fct_work *w)
{
    find_start(w);
    if (w->resume) w->first_step = w->resume->step;
    return plan_keeping(w);
}

/* ---- keeping ---- */

/* From the device's memory into the host's. */
static fct_status read_floats(float **out, int64_t *out_n, const fct_device *d, const float *from,
                              int64_t n)
{
    FCT_TRY(fct_new_raw(out, n, sizeof **out));
    *out_n = n;
    return d->read(*out, from, n * (int64_t)sizeof **out);
}

static int64_t count_bytes(const fct_work *w, const fct_tensor *x, const fct_tensor *delta)
{
    int64_t floats = w->n * w->channels * w->h * w->w + w->rows * w->m->unet_config.add_in +
                     w->rows * fct_unet_emb_width(&w->m->unet);
    int64_t bytes = floats * (int64_t)sizeof(float) + w->n_rng * (int64_t)sizeof *w->rng +
                    fct_tensor_bytes(&w->rt.text) + fct_tensor_bytes(x) + fct_tensor_bytes(delta);
    for (int i = 0; i < w->flow.n_skips; i++) bytes += fct_tensor_bytes(&w->flow.skip[i]);
    return bytes;
}

static fct_status fill(fct_moment *m, const fct_work *w, const fct_tensor *x,
                       const fct_tensor *delta)
{
    const fct_flow *f = &w->flow;
    const fct_device *d = fct_rt_device(&w->rt);
    int64_t emb = w->rows * fct_unet_emb_width(&w->m->unet);
    FCT_TRY(read_floats(&m->latents, &m->n_latents, &fct_device_host, w->latents,
                        w->n * w->channels * w->h * w->w));
    FCT_TRY(read_floats(&m->emb, &m->n_emb, d, w->rt.emb, emb));
    FCT_TRY(read_floats(&m->added, &m->n_added, d, w->added, w->rows * w->m->unet_config.add_in));
    FCT_TRY(fct_new_raw(&m->rng, w->n_rng, sizeof *m->rng));
    memcpy(m->rng, w->rng, (size_t)w->n_rng * sizeof *m->rng);
    m->n_rng = w->n_rng;
    FCT_TRY(fct_tensor_read(&m->text, d, &w->rt.text));
    FCT_TRY(fct_tensor_read(&m->x, d, x));
    FCT_TRY(fct_tensor_read(&m->delta, d, delta));
    m->x_is_skip = f->n_skips > 0 && x->data == f->skip[f->n_skips - 1].data;
    for (int i = 0; i < f->n_skips; i++) {
        FCT_TRY(fct_tensor_read(&m->skip[i], d, &f->skip[i]));
        m->n_skips++;
    }
    return FCT_OK;
}

static bool is_wanted(const fct_work *w, int64_t step, int64_t stage)
{
    for (int64_t i = 0; i < w->n_keep; i++)
        if (w->keep[i].step == step && w->keep[i].stage == stage) return true;
    return false;
}

fct_status fct_moment_keep(fct_work *w, int64_t stage, const fct_tensor *x, const fct_tensor *delta)
{
    char key[65];
    fct_moment *m = NULL;
    int64_t step = w->rt.event.step, bytes = count_bytes(w, x, delta);
    if (!is_wanted(w, step, stage) || !find_key(key, w, step, stage)) return FCT_OK;
    if (fct_kept_find(&w->s->moments, key) || !fct_kept_fits(&w->s->moments, bytes)) return FCT_OK;
    FCT_TRY(fct_new(&m, 1, (int64_t)sizeof *m));
    m->head.clear = clear_moment;
    m->step = step;
    m->stage = stage;
    memcpy(m->run, w->key, sizeof m->run);
    fct_status st = fill(m, w, x, delta);
    if (st == FCT_OK) st = fct_kept_put(&w->s->moments, key, &m->head, bytes);
    if (st == FCT_OK) return st;
    clear_moment(&m->head);
    fct_free(m);
    return st;
}

/* ---- starting from one ---- */

fct_status fct_moment_restore(fct_work *w)
{
    const fct_moment *m = w->resume;
    const fct_device *d = fct_rt_device(&w->rt);
    memcpy(w->latents, m->latents, (size_t)m->n_latents * sizeof(float));
    memcpy(w->rng, m->rng, (size_t)m->n_rng * sizeof *m->rng);
    FCT_TRY(d->write(w->rt.emb, m->emb, m->n_emb * (int64_t)sizeof(float)));
    FCT_TRY(d->write(w->added, m->added, m->n_added * (int64_t)sizeof(float)));
    return fct_rt_write(&w->rt, &w->rt.text, m->text.data);
}

/* Skips lie on the arena's stack in order, as the stages would have left them. */
fct_status fct_moment_restore_flow(fct_work *w)
{
    const fct_moment *m = w->resume;
    fct_flow *f = &w->flow;
    for (int i = 0; i < m->n_skips; i++) {
        f->mark[i] = fct_arena_mark(w->arena);
        FCT_TRY(fct_rt_take(&w->rt, &f->skip[i], m->skip[i].dtype, 4, m->skip[i].dim));
        FCT_TRY(fct_rt_write(&w->rt, &f->skip[i], m->skip[i].data));
        f->n_skips = i + 1;
    }
    w->rt.given = &m->delta;
    f->x = m->x_is_skip ? f->skip[f->n_skips - 1] : m->x;
    if (m->x_is_skip) return FCT_OK;
    f->x.data = f->buffer[0];
    return fct_rt_write(&w->rt, &f->x, m->x.data);
}

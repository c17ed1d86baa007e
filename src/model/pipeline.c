/* pipeline.c - a run: conditions, noise, the sampler's loop over the U-Net's stages, pictures. The
   same code passes twice, dry to learn the exact memory and then for real; what the dry pass takes,
   the real one takes again, byte for byte. */
#include <string.h>

#include "model/pipeline.h"

/* ---- noise ---- */

/* One randn per generator: the whole batch from one, or every item its own. */
static void draw(fct_work *w, float *out)
{
    int64_t each = w->channels * w->h * w->w, n = w->d->joint_noise ? w->n * each : each;
    for (int64_t i = 0; i < w->n_rng; i++)
        fct_noise_draw(&w->rng[i], out + i * n, n, w->d->noise_dtype);
}

static void begin(fct_work *w)
{
    int64_t n = w->n * w->channels * w->h * w->w;
    for (int64_t i = 0; i < w->n_rng; i++) fct_rng_init(&w->rng[i], w->d->items[i].seed);
    draw(w, w->latents); /* also when other noise is given: later draws stay where they are */
    if (w->d->init_noise) memcpy(w->latents, w->d->init_noise, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) w->latents[i] *= w->sampler.init_sigma;
}

/* ---- saved moments ---- */

static fct_status copy_floats(float **out, int64_t *out_n, const float *from, int64_t n)
{
    FCT_TRY(fct_new_raw(out, n, sizeof **out));
    memcpy(*out, from, (size_t)n * sizeof **out);
    *out_n = n;
    return FCT_OK;
}

static int64_t emb_width(const fct_work *w)
{
    const fct_embed *e = w->m->unet.v[0].weights;
    return e->time2.out;
}

static fct_status fill_state(fct_state *s, const fct_work *w, int64_t step, int64_t stage)
{
    memcpy(s->key, w->key, sizeof s->key);
    s->step = step;
    s->stage = stage;
    FCT_TRY(copy_floats(&s->latents, &s->n_latents, w->latents, w->n * w->channels * w->h * w->w));
    FCT_TRY(copy_floats(&s->emb, &s->n_emb, w->rt.emb, w->rows * emb_width(w)));
    FCT_TRY(copy_floats(&s->added, &s->n_added, w->added, w->rows * w->m->unet_config.add_in));
    FCT_TRY(fct_new_raw(&s->rng, w->n_rng, sizeof *s->rng));
    memcpy(s->rng, w->rng, (size_t)w->n_rng * sizeof *s->rng);
    s->n_rng = w->n_rng;
    FCT_TRY(fct_tensor_copy(&s->text, &w->rt.text));
    FCT_TRY(fct_tensor_copy(&s->x, &w->flow.x));
    s->x_is_skip = w->flow.n_skips > 0 && w->flow.x.data == w->flow.skip[w->flow.n_skips - 1].data;
    for (int i = 0; i < w->flow.n_skips; i++) {
        FCT_TRY(fct_tensor_copy(&s->skip[i], &w->flow.skip[i]));
        s->n_skips++;
    }
    return FCT_OK;
}

static fct_status save(fct_work *w, int64_t step, int64_t stage)
{
    fct_state *s = NULL;
    if (fct_arena_dry(w->arena)) return FCT_OK;
    FCT_TRY(fct_new(&s, 1, sizeof *s));
    fct_status st = fill_state(s, w, step, stage);
    if (st == FCT_OK)
        *w->d->save = s;
    else
        fct_state_free(s);
    return st;
}

static void restore_conditions(fct_work *w)
{
    const fct_state *s = w->d->resume;
    memcpy(w->latents, s->latents, (size_t)s->n_latents * sizeof(float));
    memcpy(w->rt.emb, s->emb, (size_t)s->n_emb * sizeof(float));
    memcpy(w->added, s->added, (size_t)s->n_added * sizeof(float));
    memcpy(w->rng, s->rng, (size_t)s->n_rng * sizeof *s->rng);
    memcpy(w->rt.text.data, s->text.data, (size_t)fct_tensor_bytes(&s->text));
}

/* Skips lie on the arena's stack in order, as the stages would have left them. */
static fct_status restore_flow(fct_work *w)
{
    const fct_state *s = w->d->resume;
    fct_flow *f = &w->flow;
    for (int i = 0; i < s->n_skips; i++) {
        f->mark[i] = fct_arena_mark(w->arena);
        FCT_TRY(fct_rt_take(&w->rt, &f->skip[i], s->skip[i].dtype, 4, s->skip[i].dim));
        if (f->skip[i].data)
            memcpy(f->skip[i].data, s->skip[i].data, (size_t)fct_tensor_bytes(&s->skip[i]));
        f->n_skips = i + 1;
    }
    f->x = s->x_is_skip ? f->skip[f->n_skips - 1] : s->x;
    if (s->x_is_skip) return FCT_OK;
    f->x.data = f->buffer[0];
    if (f->x.data) memcpy(f->x.data, s->x.data, (size_t)fct_tensor_bytes(&s->x));
    return FCT_OK;
}

/* ---- one step ---- */

/* The scaled sample, once or twice, as [rows,h,w,C]. */
static fct_status make_input(fct_work *w, int64_t step, fct_tensor x)
{
    if (fct_arena_dry(w->arena)) return FCT_OK;
    float scale = fct_sampler_input_scale(&w->sampler, step - 1), *v = x.data;
    int64_t n = w->n * w->channels * w->h * w->w;
    fct_to_nhwc(v, w->latents, w->n, w->channels, w->h, w->w);
    for (int64_t i = 0; i < n; i++) v[i] /= scale;
    if (w->guided) memcpy(v + n, v, (size_t)n * sizeof *v);
    return FCT_OK;
}

static fct_status run_stages(fct_work *w, int64_t step, int64_t from, int64_t to)
{
    const fct_run_desc *d = w->d;
    bool saves = d->save && step == d->save_step && d->save_stage >= from && d->save_stage <= to;
    fct_status st = FCT_OK;
    if (saves) {
        st = fct_stages_run(&w->rt, &w->m->unet, from, d->save_stage, &w->flow);
        if (st == FCT_OK) st = save(w, step, d->save_stage);
        from = d->save_stage;
    }
    if (st == FCT_OK) st = fct_stages_run(&w->rt, &w->m->unet, from, to, &w->flow);
    return st == FCT_OK ? st : fct_where(st, "unet, step %lld", (long long)step);
}

static void guide_and_step(fct_work *w, int64_t step)
{
    float *y = w->flow.x.data;
    int64_t n = w->n * w->channels * w->h * w->w;
    if (w->guided)
        for (int64_t i = 0; i < n; i++) y[i] = y[i] + (float)w->guidance * (y[n + i] - y[i]);
    fct_to_nchw(w->output, y, w->n, w->channels, w->h, w->w);
    if (w->sampler.ancestral) draw(w, w->noise);
    fct_sampler_step(&w->sampler, step - 1, w->latents, w->output, w->noise, n);
}

/* *done: the run ends here, without latents. */
static fct_status run_step(fct_work *w, int64_t step, bool *done)
{
    bool resumed = w->d->resume && step == w->first_step;
    int64_t from = resumed ? w->d->resume->stage : 0, to = w->m->unet.n;
    fct_mark mark = fct_arena_mark(w->arena);
    fct_tensor x;
    w->rt.timestep = w->sampler.timestep[step - 1];
    w->rt.event.step = step;
    if (w->d->stop_after_taps && step == w->last_step) {
        to = w->taps.last_stage + 1;
        *done = true;
    }
    FCT_TRY(fct_flow_init(&w->flow, &w->rt, &w->m->unet, w->rows, w->h, w->w));
    if (resumed && from <= 1) { /* before conv_in the map is the input itself */
        FCT_TRY(fct_rt_take(&w->rt, &x, FCT_F32, 4, w->d->resume->x.dim));
        if (x.data) memcpy(x.data, w->d->resume->x.data, (size_t)fct_tensor_bytes(&x));
        w->flow.x = x;
    } else if (resumed) {
        FCT_TRY(restore_flow(w));
    } else {
        FCT_TRY(fct_rt_take(&w->rt, &x, FCT_F32, 4, (int64_t[]){w->rows, w->h, w->w, w->channels}));
        FCT_TRY(make_input(w, step, x));
        w->flow.x = x;
    }
    FCT_TRY(run_stages(w, step, from, to));
    if (!*done && !fct_arena_dry(w->arena)) guide_and_step(w, step);
    fct_arena_reset(w->arena, mark);
    if (!fct_arena_dry(w->arena)) fct_log_progress(w->m->log, "steps", step, w->last_step);
    return FCT_OK;
}

/* ---- the pass ---- */

static fct_status take_all(fct_work *w)
{
    int64_t n = w->n * w->channels * w->h * w->w;
    const fct_unet_config *c = &w->m->unet_config;
    FCT_TRY(fct_arena_take(w->arena, &w->latents, n, sizeof(float)));
    FCT_TRY(fct_arena_take(w->arena, &w->output, n, sizeof(float)));
    FCT_TRY(fct_arena_take(w->arena, &w->noise, n, sizeof(float)));
    FCT_TRY(fct_arena_take(w->arena, &w->added, w->rows * c->add_in, sizeof(float)));
    FCT_TRY(fct_arena_take(w->arena, &w->rt.emb, w->rows * emb_width(w), sizeof(float)));
    w->rt.added = w->added;
    return fct_rt_take(&w->rt, &w->rt.text, w->rt.dtype, 3,
                       (int64_t[]){w->rows, w->tokens, c->cross_attention_dim});
}

static fct_status decode(fct_work *w, fct_run_result *out)
{
    int64_t f = w->m->info.vae_factor;
    fct_tensor z;
    FCT_TRY(fct_rt_take(&w->rt, &z, FCT_F32, 4, (int64_t[]){w->n, w->h, w->w, w->channels}));
    if (!out) return fct_vae_decode(&w->rt, &w->m->vae, z, NULL);
    fct_to_nhwc(z.data, w->latents, w->n, w->channels, w->h, w->w);
    FCT_TRY(fct_new_raw(&out->pixels, w->n * w->h * f * w->w * f, 3));
    return fct_vae_decode(&w->rt, &w->m->vae, z, out->pixels);
}

/* out NULL: dry. */
static fct_status pass(fct_work *w, fct_arena *arena, fct_run_result *out)
{
    fct_model *m = w->m;
    bool done = false;
    w->arena = arena;
    w->rt = (fct_rt){.cx = {.be = m->be, .arena = arena, .log = m->log},
                     .dtype = m->dtype,
                     .taps = w->taps.n ? &w->taps : NULL,
                     .event = {.steps = w->sampler.n, .items = w->n, .guided = w->guided}};
    FCT_TRY(take_all(w));
    if (!w->d->resume) FCT_TRY(fct_work_encode(w));
    if (out && w->d->resume) restore_conditions(w);
    if (out && !w->d->resume) begin(w);
    for (int64_t step = w->first_step; step <= w->last_step && !done; step++)
        FCT_TRY(run_step(w, step, &done));
    if (done) return FCT_OK;
    if (out) {
        int64_t dim[4] = {w->n, w->channels, w->h, w->w};
        fct_tensor latents = fct_tensor_of(w->latents, FCT_F32, 4, dim);
        FCT_TRY(fct_tensor_copy(&out->latents, &latents));
    }
    return w->d->no_decode ? FCT_OK : decode(w, out);
}

static fct_status run(fct_work *w, fct_run_result *out)
{
    fct_arena dry = {0}, arena = {0};
    FCT_TRY(pass(w, &dry, NULL));
    FCT_TRY(fct_arena_init(&arena, dry.peak));
    fct_status st = pass(w, &arena, out);
    if (st == FCT_OK && arena.peak != dry.peak)
        st = fct_fail(FCT_ERR_INTERNAL, "the dry pass counted %lld bytes, the run took %lld",
                      (long long)dry.peak, (long long)arena.peak);
    fct_arena_clear(&arena);
    return st;
}

fct_status fct_model_run(fct_model *m, const fct_run_desc *d, fct_run_result *out)
{
    fct_work w;
    *out = (fct_run_result){0};
    if (d && d->save) *d->save = NULL;
    FCT_TRY(fct_work_init(&w, m, d));
    fct_status st = run(&w, out);
    if (st == FCT_OK && w.warning.n) st = fct_strdup(&out->warning, w.warning.p);
    out->n = w.n;
    out->width = w.w * m->info.vae_factor;
    out->height = w.h * m->info.vae_factor;
    if (st != FCT_OK) {
        fct_run_result_clear(out);
        if (d->save) {
            fct_state_free(*d->save);
            *d->save = NULL;
        }
    }
    fct_work_clear(&w);
    return st;
}

void fct_run_result_clear(fct_run_result *r)
{
    fct_free(r->latents.data);
    fct_free(r->pixels);
    fct_free(r->warning);
    *r = (fct_run_result){0};
}

fct_status fct_model_peak(fct_model *m, const fct_run_desc *d, int64_t *out_bytes)
{
    fct_work w;
    fct_arena dry = {0};
    *out_bytes = 0;
    FCT_TRY(fct_work_init(&w, m, d));
    fct_status st = pass(&w, &dry, NULL);
    if (st == FCT_OK) *out_bytes = dry.peak;
    fct_work_clear(&w);
    return st;
}

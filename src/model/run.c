/* run.c - makes the pictures of one run: conditions, noise, the sampler's loop over the U-Net's
   stages, the decoder.

   The same code passes twice, dry to learn the exact memory and then for real; what the dry pass
   takes, the real one takes again, byte for byte. */
#include <string.h>

#include "model/run.h"

/* ---- noise ---- */

/* One randn per generator: the whole batch from one, or every item its own. */
static void draw(fct_work *w, float *out)
{
    int64_t each = w->channels * w->h * w->w, n = w->settings.joint_noise ? w->n * each : each;
    for (int64_t i = 0; i < w->n_rng; i++)
        fct_noise_draw(&w->rng[i], out + i * n, n, w->settings.noise_dtype);
}

static void begin(fct_work *w)
{
    int64_t n = w->n * w->channels * w->h * w->w;
    for (int64_t i = 0; i < w->n_rng; i++) fct_rng_init(&w->rng[i], fct_run_seed(w->d, i));
    draw(w, w->latents); /* also when other noise is given: later draws stay where they are */
    if (w->d->init_noise) memcpy(w->latents, w->d->init_noise, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) w->latents[i] *= w->sampler.init_sigma;
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
    if (!fct_arena_dry(w->arena)) w->s->counts.stages += to - from;
    fct_status st = fct_stages_run(&w->rt, &w->m->unet, from, to, &w->flow);
    return st == FCT_OK ? st : fct_where(st, "unet, step %lld", (long long)step);
}

static void guide_and_step(fct_work *w, int64_t step)
{
    float *y = w->flow.x.data, guidance = (float)w->settings.guidance;
    int64_t n = w->n * w->channels * w->h * w->w;
    if (w->guided)
        for (int64_t i = 0; i < n; i++) y[i] = y[i] + guidance * (y[n + i] - y[i]);
    fct_to_nchw(w->output, y, w->n, w->channels, w->h, w->w);
    if (w->sampler.ancestral) draw(w, w->noise);
    fct_sampler_step(&w->sampler, step - 1, w->latents, w->output, w->noise, n);
}

/* *done: the run ends here, without latents. */
static fct_status run_step(fct_work *w, int64_t step, bool *done)
{
    bool resumed = w->resume && step == w->first_step;
    int64_t from = resumed ? w->resume->stage : 0, to = w->m->unet.n;
    fct_mark mark = fct_arena_mark(w->arena);
    w->rt.timestep = w->sampler.timestep[step - 1];
    w->rt.event.step = step;
    if (w->d->stop_after_taps && step == w->last_step) {
        to = w->taps.last_stage + 1;
        *done = true;
    }
    FCT_TRY(fct_flow_init(&w->flow, &w->rt, &w->m->unet, w->rows, w->h, w->w));
    if (resumed) {
        FCT_TRY(fct_moment_restore_flow(w));
    } else {
        fct_tensor x;
        FCT_TRY(fct_rt_take(&w->rt, &x, FCT_F32, 4, (int64_t[]){w->rows, w->h, w->w, w->channels}));
        FCT_TRY(make_input(w, step, x));
        w->flow.x = x;
    }
    FCT_TRY(run_stages(w, step, from, to));
    if (!*done && !fct_arena_dry(w->arena)) guide_and_step(w, step);
    fct_arena_reset(w->arena, mark);
    if (!fct_arena_dry(w->arena)) fct_log_progress(w->s->log, "steps", step, w->last_step);
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
    FCT_TRY(fct_arena_take(w->arena, &w->rt.emb, w->rows * fct_unet_emb_width(&w->m->unet),
                           sizeof(float)));
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

static fct_status keep_moment(void *user, int64_t stage, const fct_tensor *x,
                              const fct_tensor *delta)
{
    return fct_moment_keep(user, stage, x, delta);
}

/* out NULL: dry. */
static fct_status pass(fct_work *w, fct_arena *arena, fct_run_result *out)
{
    const fct_model *m = w->m;
    bool done = false;
    w->arena = arena;
    w->rt = (fct_rt){.cx = w->s->cx,
                     .dtype = m->dtype,
                     .taps = w->taps.n ? &w->taps : NULL,
                     .behind_delta = out && w->n_keep > 0 ? keep_moment : NULL,
                     .behind_user = w,
                     .event = {.steps = w->sampler.n, .items = w->n, .guided = w->guided}};
    w->rt.cx.arena = arena;
    FCT_TRY(take_all(w));
    if (!w->resume) FCT_TRY(fct_work_encode(w));
    if (out && w->resume) fct_moment_restore(w);
    if (out && !w->resume) begin(w);
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

fct_status fct_work_run(fct_work *w, fct_run_result *out)
{
    fct_arena dry = {0}, *arena = &w->s->arena;
    FCT_TRY(pass(w, &dry, NULL));
    FCT_TRY(fct_session_reserve(w->s, dry.peak));
    w->s->counts.runs++;
    w->s->counts.resumed += w->resume != NULL;
    FCT_TRY(pass(w, arena, out));
    if (arena->peak != dry.peak)
        return fct_fail(FCT_ERR_INTERNAL, "the dry pass counted %lld bytes, the run took %lld",
                        (long long)dry.peak, (long long)arena->peak);
    return FCT_OK;
}

fct_status fct_work_peak(fct_work *w, int64_t *out_bytes)
{
    fct_arena dry = {0};
    FCT_TRY(pass(w, &dry, NULL));
    *out_bytes = dry.peak;
    return FCT_OK;
}

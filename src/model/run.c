/* run.c - makes the pictures of one run: conditions, noise, the sampler's loop over the U-Net's
   stages, the decoder.

   The same code passes twice, dry to learn the exact memory and then for real; what the dry pass
   takes, the real one takes again, byte for byte. */
#include <string.h>

#include "model/run.h"

/* Numbers of the sample. */
static int64_t count_latents(const fct_work *w)
{
    return w->n * w->channels * w->h * w->w;
}

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
    int64_t n = count_latents(w);
    for (int64_t i = 0; i < w->n_rng; i++) fct_rng_init(&w->rng[i], fct_run_seed(w->d, i));
    draw(w, w->latents); /* also when other noise is given: later draws stay where they are */
    if (w->d->init_noise) memcpy(w->latents, w->d->init_noise, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) w->latents[i] *= w->sampler.init_sigma;
}

/* ---- one step ---- */

/* The scaled sample, once or twice, as [rows,h,w,C]. */
static fct_status make_input(fct_work *w, int64_t step, const fct_tensor *x)
{
    fct_map to;
    FCT_TRY(fct_map_open(&to, fct_rt_device(&w->rt), x, FCT_MAP_WRITE));
    float scale = fct_sampler_input_scale(&w->sampler, step - 1), *v = to.data;
    int64_t n = count_latents(w);
    fct_to_nhwc(v, w->latents, w->n, w->channels, w->h, w->w);
    for (int64_t i = 0; i < n; i++) v[i] /= scale;
    if (w->guided) memcpy(v + n, v, (size_t)n * sizeof *v);
    return fct_map_close(&to);
}

static fct_status run_stages(fct_work *w, int64_t step, int64_t from, int64_t to)
{
    if (!fct_arena_dry(w->arena)) w->s->counts.stages += to - from;
    fct_status st = fct_stages_run(&w->rt, &w->m->unet, from, to, &w->flow);
    return st == FCT_OK ? st : fct_where(st, "unet, step %lld", (long long)step);
}

/* output = uncond + guidance (cond - uncond), as [n,C,h,w]; without guidance it is the map. */
static fct_status read_output(fct_work *w)
{
    fct_map from;
    float guidance = (float)w->settings.guidance, *cond = w->noise;
    int64_t n = count_latents(w);
    FCT_TRY(fct_map_open(&from, fct_rt_device(&w->rt), &w->flow.x, FCT_MAP_READ));
    const float *y = from.data;
    fct_to_nchw(w->output, y, w->n, w->channels, w->h, w->w);
    if (w->guided) {
        fct_to_nchw(cond, y + n, w->n, w->channels, w->h, w->w);
        for (int64_t i = 0; i < n; i++)
            w->output[i] = w->output[i] + guidance * (cond[i] - w->output[i]);
    }
    return fct_map_close(&from);
}

static fct_status guide_and_step(fct_work *w, int64_t step)
{
    FCT_TRY(read_output(w));
    if (w->sampler.ancestral) draw(w, w->noise);
    fct_sampler_step(&w->sampler, step - 1, w->latents, w->output, w->noise, count_latents(w));
    return FCT_OK;
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
        if (x.data) FCT_TRY(make_input(w, step, &x));
        w->flow.x = x;
    }
    FCT_TRY(run_stages(w, step, from, to));
    if (!*done && !fct_arena_dry(w->arena)) FCT_TRY(guide_and_step(w, step));
    fct_arena_reset(w->arena, mark);
    if (!fct_arena_dry(w->arena)) fct_log_progress(w->s->log, "steps", step, w->last_step);
    return FCT_OK;
}

/* ---- the pass ---- */

static fct_status take_all(fct_work *w)
{
    const fct_unet_config *c = &w->m->unet_config;
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
    FCT_TRY(fct_latents_write(&w->rt, &z, w->latents));
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
                     .clock = w->s->clock,
                     .event = {.steps = w->sampler.n, .items = w->n, .guided = w->guided}};
    w->rt.cx.arena = arena;
    FCT_TRY(take_all(w));
    bool encodes = out && !w->resume && !w->texts;
    double start = fct_seconds();
    if (!w->resume) FCT_TRY(fct_work_encode(w));
    if (w->rt.clock.fn && encodes)
        w->rt.clock.fn(w->rt.clock.user, "text encoders", fct_seconds() - start);
    if (out && w->resume) FCT_TRY(fct_moment_restore(w));
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

fct_status fct_session_reserve(fct_session *s, int64_t bytes)
{
    if (bytes > s->arena.size) {
        fct_device_arena_clear(s->m->be->device, &s->arena);
        FCT_TRY(fct_device_arena_init(s->m->be->device, &s->arena, bytes));
    }
    fct_arena_reset(&s->arena, 0);
    s->arena.peak = 0;
    return FCT_OK;
}

/* The sampler's own numbers: three samples, in host memory. */
static fct_status take_samples(fct_work *w)
{
    FCT_TRY(fct_new_raw(&w->latents, count_latents(w), sizeof *w->latents));
    FCT_TRY(fct_new_raw(&w->output, count_latents(w), sizeof *w->output));
    return fct_new_raw(&w->noise, count_latents(w), sizeof *w->noise);
}

fct_status fct_work_run(fct_work *w, fct_run_result *out)
{
    fct_arena dry = {0}, *arena = &w->s->arena;
    FCT_TRY(take_samples(w));
    FCT_TRY(pass(w, &dry, NULL));
    FCT_TRY(fct_session_reserve(w->s, dry.peak));
    w->s->counts.runs++;
    w->s->counts.resumed += w->resume != NULL;
    double start = fct_seconds();
    FCT_TRY(pass(w, arena, out));
    w->s->pass_seconds = fct_seconds() - start;
    if (arena->peak != dry.peak)
        return fct_fail(FCT_ERR_INTERNAL, "the dry pass counted %lld bytes, the run took %lld",
                        (long long)dry.peak, (long long)arena->peak);
    return FCT_OK;
}

fct_status fct_work_peak(fct_work *w, int64_t *out_bytes)
{
    fct_arena dry = {0};
    FCT_TRY(pass(w, &dry, NULL));
    *out_bytes = dry.peak + 3 * count_latents(w) * (int64_t)sizeof(float);
    return FCT_OK;
}

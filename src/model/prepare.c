/* prepare.c - settles everything about a run that is known before it computes: sizes, steps,
   guidance, token ids, taps, and the key by which what is kept of it is found. */
#include <stdio.h>
#include <string.h>

#include "base/option.h"
#include "model/run.h"

enum { CUT_SHOWN = 120 }; /* bytes of a cut text that a warning shows */

uint64_t fct_run_seed(const fct_run_desc *d, int64_t i)
{
    return d->items[i].seed + (d->settings ? d->settings->seed : 0);
}

static fct_status set_size(fct_work *w)
{
    const fct_model_info *f = &w->m->info;
    FCT_TRY(fct_settings_check(&w->settings, f));
    w->w = w->settings.width / f->vae_factor;
    w->h = w->settings.height / f->vae_factor;
    return FCT_OK;
}

static fct_status set_steps(fct_work *w)
{
    const fct_run_desc *d = w->d;
    FCT_TRY(fct_sampler_init(&w->sampler, &w->m->scheduler_config, w->settings.steps));
    w->first_step = 1;
    w->last_step = w->sampler.n;
    if (d->stop_after_taps && d->stop_step) {
        if (d->stop_step < 1 || d->stop_step > w->sampler.n)
            return fct_fail(FCT_ERR_ARG, "stop_step %lld of %lld steps", (long long)d->stop_step,
                            (long long)w->sampler.n);
        w->last_step = d->stop_step;
    }
    return FCT_OK;
}

/* ---- texts ---- */

typedef struct text_pair {
    const char *text[2];
} text_pair;

/* An item's texts for the two encoders. diffusers: an empty second prompt is the first one. */
static text_pair pair_of(const char *first, const char *second)
{
    const char *a = first ? first : "";
    return (text_pair){{a, second && *second ? second : a}};
}

static text_pair text_of_row(const fct_work *w, int64_t row)
{
    if (w->guided && row < w->n) return pair_of(w->settings.negative, w->settings.negative_2);
    const fct_run_item *item = &w->d->items[row % w->n];
    return pair_of(item->prompt, item->prompt_2);
}

/* The beginning of what was cut, whole characters: it is shown, not kept. */
static void shorten_text(char out[CUT_SHOWN + 4], const char *text)
{
    size_t n = strlen(text);
    if (n > CUT_SHOWN)
        for (n = CUT_SHOWN; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80;) n--;
    snprintf(out, CUT_SHOWN + 4, "%.*s%s", (int)n, text, text[n] ? "..." : "");
}

static fct_status warn_cut(fct_work *w, const char *cut, int encoder)
{
    char shown[CUT_SHOWN + 4];
    if (!cut) return FCT_OK;
    shorten_text(shown, cut);
    fct_log_line(
        w->s->log, FCT_LOG_WARN,
        "the prompt is longer than the %lld tokens that text encoder %d reads; cut off: \"%s\"",
        (long long)w->tokens, encoder + 1, shown);
    return fct_str_printf(&w->warning,
                          "%scut from the prompt (text encoder %d reads %lld tokens): \"%s\"",
                          w->warning.n ? "\n" : "", encoder + 1, (long long)w->tokens, shown);
}

/* Both encoders' ids of text number k. The cut is told once when both cut the same. */
static fct_status add_text(fct_work *w, int64_t k, text_pair t)
{
    char *cut[2] = {0};
    fct_status st = FCT_OK;
    for (int i = 0; i < 2 && st == FCT_OK; i++)
        st = fct_where(
            fct_tokenizer_encode(w->m->tokenizer[i], t.text[i], w->ids[i] + k * w->tokens, &cut[i]),
            "prompt");
    if (st == FCT_OK) st = warn_cut(w, cut[0], 0);
    if (st == FCT_OK && cut[1] && (!cut[0] || strcmp(cut[0], cut[1]) != 0))
        st = warn_cut(w, cut[1], 1);
    for (int i = 0; i < 2; i++) fct_free(cut[i]);
    return st;
}

static fct_status tokenize(fct_work *w)
{
    w->tokens = fct_tokenizer_length(w->m->tokenizer[0]);
    w->zeros = w->guided && !w->settings.negative && w->m->index.force_zeros;
    for (int i = 0; i < 2; i++) FCT_TRY(fct_new(&w->ids[i], w->rows * w->tokens, sizeof **w->ids));
    FCT_TRY(fct_new(&w->text_of, w->rows, sizeof *w->text_of));
    for (int64_t r = 0; r < w->rows; r++) {
        w->text_of[r] = -1;
        if (w->zeros && r < w->n) continue;
        text_pair t = text_of_row(w, r);
        for (int64_t q = 0; q < r && w->text_of[r] < 0; q++) { /* the same text is encoded once */
            text_pair u = text_of_row(w, q);
            if (w->text_of[q] >= 0 && strcmp(t.text[0], u.text[0]) == 0 &&
                strcmp(t.text[1], u.text[1]) == 0)
                w->text_of[r] = w->text_of[q];
        }
        if (w->text_of[r] >= 0) continue;
        FCT_TRY(add_text(w, w->n_texts, t));
        w->text_of[r] = w->n_texts++;
    }
    return FCT_OK;
}

/* ---- keys ---- */

static void add_number(fct_sha256 *h, int64_t v)
{
    fct_sha256_add(h, &v, sizeof v);
}

/* Every setting by its row of the table, so that a new one is part of the key by being there. The
   negative prompts are in it as tokens; as texts they may hold bytes that JSON cannot. */
static fct_status add_settings(fct_sha256 *h, const fct_settings *settings)
{
    fct_str text = {0};
    fct_settings s = *settings;
    s.negative = s.negative_2 = NULL;
    json_t *j = json_object();
    fct_status st = j ? fct_options_to_json(j, fct_settings_table(), &s)
                      : fct_fail(FCT_ERR_MEMORY, "out of memory: the settings of a run");
    if (st == FCT_OK) st = fct_json_text(&text, j, 0);
    if (st == FCT_OK) fct_sha256_add(h, text.p, text.n);
    fct_str_clear(&text);
    json_decref(j);
    return st;
}

/* Of all that the run follows from, its taps apart. */
static fct_status make_key(fct_work *w)
{
    const fct_run_desc *d = w->d;
    const int64_t number[] = {w->n, w->rows, w->h, w->w, w->zeros, d->init_noise != NULL};
    fct_sha256 h;
    fct_sha256_init(&h);
    fct_sha256_add(&h, w->m->hash, 64);
    fct_sha256_add(&h, w->m->info.backend, (int64_t)strlen(w->m->info.backend) + 1);
    fct_sha256_add(&h, w->m->info.precision, (int64_t)strlen(w->m->info.precision) + 1);
    for (size_t i = 0; i < FCT_COUNT(number); i++) add_number(&h, number[i]);
    FCT_TRY(add_settings(&h, &w->settings));
    fct_sha256_add(&h, w->sampler.timestep, w->sampler.n * (int64_t)sizeof *w->sampler.timestep);
    fct_sha256_add(&h, w->sampler.sigma, (w->sampler.n + 1) * (int64_t)sizeof *w->sampler.sigma);
    for (int64_t i = 0; i < w->n; i++) add_number(&h, (int64_t)fct_run_seed(d, i));
    for (int i = 0; i < 2; i++)
        fct_sha256_add(&h, w->ids[i], w->n_texts * w->tokens * (int64_t)sizeof **w->ids);
    fct_sha256_add(&h, w->text_of, w->rows * (int64_t)sizeof *w->text_of);
    if (d->init_noise)
        fct_sha256_add(&h, d->init_noise,
                       w->n * w->channels * w->h * w->w * (int64_t)sizeof(float));
    fct_sha256_hex(&h, w->key);
    return FCT_OK;
}

static void make_text_key(fct_work *w)
{
    fct_sha256 h;
    fct_sha256_init(&h);
    add_number(&h, w->n_texts);
    for (int i = 0; i < 2; i++)
        fct_sha256_add(&h, w->ids[i], w->n_texts * w->tokens * (int64_t)sizeof **w->ids);
    fct_sha256_hex(&h, w->text_key);
}

static fct_status check_tap_steps(const fct_work *w)
{
    for (int64_t i = 0; i < w->d->n_taps; i++)
        if (w->d->taps[i].first_step > w->sampler.n)
            return fct_fail(FCT_ERR_ARG, "a tap on %s begins in step %lld of a run of %lld",
                            w->d->taps[i].module, (long long)w->d->taps[i].first_step,
                            (long long)w->sampler.n);
    return FCT_OK;
}

static fct_status init(fct_work *w)
{
    const fct_run_desc *d = w->d;
    fct_settings_resolve(&w->settings, d->settings, &w->m->info);
    w->guided = fct_settings_guided(&w->settings);
    FCT_TRY(set_size(w));
    FCT_TRY(set_steps(w));
    w->rows = w->guided ? 2 * w->n : w->n;
    w->channels = w->m->unet_config.in_channels;
    FCT_TRY(tokenize(w));
    FCT_TRY(
        fct_taps_init(&w->taps, d->taps, d->n_taps, &w->m->modules, w->m->block, w->m->n_blocks));
    if (d->stop_after_taps && w->taps.last_stage < 0)
        return fct_fail(FCT_ERR_ARG, "stop_after_taps needs a tap");
    FCT_TRY(check_tap_steps(w));
    FCT_TRY(make_key(w));
    make_text_key(w);
    w->texts = (const fct_texts_kept *)fct_kept_find(&w->s->texts, w->text_key);
    FCT_TRY(fct_moments_plan(w));
    w->n_rng = w->settings.joint_noise ? 1 : w->n;
    FCT_TRY(fct_new(&w->rng, w->n_rng, sizeof *w->rng));
    return FCT_OK;
}

fct_status fct_work_init(fct_work *w, fct_session *s, const fct_run_desc *d)
{
    const fct_model *m = s->m;
    *w = (fct_work){.s = s, .m = m, .d = d};
    if (!d || !d->items || d->n_items < 1 || d->n_items > (1 << 16))
        return fct_fail(FCT_ERR_ARG, "a run needs 1 to 65536 items");
    if (d->n_taps < 0 || (d->n_taps && !d->taps)) return fct_fail(FCT_ERR_ARG, "no taps are given");
    if (!d->no_decode && !d->stop_after_taps && !m->has_vae)
        return fct_fail(FCT_ERR_MISSING, "the VAE was not loaded, so there are no pictures");
    w->n = d->n_items;
    fct_status st = init(w);
    if (st != FCT_OK) fct_work_clear(w);
    return st;
}

void fct_work_clear(fct_work *w)
{
    fct_sampler_clear(&w->sampler);
    fct_taps_clear(&w->taps);
    for (int i = 0; i < 2; i++) fct_free(w->ids[i]);
    fct_free(w->text_of);
    fct_free(w->rng);
    fct_free(w->keep);
    fct_free(w->latents);
    fct_free(w->output);
    fct_free(w->noise);
    fct_str_clear(&w->warning);
    *w = (fct_work){0};
}

fct_status fct_model_tokenize(const fct_model *m, int encoder, const char *prompt, int32_t **out,
                              int64_t *out_n, char **out_cut)
{
    *out = NULL;
    *out_n = 0;
    if (out_cut) *out_cut = NULL;
    if (encoder < 0 || encoder > 1)
        return fct_fail(FCT_ERR_ARG, "encoder %d: there are 0 and 1", encoder);
    int64_t n = fct_tokenizer_length(m->tokenizer[encoder]);
    FCT_TRY(fct_new(out, n, sizeof **out));
    fct_status st =
        fct_tokenizer_encode(m->tokenizer[encoder], prompt ? prompt : "", *out, out_cut);
    if (st == FCT_OK) {
        *out_n = n;
        return FCT_OK;
    }
    fct_free(*out);
    *out = NULL;
    return st;
}

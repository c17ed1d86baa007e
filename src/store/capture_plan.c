/* capture_plan.c - plans a capture before it starts: its blocks, grids, rows, shards and bytes, and
   the whole of store.json. A folder belongs to this capture exactly when its record is this
   text. */
#include <string.h>

#include "base/option.h"
#include "store/store.h"

const char *const fct_tap_what_name[3] = {
    [FCT_TAP_DELTA] = "delta", [FCT_TAP_IN] = "in", [FCT_TAP_OUT] = "out"};

enum { BATCH_CELLS = 16384, BATCH_MAX = 16 };

void fct_capture_plan_clear(fct_capture_plan *p)
{
    fct_free(p->block);
    fct_free(p->at_steps);
    fct_free(p->grid);
    fct_str_clear(&p->json);
    *p = (fct_capture_plan){0};
}

static fct_status check_desc(const fct_capture_desc *desc)
{
    if (!desc->session || !desc->out)
        return fct_fail(FCT_ERR_ARG, "a capture needs a session and a folder to write to");
    if (desc->n_prompts < 1) return fct_fail(FCT_ERR_ARG, "no prompts to capture");
    if (desc->n_prompts > INT32_MAX)
        return fct_fail(FCT_ERR_RANGE, "more than %d prompts", INT32_MAX);
    for (int64_t i = 0; i < desc->n_prompts; i++)
        if (fct_prompt_seed(desc->prompts, i, desc->settings) > INT64_MAX)
            return fct_fail(FCT_ERR_ARG, "the seed of prompt %lld is beyond %lld", (long long)i,
                            (long long)INT64_MAX);
    if (desc->batch < 0)
        return fct_fail(FCT_ERR_ARG, "batch %lld: want 1 or more", (long long)desc->batch);
    return FCT_OK;
}

static fct_status set_steps(fct_capture_plan *p, const fct_capture_desc *desc)
{
    int64_t steps = p->settings.steps;
    if (steps < 1 || steps > INT16_MAX)
        return fct_fail(FCT_ERR_ARG, "%lld steps: want 1 to %d", (long long)steps, INT16_MAX);
    int64_t last = fct_model_count_steps(p->info, steps); /* what the sampler makes of them */
    if (last != steps)
        fct_log_line(desc->log, FCT_LOG_INFO,
                     "%lld steps with trailing spacing are %lld, as in diffusers", (long long)steps,
                     (long long)last);
    p->n_at = desc->n_at_steps > 0 ? desc->n_at_steps : last;
    FCT_TRY(fct_new(&p->at_steps, p->n_at, sizeof *p->at_steps));
    for (int64_t i = 0; i < p->n_at; i++) {
        p->at_steps[i] = desc->n_at_steps > 0 ? desc->at_steps[i] : i + 1;
        if (p->at_steps[i] < 1 || p->at_steps[i] > last)
            return fct_fail(FCT_ERR_ARG, "step %lld is not among the steps 1 to %lld",
                            (long long)p->at_steps[i], (long long)last);
        if (i > 0 && p->at_steps[i] <= p->at_steps[i - 1])
            return fct_fail(FCT_ERR_ARG, "the chosen steps must ascend: %lld comes after %lld",
                            (long long)p->at_steps[i], (long long)p->at_steps[i - 1]);
    }
    return FCT_OK;
}

static fct_status set_run(fct_capture_plan *p, const fct_capture_desc *desc)
{
    const fct_model_info *info = p->info;
    const fct_settings *s = &p->settings;
    bool guided = fct_settings_guided(s);
    p->what = desc->what;
    if ((unsigned)p->what >= FCT_COUNT(fct_tap_what_name))
        return fct_fail(FCT_ERR_ARG, "a capture keeps delta, in or out");
    FCT_TRY(fct_store_dtype_find(&p->dtype, desc->store_dtype, FCT_F16));
    FCT_TRY(fct_settings_check(s, info));
    p->branch = desc->branch == FCT_HALF_DEFAULT ? FCT_HALF_COND : desc->branch;
    if (!guided && p->branch != FCT_HALF_COND)
        return fct_fail(FCT_ERR_ARG,
                        "branch %s needs guidance above 1: without it there is no uncond half",
                        fct_half_name(p->branch));
    if (!guided && s->negative)
        return fct_fail(FCT_ERR_ARG, "a negative prompt needs guidance above 1: without it nothing "
                                     "leads away from it");
    bool both = p->branch == FCT_HALF_BOTH;
    p->n_halves = both ? 2 : 1;
    p->half[0] = both ? FCT_HALF_UNCOND : p->branch;
    p->half[1] = FCT_HALF_COND;
    int64_t cells = s->width / info->vae_factor * (s->height / info->vae_factor),
            batch = BATCH_CELLS / cells;
    p->batch = desc->batch > 0     ? desc->batch
               : batch < 1         ? 1
               : batch > BATCH_MAX ? BATCH_MAX
                                   : batch;
    return FCT_OK;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static fct_status set_sizes(fct_capture_plan *p, const fct_capture_desc *desc)
{
    int64_t widest = 0, target = desc->shard_bytes > 0 ? desc->shard_bytes : FCT_STORE_SHARD_BYTES;
    FCT_TRY(fct_model_find_blocks(&p->block, &p->n_blocks, fct_session_model(desc->session),
                                  desc->blocks ? desc->blocks : "*"));
    FCT_TRY(fct_new(&p->grid, p->n_blocks, sizeof *p->grid));
    for (int64_t b = 0; b < p->n_blocks; b++) {
        struct fct_capture_grid *g = &p->grid[b];
        g->h = divide_up(p->settings.height / p->info->vae_factor, p->block[b]->downscale);
        g->w = divide_up(p->settings.width / p->info->vae_factor, p->block[b]->downscale);
        g->d = p->block[b]->channels;
        g->rows_per_prompt = p->n_at * p->n_halves * g->h * g->w;
        int64_t bytes = g->rows_per_prompt *
                        (g->d * fct_dtype_bytes(p->dtype) + (p->dtype == FCT_I8 ? 15 : 11));
        /* 11: prompt, step, branch, yx; 4 more: scale */
        if (bytes > widest) widest = bytes;
        p->bytes_per_prompt += bytes;
        p->total_rows += g->rows_per_prompt * desc->n_prompts;
    }
    int64_t batches = target / (widest * p->batch);
    p->shard_prompts = p->batch * (batches < 1 ? 1 : batches);
    p->n_shards = divide_up(desc->n_prompts, p->shard_prompts);
    return FCT_OK;
}

/* ---- store.json ---- */

static fct_status no_memory(void)
{
    return fct_fail(FCT_ERR_MEMORY, "out of memory: store.json");
}

static json_t *describe_block(const fct_capture_plan *p, int64_t b, int64_t n_prompts)
{
    const struct fct_capture_grid *g = &p->grid[b];
    json_t *shards = json_array();
    for (int64_t i = 0; i < p->n_shards; i++) {
        char *name = NULL;
        int64_t prompts = n_prompts - i * p->shard_prompts < p->shard_prompts
                              ? n_prompts - i * p->shard_prompts
                              : p->shard_prompts;
        if (fct_store_shard_name(&name, i, p->n_shards) == FCT_OK)
            (void)json_array_append_new(shards,
                                        json_pack("{s:s, s:I}", "file", name, "rows",
                                                  (json_int_t)(prompts * g->rows_per_prompt)));
        fct_free(name);
    }
    if (json_array_size(shards) != (size_t)p->n_shards) {
        json_decref(shards);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:I, s:[I,I], s:I, s:I, s:o}", "name", p->block[b]->short_name,
                     "full_name", p->block[b]->name, "d", (json_int_t)g->d, "grid",
                     (json_int_t)g->h, (json_int_t)g->w, "rows_per_prompt",
                     (json_int_t)g->rows_per_prompt, "rows",
                     (json_int_t)(g->rows_per_prompt * n_prompts), "shards", shards);
}

/* Settings that not every capture has: stores are continued by what is written here, so whatever
   changes rows must be. Each stands there only where it is not the default. */
static fct_status put_rest(json_t *options, const fct_settings *s)
{
    fct_settings rest = *s;
    rest.seed = 0;
    rest.negative = NULL;
    rest.width = rest.height = rest.steps = 0;
    rest.guidance = 0;
    FCT_TRY(fct_options_to_json(options, fct_settings_table(), &rest));
    if (s->noise_dtype == FCT_NOISE_F32) (void)json_object_del(options, "noise_dtype");
    return FCT_OK;
}

static json_t *describe_options(const fct_capture_plan *p)
{
    const fct_settings *s = &p->settings;
    json_t *at = json_array();
    for (int64_t i = 0; i < p->n_at; i++)
        (void)json_array_append_new(at, json_integer(p->at_steps[i]));
    return json_pack("{s:s, s:I, s:o, s:f, s:s?, s:s, s:I, s:I, s:I, s:I, s:I}", "what",
                     fct_tap_what_name[p->what], "steps", (json_int_t)s->steps, "at_steps", at,
                     "guidance", fct_settings_guidance(s), "negative", s->negative, "branch",
                     fct_half_name(p->branch), "seed", (json_int_t)s->seed, "width",
                     (json_int_t)s->width, "height", (json_int_t)s->height, "batch",
                     (json_int_t)p->batch, "shard_prompts", (json_int_t)p->shard_prompts);
}

static fct_status describe(fct_capture_plan *p, const fct_capture_desc *desc)
{
    fct_status st = FCT_OK;
    json_t *model =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:s}", "name", p->info->name, "hash", p->info->hash,
                  "backend", p->info->backend, "precision", p->info->precision, "threads",
                  fct_session_threads(desc->session), "plan", fct_session_plan(desc->session));
    json_t *blocks = json_array(), *prompts = json_array();
    for (int64_t b = 0; b < p->n_blocks; b++)
        (void)json_array_append_new(blocks, describe_block(p, b, desc->n_prompts));
    for (int64_t i = 0; i < desc->n_prompts; i++) {
        const char *text = desc->prompts[i].text ? desc->prompts[i].text : "";
        uint64_t seed = fct_prompt_seed(desc->prompts, i, desc->settings);
        (void)json_array_append_new(
            prompts, json_pack("{s:s, s:I}", "text", text, "seed", (json_int_t)seed));
    }
    json_t *options = describe_options(p);
    bool whole = json_array_size(blocks) == (size_t)p->n_blocks &&
                 json_array_size(prompts) == (size_t)desc->n_prompts;
    json_t *j = json_pack("{s:s, s:i, s:s, s:o, s:s, s:o, s:o, s:o}", "format", FCT_STORE_FORMAT,
                          "version", FCT_STORE_VERSION, "facet_version", fct_version(), "model",
                          model, "dtype", fct_dtype_name(p->dtype), "options", options, "blocks",
                          blocks, "prompts", prompts);
    if (!j || !whole) {
        st = no_memory();
        goto out;
    }
    FCT_TRY_OUT(put_rest(options, &p->settings));
    FCT_TRY_OUT(fct_json_text(&p->json, j, 2));
    FCT_TRY_OUT(fct_str_append(&p->json, "\n"));
out:
    json_decref(j);
    return st;
}

fct_status fct_capture_plan_init(fct_capture_plan *out, const fct_capture_desc *desc)
{
    fct_status st = FCT_OK;
    *out = (fct_capture_plan){0};
    FCT_TRY_OUT(check_desc(desc));
    out->info = fct_model_get_info(fct_session_model(desc->session));
    fct_settings_resolve(&out->settings, desc->settings, out->info);
    FCT_TRY_OUT(set_steps(out, desc));
    FCT_TRY_OUT(set_run(out, desc));
    FCT_TRY_OUT(set_sizes(out, desc));
    FCT_TRY_OUT(describe(out, desc));
out:
    if (st != FCT_OK) fct_capture_plan_clear(out);
    return st;
}

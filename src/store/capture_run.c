/* capture_run.c - runs one batch of prompts through the model, and puts the activations of the
   watched blocks into shards as rows. A capture writes those shards to disk; a source that trains
   from the model itself reads them where they are. Which prompts run together follows from their
   numbers alone, so both have the same rows. */
#include <string.h>

#include "store/store.h"

typedef struct listener {
    fct_capture_run *c;
    int64_t block;
} listener;

/* ---- rows ---- */

static int64_t find_step(const fct_capture_plan *p, int64_t step)
{
    for (int64_t i = 0; i < p->n_at; i++)
        if (p->at_steps[i] == step) return i;
    return -1;
}

/* One map of one prompt at its place: order prompt, step, half, y, x. */
static fct_status put_map(fct_capture_run *c, int64_t block, const float *map, int64_t prompt,
                          int64_t at, int64_t half)
{
    const struct fct_capture_grid *g = &c->plan->grid[block];
    fct_shard *s = &c->shard[block];
    bool uncond = c->plan->half[half] == FCT_HALF_UNCOND;
    int64_t first = ((prompt - c->shard_first) * c->plan->n_at + at) * c->plan->n_halves + half;
    first *= g->h * g->w;
    FCT_TRY(fct_shard_put(s, first, map, g->h * g->w));
    for (int64_t i = 0; s->has_meta && i < g->h * g->w; i++) {
        s->prompt[first + i] = (int32_t)prompt;
        s->step[first + i] = (int16_t)c->plan->at_steps[at];
        s->branch[first + i] = !uncond;
        s->yx[2 * (first + i)] = (int16_t)(i / g->w);
        s->yx[2 * (first + i) + 1] = (int16_t)(i % g->w);
    }
    return FCT_OK;
}

static fct_status listen_block(void *user, const fct_tap_event *event, fct_tensor *value)
{
    listener *l = user;
    fct_capture_run *c = l->c;
    const fct_capture_plan *p = c->plan;
    const struct fct_capture_grid *g = &p->grid[l->block];
    int64_t at = find_step(p, event->step), cells;
    float *map;
    if (at < 0) return FCT_OK;
    if (value->ndim != 4 || value->dim[1] != g->h || value->dim[2] != g->w || value->dim[3] != g->d)
        return fct_fail(FCT_ERR_INTERNAL, "%s: the tap has another shape than [B,%lld,%lld,%lld]",
                        event->name, (long long)g->h, (long long)g->w, (long long)g->d);
    for (int64_t i = event->first_item; i < event->first_item + event->items; i++)
        for (int64_t b = 0; b < p->n_halves; b++) {
            int64_t prompt = c->batch_first + i;
            FCT_TRY(fct_tap_rows(&map, &cells, event, value, i, p->half[b]));
            fct_status st = put_map(c, l->block, map, prompt, at, b);
            if (st != FCT_OK)
                return fct_where(st, "block %s, prompt %lld (\"%.60s\"), step %lld",
                                 p->block[l->block]->short_name, (long long)prompt,
                                 c->desc->prompts[prompt].text ? c->desc->prompts[prompt].text : "",
                                 (long long)event->step);
        }
    return FCT_OK;
}

fct_status fct_capture_batch(fct_capture_run *c, int64_t first, int64_t n)
{
    const fct_capture_plan *p = c->plan;
    fct_status st = FCT_OK;
    fct_run_item *item = NULL;
    fct_tap *tap = NULL;
    listener *listeners = NULL;
    fct_run_result r = {0};
    c->batch_first = first;
    FCT_TRY_OUT(fct_new(&item, n, sizeof *item));
    FCT_TRY_OUT(fct_new(&tap, p->n_blocks, sizeof *tap));
    FCT_TRY_OUT(fct_new(&listeners, p->n_blocks, sizeof *listeners));
    for (int64_t i = 0; i < n; i++)
        item[i] = fct_prompt_item(c->desc->prompts, first + i, &p->settings);
    for (int64_t b = 0; b < p->n_blocks; b++) {
        listeners[b] = (listener){c, b};
        tap[b] = (fct_tap){.module = p->block[b]->name,
                           .what = p->what,
                           .user = &listeners[b],
                           .fn = listen_block};
    }
    FCT_TRY_OUT(fct_session_run(c->desc->session,
                                &(fct_run_desc){.items = item,
                                                .n_items = n,
                                                .settings = &p->settings,
                                                .taps = tap,
                                                .n_taps = p->n_blocks,
                                                .no_decode = true,
                                                .stop_after_taps = true,
                                                .stop_step = p->at_steps[p->n_at - 1]},
                                &r));
out:
    fct_run_result_clear(&r);
    fct_free(item);
    fct_free(tap);
    fct_free(listeners);
    return st;
}

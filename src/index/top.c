/* top.c - finds the strongest pictures of features over many prompts. The first pass stops after
   the last block that is read and keeps only the best maps, so its memory does not grow with the
   prompts; the second makes the pictures that were kept. */
#include <inttypes.h>
#include <string.h>

#include "index/index.h"
#include "model/model.h"
#include "store/store.h"

static uint64_t seed_of(const fct_top_desc *desc, int64_t prompt)
{
    return fct_prompt_seed(desc->prompts, prompt, desc->settings);
}

typedef struct watch { /* one block in the pass */
    const fct_block_info *block;
    const fct_sae *sae;
    const fct_top_desc *desc;
    float *
        *map; /* [n_features][items*h*w] sums of this batch; only this block's features have one */
    int64_t h, w, steps;
} watch;

/* ---- the first pass ---- */

static fct_status watch_tap(void *user, const fct_tap_event *event, fct_tensor *value)
{
    watch *t = user;
    fct_codes codes;
    float *x;
    int64_t rows;
    if (event->first_item != 0) return fct_fail(FCT_ERR_INTERNAL, "a batch came in parts");
    FCT_TRY(fct_tap_rows(&x, &rows, event, value, -1, FCT_HALF_COND));
    FCT_TRY(fct_codes_of_rows(&codes, t->sae, fct_tap_backend(event), x, rows));
    t->h = value->dim[1];
    t->w = value->dim[2];
    t->steps++;
    fct_status st = FCT_OK;
    for (int64_t q = 0; q < t->desc->n_features && st == FCT_OK; q++) {
        if (t->desc->feature[q].block != t->block) continue;
        if (!t->map[q]) st = fct_new(&t->map[q], rows, (int64_t)sizeof **t->map);
        for (int64_t r = 0; r < rows && st == FCT_OK; r++)
            t->map[q][r] += fct_codes_at(&codes, r, t->desc->feature[q].feature);
    }
    fct_codes_clear(&codes);
    return st;
}

/* Keeps the example when it is among the best `top`; takes its map over or releases it. */
static void offer(fct_top_feature *t, int64_t top, fct_top_example e)
{
    int64_t at = t->n_examples;
    while (at > 0 && t->example[at - 1].map.mean < e.map.mean) at--;
    if (at >= top || e.map.max <= 0) {
        fct_free(e.map.map);
        return;
    }
    if (t->n_examples == top)
        fct_free(t->example[top - 1].map.map);
    else
        t->n_examples++;
    for (int64_t i = t->n_examples - 1; i > at; i--) t->example[i] = t->example[i - 1];
    t->example[at] = e;
}

static fct_status offer_batch(fct_top *out, const watch *t, int64_t first, int64_t items,
                              int64_t top)
{
    int64_t cells = t->h * t->w;
    for (int64_t q = 0; q < out->n_features; q++) {
        for (int64_t i = 0; t->map[q] && i < items; i++) {
            fct_top_example e = {
                .prompt = first + i,
                .seed = seed_of(t->desc, first + i),
                .map = {.feature = t->desc->feature[q].feature, .h = t->h, .w = t->w}};
            FCT_TRY(fct_new_raw(&e.map.map, cells, (int64_t)sizeof *e.map.map));
            for (int64_t p = 0; p < cells; p++)
                e.map.map[p] = t->map[q][i * cells + p] / (float)t->steps;
            fct_feature_map_measure(&e.map);
            offer(&out->feature[q], top, e);
        }
    }
    return FCT_OK;
}

static void describe(fct_run_desc *d, fct_run_item *items, const int64_t *prompt, int64_t n,
                     const fct_top_desc *desc)
{
    for (int64_t i = 0; i < n; i++)
        items[i] = fct_prompt_item(desc->prompts, prompt[i], desc->settings);
    *d = (fct_run_desc){.items = items, .n_items = n, .settings = desc->settings};
}

static fct_status scan_batch(fct_top *out, fct_session *session, watch *watches, int64_t n_watches,
                             const fct_top_desc *desc, const int64_t *prompt, int64_t n,
                             fct_tap *taps, fct_run_item *items, int64_t top)
{
    fct_run_desc d;
    fct_run_result result = {0};
    describe(&d, items, prompt, n, desc);
    d.taps = taps;
    d.n_taps = n_watches;
    d.no_decode = d.stop_after_taps = true;
    fct_status st = fct_session_run(session, &d, &result);
    fct_run_result_clear(&result);
    for (int64_t b = 0; b < n_watches; b++) {
        watch *t = &watches[b];
        if (st == FCT_OK) st = offer_batch(out, t, prompt[0], n, top);
        for (int64_t q = 0; q < desc->n_features; q++) {
            fct_free(t->map[q]);
            t->map[q] = NULL;
        }
        t->steps = 0;
    }
    return st;
}

static fct_status find_watches(watch *watches, fct_tap *taps, int64_t *out_n,
                               const fct_sae_set *saes, const fct_top_desc *desc)
{
    *out_n = 0;
    for (int64_t i = 0; i < saes->n; i++) {
        const fct_block_info *wanted = NULL;
        for (int64_t q = 0; q < desc->n_features; q++)
            if (strcmp(desc->feature[q].block->name, saes->bound[i].name) == 0)
                wanted = desc->feature[q].block;
        if (!wanted) continue;
        watch *t = &watches[*out_n];
        *t = (watch){.block = wanted, .sae = saes->bound[i].sae, .desc = desc};
        taps[*out_n] =
            (fct_tap){.module = t->block->name, .what = FCT_TAP_DELTA, .user = t, .fn = watch_tap};
        ++*out_n;
        FCT_TRY(fct_new(&t->map, desc->n_features, (int64_t)sizeof *t->map));
    }
    return FCT_OK;
}

static fct_status scan(fct_top *out, fct_session *session, const fct_sae_set *saes,
                       const fct_top_desc *desc, int64_t batch, int64_t top)
{
    watch *watches = NULL;
    fct_tap *taps = NULL;
    fct_run_item *items = NULL;
    int64_t *prompt = NULL, n = 0;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_new(&watches, saes->n, (int64_t)sizeof *watches));
    FCT_TRY_OUT(fct_new(&taps, saes->n, (int64_t)sizeof *taps));
    FCT_TRY_OUT(fct_new(&items, batch, (int64_t)sizeof *items));
    FCT_TRY_OUT(fct_new(&prompt, batch, (int64_t)sizeof *prompt));
    FCT_TRY_OUT(find_watches(watches, taps, &n, saes, desc));
    for (int64_t first = 0; first < desc->n_prompts; first += batch) {
        int64_t count = desc->n_prompts - first < batch ? desc->n_prompts - first : batch;
        FCT_TRY_OUT(fct_log_check_stop(desc->log));
        for (int64_t i = 0; i < count; i++) prompt[i] = first + i;
        FCT_TRY_OUT(scan_batch(out, session, watches, n, desc, prompt, count, taps, items, top));
        fct_log_progress(desc->log, "prompts", first + count, desc->n_prompts);
    }
out:
    for (int64_t b = 0; watches && b < n; b++) fct_free(watches[b].map);
    fct_free(watches);
    fct_free(taps);
    fct_free(items);
    fct_free(prompt);
    return st;
}

/* ---- the second pass ---- */

static fct_status keep_picture(fct_top *out, const fct_run_result *r, int64_t i, int64_t prompt,
                               const fct_stamp *stamp)
{
    for (int64_t q = 0; q < out->n_features; q++)
        for (int64_t k = 0; k < out->feature[q].n_examples; k++) {
            fct_top_example *e = &out->feature[q].example[k];
            if (e->prompt != prompt) continue;
            FCT_TRY(fct_new(&e->picture, 1, (int64_t)sizeof *e->picture));
            FCT_TRY(fct_new(&e->overlay, 1, (int64_t)sizeof *e->overlay));
            FCT_TRY(fct_draw_stamped(e->picture, r, i, stamp));
            FCT_TRY(fct_draw_heat(e->overlay, e->picture, e->map.map, e->map.h, e->map.w, 0));
        }
    return FCT_OK;
}

static bool is_wanted(const fct_top *out, int64_t prompt)
{
    for (int64_t q = 0; q < out->n_features; q++)
        for (int64_t k = 0; k < out->feature[q].n_examples; k++)
            if (out->feature[q].example[k].prompt == prompt) return true;
    return false;
}

static fct_status draw_batch(fct_top *out, fct_session *session, const fct_top_desc *desc,
                             const int64_t *prompt, int64_t n, fct_run_item *items)
{
    fct_run_desc d;
    fct_run_result result = {0};
    if (n == 0) return FCT_OK;
    FCT_TRY(fct_log_check_stop(desc->log));
    describe(&d, items, prompt, n, desc);
    fct_status st = fct_session_run(session, &d, &result);
    for (int64_t i = 0; i < n && st == FCT_OK; i++)
        st = keep_picture(out, &result, i, prompt[i], &(fct_stamp){session, &d, NULL, 0, NULL});
    fct_run_result_clear(&result);
    return st;
}

static fct_status draw(fct_top *out, fct_session *session, const fct_top_desc *desc, int64_t batch)
{
    int64_t *prompt = NULL, n = 0;
    fct_run_item *items = NULL;
    FCT_TRY(fct_new(&prompt, batch, (int64_t)sizeof *prompt));
    fct_status st = fct_new(&items, batch, (int64_t)sizeof *items);
    for (int64_t i = 0; i < desc->n_prompts && st == FCT_OK; i++) {
        if (is_wanted(out, i)) prompt[n++] = i;
        if (n < batch) continue;
        st = draw_batch(out, session, desc, prompt, n, items);
        n = 0;
    }
    if (st == FCT_OK) st = draw_batch(out, session, desc, prompt, n, items);
    fct_free(prompt);
    fct_free(items);
    return st;
}

fct_status fct_top_run(fct_top *out, fct_session *session, const fct_sae_set *saes,
                       const fct_top_desc *desc)
{
    int64_t batch = desc->batch > 0 ? desc->batch : 8, top = desc->top > 0 ? desc->top : 9;
    fct_status st = FCT_OK;
    *out = (fct_top){0};
    for (int64_t i = 0; i < desc->n_prompts; i++)
        if (seed_of(desc, i) > INT64_MAX)
            return fct_fail(FCT_ERR_ARG, "the seed of prompt %" PRId64 " is beyond %" PRId64, i,
                            INT64_MAX);
    if (desc->n_prompts < 1) return fct_fail(FCT_ERR_ARG, "there are no prompts to look through");
    FCT_TRY(fct_new(&out->feature, desc->n_features, (int64_t)sizeof *out->feature));
    for (int64_t q = 0; q < desc->n_features; q++) {
        const fct_block_feature *f = &desc->feature[q];
        const fct_sae *sae = fct_sae_set_find(saes, f->block->name);
        out->n_features = q + 1;
        out->feature[q].feature = *f;
        if (!sae || f->feature < 0 || f->feature >= sae->f) {
            st =
                fct_fail(FCT_ERR_MISSING, "%s:%" PRId64 " is no feature of the SAEs that are given",
                         f->block->short_name, f->feature);
            goto out;
        }
        FCT_TRY_OUT(
            fct_new(&out->feature[q].example, top, (int64_t)sizeof *out->feature[q].example));
    }
    FCT_TRY_OUT(scan(out, session, saes, desc, batch, top));
    if (!desc->no_pictures) FCT_TRY_OUT(draw(out, session, desc, batch));
out:
    if (st != FCT_OK) fct_top_clear(out);
    return st;
}

void fct_top_clear(fct_top *t)
{
    for (int64_t q = 0; q < t->n_features; q++) {
        for (int64_t k = 0; k < t->feature[q].n_examples; k++) {
            fct_free(t->feature[q].example[k].map.map);
            fct_images_free(t->feature[q].example[k].picture, 1);
            fct_images_free(t->feature[q].example[k].overlay, 1);
        }
        fct_free(t->feature[q].example);
    }
    fct_free(t->feature);
    *t = (fct_top){0};
}

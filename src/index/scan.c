/* scan.c - passes once over many pictures: runs prompts in batches, or reads a store's rows,
   encodes what the watched blocks wrote, and calls visitors with codes and pictures.

   An encoder is opened for each block and kept for the whole scan. Codes are those of all items of
   a batch in one call, so that their bytes depend on the batch and on nothing else. */
#include <inttypes.h>
#include <string.h>

#include "index/index.h"
#include "model/model.h"
#include "store/store.h"

enum { USUAL_BATCH = 8, USUAL_STORE_BATCH = 64 };

typedef struct scan scan;

typedef struct watch { /* one block that is read */
    scan *s;
    const fct_sae_bound *bound;
    int64_t nth;  /* of the set */
    bool *wanted; /* [n_visitors] */
    fct_coder coder;
    fct_codes codes; /* of the rows that were read last */
} watch;

struct scan {
    const fct_scan_visitor *visitor;
    int64_t n_visitors;
    watch *watch;
    int64_t n_watches;
    fct_scan_item *item; /* [batch] */
    int64_t n_items;     /* of this batch */
    int64_t only;        /* which of its items is visited; -1: all */
    int64_t step, visits;
    bool pictures;
};

/* ---- opening ---- */

static fct_status watch_block(scan *s, const fct_sae_set *saes, int64_t nth)
{
    watch *t = &s->watch[s->n_watches];
    bool any = false;
    *t = (watch){.s = s, .bound = &saes->bound[nth], .nth = nth};
    t->coder.code.sae = t->bound->sae;
    FCT_TRY(fct_new(&t->wanted, s->n_visitors, (int64_t)sizeof *t->wanted));
    for (int64_t v = 0; v < s->n_visitors; v++) {
        const fct_scan_visitor *one = &s->visitor[v];
        t->wanted[v] = one->codes && (!one->wants || one->wants(one->self, t->bound->short_name));
        any |= t->wanted[v];
    }
    if (any)
        s->n_watches++;
    else
        fct_free(t->wanted);
    return FCT_OK;
}

static fct_status open_scan(scan *s, const fct_sae_set *saes, const fct_scan_visitor *visitor,
                            int64_t n_visitors)
{
    bool codes = false;
    *s = (scan){.visitor = visitor, .n_visitors = n_visitors, .only = -1};
    for (int64_t v = 0; v < n_visitors; v++) {
        s->pictures |= visitor[v].picture != NULL;
        codes |= visitor[v].codes != NULL;
    }
    if (codes && (!saes || saes->n == 0))
        return fct_fail(FCT_ERR_ARG, "there are no SAEs to look with");
    if (!codes) return FCT_OK;
    FCT_TRY(fct_new(&s->watch, saes->n, (int64_t)sizeof *s->watch));
    for (int64_t i = 0; i < saes->n; i++) FCT_TRY(watch_block(s, saes, i));
    return FCT_OK;
}

static void close_scan(scan *s)
{
    for (int64_t i = 0; i < s->n_watches; i++) {
        fct_coder_clear(&s->watch[i].coder);
        fct_codes_clear(&s->watch[i].codes);
        fct_free(s->watch[i].wanted);
    }
    fct_free(s->watch);
    fct_free(s->item);
}

static fct_status begin(const scan *s, int64_t n_items)
{
    for (int64_t v = 0; v < s->n_visitors; v++)
        if (s->visitor[v].begin) FCT_TRY(s->visitor[v].begin(s->visitor[v].self, n_items));
    return FCT_OK;
}

static fct_status end(const scan *s)
{
    for (int64_t v = 0; v < s->n_visitors; v++)
        if (s->visitor[v].end) FCT_TRY(s->visitor[v].end(s->visitor[v].self));
    return FCT_OK;
}

/* ---- codes ---- */

float fct_scan_code(const fct_scan_codes *c, int64_t cell, int64_t feature)
{
    const float *value = c->value + cell * c->k;
    if (!c->index) return value[feature];
    const int32_t *index = c->index + cell * c->k;
    for (int64_t i = 0; i < c->k; i++)
        if (index[i] == feature) return value[i];
    return 0;
}

/* Tells visitors the codes of one grid, which begin at row `at` of those that were encoded; c says
   the rest already. */
static fct_status tell_codes(const watch *t, fct_scan_codes *c, int64_t at)
{
    int64_t k = t->codes.index ? t->codes.k : t->codes.f;
    c->block = t->bound->short_name;
    c->nth = t->nth;
    c->sae = t->bound->sae;
    c->k = k;
    c->index = t->codes.index ? t->codes.index + at * k : NULL;
    c->value = t->codes.value + at * k;
    for (int64_t v = 0; v < t->s->n_visitors; v++)
        if (t->wanted[v]) FCT_TRY(t->s->visitor[v].codes(t->s->visitor[v].self, c));
    return FCT_OK;
}

/* user: watch */
static fct_status read_block(void *user, const fct_tap_event *event, fct_tensor *value)
{
    watch *t = user;
    const scan *s = t->s;
    float *rows;
    int64_t n, cells = value->dim[1] * value->dim[2];
    FCT_TRY(fct_tap_rows(&rows, &n, event, value, s->only, FCT_HALF_COND));
    if (n == 0) return FCT_OK;
    fct_coder_on(&t->coder, fct_tap_backend(event));
    FCT_TRY(fct_where(fct_codes_encode(&t->codes, &t->coder, rows, n), "codes of %s",
                      t->bound->short_name));
    int64_t first = s->only >= 0 ? s->only : event->first_item;
    for (int64_t i = 0; i * cells < n; i++) {
        fct_scan_codes c = {.item = &s->item[first + i],
                            .step = event->step,
                            .visit = s->step ? 1 : event->step,
                            .visits = s->visits,
                            .h = value->dim[1],
                            .w = value->dim[2],
                            .rows = rows + i * cells * t->bound->sae->d};
        FCT_TRY(tell_codes(t, &c, i * cells));
    }
    return FCT_OK;
}

/* ---- runs ---- */

/* What made a picture. */
struct fct_scan_run {
    const fct_session *session;
    const fct_run_desc *desc;
    const fct_edit *edit;
    int64_t n_edits;
    const fct_sae_set *saes;
};

fct_status fct_scan_draw(fct_image *out, const fct_scan_picture *p)
{
    const struct fct_scan_run *r = p->run;
    return fct_draw_stamped(out, p->pixels, p->width, p->height,
                            &(fct_stamp){.session = r->session,
                                         .desc = r->desc,
                                         .index = p->item->place,
                                         .edit = r->edit,
                                         .n_edits = r->n_edits,
                                         .saes = r->saes});
}

static fct_status tell_pictures(const scan *s, const struct fct_scan_run *run,
                                const fct_run_result *result)
{
    int64_t first = s->only >= 0 ? s->only : 0, end_at = s->only >= 0 ? first + 1 : s->n_items;
    for (int64_t i = first; i < end_at; i++) {
        fct_scan_picture p = {.item = &s->item[i],
                              .pixels = result->pixels + i * result->width * result->height * 3,
                              .width = result->width,
                              .height = result->height,
                              .run = run};
        for (int64_t v = 0; v < s->n_visitors; v++)
            if (s->visitor[v].picture) FCT_TRY(s->visitor[v].picture(s->visitor[v].self, &p));
    }
    return FCT_OK;
}

static fct_status run_batch(const scan *s, fct_session *session, const fct_run_desc *desc,
                            fct_edit *edits, int64_t n_edits, const fct_sae_set *saes)
{
    fct_run_desc d = *desc;
    fct_run_result result = {0};
    fct_tap *taps = NULL;
    if (s->n_watches == 0 && !s->pictures) return FCT_OK;
    FCT_TRY(fct_new(&taps, s->n_watches, (int64_t)sizeof *taps));
    for (int64_t i = 0; i < s->n_watches; i++)
        taps[i] = (fct_tap){.module = s->watch[i].bound->name,
                            .what = FCT_TAP_DELTA,
                            .first_step = s->step,
                            .last_step = s->step,
                            .user = &s->watch[i],
                            .fn = read_block};
    d.taps = taps;
    d.n_taps = s->n_watches;
    d.no_decode = d.stop_after_taps = !s->pictures;
    d.stop_step = s->pictures ? 0 : s->step;
    fct_status st = fct_edit_run(session, &d, edits, n_edits, saes, &result);
    if (st == FCT_OK && s->pictures)
        st = tell_pictures(s, &(struct fct_scan_run){session, desc, edits, n_edits, saes}, &result);
    fct_run_result_clear(&result);
    fct_free(taps);
    return st;
}

static fct_status scan_prompts(scan *s, fct_session *session, const fct_sae_set *saes,
                               const fct_scan_desc *d)
{
    int64_t total = d->pick ? d->n_pick : d->n_prompts;
    int64_t batch = d->batch > 0 ? d->batch : USUAL_BATCH;
    fct_run_item *items = NULL;
    fct_status st = FCT_OK;
    if (batch > total) batch = total;
    FCT_TRY_OUT(fct_new(&s->item, batch, (int64_t)sizeof *s->item));
    FCT_TRY_OUT(fct_new(&items, batch, (int64_t)sizeof *items));
    FCT_TRY_OUT(begin(s, total));
    for (int64_t first = 0; first < total; first += batch) {
        s->n_items = total - first < batch ? total - first : batch;
        FCT_TRY_OUT(fct_log_check_stop(d->log));
        for (int64_t i = 0; i < s->n_items; i++) {
            int64_t number = d->pick ? d->pick[first + i] : first + i;
            items[i] = fct_prompt_item(d->prompts, number, d->settings);
            s->item[i] = (fct_scan_item){.number = number,
                                         .place = i,
                                         .prompt = items[i].prompt,
                                         .seed = fct_prompt_seed(d->prompts, number, d->settings)};
        }
        fct_run_desc run = {.items = items, .n_items = s->n_items, .settings = d->settings};
        FCT_TRY_OUT(run_batch(s, session, &run, d->edits, d->n_edits, saes));
        if (d->what) fct_log_progress(d->log, d->what, first + s->n_items, total);
    }
    st = end(s);
out:
    fct_free(items);
    return st;
}

static fct_status scan_recipe(scan *s, fct_session *session, const fct_sae_set *saes,
                              const fct_scan_desc *d, fct_recipe *recipe)
{
    fct_run_desc run;
    if (recipe->index < 0 || recipe->index >= recipe->n_items)
        return fct_fail(FCT_ERR_ARG, "picture %" PRId64 " is not in the recipe's batch of %" PRId64,
                        recipe->index, recipe->n_items);
    fct_recipe_desc(recipe, &run);
    FCT_TRY(fct_new(&s->item, recipe->n_items, (int64_t)sizeof *s->item));
    s->n_items = recipe->n_items;
    s->only = recipe->index;
    for (int64_t i = 0; i < s->n_items; i++)
        s->item[i] = (fct_scan_item){.place = i,
                                     .prompt = recipe->item[i].prompt,
                                     .seed = recipe->settings.seed + recipe->item[i].seed};
    FCT_TRY(begin(s, 1));
    FCT_TRY(fct_log_check_stop(d->log));
    FCT_TRY(run_batch(s, session, &run, recipe->edit, recipe->n_edits, saes));
    if (d->what) fct_log_progress(d->log, d->what, 1, 1);
    return end(s);
}

/* How many steps are visited. */
static fct_status count_visits(scan *s, const fct_scan_desc *d, const fct_model_info *info)
{
    int64_t steps = d->recipe ? d->recipe->settings.steps : d->settings ? d->settings->steps : 0;
    int64_t last = fct_model_count_steps(info, steps);
    if (d->step > last || d->step < 0)
        return fct_fail(FCT_ERR_ARG, "step %" PRId64 " is not there: %s %" PRId64, d->step,
                        d->recipe ? "the recipe has" : "the runs have", last);
    s->step = d->step;
    s->visits = d->step ? 1 : last;
    return FCT_OK;
}

fct_status fct_scan_run(fct_session *session, const fct_sae_set *saes, const fct_scan_desc *desc,
                        const fct_scan_visitor *visitor, int64_t n_visitors)
{
    const fct_model_info *info = fct_model_get_info(fct_session_model(session));
    fct_recipe copy = {0};
    fct_status st = FCT_OK;
    scan s = {0};
    FCT_TRY_OUT(open_scan(&s, saes, visitor, n_visitors));
    FCT_TRY_OUT(count_visits(&s, desc, info));
    if (desc->recipe) {
        FCT_TRY_OUT(fct_recipe_copy(&copy, desc->recipe)); /* a run may read files into its edits */
        FCT_TRY_OUT(scan_recipe(&s, session, saes, desc, &copy));
    } else {
        FCT_TRY_OUT(scan_prompts(&s, session, saes, desc));
    }
out:
    close_scan(&s);
    fct_recipe_clear(&copy);
    return st;
}

/* ---- stores ---- */

/* One batch's rows of one block. */
typedef struct stored {
    const fct_store_block *block;
    float *rows;
    fct_row_meta *meta;
} stored;

static void clear_stored(stored *r)
{
    fct_free(r->rows);
    fct_free(r->meta);
    *r = (stored){0};
}

static fct_status open_stored(stored *r, const fct_store_block *block, int64_t prompts)
{
    int64_t rows, numbers;
    r->block = block;
    FCT_TRY(fct_mul_i64(&rows, prompts, block->rows_per_prompt));
    FCT_TRY(fct_mul_i64(&numbers, rows, block->d));
    FCT_TRY(fct_new_raw(&r->rows, numbers, (int64_t)sizeof *r->rows));
    return fct_new_raw(&r->meta, rows, (int64_t)sizeof *r->meta);
}

/* Rows follow one another by prompt, step, half and cell. */
static fct_status tell_stored(const watch *t, const stored *r, int64_t n)
{
    const fct_store_block *b = r->block;
    int64_t cells = b->grid_h * b->grid_w, visits = 0, visit = 0;
    for (int64_t at = 0; at < b->rows_per_prompt; at += cells) visits += r->meta[at].branch != 0;
    for (int64_t at = 0; at < n; at += cells) {
        if (at % b->rows_per_prompt == 0) visit = 0;
        if (r->meta[at].branch == 0) continue;
        fct_scan_codes c = {.item = &t->s->item[at / b->rows_per_prompt],
                            .step = r->meta[at].step,
                            .visit = ++visit,
                            .visits = visits,
                            .h = b->grid_h,
                            .w = b->grid_w,
                            .rows = r->rows + at * b->d};
        FCT_TRY(tell_codes(t, &c, at));
    }
    return FCT_OK;
}

static fct_status scan_block(watch *t, const fct_store *store, int64_t block, stored *r,
                             int64_t first)
{
    int64_t each = r->block->rows_per_prompt, n = t->s->n_items * each;
    FCT_TRY(fct_store_read(store, block, first * each, n, r->rows, r->meta));
    FCT_TRY(fct_where(fct_codes_encode(&t->codes, &t->coder, r->rows, n), "codes of %s",
                      t->bound->short_name));
    return tell_stored(t, r, n);
}

static fct_status scan_part(scan *s, const fct_store *store, int64_t first)
{
    const fct_store_info *info = fct_store_get_info(store);
    for (int64_t i = 0; i < s->n_items; i++)
        s->item[i] = (fct_scan_item){.number = first + i,
                                     .place = i,
                                     .prompt = info->prompt[first + i].text,
                                     .seed = info->prompt[first + i].seed};
    for (int64_t i = 0; i < s->n_watches; i++) {
        watch *t = &s->watch[i];
        stored r = {0};
        int64_t block;
        FCT_TRY(fct_store_find_block(&block, store, t->bound->short_name));
        fct_status st = open_stored(&r, &info->block[block], s->n_items);
        if (st == FCT_OK) st = scan_block(t, store, block, &r, first);
        clear_stored(&r);
        FCT_TRY(st);
    }
    return FCT_OK;
}

/* Every wanted block is there, as wide as its SAE reads, with a grid. */
static fct_status check_store(const scan *s, const fct_store *store,
                              const fct_scan_store_desc *desc)
{
    const fct_store_info *info = fct_store_get_info(store);
    if (desc->first < 0 || desc->n < 0 || desc->first > info->n_prompts - desc->n)
        return fct_fail(FCT_ERR_ARG,
                        "%s: prompts %" PRId64 " to %" PRId64 " are not there: it has %" PRId64,
                        info->path, desc->first, desc->first + desc->n - 1, info->n_prompts);
    for (int64_t i = 0; i < s->n_watches; i++) {
        const fct_sae_bound *b = s->watch[i].bound;
        int64_t at;
        FCT_TRY(fct_store_find_block(&at, store, b->short_name));
        if (info->block[at].rows_per_prompt == 0)
            return fct_fail(FCT_ERR_ARG, "%s: rows of %s belong to no prompt", info->path,
                            b->short_name);
        if (info->block[at].d != b->sae->d)
            return fct_fail(FCT_ERR_SHAPE,
                            "%s: rows of %s have %" PRId64 " values, its SAE reads %" PRId64,
                            info->path, b->short_name, info->block[at].d, b->sae->d);
    }
    return FCT_OK;
}

fct_status fct_scan_store(const fct_store *store, const fct_sae_set *saes,
                          const fct_scan_store_desc *desc, const fct_scan_visitor *visitor,
                          int64_t n_visitors)
{
    int64_t batch = desc->batch > 0 ? desc->batch : USUAL_STORE_BATCH;
    fct_status st = FCT_OK;
    scan s = {0};
    FCT_TRY_OUT(open_scan(&s, saes, visitor, n_visitors));
    FCT_TRY_OUT(check_store(&s, store, desc));
    int64_t total = desc->n > 0 ? desc->n : fct_store_get_info(store)->n_prompts - desc->first;
    if (batch > total) batch = total;
    FCT_TRY_OUT(fct_new(&s.item, batch, (int64_t)sizeof *s.item));
    FCT_TRY_OUT(begin(&s, total));
    for (int64_t done = 0; done < total; done += s.n_items) {
        s.n_items = total - done < batch ? total - done : batch;
        FCT_TRY_OUT(fct_log_check_stop(desc->log));
        FCT_TRY_OUT(scan_part(&s, store, desc->first + done));
        if (desc->what) fct_log_progress(desc->log, desc->what, done + s.n_items, total);
    }
    st = end(&s);
out:
    close_scan(&s);
    return st;
}

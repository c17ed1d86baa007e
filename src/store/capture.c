/* capture.c - runs a model over prompts and writes what its blocks do, shard by shard.

   A shard holds the same whole batches in every block. When all blocks have written one,
   progress.json says so; so after a kill the capture goes on at the start of the shard it was in,
   writes the same bytes again, and ends as it would have. store.json comes last: a folder without
   it is unfinished. */
#include <string.h>

#include "store/store.h"

typedef struct capture {
    const fct_capture_desc *desc;
    fct_capture_plan plan;
    fct_shard *shard;    /* [n_blocks] */
    char id[65];         /* hash of store.json's text */
    int64_t shard_first; /* number of the shard's first prompt */
    int64_t batch_first; /* of the running batch */
    int64_t done;        /* prompts in finished shards */
} capture;

typedef struct listener {
    capture *c;
    int64_t block;
} listener;

/* ---- rows ---- */

static int64_t find_step(const fct_capture_plan *p, int64_t step)
{
    for (int64_t i = 0; i < p->n_at; i++)
        if (p->at_steps[i] == step) return i;
    return -1;
}

/* One map of one prompt at its place: order prompt, step, branch, y, x. */
static fct_status put_map(capture *c, int64_t block, const float *map, int64_t prompt, int64_t at,
                          int64_t branch)
{
    const struct fct_capture_grid *g = &c->plan.grid[block];
    fct_shard *s = &c->shard[block];
    bool uncond =
        c->plan.branch == FCT_BRANCH_UNCOND || (c->plan.branch == FCT_BRANCH_BOTH && branch == 0);
    int64_t first = ((prompt - c->shard_first) * c->plan.n_at + at) * c->plan.n_branches + branch;
    first *= g->h * g->w;
    FCT_TRY(fct_shard_put(s, first, map, g->h * g->w));
    for (int64_t i = 0; i < g->h * g->w; i++) {
        s->prompt[first + i] = (int32_t)prompt;
        s->step[first + i] = (int16_t)c->plan.at_steps[at];
        s->branch[first + i] = !uncond;
        s->yx[2 * (first + i)] = (int16_t)(i / g->w);
        s->yx[2 * (first + i) + 1] = (int16_t)(i % g->w);
    }
    return FCT_OK;
}

static fct_status listen_block(void *user, const fct_tap_event *event, fct_tensor *value)
{
    listener *l = user;
    capture *c = l->c;
    const fct_capture_plan *p = &c->plan;
    const struct fct_capture_grid *g = &p->grid[l->block];
    int64_t at = find_step(p, event->step), size = g->h * g->w * g->d,
            batch = event->items * (event->guided ? 2 : 1);
    if (at < 0) return FCT_OK;
    if (value->ndim != 4 || value->dim[0] != batch || value->dim[1] != g->h ||
        value->dim[2] != g->w || value->dim[3] != g->d || value->dtype != FCT_F32)
        return fct_fail(FCT_ERR_INTERNAL,
                        "%s: the tap has another shape than [%lld,%lld,%lld,%lld]", event->name,
                        (long long)batch, (long long)g->h, (long long)g->w, (long long)g->d);
    const float *data = value->data;
    for (int64_t i = 0; i < event->items; i++)
        for (int64_t b = 0; b < p->n_branches; b++) {
            int64_t prompt = c->batch_first + event->first_item + i;
            bool cond = p->branch == FCT_BRANCH_COND || b == 1;
            const float *map = data + (event->guided && cond ? event->items + i : i) * size;
            fct_status st = put_map(c, l->block, map, prompt, at, b);
            if (st != FCT_OK)
                return fct_where(st, "block %s, prompt %lld (\"%.60s\"), step %lld",
                                 p->block[l->block]->short_name, (long long)prompt,
                                 c->desc->prompts[prompt].text ? c->desc->prompts[prompt].text : "",
                                 (long long)event->step);
        }
    return FCT_OK;
}

static fct_status run_batch(capture *c, int64_t first, int64_t n)
{
    const fct_capture_plan *p = &c->plan;
    fct_status st = FCT_OK;
    fct_run_item *item = NULL;
    fct_tap *tap = NULL;
    listener *ear = NULL;
    fct_run_result r = {0};
    c->batch_first = first;
    FCT_TRY_OUT(fct_new(&item, n, sizeof *item));
    FCT_TRY_OUT(fct_new(&tap, p->n_blocks, sizeof *tap));
    FCT_TRY_OUT(fct_new(&ear, p->n_blocks, sizeof *ear));
    for (int64_t i = 0; i < n; i++)
        item[i] = (fct_run_item){.prompt = c->desc->prompts[first + i].text,
                                 .seed = fct_capture_seed(c->desc, first + i)};
    for (int64_t b = 0; b < p->n_blocks; b++) {
        ear[b] = (listener){c, b};
        tap[b] = (fct_tap){
            .module = p->block[b]->name, .what = p->what, .user = &ear[b], .fn = listen_block};
    }
    FCT_TRY_OUT(fct_model_run(c->desc->model,
                              &(fct_run_desc){.items = item,
                                              .n_items = n,
                                              .width = p->width,
                                              .height = p->height,
                                              .steps = p->steps,
                                              .guidance = p->guidance,
                                              .has_guidance = true,
                                              .negative = c->desc->negative,
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
    fct_free(ear);
    return st;
}

/* ---- progress ---- */

static fct_status save_progress(const capture *c)
{
    char *path = NULL;
    json_t *j = json_pack("{s:s, s:s, s:I}", "format", FCT_STORE_FORMAT, "capture", c->id,
                          "prompts_done", (json_int_t)c->done);
    fct_status st = j ? fct_store_path(&path, c->desc->out, NULL, "progress.json")
                      : fct_fail(FCT_ERR_MEMORY, "out of memory: progress.json");
    if (st == FCT_OK) st = fct_json_write(j, path);
    json_decref(j);
    fct_free(path);
    return st;
}

static fct_status remove_progress(const capture *c)
{
    char *path = NULL;
    FCT_TRY(fct_store_path(&path, c->desc->out, NULL, "progress.json"));
    fct_status st = fct_file_remove(path);
    fct_free(path);
    return st;
}

static fct_status read_progress(capture *c)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *j = NULL;
    const char *id;
    FCT_TRY_OUT(fct_store_path(&path, c->desc->out, NULL, "progress.json"));
    FCT_TRY_OUT(fct_json_read(&j, path));
    FCT_TRY_OUT(fct_json_str(&id, j, "capture", "", path));
    FCT_TRY_OUT(fct_json_i64(&c->done, j, "prompts_done", 0, path));
    if (strcmp(id, c->id) != 0)
        st = fct_fail(FCT_ERR_ARG,
                      "%s holds an unfinished store made with other options, prompts, model or "
                      "thread number: continue it with the same, or choose another folder",
                      c->desc->out);
    else if (c->done < 0 || c->done > c->desc->n_prompts ||
             (c->done % c->plan.shard_prompts != 0 && c->done != c->desc->n_prompts))
        st = fct_fail(FCT_ERR_FORMAT, "%s: prompts_done %lld is not the end of a shard", path,
                      (long long)c->done);
out:
    json_decref(j);
    fct_free(path);
    return st;
}

/* The first member of the options in which two descriptions differ, for the error. */
static const char *first_difference(const json_t *a, const json_t *b)
{
    static const char *const part[] = {"model", "options"};
    static const char *const whole[] = {"dtype", "prompts",
                                        "blocks"}; /* blocks count prompts' rows */
    for (size_t i = 0; i < FCT_COUNT(part); i++) {
        json_t *x = json_object_get(a, part[i]), *y = json_object_get(b, part[i]), *value;
        const char *key;
        if (!json_is_object(x) || !json_is_object(y)) return part[i];
        json_object_foreach(x, key,
                            value) if (!json_equal(value, json_object_get(y, key))) return key;
    }
    for (size_t i = 0; i < FCT_COUNT(whole); i++)
        if (!json_equal(json_object_get(a, whole[i]), json_object_get(b, whole[i])))
            return whole[i];
    return "facet_version";
}

/* A finished store in the folder: this one, or an error that names what differs. */
static fct_status compare_store(const capture *c)
{
    fct_status st = FCT_OK;
    char *path = NULL, *text = NULL;
    int64_t n = 0;
    json_t *theirs = NULL, *ours = NULL;
    FCT_TRY_OUT(fct_store_path(&path, c->desc->out, NULL, "store.json"));
    FCT_TRY_OUT(fct_file_read(&text, &n, path));
    if (n == c->plan.json.n && memcmp(text, c->plan.json.p, (size_t)n) == 0) goto out;
    FCT_TRY_OUT(fct_json_parse(&theirs, text, n, path));
    FCT_TRY_OUT(fct_json_parse(&ours, c->plan.json.p, c->plan.json.n, path));
    st = fct_fail(FCT_ERR_ARG,
                  "%s holds a store that was made otherwise (%s differs): choose another folder, "
                  "or remove it",
                  c->desc->out, first_difference(ours, theirs));
out:
    json_decref(theirs);
    json_decref(ours);
    fct_free(path);
    fct_free(text);
    return st;
}

/* ---- the whole ---- */

static fct_status open_folder(capture *c, bool *out_complete)
{
    fct_store_kind kind;
    const fct_capture_plan *p = &c->plan;
    *out_complete = false;
    FCT_TRY(fct_store_dir_kind(&kind, c->desc->out));
    if (kind == FCT_DIR_OTHER)
        return fct_fail(FCT_ERR_ARG, "%s is not empty and not a store: choose another folder",
                        c->desc->out);
    if (kind == FCT_DIR_STORE) {
        *out_complete = true;
        FCT_TRY(compare_store(c));
        return remove_progress(c); /* a kill after store.json was written leaves it */
    }
    if (kind == FCT_DIR_UNFINISHED) FCT_TRY(read_progress(c));
    FCT_TRY(fct_dir_make(c->desc->out));
    FCT_TRY(fct_store_clean(c->desc->out));
    FCT_TRY(
        fct_store_check_space(c->desc->out, (c->desc->n_prompts - c->done) * p->bytes_per_prompt));
    FCT_TRY(save_progress(c)); /* first of all: it tells a later call whose folder this is */
    for (int64_t b = 0; b < p->n_blocks; b++) {
        char *path = NULL;
        fct_status st = fct_store_path(&path, c->desc->out, p->block[b]->short_name, NULL);
        if (st == FCT_OK) st = fct_dir_make(path);
        if (st == FCT_OK) st = fct_store_clean(path);
        fct_free(path);
        if (st != FCT_OK) return st;
    }
    return FCT_OK;
}

static fct_status write_shard(capture *c, int64_t number, int64_t prompts)
{
    const fct_capture_plan *p = &c->plan;
    fct_status st = FCT_OK;
    char *name = NULL, *path = NULL;
    FCT_TRY(fct_store_shard_name(&name, number, p->n_shards));
    for (int64_t b = 0; b < p->n_blocks; b++) {
        c->shard[b].n = prompts * p->grid[b].rows_per_prompt;
        FCT_TRY_OUT(fct_store_path(&path, c->desc->out, p->block[b]->short_name, name));
        FCT_TRY_OUT(fct_shard_write(&c->shard[b], path));
        fct_free(path);
        path = NULL;
    }
out:
    fct_free(name);
    fct_free(path);
    return st;
}

static fct_status run_shard(capture *c, int64_t number)
{
    const fct_capture_plan *p = &c->plan;
    int64_t total = c->desc->n_prompts, first = number * p->shard_prompts;
    int64_t end = first + p->shard_prompts < total ? first + p->shard_prompts : total;
    c->shard_first = first;
    for (int64_t at = first; at < end; at += p->batch) {
        FCT_TRY(fct_log_check_stop(c->desc->log));
        FCT_TRY(run_batch(c, at, end - at < p->batch ? end - at : p->batch));
        fct_log_progress(c->desc->log, "capture", end - at < p->batch ? end : at + p->batch, total);
    }
    FCT_TRY(write_shard(c, number, end - first));
    c->done = end;
    return save_progress(c);
}

static fct_status finish(const capture *c)
{
    char *store = NULL;
    fct_status st = fct_store_path(&store, c->desc->out, NULL, "store.json");
    if (st == FCT_OK) st = fct_file_write(store, c->plan.json.p, c->plan.json.n);
    if (st == FCT_OK) st = remove_progress(c);
    fct_free(store);
    return st;
}

static void say_size(const capture *c)
{
    const fct_capture_plan *p = &c->plan;
    char size[32];
    fct_bytes_text(size, sizeof size, p->bytes_per_prompt * c->desc->n_prompts);
    fct_log_line(c->desc->log, FCT_LOG_INFO,
                 "capture: %lld prompts, %lld blocks, %lld rows, %s in %s",
                 (long long)c->desc->n_prompts, (long long)p->n_blocks, (long long)p->total_rows,
                 size, fct_dtype_name(p->dtype));
    if (c->done > 0)
        fct_log_line(c->desc->log, FCT_LOG_INFO, "continuing at prompt %lld of %lld",
                     (long long)c->done, (long long)c->desc->n_prompts);
}

fct_status fct_capture(const fct_capture_desc *desc, fct_capture_report *report)
{
    fct_status st = FCT_OK;
    capture c = {.desc = desc};
    double started = fct_seconds();
    bool complete = false;
    FCT_TRY_OUT(fct_capture_plan_init(&c.plan, desc));
    fct_sha256 hash;
    fct_sha256_init(&hash);
    fct_sha256_add(&hash, c.plan.json.p, c.plan.json.n);
    fct_sha256_hex(&hash, c.id);
    FCT_TRY_OUT(open_folder(&c, &complete));
    int64_t resumed_at = complete ? desc->n_prompts : c.done;
    if (!complete) {
        say_size(&c);
        FCT_TRY_OUT(fct_new(&c.shard, c.plan.n_blocks, sizeof *c.shard));
        int64_t cap =
            c.plan.shard_prompts < desc->n_prompts ? c.plan.shard_prompts : desc->n_prompts;
        for (int64_t b = 0; b < c.plan.n_blocks; b++)
            FCT_TRY_OUT(fct_shard_init(&c.shard[b], c.plan.dtype, c.plan.grid[b].d,
                                       cap * c.plan.grid[b].rows_per_prompt, true));
        for (int64_t i = c.done / c.plan.shard_prompts; c.done < desc->n_prompts; i++)
            FCT_TRY_OUT(run_shard(&c, i));
        FCT_TRY_OUT(finish(&c));
    } else {
        fct_log_line(desc->log, FCT_LOG_INFO, "%s is complete already", desc->out);
    }
    if (report)
        *report = (fct_capture_report){.prompts = desc->n_prompts,
                                       .rows = c.plan.total_rows,
                                       .bytes = c.plan.bytes_per_prompt * desc->n_prompts,
                                       .resumed_at = resumed_at,
                                       .was_complete = complete,
                                       .seconds = fct_seconds() - started};
out:
    for (int64_t b = 0; c.shard && b < c.plan.n_blocks; b++) fct_shard_clear(&c.shard[b]);
    fct_free(c.shard);
    fct_capture_plan_clear(&c.plan);
    return fct_where(st, "capture");
}

/* capture.c - captures activations: runs a model over prompts and writes the rows of its blocks,
   shard by shard.

   A shard holds the same whole batches in every block. When all blocks have written one,
   progress.json says so; so after a kill the capture goes on at the start of the shard it was in,
   writes the same bytes again, and ends as it would have. store.json comes last: a folder without
   it is unfinished.

   Several ranks go through the shards in rounds, one each. A round that is not whole is done again
   by whoever continues, so their number may change; the figures of a round's shards are added in
   the order of the shards, so store.json is the same too. */
#include <string.h>

#include "dist/dist.h"
#include "store/store.h"

typedef struct capture {
    const fct_capture_desc *desc;
    fct_capture_plan plan;
    fct_shard *shard; /* [n_blocks] */
    char id[65];      /* hash of the plan's text */
    int64_t done;     /* prompts in finished shards */
    double *sums;     /* [n_blocks,2]: squares and errors of the rows in finished shards */
} capture;

/* ---- progress ---- */

static fct_status save_progress(const capture *c)
{
    char *path = NULL;
    json_t *sums = json_array();
    bool whole = true;
    for (int64_t b = 0; b < 2 * c->plan.n_blocks; b++)
        whole &= json_array_append_new(sums, json_real(c->sums[b])) == 0;
    json_t *j = json_pack("{s:s, s:s, s:I, s:o}", "format", FCT_STORE_FORMAT, "capture", c->id,
                          "prompts_done", (json_int_t)c->done, "rounding", sums);
    fct_status st = j && whole ? fct_store_path(&path, c->desc->out, NULL, "progress.json")
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
    const json_t *sums = json_object_get(j, "rounding");
    for (int64_t b = 0; b < 2 * c->plan.n_blocks; b++)
        c->sums[b] = json_number_value(json_array_get(sums, (size_t)b));
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

/* What only the end of a capture knows of its blocks. */
static void forget_results(json_t *store)
{
    size_t i;
    json_t *block;
    json_array_foreach(json_object_get(store, "blocks"), i, block)
        json_object_del(block, "rounding_error");
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
    FCT_TRY_OUT(fct_json_parse(&theirs, text, n, path));
    FCT_TRY_OUT(fct_json_parse(&ours, c->plan.json.p, c->plan.json.n, path));
    forget_results(theirs);
    if (json_equal(theirs, ours)) goto out;
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
    fct_capture_run r = {c->desc, p, c->shard, first, 0};
    for (int64_t at = first; at < end; at += p->batch) {
        FCT_TRY(fct_log_check_stop(c->desc->log));
        FCT_TRY(fct_capture_batch(&r, at, end - at < p->batch ? end - at : p->batch));
        int64_t done = c->done + (at + p->batch - first) * fct_dist_size(c->desc->ranks);
        fct_log_progress(c->desc->log, "capture", done < total ? done : total, total);
    }
    return write_shard(c, number, end - first);
}

/* The figures of the shards from `first` on that the ranks wrote. */
static fct_status add_sums(capture *c, int64_t first)
{
    int64_t n = 2 * c->plan.n_blocks, size = fct_dist_size(c->desc->ranks);
    double *mine = NULL, *all = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_new(&mine, n, sizeof *mine));
    FCT_TRY_OUT(fct_new(&all, n * size, sizeof *all));
    for (int64_t b = 0; b < c->plan.n_blocks; b++) {
        mine[2 * b] = c->shard[b].squares;
        mine[2 * b + 1] = c->shard[b].error;
        c->shard[b].squares = c->shard[b].error = 0;
    }
    FCT_TRY_OUT(fct_dist_gather(c->desc->ranks, mine, n * (int64_t)sizeof *mine, all));
    for (int64_t r = 0; r < size && first + r < c->plan.n_shards; r++)
        for (int64_t i = 0; i < n; i++) c->sums[i] += all[r * n + i];
out:
    fct_free(mine);
    fct_free(all);
    return st;
}

/* A shard a rank, from number `first` on. */
static fct_status run_round(capture *c, int64_t first)
{
    fct_dist *ranks = c->desc->ranks;
    int64_t mine = first + fct_dist_rank(ranks), next = first + fct_dist_size(ranks),
            total = c->desc->n_prompts;
    FCT_TRY(fct_dist_agree(ranks, mine < c->plan.n_shards ? run_shard(c, mine) : FCT_OK));
    FCT_TRY(add_sums(c, first));
    c->done = next < c->plan.n_shards ? next * c->plan.shard_prompts : total;
    return fct_dist_agree(ranks, fct_dist_first(ranks) ? save_progress(c) : FCT_OK);
}

static fct_status finish(const capture *c)
{
    char *path = NULL;
    json_t *j = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_store_path(&path, c->desc->out, NULL, "store.json"));
    FCT_TRY_OUT(fct_json_parse(&j, c->plan.json.p, c->plan.json.n, path));
    for (int64_t b = 0; b < c->plan.n_blocks; b++)
        if (json_object_set_new(
                json_array_get(json_object_get(j, "blocks"), (size_t)b), "rounding_error",
                json_real(fct_rounding_error(c->sums[2 * b], c->sums[2 * b + 1]))) != 0) {
            st = fct_fail(FCT_ERR_MEMORY, "out of memory: store.json");
            goto out;
        }
    FCT_TRY_OUT(fct_json_write(j, path));
    FCT_TRY_OUT(remove_progress(c));
out:
    json_decref(j);
    fct_free(path);
    return st;
}

/* What the first rank finds in the folder, for all. */
static fct_status open_shared(capture *c, bool *out_complete)
{
    fct_dist *ranks = c->desc->ranks;
    FCT_TRY(fct_dist_agree(ranks, fct_dist_first(ranks) ? open_folder(c, out_complete) : FCT_OK));
    FCT_TRY(fct_dist_broadcast(ranks, out_complete, sizeof *out_complete));
    return fct_dist_broadcast(ranks, &c->done, sizeof c->done);
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
    if (!fct_dist_alone(c->desc->ranks))
        fct_log_line(c->desc->log, FCT_LOG_INFO,
                     "%lld ranks of %d threads write a shard of %lld prompts each at a time",
                     (long long)c->desc->ranks->size, fct_threads(), (long long)p->shard_prompts);
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
    FCT_TRY_OUT(fct_new(&c.sums, 2 * c.plan.n_blocks, sizeof *c.sums));
    fct_sha256 hash;
    fct_sha256_init(&hash);
    fct_sha256_add(&hash, c.plan.json.p, c.plan.json.n);
    fct_sha256_hex(&hash, c.id);
    FCT_TRY_OUT(open_shared(&c, &complete));
    int64_t resumed_at = complete ? desc->n_prompts : c.done;
    if (!complete) {
        say_size(&c);
        FCT_TRY_OUT(fct_new(&c.shard, c.plan.n_blocks, sizeof *c.shard));
        int64_t cap =
            c.plan.shard_prompts < desc->n_prompts ? c.plan.shard_prompts : desc->n_prompts;
        for (int64_t b = 0; b < c.plan.n_blocks; b++)
            FCT_TRY_OUT(fct_shard_init(&c.shard[b], c.plan.dtype, c.plan.grid[b].d,
                                       cap * c.plan.grid[b].rows_per_prompt, true));
        while (c.done < desc->n_prompts) FCT_TRY_OUT(run_round(&c, c.done / c.plan.shard_prompts));
        FCT_TRY_OUT(fct_dist_agree(desc->ranks, fct_dist_first(desc->ranks) ? finish(&c) : FCT_OK));
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
    fct_free(c.sums);
    fct_capture_plan_clear(&c.plan);
    return fct_where(st, "capture");
}

/* model_rows.c - gives a model's rows while it runs, with no store between: a run of the stream is
   one of a capture's batches of prompts, put into memory as capture would put it on disk. Batches
   are a function of the prompts' numbers, so the rows are the store's, whatever order they are made
   in. */
#include <string.h>

#include "store/stream.h"

typedef struct maker {
    fct_capture_desc desc;
    fct_capture_plan plan;
    fct_row_part *part;
    fct_grid *grid;                  /* [n_blocks] */
    int64_t per_prompt;              /* rows, on the finest grid */
    int64_t first_prompt, n_prompts; /* of those that are run */
    /* Of this source alone: it is used by the thread that makes the rows. What it has to say waits
       in the relay for the thread that reads them. */
    fct_session *session;
    fct_relay *relay;
} maker;

static void maker_close(void *self)
{
    maker *m = self;
    if (!m) return;
    fct_capture_plan_clear(&m->plan);
    fct_session_close(m->session);
    fct_relay_close(m->relay);
    fct_free(m->part);
    fct_free(m->grid);
    fct_free(m);
}

static fct_status maker_load(void *self, int64_t run, fct_shard *shard, int64_t at)
{
    maker *m = self;
    int64_t from = run * m->plan.batch, left = m->n_prompts - from, first = m->first_prompt + from;
    FCT_TRY(fct_log_check_stop(fct_relay_log(m->relay)));
    fct_capture_run r = {.desc = &m->desc,
                         .plan = &m->plan,
                         .shard = shard,
                         .shard_first = first - at / m->per_prompt};
    return fct_capture_batch(&r, first, left < m->plan.batch ? left : m->plan.batch);
}

static void maker_tell(void *self)
{
    fct_relay_tell(((maker *)self)->relay);
}

/* A session with the threads of the caller's: rows are those that a capture would store. */
static fct_status open_session(maker *m)
{
    const fct_model *model = fct_session_model(m->desc.session);
    FCT_TRY(fct_relay_open(&m->relay, m->desc.log));
    FCT_TRY(fct_session_open(&m->session, model,
                             &(fct_session_desc){.threads = fct_session_threads(m->desc.session),
                                                 .keep_bytes = FCT_NONE,
                                                 .log = fct_relay_log(m->relay)}));
    m->desc.session = m->session;
    return FCT_OK;
}

/* What a store of these rows would be known by, less the number of threads: others give rows that
   are equal up to rounding, which a checkpoint warns of itself. */
static fct_status maker_describe(void *self, json_t **out)
{
    const maker *m = self;
    fct_status st = FCT_OK;
    json_t *plan = NULL;
    fct_str text = {0}, names = {0};
    fct_sha256 hash;
    char hex[65];
    *out = NULL;
    FCT_TRY_OUT(fct_json_parse(&plan, m->plan.json.p, m->plan.json.n, "the capture"));
    (void)json_object_del(json_object_get(plan, "model"), "threads");
    FCT_TRY_OUT(fct_json_text(&text, plan, 0));
    for (int64_t b = 0; b < m->plan.n_blocks; b++)
        FCT_TRY_OUT(fct_str_printf(&names, "%s%s", b > 0 ? "," : "", m->part[b].name));
    fct_sha256_init(&hash);
    fct_sha256_add(&hash, text.p, text.n);
    fct_sha256_hex(&hash, hex);
    *out = json_pack("{s:s, s:s, s:I, s:I}", "capture", hex, "block", names.p, "first_prompt",
                     (json_int_t)m->first_prompt, "prompts", (json_int_t)m->n_prompts);
    if (!*out) st = fct_fail(FCT_ERR_MEMORY, "out of memory: the description of the rows");
out:
    json_decref(plan);
    fct_str_clear(&text);
    fct_str_clear(&names);
    return st;
}

/* The part of the prompts that rows->first and n mean. */
static fct_status set_part(maker *m, const fct_rows_desc *rows)
{
    int64_t batch = m->plan.batch * m->per_prompt, total = m->desc.n_prompts * m->per_prompt;
    if (rows->first < 0 || rows->n < 0 || rows->first > total || rows->n > total - rows->first)
        return fct_fail(FCT_ERR_RANGE, "rows %lld to %lld: there are %lld", (long long)rows->first,
                        (long long)(rows->first + rows->n), (long long)total);
    int64_t end = rows->n > 0 ? rows->first + rows->n : total;
    m->first_prompt = rows->first / batch * m->plan.batch;
    m->n_prompts =
        (end < total ? end / batch * m->plan.batch : m->desc.n_prompts) - m->first_prompt;
    return m->n_prompts > 0
               ? FCT_OK
               : fct_fail(FCT_ERR_ARG,
                          "rows %lld to %lld hold no whole batch of %lld prompts (%lld rows)",
                          (long long)rows->first, (long long)end, (long long)m->plan.batch,
                          (long long)batch);
}

static fct_status set_blocks(maker *m)
{
    const fct_capture_plan *p = &m->plan;
    if (p->n_blocks > FCT_STREAM_PARTS)
        return fct_fail(FCT_ERR_ARG, "%lld blocks: want at most %d", (long long)p->n_blocks,
                        FCT_STREAM_PARTS);
    FCT_TRY(fct_new(&m->part, p->n_blocks, sizeof *m->part));
    FCT_TRY(fct_new(&m->grid, p->n_blocks, sizeof *m->grid));
    for (int64_t b = 0; b < p->n_blocks; b++) {
        m->part[b] = (fct_row_part){p->block[b]->short_name, p->grid[b].d};
        m->grid[b] = (fct_grid){p->grid[b].h, p->grid[b].w};
        if (p->grid[b].rows_per_prompt > m->per_prompt) m->per_prompt = p->grid[b].rows_per_prompt;
    }
    return FCT_OK;
}

fct_status fct_model_rows(fct_row_source *out, const fct_capture_desc *desc,
                          const fct_rows_desc *rows)
{
    maker *m = NULL;
    fct_status st = FCT_OK;
    *out = (fct_row_source){0};
    FCT_TRY_OUT(fct_new(&m, 1, sizeof *m));
    m->desc = *desc;
    m->desc.out = "";
    FCT_TRY_OUT(fct_capture_plan_init(&m->plan, &m->desc));
    FCT_TRY_OUT(set_blocks(m));
    FCT_TRY_OUT(set_part(m, rows));
    FCT_TRY_OUT(open_session(m));
    fct_run_loader loader = {.self = m,
                             .part = m->part,
                             .n_parts = m->plan.n_blocks,
                             .grid = m->grid,
                             .dtype = m->plan.dtype,
                             .n_rows = m->n_prompts * m->per_prompt,
                             .run_rows = m->plan.batch * m->per_prompt,
                             .load = maker_load,
                             .describe = maker_describe,
                             .tell = maker_tell,
                             .close = maker_close,
                             .log = m->desc.log};
    m = NULL; /* the stream's */
    FCT_TRY_OUT(fct_stream_open(out, &loader, rows));
out:
    maker_close(m);
    return fct_where(st, "rows from the model");
}

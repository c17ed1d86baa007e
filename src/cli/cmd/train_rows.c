/* train_rows.c - opens the rows that `facet train` trains on: a store's blocks, or a model's
   while it runs prompts, each a stream of its own in the same order; the last rows of each may
   be held out. */
#include <inttypes.h>
#include <string.h>

#include "cli/cmd/train.h"

/* The order in which rows are trained on. */
static fct_rows_desc order_of(const fct_cli *c)
{
    return (fct_rows_desc){.seed = (uint64_t)fct_cli_i64(c, "seed"),
                           .memory_bytes = fct_cli_i64(c, "shuffle-memory") << 20,
                           .order = fct_cli_choice(c, "order") == 0 ? FCT_ORDER_SHUFFLED
                                                                    : FCT_ORDER_SEQUENTIAL};
}

/* "a,b" for people and folders: "a+b". */
static fct_status name_across(train_stream *s, const fct_row_source *rows)
{
    fct_str text = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < rows->n_parts && st == FCT_OK; i++)
        st = fct_str_printf(&text, "%s%s", i > 0 ? "+" : "", rows->part[i].name);
    if (st == FCT_OK) st = fct_strdup(&s->across, text.p);
    fct_str_clear(&text);
    s->block = s->across;
    return st;
}

/* Several blocks of the store in step. */
static fct_status open_across(train_rows *r, fct_cli *c, const char *names)
{
    int64_t held = fct_cli_i64(c, "hold-out");
    train_stream *s = &r->stream[r->n];
    fct_row_source *source = &r->source[r->n];
    fct_rows_desc desc = order_of(c);
    desc.block = names;
    FCT_TRY(fct_store_rows(source, r->store, &desc));
    int64_t total = source->total;
    if (held >= total) {
        source->close(source->self);
        return fct_cli_usage(c, "--hold-out %" PRId64 ": there are only %" PRId64 " rows", held,
                             total);
    }
    if (held > 0) {
        source->close(source->self);
        desc.n = total - held;
        FCT_TRY(fct_store_rows(source, r->store, &desc));
    }
    r->n++;
    s->n_held = held;
    FCT_TRY(name_across(s, source));
    if (held == 0) return FCT_OK;
    return fct_store_rows(&r->held[r->n - 1], r->store,
                          &(fct_rows_desc){.block = names, .first = total - held, .n = held});
}

static fct_status open_stream(train_rows *r, fct_cli *c, const char *name)
{
    if (name && strchr(name, ',')) return open_across(r, c, name);
    int64_t at, held = fct_cli_i64(c, "hold-out");
    FCT_TRY(fct_store_find_block(&at, r->store, name));
    const fct_store_block *block = &fct_store_get_info(r->store)->block[at];
    train_stream *s = &r->stream[r->n];
    fct_row_source *source = &r->source[r->n];
    if (held >= block->rows)
        return fct_cli_usage(c, "--hold-out %" PRId64 ": %s has only %" PRId64 " rows", held,
                             block->name, block->rows);
    *s = (train_stream){.block = block->name, .n_held = held};
    fct_rows_desc desc = order_of(c);
    desc.block = block->name;
    desc.n = block->rows - held;
    FCT_TRY(fct_store_rows(source, r->store, &desc));
    r->n++;
    if (held == 0) return FCT_OK;
    return fct_store_rows(
        &r->held[r->n - 1], r->store,
        &(fct_rows_desc){.block = block->name, .first = block->rows - held, .n = held});
}

/* ---- rows that a model makes ---- */

static fct_status take_memory(train_rows *r, int64_t n)
{
    FCT_TRY(fct_new(&r->source, n, sizeof *r->source));
    FCT_TRY(fct_new(&r->held, n, sizeof *r->held));
    return fct_new(&r->stream, n, sizeof *r->stream);
}

/* The sources of one joint one, in the order of the streams: of the blocks named, or the
   model's. */
static fct_status split(train_rows *r, fct_row_source *joint, bool held, const char *const *block,
                        int64_t n)
{
    fct_status st = FCT_OK;
    fct_row_source part[64];
    int64_t n_parts = joint->n_parts;
    if (n_parts > (int64_t)FCT_COUNT(part) || n_parts != r->n) {
        joint->close(joint->self);
        return fct_fail(FCT_ERR_ARG, "--block %s means %" PRId64 " blocks: name each once",
                        r->blocks, n_parts);
    }
    st = fct_rows_split(part, joint);
    if (st != FCT_OK) {
        joint->close(joint->self);
        return st;
    }
    for (int64_t i = 0; i < n_parts; i++)
        for (int64_t p = 0; p < n_parts; p++) {
            if (!part[p].self) continue;
            if (n > 1 && strcmp(part[p].part->name, block[i]) != 0) continue;
            (held ? r->held : r->source)[i] = part[p];
            r->stream[i].block = part[p].part->name;
            part[p].self = NULL;
            break;
        }
    for (int64_t p = 0; p < n_parts; p++)
        if (part[p].self) {
            st = fct_fail(FCT_ERR_ARG, "block %s: name blocks as %s, each once", r->blocks,
                          part[p].part->name);
            part[p].close(part[p].self);
        }
    return st;
}

/* The blocks to watch: those of the streams, else --block, else (all) every one. */
static fct_status name_blocks(train_rows *r, fct_cli *c, const train_wanted *w)
{
    fct_str blocks = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < w->n && w->n > 1; i++)
        if (strchr(w->block[i], ','))
            return fct_cli_usage(c,
                                 "block %s: rows that a model makes are of several blocks in "
                                 "step, or of single ones: capture a store to have both",
                                 w->block[i]);
    for (int64_t i = 0; i < w->n && st == FCT_OK; i++)
        st = fct_str_printf(&blocks, "%s%s", i > 0 ? "," : "", w->block[i]);
    if (st == FCT_OK && w->n == 0 && fct_cli_text(c, "block"))
        st = fct_str_append(&blocks, fct_cli_text(c, "block"));
    if (st == FCT_OK && w->all) st = fct_str_append(&blocks, "*");
    r->blocks = blocks.p;
    FCT_TRY(st);
    if (r->blocks) return FCT_OK;
    return fct_cli_usage(c, "--block BLOCK is missing: the block to watch (facet info MODEL lists "
                            "them)");
}

static fct_status open_maker(train_rows *r, fct_cli *c)
{
    FCT_TRY(fct_prompts_read(&r->prompts, fct_cli_text(c, "prompts")));
    FCT_TRY(fct_cli_model_open(&r->made_by, c, true));
    FCT_TRY(fct_cli_session_open(&r->session, c, r->made_by));
    r->model = fct_model_get_info(r->made_by)->name;
    r->model_hash = fct_model_get_info(r->made_by)->hash;
    return fct_cli_read(&r->settings, c, fct_settings_table);
}

/* The capture whose rows are made without a store. */
static fct_capture_desc capture_of(const train_rows *r, const fct_cli *c)
{
    static const fct_half halves[] = {FCT_HALF_COND, FCT_HALF_UNCOND, FCT_HALF_BOTH};
    static const fct_store_dtype types[] = {FCT_STORE_F16, FCT_STORE_BF16, FCT_STORE_F32,
                                            FCT_STORE_I8};
    const int64_t *at;
    int64_t n_at = fct_cli_steps(c, "at-steps", &at), limit = fct_cli_i64(c, "limit");
    bool some = fct_cli_given(c, "limit") && limit < r->prompts.n;
    return (fct_capture_desc){.session = r->session,
                              .prompts = r->prompts.item,
                              .n_prompts = some ? limit : r->prompts.n,
                              .blocks = r->blocks,
                              .settings = &r->settings,
                              .at_steps = n_at > 0 ? at : NULL,
                              .n_at_steps = n_at,
                              .branch = halves[fct_cli_choice(c, "branch")],
                              .store_dtype = types[fct_cli_choice(c, "store-dtype")],
                              .batch = fct_cli_i64(c, "prompt-batch"),
                              .log = fct_cli_log(c)};
}

/* The rows that are trained on; *out_total: with those that are held out. */
static fct_status open_joint(fct_row_source *out, fct_cli *c, const fct_capture_desc *capture,
                             int64_t *out_total)
{
    fct_rows_desc desc = order_of(c);
    int64_t held = fct_cli_i64(c, "hold-out");
    FCT_TRY(fct_model_rows(out, capture, &desc));
    *out_total = out->total;
    if (held == 0) return FCT_OK;
    out->close(out->self);
    if (held >= *out_total)
        return fct_cli_usage(c, "--hold-out %" PRId64 ": the prompts have only %" PRId64 " rows",
                             held, *out_total);
    desc.n = *out_total - held;
    return fct_model_rows(out, capture, &desc);
}

/* Several blocks of one stream are read in step, else each has a stream. Takes joint over. */
static fct_status place_joint(train_rows *r, fct_row_source *joint, const train_wanted *w,
                              bool *out_across)
{
    int64_t room = w->all ? joint->n_parts : w->n > 0 ? w->n : 1;
    fct_status st = take_memory(r, room);
    if (st != FCT_OK) {
        joint->close(joint->self);
        return st;
    }
    r->n = room;
    *out_across = joint->n_parts > 1 && !w->all && w->n < 2;
    if (!*out_across) return split(r, joint, false, w->block, w->n);
    r->source[0] = *joint;
    return name_across(&r->stream[0], joint);
}

static fct_status open_made(train_rows *r, fct_cli *c, const train_wanted *w)
{
    fct_row_source joint;
    int64_t total;
    bool across;
    FCT_TRY(name_blocks(r, c, w));
    FCT_TRY(open_maker(r, c));
    const fct_capture_desc capture = capture_of(r, c);
    FCT_TRY(open_joint(&joint, c, &capture, &total));
    FCT_TRY(place_joint(r, &joint, w, &across));
    int64_t rest = total - r->source[0].total;
    if (rest == 0) return FCT_OK;
    for (int64_t i = 0; i < r->n; i++) r->stream[i].n_held = rest;
    const fct_rows_desc held = {
        .first = total - rest, .n = rest, .memory_bytes = order_of(c).memory_bytes};
    FCT_TRY(fct_model_rows(&joint, &capture, &held));
    if (!across) return split(r, &joint, true, w->block, w->n);
    r->held[0] = joint;
    return FCT_OK;
}

/* ---- opening ---- */

/* Options of one way to get rows that were given with the other. */
static fct_status check_use(fct_cli *c)
{
    static const char *const of_model[] = {"model",    "limit",  "denoising-steps", "at-steps",
                                           "guidance", "branch", "negative",        "prompt-seed",
                                           "width",    "height", "prompt-batch",    "store-dtype",
                                           "dtype"};
    bool prompts = fct_cli_given(c, "prompts"), store = fct_cli_given(c, "store");
    if (prompts && store)
        return fct_cli_usage(c, "--store holds rows, --prompts has a model make them: give one");
    if (!prompts && !store)
        return fct_cli_usage(c, "--store STORE is missing: rows made by facet capture (or "
                                "--prompts FILE: a model makes them)");
    if (prompts && fct_cli_given(c, "tensor"))
        return fct_cli_usage(c, "--tensor goes with --store");
    if (store && fct_cli_given(c, "shuffle-memory") && fct_cli_choice(c, "order") != 0)
        return fct_cli_usage(c,
                             "--shuffle-memory is of shuffled rows, --order %s are not: leave one "
                             "out",
                             fct_cli_text(c, "order"));
    if (prompts && !fct_dist_alone(fct_cli_ranks(c)))
        return fct_cli_usage(c,
                             "rows that a model makes cannot be shared by %" PRId64
                             " ranks: capture them first (mpirun -n %" PRId64
                             " facet capture), then train on the store",
                             fct_dist_size(fct_cli_ranks(c)), fct_dist_size(fct_cli_ranks(c)));
    for (size_t i = 0; store && i < FCT_COUNT(of_model); i++)
        if (fct_cli_given(c, of_model[i]))
            return fct_cli_usage(c, "--%s goes with --prompts: a store's rows are made already",
                                 of_model[i]);
    return FCT_OK;
}

static fct_status open_stored(train_rows *r, fct_cli *c, const train_wanted *w)
{
    const char *only = fct_cli_text(c, "block");
    int64_t room = w->n > 0 ? w->n : 1;
    FCT_TRY(fct_store_open_rows(
        &r->store, fct_cli_text(c, "store"),
        &(fct_rows_file_desc){.tensor = fct_cli_text(c, "tensor"), .block = only}));
    const fct_store_info *info = fct_store_get_info(r->store);
    r->model = info->model;
    r->model_hash = info->model_hash;
    if (w->all) room = info->n_blocks;
    FCT_TRY(take_memory(r, room));
    for (int64_t i = 0; i < room; i++)
        FCT_TRY(open_stream(r, c, w->all ? info->block[i].name : w->n > 0 ? w->block[i] : only));
    return FCT_OK;
}

fct_status train_rows_open(train_rows *out, fct_cli *c, const train_wanted *wanted)
{
    train_wanted w = *wanted;
    *out = (train_rows){0};
    FCT_TRY(check_use(c));
    if (fct_cli_text(c, "block") || w.n > 0) w.all = false;
    fct_status st = fct_cli_given(c, "prompts") ? open_made(out, c, &w) : open_stored(out, c, &w);
    if (st != FCT_OK) train_rows_close(out);
    return st;
}

void train_rows_close(train_rows *r)
{
    for (int64_t i = 0; i < r->n; i++)
        if (r->held[i].close) r->held[i].close(r->held[i].self);
    for (int64_t i = 0; i < r->n; i++)
        if (r->source[i].close) r->source[i].close(r->source[i].self);
    for (int64_t i = 0; i < r->n; i++) fct_free(r->stream[i].across);
    fct_free(r->source);
    fct_free(r->held);
    fct_free(r->stream);
    fct_free(r->blocks);
    fct_store_close(r->store);
    fct_session_close(r->session);
    fct_model_close(r->made_by);
    fct_prompts_clear(&r->prompts);
    *r = (train_rows){0};
}

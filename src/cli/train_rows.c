/* train_rows.c - where `facet train` takes rows from: a store's blocks, each a stream of its own in
   the same order; the last rows of each may be held out. */
#include <inttypes.h>

#include "cli/train.h"

static fct_status open_stream(train_rows *r, fct_cli *c, const char *name)
{
    int64_t at, held = fct_cli_i64(c, "hold-out");
    FCT_TRY(fct_store_find_block(&at, r->store, name));
    const fct_store_block *block = &fct_store_get_info(r->store)->block[at];
    train_stream *s = &r->stream[r->n];
    fct_row_source *source = &r->source[r->n];
    if (held >= block->rows)
        return fct_cli_usage(c, "--hold-out %" PRId64 ": %s has only %" PRId64 " rows", held,
                             block->name, block->rows);
    *s = (train_stream){.block = block->name, .n_held = held};
    fct_rows_desc desc = {.block = block->name,
                          .seed = (uint64_t)fct_cli_i64(c, "seed"),
                          .n = block->rows - held,
                          .memory_bytes = fct_cli_i64(c, "shuffle-memory") << 20,
                          .order = fct_cli_choice(c, "order") == 0 ? FCT_ORDER_SHUFFLED
                                                                   : FCT_ORDER_SEQUENTIAL};
    FCT_TRY(fct_store_rows(source, r->store, &desc));
    r->n++;
    if (held == 0) return FCT_OK;
    return fct_store_rows(
        &r->held[r->n - 1], r->store,
        &(fct_rows_desc){.block = block->name, .first = block->rows - held, .n = held});
}

fct_status train_rows_open(train_rows *out, fct_cli *c, const char *const *block, int64_t n,
                           bool all)
{
    fct_status st = FCT_OK;
    const char *only = fct_cli_text(c, "block");
    int64_t room = n > 0 ? n : 1;
    *out = (train_rows){0};
    if (!fct_cli_text(c, "store"))
        return fct_cli_usage(c, "--store STORE is missing: rows made by facet capture");
    FCT_TRY_OUT(fct_store_open_rows(
        &out->store, fct_cli_text(c, "store"),
        &(fct_rows_file_desc){.tensor = fct_cli_text(c, "tensor"), .block = only}));
    out->model = fct_store_get_info(out->store)->model;
    out->model_hash = fct_store_get_info(out->store)->model_hash;
    const fct_store_info *info = fct_store_get_info(out->store);
    if (only || n > 0) all = false;
    if (all) room = info->n_blocks;
    FCT_TRY_OUT(fct_new(&out->source, room, sizeof *out->source));
    FCT_TRY_OUT(fct_new(&out->held, room, sizeof *out->held));
    FCT_TRY_OUT(fct_new(&out->stream, room, sizeof *out->stream));
    for (int64_t i = 0; i < room; i++)
        FCT_TRY_OUT(open_stream(out, c, all ? info->block[i].name : n > 0 ? block[i] : only));
out:
    if (st != FCT_OK) train_rows_close(out);
    return st;
}

void train_rows_close(train_rows *r)
{
    for (int64_t i = 0; i < r->n; i++) {
        if (r->source[i].close) r->source[i].close(r->source[i].self);
        if (r->held[i].close) r->held[i].close(r->held[i].self);
    }
    fct_free(r->source);
    fct_free(r->held);
    fct_free(r->stream);
    fct_store_close(r->store);
    *r = (train_rows){0};
}

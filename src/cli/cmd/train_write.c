/* train_write.c - measures what a training gave and puts it into folders: one for an SAE or a
   crosscoder; for mixed blocks one for each of them, with the statistics of that block's rows.
   Statistics are made by all ranks; the first one does the rest. */
#include <string.h>

#include "cli/cmd/train.h"

static void add_quality(fct_sae_quality *sum, const fct_sae_quality *one, double share)
{
    sum->ev += share * one->ev;
    sum->ev_total += share * one->ev_total;
    sum->l0 += share * one->l0;
    sum->dead_share += share * one->dead_share;
    sum->rows += one->rows;
    for (int b = 0; b < FCT_SAE_MAX_BLOCKS; b++) sum->block_ev[b] += one->block_ev[b];
}

static fct_status measure(fct_cli *c, fct_sae *sae, train_part *part, fct_row_source *rows,
                          int64_t here, fct_row_source *held)
{
    const fct_measure_desc all = {.backend = fct_cli_text(c, "backend")},
                           how = {.max_rows = here,
                                  .backend = all.backend,
                                  .ranks = fct_cli_ranks(c),
                                  .log = fct_cli_log(c)};
    FCT_TRY(fct_sae_measure_stats(sae, rows, &how));
    if (!held || !fct_dist_first(fct_cli_ranks(c))) return FCT_OK;
    FCT_TRY(held->rewind(held->self, 0));
    return fct_sae_measure_quality(sae, held, &all, &part->quality);
}

/* One of several mixed blocks: its rows are a part of the source's. */
static fct_status measure_mixed(fct_cli *c, train_result *r, int64_t i, fct_row_source *rows,
                                int64_t here, fct_row_source *held)
{
    fct_status st = FCT_OK;
    fct_row_source own = {0}, own_held = {0};
    fct_sae *sae = i == 0 ? r->member->sae : r->member->more[i - 1];
    FCT_TRY_OUT(fct_row_source_part(&own, rows, i));
    if (held) FCT_TRY_OUT(fct_row_source_part(&own_held, held, i));
    st = measure(c, sae, &r->part[i], &own, here, held ? &own_held : NULL);
out:
    if (own.close) own.close(own.self);
    if (own_held.close) own_held.close(own_held.self);
    return st;
}

/* How well one block's rows alone give back what they are. */
static fct_status measure_alone(fct_cli *c, train_result *r, int64_t block, fct_row_source *held)
{
    fct_status st = FCT_OK;
    const fct_sae *whole = r->member->sae;
    const fct_measure_desc how = {.backend = fct_cli_text(c, "backend")};
    fct_sae *slice = NULL;
    fct_row_source own = {0};
    fct_sae_quality q;
    FCT_TRY_OUT(fct_sae_slice(&slice, whole, whole->blocks[block].name));
    FCT_TRY_OUT(fct_row_source_part(&own, held, block));
    FCT_TRY_OUT(own.rewind(own.self, 0));
    FCT_TRY_OUT(fct_sae_measure_quality(slice, &own, &how, &q));
    r->alone[block] = q.ev;
out:
    fct_sae_free(slice);
    if (own.close) own.close(own.self);
    return st;
}

fct_status train_result_write(fct_cli *c, train_result *r, fct_row_source *rows,
                              fct_row_source *held)
{
    const fct_train_member *m = r->member;
    if (!m->sae) return FCT_OK; /* lost */
    fct_row_source *measured = r->held ? held : NULL;
    int64_t here; /* rows that a model has just made are not made again */
    for (int64_t i = 0; i < r->n_parts; i++) {
        r->part[i].sae = i == 0 ? m->sae : m->more[i - 1];
        FCT_TRY(fct_rows_stay(rows, &here));
        fct_status st = r->n_parts > 1 ? measure_mixed(c, r, i, rows, here, measured)
                                       : measure(c, m->sae, &r->part[0], rows, here, measured);
        FCT_TRY(fct_where(st, "%s", r->part[i].dir));
        add_quality(&r->quality, &r->part[i].quality, 1 / (double)r->n_parts);
    }
    if (!fct_dist_first(fct_cli_ranks(c))) return FCT_OK;
    for (int64_t b = 0; measured && b < m->sae->n_blocks; b++)
        FCT_TRY(measure_alone(c, r, b, measured));
    for (int64_t i = 0; i < r->n_parts; i++) {
        if (r->n_parts > 1) FCT_TRY(fct_dir_make(r->dir));
        FCT_TRY(fct_sae_save(r->part[i].sae, r->part[i].dir, NULL));
        FCT_TRY(fct_where(train_page_write(r, &r->part[i]), "%s", r->part[i].dir));
    }
    return FCT_OK;
}

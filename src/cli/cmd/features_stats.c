/* features_stats.c - `facet features stats`: measures how often and how strongly each feature
   is active on a store's rows, and of a crosscoder in which blocks its features are. */
#include <inttypes.h>
#include <string.h>

#include "cli/cmd/run.h"
#include "facet/store.h"
#include "facet/sae.h"

static const float MOSTLY = 0.9f; /* of a direction's length lies in one block */

static void say_stats(fct_cli *c, const fct_sae *s, const char *out)
{
    int64_t dead = 0;
    double l0 = 0;
    for (int64_t f = 0; f < s->f; f++) {
        dead += s->density[f] == 0;
        l0 += (double)s->density[f];
    }
    fct_cli_say(
        c, "%s: %" PRId64 " features, %" PRId64 " never active on these rows, %.2f active a row",
        out, s->f, dead, l0);
    fct_cli_put(c, "sae", json_string(out));
    fct_cli_put(c, "n_features", json_integer(s->f));
    fct_cli_put(c, "never_active", json_integer(dead));
    fct_cli_put(c, "l0", json_real(l0));
}

/* Where a crosscoder's features are: how many have their direction in one block above all. */
fct_status fct_cli_say_blocks(fct_cli *c, const fct_sae *s)
{
    fct_status st = FCT_OK;
    float *share = NULL;
    json_t *list = json_array();
    if (s->n_blocks == 0) goto out;
    FCT_TRY_OUT(fct_new(&share, s->f * s->n_blocks, sizeof *share));
    fct_sae_block_share(s, share);
    for (int64_t b = 0; b < s->n_blocks; b++) {
        int64_t own = 0;
        double mean = 0;
        for (int64_t f = 0; f < s->f; f++) {
            own += share[f * s->n_blocks + b] > MOSTLY;
            mean += share[f * s->n_blocks + b] / (double)s->f;
        }
        fct_cli_say(c, "  %-12s %6" PRId64 " features almost alone, mean share of a direction %.3f",
                    s->blocks[b].name, own, mean);
        json_t *o = json_pack("{s:s, s:I, s:f}", "block", s->blocks[b].name, "own_features",
                              (json_int_t)own, "mean_share", mean);
        if (json_array_append_new(list, o) != 0) {
            st = fct_fail(FCT_ERR_MEMORY, "out of memory for the table");
            goto out;
        }
    }
    fct_cli_put(c, "blocks", json_incref(list));
out:
    json_decref(list);
    fct_free(share);
    return st;
}

static fct_status run_stats(fct_cli *c)
{
    fct_status st = FCT_OK;
    fct_sae *sae = NULL;
    fct_store *store = NULL;
    fct_row_source rows = {0};
    const char *dir = fct_cli_text(c, "sae"), *out = fct_cli_text(c, "output"),
               *block = fct_cli_text(c, "block");
    char *across = NULL;
    FCT_TRY_OUT(fct_sae_load(&sae, dir, block));
    bool beside = !out;
    if (beside && sae->is_slice) {
        st = fct_cli_usage(c,
                           "%s is a crosscoder: its statistics are of all its blocks together "
                           "(no --block); those of one block's part alone go with --output DIR",
                           dir);
        goto out;
    }
    if (beside) out = sae->path ? sae->path : dir;
    FCT_TRY_OUT(fct_cli_check_dir(out));
    /* that of the SAE which is replaced, if there is one */
    fct_sae_layout layout = FCT_SAE_SAELENS;
    const char *name = fct_path_is_dir(out) ? fct_sae_layout_of(out) : NULL;
    if (name) FCT_TRY_OUT(fct_sae_layout_find(&layout, name));
    if (!beside) FCT_TRY_OUT(fct_sae_check_place(out, layout));
    FCT_TRY_OUT(fct_store_open_rows(
        &store, fct_cli_text(c, "store"),
        &(fct_rows_file_desc){.tensor = fct_cli_text(c, "tensor"), .block = block}));
    if (sae->n_blocks > 0) {
        FCT_TRY_OUT(fct_sae_blocks_text(&across, sae, ","));
        block = across;
    }
    if (!block && fct_store_get_info(store)->n_blocks > 1) block = sae->block;
    FCT_TRY_OUT(fct_store_rows(&rows, store, &(fct_rows_desc){.block = block}));
    const fct_measure_desc how = {.max_rows = fct_cli_i64(c, "max-rows"),
                                  .backend = fct_cli_text(c, "backend"),
                                  .ranks = fct_cli_ranks(c),
                                  .log = fct_cli_log(c)};
    FCT_TRY_OUT(fct_sae_measure_stats(sae, &rows, &how));
    if (fct_dist_first(fct_cli_ranks(c)))
        st = beside ? fct_sae_save_stats(sae, out) : fct_sae_save_as(sae, out, layout);
    FCT_TRY_OUT(fct_dist_agree(fct_cli_ranks(c), st));
    say_stats(c, sae, out);
    const char *lost[4];
    if (fct_sae_lost_stats(sae, layout, lost) > 0)
        fct_log_line(fct_cli_log(c), FCT_LOG_WARN,
                     "%s: the %s layout keeps mean and std alone; `facet convert %s --to saelens` "
                     "first, to keep density and max",
                     out, fct_sae_layout_name(layout), out);
    FCT_TRY_OUT(fct_cli_say_blocks(c, sae));
out:
    fct_free(across);
    if (rows.close) rows.close(rows.self);
    fct_store_close(store);
    fct_sae_free(sae);
    return st;
}

static const fct_cli_option stats_options[] = {{.name = "sae",
                                                .kind = FCT_CLI_FOLDER,
                                                .value = "SAE",
                                                .required = true,
                                                .help = "the SAE's folder"},
                                               {.name = "store",
                                                .kind = FCT_CLI_FOLDER,
                                                .value = "STORE",
                                                .required = true,
                                                .help = "rows to measure on: a store, or a "
                                                        ".safetensors or .npy file"},
                                               {.name = "tensor",
                                                .kind = FCT_CLI_TEXT,
                                                .value = "NAME",
                                                .otherwise = "rows, else the only 2-D one",
                                                .help = "tensor of a .safetensors file"},
                                               {.name = "block",
                                                .kind = FCT_CLI_TEXT,
                                                .value = "BLOCK",
                                                .otherwise = "the SAE's",
                                                .help = "block of the store"},
                                               {.name = "max-rows",
                                                .kind = FCT_CLI_INT,
                                                .value = "N",
                                                .lo = 1,
                                                .hi = 9223372036854775807.0,
                                                .otherwise = "all",
                                                .help = "stop after so many rows"},
                                               {.name = "output",
                                                .letter = 'o',
                                                .kind = FCT_CLI_FOLDER,
                                                .value = "DIR",
                                                .otherwise = "the SAE's own folder",
                                                .help = "write SAE and statistics there instead"},
                                               {0}};

const fct_cli_command fct_cmd_features_stats = {
    .name = "features stats",
    .summary = "measure how often and how strongly each feature is active",
    .text =
        "Writes stats.safetensors beside the SAE: density, and mean, std (when active) and "
        "max, f32 [F] each; of a crosscoder, whose rows are those of all its blocks, also "
        "block_share [F,blocks], the share of a feature's direction in each; mean.pt and "
        "std.pt in the authors' layout. Nothing else in the "
        "SAE's folder is touched. Under mpirun -n N (or srun) each of N ranks reads a part of the "
        "rows.",
    .examples = "facet features stats --sae sae --store store",
    .options = {stats_options, fct_cli_backend, fct_cli_common},
    .run = run_stats,
    .ranks = true,
};

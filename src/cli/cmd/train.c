/* train.c - `facet train`: trains an SAE on rows, or those of a sweep in one pass over them.
   Checkpoints lie beside the result, in OUT.checkpoint, until it is there. */
#include <inttypes.h>
#include <string.h>

#include "cli/cmd/train.h"

typedef struct job {
    fct_cli *c;
    const char *out;
    char *checkpoint; /* OUT.checkpoint */
    train_rows rows;
    fct_train_desc desc; /* what concerns all SAEs of the run */
    fct_sweep *sweep;    /* NULL: one SAE */
    fct_train_run train;
    train_result *result; /* [n]: of the members */
    int64_t n;
} job;

/* The command line's options; of a sweep first what its file says, which they go before. */
static fct_status read_options(job *j)
{
    const char *path = fct_cli_operand_at(j->c, 0);
    fct_train_desc given = {0};
    FCT_TRY(train_options_read(&given, j->c));
    if (path) {
        FCT_TRY(fct_sweep_open(&j->sweep, path));
        FCT_TRY(fct_where(fct_cli_take(j->c, fct_sweep_get_info(j->sweep)->rest), "%s", path));
        FCT_TRY(fct_where(fct_sweep_read(j->sweep, &j->desc), "%s", path));
    }
    FCT_TRY(train_options_read(&j->desc, j->c));
    if (j->desc.eval_every > 0 && fct_cli_i64(j->c, "hold-out") == 0)
        return fct_cli_usage(j->c, "--eval-every needs rows that are not trained on: --hold-out N");
    j->desc.log = fct_cli_log(j->c);
    j->desc.backend = fct_cli_text(j->c, "backend");
    return FCT_OK;
}

static fct_status check_use(job *j)
{
    j->out = fct_cli_text(j->c, "output");
    if (!j->out) return fct_cli_usage(j->c, "--output SAE is missing: the SAE's folder");
    char *path = NULL;
    FCT_TRY(fct_strdup(&path, j->out));
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = '\0';
    fct_status st = fct_format(&j->checkpoint, "%s.checkpoint", path);
    fct_free(path);
    FCT_TRY(st);
    FCT_TRY(fct_cli_check_dir(j->out));
    if (!fct_cli_flag(j->c, "resume") && fct_sae_checkpoint_exists(j->checkpoint))
        return fct_fail(FCT_ERR_ARG,
                        "%s holds an interrupted training: continue it with --resume, or remove it "
                        "to start again",
                        j->checkpoint);
    return FCT_OK;
}

static fct_status open_rows(job *j)
{
    const fct_sweep_info none = {0}, *info = j->sweep ? fct_sweep_get_info(j->sweep) : &none;
    const train_wanted wanted = {info->block, info->n_blocks, j->sweep != NULL};
    return train_rows_open(&j->rows, j->c, &wanted);
}

/* ---- the list of SAEs ---- */

/* Where the result lies: the folder itself, or one in it for each of several mixed blocks. */
static fct_status set_places(train_result *r, const fct_row_source *rows)
{
    bool mixed = rows->n_parts > 1 && r->member->desc.mix_blocks;
    r->n_parts = mixed ? rows->n_parts : 1;
    if (r->n_parts > FCT_SAE_MAX_BLOCKS)
        return fct_fail(FCT_ERR_ARG, "%" PRId64 " blocks: want at most %d", r->n_parts,
                        FCT_SAE_MAX_BLOCKS);
    for (int64_t i = 0; i < r->n_parts; i++) {
        train_part *p = &r->part[i];
        p->block = mixed ? rows->part[i].name : r->block;
        FCT_TRY(mixed ? fct_path_join(&p->dir, r->dir, p->block) : fct_strdup(&p->dir, r->dir));
        FCT_TRY(fct_sae_check_place(p->dir, FCT_SAE_SAELENS));
    }
    return FCT_OK;
}

/* What the rows say of an SAE, beside its options. */
static fct_status set_member(job *j, int64_t i, const fct_sweep_item *item)
{
    fct_train_member *m = &j->train.member[i];
    train_result *r = &j->result[i];
    const train_stream *stream = &j->rows.stream[item->stream];
    bool several = j->rows.source[item->stream].n_parts > 1;
    m->name = item->name;
    m->stream = item->stream;
    m->desc = item->desc;
    m->desc.resume = j->checkpoint;
    m->desc.block = several ? NULL : stream->block;
    m->desc.mix_blocks = several && !fct_cli_flag(j->c, "crosscoder");
    m->desc.model = j->rows.model;
    m->desc.model_hash = j->rows.model_hash;
    *r = (train_result){
        .name = item->name, .block = stream->block, .member = m, .held = stream->n_held > 0};
    if (item->options)
        FCT_TRY(
            fct_json_parse(&r->options, item->options, (int64_t)strlen(item->options), "sweep"));
    FCT_TRY(item->name ? fct_path_join(&r->dir, j->out, item->name) : fct_strdup(&r->dir, j->out));
    return set_places(r, &j->rows.source[item->stream]);
}

static fct_status check_crosscoder(job *j)
{
    for (int64_t i = 0; i < j->rows.n; i++)
        if (j->rows.source[i].n_parts > 1) return FCT_OK;
    if (!fct_cli_flag(j->c, "crosscoder")) return FCT_OK;
    return fct_cli_usage(j->c, "--crosscoder is of several blocks: --block A,B (in a sweep: "
                               "\"blocks\": [\"A,B\"])");
}

static fct_status list_sweep(job *j, const fct_sweep_item **out, int64_t *out_n)
{
    fct_row_part *stream = NULL;
    FCT_TRY(fct_new(&stream, j->rows.n, sizeof *stream));
    for (int64_t i = 0; i < j->rows.n; i++)
        stream[i] = (fct_row_part){j->rows.stream[i].block, j->rows.source[i].d};
    fct_status st = fct_sweep_list(j->sweep, &j->desc, stream, j->rows.n, out, out_n);
    fct_free(stream);
    return st;
}

static fct_status set_members(job *j)
{
    fct_sweep_item one = {.desc = j->desc};
    const fct_sweep_item *item = &one;
    int64_t n = 1;
    FCT_TRY(check_crosscoder(j));
    if (j->sweep) FCT_TRY(list_sweep(j, &item, &n));
    FCT_TRY(fct_new(&j->train.member, n, sizeof *j->train.member));
    FCT_TRY(fct_new(&j->result, n, sizeof *j->result));
    j->train.n_members = j->n = n;
    j->train.stream = j->rows.source;
    j->train.held_out = j->rows.held;
    j->train.n_streams = j->rows.n;
    j->train.ranks = fct_cli_ranks(j->c);
    for (int64_t i = 0; i < n; i++) {
        fct_status st = set_member(j, i, &item[i]);
        FCT_TRY(j->sweep ? fct_where(st, "%s", item[i].name) : st);
    }
    return FCT_OK;
}

/* ---- after the training ---- */

static fct_status say_one(job *j)
{
    fct_cli *c = j->c;
    const train_result *of = &j->result[0];
    const fct_train_report *r = &of->member->report;
    fct_cli_say(c,
                "%s: %" PRId64 " features, k %" PRId64 ", %" PRId64 " dead, %" PRId64
                " never active, explained variance %.4f (last batch), %" PRId64 " steps, %.1f s",
                j->out, r->n_features, r->k, r->dead, train_result_unused(of), r->ev, r->steps,
                r->seconds);
    if (of->held)
        fct_cli_say(
            c,
            "held out: explained variance %.4f, %.2f features a row, %.1f %% never active, %" PRId64
            " rows",
            of->quality.ev, of->quality.l0, 100 * of->quality.dead_share, of->quality.rows);
    for (int64_t i = 0; of->held && of->n_parts > 1 && i < of->n_parts; i++)
        fct_cli_say(c, "  %-12s explained variance %.4f, %.2f features a row", of->part[i].block,
                    of->part[i].quality.ev, of->part[i].quality.l0);
    for (int64_t i = 0; of->held && i < of->member->sae->n_blocks; i++)
        fct_cli_say(c, "  %-12s explained variance %.4f, %.4f from its own rows alone",
                    of->member->sae->blocks[i].name, of->quality.block_ev[i], of->alone[i]);
    json_t *one = train_result_json(of);
    fct_cli_put(c, "sae", json_string(j->out));
    fct_cli_put(c, "block", json_string(of->block));
    fct_cli_put(c, "train", json_incref(json_object_get(one, "train")));
    fct_cli_put(c, "never_active", json_incref(json_object_get(one, "never_active")));
    if (of->held) fct_cli_put(c, "held_out", json_incref(json_object_get(one, "held_out")));
    if (of->n_parts > 1) fct_cli_put(c, "parts", json_incref(json_object_get(one, "parts")));
    json_decref(one);
    return fct_cli_say_blocks(c, of->member->sae);
}

static fct_status write_whole(job *j)
{
    if (j->sweep) FCT_TRY(train_result_sweep(j->c, j->out, j->result, j->n));
    fct_sae_checkpoint_remove(j->checkpoint); /* it has served */
    return j->sweep ? FCT_OK : say_one(j);
}

/* Statistics by all ranks, files by the first. */
static fct_status write_results(job *j)
{
    fct_dist *ranks = fct_cli_ranks(j->c);
    for (int64_t i = 0; i < j->n; i++) {
        int64_t stream = j->train.member[i].stream;
        fct_status st =
            train_result_write(j->c, &j->result[i], &j->rows.source[stream], &j->rows.held[stream]);
        FCT_TRY(fct_dist_agree(ranks, st));
    }
    return fct_dist_agree(ranks, fct_dist_first(ranks) ? write_whole(j) : FCT_OK);
}

/* ---- finished already ---- */

/* With --resume: tells whether every SAE is there and was made with these options from these rows.
   One made otherwise is refused. Where some are missing (the rest of a kill) they are made again
   with the others. */
static fct_status find_finished(job *j, bool *out)
{
    *out = false;
    if (!fct_cli_flag(j->c, "resume") || fct_sae_checkpoint_exists(j->checkpoint)) return FCT_OK;
    for (int64_t i = 0; i < j->n; i++) {
        bool finished = false;
        FCT_TRY(fct_sae_train_finished(&finished, &j->train, i, j->result[i].dir));
        if (!finished) return FCT_OK;
    }
    *out = true;
    return FCT_OK;
}

static void say_finished(job *j)
{
    fct_cli_say(j->c, "%s: finished already, with these options and rows", j->out);
    fct_cli_put(j->c, "sae", json_string(j->out));
    fct_cli_put(j->c, "finished", json_true());
}

static void close_job(job *j)
{
    for (int64_t i = 0; i < j->n; i++) {
        for (int64_t p = 0; p < j->result[i].n_parts; p++) fct_free(j->result[i].part[p].dir);
        fct_free(j->result[i].dir);
        json_decref(j->result[i].options);
    }
    fct_train_run_clear(&j->train);
    fct_free(j->train.member);
    fct_free(j->result);
    train_rows_close(&j->rows);
    fct_sweep_close(j->sweep);
    fct_free(j->checkpoint);
}

static fct_status run(fct_cli *c)
{
    job j = {.c = c};
    fct_status st = FCT_OK;
    bool finished = false;
    FCT_TRY_OUT(read_options(&j));
    FCT_TRY_OUT(check_use(&j));
    FCT_TRY_OUT(open_rows(&j));
    FCT_TRY_OUT(set_members(&j));
    FCT_TRY_OUT(find_finished(&j, &finished));
    FCT_TRY_OUT(fct_dist_broadcast(fct_cli_ranks(c), &finished, sizeof finished));
    if (finished) {
        say_finished(&j);
        goto out;
    }
    if (fct_cli_flag(c, "resume") && !fct_sae_checkpoint_exists(j.checkpoint))
        fct_cli_note(c, "there is no checkpoint in %s: starting from the beginning", j.checkpoint);
    st = fct_sae_train_many(&j.train);
    bool trained = st == FCT_OK;
    if (trained) st = write_results(&j);
    if (st == FCT_OK || !fct_sae_checkpoint_exists(j.checkpoint)) goto out;
    if (st == FCT_ERR_STOPPED)
        fct_cli_note(c, "the same command with --resume goes on from here");
    else if (trained)
        st = fct_fail(st, "%s; the training is done and kept in %s: --resume repeats only this",
                      fct_error_text(), j.checkpoint);
    else if (st == FCT_ERR_RANGE || st == FCT_ERR_IO) /* others: refusals, nothing was trained */
        fct_cli_note(c, "the last good checkpoint stays in %s", j.checkpoint);
out:
    close_job(&j);
    return st;
}

const fct_cli_command fct_cmd_train = {
    .name = "train",
    .summary = "train sparse autoencoders on rows, or on what a model makes",
    .text =
        "Writes cfg.json, sae_weights.safetensors (SAELens), facet.json (how it was made), "
        "stats.safetensors (density, mean, std, max of every feature, "
        "from one more pass with the finished weights) and report.html (curves, densities, "
        "options). The folder appears whole or not at all. --output is needed, and "
        "--store or --prompts: with --prompts the model makes the rows that capture would have "
        "stored, once for all blocks, while the SAEs learn from those before; statistics are then "
        "of the rows that are still in memory at the end.\n\n"
        "--block A,B trains one SAE on the rows of several blocks of one width, as many of each in "
        "a batch, each block's rows centred and scaled by its own; --output then gets a folder a "
        "block, with the same features in that block's units: --sae takes it whole. With "
        "--crosscoder it is one SAE that reads the blocks' rows at the same place side by side, of "
        "any widths, and has a direction for each feature in every block.\n\n"
        "SWEEP is a JSON file of several SAEs that are trained on one pass over the rows: "
        "{\"blocks\": [\"down.2.1\", \"up.0.1\"], \"seeds\": [0, 1], \"options\": "
        "{\"preset\": \"demo\"}, \"grid\": {\"k\": [4, 8], \"lr\": [0.001]}, "
        "\"configs\": [{\"name\": \"wide\", \"n-features\": 1024}]}. Every part may be left "
        "out; names and values are those of this command's options, with options below the command "
        "line and that below grid and configs. Every block is trained with every combination of "
        "the grid and every one of configs, with every seed; no blocks: all of the store. All SAEs "
        "have one batch size, and the rows' order is that of the run's seed, so each ends as it "
        "would alone. --output is then a folder with a folder for each SAE (BLOCK_k4_seed0), "
        "results.json and pareto.svg. A training config of sdxl-unbox ({\"sae_configs\": ...}) is "
        "taken as it is.\n\n"
        "Under mpirun -n N (or srun) N ranks share every batch, with one summed gradient a step: "
        "the same SAE to within rounding, whatever N is. A sweep of at least N SAEs divides them "
        "among the ranks instead, to the bytes of one process. --resume takes another N.",
    .examples = "facet train --store store --block up.0.1 --preset demo --steps 300 -o sae\n"
                "facet train --prompts prompts.txt --block up.0.1 --preset demo -o sae\n"
                "facet train --store store --block down.2.1,up.0.1 --crosscoder -o crosscoder\n"
                "facet train sweep.json --store store -o saes\n"
                "mpirun -n 8 facet train --store store --block up.0.1 -o sae",
    .operand = {{.name = "SWEEP", .help = "a file of several configurations", .optional = true}},
    .options = {train_options, train_variant_options, fct_cli_instrument, fct_cli_common},
    .run = run,
    .ranks = true,
};

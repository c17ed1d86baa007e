/* cmd_train.c - `facet train`: an SAE from rows. Checkpoints lie beside the result, in
 * SAE.checkpoint, until it is there. */
#include <inttypes.h>
#include <string.h>

#include "cli/train.h"

typedef struct job {
    fct_cli *c;
    const char *out;
    char *checkpoint; /* OUT.checkpoint */
    train_rows rows;
    fct_train_member member;
    fct_train_run run;
    fct_sae_quality quality; /* with held-out rows */
} job;

static fct_status check_use(job *j)
{
    fct_cli *c = j->c;
    FCT_TRY(train_options_check(c));
    j->out = fct_cli_text(c, "output");
    if (!j->out) return fct_cli_usage(c, "--output SAE is missing: the SAE's folder");
    char *path = NULL;
    FCT_TRY(fct_strdup(&path, j->out));
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) path[n - 1] = '\0';
    fct_status st = fct_format(&j->checkpoint, "%s.checkpoint", path);
    fct_free(path);
    FCT_TRY(st);
    FCT_TRY(fct_cli_check_dir(j->out));
    FCT_TRY(fct_sae_check_place(j->out, FCT_SAE_SAELENS));
    if (!fct_cli_flag(c, "resume") && fct_sae_checkpoint_exists(j->checkpoint))
        return fct_fail(FCT_ERR_ARG,
                        "%s holds an interrupted training: continue it with --resume, or remove it "
                        "to start again",
                        j->checkpoint);
    return FCT_OK;
}

static fct_status train(job *j)
{
    fct_train_desc *desc = &j->member.desc;
    FCT_TRY(train_options_read(desc, j->c));
    desc->resume = j->checkpoint;
    desc->block = j->rows.stream[0].block;
    desc->model = j->rows.model;
    desc->model_hash = j->rows.model_hash;
    j->run = (fct_train_run){.stream = j->rows.source,
                             .held_out = j->rows.held,
                             .n_streams = 1,
                             .member = &j->member,
                             .n_members = 1};
    FCT_TRY(fct_sae_train_many(&j->run));
    fct_row_source *rows = &j->rows.source[0];
    FCT_TRY(rows->rewind(rows->self, 0));
    return fct_sae_measure_stats(j->member.sae, rows, 0, fct_cli_log(j->c));
}

static fct_status measure(job *j)
{
    fct_row_source *held = &j->rows.held[0];
    if (j->rows.stream[0].n_held == 0) return FCT_OK;
    FCT_TRY(held->rewind(held->self, 0));
    return fct_sae_measure_quality(j->member.sae, held, 0, &j->quality);
}

static void say(job *j)
{
    fct_cli *c = j->c;
    const fct_train_report *r = &j->member.report;
    bool held = j->rows.stream[0].n_held > 0;
    fct_cli_say(c,
                "%s: %" PRId64 " features, k %" PRId64 ", %" PRId64
                " dead, explained variance %.4f (last batch), %" PRId64 " steps, %.1f s",
                j->out, r->n_features, r->k, r->dead, r->ev, r->steps, r->seconds);
    if (held)
        fct_cli_say(
            c,
            "held out: explained variance %.4f, %.2f features a row, %.1f %% never active, %" PRId64
            " rows",
            j->quality.ev, j->quality.l0, 100 * j->quality.dead_share, j->quality.rows);
    fct_cli_put(c, "sae", json_string(j->out));
    fct_cli_put(c, "block", json_string(j->rows.stream[0].block));
    fct_cli_put(c, "train",
                json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "steps",
                          (json_int_t)r->steps, "rows", (json_int_t)r->rows, "n_features",
                          (json_int_t)r->n_features, "k", (json_int_t)r->k, "dead",
                          (json_int_t)r->dead, "loss", r->loss, "mse", r->mse, "aux", r->aux, "ev",
                          r->ev, "l0", r->l0, "loss_scale", r->loss_scale, "seconds", r->seconds));
    if (held)
        fct_cli_put(c, "held_out",
                    json_pack("{s:f, s:f, s:f, s:f, s:I}", "ev", j->quality.ev, "ev_total",
                              j->quality.ev_total, "l0", j->quality.l0, "dead_share",
                              j->quality.dead_share, "rows", (json_int_t)j->quality.rows));
}

static fct_status run(fct_cli *c)
{
    job j = {.c = c};
    fct_status st = FCT_OK;
    FCT_TRY_OUT(check_use(&j));
    FCT_TRY_OUT(train_rows_open(&j.rows, c, NULL, 0));
    st = train(&j);
    if (st == FCT_ERR_STOPPED && fct_sae_checkpoint_exists(j.checkpoint))
        fct_cli_note(c, "the same command with --resume goes on from here");
    if (st != FCT_OK) goto out;
    FCT_TRY_OUT(measure(&j));
    FCT_TRY_OUT(fct_sae_save(j.member.sae, j.out, NULL));
    fct_sae_checkpoint_remove(j.checkpoint); /* it has served */
    say(&j);
out:
    fct_train_run_clear(&j.run);
    train_rows_close(&j.rows);
    fct_free(j.checkpoint);
    return st;
}

const fct_cli_command fct_cmd_train = {
    .name = "train",
    .summary = "train a sparse autoencoder on a store's rows",
    .text =
        "Writes cfg.json, sae_weights.safetensors (SAELens), facet.json (how it was made) and "
        "stats.safetensors (density, mean, std, max of every feature, "
        "from one more pass with the finished weights). The folder appears whole or not at all.",
    .examples = "facet train --store store --block up.0.1 --preset demo --steps 300 -o sae",
    .options = {train_options, train_variant_options, fct_cli_common},
    .run = run,
};

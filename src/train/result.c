/* result.c - makes the result of a training: the SAE, of mixed blocks one a block, with the
   facet.json that says how it was made, and the report. */
#include <string.h>

#include "train/train.h"
#include "train/variant.h"

static fct_status replace(char **text, const char *by)
{
    if (!by) return FCT_OK;
    fct_free(*text);
    *text = NULL;
    return fct_strdup(text, by);
}

/* The other blocks that a mixed one has its features in common with. */
static fct_status put_others(json_t *j, const fct_train_plan *p, int64_t block)
{
    json_t *names = json_array();
    bool ok = names != NULL;
    for (int64_t i = 0; i < p->n_parts; i++)
        if (i != block) ok = json_array_append_new(names, json_string(p->part[i].name)) == 0 && ok;
    ok = json_object_set_new(j, "same_features_in", names) == 0 && ok;
    return ok ? FCT_OK : fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
}

static fct_status describe(fct_sae *s, const fct_trainee *t, const fct_train_desc *desc,
                           int64_t block, const char *data)
{
    json_t *options = NULL, *rows = NULL, *j = NULL;
    fct_str text = {0};
    fct_status st = FCT_OK;
    if (data) FCT_TRY(fct_json_parse(&rows, data, (int64_t)strlen(data), "the rows"));
    FCT_TRY_OUT(fct_train_plan_describe(&options, &t->plan, s->d));
    j = json_pack("{s:s, s:s?, s:s, s:s, s:i, s:f, s:I, s:I, s:I, s:o, s:O*}", "facet_version",
                  fct_version(), "model_hash", desc->model_hash, "backend", t->engine.cx.be->name,
                  "dtype", "f32", "threads", fct_threads(), "loss_scale", t->plan.loss_scale,
                  "seed", (json_int_t)t->plan.seed, "steps", (json_int_t)t->now.step, "rows",
                  (json_int_t)(t->now.step * t->plan.batch), "training", options, "data", rows);
    if (!j || (!fct_dist_alone(t->plan.ranks) &&
               json_object_set_new(j, "ranks", json_integer(t->plan.ranks->size)) != 0)) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
        goto out;
    }
    if (t->plan.mixed) FCT_TRY_OUT(put_others(j, &t->plan, block));
    FCT_TRY_OUT(fct_json_text(&text, j, 0));
    FCT_TRY_OUT(replace(&s->facet_json, text.p));
    FCT_TRY_OUT(replace(&s->block, t->plan.mixed      ? t->plan.part[block].name
                                   : s->n_blocks == 0 ? desc->block
                                                      : NULL));
    FCT_TRY_OUT(replace(&s->model, desc->model));
out:
    json_decref(rows);
    json_decref(j);
    fct_str_clear(&text);
    return st;
}

fct_status fct_train_finish(fct_train_member *m, fct_trainee *t, const char *data, double seconds,
                            const fct_log *log)
{
    m->report = (fct_train_report){.steps = t->now.step,
                                   .rows = t->now.step * t->plan.batch,
                                   .n_features = t->plan.f,
                                   .k = t->plan.k,
                                   .dead = t->now.n_dead,
                                   .loss = t->now.loss,
                                   .mse = t->now.mse,
                                   .aux = t->now.aux,
                                   .ev = t->now.ev,
                                   .l0 = t->now.l0,
                                   .loss_scale = t->plan.loss_scale,
                                   .seconds = seconds};
    m->metrics = t->metrics;
    m->n_metrics = t->n_metrics;
    t->metrics = NULL;
    if (t->lost) return fct_strdup(&m->lost, t->lost);
    int64_t blocks = fct_train_plan_mixed(&t->plan);
    FCT_TRY(fct_new(&m->more, blocks - 1, sizeof *m->more));
    m->n_more = blocks - 1;
    for (int64_t b = 0; b < blocks; b++) {
        fct_sae **out = b == 0 ? &m->sae : &m->more[b - 1];
        FCT_TRY(fct_trainee_export_block(t, b, out));
        FCT_TRY(describe(*out, t, &m->desc, b, data));
    }
    if (t->now.ev < 0 || t->now.fvu > 1) /* without any active feature ev is 0 up to rounding */
        fct_option_log(
            log, FCT_LOG_WARN, t->plan.spelling,
            "%s%sthe SAE explains less than nothing (explained variance %.4g, worse than "
            "the rows' mean): a smaller {lr}, or more steps",
            t->name ? t->name : "", t->name ? ": " : "", t->now.ev);
    return FCT_OK;
}

void fct_train_member_forget(fct_train_member *m)
{
    m->sae = NULL;
    m->lost = NULL;
    m->metrics = NULL;
    m->n_metrics = 0;
    m->more = NULL;
    m->n_more = 0;
}

void fct_train_run_clear(fct_train_run *run)
{
    for (int64_t i = 0; i < run->n_members; i++) {
        fct_train_member *m = &run->member[i];
        fct_sae_free(m->sae);
        for (int64_t k = 0; k < m->n_more; k++) fct_sae_free(m->more[k]);
        fct_free(m->more);
        fct_free(m->lost);
        fct_free(m->metrics);
        fct_train_member_forget(m);
    }
}

/* summary.c - writes the truth protocol's figures as JSON, into summary.json and for callers. */
#include <string.h>

#include "eval/truth/truth.h"

static json_t *number(double x)
{
    return json_real(x);
}

static fct_status put_card(json_t *list, const fct_truth_result *r, const fct_truth_card *c)
{
    const char *word = c->factor < 0 ? NULL : fct_world_word(r->world, c->factor, c->value);
    json_t *o = json_pack("{s:I, s:b, s:s?, s:s?, s:o, s:o, s:o, s:o}", "feature",
                          (json_int_t)c->feature, "chosen", c->chosen, "word", word, "factor",
                          c->factor < 0 ? NULL : r->world->factor[c->factor].name, "read_clean",
                          number(c->share[FCT_TRUTH_CLEAN]), "read_painted",
                          number(c->share[FCT_TRUTH_PAINTED]), "read_random_direction",
                          number(c->share[FCT_TRUTH_DIRECTION]), "read_random_feature",
                          number(c->share[FCT_TRUTH_OTHER]));
    if (!o) return fct_fail(FCT_ERR_MEMORY, "the summary");
    int bad = json_object_set_new(o, "pairs", json_integer((json_int_t)c->n_pairs));
    bad |= json_object_set_new(o, "strength", number(c->strength));
    bad |= json_object_set_new(o, "guess_clean", number(c->guess[FCT_TRUTH_CLEAN]));
    bad |= json_object_set_new(o, "guess_painted", number(c->guess[FCT_TRUTH_PAINTED]));
    bad |= json_object_set_new(o, "guess_random_direction", number(c->guess[FCT_TRUTH_DIRECTION]));
    bad |= json_object_set_new(o, "guess_random_feature", number(c->guess[FCT_TRUTH_OTHER]));
    bad |= json_object_set_new(o, "mask", json_string(c->at_object ? "object" : "whole"));
    bad |= json_object_set_new(o, "f1_chosen", number(c->chosen_f1.f1));
    bad |= json_object_set_new(o, "f1_held_out", number(c->held_f1.f1));
    bad |= json_object_set_new(o, "f1_shuffled", number(c->floor_f1));
    bad |= json_object_set_new(o, "ablation_removes",
                               c->removed < 0 ? json_null() : number(c->removed));
    bad |= json_array_append_new(list, o);
    return bad ? fct_fail(FCT_ERR_MEMORY, "the summary") : FCT_OK;
}

static json_t *factor_shares(const fct_truth_result *r, const double *share)
{
    json_t *o = json_object();
    for (int64_t f = 0; o && f < r->world->n_factors; f++)
        if (r->n_named[f] > 0 &&
            json_object_set_new(o, r->world->factor[f].name, number(share[f])) != 0)
            return NULL;
    return o;
}

static fct_status put_block(json_t *blocks, const fct_truth_result *r, const fct_truth_block *b)
{
    json_t *cards = json_array();
    json_t *o = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o}", "ev", number(b->quality.ev),
        "l0", number(b->quality.l0), "dead_share", number(b->quality.dead_share), "change_zeroed",
        number(b->change_zeroed), "change_rebuilt", number(b->change_rebuilt), "ev_total",
        number(b->quality.ev_total), "features", (json_int_t)b->sae->f, "k", (json_int_t)b->sae->k,
        "named_read_zeroed", factor_shares(r, b->read_zeroed), "named_read_rebuilt",
        factor_shares(r, b->read_rebuilt), "cards", cards);
    if (!o || json_object_set_new(blocks, b->name, o) != 0)
        return fct_fail(FCT_ERR_MEMORY, "the summary");
    for (int64_t i = 0; i < b->n_cards; i++) FCT_TRY(put_card(cards, r, &b->card[i]));
    return FCT_OK;
}

/* Bytes as they stand in summary.json. */
fct_status fct_truth_summary(char **json, const fct_truth *t)
{
    const fct_truth_result *r = &t->result;
    fct_status st = FCT_OK;
    fct_str text = {0};
    json_t *blocks = json_object();
    json_t *root = json_pack(
        "{s:o, s:s, s:s, s:s?, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "blocks", blocks, "version",
        fct_version(), "model", r->model->name, "model_hash", r->model->hash, "seed",
        (json_int_t)r->seed, "pictures", (json_int_t)r->pictures, "seconds", number(r->seconds),
        "change_all_zeroed", number(r->change_all_zeroed), "change_unrelated",
        number(r->change_other_pair), "named_read_clean", factor_shares(r, r->read_clean),
        "named_read_all_zeroed", factor_shares(r, r->read_all_zeroed));
    *json = NULL;
    if (!root) return fct_fail(FCT_ERR_MEMORY, "the summary");
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++)
        if (r->block[b].sae) FCT_TRY_OUT(put_block(blocks, r, &r->block[b]));
    FCT_TRY_OUT(fct_json_text(&text, root, 2));
    FCT_TRY_OUT(fct_str_append(&text, "\n"));
    *json = text.p;
    text = (fct_str){0};
out:
    fct_str_clear(&text);
    json_decref(root);
    return st;
}

fct_status fct_truth_write_summary(fct_truth *t)
{
    char *path = NULL, *text = NULL;
    t->result.pictures = fct_truth_count_runs(t);
    t->result.seconds = fct_seconds() - t->started;
    FCT_TRY(fct_path_join(&path, t->dir, "summary.json"));
    fct_status st = fct_truth_summary(&text, t);
    if (st == FCT_OK) st = fct_file_write(path, text, (int64_t)strlen(text));
    fct_free(text);
    fct_free(path);
    return st;
}

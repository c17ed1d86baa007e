/* demo_summary.c - the demo's figures as JSON: DIR/summary.json, and the same for --json. */
#include "cli/demo.h"

static json_t *number(double x)
{
    return json_real(x);
}

static fct_status put_card(json_t *list, const demo *d, const demo_card *c)
{
    const char *word = c->factor < 0 ? NULL : demo_word_text(d, c->factor, c->value);
    json_t *o = json_pack(
        "{s:I, s:b, s:s?, s:s?, s:o, s:o, s:o, s:o}", "feature", (json_int_t)c->feature, "chosen",
        c->chosen, "word", word, "factor", c->factor < 0 ? NULL : d->world.factor[c->factor].name,
        "read_clean", number(c->share[DEMO_CLEAN]), "read_painted", number(c->share[DEMO_PAINTED]),
        "read_random_direction", number(c->share[DEMO_DIRECTION]), "read_random_feature",
        number(c->share[DEMO_OTHER]));
    if (!o) return fct_fail(FCT_ERR_MEMORY, "the summary");
    int bad = json_object_set_new(o, "pairs", json_integer((json_int_t)c->n_pairs));
    bad |= json_object_set_new(o, "strength", number(c->strength));
    bad |= json_object_set_new(o, "guess_clean", number(c->guess[DEMO_CLEAN]));
    bad |= json_object_set_new(o, "guess_painted", number(c->guess[DEMO_PAINTED]));
    bad |= json_object_set_new(o, "guess_random_direction", number(c->guess[DEMO_DIRECTION]));
    bad |= json_object_set_new(o, "guess_random_feature", number(c->guess[DEMO_OTHER]));
    bad |= json_object_set_new(o, "mask", json_string(c->at_object ? "object" : "whole"));
    bad |= json_object_set_new(o, "f1_chosen", number(c->chosen_f1.f1));
    bad |= json_object_set_new(o, "f1_held_out", number(c->held_f1.f1));
    bad |= json_object_set_new(o, "f1_shuffled", number(c->floor_f1));
    bad |= json_object_set_new(o, "ablation_removes",
                               c->removed < 0 ? json_null() : number(c->removed));
    bad |= json_array_append_new(list, o);
    return bad ? fct_fail(FCT_ERR_MEMORY, "the summary") : FCT_OK;
}

static json_t *factor_shares(const demo *d, const double *share)
{
    json_t *o = json_object();
    for (int64_t f = 0; o && f < d->world.n_factors; f++)
        if (d->n_named[f] > 0 &&
            json_object_set_new(o, d->world.factor[f].name, number(share[f])) != 0)
            return NULL;
    return o;
}

static fct_status put_block(json_t *blocks, const demo *d, const demo_block *b)
{
    json_t *cards = json_array();
    json_t *o = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o}", "ev", number(b->quality.ev),
        "l0", number(b->quality.l0), "dead_share", number(b->quality.dead_share), "change_zeroed",
        number(b->change_zeroed), "change_rebuilt", number(b->change_rebuilt), "ev_total",
        number(b->quality.ev_total), "features", (json_int_t)b->sae->f, "k", (json_int_t)b->sae->k,
        "named_read_zeroed", factor_shares(d, b->read_zeroed), "named_read_rebuilt",
        factor_shares(d, b->read_rebuilt), "cards", cards);
    if (!o || json_object_set_new(blocks, b->info->short_name, o) != 0)
        return fct_fail(FCT_ERR_MEMORY, "the summary");
    for (int64_t i = 0; i < b->n_cards; i++) FCT_TRY(put_card(cards, d, &b->card[i]));
    return FCT_OK;
}

fct_status demo_write_summary(demo *d)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *blocks = json_object();
    json_t *root =
        json_pack("{s:o, s:s, s:s, s:s?, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "blocks", blocks,
                  "version", fct_version(), "model", d->info->name, "model_hash", d->info->hash,
                  "seed", (json_int_t)d->seed, "pictures", (json_int_t)demo_runs(d), "seconds",
                  number(fct_seconds() - d->started), "change_all_zeroed",
                  number(d->change_all_zeroed), "change_unrelated", number(d->change_other_pair),
                  "named_read_clean", factor_shares(d, d->read_clean), "named_read_all_zeroed",
                  factor_shares(d, d->read_all_zeroed));
    if (!root) return fct_fail(FCT_ERR_MEMORY, "the summary");
    for (int64_t b = 0; b < DEMO_BLOCKS; b++) FCT_TRY_OUT(put_block(blocks, d, &d->block[b]));
    FCT_TRY_OUT(fct_path_join(&path, d->dir, "summary.json"));
    FCT_TRY_OUT(fct_json_write(root, path));
    fct_cli_put(d->cli, "summary", json_incref(root));
out:
    fct_free(path);
    json_decref(root);
    return st;
}

/* setup.c - opens what the truth protocol starts from: the model's world and checker, and three
   sets of prompts and seeds that share none. */
#include <string.h>

#include "eval/truth/truth.h"

static const char *const block_name[FCT_TRUTH_BLOCKS] = {"down.2.1", "mid.0", "up.0.0", "up.0.1"};

static const fct_truth_size full_size = {.train_prompts = 2500,
                                         .steps = 1000,
                                         .choose_pairs = 600,
                                         .show_pairs = 600,
                                         .chosen = 6,
                                         .drawn = 3,
                                         .top = FCT_TRUTH_MAX_TOP,
                                         .pairs = FCT_TRUTH_MAX_PAIRS,
                                         .trial_pairs = FCT_TRUTH_MAX_TRIALS,
                                         .block_pairs = FCT_TRUTH_MAX_BLOCK_PAIRS};
static const fct_truth_size quick_size = {.train_prompts = 64,
                                          .steps = 40,
                                          .choose_pairs = 48,
                                          .show_pairs = 48,
                                          .chosen = 2,
                                          .drawn = 1,
                                          .top = 3,
                                          .pairs = 3,
                                          .trial_pairs = 1,
                                          .block_pairs = 3};

enum { SEED_CHOOSE = 100000, SEED_SHOW = 200000 }; /* training uses seeds from 0 on */

/* Captions take turns between the two sets, so that no caption is in both; more pairs than
   captions: each caption again with another seed. */
static fct_status make_set(fct_truth *t, fct_truth_clean *c, fct_truth_set *set, int64_t part,
                           int64_t n, uint64_t seed)
{
    int64_t captions = t->held.n / 2;
    if (captions < FCT_TRUTH_MAX_PAIRS)
        return fct_fail(FCT_ERR_ARG, "prompts/heldout.txt: want at least %d prompts",
                        2 * FCT_TRUTH_MAX_PAIRS);
    FCT_TRY(fct_new(&set->pair, n, sizeof *set->pair));
    set->n = n;
    c->set = set;
    FCT_TRY(fct_new(&c->saved, n, sizeof *c->saved));
    FCT_TRY(fct_new(&c->wanted, n, sizeof *c->wanted));
    FCT_TRY(fct_new(&c->wanted_saved, n, sizeof *c->wanted_saved));
    for (int64_t i = 0; i < n; i++) {
        fct_truth_pair *p = &set->pair[i];
        p->prompt = t->held.item[2 * (i % captions) + part].text;
        p->seed = t->result.seed + seed + (uint64_t)i;
        fct_world_read_caption(&t->world, p->prompt, p->named);
    }
    return FCT_OK;
}

static fct_status read_prompts(fct_prompts *out, const char *folder, const char *name)
{
    char *path = NULL;
    FCT_TRY(fct_format(&path, "%s/prompts/%s", folder, name));
    fct_status st = fct_prompts_read(out, path);
    fct_free(path);
    return st;
}

/* The checker must know the world's factors and values by the same names. */
static fct_status match_heads(fct_truth *t)
{
    int64_t n;
    const fct_checker_head *heads = fct_checker_heads(t->checker, &n);
    for (int64_t f = 0; f < t->world.n_factors; f++) {
        const fct_world_factor *factor = &t->world.factor[f];
        int64_t h = fct_checker_find(t->checker, factor->name);
        if (h < 0)
            return fct_fail(FCT_ERR_MISSING, "the checker has no head for the world's factor %s",
                            factor->name);
        t->head[f] = h;
        bool same = heads[h].size == factor->n_values;
        for (int64_t v = 0; same && v < factor->n_values; v++)
            same = strcmp(heads[h].value[v], factor->value[v].name) == 0;
        if (!same)
            return fct_fail(FCT_ERR_FORMAT, "%s: the checker and world.json name other values",
                            factor->name);
    }
    return FCT_OK;
}

static fct_status open_world(fct_truth *t)
{
    const fct_model_info *info = t->result.model;
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, info->path, "world.json"));
    fct_status st = fct_world_load(&t->world, path);
    fct_free(path);
    FCT_TRY(st);
    FCT_TRY(fct_path_join(&path, info->path, "checker"));
    st = fct_checker_load(&t->checker, path, info->backend);
    fct_free(path);
    FCT_TRY(st);
    return match_heads(t);
}

static fct_status open_blocks(fct_truth *t)
{
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++) {
        const fct_block_info **found = NULL;
        int64_t n = 0;
        FCT_TRY(fct_model_find_blocks(&found, &n, t->model, block_name[b]));
        t->result.block[b].name = found[0]->short_name;
        t->result.block[b].best_card = -1;
        fct_free(found);
    }
    return FCT_OK;
}

static fct_status open_sets(fct_truth *t)
{
    fct_truth_result *r = &t->result;
    FCT_TRY(read_prompts(&t->train, r->model->path, "train.txt"));
    FCT_TRY(read_prompts(&t->held, r->model->path, "heldout.txt"));
    r->n_train = t->train.n < r->size.train_prompts ? t->train.n : r->size.train_prompts;
    r->choose.name = "choose";
    r->show.name = "show";
    FCT_TRY(make_set(t, &t->choose, &r->choose, 0, r->size.choose_pairs, SEED_CHOOSE));
    return make_set(t, &t->show, &r->show, 1, r->size.show_pairs, SEED_SHOW);
}

fct_status fct_truth_open(fct_truth **out, const fct_truth_desc *desc)
{
    fct_status st = FCT_OK;
    fct_truth *t = NULL;
    *out = NULL;
    FCT_TRY(fct_new(&t, 1, sizeof *t));
    t->log = desc->log;
    t->started = fct_seconds();
    t->model = desc->model;
    t->result.model = fct_model_get_info(desc->model);
    t->result.world = &t->world;
    t->result.seed = desc->seed;
    t->result.size = desc->quick ? quick_size : full_size;
    FCT_TRY_OUT(fct_strdup(&t->dir, desc->out));
    FCT_TRY_OUT(fct_where(open_world(t), "%s: this model brings no world with a checker",
                          t->result.model->path));
    FCT_TRY_OUT(open_sets(t));
    FCT_TRY_OUT(open_blocks(t));
    *out = t;
    t = NULL;
out:
    fct_truth_close(t);
    return st;
}

static void clear_set(fct_truth_clean *c)
{
    for (int64_t i = 0; c->set && i < c->set->n; i++) fct_free(c->set->pair[i].clean);
    if (c->set) fct_free(c->set->pair);
    fct_free(c->saved);
    fct_free(c->wanted);
    fct_free(c->wanted_saved);
}

void fct_truth_close(fct_truth *t)
{
    if (!t) return;
    fct_truth_workers_close(t);
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++) {
        fct_free(t->result.block[b].index);
        fct_free(t->result.block[b].value);
        fct_free(t->result.block[b].level[0]);
        fct_free(t->result.block[b].level[1]);
    }
    clear_set(&t->choose);
    clear_set(&t->show);
    fct_sae_set_clear(&t->saes);
    fct_sae_set_clear(&t->controls);
    fct_prompts_clear(&t->train);
    fct_prompts_clear(&t->held);
    fct_checker_free(t->checker);
    fct_world_clear(&t->world);
    fct_free(t->dir);
    fct_free(t);
}

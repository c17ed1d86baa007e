/* demo_setup.c - what `facet demo` starts from: the model, its world, the checker, and pairs of
 * prompt and seed. */
#include <string.h>

#include "cli/demo.h"

static const char *const block_name[DEMO_BLOCKS] = {"down.2.1", "mid.0", "up.0.0", "up.0.1"};

static const demo_size full_size = {.train_prompts = 2500,
                                    .steps = 1000,
                                    .choose_pairs = 600,
                                    .show_pairs = 600,
                                    .chosen = 6,
                                    .drawn = 3,
                                    .top = DEMO_TOP,
                                    .pairs = DEMO_PAIRS,
                                    .trial_pairs = DEMO_TRIALS,
                                    .block_pairs = DEMO_BLOCK_PAIRS};
static const demo_size quick_size = {.train_prompts = 64,
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
static fct_status make_set(demo *d, demo_set *set, const char *name, int64_t part, int64_t n,
                           uint64_t seed)
{
    int64_t captions = d->held.n / 2;
    if (captions < DEMO_PAIRS)
        return fct_fail(FCT_ERR_ARG, "prompts/heldout.txt: want at least %d prompts",
                        2 * DEMO_PAIRS);
    set->name = name;
    FCT_TRY(fct_new(&set->pair, n, sizeof *set->pair));
    set->n = n;
    for (int64_t i = 0; i < n; i++) {
        demo_pair *p = &set->pair[i];
        p->prompt = d->held.item[2 * (i % captions) + part].text;
        p->seed = d->seed + seed + (uint64_t)i;
        fct_world_read_caption(&d->world, p->prompt, p->named);
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

static fct_status open_world(demo *d)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, d->info->path, "world.json"));
    fct_status st = fct_world_load(&d->world, path);
    fct_free(path);
    FCT_TRY(st);
    FCT_TRY(fct_path_join(&path, d->info->path, "checker"));
    st = fct_checker_load(&d->checker, path, d->info->backend);
    fct_free(path);
    FCT_TRY(st);
    int64_t n;
    const fct_checker_head *heads = fct_checker_heads(d->checker, &n);
    for (int64_t f = 0; f < d->world.n_factors; f++) {
        const fct_world_factor *factor = &d->world.factor[f];
        int64_t h = fct_checker_find(d->checker, factor->name);
        if (h < 0)
            return fct_fail(FCT_ERR_MISSING, "the checker has no head for the world's factor %s",
                            factor->name);
        d->head[f] = h;
        bool same = heads[h].size == factor->n_values;
        for (int64_t v = 0; same && v < factor->n_values; v++)
            same = strcmp(heads[h].value[v], factor->value[v].name) == 0;
        if (!same)
            return fct_fail(FCT_ERR_FORMAT, "%s: the checker and world.json name other values",
                            factor->name);
    }
    return FCT_OK;
}

static fct_status open_blocks(demo *d)
{
    for (int64_t b = 0; b < DEMO_BLOCKS; b++) {
        const fct_block_info **found = NULL;
        int64_t n = 0;
        FCT_TRY(fct_model_find_blocks(&found, &n, d->model, block_name[b]));
        d->block[b].info = found[0];
        fct_free(found);
    }
    return FCT_OK;
}

fct_status demo_open(demo *d)
{
    bool quick = fct_cli_flag(d->cli, "quick");
    d->size = quick ? quick_size : full_size;
    char *path = NULL;
    FCT_TRY(fct_model_find(&path, fct_cli_text(d->cli, "model")));
    fct_model_desc desc = {.path = path,
                           .backend = fct_cli_text(d->cli, "backend"),
                           .precision = FCT_PRECISION_F32,
                           .log = d->log};
    fct_status st = fct_model_open(&d->model, &desc);
    if (st == FCT_OK)
        st = fct_session_open(&d->session, d->model, &(fct_session_desc){.log = d->log});
    fct_free(path);
    FCT_TRY(st);
    d->info = fct_model_get_info(d->model);
    st = open_world(d);
    if (st != FCT_OK)
        return fct_where(
            st, "%s: `facet demo` runs on the demo model, which brings its world and a checker",
            d->info->path);
    FCT_TRY(read_prompts(&d->train, d->info->path, "train.txt"));
    FCT_TRY(read_prompts(&d->held, d->info->path, "heldout.txt"));
    d->n_train = d->train.n < d->size.train_prompts ? d->train.n : d->size.train_prompts;
    FCT_TRY(make_set(d, &d->choose, "choose", 0, d->size.choose_pairs, SEED_CHOOSE));
    FCT_TRY(make_set(d, &d->show, "show", 1, d->size.show_pairs, SEED_SHOW));
    return open_blocks(d);
}

static void clear_set(demo_set *set)
{
    for (int64_t i = 0; i < set->n; i++) fct_free(set->pair[i].clean);
    fct_free(set->pair);
}

void demo_close(demo *d)
{
    demo_hands_close(d);
    for (int64_t b = 0; b < DEMO_BLOCKS; b++) {
        fct_free(d->block[b].index);
        fct_free(d->block[b].value);
        fct_free(d->block[b].level[0]);
        fct_free(d->block[b].level[1]);
    }
    clear_set(&d->choose);
    clear_set(&d->show);
    fct_sae_set_clear(&d->saes);
    fct_sae_set_clear(&d->controls);
    fct_prompts_clear(&d->train);
    fct_prompts_clear(&d->held);
    fct_checker_free(d->checker);
    fct_world_clear(&d->world);
    fct_session_close(d->session);
    fct_model_close(d->model);
}

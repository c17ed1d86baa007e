/* demo_learn.c - captures what the four blocks write, trains an SAE for each, and reads the codes
   of the held-out pictures.

   Rows come from stores on disk, as they would for any other model: DIR/store (training prompts)
   and DIR/store-heldout (the pairs of `choose`, then those of `show`). An interrupted capture goes
   on from its last full shard. */
#include "cli/demo.h"

static const char blocks[] = "down.2.1,mid.0,up.0.0,up.0.1";

static fct_status capture(demo *d, const fct_prompt *prompts, int64_t n, const char *folder)
{
    char *out = NULL;
    FCT_TRY(fct_path_join(&out, d->dir, folder));
    fct_capture_desc desc = {.session = d->session,
                             .prompts = prompts,
                             .n_prompts = n,
                             .blocks = blocks,
                             .seed = d->seed,
                             .out = out,
                             .log = d->log};
    fct_status st = fct_capture(&desc, NULL);
    fct_free(out);
    return st;
}

static fct_status capture_all(demo *d)
{
    fct_prompt *pairs = NULL;
    FCT_TRY(capture(d, d->train.item, d->n_train, "store"));
    int64_t n = d->choose.n + d->show.n;
    FCT_TRY(fct_new(&pairs, n, sizeof *pairs));
    for (int64_t i = 0; i < n; i++) {
        const demo_pair *p = i < d->choose.n ? &d->choose.pair[i] : &d->show.pair[i - d->choose.n];
        pairs[i] = (fct_prompt){.text = p->prompt, .seed = p->seed, .has_seed = true};
    }
    fct_status st = capture(d, pairs, n, "store-heldout");
    fct_free(pairs);
    return st;
}

static fct_status open_store(demo *d, fct_store **out, const char *folder)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, d->dir, folder));
    fct_status st = fct_store_open(out, path);
    fct_free(path);
    return st;
}

/* ---- training ---- */

static fct_status train_and_save(demo *d, demo_block *b, const fct_store *store, const char *dir)
{
    fct_status st = FCT_OK;
    fct_row_source rows = {0};
    fct_sae *sae = NULL;
    const char *name = b->info->short_name;
    FCT_TRY(fct_store_rows(
        &rows, store,
        &(fct_rows_desc){.block = name, .order = FCT_ORDER_SHUFFLED, .seed = d->seed}));
    fct_train_desc desc = {.preset = "demo",
                           .steps = d->size.steps,
                           .seed = d->seed,
                           .block = name,
                           .model = d->info->name,
                           .log = d->log};
    FCT_TRY_OUT(fct_sae_train(&sae, &rows, &desc, &b->report));
    FCT_TRY_OUT(rows.rewind(rows.self, 0));
    FCT_TRY_OUT(fct_sae_measure_stats(sae, &rows, 0, NULL, d->log));
    FCT_TRY_OUT(fct_sae_save(sae, dir, NULL));
out:
    rows.close(rows.self);
    fct_sae_free(sae);
    return fct_where(st, "%s", name);
}

/* The set reads the SAE back from the folder, so that recipes name a place where it really is. */
static fct_status train_block(demo *d, demo_block *b, const fct_store *store)
{
    char *dir = NULL, *text = NULL;
    FCT_TRY(fct_format(&dir, "%s/saes/%s", d->dir, b->info->short_name));
    fct_status st = train_and_save(d, b, store, dir);
    if (st == FCT_OK) st = fct_format(&text, "%s=%s", b->info->short_name, dir);
    if (st == FCT_OK) st = fct_sae_set_add(&d->saes, d->info, text);
    fct_free(text);
    fct_free(dir);
    return st;
}

/* ---- codes ---- */

/* Mean of every feature's map in each picture: level [F,n] from codes [n*grid,k]. */
static void measure_levels(float *level, const fct_sae *sae, const int32_t *index,
                           const float *value, int64_t n, int64_t grid)
{
    for (int64_t i = 0; i < n * grid * sae->k; i++)
        level[index[i] * n + i / (grid * sae->k)] += value[i] / (float)grid;
}

static fct_status encode_set(demo_block *b, const fct_store *store, int64_t at, int64_t first,
                             int64_t n, int part)
{
    const fct_sae *sae = b->sae;
    int64_t grid = b->grid_h * b->grid_w, rows = n * grid;
    float *x = NULL, *value = NULL;
    int32_t *index = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_new(&x, rows, sae->d * (int64_t)sizeof *x));
    FCT_TRY_OUT(fct_new(&index, rows, sae->k * (int64_t)sizeof *index));
    FCT_TRY_OUT(fct_new(&value, rows, sae->k * (int64_t)sizeof *value));
    FCT_TRY_OUT(fct_new(&b->level[part], sae->f, n * (int64_t)sizeof *b->level[part]));
    FCT_TRY_OUT(fct_store_read(store, at, first * grid, rows, x, NULL));
    FCT_TRY_OUT(fct_sae_encode(sae, x, rows, index, value));
    measure_levels(b->level[part], sae, index, value, n, grid);
    if (part == 1) { /* the maps of `show` are drawn later */
        b->index = index;
        b->value = value;
        index = NULL;
        value = NULL;
    }
out:
    fct_free(x);
    fct_free(index);
    fct_free(value);
    return st;
}

static fct_status measure_block(demo *d, demo_block *b, const fct_store *store)
{
    int64_t at = 0;
    FCT_TRY(fct_store_find_block(&at, store, b->info->short_name));
    const fct_store_block *info = &fct_store_get_info(store)->block[at];
    b->sae = fct_sae_set_find(&d->saes, b->info->name);
    b->grid_h = info->grid_h;
    b->grid_w = info->grid_w;
    FCT_TRY(encode_set(b, store, at, 0, d->choose.n, 0));
    FCT_TRY(encode_set(b, store, at, d->choose.n, d->show.n, 1));
    fct_row_source rows = {0};
    int64_t grid = b->grid_h * b->grid_w;
    FCT_TRY(fct_store_rows(&rows, store,
                           &(fct_rows_desc){.block = b->info->short_name,
                                            .first = d->choose.n * grid,
                                            .n = d->show.n * grid}));
    fct_status st = fct_sae_measure_quality(b->sae, &rows, 0, &b->quality);
    rows.close(rows.self);
    return st;
}

fct_status demo_learn(demo *d)
{
    fct_status st = FCT_OK;
    fct_store *train = NULL, *held = NULL;
    FCT_TRY(capture_all(d));
    FCT_TRY_OUT(open_store(d, &train, "store"));
    FCT_TRY_OUT(open_store(d, &held, "store-heldout"));
    for (int64_t i = 0; i < DEMO_BLOCKS; i++) {
        demo_block *b = &d->block[i];
        fct_log_line(d->log, FCT_LOG_INFO, "training the SAE of %s", b->info->short_name);
        FCT_TRY_OUT(train_block(d, b, train));
        FCT_TRY_OUT(measure_block(d, b, held));
        fct_log_line(d->log, FCT_LOG_INFO,
                     "%s: explained variance %.3f, %.1f features a position, %.0f %% never active, "
                     "on held-out pictures",
                     b->info->short_name, b->quality.ev, b->quality.l0,
                     100 * b->quality.dead_share);
    }
out:
    fct_store_close(train);
    fct_store_close(held);
    return st;
}

/* learn.c - captures what the four blocks write, trains an SAE for each, and reads the codes of the
   held-out pictures.

   Rows come from stores on disk, as they would for any other model: DIR/store (training prompts)
   and DIR/store-heldout (the pairs of `choose`, then those of `show`). An interrupted capture goes
   on from its last full shard. */
#include "eval/truth/truth.h"

static const char blocks[] = "down.2.1,mid.0,up.0.0,up.0.1";

static fct_status capture(fct_truth *t, fct_session *session, const fct_prompt *prompts, int64_t n,
                          const char *folder)
{
    char *out = NULL;
    FCT_TRY(fct_path_join(&out, t->dir, folder));
    fct_capture_desc desc = {.session = session,
                             .prompts = prompts,
                             .n_prompts = n,
                             .blocks = blocks,
                             .settings = &(fct_settings){.seed = t->result.seed},
                             .out = out,
                             .log = t->log};
    fct_status st = fct_capture(&desc, NULL);
    fct_free(out);
    return st;
}

static fct_status capture_pairs(fct_truth *t, fct_session *session)
{
    const fct_truth_set *choose = &t->result.choose, *show = &t->result.show;
    fct_prompt *pairs = NULL;
    int64_t n = choose->n + show->n;
    FCT_TRY(fct_new(&pairs, n, sizeof *pairs));
    for (int64_t i = 0; i < n; i++) {
        const fct_truth_pair *p = i < choose->n ? &choose->pair[i] : &show->pair[i - choose->n];
        pairs[i] = (fct_prompt){.text = p->prompt, .seed = p->seed, .has_seed = true};
    }
    fct_status st = capture(t, session, pairs, n, "store-heldout");
    fct_free(pairs);
    return st;
}

/* No run comes twice, so nothing of it is kept; the session's memory goes before training. */
static fct_status capture_all(fct_truth *t)
{
    fct_session *session = NULL;
    fct_session_desc desc = {.keep_bytes = FCT_NONE, .log = t->log};
    FCT_TRY(fct_session_open(&session, t->model, &desc));
    fct_status st = capture(t, session, t->train.item, t->result.n_train, "store");
    if (st == FCT_OK) st = capture_pairs(t, session);
    fct_session_close(session);
    return st;
}

static fct_status open_store(fct_truth *t, fct_store **out, const char *folder)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, t->dir, folder));
    fct_status st = fct_store_open(out, path);
    fct_free(path);
    return st;
}

/* ---- training ---- */

static fct_status train_and_save(fct_truth *t, fct_truth_block *b, const fct_store *store,
                                 const char *dir)
{
    fct_status st = FCT_OK;
    fct_row_source rows = {0};
    fct_sae *sae = NULL;
    const char *name = b->name;
    FCT_TRY(fct_store_rows(
        &rows, store,
        &(fct_rows_desc){.block = name, .order = FCT_ORDER_SHUFFLED, .seed = t->result.seed}));
    fct_train_desc desc = {.preset = "demo",
                           .steps = t->result.size.steps,
                           .seed = t->result.seed,
                           .block = name,
                           .model = t->result.model->name,
                           .log = t->log};
    FCT_TRY_OUT(fct_sae_train(&sae, &rows, &desc, &b->report));
    FCT_TRY_OUT(rows.rewind(rows.self, 0));
    FCT_TRY_OUT(fct_sae_measure_stats(sae, &rows, 0, NULL, t->log));
    FCT_TRY_OUT(fct_sae_save(sae, dir, NULL));
out:
    rows.close(rows.self);
    fct_sae_free(sae);
    return fct_where(st, "%s", name);
}

/* The set reads the SAE back from the folder, so that recipes name a place where it really is. */
static fct_status train_block(fct_truth *t, fct_truth_block *b, const fct_store *store)
{
    char *dir = NULL, *text = NULL;
    FCT_TRY(fct_format(&dir, "%s/saes/%s", t->dir, b->name));
    fct_status st = train_and_save(t, b, store, dir);
    if (st == FCT_OK) st = fct_format(&text, "%s=%s", b->name, dir);
    if (st == FCT_OK) st = fct_sae_set_add(&t->saes, t->result.model, text);
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

static fct_status encode_set(fct_truth_block *b, const fct_store *store, int64_t at, int64_t first,
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

static fct_status measure_block(fct_truth *t, fct_truth_block *b, const fct_store *store)
{
    int64_t at = 0;
    FCT_TRY(fct_store_find_block(&at, store, b->name));
    const fct_store_block *info = &fct_store_get_info(store)->block[at];
    b->sae = fct_sae_set_find(&t->saes, b->name);
    b->grid_h = info->grid_h;
    b->grid_w = info->grid_w;
    FCT_TRY(encode_set(b, store, at, 0, t->result.choose.n, 0));
    FCT_TRY(encode_set(b, store, at, t->result.choose.n, t->result.show.n, 1));
    fct_row_source rows = {0};
    int64_t grid = b->grid_h * b->grid_w;
    FCT_TRY(fct_store_rows(&rows, store,
                           &(fct_rows_desc){.block = b->name,
                                            .first = t->result.choose.n * grid,
                                            .n = t->result.show.n * grid}));
    fct_status st = fct_sae_measure_quality(b->sae, &rows, 0, &b->quality);
    rows.close(rows.self);
    return st;
}

fct_status fct_truth_learn(fct_truth *t)
{
    fct_status st = FCT_OK;
    fct_store *train = NULL, *held = NULL;
    FCT_TRY(capture_all(t));
    FCT_TRY_OUT(open_store(t, &train, "store"));
    FCT_TRY_OUT(open_store(t, &held, "store-heldout"));
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        fct_truth_block *b = &t->result.block[i];
        fct_log_line(t->log, FCT_LOG_INFO, "training the SAE of %s", b->name);
        FCT_TRY_OUT(train_block(t, b, train));
        FCT_TRY_OUT(measure_block(t, b, held));
        fct_log_line(t->log, FCT_LOG_INFO,
                     "%s: explained variance %.3f, %.1f features a position, %.0f %% never active, "
                     "on held-out pictures",
                     b->name, b->quality.ev, b->quality.l0, 100 * b->quality.dead_share);
    }
out:
    fct_store_close(train);
    fct_store_close(held);
    return st;
}

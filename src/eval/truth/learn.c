/* learn.c - captures what the four blocks write, trains an SAE for each, and reads the codes of the
   held-out pictures.

   Rows come from stores on disk, as they would for any other model: DIR/store (training prompts)
   and DIR/store-heldout (the pairs of `choose`, then those of `show`). An interrupted capture goes
   on from its last full shard. */
#include <string.h>

#include "eval/truth/truth.h"
#include "facet/index.h"

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
                           .backend = t->result.model->backend,
                           .log = t->log};
    const fct_measure_desc how = {.backend = desc.backend, .log = t->log};
    FCT_TRY_OUT(fct_sae_train(&sae, &rows, &desc, &b->report));
    FCT_TRY_OUT(rows.rewind(rows.self, 0));
    FCT_TRY_OUT(fct_sae_measure_stats(sae, &rows, &how));
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

/* A visitor of one set's pictures in the store: each feature's level in each, and the codes of
   those whose maps are drawn later. */
typedef struct reading {
    fct_truth_block *block;
    int64_t first, n; /* the set's place in the store */
    float *level;     /* [F,n] */
    bool keep;
} reading;

static bool is_read(const void *self, const char *block)
{
    return strcmp(((const reading *)self)->block->name, block) == 0;
}

/* The mean of every feature's map. */
static void add_levels(const reading *r, const fct_scan_codes *c, int64_t picture)
{
    int64_t grid = c->h * c->w;
    for (int64_t i = 0; i < grid * c->k; i++)
        r->level[c->index[i] * r->n + picture] += c->value[i] / (float)grid;
}

static fct_status read_codes(void *self, const fct_scan_codes *c)
{
    reading *r = self;
    int64_t picture = c->item->number - r->first, pairs = c->h * c->w * c->k;
    add_levels(r, c, picture);
    if (!r->keep) return FCT_OK;
    memcpy(r->block->index + picture * pairs, c->index, (size_t)pairs * sizeof *c->index);
    memcpy(r->block->value + picture * pairs, c->value, (size_t)pairs * sizeof *c->value);
    return FCT_OK;
}

/* part: 0 of `choose`, 1 of `show`. */
static fct_status read_set(const fct_truth *t, fct_truth_block *b, const fct_store *store, int part)
{
    const fct_sae *sae = b->sae;
    int64_t choose = t->result.choose.n;
    reading r = {.block = b,
                 .first = part ? choose : 0,
                 .n = part ? t->result.show.n : choose,
                 .keep = part == 1};
    FCT_TRY(fct_new(&b->level[part], sae->f, r.n * (int64_t)sizeof *b->level[part]));
    r.level = b->level[part];
    if (r.keep) {
        int64_t rows = r.n * b->grid_h * b->grid_w;
        FCT_TRY(fct_new(&b->index, rows, sae->k * (int64_t)sizeof *b->index));
        FCT_TRY(fct_new(&b->value, rows, sae->k * (int64_t)sizeof *b->value));
    }
    return fct_scan_store(store, &t->saes, &(fct_scan_store_desc){.first = r.first, .n = r.n},
                          &(fct_scan_visitor){.self = &r, .wants = is_read, .codes = read_codes},
                          1);
}

static fct_status measure_block(fct_truth *t, fct_truth_block *b, const fct_store *store)
{
    int64_t at = 0;
    const fct_measure_desc how = {.backend = t->result.model->backend};
    FCT_TRY(fct_store_find_block(&at, store, b->name));
    const fct_store_block *info = &fct_store_get_info(store)->block[at];
    b->sae = fct_sae_set_find(&t->saes, b->name);
    b->grid_h = info->grid_h;
    b->grid_w = info->grid_w;
    FCT_TRY(read_set(t, b, store, 0));
    FCT_TRY(read_set(t, b, store, 1));
    fct_row_source rows = {0};
    int64_t grid = b->grid_h * b->grid_w;
    FCT_TRY(fct_store_rows(&rows, store,
                           &(fct_rows_desc){.block = b->name,
                                            .first = t->result.choose.n * grid,
                                            .n = t->result.show.n * grid}));
    fct_status st = fct_sae_measure_quality(b->sae, &rows, &how, &b->quality);
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

/* test_sae_blocks.c - several blocks in one training, as a crosscoder and as one SAE for the rows
   of each: 20 steps against PyTorch, planted causes found again in the blocks that show them,
   restarts to the byte, what is saved, and what is refused. */
#include "facet/store.h"
#include "fct_test.h"
#include "golden.h"
#include "sae_once.h"
#include "train/variant.h"

/* ---- parity: tools/make_sae_block_goldens.py ---- */

enum { F = 40, BATCH = 32, STEPS = 20, K = 4, AUXK = 6, SHOWN = 16, MOST = BATCH * STEPS };

/* Rows [first, first + n) of both blocks as a batch has them: side by side, or one after the other.
 */
static void lay(float *out, const fct_tensor *const block[2], int64_t first, int64_t n, bool mixed)
{
    int64_t d = block[0]->dim[1] + (mixed ? 0 : block[1]->dim[1]), at = 0;
    for (int b = 0; b < 2; b++) {
        int64_t own = block[b]->dim[1];
        const float *from = (const float *)block[b]->data + first * own;
        for (int64_t r = 0; r < n; r++)
            memcpy(out + (mixed ? (b * n + r) * d : r * d + at), from + r * own,
                   (size_t)own * sizeof *out);
        at += own;
    }
}

static void check_saes(const fct_trainee *t, const fct_safetensors *g, const char *name, bool mixed,
                       const fct_tensor *const block[2], double *codes, double *rebuilt)
{
    static float rows[SHOWN * 16], z[SHOWN * F], out[SHOWN * 16];
    *codes = *rebuilt = 0;
    for (int b = 0; b < (mixed ? 2 : 1); b++) {
        fct_sae *s;
        char one[16], two[16];
        snprintf(one, sizeof one, "codes.%d", b);
        snprintf(two, sizeof two, "rebuilt.%d", b);
        assert_ok(fct_trainee_export_block(t, b, &s));
        if (mixed)
            memcpy(rows, block[b]->data, (size_t)(SHOWN * s->d) * sizeof *rows);
        else
            lay(rows, block, 0, SHOWN, false);
        assert_ok(once_dense(s, rows, SHOWN, z));
        assert_ok(once_rebuild(s, rows, SHOWN, out));
        double off = rel(z, golden(g, name, one)->data, NULL, SHOWN * F);
        if (off > *codes) *codes = off;
        off = rel(out, golden(g, name, two)->data, NULL, SHOWN * s->d);
        if (off > *rebuilt) *rebuilt = off;
        assert_int_equal(s->n_blocks, mixed ? 0 : 2);
        fct_sae_free(s);
    }
}

static void check_parity(const fct_safetensors *g, const char *name)
{
    static float rows[2 * MOST * 16];
    bool mixed = strncmp(name, "mixed", 5) == 0;
    const fct_tensor *const block[2] = {golden(g, name, "rows.0"), golden(g, name, "rows.1")};
    const fct_row_part part[2] = {{"down.2.1", block[0]->dim[1]}, {"up.0.1", block[1]->dim[1]}};
    int64_t d = part[0].d + (mixed ? 0 : part[1].d), each = mixed ? BATCH / 2 : BATCH;
    fct_train_plan p = {.preset = "unboxing",
                        .f = F,
                        .batch = BATCH,
                        .steps = STEPS,
                        .dead_rows = 3 * BATCH,
                        .lr = 2e-3,
                        .aux_coef = 1.0 / 32,
                        .eps = 6.25e-10,
                        .loss_scale = 1.7,
                        .lr_decay = FCT_LR_CONSTANT,
                        .normalize = mixed ? FCT_NORMALIZE_MEAN_NORM : FCT_NORMALIZE_NORM,
                        .part = part,
                        .n_parts = 2,
                        .mixed = mixed};
    fct_trainee t;
    assert_ok(fct_variant_find(&p.variant, strchr(name, '.') + 1));
    p.k = p.variant->has_k ? K : 0;
    p.auxk = p.variant->has_aux ? AUXK : 0;
    p.sparsity = p.variant->sparsity > 0 ? 0.05 : 0;
    assert_ok(fct_trainee_init(&t, &p, d, NULL));
    lay(rows, block, 0, MOST, mixed);
    assert_ok(fct_trainee_calibrate(&t, rows, mixed ? 2 * MOST : MOST));
    const char *const of[] = {"w_enc", "b_enc", "w_dec", "b_dec"};
    for (int w = 0; w < 4; w++) {
        char full[32];
        int64_t n;
        float *to = fct_trainee_param(&t, w, &n);
        snprintf(full, sizeof full, "start.%s", of[w]);
        memcpy(to, golden(g, name, full)->data, (size_t)n * sizeof *to);
    }
    const double *loss = golden(g, name, "loss")->data;
    double worst = 0, change = 0, codes, rebuilt;
    for (int step = 0; step < STEPS; step++) {
        lay(rows, block, step * each, each, mixed);
        assert_ok(fct_trainee_backward(&t, rows, false));
        assert_ok(fct_trainee_update(&t));
        double off = fabs(t.now.loss - loss[step]) / loss[step];
        if (off > worst) worst = off;
    }
    assert_true(t.now.n_dead > 0);
    for (int w = 0; w < 4; w++) {
        char full[32];
        int64_t n;
        const float *have = fct_trainee_param(&t, w, &n);
        snprintf(full, sizeof full, "start.%s", of[w]);
        double off = rel(have, golden(g, name, of[w])->data, golden(g, name, full)->data, n);
        if (off > change) change = off;
    }
    check_saes(&t, g, name, mixed, block, &codes, &rebuilt);
    print_message("%-20s losses %.1e, change %.1e, codes %.1e, rebuilt %.1e\n", name, worst, change,
                  codes, rebuilt);
    assert_true(worst < 2e-6);   /* seen 3e-7 */
    assert_true(change < 5e-5);  /* seen 3e-6 */
    assert_true(codes < 5e-6);   /* seen 1e-7 */
    assert_true(rebuilt < 5e-6); /* seen 2e-7 */
    fct_trainee_clear(&t);
}

static void test_parity(void **state)
{
    (void)state;
    fct_safetensors g;
    assert_ok(fct_safetensors_open(&g, test_path("golden/sae_blocks.safetensors")));
    check_parity(&g, "crosscoder.topk");
    check_parity(&g, "crosscoder.batchtopk");
    check_parity(&g, "crosscoder.relu");
    check_parity(&g, "mixed.topk");
    fct_safetensors_close(&g);
}

/* ---- causes that show in both blocks, or in one of them ---- */

enum { DA = 48, DB = 32, BOTH = 96, OWN = 48, CAUSES = BOTH + 2 * OWN, N = 20480, PF = 320 };
static const double scale_b = 20; /* block b's rows are so much longer */

static float a[N * DA], b[N * DB], dict_a[CAUSES * DA], dict_b[CAUSES * DB];

static void draw_unit(fct_rng *rng, float *x, int64_t n, int64_t d)
{
    fct_rng_normal(rng, x, n * d);
    for (int64_t r = 0; r < n; r++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++) sum += (double)x[r * d + i] * x[r * d + i];
        for (int64_t i = 0; i < d; i++) x[r * d + i] /= (float)sqrt(sum);
    }
}

/* Causes [0, BOTH) in both blocks, then OWN in a alone, then OWN in b alone; with `same` the blocks
 * have one width and one dictionary. */
static void plant(bool same)
{
    fct_rng rng;
    int db = same ? DA : DB;
    fct_rng_init(&rng, 7);
    draw_unit(&rng, dict_a, CAUSES, DA);
    draw_unit(&rng, dict_b, CAUSES, DB);
    for (int r = 0; r < N; r++) {
        float *x = a + r * DA, *y = same ? b + r % (N / 2) * DA : b + r * DB;
        for (int i = 0; i < DA; i++) x[i] = 0.3f * (float)(i % 3);
        for (int i = 0; i < db; i++) y[i] = (float)scale_b * (same ? -1 : 0.2f);
        for (int j = 0; j < 4; j++) {
            int64_t c = fct_rng_below(&rng, same ? BOTH : CAUSES),
                    c2 = same ? fct_rng_below(&rng, BOTH) : c;
            float z = (float)(1 + fct_rng_unit(&rng));
            for (int i = 0; i < DA && c < BOTH + OWN; i++) x[i] += z * dict_a[c * DA + i];
            for (int i = 0; i < db && (c2 < BOTH || c2 >= BOTH + OWN); i++)
                y[i] += (float)scale_b * z * (same ? dict_a[c2 * DA + i] : dict_b[c2 * DB + i]);
        }
    }
}

static void import(const char *block, float *rows, int64_t n, int64_t d)
{
    static char name[] = "rows";
    const char *const file[] = {temp_path("in.safetensors")};
    fct_tensor_entry e = {name, fct_tensor_of(rows, FCT_F32, 2, (int64_t[]){n, d})};
    assert_ok(fct_safetensors_write(file[0], &e, 1, NULL));
    assert_ok(fct_store_import(&(fct_import_desc){
        .files = file, .n_files = 1, .block = block, .out = temp_path("store")}));
}

static fct_train_desc planted_desc(const char *arch)
{
    return (fct_train_desc){.preset = "demo",
                            .arch = arch,
                            .n_features = PF,
                            .batch_size = 256,
                            .steps = 1600,
                            .lr = 4e-3,
                            .dead_rows = 20000,
                            .k = strcmp(arch, "relu") == 0 ? 0 : 4,
                            .sparsity = strcmp(arch, "relu") == 0 ? 0.12 : 0,
                            .seed = 1};
}

/* The feature whose direction, in units of each block's rows, is most like a cause. */
static double nearest(const fct_sae *s, int64_t cause, int64_t *out)
{
    double best = -1, sa = s->blocks[0].scale, sb = s->blocks[1].scale * scale_b;
    bool in_a = cause < BOTH + OWN, in_b = cause < BOTH || cause >= BOTH + OWN;
    double length = sqrt((in_a ? sa * sa : 0) + (in_b ? sb * sb : 0));
    for (int64_t f = 0; f < s->f; f++) {
        const float *w = s->w_dec + f * s->d;
        double dot = 0, own = 0;
        for (int i = 0; i < DA; i++) {
            double v = (double)w[i] * sa;
            own += v * v;
            if (in_a) dot += v * sa * dict_a[cause * DA + i];
        }
        for (int i = 0; i < DB; i++) {
            double v = (double)w[DA + i] * s->blocks[1].scale;
            own += v * v;
            if (in_b) dot += v * sb * dict_b[cause * DB + i];
        }
        if (own > 0 && dot / sqrt(own) / length > best) {
            best = dot / sqrt(own) / length;
            *out = f;
        }
    }
    return best;
}

static void test_planted_crosscoder(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        double floor, seen; /* of the mean greatest cosine, in the worst of the three groups */
    } row[] = {{"topk", 0.95, 0.990}, {"batchtopk", 0.95, 0.982}, {"relu", 0.95, 0.986}};
    fct_store *store;
    plant(false);
    import("down.2.1", a, N, DA);
    import("up.0.1", b, N, DB);
    assert_ok(fct_store_open(&store, temp_path("store")));
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        static float share[PF * 2];
        const struct {
            int64_t from, n;
        } group[3] = {{0, BOTH}, {BOTH, OWN}, {BOTH + OWN, OWN}};
        double found[3] = {0}, in_a[3] = {0}, worst = 1;
        fct_row_source rows;
        fct_train_desc desc = planted_desc(row[i].arch);
        fct_sae *s;
        fct_sae_quality q;
        assert_ok(fct_store_rows(
            &rows, store,
            &(fct_rows_desc){.block = "down.2.1,up.0.1", .order = FCT_ORDER_SHUFFLED, .seed = 1}));
        assert_ok(fct_sae_train(&s, &rows, &desc, NULL));
        assert_ok(rows.rewind(rows.self, 0));
        assert_ok(fct_sae_measure_quality(s, &rows, &(fct_measure_desc){.max_rows = 4096}, &q));
        fct_sae_block_share(s, share);
        for (int g = 0; g < 3; g++) {
            for (int64_t c = group[g].from; c < group[g].from + group[g].n; c++) {
                int64_t f = 0;
                found[g] += nearest(s, c, &f) / (double)group[g].n;
                in_a[g] += share[f * 2] / (double)group[g].n;
            }
            if (found[g] < worst) worst = found[g];
        }
        print_message("%-10s both %.3f, a alone %.3f, b alone %.3f (worst seen %.3f); share in a "
                      "%.3f %.3f %.3f; ev %.3f (a %.3f, b %.3f), l0 %.2f\n",
                      row[i].arch, found[0], found[1], found[2], row[i].seen, in_a[0], in_a[1],
                      in_a[2], q.ev, q.block_ev[0], q.block_ev[1], q.l0);
        assert_true(worst >= row[i].floor);
        assert_true(in_a[0] > 0.3 && in_a[0] < 0.7);
        assert_true(in_a[1] > 0.9 && in_a[2] < 0.1);
        assert_true(fabs(q.ev - (DA * q.block_ev[0] + DB * q.block_ev[1]) / (DA + DB)) < 1e-9);
        fct_sae_free(s);
        rows.close(rows.self);
    }
    fct_store_close(store);
    remove_tree(temp_path("store"));
}

/* One dictionary in two blocks of other length and mean: the same features in both. */
static void test_planted_mixed(void **state)
{
    (void)state;
    fct_store *store;
    plant(true);
    import("down.2.1", a, N / 2, DA);
    import("up.0.1", b, N / 2, DA);
    assert_ok(fct_store_open(&store, temp_path("store")));
    fct_row_source rows, one;
    fct_train_member m = {.desc = planted_desc("topk")};
    fct_train_run run = {.stream = &rows, .n_streams = 1, .member = &m, .n_members = 1};
    m.desc.mix_blocks = true;
    assert_ok(fct_store_rows(
        &rows, store,
        &(fct_rows_desc){.block = "down.2.1,up.0.1", .order = FCT_ORDER_SHUFFLED, .seed = 1}));
    assert_ok(fct_sae_train_many(&run));
    assert_int_equal(m.n_more, 1);
    const fct_sae *s = m.sae, *t = m.more[0];
    assert_string_equal(s->block, "down.2.1");
    assert_string_equal(t->block, "up.0.1");
    assert_memory_equal(s->w_dec, t->w_dec, (size_t)(s->f * s->d) * sizeof *s->w_dec);
    assert_memory_equal(s->w_enc, t->w_enc, (size_t)(s->f * s->d) * sizeof *s->w_enc);
    double found = 0, ev[2];
    for (int c = 0; c < BOTH; c++) {
        double best = 0;
        for (int64_t f = 0; f < s->f; f++) {
            const float *w = s->w_dec + f * DA;
            double dot = 0, own = 0;
            for (int i = 0; i < DA; i++) {
                dot += (double)w[i] * dict_a[c * DA + i];
                own += (double)w[i] * w[i];
            }
            if (own > 0 && dot / sqrt(own) > best) best = dot / sqrt(own);
        }
        found += best / BOTH;
    }
    for (int p = 0; p < 2; p++) {
        fct_sae_quality q;
        assert_ok(rows.rewind(rows.self, 0));
        assert_ok(fct_row_source_part(&one, &rows, p));
        assert_ok(
            fct_sae_measure_quality(p ? t : s, &one, &(fct_measure_desc){.max_rows = 4096}, &q));
        ev[p] = q.ev;
        one.close(one.self);
    }
    print_message("mixed      mean greatest cosine %.3f, ev %.3f and %.3f\n", found, ev[0], ev[1]);
    assert_true(found >= 0.95);
    assert_true(ev[0] > 0.9 && ev[1] > 0.9);
    fct_train_run_clear(&run);
    rows.close(rows.self);
    fct_store_close(store);
    remove_tree(temp_path("store"));
}

/* ---- restarts, what is saved, what is refused ---- */

enum { SMALL = 3000, SD = 6, SE = 4 };

static fct_store *small_store(void)
{
    fct_store *store;
    fct_rng rng;
    fct_rng_init(&rng, 3);
    fct_rng_normal(&rng, a, SMALL * SD);
    for (int i = 0; i < SMALL * SD; i++) b[i] = 5 * a[i] + 1;
    import("down.2.1", a, SMALL, SD);
    import("up.0.1", b, SMALL, SD);
    import("mid.0", b, SMALL, SE);
    assert_ok(fct_store_open(&store, temp_path("store")));
    return store;
}

static fct_train_desc small_desc(bool mixed, int64_t steps, const char *resume)
{
    return (fct_train_desc){.preset = "demo",
                            .n_features = 20,
                            .k = 3,
                            .batch_size = 64,
                            .steps = steps,
                            .lr_decay = FCT_LR_CONSTANT,
                            .mix_blocks = mixed,
                            .checkpoint_every = 10,
                            .resume = resume};
}

static void train_small(fct_train_run *run, const fct_store *store, bool mixed, int64_t steps,
                        const char *resume)
{
    static fct_row_source rows;
    static fct_train_member member;
    member = (fct_train_member){.desc = small_desc(mixed, steps, resume)};
    *run = (fct_train_run){
        .stream = &rows, .n_streams = 1, .member = &member, .n_members = 1, .held_out = NULL};
    assert_ok(fct_store_rows(&rows, store,
                             &(fct_rows_desc){.block = mixed ? "down.2.1,up.0.1" : "down.2.1,mid.0",
                                              .order = FCT_ORDER_SHUFFLED}));
    assert_ok(fct_sae_train_many(run));
    rows.close(rows.self);
}

static void assert_same(const fct_sae *x, const fct_sae *y)
{
    assert_memory_equal(x->w_enc, y->w_enc, (size_t)(x->f * x->d) * sizeof(float));
    assert_memory_equal(x->w_dec, y->w_dec, (size_t)(x->f * x->d) * sizeof(float));
    assert_memory_equal(x->b_enc, y->b_enc, (size_t)x->f * sizeof(float));
    assert_memory_equal(x->b_dec, y->b_dec, (size_t)x->d * sizeof(float));
}

static void test_restart(void **state)
{
    (void)state;
    fct_store *store = small_store();
    for (int mixed = 0; mixed < 2; mixed++) {
        char place[1024];
        fct_train_run run;
        snprintf(place, sizeof place, "%s", temp_path("checkpoint"));
        train_small(&run, store, mixed, 60, NULL);
        fct_sae *whole = run.member[0].sae, *other = mixed ? run.member[0].more[0] : NULL;
        run.member[0].sae = NULL;
        if (mixed) run.member[0].more[0] = NULL;
        fct_train_run_clear(&run);
        train_small(&run, store, mixed, 25, place);
        fct_train_run_clear(&run);
        train_small(&run, store, mixed, 60, place);
        assert_same(run.member[0].sae, whole);
        if (mixed) assert_same(run.member[0].more[0], other);
        if (!mixed)
            for (int i = 0; i < 2; i++)
                assert_true(run.member[0].sae->blocks[i].scale == whole->blocks[i].scale);
        fct_train_run_clear(&run);
        fct_sae_free(whole);
        fct_sae_free(other);
        fct_sae_checkpoint_remove(place);
    }
    fct_store_close(store);
    remove_tree(temp_path("store"));
}

static void test_saved(void **state)
{
    (void)state;
    fct_store *store = small_store();
    fct_train_run run;
    fct_sae *back, *slice;
    static float z[8 * 20], part_z[8 * 20], share[20 * 2];
    train_small(&run, store, false, 30, NULL);
    const fct_sae *s = run.member[0].sae;
    assert_ok(fct_sae_save(s, temp_path("cc"), NULL));
    assert_ok(fct_sae_load(&back, temp_path("cc"), NULL));
    assert_same(back, s);
    assert_int_equal(back->n_blocks, 2);
    assert_string_equal(back->blocks[0].name, "down.2.1");
    assert_int_equal(back->blocks[1].d, SE);
    assert_true(back->blocks[1].scale == s->blocks[1].scale && !back->block);
    fct_sae_block_share(back, share);
    for (int f = 0; f < 20; f++) assert_true(fabs(share[2 * f] + share[2 * f + 1] - 1) < 1e-6);
    /* a block's part: its products alone, the others at their bias */
    assert_ok(fct_sae_load(&slice, temp_path("cc"), "unet.mid_block.attentions.0"));
    assert_string_equal(slice->block, "mid.0");
    assert_int_equal(slice->d, SE);
    static float rows[8 * (SD + SE)], own[8 * SE];
    for (int r = 0; r < 8; r++) {
        memcpy(rows + r * (SD + SE), s->b_dec, SD * sizeof *rows);
        memcpy(rows + r * (SD + SE) + SD, b + r * SE, SE * sizeof *rows);
        memcpy(own + r * SE, b + r * SE, SE * sizeof *rows);
    }
    assert_ok(once_dense(s, rows, 8, z));
    assert_ok(once_dense(slice, own, 8, part_z));
    assert_true(rel(part_z, z, NULL, 8 * 20) < 1e-6);
    fct_sae_free(slice);
    assert_fails(FCT_ERR_MISSING, "a crosscoder of down.2.1, mid.0, not of up.0.1",
                 fct_sae_load(&slice, temp_path("cc"), "up.0.1"));
    assert_fails(FCT_ERR_UNSUPPORTED, "no word for a crosscoder",
                 fct_sae_save_as(back, temp_path("x"), FCT_SAE_OPENAI));
    fct_sae_free(back);
    fct_train_run_clear(&run);
    fct_store_close(store);
    remove_tree(temp_path("cc"));
    remove_tree(temp_path("store"));
}

static void test_refused(void **state)
{
    (void)state;
    fct_store *store = small_store();
    static const struct {
        const char *blocks, *says;
        fct_train_desc desc;
        fct_status status;
    } row[] = {
        {"down.2.1,mid.0",
         "down.2.1 has rows of 6 numbers, mid.0 of 4",
         {.mix_blocks = true},
         FCT_ERR_SHAPE},
        {"down.2.1,up.0.1",
         "cannot have as many of each of 2 blocks: batch_size 62",
         {.mix_blocks = true, .batch_size = 63},
         FCT_ERR_ARG},
        {"down.2.1,mid.0", "k 30: want 1 to 20", {.k = 30, .n_features = 20}, FCT_ERR_ARG},
    };
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_row_source rows;
        fct_train_member m = {.desc = row[i].desc};
        fct_train_run run = {.stream = &rows, .n_streams = 1, .member = &m, .n_members = 1};
        m.desc.preset = "demo";
        if (!m.desc.batch_size) m.desc.batch_size = 64;
        assert_ok(fct_store_rows(&rows, store, &(fct_rows_desc){.block = row[i].blocks}));
        assert_fails(row[i].status, row[i].says, fct_sae_train_many(&run));
        fct_train_run_clear(&run);
        rows.close(rows.self);
    }
    fct_store_close(store);
    remove_tree(temp_path("store"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity),        cmocka_unit_test(test_planted_crosscoder),
        cmocka_unit_test(test_planted_mixed), cmocka_unit_test(test_restart),
        cmocka_unit_test(test_saved),         cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

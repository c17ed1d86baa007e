/* test_sae_train.c - training steps against PyTorch and against finite differences, checkpoints,
 * and what training is for. */
#include "fct_test.h"
#include "golden.h"
#include "train/step.h"
#include "train/train.h"

enum { N_PARAM = 4 }; /* of TopK */
static const char *const part_name[N_PARAM] = {"w_enc", "b_enc", "w_dec", "b_dec"};

/* ---- parity: tools/make_sae_goldens.py ---- */

static fct_sae *golden_start(const fct_safetensors *g)
{
    fct_sae *s;
    assert_ok(fct_sae_new(&s, FCT_SAE_TOPK, 24, 96, 4));
    float *const to[N_PARAM] = {s->w_enc, s->b_enc, s->w_dec, s->b_dec};
    for (int w = 0; w < N_PARAM; w++) {
        const fct_tensor *t = golden(g, "start", part_name[w]);
        memcpy(to[w], t->data, (size_t)fct_tensor_bytes(t));
    }
    return s;
}

static const fct_train_desc golden_options = {.k = 4,
                                              .auxk = 16,
                                              .batch_size = 64,
                                              .steps = 20,
                                              .dead_rows = 192,
                                              .lr = 1e-3,
                                              .loss_scale = 1.7,
                                              .log_every = 1};

static double change_error(const float *have, const float *want, const float *start, int64_t n)
{
    double miss = 0, change = 0;
    for (int64_t i = 0; i < n; i++) {
        miss += ((double)have[i] - want[i]) * ((double)have[i] - want[i]);
        change += ((double)want[i] - start[i]) * ((double)want[i] - start[i]);
    }
    return sqrt(miss / change);
}

/* Every way to take the same 20 steps. Observed: plain: losses within 2e-7, changes within 4e-6
   (w_dec), 7e-7 (the others); fast: losses within 6e-7, changes within 9e-6. */
static const struct {
    const char *name;
    fct_train_engine engine;
    fct_product product;
} ways[] = {
    {"plain", FCT_ENGINE_PLAIN, FCT_PRODUCT_F32},
    {"fast, f32", FCT_ENGINE_FAST, FCT_PRODUCT_F32},
    {"fast, bf16", FCT_ENGINE_FAST, FCT_PRODUCT_BF16},
    {"fast, int8", FCT_ENGINE_FAST, FCT_PRODUCT_INT8},
};

static void check_parity(const fct_safetensors *g, const char *kind, fct_aux_mode aux, size_t way)
{
    fct_sae *start = golden_start(g);
    fct_train_desc desc = golden_options;
    desc.aux = aux;
    desc.engine = ways[way].engine;
    fct_train_plan plan;
    fct_trainee t;
    assert_ok(fct_train_plan_init(&plan, &desc, 24, 1280, start));
    plan.product = ways[way].product; /* so few features would all be f32's */
    assert_ok(fct_trainee_init(&t, &plan, 24, start));
    assert_true((t.fast != NULL) == (ways[way].engine == FCT_ENGINE_FAST));
    const float *rows = fct_safetensors_find(g, "rows")->data;
    const double *loss = golden(g, kind, "loss")->data, *dead = golden(g, kind, "dead")->data,
                 *aux_loss = golden(g, kind, "aux")->data;
    double worst = 0;
    for (int step = 0; step < 20; step++) {
        assert_ok(fct_trainee_backward(&t, rows + step * 64 * 24, true));
        assert_ok(fct_trainee_update(&t));
        double off = fabs(t.now.loss - loss[step]) / loss[step];
        if (off > worst) worst = off;
        assert_int_equal(t.now.n_dead, (int)dead[step]);
        assert_true(fabs(t.now.aux - aux_loss[step]) <= 1e-5 * aux_loss[step]);
    }
    print_message("%s, %s: losses within %.2g;", kind, ways[way].name, worst);
    assert_true(worst < 3e-6);
    assert_true(t.now.n_dead > 0); /* else the aux term was not tested */
    for (int w = 0; w < N_PARAM; w++) {
        int64_t n;
        const float *have = fct_trainee_param(&t, w, &n);
        double off = change_error(have, golden(g, kind, part_name[w])->data,
                                  golden(g, "start", part_name[w])->data, n);
        print_message(" %s %.2g", part_name[w], off);
        assert_true(off < 1e-4);
    }
    print_message("\n");
    fct_trainee_clear(&t);
    fct_sae_free(start);
}

static void test_parity(void **state)
{
    (void)state;
    fct_safetensors g;
    assert_ok(fct_safetensors_open(&g, test_path("golden/sae_parity.safetensors")));
    for (size_t way = 0; way < FCT_COUNT(ways); way++) {
        check_parity(&g, "clean", FCT_AUX_CLEAN, way);
        check_parity(&g, "authors", FCT_AUX_SDXL_UNBOX, way);
    }
    /* The two kinds differ by more than the bound, so neither can pass for the other. */
    assert_true(change_error(golden(&g, "clean", "b_dec")->data,
                             golden(&g, "authors", "b_dec")->data,
                             golden(&g, "start", "b_dec")->data, 24) > 1e-3);
    fct_safetensors_close(&g);
}

static void test_median(void **state)
{
    (void)state;
    fct_safetensors g;
    float have[24];
    assert_ok(fct_safetensors_open(&g, test_path("golden/sae_parity.safetensors")));
    assert_ok(fct_sae_geometric_median(have, fct_safetensors_find(&g, "rows")->data, 1280, 24));
    const double *want = fct_safetensors_find(&g, "median")->data;
    for (int i = 0; i < 24; i++) assert_true(fabs(have[i] - want[i]) < 1e-6);
    fct_safetensors_close(&g);
}

/* ---- gradients against finite differences in f64 ---- */

enum { TD = 5, TF = 9, TK = 2, TA = 3, TB = 4 };

typedef struct tiny { /* the loss in f64, with what the gradient takes for constant */
    double w_enc[TF * TD], b_enc[TF], w_dec[TF * TD], b_dec[TD];
    double x[TB * TD], e[TB * TD], den, scale, coef;
    const fct_trainee *t;
    bool authors;
} tiny;

static void tiny_decode(const tiny *p, int row, const int32_t *index, int k, bool bias, double *out)
{
    for (int i = 0; i < TD; i++) out[i] = bias ? p->b_dec[i] : 0;
    for (int j = 0; j < k; j++) {
        int f = index[row * k + j];
        double z = p->b_enc[f];
        for (int i = 0; i < TD; i++) z += p->w_enc[f * TD + i] * (p->x[row * TD + i] - p->b_dec[i]);
        if (z > 0)
            for (int i = 0; i < TD; i++) out[i] += z * p->w_dec[f * TD + i];
    }
}

static double tiny_loss(const tiny *p)
{
    double mse = 0, miss = 0, out[TD];
    for (int r = 0; r < TB; r++) {
        tiny_decode(p, r, p->t->index, TK, true, out);
        for (int i = 0; i < TD; i++)
            mse += (out[i] - p->x[r * TD + i]) * (out[i] - p->x[r * TD + i]) / (TB * TD);
        tiny_decode(p, r, p->t->aux_index, TA, p->authors, out);
        for (int i = 0; i < TD; i++)
            miss += (out[i] - p->e[r * TD + i]) * (out[i] - p->e[r * TD + i]) / (TB * TD);
    }
    return p->scale * mse + p->coef * miss / p->den;
}

static void tiny_constants(tiny *p)
{
    double mean[TD] = {0}, out[TD];
    for (int r = 0; r < TB; r++) {
        tiny_decode(p, r, p->t->index, TK, true, out);
        for (int i = 0; i < TD; i++) {
            p->e[r * TD + i] = p->x[r * TD + i] - out[i] + (p->authors ? p->b_dec[i] : 0);
            mean[i] += p->e[r * TD + i] / TB;
        }
    }
    p->den = 0;
    for (int i = 0; i < TB * TD; i++)
        p->den += (p->e[i] - mean[i % TD]) * (p->e[i] - mean[i % TD]) / (TB * TD);
}

static void check_gradients(fct_aux_mode aux)
{
    fct_train_plan plan = {.preset = "unboxing",
                           .k = TK,
                           .auxk = TA,
                           .f = TF,
                           .batch = TB,
                           .steps = 1,
                           .dead_rows = 0,
                           .lr = 1e-3,
                           .aux_coef = 0.7,
                           .eps = 1e-8,
                           .loss_scale = 2.5,
                           .aux = aux,
                           .calibrate = true,
                           .seed = 11};
    fct_trainee t;
    fct_rng rng;
    float x[TB * TD], bias[TD + TF];
    tiny p = {
        .scale = plan.loss_scale, .coef = plan.aux_coef, .authors = aux == FCT_AUX_SDXL_UNBOX};
    assert_ok(fct_trainee_init(&t, &plan, TD, NULL));
    fct_rng_init(&rng, 5);
    fct_rng_normal(&rng, x, TB * TD);
    fct_rng_normal(&rng, bias, TD + TF);
    for (int i = 0; i < TD; i++) t.sae->b_dec[i] = 0.3f * bias[i];
    for (int i = 0; i < TF; i++) t.sae->b_enc[i] = 0.3f * bias[TD + i] + (i % 2 ? 0.4f : 0);
    /* dead from the start: those that were silent for more than 0 steps are all; so the aux term
     * takes the strongest of all */
    assert_ok(fct_trainee_backward(&t, x, true));
    assert_int_equal(t.now.n_dead, TF);
    for (int i = 0; i < TB * TD; i++) p.x[i] = x[i];
    double *const part[] = {p.w_enc, p.b_enc, p.w_dec, p.b_dec};
    for (int w = 0; w < N_PARAM; w++) {
        int64_t n;
        const float *from = fct_trainee_param(&t, w, &n);
        for (int64_t i = 0; i < n; i++) part[w][i] = from[i];
    }
    p.t = &t;
    tiny_constants(&p);
    assert_true(fabs(tiny_loss(&p) - t.now.loss) < 1e-6 * t.now.loss);
    for (int w = 0; w < N_PARAM; w++) {
        int64_t n;
        double miss = 0, size = 0, h = 1e-5;
        (void)fct_trainee_param(&t, w, &n);
        for (int64_t i = 0; i < n; i++) {
            double keep = part[w][i];
            part[w][i] = keep + h;
            double up = tiny_loss(&p);
            part[w][i] = keep - h;
            double slope = (up - tiny_loss(&p)) / (2 * h);
            part[w][i] = keep;
            miss += (t.grad[w][i] - slope) * (t.grad[w][i] - slope);
            size += slope * slope;
        }
        assert_true(size > 0);
        if (sqrt(miss / size) > 2e-6)
            fail_msg("gradient of %s is off by %g", part_name[w],
                     sqrt(miss / size)); /* observed: 3e-7 */
    }
    fct_trainee_clear(&t);
}

static void test_gradients(void **state)
{
    (void)state;
    check_gradients(FCT_AUX_CLEAN);
    check_gradients(FCT_AUX_SDXL_UNBOX);
}

/* ---- rows in memory, in a fixed order a pass ---- */

typedef struct memory {
    const float *rows;
    int64_t n, d, at, pass;
    float *turned;
} memory;

static fct_status memory_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    memory *m = self;
    *n = want < m->n - m->at ? want : m->n - m->at;
    *rows = m->rows + m->at * m->d;
    m->at += *n;
    return FCT_OK;
}

static fct_status memory_tell(void *self, uint8_t blob[64])
{
    memcpy(blob, &((memory *)self)->at, 8);
    return FCT_OK;
}

static fct_status memory_seek(void *self, const uint8_t blob[64])
{
    memcpy(&((memory *)self)->at, blob, 8);
    return FCT_OK;
}

static fct_status memory_rewind(void *self, int64_t pass)
{
    ((memory *)self)->at = 0;
    ((memory *)self)->pass = pass;
    return FCT_OK;
}

static fct_row_source source_of(memory *m)
{
    return (fct_row_source){.self = m,
                            .d = m->d,
                            .total = m->n,
                            .next = memory_next,
                            .tell = memory_tell,
                            .seek = memory_seek,
                            .rewind = memory_rewind};
}

/* Rows made of `n_true` directions (returned in dict), each there with probability p. */
static float *sparse_rows(int64_t n, int64_t d, int64_t n_true, double p, float *dict)
{
    fct_rng rng;
    float *rows;
    fct_rng_init(&rng, 17);
    fct_rng_normal(&rng, dict, n_true * d);
    for (int64_t f = 0; f < n_true; f++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++) sum += (double)dict[f * d + i] * dict[f * d + i];
        for (int64_t i = 0; i < d; i++) dict[f * d + i] /= (float)sqrt(sum);
    }
    assert_ok(fct_new(&rows, n * d, sizeof *rows));
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < d; i++) rows[r * d + i] = (float)(i % 3) * 0.3f;
        for (int64_t f = 0; f < n_true; f++) {
            if (fct_rng_unit(&rng) >= p) continue;
            float z = (float)(1 + fct_rng_unit(&rng));
            for (int64_t i = 0; i < d; i++) rows[r * d + i] += z * dict[f * d + i];
        }
    }
    return rows;
}

static void test_recovers(void **state)
{
    (void)state;
    enum { D = 32, TRUE_F = 48, N = 20480 };
    static float dict[TRUE_F * D];
    float *rows = sparse_rows(N, D, TRUE_F, 3.0 / TRUE_F, dict);
    memory m = {.rows = rows, .n = N, .d = D};
    fct_row_source source = source_of(&m);
    fct_sae *s;
    fct_train_report report;
    assert_ok(fct_sae_train(&s, &source,
                            &(fct_train_desc){.preset = "demo",
                                              .k = 4,
                                              .n_features = 96,
                                              .batch_size = 256,
                                              .steps = 1200,
                                              .dead_rows = 20000,
                                              .lr = 2e-3,
                                              .seed = 1},
                            &report));
    int found = 0;
    for (int f = 0; f < TRUE_F; f++) {
        double best = 0;
        for (int64_t g = 0; g < s->f; g++) {
            double dot = 0, norm = 0;
            for (int i = 0; i < D; i++) {
                dot += (double)dict[f * D + i] * s->w_dec[g * D + i];
                norm += (double)s->w_dec[g * D + i] * s->w_dec[g * D + i];
            }
            if (dot / sqrt(norm) > best) best = dot / sqrt(norm);
        }
        found += best > 0.95;
    }
    print_message("recovered %d of %d directions, ev %.4f, l0 %.2f, dead %d\n", found, TRUE_F,
                  report.ev, report.l0, (int)report.dead);
    assert_true(found >= TRUE_F * 9 / 10);
    assert_true(report.ev > 0.85); /* rows of more than 4 directions keep it from 1 */
    fct_sae_quality q;
    assert_ok(source.rewind(source.self, 0));
    assert_ok(fct_sae_measure_quality(s, &source, &(fct_measure_desc){.max_rows = 5000}, &q));
    assert_int_equal(q.rows, 5000);
    assert_true(q.ev > 0.85 && q.ev_total > 0.85 && q.l0 <= 4 && q.dead_share < 0.5);
    fct_sae_free(s);
    fct_free(rows);
}

/* Most features start far below zero: silent at once. Only the aux term reaches them. */
static int64_t dead_after(const float *rows, int64_t n, int64_t d, int64_t auxk)
{
    memory m = {.rows = rows, .n = n, .d = d};
    fct_row_source source = source_of(&m);
    fct_sae *start, *s;
    fct_train_report report;
    assert_ok(fct_sae_new(&start, FCT_SAE_TOPK, d, 64, 2));
    fct_rng rng;
    fct_rng_init(&rng, 4);
    fct_rng_normal(&rng, start->w_enc, 64 * d);
    memcpy(start->w_dec, start->w_enc, (size_t)(64 * d) * sizeof(float));
    fct_sae_normalise_decoder(start);
    for (int64_t i = 0; i < 64 * d; i++) start->w_enc[i] = start->w_dec[i] * (i / d < 8 ? 1 : 0.1f);
    for (int64_t f = 0; f < 8; f++) start->b_enc[f] = 0.5f; /* eight loud ones keep the rest out */
    assert_ok(fct_sae_save(start, temp_path("quiet"), NULL));
    fct_sae_free(start);
    assert_ok(fct_sae_train(&s, &source,
                            &(fct_train_desc){.init_from = temp_path("quiet"),
                                              .loss_scale = 1,
                                              .auxk = auxk,
                                              .batch_size = 128,
                                              .steps = 1500,
                                              .dead_rows = 1280,
                                              .lr = 1e-3},
                            &report));
    fct_sae_free(s);
    for (const char *const *name =
             (const char *const[]){"cfg.json", "facet.json", "sae_weights.safetensors", NULL};
         *name; name++) {
        char path[1100];
        snprintf(path, sizeof path, "%s/%s", temp_path("quiet"), *name);
        unlink(path);
    }
    rmdir(temp_path("quiet"));
    return report.dead;
}

static void test_revives(void **state)
{
    (void)state;
    enum { D = 32, N = 8192 };
    static float dict[64 * D];
    float *rows = sparse_rows(N, D, 64, 2.0 / 64, dict);
    int64_t without = dead_after(rows, N, D, -1), with = dead_after(rows, N, D, 32);
    print_message("dead of 64 without the aux term %d, with it %d\n", (int)without, (int)with);
    assert_true(without > 45);
    assert_true(with < 35); /* observed: 56 and 27 */
    fct_free(rows);
}

/* ---- stop and continue ---- */

/* The last checkpoint of 40 steps. */
static char *read_bytes(const char *dir, int64_t *n)
{
    char path[1100], *text;
    snprintf(path, sizeof path, "%s/checkpoint-000000000040.safetensors", dir);
    assert_ok(fct_file_read(&text, n, path));
    return text;
}

typedef struct stopper {
    int left;
    volatile int flag;
} stopper;

static void count_down(void *user, const char *what, int64_t done, int64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    stopper *s = user;
    if (s->left > 0 && --s->left == 0) s->flag = 1;
}

static void test_continues(void **state)
{
    (void)state;
    enum { D = 16, N = 1000 };
    static float dict[24 * D];
    float *rows = sparse_rows(N, D, 24, 2.0 / 24, dict);
    memory m = {.rows = rows, .n = N, .d = D};
    fct_row_source source = source_of(&m);
    fct_train_desc desc = {.preset = "demo",
                           .k = 3,
                           .n_features = 64,
                           .batch_size = 96,
                           .steps = 40,
                           .dead_rows = 400,
                           .checkpoint_every = 7,
                           .log_every = 5};
    fct_sae *whole, *part = NULL;
    desc.resume = temp_path("whole");
    assert_ok(fct_sae_train(&whole, &source, &desc, NULL));
    stopper stop = {.left = 17};
    fct_log log = {.user = &stop, .progress = count_down, .stop = &stop.flag};
    desc.resume = temp_path("part");
    desc.log_jsonl = temp_path("log.jsonl");
    desc.log = &log;
    assert_fails(FCT_ERR_STOPPED, "", fct_sae_train(&part, &source, &desc, NULL));
    assert_null(part);
    stop.flag = 0;
    desc.lr = 0.5;
    assert_fails(FCT_ERR_ARG, "lr",
                 fct_sae_train(&part, &source, &desc, NULL)); /* other options are refused */
    desc.lr = 0;
    m.at = 333; /* wherever the source stands */
    assert_ok(fct_sae_train(&part, &source, &desc, NULL));
    assert_memory_equal(whole->w_enc, part->w_enc, sizeof(float) * 64 * D);
    assert_memory_equal(whole->w_dec, part->w_dec, sizeof(float) * 64 * D);
    int64_t n[2], lines;
    char *a = read_bytes(temp_path("whole"), &n[0]), *b = read_bytes(temp_path("part"), &n[1]),
         *text;
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(a, b, (size_t)n[0]); /* moments, counters, place of the source as well */
    assert_ok(fct_file_read(&text, &lines, desc.log_jsonl));
    int count = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) count++;
    assert_int_equal(count, 9); /* steps 1, 5, 10 ... 40, each once */
    fct_free(a);
    fct_free(b);
    fct_free(text);
    fct_sae_free(part);
    /* Once more: finished already. */
    assert_ok(fct_sae_train(&part, &source, &desc, NULL));
    assert_memory_equal(whole->w_enc, part->w_enc, sizeof(float) * 64 * D);
    fct_sae_free(part);
    fct_sae_free(whole);
    /* A checkpoint that cannot be written is an error, and the one before stays. */
    desc.resume = temp_path("faulty");
    desc.log_jsonl = NULL;
    fct_fault_write(1);
    assert_fails(FCT_ERR_IO, "checkpoint", fct_sae_train(&part, &source, &desc, NULL));
    fct_fault_write(0);
    fct_sae_checkpoint_remove(temp_path("whole"));
    fct_sae_checkpoint_remove(temp_path("part"));
    fct_sae_checkpoint_remove(temp_path("faulty"));
    fct_free(rows);
}

/* ---- options ---- */

static void test_options(void **state)
{
    (void)state;
    static const struct {
        fct_train_desc desc;
        int64_t total;
        const char *says;
    } row[] = {
        {{.preset = "paper"}, 100000, "preset: want one of unboxing, demo, modern, found paper"},
        {{.preset = "demo", .k = 1000}, 100000, "k 1000"},
        {{.preset = "demo", .auxk = 1000}, 100000, "auxk 1000"},
        {{.preset = "demo", .expansion_factor = 1e-9}, 100000, "expansion factor"},
        {{.preset = "demo", .lr = -1}, 100000, "lr: want a number above 0 up to 10, found -1"},
        {{.preset = "demo", .batch_size = -1},
         100000,
         "batch_size: want a whole number from 1 to 16777216, found -1"},
        {{.preset = "demo"}, -1, "choose steps"},
        {{.preset = "demo"}, 1000, "do not fill one batch"},
        {{.preset = NULL}, 40960, "not trained on"},
    };
    fct_train_plan p;
    for (size_t i = 0; i < FCT_COUNT(row); i++)
        assert_fails(FCT_ERR_ARG, row[i].says,
                     fct_train_plan_init(&p, &row[i].desc, 16, row[i].total, NULL));
    assert_ok(fct_train_plan_init(&p, &(fct_train_desc){0}, 1280, 384000000, NULL));
    assert_int_equal(p.f, 5120);
    assert_int_equal(p.k, 10);
    assert_int_equal(p.auxk, 256);
    assert_int_equal(p.dead_rows / p.batch, 2441);
    assert_int_equal(p.calibration_rows, 40960);
    assert_int_equal(p.steps, (384000000 - 40960) / 4096);
    assert_false(p.train_calibration);
    assert_true(p.lr == 1e-4 && p.eps == 6.25e-10 && p.aux_coef == 1.0 / 32 &&
                p.aux == FCT_AUX_CLEAN);
    assert_true(fct_train_plan_lr(&p, p.steps - 1) == 1e-4);
    assert_ok(fct_train_plan_init(&p, &(fct_train_desc){.preset = "demo", .steps = 300}, 256,
                                  100000, NULL));
    assert_int_equal(p.calibration_rows, 25000);
    assert_true(p.train_calibration);
    assert_true(fct_train_plan_lr(&p, 200) == 1e-3 &&
                fabs(fct_train_plan_lr(&p, 250) - 5e-4) < 1e-12 && fct_train_plan_lr(&p, 299) > 0);
}

static void test_bad_rows(void **state)
{
    (void)state;
    static float rows[512 * 8];
    memory m = {.rows = rows, .n = 512, .d = 8};
    fct_row_source source = source_of(&m);
    fct_sae *s;
    fct_train_desc desc = {.preset = "demo", .k = 2, .batch_size = 64};
    assert_fails(FCT_ERR_RANGE, "all the same", fct_sae_train(&s, &source, &desc, NULL));
    fct_rng rng;
    fct_rng_init(&rng, 1);
    fct_rng_normal(&rng, rows, 512 * 8);
    rows[300 * 8] = NAN;
    assert_fails(FCT_ERR_RANGE, "not finite", fct_sae_train(&s, &source, &desc, NULL));
    rows[300 * 8] = 0;
    for (int64_t nth = 1; nth < 60; nth++) { /* any allocation may fail */
        fct_fault_alloc(nth);
        fct_status st = fct_sae_train(&s, &source, &desc, NULL);
        fct_fault_alloc(0);
        if (st == FCT_OK)
            fct_sae_free(s);
        else
            assert_int_equal(st, FCT_ERR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity),    cmocka_unit_test(test_median),
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_recovers),
        cmocka_unit_test(test_revives),   cmocka_unit_test(test_continues),
        cmocka_unit_test(test_options),   cmocka_unit_test(test_bad_rows),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

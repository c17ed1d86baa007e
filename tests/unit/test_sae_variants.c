/* test_sae_variants.c - every variant's step against PyTorch, plain and with all options in use,
 * and against finite differences; what variants refuse. */
#include "facet/store.h"
#include "fct_test.h"
#include "golden.h"
#include "sae_once.h"
#include "train/variant.h"

enum { D = 12, F = 40, B = 32, STEPS = 20, K = 4, AUXK = 6, GROUPS = 3 };
static const char *const part_name[FCT_PARAM_COUNT] = {"w_enc",        "b_enc", "w_dec", "b_dec",
                                                       "threshold_ln", "b_mag", "r_mag"};

/* ---- parity: tools/make_sae_variant_goldens.py ---- */

static const fct_tensor *find(const fct_safetensors *g, const char *one, const char *two,
                              const char *three)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", two, three);
    return golden(g, one, name);
}

static fct_train_plan golden_plan(const char *name, bool options)
{
    const fct_variant *v;
    assert_ok(fct_variant_find(&v, name));
    bool gated = strcmp(name, "gated") == 0,
         free_norm = strcmp(name, "relu") == 0 || strcmp(name, "topk") == 0;
    fct_train_plan p = {
        .preset = "unboxing",
        .variant = v,
        .k = v->has_k ? K : 0,
        .auxk = v->has_aux || options ? AUXK : 0,
        .f = F,
        .batch = B,
        .steps = STEPS,
        .dead_rows = 3 * B,
        .lr = 2e-3,
        .aux_coef = 1.0 / 32,
        .eps = 6.25e-10,
        .loss_scale = 1.7,
        .sparsity = v->sparsity == 0   ? 0
                    : v->has_threshold ? 0.02
                                       : 0.05,
        .bandwidth = 0.05,
        .init_threshold = 0.04,
        .groups = v->has_groups ? GROUPS : 0,
        .lr_decay = FCT_LR_CONSTANT,
    };
    if (!options) return p;
    p.k_start = v->has_k ? 8 : 0;
    p.k_warmup = v->has_k ? 10 : 0;
    p.sparsity_warmup = 7;
    p.lr_warmup = 5;
    p.lr_decay = FCT_LR_COSINE;
    p.lr_decay_steps = 9;
    p.grad_clip = gated ? 1.2 : 0.5;
    p.ema = 0.9;
    p.decoder_norm = free_norm ? FCT_DECODER_FREE : FCT_DECODER_UNIT;
    p.normalize = FCT_NORMALIZE_MEAN_NORM;
    return p;
}

static void start_from(fct_trainee *t, const fct_safetensors *g, const char *name,
                       const fct_train_plan *p)
{
    assert_ok(fct_trainee_init(t, p, D, NULL));
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        float *to = fct_trainee_param(t, w, &n);
        if (to) memcpy(to, find(g, name, "start.", part_name[w])->data, (size_t)n * sizeof *to);
    }
}

/* The bounds are what was seen, with a margin of about ten; see the printed lines. */
static void check_parity(const fct_safetensors *g, const char *variant, bool options)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", variant, options ? ".options" : "");
    fct_train_plan p = golden_plan(variant, options);
    fct_trainee t;
    start_from(&t, g, name, &p);
    const float *rows = find(g, name, "rows", "")->data;
    const double *loss = find(g, name, "loss", "")->data;
    double worst = 0, gradient = 0, change = 0;
    if (options) {
        float b_dec[D]; /* calibration would set it */
        memcpy(b_dec, t.sae->b_dec, sizeof b_dec);
        assert_ok(fct_trainee_calibrate(&t, rows, B * STEPS));
        memcpy(t.sae->b_dec, b_dec, sizeof b_dec);
    }
    for (int step = 0; step < STEPS; step++) {
        assert_ok(fct_trainee_backward(&t, rows + step * B * D, step % 3 == 0));
        for (int w = 0; w < FCT_PARAM_COUNT && step == 0; w++) {
            int64_t n;
            if (!fct_trainee_param(&t, w, &n)) continue;
            double off = rel(t.grad[w], find(g, name, "grad.", part_name[w])->data, NULL, n);
            if (off > gradient) gradient = off;
        }
        assert_ok(fct_trainee_update(&t));
        double off = fabs(t.now.loss - loss[step]) / loss[step];
        if (off > worst) worst = off;
    }
    assert_true(t.now.n_dead > 0); /* else the aux term was not tested */
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        if (!fct_trainee_param(&t, w, &n)) continue;
        double off = rel(fct_trainee_result(&t, w, &n),
                         find(g, name, options ? "mean." : "", part_name[w])->data,
                         find(g, name, "start.", part_name[w])->data, n);
        if (off > change) change = off;
    }
    print_message("%-18s losses %.1e, first gradient %.1e, change %.1e", name, worst, gradient,
                  change);
    if (strcmp(variant, "batchtopk") == 0 || strcmp(variant, "matryoshka") == 0) {
        double want = *(const double *)find(g, name, "threshold", "")->data;
        print_message(", threshold %.1e", fabs(t.now.running - want) / want);
        assert_true(fabs(t.now.running - want) < 1e-5 * want);
    }
    print_message("\n");
    assert_true(worst < 2e-6);
    assert_true(gradient < 3e-6);
    assert_true(change < 5e-5);
    fct_trainee_clear(&t);
}

static void test_parity(void **state)
{
    (void)state;
    static const char *const name[] = {"batchtopk", "jumprelu", "relu", "gated", "matryoshka"};
    fct_safetensors g;
    assert_ok(fct_safetensors_open(&g, test_path("golden/sae_variants.safetensors")));
    for (size_t i = 0; i < FCT_COUNT(name); i++) check_parity(&g, name[i], false);
    check_parity(&g, "topk", true);
    for (size_t i = 0; i < FCT_COUNT(name); i++) check_parity(&g, name[i], true);
    fct_safetensors_close(&g);
}

/* ---- gradients against finite differences in f64 ---- */

enum { TD = 5, TF = 12, TB = 6, TK = 3, TA = 3, TG = 3 };

typedef struct tiny { /* a variant's loss in f64, from the selections of the step it is compared
                         with */
    const fct_trainee *t;
    double p[FCT_PARAM_COUNT][TF * TD], x[TB * TD], target[TB * TD], spread;
    double frozen_dec[TF * TD], frozen_bias[TD];
    double slope[TB * TF]; /* jumprelu: what d loss/d z is, taken for constant at the thresholds */
    double theta[TF];      /* the thresholds of the step */
    bool thresholds;       /* the loss as the straight-through estimator sees it */
} tiny;

static double dot64(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double product(const tiny *m, int r, int f)
{
    double a[TD];
    for (int i = 0; i < TD; i++) a[i] = m->x[r * TD + i] - m->p[FCT_PARAM_B_DEC][i];
    return dot64(a, m->p[FCT_PARAM_W_ENC] + f * TD, TD);
}

/* Feature f's activation in row r, with what was kept in the step kept here. */
static double code(const tiny *m, int r, int f)
{
    double q = product(m, r, f), u = q + m->p[FCT_PARAM_B_ENC][f];
    if (!(m->t->z[r * TF + f] > 0)) return 0;
    if (m->t->plan.variant->has_magnitude)
        return exp(m->p[FCT_PARAM_R_MAG][f]) * q + m->p[FCT_PARAM_B_MAG][f];
    return u;
}

static double length_of(const tiny *m, int f)
{
    const double *w = m->p[FCT_PARAM_W_DEC] + f * TD;
    return sqrt(dot64(w, w, TD));
}

/* Mean square of what the features below `end` miss. */
static double miss(const tiny *m, int end)
{
    double sum = 0;
    for (int r = 0; r < TB; r++)
        for (int i = 0; i < TD; i++) {
            double out = m->p[FCT_PARAM_B_DEC][i] - m->x[r * TD + i];
            for (int f = 0; f < end; f++) out += code(m, r, f) * m->p[FCT_PARAM_W_DEC][f * TD + i];
            sum += out * out / (TB * TD);
        }
    return sum;
}

static double frozen_miss(const tiny *m)
{
    double sum = 0;
    for (int r = 0; r < TB; r++)
        for (int i = 0; i < TD; i++) {
            double out = m->frozen_bias[i] - m->x[r * TD + i];
            for (int f = 0; f < TF; f++) {
                double gate = product(m, r, f) + m->p[FCT_PARAM_B_ENC][f];
                out += (gate > 0 ? gate : 0) * m->frozen_dec[f * TD + i];
            }
            sum += out * out / (TB * TD);
        }
    return sum;
}

static double aux_term(const tiny *m)
{
    double sum = 0;
    for (int r = 0; r < TB; r++)
        for (int i = 0; i < TD; i++) {
            double out = -m->target[r * TD + i];
            for (int j = 0; j < TA; j++) {
                int f = m->t->aux_index[r * TA + j];
                double u = product(m, r, f) + m->p[FCT_PARAM_B_ENC][f];
                if (u > 0) out += u * m->p[FCT_PARAM_W_DEC][f * TD + i];
            }
            sum += out * out;
        }
    return sum / m->spread;
}

/* The share of a box of the bandwidth's width about u that lies above the threshold. */
static double blurred(const tiny *m, int r, int f)
{
    const fct_train_plan *p = &m->t->plan;
    double unit = sqrt(TD / p->loss_scale), theta = unit * exp(m->p[FCT_PARAM_THRESHOLD_LN][f]);
    double share = (m->t->pre[r * TF + f] - theta) / (p->bandwidth * unit) + 0.5;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static double tiny_loss(const tiny *m)
{
    const fct_train_plan *p = &m->t->plan;
    double penalty = 0, unit = sqrt(TD / p->loss_scale), smooth = 0;
    if (m->thresholds) { /* z jumps by theta, the count by one */
        for (int i = 0; i < TB * TF; i++)
            smooth +=
                blurred(m, i / TF, i % TF) * (m->slope[i] * m->theta[i % TF] + p->sparsity / TB);
        return smooth;
    }
    double loss = p->loss_scale * miss(m, TF) + p->aux_coef * aux_term(m);
    if (m->t->plan.variant->has_groups) {
        loss -= p->loss_scale * miss(m, TF);
        for (int g = 0; g < TG; g++) loss += p->loss_scale * miss(m, TF >> (TG - 1 - g)) / TG;
    }
    for (int r = 0; r < TB; r++)
        for (int f = 0; f < TF; f++) {
            double u = product(m, r, f) + m->p[FCT_PARAM_B_ENC][f];
            if (m->t->plan.variant->has_threshold)
                penalty += m->t->z[r * TF + f] > 0;
            else if (u > 0)
                penalty += u * length_of(m, f) / unit;
        }
    if (m->t->plan.variant->sparsity > 0) loss += p->sparsity * penalty / TB;
    if (m->t->plan.variant->has_magnitude) loss += p->loss_scale * frozen_miss(m);
    return loss;
}

/* What the gradient takes for constant. */
static void tiny_constants(tiny *m)
{
    double mean[TD] = {0};
    memcpy(m->frozen_dec, m->p[FCT_PARAM_W_DEC], sizeof m->frozen_dec);
    memcpy(m->frozen_bias, m->p[FCT_PARAM_B_DEC], sizeof m->frozen_bias);
    for (int r = 0; r < TB; r++)
        for (int i = 0; i < TD; i++) {
            double out = m->x[r * TD + i] - m->p[FCT_PARAM_B_DEC][i];
            for (int f = 0; f < TF; f++) out -= code(m, r, f) * m->p[FCT_PARAM_W_DEC][f * TD + i];
            m->target[r * TD + i] = out;
            mean[i] += out / TB;
        }
    for (int i = 0; i < TB * TD; i++)
        m->spread += (m->target[i] - mean[i % TD]) * (m->target[i] - mean[i % TD]);
    for (int f = 0; f < TF && m->t->threshold_ln; f++)
        m->theta[f] = sqrt(TD / m->t->plan.loss_scale) * exp(m->p[FCT_PARAM_THRESHOLD_LN][f]);
    for (int r = 0; r < TB; r++)
        for (int f = 0; f < TF; f++)
            for (int i = 0; i < TD; i++)
                m->slope[r * TF + f] -= m->t->plan.loss_scale * 2 / (TB * TD) *
                                        m->target[r * TD + i] * m->p[FCT_PARAM_W_DEC][f * TD + i];
}

static double off_by(tiny *m, int which)
{
    int64_t n;
    double off = 0, size = 0, h = 1e-6;
    (void)fct_trainee_param(m->t, which, &n);
    m->thresholds = which == FCT_PARAM_THRESHOLD_LN;
    for (int64_t i = 0; i < n; i++) {
        double keep = m->p[which][i];
        m->p[which][i] = keep + h;
        double up = tiny_loss(m);
        m->p[which][i] = keep - h;
        double slope = (up - tiny_loss(m)) / (2 * h);
        m->p[which][i] = keep;
        off += (m->t->grad[which][i] - slope) * (m->t->grad[which][i] - slope);
        size += slope * slope;
    }
    m->thresholds = false;
    assert_true(size > 0);
    return sqrt(off / size);
}

static void check_gradients(const char *name)
{
    fct_train_plan plan = golden_plan(name, false);
    fct_trainee t;
    fct_rng rng;
    float x[TB * TD], noise[TF * TD];
    tiny m = {.t = &t};
    plan.k = plan.k > 0 ? TK : 0;
    plan.auxk = TA;
    plan.f = TF;
    plan.batch = TB;
    plan.dead_rows = 0; /* all are dead, so the aux term takes the strongest of all */
    plan.aux_coef = 0.7;
    plan.bandwidth = 0.5;
    plan.init_threshold = 0.3;
    plan.sparsity = plan.sparsity > 0 ? 0.3 : 0;
    assert_ok(fct_trainee_init(&t, &plan, TD, NULL));
    fct_rng_init(&rng, 8);
    fct_rng_normal(&rng, x, TB * TD);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        float *at = fct_trainee_param(&t, w, &n);
        fct_rng_normal(&rng, noise, TF * TD);
        for (int64_t i = 0; i < n; i++) at[i] += 0.2f * noise[i];
    }
    assert_ok(fct_trainee_backward(&t, x, true));
    assert_int_equal(t.now.n_dead, TF);
    for (int i = 0; i < TB * TD; i++) m.x[i] = x[i];
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        const float *from = fct_trainee_param(&t, w, &n);
        for (int64_t i = 0; i < n; i++) m.p[w][i] = from[i];
    }
    tiny_constants(&m);
    if (fabs(tiny_loss(&m) - t.now.loss) > 2e-6 * t.now.loss)
        fail_msg("%s: loss %.9g, in f64 %.9g", name, t.now.loss, tiny_loss(&m));
    double worst = 0;
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        if (!fct_trainee_param(&t, w, &n)) continue;
        double off = off_by(&m, w);
        if (off > 3e-6) fail_msg("%s: gradient of %s is off by %g", name, part_name[w], off);
        if (off > worst) worst = off;
    }
    print_message("%s: gradients within %.1e of finite differences\n", name, worst);
    fct_trainee_clear(&t);
}

static void test_gradients(void **state)
{
    (void)state;
    static const char *const name[] = {"batchtopk", "jumprelu", "relu", "gated", "matryoshka"};
    for (size_t i = 0; i < FCT_COUNT(name); i++) check_gradients(name[i]);
}

/* ---- whole trainings ---- */

enum { RD = 10, RN = 1500, RB = 50 };
static const char *const all_names[] = {"topk", "batchtopk", "jumprelu",
                                        "relu", "gated",     "matryoshka"};

static float *make_rows(void)
{
    static float rows[RN * RD];
    fct_rng rng;
    fct_rng_init(&rng, 3);
    fct_rng_normal(&rng, rows, RN * RD);
    for (int i = 0; i < RN * RD; i++) rows[i] = rows[i] * (float)(1 + i % RD) + (float)(i % 3) - 4;
    return rows;
}

typedef struct broken { /* a source that breaks off, as a kill does: between two checkpoints */
    fct_row_source inner;
    int64_t left;
} broken;

static fct_status broken_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    broken *b = self;
    b->left -= want;
    if (b->left < 0) return fct_fail(FCT_ERR_IO, "cut off");
    return b->inner.next(b->inner.self, want, rows, n);
}
static fct_status broken_tell(void *self, uint8_t blob[64])
{
    broken *b = self;
    return b->inner.tell(b->inner.self, blob);
}
static fct_status broken_seek(void *self, const uint8_t blob[64])
{
    broken *b = self;
    return b->inner.seek(b->inner.self, blob);
}
static fct_status broken_rewind(void *self, int64_t pass)
{
    broken *b = self;
    return b->inner.rewind(b->inner.self, pass);
}

static fct_status run(fct_sae **out, const fct_train_desc *desc, int64_t rows_until_broken)
{
    broken b = {.left = rows_until_broken};
    assert_ok(fct_rows_of_memory(&b.inner, make_rows(), RN, RD,
                                 &(fct_rows_desc){.order = FCT_ORDER_SHUFFLED, .seed = 5}));
    fct_row_source source = {.self = &b,
                             .d = RD,
                             .total = RN,
                             .next = broken_next,
                             .tell = broken_tell,
                             .seek = broken_seek,
                             .rewind = broken_rewind};
    fct_status st = fct_sae_train(out, &source, desc, NULL);
    b.inner.close(b.inner.self);
    return st;
}

/* Every option that has a state or a schedule. */
static fct_train_desc rich(const char *name)
{
    const fct_variant *v;
    assert_ok(fct_variant_find(&v, name));
    return (fct_train_desc){.preset = "demo",
                            .arch = name,
                            .n_features = 32,
                            .k = v->has_k ? 3 : 0,
                            .k_start = v->has_k ? 6 : 0,
                            .k_warmup = v->has_k ? 9 : 0,
                            .auxk = v->idle_aux ? 0 : 5,
                            .dead_rows = 300,
                            .groups = v->has_groups ? 3 : 0,
                            .sparsity_warmup = v->sparsity > 0 ? 15 : 0,
                            .bandwidth = v->has_threshold ? 0.1 : 0,
                            .init_threshold = v->has_threshold ? 0.05 : 0,
                            .batch_size = RB,
                            .steps = 24,
                            .calibration_rows = 400,
                            .lr = 1e-2,
                            .lr_warmup = 6,
                            .lr_decay = FCT_LR_COSINE,
                            .grad_clip = 0.5,
                            .ema = 0.9,
                            .untied = true,
                            .decoder_norm = FCT_DECODER_UNIT,
                            .normalize = FCT_NORMALIZE_MEAN_NORM,
                            .checkpoint_every = 7};
}

static void same_numbers(const float *a, const float *b, int64_t n)
{
    assert_true((a != NULL) == (b != NULL));
    if (a) assert_memory_equal(a, b, (size_t)n * sizeof *a);
}

static void remove_folder(const char *dir)
{
    fct_sae_checkpoint_remove(dir);
    rmdir(dir);
}

static void test_resume(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(all_names); i++) {
        fct_train_desc desc = rich(all_names[i]);
        fct_sae *whole, *part = NULL;
        assert_ok(run(&whole, &desc, INT64_MAX));
        desc.resume = temp_path("checkpoint");
        assert_fails(FCT_ERR_IO, "cut off", run(&part, &desc, 400 + 17 * RB));
        desc.ema = 0.8;
        assert_fails(FCT_ERR_ARG, "ema", run(&part, &desc, INT64_MAX));
        desc.ema = 0.9;
        desc.arch = i == 1 ? "matryoshka" : "batchtopk";
        desc.groups = desc.sparsity_warmup = 0;
        desc.bandwidth = desc.init_threshold = 0;
        assert_fails(FCT_ERR_ARG, "was made with other options", run(&part, &desc, INT64_MAX));
        desc = rich(all_names[i]);
        desc.resume = temp_path("checkpoint");
        assert_ok(run(&part, &desc, INT64_MAX));
        same_numbers(whole->w_enc, part->w_enc, 32 * RD);
        same_numbers(whole->w_dec, part->w_dec, 32 * RD);
        same_numbers(whole->b_enc, part->b_enc, 32);
        same_numbers(whole->b_dec, part->b_dec, RD);
        same_numbers(whole->threshold, part->threshold, 32);
        same_numbers(whole->b_mag, part->b_mag, 32);
        same_numbers(whole->r_mag, part->r_mag, 32);
        fct_sae_free(whole);
        fct_sae_free(part);
        remove_folder(temp_path("checkpoint"));
    }
}

/* Trained on normalised rows, applied to rows as they are: the same codes (but for their scale),
   the same reconstruction. Observed: 4e-7. */
static void check_fold(const char *name)
{
    fct_train_desc desc = rich(name);
    const fct_variant *v;
    fct_train_plan plan;
    fct_trainee t;
    fct_sae *s, *inner;
    const float *rows = make_rows();
    float x[RB * RD], outer[RB * RD], back[RB * RD];
    desc.ema = 0;
    assert_ok(fct_variant_find(&v, name));
    assert_ok(fct_train_plan_init(&plan, &desc, RD, RN, NULL));
    assert_ok(fct_trainee_init(&t, &plan, RD, NULL));
    assert_ok(fct_trainee_calibrate(&t, rows, 400));
    for (int step = 0; step < 12; step++) {
        assert_ok(fct_trainee_backward(&t, rows + step * RB * RD, false));
        assert_ok(fct_trainee_update(&t));
    }
    double length = 0, mean = 0;
    for (int r = 0; r < 400; r++) {
        double sum = 0;
        for (int i = 0; i < RD; i++) {
            double y = (rows[r * RD + i] - t.row_mean[i]) * t.row_scale[i];
            sum += y * y;
            mean += y;
        }
        length += sqrt(sum) / 400;
    }
    assert_true(fabs(length - sqrt(RD)) < 1e-5 && fabs(mean) < 1e-2);
    assert_ok(fct_trainee_export(&t, &s));
    for (int i = 0; i < RB * RD; i++) x[i] = (rows[i] - t.row_mean[i % RD]) * t.row_scale[i % RD];
    assert_ok(once_rebuild(s, rows, RB, outer));
    fct_sae_free(s);
    float *mean_was = t.row_mean;
    t.row_mean = NULL; /* now the SAE of normalised rows */
    assert_ok(fct_trainee_export(&t, &inner));
    assert_ok(once_rebuild(inner, x, RB, back));
    fct_sae_free(inner);
    t.row_mean = mean_was;
    for (int i = 0; i < RB * RD; i++) back[i] = back[i] / t.row_scale[i % RD] + t.row_mean[i % RD];
    double off = rel(outer, back, NULL, RB * RD);
    if (off > 5e-6) fail_msg("%s: folding is off by %g", name, off);
    fct_trainee_clear(&t);
}

static void test_fold(void **state)
{
    (void)state;
    for (size_t i = 0; i < FCT_COUNT(all_names); i++) check_fold(all_names[i]);
}

/* What a variant trained is what inference of its kind gives: on the batch itself the threshold of
   a single step keeps exactly what the batch kept, but for its least. */
static void test_threshold(void **state)
{
    (void)state;
    fct_train_plan plan = golden_plan("batchtopk", false);
    fct_trainee t;
    fct_sae *s;
    static float z[B * F], x[B * D];
    fct_rng rng;
    int kept = 0, active = 0;
    fct_rng_init(&rng, 12);
    fct_rng_normal(&rng, x, B * D);
    assert_ok(fct_trainee_init(&t, &plan, D, NULL));
    assert_ok(fct_trainee_backward(&t, x, true));
    for (int i = 0; i < B * F; i++) kept += t.z[i] > 0;
    assert_int_equal(kept, B * K);
    assert_true(t.now.l0 == K);
    assert_ok(fct_trainee_export(&t, &s));
    assert_int_equal(s->kind, FCT_SAE_BATCHTOPK);
    assert_int_equal(s->k, K);
    assert_ok(once_dense(s, x, B, z));
    for (int i = 0; i < B * F; i++) active += z[i] > 0;
    assert_int_equal(active, B * K - 1); /* it lies at the least, and wants more than that */
    fct_sae_free(s);
    fct_trainee_clear(&t);
}

/* ---- what has no meaning is refused ---- */

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        fct_train_desc desc;
        const char *says;
    } row[] = {
        {{.arch = "vanilla"}, "arch: want one of topk, batchtopk"},
        {{.arch = "relu", .k = 4}, "k has no meaning for relu"},
        {{.arch = "jumprelu", .k_start = 4, .k_warmup = 9}, "k has no meaning for jumprelu"},
        {{.arch = "topk", .sparsity = 0.1}, "sparsity has no meaning for topk"},
        {{.arch = "batchtopk", .sparsity_warmup = 5}, "sparsity has no meaning for batchtopk"},
        {{.arch = "gated", .bandwidth = 0.1}, "bandwidth or init_threshold has no meaning"},
        {{.arch = "batchtopk", .groups = 2}, "groups has no meaning for batchtopk"},
        {{.arch = "relu", .auxk = 4}, "auxk has no meaning for relu, whose dead features"},
        {{.arch = "gated", .aux_coef = 0.1}, "aux_coef would change nothing"},
        {{.arch = "topk", .auxk = FCT_NONE, .aux = FCT_AUX_CLEAN}, "aux would change nothing"},
        {{.arch = "gated", .sparsity = FCT_NONE, .sparsity_warmup = 5}, "since sparsity is 0"},
        {{.arch = "matryoshka", .groups = 9, .n_features = 64}, "9 groups of 64 features"},
        {{.arch = "topk", .k_start = 4}, "a schedule of k needs both"},
        {{.arch = "topk", .k_start = 400, .k_warmup = 5}, "k_start 400"},
        {{.arch = "relu", .sparsity = NAN}, "sparsity: want a number from 0 to 1e+06, found nan"},
        {{.arch = "jumprelu", .bandwidth = -2},
         "bandwidth: want a number above 0 up to 1e+06, found -2"},
        {{.arch = "relu", .ema = 1}, "ema: want a number from 0 to 1, found 1"},
        {{.arch = "relu", .grad_clip = -2}, "grad_clip: want a number from 0 to 1e+09, found -2"},
        {{.arch = "relu", .lr_decay = FCT_LR_CONSTANT, .lr_decay_steps = 5}, "add lr_decay"},
    };
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_train_desc desc = row[i].desc;
        fct_train_plan p;
        desc.preset = "demo";
        assert_fails(FCT_ERR_ARG, row[i].says, fct_train_plan_init(&p, &desc, 16, 100000, NULL));
    }
}

static void test_modern(void **state)
{
    (void)state;
    fct_train_plan p;
    fct_train_desc desc = {.preset = "modern"};
    assert_ok(fct_train_plan_init(&p, &desc, 1280, 40960000, NULL));
    assert_true(p.variant == &fct_variant_batchtopk && p.f == 8 * 1280 && p.k == 20);
    assert_int_equal(p.steps, 10000);
    assert_int_equal(p.lr_warmup, 500);
    assert_true(p.lr_decay == FCT_LR_LINEAR && p.lr_decay_steps == 2000 && p.grad_clip == 1);
    assert_int_equal(p.normalize, FCT_NORMALIZE_NORM);
    desc.lr_warmup = FCT_NONE;
    desc.grad_clip = FCT_NONE;
    desc.arch = "relu";
    desc.lr_decay = FCT_LR_CONSTANT;
    assert_ok(fct_train_plan_init(&p, &desc, 1280, 40960000, NULL));
    assert_true(p.variant == &fct_variant_relu && p.k == 0 && p.auxk == 0);
    assert_true(p.lr_warmup == 0 && p.grad_clip == 0 && p.lr_decay_steps == 0);
}

static void test_schedules(void **state)
{
    (void)state;
    fct_train_plan p = {.steps = 100, .lr = 2, .lr_warmup = 10, .lr_decay = FCT_LR_LINEAR};
    p.lr_decay_steps = 20;
    assert_true(fabs(fct_train_plan_lr(&p, 0) - 0.2) < 1e-12);
    assert_true(fct_train_plan_lr(&p, 9) == 2 && fct_train_plan_lr(&p, 80) == 2);
    assert_true(fabs(fct_train_plan_lr(&p, 95) - 0.5) < 1e-12);
    p.lr_decay = FCT_LR_COSINE;
    assert_true(fabs(fct_train_plan_lr(&p, 90) - 1) < 1e-12);
    assert_true(fabs(fct_train_plan_lr(&p, 95) - (1 - sqrt(0.5))) < 1e-12);
    p.k = 10;
    p.k_start = 50;
    p.k_warmup = 40;
    assert_int_equal(fct_train_plan_k(&p, 0), 50);
    assert_int_equal(fct_train_plan_k(&p, 20), 30);
    assert_int_equal(fct_train_plan_k(&p, 40), 10);
    p.sparsity = 3;
    p.sparsity_warmup = 6;
    assert_true(fabs(fct_train_plan_sparsity(&p, 1) - 1) < 1e-12);
    assert_true(fct_train_plan_sparsity(&p, 6) == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity),    cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_resume),    cmocka_unit_test(test_fold),
        cmocka_unit_test(test_threshold), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_schedules), cmocka_unit_test(test_modern),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

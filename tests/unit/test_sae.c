/* test_sae.c - encoding and decoding by hand, both layouts on disk, finding, statistics, files of
 * rows. */
#include <sys/stat.h>

#include "fct_test.h"
#include "sae/sae.h"
#include "sae_once.h"

enum { D = 6, F = 10, K = 3, N = 50 };

static fct_sae *random_sae(fct_sae_kind kind, const char *block)
{
    fct_sae *s;
    fct_rng r;
    assert_ok(fct_sae_new(&s, kind, D, F, K));
    fct_rng_init(&r, 9);
    fct_rng_normal(&r, s->w_enc, F * D);
    fct_rng_normal(&r, s->w_dec, F * D);
    fct_rng_normal(&r, s->b_enc, F);
    fct_rng_normal(&r, s->b_dec, D);
    assert_ok(fct_strdup(&s->block, block));
    assert_ok(fct_strdup(&s->model, "a model"));
    return s;
}

static void random_rows(float *rows, int64_t n)
{
    fct_rng r;
    fct_rng_init(&r, 10);
    fct_rng_normal(&r, rows, n * D);
}

static double preact(const fct_sae *s, const float *x, int f)
{
    double z = s->b_enc[f];
    for (int i = 0; i < D; i++)
        z += s->w_enc[f * D + i] * ((double)x[i] - (s->apply_b_dec_to_input ? s->b_dec[i] : 0));
    return z;
}

/* ---- codes ---- */

static void test_encode(void **state)
{
    (void)state;
    static float x[N * D], value[N * K], dense[N * F], out[N * D];
    static int32_t index[N * K];
    fct_sae *s = random_sae(FCT_SAE_TOPK, "mid.0");
    fct_sae_csr csr;
    random_rows(x, N);
    for (int subtract = 0; subtract < 2; subtract++) {
        s->apply_b_dec_to_input = subtract;
        assert_ok(once_encode(s, x, N, index, value));
        assert_ok(once_dense(s, x, N, dense));
        assert_ok(once_csr(s, x, N, &csr));
        assert_ok(once_rebuild(s, x, N, out));
        for (int r = 0; r < N; r++) {
            double sum[D];
            int active = 0;
            for (int i = 0; i < D; i++) sum[i] = s->b_dec[i];
            for (int f = 0; f < F; f++) {
                double z = preact(s, x + r * D, f);
                int above = 0;
                for (int g = 0; g < F; g++) above += preact(s, x + r * D, g) > z;
                double want = above < K && z > 0 ? z : 0;
                assert_true(fabs(dense[r * F + f] - want) < 1e-5);
                if (above < K) {
                    assert_true(fabs(value[r * K + above] - want) < 1e-5);
                    if (want > 0) assert_int_equal(index[r * K + above], f);
                }
                active += want > 0;
                for (int i = 0; i < D; i++) sum[i] += want * s->w_dec[f * D + i];
            }
            assert_int_equal(csr.row_offsets[r + 1] - csr.row_offsets[r], active);
            assert_memory_equal(csr.values + csr.row_offsets[r], value + r * K,
                                (size_t)active * sizeof(float));
            for (int i = 0; i < D; i++) assert_true(fabs(out[r * D + i] - sum[i]) < 1e-5);
        }
        fct_sae_csr_clear(&csr);
    }
    x[7 * D + 2] = NAN;
    assert_fails(FCT_ERR_RANGE, "row 7, number 2 is NaN", once_encode(s, x, N, index, value));
    index[0] = F;
    assert_fails(FCT_ERR_RANGE, "feature 10", once_decode(s, index, value, 1, K, out));
    fct_sae_free(s);
}

static void test_relu(void **state)
{
    (void)state;
    static float x[N * D], dense[N * F], out[N * D], value[N * K];
    static int32_t index[N * K];
    fct_sae *s = random_sae(FCT_SAE_RELU, NULL);
    fct_sae_csr csr;
    random_rows(x, N);
    assert_int_equal(s->k, 0);
    assert_fails(FCT_ERR_UNSUPPORTED, "no fixed k", once_encode(s, x, N, index, value));
    assert_ok(once_dense(s, x, N, dense));
    assert_ok(once_csr(s, x, N, &csr));
    assert_ok(once_rebuild(s, x, N, out));
    for (int r = 0; r < N; r++) {
        int64_t at = csr.row_offsets[r];
        double sum[D];
        for (int i = 0; i < D; i++) sum[i] = s->b_dec[i];
        for (int f = 0; f < F; f++) {
            double z = preact(s, x + r * D, f);
            assert_true(fabs(dense[r * F + f] - (z > 0 ? z : 0)) < 1e-5);
            for (int i = 0; z > 0 && i < D; i++) sum[i] += z * s->w_dec[f * D + i];
            if (dense[r * F + f] <= 0) continue;
            assert_int_equal(csr.indices[at], f);
            assert_true(csr.values[at++] == dense[r * F + f]);
        }
        assert_int_equal(at, csr.row_offsets[r + 1]);
        for (int i = 0; i < D; i++) assert_true(fabs(out[r * D + i] - sum[i]) < 1e-5);
    }
    fct_sae_csr_clear(&csr);
    assert_fails(FCT_ERR_UNSUPPORTED, "no other",
                 fct_sae_save_as(s, temp_path("relu"), FCT_SAE_SDXL_UNBOX));
    fct_sae_free(s);
}

/* ---- layouts ---- */

static void assert_same_sae(const fct_sae *a, const fct_sae *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->k, b->k);
    assert_int_equal(a->f, b->f);
    assert_memory_equal(a->w_enc, b->w_enc, sizeof(float) * D * F);
    assert_memory_equal(a->w_dec, b->w_dec, sizeof(float) * D * F);
    assert_memory_equal(a->b_enc, b->b_enc, sizeof(float) * F);
    assert_memory_equal(a->b_dec, b->b_dec, sizeof(float) * D);
}

static void set_stats(fct_sae *s)
{
    float **part[] = {&s->density, &s->mean, &s->std, &s->max};
    for (int p = 0; p < 4; p++) {
        assert_ok(fct_new(part[p], F, sizeof(float)));
        for (int f = 0; f < F; f++) (*part[p])[f] = (float)(p + 1) * 0.1f * (float)f;
    }
    s->has_stats = true;
}

static void test_saelens(void **state)
{
    (void)state;
    fct_sae *s = random_sae(FCT_SAE_TOPK, "down.2.1"), *t;
    char dir[1024], file[1100], *a, *b;
    int64_t n, m;
    snprintf(dir, sizeof dir, "%s", temp_path("lens"));
    snprintf(file, sizeof file, "%s/sae_weights.safetensors", dir);
    set_stats(s);
    assert_ok(fct_sae_save(s, dir, "{\"loss_scale\": 2.5, \"note\": \"x\"}"));
    assert_ok(fct_file_read(&a, &n, file));
    assert_ok(fct_sae_load(&t, dir, "down.2.1"));
    assert_same_sae(s, t);
    assert_string_equal(t->block, "down.2.1");
    assert_string_equal(t->model, "a model");
    assert_non_null(strstr(t->facet_json, "2.5"));
    assert_true(t->has_stats && t->max[3] == s->max[3] && t->density[4] == s->density[4]);
    assert_ok(fct_sae_save(t, dir, NULL)); /* over the old one; what it knew stays */
    assert_ok(fct_file_read(&b, &m, file));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, (size_t)n);
    fct_free(a);
    fct_free(b);
    fct_sae_free(t);
    assert_ok(fct_sae_load(&t, dir, NULL));
    assert_non_null(strstr(t->facet_json, "note"));
    fct_sae_free(t);
    json_t *cfg;
    snprintf(file, sizeof file, "%s/cfg.json", dir);
    assert_ok(fct_json_read(&cfg, file));
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(cfg, "metadata"), "hook_name")),
        "unet.down_blocks.2.attentions.1");
    json_decref(cfg);
    fct_sae_free(s);
    remove_tree(dir);
}

static fct_status load_with(const char *dir, const char *cfg)
{
    fct_sae *s;
    char file[1100];
    snprintf(file, sizeof file, "%s/cfg.json", dir);
    assert_ok(fct_file_write(file, cfg, (int64_t)strlen(cfg)));
    fct_status st = fct_sae_load(&s, dir, NULL);
    assert_true(st == FCT_OK || s == NULL);
    fct_sae_free(s);
    return st;
}

static void test_foreign_configs(void **state)
{
    (void)state;
#define SIZES "\"d_in\": 6, \"d_sae\": 10"
    static const struct {
        fct_status st;
        const char *cfg, *says;
    } row[] = {
        {FCT_ERR_UNSUPPORTED, "{" SIZES ", \"architecture\": \"skip_transcoder\"}",
         "architecture skip_transcoder"},
        {FCT_ERR_MISSING, "{" SIZES ", \"architecture\": \"jumprelu\"}", "no tensor threshold"},
        {FCT_ERR_MISSING, "{" SIZES ", \"architecture\": \"batchtopk\", \"k\": 2.5}",
         "no tensor topk_threshold"},
        {FCT_ERR_MISSING, "{" SIZES ", \"architecture\": \"gated\"}",
         "no tensors b_gate, b_mag, r_mag"},
        {FCT_ERR_UNSUPPORTED,
         "{" SIZES ", \"architecture\": \"standard\", \"normalize_activations\": \"unit\"}",
         "normalize_activations unit"},
        {FCT_ERR_MISSING, "{" SIZES ", \"normalize_activations\": \"expected_average_only_in\"}",
         "activation_scaler.json"},
        {FCT_ERR_UNSUPPORTED, "{" SIZES ", \"finetuning_scaling_factor\": true}",
         "finetuning_scaling_factor"},
        {FCT_ERR_UNSUPPORTED, "{" SIZES ", \"rescale_acts_by_decoder_norm\": true}",
         "topk and batchtopk alone"},
        {FCT_ERR_UNSUPPORTED,
         "{" SIZES ", \"architecture\": \"standard\", \"reshape_activations\": \"hook_z\"}",
         "hook_z"},
        {FCT_ERR_UNSUPPORTED,
         "{" SIZES ", \"architecture\": \"standard\", \"activation_fn_str\": \"gelu\"}", "gelu"},
        {FCT_ERR_FORMAT, "{" SIZES ", \"architecture\": \"topk\"}", "k is missing"},
        {FCT_ERR_FORMAT, "{\"architecture\": \"topk\", \"k\": 2}", "d_in and d_sae"},
        {FCT_ERR_SHAPE, "{\"d_in\": 7, \"d_sae\": 10, \"architecture\": \"topk\", \"k\": 2}",
         "W_enc: want [7,10], file has [6,10]"},
        {FCT_ERR_SHAPE, "{" SIZES ", \"architecture\": \"topk\", \"k\": 11}", "k is 11"},
        {FCT_ERR_FORMAT, "{\"d_in\":", "cfg.json"},
        {FCT_OK, "{" SIZES ", \"architecture\": \"standard\"}", ""},
        {FCT_OK,
         "{" SIZES ", \"architecture\": \"standard\", \"normalize_activations\": \"layer_norm\"}",
         ""},
        {FCT_OK,
         "{" SIZES ", \"activation_fn_str\": \"topk\", \"activation_fn_kwargs\": {\"k\": 4}}", ""},
    };
#undef SIZES
    fct_sae *s = random_sae(FCT_SAE_TOPK, NULL), *t;
    char dir[1024], file[1100];
    snprintf(dir, sizeof dir, "%s", temp_path("foreign"));
    assert_ok(fct_sae_save(s, dir, NULL));
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        if (row[i].st == FCT_OK)
            assert_ok(load_with(dir, row[i].cfg));
        else
            assert_fails(row[i].st, row[i].says, load_with(dir, row[i].cfg));
    }
    /* codes scaled by the decoder's norms: z' = topk(z * norm), rows decoded with unit directions
     */
    snprintf(file, sizeof file, "%s/cfg.json", dir);
    const char *scaled = "{\"d_in\": 6, \"d_sae\": 10, \"architecture\": \"topk\", \"k\": 10, "
                         "\"rescale_acts_by_decoder_norm\": true}";
    assert_ok(fct_file_write(file, scaled, (int64_t)strlen(scaled)));
    assert_ok(fct_sae_load(&t, dir, NULL));
    static float x[D], dense[F], out[D];
    double sum[D];
    random_rows(x, 1);
    assert_ok(once_dense(t, x, 1, dense));
    assert_ok(once_rebuild(t, x, 1, out));
    for (int i = 0; i < D; i++) sum[i] = s->b_dec[i];
    for (int f = 0; f < F; f++) {
        double norm = 0, z = preact(s, x, f);
        for (int i = 0; i < D; i++) norm += (double)s->w_dec[f * D + i] * s->w_dec[f * D + i];
        assert_true(fabs(dense[f] - (z > 0 ? z * sqrt(norm) : 0)) < 1e-4);
        for (int i = 0; z > 0 && i < D; i++) sum[i] += z * s->w_dec[f * D + i];
    }
    for (int i = 0; i < D; i++) assert_true(fabs(out[i] - sum[i]) < 1e-4);
    fct_sae_free(t);
    /* a pointer instead of the weights */
    const char *lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    snprintf(file, sizeof file, "%s/sae_weights.safetensors", dir);
    assert_ok(fct_file_write(file, lfs, (int64_t)strlen(lfs)));
    assert_fails(FCT_ERR_FORMAT, "Git LFS pointer", fct_sae_load(&t, dir, NULL));
    fct_sae_free(s);
    remove_tree(dir);
}

static void test_authors_and_finding(void **state)
{
    (void)state;
    static const char *const run[] = {
        "unet.down_blocks.2.attentions.1_k10_hidden5120_auxk256_bs4096_lr0.0001",
        "unet.up_blocks.0.attentions.1_k10_hidden5120_auxk256_bs4096_lr0.0001",
        "unet.up_blocks.0.attentions.1_k20_hidden5120_auxk256_bs4096_lr0.0001"};
    fct_sae *s = random_sae(FCT_SAE_TOPK, NULL), *t;
    char root[1024], dir[1200];
    set_stats(s);
    snprintf(root, sizeof root, "%s", temp_path("checkpoints"));
    for (int i = 0; i < 3; i++) {
        snprintf(dir, sizeof dir, "%s/%s/final", root, run[i]);
        s->b_dec[0] = (float)i;
        assert_ok(fct_sae_save_as(s, dir, FCT_SAE_SDXL_UNBOX));
        snprintf(dir, sizeof dir, "%s/%s/5000", root, run[i]); /* an older one beside it */
        assert_ok(fct_sae_save_as(s, dir, FCT_SAE_SDXL_UNBOX));
    }
    assert_ok(fct_sae_load(&t, root, "down.2.1"));
    s->b_dec[0] = 0;
    assert_same_sae(s, t);
    assert_string_equal(t->block, "down.2.1");
    assert_true(t->has_stats && t->mean[3] == s->mean[3] && t->std[5] == s->std[5]);
    assert_null(t->density);
    fct_sae_free(t);
    snprintf(dir, sizeof dir, "%s/%s", root, run[1]);
    assert_ok(fct_sae_load(&t, dir, NULL));
    assert_string_equal(t->block, "up.0.1");
    assert_true(t->b_dec[0] == 1);
    fct_sae_free(t);
    assert_fails(FCT_ERR_ARG, run[2], fct_sae_load(&t, root, "up.0.1"));
    assert_fails(FCT_ERR_ARG, "3 SAEs", fct_sae_load(&t, root, NULL));
    assert_fails(FCT_ERR_MISSING, "no SAE for mid.0", fct_sae_load(&t, root, "mid.0"));
    assert_fails(FCT_ERR_MISSING, "no such folder", fct_sae_load(&t, temp_path("nowhere"), NULL));
    char **path;
    int64_t n;
    assert_ok(fct_sae_find(&path, &n, root, "unet.up_blocks.0.attentions.1"));
    assert_int_equal(n, 2);
    fct_free(path);
    remove_tree(root);
    fct_sae_free(s);
}

static void test_faults(void **state)
{
    (void)state;
    fct_sae *s = random_sae(FCT_SAE_TOPK, "mid.0"), *t = NULL;
    char dir[1024];
    set_stats(s);
    snprintf(dir, sizeof dir, "%s", temp_path("faulty"));
    bool done = false;
    for (int64_t nth = 1; !done && nth < 100; nth++) {
        fct_fault_write(nth);
        done = fct_sae_save(s, dir, NULL) == FCT_OK;
        fct_fault_write(0);
        assert_int_equal(fct_path_exists(dir), done); /* whole or not at all */
    }
    assert_true(done);
    for (int64_t nth = 1; nth < 100;
         nth++) { /* over a good one: it stays, or the new one is there */
        fct_fault_write(nth);
        fct_status st = fct_sae_save(s, dir, NULL);
        fct_fault_write(0);
        assert_ok(fct_sae_load(&t, dir, NULL));
        fct_sae_free(t);
        if (st == FCT_OK) break;
    }
    for (int64_t nth = 1; nth < 400; nth++) {
        fct_fault_alloc(nth);
        fct_status st = fct_sae_load(&t, dir, NULL);
        fct_fault_alloc(0);
        if (st == FCT_OK) {
            fct_sae_free(t);
            break;
        }
        assert_null(t);
    }
    remove_tree(dir);
    fct_sae_free(s);
}

/* ---- statistics ---- */

typedef struct once {
    const float *rows;
    int64_t n, at;
} once;

static fct_status once_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    once *o = self;
    *n = o->n - o->at < want ? o->n - o->at : want;
    if (*n > 7) *n = 7; /* in small pieces */
    *rows = o->rows + o->at * D;
    o->at += *n;
    return FCT_OK;
}

static void test_stats(void **state)
{
    (void)state;
    static float x[N * D], dense[N * F], out[N * D];
    fct_sae *s = random_sae(FCT_SAE_TOPK, NULL);
    random_rows(x, N);
    once o = {x, N, 0};
    fct_row_source r = {.self = &o, .d = D, .total = N, .next = once_next};
    assert_ok(fct_sae_measure_stats(s, &r, NULL));
    assert_ok(once_dense(s, x, N, dense));
    for (int f = 0; f < F; f++) {
        double n = 0, sum = 0, squares = 0, max = 0;
        for (int i = 0; i < N; i++) {
            double v = dense[i * F + f];
            n += v > 0;
            sum += v;
            squares += v * v;
            if (v > max) max = v;
        }
        if (n == 0) n = 1; /* a feature that is never active has zeros everywhere */
        assert_true(fabs(s->density[f] - (max > 0 ? n : 0) / N) < 1e-6 &&
                    fabs(s->mean[f] - sum / n) < 1e-5 && fabs(s->max[f] - max) < 1e-5);
        assert_true(fabs(s->std[f] - sqrt(squares / n - sum / n * (sum / n))) < 1e-4);
    }
    fct_sae_quality q;
    o.at = 0;
    assert_ok(fct_sae_measure_quality(s, &r, NULL, &q));
    assert_ok(once_rebuild(s, x, N, out));
    double ev = 0, all_x = 0, all_e = 0;
    for (int i = 0; i < D; i++) {
        double mx = 0, me = 0, vx = 0, ve = 0;
        for (int k = 0; k < N; k++) mx += x[k * D + i] / (double)N;
        for (int k = 0; k < N; k++) me += (x[k * D + i] - out[k * D + i]) / (double)N;
        for (int k = 0; k < N; k++) {
            double a = x[k * D + i] - mx, e = x[k * D + i] - (double)out[k * D + i] - me;
            vx += a * a / (N - 1);
            ve += e * e / (N - 1);
        }
        ev += (1 - ve / (vx + 1e-8)) / D;
        all_x += vx;
        all_e += ve;
    }
    assert_true(fabs(q.ev - ev) < 1e-5 && fabs(q.ev_total - (1 - all_e / all_x)) < 1e-5);
    assert_true(q.dead_share < 0.5 && q.rows == N);
    o.at = o.n;
    assert_fails(FCT_ERR_ARG, "no rows", fct_sae_measure_stats(s, &r, NULL));
    r.d = D + 1;
    assert_fails(FCT_ERR_SHAPE, "takes rows of 6", fct_sae_measure_stats(s, &r, NULL));
    fct_sae_free(s);
}

/* ---- files of rows ---- */

static void test_encode_file(void **state)
{
    (void)state;
    static float x[N * D], value[N * K], rebuilt[N * D];
    static int32_t index[N * K];
    char in[1024], out[1024];
    fct_safetensors st;
    int64_t rows;
    snprintf(in, sizeof in, "%s", temp_path("x.safetensors"));
    snprintf(out, sizeof out, "%s", temp_path("codes.safetensors"));
    random_rows(x, N);
    fct_tensor_entry e[2] = {{(char[]){"x"}, fct_tensor_of(x, FCT_F32, 2, (int64_t[]){N, D})},
                             {(char[]){"other"}, fct_tensor_of(x, FCT_F32, 2, (int64_t[]){D, N})}};
    assert_ok(fct_safetensors_write(in, e, 1, NULL));
    fct_sae *s = random_sae(FCT_SAE_TOPK, NULL);
    fct_encode_file_desc d = {.in = in, .out = out};
    assert_ok(fct_sae_encode_file(s, &d, &rows));
    assert_int_equal(rows, N);
    assert_ok(once_encode(s, x, N, index, value));
    assert_ok(fct_safetensors_open(&st, out));
    assert_memory_equal(fct_safetensors_find(&st, "indices")->data, index, sizeof index);
    assert_memory_equal(fct_safetensors_find(&st, "values")->data, value, sizeof value);
    assert_null(fct_safetensors_find(&st, "row_offsets"));
    assert_null(fct_safetensors_find(&st, "rebuilt"));
    fct_safetensors_close(&st);
    d.rebuild = true;
    assert_ok(fct_sae_encode_file(s, &d, &rows));
    assert_ok(once_rebuild(s, x, N, rebuilt));
    assert_ok(fct_safetensors_open(&st, out));
    assert_memory_equal(fct_safetensors_find(&st, "values")->data, value, sizeof value);
    assert_memory_equal(fct_safetensors_find(&st, "rebuilt")->data, rebuilt, sizeof rebuilt);
    assert_int_equal(fct_safetensors_find(&st, "rebuilt")->dim[1], D);
    fct_safetensors_close(&st);
    assert_ok(fct_safetensors_write(in, e, 2, NULL));
    assert_fails(FCT_ERR_ARG, "several 2-D tensors", fct_sae_encode_file(s, &d, NULL));
    e[0].name = (char[]){"rows"}; /* the name in a store's shards needs no --tensor */
    assert_ok(fct_safetensors_write(in, e, 2, NULL));
    assert_ok(fct_sae_encode_file(s, &d, &rows));
    assert_int_equal(rows, N);
    d.tensor = "other";
    assert_fails(FCT_ERR_SHAPE, "takes rows [n,6]", fct_sae_encode_file(s, &d, NULL));
    d.tensor = "none";
    assert_fails(FCT_ERR_MISSING, "no tensor none", fct_sae_encode_file(s, &d, NULL));
    fct_sae_free(s);
    s = random_sae(FCT_SAE_RELU, NULL);
    d.tensor = "rows";
    assert_ok(fct_sae_encode_file(s, &d, NULL));
    assert_ok(fct_safetensors_open(&st, out));
    fct_sae_csr csr;
    assert_ok(once_csr(s, x, N, &csr));
    assert_memory_equal(fct_safetensors_find(&st, "row_offsets")->data, csr.row_offsets,
                        sizeof(int64_t) * (N + 1));
    assert_memory_equal(fct_safetensors_find(&st, "values")->data, csr.values,
                        sizeof(float) * (size_t)csr.n);
    assert_int_equal(fct_safetensors_find(&st, "indices")->dim[0], csr.n);
    assert_ok(once_rebuild(s, x, N, rebuilt));
    assert_memory_equal(fct_safetensors_find(&st, "rebuilt")->data, rebuilt, sizeof rebuilt);
    fct_sae_csr_clear(&csr);
    fct_safetensors_close(&st);
    fct_sae_free(s);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const pair[][2] = {{"down.2.1", "unet.down_blocks.2.attentions.1"},
                                          {"mid.0", "unet.mid_block.attentions.0"},
                                          {"up.0.12", "unet.up_blocks.0.attentions.12"},
                                          {"down.2", "down.2"},
                                          {"blocks.7.hook", "blocks.7.hook"}};
    for (size_t i = 0; i < FCT_COUNT(pair); i++) {
        char *a, *b;
        assert_ok(fct_block_name_short(&a, pair[i][1]));
        assert_ok(fct_block_name_full(&b, pair[i][0]));
        assert_string_equal(a, pair[i][0]);
        assert_string_equal(b, pair[i][1]);
        fct_free(a);
        fct_free(b);
    }
}

/* With a folder's name: both layouts of one SAE there, for tests that are not in C. */
static int write_samples(const char *folder)
{
    char path[1100];
    fct_sae *s = random_sae(FCT_SAE_TOPK, "mid.0");
    set_stats(s);
    snprintf(path, sizeof path, "%s/saelens", folder);
    if (fct_sae_save(s, path, NULL) != FCT_OK) return 1;
    snprintf(path, sizeof path, "%s/authors", folder);
    if (fct_sae_save_as(s, path, FCT_SAE_SDXL_UNBOX) != FCT_OK) return 1;
    fct_sae_free(s);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2) return write_samples(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_relu),
        cmocka_unit_test(test_saelens),
        cmocka_unit_test(test_foreign_configs),
        cmocka_unit_test(test_authors_and_finding),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_encode_file),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

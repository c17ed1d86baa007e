/* test_sae_kinds.c - every kind of autoencoder, row normalisation and decoder norms against the
 * formulas in f64; and what edits of such SAEs do. */
#include "edit/edit.h"
#include "fct_test.h"
#include "sae/sae.h"
#include "sae_once.h"

enum { D = 6, F = 10, N = 40 };

static fct_sae *random_sae(fct_sae_kind kind)
{
    fct_sae *s;
    fct_rng r;
    assert_ok(fct_sae_new(&s, kind, D, F, 3));
    fct_rng_init(&r, 21);
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++)
        if (*fct_sae_part_at(s, p))
            fct_rng_normal(&r, *fct_sae_part_at(s, p), fct_sae_part_count(s, p));
    for (int f = 0; f < F; f++) {
        if (kind == FCT_SAE_BATCHTOPK) s->threshold[f] = 0.8f;
        if (s->r_mag) s->r_mag[f] *= 0.3f;
    }
    return s;
}

/* ---- the formulas, in f64 ---- */

typedef struct row_of { /* what one row should give */
    double in[D], scale, shift, z[F], out[D];
} row_of;

static void normalise(row_of *w, const fct_sae *s, const float *x)
{
    double mean = 0, squares = 0, length = 0, sum = 0;
    for (int i = 0; i < D; i++) mean += (double)x[i] / D;
    for (int i = 0; i < D; i++) squares += (x[i] - mean) * (x[i] - mean);
    for (int i = 0; i < D; i++) sum += (double)x[i] * x[i];
    length = sqrt(sum);
    *w = (row_of){.scale = 1};
    if (s->normalize == FCT_SAE_NORMALIZE_LAYER) {
        w->scale = sqrt(squares / (D - 1));
        w->shift = mean;
    }
    if (s->normalize == FCT_SAE_NORMALIZE_NORM) w->scale = length / sqrt(D);
    for (int i = 0; i < D; i++) {
        double eps = s->normalize == FCT_SAE_NORMALIZE_LAYER ? 1e-5 : 0;
        w->in[i] = (x[i] - w->shift) / (w->scale + eps);
        if (s->apply_b_dec_to_input) w->in[i] -= s->b_dec[i];
    }
}

static double norm_of(const fct_sae *s, int f)
{
    double sum = 0;
    for (int i = 0; i < D; i++) sum += (double)s->w_dec[f * D + i] * s->w_dec[f * D + i];
    return sqrt(sum);
}

static void expect(row_of *w, const fct_sae *s, const float *x)
{
    double h[F], product[F];
    normalise(w, s, x);
    for (int f = 0; f < F; f++) {
        product[f] = 0;
        for (int i = 0; i < D; i++) product[f] += s->w_enc[f * D + i] * w->in[i];
        h[f] = product[f] + s->b_enc[f];
        if (s->dec_norm) h[f] *= norm_of(s, f);
    }
    for (int f = 0; f < F; f++) {
        int above = 0;
        for (int g = 0; g < F; g++) above += h[g] > h[f];
        double positive = h[f] > 0 ? h[f] : 0;
        switch (s->kind) {
        case FCT_SAE_TOPK: w->z[f] = above < s->k ? positive : 0; break;
        case FCT_SAE_RELU: w->z[f] = positive; break;
        case FCT_SAE_GATED:
            w->z[f] = h[f] > 0 ? fmax(exp(s->r_mag[f]) * product[f] + s->b_mag[f], 0) : 0;
            break;
        default: w->z[f] = h[f] > s->threshold[f] ? positive : 0;
        }
    }
    for (int i = 0; i < D; i++) {
        double y = s->b_dec[i];
        for (int f = 0; f < F; f++)
            y += w->z[f] * s->w_dec[f * D + i] / (s->dec_norm ? norm_of(s, f) : 1);
        w->out[i] = y * w->scale + w->shift;
    }
}

/* ---- codes and rows ---- */

static double far_from(const fct_sae *s, const float *x)
{
    static float dense[N * F], out[N * D], back[D], scale[N], shift[N];
    static int32_t every[F];
    double worst = 0;
    fct_sae_csr csr;
    assert_ok(once_dense(s, x, N, dense));
    assert_ok(once_csr(s, x, N, &csr));
    assert_ok(once_rebuild(s, x, N, out));
    assert_ok(fct_sae_row_scale(s, x, N, scale, shift));
    for (int f = 0; f < F; f++) every[f] = f;
    for (int r = 0; r < N; r++) {
        row_of w;
        int active = 0;
        expect(&w, s, x + r * D);
        for (int f = 0; f < F; f++) {
            worst = fmax(worst, fabs(dense[r * F + f] - w.z[f]));
            active += w.z[f] > 0;
        }
        assert_int_equal(csr.row_offsets[r + 1] - csr.row_offsets[r], active);
        for (int64_t i = csr.row_offsets[r]; i < csr.row_offsets[r + 1]; i++)
            assert_true(csr.values[i] == dense[r * F + csr.indices[i]]);
        assert_ok(once_decode(s, every, dense + r * F, 1, F, back));
        fct_sae_restore(back, 1, D, scale + r, shift + r);
        for (int i = 0; i < D; i++) {
            worst = fmax(worst, fabs(out[r * D + i] - w.out[i]));
            worst = fmax(worst, fabs(back[i] - w.out[i]));
        }
    }
    fct_sae_csr_clear(&csr);
    return worst;
}

static void test_formulas(void **state)
{
    (void)state;
    static float x[N * D];
    static const char *const name[] = {"topk", "standard", "jumprelu", "gated", "batchtopk"};
    double worst = 0;
    fct_rng r;
    fct_rng_init(&r, 10);
    fct_rng_normal(&r, x, N * D);
    for (int kind = FCT_SAE_TOPK; kind <= FCT_SAE_BATCHTOPK; kind++) {
        assert_string_equal(fct_sae_kind_name((fct_sae_kind)kind), name[kind]);
        for (int how = 0; how < 12; how++) {
            fct_sae *s = random_sae((fct_sae_kind)kind), *t;
            s->apply_b_dec_to_input = how % 2;
            s->normalize = (fct_sae_normalize)(how / 2 % 3);
            if (how >= 6 && kind != FCT_SAE_GATED) assert_ok(fct_sae_set_dec_norm(s));
            worst = fmax(worst, far_from(s, x));
            assert_ok(fct_sae_clone(&t, s));
            worst = fmax(worst, far_from(t, x));
            fct_sae_fold_dec_norm(t); /* other tensors, the same codes and rows */
            static float a[N * F], b[N * F];
            assert_ok(once_dense(s, x, N, a));
            assert_ok(once_dense(t, x, N, b));
            for (int i = 0; i < N * F; i++) worst = fmax(worst, fabs((double)a[i] - b[i]));
            assert_ok(once_rebuild(s, x, N, a));
            assert_ok(once_rebuild(t, x, N, b));
            for (int i = 0; i < N * D; i++) worst = fmax(worst, fabs((double)a[i] - b[i]));
            fct_sae_free(t);
            fct_sae_free(s);
        }
    }
    print_message("worst difference from f64: %.2e\n", worst);
    assert_true(worst < 2e-5); /* observed 5.1e-6 and 3.3e-6 in the edits */
}

static void test_refusals(void **state)
{
    (void)state;
    static float x[2 * D], value[3], z[2 * F];
    int32_t index[3];
    fct_sae *s = random_sae(FCT_SAE_GATED), *none;
    assert_fails(FCT_ERR_UNSUPPORTED, "architecture gated", once_encode(s, x, 1, index, value));
    assert_fails(FCT_ERR_SHAPE, "k is 11", fct_sae_new(&none, FCT_SAE_BATCHTOPK, D, F, 11));
    s->normalize = FCT_SAE_NORMALIZE_NORM;
    assert_fails(FCT_ERR_RANGE, "row of zeros", once_dense(s, x, 2, z));
    s->normalize = FCT_SAE_NORMALIZE_NONE;
    x[D + 1] = INFINITY;
    assert_fails(FCT_ERR_RANGE, "row 1, number 1 is infinite", once_dense(s, x, 2, z));
    fct_sae_free(s);
}

/* ---- edits ---- */

/* x0 of a feature takes away exactly what decoding without it lacks, whatever the SAE scales. */
static void test_edits(void **state)
{
    (void)state;
    static float x[N * D], delta[N * D];
    double worst = 0;
    fct_rng r;
    fct_rng_init(&r, 12);
    fct_rng_normal(&r, x, N * D);
    for (int kind = FCT_SAE_TOPK; kind <= FCT_SAE_BATCHTOPK; kind++)
        for (int how = 0; how < 6; how++) {
            fct_sae *s = random_sae((fct_sae_kind)kind);
            s->normalize = (fct_sae_normalize)(how % 3);
            if (how >= 3 && kind != FCT_SAE_GATED) assert_ok(fct_sae_set_dec_norm(s));
            fct_apply_work work = {.coder.code.sae = s};
            fct_edit edit[3] = {{.op = FCT_EDIT_SCALE, .value = 0, .feature = 4},
                                {.op = FCT_EDIT_ADD, .value = 2, .feature = 5},
                                {.op = FCT_EDIT_REBUILD}};
            for (int e = 0; e < 3; e++) {
                fct_live_edit live = {.edit = &edit[e], .unit = 0.5};
                memcpy(delta, x, sizeof delta);
                fct_tensor t = fct_tensor_of(delta, FCT_F32, 4, (int64_t[]){1, 4, N / 4, D});
                assert_ok(fct_edit_apply(&(fct_apply_args){.work = &work,
                                                           .event = &(fct_tap_event){.items = 1},
                                                           .delta = &t,
                                                           .edit = &live,
                                                           .n_edits = 1}));
                for (int row = 0; row < N; row++) {
                    row_of w;
                    expect(&w, s, x + row * D);
                    for (int i = 0; i < D; i++) {
                        int f = (int)edit[e].feature;
                        double unit = w.scale * s->w_dec[f * D + i] /
                                      (s->dec_norm ? norm_of(s, f) : 1),
                               want = e == 2   ? w.out[i]
                                      : e == 1 ? x[row * D + i] + 2 * 0.5 * unit
                                               : x[row * D + i] - w.z[f] * unit;
                        worst = fmax(worst, fabs(delta[row * D + i] - want));
                    }
                }
            }
            fct_apply_work_clear(&work);
            fct_sae_free(s);
        }
    print_message("worst difference of an edit from f64: %.2e\n", worst);
    assert_true(worst < 2e-5); /* observed 5.1e-6 and 3.3e-6 in the edits */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formulas),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_edits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

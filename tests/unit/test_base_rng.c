/* test_base_rng.c - the generator against torch's: printed values of the literature and a table
   made by tools/make_vectors.py, equal to the last bit. */
#include "fct_test.h"
#include "tensor/tensor.h"

static void test_published_values(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        int n, shown;
        float value[16];
    } row[] = {
        {0,
         16,
         16,
         {-1.1258f, -1.1524f, -0.2506f, -0.4339f, 0.8487f, 0.6920f, -0.3160f, -2.1152f, 0.3223f,
          -1.2633f, 0.3500f, 0.3081f, 0.1198f, 1.2377f, 1.1168f, -0.2473f}},
        {42, 16, 8, {1.9269f, 1.4873f, 0.9007f, -2.1055f, 0.6784f, -1.2345f, -0.0431f, -1.6047f}},
        {0, 4, 4, {1.5410f, -0.2934f, -2.1788f, 0.5684f}},
        {42, 4, 4, {0.3367f, 0.1288f, 0.2345f, 0.2303f}}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_rng r;
        float got[16];
        fct_rng_init(&r, row[i].seed);
        fct_rng_normal(&r, got, row[i].n);
        for (int k = 0; k < row[i].shown; k++) assert_true(fabsf(got[k] - row[i].value[k]) < 6e-5f);
    }
}

static void compare(fct_rng *r, const fct_safetensors *st, const char *seed, int n,
                    const char *part)
{
    char name[64];
    float got[4096];
    snprintf(name, sizeof name, "%s.%d.%s", seed, n, part);
    const fct_tensor *want = fct_safetensors_find(st, name);
    assert_non_null(want);
    int64_t count = fct_tensor_count(want);
    fct_rng_normal(r, got, count);
    for (int64_t i = 0; i < count; i++)
        if (got[i] != ((const float *)want->data)[i])
            fail_msg("%s[%d]: got %.9g, torch has %.9g", name, (int)i, (double)got[i],
                     (double)((float *)want->data)[i]);
}

static void test_torch_table(void **state)
{
    (void)state;
    static const char *const seed[] = {"0", "1", "7", "42", "4294967301", "9223372036854775819"};
    static const int length[] = {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 64, 100, 1000, 4096};
    fct_safetensors st;
    assert_ok(fct_safetensors_open(&st, test_path("vectors/normals.safetensors")));
    for (size_t s = 0; s < FCT_COUNT(seed); s++) {
        for (size_t k = 0; k < FCT_COUNT(length); k++) {
            fct_rng r;
            fct_rng_init(&r, strtoull(seed[s], NULL, 10));
            compare(&r, &st, seed[s], length[k], "first");
            compare(&r, &st, seed[s], length[k], "then");
            compare(&r, &st, seed[s], length[k], "last");
        }
    }
    fct_rng r;
    const fct_tensor *bits = fct_safetensors_find(&st, "bits");
    assert_non_null(bits);
    fct_rng_init(&r, 123); /* torch draws ranges of 2^32 and more from 64-bit words */
    for (int64_t i = 0; i < fct_tensor_count(bits); i++)
        assert_true((fct_rng_u64(&r) & 0xffffffffu) == (uint64_t)((const int64_t *)bits->data)[i]);
    fct_safetensors_close(&st);
}

static void test_own_draws(void **state)
{
    (void)state;
    fct_rng r;
    int count[7] = {0};
    double sum = 0;
    fct_rng_init(&r, 1);
    for (int i = 0; i < 70000; i++) {
        int64_t v = fct_rng_below(&r, 7);
        assert_in_range(v, 0, 6);
        count[v]++;
        double u = fct_rng_unit(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    for (int i = 0; i < 7; i++) assert_in_range(count[i], 9600, 10400); /* mean 10000, sd 93 */
    assert_true(fabs(sum / 70000 - 0.5) < 0.005);
    assert_int_equal(fct_rng_below(&r, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_published_values),
                                       cmocka_unit_test(test_torch_table),
                                       cmocka_unit_test(test_own_draws)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

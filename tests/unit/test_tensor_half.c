/* test_tensor_half.c - f16 and bf16: all 65,536 values of each, and rounding around every border,
 * against torch. */
#include "fct_test.h"
#include "tensor/tensor.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static bool same_float(float a, float b)
{
    return isnan(a) ? isnan(b) : bits_of(a) == bits_of(b);
}

static void test_all_values(void **state)
{
    (void)state;
    static const struct {
        const char *table;
        fct_dtype dtype;
        float (*widen)(uint16_t);
        uint16_t (*narrow)(float);
    } row[] = {{"f16.f32", FCT_F16, fct_f16_to_f32, fct_f32_to_f16},
               {"bf16.f32", FCT_BF16, fct_bf16_to_f32, fct_f32_to_bf16}};
    fct_safetensors st;
    assert_ok(fct_safetensors_open(&st, test_path("vectors/halves.safetensors")));
    for (size_t r = 0; r < FCT_COUNT(row); r++) {
        const fct_tensor *t = fct_safetensors_find(&st, row[r].table);
        assert_non_null(t);
        assert_int_equal(fct_tensor_count(t), 65536);
        const float *want = t->data;
        uint16_t *half, *back;
        float *wide;
        assert_ok(fct_new(&half, 65536, 2));
        assert_ok(fct_new(&back, 65536, 2));
        assert_ok(fct_new(&wide, 65536, 4));
        for (int i = 0; i < 65536; i++) {
            half[i] = (uint16_t)i;
            float got = row[r].widen((uint16_t)i);
            assert_true(same_float(got, want[i]));
            if (!isnan(got))
                assert_int_equal(row[r].narrow(got), i);
            else
                assert_true(isnan(row[r].widen(row[r].narrow(got))));
        }
        assert_ok(fct_convert(wide, FCT_F32, half, row[r].dtype,
                              65536)); /* the vector code says the same */
        assert_ok(fct_convert(back, row[r].dtype, wide, FCT_F32, 65536));
        for (int i = 0; i < 65536; i++) {
            assert_true(same_float(wide[i], want[i]));
            if (!isnan(want[i])) assert_int_equal(back[i], i);
        }
        fct_free(half);
        fct_free(back);
        fct_free(wide);
    }
    fct_safetensors_close(&st);
}

static void test_rounding(void **state)
{
    (void)state;
    fct_safetensors st;
    assert_ok(fct_safetensors_open(&st, test_path("vectors/halves.safetensors")));
    const fct_tensor *values = fct_safetensors_find(&st, "values");
    const int16_t *f16 = fct_safetensors_find(&st, "values.f16")->data,
                  *bf16 = fct_safetensors_find(&st, "values.bf16")->data;
    const float *v = values->data;
    for (int64_t i = 0; i < fct_tensor_count(values); i++) {
        if (fct_f32_to_f16(v[i]) != (uint16_t)f16[i]) fail_msg("f16 of %a", (double)v[i]);
        if (fct_f32_to_bf16(v[i]) != (uint16_t)bf16[i]) fail_msg("bf16 of %a", (double)v[i]);
    }
    fct_safetensors_close(&st);
}

static void test_convert_pairs(void **state)
{
    (void)state;
    enum { N = 3000 };
    static double f64[N];
    static uint16_t h[N];
    static float f32[N];
    static int64_t i64[N];
    for (int i = 0; i < N; i++) f64[i] = i - 1500;
    assert_ok(fct_convert(h, FCT_F16, f64, FCT_F64, N)); /* longer than a block, through f32 */
    assert_ok(fct_convert(f32, FCT_F32, h, FCT_F16, N));
    for (int i = 0; i < N; i++) assert_true(f32[i] == (float)f64[i]);
    assert_ok(fct_convert(h, FCT_BF16, h, FCT_BF16, 0));
    for (int i = 0; i < N; i++) i64[i] = (int64_t)i << 20;
    assert_ok(fct_convert(f32, FCT_F32, i64, FCT_I64, N));
    assert_true(f32[7] == (float)(7 << 20));
    const uint8_t u8[] = {0, 1, 255};
    assert_ok(fct_convert(f32, FCT_F32, u8, FCT_U8, 3));
    assert_true(f32[2] == 255.0f);
    const int8_t i8[] = {-128};
    assert_ok(fct_convert(f32, FCT_F32, i8, FCT_I8, 1));
    assert_true(f32[0] == -128.0f);
    assert_fails(FCT_ERR_UNSUPPORTED, "i32", fct_convert(i64, FCT_I32, f32, FCT_F32, 1));
    assert_fails(FCT_ERR_ARG, "convert", fct_convert(i64, FCT_F32, f32, FCT_F16, -1));
}

static void test_names(void **state)
{
    (void)state;
    fct_dtype d;
    for (int i = 0; i < FCT_DTYPE_COUNT; i++) {
        assert_ok(fct_dtype_find(&d, fct_dtype_name((fct_dtype)i)));
        assert_int_equal(d, i);
    }
    assert_ok(fct_dtype_find(&d, "bF16"));
    assert_int_equal(d, FCT_BF16);
    assert_ok(fct_dtype_find(&d, "float32"));
    assert_int_equal(d, FCT_F32);
    assert_fails(FCT_ERR_UNSUPPORTED, "\"f8\"", fct_dtype_find(&d, "f8"));
    char text[64];
    fct_tensor t = fct_tensor_of(NULL, FCT_F32, 4, (int64_t[]){320, 4, 3, 3});
    fct_shape_text(text, sizeof text, &t);
    assert_string_equal(text, "[320,4,3,3]");
    assert_int_equal(fct_tensor_bytes(&t), 320 * 4 * 9 * 4);
    t.ndim = 0;
    fct_shape_text(text, sizeof text, &t);
    assert_string_equal(text, "[]");
    assert_int_equal(fct_tensor_count(&t), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_values), cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_convert_pairs), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

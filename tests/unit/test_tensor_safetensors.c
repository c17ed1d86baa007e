/* test_tensor_safetensors.c - the format both ways, every way in which a file can be wrong, and
 * faults. */
#include "fct_test.h"
#include "tensor/tensor.h"

static const float f32_data[6] = {1, 2, 3, 4, 5, 6};
static const uint8_t u8_data[3] = {7, 8, 9};

static void fill(fct_tensor_entry *e)
{
    e[0] = (fct_tensor_entry){"z.bytes",
                              fct_tensor_of((void *)(uintptr_t)u8_data, FCT_U8, 1, (int64_t[]){3})};
    e[1] = (fct_tensor_entry){"a.m\xc3\xa4trix", fct_tensor_of((void *)(uintptr_t)f32_data, FCT_F32,
                                                               2, (int64_t[]){2, 3})};
    e[2] = (fct_tensor_entry){"empty", fct_tensor_of(NULL, FCT_F16, 2, (int64_t[]){0, 4})};
    e[3] =
        (fct_tensor_entry){"scalar", fct_tensor_of((void *)(uintptr_t)f32_data, FCT_F64, 0, NULL)};
}

static void test_round_trip(void **state)
{
    (void)state;
    fct_tensor_entry e[4];
    fct_safetensors st;
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("r.safetensors"));
    fill(e);
    const char *const metadata[] = {"made_by", "a \"test\"", NULL};
    assert_ok(fct_safetensors_write(path, e, 4, metadata));
    assert_ok(fct_safetensors_open(&st, path));
    assert_int_equal(st.n, 4);
    assert_int_equal(st.n_copy, 0); /* the writer aligned everything */
    assert_string_equal(st.entry[0].name, "a.m\xc3\xa4trix");
    const fct_tensor *t = fct_safetensors_find(&st, "a.m\xc3\xa4trix");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->dim[1], 3);
    assert_memory_equal(t->data, f32_data, sizeof f32_data);
    assert_memory_equal(fct_safetensors_find(&st, "z.bytes")->data, u8_data, 3);
    assert_int_equal(fct_safetensors_find(&st, "empty")->dim[1], 4);
    assert_null(fct_safetensors_find(&st, "empty")->data);
    assert_int_equal(fct_safetensors_find(&st, "scalar")->ndim, 0);
    assert_null(fct_safetensors_find(&st, "absent"));
    assert_string_equal(json_string_value(json_object_get(st.metadata, "format")), "pt");
    assert_string_equal(json_string_value(json_object_get(st.metadata, "made_by")), "a \"test\"");
    fct_safetensors_close(&st);
    char *first, *second;
    int64_t n, m;
    assert_ok(fct_file_read(&first, &n, path));
    assert_ok(fct_safetensors_write(path, e, 4, metadata));
    assert_ok(fct_file_read(&second, &m, path));
    assert_int_equal(n, m);
    assert_memory_equal(first, second, (size_t)n);
    fct_free(first);
    fct_free(second);
}

/* A file with this header and n bytes of data behind it. */
static fct_status parse(fct_safetensors *st, const char *header, int64_t n_data)
{
    static _Alignas(8) uint8_t file[4096];
    size_t n = strlen(header);
    memset(file, 0, sizeof file);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)n >> (8 * i));
    memcpy(file + 8, header, n);
    for (int64_t i = 0; i < n_data; i++) file[8 + n + (size_t)i] = (uint8_t)i;
    return fct_safetensors_parse(st, file, 8 + (int64_t)n + n_data, "x.safetensors");
}

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int64_t n_data;
        const char *says;
    } row[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "a needs 8 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
         "1 bytes after the last tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
         "f32 [3] takes 12 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "not a range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "not a range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "not a pair"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0.5,8]}}", 8, "not a pair"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16,
         "holes or overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\","
         "\"shape\":[4],\"data_offsets\":"
         "[2,6]}}",
         6, "holes or overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "not a size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8,
         "shape is not a list"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "F8_E4M3"},
        {"{\"a\":{\"dtype\":1,\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "dtype is not a text"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}", 8,
         "impossibly large"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
         "7 dimensions"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"U8\","
         "\"shape\":[0],\"data_offsets\":"
         "[0,0]}}",
         0, "duplicate"},
        {"{\"a\":3}", 0, "a: want an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "want a text"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"[]", 0, "does not start with {"},
        {"{", 0, "not valid JSON"},
        {"", 0, "does not start with {"}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_safetensors st;
        fct_status got = parse(&st, row[i].header, row[i].n_data);
        if (got == FCT_OK || !strstr(fct_error_text(), row[i].says) ||
            !strstr(fct_error_text(), "x.safetensors"))
            fail_msg("%s: want \"%s\", got %d: %s", row[i].header, row[i].says, (int)got,
                     fct_error_text());
        assert_null(st.entry);
    }
    fct_safetensors st;
    const uint8_t beyond[16] = {200};
    assert_fails(FCT_ERR_FORMAT, "beyond the file", fct_safetensors_parse(&st, beyond, 16, "x"));
    const uint8_t huge[16] = {0, 0, 0, 0, 0, 0, 0, 0x80, '{'};
    assert_fails(FCT_ERR_FORMAT, "beyond the file", fct_safetensors_parse(&st, huge, 16, "x"));
    assert_fails(FCT_ERR_FORMAT, "no room", fct_safetensors_parse(&st, huge, 7, "x"));
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    assert_fails(FCT_ERR_FORMAT, "git lfs pull",
                 fct_safetensors_parse(&st, (const uint8_t *)lfs, sizeof lfs - 1, "x"));
}

static void test_odd_addresses(void **state)
{
    (void)state;
    fct_safetensors st;
    assert_ok(parse(&st,
                    "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{"
                    "\"dtype\":\"F32\",\"shape\":[2],"
                    "\"data_offsets\":[1,9]}}   ",
                    9));
    assert_true(st.n_copy > 0);
    const fct_tensor *b = fct_safetensors_find(&st, "b");
    assert_int_equal((uintptr_t)b->data % 4, 0);
    assert_memory_equal(b->data, "\1\2\3\4\5\6\7\10", 8);
    fct_safetensors_close(&st);
}

/* How many allocations it takes to read n tensors of one f32 behind `lead` bytes; none of them is
   aligned when that is odd. */
static int64_t count_allocations(int n, int lead)
{
    fct_str s = {0};
    int64_t nth = 0;
    fct_status got = FCT_ERR_MEMORY;
    assert_ok(fct_str_printf(&s, "{\"a\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}",
                             lead, lead));
    for (int i = 0; i < n; i++)
        assert_ok(fct_str_printf(
            &s, ",\"b%02d\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[%d,%d]}", i,
            lead + 4 * i, lead + 4 * i + 4));
    assert_ok(fct_str_append(&s, "}"));
    while (s.n % 8 != 0) assert_ok(fct_str_append(&s, " "));
    while (got != FCT_OK) {
        fct_safetensors st;
        fct_fault_alloc(++nth);
        got = parse(&st, s.p, lead + 4 * n);
        fct_fault_alloc(0);
        if (got == FCT_OK) assert_int_equal(st.n_copy, lead % 4 ? n : 0);
        if (got == FCT_OK) fct_safetensors_close(&st);
    }
    fct_str_clear(&s);
    return nth;
}

/* The list of copies is made once, not once for each of them. */
static void test_many_odd_addresses(void **state)
{
    (void)state;
    assert_int_equal(count_allocations(24, 5) - count_allocations(24, 4), 24 + 1);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    fct_tensor_entry e[2] = {{"a", fct_tensor_of(NULL, FCT_F32, 1, (int64_t[]){2})}, {"a", {0}}};
    assert_fails(FCT_ERR_ARG, "a has no data", fct_safetensors_write(temp_path("w"), e, 1, NULL));
    e[0].t.data = (void *)(uintptr_t)f32_data;
    e[1].t = e[0].t;
    assert_fails(FCT_ERR_ARG, "used twice", fct_safetensors_write(temp_path("w"), e, 2, NULL));
    e[1].name = "__metadata__";
    assert_fails(FCT_ERR_ARG, "reserved", fct_safetensors_write(temp_path("w"), e, 2, NULL));
    e[1].name = "\xff";
    assert_fails(FCT_ERR_ARG, "UTF-8", fct_safetensors_write(temp_path("w"), e, 2, NULL));
    assert_false(fct_path_exists(temp_path("w")));
}

static void test_faults(void **state)
{
    (void)state;
    fct_tensor_entry e[4];
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("f.safetensors"));
    fill(e);
    for (int kind = 0; kind < 2; kind++) {
        int failures = 0;
        for (int64_t nth = 1;; nth++) {
            if (kind == 0)
                fct_fault_write(nth);
            else
                fct_fault_alloc(nth);
            fct_status st = fct_safetensors_write(path, e, 4, NULL);
            fct_fault_write(0);
            fct_fault_alloc(0);
            if (st == FCT_OK) break;
            failures++;
            assert_non_null(strstr(fct_error_text(), "f.safetensors"));
            assert_false(fct_path_exists(path));
        }
        assert_true(failures >= 3);
        if (kind == 0) assert_ok(fct_file_remove(path));
    }
    int failures = 0;
    for (int64_t nth = 1;; nth++) {
        fct_safetensors st;
        fct_fault_alloc(nth);
        fct_status got = fct_safetensors_open(&st, path);
        fct_fault_alloc(0);
        if (got == FCT_OK) {
            fct_safetensors_close(&st);
            break;
        }
        failures++;
        /* jansson calls a failed allocation of its own a syntax error, at times */
        if (got != FCT_ERR_MEMORY && !strstr(fct_error_text(), "not valid JSON"))
            fail_msg("allocation %d: %s", (int)nth, fct_error_text());
        assert_null(st.entry);
    }
    assert_true(failures > 10);
}

int main(int argc, char **argv)
{
    if (argc == 2) { /* writes the file that tests/python checks with the reference library */
        fct_tensor_entry e[4];
        fill(e);
        return fct_safetensors_write(argv[1], e, 4,
                                     (const char *const[]){"made_by", "facet", NULL}) != FCT_OK;
    }
    fct_fault_json();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_odd_addresses),  cmocka_unit_test(test_many_odd_addresses),
        cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

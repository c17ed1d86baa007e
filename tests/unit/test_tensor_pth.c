/* test_tensor_pth.c - files that torch.save wrote, read exactly; hostile ones refused by name;
 * facet's own read back. */
#include "fct_test.h"
#include "tensor/tensor.h"

/* Every tensor of the .pth equals the one in the safetensors file made beside it, and none is
 * missing. */
static void assert_same(const char *pth_path, const char *truth_path)
{
    fct_pth p;
    fct_safetensors st;
    assert_ok(fct_pth_open(&p, pth_path));
    assert_ok(fct_safetensors_open(&st, truth_path));
    if (p.n != st.n) fail_msg("%s: %d tensors, want %d", pth_path, (int)p.n, (int)st.n);
    for (int64_t i = 0; i < st.n; i++) {
        const char *name = strcmp(st.entry[i].name, "tensor") == 0 ? "" : st.entry[i].name;
        const fct_tensor *got = fct_pth_find(&p, name), *want = &st.entry[i].t;
        if (!got) fail_msg("%s: %s is missing", pth_path, name);
        assert_int_equal(got->dtype, want->dtype);
        assert_int_equal(got->ndim, want->ndim);
        assert_memory_equal(got->dim, want->dim, sizeof want->dim);
        if (want->data) assert_memory_equal(got->data, want->data, (size_t)fct_tensor_bytes(want));
    }
    assert_null(fct_pth_find(&p, "no such"));
    fct_safetensors_close(&st);
    fct_pth_close(&p);
}

static void test_torch_files(void **state)
{
    (void)state;
    static const char *const name[] = {"bare",   "strides",   "types",
                                       "nested", "parameter", "unsigned"};
    for (size_t i = 0; i < FCT_COUNT(name); i++) {
        for (int legacy = 0; legacy < 2; legacy++) {
            char file[64], truth[64];
            snprintf(file, sizeof file, "vectors/%s.%s", name[i], legacy ? "legacy.pth" : "pth");
            snprintf(truth, sizeof truth, "vectors/%s.safetensors", name[i]);
            assert_same(test_path(file), test_path(truth));
        }
    }
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *file, *names;
    } row[] = {{"system", "posix.system"},
               {"popen", "commands.Popen" /* its name of Python 2, which protocol 2 keeps */},
               {"eval", "__builtin__.eval"},
               {"getattr", "__builtin__.getattr"},
               {"load", "torch.serialization.load"},
               {"object", "collections.Counter"}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        char file[64];
        fct_pth p;
        snprintf(file, sizeof file, "vectors/hostile.%s.pth", row[i].file);
        assert_fails(FCT_ERR_UNSUPPORTED, row[i].names, fct_pth_open(&p, test_path(file)));
        assert_non_null(strstr(fct_error_text(), file + 8));
        assert_null(p.entry);
    }
}

/* Bare pickles in the legacy layout, each wrong in its own way. */
static void test_malformed(void **state)
{
    (void)state;
#define HEAD                                                  \
    "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." \
    "\x80\2M\xe9\3."                                          \
    "\x80\2}."
#define STORAGE                                        \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" \
    "0X\3\0\0\0cpuK\4NtQ"
#define KEYS           \
    "\x80\2]X\1\0\0\0" \
    "0a."
#define KEYS_TWICE      \
    "\x80\2](X\1\0\0\0" \
    "0X\1\0\0\0"        \
    "0e."
#define DATA           \
    "\4\0\0\0\0\0\0\0" \
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define TENSOR(offset, size, stride)                                           \
    "\x80\2"                                                                   \
    "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE offset size stride "\x89Nt" \
    "R."
#define ROW(text, says)             \
    {                               \
        text, sizeof text - 1, says \
    }
    static const struct {
        const char *data;
        size_t n;
        const char *says;
    } row[] = {
        ROW(HEAD TENSOR("K\0", "K\5\x85", "K\1\x85") KEYS DATA, "reaches beyond its data"),
        ROW(HEAD TENSOR("K\1", "K\4\x85", "K\1\x85") KEYS DATA, "reaches beyond its data"),
        ROW(HEAD TENSOR("K\0", "K\2\x85", "K\4\x85") KEYS DATA, "reaches beyond its data"),
        ROW(HEAD TENSOR("J\xff\xff\xff\xff", "K\2\x85", "K\1\x85") KEYS DATA,
            "reaches beyond its data"),
        ROW(HEAD TENSOR("K\0", "J\xff\xff\xff\xff\x85", "K\1\x85") KEYS DATA, "negative"),
        ROW(HEAD TENSOR("K\0", "\x8a\x08\0\0\0\0\0\0\0\x40\x85", "K\0\x85") KEYS DATA,
            "reaches beyond its data"),
        ROW(HEAD TENSOR("K\0", "J\0\0\0\x40\x85", "K\0\x85") KEYS DATA, "far larger than the file"),
        ROW(HEAD TENSOR("K\0", "K\2\x85", "K\1K\1\x86") KEYS DATA, "size or stride"),
        ROW(HEAD TENSOR("K\0", "(K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1t") KEYS DATA,
            "7 dimensions"),
        ROW(HEAD TENSOR("K\0", "K\4\x85", "K\1\x85") "\x80\2].", "data are missing"),
        ROW(HEAD TENSOR("K\0", "K\4\x85", "K\1\x85") KEYS "\4\0\0\0\0\0\0\0\0", "beyond the file"),
        ROW(HEAD TENSOR("K\0", "K\4\x85", "K\1\x85") KEYS "\4\0", "cut short"),
        ROW(HEAD TENSOR("K\0", "K\4\x85", "K\1\x85") KEYS_TWICE DATA DATA, "comes twice"),
        ROW(HEAD "\x80\2N", "cut short"),
        ROW(HEAD "\x80\2"
                 "0.",
            "operation 0x30"),
        ROW(HEAD "\x80\2R.", "more from its stack"),
        ROW(HEAD "\x80\2h\5.", "never remembered"),
        ROW(HEAD "\x80\2t.", "mark is missing"),
        ROW(HEAD "\x80\2Na.", "more from its stack"),
        ROW(HEAD "\x80\2NNa.", "not a list"),
        ROW(HEAD "\x80\2}NNNs.", "not a dictionary"),
        ROW(HEAD "\x80\2}(Nu.", "key without a value"),
        ROW(HEAD "\x80\2q\1.", "remembers nothing"),
        ROW(HEAD "\x80\2Nr\xff\xff\xff\xff.", "memo"),
        ROW(HEAD "\x80\2NQ.", "not described by a tuple"),
        ROW(HEAD "\x80\2(X\4\0\0\0evilctorch\nFloatStorage\nX\1\0\0\0"
                 "0X\0\0\0\0K\4tQ.",
            "not described as torch does"),
        ROW(HEAD "\x80\2NNb.", "objects with a state"),
        ROW(HEAD "\x80\2cos\nsystem\nX\1\0\0\0x\x85R.", "os.system"),
        ROW(HEAD "\x80\2"
                 "ccollections\nOrderedDict\nN\x85R.",
            "with arguments"),
        ROW(HEAD "\x80\2ctorch\nFloatStorage\n)R.", "no function"),
        ROW("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
            "\x80\2K\1.",
            "unknown version"),
        ROW("PK\3\4 this is no zip", "not a whole torch file"),
        ROW("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ROW("hello", "not a file from torch.save"),
        ROW("", "not a file from torch.save")};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_pth p;
        fct_status st = fct_pth_parse(&p, (const uint8_t *)row[i].data, (int64_t)row[i].n, "x.pth");
        if (st == FCT_OK || !strstr(fct_error_text(), row[i].says) ||
            !strstr(fct_error_text(), "x.pth"))
            fail_msg("row %d: want \"%s\", got %d: %s", (int)i, row[i].says, (int)st,
                     st ? fct_error_text() : "");
        assert_null(p.entry);
    }
    fct_pth p;
    static const char fine[] = HEAD TENSOR("K\0", "K\4\x85", "K\1\x85") KEYS DATA;
    assert_ok(fct_pth_parse(&p, (const uint8_t *)fine, sizeof fine - 1, "fine"));
    assert_int_equal(p.n, 1);
    fct_pth_close(&p);
}

/* A list and a dictionary that hold themselves, and a list that doubles at every level. */
static void test_rings(void **state)
{
    (void)state;
    fct_str s = {0};
    fct_pth p;
    static const char ring[] = HEAD "\x80\2]q\1h\1a.\x80\2].";
    assert_fails(FCT_ERR_FORMAT, "holds itself",
                 fct_pth_parse(&p, (const uint8_t *)ring, sizeof ring - 1, "x"));
    static const char wide[] = HEAD "\x80\2}q\1X\1\0\0\0ah\1sX\1\0\0\0bh\1s.\x80\2].";
    assert_fails(FCT_ERR_FORMAT, "holds itself",
                 fct_pth_parse(&p, (const uint8_t *)wide, sizeof wide - 1, "x"));
    assert_ok(fct_str_append_n(&s, HEAD "\x80\2]q\0", sizeof HEAD + 4));
    for (char i = 1; i < 30; i++) {
        char step[] = {']', 'q', i, '(', 'h', (char)(i - 1), 'h', (char)(i - 1), 'e'};
        assert_ok(fct_str_append_n(&s, step, sizeof step));
    }
    assert_ok(fct_str_append_n(&s, ".\x80\2].", 5));
    assert_fails(FCT_ERR_RANGE, "nested too deeply",
                 fct_pth_parse(&p, (const uint8_t *)s.p, s.n, "x"));
    fct_str_clear(&s);
}

/* {key: [tensor, tensor, ...]} with a key of n letters and one tensor, `times` over. */
static fct_status parse_long_name(fct_pth *p, int n, int times)
{
    static const char tensor[] = TENSOR("K\0", "K\1\x85", "K\1\x85");
    fct_str s = {0};
    char length[5] = {'X', (char)(n & 255), (char)(n >> 8), 0, 0};
    fct_status st = fct_str_append_n(&s, HEAD "\x80\2}", sizeof HEAD - 1 + 3);
    if (st == FCT_OK) st = fct_str_append_n(&s, length, 5);
    for (int i = 0; i < n && st == FCT_OK; i++) st = fct_str_append(&s, "k");
    if (st == FCT_OK) st = fct_str_append(&s, "](");
    if (st == FCT_OK) st = fct_str_append_n(&s, tensor + 2, sizeof tensor - 4); /* without STOP */
    if (st == FCT_OK) st = fct_str_append(&s, "q\1");
    for (int i = 1; i < times && st == FCT_OK; i++) st = fct_str_append(&s, "h\1");
    if (st == FCT_OK) st = fct_str_append(&s, "es.");
    if (st == FCT_OK) st = fct_str_append_n(&s, KEYS DATA, sizeof(KEYS DATA) - 1);
    if (st == FCT_OK) st = fct_pth_parse(p, (const uint8_t *)s.p, s.n, "x");
    fct_str_clear(&s);
    return st;
}

static void test_long_names(void **state)
{
    (void)state;
    fct_pth p;
    assert_ok(parse_long_name(&p, 4094, 1)); /* and ".0" */
    assert_int_equal(strlen(p.entry[0].name), 4096);
    fct_pth_close(&p);
    assert_fails(FCT_ERR_RANGE, "longer than 4096 bytes", parse_long_name(&p, 4095, 1));
    assert_fails(FCT_ERR_RANGE, "longer than 4096 bytes", parse_long_name(&p, 5000, 1));
    assert_ok(parse_long_name(&p, 10, 2000));
    fct_pth_close(&p);
    assert_fails(FCT_ERR_RANGE, "far larger than the file", parse_long_name(&p, 4000, 2000));
}

/* ---- zip files by hand ---- */

static uint32_t crc_of(const uint8_t *p, int64_t n)
{
    uint32_t crc = UINT32_MAX;
    for (int64_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

static void put(fct_str *s, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++, v >>= 8) assert_ok(fct_str_append_n(s, (char[]){(char)v}, 1));
}

/* What a local header and a record of the directory have in common, from the version on. */
static void put_common(fct_str *s, const char *name, const uint8_t *data, int64_t n)
{
    put(s, 10, 2);
    put(s, 0, 8); /* flags, stored, time, date */
    put(s, crc_of(data, n), 4);
    put(s, (uint32_t)n, 4);
    put(s, (uint32_t)n, 4);
    put(s, (uint32_t)strlen(name), 2);
    put(s, 0, 2);
}

typedef struct hand_zip {
    fct_str file, directory;
    int n;
} hand_zip;

/* An entry at the end of the file, or only a record of what lies at `at`. */
static uint32_t add_entry(hand_zip *z, const char *name, const void *data, int64_t n, int64_t at)
{
    if (at < 0) {
        at = z->file.n;
        assert_ok(fct_str_append(&z->file, "PK\3\4"));
        put_common(&z->file, name, data, n);
        assert_ok(fct_str_append(&z->file, name));
        assert_ok(fct_str_append_n(&z->file, data, n));
    }
    assert_ok(fct_str_append(&z->directory, "PK\1\2"));
    put(&z->directory, 10, 2);
    put_common(&z->directory, name, data, n);
    put(&z->directory, 0, 10); /* no comment, first disk, attributes */
    put(&z->directory, (uint32_t)at, 4);
    assert_ok(fct_str_append(&z->directory, name));
    z->n++;
    return (uint32_t)at;
}

/* A torch file with `n` storages of 1000 floats, of which a tensor each takes the first: each with
   data of its own, or all with the same ones. */
static fct_status parse_storages(fct_pth *p, int n, bool shared)
{
    hand_zip z = {0};
    fct_str pickle = {0};
    float data[1000] = {0};
    int64_t at = -1;
    assert_ok(fct_str_append(&pickle, "\x80\2]("));
    for (int i = 0; i < n; i++) {
        static const char start[] = "X\7\0\0\0storagectorch\nFloatStorage\nX\2\0\0\0";
        static const char end[] = "X\3\0\0\0cpuM\xe8\3tQK\0K\1\x85K\1\x85\x89NtR";
        assert_ok(fct_str_append(&pickle, "ctorch._utils\n_rebuild_tensor_v2\n(("));
        assert_ok(fct_str_append_n(&pickle, start, sizeof start - 1));
        assert_ok(fct_str_printf(&pickle, "%02d", n - i));
        assert_ok(fct_str_append_n(&pickle, end, sizeof end - 1));
    }
    assert_ok(fct_str_append(&pickle, "e."));
    add_entry(&z, "a/data.pkl", pickle.p, pickle.n, -1);
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/data/%02d", n - i);
        if (!shared) data[0] = (float)(i + 1);
        at = add_entry(&z, name, data, sizeof data, shared ? at : -1);
    }
    int64_t directory = z.file.n;
    assert_ok(fct_str_append_n(&z.file, z.directory.p, z.directory.n));
    assert_ok(fct_str_append(&z.file, "PK\5\6"));
    put(&z.file, 0, 4);
    put(&z.file, (uint32_t)z.n, 2);
    put(&z.file, (uint32_t)z.n, 2);
    put(&z.file, (uint32_t)z.directory.n, 4);
    put(&z.file, (uint32_t)directory, 4);
    put(&z.file, 0, 2);
    fct_status st = fct_pth_parse(p, (const uint8_t *)z.file.p, z.file.n, "hand.pth");
    fct_str_clear(&z.file);
    fct_str_clear(&z.directory);
    fct_str_clear(&pickle);
    return st;
}

static void test_shared_entries(void **state)
{
    (void)state;
    fct_pth p;
    assert_ok(parse_storages(&p, 12, false));
    assert_int_equal(p.n, 12);
    for (int i = 0; i < 12; i++) assert_true(*(float *)p.entry[i].t.data == (float)(i + 1));
    fct_pth_close(&p);
    assert_fails(FCT_ERR_FORMAT, "entries are larger than the file", parse_storages(&p, 12, true));
    assert_non_null(strstr(fct_error_text(), "hand.pth"));
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    static const char *const file[] = {"vectors/nested.pth", "vectors/nested.legacy.pth"};
    for (size_t k = 0; k < FCT_COUNT(file); k++) {
        fct_file f;
        assert_ok(fct_file_map(&f, test_path(file[k])));
        for (int64_t n = 0; n < f.size; n += 1 + n / 100) {
            fct_pth p;
            if (fct_pth_parse(&p, f.data, n, "cut") == FCT_OK)
                fail_msg("%s cut at %d was taken", file[k], (int)n);
        }
        fct_file_unmap(&f);
    }
}

static void make_entries(fct_tensor_entry *e, float *matrix, int64_t *count, uint16_t *half)
{
    for (int i = 0; i < 6; i++) matrix[i] = (float)i + 0.5f;
    for (int i = 0; i < 4; i++) half[i] = (uint16_t)(0x3c00 + i);
    count[0] = -3;
    e[0] =
        (fct_tensor_entry){"decoder.weight", fct_tensor_of(matrix, FCT_F32, 2, (int64_t[]){2, 3})};
    e[1] =
        (fct_tensor_entry){"stats_last_nonzero", fct_tensor_of(count, FCT_I64, 1, (int64_t[]){1})};
    e[2] = (fct_tensor_entry){"half", fct_tensor_of(half, FCT_F16, 2, (int64_t[]){4, 1})};
    e[3] = (fct_tensor_entry){"empty", fct_tensor_of(NULL, FCT_F32, 2, (int64_t[]){0, 5})};
    e[4] = (fct_tensor_entry){"scalar", fct_tensor_of(matrix, FCT_F32, 0, NULL)};
}

static void test_write_and_read(void **state)
{
    (void)state;
    fct_tensor_entry e[5];
    float matrix[6];
    int64_t count[1];
    uint16_t half[4];
    fct_pth p;
    char path[1024];
    const uint8_t transposed[5] = {1, 0, 0, 0, 0};
    snprintf(path, sizeof path, "%s", temp_path("w.pth"));
    make_entries(e, matrix, count, half);
    assert_ok(fct_pth_write(path, e, 5, "state_dict", transposed));
    assert_ok(fct_pth_open(&p, path));
    assert_int_equal(p.n, 5);
    const fct_tensor *t = fct_pth_find(&p, "state_dict.decoder.weight");
    assert_non_null(t);
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 3; c++) assert_true(((float *)t->data)[r * 3 + c] == matrix[c * 2 + r]);
    assert_true(((int64_t *)fct_pth_find(&p, "state_dict.stats_last_nonzero")->data)[0] == -3);
    assert_memory_equal(fct_pth_find(&p, "state_dict.half")->data, half, sizeof half);
    assert_int_equal(fct_pth_find(&p, "state_dict.empty")->dim[1], 5);
    assert_int_equal(fct_pth_find(&p, "state_dict.scalar")->ndim, 0);
    fct_pth_close(&p);
    fct_tensor_entry bare = {"", e[0].t};
    assert_ok(fct_pth_write(path, &bare, 1, NULL, NULL));
    assert_ok(fct_pth_open(&p, path));
    assert_memory_equal(fct_pth_find(&p, "")->data, matrix, sizeof matrix);
    fct_pth_close(&p);
    assert_fails(FCT_ERR_ARG, "transposed", fct_pth_write(path, &e[1], 1, NULL, transposed));
    assert_fails(FCT_ERR_ARG, "without a name", fct_pth_write(path, &bare, 1, "x", NULL));
    e[1].t.dtype = FCT_U64;
    assert_fails(FCT_ERR_UNSUPPORTED, "u64", fct_pth_write(path, e, 2, NULL, NULL));
}

static void test_faults(void **state)
{
    (void)state;
    fct_tensor_entry e[5];
    float matrix[6];
    int64_t count[1];
    uint16_t half[4];
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("f.pth"));
    make_entries(e, matrix, count, half);
    for (int kind = 0; kind < 2; kind++) {
        int failures = 0;
        for (int64_t nth = 1;; nth++) {
            if (kind == 0)
                fct_fault_write(nth);
            else
                fct_fault_alloc(nth);
            fct_status st = fct_pth_write(path, e, 5, NULL, NULL);
            fct_fault_write(0);
            fct_fault_alloc(0);
            if (st == FCT_OK) break;
            failures++;
            assert_non_null(strstr(fct_error_text(), "f.pth"));
            assert_false(fct_path_exists(path));
        }
        assert_true(failures >= 3);
        if (kind == 0) assert_ok(fct_file_remove(path));
    }
    static const char *const file[] = {"vectors/nested.pth", "vectors/strides.legacy.pth"};
    for (size_t k = 0; k < FCT_COUNT(file); k++) {
        for (int64_t nth = 1;; nth++) {
            fct_pth p;
            fct_fault_alloc(nth);
            fct_status got = fct_pth_open(&p, test_path(file[k]));
            fct_fault_alloc(0);
            if (got == FCT_OK) {
                assert_true(nth > 20);
                fct_pth_close(&p);
                break;
            }
            if (got != FCT_ERR_MEMORY) fail_msg("allocation %d: %s", (int)nth, fct_error_text());
            assert_null(p.entry);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) { /* writes the file that tests/python checks with torch itself */
        fct_tensor_entry e[5];
        float matrix[6];
        int64_t count[1];
        uint16_t half[4];
        const uint8_t transposed[5] = {1, 0, 0, 0, 0};
        make_entries(e, matrix, count, half);
        return fct_pth_write(argv[1], e, 5, "state_dict", transposed) != FCT_OK;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch_files),  cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_malformed),    cmocka_unit_test(test_rings),
        cmocka_unit_test(test_long_names),   cmocka_unit_test(test_shared_entries),
        cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

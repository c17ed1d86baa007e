/* test_store.c - prompt files, importing, rows in every order, and what a damaged store says. */
#include "fct_test.h"
#include "store/store.h"

/* ---- prompts ---- */

static void test_prompts(void **state)
{
    (void)state;
    static const struct {
        fct_prompt_format format;
        const char *text, *want; /* prompts joined by '|', a seed as #N */
    } good[] = {
        {FCT_PROMPTS_LINES, "a cat\n\n  \nzwei H\xc3\xbcte\r\nlast", "a cat|zwei H\xc3\xbcte|last"},
        {FCT_PROMPTS_LINES, "\xef\xbb\xbfone\n", "one"},
        {FCT_PROMPTS_JSONL,
         "{\"prompt\": \"a\\nb\", \"seed\": 7}\n\n{\"id\": 3, \"prompt\": \"c\"}", "a\nb#7|c"},
        {FCT_PROMPTS_CSV, "id,prompt\r\n1,a cat\r\n2,\"a, \"\"b\"\"\nc\"\r\n", "a cat|a, \"b\"\nc"},
        {FCT_PROMPTS_CSV, "prompt,seed\nx,9\n\ny,\n", "x#9|y"},
        {FCT_PROMPTS_CSV, "prompt\n\"\"\nz", "z"},
    };
    static const struct {
        fct_prompt_format format;
        const char *text, *says;
    } bad[] = {
        {FCT_PROMPTS_LINES, "", "no prompt in it"},
        {FCT_PROMPTS_LINES, " \n\t\n", "no prompt in it"},
        {FCT_PROMPTS_LINES, "fine\nnot \xff fine\n", "f:2: the prompt is not UTF-8"},
        {FCT_PROMPTS_JSONL, "{\"prompt\": \"a\"}\n{\"text\": \"b\"}", "f:2: no key prompt"},
        {FCT_PROMPTS_JSONL, "[1]", "want an object"},
        {FCT_PROMPTS_JSONL, "{\"prompt\": 3}", "prompt"},
        {FCT_PROMPTS_JSONL, "{\"prompt\": \"a\", \"seed\": -3}", "seed"},
        {FCT_PROMPTS_JSONL, "{\"prompt\": ", "f:1"},
        {FCT_PROMPTS_CSV, "text\na\n", "no column named prompt"},
        {FCT_PROMPTS_CSV, "id,prompt\n1\n", "1 fields, the header has 2"},
        {FCT_PROMPTS_CSV, "id,prompt\n1,\"open\n", "never closed"},
        {FCT_PROMPTS_CSV, "id,prompt\n1,a\"b\n", "f:2: a quote"},
        {FCT_PROMPTS_CSV, "prompt,seed\na,x\n", "seed"},
        {FCT_PROMPTS_CSV, "prompt\n", "no prompt in it"},
    };
    for (size_t i = 0; i < FCT_COUNT(good); i++) {
        fct_prompts p;
        char have[256] = "";
        assert_ok(fct_prompts_parse(&p, good[i].text, (int64_t)strlen(good[i].text), good[i].format,
                                    "f"));
        for (int64_t k = 0; k < p.n; k++) {
            size_t at = strlen(have);
            int n = snprintf(have + at, sizeof have - at, "%s%s", k ? "|" : "", p.item[k].text);
            if (p.item[k].has_seed)
                snprintf(have + at + n, sizeof have - at - (size_t)n, "#%d", (int)p.item[k].seed);
        }
        assert_string_equal(have, good[i].want);
        fct_prompts_clear(&p);
    }
    for (size_t i = 0; i < FCT_COUNT(bad); i++) {
        fct_prompts p;
        assert_fails(
            FCT_ERR_FORMAT, bad[i].says,
            fct_prompts_parse(&p, bad[i].text, (int64_t)strlen(bad[i].text), bad[i].format, "f"));
        assert_null(p.item);
    }
    fct_prompts p;
    assert_fails(FCT_ERR_MISSING, "absent.txt", fct_prompts_read(&p, temp_path("absent.txt")));
    assert_ok(fct_file_write(temp_path("p.csv"), "prompt\na\n", 9));
    assert_ok(fct_prompts_read(&p, temp_path("p.csv")));
    assert_int_equal(p.n, 1);
    fct_prompts_clear(&p);
}

/* ---- import and reading ---- */

enum { N = 1000, D = 6 };
static float data[N * D]; /* row r holds r in every place, and r + 0.25 in the first */

static void make_rows(const char *path, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < N * D; i++) data[i] = (float)(i / D) + (i % D == 0 ? 0.25f : 0);
    fct_tensor_entry e[2] = {
        {(char[]){"acts"}, fct_tensor_of(data + first * D, FCT_F32, 2, (int64_t[]){n, D})},
        {(char[]){"labels"}, fct_tensor_of(data, FCT_F32, 1, (int64_t[]){3})},
    };
    assert_ok(fct_safetensors_write(path, e, 2, NULL));
}

static void make_inputs(void)
{
    make_rows(temp_path("a.safetensors"), 0, 700);
    make_rows(temp_path("b.safetensors"), 700, 300);
}

/* Both input files into the store of that name, in shards of 128 rows. */
static fct_status import_two(const char *name, const char *block, fct_store_dtype dtype)
{
    const char *const files[] = {temp_path("a.safetensors"), temp_path("b.safetensors")};
    return fct_store_import(
        &(fct_import_desc){.files = files,
                           .n_files = 2,
                           .block = block,
                           .out = temp_path(name),
                           .store_dtype = dtype,
                           .shard_bytes = 128 * D * (dtype == FCT_STORE_F32 ? 4 : 2)});
}

static void test_import(void **state)
{
    (void)state;
    fct_store *s;
    static float rows[N * D];
    fct_row_meta meta[2];
    int64_t b;
    make_inputs();
    assert_ok(import_two("store", "x", FCT_STORE_F16));
    assert_fails(FCT_ERR_ARG, "has a block x already", import_two("store", "x", FCT_STORE_F16));
    assert_fails(FCT_ERR_ARG, "holds f16", import_two("store", "y", FCT_STORE_F32));
    assert_fails(FCT_ERR_ARG, "want a name", import_two("store", "../y", FCT_STORE_F16));
    assert_ok(import_two("store", "y", FCT_STORE_F16));
    assert_ok(fct_store_open(&s, temp_path("store")));
    const fct_store_info *info = fct_store_get_info(s);
    assert_int_equal(info->n_blocks, 2);
    assert_int_equal(info->block[1].rows, N);
    assert_int_equal(info->block[1].d, D);
    assert_null(info->model);
    assert_ok(fct_store_find_block(&b, s, "y"));
    assert_int_equal(b, 1);
    assert_fails(FCT_ERR_MISSING, "it has x y", fct_store_find_block(&b, s, "z"));
    assert_fails(FCT_ERR_ARG, "several blocks", fct_store_find_block(&b, s, NULL));
    assert_ok(fct_store_read(s, 0, 0, N, rows, NULL)); /* over shards of 128 rows */
    for (int64_t i = 0; i < N * D; i++)
        assert_true(rows[i] == fct_f16_to_f32(fct_f32_to_f16(data[i])));
    assert_ok(fct_store_read(s, 0, 127, 2, rows, meta));
    assert_true(rows[1] == 127 && rows[D + 1] == 128 && meta[1].prompt == 0);
    assert_fails(FCT_ERR_RANGE, "row 1000", fct_store_read(s, 0, 999, 2, rows, NULL));
    fct_store_close(s);
    data[5] = 1e6f;
    fct_tensor_entry e = {(char[]){"r"}, fct_tensor_of(data, FCT_F32, 2, (int64_t[]){2, D})};
    assert_ok(fct_safetensors_write(temp_path("big.safetensors"), &e, 1, NULL));
    char file[1024];
    snprintf(file, sizeof file, "%s", temp_path("big.safetensors"));
    const char *const big[] = {file};
    assert_fails(
        FCT_ERR_RANGE, "f16 cannot hold 1e+06",
        fct_store_import(&(fct_import_desc){
            .files = big, .n_files = 1, .out = temp_path("big"), .store_dtype = FCT_STORE_F16}));
    assert_fails(FCT_ERR_MISSING, "not finished", fct_store_open(&s, temp_path("big")));
    assert_ok(
        fct_store_import(&(fct_import_desc){.files = big, .n_files = 1, .out = temp_path("big")}));
    assert_ok(fct_store_open(&s, temp_path("big"))); /* an import that failed can be done again */
    fct_store_close(s);
    assert_fails(
        FCT_ERR_ARG, "not empty and not a store",
        fct_store_import(&(fct_import_desc){.files = big, .n_files = 1, .out = temp_path("")}));
    remove_tree(temp_path("store"));
    remove_tree(temp_path("big"));
}

static void test_damage(void **state)
{
    (void)state;
    static const struct {
        const char *json, *says;
    } row[] = {
        {"[]", "want an object"},
        {"{\"format\": \"x\"}", "format is not facet-store"},
        {"{\"format\": \"facet-store\", \"version\": 99}", "version 99"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"i64\"}",
         "want f16, bf16, f32 or i8"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\"}",
         "blocks: want a list"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": "
         "[{\"name\": \"../x\"}]}",
         "can be a folder"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": "
         "[{\"name\": \"x\", \"d\": 2, "
         "\"rows\": 5, \"shards\": [{\"file\": \"0\", \"rows\": 4}]}]}",
         "4 rows together, not 5"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": "
         "[{\"name\": \"x\", \"d\": 2, "
         "\"rows\": 4, \"shards\": [{\"file\": \"../0\", \"rows\": 4}]}]}",
         "can be a folder"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": "
         "[{\"name\": \"x\", \"d\": 4611686018427387904, "
         "\"rows\": 4, \"shards\": [{\"file\": \"0\", \"rows\": 4}]}]}",
         "not possible"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": "
         "[{\"name\": \"x\", \"d\": 1073741824, \"rows\": 4611686018427387904, "
         "\"shards\": [{\"file\": \"0\", \"rows\": 4611686018427387904}]}]}",
         "rows of 1073741824 numbers are not possible"},
        {"{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": "
         "[{\"name\": \"x\", \"d\": 2, \"grid\": [4611686018427387904, 4], "
         "\"rows\": 4, \"shards\": [{\"file\": \"0\", \"rows\": 4}]}]}",
         "grid is not possible"},
    };
    fct_store *s;
    char path[1100];
    assert_ok(fct_dir_make(temp_path("bad")));
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        snprintf(path, sizeof path, "%s/store.json", temp_path("bad"));
        assert_ok(fct_file_write(path, row[i].json, (int64_t)strlen(row[i].json)));
        fct_status st = fct_store_open(&s, temp_path("bad"));
        assert_true(st != FCT_OK && s == NULL);
        if (!strstr(fct_error_text(), row[i].says))
            fail_msg("%s: %s", row[i].json, fct_error_text());
    }
    remove_tree(temp_path("bad"));
    assert_fails(FCT_ERR_MISSING, "no store in it", fct_store_open(&s, temp_path("bad")));
    /* a shard of another size than store.json says */
    float x[D];
    make_inputs();
    assert_ok(import_two("cut", "x", FCT_STORE_F32));
    make_rows(temp_path("a.safetensors"), 0, 100);
    snprintf(path, sizeof path, "%s/x/00003.safetensors", temp_path("cut"));
    assert_int_equal(rename(temp_path("a.safetensors"), path), 0);
    assert_ok(fct_store_open(&s, temp_path("cut")));
    assert_ok(fct_store_read(s, 0, 0, 1, x, NULL));
    assert_fails(FCT_ERR_FORMAT, "00003.safetensors: rows: want",
                 fct_store_read(s, 0, 3 * 128, 1, x, NULL));
    fct_store_close(s);
    remove_tree(temp_path("cut"));
}

static void test_faults(void **state)
{
    (void)state;
    make_inputs();
    for (int64_t nth = 1; nth < 200; nth++) {
        fct_fault_write(nth);
        fct_status st = import_two("faulty", "x", FCT_STORE_F32);
        fct_fault_write(0);
        remove_tree(temp_path("faulty"));
        if (st == FCT_OK) {
            assert_true(nth > 5);
            return;
        }
    }
    fail_msg("the import never succeeded");
}

/* ---- orders ---- */

/* Reads a pass in pieces of `want` rows; which[i]: the row that came as number i. */
static void read_pass(fct_row_source *r, int64_t want, int64_t n, int64_t *which)
{
    int64_t at = 0;
    for (;;) {
        const float *x;
        int64_t got = 0;
        assert_ok(r->next(r->self, want, &x, &got));
        if (got == 0) break;
        assert_true(got <= want && at + got <= n);
        for (int64_t i = 0; i < got; i++) {
            which[at + i] = (int64_t)x[i * D + 1];
            assert_true(x[i * D] == x[i * D + 1] + 0.25f);
        }
        at += got;
    }
    assert_int_equal(at, n);
}

static void check_once(const int64_t *which, int64_t first, int64_t n)
{
    static uint8_t seen[N];
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < n; i++) {
        assert_true(which[i] >= first && which[i] < first + n);
        assert_int_equal(seen[which[i]]++, 0);
    }
}

static void check_source(fct_row_source *r, int64_t first, int64_t n, bool shuffled)
{
    static int64_t a[N], b[N], c[N];
    assert_int_equal(r->total, n);
    assert_int_equal(r->d, D);
    read_pass(r, 64, n, a);
    check_once(a, first, n);
    int64_t same = 0, moved = 0;
    for (int64_t i = 0; i < n; i++) moved += a[i] != first + i;
    assert_true(shuffled ? moved > n * 9 / 10 : moved == 0);
    assert_ok(r->rewind(r->self, 1));
    read_pass(r, 100, n, b);
    check_once(b, first, n);
    for (int64_t i = 0; i < n; i++) same += a[i] == b[i];
    assert_true(shuffled ? same < n / 10 : same == n);
    assert_ok(r->rewind(r->self, 0));
    read_pass(r, 7, n, c);
    assert_memory_equal(a, c, (size_t)n * sizeof *a); /* whatever the pieces */
    /* tell in the middle of pass 1, go elsewhere, seek */
    uint8_t blob[64];
    const float *x;
    int64_t got;
    assert_ok(r->rewind(r->self, 1));
    for (int i = 0; i < 3; i++) assert_ok(r->next(r->self, 50, &x, &got));
    assert_ok(r->tell(r->self, blob));
    assert_ok(r->rewind(r->self, 5));
    assert_ok(r->next(r->self, 33, &x, &got));
    assert_ok(r->seek(r->self, blob));
    read_pass(r, 64, n - 150, c);
    assert_memory_equal(b + 150, c, (size_t)(n - 150) * sizeof *b);
    blob[8] = 0xff;
    blob[15] = 0x7f;
    assert_fails(FCT_ERR_FORMAT, "of other rows", r->seek(r->self, blob));
    r->close(r->self);
}

static void test_orders(void **state)
{
    (void)state;
    fct_store *s;
    fct_row_source r;
    make_inputs();
    assert_ok(import_two("rows", "x", FCT_STORE_F32));
    assert_ok(fct_store_open(&s, temp_path("rows")));
    for (int shuffled = 0; shuffled < 2; shuffled++)
        for (int part = 0; part < 2; part++)
            for (int small = 0; small < 2; small++) {
                fct_rows_desc d = {.order = shuffled ? FCT_ORDER_SHUFFLED : FCT_ORDER_SEQUENTIAL,
                                   .seed = 3};
                if (part) d.first = 131;
                if (part) d.n = 600;
                if (small) d.memory_bytes = 512 * D * 4; /* two runs at a time */
                assert_ok(fct_store_rows(&r, s, &d));
                check_source(&r, part ? 131 : 0, part ? 600 : N, shuffled);
                if (small) continue;
                assert_ok(fct_rows_of_memory(&r, data, N, D, &d));
                check_source(&r, part ? 131 : 0, part ? 600 : N, shuffled);
            }
    assert_fails(FCT_ERR_RANGE, "there are 1000",
                 fct_store_rows(&r, s, &(fct_rows_desc){.first = 900, .n = 101}));
    fct_store_close(s);
    remove_tree(temp_path("rows"));
}

static void describe(char *out, size_t size, const fct_store *s, const fct_rows_desc *desc)
{
    fct_row_source r;
    const char *text;
    assert_ok(fct_store_rows(&r, s, desc));
    assert_ok(r.describe(r.self, &text));
    snprintf(out, size, "%s", text);
    r.close(r.self);
}

/* Equal for equal rows in equal order, different for every difference. */
static void test_description(void **state)
{
    (void)state;
    fct_store *s;
    char first[512], other[512];
    make_inputs();
    assert_ok(import_two("rows", "x", FCT_STORE_F32));
    assert_ok(import_two("rows", "y", FCT_STORE_F32));
    assert_ok(fct_store_open(&s, temp_path("rows")));
    const fct_rows_desc base = {.block = "x", .order = FCT_ORDER_SHUFFLED, .seed = 3};
    describe(first, sizeof first, s, &base);
    describe(other, sizeof other, s, &base);
    assert_string_equal(first, other);
    const fct_rows_desc changed[] = {
        {.block = "y", .order = FCT_ORDER_SHUFFLED, .seed = 3},
        {.block = "x", .seed = 3},
        {.block = "x", .order = FCT_ORDER_SHUFFLED, .seed = 4},
        {.block = "x", .order = FCT_ORDER_SHUFFLED, .seed = 3, .n = N - 1},
        {.block = "x", .order = FCT_ORDER_SHUFFLED, .seed = 3, .first = 1},
        {.block = "x", .order = FCT_ORDER_SHUFFLED, .seed = 3, .memory_bytes = 512 * D * 4},
    };
    for (size_t i = 0; i < FCT_COUNT(changed); i++) {
        describe(other, sizeof other, s, &changed[i]);
        if (strcmp(first, other) == 0) fail_msg("change %zu is not seen: %s", i, first);
    }
    fct_store_close(s);
    remove_tree(temp_path("rows"));
    make_rows(temp_path("a.safetensors"), 1, 700); /* store.json says the same, the rows differ */
    assert_ok(import_two("rows", "x", FCT_STORE_F32));
    assert_ok(fct_store_open(&s, temp_path("rows")));
    describe(other, sizeof other, s, &base);
    assert_string_not_equal(first, other);
    fct_store_close(s);
    remove_tree(temp_path("rows"));
}

/* A place is refused by a source whose groups, and so whose order, are others. */
static void test_other_groups(void **state)
{
    (void)state;
    fct_store *s;
    fct_row_source r;
    uint8_t blob[64];
    fct_rows_desc desc = {.order = FCT_ORDER_SHUFFLED, .memory_bytes = 512 * D * 4};
    make_inputs();
    assert_ok(import_two("rows", "x", FCT_STORE_F32));
    assert_ok(fct_store_open(&s, temp_path("rows")));
    assert_ok(fct_store_rows(&r, s, &desc));
    assert_ok(r.tell(r.self, blob));
    r.close(r.self);
    desc.memory_bytes = 0;
    assert_ok(fct_store_rows(&r, s, &desc));
    assert_fails(FCT_ERR_FORMAT, "memory_bytes must be the same", r.seek(r.self, blob));
    r.close(r.self);
    fct_store_close(s);
    remove_tree(temp_path("rows"));
}

/* Every row is equally likely at every place: the mean place of each over many seeds. */
static void test_uniform(void **state)
{
    (void)state;
    enum { ROWS = 10, SEEDS = 4000 };
    static float x[ROWS * 2];
    double sum[ROWS] = {0};
    for (int i = 0; i < ROWS; i++) x[2 * i] = (float)i;
    for (int seed = 0; seed < SEEDS; seed++) {
        fct_row_source r;
        const float *rows;
        int64_t n;
        assert_ok(fct_rows_of_memory(
            &r, x, ROWS, 2, &(fct_rows_desc){.order = FCT_ORDER_SHUFFLED, .seed = (uint64_t)seed}));
        assert_ok(r.next(r.self, ROWS, &rows, &n));
        for (int i = 0; i < ROWS; i++) sum[(int)rows[2 * i]] += i;
        r.close(r.self);
    }
    for (int i = 0; i < ROWS; i++) assert_true(fabs(sum[i] / SEEDS - 4.5) < 5 * 2.88 / sqrt(SEEDS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),     cmocka_unit_test(test_import),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_faults),
        cmocka_unit_test(test_orders),      cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_description), cmocka_unit_test(test_other_groups),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

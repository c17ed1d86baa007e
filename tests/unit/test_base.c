/* test_base.c - errors, checked integers, memory, arena, strings, numbers, JSON and SHA-256 of
 * src/base. */
#include "fct_test.h"

static void test_error_text(void **state)
{
    (void)state;
    assert_int_equal(fct_fail(FCT_ERR_IO, "open %s", "x"), FCT_ERR_IO);
    assert_string_equal(fct_error_text(), "open x");
    assert_int_equal(fct_where(FCT_ERR_IO, "loading %s", "unet"), FCT_ERR_IO);
    assert_string_equal(fct_error_text(), "loading unet: open x");
    assert_int_equal(fct_where(FCT_OK, "nothing"), FCT_OK);
    assert_string_equal(fct_error_text(), "loading unet: open x");
    fct_fail(FCT_ERR_IO, "again: %s", fct_error_text()); /* the old text may be an argument */
    assert_string_equal(fct_error_text(), "again: loading unet: open x");
    for (int st = 0; st < FCT_STATUS_COUNT; st++)
        assert_true(strlen(fct_status_name((fct_status)st)) > 1);
    assert_string_equal(fct_version(), FCT_VERSION);
}

static void test_long_text_stays_utf8(void **state)
{
    (void)state;
    char many[6000];
    for (size_t i = 0; i + 2 < sizeof many; i += 2) memcpy(many + i, "\xc3\xa4", 3);
    for (int shift = 0; shift < 2; shift++) {
        fct_fail(FCT_ERR_ARG, "%s%s", shift ? "x" : "", many);
        json_t *j = json_string(fct_error_text()); /* NULL when not valid UTF-8 */
        assert_non_null(j);
        json_decref(j);
    }
}

static void test_checked(void **state)
{
    (void)state;
    int64_t v;
    assert_ok(fct_mul_i64(&v, 1LL << 31, 1LL << 31));
    assert_true(v == 1LL << 62);
    assert_fails(FCT_ERR_RANGE, "not a possible size", fct_mul_i64(&v, 1LL << 32, 1LL << 31));
    assert_fails(FCT_ERR_RANGE, "not a possible size", fct_mul_i64(&v, -1, 0));
    assert_ok(fct_add_i64(&v, INT64_MAX, 0));
    assert_fails(FCT_ERR_RANGE, "not a possible size", fct_add_i64(&v, INT64_MAX, 1));
    assert_fails(FCT_ERR_RANGE, "not a possible size", fct_add_i64(&v, 5, -1));
}

static void test_memory(void **state)
{
    (void)state;
    int *p = NULL;
    for (int64_t n = 0; n < 200; n += 7) {
        assert_ok(fct_new(&p, n, sizeof *p));
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (int64_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
        fct_free(p);
    }
    assert_fails(FCT_ERR_RANGE, "", fct_new(&p, INT64_MAX, 8));
    assert_null(p);
    assert_fails(FCT_ERR_MEMORY, "out of memory", fct_new(&p, 1, INT64_MAX / 2));
    assert_ok(fct_new(&p, 3, sizeof *p));
    p[2] = 7;
    assert_ok(fct_grow(&p, 3, 100, sizeof *p));
    assert_int_equal(p[2], 7);
    assert_int_equal(p[99], 0);
    fct_fault_alloc(1);
    assert_fails(FCT_ERR_MEMORY, "out of memory", fct_grow(&p, 100, 200, sizeof *p));
    assert_int_equal(p[2], 7); /* the old block is still there */
    assert_ok(fct_grow(&p, 100, 1, sizeof *p));
    fct_free(p);
    p = NULL;
    int64_t room = 0;
    assert_ok(fct_reserve(&p, &room, 8, sizeof *p));
    int *kept = p;
    fct_fault_alloc(1);
    assert_ok(fct_reserve(&p, &room, 3, sizeof *p)); /* enough is there: nothing is taken */
    assert_true(p == kept && room == 8);
    assert_fails(FCT_ERR_MEMORY, "out of memory", fct_reserve(&p, &room, 9, sizeof *p));
    assert_true(p == NULL && room == 0);
    assert_ok(fct_reserve(&p, &room, 9, sizeof *p));
    assert_int_equal(room, 9);
    fct_free(p);
    fct_free(NULL);
}

/* A made-up run: what it takes depends only on its sizes, as in a model. */
static fct_status pretend_run(fct_arena *a, const int64_t *size, int n)
{
    float *keep, *work;
    FCT_TRY(fct_arena_take(a, &keep, size[0], sizeof *keep));
    for (int i = 1; i < n; i++) {
        fct_mark m = fct_arena_mark(a);
        FCT_TRY(fct_arena_take(a, &work, size[i], sizeof *work));
        if (!fct_arena_dry(a)) memset(work, i, (size_t)size[i] * sizeof *work);
        FCT_TRY(fct_arena_take(a, &work, size[i] / 3, 1));
        fct_arena_reset(a, m);
    }
    return FCT_OK;
}

static void test_arena_dry_peak_is_real_peak(void **state)
{
    (void)state;
    const int64_t size[] = {3, 1000, 77, 0, 4096, 1};
    fct_arena dry, real;
    assert_ok(fct_arena_init(&dry, 0));
    assert_true(fct_arena_dry(&dry));
    assert_ok(pretend_run(&dry, size, (int)FCT_COUNT(size)));
    assert_true(dry.peak > 0);
    assert_ok(fct_arena_init(&real, dry.peak));
    assert_ok(pretend_run(&real, size, (int)FCT_COUNT(size)));
    assert_true(real.peak == dry.peak && real.used == dry.used);
    fct_arena_clear(&real);
    assert_ok(fct_arena_init(&real, dry.peak - 1)); /* one byte less does not do */
    assert_fails(FCT_ERR_MEMORY, "arena", pretend_run(&real, size, (int)FCT_COUNT(size)));
    fct_arena_clear(&real);
    assert_fails(FCT_ERR_RANGE, "", fct_arena_take(&dry, &(void *){NULL}, INT64_MAX, 2));
    assert_fails(FCT_ERR_ARG, "arena", fct_arena_init(&real, -1));
    fct_arena_clear(&dry);
}

static void test_strings(void **state)
{
    (void)state;
    fct_str s = {0};
    for (int i = 0; i < 100; i++) assert_ok(fct_str_printf(&s, "%d,", i));
    assert_int_equal(s.n, 290);
    assert_ok(fct_str_append_n(&s, "a\0b", 3));
    assert_int_equal(s.n, 293);
    assert_int_equal(s.p[293], 0);
    assert_fails(FCT_ERR_ARG, "bytes", fct_str_append_n(&s, "", -1));
    fct_str_clear(&s);
    char *p;
    assert_ok(fct_strdup(&p, NULL));
    assert_null(p);
    assert_ok(fct_format(&p, "%s-%d", "x", 5));
    assert_string_equal(p, "x-5");
    fct_free(p);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } row[] = {{"", true},
               {"caf\xc3\xa9 \xe2\x98\x95 \xf0\x9f\x90\x88", true},
               {"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", true}, /* around the surrogates */
               {"\xf4\x8f\xbf\xbf", true},
               {"caf\xe9", false},
               {"\x80", false},
               {"\xc3", false},
               {"\xe2\x98", false},
               {"\xe2\x98 ", false},
               {"\xc1\xbf", false}, /* longer than need be */
               {"\xe0\x9f\xbf", false},
               {"\xf0\x8f\xbf\xbf", false},
               {"\xed\xa0\x80", false},     /* a surrogate */
               {"\xf4\x90\x80\x80", false}, /* beyond Unicode */
               {"\xf0\x9f\x90 ", false},
               {"\xff", false}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        json_t *j = json_string(row[i].text); /* what is refused here JSON could not hold */
        if (fct_is_utf8(row[i].text) != row[i].valid || (j != NULL) != row[i].valid)
            fail_msg("row %d", (int)i);
        json_decref(j);
    }
    assert_true(fct_utf8_valid("a\0b", 3));
    assert_false(fct_utf8_valid("\xc3\xa9", 1));
}

static void test_glob(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } row[] = {{"", "", true},
               {"*", "", true},
               {"?", "", false},
               {"a*c", "abbc", true},
               {"a*c", "abbd", false},
               {"*.attn?", "x.attn1", true},
               {"*a*b*", "xxaxxbxx", true},
               {"?", "\xc3\xa4", true},
               {"??", "\xc3\xa4", false},
               {"down.*", "down.2.1", true},
               {"down.*", "up.0.1", false},
               {"*ab", "aab", true},
               {"a", "ab", false},
               {"ab", "a", false},
               {"**", "x", true}};
    for (size_t i = 0; i < FCT_COUNT(row); i++)
        if (fct_glob_match(row[i].pattern, row[i].text) != row[i].match)
            fail_msg("glob %s on %s", row[i].pattern, row[i].text);
}

static void test_numbers(void **state)
{
    (void)state;
    int64_t v;
    double d;
    assert_ok(fct_parse_i64(&v, "-12", -20, 20));
    assert_int_equal(v, -12);
    static const char *const not_whole[] = {"", " 1", "1 ", "1.0", "0x10", "-", "+", "1e3", "--1"};
    for (size_t i = 0; i < FCT_COUNT(not_whole); i++)
        assert_fails(FCT_ERR_ARG, "not a whole number", fct_parse_i64(&v, not_whole[i], -20, 20));
    assert_fails(FCT_ERR_RANGE, "between", fct_parse_i64(&v, "21", -20, 20));
    assert_fails(FCT_ERR_RANGE, "between", fct_parse_i64(&v, "99999999999999999999", 0, INT64_MAX));
    assert_ok(fct_parse_f64(&d, "1.25e2", 0, 1000));
    assert_true(d == 125.0);
    assert_ok(fct_parse_f64(&d, "-.5", -1, 1));
    static const char *const no_number[] = {"",    "nan", "inf", "0x1p3", " 1",
                                            "1,5", "1e",  "e5",  "--1",   "1.2.3"};
    for (size_t i = 0; i < FCT_COUNT(no_number); i++)
        assert_fails(FCT_ERR_ARG, "not a number", fct_parse_f64(&d, no_number[i], -1e9, 1e9));
    assert_fails(FCT_ERR_RANGE, "between", fct_parse_f64(&d, "1e400", 0, 1e9));
    assert_fails(FCT_ERR_RANGE, "between", fct_parse_f64(&d, "2", 0, 1));
}

static void test_json(void **state)
{
    (void)state;
    static const char text[] =
        "{\"i\": 3, \"f\": 0.5, \"w\": 512.0, \"b\": true, \"s\": \"x\", \"n\": null, \"l\": [1]}";
    json_t *j;
    int64_t i;
    double f;
    bool b;
    const char *s;
    assert_ok(fct_json_parse(&j, text, (int64_t)strlen(text), "c.json"));
    assert_ok(fct_json_i64(&i, j, "i", 9, "c.json"));
    assert_int_equal(i, 3);
    assert_ok(fct_json_i64(&i, j, "w", 9, "c.json"));
    assert_int_equal(i, 512);
    assert_ok(fct_json_i64(&i, j, "absent", 9, "c.json"));
    assert_int_equal(i, 9);
    assert_ok(fct_json_i64(&i, j, "n", 9, "c.json"));
    assert_int_equal(i, 9);
    assert_fails(FCT_ERR_FORMAT, "c.json: f: want a whole number",
                 fct_json_i64(&i, j, "f", 9, "c.json"));
    assert_fails(FCT_ERR_FORMAT, "c.json: s: want a whole number, found a text",
                 fct_json_i64(&i, j, "s", 9, "c.json"));
    assert_ok(fct_json_f64(&f, j, "i", 9, "c.json"));
    assert_true(f == 3.0);
    assert_fails(FCT_ERR_FORMAT, "b: want a number, found true",
                 fct_json_f64(&f, j, "b", 9, "c.json"));
    assert_ok(fct_json_bool(&b, j, "b", false, "c.json"));
    assert_true(b);
    assert_fails(FCT_ERR_FORMAT, "i: want true or false",
                 fct_json_bool(&b, j, "i", false, "c.json"));
    assert_ok(fct_json_str(&s, j, "s", NULL, "c.json"));
    assert_string_equal(s, "x");
    assert_fails(FCT_ERR_FORMAT, "l: want a text, found a list",
                 fct_json_str(&s, j, "l", NULL, "c.json"));
    json_decref(j);
    assert_fails(FCT_ERR_FORMAT, "c.json:2:", fct_json_parse(&j, "{\n,", 3, "c.json"));
    assert_null(j);
    assert_fails(FCT_ERR_FORMAT, "c.json", fct_json_parse(&j, "{\"a\":1,\"a\":2}", 13, "c.json"));
    assert_fails(FCT_ERR_FORMAT, "c.json", fct_json_parse(&j, "", 0, "c.json"));
    assert_fails(FCT_ERR_FORMAT, "c.json", fct_json_parse(&j, "{} x", 4, "c.json"));
}

static void test_json_text(void **state)
{
    (void)state;
    json_t *j = json_pack("{s:f,s:f,s:i,s:s,s:[i,i],s:{},s:[],s:[{s:n}]}", "a", 0.1, "b", 1.0, "c",
                          -3, "d", "q\"\\\n\x01\xc3\xa4", "e", 1, 2, "f", "g", "h", "k");
    fct_str s = {0};
    assert_ok(fct_json_text(&s, j, 0));
    assert_string_equal(s.p, "{\"a\": 0.1, \"b\": 1.0, \"c\": -3, \"d\": "
                             "\"q\\\"\\\\\\n\\u0001\xc3\xa4\", \"e\": [1, 2], "
                             "\"f\": {}, \"g\": [], \"h\": [{\"k\": null}]}");
    fct_str_clear(&s);
    assert_ok(fct_json_text(&s, j, 2));
    json_t *again;
    assert_ok(fct_json_parse(&again, s.p, s.n, "again"));
    assert_true(json_equal(j, again));
    assert_non_null(strstr(s.p, "\n  \"e\": [1, 2],\n"));
    json_decref(again);
    json_decref(j);
    fct_str_clear(&s);
    static const double value[] = {1.0 / 3, 1e300, 5e-324, 0.13025, 123456789012345678.0, -0.0};
    for (size_t i = 0; i < FCT_COUNT(value); i++) {
        j = json_pack("[f]", value[i]);
        assert_ok(fct_json_text(&s, j, 0));
        assert_ok(fct_json_parse(&again, s.p, s.n, "number"));
        assert_true(json_real_value(json_array_get(again, 0)) == value[i]);
        json_decref(again);
        json_decref(j);
        fct_str_clear(&s);
    }
}

static void test_sha256(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int repeat;
        const char *hex;
    } row[] = {
        /* FIPS 180-4 examples */
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_sha256 s;
        char hex[65];
        fct_sha256_init(&s);
        for (int k = 0; k < row[i].repeat; k++)
            fct_sha256_add(&s, row[i].text, (int64_t)strlen(row[i].text));
        fct_sha256_hex(&s, hex);
        assert_string_equal(hex, row[i].hex);
    }
}

static void record(void *user, fct_log_level level, const char *text)
{
    snprintf(user, 64, "%d %s", (int)level, text);
}

static void test_log(void **state)
{
    (void)state;
    char got[64] = "";
    volatile int stop = 0;
    const fct_log log = {.user = got, .line = record, .stop = &stop};
    fct_log_line(&log, FCT_LOG_WARN, "%d prompts", 3);
    assert_string_equal(got, "1 3 prompts");
    fct_log_line(NULL, FCT_LOG_WARN, "silence");
    fct_log_progress(&log, "rows", 1, 2);
    assert_ok(fct_log_check_stop(&log));
    assert_ok(fct_log_check_stop(NULL));
    stop = 1;
    assert_fails(FCT_ERR_STOPPED, "stopped", fct_log_check_stop(&log));
    double before = fct_seconds();
    assert_true(fct_seconds() >= before);
    assert_true(fct_threads() >= 1);
}

static void test_crc32c(void **state)
{
    (void)state;
    fct_crc32c c;
    uint8_t bytes[32];
    static const struct { /* RFC 3720 B.4: 32 bytes each */
        int first, by;
        uint32_t crc;
    } row[] = {
        {0, 0, 0x8a9136aau}, {0xff, 0, 0x62a8ab43u}, {0, 1, 0x46dd794eu}, {31, -1, 0x113fdb5cu}};
    fct_crc32c_init(&c);
    assert_int_equal(c.value, 0);
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        for (int k = 0; k < 32; k++) bytes[k] = (uint8_t)(row[i].first + k * row[i].by);
        c.value = 0;
        fct_crc32c_add(&c, bytes, 32);
        assert_int_equal(c.value, row[i].crc);
        c.value = 0; /* in pieces of every length */
        for (int at = 0, n = 0; at < 32; at += n++)
            fct_crc32c_add(&c, bytes + at, n < 32 - at ? n : 32 - at);
        assert_int_equal(c.value, row[i].crc);
    }
    c.value = 0;
    fct_crc32c_add(&c, "123456789", 9); /* the usual check value */
    assert_int_equal(c.value, 0xe3069283u);
}

enum { JOBS = 40, BAD = 17 };

typedef struct jobs {
    int runs[JOBS], hand[JOBS], threads[JOBS];
    int bad; /* fails, and so do those after it; if not negative */
} jobs;

static fct_status run_job(void *self, int hand, int64_t i)
{
    jobs *j = self;
    j->runs[i]++;
    j->hand[i] = hand;
    j->threads[i] = fct_threads();
    return j->bad >= 0 && i >= j->bad ? fct_fail(FCT_ERR_IO, "job %d", (int)i) : FCT_OK;
}

/* Every job once, on a hand that there is, with one thread; the caller keeps its own number. */
static void test_share(void **state)
{
    (void)state;
    fct_threads_set(3);
    int before = fct_threads();
    jobs all = {.bad = -1}, some = {.bad = BAD};
    assert_int_equal(
        fct_share(&(fct_share_desc){.n = JOBS, .workers = before, .job = run_job, .self = &all}),
        FCT_OK);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(all.runs[i], 1);
        assert_in_range(all.hand[i], 0, before - 1);
        assert_int_equal(all.threads[i], 1);
    }
    assert_int_equal(fct_threads(), before);
    assert_int_equal(
        fct_share(&(fct_share_desc){.n = JOBS, .workers = 1, .job = run_job, .self = &some}),
        FCT_ERR_IO);
    assert_string_equal(fct_error_text(), "job 17");
    for (int i = 0; i < JOBS; i++) assert_int_equal(some.runs[i], i <= BAD);
    some = (jobs){.bad = BAD};
    assert_int_equal(
        fct_share(&(fct_share_desc){.n = JOBS, .workers = before, .job = run_job, .self = &some}),
        FCT_ERR_IO);
    assert_string_equal(fct_error_text(), "job 17");
    for (int i = 0; i <= BAD; i++)
        assert_int_equal(some.runs[i], 1); /* none is left out before it */
    assert_int_equal(fct_threads(), before);
    fct_threads_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_error_text),
                                       cmocka_unit_test(test_long_text_stays_utf8),
                                       cmocka_unit_test(test_checked),
                                       cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_arena_dry_peak_is_real_peak),
                                       cmocka_unit_test(test_strings),
                                       cmocka_unit_test(test_utf8),
                                       cmocka_unit_test(test_glob),
                                       cmocka_unit_test(test_numbers),
                                       cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_json_text),
                                       cmocka_unit_test(test_sha256),
                                       cmocka_unit_test(test_crc32c),
                                       cmocka_unit_test(test_log),
                                       cmocka_unit_test(test_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_tokenizer.c - token ids against transformers' slow CLIPTokenizer on several hundred strings,
   for both ways of padding; files that are not what they should be. */
#include "fct_test.h"
#include "twin.h"

#include "model/model.h"

static void show(const char *text, const int32_t *got, const json_t *want, int64_t n)
{
    fct_str s = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < n && st == FCT_OK; i++)
        st = fct_str_printf(&s, " %d/%lld", got[i],
                            (long long)json_integer_value(json_array_get(want, (size_t)i)));
    print_message("  \"%s\": got/want%s\n", text, st == FCT_OK ? s.p : "");
    fct_str_clear(&s);
}

static int compare(const fct_tokenizer *t, const char *text, const json_t *want)
{
    int64_t n = fct_tokenizer_length(t);
    int32_t *ids = NULL;
    int bad = 0;
    assert_int_equal(json_array_size(want), n);
    assert_ok(fct_new(&ids, n, sizeof *ids));
    assert_ok(fct_tokenizer_encode(t, text, ids, NULL));
    for (int64_t i = 0; i < n; i++)
        bad |= ids[i] != json_integer_value(json_array_get(want, (size_t)i));
    if (bad) show(text, ids, want, n);
    fct_free(ids);
    return bad;
}

/* All strings of a file through the two tokenizers of a folder. */
static void run_vectors(const char *folder, const char *vectors)
{
    char sub[1100];
    fct_tokenizer *t[2];
    json_t *root = NULL, *c;
    size_t i;
    int bad = 0, n = 0;
    for (int k = 0; k < 2; k++) {
        snprintf(sub, sizeof sub, "%s/%s", folder, k ? "tokenizer_2" : "tokenizer");
        assert_ok(fct_tokenizer_open(&t[k], sub));
    }
    assert_ok(fct_json_read(&root, vectors));
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        const json_t *text = json_array_get(c, 0);
        for (size_t k = 0; k < 2; k++)
            bad += compare(t[k], json_string_value(text), json_array_get(c, k + 1));
        n++;
    }
    print_message("  %d strings, both tokenizers\n", n);
    assert_true(n > 300);
    assert_int_equal(bad, 0);
    for (int k = 0; k < 2; k++) fct_tokenizer_close(t[k]);
    json_decref(root);
}

static void test_vectors(void **s)
{
    (void)s;
    assert_ok(twin_write(test_path("golden/twin/a.json"), temp_path("a")));
    run_vectors(temp_path("a"), test_path("golden/tokenizer.json"));
}

/* The 49,408 tokens of the real models, which are not in the repository:
 * tools/make_tokenizer_vectors.py says how. */
static void test_real(void **s)
{
    (void)s;
    char vectors[1100];
    const char *folder = getenv("FACET_TOKENIZER_DIR");
    if (!folder) {
        print_message("  skipped: FACET_TOKENIZER_DIR does not name the real vocabulary\n");
        skip();
    }
    snprintf(vectors, sizeof vectors, "%s/tokenizer.json", folder);
    run_vectors(folder, vectors);
}

static void test_cut(void **s)
{
    (void)s;
    char sub[1100];
    fct_tokenizer *t = NULL;
    assert_ok(twin_write(test_path("golden/twin/b.json"), temp_path("b")));
    snprintf(sub, sizeof sub, "%s/tokenizer", temp_path("b"));
    assert_ok(fct_tokenizer_open(&t, sub));
    int32_t ids[16];
    char *cut = NULL;
    assert_int_equal(fct_tokenizer_length(t), 16);
    assert_ok(fct_tokenizer_encode(t, "the the the the the the the the the the the the the the",
                                   ids, &cut));
    assert_null(cut);
    assert_ok(fct_tokenizer_encode(
        t, "the the the the the the the the the the the the the the Mé\xc3\xbcr x", ids, &cut));
    assert_string_equal(cut, "méür x");
    fct_free(cut);
    assert_ok(fct_tokenizer_encode(t, "broken \xff\xc3 bytes \xed\xa0\x80", ids,
                                   &cut)); /* dropped, as U+FFFD is */
    int32_t same[16];
    assert_ok(fct_tokenizer_encode(t, "broken bytes", same, &cut));
    assert_memory_equal(ids, same, sizeof ids);
    fct_tokenizer_close(t);
}

static void broken(const char *name, const char *file, const char *text, fct_status st,
                   const char *sentence)
{
    char path[1200];
    const char *folder = temp_path(name);
    fct_tokenizer *t = NULL;
    assert_ok(twin_write(test_path("golden/twin/b.json"), folder));
    snprintf(path, sizeof path, "%s/tokenizer/%s", folder, file);
    if (text)
        assert_ok(fct_file_write(path, text, (int64_t)strlen(text)));
    else
        assert_ok(fct_file_remove(path));
    snprintf(path, sizeof path, "%s/tokenizer", folder);
    assert_fails(st, sentence, fct_tokenizer_open(&t, path));
}

static void test_broken(void **s)
{
    (void)s;
    broken("t1", "vocab.json", NULL, FCT_ERR_MISSING, "vocab.json");
    broken("t2", "vocab.json", "[1]", FCT_ERR_FORMAT, "want a JSON object");
    broken("t3", "vocab.json", "{\"a\": \"b\"}", FCT_ERR_FORMAT, "want an id");
    broken("t5", "merges.txt", "#version\na b\nc\n", FCT_ERR_FORMAT, "line 3");
    broken("t6", "merges.txt", NULL, FCT_ERR_MISSING, "merges.txt");
    broken("t7", "tokenizer_config.json", "{\"pad_token\": \"<pad>\"}", FCT_ERR_FORMAT,
           "pad_token \"<pad>\"");
    broken("t8", "tokenizer_config.json", "{\"model_max_length\": 1}", FCT_ERR_RANGE,
           "model_max_length");
}

/* Whichever allocation fails, the ids are right or there are none. */
static void test_no_memory(void **s)
{
    (void)s;
    static const char text[] = "the quick brown the fox";
    char sub[1100], *cut = NULL;
    fct_tokenizer *t = NULL;
    int32_t right[16], ids[16];
    int done = 0;
    assert_ok(twin_write(test_path("golden/twin/b.json"), temp_path("b")));
    snprintf(sub, sizeof sub, "%s/tokenizer", temp_path("b"));
    assert_ok(fct_tokenizer_open(&t, sub));
    assert_ok(fct_tokenizer_encode(t, text, right, &cut));
    fct_free(cut);
    for (int nth = 1; nth < 200; nth++) {
        fct_fault_alloc(nth);
        fct_status st = fct_tokenizer_encode(t, text, ids, &cut);
        fct_fault_alloc(0);
        if (st != FCT_OK) continue;
        assert_memory_equal(ids, right, sizeof ids);
        fct_free(cut);
        done++;
    }
    assert_in_range(done, 1, 198);
    fct_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_real),
                                       cmocka_unit_test(test_cut), cmocka_unit_test(test_broken),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

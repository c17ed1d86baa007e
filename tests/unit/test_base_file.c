/* test_base_file.c - files, folders and atomic output: nothing half-written, whatever fails. */
#include <sys/stat.h>

#include "fct_test.h"

static void assert_content(const char *path, const char *want)
{
    char *text;
    int64_t n;
    assert_ok(fct_file_read(&text, &n, path));
    assert_int_equal(n, (int64_t)strlen(want));
    assert_string_equal(text, want);
    fct_free(text);
}

static int count_names(const char *folder, const char *part)
{
    char **names;
    int64_t n;
    int found = 0;
    assert_ok(fct_dir_list(&names, &n, folder));
    for (int64_t i = 0; i < n; i++) found += strstr(names[i], part) != NULL;
    fct_names_free(names, n);
    return found;
}

static void test_write_and_read(void **state)
{
    (void)state;
    const char *path = temp_path("a.txt");
    assert_ok(fct_file_write(path, "one", 3));
    assert_content(path, "one");
    assert_ok(fct_file_write(path, "", 0));
    assert_content(path, "");
    fct_file f;
    assert_ok(fct_file_map(&f, path));
    assert_null(f.data);
    assert_int_equal(f.size, 0);
    fct_file_unmap(&f);
    assert_ok(fct_file_write(path, "three", 5));
    assert_ok(fct_file_map(&f, path));
    assert_int_equal(f.size, 5);
    assert_memory_equal(f.data, "three", 5);
    fct_file_unmap(&f);
    assert_ok(fct_file_remove(path));
    assert_ok(fct_file_remove(path)); /* fine when it is not there */
    assert_false(fct_path_exists(path));
}

static void test_refusals(void **state)
{
    (void)state;
    fct_file f;
    char *text;
    int64_t n;
    char **names;
    assert_fails(FCT_ERR_MISSING, "no-such", fct_file_map(&f, temp_path("no-such")));
    assert_fails(FCT_ERR_MISSING, "no-such", fct_file_read(&text, &n, temp_path("no-such")));
    assert_fails(FCT_ERR_MISSING, "no-such", fct_dir_list(&names, &n, temp_path("no-such")));
    assert_fails(FCT_ERR_ARG, "a folder", fct_file_map(&f, temp_path("")));
    assert_fails(FCT_ERR_ARG, "a folder", fct_file_write(temp_path(""), "x", 1));
    assert_fails(FCT_ERR_IO, "no-such/x", fct_file_write(temp_path("no-such/x"), "x", 1));
    assert_ok(fct_file_write("/dev/null", "x", 1)); /* written directly, not replaced */
    struct stat info;
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
}

static void test_uncommitted_leaves_nothing(void **state)
{
    (void)state;
    fct_out o;
    const char *path = temp_path("b.txt");
    assert_ok(fct_file_write(path, "old", 3));
    assert_ok(fct_out_open(&o, path));
    assert_ok(fct_out_write(&o, "new", 3));
    assert_int_equal(count_names(temp_path(""), ".tmp-"), 1);
    fct_out_clear(&o);
    assert_int_equal(count_names(temp_path(""), ".tmp-"), 0);
    assert_content(path, "old");
    fct_out_clear(&o); /* twice is fine, and so is a zeroed one */
    o = (fct_out){0};
    fct_out_clear(&o);
    assert_fails(FCT_ERR_ARG, "not open", fct_out_commit(&o));
}

/* Every step of an output (each write, the sync, the rename) fails once; so does every allocation.
 */
static void test_every_fault(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("c.txt"));
    enum { BIG = 1 << 20 };
    char *data;
    assert_ok(fct_new(&data, BIG, 1));
    assert_ok(fct_file_write(path, "old", 3));
    for (int kind = 0; kind < 2; kind++) {
        int failures = 0;
        for (int64_t nth = 1;; nth++) {
            fct_out o;
            if (kind == 0)
                fct_fault_write(nth);
            else
                fct_fault_alloc(nth);
            fct_status st = fct_out_open(&o, path);
            for (int i = 0; i < 3 && st == FCT_OK; i++) st = fct_out_write(&o, data, BIG / 3);
            if (st == FCT_OK) st = fct_out_write(&o, data, BIG);
            if (st == FCT_OK) st = fct_out_commit(&o);
            fct_out_clear(&o);
            fct_fault_write(0);
            fct_fault_alloc(0);
            assert_int_equal(count_names(temp_path(""), ".tmp-"), 0);
            if (st == FCT_OK) break;
            failures++;
            if (kind == 0) assert_non_null(strstr(fct_error_text(), "c.txt: No space left"));
            assert_int_equal(st, kind == 0 ? FCT_ERR_IO : FCT_ERR_MEMORY);
            assert_content(path, "old");
        }
        assert_true(failures >= 3);
        assert_ok(fct_file_write(path, "old", 3));
    }
    fct_free(data);
}

static void test_folders(void **state)
{
    (void)state;
    char *deep, **names;
    int64_t n;
    assert_ok(fct_path_join(&deep, temp_path("d"), "e"));
    assert_ok(fct_dir_make(deep));
    assert_ok(fct_dir_make(deep));
    assert_true(fct_path_is_dir(deep));
    assert_ok(fct_file_write(temp_path("d/b"), "", 0));
    assert_ok(fct_file_write(temp_path("d/a"), "", 0));
    assert_ok(fct_dir_list(&names, &n, temp_path("d")));
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[2], "e");
    fct_names_free(names, n);
    assert_fails(FCT_ERR_IO, "d/a", fct_dir_make(temp_path("d/a/x")));
    assert_int_equal(unlink(temp_path("d/a")) | unlink(temp_path("d/b")) | rmdir(deep), 0);
    fct_free(deep);
    assert_string_equal(fct_path_base("/x/y.z"), "y.z");
    assert_string_equal(fct_path_base("y"), "y");
    assert_ok(fct_path_join(&deep, "", "x"));
    assert_string_equal(deep, "x");
    fct_free(deep);
    assert_ok(fct_path_join(&deep, "a/", "b"));
    assert_string_equal(deep, "a/b");
    fct_free(deep);
    assert_ok(fct_path_join(&deep, "a", "/b"));
    assert_string_equal(deep, "/b");
    fct_free(deep);
    assert_ok(fct_program_dir(&deep));
    assert_true(fct_path_is_dir(deep));
    fct_free(deep);
}

static void test_absolute_paths(void **state)
{
    (void)state;
    char here[4096], folder[4096], *a, *b;
    assert_non_null(getcwd(here, sizeof here));
    snprintf(folder, sizeof folder, "%s", temp_path("abs"));
    assert_ok(fct_dir_make(folder));
    assert_int_equal(symlink("abs", temp_path("link")), 0);
    assert_int_equal(chdir(folder), 0);
    assert_ok(fct_path_absolute(&a, "."));
    assert_ok(fct_path_absolute(&b, "new.png"));
    assert_true(a[0] == '/' && strncmp(a, b, strlen(a)) == 0 &&
                strcmp(b + strlen(a), "/new.png") == 0);
    fct_free(a);
    fct_free(b);
    assert_true(fct_path_same("new.png", "../abs/./new.png"));
    assert_true(fct_path_same("new.png", "../link/new.png"));
    assert_true(fct_path_same("../link", "."));
    assert_false(fct_path_same("new.png", "new.jpg"));
    assert_false(fct_path_same("new.png", "../new.png"));
    assert_ok(fct_path_absolute(&a, "no/such/folder")); /* nobody can say: as it was given */
    assert_string_equal(a, "no/such/folder");
    fct_free(a);
    assert_ok(fct_path_absolute(&a, "/no-such-name"));
    assert_string_equal(a, "/no-such-name");
    fct_free(a);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(unlink(temp_path("link")) | rmdir(folder), 0);
}

static void test_json_files(void **state)
{
    (void)state;
    const char *path = temp_path("j.json");
    json_t *j = json_pack("{s:i}", "a", 1), *again;
    assert_ok(fct_json_write(j, path));
    assert_content(path, "{\n  \"a\": 1\n}\n");
    assert_ok(fct_json_read(&again, path));
    assert_true(json_equal(j, again));
    json_decref(again);
    fct_fault_write(1);
    assert_fails(FCT_ERR_IO, "j.json", fct_json_write(j, path));
    fct_fault_write(0);
    json_decref(j);
    assert_ok(fct_file_write(path, "{\"a\": }", 7));
    assert_fails(FCT_ERR_FORMAT, "j.json:1:", fct_json_read(&again, path));
    assert_fails(FCT_ERR_MISSING, "absent.json", fct_json_read(&again, temp_path("absent.json")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_write_and_read),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_uncommitted_leaves_nothing),
                                       cmocka_unit_test(test_every_fault),
                                       cmocka_unit_test(test_folders),
                                       cmocka_unit_test(test_absolute_paths),
                                       cmocka_unit_test(test_json_files)};
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

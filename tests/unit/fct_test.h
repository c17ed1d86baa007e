/* fct_test.h - what the C tests share: cmocka with its includes, assertions on statuses, paths, a
 * temporary folder. */
#ifndef FCT_TESTS_UNIT_FCT_TEST_H
#define FCT_TESTS_UNIT_FCT_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

/* The call succeeds; else its sentence is shown. */
#define assert_ok(expr)                                                                   \
    do {                                                                                  \
        fct_status assert_st_ = (expr);                                                   \
        if (assert_st_ != FCT_OK)                                                         \
            fail_msg("%s: %s: %s", #expr, fct_status_name(assert_st_), fct_error_text()); \
    } while (0)

/* The call fails with this status, and its sentence contains this text. */
#define assert_fails(status, text, expr)                                                           \
    do {                                                                                           \
        fct_status assert_st_ = (expr);                                                            \
        if (assert_st_ != (status) || !strstr(fct_error_text(), (text)))                           \
            fail_msg("%s: want %s and \"%s\", got %s: %s", #expr, fct_status_name(status), (text), \
                     fct_status_name(assert_st_), assert_st_ ? fct_error_text() : "");             \
    } while (0)

/* A file under tests/, by its path there. Four results stay valid at a time. */
static inline const char *test_path(const char *relative)
{
    static char path[4][1024];
    static int at;
    char *p = path[at++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", FCT_TEST_DIR, relative);
    return p;
}

/* A name inside a temporary folder of this process, made on first use. Four results stay valid at a
 * time. */
static inline const char *temp_path(const char *name)
{
    static char folder[256], path[4][1024];
    static int at;
    if (!folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/facet-test-XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(folder)) fail_msg("no temporary folder %s", folder);
    }
    char *p = path[at++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

/* Removes the temporary folder, and tells when a test left unfinished output behind in it. */
static inline int temp_clear(void **state)
{
    (void)state;
    char **names = NULL;
    int64_t n = 0;
    int leftovers = 0;
    const char *folder = temp_path("");
    if (fct_dir_list(&names, &n, folder) != FCT_OK) return 0;
    for (int64_t i = 0; i < n; i++) {
        if (strstr(names[i], ".tmp-")) leftovers++;
        if (unlink(temp_path(names[i])) != 0) rmdir(temp_path(names[i]));
    }
    fct_names_free(names, n);
    rmdir(folder);
    return leftovers;
}

/* Removes a file, or a folder with all in it, which must hold no temporary file left behind. */
static inline void remove_tree(const char *path)
{
    char **names = NULL, *inner = NULL;
    int64_t n = 0;
    if (!fct_path_is_dir(path)) {
        unlink(path);
        return;
    }
    assert_ok(fct_dir_list(&names, &n, path));
    for (int64_t i = 0; i < n; i++) {
        assert_null(strstr(names[i], ".tmp-"));
        assert_ok(fct_path_join(&inner, path, names[i]));
        remove_tree(inner);
        fct_free(inner);
    }
    fct_names_free(names, n);
    rmdir(path);
}

#endif

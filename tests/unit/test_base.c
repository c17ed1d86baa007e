/* test_base.c - errors, checked integers, memory, arena and strings of src/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

static void test_error_text(void **state)
{
    (void)state;
    assert_int_equal(fct_fail(FCT_ERR_IO, "open %s", "x"), FCT_ERR_IO);
    assert_string_equal(fct_error_text(), "open x");
    assert_int_equal(fct_where(FCT_ERR_IO, "loading %s", "unet"), FCT_ERR_IO);
    assert_string_equal(fct_error_text(), "loading unet: open x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_error_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

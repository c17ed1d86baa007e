/* fuzz_recipe.c - a recipe of any content is refused, or it can be written and reads back as the
   same; the same bytes are also tried as the text of an edit. */
#include <string.h>

#include "recipe/recipe.h"
#include "fuzz.h"

static void try_recipe(const uint8_t *data, int64_t n)
{
    fct_recipe r, again;
    char *a, *b;
    if (fct_recipe_parse(&r, data, n, "fuzz") != FCT_OK) return;
    if (fct_recipe_text(&a, &r) != FCT_OK) __builtin_trap();
    if (fct_recipe_parse(&again, a, (int64_t)strlen(a), "again") != FCT_OK) __builtin_trap();
    if (fct_recipe_text(&b, &again) != FCT_OK || strcmp(a, b) != 0) __builtin_trap();
    fct_free(a);
    fct_free(b);
    fct_recipe_clear(&r);
    fct_recipe_clear(&again);
}

static void try_edit(const char *text)
{
    fct_edit e, again;
    char *a, *b;
    if (fct_edit_parse(&e, text) != FCT_OK) return;
    if (fct_edit_text(&a, &e) != FCT_OK || fct_edit_parse(&again, a) != FCT_OK) __builtin_trap();
    if (fct_edit_text(&b, &again) != FCT_OK || strcmp(a, b) != 0) __builtin_trap();
    fct_free(a);
    fct_free(b);
    fct_edit_clear(&e);
    fct_edit_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fct_str s = {0};
    if (n > 20 && data[0] == 0x89 && (data[16] | data[17] | data[20]))
        return 0; /* large pictures only make it slow */
    try_recipe(data, (int64_t)n);
    if (fct_str_append_n(&s, (const char *)data, (int64_t)n) == FCT_OK) try_edit(s.p);
    fct_str_clear(&s);
    return 0;
}

/* names.c - lists the words that edits are written in, tells what kind of edit an operation is, and
   writes numbers and words. There is one table for text, JSON and errors alike. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/recipe.h"

const char *const fct_edit_op_names[] = {"add", "scale", "set", "only", "rebuild", "zero", "from"};
const char *const fct_edit_unit_names[] = {"mean", "std", "max", "one"};

int fct_half_find(const char *name)
{
    for (int i = FCT_HALF_DEFAULT; i <= FCT_HALF_BOTH; i++)
        if (strcmp(fct_half_name((fct_half)i), name) == 0) return i;
    return -1;
}

bool fct_edit_has_feature(fct_edit_op op)
{
    return op == FCT_EDIT_ADD || op == FCT_EDIT_SCALE || op == FCT_EDIT_SET || op == FCT_EDIT_ONLY;
}

bool fct_edit_replaces(fct_edit_op op)
{
    return op == FCT_EDIT_ONLY || op == FCT_EDIT_REBUILD || op == FCT_EDIT_ZERO;
}

void fct_number_text(char *text, int64_t size, double v)
{
    /* no minus before zero */
    v += 0.0;
    /* 10, not 1e+01 */
    if (fabs(v) < 1e15 && v == floor(v)) {
        snprintf(text, (size_t)size, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, (size_t)size, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    /* the locale may have a decimal comma */
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.';
}

fct_status fct_word_append(fct_str *s, const char *word)
{
    if (*word && !strpbrk(word, " \t\r\n\"\\")) return fct_str_append(s, word);
    FCT_TRY(fct_str_append(s, "\""));
    for (const char *p = word; *p; p++) {
        if (*p == '"' || *p == '\\') FCT_TRY(fct_str_append(s, "\\"));
        FCT_TRY(fct_str_append_n(s, p, 1));
    }
    return fct_str_append(s, "\"");
}

bool fct_edit_reads_codes(const fct_edit *e)
{
    return e->op == FCT_EDIT_SCALE || e->op == FCT_EDIT_SET || e->op == FCT_EDIT_REBUILD ||
           e->mask.kind == FCT_MASK_MAP;
}

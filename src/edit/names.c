/* names.c - the words of edits: one table each for text, JSON and errors, and how numbers and words
 * are written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edit/edit.h"

const char *const fct_edit_op_names[] = {"add", "scale", "set", "only", "rebuild", "zero", "from"};
const char *const fct_edit_unit_names[] = {"mean", "std", "max", "one"};
const char *const fct_edit_half_names[] = {"default", "cond", "uncond", "both"};

int fct_name_find(const char *const *names, int n, const char *text)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], text) == 0) return i;
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
    v += 0.0; /* no minus before zero */
    if (fabs(v) < 1e15 && v == floor(v)) {
        snprintf(text, (size_t)size, "%.0f", v); /* 10, not 1e+01 */
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, (size_t)size, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.'; /* the locale's decimal comma */
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

fct_status fct_path_in(char **out, const char *folder, const char *path)
{
    if (!folder || path[0] == '/') return fct_strdup(out, path);
    return fct_path_join(out, folder, path);
}

fct_status fct_path_folder(char **out, const char *path)
{
    FCT_TRY(fct_strdup(out, path));
    char *slash = strrchr(*out, '/');
    if (slash == *out)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    else {
        fct_free(*out);
        return fct_strdup(out, ".");
    }
    return FCT_OK;
}

/* kinds.c - reads a value of each kind of option, and says in words what is allowed. Refusals set
   the error text to what is wanted ("a whole number from 1 to 100"); the parser puts the option's
   name and the word before it. */
#include <stdio.h>
#include <string.h>

#include "cli/state.h"

const char *const fct_cli_kind_name[FCT_CLI_KIND_COUNT] = {
    [FCT_CLI_FLAG] = "flag",     [FCT_CLI_INT] = "int",     [FCT_CLI_FLOAT] = "float",
    [FCT_CLI_TEXT] = "text",     [FCT_CLI_FILE] = "file",   [FCT_CLI_FOLDER] = "folder",
    [FCT_CLI_CHOICE] = "choice", [FCT_CLI_STEPS] = "steps", [FCT_CLI_SIZE] = "size",
    [FCT_CLI_PAIR] = "pair"};

fct_cli_option fct_cli_whole(const fct_cli_option *row)
{
    static const fct_cli_kind kind[FCT_OPTION_KIND_COUNT] = {
        [FCT_OPTION_FLAG] = FCT_CLI_FLAG,   [FCT_OPTION_I64] = FCT_CLI_INT,
        [FCT_OPTION_U64] = FCT_CLI_INT,     [FCT_OPTION_F64] = FCT_CLI_FLOAT,
        [FCT_OPTION_ENUM] = FCT_CLI_CHOICE, [FCT_OPTION_SIZE] = FCT_CLI_SIZE,
        [FCT_OPTION_PAIR] = FCT_CLI_PAIR,   [FCT_OPTION_TEXT] = FCT_CLI_TEXT,
        [FCT_OPTION_FILE] = FCT_CLI_FILE,   [FCT_OPTION_FOLDER] = FCT_CLI_FOLDER,
        [FCT_OPTION_WORD] = FCT_CLI_CHOICE};
    fct_cli_option w = *row;
    if (!row->table || row->value) return w; /* it says all itself */
    const fct_option *of = fct_option_find(row->table(), row->field ? row->field : row->name);
    w.kind = kind[of->kind];
    if (of->words && w.kind == FCT_CLI_CHOICE)
        w.choices = of->words + (of->words[0] == ','); /* a default may have no word */
    else if (of->words)
        w.kind = FCT_CLI_TEXT; /* a number or a word: read with the field (fct_cli_read) */
    w.value = of->value;
    w.lo = of->lo;
    w.hi = of->hi > 9223372036854775807.0 ? 9223372036854775807.0 : of->hi; /* JSON's integers */
    w.above = of->above;
    w.multiple = of->multiple;
    if (!w.fallback && !w.otherwise) {
        w.fallback = of->fallback;
        w.otherwise = of->otherwise;
    }
    if (!w.help) w.help = of->help;
    return w;
}

/* What a row reads into; the kinds that the library's tables know. */
typedef struct field {
    int64_t two[2];
    double number;
    int word;
} field;

/* The row as one of a table of `field`, so that the library reads it and says what it may be. */
static fct_option field_row(const fct_cli_option *row)
{
    static const fct_option kind[FCT_CLI_KIND_COUNT] = {
        [FCT_CLI_FLAG] = {.kind = FCT_OPTION_FLAG},
        [FCT_CLI_INT] = {.kind = FCT_OPTION_I64, .at = offsetof(field, two)},
        [FCT_CLI_FLOAT] = {.kind = FCT_OPTION_F64, .at = offsetof(field, number)},
        [FCT_CLI_TEXT] = {.kind = FCT_OPTION_TEXT},
        [FCT_CLI_FILE] = {.kind = FCT_OPTION_FILE},
        [FCT_CLI_FOLDER] = {.kind = FCT_OPTION_FOLDER},
        [FCT_CLI_CHOICE] = {.kind = FCT_OPTION_ENUM, .at = offsetof(field, word)},
        [FCT_CLI_STEPS] = {.kind = FCT_OPTION_I64, .at = offsetof(field, two)},
        [FCT_CLI_SIZE] = {.kind = FCT_OPTION_SIZE, .at = offsetof(field, two)},
        [FCT_CLI_PAIR] = {.kind = FCT_OPTION_PAIR, .at = offsetof(field, two)}};
    fct_option of = kind[row->kind];
    of.name = row->name;
    of.lo = row->lo;
    of.hi = row->hi;
    of.above = row->above;
    of.multiple = row->multiple;
    of.words = row->choices;
    return of;
}

fct_status fct_cli_range_text(fct_str *out, const fct_cli_option *row)
{
    const fct_option of = field_row(row);
    if (row->kind == FCT_CLI_STEPS) FCT_TRY(fct_str_append(out, "numbers like 1,3 or 1-3, each "));
    return fct_option_range(out, &of);
}

static fct_status fail_want(const fct_cli_option *row)
{
    fct_str s = {0};
    fct_status st = fct_cli_range_text(&s, row);
    if (st == FCT_OK) st = fct_fail(FCT_ERR_ARG, "%s", s.p);
    fct_str_clear(&s);
    return st;
}

/* "-" is a standard stream where the row says so, and never a file or folder of that name. */
static fct_status read_name(const fct_cli_option *row, const char *text, bool *valid)
{
    *valid = text[0] != '\0';
    if (strcmp(text, "-") != 0 || row->stream) return FCT_OK;
    return fct_fail(FCT_ERR_ARG, row->kind == FCT_CLI_FOLDER
                                     ? "a folder; a standard stream is none"
                                     : "a file; standard input and output will not do here");
}

static bool read_field(field *out, const fct_cli_option *row, const char *text)
{
    const fct_option of = field_row(row);
    *out = (field){0};
    return fct_option_parse(out, &of, text) == FCT_OK;
}

static bool read_whole(int64_t *out, const char *text, const fct_cli_option *row)
{
    field in;
    bool valid = read_field(&in, row, text);
    *out = in.two[0];
    return valid;
}

static bool read_plain(fct_cli_value *v, const char *text)
{
    field in;
    if (!read_field(&in, v->row, text)) return false;
    v->a = v->row->kind == FCT_CLI_CHOICE ? in.word : in.two[0];
    v->b = in.two[1];
    v->f = in.number;
    return true;
}

/* "1,3" "1-3" "1-3,7": marked in a table of all allowed numbers, so that order and repeats do not
   matter. */
static bool mark_steps(uint8_t *mark, const char *text, const fct_cli_option *row)
{
    while (true) {
        char item[48], *dash;
        int64_t lo, hi;
        size_t n = strcspn(text, ",");
        if (n == 0 || n >= sizeof item) return false;
        memcpy(item, text, n);
        item[n] = '\0';
        dash = strchr(item + 1, '-');
        if (dash) *dash = '\0';
        if (!read_whole(&lo, item, row) || !read_whole(&hi, dash ? dash + 1 : item, row) || lo > hi)
            return false;
        for (int64_t i = lo; i <= hi; i++) mark[i] = 1;
        if (!text[n]) return true;
        text += n + 1;
    }
}

static fct_status read_steps(fct_cli_value *v, const char *text, bool *valid)
{
    uint8_t *mark = NULL;
    int64_t last = (int64_t)v->row->hi;
    FCT_TRY(fct_new(&mark, last + 1, 1));
    *valid = mark_steps(mark, text, v->row);
    fct_free(v->steps);
    v->n_steps = 0;
    fct_status st = fct_new(&v->steps, last + 1, sizeof *v->steps);
    for (int64_t i = 0; i <= last && st == FCT_OK; i++)
        if (mark[i]) v->steps[v->n_steps++] = i;
    fct_free(mark);
    return st;
}

fct_status fct_cli_read_value(fct_cli_value *v, const char *text)
{
    bool valid = true;
    switch (v->row->kind) {
    case FCT_CLI_INT:
    case FCT_CLI_FLOAT:
    case FCT_CLI_CHOICE:
    case FCT_CLI_SIZE:
    case FCT_CLI_PAIR: valid = read_plain(v, text); break;
    case FCT_CLI_STEPS: FCT_TRY(read_steps(v, text, &valid)); break;
    case FCT_CLI_FILE:
    case FCT_CLI_FOLDER: FCT_TRY(read_name(v->row, text, &valid)); break;
    default: break;
    }
    return valid ? FCT_OK : fail_want(v->row);
}

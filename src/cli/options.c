/* options.c - turns the words of a command line into values, by the command's tables. Accepts
   --name value, --name=value, -N value and -Nvalue; `--` ends the options. A value may begin with a
   minus; only a word that is itself an option of the command is not taken for a value (write
   --name=WORD for that). Reading the values themselves: kinds.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/state.h"

const fct_cli_option *fct_cli_next_row(const fct_cli_command *command, int *table,
                                       const fct_cli_option *row)
{
    if (row) {
        row++;
    } else {
        *table = 0;
        row = command->options[0];
    }
    while (row && !row->name) row = ++*table < FCT_CLI_TABLES ? command->options[*table] : NULL;
    return row;
}

/* ---- rows ---- */

enum { MAX_NAME = 40 };

static fct_cli_value *find_name(const fct_cli *c, const char *name, size_t n)
{
    for (int64_t i = 0; i < c->n_values; i++) {
        const char *row = c->value[i].row->name;
        if (strlen(row) == n && strncmp(row, name, n) == 0) return &c->value[i];
    }
    return NULL;
}

static fct_cli_value *find_letter(const fct_cli *c, char letter)
{
    for (int64_t i = 0; i < c->n_values; i++)
        if (letter && c->value[i].row->letter == letter) return &c->value[i];
    return NULL;
}

static fct_status fail_unknown(fct_cli *c, const char *word, size_t n)
{
    const char *names[128];
    char given[MAX_NAME + 1];
    int64_t count = 0;
    for (int64_t i = 0; i < c->n_values && count < (int64_t)FCT_COUNT(names); i++)
        names[count++] = c->value[i].row->name;
    snprintf(given, sizeof given, "%.*s", (int)n, word);
    if (!fct_is_utf8(given)) return fct_cli_usage(c, "an option's name is not UTF-8");
    const char *near = fct_nearest_word(given, names, count);
    if (near) return fct_cli_usage(c, "unknown option --%s; did you mean --%s?", given, near);
    return fct_cli_usage(c, "unknown option --%s", given);
}

static fct_status set_value(fct_cli *c, fct_cli_value *v, const char *text)
{
    /* recipes, stores and --json hold nothing else: said now, and not after the work */
    if (!fct_is_utf8(text)) return fct_cli_usage(c, "--%s: not UTF-8", v->row->name);
    fct_status st = v->row->kind == FCT_CLI_FLAG ? FCT_OK : fct_cli_read_value(v, text);
    if (st == FCT_ERR_MEMORY) return st;
    if (st != FCT_OK) {
        char want[512];
        snprintf(want, sizeof want, "%s", fct_error_text());
        return fct_cli_usage(c, "--%s %s: want %s", v->row->name, *text ? text : "\"\"", want);
    }
    if (!v->row->many || !v->given) v->n = 0; /* the last one counts; defaults give way */
    FCT_TRY(fct_grow(&v->text, v->n, v->n + 1, sizeof *v->text));
    v->text[v->n++] = text;
    v->given = true;
    return FCT_OK;
}

/* Is this word an option of the command, so that it cannot be the value of another by oversight? */
static bool is_option(const fct_cli *c, const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return word[0] == '-' && word[1] && !word[2] && find_letter(c, word[1]);
    return find_name(c, word + 2, strcspn(word + 2, "=")) != NULL;
}

typedef struct reader {
    char *const *words;
    int n, at;
} reader;

static fct_status take_value(fct_cli *c, fct_cli_value *v, reader *r)
{
    const char *next = r->at < r->n ? r->words[r->at] : NULL;
    if (!next) return fct_cli_usage(c, "--%s wants a value (%s)", v->row->name, v->row->value);
    if (is_option(c, next))
        return fct_cli_usage(
            c, "--%s wants a value (%s), found the option %s; write --%s=%s if that is the value",
            v->row->name, v->row->value, next, v->row->name, next);
    r->at++;
    return set_value(c, v, next);
}

static fct_status read_long(fct_cli *c, const char *word, reader *r)
{
    const char *name = word + 2;
    size_t n = strcspn(name, "=");
    fct_cli_value *v = find_name(c, name, n);
    if (!v) return fail_unknown(c, name, n);
    bool flag = v->row->kind == FCT_CLI_FLAG;
    if (name[n] == '=' && flag) return fct_cli_usage(c, "--%s takes no value", v->row->name);
    if (name[n] == '=') return set_value(c, v, name + n + 1);
    return flag ? set_value(c, v, "") : take_value(c, v, r);
}

static fct_status read_letters(fct_cli *c, const char *word, reader *r)
{
    for (const char *p = word + 1; *p; p++) {
        fct_cli_value *v = find_letter(c, *p);
        if (!v && (unsigned char)*p >= 0x80)
            return fct_cli_usage(c, "an option's letter is not ASCII");
        if (!v) return fct_cli_usage(c, "unknown option -%c", *p);
        if (v->row->kind != FCT_CLI_FLAG)
            return p[1] ? set_value(c, v, p + 1) : take_value(c, v, r);
        FCT_TRY(set_value(c, v, ""));
    }
    return FCT_OK;
}

static fct_status read_words(fct_cli *c, reader *r)
{
    bool options = true;
    while (r->at < r->n) {
        const char *word = r->words[r->at++];
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && strncmp(word, "--", 2) == 0) {
            FCT_TRY(read_long(c, word, r));
        } else if (options && word[0] == '-' && word[1]) {
            FCT_TRY(read_letters(c, word, r));
        } else {
            FCT_TRY(fct_grow(&c->operand, c->n_operands, c->n_operands + 1, sizeof *c->operand));
            c->operand[c->n_operands++] = word;
        }
    }
    return FCT_OK;
}

/* ---- the whole ---- */

static fct_status add_rows(fct_cli *c)
{
    int table = 0;
    for (const fct_cli_option *row = fct_cli_next_row(c->command, &table, NULL); row;
         row = fct_cli_next_row(c->command, &table, row)) {
        FCT_TRY(fct_grow(&c->value, c->n_values, c->n_values + 1, sizeof *c->value));
        c->value[c->n_values++].own = fct_cli_whole(row);
    }
    for (int64_t i = 0; i < c->n_values; i++) c->value[i].row = &c->value[i].own;
    for (int64_t i = 0; i < c->n_values; i++) {
        if (!c->value[i].row->fallback) continue;
        FCT_TRY(set_value(c, &c->value[i], c->value[i].row->fallback));
        c->value[i].given = false;
    }
    return FCT_OK;
}

static fct_status check_operand(fct_cli *c, const char *word, const fct_cli_operand *o)
{
    if (!fct_is_utf8(word)) return fct_cli_usage(c, "%s: not UTF-8", o->name);
    if (strcmp(word, "-") == 0 && !o->stream)
        return fct_cli_usage(c, "%s -: it is not read from standard input; name it", o->name);
    return FCT_OK;
}

static fct_status check_operands(fct_cli *c)
{
    int64_t lo = 0, hi = 0;
    for (int64_t i = 0; i < c->n_operands; i++) {
        int64_t at = i;
        while (at > 0 && (at >= FCT_CLI_OPERANDS || !c->command->operand[at].name)) at--;
        const fct_cli_operand *o = &c->command->operand[at];
        FCT_TRY(
            check_operand(c, c->operand[i], o->name ? o : &(fct_cli_operand){.name = "a word"}));
    }
    for (int i = 0; i < FCT_CLI_OPERANDS && c->command->operand[i].name; i++) {
        lo += !c->command->operand[i].optional;
        hi = c->command->operand[i].many ? INT64_MAX : hi + 1;
    }
    if (c->n_operands > hi && hi == 0)
        return fct_cli_usage(c, "what is \"%s\"? %s takes options only", c->operand[0],
                             c->command->name);
    if (c->n_operands > hi) return fct_cli_usage(c, "one word too many: \"%s\"", c->operand[hi]);
    if (c->n_operands < lo)
        return fct_cli_usage(c, "%s is missing", c->command->operand[c->n_operands].name);
    return FCT_OK;
}

fct_status fct_cli_parse(fct_cli *c, const fct_cli_command *command, int n, char *const *words,
                         bool *want_help)
{
    reader r = {words, n, 0};
    c->command = command;
    *want_help = false;
    FCT_TRY(add_rows(c));
    for (int i = 0; i < n && strcmp(words[i], "--") != 0; i++)
        if (strcmp(words[i], "--help") == 0 || strcmp(words[i], "-h") == 0) *want_help = true;
    if (*want_help) return FCT_OK; /* help is given whatever else is wrong */
    FCT_TRY(read_words(c, &r));
    for (int64_t i = 0; i < c->n_values; i++) {
        const fct_cli_option *row = c->value[i].row;
        if (row->required && !c->value[i].given)
            return fct_cli_usage(c, "--%s %s is missing: %s", row->name, row->value, row->help);
    }
    return check_operands(c);
}

/* ---- options that a file says ---- */

/* The value as its option's text; owned by c. */
static fct_status own_text(fct_cli *c, const char **out, const json_t *value)
{
    fct_str text = {0};
    fct_status st = json_is_string(value) ? fct_str_append(&text, json_string_value(value))
                                          : fct_json_text(&text, value, 0);
    if (st == FCT_OK) st = fct_grow(&c->owned, c->n_owned, c->n_owned + 1, sizeof *c->owned);
    if (st == FCT_OK) st = fct_strdup(&c->owned[c->n_owned], text.p ? text.p : "");
    if (st == FCT_OK) *out = c->owned[c->n_owned++];
    fct_str_clear(&text);
    return st;
}

static bool is_common(const char *name)
{
    for (const fct_cli_option *row = fct_cli_common; row->name; row++)
        if (strcmp(row->name, name) == 0) return true;
    return false;
}

static fct_status take(fct_cli *c, fct_cli_value *v, const char *key, const json_t *value)
{
    const char *text = "";
    bool flag = v->row->kind == FCT_CLI_FLAG;
    if (flag && !json_is_true(value))
        return fct_fail(FCT_ERR_FORMAT, "\"%s\": want true or false", key);
    if (!flag && !json_is_string(value) && !json_is_number(value))
        return fct_fail(FCT_ERR_FORMAT, "\"%s\": want a number or a text", key);
    if (!flag) FCT_TRY(own_text(c, &text, value));
    fct_status st = flag ? FCT_OK : fct_cli_read_value(v, text);
    if (st == FCT_ERR_ARG) {
        char want[512];
        snprintf(want, sizeof want, "%s", fct_error_text());
        return fct_fail(FCT_ERR_FORMAT, "\"%s\": want %s, found %s", key, want, text);
    }
    FCT_TRY(st);
    FCT_TRY(fct_grow(&v->text, 0, 1, sizeof *v->text));
    v->text[0] = text;
    v->n = 1;
    v->given = true;
    return FCT_OK;
}

static fct_status take_all(fct_cli *c, json_t *options)
{
    const char *key;
    json_t *value;
    json_object_foreach(options, key, value)
    {
        char name[MAX_NAME + 1];
        snprintf(name, sizeof name, "%s", key);
        for (char *p = name; *p; p++)
            if (*p == '_') *p = '-';
        fct_cli_value *v = find_name(c, name, strlen(name));
        if (!v) return fail_unknown(c, name, strlen(name));
        if (is_common(name))
            return fct_fail(FCT_ERR_FORMAT,
                            "\"%s\" is of this run of the program, not of its work: give it on the "
                            "command line",
                            key);
        if (v->given || json_is_false(value) || json_is_null(value)) continue;
        FCT_TRY(take(c, v, key, value));
    }
    return FCT_OK;
}

fct_status fct_cli_take(fct_cli *c, const char *json)
{
    json_t *options = NULL;
    bool usage = c->usage;
    FCT_TRY(fct_json_parse(&options, json, (int64_t)strlen(json), "options"));
    fct_status st = take_all(c, options);
    c->usage = usage; /* a file is wrong, not the command line */
    json_decref(options);
    return st;
}

void fct_cli_clear(fct_cli *c)
{
    for (int64_t i = 0; i < c->n_values; i++) {
        fct_free(c->value[i].text);
        fct_free(c->value[i].steps);
    }
    for (int64_t i = 0; i < c->n_owned; i++) fct_free(c->owned[i]);
    fct_free(c->owned);
    fct_free(c->value);
    fct_free(c->operand);
    json_decref(c->result);
    *c = (fct_cli){0};
}

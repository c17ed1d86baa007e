/* help.c - writes --help of the program and of every command, and the same tables as JSON; all of
   it from the option tables. */
#include <inttypes.h>
#include <string.h>

#include "cli/state.h"

enum { COLUMN = 26, WIDTH = 96 };

/* Words of `text` in lines up to WIDTH, the first of which begins at column `at`, the others at
   `indent`. */
static fct_status wrap(fct_str *out, const char *text, int64_t at, int64_t indent)
{
    for (bool first = true; *text; first = false) {
        text += strspn(text, " ");
        int64_t n = (int64_t)strcspn(text, " \n");
        if (!first && at + 1 + n > WIDTH) {
            FCT_TRY(fct_str_printf(out, "\n%*s", (int)indent, ""));
            at = indent;
        } else if (!first) {
            FCT_TRY(fct_str_append(out, " "));
            at++;
        }
        FCT_TRY(fct_str_append_n(out, text, n));
        at += n;
        text += n;
        if (*text != '\n') continue;
        text++;
        FCT_TRY(fct_str_append(out, "\n\n"));
        return wrap(out, text, 0, indent); /* the next paragraph */
    }
    return fct_str_append(out, "\n");
}

fct_status fct_cli_usage_line(fct_str *out, const fct_cli_command *command)
{
    FCT_TRY(fct_str_printf(out, "facet %s", command->name));
    for (int i = 0; i < FCT_CLI_OPERANDS && command->operand[i].name; i++) {
        const fct_cli_operand *o = &command->operand[i];
        FCT_TRY(fct_str_printf(out, o->optional ? " [%s]" : " %s", o->name));
        if (o->many) FCT_TRY(fct_str_append(out, "..."));
    }
    int table = 0;
    for (const fct_cli_option *row = fct_cli_next_row(command, &table, NULL); row;
         row = fct_cli_next_row(command, &table, row))
        if (row->required) FCT_TRY(fct_str_printf(out, " --%s %s", row->name, row->value));
    return fct_str_append(out, " [options]");
}

/* What an option is, what it may be, what it is when not given. */
static fct_status explain(fct_str *out, const fct_cli_option *row)
{
    FCT_TRY(fct_str_append(out, row->help));
    bool ranged = row->kind == FCT_CLI_INT || row->kind == FCT_CLI_FLOAT ||
                  row->kind == FCT_CLI_STEPS || row->kind == FCT_CLI_SIZE ||
                  row->kind == FCT_CLI_PAIR || row->kind == FCT_CLI_CHOICE;
    const char *standard = row->fallback ? row->fallback : row->otherwise;
    if (!ranged && !standard && !row->required) return FCT_OK;
    FCT_TRY(fct_str_append(out, " ("));
    if (ranged) FCT_TRY(fct_cli_range_text(out, row));
    if (row->required) FCT_TRY(fct_str_append(out, ranged ? "; required" : "required"));
    if (standard)
        FCT_TRY(fct_str_printf(out, "%sdefault: %s", ranged || row->required ? "; " : "",
                               *standard ? standard : "\"\""));
    return fct_str_append(out, ")");
}

static fct_status option_line(fct_str *out, const fct_cli_option *raw)
{
    const fct_cli_option whole = fct_cli_whole(raw), *row = &whole;
    fct_str text = {0};
    int64_t start = out->n;
    FCT_TRY(row->letter ? fct_str_printf(out, "  -%c, --%s", row->letter, row->name)
                        : fct_str_printf(out, "      --%s", row->name));
    if (row->value) FCT_TRY(fct_str_printf(out, " %s", row->value));
    int64_t used = out->n - start;
    FCT_TRY(used + 2 > COLUMN ? fct_str_printf(out, "\n%*s", COLUMN, "")
                              : fct_str_printf(out, "%*s", (int)(COLUMN - used), ""));
    fct_status st = explain(&text, row);
    if (st == FCT_OK) st = wrap(out, text.p, COLUMN, COLUMN);
    fct_str_clear(&text);
    return st;
}

fct_status fct_cli_help_command(fct_str *out, const fct_cli_command *command)
{
    FCT_TRY(fct_str_printf(out, "facet %s - %s\n\nusage: ", command->name, command->summary));
    FCT_TRY(fct_cli_usage_line(out, command));
    FCT_TRY(fct_str_append(out, "\n\n"));
    for (int i = 0; i < FCT_CLI_OPERANDS && command->operand[i].name; i++) {
        FCT_TRY(fct_str_printf(out, "  %-*s", COLUMN - 2, command->operand[i].name));
        FCT_TRY(wrap(out, command->operand[i].help, COLUMN, COLUMN));
    }
    int table = 0, last = 0;
    for (const fct_cli_option *row = fct_cli_next_row(command, &table, NULL); row;
         row = fct_cli_next_row(command, &table, row)) {
        if (table != last) FCT_TRY(fct_str_append(out, "\n"));
        last = table;
        FCT_TRY(option_line(out, row));
    }
    if (command->text) {
        FCT_TRY(fct_str_append(out, "\n"));
        FCT_TRY(wrap(out, command->text, 0, 0));
    }
    if (command->examples) FCT_TRY(fct_str_printf(out, "\nexamples:\n"));
    for (const char *p = command->examples; p && *p;) {
        size_t n = strcspn(p, "\n");
        FCT_TRY(fct_str_printf(out, "  %.*s\n", (int)n, p));
        p += n + (p[n] == '\n');
    }
    return FCT_OK;
}

fct_status fct_cli_help_group(fct_str *out, const char *group)
{
    size_t n = strlen(group);
    FCT_TRY(fct_str_printf(out, "usage: facet %s VERB [options]\n\n", group));
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++)
        if (strncmp((*p)->name, group, n) == 0 && (*p)->name[n] == ' ')
            FCT_TRY(fct_str_printf(out, "  %-18s %s\n", (*p)->name + n + 1, (*p)->summary));
    return fct_str_printf(out, "\nfacet %s VERB --help has the options\n", group);
}

fct_status fct_cli_help_program(fct_str *out)
{
    FCT_TRY(fct_str_printf(
        out,
        "facet %s - look inside text-to-image diffusion models, and paint with what is there\n\n"
        "usage: facet COMMAND [options]\n\n",
        fct_version()));
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++)
        FCT_TRY(fct_str_printf(out, "  %-18s %s\n", (*p)->name, (*p)->summary));
    return fct_str_append(
        out, "\nexamples (without --model the small model that comes with facet is used):\n"
             "  facet demo                                                everything at once, ends "
             "in a page to look at\n"
             "  facet generate -p \"two large blue stars at night\" -o a.png  one picture\n"
             "  facet info a.png                                          what made it\n"
             "\nfacet COMMAND --help has the options; facet --version the version\n");
}

/* ---- the tables as JSON ---- */

static json_t *option_json(const fct_cli_option *raw)
{
    const fct_cli_option whole = fct_cli_whole(raw), *row = &whole;
    json_t *o = json_object();
    char letter[2] = {row->letter, '\0'};
    json_object_set_new(o, "name", json_string(row->name));
    if (row->letter) json_object_set_new(o, "letter", json_string(letter));
    json_object_set_new(o, "kind", json_string(fct_cli_kind_name[row->kind]));
    if (row->value) json_object_set_new(o, "value", json_string(row->value));
    if (row->fallback) json_object_set_new(o, "default", json_string(row->fallback));
    if (row->otherwise) json_object_set_new(o, "default_words", json_string(row->otherwise));
    if (row->kind == FCT_CLI_INT || row->kind == FCT_CLI_FLOAT || row->kind == FCT_CLI_STEPS ||
        row->kind == FCT_CLI_SIZE || row->kind == FCT_CLI_PAIR) {
        json_object_set_new(o, "lo", json_real(row->lo));
        json_object_set_new(o, "hi", json_real(row->hi));
        json_object_set_new(o, "lo_excluded", json_boolean(row->above));
        if (row->multiple > 1) json_object_set_new(o, "multiple", json_integer(row->multiple));
    }
    if (row->kind == FCT_CLI_FILE) json_object_set_new(o, "stream", json_boolean(row->stream));
    if (row->choices) json_object_set_new(o, "choices", json_string(row->choices));
    json_object_set_new(o, "many", json_boolean(row->many));
    json_object_set_new(o, "required", json_boolean(row->required));
    json_object_set_new(o, "help", json_string(row->help));
    return o;
}

json_t *fct_cli_tables(void)
{
    json_t *all = json_array();
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++) {
        json_t *o = json_object(), *operands = json_array(), *options = json_array();
        int table = 0;
        json_object_set_new(o, "name", json_string((*p)->name));
        json_object_set_new(o, "summary", json_string((*p)->summary));
        for (int i = 0; i < FCT_CLI_OPERANDS && (*p)->operand[i].name; i++) {
            const fct_cli_operand *w = &(*p)->operand[i];
            json_array_append_new(operands,
                                  json_pack("{s:s, s:s, s:b, s:b}", "name", w->name, "help",
                                            w->help, "optional", w->optional, "many", w->many));
        }
        for (const fct_cli_option *row = fct_cli_next_row(*p, &table, NULL); row;
             row = fct_cli_next_row(*p, &table, row))
            json_array_append_new(options, option_json(row));
        json_object_set_new(o, "operands", operands);
        json_object_set_new(o, "options", options);
        json_array_append_new(all, o);
    }
    return all;
}

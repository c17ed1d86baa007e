/* values.c - gives commands the values of their options from the parsed command line. Asking for an
   option that the command's tables lack is a mistake in the program, found by the first test that
   runs the command: it ends there, with its name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/state.h"

static const fct_cli_value *find(const fct_cli *c, const char *option)
{
    for (int64_t i = 0; i < c->n_values; i++)
        if (strcmp(c->value[i].row->name, option) == 0) return &c->value[i];
    fprintf(stderr, "facet: internal error: %s has no option --%s\n", c->command->name, option);
    abort();
}

const fct_cli_command *fct_cli_get_command(const fct_cli *c)
{
    return c->command;
}
bool fct_cli_given(const fct_cli *c, const char *option)
{
    return find(c, option)->given;
}
bool fct_cli_flag(const fct_cli *c, const char *option)
{
    return find(c, option)->given;
}
int64_t fct_cli_i64(const fct_cli *c, const char *option)
{
    return find(c, option)->a;
}
double fct_cli_f64(const fct_cli *c, const char *option)
{
    return find(c, option)->f;
}
int64_t fct_cli_count(const fct_cli *c, const char *option)
{
    return find(c, option)->n;
}
int64_t fct_cli_choice(const fct_cli *c, const char *option)
{
    return find(c, option)->a;
}
int64_t fct_cli_operands(const fct_cli *c)
{
    return c->n_operands;
}

const char *fct_cli_text(const fct_cli *c, const char *option)
{
    const fct_cli_value *v = find(c, option);
    return v->n > 0 ? v->text[v->n - 1] : NULL;
}

const char *fct_cli_text_at(const fct_cli *c, const char *option, int64_t i)
{
    const fct_cli_value *v = find(c, option);
    return i >= 0 && i < v->n ? v->text[i] : NULL;
}

int64_t fct_cli_steps(const fct_cli *c, const char *option, const int64_t **out)
{
    const fct_cli_value *v = find(c, option);
    *out = v->steps;
    return v->n_steps;
}

void fct_cli_pair(const fct_cli *c, const char *option, int64_t *a, int64_t *b)
{
    const fct_cli_value *v = find(c, option);
    *a = v->a;
    *b = v->b;
}

/* all: defaults of the command's own table too. */
static fct_status read_fields(void *to, const fct_cli *c, fct_cli_table table, bool all)
{
    for (int64_t i = 0; i < c->n_values; i++) {
        const fct_cli_value *v = &c->value[i];
        if (v->row->table != table || v->n == 0 || !(v->given || all)) continue;
        const char *field = v->row->field ? v->row->field : v->row->name, *text = v->text[v->n - 1];
        FCT_TRY(fct_where(fct_option_parse(to, fct_option_find(table(), field), text), "--%s %s",
                          v->row->name, text));
    }
    return FCT_OK;
}

fct_status fct_cli_read(void *to, const fct_cli *c, fct_cli_table table)
{
    return read_fields(to, c, table, false);
}

fct_status fct_cli_read_all(void *to, const fct_cli *c, fct_cli_table table)
{
    return read_fields(to, c, table, true);
}

const char *fct_cli_operand_at(const fct_cli *c, int64_t i)
{
    return i >= 0 && i < c->n_operands ? c->operand[i] : NULL;
}

fct_status fct_cli_check_apart(fct_cli *c, const char *option, const char *path, const char *other,
                               const char *what)
{
    if (strcmp(path, "-") == 0 || strcmp(other, "-") == 0 || !fct_path_same(path, other))
        return FCT_OK;
    return fct_cli_usage(c, "--%s %s is %s, which would be overwritten; give another name", option,
                         path, what);
}

fct_status fct_cli_usage(fct_cli *c, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->usage = true;
    return fct_fail(FCT_ERR_ARG, "%s", text);
}

/* help.c - `facet help`: prints help of the program or a command, the manual page, completion
   scripts, and the tables as JSON. */
#include <string.h>

#include "cli/state.h"

static fct_status help_of_words(fct_str *out, fct_cli *c)
{
    char *words[2] = {0};
    int n = (int)fct_cli_operands(c), used = 0;
    if (n == 0) return fct_cli_help_program(out);
    if (n > 2)
        return fct_cli_usage(c, "help of what? \"%s\" is one word too many",
                             fct_cli_operand_at(c, 2));
    for (int i = 0; i < n; i++) FCT_TRY(fct_strdup(&words[i], fct_cli_operand_at(c, i)));
    const fct_cli_command *command = fct_cli_find(n, words, &used);
    fct_status st = FCT_OK;
    if (command && used == n) {
        st = fct_cli_help_command(out, command);
    } else if (n == 1 && fct_cli_is_group(words[0])) {
        st = fct_cli_help_group(out, words[0]);
    } else {
        c->usage = true;
        st = fct_cli_fail_command(n, words);
    }
    fct_free(words[0]);
    fct_free(words[1]);
    return st;
}

static fct_status put_tables(fct_cli *c)
{
    fct_cli_put(c, "version", json_string(fct_version()));
    fct_cli_put(c, "commands", fct_cli_tables());
    return FCT_OK;
}

static fct_status run(fct_cli *c)
{
    fct_str text = {0};
    fct_status st = FCT_OK;
    const char *shell = fct_cli_text(c, "completion");
    bool man = fct_cli_flag(c, "man");
    if (man && shell) return fct_cli_usage(c, "--man and --completion are two texts: ask for one");
    if (fct_cli_json(c) && !man && !shell && fct_cli_operands(c) == 0) return put_tables(c);
    if (man)
        st = fct_cli_man(&text);
    else
        st = shell ? fct_cli_complete(&text, shell) : help_of_words(&text, c);
    if (st == FCT_OK && fct_cli_json(c))
        fct_cli_put(c, "text", json_string(text.p));
    else if (st == FCT_OK)
        st = fct_cli_print(&text);
    fct_str_clear(&text);
    return st;
}

static const fct_cli_option options[] = {
    {.name = "man", .kind = FCT_CLI_FLAG, .help = "print the manual page"},
    {.name = "completion",
     .kind = FCT_CLI_CHOICE,
     .value = "SHELL",
     .choices = "bash,zsh,fish",
     .help = "print a completion script"},
    {0}};

const fct_cli_command fct_cmd_help = {
    .name = "help",
    .summary = "explain a command; print the manual page or completion scripts",
    .text = "With --json and no command: the option tables of all commands.",
    .examples =
        "facet help generate\nfacet help --man | man -l -\nsource <(facet help --completion bash)",
    .operand = {{.name = "COMMAND",
                 .help = "a command's name, of one or two words",
                 .optional = true,
                 .many = true}},
    .options = {options, fct_cli_common},
    .run = run,
};

/* man.c - writes the manual page, from the option tables: man -l <(facet help --man). */
#include <string.h>

#include "cli/state.h"

/* Text in roff: backslashes and hyphens escaped, and no line that begins with a control
   character. */
static fct_status plain(fct_str *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        bool starts = p == text || p[-1] == '\n';
        if (starts && (*p == '.' || *p == '\'')) FCT_TRY(fct_str_append(out, "\\&"));
        if (*p == '\\')
            FCT_TRY(fct_str_append(out, "\\e"));
        else if (*p == '-')
            FCT_TRY(fct_str_append(out, "\\-"));
        else if (*p == '\n')
            FCT_TRY(fct_str_append(out, "\n.PP\n"));
        else
            FCT_TRY(fct_str_append_n(out, p, 1));
    }
    return FCT_OK;
}

static fct_status option(fct_str *out, const fct_cli_option *raw)
{
    const fct_cli_option whole = fct_cli_whole(raw), *row = &whole;
    const char *standard = row->fallback ? row->fallback : row->otherwise;
    bool ranged = row->kind != FCT_CLI_FLAG && row->kind != FCT_CLI_TEXT &&
                  row->kind != FCT_CLI_FILE && row->kind != FCT_CLI_FOLDER;
    fct_str range = {0};
    FCT_TRY(fct_str_append(out, ".TP\n\\fB"));
    if (row->letter) FCT_TRY(fct_str_printf(out, "\\-%c\\fR, \\fB", row->letter));
    FCT_TRY(fct_str_append(out, "\\-\\-"));
    FCT_TRY(plain(out, row->name));
    FCT_TRY(fct_str_append(out, "\\fR"));
    if (row->value) FCT_TRY(fct_str_printf(out, " \\fI%s\\fR", row->value));
    FCT_TRY(fct_str_append(out, "\n"));
    FCT_TRY(plain(out, row->help));
    fct_status st = ranged ? fct_cli_range_text(&range, row) : FCT_OK;
    if (st == FCT_OK && ranged) st = fct_str_append(out, "; ");
    if (st == FCT_OK && ranged) st = plain(out, range.p);
    fct_str_clear(&range);
    FCT_TRY(st);
    if (row->required) FCT_TRY(fct_str_append(out, "; required"));
    if (standard) {
        FCT_TRY(fct_str_append(out, "; default: "));
        FCT_TRY(plain(out, *standard ? standard : "\"\""));
    }
    return fct_str_append(out, ".\n");
}

static fct_status command_section(fct_str *out, const fct_cli_command *c)
{
    fct_str usage = {0};
    FCT_TRY(fct_str_printf(out, ".SS \"facet %s\"\n", c->name));
    FCT_TRY(plain(out, c->summary));
    FCT_TRY(fct_str_append(out, ".\n.PP\n\\fB"));
    fct_status st = fct_cli_usage_line(&usage, c);
    if (st == FCT_OK) st = plain(out, usage.p);
    fct_str_clear(&usage);
    FCT_TRY(st);
    FCT_TRY(fct_str_append(out, "\\fR\n"));
    for (int i = 0; i < FCT_CLI_OPERANDS && c->operand[i].name; i++) {
        FCT_TRY(fct_str_printf(out, ".TP\n\\fI%s\\fR\n", c->operand[i].name));
        FCT_TRY(plain(out, c->operand[i].help));
        FCT_TRY(fct_str_append(out, "\n"));
    }
    for (int t = 0; t < FCT_CLI_TABLES; t++) /* the common ones have a section of their own */
        for (const fct_cli_option *row = c->options[t];
             row && row->name && c->options[t] != fct_cli_common; row++)
            FCT_TRY(option(out, row));
    if (c->text) {
        FCT_TRY(fct_str_append(out, ".PP\n"));
        FCT_TRY(plain(out, c->text));
        FCT_TRY(fct_str_append(out, "\n"));
    }
    if (!c->examples) return FCT_OK;
    FCT_TRY(fct_str_append(out, ".PP\n.nf\n"));
    for (const char *p = c->examples; *p;) {
        size_t n = strcspn(p, "\n");
        char *line = NULL;
        FCT_TRY(fct_format(&line, "%.*s", (int)n, p));
        st = plain(out, line);
        if (st == FCT_OK) st = fct_str_append(out, "\n");
        fct_free(line);
        FCT_TRY(st);
        p += n + (p[n] == '\n');
    }
    return fct_str_append(out, ".fi\n");
}

fct_status fct_cli_man(fct_str *out)
{
    FCT_TRY(fct_str_printf(out,
                           ".TH FACET 1 \"\" \"facet %s\" \"User Commands\"\n.SH NAME\nfacet \\- "
                           "look inside text\\-to\\-image diffusion "
                           "models, and paint with what is there\n.SH SYNOPSIS\n.B facet\n.I "
                           "COMMAND\n[options]\n.SH DESCRIPTION\n"
                           "Results go to standard output, messages and progress to standard "
                           "error; \\- as a file is standard input or "
                           "output. Options may be written \\-\\-name value or \\-\\-name=value. "
                           "Without \\-\\-model the demo model is used.\n"
                           ".SH COMMANDS\n",
                           fct_version()));
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++)
        FCT_TRY(command_section(out, *p));
    FCT_TRY(fct_str_append(out, ".SH \"OPTIONS OF EVERY COMMAND\"\n"));
    for (const fct_cli_option *row = fct_cli_common; row->name; row++) FCT_TRY(option(out, row));
    return fct_str_append(out, ".SH \"EXIT STATUS\"\n0 done, 1 failed, 2 wrong use, 130 stopped by "
                               "Ctrl\\-C, 143 stopped by SIGTERM.\n"
                               ".SH ENVIRONMENT\n.TP\nFACET_MODELS\nfolder that holds demo/, "
                               "looked into first for the demo model\n"
                               ".TP\nHF_HUB_CACHE, HF_HOME\nwhere the cache of models is\n");
}

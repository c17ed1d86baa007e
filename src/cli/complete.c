/* complete.c - writes completion scripts for bash, zsh and fish, from the option tables. Words of
   the program and of each command; choices after options that have them; else files. zsh runs the
   bash script through its own bashcompinit. */
#include <string.h>

#include "cli/state.h"

/* First words, each once: "features look" and "features top" give one "features". */
static fct_status first_words(fct_str *out)
{
    const char *last = "";
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++) {
        size_t n = strcspn((*p)->name, " ");
        bool again =
            strlen(last) >= n && strncmp(last, (*p)->name, n) == 0 && strcspn(last, " ") == n;
        if (!again)
            FCT_TRY(fct_str_printf(out, "%s%.*s", p == fct_cli_commands ? "" : " ", (int)n,
                                   (*p)->name));
        last = (*p)->name;
    }
    return FCT_OK;
}

static fct_status verbs(fct_str *out, const char *group)
{
    size_t n = strlen(group);
    bool first = true;
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++) {
        if (strncmp((*p)->name, group, n) != 0 || (*p)->name[n] != ' ') continue;
        FCT_TRY(fct_str_printf(out, "%s%s", first ? "" : " ", (*p)->name + n + 1));
        first = false;
    }
    return FCT_OK;
}

static fct_status option_words(fct_str *out, const fct_cli_command *c)
{
    int table = 0;
    bool first = true;
    for (const fct_cli_option *row = fct_cli_next_row(c, &table, NULL); row;
         row = fct_cli_next_row(c, &table, row)) {
        FCT_TRY(fct_str_printf(out, "%s--%s", first ? "" : " ", row->name));
        first = false;
    }
    return FCT_OK;
}

static fct_status bash_choices(fct_str *out, const fct_cli_command *c)
{
    int table = 0;
    for (const fct_cli_option *row = fct_cli_next_row(c, &table, NULL); row;
         row = fct_cli_next_row(c, &table, row)) {
        const fct_cli_option whole = fct_cli_whole(row);
        if (!whole.choices) continue;
        FCT_TRY(fct_str_printf(out, "        \"%s --%s\") words=\"", c->name, row->name));
        for (const char *p = whole.choices; *p; p++)
            FCT_TRY(fct_str_append_n(out, *p == ',' ? " " : p, 1));
        FCT_TRY(fct_str_append(out, "\" ;;\n"));
    }
    return FCT_OK;
}

static fct_status bash(fct_str *out)
{
    FCT_TRY(fct_str_append(
        out, "# bash completion of facet; generated from its option tables\n"
             "_facet() {\n"
             "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\" "
             "verb=\"${COMP_WORDS[1]}\" words=\"\"\n"
             "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \""));
    FCT_TRY(first_words(out));
    FCT_TRY(fct_str_append(out,
                           " --help --version\" -- \"$cur\"))\n        return\n    fi\n"
                           "    if [ \"$verb\" = features ]; then\n        if [ \"$COMP_CWORD\" "
                           "-eq 2 ]; then\n            COMPREPLY=($(compgen -W \""));
    FCT_TRY(verbs(out, "features"));
    FCT_TRY(fct_str_append(out, "\" -- \"$cur\"))\n            return\n        fi\n        "
                                "verb=\"features ${COMP_WORDS[2]}\"\n    fi\n"
                                "    case \"$verb $prev\" in\n"));
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++)
        FCT_TRY(bash_choices(out, *p));
    FCT_TRY(fct_str_append(out, "    esac\n    if [ -z \"$words\" ] && [[ \"$cur\" == -* ]]; "
                                "then\n        case \"$verb\" in\n"));
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++) {
        FCT_TRY(fct_str_printf(out, "            \"%s\") words=\"", (*p)->name));
        FCT_TRY(option_words(out, *p));
        FCT_TRY(fct_str_append(out, "\" ;;\n"));
    }
    return fct_str_append(
        out,
        "        esac\n    fi\n"
        "    if [ -n \"$words\" ]; then\n        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
        "    else\n        COMPREPLY=($(compgen -f -- \"$cur\"))\n    fi\n}\n"
        "complete -o filenames -F _facet facet\n");
}

/* Inside single quotes of fish. */
static fct_status fish_text(fct_str *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\'' || *p == '\\') FCT_TRY(fct_str_append(out, "\\"));
        FCT_TRY(fct_str_append_n(out, p, 1));
    }
    return FCT_OK;
}

static fct_status fish_option(fct_str *out, const fct_cli_command *c, const fct_cli_option *raw)
{
    const fct_cli_option whole = fct_cli_whole(raw), *row = &whole;
    const char *verb = strchr(c->name, ' ');
    FCT_TRY(fct_str_printf(out, "complete -c facet -n '__fish_seen_subcommand_from %s' -l %s",
                           verb ? verb + 1 : c->name, row->name));
    if (row->letter) FCT_TRY(fct_str_printf(out, " -s %c", row->letter));
    if (row->kind != FCT_CLI_FLAG) FCT_TRY(fct_str_append(out, row->choices ? " -x" : " -r"));
    if (row->choices) {
        FCT_TRY(fct_str_append(out, " -a '"));
        for (const char *p = row->choices; *p; p++)
            FCT_TRY(fct_str_append_n(out, *p == ',' ? " " : p, 1));
        FCT_TRY(fct_str_append(out, "'"));
    }
    FCT_TRY(fct_str_append(out, " -d '"));
    FCT_TRY(fish_text(out, row->help));
    return fct_str_append(out, "'\n");
}

static fct_status fish(fct_str *out)
{
    FCT_TRY(fct_str_append(out, "# fish completion of facet; generated from its option "
                                "tables\ncomplete -c facet -n __fish_use_subcommand -f -a '"));
    FCT_TRY(first_words(out));
    FCT_TRY(fct_str_append(
        out, "'\ncomplete -c facet -n '__fish_seen_subcommand_from features' -f -a '"));
    FCT_TRY(verbs(out, "features"));
    FCT_TRY(fct_str_append(out, "'\n"));
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++) {
        int table = 0;
        for (const fct_cli_option *row = fct_cli_next_row(*p, &table, NULL); row;
             row = fct_cli_next_row(*p, &table, row))
            FCT_TRY(fish_option(out, *p, row));
    }
    return FCT_OK;
}

fct_status fct_cli_complete(fct_str *out, const char *shell)
{
    if (strcmp(shell, "fish") == 0) return fish(out);
    if (strcmp(shell, "zsh") == 0)
        FCT_TRY(
            fct_str_append(out, "#compdef facet\nautoload -U +X bashcompinit && bashcompinit\n"));
    return bash(out);
}

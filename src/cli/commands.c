/* commands.c - lists the commands, and the option tables that several of them share. */
#include <stdio.h>
#include <string.h>

#include "cli/state.h"
#include "facet/model.h"

const fct_cli_command *const fct_cli_commands[] = {
    &fct_cmd_demo,           &fct_cmd_generate,      &fct_cmd_capture,
    &fct_cmd_train,          &fct_cmd_encode,        &fct_cmd_features_look,
    &fct_cmd_features_top,   &fct_cmd_features_icon, &fct_cmd_features_contrast,
    &fct_cmd_features_stats, &fct_cmd_convert,       &fct_cmd_info,
    &fct_cmd_doctor,         &fct_cmd_help,          NULL};

const fct_cli_option fct_cli_common[] = {
    {.name = "json", .kind = FCT_CLI_FLAG, .help = "print the result as one JSON object"},
    {.name = "quiet",
     .letter = 'q',
     .kind = FCT_CLI_FLAG,
     .help = "no messages but warnings and errors, no progress"},
    {.name = "verbose", .letter = 'v', .kind = FCT_CLI_FLAG, .help = "more messages"},
    {.name = "threads",
     .letter = 't',
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 1024,
     .otherwise = "one a core",
     .help = "threads that compute"},
    {.name = "help", .letter = 'h', .kind = FCT_CLI_FLAG, .help = "this text"},
    {0}};

static const char model_help[] = "a diffusers folder, or a hub name looked up in the local cache";

const fct_cli_option fct_cli_model[] = {
    {.name = "model",
     .letter = 'm',
     .kind = FCT_CLI_TEXT,
     .value = "MODEL",
     .otherwise = "the demo model",
     .help = model_help},
    {.name = "dtype", .table = fct_model_table, .fallback = "auto"},
    {.name = "backend", .table = fct_model_table},
    {0}};

const fct_cli_option fct_cli_instrument[] = {
    {.name = "model",
     .letter = 'm',
     .kind = FCT_CLI_TEXT,
     .value = "MODEL",
     .otherwise = "the demo model",
     .help = model_help},
    {.name = "dtype", .table = fct_model_table, .fallback = "f32"},
    {.name = "backend", .table = fct_model_table},
    {0}};

const fct_cli_option fct_cli_backend[] = {{.name = "backend", .table = fct_model_table}, {0}};

const fct_cli_option fct_cli_edits[] = {
    {.name = "sae",
     .kind = FCT_CLI_TEXT,
     .value = "[BLOCK=]DIR",
     .many = true,
     .help = "an SAE, or a folder with one a block; without BLOCK its metadata or name tells it; "
             "repeatable"},
    {.name = "edit",
     .kind = FCT_CLI_TEXT,
     .value = "EDIT",
     .many = true,
     .help = "'BLOCK:FEATURE OP [@MASK] [steps=1-3] [branch=cond|uncond|both] "
             "[unit=mean|std|max|one] [static]'; a mask whose path has spaces: @\"my mask.png\"; "
             "repeatable"},
    {0}};

/* ---- finding ---- */

/* Does `name` ("features look") consist of the given words? Returns how many, 0 when not. */
static int match(const char *name, int n, char *const *words)
{
    const char *space = strchr(name, ' ');
    if (!space) return n > 0 && strcmp(name, words[0]) == 0 ? 1 : 0;
    size_t first = (size_t)(space - name);
    if (n < 2 || strlen(words[0]) != first || strncmp(name, words[0], first) != 0) return 0;
    return strcmp(space + 1, words[1]) == 0 ? 2 : 0;
}

const fct_cli_command *fct_cli_find(int n, char *const *words, int *out_words)
{
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++) {
        *out_words = match((*p)->name, n, words);
        if (*out_words) return *p;
    }
    return NULL;
}

bool fct_cli_is_group(const char *word)
{
    size_t n = strlen(word);
    for (const fct_cli_command *const *p = fct_cli_commands; *p; p++)
        if (strncmp((*p)->name, word, n) == 0 && (*p)->name[n] == ' ') return true;
    return false;
}

fct_status fct_cli_fail_command(int n, char *const *words)
{
    const char *names[32];
    char given[128];
    int64_t count = 0;
    bool group = n > 1 && fct_cli_is_group(words[0]);
    size_t skip = group ? strlen(words[0]) + 1 : 0;
    for (const fct_cli_command *const *p = fct_cli_commands;
         *p && count < (int64_t)FCT_COUNT(names); p++)
        if (!group || (strncmp((*p)->name, words[0], skip - 1) == 0 && (*p)->name[skip - 1] == ' '))
            names[count++] = (*p)->name + skip;
    snprintf(given, sizeof given, "%s", group ? words[1] : words[0]);
    const char *near = fct_nearest_word(given, names, count);
    if (group && near)
        return fct_fail(FCT_ERR_ARG, "%s has no verb \"%s\"; did you mean %s?", words[0], given,
                        near);
    if (group)
        return fct_fail(FCT_ERR_ARG, "%s has no verb \"%s\"; see facet %s --help", words[0], given,
                        words[0]);
    if (near) return fct_fail(FCT_ERR_ARG, "unknown command \"%s\"; did you mean %s?", given, near);
    return fct_fail(FCT_ERR_ARG, "unknown command \"%s\"; see facet --help", given);
}

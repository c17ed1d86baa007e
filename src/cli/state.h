/* state.h - declares what lies behind fct_cli: the parsed words of one call, its log and its
   result. For the files that parse, print help and report; commands use cli.h. */
#ifndef FCT_CLI_STATE_H
#define FCT_CLI_STATE_H

#include "cli/cli.h"

typedef struct fct_cli_value {
    const fct_cli_option *row; /* &own */
    fct_cli_option own;        /* with what its table says */
    const char **text;         /* [n]: the words as given; point into argv, or into fct_cli.owned */
    int64_t n;
    bool given;              /* false: text[0] is the default */
    int64_t a, b;            /* INT: a; SIZE, PAIR: both; CHOICE: a is its position */
    double f;                /* FLOAT */
    int64_t *steps, n_steps; /* STEPS */
} fct_cli_value;

/* The progress being shown. */
typedef struct fct_cli_bar {
    char what[64], detail[160]; /* detail: in place of the rate; empty: none */
    double start, shown;        /* seconds */
    int64_t first;              /* units done when it began */
    bool live;                  /* a line without end stands on the terminal */
} fct_cli_bar;

struct fct_cli {
    const fct_cli_command *command;
    fct_cli_value *value; /* one a row of the command's tables */
    int64_t n_values;
    const char **operand;
    int64_t n_operands;
    char **owned; /* [n_owned]: texts that are not argv's */
    int64_t n_owned;
    bool json, quiet, verbose, terminal;
    bool mute;  /* one of several ranks, not the one that speaks */
    bool usage; /* the failure is wrong use: exit code 2 */
    bool lost;  /* a member of the result found no memory */
    json_t *result;
    fct_log log;
    fct_dist *ranks; /* NULL: one process */
    fct_cli_bar *bar; /* not in here, so that a log line through a const fct_cli can close it */
};

/* ---- options.c ---- */
/* Words after the command's name. FCT_ERR_ARG with c->usage set for wrong use. want_help: --help
   was among them; then nothing is required. Texts stay argv's. */
fct_status fct_cli_parse(fct_cli *c, const fct_cli_command *command, int n, char *const *words,
                         bool *want_help) FCT_MUST_CHECK;
void fct_cli_clear(fct_cli *c);
/* row NULL: the first. */
const fct_cli_option *fct_cli_next_row(const fct_cli_command *command, int *table,
                                       const fct_cli_option *row);

/* ---- kinds.c ---- */
/* A row with what the library's table says of its field, where it says nothing itself. */
fct_cli_option fct_cli_whole(const fct_cli_option *row);
/* A refusal's text says what is wanted, without the option's name. */
fct_status fct_cli_read_value(fct_cli_value *v, const char *text) FCT_MUST_CHECK;
/* "a whole number from 1 to 100" */
fct_status fct_cli_range_text(fct_str *out, const fct_cli_option *row) FCT_MUST_CHECK;
extern const char *const fct_cli_kind_name[FCT_CLI_KIND_COUNT];

/* ---- help.c, man.c, complete.c: text into a string ---- */
fct_status fct_cli_help_program(fct_str *out) FCT_MUST_CHECK;
fct_status fct_cli_help_command(fct_str *out, const fct_cli_command *command) FCT_MUST_CHECK;
/* "features": its verbs. */
fct_status fct_cli_help_group(fct_str *out, const char *group) FCT_MUST_CHECK;
fct_status fct_cli_usage_line(fct_str *out, const fct_cli_command *command) FCT_MUST_CHECK;
fct_status fct_cli_man(fct_str *out) FCT_MUST_CHECK;
fct_status fct_cli_complete(fct_str *out, const char *shell) FCT_MUST_CHECK;
/* All tables; NULL: no memory. */
json_t *fct_cli_tables(void);

/* ---- commands.c ---- */
/* The command that words[0] (and words[1]) name; *out_words is how many words that took. NULL:
   none. */
const fct_cli_command *fct_cli_find(int n, char *const *words, int *out_words);
bool fct_cli_is_group(const char *word);
/* Sets the error for words that name no command, with the nearest one. */
fct_status fct_cli_fail_command(int n, char *const *words) FCT_MUST_CHECK;

/* ---- report.c ---- */
void fct_cli_report_init(fct_cli *c, const volatile int *stop);
/* Prints the result or the failure; returns what came of it. */
fct_status fct_cli_report_end(fct_cli *c, fct_status st);
void fct_cli_error(const char *text);
/* On stdout. */
fct_status fct_cli_print(const fct_str *text) FCT_MUST_CHECK;

#endif

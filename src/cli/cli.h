/* cli.h - gives every command of the program its option tables, the values that were given, its
   results and its log.

   Do this (cmd/x.c):

       static fct_status run(fct_cli *c)
       {
           int64_t n = fct_cli_i64(c, "rows");
           fct_cli_say(c, "%" PRId64 " rows", n);      // the plain result: a line on stdout
           fct_cli_put(c, "rows", json_integer(n));    // the same for --json
           return FCT_OK;
       }

       static const fct_cli_option options[] = {
           {.name = "rows",
            .kind = FCT_CLI_INT,
            .value = "N",
            .fallback = "10",
            .lo = 1,
            .hi = 100,
            .help = "how many"},
           {0}};

       const fct_cli_command fct_cmd_x = {
           .name = "x",
           .summary = "count rows",
           .run = run,
           .options = {options, fct_cli_common},
       };

   and name it in the list of commands.c. One table drives parsing, ranges, --help, the man page,
   completion and `facet help --json`. Commands never print to stderr themselves: they return a
   status with fct_error_text() set, and pass fct_cli_log(c) down. Exit codes: 0 done, 1 failed, 2
   usage, 130 stopped by Ctrl-C (143 by SIGTERM). */
#ifndef FCT_CLI_CLI_H
#define FCT_CLI_CLI_H

#include "base/option.h"
#include "facet/dist.h"

/* ---- tables ---- */
typedef enum fct_cli_kind {
    FCT_CLI_FLAG,  /* no value */
    FCT_CLI_INT,   /* whole number in [lo,hi] */
    FCT_CLI_FLOAT, /* number in [lo,hi] */
    FCT_CLI_TEXT,
    FCT_CLI_FILE, /* a file's name; see `stream` */
    FCT_CLI_FOLDER,
    FCT_CLI_CHOICE, /* one of `choices` */
    FCT_CLI_STEPS,  /* ascending numbers from 1: "1,3" or "1-3" or both */
    FCT_CLI_SIZE,   /* "1024x768": two whole numbers in [lo,hi] */
    FCT_CLI_PAIR,   /* "0,0": two whole numbers in [lo,hi] */
    FCT_CLI_KIND_COUNT
} fct_cli_kind;

/* A table of the library (fct_settings_table): its rows describe the fields of a struct. */
typedef const fct_option *(*fct_cli_table)(void);

/* A row; one without a name ends the table. */
typedef struct fct_cli_option {
    const char *name;    /* "width" for --width */
    fct_cli_table table; /* not NULL: the option says a field of that table's struct */
    const char *field;   /* NULL: the field is called like the option */
    char letter;         /* 'W' for -W; 0: none */
    fct_cli_kind kind;
    const char *value;     /* placeholder in help: "N", "DIR"; NULL for flags */
    const char *fallback;  /* default: parsed as if it had been given; NULL: none */
    const char *otherwise; /* words for help where the default is no constant: "the model's" */
    double lo, hi;         /* both ends included; hi >= 9.2e18 is the largest whole number */
    bool above;            /* FLOAT: lo itself is excluded */
    int64_t multiple;      /* INT, SIZE: only multiples of this; 0: any */
    const char *choices;   /* "auto,f32,bf16" */
    bool stream;           /* FILE: "-" is stdin or stdout; elsewhere it is refused */
    bool many;             /* may be given several times */
    bool required;
    const char *help; /* one sentence without a full stop */
} fct_cli_option;

/* A word without dashes. */
typedef struct fct_cli_operand {
    const char *name; /* "SAE"; NULL: none */
    const char *help;
    bool optional, many;
    bool stream; /* "-" is stdin; elsewhere it is refused */
} fct_cli_operand;

enum { FCT_CLI_TABLES = 6, FCT_CLI_OPERANDS = 2 };

typedef struct fct_cli fct_cli;
typedef struct fct_cli_command {
    const char *name;     /* "generate", or two words: "features look" */
    const char *summary;  /* one line, imperative, without a full stop */
    const char *text;     /* paragraphs for --help and the man page; may be NULL */
    const char *examples; /* a line each; may be NULL */
    fct_cli_operand operand[FCT_CLI_OPERANDS];
    /* In the order in which help shows them; fct_cli_common is the last. */
    const fct_cli_option *options[FCT_CLI_TABLES];
    fct_status (*run)(fct_cli *c);
    bool ranks; /* several processes (mpirun) share its work */
} fct_cli_command;

/* Tables of several commands. Instruments (what measures a model) default to --dtype f32. */
extern const fct_cli_option fct_cli_common[];     /* --json --quiet --verbose --threads --help */
extern const fct_cli_option fct_cli_model[];      /* --model --dtype --backend */
extern const fct_cli_option fct_cli_instrument[]; /* the same for instruments */
extern const fct_cli_option fct_cli_backend[];    /* --backend where SAEs run and no model */
extern const fct_cli_option fct_cli_edits[];      /* --sae --edit */

extern const fct_cli_command fct_cmd_generate, fct_cmd_capture, fct_cmd_train, fct_cmd_encode,
    fct_cmd_features_look, fct_cmd_features_top, fct_cmd_features_icon, fct_cmd_features_contrast,
    fct_cmd_features_stats, fct_cmd_convert, fct_cmd_info, fct_cmd_doctor, fct_cmd_demo,
    fct_cmd_help;
/* In the order in which help lists them; ended by NULL. */
extern const fct_cli_command *const fct_cli_commands[];

/* ---- what was given (values.c) ----

   Asking for an option that the command's tables lack is a mistake in the program, and ends it. */
const fct_cli_command *fct_cli_get_command(const fct_cli *c);
/* On the command line, not by default. */
bool fct_cli_given(const fct_cli *c, const char *option);
bool fct_cli_flag(const fct_cli *c, const char *option);
/* 0 when it was neither given nor has a default. */
int64_t fct_cli_i64(const fct_cli *c, const char *option);
double fct_cli_f64(const fct_cli *c, const char *option);
/* NULL when neither; the last one of several. */
const char *fct_cli_text(const fct_cli *c, const char *option);
/* How often it was given, or 1 by default; and the i-th of them. */
int64_t fct_cli_count(const fct_cli *c, const char *option);
const char *fct_cli_text_at(const fct_cli *c, const char *option, int64_t i);
/* The number of steps; 0 when not given. */
int64_t fct_cli_steps(const fct_cli *c, const char *option, const int64_t **out);
/* SIZE and PAIR; 0, 0 when not given. */
void fct_cli_pair(const fct_cli *c, const char *option, int64_t *a, int64_t *b);
/* The position in `choices`, from 0. */
int64_t fct_cli_choice(const fct_cli *c, const char *option);
int64_t fct_cli_operands(const fct_cli *c);
const char *fct_cli_operand_at(const fct_cli *c, int64_t i);
/* Options that say fields of a table's struct, into that struct: those that were given. Texts stay
   the command line's. */
fct_status fct_cli_read(void *to, const fct_cli *c, fct_cli_table table) FCT_MUST_CHECK;
/* The same with the defaults that the rows have. */
fct_status fct_cli_read_all(void *to, const fct_cli *c, fct_cli_table table) FCT_MUST_CHECK;
/* Options that a file says, the text of a JSON object: those that the command line does not, which
   from then on are as if it had. */
fct_status fct_cli_take(fct_cli *c, const char *json) FCT_MUST_CHECK;
/* Wrong use that no table can see: "--branch uncond needs --guidance above 1". Exit code 2, with a
   hint at --help. */
fct_status fct_cli_usage(fct_cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- several processes: only the first rank says and writes things ---- */
fct_dist *fct_cli_ranks(fct_cli *c); /* of a command with `ranks`; NULL: one alone */

/* ---- results and messages (report.c) ---- */
/* To be handed down: where messages go, and the stop flag. */
const fct_log *fct_cli_log(const fct_cli *c);
bool fct_cli_json(const fct_cli *c);
/* A line on stdout; not with --json. */
void fct_cli_say(fct_cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line of the log. */
void fct_cli_note(const fct_cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A member of the --json object; takes `value` over. */
void fct_cli_put(fct_cli *c, const char *key, json_t *value);
/* That object itself; borrowed. */
json_t *fct_cli_result(fct_cli *c);

/* Two words are one place, so that one of them would overwrite the other: wrong use. */
fct_status fct_cli_check_apart(fct_cli *c, const char *option, const char *path, const char *other,
                               const char *what) FCT_MUST_CHECK;

/* ---- output places (report.c): refused before the work, not after it ---- */

/* A file can be written there; "-" is fine. */
fct_status fct_cli_check_out(const char *path) FCT_MUST_CHECK;
/* A folder that exists and is writable, or can be made. */
fct_status fct_cli_check_dir(const char *path) FCT_MUST_CHECK;

#endif

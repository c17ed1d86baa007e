/* option.h - tables that describe the fields of a struct of options: what they are called, what
   they may hold, what they are when nothing is said. The command line, sweeps, recipes and every
   other reader or writer of options goes through them, so a new option is one row and its use.

   Do this:
       typedef struct brush { int64_t width; double strength; } brush;
       static const fct_option brush_table[] = {
           {.name = "width", .kind = FCT_OPTION_I64, .at = offsetof(brush, width), .lo = 1,
            .hi = 64, .value = "N", .otherwise = "the picture's", .help = "width in pixels"},
           {.name = "strength", .kind = FCT_OPTION_F64, .at = offsetof(brush, strength),
            .none = true, .hi = 10, .value = "X", .fallback = "1", .help = "how strongly"},
           {0}};
       brush b = {0};
       st = fct_where(fct_option_parse(&b, &brush_table[0], "12"), "--width 12");
       st = fct_options_of_json(&b, brush_table, object, "brush.json");

   Zero is the default: a field that is 0 or NULL was not said, and whoever uses the struct puts the
   default in its place. Where 0 itself can be meant the row says `none`; the field then holds
   FCT_NONE, while texts and JSON say 0.

   Functions of one field fail with "want a whole number from 1 to 64"; the caller puts the field's
   name before it, spelled as its user wrote it (fct_where with fct_spell). */
#ifndef FCT_BASE_OPTION_H
#define FCT_BASE_OPTION_H

#include "base/base.h"

typedef enum fct_option_kind {
    FCT_OPTION_FLAG,   /* bool */
    FCT_OPTION_I64,    /* int64_t */
    FCT_OPTION_U64,    /* uint64_t; above INT64_MAX its JSON is a text */
    FCT_OPTION_F64,    /* double, finite */
    FCT_OPTION_ENUM,   /* an enum, by the words of the row */
    FCT_OPTION_SIZE,   /* int64_t[2] or two neighbours: "1024x768", [1024, 768] */
    FCT_OPTION_PAIR,   /* the same: "0,0", [0, 0] */
    FCT_OPTION_TEXT,   /* const char * */
    FCT_OPTION_FILE,   /* const char *, not empty */
    FCT_OPTION_FOLDER, /* const char *, not empty */
    FCT_OPTION_WORD,   /* const char *, one of the row's words */
    FCT_OPTION_KIND_COUNT
} fct_option_kind;

typedef struct fct_option { /* a row; one without a name ends the table */
    const char *name;       /* "noise_dtype", as JSON and Python have it; --noise-dtype */
    fct_option_kind kind;
    size_t at;        /* where the field lies in its struct, in bytes: offsetof */
    double lo, hi;    /* of numbers, both included; from 9.2e18 on: as large as the type holds */
    bool above;       /* F64: lo itself is excluded */
    bool none;        /* I64, F64: 0 can be said, and is FCT_NONE in the struct */
    bool zero;        /* in JSON 0 may stand for the default, though lo is above it */
    int64_t multiple; /* I64, SIZE: only multiples of it; 0: any */
    /* ENUM: the words of 0, 1, 2 ... with commas between; an empty one (",none,linear") belongs to
       a default that has no word. WORD: the words, in any order. Numbers: one word for the default
       ("auto"), or NULL. */
    const char *words;
    const char *value;     /* stands for the value in help: "N"; NULL for flags */
    const char *fallback;  /* the default, as text that this row reads; NULL: no constant */
    const char *otherwise; /* the default in words, where it is no constant: "the model's" */
    const char *help;      /* one sentence without a full stop */
} fct_option;

/* ---- names ---- */
/* The row of that name, '-' and '_' being the same; NULL: none. */
const fct_option *fct_option_find(const fct_option *table, const char *name);
typedef struct fct_spelled {
    char text[64];
} fct_spelled;
fct_spelled fct_spell(const char *name, fct_spelling spelling);
/* A sentence with "{batch_size}" for every option that it names, as fct_fail and fct_log_line. */
fct_status fct_option_fail(fct_status st, fct_spelling spelling, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void fct_option_log(const fct_log *log, fct_log_level level, fct_spelling spelling, const char *fmt,
                    ...) __attribute__((format(printf, 4, 5)));
/* "a whole number from 1 to 64, divisible by 8". */
fct_status fct_option_range(fct_str *out, const fct_option *row) FCT_MUST_CHECK;

/* ---- one field; `to` and `from` are the struct ---- */
/* TEXT, FILE, FOLDER and WORD point into text. A FLAG is true for "" (that it is there says it). */
fct_status fct_option_parse(void *to, const fct_option *row, const char *text) FCT_MUST_CHECK;
/* null is as if the key were not there. Texts point into value. A number, a flag or a list written
   as text is refused, except U64. */
fct_status fct_option_of_json(void *to, const fct_option *row, const json_t *value) FCT_MUST_CHECK;
/* *out is NULL for a field at its default, except an enum whose default has a word. */
fct_status fct_option_to_json(json_t **out, const fct_option *row, const void *from) FCT_MUST_CHECK;
/* What a program put into the struct itself: the range, 0 and FCT_NONE. */
fct_status fct_option_check(const void *from, const fct_option *row) FCT_MUST_CHECK;

/* ---- the whole struct ---- */
/* Of a JSON object; keys without a row are refused, and the known ones listed. Fields whose keys
   are not there stay as they are. Errors: `where: "k": want ...`. */
fct_status fct_options_of_json(void *to, const fct_option *table, const json_t *object,
                               const char *where) FCT_MUST_CHECK;
/* The same where other keys are the caller's. */
fct_status fct_options_of_members(void *to, const fct_option *table, const json_t *object,
                                  const char *where) FCT_MUST_CHECK;
/* Adds the fields that are not at their defaults to an object, in the table's order. */
fct_status fct_options_to_json(json_t *object, const fct_option *table,
                               const void *from) FCT_MUST_CHECK;
/* Puts the default where a field is 0 or NULL and its row's default is a constant (fallback). */
fct_status fct_options_fill(void *inout, const fct_option *table) FCT_MUST_CHECK;
/* Errors begin with the field's name as spelled. */
fct_status fct_options_check(const void *from, const fct_option *table,
                             fct_spelling spelling) FCT_MUST_CHECK;
/* Texts of a struct that owns them: every one replaced by a copy of its own (on failure the others
   are NULL, so that clear is right), every one released and set to NULL. */
fct_status fct_options_own(void *inout, const fct_option *table) FCT_MUST_CHECK;
void fct_options_clear(void *inout, const fct_option *table);

#endif

/* facet/option.h - describes the fields of the structs that hold options: what each is called, what
   it may hold, what it is when nothing is said, and what it does.

   Do this:
       fct_settings settings = {0};
       const fct_option *row = fct_option_find(fct_settings_table(), "steps");
       fct_status st = fct_option_parse(&settings, row, "4");
       if (st == FCT_OK) printf("%s: %s\n", row->name, row->help);

   fct_settings_table (facet/session.h) and fct_train_table (facet/train.h) are such tables. The
   command line, sweeps, recipes and this library's other readers of options go by them; a program
   with a form, or another language with keywords, can do the same. Tables are constant and may be
   read on any thread. */
#ifndef FACET_OPTION_H
#define FACET_OPTION_H

#include "facet/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a field is, and how it is written. */
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

/* How messages write the name of an option: as its user does. */
typedef enum fct_spelling {
    FCT_SPELL_FIELD,        /* batch_size */
    FCT_SPELL_COMMAND_LINE, /* --batch-size */
    FCT_SPELL_JSON,         /* "batch_size" */
    FCT_SPELL_KEYWORD       /* batch_size= */
} fct_spelling;

/* The row of that name, '-' and '_' being the same; NULL: none. */
FCT_API const fct_option *fct_option_find(const fct_option *table, const char *name);
/* Reads one field of the struct `to` from text. TEXT, FILE, FOLDER and WORD point into text, which
   must outlive the struct; a FLAG is true for "" (that it is there says it). FCT_ERR_ARG says what
   is wanted ("want a whole number from 1 to 64"), without the field's name. */
FCT_API fct_status fct_option_parse(void *to, const fct_option *row,
                                    const char *text) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/* option.h - describes the fields of a struct of options in tables: what they are called, what they
   may hold, what they are when nothing is said. The command line, sweeps, recipes and every other
   reader or writer of options goes through them, so a new option is one row and its use.

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
#include "facet/option.h"

/* ---- names ---- */
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
/* null is as if the key were not there. Texts point into value. A number, a flag or a list written
   as text is refused, except U64. */
fct_status fct_option_of_json(void *to, const fct_option *row, const json_t *value) FCT_MUST_CHECK;
/* *out is NULL for a field at its default, except an enum whose default has a word and is
   constant. */
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

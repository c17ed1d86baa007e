/* option.c - reads and writes structs of options by the tables that describe their fields. Every
   kind of value has one reader of text, one of JSON, one writer and one way to say its range, here
   and nowhere else, so that an option means the same on the command line, in a file and in C. */
#include "base/option.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- fields ---- */

static void *at(void *options, const fct_option *row)
{
    return (uint8_t *)options + row->at;
}

static const void *at_const(const void *options, const fct_option *row)
{
    return (const uint8_t *)options + row->at;
}

static bool is_text(const fct_option *row)
{
    return row->kind >= FCT_OPTION_TEXT;
}

static bool has_words(const fct_option *row)
{
    return row->kind == FCT_OPTION_ENUM || row->kind == FCT_OPTION_WORD;
}

static bool is_two(const fct_option *row)
{
    return row->kind == FCT_OPTION_SIZE || row->kind == FCT_OPTION_PAIR;
}

/* ---- names ---- */

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b))) return false;
    return *a == *b;
}

const fct_option *fct_option_find(const fct_option *table, const char *name)
{
    for (; table->name; table++)
        if (same_name(table->name, name)) return table;
    return NULL;
}

fct_spelled fct_spell(const char *name, fct_spelling spelling)
{
    static const char *const before[] = {"", "--", "\"", ""}, *const after[] = {"", "", "\"", "="};
    fct_spelled s;
    snprintf(s.text, sizeof s.text, "%s%s%s", before[spelling], name, after[spelling]);
    char other = spelling == FCT_SPELL_COMMAND_LINE ? '_' : '-', own = other == '_' ? '-' : '_';
    for (char *p = s.text + strlen(before[spelling]); *p; p++)
        if (*p == other) *p = own;
    return s;
}

/* A name in braces; its length, 0: none begins there. */
static size_t braced(const char *p)
{
    size_t n = *p == '{' ? strspn(p + 1, "abcdefghijklmnopqrstuvwxyz0123456789_") : 0;
    return n > 0 && n < 48 && p[1 + n] == '}' ? n : 0;
}

static fct_status spell_all(fct_str *out, fct_spelling spelling, const char *text)
{
    for (const char *p = text; *p; p++) {
        char name[48];
        size_t n = braced(p);
        if (n == 0) {
            FCT_TRY(fct_str_append_n(out, p, 1));
            continue;
        }
        memcpy(name, p + 1, n);
        name[n] = '\0';
        FCT_TRY(fct_str_append(out, fct_spell(name, spelling).text));
        p += n + 1;
    }
    return FCT_OK;
}

static fct_status spell_sentence(fct_str *out, fct_spelling spelling, const char *fmt, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, args);
    return spell_all(out, spelling, text);
}

fct_status fct_option_fail(fct_status st, fct_spelling spelling, const char *fmt, ...)
{
    fct_str s = {0};
    va_list args;
    va_start(args, fmt);
    fct_status made = spell_sentence(&s, spelling, fmt, args);
    va_end(args);
    if (made == FCT_OK) made = fct_fail(st, "%s", s.p ? s.p : "");
    fct_str_clear(&s);
    return made;
}

void fct_option_log(const fct_log *log, fct_log_level level, fct_spelling spelling, const char *fmt,
                    ...)
{
    fct_str s = {0};
    va_list args;
    va_start(args, fmt);
    if (spell_sentence(&s, spelling, fmt, args) == FCT_OK)
        fct_log_line(log, level, "%s", s.p ? s.p : "");
    va_end(args);
    fct_str_clear(&s);
}

/* ---- ranges ---- */

/* Doubles hold every bound that tables name, but not the largest whole number. */
static int64_t bound(double x)
{
    return x >= 9.2e18 ? INT64_MAX : x <= -9.2e18 ? INT64_MIN : (int64_t)x;
}

static uint64_t bound_u64(double x)
{
    return x >= 1.8e19 ? UINT64_MAX : x >= 9.2e18 ? (uint64_t)INT64_MAX : (uint64_t)x;
}

static fct_status append_words(fct_str *out, const char *words)
{
    FCT_TRY(fct_str_append(out, "one of "));
    for (const char *p = words + (*words == ','); *p; p++)
        FCT_TRY(*p == ',' ? fct_str_append(out, ", ") : fct_str_append_n(out, p, 1));
    return FCT_OK;
}

static fct_status append_bounds(fct_str *out, const fct_option *row)
{
    if (row->kind == FCT_OPTION_F64) {
        if (row->above) return fct_str_printf(out, "above %g up to %g", row->lo, row->hi);
        return fct_str_printf(out, "from %g to %g", row->lo, row->hi);
    }
    FCT_TRY(fct_str_printf(out, "from %" PRId64, bound(row->lo)));
    if (row->kind == FCT_OPTION_U64 && bound_u64(row->hi) == UINT64_MAX)
        return fct_str_printf(out, " to %" PRIu64, UINT64_MAX);
    FCT_TRY(row->hi >= 9.2e18 ? fct_str_append(out, " up")
                              : fct_str_printf(out, " to %" PRId64, bound(row->hi)));
    return row->multiple > 1 ? fct_str_printf(out, ", divisible by %" PRId64, row->multiple)
                             : FCT_OK;
}

fct_status fct_option_range(fct_str *out, const fct_option *row)
{
    static const char *const words[FCT_OPTION_KIND_COUNT] = {
        [FCT_OPTION_FLAG] = "true or false",
        [FCT_OPTION_I64] = "a whole number ",
        [FCT_OPTION_U64] = "a whole number ",
        [FCT_OPTION_F64] = "a number ",
        [FCT_OPTION_SIZE] = "WIDTHxHEIGHT, each ",
        [FCT_OPTION_PAIR] = "two whole numbers like 0,0, each ",
        [FCT_OPTION_TEXT] = "a text",
        [FCT_OPTION_FILE] = "a file",
        [FCT_OPTION_FOLDER] = "a folder"};
    if (has_words(row)) return append_words(out, row->words);
    if (row->words) FCT_TRY(fct_str_printf(out, "%s or ", row->words));
    FCT_TRY(fct_str_append(out, words[row->kind]));
    return is_text(row) || row->kind == FCT_OPTION_FLAG ? FCT_OK : append_bounds(out, row);
}

static fct_status fail_want(const fct_option *row, const char *found)
{
    fct_str s = {0};
    fct_status st = fct_option_range(&s, row);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_ARG, "want %s%s%s", s.p, found ? ", found " : "", found ? found : "");
    fct_str_clear(&s);
    return st;
}

static bool fits_i64(const fct_option *row, int64_t v)
{
    return v >= bound(row->lo) && v <= bound(row->hi) &&
           (row->multiple <= 1 || v % row->multiple == 0);
}

static bool fits_f64(const fct_option *row, double v)
{
    return v >= row->lo && v <= row->hi && !(row->above && v <= row->lo);
}

/* ---- values into fields: false when they do not fit ---- */

static bool put_i64(void *field, const fct_option *row, int64_t v)
{
    if (!fits_i64(row, v)) return false;
    v = v == 0 && row->none ? FCT_NONE : v;
    memcpy(field, &v, sizeof v);
    return true;
}

static bool put_f64(void *field, const fct_option *row, double v)
{
    if (!fits_f64(row, v)) return false;
    v = v == 0 && row->none ? FCT_NONE : v;
    memcpy(field, &v, sizeof v);
    return true;
}

static bool put_u64(void *field, const fct_option *row, uint64_t v)
{
    if (v < bound_u64(row->lo) || v > bound_u64(row->hi)) return false;
    memcpy(field, &v, sizeof v);
    return true;
}

/* The number of a word among the row's; -1: it is none of them. */
static int find_word(const fct_option *row, const char *text)
{
    const char *p = row->words;
    for (int i = 0;; i++) {
        size_t n = strcspn(p, ",");
        if (n > 0 && strlen(text) == n && strncmp(text, p, n) == 0) return i;
        if (!p[n]) return -1;
        p += n + 1;
    }
}

static bool put_word(void *field, const fct_option *row, const char *text)
{
    int i = find_word(row, text);
    if (i >= 0) memcpy(field, &i, sizeof i);
    return i >= 0;
}

static bool put_text(void *field, const fct_option *row, const char *text)
{
    if (row->kind == FCT_OPTION_WORD && find_word(row, text) < 0) return false;
    if (!*text && row->kind != FCT_OPTION_TEXT) return false;
    memcpy(field, &text, sizeof text);
    return true;
}

static bool put_flag(void *field, const char *text)
{
    bool v = strcmp(text, "false") != 0;
    if (v && *text && strcmp(text, "true") != 0) return false;
    memcpy(field, &v, sizeof v);
    return true;
}

/* ---- text ---- */

static bool parse_u64(uint64_t *out, const char *text)
{
    size_t n = strlen(text);
    *out = 0;
    if (n < 1 || text[strspn(text, "0123456789")]) return false;
    for (size_t i = 0; i < n; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (*out > (UINT64_MAX - digit) / 10) return false;
        *out = *out * 10 + digit;
    }
    return true;
}

/* Two numbers around one of the marks. */
static bool parse_two(void *field, const fct_option *row, const char *text)
{
    char first[32];
    int64_t v[2];
    size_t n = strcspn(text, row->kind == FCT_OPTION_SIZE ? "xX" : ",");
    if (!text[n] || n >= sizeof first) return false;
    memcpy(first, text, n);
    first[n] = '\0';
    if (fct_parse_i64(&v[0], first, INT64_MIN, INT64_MAX) != FCT_OK ||
        fct_parse_i64(&v[1], text + n + 1, INT64_MIN, INT64_MAX) != FCT_OK)
        return false;
    if (!fits_i64(row, v[0]) || !fits_i64(row, v[1])) return false;
    memcpy(field, v, sizeof v);
    return true;
}

static bool parse(void *field, const fct_option *row, const char *text)
{
    int64_t i;
    uint64_t u;
    double f;
    switch (row->kind) {
    case FCT_OPTION_FLAG: return put_flag(field, text);
    case FCT_OPTION_I64:
        return fct_parse_i64(&i, text, INT64_MIN, INT64_MAX) == FCT_OK && put_i64(field, row, i);
    case FCT_OPTION_U64: return parse_u64(&u, text) && put_u64(field, row, u);
    case FCT_OPTION_F64:
        return fct_parse_f64(&f, text, -1e300, 1e300) == FCT_OK && put_f64(field, row, f);
    case FCT_OPTION_ENUM: return put_word(field, row, text);
    case FCT_OPTION_SIZE:
    case FCT_OPTION_PAIR: return parse_two(field, row, text);
    default: return put_text(field, row, text);
    }
}

/* The word for a number's default, which is 0 whatever the bounds are. */
static bool is_default_word(const fct_option *row, const char *text)
{
    return row->words && !has_words(row) && text && strcmp(text, row->words) == 0;
}

static void put_default(void *field, const fct_option *row)
{
    static const size_t bytes[FCT_OPTION_KIND_COUNT] = {
        sizeof(bool),   sizeof(int64_t),     sizeof(uint64_t),    sizeof(double),
        sizeof(int),    2 * sizeof(int64_t), 2 * sizeof(int64_t), sizeof(char *),
        sizeof(char *), sizeof(char *),      sizeof(char *)};
    memset(field, 0, bytes[row->kind]);
}

fct_status fct_option_parse(void *to, const fct_option *row, const char *text)
{
    if (is_default_word(row, text)) {
        put_default(at(to, row), row);
        return FCT_OK;
    }
    return parse(at(to, row), row, text) ? FCT_OK : fail_want(row, NULL);
}

/* ---- JSON ---- */

/* 512.0 too: Python writes such. */
static bool whole_of_json(int64_t *out, const json_t *v)
{
    double d = json_is_real(v) ? json_real_value(v) : 0;
    if (!json_is_number(v) || d != floor(d) || fabs(d) > 9007199254740992.0) return false;
    *out = json_is_integer(v) ? json_integer_value(v) : (int64_t)d;
    return true;
}

static bool u64_of_json(void *field, const fct_option *row, const json_t *v)
{
    int64_t i;
    uint64_t u;
    if (json_is_string(v)) return parse_u64(&u, json_string_value(v)) && put_u64(field, row, u);
    return whole_of_json(&i, v) && i >= 0 && put_u64(field, row, (uint64_t)i);
}

static bool two_of_json(void *field, const fct_option *row, const json_t *v)
{
    int64_t two[2];
    if (json_array_size(v) != 2) return false;
    for (size_t i = 0; i < 2; i++) {
        if (!whole_of_json(&two[i], json_array_get(v, i))) return false;
        if (!(two[i] == 0 && row->zero) && !fits_i64(row, two[i])) return false;
    }
    memcpy(field, two, sizeof two);
    return true;
}

static bool of_json(void *field, const fct_option *row, const json_t *v)
{
    int64_t i;
    bool flag = json_is_true(v);
    switch (row->kind) {
    case FCT_OPTION_FLAG:
        if (json_is_boolean(v)) memcpy(field, &flag, sizeof flag);
        return json_is_boolean(v);
    case FCT_OPTION_I64: return whole_of_json(&i, v) && put_i64(field, row, i);
    case FCT_OPTION_U64: return u64_of_json(field, row, v);
    case FCT_OPTION_F64: return json_is_number(v) && put_f64(field, row, json_number_value(v));
    case FCT_OPTION_ENUM: return json_is_string(v) && put_word(field, row, json_string_value(v));
    case FCT_OPTION_SIZE:
    case FCT_OPTION_PAIR: return two_of_json(field, row, v);
    default: return json_is_string(v) && put_text(field, row, json_string_value(v));
    }
}

static fct_status fail_found(const fct_option *row, const json_t *v)
{
    fct_str s = {0};
    bool plain = !json_is_array(v) && !json_is_object(v) && json_string_length(v) <= 40;
    fct_status st = plain ? fct_json_text(&s, v, 0)
                          : fct_str_append(&s, json_is_array(v)    ? "a list"
                                               : json_is_object(v) ? "an object"
                                                                   : "a long text");
    if (st == FCT_OK) st = fail_want(row, s.p);
    fct_str_clear(&s);
    return st;
}

fct_status fct_option_of_json(void *to, const fct_option *row, const json_t *value)
{
    if (!value || json_is_null(value)) return FCT_OK;
    bool zero = row->zero && json_is_number(value) && json_number_value(value) == 0;
    if (zero || is_default_word(row, json_string_value(value))) {
        put_default(at(to, row), row);
        return FCT_OK;
    }
    return of_json(at(to, row), row, value) ? FCT_OK : fail_found(row, value);
}

/* JSON's whole numbers are signed here; a larger one is written as text. */
static json_t *u64_to_json(uint64_t v)
{
    char text[24];
    if (v <= INT64_MAX) return json_integer((json_int_t)v);
    snprintf(text, sizeof text, "%" PRIu64, v);
    return json_string(text);
}

static json_t *word_to_json(const fct_option *row, int v)
{
    const char *p = row->words;
    for (; v > 0; v--) {
        p += strcspn(p, ",");
        if (*p) p++;
    }
    return json_stringn(p, strcspn(p, ","));
}

/* A field as numbers of its type, whatever its kind; what is not of that kind is 0. */
typedef struct held {
    bool flag;
    int64_t i[2];
    uint64_t u;
    double f;
    int word;
    const char *text;
} held;

static held get(const void *from, const fct_option *row)
{
    held h = {0};
    const void *field = at_const(from, row);
    switch (row->kind) {
    case FCT_OPTION_FLAG: memcpy(&h.flag, field, sizeof h.flag); break;
    case FCT_OPTION_I64: memcpy(&h.i, field, sizeof h.i[0]); break;
    case FCT_OPTION_U64: memcpy(&h.u, field, sizeof h.u); break;
    case FCT_OPTION_F64: memcpy(&h.f, field, sizeof h.f); break;
    case FCT_OPTION_ENUM: memcpy(&h.word, field, sizeof h.word); break;
    case FCT_OPTION_SIZE:
    case FCT_OPTION_PAIR: memcpy(h.i, field, sizeof h.i); break;
    default: memcpy(&h.text, field, sizeof h.text); break;
    }
    return h;
}

static bool is_default(const fct_option *row, const held *h)
{
    if (row->kind == FCT_OPTION_ENUM)
        return h->word == 0 && (row->words[0] == ',' || row->otherwise != NULL);
    return !h->flag && h->i[0] == 0 && h->i[1] == 0 && h->u == 0 && h->f == 0 && !h->text;
}

fct_status fct_option_to_json(json_t **out, const fct_option *row, const void *from)
{
    held h = get(from, row);
    *out = NULL;
    if (is_default(row, &h)) return FCT_OK;
    switch (row->kind) {
    case FCT_OPTION_FLAG: *out = json_true(); break;
    case FCT_OPTION_I64: *out = json_integer(row->none && h.i[0] == FCT_NONE ? 0 : h.i[0]); break;
    case FCT_OPTION_U64: *out = u64_to_json(h.u); break;
    case FCT_OPTION_F64: *out = json_real(row->none && h.f == FCT_NONE ? 0 : h.f); break;
    case FCT_OPTION_ENUM: *out = word_to_json(row, h.word); break;
    case FCT_OPTION_SIZE:
    case FCT_OPTION_PAIR: *out = json_pack("[I,I]", (json_int_t)h.i[0], (json_int_t)h.i[1]); break;
    default: *out = json_string(h.text); break;
    }
    return *out ? FCT_OK
                : fct_fail(FCT_ERR_MEMORY, "out of memory, or text that is not UTF-8, under \"%s\"",
                           row->name);
}

/* ---- what a program put there itself ---- */

static int count_words(const char *words)
{
    int n = 1;
    for (; *words; words++) n += *words == ',';
    return n;
}

static bool fits(const fct_option *row, const held *h)
{
    switch (row->kind) {
    case FCT_OPTION_I64:
        return h->i[0] == 0 || (row->none && h->i[0] == FCT_NONE) || fits_i64(row, h->i[0]);
    case FCT_OPTION_U64:
        return h->u == 0 || (h->u >= bound_u64(row->lo) && h->u <= bound_u64(row->hi));
    case FCT_OPTION_F64: return h->f == 0 || (row->none && h->f == FCT_NONE) || fits_f64(row, h->f);
    case FCT_OPTION_ENUM: return h->word >= 0 && h->word < count_words(row->words);
    case FCT_OPTION_SIZE:
    case FCT_OPTION_PAIR:
        return (h->i[0] == 0 || fits_i64(row, h->i[0])) && (h->i[1] == 0 || fits_i64(row, h->i[1]));
    case FCT_OPTION_FILE:
    case FCT_OPTION_FOLDER: return !h->text || *h->text;
    case FCT_OPTION_WORD: return !h->text || find_word(row, h->text) >= 0;
    default: return true;
    }
}

fct_status fct_option_check(const void *from, const fct_option *row)
{
    char found[64] = "";
    held h = get(from, row);
    if (fits(row, &h)) return FCT_OK;
    if (row->kind == FCT_OPTION_I64) snprintf(found, sizeof found, "%" PRId64, h.i[0]);
    if (row->kind == FCT_OPTION_U64) snprintf(found, sizeof found, "%" PRIu64, h.u);
    if (row->kind == FCT_OPTION_F64) snprintf(found, sizeof found, "%g", h.f);
    if (row->kind == FCT_OPTION_ENUM) snprintf(found, sizeof found, "number %d", h.word);
    if (is_two(row)) snprintf(found, sizeof found, "%" PRId64 " and %" PRId64, h.i[0], h.i[1]);
    if (row->kind == FCT_OPTION_WORD) snprintf(found, sizeof found, "%.60s", h.text);
    return fail_want(row, found[0] ? found : "an empty one");
}

/* ---- the whole struct ---- */

fct_status fct_options_of_members(void *to, const fct_option *table, const json_t *object,
                                  const char *where)
{
    if (!json_is_object(object)) return fct_fail(FCT_ERR_FORMAT, "%s: want an object", where);
    for (; table->name; table++) {
        fct_status st = fct_option_of_json(to, table, json_object_get(object, table->name));
        if (st == FCT_ERR_ARG) st = FCT_ERR_FORMAT;
        FCT_TRY(fct_where(st, "%s: %s", where, fct_spell(table->name, FCT_SPELL_JSON).text));
    }
    return FCT_OK;
}

static fct_status fail_unknown(const fct_option *table, const char *key, const char *where)
{
    fct_str list = {0};
    fct_status st = FCT_OK;
    for (const fct_option *row = table; row->name && st == FCT_OK; row++)
        st = fct_str_printf(&list, "%s%s", row == table ? "" : ", ", row->name);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_FORMAT, "%s: unknown key \"%s\"; known are %s", where, key, list.p);
    fct_str_clear(&list);
    return st;
}

fct_status fct_options_of_json(void *to, const fct_option *table, const json_t *object,
                               const char *where)
{
    json_t *o;
    memcpy(&o, &object, sizeof o); /* iteration takes a non-const object and changes nothing */
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        const fct_option *row = table;
        while (row->name && strcmp(row->name, key) != 0) row++;
        if (!row->name) return fail_unknown(table, key, where);
    }
    return fct_options_of_members(to, table, object, where);
}

fct_status fct_options_to_json(json_t *object, const fct_option *table, const void *from)
{
    for (; table->name; table++) {
        json_t *value;
        FCT_TRY(fct_option_to_json(&value, table, from));
        if (value && json_object_set_new(object, table->name, value) != 0)
            return fct_fail(FCT_ERR_MEMORY, "out of memory while building JSON");
    }
    return FCT_OK;
}

fct_status fct_options_fill(void *inout, const fct_option *table)
{
    for (; table->name; table++) {
        held h = get(inout, table);
        bool is_set = h.flag || h.i[0] || h.i[1] || h.u || h.f != 0 || h.word || h.text;
        if (!is_set && table->fallback)
            FCT_TRY(fct_where(fct_option_parse(inout, table, table->fallback), "%s", table->name));
    }
    return FCT_OK;
}

fct_status fct_options_check(const void *from, const fct_option *table, fct_spelling spelling)
{
    for (; table->name; table++)
        FCT_TRY(
            fct_where(fct_option_check(from, table), "%s", fct_spell(table->name, spelling).text));
    return FCT_OK;
}

fct_status fct_options_own(void *inout, const fct_option *table)
{
    fct_status st = FCT_OK;
    for (; table->name; table++) {
        const char *text;
        char *copy = NULL;
        if (!is_text(table)) continue;
        memcpy(&text, at(inout, table), sizeof text);
        if (st == FCT_OK) st = fct_strdup(&copy, text);
        memcpy(at(inout, table), &copy, sizeof copy);
    }
    return st;
}

void fct_options_clear(void *inout, const fct_option *table)
{
    for (; table->name; table++) {
        char *text;
        if (!is_text(table)) continue;
        memcpy(&text, at(inout, table), sizeof text);
        fct_free(text);
        put_default(at(inout, table), table);
    }
}

/* json.c - reads and writes JSON on jansson: strictly, with file, line and column in the error,
   with typed getters that name the field, and with the shortest digits that read back to the same
   number. Duplicate keys are refused: two readers would otherwise see two different files. */
#include "base/base.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fct_status fct_json_parse(json_t **out, const char *text, int64_t n, const char *name)
{
    json_error_t e = {0};
    *out = NULL;
    if (n < 0) return fct_fail(FCT_ERR_ARG, "%s: negative length", name);
    *out = json_loadb(n > 0 ? text : "", (size_t)n, JSON_REJECT_DUPLICATES, &e);
    if (*out) return FCT_OK;
    if (json_error_code(&e) == json_error_out_of_memory ||
        e.text[0] == '\0') /* jansson says nothing when it cannot begin */
        return fct_fail(FCT_ERR_MEMORY, "%s: out of memory while reading JSON", name);
    return fct_fail(FCT_ERR_FORMAT, "%s:%d:%d: not valid JSON: %s", name, e.line, e.column, e.text);
}

fct_status fct_json_read(json_t **out, const char *path)
{
    char *text = NULL;
    int64_t n = 0;
    *out = NULL;
    FCT_TRY(fct_file_read(&text, &n, path));
    fct_status st = fct_json_parse(out, text, n, path);
    fct_free(text);
    return st;
}

/* ---- writing ---- */

static fct_status put_value(fct_str *s, const json_t *j, int indent, int depth);

static fct_status put_string(fct_str *s, const char *p, size_t n)
{
    FCT_TRY(fct_str_append(s, "\""));
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        FCT_TRY(fct_str_append_n(s, p + from, (int64_t)(i - from)));
        from = i + 1;
        switch (c) {
        case '"': FCT_TRY(fct_str_append(s, "\\\"")); break;
        case '\\': FCT_TRY(fct_str_append(s, "\\\\")); break;
        case '\n': FCT_TRY(fct_str_append(s, "\\n")); break;
        case '\t': FCT_TRY(fct_str_append(s, "\\t")); break;
        case '\r': FCT_TRY(fct_str_append(s, "\\r")); break;
        default: FCT_TRY(fct_str_printf(s, "\\u%04x", c)); break;
        }
    }
    FCT_TRY(fct_str_append_n(s, p + from, (int64_t)(n - from)));
    return fct_str_append(s, "\"");
}

static fct_status put_real(fct_str *s, double v)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.'; /* the locale's decimal comma */
    FCT_TRY(fct_str_append(s, text));
    return strpbrk(text, ".e") ? FCT_OK
                               : fct_str_append(s, ".0"); /* stays a real when it is read again */
}

static fct_status put_break(fct_str *s, int indent, int depth)
{
    if (indent <= 0) return FCT_OK;
    return fct_str_printf(s, "\n%*s", indent * depth, "");
}

static fct_status put_array(fct_str *s, const json_t *j, int indent, int depth)
{
    size_t n = json_array_size(j);
    FCT_TRY(fct_str_append(s, "["));
    bool flat =
        indent <= 0; /* short rows of plain values stay on one line: shapes, ranges, boxes */
    if (!flat && n <= 16) {
        flat = true;
        for (size_t i = 0; i < n; i++) {
            const json_t *v = json_array_get(j, i);
            if (json_is_object(v) || json_is_array(v) || json_string_length(v) > 24) flat = false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (i > 0) FCT_TRY(fct_str_append(s, flat ? ", " : ","));
        if (!flat) FCT_TRY(put_break(s, indent, depth + 1));
        FCT_TRY(put_value(s, json_array_get(j, i), indent, depth + 1));
    }
    if (!flat && n > 0) FCT_TRY(put_break(s, indent, depth));
    return fct_str_append(s, "]");
}

static fct_status put_object(fct_str *s, const json_t *j, int indent, int depth)
{
    /* jansson's iteration takes a non-const object and changes nothing in it */
    json_t *o;
    memcpy(&o, &j, sizeof o);
    FCT_TRY(fct_str_append(s, "{"));
    bool first = true;
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        if (!first) FCT_TRY(fct_str_append(s, indent > 0 ? "," : ", "));
        first = false;
        FCT_TRY(put_break(s, indent, depth + 1));
        FCT_TRY(put_string(s, key, strlen(key)));
        FCT_TRY(fct_str_append(s, ": "));
        FCT_TRY(put_value(s, json_object_iter_value(it), indent, depth + 1));
    }
    if (!first) FCT_TRY(put_break(s, indent, depth));
    return fct_str_append(s, "}");
}

enum { MAX_DEPTH = 200 };

static fct_status put_value(fct_str *s, const json_t *j, int indent, int depth)
{
    if (depth > MAX_DEPTH)
        return fct_fail(FCT_ERR_RANGE, "JSON nested more than %d levels deep", MAX_DEPTH);
    switch (json_typeof(j)) {
    case JSON_OBJECT: return put_object(s, j, indent, depth);
    case JSON_ARRAY: return put_array(s, j, indent, depth);
    case JSON_STRING: return put_string(s, json_string_value(j), json_string_length(j));
    case JSON_INTEGER: return fct_str_printf(s, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
    case JSON_REAL: return put_real(s, json_real_value(j));
    case JSON_TRUE: return fct_str_append(s, "true");
    case JSON_FALSE: return fct_str_append(s, "false");
    default: return fct_str_append(s, "null");
    }
}

fct_status fct_json_text(fct_str *out, const json_t *j, int indent)
{
    if (!j) return fct_fail(FCT_ERR_MEMORY, "out of memory while building JSON");
    return put_value(out, j, indent, 0);
}

fct_status fct_json_write(const json_t *j, const char *path)
{
    fct_str s = {0};
    fct_status st = fct_json_text(&s, j, 2);
    if (st == FCT_OK) st = fct_str_append(&s, "\n");
    if (st == FCT_OK) st = fct_file_write(path, s.p, s.n);
    fct_str_clear(&s);
    return st;
}

/* ---- typed getters ---- */

static const char *type_name(const json_t *v)
{
    static const char *const name[] = {"an object", "a list", "a text", "a whole number",
                                       "a number",  "true",   "false",  "null"};
    return name[json_typeof(v)];
}

static fct_status wrong(const json_t *v, const char *key, const char *want, const char *where)
{
    return fct_fail(FCT_ERR_FORMAT, "%s: %s: want %s, found %s", where, key, want, type_name(v));
}

/* NULL for absent and null alike. */
static const json_t *get(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

fct_status fct_json_i64(int64_t *out, const json_t *o, const char *key, int64_t fallback,
                        const char *where)
{
    const json_t *v = get(o, key);
    *out = fallback;
    if (!v) return FCT_OK;
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return FCT_OK;
    }
    double d = json_is_real(v) ? json_real_value(v) : 0.5;
    if (d != floor(d) || fabs(d) > 9007199254740992.0)
        return wrong(v, key, "a whole number", where);
    *out = (int64_t)d; /* 512.0: Python writes such */
    return FCT_OK;
}

fct_status fct_json_f64(double *out, const json_t *o, const char *key, double fallback,
                        const char *where)
{
    const json_t *v = get(o, key);
    *out = fallback;
    if (!v) return FCT_OK;
    if (!json_is_number(v)) return wrong(v, key, "a number", where);
    *out = json_number_value(v);
    return FCT_OK;
}

fct_status fct_json_bool(bool *out, const json_t *o, const char *key, bool fallback,
                         const char *where)
{
    const json_t *v = get(o, key);
    *out = fallback;
    if (!v) return FCT_OK;
    if (!json_is_boolean(v)) return wrong(v, key, "true or false", where);
    *out = json_is_true(v);
    return FCT_OK;
}

fct_status fct_json_str(const char **out, const json_t *o, const char *key, const char *fallback,
                        const char *where)
{
    const json_t *v = get(o, key);
    *out = fallback;
    if (!v) return FCT_OK;
    if (!json_is_string(v)) return wrong(v, key, "a text", where);
    *out = json_string_value(v);
    return FCT_OK;
}

fct_status fct_json_only(const json_t *j, const char *const *names, int64_t n, const char *where)
{
    json_t *o;
    memcpy(&o, &j, sizeof o); /* iteration takes a non-const object and changes nothing */
    if (!json_is_object(j)) return fct_fail(FCT_ERR_FORMAT, "%s: want an object {...}", where);
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        if (fct_name_find(names, (int)n, key) >= 0) continue;
        fct_str list = {0};
        fct_status st = FCT_OK;
        for (int64_t i = 0; i < n && st == FCT_OK; i++)
            st = fct_str_printf(&list, "%s%s", i ? ", " : "", names[i]);
        if (st == FCT_OK)
            st = fct_fail(FCT_ERR_FORMAT, "%s: unknown key \"%s\"; known are %s", where, key,
                          list.p);
        fct_str_clear(&list);
        return st;
    }
    return FCT_OK;
}

fct_status fct_json_put(json_t *o, const char *key, json_t *value)
{
    if (!value)
        return fct_fail(FCT_ERR_MEMORY, "out of memory, or text that is not UTF-8, under \"%s\"",
                        key);
    if (json_object_set_new(o, key, value) != 0)
        return fct_fail(FCT_ERR_MEMORY, "out of memory while building JSON");
    return FCT_OK;
}

fct_status fct_json_dup(char **out, const json_t *o, const char *key, const char *where)
{
    const char *text;
    *out = NULL;
    FCT_TRY(fct_json_str(&text, o, key, NULL, where));
    return fct_strdup(out, text);
}

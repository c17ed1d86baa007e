/* str.c - grows text, matches patterns, and reads numbers from text. Numbers are read whole or not
   at all, and without regard to the locale: a recipe written in Berlin must mean the same in
   Boston. */
#include "base/base.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static fct_status reserve(fct_str *s, int64_t more)
{
    int64_t want;
    FCT_TRY(fct_add_i64(&want, s->n, more));
    FCT_TRY(fct_add_i64(&want, want, 1));
    if (want <= s->cap) return FCT_OK;
    int64_t cap = s->cap < 64 ? 64 : s->cap;
    while (cap < want) cap = cap > INT64_MAX / 2 ? want : cap * 2;
    FCT_TRY(fct_grow(&s->p, s->cap, cap, 1));
    s->cap = cap;
    return FCT_OK;
}

fct_status fct_str_append_n(fct_str *s, const char *text, int64_t n)
{
    if (n < 0) return fct_fail(FCT_ERR_ARG, "a text cannot have %" PRId64 " bytes", n);
    FCT_TRY(reserve(s, n));
    if (n > 0) memcpy(s->p + s->n, text, (size_t)n);
    s->n += n;
    s->p[s->n] = '\0';
    return FCT_OK;
}

fct_status fct_str_append(fct_str *s, const char *text)
{
    return fct_str_append_n(s, text, (int64_t)strlen(text));
}

static fct_status append_v(fct_str *s, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) return fct_fail(FCT_ERR_ARG, "the text for \"%s\" cannot be formatted", fmt);
    FCT_TRY(reserve(s, n));
    vsnprintf(s->p + s->n, (size_t)n + 1, fmt, ap);
    s->n += n;
    return FCT_OK;
}

fct_status fct_str_printf(fct_str *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fct_status st = append_v(s, fmt, ap);
    va_end(ap);
    return st;
}

void fct_str_clear(fct_str *s)
{
    fct_free(s->p);
    *s = (fct_str){0};
}

fct_status fct_strdup(char **out, const char *text)
{
    *out = NULL;
    if (!text) return FCT_OK;
    size_t n = strlen(text) + 1;
    FCT_TRY(fct_new_raw(out, (int64_t)n, 1));
    memcpy(*out, text, n);
    return FCT_OK;
}

fct_status fct_format(char **out, const char *fmt, ...)
{
    fct_str s = {0};
    va_list ap;
    *out = NULL;
    va_start(ap, fmt);
    fct_status st = append_v(&s, fmt, ap);
    va_end(ap);
    if (st == FCT_OK)
        *out = s.p;
    else
        fct_str_clear(&s);
    return st;
}

/* RFC 3629's table: how many bytes follow a first one, and between which bounds the second lies. */
bool fct_utf8_valid(const char *text, int64_t n)
{
    static const struct {
        uint8_t first, last, more, lo, hi;
    } lead[] = {
        {0x00, 0x7F, 0, 0, 0},       {0xC2, 0xDF, 1, 0x80, 0xBF}, {0xE0, 0xE0, 2, 0xA0, 0xBF},
        {0xE1, 0xEC, 2, 0x80, 0xBF}, {0xED, 0xED, 2, 0x80, 0x9F}, {0xEE, 0xEF, 2, 0x80, 0xBF},
        {0xF0, 0xF0, 3, 0x90, 0xBF}, {0xF1, 0xF3, 3, 0x80, 0xBF}, {0xF4, 0xF4, 3, 0x80, 0x8F}};
    const uint8_t *p = (const uint8_t *)text;
    for (int64_t i = 0; i < n;) {
        size_t k = 0;
        while (k < FCT_COUNT(lead) && (p[i] < lead[k].first || p[i] > lead[k].last)) k++;
        if (k == FCT_COUNT(lead) || lead[k].more > n - i - 1) return false;
        if (lead[k].more > 0 && (p[i + 1] < lead[k].lo || p[i + 1] > lead[k].hi)) return false;
        for (int j = 2; j <= lead[k].more; j++)
            if ((p[i + j] & 0xC0) != 0x80) return false;
        i += 1 + lead[k].more;
    }
    return true;
}

/* One character of UTF-8, so that `?` matches an umlaut whole. */
static const char *next_char(const char *p)
{
    p++;
    while (((unsigned char)*p & 0xC0) == 0x80) p++;
    return p;
}

bool fct_glob_match(const char *pattern, const char *text)
{
    const char *star = NULL, *resume = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = text;
        } else if (*pattern == '?') {
            pattern++;
            text = next_char(text);
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star) { /* let the last star take one character more */
            pattern = star;
            text = resume = next_char(resume);
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == '\0';
}

fct_status fct_parse_i64(int64_t *out, const char *text, int64_t lo, int64_t hi)
{
    char *end = NULL;
    *out = 0;
    const char *digits = text + (*text == '-' || *text == '+');
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0')
        return fct_fail(FCT_ERR_ARG, "\"%s\" is not a whole number", text);
    if (errno == ERANGE || v < lo || v > hi)
        return fct_fail(FCT_ERR_RANGE, "%s is not between %" PRId64 " and %" PRId64, text, lo, hi);
    *out = v;
    return FCT_OK;
}

fct_status fct_parse_f64(double *out, const char *text, double lo, double hi)
{
    char *end = NULL;
    *out = 0;
    /* strtod would also take "nan", "inf", hexadecimal and leading space. */
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return fct_fail(FCT_ERR_ARG, "\"%s\" is not a number", text);
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!c) return fct_fail(FCT_ERR_MEMORY, "out of memory");
    double v = strtod_l(text, &end, c);
    freelocale(c);
    if (end == text || *end != '\0') return fct_fail(FCT_ERR_ARG, "\"%s\" is not a number", text);
    if (!(v >= lo && v <= hi))
        return fct_fail(FCT_ERR_RANGE, "%s is not between %g and %g", text, lo, hi);
    *out = v;
    return FCT_OK;
}

bool fct_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool fct_has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcasecmp(name + n - m, suffix) == 0;
}

bool fct_is_utf8(const char *text)
{
    return fct_utf8_valid(text, (int64_t)strlen(text));
}

int fct_name_find(const char *const *names, int n, const char *text)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], text) == 0) return i;
    return -1;
}

/* ---- the nearest word: edit distance with swaps of neighbours ---- */

enum { LONGEST = 40 };

static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), d[LONGEST + 1][LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            bool swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swap && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *fct_nearest_word(const char *word, const char *const *words, int64_t n)
{
    const char *nearest = NULL;
    int best = LONGEST;
    for (int64_t i = 0; i < n; i++) {
        int d = distance(word, words[i]);
        bool begins = strlen(word) >= 3 && strncmp(words[i], word, strlen(word)) == 0;
        if (begins) d = 1;
        if (d < best && d <= (int)(strlen(word) + 1) / 3) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}

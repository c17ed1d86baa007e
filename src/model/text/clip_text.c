/* clip_text.c - cleans a prompt and cuts it at white space, exactly as transformers' slow
   CLIPTokenizer does it without ftfy: control characters dropped, spaces around CJK ideographs,
   NFC, lower case by Unicode's full rules.

   Lower case is Python's str.lower(): one character may become two (U+0130), and a capital sigma at
   the end of a word becomes the final form. Which characters have a case comes from PCRE2's Unicode
   tables, the rest from utf8proc. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

#include "model/text/text.h"

enum {
    REPLACEMENT = 0xfffd,
    CAPITAL_SIGMA = 0x3a3,
    SIGMA = 0x3c3,
    FINAL_SIGMA = 0x3c2,
    CAPITAL_I_DOT = 0x130,
    COMBINING_DOT = 0x307
};

static const int32_t cjk[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df},
                                 {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b820, 0x2ceaf},
                                 {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};

static bool is_cjk(int32_t c)
{
    for (size_t i = 0; i < FCT_COUNT(cjk); i++)
        if (c >= cjk[i][0] && c <= cjk[i][1]) return true;
    return false;
}

/* Next character; broken bytes read as U+FFFD, one at a time. */
static int64_t next_char(const char *text, int64_t n, int32_t *out)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)text, n, &c);
    if (k <= 0) {
        *out = REPLACEMENT;
        return 1;
    }
    *out = c;
    return k;
}

static fct_status put_char(fct_str *s, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    return fct_str_append_n(s, (const char *)bytes, n);
}

/* Categories C*: control, format, surrogate, private, unassigned. */
static bool is_control(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r') return false;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_CN || k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_CS || k == UTF8PROC_CATEGORY_CO;
}

static bool is_space(int32_t c)
{
    if (c == ' ' || (c >= '\t' && c <= '\r')) return true;
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

static fct_status drop_and_space(fct_str *out, const char *text, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int32_t c;
        i += next_char(text + i, n - i, &c);
        if (c == 0 || c == REPLACEMENT || is_control(c)) continue;
        if (is_cjk(c)) FCT_TRY(fct_str_append(out, " "));
        FCT_TRY(put_char(out, c));
        if (is_cjk(c)) FCT_TRY(fct_str_append(out, " "));
    }
    return FCT_OK;
}

/* Into code points, composed, and back; in memory of our own, so that a failed allocation is
   reported like any other. */
static fct_status to_nfc(fct_str *out, const fct_str *text)
{
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text->p;
    utf8proc_int32_t *code = NULL;
    if (text->n == 0) return FCT_OK;
    utf8proc_ssize_t n = utf8proc_decompose(bytes, text->n, NULL, 0, how);
    if (n >= 0) FCT_TRY(fct_new_raw(&code, n + 1, sizeof *code));
    if (n >= 0) n = utf8proc_decompose(bytes, text->n, code, n, how);
    if (n >= 0) n = utf8proc_normalize_utf32(code, n, how);
    fct_status st = n < 0 ? fct_fail(FCT_ERR_FORMAT, "text: %s", utf8proc_errmsg(n)) : FCT_OK;
    for (utf8proc_ssize_t i = 0; i < n && st == FCT_OK; i++) st = put_char(out, code[i]);
    fct_free(code);
    return st;
}

/* ---- lower case ---- */

typedef struct cases {
    pcre2_code *cased, *ignorable;
    pcre2_match_data *match;
} cases;

static fct_status cases_init(cases *k)
{
    int code;
    PCRE2_SIZE at;
    *k = (cases){0};
    k->cased = pcre2_compile((PCRE2_SPTR) "^\\p{Cased}", PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    k->ignorable = pcre2_compile((PCRE2_SPTR) "^\\p{CI}", PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    k->match = pcre2_match_data_create(4, NULL);
    if (k->cased && k->ignorable && k->match) return FCT_OK;
    return fct_fail(FCT_ERR_INTERNAL,
                    "PCRE2 does not know the property Cased (10.40 or newer is needed)");
}

static void cases_clear(cases *k)
{
    pcre2_code_free(k->cased);
    pcre2_code_free(k->ignorable);
    pcre2_match_data_free(k->match);
}

static bool has(const cases *k, const pcre2_code *property, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    return pcre2_match(property, bytes, (PCRE2_SIZE)n, 0, PCRE2_NO_UTF_CHECK, k->match, NULL) > 0;
}

/* Python's rule: something cased before, nothing cased after,
   looking through what is case-ignorable. */
static fct_status is_final_sigma(bool *out, const int32_t *w, int64_t n, int64_t i)
{
    cases k;
    fct_status st = cases_init(&k);
    *out = false;
    if (st == FCT_OK) {
        int64_t a = i - 1, b = i + 1;
        while (a >= 0 && has(&k, k.ignorable, w[a])) a--;
        while (b < n && has(&k, k.ignorable, w[b])) b++;
        *out = a >= 0 && has(&k, k.cased, w[a]) && (b == n || !has(&k, k.cased, w[b]));
    }
    cases_clear(&k);
    return st;
}

static fct_status put_lower(fct_str *out, const int32_t *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (w[i] == CAPITAL_I_DOT) {
            FCT_TRY(put_char(out, 'i'));
            FCT_TRY(put_char(out, COMBINING_DOT));
        } else if (w[i] == CAPITAL_SIGMA) {
            bool final = false;
            FCT_TRY(is_final_sigma(&final, w, n, i));
            FCT_TRY(put_char(out, final ? FINAL_SIGMA : SIGMA));
        } else {
            FCT_TRY(put_char(out, utf8proc_tolower(w[i])));
        }
    }
    return FCT_OK;
}

/* Words in lower case, one space between. */
static fct_status put_words(fct_str *out, const char *text, int64_t n)
{
    int32_t *w = NULL;
    int64_t len = 0;
    bool first = true;
    FCT_TRY(fct_new_raw(&w, n + 1, sizeof *w));
    fct_status st = FCT_OK;
    for (int64_t i = 0; i <= n && st == FCT_OK;) {
        int32_t c = ' ';
        i += i < n ? next_char(text + i, n - i, &c) : 1;
        if (!is_space(c)) {
            w[len++] = c;
            continue;
        }
        if (len == 0) continue;
        if (!first) st = fct_str_append(out, " ");
        if (st == FCT_OK) st = put_lower(out, w, len);
        first = false;
        len = 0;
    }
    fct_free(w);
    return st;
}

fct_status fct_text_clean(fct_str *out, const char *text, int64_t n)
{
    fct_str kept = {0}, nfc = {0};
    fct_status st = drop_and_space(&kept, text, n);
    if (st == FCT_OK) st = to_nfc(&nfc, &kept);
    if (st == FCT_OK) st = put_words(out, nfc.p ? nfc.p : "", nfc.n);
    fct_str_clear(&kept);
    fct_str_clear(&nfc);
    return st;
}

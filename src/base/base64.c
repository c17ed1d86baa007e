/* base64.c - writes bytes as text and reads them back (RFC 4648, with padding): how pictures travel
   inside JSON and HTML. */
#include <string.h>

#include "base/base.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fct_status fct_base64_append(fct_str *out, const void *data, int64_t n)
{
    const uint8_t *p = data;
    for (int64_t i = 0; i < n; i += 3) {
        int64_t have = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16;
        if (have > 1) v |= (uint32_t)p[i + 1] << 8;
        if (have > 2) v |= p[i + 2];
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63]};
        for (int64_t k = have + 1; k < 4; k++) four[k] = '=';
        FCT_TRY(fct_str_append_n(out, four, 4));
    }
    return FCT_OK;
}

static int value_of(char c)
{
    const char *p = c ? strchr(digits, c) : NULL;
    return p ? (int)(p - digits) : -1;
}

fct_status fct_base64_parse(fct_str *out, const char *text)
{
    size_t n = strlen(text);
    if (n % 4 != 0)
        return fct_fail(FCT_ERR_FORMAT, "base64 text has %zu characters, which is no multiple of 4",
                        n);
    for (size_t i = 0; i < n; i += 4) {
        bool last = i + 4 == n;
        int pad = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t v = 0;
        for (int k = 0; k < 4 - pad; k++) {
            int d = value_of(text[i + (size_t)k]);
            if (d < 0)
                return fct_fail(FCT_ERR_FORMAT, "base64 text: character %zu is not one of its 64",
                                i + (size_t)k + 1);
            v |= (uint32_t)d << (18 - 6 * k);
        }
        char three[3] = {(char)(v >> 16), (char)(v >> 8 & 255), (char)(v & 255)};
        FCT_TRY(fct_str_append_n(out, three, 3 - pad));
    }
    return FCT_OK;
}

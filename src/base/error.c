/* error.c - keeps the sentence that explains the last failure, one for each thread. A fixed buffer,
   so reporting that memory has run out needs no memory. */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_SIZE = 4096 };

static _Thread_local char error_text[TEXT_SIZE];

#define STATUS_TEXT(name, text) text,
static const char *const status_text[] = {FCT_STATUS_LIST(STATUS_TEXT)};
#undef STATUS_TEXT

const char *fct_status_name(fct_status st)
{
    return (unsigned)st < FCT_STATUS_COUNT ? status_text[st] : "unknown status";
}

const char *fct_error_text(void)
{
    return error_text;
}

const char *fct_version(void)
{
    return FCT_VERSION;
}

/* A cut text must not end inside a UTF-8 sequence:
   paths and prompts go in here, and terminals and JSON get it. */
static void trim_cut(char *text, int wanted)
{
    if (wanted < TEXT_SIZE) return;
    size_t n = strlen(text), back = 0;
    while (back < 3 && n > back && ((unsigned char)text[n - 1 - back] & 0xC0) == 0x80) back++;
    if (n > back && (unsigned char)text[n - 1 - back] >= 0xC0) text[n - 1 - back] = '\0';
}

void fct_error_clear(void)
{
    error_text[0] = '\0';
}

fct_status(fct_fail)(fct_status st, const char *fmt, ...)
{
    /* Formatted apart, since an argument may be fct_error_text() itself. */
    char text[TEXT_SIZE];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    trim_cut(text, n);
    memcpy(error_text, text, sizeof error_text);
    return st;
}

fct_status fct_error_set(fct_status st, const char *text)
{
    return fct_fail(st, "%s", text ? text : "");
}

fct_status fct_where(fct_status st, const char *fmt, ...)
{
    if (st == FCT_OK) return st;
    char where[TEXT_SIZE / 4], text[TEXT_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(where, sizeof where, fmt, ap);
    va_end(ap);
    int n = snprintf(text, sizeof text, "%s: %s", where, error_text);
    trim_cut(text, n);
    memcpy(error_text, text, sizeof error_text);
    return st;
}

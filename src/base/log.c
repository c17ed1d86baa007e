/* log.c - tells the time, and hands messages, progress and the stop flag between callers and facet,
   which itself never prints. */
#include "base/base.h"

#include <stdio.h>
#include <time.h>

enum { LINE_SIZE = 4096 };

double fct_seconds(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void fct_log_line(const fct_log *log, fct_log_level level, const char *fmt, ...)
{
    if (!log || !log->line) return;
    char text[LINE_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log->line(log->user, level, text);
}

void fct_log_progress(const fct_log *log, const char *what, int64_t done, int64_t total)
{
    if (log && log->progress) log->progress(log->user, what, done, total);
}

void fct_log_detail(const fct_log *log, const char *text)
{
    if (log && log->detail) log->detail(log->user, text);
}

fct_status fct_log_check_stop(const fct_log *log)
{
    if (log && log->stop && FCT_READ_FLAG(log->stop))
        return fct_fail(FCT_ERR_STOPPED, "stopped on request");
    return FCT_OK;
}

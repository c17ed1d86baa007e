/* report.c - prints a command's results on stdout, its messages and progress on stderr.

   On a terminal progress is one line that is redrawn, with rate and time left; elsewhere a plain
   line every ten seconds, so that log files stay short. --json collects the result in one object,
   printed at the end: whole, or with `error` in it. */
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/state.h"

static const double REDRAW = 0.1, PLAIN = 10.0; /* seconds between two showings */

static void close_bar(const fct_cli *c)
{
    if (!c->bar->live) return;
    fputs("\r\033[K", stderr);
    c->bar->live = false;
}

/* ---- the log ---- */

static void on_line(void *user, fct_log_level level, const char *text)
{
    const fct_cli *c = user;
    if (c->mute) return;
    if (level == FCT_LOG_DEBUG && !c->verbose) return;
    if (level == FCT_LOG_INFO && c->quiet) return;
    close_bar(c);
    fprintf(stderr, "%s%s\n",
            level == FCT_LOG_WARN    ? "warning: "
            : level == FCT_LOG_ERROR ? "error: "
                                     : "",
            text);
}

static void time_text(char *out, size_t size, double seconds)
{
    int64_t s = (int64_t)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    else
        snprintf(out, size, "%" PRId64 ":%02d", s / 60, (int)(s % 60));
}

static void progress_text(char *out, size_t size, const fct_cli_bar *b, double now, int64_t done,
                          int64_t total)
{
    char left[32];
    double rate = now > b->start ? (double)(done - b->first) / (now - b->start) : 0;
    int n = snprintf(out, size, "%s  %" PRId64 "/%" PRId64 " (%d%%)", b->what, done, total,
                     (int)(100 * done / total));
    if (rate <= 0 || n < 0 || (size_t)n >= size) return;
    time_text(left, sizeof left, (double)(total - done) / rate);
    if (b->detail[0])
        snprintf(out + n, size - (size_t)n, "  %s left  %s", left, b->detail);
    else
        snprintf(out + n, size - (size_t)n, rate >= 10 ? "  %.0f/s  %s left" : "  %.2f/s  %s left",
                 rate, left);
}

static void on_progress(void *user, const char *what, int64_t done, int64_t total)
{
    fct_cli *c = user;
    fct_cli_bar *b = c->bar;
    double now = fct_seconds();
    if (c->quiet || c->mute || total <= 0) return;
    if (strncmp(b->what, what, sizeof b->what - 1) != 0 || done < b->first) {
        snprintf(b->what, sizeof b->what, "%s", what);
        b->start = now;
        b->shown = c->terminal ? 0 : now;
        b->first = done;
    }
    if (done >= total) { /* the command's own lines say what came of it */
        close_bar(c);
        b->what[0] = b->detail[0] = '\0';
        return;
    }
    if (now - b->shown < (c->terminal ? REDRAW : PLAIN)) return;
    char text[256];
    progress_text(text, sizeof text, b, now, done, total);
    b->shown = now;
    if (c->terminal) {
        fprintf(stderr, "\r%s\033[K", text);
        fflush(stderr);
        b->live = true;
    } else {
        fprintf(stderr, "%s\n", text);
    }
}

static void on_detail(void *user, const char *text)
{
    fct_cli_bar *b = ((fct_cli *)user)->bar;
    snprintf(b->detail, sizeof b->detail, "%s", text);
}

void fct_cli_report_init(fct_cli *c, const volatile int *stop)
{
    c->terminal = isatty(STDERR_FILENO) != 0;
    c->log = (fct_log){
        .user = c, .line = on_line, .progress = on_progress, .detail = on_detail, .stop = stop};
}

const fct_log *fct_cli_log(const fct_cli *c)
{
    return &c->log;
}
fct_dist *fct_cli_ranks(fct_cli *c)
{
    return c->ranks;
}
bool fct_cli_json(const fct_cli *c)
{
    return c->json;
}

void fct_cli_note(const fct_cli *c, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    on_line(c->log.user, FCT_LOG_INFO, text);
}

/* ---- results ---- */

void fct_cli_say(fct_cli *c, const char *fmt, ...)
{
    if (c->json || c->mute) return;
    close_bar(c);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

json_t *fct_cli_result(fct_cli *c)
{
    if (!c->result) c->result = json_object();
    return c->result;
}

void fct_cli_put(fct_cli *c, const char *key, json_t *value)
{
    if (json_object_set_new(fct_cli_result(c), key, value) != 0) c->lost = true;
}

static fct_status flush_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return FCT_OK;
    return fct_fail(FCT_ERR_IO, "write standard output: %s", strerror(errno));
}

fct_status fct_cli_print(const fct_str *text)
{
    if (text->n > 0) fwrite(text->p, 1, (size_t)text->n, stdout);
    return flush_stdout();
}

void fct_cli_error(const char *text)
{
    fprintf(stderr, "facet: %s\n", text);
}

static fct_status print_json(fct_cli *c, fct_status st)
{
    fct_str text = {0};
    if (st != FCT_OK) {
        json_object_clear(fct_cli_result(c)); /* half a result is none */
        fct_cli_put(c, "error", json_string(fct_error_text()));
        fct_cli_put(c, "status", json_string(c->usage ? "usage" : fct_status_name(st)));
    }
    fct_status printed = c->lost || !fct_cli_result(c)
                             ? fct_fail(FCT_ERR_MEMORY, "out of memory for the result")
                             : fct_json_text(&text, c->result, 2);
    if (printed == FCT_OK) printed = fct_str_append(&text, "\n");
    if (printed == FCT_OK) printed = fct_cli_print(&text);
    fct_str_clear(&text);
    return printed;
}

fct_status fct_cli_report_end(fct_cli *c, fct_status st)
{
    close_bar(c);
    if (c->mute) return st;
    if (st != FCT_OK)
        fct_cli_error(st == FCT_ERR_STOPPED ? "stopped; nothing is half-written"
                                            : fct_error_text());
    if (st != FCT_OK && c->usage && c->command)
        fprintf(stderr, "try: facet %s --help\n", c->command->name);
    fct_status printed = c->json ? print_json(c, st) : flush_stdout();
    if (st != FCT_OK || printed == FCT_OK) return st;
    fct_cli_error(fct_error_text());
    return printed;
}

/* ---- output places ---- */

static fct_status check_writable(const char *folder, const char *path)
{
    if (access(folder, W_OK | X_OK) == 0) return FCT_OK;
    return fct_fail(FCT_ERR_IO, "write %s: the folder %s: %s", path, folder, strerror(errno));
}

/* The folder that holds `path`, which must be there when a file is to be written. */
static fct_status check_parent(const char *path)
{
    char *copy = NULL;
    FCT_TRY(fct_strdup(&copy, path));
    const char *folder = dirname(copy);
    fct_status st = FCT_OK;
    if (!fct_path_exists(folder))
        st = fct_fail(FCT_ERR_MISSING, "write %s: there is no folder %s", path, folder);
    else if (!fct_path_is_dir(folder))
        st = fct_fail(FCT_ERR_IO, "write %s: %s is no folder", path, folder);
    else
        st = check_writable(folder, path);
    fct_free(copy);
    return st;
}

fct_status fct_cli_check_out(const char *path)
{
    if (strcmp(path, "-") == 0) return FCT_OK;
    if (fct_path_is_dir(path))
        return fct_fail(FCT_ERR_ARG, "write %s: this is a folder, want the name of a file", path);
    if (strncmp(path, "/dev/", 5) == 0) return FCT_OK;
    return check_parent(path);
}

fct_status fct_cli_check_dir(const char *path)
{
    if (fct_path_is_dir(path)) return check_writable(path, path);
    if (fct_path_exists(path))
        return fct_fail(FCT_ERR_ARG, "write %s: this is a file, want a folder", path);
    char *copy = NULL;
    FCT_TRY(fct_strdup(&copy, path));
    char *folder = copy; /* the nearest one that is there; those below it can be made */
    while (!fct_path_exists(folder)) folder = dirname(folder);
    fct_status st = fct_path_is_dir(folder)
                        ? check_writable(folder, path)
                        : fct_fail(FCT_ERR_IO, "make %s: %s is no folder", path, folder);
    fct_free(copy);
    return st;
}

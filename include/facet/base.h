/* facet/base.h - reports failures as statuses with a sentence of text, and logs, tells progress and
   stops: every other facet header builds on it.

   Do this:
       fct_status st = FCT_OK; // of any function of facet
       if (st != FCT_OK) fprintf(stderr, "%s: %s\n", fct_status_name(st), fct_error_text());

   Every fallible function returns an fct_status that must be looked at. The sentence that explains
   the last failure of the calling thread is fct_error_text(); it names the file, field or tensor
   and what would be right. Any function may fail with FCT_ERR_MEMORY. What a function would have
   made (pointers, structs) is empty after its failure, so that what releases it may be called;
   arrays of the caller's may then hold anything.

   What holds in all headers: strings are UTF-8 and end with NUL; counts and sizes are int64_t; an
   array's shape stands beside it, [rows,columns], row after row. Structs that a caller fills begin
   as {0}, which is the default of every field. open/close and new/free make and release objects,
   clear releases what is in a struct of the caller's, fct_free all else. A const object may be read
   on any number of threads at once, where nothing else is said; one that is not const is used by
   one thread at a time. */
#ifndef FACET_BASE_H
#define FACET_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FCT_API __attribute__((visibility("default")))
#define FCT_MUST_CHECK __attribute__((warn_unused_result))

/* X(name, text): one list makes the enum and fct_status_name(). */
#define FCT_STATUS_LIST(X)                                                                   \
    X(FCT_OK, "ok")                                                                          \
    X(FCT_ERR_ARG, "bad argument")          /* the caller asked for something impossible */  \
    X(FCT_ERR_IO, "input or output failed") /* the system refused: errno is in the text */   \
    X(FCT_ERR_FORMAT, "malformed data")     /* a file says what its format forbids */        \
    X(FCT_ERR_SHAPE, "wrong shape")         /* tensor or picture sizes do not fit */         \
    X(FCT_ERR_MISSING, "not found")         /* a file, tensor, block or feature is absent */ \
    X(FCT_ERR_UNSUPPORTED, "unsupported")   /* valid, but facet does not do it */            \
    X(FCT_ERR_MEMORY, "out of memory")                                                       \
    X(FCT_ERR_RANGE, "out of range")      /* NaN, overflow, or a number too large */         \
    X(FCT_ERR_STOPPED, "stopped")         /* the caller's stop flag was raised */            \
    X(FCT_ERR_INTERNAL, "internal error") /* a library facet uses failed unexpectedly */

#define FCT_STATUS_ENUM(name, text) name,
typedef enum fct_status { FCT_STATUS_LIST(FCT_STATUS_ENUM) FCT_STATUS_COUNT } fct_status;
#undef FCT_STATUS_ENUM

/* "wrong shape"; never released. */
FCT_API const char *fct_status_name(fct_status st);
/* Of the calling thread; "" when nothing failed yet. Valid until the thread's next failure. */
FCT_API const char *fct_error_text(void);
/* Of the library that runs: "0.1.0". */
FCT_API const char *fct_version(void);

/* For functions that a program hands in (sources of rows, taps, links): makes `text` the sentence
   of the calling thread's failure and returns st. The text is copied; NULL is "". */
FCT_API fct_status fct_error_set(fct_status st, const char *text);

/* Releases whatever facet hands out as a plain pointer or array (paths, texts, ids, lists); NULL is
   fine. Structs are released by the function named beside them. Any thread. */
FCT_API void fct_free(void *p);

/* In structs of options 0 means the default. FCT_NONE in a number means that there is to be none of
   it: the 0 that is said. Texts and JSON show it as 0. */
enum { FCT_NONE = -1 };

typedef enum fct_log_level {
    FCT_LOG_ERROR,
    FCT_LOG_WARN,
    FCT_LOG_INFO,
    FCT_LOG_DEBUG
} fct_log_level;

/* Where messages and progress go. Each pointer, and the fct_log itself where one is asked for, may
   be NULL: silence. The functions are called on the thread that called facet; texts are valid
   during the call. */
typedef struct fct_log {
    void *user;
    /* One message, without a line's end. */
    void (*line)(void *user, fct_log_level level, const char *text);
    /* done of total units of `what` ("steps", "rows"); done == total ends it. */
    void (*progress)(void *user, const char *what, int64_t done, int64_t total);
    /* What stands beside progress until it is called again: "8,120 rows/s  EV 0.81". */
    void (*detail)(void *user, const char *text);
    /* Non-zero asks long work to end soon with FCT_ERR_STOPPED; may be set by a signal handler, or
       by another thread with an atomic store (facet reads it atomically). */
    const volatile int *stop;
} fct_log;

#ifdef __cplusplus
}
#endif
#endif

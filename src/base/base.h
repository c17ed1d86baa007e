/* base.h - declares what all of facet's own files stand on: errors, memory, arena, strings, files,
   JSON, hash, RNG, time, logging.

   Nothing here knows tensors or models. malloc, free, stdio and errno handling live behind these
   functions, so that faults can be injected in one place. */
#ifndef FCT_BASE_BASE_H
#define FCT_BASE_BASE_H

#include <jansson.h>
#include <stdarg.h>

#include "facet/base.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FCT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define FCT_SANITIZED 1
#endif
#endif
#ifndef FCT_SANITIZED
#define FCT_SANITIZED 0
#endif

/* ---- errors (error.c) ---- */

/* Sets this thread's text and returns st, so that this reads well:

       return fct_fail(FCT_ERR_IO, "open %s: %s", path, strerror(errno)); */
fct_status fct_fail(fct_status st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The status is repeated at the call, so that the compiler sees that a failure is not FCT_OK (else
   it warns of variables that only a success sets). */
static inline fct_status fct_failed(fct_status st)
{
    return st;
}
#define fct_fail(st, ...) ((fct_fail)((st), __VA_ARGS__), fct_failed(st))
/* Forgets the thread's text, before a caller's function is asked that may set none. */
void fct_error_clear(void);
/* Prepends "where: " to the text of a failure that passes through; returns st unchanged (FCT_OK:
   does nothing). */
fct_status fct_where(fct_status st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define FCT_TRY(expr)                                  \
    do {                                               \
        fct_status fct_try_st_ = (expr);               \
        if (fct_try_st_ != FCT_OK) return fct_try_st_; \
    } while (0)
/* The same for functions with one exit: needs `fct_status st` and the label `out`. */
#define FCT_TRY_OUT(expr)           \
    do {                            \
        st = (expr);                \
        if (st != FCT_OK) goto out; \
    } while (0)

#define FCT_COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* A flag that a signal handler or another thread may raise meanwhile. */
#define FCT_READ_FLAG(flag) __atomic_load_n((flag), __ATOMIC_RELAXED)

/* In front of a hot loop: compiled for several instruction sets, the best one is chosen when the
   program starts. The definition alone carries it: with the prototype other files would choose
   among clones that are not theirs, which a shared library cannot link. Callees must be inlined or
   cloned too. Empty where the C library cannot do it, under sanitizers (their start-up does not
   survive ifunc resolvers) and with clang (14 gives the resolvers of static functions global names
   that collide). */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && !FCT_SANITIZED
#if __GNUC__ >= 12
#define FCT_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FCT_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#endif
#ifndef FCT_CLONES
#define FCT_CLONES
#endif

/* ---- checked integers (checked.c) ---- */
/* Both numbers are >= 0. FCT_ERR_RANGE: the result does not fit. */
fct_status fct_mul_i64(int64_t *out, int64_t a, int64_t b) FCT_MUST_CHECK;
fct_status fct_add_i64(int64_t *out, int64_t a, int64_t b) FCT_MUST_CHECK;

/* ---- memory (memory.c): the only place with malloc and free ---- */
/* Takes n elements of `size` bytes, zeroed, 64-byte aligned. out_ptr is the address of any pointer.
   n*size is checked; n == 0 gives a valid pointer. On failure the pointer is NULL. */
fct_status fct_new(void *out_ptr, int64_t n, int64_t size) FCT_MUST_CHECK;
/* The same, not zeroed. */
fct_status fct_new_raw(void *out_ptr, int64_t n, int64_t size) FCT_MUST_CHECK;
/* Grows *inout_ptr from old_n to n elements; the new ones are zeroed.
   On failure the old block stays valid. */
fct_status fct_grow(void *inout_ptr, int64_t old_n, int64_t n, int64_t size) FCT_MUST_CHECK;
/* Memory that is kept from call to call: room for at least n elements. Where *inout_room was less
   the block is taken anew and what it held is lost; on failure it is NULL and the room 0. */
fct_status fct_reserve(void *inout_ptr, int64_t *inout_room, int64_t n,
                       int64_t size) FCT_MUST_CHECK;
/* Fault injection for tests: the nth allocation from now fails (0 = off). Per thread. */
void fct_fault_alloc(int64_t nth);
/* From now on jansson's allocations are counted too. For tests only: it holds for the process. */
void fct_fault_json(void);

/* ---- arena (arena.c): activations of one run ---- */
/* With base == NULL the arena is *dry*: it counts what would be taken and hands out NULL, so that
   running the same code dry gives the exact peak. Blocks are 64-byte aligned. */
typedef struct fct_arena {
    uint8_t *base;
    int64_t size, used, peak;
} fct_arena;
typedef int64_t fct_mark;
fct_status fct_arena_init(fct_arena *a, int64_t bytes) FCT_MUST_CHECK; /* bytes 0: dry */
void fct_arena_clear(fct_arena *a);
/* What it takes is not zeroed. */
fct_status fct_arena_take(fct_arena *a, void *out_ptr, int64_t n, int64_t size) FCT_MUST_CHECK;
fct_mark fct_arena_mark(const fct_arena *a);
void fct_arena_reset(fct_arena *a, fct_mark m);
static inline bool fct_arena_dry(const fct_arena *a)
{
    return a->base == NULL;
}

/* ---- strings (str.c) ---- */
/* Zero-initialised it is empty. `p` is NUL-terminated, or NULL when nothing was added. */
typedef struct fct_str {
    char *p;
    int64_t n, cap;
} fct_str;
fct_status fct_str_append(fct_str *s, const char *text) FCT_MUST_CHECK;
fct_status fct_str_append_n(fct_str *s, const char *text, int64_t n) FCT_MUST_CHECK;
fct_status fct_str_printf(fct_str *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))) FCT_MUST_CHECK;
void fct_str_clear(fct_str *s);
bool fct_utf8_valid(const char *text, int64_t n); /* shortest forms, no surrogates */
bool fct_ends_with(const char *text, const char *end);
/* Of a file's name: capitals are as good (".PNG"), and something stands before it. */
bool fct_has_suffix(const char *name, const char *suffix);
bool fct_is_utf8(const char *text); /* the whole string */
/* NULL stays NULL. Release with fct_free. */
fct_status fct_strdup(char **out, const char *text) FCT_MUST_CHECK;
fct_status fct_format(char **out, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))) FCT_MUST_CHECK;
bool fct_glob_match(const char *pattern, const char *text); /* `*` any run, `?` one character */
/* The place of text in a table of words; -1: not there. */
int fct_name_find(const char *const *names, int n, const char *text);
/* The whole text must be one number from lo to hi. */
fct_status fct_parse_i64(int64_t *out, const char *text, int64_t lo, int64_t hi) FCT_MUST_CHECK;
/* The same, whatever the locale; NaN is refused. */
fct_status fct_parse_f64(double *out, const char *text, double lo, double hi) FCT_MUST_CHECK;

/* ---- files (file.c) ---- */
typedef struct fct_file { /* a whole file mapped read-only; empty files have data == NULL, size 0 */
    const uint8_t *data;
    int64_t size;
} fct_file;
fct_status fct_file_map(fct_file *out, const char *path) FCT_MUST_CHECK;
void fct_file_unmap(fct_file *f);
/* A hint for mapped bytes [data, data + n): read them ahead without waiting, or let go of the pages
   (they are read again when touched). What the system thinks of it is not an error. */
typedef enum fct_page_hint { FCT_PAGES_WANTED, FCT_PAGES_DONE } fct_page_hint;
void fct_pages_hint(const void *data, int64_t n, fct_page_hint hint);
/* Reads a whole file and adds a NUL; "-" is stdin. */
fct_status fct_file_read(char **out_text, int64_t *out_n, const char *path) FCT_MUST_CHECK;

/* Atomic output: bytes go to a temporary file in the same folder; commit flushes, syncs and
   renames; clear without commit removes it. So a file is either whole or not there. "-" writes to
   stdout. */
typedef struct fct_out {
    int fd;
    char *path, *temp;
    uint8_t *buffer;
    int64_t fill, written;
    bool open;
} fct_out;
fct_status fct_out_open(fct_out *o, const char *path) FCT_MUST_CHECK;
/* A failure ("no space left") names the file. */
fct_status fct_out_write(fct_out *o, const void *data, int64_t n) FCT_MUST_CHECK;
fct_status fct_out_commit(fct_out *o) FCT_MUST_CHECK;
void fct_out_clear(fct_out *o);
/* Opens, writes and commits. */
fct_status fct_file_write(const char *path, const void *data, int64_t n) FCT_MUST_CHECK;

fct_status fct_path_join(char **out, const char *a, const char *b) FCT_MUST_CHECK;
const char *fct_path_base(const char *path); /* the part after the last '/' */
/* path as it is when absolute or folder is NULL, else inside folder. */
fct_status fct_path_in(char **out, const char *folder, const char *path) FCT_MUST_CHECK;
/* The part before the last '/', "." without one. */
fct_status fct_path_folder(char **out, const char *path) FCT_MUST_CHECK;
/* From the root, without links and "..". What is not there yet: by its folder; else as given. */
fct_status fct_path_absolute(char **out, const char *path) FCT_MUST_CHECK;
bool fct_path_same(const char *a, const char *b); /* both name one place, there or not */
fct_status fct_file_size(int64_t *out, const char *path) FCT_MUST_CHECK; /* bytes */
bool fct_path_exists(const char *path);
bool fct_dir_has(const char *dir, const char *name); /* a file or folder of that name */
bool fct_path_is_dir(const char *path);
fct_status fct_dir_make(const char *path) FCT_MUST_CHECK; /* with parents; fine when it is there */
/* The names in a folder, sorted, without "." and "..". */
fct_status fct_dir_list(char ***out_names, int64_t *out_n, const char *path) FCT_MUST_CHECK;
void fct_names_free(char **names, int64_t n);
fct_status fct_file_remove(const char *path) FCT_MUST_CHECK; /* fine when it is not there */
/* Fault injection for tests: the nth write from now fails with ENOSPC (0 = off). Per thread. */
void fct_fault_write(int64_t nth);
fct_status fct_program_dir(char **out) FCT_MUST_CHECK; /* folder of the running executable */

/* ---- JSON on jansson (json.c) ---- */
/* An error names file:line:column. Release with json_decref. */
fct_status fct_json_read(json_t **out, const char *path) FCT_MUST_CHECK;
fct_status fct_json_parse(json_t **out, const char *text, int64_t n,
                          const char *name) FCT_MUST_CHECK;
/* Indents by 2 spaces, keeps the order of keys and ends with a newline. */
fct_status fct_json_write(const json_t *j, const char *path) FCT_MUST_CHECK;
/* The text of any value, with the shortest digits that read back to the same number (0.1, not
   0.10000000000000001). indent 0: one line. Use this instead of json_dumps, so that every JSON that
   facet writes looks the same. */
fct_status fct_json_text(fct_str *out, const json_t *j, int indent) FCT_MUST_CHECK;
/* Typed getters: `where` names the object in errors ("unet/config.json"). Absent or null key: *out
   = fallback. A value of another type is an error that names where and key. */
fct_status fct_json_i64(int64_t *out, const json_t *o, const char *key, int64_t fallback,
                        const char *where) FCT_MUST_CHECK;
fct_status fct_json_f64(double *out, const json_t *o, const char *key, double fallback,
                        const char *where) FCT_MUST_CHECK;
fct_status fct_json_bool(bool *out, const json_t *o, const char *key, bool fallback,
                         const char *where) FCT_MUST_CHECK;
fct_status fct_json_str(const char **out, const json_t *o, const char *key, const char *fallback,
                        const char *where) FCT_MUST_CHECK;

/* Every key of object j is among names; else an error that names it and lists what is known. */
fct_status fct_json_only(const json_t *j, const char *const *names, int64_t n,
                         const char *where) FCT_MUST_CHECK;
/* key: value, where value is a new reference that this takes over (NULL: memory ran out). */
fct_status fct_json_put(json_t *o, const char *key, json_t *value) FCT_MUST_CHECK;
/* A copy of the text under key, or NULL. */
fct_status fct_json_dup(char **out, const json_t *o, const char *key,
                        const char *where) FCT_MUST_CHECK;

/* ---- base64 (base64.c), RFC 4648 with padding ---- */
fct_status fct_base64_append(fct_str *out, const void *data, int64_t n) FCT_MUST_CHECK;
fct_status fct_base64_parse(fct_str *out, const char *text) FCT_MUST_CHECK;

/* ---- hash (hash.c) ---- */
typedef struct fct_sha256 {
    uint32_t h[8];
    uint64_t n;
    uint8_t block[64];
} fct_sha256;
void fct_sha256_init(fct_sha256 *s);
void fct_sha256_add(fct_sha256 *s, const void *data, int64_t n);
void fct_sha256_hex(fct_sha256 *s, char out[65]);

/* The one of `words` that `word` was meant to be (str.c): few slips apart, or begun with it; NULL
   when none is near. */
const char *fct_nearest_word(const char *word, const char *const *words, int64_t n);

/* ---- names of blocks (block_name.c) ---- */
/* "unet.down_blocks.2.attentions.1" -> "down.2.1" and back, by the rule of diffusers' names alone;
   other names are copied. Release with fct_free. */
fct_status fct_block_name_short(char **out, const char *name) FCT_MUST_CHECK;
fct_status fct_block_name_full(char **out, const char *name) FCT_MUST_CHECK;

/* ---- checksum (crc.c): CRC-32C of what was added since init ---- */
typedef struct fct_crc32c {
    uint32_t value; /* set to 0 to begin anew */
    uint32_t table[8][256];
} fct_crc32c;
void fct_crc32c_init(fct_crc32c *c);
void fct_crc32c_add(fct_crc32c *c, const void *data, int64_t n);

/* ---- random numbers (rng.c): torch's CPU generator, formats of the field: MT19937 ---- */
typedef struct fct_rng {
    uint32_t mt[624];
    int32_t at;
    bool has_next; /* the cached second normal of the scalar path */
    double next;
} fct_rng;
/* Of the seed the low 32 bits count, as in torch.Generator("cpu").manual_seed. */
void fct_rng_init(fct_rng *r, uint64_t seed);
uint32_t fct_rng_u32(fct_rng *r);
uint64_t fct_rng_u64(fct_rng *r); /* two words, first one high */
/* Gives what torch.randn(n, generator=r) gives, in f32. */
void fct_rng_normal(fct_rng *r, float *out, int64_t n);
/* Uniform in [0, n), n >= 1, unbiased. This one is facet's own, not torch's. */
int64_t fct_rng_below(fct_rng *r, int64_t n);
double fct_rng_unit(fct_rng *r); /* uniform in [0, 1), 53 bits; facet's own */

/* ---- threads (threads.c): OpenMP's, or one where facet is built without it ---- */
int fct_threads(void);       /* how many a parallel region will have; never 0 */
int fct_thread_index(void);  /* inside a parallel region: 0 .. fct_threads()-1 */
void fct_threads_set(int n); /* n <= 0: as many as the machine has */
/* Of failures on several threads, whose sentences are each thread's own, the one of the job with
   the lowest number. Starts as zero. */
typedef struct fct_failure {
    fct_status st;
    int64_t number; /* of the job, from 1 */
    char text[4096];
} fct_failure;
void fct_failure_keep(fct_failure *f, fct_status st, int64_t job); /* job: from 0 */
fct_status fct_failure_status(const fct_failure *f) FCT_MUST_CHECK;
/* Jobs 0 .. n-1, in any order, on `workers` threads: what a job uses must be its worker's own (0 ..
   workers-1) or only read. Meanwhile facet computes each with one thread (inside a job
   fct_threads() is 1). When one fails those after it no longer start; the first failure by number
   is the caller's. Progress is told by the calling thread. */
typedef struct fct_share_desc {
    int64_t n;
    int workers; /* at most fct_threads() */
    fct_status (*job)(void *self, int worker, int64_t i);
    void *self;
    const fct_log *log;
    const char *what;
} fct_share_desc;
fct_status fct_share(const fct_share_desc *d) FCT_MUST_CHECK;

/* ---- time and log (log.c) ---- */
double fct_seconds(void); /* monotonic */
void fct_log_line(const fct_log *log, fct_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void fct_log_progress(const fct_log *log, const char *what, int64_t done, int64_t total);
void fct_log_detail(const fct_log *log, const char *text);
/* FCT_ERR_STOPPED: the stop flag is up. */
fct_status fct_log_check_stop(const fct_log *log) FCT_MUST_CHECK;

/* ---- messages of facet's own threads (relay.c) ---- */
typedef struct fct_relay fct_relay;
fct_status fct_relay_open(fct_relay **out, const fct_log *to) FCT_MUST_CHECK; /* to may be NULL */
/* For the other thread: the same stop flag, lines that wait, no progress. */
const fct_log *fct_relay_log(const fct_relay *r);
/* Passes on what waits; on the thread that the log `to` belongs to, as is closing. */
void fct_relay_tell(fct_relay *r);
void fct_relay_close(fct_relay *r);

#endif

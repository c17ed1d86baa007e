/* file.c - reads files and folders, and answers questions about paths. Files are mapped, not read,
   wherever their size can be large; every refusal names the path and what the system said. Writing
   is out.c. */
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static fct_status fail_path(const char *doing, const char *path)
{
    fct_status st = errno == ENOENT || errno == ENOTDIR ? FCT_ERR_MISSING : FCT_ERR_IO;
    return fct_fail(st, "%s %s: %s", doing, path, strerror(errno));
}

fct_status fct_file_map(fct_file *out, const char *path)
{
    fct_status st = FCT_OK;
    struct stat info;
    *out = (fct_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_path("open", path);
    if (fstat(fd, &info) != 0) {
        st = fail_path("open", path);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        st = fct_fail(FCT_ERR_ARG, "open %s: want a file, this is %s", path,
                      S_ISDIR(info.st_mode) ? "a folder" : "a pipe or device");
        goto out;
    }
    if (info.st_size == 0) goto out;
    void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        st = fct_fail(errno == ENOMEM ? FCT_ERR_MEMORY : FCT_ERR_IO, "map %s: %s", path,
                      strerror(errno));
        goto out;
    }
    out->data = p;
    out->size = info.st_size;
out:
    close(fd);
    return st;
}

void fct_file_unmap(fct_file *f)
{
    void *p;
    memcpy(&p, &f->data, sizeof p); /* munmap takes what mmap gave, without const */
    if (p) munmap(p, (size_t)f->size);
    *f = (fct_file){0};
}

void fct_pages_hint(const void *data, int64_t n, fct_page_hint hint)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t lo = (uintptr_t)data, hi = lo + (uintptr_t)n;
    lo = hint == FCT_PAGES_WANTED ? lo / page * page : (lo + page - 1) / page * page;
    if (hint == FCT_PAGES_DONE) hi = hi / page * page; /* pages that others share stay */
    if (n > 0 && hi > lo)
        (void)madvise((void *)lo, (size_t)(hi - lo),
                      hint == FCT_PAGES_WANTED ? MADV_WILLNEED : MADV_DONTNEED);
}

fct_status fct_file_read(char **out_text, int64_t *out_n, const char *path)
{
    fct_status st = FCT_OK;
    fct_str s = {0};
    char *chunk = NULL;
    enum { CHUNK = 1 << 16 };
    bool standard = strcmp(path, "-") == 0;
    *out_text = NULL;
    if (out_n) *out_n = 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_path("open", path);
    FCT_TRY_OUT(fct_new_raw(&chunk, CHUNK, 1));
    for (;;) {
        ssize_t got = read(fd, chunk, CHUNK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            st = fail_path("read", standard ? "standard input" : path);
            goto out;
        }
        FCT_TRY_OUT(fct_str_append_n(&s, chunk, got)); /* also when empty: the NUL is promised */
        if (got == 0) break;
    }
    *out_text = s.p;
    if (out_n) *out_n = s.n;
    s = (fct_str){0};
out:
    fct_str_clear(&s);
    fct_free(chunk);
    if (!standard) close(fd);
    return st;
}

/* ---- paths and folders ---- */

fct_status fct_path_join(char **out, const char *a, const char *b)
{
    size_t n = strlen(a);
    if (n == 0 || b[0] == '/') return fct_strdup(out, b);
    return fct_format(out, "%s%s%s", a, a[n - 1] == '/' ? "" : "/", b);
}

const char *fct_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

fct_status fct_file_size(int64_t *out, const char *path)
{
    struct stat info;
    *out = 0;
    if (stat(path, &info) != 0) return fail_path("open", path);
    *out = info.st_size;
    return FCT_OK;
}

bool fct_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool fct_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

fct_status fct_path_absolute(char **out, const char *path)
{
    char real[PATH_MAX], *folder = NULL;
    *out = NULL;
    if (realpath(path, real)) return fct_strdup(out, real);
    const char *base = fct_path_base(path);
    FCT_TRY(fct_format(&folder, "%s%s", path[0] == '/' ? "" : "./", path));
    folder[strlen(folder) - strlen(base)] = '\0';
    fct_status st = realpath(folder, real) ? fct_path_join(out, real, base) : fct_strdup(out, path);
    fct_free(folder);
    return st;
}

bool fct_path_same(const char *a, const char *b)
{
    char *at = NULL, *bt = NULL;
    bool same = fct_path_absolute(&at, a) == FCT_OK && fct_path_absolute(&bt, b) == FCT_OK &&
                strcmp(at, bt) == 0;
    fct_free(at);
    fct_free(bt);
    return same;
}

fct_status fct_dir_make(const char *path)
{
    fct_status st = FCT_OK;
    char *p = NULL;
    FCT_TRY(fct_strdup(&p, path));
    for (char *c = p + 1; p[0] != '\0'; c++) {
        if (*c != '/' && *c != '\0') continue;
        char kept = *c;
        *c = '\0';
        bool there = mkdir(p, 0777) == 0 || (errno == EEXIST && fct_path_is_dir(p));
        if (!there && (kept == '\0' || (errno != EEXIST && errno != EROFS && errno != EACCES))) {
            st = fct_fail(FCT_ERR_IO, "make folder %s: %s", p, strerror(errno));
            goto out;
        }
        *c = kept;
        if (kept == '\0') break;
    }
out:
    fct_free(p);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool fct_dir_has(const char *dir, const char *name)
{
    char path[4096]; /* no longer one can exist; taking no memory, the answer cannot be wrong */
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && n < (int)sizeof path && fct_path_exists(path);
}

fct_status fct_dir_list(char ***out_names, int64_t *out_n, const char *path)
{
    fct_status st = FCT_OK;
    char **names = NULL;
    int64_t n = 0, cap = 0;
    *out_names = NULL;
    *out_n = 0;
    DIR *d = opendir(path);
    if (!d) return fail_path("open folder", path);
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e && errno != 0) {
            st = fail_path("read folder", path);
            goto out;
        }
        if (!e) break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (n == cap) {
            int64_t more = cap ? 2 * cap : 16;
            FCT_TRY_OUT(fct_grow(&names, cap, more, (int64_t)sizeof *names));
            cap = more;
        }
        FCT_TRY_OUT(fct_strdup(&names[n], e->d_name));
        n++;
    }
    if (n > 1) qsort(names, (size_t)n, sizeof *names, by_name);
    *out_names = names;
    *out_n = n;
    names = NULL;
    n = 0;
out:
    fct_names_free(names, n);
    closedir(d);
    return st;
}

void fct_names_free(char **names, int64_t n)
{
    for (int64_t i = 0; i < n; i++) fct_free(names[i]);
    fct_free(names);
}

fct_status fct_file_remove(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT) return FCT_OK;
    return fail_path("remove", path);
}

fct_status fct_program_dir(char **out)
{
    char path[4096];
    *out = NULL;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return fct_fail(FCT_ERR_IO, "find the program's folder: %s", strerror(errno));
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash) *slash = '\0';
    return fct_strdup(out, path[0] ? path : "/");
}

fct_status fct_path_in(char **out, const char *folder, const char *path)
{
    if (!folder || path[0] == '/') return fct_strdup(out, path);
    return fct_path_join(out, folder, path);
}

fct_status fct_path_folder(char **out, const char *path)
{
    FCT_TRY(fct_strdup(out, path));
    char *slash = strrchr(*out, '/');
    if (slash == *out)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    else {
        fct_free(*out);
        return fct_strdup(out, ".");
    }
    return FCT_OK;
}

/* out.c - writes files so that they are either whole or not there. Bytes go to PATH.tmp-* beside
   the target; commit flushes, syncs and renames, anything else removes the temporary file. So a
   reader, or a run that is continued after a kill, sees a whole file or none. Devices and pipes are
   written directly. Tests can make the nth step (write, sync, rename) fail as a full disk does. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_SIZE = 1 << 18, NAME_TRIES = 100 };

static _Thread_local int64_t fault_in; /* steps until the one that fails; 0 = off */

void fct_fault_write(int64_t nth)
{
    fault_in = nth;
}

static bool fault_now(void)
{
    if (fault_in <= 0 || --fault_in != 0) return false;
    errno = ENOSPC;
    return true;
}

static const char *shown(const fct_out *o)
{
    return strcmp(o->path, "-") == 0 ? "standard output" : o->path;
}

static fct_status fail_write(const fct_out *o)
{
    return fct_fail(FCT_ERR_IO, "write %s: %s", shown(o), strerror(errno));
}

static fct_status open_temp(fct_out *o)
{
    for (int i = 0; i < NAME_TRIES; i++) {
        FCT_TRY(fct_format(&o->temp, "%s.tmp-%ld-%d", o->path, (long)getpid(), i));
        o->fd = open(o->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (o->fd >= 0) return FCT_OK;
        int error = errno;
        fct_free(o->temp);
        o->temp = NULL;
        errno = error;
        if (error != EEXIST) break;
    }
    return fail_write(o);
}

fct_status fct_out_open(fct_out *o, const char *path)
{
    fct_status st = FCT_OK;
    struct stat info;
    *o = (fct_out){.fd = -1};
    FCT_TRY_OUT(fct_strdup(&o->path, path));
    FCT_TRY_OUT(fct_new_raw(&o->buffer, BUFFER_SIZE, 1));
    if (strcmp(path, "-") == 0) {
        o->fd = STDOUT_FILENO;
    } else if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        st = fct_fail(FCT_ERR_ARG, "write %s: this is a folder, want the name of a file", path);
        goto out;
    } else if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        o->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (o->fd < 0) {
            st = fail_write(o);
            goto out;
        }
    } else {
        FCT_TRY_OUT(open_temp(o));
    }
    o->open = true;
    return FCT_OK;
out:
    fct_out_clear(o);
    return st;
}

static fct_status write_all(fct_out *o, const uint8_t *p, int64_t n)
{
    while (n > 0) {
        ssize_t put = fault_now() ? -1 : write(o->fd, p, (size_t)(n < 1 << 30 ? n : 1 << 30));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_write(o);
        p += put;
        n -= put;
    }
    return FCT_OK;
}

static fct_status flush(fct_out *o)
{
    int64_t n = o->fill;
    o->fill = 0;
    return write_all(o, o->buffer, n);
}

fct_status fct_out_write(fct_out *o, const void *data, int64_t n)
{
    if (!o->open || n < 0)
        return fct_fail(FCT_ERR_ARG, "write of %" PRId64 " bytes to a file that is not open", n);
    if (n > BUFFER_SIZE - o->fill) FCT_TRY(flush(o));
    if (n >= BUFFER_SIZE) {
        FCT_TRY(write_all(o, data, n));
    } else if (n > 0) {
        memcpy(o->buffer + o->fill, data, (size_t)n);
        o->fill += n;
    }
    o->written += n;
    return FCT_OK;
}

/* Without this a power cut may keep the rename and lose the data, or the reverse. */
static void sync_folder(const fct_out *o)
{
    char *folder = NULL;
    if (fct_strdup(&folder, o->path) != FCT_OK) return; /* the file itself is safe by now */
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder ? 1 : 0] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* best effort: some file systems cannot sync folders */
        close(fd);
    }
    fct_free(folder);
}

fct_status fct_out_commit(fct_out *o)
{
    fct_status st = FCT_OK;
    if (!o->open) return fct_fail(FCT_ERR_ARG, "commit of a file that is not open");
    FCT_TRY_OUT(flush(o));
    if (o->temp) {
        if (fault_now() || (fsync(o->fd) != 0 && errno != EINVAL && errno != ENOSYS)) {
            st = fail_write(o);
            goto out;
        }
        int fd = o->fd;
        o->fd = -1;
        if (close(fd) != 0 || fault_now() || rename(o->temp, o->path) != 0) {
            st = fail_write(o);
            goto out;
        }
        fct_free(o->temp);
        o->temp = NULL;
        sync_folder(o);
    }
out:
    fct_out_clear(o);
    return st;
}

void fct_out_clear(fct_out *o)
{
    bool standard = o->path && strcmp(o->path, "-") == 0;
    if (o->path && o->fd >= 0 && !standard) close(o->fd);
    if (o->temp) unlink(o->temp);
    fct_free(o->temp);
    fct_free(o->path);
    fct_free(o->buffer);
    *o = (fct_out){.fd = -1};
}

fct_status fct_file_write(const char *path, const void *data, int64_t n)
{
    fct_out o;
    FCT_TRY(fct_out_open(&o, path));
    fct_status st = fct_out_write(&o, data, n);
    if (st == FCT_OK) st = fct_out_commit(&o);
    fct_out_clear(&o);
    return st;
}

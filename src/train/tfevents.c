/* tfevents.c - writes the metrics of a training for TensorBoard: a file of framed records
   (TFRecord), each an Event in protobuf's wire format with scalars in it. Only the five fields that
   scalars need are written by hand here; field numbers are those of
   tensorflow/core/util/event.proto and framework/summary.proto. A run that is continued writes a
   file of its own, which begins by telling TensorBoard from which step on older events do not
   count. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "train/train.h"

enum { HOST_SIZE = 256, NAME_TRIES = 100 };

/* ---- protobuf's wire format ---- */

static fct_status put_varint(fct_str *s, uint64_t v)
{
    char byte[10];
    int64_t n = 0;
    do {
        byte[n] = (char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
        n++;
    } while (v > 0);
    return fct_str_append_n(s, byte, n);
}

static fct_status put_bytes(fct_str *s, int field, const char *p, int64_t n)
{
    FCT_TRY(put_varint(s, (uint64_t)field << 3 | 2));
    FCT_TRY(put_varint(s, (uint64_t)n));
    return n > 0 ? fct_str_append_n(s, p, n) : FCT_OK;
}

static fct_status put_number(fct_str *s, int field, uint64_t v)
{
    FCT_TRY(put_varint(s, (uint64_t)field << 3));
    return put_varint(s, v);
}

/* Little endian, n bytes: 8 (wire type 1) or 4 (wire type 5). */
static fct_status put_fixed(fct_str *s, int field, uint64_t bits, int n)
{
    char byte[8];
    for (int i = 0; i < n; i++) byte[i] = (char)(bits >> 8 * i);
    FCT_TRY(put_varint(s, (uint64_t)field << 3 | (n == 8 ? 1 : 5)));
    return fct_str_append_n(s, byte, n);
}

/* ---- records ---- */

static void put_u32(char *out, uint32_t v)
{
    for (int i = 0; i < 4; i++) out[i] = (char)(v >> 8 * i);
}

/* The checksum as TFRecord stores it, so that a checksum of data with checksums in it is no
   trap. */
static uint32_t masked(fct_crc32c *crc, const char *p, int64_t n)
{
    crc->value = 0;
    fct_crc32c_add(crc, p, n);
    return (crc->value >> 15 | crc->value << 17) + 0xa282ead8u;
}

static fct_status write_all(const fct_tfevents *t, const char *p, int64_t n)
{
    while (n > 0) {
        ssize_t put = write(t->fd, p, (size_t)n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fct_fail(FCT_ERR_IO, "write %s: %s", t->path, strerror(errno));
        p += put;
        n -= put;
    }
    return FCT_OK;
}

static fct_status write_record(fct_tfevents *t, const fct_str *event)
{
    char head[12], tail[4];
    fct_str whole = {0};
    fct_status st = FCT_OK;
    for (int i = 0; i < 8; i++) head[i] = (char)((uint64_t)event->n >> 8 * i);
    put_u32(head + 8, masked(&t->crc, head, 8));
    put_u32(tail, masked(&t->crc, event->p, event->n));
    FCT_TRY_OUT(fct_str_append_n(&whole, head, 12));
    FCT_TRY_OUT(fct_str_append_n(&whole, event->p, event->n));
    FCT_TRY_OUT(fct_str_append_n(&whole, tail, 4));
    FCT_TRY_OUT(write_all(t, whole.p, whole.n)); /* at once: a kill leaves whole records */
out:
    fct_str_clear(&whole);
    return st;
}

static fct_status begin_event(fct_str *event, int64_t step)
{
    struct timespec now = {0};
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &now);
    double wall = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    memcpy(&bits, &wall, sizeof bits);
    FCT_TRY(put_fixed(event, 1, bits, 8));
    return step > 0 ? put_number(event, 2, (uint64_t)step) : FCT_OK;
}

/* ---- the file ---- */

static fct_status open_file(fct_tfevents *t, const char *dir)
{
    char host[HOST_SIZE] = "";
    if (gethostname(host, sizeof host - 1) != 0 || !host[0] || !fct_is_utf8(host) ||
        strchr(host, '/'))
        memcpy(host, "localhost", sizeof "localhost");
    for (int i = 0; i < NAME_TRIES; i++) { /* started twice within a second */
        fct_free(t->path);
        t->path = NULL;
        FCT_TRY(fct_format(&t->path, "%s/events.out.tfevents.%010" PRId64 ".%s", dir,
                           (int64_t)time(NULL) + i, host));
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t->fd >= 0 || errno != EEXIST) break;
    }
    return t->fd >= 0 ? FCT_OK : fct_fail(FCT_ERR_IO, "write %s: %s", t->path, strerror(errno));
}

fct_status fct_tfevents_open(fct_tfevents *t, const char *dir, int64_t after_step)
{
    static const char version[] = "brain.Event:2";
    fct_status st = FCT_OK;
    fct_str event = {0}, session = {0};
    *t = (fct_tfevents){.fd = -1};
    fct_crc32c_init(&t->crc);
    FCT_TRY_OUT(fct_dir_make(dir));
    FCT_TRY_OUT(open_file(t, dir));
    FCT_TRY_OUT(begin_event(&event, 0));
    FCT_TRY_OUT(put_bytes(&event, 3, version, sizeof version - 1));
    FCT_TRY_OUT(write_record(t, &event));
    if (after_step > 0) { /* SessionLog START: what is of this step and later is of no worth */
        fct_str_clear(&event);
        FCT_TRY_OUT(begin_event(&event, after_step + 1));
        FCT_TRY_OUT(put_number(&session, 1, 1));
        FCT_TRY_OUT(put_bytes(&event, 7, session.p, session.n));
        FCT_TRY_OUT(write_record(t, &event));
    }
out:
    fct_str_clear(&event);
    fct_str_clear(&session);
    if (st != FCT_OK) fct_tfevents_close(t);
    return st;
}

fct_status fct_tfevents_write(fct_tfevents *t, int64_t step, const fct_tfevents_scalar *scalar,
                              int64_t n)
{
    fct_status st = FCT_OK;
    fct_str event = {0}, summary = {0}, value = {0};
    FCT_TRY_OUT(begin_event(&event, step));
    for (int64_t i = 0; i < n; i++) {
        float as_float = (float)scalar[i].value;
        uint32_t bits;
        memcpy(&bits, &as_float, sizeof bits);
        fct_str_clear(&value);
        FCT_TRY_OUT(put_bytes(&value, 1, scalar[i].tag, (int64_t)strlen(scalar[i].tag)));
        FCT_TRY_OUT(put_fixed(&value, 2, bits, 4));
        FCT_TRY_OUT(put_bytes(&summary, 1, value.p, value.n));
    }
    FCT_TRY_OUT(put_bytes(&event, 5, summary.p, summary.n));
    FCT_TRY_OUT(write_record(t, &event));
out:
    fct_str_clear(&event);
    fct_str_clear(&summary);
    fct_str_clear(&value);
    return st;
}

void fct_tfevents_close(fct_tfevents *t)
{
    if (t->path && t->fd >= 0) close(t->fd);
    fct_free(t->path);
    *t = (fct_tfevents){.fd = -1};
}

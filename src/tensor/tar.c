/* tar.c - finds the members of a tar archive, as WebDataset writes them: ustar, pax (path and size)
   and GNU long names. The archive is mapped and a member points into it; nothing is unpacked, so a
   name is a text to compare and never a path. Checksums are verified, sizes and records stay within
   the file. Links, devices and folders are passed over. */
#include <string.h>

#include "tensor/tar.h"

enum { BLOCK = 512 };

typedef struct reader {
    fct_tar *out;
    const char *name;
    int64_t cap;
    fct_str path; /* for the next member, from a pax record or a GNU long name */
    int64_t size; /* the same of its size; -1: not said */
    bool has_path;
} reader;

static fct_status damaged(const reader *r, int64_t at, const char *what)
{
    return fct_fail(FCT_ERR_FORMAT, "%s: not a whole tar archive: %s at byte %lld", r->name, what,
                    (long long)at);
}

/* A number in octal, or in base 256 when the first bit is set (files of 8 GiB and more). */
static bool read_number(int64_t *out, const uint8_t *p, int n)
{
    uint64_t v = 0;
    int i = 0;
    if (p[0] & 0x80) {
        v = p[0] & 0x7f;
        for (i = 1; i < n; i++) {
            if (v >> 55) return false;
            v = v << 8 | p[i];
        }
        *out = (int64_t)v;
        return true;
    }
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        if (v >> 59) return false;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    *out = (int64_t)v;
    return i == n || p[i] == '\0' || p[i] == ' ';
}

static bool checksum_fits(const uint8_t *h)
{
    int64_t want, sum = 0;
    for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : h[i];
    return read_number(&want, h + 148, 8) && want == sum;
}

static bool all_zero(const uint8_t *h)
{
    for (int i = 0; i < BLOCK; i++)
        if (h[i]) return false;
    return true;
}

static int64_t text_length(const uint8_t *p, int64_t n)
{
    const uint8_t *end = memchr(p, '\0', (size_t)n);
    return end ? end - p : n;
}

/* "LENGTH KEY=VALUE\n", one after the other: path and size count. */
static fct_status read_pax(reader *r, const uint8_t *p, int64_t n, int64_t where)
{
    for (int64_t at = 0; at < n;) {
        int64_t length = 0, i = at;
        for (; i < n && p[i] >= '0' && p[i] <= '9' && length < n; i++)
            length = length * 10 + (p[i] - '0');
        if (i == at || i >= n || p[i] != ' ' || length > n - at || length <= i + 1 - at ||
            p[at + length - 1] != '\n')
            return damaged(r, where, "a pax record is malformed");
        const uint8_t *key = p + i + 1, *end = p + at + length - 1,
                      *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals) return damaged(r, where, "a pax record has no value");
        if (equals - key == 4 && memcmp(key, "path", 4) == 0) {
            fct_str_clear(&r->path);
            FCT_TRY(fct_str_append_n(&r->path, (const char *)equals + 1, end - equals - 1));
            r->has_path = true;
        }
        if (equals - key == 4 && memcmp(key, "size", 4) == 0) {
            int64_t size = 0;
            for (const uint8_t *c = equals + 1; c < end; c++) {
                if (*c < '0' || *c > '9' || size > INT64_MAX / 10 - 10)
                    return damaged(r, where, "a pax record's size is no number");
                size = size * 10 + (*c - '0');
            }
            r->size = size;
        }
        at += length;
    }
    return FCT_OK;
}

static fct_status add_member(reader *r, const uint8_t *h, const uint8_t *data, int64_t size)
{
    fct_str name = {0};
    fct_status st = FCT_OK;
    if (r->out->n == r->cap) {
        int64_t cap = r->cap < 64 ? 64 : 2 * r->cap;
        FCT_TRY(fct_grow(&r->out->entry, r->cap, cap, sizeof *r->out->entry));
        r->cap = cap;
    }
    if (r->has_path) {
        FCT_TRY_OUT(fct_str_append(&name, r->path.p ? r->path.p : ""));
    } else {
        if (memcmp(h + 257, "ustar", 6) == 0 && h[345]) {
            FCT_TRY_OUT(fct_str_append_n(&name, (const char *)h + 345, text_length(h + 345, 155)));
            FCT_TRY_OUT(fct_str_append(&name, "/"));
        }
        FCT_TRY_OUT(fct_str_append_n(&name, (const char *)h, text_length(h, 100)));
    }
    r->out->entry[r->out->n++] = (fct_tar_entry){name.p, data, size};
    return FCT_OK;
out:
    fct_str_clear(&name);
    return st;
}

static fct_status read_members(reader *r, const uint8_t *data, int64_t n)
{
    int64_t at = 0;
    while (n - at >= BLOCK && !all_zero(data + at)) {
        const uint8_t *h = data + at, *body = h + BLOCK;
        int64_t size;
        char kind = (char)h[156];
        if (!checksum_fits(h)) return damaged(r, at, "a header's checksum does not fit");
        if (!read_number(&size, h + 124, 12)) return damaged(r, at, "a size is no number");
        bool about_next = kind == 'x' || kind == 'g' || kind == 'L' || kind == 'K';
        if (!about_next && r->size >= 0) size = r->size;
        if (kind >= '1' && kind <= '6') size = 0; /* links, devices, folders: no content */
        if (size > n - at - BLOCK)
            return fct_fail(FCT_ERR_FORMAT,
                            "%s: cut short: the member at byte %lld has %lld bytes, %lld are there",
                            r->name, (long long)at, (long long)size, (long long)(n - at - BLOCK));
        if (kind == 'x') FCT_TRY(read_pax(r, body, size, at));
        if (kind == 'L') {
            fct_str_clear(&r->path);
            FCT_TRY(fct_str_append_n(&r->path, (const char *)body, text_length(body, size)));
            r->has_path = true;
        }
        if (kind == '0' || kind == '\0' || kind == '7') FCT_TRY(add_member(r, h, body, size));
        if (!about_next) {
            r->has_path = false;
            r->size = -1;
        }
        int64_t padded = (size + BLOCK - 1) / BLOCK * BLOCK; /* size < n: no overflow */
        if (padded > n - at - BLOCK) padded = n - at - BLOCK;
        at += BLOCK + padded;
    }
    if (n - at >= BLOCK) return FCT_OK; /* a block of zeros: the end */
    return fct_fail(
        FCT_ERR_FORMAT,
        "%s: cut short: the archive has no end after byte %lld (it was not finished, or "
        "not copied whole)",
        r->name, (long long)at);
}

fct_status fct_tar_parse(fct_tar *out, const uint8_t *data, int64_t n, const char *name)
{
    *out = (fct_tar){0};
    reader r = {.out = out, .name = name, .size = -1};
    fct_status st = n >= BLOCK ? read_members(&r, data, n)
                               : fct_fail(FCT_ERR_FORMAT, "%s: not a tar archive: too short", name);
    fct_str_clear(&r.path);
    if (st != FCT_OK) fct_tar_close(out);
    return st;
}

fct_status fct_tar_open(fct_tar *out, const char *path)
{
    fct_file file = {0};
    *out = (fct_tar){0};
    FCT_TRY(fct_file_map(&file, path));
    fct_status st = fct_tar_parse(out, file.data, file.size, path);
    if (st == FCT_OK)
        out->file = file;
    else
        fct_file_unmap(&file);
    return st;
}

void fct_tar_close(fct_tar *t)
{
    for (int64_t i = 0; i < t->n; i++) fct_free(t->entry[i].name);
    fct_free(t->entry);
    fct_file_unmap(&t->file);
    *t = (fct_tar){0};
}

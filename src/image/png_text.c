/* png_text.c - reads and writes tEXt, zTXt and iTXt chunks around libpng's simplified interface.

   That interface reports errors by return value, where the full one needs setjmp; but it knows no
   texts. A chunk is a length, four letters, the data and a CRC-32 of letters and data, so this is
   short. Texts are UTF-8 in memory, whatever the file has: an iTXt chunk that is not UTF-8, as it
   must be, is read as Latin-1. All texts of a file together may take 64 MB. */
#include "image/png_text.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

enum { MAX_TEXT = 1 << 26, MAX_TEXTS = 4096 };

typedef struct reader {
    fct_image *im;
    const char *name; /* the file's */
    int64_t left;     /* bytes that its texts may still take */
} reader;

typedef struct bytes {
    const uint8_t *p;
    int64_t n;
} bytes;

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- reading ---- */

/* Takes everything up to a zero byte, and that byte. */
static bool take_field(bytes *b, bytes *field)
{
    const uint8_t *zero = b->n > 0 ? memchr(b->p, 0, (size_t)b->n) : NULL;
    if (!zero) return false;
    *field = (bytes){b->p, zero - b->p};
    b->n -= field->n + 1;
    b->p = zero + 1;
    return true;
}

static fct_status latin1_to_utf8(fct_str *out, bytes b)
{
    FCT_TRY(fct_str_append(out, ""));
    for (int64_t i = 0; i < b.n; i++) {
        char two[2] = {(char)(0xC0 | b.p[i] >> 6), (char)(0x80 | (b.p[i] & 0x3F))};
        if (b.p[i] < 0x80)
            FCT_TRY(fct_str_append_n(out, (const char *)b.p + i, 1));
        else
            FCT_TRY(fct_str_append_n(out, two, 2));
    }
    return FCT_OK;
}

static fct_status to_utf8(fct_str *out, bytes b)
{
    if (!fct_utf8_valid((const char *)b.p, b.n)) return latin1_to_utf8(out, b);
    return fct_str_append_n(out, (const char *)b.p, b.n);
}

static fct_status too_long(const reader *r)
{
    return fct_fail(FCT_ERR_RANGE, "%s: the texts in it are longer than %d MB together", r->name,
                    MAX_TEXT >> 20);
}

static fct_status inflate_text(const reader *r, fct_str *out, bytes b)
{
    z_stream z = {0};
    uint8_t chunk[4096];
    fct_status st = FCT_OK;
    int result = Z_OK;
    if (inflateInit(&z) != Z_OK) return fct_fail(FCT_ERR_MEMORY, "%s: out of memory", r->name);
    z.next_in = (z_const Bytef *)b.p;
    z.avail_in = (uInt)b.n;
    while (st == FCT_OK && result == Z_OK) {
        z.next_out = chunk;
        z.avail_out = sizeof chunk;
        result = inflate(&z, Z_NO_FLUSH);
        st = fct_str_append_n(out, (const char *)chunk, (int64_t)(sizeof chunk - z.avail_out));
        if (st == FCT_OK && out->n > r->left) st = too_long(r);
    }
    inflateEnd(&z);
    if (st == FCT_OK && result != Z_STREAM_END)
        st = fct_fail(FCT_ERR_FORMAT, "%s: a compressed text in it is damaged", r->name);
    return st;
}

/* tEXt: key 0 text. zTXt: key 0 method compressed. iTXt: key 0 flag method language 0
   translated-key 0 text. */
static fct_status read_text(const reader *r, fct_str *value, bytes b, char kind, bytes *key,
                            bool *valid)
{
    fct_str plain = {0};
    bytes skipped;
    *valid = take_field(&b, key) && key->n >= 1 && key->n <= 79;
    if (!*valid) return FCT_OK;
    if (kind == 't') return latin1_to_utf8(value, b);
    bool packed = kind == 'z';
    int64_t lead = packed ? 1 : 2;
    *valid = b.n >= lead && b.p[lead - 1] == 0;
    if (!*valid) return FCT_OK;
    if (kind == 'i') packed = b.p[0] == 1;
    b = (bytes){b.p + lead, b.n - lead};
    if (kind == 'i') *valid = take_field(&b, &skipped) && take_field(&b, &skipped);
    if (!*valid) return FCT_OK;
    if (!packed) return to_utf8(value, b);
    fct_status st = inflate_text(r, &plain, b);
    bytes text = {(const uint8_t *)plain.p, plain.n};
    if (st == FCT_OK) st = kind == 'i' ? to_utf8(value, text) : latin1_to_utf8(value, text);
    fct_str_clear(&plain);
    return st;
}

static fct_status keep_text(reader *r, bytes b, char kind)
{
    fct_str value = {0};
    bytes key = {0};
    bool valid;
    char text[80];
    fct_image *im = r->im;
    fct_status st = read_text(r, &value, b, kind, &key, &valid);
    if (st == FCT_OK && (!valid || (value.p && memchr(value.p, 0, (size_t)value.n))))
        st = fct_fail(FCT_ERR_FORMAT, "%s: a text chunk in it is malformed", r->name);
    r->left -= value.n;
    if (st == FCT_OK && r->left < 0) st = too_long(r);
    if (st == FCT_OK) {
        memcpy(text, key.p, (size_t)key.n);
        text[key.n] = '\0';
        if (im->n_text >= MAX_TEXTS)
            st = fct_fail(FCT_ERR_RANGE, "%s: it holds too many texts", r->name);
        /* the first of two texts with one key stays; keys that are not plain ASCII are nobody facet
           knows */
        else if (!fct_image_find_text(im, text) &&
                 fct_image_set_text(im, text, value.p ? value.p : "") == FCT_ERR_MEMORY)
            st = FCT_ERR_MEMORY;
    }
    fct_str_clear(&value);
    return st;
}

fct_status fct_png_text_read(fct_image *im, const uint8_t *data, int64_t n, const char *name)
{
    reader r = {.im = im, .name = name, .left = MAX_TEXT};
    for (int64_t at = 8;;) {
        if (n - at < 12 || be32(data + at) > n - at - 12)
            return fct_fail(FCT_ERR_FORMAT, "%s: the PNG is cut short", name);
        int64_t length = be32(data + at);
        const uint8_t *type = data + at + 4;
        uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), type, (uInt)(length + 4));
        if (crc != be32(type + 4 + length))
            return fct_fail(FCT_ERR_FORMAT, "%s: the PNG is damaged: a checksum is wrong", name);
        bytes b = {type + 4, length};
        if (memcmp(type, "tEXt", 4) == 0) FCT_TRY(keep_text(&r, b, 't'));
        if (memcmp(type, "zTXt", 4) == 0) FCT_TRY(keep_text(&r, b, 'z'));
        if (memcmp(type, "iTXt", 4) == 0) FCT_TRY(keep_text(&r, b, 'i'));
        if (memcmp(type, "IEND", 4) == 0) return FCT_OK;
        at += 12 + length;
    }
}

/* ---- writing ---- */

static fct_status put_be32(fct_str *s, uint32_t v)
{
    char b[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    return fct_str_append_n(s, b, 4);
}

/* Latin-1 without control characters (but newline), or false. */
static fct_status utf8_to_latin1(fct_str *out, const char *text, bool *fits)
{
    *fits = true;
    FCT_TRY(fct_str_append(out, ""));
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        char one = (char)*p;
        if (*p >= 0x80) {
            if ((*p != 0xC2 && *p != 0xC3) || (p[1] & 0xC0) != 0x80 ||
                (*p == 0xC2 && p[1] < 0xA0)) {
                *fits = false;
                return FCT_OK;
            }
            one = (char)(uint8_t)((*p & 0x03) << 6 | (p[1] & 0x3F));
            p++;
        }
        FCT_TRY(fct_str_append_n(out, &one, 1));
    }
    return FCT_OK;
}

fct_status fct_png_text_put(fct_str *out, const char *key, const char *value)
{
    fct_str body = {0}, latin = {0};
    bool fits = false;
    fct_status st = utf8_to_latin1(&latin, value, &fits);
    if (st == FCT_OK) st = fct_str_append(&body, fits ? "tEXt" : "iTXt");
    if (st == FCT_OK) st = fct_str_append_n(&body, key, (int64_t)strlen(key) + 1);
    /* plain, method 0, no language, no translation */
    if (st == FCT_OK && !fits) st = fct_str_append_n(&body, "\0\0\0\0", 4);
    if (st == FCT_OK)
        st = fits ? fct_str_append_n(&body, latin.p, latin.n) : fct_str_append(&body, value);
    if (st == FCT_OK && body.n > INT32_MAX)
        st = fct_fail(FCT_ERR_RANGE, "the text %s is too long for a PNG", key);
    if (st == FCT_OK) st = put_be32(out, (uint32_t)(body.n - 4));
    if (st == FCT_OK) st = fct_str_append_n(out, body.p, body.n);
    if (st == FCT_OK)
        st = put_be32(out, (uint32_t)crc32(crc32(0, NULL, 0), (const Bytef *)body.p, (uInt)body.n));
    fct_str_clear(&body);
    fct_str_clear(&latin);
    return st;
}

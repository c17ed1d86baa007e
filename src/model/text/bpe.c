/* bpe.c - encodes words by byte-level byte-pair encoding, as CLIP uses it: a word's bytes become
   printable characters, the last one marked with </w>, and the pair of lowest rank is merged until
   no merge is left.

   Two hash tables: pieces to ids (vocab.json), and pairs of pieces to ranks (merges.txt). Pieces
   that only merges.txt knows get internal numbers beyond the vocabulary, so that merging works on
   numbers alone. */
#include <string.h>

#include "model/text/text.h"

/* transformers reads no more lines than the original vocabulary had. */
enum { MERGES_READ = 49152 - 256 - 2 };

typedef struct slot {
    uint64_t key;
    int32_t value;
    bool used;
} slot; /* of the table of pairs */

struct fct_bpe {
    char **piece; /* by internal number; 0..n_vocab-1 in the order of reading */
    int32_t *id;  /* id in the vocabulary, -1: only in merges */
    int64_t n, cap;
    int32_t *bucket; /* hash of text -> number + 1 */
    int64_t n_buckets;
    slot *pair;
    int64_t n_pairs;      /* size of the table */
    int32_t byte[256][2]; /* internal number of a byte's character, plain and with </w>; -1: none */
    int32_t *by_id;       /* id -> internal number, -1 */
    int64_t n_ids;
};

static uint64_t hash_text(const char *s, int64_t n)
{
    uint64_t h = 1469598103934665603u;
    for (int64_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 1099511628211u;
    return h ^ (h >> 29);
}

static int32_t find_number(const fct_bpe *b, const char *s, int64_t n)
{
    uint64_t mask = (uint64_t)b->n_buckets - 1;
    for (uint64_t i = hash_text(s, n) & mask; b->bucket[i]; i = (i + 1) & mask) {
        int32_t k = b->bucket[i] - 1;
        if (strncmp(b->piece[k], s, (size_t)n) == 0 && b->piece[k][n] == '\0') return k;
    }
    return -1;
}

static fct_status add_piece(fct_bpe *b, const char *s, int64_t n, int32_t id, int32_t *out)
{
    char *copy = NULL;
    FCT_TRY(fct_new(&copy, n + 1, 1));
    memcpy(copy, s, (size_t)n);
    b->piece[b->n] = copy;
    b->id[b->n] = id;
    uint64_t mask = (uint64_t)b->n_buckets - 1, i = hash_text(s, n) & mask;
    while (b->bucket[i]) i = (i + 1) & mask;
    b->bucket[i] = (int32_t)b->n + 1;
    *out = (int32_t)b->n++;
    return FCT_OK;
}

static fct_status number_of(fct_bpe *b, const char *s, int64_t n, int32_t *out)
{
    *out = find_number(b, s, n);
    return *out >= 0 ? FCT_OK : add_piece(b, s, n, -1, out);
}

static uint64_t pair_key(int32_t a, int32_t c)
{
    return (uint64_t)(uint32_t)a << 32 | (uint32_t)c;
}

static slot *pair_slot(const fct_bpe *b, uint64_t key)
{
    uint64_t mask = (uint64_t)b->n_pairs - 1, i = (key * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (b->pair[i].used && b->pair[i].key != key) i = (i + 1) & mask;
    return &b->pair[i];
}

/* What a byte looks like in the vocabulary: itself where it is a printable Latin-1 character, else
   256, 257, ... in turn (bytes_to_unicode of transformers). */
static int64_t byte_text(char out[4], int byte)
{
    int code = 0, next = 256;
    for (int i = 0; i <= byte; i++) {
        bool plain = (i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xac) || i >= 0xae;
        code = plain ? i : next++;
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

static fct_status number_bytes(fct_bpe *b)
{
    for (int i = 0; i < 256; i++) {
        char text[8];
        int64_t n = byte_text(text, i);
        FCT_TRY(number_of(b, text, n, &b->byte[i][0]));
        memcpy(text + n, "</w>", 4);
        FCT_TRY(number_of(b, text, n + 4, &b->byte[i][1]));
    }
    return FCT_OK;
}

/* ---- reading ---- */

static fct_status read_vocab(fct_bpe *b, json_t *root, const char *where)
{
    const char *key;
    json_t *value;
    int64_t most = -1;
    json_object_foreach(root, key, value)
    {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        int32_t at;
        if (id < 0 || id > (1 << 24))
            return fct_fail(FCT_ERR_FORMAT,
                            "%s/vocab.json: \"%s\": want an id, a whole number from 0", where, key);
        FCT_TRY(add_piece(b, key, (int64_t)strlen(key), (int32_t)id, &at));
        if (id > most) most = id;
    }
    if (most < 0) return fct_fail(FCT_ERR_FORMAT, "%s/vocab.json: the vocabulary is empty", where);
    b->n_ids = most + 1;
    FCT_TRY(fct_new(&b->by_id, b->n_ids, sizeof *b->by_id));
    for (int64_t i = 0; i < b->n_ids; i++) b->by_id[i] = -1;
    for (int64_t i = 0; i < b->n; i++) b->by_id[b->id[i]] = (int32_t)i;
    return FCT_OK;
}

static bool blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* One line "left right"; the first line of the file is a version and was skipped. */
static fct_status read_merge(fct_bpe *b, const char *line, int64_t n, int32_t rank,
                             const char *where)
{
    const char *part[2];
    int64_t len[2], found = 0;
    for (int64_t i = 0; i < n;) {
        while (i < n && blank(line[i])) i++;
        int64_t from = i;
        while (i < n && !blank(line[i])) i++;
        if (i == from) continue;
        if (found < 2) {
            part[found] = line + from;
            len[found] = i - from;
        }
        found++;
    }
    if (found != 2)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s/merges.txt: line %d: want two pieces with a space between", where,
                        rank + 2);
    int32_t a, c;
    FCT_TRY(number_of(b, part[0], len[0], &a));
    FCT_TRY(number_of(b, part[1], len[1], &c));
    slot *s = pair_slot(b, pair_key(a, c));
    *s = (slot){.key = pair_key(a, c), .value = rank, .used = true};
    return FCT_OK;
}

static fct_status read_merges(fct_bpe *b, const char *text, const char *where)
{
    while (blank(*text)) text++;
    int64_t n = (int64_t)strlen(text);
    while (n > 0 && blank(text[n - 1])) n--;
    const char *end = text + n, *line = memchr(text, '\n', (size_t)n);
    for (int32_t rank = 0; line && rank < MERGES_READ; rank++) {
        const char *from = line + 1;
        line = from < end ? memchr(from, '\n', (size_t)(end - from)) : NULL;
        FCT_TRY(read_merge(b, from, (line ? line : end) - from, rank, where));
    }
    return FCT_OK;
}

static int64_t power_above(int64_t n)
{
    int64_t p = 16;
    while (p < n) p *= 2;
    return p;
}

fct_status fct_bpe_new(fct_bpe **out, json_t *vocab, const char *merges, const char *where)
{
    fct_bpe *b = NULL;
    int64_t lines = 1;
    *out = NULL;
    if (!json_is_object(vocab))
        return fct_fail(FCT_ERR_FORMAT, "%s/vocab.json: want a JSON object of pieces and ids",
                        where);
    fct_status st = fct_new(&b, 1, sizeof *b);
    if (st != FCT_OK) return st;
    for (const char *p = merges; *p; p++) lines += *p == '\n';
    b->cap = (int64_t)json_object_size(vocab) + 2 * lines + 512;
    b->n_buckets = power_above(2 * b->cap);
    b->n_pairs = power_above(2 * lines);
    FCT_TRY_OUT(fct_new(&b->piece, b->cap, sizeof *b->piece));
    FCT_TRY_OUT(fct_new(&b->id, b->cap, sizeof *b->id));
    FCT_TRY_OUT(fct_new(&b->bucket, b->n_buckets, sizeof *b->bucket));
    FCT_TRY_OUT(fct_new(&b->pair, b->n_pairs, sizeof *b->pair));
    FCT_TRY_OUT(read_vocab(b, vocab, where));
    FCT_TRY_OUT(number_bytes(b));
    FCT_TRY_OUT(read_merges(b, merges, where));
    *out = b;
    b = NULL;
out:
    fct_bpe_close(b);
    return st;
}

void fct_bpe_close(fct_bpe *b)
{
    if (!b) return;
    for (int64_t i = 0; b->piece && i < b->n; i++) fct_free(b->piece[i]);
    fct_free(b->piece);
    fct_free(b->id);
    fct_free(b->bucket);
    fct_free(b->pair);
    fct_free(b->by_id);
    fct_free(b);
}

int32_t fct_bpe_find(const fct_bpe *b, const char *token)
{
    int32_t k = find_number(b, token, (int64_t)strlen(token));
    return k < 0 ? -1 : b->id[k];
}

const char *fct_bpe_text(const fct_bpe *b, int32_t id)
{
    return id >= 0 && id < b->n_ids && b->by_id[id] >= 0 ? b->piece[b->by_id[id]] : NULL;
}

/* ---- encoding ---- */

fct_status fct_idlist_add(fct_idlist *l, int32_t id)
{
    if (l->n == l->cap) {
        int64_t cap = l->cap ? 2 * l->cap : 64;
        FCT_TRY(fct_grow(&l->v, l->cap, cap, sizeof *l->v));
        l->cap = cap;
    }
    l->v[l->n++] = id;
    return FCT_OK;
}

/* The number of the piece that two pieces make; -1 when no list knows it. text: memory for it. */
static fct_status find_joined(int32_t *out, const fct_bpe *b, int32_t x, int32_t y, fct_str *text)
{
    text->n = 0;
    FCT_TRY(fct_str_append(text, b->piece[x]));
    FCT_TRY(fct_str_append(text, b->piece[y]));
    *out = find_number(b, text->p, text->n);
    return FCT_OK;
}

/* Merges every occurrence of the pair, left to right. A piece that is in no list ends up as -1,
   which merges no further. */
static int64_t merge_all(int32_t *w, int64_t n, int32_t x, int32_t y, int32_t xy)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n; k++) {
        bool here = i + 1 < n && w[i] == x && w[i + 1] == y;
        w[k] = here ? xy : w[i];
        i += here ? 2 : 1;
    }
    return k;
}

fct_status fct_bpe_encode(fct_idlist *out, const fct_bpe *b, const char *word, int64_t n,
                          int32_t unknown)
{
    int32_t *w = NULL;
    fct_str text = {0};
    fct_status st = FCT_OK;
    if (n <= 0) return FCT_OK;
    FCT_TRY(fct_new_raw(&w, n, sizeof *w));
    for (int64_t i = 0; i < n; i++) w[i] = b->byte[(uint8_t)word[i]][i == n - 1];
    while (n > 1) {
        int32_t best = INT32_MAX, x = -1, y = -1, xy;
        for (int64_t i = 0; i + 1 < n; i++) {
            if (w[i] < 0 || w[i + 1] < 0) continue;
            const slot *s = pair_slot(b, pair_key(w[i], w[i + 1]));
            if (!s->used || s->value >= best) continue;
            best = s->value;
            x = w[i];
            y = w[i + 1];
        }
        if (best == INT32_MAX) break;
        FCT_TRY_OUT(find_joined(&xy, b, x, y, &text));
        n = merge_all(w, n, x, y, xy);
    }
    for (int64_t i = 0; i < n && st == FCT_OK; i++)
        st = fct_idlist_add(out, w[i] >= 0 && b->id[w[i]] >= 0 ? b->id[w[i]] : unknown);
out:
    fct_str_clear(&text);
    fct_free(w);
    return st;
}

/* tokenizer.c - turns a prompt into token ids as transformers' slow CLIPTokenizer does: added
   tokens are found in the raw text first, the rest is cleaned and cut into words by CLIP's pattern,
   words into pieces; then start, end and padding.

   Each tokenizer has its own padding: SDXL's first pads with the end token, its second with "!",
   which is then an added token of its own and never part of a word. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "model/text/text.h"

typedef struct added_token {
    char *text;
    int32_t id;
    bool lstrip, rstrip;
} added_token;

struct fct_tokenizer {
    fct_bpe *bpe;
    added_token *added;
    int64_t n_added;
    int32_t start, end, pad, unknown;
    int64_t length;
    pcre2_code *pattern;
};

/* CLIP's pattern. U+0345 is here and not there: Python's regex, asked to ignore case, finds that
   this mark folds to a letter and lets the last part skip it, although the letters' part does not
   take it either. */
static const char word_pattern[] = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|["
                                   "\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}\\x{345}]+";

/* ---- reading ---- */

static fct_status add_token(fct_tokenizer *t, const char *text, int64_t id, bool lstrip,
                            bool rstrip)
{
    for (int64_t i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].text, text) == 0) return FCT_OK;
    if (text[0] == '\0') return FCT_OK;
    FCT_TRY(fct_grow(&t->added, t->n_added, t->n_added + 1, sizeof *t->added));
    added_token *a = &t->added[t->n_added];
    FCT_TRY(fct_strdup(&a->text, text));
    t->n_added++;
    a->id = (int32_t)id;
    a->lstrip = lstrip;
    a->rstrip = rstrip;
    return FCT_OK;
}

/* added_tokens_decoder: {"49407": {"content": "<|endoftext|>", ...}} */
static fct_status read_added(fct_tokenizer *t, json_t *map, const char *where)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        int64_t id;
        const char *text;
        bool lstrip, rstrip, single;
        FCT_TRY(fct_where(fct_parse_i64(&id, key, 0, 1 << 24), "%s: added_tokens_decoder", where));
        FCT_TRY(fct_json_str(&text, value, "content", NULL, where));
        FCT_TRY(fct_json_bool(&lstrip, value, "lstrip", false, where));
        FCT_TRY(fct_json_bool(&rstrip, value, "rstrip", false, where));
        FCT_TRY(fct_json_bool(&single, value, "single_word", false, where));
        if (!text)
            return fct_fail(FCT_ERR_FORMAT, "%s: added_tokens_decoder.%s has no content", where,
                            key);
        if (single)
            return fct_fail(FCT_ERR_UNSUPPORTED, "%s: added_tokens_decoder.%s: single_word", where,
                            key);
        FCT_TRY(add_token(t, text, id, lstrip, rstrip));
    }
    return FCT_OK;
}

/* A special token is a text, or an object with its content. */
static const char *token_text(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_string_value(v);
}

/* The config's word counts; the older special_tokens_map.json only where the config lists no added
   tokens. */
static fct_status read_special(fct_tokenizer *t, const json_t *config, const json_t *map,
                               const char *key, int32_t *out, const char *where)
{
    const char *text = NULL;
    if (!json_object_get(config, "added_tokens_decoder") && map) text = token_text(map, key);
    if (!text) text = token_text(config, key);
    if (!text && map) text = token_text(map, key);
    if (!text) text = strcmp(key, "bos_token") == 0 ? "<|startoftext|>" : "<|endoftext|>";
    *out = -1;
    for (int64_t i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].text, text) == 0) *out = t->added[i].id;
    if (*out < 0) *out = fct_bpe_find(t->bpe, text);
    if (*out < 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: %s \"%s\" is not in the vocabulary", where, key, text);
    return add_token(t, text, *out, false, false);
}

static fct_status read_settings(fct_tokenizer *t, const fct_tokenizer_desc *d)
{
    static const char *const key[4] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    int32_t *const id[4] = {&t->start, &t->end, &t->unknown, &t->pad};
    json_t *added = json_object_get(d->config, "added_tokens_decoder");
    if (json_is_object(added)) FCT_TRY(read_added(t, added, d->where));
    for (int i = 0; i < 4; i++)
        FCT_TRY(read_special(t, d->config, d->map, key[i], id[i], d->where));
    t->length = 77;
    if (d->config) FCT_TRY(fct_json_i64(&t->length, d->config, "model_max_length", 77, d->where));
    if (t->length < 3 || t->length > (1 << 20))
        return fct_fail(FCT_ERR_RANGE, "%s: model_max_length is %lld", d->where,
                        (long long)t->length);
    return FCT_OK;
}

fct_status fct_tokenizer_new(fct_tokenizer **out, const fct_tokenizer_desc *d)
{
    fct_tokenizer *t = NULL;
    int code;
    PCRE2_SIZE at;
    *out = NULL;
    FCT_TRY(fct_new(&t, 1, sizeof *t));
    fct_status st = fct_bpe_new(&t->bpe, d->vocab, d->merges, d->where);
    if (st == FCT_OK) st = read_settings(t, d);
    if (st == FCT_OK) {
        t->pattern = pcre2_compile((PCRE2_SPTR)word_pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_CASELESS, &code, &at, NULL);
        if (!t->pattern)
            st = fct_fail(FCT_ERR_INTERNAL, "PCRE2 refuses the word pattern (error %d)", code);
    }
    if (st != FCT_OK) {
        fct_tokenizer_close(t);
        return st;
    }
    *out = t;
    return FCT_OK;
}

fct_status fct_tokenizer_open(fct_tokenizer **out, const char *folder)
{
    static const char *const file[4] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    char *path[4] = {0}, *merges = NULL;
    json_t *json[4] = {0};
    int64_t n;
    fct_status st = FCT_OK;
    *out = NULL;
    for (int i = 0; i < 4 && st == FCT_OK; i++) {
        st = fct_path_join(&path[i], folder, file[i]);
        if (st != FCT_OK || (i >= 2 && !fct_path_exists(path[i]))) continue;
        st = i == 1 ? fct_file_read(&merges, &n, path[i]) : fct_json_read(&json[i], path[i]);
    }
    if (st == FCT_OK)
        st = fct_tokenizer_new(out, &(fct_tokenizer_desc){.vocab = json[0],
                                                          .merges = merges,
                                                          .config = json[2],
                                                          .map = json[3],
                                                          .where = folder});
    for (int i = 0; i < 4; i++) {
        fct_free(path[i]);
        json_decref(json[i]);
    }
    fct_free(merges);
    return st;
}

void fct_tokenizer_close(fct_tokenizer *t)
{
    if (!t) return;
    fct_bpe_close(t->bpe);
    for (int64_t i = 0; i < t->n_added; i++) fct_free(t->added[i].text);
    fct_free(t->added);
    pcre2_code_free(t->pattern);
    fct_free(t);
}

int64_t fct_tokenizer_length(const fct_tokenizer *t)
{
    return t->length;
}

/* ---- encoding ---- */

static fct_status encode_words(fct_idlist *out, const fct_tokenizer *t, const char *text, int64_t n)
{
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(t->pattern, NULL);
    if (!match) return fct_fail(FCT_ERR_MEMORY, "out of memory");
    fct_status st = FCT_OK;
    for (PCRE2_SIZE at = 0; st == FCT_OK && at < (PCRE2_SIZE)n;) {
        int found = pcre2_match(t->pattern, (PCRE2_SPTR)text, (PCRE2_SIZE)n, at, 0, match, NULL);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) {
            st = fct_fail(FCT_ERR_INTERNAL, "PCRE2 fails on a prompt (error %d)", found);
            break;
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
        const char *word = text + span[0];
        int64_t len = (int64_t)(span[1] - span[0]);
        at = span[1];
        bool start = len == 15 && memcmp(word, "<|startoftext|>", 15) == 0,
             end = len == 13 && memcmp(word, "<|endoftext|>", 13) == 0;
        if (start || end) { /* never cut into pieces */
            int32_t id = fct_bpe_find(t->bpe, start ? "<|startoftext|>" : "<|endoftext|>");
            st = fct_idlist_add(out, id >= 0 ? id : t->unknown);
        } else {
            st = fct_bpe_encode(out, t->bpe, word, len, t->unknown);
        }
    }
    pcre2_match_data_free(match);
    return st;
}

static fct_status encode_text(fct_idlist *out, const fct_tokenizer *t, const char *text, int64_t n)
{
    fct_str clean = {0};
    fct_status st = fct_text_clean(&clean, text, n);
    if (st == FCT_OK && clean.n > 0) st = encode_words(out, t, clean.p, clean.n);
    fct_str_clear(&clean);
    return st;
}

/* The longest added token that begins here, or NULL. */
static const added_token *added_at(const fct_tokenizer *t, const char *text)
{
    const added_token *best = NULL;
    size_t most = 0;
    for (int64_t i = 0; i < t->n_added; i++) {
        size_t n = strlen(t->added[i].text);
        if (n <= most || strncmp(text, t->added[i].text, n) != 0) continue;
        best = &t->added[i];
        most = n;
    }
    return best;
}

/* Spaces next to an added token only matter through the words they separate, and those are stripped
   anyway; so lstrip and rstrip need nothing here. */
fct_status fct_tokenizer_ids(fct_idlist *out, const fct_tokenizer *t, const char *text)
{
    const char *from = text;
    for (const char *p = text; *p;) {
        const added_token *a = added_at(t, p);
        if (!a) {
            p++;
            continue;
        }
        if (p > from) FCT_TRY(encode_text(out, t, from, p - from));
        FCT_TRY(fct_idlist_add(out, a->id));
        p += strlen(a->text);
        from = p;
    }
    return *from ? encode_text(out, t, from, (int64_t)strlen(from)) : FCT_OK;
}

/* ---- what did not fit, as text again ---- */

/* A piece of the vocabulary back into bytes: 256 and up stand for bytes that are not printable. */
static fct_status put_piece(fct_str *out, const char *piece)
{
    size_t n = strlen(piece);
    bool last = n > 4 && strcmp(piece + n - 4, "</w>") == 0;
    if (last) n -= 4;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k =
            utf8proc_iterate((const utf8proc_uint8_t *)piece + i, (utf8proc_ssize_t)(n - i), &c);
        if (k <= 0) break;
        i += (size_t)k;
        int byte = c < 256 ? c : -1, next = 256;
        for (int b = 0; byte < 0 && b < 256; b++) {
            bool plain = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
            if (!plain && next++ == c) byte = b;
        }
        char raw = (char)byte;
        if (byte >= 0) FCT_TRY(fct_str_append_n(out, &raw, 1));
    }
    return last ? fct_str_append(out, " ") : FCT_OK;
}

static fct_status put_cut(char **out, const fct_tokenizer *t, const int32_t *ids, int64_t n)
{
    fct_str s = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        const char *piece = fct_bpe_text(t->bpe, ids[i]);
        if (piece) st = put_piece(&s, piece);
    }
    while (s.n > 0 && s.p[s.n - 1] == ' ') s.p[--s.n] = '\0';
    if (st == FCT_OK) st = fct_strdup(out, s.p ? s.p : "");
    fct_str_clear(&s);
    return st;
}

fct_status fct_tokenizer_encode(const fct_tokenizer *t, const char *text, int32_t *ids,
                                char **out_cut)
{
    fct_idlist l = {0};
    if (out_cut) *out_cut = NULL;
    fct_status st = fct_tokenizer_ids(&l, t, text);
    int64_t room = t->length - 2, n = l.n < room ? l.n : room;
    if (st == FCT_OK && out_cut && l.n > room) st = put_cut(out_cut, t, l.v + room, l.n - room);
    if (st == FCT_OK) {
        ids[0] = t->start;
        if (n > 0) memcpy(ids + 1, l.v, (size_t)n * sizeof *ids);
        ids[n + 1] = t->end;
        for (int64_t i = n + 2; i < t->length; i++) ids[i] = t->pad;
    }
    fct_free(l.v);
    return st;
}

/* text.h - declares how a prompt becomes token ids, and the CLIP text encoders that run over
   them. */
#ifndef FCT_MODEL_TEXT_TEXT_H
#define FCT_MODEL_TEXT_TEXT_H

#include "model/net/net.h"

/* ---- byte-pair encoding (bpe.c) ---- */

typedef struct fct_bpe fct_bpe;
/* vocab: the object of vocab.json; merges: the text of merges.txt;
   where: their folder, for errors. */
fct_status fct_bpe_new(fct_bpe **out, json_t *vocab, const char *merges,
                       const char *where) FCT_MUST_CHECK;
void fct_bpe_close(fct_bpe *b);
int32_t fct_bpe_find(const fct_bpe *b, const char *token); /* -1: not in the vocabulary */
const char *fct_bpe_text(const fct_bpe *b, int32_t id);    /* NULL: no such id */

/* Release v with fct_free. */
typedef struct fct_idlist {
    int32_t *v;
    int64_t n, cap;
} fct_idlist;
fct_status fct_idlist_add(fct_idlist *l, int32_t id) FCT_MUST_CHECK;
/* Appends the ids of one word given as raw bytes (UTF-8, already lower case);
   unknown pieces become `unknown`. */
fct_status fct_bpe_encode(fct_idlist *out, const fct_bpe *b, const char *word, int64_t n,
                          int32_t unknown) FCT_MUST_CHECK;

/* ---- tokenizer (clip_text.c, tokenizer.c) ---- */

/* transformers' BasicTokenizer as the slow CLIPTokenizer uses it: control characters dropped,
   spaces around CJK, NFC, words joined by one space, full lower case. */
fct_status fct_text_clean(fct_str *out, const char *text, int64_t n) FCT_MUST_CHECK;

typedef struct fct_tokenizer fct_tokenizer;
typedef struct fct_tokenizer_desc {
    json_t *vocab;       /* of vocab.json */
    json_t *config;      /* of tokenizer_config.json; may be NULL */
    json_t *map;         /* of special_tokens_map.json; may be NULL */
    const char *merges;  /* the text of merges.txt */
    const char *where;   /* the folder, for errors */
} fct_tokenizer_desc;
fct_status fct_tokenizer_new(fct_tokenizer **out, const fct_tokenizer_desc *d) FCT_MUST_CHECK;
fct_status fct_tokenizer_open(fct_tokenizer **out, const char *folder) FCT_MUST_CHECK;
void fct_tokenizer_close(fct_tokenizer *t);
int64_t fct_tokenizer_length(const fct_tokenizer *t); /* model_max_length */
/* ids[length]: start, text, end, padding.
   *out_cut (may be NULL): what did not fit, NULL when all did; fct_free. */
fct_status fct_tokenizer_encode(const fct_tokenizer *t, const char *text, int32_t *ids,
                                char **out_cut) FCT_MUST_CHECK;
/* All ids of a text, without start, end, cut or padding. */
fct_status fct_tokenizer_ids(fct_idlist *out, const fct_tokenizer *t,
                             const char *text) FCT_MUST_CHECK;

/* ---- CLIP's text encoders (clip.c) ---- */

typedef struct fct_clip fct_clip;
fct_status fct_clip_open(fct_clip **out, const fct_clip_config *c, const char *folder,
                         const fct_backend *be, fct_dtype dtype) FCT_MUST_CHECK;
void fct_clip_close(fct_clip *c);
/* ids [n,T] -> states [n,T,C] (the penultimate layer's output), in the pass's dtype;
   pooled f32 [n,P] or NULL. */
fct_status fct_clip_encode(fct_rt *rt, const fct_clip *c, const int32_t *ids, int64_t n, int64_t t,
                           fct_tensor states, float *pooled) FCT_MUST_CHECK;

#endif

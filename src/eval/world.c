/* world.c - reads the factors of the demo model's world, and finds which of them a caption names.

   Read from world.json, so that a world with other factors needs no other code. */
#include <string.h>
#include <strings.h>

#include "eval/eval.h"

/* What captions are made of; the locale must not decide. */
static size_t word_length(const char *p)
{
    size_t n = 0;
    while ((p[n] >= '0' && p[n] <= '9') || (p[n] >= 'a' && p[n] <= 'z') ||
           (p[n] >= 'A' && p[n] <= 'Z'))
        n++;
    return n;
}

static fct_status load_words(fct_world_value *v, const json_t *list, const char *where)
{
    if (!json_is_array(list))
        return fct_fail(FCT_ERR_FORMAT, "%s: words: want a list of words", where);
    int64_t n = (int64_t)json_array_size(list);
    FCT_TRY(fct_new(&v->word, n, sizeof *v->word));
    for (; v->n_words < n; v->n_words++) {
        const char *text = json_string_value(json_array_get(list, (size_t)v->n_words));
        if (!text)
            return fct_fail(FCT_ERR_FORMAT, "%s: words: entry %lld is no text", where,
                            (long long)v->n_words);
        if (!*text || text[word_length(text)])
            return fct_fail(FCT_ERR_FORMAT,
                            "%s: words: \"%s\" can never be found in a caption: want one word of "
                            "ASCII letters and digits",
                            where, text);
        FCT_TRY(fct_strdup(&v->word[v->n_words], text));
    }
    return FCT_OK;
}

static fct_status load_factor(fct_world_factor *f, const json_t *o, const char *where)
{
    const char *name = NULL, *unsaid = NULL;
    FCT_TRY(fct_json_str(&name, o, "name", NULL, where));
    FCT_TRY(fct_json_str(&unsaid, o, "unsaid", NULL, where));
    const json_t *values = json_object_get(o, "values");
    if (!name || !json_is_array(values) || json_array_size(values) == 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: a factor needs a name and a list of values", where);
    FCT_TRY(fct_strdup(&f->name, name));
    f->unsaid = -1;
    int64_t n = (int64_t)json_array_size(values);
    FCT_TRY(fct_new(&f->value, n, sizeof *f->value));
    for (; f->n_values < n; f->n_values++) {
        const json_t *v = json_array_get(values, (size_t)f->n_values);
        const char *value = NULL;
        FCT_TRY(fct_json_str(&value, v, "name", NULL, where));
        if (!value)
            return fct_fail(FCT_ERR_FORMAT, "%s: %s: value %lld has no name", where, name,
                            (long long)f->n_values);
        fct_world_value *to = &f->value[f->n_values];
        FCT_TRY(fct_strdup(&to->name, value));
        if (unsaid && strcmp(unsaid, value) == 0) f->unsaid = f->n_values;
        fct_status st = load_words(to, json_object_get(v, "words"), where);
        if (st != FCT_OK) {
            f->n_values++; /* so that what was read of it is released */
            return st;
        }
    }
    if (unsaid && f->unsaid < 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: %s: unsaid: no value is called %s", where, name,
                        unsaid);
    return FCT_OK;
}

fct_status fct_world_load(fct_world *out, const char *path)
{
    fct_status st = FCT_OK;
    json_t *root = NULL;
    *out = (fct_world){0};
    FCT_TRY(fct_json_read(&root, path));
    const json_t *factors = json_object_get(root, "factors");
    int64_t n = (int64_t)json_array_size(factors);
    if (n < 1 || n > FCT_WORLD_MAX_FACTORS) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: factors: want a list of 1 to %d", path,
                      FCT_WORLD_MAX_FACTORS);
        goto out;
    }
    FCT_TRY_OUT(fct_new(&out->factor, n, sizeof *out->factor));
    while (out->n_factors < n) {
        const json_t *o = json_array_get(factors, (size_t)out->n_factors);
        FCT_TRY_OUT(load_factor(&out->factor[out->n_factors++], o, path));
    }
out:
    json_decref(root);
    if (st != FCT_OK) fct_world_clear(out);
    return st;
}

void fct_world_clear(fct_world *w)
{
    for (int64_t i = 0; i < w->n_factors; i++) {
        fct_world_factor *f = &w->factor[i];
        for (int64_t j = 0; f->value && j < f->n_values; j++) {
            for (int64_t k = 0; f->value[j].word && k < f->value[j].n_words; k++)
                fct_free(f->value[j].word[k]);
            fct_free(f->value[j].word);
            fct_free(f->value[j].name);
        }
        fct_free(f->value);
        fct_free(f->name);
    }
    fct_free(w->factor);
    *w = (fct_world){0};
}

static int32_t value_of_word(const fct_world_factor *f, const char *word, size_t n)
{
    for (int64_t v = 0; v < f->n_values; v++)
        for (int64_t k = 0; k < f->value[v].n_words; k++) {
            const char *w = f->value[v].word[k];
            if (strlen(w) == n && strncasecmp(w, word, n) == 0) return (int32_t)v;
        }
    return -1;
}

void fct_world_read_caption(const fct_world *w, const char *caption, int32_t *named)
{
    for (int64_t i = 0; i < w->n_factors; i++) named[i] = -1;
    for (const char *p = caption; *p;) {
        size_t n = word_length(p);
        for (int64_t i = 0; n > 0 && i < w->n_factors; i++)
            if (named[i] < 0) named[i] = value_of_word(&w->factor[i], p, n);
        p += n > 0 ? n : 1;
    }
}

int64_t fct_world_find(const fct_world *w, const char *name)
{
    for (int64_t i = 0; i < w->n_factors; i++)
        if (strcmp(w->factor[i].name, name) == 0) return i;
    return -1;
}

const char *fct_world_word(const fct_world *w, int64_t factor, int64_t value)
{
    return factor < 0 || value < 0 ? "" : w->factor[factor].value[value].name;
}

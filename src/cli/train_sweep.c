/* train_sweep.c - `facet train sweep.json`: a file of configurations becomes the SAEs of one run.
   Every configuration is read as if its options stood on the command line, so the option table
   checks names and ranges here as well. What the file says under "options" comes first, then the
   command line, then the configuration. The authors' own training config is understood as it is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/state.h"
#include "cli/train.h"

struct train_words { /* of one command line; owned */
    char **word;
    int64_t n;
};
typedef struct train_words words;

static void words_clear(words *w)
{
    for (int64_t i = 0; i < w->n; i++) fct_free(w->word[i]);
    fct_free(w->word);
    *w = (words){0};
}

static fct_status add_word(words *w, char *word) /* takes it */
{
    fct_status st = fct_grow(&w->word, w->n, w->n + 1, sizeof *w->word);
    if (st != FCT_OK) {
        fct_free(word);
        return st;
    }
    w->word[w->n++] = word;
    return FCT_OK;
}

/* What was given on the command line, again. */
static fct_status add_given(words *w, const fct_cli *c)
{
    for (int64_t i = 0; i < c->n_values; i++) {
        const fct_cli_value *v = &c->value[i];
        for (int64_t k = 0; k < v->n && v->given; k++) {
            char *word = NULL;
            if (v->row->kind == FCT_CLI_FLAG)
                FCT_TRY(fct_format(&word, "--%s", v->row->name));
            else
                FCT_TRY(fct_format(&word, "--%s=%s", v->row->name, v->text[k]));
            FCT_TRY(add_word(w, word));
        }
    }
    return FCT_OK;
}

/* "k": 4 as --k=4; true is a flag; false and null are as if they were not there. */
static fct_status add_option(words *w, const char *key, const json_t *value)
{
    fct_str text = {0};
    char *word = NULL;
    if (json_is_false(value) || json_is_null(value)) return FCT_OK;
    fct_status st = FCT_OK;
    if (json_is_object(value) || json_is_array(value))
        st = fct_fail(FCT_ERR_FORMAT, "%s: want a number, a text or true", key);
    else if (json_is_string(value))
        st = fct_str_append(&text, json_string_value(value));
    else if (!json_is_true(value))
        st = fct_json_text(&text, value, 0);
    if (st == FCT_OK)
        st = json_is_true(value) ? fct_format(&word, "--%s", key)
                                 : fct_format(&word, "--%s=%s", key, text.p ? text.p : "");
    for (char *p = word; p && *p && *p != '='; p++)
        if (*p == '_') *p = '-';
    if (st == FCT_OK) st = add_word(w, word);
    fct_str_clear(&text);
    return st;
}

static fct_status add_options(words *w, json_t *options)
{
    const char *key;
    json_t *value;
    json_object_foreach(options, key, value) FCT_TRY(add_option(w, key, value));
    return FCT_OK;
}

static fct_status parse(fct_cli **out, const words *w)
{
    bool want_help = false;
    FCT_TRY(fct_new(out, 1, sizeof **out));
    fct_status st = fct_cli_parse(*out, &fct_cmd_train, (int)w->n, w->word, &want_help);
    if (st == FCT_OK && want_help) st = fct_fail(FCT_ERR_FORMAT, "help is no option of a sweep");
    if (st == FCT_OK) st = train_options_check(*out);
    return st;
}

/* ---- the authors' config ---- */

static const struct {
    const char *theirs, *ours;
} authors_run[] = {{"bs", "batch-size"},
                   {"log_interval", "log-every"},
                   {"save_interval", "checkpoint-every"},
                   {"block_name", "block"},
                   {"save_path_base", "output"}},
  authors_sae[] = {{"n_dirs", "n-features"}, {"k", "k"},
                   {"auxk", "auxk"},         {"lr", "lr"},
                   {"eps", "eps"},           {"dead_toks_threshold", "dead-rows"},
                   {"auxk_coef", "aux-coef"}};

static fct_status set(json_t *o, const char *key, json_t *value) /* takes value */
{
    return json_object_set_new(o, key, value) == 0
               ? FCT_OK
               : fct_fail(FCT_ERR_MEMORY, "out of memory: a sweep's configuration");
}

static fct_status translate_sae(json_t *configs, json_t *theirs, int64_t *d)
{
    json_t *ours = json_object();
    if (json_array_append_new(configs, ours) != 0)
        return fct_fail(FCT_ERR_MEMORY, "out of memory: a sweep's configuration");
    for (size_t i = 0; i < FCT_COUNT(authors_sae); i++) {
        json_t *value = json_object_get(theirs, authors_sae[i].theirs);
        bool no_aux = json_is_null(value) && strcmp(authors_sae[i].theirs, "auxk") == 0;
        if (json_is_null(json_object_get(theirs, "auxk")) &&
            strcmp(authors_sae[i].theirs, "auxk_coef") == 0)
            continue; /* of a loss that is not there */
        if (value)
            FCT_TRY(set(ours, authors_sae[i].ours, no_aux ? json_integer(0) : json_incref(value)));
    }
    int64_t own;
    FCT_TRY(fct_json_i64(&own, theirs, "d_model", *d, "sae_configs"));
    if (*d > 0 && own != *d)
        return fct_fail(FCT_ERR_FORMAT, "\"sae_configs\": d_model is %lld and %lld: want one",
                        (long long)*d, (long long)own);
    *d = own;
    return FCT_OK;
}

/* {"sae_configs": [...], "bs": ...} in place of ours; d: the width that it names. */
static fct_status translate(json_t **file, int64_t *d)
{
    fct_status st = FCT_OK;
    json_t *saes = json_object_get(*file, "sae_configs"), *theirs;
    json_t *options = json_object(), *configs = json_array();
    json_t *paths = json_object_get(*file, "paths_to_latents");
    char *block = NULL;
    size_t at;
    for (size_t i = 0; i < FCT_COUNT(authors_run); i++) {
        json_t *value = json_object_get(*file, authors_run[i].theirs);
        if (value) FCT_TRY_OUT(set(options, authors_run[i].ours, json_incref(value)));
    }
    if (json_object_get(options, "block")) { /* stores of imported rows know the short name alone */
        const char *full = json_string_value(json_object_get(options, "block"));
        FCT_TRY_OUT(fct_block_name_short(&block, full ? full : ""));
        FCT_TRY_OUT(set(options, "block", json_string(block)));
    }
    if (json_array_size(paths) > 1) {
        st = fct_fail(FCT_ERR_UNSUPPORTED, "paths_to_latents: %zu folders: want one",
                      json_array_size(paths));
        goto out;
    }
    if (json_array_size(paths) == 1)
        FCT_TRY_OUT(set(options, "store", json_incref(json_array_get(paths, 0))));
    json_array_foreach(saes, at, theirs) FCT_TRY_OUT(translate_sae(configs, theirs, d));
    json_t *ours = json_pack("{s:O, s:O}", "options", options, "configs", configs);
    if (!ours) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: a sweep's configuration");
        goto out;
    }
    json_decref(*file);
    *file = ours;
out:
    fct_free(block);
    json_decref(options);
    json_decref(configs);
    return st;
}

/* ---- the file ---- */

static const char *const known[] = {"store", "blocks", "seeds", "options", "grid", "configs"};

static fct_status check_keys(json_t *file)
{
    const char *key;
    json_t *value;
    json_object_foreach(file, key, value)
    {
        bool fine = false;
        for (size_t i = 0; i < FCT_COUNT(known); i++) fine = fine || strcmp(key, known[i]) == 0;
        if (!fine)
            return fct_fail(FCT_ERR_FORMAT,
                            "\"%s\" is not known: want store, blocks, seeds, options, grid, "
                            "configs (options of the command go under options)",
                            key);
        bool list = json_is_array(value) && json_array_size(value) > 0;
        if ((strcmp(key, "blocks") == 0 || strcmp(key, "seeds") == 0 ||
             strcmp(key, "configs") == 0) &&
            !list)
            return fct_fail(FCT_ERR_FORMAT, "\"%s\": want a list that is not empty", key);
        if ((strcmp(key, "options") == 0 || strcmp(key, "grid") == 0) && !json_is_object(value))
            return fct_fail(FCT_ERR_FORMAT, "\"%s\": want an object", key);
    }
    return FCT_OK;
}

/* Options that all SAEs of a run share, so that no single one can have its own. */
static const char *const of_run[] = {"store",
                                     "block",
                                     "crosscoder",
                                     "output",
                                     "order",
                                     "hold-out",
                                     "checkpoint-every",
                                     "keep-checkpoints",
                                     "log",
                                     "resume",
                                     "tensorboard",
                                     "eval-every",
                                     "log-every",
                                     "tensor",
                                     "shuffle-memory",
                                     "prompts",
                                     "limit",
                                     "denoising-steps",
                                     "at-steps",
                                     "guidance",
                                     "negative",
                                     "branch",
                                     "prompt-seed",
                                     "width",
                                     "height",
                                     "prompt-batch",
                                     "store-dtype",
                                     "model",
                                     "dtype",
                                     "backend",
                                     "json",
                                     "quiet",
                                     "verbose",
                                     "threads",
                                     "help"};

static fct_status check_own(json_t *options)
{
    const char *key;
    json_t *value;
    json_object_foreach(options, key, value) for (size_t i = 0; i < FCT_COUNT(of_run); i++) if (
        strcmp(key, of_run[i]) ==
        0) return fct_fail(FCT_ERR_FORMAT,
                           "\"%s\" is of the whole run: put it under \"options\", or on the "
                           "command line",
                           key);
    return FCT_OK;
}

fct_status train_sweep_open(train_sweep *out, const fct_cli *c, const char *path)
{
    fct_status st = FCT_OK;
    *out = (train_sweep){.given = c};
    FCT_TRY_OUT(fct_json_read(&out->file, path));
    if (!json_is_object(out->file)) {
        st = fct_fail(FCT_ERR_FORMAT, "want an object with a grid or configs");
        goto out;
    }
    if (json_object_get(out->file, "sae_configs")) FCT_TRY_OUT(translate(&out->file, &out->d));
    FCT_TRY_OUT(check_keys(out->file));
    FCT_TRY_OUT(fct_new(&out->words, 1, sizeof *out->words));
    out->n_words = 1;
    json_t *store = json_object_get(out->file, "store"), *list;
    if (store) FCT_TRY_OUT(add_option(&out->words[0], "store", store));
    FCT_TRY_OUT(add_options(&out->words[0], json_object_get(out->file, "options")));
    FCT_TRY_OUT(add_given(&out->words[0], c));
    FCT_TRY_OUT(parse(&out->whole, &out->words[0]));
    out->whole->log = *fct_cli_log(c); /* what opens a model speaks through it */
    out->whole->ranks = c->ranks;      /* whether there are several: not its own to close */
    list = json_object_get(out->file, "blocks");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name) {
            st = fct_fail(FCT_ERR_FORMAT, "\"blocks\": want names of blocks");
            goto out;
        }
        FCT_TRY_OUT(fct_grow(&out->block, out->n_blocks, out->n_blocks + 1, sizeof *out->block));
        out->block[out->n_blocks++] = name;
    }
out:
    if (st != FCT_OK) train_sweep_close(out);
    return fct_where(st, "%s", path);
}

void train_sweep_close(train_sweep *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        if (s->sae[i].c) fct_cli_clear(s->sae[i].c);
        fct_free(s->sae[i].c);
        fct_free(s->sae[i].name);
    }
    if (s->whole) fct_cli_clear(s->whole);
    fct_free(s->whole);
    for (int64_t i = 0; i < s->n_words; i++) words_clear(&s->words[i]);
    fct_free(s->words);
    fct_free(s->sae);
    fct_free(s->block);
    json_decref(s->file);
    *s = (train_sweep){0};
}

/* ---- configurations ---- */

static fct_status add_label(fct_str *label, const char *key, const json_t *value)
{
    fct_str text = {0};
    fct_status st = json_is_string(value) ? fct_str_append(&text, json_string_value(value))
                                          : fct_json_text(&text, value, 0);
    if (st == FCT_OK) st = fct_str_printf(label, "_%s%s", key, text.p ? text.p : "");
    fct_str_clear(&text);
    for (char *p = label->p; p && *p; p++)
        if (*p == '/' || *p == ' ' || *p == '_') *p = *p == '_' ? '_' : '-';
    return st;
}

/* One SAE: stream, options (with or without a seed), and what tells it from its like. */
static fct_status add_sae(train_sweep *s, const train_rows *rows, int64_t stream, json_t *options,
                          const char *label, const json_t *seed)
{
    FCT_TRY(fct_grow(&s->words, s->n_words, s->n_words + 1, sizeof *s->words));
    words *w = &s->words[s->n_words++];
    FCT_TRY(fct_grow(&s->sae, s->n, s->n + 1, sizeof *s->sae));
    train_sae *sae = &s->sae[s->n++];
    sae->stream = stream;
    sae->options = options;
    for (int64_t i = 0; i < s->words[0].n; i++) {
        char *copy = NULL;
        FCT_TRY(fct_strdup(&copy, s->words[0].word[i]));
        FCT_TRY(add_word(w, copy));
    }
    FCT_TRY(add_options(w, options));
    if (seed) FCT_TRY(add_option(w, "seed", seed));
    fct_str name = {0};
    fct_status st = fct_str_printf(&name, "%s%s", rows->stream[stream].block, label);
    if (st == FCT_OK && seed && json_array_size(json_object_get(s->file, "seeds")) > 1)
        st = add_label(&name, "seed", seed);
    if (st == FCT_OK) st = fct_strdup(&sae->name, name.p);
    fct_str_clear(&name);
    if (st == FCT_OK) st = parse(&sae->c, w);
    return fct_where(st, "%s", sae->name ? sae->name : "a configuration");
}

static fct_status add_seeds(train_sweep *s, const train_rows *rows, json_t *options,
                            const char *label)
{
    json_t *seeds = json_object_get(s->file, "seeds");
    for (int64_t stream = 0; stream < rows->n; stream++) {
        if (!seeds) FCT_TRY(add_sae(s, rows, stream, options, label, NULL));
        for (size_t i = 0; i < json_array_size(seeds); i++)
            FCT_TRY(add_sae(s, rows, stream, options, label, json_array_get(seeds, i)));
    }
    return FCT_OK;
}

/* Every combination of the grid's values, the last name running fastest. */
static fct_status add_grid(train_sweep *s, const train_rows *rows, json_t *grid)
{
    int64_t total = 1;
    const char *key;
    json_t *value;
    FCT_TRY(check_own(grid));
    json_object_foreach(grid, key, value)
    {
        if (!json_is_array(value) || json_array_size(value) == 0)
            return fct_fail(FCT_ERR_FORMAT, "\"grid\": %s: want a list of values", key);
        FCT_TRY(fct_mul_i64(&total, total, (int64_t)json_array_size(value)));
    }
    if (total > 10000)
        return fct_fail(FCT_ERR_RANGE, "\"grid\" gives %lld SAEs: want at most 10000",
                        (long long)total);
    for (int64_t i = 0; i < total; i++) {
        json_t *one = json_object();
        fct_str label = {0};
        fct_status st = FCT_OK;
        int64_t left = i, below = total;
        json_object_foreach(grid, key, value)
        {
            int64_t n = (int64_t)json_array_size(value);
            below /= n;
            json_t *chosen = json_array_get(value, (size_t)(left / below));
            left %= below;
            if (st == FCT_OK) st = set(one, key, json_incref(chosen));
            if (st == FCT_OK && n > 1) st = add_label(&label, key, chosen);
        }
        if (st == FCT_OK && json_array_append(s->file_made, one) != 0)
            st = fct_fail(FCT_ERR_MEMORY, "out of memory: a sweep's configuration");
        if (st == FCT_OK) st = add_seeds(s, rows, one, label.p ? label.p : "");
        json_decref(one);
        fct_str_clear(&label);
        if (st != FCT_OK) return st;
    }
    return FCT_OK;
}

/* Whether the configurations say different things of it; one without an aux loss says nothing of
 * its weight. */
static bool differs(const train_sweep *s, const char *key)
{
    json_t *configs = json_object_get(s->file, "configs"), *config, *first = NULL;
    bool seen = false, weight = strcmp(key, "aux-coef") == 0;
    size_t at;
    json_array_foreach(configs, at, config)
    {
        const json_t *auxk = json_object_get(config, "auxk");
        json_t *value = json_object_get(config, key);
        if (weight && json_is_integer(auxk) && json_integer_value(auxk) == 0) continue;
        if (!seen) first = value;
        seen = true;
        if ((value == NULL) != (first == NULL) || (value && !json_equal(value, first))) return true;
    }
    return false;
}

static fct_status add_config(train_sweep *s, const train_rows *rows, json_t *config)
{
    const char *name = NULL, *key;
    json_t *value, *own;
    fct_str label = {0};
    fct_status st = FCT_OK;
    if (!json_is_object(config))
        return fct_fail(FCT_ERR_FORMAT, "\"configs\": want objects of options");
    own = json_copy(config);
    if (!own || json_array_append_new(s->file_made, own) != 0)
        return fct_fail(FCT_ERR_MEMORY, "out of memory: a sweep's configuration");
    FCT_TRY_OUT(fct_json_str(&name, config, "name", NULL, "configs"));
    (void)json_object_del(own, "name");
    FCT_TRY_OUT(check_own(own));
    if (name && (strpbrk(name, "/\\") || strcmp(name, "..") == 0)) {
        st = fct_fail(FCT_ERR_FORMAT, "\"name\": %s: want a name without slashes", name);
        goto out;
    }
    if (name)
        FCT_TRY_OUT(fct_str_printf(&label, "_%s", name));
    else
        json_object_foreach(own, key, value)
        {
            if (differs(s, key)) FCT_TRY_OUT(add_label(&label, key, value));
        }
    FCT_TRY_OUT(add_seeds(s, rows, own, label.p ? label.p : ""));
out:
    fct_str_clear(&label);
    return st;
}

fct_status train_sweep_list(train_sweep *s, const train_rows *rows)
{
    json_t *grid = json_object_get(s->file, "grid"), *configs = json_object_get(s->file, "configs");
    json_t *config;
    size_t at;
    for (int64_t i = 0; i < rows->n && s->d > 0; i++)
        if (rows->source[i].d != s->d)
            return fct_fail(FCT_ERR_SHAPE, "d_model is %lld, rows of %s have %lld numbers",
                            (long long)s->d, rows->stream[i].block, (long long)rows->source[i].d);
    s->file_made = json_array(); /* kept alive by the file */
    FCT_TRY(set(s->file, "made", s->file_made));
    if (grid || !configs) {
        json_t *all = grid ? json_incref(grid) : json_object();
        fct_status st = add_grid(s, rows, all);
        json_decref(all);
        FCT_TRY(st);
    }
    json_array_foreach(configs, at, config) FCT_TRY(add_config(s, rows, config));
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < i; k++)
            if (strcmp(s->sae[i].name, s->sae[k].name) == 0)
                return fct_fail(FCT_ERR_FORMAT,
                                "two configurations are called %s: give them names (\"name\")",
                                s->sae[i].name);
    return FCT_OK;
}

/* sweep.c - reads a sweep, a JSON file of several trainings on one pass over rows, and lists them:
   blocks x configurations x seeds. Options go by the table of options.c, so names, types and ranges
   are checked as everywhere. What the file says under "options" comes first, then what the caller
   adds (a command line), then the configuration. The training config of sdxl-unbox is
   understood too (sweep_unbox.c). */
#include "train/sweep.h"

#include <string.h>

#include "base/option.h"

enum { MAX_TRAININGS = 10000 };

struct fct_sweep {
    json_t *file;   /* translated; the texts of options are its */
    json_t *chosen; /* the configurations of the grid and of configs, as options */
    int64_t d;      /* the width that the file names; 0: none */
    fct_sweep_info info;
    const char **block;
    char *rest;
    fct_sweep_item *item; /* [n]: names and options' texts are owned */
    int64_t n;
};

/* ---- the file ---- */

static const struct part {
    const char *name;
    bool list, object;
} part_table[] = {{"store", false, false},  {"blocks", true, false}, {"seeds", true, false},
                  {"options", false, true}, {"grid", false, true},   {"configs", true, false}};

static fct_status check_parts(json_t *file)
{
    const char *key;
    json_t *value;
    json_object_foreach(file, key, value)
    {
        const struct part *p = NULL;
        for (size_t i = 0; i < FCT_COUNT(part_table); i++)
            if (strcmp(key, part_table[i].name) == 0) p = &part_table[i];
        if (!p)
            return fct_fail(FCT_ERR_FORMAT,
                            "\"%s\" is not known: want store, blocks, seeds, options, grid, "
                            "configs (options of the command go under options)",
                            key);
        if (p->list && (!json_is_array(value) || json_array_size(value) == 0))
            return fct_fail(FCT_ERR_FORMAT, "\"%s\": want a list that is not empty", key);
        if (p->object && !json_is_object(value))
            return fct_fail(FCT_ERR_FORMAT, "\"%s\": want an object", key);
    }
    return FCT_OK;
}

static fct_status read_blocks(fct_sweep *s)
{
    const json_t *list = json_object_get(s->file, "blocks");
    int64_t n = (int64_t)json_array_size(list);
    FCT_TRY(fct_new(&s->block, n, sizeof *s->block));
    for (int64_t i = 0; i < n; i++) {
        s->block[i] = json_string_value(json_array_get(list, (size_t)i));
        if (!s->block[i]) return fct_fail(FCT_ERR_FORMAT, "\"blocks\": want names of blocks");
    }
    s->info.block = s->block;
    s->info.n_blocks = n;
    return FCT_OK;
}

/* What is left for the caller: a store, and what no row of the table knows. */
static fct_status read_rest(fct_sweep *s)
{
    fct_str text = {0};
    json_t *rest = json_object(), *value, *store = json_object_get(s->file, "store");
    const char *key;
    fct_status st = rest ? FCT_OK : fct_sweep_fail_memory();
    if (store && st == FCT_OK) st = fct_sweep_set(rest, "store", json_incref(store));
    json_object_foreach(json_object_get(s->file, "options"), key, value)
    {
        if (st == FCT_OK && !fct_option_find(fct_train_table(), key))
            st = fct_sweep_set(rest, key, json_incref(value));
    }
    if (st == FCT_OK) st = fct_json_text(&text, rest, 0);
    if (st == FCT_OK) st = fct_strdup(&s->rest, text.p);
    s->info.rest = s->rest;
    fct_str_clear(&text);
    json_decref(rest);
    return st;
}

fct_status fct_sweep_open(fct_sweep **out, const char *path)
{
    fct_status st = FCT_OK;
    fct_sweep *s = NULL;
    *out = NULL;
    FCT_TRY_OUT(fct_new(&s, 1, sizeof *s));
    FCT_TRY_OUT(fct_json_read(&s->file, path));
    if (!json_is_object(s->file)) {
        st = fct_fail(FCT_ERR_FORMAT, "want an object with a grid or configs");
        goto out;
    }
    if (json_object_get(s->file, "sae_configs")) FCT_TRY_OUT(fct_sweep_translate(&s->file, &s->d));
    FCT_TRY_OUT(check_parts(s->file));
    FCT_TRY_OUT(read_blocks(s));
    FCT_TRY_OUT(read_rest(s));
    *out = s;
    s = NULL;
out:
    fct_sweep_close(s);
    return fct_where(st, "%s", path);
}

static void forget_items(fct_sweep *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        fct_free((char *)(uintptr_t)s->item[i].name);
        fct_free((char *)(uintptr_t)s->item[i].options);
    }
    fct_free(s->item);
    json_decref(s->chosen);
    s->item = NULL;
    s->chosen = NULL;
    s->n = 0;
}

void fct_sweep_close(fct_sweep *s)
{
    if (!s) return;
    forget_items(s);
    fct_free(s->block);
    fct_free(s->rest);
    json_decref(s->file);
    fct_free(s);
}

const fct_sweep_info *fct_sweep_get_info(const fct_sweep *s)
{
    return &s->info;
}

/* ---- options ---- */

/* false and null are as if they were not there; a number may be written as a text. */
static fct_status read_option(fct_train_desc *desc, const char *key, const json_t *value)
{
    const fct_option *row = fct_option_find(fct_train_table(), key);
    if (json_is_false(value) || json_is_null(value)) return FCT_OK;
    const char *text = json_string_value(value);
    fct_status st = text ? fct_option_parse(desc, row, text) : fct_option_of_json(desc, row, value);
    if (st == FCT_ERR_ARG && text)
        st = fct_fail(FCT_ERR_FORMAT, "%s, found \"%s\"", fct_error_text(), text);
    else if (st == FCT_ERR_ARG)
        st = FCT_ERR_FORMAT;
    return fct_where(st, "%s", fct_spell(key, FCT_SPELL_JSON).text);
}

fct_status fct_sweep_read(const fct_sweep *s, fct_train_desc *desc)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(s->file, "options"), key, value)
    {
        if (fct_option_find(fct_train_table(), key)) FCT_TRY(read_option(desc, key, value));
    }
    return FCT_OK;
}

/* Options that all trainings of a run share, so that no single one can have its own. */
static bool is_of_run(const fct_option *row)
{
    static const char *const name[] = {"checkpoint_every", "keep_checkpoints", "log",
                                       "log_every",        "tensorboard",      "eval_every"};
    for (size_t i = 0; i < FCT_COUNT(name); i++)
        if (strcmp(row->name, name[i]) == 0) return true;
    return false;
}

static fct_status fail_unknown(const char *key)
{
    const char *known[64];
    int64_t n = 0;
    for (const fct_option *row = fct_train_table(); row->name; row++)
        if (!is_of_run(row) && n < (int64_t)FCT_COUNT(known)) known[n++] = row->name;
    const char *near = fct_nearest_word(key, known, n);
    if (near)
        return fct_fail(FCT_ERR_FORMAT, "\"%s\" is not known; did you mean \"%s\"?", key, near);
    return fct_fail(FCT_ERR_FORMAT,
                    "\"%s\" is of the whole run, or no option: one of a training is wanted here; "
                    "those of the run go under \"options\", or on the command line",
                    key);
}

static fct_status check_own(json_t *options)
{
    const char *key;
    json_t *value;
    json_object_foreach(options, key, value)
    {
        const fct_option *row = fct_option_find(fct_train_table(), key);
        if (!row) return fail_unknown(key);
        if (is_of_run(row))
            return fct_fail(FCT_ERR_FORMAT,
                            "\"%s\" is of the whole run: put it under \"options\", or on the "
                            "command line",
                            key);
    }
    return FCT_OK;
}

/* ---- the list ---- */

/* What all trainings of a list have in common. */
typedef struct listing {
    fct_sweep *s;
    const fct_train_desc *base;
    const fct_row_part *stream;
    int64_t n_streams;
} listing;

static fct_status add_label(fct_str *label, const char *key, const json_t *value)
{
    fct_str text = {0};
    fct_status st = json_is_string(value) ? fct_str_append(&text, json_string_value(value))
                                          : fct_json_text(&text, value, 0);
    if (st == FCT_OK) st = fct_str_printf(label, "_%s%s", key, text.p ? text.p : "");
    fct_str_clear(&text);
    for (char *p = label->p; p && *p; p++)
        if (*p == '/' || *p == ' ') *p = '-';
    return st;
}

static fct_status name_item(fct_sweep_item *item, const listing *l, const char *label,
                            const json_t *seed)
{
    fct_str name = {0};
    char *owned = NULL;
    fct_status st = fct_str_printf(&name, "%s%s", l->stream[item->stream].name, label);
    if (st == FCT_OK && seed && json_array_size(json_object_get(l->s->file, "seeds")) > 1)
        st = add_label(&name, "seed", seed);
    if (st == FCT_OK) st = fct_strdup(&owned, name.p);
    item->name = owned;
    fct_str_clear(&name);
    return st;
}

static fct_status read_item(fct_sweep_item *item, json_t *options, const json_t *seed)
{
    fct_str text = {0};
    char *owned = NULL;
    const char *key;
    json_t *value;
    fct_status st = fct_json_text(&text, options, 0);
    if (st == FCT_OK) st = fct_strdup(&owned, text.p);
    item->options = owned;
    fct_str_clear(&text);
    FCT_TRY(st);
    json_object_foreach(options, key, value) FCT_TRY(read_option(&item->desc, key, value));
    if (seed) FCT_TRY(read_option(&item->desc, "seed", seed));
    return fct_train_desc_check(&item->desc);
}

static fct_status add_item(const listing *l, int64_t stream, json_t *options, const char *label,
                           const json_t *seed)
{
    fct_sweep *s = l->s;
    FCT_TRY(fct_grow(&s->item, s->n, s->n + 1, sizeof *s->item));
    fct_sweep_item *item = &s->item[s->n++];
    *item = (fct_sweep_item){.stream = stream, .desc = *l->base};
    item->desc.spelling = FCT_SPELL_JSON;
    FCT_TRY(name_item(item, l, label, seed));
    return fct_where(read_item(item, options, seed), "%s", item->name);
}

static fct_status add_seeds(const listing *l, json_t *options, const char *label)
{
    json_t *seeds = json_object_get(l->s->file, "seeds");
    for (int64_t stream = 0; stream < l->n_streams; stream++) {
        if (!seeds) FCT_TRY(add_item(l, stream, options, label, NULL));
        for (size_t i = 0; i < json_array_size(seeds); i++)
            FCT_TRY(add_item(l, stream, options, label, json_array_get(seeds, i)));
    }
    return FCT_OK;
}

static fct_status count_grid(json_t *grid, int64_t *out)
{
    const char *key;
    json_t *value;
    *out = 1;
    json_object_foreach(grid, key, value)
    {
        if (!json_is_array(value) || json_array_size(value) == 0)
            return fct_fail(FCT_ERR_FORMAT, "\"grid\": %s: want a list of values", key);
        FCT_TRY(fct_mul_i64(out, *out, (int64_t)json_array_size(value)));
    }
    if (*out <= MAX_TRAININGS) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE, "\"grid\" gives %lld SAEs: want at most %d", (long long)*out,
                    MAX_TRAININGS);
}

/* Combination number i of the grid's values, the last name running fastest. */
static fct_status choose(json_t *one, fct_str *label, json_t *grid, int64_t i, int64_t total)
{
    const char *key;
    json_t *value;
    json_object_foreach(grid, key, value)
    {
        int64_t n = (int64_t)json_array_size(value);
        total /= n;
        json_t *chosen = json_array_get(value, (size_t)(i / total));
        i %= total;
        FCT_TRY(fct_sweep_set(one, key, json_incref(chosen)));
        if (n > 1) FCT_TRY(add_label(label, key, chosen));
    }
    return FCT_OK;
}

static fct_status add_grid(const listing *l, json_t *grid)
{
    int64_t total;
    FCT_TRY(check_own(grid));
    FCT_TRY(count_grid(grid, &total));
    for (int64_t i = 0; i < total; i++) {
        json_t *one = json_object();
        fct_str label = {0};
        if (json_array_append_new(l->s->chosen, one) != 0) return fct_sweep_fail_memory();
        fct_status st = choose(one, &label, grid, i, total);
        if (st == FCT_OK) st = add_seeds(l, one, label.p ? label.p : "");
        fct_str_clear(&label);
        FCT_TRY(st);
    }
    return FCT_OK;
}

/* Whether the configurations say different things of it; one without an aux loss says nothing of
   its weight. */
static bool differs(const fct_sweep *s, const char *key)
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

/* By its name, else by what tells it from the others. */
static fct_status label_config(fct_str *label, const fct_sweep *s, json_t *config, json_t *own)
{
    const char *name = NULL, *key;
    json_t *value;
    FCT_TRY(fct_json_str(&name, config, "name", NULL, "configs"));
    if (name && (strpbrk(name, "/\\") || strcmp(name, "..") == 0))
        return fct_fail(FCT_ERR_FORMAT, "\"name\": %s: want a name without slashes", name);
    if (name) return fct_str_printf(label, "_%s", name);
    json_object_foreach(own, key, value)
    {
        if (differs(s, key)) FCT_TRY(add_label(label, key, value));
    }
    return FCT_OK;
}

static fct_status add_config(const listing *l, json_t *config)
{
    fct_str label = {0};
    if (!json_is_object(config))
        return fct_fail(FCT_ERR_FORMAT, "\"configs\": want objects of options");
    json_t *own = json_copy(config);
    if (json_array_append_new(l->s->chosen, own) != 0) return fct_sweep_fail_memory();
    (void)json_object_del(own, "name");
    FCT_TRY(check_own(own));
    fct_status st = label_config(&label, l->s, config, own);
    if (st == FCT_OK) st = add_seeds(l, own, label.p ? label.p : "");
    fct_str_clear(&label);
    return st;
}

static fct_status check_widths(const listing *l)
{
    for (int64_t i = 0; i < l->n_streams && l->s->d > 0; i++)
        if (l->stream[i].d != l->s->d)
            return fct_fail(FCT_ERR_SHAPE, "d_model is %lld, rows of %s have %lld numbers",
                            (long long)l->s->d, l->stream[i].name, (long long)l->stream[i].d);
    return FCT_OK;
}

static fct_status check_names(const fct_sweep *s)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < i; k++)
            if (strcmp(s->item[i].name, s->item[k].name) == 0)
                return fct_fail(FCT_ERR_FORMAT,
                                "two configurations are called %s: give them names (\"name\")",
                                s->item[i].name);
    return FCT_OK;
}

/* Without a grid and without configs there is one configuration, which says nothing. */
static fct_status add_all(const listing *l)
{
    json_t *grid = json_object_get(l->s->file, "grid"), *config;
    json_t *configs = json_object_get(l->s->file, "configs");
    size_t at;
    FCT_TRY(check_widths(l));
    if (grid || !configs) {
        json_t *all = grid ? json_incref(grid) : json_object();
        fct_status st = add_grid(l, all);
        json_decref(all);
        FCT_TRY(st);
    }
    json_array_foreach(configs, at, config) FCT_TRY(add_config(l, config));
    return check_names(l->s);
}

fct_status fct_sweep_list(fct_sweep *s, const fct_train_desc *base, const fct_row_part *stream,
                          int64_t n_streams, const fct_sweep_item **out, int64_t *out_n)
{
    const listing l = {s, base, stream, n_streams};
    forget_items(s);
    *out = NULL;
    *out_n = 0;
    s->chosen = json_array();
    if (!s->chosen) return fct_sweep_fail_memory();
    FCT_TRY(add_all(&l));
    *out = s->item;
    *out_n = s->n;
    return FCT_OK;
}

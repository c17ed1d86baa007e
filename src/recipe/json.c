/* json.c - writes edits and recipes as JSON, and reads them back.

   What facet writes holds everything: mask pictures and source recipes travel inside. A recipe
   written by hand needs "format" and "prompt" and may leave the rest to the model's defaults.
   Unknown keys are refused: a misspelt option that is silently dropped would make another picture.
   Edits and recipes share this file because each may hold the other: an edit takes features from a
   recipe, and a recipe has edits. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/option.h"
#include "recipe/recipe.h"

enum { RECIPE_VERSION = 1, MAX_ITEMS = 4096, MAX_EDITS = 4096, MAX_THREADS = 1 << 16 };

/* What a recipe says of each picture. */
static const fct_option item_table[] = {
    {.name = "prompt", .kind = FCT_OPTION_TEXT, .at = offsetof(fct_run_item, prompt)},
    {.name = "prompt_2", .kind = FCT_OPTION_TEXT, .at = offsetof(fct_run_item, prompt_2)},
    {.name = "seed",
     .kind = FCT_OPTION_U64,
     .at = offsetof(fct_run_item, seed),
     .hi = 18446744073709551615.0},
    {0}};

/* ---- writing edits ---- */

static fct_status put_source(json_t *o, const fct_edit *e)
{
    json_t *features = json_array(), *source = NULL;
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < e->n_features && st == FCT_OK; i++)
        if (json_array_append_new(features, json_integer(e->features[i])) != 0)
            st = fct_fail(FCT_ERR_MEMORY, "out of memory");
    if (st != FCT_OK) {
        json_decref(features);
        return st;
    }
    FCT_TRY(fct_json_put(o, "features", features));
    if (e->source_path) FCT_TRY(fct_json_put(o, "source_path", json_string(e->source_path)));
    if (!e->source) return FCT_OK;
    FCT_TRY(fct_recipe_to_json(&source, e->source));
    return fct_json_put(o, "source", source);
}

static fct_status put_edit(json_t *o, const fct_edit *e)
{
    json_t *mask = NULL;
    FCT_TRY(fct_json_put(o, "block", json_string(e->block ? e->block : "")));
    if (fct_edit_has_feature(e->op)) FCT_TRY(fct_json_put(o, "feature", json_integer(e->feature)));
    FCT_TRY(fct_json_put(o, "op", json_string(fct_edit_op_names[e->op])));
    if (fct_edit_has_feature(e->op) || e->op == FCT_EDIT_FROM)
        FCT_TRY(fct_json_put(o, "value", json_real(e->value)));
    if (e->op == FCT_EDIT_FROM) FCT_TRY(put_source(o, e));
    if (e->op == FCT_EDIT_ADD || e->op == FCT_EDIT_SET || e->op == FCT_EDIT_ONLY)
        FCT_TRY(fct_json_put(o, "unit", json_string(fct_edit_unit_names[e->unit])));
    if (e->mask.kind != FCT_MASK_NONE) {
        FCT_TRY(fct_mask_to_json(&mask, &e->mask));
        FCT_TRY(fct_json_put(o, "mask", mask));
    }
    if (e->first_step > 0)
        FCT_TRY(fct_json_put(
            o, "steps", json_pack("[I,I]", (json_int_t)e->first_step, (json_int_t)e->last_step)));
    if (e->branch != FCT_HALF_DEFAULT)
        FCT_TRY(fct_json_put(o, "branch", json_string(fct_half_name(e->branch))));
    return e->is_static ? fct_json_put(o, "static", json_true()) : FCT_OK;
}

fct_status fct_edit_to_json(json_t **out, const fct_edit *e)
{
    json_t *o = json_object();
    fct_status st = put_edit(o, e);
    *out = st == FCT_OK ? o : NULL;
    if (st != FCT_OK) json_decref(o);
    return st;
}

/* ---- writing recipes ---- */

static fct_status put_text(json_t *o, const char *key, const char *text)
{
    return text ? fct_json_put(o, key, json_string(text)) : FCT_OK;
}

static fct_status put_item(json_t *o, const fct_run_item *item)
{
    json_t *seed;
    FCT_TRY(fct_json_put(o, "prompt", json_string(item->prompt ? item->prompt : "")));
    FCT_TRY(put_text(o, "prompt_2", item->prompt_2));
    FCT_TRY(fct_option_to_json(&seed, fct_option_find(item_table, "seed"), item));
    return fct_json_put(o, "seed", seed ? seed : json_integer(0));
}

static fct_status append(json_t *list, json_t *value)
{
    return value && json_array_append_new(list, value) == 0
               ? FCT_OK
               : fct_fail(FCT_ERR_MEMORY, "out of memory while building JSON");
}

static fct_status put_items(json_t *o, const fct_recipe *r)
{
    if (r->n_items == 1) return put_item(o, &r->item[0]);
    json_t *list = json_array();
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < r->n_items && st == FCT_OK; i++) {
        json_t *item = json_object();
        st = put_item(item, &r->item[i]);
        if (st == FCT_OK)
            st = append(list, item);
        else
            json_decref(item);
    }
    if (st == FCT_OK)
        st = fct_json_put(o, "items", list);
    else
        json_decref(list);
    if (st == FCT_OK) st = fct_json_put(o, "index", json_integer(r->index));
    return st == FCT_OK ? fct_json_put(o, "joint_noise", json_boolean(r->settings.joint_noise))
                        : st;
}

static fct_status put_model(json_t *o, const fct_recipe *r)
{
    json_t *model = json_object();
    fct_status st = put_text(model, "name", r->model);
    if (st == FCT_OK) st = put_text(model, "path", r->model_path);
    if (st == FCT_OK) st = put_text(model, "hash", r->model_hash);
    if (st == FCT_OK && json_object_size(model) > 0) return fct_json_put(o, "model", model);
    json_decref(model);
    return st;
}

/* The seed and how noise is shared stand with the items, where they are several. */
static fct_status put_settings(json_t *o, const fct_recipe *r)
{
    fct_settings s = r->settings;
    s.seed = 0;
    s.joint_noise = false;
    FCT_TRY(fct_options_to_json(o, fct_model_table(), &r->engine));
    if (r->threads != 0) FCT_TRY(fct_json_put(o, "threads", json_integer(r->threads)));
    FCT_TRY(put_text(o, "plan", r->plan));
    FCT_TRY(put_text(o, "sampler", r->sampler));
    FCT_TRY(put_items(o, r));
    return fct_options_to_json(o, fct_settings_table(), &s);
}

static fct_status put_saes(json_t *o, const fct_recipe *r)
{
    json_t *list = json_array();
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < r->n_saes && st == FCT_OK; i++) {
        json_t *s = json_object();
        st = put_text(s, "block", r->sae[i].block);
        if (st == FCT_OK) st = put_text(s, "path", r->sae[i].path);
        if (st == FCT_OK) st = put_text(s, "hash", r->sae[i].hash);
        if (st == FCT_OK) st = put_text(s, "stats_hash", r->sae[i].stats_hash);
        if (st == FCT_OK)
            st = append(list, s);
        else
            json_decref(s);
    }
    if (st == FCT_OK && r->n_saes > 0) return fct_json_put(o, "saes", list);
    json_decref(list);
    return st;
}

static fct_status put_edits(json_t *o, const fct_recipe *r)
{
    json_t *list = json_array(), *e = NULL;
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < r->n_edits && st == FCT_OK; i++) {
        st = fct_edit_to_json(&e, &r->edit[i]);
        if (st == FCT_OK) st = append(list, e);
    }
    if (st == FCT_OK && r->n_edits > 0) return fct_json_put(o, "edits", list);
    json_decref(list);
    return st;
}

fct_status fct_recipe_to_json(json_t **out, const fct_recipe *r)
{
    json_t *o = json_object();
    fct_status st = fct_json_put(o, "format", json_string("facet-recipe"));
    if (st == FCT_OK) st = fct_json_put(o, "version", json_integer(RECIPE_VERSION));
    if (st == FCT_OK) st = put_text(o, "facet", r->version);
    if (st == FCT_OK) st = put_model(o, r);
    if (st == FCT_OK) st = put_settings(o, r);
    if (st == FCT_OK) st = put_saes(o, r);
    if (st == FCT_OK) st = put_edits(o, r);
    *out = st == FCT_OK ? o : NULL;
    if (st != FCT_OK) json_decref(o);
    return fct_where(st, "writing a recipe");
}

fct_status fct_recipe_text(char **out, const fct_recipe *r)
{
    json_t *j = NULL;
    fct_str s = {0};
    *out = NULL;
    FCT_TRY(fct_recipe_to_json(&j, r));
    fct_status st = fct_json_text(&s, j, 2);
    if (st == FCT_OK) st = fct_str_append(&s, "\n");
    json_decref(j);
    if (st == FCT_OK)
        *out = s.p;
    else
        fct_str_clear(&s);
    return st;
}

fct_status fct_recipe_write(const fct_recipe *r, const char *path)
{
    json_t *j = NULL;
    FCT_TRY(fct_recipe_to_json(&j, r));
    fct_status st = fct_json_write(j, path);
    json_decref(j);
    return st;
}

/* ---- reading edits ---- */

static fct_status choose(int *out, const json_t *j, const char *key, const char *const *names,
                         int n, const char *where)
{
    const char *text;
    *out = 0;
    FCT_TRY(fct_json_str(&text, j, key, NULL, where));
    if (!text) return FCT_OK;
    *out = fct_name_find(names, n, text);
    if (*out >= 0) return FCT_OK;
    fct_str list = {0};
    fct_status st = FCT_OK;
    for (int i = 0; i < n && st == FCT_OK; i++)
        st = fct_str_printf(&list, "%s%s", i ? ", " : "", names[i]);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_FORMAT, "%s: %s \"%s\" is not one of %s", where, key, text, list.p);
    fct_str_clear(&list);
    return st;
}

static fct_status read_steps(fct_edit *e, const json_t *j, const char *where)
{
    const json_t *steps = json_object_get(j, "steps");
    if (!steps) return FCT_OK;
    const json_t *a = json_array_get(steps, 0), *b = json_array_get(steps, 1);
    e->first_step = json_integer_value(a);
    e->last_step = json_integer_value(b);
    if (json_array_size(steps) != 2 || !json_is_integer(a) || !json_is_integer(b) ||
        e->first_step < 1 || e->last_step < e->first_step || e->last_step > FCT_EDIT_MAX_STEPS)
        return fct_fail(FCT_ERR_FORMAT, "%s: steps: want [first, last], counted from 1", where);
    return FCT_OK;
}

static fct_status read_source(fct_edit *e, const json_t *j, const char *where, int depth)
{
    const json_t *list = json_object_get(j, "features"), *source = json_object_get(j, "source");
    size_t n = json_array_size(list);
    if (n < 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: features: want a list of features to take", where);
    FCT_TRY(fct_new(&e->features, (int64_t)n, (int64_t)sizeof *e->features));
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        int64_t f = json_integer_value(v);
        if (!json_is_integer(v) || f < 0 || f > FCT_EDIT_MAX_FEATURE)
            return fct_fail(FCT_ERR_FORMAT, "%s: features: number %zu is not a feature", where,
                            i + 1);
        for (int64_t k = 0; k < e->n_features; k++)
            if (e->features[k] == f)
                return fct_fail(FCT_ERR_FORMAT, "%s: feature %" PRId64 " is listed twice", where,
                                f);
        e->features[e->n_features++] = f;
    }
    FCT_TRY(fct_json_dup(&e->source_path, j, "source_path", where));
    if (json_is_string(source) && !e->source_path)
        return fct_strdup(&e->source_path, json_string_value(source));
    if (!source && e->source_path) return FCT_OK;
    if (!source)
        return fct_fail(FCT_ERR_FORMAT, "%s: source: want a recipe, or source_path", where);
    if (depth >= FCT_EDIT_MAX_DEPTH)
        return fct_fail(FCT_ERR_FORMAT, "%s: recipes inside recipes more than %d deep", where,
                        FCT_EDIT_MAX_DEPTH);
    fct_recipe *r = NULL;
    FCT_TRY(fct_new(&r, 1, (int64_t)sizeof *r));
    fct_status st = fct_recipe_of_json(r, source, "source", depth + 1);
    if (st == FCT_OK)
        e->source = r;
    else
        fct_free(r);
    return fct_where(st, "%s", where);
}

static fct_status read_value(fct_edit *e, const json_t *j, const char *where)
{
    bool has_value = json_is_number(json_object_get(j, "value"));
    if (fct_edit_has_feature(e->op) && e->feature < 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: op \"%s\" acts on a feature: feature is missing",
                        where, fct_edit_op_names[e->op]);
    if (!fct_edit_has_feature(e->op) && json_object_get(j, "feature"))
        return fct_fail(FCT_ERR_FORMAT, "%s: op \"%s\" has no feature", where,
                        fct_edit_op_names[e->op]);
    if (fct_edit_has_feature(e->op) && !has_value)
        return fct_fail(FCT_ERR_FORMAT, "%s: op \"%s\" needs a value", where,
                        fct_edit_op_names[e->op]);
    FCT_TRY(fct_json_f64(&e->value, j, "value", e->op == FCT_EDIT_FROM ? 1 : 0, where));
    if (!(e->value >= -FCT_EDIT_MAX_STRENGTH && e->value <= FCT_EDIT_MAX_STRENGTH))
        return fct_fail(FCT_ERR_FORMAT, "%s: value is not between -1e6 and 1e6", where);
    if (e->feature < 0) e->feature = 0;
    return FCT_OK;
}

static fct_status edit_of_object(fct_edit *e, const json_t *j, const char *where, int depth)
{
    static const char *const keys[] = {"block",  "feature", "op",          "value",
                                       "unit",   "mask",    "steps",       "branch",
                                       "static", "source",  "source_path", "features"};
    const char *const halves[] = {fct_half_name(FCT_HALF_DEFAULT), fct_half_name(FCT_HALF_COND),
                                  fct_half_name(FCT_HALF_UNCOND), fct_half_name(FCT_HALF_BOTH)};
    int op, unit, half;
    FCT_TRY(fct_json_only(j, keys, FCT_COUNT(keys), where));
    FCT_TRY(fct_json_dup(&e->block, j, "block", where));
    if (!e->block || !*e->block) return fct_fail(FCT_ERR_FORMAT, "%s: no block is named", where);
    if (!json_object_get(j, "op")) return fct_fail(FCT_ERR_FORMAT, "%s: op is missing", where);
    FCT_TRY(choose(&op, j, "op", fct_edit_op_names, FCT_EDIT_OPS, where));
    FCT_TRY(choose(&unit, j, "unit", fct_edit_unit_names, FCT_EDIT_UNITS, where));
    FCT_TRY(choose(&half, j, "branch", halves, FCT_COUNT(halves), where));
    e->op = (fct_edit_op)op;
    e->unit = (fct_edit_unit)unit;
    e->branch = (fct_half)half;
    FCT_TRY(fct_json_i64(&e->feature, j, "feature", -1, where));
    if (e->feature < -1 || e->feature > FCT_EDIT_MAX_FEATURE)
        return fct_fail(FCT_ERR_FORMAT, "%s: feature %" PRId64 " is not possible", where,
                        e->feature);
    FCT_TRY(read_value(e, j, where));
    FCT_TRY(read_steps(e, j, where));
    FCT_TRY(fct_json_bool(&e->is_static, j, "static", false, where));
    if (json_object_get(j, "mask"))
        FCT_TRY(fct_mask_of_json(&e->mask, json_object_get(j, "mask"), where));
    if (e->op == FCT_EDIT_FROM) return read_source(e, j, where, depth);
    return FCT_OK;
}

fct_status fct_edit_of_json(fct_edit *out, const json_t *j, const char *where, int depth)
{
    *out = (fct_edit){0};
    if (json_is_string(j)) return fct_where(fct_edit_parse(out, json_string_value(j)), "%s", where);
    fct_status st = edit_of_object(out, j, where, depth);
    if (st != FCT_OK) fct_edit_clear(out);
    return st;
}

/* ---- reading recipes ---- */

/* Of an object in the list of items, or of a recipe that says one picture itself. */
static fct_status read_item(fct_run_item *item, const json_t *o, bool listed, const char *where)
{
    fct_run_item given = {0};
    FCT_TRY(listed ? fct_where(fct_options_of_json(&given, item_table, o, "items"), "%s", where)
                   : fct_options_of_members(&given, item_table, o, where));
    if (!given.prompt) return fct_fail(FCT_ERR_FORMAT, "%s: prompt is missing", where);
    *item = given;
    return fct_options_own(item, item_table);
}

static fct_status read_items(fct_recipe *r, const json_t *o, const char *where)
{
    const json_t *list = json_object_get(o, "items");
    size_t n = list ? json_array_size(list) : 1;
    for (const fct_option *row = item_table; list && row->name; row++)
        if (json_object_get(o, row->name))
            return fct_fail(FCT_ERR_FORMAT, "%s: want either %s or items", where, row->name);
    if (n < 1 || n > MAX_ITEMS)
        return fct_fail(FCT_ERR_FORMAT, "%s: items: want a list of 1 to %d", where, MAX_ITEMS);
    FCT_TRY(fct_new(&r->item, (int64_t)n, (int64_t)sizeof *r->item));
    for (size_t i = 0; i < n; i++) {
        const json_t *item = list ? json_array_get(list, i) : o;
        r->n_items = (int64_t)i + 1;
        FCT_TRY(read_item(&r->item[i], item, list != NULL, where));
    }
    FCT_TRY(fct_json_i64(&r->index, o, "index", 0, where));
    if (r->index < 0 || r->index >= r->n_items)
        return fct_fail(FCT_ERR_FORMAT, "%s: index %" PRId64 " is not in its batch of %zu", where,
                        r->index, n);
    return FCT_OK;
}

static fct_status read_engine(fct_model_desc *out, const json_t *o, const char *where)
{
    fct_model_desc given = {0};
    FCT_TRY(fct_options_of_members(&given, fct_model_table(), o, where));
    *out = given;
    return fct_options_own(out, fct_model_table());
}

static fct_status read_settings(fct_recipe *r, const json_t *o, const char *where)
{
    fct_settings s = {0};
    FCT_TRY(fct_json_dup(&r->version, o, "facet", where));
    FCT_TRY(read_engine(&r->engine, o, where));
    FCT_TRY(fct_json_dup(&r->plan, o, "plan", where));
    FCT_TRY(fct_json_dup(&r->sampler, o, "sampler", where));
    FCT_TRY(fct_json_i64(&r->threads, o, "threads", 0, where));
    if (r->threads < 0 || r->threads > MAX_THREADS)
        return fct_fail(FCT_ERR_FORMAT, "%s: threads: want 0 to %d", where, MAX_THREADS);
    FCT_TRY(fct_options_of_members(&s, fct_settings_table(), o, where));
    /* the item's, which has been read */
    s.seed = 0;
    return fct_settings_copy(&r->settings, &s);
}

static fct_status read_model(fct_recipe *r, const json_t *o, const char *where)
{
    static const char *const keys[] = {"name", "path", "hash"};
    const json_t *model = json_object_get(o, "model");
    if (!model || json_is_null(model)) return FCT_OK;
    if (json_is_string(model)) return fct_strdup(&r->model, json_string_value(model));
    FCT_TRY(fct_where(fct_json_only(model, keys, FCT_COUNT(keys), "model"), "%s", where));
    FCT_TRY(fct_json_dup(&r->model, model, "name", where));
    FCT_TRY(fct_json_dup(&r->model_path, model, "path", where));
    return fct_json_dup(&r->model_hash, model, "hash", where);
}

static fct_status read_saes(fct_recipe *r, const json_t *o, const char *where)
{
    static const char *const keys[] = {"block", "path", "hash", "stats_hash"};
    const json_t *list = json_object_get(o, "saes");
    size_t n = json_array_size(list);
    if (list && !json_is_array(list))
        return fct_fail(FCT_ERR_FORMAT, "%s: saes: want a list", where);
    if (n > MAX_ITEMS) return fct_fail(FCT_ERR_FORMAT, "%s: saes: more than %d", where, MAX_ITEMS);
    FCT_TRY(fct_new(&r->sae, (int64_t)n, (int64_t)sizeof *r->sae));
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_array_get(list, i);
        fct_recipe_sae *out = &r->sae[r->n_saes++];
        FCT_TRY(fct_where(fct_json_only(s, keys, FCT_COUNT(keys), "saes"), "%s", where));
        FCT_TRY(fct_json_dup(&out->block, s, "block", where));
        if (!out->block) return fct_fail(FCT_ERR_FORMAT, "%s: saes: block is missing", where);
        FCT_TRY(fct_json_dup(&out->path, s, "path", where));
        FCT_TRY(fct_json_dup(&out->hash, s, "hash", where));
        FCT_TRY(fct_json_dup(&out->stats_hash, s, "stats_hash", where));
    }
    return FCT_OK;
}

static fct_status read_edits(fct_recipe *r, const json_t *o, const char *where, int depth)
{
    const json_t *list = json_object_get(o, "edits");
    size_t n = json_array_size(list);
    char *place = NULL;
    if (list && !json_is_array(list))
        return fct_fail(FCT_ERR_FORMAT, "%s: edits: want a list", where);
    if (n > MAX_EDITS) return fct_fail(FCT_ERR_FORMAT, "%s: edits: more than %d", where, MAX_EDITS);
    FCT_TRY(fct_new(&r->edit, (int64_t)n, (int64_t)sizeof *r->edit));
    for (size_t i = 0; i < n; i++) {
        FCT_TRY(fct_format(&place, "%s: edit %zu", where, i + 1));
        fct_status st = fct_edit_of_json(&r->edit[i], json_array_get(list, i), place, depth);
        fct_free(place);
        FCT_TRY(st);
        r->n_edits++;
    }
    return FCT_OK;
}

static fct_status recipe_of_object(fct_recipe *r, const json_t *j, const char *where, int depth)
{
    static const char *const keys[] = {
        "format",      "version",       "facet",      "model",       "backend", "dtype", "threads",
        "plan",        "sampler",       "prompt",     "prompt_2",    "seed",    "items", "index",
        "joint_noise", "negative",      "negative_2", "width",       "height",  "steps", "guidance",
        "noise_dtype", "original_size", "crop",       "target_size", "saes",    "edits"};
    const char *format;
    int64_t version;
    if (!json_is_object(j))
        return fct_fail(FCT_ERR_FORMAT, "%s: not a recipe: want an object {...}", where);
    FCT_TRY(fct_json_str(&format, j, "format", "", where));
    if (strcmp(format, "facet-recipe") != 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: not a recipe: want \"format\": \"facet-recipe\"",
                        where);
    FCT_TRY(fct_json_i64(&version, j, "version", RECIPE_VERSION, where));
    if (version != RECIPE_VERSION)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: recipe version %" PRId64 "; this facet (%s) reads version %d", where,
                        version, fct_version(), RECIPE_VERSION);
    FCT_TRY(fct_json_only(j, keys, FCT_COUNT(keys), where));
    FCT_TRY(read_model(r, j, where));
    FCT_TRY(read_items(r, j, where));
    FCT_TRY(read_settings(r, j, where));
    FCT_TRY(read_saes(r, j, where));
    return read_edits(r, j, where, depth);
}

fct_status fct_recipe_of_json(fct_recipe *out, const json_t *j, const char *where, int depth)
{
    *out = (fct_recipe){0};
    fct_status st = recipe_of_object(out, j, where, depth);
    if (st != FCT_OK) fct_recipe_clear(out);
    return st;
}

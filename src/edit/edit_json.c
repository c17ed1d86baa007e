/* edit_json.c - an edit as JSON, one key for each thing that the text form says; and a mask picture
   inside it as base64 PNG, so that a recipe makes the same picture when the file has moved. Unknown
   keys are refused: a misspelt option that is silently dropped would make another picture. */
#include <inttypes.h>
#include <string.h>

#include "edit/edit.h"

/* ---- helpers shared with recipe_json.c ---- */

fct_status fct_json_only(const json_t *j, const char *const *names, int64_t n, const char *where)
{
    json_t *o;
    memcpy(&o, &j, sizeof o); /* iteration takes a non-const object and changes nothing */
    if (!json_is_object(j)) return fct_fail(FCT_ERR_FORMAT, "%s: want an object {...}", where);
    for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);
        if (fct_name_find(names, (int)n, key) >= 0) continue;
        fct_str list = {0};
        fct_status st = FCT_OK;
        for (int64_t i = 0; i < n && st == FCT_OK; i++)
            st = fct_str_printf(&list, "%s%s", i ? ", " : "", names[i]);
        if (st == FCT_OK)
            st = fct_fail(FCT_ERR_FORMAT, "%s: unknown key \"%s\"; known are %s", where, key,
                          list.p);
        fct_str_clear(&list);
        return st;
    }
    return FCT_OK;
}

fct_status fct_json_put(json_t *o, const char *key, json_t *value)
{
    if (!value)
        return fct_fail(FCT_ERR_MEMORY, "out of memory, or text that is not UTF-8, under \"%s\"",
                        key);
    if (json_object_set_new(o, key, value) != 0)
        return fct_fail(FCT_ERR_MEMORY, "out of memory while building JSON");
    return FCT_OK;
}

fct_status fct_json_dup(char **out, const json_t *o, const char *key, const char *where)
{
    const char *text;
    *out = NULL;
    FCT_TRY(fct_json_str(&text, o, key, NULL, where));
    return fct_strdup(out, text);
}

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

/* ---- masks ---- */

static fct_status mask_png(fct_str *out, const fct_mask *m)
{
    fct_str png = {0};
    fct_image im = {.width = m->width, .height = m->height, .channels = 1, .pixel = m->grey};
    fct_status st = fct_png_encode(&png, &im);
    if (st == FCT_OK) st = fct_base64_append(out, png.p, png.n);
    fct_str_clear(&png);
    return st;
}

static fct_status put_file_mask(json_t *o, const fct_mask *m)
{
    fct_str text = {0};
    fct_status st = m->path ? fct_json_put(o, "file", json_string(m->path)) : FCT_OK;
    if (st == FCT_OK && m->grey) st = mask_png(&text, m);
    if (st == FCT_OK && m->grey) st = fct_json_put(o, "png", json_string(text.p));
    fct_str_clear(&text);
    return st;
}

static fct_status put_map_mask(json_t *o, const fct_mask *m)
{
    json_t *map = json_object();
    fct_status st = fct_json_put(map, "feature", json_integer(m->feature));
    if (st == FCT_OK) st = fct_json_put(map, "above", json_real(m->threshold));
    if (st == FCT_OK) return fct_json_put(o, "map", map);
    json_decref(map);
    return st;
}

fct_status fct_mask_to_json(json_t **out, const fct_mask *m)
{
    const double *b = m->box;
    json_t *o = json_object();
    fct_status st;
    if (m->kind == FCT_MASK_FILE)
        st = put_file_mask(o, m);
    else if (m->kind == FCT_MASK_MAP)
        st = put_map_mask(o, m);
    else
        st = fct_json_put(o, m->kind == FCT_MASK_BOX ? "box" : "ellipse",
                          json_pack("[f,f,f,f]", b[0], b[1], b[2], b[3]));
    *out = st == FCT_OK ? o : NULL;
    if (st != FCT_OK) json_decref(o);
    return st;
}

static fct_status box_of_json(fct_mask *m, const json_t *j, const char *where)
{
    bool ok = json_is_array(j) && json_array_size(j) == 4;
    for (size_t i = 0; ok && i < 4; i++) {
        const json_t *v = json_array_get(j, i);
        m->box[i] = json_number_value(v);
        ok = json_is_number(v) && m->box[i] >= 0 && m->box[i] <= 1;
    }
    if (!ok || !(m->box[0] < m->box[2] && m->box[1] < m->box[3]))
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: want [x0, y0, x1, y1], each from 0 to 1, x0 < x1, y0 < y1", where);
    return FCT_OK;
}

static fct_status map_of_json(fct_mask *m, const json_t *j, const char *where)
{
    static const char *const keys[] = {"feature", "above"};
    FCT_TRY(fct_json_only(j, keys, FCT_COUNT(keys), where));
    FCT_TRY(fct_json_i64(&m->feature, j, "feature", -1, where));
    FCT_TRY(fct_json_f64(&m->threshold, j, "above", 0, where));
    if (m->feature < 0 || m->feature > FCT_EDIT_MAX_FEATURE ||
        !(m->threshold >= 0 && m->threshold <= 1e30))
        return fct_fail(FCT_ERR_FORMAT, "%s: map: want {\"feature\": N, \"above\": T} with T >= 0",
                        where);
    return FCT_OK;
}

static fct_status file_of_json(fct_mask *m, const json_t *j, const char *where)
{
    const char *png;
    fct_str data = {0};
    fct_image im = {0};
    FCT_TRY(fct_json_dup(&m->path, j, "file", where));
    FCT_TRY(fct_json_str(&png, j, "png", NULL, where));
    if (!png && !m->path)
        return fct_fail(FCT_ERR_FORMAT, "%s: want one of box, ellipse, map, file, png", where);
    if (!png) return FCT_OK;
    fct_status st = fct_base64_parse(&data, png);
    if (st == FCT_OK)
        st = fct_png_parse(&im, (const uint8_t *)(data.p ? data.p : ""), data.n, "png", 1);
    fct_str_clear(&data);
    if (st != FCT_OK) return fct_where(st, "%s", where);
    m->width = im.width;
    m->height = im.height;
    m->grey = im.pixel;
    im.pixel = NULL;
    fct_image_clear(&im);
    return FCT_OK;
}

static fct_status mask_of_object(fct_mask *m, const json_t *j, const char *where)
{
    static const char *const keys[] = {"box", "ellipse", "map", "file", "png"};
    FCT_TRY(fct_json_only(j, keys, FCT_COUNT(keys), where));
    const json_t *box = json_object_get(j, "box"), *ellipse = json_object_get(j, "ellipse"),
                 *map = json_object_get(j, "map");
    bool file = json_object_get(j, "file") || json_object_get(j, "png");
    if ((box != NULL) + (ellipse != NULL) + (map != NULL) + file > 1)
        return fct_fail(FCT_ERR_FORMAT, "%s: more than one of box, ellipse, map and file", where);
    m->kind = box ? FCT_MASK_BOX : ellipse ? FCT_MASK_ELLIPSE : map ? FCT_MASK_MAP : FCT_MASK_FILE;
    if (box || ellipse) return box_of_json(m, box ? box : ellipse, where);
    return map ? map_of_json(m, map, where) : file_of_json(m, j, where);
}

fct_status fct_mask_of_json(fct_mask *out, const json_t *j, const char *where)
{
    *out = (fct_mask){0};
    if (json_is_string(j)) return fct_where(fct_mask_parse(out, json_string_value(j)), "%s", where);
    fct_status st = mask_of_object(out, j, where);
    if (st != FCT_OK) fct_mask_clear(out);
    return st;
}

/* ---- edits ---- */

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
        FCT_TRY(fct_json_put(o, "branch", json_string(fct_edit_half_names[e->branch])));
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
    int op, unit, half;
    FCT_TRY(fct_json_only(j, keys, FCT_COUNT(keys), where));
    FCT_TRY(fct_json_dup(&e->block, j, "block", where));
    if (!e->block || !*e->block) return fct_fail(FCT_ERR_FORMAT, "%s: no block is named", where);
    if (!json_object_get(j, "op")) return fct_fail(FCT_ERR_FORMAT, "%s: op is missing", where);
    FCT_TRY(choose(&op, j, "op", fct_edit_op_names, FCT_EDIT_OPS, where));
    FCT_TRY(choose(&unit, j, "unit", fct_edit_unit_names, FCT_EDIT_UNITS, where));
    FCT_TRY(choose(&half, j, "branch", fct_edit_half_names, FCT_EDIT_HALVES, where));
    e->op = (fct_edit_op)op;
    e->unit = (fct_edit_unit)unit;
    e->branch = (fct_edit_half)half;
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

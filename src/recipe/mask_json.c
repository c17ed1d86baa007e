/* mask_json.c - writes an edit's mask as JSON, and reads it back. A mask picture travels inside as
   base64 PNG, so that a recipe makes the same picture when the file has moved. */
#include <string.h>

#include "image/image.h"
#include "recipe/recipe.h"

static fct_status mask_png(fct_str *out, const fct_mask *m)
{
    uint8_t *png;
    int64_t n;
    fct_image im = {.width = m->width, .height = m->height, .channels = 1, .pixel = m->grey};
    fct_status st = fct_png_encode(&png, &n, &im);
    if (st == FCT_OK) st = fct_base64_append(out, png, n);
    fct_free(png);
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

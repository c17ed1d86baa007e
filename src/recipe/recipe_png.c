/* recipe_png.c - writes into a picture's PNG texts how it was made: the line of settings that other
   tools read (AUTOMATIC1111's form), and facet's whole recipe. */
#include <inttypes.h>
#include <string.h>

#include "recipe/recipe.h"

/* Values with a comma, colon, quote or line break are written as JSON text,
   as readers of that line expect. */
static fct_status put_value(fct_str *s, const char *value)
{
    if (!strpbrk(value, ",:\"\n\r\\")) return fct_str_append(s, value);
    json_t *j = json_string(value);
    fct_status st = fct_json_text(s, j, 0);
    json_decref(j);
    return st;
}

static fct_status put(fct_str *s, const char *key, const char *value)
{
    FCT_TRY(fct_str_printf(s, ", %s: ", key));
    return put_value(s, value);
}

static const char *sampler_name(const char *scheduler)
{
    static const char *const names[][2] = {{"EulerAncestralDiscreteScheduler", "Euler a"},
                                           {"EulerDiscreteScheduler", "Euler"}};
    for (size_t i = 0; i < FCT_COUNT(names); i++)
        if (scheduler && strcmp(scheduler, names[i][0]) == 0) return names[i][1];
    return scheduler ? scheduler : "Euler a";
}

static fct_status put_edits(fct_str *s, const fct_recipe *r)
{
    fct_str all = {0};
    char *text = NULL;
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < r->n_edits && st == FCT_OK; i++) {
        st = fct_edit_text(&text, &r->edit[i]);
        if (st == FCT_OK) st = fct_str_printf(&all, "%s%s", i ? "; " : "", text);
        fct_free(text);
        text = NULL;
    }
    if (st == FCT_OK && all.n > 0) st = put(s, "Edits", all.p);
    fct_str_clear(&all);
    return st;
}

static fct_status put_line(fct_str *s, const fct_recipe *r)
{
    char number[40], hash[11] = "";
    const fct_run_item *item = &r->item[r->index];
    FCT_TRY(fct_str_append(s, item->prompt ? item->prompt : ""));
    const fct_settings *run = &r->settings;
    if (run->negative && *run->negative)
        FCT_TRY(fct_str_printf(s, "\nNegative prompt: %s", run->negative));
    /* 1 is their word for none. */
    fct_number_text(number, sizeof number, run->guidance > 1 ? run->guidance : 1);
    FCT_TRY(fct_str_printf(s, "\nSteps: %" PRId64, run->steps));
    FCT_TRY(put(s, "Sampler", sampler_name(r->sampler)));
    FCT_TRY(put(s, "CFG scale", number));
    FCT_TRY(fct_str_printf(s, ", Seed: %" PRIu64 ", Size: %" PRId64 "x%" PRId64, item->seed,
                           run->width, run->height));
    if (r->model_hash) memcpy(hash, r->model_hash, strnlen(r->model_hash, 10));
    if (hash[0]) FCT_TRY(put(s, "Model hash", hash));
    if (r->model) FCT_TRY(put(s, "Model", r->model));
    FCT_TRY(put(s, "RNG", "CPU"));
    FCT_TRY(put_edits(s, r));
    return fct_str_printf(s, ", Version: facet %s", r->version ? r->version : fct_version());
}

fct_status fct_recipe_stamp(const fct_recipe *r, fct_image *picture)
{
    fct_str line = {0}, whole = {0};
    json_t *j = NULL;
    if (r->index < 0 || r->index >= r->n_items)
        return fct_fail(FCT_ERR_ARG, "a recipe's picture is not in its batch");
    fct_status st = put_line(&line, r);
    if (st == FCT_OK) st = fct_image_set_text(picture, "parameters", line.p);
    if (st == FCT_OK) st = fct_recipe_to_json(&j, r);
    if (st == FCT_OK) st = fct_json_text(&whole, j, 0);
    if (st == FCT_OK) st = fct_image_set_text(picture, "facet", whole.p);
    json_decref(j);
    fct_str_clear(&line);
    fct_str_clear(&whole);
    return fct_where(st, "the picture's texts");
}

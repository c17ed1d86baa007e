/* fingerprint.c - tells whether one training run may continue another: the options of its SAEs, the
   rows, and the program that computes must be the same, for then both end with the same bytes. Else
   the first thing that differs is named. A finished SAE is compared in the same way. */
#include <string.h>

#include "train/train.h"

/* Takes j; NULL: out of memory. */
static fct_status put_text(char **out, json_t *j)
{
    fct_str text = {0};
    fct_status st =
        j ? fct_json_text(&text, j, 0)
          : fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
    if (st == FCT_OK) st = fct_strdup(out, text.p);
    fct_str_clear(&text);
    json_decref(j);
    return st;
}

/* Without a schedule the number of steps may grow. */
static fct_status describe_options(json_t *list, const fct_trainee *t)
{
    json_t *options = NULL;
    FCT_TRY(fct_train_plan_describe(&options, &t->plan, t->sae->d));
    if (t->plan.lr_decay <= FCT_LR_CONSTANT) (void)json_object_del(options, "steps");
    json_t *j = json_pack("{s:s?, s:I, s:o}", "name", t->name, "stream", (json_int_t)t->stream,
                          "options", options);
    if (json_array_append_new(list, j) == 0) return FCT_OK;
    return fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
}

static fct_status describe_rows(json_t *list, const fct_train_place *place)
{
    json_t *j = json_object();
    if (place->data) {
        json_decref(j);
        FCT_TRY(fct_json_parse(&j, place->data, (int64_t)strlen(place->data), "the rows"));
    }
    if (json_array_append_new(list, j) == 0) return FCT_OK;
    return fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
}

/* Program, backend, instruction set. The number of threads is kept apart. */
static fct_status describe_program(json_t **out, const fct_trainee *t)
{
    const fct_backend *be = t->engine.cx.be;
    fct_str text = {0};
    fct_status st = be->describe(&text);
    if (st == FCT_OK && text.p) text.p[strcspn(text.p, ";")] = '\0'; /* "...; 2 threads" */
    *out = NULL;
    if (st == FCT_OK)
        *out = json_pack("{s:s, s:s, s:s}", "facet_version", fct_version(), "backend", be->name,
                         "kernels", text.p ? text.p : "");
    fct_str_clear(&text);
    return st;
}

fct_status fct_train_fingerprint_init(fct_train_fingerprint *out, const fct_train_state *s)
{
    fct_status st = FCT_OK;
    json_t *options = json_array(), *data = json_array(), *program = NULL;
    *out = (fct_train_fingerprint){0};
    for (int64_t i = 0; i < s->n; i++) FCT_TRY_OUT(describe_options(options, &s->trainee[i]));
    for (int64_t i = 0; i < s->n_places; i++) FCT_TRY_OUT(describe_rows(data, &s->place[i]));
    FCT_TRY_OUT(describe_program(&program, &s->trainee[0]));
    st = put_text(&out->options, options);
    options = NULL;
    if (st == FCT_OK)
        st = put_text(&out->data, data);
    else
        json_decref(data);
    data = NULL;
    if (st == FCT_OK)
        st = put_text(&out->program, program);
    else
        json_decref(program);
    program = NULL;
out:
    json_decref(options);
    json_decref(data);
    json_decref(program);
    if (st != FCT_OK) fct_train_fingerprint_clear(out);
    return st;
}

void fct_train_fingerprint_clear(fct_train_fingerprint *i)
{
    fct_free(i->options);
    fct_free(i->data);
    fct_free(i->program);
    *i = (fct_train_fingerprint){0};
}

/* ---- differences ---- */

/* The first member that is not the same in both; NULL: none. */
static const char *first_difference(json_t *now, json_t *then)
{
    const char *key;
    json_t *value;
    json_object_foreach(now, key, value)
    {
        if (!json_equal(json_object_get(then, key), value)) return key;
    }
    json_object_foreach(then, key, value)
    {
        if (!json_object_get(now, key)) return key;
    }
    return NULL;
}

/* Of the sentence "PATH was made with other WHAT ...: the same ADVICE". */
typedef struct part {
    const char *path, *what, *of, *advice;
    const char *each; /* what a list holds several of */
} part;

static fct_status check_objects(json_t *now, json_t *then, const part *p)
{
    fct_str a = {0}, b = {0};
    fct_status st = FCT_OK;
    const char *key = first_difference(now, then);
    if (!key) return FCT_OK;
    json_t *old = json_object_get(then, key), *new = json_object_get(now, key);
    FCT_TRY_OUT(fct_json_text(&a, old ? old : json_null(), 0));
    FCT_TRY_OUT(fct_json_text(&b, new ? new : json_null(), 0));
    st = fct_fail(FCT_ERR_ARG,
                  "%s was made with other %s%s%s (%s %s, now %s): continue with the same %s, or "
                  "start in another folder",
                  p->path, p->what, p->of ? " for " : "", p->of ? p->of : "", key, a.p, b.p,
                  p->advice);
out:
    fct_str_clear(&a);
    fct_str_clear(&b);
    return st;
}

static fct_status parse(json_t **out, const char *text, const char *path)
{
    return fct_json_parse(out, text, (int64_t)strlen(text), path);
}

/* Lists of objects, one an SAE (with a name and its options) or one a stream. */
static fct_status check_lists(const char *now_text, const char *then_text, const part *p)
{
    fct_status st = FCT_OK;
    json_t *now = NULL, *then = NULL;
    FCT_TRY_OUT(parse(&now, now_text, p->path));
    FCT_TRY_OUT(parse(&then, then_text, p->path));
    if (json_array_size(now) != json_array_size(then)) {
        st = fct_fail(FCT_ERR_ARG,
                      "%s was made with %zu %s, now there are %zu: continue with the same %s, or "
                      "start in another folder",
                      p->path, json_array_size(then), p->each, json_array_size(now), p->advice);
        goto out;
    }
    for (size_t i = 0; i < json_array_size(now); i++) {
        json_t *new = json_array_get(now, i), *old = json_array_get(then, i);
        json_t *inner = json_object_get(new, "options");
        part one = *p;
        one.of = inner ? json_string_value(json_object_get(new, "name")) : NULL;
        if (inner) FCT_TRY_OUT(check_objects(inner, json_object_get(old, "options"), &one));
        FCT_TRY_OUT(check_objects(new, old, &one));
    }
out:
    json_decref(now);
    json_decref(then);
    return st;
}

fct_status fct_train_fingerprint_check(const fct_train_fingerprint *now,
                                       const fct_train_fingerprint *then, const char *path)
{
    fct_status st = FCT_OK;
    json_t *a = NULL, *b = NULL;
    FCT_TRY(
        check_lists(now->options, then->options,
                    &(part){.path = path, .what = "options", .advice = "options", .each = "SAEs"}));
    FCT_TRY(check_lists(now->data, then->data,
                        &(part){.path = path,
                                .what = "rows",
                                .advice = "store, block, range, order and seed",
                                .each = "sources of rows"}));
    FCT_TRY_OUT(parse(&a, now->program, path));
    FCT_TRY_OUT(parse(&b, then->program, path));
    st = check_objects(
        a, b, &(part){.path = path, .what = "arithmetic", .advice = "program and processor"});
out:
    json_decref(a);
    json_decref(b);
    return st;
}

/* ---- a finished SAE ---- */

static fct_status check_made(json_t *made, const json_t *options, const char *data, const char *dir)
{
    json_t *rows = NULL;
    fct_status st = check_objects((json_t *)options, json_object_get(made, "training"),
                                  &(part){.path = dir, .what = "options", .advice = "options"});
    if (st == FCT_OK && data) st = parse(&rows, data, "the rows");
    if (st == FCT_OK && rows)
        st = check_objects(
            rows, json_object_get(made, "data"),
            &(part){.path = dir, .what = "rows", .advice = "store, block, range, order and seed"});
    json_decref(rows);
    return st;
}

static fct_status finished_in(bool *out, const fct_train_run *run, const fct_train_member *m,
                              const char *dir)
{
    fct_status st = FCT_OK;
    const fct_row_source *rows = &run->stream[m->stream];
    const char *data = NULL;
    fct_sae *sae = NULL, *init = NULL;
    json_t *made = NULL, *options = NULL;
    fct_train_plan plan;
    int64_t d;
    *out = false;
    if (!fct_dir_has(dir, "cfg.json") || !fct_dir_has(dir, "sae_weights.safetensors"))
        return FCT_OK;
    FCT_TRY_OUT(fct_sae_load(&sae, dir, NULL));
    if (!sae->facet_json) goto out; /* not of facet's making */
    FCT_TRY_OUT(parse(&made, sae->facet_json, dir));
    if (!json_is_object(json_object_get(made, "training"))) goto out;
    if (m->desc.init_from) FCT_TRY_OUT(fct_sae_load(&init, m->desc.init_from, NULL));
    FCT_TRY_OUT(fct_train_plan_of_rows(&plan, &m->desc, rows, init, &d));
    FCT_TRY_OUT(fct_train_plan_describe(&options, &plan, d));
    if (rows->describe) FCT_TRY_OUT(rows->describe(rows->self, &data));
    FCT_TRY_OUT(check_made(made, options, data, dir));
    *out = true;
out:
    json_decref(made);
    json_decref(options);
    fct_sae_free(sae);
    fct_sae_free(init);
    return st;
}

fct_status fct_sae_train_finished(bool *out, const fct_train_run *run, int64_t member,
                                  const char *dir)
{
    const fct_train_member *m = &run->member[member];
    const fct_row_source *rows = &run->stream[m->stream];
    if (!m->desc.mix_blocks || rows->n_parts < 2) return finished_in(out, run, m, dir);
    *out = true;
    for (int64_t i = 0; i < rows->n_parts && *out; i++) {
        char *path = NULL;
        fct_status st = fct_path_join(&path, dir, rows->part[i].name);
        if (st == FCT_OK) st = finished_in(out, run, m, path);
        fct_free(path);
        FCT_TRY(st);
    }
    return FCT_OK;
}

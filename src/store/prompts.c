/* prompts.c - reads prompt files: lines, JSONL, CSV as RFC 4180 has it (quoted fields, doubled
   quotes, line breaks inside quotes). Prompts are UTF-8; what is not is refused with its line, and
   so is a file without a single prompt. */
#include <string.h>

#include "store/store.h"

typedef struct list {
    fct_prompts *out;
    int64_t cap, line; /* line of the file, from 1 */
    const char *name;
} list;

static fct_status add(list *l, const char *text, int64_t n, bool has_seed, uint64_t seed)
{
    /* UTF-8, as jansson checks it: store.json and recipes need it. */
    json_t *check = json_stringn(text, (size_t)n);
    if (!check)
        return fct_fail(FCT_ERR_FORMAT, "%s:%lld: the prompt is not UTF-8", l->name,
                        (long long)l->line);
    json_decref(check);
    if (memchr(text, '\0', (size_t)n))
        return fct_fail(FCT_ERR_FORMAT, "%s:%lld: a zero byte in the prompt", l->name,
                        (long long)l->line);
    if (l->out->n == l->cap) {
        int64_t cap = l->cap < 64 ? 64 : 2 * l->cap;
        FCT_TRY(fct_grow(&l->out->item, l->cap, cap, sizeof *l->out->item));
        l->cap = cap;
    }
    char *copy;
    FCT_TRY(fct_new_raw(&copy, n + 1, 1));
    if (n > 0) memcpy(copy, text, (size_t)n);
    copy[n] = '\0';
    l->out->item[l->out->n++] = (fct_prompt){.text = copy, .seed = seed, .has_seed = has_seed};
    return FCT_OK;
}

/* The line at p without its end; *next: where the following one starts. */
static int64_t line_length(const char *p, const char *end, const char **next)
{
    const char *stop = memchr(p, '\n', (size_t)(end - p));
    *next = stop ? stop + 1 : end;
    int64_t n = (stop ? stop : end) - p;
    return n > 0 && p[n - 1] == '\r' ? n - 1 : n;
}

static bool blank(const char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t') return false;
    return true;
}

static fct_status parse_lines(list *l, const char *p, const char *end)
{
    for (const char *next; p < end; p = next, l->line++) {
        int64_t n = line_length(p, end, &next);
        if (!blank(p, n)) FCT_TRY(add(l, p, n, false, 0));
    }
    return FCT_OK;
}

static fct_status add_object(list *l, const json_t *j, const char *where)
{
    const char *text;
    int64_t seed;
    if (!json_is_object(j))
        return fct_fail(FCT_ERR_FORMAT, "%s: want an object with the key prompt", where);
    FCT_TRY(fct_json_str(&text, j, "prompt", NULL, where));
    FCT_TRY(fct_json_i64(&seed, j, "seed", -1, where));
    if (!text) return fct_fail(FCT_ERR_FORMAT, "%s: no key prompt", where);
    const json_t *given = json_object_get(j, "seed");
    bool has_seed = given && !json_is_null(given);
    if (has_seed && seed < 0) return fct_fail(FCT_ERR_FORMAT, "%s: seed: want 0 or more", where);
    return add(l, text, (int64_t)json_string_length(json_object_get(j, "prompt")), has_seed,
               has_seed ? (uint64_t)seed : 0);
}

static fct_status parse_jsonl(list *l, const char *p, const char *end)
{
    for (const char *next; p < end; p = next, l->line++) {
        json_t *j = NULL;
        char *where = NULL;
        int64_t n = line_length(p, end, &next);
        if (blank(p, n)) continue;
        FCT_TRY(fct_format(&where, "%s:%lld", l->name, (long long)l->line));
        fct_status st = fct_json_parse(&j, p, n, where);
        if (st == FCT_OK) st = add_object(l, j, where);
        json_decref(j);
        fct_free(where);
        if (st != FCT_OK) return st;
    }
    return FCT_OK;
}

/* ---- CSV ---- */

typedef struct csv {
    const char *p, *end;
    fct_str field;
    bool last; /* of its record */
} csv;

static fct_status csv_quoted(list *l, csv *c)
{
    int64_t opened = l->line;
    for (c->p++; c->p < c->end; c->p++) {
        if (*c->p == '\n') l->line++;
        if (*c->p == '"') {
            if (c->p + 1 == c->end || c->p[1] != '"') {
                c->p++;
                return FCT_OK;
            }
            c->p++;
        }
        FCT_TRY(fct_str_append_n(&c->field, c->p, 1));
    }
    return fct_fail(FCT_ERR_FORMAT, "%s:%lld: a quoted field is never closed", l->name,
                    (long long)opened);
}

/* One field and the separator behind it. */
static fct_status csv_field(list *l, csv *c)
{
    fct_str_clear(&c->field);
    FCT_TRY(fct_str_append(&c->field, ""));
    if (c->p < c->end && *c->p == '"') {
        FCT_TRY(csv_quoted(l, c));
    } else {
        const char *start = c->p;
        while (c->p < c->end && *c->p != ',' && *c->p != '\n' && *c->p != '\r' && *c->p != '"')
            c->p++;
        FCT_TRY(fct_str_append_n(&c->field, start, c->p - start));
    }
    if (c->p < c->end && *c->p == ',') {
        c->p++;
        c->last = false;
        return FCT_OK;
    }
    c->last = true;
    if (c->p < c->end && *c->p == '\r') c->p++;
    if (c->p < c->end && *c->p != '\n')
        return fct_fail(
            FCT_ERR_FORMAT,
            "%s:%lld: a quote inside a field, or text after one: want the whole field in quotes",
            l->name, (long long)l->line);
    if (c->p < c->end) c->p++;
    return FCT_OK;
}

typedef struct columns {
    int64_t prompt, seed, n;
} columns;

static fct_status csv_header(list *l, csv *c, columns *out)
{
    *out = (columns){-1, -1, 0};
    do {
        FCT_TRY(csv_field(l, c));
        if (strcmp(c->field.p, "prompt") == 0) out->prompt = out->n;
        if (strcmp(c->field.p, "seed") == 0) out->seed = out->n;
        out->n++;
    } while (!c->last);
    l->line++;
    if (out->prompt < 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: no column named prompt in the header", l->name);
    return FCT_OK;
}

static fct_status csv_record(list *l, csv *c, const columns *col, fct_str *prompt)
{
    int64_t n = 0, seed = -1, line = l->line;
    do {
        FCT_TRY(csv_field(l, c));
        if (n == col->prompt) {
            fct_str_clear(prompt);
            FCT_TRY(fct_str_append_n(prompt, c->field.p, c->field.n));
        }
        if (n == col->seed && c->field.n > 0 &&
            fct_parse_i64(&seed, c->field.p, 0, INT64_MAX) != FCT_OK)
            return fct_fail(FCT_ERR_FORMAT,
                            "%s:%lld: seed \"%s\": want a whole number of 0 or more", l->name,
                            (long long)line, c->field.p);
        n++;
    } while (!c->last);
    l->line++;
    if (n == 1 && c->field.n == 0 && col->n > 1) return FCT_OK; /* an empty line */
    if (n != col->n)
        return fct_fail(FCT_ERR_FORMAT, "%s:%lld: %lld fields, the header has %lld", l->name,
                        (long long)line, (long long)n, (long long)col->n);
    if (!prompt->p || blank(prompt->p, prompt->n)) return FCT_OK;
    return add(l, prompt->p, prompt->n, seed >= 0, seed >= 0 ? (uint64_t)seed : 0);
}

static fct_status parse_csv(list *l, const char *p, const char *end)
{
    csv c = {.p = p, .end = end};
    columns col;
    fct_str prompt = {0};
    fct_status st = FCT_OK;
    if (p == end) return FCT_OK;
    FCT_TRY_OUT(csv_header(l, &c, &col));
    while (c.p < c.end) FCT_TRY_OUT(csv_record(l, &c, &col, &prompt));
out:
    fct_str_clear(&c.field);
    fct_str_clear(&prompt);
    return st;
}

/* ---- files ---- */

fct_status fct_prompts_parse(fct_prompts *out, const char *text, int64_t n,
                             fct_prompt_format format, const char *name)
{
    static fct_status (*const parse[])(list *, const char *,
                                       const char *) = {parse_lines, parse_jsonl, parse_csv};
    *out = (fct_prompts){0};
    list l = {.out = out, .line = 1, .name = name};
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) ==
                      0) { /* a byte order mark is no part of the first prompt */
        text += 3;
        n -= 3;
    }
    fct_status st = n > 0 ? parse[format](&l, text, text + n) : FCT_OK;
    if (st == FCT_OK && out->n == 0) st = fct_fail(FCT_ERR_FORMAT, "%s: no prompt in it", name);
    if (st == FCT_OK && out->n > INT32_MAX)
        st = fct_fail(FCT_ERR_RANGE, "%s: more than %d prompts", name, INT32_MAX);
    if (st != FCT_OK) fct_prompts_clear(out);
    return st;
}

fct_status fct_prompts_read(fct_prompts *out, const char *path)
{
    char *text = NULL;
    int64_t n = 0;
    *out = (fct_prompts){0};
    const char *end = strrchr(path, '.');
    fct_prompt_format format = FCT_PROMPTS_LINES;
    if (end && strcmp(end, ".jsonl") == 0) format = FCT_PROMPTS_JSONL;
    if (end && strcmp(end, ".csv") == 0) format = FCT_PROMPTS_CSV;
    FCT_TRY(fct_file_read(&text, &n, path));
    fct_status st =
        fct_prompts_parse(out, text, n, format, strcmp(path, "-") == 0 ? "standard input" : path);
    fct_free(text);
    return st;
}

void fct_prompts_clear(fct_prompts *p)
{
    for (int64_t i = 0; i < p->n; i++) fct_free((void *)(uintptr_t)p->item[i].text);
    fct_free(p->item);
    *p = (fct_prompts){0};
}

uint64_t fct_prompt_seed(const fct_prompt *prompts, int64_t i, const fct_settings *settings)
{
    const fct_prompt *p = &prompts[i];
    return p->has_seed ? p->seed : (settings ? settings->seed : 0) + (uint64_t)i;
}

fct_run_item fct_prompt_item(const fct_prompt *prompts, int64_t i, const fct_settings *settings)
{
    uint64_t added = settings ? settings->seed : 0;
    return (fct_run_item){.prompt = prompts[i].text,
                          .seed = fct_prompt_seed(prompts, i, settings) - added};
}

/* edit_text.c - reads an edit from its command-line form ('up.0.1:12 +3 @box:0,0,0.5,1'), and
   writes it back.

   The first word says where, then come one operation and any options in any order. Every mistake
   gives a sentence with what was read and what would be right. No file is opened here. */
#include <inttypes.h>
#include <string.h>

#include "recipe/recipe.h"

static const char *const what_ops_are =
    "the operations are +V -V xS =V 'only V' rebuild zero 'from RECIPE:FEATURES xS'";

enum { MAX_WORDS = 32 };

/* The words, the one that is read next, and what has been said. */
typedef struct parser {
    char *word[MAX_WORDS];
    int n, at;
    bool has_op, has_feature, has_mask, has_steps, has_branch, has_unit, has_strength, has_source;
} parser;

/* ---- words ---- */

static fct_status take_word(char **out, const char **text)
{
    fct_str s = {0};
    const char *p = *text;
    bool quoted = false;
    fct_status st = fct_str_append(&s, "");
    while (st == FCT_OK && *p && (quoted || !strchr(" \t\r\n", *p))) {
        if (*p == '"') {
            quoted = !quoted;
            p++;
            continue;
        }
        if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\')) p++;
        st = fct_str_append_n(&s, p, 1);
        p++;
    }
    if (st == FCT_OK && quoted) st = fct_fail(FCT_ERR_ARG, "a \" is not closed");
    if (st != FCT_OK) fct_str_clear(&s);
    *out = s.p;
    *text = p;
    return st;
}

static fct_status split(parser *p, const char *text)
{
    for (;;) {
        text += strspn(text, " \t\r\n");
        if (!*text) return FCT_OK;
        if (p->n == MAX_WORDS) return fct_fail(FCT_ERR_ARG, "more than %d words", MAX_WORDS);
        FCT_TRY(take_word(&p->word[p->n], &text));
        p->n++;
    }
}

/* ---- operations ---- */

static fct_status set_op(parser *p, fct_edit *e, fct_edit_op op, const char *word)
{
    if (p->has_op)
        return fct_fail(FCT_ERR_ARG, "\"%s\" is a second operation beside \"%s\"; an edit has one",
                        word, fct_edit_op_names[e->op]);
    p->has_op = true;
    e->op = op;
    return FCT_OK;
}

static fct_status strength(double *out, const char *text, const char *word)
{
    fct_status st = fct_parse_f64(out, text, -FCT_EDIT_MAX_STRENGTH, FCT_EDIT_MAX_STRENGTH);
    return fct_where(st, "strength in \"%s\"", word);
}

/* "+3" "-3": the sign stays with the number. */
static fct_status read_add(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(set_op(p, e, FCT_EDIT_ADD, word));
    if (word[1] == '+' || word[1] == '-')
        return fct_fail(FCT_ERR_ARG, "\"%s\" has two signs", word);
    return strength(&e->value, word, word);
}

/* "x2" is an operation of its own, or the strength of `from`. */
static fct_status read_times(parser *p, fct_edit *e, const char *word)
{
    if (p->has_strength) return fct_fail(FCT_ERR_ARG, "\"%s\" is a second strength", word);
    p->has_strength = true;
    return strength(&e->value, word + 1, word);
}

static fct_status read_set(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(set_op(p, e, FCT_EDIT_SET, word));
    return strength(&e->value, word + 1, word);
}

static fct_status read_only(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(set_op(p, e, FCT_EDIT_ONLY, word));
    if (p->at >= p->n) return fct_fail(FCT_ERR_ARG, "'only' needs a strength, as in 'only 1'");
    return strength(&e->value, p->word[p->at++], "only");
}

static fct_status read_rebuild(parser *p, fct_edit *e, const char *word)
{
    return set_op(p, e, FCT_EDIT_REBUILD, word);
}

static fct_status read_zero(parser *p, fct_edit *e, const char *word)
{
    return set_op(p, e, FCT_EDIT_ZERO, word);
}

static fct_status read_features(fct_edit *e, char *list)
{
    int64_t n = 1;
    for (const char *c = list; *c; c++) n += *c == ',';
    FCT_TRY(fct_new(&e->features, n, (int64_t)sizeof *e->features));
    for (char *at = list; at;) {
        char *comma = strchr(at, ',');
        if (comma) *comma = '\0';
        int64_t f;
        FCT_TRY(
            fct_where(fct_parse_i64(&f, at, 0, FCT_EDIT_MAX_FEATURE), "features after the recipe"));
        for (int64_t i = 0; i < e->n_features; i++)
            if (e->features[i] == f)
                return fct_fail(FCT_ERR_ARG, "feature %" PRId64 " is listed twice", f);
        e->features[e->n_features++] = f;
        at = comma ? comma + 1 : NULL;
    }
    return FCT_OK;
}

static fct_status read_from(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(set_op(p, e, FCT_EDIT_FROM, word));
    if (p->at >= p->n)
        return fct_fail(FCT_ERR_ARG, "'from' needs RECIPE:FEATURES, as in 'from a.png:3,17'");
    char *source = p->word[p->at++];
    char *colon = strrchr(source, ':');
    if (!colon || colon == source || !colon[1])
        return fct_fail(FCT_ERR_ARG, "'from %s' is not RECIPE:FEATURES, as in 'from a.png:3,17'",
                        source);
    *colon = '\0';
    FCT_TRY(fct_strdup(&e->source_path, source));
    p->has_source = true;
    return read_features(e, colon + 1);
}

/* ---- options ---- */

static fct_status once(bool *seen, const char *word)
{
    if (*seen) return fct_fail(FCT_ERR_ARG, "\"%s\" is said twice", word);
    *seen = true;
    return FCT_OK;
}

static fct_status read_mask(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(once(&p->has_mask, word));
    return fct_mask_parse(&e->mask, word);
}

static fct_status read_steps(parser *p, fct_edit *e, const char *word)
{
    char *copy = NULL;
    const char *value = word + 6;
    FCT_TRY(once(&p->has_steps, word));
    FCT_TRY(fct_strdup(&copy, value));
    char *dash = strchr(copy, '-');
    if (dash) *dash = '\0';
    fct_status st = fct_parse_i64(&e->first_step, copy, 1, FCT_EDIT_MAX_STEPS);
    e->last_step = e->first_step;
    if (st == FCT_OK && dash) st = fct_parse_i64(&e->last_step, dash + 1, 1, FCT_EDIT_MAX_STEPS);
    fct_free(copy);
    if (st == FCT_OK && e->last_step < e->first_step)
        return fct_fail(FCT_ERR_ARG, "\"%s\" ends before it starts", word);
    return fct_where(st, "\"%s\" (steps are counted from 1, as in steps=2 or steps=1-3)", word);
}

static fct_status read_branch(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(once(&p->has_branch, word));
    int i = fct_half_find(word + 7);
    if (i < 1) return fct_fail(FCT_ERR_ARG, "\"%s\": a branch is cond, uncond or both", word);
    e->branch = (fct_half)i;
    return FCT_OK;
}

static fct_status read_unit(parser *p, fct_edit *e, const char *word)
{
    FCT_TRY(once(&p->has_unit, word));
    int i = fct_name_find(fct_edit_unit_names, FCT_EDIT_UNITS, word + 5);
    if (i < 0) return fct_fail(FCT_ERR_ARG, "\"%s\": a unit is mean, std, max or one", word);
    e->unit = (fct_edit_unit)i;
    return FCT_OK;
}

static fct_status read_static(parser *p, fct_edit *e, const char *word)
{
    (void)p;
    return once(&e->is_static, word);
}

static const struct {
    const char *start;
    /* the word is this and no more */
    bool whole;
    fct_status (*read)(parser *p, fct_edit *e, const char *word);
} words[] = {
    {"+", false, read_add},          {"-", false, read_add},        {"=", false, read_set},
    {"@", false, read_mask},         {"steps=", false, read_steps}, {"branch=", false, read_branch},
    {"unit=", false, read_unit},     {"static", true, read_static}, {"only", true, read_only},
    {"rebuild", true, read_rebuild}, {"zero", true, read_zero},     {"from", true, read_from},
    {"x", false, read_times},
};

static fct_status read_word(parser *p, fct_edit *e)
{
    const char *word = p->word[p->at++];
    for (size_t i = 0; i < FCT_COUNT(words); i++) {
        size_t n = strlen(words[i].start);
        if (words[i].whole ? strcmp(word, words[i].start) == 0
                           : strncmp(word, words[i].start, n) == 0)
            return words[i].read(p, e, word);
    }
    return fct_fail(
        FCT_ERR_ARG,
        "\"%s\" is neither an operation nor an option; %s; the options are @MASK steps=1-3 "
        "branch=cond|uncond|both unit=mean|std|max|one static",
        word, what_ops_are);
}

static fct_status read_place(parser *p, fct_edit *e)
{
    if (p->n == 0)
        return fct_fail(FCT_ERR_ARG, "it is empty; write 'BLOCK:FEATURE OP', as in 'up.0.1:12 +3'");
    char *word = p->word[p->at++], *colon = strrchr(word, ':');
    if (colon) {
        *colon = '\0';
        p->has_feature = true;
        FCT_TRY(fct_where(fct_parse_i64(&e->feature, colon + 1, 0, FCT_EDIT_MAX_FEATURE),
                          "the feature after %s:", word));
    }
    if (!*word)
        return fct_fail(FCT_ERR_ARG,
                        "no block is named; write 'BLOCK:FEATURE OP', as in 'up.0.1:12 +3'");
    return fct_strdup(&e->block, word);
}

/* What the words mean together. */
static fct_status settle(parser *p, fct_edit *e)
{
    if (p->has_strength && !p->has_op) FCT_TRY(set_op(p, e, FCT_EDIT_SCALE, "x"));
    if (!p->has_op) return fct_fail(FCT_ERR_ARG, "no operation is given; %s", what_ops_are);
    const char *name = fct_edit_op_names[e->op];
    if (p->has_strength && e->op != FCT_EDIT_SCALE && e->op != FCT_EDIT_FROM)
        return fct_fail(FCT_ERR_ARG, "'x' is a second operation beside '%s'; an edit has one",
                        name);
    if (e->op == FCT_EDIT_FROM && !p->has_strength) e->value = 1;
    bool wants = fct_edit_has_feature(e->op);
    if (wants && !p->has_feature)
        return fct_fail(FCT_ERR_ARG, "'%s' acts on a feature; write %s:FEATURE", name, e->block);
    if (!wants && p->has_feature)
        return fct_fail(FCT_ERR_ARG, "'%s' acts on the whole block; write %s without :%" PRId64,
                        name, e->block, e->feature);
    if (p->has_unit && e->op != FCT_EDIT_ADD && e->op != FCT_EDIT_SET && e->op != FCT_EDIT_ONLY)
        return fct_fail(FCT_ERR_ARG, "unit= says what V is counted in, and '%s' has no V", name);
    if (e->is_static && !fct_edit_reads_codes(e))
        return fct_fail(
            FCT_ERR_ARG,
            "'static' takes codes from the run without edits, but '%s' here reads no codes", name);
    return FCT_OK;
}

fct_status fct_edit_parse(fct_edit *out, const char *text)
{
    parser p = {0};
    *out = (fct_edit){0};
    fct_status st = split(&p, text);
    if (st == FCT_OK) st = read_place(&p, out);
    while (st == FCT_OK && p.at < p.n) st = read_word(&p, out);
    if (st == FCT_OK) st = settle(&p, out);
    for (int i = 0; i < MAX_WORDS; i++) fct_free(p.word[i]);
    if (st != FCT_OK) fct_edit_clear(out);
    return fct_where(st, "edit \"%s\"", text);
}

/* ---- writing ---- */

static fct_status put_number(fct_str *s, const char *before, double v)
{
    char text[40];
    fct_number_text(text, sizeof text, v);
    return fct_str_printf(s, "%s%s", before, text);
}

/* A picture that came inside a recipe may have no name. */
static fct_status put_mask(fct_str *s, const fct_mask *m)
{
    fct_status st = FCT_OK;
    if (m->kind == FCT_MASK_NONE) return FCT_OK;
    FCT_TRY(fct_str_append(s, " @"));
    if (m->kind == FCT_MASK_FILE) return fct_word_append(s, m->path ? m->path : "mask.png");
    if (m->kind == FCT_MASK_MAP) {
        FCT_TRY(fct_str_printf(s, "map:%" PRId64, m->feature));
        return put_number(s, ">", m->threshold);
    }
    FCT_TRY(fct_str_append(s, m->kind == FCT_MASK_BOX ? "box:" : "ellipse:"));
    for (int i = 0; i < 4 && st == FCT_OK; i++) st = put_number(s, i ? "," : "", m->box[i]);
    return st;
}

static fct_status put_from(fct_str *s, const fct_edit *e)
{
    fct_str word = {0};
    fct_status st = fct_str_printf(&word, "%s:", e->source_path ? e->source_path : "recipe.json");
    for (int64_t i = 0; i < e->n_features && st == FCT_OK; i++)
        st = fct_str_printf(&word, "%s%" PRId64, i ? "," : "", e->features[i]);
    if (st == FCT_OK) st = fct_str_append(s, " from ");
    if (st == FCT_OK) st = fct_word_append(s, word.p);
    fct_str_clear(&word);
    return st == FCT_OK ? put_number(s, " x", e->value) : st;
}

static fct_status put_op(fct_str *s, const fct_edit *e)
{
    switch (e->op) {
    case FCT_EDIT_ADD: return put_number(s, e->value < 0 ? " " : " +", e->value);
    case FCT_EDIT_SCALE: return put_number(s, " x", e->value);
    case FCT_EDIT_SET: return put_number(s, " =", e->value);
    case FCT_EDIT_ONLY: return put_number(s, " only ", e->value);
    case FCT_EDIT_FROM: return put_from(s, e);
    default: return fct_str_printf(s, " %s", fct_edit_op_names[e->op]);
    }
}

static fct_status put_edit(fct_str *s, const fct_edit *e)
{
    fct_str place = {0};
    fct_status st = fct_str_append(&place, e->block ? e->block : "");
    if (st == FCT_OK && fct_edit_has_feature(e->op))
        st = fct_str_printf(&place, ":%" PRId64, e->feature);
    if (st == FCT_OK) st = fct_word_append(s, place.p);
    fct_str_clear(&place);
    FCT_TRY(st);
    FCT_TRY(put_op(s, e));
    FCT_TRY(put_mask(s, &e->mask));
    if (e->first_step > 0) FCT_TRY(fct_str_printf(s, " steps=%" PRId64, e->first_step));
    if (e->last_step > e->first_step) FCT_TRY(fct_str_printf(s, "-%" PRId64, e->last_step));
    if (e->branch != FCT_HALF_DEFAULT)
        FCT_TRY(fct_str_printf(s, " branch=%s", fct_half_name(e->branch)));
    if (e->unit != FCT_UNIT_MEAN)
        FCT_TRY(fct_str_printf(s, " unit=%s", fct_edit_unit_names[e->unit]));
    return e->is_static ? fct_str_append(s, " static") : FCT_OK;
}

fct_status fct_edit_text(char **out, const fct_edit *e)
{
    fct_str s = {0};
    *out = NULL;
    fct_status st = put_edit(&s, e);
    if (st == FCT_OK)
        *out = s.p;
    else
        fct_str_clear(&s);
    return fct_where(st, "writing an edit of %s", e->block ? e->block : "no block");
}

fct_status fct_edit_where(fct_status st, const fct_edit *e)
{
    char *text = NULL, *why = NULL;
    if (st == FCT_OK) return st;
    /* writing the edit's text may set another sentence */
    if (fct_strdup(&why, fct_error_text()) != FCT_OK) return st;
    if (fct_edit_text(&text, e) == FCT_OK)
        (void)(fct_fail)(st, "edit \"%s\": %s", text, why);
    else
        (void)(fct_fail)(st, "an edit of %s: %s", e->block ? e->block : "no block", why);
    fct_free(text);
    fct_free(why);
    return st;
}

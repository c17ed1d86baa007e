/* apply.c - changes a block's delta as the edits of that block say, in one step of a run. What each
   edit does is the table of facet/recipe.h; here it is written out for one row.

   All codes are taken first, from the incoming delta (or the clean run's). Sums are f64 and rounded
   once; a row on which every coefficient is zero is not touched, so that an edit of strength 0, x1,
   or of a feature that is nowhere active changes no byte. */
#include <string.h>

#include "edit/edit.h"

typedef struct context {
    const fct_apply_args *a;
    const fct_sae *sae;
    fct_apply_work *work;
    float *delta;           /* [rows,d]: of the whole batch */
    int64_t rows, cells, d; /* cells: of one map */
} context;

static bool acts_on(const fct_edit *e, bool uncond)
{
    fct_half half = e->branch;
    if (half == FCT_HALF_DEFAULT) half = e->op == FCT_EDIT_ONLY ? FCT_HALF_COND : FCT_HALF_BOTH;
    return half == FCT_HALF_BOTH || (half == FCT_HALF_UNCOND) == uncond;
}

static const fct_codes *codes_for(const context *c, const fct_edit *e)
{
    return e->is_static ? c->a->clean : &c->work->incoming;
}

/* What the row's own code of a feature adds to it, in units of the feature's direction. */
static double part_of(const context *c, const fct_codes *codes, int64_t row, int64_t feature)
{
    double z = fct_codes_at(codes, row, feature);
    return z == 0 ? 0 : z * fct_codes_direction_scale(codes, c->sae, row, feature);
}

/* The length along a feature's direction that one unit of its code stands for, on this row. */
static double direction_per_code(const context *c, int64_t row, int64_t feature)
{
    return fct_codes_direction_scale(&c->work->incoming, c->sae, row, feature);
}

/* M of one row; place: its cell in the grid. */
static double mask_at(const context *c, const fct_live_edit *live, int64_t row, int64_t place)
{
    const fct_mask *m = &live->edit->mask;
    if (m->kind == FCT_MASK_MAP)
        return fct_codes_at(codes_for(c, live->edit), row, m->feature) > m->threshold ? 1 : 0;
    return live->mask ? live->mask[place] : 1;
}

/* ---- replacing ---- */

/* base := base + m (scale fresh - base)

   fresh: a direction, the rebuilt row, or NULL for zero. True: the row is replaced. */
static bool blend(double *base, const float *fresh, double scale, double m, int64_t d)
{
    for (int64_t i = 0; i < d; i++) {
        double v = fresh ? scale * fresh[i] : 0;
        base[i] = m == 1 ? v : base[i] + m * (v - base[i]);
    }
    return true;
}

static bool replace_row(const context *c, const fct_live_edit *live, bool uncond, int64_t row,
                        int64_t place)
{
    const fct_edit *e = live->edit;
    const fct_sae *sae = c->sae;
    double *base = c->work->base;
    int64_t d = c->d;
    bool acts = acts_on(e, uncond);
    if (!acts && e->op != FCT_EDIT_ONLY) return false;
    double m = mask_at(c, live, row, place);
    if (m == 0) return false;
    if (e->op == FCT_EDIT_REBUILD)
        return blend(base, c->work->rebuilt[e->is_static] + row * d, 1, m, d);
    /* `only` clears the half that it does not fill */
    if (e->op == FCT_EDIT_ZERO || !acts) return blend(base, NULL, 0, m, d);
    return blend(base, sae->w_dec + e->feature * d,
                 e->value * (double)sae->k * live->unit * direction_per_code(c, row, e->feature), m,
                 d);
}

/* ---- adding ---- */

/* sum := sum + scale d, the feature's direction. True: that is something. */
static bool add_direction(const context *c, int64_t feature, double scale)
{
    const float *direction = c->sae->w_dec + feature * c->d;
    if (scale == 0) return false;
    for (int64_t i = 0; i < c->d; i++) c->work->sum[i] += scale * direction[i];
    return true;
}

static bool add_source(const context *c, const fct_live_edit *live, double scale, int64_t place)
{
    bool changed = false;
    for (int64_t i = 0; i < live->edit->n_features; i++) {
        int64_t f = live->edit->features[i];
        if (add_direction(c, f, scale * part_of(c, live->source, place, f))) changed = true;
    }
    return changed;
}

static bool add_row(const context *c, const fct_live_edit *live, bool uncond, int64_t row,
                    int64_t place)
{
    const fct_edit *e = live->edit;
    const fct_codes *codes = codes_for(c, e);
    double v = e->value, u = live->unit, sign = uncond ? -1 : 1;
    int64_t f = e->feature;
    if (!acts_on(e, uncond)) return false;
    double m = mask_at(c, live, row, place);
    if (m == 0) return false;
    switch (e->op) {
    case FCT_EDIT_ADD: return add_direction(c, f, sign * v * u * direction_per_code(c, row, f) * m);
    case FCT_EDIT_FROM: return add_source(c, live, sign * v * m, place);
    case FCT_EDIT_SCALE: return add_direction(c, f, (v - 1) * part_of(c, codes, row, f) * m);
    case FCT_EDIT_SET:
        return add_direction(
            c, f, (v * u * direction_per_code(c, row, f) - part_of(c, codes, row, f)) * m);
    default: return false;
    }
}

static void apply_row(const context *c, int64_t row, int64_t place, bool uncond)
{
    const fct_apply_args *a = c->a;
    float *delta = c->delta + row * c->d;
    double *base = c->work->base, *sum = c->work->sum;
    bool replaced = false, added = false;
    for (int64_t i = 0; i < c->d; i++) {
        base[i] = delta[i];
        sum[i] = 0;
    }
    for (int64_t i = 0; i < a->n_edits; i++) {
        if (fct_edit_replaces(a->edit[i].edit->op))
            replaced |= replace_row(c, &a->edit[i], uncond, row, place);
        else
            added |= add_row(c, &a->edit[i], uncond, row, place);
    }
    if (!replaced && !added) return;
    for (int64_t i = 0; i < c->d; i++)
        if (replaced || sum[i] != 0) delta[i] = (float)(base[i] + sum[i]);
}

static fct_status apply_half(const context *c, fct_half half)
{
    float *rows;
    int64_t n;
    FCT_TRY(fct_tap_rows(&rows, &n, c->a->event, c->a->delta, -1, half));
    int64_t first = n > 0 ? (rows - c->delta) / c->d : 0;
    for (int64_t row = first; row < first + n; row++)
        apply_row(c, row, row % c->cells, half == FCT_HALF_UNCOND);
    return FCT_OK;
}

/* ---- what is needed first ---- */

/* All rows from the codes that the edit reads: each half of guidance may have an edit. */
static fct_status rebuild(const context *c, const fct_edit *e)
{
    fct_apply_work *w = c->work;
    int at = e->is_static;
    FCT_TRY(fct_reserve(&w->rebuilt[at], &w->rebuilt_room[at], c->rows * c->d,
                        (int64_t)sizeof *w->rebuilt[at]));
    return fct_codes_decode(codes_for(c, e), &w->coder, w->rebuilt[at]);
}

/* Memory, the codes of the incoming rows, and their reconstruction. */
static fct_status prepare(const context *c)
{
    const fct_apply_args *a = c->a;
    fct_apply_work *w = c->work;
    bool reads = false;
    for (int64_t i = 0; i < a->n_edits; i++) {
        const fct_edit *e = a->edit[i].edit;
        if (fct_edit_reads_codes(e) && !e->is_static) reads = true;
    }
    /* edits without codes may still need the rows' own scale */
    if (c->sae && c->sae->normalize != FCT_SAE_NORMALIZE_NONE) reads = true;
    FCT_TRY(fct_reserve(&w->base, &w->base_room, c->d, (int64_t)sizeof *w->base));
    FCT_TRY(fct_reserve(&w->sum, &w->sum_room, c->d, (int64_t)sizeof *w->sum));
    if (reads) FCT_TRY(fct_codes_encode(&w->incoming, &w->coder, c->delta, c->rows));
    for (int64_t i = 0; i < a->n_edits; i++)
        if (a->edit[i].edit->op == FCT_EDIT_REBUILD) FCT_TRY(rebuild(c, a->edit[i].edit));
    return FCT_OK;
}

void fct_apply_work_clear(fct_apply_work *w)
{
    fct_coder_clear(&w->coder);
    fct_codes_clear(&w->incoming);
    for (int i = 0; i < 2; i++) fct_free(w->rebuilt[i]);
    fct_free(w->base);
    fct_free(w->sum);
    *w = (fct_apply_work){0};
}

fct_status fct_edit_apply(const fct_apply_args *a)
{
    context c = {.a = a,
                 .sae = a->work->coder.code.sae,
                 .work = a->work,
                 .cells = a->delta->dim[1] * a->delta->dim[2],
                 .d = a->delta->dim[3]};
    if (a->n_edits == 0) return FCT_OK;
    FCT_TRY(fct_tap_rows(&c.delta, &c.rows, a->event, a->delta, -1, FCT_HALF_BOTH));
    FCT_TRY(prepare(&c));
    FCT_TRY(apply_half(&c, FCT_HALF_UNCOND));
    return apply_half(&c, FCT_HALF_COND);
}

/* key.c - hashes all that a block's edits do to its delta, so that a session can tell whether what
   it kept of another run still serves.

   Equal keys mean equal results on equal input. In go the edits' JSON (masks' pixels and all), the
   steps in which they act, the SAE and the statistics that strengths are counted in. The codes of
   the run without edits and of source runs go in as they came out, not by how they were made:
   whatever changes them changes the key. */
#include <string.h>

#include "edit/edit.h"

static void add_text(fct_sha256 *h, const char *text)
{
    fct_sha256_add(h, text, (int64_t)strlen(text) + 1);
}

static void add_counts(fct_sha256 *h, const int64_t *count, int64_t n)
{
    fct_sha256_add(h, count, n * (int64_t)sizeof *count);
}

static void add_codes(fct_sha256 *h, const fct_codes *c)
{
    int64_t width = c->index ? c->k : c->f;
    add_counts(h, (const int64_t[]){c->n, c->k, c->f, c->scale != NULL}, 4);
    fct_sha256_add(h, c->value, c->n * width * (int64_t)sizeof *c->value);
    if (c->index) fct_sha256_add(h, c->index, c->n * width * (int64_t)sizeof *c->index);
    if (!c->scale) return;
    fct_sha256_add(h, c->scale, c->n * (int64_t)sizeof *c->scale);
    fct_sha256_add(h, c->shift, c->n * (int64_t)sizeof *c->shift);
}

static void add_gather(fct_sha256 *h, const fct_gather *g)
{
    add_counts(h, (const int64_t[]){g->item, g->n}, 2);
    for (int64_t i = 0; i < g->n; i++) {
        const fct_gathered *at = &g->at[i];
        add_counts(h, (const int64_t[]){at->step, at->first_item, at->h, at->w}, 4);
        add_codes(h, &at->codes);
    }
}

static void add_edit(fct_sha256 *h, const fct_plan *p, const fct_compiled *c)
{
    add_text(h, c->json);
    add_counts(h, (const int64_t[]){c->first_step, c->last_step}, 2);
    fct_sha256_add(h, &c->unit, (int64_t)sizeof c->unit);
    if (c->edit->op == FCT_EDIT_FROM)
        add_gather(h, &p->set->source[c->source].gather[p - p->set->plan]);
}

static void make_key(fct_plan *p)
{
    fct_sha256 h;
    bool needs_sae = false;
    fct_sha256_init(&h);
    add_text(&h, "edits of a block, 1");
    add_text(&h, p->block->name);
    for (int64_t i = p->first; i < p->first + p->n; i++) {
        add_edit(&h, p, &p->set->compiled[i]);
        needs_sae |= fct_edit_needs_sae(p->set->compiled[i].edit);
    }
    if (needs_sae) add_text(&h, fct_sae_bound_key(p->bound));
    if (p->clean.block) add_gather(&h, &p->clean);
    fct_sha256_hex(&h, p->key);
}

void fct_edit_set_make_keys(fct_edit_set *set)
{
    for (int64_t i = 0; i < set->n_plans; i++) {
        make_key(&set->plan[i]);
        set->tap[i].key = set->plan[i].key;
    }
}

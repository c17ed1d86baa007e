/* blocks.c - measures what each block does for the picture: by pictures in which its delta is zero,
   and by pictures in which its SAE rebuilds the delta.

   Beside the change of the pixels: which named factors the checker still reads. As a scale, the
   change between pictures of unrelated pairs; as a bound, all four blocks zeroed at once. */
#include <stdio.h>
#include <string.h>

#include "eval/truth/truth.h"

enum { VARIANTS = 2 * FCT_TRUTH_BLOCKS + 1 };

/* One edited version of every pair. */
typedef struct variant {
    const char *const *edit;
    int64_t n_edits;
    const char *name; /* of the saved pictures: NAME-0.png */
    double *change;   /* mean over the pairs */
    double *read;     /* [n_factors]: counts, later shares */
} variant;

typedef struct variants {
    variant v[VARIANTS];
    fct_reading reading[FCT_TRUTH_MAX_BLOCK_PAIRS][VARIANTS];
    double change[FCT_TRUTH_MAX_BLOCK_PAIRS][VARIANTS];
} variants;

static void count_reads(double *read, const fct_truth *t, const fct_truth_pair *p,
                        const fct_reading *r)
{
    for (int64_t f = 0; f < t->world.n_factors; f++)
        if (p->named[f] >= 0) read[f] += fct_truth_reads(t, r, f, p->named[f]);
}

static fct_status run_variant(fct_truth_worker *w, void *self, int64_t at)
{
    variants *all = self;
    int64_t i = at / VARIANTS, k = at % VARIANTS;
    const variant *v = &all->v[k];
    const fct_truth_pair *p = &w->t->result.show.pair[i];
    char name[96];
    snprintf(name, sizeof name, "%s-%lld", v->name, (long long)i);
    uint8_t *pixels = NULL;
    fct_truth_shot shot = {.prompt = p->prompt,
                           .seed = p->seed,
                           .edit = v->edit,
                           .n_edits = v->n_edits,
                           .save = i < FCT_TRUTH_EXAMPLES ? name : NULL};
    FCT_TRY(fct_truth_take(w, &shot, &pixels));
    all->change[i][k] = fct_eval_pixel_change(pixels, p->clean, fct_truth_pixels(w->t));
    fct_status st = fct_truth_read(w, pixels, &all->reading[i][k]);
    fct_free(pixels);
    return st;
}

static void to_shares(double *read, const fct_truth *t)
{
    for (int64_t f = 0; f < t->world.n_factors; f++)
        if (t->result.n_named[f] > 0) read[f] /= (double)t->result.n_named[f];
}

/* The card whose painting does most, beside what a random direction does. */
static int64_t best_card(const fct_truth_block *b)
{
    int64_t best = -1;
    double most = -2;
    for (int64_t i = 0; i < b->n_cards; i++) {
        const fct_truth_card *c = &b->card[i];
        double gain = c->share[FCT_TRUTH_PAINTED] - c->share[FCT_TRUTH_DIRECTION];
        if (!c->chosen || gain <= most) continue;
        most = gain;
        best = i;
    }
    return best;
}

static fct_status paint_example(fct_truth_worker *w, void *self, int64_t at)
{
    (void)self;
    fct_truth *t = w->t;
    fct_truth_block *b = &t->result.block[at / FCT_TRUTH_EXAMPLES];
    const fct_truth_pair *p = &t->result.show.pair[at % FCT_TRUTH_EXAMPLES];
    if (b->best_card < 0 || at % FCT_TRUTH_EXAMPLES >= t->result.n_block_pairs) return FCT_OK;
    fct_truth_painting edits;
    char name[96];
    snprintf(name, sizeof name, "%s-painted-%lld", b->name, (long long)(at % FCT_TRUTH_EXAMPLES));
    fct_truth_paint_card(&edits, t, p, b, &b->card[b->best_card]);
    memcpy(b->example[at % FCT_TRUTH_EXAMPLES], edits.text[0], sizeof b->example[0]);
    return fct_truth_take(w,
                          &(fct_truth_shot){.prompt = p->prompt,
                                            .seed = p->seed,
                                            .edit = edits.edit,
                                            .n_edits = edits.n,
                                            .save = name},
                          NULL);
}

/* Sums in the order of the pairs. */
static void count(fct_truth *t, const variants *all, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const fct_truth_pair *p = &t->result.show.pair[i];
        for (int64_t f = 0; f < t->world.n_factors; f++) t->result.n_named[f] += p->named[f] >= 0;
        count_reads(t->result.read_clean, t, p, &p->reading);
        for (int64_t k = 0; k < VARIANTS; k++) {
            *all->v[k].change += all->change[i][k] / (double)n;
            count_reads(all->v[k].read, t, p, &all->reading[i][k]);
        }
        if (i > 0)
            t->result.change_other_pair +=
                fct_eval_pixel_change(p->clean, p[-1].clean, fct_truth_pixels(t)) / (double)(n - 1);
    }
    to_shares(t->result.read_clean, t);
    for (int64_t k = 0; k < VARIANTS; k++) to_shares(all->v[k].read, t);
}

static fct_status run_variants(fct_truth *t, variants *all)
{
    char text[2 * FCT_TRUTH_BLOCKS][64], name[VARIANTS][64] = {"all-zeroed"};
    const char *edit[2 * FCT_TRUTH_BLOCKS];
    variant *v = all->v;
    v[0] = (variant){edit, FCT_TRUTH_BLOCKS, name[0], &t->result.change_all_zeroed,
                     t->result.read_all_zeroed};
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        fct_truth_block *b = &t->result.block[i];
        /* places among the edits; the zeroing ones come first */
        int64_t z = i, r = FCT_TRUTH_BLOCKS + i;
        snprintf(text[z], sizeof text[z], "%s zero", b->name);
        snprintf(text[r], sizeof text[r], "%s rebuild", b->name);
        snprintf(name[1 + z], sizeof name[1 + z], "%s-zeroed", b->name);
        snprintf(name[1 + r], sizeof name[1 + r], "%s-rebuilt", b->name);
        edit[z] = text[z];
        edit[r] = text[r];
        v[1 + z] = (variant){&edit[z], 1, name[1 + z], &b->change_zeroed, b->read_zeroed};
        v[1 + r] = (variant){&edit[r], 1, name[1 + r], &b->change_rebuilt, b->read_rebuilt};
    }
    int64_t n = t->result.n_block_pairs = t->result.size.block_pairs;
    for (int64_t i = 0; i < n; i++) fct_truth_want(&t->show, i, i < FCT_TRUTH_EXAMPLES);
    FCT_TRY(fct_truth_make_wanted(t, &t->show));
    FCT_TRY(fct_truth_share(t, "specialised: blocks zeroed and rebuilt", n * VARIANTS, run_variant,
                            all));
    count(t, all, n);
    return FCT_OK;
}

fct_status fct_truth_specialise(fct_truth *t)
{
    variants *all = NULL;
    FCT_TRY(fct_new(&all, 1, sizeof *all));
    fct_status st = run_variants(t, all);
    fct_free(all);
    FCT_TRY(st);
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++)
        t->result.block[i].best_card = best_card(&t->result.block[i]);
    return fct_truth_share(t, "specialised: examples", FCT_TRUTH_BLOCKS * FCT_TRUTH_EXAMPLES,
                           paint_example, NULL);
}

/* demo_blocks.c - what each block is for: pictures without what it writes, and with what its SAE
   makes of it.

   Beside the change of the pixels: which named factors the checker still reads. As a scale, the
   change between pictures of unrelated pairs; as a bound, all four blocks zeroed at once. */
#include <stdio.h>

#include "cli/demo.h"

enum { SHOWN = 3, VARIANTS = 2 * DEMO_BLOCKS + 1 };

typedef struct variant { /* one edited version of every pair */
    const char *const *edit;
    int64_t n_edits;
    const char *name; /* of the saved pictures: NAME-0.png */
    double *change;   /* mean over the pairs */
    double *read;     /* [n_factors]: counts, later shares */
} variant;

typedef struct variants {
    variant v[VARIANTS];
    fct_reading reading[DEMO_BLOCK_PAIRS][VARIANTS];
    double change[DEMO_BLOCK_PAIRS][VARIANTS];
} variants;

static void count_reads(double *read, const demo *d, const demo_pair *p, const fct_reading *r)
{
    for (int64_t f = 0; f < d->world.n_factors; f++)
        if (p->named[f] >= 0) read[f] += demo_reads(d, r, f, p->named[f]);
}

static fct_status run_variant(demo_hand *h, void *self, int64_t at)
{
    variants *all = self;
    int64_t i = at / VARIANTS, k = at % VARIANTS;
    const variant *v = &all->v[k];
    const demo_pair *p = &h->d->show.pair[i];
    char name[96];
    snprintf(name, sizeof name, "%s-%lld", v->name, (long long)i);
    uint8_t *pixels = NULL;
    demo_shot shot = {.prompt = p->prompt,
                      .seed = p->seed,
                      .edit = v->edit,
                      .n_edits = v->n_edits,
                      .save = i < SHOWN ? name : NULL};
    FCT_TRY(demo_take(h, &shot, &pixels));
    all->change[i][k] = fct_eval_pixel_change(pixels, p->clean, demo_pixels(h->d));
    fct_status st = demo_read(h, pixels, &all->reading[i][k]);
    fct_free(pixels);
    return st;
}

static void to_shares(double *read, const demo *d)
{
    for (int64_t f = 0; f < d->world.n_factors; f++)
        if (d->n_named[f] > 0) read[f] /= (double)d->n_named[f];
}

/* The card whose painting does most, beside what a random direction does. */
static int64_t best_card(const demo_block *b)
{
    int64_t best = -1;
    double most = -2;
    for (int64_t i = 0; i < b->n_cards; i++) {
        const demo_card *c = &b->card[i];
        double gain = c->share[DEMO_PAINTED] - c->share[DEMO_DIRECTION];
        if (!c->chosen || gain <= most) continue;
        most = gain;
        best = i;
    }
    return best;
}

static fct_status paint_example(demo_hand *h, void *self, int64_t at)
{
    (void)self;
    const demo *d = h->d;
    const demo_block *b = &d->block[at / SHOWN];
    const demo_pair *p = &d->show.pair[at % SHOWN];
    int64_t card = d->block_card[at / SHOWN];
    if (card < 0 || at % SHOWN >= d->n_block_pairs) return FCT_OK;
    demo_paint edits;
    char name[96];
    snprintf(name, sizeof name, "%s-painted-%lld", b->info->short_name, (long long)(at % SHOWN));
    FCT_TRY(demo_paint_card(&edits, d, p, b, &b->card[card]));
    return demo_take(h,
                     &(demo_shot){.prompt = p->prompt,
                                  .seed = p->seed,
                                  .edit = edits.edit,
                                  .n_edits = edits.n,
                                  .save = name},
                     NULL);
}

/* Sums in the order of the pairs. */
static void count(demo *d, const variants *all, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const demo_pair *p = &d->show.pair[i];
        for (int64_t f = 0; f < d->world.n_factors; f++) d->n_named[f] += p->named[f] >= 0;
        count_reads(d->read_clean, d, p, &p->reading);
        for (int64_t k = 0; k < VARIANTS; k++) {
            *all->v[k].change += all->change[i][k] / (double)n;
            count_reads(all->v[k].read, d, p, &all->reading[i][k]);
        }
        if (i > 0)
            d->change_other_pair +=
                fct_eval_pixel_change(p->clean, p[-1].clean, demo_pixels(d)) / (double)(n - 1);
    }
    to_shares(d->read_clean, d);
    for (int64_t k = 0; k < VARIANTS; k++) to_shares(all->v[k].read, d);
}

static fct_status run_variants(demo *d, variants *all)
{
    char text[2 * DEMO_BLOCKS][64], name[VARIANTS][64] = {"all-zeroed"};
    const char *edit[2 * DEMO_BLOCKS];
    variant *v = all->v;
    v[0] = (variant){edit, DEMO_BLOCKS, name[0], &d->change_all_zeroed, d->read_all_zeroed};
    for (int64_t i = 0; i < DEMO_BLOCKS; i++) {
        demo_block *b = &d->block[i];
        int64_t z = i,
                r = DEMO_BLOCKS + i; /* places among the edits; the zeroing ones come first */
        snprintf(text[z], sizeof text[z], "%s zero", b->info->short_name);
        snprintf(text[r], sizeof text[r], "%s rebuild", b->info->short_name);
        snprintf(name[1 + z], sizeof name[1 + z], "%s-zeroed", b->info->short_name);
        snprintf(name[1 + r], sizeof name[1 + r], "%s-rebuilt", b->info->short_name);
        edit[z] = text[z];
        edit[r] = text[r];
        v[1 + z] = (variant){&edit[z], 1, name[1 + z], &b->change_zeroed, b->read_zeroed};
        v[1 + r] = (variant){&edit[r], 1, name[1 + r], &b->change_rebuilt, b->read_rebuilt};
    }
    int64_t n = d->n_block_pairs = d->size.block_pairs;
    for (int64_t i = 0; i < n; i++) demo_want(&d->show, i, i < SHOWN);
    FCT_TRY(demo_make_wanted(d, &d->show));
    FCT_TRY(
        demo_share(d, "specialised: blocks zeroed and rebuilt", n * VARIANTS, run_variant, all));
    count(d, all, n);
    return FCT_OK;
}

fct_status demo_specialise(demo *d)
{
    variants *all = NULL;
    FCT_TRY(fct_new(&all, 1, sizeof *all));
    fct_status st = run_variants(d, all);
    fct_free(all);
    FCT_TRY(st);
    for (int64_t i = 0; i < DEMO_BLOCKS; i++) d->block_card[i] = best_card(&d->block[i]);
    return demo_share(d, "specialised: examples", DEMO_BLOCKS * SHOWN, paint_example, NULL);
}

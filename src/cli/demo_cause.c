/* demo_cause.c - does painting a feature put its word into pictures whose captions leave it open,
   and does anything else do so?

   Strength and mask are chosen on pairs of `choose`; what is counted happens on pairs of `show`.
   Both controls push as hard as the feature does (the same norm), under the same mask: a random
   direction, and the direction of a random other feature. The random directions are kept as SAEs of
   their own in DIR/controls, so that their pictures replay like all others. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/demo.h"
#include "sae/sae.h"

/* In means of the feature; the middle one is tried first. */
static const double strengths[] = {2, 4, 8};

/* ---- the random directions ---- */

double demo_length(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Row i is as long as the decoder row of card i's feature. */
static fct_status make_directions(demo *d, demo_block *b, uint64_t seed)
{
    fct_status st = FCT_OK;
    fct_sae *sae = NULL;
    char *dir = NULL, *text = NULL;
    fct_rng rng;
    int64_t width = b->sae->d;
    fct_rng_init(&rng, seed);
    FCT_TRY_OUT(fct_sae_new(&sae, FCT_SAE_TOPK, width, DEMO_CARDS, 1));
    for (int64_t i = 0; i < DEMO_CARDS; i++) {
        float *row = sae->w_dec + i * width;
        fct_rng_normal(&rng, row, width);
        double want =
            i < b->n_cards ? demo_length(b->sae->w_dec + b->card[i].feature * width, width) : 1;
        float scale = (float)(want / demo_length(row, width));
        for (int64_t j = 0; j < width; j++) row[j] *= scale;
    }
    FCT_TRY_OUT(fct_strdup(&sae->block, b->info->short_name));
    FCT_TRY_OUT(fct_format(&dir, "%s/controls/%s", d->dir, b->info->short_name));
    FCT_TRY_OUT(fct_sae_save(sae, dir, NULL));
    FCT_TRY_OUT(fct_format(&text, "%s=%s", b->info->short_name, dir));
    FCT_TRY_OUT(fct_sae_set_add(&d->controls, d->info, text));
out:
    fct_sae_free(sae);
    fct_free(dir);
    fct_free(text);
    return st;
}

/* ---- pairs ---- */

/* Pairs whose captions do not name the factor (for factors where silence has a meaning, or name
   just that), from a place of the card's own on. */
static int64_t find_pairs(int64_t *out, int64_t want, const demo *d, const demo_set *set,
                          const demo_card *c, int64_t start)
{
    int64_t n = 0, unsaid = d->world.factor[c->factor].unsaid;
    for (int64_t i = 0; i < set->n && n < want; i++) {
        int64_t at = (start + i) % set->n;
        int64_t named = set->pair[at].named[c->factor];
        if (named < 0 || named == unsaid) out[n++] = at;
    }
    return n;
}

/* ---- one painted picture ---- */

typedef struct painting {
    const demo_block *b;
    const demo_card *c;
    demo_kind kind;
    double strength;
    bool at_object;
} painting;

typedef struct outcome {
    bool reads, guesses;
    double change;
} outcome;

static fct_status paint(demo_hand *h, const painting *p, const demo_pair *pair, const char *save,
                        outcome *out)
{
    const demo *d = h->d;
    int64_t width = p->b->sae->d, number = p->c - p->b->card, feature = p->c->feature;
    double push = p->strength * (double)p->b->sae->mean[feature];
    if (p->kind == DEMO_DIRECTION) feature = number;
    if (p->kind == DEMO_OTHER) {
        push *= demo_length(p->b->sae->w_dec + feature * width, width) /
                demo_length(p->b->sae->w_dec + p->c->other * width, width);
        feature = p->c->other;
    }
    demo_paint edits;
    FCT_TRY(demo_paint_edits(&edits, d, pair, p->b, feature, push, p->at_object));
    demo_shot shot = {.prompt = pair->prompt,
                      .seed = pair->seed,
                      .edit = edits.edit,
                      .n_edits = edits.n,
                      .controls = p->kind == DEMO_DIRECTION,
                      .save = save};
    uint8_t *pixels = NULL;
    fct_reading r;
    FCT_TRY(demo_take(h, &shot, &pixels));
    fct_status st = demo_read(h, pixels, &r);
    if (st == FCT_OK)
        *out = (outcome){.reads = demo_reads(d, &r, p->c->factor, p->c->value),
                         .guesses = demo_guesses(d, &r, p->c->factor, p->c->value),
                         .change = fct_eval_pixel_change(pixels, pair->clean, demo_pixels(d))};
    fct_free(pixels);
    return st;
}

/* ---- strength and mask ---- */

typedef struct trial { /* shares of the trial's pairs; equal reads are told apart by guesses */
    double read, guess;
} trial;

static bool is_better(const trial *a, const trial *b)
{
    const double same = 1e-9;
    if (fabs(a->read - b->read) > same) return a->read > b->read;
    return a->guess > b->guess + same;
}

static fct_status try_painting(demo_hand *h, const painting *p, const int64_t *pairs, int64_t n,
                               trial *out)
{
    *out = (trial){0};
    for (int64_t i = 0; i < n; i++) {
        outcome o;
        FCT_TRY(paint(h, p, &h->d->choose.pair[pairs[i]], NULL, &o));
        out->read += o.reads / (double)n;
        out->guess += o.guesses / (double)n;
    }
    return FCT_OK;
}

/* The mask at the middle strength, then the strength under that mask; ties go to the whole picture
   and to the weaker, and nothing is tried that could only tie. A drawn feature is painted over the
   whole picture at the middle strength. */
static fct_status choose_strength(demo_hand *h, const demo_block *b, demo_card *c,
                                  const int64_t *pairs, int64_t n)
{
    enum { WEAK, MIDDLE, STRONG };
    trial whole = {0}, object = {0}, got[FCT_COUNT(strengths)] = {{0}};
    const double all = 1 - 1e-9;
    c->strength = strengths[MIDDLE];
    if (!c->chosen) return FCT_OK;
    painting p = {.b = b, .c = c, .kind = DEMO_PAINTED, .strength = strengths[MIDDLE]};
    FCT_TRY(try_painting(h, &p, pairs, n, &whole));
    p.at_object = true;
    if (whole.read < all) FCT_TRY(try_painting(h, &p, pairs, n, &object));
    p.at_object = c->at_object = is_better(&object, &whole);
    got[MIDDLE] = c->at_object ? object : whole;
    p.strength = strengths[WEAK];
    FCT_TRY(try_painting(h, &p, pairs, n, &got[WEAK]));
    p.strength = strengths[STRONG];
    if (got[MIDDLE].read < all) FCT_TRY(try_painting(h, &p, pairs, n, &got[STRONG]));
    int best = WEAK;
    for (int i = MIDDLE; i <= STRONG; i++)
        if (is_better(&got[i], &got[best])) best = i;
    c->strength = strengths[best];
    c->trial_share = got[best].read;
    return FCT_OK;
}

/* ---- a card ---- */

static const char *const kind_name[DEMO_KINDS] = {"clean", "painted", "direction", "other"};

static fct_status measure_card(demo_hand *h, const demo_block *b, demo_card *c)
{
    const demo *d = h->d;
    for (int64_t i = 0; i < c->n_pairs; i++) {
        const demo_pair *pair = &d->show.pair[c->pair[i]];
        c->read[i][DEMO_CLEAN] = demo_reads(d, &pair->reading, c->factor, c->value);
        c->guess[DEMO_CLEAN] += demo_guesses(d, &pair->reading, c->factor, c->value);
        for (int kind = DEMO_PAINTED; kind < DEMO_KINDS; kind++) {
            char name[96];
            outcome o;
            snprintf(name, sizeof name, "%s-%lld-%s-%lld", b->info->short_name,
                     (long long)c->feature, kind_name[kind], (long long)i);
            painting p = {.b = b,
                          .c = c,
                          .kind = (demo_kind)kind,
                          .strength = c->strength,
                          .at_object = c->at_object};
            FCT_TRY(paint(h, &p, pair, i < DEMO_SHOWN ? name : NULL, &o));
            c->read[i][kind] = o.reads;
            c->guess[kind] += o.guesses;
            c->change[kind] += o.change / (double)c->n_pairs;
        }
    }
    for (int kind = 0; kind < DEMO_KINDS && c->n_pairs > 0; kind++) {
        c->guess[kind] /= (double)c->n_pairs;
        for (int64_t i = 0; i < c->n_pairs; i++)
            c->share[kind] += c->read[i][kind] / (double)c->n_pairs;
    }
    return FCT_OK;
}

/* The pairs that each card is tried and measured on. */
typedef struct plan {
    int64_t trial[DEMO_TRIALS];
    int64_t n_trial;
} plan;

static void plan_card(plan *p, demo *d, demo_card *c, int64_t start)
{
    int64_t few = d->size.pairs < DEMO_DRAWN_PAIRS ? d->size.pairs : DEMO_DRAWN_PAIRS;
    if (c->factor < 0) return;
    if (c->chosen) p->n_trial = find_pairs(p->trial, d->size.trial_pairs, d, &d->choose, c, start);
    for (int64_t i = 0; i < p->n_trial; i++) demo_want(&d->choose, p->trial[i], false);
    c->n_pairs = find_pairs(c->pair, c->chosen ? d->size.pairs : few, d, &d->show, c, start);
    for (int64_t i = 0; i < c->n_pairs; i++) demo_want(&d->show, c->pair[i], i < DEMO_SHOWN);
}

static fct_status cause(demo_hand *h, void *self, int64_t i)
{
    const plan *p = (const plan *)self + i;
    demo_block *b;
    demo_card *c = demo_find_card(h->d, i, &b);
    if (c->factor < 0) return FCT_OK;
    FCT_TRY(choose_strength(h, b, c, p->trial, p->n_trial));
    return measure_card(h, b, c);
}

fct_status demo_cause(demo *d)
{
    plan p[DEMO_BLOCKS * DEMO_CARDS] = {{{0}, 0}};
    int64_t n = demo_count_cards(d);
    for (int64_t b = 0; b < DEMO_BLOCKS; b++)
        FCT_TRY(make_directions(d, &d->block[b], d->seed + 500 + (uint64_t)b));
    for (int64_t i = 0; i < n; i++) {
        demo_block *b;
        demo_card *c = demo_find_card(d, i, &b);
        plan_card(&p[i], d, c, i * 41); /* cards are tried on different pairs */
    }
    FCT_TRY(demo_make_wanted(d, &d->choose));
    FCT_TRY(demo_make_wanted(d, &d->show));
    return demo_share(d, "causal: painted words", n, cause, p);
}

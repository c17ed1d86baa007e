/* cause.c - paints features into pictures whose captions leave their word open, and measures
   whether the word appears, and whether anything else makes it appear.

   Strength and mask are chosen on pairs of `choose`; what is counted happens on pairs of `show`.
   Both controls push as hard as the feature does (the same norm), under the same mask: a random
   direction, and the direction of a random other feature. The random directions are kept as SAEs of
   their own in DIR/controls, so that their pictures replay like all others. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/truth/truth.h"
#include "sae/sae.h"

enum { DRAWN_PAIRS = 2 }; /* pairs of a feature that was drawn at random */

/* In means of the feature; the middle one is tried first. */
static const double strengths[] = {2, 4, 8};

/* ---- the random directions ---- */

/* Row i is as long as the decoder row of card i's feature. */
static fct_status make_directions(fct_truth *t, fct_truth_block *b, uint64_t seed)
{
    fct_status st = FCT_OK;
    fct_sae *sae = NULL;
    char *dir = NULL, *text = NULL;
    fct_rng rng;
    int64_t width = b->sae->d;
    fct_rng_init(&rng, seed);
    FCT_TRY_OUT(fct_sae_new(&sae, FCT_SAE_TOPK, width, FCT_TRUTH_MAX_CARDS, 1));
    for (int64_t i = 0; i < FCT_TRUTH_MAX_CARDS; i++) {
        float *row = sae->w_dec + i * width;
        fct_rng_normal(&rng, row, width);
        double want =
            i < b->n_cards ? fct_eval_length(b->sae->w_dec + b->card[i].feature * width, width) : 1;
        float scale = (float)(want / fct_eval_length(row, width));
        for (int64_t j = 0; j < width; j++) row[j] *= scale;
    }
    FCT_TRY_OUT(fct_strdup(&sae->block, b->name));
    FCT_TRY_OUT(fct_format(&dir, "%s/controls/%s", t->dir, b->name));
    FCT_TRY_OUT(fct_sae_save(sae, dir, NULL));
    FCT_TRY_OUT(fct_format(&text, "%s=%s", b->name, dir));
    FCT_TRY_OUT(fct_sae_set_add(&t->controls, t->result.model, text));
out:
    fct_sae_free(sae);
    fct_free(dir);
    fct_free(text);
    return st;
}

/* ---- pairs ---- */

/* Pairs whose captions do not name the factor (for factors where silence has a meaning, or name
   just that), from a place of the card's own on. */
static int64_t find_pairs(int64_t *out, int64_t want, const fct_truth *t, const fct_truth_set *set,
                          const fct_truth_card *c, int64_t start)
{
    int64_t n = 0, unsaid = t->world.factor[c->factor].unsaid;
    for (int64_t i = 0; i < set->n && n < want; i++) {
        int64_t at = (start + i) % set->n;
        int64_t named = set->pair[at].named[c->factor];
        if (named < 0 || named == unsaid) out[n++] = at;
    }
    return n;
}

/* ---- one painted picture ---- */

typedef struct painting {
    const fct_truth_block *b;
    const fct_truth_card *c;
    fct_truth_kind kind;
    double strength;
    bool at_object;
} painting;

typedef struct outcome {
    bool reads, guesses;
    double change;
} outcome;

static fct_status paint(fct_truth_worker *w, const painting *p, const fct_truth_pair *pair,
                        const char *save, outcome *out)
{
    const fct_truth *t = w->t;
    int64_t width = p->b->sae->d, number = p->c - p->b->card, feature = p->c->feature;
    double push = p->strength * (double)p->b->sae->mean[feature];
    if (p->kind == FCT_TRUTH_DIRECTION) feature = number;
    if (p->kind == FCT_TRUTH_OTHER) {
        push *= fct_eval_length(p->b->sae->w_dec + feature * width, width) /
                fct_eval_length(p->b->sae->w_dec + p->c->other * width, width);
        feature = p->c->other;
    }
    fct_truth_painting edits;
    fct_truth_paint(&edits, t, pair, &(fct_truth_paint_desc){p->b, feature, push, p->at_object});
    fct_truth_shot shot = {.prompt = pair->prompt,
                           .seed = pair->seed,
                           .edit = edits.edit,
                           .n_edits = edits.n,
                           .controls = p->kind == FCT_TRUTH_DIRECTION,
                           .save = save};
    uint8_t *pixels = NULL;
    fct_reading r;
    FCT_TRY(fct_truth_take(w, &shot, &pixels));
    fct_status st = fct_truth_read(w, pixels, &r);
    if (st == FCT_OK)
        *out = (outcome){.reads = fct_truth_reads(t, &r, p->c->factor, p->c->value),
                         .guesses = fct_truth_guesses(t, &r, p->c->factor, p->c->value),
                         .change = fct_eval_pixel_change(pixels, pair->clean, fct_truth_pixels(t))};
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

static fct_status try_painting(fct_truth_worker *w, const painting *p, const int64_t *pairs,
                               int64_t n, trial *out)
{
    *out = (trial){0};
    for (int64_t i = 0; i < n; i++) {
        outcome o;
        FCT_TRY(paint(w, p, &w->t->result.choose.pair[pairs[i]], NULL, &o));
        out->read += o.reads / (double)n;
        out->guess += o.guesses / (double)n;
    }
    return FCT_OK;
}

/* The mask at the middle strength, then the strength under that mask; ties go to the whole picture
   and to the weaker, and nothing is tried that could only tie. A drawn feature is painted over the
   whole picture at the middle strength. */
static fct_status choose_strength(fct_truth_worker *w, const fct_truth_block *b, fct_truth_card *c,
                                  const int64_t *pairs, int64_t n)
{
    enum { WEAK, MIDDLE, STRONG };
    trial whole = {0}, object = {0}, got[FCT_COUNT(strengths)] = {{0}};
    const double all = 1 - 1e-9;
    c->strength = strengths[MIDDLE];
    if (!c->chosen) return FCT_OK;
    painting p = {.b = b, .c = c, .kind = FCT_TRUTH_PAINTED, .strength = strengths[MIDDLE]};
    FCT_TRY(try_painting(w, &p, pairs, n, &whole));
    p.at_object = true;
    if (whole.read < all) FCT_TRY(try_painting(w, &p, pairs, n, &object));
    p.at_object = c->at_object = is_better(&object, &whole);
    got[MIDDLE] = c->at_object ? object : whole;
    p.strength = strengths[WEAK];
    FCT_TRY(try_painting(w, &p, pairs, n, &got[WEAK]));
    p.strength = strengths[STRONG];
    if (got[MIDDLE].read < all) FCT_TRY(try_painting(w, &p, pairs, n, &got[STRONG]));
    int best = WEAK;
    for (int i = MIDDLE; i <= STRONG; i++)
        if (is_better(&got[i], &got[best])) best = i;
    c->strength = strengths[best];
    c->trial_share = got[best].read;
    return FCT_OK;
}

/* ---- a card ---- */

/* The edits whose pictures are kept. */
static void name_painted(const fct_truth *t, const fct_truth_block *b, fct_truth_card *c)
{
    for (int64_t i = 0; i < FCT_TRUTH_SHOWN && i < c->n_pairs; i++) {
        fct_truth_painting edits;
        fct_truth_paint_card(&edits, t, &t->result.show.pair[c->pair[i]], b, c);
        memcpy(c->painted[i], edits.text[0], sizeof c->painted[i]);
    }
}

static const char *const kind_name[FCT_TRUTH_KINDS] = {"clean", "painted", "direction", "other"};

static fct_status measure_card(fct_truth_worker *w, const fct_truth_block *b, fct_truth_card *c)
{
    const fct_truth *t = w->t;
    for (int64_t i = 0; i < c->n_pairs; i++) {
        const fct_truth_pair *pair = &t->result.show.pair[c->pair[i]];
        c->read[i][FCT_TRUTH_CLEAN] = fct_truth_reads(t, &pair->reading, c->factor, c->value);
        c->guess[FCT_TRUTH_CLEAN] += fct_truth_guesses(t, &pair->reading, c->factor, c->value);
        for (int kind = FCT_TRUTH_PAINTED; kind < FCT_TRUTH_KINDS; kind++) {
            char name[96];
            outcome o;
            snprintf(name, sizeof name, "%s-%lld-%s-%lld", b->name, (long long)c->feature,
                     kind_name[kind], (long long)i);
            painting p = {.b = b,
                          .c = c,
                          .kind = (fct_truth_kind)kind,
                          .strength = c->strength,
                          .at_object = c->at_object};
            FCT_TRY(paint(w, &p, pair, i < FCT_TRUTH_SHOWN ? name : NULL, &o));
            c->read[i][kind] = o.reads;
            c->guess[kind] += o.guesses;
            c->change[kind] += o.change / (double)c->n_pairs;
        }
    }
    for (int kind = 0; kind < FCT_TRUTH_KINDS && c->n_pairs > 0; kind++) {
        c->guess[kind] /= (double)c->n_pairs;
        for (int64_t i = 0; i < c->n_pairs; i++)
            c->share[kind] += c->read[i][kind] / (double)c->n_pairs;
    }
    name_painted(t, b, c);
    return FCT_OK;
}

/* The pairs that each card is tried and measured on. */
typedef struct plan {
    int64_t trial[FCT_TRUTH_MAX_TRIALS];
    int64_t n_trial;
} plan;

static void plan_card(plan *p, fct_truth *t, fct_truth_card *c, int64_t start)
{
    int64_t few = t->result.size.pairs < DRAWN_PAIRS ? t->result.size.pairs : DRAWN_PAIRS;
    if (c->factor < 0) return;
    if (c->chosen)
        p->n_trial =
            find_pairs(p->trial, t->result.size.trial_pairs, t, &t->result.choose, c, start);
    for (int64_t i = 0; i < p->n_trial; i++) fct_truth_want(&t->choose, p->trial[i], false);
    c->n_pairs =
        find_pairs(c->pair, c->chosen ? t->result.size.pairs : few, t, &t->result.show, c, start);
    for (int64_t i = 0; i < c->n_pairs; i++)
        fct_truth_want(&t->show, c->pair[i], i < FCT_TRUTH_SHOWN);
}

static fct_status cause(fct_truth_worker *w, void *self, int64_t i)
{
    const plan *p = (const plan *)self + i;
    fct_truth_block *b;
    fct_truth_card *c = fct_truth_find_card(w->t, i, &b);
    if (c->factor < 0) return FCT_OK;
    FCT_TRY(choose_strength(w, b, c, p->trial, p->n_trial));
    return measure_card(w, b, c);
}

fct_status fct_truth_cause(fct_truth *t)
{
    plan p[FCT_TRUTH_BLOCKS * FCT_TRUTH_MAX_CARDS] = {{{0}, 0}};
    int64_t n = fct_truth_count_cards(t);
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++)
        FCT_TRY(make_directions(t, &t->result.block[b], t->result.seed + 500 + (uint64_t)b));
    for (int64_t i = 0; i < n; i++) {
        fct_truth_block *b;
        fct_truth_card *c = fct_truth_find_card(t, i, &b);
        plan_card(&p[i], t, c, i * 41); /* cards are tried on different pairs */
    }
    FCT_TRY(fct_truth_make_wanted(t, &t->choose));
    FCT_TRY(fct_truth_make_wanted(t, &t->show));
    return fct_truth_share(t, "causal: painted words", n, cause, p);
}

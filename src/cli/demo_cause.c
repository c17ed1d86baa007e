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
    FCT_TRY_OUT(fct_sae_set_add(&d->controls, d->model, text));
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

static fct_status paint(demo *d, const painting *p, const demo_pair *pair, const char *save,
                        outcome *out)
{
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
    FCT_TRY(demo_take(d, &shot, &pixels));
    fct_status st = demo_read(d, pixels, &r);
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

static fct_status try_painting(demo *d, const painting *p, const int64_t *pairs, int64_t n,
                               trial *out)
{
    *out = (trial){0};
    for (int64_t i = 0; i < n; i++) {
        outcome o;
        FCT_TRY(demo_clean(d, &d->choose, pairs[i], false));
        FCT_TRY(paint(d, p, &d->choose.pair[pairs[i]], NULL, &o));
        out->read += o.reads / (double)n;
        out->guess += o.guesses / (double)n;
    }
    return FCT_OK;
}

/* The mask at the middle strength, then the strength under that mask; ties go to the whole picture
   and to the weaker, and nothing is tried that could only tie. A drawn feature is painted over the
   whole picture at the middle strength. */
static fct_status choose_strength(demo *d, const demo_block *b, demo_card *c, int64_t start)
{
    enum { WEAK, MIDDLE, STRONG };
    int64_t pairs[64];
    int64_t n = find_pairs(pairs, d->size.trial_pairs, d, &d->choose, c, start);
    trial whole = {0}, object = {0}, got[FCT_COUNT(strengths)] = {{0}};
    const double all = 1 - 1e-9;
    c->strength = strengths[MIDDLE];
    if (!c->chosen) return FCT_OK;
    painting p = {.b = b, .c = c, .kind = DEMO_PAINTED, .strength = strengths[MIDDLE]};
    FCT_TRY(try_painting(d, &p, pairs, n, &whole));
    p.at_object = true;
    if (whole.read < all) FCT_TRY(try_painting(d, &p, pairs, n, &object));
    p.at_object = c->at_object = is_better(&object, &whole);
    got[MIDDLE] = c->at_object ? object : whole;
    p.strength = strengths[WEAK];
    FCT_TRY(try_painting(d, &p, pairs, n, &got[WEAK]));
    p.strength = strengths[STRONG];
    if (got[MIDDLE].read < all) FCT_TRY(try_painting(d, &p, pairs, n, &got[STRONG]));
    int best = WEAK;
    for (int i = MIDDLE; i <= STRONG; i++)
        if (is_better(&got[i], &got[best])) best = i;
    c->strength = strengths[best];
    c->trial_share = got[best].read;
    return FCT_OK;
}

/* ---- a card ---- */

static const char *const kind_name[DEMO_KINDS] = {"clean", "painted", "direction", "other"};

static fct_status measure_card(demo *d, const demo_block *b, demo_card *c, int64_t start)
{
    int64_t want = c->chosen || d->size.pairs < DEMO_DRAWN_PAIRS ? d->size.pairs : DEMO_DRAWN_PAIRS;
    c->n_pairs = find_pairs(c->pair, want, d, &d->show, c, start);
    for (int64_t i = 0; i < c->n_pairs; i++) {
        bool shown = i < DEMO_SHOWN;
        FCT_TRY(demo_clean(d, &d->show, c->pair[i], shown));
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
            FCT_TRY(paint(d, &p, pair, shown ? name : NULL, &o));
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

fct_status demo_cause(demo *d)
{
    int64_t done = 0, total = 0;
    for (int64_t b = 0; b < DEMO_BLOCKS; b++) {
        total += d->block[b].n_cards;
        FCT_TRY(make_directions(d, &d->block[b], d->seed + 500 + (uint64_t)b));
    }
    for (int64_t i = 0; i < DEMO_BLOCKS; i++) {
        demo_block *b = &d->block[i];
        for (int64_t j = 0; j < b->n_cards; j++) {
            demo_card *c = &b->card[j];
            fct_log_progress(d->log, "causal: painted words", done, total);
            int64_t start = done++ * 41; /* cards are tried on different pairs */
            if (c->factor < 0) continue;
            FCT_TRY(choose_strength(d, b, c, start));
            FCT_TRY(measure_card(d, b, c, start));
        }
    }
    fct_log_progress(d->log, "causal: painted words", total, total);
    return FCT_OK;
}

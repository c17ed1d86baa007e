/* choose.c - chooses the features that get a card, and says which caption words stand out among
   their strongest pictures.

   The rule: on the captions of `choose`, every word of the world is told by
   the feature whose level (mean of its map) tells best, at its best threshold, the captions that
   name the word from those that name another value of the same factor (F1, both sides weighing the
   same). Several often tell it equally well, a loud one and faint companions: of those within 0.01
   of the best it is the one that writes most where the word is named. The words with the highest F1
   get the block's cards, no feature twice; between words told equally well the one whose feature
   writes more goes first. A drawn feature is any other one that is active on `choose`. */
#include <math.h>
#include <string.h>

#include "eval/truth/truth.h"

enum { MAX_WORDS = 64 };
static const double equally_well = 0.01; /* F1 */

typedef struct candidate {
    int64_t factor, value, feature;
    fct_f1 f1;
    double written;
} candidate;

typedef struct scratch {
    int8_t *want; /* of each pair */
    fct_f1 *f1;   /* of each feature */
} scratch;

/* 1: the caption names the value; 0: another one of the factor (silence counts where it has a
   meaning); -1: the noise decides. */
static void label(int8_t *want, const fct_truth_set *set, const fct_world *w, int64_t factor,
                  int64_t value)
{
    for (int64_t i = 0; i < set->n; i++) {
        int64_t named = set->pair[i].named[factor];
        if (named < 0) named = w->factor[factor].unsaid;
        want[i] = named < 0 ? -1 : named == value;
    }
}

/* Edits count in the mean that a feature has when active on the training rows; one without it gets
   no card. */
static bool is_usable(const fct_truth_block *b, int64_t feature, int64_t n)
{
    const float *level = b->level[0] + feature * n;
    for (int64_t i = 0; b->sae->mean[feature] > 0 && i < n; i++)
        if (level[i] > 0) return true;
    return false;
}

/* How much a feature writes into a picture that names the word: its mean level there times the
   length of its decoder row. */
static double written(const fct_truth_block *b, int64_t feature, const int8_t *want, int64_t n)
{
    double sum = 0;
    int64_t named = 0;
    for (int64_t i = 0; i < n; i++) {
        if (want[i] != 1) continue;
        sum += (double)b->level[0][feature * n + i];
        named++;
    }
    double length = fct_eval_length(b->sae->w_dec + feature * b->sae->d, b->sae->d);
    return named > 0 ? sum / (double)named * length : 0;
}

static candidate best_feature(const fct_truth_block *b, const scratch *s, int64_t n)
{
    candidate best = {.feature = -1, .written = -1};
    double top = 0;
    for (int64_t f = 0; f < b->sae->f; f++) {
        s->f1[f] =
            is_usable(b, f, n) ? fct_eval_best_f1(b->level[0] + f * n, s->want, n) : (fct_f1){0};
        if (s->f1[f].f1 > top) top = s->f1[f].f1;
    }
    for (int64_t f = 0; f < b->sae->f; f++) {
        if (s->f1[f].f1 <= 0 || s->f1[f].f1 < top - equally_well) continue;
        double now = written(b, f, s->want, n);
        if (now > best.written) best = (candidate){.feature = f, .f1 = s->f1[f], .written = now};
    }
    return best;
}

static bool goes_first(const candidate *a, const candidate *b)
{
    int64_t step_a = (int64_t)(a->f1.f1 / equally_well),
            step_b = (int64_t)(b->f1.f1 / equally_well);
    return step_a != step_b ? step_a > step_b : a->written > b->written;
}

static void shuffle(int8_t *want, int64_t n, fct_rng *rng)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = fct_rng_below(rng, i + 1);
        int8_t t = want[i];
        want[i] = want[j];
        want[j] = t;
    }
}

/* Best feature of every word that captions say and silence does not mean, highest F1 first. */
static int64_t rank_words(candidate *out, const fct_truth *t, const fct_truth_block *b,
                          const scratch *s)
{
    int64_t n = 0;
    for (int64_t f = 0; f < t->world.n_factors; f++) {
        const fct_world_factor *factor = &t->world.factor[f];
        for (int64_t v = 0; v < factor->n_values && n < MAX_WORDS; v++) {
            if (v == factor->unsaid || factor->value[v].n_words == 0) continue;
            label(s->want, &t->result.choose, &t->world, f, v);
            candidate c = best_feature(b, s, t->result.choose.n);
            c.factor = f;
            c.value = v;
            int64_t at = n++;
            for (; at > 0 && goes_first(&c, &out[at - 1]); at--) out[at] = out[at - 1];
            out[at] = c;
        }
    }
    return n;
}

static bool has_feature(const fct_truth_block *b, int64_t feature)
{
    for (int64_t i = 0; i < b->n_cards; i++)
        if (b->card[i].feature == feature) return true;
    return false;
}

static void take_words(fct_truth_block *b, int64_t chosen, const candidate *c, int64_t n)
{
    for (int64_t i = 0; i < n && b->n_cards < chosen; i++) {
        if (c[i].feature < 0 || has_feature(b, c[i].feature)) continue;
        b->card[b->n_cards++] = (fct_truth_card){.chosen = true,
                                                 .feature = c[i].feature,
                                                 .factor = c[i].factor,
                                                 .value = c[i].value,
                                                 .chosen_f1 = c[i].f1};
    }
}

/* The word that a drawn feature tells best. */
static void name_drawn(fct_truth_card *card, const fct_truth *t, const fct_truth_block *b,
                       int8_t *want)
{
    card->factor = card->value = -1;
    for (int64_t f = 0; f < t->world.n_factors; f++)
        for (int64_t v = 0; v < t->world.factor[f].n_values; v++) {
            if (v == t->world.factor[f].unsaid || t->world.factor[f].value[v].n_words == 0)
                continue;
            label(want, &t->result.choose, &t->world, f, v);
            fct_f1 r = fct_eval_best_f1(b->level[0] + card->feature * t->result.choose.n, want,
                                        t->result.choose.n);
            if (r.f1 <= card->chosen_f1.f1) continue;
            card->chosen_f1 = r;
            card->factor = f;
            card->value = v;
        }
}

static void draw_cards(fct_truth *t, fct_truth_block *b, int8_t *want, fct_rng *rng)
{
    int64_t target = b->n_cards + t->result.size.drawn;
    for (int64_t tries = 0; b->n_cards < target && tries < 100 * b->sae->f; tries++) {
        int64_t f = fct_rng_below(rng, b->sae->f);
        if (has_feature(b, f) || !is_usable(b, f, t->result.choose.n)) continue;
        fct_truth_card *card = &b->card[b->n_cards++];
        *card = (fct_truth_card){.feature = f};
        name_drawn(card, t, b, want);
    }
}

/* Any other active feature, for the control of a card. */
static int64_t draw_other(const fct_truth *t, const fct_truth_block *b, int64_t feature,
                          fct_rng *rng)
{
    for (int64_t tries = 0; tries < 100 * b->sae->f; tries++) {
        int64_t f = fct_rng_below(rng, b->sae->f);
        if (f != feature && is_usable(b, f, t->result.choose.n)) return f;
    }
    return feature == 0 ? 1 : 0;
}

/* ---- what the page says of a card ---- */

static void find_top(fct_truth_card *c, const fct_truth_block *b, int64_t n, int64_t top)
{
    const float *level = b->level[1] + c->feature * n;
    for (int64_t i = 0; i < n; i++) {
        if (level[i] <= 0) continue;
        int64_t at = c->n_top < top ? c->n_top++ : top;
        for (; at > 0 && level[c->top[at - 1]] < level[i]; at--)
            if (at < top) c->top[at] = c->top[at - 1];
        if (at < top) c->top[at] = i;
    }
}

/* How far a count lies above what the base rate makes likely, in standard deviations. */
static double surprise(const fct_truth_word *w)
{
    double p = w->base, n = (double)w->of;
    return p <= 0 || p >= 1 ? 0 : ((double)w->hits - n * p) / sqrt(n * p * (1 - p));
}

static void find_words(fct_truth_card *c, const fct_truth *t)
{
    for (int64_t f = 0; f < t->world.n_factors; f++)
        for (int64_t v = 0; v < t->world.factor[f].n_values; v++) {
            fct_truth_word w = {.factor = f, .value = v, .of = c->n_top};
            for (int64_t i = 0; i < c->n_top; i++)
                w.hits += t->result.show.pair[c->top[i]].named[f] == v;
            for (int64_t i = 0; i < t->result.show.n; i++)
                w.base += (t->result.show.pair[i].named[f] == v) / (double)t->result.show.n;
            if (w.hits < 2 || surprise(&w) < 2) continue;
            int64_t at = c->n_words < FCT_TRUTH_MAX_WORDS ? c->n_words++ : FCT_TRUTH_MAX_WORDS;
            for (; at > 0 && surprise(&c->word[at - 1]) < surprise(&w); at--)
                if (at < FCT_TRUTH_MAX_WORDS) c->word[at] = c->word[at - 1];
            if (at < FCT_TRUTH_MAX_WORDS) c->word[at] = w;
        }
}

/* The threshold stays as it was chosen.
   The floor is the same search for labels that mean nothing. */
static void score_held(fct_truth_card *c, const fct_truth *t, const fct_truth_block *b,
                       const scratch *s, fct_rng *rng)
{
    int8_t *want = s->want;
    if (c->factor < 0) return;
    int64_t n = t->result.show.n;
    label(want, &t->result.show, &t->world, c->factor, c->value);
    c->held_f1 = fct_eval_f1(b->level[1] + c->feature * n, want, n, c->chosen_f1.threshold);
    if (!c->chosen) return;
    label(want, &t->result.choose, &t->world, c->factor, c->value);
    shuffle(want, t->result.choose.n, rng);
    candidate floor = best_feature(b, s, t->result.choose.n);
    if (floor.feature < 0) return;
    label(want, &t->result.show, &t->world, c->factor, c->value);
    shuffle(want, n, rng);
    c->floor_f1 = fct_eval_f1(b->level[1] + floor.feature * n, want, n, floor.f1.threshold).f1;
}

fct_status fct_truth_choose(fct_truth *t)
{
    candidate ranked[MAX_WORDS];
    fct_status st = FCT_OK;
    scratch s = {0};
    fct_rng rng;
    int64_t n = t->result.choose.n > t->result.show.n ? t->result.choose.n : t->result.show.n,
            features = 0;
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++)
        if (t->result.block[i].sae->f > features) features = t->result.block[i].sae->f;
    FCT_TRY_OUT(fct_new(&s.want, n, sizeof *s.want));
    FCT_TRY_OUT(fct_new(&s.f1, features, sizeof *s.f1));
    fct_rng_init(&rng, t->result.seed + 77);
    for (int64_t i = 0; i < FCT_TRUTH_BLOCKS; i++) {
        fct_truth_block *b = &t->result.block[i];
        take_words(b, t->result.size.chosen, ranked, rank_words(ranked, t, b, &s));
        draw_cards(t, b, s.want, &rng);
        for (int64_t c = 0; c < b->n_cards; c++) {
            fct_truth_card *card = &b->card[c];
            card->other = draw_other(t, b, card->feature, &rng);
            find_top(card, b, t->result.show.n, t->result.size.top);
            find_words(card, t);
            score_held(card, t, b, &s, &rng);
        }
    }
out:
    fct_free(s.want);
    fct_free(s.f1);
    return st;
}

int64_t fct_truth_count_cards(const fct_truth *t)
{
    int64_t n = 0;
    for (int64_t b = 0; b < FCT_TRUTH_BLOCKS; b++) n += t->result.block[b].n_cards;
    return n;
}

fct_truth_card *fct_truth_find_card(fct_truth *t, int64_t i, fct_truth_block **block)
{
    fct_truth_block *b = t->result.block;
    for (; i >= b->n_cards; b++) i -= b->n_cards;
    *block = b;
    return &b->card[i];
}

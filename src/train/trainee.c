/* trainee.c - holds the state of one SAE in training: memory, initial weights, calibration, and
   what comes out of it.

   Rows may be trained on centred and scaled; what comes out takes them as they are, since every
   activation here grows with its input. With x~ = (x - mean) scale:

       codes' biases, thresholds    divided by scale
       b_dec                        mean + b_dec / scale
       both weights                 as they are

   Of several blocks each has its own mean and scale: with rows of all mixed, one training gives an
   SAE for each block, equal in its weights. */
#include <math.h>
#include <string.h>

#include "train/engine.h"
#include "train/step.h"
#include "train/train.h"
#include "train/variant.h"

enum { MEDIAN_ROWS = 32768 };

void fct_trainee_clear(fct_trainee *t)
{
    void *part[] = {t->centred,  t->error,     t->dead,         t->sum,   t->not_fired, t->rows,
                    t->row_mean, t->row_scale, t->threshold_ln, t->b_mag, t->r_mag};
    if (t->plan.engine) t->plan.engine->free(t);
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        fct_free(t->m[w]);
        fct_free(t->v[w]);
        fct_free(t->average[w]);
    }
    fct_sae_free(t->sae);
    fct_free(t->lost);
    fct_free(t->metrics);
    *t = (fct_trainee){0};
}

/* What every engine needs; its own scratch it takes itself. */
static fct_status take_memory(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    int64_t rows = t->batch, d = t->sae->d;
    bool normal = p->normalize > FCT_NORMALIZE_NONE;
    int64_t scales = normal ? fct_train_plan_mixed(p) : 0;
    const fct_scratch part[] = {
        {&t->centred, rows, d, sizeof(float)},
        {&t->error, rows, d, sizeof(float)},
        {&t->dead, p->f, 1, 1},
        {&t->not_fired, p->f, 1, sizeof(int64_t)},
        {&t->sum, 4, d, sizeof(double)},
        {&t->rows, normal ? rows : 0, d, sizeof(float)},
    };
    FCT_TRY(fct_scratch_take(part, FCT_COUNT(part)));
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        if (!fct_trainee_param(t, w, &n)) continue;
        FCT_TRY(fct_new(&t->m[w], n, sizeof(float)));
        FCT_TRY(fct_new(&t->v[w], n, sizeof(float)));
        if (p->ema > 0) FCT_TRY(fct_new(&t->average[w], n, sizeof(float)));
    }
    if (normal) {
        FCT_TRY(fct_new(&t->row_mean, scales * d, sizeof(float)));
        FCT_TRY(fct_new(&t->row_scale, scales * d, sizeof(float)));
        for (int64_t i = 0; i < scales * d; i++) t->row_scale[i] = 1;
    }
    return p->engine->new (t);
}

/* Encoder as nn.Linear starts, U(±1/√D); the decoder its copy, or drawn in the same way, with rows
   of unit length. */
static void init_weights(fct_sae *s, const fct_train_plan *p)
{
    fct_rng rng;
    double bound = 1 / sqrt((double)s->d);
    fct_rng_init(&rng, p->seed);
    for (int64_t i = 0; i < s->d * s->f; i++)
        s->w_enc[i] = (float)((2 * fct_rng_unit(&rng) - 1) * bound);
    for (int64_t i = 0; i < s->d * s->f; i++)
        s->w_dec[i] = p->untied ? (float)((2 * fct_rng_unit(&rng) - 1) * bound) : s->w_enc[i];
    fct_sae_normalise_decoder(s);
}

/* Those of the SAE that training starts from, once a row's length is known. */
static void take_thresholds(fct_trainee *t)
{
    double unit = fct_train_plan_unit(&t->plan, t->sae->d);
    for (int64_t i = 0; t->sae->threshold && i < t->plan.f; i++)
        if (t->sae->threshold[i] > 0) t->threshold_ln[i] = (float)log(t->sae->threshold[i] / unit);
}

/* The parameters that only some variants have. */
static fct_status init_more(fct_trainee *t, const fct_sae *init)
{
    int64_t f = t->plan.f;
    if (t->plan.variant->has_threshold) {
        FCT_TRY(fct_new(&t->threshold_ln, f, sizeof *t->threshold_ln));
        for (int64_t i = 0; i < f; i++) t->threshold_ln[i] = (float)log(t->plan.init_threshold);
        if (init && !t->plan.auto_scale) take_thresholds(t);
    }
    if (t->plan.variant->has_magnitude) {
        FCT_TRY(fct_new(&t->b_mag, f, sizeof *t->b_mag));
        FCT_TRY(fct_new(&t->r_mag, f, sizeof *t->r_mag));
    }
    if (init && init->b_mag && t->b_mag) {
        memcpy(t->b_mag, init->b_mag, (size_t)f * sizeof *t->b_mag);
        memcpy(t->r_mag, init->r_mag, (size_t)f * sizeof *t->r_mag);
    }
    return FCT_OK;
}

/* A crosscoder knows its blocks from the start: the penalty on codes and the scales of rows do. */
static fct_status set_blocks(fct_trainee *t)
{
    const fct_train_plan *p = &t->plan;
    fct_sae_block block[FCT_SAE_MAX_BLOCKS];
    if (p->mixed || p->n_parts < 2) return FCT_OK;
    for (int64_t i = 0; i < p->n_parts; i++)
        block[i] = (fct_sae_block){(char *)(uintptr_t)p->part[i].name, p->part[i].d, 1};
    return fct_sae_set_blocks(t->sae, block, p->n_parts);
}

fct_status fct_trainee_init(fct_trainee *t, const fct_train_plan *plan, int64_t d,
                            const fct_sae *init)
{
    *t = (fct_trainee){.plan = *plan};
    if (!t->plan.variant) t->plan.variant = &fct_variant_topk;
    if (!t->plan.engine) t->plan.engine = &fct_engine_plain;
    if (!t->plan.be) FCT_TRY(fct_backend_find(&t->plan.be, NULL));
    int64_t k = plan->k > 0 ? plan->k : 1, blocks = fct_train_plan_mixed(plan), first;
    t->batch = fct_dist_part(plan->ranks, plan->batch / blocks, &first) * blocks;
    fct_status st =
        init ? fct_sae_clone(&t->sae, init) : fct_sae_new(&t->sae, FCT_SAE_TOPK, d, plan->f, k);
    if (st == FCT_OK) t->sae->k = k;
    if (st == FCT_OK) st = set_blocks(t);
    if (st == FCT_OK && !init) init_weights(t->sae, plan);
    if (st == FCT_OK) st = init_more(t, init);
    if (st == FCT_OK) st = take_memory(t);
    if (st != FCT_OK) fct_trainee_clear(t);
    return st;
}

/* 1 / mean((mean_rows(x) - x)²): the loss of guessing the mean is then 1. */
static fct_status auto_scale(double *out, const float *rows, int64_t n, int64_t d)
{
    double *mean = NULL, sum = 0, square = 0;
    FCT_TRY(fct_new(&mean, d, sizeof *mean));
    for (int64_t i = 0; i < n * d; i++) mean[i % d] += rows[i] / (double)n;
    for (int64_t i = 0; i < n * d; i++) {
        sum += (rows[i] - mean[i % d]) * (rows[i] - mean[i % d]);
        square += (double)rows[i] * rows[i];
    }
    fct_free(mean);
    if (sum < 1e-20 * square) sum = 0; /* the mean's own rounding: f32 rows differ by more */
    *out = (double)n * (double)d / sum;
    if (isfinite(*out) && *out > 0) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE, "the %lld calibration rows %s: no loss scale follows from them",
                    (long long)n,
                    sum == 0 ? "are all the same" : "hold numbers that are not finite");
}

/* Mean and length of columns [from, from + d) of rows [n,row_d], as the plan wants them: the mean
   is 0 where it is not subtracted. */
static fct_status find_normal(const fct_trainee *t, const float *rows, int64_t n, int64_t d,
                              float *out_mean, float *out_scale)
{
    int64_t stride = t->sae->d;
    double *mean = NULL, length = 0;
    fct_normalize how = t->plan.normalize;
    FCT_TRY(fct_new(&mean, d, sizeof *mean));
    if (how != FCT_NORMALIZE_NORM)
        for (int64_t r = 0; r < n; r++)
            for (int64_t i = 0; i < d; i++) mean[i] += rows[r * stride + i] / (double)n;
    for (int64_t r = 0; r < n; r++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += (rows[r * stride + i] - mean[i]) * (rows[r * stride + i] - mean[i]);
        length += sqrt(sum) / (double)n;
    }
    float scale = how == FCT_NORMALIZE_MEAN ? 1 : (float)(sqrt((double)d) / length);
    for (int64_t i = 0; i < d; i++) {
        out_mean[i] = (float)mean[i];
        out_scale[i] = scale;
    }
    fct_free(mean);
    if (isfinite(scale) && scale > 0) return FCT_OK;
    return fct_fail(FCT_ERR_RANGE,
                    "the %lld calibration rows have no length that they could be scaled by",
                    (long long)n);
}

/* Of every block its own: rows of mixed blocks come one after the other, those of a crosscoder side
   by side. */
static fct_status find_normals(fct_trainee *t, const float *rows, int64_t n)
{
    int64_t d = t->sae->d, mixed = fct_train_plan_mixed(&t->plan), each = n / mixed;
    for (int64_t b = 0; b < mixed && t->sae->n_blocks == 0; b++) {
        fct_status st =
            find_normal(t, rows + b * each * d, each, d, t->row_mean + b * d, t->row_scale + b * d);
        FCT_TRY(mixed > 1 ? fct_where(st, "%s", t->plan.part[b].name) : st);
    }
    for (int64_t b = 0, at = 0; b < t->sae->n_blocks; at += t->sae->blocks[b++].d) {
        const fct_sae_block *block = &t->sae->blocks[b];
        FCT_TRY(
            fct_where(find_normal(t, rows + at, n, block->d, t->row_mean + at, t->row_scale + at),
                      "%s", block->name));
    }
    return FCT_OK;
}

/* Rows as they will be trained on, blocks in turn, so that any first rows are of all of them. */
static fct_status copy_normal(const fct_trainee *t, float **out, const float *rows, int64_t n)
{
    int64_t d = t->sae->d, mixed = fct_train_plan_mixed(&t->plan), each = n / mixed;
    float *normal = NULL;
    FCT_TRY(fct_new_raw(out, n * d, sizeof **out));
    if (t->row_mean) {
        fct_status st = fct_new_raw(&normal, n * d, sizeof *normal);
        if (st != FCT_OK) {
            fct_free(*out);
            *out = NULL;
            return st;
        }
        fct_trainee_normalise(t, normal, rows, n);
        rows = normal;
    }
    for (int64_t b = 0; b < mixed; b++)
        for (int64_t r = 0; r < each; r++)
            memcpy(*out + (r * mixed + b) * d, rows + (b * each + r) * d, (size_t)d * sizeof **out);
    fct_free(normal);
    return FCT_OK;
}

static fct_status calibrate_blocks(fct_trainee *t, const float *rows, int64_t n)
{
    float *normal = NULL;
    fct_status st = copy_normal(t, &normal, rows, n);
    if (st == FCT_OK && t->plan.auto_scale)
        st = auto_scale(&t->plan.loss_scale, normal, n, t->sae->d);
    if (st == FCT_OK && t->threshold_ln && t->plan.auto_scale) take_thresholds(t);
    if (st == FCT_OK && t->plan.calibrate)
        st = fct_sae_geometric_median(t->sae->b_dec, normal, n < MEDIAN_ROWS ? n : MEDIAN_ROWS,
                                      t->sae->d);
    fct_free(normal);
    return st;
}

/* Of one block: mean, scale and median move with the rows, so none is normalised for this. */
fct_status fct_trainee_calibrate(fct_trainee *t, const float *rows, int64_t n)
{
    fct_sae *s = t->sae;
    for (int64_t i = 0; i < n * s->d; i++)
        if (!isfinite(rows[i]))
            return fct_fail(FCT_ERR_RANGE, "calibration row %lld is not finite",
                            (long long)(i / s->d));
    if (t->row_mean) FCT_TRY(find_normals(t, rows, n));
    if (t->plan.n_parts > 1) return calibrate_blocks(t, rows, n);
    double scale = t->row_mean ? (double)t->row_scale[0] : 1;
    if (t->plan.auto_scale) {
        FCT_TRY(auto_scale(&t->plan.loss_scale, rows, n, s->d));
        t->plan.loss_scale /= scale * scale;
        if (t->threshold_ln) take_thresholds(t);
    }
    if (!t->plan.calibrate) return FCT_OK;
    FCT_TRY(fct_sae_geometric_median(s->b_dec, rows, n < MEDIAN_ROWS ? n : MEDIAN_ROWS, s->d));
    for (int64_t i = 0; t->row_mean && i < s->d; i++)
        s->b_dec[i] = (s->b_dec[i] - t->row_mean[i]) * t->row_scale[i];
    return FCT_OK;
}

fct_status fct_trainee_check_shared(const fct_trainee *t, const fct_trainee *with)
{
    const fct_train_plan *a = &with->plan, *b = &t->plan;
    if (a->batch != b->batch)
        return fct_fail(FCT_ERR_ARG,
                        "%s has batches of %lld rows, %s of %lld: SAEs that share rows need one "
                        "batch size",
                        with->name, (long long)a->batch, t->name, (long long)b->batch);
    if (t->stream != with->stream) return FCT_OK;
    if (a->mixed != b->mixed)
        return fct_fail(FCT_ERR_ARG,
                        "%s is of the rows of several blocks mixed, %s of them side by side: they "
                        "cannot share batches",
                        a->mixed ? with->name : t->name, a->mixed ? t->name : with->name);
    if (a->train_calibration != b->train_calibration ||
        ((!a->train_calibration || a->mixed) && a->calibration_rows != b->calibration_rows))
        return fct_fail(FCT_ERR_ARG,
                        "%s and %s take different rows for calibration, so they cannot share what "
                        "follows: give both the same preset and calibration rows",
                        with->name, t->name);
    return FCT_OK;
}

/* ---- what comes out ---- */

/* From an SAE of normalised rows to one of rows as they are. With one scale for a whole row codes
   are divided by it; a crosscoder's blocks have scales of their own, which go into its weights. */
static void unfold(const fct_trainee *t, fct_sae *s, int64_t block)
{
    const float *mean = t->row_mean + block * s->d, *scale = t->row_scale + block * s->d;
    float *const grows[] = {s->b_enc, s->threshold, s->b_mag};
    for (size_t i = 0; i < FCT_COUNT(grows) && s->n_blocks == 0; i++)
        for (int64_t f = 0; grows[i] && f < s->f; f++) grows[i][f] /= scale[0];
    for (int64_t i = 0; i < s->d * s->f && s->n_blocks > 0; i++) {
        s->w_enc[i] *= scale[i % s->d];
        s->w_dec[i] /= scale[i % s->d];
    }
    for (int64_t i = 0; i < s->d; i++) s->b_dec[i] = mean[i] + s->b_dec[i] / scale[i];
    for (int64_t b = 0, at = 0; b < s->n_blocks; at += s->blocks[b++].d)
        s->blocks[b].scale = scale[at];
}

fct_status fct_trainee_export(const fct_trainee *t, fct_sae **out)
{
    return fct_trainee_export_block(t, 0, out);
}

fct_status fct_trainee_export_block(const fct_trainee *t, int64_t block, fct_sae **out)
{
    fct_sae *s = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_sae_clone(&s, t->sae));
    float *const to[] = {s->w_enc, s->b_enc, s->w_dec, s->b_dec};
    for (int w = 0; w < (int)FCT_COUNT(to); w++) {
        int64_t n;
        const float *from = fct_trainee_result(t, w, &n);
        memcpy(to[w], from, (size_t)n * sizeof *from);
    }
    if (t->plan.variant->finish) FCT_TRY_OUT(t->plan.variant->finish(t, s));
    if (t->row_mean) unfold(t, s, block);
    *out = s;
    return FCT_OK;
out:
    fct_sae_free(s);
    *out = NULL;
    return st;
}

/* contrast.c - ranks the features that tell two runs apart, by the paper's normalised-mean score
   over the codes of all blocks together, and writes the recipe that carries A's features over into
   B. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "index/index.h"

/* ---- means of one run: [sum of all F], block after block ---- */

static fct_status weigh(double *mean, const fct_maps *m, const fct_mask *mask)
{
    static const fct_mask everywhere = {0};
    int64_t cells = m->h * m->w;
    float *weight = NULL;
    double total = 0;
    FCT_TRY(fct_new(&weight, cells, (int64_t)sizeof *weight));
    fct_status st = fct_mask_grid(weight, m->h, m->w, mask ? mask : &everywhere);
    for (int64_t p = 0; p < cells; p++) total += weight[p];
    if (st == FCT_OK && !(total > 0)) st = fct_fail(FCT_ERR_ARG, "the mask covers nothing");
    for (int64_t f = 0; f < m->sae->f && st == FCT_OK; f++) {
        double sum = 0;
        for (int64_t p = 0; p < cells; p++) sum += weight[p] * (double)m->sum[f * cells + p];
        mean[f] = sum / (total * (double)m->steps);
    }
    fct_free(weight);
    return st;
}

static fct_status find_means(double *mean, double *total, fct_session *session,
                             const fct_sae_set *saes, const fct_recipe *recipe,
                             const fct_mask *mask, int64_t step)
{
    fct_maps *maps = NULL;
    int64_t at = 0;
    FCT_TRY(fct_new(&maps, saes->n, (int64_t)sizeof *maps));
    fct_status st = fct_maps_run(maps, session, saes, recipe, step, NULL);
    for (int64_t i = 0; i < saes->n && st == FCT_OK; i++) {
        st = weigh(mean + at, &maps[i], mask);
        at += maps[i].sae->f;
    }
    *total = 0;
    for (int64_t f = 0; f < at && st == FCT_OK; f++) *total += mean[f];
    if (st == FCT_OK && !(*total > 0))
        st = fct_fail(FCT_ERR_RANGE, "no feature is active in the run");
    for (int64_t i = 0; i < saes->n; i++) fct_maps_clear(&maps[i]);
    fct_free(maps);
    return st;
}

static int highest_first(const void *pa, const void *pb)
{
    const fct_contrast_row *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->block != b->block) return a->block->stage < b->block->stage ? -1 : 1;
    return a->feature < b->feature ? -1 : a->feature > b->feature;
}

/* score_f = mean_A(f)/sum mean_A - mean_B(f)/sum mean_B (Surkov et al. 2024). count: features of
   all SAEs together; mean [2][count] and total [2]: of A, of B. */
static fct_status make_rows(fct_contrast *out, const fct_model_info *info, const fct_sae_set *saes,
                            int64_t count, const double *const mean[2], const double total[2])
{
    int64_t at = 0;
    FCT_TRY(fct_new(&out->row, count, (int64_t)sizeof *out->row));
    for (int64_t i = 0; i < saes->n; i++) {
        const fct_block_info *block;
        FCT_TRY(fct_sae_bound_block(&block, &saes->bound[i], info));
        for (int64_t f = 0; f < saes->bound[i].sae->f; f++, at++) {
            double a = mean[0][at], b = mean[1][at];
            if (a == 0 && b == 0) continue;
            out->row[out->n++] = (fct_contrast_row){.block = block,
                                                    .feature = f,
                                                    .mean_a = a,
                                                    .mean_b = b,
                                                    .score = a / total[0] - b / total[1]};
        }
    }
    if (out->n > 0) qsort(out->row, (size_t)out->n, sizeof *out->row, highest_first);
    return FCT_OK;
}

fct_status fct_contrast_run(fct_contrast *out, fct_session *session, const fct_sae_set *saes,
                            const fct_contrast_desc *desc)
{
    double *a = NULL, *b = NULL, total[2];
    int64_t count = 0;
    fct_status st = FCT_OK;
    *out = (fct_contrast){0};
    for (int64_t i = 0; i < saes->n; i++) count += saes->bound[i].sae->f;
    FCT_TRY_OUT(fct_new(&a, count, (int64_t)sizeof *a));
    FCT_TRY_OUT(fct_new(&b, count, (int64_t)sizeof *b));
    FCT_TRY_OUT(
        fct_where(find_means(a, &total[0], session, saes, desc->a, desc->mask_a, desc->step), "A"));
    FCT_TRY_OUT(fct_log_check_stop(desc->log));
    FCT_TRY_OUT(
        fct_where(find_means(b, &total[1], session, saes, desc->b, desc->mask_b, desc->step), "B"));
    FCT_TRY_OUT(make_rows(out, fct_model_get_info(fct_session_model(session)), saes, count,
                          (const double *const[]){a, b}, total));
out:
    fct_free(a);
    fct_free(b);
    if (st != FCT_OK) fct_contrast_clear(out);
    return st;
}

void fct_contrast_clear(fct_contrast *c)
{
    fct_free(c->row);
    *c = (fct_contrast){0};
}

/* ---- the transport recipe ---- */

static fct_status set_mask(fct_edit *e, const fct_mask *mask)
{
    fct_edit only_mask = {0}, copy;
    if (!mask) return FCT_OK;
    only_mask.mask = *mask;
    FCT_TRY(fct_edit_copy(&copy, &only_mask));
    e->mask = copy.mask;
    return FCT_OK;
}

static fct_status add_edit(fct_recipe *r, fct_edit **out, const fct_block_info *block,
                           const fct_mask *mask)
{
    FCT_TRY(fct_grow(&r->edit, r->n_edits, r->n_edits + 1, (int64_t)sizeof *r->edit));
    fct_edit *e = &r->edit[r->n_edits++];
    FCT_TRY(fct_strdup(&e->block, block->short_name));
    *out = e;
    return set_mask(e, mask);
}

static fct_status add_transport(fct_recipe *r, const fct_block_info *block, const fct_contrast *c,
                                const fct_contrast_desc *desc, int64_t n_add, double strength)
{
    fct_edit *e;
    int64_t n = 0;
    for (int64_t i = 0; i < n_add; i++) n += c->row[i].block == block;
    if (n == 0) return FCT_OK;
    FCT_TRY(add_edit(r, &e, block, desc->mask_a));
    e->op = FCT_EDIT_FROM;
    e->value = strength;
    FCT_TRY(fct_new(&e->features, n, (int64_t)sizeof *e->features));
    for (int64_t i = 0; i < n_add; i++)
        if (c->row[i].block == block) e->features[e->n_features++] = c->row[i].feature;
    FCT_TRY(fct_new(&e->source, 1, (int64_t)sizeof *e->source));
    return fct_recipe_copy(e->source, desc->a);
}

static fct_status add_removal(fct_recipe *r, const fct_contrast_row *row,
                              const fct_contrast_desc *desc)
{
    fct_edit *e;
    FCT_TRY(add_edit(r, &e, row->block, desc->mask_b));
    e->op = FCT_EDIT_SCALE;
    e->feature = row->feature;
    e->value = 0;
    e->is_static = true;
    return FCT_OK;
}

fct_status fct_contrast_check(const fct_model *m, const fct_recipe *a, const fct_recipe *b)
{
    const fct_model_info *info = fct_model_get_info(m);
    fct_settings sa, sb;
    fct_settings_resolve(&sa, &a->settings, info);
    fct_settings_resolve(&sb, &b->settings, info);
    if (a->model_hash && b->model_hash && strcmp(a->model_hash, b->model_hash) != 0)
        return fct_fail(FCT_ERR_ARG,
                        "A was made by the model %s (%.16s), B by %s (%.16s): features move only "
                        "between runs of one model",
                        a->model ? a->model : "", a->model_hash, b->model ? b->model : "",
                        b->model_hash);
    if (sa.width != sb.width || sa.height != sb.height)
        return fct_fail(FCT_ERR_ARG,
                        "A is %" PRId64 "x%" PRId64 ", B %" PRId64 "x%" PRId64
                        ": features move only between runs of the same size",
                        sa.width, sa.height, sb.width, sb.height);
    if (sa.steps != sb.steps)
        return fct_fail(FCT_ERR_ARG,
                        "A has %" PRId64 " steps, B %" PRId64
                        ": features move only between runs of the same steps",
                        sa.steps, sb.steps);
    return FCT_OK;
}

fct_status fct_contrast_recipe(fct_recipe *out, const fct_model *m, fct_sae_set *saes,
                               const fct_contrast *c, const fct_contrast_desc *desc,
                               const fct_transport_desc *transport)
{
    fct_status st = FCT_OK;
    int64_t n_add = 0, first_removed = c->n;
    const fct_model_info *info = fct_model_get_info(m);
    while (n_add < c->n && n_add < transport->n_add && c->row[n_add].score > 0) n_add++;
    while (first_removed > 0 && c->n - first_removed < transport->n_remove &&
           c->row[first_removed - 1].score < 0)
        first_removed--;
    FCT_TRY(fct_contrast_check(m, desc->a, desc->b));
    FCT_TRY(fct_recipe_copy(out, desc->b));
    for (int64_t b = 0; b < info->n_blocks; b++)
        FCT_TRY_OUT(add_transport(out, &info->block[b], c, desc, n_add,
                                  transport->strength != 0 ? transport->strength : 1));
    for (int64_t i = c->n - 1; i >= first_removed; i--)
        FCT_TRY_OUT(add_removal(out, &c->row[i], desc));
    FCT_TRY_OUT(fct_recipe_put_saes(out, saes));
out:
    if (st != FCT_OK) fct_recipe_clear(out);
    return st;
}

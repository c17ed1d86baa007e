/* crosscoder.c - cuts one block's SAE out of a crosscoder, and tells how much of a feature is in
   each block. A crosscoder (Lindsey et al. 2024) is an SAE of the rows of several blocks side by
   side: a feature reads all blocks at once, since the products of each block's rows with its part
   of the encoder are summed, and has a direction in each. So it is an SAE whose D is the sum of the
   blocks' widths, and everything that takes rows takes these. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

static fct_status find_block(const fct_sae *s, const char *name, int64_t *out, int64_t *out_from)
{
    char *brief = NULL, *all = NULL;
    fct_status st = FCT_OK;
    *out = -1;
    FCT_TRY_OUT(fct_block_name_short(&brief, name));
    for (int64_t i = 0, from = 0; i < s->n_blocks; from += s->blocks[i++].d)
        if (strcmp(s->blocks[i].name, brief) == 0) {
            *out = i;
            *out_from = from;
        }
    if (*out >= 0) goto out;
    FCT_TRY_OUT(fct_sae_blocks_text(&all, s, ", "));
    st = fct_fail(FCT_ERR_MISSING, "a crosscoder of %s, not of %s", all, brief);
out:
    fct_free(brief);
    fct_free(all);
    return st;
}

static void copy_columns(float *to, int64_t to_d, const float *from, int64_t from_d, int64_t n)
{
    for (int64_t r = 0; r < n; r++)
        memcpy(to + r * to_d, from + r * from_d, (size_t)to_d * sizeof *to);
}

/* How it was made, with the blocks that it was made with. */
static fct_status slice_text(fct_sae *out, const fct_sae *s)
{
    fct_status st = FCT_OK;
    json_t *j = NULL, *names = json_array();
    fct_str text = {0};
    bool ok = names != NULL;
    if (s->facet_json)
        FCT_TRY_OUT(
            fct_json_parse(&j, s->facet_json, (int64_t)strlen(s->facet_json), "facet.json"));
    if (!j) j = json_object();
    (void)json_object_del(j, "blocks");
    for (int64_t i = 0; i < s->n_blocks; i++)
        ok = json_array_append_new(names, json_string(s->blocks[i].name)) == 0 && ok;
    ok = ok && json_object_set(j, "part_of_crosscoder", names) == 0;
    if (!ok) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
        goto out;
    }
    FCT_TRY_OUT(fct_json_text(&text, j, 0));
    fct_free(out->facet_json);
    out->facet_json = NULL;
    FCT_TRY_OUT(fct_strdup(&out->facet_json, text.p));
out:
    json_decref(j);
    json_decref(names);
    fct_str_clear(&text);
    return st;
}

fct_status fct_sae_slice(fct_sae **out, const fct_sae *s, const char *block)
{
    fct_status st = FCT_OK;
    fct_sae *c = NULL, *all = NULL;
    int64_t at, from = 0;
    *out = NULL;
    FCT_TRY_OUT(find_block(s, block, &at, &from));
    const fct_sae_block *b = &s->blocks[at];
    FCT_TRY_OUT(fct_sae_clone_all(&all, s));
    FCT_TRY_OUT(fct_sae_new(&c, s->kind, b->d, s->f, s->k));
    copy_columns(c->w_enc, b->d, s->w_enc + from, s->d, s->f);
    copy_columns(c->w_dec, b->d, s->w_dec + from, s->d, s->f);
    memcpy(c->b_dec, s->b_dec + from, (size_t)b->d * sizeof *c->b_dec);
    c->apply_b_dec_to_input = s->apply_b_dec_to_input;
    c->normalize = s->normalize;
    c->has_stats = s->has_stats;
    c->is_slice = true;
    /* what is by feature goes over as it is */
    float **const to[] = {&c->b_enc,   &c->threshold, &c->b_mag, &c->r_mag, &c->dec_norm,
                          &c->density, &c->mean,      &c->std,   &c->max},
                  **const of[] = {&all->b_enc, &all->threshold, &all->b_mag,
                                  &all->r_mag, &all->dec_norm,  &all->density,
                                  &all->mean,  &all->std,       &all->max};
    for (size_t i = 0; i < FCT_COUNT(to); i++) {
        fct_free(*to[i]);
        *to[i] = *of[i];
        *of[i] = NULL;
    }
    FCT_TRY_OUT(fct_sae_set_groups(c, s->group_size, s->n_groups));
    FCT_TRY_OUT(fct_strdup(&c->block, b->name));
    FCT_TRY_OUT(fct_strdup(&c->model, s->model));
    FCT_TRY_OUT(fct_strdup(&c->path, s->path));
    FCT_TRY_OUT(slice_text(c, s));
    *out = c;
    c = NULL;
out:
    fct_sae_free(all);
    fct_sae_free(c);
    return st;
}

/* ---- how much of a feature is in each ---- */

void fct_sae_block_share(const fct_sae *s, float *out)
{
    for (int64_t f = 0; f < s->f; f++) {
        const float *w = s->w_dec + f * s->d;
        double sum = 0;
        for (int64_t b = 0; b < s->n_blocks; w += s->blocks[b++].d) {
            double square = 0;
            for (int64_t i = 0; i < s->blocks[b].d; i++) square += (double)w[i] * w[i];
            double length = sqrt(square) * (double)s->blocks[b].scale;
            out[f * s->n_blocks + b] = (float)length;
            sum += length;
        }
        for (int64_t b = 0; sum > 0 && b < s->n_blocks; b++)
            out[f * s->n_blocks + b] = (float)(out[f * s->n_blocks + b] / sum);
    }
}

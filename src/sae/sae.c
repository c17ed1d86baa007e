/* sae.c - makes, copies and releases an autoencoder in memory, with the groups and blocks that it
   may have. */
#include <math.h>
#include <string.h>

#include "sae/sae.h"

static fct_status take_parts(fct_sae *s)
{
    const fct_sae_kind_info *kind = fct_sae_kind_of(s);
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++)
        if (kind->parts & (1u << p))
            FCT_TRY(fct_new(fct_sae_part_at(s, p), fct_sae_part_count(s, p), sizeof(float)));
    return FCT_OK;
}

fct_status fct_sae_new(fct_sae **out, fct_sae_kind kind, int64_t d, int64_t f, int64_t k)
{
    fct_sae *s = NULL;
    int64_t n;
    const fct_sae_kind_info *info = fct_sae_kind_get(kind);
    *out = NULL;
    if (d < 1 || f < 1 || f > INT32_MAX)
        return fct_fail(FCT_ERR_SHAPE,
                        "an SAE of %lld features on rows of %lld numbers is not possible",
                        (long long)f, (long long)d);
    if (info->wants_k && (k < (info->fixed_k ? 1 : 0) || k > f))
        return fct_fail(FCT_ERR_SHAPE, "k is %lld, want 1 to %lld, the number of features",
                        (long long)k, (long long)f);
    FCT_TRY(fct_mul_i64(&n, d, f));
    FCT_TRY(fct_new(&s, 1, sizeof *s));
    *s = (fct_sae){
        .kind = kind, .d = d, .f = f, .k = info->wants_k ? k : 0, .apply_b_dec_to_input = true};
    fct_status st = take_parts(s);
    if (st == FCT_OK)
        *out = s;
    else
        fct_sae_free(s);
    return st;
}

void fct_sae_blocks_free(fct_sae_block *blocks, int64_t n)
{
    for (int64_t i = 0; i < n; i++) fct_free(blocks[i].name);
    fct_free(blocks);
}

fct_status fct_sae_set_blocks(fct_sae *s, const fct_sae_block *blocks, int64_t n)
{
    fct_status st = FCT_OK;
    int64_t d = 0;
    fct_sae_block *copy = NULL;
    for (int64_t i = 0; i < n; i++) {
        if (blocks[i].d < 1 || blocks[i].d > s->d - d || !(blocks[i].scale > 0) ||
            !isfinite(blocks[i].scale) || !blocks[i].name)
            return fct_fail(FCT_ERR_FORMAT,
                            "blocks: want names, widths that are %lld in sum, and "
                            "scales above 0",
                            (long long)s->d);
        d += blocks[i].d;
    }
    if (n > 0 && d != s->d)
        return fct_fail(FCT_ERR_FORMAT, "blocks are %lld numbers wide in sum, rows %lld",
                        (long long)d, (long long)s->d);
    FCT_TRY_OUT(fct_new(&copy, n, sizeof *copy));
    for (int64_t i = 0; i < n; i++) {
        copy[i] = (fct_sae_block){.d = blocks[i].d, .scale = blocks[i].scale};
        FCT_TRY_OUT(fct_block_name_short(&copy[i].name, blocks[i].name));
    }
    fct_sae_blocks_free(s->blocks, s->n_blocks);
    s->blocks = copy;
    s->n_blocks = n;
    copy = NULL;
out:
    if (copy) fct_sae_blocks_free(copy, n);
    return st;
}

void fct_sae_free(fct_sae *s)
{
    if (!s) return;
    void *part[] = {s->dec_norm, s->group_size, s->block, s->model, s->path,
                    s->density,  s->mean,       s->std,   s->max,   s->facet_json};
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++) fct_free(*fct_sae_part_at(s, p));
    for (size_t i = 0; i < FCT_COUNT(part); i++) fct_free(part[i]);
    fct_sae_blocks_free(s->blocks, s->n_blocks);
    fct_free(s);
}

fct_status fct_sae_check_groups(const int64_t *size, int64_t n, int64_t f)
{
    int64_t sum = 0;
    bool positive = true;
    for (int64_t i = 0; i < n && positive; i++) {
        positive = size[i] > 0 && size[i] <= f;
        sum += positive && sum <= f ? size[i] : 0;
    }
    if (positive && sum == f) return FCT_OK;
    return fct_fail(FCT_ERR_FORMAT, "group_sizes must be positive and %lld, the features, in sum",
                    (long long)f);
}

fct_status fct_sae_set_groups(fct_sae *s, const int64_t *size, int64_t n)
{
    fct_free(s->group_size);
    s->group_size = NULL;
    s->n_groups = 0;
    if (n == 0) return FCT_OK;
    FCT_TRY(fct_new_raw(&s->group_size, n, sizeof *s->group_size));
    memcpy(s->group_size, size, (size_t)n * sizeof *size);
    s->n_groups = n;
    return FCT_OK;
}

fct_status fct_sae_clone(fct_sae **out, const fct_sae *s)
{
    fct_status st = FCT_OK;
    fct_sae *c = NULL, *from = (fct_sae *)(uintptr_t)s;
    FCT_TRY(fct_sae_new(&c, s->kind, s->d, s->f, s->k));
    c->apply_b_dec_to_input = s->apply_b_dec_to_input;
    c->normalize = s->normalize;
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++)
        if (*fct_sae_part_at(c, p))
            memcpy(*fct_sae_part_at(c, p), *fct_sae_part_at(from, p),
                   (size_t)fct_sae_part_count(s, p) * sizeof(float));
    if (s->dec_norm) FCT_TRY_OUT(fct_sae_set_dec_norm(c));
    FCT_TRY_OUT(fct_sae_set_groups(c, s->group_size, s->n_groups));
    FCT_TRY_OUT(fct_sae_set_blocks(c, s->blocks, s->n_blocks));
    FCT_TRY_OUT(fct_strdup(&c->block, s->block));
    FCT_TRY_OUT(fct_strdup(&c->model, s->model));
    *out = c;
    return FCT_OK;
out:
    fct_sae_free(c);
    *out = NULL;
    return st;
}

static fct_status copy_floats(float **out, const float *from, int64_t n)
{
    if (!from) return FCT_OK;
    FCT_TRY(fct_new_raw(out, n, sizeof **out));
    memcpy(*out, from, (size_t)n * sizeof **out);
    return FCT_OK;
}

fct_status fct_sae_clone_all(fct_sae **out, const fct_sae *s)
{
    fct_status st = FCT_OK;
    fct_sae *c = NULL;
    *out = NULL;
    FCT_TRY(fct_sae_clone(&c, s));
    FCT_TRY_OUT(copy_floats(&c->density, s->density, s->f));
    FCT_TRY_OUT(copy_floats(&c->mean, s->mean, s->f));
    FCT_TRY_OUT(copy_floats(&c->std, s->std, s->f));
    FCT_TRY_OUT(copy_floats(&c->max, s->max, s->f));
    FCT_TRY_OUT(fct_strdup(&c->path, s->path));
    FCT_TRY_OUT(fct_strdup(&c->facet_json, s->facet_json));
    c->has_stats = s->has_stats;
    *out = c;
    return FCT_OK;
out:
    fct_sae_free(c);
    return st;
}

fct_status fct_sae_blocks_text(char **out, const fct_sae *s, const char *between)
{
    fct_str text = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < s->n_blocks && st == FCT_OK; i++)
        st = fct_str_printf(&text, "%s%s", i > 0 ? between : "", s->blocks[i].name);
    if (st == FCT_OK) st = fct_strdup(out, text.p ? text.p : "");
    fct_str_clear(&text);
    return st;
}

/* sae_set.c - keeps the SAEs of a run, at most one a block, and finds out which block an SAE reads:
   it says so itself, or its folder's name does, or the user. Blocks are known by name, so that one
   set serves every model that has them. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "edit/edit.h"

/* Hashing reads every weight, so it happens once, and only for those who ask. */
struct fct_sae_hashes {
    pthread_mutex_t lock;
    char weights[65], stats[65], key[65];
};

const fct_sae_bound *fct_sae_set_find_bound(const fct_sae_set *set, const char *block)
{
    for (int64_t i = 0; i < set->n; i++)
        if (strcmp(set->bound[i].short_name, block) == 0 || strcmp(set->bound[i].name, block) == 0)
            return &set->bound[i];
    return NULL;
}

const fct_sae *fct_sae_set_find(const fct_sae_set *set, const char *block)
{
    const fct_sae_bound *b = fct_sae_set_find_bound(set, block);
    return b ? b->sae : NULL;
}

static fct_status check_width(const fct_sae *sae, const fct_block_info *block)
{
    if (sae->d == block->channels) return FCT_OK;
    return fct_fail(FCT_ERR_SHAPE,
                    "the SAE%s%s reads rows of %" PRId64 " values, block %s writes %" PRId64,
                    sae->path ? " " : "", sae->path ? sae->path : "", sae->d, block->short_name,
                    block->channels);
}

fct_status fct_sae_bound_block(const fct_block_info **out, const fct_sae_bound *b,
                               const fct_model_info *info)
{
    FCT_TRY(fct_where(fct_block_find(out, info, b->name), "the SAE of %s", b->short_name));
    return check_width(b->sae, *out);
}

static void clear_bound(fct_sae_bound *b)
{
    if (b->owned) fct_sae_free(b->sae);
    if (b->hashes) pthread_mutex_destroy(&b->hashes->lock);
    fct_free(b->hashes);
    fct_free(b->name);
    fct_free(b->short_name);
    *b = (fct_sae_bound){0};
}

/* Everything but the SAE itself, which is the caller's until this has succeeded. */
static fct_status make_bound(fct_sae_bound *b, const fct_block_info *block)
{
    *b = (fct_sae_bound){.stage = block->stage};
    fct_status st = fct_strdup(&b->name, block->name);
    if (st == FCT_OK) st = fct_strdup(&b->short_name, block->short_name);
    if (st == FCT_OK) st = fct_new(&b->hashes, 1, (int64_t)sizeof *b->hashes);
    if (st == FCT_OK && pthread_mutex_init(&b->hashes->lock, NULL) != 0) {
        fct_free(b->hashes);
        b->hashes = NULL;
        st = fct_fail(FCT_ERR_MEMORY, "the system gives no lock for a set of SAEs");
    }
    if (st != FCT_OK) clear_bound(b);
    return st;
}

static fct_status put(fct_sae_set *set, const fct_block_info *block, fct_sae *sae, bool take)
{
    int64_t at = 0;
    fct_sae_bound fresh;
    const fct_sae *other = fct_sae_set_find(set, block->name);
    if (other)
        return fct_fail(FCT_ERR_ARG, "block %s has two SAEs, %s and %s; give one",
                        block->short_name, other->path ? other->path : "one in memory",
                        sae->path ? sae->path : "one in memory");
    FCT_TRY(check_width(sae, block));
    FCT_TRY(fct_grow(&set->bound, set->n, set->n + 1, (int64_t)sizeof *set->bound));
    FCT_TRY(make_bound(&fresh, block));
    fresh.sae = sae;
    fresh.owned = take;
    for (at = set->n; at > 0 && set->bound[at - 1].stage > block->stage; at--)
        set->bound[at] = set->bound[at - 1];
    set->bound[at] = fresh;
    set->n++;
    return FCT_OK;
}

fct_status fct_sae_set_bind(fct_sae_set *set, const fct_model_info *info, const char *block,
                            fct_sae *sae, bool take)
{
    const fct_block_info *found;
    fct_status st = fct_block_find(&found, info, block);
    if (st == FCT_OK) st = put(set, found, sae, take);
    if (st != FCT_OK && take) fct_sae_free(sae);
    return st;
}

/* The block whose short or full name these n characters are; NULL: none. */
static const fct_block_info *find_quietly(const fct_model_info *info, const char *name, size_t n)
{
    for (int64_t i = 0; i < info->n_blocks; i++) {
        const fct_block_info *b = &info->block[i];
        if (strlen(b->short_name) == n && strncmp(b->short_name, name, n) == 0) return b;
        if (strlen(b->name) == n && strncmp(b->name, name, n) == 0) return b;
    }
    return NULL;
}

/* The block that a folder's name speaks of: one of its parts is a block's name, as in saes/up.0.1
   or unet.up_blocks.0.attentions.1_k10_hidden5120/final. The last such part counts. */
static const fct_block_info *block_of_path(const fct_model_info *info, const char *path)
{
    const fct_block_info *best = NULL;
    for (const char *part = path; *part;) {
        size_t n = strcspn(part, "/");
        const fct_block_info *b = find_quietly(info, part, n);
        if (!b) b = find_quietly(info, part, strcspn(part, "/_"));
        if (b) best = b;
        part += n + (part[n] == '/');
    }
    return best;
}

/* A crosscoder reads several blocks: each gets its part. */
static fct_status add_slices(fct_sae_set *set, const fct_model_info *info, const fct_sae *sae,
                             const char *dir)
{
    for (int64_t i = 0; i < sae->n_blocks; i++) {
        fct_sae *slice = NULL;
        const fct_block_info *found = NULL;
        FCT_TRY(fct_sae_slice(&slice, sae, sae->blocks[i].name));
        fct_status st = fct_where(fct_block_find(&found, info, slice->block), "SAE %s", dir);
        if (st == FCT_OK) st = put(set, found, slice, true);
        if (st != FCT_OK) fct_sae_free(slice);
        FCT_TRY(st);
    }
    return FCT_OK;
}

static fct_status add_one(fct_sae_set *set, const fct_model_info *info, const char *block,
                          const char *dir)
{
    fct_sae *sae = NULL;
    const fct_block_info *found = NULL;
    FCT_TRY(fct_sae_load(&sae, dir, block));
    fct_status st = FCT_OK;
    if (sae->n_blocks > 0) {
        st = add_slices(set, info, sae, dir);
        fct_sae_free(sae);
        return st;
    }
    if (block)
        st = fct_block_find(&found, info, block);
    else if (sae->block)
        st = fct_where(fct_block_find(&found, info, sae->block), "SAE %s", dir);
    else
        found = block_of_path(info, dir);
    if (st == FCT_OK && !found)
        st = fct_fail(FCT_ERR_ARG, "%s does not say which block it belongs to; give it as BLOCK=%s",
                      dir, dir);
    if (st == FCT_OK) st = put(set, found, sae, true);
    if (st != FCT_OK) fct_sae_free(sae);
    return st;
}

/* A folder of folders named by blocks, as training all blocks leaves it. Counts those it added. */
static fct_status add_each(int64_t *added, fct_sae_set *set, const fct_model_info *info,
                           const char *dir)
{
    fct_status st = FCT_OK;
    *added = 0;
    for (int64_t i = 0; i < info->n_blocks && st == FCT_OK; i++) {
        char *path = NULL;
        st = fct_path_join(&path, dir, info->block[i].short_name);
        if (st == FCT_OK && fct_sae_layout_of(path)) {
            st = add_one(set, info, info->block[i].short_name, path);
            ++*added;
        }
        fct_free(path);
    }
    return st;
}

fct_status fct_sae_set_add(fct_sae_set *set, const fct_model_info *info, const char *text)
{
    const char *equals = strchr(text, '=');
    const fct_block_info *block = equals ? find_quietly(info, text, (size_t)(equals - text)) : NULL;
    if (block) return add_one(set, info, block->short_name, equals + 1);
    /* BLOCK=DIR with a block that is not there */
    if (equals && !fct_path_exists(text)) {
        char *name = NULL;
        FCT_TRY(fct_strdup(&name, text));
        name[equals - text] = '\0';
        fct_status st = fct_block_find(&block, info, name);
        fct_free(name);
        return fct_where(st, "SAE %s", text);
    }
    int64_t added = 0;
    if (fct_path_is_dir(text)) FCT_TRY(add_each(&added, set, info, text));
    return added > 0 ? FCT_OK : add_one(set, info, NULL, text);
}

static void add_floats(fct_sha256 *s, const float *p, int64_t n)
{
    if (p) fct_sha256_add(s, p, n * (int64_t)sizeof *p);
}

/* The hash of the weights is of the tensors that every kind has; this one is of all that encoding
   and decoding depend on. */
static void hash_rest(char key[65], const char *weights, const fct_sae *s)
{
    fct_sha256 h;
    /* fct_sae_part_at takes an SAE that may be changed */
    fct_sae copy = *s;
    int64_t how[] = {s->kind, s->normalize, s->apply_b_dec_to_input, s->dec_norm != NULL};
    fct_sha256_init(&h);
    fct_sha256_add(&h, weights, (int64_t)strlen(weights));
    fct_sha256_add(&h, how, (int64_t)sizeof how);
    for (int part = FCT_SAE_PART_B_DEC + 1; part < FCT_SAE_PART_COUNT; part++)
        add_floats(&h, *fct_sae_part_at(&copy, (fct_sae_part)part),
                   fct_sae_part_count(s, (fct_sae_part)part));
    add_floats(&h, s->dec_norm, s->f);
    fct_sha256_hex(&h, key);
}

/* Of this kind an SAE is its four tensors and k alone, so that their hash says all. */
static bool is_plain(const fct_sae *s)
{
    fct_sae copy = *s;
    for (int part = FCT_SAE_PART_B_DEC + 1; part < FCT_SAE_PART_COUNT; part++)
        if (*fct_sae_part_at(&copy, (fct_sae_part)part)) return false;
    return s->kind == FCT_SAE_TOPK && s->normalize == FCT_SAE_NORMALIZE_NONE && !s->dec_norm &&
           s->apply_b_dec_to_input;
}

static void hash_sae(fct_sae_hashes *out, const fct_sae *s)
{
    fct_sha256 h;
    int64_t shape[3] = {s->d, s->f, s->k};
    if (s->mean || s->std || s->max) {
        fct_sha256_init(&h);
        add_floats(&h, s->mean, s->f);
        add_floats(&h, s->std, s->f);
        add_floats(&h, s->max, s->f);
        fct_sha256_hex(&h, out->stats);
    }
    fct_sha256_init(&h);
    fct_sha256_add(&h, shape, (int64_t)sizeof shape);
    add_floats(&h, s->w_enc, s->f * s->d);
    add_floats(&h, s->b_enc, s->f);
    add_floats(&h, s->w_dec, s->f * s->d);
    add_floats(&h, s->b_dec, s->d);
    fct_sha256_hex(&h, out->weights);
    hash_rest(out->key, out->weights, s);
}

static const fct_sae_hashes *hashes_of(const fct_sae_bound *b)
{
    pthread_mutex_lock(&b->hashes->lock);
    if (!b->hashes->weights[0]) hash_sae(b->hashes, b->sae);
    pthread_mutex_unlock(&b->hashes->lock);
    return b->hashes;
}

const char *fct_sae_bound_hash(const fct_sae_bound *b)
{
    const fct_sae_hashes *hashes = hashes_of(b);
    return is_plain(b->sae) ? hashes->weights : hashes->key;
}

const char *fct_sae_bound_stats_hash(const fct_sae_bound *b)
{
    return hashes_of(b)->stats;
}

const char *fct_sae_bound_key(const fct_sae_bound *b)
{
    return hashes_of(b)->key;
}

void fct_sae_set_clear(fct_sae_set *set)
{
    for (int64_t i = 0; i < set->n; i++) clear_bound(&set->bound[i]);
    fct_free(set->bound);
    *set = (fct_sae_set){0};
}

/* replay.c - writes the recipe of a run, and runs a recipe again with the parts that made it: finds
   its SAEs, and names every part that has changed since. */
#include <inttypes.h>
#include <string.h>

#include "base/option.h"
#include "edit/edit.h"

/* ---- the recipe of a run ---- */

/* Whether an edit speaks of the SAE's block, those of source recipes included. */
static bool uses_block(const fct_edit *edits, int64_t n, const fct_sae_bound *b)
{
    for (int64_t i = 0; i < n; i++) {
        const char *name = edits[i].block;
        if (name && (strcmp(name, b->short_name) == 0 || strcmp(name, b->name) == 0)) return true;
        if (edits[i].source && uses_block(edits[i].source->edit, edits[i].source->n_edits, b))
            return true;
    }
    return false;
}

/* Where something lies, so that the recipe finds it from any folder. JSON cannot tell a path that
   is not UTF-8; then it stays as it was given. */
static fct_status copy_path(char **out, const char *path)
{
    *out = NULL;
    if (!path) return FCT_OK;
    FCT_TRY(fct_path_absolute(out, path));
    if (fct_is_utf8(*out)) return FCT_OK;
    fct_free(*out);
    return fct_strdup(out, fct_is_utf8(path) ? path : NULL);
}

fct_status fct_recipe_put_saes(fct_recipe *r, const fct_sae_set *saes)
{
    fct_recipe_clear_saes(r);
    if (!saes || r->n_edits == 0) return FCT_OK;
    FCT_TRY(fct_new(&r->sae, saes->n, (int64_t)sizeof *r->sae));
    for (int64_t i = 0; i < saes->n; i++) {
        const fct_sae_bound *b = &saes->bound[i];
        if (!uses_block(r->edit, r->n_edits, b)) continue;
        fct_recipe_sae *s = &r->sae[r->n_saes++];
        FCT_TRY(fct_strdup(&s->block, b->short_name));
        FCT_TRY(copy_path(&s->path, b->sae->path));
        FCT_TRY(fct_strdup(&s->hash, fct_sae_bound_hash(b)));
        const char *stats = fct_sae_bound_stats_hash(b);
        FCT_TRY(fct_strdup(&s->stats_hash, stats[0] ? stats : NULL));
    }
    return FCT_OK;
}

static fct_status copy_model(fct_recipe *r, const fct_session *session)
{
    const fct_model_info *info = fct_model_get_info(fct_session_model(session));
    FCT_TRY(fct_strdup(&r->version, fct_version()));
    FCT_TRY(fct_strdup(&r->model, info->name));
    FCT_TRY(copy_path(&r->model_path, info->path));
    FCT_TRY(fct_strdup(&r->model_hash, info->hash));
    FCT_TRY(
        fct_option_parse(&r->engine, fct_option_find(fct_model_table(), "dtype"), info->precision));
    r->engine.backend = info->backend;
    FCT_TRY(fct_options_own(&r->engine, fct_model_table()));
    FCT_TRY(fct_strdup(&r->plan, fct_session_plan(session)));
    return fct_strdup(&r->sampler, info->scheduler);
}

fct_status fct_recipe_of_run(fct_recipe *out, const fct_session *session, const fct_run_desc *desc,
                             const fct_edit *edits, int64_t n_edits, const fct_sae_set *saes,
                             int64_t index)
{
    fct_status st = FCT_OK;
    fct_settings settings;
    fct_run_desc d = *desc;
    *out = (fct_recipe){.index = index, .threads = fct_session_threads(session)};
    if (index < 0 || index >= desc->n_items)
        return fct_fail(FCT_ERR_ARG, "picture %" PRId64 " is not in a batch of %" PRId64, index,
                        desc->n_items);
    if (desc->init_noise)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "a run from noise of the caller's has no recipe: recipes keep seeds");
    for (int64_t i = 0; i < desc->n_taps; i++)
        if (desc->taps[i].edits)
            return fct_fail(FCT_ERR_UNSUPPORTED,
                            "a run with taps that edit has no recipe: recipes keep edits");
    fct_settings_resolve(&settings, desc->settings, fct_model_get_info(fct_session_model(session)));
    d.settings = &settings;
    FCT_TRY_OUT(copy_model(out, session));
    FCT_TRY_OUT(fct_recipe_copy_run(out, &d, edits, n_edits));
    FCT_TRY_OUT(fct_recipe_put_saes(out, saes));
out:
    if (st != FCT_OK) fct_recipe_clear(out);
    return st;
}

/* ---- a recipe run again ---- */

fct_status fct_recipe_run(fct_session *session, fct_recipe *r, const fct_sae_set *saes,
                          fct_run_result *out)
{
    fct_run_desc d;
    fct_recipe_desc(r, &d);
    return fct_edit_run(session, &d, r->edit, r->n_edits, saes, out);
}

/* Reads the SAE from where the recipe says that it lies. */
static fct_status load_sae(fct_sae **out, const fct_recipe_sae *s, const char *folder)
{
    char *path = NULL;
    fct_status st;
    if (!s->path)
        return fct_fail(FCT_ERR_MISSING,
                        "the recipe does not say where its SAE of %s is; give it with --sae %s=DIR",
                        s->block, s->block);
    FCT_TRY(fct_path_in(&path, fct_path_exists(s->path) ? NULL : folder, s->path));
    if (fct_path_exists(path)) {
        st = fct_sae_load(out, path, s->block);
    } else {
        bool one = strcmp(path, s->path) == 0;
        st = fct_fail(FCT_ERR_MISSING,
                      "the recipe's SAE of %s is not at %s%s%s; give it with --sae %s=DIR",
                      s->block, s->path, one ? "" : " nor at ", one ? "" : path, s->block);
    }
    fct_free(path);
    return st;
}

fct_status fct_recipe_find_saes(const fct_recipe *r, const fct_model *m, const char *folder,
                                fct_sae_set *saes)
{
    const fct_model_info *info = fct_model_get_info(m);
    for (int64_t i = 0; i < r->n_saes; i++) {
        const fct_recipe_sae *s = &r->sae[i];
        const fct_block_info *block;
        fct_sae *sae = NULL;
        FCT_TRY(fct_where(fct_block_find(&block, info, s->block), "the recipe's SAEs"));
        if (fct_sae_set_find(saes, block->name)) continue;
        FCT_TRY(load_sae(&sae, s, folder));
        FCT_TRY(fct_sae_set_bind(saes, info, s->block, sae, true));
    }
    for (int64_t i = 0; i < r->n_edits; i++)
        if (r->edit[i].source) FCT_TRY(fct_recipe_find_saes(r->edit[i].source, m, folder, saes));
    return FCT_OK;
}

/* ---- what is loaded against what was used ---- */

/* Adds a difference to the sentence; what is not known of either side is none. */
static fct_status differ(fct_str *all, const char *what, const char *was, const char *is)
{
    if (!was || !is || !*was || strcmp(was, is) == 0) return FCT_OK;
    return fct_str_printf(all, "%s%s was %.16s, is %.16s", all->n ? "; " : "", what, was,
                          *is ? is : "none");
}

static fct_status differ_sae(fct_str *all, const fct_recipe_sae *s, const fct_model_info *info,
                             const fct_sae_set *saes)
{
    const fct_block_info *block;
    FCT_TRY(fct_block_find(&block, info, s->block));
    for (int64_t i = 0; saes && i < saes->n; i++) {
        const fct_sae_bound *b = &saes->bound[i];
        if (strcmp(b->name, block->name) != 0) continue;
        FCT_TRY(differ(all, s->block, s->hash, fct_sae_bound_hash(b)));
        return differ(all, "the hash of its statistics", s->stats_hash,
                      fct_sae_bound_stats_hash(b));
    }
    return fct_str_printf(all, "%sthe SAE of %s is not given", all->n ? "; " : "", s->block);
}

static fct_status check_parts(fct_str *all, const fct_recipe *r, const fct_model *m,
                              const fct_sae_set *saes)
{
    const fct_model_info *info = fct_model_get_info(m);
    FCT_TRY(differ(all, "the model's hash", r->model_hash, info->hash));
    FCT_TRY(differ(all, "the sampler", r->sampler, info->scheduler));
    for (int64_t i = 0; i < r->n_saes; i++) FCT_TRY(differ_sae(all, &r->sae[i], info, saes));
    return FCT_OK;
}

static fct_status check_numbers(fct_str *all, const fct_recipe *r, const fct_session *session)
{
    const fct_model_info *info = fct_model_get_info(fct_session_model(session));
    const char *was =
        r->engine.precision == FCT_PRECISION_AUTO ? NULL : fct_precision_name(r->engine.precision);
    FCT_TRY(differ(all, "the backend", r->engine.backend, info->backend));
    FCT_TRY(differ(all, "the number type", was, info->precision));
    return differ(all, "the plan (version, instruction set or threads)", r->plan,
                  fct_session_plan(session));
}

fct_status fct_recipe_check_parts(const fct_recipe *r, const fct_model *m, const fct_sae_set *saes)
{
    fct_str all = {0};
    fct_status st = check_parts(&all, r, m, saes);
    if (st == FCT_OK && all.n > 0)
        st = fct_fail(FCT_ERR_ARG, "it was made with other parts: %s", all.p);
    fct_str_clear(&all);
    return st;
}

fct_status fct_recipe_check(const fct_recipe *r, const fct_session *session,
                            const fct_sae_set *saes)
{
    fct_str all = {0};
    fct_status st = check_parts(&all, r, fct_session_model(session), saes);
    if (st == FCT_OK) st = check_numbers(&all, r, session);
    if (st == FCT_OK && all.n > 0)
        st = fct_fail(FCT_ERR_ARG, "the picture will come out differently: %s", all.p);
    fct_str_clear(&all);
    return st;
}

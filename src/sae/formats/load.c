/* load.c - loads the SAE that a path means: a folder in any of the formats, or one torch file, told
   by what it holds. Several that fit are listed, not chosen among. Of a crosscoder, with a block,
   that block's SAE. */
#include <string.h>

#include "sae/formats/formats.h"

static fct_status fail_list(const char *dir, const char *block, char **path, int64_t n)
{
    fct_str text = {0};
    fct_status st = fct_str_printf(&text, "%lld SAEs", (long long)n);
    for (int64_t i = 0; i < n && st == FCT_OK; i++) st = fct_str_printf(&text, "\n  %s", path[i]);
    if (st == FCT_OK && n == 0)
        st = block ? fct_fail(FCT_ERR_MISSING, "%s: no SAE for %s in it", dir, block)
                   : fct_fail(FCT_ERR_MISSING,
                              "%s: no SAE in it: want cfg.json with sae_weights.safetensors or "
                              "sae.safetensors, config.json with state_dict.pth or ae.pt, or "
                              "autoencoder.pt",
                              dir);
    else if (st == FCT_OK)
        st = fct_fail(FCT_ERR_ARG, "%s holds %s%s%s: name one of them", dir, text.p,
                      block ? "\nthat fit " : "", block ? block : "");
    fct_str_clear(&text);
    return st;
}

/* Where nothing else says the block, the folder's name may: .../down.2.1 */
static fct_status name_block(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *name = NULL, *brief = NULL, *full = NULL;
    if (s->block || s->n_blocks > 0) return FCT_OK;
    FCT_TRY_OUT(fct_strdup(&name, dir));
    for (size_t n = strlen(name); n > 1 && name[n - 1] == '/'; n--) name[n - 1] = '\0';
    FCT_TRY_OUT(fct_block_name_short(&brief, fct_path_base(name)));
    FCT_TRY_OUT(fct_block_name_full(&full, brief));
    if (strcmp(brief, full) != 0) { /* the rule knows it */
        s->block = brief;
        brief = NULL;
    }
out:
    fct_free(name);
    fct_free(brief);
    fct_free(full);
    return st;
}

/* The folder of a file, and the folder above that; NULL at the top. */
static fct_status folder_of(char **out, const char *path)
{
    const char *slash = strrchr(path, '/');
    FCT_TRY(fct_strdup(out, slash ? path : "."));
    if (slash) (*out)[slash == path ? 1 : slash - path] = '\0';
    return FCT_OK;
}

/* An SAE that is one torch file, told by what it holds: openai's; one of sdxl-unbox, whose k stands
   in a file beside it; or a checkpoint of dictionary_learning with its config.json beside it or one
   folder above. */
static fct_status load_file(fct_sae **out, const char *path)
{
    fct_status st = FCT_OK;
    fct_pth file = {0};
    char *dir = NULL, *above = NULL;
    *out = NULL;
    FCT_TRY_OUT(fct_pth_open(&file, path));
    if (fct_pth_find(&file, "latent_bias") || fct_pth_find(&file, "pre_bias")) {
        st = fct_sae_read_openai(out, &file, path);
        goto out;
    }
    FCT_TRY_OUT(folder_of(&dir, path));
    if (fct_pth_find(&file, "state_dict.pre_bias")) {
        st = fct_sae_format_sdxl_unbox.load(out, dir);
        goto out;
    }
    FCT_TRY_OUT(fct_path_join(&above, dir, ".."));
    FCT_TRY_OUT(
        fct_sae_load_dictlearn(out, path, fct_dir_has(dir, "config.json") ? dir : above, &file));
out:
    fct_pth_close(&file);
    fct_free(dir);
    fct_free(above);
    return st;
}

static fct_status load_one(fct_sae **out, const char *path)
{
    FCT_TRY(fct_path_is_dir(path) ? fct_sae_format_of(path)->load(out, path)
                                  : load_file(out, path));
    return fct_strdup(&(*out)->path, path);
}

static fct_status take_slice(fct_sae **sae, const char *block, const char *path)
{
    fct_sae *slice = NULL;
    FCT_TRY(fct_where(fct_sae_slice(&slice, *sae, block), "%s", path));
    fct_sae_free(*sae);
    *sae = slice;
    return FCT_OK;
}

fct_status fct_sae_load(fct_sae **out, const char *dir, const char *block)
{
    char **path = NULL;
    int64_t n = 0;
    *out = NULL;
    FCT_TRY(fct_where(fct_sae_find(&path, &n, dir, block), "loading an SAE"));
    fct_status st = FCT_OK;
    if (n != 1)
        st = fct_where(fail_list(dir, block, path, n), "loading an SAE");
    else
        st = fct_where(load_one(out, path[0]), "loading an SAE");
    if (st == FCT_OK) st = name_block(*out, path[0]);
    if (st == FCT_OK && block && (*out)->n_blocks > 0) st = take_slice(out, block, path[0]);
    if (st != FCT_OK) {
        fct_sae_free(*out);
        *out = NULL;
    }
    fct_free(path);
    return st;
}

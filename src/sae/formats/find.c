/* find.c - finds the SAE folder for a block among those that a path may mean: an SAE itself, a run
   with `final/` in it, or a root under which several lie (sdxl-unbox's `checkpoints/`: one run a
   block). */
#include <string.h>

#include "sae/formats/formats.h"

enum { MAX_DEPTH = 2 };

typedef struct found {
    char **path;
    int64_t n;
} found;

static bool is_sae(const char *dir)
{
    return fct_path_is_dir(dir) && fct_sae_format_of(dir) != NULL;
}

static fct_status add(found *f, const char *path)
{
    FCT_TRY(fct_grow(&f->path, f->n, f->n + 1, sizeof *f->path));
    FCT_TRY(fct_strdup(&f->path[f->n], path));
    f->n++;
    return FCT_OK;
}

/* An SAE ends the search in its branch; `final` stands for the whole run beside its intermediate
   checkpoints. */
static fct_status search(found *f, const char *dir, int depth)
{
    fct_status st = FCT_OK;
    char **name = NULL, *path = NULL;
    int64_t n = 0;
    if (is_sae(dir)) return add(f, dir);
    FCT_TRY_OUT(fct_path_join(&path, dir, "final"));
    if (is_sae(path)) {
        FCT_TRY_OUT(add(f, path));
        goto out;
    }
    if (depth >= MAX_DEPTH) goto out;
    FCT_TRY_OUT(fct_dir_list(&name, &n, dir));
    for (int64_t i = 0; i < n; i++) {
        fct_free(path);
        path = NULL;
        if (strstr(name[i], ".tmp-")) continue;
        FCT_TRY_OUT(fct_path_join(&path, dir, name[i]));
        if (fct_path_is_dir(path)) FCT_TRY_OUT(search(f, path, depth + 1));
    }
out:
    fct_free(path);
    fct_names_free(name, n);
    return st;
}

/* Whether a part of the path names the block, in full or in short: the folder itself, or as the
   authors name runs, BLOCK_k... */
static bool path_names(const char *path, size_t root, const char *block)
{
    size_t n = strlen(block);
    for (const char *p = strstr(path + root, block); p; p = strstr(p + 1, block))
        if ((p == path || p[-1] == '/') && (p[n] == '\0' || p[n] == '/' || p[n] == '_'))
            return true;
    return false;
}

/* The block that the SAE itself names, by its short name; of a crosscoder all, with commas between;
   NULL: none. */
static fct_status own_block(char **out, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *facet = NULL, *cfg = NULL;
    const char *block = NULL;
    *out = NULL;
    if (fct_sae_format_of(dir) == &fct_sae_format_saelens) {
        FCT_TRY_OUT(fct_path_join(&path, dir, "cfg.json"));
        FCT_TRY_OUT(fct_json_read(&cfg, path));
        const json_t *meta = json_object_get(cfg, "metadata");
        FCT_TRY_OUT(
            fct_json_str(&block, json_is_object(meta) ? meta : cfg, "hook_name", NULL, path));
    } else if (fct_dir_has(dir, "facet.json")) {
        FCT_TRY_OUT(fct_path_join(&path, dir, "facet.json"));
        FCT_TRY_OUT(fct_json_read(&facet, path));
        FCT_TRY_OUT(fct_json_str(&block, facet, "block", NULL, path));
    }
    if (block && strchr(block, ','))
        st = fct_strdup(out, block);
    else
        st = fct_block_name_short(out, block);
out:
    json_decref(facet);
    json_decref(cfg);
    fct_free(path);
    return st;
}

static bool names_block(const char *own, const char *brief)
{
    size_t n = strlen(brief);
    for (const char *p = own; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && strncmp(p, brief, n) == 0) return true;
    return false;
}

static fct_status fits(bool *out, const char *path, size_t root, const char *block)
{
    fct_status st = FCT_OK;
    char *brief = NULL, *full = NULL, *own = NULL;
    *out = true;
    if (!block) return FCT_OK;
    FCT_TRY_OUT(fct_block_name_short(&brief, block));
    FCT_TRY_OUT(fct_block_name_full(&full, brief));
    *out = path_names(path, root, full) || path_names(path, root, brief);
    if (*out) goto out;
    FCT_TRY_OUT(own_block(&own, path));
    *out = names_block(own, brief);
out:
    fct_free(brief);
    fct_free(full);
    fct_free(own);
    return st;
}

static fct_status find_all(found *all, const char *root)
{
    if (!fct_path_exists(root)) return fct_fail(FCT_ERR_MISSING, "%s: no such folder", root);
    if (!fct_path_is_dir(root) && fct_sae_is_torch_file(root)) return add(all, root);
    if (!fct_path_is_dir(root))
        return fct_fail(FCT_ERR_ARG,
                        "%s is a file: want the folder of an SAE (cfg.json or config.json in it), "
                        "or a .pt file",
                        root);
    return search(all, root, 0);
}

/* The array with its texts behind it, so that one call of the user's releases all. */
static fct_status in_one_block(char ***out, const found *f)
{
    int64_t bytes = f->n * (int64_t)sizeof *f->path;
    for (int64_t i = 0; i < f->n; i++) bytes += (int64_t)strlen(f->path[i]) + 1;
    FCT_TRY(fct_new(out, bytes, 1));
    char *text = (char *)(*out + f->n);
    for (int64_t i = 0; i < f->n; i++) {
        size_t n = strlen(f->path[i]) + 1;
        memcpy(text, f->path[i], n);
        (*out)[i] = text;
        text += n;
    }
    return FCT_OK;
}

fct_status fct_sae_find(char ***out_paths, int64_t *out_n, const char *root, const char *block)
{
    fct_status st = FCT_OK;
    found all = {0}, fit = {0};
    *out_paths = NULL;
    *out_n = 0;
    FCT_TRY_OUT(find_all(&all, root));
    for (int64_t i = 0; i < all.n; i++) {
        bool yes = all.n == 1 && strcmp(all.path[0], root) == 0; /* named itself: no need to fit */
        if (!yes) FCT_TRY_OUT(fits(&yes, all.path[i], strlen(root), block));
        if (yes) FCT_TRY_OUT(add(&fit, all.path[i]));
    }
    FCT_TRY_OUT(in_one_block(out_paths, &fit));
    *out_n = fit.n;
out:
    fct_names_free(all.path, all.n);
    fct_names_free(fit.path, fit.n);
    return st;
}

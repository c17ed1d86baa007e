/* hub.c - finds a model's folder: as it is named, in the Hugging Face cache, or the demo model that
   comes with facet. Nothing is downloaded here; an error says which command does that and where was
   looked. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/load/load.h"

static bool is_model(const char *folder)
{
    char *index = NULL;
    bool yes =
        fct_path_join(&index, folder, "model_index.json") == FCT_OK && fct_path_exists(index);
    fct_free(index);
    return yes;
}

/* Takes over `path` when a model is there, else releases it. */
static bool accept(char **out, char *path)
{
    if (path && is_model(path)) {
        *out = path;
        return true;
    }
    fct_free(path);
    return false;
}

/* The path is told without "..", since people read it and recipes keep it. */
static fct_status try_under(char **out, const char *base, const char *rest)
{
    char *path = NULL, real[PATH_MAX];
    if (!base || !*base) return FCT_OK;
    FCT_TRY(fct_path_join(&path, base, rest));
    if (!accept(out, path) || !realpath(*out, real)) return FCT_OK;
    fct_free(*out);
    return fct_strdup(out, real);
}

static fct_status find_demo(char **out)
{
    char *program = NULL;
    FCT_TRY(try_under(out, getenv("FACET_MODELS"), "demo"));
#ifdef FCT_DATA_DIR
    if (!*out) FCT_TRY(try_under(out, FCT_DATA_DIR, "models/demo"));
#endif
    if (!*out && fct_program_dir(&program) == FCT_OK) {
        static const char *const beside[] = {"../models/demo", "models/demo",
                                             "../share/facet/models/demo"};
        fct_status st = FCT_OK;
        for (size_t i = 0; i < FCT_COUNT(beside) && !*out && st == FCT_OK; i++)
            st = try_under(out, program, beside[i]);
        fct_free(program);
        FCT_TRY(st);
    }
#ifdef FCT_SOURCE_DIR
    if (!*out) FCT_TRY(try_under(out, FCT_SOURCE_DIR, "models/demo"));
#endif
    if (*out) return FCT_OK;
    return fct_fail(FCT_ERR_MISSING, "the demo model was not found: set FACET_MODELS to the folder "
                                     "that holds demo/, or name a model");
}

/* ---- the hub's cache ---- */

static fct_status cache_folder(char **out)
{
    static const struct {
        const char *variable, *rest;
    } place[] = {{"HF_HUB_CACHE", ""},
                 {"HUGGINGFACE_HUB_CACHE", ""},
                 {"HF_HOME", "hub"},
                 {"XDG_CACHE_HOME", "huggingface/hub"},
                 {"HOME", ".cache/huggingface/hub"}};
    for (size_t i = 0; i < FCT_COUNT(place); i++) {
        const char *base = getenv(place[i].variable);
        if (!base || !*base) continue;
        return *place[i].rest ? fct_path_join(out, base, place[i].rest) : fct_strdup(out, base);
    }
    return fct_fail(FCT_ERR_MISSING, "no HOME: set HF_HUB_CACHE to the cache's folder");
}

/* models--org--name */
static fct_status repository_folder(char **out, const char *name)
{
    fct_str s = {0};
    fct_status st = fct_str_append(&s, "models--");
    for (const char *p = name; *p && st == FCT_OK; p++)
        st = *p == '/' ? fct_str_append(&s, "--") : fct_str_append_n(&s, p, 1);
    if (st == FCT_OK) st = fct_strdup(out, s.p);
    fct_str_clear(&s);
    return st;
}

/* The snapshot that refs/main names, else the only or last one there is. */
static fct_status snapshot(char **out, const char *repository)
{
    char *ref = NULL, *hex = NULL, *snapshots = NULL, **names = NULL;
    int64_t n = 0;
    fct_status st = fct_path_join(&ref, repository, "refs/main");
    if (st == FCT_OK) st = fct_path_join(&snapshots, repository, "snapshots");
    if (st == FCT_OK && fct_path_exists(ref)) {
        st = fct_file_read(&hex, &n, ref);
        while (st == FCT_OK && n > 0 && (hex[n - 1] == '\n' || hex[n - 1] == ' ')) hex[--n] = '\0';
        if (st == FCT_OK && !strchr(hex, '/')) st = try_under(out, snapshots, hex);
    }
    if (st == FCT_OK && !*out && fct_path_is_dir(snapshots)) {
        st = fct_dir_list(&names, &n, snapshots);
        for (int64_t i = 0; i < n && !*out && st == FCT_OK; i++)
            st = try_under(out, snapshots, names[i]);
        fct_names_free(names, n);
    }
    fct_free(ref);
    fct_free(hex);
    fct_free(snapshots);
    return st;
}

static fct_status find_in_cache(char **out, const char *name)
{
    char *cache = NULL, *folder = NULL, *repository = NULL;
    fct_status st = cache_folder(&cache);
    if (st == FCT_OK) st = repository_folder(&folder, name);
    if (st == FCT_OK) st = fct_path_join(&repository, cache, folder);
    if (st == FCT_OK && fct_path_is_dir(repository)) st = snapshot(out, repository);
    if (st == FCT_OK && !*out)
        st = fct_fail(
            FCT_ERR_MISSING,
            "%s is neither a folder nor in the cache %s; get it with: huggingface-cli download %s",
            name, cache, name);
    fct_free(cache);
    fct_free(folder);
    fct_free(repository);
    return st;
}

fct_status fct_model_find(char **out_path, const char *name)
{
    *out_path = NULL;
    if (!name || !*name) return find_demo(out_path);
    if (fct_path_is_dir(name)) {
        if (!is_model(name))
            return fct_fail(FCT_ERR_MISSING, "%s: no model_index.json: want a diffusers folder",
                            name);
        return fct_strdup(out_path, name);
    }
    if (fct_path_exists(name))
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s is a file; facet reads diffusers folders", name);
    const char *slash = strchr(name, '/');
    bool hub = slash && slash != name && slash[1] && !strchr(slash + 1, '/') && name[0] != '.';
    if (!hub) return fct_fail(FCT_ERR_MISSING, "%s: no such folder", name);
    return find_in_cache(out_path, name);
}

/* folder.c - puts an SAE's files into its folder whole or not at all, and never into a folder that
   is something else. Each format is a list of files; an SAE that replaces another of its layout
   leaves none of the old one's files beside its own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sae/formats/formats.h"

static bool holds(const char *dir, const fct_sae_format *l)
{
    bool all = true;
    for (int i = 0; i < l->n_key; i++) all = all && fct_dir_has(dir, l->file[i]);
    return all;
}

static bool knows(const fct_sae_format *l, const char *name)
{
    for (int i = 0; i < FCT_SAE_MAX_FILES && l->file[i]; i++)
        if (strcmp(l->file[i], name) == 0) return true;
    return strstr(name, ".tmp-") != NULL;
}

fct_status fct_sae_check_place(const char *dir, fct_sae_layout layout)
{
    const fct_sae_format *l = fct_sae_format_get(layout);
    char **name = NULL;
    int64_t n = 0;
    if (!fct_path_exists(dir)) return FCT_OK;
    if (!fct_path_is_dir(dir))
        return fct_fail(FCT_ERR_ARG, "%s is a file, want the name of a folder", dir);
    if (holds(dir, l)) return FCT_OK;
    FCT_TRY(fct_dir_list(&name, &n, dir));
    /* what a kill left of a save has no key; an empty folder neither */
    bool ours = !fct_dir_has(dir, l->file[0]);
    for (int64_t i = 0; i < n; i++) ours = ours && knows(l, name[i]);
    fct_names_free(name, n);
    if (ours) return FCT_OK;
    return fct_fail(FCT_ERR_ARG,
                    "%s is not empty and holds no SAE in the %s layout: choose another folder", dir,
                    l->name);
}

/* ---- a folder, whole or not at all ---- */

/* Files only, which is what fill made; best effort. */
static void remove_dir(const char *dir)
{
    char **name = NULL;
    int64_t n = 0;
    if (fct_dir_list(&name, &n, dir) == FCT_OK)
        for (int64_t i = 0; i < n; i++) {
            char *path = NULL;
            if (fct_path_join(&path, dir, name[i]) == FCT_OK) unlink(path);
            fct_free(path);
        }
    fct_names_free(name, n);
    rmdir(dir);
}

static fct_status move_file(const char *from_dir, const char *to_dir, const char *name)
{
    char *from = NULL, *to = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_path_join(&from, from_dir, name));
    FCT_TRY_OUT(fct_path_join(&to, to_dir, name));
    if (rename(from, to) != 0) st = fct_fail(FCT_ERR_IO, "write %s: %s", to, strerror(errno));
out:
    fct_free(from);
    fct_free(to);
    return st;
}

static fct_status remove_file(const char *dir, const char *name)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, dir, name));
    fct_status st = fct_file_remove(path);
    fct_free(path);
    return st;
}

/* The files of a layout that the folder has and the new SAE has not: statistics of old weights. */
static fct_status remove_old(const char *temp, const char *dir, const fct_sae_format *l)
{
    for (int i = 0; i < FCT_SAE_MAX_FILES && l->file[i]; i++)
        if (!fct_dir_has(temp, l->file[i])) FCT_TRY(remove_file(dir, l->file[i]));
    return FCT_OK;
}

/* Into a folder that is there: without its key it is no SAE until all the rest is in place. Files
   of others stay. */
static fct_status move_into(const char *temp, const char *dir, const fct_sae_format *l)
{
    char **name = NULL;
    int64_t n = 0;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_dir_list(&name, &n, temp));
    FCT_TRY_OUT(remove_file(dir, l->file[0]));
    /* the same SAE may lie there in several layouts */
    for (fct_sae_layout i = 0; i < FCT_SAE_LAYOUT_COUNT; i++) {
        const fct_sae_format *other = fct_sae_format_get(i);
        if (other == l || holds(dir, other)) FCT_TRY_OUT(remove_old(temp, dir, other));
    }
    for (int64_t i = 0; i < n; i++)
        if (strcmp(name[i], l->file[0]) != 0) FCT_TRY_OUT(move_file(temp, dir, name[i]));
    FCT_TRY_OUT(move_file(temp, dir, l->file[0]));
out:
    fct_names_free(name, n);
    return st;
}

static fct_status strip_slashes(char **out, const char *dir)
{
    FCT_TRY(fct_strdup(out, dir));
    for (size_t n = strlen(*out); n > 1 && (*out)[n - 1] == '/'; n--) (*out)[n - 1] = '\0';
    return FCT_OK;
}

static fct_status make_parent(const char *target)
{
    char *parent = NULL;
    fct_status st = FCT_OK;
    FCT_TRY(fct_strdup(&parent, target));
    char *slash = strrchr(parent, '/');
    if (slash && slash > parent) {
        *slash = '\0';
        st = fct_dir_make(parent);
    }
    fct_free(parent);
    return st;
}

/* What kills left of earlier saves: TARGET.tmp-PID of processes that are no more; best effort. */
static void remove_rests(const char *target)
{
    char **name = NULL, *parent = NULL;
    int64_t n = 0, pid;
    const char *base = fct_path_base(target);
    size_t n_base = strlen(base);
    if (fct_strdup(&parent, target) != FCT_OK) return;
    parent[base - target] = '\0';
    if (fct_dir_list(&name, &n, *parent ? parent : ".") == FCT_OK)
        for (int64_t i = 0; i < n; i++) {
            char *path = NULL;
            if (strncmp(name[i], base, n_base) != 0 || strncmp(name[i] + n_base, ".tmp-", 5) != 0)
                continue;
            if (fct_parse_i64(&pid, name[i] + n_base + 5, 1, INT32_MAX) != FCT_OK) continue;
            if (kill((pid_t)pid, 0) == 0 || errno != ESRCH) continue;
            if (fct_format(&path, "%s%s", parent, name[i]) == FCT_OK) remove_dir(path);
            fct_free(path);
        }
    fct_names_free(name, n);
    fct_free(parent);
}

fct_status fct_sae_put_dir(const char *dir, fct_sae_layout layout,
                           fct_status (*fill)(void *user, const char *temp), void *user)
{
    fct_status st = FCT_OK;
    char *temp = NULL, *target = NULL;
    bool made = false;
    FCT_TRY_OUT(strip_slashes(&target, dir));
    FCT_TRY_OUT(fct_sae_check_place(target, layout));
    FCT_TRY_OUT(fct_format(&temp, "%s.tmp-%ld", target, (long)getpid()));
    FCT_TRY_OUT(make_parent(target));
    remove_rests(target);
    remove_dir(temp);
    made = true;
    FCT_TRY_OUT(fct_dir_make(temp));
    FCT_TRY_OUT(fill(user, temp));
    if (fct_path_is_dir(target) && rmdir(target) != 0) {
        FCT_TRY_OUT(move_into(temp, target, fct_sae_format_get(layout)));
    } else if (rename(temp, target) != 0) {
        st = fct_fail(FCT_ERR_IO, "write %s: %s", target, strerror(errno));
        goto out;
    }
out:
    if (made) remove_dir(temp);
    fct_free(temp);
    fct_free(target);
    return st;
}

/* layout.c - names the folders and files of a store, tells what kind a folder is, and asks for free
   space. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "store/store.h"

fct_status fct_store_path(char **out, const char *dir, const char *block, const char *file)
{
    char *folder = NULL;
    *out = NULL;
    if (!block) return file ? fct_path_join(out, dir, file) : fct_strdup(out, dir);
    FCT_TRY(fct_path_join(&folder, dir, block));
    fct_status st = FCT_OK;
    if (file) {
        st = fct_path_join(out, folder, file);
        fct_free(folder);
    } else {
        *out = folder;
    }
    return st;
}

fct_status fct_store_shard_name(char **out, int64_t i, int64_t n)
{
    int width = 5;
    for (int64_t limit = 100000; n > limit && width < 18; limit *= 10) width++;
    return fct_format(out, "%0*" PRId64 ".safetensors", width, i);
}

fct_status fct_store_clean(const char *dir)
{
    char **name = NULL, *path = NULL;
    int64_t n = 0;
    fct_status st = FCT_OK;
    if (!fct_path_is_dir(dir)) return FCT_OK;
    FCT_TRY(fct_dir_list(&name, &n, dir));
    for (int64_t i = 0; i < n; i++) {
        if (!strstr(name[i], ".tmp-")) continue;
        FCT_TRY_OUT(fct_path_join(&path, dir, name[i]));
        FCT_TRY_OUT(fct_file_remove(path));
        fct_free(path);
        path = NULL;
    }
out:
    fct_free(path);
    fct_names_free(name, n);
    return st;
}

fct_status fct_store_dir_kind(fct_store_kind *out, const char *dir)
{
    char **name = NULL;
    int64_t n = 0;
    bool store = false, progress = false, others = false;
    *out = FCT_DIR_NEW;
    if (!fct_path_exists(dir)) return FCT_OK;
    if (!fct_path_is_dir(dir))
        return fct_fail(FCT_ERR_ARG, "%s is a file, want the name of a folder", dir);
    FCT_TRY(fct_dir_list(&name, &n, dir));
    for (int64_t i = 0; i < n; i++) {
        store = store || strcmp(name[i], "store.json") == 0;
        progress = progress || strcmp(name[i], "progress.json") == 0;
        others = others || !strstr(name[i], ".tmp-");
    }
    fct_names_free(name, n);
    *out = store      ? FCT_DIR_STORE
           : progress ? FCT_DIR_UNFINISHED
           : others   ? FCT_DIR_OTHER
                      : FCT_DIR_NEW;
    return FCT_OK;
}

void fct_bytes_text(char *text, int64_t size, int64_t bytes)
{
    static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1000 && u + 1 < FCT_COUNT(unit)) {
        v /= 1000;
        u++;
    }
    snprintf(text, (size_t)size, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
}

fct_status fct_store_check_space(const char *dir, int64_t bytes)
{
    struct statvfs info;
    char need[32], have[32];
    if (statvfs(dir, &info) != 0) return FCT_OK; /* not every file system says; writing will tell */
    double free_bytes = (double)info.f_bavail * (double)info.f_frsize;
    if (free_bytes >= (double)bytes * 1.01 + 1e6) return FCT_OK;
    fct_bytes_text(need, sizeof need, bytes);
    fct_bytes_text(have, sizeof have, (int64_t)free_bytes);
    return fct_fail(FCT_ERR_IO,
                    "%s: the store needs %s, the disk has %s free: fewer prompts, blocks or steps, "
                    "or a smaller type",
                    dir, need, have);
}

fct_status fct_store_check_name(const char *name)
{
    if (name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && strlen(name) < 200)
        return FCT_OK;
    return fct_fail(FCT_ERR_ARG, "block \"%s\": want a name that can be a folder", name);
}

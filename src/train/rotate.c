/* rotate.c - lists a run's checkpoints, and removes old ones and those that a killed run left
   unfinished. A new one is written beside the others before the oldest goes, so a kill or a
   full disk at any moment leaves a good one; on continuing, one that is damaged (a disk's fault, a
   copy that was cut off) gives way to the one before it. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "train/train.h"

static const char prefix[] = "checkpoint-", suffix[] = ".safetensors";
enum { DIGITS = 12 }; /* names sort as their steps do */

/* The step that a checkpoint's name says; -1: it is no checkpoint's. */
static int64_t step_of(const char *name)
{
    char digits[DIGITS + 1];
    int64_t step;
    size_t n = sizeof prefix - 1;
    if (strlen(name) != n + DIGITS + sizeof suffix - 1) return -1;
    if (strncmp(name, prefix, n) != 0 || strcmp(name + n + DIGITS, suffix) != 0) return -1;
    memcpy(digits, name + n, DIGITS);
    digits[DIGITS] = '\0';
    return fct_parse_i64(&step, digits, 0, INT64_MAX) == FCT_OK ? step : -1;
}

/* What a killed run left of one that was being written. */
static bool is_unfinished(const char *name)
{
    char whole[sizeof prefix + DIGITS + sizeof suffix];
    const char *temp = strstr(name, ".safetensors.tmp-");
    size_t n = temp ? (size_t)(temp - name) + sizeof suffix - 1 : 0;
    if (n == 0 || n >= sizeof whole) return false;
    memcpy(whole, name, n);
    whole[n] = '\0';
    return step_of(whole) >= 0;
}

static void remove_one(const char *dir, const char *name)
{
    char *path = NULL;
    if (fct_path_join(&path, dir, name) == FCT_OK) unlink(path);
    fct_free(path);
}

/* Removes those that are too many, those of later steps (damaged: this run stands here), and
   unfinished ones. */
static void remove_old(const char *dir, int64_t keep, int64_t step)
{
    char **name = NULL;
    int64_t n = 0, kept = 0;
    if (fct_dir_list(&name, &n, dir) != FCT_OK) return;
    for (int64_t i = n - 1; i >= 0; i--) {
        int64_t at = step_of(name[i]);
        bool stays = at >= 0 && at <= step && kept < keep;
        kept += stays;
        if ((at >= 0 && !stays) || is_unfinished(name[i])) remove_one(dir, name[i]);
    }
    fct_names_free(name, n);
}

/* The newest checkpoint's step; -1: there is none. */
static int64_t newest(const char *dir)
{
    char **name = NULL;
    int64_t n = 0, step = -1;
    if (fct_dir_list(&name, &n, dir) != FCT_OK) return -1;
    for (int64_t i = 0; i < n; i++)
        if (step_of(name[i]) > step) step = step_of(name[i]);
    fct_names_free(name, n);
    return step;
}

fct_status fct_checkpoint_save(const char *dir, const fct_train_state *s)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    FCT_TRY_OUT(fct_dir_make(dir));
    FCT_TRY_OUT(fct_format(&path, "%s/%s%0*" PRId64 "%s", dir, prefix, DIGITS, s->step, suffix));
    st = fct_checkpoint_write(path, s);
    int64_t last = st == FCT_OK ? -1 : newest(dir);
    if (last >= 0)
        st = fct_fail(st, "%s; the checkpoint of step %" PRId64 " stays", fct_error_text(), last);
    if (st == FCT_OK) remove_old(dir, s->trainee[0].plan.keep_checkpoints, s->step);
out:
    fct_free(path);
    return fct_where(st, "saving a checkpoint");
}

fct_status fct_checkpoint_load(const char *dir, fct_train_state *s, const fct_log *log)
{
    fct_status st = FCT_ERR_MISSING;
    char **name = NULL, *path = NULL;
    int64_t n = 0;
    FCT_TRY(fct_dir_list(&name, &n, dir));
    for (int64_t i = n - 1; i >= 0; i--) {
        if (step_of(name[i]) < 0) continue;
        if (st != FCT_ERR_MISSING)
            fct_log_line(log, FCT_LOG_WARN, "%s; continuing from the checkpoint before it",
                         fct_error_text());
        fct_free(path);
        path = NULL;
        st = fct_path_join(&path, dir, name[i]);
        if (st == FCT_OK) st = fct_checkpoint_read(path, s, log);
        if (st != FCT_ERR_FORMAT) break;
    }
    if (st == FCT_ERR_MISSING) st = fct_fail(st, "no checkpoint is in %s", dir);
    if (st == FCT_ERR_FORMAT)
        st = fct_fail(st, "%s; no other checkpoint is there: remove the folder to start again",
                      fct_error_text());
    fct_names_free(name, n);
    fct_free(path);
    return fct_where(st, "continuing from a checkpoint");
}

bool fct_sae_checkpoint_exists(const char *dir)
{
    return fct_path_is_dir(dir) && newest(dir) >= 0; /* a failure's text stays as it is */
}

void fct_sae_checkpoint_remove(const char *dir)
{
    remove_old(dir, 0, INT64_MAX);
    rmdir(dir); /* unless others keep files there */
}

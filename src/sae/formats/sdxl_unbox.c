/* sdxl_unbox.c - reads and writes the layout of the code of Surkov et al. 2024
   (surkovv/sdxl-unbox): config.json, state_dict.pth ({"state_dict": ...}), mean.pt and std.pt (each
   feature's mean and deviation when active). The block is told by facet.json where facet wrote the
   folder, else by the folder's name, as their trainer makes it:

       <block>_k10_hidden5120_auxk256_bs4096_lr0.0001/final */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "sae/formats/formats.h"

static bool detect(const char *dir)
{
    return fct_dir_has(dir, "config.json") && fct_dir_has(dir, "state_dict.pth");
}

/* ---- reading ---- */

enum { N_PARTS = 4 };
static const fct_sae_named_part weights[N_PARTS] = {
    {.name = "encoder.weight", .part = FCT_SAE_PART_W_ENC},
    {.name = "latent_bias", .part = FCT_SAE_PART_B_ENC},
    {.name = "pre_bias", .part = FCT_SAE_PART_B_DEC},
    {.name = "decoder.weight", .part = FCT_SAE_PART_W_DEC, .transposed = true}};

/* Inside the dictionary that their trainer saves, or bare. */
static const fct_tensor *find(const void *file, const char *name)
{
    char full[64] = "state_dict.";
    memcpy(full + strlen(full), name, strlen(name) + 1);
    const fct_tensor *t = fct_pth_find(file, full);
    return t ? t : fct_pth_find(file, name);
}

static fct_status read_weights(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_pth file = {0};
    char *path = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, "state_dict.pth"));
    FCT_TRY_OUT(fct_pth_open(&file, path));
    FCT_TRY_OUT(fct_sae_read_parts(s, &(fct_sae_tensors){path, &file, find}, weights, N_PARTS));
out:
    fct_pth_close(&file);
    fct_free(path);
    return st;
}

static fct_status read_stat(float **out, const fct_sae *s, const char *dir, const char *name)
{
    fct_status st = FCT_OK;
    fct_pth file = {0};
    char *path = NULL;
    if (!fct_dir_has(dir, name)) return FCT_OK;
    FCT_TRY_OUT(fct_path_join(&path, dir, name));
    FCT_TRY_OUT(fct_pth_open(&file, path));
    FCT_TRY_OUT(fct_new(out, s->f, sizeof **out));
    const fct_tensor *t = fct_pth_find(&file, "");
    if (!t || t->ndim != 1 || t->dim[0] != s->f || t->dtype == FCT_BOOL) {
        st = fct_fail(FCT_ERR_SHAPE, "%s: want one tensor [%lld]", path, (long long)s->f);
        goto out;
    }
    FCT_TRY_OUT(fct_convert(*out, FCT_F32, t->data, t->dtype, s->f));
    for (int64_t i = 0; i < s->f; i++)
        if (!isfinite((*out)[i])) (*out)[i] = 0; /* 0/0 of features that were never active */
out:
    fct_pth_close(&file);
    fct_free(path);
    return st;
}

/* The block from .../<block>_k<digits>_hidden.../final, .../<block>_k... or nothing. */
static fct_status block_of_path(char **out, const char *dir)
{
    fct_status st = FCT_OK;
    char *copy = NULL;
    FCT_TRY(fct_strdup(&copy, dir));
    for (int level = 0; level < 2; level++) {
        size_t n = strlen(copy);
        while (n > 1 && copy[n - 1] == '/') copy[--n] = '\0';
        char *base = strrchr(copy, '/');
        char *name = base ? base + 1 : copy, *k = name;
        while ((k = strstr(k, "_k")) && !isdigit((unsigned char)k[2])) k += 2;
        if (k && k > name && strchr(name, '.')) {
            *k = '\0';
            FCT_TRY_OUT(fct_block_name_short(out, name));
            break;
        }
        if (!base || base == copy) break;
        *base = '\0';
    }
out:
    fct_free(copy);
    return st;
}

static fct_status load(fct_sae **out, const char *dir)
{
    fct_status st = FCT_OK;
    fct_sae *s = NULL;
    char *path = NULL;
    json_t *j = NULL;
    int64_t d, f, k;
    FCT_TRY_OUT(fct_path_join(&path, dir, "config.json"));
    FCT_TRY_OUT(fct_json_read(&j, path));
    FCT_TRY_OUT(fct_json_i64(&d, j, "d_model", 0, path));
    FCT_TRY_OUT(fct_json_i64(&f, j, "n_dirs_local", 0, path));
    FCT_TRY_OUT(fct_json_i64(&k, j, "k", 0, path));
    if (!json_object_get(j, "k")) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: k is missing", path);
        goto out;
    }
    FCT_TRY_OUT(fct_where(fct_sae_new(&s, FCT_SAE_TOPK, d, f, k), "%s", path));
    FCT_TRY_OUT(read_weights(s, dir));
    FCT_TRY_OUT(read_stat(&s->mean, s, dir, "mean.pt"));
    FCT_TRY_OUT(read_stat(&s->std, s, dir, "std.pt"));
    s->has_stats = s->mean || s->std;
    FCT_TRY_OUT(fct_sae_read_facet(s, dir, NULL, NULL));
    if (!s->block) FCT_TRY_OUT(block_of_path(&s->block, dir));
    *out = s;
    s = NULL;
out:
    json_decref(j);
    fct_free(path);
    fct_sae_free(s);
    return st;
}

/* ---- writing ---- */

static fct_status write_config(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    json_t *facet = NULL, *j = NULL;
    int64_t auxk = 256, dead_steps = 10000000 / 4096;
    if (s->facet_json)
        FCT_TRY_OUT(
            fct_json_parse(&facet, s->facet_json, (int64_t)strlen(s->facet_json), "facet.json"));
    const json_t *training = json_object_get(facet, "training");
    if (json_is_object(training)) {
        FCT_TRY_OUT(fct_json_i64(&auxk, training, "auxk", auxk, "facet.json"));
        FCT_TRY_OUT(
            fct_json_i64(&dead_steps, training, "aux_dead_steps", dead_steps, "facet.json"));
    }
    if (auxk > s->f) auxk = s->f; /* their forward takes that many, dead or not */
    j = json_pack("{s:I, s:I, s:I, s:o, s:I}", "n_dirs_local", (json_int_t)s->f, "d_model",
                  (json_int_t)s->d, "k", (json_int_t)s->k, "auxk",
                  auxk > 0 ? json_integer(auxk) : json_null(), "dead_steps_threshold",
                  (json_int_t)dead_steps);
    if (!j) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: config.json");
        goto out;
    }
    FCT_TRY_OUT(fct_path_join(&path, dir, "config.json"));
    FCT_TRY_OUT(fct_json_write(j, path));
out:
    json_decref(facet);
    json_decref(j);
    fct_free(path);
    return st;
}

static fct_status write_stat(const float *data, const fct_sae *s, const char *dir, const char *name)
{
    char *path = NULL;
    if (!data) return FCT_OK;
    fct_tensor_entry entry = {(char[]){""},
                              fct_tensor_of((void *)(uintptr_t)data, FCT_F32, 1, &s->f)};
    fct_status st = fct_path_join(&path, dir, name);
    if (st == FCT_OK) st = fct_pth_write(path, &entry, 1, NULL, NULL);
    fct_free(path);
    return st;
}

/* Keys in the order in which their module registers them; decoder.weight [D,F] keeps the storage of
   the [F,D] dictionary. */
static fct_status write_weights(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    int64_t *not_fired = NULL;
    FCT_TRY_OUT(fct_new(&not_fired, s->f, sizeof *not_fired));
    FCT_TRY_OUT(fct_path_join(&path, dir, "state_dict.pth"));
    const fct_sae_named_part named[] = {
        weights[2],
        weights[1],
        {.name = "stats_last_nonzero", .other = fct_tensor_of(not_fired, FCT_I64, 1, &s->f)},
        weights[0],
        weights[3]};
    FCT_TRY_OUT(fct_sae_write_pth(s, path, named, (int)FCT_COUNT(named),
                                  &(fct_pth_write_desc){.nest = "state_dict"}));
out:
    fct_free(path);
    fct_free(not_fired);
    return st;
}

static fct_status write_stats(const fct_sae *s, const char *dir)
{
    FCT_TRY(write_stat(s->mean, s, dir, "mean.pt"));
    return write_stat(s->std, s, dir, "std.pt");
}

static fct_status fill(const fct_sae *s, const char *dir)
{
    FCT_TRY(write_config(s, dir));
    FCT_TRY(write_weights(s, dir));
    return write_stats(s, dir);
}

static fct_status check(const fct_sae *s)
{
    if (s->kind == FCT_SAE_TOPK && s->apply_b_dec_to_input &&
        s->normalize == FCT_SAE_NORMALIZE_NONE)
        return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "the authors' layout (sdxl-unbox) holds TopK SAEs that subtract the decoder's "
                    "bias from rows as they are, no other");
}

const fct_sae_format fct_sae_format_sdxl_unbox = {
    .name = "sdxl-unbox",
    .file = {"config.json", "state_dict.pth", "mean.pt", "std.pt", "facet.json"},
    .n_key = 2,
    .detect = detect,
    .load = load,
    .check = check,
    .fill = fill,
    .write_stats = write_stats,
    .mean_std_only = true,
};

/* stats_file.c - reads and writes stats.safetensors, facet's own file beside an SAE: those of every
   feature's density, mean, std and max, each [F], that are known. Of a crosscoder also block_share
   [F,n], which follows from its directions and is written for others to read. */
#include "sae/formats/formats.h"

fct_status fct_sae_read_stats(fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_safetensors file = {0};
    char *path = NULL;
    if (!fct_dir_has(dir, "stats.safetensors")) return FCT_OK;
    FCT_TRY_OUT(fct_path_join(&path, dir, "stats.safetensors"));
    FCT_TRY_OUT(fct_safetensors_open(&file, path));
    const struct {
        const char *name;
        float **at;
    } part[] = {{"density", &s->density}, {"mean", &s->mean}, {"std", &s->std}, {"max", &s->max}};
    for (size_t i = 0; i < FCT_COUNT(part); i++) { /* a converted SAE has some of them */
        const fct_tensor *t = fct_safetensors_find(&file, part[i].name);
        if (!t) continue;
        if (t->ndim != 1 || t->dim[0] != s->f) {
            char text[64];
            fct_shape_text(text, sizeof text, t);
            st = fct_fail(FCT_ERR_SHAPE, "%s: %s: want [%lld], file has %s", path, part[i].name,
                          (long long)s->f, text);
            goto out;
        }
        FCT_TRY_OUT(fct_new(part[i].at, s->f, sizeof(float)));
        FCT_TRY_OUT(fct_sae_take_floats(*part[i].at, path, part[i].name, t));
        s->has_stats = true;
    }
    if (!s->has_stats)
        st = fct_fail(FCT_ERR_MISSING, "%s: none of the tensors density, mean, std, max", path);
out:
    fct_safetensors_close(&file);
    fct_free(path);
    return st;
}

fct_status fct_sae_write_stats(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    float *share = NULL;
    char name[5][12] = {"density", "mean", "std", "max", "block_share"};
    float *const part[4] = {s->density, s->mean, s->std, s->max};
    fct_tensor_entry entry[5];
    int n = 0;
    for (int i = 0; i < 4; i++)
        if (part[i])
            entry[n++] = (fct_tensor_entry){name[i], fct_tensor_of(part[i], FCT_F32, 1, &s->f)};
    if (n == 0) return FCT_OK;
    if (s->n_blocks > 0) {
        FCT_TRY_OUT(fct_new(&share, s->f * s->n_blocks, sizeof *share));
        fct_sae_block_share(s, share);
        entry[n++] = (fct_tensor_entry){
            name[4], fct_tensor_of(share, FCT_F32, 2, (int64_t[]){s->f, s->n_blocks})};
    }
    FCT_TRY_OUT(fct_path_join(&path, dir, "stats.safetensors"));
    FCT_TRY_OUT(fct_safetensors_write(path, entry, n, NULL));
out:
    fct_free(path);
    fct_free(share);
    return st;
}

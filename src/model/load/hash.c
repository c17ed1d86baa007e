/* hash.c - names a model's content by a hash that is made in milliseconds: over every JSON and text
   file whole, and of every weight file its size, its header and pages sampled evenly. A changed
   layer changes it unless the change falls between all samples; the full hash is for those who ask
   for it. */
#include <string.h>

#include "model/load/load.h"

enum { PAGE = 4096, SAMPLES = 64 };

static fct_status add_file(fct_sha256 *h, const char *path, const char *name)
{
    fct_file f;
    FCT_TRY(fct_file_map(&f, path));
    fct_sha256_add(h, name, (int64_t)strlen(name) + 1);
    fct_sha256_add(h, &f.size, sizeof f.size);
    uint64_t header = 0;
    if (f.size >= 8) memcpy(&header, f.data, 8);
    bool weights = fct_ends_with(name, ".safetensors");
    if (!weights || f.size <= (int64_t)PAGE * SAMPLES) {
        if (f.size) fct_sha256_add(h, f.data, f.size);
    } else {
        int64_t head = header < (uint64_t)f.size - 8 ? (int64_t)header + 8 : PAGE;
        fct_sha256_add(h, f.data, head);
        for (int64_t i = 0; i < SAMPLES; i++)
            fct_sha256_add(h, f.data + (f.size - PAGE) / (SAMPLES - 1) * i, PAGE);
    }
    fct_file_unmap(&f);
    return FCT_OK;
}

static fct_status add_folder(fct_sha256 *h, const char *folder, const char *component)
{
    char *dir = NULL, **names = NULL;
    int64_t n = 0;
    fct_status st = *component ? fct_path_join(&dir, folder, component) : fct_strdup(&dir, folder);
    if (st == FCT_OK && fct_path_is_dir(dir)) st = fct_dir_list(&names, &n, dir);
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        char *path = NULL, *name = NULL;
        bool part = fct_ends_with(names[i], ".json") || fct_ends_with(names[i], ".safetensors") ||
                    fct_ends_with(names[i], ".txt");
        if (part && !*component) part = strcmp(names[i], "model_index.json") == 0;
        if (!part) continue;
        st = fct_path_join(&path, dir, names[i]);
        if (st == FCT_OK) st = fct_format(&name, "%s/%s", component, names[i]);
        if (st == FCT_OK && !fct_path_is_dir(path)) st = add_file(h, path, name);
        fct_free(path);
        fct_free(name);
    }
    fct_names_free(names, n);
    fct_free(dir);
    return st;
}

fct_status fct_model_hash(char out[65], const char *folder)
{
    static const char *const component[] = {
        "",          "scheduler",   "text_encoder", "text_encoder_2",
        "tokenizer", "tokenizer_2", "unet",         "vae"};
    fct_sha256 h;
    fct_sha256_init(&h);
    for (size_t i = 0; i < FCT_COUNT(component); i++) FCT_TRY(add_folder(&h, folder, component[i]));
    fct_sha256_hex(&h, out);
    return FCT_OK;
}

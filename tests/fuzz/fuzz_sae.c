/* fuzz_sae.c - the readers of SAE folders. The bytes are a folder: one byte for the layout, two for
   the length of its JSON (low byte first), the JSON, and all that is left the file of weights. What
   loads can be applied, saved, and loads again as the same kind and size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/sae_once.h"
#include "fuzz.h"
#include "sae/sae.h"

static const struct {
    const char *json, *weights;
} layout_table[] = {
    {"cfg.json", "sae_weights.safetensors"},
    {"config.json", "state_dict.pth"},
    {"config.json", "ae.pt"},
    {"cfg.json", "sae.safetensors"},
    {"config.json", "autoencoder.pt"},
};

static void put(const char *dir, const char *name, const uint8_t *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || (n > 0 && fwrite(data, n, 1, f) != 1) || fclose(f) != 0) __builtin_trap();
}

static void drop(const char *dir)
{
    char **name = NULL, path[512];
    int64_t n = 0;
    if (fct_dir_list(&name, &n, dir) != FCT_OK) return;
    for (int64_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        unlink(path);
    }
    fct_names_free(name, n);
    rmdir(dir);
}

static void use(const fct_sae *s, const char *dir)
{
    fct_sae *again = NULL;
    float *rows = NULL;
    if (s->d * s->f > 1 << 20) return; /* larger than any seed: only slow */
    if (fct_new(&rows, 2 * s->d, sizeof *rows) != FCT_OK) __builtin_trap();
    for (int64_t i = 0; i < 2 * s->d; i++) rows[i] = (float)(i % 7) - 3;
    if (once_rebuild(s, rows, 2, rows) != FCT_OK) { /* huge weights: not finite */
    }
    fct_free(rows);
    fct_status st = fct_sae_save(s, dir, NULL);
    if (st == FCT_OK) st = fct_sae_load(&again, dir, NULL);
    if (st == FCT_OK && (again->kind != s->kind || again->d != s->d || again->f != s->f))
        __builtin_trap();
    fct_sae_free(again);
    drop(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char dir[64], out[72];
    fct_sae *s = NULL;
    if (n < 3) return 0;
    size_t layout = data[0] % FCT_COUNT(layout_table),
           json = (size_t)data[1] | (size_t)data[2] << 8;
    if (json > n - 3) return 0;
    snprintf(dir, sizeof dir, "%s/facet-fuzz-XXXXXX", /* saving waits for a real disk */
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir)) __builtin_trap();
    put(dir, layout_table[layout].json, data + 3, json);
    put(dir, layout_table[layout].weights, data + 3 + json, n - 3 - json);
    snprintf(out, sizeof out, "%s-out", dir);
    if (fct_sae_load(&s, dir, NULL) == FCT_OK) use(s, out);
    fct_sae_free(s);
    drop(dir);
    return 0;
}

/* tensor_file.c - reads and writes files of named tensors (safetensors) as one array, for programs
   that need no more of the format: latents of a run, codes, rows of their own. */
#include <string.h>

#include "tensor/tensor.h"

enum { ALIGNMENT = 64 };

static int64_t round_up(int64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The array, then the data, then the names. */
static fct_status in_one_block(fct_named_tensor **out, const fct_tensor_entry *entry, int64_t n,
                               bool with_data)
{
    uint8_t *block;
    int64_t data = round_up(n * (int64_t)sizeof **out), names = data, bytes;
    for (int64_t i = 0; i < n && with_data; i++)
        FCT_TRY(fct_add_i64(&names, names, round_up(fct_tensor_bytes(&entry[i].t))));
    bytes = names;
    for (int64_t i = 0; i < n; i++) bytes += (int64_t)strlen(entry[i].name) + 1;
    FCT_TRY(fct_new(&block, bytes, 1));
    *out = (fct_named_tensor *)block;
    for (int64_t i = 0; i < n; i++) {
        size_t length = strlen(entry[i].name) + 1;
        (*out)[i] = (fct_named_tensor){(char *)block + names, entry[i].t};
        memcpy(block + names, entry[i].name, length);
        names += (int64_t)length;
        (*out)[i].t.data = NULL;
        int64_t size = fct_tensor_bytes(&entry[i].t);
        if (!with_data || size == 0) continue;
        (*out)[i].t.data = block + data;
        memcpy(block + data, entry[i].t.data, (size_t)size);
        data += round_up(size);
    }
    return FCT_OK;
}

static const fct_tensor_entry *find(const fct_safetensors *s, const char *name)
{
    for (int64_t i = 0; i < s->n; i++)
        if (strcmp(s->entry[i].name, name) == 0) return &s->entry[i];
    return NULL;
}

static fct_status read_file(fct_named_tensor **out, int64_t *out_n, const char *path,
                            const char *name, bool with_data)
{
    fct_safetensors s = {0};
    *out = NULL;
    *out_n = 0;
    FCT_TRY(fct_safetensors_open(&s, path));
    const fct_tensor_entry *one = name ? find(&s, name) : NULL;
    int64_t n = name ? 1 : s.n;
    fct_status st =
        name && !one ? fct_fail(FCT_ERR_MISSING, "%s: no tensor %s in it", path, name) : FCT_OK;
    if (st == FCT_OK) st = in_one_block(out, one ? one : s.entry, n, with_data);
    if (st == FCT_OK) *out_n = n;
    fct_safetensors_close(&s);
    return st;
}

fct_status fct_tensors_list(fct_named_tensor **out, int64_t *out_n, const char *path)
{
    return read_file(out, out_n, path, NULL, false);
}

fct_status fct_tensors_read(fct_named_tensor **out, int64_t *out_n, const char *path,
                            const char *name)
{
    return read_file(out, out_n, path, name, true);
}

fct_status fct_tensors_write(const char *path, const fct_named_tensor *tensor, int64_t n)
{
    fct_status st = FCT_OK;
    fct_tensor_entry *entry = NULL;
    FCT_TRY(fct_new(&entry, n, sizeof *entry));
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        entry[i].t = tensor[i].t;
        st = fct_strdup(&entry[i].name, tensor[i].name);
    }
    if (st == FCT_OK) st = fct_safetensors_write(path, entry, n, NULL);
    for (int64_t i = 0; i < n; i++) fct_free(entry[i].name);
    fct_free(entry);
    return st;
}

/* twin.h - a random twin of an SDXL model on disk, drawn again from the list that
   tools/make_twin.py wrote: each weight is torch.randn of its seed times a scale plus an offset.
   Nothing but that list and PyTorch's outputs is kept in the repository. */
#ifndef FCT_TEST_TWIN_H
#define FCT_TEST_TWIN_H

#include <stdio.h>
#include <string.h>

#include "tensor/tensor.h"

static fct_status twin_write_text(const char *folder, const char *name, const json_t *content)
{
    char *path = NULL;
    FCT_TRY(fct_path_join(&path, folder, name));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    fct_status st = fct_dir_make(path);
    *slash = '/';
    if (st == FCT_OK)
        st = json_is_string(content) ? fct_file_write(path, json_string_value(content),
                                                      (int64_t)json_string_length(content))
                                     : fct_json_write(content, path);
    fct_free(path);
    return st;
}

/* [shape, scale, offset, seed] */
static fct_status twin_draw(fct_tensor_entry *e, const char *name, const json_t *spec,
                            fct_dtype dtype)
{
    const json_t *shape = json_array_get(spec, 0);
    float scale = (float)json_number_value(json_array_get(spec, 1)),
          offset = (float)json_number_value(json_array_get(spec, 2));
    int64_t dim[FCT_MAX_DIMS];
    int ndim = (int)json_array_size(shape);
    for (int i = 0; i < ndim; i++) dim[i] = json_integer_value(json_array_get(shape, (size_t)i));
    e->t = fct_tensor_of(NULL, dtype, ndim, dim);
    FCT_TRY(fct_strdup(&e->name, name));
    int64_t n = fct_tensor_count(&e->t);
    float *x = NULL;
    FCT_TRY(fct_new(&x, n, sizeof *x));
    fct_rng rng;
    fct_rng_init(&rng, (uint64_t)json_integer_value(json_array_get(spec, 3)));
    fct_rng_normal(&rng, x, n);
    for (int64_t i = 0; i < n; i++) {
        volatile float scaled = x[i] * scale; /* rounded before the sum, as torch does */
        x[i] = scaled + offset;
    }
    fct_status st = fct_new(&e->t.data, n, fct_dtype_bytes(dtype));
    if (st == FCT_OK) st = fct_convert(e->t.data, dtype, x, FCT_F32, n);
    fct_free(x);
    return st;
}

static fct_status twin_write_shards(const char *folder, const char *component, const char *stem,
                                    fct_tensor_entry *e, int64_t n, int64_t shards)
{
    json_t *map = json_object(), *index = json_object();
    char path[1400], file[128];
    fct_status st = FCT_OK;
    for (int64_t s = 0; s < shards && st == FCT_OK; s++) {
        int64_t from = n * s / shards, to = n * (s + 1) / shards;
        if (shards == 1)
            snprintf(file, sizeof file, "%s.safetensors", stem);
        else
            snprintf(file, sizeof file, "%s-%05d-of-%05d.safetensors", stem, (int)s + 1,
                     (int)shards);
        snprintf(path, sizeof path, "%s/%s/%s", folder, component, file);
        st = fct_safetensors_write(path, e + from, to - from, NULL);
        for (int64_t i = from; i < to; i++) json_object_set_new(map, e[i].name, json_string(file));
    }
    json_object_set_new(index, "metadata", json_object());
    json_object_set_new(index, "weight_map", map);
    snprintf(path, sizeof path, "%s/%s/%s.safetensors.index.json", folder, component, stem);
    if (shards > 1 && st == FCT_OK) st = fct_json_write(index, path);
    json_decref(index);
    return st;
}

static fct_status twin_write_weights(const char *folder, const char *component, const json_t *spec)
{
    json_t *tensors = json_object_get(spec, "tensors"), *value;
    const char *name;
    fct_dtype dtype;
    int64_t n = (int64_t)json_object_size(tensors), i = 0;
    fct_tensor_entry *e = NULL;
    FCT_TRY(fct_dtype_find(&dtype, json_string_value(json_object_get(spec, "dtype"))));
    FCT_TRY(fct_new(&e, n, sizeof *e));
    fct_status st = FCT_OK;
    json_object_foreach(tensors, name, value) if (st == FCT_OK) st =
        twin_draw(&e[i++], name, value, dtype);
    if (st == FCT_OK)
        st = twin_write_shards(folder, component, json_string_value(json_object_get(spec, "stem")),
                               e, n, json_integer_value(json_object_get(spec, "shards")));
    for (i = 0; i < n; i++) {
        fct_free(e[i].name);
        fct_free(e[i].t.data);
    }
    fct_free(e);
    return st;
}

/* Writes the whole model of a description (tests/golden/twin/NAME.json) into a folder. */
static inline fct_status twin_write(const char *description, const char *folder)
{
    json_t *root = NULL, *value;
    const char *key;
    FCT_TRY(fct_json_read(&root, description));
    fct_status st = FCT_OK;
    json_object_foreach(json_object_get(root, "files"), key, value) if (st == FCT_OK) st =
        twin_write_text(folder, key, value);
    json_object_foreach(json_object_get(root, "weights"), key, value) if (st == FCT_OK) st =
        twin_write_weights(folder, key, value);
    json_decref(root);
    return st;
}

#endif

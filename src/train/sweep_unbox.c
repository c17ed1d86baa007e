/* sweep_unbox.c - turns a training config of sdxl-unbox (surkovv/sdxl-unbox, its train script's
   JSON) into a sweep of facet's: one configuration for each of its "sae_configs", the rest as
   options of the run. */
#include "train/sweep.h"

#include <string.h>

fct_status fct_sweep_fail_memory(void)
{
    return fct_fail(FCT_ERR_MEMORY, "out of memory: a sweep's configuration");
}

fct_status fct_sweep_set(json_t *o, const char *key, json_t *value)
{
    return json_object_set_new(o, key, value) == 0 ? FCT_OK : fct_sweep_fail_memory();
}

static const struct renamed {
    const char *unbox, *facet; /* what the option is called there and here */
} renamed_run[] = {{"bs", "batch-size"},
                   {"log_interval", "log-every"},
                   {"save_interval", "checkpoint-every"},
                   {"block_name", "block"},
                   {"save_path_base", "output"}},
  renamed_sae[] = {{"n_dirs", "n-features"}, {"k", "k"},
                   {"auxk", "auxk"},         {"lr", "lr"},
                   {"eps", "eps"},           {"dead_toks_threshold", "dead-rows"},
                   {"auxk_coef", "aux-coef"}};

/* A null auxk is no aux loss, whose weight then means nothing. */
static fct_status translate_sae(json_t *configs, json_t *unbox, int64_t *d)
{
    json_t *config = json_object();
    bool no_aux = json_is_null(json_object_get(unbox, "auxk"));
    if (json_array_append_new(configs, config) != 0) return fct_sweep_fail_memory();
    for (size_t i = 0; i < FCT_COUNT(renamed_sae); i++) {
        json_t *value = json_object_get(unbox, renamed_sae[i].unbox);
        if (!value || (no_aux && strcmp(renamed_sae[i].unbox, "auxk_coef") == 0)) continue;
        bool none = no_aux && strcmp(renamed_sae[i].unbox, "auxk") == 0;
        FCT_TRY(fct_sweep_set(config, renamed_sae[i].facet,
                              none ? json_integer(0) : json_incref(value)));
    }
    int64_t own;
    FCT_TRY(fct_json_i64(&own, unbox, "d_model", *d, "sae_configs"));
    if (*d > 0 && own != *d)
        return fct_fail(FCT_ERR_FORMAT, "\"sae_configs\": d_model is %lld and %lld: want one",
                        (long long)*d, (long long)own);
    *d = own;
    return FCT_OK;
}

/* Stores of imported rows know a block's short name alone. */
static fct_status shorten_block(json_t *options)
{
    char *brief = NULL;
    const char *full = json_string_value(json_object_get(options, "block"));
    if (!json_object_get(options, "block")) return FCT_OK;
    fct_status st = fct_block_name_short(&brief, full ? full : "");
    if (st == FCT_OK) st = fct_sweep_set(options, "block", json_string(brief));
    fct_free(brief);
    return st;
}

static fct_status translate_run(json_t *options, json_t *unbox)
{
    json_t *paths = json_object_get(unbox, "paths_to_latents");
    for (size_t i = 0; i < FCT_COUNT(renamed_run); i++) {
        json_t *value = json_object_get(unbox, renamed_run[i].unbox);
        if (value) FCT_TRY(fct_sweep_set(options, renamed_run[i].facet, json_incref(value)));
    }
    FCT_TRY(shorten_block(options));
    if (json_array_size(paths) > 1)
        return fct_fail(FCT_ERR_UNSUPPORTED, "paths_to_latents: %zu folders: want one",
                        json_array_size(paths));
    if (json_array_size(paths) == 0) return FCT_OK;
    return fct_sweep_set(options, "store", json_incref(json_array_get(paths, 0)));
}

fct_status fct_sweep_translate(json_t **file, int64_t *d)
{
    fct_status st = FCT_OK;
    json_t *saes = json_object_get(*file, "sae_configs"), *unbox;
    json_t *options = json_object(), *configs = json_array();
    size_t at;
    FCT_TRY_OUT(translate_run(options, *file));
    json_array_foreach(saes, at, unbox) FCT_TRY_OUT(translate_sae(configs, unbox, d));
    json_t *sweep = json_pack("{s:O, s:O}", "options", options, "configs", configs);
    if (!sweep) {
        st = fct_sweep_fail_memory();
        goto out;
    }
    json_decref(*file);
    *file = sweep;
out:
    json_decref(options);
    json_decref(configs);
    return st;
}

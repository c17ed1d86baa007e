/* model_index.c - reads model_index.json of a diffusers folder: the pipeline that the model is made
   for, and whether its name says Turbo (one step, no guidance). */
#include <string.h>

#include "model/load/load.h"

static bool says_turbo(const char *text)
{
    static const char word[] = "turbo";
    for (; *text; text++) {
        size_t i = 0;
        while (word[i] && (text[i] | 0x20) == word[i]) i++;
        if (!word[i]) return true;
    }
    return false;
}

fct_status fct_config_index(fct_index_config *c, const char *folder, const fct_log *log)
{
    char *path = NULL;
    json_t *root = NULL, *value;
    const char *key, *class_name = NULL;
    *c = (fct_index_config){.force_zeros = true, .turbo = says_turbo(fct_path_base(folder))};
    fct_status st = fct_path_join(&path, folder, "model_index.json");
    if (st == FCT_OK) st = fct_json_read(&root, path);
    if (st == FCT_OK)
        st = fct_json_bool(&c->force_zeros, root, "force_zeros_for_empty_prompt", true, path);
    if (st == FCT_OK) st = fct_json_str(&class_name, root, "_class_name", "", path);
    if (st == FCT_OK && strncmp(class_name, "StableDiffusionXL", 17) != 0)
        st = fct_fail(FCT_ERR_UNSUPPORTED,
                      "%s: _class_name is \"%s\"; facet runs StableDiffusionXLPipeline", path,
                      class_name);
    if (st == FCT_OK && strcmp(class_name, "StableDiffusionXLPipeline") != 0)
        fct_log_line(log, FCT_LOG_WARN, "%s: a %s is run as a StableDiffusionXLPipeline", path,
                     class_name);
    if (st == FCT_OK)
        json_object_foreach(root, key, value) if (json_is_string(value) &&
                                                  says_turbo(json_string_value(value))) c->turbo =
            true;
    json_decref(root);
    fct_free(path);
    return st;
}

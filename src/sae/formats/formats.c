/* formats.c - lists the SAE formats, and tells which of them something on disk is. */
#include <string.h>

#include "sae/formats/formats.h"

static const fct_sae_format *const format_table[] = {
    [FCT_SAE_SAELENS] = &fct_sae_format_saelens,
    [FCT_SAE_SDXL_UNBOX] = &fct_sae_format_sdxl_unbox,
    [FCT_SAE_DICTLEARN] = &fct_sae_format_dictlearn,
    [FCT_SAE_SPARSIFY] = &fct_sae_format_sparsify,
    [FCT_SAE_OPENAI] = &fct_sae_format_openai,
};

const fct_sae_format *fct_sae_format_get(fct_sae_layout layout)
{
    return format_table[layout];
}

const char *fct_sae_layout_name(fct_sae_layout layout)
{
    return format_table[layout]->name;
}

fct_status fct_sae_layout_find(fct_sae_layout *out, const char *name)
{
    for (fct_sae_layout i = 0; i < FCT_SAE_LAYOUT_COUNT; i++)
        if (strcmp(format_table[i]->name, name) == 0) {
            *out = (fct_sae_layout)i;
            return FCT_OK;
        }
    return fct_fail(FCT_ERR_ARG, "%s is not a format of SAEs", name);
}

const fct_sae_format *fct_sae_format_of(const char *path)
{
    if (!fct_path_is_dir(path))
        return fct_path_exists(path) && fct_sae_is_torch_file(path) ? &fct_sae_format_openai : NULL;
    for (fct_sae_layout i = 0; i < FCT_SAE_LAYOUT_COUNT; i++)
        if (format_table[i]->detect(path)) return format_table[i];
    return NULL;
}

bool fct_sae_is_torch_file(const char *path)
{
    return fct_ends_with(path, ".pt") || fct_ends_with(path, ".pth");
}

const char *fct_sae_layout_of(const char *path)
{
    const fct_sae_format *format = fct_sae_format_of(path);
    return format ? format->name : NULL;
}

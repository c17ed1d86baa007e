/* presets.c - lists the presets of a training: what its options are where the caller says nothing.

   "unboxing" is the recipe of Surkov et al. 2024 as their code (sdxl-unbox) has it, for rows of
   real SDXL by the hundred million: its first ten batches set bias and loss scale and are not
   trained on.

   "demo" is for small models and some hundred thousand rows, where the paper's rates and dead
   threshold would need far more steps than there are: calibration rows are trained on as well.

   "modern" is what has proved itself since: BatchTopK, so that a rich row may use more features
   than a plain one; twice the features; rows scaled to a length that suits the rates, whatever the
   block; a warm-up, so that Adam's first steps break nothing; a fall to 0 at the end, which gains
   the most for the least; a bound on the gradient against rare rows that are huge. */
#include <string.h>

#include "train/plan.h"

static const fct_preset preset_table[] = {
    {
        .name = "unboxing",
        .arch = "topk",
        .k = 10,
        .auxk = 256,
        .batch = 4096,
        .dead_rows = 10000000,
        .calibration_batches = 10,
        .factor = 4,
        .lr = 1e-4,
        .lr_decay = FCT_LR_CONSTANT,
        .decay_part = 5,
        .normalize = FCT_NORMALIZE_NONE,
    },
    {
        .name = "demo",
        .arch = "topk",
        .k = 8,
        .auxk = 32,
        .batch = 2048,
        .dead_rows = 120000,
        .factor = 2,
        .lr = 1e-3,
        .lr_decay = FCT_LR_LINEAR,
        .decay_part = 3,
        .normalize = FCT_NORMALIZE_NONE,
    },
    {
        .name = "modern",
        .arch = "batchtopk",
        .k = 20,
        .auxk = 256,
        .batch = 4096,
        .dead_rows = 2000000,
        .factor = 8,
        .lr = 3e-4,
        .lr_decay = FCT_LR_LINEAR,
        .decay_part = 5,
        .warmup = true,
        .grad_clip = 1,
        .normalize = FCT_NORMALIZE_NORM,
    },
};

fct_status fct_preset_find(const fct_preset **out, const char *name)
{
    for (size_t i = 0; i < FCT_COUNT(preset_table); i++)
        if (strcmp(preset_table[i].name, name) == 0) {
            *out = &preset_table[i];
            return FCT_OK;
        }
    return fct_fail(FCT_ERR_ARG, "preset %s: want unboxing, demo or modern", name);
}

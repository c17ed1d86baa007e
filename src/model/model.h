/* model.h - declares what a loaded model is made of, and the state of a run from which a later one
   resumes (a moment). The rooms below hold the rest: load/, net/, text/, sampler/. */
#ifndef FCT_MODEL_MODEL_H
#define FCT_MODEL_MODEL_H

#include "model/sampler/sampler.h"
#include "model/text/text.h"

struct fct_model {
    fct_model_info info;
    char *path, *name;
    char hash[65], plan[65];
    const fct_log *log;
    const fct_backend *be;
    fct_dtype dtype; /* activations and packed weights of U-Net and text encoders; the VAE is f32 */
    fct_index_config index;
    fct_unet_config unet_config;
    fct_clip_config clip_config[2];
    fct_scheduler_config scheduler_config;
    fct_tokenizer *tokenizer[2];
    fct_clip *clip[2];
    fct_stages unet;
    fct_vae vae;
    fct_modules modules;
    fct_block_info *block;
    int64_t n_blocks;
    bool has_vae;
};
/* fct_model_open on a backend of the caller's, whatever desc names. */
fct_status fct_model_open_on(fct_model **out, const fct_model_desc *desc,
                             const fct_backend *be) FCT_MUST_CHECK;
/* Fills block and n_blocks from the modules and stages (blocks.c).
   The model's close releases them. */
fct_status fct_model_list_blocks(fct_model *m) FCT_MUST_CHECK;
void fct_model_clear_blocks(fct_model *m);

/* As hex digits, a hash of what decides which algorithms run, beside shapes: version, instruction
   set, number type and this thread's number of threads. (open.c) */
fct_status fct_model_plan(char out[65], const fct_model *m) FCT_MUST_CHECK;

#endif

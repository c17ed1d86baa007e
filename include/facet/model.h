/* facet/model.h - loads a text-to-image model of the SDXL family and tells what it is: its blocks,
   its defaults, its tokens.

   Do this:
       fct_model *model = NULL;
       fct_status st = fct_model_open(&model, &(fct_model_desc){.path = "models/demo"});
       const fct_model_info *info = st == FCT_OK ? fct_model_get_info(model) : NULL;
       for (int64_t i = 0; info && i < info->n_blocks; i++)
           printf("%s: rows of %lld numbers\n", info->block[i].short_name,
                  (long long)info->block[i].channels);
       fct_model_close(model);

   A model is what was loaded: read-only once it is open, and shared by any number of sessions on
   any threads. Zero is the default everywhere; the model folder's own defaults stand behind it
   (fct_model_info). */
#ifndef FACET_MODEL_H
#define FACET_MODEL_H

#include "facet/option.h"
#include "facet/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fct_model fct_model;

/* In which numbers products are computed; sums, norms and softmax are f32 in both. */
typedef enum fct_precision {
    FCT_PRECISION_AUTO, /* bf16 where the processor is fast at it, else f32 */
    FCT_PRECISION_F32,
    FCT_PRECISION_BF16
} fct_precision;
/* "auto", "f32", "bf16". */
FCT_API const char *fct_precision_name(fct_precision precision);

/* What shapes the weights. Zero is the default, except path. */
typedef struct fct_model_desc {
    const char *path;    /* a diffusers folder: see fct_model_find */
    const char *backend; /* "cpu" or "ref" (facet/device.h); NULL: "cpu" */
    fct_precision precision;
    bool no_vae;        /* the VAE is not loaded: such a model makes latents and rows alone */
    const fct_log *log; /* must outlive the model; NULL: silent */
} fct_model_desc;

/* The rows of what a user chooses of it (facet/option.h): "backend" and "dtype", the precision.
   Recipes keep these; path, no_vae and log are the program's to say. */
FCT_API const fct_option *fct_model_table(void);

/* Reads configs and weights, and packs these as the backend likes them: seconds for a model of full
   size. FCT_ERR_ARG: desc is NULL or has no path; FCT_ERR_UNSUPPORTED names a setting that facet
   does not have, FCT_ERR_MISSING a file, FCT_ERR_SHAPE a tensor. */
FCT_API fct_status fct_model_open(fct_model **out, const fct_model_desc *desc) FCT_MUST_CHECK;
/* After its sessions. NULL is fine. */
FCT_API void fct_model_close(fct_model *m);

/* Where a model is. name: a folder, or a hub name ("stabilityai/sdxl-turbo") that is looked up in
   the local cache; NULL: the demo model ($FACET_MODELS/demo, the installed data folder, then next
   to the program). FCT_ERR_MISSING says where was looked and how to get it. Release *out_path with
   fct_free. */
FCT_API fct_status fct_model_find(char **out_path, const char *name) FCT_MUST_CHECK;

/* A transformer block (Transformer2DModel) of the U-Net: what is watched and edited. */
typedef struct fct_block_info {
    const char *name;       /* "unet.down_blocks.2.attentions.1" */
    const char *short_name; /* "down.2.1" */
    int64_t channels;       /* D: numbers of its rows */
    int64_t stage;          /* its place in the flat list of stages */
    int64_t downscale;      /* its grid is the latents' by this, rounded up at each halving */
} fct_block_info;

typedef struct fct_model_info {
    const char *path, *name; /* as opened; the folder's name */
    const char *hash;        /* of headers, sizes and sampled pages of its files: 64 hex digits */
    const char *backend, *precision; /* in use: "cpu", "f32" or "bf16" */
    const char *plan;    /* that of a session with as many threads as the model was opened with */
    int64_t sample_size; /* latents' default height and width, in cells */
    int64_t vae_factor;  /* pixels per cell: 8 */
    int64_t latent_channels; /* of the VAE: 4 */
    /* Of settings that say none: pixels, denoising steps, and 0 for models without guidance. */
    int64_t default_width, default_height, default_steps;
    double default_guidance;
    double vae_scaling;          /* latents are divided by it before the decoder */
    const fct_block_info *block; /* [n_blocks], in the order in which they run */
    int64_t n_blocks;
    int64_t n_stages;
    const char *scheduler; /* its class: "EulerAncestralDiscreteScheduler" */
    int64_t trailing;      /* training steps of a scheduler with trailing spacing; 0: others */
} fct_model_info;
/* Lives as long as the model. */
FCT_API const fct_model_info *fct_model_get_info(const fct_model *m);
/* How many steps a run of `steps` (0: the model's) really has: with trailing spacing diffusers'
   list holds one timestep more for some numbers (61, 103, 121 ...). Taps, edits and at_steps count
   these. */
FCT_API int64_t fct_model_count_steps(const fct_model_info *info, int64_t steps);

/* The block with this short or full name, in info's table; FCT_ERR_MISSING lists the blocks that
   there are. */
FCT_API fct_status fct_block_find(const fct_block_info **out, const fct_model_info *info,
                                  const char *name) FCT_MUST_CHECK;

/* Blocks named by a comma-separated list of short names, full names and globs, in running
   order, each once. *out [*out_n] points into the model's table; release the array with
   fct_free. A name that fits none is FCT_ERR_MISSING, with the blocks that there are. */
FCT_API fct_status fct_model_find_blocks(const fct_block_info ***out, int64_t *out_n,
                                         const fct_model *m, const char *list) FCT_MUST_CHECK;

/* Token ids of one text encoder (0 or 1) for a prompt (NULL: ""), *out [*out_n], padded to the
   encoder's length. out_cut (may be NULL): the text that did not fit; NULL when all did. Release
   both with fct_free. */
FCT_API fct_status fct_model_tokenize(const fct_model *m, int encoder, const char *prompt,
                                      int32_t **out, int64_t *out_n, char **out_cut) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/* facet/model.h - a loaded text-to-image model of the SDXL family, runs of it, and taps into it.

   Do this:
       fct_model *m = NULL;
       fct_model_open(&m, &(fct_model_desc){.path = "models/demo"});
       const fct_model_info *info = fct_model_get_info(m);
       // info->n_blocks blocks; runs: facet/session.h
       fct_model_close(m);

   A model is what was loaded: read-only once it is open, and shared by any number of sessions on
   any threads. Zero is the default everywhere; the model folder's own defaults stand behind it
   (fct_model_info). */
#ifndef FACET_MODEL_H
#define FACET_MODEL_H

#include "facet/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fct_model fct_model;

typedef enum fct_precision {
    FCT_PRECISION_AUTO,
    FCT_PRECISION_F32,
    FCT_PRECISION_BF16
} fct_precision;

typedef struct fct_model_desc {
    const char *path;        /* a diffusers folder (already resolved: see fct_model_find) */
    const char *backend;     /* "cpu" (NULL) or "ref" */
    fct_precision precision; /* AUTO: bf16 where the processor is fast at it, else f32 */
    bool no_vae;             /* do not load the VAE (capture) */
    const fct_log *log;      /* must outlive the model; NULL: silent */
} fct_model_desc;

FCT_API fct_status fct_model_open(fct_model **out, const fct_model_desc *desc) FCT_MUST_CHECK;
FCT_API void fct_model_close(fct_model *m);

/* Where a model is: `name` may be a folder or a hub name ("stabilityai/sdxl-turbo", looked up in
   the local cache); NULL: the demo model ($FACET_MODELS/demo, the installed data folder, then next
   to the program). *out_path: release with fct_free. */
FCT_API fct_status fct_model_find(char **out_path, const char *name) FCT_MUST_CHECK;

typedef struct fct_block_info { /* a transformer block (Transformer2DModel) of the U-Net */
    const char *name;           /* "unet.down_blocks.2.attentions.1" */
    const char *short_name;     /* "down.2.1" */
    int64_t channels;           /* D of its rows */
    int64_t stage;              /* its place in the flat list of stages */
    int64_t downscale; /* its grid is the latents' divided by this (rounded up at each halving) */
} fct_block_info;

typedef struct fct_model_info {
    const char *path, *name, *hash;  /* hash: of headers, sizes and sampled pages, hex */
    const char *backend, *precision; /* "cpu", "f32" or "bf16": what is in use */
    const char *plan;    /* hex hash of what decides which algorithms run: same plan, same bytes */
    int64_t sample_size; /* latents' default height and width */
    int64_t vae_factor;  /* pixels per latent cell: 8 */
    int64_t latent_channels;
    int64_t default_width, default_height, default_steps;
    double default_guidance;     /* 0 for one-step models */
    double vae_scaling;          /* latents / scaling before the decoder */
    const fct_block_info *block; /* in the order they run */
    int64_t n_blocks;
    int64_t n_stages;
    const char *scheduler; /* class name */
    int64_t trailing;      /* training steps of a scheduler with trailing spacing; 0: others */
} fct_model_info;
FCT_API const fct_model_info *fct_model_get_info(const fct_model *m);
/* How many steps a run of `steps` (0: the model's) really has: with trailing spacing diffusers'
   list holds one timestep more for some numbers (61, 103, 121 ...). Taps, edits and at_steps count
   these. */
FCT_API int64_t fct_model_count_steps(const fct_model_info *info, int64_t steps);

/* The block with this short or full name, in the model's block table; FCT_ERR_MISSING lists the
   blocks that there are. */
FCT_API fct_status fct_block_find(const fct_block_info **out, const fct_model_info *info,
                                  const char *name) FCT_MUST_CHECK;

/* Blocks named by a comma-separated list of short names, full names and globs, in running order,
   without repeats. *out: array of pointers into the model's block table, released with fct_free. A
   name that fits none is an error listing the blocks. */
FCT_API fct_status fct_model_find_blocks(const fct_block_info ***out, int64_t *out_n,
                                         const fct_model *m, const char *list) FCT_MUST_CHECK;

/* ---- taps: watch or edit any named module of the U-Net ---- */
typedef enum fct_tap_what { FCT_TAP_IN, FCT_TAP_OUT, FCT_TAP_DELTA } fct_tap_what;

typedef struct fct_tap_event {
    const char *name;            /* full diffusers name */
    const fct_block_info *block; /* when the module is a transformer block, else NULL */
    fct_tap_what what;
    int64_t step, steps; /* counted from 1 */
    int64_t first_item;  /* number of the run's first item in this batch */
    int64_t items;       /* items in this batch */
    bool guided; /* true: rows [0,items) of the batch are uncond, [items, 2·items) cond; false: rows
                    are items */
} fct_tap_event;

/* value: f32, [B,H,W,C] for maps, [B,T,C] for token modules, [B,C] for vectors. It may be changed
   in place when the tap says `edits` (for DELTA: block output = block input + value). Returning an
   error ends the run with it. */
typedef fct_status (*fct_tap_fn)(void *user, const fct_tap_event *event, fct_tensor *value);

typedef struct fct_tap {
    const char *module; /* full name, short name or glob. Modules with weights and the blocks made
                           of them have names; activations, dropouts and lists do not */
    fct_tap_what what;  /* DELTA of a transformer block: f32 result of its proj_out, before the
                           residual is added; of other modules: out - in, refused where the shapes
                           differ or where it is edited */
    bool edits;
    /* the steps in which it is called, both included; 0, 0: all */
    int64_t first_step, last_step;
    /* With `edits`: a hash of all that the tap does to a value, so that equal keys mean equal
       results on equal input. The session then keeps moments and resumes from them. NULL: not
       known, and runs with this tap run whole */
    const char *key;
    void *user;
    fct_tap_fn fn;
} fct_tap;

/* ---- runs ---- */
typedef struct fct_run_item {
    const char *prompt;   /* NULL is "" */
    const char *prompt_2; /* for the second encoder; NULL or "": prompt */
    uint64_t seed;
} fct_run_item;

typedef enum fct_noise_dtype { FCT_NOISE_F32, FCT_NOISE_F16, FCT_NOISE_BF16 } fct_noise_dtype;

typedef struct fct_run_desc {
    const fct_run_item *items;
    int64_t n_items;  /* they run as one batch */
    bool joint_noise; /* one draw for the whole batch from items[0].seed, as diffusers does with one
                         generator; false: every item its own generator */
    int64_t width, height; /* pixels, divisible by 8; 0: the model's */
    int64_t steps;         /* 0: the model's */
    double guidance;       /* <= 1: none; use has_guidance for an explicit 0 */
    bool has_guidance;
    const char *negative, *negative_2; /* negative NULL: the pipeline's force_zeros_for_empty_prompt
                                          decides; negative_2 NULL or "": negative */
    int64_t original_width, original_height, crop_left, crop_top, target_width,
        target_height; /* SDXL's size inputs; 0: the picture's */
    fct_noise_dtype noise_dtype;
    const fct_tap *taps;
    int64_t n_taps;
    bool no_decode; /* latents only */
    bool
        stop_after_taps; /* the last step that runs ends after the last tapped stage, and nothing is
                            decoded; the steps before it run whole, since it needs their latents */
    int64_t stop_step;   /* with stop_after_taps: the last step that runs; 0: the last one */
    /* Blocks ("up.0.1", "*") behind whose first delta the session keeps a moment, for edits that
       are still to come. NULL: only where the taps that edit begin. */
    const char *keep;
    const float *init_noise; /* [n_items, latent_channels, H, W] as torch lays it out; replaces the
                                drawn initial noise (before the scheduler's scale); NULL: drawn */
} fct_run_desc;

typedef struct fct_run_result {
    fct_tensor latents; /* f32 [B,C,h,w] as torch lays it out, before division by the scaling
                           factor; owned; not there if stopped early */
    uint8_t *pixels;    /* [B,height,width,3] RGB; owned; NULL with no_decode */
    int64_t n, width, height;
    char *warning; /* e.g. which prompt words were cut; NULL: none; owned */
} fct_run_result;

FCT_API void fct_run_result_clear(fct_run_result *r);

/* Token ids of one encoder (0 or 1) for a prompt, padded to the encoder's length. out_cut (may
   be NULL): text that did not fit, NULL when all did. Release both with fct_free. */
FCT_API fct_status fct_model_tokenize(const fct_model *m, int encoder, const char *prompt,
                                      int32_t **out, int64_t *out_n, char **out_cut) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

/* facet/session.h - runs a loaded model: settings, taps that watch and edit its blocks, and
   sessions, each of which is one caller's runs.

   Do this:
       fct_model *model = NULL;
       fct_session *session = NULL;
       fct_run_result result = {0};
       fct_run_item item = {.prompt = "two blue stars", .seed = 7};
       fct_settings settings = {.steps = 2, .guidance = 2};
       fct_run_desc run = {.items = &item, .n_items = 1, .settings = &settings};
       fct_status st = fct_model_open(&model, &(fct_model_desc){.path = "models/demo"});
       if (st == FCT_OK) st = fct_session_open(&session, model, NULL);
       if (st == FCT_OK) st = fct_session_run(session, &run, &result);
       if (st == FCT_OK) // result.pixels [height,width,3]
           printf("%lld x %lld\n", (long long)result.width, (long long)result.height);
       fct_run_result_clear(&result);
       fct_session_close(session);
       fct_model_close(model);

   Do this to watch what a block adds to its input:
       static fct_status watch(void *user, const fct_tap_event *event, fct_tensor *value)
       {
           float *row;
           int64_t n, *seen = user;
           fct_status st = fct_tap_rows(&row, &n, event, value, -1, FCT_HALF_DEFAULT);
           if (st != FCT_OK) return st; // else row [n,C] of this step, C = value->dim[3]
           *seen += n;
           return FCT_OK;
       }

       fct_model *model = NULL;
       fct_session *session = NULL;
       fct_run_result result = {0};
       int64_t seen = 0;
       fct_tap tap = {.module = "up.0.1", .what = FCT_TAP_DELTA, .user = &seen, .fn = watch};
       fct_run_item item = {.prompt = "two blue stars", .seed = 7};
       fct_run_desc run = {
           .items = &item, .n_items = 1, .taps = &tap, .n_taps = 1, .stop_after_taps = true};
       fct_status st = fct_model_open(&model, &(fct_model_desc){.path = "models/demo"});
       if (st == FCT_OK) st = fct_session_open(&session, model, NULL);
       if (st == FCT_OK) st = fct_session_run(session, &run, &result);
       printf("%lld rows\n", (long long)seen);
       fct_run_result_clear(&result);
       fct_session_close(session);
       fct_model_close(model);

   A model is what was loaded and is shared by any number of sessions; a session is used by one
   thread at a time. It keeps its memory between runs, the texts that it has encoded, and moments of
   edited runs: whoever asks for the same run with another edit pays only for what follows the first
   block that the difference touches, and gets the same bytes as from the whole run. */
#ifndef FACET_SESSION_H
#define FACET_SESSION_H

#include "facet/model.h"
#include "facet/option.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- settings ---- */

/* In which numbers the noise is drawn: torch's differ by type for the same seed. */
typedef enum fct_noise_dtype { FCT_NOISE_F32, FCT_NOISE_F16, FCT_NOISE_BF16 } fct_noise_dtype;

/* What a run is told beside its prompts. 0 and NULL are the defaults, most of them the model's;
   FCT_NONE is an explicit 0. Recipes, captures and searches hold the same struct. */
typedef struct fct_settings {
    /* Item i of a run has this plus the item's own; prompt i, from 0, of a capture or a search this
       plus i, unless the prompt has one of its own. */
    uint64_t seed;
    /* One draw for the whole batch from the first item's seed, as diffusers does with one
       generator; false: every item its own generator. */
    bool joint_noise;
    /* What guidance leads away from. NULL: the pipeline's force_zeros_for_empty_prompt decides;
       "": an encoded empty prompt. negative_2, for the second encoder: NULL or "": negative. */
    const char *negative, *negative_2;
    int64_t width, height; /* pixels, divisible by 8; 0: the model's */
    int64_t steps;         /* of denoising; 0: the model's */
    double guidance;       /* classifier-free; up to 1 and FCT_NONE: none; 0: the model's */
    fct_noise_dtype noise_dtype;
    /* SDXL's size inputs, in pixels; 0: the picture's size, and no crop. */
    int64_t original_width, original_height, crop_left, crop_top, target_width, target_height;
} fct_settings;

/* The rows that describe the struct's fields (facet/option.h), in the order in which recipes have
   them. */
FCT_API const fct_option *fct_settings_table(void);
/* in (NULL: all defaults) with the model's defaults in place of zeros. Guidance 0 stays FCT_NONE,
   so that resolving again changes nothing. out's texts are in's, not copies; out may be in. */
FCT_API void fct_settings_resolve(fct_settings *out, const fct_settings *in,
                                  const fct_model_info *info);
/* Of resolved settings: whether the batch has an unconditional half too. */
FCT_API bool fct_settings_guided(const fct_settings *resolved);
/* The guidance as people and files read it: 0, not FCT_NONE. */
FCT_API double fct_settings_guidance(const fct_settings *s);
/* Whether the model can make pictures of that size, from noise of that type; else FCT_ERR_ARG
   says what it wants. Runs ask it themselves. */
FCT_API fct_status fct_settings_check(const fct_settings *resolved,
                                      const fct_model_info *info) FCT_MUST_CHECK;
/* A copy (in NULL: of all defaults) that owns its texts: release them with fct_settings_clear. */
FCT_API fct_status fct_settings_copy(fct_settings *out, const fct_settings *in) FCT_MUST_CHECK;
FCT_API void fct_settings_clear(fct_settings *s);

/* ---- taps: watch or edit any named module of the U-Net ---- */

/* DELTA of a transformer block is the f32 result of its proj_out, before the residual is added; of
   other modules output minus input, which is refused where the shapes differ or the tap edits. IN
   and OUT are what a module reads and what it hands on. */
typedef enum fct_tap_what { FCT_TAP_DELTA, FCT_TAP_IN, FCT_TAP_OUT } fct_tap_what;

/* The halves of guidance: with the prompt, without it. A run without guidance has cond alone.
   DEFAULT is the usual one where a half is asked for. */
typedef enum fct_half { FCT_HALF_DEFAULT, FCT_HALF_COND, FCT_HALF_UNCOND, FCT_HALF_BOTH } fct_half;
/* "default", "cond", "uncond", "both". */
FCT_API const char *fct_half_name(fct_half half);

/* What a tap is told of a value; valid during the call. */
typedef struct fct_tap_event {
    const char *name;            /* of the module, as diffusers has it in full */
    const fct_block_info *block; /* when the module is a transformer block, else NULL */
    fct_tap_what what;
    int64_t step, steps; /* which of how many, from 1 */
    int64_t first_item;  /* number of the batch's first item in the run */
    int64_t items;       /* of this batch */
    bool guided;         /* the batch has an uncond half too: see fct_tap_rows */
    /* facet's own: where the value's memory is; NULL: the host's. */
    struct fct_tap_memory *memory;
} fct_tap_event;

/* value: f32, [B,H,W,C] for maps, [B,T,C] for token modules, [B,C] for vectors, in the memory of
   what computes: fct_tap_rows gives its rows to the host. They may be changed there when the tap
   says `edits` (for DELTA: block output = block input + value). Called on the thread that runs; a
   failure (fct_error_set) ends the run with it. */
typedef fct_status (*fct_tap_fn)(void *user, const fct_tap_event *event, fct_tensor *value);

typedef struct fct_tap {
    /* Full name, short name of a block, or glob; none that fits is FCT_ERR_MISSING. Modules with
       weights and the blocks made of them have names; activations, dropouts and lists do not. */
    const char *module;
    fct_tap_what what;
    bool edits;                    /* fn may change the value */
    int64_t first_step, last_step; /* in which it is called, both included; 0, 0: all */
    /* With `edits`: a text that tells all that the tap does to a value, so that equal keys mean
       equal results on equal input. The session then keeps moments and resumes from them. NULL: not
       known, and runs with this tap run whole. */
    const char *key;
    void *user; /* for fn */
    fct_tap_fn fn;
} fct_tap;

/* Of an event's value the rows of one item (its number in the run; -1: of all in the batch, item
   by item) and half (DEFAULT: cond): *out points to *out_n rows in the host's memory, [n,C],
   which are there until the tap returns and may be changed where the value may. Where the value
   lies in a device's own memory they are a copy, made once for all calls; what an editing tap
   changes in it is written back when the tap returns. What is not in this batch gives 0 rows and
   NULL. BOTH goes with all items only: every row of the batch, in which the halves lie one after
   the other. */
FCT_API fct_status fct_tap_rows(float **out, int64_t *out_n, const fct_tap_event *event,
                                const fct_tensor *value, int64_t item,
                                fct_half half) FCT_MUST_CHECK;

/* ---- runs ---- */

/* One picture of a run. */
typedef struct fct_run_item {
    const char *prompt;   /* NULL is "" */
    const char *prompt_2; /* for the second encoder; NULL or "": prompt */
    uint64_t seed;        /* added to the settings' */
} fct_run_item;

/* What a run is to do; nothing of it is kept after the call. Bytes are equal for equal batches:
   the same items in another batch round differently. */
typedef struct fct_run_desc {
    const fct_run_item *items; /* [n_items]: they run as one batch */
    int64_t n_items;
    const fct_settings *settings; /* NULL: all the model's */
    const fct_tap *taps;          /* [n_taps]: called in this order */
    int64_t n_taps;
    bool no_decode; /* latents alone */
    /* The last step that runs ends after the last tapped stage, and nothing is decoded; the steps
       before it run whole, since it needs their latents. */
    bool stop_after_taps;
    int64_t stop_step; /* with stop_after_taps: the last step that runs; 0: the last one */
    /* Blocks ("up.0.1", "*") behind whose first delta the session keeps a moment, for edits that
       are still to come. NULL: only where the taps that edit begin. */
    const char *keep;
    /* f32 [n_items,latent_channels,h,w] as torch lays it out, in place of the drawn initial noise
       (before the scheduler's scale); NULL: it is drawn. */
    const float *init_noise;
} fct_run_desc;

/* What came of it. All is owned: fct_run_result_clear. */
typedef struct fct_run_result {
    /* f32 [n,latent_channels,h,w] as torch lays them out, before division by the scaling factor;
       without data when the run stopped after its taps. */
    fct_tensor latents;
    uint8_t *pixels; /* [n,height,width,3] RGB; NULL with no_decode */
    int64_t n, width, height;
    char *warning; /* such as which words of a prompt were cut; NULL: none */
} fct_run_result;
FCT_API void fct_run_result_clear(fct_run_result *r);

/* ---- sessions ---- */
typedef struct fct_session fct_session;

typedef struct fct_session_desc {
    /* Of its parallel regions; 0: as many as OpenMP gives the thread that opens it. Results are the
       same for the same number. */
    int threads;
    /* Bytes of encoded texts and kept moments at most; 0: 512 MiB; FCT_NONE: nothing is kept. */
    int64_t keep_bytes;
    /* Must outlive the session; NULL: silent. Called on the thread that runs. */
    const fct_log *log;
} fct_session_desc;

/* m must outlive the session. desc NULL: all defaults. */
FCT_API fct_status fct_session_open(fct_session **out, const fct_model *m,
                                    const fct_session_desc *desc) FCT_MUST_CHECK;
/* NULL is fine. */
FCT_API void fct_session_close(fct_session *s);
FCT_API const fct_model *fct_session_model(const fct_session *s);
/* Its number of threads; and a hash, as hex digits, of what decides which algorithms run: version,
   instruction set, number type and that number. Equal plans give equal bytes; recipes and stores
   carry both. */
FCT_API int fct_session_threads(const fct_session *s);
FCT_API const char *fct_session_plan(const fct_session *s);

/* One run. *out need not be initialised; release it with fct_run_result_clear. FCT_ERR_ARG: desc is
   NULL or has no items; FCT_ERR_RANGE: a stage gave NaN or infinity, and is named; FCT_ERR_STOPPED:
   the log's stop flag was raised. */
FCT_API fct_status fct_session_run(fct_session *s, const fct_run_desc *desc,
                                   fct_run_result *out) FCT_MUST_CHECK;
/* The exact peak of memory for activations of such a run, in bytes, from a dry pass. */
FCT_API fct_status fct_session_peak(fct_session *s, const fct_run_desc *desc,
                                    int64_t *out_bytes) FCT_MUST_CHECK;

/* Decoder and encoder alone, from and into the caller's memory. latents f32 [n,C,h,w] as in
   fct_run_result; pixels [n,h*f,w*f,3] RGB, with the model's vae_factor f, of which width and
   height are multiples (else FCT_ERR_SHAPE). Encoding gives the distribution's mean times the
   scaling factor. A model opened with no_vae is refused. */
FCT_API fct_status fct_session_decode(fct_session *s, const fct_tensor *latents,
                                      uint8_t *pixels) FCT_MUST_CHECK;
FCT_API fct_status fct_session_encode(fct_session *s, const uint8_t *pixels, int64_t n,
                                      int64_t width, int64_t height, float *latents) FCT_MUST_CHECK;

/* What a session has done since it was opened, and what it holds. */
typedef struct fct_session_counts {
    int64_t runs, resumed; /* runs, and those of them that began at a kept moment */
    int64_t texts;         /* texts that the encoders read */
    int64_t stages;        /* stages of the U-Net that ran */
    int64_t kept_bytes, arena_bytes;
} fct_session_counts;
FCT_API void fct_session_count(const fct_session *s, fct_session_counts *out);
/* Releases what was kept of earlier runs: the next ones run whole. */
FCT_API void fct_session_forget(fct_session *s);

#ifdef __cplusplus
}
#endif
#endif

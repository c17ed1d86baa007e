/* facet/session.h - sessions: one caller's runs of a loaded model.

   Do this:
       fct_model *m = NULL;
       fct_session *s = NULL;
       fct_run_result r = {0};
       fct_model_open(&m, &(fct_model_desc){.path = "models/demo"});
       fct_session_open(&s, m, NULL);
       fct_run_item item = {.prompt = "two blue stars"};
       fct_session_run(s, &(fct_run_desc){.items = &item, .n_items = 1}, &r);
       // r.pixels, r.width, r.height
       fct_run_result_clear(&r);
       fct_session_close(s);
       fct_model_close(m);

   A model is what was loaded and is shared by any number of sessions; a session is used by one
   thread at a time. It keeps its memory between runs, the texts that it has encoded, and moments of
   edited runs: whoever asks for the same run with another edit pays only for what follows the first
   block that the difference touches, and gets the same bytes as from the whole run. */
#ifndef FACET_SESSION_H
#define FACET_SESSION_H

#include "facet/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fct_session fct_session;

typedef struct fct_session_desc {
    /* of its parallel regions; 0: as many as OpenMP gives the thread that opens it. Results are the
       same for the same number */
    int threads;
    /* bytes of encoded texts and kept moments at most; 0: 512 MiB; FCT_NONE: nothing is kept */
    int64_t keep_bytes;
    /* must outlive the session; NULL: silent. Called on the thread that runs */
    const fct_log *log;
} fct_session_desc;

/* m must outlive the session. desc NULL: all defaults. */
FCT_API fct_status fct_session_open(fct_session **out, const fct_model *m,
                                    const fct_session_desc *desc) FCT_MUST_CHECK;
/* NULL is fine. */
FCT_API void fct_session_close(fct_session *s);
FCT_API const fct_model *fct_session_model(const fct_session *s);

/* One run; out is cleared by the caller with fct_run_result_clear, and empty after a failure. */
FCT_API fct_status fct_session_run(fct_session *s, const fct_run_desc *desc,
                                   fct_run_result *out) FCT_MUST_CHECK;
/* The exact peak of memory for activations of such a run, from a dry pass. */
FCT_API fct_status fct_session_peak(fct_session *s, const fct_run_desc *desc,
                                    int64_t *out_bytes) FCT_MUST_CHECK;

/* Decoder and encoder alone. latents f32 [n,C,h,w] as in fct_run_result; pixels [n,height,width,3]
   RGB. Encoding gives the distribution's mean times the scaling factor; width and height are
   multiples of the model's vae_factor. The caller's memory. */
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

/* run.h - declares a session and one run of it: what is fixed before a run computes (prepare.c),
   what its pass through the model works on (run.c), and what a session keeps between runs (kept.c,
   conditioning.c, moment.c). A pass is made twice with the same code: dry, to learn the exact
   memory, then for real. */
#ifndef FCT_MODEL_RUN_H
#define FCT_MODEL_RUN_H

#include "facet/session.h"
#include "model/model.h"

/* ---- what a session keeps (kept.c): found by a hash of all that it follows from ---- */
typedef struct fct_kept_value fct_kept_value;
struct fct_kept_value {
    /* releases what the value holds, not the value itself */
    void (*clear)(fct_kept_value *value);
};
typedef struct fct_kept_entry {
    char key[65];
    int64_t bytes, used;
    fct_kept_value *value;
} fct_kept_entry;
typedef struct fct_kept {
    fct_kept_entry *entry;
    int64_t n, bytes, budget, clock;
} fct_kept;
/* NULL: it is not kept. */
fct_kept_value *fct_kept_find(fct_kept *k, const char *key);
bool fct_kept_fits(const fct_kept *k, int64_t bytes);
/* Takes a heap-allocated value over when it succeeds; older ones make room. */
fct_status fct_kept_put(fct_kept *k, const char *key, fct_kept_value *value,
                        int64_t bytes) FCT_MUST_CHECK;
void fct_kept_clear(fct_kept *k);

/* ---- the session (session.c) ---- */
struct fct_session {
    const fct_model *m;
    const fct_log *log;
    int threads;
    char plan[65];
    fct_cx cx; /* its plans are kept from run to run */
    fct_arena arena;
    fct_kept texts, moments;
    fct_session_counts counts;
    fct_clock clock;     /* of the stages of runs */
    double pass_seconds; /* of the last run, its dry pass apart */
};

/* Parallel regions of this thread have the session's number of threads until it is left. */
int fct_session_enter(const fct_session *s);
void fct_session_leave(const fct_session *s, int before);

/* ---- texts that were encoded (conditioning.c) ---- */
typedef struct fct_texts_kept {
    fct_kept_value head;
    fct_tensor states; /* [n_texts,T,C] of both encoders side by side, in host memory */
    fct_tensor pooled; /* f32 [n_texts,P], there too */
} fct_texts_kept;

/* ---- moments (moment.c) ---- */

/* A run just behind a watched block's proj_out: its delta is known, no tap of it has fired yet, and
   what came before it is not needed again. */
typedef struct fct_moment {
    fct_kept_value head;
    char run[65]; /* the key of the run without its edits */
    int64_t step, stage;
    float *latents, *emb, *added;
    int64_t n_latents, n_emb, n_added;
    fct_rng *rng;
    int64_t n_rng;
    fct_tensor text;  /* [rows,T,C] */
    fct_tensor x;     /* the block's input: what is added to the delta */
    fct_tensor delta; /* f32 [rows,h,w,C] */
    fct_tensor skip[FCT_MAX_SKIPS];
    int n_skips;
    bool x_is_skip; /* x is the newest skip */
} fct_moment;

typedef struct fct_place { /* where a moment is to be kept */
    int64_t step, stage;
} fct_place;

/* ---- one run ---- */
typedef struct fct_work {
    fct_session *s;
    const fct_model *m;
    const fct_run_desc *d;
    /* fixed by fct_work_init */
    /* items, rows of the batch (twice as many under guidance), latents */
    int64_t n, rows, h, w, channels;
    int64_t first_step, last_step; /* 1-based, inclusive */
    fct_settings settings;         /* resolved */
    bool guided, zeros;            /* zeros: the uncond half's text is zero */
    fct_sampler sampler;
    fct_taps taps;
    char key[65];      /* of all that the run follows from, its taps apart */
    char text_key[65]; /* of the texts alone */
    int32_t *ids[2];   /* [n_texts, tokens] of each encoder: every different text once */
    int64_t n_texts, tokens;
    int64_t *text_of; /* [rows]: which text; -1: zeros */
    fct_str warning;
    const fct_texts_kept *texts; /* kept from another run; NULL: to be encoded */
    const fct_moment *resume;    /* where the run begins; NULL: at its beginning */
    fct_place *keep;             /* moments that are wanted on the way */
    int64_t n_keep;
    /* the pass */
    fct_rt rt;
    fct_arena *arena;
    fct_rng *rng;
    int64_t n_rng;
    float *latents, *output, *noise; /* [n,C,h,w], in host memory: the sampler's */
    float *added;                    /* [rows, add_in], in the device's */
    fct_flow flow;
} fct_work;

/* Item i's own seed and the settings' (prepare.c). */
uint64_t fct_run_seed(const fct_run_desc *d, int64_t i);
fct_status fct_work_init(fct_work *w, fct_session *s, const fct_run_desc *d) FCT_MUST_CHECK;
void fct_work_clear(fct_work *w);
/* Runs it twice, dry and for real (run.c); out is the caller's to clear, also after a failure. */
fct_status fct_work_run(fct_work *w, fct_run_result *out) FCT_MUST_CHECK;
fct_status fct_work_peak(fct_work *w, int64_t *out_bytes) FCT_MUST_CHECK;
/* Empties the session's arena and makes it hold at least so many bytes. */
fct_status fct_session_reserve(fct_session *s, int64_t bytes) FCT_MUST_CHECK;
/* Text states and added conditions (conditioning.c). */
fct_status fct_work_encode(fct_work *w) FCT_MUST_CHECK;

/* Which kept moment the run may start from, and which moments it should keep (moment.c). */
fct_status fct_moments_plan(fct_work *w) FCT_MUST_CHECK;
/* Keeps this moment if it is a wanted one. x, delta: as in fct_moment. */
fct_status fct_moment_keep(fct_work *w, int64_t stage, const fct_tensor *x,
                           const fct_tensor *delta) FCT_MUST_CHECK;
/* Puts the moment that the run starts from into the pass: conditions and sample, then the skips and
   the map. Both also run dry. */
fct_status fct_moment_restore(fct_work *w) FCT_MUST_CHECK;
fct_status fct_moment_restore_flow(fct_work *w) FCT_MUST_CHECK;

#endif

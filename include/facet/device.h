/* facet/device.h - tells what computes on this machine, where a run's time goes, and which
   algorithms a session runs: what `facet doctor` shows and a benchmark measures.

   Do this:
       fct_machine machine;
       fct_backend_info backend;
       fct_status st = FCT_OK;
       fct_machine_describe(&machine);
       printf("%lld cores, %.1f GB of memory\n", (long long)machine.cores,
              (double)machine.memory_bytes / 1e9);
       for (int64_t i = 0; i < fct_backend_count() && st == FCT_OK; i++) {
           st = fct_backend_describe(&backend, i);
           if (st == FCT_OK) printf("%s: %s\n", backend.name, backend.about);
       }

   All functions may be called on any thread; those that take a session, on the one that uses it. */
#ifndef FACET_DEVICE_H
#define FACET_DEVICE_H

#include "facet/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* of facet/session.h */
struct fct_session;
struct fct_run_desc;
struct fct_run_result;

/* ---- what there is ---- */
typedef struct fct_machine {
    int64_t cores, memory_bytes;
    int64_t threads; /* of a session of this thread that does not ask for a number */
} fct_machine;
FCT_API void fct_machine_describe(fct_machine *out);

typedef struct fct_backend_info {
    const char *name; /* "cpu", "ref": for fct_model_desc; never released */
    char about[240];  /* "oneDNN 2.6.3, AVX512-BF16, AMX; 2 threads" */
    bool fast_bf16;   /* FCT_PRECISION_AUTO means bf16 here */
} fct_backend_info;
/* Backends have numbers from 0, the default one first.
   FCT_ERR_ARG: there is none of that number. */
FCT_API int64_t fct_backend_count(void);
FCT_API fct_status fct_backend_describe(fct_backend_info *out, int64_t number) FCT_MUST_CHECK;

/* ---- where time goes ---- */
typedef struct fct_stage_time {
    const char *name; /* "text encoders", or a stage as diffusers names it; lives with the model */
    int64_t calls;    /* how often it ran: once a step */
    double seconds;   /* of all calls */
} fct_stage_time;
typedef struct fct_times {
    fct_stage_time *stage; /* in the order in which they first ran; owned */
    int64_t n;
    double seconds; /* of the whole run: with noise, sampler and taps, but not its dry pass */
} fct_times;
/* Runs desc as fct_session_run does, with a clock at every stage, and gives its times; result (may
   be NULL) as there. Kept texts and moments count: a run that finds them shows fewer stages
   (fct_session_forget makes it whole). Release with fct_times_clear, also after a failure. */
FCT_API fct_status fct_session_time(struct fct_session *s, const struct fct_run_desc *desc,
                                    fct_times *out, struct fct_run_result *result) FCT_MUST_CHECK;
FCT_API void fct_times_clear(fct_times *t);

/* ---- which algorithms run ---- */

/* A primitive that a session has made: one for every shape that it met. Sizes that a kind does not
   have are 0. */
typedef struct fct_plan_row {
    const char *kind; /* "product": [batch,m,k] by [n,k]; "convolution": k to n channels */
    fct_dtype dtype;  /* of what is multiplied */
    int64_t batch, m, n, k;
    int64_t in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride;
    int64_t threads;
    char implementation[48]; /* the library's name for it: "brgconv:avx512_core_bf16" */
    bool slow;               /* the library has only its reference loops for this shape */
} fct_plan_row;
/* The plans that a session keeps, in no order. *out [*out_n]: release with fct_free. Backends that
   plan nothing give none. */
FCT_API fct_status fct_session_plans(const struct fct_session *s, fct_plan_row **out,
                                     int64_t *out_n) FCT_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

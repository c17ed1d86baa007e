/* sampler.h - declares the sampler: the timesteps and noise levels of a run, the update of the
   sample after each evaluation of the U-Net, and the noise itself. */
#ifndef FCT_MODEL_SAMPLER_SAMPLER_H
#define FCT_MODEL_SAMPLER_SAMPLER_H

#include "facet/session.h"
#include "model/load/load.h"

typedef struct fct_sampler { /* for one number of steps */
    int64_t n;
    float *timestep, *sigma; /* [n], [n+1] */
    float init_sigma;        /* of the noise that the sample starts as: init_noise_sigma */
    bool ancestral, v_prediction;
} fct_sampler;
fct_status fct_sampler_init(fct_sampler *s, const fct_scheduler_config *c,
                            int64_t steps) FCT_MUST_CHECK;
void fct_sampler_clear(fct_sampler *s);
/* What the sample is divided by before the U-Net sees it (scale_model_input): sqrt(sigma² + 1).
   step from 0, as below. */
float fct_sampler_input_scale(const fct_sampler *s, int64_t step);
/* sample [n] in place, by the U-Net's output [n]; noise [n] is read when ancestral. */
void fct_sampler_step(const fct_sampler *s, int64_t step, float *sample, const float *output,
                      const float *noise, int64_t n);
/* n normals in torch's order for one randn call of the given dtype. */
void fct_noise_draw(fct_rng *r, float *out, int64_t n, fct_noise_dtype dtype);

#endif

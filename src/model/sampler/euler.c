/* euler.c - steps EulerAncestralDiscreteScheduler and EulerDiscreteScheduler as diffusers does, in
   the same number formats and order of operations, so that the same noise gives the same picture;
   and draws torch's noise for them. */
#include <math.h>
#include <string.h>

#include "model/sampler/sampler.h"

/* torch.linspace in f32 counts from both ends. */
static float linspace(double start, double end, int64_t n, int64_t i)
{
    float a = (float)start, b = (float)end;
    if (n == 1) return a;
    float step = (b - a) / (float)(n - 1);
    return i < n / 2 ? a + step * (float)i : b - step * (float)(n - 1 - i);
}

/* out [train_steps]: sqrt((1 - ā) / ā) for every training step, ā the running product of 1 - beta
   (alphas_cumprod). */
static void training_sigmas(float *out, const fct_scheduler_config *c)
{
    double product = 1;
    for (int64_t i = 0; i < c->train_steps; i++) {
        float beta = c->scaled_linear
                         ? linspace(sqrt(c->beta_start), sqrt(c->beta_end), c->train_steps, i)
                         : linspace(c->beta_start, c->beta_end, c->train_steps, i);
        if (c->scaled_linear) beta = beta * beta;
        product *= (double)(1.0f - beta);
        float kept = (float)product;
        out[i] = sqrtf((1.0f - kept) / kept);
    }
}

/* numpy's interp over 0..n-1 */
static float interpolate(const float *table, int64_t n, double at)
{
    if (at <= 0) return table[0];
    if (at >= (double)(n - 1)) return table[n - 1];
    int64_t i = (int64_t)at;
    double slope = (double)table[i + 1] - (double)table[i];
    return (float)(slope * (at - (double)i) + (double)table[i]);
}

/* How many timesteps diffusers' list has: np.arange may give one more than asked for. */
static int64_t count_trailing(int64_t train_steps, int64_t steps)
{
    double ratio = (double)train_steps / (double)steps;
    return (int64_t)ceil(-(double)train_steps / -ratio);
}

int64_t fct_model_count_steps(const fct_model_info *info, int64_t steps)
{
    if (steps <= 0) steps = info->default_steps;
    return info->trailing > 0 && steps > 0 ? count_trailing(info->trailing, steps) : steps;
}

/* Number i of the list that set_timesteps makes, by timestep_spacing. */
static float timestep(const fct_scheduler_config *c, int64_t steps, int64_t i)
{
    double n = (double)c->train_steps;
    if (c->spacing == FCT_SPACING_TRAILING) {
        double ratio = n / (double)steps, delta = (n - ratio) - n;
        return (float)rint(n + (double)i * delta) - 1.0f;
    }
    int64_t from_end = steps - 1 - i;
    if (c->spacing == FCT_SPACING_LEADING)
        return (float)(from_end * (c->train_steps / steps)) + (float)c->steps_offset;
    if (steps == 1) return 0;
    return from_end == steps - 1 ? (float)(n - 1)
                                 : (float)((double)from_end * ((n - 1) / (double)(steps - 1)));
}

fct_status fct_sampler_init(fct_sampler *s, const fct_scheduler_config *c, int64_t steps)
{
    *s = (fct_sampler){.ancestral = c->ancestral, .v_prediction = c->v_prediction};
    if (steps < 1 || steps > c->train_steps)
        return fct_fail(FCT_ERR_RANGE, "steps: want 1 to %lld, got %lld", (long long)c->train_steps,
                        (long long)steps);
    float *table = NULL;
    fct_status st = fct_new(&table, c->train_steps, sizeof *table);
    s->n = c->spacing == FCT_SPACING_TRAILING ? count_trailing(c->train_steps, steps) : steps;
    if (st == FCT_OK) st = fct_new(&s->timestep, s->n, sizeof *s->timestep);
    if (st == FCT_OK) st = fct_new(&s->sigma, s->n + 1, sizeof *s->sigma);
    if (st == FCT_OK) {
        training_sigmas(table, c);
        float most = 0;
        for (int64_t i = 0; i < s->n; i++) {
            s->timestep[i] = timestep(c, steps, i);
            s->sigma[i] = interpolate(table, c->train_steps, (double)s->timestep[i]);
            if (s->sigma[i] > most) most = s->sigma[i];
        }
        s->sigma[s->n] = c->last_sigma_min ? table[0] : 0;
        s->init_sigma = c->spacing == FCT_SPACING_LEADING ? sqrtf(most * most + 1) : most;
    }
    fct_free(table);
    if (st != FCT_OK) fct_sampler_clear(s);
    return st;
}

void fct_sampler_clear(fct_sampler *s)
{
    fct_free(s->timestep);
    fct_free(s->sigma);
    *s = (fct_sampler){0};
}

float fct_sampler_input_scale(const fct_sampler *s, int64_t step)
{
    float sigma = s->sigma[step];
    return sqrtf(sigma * sigma + 1);
}

/* step() of both schedulers, with x the sample, c the clean one as the U-Net has it, and s, s' the
   noise levels of this step and the next. Where the scheduler is not ancestral, up = 0, down = s'.

       c     epsilon: x - s·output        v: -s/sqrt(s² + 1)·output + x/(s² + 1)
       up    sqrt(s'²·(s² - s'²)/s²)
       down  sqrt(s'² - up²)
       x    += (x - c)/s·(down - s) + up·noise */
void fct_sampler_step(const fct_sampler *s, int64_t step, float *sample, const float *output,
                      const float *noise, int64_t n)
{
    float sigma = s->sigma[step], to = s->sigma[step + 1], up = 0, down = to;
    if (s->ancestral) {
        up = sqrtf(to * to * (sigma * sigma - to * to) / (sigma * sigma));
        down = sqrtf(to * to - up * up);
    }
    float dt = down - sigma, square = sigma * sigma + 1, c_out = -sigma / sqrtf(square);
    for (int64_t i = 0; i < n; i++) {
        float x = sample[i],
              clean = s->v_prediction ? output[i] * c_out + x / square : x - sigma * output[i];
        float slope = (x - clean) / sigma;
        x = x + slope * dt;
        if (s->ancestral) x = x + noise[i] * up;
        sample[i] = x;
    }
}

/* A draw in half precision is the f32 draw rounded, with one difference: where a count is not a
   multiple of sixteen, torch draws the whole blocks only and then the last sixteen values, while in
   f32 it first draws a word for every value. */
void fct_noise_draw(fct_rng *r, float *out, int64_t n, fct_noise_dtype dtype)
{
    enum { BLOCK = 16 };
    bool ragged = dtype != FCT_NOISE_F32 && n >= BLOCK && n % BLOCK != 0;
    fct_rng_normal(r, out, ragged ? n - n % BLOCK : n);
    if (ragged) fct_rng_normal(r, out + n - BLOCK, BLOCK);
    for (int64_t i = 0; i < n && dtype == FCT_NOISE_F16; i++)
        out[i] = fct_f16_to_f32(fct_f32_to_f16(out[i]));
    for (int64_t i = 0; i < n && dtype == FCT_NOISE_BF16; i++)
        out[i] = fct_bf16_to_f32(fct_f32_to_bf16(out[i]));
}

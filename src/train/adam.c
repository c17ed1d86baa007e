/* adam.c - moves the parameters of an SAE by their gradients, as torch's Adam does, and keeps the
   running mean of the weights. */
#include "train/adam.h"

static const double beta1 = 0.9, beta2 = 0.999;

fct_adam fct_adam_of(const fct_trainee *t)
{
    double lr = fct_train_plan_lr(&t->plan, t->now.step), n = (double)(t->now.step + 1);
    return (fct_adam){.rate = (float)(lr / (1 - pow(beta1, n))),
                      .root = (float)sqrt(1 - pow(beta2, n)),
                      .eps = (float)t->plan.eps,
                      .beta1 = (float)beta1,
                      .beta2 = (float)beta2,
                      .rest1 = (float)(1 - beta1),
                      .rest2 = (float)(1 - beta2)};
}

FCT_CLONES static void move_all(float *w, float *m, float *v, const float *g, int64_t n,
                                const fct_adam *a)
{
    const fct_adam c = *a;
    for (int64_t i = 0; i < n; i++) fct_adam_move(&w[i], &m[i], &v[i], g[i], &c);
}

void fct_adam_step(fct_trainee *t)
{
    const fct_adam a = fct_adam_of(t);
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t n;
        float *param = fct_trainee_param(t, w, &n);
        if (param) move_all(param, t->m[w], t->v[w], t->grad[w], n, &a);
    }
}

FCT_CLONES static void approach(float *y, const float *x, float by, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += by * (x[i] - y[i]);
}

/* average += (1 - decay)·(weights - average) after step n, decay = min(ema, (1 + n)/(10 + n)), as
   TensorFlow's ExponentialMovingAverage with num_updates. */
void fct_adam_average(fct_trainee *t)
{
    double n = (double)t->now.step, decay = (1 + n) / (10 + n);
    if (decay > t->plan.ema) decay = t->plan.ema;
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        const float *now = fct_trainee_param(t, w, &size);
        if (now) approach(t->average[w], now, t->now.step == 1 ? 1 : (float)(1 - decay), size);
    }
}

/* checker.c - runs the small network that reads a picture's factors, and tells its answers.

   Maps are [B,H,W,C] here and [B,C,H,W] where it was trained: only `flatten` can tell the
   difference, and undoes it. */
#include <math.h>
#include <string.h>

#include "eval/eval.h"

enum { CHUNK = 16 };

/* ---- running ---- */

/* [B,H,W,C] -> [B, C*H*W] with index (c*H + y)*W + x, as torch flattens. */
static void flatten(const fct_tensor *x, fct_tensor *y)
{
    int64_t pixels = x->dim[1] * x->dim[2], channels = x->dim[3];
    const float *from = x->data;
    float *to = y->data;
    if (!from || !to) return; /* a dry run */
    for (int64_t b = 0; b < x->dim[0]; b++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t p = 0; p < pixels; p++) *to++ = from[(b * pixels + p) * channels + c];
}

/* [B,H,W,C] -> [B,C], the largest over the map. */
static void global_max(const fct_tensor *x, fct_tensor *y)
{
    int64_t pixels = x->dim[1] * x->dim[2], channels = x->dim[3];
    const float *from = x->data;
    float *to = y->data;
    if (!from || !to) return; /* a dry run */
    for (int64_t b = 0; b < x->dim[0]; b++, to += channels, from += pixels * channels) {
        memcpy(to, from, (size_t)channels * sizeof *to);
        for (int64_t i = channels; i < pixels * channels; i++)
            if (from[i] > to[i % channels]) to[i % channels] = from[i];
    }
}

static fct_status run_layer(fct_reader *r, const fct_checker_layer *l, const fct_tensor *x,
                            fct_tensor *y)
{
    int64_t batch = x->dim[0], pixels, count;
    FCT_TRY(fct_mul_i64(&pixels, l->h, l->w));
    FCT_TRY(fct_mul_i64(&count, batch * pixels, l->c));
    *y = fct_tensor_of(NULL, FCT_F32, 4, (int64_t[]){batch, l->h, l->w, l->c});
    FCT_TRY(fct_arena_take(&r->arena, &y->data, count, sizeof(float)));
    switch (l->op) {
    case FCT_CHECKER_CONV:
        return fct_op_conv2d(&r->cx, &(fct_conv2d_args){.x = *x,
                                                        .y = *y,
                                                        .w = &l->weight,
                                                        .bias = l->bias,
                                                        .stride = l->stride,
                                                        .pad_top = l->padding,
                                                        .pad_left = l->padding,
                                                        .pad_bottom = l->padding,
                                                        .pad_right = l->padding});
    case FCT_CHECKER_GROUP_NORM:
        return fct_op_group_norm(&r->cx, &(fct_group_norm_args){.x = *x,
                                                                .y = *y,
                                                                .gamma = l->scale,
                                                                .beta = l->bias,
                                                                .groups = l->groups,
                                                                .eps = l->eps});
    case FCT_CHECKER_RELU:
        return fct_op_unary(&r->cx, &(fct_unary_args){.x = *x, .y = *y, .act = FCT_ACT_RELU});
    case FCT_CHECKER_LINEAR:
        return fct_op_linear(
            &r->cx, &(fct_linear_args){.x = *x, .y = *y, .w = &l->weight, .bias = l->bias});
    case FCT_CHECKER_FLATTEN: flatten(x, y); break;
    case FCT_CHECKER_MAX: global_max(x, y); break;
    case FCT_CHECKER_FROM:
    case FCT_CHECKER_COUNT: break;
    }
    return FCT_OK;
}

/* picture: floats [B,H,W,3] in the arena, or without data in a dry run. */
static fct_status run_layers(fct_reader *r, fct_tensor picture)
{
    const fct_checker *c = r->c;
    fct_tensor x = picture;
    for (int64_t i = 0; i < c->n_layers; i++) {
        const fct_checker_layer *l = &c->layer[i];
        fct_status st = FCT_OK;
        if (l->op == FCT_CHECKER_FROM)
            r->made[i] = r->made[l->source];
        else
            st = run_layer(r, l, &x, &r->made[i]);
        if (st != FCT_OK) return fct_where(st, "checker: layer %lld", (long long)i);
        x = r->made[i];
    }
    return FCT_OK;
}

/* The chains' ends, side by side. */
static void gather(const fct_reader *r, int64_t n, float *logits)
{
    const fct_checker *c = r->c;
    int64_t at = 0;
    for (int64_t i = 0; i < c->n_layers; i++) {
        const fct_checker_layer *l = &c->layer[i];
        const float *from = r->made[i].data;
        if (!l->ends) continue;
        for (int64_t b = 0; b < n; b++)
            memcpy(logits + b * c->outputs + at, from + b * l->c, (size_t)l->c * sizeof *logits);
        at += l->c;
    }
}

static fct_status run_chunk(fct_reader *r, const uint8_t *pixels, int64_t n, float *logits)
{
    const fct_checker *c = r->c;
    int64_t each = c->width * c->height * 3;
    fct_tensor x = fct_tensor_of(NULL, FCT_F32, 4, (int64_t[]){n, c->height, c->width, 3});
    float *to = NULL, step = (c->high - c->low) / 255.0f;
    FCT_TRY(fct_arena_take(&r->arena, &to, n * each, sizeof *to));
    for (int64_t i = 0; pixels && i < n * each; i++) to[i] = (float)pixels[i] * step + c->low;
    x.data = to;
    FCT_TRY(run_layers(r, x));
    if (logits) gather(r, n, logits);
    return FCT_OK;
}

/* The arena is as large as a dry run of a whole chunk says. */
fct_status fct_reader_open(fct_reader **out, const fct_checker *c)
{
    fct_status st = FCT_OK;
    fct_reader *r = NULL;
    *out = NULL;
    FCT_TRY(fct_new(&r, 1, sizeof *r));
    r->c = c;
    FCT_TRY_OUT(fct_new(&r->made, c->n_layers, sizeof *r->made));
    FCT_TRY_OUT(fct_cx_open(&r->cx, c->be, NULL));
    r->cx.arena = &r->arena;
    FCT_TRY_OUT(fct_arena_init(&r->arena, 0));
    FCT_TRY_OUT(run_chunk(r, NULL, CHUNK, NULL));
    int64_t peak = r->arena.peak;
    fct_arena_clear(&r->arena);
    FCT_TRY_OUT(fct_arena_init(&r->arena, peak));
    *out = r;
    r = NULL;
out:
    fct_reader_close(r);
    return st;
}

void fct_reader_close(fct_reader *r)
{
    if (!r) return;
    fct_cx_close(&r->cx);
    fct_arena_clear(&r->arena);
    fct_free(r->made);
    fct_free(r);
}

fct_status fct_reader_run(fct_reader *r, const uint8_t *pixels, int64_t n, int64_t width,
                          int64_t height, float *logits)
{
    const fct_checker *c = r->c;
    if (width != c->width || height != c->height)
        return fct_fail(FCT_ERR_SHAPE, "the checker reads pictures of %lldx%lld, not of %lldx%lld",
                        (long long)c->width, (long long)c->height, (long long)width,
                        (long long)height);
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t count = n - i < CHUNK ? n - i : CHUNK;
        fct_mark mark = fct_arena_mark(&r->arena);
        fct_status st =
            run_chunk(r, pixels + i * width * height * 3, count, logits + i * c->outputs);
        fct_arena_reset(&r->arena, mark);
        FCT_TRY(st);
    }
    return FCT_OK;
}

/* ---- answers ---- */

/* The largest logit's class, and its softmax probability. */
static int32_t pick(const float *logit, int64_t n, float *probability)
{
    int64_t best = 0;
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        if (logit[i] > logit[best]) best = i;
    for (int64_t i = 0; i < n; i++) sum += exp((double)logit[i] - (double)logit[best]);
    *probability = (float)(1 / sum);
    return (int32_t)best;
}

static void answer(const fct_checker *c, const float *logit, fct_reading *r)
{
    *r = (fct_reading){.readable = true};
    for (int64_t i = 0; i < c->n_heads; i++) {
        const fct_checker_head *h = &c->head[i];
        if (h->points) {
            r->value[i] = -1;
            for (int64_t j = 0; j < h->size; j++) r->point[j] = logit[h->offset + j];
        } else {
            r->value[i] = pick(logit + h->offset, h->size, &r->probability[i]);
        }
    }
    if (c->readable < 0) return;
    float p = r->probability[c->readable];
    r->unreadable = r->value[c->readable] == 1 ? p : 1 - p;
    r->readable = (double)r->unreadable <= c->unreadable_above;
}

fct_status fct_reader_read(fct_reader *r, const uint8_t *pixels, int64_t n, int64_t width,
                           int64_t height, fct_reading *out)
{
    float *logits = NULL;
    FCT_TRY(fct_new(&logits, n, r->c->outputs * (int64_t)sizeof *logits));
    fct_status st = fct_reader_run(r, pixels, n, width, height, logits);
    for (int64_t i = 0; st == FCT_OK && i < n; i++)
        answer(r->c, logits + i * r->c->outputs, &out[i]);
    fct_free(logits);
    return st;
}

/* plans.c - keeps the oneDNN primitives that one context has made: making one costs 0.1 to 7 ms,
   running the smallest some microseconds, and a model meets its weights at a few dozen to a few
   hundred shapes.

   A plan is found by shape, number of threads and the weight's layout, never by the weight
   itself: so weights of one shape share it, and no plan outlives a weight. Weights are only read
   here, hence any number of contexts, each on a thread of its own, may run with them. */
#include <stdio.h>
#include <string.h>

#include "compute/cpu/cpu.h"

/* The demo model at one size and batch meets 76 shapes. The least recently used one makes room. */
enum { MAX_PLANS = 1024, BUCKETS = 2048 };

typedef struct slot {
    dn_shape shape;
    dn_plan *plan; /* NULL: not in use */
    int64_t used;  /* when it was last asked for, in requests */
    int next;      /* of the same bucket: its number + 1; 0: none */
} slot;

struct fct_plans {
    dn *d; /* NULL until the first plan is made: contexts of SAEs make none */
    slot *slot;
    int n, cap;
    int bucket[BUCKETS]; /* the first slot's number + 1; 0: none */
    int64_t requests;
};

fct_status cpu_plans_new(fct_plans **out)
{
    return fct_new(out, 1, sizeof **out);
}

static void describe(fct_plan_row *out, const slot *k)
{
    const dn_shape *s = &k->shape;
    *out = (fct_plan_row){.kind = s->kind == DN_CONV ? "convolution" : "product",
                          .dtype = s->x,
                          .batch = s->batch,
                          .m = s->m,
                          .n = s->n,
                          .k = s->k,
                          .in_h = s->ih,
                          .in_w = s->iw,
                          .out_h = s->oh,
                          .out_w = s->ow,
                          .kernel_h = s->kh,
                          .kernel_w = s->kw,
                          .stride = s->stride,
                          .threads = s->threads,
                          .slow = dn_plan_is_slow(k->plan)};
    snprintf(out->implementation, sizeof out->implementation, "%s", dn_plan_impl(k->plan));
}

int64_t cpu_plans_list(const fct_plans *p, fct_plan_row *out, int64_t room)
{
    int64_t n = 0;
    for (int i = 0; i < p->n; i++) {
        if (!p->slot[i].plan) continue;
        if (n < room) describe(&out[n], &p->slot[i]);
        n++;
    }
    return n;
}

void cpu_plans_free(fct_plans *p)
{
    if (!p) return;
    for (int i = 0; i < p->n; i++) dn_plan_free(p->slot[i].plan);
    fct_free(p->slot);
    dn_close(p->d);
    fct_free(p);
}

/* FNV-1a over words: shapes are whole numbers without padding between them. */
static int *bucket_of(fct_plans *p, const dn_shape *s)
{
    uint64_t word[sizeof *s / sizeof(uint64_t)], h = 1469598103934665603u;
    _Static_assert(sizeof *s % sizeof(uint64_t) == 0, "a shape is whole words");
    memcpy(word, s, sizeof word);
    for (size_t i = 0; i < FCT_COUNT(word); i++) h = (h ^ word[i]) * 1099511628211u;
    return &p->bucket[(h ^ h >> 32) % BUCKETS];
}

static void unlink_slot(fct_plans *p, int i)
{
    int *at = bucket_of(p, &p->slot[i].shape);
    while (*at != i + 1) at = &p->slot[*at - 1].next;
    *at = p->slot[i].next;
}

/* The number of a slot without a plan. */
static fct_status free_slot(fct_plans *p, int *out)
{
    if (p->n == p->cap && p->n < MAX_PLANS) {
        int cap = p->cap ? 2 * p->cap : 64;
        FCT_TRY(fct_grow(&p->slot, p->cap, cap, sizeof *p->slot));
        p->cap = cap;
    }
    if (p->n < p->cap) {
        *out = p->n++;
        return FCT_OK;
    }
    int oldest = 0;
    for (int i = 1; i < p->n; i++)
        if (p->slot[i].used < p->slot[oldest].used) oldest = i;
    if (p->slot[oldest].plan) unlink_slot(p, oldest);
    dn_plan_free(p->slot[oldest].plan);
    p->slot[oldest] = (slot){0};
    *out = oldest;
    return FCT_OK;
}

static fct_status add_plan(dn_plan **out, fct_cx *cx, const dn_shape *s, const dn_packed *packed)
{
    fct_plans *p = cx->plans;
    int i;
    if (!p->d) FCT_TRY(dn_open(&p->d));
    FCT_TRY(free_slot(p, &i));
    FCT_TRY(dn_plan_new(out, p->d, s, packed)); /* a slot that stays empty is used next time */
    if (dn_plan_is_slow(*out))
        fct_log_line(cx->log, FCT_LOG_DEBUG,
                     "oneDNN has only its reference loops for a %s of %lldx%lld weights",
                     s->kind == DN_CONV ? "convolution" : "product", (long long)s->n,
                     (long long)s->k);
    int *bucket = bucket_of(p, s);
    p->slot[i] = (slot){.shape = *s, .plan = *out, .used = p->requests, .next = *bucket};
    *bucket = i + 1;
    return FCT_OK;
}

static fct_status find_plan(dn_plan **out, fct_cx *cx, const dn_packed *packed,
                            const dn_shape *want)
{
    fct_plans *p = cx->plans;
    dn_shape s = *want;
    s.threads = fct_threads(); /* a primitive is made for a number of threads */
    p->requests++;
    for (int i = *bucket_of(p, &s); i; i = p->slot[i - 1].next) {
        slot *k = &p->slot[i - 1];
        if (memcmp(&k->shape, &s, sizeof s) != 0 || !dn_plan_fits(k->plan, packed)) continue;
        k->used = p->requests;
        *out = k->plan;
        return FCT_OK;
    }
    return add_plan(out, cx, &s, packed);
}

static fct_status run(fct_cx *cx, dn_packed *packed, const dn_shape *s, const dn_io *io)
{
    dn_plan *plan;
    if (!cx->plans) return fct_fail(FCT_ERR_ARG, "the context is not open");
    FCT_TRY(find_plan(&plan, cx, packed, s));
    FCT_TRY(dn_plan_ready(plan, packed));
    fct_mark mark = fct_arena_mark(cx->arena);
    dn_io full = *io;
    full.w = packed;
    FCT_TRY(fct_arena_take(cx->arena, &full.scratch, dn_plan_scratch(plan), 1));
    fct_status st = fct_arena_dry(cx->arena) ? FCT_OK : dn_plan_run(plan, cx->plans->d, &full);
    fct_arena_reset(cx->arena, mark);
    return st;
}

fct_status cpu_weight_run(fct_cx *cx, const fct_weight *w, const dn_shape *s, const dn_io *io)
{
    return run(cx, ((const cpu_weight *)w->impl)->packed, s, io);
}

fct_status cpu_winograd_product(fct_cx *cx, const fct_weight *w, const dn_shape *s,
                                const dn_io *io)
{
    return run(cx, ((const cpu_weight *)w->impl)->winograd, s, io);
}

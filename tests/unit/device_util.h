/* device_util.h - a device whose memory nobody can touch but operations and copies: `ref` on pages
   that are unreadable at all other times. What holds on it holds on a device of its own memory,
   without having one.

   Every operation's arguments are looked at first: a tensor that lies in host memory is refused, as
   such a device could not read it. Fresh memory is NaN. One thread at a time. */
#ifndef FCT_TEST_DEVICE_UTIL_H
#define FCT_TEST_DEVICE_UTIL_H

#include <string.h>
#include <sys/mman.h>

#include "compute/ref/ref.h"

enum { CLOSED_ROOM = 1 << 28, CLOSED_BLOCKS = 8192 };

typedef struct closed_block {
    int64_t at, bytes;
    bool taken;
} closed_block;

/* The device's memory: a range of pages, opened as a whole. */
static struct {
    uint8_t *base;
    closed_block block[CLOSED_BLOCKS]; /* by place; together they are the range up to `end` */
    int n;
    int64_t end, operations, taken;
} closed;

static inline void closed_protect(int how)
{
    if (closed.end > 0 && mprotect(closed.base, (size_t)closed.end, how) != 0)
        abort(); /* no test can go on */
}

/* ---- taking and releasing ---- */

static inline fct_status closed_new_block(int64_t bytes, int *out)
{
    if (!closed.base) {
        void *p = mmap(NULL, CLOSED_ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
        if (p == MAP_FAILED) return fct_fail(FCT_ERR_MEMORY, "closed device: no pages");
        closed.base = p;
    }
    for (int i = 0; i < closed.n; i++)
        if (!closed.block[i].taken && closed.block[i].bytes >= bytes) {
            *out = i;
            return FCT_OK;
        }
    if (closed.n == CLOSED_BLOCKS || closed.end + bytes > CLOSED_ROOM)
        return fct_fail(FCT_ERR_MEMORY, "closed device: no room");
    closed.block[closed.n] = (closed_block){.at = closed.end, .bytes = bytes};
    closed.end += bytes;
    *out = closed.n++;
    return FCT_OK;
}

static inline fct_status closed_take(void *out_ptr, int64_t bytes)
{
    int i;
    FCT_TRY(closed_new_block((bytes + 4095) / 4096 * 4096 + 4096, &i));
    closed_block *b = &closed.block[i];
    uint8_t *p = closed.base + b->at;
    b->taken = true;
    closed.taken++;
    closed_protect(PROT_READ | PROT_WRITE);
    memset(p, 0xff, (size_t)b->bytes);
    closed_protect(PROT_NONE);
    memcpy(out_ptr, &p, sizeof p);
    return FCT_OK;
}

static inline void closed_release(void *p)
{
    for (int i = 0; i < closed.n; i++)
        if (closed.base + closed.block[i].at == (uint8_t *)p) closed.block[i].taken = false;
    closed.taken--;
}

/* ---- copies ---- */

static inline bool closed_has(const void *p)
{
    const uint8_t *at = p;
    return !p || (closed.base && at >= closed.base && at < closed.base + closed.end);
}

static inline fct_status closed_copy(void *to, const void *from, int64_t bytes, const void *here,
                                     const void *there)
{
    if (!closed_has(here) || (there && closed_has(there)))
        return fct_fail(FCT_ERR_INTERNAL, "closed device: a copy between the wrong memories");
    closed_protect(PROT_READ | PROT_WRITE);
    if (bytes > 0) memcpy(to, from, (size_t)bytes);
    closed_protect(PROT_NONE);
    return FCT_OK;
}

static inline fct_status closed_write(void *to, const void *from, int64_t bytes)
{
    return closed_copy(to, from, bytes, to, from);
}

static inline fct_status closed_read(void *to, const void *from, int64_t bytes)
{
    return closed_copy(to, from, bytes, from, to);
}

static const fct_device closed_device = {.name = "closed",
                                         .take = closed_take,
                                         .release = closed_release,
                                         .write = closed_write,
                                         .read = closed_read};

/* ---- operations ---- */

/* Which fields of its arguments an operation reads or writes; index of gather and finite of finite
   are host memory. Training's operations keep to devices whose memory is the host's. */
#define IN(p) closed_has(p)
#define CLOSED_linear IN(a->x.data) && IN(a->y.data) && IN(a->bias) && IN(a->residual.data)
#define CLOSED_conv2d \
    IN(a->x.data) && IN(a->y.data) && IN(a->bias) && IN(a->channel_add) && IN(a->residual.data)
#define CLOSED_attention IN(a->q.data) && IN(a->k.data) && IN(a->v.data) && IN(a->y.data)
#define CLOSED_matmul IN(a->a) && IN(a->b) && IN(a->c)
#define CLOSED_group_norm IN(a->x.data) && IN(a->y.data) && IN(a->gamma) && IN(a->beta)
#define CLOSED_layer_norm IN(a->x.data) && IN(a->y.data) && IN(a->gamma) && IN(a->beta)
#define CLOSED_geglu IN(a->x.data) && IN(a->y.data)
#define CLOSED_unary IN(a->x.data) && IN(a->y.data)
#define CLOSED_add IN(a->a.data) && IN(a->b.data) && IN(a->y.data)
#define CLOSED_add_channels IN(a->x.data) && IN(a->y.data) && IN(a->add)
#define CLOSED_finite IN(a->x.data)
#define CLOSED_concat IN(a->a.data) && IN(a->b.data) && IN(a->y.data)
#define CLOSED_gather IN(a->x.data) && IN(a->y.data)
#define CLOSED_pool IN(a->x.data) && IN(a->y.data)
#define CLOSED_topk IN(a->x) && IN(a->mask) && IN(a->index) && IN(a->value)
#define CLOSED_sparse_decode IN(a->index) && IN(a->value) && IN(a->table) && IN(a->bias) && IN(a->y)
#define CLOSED_sparse_outer IN(a->index) && IN(a->coef) && IN(a->x) && IN(a->grad)
#define CLOSED_sparse_dot IN(a->index) && IN(a->x) && IN(a->table) && IN(a->coef)
#define CLOSED_encoder_fill false
#define CLOSED_select false
#define CLOSED_sparse_error false
#define CLOSED_adam false

#define CLOSED_OP(op)                                                                         \
    static inline fct_status closed_##op(fct_cx *cx, const fct_##op##_args *a)                \
    {                                                                                         \
        if (fct_arena_dry(cx->arena)) return ref_##op(cx, a);                                 \
        (void)a;                                                                              \
        if (!(CLOSED_##op) || !IN(cx->arena->base))                                           \
            return fct_fail(FCT_ERR_INTERNAL, "closed device: an argument is host memory");   \
        closed.operations++;                                                                  \
        closed_protect(PROT_READ | PROT_WRITE);                                               \
        fct_status st = ref_##op(cx, a);                                                      \
        closed_protect(PROT_NONE);                                                            \
        return st;                                                                            \
    }
FCT_OP_LIST(CLOSED_OP)
#undef CLOSED_OP

/* The ref backend on the closed device. It is called ref too: what it writes is what ref writes. */
static inline fct_backend closed_backend(void)
{
    fct_backend be = fct_backend_ref;
    be.device = &closed_device;
#define CLOSED_ENTRY(op) be.op = closed_##op;
    FCT_OP_LIST(CLOSED_ENTRY)
#undef CLOSED_ENTRY
    return be;
}

#endif

/* rows.c - gives one block's rows of a source that has several blocks in step, as a source of its
   own: what statistics and measures of one of a crosscoder's or of several mixed blocks read. */
#include "sae/sae.h"

typedef struct part_view {
    fct_row_source *joint;
    int64_t part;
} part_view;

static fct_status part_next(void *self, int64_t want, const float **rows, int64_t *n)
{
    const part_view *v = self;
    const float *part[FCT_SAE_MAX_BLOCKS];
    FCT_TRY(v->joint->next_parts(v->joint->self, want, part, n));
    if (*n > 0) *rows = part[v->part];
    return FCT_OK;
}

static fct_status part_rewind(void *self, int64_t pass)
{
    const part_view *v = self;
    return v->joint->rewind(v->joint->self, pass);
}

static void part_close(void *self)
{
    fct_free(self);
}

fct_status fct_row_source_part(fct_row_source *out, fct_row_source *joint, int64_t part)
{
    part_view *v;
    *out = (fct_row_source){0};
    if (joint->n_parts > FCT_SAE_MAX_BLOCKS)
        return fct_fail(FCT_ERR_ARG, "%lld blocks in step: want at most %d",
                        (long long)joint->n_parts, FCT_SAE_MAX_BLOCKS);
    FCT_TRY(fct_new(&v, 1, sizeof *v));
    *v = (part_view){joint, part};
    *out = (fct_row_source){.self = v,
                            .d = joint->part[part].d,
                            .total = joint->total,
                            .next = part_next,
                            .rewind = part_rewind,
                            .close = part_close,
                            .part = &joint->part[part],
                            .n_parts = 1};
    return FCT_OK;
}

/* context.c - opens and closes what one thread computes with: a backend, and the plans that it
   makes of the shapes it meets. */
#include "compute/backend.h"

fct_status fct_cx_open(fct_cx *out, const fct_backend *be, const fct_log *log)
{
    *out = (fct_cx){0};
    if (!be) return fct_fail(FCT_ERR_ARG, "no backend");
    fct_cx cx = {.be = be, .log = log};
    FCT_TRY(fct_where(be->plans_new(&cx.plans), "opening backend %s", be->name));
    *out = cx;
    return FCT_OK;
}

void fct_cx_close(fct_cx *cx)
{
    if (!cx) return;
    if (cx->be) cx->be->plans_free(cx->plans);
    *cx = (fct_cx){0};
}

/* describe.c - tells what the machine is and which backends compute on it, for people and
   programs. */
#include <stdio.h>
#include <unistd.h>

#include "compute/backend.h"

void fct_machine_describe(fct_machine *out)
{
    *out = (fct_machine){.cores = (int64_t)sysconf(_SC_NPROCESSORS_ONLN),
                         .memory_bytes =
                             (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE),
                         .threads = fct_threads()};
}

fct_status fct_backend_describe(fct_backend_info *out, int64_t number)
{
    const fct_backend *be = fct_backend_at(number);
    fct_str text = {0};
    *out = (fct_backend_info){0};
    if (!be)
        return fct_fail(FCT_ERR_ARG, "no backend has number %lld; there are %lld",
                        (long long)number, (long long)fct_backend_count());
    FCT_TRY(fct_backend_find(&be, be->name)); /* whole */
    fct_status st = be->describe(&text);
    out->name = be->name;
    out->fast_bf16 = be->has_bf16();
    if (st == FCT_OK) snprintf(out->about, sizeof out->about, "%s", text.p ? text.p : "");
    fct_str_clear(&text);
    return st;
}

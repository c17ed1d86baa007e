/* table.c - lists the cpu backend's operations for the registry. */
#include "compute/cpu/cpu.h"

static fct_status describe(fct_str *out)
{
    FCT_TRY(dn_describe(out));
    int n = fct_threads();
    return fct_str_printf(out, "; %d thread%s", n, n == 1 ? "" : "s");
}

#define CPU_ENTRY(op) .op = cpu_##op,
const fct_backend fct_backend_cpu = {.name = "cpu",
                                     .device = &fct_device_host,
                                     .pack = cpu_pack,
                                     .unpack = cpu_unpack,
                                     .plans_new = cpu_plans_new,
                                     .plans_free = cpu_plans_free,
                                     .plans_list = cpu_plans_list,
                                     .product = cpu_product,
                                     .encoder_new = cpu_encoder_new,
                                     .encoder_free = cpu_encoder_free,
                                     .has_bf16 = dn_has_bf16,
                                     .describe = describe,
                                     FCT_OP_LIST(CPU_ENTRY)};

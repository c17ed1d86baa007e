/* fuzz_json.c - JSON that is read can be written, and reads back as the same. */
#include "base/base.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *j, *again;
    fct_str s = {0};
    if (fct_json_parse(&j, (const char *)data, (int64_t)n, "fuzz") != FCT_OK) return 0;
    for (int indent = 0; indent <= 2; indent += 2) {
        fct_status st = fct_json_text(&s, j, indent);
        if (st == FCT_OK) {
            if (fct_json_parse(&again, s.p, s.n, "again") != FCT_OK || !json_equal(j, again))
                __builtin_trap();
            json_decref(again);
        } else if (st != FCT_ERR_RANGE) {
            __builtin_trap();
        }
        fct_str_clear(&s);
    }
    json_decref(j);
    return 0;
}

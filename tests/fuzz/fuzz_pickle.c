/* fuzz_pickle.c - the torch reader, both layouts: first the bytes as a file, then as the pickle of
 * an old-layout file. */
#include <string.h>

#include "fuzz.h"
#include "tensor/pickle.h"

static void read_all(const uint8_t *data, int64_t n)
{
    fct_pth p;
    volatile uint8_t sum = 0;
    if (fct_pth_parse(&p, data, n, "fuzz") != FCT_OK) return;
    for (int64_t i = 0; i < p.n; i++) {
        const uint8_t *bytes = p.entry[i].t.data;
        for (int64_t k = 0; k < fct_tensor_bytes(&p.entry[i].t); k++)
            sum = (uint8_t)(sum + bytes[k]);
    }
    fct_pth_close(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t head[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                   0x20, 0x6a, 0xa8, 0x50, 0x19, '.',  0x80, 2,    'M',
                                   0xe9, 3,    '.',  0x80, 2,    '}',  '.'};
    fct_str s = {0};
    read_all(data, (int64_t)n);
    if (fct_str_append_n(&s, (const char *)head, sizeof head) == FCT_OK &&
        fct_str_append_n(&s, (const char *)data, (int64_t)n) == FCT_OK)
        read_all((const uint8_t *)s.p, s.n);
    fct_str_clear(&s);
    fct_pickle p;
    if (fct_pickle_parse(&p, data, (int64_t)n, "fuzz") == FCT_OK && (p.root < 0 || p.root >= p.n))
        __builtin_trap();
    fct_pickle_clear(&p);
    return 0;
}

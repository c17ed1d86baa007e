/* fuzz_prompts.c - a prompt file of any content is refused, or gives prompts. The first byte
 * chooses the format. */
#include <stdlib.h>
#include <string.h>

#include "facet/store.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fct_prompts p;
    if (n == 0) return 0;
    fct_prompt_format format = (fct_prompt_format)(data[0] % 3);
    if (fct_prompts_parse(&p, (const char *)data + 1, (int64_t)n - 1, format, "fuzz") != FCT_OK)
        return 0;
    for (int64_t i = 0; i < p.n; i++)
        if (strlen(p.item[i].text) >= n) abort(); /* no prompt is longer than its file */
    fct_prompts_clear(&p);
    return 0;
}

/* kept.c - keeps what runs have made for the runs after them: values found by a hash of all that
   they follow from, within a budget of bytes.

   The value that was not asked for the longest makes room. What would not fit the budget alone is
   not kept: asking again then costs what it cost the first time, and nothing else changes. */
#include <string.h>

#include "model/run.h"

static void drop(fct_kept *k, int64_t i)
{
    k->entry[i].value->clear(k->entry[i].value);
    fct_free(k->entry[i].value);
    k->bytes -= k->entry[i].bytes;
    k->entry[i] = k->entry[--k->n];
}

fct_kept_value *fct_kept_find(fct_kept *k, const char *key)
{
    for (int64_t i = 0; i < k->n; i++)
        if (strcmp(k->entry[i].key, key) == 0) {
            k->entry[i].used = ++k->clock;
            return k->entry[i].value;
        }
    return NULL;
}

bool fct_kept_fits(const fct_kept *k, int64_t bytes)
{
    return bytes <= k->budget;
}

fct_status fct_kept_put(fct_kept *k, const char *key, fct_kept_value *value, int64_t bytes)
{
    while (k->n > 0 && k->bytes + bytes > k->budget) {
        int64_t oldest = 0;
        for (int64_t i = 1; i < k->n; i++)
            if (k->entry[i].used < k->entry[oldest].used) oldest = i;
        drop(k, oldest);
    }
    FCT_TRY(fct_grow(&k->entry, k->n, k->n + 1, (int64_t)sizeof *k->entry));
    fct_kept_entry *e = &k->entry[k->n++];
    *e = (fct_kept_entry){.value = value, .bytes = bytes, .used = ++k->clock};
    memcpy(e->key, key, sizeof e->key);
    k->bytes += bytes;
    return FCT_OK;
}

void fct_kept_clear(fct_kept *k)
{
    while (k->n > 0) drop(k, k->n - 1);
    fct_free(k->entry);
    k->entry = NULL;
}

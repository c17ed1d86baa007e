/* sweep.h - declares what the files that read sweeps share: building their JSON, and the config of
   sdxl-unbox as a sweep. */
#ifndef FCT_TRAIN_SWEEP_H
#define FCT_TRAIN_SWEEP_H

#include "base/base.h"
#include "facet/train.h"

fct_status fct_sweep_fail_memory(void) FCT_MUST_CHECK;
/* Takes value; NULL: out of memory. */
fct_status fct_sweep_set(json_t *o, const char *key, json_t *value) FCT_MUST_CHECK;
/* Replaces {"sae_configs": [...], "bs": ...} by a sweep that says the same. *d: the width that it
   names, which several must agree on; stays 0 where none does. */
fct_status fct_sweep_translate(json_t **file, int64_t *d) FCT_MUST_CHECK;

#endif

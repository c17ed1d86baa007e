/* dictlearn.h - declares the readers and writers of dictionary_learning's crosscoders
   (dictlearn_cross.c), for dictlearn.c. */
#ifndef FCT_SAE_DICTLEARN_H
#define FCT_SAE_DICTLEARN_H

#include "sae/formats/formats.h"

bool fct_sae_is_crosscoder_class(const char *name); /* dict_class */
/* From the tensors of ae.pt; `modules`: submodule_name, may be NULL. */
fct_status fct_sae_read_crosscoder(fct_sae **out, const char *class_name, const char *modules,
                                   const fct_sae_tensors *from) FCT_MUST_CHECK;
fct_status fct_sae_check_crosscoder(const fct_sae *s) FCT_MUST_CHECK; /* can it be written? */
fct_status fct_sae_fill_crosscoder(const fct_sae *s, const char *dir) FCT_MUST_CHECK;

#endif

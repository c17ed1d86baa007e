/* options.c - says what a user may choose of a model when it is opened: the table of
   fct_model_desc's fields, which the command line and recipes read. */
#include "base/option.h"
#include "model/model.h"

/* In the order in which recipes have them. */
static const fct_option table[] = {
    {.name = "backend",
     .kind = FCT_OPTION_WORD,
     .at = offsetof(fct_model_desc, backend),
     .words = "cpu,ref",
     .value = "NAME",
     .fallback = "cpu",
     .help = "what computes; ref is slow and plain, for comparison"},
    {.name = "dtype",
     .kind = FCT_OPTION_ENUM,
     .at = offsetof(fct_model_desc, precision),
     .words = "auto,f32,bf16",
     .value = "TYPE",
     .otherwise = "auto",
     .help = "precision of the model; auto is bf16 where the processor is fast at it, else f32"},
    {0}};

const fct_option *fct_model_table(void)
{
    return table;
}

const char *fct_precision_name(fct_precision precision)
{
    static const char *const names[] = {"auto", "f32", "bf16"};
    return (unsigned)precision < FCT_COUNT(names) ? names[precision] : "unknown";
}

/* block_name.c - turns a block's full name into its short one and back, by the rule of diffusers'
   names alone: no model is asked.

       down.I.J    unet.down_blocks.I.attentions.J
       mid.J       unet.mid_block.attentions.J
       up.I.J      unet.up_blocks.I.attentions.J */
#include <ctype.h>
#include <string.h>

#include "base/base.h"

static const struct {
    const char *shortened, *start, *middle; /* middle NULL: one number only */
} rule[] = {
    {"down.", "unet.down_blocks.", ".attentions."},
    {"mid.", "unet.mid_block.attentions.", NULL},
    {"up.", "unet.up_blocks.", ".attentions."},
};

/* Length of the digits at the start; 0: none. */
static int digits(const char *p)
{
    int n = 0;
    while (isdigit((unsigned char)p[n])) n++;
    return n;
}

/* name = start DIGITS [middle DIGITS]; the numbers' places and lengths. */
static bool match(const char *name, const char *start, const char *middle, const char *num[2],
                  int len[2])
{
    size_t n = strlen(start);
    if (strncmp(name, start, n) != 0) return false;
    num[0] = name + n;
    len[0] = digits(num[0]);
    const char *p = num[0] + len[0];
    if (len[0] == 0) return false;
    if (!middle) return *p == '\0';
    if (strncmp(p, middle, strlen(middle)) != 0) return false;
    num[1] = p + strlen(middle);
    len[1] = digits(num[1]);
    return len[1] > 0 && num[1][len[1]] == '\0';
}

fct_status fct_block_name_short(char **out, const char *name)
{
    const char *num[2];
    int len[2];
    for (size_t i = 0; name && i < FCT_COUNT(rule); i++) {
        if (!match(name, rule[i].start, rule[i].middle, num, len)) continue;
        if (!rule[i].middle) return fct_format(out, "%s%.*s", rule[i].shortened, len[0], num[0]);
        return fct_format(out, "%s%.*s.%.*s", rule[i].shortened, len[0], num[0], len[1], num[1]);
    }
    return fct_strdup(out, name);
}

fct_status fct_block_name_full(char **out, const char *name)
{
    const char *num[2];
    int len[2];
    for (size_t i = 0; name && i < FCT_COUNT(rule); i++) {
        if (!match(name, rule[i].shortened, rule[i].middle ? "." : NULL, num, len)) continue;
        if (!rule[i].middle) return fct_format(out, "%s%.*s", rule[i].start, len[0], num[0]);
        return fct_format(out, "%s%.*s%s%.*s", rule[i].start, len[0], num[0], rule[i].middle,
                          len[1], num[1]);
    }
    return fct_strdup(out, name);
}

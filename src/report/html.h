/* html.h - writes small pieces of HTML: escaped text, pictures with maps over them, bars. */
#ifndef FCT_REPORT_HTML_H
#define FCT_REPORT_HTML_H

#include "base/base.h"

/* A page being written. The first failure stays in st, and later calls do nothing. */
typedef struct html {
    fct_str text;
    fct_status st;
} html;

/* Markup with numbers and known names; whatever else comes in goes through html_text. */
void html_put(html *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void html_raw(html *h, const char *data, int64_t n);
void html_text(html *h, const char *text);

typedef struct html_picture {
    const char *name;   /* pictures/NAME.png */
    const char *label;  /* under it; NULL: none */
    const char *prompt; /* for the large view and for those who cannot see it */
    uint64_t seed;
    const char *edit; /* NULL: none */
    const char *map;  /* a data: URI laid over it; NULL: none */
    bool marked;      /* the checker reads the word */
} html_picture;
void html_figure(html *h, const html_picture *p);
/* A bar of share in [0,1] with its name and percentage. */
void html_bar(html *h, const char *kind, const char *name, double share);
/* The map [gh,gw] as a PNG in a data: URI: dark where the feature is not active, clear at its
   largest. Release with fct_free. */
fct_status html_map(char **out, const float *map, int64_t gh, int64_t gw) FCT_MUST_CHECK;

#endif

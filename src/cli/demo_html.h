/* demo_html.h - small pieces of HTML: text that is escaped, pictures with maps over them, bars. */
#ifndef FCT_CLI_DEMO_HTML_H
#define FCT_CLI_DEMO_HTML_H

#include "cli/demo.h"

typedef struct demo_html { /* a page being written; the first failure stays in st, and later calls
                              do nothing */
    fct_str text;
    fct_status st;
} demo_html;

/* Markup with numbers and known names; whatever else comes in goes through demo_html_text. */
void demo_html_put(demo_html *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void demo_html_raw(demo_html *h, const char *data, int64_t n);
void demo_html_text(demo_html *h, const char *text);

typedef struct demo_html_picture {
    const char *name;   /* pictures/NAME.png */
    const char *label;  /* under it; NULL: none */
    const char *prompt; /* for the large view and for those who cannot see it */
    uint64_t seed;
    const char *edit; /* NULL: none */
    const char *map;  /* a data: URI laid over it; NULL: none */
    bool marked;      /* the checker reads the word */
} demo_html_picture;
void demo_html_figure(demo_html *h, const demo_html_picture *p);
/* A bar of share in [0,1] with its name and percentage. */
void demo_html_bar(demo_html *h, const char *kind, const char *name, double share);
/* The map [gh,gw] as a PNG in a data: URI: dark where the feature is not active, clear at its
 * largest. Release with fct_free. */
fct_status demo_html_map(char **out, const float *map, int64_t gh, int64_t gw) FCT_MUST_CHECK;

#endif

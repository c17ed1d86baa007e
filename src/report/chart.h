/* chart.h - draws small SVG charts: curves, bars, points. Each is one <svg> element that needs no
   style sheet, so that it stands in a page or in a file of its own. */
#ifndef FCT_REPORT_CHART_H
#define FCT_REPORT_CHART_H

#include "report/html.h"

typedef struct chart_series {
    const char *name;
    const double *x, *y; /* [n]; places where either is not finite are left out */
    int64_t n;
    bool points; /* marks alone; else a line */
    bool front;  /* points: a line through those that no other beats in y at less x */
} chart_series;
typedef struct chart {
    const char *title, *x_name, *y_name; /* known texts: not escaped */
    const chart_series *series;
    int64_t n;
    bool log_y; /* where all values are above 0 and span more than a power of ten */
} chart;
void chart_draw(html *h, const chart *c);

/* Counts in bins of equal width, from lo to hi. */
typedef struct chart_bins {
    const char *title, *x_name;
    const int64_t *count; /* [n] */
    int64_t n;
    double lo, hi;
} chart_bins;
void chart_draw_bins(html *h, const chart_bins *c);

#endif

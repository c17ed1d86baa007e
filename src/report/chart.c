/* chart.c - draws SVG charts without a library: a frame, round ticks, lines, points, bars. Greys
   and hues are chosen to be read on light and on dark paper. */
#include <math.h>
#include <stdio.h>

#include "report/chart.h"

enum { WIDTH = 520, HEIGHT = 300, LEFT = 64, RIGHT = 14, TOP = 34, BOTTOM = 46, HUES = 8 };
static const char *const hue[HUES] = {"#2f8f8a", "#d0703c", "#6f63c9", "#b0468f",
                                      "#7a8f2f", "#3f78c2", "#c24a4a", "#8a6d3b"};

typedef struct axis { /* from data to pixels: at lo stands from, at hi stands to */
    double lo, hi, from, to;
    bool log;
} axis;

static double place(const axis *a, double v)
{
    double t = a->log ? log10(v) : v;
    return a->from + (a->to - a->from) * (t - a->lo) / (a->hi - a->lo);
}

/* Room around the data. One value alone stands midway between 0 and its double: what is flat should
   look flat. */
static void widen(axis *a)
{
    double v = a->lo;
    if (!(a->hi > v)) {
        a->lo = v < 0 ? 2 * v : 0;
        a->hi = v > 0 ? 2 * v : v < 0 ? 0 : 1;
    }
    double room = 0.05 * (a->hi - a->lo);
    a->lo -= room;
    a->hi += room;
}

/* The round number (1, 2 or 5 times a power of ten) that gives about five ticks. */
static double tick_step(double span)
{
    double raw = span / 5, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static void put_ticks(html *h, const axis *a, bool across)
{
    double step = tick_step(a->hi - a->lo);
    if (a->log && step < 1) step = 1;
    for (double v = ceil(a->lo / step) * step; v <= a->hi; v += step) {
        double shown = a->log ? pow(10, v) : fabs(v) < step * 1e-9 ? 0 : v;
        double at = place(a, a->log ? shown : v);
        if (across)
            html_put(h,
                          "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#8886\"/>"
                          "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
                          at, TOP, at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 16, shown);
        else
            html_put(h,
                          "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#8886\"/>"
                          "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                          LEFT, at, WIDTH - RIGHT, at, LEFT - 6, at + 4, shown);
    }
}

static void put_frame(html *h, const char *title, const char *x_name, const char *y_name)
{
    html_put(h,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                  "height=\"%d\" role=\"img\" aria-label=\"%s\" font-family=\"system-ui, "
                  "sans-serif\" font-size=\"11\" fill=\"#888\">\n",
                  WIDTH, HEIGHT, WIDTH, HEIGHT, title);
    html_put(h, "<text x=\"%d\" y=\"18\" font-size=\"13\" font-weight=\"600\">%s</text>\n",
                  LEFT, title);
    html_put(h, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                  (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name);
    html_put(h,
                  "<text x=\"14\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 14 "
                  "%d)\">%s</text>\n",
                  (TOP + HEIGHT - BOTTOM) / 2, (TOP + HEIGHT - BOTTOM) / 2, y_name);
}

static bool usable(const chart_series *s, int64_t i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

/* No other point of the series has as much y at no more x. */
static bool is_front(const chart_series *s, int64_t i)
{
    for (int64_t k = 0; k < s->n; k++)
        if (k != i && usable(s, k) && s->x[k] <= s->x[i] && s->y[k] >= s->y[i] &&
            (s->x[k] < s->x[i] || s->y[k] > s->y[i] || k < i))
            return false;
    return true;
}

static void put_front(html *h, const chart_series *s, const axis *x, const axis *y,
                      const char *colour)
{
    double after = -INFINITY;
    html_put(h, "<polyline fill=\"none\" stroke=\"%s\" stroke-dasharray=\"4 3\" points=\"",
                  colour);
    for (;;) { /* from left to right */
        int64_t next = -1;
        for (int64_t i = 0; i < s->n; i++)
            if (usable(s, i) && s->x[i] > after && is_front(s, i) &&
                (next < 0 || s->x[i] < s->x[next]))
                next = i;
        if (next < 0) break;
        html_put(h, "%.1f,%.1f ", place(x, s->x[next]), place(y, s->y[next]));
        after = s->x[next];
    }
    html_put(h, "\"/>\n");
}

static void put_series(html *h, const chart_series *s, const axis *x, const axis *y,
                       const char *colour)
{
    if (s->points) {
        if (s->front) put_front(h, s, x, y, colour);
        for (int64_t i = 0; i < s->n; i++)
            if (usable(s, i))
                html_put(h, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n",
                              place(x, s->x[i]), place(y, s->y[i]), colour);
        return;
    }
    html_put(h, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" points=\"",
                  colour);
    for (int64_t i = 0; i < s->n; i++)
        if (usable(s, i)) html_put(h, "%.1f,%.1f ", place(x, s->x[i]), place(y, s->y[i]));
    html_put(h, "\"/>\n");
}

static void put_names(html *h, const chart *c)
{
    for (int64_t i = 0; i < c->n; i++) {
        int64_t row = HEIGHT - BOTTOM - 10 - 15 * (c->n - 1 - i); /* curves rise, or fall */
        if (!c->series[i].name) continue;
        html_put(h, "<rect x=\"%d\" y=\"%lld\" width=\"9\" height=\"9\" fill=\"%s\"/>",
                      WIDTH - RIGHT - 150, (long long)(row - 8), hue[i % HUES]);
        html_put(h, "<text x=\"%d\" y=\"%lld\">", WIDTH - RIGHT - 136, (long long)row);
        html_text(h, c->series[i].name);
        html_put(h, "</text>\n");
    }
}

static void reach(axis *a, double v, bool *any)
{
    if (!*any || v < a->lo) a->lo = v;
    if (!*any || v > a->hi) a->hi = v;
}

/* Whether a logarithmic axis says more: all is above 0, and spans more than a power of ten. */
static bool wants_log(const chart *c)
{
    double lo = INFINITY, hi = 0;
    for (int64_t s = 0; s < c->n; s++)
        for (int64_t i = 0; i < c->series[s].n; i++) {
            if (!usable(&c->series[s], i)) continue;
            lo = fmin(lo, c->series[s].y[i]);
            hi = fmax(hi, c->series[s].y[i]);
        }
    return c->log_y && lo > 0 && hi > 10 * lo;
}

void chart_draw(html *h, const chart *c)
{
    axis x = {.from = LEFT, .to = WIDTH - RIGHT}, y = {.from = HEIGHT - BOTTOM, .to = TOP};
    bool any = false;
    y.log = wants_log(c);
    for (int64_t s = 0; s < c->n; s++)
        for (int64_t i = 0; i < c->series[s].n; i++) {
            if (!usable(&c->series[s], i)) continue;
            double v = c->series[s].y[i];
            reach(&x, c->series[s].x[i], &any);
            reach(&y, y.log ? log10(v) : v, &any);
            any = true;
        }
    widen(&x);
    widen(&y);
    put_frame(h, c->title, c->x_name, c->y_name);
    put_ticks(h, &x, true);
    put_ticks(h, &y, false);
    for (int64_t s = 0; s < c->n; s++) put_series(h, &c->series[s], &x, &y, hue[s % HUES]);
    put_names(h, c);
    html_put(h, "</svg>\n");
}

void chart_draw_bins(html *h, const chart_bins *c)
{
    int64_t most = 1;
    axis x = {.lo = c->lo, .hi = c->hi, .from = LEFT, .to = WIDTH - RIGHT};
    for (int64_t i = 0; i < c->n; i++)
        if (c->count[i] > most) most = c->count[i];
    axis y = {.lo = 0, .hi = 1.05 * (double)most, .from = HEIGHT - BOTTOM, .to = TOP};
    double width = (c->hi - c->lo) / (double)c->n;
    put_frame(h, c->title, c->x_name, "features");
    put_ticks(h, &x, true);
    put_ticks(h, &y, false);
    for (int64_t i = 0; i < c->n; i++) {
        double from = place(&x, c->lo + width * (double)i), top = place(&y, (double)c->count[i]);
        if (c->count[i] > 0)
            html_put(
                h, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
                from + 0.5, top, place(&x, c->lo + width * (double)(i + 1)) - from - 1,
                HEIGHT - BOTTOM - top, hue[0]);
    }
    html_put(h, "</svg>\n");
}

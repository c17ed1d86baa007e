/* html.c - writes pieces of HTML: escaped text, pictures with maps over them, bars. A page loads
   nothing but pictures of its own folder. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "facet/image.h"
#include "report/html.h"

void html_raw(html *h, const char *data, int64_t n)
{
    if (h->st == FCT_OK) h->st = fct_str_append_n(&h->text, data, n);
}

void html_put(html *h, const char *fmt, ...)
{
    char line[2048];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof line) {
        if (h->st == FCT_OK) h->st = fct_fail(FCT_ERR_INTERNAL, "a line of the page is too long");
        return;
    }
    html_raw(h, line, n);
}

void html_text(html *h, const char *text)
{
    for (const char *p = text; *p; p++) {
        const char *safe = *p == '&'   ? "&amp;"
                           : *p == '<' ? "&lt;"
                           : *p == '>' ? "&gt;"
                           : *p == '"' ? "&quot;"
                                       : NULL;
        if (safe)
            html_raw(h, safe, (int64_t)strlen(safe));
        else
            html_raw(h, p, 1);
    }
}

void html_figure(html *h, const html_picture *p)
{
    html_put(h, "<figure class=\"shot%s\"><button type=\"button\" class=\"zoom\" data-edit=\"",
                  p->marked ? " reads" : "");
    if (p->edit) html_text(h, p->edit);
    html_put(h, "\" data-seed=\"%llu\" data-prompt=\"", (unsigned long long)p->seed);
    html_text(h, p->prompt);
    html_put(h, "\"><img loading=\"lazy\" width=\"256\" height=\"256\" src=\"pictures/");
    html_text(h, p->name);
    html_put(h, ".png\" alt=\"");
    if (p->label) html_text(h, p->label);
    html_put(h, "%s", p->label ? ": " : "");
    html_text(h, p->prompt[0] ? p->prompt : "the empty prompt");
    html_put(h, "\">");
    if (p->map) {
        html_put(h, "<img class=\"map\" alt=\"\" src=\"");
        html_raw(h, p->map, (int64_t)strlen(p->map));
        html_put(h, "\">");
    }
    html_put(h, "</button>");
    if (p->label) {
        html_put(h, "<figcaption>");
        html_text(h, p->label);
        html_put(h, "</figcaption>");
    }
    html_put(h, "</figure>\n");
}

void html_bar(html *h, const char *kind, const char *name, double share)
{
    html_put(h,
                  "<div class=\"bar %s\"><span class=\"bar-name\">%s</span><span "
                  "class=\"track\"><i style=\"width:%.0f%%\"></i></span>"
                  "<b>%.0f&thinsp;%%</b></div>\n",
                  kind, name, 100 * share, 100 * share);
}

/* ---- maps ---- */

fct_status html_map(char **out, const float *map, int64_t gh, int64_t gw)
{
    fct_status st = FCT_OK;
    fct_image image = {0};
    fct_str uri = {0};
    uint8_t *png = NULL;
    int64_t n_png;
    float most = 0;
    *out = NULL;
    for (int64_t i = 0; i < gh * gw; i++) most = fmaxf(most, map[i]);
    FCT_TRY_OUT(fct_image_new(&image, gw, gh, 4));
    for (int64_t i = 0; i < gh * gw; i++) {
        float dark = most > 0 ? 1 - map[i] / most : 1;
        image.pixel[4 * i] = 12;
        image.pixel[4 * i + 1] = 14;
        image.pixel[4 * i + 2] = 24;
        image.pixel[4 * i + 3] = (uint8_t)lrintf(205 * dark);
    }
    FCT_TRY_OUT(fct_png_encode(&png, &n_png, &image));
    FCT_TRY_OUT(fct_str_append(&uri, "data:image/png;base64,"));
    FCT_TRY_OUT(fct_base64_append(&uri, png, n_png));
    *out = uri.p;
    uri = (fct_str){0};
out:
    fct_image_clear(&image);
    fct_free(png);
    fct_str_clear(&uri);
    return st;
}

/* latents.c - latents of a run, written to a file and read again, decode to its picture; times and
   plans of the run add up. */
#include <facet/device.h>
#include <facet/session.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const fct_run_item item = {.prompt = "a red circle", .seed = 3};
static const fct_settings settings = {.width = 96, .height = 64, .steps = 2};
static const fct_run_desc run = {.items = &item, .n_items = 1, .settings = &settings};

static fct_status wrong(const char *what)
{
    return fct_error_set(FCT_ERR_INTERNAL, what);
}

static fct_status decode_again(fct_session *s, const fct_run_result *r)
{
    fct_named_tensor made = {"latents", r->latents}, *read = NULL, *list = NULL;
    int64_t n, n_list, size = r->width * r->height * 3;
    char shape[64];
    uint8_t *pixels = calloc((size_t)size, 1);
    float *back = calloc((size_t)fct_tensor_count(&r->latents), sizeof *back);
    fct_status st = pixels && back ? fct_tensors_write("l.safetensors", &made, 1) : wrong("memory");
    if (st == FCT_OK) st = fct_tensors_list(&list, &n_list, "l.safetensors");
    if (st == FCT_OK) st = fct_tensors_read(&read, &n, "l.safetensors", "latents");
    if (st == FCT_OK && (n != 1 || n_list != 1 || list[0].t.data)) st = wrong("the list");
    if (st == FCT_OK) fct_shape_text(shape, sizeof shape, &list[0].t);
    if (st == FCT_OK && strcmp(shape, "[1,4,8,12]") != 0) st = wrong("the shape");
    if (st == FCT_OK) st = fct_session_decode(s, &read[0].t, pixels);
    if (st == FCT_OK && memcmp(pixels, r->pixels, (size_t)size) != 0) st = wrong("the picture");
    if (st == FCT_OK) st = fct_session_encode(s, pixels, 1, r->width, r->height, back);
    if (st == FCT_OK && back[0] == 0) st = wrong("the latents of the picture");
    fct_free(list);
    fct_free(read);
    free(pixels);
    free(back);
    return st;
}

static fct_status clock_it(fct_session *s)
{
    fct_times first = {0}, again = {0};
    fct_plan_row *plan = NULL;
    int64_t n = 0, bytes = 0;
    double sum = 0;
    fct_session_forget(s);
    fct_status st = fct_session_time(s, &run, &first, NULL);
    if (st == FCT_OK) st = fct_session_time(s, &run, &again, NULL);
    for (int64_t i = 0; i < first.n; i++) sum += first.stage[i].seconds;
    if (st == FCT_OK && (sum <= 0 || sum > first.seconds)) st = wrong("the sum of the stages");
    if (st == FCT_OK && strcmp(first.stage[0].name, "text encoders") != 0)
        st = wrong("the first stage");
    if (st == FCT_OK && again.n != first.n - 1) st = wrong("texts that were kept");
    if (st == FCT_OK && again.stage[0].calls != 2) st = wrong("a stage in two steps");
    if (st == FCT_OK) st = fct_session_plans(s, &plan, &n);
    if (st == FCT_OK && (n < 1 || !plan[0].implementation[0])) st = wrong("the plans");
    if (st == FCT_OK) st = fct_session_peak(s, &run, &bytes);
    if (st == FCT_OK && bytes < 1) st = wrong("the peak");
    fct_free(plan);
    fct_times_clear(&first);
    fct_times_clear(&again);
    return st;
}

int main(void)
{
    fct_model *model = NULL;
    fct_session *s = NULL;
    fct_run_result r = {0};
    char *path = NULL;
    fct_status st = fct_model_find(&path, NULL);
    if (st == FCT_OK) st = fct_model_open(&model, &(fct_model_desc){.path = path});
    if (st == FCT_OK) st = fct_session_open(&s, model, NULL);
    if (st == FCT_OK) st = fct_session_run(s, &run, &r);
    if (st == FCT_OK) st = decode_again(s, &r);
    if (st == FCT_OK) st = clock_it(s);
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_run_result_clear(&r);
    fct_session_close(s);
    fct_model_close(model);
    fct_free(path);
    return st == FCT_OK ? 0 : 1;
}

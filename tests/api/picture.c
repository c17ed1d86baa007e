/* picture.c - a picture is made, saved with the recipe of its run, read back and made again. */
#include <facet/edit.h>
#include <facet/image.h>
#include <stdio.h>
#include <string.h>

static fct_status draw(fct_session *s, const char *path)
{
    fct_run_item item = {.prompt = "a red circle", .seed = 3};
    fct_settings settings = {.width = 128, .height = 128};
    fct_run_desc run = {.items = &item, .n_items = 1, .settings = &settings};
    fct_run_result r = {0};
    fct_image picture = {0};
    fct_recipe recipe = {0};
    fct_status st = fct_session_run(s, &run, &r);
    if (st == FCT_OK) st = fct_draw_pixels(&picture, r.pixels, r.width, r.height);
    if (st == FCT_OK) st = fct_recipe_of_run(&recipe, s, &run, NULL, 0, NULL, 0);
    if (st == FCT_OK) st = fct_recipe_stamp(&recipe, &picture);
    if (st == FCT_OK) st = fct_png_write(&picture, path);
    fct_recipe_clear(&recipe);
    fct_image_clear(&picture);
    fct_run_result_clear(&r);
    return st;
}

/* The picture in memory, smaller, and with a colour of the map's scale in its corner. */
static fct_status pass_through_memory(const char *path)
{
    fct_image im = {0}, small = {0}, back = {0};
    uint8_t *png = NULL, red[3];
    int64_t n = 0;
    fct_draw_jet(red, 1);
    fct_status st = fct_image_read(&im, path, 3);
    if (st == FCT_OK) st = fct_image_resize(&small, &im, 32, 16);
    if (st == FCT_OK) memcpy(small.pixel, red, 3);
    if (st == FCT_OK) st = fct_png_encode(&png, &n, &small);
    if (st == FCT_OK) st = fct_image_parse(&back, png, n, "in memory", 0);
    if (st == FCT_OK && (back.width != 32 || back.height != 16 || back.pixel[0] != red[0] ||
                         red[0] <= red[2] || fct_image_find_text(&im, "facet") == NULL))
        st = fct_error_set(FCT_ERR_INTERNAL, "the picture changed in memory");
    fct_free(png);
    fct_image_clear(&im);
    fct_image_clear(&small);
    fct_image_clear(&back);
    return st;
}

static fct_status draw_again(fct_session *s, const char *path)
{
    fct_recipe recipe = {0};
    fct_image was = {0};
    fct_run_result r = {0};
    fct_sae_set saes = {0};
    fct_status st = fct_recipe_read(&recipe, path);
    if (st == FCT_OK) st = fct_image_read(&was, path, 3);
    if (st == FCT_OK) st = fct_recipe_check(&recipe, s, &saes);
    if (st == FCT_OK) st = fct_recipe_run(s, &recipe, &saes, &r);
    if (st == FCT_OK && (was.width != r.width || was.height != r.height ||
                         memcmp(was.pixel, r.pixels, (size_t)(r.width * r.height * 3)) != 0)) {
        fprintf(stderr, "the recipe makes another picture\n");
        st = FCT_ERR_INTERNAL;
    }
    fct_recipe_clear(&recipe);
    fct_image_clear(&was);
    fct_run_result_clear(&r);
    return st;
}

int main(void)
{
    fct_model *model = NULL;
    fct_session *s = NULL;
    char *path = NULL;
    fct_status st = fct_model_find(&path, NULL);
    if (st == FCT_OK) st = fct_model_open(&model, &(fct_model_desc){.path = path});
    if (st == FCT_OK) st = fct_session_open(&s, model, NULL);
    if (st == FCT_OK) st = draw(s, "circle.png");
    if (st == FCT_OK) st = draw_again(s, "circle.png");
    if (st == FCT_OK) st = pass_through_memory("circle.png");
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_session_close(s);
    fct_model_close(model);
    fct_free(path);
    return st == FCT_OK ? 0 : 1;
}

/* sessions.c - two sessions of one model on two threads make the bytes that each makes alone. */
#include <facet/facet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const fct_model *model;
    const char *prompt;
    uint64_t seed;
    fct_status st;
    fct_run_result result;
} job;

static void *draw(void *self)
{
    job *j = self;
    fct_session *s = NULL;
    fct_run_item item = {.prompt = j->prompt, .seed = j->seed};
    fct_settings settings = {.width = 128, .height = 128, .steps = 2, .guidance = 3};
    j->st = fct_session_open(&s, j->model, &(fct_session_desc){.threads = 1});
    for (int i = 0; i < 2 && j->st == FCT_OK; i++) { /* the second run finds what the first kept */
        fct_run_result_clear(&j->result);
        fct_run_desc run = {.items = &item, .n_items = 1, .settings = &settings, .keep = "up.0.1"};
        j->st = fct_session_run(s, &run, &j->result);
    }
    if (j->st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_session_close(s);
    return NULL;
}

static bool same(const fct_run_result *a, const fct_run_result *b)
{
    size_t n = (size_t)(a->n * a->width * a->height * 3);
    return a->width == b->width && a->height == b->height && memcmp(a->pixels, b->pixels, n) == 0 &&
           memcmp(a->latents.data, b->latents.data, (size_t)fct_tensor_bytes(&a->latents)) == 0;
}

int main(void)
{
    fct_model *model = NULL;
    char *path = NULL;
    fct_status st = fct_model_find(&path, NULL);
    if (st == FCT_OK) st = fct_model_open(&model, &(fct_model_desc){.path = path});
    fct_free(path);
    if (st != FCT_OK) return fprintf(stderr, "%s\n", fct_error_text()), 1;

    job job_of[2][2] = {{{.prompt = "two blue stars", .seed = 1}, {.prompt = "a ring", .seed = 2}},
                        {{.prompt = "two blue stars", .seed = 1}, {.prompt = "a ring", .seed = 2}}};
    pthread_t thread[2];
    bool good = true;
    for (int i = 0; i < 2; i++) { /* one after the other, then both at once */
        job_of[0][i].model = job_of[1][i].model = model;
        draw(&job_of[0][i]);
    }
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread[i], NULL, draw, &job_of[1][i]) != 0) return 1;
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++) {
        good = good && job_of[0][i].st == FCT_OK && job_of[1][i].st == FCT_OK;
        good = good && same(&job_of[0][i].result, &job_of[1][i].result);
    }
    if (good && same(&job_of[0][0].result, &job_of[0][1].result)) good = false; /* unlike prompts */
    for (int i = 0; i < 4; i++) fct_run_result_clear(&job_of[i / 2][i % 2].result);
    fct_model_close(model);
    puts(good ? "the same bytes" : "two threads differ from one");
    return good ? 0 : 1;
}

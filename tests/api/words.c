/* words.c - prompts are read from memory and cut into tokens, and a longer one says what did not
   fit. */
#include <facet/model.h>
#include <facet/store.h>
#include <stdio.h>
#include <string.h>

static const char jsonl[] = "{\"prompt\": \"a star\", \"seed\": 3}\n{\"prompt\": \"two rings\"}\n";

int main(void)
{
    fct_model *model = NULL;
    fct_prompts prompts = {0};
    int32_t *ids = NULL;
    int64_t n = 0;
    char *path = NULL, *cut = NULL, many[1200] = "";
    fct_status st = fct_model_find(&path, NULL);
    if (st == FCT_OK) st = fct_model_open(&model, &(fct_model_desc){.path = path, .no_vae = true});
    if (st == FCT_OK)
        st = fct_prompts_parse(&prompts, jsonl, (int64_t)strlen(jsonl), FCT_PROMPTS_JSONL, "here");
    if (st == FCT_OK) st = fct_model_tokenize(model, 1, prompts.item[0].text, &ids, &n, &cut);
    bool good = st == FCT_OK && prompts.n == 2 && prompts.item[0].seed == 3 && n >= 4 && !cut;
    fct_free(ids);
    ids = NULL;
    for (int i = 0; i < 100; i++) strncat(many, "a star ", sizeof many - strlen(many) - 1);
    if (st == FCT_OK) st = fct_model_tokenize(model, 0, many, &ids, &n, &cut);
    good = good && st == FCT_OK && cut && strstr(cut, "star");
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_free(ids);
    fct_free(cut);
    fct_free(path);
    fct_prompts_clear(&prompts);
    fct_model_close(model);
    return good ? 0 : 1;
}

/* fuzz_tokenizer.c - whatever the files say and whatever the prompt is, the ids are in range, as
   many as promised, and the same twice. Input: vocab.json, merges.txt, tokenizer_config.json and
   the prompt, with a line of three dashes between. */
#include <string.h>

#include "fuzz.h"
#include "model/model.h"

static void try_prompt(const fct_tokenizer *t, const char *prompt)
{
    int64_t n = fct_tokenizer_length(t);
    int32_t *ids = NULL, *again = NULL;
    char *cut = NULL;
    if (n > 4096) return;
    if (fct_new(&ids, n, sizeof *ids) == FCT_OK && fct_new(&again, n, sizeof *again) == FCT_OK &&
        fct_tokenizer_encode(t, prompt, ids, &cut) == FCT_OK) {
        for (int64_t i = 0; i < n; i++)
            if (ids[i] < 0) __builtin_trap();
        if (fct_tokenizer_encode(t, prompt, again, NULL) != FCT_OK ||
            memcmp(ids, again, (size_t)n * sizeof *ids) != 0)
            __builtin_trap();
    }
    fct_free(ids);
    fct_free(again);
    fct_free(cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = NULL;
    if (fct_new(&text, (int64_t)n + 1, 1) != FCT_OK) return 0;
    memcpy(text, data, n);
    char *part[4] = {text, "", "", ""};
    for (int i = 1; i < 4; i++) {
        char *line = strstr(part[i - 1], "\n---\n");
        if (!line) break;
        *line = '\0';
        part[i] = line + 5;
    }
    json_t *vocab = NULL, *config = NULL;
    fct_tokenizer *t = NULL;
    if (fct_json_parse(&vocab, part[0], (int64_t)strlen(part[0]), "vocab.json") == FCT_OK) {
        if (fct_json_parse(&config, part[2], (int64_t)strlen(part[2]), "tokenizer_config.json") !=
            FCT_OK)
            config = NULL;
        if (fct_tokenizer_new(&t, &(fct_tokenizer_desc){.vocab = vocab,
                                                        .merges = part[1],
                                                        .config = config,
                                                        .where = "fuzz"}) == FCT_OK)
            try_prompt(t, part[3]);
    }
    fct_tokenizer_close(t);
    json_decref(vocab);
    json_decref(config);
    fct_free(text);
    return 0;
}

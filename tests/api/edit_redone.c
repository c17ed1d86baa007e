/* edit_redone.c - an edit of a run is redone in its session: the same bytes as in a session that
   keeps nothing, for less work. */
#include <facet/edit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const fct_run_item item = {.prompt = "two large striped blue stars at night", .seed = 7};
static const fct_settings settings = {.width = 128, .height = 128, .steps = 2, .guidance = 2};

/* An SAE of random directions is enough: what it paints means nothing, but always the same. */
static fct_status make_sae(fct_sae *s, int64_t d, int64_t f)
{
    uint32_t state = 1;
    *s = (fct_sae){.d = d, .f = f, .k = 4, .apply_b_dec_to_input = true};
    s->w_enc = calloc((size_t)(f * d), sizeof(float));
    s->w_dec = calloc((size_t)(f * d), sizeof(float));
    s->b_enc = calloc((size_t)f, sizeof(float));
    s->b_dec = calloc((size_t)d, sizeof(float));
    if (!s->w_enc || !s->w_dec || !s->b_enc || !s->b_dec) return FCT_ERR_MEMORY;
    for (int64_t i = 0; i < f * d; i++) {
        state = state * 1664525u + 1013904223u;
        s->w_enc[i] = s->w_dec[i] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    }
    return FCT_OK;
}

static fct_status paint(fct_session *s, const fct_sae_set *saes, const char *text,
                        fct_run_result *out)
{
    fct_edit edit = {0};
    fct_run_desc run = {.items = &item, .n_items = 1, .settings = &settings};
    fct_status st = fct_edit_parse(&edit, text);
    if (st == FCT_OK) st = fct_edit_run(s, &run, &edit, 1, saes, out);
    fct_edit_clear(&edit);
    return st;
}

/* The edits one after the other, in a session that keeps moments and in one that does not. */
static fct_status compare(fct_session *kept, fct_session *plain, const fct_sae_set *saes)
{
    static const char *const edits[] = {"up.0.1:3 +2 unit=one", "up.0.1:3 +4 unit=one",
                                        "up.0.1:5 x0", "up.0.1 zero @box:0,0,0.5,1"};
    fct_status st = FCT_OK;
    for (size_t i = 0; i < sizeof edits / sizeof *edits && st == FCT_OK; i++) {
        fct_run_result a = {0}, b = {0};
        st = paint(kept, saes, edits[i], &a);
        if (st == FCT_OK) st = paint(plain, saes, edits[i], &b);
        if (st == FCT_OK &&
            memcmp(a.latents.data, b.latents.data, (size_t)fct_tensor_bytes(&a.latents)) != 0) {
            fprintf(stderr, "%s: not the bytes of the whole run\n", edits[i]);
            st = FCT_ERR_INTERNAL;
        }
        fct_run_result_clear(&a);
        fct_run_result_clear(&b);
    }
    return st;
}

/* Edits that are compiled once serve several runs. */
static fct_status compile_once(fct_session *s, const fct_sae_set *saes)
{
    fct_edit edit = {0};
    fct_edit_set *set = NULL;
    fct_run_result want = {0}, got = {0};
    fct_run_desc run = {.items = &item, .n_items = 1, .settings = &settings};
    fct_status st = paint(s, saes, "up.0.1:3 x0 static", &want);
    if (st == FCT_OK) st = fct_edit_parse(&edit, "up.0.1:3 x0 static");
    if (st == FCT_OK) st = fct_edit_set_open(&set, s, &run, &edit, 1, saes);
    if (st == FCT_OK) run.taps = fct_edit_set_taps(set, &run.n_taps);
    for (int i = 0; i < 2 && st == FCT_OK; i++) {
        fct_run_result_clear(&got);
        st = fct_session_run(s, &run, &got);
        if (st == FCT_OK &&
            memcmp(got.pixels, want.pixels, (size_t)(want.width * want.height * 3)) != 0)
            st = fct_error_set(FCT_ERR_INTERNAL, "compiled edits make another picture");
    }
    fct_edit_set_close(set);
    fct_edit_clear(&edit);
    fct_run_result_clear(&want);
    fct_run_result_clear(&got);
    return st;
}

int main(void)
{
    fct_model *model = NULL;
    fct_session *kept = NULL, *plain = NULL;
    fct_sae_set saes = {0};
    fct_sae sae = {0};
    fct_session_counts a = {0}, b = {0};
    const fct_block_info **block = NULL;
    int64_t n;
    char *path = NULL;
    fct_status st = fct_model_find(&path, NULL);
    if (st == FCT_OK)
        st =
            fct_model_open(&model, &(fct_model_desc){.path = path, .precision = FCT_PRECISION_F32});
    if (st == FCT_OK) st = fct_model_find_blocks(&block, &n, model, "up.0.1");
    if (st == FCT_OK) st = make_sae(&sae, block[0]->channels, 8);
    if (st == FCT_OK)
        st = fct_sae_set_bind(&saes, fct_model_get_info(model), "up.0.1", &sae, false);
    if (st == FCT_OK) st = fct_session_open(&kept, model, NULL);
    if (st == FCT_OK)
        st = fct_session_open(&plain, model, &(fct_session_desc){.keep_bytes = FCT_NONE});
    if (st == FCT_OK) st = compare(kept, plain, &saes);
    if (st == FCT_OK) st = compile_once(plain, &saes);
    if (st == FCT_OK) {
        fct_session_count(kept, &a);
        fct_session_count(plain, &b);
        printf("%lld stages where moments are kept, %lld where not; %lld and %lld texts\n",
               (long long)a.stages, (long long)b.stages, (long long)a.texts, (long long)b.texts);
        if (a.stages >= b.stages || a.texts >= b.texts) st = FCT_ERR_INTERNAL;
    }
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    fct_session_close(kept);
    fct_session_close(plain);
    fct_sae_set_clear(&saes);
    fct_free(block);
    fct_free(path);
    fct_model_close(model);
    free(sae.w_enc);
    free(sae.w_dec);
    free(sae.b_enc);
    free(sae.b_dec);
    return st == FCT_OK ? 0 : 1;
}

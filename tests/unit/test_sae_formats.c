/* test_sae_formats.c - every format of SAEs on disk: there and back byte for byte, from one to
 * another, what each refuses to say, and damaged folders. */
#include <sys/stat.h>

#include "fct_test.h"
#include "sae/formats/formats.h"

enum { D = 6, F = 10, N = 30 };

static fct_sae *random_sae(fct_sae_kind kind)
{
    fct_sae *s;
    fct_rng r;
    assert_ok(fct_sae_new(&s, kind, D, F, 3));
    fct_rng_init(&r, 31);
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++)
        if (*fct_sae_part_at(s, p))
            fct_rng_normal(&r, *fct_sae_part_at(s, p), fct_sae_part_count(s, p));
    for (int f = 0; f < F && s->threshold; f++)
        s->threshold[f] = kind == FCT_SAE_BATCHTOPK ? 0.7f : fabsf(s->threshold[f]);
    assert_ok(fct_strdup(&s->block, "mid.0"));
    return s;
}

static void assert_same(const fct_sae *a, const fct_sae *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->k, b->k);
    assert_int_equal(a->normalize, b->normalize);
    assert_int_equal(a->apply_b_dec_to_input, b->apply_b_dec_to_input);
    assert_int_equal(a->dec_norm != NULL, b->dec_norm != NULL);
    assert_int_equal(a->n_groups, b->n_groups);
    for (int i = 0; i < a->n_groups; i++) assert_int_equal(a->group_size[i], b->group_size[i]);
    for (fct_sae_part p = 0; p < FCT_SAE_PART_COUNT; p++) {
        float *x = *fct_sae_part_at((fct_sae *)(uintptr_t)a, p),
              *y = *fct_sae_part_at((fct_sae *)(uintptr_t)b, p);
        assert_int_equal(x == NULL, y == NULL);
        if (x) assert_memory_equal(x, y, (size_t)fct_sae_part_count(a, p) * sizeof(float));
    }
    assert_string_equal(a->block, b->block);
    if (a->density) assert_memory_equal(a->density, b->density, F * sizeof(float));
}

typedef struct sort_of { /* an SAE of one kind, and the formats that can say it */
    fct_sae_kind kind;
    fct_sae_normalize normalize;
    bool subtract, scaled, groups;
    const char *formats;
} sort_of;

/* In the order of fct_sae_layout: saelens, sdxl-unbox, dictionary-learning, sparsify, openai. */
static const sort_of sort_table[] = {
    {FCT_SAE_TOPK, FCT_SAE_NORMALIZE_NONE, true, false, false, "yyyyn"},
    {FCT_SAE_TOPK, FCT_SAE_NORMALIZE_NONE, false, false, false, "ynnnn"},
    {FCT_SAE_TOPK, FCT_SAE_NORMALIZE_LAYER, true, false, false, "ynnny"},
    {FCT_SAE_TOPK, FCT_SAE_NORMALIZE_NORM, true, false, false, "ynnnn"},
    {FCT_SAE_RELU, FCT_SAE_NORMALIZE_NONE, true, true, false, "fnyny"},
    {FCT_SAE_RELU, FCT_SAE_NORMALIZE_NONE, true, false, false, "ynnny"},
    {FCT_SAE_RELU, FCT_SAE_NORMALIZE_NONE, false, false, false, "ynynn"},
    {FCT_SAE_JUMPRELU, FCT_SAE_NORMALIZE_NONE, false, false, false, "ynynn"},
    {FCT_SAE_JUMPRELU, FCT_SAE_NORMALIZE_NONE, true, false, false, "ynnnn"},
    {FCT_SAE_GATED, FCT_SAE_NORMALIZE_NONE, true, false, false, "ynynn"},
    {FCT_SAE_GATED, FCT_SAE_NORMALIZE_NONE, false, false, false, "ynnnn"},
    {FCT_SAE_BATCHTOPK, FCT_SAE_NORMALIZE_NONE, true, false, false, "ynynn"},
    {FCT_SAE_BATCHTOPK, FCT_SAE_NORMALIZE_NONE, true, false, true, "ynynn"},
};

static fct_sae *sae_of(const sort_of *sort)
{
    fct_sae *s = random_sae(sort->kind);
    s->normalize = sort->normalize;
    s->apply_b_dec_to_input = sort->subtract;
    if (sort->scaled) assert_ok(fct_sae_set_dec_norm(s));
    if (sort->groups) assert_ok(fct_sae_set_groups(s, (int64_t[]){2, 3, 5}, 3));
    assert_ok(fct_new(&s->density, F, sizeof *s->density));
    for (int f = 0; f < F; f++) s->density[f] = 0.01f * (float)f;
    return s;
}

static void test_there_and_back(void **state)
{
    (void)state;
    char dir[1024];
    for (size_t i = 0; i < FCT_COUNT(sort_table); i++) {
        const sort_of *sort = &sort_table[i];
        fct_sae *s = sae_of(sort), *t, *u;
        for (fct_sae_layout to = 0; to < FCT_SAE_LAYOUT_COUNT; to++) {
            snprintf(dir, sizeof dir, "%s", temp_path("there"));
            char says = sort->formats[to];
            if (says == 'n') {
                assert_fails(FCT_ERR_UNSUPPORTED, "saving ", fct_sae_save_as(s, dir, to));
                assert_false(fct_path_exists(dir));
                continue;
            }
            assert_ok(fct_sae_save_as(s, dir, to));
            assert_string_equal(fct_sae_layout_of(dir), fct_sae_layout_name(to));
            assert_ok(fct_sae_load(&t, dir, "mid.0"));
            remove_tree(dir);
            if (to == FCT_SAE_SDXL_UNBOX) assert_null(t->density); /* there is no place for it */
            if (says == 'y' && !(sort->scaled && to != FCT_SAE_DICTLEARN)) {
                if (to != FCT_SAE_SDXL_UNBOX) assert_non_null(t->density);
                float *density = s->density;
                if (to == FCT_SAE_SDXL_UNBOX) s->density = NULL;
                assert_same(s, t);
                assert_ok(fct_sae_save_as(t, dir, FCT_SAE_SAELENS)); /* A -> B -> A */
                assert_ok(fct_sae_load(&u, dir, NULL));
                if (!sort->scaled) assert_same(s, u);
                s->density = density;
                fct_sae_free(u);
                remove_tree(dir);
            }
            fct_sae_free(t);
        }
        fct_sae_free(s);
    }
}

/* ---- damaged ones ---- */

static void put(const char *dir, const char *name, const char *text)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(fct_file_write(path, text, (int64_t)strlen(text)));
}

static fct_status load_with(const char *dir, const char *name, const char *text)
{
    fct_sae *s = NULL;
    put(dir, name, text);
    fct_status st = fct_sae_load(&s, dir, NULL);
    assert_true((st == FCT_OK) == (s != NULL));
    fct_sae_free(s);
    return st;
}

static void test_bad_configs(void **state)
{
    (void)state;
    static const struct {
        fct_sae_layout layout;
        fct_sae_kind kind;
        fct_status st;
        const char *name, *text, *says;
    } row[] = {
        {FCT_SAE_SPARSIFY, FCT_SAE_TOPK, FCT_ERR_UNSUPPORTED, "cfg.json",
         "{\"activation\": \"groupmax\", \"k\": 3, \"d_in\": 6}", "activation groupmax"},
        {FCT_SAE_SPARSIFY, FCT_SAE_TOPK, FCT_ERR_UNSUPPORTED, "cfg.json",
         "{\"transcode\": true, \"k\": 3, \"d_in\": 6}", "transcode is true"},
        {FCT_SAE_SPARSIFY, FCT_SAE_TOPK, FCT_ERR_UNSUPPORTED, "cfg.json",
         "{\"input_unit_norm\": true, \"k\": 3, \"d_in\": 6}", "input_unit_norm is true"},
        {FCT_SAE_SPARSIFY, FCT_SAE_TOPK, FCT_ERR_FORMAT, "cfg.json", "{\"d_in\": 6}", "k must be"},
        {FCT_SAE_SPARSIFY, FCT_SAE_TOPK, FCT_ERR_FORMAT, "cfg.json", "{\"k\": 6}", "d_in must be"},
        {FCT_SAE_SPARSIFY, FCT_SAE_TOPK, FCT_ERR_SHAPE, "cfg.json",
         "{\"k\": 3, \"d_in\": 6, \"expansion_factor\": 2}",
         "encoder.weight: want [12,6], file has"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_UNSUPPORTED, "config.json",
         "{\"trainer\": {\"dict_class\": \"IdentityDict\", \"k\": 3}}", "dict_class IdentityDict"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_UNSUPPORTED, "config.json", "{\"trainer\": {}}",
         "dict_class (missing)"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_FORMAT, "config.json", "{}", "no `trainer`"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_FORMAT, "config.json",
         "{\"trainer\": {\"dict_class\": \"AutoEncoderTopK\", \"k\": 4}}", "the tensor k"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_MISSING, "config.json",
         "{\"trainer\": {\"dict_class\": \"GatedAutoEncoder\"}}",
         "no tensors decoder_bias, r_mag, gate_bias, mag_bias"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_MISSING, "config.json",
         "{\"trainer\": {\"dict_class\": \"MatryoshkaBatchTopKSAE\"}}",
         "no tensors W_enc, b_enc, W_dec, group_sizes"},
        {FCT_SAE_DICTLEARN, FCT_SAE_TOPK, FCT_ERR_FORMAT, "ae.pt", "not a pickle",
         "not a file from torch.save"},
        {FCT_SAE_SDXL_UNBOX, FCT_SAE_TOPK, FCT_ERR_FORMAT, "config.json",
         "{\"d_model\": 6, \"n_dirs_local\": 10}", "k is missing"},
    };
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        char dir[1024];
        fct_sae *s = random_sae(row[i].kind);
        snprintf(dir, sizeof dir, "%s", temp_path("bad"));
        assert_ok(fct_sae_save_as(s, dir, row[i].layout));
        assert_fails(row[i].st, row[i].says, load_with(dir, row[i].name, row[i].text));
        remove_tree(dir);
        fct_sae_free(s);
    }
}

/* The pickles that would run something, in every place where a pickle is read. */
static void test_hostile_pickles(void **state)
{
    (void)state;
    static const char *const hostile[] = {"eval", "getattr", "load", "object", "popen", "system"};
    static const struct {
        fct_sae_layout layout;
        const char *file;
    } place[] = {{FCT_SAE_SDXL_UNBOX, "state_dict.pth"},
                 {FCT_SAE_SDXL_UNBOX, "mean.pt"},
                 {FCT_SAE_SDXL_UNBOX, "std.pt"},
                 {FCT_SAE_DICTLEARN, "ae.pt"},
                 {FCT_SAE_OPENAI, "autoencoder.pt"}};
    for (size_t i = 0; i < FCT_COUNT(place); i++) {
        char dir[1024], path[1200], name[64], *bytes;
        int64_t n;
        fct_sae *s = random_sae(FCT_SAE_TOPK), *t;
        if (place[i].layout == FCT_SAE_OPENAI) s->normalize = FCT_SAE_NORMALIZE_LAYER;
        snprintf(dir, sizeof dir, "%s", temp_path("hostile"));
        snprintf(path, sizeof path, "%s/%s", dir, place[i].file);
        assert_ok(fct_sae_save_as(s, dir, place[i].layout));
        for (size_t h = 0; h < FCT_COUNT(hostile); h++) {
            snprintf(name, sizeof name, "vectors/hostile.%s.pth", hostile[h]);
            assert_ok(fct_file_read(&bytes, &n, test_path(name)));
            assert_ok(fct_file_write(path, bytes, n));
            assert_fails(FCT_ERR_UNSUPPORTED, place[i].file, fct_sae_load(&t, dir, NULL));
            assert_null(t);
            if (place[i].layout == FCT_SAE_OPENAI)
                assert_fails(FCT_ERR_UNSUPPORTED, place[i].file, fct_sae_load(&t, path, NULL));
            fct_free(bytes);
        }
        fct_sae_free(s);
        remove_tree(dir);
    }
}

/* One file instead of a folder: openai's, or a checkpoint one folder below its config.json. */
static void test_files(void **state)
{
    (void)state;
    char dir[1024], from[1200], to[1200];
    fct_sae *s = random_sae(FCT_SAE_BATCHTOPK), *t;
    snprintf(dir, sizeof dir, "%s", temp_path("trainer_0"));
    assert_ok(fct_sae_save_as(s, dir, FCT_SAE_DICTLEARN));
    snprintf(from, sizeof from, "%s/checkpoints", dir);
    assert_ok(fct_dir_make(from));
    snprintf(from, sizeof from, "%s/ae.pt", dir);
    snprintf(to, sizeof to, "%s/checkpoints/ae_100.pt", dir);
    assert_int_equal(rename(from, to), 0);
    assert_ok(fct_sae_load(&t, to, NULL));
    assert_same(s, t);
    fct_sae_free(t);
    snprintf(from, sizeof from, "%s/config.json", dir);
    assert_ok(fct_file_remove(from));
    assert_fails(FCT_ERR_MISSING, "cannot be told", fct_sae_load(&t, to, NULL));
    fct_sae_free(s);
    remove_tree(dir);
    s = random_sae(FCT_SAE_TOPK);
    s->normalize = FCT_SAE_NORMALIZE_LAYER;
    assert_ok(fct_sae_save_as(s, dir, FCT_SAE_OPENAI));
    snprintf(from, sizeof from, "%s/autoencoder.pt", dir);
    assert_ok(fct_sae_load(&t, from, NULL)); /* the file alone does not know the block */
    assert_null(t->block);
    assert_ok(fct_strdup(&t->block, "mid.0"));
    assert_same(s, t);
    fct_sae_free(t);
    fct_sae_free(s);
    remove_tree(dir);
}

static void test_faults(void **state)
{
    (void)state;
    char dir[1024];
    for (fct_sae_layout to = 0; to < FCT_SAE_LAYOUT_COUNT; to++) {
        fct_sae *s = random_sae(FCT_SAE_TOPK), *t;
        bool done = false;
        if (to == FCT_SAE_OPENAI) s->normalize = FCT_SAE_NORMALIZE_LAYER;
        snprintf(dir, sizeof dir, "%s", temp_path("faulty"));
        for (int64_t nth = 1; !done && nth < 100; nth++) {
            fct_fault_write(nth);
            done = fct_sae_save_as(s, dir, to) == FCT_OK;
            fct_fault_write(0);
            assert_int_equal(fct_path_exists(dir), done); /* whole or not at all */
        }
        done = false;
        for (int64_t nth = 1; !done && nth < 1000; nth++) {
            fct_fault_alloc(nth);
            done = fct_sae_load(&t, dir, NULL) == FCT_OK;
            fct_fault_alloc(0);
            if (done) fct_sae_free(t);
        }
        assert_true(done);
        remove_tree(dir);
        fct_sae_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),  cmocka_unit_test(test_bad_configs),
        cmocka_unit_test(test_hostile_pickles), cmocka_unit_test(test_files),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

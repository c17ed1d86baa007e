/* test_sae_place.c - SAE folders as places: what is kept from one layout to the other, what a new
 * SAE leaves of an old one, and where none is put. */
#include <sys/stat.h>

#include "fct_test.h"
#include "sae/sae.h"

enum { D = 6, F = 10, K = 3 };

static fct_sae *sae_of(uint64_t seed, const char *block)
{
    fct_sae *s;
    fct_rng r;
    assert_ok(fct_sae_new(&s, FCT_SAE_TOPK, D, F, K));
    fct_rng_init(&r, seed);
    fct_rng_normal(&r, s->w_enc, F * D);
    fct_rng_normal(&r, s->w_dec, F * D);
    assert_ok(fct_strdup(&s->block, block));
    return s;
}

static void set_stat(float **at, float first)
{
    assert_ok(fct_new(at, F, sizeof **at));
    for (int f = 0; f < F; f++) (*at)[f] = first + (float)f;
}

static const char *in(const char *dir, const char *name)
{
    static char path[4][1300];
    static int at;
    char *p = path[at++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

/* mean and std alone, and the block, from the authors' layout to SAELens' and back. */
static void test_converted(void **state)
{
    (void)state;
    char root[1024], theirs[1200], ours[1024], back[1024];
    fct_sae *s = sae_of(1, NULL), *t;
    snprintf(root, sizeof root, "%s", temp_path("runs"));
    snprintf(theirs, sizeof theirs, "%s/unet.up_blocks.0.attentions.1_k3_hidden10", root);
    snprintf(ours, sizeof ours, "%s", temp_path("ours"));
    snprintf(back, sizeof back, "%s", temp_path("back"));
    set_stat(&s->mean, 1);
    set_stat(&s->std, 20);
    assert_ok(fct_sae_save_as(s, theirs, FCT_SAE_SDXL_UNBOX));
    assert_false(fct_path_exists(in(theirs, "facet.json"))); /* it would say nothing */
    assert_ok(fct_sae_load(&t, theirs, NULL));
    assert_string_equal(t->block, "up.0.1");
    assert_ok(fct_sae_save(t, ours, "{\"note\": \"x\"}"));
    fct_sae_free(t);
    assert_ok(fct_sae_load(&t, ours, NULL));
    assert_true(t->has_stats && t->mean && t->std && !t->density && !t->max);
    assert_memory_equal(t->mean, s->mean, F * sizeof(float));
    assert_memory_equal(t->std, s->std, F * sizeof(float));
    assert_string_equal(t->block, "up.0.1");
    assert_ok(fct_sae_save_as(t, back, FCT_SAE_SDXL_UNBOX));
    fct_sae_free(t);
    assert_ok(fct_sae_load(&t, back, NULL)); /* the folder's name does not say the block */
    assert_string_equal(t->block, "up.0.1");
    assert_memory_equal(t->mean, s->mean, F * sizeof(float));
    assert_non_null(strstr(t->facet_json, "note"));
    fct_sae_free(t);
    char **path;
    int64_t n;
    assert_ok(fct_sae_find(&path, &n, temp_path(""), "up.0.1"));
    assert_int_equal(n, 3); /* by its name, by cfg.json, by facet.json */
    fct_free(path);
    remove_tree(root);
    remove_tree(ours);
    remove_tree(back);
    fct_sae_free(s);
}

/* New weights never lie beside the statistics of old ones; files of others stay. */
static void test_replaced(void **state)
{
    (void)state;
    for (int authors = 0; authors < 2; authors++) {
        fct_sae_layout layout = authors ? FCT_SAE_SDXL_UNBOX : FCT_SAE_SAELENS;
        fct_sae *old = sae_of(1, "mid.0"), *new = sae_of(2, "mid.0"), *t;
        char dir[1024];
        snprintf(dir, sizeof dir, "%s", temp_path("replaced"));
        set_stat(&old->mean, 1);
        set_stat(&old->std, 1);
        assert_ok(fct_sae_save_as(old, dir, layout));
        assert_ok(fct_file_write(in(dir, "notes.txt"), "x", 1));
        assert_ok(fct_sae_save_as(new, dir, layout));
        assert_ok(fct_sae_load(&t, dir, NULL));
        assert_memory_equal(t->w_enc, new->w_enc, sizeof(float) * F * D);
        assert_true(!t->has_stats && !t->mean && !t->std);
        assert_false(fct_path_exists(in(dir, authors ? "mean.pt" : "stats.safetensors")));
        assert_true(fct_path_exists(in(dir, "notes.txt")));
        fct_sae_free(t);
        fct_sae_free(new);
        fct_sae_free(old);
        remove_tree(dir);
    }
}

/* Statistics are added, nothing else is written anew. */
static void test_stats_alone(void **state)
{
    (void)state;
    static const char *const kept[2][3] = {{"cfg.json", "sae_weights.safetensors", "facet.json"},
                                           {"config.json", "state_dict.pth", "facet.json"}};
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", temp_path("alone"));
    for (int authors = 0; authors < 2; authors++) {
        fct_sae *s = sae_of(1, "mid.0"), *t;
        struct stat before[3], after;
        assert_ok(authors ? fct_sae_save_as(s, dir, FCT_SAE_SDXL_UNBOX)
                          : fct_sae_save(s, dir, NULL));
        for (int i = 0; i < 3; i++)
            assert_int_equal(stat(in(dir, kept[authors][i]), &before[i]), 0);
        set_stat(&s->mean, 3);
        set_stat(&s->std, 4);
        assert_ok(fct_sae_save_stats(s, dir));
        for (int i = 0; i < 3; i++) {
            assert_int_equal(stat(in(dir, kept[authors][i]), &after), 0);
            assert_int_equal(after.st_ino, before[i].st_ino);
        }
        assert_ok(fct_sae_load(&t, dir, NULL));
        assert_memory_equal(t->mean, s->mean, F * sizeof(float));
        assert_memory_equal(t->std, s->std, F * sizeof(float));
        fct_fault_write(1);
        assert_fails(FCT_ERR_IO, "statistics", fct_sae_save_stats(s, dir));
        fct_fault_write(0);
        fct_sae_free(t);
        assert_ok(fct_sae_load(&t, dir, NULL)); /* the old ones stay */
        assert_memory_equal(t->mean, s->mean, F * sizeof(float));
        fct_sae_free(t);
        fct_sae_free(s);
        remove_tree(dir);
    }
}

static void test_refused(void **state)
{
    (void)state;
    fct_sae *s = sae_of(1, "mid.0");
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", temp_path("place"));
    const char *const says = "is not empty and holds no SAE in the";
    assert_ok(fct_dir_make(dir));
    assert_ok(fct_sae_save(s, in(dir, "a"), NULL)); /* its parent is no place for another */
    assert_fails(FCT_ERR_ARG, says, fct_sae_save(s, dir, NULL));
    assert_fails(FCT_ERR_ARG, says, fct_sae_save_as(s, dir, FCT_SAE_SDXL_UNBOX));
    assert_false(fct_path_exists(in(dir, "cfg.json")) || fct_path_exists(in(dir, "config.json")));
    assert_fails(FCT_ERR_ARG, "sdxl-unbox layout",
                 fct_sae_save_as(s, in(dir, "a"), FCT_SAE_SDXL_UNBOX));
    assert_ok(fct_sae_save_as(s, in(dir, "b"), FCT_SAE_SDXL_UNBOX));
    assert_fails(FCT_ERR_ARG, "saelens layout", fct_sae_save(s, in(dir, "b"), NULL));
    assert_ok(fct_sae_save(s, in(dir, "a"), NULL));
    assert_int_equal(unlink(in(dir, "a/cfg.json")), 0); /* as a kill leaves it */
    assert_ok(fct_sae_save(s, in(dir, "a"), NULL));
    assert_ok(fct_dir_make(in(dir, "store")));
    assert_ok(fct_file_write(in(dir, "store/store.json"), "{}", 2));
    assert_fails(FCT_ERR_ARG, says, fct_sae_save(s, in(dir, "store"), NULL));
    assert_fails(FCT_ERR_ARG, "is a file", fct_sae_save(s, in(dir, "store/store.json"), NULL));
    remove_tree(dir);
    fct_sae_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_converted),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_stats_alone),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

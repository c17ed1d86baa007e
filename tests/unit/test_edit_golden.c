/* test_edit_golden.c - what every edit does to the final latents of the twins, against hooks on
   diffusers that apply the formulas: within rel-L2 1e-4 of the latents, and within 0.5 % of the
   edit's own effect. Prints the worst of both. */
#include "test_edit_twin.h"

static void check_case(const edit_twin *t, const fct_safetensors *golden, const json_t *c,
                       double worst[2])
{
    const char *twin = json_string_value(json_object_get(c, "twin")),
               *setting = json_string_value(json_object_get(c, "setting"));
    const char *name = json_string_value(json_object_get(c, "case"));
    const json_t *texts = json_object_get(c, "edits");
    fct_settings settings;
    fct_run_desc d;
    fct_run_item items[4];
    fct_run_result r;
    fct_edit edits[6];
    char key[96];
    size_t n = json_array_size(texts);
    for (size_t i = 0; i < n; i++) {
        assert_ok(fct_edit_parse(&edits[i], json_string_value(json_array_get(texts, i))));
        assert_ok(fct_edit_load(&edits[i], test_path("golden/edit")));
    }
    read_setting(&d, &settings, items, t, twin, setting);
    fct_status st = fct_edit_run(t->session, &d, edits, (int64_t)n, &t->saes, &r);
    if (st != FCT_OK) fail_msg("%s %s %s: %s", twin, setting, name, fct_error_text());
    snprintf(key, sizeof key, "%s/%s/%s", twin, setting, name);
    const fct_tensor *want = fct_safetensors_find(golden, key);
    snprintf(key, sizeof key, "%s/%s/clean", twin, setting);
    const fct_tensor *clean = fct_safetensors_find(golden, key);
    assert_true(want && clean && fct_tensor_count(want) == fct_tensor_count(&r.latents));
    int64_t count = fct_tensor_count(want);
    double whole = rel_l2(r.latents.data, want->data, NULL, count),
           effect = rel_l2(r.latents.data, want->data, clean->data, count);
    if (!(whole <= 1e-4 && effect <= 5e-3))
        fail_msg("%s %s %s: rel-L2 %.3g, of the effect %.3g", twin, setting, name, whole, effect);
    worst[0] = fmax(worst[0], whole);
    worst[1] = fmax(worst[1], effect);
    fct_run_result_clear(&r);
    for (size_t i = 0; i < n; i++) fct_edit_clear(&edits[i]);
}

static void check_twin(const char *name)
{
    edit_twin t;
    fct_safetensors golden;
    double worst[2] = {0, 0};
    int checked = 0;
    size_t i;
    const json_t *c;
    edit_twin_open(&t, name);
    assert_ok(fct_safetensors_open(&golden, test_path("golden/edit/edits.safetensors")));
    json_array_foreach(json_object_get(t.listed, "cases"), i, c)
    {
        if (strcmp(json_string_value(json_object_get(c, "twin")), name) != 0) continue;
        check_case(&t, &golden, c, worst);
        checked++;
    }
    print_message("  twin %s: %d cases, worst rel-L2 %.2e, worst share of the effect %.2e\n", name,
                  checked, worst[0], worst[1]);
    assert_true(checked > 0);
    fct_safetensors_close(&golden);
    edit_twin_close(&t);
}

static void test_a(void **state)
{
    (void)state;
    check_twin("a");
}

static void test_b(void **state)
{
    (void)state;
    check_twin("b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a), cmocka_unit_test(test_b)};
    return cmocka_run_group_tests_name("edit_golden", tests, NULL, temp_clear);
}

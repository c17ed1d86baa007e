/* test_vae_winograd.c - the decoder of a VAE of 128 channels and more runs Winograd's convolutions,
   told by the size of the pictures that its model makes, and draws what direct ones draw. */
#include "compute/cpu/winograd.h"
#include "fct_test.h"
#include "model/net/net.h"
#include "vae_util.h"

enum { CELLS = 64, PICTURE = 2 * CELLS }; /* latents of 64x64, two levels */

/* The cpu backend, counting. Tests run on one thread. */
static struct {
    int64_t convolutions, winograd;
} counted;

static fct_status count_conv2d(fct_cx *cx, const fct_conv2d_args *a)
{
    if (!fct_arena_dry(cx->arena)) {
        counted.convolutions += a->w->kh == 3;
        counted.winograd += cpu_winograd_takes(a);
    }
    return cpu_conv2d(cx, a);
}

static void build(fct_vae *v, const fct_backend *be, const char *folder, int64_t cells)
{
    fct_weights w = {0};
    fct_binder b = {.w = &w, .be = be, .dtype = FCT_F32, .root = "vae", .block = -1};
    *v = (fct_vae){0};
    assert_ok(fct_config_vae(&v->config, folder, NULL));
    assert_ok(fct_weights_open(&w, folder, "diffusion_pytorch_model"));
    b.check = true;
    assert_ok(fct_vae_build(v, &b, cells));
    assert_ok(fct_bind_report(&b, "vae"));
    fct_vae_clear(v);
    b.check = false;
    assert_ok(fct_vae_build(v, &b, cells));
    fct_str_clear(&b.problems);
    fct_weights_close(&w);
}

/* pixels [size,size,3] of latents [1,cells,cells,4] */
static void decode(const fct_vae *v, const fct_backend *be, float *latents, int64_t cells,
                   uint8_t *pixels)
{
    fct_arena dry = {0}, arena;
    fct_rt rt = {.dtype = FCT_F32};
    fct_tensor z = fct_tensor_of(NULL, FCT_F32, 4, (int64_t[]){1, cells, cells, 4});
    assert_ok(fct_cx_open(&rt.cx, be, NULL));
    rt.cx.arena = &dry;
    assert_ok(fct_vae_decode(&rt, v, z, NULL));
    assert_ok(fct_device_arena_init(be->device, &arena, dry.peak));
    rt.cx.arena = &arena;
    z.data = latents;
    counted.convolutions = counted.winograd = 0;
    assert_ok(fct_vae_decode(&rt, v, z, pixels));
    fct_device_arena_clear(be->device, &arena);
    fct_cx_close(&rt.cx);
}

static void test_decoder(void **state)
{
    (void)state;
    static const vae_spec wide = {.channels = {128, 256}, .levels = 2, .layers = 1};
    static uint8_t told[PICTURE * PICTURE * 3], direct[PICTURE * PICTURE * 3];
    static float latents[CELLS * CELLS * 4];
    fct_backend be = fct_backend_cpu;
    fct_vae v;
    fct_rng rng;
    char folder[1024];
    be.conv2d = count_conv2d;
    snprintf(folder, sizeof folder, "%s", temp_path("vae"));
    assert_ok(vae_write(folder, &wide));
    fct_rng_init(&rng, 2);
    fct_rng_normal(&rng, latents, CELLS * CELLS * 4);

    build(&v, &be, folder, 0);
    decode(&v, &be, latents, CELLS, direct);
    assert_int_equal(counted.winograd, 0);
    int64_t all = counted.convolutions;
    fct_vae_clear(&v);

    build(&v, &be, folder, CELLS * CELLS);
    decode(&v, &be, latents, CELLS, told);
    assert_int_equal(counted.convolutions, all);
    /* All 3x3 kernels but conv_in and conv_out, which have 4 and 3 channels on one side: two
       blocks in the middle, two at each level, each with two; and the upsampler. */
    assert_int_equal(counted.winograd, 13);
    assert_int_equal(all, 15);
    fct_vae_clear(&v);

    int64_t n = (int64_t)sizeof told, differ = 0, wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        int off = told[i] > direct[i] ? told[i] - direct[i] : direct[i] - told[i];
        differ += off != 0;
        wrong += off > 1;
    }
    print_message("  %.4f %% of the values differ, by 1\n", 100 * (double)differ / (double)n);
    assert_int_equal(wrong, 0);
    assert_true(differ < n / 1000); /* observed: .024 % */
}

/* Small pictures and few channels are none of its business, whatever is told. */
static void test_not_worth_it(void **state)
{
    (void)state;
    static const vae_spec narrow = {.channels = {64, 96}, .levels = 2, .layers = 1},
                          wide = {.channels = {128, 128}, .levels = 2, .layers = 1};
    static uint8_t pixels[PICTURE * PICTURE * 3];
    static float latents[CELLS * CELLS * 4];
    fct_backend be = fct_backend_cpu;
    fct_vae v;
    char folder[1024];
    be.conv2d = count_conv2d;
    snprintf(folder, sizeof folder, "%s", temp_path("narrow"));
    assert_ok(vae_write(folder, &narrow));
    build(&v, &be, folder, CELLS * CELLS);
    decode(&v, &be, latents, CELLS, pixels);
    assert_int_equal(counted.winograd, 0);
    fct_vae_clear(&v);
    snprintf(folder, sizeof folder, "%s", temp_path("small"));
    assert_ok(vae_write(folder, &wide));
    build(&v, &be, folder, CELLS * CELLS);
    decode(&v, &be, latents, 8, pixels);
    assert_int_equal(counted.winograd, 0); /* maps of 8x8 and 16x16 have too few tiles */
    fct_vae_clear(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decoder),
                                       cmocka_unit_test(test_not_worth_it)};
    return cmocka_run_group_tests_name("vae_winograd", tests, NULL, temp_clear);
}

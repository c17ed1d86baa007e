/* test_tensor_image.c - .npy, PNG and JPEG are read as NumPy and Pillow read them; PNG texts both
   ways; sizes; damaged files; faults. */
#include <math.h>
#include <zlib.h>

#include "fct_test.h"
#include "image/image.h"
#include "tensor/tensor.h"

static void test_npy(void **state)
{
    (void)state;
    fct_npy a;
    assert_ok(fct_npy_open(&a, test_path("vectors/f4.npy")));
    assert_int_equal(a.t.dtype, FCT_F32);
    assert_int_equal(a.t.ndim, 2);
    assert_int_equal(a.t.dim[1], 3);
    for (int i = 0; i < 6; i++) assert_true(((float *)a.t.data)[i] == (float)i);
    fct_npy_close(&a);
    assert_ok(fct_npy_open(&a, test_path("vectors/f2.npy")));
    assert_int_equal(a.t.dtype, FCT_F16);
    fct_npy_close(&a);
    assert_ok(fct_npy_open(&a, test_path("vectors/i8.npy")));
    assert_int_equal(a.t.dtype, FCT_I64);
    assert_int_equal(((int64_t *)a.t.data)[3], 3);
    fct_npy_close(&a);
    assert_ok(fct_npy_open(&a, test_path("vectors/scalar.npy")));
    assert_int_equal(a.t.ndim, 0);
    assert_true(((float *)a.t.data)[0] == 2.5f);
    fct_npy_close(&a);
    assert_fails(FCT_ERR_UNSUPPORTED, "Fortran",
                 fct_npy_open(&a, test_path("vectors/fortran.npy")));
    assert_fails(FCT_ERR_UNSUPPORTED, ">f4", fct_npy_open(&a, test_path("vectors/big.npy")));
    assert_fails(FCT_ERR_FORMAT, "not a .npy", fct_npy_open(&a, test_path("vectors/bare.pth")));
}

static void test_npy_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int data;
        const char *says;
    } row[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 8, NULL},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8, NULL},
        {"{\"descr\":\"<f4\",\"shape\":(),\"fortran_order\":True}", 4, NULL},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 7,
         "needs 8 bytes of data, the file has 7"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 12, "needs 8 bytes"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 8, "|O"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8, "record"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", 8, "fortran_order"},
        {"{'descr': '<f4', 'shape': (2,), }", 8, "missing"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", 8, "not a size"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000000000, "
         "9000000000000000000), }",
         8, "impossibly"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,2), }", 8, "dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, "unknown"},
        {"{'descr': '<f4", 8, "not closed"},
        {"{'descr' '<f4'}", 8, "want :"},
        {"", 8, "does not start"}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        _Alignas(8) uint8_t file[512] = "\x93NUMPY\1";
        size_t n = strlen(row[i].header), padded = (10 + n + 7) / 8 * 8 - 10;
        file[8] = (uint8_t)padded;
        memcpy(file + 10, row[i].header, n);
        memset(file + 10 + n, ' ', padded - n);
        fct_npy a;
        fct_status st = fct_npy_parse(&a, file, 10 + (int64_t)padded + row[i].data, "x.npy");
        if (!row[i].says)
            assert_ok(st);
        else if (st == FCT_OK || !strstr(fct_error_text(), row[i].says) ||
                 !strstr(fct_error_text(), "x.npy"))
            fail_msg("%s: want \"%s\", got %d: %s", row[i].header, row[i].says, (int)st,
                     fct_error_text());
    }
    fct_npy a;
    assert_fails(FCT_ERR_UNSUPPORTED, "version 9",
                 fct_npy_parse(&a, (const uint8_t *)"\x93NUMPY\11\0\0\0", 10, "x"));
    assert_fails(FCT_ERR_FORMAT, "cut short",
                 fct_npy_parse(&a, (const uint8_t *)"\x93NUMPY\1\0\xff\0", 10, "x"));
}

static void assert_pixels(const char *file, int64_t channels, const char *truth, int tolerance)
{
    fct_safetensors st;
    fct_image im;
    assert_ok(fct_safetensors_open(&st, test_path("vectors/pixels.safetensors")));
    const fct_tensor *t = fct_safetensors_find(&st, truth);
    assert_non_null(t);
    assert_ok(fct_image_read(&im, test_path(file), channels));
    assert_int_equal(im.height, t->dim[0]);
    assert_int_equal(im.width, t->dim[1]);
    assert_int_equal(im.channels, t->ndim == 2 ? 1 : t->dim[2]);
    for (int64_t i = 0; i < fct_tensor_count(t); i++)
        if (abs(im.pixel[i] - ((const uint8_t *)t->data)[i]) > tolerance)
            fail_msg("%s: value %d is %d, Pillow has %d", file, (int)i, im.pixel[i],
                     ((const uint8_t *)t->data)[i]);
    fct_image_clear(&im);
    fct_safetensors_close(&st);
}

static void test_pixels(void **state)
{
    (void)state;
    assert_pixels("vectors/rgb.png", 0, "rgb", 0);
    assert_pixels("vectors/rgb.png", 3, "rgb", 0);
    assert_pixels("vectors/rgb.png", 1, "rgb.grey", 0);
    assert_pixels("vectors/grey.png", 0, "grey", 0);
    assert_pixels("vectors/rgba.png", 0, "rgba", 0);
    assert_pixels("vectors/palette.png", 3, "palette", 0);
    assert_pixels("vectors/grey16.png", 0, "grey16", 0);
    assert_pixels("vectors/photo.jpg", 0, "photo", 1);
    assert_pixels("vectors/photo.jpg", 3, "photo", 1);
    fct_image im;
    /* over black: 128/255 of the value */
    assert_ok(fct_image_read(&im, test_path("vectors/rgba.png"), 3));
    assert_int_equal(im.pixel[(2 * 9 + 1) * 3], (28 * 128 + 127) / 255);
    assert_int_equal(im.pixel[3], 28);
    fct_image_clear(&im);
    assert_ok(fct_image_read(&im, test_path("vectors/grey.png"), 3));
    assert_true(im.pixel[3] == 28 && im.pixel[4] == 28 && im.pixel[5] == 28);
    fct_image_clear(&im);
}

static void test_pillow_texts(void **state)
{
    (void)state;
    fct_image im;
    char packed[301], umlauts[601];
    memset(packed, 'z', 300);
    packed[300] = '\0';
    for (int i = 0; i < 300; i++) memcpy(umlauts + 2 * i, "\xc3\xbc", 3);
    assert_ok(fct_image_read(&im, test_path("vectors/rgb.png"), 0));
    assert_string_equal(fct_image_find_text(&im, "parameters"),
                        "a cat\nSteps: 1, Sampler: Euler a, CFG scale: 1");
    assert_string_equal(fct_image_find_text(&im, "facet"),
                        "K\xc3\xa4se \xe2\x98\x95 \xe6\x97\xa5\xe6\x9c\xac");
    assert_string_equal(fct_image_find_text(&im, "packed"), packed);
    assert_string_equal(fct_image_find_text(&im, "packed8"), umlauts);
    assert_string_equal(fct_image_find_text(&im, "latin"), "\xc3\xa9");
    assert_null(fct_image_find_text(&im, "absent"));
    fct_image_clear(&im);
}

static void test_png_round_trip(void **state)
{
    (void)state;
    for (int64_t channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1) {
        fct_image im, back;
        uint8_t *a, *b;
        int64_t size, size_b;
        assert_ok(fct_image_new(&im, 13, 5, channels));
        for (int64_t i = 0; i < 13 * 5 * channels; i++) im.pixel[i] = (uint8_t)(i * 37);
        assert_ok(fct_image_set_text(&im, "parameters", "plain"));
        assert_ok(fct_image_set_text(&im, "recipe", "{\"prompt\": \"\xe7\x8c\xab\"}"));
        assert_ok(fct_image_set_text(&im, "latin", "caf\xc3\xa9"));
        assert_ok(fct_image_set_text(&im, "parameters", "replaced"));
        assert_int_equal(im.n_text, 3);
        assert_ok(fct_png_encode(&a, &size, &im));
        assert_ok(fct_png_encode(&b, &size_b, &im));
        assert_int_equal(size, size_b);
        assert_memory_equal(a, b, (size_t)size);
        assert_ok(fct_png_parse(&back, a, size, "own", 0));
        assert_int_equal(back.channels, channels);
        assert_memory_equal(back.pixel, im.pixel, (size_t)(13 * 5 * channels));
        assert_int_equal(back.n_text, 3);
        for (int64_t i = 0; i < 6; i++) assert_string_equal(back.text[i], im.text[i]);
        fct_image_clear(&back);
        for (int64_t n = 0; n < size; n += 3)
            if (fct_png_parse(&back, a, n, "cut", 0) == FCT_OK)
                fail_msg("cut at %d", (int)n);
        for (int64_t i = 8; i < size; i += 5) { /* every byte is under a checksum */
            a[i] ^= 0x10;
            if (fct_png_parse(&back, a, size, "flipped", 0) == FCT_OK)
                fail_msg("flip at %d", (int)i);
            a[i] ^= 0x10;
        }
        fct_image_clear(&im);
        fct_free(a);
        fct_free(b);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    fct_image im;
    assert_fails(FCT_ERR_FORMAT, "neither a PNG nor a JPEG",
                 fct_image_read(&im, test_path("vectors/f4.npy"), 0));
    assert_fails(FCT_ERR_FORMAT, "neither a PNG nor a JPEG", fct_image_parse(&im, "", 0, "x", 0));
    assert_fails(FCT_ERR_MISSING, "absent.png", fct_image_read(&im, temp_path("absent.png"), 0));
    assert_fails(FCT_ERR_ARG, "1, 3 or 4 channels",
                 fct_image_read(&im, test_path("vectors/rgb.png"), 2));
    assert_fails(FCT_ERR_SHAPE, "2 channels", fct_image_new(&im, 4, 4, 2));
    assert_fails(FCT_ERR_SHAPE, "0 x 4", fct_image_new(&im, 0, 4, 3));
    assert_fails(FCT_ERR_RANGE, "too large", fct_image_new(&im, 1 << 20, 1 << 20, 3));
    assert_ok(fct_image_new(&im, 1, 1, 1));
    assert_fails(FCT_ERR_ARG, "name of a text", fct_image_set_text(&im, "", "x"));
    assert_fails(FCT_ERR_ARG, "name of a text", fct_image_set_text(&im, "\xc3\xa4", "x"));
    assert_fails(FCT_ERR_IO, "no-such", fct_png_write(&im, temp_path("no-such/x.png")));
    fct_image_clear(&im);
}

/* ---- PNG files by hand ---- */

static void put_be32(fct_str *s, uint32_t v)
{
    const char b[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    assert_ok(fct_str_append_n(s, b, 4));
}

static void put_chunk(fct_str *s, const char *type, const void *data, int64_t n)
{
    put_be32(s, (uint32_t)n);
    assert_ok(fct_str_append(s, type));
    assert_ok(fct_str_append_n(s, data, n));
    put_be32(s, (uint32_t)crc32(0, (const Bytef *)s->p + s->n - n - 4, (uInt)(n + 4)));
}

/* Signature and header; type: 0 grey, 2 RGB. */
static void put_header(fct_str *s, uint32_t width, uint32_t height, char depth, char type)
{
    fct_str h = {0};
    put_be32(&h, width);
    put_be32(&h, height);
    assert_ok(fct_str_append_n(&h, (const char[]){depth, type, 0, 0, 0}, 5));
    assert_ok(fct_str_append_n(s, "\x89PNG\r\n\x1a\n", 8));
    put_chunk(s, "IHDR", h.p, h.n);
    fct_str_clear(&h);
}

/* n equal bytes, packed, behind what is in `out` already. */
static void put_packed(fct_str *out, int byte, int64_t n)
{
    uint8_t *plain = NULL, *packed = NULL;
    uLongf size = compressBound((uLong)n);
    assert_ok(fct_new_raw(&plain, n, 1));
    assert_ok(fct_new_raw(&packed, (int64_t)size, 1));
    memset(plain, byte, (size_t)n);
    assert_int_equal(compress2(packed, &size, plain, (uLong)n, 9), Z_OK);
    assert_ok(fct_str_append_n(out, (const char *)packed, (int64_t)size));
    fct_free(plain);
    fct_free(packed);
}

/* One grey pixel and `times` the same text chunk. */
static fct_status parse_text(fct_image *im, const char *type, const char *data, int64_t n,
                             int times)
{
    fct_str s = {0}, pixel = {0};
    put_header(&s, 1, 1, 8, 0);
    for (int i = 0; i < times; i++) put_chunk(&s, type, data, n);
    put_packed(&pixel, 0, 2);
    put_chunk(&s, "IDAT", pixel.p, pixel.n);
    put_chunk(&s, "IEND", NULL, 0);
    fct_status st = fct_png_parse(im, (const uint8_t *)s.p, s.n, "x.png", 0);
    fct_str_clear(&s);
    fct_str_clear(&pixel);
    return st;
}

static void test_texts_together(void **state)
{
    (void)state;
    fct_image im;
    fct_str packed = {0}, plain = {0};
    assert_ok(fct_str_append_n(&packed, "key\0\0", 5));
    put_packed(&packed, 'a', 30 << 20);
    assert_ok(parse_text(&im, "zTXt", packed.p, packed.n, 2));
    assert_int_equal(strlen(fct_image_find_text(&im, "key")), 30 << 20);
    fct_image_clear(&im);
    assert_fails(FCT_ERR_RANGE, "longer than 64 MB together",
                 parse_text(&im, "zTXt", packed.p, packed.n, 3));
    assert_ok(fct_str_append_n(&plain, "k\0", 2));
    for (int i = 0; i < 1 << 20; i++) assert_ok(fct_str_append(&plain, "\xe4\xf6\xfc\xdf"));
    assert_ok(parse_text(&im, "tEXt", plain.p, plain.n, 8));
    fct_image_clear(&im);
    assert_fails(FCT_ERR_RANGE, "longer than 64 MB together",
                 parse_text(&im, "tEXt", plain.p, plain.n, 9));
    fct_str_clear(&packed);
    fct_str_clear(&plain);
}

static void test_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } row[] = {{"caf\xc3\xa9", "caf\xc3\xa9"}, {"caf\xe9", "caf\xc3\xa9"}, {"\xff", "\xc3\xbf"}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_image im;
        fct_str s = {0};
        assert_ok(fct_str_append_n(&s, "parameters\0\0\0\0\0", 15));
        assert_ok(fct_str_append(&s, row[i].text));
        assert_ok(parse_text(&im, "iTXt", s.p, s.n, 1));
        assert_string_equal(fct_image_find_text(&im, "parameters"), row[i].want);
        fct_image_clear(&im);
        fct_str_clear(&s);
    }
    fct_image im;
    fct_str s = {0};
    assert_ok(fct_str_append_n(&s, "key\0\1\0\0\0", 8));
    put_packed(&s, 0xe9, 2);
    assert_ok(parse_text(&im, "iTXt", s.p, s.n, 1));
    assert_string_equal(fct_image_find_text(&im, "key"), "\xc3\xa9\xc3\xa9");
    fct_image_clear(&im);
    fct_str_clear(&s);
}

/* A header alone takes no memory; black pictures, which pack best, still open. */
static void test_claimed_size(void **state)
{
    (void)state;
    fct_image im;
    fct_str s = {0}, pixels = {0};
    put_header(&s, 16384, 16384, 8, 2);
    put_packed(&pixels, 0, 100);
    put_chunk(&s, "IDAT", pixels.p, pixels.n);
    put_chunk(&s, "IEND", NULL, 0);
    assert_fails(FCT_ERR_FORMAT, "far too small for 16384 x 16384 pixels",
                 fct_png_parse(&im, (const uint8_t *)s.p, s.n, "x.png", 0));
    assert_null(im.pixel);
    static const struct {
        uint32_t side;
        char depth, type;
        int64_t row; /* bytes, with that for the filter */
    } row[] = {{8192, 1, 0, 1 + 1024}, {2048, 8, 2, 1 + 6144}, {1024, 16, 2, 1 + 6144}};
    for (size_t i = 0; i < FCT_COUNT(row); i++) {
        fct_str_clear(&s);
        fct_str_clear(&pixels);
        put_header(&s, row[i].side, row[i].side, row[i].depth, row[i].type);
        put_packed(&pixels, 0, row[i].row * row[i].side);
        put_chunk(&s, "IDAT", pixels.p, pixels.n);
        put_chunk(&s, "IEND", NULL, 0);
        assert_ok(fct_png_parse(&im, (const uint8_t *)s.p, s.n, "x.png", 0));
        assert_int_equal(im.width, row[i].side);
        fct_image_clear(&im);
    }
    fct_str_clear(&s);
    fct_str_clear(&pixels);
}

/* The truth is Pillow's: its RGB values, and grey of these by the formula of Rec. 601. */
static void test_jpeg(void **state)
{
    (void)state;
    fct_safetensors st;
    fct_image grey, rgba, cut;
    char *data = NULL;
    int64_t n;
    assert_ok(fct_safetensors_open(&st, test_path("vectors/pixels.safetensors")));
    const uint8_t *photo = fct_safetensors_find(&st, "photo")->data;
    assert_ok(fct_image_read(&grey, test_path("vectors/photo.jpg"), 1));
    assert_ok(fct_image_read(&rgba, test_path("vectors/photo.jpg"), 4));
    assert_int_equal(grey.channels, 1);
    assert_int_equal(grey.n_text, 0);
    for (int64_t i = 0; i < grey.width * grey.height; i++) {
        const uint8_t *p = photo + 3 * i;
        double luma = 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
        assert_true(fabs(luma - grey.pixel[i]) < 2);
        for (int c = 0; c < 3; c++) assert_in_range(abs(rgba.pixel[4 * i + c] - p[c]), 0, 1);
        assert_int_equal(rgba.pixel[4 * i + 3], 255);
    }
    assert_ok(fct_file_read(&data, &n, test_path("vectors/photo.jpg")));
    for (int64_t k = 0; k < n; k += 7)
        if (fct_image_parse(&cut, data, k, "x.jpg", 0) == FCT_OK)
            fail_msg("the first %d bytes of a JPEG were taken for a whole one", (int)k);
        else if (!strstr(fct_error_text(), "x.jpg"))
            fail_msg("%s", fct_error_text());
    fct_free(data);
    fct_image_clear(&grey);
    fct_image_clear(&rgba);
    fct_safetensors_close(&st);
}

/* By hand: a grey picture of 4 x 2, halved, cut unevenly, and doubled. */
static void test_resize(void **state)
{
    (void)state;
    static const uint8_t pixels[8] = {0, 100, 200, 40, 20, 80, 0, 160};
    fct_image im, out;
    assert_ok(fct_image_new(&im, 4, 2, 1));
    memcpy(im.pixel, pixels, sizeof pixels);
    assert_ok(fct_image_resize(&out, &im, 2, 1));
    assert_int_equal(out.pixel[0], 50);
    assert_int_equal(out.pixel[1], 100);
    fct_image_clear(&out);
    assert_ok(fct_image_resize(&out, &im, 3, 2)); /* a new pixel covers 4/3 of an old one */
    assert_int_equal(out.pixel[0], 25);           /* (0 + 100/3) / (4/3) */
    assert_int_equal(out.pixel[1], 150);          /* (100 * 2/3 + 200 * 2/3) / (4/3) */
    assert_int_equal(out.pixel[2], 80);           /* (200/3 + 40) / (4/3) */
    fct_image_clear(&out);
    assert_ok(fct_image_resize(&out, &im, 8, 4));
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 8; x++)
            assert_int_equal(out.pixel[y * 8 + x], pixels[y / 2 * 4 + x / 2]);
    fct_image_clear(&out);
    assert_fails(FCT_ERR_SHAPE, "0 x 4", fct_image_resize(&out, &im, 0, 4));
    fct_image_clear(&im);
    assert_ok(fct_image_new(&im, 2, 1, 3));
    memcpy(im.pixel, (const uint8_t[]){10, 20, 30, 30, 60, 90}, 6);
    assert_ok(fct_image_resize(&out, &im, 1, 1));
    assert_memory_equal(out.pixel, ((const uint8_t[]){20, 40, 60}), 3);
    fct_image_clear(&out);
    fct_image_clear(&im);
}

static void test_faults(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s", temp_path("f.png"));
    fct_image im;
    assert_ok(fct_image_read(&im, test_path("vectors/rgb.png"), 0));
    for (int kind = 0; kind < 2; kind++) {
        for (int64_t nth = 1;; nth++) {
            if (kind == 0)
                fct_fault_write(nth);
            else
                fct_fault_alloc(nth);
            fct_status st = fct_png_write(&im, path);
            fct_fault_write(0);
            fct_fault_alloc(0);
            if (st == FCT_OK) {
                assert_true(nth > 3);
                break;
            }
            assert_int_equal(st, kind == 0 ? FCT_ERR_IO : FCT_ERR_MEMORY);
            assert_false(fct_path_exists(path));
        }
        assert_ok(fct_file_remove(path));
    }
    fct_image_clear(&im);
    for (int64_t nth = 1;; nth++) {
        fct_fault_alloc(nth);
        fct_status st = fct_image_read(&im, test_path("vectors/rgb.png"), 1);
        fct_fault_alloc(0);
        if (st == FCT_OK) {
            assert_true(nth > 10);
            fct_image_clear(&im);
            break;
        }
        assert_int_equal(st, FCT_ERR_MEMORY);
        assert_null(im.pixel);
    }
}

/* Writes the picture that tests/python checks with Pillow. */
static int write_sample(const char *path)
{
    fct_image im;
    fct_status st = fct_image_new(&im, 9, 7, 3);
    for (int64_t i = 0; st == FCT_OK && i < 9 * 7 * 3; i++) im.pixel[i] = (uint8_t)(i * 3);
    if (st == FCT_OK) st = fct_image_set_text(&im, "parameters", "a caf\xc3\xa9\nSteps: 1");
    if (st == FCT_OK) st = fct_image_set_text(&im, "facet", "{\"prompt\": \"\xe7\x8c\xab\"}");
    if (st == FCT_OK) st = fct_png_write(&im, path);
    fct_image_clear(&im);
    return st != FCT_OK;
}

int main(int argc, char **argv)
{
    if (argc == 2) return write_sample(argv[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npy),
                                       cmocka_unit_test(test_npy_malformed),
                                       cmocka_unit_test(test_pixels),
                                       cmocka_unit_test(test_pillow_texts),
                                       cmocka_unit_test(test_png_round_trip),
                                       cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_texts_together),
                                       cmocka_unit_test(test_not_utf8),
                                       cmocka_unit_test(test_claimed_size),
                                       cmocka_unit_test(test_jpeg),
                                       cmocka_unit_test(test_resize),
                                       cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

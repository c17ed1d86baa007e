/* test_store_order.c - rows as training gets them: how well a bounded buffer mixes, several blocks
   in step, files in place of stores, 8-bit rows, and rows that nothing should be trained on. */
#include "facet/store.h"
#include "fct_test.h"
#include "store/store.h"

/* ---- a store of three blocks: row r of block b holds r + b/4 in every place ---- */

enum { N = 20000, D = 4, RUN = 64 };
static float data[N * 8];
static char name_rows[] = "rows";

static void write_rows(const char *path, int64_t n, int64_t d, fct_dtype dtype)
{
    static uint8_t packed[N * 8 * 8];
    if (dtype <= FCT_F64) assert_ok(fct_convert(packed, dtype, data, FCT_F32, n * d));
    fct_tensor_entry e = {name_rows, fct_tensor_of(packed, dtype, 2, (int64_t[]){n, d})};
    assert_ok(fct_safetensors_write(path, &e, 1, NULL));
}

static void import_block(const char *store, const char *block, int64_t n, int64_t d, float add)
{
    const char *const file[] = {temp_path("in.safetensors")};
    for (int64_t i = 0; i < n * d; i++) data[i] = (float)(i / d) + add;
    write_rows(file[0], n, d, FCT_F32);
    assert_ok(fct_store_import(&(fct_import_desc){.files = file,
                                                  .n_files = 1,
                                                  .block = block,
                                                  .out = temp_path(store),
                                                  .shard_bytes = 1000 * d * 4}));
}

static void read_all(fct_row_source *r, int64_t want, int64_t *which)
{
    const float *x;
    int64_t n, at = 0;
    for (;;) {
        assert_ok(r->next(r->self, want, &x, &n));
        if (n == 0) break;
        for (int64_t i = 0; i < n; i++) which[at++] = (int64_t)x[i * r->d];
    }
    assert_int_equal(at, r->total);
}

/* The buffer holds 4096 of 20,000 rows, 64 runs of 64. A uniform permutation of all rows has a mean
   distance of neighbours of N/3, a share of 64/N of neighbours from one run, and 512 rows of about
   250 runs; a buffer cannot have more runs in a batch than it holds. */
static void test_mixing(void **state)
{
    (void)state;
    static int64_t order[N], again[N];
    static int seen[N / RUN + 1];
    fct_store *s;
    fct_row_source r;
    enum { BUFFER = 4096, BATCH = 512 };
    import_block("mix", "x", N, D, 0);
    assert_ok(fct_store_open(&s, temp_path("mix")));
    const fct_rows_desc desc = {
        .order = FCT_ORDER_SHUFFLED, .seed = 9, .memory_bytes = BUFFER * D * 4};
    assert_ok(fct_store_rows(&r, s, &desc));
    read_all(&r, 333, order);
    double distance = 0, same = 0, least = 1e9;
    for (int64_t i = 1; i < N; i++) {
        distance += fabs((double)(order[i] - order[i - 1])) / (N - 1);
        same += (order[i] / RUN == order[i - 1] / RUN) / (double)(N - 1);
    }
    for (int64_t b = 0; b + BATCH <= BUFFER * (N / BUFFER); b += BATCH) {
        double runs = 0;
        memset(seen, 0, sizeof seen);
        for (int64_t i = b; i < b + BATCH; i++) runs += seen[order[i] / RUN]++ == 0;
        if (runs < least) least = runs;
    }
    assert_true(fabs(distance / (N / 3.0) - 1) < 0.05); /* observed 0.981 */
    assert_true(same < 1.25 * RUN / (double)BUFFER);    /* observed 0.0159, chance is 0.0156 */
    assert_true(least >= 60);                           /* of the 64 in the buffer; observed 64 */
    /* from any place on, a new source gives the same rows */
    for (int64_t at = 0; at < N; at += 3001) {
        uint8_t blob[64];
        const float *x;
        int64_t n;
        fct_row_source other;
        assert_ok(r.rewind(r.self, 0));
        for (int64_t left = at; left > 0; left -= n) assert_ok(r.next(r.self, left, &x, &n));
        assert_ok(r.tell(r.self, blob));
        assert_ok(fct_store_rows(&other, s, &desc));
        assert_ok(other.seek(other.self, blob));
        for (int64_t i = at; i < N; i += n) {
            assert_ok(other.next(other.self, 100, &x, &n));
            for (int64_t k = 0; k < n; k++) again[i + k] = (int64_t)x[k * D];
        }
        assert_memory_equal(order + at, again + at, (size_t)(N - at) * sizeof *order);
        other.close(other.self);
    }
    r.close(r.self);
    fct_store_close(s);
    remove_tree(temp_path("mix"));
}

/* ---- several blocks in step ---- */

static void test_blocks_in_step(void **state)
{
    (void)state;
    fct_store *s;
    fct_row_source r, one;
    const float *x, *part[3], *y;
    int64_t n, m, done = 0;
    import_block("many", "a", 3000, D, 0);
    import_block("many", "b", 3000, 2, 0.25f);
    import_block("many", "c", 3000, 3, 0.5f);
    import_block("many", "short", 2999, 3, 0);
    assert_ok(fct_store_open(&s, temp_path("many")));
    fct_rows_desc desc = {.block = "b,a,c", .order = FCT_ORDER_SHUFFLED, .seed = 4};
    for (int small = 0; small < 2; small++) {
        desc.memory_bytes = small ? 640 * (D + 2 + 3) * 4 : 0;
        desc.block = "b,a,c";
        assert_ok(fct_store_rows(&r, s, &desc));
        desc.block = "a"; /* one block alone comes in the same order where the buffer holds all */
        assert_ok(fct_store_rows(&one, s, &desc));
        assert_int_equal(r.n_parts, 3);
        assert_int_equal(r.d, 9);
        assert_string_equal(r.part[0].name, "b");
        assert_int_equal(r.part[2].d, 3);
        for (done = 0;; done += n) {
            bool apart = done / 100 % 2;
            assert_ok(apart ? r.next_parts(r.self, 100, part, &n) : r.next(r.self, 100, &x, &n));
            assert_ok(one.next(one.self, n > 0 ? n : 1, &y, &m));
            if (n == 0) break;
            for (int64_t i = 0; i < n; i++) {
                float b = apart ? part[0][i * 2 + 1] : x[i * 9 + 1],
                      a = apart ? part[1][i * D + 3] : x[i * 9 + 2 + 3],
                      c = apart ? part[2][i * 3 + 2] : x[i * 9 + 6 + 2];
                assert_true(b == a + 0.25f && c == a + 0.5f);
                if (!small) assert_true(y[i * D] == a);
            }
        }
        assert_int_equal(done, 3000);
        r.close(r.self);
        one.close(one.self);
    }
    desc.block = "a,short";
    assert_fails(FCT_ERR_ARG, "cannot be read in step: 3000 rows", fct_store_rows(&r, s, &desc));
    desc.block = "a,a";
    assert_fails(FCT_ERR_ARG, "named twice", fct_store_rows(&r, s, &desc));
    desc.block = "a,nowhere";
    assert_fails(FCT_ERR_MISSING, "no block nowhere; it has a b c short",
                 fct_store_rows(&r, s, &desc));
    fct_store_close(s);
    remove_tree(temp_path("many"));
}

/* ---- blocks on different grids in step ---- */

static void test_grids(void **state)
{
    (void)state;
    /* a map of 4x6 cells beside one of 2x3 and one of 3x2; rows say which map and cell they are */
    const fct_grid fine = {4, 6}, half = {2, 3}, odd = {3, 2};
    for (int64_t row = 0; row < 5 * 24; row++) {
        int64_t map = row / 24, y = row % 24 / 6, x = row % 6;
        assert_int_equal(fct_grid_row(row, fine, fine), row);
        assert_int_equal(fct_grid_row(row, fine, half), map * 6 + y / 2 * 3 + x / 2);
        assert_int_equal(fct_grid_row(row, fine, odd), map * 6 + y * 3 / 4 * 2 + x / 3);
    }
    for (int64_t first = 0; first < 60; first += 7) {
        int64_t from = first, n = 31;
        fct_grid_range(&from, &n, fine, half);
        for (int64_t row = first; row < first + 31; row++) {
            int64_t own = fct_grid_row(row, fine, half);
            assert_true(own >= from && own < from + n);
        }
    }
    fct_grid best = fct_grid_finest(fct_grid_finest(half, fine), odd);
    assert_true(best.h == 4 && best.w == 6);
}

/* ---- files in place of stores ---- */

static void test_files(void **state)
{
    (void)state;
    static const fct_dtype types[] = {FCT_F16, FCT_BF16, FCT_F32, FCT_F64};
    const char *path = temp_path("file.safetensors");
    static int64_t order[N];
    fct_store *s;
    fct_row_source r;
    for (size_t t = 0; t < FCT_COUNT(types); t++) {
        for (int64_t i = 0; i < 200 * D; i++) data[i] = (float)(i / D); /* exact in all four */
        write_rows(path, 200, D, types[t]);
        assert_ok(fct_store_open_rows(&s, path, &(fct_rows_file_desc){.block = "up.0.1"}));
        assert_ok(fct_store_rows(&r, s, &(fct_rows_desc){.block = "up.0.1"}));
        assert_int_equal(r.d, D);
        assert_string_equal(r.part[0].name, "up.0.1");
        read_all(&r, 17, order);
        for (int64_t i = 0; i < 200; i++) assert_int_equal(order[i], i);
        r.close(r.self);
        fct_store_close(s);
    }
    write_rows(path, 0, D, FCT_F32);
    assert_fails(FCT_ERR_ARG, "there are no rows in it", fct_store_open(&s, path));
    write_rows(path, 3, D, FCT_I32);
    assert_fails(FCT_ERR_FORMAT, "want rows in floating point", fct_store_open(&s, path));
    assert_fails(FCT_ERR_MISSING, "no tensor acts",
                 fct_store_open_rows(&s, path, &(fct_rows_file_desc){.tensor = "acts"}));
    unlink(path);
    assert_fails(FCT_ERR_MISSING, "no store in it", fct_store_open(&s, path));
}

/* ---- 8 bits with a scale for each row ---- */

static void test_eight_bits(void **state)
{
    (void)state;
    enum { ROWS = 300, WIDE = 100 };
    static float x[ROWS * WIDE], y[ROWS * WIDE];
    double squares = 0, error = 0;
    fct_rng rng;
    fct_store *s;
    fct_rng_init(&rng, 3);
    fct_rng_normal(&rng, x, ROWS * WIDE);
    for (int64_t i = 0; i < ROWS * WIDE; i++) /* rows of very different size; row 7 is all zero */
        x[i] *= i / WIDE == 7 ? 0 : powf(10, (float)(i / WIDE % 9) - 4);
    fct_tensor_entry e = {name_rows, fct_tensor_of(x, FCT_F32, 2, (int64_t[]){ROWS, WIDE})};
    const char *const file[] = {temp_path("in.safetensors")};
    assert_ok(fct_safetensors_write(file[0], &e, 1, NULL));
    assert_ok(fct_store_import(&(fct_import_desc){.files = file,
                                                  .n_files = 1,
                                                  .store_dtype = FCT_STORE_I8,
                                                  .out = temp_path("bytes"),
                                                  .shard_bytes = 64 * WIDE}));
    assert_ok(fct_store_open(&s, temp_path("bytes")));
    assert_int_equal(fct_store_get_info(s)->dtype, FCT_I8);
    assert_ok(fct_store_read(s, 0, 0, ROWS, y, NULL));
    for (int64_t r = 0; r < ROWS; r++) {
        double most = 0;
        for (int64_t i = 0; i < WIDE; i++) most = fmax(most, fabs((double)x[r * WIDE + i]));
        for (int64_t i = 0; i < WIDE; i++) {
            double v = x[r * WIDE + i], e1 = v - (double)y[r * WIDE + i];
            assert_true(fabs(e1) <= most / 127 / 2 * 1.00001);
            squares += v * v;
            error += e1 * e1;
        }
    }
    double told = fct_store_get_info(s)->block[0].rounding_error, is = sqrt(error / squares);
    assert_true(fabs(told / is - 1) < 1e-9); /* f64 sums in another order */
    assert_true(is > 0.004 && is < 0.008); /* 100 normal numbers: max 2.5 σ, /127/√12: 0.0057 */
    fct_row_source r;
    const float *rows;
    int64_t n;
    assert_ok(fct_store_rows(&r, s, &(fct_rows_desc){0}));
    assert_ok(r.next(r.self, ROWS, &rows, &n));
    assert_int_equal(n, ROWS);
    assert_memory_equal(rows, y, sizeof y);
    r.close(r.self);
    fct_store_close(s);
    remove_tree(temp_path("bytes"));
}

/* ---- what nothing should be trained on ---- */

static void test_bad_rows(void **state)
{
    (void)state;
    fct_store *s;
    fct_row_source r;
    const float *x;
    int64_t n;
    fct_status st = FCT_OK;
    import_block("bad", "up.0.1", 500, D, 0);
    /* shards of 1000 rows: the only one is replaced by one that holds a NaN in row 321 */
    char path[1100];
    snprintf(path, sizeof path, "%s/up.0.1/00000.safetensors", temp_path("bad"));
    data[321 * D + 2] = NAN;
    write_rows(path, 500, D, FCT_F32);
    for (int shuffled = 0; shuffled < 2; shuffled++) {
        assert_ok(fct_store_open(&s, temp_path("bad")));
        assert_ok(fct_store_rows(
            &r, s,
            &(fct_rows_desc){.order = shuffled ? FCT_ORDER_SHUFFLED : FCT_ORDER_SEQUENTIAL}));
        do st = r.next(r.self, 50, &x, &n);
        while (st == FCT_OK && n > 0);
        assert_fails(FCT_ERR_RANGE, "block up.0.1, row 321 holds a number that is not finite", st);
        r.close(r.self);
        fct_store_close(s);
    }
    data[321 * D + 2] = 0;
    data[5] = INFINITY;
    assert_ok(fct_rows_of_memory(&r, data, 500, D, &(fct_rows_desc){0}));
    assert_fails(FCT_ERR_RANGE, "row 1 holds", r.next(r.self, 50, &x, &n));
    r.close(r.self);
    /* half a shard, and none at all */
    assert_int_equal(truncate(path, 4000), 0);
    assert_ok(fct_store_open(&s, temp_path("bad")));
    assert_fails(FCT_ERR_FORMAT, "cut short: it has 4000 bytes, its 500 rows alone need 8000",
                 fct_store_rows(&r, s, &(fct_rows_desc){0}));
    unlink(path);
    assert_fails(FCT_ERR_MISSING, "00000.safetensors", fct_store_rows(&r, s, &(fct_rows_desc){0}));
    fct_store_close(s);
    remove_tree(temp_path("bad"));
    assert_ok(fct_dir_make(temp_path("none")));
    snprintf(path, sizeof path, "%s/store.json", temp_path("none"));
    static const char empty[] =
        "{\"format\": \"facet-store\", \"version\": 1, \"dtype\": \"f16\", \"blocks\": [{\"name\": "
        "\"x\", \"d\": 2, \"rows\": 0, \"shards\": []}]}";
    assert_ok(fct_file_write(path, empty, sizeof empty - 1));
    assert_ok(fct_store_open(&s, temp_path("none")));
    assert_fails(FCT_ERR_ARG, "block x has no rows", fct_store_rows(&r, s, &(fct_rows_desc){0}));
    fct_store_close(s);
    remove_tree(temp_path("none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixing),     cmocka_unit_test(test_blocks_in_step),
        cmocka_unit_test(test_grids),      cmocka_unit_test(test_files),
        cmocka_unit_test(test_eight_bits), cmocka_unit_test(test_bad_rows),
    };
    return cmocka_run_group_tests(tests, NULL, temp_clear);
}

/* open.c - opens a store on disk and reads it: store.json is checked whole at once, shards are
   mapped when their first row is wanted. */
#include <string.h>

#include "store/tar_rows.h"

typedef struct shard_map {
    char *file;
    int64_t first, rows;
    bool open;
    fct_safetensors st;
    fct_tensor data;    /* [rows,D] */
    const float *scale; /* [rows], of i8 rows; else NULL */
} shard_map;

typedef struct block_map {
    char *name, *full_name;
    shard_map *shard;
    int64_t n_shards;
} block_map;

struct fct_store {
    fct_store_info info;
    char *path, *text;
    json_t *json; /* owns most strings of info */
    fct_store_block *block;
    block_map *map; /* [n_blocks] */
    fct_prompt *prompt;
    fct_rows_file file; /* of a store that is a file of rows */
    fct_tar_rows *tar;  /* of one that is an archive */
};

void fct_store_close(fct_store *s)
{
    if (!s) return;
    for (int64_t b = 0; s->map && b < s->info.n_blocks; b++) {
        block_map *m = &s->map[b];
        for (int64_t i = 0; m->shard && i < m->n_shards; i++) {
            if (m->shard[i].open) fct_safetensors_close(&m->shard[i].st);
            fct_free(m->shard[i].file);
        }
        fct_free(m->shard);
        fct_free(m->name);
        fct_free(m->full_name);
    }
    fct_free(s->map);
    fct_free(s->block);
    fct_free(s->prompt);
    fct_free(s->path);
    fct_free(s->text);
    fct_rows_file_close(&s->file);
    fct_tar_rows_close(s->tar);
    json_decref(s->json);
    fct_free(s);
}

const fct_store_info *fct_store_get_info(const fct_store *s)
{
    return &s->info;
}

/* ---- store.json ---- */

static fct_status read_shards(block_map *m, int64_t *out_rows, const json_t *j, const char *where)
{
    const json_t *list = json_object_get(j, "shards");
    if (!json_is_array(list)) return fct_fail(FCT_ERR_FORMAT, "%s: shards: want a list", where);
    m->n_shards = (int64_t)json_array_size(list);
    FCT_TRY(fct_new(&m->shard, m->n_shards, sizeof *m->shard));
    *out_rows = 0;
    for (int64_t i = 0; i < m->n_shards; i++) {
        const json_t *o = json_array_get(list, (size_t)i);
        const char *file;
        shard_map *s = &m->shard[i];
        if (!json_is_object(o))
            return fct_fail(FCT_ERR_FORMAT, "%s: shard %lld: want an object", where, (long long)i);
        FCT_TRY(fct_json_str(&file, o, "file", "", where));
        FCT_TRY(fct_json_i64(&s->rows, o, "rows", -1, where));
        FCT_TRY(fct_store_check_name(file));
        if (s->rows < 0)
            return fct_fail(FCT_ERR_FORMAT, "%s: shard %s: rows are missing", where, file);
        FCT_TRY(fct_strdup(&s->file, file));
        s->first = *out_rows;
        FCT_TRY(fct_add_i64(out_rows, *out_rows, s->rows));
    }
    return FCT_OK;
}

static fct_status read_block(fct_store_block *b, block_map *m, const json_t *j, const char *where)
{
    int64_t rows;
    const char *name, *full;
    if (!json_is_object(j)) return fct_fail(FCT_ERR_FORMAT, "%s: blocks: want objects", where);
    FCT_TRY(fct_json_str(&name, j, "name", "", where));
    FCT_TRY(fct_json_str(&full, j, "full_name", name, where));
    FCT_TRY(fct_where(fct_store_check_name(name), "%s", where));
    FCT_TRY(fct_strdup(&m->name, name));
    FCT_TRY(fct_strdup(&m->full_name, full));
    b->name = m->name;
    b->full_name = m->full_name;
    FCT_TRY(fct_json_i64(&b->d, j, "d", 0, where));
    FCT_TRY(fct_json_i64(&b->rows, j, "rows", -1, where));
    FCT_TRY(fct_json_i64(&b->rows_per_prompt, j, "rows_per_prompt", 0, where));
    FCT_TRY(fct_json_f64(&b->rounding_error, j, "rounding_error", -1, where));
    const json_t *grid = json_object_get(j, "grid");
    if (json_is_array(grid) && json_array_size(grid) == 2) {
        b->grid_h = json_integer_value(json_array_get(grid, 0));
        b->grid_w = json_integer_value(json_array_get(grid, 1));
    }
    if (b->d < 1 || b->d > INT32_MAX || b->rows_per_prompt < 0 || b->grid_h < 0 ||
        b->grid_h > INT16_MAX || b->grid_w < 0 || b->grid_w > INT16_MAX) /* shards: yx is int16 */
        return fct_fail(FCT_ERR_FORMAT, "%s: block %s: d, rows_per_prompt or grid is not possible",
                        where, name);
    FCT_TRY(read_shards(m, &rows, j, where));
    int64_t bytes; /* as f32, the widest type: every product of rows and width fits from here on */
    if (fct_mul_i64(&bytes, rows, b->d * (int64_t)sizeof(float)) != FCT_OK)
        return fct_fail(FCT_ERR_FORMAT, "%s: block %s: %lld rows of %lld numbers are not possible",
                        where, name, (long long)rows, (long long)b->d);
    if (rows != b->rows)
        return fct_fail(FCT_ERR_FORMAT,
                        "%s: block %s: the shards have %lld rows together, not %lld", where, name,
                        (long long)rows, (long long)b->rows);
    return FCT_OK;
}

static fct_status read_blocks(fct_store *s, const char *where)
{
    const json_t *list = json_object_get(s->json, "blocks");
    if (!json_is_array(list) || json_array_size(list) == 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: blocks: want a list", where);
    int64_t n = (int64_t)json_array_size(list);
    FCT_TRY(fct_new(&s->block, n, sizeof *s->block));
    FCT_TRY(fct_new(&s->map, n, sizeof *s->map));
    s->info.n_blocks = n;
    s->info.block = s->block;
    for (int64_t b = 0; b < n; b++)
        FCT_TRY(read_block(&s->block[b], &s->map[b], json_array_get(list, (size_t)b), where));
    return FCT_OK;
}

static fct_status read_prompts(fct_store *s, const char *where)
{
    const json_t *list = json_object_get(s->json, "prompts");
    int64_t n = (int64_t)json_array_size(list);
    FCT_TRY(fct_new(&s->prompt, n, sizeof *s->prompt));
    for (int64_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, (size_t)i);
        int64_t seed;
        if (!json_is_object(o))
            return fct_fail(FCT_ERR_FORMAT, "%s: prompt %lld: want an object", where, (long long)i);
        FCT_TRY(fct_json_str(&s->prompt[i].text, o, "text", "", where));
        FCT_TRY(fct_json_i64(&seed, o, "seed", 0, where));
        s->prompt[i].seed = (uint64_t)seed;
        s->prompt[i].has_seed = true;
    }
    s->info.prompt = s->prompt;
    s->info.n_prompts = n;
    return FCT_OK;
}

static fct_status read_description(fct_store *s, const char *where)
{
    const char *format, *dtype;
    int64_t version;
    if (!json_is_object(s->json)) return fct_fail(FCT_ERR_FORMAT, "%s: want an object", where);
    FCT_TRY(fct_json_str(&format, s->json, "format", "", where));
    FCT_TRY(fct_json_i64(&version, s->json, "version", 0, where));
    if (strcmp(format, FCT_STORE_FORMAT) != 0)
        return fct_fail(FCT_ERR_FORMAT, "%s: format is not " FCT_STORE_FORMAT, where);
    if (version != FCT_STORE_VERSION)
        return fct_fail(FCT_ERR_UNSUPPORTED, "%s: version %lld, this program reads version %d",
                        where, (long long)version, FCT_STORE_VERSION);
    FCT_TRY(fct_json_str(&dtype, s->json, "dtype", "", where));
    FCT_TRY(fct_where(fct_dtype_find(&s->info.dtype, dtype), "%s", where));
    if (!fct_store_has_dtype(s->info.dtype))
        return fct_fail(FCT_ERR_FORMAT, "%s: dtype %s: want " FCT_STORE_DTYPES, where, dtype);
    const json_t *model = json_object_get(s->json, "model"),
                 *options = json_object_get(s->json, "options");
    if (json_is_object(model)) FCT_TRY(fct_json_str(&s->info.model, model, "name", NULL, where));
    if (json_is_object(model))
        FCT_TRY(fct_json_str(&s->info.model_hash, model, "hash", NULL, where));
    if (json_is_object(options)) FCT_TRY(fct_json_str(&s->info.what, options, "what", NULL, where));
    FCT_TRY(read_blocks(s, where));
    return read_prompts(s, where);
}

const fct_tar_rows *fct_store_tar(const fct_store *s)
{
    return s->tar;
}

/* "out/unet.mid_block.attentions.0.tar" is of block mid.0; `block`: what the user says it is. A
   name that speaks of another block is taken for a slip. */
static fct_status name_of_tar(char **out, const char *path, const char *block)
{
    char *stem = NULL, *named = NULL, *given = NULL;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_strdup(&stem, fct_path_base(path)));
    stem[strlen(stem) - 4] = '\0';
    FCT_TRY_OUT(fct_block_name_short(&named, stem));
    if (block) FCT_TRY_OUT(fct_block_name_short(&given, block));
    if (given && strcmp(named, stem) != 0 && strcmp(named, given) != 0)
        FCT_TRY_OUT(fct_fail(
            FCT_ERR_ARG, "%s is named for block %s, not for %s: name no block, or rename the file",
            path, named, given));
    FCT_TRY_OUT(fct_strdup(out, block ? block : named));
out:
    fct_free(stem);
    fct_free(named);
    fct_free(given);
    return st;
}

/* A file of rows, seen as a store of one block with one shard that is open already. */
static fct_status open_file(fct_store *s, const char *path, const fct_rows_file_desc *desc)
{
    bool tar = fct_has_suffix(path, ".tar");
    if (tar) {
        FCT_TRY(fct_tar_rows_open(&s->tar, path, desc->tensor));
        s->file.rows =
            fct_tensor_of(NULL, fct_tar_rows_dtype(s->tar), 2,
                          (int64_t[]){fct_tar_rows_count(s->tar), fct_tar_rows_width(s->tar)});
    } else {
        FCT_TRY(fct_rows_file_open(&s->file, path, desc->tensor));
    }
    FCT_TRY(fct_new(&s->block, 1, sizeof *s->block));
    FCT_TRY(fct_new(&s->map, 1, sizeof *s->map));
    s->info.block = s->block;
    s->info.n_blocks = 1;
    s->info.dtype = s->file.rows.dtype;
    FCT_TRY(fct_new(&s->map->shard, 1, sizeof *s->map->shard));
    s->map->n_shards = 1;
    if (tar)
        FCT_TRY(name_of_tar(&s->map->name, path, desc->block));
    else
        FCT_TRY(fct_strdup(&s->map->name, desc->block ? desc->block : "rows"));
    *s->block = (fct_store_block){.name = s->map->name,
                                  .full_name = s->map->name,
                                  .d = s->file.rows.dim[1],
                                  .rows = s->file.rows.dim[0],
                                  .rounding_error = -1};
    s->map->shard[0].rows = s->block->rows;
    s->map->shard[0].data = s->file.rows;
    return s->block->rows > 0 ? FCT_OK : fct_fail(FCT_ERR_ARG, "%s: there are no rows in it", path);
}

static fct_status open_folder(fct_store *s, const char *dir)
{
    fct_status st = FCT_OK;
    fct_store_kind kind;
    char *path = NULL;
    int64_t n;
    FCT_TRY(fct_store_dir_kind(&kind, dir));
    if (kind == FCT_DIR_UNFINISHED)
        return fct_fail(FCT_ERR_MISSING,
                        "%s: the capture is not finished: the same command continues it", dir);
    if (kind != FCT_DIR_STORE)
        return fct_fail(FCT_ERR_MISSING, "%s: no store in it (no store.json)", dir);
    FCT_TRY_OUT(fct_store_path(&path, dir, NULL, "store.json"));
    FCT_TRY_OUT(fct_file_read(&s->text, &n, path));
    FCT_TRY_OUT(fct_json_parse(&s->json, s->text, n, path));
    s->info.json = s->text;
    FCT_TRY_OUT(read_description(s, path));
out:
    fct_free(path);
    return st;
}

fct_status fct_store_open_rows(fct_store **out, const char *path, const fct_rows_file_desc *desc)
{
    static const fct_rows_file_desc none = {0};
    fct_status st = FCT_OK;
    fct_store *s = NULL;
    *out = NULL;
    FCT_TRY(fct_new(&s, 1, sizeof *s));
    FCT_TRY_OUT(fct_strdup(&s->path, path));
    s->info.path = s->path;
    if (fct_path_exists(path) && !fct_path_is_dir(path))
        FCT_TRY_OUT(open_file(s, path, desc ? desc : &none));
    else if (desc && desc->tensor && fct_path_exists(path))
        FCT_TRY_OUT(fct_fail(FCT_ERR_ARG, "%s: tensor %s: a store's rows have their own name", path,
                             desc->tensor));
    else
        FCT_TRY_OUT(open_folder(s, path));
    *out = s;
    s = NULL;
out:
    fct_store_close(s);
    return st;
}

fct_status fct_store_open(fct_store **out, const char *dir)
{
    return fct_store_open_rows(out, dir, NULL);
}

fct_status fct_store_find_block(int64_t *out, const fct_store *s, const char *name)
{
    fct_str text = {0};
    fct_status st = FCT_OK;
    *out = 0;
    if (!name && s->info.n_blocks == 1) return FCT_OK;
    for (int64_t b = 0; name && b < s->info.n_blocks; b++)
        if (strcmp(name, s->block[b].name) == 0 || strcmp(name, s->block[b].full_name) == 0) {
            *out = b;
            return FCT_OK;
        }
    for (int64_t b = 0; b < s->info.n_blocks && st == FCT_OK; b++)
        st = fct_str_printf(&text, " %s", s->block[b].name);
    if (st == FCT_OK)
        st = name ? fct_fail(FCT_ERR_MISSING, "%s has no block %s; it has%s", s->path, name, text.p)
                  : fct_fail(FCT_ERR_ARG, "%s has several blocks, name one of%s", s->path, text.p);
    fct_str_clear(&text);
    return st;
}

fct_status fct_store_hash_block(const fct_store *s, int64_t block, char out[65])
{
    static const char *const part[] = {"model", "dtype", "options", "prompts"};
    fct_sha256 hash;
    fct_str text = {0};
    fct_status st = FCT_OK;
    fct_sha256_init(&hash);
    for (size_t i = 0; i <= FCT_COUNT(part) && st == FCT_OK; i++) {
        const json_t *j = i < FCT_COUNT(part)
                              ? json_object_get(s->json, part[i])
                              : json_array_get(json_object_get(s->json, "blocks"), (size_t)block);
        if (j) st = fct_json_text(&text, j, 0);
        if (st == FCT_OK) st = fct_str_append(&text, "\n");
    }
    if (st == FCT_OK) fct_sha256_add(&hash, text.p, text.n);
    fct_sha256_hex(&hash, out);
    fct_str_clear(&text);
    return st;
}

/* ---- shards ---- */

static fct_status open_shard(const fct_store *s, int64_t block, shard_map *m)
{
    fct_status st = FCT_OK;
    char *path = NULL;
    int64_t d = s->block[block].d;
    FCT_TRY_OUT(fct_store_path(&path, s->path, s->block[block].name, m->file));
    FCT_TRY_OUT(fct_safetensors_open(&m->st, path));
    m->open = true;
    const fct_tensor *t = fct_safetensors_find(&m->st, "rows"),
                     *scale = fct_safetensors_find(&m->st, "scale");
    if (!t || t->ndim != 2 || t->dim[0] != m->rows || t->dim[1] != d || t->dtype != s->info.dtype)
        st = fct_fail(FCT_ERR_FORMAT, "%s: rows: want %s [%lld,%lld], as store.json says", path,
                      fct_dtype_name(s->info.dtype), (long long)m->rows, (long long)d);
    else if (s->info.dtype == FCT_I8 &&
             (!scale || scale->ndim != 1 || scale->dim[0] != m->rows || scale->dtype != FCT_F32))
        st = fct_fail(FCT_ERR_FORMAT, "%s: scale: want f32 [%lld], one for each row", path,
                      (long long)m->rows);
    if (st != FCT_OK) {
        fct_safetensors_close(&m->st);
        m->open = false;
        goto out;
    }
    m->data = *t;
    m->scale = s->info.dtype == FCT_I8 ? scale->data : NULL;
out:
    fct_free(path);
    return st;
}

static fct_status find_shard(shard_map **out, const fct_store *s, int64_t block, int64_t row)
{
    block_map *m = &s->map[block];
    int64_t lo = 0, hi = m->n_shards;
    if (row < 0 || row >= s->block[block].rows)
        return fct_fail(FCT_ERR_RANGE, "row %lld is not in block %s: it has %lld", (long long)row,
                        m->name, (long long)s->block[block].rows);
    while (hi - lo > 1) {
        int64_t middle = lo + (hi - lo) / 2;
        if (m->shard[middle].first <= row)
            lo = middle;
        else
            hi = middle;
    }
    *out = &m->shard[lo];
    if (s->tar)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "%s: an archive's rows are read in whole samples only: import it first",
                        s->path);
    return (*out)->open || !(*out)->file ? FCT_OK : open_shard(s, block, *out);
}

fct_status fct_store_check_shards(const fct_store *s, int64_t block)
{
    const block_map *m = &s->map[block];
    fct_status st = FCT_OK;
    char *path = NULL;
    if (s->block[block].rows == 0)
        return fct_fail(FCT_ERR_ARG, "%s: block %s has no rows", s->path, m->name);
    for (int64_t i = 0; i < m->n_shards && m->shard[i].file && st == FCT_OK; i++) {
        int64_t size, want = m->shard[i].rows * s->block[block].d * fct_dtype_bytes(s->info.dtype);
        st = fct_store_path(&path, s->path, m->name, m->shard[i].file);
        if (st == FCT_OK) st = fct_file_size(&size, path);
        if (st == FCT_OK && size < want)
            st = fct_fail(FCT_ERR_FORMAT,
                          "%s: cut short: it has %lld bytes, its %lld rows alone need %lld", path,
                          (long long)size, (long long)m->shard[i].rows, (long long)want);
        fct_free(path);
        path = NULL;
    }
    return st;
}

/* ---- rows ---- */

static fct_row_ref row_of(const fct_store *s, int64_t block, const shard_map *m, int64_t at)
{
    return (fct_row_ref){(const uint8_t *)m->data.data +
                             at * s->block[block].d * fct_dtype_bytes(s->info.dtype),
                         m->scale ? m->scale[at] : 1};
}

fct_status fct_store_row(fct_row_ref *out, const fct_store *s, int64_t block, int64_t row)
{
    shard_map *m;
    FCT_TRY(find_shard(&m, s, block, row));
    *out = row_of(s, block, m, row - m->first);
    return FCT_OK;
}

fct_status fct_store_hint(const fct_store *s, int64_t block, int64_t first, int64_t n,
                          fct_page_hint hint)
{
    int64_t bytes = s->block[block].d * fct_dtype_bytes(s->info.dtype);
    for (int64_t at = 0; at < n;) {
        shard_map *m;
        FCT_TRY(find_shard(&m, s, block, first + at));
        int64_t in = first + at - m->first, take = m->rows - in < n - at ? m->rows - in : n - at;
        fct_pages_hint(row_of(s, block, m, in).data, take * bytes, hint);
        at += take;
    }
    return FCT_OK;
}

static const void *column(const shard_map *m, const char *name, fct_dtype dtype, int64_t width)
{
    const fct_tensor *t = m->open ? fct_safetensors_find(&m->st, name) : NULL;
    return t && t->dtype == dtype && fct_tensor_count(t) == m->rows * width ? t->data : NULL;
}

static void read_meta(fct_row_meta *out, const shard_map *m, int64_t at, int64_t n)
{
    const int32_t *prompt = column(m, "prompt", FCT_I32, 1);
    const int16_t *step = column(m, "step", FCT_I16, 1), *yx = column(m, "yx", FCT_I16, 2);
    const uint8_t *branch = column(m, "branch", FCT_U8, 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t r = at + i;
        out[i] = (fct_row_meta){prompt ? prompt[r] : 0, step ? step[r] : (int16_t)0,
                                yx ? yx[2 * r] : (int16_t)0, yx ? yx[2 * r + 1] : (int16_t)0,
                                branch ? branch[r] : (uint8_t)0};
    }
}

fct_status fct_store_read(const fct_store *s, int64_t block, int64_t first, int64_t n, float *rows,
                          fct_row_meta *meta)
{
    if (block < 0 || block >= s->info.n_blocks)
        return fct_fail(FCT_ERR_ARG, "block number %lld", (long long)block);
    int64_t d = s->block[block].d;
    for (int64_t at = 0; at < n;) {
        shard_map *m;
        FCT_TRY(find_shard(&m, s, block, first + at));
        int64_t in = first + at - m->first, take = m->rows - in < n - at ? m->rows - in : n - at;
        for (int64_t i = 0; rows && i < take; i++)
            FCT_TRY(
                fct_row_to_f32(rows + (at + i) * d, row_of(s, block, m, in + i), s->info.dtype, d));
        if (meta) read_meta(meta + at, m, in, take);
        at += take;
    }
    return FCT_OK;
}

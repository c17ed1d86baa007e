/* import.c - makes a store of rows that others made: safetensors and npy files of the same width,
   one after the other. They carry no prompts and no grid, so their shards hold `rows` alone.
   store.json comes last; an import that was cut short starts again. */
#include <string.h>

#include "store/store.h"

typedef struct importer {
    const fct_import_desc *desc;
    const char *block;
    fct_store **in; /* [n_files], all open */
    fct_dtype dtype;
    int64_t d, rows, shard_rows, n_shards;
    json_t *store; /* of a store that is there already; NULL: new */
} importer;

static fct_status open_inputs(importer *m)
{
    const fct_import_desc *desc = m->desc;
    if (desc->n_files < 1) return fct_fail(FCT_ERR_ARG, "no files to import");
    FCT_TRY(fct_new(&m->in, desc->n_files, sizeof *m->in));
    for (int64_t i = 0; i < desc->n_files; i++) {
        const fct_rows_file_desc file = {.tensor = desc->tensor, .block = desc->block};
        if (fct_path_is_dir(desc->files[i]))
            return fct_fail(FCT_ERR_ARG, "%s is a folder: want files of rows", desc->files[i]);
        FCT_TRY(fct_store_open_rows(&m->in[i], desc->files[i], &file));
        const fct_store_block *b = fct_store_get_info(m->in[i])->block;
        if (i > 0 && b->d != m->d)
            return fct_fail(FCT_ERR_SHAPE, "%s: rows of %lld numbers, those of %s have %lld",
                            desc->files[i], (long long)b->d, desc->files[0], (long long)m->d);
        m->d = b->d;
        FCT_TRY(fct_add_i64(&m->rows, m->rows, b->rows));
    }
    m->block = fct_store_get_info(m->in[0])->block->name;
    if (m->rows == 0) return fct_fail(FCT_ERR_ARG, "there are no rows in %s", desc->files[0]);
    fct_dtype first = fct_store_get_info(m->in[0])->dtype;
    FCT_TRY(fct_store_dtype_find(&m->dtype, desc->store_dtype, first == FCT_F64 ? FCT_F32 : first));
    if (!fct_store_has_dtype(m->dtype))
        return fct_fail(FCT_ERR_ARG, "store type %s: want " FCT_STORE_DTYPES,
                        fct_dtype_name(m->dtype));
    int64_t bytes = m->d * fct_dtype_bytes(m->dtype),
            target = desc->shard_bytes > 0 ? desc->shard_bytes : FCT_STORE_SHARD_BYTES;
    m->shard_rows = target / bytes < 1 ? 1 : target / bytes;
    m->n_shards = (m->rows + m->shard_rows - 1) / m->shard_rows;
    return FCT_OK;
}

/* ---- the folder ---- */

static fct_status check_existing(importer *m)
{
    char *path = NULL;
    const char *dtype;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_store_path(&path, m->desc->out, NULL, "store.json"));
    FCT_TRY_OUT(fct_json_read(&m->store, path));
    FCT_TRY_OUT(fct_json_str(&dtype, m->store, "dtype", "", path));
    json_t *list = json_object_get(m->store, "blocks");
    if (!json_is_null(json_object_get(m->store, "model")) || !json_is_array(list)) {
        st =
            fct_fail(FCT_ERR_ARG, "%s is a captured store: choose another folder for imported rows",
                     m->desc->out);
        goto out;
    }
    if (strcmp(dtype, fct_dtype_name(m->dtype)) != 0) {
        st = fct_fail(FCT_ERR_ARG,
                      "%s holds %s: import with --store-dtype %s, or choose another folder",
                      m->desc->out, dtype, dtype);
        goto out;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
        if (name && strcmp(name, m->block) == 0) {
            st = fct_fail(
                FCT_ERR_ARG,
                "%s has a block %s already: choose another name with --block, or another folder",
                m->desc->out, name);
            goto out;
        }
    }
out:
    fct_free(path);
    return st;
}

static fct_status open_folder(importer *m)
{
    fct_store_kind kind;
    char *path = NULL;
    fct_status st = FCT_OK;
    FCT_TRY(fct_store_dir_kind(&kind, m->desc->out));
    if (kind == FCT_DIR_OTHER)
        return fct_fail(FCT_ERR_ARG, "%s is not empty and not a store: choose another folder",
                        m->desc->out);
    if (kind == FCT_DIR_STORE) FCT_TRY(check_existing(m));
    FCT_TRY(fct_dir_make(m->desc->out));
    FCT_TRY(fct_store_check_space(m->desc->out, m->rows * m->d * fct_dtype_bytes(m->dtype)));
    if (kind == FCT_DIR_NEW || kind == FCT_DIR_UNFINISHED) {
        FCT_TRY_OUT(fct_store_path(&path, m->desc->out, NULL, "progress.json"));
        if (kind == FCT_DIR_UNFINISHED) {
            char *text = NULL;
            int64_t n;
            FCT_TRY_OUT(fct_file_read(&text, &n, path));
            bool mine = strstr(text, "\"import\"") != NULL;
            fct_free(text);
            if (!mine) {
                st = fct_fail(FCT_ERR_ARG, "%s holds an unfinished capture: choose another folder",
                              m->desc->out);
                goto out;
            }
        }
        static const char note[] =
            "{\n  \"format\": \"" FCT_STORE_FORMAT "\",\n  \"import\": true\n}\n";
        FCT_TRY_OUT(fct_file_write(path, note, sizeof note - 1));
    }
    fct_free(path);
    path = NULL;
    FCT_TRY_OUT(fct_store_path(&path, m->desc->out, m->block, NULL));
    FCT_TRY_OUT(fct_dir_make(path));
    FCT_TRY_OUT(fct_store_clean(path));
out:
    fct_free(path);
    return st;
}

/* ---- rows ---- */

enum { CHUNK = 1024 };

static fct_status write_shard(importer *m, fct_shard *s, int64_t number)
{
    char *name = NULL, *path = NULL;
    fct_status st = fct_store_shard_name(&name, number, m->n_shards);
    if (st == FCT_OK) st = fct_store_path(&path, m->desc->out, m->block, name);
    if (st == FCT_OK) st = fct_shard_write(s, path);
    s->n = 0;
    fct_free(name);
    fct_free(path);
    return st;
}

static fct_status copy_rows(importer *m, fct_shard *s)
{
    fct_status st = FCT_OK;
    fct_row_source r = {0};
    int64_t done = 0, shard = 0;
    for (int64_t i = 0; i < m->desc->n_files; i++) {
        FCT_TRY_OUT(fct_store_rows(&r, m->in[i], &(fct_rows_desc){0}));
        for (int64_t at = 0;;) {
            const float *rows;
            int64_t n;
            FCT_TRY_OUT(fct_log_check_stop(m->desc->log));
            FCT_TRY_OUT(r.next(r.self, s->cap - s->n < CHUNK ? s->cap - s->n : CHUNK, &rows, &n));
            if (n == 0) break;
            FCT_TRY_OUT(fct_where(fct_shard_put(s, s->n, rows, n), "%s, rows %lld to %lld",
                                  m->desc->files[i], (long long)at, (long long)(at + n - 1)));
            s->n += n;
            at += n;
            done += n;
            if (s->n == s->cap || done == m->rows) FCT_TRY_OUT(write_shard(m, s, shard++));
            fct_log_progress(m->desc->log, "import", done, m->rows);
        }
        r.close(r.self);
        r = (fct_row_source){0};
    }
out:
    if (r.close) r.close(r.self);
    return st;
}

/* ---- store.json ---- */

static json_t *describe_block(const importer *m, const fct_shard *s)
{
    json_t *shards = json_array();
    for (int64_t i = 0; i < m->n_shards; i++) {
        char *name = NULL;
        int64_t rows = m->rows - i * m->shard_rows < m->shard_rows ? m->rows - i * m->shard_rows
                                                                   : m->shard_rows;
        if (fct_store_shard_name(&name, i, m->n_shards) == FCT_OK)
            (void)json_array_append_new(
                shards, json_pack("{s:s, s:I}", "file", name, "rows", (json_int_t)rows));
        fct_free(name);
    }
    json_t *j = NULL;
    if (json_array_size(shards) == (size_t)m->n_shards)
        j = json_pack("{s:s, s:s, s:I, s:n, s:n, s:I, s:f, s:O}", "name", m->block, "full_name",
                      m->block, "d", (json_int_t)m->d, "grid", "rows_per_prompt", "rows",
                      (json_int_t)m->rows, "rounding_error",
                      fct_rounding_error(s->squares, s->error), "shards", shards);
    json_decref(shards);
    return j;
}

static fct_status finish(importer *m, const fct_shard *s)
{
    fct_status st = FCT_OK;
    char *path = NULL, *progress = NULL;
    json_t *block = describe_block(m, s);
    if (!m->store)
        m->store =
            json_pack("{s:s, s:i, s:s, s:n, s:s, s:{}, s:[], s:[]}", "format", FCT_STORE_FORMAT,
                      "version", FCT_STORE_VERSION, "facet_version", fct_version(), "model",
                      "dtype", fct_dtype_name(m->dtype), "options", "blocks", "prompts");
    if (!block || !m->store || json_array_append(json_object_get(m->store, "blocks"), block) != 0) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: store.json");
        goto out;
    }
    FCT_TRY_OUT(fct_store_path(&path, m->desc->out, NULL, "store.json"));
    FCT_TRY_OUT(fct_store_path(&progress, m->desc->out, NULL, "progress.json"));
    FCT_TRY_OUT(fct_json_write(m->store, path));
    FCT_TRY_OUT(fct_file_remove(progress));
out:
    json_decref(block);
    fct_free(path);
    fct_free(progress);
    return st;
}

fct_status fct_store_import(const fct_import_desc *desc)
{
    fct_status st = FCT_OK;
    importer m = {.desc = desc, .block = desc->block ? desc->block : "rows"};
    fct_shard shard = {0};
    FCT_TRY_OUT(fct_store_check_name(m.block));
    FCT_TRY_OUT(open_inputs(&m));
    FCT_TRY_OUT(fct_store_check_name(m.block)); /* an archive's own name for it */
    FCT_TRY_OUT(open_folder(&m));
    FCT_TRY_OUT(
        fct_shard_init(&shard, m.dtype, m.d, m.shard_rows < m.rows ? m.shard_rows : m.rows, false));
    FCT_TRY_OUT(copy_rows(&m, &shard));
    FCT_TRY_OUT(finish(&m, &shard));
out:
    for (int64_t i = 0; m.in && i < desc->n_files; i++) fct_store_close(m.in[i]);
    fct_free(m.in);
    fct_shard_clear(&shard);
    json_decref(m.store);
    return fct_where(st, "import");
}

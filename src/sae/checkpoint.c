/* checkpoint.c - everything that the next training step depends on, in one safetensors file written
   atomically: weights, Adam's moments, how long features have been silent, the loss scale, and
   where the rows' source stands. Continued from it, training ends with the bytes of a run that was
   never stopped. A checkpoint of other options, of other rows or of another program is refused, by
   the first thing that differs; another number of threads is told: its sums differ by rounding. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "sae/sae.h"

static const char file_name[] = "checkpoint.safetensors";
static const char *const param_name[FCT_PARAM_COUNT] = {"w_enc",        "b_enc", "w_dec", "b_dec",
                                                        "threshold_ln", "b_mag", "r_mag"};
enum { MAX_TENSORS = 3 * FCT_PARAM_COUNT + 2, NAME_SIZE = 20 };

/* The tensors of a checkpoint, with their memory in the trainee and the place. */
static int list_tensors(fct_st_entry entry[MAX_TENSORS], char name[MAX_TENSORS][NAME_SIZE],
                        const fct_trainee *t, uint8_t *blob)
{
    int n = 0;
    for (int kind = 0; kind < 3; kind++)
        for (int w = 0; w < FCT_PARAM_COUNT; w++) {
            int64_t size;
            float *param = fct_trainee_param(t, w, &size);
            if (!param) continue;
            const char *const prefix[] = {"", "m.", "v."};
            size_t at = strlen(prefix[kind]);
            memcpy(name[n], prefix[kind], at + 1);
            memcpy(name[n] + at, param_name[w], strlen(param_name[w]) + 1);
            entry[n] = (fct_st_entry){name[n], fct_tensor_of(kind == 0   ? param
                                                             : kind == 1 ? t->m[w]
                                                                         : t->v[w],
                                                             FCT_F32, 1, &size)};
            n++;
        }
    memcpy(name[n], "not_fired", sizeof "not_fired");
    entry[n] = (fct_st_entry){name[n], fct_tensor_of(t->not_fired, FCT_I64, 1, &t->plan.f)};
    n++;
    memcpy(name[n], "source", sizeof "source");
    entry[n] = (fct_st_entry){name[n], fct_tensor_of(blob, FCT_U8, 1, (int64_t[]){64})};
    return n + 1;
}

/* ---- what a checkpoint is of ---- */

/* The options. Without a schedule the number of steps may grow. */
static fct_status describe_options(json_t **out, const fct_trainee *t)
{
    FCT_TRY(fct_train_plan_describe(out, &t->plan, t->sae->d));
    if (!t->plan.decay) (void)json_object_del(*out, "steps");
    return FCT_OK;
}

/* What computes: program, backend, instruction set. The number of threads is kept apart. */
static fct_status describe_program(json_t **out, const fct_trainee *t)
{
    const fct_backend *be = t->engine.cx.be;
    fct_str text = {0};
    fct_status st = be->describe(&text);
    if (st == FCT_OK && text.p) text.p[strcspn(text.p, ";")] = '\0'; /* "...; 2 threads" */
    *out = NULL;
    if (st == FCT_OK)
        *out = json_pack("{s:s, s:s, s:s}", "facet_version", fct_version(), "backend", be->name,
                         "kernels", text.p ? text.p : "");
    if (st == FCT_OK && !*out)
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: the description of a training run");
    fct_str_clear(&text);
    return st;
}

/* The first member that is not the same in both; NULL: none. */
static const char *first_difference(json_t *now, json_t *then)
{
    const char *key;
    json_t *value;
    json_object_foreach(now, key, value)
    {
        if (!json_equal(json_object_get(then, key), value)) return key;
    }
    json_object_foreach(then, key, value)
    {
        if (!json_object_get(now, key)) return key;
    }
    return NULL;
}

/* `what` as in "was made with other rows"; text: what the checkpoint says. */
static fct_status check_same(json_t *now, const char *text, const char *what, const char *advice,
                             const char *path)
{
    json_t *then = NULL;
    fct_str a = {0}, b = {0};
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_json_parse(&then, text, (int64_t)strlen(text), path));
    const char *key = first_difference(now, then);
    if (!key) goto out;
    json_t *old = json_object_get(then, key), *new = json_object_get(now, key);
    FCT_TRY_OUT(fct_json_text(&a, old ? old : json_null(), 0));
    FCT_TRY_OUT(fct_json_text(&b, new ? new : json_null(), 0));
    st = fct_fail(FCT_ERR_ARG,
                  "%s was made with other %s (%s %s, now %s): continue with the same %s, or start "
                  "in another folder",
                  path, what, key, a.p, b.p, advice);
out:
    fct_str_clear(&a);
    fct_str_clear(&b);
    json_decref(then);
    return st;
}

static fct_status check_identity(const char *options, const char *data, const char *program,
                                 const fct_trainee *t, const fct_train_place *place,
                                 const char *path)
{
    json_t *now = NULL;
    fct_status st = describe_options(&now, t);
    if (st == FCT_OK) st = check_same(now, options, "options", "options", path);
    json_decref(now);
    now = NULL;
    const char *rows = place->data ? place->data : "{}";
    if (st == FCT_OK) st = fct_json_parse(&now, rows, (int64_t)strlen(rows), "the rows");
    if (st == FCT_OK)
        st = check_same(now, data, "rows", "store, block, range, order and seed", path);
    json_decref(now);
    now = NULL;
    if (st == FCT_OK) st = describe_program(&now, t);
    if (st == FCT_OK) st = check_same(now, program, "arithmetic", "program and processor", path);
    json_decref(now);
    return st;
}

/* ---- metadata ---- */

enum { OPTIONS, DATA, PROGRAM, THREADS, STEP, PASS, LOSS_SCALE, REPORT, N_META };
static const char *const meta_name[N_META] = {"options", "data", "program",    "threads",
                                              "step",    "pass", "loss_scale", "report"};

static fct_status put_json(char **out, json_t *j) /* takes j */
{
    fct_str text = {0};
    fct_status st = fct_json_text(&text, j, 0);
    if (st == FCT_OK) st = fct_strdup(out, text.p);
    fct_str_clear(&text);
    json_decref(j);
    return st;
}

static fct_status fill_metadata(char *text[N_META], const fct_trainee *t,
                                const fct_train_place *place)
{
    json_t *j = NULL;
    FCT_TRY(describe_options(&j, t));
    FCT_TRY(put_json(&text[OPTIONS], j));
    FCT_TRY(describe_program(&j, t));
    FCT_TRY(put_json(&text[PROGRAM], j));
    FCT_TRY(fct_strdup(&text[DATA], place->data ? place->data : "{}"));
    FCT_TRY(fct_format(&text[THREADS], "%d", fct_threads()));
    FCT_TRY(fct_format(&text[STEP], "%" PRId64, t->step));
    FCT_TRY(fct_format(&text[PASS], "%" PRId64, place->pass));
    FCT_TRY(fct_format(&text[LOSS_SCALE], "%.17g", t->plan.loss_scale));
    return put_json(&text[REPORT], json_pack("{s:f, s:f, s:f, s:f, s:f, s:I}", "loss", t->loss,
                                             "mse", t->mse, "aux", t->aux, "ev", t->ev, "l0", t->l0,
                                             "dead", (json_int_t)t->n_dead));
}

fct_status fct_checkpoint_save(const char *dir, const fct_trainee *t, const fct_train_place *place)
{
    fct_status st = FCT_OK;
    fct_st_entry entry[MAX_TENSORS];
    char name[MAX_TENSORS][NAME_SIZE];
    char *path = NULL, *text[N_META] = {0};
    const char *metadata[2 * N_META + 1] = {0};
    uint8_t blob[64];
    memcpy(blob, place->blob, sizeof blob);
    int n_tensors = list_tensors(entry, name, t, blob);
    FCT_TRY_OUT(fct_dir_make(dir));
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    FCT_TRY_OUT(fill_metadata(text, t, place));
    for (int i = 0; i < N_META; i++) {
        metadata[2 * i] = meta_name[i];
        metadata[2 * i + 1] = text[i];
    }
    FCT_TRY_OUT(fct_st_write(path, entry, n_tensors, metadata));
out:
    for (int i = 0; i < N_META; i++) fct_free(text[i]);
    fct_free(path);
    return fct_where(st, "saving a checkpoint");
}

static fct_status read_report(const char *text, fct_trainee *t, const char *path)
{
    json_t *j = NULL;
    FCT_TRY(fct_json_parse(&j, text, (int64_t)strlen(text), path));
    const struct {
        const char *name;
        double *at;
    } part[] = {
        {"loss", &t->loss}, {"mse", &t->mse}, {"aux", &t->aux}, {"ev", &t->ev}, {"l0", &t->l0}};
    fct_status st = fct_json_i64(&t->n_dead, j, "dead", 0, path);
    for (size_t i = 0; i < FCT_COUNT(part) && st == FCT_OK; i++)
        st = fct_json_f64(part[i].at, j, part[i].name, 0, path);
    json_decref(j);
    return st;
}

static fct_status read_metadata(const fct_st *file, const char *path, fct_trainee *t,
                                fct_train_place *place, const fct_log *log)
{
    const char *value[N_META];
    int64_t threads;
    double scale;
    for (int i = 0; i < N_META; i++) {
        FCT_TRY(fct_json_str(&value[i], file->metadata, meta_name[i], NULL, path));
        if (!value[i])
            return fct_fail(FCT_ERR_FORMAT, "%s: no %s in its metadata: not a checkpoint", path,
                            meta_name[i]);
    }
    FCT_TRY(check_identity(value[OPTIONS], value[DATA], value[PROGRAM], t, place, path));
    FCT_TRY(fct_parse_i64(&threads, value[THREADS], 0, INT32_MAX));
    FCT_TRY(fct_parse_i64(&t->step, value[STEP], 0, INT64_MAX));
    FCT_TRY(fct_parse_i64(&place->pass, value[PASS], 0, INT64_MAX));
    FCT_TRY(fct_parse_f64(&scale, value[LOSS_SCALE], 0, 1e300));
    FCT_TRY(read_report(value[REPORT], t, path));
    if (!t->plan.auto_scale && scale != t->plan.loss_scale)
        return fct_fail(FCT_ERR_ARG, "%s was made with loss scale %.17g, the options now say %.17g",
                        path, scale, t->plan.loss_scale);
    t->plan.loss_scale = scale;
    if (threads != fct_threads())
        fct_log_line(log, FCT_LOG_WARN,
                     "the checkpoint was made with %lld threads, here are %d: the result will be "
                     "equal within rounding, not to the byte",
                     (long long)threads, fct_threads());
    return FCT_OK;
}

fct_status fct_checkpoint_load(const char *dir, fct_trainee *t, fct_train_place *place,
                               const fct_log *log)
{
    fct_status st = FCT_OK;
    fct_st file = {0};
    fct_st_entry entry[MAX_TENSORS];
    char name[MAX_TENSORS][NAME_SIZE];
    char *path = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    FCT_TRY_OUT(fct_st_open(&file, path));
    FCT_TRY_OUT(read_metadata(&file, path, t, place, log));
    int n_tensors = list_tensors(entry, name, t, place->blob);
    for (int i = 0; i < n_tensors; i++) {
        const fct_tensor *from = fct_st_find(&file, name[i]), *to = &entry[i].t;
        if (!from || from->dtype != to->dtype || from->ndim != 1 || from->dim[0] != to->dim[0]) {
            st = fct_fail(FCT_ERR_FORMAT,
                          "%s: %s is missing or of another size: not a checkpoint of this run",
                          path, name[i]);
            goto out;
        }
        memcpy(to->data, from->data, (size_t)fct_tensor_bytes(to));
    }
out:
    fct_st_close(&file);
    fct_free(path);
    return fct_where(st, "continuing from a checkpoint");
}

/* ---- the folder ---- */

bool fct_sae_checkpoint_exists(const char *dir)
{
    char *path = NULL;
    bool there = fct_path_join(&path, dir, file_name) == FCT_OK && fct_path_exists(path);
    fct_free(path);
    return there;
}

/* The checkpoint, and what a killed run left of one that was being written. */
void fct_sae_checkpoint_remove(const char *dir)
{
    static const char temp[] = ".tmp-";
    const size_t n_file = sizeof file_name - 1;
    char **name = NULL;
    int64_t n = 0;
    if (fct_dir_list(&name, &n, dir) != FCT_OK) return;
    for (int64_t i = 0; i < n; i++) {
        char *path = NULL;
        if (strncmp(name[i], file_name, n_file) != 0) continue;
        if (name[i][n_file] != '\0' && strncmp(name[i] + n_file, temp, sizeof temp - 1) != 0)
            continue;
        if (fct_path_join(&path, dir, name[i]) == FCT_OK) unlink(path);
        fct_free(path);
    }
    fct_names_free(name, n);
    rmdir(dir); /* unless others keep files there */
}

/* checkpoint.c - writes and reads a checkpoint, one safetensors file with everything that the next
   batch depends on: of every SAE of the run the weights, Adam's moments, running means, how long
   features have been silent and the scales, and where each source of rows stands. Continued from
   it, training ends with the bytes of a run that was never stopped.

   The file appears whole or not at all. A checksum tells a damaged one; one of another run is
   refused (fingerprint.c); another number of threads or ranks is told: its sums differ by
   rounding. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/train.h"

static const char *const param_name[FCT_PARAM_COUNT] = {"w_enc",        "b_enc", "w_dec", "b_dec",
                                                        "threshold_ln", "b_mag", "r_mag"};
/* Of the metrics of all logged steps: a word that files of earlier versions have. */
static const char metrics_name[] = "course";
enum { PER_TRAINEE = 4 * FCT_PARAM_COUNT + 4, NAME_SIZE = 48 };
enum { POINT = sizeof(fct_train_metrics) / sizeof(double) };

/* The tensors of a checkpoint, with their memory in the run. */
typedef struct list {
    fct_tensor_entry *entry;
    char (*name)[NAME_SIZE];
    int64_t n;
} list;

static void put(list *l, int64_t owner, const char *prefix, const char *name, fct_tensor t)
{
    snprintf(l->name[l->n], NAME_SIZE, "%" PRId64 ".%s%s", owner, prefix, name);
    l->entry[l->n] = (fct_tensor_entry){l->name[l->n], t};
    l->n++;
}

static void put_trainee(list *l, int64_t owner, const fct_trainee *t)
{
    for (int w = 0; w < FCT_PARAM_COUNT; w++) {
        int64_t size;
        float *param = fct_trainee_param(t, w, &size);
        if (!param) continue;
        put(l, owner, "", param_name[w], fct_tensor_of(param, FCT_F32, 1, &size));
        put(l, owner, "m.", param_name[w], fct_tensor_of(t->m[w], FCT_F32, 1, &size));
        put(l, owner, "v.", param_name[w], fct_tensor_of(t->v[w], FCT_F32, 1, &size));
        if (t->average[w])
            put(l, owner, "mean.", param_name[w], fct_tensor_of(t->average[w], FCT_F32, 1, &size));
    }
    if (t->row_mean) {
        int64_t size = fct_train_plan_mixed(&t->plan) * t->sae->d;
        put(l, owner, "", "row_mean", fct_tensor_of(t->row_mean, FCT_F32, 1, &size));
        put(l, owner, "", "row_scale", fct_tensor_of(t->row_scale, FCT_F32, 1, &size));
    }
    put(l, owner, "", "not_fired", fct_tensor_of(t->not_fired, FCT_I64, 1, &t->plan.f));
    int64_t numbers = t->n_metrics * POINT;
    put(l, owner, "", metrics_name, fct_tensor_of(t->metrics, FCT_F64, 1, &numbers));
}

static void list_clear(list *l)
{
    fct_free(l->entry);
    fct_free(l->name);
    *l = (list){0};
}

static fct_status list_tensors(list *l, const fct_train_state *s)
{
    int64_t most = s->n * PER_TRAINEE + s->n_places;
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_new(&l->entry, most, sizeof *l->entry));
    FCT_TRY_OUT(fct_new(&l->name, most, sizeof *l->name));
    for (int64_t i = 0; i < s->n; i++) put_trainee(l, i, &s->trainee[i]);
    for (int64_t i = 0; i < s->n_places; i++)
        put(l, i, "", "source", fct_tensor_of(s->place[i].blob, FCT_U8, 1, (int64_t[]){64}));
out:
    if (st != FCT_OK) list_clear(l);
    return st;
}

/* Of the numbers that a damaged file could silently change. */
static void checksum(char out[9], const list *l, const char *state)
{
    fct_crc32c crc;
    fct_crc32c_init(&crc);
    fct_crc32c_add(&crc, state, (int64_t)strlen(state));
    for (int64_t i = 0; i < l->n; i++)
        fct_crc32c_add(&crc, l->entry[i].t.data, fct_tensor_bytes(&l->entry[i].t));
    snprintf(out, 9, "%08" PRIx32, crc.value);
}

/* ---- the numbers that are no tensors ---- */

/* JSON has no word for those that are not finite; only an SAE that was given up has them. */
static double number(double x)
{
    return isfinite(x) ? x : 0;
}

static fct_status put_state(char **out, const fct_train_state *s)
{
    fct_str text = {0};
    json_t *saes = json_array(), *streams = json_array();
    int bad = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const fct_trainee *t = &s->trainee[i];
        bad |= json_array_append_new(
            saes, json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:b, s:s?}",
                            "step", (json_int_t)t->now.step, "loss_scale", t->plan.loss_scale,
                            "threshold", number(t->now.running), "penalty", number(t->now.penalty),
                            "loss", number(t->now.loss), "mse", number(t->now.mse), "aux",
                            number(t->now.aux), "ev", number(t->now.ev), "l0", number(t->now.l0),
                            "fvu", number(t->now.fvu), "dead", (json_int_t)t->now.n_dead, "warned",
                            (int)t->warned, "lost", t->lost));
    }
    for (int64_t i = 0; i < s->n_places; i++)
        bad |= json_array_append_new(streams,
                                     json_pack("{s:I}", "pass", (json_int_t)s->place[i].pass));
    json_t *j =
        json_pack("{s:I, s:o, s:o}", "step", (json_int_t)s->step, "saes", saes, "streams", streams);
    fct_status st = bad || !j ? fct_fail(FCT_ERR_MEMORY, "out of memory: the state of a run")
                              : fct_json_text(&text, j, 0);
    if (st == FCT_OK) st = fct_strdup(out, text.p);
    fct_str_clear(&text);
    json_decref(j);
    return st;
}

static fct_status get_trainee(fct_trainee *t, const json_t *j, const char *path)
{
    const char *lost;
    double scale;
    const struct {
        const char *name;
        double *at;
    } part[] = {{"loss_scale", &scale},       {"threshold", &t->now.running},
                {"penalty", &t->now.penalty}, {"loss", &t->now.loss},
                {"mse", &t->now.mse},         {"aux", &t->now.aux},
                {"ev", &t->now.ev},           {"l0", &t->now.l0},
                {"fvu", &t->now.fvu}};
    FCT_TRY(fct_json_i64(&t->now.step, j, "step", 0, path));
    FCT_TRY(fct_json_i64(&t->now.n_dead, j, "dead", 0, path));
    FCT_TRY(fct_json_bool(&t->warned, j, "warned", false, path));
    for (size_t i = 0; i < FCT_COUNT(part); i++)
        FCT_TRY(fct_json_f64(part[i].at, j, part[i].name, 0, path));
    FCT_TRY(fct_json_str(&lost, j, "lost", NULL, path));
    fct_free(t->lost);
    t->lost = NULL;
    FCT_TRY(fct_strdup(&t->lost, lost));
    if (!t->plan.auto_scale && scale != t->plan.loss_scale)
        return fct_fail(FCT_ERR_ARG, "%s was made with loss scale %.17g, the options now say %.17g",
                        path, scale, t->plan.loss_scale);
    t->plan.loss_scale = scale;
    return FCT_OK;
}

static fct_status get_state(fct_train_state *s, const char *text, const char *path)
{
    json_t *j = NULL;
    fct_status st = FCT_OK;
    FCT_TRY(fct_json_parse(&j, text, (int64_t)strlen(text), path));
    json_t *saes = json_object_get(j, "saes"), *streams = json_object_get(j, "streams");
    FCT_TRY_OUT(fct_json_i64(&s->step, j, "step", 0, path));
    if (json_array_size(saes) != (size_t)s->n || json_array_size(streams) != (size_t)s->n_places) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: its parts do not agree: not a checkpoint", path);
        goto out;
    }
    for (int64_t i = 0; i < s->n; i++)
        FCT_TRY_OUT(get_trainee(&s->trainee[i], json_array_get(saes, (size_t)i), path));
    for (int64_t i = 0; i < s->n_places; i++)
        FCT_TRY_OUT(
            fct_json_i64(&s->place[i].pass, json_array_get(streams, (size_t)i), "pass", 0, path));
out:
    json_decref(j);
    return st;
}

/* ---- writing ---- */

/* A checkpoint of weights that are lost would replace one that is good. */
static fct_status check_finite(const fct_trainee *t)
{
    for (int w = 0; w < FCT_PARAM_COUNT && !t->lost; w++) {
        int64_t n, i = 0;
        const float *p = fct_trainee_param(t, w, &n);
        while (p && i < n && isfinite(p[i])) i++;
        if (p && i < n)
            return fct_option_fail(FCT_ERR_RANGE, t->plan.spelling,
                                   "%s%sstep %" PRId64 ": the weights are not finite: a smaller "
                                   "{lr}",
                                   t->name ? t->name : "", t->name ? ": " : "", t->now.step);
    }
    return FCT_OK;
}

fct_status fct_checkpoint_write(const char *path, const fct_train_state *s)
{
    fct_status st = FCT_OK;
    list l = {0};
    char *state = NULL, threads[16], ranks[32], crc[9];
    fct_train_fingerprint id = {0};
    for (int64_t i = 0; i < s->n; i++) FCT_TRY_OUT(check_finite(&s->trainee[i]));
    FCT_TRY_OUT(fct_train_fingerprint_init(&id, s));
    FCT_TRY_OUT(list_tensors(&l, s));
    FCT_TRY_OUT(put_state(&state, s));
    snprintf(threads, sizeof threads, "%d", fct_threads());
    snprintf(ranks, sizeof ranks, "%" PRId64, fct_dist_size(s->trainee[0].plan.ranks));
    checksum(crc, &l, state);
    const char *metadata[] = {"options",  id.options, "data",  id.data, "program",
                              id.program, "threads",  threads, "state", state,
                              "crc32c",   crc,        "ranks", ranks,   NULL};
    FCT_TRY_OUT(fct_safetensors_write(path, l.entry, l.n, metadata));
out:
    fct_train_fingerprint_clear(&id);
    list_clear(&l);
    fct_free(state);
    return st;
}

/* ---- reading ---- */

enum { OPTIONS, DATA, PROGRAM, THREADS, STATE, CRC, N_META };
static const char *const meta_name[N_META] = {"options", "data",  "program",
                                              "threads", "state", "crc32c"};

static fct_status read_metadata(const char *value[N_META], const fct_safetensors *file,
                                const char *path)
{
    for (int i = 0; i < N_META; i++) {
        FCT_TRY(fct_json_str(&value[i], file->metadata, meta_name[i], NULL, path));
        if (!value[i])
            return fct_fail(FCT_ERR_FORMAT, "%s: no %s in its metadata: not a checkpoint", path,
                            meta_name[i]);
    }
    return FCT_OK;
}

/* Neither changes what the training is of; both change the order of its sums. */
static fct_status compare_shares(const fct_train_state *s, const fct_safetensors *file,
                                 const char *path, const fct_log *log)
{
    static const char *const name[] = {"threads", "ranks"};
    const int64_t now[] = {fct_threads(), fct_dist_size(s->trainee[0].plan.ranks)};
    for (int i = 0; i < 2; i++) {
        const char *text;
        int64_t then;
        FCT_TRY(fct_json_str(&text, file->metadata, name[i], "1", path));
        FCT_TRY(fct_parse_i64(&then, text, 0, INT32_MAX));
        if (then == now[i]) continue;
        fct_log_line(
            log, FCT_LOG_WARN,
            "the checkpoint was made with %lld %s, here are %lld: the result will be equal "
            "within rounding, not to the byte",
            (long long)then, name[i], (long long)now[i]);
    }
    return FCT_OK;
}

static fct_status check_identity(const char *const value[N_META], const fct_train_state *s,
                                 const char *path)
{
    fct_train_fingerprint now = {0}, then = {0};
    fct_status st = FCT_OK;
    FCT_TRY_OUT(fct_strdup(&then.options, value[OPTIONS]));
    FCT_TRY_OUT(fct_strdup(&then.data, value[DATA]));
    FCT_TRY_OUT(fct_strdup(&then.program, value[PROGRAM]));
    FCT_TRY_OUT(fct_train_fingerprint_init(&now, s));
    FCT_TRY_OUT(fct_train_fingerprint_check(&now, &then, path));
out:
    fct_train_fingerprint_clear(&now);
    fct_train_fingerprint_clear(&then);
    return st;
}

/* The course is as long as the file says. */
static fct_status read_lengths(const fct_safetensors *file, fct_train_state *s, const char *path)
{
    char name[NAME_SIZE];
    for (int64_t i = 0; i < s->n; i++) {
        fct_trainee *t = &s->trainee[i];
        snprintf(name, sizeof name, "%" PRId64 ".%s", i, metrics_name);
        const fct_tensor *from = fct_safetensors_find(file, name);
        if (!from || from->ndim != 1 || from->dim[0] % POINT != 0)
            return fct_fail(FCT_ERR_FORMAT,
                            "%s: %s is missing or of another size: not a checkpoint", path, name);
        fct_free(t->metrics);
        t->metrics = NULL;
        t->n_metrics = t->room_metrics = 0;
        FCT_TRY(fct_new(&t->metrics, from->dim[0] / POINT, sizeof *t->metrics));
        t->n_metrics = t->room_metrics = from->dim[0] / POINT;
    }
    return FCT_OK;
}

static fct_status read_tensors(const fct_safetensors *file, const list *l, const char *path)
{
    for (int64_t i = 0; i < l->n; i++) {
        const fct_tensor *from = fct_safetensors_find(file, l->entry[i].name), *to = &l->entry[i].t;
        if (!from || from->dtype != to->dtype || from->ndim != 1 || from->dim[0] != to->dim[0])
            return fct_fail(FCT_ERR_FORMAT,
                            "%s: %s is missing or of another size: not a checkpoint of this run",
                            path, l->entry[i].name);
        if (to->dim[0] > 0) memcpy(to->data, from->data, (size_t)fct_tensor_bytes(to));
    }
    return FCT_OK;
}

fct_status fct_checkpoint_read(const char *path, fct_train_state *s, const fct_log *log)
{
    fct_status st = FCT_OK;
    fct_safetensors file = {0};
    list l = {0};
    const char *value[N_META];
    char crc[9];
    FCT_TRY_OUT(fct_safetensors_open(&file, path));
    FCT_TRY_OUT(read_metadata(value, &file, path));
    FCT_TRY_OUT(check_identity(value, s, path));
    FCT_TRY_OUT(read_lengths(&file, s, path));
    FCT_TRY_OUT(list_tensors(&l, s));
    FCT_TRY_OUT(read_tensors(&file, &l, path));
    checksum(crc, &l, value[STATE]);
    if (strcmp(crc, value[CRC]) != 0) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: its checksum is %s, it says %s: it is damaged", path,
                      crc, value[CRC]);
        goto out;
    }
    FCT_TRY_OUT(get_state(s, value[STATE], path));
    FCT_TRY_OUT(compare_shares(s, &file, path, log));
out:
    fct_safetensors_close(&file);
    list_clear(&l);
    return st;
}

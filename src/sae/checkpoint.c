/* checkpoint.c - everything that the next training step depends on, in one safetensors file written
   atomically: weights, Adam's moments, how long features have been silent, the loss scale, and
   where the rows' source stands. Continued from it, training ends with the bytes of a run that was
   never stopped. A checkpoint of other options is refused, by the first that differs. */
#include <inttypes.h>
#include <string.h>

#include "sae/sae.h"

static const char file_name[] = "checkpoint.safetensors";
static const char *const param_name[FCT_PARAM_COUNT] = {"w_enc", "b_enc", "w_dec", "b_dec"};
enum { N_TENSORS = 3 * FCT_PARAM_COUNT + 2, NAME_SIZE = 16 };

bool fct_checkpoint_exists(const char *dir)
{
    char *path = NULL;
    bool there = fct_path_join(&path, dir, file_name) == FCT_OK && fct_path_exists(path);
    fct_free(path);
    return there;
}

/* The tensors of a checkpoint, with their memory in the trainee and the place. */
static void list_tensors(fct_st_entry entry[N_TENSORS], char name[N_TENSORS][NAME_SIZE],
                         const fct_trainee *t, uint8_t *blob)
{
    int n = 0;
    for (int kind = 0; kind < 3; kind++)
        for (int w = 0; w < FCT_PARAM_COUNT; w++, n++) {
            int64_t size;
            float *param = fct_trainee_param(t, w, &size);
            const char *const prefix[] = {"", "m.", "v."};
            size_t at = strlen(prefix[kind]);
            memcpy(name[n], prefix[kind], at + 1);
            memcpy(name[n] + at, param_name[w], strlen(param_name[w]) + 1);
            entry[n] = (fct_st_entry){name[n], fct_tensor_of(kind == 0   ? param
                                                             : kind == 1 ? t->m[w]
                                                                         : t->v[w],
                                                             FCT_F32, 1, &size)};
        }
    memcpy(name[n], "not_fired", sizeof "not_fired");
    entry[n] = (fct_st_entry){name[n], fct_tensor_of(t->not_fired, FCT_I64, 1, &t->plan.f)};
    n++;
    memcpy(name[n], "source", sizeof "source");
    entry[n] = (fct_st_entry){name[n], fct_tensor_of(blob, FCT_U8, 1, (int64_t[]){64})};
}

/* What must be equal for a checkpoint to be continued. Without a schedule the number of steps may
 * grow. */
static fct_status identity(json_t **out, const fct_trainee *t)
{
    FCT_TRY(fct_train_plan_describe(out, &t->plan, t->sae->d));
    if (!t->plan.decay) (void)json_object_del(*out, "steps");
    return FCT_OK;
}

fct_status fct_checkpoint_save(const char *dir, const fct_trainee *t, const fct_train_place *place)
{
    fct_status st = FCT_OK;
    fct_st_entry entry[N_TENSORS];
    char name[N_TENSORS][NAME_SIZE];
    char *path = NULL, *step = NULL, *pass = NULL, *scale = NULL;
    fct_str options = {0};
    json_t *id = NULL;
    uint8_t blob[64];
    memcpy(blob, place->blob, sizeof blob);
    list_tensors(entry, name, t, blob);
    FCT_TRY_OUT(fct_dir_make(dir));
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    FCT_TRY_OUT(identity(&id, t));
    FCT_TRY_OUT(fct_json_text(&options, id, 0));
    FCT_TRY_OUT(fct_format(&step, "%" PRId64, t->step));
    FCT_TRY_OUT(fct_format(&pass, "%" PRId64, place->pass));
    FCT_TRY_OUT(fct_format(&scale, "%.17g", t->plan.loss_scale));
    const char *const metadata[] = {"options", options.p,    "step", step, "pass",
                                    pass,      "loss_scale", scale,  NULL};
    FCT_TRY_OUT(fct_st_write(path, entry, N_TENSORS, metadata));
out:
    json_decref(id);
    fct_str_clear(&options);
    fct_free(path);
    fct_free(step);
    fct_free(pass);
    fct_free(scale);
    return fct_where(st, "saving a checkpoint");
}

static fct_status check_options(const char *text, const fct_trainee *t, const char *path)
{
    json_t *now = NULL, *then = NULL;
    const char *key;
    json_t *value;
    fct_str a = {0}, b = {0};
    fct_status st = FCT_OK;
    FCT_TRY_OUT(identity(&now, t));
    FCT_TRY_OUT(fct_json_parse(&then, text, (int64_t)strlen(text), path));
    json_object_foreach(now, key, value)
    {
        json_t *old = json_object_get(then, key);
        if (old && json_equal(old, value)) continue;
        FCT_TRY_OUT(fct_json_text(&a, old ? old : json_null(), 0));
        FCT_TRY_OUT(fct_json_text(&b, value, 0));
        st = fct_fail(FCT_ERR_ARG,
                      "%s was made with %s %s, the options now say %s: continue with the same "
                      "options, or start in another folder",
                      path, key, a.p, b.p);
        goto out;
    }
out:
    fct_str_clear(&a);
    fct_str_clear(&b);
    json_decref(now);
    json_decref(then);
    return st;
}

static fct_status read_metadata(const fct_st *file, const char *path, fct_trainee *t,
                                fct_train_place *place)
{
    const char *value[4], *const key[] = {"options", "step", "pass", "loss_scale"};
    for (int i = 0; i < 4; i++) {
        FCT_TRY(fct_json_str(&value[i], file->metadata, key[i], NULL, path));
        if (!value[i])
            return fct_fail(FCT_ERR_FORMAT, "%s: no %s in its metadata: not a checkpoint", path,
                            key[i]);
    }
    FCT_TRY(check_options(value[0], t, path));
    FCT_TRY(fct_parse_i64(&t->step, value[1], 0, INT64_MAX));
    FCT_TRY(fct_parse_i64(&place->pass, value[2], 0, INT64_MAX));
    double scale;
    FCT_TRY(fct_parse_f64(&scale, value[3], 0, 1e300));
    if (!t->plan.auto_scale && scale != t->plan.loss_scale)
        return fct_fail(FCT_ERR_ARG, "%s was made with loss scale %.17g, the options now say %.17g",
                        path, scale, t->plan.loss_scale);
    t->plan.loss_scale = scale;
    return FCT_OK;
}

fct_status fct_checkpoint_load(const char *dir, fct_trainee *t, fct_train_place *place)
{
    fct_status st = FCT_OK;
    fct_st file = {0};
    fct_st_entry entry[N_TENSORS];
    char name[N_TENSORS][NAME_SIZE];
    char *path = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, file_name));
    FCT_TRY_OUT(fct_st_open(&file, path));
    FCT_TRY_OUT(read_metadata(&file, path, t, place));
    list_tensors(entry, name, t, place->blob);
    for (int i = 0; i < N_TENSORS; i++) {
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

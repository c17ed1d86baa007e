/* dictlearn.c - reads and writes the SAEs of dictionary_learning (saprmarks/dictionary_learning):
   config.json, whose dict_class says what the tensors of ae.pt are. One row a class: its name, the
   kind of SAE, the names of its tensors. Widths come from the tensors.

   Its AutoEncoder is brought to a decoder of unit norm when it is loaded there, which scales the
   codes; facet gives the same codes with dec_norm and leaves the tensors alone. AutoEncoderTopK
   keeps a threshold that only a switch of its encode uses: facet.json carries it along. */
#include <math.h>
#include <string.h>

#include "sae/formats/dictlearn.h"

enum { MAX_WEIGHTS = 6 };

static const struct class
{
    const char *name, *trainer;
    fct_sae_kind kind;
    bool subtract, k, threshold, groups, unit_norm;
    fct_sae_named_part named[MAX_WEIGHTS];
} class_table[] = {
#define LINEAR(bias)                                                                \
    {.name = "encoder.weight", .part = FCT_SAE_PART_W_ENC},                         \
        {.name = "encoder.bias", .part = FCT_SAE_PART_B_ENC},                       \
        {.name = "decoder.weight", .part = FCT_SAE_PART_W_DEC, .transposed = true}, \
    {                                                                               \
        .name = bias, .part = FCT_SAE_PART_B_DEC                                    \
    }
#define MATRICES                                                       \
    {.name = "W_enc", .part = FCT_SAE_PART_W_ENC, .transposed = true}, \
        {.name = "b_enc", .part = FCT_SAE_PART_B_ENC},                 \
        {.name = "W_dec", .part = FCT_SAE_PART_W_DEC},                 \
    {                                                                  \
        .name = "b_dec", .part = FCT_SAE_PART_B_DEC                    \
    }
    {.name = "AutoEncoderTopK",
     .trainer = "TopKTrainer",
     .kind = FCT_SAE_TOPK,
     .subtract = true,
     .k = true,
     .threshold = true,
     .named = {LINEAR("b_dec")}},
    {.name = "MatryoshkaBatchTopKSAE",
     .trainer = "MatryoshkaBatchTopKTrainer",
     .kind = FCT_SAE_BATCHTOPK,
     .subtract = true,
     .k = true,
     .threshold = true,
     .groups = true,
     .named = {MATRICES}},
    {.name = "BatchTopKSAE",
     .trainer = "BatchTopKTrainer",
     .kind = FCT_SAE_BATCHTOPK,
     .subtract = true,
     .k = true,
     .threshold = true,
     .named = {LINEAR("b_dec")}},
    {.name = "AutoEncoder",
     .trainer = "StandardTrainer",
     .kind = FCT_SAE_RELU,
     .subtract = true,
     .unit_norm = true,
     .named = {LINEAR("bias")}},
    {.name = "AutoEncoderNew",
     .trainer = "StandardTrainerAprilUpdate",
     .kind = FCT_SAE_RELU,
     .named = {LINEAR("decoder.bias")}},
    {.name = "GatedAutoEncoder",
     .trainer = "GatedSAETrainer",
     .kind = FCT_SAE_GATED,
     .subtract = true,
     .named = {{.name = "decoder_bias", .part = FCT_SAE_PART_B_DEC},
               {.name = "r_mag", .part = FCT_SAE_PART_R_MAG},
               {.name = "gate_bias", .part = FCT_SAE_PART_B_ENC},
               {.name = "mag_bias", .part = FCT_SAE_PART_B_MAG},
               {.name = "encoder.weight", .part = FCT_SAE_PART_W_ENC},
               {.name = "decoder.weight", .part = FCT_SAE_PART_W_DEC, .transposed = true}}},
    {.name = "JumpReluAutoEncoder",
     .trainer = "JumpReluTrainer",
     .kind = FCT_SAE_JUMPRELU,
     .named = {MATRICES, {.name = "threshold", .part = FCT_SAE_PART_THRESHOLD}}},
#undef LINEAR
#undef MATRICES
};
static const char own_threshold[] = "dictionary_learning_threshold"; /* in facet.json */

static int count_named(const struct class *c)
{
    int n = 0;
    while (n < MAX_WEIGHTS && c->named[n].name) n++;
    return n;
}

static const fct_sae_named_part *named_of(const struct class *c, fct_sae_part part)
{
    const fct_sae_named_part *named = c->named;
    while (named->part != part) named++;
    return named;
}

/* ---- reading ---- */

static fct_status find_class(const struct class **out, const json_t *trainer, const char *where)
{
    const char *name;
    fct_str known = {0};
    fct_status st = FCT_OK;
    FCT_TRY(fct_json_str(&name, trainer, "dict_class", NULL, where));
    for (size_t i = 0; i < FCT_COUNT(class_table); i++)
        if (name && strcmp(class_table[i].name, name) == 0) {
            *out = &class_table[i];
            return FCT_OK;
        }
    for (size_t i = 0; i < FCT_COUNT(class_table) && st == FCT_OK; i++)
        st = fct_str_printf(&known, "%s%s", i > 0 ? ", " : "", class_table[i].name);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: dict_class %s is not supported: want one of %s",
                      where, name ? name : "(missing)", known.p);
    fct_str_clear(&known);
    return st;
}

/* Everything that the class keeps, so that all that is missing is named at once. */
static fct_status check_tensors(const struct class *c, const fct_sae_tensors *from)
{
    fct_sae_named_part want[FCT_SAE_MAX_NAMED];
    int n = count_named(c);
    memcpy(want, c->named, (size_t)n * sizeof *want);
    if (c->kind == FCT_SAE_BATCHTOPK) want[n++] = (fct_sae_named_part){.name = "threshold"};
    if (c->groups) want[n++] = (fct_sae_named_part){.name = "group_sizes"};
    return fct_sae_check_parts(from, want, n);
}

/* k of the tensors, else of config.json; both must agree, as their loader demands. */
static fct_status read_k(int64_t *k, const fct_sae_tensors *from, const json_t *trainer,
                         const char *where)
{
    double own;
    FCT_TRY(fct_json_i64(k, trainer, "k", 0, where));
    if (fct_sae_tensors_find(from, "k")) {
        FCT_TRY(fct_sae_take_number(&own, from, "k"));
        if (*k != 0 && (double)*k != own)
            return fct_fail(FCT_ERR_FORMAT, "%s: k is %lld, but the tensor k in %s is %g", where,
                            (long long)*k, from->path, own);
        *k = own > 0 && own < (double)INT32_MAX ? (int64_t)own : 0;
    }
    if (*k > 0) return FCT_OK;
    return fct_fail(FCT_ERR_FORMAT, "%s: k must be given and positive", where);
}

static fct_status read_groups(fct_sae *s, const fct_sae_tensors *from)
{
    const fct_tensor *t = fct_sae_tensors_find(from, "group_sizes");
    int64_t *size = NULL;
    if (t->ndim != 1 || t->dim[0] < 1 || t->dim[0] > s->f ||
        (t->dtype != FCT_I64 && t->dtype != FCT_I32))
        return fct_fail(FCT_ERR_FORMAT, "%s: group_sizes: want a vector of whole numbers",
                        from->path);
    FCT_TRY(fct_new(&size, t->dim[0], sizeof *size));
    for (int64_t i = 0; i < t->dim[0]; i++)
        size[i] =
            t->dtype == FCT_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
    fct_status st = fct_sae_check_groups(size, t->dim[0], s->f);
    if (st == FCT_OK) st = fct_sae_set_groups(s, size, t->dim[0]);
    fct_free(size);
    return fct_where(st, "%s", from->path);
}

/* torch.allclose(norms, 1), which decides there whether the decoder is normalised. */
static fct_status set_unit_norm(fct_sae *s)
{
    bool unit = true;
    FCT_TRY(fct_sae_set_dec_norm(s));
    for (int64_t f = 0; f < s->f; f++) unit = unit && fabs((double)s->dec_norm[f] - 1) <= 1.001e-5;
    if (!unit) return FCT_OK;
    fct_free(s->dec_norm);
    s->dec_norm = NULL;
    return FCT_OK;
}

static fct_status read_tensors(fct_sae **out, const struct class *c, const fct_sae_tensors *from,
                               const json_t *trainer, const char *where, double *threshold)
{
    fct_status st = FCT_OK;
    fct_sae *s = NULL;
    const fct_sae_named_part *encoder = named_of(c, FCT_SAE_PART_W_ENC);
    int64_t d, f, k = 0;
    *threshold = -1; /* as a fresh one of theirs has it: unset, every positive code is kept */
    FCT_TRY(check_tensors(c, from));
    FCT_TRY(fct_sae_size_of(from, encoder->name, encoder->transposed, &d, &f));
    if (c->k) FCT_TRY(read_k(&k, from, trainer, where));
    FCT_TRY(fct_where(fct_sae_new(&s, c->kind, d, f, k), "%s", from->path));
    s->apply_b_dec_to_input = c->subtract;
    FCT_TRY_OUT(fct_sae_read_parts(s, from, c->named, count_named(c)));
    if (c->threshold && fct_sae_tensors_find(from, "threshold"))
        FCT_TRY_OUT(fct_sae_take_number(threshold, from, "threshold"));
    for (int64_t i = 0; c->threshold && s->threshold && i < f; i++)
        s->threshold[i] = (float)*threshold;
    if (c->groups) FCT_TRY_OUT(read_groups(s, from));
    if (c->unit_norm) FCT_TRY_OUT(set_unit_norm(s));
    *out = s;
    s = NULL;
out:
    fct_sae_free(s);
    return st;
}

/* The threshold of AutoEncoderTopK, which no kind of facet's has. */
static fct_status keep_threshold(fct_sae *s, double threshold)
{
    fct_status st = FCT_OK;
    fct_str text = {0};
    json_t *j = NULL;
    if (s->facet_json)
        FCT_TRY(fct_json_parse(&j, s->facet_json, (int64_t)strlen(s->facet_json), "facet.json"));
    if (!j) j = json_object();
    if (json_object_set_new(j, own_threshold, json_real(threshold)) != 0) {
        st = fct_fail(FCT_ERR_MEMORY, "out of memory: facet.json");
        goto out;
    }
    FCT_TRY_OUT(fct_json_text(&text, j, 0));
    fct_free(s->facet_json);
    s->facet_json = NULL;
    FCT_TRY_OUT(fct_strdup(&s->facet_json, text.p));
out:
    json_decref(j);
    fct_str_clear(&text);
    return st;
}

static fct_status fail_file(const char *path)
{
    return fct_fail(FCT_ERR_MISSING,
                    "%s: neither openai's tensors (pre_bias, latent_bias, ...) nor a config.json "
                    "of dictionary_learning beside it or one folder above: what SAE it is cannot "
                    "be told",
                    path);
}

fct_status fct_sae_load_dictlearn(fct_sae **out, const char *path, const char *config_dir,
                                  const fct_pth *file)
{
    fct_status st = FCT_OK;
    fct_sae *s = NULL;
    char *where = NULL;
    json_t *j = NULL;
    const struct class *c;
    const char *block, *model, *name;
    double threshold;
    fct_sae_tensors from = fct_sae_tensors_of_pth(file, path);
    if (!fct_dir_has(config_dir, "config.json")) return fail_file(path);
    FCT_TRY_OUT(fct_path_join(&where, config_dir, "config.json"));
    FCT_TRY_OUT(fct_json_read(&j, where));
    const json_t *trainer = json_object_get(j, "trainer");
    if (!json_is_object(trainer)) {
        st = fct_fail(FCT_ERR_FORMAT, "%s: no `trainer`: not dictionary_learning's", where);
        goto out;
    }
    if (fct_pth_find_value(file, "step")) {
        st = fct_fail(FCT_ERR_UNSUPPORTED,
                      "%s: a training backup (step, ae, optimizer, ...), whose weights are scaled "
                      "by a factor: want the final ae.pt or checkpoints/ae_<step>.pt",
                      path);
        goto out;
    }
    FCT_TRY_OUT(fct_json_str(&block, trainer, "submodule_name", NULL, where));
    FCT_TRY_OUT(fct_json_str(&model, trainer, "lm_name", NULL, where));
    FCT_TRY_OUT(fct_json_str(&name, trainer, "dict_class", NULL, where));
    if (fct_sae_is_crosscoder_class(name)) {
        FCT_TRY_OUT(fct_sae_read_crosscoder(&s, name, block, &from));
        FCT_TRY_OUT(fct_sae_read_facet(s, config_dir, NULL, model && model[0] ? model : NULL));
        *out = s;
        s = NULL;
        goto out;
    }
    FCT_TRY_OUT(find_class(&c, trainer, where));
    FCT_TRY_OUT(read_tensors(&s, c, &from, trainer, where, &threshold));
    FCT_TRY_OUT(fct_sae_read_facet(s, config_dir, block, model && model[0] ? model : NULL));
    if (c->kind == FCT_SAE_TOPK && threshold != -1) FCT_TRY_OUT(keep_threshold(s, threshold));
    *out = s;
    s = NULL;
out:
    json_decref(j);
    fct_free(where);
    fct_sae_free(s);
    return st;
}

static bool detect(const char *dir)
{
    return fct_dir_has(dir, "ae.pt");
}

static fct_status load(fct_sae **out, const char *dir)
{
    fct_status st = FCT_OK;
    fct_pth file = {0};
    char *path = NULL;
    *out = NULL;
    FCT_TRY_OUT(fct_path_join(&path, dir, "ae.pt"));
    FCT_TRY_OUT(fct_pth_open(&file, path));
    FCT_TRY_OUT(fct_sae_load_dictlearn(out, path, dir, &file));
    st = fct_sae_read_stats(*out, dir);
    if (st != FCT_OK) {
        fct_sae_free(*out);
        *out = NULL;
    }
out:
    fct_pth_close(&file);
    fct_free(path);
    return st;
}

/* ---- writing ---- */

static bool has_unit_norm(const fct_sae *s)
{
    for (int64_t f = 0; f < s->f; f++) {
        double sum = 0;
        for (int64_t i = 0; i < s->d; i++) sum += pow((double)s->w_dec[f * s->d + i], 2);
        if (fabs(sqrt(sum) - 1) > 1e-5) return false;
    }
    return true;
}

static const struct class *class_for(const fct_sae *s)
{
    for (size_t i = 0; i < FCT_COUNT(class_table); i++) {
        const struct class *c = &class_table[i];
        if (c->kind == s->kind && c->subtract == s->apply_b_dec_to_input &&
            c->groups == (s->n_groups > 0))
            return c;
    }
    return NULL;
}

static fct_status check(const fct_sae *s)
{
    const struct class *c = class_for(s);
    if (s->normalize != FCT_SAE_NORMALIZE_NONE)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "dictionary_learning reads rows as they are, this SAE normalises each");
    if (s->n_blocks > 0) return fct_sae_check_crosscoder(s);
    if (!c)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "dictionary_learning has no class of architecture %s that %s the decoder's "
                        "bias from the input",
                        fct_sae_kind_name(s->kind),
                        s->apply_b_dec_to_input ? "subtracts" : "does not subtract");
    if (c->kind == FCT_SAE_BATCHTOPK && s->k < 1)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "dictionary_learning's %s has a k, which this SAE "
                        "does not tell",
                        c->name);
    if (c->unit_norm && !s->dec_norm && !has_unit_norm(s))
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "dictionary_learning scales the codes of an %s by the norms of its "
                        "directions when it is loaded, and those of this SAE are not 1",
                        c->name);
    return FCT_OK;
}

static bool keeps_dec_norm(const fct_sae *s)
{
    const struct class *c = class_for(s);
    return c && c->unit_norm && s->n_blocks == 0;
}

static fct_status write_config(const fct_sae *s, const struct class *c, const char *dir)
{
    char *full = NULL;
    FCT_TRY(fct_block_name_full(&full, s->block));
    json_t *j = json_pack("{s:{s:s, s:s, s:I, s:I, s:n, s:s, s:s?}, s:{}}", "trainer",
                          "trainer_class", c->trainer, "dict_class", c->name, "activation_dim",
                          (json_int_t)s->d, "dict_size", (json_int_t)s->f, "layer", "lm_name",
                          s->model ? s->model : "", "submodule_name", full, "buffer");
    fct_free(full);
    json_t *trainer = json_object_get(j, "trainer");
    bool ok = j && (!c->k || json_object_set_new(trainer, "k", json_integer(s->k)) == 0);
    if (ok && c->groups) {
        json_t *sizes = json_array();
        for (int64_t i = 0; i < s->n_groups; i++)
            ok = json_array_append_new(sizes, json_integer(s->group_size[i])) == 0 && ok;
        ok = json_object_set_new(trainer, "group_sizes", sizes) == 0 && ok;
    }
    if (ok) return fct_sae_write_json(j, dir, "config.json");
    json_decref(j);
    return fct_fail(FCT_ERR_MEMORY, "out of memory: config.json");
}

static fct_status threshold_of(float *out, const fct_sae *s)
{
    json_t *j = NULL;
    double v = -1;
    *out = s->threshold ? s->threshold[0] : -1;
    if (s->threshold || !s->facet_json) return FCT_OK;
    FCT_TRY(fct_json_parse(&j, s->facet_json, (int64_t)strlen(s->facet_json), "facet.json"));
    fct_status st = fct_json_f64(&v, j, own_threshold, -1, "facet.json");
    *out = (float)v;
    json_decref(j);
    return st;
}

static fct_status fill(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    const struct class *c = class_for(s);
    char *path = NULL;
    int32_t k = (int32_t)s->k;
    float threshold;
    fct_sae_named_part named[FCT_SAE_MAX_NAMED];
    if (s->n_blocks > 0) return fct_sae_fill_crosscoder(s, dir);
    int n = 0, weights = count_named(c);
    FCT_TRY_OUT(threshold_of(&threshold, s));
    if (c->k)
        named[n++] =
            (fct_sae_named_part){.name = "k", .other = fct_tensor_of(&k, FCT_I32, 0, NULL)};
    if (c->threshold)
        named[n++] = (fct_sae_named_part){.name = "threshold",
                                          .other = fct_tensor_of(&threshold, FCT_F32, 0, NULL)};
    if (c->groups)
        named[n++] = (fct_sae_named_part){
            .name = "group_sizes", .other = fct_tensor_of(s->group_size, FCT_I64, 1, &s->n_groups)};
    memcpy(named + n, c->named, (size_t)weights * sizeof *named);
    FCT_TRY_OUT(write_config(s, c, dir));
    FCT_TRY_OUT(fct_path_join(&path, dir, "ae.pt"));
    FCT_TRY_OUT(fct_sae_write_pth(s, path, named, n + weights, &(fct_pth_write_desc){0}));
    FCT_TRY_OUT(fct_sae_write_stats(s, dir));
out:
    fct_free(path);
    return st;
}

const fct_sae_format fct_sae_format_dictlearn = {
    .name = "dictionary-learning",
    .file = {"config.json", "ae.pt", "stats.safetensors", "facet.json"},
    .n_key = 2,
    .detect = detect,
    .load = load,
    .check = check,
    .fill = fill,
    .write_stats = fct_sae_write_stats,
    .keeps_dec_norm = keeps_dec_norm,
    .keeps_blocks = true,
};

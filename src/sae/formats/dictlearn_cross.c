/* dictlearn_cross.c - reads and writes the crosscoders of dictionary_learning (jkminder's fork):
   config.json and ae.pt as its SAEs have them, with matrices of one more dimension, a layer each.
   All layers are D wide:

       encoder.weight [L,D,F]   encoder.bias [F]   decoder.weight [L,F,D]   decoder.bias [L,D]

   CrossCoder keeps what is positive. BatchTopKCrossCoder keeps codes that exceed its threshold when
   they are multiplied by a norm of their directions (code_normalization_id), and leaves them
   unmultiplied: with a norm it is read as a threshold for each feature. Neither subtracts the
   decoder's bias from the rows, so what facet trains has that folded into the encoder's. Rows that
   its own normaliser changes (activation_mean) and thresholds by layer are refused. */
#include <math.h>
#include <string.h>

#include "sae/formats/dictlearn.h"

enum { NORM_CROSSCODER = 1, NORM_SAE, NORM_MIXED, NORM_NONE }; /* as its CodeNormalization counts */

static const struct cross_class {
    const char *name, *trainer;
    bool batch;
} class_table[] = {
    {"CrossCoder", "CrossCoderTrainer", false},
    {"BatchTopKCrossCoder", "BatchTopKCrossCoderTrainer", true},
};

static const struct cross_class *find_class(const char *name)
{
    for (size_t i = 0; i < FCT_COUNT(class_table); i++)
        if (name && strcmp(class_table[i].name, name) == 0) return &class_table[i];
    return NULL;
}

bool fct_sae_is_crosscoder_class(const char *name)
{
    return find_class(name) != NULL;
}

/* ---- reading ---- */

typedef struct sizes {
    int64_t layers, d, f;
} sizes;

static fct_status want(const fct_sae_tensors *from, const char *name, int ndim, const int64_t *dim)
{
    const fct_tensor *t = fct_sae_tensors_find(from, name),
                     good = fct_tensor_of(NULL, FCT_F32, ndim, dim);
    bool same = t->ndim == ndim;
    for (int i = 0; i < ndim && same; i++) same = t->dim[i] == dim[i];
    if (same) return FCT_OK;
    char have[64], text[64];
    fct_shape_text(have, sizeof have, t);
    fct_shape_text(text, sizeof text, &good);
    return fct_fail(FCT_ERR_SHAPE, "%s: %s: want %s, file has %s", from->path, name, text, have);
}

static fct_status read_sizes(sizes *z, const fct_sae_tensors *from, bool batch)
{
    static const fct_sae_named_part named[] = {{.name = "encoder.weight"},
                                               {.name = "encoder.bias"},
                                               {.name = "decoder.weight"},
                                               {.name = "decoder.bias"},
                                               {.name = "k"},
                                               {.name = "threshold"}};
    FCT_TRY(fct_sae_check_parts(from, named, batch ? 6 : 4));
    const fct_tensor *t = fct_sae_tensors_find(from, "encoder.weight");
    if (t->ndim != 3 || t->dim[0] < 1 || t->dim[0] > FCT_SAE_MAX_BLOCKS)
        return fct_fail(FCT_ERR_SHAPE, "%s: encoder.weight: want [layers,D,F], at most %d layers",
                        from->path, FCT_SAE_MAX_BLOCKS);
    *z = (sizes){t->dim[0], t->dim[1], t->dim[2]};
    FCT_TRY(want(from, "encoder.bias", 1, &z->f));
    FCT_TRY(want(from, "decoder.weight", 3, (int64_t[]){z->layers, z->f, z->d}));
    return want(from, "decoder.bias", 2, (int64_t[]){z->layers, z->d});
}

static fct_status floats(float **out, const fct_sae_tensors *from, const char *name)
{
    const fct_tensor *t = fct_sae_tensors_find(from, name);
    FCT_TRY(fct_new_raw(out, fct_tensor_count(t), sizeof **out));
    return fct_sae_take_floats(*out, from->path, name, t);
}

static fct_status read_weights(fct_sae *s, const fct_sae_tensors *from, const sizes *z)
{
    fct_status st = FCT_OK;
    float *enc = NULL, *dec = NULL;
    FCT_TRY_OUT(floats(&enc, from, "encoder.weight"));
    FCT_TRY_OUT(floats(&dec, from, "decoder.weight"));
    for (int64_t l = 0; l < z->layers; l++)
        for (int64_t f = 0; f < z->f; f++)
            for (int64_t i = 0; i < z->d; i++) {
                s->w_enc[f * s->d + l * z->d + i] = enc[(l * z->d + i) * z->f + f];
                s->w_dec[f * s->d + l * z->d + i] = dec[(l * z->f + f) * z->d + i];
            }
    FCT_TRY_OUT(fct_sae_take_floats(s->b_enc, from->path, "encoder.bias",
                                    fct_sae_tensors_find(from, "encoder.bias")));
    FCT_TRY_OUT(fct_sae_take_floats(s->b_dec, from->path, "decoder.bias",
                                    fct_sae_tensors_find(from, "decoder.bias")));
out:
    fct_free(enc);
    fct_free(dec);
    return st;
}

/* The norm by which their code is multiplied before it is compared. */
static double norm_of(const fct_sae *s, int64_t f, const sizes *z, int64_t how)
{
    double sum = 0, all = 0;
    for (int64_t l = 0; l < z->layers; l++) {
        double square = 0;
        for (int64_t i = 0; i < z->d; i++)
            square += pow((double)s->w_dec[f * s->d + l * z->d + i], 2);
        sum += sqrt(square);
        all += square;
    }
    return how == NORM_CROSSCODER ? sum : sqrt(all);
}

static fct_status read_norm(int64_t *how, const fct_sae_tensors *from)
{
    double id = NORM_CROSSCODER; /* older files do not say it, and meant this */
    if (fct_sae_tensors_find(from, "code_normalization_id"))
        FCT_TRY(fct_sae_take_number(&id, from, "code_normalization_id"));
    *how = (int64_t)id;
    if (id == NORM_CROSSCODER || id == NORM_SAE || id == NORM_NONE) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "%s: code_normalization_id %g is not supported: want 1 (CROSSCODER), 2 (SAE) "
                    "or 4 (NONE)",
                    from->path, id);
}

/* Their default, no normaliser, is a mean that is not a number. */
static fct_status check_normaliser(const fct_sae_tensors *from)
{
    const fct_tensor *t = fct_sae_tensors_find(from, "activation_mean");
    float first = NAN;
    if (t && fct_tensor_count(t) > 0 && t->dtype <= FCT_F64)
        FCT_TRY(fct_convert(&first, FCT_F32, t->data, t->dtype, 1));
    if (isnan(first)) return FCT_OK;
    return fct_fail(FCT_ERR_UNSUPPORTED,
                    "%s: rows are normalised by activation_mean and activation_std, which is not "
                    "supported",
                    from->path);
}

/* Names of the layers: those of the submodule when it lists them, else layer0, layer1, ... */
static fct_status name_layers(fct_sae *s, const char *modules, const sizes *z)
{
    fct_sae_block block[FCT_SAE_MAX_BLOCKS] = {{0}};
    fct_status st = FCT_OK;
    int64_t listed = modules && *modules ? 1 : 0;
    for (const char *p = modules; p && *p; p++) listed += *p == ',';
    for (int64_t l = 0; l < z->layers; l++) {
        size_t n = modules ? strcspn(modules, ",") : 0;
        block[l] = (fct_sae_block){.d = z->d, .scale = 1};
        FCT_TRY_OUT(listed == z->layers ? fct_format(&block[l].name, "%.*s", (int)n, modules)
                                        : fct_format(&block[l].name, "layer%lld", (long long)l));
        if (modules) modules += n + (modules[n] == ',');
    }
    if (z->layers > 1) FCT_TRY_OUT(fct_sae_set_blocks(s, block, z->layers));
out:
    for (int64_t l = 0; l < z->layers; l++) fct_free(block[l].name);
    return st;
}

fct_status fct_sae_read_crosscoder(fct_sae **out, const char *class_name, const char *modules,
                                   const fct_sae_tensors *from)
{
    fct_status st = FCT_OK;
    const struct cross_class *c = find_class(class_name);
    fct_sae *s = NULL;
    double k = 0, threshold = 0;
    int64_t how = NORM_NONE;
    sizes z;
    FCT_TRY_OUT(read_sizes(&z, from, c->batch));
    FCT_TRY_OUT(check_normaliser(from));
    if (c->batch) {
        FCT_TRY_OUT(read_norm(&how, from));
        FCT_TRY_OUT(fct_sae_take_number(&k, from, "k"));
        FCT_TRY_OUT(fct_sae_take_number(&threshold, from, "threshold"));
    }
    fct_sae_kind kind = !c->batch          ? FCT_SAE_RELU
                        : how == NORM_NONE ? FCT_SAE_BATCHTOPK
                                           : FCT_SAE_JUMPRELU;
    FCT_TRY_OUT(fct_where(
        fct_sae_new(&s, kind, z.layers * z.d, z.f, k >= 0 && k <= (double)z.f ? (int64_t)k : 0),
        "%s", from->path));
    s->apply_b_dec_to_input = false;
    FCT_TRY_OUT(read_weights(s, from, &z));
    for (int64_t f = 0; f < z.f && s->threshold; f++) {
        double norm = how == NORM_NONE ? 1 : norm_of(s, f, &z, how);
        s->threshold[f] = (float)(norm > 0 ? threshold / norm : threshold);
    }
    FCT_TRY_OUT(name_layers(s, modules, &z));
    *out = s;
    s = NULL;
out:
    fct_sae_free(s);
    return st;
}

/* ---- writing ---- */

fct_status fct_sae_check_crosscoder(const fct_sae *s)
{
    for (int64_t b = 1; b < s->n_blocks; b++)
        if (s->blocks[b].d != s->blocks[0].d)
            return fct_fail(FCT_ERR_UNSUPPORTED,
                            "dictionary_learning's crosscoders have layers of one width, %s is "
                            "%lld wide and %s %lld",
                            s->blocks[0].name, (long long)s->blocks[0].d, s->blocks[b].name,
                            (long long)s->blocks[b].d);
    if (s->kind != FCT_SAE_RELU && s->kind != FCT_SAE_BATCHTOPK)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "dictionary_learning has crosscoders of architecture standard and "
                        "batchtopk, this one is %s",
                        fct_sae_kind_name(s->kind));
    if (s->kind == FCT_SAE_BATCHTOPK && s->k < 1)
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "dictionary_learning's BatchTopKCrossCoder has a k, which this SAE does "
                        "not tell");
    return FCT_OK;
}

static fct_status write_config(const fct_sae *s, const struct cross_class *c, const char *dir)
{
    fct_str modules = {0};
    fct_status st = FCT_OK;
    for (int64_t b = 0; b < s->n_blocks && st == FCT_OK; b++) {
        char *full = NULL;
        st = fct_block_name_full(&full, s->blocks[b].name);
        if (st == FCT_OK) st = fct_str_printf(&modules, "%s%s", b > 0 ? "," : "", full);
        fct_free(full);
    }
    json_t *j = json_pack("{s:{s:s, s:s, s:I, s:I, s:I, s:n, s:s, s:s, s:s}, s:{}}", "trainer",
                          "trainer_class", c->trainer, "dict_class", c->name, "activation_dim",
                          (json_int_t)s->blocks[0].d, "dict_size", (json_int_t)s->f, "num_layers",
                          (json_int_t)s->n_blocks, "layer", "lm_name", s->model ? s->model : "",
                          "submodule_name", modules.p ? modules.p : "", "code_normalization",
                          "NONE", "buffer");
    bool ok = st == FCT_OK && j;
    if (ok && c->batch)
        ok = json_object_set_new(json_object_get(j, "trainer"), "k", json_integer(s->k)) == 0;
    fct_str_clear(&modules);
    if (ok) return fct_sae_write_json(j, dir, "config.json");
    json_decref(j);
    return st != FCT_OK ? st : fct_fail(FCT_ERR_MEMORY, "out of memory: config.json");
}

typedef struct transposed {         /* the tensors of the file */
    float *enc, *dec, *bias, *none; /* [L,D,F], [L,F,D], [F], [L,D] of what is not a number */
} transposed;

static fct_status transpose(transposed *t, const fct_sae *s)
{
    int64_t d = s->blocks[0].d, numbers = s->d * s->f;
    FCT_TRY(fct_new_raw(&t->enc, numbers, sizeof(float)));
    FCT_TRY(fct_new_raw(&t->dec, numbers, sizeof(float)));
    FCT_TRY(fct_new_raw(&t->bias, s->f, sizeof(float)));
    FCT_TRY(fct_new_raw(&t->none, s->d, sizeof(float)));
    for (int64_t f = 0; f < s->f; f++) {
        double bias = s->b_enc[f];
        for (int64_t i = 0; i < s->d; i++) {
            t->enc[i * s->f + f] = s->w_enc[f * s->d + i];
            t->dec[(i / d * s->f + f) * d + i % d] = s->w_dec[f * s->d + i];
            if (s->apply_b_dec_to_input) bias -= (double)s->w_enc[f * s->d + i] * s->b_dec[i];
        }
        t->bias[f] = (float)bias;
    }
    for (int64_t i = 0; i < s->d; i++) t->none[i] = NAN;
    return FCT_OK;
}

fct_status fct_sae_fill_crosscoder(const fct_sae *s, const char *dir)
{
    fct_status st = FCT_OK;
    const struct cross_class *c = &class_table[s->kind == FCT_SAE_BATCHTOPK];
    const int64_t layers = s->n_blocks, d = s->blocks[0].d;
    char *path = NULL;
    transposed t = {0};
    int64_t id = NORM_NONE;
    int32_t k = (int32_t)s->k;
    float one = 1, threshold = s->threshold ? s->threshold[0] : 0;
    FCT_TRY_OUT(transpose(&t, s));
#define TENSOR(text, data, dtype, ndim, ...)                                                \
    {                                                                                       \
        (char *)(uintptr_t)text, fct_tensor_of(data, dtype, ndim, (int64_t[]){__VA_ARGS__}) \
    }
    const fct_tensor_entry entry[] = {
        TENSOR("target_rms", &one, FCT_F32, 0, 0),
        TENSOR("activation_mean", t.none, FCT_F32, 2, layers, d),
        TENSOR("activation_std", t.none, FCT_F32, 2, layers, d),
        TENSOR("activation_global_scale", &one, FCT_F32, 0, 0),
        TENSOR("code_normalization_id", &id, FCT_I64, 0, 0),
        TENSOR("encoder.weight", t.enc, FCT_F32, 3, layers, d, s->f),
        TENSOR("encoder.bias", t.bias, FCT_F32, 1, s->f),
        TENSOR("decoder.weight", t.dec, FCT_F32, 3, layers, s->f, d),
        TENSOR("decoder.bias", s->b_dec, FCT_F32, 2, layers, d),
        TENSOR("k", &k, FCT_I32, 0, 0),
        TENSOR("threshold", &threshold, FCT_F32, 0, 0),
    };
#undef TENSOR
    int64_t n = (int64_t)FCT_COUNT(entry) - (c->batch ? 0 : 2);
    FCT_TRY_OUT(write_config(s, c, dir));
    FCT_TRY_OUT(fct_path_join(&path, dir, "ae.pt"));
    FCT_TRY_OUT(fct_pth_save(path, &(fct_pth_write_desc){.entry = entry, .n = n}));
    FCT_TRY_OUT(fct_sae_write_stats(s, dir));
out:
    fct_free(t.enc);
    fct_free(t.dec);
    fct_free(t.bias);
    fct_free(t.none);
    fct_free(path);
    return st;
}

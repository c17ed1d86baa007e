/* open.c - opens a diffusers folder as a model: configs, tokenizers, text encoders, U-Net and VAE,
   each checked on its own and against the others.
   Weights are packed once, and then the files are closed again. */
#include <stdio.h>
#include <string.h>

#include "model/model.h"

/* ---- parts ---- */

static fct_status sub(char **out, const fct_model *m, const char *component)
{
    FCT_TRY(fct_path_join(out, m->path, component));
    if (fct_path_is_dir(*out)) return FCT_OK;
    fct_status st = fct_fail(FCT_ERR_MISSING, "%s: no folder %s", m->path, component);
    fct_free(*out);
    *out = NULL;
    return st;
}

static fct_status open_text(fct_model *m, int i)
{
    static const char *const encoder[2] = {"text_encoder", "text_encoder_2"},
                             *const tokenizer[2] = {"tokenizer", "tokenizer_2"};
    char *folder = NULL;
    fct_status st = sub(&folder, m, tokenizer[i]);
    if (st == FCT_OK) st = fct_tokenizer_open(&m->tokenizer[i], folder);
    fct_free(folder);
    folder = NULL;
    if (st == FCT_OK) st = sub(&folder, m, encoder[i]);
    if (st == FCT_OK) st = fct_config_clip(&m->clip_config[i], folder, m->log);
    if (i == 0)
        m->clip_config[0].has_projection = false; /* only the second one's pooled vector is used */
    if (st == FCT_OK && i == 1 && !m->clip_config[1].has_projection)
        st = fct_fail(FCT_ERR_UNSUPPORTED, "%s: architectures: want CLIPTextModelWithProjection",
                      folder);
    if (st == FCT_OK) st = fct_clip_open(&m->clip[i], &m->clip_config[i], folder, m->be, m->dtype);
    if (st == FCT_OK && fct_tokenizer_length(m->tokenizer[i]) > m->clip_config[i].positions)
        st = fct_fail(
            FCT_ERR_UNSUPPORTED,
            "%s: model_max_length %lld is more than the encoder's max_position_embeddings %lld",
            tokenizer[i], (long long)fct_tokenizer_length(m->tokenizer[i]),
            (long long)m->clip_config[i].positions);
    fct_free(folder);
    return st;
}

static fct_status check_together(const fct_model *m)
{
    const fct_unet_config *u = &m->unet_config;
    int64_t text = m->clip_config[0].hidden_size + m->clip_config[1].hidden_size;
    int64_t added = m->clip_config[1].projection_dim + 6 * u->addition_time_embed_dim;
    if (u->cross_attention_dim != text)
        return fct_fail(FCT_ERR_SHAPE,
                        "unet: cross_attention_dim is %lld, but the text encoders give %lld",
                        (long long)u->cross_attention_dim, (long long)text);
    if (u->add_in != added)
        return fct_fail(FCT_ERR_SHAPE,
                        "unet: projection_class_embeddings_input_dim is %lld, but the pooled text "
                        "and six sizes make %lld",
                        (long long)u->add_in, (long long)added);
    if (fct_tokenizer_length(m->tokenizer[0]) != fct_tokenizer_length(m->tokenizer[1]))
        return fct_fail(FCT_ERR_UNSUPPORTED,
                        "the two tokenizers have other model_max_length: %lld and %lld",
                        (long long)fct_tokenizer_length(m->tokenizer[0]),
                        (long long)fct_tokenizer_length(m->tokenizer[1]));
    if (m->has_vae && m->vae.config.latent_channels != u->in_channels)
        return fct_fail(FCT_ERR_SHAPE,
                        "unet: in_channels is %lld, but the VAE has %lld latent channels",
                        (long long)u->in_channels, (long long)m->vae.config.latent_channels);
    return FCT_OK;
}

static fct_status build(fct_model *m, fct_binder *b, bool vae)
{
    const fct_ints *size = &m->unet_config.sample_size;
    if (!vae) return fct_unet_build(&m->unet, b, &m->unet_config);
    return fct_vae_build(&m->vae, b, size->v[0] * size->v[size->n == 2 ? 1 : 0]);
}

/* First only shapes, then for good. */
static fct_status open_network(fct_model *m, const char *folder, bool vae)
{
    fct_weights w = {0};
    fct_binder b = {.w = &w,
                    .be = m->be,
                    .dtype = vae ? FCT_F32 : m->dtype,
                    .check = true,
                    .block = -1,
                    .modules = vae ? NULL : &m->modules,
                    .root = vae ? "vae" : "unet"};
    FCT_TRY(fct_weights_open(&w, folder, "diffusion_pytorch_model"));
    fct_status st = build(m, &b, vae);
    if (st == FCT_OK) st = fct_bind_report(&b, b.root);
    if (st == FCT_OK) {
        b.check = false;
        b.block = -1;
        if (vae)
            fct_vae_clear(&m->vae);
        else
            fct_stages_clear(&m->unet);
        st = build(m, &b, vae);
    }
    fct_str_clear(&b.problems);
    fct_weights_close(&w);
    return st;
}

static fct_status open_unet(fct_model *m)
{
    char *folder = NULL;
    FCT_TRY(sub(&folder, m, "unet"));
    fct_status st = fct_config_unet(&m->unet_config, folder, m->log);
    if (st == FCT_OK) st = open_network(m, folder, false);
    fct_free(folder);
    return st;
}

static fct_status open_vae(fct_model *m, bool load)
{
    char *folder = NULL;
    FCT_TRY(sub(&folder, m, "vae"));
    fct_status st = fct_config_vae(&m->vae.config, folder, m->log);
    if (st == FCT_OK && load) st = open_network(m, folder, true);
    if (st == FCT_OK) m->has_vae = load;
    fct_free(folder);
    return st;
}

static fct_status open_scheduler(fct_model *m)
{
    char *folder = NULL;
    FCT_TRY(sub(&folder, m, "scheduler"));
    fct_status st = fct_config_scheduler(&m->scheduler_config, folder, m->log);
    fct_free(folder);
    return st;
}

/* ---- the whole ---- */

fct_status fct_model_plan(char out[65], const fct_model *m)
{
    fct_str text = {0};
    fct_sha256 h;
    fct_status st = fct_str_printf(&text, "%s, %s, ", fct_version(), fct_dtype_name(m->dtype));
    if (st == FCT_OK) st = m->be->describe(&text);
    fct_sha256_init(&h);
    fct_sha256_add(&h, text.p, text.n);
    fct_sha256_hex(&h, out);
    fct_str_clear(&text);
    return st;
}

static fct_status describe(fct_model *m)
{
    const fct_ints *size = &m->unet_config.sample_size;
    fct_model_info *f = &m->info;
    f->path = m->path;
    f->name = m->name;
    f->hash = m->hash;
    f->plan = m->plan;
    f->backend = m->be->name;
    f->precision = m->dtype == FCT_F32 ? "f32" : "bf16";
    f->sample_size = size->v[0];
    f->vae_factor = fct_vae_factor(&m->vae);
    f->latent_channels = m->unet_config.in_channels;
    f->default_height = size->v[0] * f->vae_factor;
    f->default_width = size->v[size->n == 2 ? 1 : 0] * f->vae_factor;
    f->default_steps = m->index.turbo ? 1 : 30;
    f->default_guidance = m->index.turbo ? 0 : 5;
    f->vae_scaling = m->vae.config.scaling_factor;
    f->block = m->block;
    f->n_blocks = m->n_blocks;
    f->n_stages = m->unet.n;
    f->scheduler = m->scheduler_config.class_name;
    if (m->scheduler_config.spacing == FCT_SPACING_TRAILING)
        f->trailing = m->scheduler_config.train_steps;
    return FCT_OK;
}

static fct_status open_all(fct_model *m, const fct_model_desc *d)
{
    char *index = NULL;
    FCT_TRY(fct_path_join(&index, m->path, "model_index.json"));
    bool there = fct_path_exists(index);
    fct_free(index);
    if (!there)
        return fct_fail(FCT_ERR_MISSING, "%s: no model_index.json: want a diffusers folder",
                        m->path);
    FCT_TRY(fct_config_index(&m->index, m->path, m->log));
    FCT_TRY(open_scheduler(m));
    for (int i = 0; i < 2; i++) FCT_TRY(open_text(m, i));
    FCT_TRY(open_unet(m));
    FCT_TRY(open_vae(m, !d->no_vae));
    FCT_TRY(check_together(m));
    FCT_TRY(fct_model_list_blocks(m));
    FCT_TRY(fct_model_hash(m->hash, m->path));
    FCT_TRY(fct_model_plan(m->plan, m));
    return describe(m);
}

fct_status fct_model_open(fct_model **out, const fct_model_desc *d)
{
    const fct_backend *be;
    *out = NULL;
    if (!d || !d->path)
        return fct_fail(FCT_ERR_ARG, "no model folder was given; fct_model_find finds one");
    FCT_TRY(fct_backend_find(&be, d->backend));
    return fct_model_open_on(out, d, be);
}

fct_status fct_model_open_on(fct_model **out, const fct_model_desc *d, const fct_backend *be)
{
    fct_model *m = NULL;
    *out = NULL;
    FCT_TRY(fct_new(&m, 1, sizeof *m));
    m->log = d->log;
    m->be = be;
    bool half = d->precision == FCT_PRECISION_BF16 ||
                (d->precision == FCT_PRECISION_AUTO && be->has_bf16());
    m->dtype = half ? FCT_BF16 : FCT_F32;
    fct_status st = fct_strdup(&m->path, d->path);
    for (size_t n = m->path ? strlen(m->path) : 0; n > 1 && m->path[n - 1] == '/'; n--)
        m->path[n - 1] = '\0';
    if (st == FCT_OK) st = fct_strdup(&m->name, fct_path_base(m->path));
    if (st == FCT_OK) st = open_all(m, d);
    if (st != FCT_OK) {
        fct_model_close(m);
        return st;
    }
    *out = m;
    return FCT_OK;
}

void fct_model_close(fct_model *m)
{
    if (!m) return;
    fct_stages_clear(&m->unet);
    fct_vae_clear(&m->vae);
    fct_modules_clear(&m->modules);
    for (int i = 0; i < 2; i++) {
        fct_tokenizer_close(m->tokenizer[i]);
        fct_clip_close(m->clip[i]);
    }
    fct_model_clear_blocks(m);
    fct_free(m->path);
    fct_free(m->name);
    fct_free(m);
}

const fct_model_info *fct_model_get_info(const fct_model *m)
{
    return &m->info;
}

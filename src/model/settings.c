/* settings.c - says what the settings of a run are and what they mean for a model: the table of
   their fields, their defaults, and whether they can be met. Nothing else resolves a default. */
#include "base/option.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

enum { MAX_SIZE = 8192, MAX_INPUT_SIZE = 65536, MAX_STEPS = 1000, MAX_GUIDANCE = 100 };

static const fct_option table[] = {
    {.name = "seed",
     .kind = FCT_OPTION_U64,
     .at = offsetof(fct_settings, seed),
     .hi = 18446744073709551615.0,
     .value = "N",
     .fallback = "0",
     .help = "seed of the noise: the same as torch.Generator(\"cpu\").manual_seed"},
    {.name = "joint_noise",
     .kind = FCT_OPTION_FLAG,
     .at = offsetof(fct_settings, joint_noise),
     .help = "one draw of noise for the whole batch, as diffusers does with one generator"},
    {.name = "negative",
     .kind = FCT_OPTION_TEXT,
     .at = offsetof(fct_settings, negative),
     .value = "TEXT",
     .otherwise = "as the model's pipeline has it",
     .help = "what guidance leads away from; \"\" is an encoded empty prompt"},
    {.name = "negative_2",
     .kind = FCT_OPTION_TEXT,
     .at = offsetof(fct_settings, negative_2),
     .value = "TEXT",
     .otherwise = "the negative prompt",
     .help = "negative prompt of the second text encoder; \"\" is the negative prompt too"},
    {.name = "width",
     .kind = FCT_OPTION_I64,
     .at = offsetof(fct_settings, width),
     .lo = 8,
     .hi = MAX_SIZE,
     .multiple = 8,
     .zero = true,
     .value = "W",
     .otherwise = "the model's",
     .help = "width of the picture in pixels"},
    {.name = "height",
     .kind = FCT_OPTION_I64,
     .at = offsetof(fct_settings, height),
     .lo = 8,
     .hi = MAX_SIZE,
     .multiple = 8,
     .zero = true,
     .value = "H",
     .otherwise = "the model's",
     .help = "height of the picture in pixels"},
    {.name = "steps",
     .kind = FCT_OPTION_I64,
     .at = offsetof(fct_settings, steps),
     .lo = 1,
     .hi = MAX_STEPS,
     .zero = true,
     .value = "N",
     .otherwise = "the model's",
     .help = "denoising steps"},
    {.name = "guidance",
     .kind = FCT_OPTION_F64,
     .at = offsetof(fct_settings, guidance),
     .hi = MAX_GUIDANCE,
     .none = true,
     .value = "G",
     .otherwise = "the model's",
     .help = "classifier-free guidance; up to 1 means none"},
    {.name = "noise_dtype",
     .kind = FCT_OPTION_ENUM,
     .at = offsetof(fct_settings, noise_dtype),
     .words = "f32,f16,bf16",
     .value = "TYPE",
     .fallback = "f32",
     .help = "type in which the noise is drawn, as torch would"},
    {.name = "original_size",
     .kind = FCT_OPTION_SIZE,
     .at = offsetof(fct_settings, original_width),
     .lo = 1,
     .hi = MAX_INPUT_SIZE,
     .zero = true,
     .value = "WxH",
     .otherwise = "the picture's",
     .help = "SDXL's input: size of the original"},
    {.name = "crop",
     .kind = FCT_OPTION_PAIR,
     .at = offsetof(fct_settings, crop_left),
     .hi = MAX_INPUT_SIZE,
     .value = "X,Y",
     .fallback = "0,0",
     .help = "SDXL's input: left and top of the crop"},
    {.name = "target_size",
     .kind = FCT_OPTION_SIZE,
     .at = offsetof(fct_settings, target_width),
     .lo = 1,
     .hi = MAX_INPUT_SIZE,
     .zero = true,
     .value = "WxH",
     .otherwise = "the picture's",
     .help = "SDXL's input: size of the target"},
    {0}};

const fct_option *fct_settings_table(void)
{
    return table;
}

void fct_settings_resolve(fct_settings *out, const fct_settings *in, const fct_model_info *info)
{
    fct_settings s = in ? *in : (fct_settings){0};
    if (s.width == 0) s.width = info->default_width;
    if (s.height == 0) s.height = info->default_height;
    if (s.steps == 0) s.steps = info->default_steps;
    if (s.guidance == 0) s.guidance = info->default_guidance;
    if (s.guidance == 0) s.guidance = FCT_NONE;
    *out = s;
}

bool fct_settings_guided(const fct_settings *resolved)
{
    return resolved->guidance > 1;
}

double fct_settings_guidance(const fct_settings *s)
{
    return s->guidance == FCT_NONE ? 0 : s->guidance;
}

fct_status fct_settings_check(const fct_settings *s, const fct_model_info *info)
{
    int64_t f = info->vae_factor;
    if (s->width < f || s->height < f || s->width > MAX_INPUT_SIZE || s->height > MAX_INPUT_SIZE ||
        s->width % f || s->height % f)
        return fct_fail(FCT_ERR_ARG,
                        "a picture of %lldx%lld: width and height must be multiples of %lld",
                        (long long)s->width, (long long)s->height, (long long)f);
    if (!isfinite(s->guidance))
        return fct_fail(FCT_ERR_ARG, "guidance %g: want a number", s->guidance);
    if ((unsigned)s->noise_dtype > FCT_NOISE_BF16)
        return fct_fail(FCT_ERR_ARG, "noise is f32, f16 or bf16");
    return FCT_OK;
}

fct_status fct_settings_copy(fct_settings *out, const fct_settings *in)
{
    *out = in ? *in : (fct_settings){0};
    fct_status st = fct_options_own(out, table);
    if (st != FCT_OK) fct_settings_clear(out);
    return st;
}

void fct_settings_clear(fct_settings *s)
{
    fct_options_clear(s, table);
    *s = (fct_settings){0};
}

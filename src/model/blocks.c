/* blocks.c - lists the transformer blocks of a model's U-Net and finds them by name: short names
   (down.2.1), diffusers' names, and globs of either. */
#include <string.h>

#include "model/model.h"

/* How often the map was halved on the way to a stage. */
static int64_t downscale_at(const fct_stages *list, int64_t stage)
{
    int64_t d = 1;
    for (int64_t i = 0; i < stage; i++) {
        if (list->v[i].stride == 2) d *= 2;
        if (list->v[i].up) d /= 2;
    }
    return d;
}

fct_status fct_model_list_blocks(fct_model *m)
{
    for (int64_t i = 1; i < m->modules.n; i++)
        if (m->modules.v[i].block >= 0) m->n_blocks++;
    FCT_TRY(fct_new(&m->block, m->n_blocks, sizeof *m->block));
    for (int64_t i = 1; i < m->modules.n; i++) {
        const fct_module *mod = &m->modules.v[i];
        if (mod->block < 0) continue;
        fct_block_info *b = &m->block[mod->block];
        char *text = NULL;
        FCT_TRY(fct_block_name_short(&text, mod->name));
        b->name = mod->name;
        b->short_name = text;
        b->stage = mod->stage;
        b->channels = m->unet.v[mod->stage].out;
        b->downscale = downscale_at(&m->unet, mod->stage);
    }
    return FCT_OK;
}

void fct_model_clear_blocks(fct_model *m)
{
    for (int64_t i = 0; m->block && i < m->n_blocks; i++) {
        char *text;
        memcpy(&text, &m->block[i].short_name, sizeof text);
        fct_free(text);
    }
    fct_free(m->block);
    m->block = NULL;
    m->n_blocks = 0;
}

/* ---- finding blocks ---- */

static fct_status no_such_block(const fct_block_info *block, int64_t n, const char *name)
{
    fct_str list = {0};
    fct_status st = FCT_OK;
    for (int64_t i = 0; i < n && st == FCT_OK; i++)
        st = fct_str_printf(&list, "%s%s", i ? ", " : "", block[i].short_name);
    if (st == FCT_OK)
        st = fct_fail(FCT_ERR_MISSING, "there is no block \"%s\"; this model has %s", name,
                      list.p ? list.p : "none");
    fct_str_clear(&list);
    return st;
}

fct_status fct_block_find(const fct_block_info **out, const fct_model_info *info, const char *name)
{
    *out = NULL;
    for (int64_t i = 0; i < info->n_blocks; i++)
        if (strcmp(info->block[i].short_name, name) == 0 || strcmp(info->block[i].name, name) == 0)
            *out = &info->block[i];
    return *out ? FCT_OK : no_such_block(info->block, info->n_blocks, name);
}

/* Marks what one entry of the list names. */
static fct_status mark_blocks(uint8_t *wanted, const fct_model *m, const char *entry, int64_t n)
{
    fct_str s = {0};
    fct_status st = fct_str_append_n(&s, entry, n);
    bool any = false;
    for (int64_t i = 0; i < m->n_blocks && st == FCT_OK; i++) {
        if (!fct_glob_match(s.p ? s.p : "", m->block[i].short_name) &&
            !fct_glob_match(s.p ? s.p : "", m->block[i].name))
            continue;
        wanted[i] = 1;
        any = true;
    }
    if (st == FCT_OK && !any) st = no_such_block(m->block, m->n_blocks, s.p ? s.p : "");
    fct_str_clear(&s);
    return st;
}

fct_status fct_model_find_blocks(const fct_block_info ***out, int64_t *out_n, const fct_model *m,
                                 const char *list)
{
    uint8_t *wanted = NULL;
    *out = NULL;
    *out_n = 0;
    FCT_TRY(fct_new(&wanted, m->n_blocks, 1));
    fct_status st = FCT_OK;
    for (const char *p = list ? list : ""; st == FCT_OK;) {
        const char *end = strchr(p, ',');
        int64_t n = end ? end - p : (int64_t)strlen(p);
        while (n > 0 && *p == ' ') p++, n--;
        while (n > 0 && p[n - 1] == ' ') n--;
        st = mark_blocks(wanted, m, p, n);
        if (!end) break;
        p = end + 1;
    }
    if (st == FCT_OK) st = fct_new(out, m->n_blocks, sizeof **out);
    for (int64_t i = 0; i < m->n_blocks && st == FCT_OK; i++)
        if (wanted[i]) (*out)[(*out_n)++] = &m->block[i];
    fct_free(wanted);
    return st;
}

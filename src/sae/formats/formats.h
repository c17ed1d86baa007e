/* formats.h - declares the table of SAE formats, and what their readers and writers share: tensors
   by their names in a file, facet.json, statistics, folders. A new format is a file with a reader,
   a writer and a row in the table (formats.c). */
#ifndef FCT_SAE_FORMATS_FORMATS_H
#define FCT_SAE_FORMATS_FORMATS_H

#include "sae/sae.h"

enum { FCT_SAE_MAX_NAMED = 12, FCT_SAE_MAX_FILES = 6 };

/* ---- the table (formats.c) ---- */

typedef struct fct_sae_format {
    const char *name; /* as `convert --to` takes it */

    /* The files of its folder. The first n_key of them make a folder an SAE; the very first, the
       key, goes first and comes last when the folder is replaced. */
    const char *file[FCT_SAE_MAX_FILES];
    int n_key;

    bool (*detect)(const char *dir);
    fct_status (*load)(fct_sae **out, const char *dir);
    /* A sentence when the format cannot say this SAE (FCT_ERR_UNSUPPORTED). NULL: it can say
       all. */
    fct_status (*check)(const fct_sae *s);
    /* Writes the files, but facet.json, into a fresh folder. */
    fct_status (*fill)(const fct_sae *s, const char *dir);
    fct_status (*write_stats)(const fct_sae *s, const char *dir);
    /* Whether it has a word for this SAE's dec_norm. NULL: never; then fill gets weights with it
       folded in. */
    bool (*keeps_dec_norm)(const fct_sae *s);

    bool mean_std_only; /* of the statistics */
    bool always_facet;  /* facet.json even when there is nothing to say */
    bool keeps_blocks;  /* of a crosscoder */
} fct_sae_format;
extern const fct_sae_format fct_sae_format_saelens, fct_sae_format_sdxl_unbox,
    fct_sae_format_dictlearn, fct_sae_format_sparsify, fct_sae_format_openai;

const fct_sae_format *fct_sae_format_get(fct_sae_layout layout);
const fct_sae_format *fct_sae_format_of(const char *path); /* NULL: no SAE is there */
bool fct_sae_is_torch_file(const char *path);              /* by its name */

/* ---- files that are no folder of a format (openai.c, dictlearn.c) ---- */

/* From an open torch file of openai's; `path` for messages. */
fct_status fct_sae_read_openai(fct_sae **out, const fct_pth *file, const char *path) FCT_MUST_CHECK;
/* From a torch file of dictionary_learning's, whose config.json lies in config_dir. */
fct_status fct_sae_load_dictlearn(fct_sae **out, const char *path, const char *config_dir,
                                  const fct_pth *file) FCT_MUST_CHECK;

/* ---- tensors by their names (tensors.c) ---- */

/* What a format calls one part of an SAE. */
typedef struct fct_sae_named_part {
    const char *name;
    fct_sae_part part;
    bool transposed;  /* of W_ENC or W_DEC: the file's tensor is [D,F] */
    fct_tensor other; /* when writing: this tensor instead of the part, where it has data */
} fct_sae_named_part;

/* An open file, safetensors or torch's. */
typedef struct fct_sae_tensors {
    const char *path;
    const void *file;
    const fct_tensor *(*find)(const void *file, const char *name);
} fct_sae_tensors;
fct_sae_tensors fct_sae_tensors_of_safetensors(const fct_safetensors *file);
fct_sae_tensors fct_sae_tensors_of_pth(const fct_pth *file, const char *path);
const fct_tensor *fct_sae_tensors_find(const fct_sae_tensors *from, const char *name);

/* All of them are there; else one sentence that names all which are not. */
fct_status fct_sae_check_parts(const fct_sae_tensors *from, const fct_sae_named_part *named,
                               int n) FCT_MUST_CHECK;
/* Their shapes are right; fills the parts. */
fct_status fct_sae_read_parts(fct_sae *s, const fct_sae_tensors *from,
                              const fct_sae_named_part *named, int n) FCT_MUST_CHECK;
/* A tensor of any float type as finite f32. */
fct_status fct_sae_take_floats(float *out, const char *path, const char *name,
                               const fct_tensor *t) FCT_MUST_CHECK;
fct_status fct_sae_take_number(double *out, const fct_sae_tensors *from,
                               const char *name) FCT_MUST_CHECK;
/* D and F from the shape of a matrix that is there. */
fct_status fct_sae_size_of(const fct_sae_tensors *from, const char *name, bool transposed,
                           int64_t *d, int64_t *f) FCT_MUST_CHECK;
fct_status fct_sae_write_safetensors(const fct_sae *s, const char *path,
                                     const fct_sae_named_part *named, int n) FCT_MUST_CHECK;
/* `more`: nest and values. Transposes are told by strides, as torch keeps them. */
fct_status fct_sae_write_pth(const fct_sae *s, const char *path, const fct_sae_named_part *named,
                             int n, const fct_pth_write_desc *more) FCT_MUST_CHECK;

/* ---- statistics (stats_file.c) ---- */

fct_status fct_sae_read_stats(fct_sae *s, const char *dir) FCT_MUST_CHECK;
fct_status fct_sae_write_stats(const fct_sae *s, const char *dir) FCT_MUST_CHECK;

/* ---- facet.json (facet_json.c) ---- */

/* `more`, extra members, may be NULL. */
fct_status fct_sae_write_facet(const fct_sae *s, const char *more, const char *dir) FCT_MUST_CHECK;
/* Sets block, model and facet_json; `block` and `model` are what the layout says, and count where
   facet.json is silent. */
fct_status fct_sae_read_facet(fct_sae *s, const char *dir, const char *block,
                              const char *model) FCT_MUST_CHECK;
/* Takes j; NULL: out of memory. */
fct_status fct_sae_write_json(json_t *j, const char *dir, const char *name) FCT_MUST_CHECK;

/* ---- folders (folder.c) ---- */

/* Writes files into a fresh folder beside `dir` through `fill`, then puts them there: the folder
   appears whole or not at all. In an SAE's folder that is there already the file that makes it one
   goes first and comes last, and the old SAE's other files go; see fct_sae_check_place. */
fct_status fct_sae_put_dir(const char *dir, fct_sae_layout layout,
                           fct_status (*fill)(void *user, const char *temp),
                           void *user) FCT_MUST_CHECK;

#endif

/* encode.c - `facet encode` and `facet convert`: applies an SAE to a file of rows, and writes an
   SAE in another layout. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "facet/sae.h"

/* The SAE, of the block that --block names. One that says no block takes that name. */
static fct_status load(fct_cli *c, fct_sae **out, const char *dir)
{
    const char *block = fct_cli_text(c, "block");
    char *brief = NULL;
    fct_sae *s = NULL;
    fct_status st = FCT_OK;
    *out = NULL;
    FCT_TRY_OUT(fct_sae_load(&s, dir, block));
    if (block) FCT_TRY_OUT(fct_block_name_short(&brief, block));
    if (brief && s->block && strcmp(brief, s->block) != 0) {
        st = fct_fail(FCT_ERR_ARG, "%s is the SAE of %s, not of %s", dir, s->block, brief);
        goto out;
    }
    if (brief && !s->block) {
        s->block = brief;
        brief = NULL;
    }
    *out = s;
    s = NULL;
out:
    fct_free(brief);
    fct_sae_free(s);
    return st;
}

static fct_status encode(fct_cli *c)
{
    fct_sae *sae = NULL;
    int64_t rows = 0;
    fct_encode_file_desc desc = {.in = fct_cli_text(c, "in"),
                                 .out = fct_cli_text(c, "out"),
                                 .tensor = fct_cli_text(c, "tensor"),
                                 .rebuild = fct_cli_flag(c, "rebuild"),
                                 .backend = fct_cli_text(c, "backend"),
                                 .log = fct_cli_log(c)};
    if (fct_cli_json(c) && strcmp(desc.out, "-") == 0)
        return fct_cli_usage(c, "--out - and --json both write to standard output");
    FCT_TRY(fct_cli_check_out(desc.out));
    FCT_TRY(load(c, &sae, fct_cli_text(c, "sae")));
    fct_status st = fct_sae_encode_file(sae, &desc, &rows);
    if (st == FCT_OK) {
        if (strcmp(desc.out, "-") != 0)
            fct_cli_say(c, "%s: codes of %" PRId64 " rows", desc.out, rows);
        fct_cli_put(c, "out", json_string(desc.out));
        fct_cli_put(c, "rows", json_integer(rows));
        fct_cli_put(c, "k", sae->kind == FCT_SAE_TOPK ? json_integer(sae->k) : json_null());
        fct_cli_put(c, "n_features", json_integer(sae->f));
    }
    fct_sae_free(sae);
    return st;
}

#define BLOCK_ROW                                                                             \
    {                                                                                         \
        .name = "block", .kind = FCT_CLI_TEXT, .value = "BLOCK", .otherwise = "the only one", \
        .help = "which SAE, when the folder holds several; the block of one that says none"   \
    }

static const fct_cli_option encode_options[] = {
    {.name = "sae",
     .kind = FCT_CLI_FOLDER,
     .value = "SAE",
     .required = true,
     .help = "the SAE's folder"},
    BLOCK_ROW,
    {.name = "in",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .required = true,
     .help = "rows [n,D], .safetensors or .npy"},
    {.name = "tensor",
     .kind = FCT_CLI_TEXT,
     .value = "NAME",
     .otherwise = "rows, else the only 2-D one",
     .help = "tensor of the input file"},
    {.name = "out",
     .letter = 'o',
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .required = true,
     .stream = true,
     .help = "safetensors file to write; - is standard output"},
    {.name = "rebuild", .help = "write the rows' reconstruction too: rebuilt, f32 [rows,D]"},
    {0}};

const fct_cli_command fct_cmd_encode = {
    .name = "encode",
    .summary = "apply an SAE to a file of rows",
    .text =
        "Writes indices (int32) and values (f32), both [rows,k], strongest first; slots beyond "
        "the positive ones hold value 0. For SAEs without a fixed k: "
        "row_offsets (int64 [rows+1]) and flat indices and values. --rebuild adds what the codes "
        "make of the rows.",
    .examples = "facet encode --sae sae --in x.safetensors --out codes.safetensors",
    .options = {encode_options, fct_cli_backend, fct_cli_common},
    .run = encode,
};

/* What is not in the result: a line on stderr, a list in --json. */
static void say_lost(fct_cli *c, const fct_sae *s, fct_sae_layout to, const char *out)
{
    const char *name[4];
    int n = fct_sae_lost_stats(s, to, name);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_string(name[i]));
    fct_cli_put(c, "dropped", list);
    if (n > 0)
        fct_log_line(fct_cli_log(c), FCT_LOG_WARN,
                     "%s: the %s layout has no place for each feature's %s%s%s: dropped", out,
                     fct_sae_layout_name(to), name[0], n > 1 ? " and " : "", n > 1 ? name[1] : "");
}

static fct_status convert(fct_cli *c)
{
    fct_sae *sae = NULL;
    const char *out = fct_cli_text(c, "output");
    FCT_TRY(fct_cli_check_dir(out));
    fct_sae_layout to;
    FCT_TRY(fct_sae_layout_find(&to, fct_cli_text(c, "to")));
    FCT_TRY(fct_sae_check_place(out, to));
    FCT_TRY(load(c, &sae, fct_cli_operand_at(c, 0)));
    fct_status st = fct_sae_save_as(sae, out, to);
    if (st == FCT_OK) {
        fct_cli_say(c, "%s: %" PRId64 " features of width %" PRId64 ", %s layout", out, sae->f,
                    sae->d, fct_cli_text(c, "to"));
        fct_cli_put(c, "out", json_string(out));
        fct_cli_put(c, "layout", json_string(fct_cli_text(c, "to")));
        fct_cli_put(c, "n_features", json_integer(sae->f));
        fct_cli_put(c, "d", json_integer(sae->d));
        say_lost(c, sae, to, out);
    }
    fct_sae_free(sae);
    return st;
}

static const fct_cli_option convert_options[] = {
    {.name = "to",
     .kind = FCT_CLI_CHOICE,
     .value = "LAYOUT",
     .choices = "sdxl-unbox,saelens,dictionary-learning,sparsify,openai",
     .required = true,
     .help = "sdxl-unbox: the paper's authors' (config.json, state_dict.pth, mean.pt, std.pt); "
             "saelens: cfg.json, sae_weights.safetensors; dictionary-learning: config.json, ae.pt; "
             "sparsify: cfg.json, sae.safetensors; openai: autoencoder.pt"},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FOLDER,
     .value = "DIR",
     .required = true,
     .help = "folder to write"},
    BLOCK_ROW,
    {0}};

const fct_cli_command fct_cmd_convert = {
    .name = "convert",
    .summary = "write an SAE in another layout",
    .text =
        "Tensors are kept byte for byte. What a layout cannot say (a kind of SAE, rows that are "
        "normalised, a bias that is not subtracted) is refused with the reason and the layouts "
        "that can; statistics that it has no place for are named and dropped. "
        "docs/formats.md lists what each keeps. facet.json beside the result tells the block, "
        "the model and how the SAE was made; stats.safetensors its statistics.",
    .examples = "facet convert sae --to sdxl-unbox -o sae-pth\nfacet convert checkpoints --block "
                "down.2.1 --to saelens -o down.2.1",
    .operand = {{.name = "SAE",
                 .help = "an SAE's folder in any of the layouts, or its .pt file; or the "
                         "authors' checkpoints folder with --block"}},
    .options = {convert_options, fct_cli_common},
    .run = convert,
};

/* capture.c - `facet capture`: stores the activations of blocks for every prompt, or imports rows
   that others made. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd/run.h"
#include "facet/store.h"

/* As --store-dtype's choices. */
static const fct_store_dtype store_types[] = {FCT_STORE_F16, FCT_STORE_BF16, FCT_STORE_F32,
                                              FCT_STORE_I8};
static const fct_tap_what whats[] = {FCT_TAP_DELTA, FCT_TAP_IN, FCT_TAP_OUT};
static const fct_half halves[] = {FCT_HALF_COND, FCT_HALF_UNCOND, FCT_HALF_BOTH};

static fct_status put_store(fct_cli *c, const char *path)
{
    fct_store *s = NULL;
    FCT_TRY(fct_store_open(&s, path));
    const fct_store_info *info = fct_store_get_info(s);
    json_t *blocks = json_array();
    for (int64_t i = 0; i < info->n_blocks; i++) {
        const fct_store_block *b = &info->block[i];
        json_t *j = json_pack("{s:s, s:I, s:I}", "name", b->name, "rows", (json_int_t)b->rows, "d",
                              (json_int_t)b->d);
        char error[64] = "";
        if (b->rounding_error >= 0) {
            (void)json_object_set_new(j, "rounding_error", json_real(b->rounding_error));
            snprintf(error, sizeof error, ", relative rounding error %.2g", b->rounding_error);
        }
        json_array_append_new(blocks, j);
        fct_cli_say(c, "%s/%s: %" PRId64 " rows of %" PRId64 " %s numbers%s", path, b->name,
                    b->rows, b->d, fct_dtype_name(info->dtype), error);
    }
    fct_cli_put(c, "store", json_string(path));
    fct_cli_put(c, "blocks", blocks);
    fct_store_close(s);
    return FCT_OK;
}

static fct_status import_rows(fct_cli *c)
{
    static const char *const capture_only[] = {"prompts",  "blocks",    "at-steps", "steps",
                                               "guidance", "negative",  "model",    "width",
                                               "height",   "shard-size"};
    const char **files = NULL;
    for (size_t i = 0; i < FCT_COUNT(capture_only); i++)
        if (fct_cli_given(c, capture_only[i]))
            return fct_cli_usage(c,
                                 "--import takes rows as they are: --%s has no meaning beside it",
                                 capture_only[i]);
    if (!fct_dist_alone(fct_cli_ranks(c)))
        return fct_cli_usage(c, "--import runs in one process: start it without mpirun or srun");
    int64_t n = fct_cli_count(c, "import");
    FCT_TRY(fct_cli_check_dir(fct_cli_text(c, "output")));
    FCT_TRY(fct_new(&files, n, (int64_t)sizeof *files));
    for (int64_t i = 0; i < n; i++) files[i] = fct_cli_text_at(c, "import", i);
    fct_import_desc desc = {.files = files,
                            .n_files = n,
                            .tensor = fct_cli_text(c, "tensor"),
                            .block = fct_cli_text(c, "block"),
                            .out = fct_cli_text(c, "output"),
                            .log = fct_cli_log(c)};
    if (fct_cli_given(c, "store-dtype"))
        desc.store_dtype = store_types[fct_cli_choice(c, "store-dtype")];
    fct_status st = fct_store_import(&desc);
    fct_free(files);
    return st == FCT_OK ? put_store(c, desc.out) : st;
}

static fct_status check_use(fct_cli *c)
{
    const int64_t *at;
    int64_t n = fct_cli_steps(c, "at-steps", &at);
    if (!fct_cli_given(c, "prompts"))
        return fct_cli_usage(c, "--prompts FILE is missing (or --import FILE)");
    if (strcmp(fct_cli_text(c, "prompts"), "-") == 0 && !fct_dist_alone(fct_cli_ranks(c)))
        return fct_cli_usage(c, "--prompts -: standard input reaches one rank only: give a file");
    if (fct_cli_given(c, "tensor") || fct_cli_given(c, "block"))
        return fct_cli_usage(
            c, "--tensor and --block go with --import; --blocks chooses what to capture");
    /* some schedulers make one step more of some numbers: that one is the model's to judge */
    if (n > 0 && fct_cli_given(c, "steps") && at[n - 1] > fct_cli_i64(c, "steps") + 1)
        return fct_cli_usage(c, "--at-steps %s: there are only %" PRId64 " steps",
                             fct_cli_text(c, "at-steps"), fct_cli_i64(c, "steps"));
    if (fct_cli_choice(c, "branch") != 0 && fct_cli_given(c, "guidance") &&
        fct_cli_f64(c, "guidance") <= 1)
        return fct_cli_usage(
            c,
            "--branch %s needs --guidance above 1: without guidance there is no unconditional half",
            fct_cli_text(c, "branch"));
    return fct_cli_check_dir(fct_cli_text(c, "output"));
}

static fct_status capture(fct_cli *c, fct_session *session, const fct_prompts *prompts)
{
    fct_capture_report report = {0};
    const int64_t *at;
    int64_t n_at = fct_cli_steps(c, "at-steps", &at);
    fct_settings settings = {0};
    FCT_TRY(fct_cli_read(&settings, c, fct_settings_table));
    fct_capture_desc desc = {.session = session,
                             .prompts = prompts->item,
                             .n_prompts = prompts->n,
                             .blocks = fct_cli_text(c, "blocks"),
                             .what = whats[fct_cli_choice(c, "what")],
                             .settings = &settings,
                             .at_steps = n_at > 0 ? at : NULL,
                             .n_at_steps = n_at,
                             .branch = halves[fct_cli_choice(c, "branch")],
                             .store_dtype = store_types[fct_cli_choice(c, "store-dtype")],
                             .batch = fct_cli_i64(c, "batch"),
                             .out = fct_cli_text(c, "output"),
                             .shard_bytes = fct_cli_i64(c, "shard-size") << 20,
                             .ranks = fct_cli_ranks(c),
                             .log = fct_cli_log(c)};
    FCT_TRY(fct_capture(&desc, &report));
    if (report.was_complete) fct_cli_note(c, "the store was complete already");
    fct_cli_put(c, "prompts", json_integer(report.prompts));
    fct_cli_put(c, "rows", json_integer(report.rows));
    fct_cli_put(c, "bytes", json_integer(report.bytes));
    fct_cli_put(c, "resumed_at", json_integer(report.resumed_at));
    fct_cli_put(c, "seconds", json_real(report.seconds));
    return put_store(c, desc.out);
}

static fct_status run(fct_cli *c)
{
    fct_status st = FCT_OK;
    fct_prompts prompts = {0};
    fct_model *model = NULL;
    fct_session *session = NULL;
    if (fct_cli_count(c, "import") > 0) return import_rows(c);
    FCT_TRY_OUT(check_use(c));
    FCT_TRY_OUT(fct_prompts_read(&prompts, fct_cli_text(c, "prompts")));
    fct_prompts first = {.item = prompts.item, .n = prompts.n};
    if (fct_cli_given(c, "limit") && fct_cli_i64(c, "limit") < first.n)
        first.n = fct_cli_i64(c, "limit");
    FCT_TRY_OUT(fct_cli_model_open(&model, c, true));
    FCT_TRY_OUT(fct_cli_session_open(&session, c, model));
    FCT_TRY_OUT(capture(c, session, &first));
out:
    fct_session_close(session);
    fct_model_close(model);
    fct_prompts_clear(&prompts);
    return st;
}

static const fct_cli_option options[] = {
    {.name = "prompts",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .stream = true,
     .help = "a prompt a line; .jsonl: key prompt; .csv: column prompt; - is standard input"},
    {.name = "limit",
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 9223372036854775807.0,
     .otherwise = "all",
     .help = "only the first N prompts"},
    {.name = "blocks",
     .kind = FCT_CLI_TEXT,
     .value = "LIST",
     .fallback = "*",
     .help = "blocks by short or full name, * and ? match: down.2.1,up.0.*"},
    {.name = "what",
     .kind = FCT_CLI_CHOICE,
     .value = "WHAT",
     .choices = "delta,in,out",
     .fallback = "delta",
     .help = "what the block writes (out minus in), reads, or hands on"},
    {.name = "steps", .table = fct_settings_table},
    {.name = "at-steps",
     .kind = FCT_CLI_STEPS,
     .value = "LIST",
     .lo = 1,
     .hi = 1000,
     .otherwise = "every step",
     .help = "the steps to keep"},
    {.name = "guidance", .table = fct_settings_table},
    {.name = "negative", .letter = 'n', .table = fct_settings_table},
    {.name = "branch",
     .kind = FCT_CLI_CHOICE,
     .value = "HALF",
     .choices = "cond,uncond,both",
     .fallback = "cond",
     .help = "half of guidance to keep"},
    {.name = "seed",
     .table = fct_settings_table,
     .help = "prompt number i, from 0, has seed N + i"},
    {.name = "width", .letter = 'W', .table = fct_settings_table},
    {.name = "height", .letter = 'H', .table = fct_settings_table},
    {.name = "batch",
     .letter = 'b',
     .kind = FCT_CLI_INT,
     .value = "N",
     .lo = 1,
     .hi = 256,
     .otherwise = "by the picture's size",
     .help = "prompts in one run; rows of other batch sizes differ by rounding"},
    {.name = "store-dtype",
     .kind = FCT_CLI_CHOICE,
     .value = "TYPE",
     .choices = "f16,bf16,f32,i8",
     .fallback = "f16",
     .help = "type of the rows on disk; i8: 8 bits with a scale for each row"},
    {.name = "shard-size",
     .kind = FCT_CLI_INT,
     .value = "MIB",
     .fallback = "32",
     .lo = 1,
     .hi = 4096,
     .help = "rows of a block in one file, about; ranks and continuations work in shards"},
    {.name = "import",
     .kind = FCT_CLI_FILE,
     .value = "FILE",
     .many = true,
     .help = "no model: rows from .safetensors, .npy or WebDataset .tar files become the "
             "store; repeatable"},
    {.name = "tensor",
     .kind = FCT_CLI_TEXT,
     .value = "NAME",
     .otherwise = "rows, else the only 2-D one",
     .help = "with --import: tensor to take"},
    {.name = "block",
     .kind = FCT_CLI_TEXT,
     .value = "NAME",
     .otherwise = "rows",
     .help = "with --import: name of the block"},
    {.name = "output",
     .letter = 'o',
     .kind = FCT_CLI_FOLDER,
     .value = "STORE",
     .required = true,
     .help = "the store; an unfinished one with the same options is continued after its last "
             "full shard"},
    {0}};

const fct_cli_command fct_cmd_capture = {
    .name = "capture",
    .summary = "run prompts and keep what blocks write, as safetensors",
    .text =
        "One folder a block, with shards that hold rows [n,D] and the prompt, step, branch and "
        "place of each row; store.json holds the rest. "
        "The size is said before the start. After a kill or Ctrl-C the same command goes on "
        "from the last full shard (--shard-size; a smaller capture starts over), and ends "
        "with the same bytes. Under mpirun -n N (or srun) N ranks, each with the model, write a "
        "shard each at a time: the same bytes again, whatever N is and was before a kill.",
    .examples = "facet capture --prompts prompts.txt --blocks down.2.1,up.0.1 -o store\n"
                "facet capture --import rows.npy --block down.2.1 -o store\n"
                "mpirun -n 8 facet capture --prompts prompts.txt -o store",
    .options = {options, fct_cli_instrument, fct_cli_common},
    .run = run,
    .ranks = true,
};

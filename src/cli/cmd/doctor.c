/* doctor.c - `facet doctor`: tells what this machine and this build offer, and what facet would use
   of it. Ends with 0 when a model opens and draws, else 1. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <inttypes.h>
#include <pcre2.h>
#include <png.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include <zip.h>
#include <zlib.h>

#include "cli/cmd/run.h"
#include "cli/link.h"
#include "facet/device.h"

static const char *pcre2_text(void)
{
    static char text[64]; /* filled once by the library: "10.42 2022-12-11" */
    pcre2_config(PCRE2_CONFIG_VERSION, text);
    text[strcspn(text, " ")] = '\0';
    return text;
}

static const char *libpng_text(void)
{
    return png_get_libpng_ver(NULL);
}

static const char *mpi_text(void)
{
    const char *text = fct_cli_link_library();
    return text ? text : "";
}

static const struct library {
    const char *name, *does;
    const char *(*version)(void);
} libraries[] = {
    {"jansson", "JSON", jansson_version_str},
    {"PCRE2", "the tokenizer's pattern", pcre2_text},
    {"utf8proc", "Unicode", utf8proc_version},
    {"libpng", "pictures", libpng_text},
    {"zlib", "pictures, archives", zlibVersion},
    {"libzip", ".pth and .npz files", zip_libzip_version},
    {"MPI", "several machines", mpi_text},
};

static void say_libraries(fct_cli *c)
{
    json_t *o = json_object();
    for (size_t i = 0; i < FCT_COUNT(libraries); i++) {
        const char *version = libraries[i].version();
        if (!version[0]) continue; /* built without */
        fct_cli_say(c, "library    %-9s %-10s %s", libraries[i].name, version, libraries[i].does);
        json_object_set_new(o, libraries[i].name, json_string(version));
    }
    fct_cli_put(c, "libraries", o);
}

static fct_status say_backends(fct_cli *c)
{
    json_t *o = json_object();
    fct_cli_put(c, "backends", o);
    for (int64_t i = 0; i < fct_backend_count(); i++) {
        fct_backend_info be;
        FCT_TRY(fct_backend_describe(&be, i));
        fct_cli_say(c, "backend    %-9s %s; --dtype auto means %s", be.name, be.about,
                    be.fast_bf16 ? "bf16" : "f32");
        json_object_set_new(o, be.name,
                            json_pack("{s:s, s:b}", "description", be.about, "fast_bf16",
                                      (int)be.fast_bf16));
    }
    return FCT_OK;
}

static void say_machine(fct_cli *c)
{
    fct_machine m;
    fct_machine_describe(&m);
    double memory = (double)m.memory_bytes / 1e9;
    fct_cli_say(c, "facet      %s", fct_version());
    fct_cli_say(c,
                "machine    %" PRId64 " cores, %.1f GB of memory; %" PRId64
                " threads will compute",
                m.cores, memory, m.threads);
    fct_cli_put(c, "version", json_string(fct_version()));
    fct_cli_put(c, "cores", json_integer(m.cores));
    fct_cli_put(c, "memory_gb", json_real(memory));
    fct_cli_put(c, "threads", json_integer(m.threads));
}

/* One picture of the least work, so that a broken library shows here and not later. */
static fct_status try_model(fct_cli *c, const char *path)
{
    fct_model *m = NULL;
    fct_session *s = NULL;
    fct_run_result r = {0};
    double start = fct_seconds();
    fct_model_desc desc = {.path = path, .log = fct_cli_log(c)};
    FCT_TRY(fct_cli_read_all(&desc, c, fct_model_table));
    FCT_TRY(fct_model_open(&m, &desc));
    double opened = fct_seconds();
    fct_run_item item = {.prompt = "a test"};
    fct_run_desc run = {.items = &item, .n_items = 1, .settings = &(fct_settings){.steps = 1}};
    fct_status st = fct_session_open(&s, m, NULL);
    if (st == FCT_OK) st = fct_session_run(s, &run, &r);
    if (st == FCT_OK) {
        const fct_model_info *info = fct_model_get_info(m);
        fct_cli_say(c, "model      %s, %s %s: opened in %.2f s, one step and the picture in %.2f s",
                    info->name, info->backend, info->precision, opened - start,
                    fct_seconds() - opened);
        fct_cli_put(c, "model",
                    json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "name", info->name, "path", path,
                              "backend", info->backend, "precision", info->precision,
                              "open_seconds", opened - start, "run_seconds",
                              fct_seconds() - opened));
    }
    fct_run_result_clear(&r);
    fct_session_close(s);
    fct_model_close(m);
    return st;
}

static fct_status run(fct_cli *c)
{
    char *path = NULL;
    const char *name = fct_cli_text(c, "model");
    say_machine(c);
    FCT_TRY(say_backends(c));
    say_libraries(c);
    FCT_TRY(fct_model_find(&path, name));
    fct_cli_say(c, "model      %s: %s", name ? "given" : "demo model", path);
    fct_status st = try_model(c, path);
    if (st == FCT_OK) fct_cli_say(c, "all is well");
    fct_free(path);
    return st;
}

const fct_cli_command fct_cmd_doctor = {
    .name = "doctor",
    .summary = "show libraries, instruction set, threads and model, and whether they work",
    .examples = "facet doctor\nfacet doctor --model stabilityai/sdxl-turbo",
    .options = {fct_cli_model, fct_cli_common},
    .run = run,
};

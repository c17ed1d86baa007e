/* replay.c - runs a fuzz target over every file of the folders that it is given, without libFuzzer:
   each finding that was kept is tried again in every ordinary test run. Each file is also tried cut
   short and with single bits flipped. */
#include <stdio.h>

#include "base/base.h"
#include "fuzz.h"

static fct_status replay_file(const char *path)
{
    char *data;
    int64_t n;
    FCT_TRY(fct_file_read(&data, &n, path));
    LLVMFuzzerTestOneInput((const uint8_t *)data, (size_t)n);
    for (int64_t cut = 0; cut < n; cut += 1 + n / 16)
        LLVMFuzzerTestOneInput((const uint8_t *)data, (size_t)cut);
    for (int64_t i = 0; i < n; i += 1 + n / 64) {
        data[i] = (char)(data[i] ^ (1 << (i % 8)));
        LLVMFuzzerTestOneInput((const uint8_t *)data, (size_t)n);
        data[i] = (char)(data[i] ^ (1 << (i % 8)));
    }
    fct_free(data);
    return FCT_OK;
}

static fct_status replay_folder(const char *folder, int64_t *done)
{
    fct_status st = FCT_OK;
    char **names, *path = NULL;
    int64_t n;
    FCT_TRY(fct_dir_list(&names, &n, folder));
    for (int64_t i = 0; i < n && st == FCT_OK; i++) {
        st = fct_path_join(&path, folder, names[i]);
        if (st == FCT_OK) st = replay_file(path);
        fct_free(path);
        path = NULL;
        ++*done;
    }
    fct_names_free(names, n);
    return st;
}

int main(int argc, char **argv)
{
    int64_t done = 0;
    fct_status st = FCT_OK;
    for (int i = 1; i < argc && st == FCT_OK; i++) st = replay_folder(argv[i], &done);
    if (st != FCT_OK) fprintf(stderr, "%s\n", fct_error_text());
    printf("%d files replayed\n", (int)done);
    return st != FCT_OK || done == 0;
}

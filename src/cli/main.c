/* main.c - runs the program: finds the command, lets its table read the words, runs it, and turns
   the outcome into an exit code.

   0 done, 1 failed, 2 usage, 130 after Ctrl-C, 143 after SIGTERM. The first signal raises the stop
   flag, and the command ends at the next place where nothing is half-written; a second one ends the
   program at once (files still appear whole or not at all). */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/link.h"
#include "cli/state.h"

static volatile int stop_flag;

/* Waits for the first signal, then lets a second one have its default effect, on this thread. */
static void *wait_for_signal(void *set)
{
    int number = 0;
    if (sigwait(set, &number) == 0) {
        stop_flag = number;
        pthread_sigmask(SIG_UNBLOCK, set, NULL);
        for (;;) pause();
    }
    return NULL;
}

/* A thread of its own takes the signals, and later threads inherit the mask: a handler would run on
   a thread that computes. With one, 4 of 130 stopped trainings ended in malloc's "corrupted size",
   inside oneDNN 2.6's sgemm; with this thread none of 120 did. */
static void watch_signals(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
    static sigset_t set;
    pthread_t thread;
    sigemptyset(&set);
    for (size_t i = 0; i < FCT_COUNT(stops); i++) {
        struct sigaction was;
        if (sigaction(stops[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
            sigaddset(&set, stops[i]);
    }
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) == 0) {
        if (pthread_create(&thread, NULL, wait_for_signal, &set) == 0)
            pthread_detach(thread);
        else
            pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* without a thread they end the program */
    }
    struct sigaction a;
    a = (struct sigaction){
        .sa_handler = SIG_IGN}; /* a closed pipe or a size limit is an error of the write */
    sigaction(SIGPIPE, &a, NULL);
    sigaction(SIGXFSZ, &a, NULL);
}

static int exit_code(fct_status st, bool usage)
{
    if (st == FCT_OK) return 0;
    if (st == FCT_ERR_STOPPED && stop_flag) return 128 + stop_flag;
    return usage ? 2 : 1;
}

static fct_status show_help(const fct_cli_command *command)
{
    fct_str text = {0};
    fct_status st = fct_cli_help_command(&text, command);
    if (st == FCT_OK) st = fct_cli_print(&text);
    fct_str_clear(&text);
    return st;
}

/* The words that ask for JSON count even when the rest is wrong, so that a program always gets an
   object. */
static bool asks_json(int n, char *const *words)
{
    for (int i = 0; i < n && strcmp(words[i], "--") != 0; i++)
        if (strcmp(words[i], "--json") == 0) return true;
    return false;
}

/* Ranks of one machine share its cores, unless the user said how. */
static void share_cores(const fct_cli *c)
{
    int64_t each = sysconf(_SC_NPROCESSORS_ONLN) / fct_dist_on_host(c->ranks);
    if (fct_cli_given(c, "threads") || getenv("OMP_NUM_THREADS")) return;
    if (each < fct_threads()) fct_threads_set(each > 1 ? (int)each : 1);
}

static fct_status run_parsed(fct_cli *c)
{
    c->json = fct_cli_flag(c, "json");
    c->quiet = fct_cli_flag(c, "quiet");
    c->verbose = fct_cli_flag(c, "verbose");
    if (fct_cli_given(c, "threads")) fct_threads_set((int)fct_cli_i64(c, "threads"));
    if (fct_dist_alone(c->ranks)) return c->command->run(c);
    share_cores(c);
    if (c->command->ranks) return c->command->run(c);
    return fct_cli_usage(c, "%s runs in one process: start it without mpirun or srun",
                         c->command->name);
}

static int run_command(const fct_cli_command *command, int n, char *const *words)
{
    fct_cli_bar bar = {0};
    fct_cli c = {.bar = &bar, .command = command, .json = asks_json(n, words)};
    bool want_help = false;
    fct_cli_report_init(&c, &stop_flag);
    fct_link link;
    fct_status st = fct_cli_link_open(&link, &stop_flag);
    if (st == FCT_OK) st = fct_dist_open(&c.ranks, &link);
    c.mute = !fct_dist_speaks(c.ranks);
    if (st == FCT_OK) st = fct_cli_parse(&c, command, n, words, &want_help);
    if (st == FCT_OK && want_help && !c.mute) st = show_help(command);
    if (st == FCT_OK && !want_help) st = run_parsed(&c);
    st = fct_dist_finish(c.ranks, st);
    c.mute = !fct_dist_speaks(c.ranks);
    if (!want_help) st = fct_cli_report_end(&c, st);
    int code = exit_code(st, c.usage);
    fct_dist_close(c.ranks);
    fct_cli_clear(&c);
    return code;
}

/* `facet features`, `facet features --help`: what verbs there are. */
static int show_group(const char *group, bool asked)
{
    fct_str text = {0};
    fct_status st = fct_cli_help_group(&text, group);
    if (st == FCT_OK && asked) st = fct_cli_print(&text);
    if (st == FCT_OK && !asked) fputs(text.p, stderr);
    fct_str_clear(&text);
    return st != FCT_OK ? 1 : asked ? 0 : 2;
}

static int show_program(void)
{
    fct_str text = {0};
    fct_status st = fct_cli_help_program(&text);
    if (st == FCT_OK) st = fct_cli_print(&text);
    fct_str_clear(&text);
    if (st != FCT_OK) fct_cli_error(fct_error_text());
    return st == FCT_OK ? 0 : 1;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Threads that wait should sleep. The OpenMP runtime lets them spin by default, which on a machine
   with other work to do costs milliseconds a parallel region (bench/SPEED.md); it reads its policy
   before main, hence the second start. A policy that the user set is left alone. */
static void let_threads_sleep(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    int used = 0, n = argc - 1;
    char **words = argv + 1;
    let_threads_sleep(argv);
    watch_signals();
    if (argc < 1 || n < 1 || is_help(words[0])) return show_program();
    if (strcmp(words[0], "--version") == 0) {
        printf("facet %s\n", fct_version());
        return fflush(stdout) == 0 ? 0 : 1;
    }
    const fct_cli_command *command = fct_cli_find(n, words, &used);
    if (command) return run_command(command, n - used, words + used);
    if (fct_cli_is_group(words[0]) && (n == 1 || is_help(words[1])))
        return show_group(words[0], n > 1);
    fct_status st = fct_cli_fail_command(n, words);
    fct_cli_bar bar = {0};
    fct_cli c = {.bar = &bar, .json = asks_json(n, words), .usage = true};
    fct_cli_report_end(&c, st);
    fct_cli_clear(&c);
    return 2;
}

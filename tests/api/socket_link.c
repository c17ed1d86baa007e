/* socket_link.c - two processes do one job over a link made of a socketpair: they agree on a status
   and train one SAE together, which ends the same on both. */
#include <errno.h>
#include <facet/dist.h>
#include <facet/train.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 4000, D = 8 };

/* Writes and reads at once, so that two ranks that write to each other do not wait for ever. */
static fct_status exchange(void *self, const fct_link_piece *send_to, const fct_link_piece *recv_of,
                           fct_link_break *why)
{
    const int *fd = self; /* fd[0]: the socket; fd[1]: the rank of the other */
    const char *out = send_to[fd[1]].data;
    char *in = recv_of[fd[1]].data;
    size_t to_send = (size_t)send_to[fd[1]].bytes, to_read = (size_t)recv_of[fd[1]].bytes;
    while (to_send > 0 || to_read > 0) {
        struct pollfd p = {.fd = fd[0],
                           .events = (short)((to_send ? POLLOUT : 0) | (to_read ? POLLIN : 0))};
        if (poll(&p, 1, -1) < 0 && errno != EINTR) break;
        if (p.revents & POLLOUT) {
            ssize_t n = send(fd[0], out, to_send, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN) break;
            if (n > 0) out += n, to_send -= (size_t)n;
        }
        if (p.revents & (POLLIN | POLLHUP)) {
            ssize_t n = recv(fd[0], in, to_read, MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN)) break;
            if (n > 0) in += n, to_read -= (size_t)n;
        }
    }
    if (to_send == 0 && to_read == 0) return FCT_OK;
    why->speaker = 1 - fd[1]; /* this one, since the other is gone */
    return fct_error_set(FCT_ERR_IO, "the other rank was lost");
}

static void close_socket(void *self, bool broken, bool speaks)
{
    const int *fd = self;
    (void)broken;
    (void)speaks;
    close(fd[0]);
}

static void make_rows(float *rows)
{
    uint32_t state = 1;
    for (int i = 0; i < ROWS * D; i++) {
        state = state * 1664525u + 1013904223u;
        rows[i] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    }
}

/* All of the SAE that this rank ends with, as one number. */
static double train(fct_dist *ranks, fct_status *st)
{
    static float rows[ROWS * D];
    fct_row_source source = {0};
    fct_train_member member = {
        .name = "one",
        .desc = {.preset = "demo", .k = 2, .n_features = 16, .batch_size = 200, .steps = 30}};
    fct_train_run run = {
        .stream = &source, .n_streams = 1, .member = &member, .n_members = 1, .ranks = ranks};
    double sum = 0;
    make_rows(rows);
    *st = fct_rows_of_memory(&source, rows, ROWS, D, &(fct_rows_desc){0});
    if (*st == FCT_OK) *st = fct_sae_train_many(&run);
    for (int i = 0; *st == FCT_OK && i < 16 * D; i++) sum += (double)member.sae->w_dec[i] * (i + 1);
    fct_train_run_clear(&run);
    if (source.close) source.close(source.self);
    return sum;
}

/* What a rank does; its exit status. */
static int work(int rank, int socket_fd, bool fails)
{
    int self[2] = {socket_fd, 1 - rank};
    fct_dist *ranks = NULL;
    fct_link link = {.self = self,
                     .rank = rank,
                     .size = 2,
                     .on_host = 2,
                     .exchange = exchange,
                     .close = close_socket};
    fct_status st = fct_dist_open(&ranks, &link);
    if (st == FCT_OK)
        st = fct_dist_agree(ranks,
                            rank == 1 && fails ? fct_error_set(FCT_ERR_SHAPE, "planted") : FCT_OK);
    double first, mine = st == FCT_OK ? train(ranks, &st) : 0;
    first = mine;
    if (st == FCT_OK) st = fct_dist_broadcast(ranks, &first, sizeof first);
    st = fct_dist_finish(ranks, st);
    if (fct_dist_speaks(ranks) && st == FCT_OK) printf("2 ranks: %.6f\n", mine);
    if (st != FCT_OK && !strstr(fct_error_text(), "rank 1: planted")) st = FCT_ERR_INTERNAL;
    fflush(stdout);
    int code = st != FCT_OK ? (int)st : memcmp(&mine, &first, sizeof mine) == 0 ? 0 : 100;
    fct_dist_close(ranks);
    return code;
}

/* Both ranks' exit statuses, the first one's times 256. */
static int both(bool fails)
{
    int fd[2], status = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0) return -1;
    pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        close(fd[0]);
        _exit(work(1, fd[1], fails));
    }
    close(fd[1]);
    int mine = work(0, fd[0], fails);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
    return mine * 256 + WEXITSTATUS(status);
}

int main(void)
{
    int good = both(false), failed = both(true);
    if (good != 0) fprintf(stderr, "two ranks ended with %d and %d\n", good / 256, good % 256);
    if (failed != (int)FCT_ERR_SHAPE * 257)
        fprintf(stderr, "a failure of one rank ended with %d and %d\n", failed / 256, failed % 256);
    return good == 0 && failed == (int)FCT_ERR_SHAPE * 257 ? 0 : 1;
}

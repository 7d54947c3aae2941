/* The kernel's part of a request, as little as it can be: one recv of its bytes, one send of its answer.
 *
 * One process holds both ends of its loopback connections, so nobody has to be waited for or woken, and epoll is not
 * asked. In each round every client's end sends a request; then, on the clock, every server's end does one recv and one
 * send; then the answers are taken. A server that answers one request with one recv and one send pays at least this.
 *
 *     kernel REQUEST ANSWER [CONNECTIONS [ROUNDS]]      the first two are files
 *
 * Prints two numbers: nanoseconds of CPU per request, of the best round and of the one in the middle.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 64 * 1024, MOST = 1024 };

struct bytes {
    char data[BYTES];
    size_t n;
};

struct pair {
    int client;
    int server;
};

static void
die(const char *what)
{
    fprintf(stderr, "kernel: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
read_file(const char *path, struct bytes *into)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die(path);
    into->n = fread(into->data, 1, BYTES, file);
    if (into->n == 0 || !feof(file)) {
        fprintf(stderr, "kernel: %s: expected 1 to %d bytes\n", path, BYTES - 1);
        exit(1);
    }
    fclose(file);
}

static void
connect_pairs(struct pair *pairs, int count)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    for (int i = 0; i < count; i++) {
        pairs[i].client = socket(AF_INET, SOCK_STREAM, 0);
        if (pairs[i].client < 0 || connect(pairs[i].client, (struct sockaddr *)&address, size) < 0)
            die("connect");
        pairs[i].server = accept(listener, NULL, NULL);
        if (pairs[i].server < 0)
            die("accept");
        setsockopt(pairs[i].client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        setsockopt(pairs[i].server, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    }
    close(listener);
}

static void
give(int fd, const struct bytes *bytes)
{
    if (send(fd, bytes->data, bytes->n, MSG_NOSIGNAL) != (ssize_t)bytes->n)
        die("send");
}

static void
take(int fd, size_t n)
{
    static char buffer[BYTES];
    if (recv(fd, buffer, n, MSG_WAITALL) != (ssize_t)n)
        die("recv");
}

static int64_t
cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int
in_order(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int
main(int count, char **words)
{
    static struct bytes request, answer;
    static struct pair pairs[MOST];
    int connections = count > 3 ? atoi(words[3]) : 64, rounds = count > 4 ? atoi(words[4]) : 2000;
    if (count < 3 || connections < 1 || connections > MOST || rounds < 1) {
        fprintf(stderr, "usage: kernel REQUEST ANSWER [CONNECTIONS [ROUNDS]]\n");
        return 2;
    }
    read_file(words[1], &request);
    read_file(words[2], &answer);
    connect_pairs(pairs, connections);
    int64_t *figures = calloc((size_t)rounds, sizeof(*figures));
    if (figures == NULL)
        die("calloc");
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < connections; i++)
            give(pairs[i].client, &request);
        int64_t began = cpu_ns();
        for (int i = 0; i < connections; i++) {
            take(pairs[i].server, request.n);
            give(pairs[i].server, &answer);
        }
        figures[round] = (cpu_ns() - began) / connections;
        for (int i = 0; i < connections; i++)
            take(pairs[i].client, answer.n);
    }
    qsort(figures, (size_t)rounds, sizeof(*figures), in_order);
    printf("%lld %lld\n", (long long)figures[0], (long long)figures[rounds / 2]);
    return 0;
}

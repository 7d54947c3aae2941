/* A client that asks at a fixed rate, for latencies below saturation.
 *
 * Requests fall due on a schedule that does not wait for answers, each on the next connection that is free;
 * the latency of one counts from the moment when it was due, so a server that stalls is charged for everything
 * that it kept waiting (no coordinated omission). One thread; spins between events, so pin it to its own core.
 *
 *     paced --port 8000 --request FILE --rate 10000 [--connections 64] [--milliseconds 4000]
 *
 * FILE holds one whole request. Answers must have a Content-Length. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, HEAD_BYTES = 16 * 1024, EVENTS = 256, GRACE_MS = 2000 };

/* One connection, with at most one request under way. */
struct connection {
    int fd;
    uint64_t due_ns;       /* when the request under way was due */
    uint64_t body_bytes;   /* of the answer's body, still to come; counts only when in_body */
    size_t head_bytes;     /* of the answer's head, so far */
    bool in_body;
    char head[HEAD_BYTES];
};

struct client {
    int epoll;
    const char *request;
    size_t request_bytes;
    struct connection *connections;
    size_t *free;          /* stack of the indexes of connections with nothing under way */
    size_t free_count;
    size_t connection_count;
    uint64_t *latencies_ns;
    size_t answered;
    uint64_t bytes;
    uint64_t errors;
};

static void
die(const char *what)
{
    fprintf(stderr, "paced: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void
connect_all(struct client *client, long port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int yes = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < client->connection_count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};

        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
            die("connect");
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
            die("epoll_ctl");
        }
        client->connections[i].fd = fd;
        client->free[client->free_count++] = i;
    }
}

/* Sends the request that was due at this time; the socket is blocking, so all of it. */
static void
ask(struct client *client, uint64_t due_ns)
{
    struct connection *connection = &client->connections[client->free[--client->free_count]];
    size_t sent = 0;

    connection->due_ns = due_ns;
    connection->head_bytes = 0;
    connection->in_body = false;
    while (sent < client->request_bytes) {
        ssize_t wrote = send(connection->fd, client->request + sent, client->request_bytes - sent, MSG_NOSIGNAL);

        if (wrote < 0) {
            die("send");
        }
        sent += (size_t)wrote;
    }
}

/* The head is whole: remembers how much body follows `end`; false when the status or the framing is not ours. */
static bool
read_head(struct connection *connection, const char *end)
{
    const char *line = connection->head;

    if (strncmp(connection->head, "HTTP/1.1 200", 12) != 0) {
        return false;
    }
    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL && ++line < end) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            connection->body_bytes = strtoull(line + 15, NULL, 10);
            connection->in_body = true;
            return true;
        }
    }
    return false;
}

/* Takes bytes of an answer; true when it is complete. */
static bool
take(struct client *client, struct connection *connection, const char *data, size_t bytes)
{
    if (!connection->in_body) {
        size_t room = HEAD_BYTES - 1 - connection->head_bytes;
        size_t copied = bytes < room ? bytes : room;
        const char *blank;

        memcpy(connection->head + connection->head_bytes, data, copied);
        blank = memmem(connection->head, connection->head_bytes + copied, "\r\n\r\n", 4);
        if (blank == NULL) {
            connection->head_bytes += copied;
            return false;
        }
        connection->head[connection->head_bytes + copied] = '\0';
        bytes -= (size_t)(blank + 4 - connection->head) - connection->head_bytes;
        if (!read_head(connection, blank + 4)) {
            client->errors++;
            return true;
        }
    }
    connection->body_bytes -= bytes < connection->body_bytes ? bytes : connection->body_bytes;
    return connection->body_bytes == 0;
}

static void
answers(struct client *client, int timeout_ms)
{
    static char buffer[READ_BYTES];
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(client->epoll, events, EVENTS, timeout_ms);

    for (int i = 0; i < ready; i++) {
        size_t index = (size_t)events[i].data.u64;
        struct connection *connection = &client->connections[index];
        ssize_t got = recv(connection->fd, buffer, sizeof buffer, 0);

        if (got <= 0) { /* closed under a request or while idle: either is wrong here, and it stays out */
            client->errors++;
            epoll_ctl(client->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
            continue;
        }
        client->bytes += (uint64_t)got;
        if (take(client, connection, buffer, (size_t)got)) {
            client->latencies_ns[client->answered++] = now_ns() - connection->due_ns;
            client->free[client->free_count++] = index;
        }
    }
}

/* Asks `total` times on schedule, then waits a little for the last answers; returns the time taken. */
static uint64_t
run(struct client *client, uint64_t total, uint64_t interval_ns)
{
    uint64_t start = now_ns();
    uint64_t asked = 0;
    uint64_t end;

    while (asked < total) {
        uint64_t due = start + asked * interval_ns;

        if (client->free_count > 0 && now_ns() >= due) {
            ask(client, due);
            asked++;
        } else {
            answers(client, 0);
        }
        if (client->errors > client->connection_count) {
            break;
        }
    }
    end = now_ns() + GRACE_MS * UINT64_C(1000000);
    while (client->answered < asked && now_ns() < end) {
        answers(client, 10);
    }
    client->errors += asked - client->answered;
    return now_ns() - start;
}

static int
compare_ns(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

static double
percentile_us(const struct client *client, double share)
{
    size_t rank = (size_t)((double)client->answered * share);

    if (client->answered == 0) {
        return 0;
    }
    return (double)client->latencies_ns[rank < client->answered ? rank : client->answered - 1] / 1000.0;
}

static void
print_result(struct client *client, uint64_t took_ns)
{
    qsort(client->latencies_ns, client->answered, sizeof *client->latencies_ns, compare_ns);
    printf("{\"requests\": %zu, \"duration_us\": %llu, \"bytes\": %llu, \"errors\": %llu, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           client->answered, (unsigned long long)(took_ns / 1000), (unsigned long long)client->bytes,
           (unsigned long long)client->errors, percentile_us(client, 0.50), percentile_us(client, 0.99),
           percentile_us(client, 0.999), percentile_us(client, 1.0));
}

static void
read_request(struct client *client, const char *path)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    char *bytes;

    if (file == NULL || fstat(fileno(file), &status) < 0) {
        die(path);
    }
    client->request_bytes = (size_t)status.st_size;
    bytes = malloc(client->request_bytes + 1);
    if (bytes == NULL || fread(bytes, 1, client->request_bytes, file) != client->request_bytes) {
        die(path);
    }
    fclose(file);
    client->request = bytes;
}

static long
number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value < 1 || value > most) {
        fprintf(stderr, "paced: expected a number from 1 to %ld, got %s\n", most, text);
        exit(2);
    }
    return value;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},        {"request", required_argument, NULL, 'f'},
        {"rate", required_argument, NULL, 'r'},        {"connections", required_argument, NULL, 'c'},
        {"milliseconds", required_argument, NULL, 'm'}, {NULL, 0, NULL, 0},
    };
    struct client client = {.connection_count = 64};
    long port = 8000;
    long rate = 1000;
    long milliseconds = 4000;
    uint64_t total;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            port = number(optarg, 65535);
            break;
        case 'f':
            read_request(&client, optarg);
            break;
        case 'r':
            rate = number(optarg, 10000000);
            break;
        case 'c':
            client.connection_count = (size_t)number(optarg, 100000);
            break;
        case 'm':
            milliseconds = number(optarg, 3600000);
            break;
        default:
            return 2;
        }
    }
    if (client.request == NULL) {
        fprintf(stderr, "paced: expected --request FILE\n");
        return 2;
    }
    total = (uint64_t)rate * (uint64_t)milliseconds / 1000 + 1;
    client.connections = calloc(client.connection_count, sizeof *client.connections);
    client.free = calloc(client.connection_count, sizeof *client.free);
    client.latencies_ns = calloc(total, sizeof *client.latencies_ns);
    client.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (client.connections == NULL || client.free == NULL || client.latencies_ns == NULL || client.epoll < 0) {
        die("memory");
    }
    connect_all(&client, port);
    print_result(&client, run(&client, total, UINT64_C(1000000000) / (uint64_t)rate));
    return 0;
}

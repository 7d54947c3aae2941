/* The floor: what the kernel charges for one request and its answer.
 *
 * One thread, one epoll set, accept4, recv, send of a fixed answer; no application, no Python, and of HTTP
 * only what tells where a request ends: the blank line, and Content-Length for those that carry a body.
 * Requests may be cut anywhere and may be pipelined. No server that answers with the same bytes over the
 * same sockets can be cheaper, so "of the floor" is floor's CPU time per request over a server's.
 *
 *     floor [--host 127.0.0.1] [--port 8000] [--answer FILE] [--piece BYTES]
 *
 *   --port 0        picks a free port; the chosen one is printed: "floor: listening on 127.0.0.1:PORT"
 *   --answer FILE   the bytes of the whole answer, head and body (default: a 13-byte "Hello, World!")
 *   --piece BYTES   at most so many bytes of body in one send, as an application that streams would cause;
 *                   the head goes out with the first piece (default 0: the answer in one send)
 *
 * Single-threaded on purpose; pin it with taskset. Ends at SIGTERM or SIGINT.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, HEAD_BYTES = 16 * 1024, EVENTS = 256, BACKLOG = 2048 };

static const char DEFAULT_ANSWER[] =
    "HTTP/1.1 200 OK\r\n"
    "server: floor\r\n"
    "date: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
    "content-type: text/plain; charset=utf-8\r\n"
    "content-length: 13\r\n"
    "\r\n"
    "Hello, World!";

/* One connection; the array of them is indexed by descriptor. */
struct connection {
    char *head;           /* an unfinished head, HEAD_BYTES long; NULL while there is none */
    size_t head_bytes;    /* bytes of it so far */
    uint64_t body_bytes;  /* bytes of the request body still to come */
    uint64_t answers;     /* answers owed, the one being sent included */
    size_t sent;          /* bytes sent of the answer at hand */
    bool wants_out;       /* EPOLLOUT is registered: the peer is slower than we are */
};

struct floor {
    int epoll;
    int listener;
    const char *answer;
    size_t answer_bytes;
    size_t first_bytes;   /* bytes of the first send: head and first piece */
    size_t piece_bytes;   /* bytes of every later send; 0: all at once */
    struct connection *connections;
    size_t slots;
    char buffer[READ_BYTES];
};

static void
die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
close_connection(struct floor *floor, int fd)
{
    struct connection *connection = &floor->connections[fd];

    free(connection->head);
    memset(connection, 0, sizeof *connection);
    close(fd); /* takes it out of the epoll set: no other descriptor refers to it */
}

/* The value of Content-Length in a whole head, 0 when there is none. Walks lines, so a value cannot fake it. */
static uint64_t
content_length(const char *head, const char *end)
{
    static const char name[] = "content-length:";
    const char *line = head;

    if (*head == 'G' || *head == 'H') { /* GET and HEAD have no body here: do not charge them the walk */
        return 0;
    }
    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL && ++line < end) {
        if ((size_t)(end - line) > sizeof name && strncasecmp(line, name, sizeof name - 1) == 0) {
            return strtoull(line + sizeof name - 1, NULL, 10); /* stops at the CR */
        }
    }
    return 0;
}

static void
head_done(struct connection *connection, const char *head, const char *end)
{
    connection->body_bytes = content_length(head, end);
    if (connection->body_bytes == 0) {
        connection->answers++;
    }
}

/* Adds bytes to an unfinished head until its blank line; returns the bytes taken, 0 when the head is too large. */
static size_t
continue_head(struct connection *connection, const char *data, size_t bytes)
{
    size_t before = connection->head_bytes;
    size_t room = HEAD_BYTES - before;
    size_t taken = bytes < room ? bytes : room;
    size_t from = before > 3 ? before - 3 : 0;
    const char *blank;

    if (connection->head == NULL && (connection->head = malloc(HEAD_BYTES)) == NULL) {
        return 0;
    }
    memcpy(connection->head + before, data, taken);
    blank = memmem(connection->head + from, before + taken - from, "\r\n\r\n", 4);
    if (blank == NULL) {
        connection->head_bytes += taken;
        return taken;
    }
    taken = (size_t)(blank + 4 - connection->head) - before;
    head_done(connection, connection->head, blank + 4);
    connection->head_bytes = 0;
    free(connection->head);
    connection->head = NULL;
    return taken;
}

/* Counts the requests that end in these bytes; false when a head is too large. */
static bool
count_requests(struct connection *connection, const char *data, size_t bytes)
{
    while (bytes > 0) {
        size_t taken;
        const char *blank;

        if (connection->body_bytes > 0) {
            taken = bytes < connection->body_bytes ? bytes : (size_t)connection->body_bytes;
            connection->body_bytes -= taken;
            if (connection->body_bytes == 0) {
                connection->answers++;
            }
        } else if (connection->head_bytes == 0 && (blank = memmem(data, bytes, "\r\n\r\n", 4)) != NULL) {
            taken = (size_t)(blank + 4 - data);
            head_done(connection, data, blank + 4);
        } else if ((taken = continue_head(connection, data, bytes)) == 0) {
            return false;
        }
        data += taken;
        bytes -= taken;
    }
    return true;
}

static void
want_out(struct floor *floor, int fd, bool wanted)
{
    struct connection *connection = &floor->connections[fd];
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};

    if (connection->wants_out == wanted) {
        return;
    }
    if (wanted) {
        event.events |= EPOLLOUT;
    }
    if (epoll_ctl(floor->epoll, EPOLL_CTL_MOD, fd, &event) < 0) {
        die("epoll_ctl");
    }
    connection->wants_out = wanted;
}

/* The end, as an offset into the answer, of the send that starts at `sent`. */
static size_t
piece_end(const struct floor *floor, size_t sent)
{
    size_t end;

    if (floor->piece_bytes == 0) {
        return floor->answer_bytes;
    }
    if (sent < floor->first_bytes) {
        return floor->first_bytes;
    }
    end = sent + floor->piece_bytes - (sent - floor->first_bytes) % floor->piece_bytes;
    return end < floor->answer_bytes ? end : floor->answer_bytes;
}

/* Sends what is owed as far as the peer takes it; false when the connection is gone. */
static bool
send_answers(struct floor *floor, int fd)
{
    struct connection *connection = &floor->connections[fd];

    while (connection->answers > 0) {
        size_t end = piece_end(floor, connection->sent);
        ssize_t sent = send(fd, floor->answer + connection->sent, end - connection->sent, MSG_NOSIGNAL);

        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                return false;
            }
            want_out(floor, fd, true);
            return true;
        }
        connection->sent += (size_t)sent;
        if (connection->sent == floor->answer_bytes) {
            connection->sent = 0;
            connection->answers--;
        }
    }
    want_out(floor, fd, false);
    return true;
}

/* Reads until nothing is left (a short read says so, unless the event told of an end); false: gone. */
static bool
read_requests(struct floor *floor, int fd, uint32_t events)
{
    struct connection *connection = &floor->connections[fd];
    bool ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;

    for (;;) {
        ssize_t got = recv(fd, floor->buffer, sizeof floor->buffer, 0);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno == EAGAIN;
        }
        if (got == 0 || !count_requests(connection, floor->buffer, (size_t)got)) {
            return false;
        }
        if (connection->answers > 0 && !send_answers(floor, fd)) {
            return false;
        }
        if ((size_t)got < sizeof floor->buffer && !ending) {
            return true;
        }
    }
}

static void
serve(struct floor *floor, int fd, uint32_t events)
{
    bool alive = true;

    if ((events & EPOLLOUT) != 0) {
        alive = send_answers(floor, fd);
    }
    if (alive && (events & ~(uint32_t)EPOLLOUT) != 0) {
        alive = read_requests(floor, fd, events);
    }
    if (!alive) {
        close_connection(floor, fd);
    }
}

static void
accept_all(struct floor *floor)
{
    for (;;) {
        int fd = accept4(floor->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};

        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0) {
            return; /* EAGAIN, or out of descriptors: the listener is level-triggered */
        }
        if ((size_t)fd >= floor->slots) {
            close(fd);
            continue;
        }
        if (epoll_ctl(floor->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
            die("epoll_ctl");
        }
    }
}

static _Noreturn void
run(struct floor *floor)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int ready = epoll_wait(floor->epoll, events, EVENTS, -1);

        if (ready < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == floor->listener) {
                accept_all(floor);
            } else {
                serve(floor, events[i].data.fd, events[i].events);
            }
        }
    }
}

static void
listen_on(struct floor *floor, const char *host, long port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t address_bytes = sizeof address;
    struct epoll_event event = {.events = EPOLLIN};
    int yes = 1;

    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "floor: --host: expected an IPv4 address, got %s\n", host);
        exit(2);
    }
    floor->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (floor->listener < 0) {
        die("socket");
    }
    setsockopt(floor->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(floor->listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* accepted sockets inherit it */
    if (bind(floor->listener, (struct sockaddr *)&address, sizeof address) < 0) {
        die("bind");
    }
    if (listen(floor->listener, BACKLOG) < 0) {
        die("listen");
    }
    floor->epoll = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = floor->listener;
    if (floor->epoll < 0 || epoll_ctl(floor->epoll, EPOLL_CTL_ADD, floor->listener, &event) < 0) {
        die("epoll");
    }
    getsockname(floor->listener, (struct sockaddr *)&address, &address_bytes);
    printf("floor: listening on %s:%d\n", host, ntohs(address.sin_port));
    fflush(stdout);
}

static void
read_answer(struct floor *floor, const char *path)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    char *bytes;

    if (file == NULL || fstat(fileno(file), &status) < 0) {
        die(path);
    }
    bytes = malloc((size_t)status.st_size + 1);
    if (bytes == NULL || fread(bytes, 1, (size_t)status.st_size, file) != (size_t)status.st_size) {
        die(path);
    }
    fclose(file);
    floor->answer = bytes;
    floor->answer_bytes = (size_t)status.st_size;
}

static void
cut_into_pieces(struct floor *floor, size_t piece_bytes)
{
    const char *blank = memmem(floor->answer, floor->answer_bytes, "\r\n\r\n", 4);
    size_t head_bytes = blank == NULL ? 0 : (size_t)(blank + 4 - floor->answer);

    if (floor->answer_bytes == 0) {
        fprintf(stderr, "floor: --answer: expected an answer, got an empty file\n");
        exit(2);
    }
    floor->piece_bytes = piece_bytes;
    floor->first_bytes = head_bytes + piece_bytes;
    if (floor->first_bytes > floor->answer_bytes) {
        floor->first_bytes = floor->answer_bytes;
    }
}

static long
number(const char *option, const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value < 0 || value > most) {
        fprintf(stderr, "floor: --%s: expected a number from 0 to %ld, got %s\n", option, most, text);
        exit(2);
    }
    return value;
}

/* One slot per descriptor that the process may open; raises the soft limit to the hard one. */
static void
make_slots(struct floor *floor)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        die("getrlimit");
    }
    limit.rlim_cur = limit.rlim_max < 1u << 20 ? limit.rlim_max : 1u << 20;
    setrlimit(RLIMIT_NOFILE, &limit);
    floor->slots = limit.rlim_cur;
    floor->connections = calloc(floor->slots, sizeof *floor->connections);
    if (floor->connections == NULL) {
        die("calloc");
    }
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", required_argument, NULL, 'h'},   {"port", required_argument, NULL, 'p'},
        {"answer", required_argument, NULL, 'a'}, {"piece", required_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    static struct floor floor = {.answer = DEFAULT_ANSWER, .answer_bytes = sizeof DEFAULT_ANSWER - 1};
    const char *host = "127.0.0.1";
    long port = 8000;
    long piece_bytes = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'h':
            host = optarg;
            break;
        case 'p':
            port = number("port", optarg, 65535);
            break;
        case 'a':
            read_answer(&floor, optarg);
            break;
        case 'b':
            piece_bytes = number("piece", optarg, 1L << 30);
            break;
        default:
            return 2;
        }
    }
    cut_into_pieces(&floor, (size_t)piece_bytes);
    make_slots(&floor);
    listen_on(&floor, host, port);
    run(&floor);
}

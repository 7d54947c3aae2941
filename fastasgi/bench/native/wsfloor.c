/* The floor for WebSockets: what the kernel charges for one message and its echo.
 *
 * One thread, one epoll set, accept4, recv, send; no application, no Python, and of RFC 6455 only what an echo needs:
 * the handshake is answered with a fixed head, each whole frame is unmasked and sent back. No compression.
 *
 *     wsfloor [--host 127.0.0.1] [--port 8000] --answer FILE [--broadcast]
 *
 *   --answer FILE   the head that answers every handshake (the load client always sends the same key)
 *   --broadcast     send each frame to all that are connected
 *
 * Single-threaded on purpose; pin it with taskset. Ends at SIGTERM or SIGINT.
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
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, ANSWER_BYTES = 4096, EVENTS = 256, BACKLOG = 4096, OUR_HEAD = 10 };

/* One connection; the array of them is indexed by descriptor. */
struct connection {
    bool is_open;
    bool is_upgraded;
    bool wants_out;       /* EPOLLOUT is registered: the peer is slower than we are */
    unsigned char *in;    /* a frame, or a handshake, that is not whole yet; NULL while there is none */
    size_t in_bytes;
    size_t in_room;
    unsigned char *out;   /* what the kernel has not taken; NULL while there is none */
    size_t out_bytes;
    size_t out_sent;      /* of these */
};

struct floor {
    int epoll;
    int listener;
    bool is_broadcasting;
    char answer[ANSWER_BYTES];
    size_t answer_bytes;
    struct connection *connections;
    int slots;
    unsigned char buffer[READ_BYTES];
};

static void
die(const char *what)
{
    fprintf(stderr, "wsfloor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
close_connection(struct floor *floor, int fd)
{
    struct connection *connection = &floor->connections[fd];

    free(connection->in);
    free(connection->out);
    memset(connection, 0, sizeof *connection);
    close(fd); /* takes it out of the epoll set: no other descriptor refers to it */
}

static void
watch_output(struct floor *floor, int fd, bool output)
{
    struct epoll_event event = {.events = output ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = fd};

    if (floor->connections[fd].wants_out != output && epoll_ctl(floor->epoll, EPOLL_CTL_MOD, fd, &event) < 0) {
        die("epoll_ctl");
    }
    floor->connections[fd].wants_out = output;
}

/* Sends; what the kernel does not take is kept behind what it has not taken before. */
static void
send_bytes(struct floor *floor, int fd, const unsigned char *data, size_t bytes)
{
    struct connection *connection = &floor->connections[fd];
    ssize_t wrote = 0;

    if (connection->out == NULL) {
        wrote = send(fd, data, bytes, MSG_NOSIGNAL);
        if (wrote < 0) {
            wrote = 0; /* an error other than EAGAIN comes back from recv() */
        }
        if ((size_t)wrote == bytes) {
            return;
        }
    }
    connection->out = realloc(connection->out, connection->out_bytes + bytes - (size_t)wrote);
    if (connection->out == NULL) {
        die("realloc");
    }
    memcpy(connection->out + connection->out_bytes, data + wrote, bytes - (size_t)wrote);
    connection->out_bytes += bytes - (size_t)wrote;
    watch_output(floor, fd, true);
}

static void
flush(struct floor *floor, int fd)
{
    struct connection *connection = &floor->connections[fd];
    size_t left = connection->out_bytes - connection->out_sent;
    ssize_t wrote = send(fd, connection->out + connection->out_sent, left, MSG_NOSIGNAL);

    if (wrote <= 0) {
        return;
    }
    connection->out_sent += (size_t)wrote;
    if (connection->out_sent == connection->out_bytes) {
        free(connection->out);
        connection->out = NULL;
        connection->out_bytes = connection->out_sent = 0;
        watch_output(floor, fd, false);
    }
}

static void
unmask(unsigned char *data, size_t bytes, const unsigned char *mask)
{
    uint32_t word;
    uint64_t wide;
    size_t i = 0;

    memcpy(&word, mask, 4);
    wide = (uint64_t)word << 32 | word;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t eight;

        memcpy(&eight, data + i, 8);
        eight ^= wide;
        memcpy(data + i, &eight, 8);
    }
    for (; i < bytes; i++) {
        data[i] ^= mask[i & 3];
    }
}

/* Answers a frame whose payload is at `data`; before it there is room for a head: that of the client was longer. */
static void
answer_frame(struct floor *floor, int fd, unsigned char first, unsigned char *data, size_t bytes)
{
    size_t head = bytes < 126 ? 2 : bytes < 65536 ? 4 : OUR_HEAD;
    unsigned char *frame = data - head;

    frame[0] = first;
    frame[1] = bytes < 126 ? (unsigned char)bytes : bytes < 65536 ? 126 : 127;
    for (size_t i = 2; i < head; i++) {
        frame[i] = (unsigned char)(bytes >> 8 * (head - 1 - i));
    }
    if (!floor->is_broadcasting) {
        send_bytes(floor, fd, frame, head + bytes);
        return;
    }
    for (int other = 0; other < floor->slots; other++) {
        if (floor->connections[other].is_open && floor->connections[other].is_upgraded) {
            send_bytes(floor, other, frame, head + bytes);
        }
    }
}

/* Answers the whole frame at the begin of the data; returns its bytes, 0 when it is not whole. */
static size_t
take_frame(struct floor *floor, int fd, unsigned char *data, size_t bytes)
{
    size_t head = 6;
    uint64_t size;

    if (bytes < head) {
        return 0;
    }
    size = data[1] & 0x7F;
    if (size >= 126) {
        size_t extra = size == 126 ? 2 : 8;

        head += extra;
        if (bytes < head) {
            return 0;
        }
        size = 0;
        for (size_t i = 0; i < extra; i++) {
            size = size << 8 | data[2 + i];
        }
    }
    if (bytes - head < size) {
        return 0;
    }
    unmask(data + head, size, data + head - 4);
    answer_frame(floor, fd, data[0], data + head, size);
    return head + size;
}

static size_t
take_handshake(struct floor *floor, int fd, const unsigned char *data, size_t bytes)
{
    const unsigned char *end = memmem(data, bytes, "\r\n\r\n", 4);

    if (end == NULL) {
        return 0;
    }
    floor->connections[fd].is_upgraded = true;
    send_bytes(floor, fd, (unsigned char *)floor->answer, floor->answer_bytes);
    return (size_t)(end - data) + 4;
}

/* Takes what is whole; returns how many bytes that was. */
static size_t
take(struct floor *floor, int fd, unsigned char *data, size_t bytes)
{
    size_t done = 0;
    size_t taken;

    do {
        if (floor->connections[fd].is_upgraded) {
            taken = take_frame(floor, fd, data + done, bytes - done);
        } else {
            taken = take_handshake(floor, fd, data + done, bytes - done);
        }
        done += taken;
    } while (taken > 0 && done < bytes);
    return done;
}

static void
keep(struct connection *connection, const unsigned char *data, size_t bytes)
{
    if (connection->in_bytes + bytes > connection->in_room) {
        connection->in_room = (connection->in_bytes + bytes) * 2;
        connection->in = realloc(connection->in, connection->in_room);
        if (connection->in == NULL) {
            die("realloc");
        }
    }
    memcpy(connection->in + connection->in_bytes, data, bytes);
    connection->in_bytes += bytes;
}

static void
read_some(struct floor *floor, int fd)
{
    struct connection *connection = &floor->connections[fd];
    unsigned char *data = floor->buffer;
    ssize_t got = recv(fd, data, READ_BYTES, 0);
    size_t done;

    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        close_connection(floor, fd);
        return;
    }
    if (got < 0) {
        return;
    }
    if (connection->in == NULL) {
        done = take(floor, fd, data, (size_t)got);
        if (done < (size_t)got) {
            keep(connection, data + done, (size_t)got - done);
        }
        return;
    }
    keep(connection, data, (size_t)got);
    done = take(floor, fd, connection->in, connection->in_bytes);
    connection->in_bytes -= done;
    memmove(connection->in, connection->in + done, connection->in_bytes);
    if (connection->in_bytes == 0) {
        free(connection->in);
        connection->in = NULL;
        connection->in_room = 0;
    }
}

static void
accept_all(struct floor *floor)
{
    int fd;
    int yes = 1;

    while ((fd = accept4(floor->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        if (fd >= floor->slots) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (epoll_ctl(floor->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
            die("epoll_ctl");
        }
        floor->connections[fd].is_open = true;
    }
}

static void
serve(struct floor *floor)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int count = epoll_wait(floor->epoll, events, EVENTS, -1);

        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;

            if (fd == floor->listener) {
                accept_all(floor);
                continue;
            }
            if (events[i].events & EPOLLOUT && floor->connections[fd].out != NULL) {
                flush(floor, fd);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                read_some(floor, fd);
            }
        }
    }
}

static void
listen_at(struct floor *floor, const char *host, long port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN};
    int yes = 1;

    if (port < 0 || port > 65535 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "wsfloor: expected an IPv4 address and a port, got %s %ld\n", host, port);
        exit(2);
    }
    floor->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    floor->epoll = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = floor->listener;
    setsockopt(floor->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(floor->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(floor->listener, BACKLOG) < 0
        || epoll_ctl(floor->epoll, EPOLL_CTL_ADD, floor->listener, &event) < 0) {
        die("listen");
    }
}

static void
read_answer(struct floor *floor, const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        die(path);
    }
    floor->answer_bytes = fread(floor->answer, 1, sizeof floor->answer, file);
    fclose(file);
}

static void
make_slots(struct floor *floor)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        die("getrlimit");
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    floor->slots = limit.rlim_cur > 100000 ? 100000 : (int)limit.rlim_cur;
    floor->connections = calloc((size_t)floor->slots, sizeof *floor->connections);
    if (floor->connections == NULL) {
        die("calloc");
    }
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", required_argument, NULL, 'h'},      {"port", required_argument, NULL, 'p'},
        {"answer", required_argument, NULL, 'a'},    {"broadcast", no_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    static struct floor floor;
    const char *host = "127.0.0.1";
    long port = 8000;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'h': host = optarg; break;
        case 'p': port = strtol(optarg, NULL, 10); break;
        case 'a': read_answer(&floor, optarg); break;
        case 'b': floor.is_broadcasting = true; break;
        default: return 2;
        }
    }
    if (floor.answer_bytes == 0) {
        fprintf(stderr, "wsfloor: expected --answer FILE with the head of an answer\n");
        return 2;
    }
    make_slots(&floor);
    listen_at(&floor, host, port);
    serve(&floor);
    return 0;
}

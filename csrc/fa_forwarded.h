/* What proxies say of the client: X-Forwarded-For and Forwarded (RFC 7239), read from the right: no Python, no
 * allocation, no state.
 *
 * Each proxy appends what it has seen to the right of what it was sent. So the right end is of the proxy that we are
 * connected to, and what a client has made up stands on the left. Reading from the right, nothing on the left can
 * change how the right is read, quotation marks included. */
#ifndef FA_FORWARDED_H
#define FA_FORWARDED_H

#include <stddef.h>
#include <stdint.h>

#include "fa_address.h"

typedef struct { /* who is believed */
    const fa_network *networks;
    size_t n;
    uint8_t everybody;
    uint8_t unix_peers; /* who speaks through a Unix socket; proxies call them "unix:" */
} fa_trust;

typedef enum {
    FA_NODE_NONE = 0,    /* nothing was said */
    FA_NODE_ADDRESS = 1, /* an address, perhaps with a port */
    FA_NODE_NAME = 2,    /* "unknown", an obfuscated identifier, or "unix:" */
    FA_NODE_BAD = 3,     /* something else */
} fa_node_kind;

typedef struct { /* RFC 7239 section 6 */
    const char *name; /* of FA_NODE_NAME, borrowed */
    size_t name_n;
    uint8_t address[FA_ADDRESS_SIZE]; /* of FA_NODE_ADDRESS */
    uint16_t port;                    /* 0: not told, or hidden */
    uint8_t kind;                     /* fa_node_kind */
} fa_node;

typedef struct { /* a place in the bytes of a field value */
    const char *p;
    size_t n; /* p is NULL: not there */
} fa_span;

typedef struct { /* how far the walk to the client has come; all zero at first */
    fa_node client;
    fa_span proto, host; /* Forwarded: the parameters beside it */
    uint32_t back;       /* elements to the right of the client's */
    uint32_t total;      /* elements seen */
    uint8_t is_over;     /* one that is not trusted was met: it is the client */
} fa_walk;

/* One node: an address, with a port behind a colon, IPv6 in brackets or bare; or an identifier. */
fa_node fa_read_node(const char *p, size_t n);

/* Goes on through one X-Forwarded-For line. The lines of a head are given from the last to the first. */
void fa_walk_for(fa_walk *walk, const char *p, size_t n, const fa_trust *trust);

/* The same for one Forwarded line. */
void fa_walk_forwarded(fa_walk *walk, const char *p, size_t n, const fa_trust *trust);

#endif

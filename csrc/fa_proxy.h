/* The header of the PROXY protocol, versions 1 and 2: no Python, no allocation, no state.
 *
 * Source: "The PROXY protocol, versions 1 & 2", HAProxy, 2020-03-05, sections 2.1 and 2.2. */
#ifndef FA_PROXY_H
#define FA_PROXY_H

#include <stddef.h>
#include <stdint.h>

#include "fa_address.h"

#define FA_PROXY_MAX 4096 /* bytes of a whole header; version 1 has at most 107, version 2 with few TLVs some hundred */
#define FA_PROXY_PATH 108 /* bytes of a Unix socket's path */

typedef enum {
    FA_PROXY_MORE = 0,      /* it may become a header: more bytes are needed */
    FA_PROXY_BAD = 1,       /* it is none; `fault` says what was expected */
    FA_PROXY_LOCAL = 2,     /* the proxy speaks for itself, a health check for example */
    FA_PROXY_UNKNOWN = 3,   /* for a client whose address it cannot tell */
    FA_PROXY_ADDRESSES = 4, /* for a client on the internet */
    FA_PROXY_PATHS = 5,     /* for a client on a Unix socket */
} fa_proxy_kind;

typedef struct {
    fa_proxy_kind kind;
    size_t size;       /* bytes of the header; what follows is of the client */
    const char *fault; /* of FA_PROXY_BAD, static */
    uint8_t source[FA_ADDRESS_SIZE], destination[FA_ADDRESS_SIZE]; /* of FA_PROXY_ADDRESSES */
    uint16_t source_port, destination_port;
    const char *source_path, *destination_path; /* of FA_PROXY_PATHS, FA_PROXY_PATH bytes each, borrowed */
} fa_proxy_header;

/* Reads the header at the beginning of n bytes. What it finds depends on the header alone, not on what follows; and
 * what can no longer become a header is told from the first byte that shows it. */
fa_proxy_header fa_read_proxy_header(const char *p, size_t n);

#endif

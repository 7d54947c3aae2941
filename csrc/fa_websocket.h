/* WebSocket frames (RFC 6455 section 5), byte by byte: no Python, no allocation, no state.
 *
 * Every function takes a pointer and a length and never reads past it. */
#ifndef FA_WEBSOCKET_H
#define FA_WEBSOCKET_H

#include <stddef.h>
#include <stdint.h>

enum {
    FA_WS_CONTINUATION = 0x0,
    FA_WS_TEXT = 0x1,
    FA_WS_BINARY = 0x2,
    FA_WS_CLOSE = 0x8,
    FA_WS_PING = 0x9,
    FA_WS_PONG = 0xA,
    FA_WS_FIN = 0x80,  /* of the first byte */
    FA_WS_RSV1 = 0x40, /* the message is compressed (RFC 7692 section 6) */
};

#define FA_WS_MAX_HEADER 14  /* bytes of a masked header with a length of eight bytes */
#define FA_WS_MAX_CONTROL 125 /* bytes of a control frame's payload */

typedef struct {
    uint64_t length; /* of the payload */
    uint8_t first;   /* FIN, RSV bits and opcode as they came */
    uint8_t key[4];
} fa_ws_header;

/* Reads the header of a client's frame from n bytes. Returns its size, 0 when bytes are missing, or minus one of
 * fa_ws_fault as soon as it is certain. Whether the frame may come now is not its affair. */
int fa_ws_read_header(const uint8_t *p, size_t n, fa_ws_header *header);

/* What is wrong with a frame's header. */
enum fa_ws_fault {
    FA_WS_BAD_RSV = 1,     /* RSV2 or RSV3, or RSV1 on a control frame */
    FA_WS_BAD_OPCODE = 2,  /* reserved */
    FA_WS_CUT_CONTROL = 3, /* a control frame without FIN */
    FA_WS_BIG_CONTROL = 4, /* a control frame of more than 125 bytes */
    FA_WS_NO_MASK = 5,
    FA_WS_BAD_LENGTH = 6, /* not in the shortest form, or over 63 bits */
};

/* Writes the header of a server's frame; returns its size, at most 10. */
size_t fa_ws_write_header(char *out, uint8_t first, uint64_t length);

/* Copies n bytes with the mask taken off. `offset` is the place of the first in its frame's payload. Returns the bytes
 * of the result ORed into eight: with a bit of FA_WS_NOT_ASCII set, not all are ASCII. The areas must not overlap. */
uint64_t fa_ws_unmask(char *restrict out, const char *restrict in, size_t n, const uint8_t key[4], uint64_t offset);

#define FA_WS_NOT_ASCII UINT64_C(0x8080808080808080)

/* Reads UTF-8 (RFC 3629) in pieces. `state` is 0 at the beginning of a text; returns the state behind n more bytes: 0
 * when they end with a whole character, FA_UTF8_BAD as soon as no text can continue them, else something between. */
uint32_t fa_utf8_step(uint32_t state, const char *p, size_t n);

#define FA_UTF8_BAD 1

/* True when a peer may send this close code (RFC 6455 section 7.4, and what is registered since). */
int fa_ws_is_close_code(uint32_t code);

#endif

/* Limits of one request, in the widths in which they are compared with what the wire announces. */
#ifndef FA_LIMITS_H
#define FA_LIMITS_H

#include <stdint.h>

#define FA_UNLIMITED UINT64_MAX

typedef struct {
    uint64_t body_bytes;            /* 413 above */
    uint64_t chunk_extension_bytes; /* of one body; 400 above */
    uint32_t line_bytes;            /* request line without its CRLF; 414 above */
    uint32_t head_bytes;            /* request line, fields and the empty line; trailers count anew; 431 above */
    uint32_t fields;                /* header fields; trailer fields count anew; 431 above */
    uint8_t underscores;            /* fa_underscores */
} fa_limits;

/* What becomes of a field whose name holds '_' (option underscore_headers). */
enum { FA_UNDERSCORES_DROP_FORWARDED = 0, FA_UNDERSCORES_DROP = 1, FA_UNDERSCORES_KEEP = 2 };

#endif

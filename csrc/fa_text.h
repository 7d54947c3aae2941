/* Text of HTTP messages, byte by byte: no Python, no allocation, no state.
 *
 * Every function takes a pointer and a length and never reads past it. */
#ifndef FA_TEXT_H
#define FA_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define FA_DATE_SIZE 29 /* bytes of an IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT" */

/* True when the n bytes are a token (RFC 9110 section 5.6.2): at least one, all tchar. */
int fa_is_token(const char *p, size_t n);

/* True when the n bytes may stand in a field value (RFC 9110 section 5.5): HTAB, SP, VCHAR, obs-text. */
int fa_is_field_value(const char *p, size_t n);

/* Copies n bytes, ASCII letters in lower case. The areas must not overlap. */
void fa_lower(char *dst, const char *src, size_t n);

/* True when the n bytes equal the lower-case token `lower`, letters in any case. */
int fa_equals_lower(const char *p, const char *lower, size_t n);

/* Hash of a length and the first and last eight bytes, seeded: for bounded caches that compare what they find. */
uint32_t fa_sample_hash(const char *p, size_t n, uint32_t seed);

/* True when the bytes can be uri-host [ ":" port ] (RFC 9110 section 7.2); empty is allowed. */
int fa_is_host(const char *p, size_t n);

typedef struct {
    size_t path_len; /* bytes before the first '?', or all */
    int has_escape;  /* a '%' stands in the path */
    int is_valid;    /* only 0x21-0x7e, no '#' */
} fa_target;

/* Looks a request target over once (RFC 9112 section 3.2): where its path ends and whether it is legal. */
fa_target fa_scan_target(const char *p, size_t n);

/* Percent-decodes n bytes into dst (room for n); "%zz" is kept as it stands. Returns the bytes written. */
size_t fa_percent_decode(char *dst, const char *src, size_t n);

/* Writes the 29 bytes of an IMF-fixdate (RFC 9110 section 5.6.7) for a Unix time >= 0. */
void fa_date(char *dst, int64_t unix_s);

/* Writes n in lower-case hexadecimal; returns the digits written (at most 16). */
size_t fa_hex(char *dst, uint64_t n);

/* Writes n in decimal; returns the digits written (at most 20). */
size_t fa_decimal(char *dst, uint64_t n);

/* Reads a decimal number of only digits; returns 0, or -1 when there are none, other bytes, or it passes UINT64_MAX. */
int fa_parse_decimal(const char *p, size_t n, uint64_t *value);

#endif

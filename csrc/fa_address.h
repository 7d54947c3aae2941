/* Internet addresses as text and as bytes, and sets of them: no Python, no allocation, no state.
 *
 * An address is always 16 bytes. IPv4 stands there as ::ffff:a.b.c.d, so that the two names that a dual-stack socket
 * has for one client are one address here. */
#ifndef FA_ADDRESS_H
#define FA_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#define FA_ADDRESS_SIZE 16
#define FA_ADDRESS_TEXT 40 /* room for the longest text: eight groups of four digits, seven colons */

/* Reads an address: 4 or 6 for the family it was written in, 0 when it is none. Strict: no leading zeros in IPv4 (some
 * readers take them for octal), no zone, nothing around it. */
int fa_parse_address(const char *p, size_t n, uint8_t address[FA_ADDRESS_SIZE]);

/* Writes the one text of an address (RFC 5952; IPv4 with dots); returns its length, at most FA_ADDRESS_TEXT. */
size_t fa_format_address(char *dst, const uint8_t address[FA_ADDRESS_SIZE]);

typedef struct {
    uint8_t address[FA_ADDRESS_SIZE];
    uint8_t bits; /* of the address that count, 0-128; those of an IPv4 network begin behind 96 others */
} fa_network;

/* True when one of the networks holds the address. An IPv6 network such as ::/0 holds no IPv4 address. */
int fa_is_within(const uint8_t address[FA_ADDRESS_SIZE], const fa_network *networks, size_t n);

#endif

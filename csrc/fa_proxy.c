#include "fa_proxy.h"

#include <string.h>

#include "fa_text.h"

enum { MAX_LINE = 107, FIXED = 16, TLV_CRC32C = 0x03 };

static const char signature[12] = {'\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

static fa_proxy_header bad(const char *fault) {
    fa_proxy_header header = {.kind = FA_PROXY_BAD, .fault = fault};
    return header;
}

static fa_proxy_header more(void) {
    fa_proxy_header header = {.kind = FA_PROXY_MORE};
    return header;
}

/* --- version 1: one line of text --------------------------------------------------------------------------------- */

/* The next word of a line, which one space ends; 0 when there is none. */
static size_t word(const char **p, const char *end, const char **found) {
    const char *at = *p;
    while (at < end && *at != ' ') at++;
    *found = *p;
    size_t n = (size_t)(at - *p);
    *p = at < end ? at + 1 : at;
    return n;
}

static int read_port(const char *p, size_t n, uint16_t *port) {
    uint64_t value;
    if (n > 5 || (n > 1 && p[0] == '0') || fa_parse_decimal(p, n, &value) < 0 || value > 65535) return 0;
    *port = (uint16_t)value;
    return 1;
}

/* "TCP4 192.0.2.1 192.0.2.2 50000 443", without its line end */
static int read_line(const char *p, const char *end, fa_proxy_header *header) {
    const char *family, *source, *destination, *from, *to;
    size_t family_n = word(&p, end, &family);
    if (family_n == 7 && memcmp(family, "UNKNOWN", 7) == 0) {
        header->kind = FA_PROXY_UNKNOWN; /* "the receiver must ignore anything presented before the CRLF" */
        return 1;
    }
    if (family_n != 4 || memcmp(family, "TCP", 3) != 0) return 0;
    size_t source_n = word(&p, end, &source), destination_n = word(&p, end, &destination);
    size_t from_n = word(&p, end, &from), to_n = (size_t)(end - p);
    to = p;
    if (fa_parse_address(source, source_n, header->source) != family[3] - '0') return 0;
    if (fa_parse_address(destination, destination_n, header->destination) != family[3] - '0') return 0;
    header->kind = FA_PROXY_ADDRESSES;
    return read_port(from, from_n, &header->source_port) && read_port(to, to_n, &header->destination_port);
}

static fa_proxy_header read_version_1(const char *p, size_t n) {
    fa_proxy_header header = {.kind = FA_PROXY_BAD};
    size_t seen = n < MAX_LINE ? n : MAX_LINE;
    const char *end = memchr(p, '\r', seen);
    if (memchr(p, '\n', end == NULL ? seen : (size_t)(end - p)) != NULL) return bad("a line that ends in CRLF");
    if (end == NULL || (end == p + MAX_LINE - 1))
        return seen < MAX_LINE ? more() : bad("a line of at most 107 bytes");
    if (end == p + n - 1) return more();
    if (end[1] != '\n') return bad("a line that ends in CRLF");
    if (!read_line(p + 6, end, &header))
        return bad("TCP4 or TCP6, two addresses of that family and two ports, with one space between them");
    header.size = (size_t)(end - p) + 2;
    return header;
}

/* --- version 2: binary ------------------------------------------------------------------------------------------- */

static unsigned big16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

/* CRC-32C (Castagnoli), four bits at a time. */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n) {
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

/* Looks over what follows the addresses; everything but a checksum is skipped. Returns what was expected, or NULL. */
static const char *check_extras(const uint8_t *header, size_t size, size_t at) {
    static const uint8_t zeros[4] = {0};
    while (at < size) {
        if (size - at < 3 || size - at - 3 < big16(header + at + 1)) return "TLVs that end with the header";
        size_t value = at + 3, n = big16(header + at + 1);
        if (header[at] == TLV_CRC32C) {
            if (n != 4) return "a checksum of four bytes";
            uint32_t crc = crc32c(0xffffffff, header, value);
            crc = crc32c(crc, zeros, 4);
            crc = ~crc32c(crc, header + value + 4, size - value - 4);
            if (crc != ((uint32_t)big16(header + value) << 16 | big16(header + value + 2))) return "the right checksum";
        }
        at = value + n;
    }
    return NULL;
}

static void read_addresses(const uint8_t *at, size_t address_n, fa_proxy_header *header) {
    if (address_n == 4) {
        header->source[10] = header->source[11] = header->destination[10] = header->destination[11] = 0xff;
        memcpy(header->source + 12, at, 4);
        memcpy(header->destination + 12, at + 4, 4);
    } else {
        memcpy(header->source, at, 16);
        memcpy(header->destination, at + 16, 16);
    }
    header->source_port = (uint16_t)big16(at + 2 * address_n);
    header->destination_port = (uint16_t)big16(at + 2 * address_n + 2);
    header->kind = FA_PROXY_ADDRESSES;
}

static fa_proxy_header read_version_2(const char *p, size_t n) {
    static const size_t address_sizes[4] = {0, 12, 36, 2 * FA_PROXY_PATH}; /* unspecified, IPv4, IPv6, Unix */
    const uint8_t *bytes = (const uint8_t *)p;
    fa_proxy_header header = {.kind = FA_PROXY_UNKNOWN};
    if (n > 12 && bytes[12] != 0x20 && bytes[12] != 0x21) return bad("version 2 and the command LOCAL or PROXY");
    if (n > 13 && (bytes[13] >> 4 > 3 || (bytes[13] & 15) > 2)) return bad("a known family and protocol");
    if (n < FIXED) return more();
    size_t family = bytes[13] >> 4, address_size = address_sizes[family];
    header.size = FIXED + (size_t)big16(bytes + 14);
    if (header.size > FA_PROXY_MAX) return bad("a header of at most 4096 bytes");
    if (bytes[12] == 0x21 && header.size < FIXED + address_size) return bad("room for the addresses of the family");
    if (n < header.size) return more();
    if (bytes[12] == 0x20) {
        header.kind = FA_PROXY_LOCAL; /* "the receiver ... must discard the protocol block including the family" */
        return header;
    }
    const char *fault = family ? check_extras(bytes, header.size, FIXED + address_size) : NULL;
    if (fault != NULL) return bad(fault);
    if (family == 3) {
        header.kind = FA_PROXY_PATHS;
        header.source_path = p + FIXED;
        header.destination_path = p + FIXED + FA_PROXY_PATH;
    } else if (family) {
        read_addresses(bytes + FIXED, family == 1 ? 4 : 16, &header);
    }
    return header;
}

fa_proxy_header fa_read_proxy_header(const char *p, size_t n) {
    if (n == 0) return more();
    if (p[0] == 'P') {
        if (memcmp(p, "PROXY ", n < 6 ? n : 6) != 0) return bad("'PROXY ', or the signature of version 2");
        return n <= 6 ? more() : read_version_1(p, n);
    }
    if (memcmp(p, signature, n < sizeof(signature) ? n : sizeof(signature)) != 0)
        return bad("'PROXY ', or the signature of version 2");
    return n <= sizeof(signature) ? more() : read_version_2(p, n);
}

#include "fa_address.h"

#include <string.h>

#include "fa_text.h"

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* a.b.c.d into four bytes; 0 when it is something else. */
static int parse_ipv4(const char *p, size_t n, uint8_t *out) {
    size_t i = 0;
    for (int octet = 0; octet < 4; octet++) {
        size_t first = i;
        unsigned value = 0;
        for (; i < n && (uint8_t)(p[i] - '0') <= 9 && i - first < 3; i++) value = value * 10 + (unsigned)(p[i] - '0');
        if (i == first || value > 255 || (p[first] == '0' && i - first > 1)) return 0;
        out[octet] = (uint8_t)value;
        if (octet < 3 && (i == n || p[i++] != '.')) return 0;
    }
    return i == n;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 4291 section 2.2: groups of hexadecimal digits, one "::" for groups of zeros, perhaps IPv4 at the end. */
static int parse_ipv6(const char *p, size_t n, uint8_t *out) {
    uint8_t bytes[FA_ADDRESS_SIZE] = {0};
    size_t i = 0, used = 0, gap = FA_ADDRESS_SIZE + 1;
    if (n >= 2 && p[0] == ':' && p[1] == ':') {
        gap = 0;
        i = 2;
    }
    while (i < n) {
        size_t first = i;
        unsigned value = 0;
        int digit;
        for (; i < n && i - first < 4 && (digit = hex_digit(p[i])) >= 0; i++) value = value << 4 | (unsigned)digit;
        if (i < n && p[i] == '.') {
            if (used > 12 || !parse_ipv4(p + first, n - first, bytes + used)) return 0;
            used += 4;
            break;
        }
        if (i == first || used == FA_ADDRESS_SIZE) return 0;
        bytes[used++] = (uint8_t)(value >> 8);
        bytes[used++] = (uint8_t)value;
        if (i == n) break;
        if (p[i++] != ':' || i == n) return 0; /* a colon must be followed by something ... */
        if (p[i] == ':') {                     /* ... which may be a second one, once */
            if (gap <= FA_ADDRESS_SIZE) return 0;
            gap = used;
            i++;
        }
    }
    if (gap > FA_ADDRESS_SIZE) {
        if (used != FA_ADDRESS_SIZE) return 0;
        gap = used;
    } else if (used == FA_ADDRESS_SIZE) {
        return 0; /* "::" stands for at least one group */
    }
    memset(out, 0, FA_ADDRESS_SIZE);
    memcpy(out, bytes, gap);
    memcpy(out + FA_ADDRESS_SIZE - (used - gap), bytes + gap, used - gap);
    return 1;
}

int fa_parse_address(const char *p, size_t n, uint8_t address[FA_ADDRESS_SIZE]) {
    if (n < 2 || n > 45) return 0;
    if (memchr(p, ':', n) != NULL) return parse_ipv6(p, n, address) ? 6 : 0;
    if (!parse_ipv4(p, n, address + 12)) return 0;
    memcpy(address, mapped, sizeof(mapped));
    return 4;
}

/* Where the longest run of at least two groups of zeros begins, and its length (RFC 5952 section 4.2). */
static int longest_zeros(const uint8_t *address, int *length) {
    int best = -1;
    *length = 1;
    for (int i = 0; i < 8;) {
        int first = i;
        while (i < 8 && address[2 * i] == 0 && address[2 * i + 1] == 0) i++;
        if (i - first > *length) {
            best = first;
            *length = i - first;
        }
        if (i == first) i++;
    }
    return best;
}

size_t fa_format_address(char *dst, const uint8_t address[FA_ADDRESS_SIZE]) {
    size_t n = 0;
    if (memcmp(address, mapped, sizeof(mapped)) == 0) {
        for (int i = 12; i < 16; i++) {
            if (i > 12) dst[n++] = '.';
            n += fa_decimal(dst + n, address[i]);
        }
        return n;
    }
    int length, zeros = longest_zeros(address, &length);
    for (int i = 0; i < 8; i++) {
        if (i == zeros) {
            dst[n++] = ':';
            if (i == 0) dst[n++] = ':';
            i += length - 1;
            continue;
        }
        n += fa_hex(dst + n, (uint64_t)address[2 * i] << 8 | address[2 * i + 1]);
        if (i < 7) dst[n++] = ':';
    }
    return n;
}

int fa_is_within(const uint8_t address[FA_ADDRESS_SIZE], const fa_network *networks, size_t n) {
    int is_ipv4 = memcmp(address, mapped, sizeof(mapped)) == 0;
    for (size_t i = 0; i < n; i++) {
        unsigned whole = networks[i].bits / 8u, rest = networks[i].bits % 8u;
        if (is_ipv4 && networks[i].bits < 96) continue;
        if (memcmp(address, networks[i].address, whole) != 0) continue;
        if (rest == 0 || (address[whole] ^ networks[i].address[whole]) >> (8 - rest) == 0) return 1;
    }
    return 0;
}

#include "fa_websocket.h"

#include <string.h>

static uint64_t big_endian(const uint8_t *p, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; i++) value = value << 8 | p[i];
    return value;
}

static int fault_of_first(uint8_t first) {
    int opcode = first & 0xF;
    if (first & 0x30 || (first & FA_WS_RSV1 && (opcode & 0x8 || opcode == FA_WS_CONTINUATION))) return FA_WS_BAD_RSV;
    if (opcode > FA_WS_PONG || (opcode > FA_WS_BINARY && opcode < FA_WS_CLOSE)) return FA_WS_BAD_OPCODE;
    if (opcode & 0x8 && !(first & FA_WS_FIN)) return FA_WS_CUT_CONTROL;
    return 0;
}

int fa_ws_read_header(const uint8_t *p, size_t n, fa_ws_header *header) {
    int fault, size, wide;
    if (n == 0) return 0;
    if ((fault = fault_of_first(p[0]))) return -fault;
    if (n < 2) return 0;
    if (!(p[1] & 0x80)) return -FA_WS_NO_MASK;
    header->first = p[0];
    header->length = p[1] & 0x7F;
    if (p[0] & 0x8 && header->length > FA_WS_MAX_CONTROL) return -FA_WS_BIG_CONTROL;
    wide = header->length == 126 ? 2 : header->length == 127 ? 8 : 0;
    size = 2 + wide;
    if (n < (size_t)size) return 0;
    if (wide) {
        /* "The minimal number of bytes MUST be used to encode the length", and "the most significant bit MUST be 0"
         * (section 5.2). */
        header->length = big_endian(p + 2, wide);
        if (header->length < (wide == 2 ? 126u : 0x10000u) || header->length >> 63) return -FA_WS_BAD_LENGTH;
    }
    if (n < (size_t)size + 4) return 0;
    memcpy(header->key, p + size, 4);
    return size + 4;
}

size_t fa_ws_write_header(char *out, uint8_t first, uint64_t length) {
    uint8_t *p = (uint8_t *)out;
    int wide = length < 126 ? 0 : length < 0x10000 ? 2 : 8;
    p[0] = first;
    p[1] = wide == 0 ? (uint8_t)length : wide == 2 ? 126 : 127;
    for (int i = 0; i < wide; i++) p[2 + i] = (uint8_t)(length >> (8 * (wide - 1 - i)));
    return 2 + (size_t)wide;
}

uint64_t fa_ws_unmask(char *restrict out, const char *restrict in, size_t n, const uint8_t key[4], uint64_t offset) {
    uint8_t repeated[8];
    uint64_t mask, word, seen = 0;
    size_t i = 0;
    for (size_t k = 0; k < 8; k++) repeated[k] = key[(offset + k) & 3];
    memcpy(&mask, repeated, 8);
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, in + i, 8);
        word ^= mask;
        seen |= word;
        memcpy(out + i, &word, 8);
    }
    for (; i < n; i++) {
        out[i] = (char)(in[i] ^ repeated[i & 7]);
        seen |= (uint8_t)out[i];
    }
    return seen;
}

/* States of a text in UTF-8: between characters; impossible; one, two or three more bytes of 80-BF wanted; and the
 * second byte of a character that begins with E0, ED, F0 or F4, whose range is narrower (RFC 3629 section 4). */
enum { BETWEEN, BAD, ONE, TWO, THREE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4 };

static uint32_t utf8_lead(uint8_t c) {
    if (c < 0x80) return BETWEEN;
    if (c < 0xC2 || c > 0xF4) return BAD;
    if (c < 0xE0) return ONE;
    if (c < 0xF0) return c == 0xE0 ? AFTER_E0 : c == 0xED ? AFTER_ED : TWO;
    return c == 0xF0 ? AFTER_F0 : c == 0xF4 ? AFTER_F4 : THREE;
}

static uint32_t utf8_follow(uint32_t state, uint8_t c) {
    static const uint8_t low[] = {0, 0, 0x80, 0x80, 0x80, 0xA0, 0x80, 0x90, 0x80};
    static const uint8_t high[] = {0, 0, 0xBF, 0xBF, 0xBF, 0xBF, 0x9F, 0xBF, 0x8F};
    static const uint8_t next[] = {0, 0, BETWEEN, ONE, TWO, ONE, ONE, TWO, TWO};
    return c >= low[state] && c <= high[state] ? next[state] : BAD;
}

uint32_t fa_utf8_step(uint32_t state, const char *p, size_t n) {
    size_t i = 0;
    uint64_t word;
    while (i < n && state != BAD) {
        if (state != BETWEEN) {
            state = utf8_follow(state, (uint8_t)p[i++]);
            continue;
        }
        for (; i + 8 <= n; i += 8) {
            memcpy(&word, p + i, 8);
            if (word & FA_WS_NOT_ASCII) break;
        }
        while (i < n && (state = utf8_lead((uint8_t)p[i++])) == BETWEEN) {
            if (i + 8 > n) continue;
            memcpy(&word, p + i, 8);
            if (!(word & FA_WS_NOT_ASCII)) break; /* plain text again */
        }
    }
    return state;
}

int fa_ws_is_close_code(uint32_t code) {
    if (code >= 3000) return code < 5000;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}
